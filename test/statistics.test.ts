import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  type Alert,
  changeOf,
  claimNews,
  createInitialJobExecutions,
  type Execution,
  type JobExecutions,
  noteTold,
  type PipelineJob,
  type TrackedJob,
  updateStatistics,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  listingOf,
  MINUTE,
  makeWorld,
  memoryStore,
  NOW,
  notRun,
  openAlert,
  passed,
  runOf,
  settings,
  taskOf,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { formatDocument } from "./support/scenarios.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const later = (ms: number) => new Date(NOW.getTime() + ms);
const commitOf = (pipeline: number) => `c0ffee${pipeline}`;

/** A window in words: `F1 ·2` failed in pipeline 1 and passed in 2; without a number, it is the original's. */
function windowOf(words: string): Execution[] {
  return words
    .split(" ")
    .filter(Boolean)
    .map((word) => {
      const [, mark, number] = /^([F·])(\d*)$/.exec(word) ?? assert.fail(`Not an execution: ${word}`);
      const place = number ? { commit: commitOf(Number(number)), pipeline: Number(number) } : { commit: null };
      return mark === "F" ? { id: Number(number), failing: true, ...place } : { id: null, failing: false, ...place };
    });
}

const wordsOf = (job: TrackedJob | undefined) =>
  job?.jobs_info.map(({ failing, pipeline }) => `${failing ? "F" : "·"}${pipeline ?? ""}`).join(" ");

function trackedJob(words: string, rest: Partial<TrackedJob> = {}): TrackedJob {
  const consecutive_failures = words.split(" ").length - words.split(" ").findLastIndex((word) => word[0] === "·") - 1;
  return { consecutive_failures, jobs_info: windowOf(words), last_day: 7, ...rest };
}

/** A document whose latest pipeline has this id, and in which a job `a` has this window. */
const documentWith = (words: string, pipeline_id: number, rest: Partial<TrackedJob> = {}): JobExecutions => ({
  ...documentOf(...(words ? [["a", trackedJob(words, rest)] as [string, TrackedJob]] : [])),
  pipeline_id,
});

/** What a pipeline makes of a document. */
function count(document: JobExecutions, id: number, ran: PipelineJob[], variables: Variables = {}, now = NOW) {
  const { pipeline, limits } = settings({
    CI_PIPELINE_ID: `${id}`,
    CI_COMMIT_SHA: commitOf(id),
    CI_COMMIT_MESSAGE: `Title ${id}\n\nMore of it`,
    ...variables,
  });
  return updateStatistics(document, listingOf(ran), { pipeline, limits, now });
}

const countJob = (...args: Parameters<typeof count>) => count(...args).document.jobs.get("a");

const WORDS = { consecutive: "broken", cumulative: "often", recovered: "recovered", gone: "gone" };

/** A word of a story: what happened to the job `a` in a pipeline, and `!` where the chat is away, `†` where the run dies. */
const WORD = /^(late|again)?([F·n])(\d+)([!†]?)$/;

/** A store that takes one upload of a run. */
function dyingAfterOneUpload({ store }: ReturnType<typeof memoryStore>) {
  let uploads = 0;
  const write: typeof store.write = async (...args) => {
    if (uploads++ > 0) throw new Error("The run has died");
    return store.write(...args);
  };
  return { ...store, write };
}

/**
 * Plays a story through checkConsistentFailures: `F1 ·2 n3 late·1` fails in pipeline 1, passes in 2, does not run in 3,
 * and then pipeline 1 passes after all. `late` and `again` are for the reader. Each run is an hour after the one before;
 * another job passes in each. `told` has what each channel heard: `3 broken`.
 */
async function play(
  story: string,
  { variables = {}, rules = {}, step = HOUR, before = documentWith("", 0) }: Play = {},
) {
  const memory = memoryStore(textOf(before));
  const told: string[] = [];
  const texts: string[] = [];
  for (const [i, word] of story.split(" ").entries()) {
    const [, , mark, pipeline, fate] = WORD.exec(word) ?? assert.fail(`Not a word of a story: ${word}`);
    const a = { F: failed("a"), "·": passed("a"), n: notRun("a") }[`${mark}`] ?? assert.fail();
    const { sender } = makeWorld().world;
    const away = async () => {
      throw new Error("The chat is away");
    };
    const { sent } = await runOf(
      [a, passed("other")],
      {
        CI_PIPELINE_ID: pipeline,
        CI_COMMIT_SHA: commitOf(Number(pipeline)),
        CI_COMMIT_MESSAGE: `Title ${pipeline}`,
        ...variables,
        JOB_RULES: rules[word],
      },
      {
        store: fate === "†" ? dyingAfterOneUpload(memory) : memory.store,
        now: later(i * step),
        ...(fate === "!" ? { sender: { ...sender, send: away } } : {}),
      },
    );
    for (const { channel, message, text } of sent) {
      const place = channel === "#ci" ? "" : ` to ${channel}`;
      told.push(...message.news.map(({ alert }) => `${pipeline} ${WORDS[alert.kind]}${place}`));
      texts.push(text);
    }
  }
  const stored = `${memory.stored.text}`;
  const document = await parseDocument(stored);
  return { told: told.join(", "), texts, stored, document, job: document.jobs.get("a") };
}
type Play = { variables?: Variables; rules?: Record<string, string>; step?: number; before?: JobExecutions };

/** The story of a job that fails (F), passes (·) or does not run (-) in pipelines 1, 2, 3 and so on. */
const storyOf = (strip: string) => [...strip.replaceAll("-", "n")].map((mark, i) => `${mark}${i + 1}`).join(" ");

describe("changeOf(), with thresholds of 3 in a row and 5 in the window,", () => {
  const none: Partial<TrackedJob> = {};
  const broken = { alert: openAlert("consecutive") };
  const flaky = { alert: openAlert("consecutive", { flaky: true }) };
  const often = { alert: openAlert("cumulative") };
  /** Of a job whose last executions, as many as this, came after the pipeline that closed its alert. */
  const closedBefore = (executions: number) => ({
    alert: openAlert("recovered", { pipeline_id: 1004 - executions }),
  });
  const after = (executions: number, { alert }: { alert: Alert }) => ({
    alert: { ...alert, after: 1004 - executions },
  });
  type Case = [when: string, strip: string, before: Partial<TrackedJob>, change: ReturnType<typeof changeOf>];

  const TABLE: Record<string, Case[]> = {
    "without an open alert": [
      ["failed 2 times in a row", "·✗✗", none, undefined],
      ["failed 3 times in a row", "·✗✗✗", none, "consecutive"],
      ["failed more often in a row than its threshold, which was lowered", "·✗✗✗✗✗", none, "consecutive"],
      ["failed for longer than its window", "✗✗", { consecutive_failures: 40 }, "consecutive"],
      ["failed 4 times in its window", "✗·✗·✗·✗", none, undefined],
      ["failed last, and 5 times in its window", "✗·✗·✗·✗·✗", none, "cumulative"],
      ["failed last, and more than 5 times in its window", "✗✗·✗✗·✗✗", none, "cumulative"],
      ["failed as often as both thresholds say", "✗·✗·✗✗✗", none, "consecutive"],
      ["passed last, with 5 failures in its window", "✗✗·✗✗·✗·", none, undefined],
      ["failed 3 times in a row, of which 2 since its alert closed", "·✗✗✗", closedBefore(1), undefined],
      ["failed 3 times in a row since its last alert closed", "✗✗✗···✗✗✗", closedBefore(3), "consecutive"],
      ["failed 5 times, not all since its last alert closed", "✗✗✗···✗·✗", closedBefore(3), undefined],
      ["failed 5 times since its last alert closed", "··✗✗·✗✗·✗", closedBefore(8), "cumulative"],
      ["failed in a re-run of the pipeline that closed its alert", "✗✗✗··✗✗✗", closedBefore(2), "consecutive"],
      ["passed in the pipeline that closed its alert, and failed since", "✗✗✗···✗✗", closedBefore(2), undefined],
    ],
    "that fails often": [
      ["failed 3 times in a row", "✗·✗·✗✗✗", often, undefined],
      ["failed 5 times in a row", "✗·✗✗✗✗✗", often, undefined],
      ["failed 6 times in a row", "✗·✗✗✗✗✗✗", often, "consecutive"],
      ["failed 6 times, but not in a row", "✗✗✗·✗✗✗", often, undefined],
      ["failed 6 times in a row, of which 5 since its alert before", "✗✗✗✗✗✗", after(4, often), undefined],
      ["passed 3 times in a row between failures far apart", "✗·✗·✗···", often, undefined],
      ["passed 3 times in a row, after one streak", "·✗✗···", often, "recovered"],
      ["passed in its whole window", "··········", often, "recovered"],
    ],
    "that is broken": [
      ["fails on", "✗✗✗✗✗✗✗✗", broken, undefined],
      ["passed 2 times in a row", "✗✗✗··", broken, undefined],
      ["passed 3 times in a row, after one streak", "✗✗✗···", broken, "recovered"],
      ["passed 3 times in a row, after one streak that is not all of its window", "··✗✗✗···", broken, "recovered"],
      ["passed more often in a row than its threshold, which was lowered", "✗✗✗·····", broken, "recovered"],
      ["passed in its whole window", "··········", broken, "recovered"],
      ["passed 3 times in a row, after two streaks", "✗·✗✗✗···", broken, "flaky"],
      [
        "passed 3 times in a row, after a streak that belongs to its alert before",
        "✗✗·✗✗✗···",
        after(6, broken),
        "recovered",
      ],
      ["passed 3 times in a row, and failed again", "✗✗✗···✗", broken, undefined],
    ],
    "that is broken and flaky": [
      ["failed 5 times in a row", "✗···✗✗✗✗✗", flaky, undefined],
      ["failed 6 times in a row", "···✗✗✗✗✗✗", flaky, "consecutive"],
      ["passed 3 times in a row, after two streaks", "✗·✗✗···", flaky, undefined],
      ["passed 3 times in a row, after one streak", "·✗✗···", flaky, "recovered"],
    ],
  };
  for (const [which, cases] of Object.entries(TABLE)) {
    for (const [when, strip, before, change] of cases) {
      test(`makes a job ${which} ${change ?? "stay as it is"} when it ${when}: ${strip}`, () => {
        assert.equal(changeOf(history(strip, before), { inARow: 3, often: 5 }), change);
      });
    }
  }

  test("goes by the thresholds that it is given", () => {
    const changes = (inARow: number, often: number, before: Partial<TrackedJob>, ...strips: string[]) =>
      strips.map((strip) => changeOf(history(strip, before), { inARow, often }));
    assert.deepEqual(changes(1, 1, none, "·✗"), ["consecutive"]);
    assert.deepEqual(changes(2, 4, none, "·✗", "·✗✗"), [undefined, "consecutive"]);
    assert.deepEqual(changes(4, 3, none, "✗·✗", "✗·✗·✗"), [undefined, "cumulative"]);
    assert.deepEqual(changes(2, 4, often, "·✗✗✗", "·✗✗✗✗"), [undefined, "consecutive"]);
    assert.deepEqual(changes(2, 4, broken, "✗✗·", "✗✗··"), [undefined, "recovered"]);
    assert.deepEqual(changes(2, 4, flaky, "··✗✗✗", "··✗✗✗✗"), [undefined, "consecutive"]);
  });
});

describe("checkConsistentFailures() tells over time", () => {
  const STORIES: [of: string, strip: string, told: string, variables?: Variables][] = [
    ["a clean job, at its third failure and its third pass", "·FFF···", "4 broken, 7 recovered"],
    ["each time that a job breaks and is mended", "FFF···FFF···", "3 broken, 6 recovered, 9 broken, 12 recovered"],
    ["nothing of red runs after a recovery", "FFF···F·F", "3 broken, 6 recovered"],
    ["what failed often since a recovery", "FFF···F·F·F·F·F", "3 broken, 6 recovered, 15 often"],
    ["a job that fails every second run, once", "F·".repeat(30), "9 often"],
    ["such a job once in a window of thirty", "F·".repeat(30), "9 often", { CUMULATIVE_LENGTH: "30" }],
    ["no recovery of a job that only failed often", `F·F·F·F·F${"·".repeat(12)}`, "9 often"],
    ["nothing more of a job that only looks mended", "FFF·F···F·FF", "3 broken"],
    ["such a job again, once, at its sixth failure in a row", "FFF·F···FFFFFFFF", "3 broken, 14 broken"],
    ["its recovery then", "FFF·F···FFFFFF···", "3 broken, 14 broken, 17 recovered"],
    ["a flaky job at its sixth failure in a row", "F·F·F·F·F·FFFFFF···", "9 often, 16 broken, 19 recovered"],
    ["nothing of runs without the job", "F-F--F-·-·-·", "6 broken, 12 recovered"],
  ];
  for (const [of, strip, told, variables] of STORIES) {
    test(`${of}: ${strip.slice(0, 24)}`, async () => {
      assert.equal((await play(storyOf(strip), variables && { variables })).told, told);
    });
  }

  test("a lowered threshold at once, also where the job does not run", async () => {
    const { document, told } = await play("F1 F2 F3 F4", { variables: { CONSECUTIVE_THRESHOLD: "6" } });
    assert.equal(told, "");
    assert.equal((await play("n5", { before: document })).told, "5 broken");
  });

  test("a job again whose alert was taken out of the document", async () => {
    const { document } = await play("F1 F2 F3");
    const { alert: _, ...job } = document.jobs.get("a") ?? trackedJob("");
    const before = { ...document, jobs: new Map([["a", job]]) };
    assert.equal((await play("F4", { before })).told, "4 broken");
  });

  test("what was true when an alert last changed", async () => {
    const { job } = await play("F1 ·2 F3 ·4 F5 ·6 F7 ·8 F9 ·10 F11 F12 F13 F14 F15 F16 F17");
    const { at, changed_at, pipeline_id, kind, times, turned } = job?.alert ?? {};
    assert.deepEqual(
      [kind, pipeline_id, at, changed_at],
      ["consecutive", 16, ...[8, 15].map((i) => later(i * HOUR).toISOString())],
    );
    assert.deepEqual([times, turned], [6, { commit: commitOf(11), title: "Title 11", from: commitOf(10) }]);
  });
});

describe("updateStatistics() files", () => {
  const CASES: [what: string, window: string, latest: number, word: string, filed: string][] = [
    ["a failure at the end", "·1 F2", 2, "F3", "·1 F2 F3"],
    ["a pass at the end", "·1 F2", 2, "·3", "·1 F2 ·3"],
    ["what is counted again instead of what it had added", "·1 F2 F3", 3, "·3", "·1 F2 ·3"],
    ["a job that failed again in its place", "·1 F2 F3", 3, "F3", "·1 F2 F3"],
    ["a job that ran only in the re-run at the end", "F1 F2", 3, "F3", "F1 F2 F3"],
    ["a re-run of an older pipeline at its place", "F1 F2 F3", 3, "·2", "F1 ·2 F3"],
    ["a re-run of the oldest one at its place", "F1 F3", 4, "·1", "·1 F3"],
    ["a late pass where it belongs", "F1 F3 F4", 4, "·2", "F1 ·2 F3 F4"],
    ["a late failure where it belongs", "·1 F3", 3, "F2", "·1 F2 F3"],
    ["a late one at the end, where the job did not run in the latest", "F1 F2", 9, "·5", "F1 F2 ·5"],
    ["nothing that is older than all of the window", "F3 F4", 4, "·2", "F3 F4"],
    ["a late one behind what the original counted", "F · F4", 4, "·3", "F · ·3 F4"],
    ["a re-run of the original's last pipeline instead of that", "F · F4", 4, "·4", "F · ·4"],
    ["a re-run that failed behind the pass in front, which was of that commit", "·2 F3", 3, "F2", "·2 F2 F3"],
  ];
  for (const [what, window, latest, word, filed] of CASES) {
    test(`${what}: ${window}, then ${word}`, () => {
      const [mark, id] = [word[0], Number(word.slice(1))];
      const ran = mark === "F" ? failed("a", { id }) : passed("a", { id });
      assert.equal(wordsOf(countJob(documentWith(window, latest), id, [ran])), filed);
    });
  }

  test("a failure with its id, and either with its commit and its pipeline", () => {
    const before = documentWith("F1", 1);
    const [failure, pass] = [failed("a", { id: 200 }), passed("a")].map((ran) => countJob(before, 2, [ran]));
    const own = { commit: commitOf(2), pipeline: 2 };
    assert.deepEqual(failure?.jobs_info.at(-1), { id: 200, failing: true, ...own, title: undefined });
    assert.deepEqual(pass?.jobs_info.at(-1), { id: null, failing: false, ...own, title: "Title 2" });
  });

  test("nothing of a job that did not run", () => {
    const { jobs, passed: passes } = count(documentWith("F1 F2", 2), 3, [
      notRun("a"),
      notRun("b"),
      passed("c"),
    ]).document;
    assert.deepEqual([[...jobs.keys(), ...passes.keys()], wordsOf(jobs.get("a"))], [["a", "c"], "F1 F2"]);
  });

  test("titles only where a job did otherwise than before, whatever comes between later", () => {
    const titlesOf = (job: TrackedJob | undefined) => job?.jobs_info.map(({ title }) => title);
    const first = count(documentWith("·1", 1), 3, [failed("a")]).document;
    const second = count(first, 4, [failed("a")]).document;
    const third = count(second, 5, [passed("a")]).document;
    assert.deepEqual(titlesOf(third.jobs.get("a")), [undefined, "Title 3", undefined, "Title 5"]);
    const late = count(third, 2, [failed("a")]).document;
    assert.deepEqual(titlesOf(late.jobs.get("a")), [undefined, "Title 2", undefined, undefined, "Title 5"]);
  });

  test("at most as many executions as the window is long", () => {
    const before = documentWith("F1 ·2 F3 ·4 F5 ·6 F7 ·8 F9 ·10", 10);
    assert.equal(wordsOf(countJob(before, 11, [failed("a")])), "·2 F3 ·4 F5 ·6 F7 ·8 F9 ·10 F11");
    assert.equal(wordsOf(countJob(before, 11, [failed("a")], { CUMULATIVE_LENGTH: "5" })), "F7 ·8 F9 ·10 F11");
    assert.equal(wordsOf(countJob(before, 11, [passed("b")], { CUMULATIVE_LENGTH: "5" })), "·6 F7 ·8 F9 ·10");
    assert.equal(
      wordsOf(countJob({ ...before, pipeline_id: 12 }, 11, [passed("a")])),
      "·2 F3 ·4 F5 ·6 F7 ·8 F9 ·10 ·11",
    );
  });

  test("as many executions as the largest threshold needs", () => {
    const before = documentWith("F1 ·2 F3 ·4", 4);
    const short = { CONSECUTIVE_THRESHOLD: "2", CUMULATIVE_THRESHOLD: "2", CUMULATIVE_LENGTH: "2" };
    const wordsWith = (variables: Variables) => wordsOf(countJob(before, 5, [failed("a")], { ...short, ...variables }));
    assert.equal(wordsWith({}), "·4 F5");
    assert.equal(wordsWith({ CONSECUTIVE_THRESHOLD: "4" }), "·2 F3 ·4 F5");
    assert.equal(wordsWith({ CUMULATIVE_THRESHOLD: "3" }), "F3 ·4 F5");
    assert.equal(wordsWith({ JOB_RULES: "a 4" }), "·2 F3 ·4 F5");
    assert.equal(wordsWith({ JOB_RULES: "a 1/5" }), "F1 ·2 F3 ·4 F5");
  });

  const COUNTERS: [what: string, window: string, counter: number, word: string, expected: number][] = [
    ["counts on where the window has forgotten the first of them", "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10", 40, "F11", 41],
    ["counts a pipeline once that is counted again", "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10", 40, "F10", 40],
    ["begins anew with a pass", "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10", 40, "·11", 0],
    ["begins behind a pass that comes late", "F1 F2 F3 F5 F6 F7 F8 F9 F10 F11", 40, "·4", 7],
    ["counts a failure that comes late", "F1 F2 F4", 3, "F3", 4],
    ["counts what was one streak once a pass in it has failed after all", "·1 F2 ·3 F4", 1, "F3", 3],
    ["counts as the original did that has seen more than it kept", "F F4", 7, "F5", 8],
  ];
  for (const [what, window, consecutive_failures, word, expected] of COUNTERS) {
    test(`failures in a row: ${what}: ${window}, then ${word}`, () => {
      const ran = word[0] === "F" ? failed("a") : passed("a");
      const latest = Number(window.split(" ").at(-1)?.slice(1));
      const job = countJob(documentWith(window, latest, { consecutive_failures }), Number(word.slice(1)), [ran]);
      assert.equal(job?.consecutive_failures, expected);
    });
  }

  test("nothing into what it is given", () => {
    const before = documentOf(
      ["fails often", history("✗·✗✗✗✗✗", { alert: openAlert("cumulative") })],
      ["fails", history("·✗✗✗✗✗✗✗✗✗")],
      ["recovers", history("✗··", { alert: openAlert() })],
      ["did not run", history("✗")],
      ["is not tracked any more", history("✗·········")],
    );
    before.passed.set("begins to fail", { commit: "c0ffee01", pipeline: 1, day: 7 });
    const ran = [failed("fails often"), failed("fails"), passed("recovers"), passed("is not tracked any more")];
    const text = textOf(before);
    ran.push(failed("begins to fail"), failed("is new"));
    const { document } = count(deepFreeze(before), 1005, deepFreeze(ran));
    assert.equal(textOf(before), text);
    assert.notEqual(textOf(document), text);
  });
});

/** Freezes a value and all that it holds; a Map, which can't be frozen, throws when it is changed. */
function deepFreeze<T>(value: T): T {
  if (value instanceof Map) {
    value.forEach(deepFreeze);
    const refuse = () => {
      throw new TypeError("This map must not be changed");
    };
    return Object.freeze(Object.assign(value, { set: refuse, delete: refuse, clear: refuse }));
  }
  if (typeof value !== "object" || value === null) return value;
  Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}

describe("updateStatistics() passed", () => {
  const withPass = (pipeline: number): JobExecutions => ({
    ...documentWith("", 10),
    passed: new Map([["a", { commit: commitOf(pipeline), pipeline, day: 7 }]]),
  });

  test("has where a job passed last that is not tracked", () => {
    const { jobs, passed: passes } = count(withPass(5), 11, [passed("a"), passed("b")]).document;
    const pass = { commit: commitOf(11), pipeline: 11, day: 7 };
    assert.deepEqual([jobs.size, Object.fromEntries(passes)], [0, { a: pass, b: pass }]);
  });

  test("keeps that of a job that did not run, or whose failure is ignored", () => {
    const before = withPass(5);
    for (const a of [failed("a", { reason: "stuck" }), notRun("a")]) {
      const { document } = count(before, 11, [a, passed("other")], { IGNORE_FAILURES: "stuck" });
      assert.deepEqual([document.passed.get("a"), document.jobs.size], [before.passed.get("a"), 0]);
    }
  });

  test("goes to the front of the window of a job that begins to fail", () => {
    const { document } = count(withPass(5), 11, [failed("a")]);
    assert.equal(wordsOf(document.jobs.get("a")), "·5 F11");
    assert.equal(document.passed.has("a"), false);
  });

  test("goes to the front also where it is of the same pipeline, before a re-run", () => {
    assert.equal(wordsOf(count(withPass(10), 10, [failed("a")]).document.jobs.get("a")), "·10 F10");
  });

  test("becomes a late pass that is newer, and no older one", () => {
    assert.equal(count(withPass(5), 7, [passed("a")]).document.passed.get("a")?.pipeline, 7);
    assert.equal(count(withPass(5), 3, [passed("a")]).document.passed.get("a")?.pipeline, 5);
  });

  test("hides a failure that is older, and not one that is newer", () => {
    assert.equal(wordsOf(count(withPass(5), 3, [failed("a")]).document.jobs.get("a")), undefined);
    assert.equal(wordsOf(count(withPass(5), 7, [failed("a")]).document.jobs.get("a")), "·5 F7");
  });

  test("gets a job in whose window no failure is left", () => {
    const short = { CUMULATIVE_LENGTH: "3", CUMULATIVE_THRESHOLD: "3" };
    const { document } = count(documentWith("F1 ·2 ·3", 3), 4, [passed("a")], short);
    assert.deepEqual([document.jobs.size, document.passed.get("a")], [0, { commit: commitOf(4), pipeline: 4, day: 7 }]);
  });

  test("gets such a job by where it passed last, where it did not run in this pipeline", () => {
    const { document } = count(documentWith("·2 ·3", 3, { last_day: 4 }), 5, [passed("other")]);
    assert.deepEqual([document.jobs.size, document.passed.get("a")], [0, { commit: commitOf(3), pipeline: 3, day: 4 }]);
  });

  test("does not get a job whose alert is open, or whose end somebody still must hear", () => {
    const open = openAlert("consecutive", { told: undefined });
    for (const alert of [open, openAlert("recovered", { changed_at: NOW.toISOString() })]) {
      const { document } = count(documentWith("·1 ·2", 2, { alert }), 3, [passed("a")], { CONSECUTIVE_THRESHOLD: "5" });
      assert.deepEqual([[...document.jobs.keys()], document.passed.size], [["a"], 0]);
    }
  });

  test("has no job that only passed in pipelines of the original, which kept no commit", () => {
    const { document } = count(documentWith("· ·", 2), 3, [passed("other")]);
    assert.deepEqual([document.jobs.size, [...document.passed.keys()]], [0, ["other"]]);
  });
});

describe("updateStatistics() of a late pipeline", () => {
  const before: JobExecutions = { ...documentWith("·1 F3 F4", 9), commit: commitOf(9), project: { name: "acme/shop" } };
  const lowered = { CONSECUTIVE_THRESHOLD: "1", CUMULATIVE_THRESHOLD: "1", CUMULATIVE_LENGTH: "2" };

  test("changes nothing but histories: not the latest pipeline, its commit, its time, the days or the project", () => {
    const { outcome, document } = count(before, 2, [failed("a")], { CI_PROJECT_PATH: "acme/old" }, later(3 * DAY));
    assert.equal(outcome, "late");
    assert.deepEqual({ ...document, jobs: before.jobs }, before);
    assert.equal(wordsOf(document.jobs.get("a")), "·1 F2 F3 F4");
  });

  test("applies no rule of its own: it opens no alert and shortens no window", () => {
    const job = countJob(before, 2, [failed("a")], lowered);
    assert.deepEqual([wordsOf(job), job?.alert], ["F2 F3 F4", undefined]);
  });

  test("drops nothing that its commit ignores, and files nothing of it", () => {
    const alert = openAlert();
    const tracked = documentWith("F1 F3 F4", 9, { alert });
    const { document } = count(tracked, 2, [passed("a"), passed("b")], { JOB_RULES: "a ignore" });
    assert.deepEqual(document.jobs, tracked.jobs);
  });

  test("closes and expires nothing, however long ago a job ran", () => {
    const alert = openAlert();
    const old = { ...documentWith("F1 ·3 ·4", 9, { alert, last_day: 1 }), days: 90 };
    const job = countJob(old, 5, [passed("a")]);
    assert.deepEqual([wordsOf(job), job?.alert], ["F1 ·3 ·4 ·5", alert]);
  });

  test("has its failures counted by the next pipeline", () => {
    const { document } = count(before, 2, [failed("a")]);
    const next = count(document, 10, [passed("other")]);
    assert.equal(next.document.jobs.get("a")?.alert?.kind, "consecutive");
  });

  test("is late by its id, whenever it ends: the latest one is counted, and again", () => {
    const outcomes = [8, 9, 10].map((id) => count(before, id, [passed("a")]).outcome);
    assert.deepEqual(outcomes, ["late", "counted", "counted"]);
  });

  test("is an error where the latest was counted over a week ago: the ids began anew", () => {
    const old = { ...before, counted_at: later(-7 * DAY).toISOString() };
    assert.equal(count(old, 2, [failed("a")]).outcome, "late");
    assert.throws(() => count(old, 2, [failed("a")], {}, later(1)), /pipeline 2.* older than 9.*JOB_EXECUTIONS_URL/);
    assert.equal(count(old, 9, [failed("a")], {}, later(DAY)).outcome, "counted");
    assert.equal(count({ ...old, counted_at: undefined }, 2, [failed("a")]).outcome, "late");
  });
});

describe("checkConsistentFailures() tells what is true of", () => {
  const STORIES: [what: string, story: string, told: string][] = [
    ["a re-run of the oldest execution", "F1 n2 late·1 F3 F4", ""],
    ["a late pass of a job that is not tracked", "·1 n5 late·4 lateF3 F6 F7", ""],
    ["a re-run with a job that had not run", "F1 n2 againF2 F3", "3 broken"],
    ["a re-run that ends green", "F1 F2 again·2 F3", ""],
    ["a green re-run of what opened an alert", "F1 F2 F3 again·3 ·4 ·5", "3 broken, 5 recovered"],
    ["a red re-run of what closed it", "F1 F2 F3 ·4 ·5 ·6 againF6 F7 F8", "3 broken, 6 recovered, 8 broken"],
    ["late failures of an alert before", "F1 F2 F3 n4 ·5 ·6 ·7 lateF4 F8 F9", "3 broken, 7 recovered"],
    ["a run that dies before it notes what it told", "F1 F2 F3† ·4! ·5! ·6", "3 broken, 6 recovered"],
    ["an alert that comes and goes while the chat is away", "F1 F2 F3! F4! ·5! ·6! ·7", ""],
    ["an alert that opens while the chat is away", "F1 F2 F3! F4! F5", "5 broken"],
    ["an end while the chat is away", "F1 F2 F3 ·4 ·5 ·6! ·7! n8", "3 broken, 8 recovered"],
    ["an end that nobody heard before it broke again", "F1 F2 F3 ·4 ·5 ·6! F7! F8! F9", "3 broken, 9 broken"],
    [
      "two ends of which nobody heard the first",
      "F1 F2 F3 ·4 ·5 ·6! F7! F8! F9! ·10! ·11! ·12",
      "3 broken, 12 recovered",
    ],
  ];
  for (const [what, story, told] of STORIES) {
    test(`${what}, "${told}": ${story}`, async () => {
      assert.equal((await play(story)).told, told);
    });
  }

  test("the end of a broken alert that waits until its job, which fails often by now, has recovered", async () => {
    const often = "F7! ·8! F9! ·10! F11! ·12! F13! ·14! F15 ·16 ·17 ·18 ·19 ·20 ·21 ·22 ·23";
    const { told } = await play(`F1 F2 F3 ·4 ·5 ·6! ${often}`);
    assert.equal(told, "3 broken, 15 often, 23 recovered");
  });

  test("a job that breaks behind failures of an alert before, of which is not known what came before", async () => {
    const { told, job } = await play("F1 F2 F3 F4! F5! F6! F7", { rules: { "F4!": "a ignore" } });
    assert.equal(told, "3 broken, 7 broken");
    assert.deepEqual([job?.alert?.turned?.commit, job?.alert?.turned?.from], [commitOf(5), undefined]);
  });

  test("three failures that a re-run turns green, which are a recovery that began there or earlier", async () => {
    const { told, texts } = await play("·1 ·2 F3 F4 F5 late·3 late·4 again·5");
    assert.equal(told, "5 broken, 5 recovered");
    assert.match(texts.at(-1) ?? "", /or earlier/);
  });

  test("jobs that broke at one commit and are told late, each with its own age", async () => {
    const { store } = memoryStore(textOf(documentWith("", 0)));
    const run = (id: number, ran: PipelineJob[], JOB_RULES = "") => {
      const variables = { CI_PIPELINE_ID: `${id}`, CI_COMMIT_SHA: commitOf(id), JOB_RULES };
      return runOf(ran, variables, { store, now: later(id * HOUR) });
    };
    for (const id of [1, 2]) await run(id, [failed("a"), failed("b")]);
    await run(3, [failed("a")]);
    const { sent } = await run(6, [failed("b")], "* #team");
    const text = sent.find(({ channel }) => channel === "#team")?.text ?? "";
    const ages = text.split("\n\n").map((paragraph) => {
      const [, job = "", age = ""] = /\|([ab])>.*?(3 hours ago|$)/m.exec(paragraph) ?? [];
      return `${job} ${age}`;
    });
    assert.deepEqual(ages.slice(1).sort(), ["a 3 hours ago", "b "]);
  });

  test("failures that end soon and passes that end late, which are mended when no more failures come", async () => {
    // A pipeline each ten minutes, of which every second one fails: failures take five minutes, passes an hour.
    const pipelines = Array.from({ length: 40 }, (_, i) => ({ id: i + 1, fails: i % 2 === 1 && i < 24 }));
    const ends = pipelines.sort((a, b) => a.id * 10 + (a.fails ? 5 : 60) - (b.id * 10 + (b.fails ? 5 : 60)));
    const story = ends.map(({ id, fails }) => `${fails ? "F" : "·"}${id}`).join(" ");
    const { told, document } = await play(story, { step: 5 * MINUTE });
    assert.match(told, /^\d+ broken, \d+ recovered$/);
    assert.deepEqual([document.jobs.get("a")?.alert, document.passed.get("a")?.pipeline], [undefined, 40]);
  });

  test("channels that come and go in the rules while an alert is open: each hears of it, and of its end", async () => {
    const rules = { F4: "a #old", F5: "a #new" };
    const { told } = await play("F1 F2 F3 F4 F5 ·6 ·7 ·8", { rules });
    const heard = told.split(", ");
    assert.deepEqual(heard.slice(0, 3), ["3 broken", "4 broken to #old", "5 broken to #new"]);
    assert.deepEqual(heard.slice(3).sort(), ["8 recovered", "8 recovered to #new", "8 recovered to #old"]);
  });

  test("a channel that comes after the end, and hears of nothing", async () => {
    const { told } = await play("F1 F2 F3 ·4 ·5 ·6", { rules: { "·6": "a #late" } });
    assert.equal(told, "3 broken, 6 recovered");
  });
});

describe("updateStatistics() reckons by days on which pipelines were counted:", () => {
  const on = (document: JobExecutions, id: number, day: number, ran = [passed("other")]) =>
    count(document, id, ran, {}, later(day * DAY)).document;

  test("a day counts once, whichever clock comes first to it, and none for a day that is past", () => {
    let document = createInitialJobExecutions();
    const days = [0, 0, 1, 0, 1, 5, 4, 6].map((day, i) => {
      document = on(document, i + 1, day);
      return document.days;
    });
    assert.deepEqual(days, [1, 1, 2, 2, 2, 3, 3, 4]);
  });

  test("32 runs in an afternoon, by two runners whose clocks are a day apart, are two days", () => {
    const last = Array.from({ length: 32 }).reduce<JobExecutions>((document, _, i) => {
      return count(document, i + 1, [passed("other")], {}, later((i % 2) * DAY + i * MINUTE)).document;
    }, createInitialJobExecutions());
    assert.equal(last.days, 2);
  });

  test("a document that has no days yet goes on with the date on which it was counted", () => {
    const old = { ...createInitialJobExecutions(), pipeline_id: 1, counted_at: AN_HOUR_AGO };
    assert.deepEqual([on(old, 2, 0).days, on(old, 2, 1).days], [0, 1]);
  });

  /** A document whose next pipeline is counted on a day that many days after the job `a` ran. */
  const ranDaysAgo = (days: number, rest: Partial<TrackedJob> = {}) => ({
    ...documentWith("F1 F2", 2, { last_day: 7, ...rest }),
    days: 7 + days - 1,
    last_date: later(-DAY).toISOString().slice(0, 10),
  });

  test("a job is forgotten that did not run on more than 30 of them", () => {
    const tracked = [30, 31].map((days) => on(ranDaysAgo(days), 3, 0).jobs.has("a"));
    assert.deepEqual(tracked, [true, false]);
  });

  test("a pause of any length forgets nothing", () => {
    assert.equal(on(ranDaysAgo(2), 3, 400).jobs.has("a"), true);
  });

  test("a job that runs again after so many days goes on", () => {
    const job = on(ranDaysAgo(40), 3, 0, [failed("a")]).jobs.get("a");
    assert.deepEqual([wordsOf(job), job?.last_day], ["F1 F2 F3", 47]);
  });

  test("of a job that has no such day, they are counted from now on", () => {
    assert.equal(on(ranDaysAgo(40, { last_day: undefined }), 3, 0).jobs.get("a")?.last_day, 46 + 1);
  });

  test("where a job passed is forgotten after 30 of them", () => {
    const known = [30, 31].map((days) => {
      const passes = new Map([["b", { commit: commitOf(1), pipeline: 1, day: 7 }]]);
      return on({ ...ranDaysAgo(days), passed: passes }, 3, 0).passed.has("b");
    });
    assert.deepEqual(known, [true, false]);
  });

  test("an open alert of a job that did not run on 30 of them is gone, and whoever was told of it hears that", async () => {
    const before = ranDaysAgo(31, { alert: openAlert() });
    const { told, job } = await play("n3 n4", { before });
    assert.deepEqual([told, job], ["3 gone", undefined]);
  });

  test("an alert that nobody was told of goes without a word", async () => {
    const before = ranDaysAgo(31, { alert: openAlert("consecutive", { told: undefined }) });
    const { told, job } = await play("n3", { before });
    assert.deepEqual([told, job], ["", undefined]);
  });

  test("a late pipeline of a job that is gone lets nothing vanish: its end is told", async () => {
    const before = { ...ranDaysAgo(31, { alert: openAlert() }), pipeline_id: 9 };
    const { told } = await play("n10! late·9 n11", { before });
    assert.equal(told, "11 gone");
  });

  test("an alert that is open for longer is not told again", async () => {
    const { told } = await play("F3 F4", { before: ranDaysAgo(50, { alert: openAlert() }) });
    assert.equal(told, "");
  });

  test("the end of an alert that can't be told is given up after 30 of them", async () => {
    const alert = openAlert("recovered", { told: { "#archived": AN_HOUR_AGO } });
    const [lastTry, givenUp] = await Promise.all(
      [30, 31].map((days) => play("n3", { before: ranDaysAgo(days, { alert, last_day: 7 + days }) })),
    );
    assert.deepEqual([lastTry?.told, givenUp?.told], ["3 recovered to #archived", ""]);
    assert.equal(givenUp?.job?.alert?.told, undefined);
  });
});

describe("updateStatistics() ignores", () => {
  test("failures for a reason, which keep a job's history", () => {
    const before = documentWith("F1 F2", 2);
    const wordsAfter = (reason: string | undefined) =>
      wordsOf(countJob(before, 3, [failed("a", { reason }), passed("other")], { IGNORE_FAILURES: "runner_* stuck" }));
    assert.deepEqual(["runner_system_failure", "stuck"].map(wordsAfter), ["F1 F2", "F1 F2"]);
    assert.equal(
      wordsOf(countJob(before, 3, [passed("a", { reason: "stuck" })], { IGNORE_FAILURES: "stuck" })),
      "F1 F2 ·3",
    );
    assert.deepEqual(["script_failure", "stuck_or_so", undefined].map(wordsAfter), Array(3).fill("F1 F2 F3"));
  });

  test("a job with an open alert as gone, once, and begins anew when it counts again", async () => {
    const rules = { F4: "a ignore", F5: "a ignore" };
    const { told, job } = await play("F1 F2 F3 F4 F5 F6 F7", { rules });
    assert.deepEqual([told, wordsOf(job)], ["3 broken, 4 gone", "F6 F7"]);
  });
});

describe("checkConsistentFailures() of a pipeline in which nothing ran", () => {
  const NOTHING: [what: string, ran: PipelineJob[], variables?: Variables][] = [
    ["has no jobs", []],
    ["has only skipped jobs", [notRun("a"), notRun("b")]],
    ["has only ignored jobs", [failed("a"), passed("a2")], { JOB_RULES: "a* ignore" }],
    ["has only failures that are ignored", [failed("a", { reason: "stuck" })], { IGNORE_FAILURES: "stuck" }],
  ];
  for (const [what, ran, variables] of NOTHING) {
    test(`stores nothing and tells nothing, but warns, where it ${what}`, async () => {
      const memory = memoryStore(textOf(documentWith("F1 F2 F3", 3)));
      const { text } = memory.stored;
      const { run, sent } = await runOf(ran, { CI_PIPELINE_ID: "4", ...variables }, { store: memory.store });
      assert.deepEqual([run.outcome, memory.stored.text, sent, run.errors], ["nothing-ran", text, [], []]);
      assert.match(run.warnings.join(), /No job of this pipeline failed or passed/);
    });
  }

  test("makes no document where there is none, and says no hello", async () => {
    const memory = memoryStore();
    const { run, sent } = await runOf([notRun("a")], {}, { store: memory.store });
    assert.deepEqual([run.outcome, memory.stored.text, sent], ["nothing-ran", undefined, []]);
  });
});

describe("checkConsistentFailures() project", () => {
  const SHOP = { CI_PROJECT_PATH: "acme/shop", CI_PROJECT_URL: "https://git.example.com/acme/shop" };
  const storeOf = (project?: JobExecutions["project"]) =>
    memoryStore(textOf({ ...documentOf(), ...(project ? { project } : {}) }));

  test("is stored as the environment says it, without a CI that is neither GitLab nor GitHub", async () => {
    const project = { name: "acme/shop", url: "https://git.example.com/acme/shop" };
    const stored = async (variables: Variables) => {
      const memory = storeOf();
      await runOf([passed("a")], { ...SHOP, GITLAB_CI: undefined, ...variables }, { store: memory.store });
      return JSON.parse(`${memory.stored.text}`).project;
    };
    assert.deepEqual(await stored({ GITLAB_CI: "true" }), { ...project, ci: "gitlab" });
    assert.deepEqual(await stored({ GITHUB_ACTIONS: "true" }), { ...project, ci: "github" });
    assert.deepEqual(await stored({}), project);
  });

  test("at another address is an error that says what to do; nothing is stored or told", async () => {
    for (const CI_PIPELINE_ID of ["1003", "1004", "1005"]) {
      const { store, stored } = storeOf({ url: "https://git.example.com/acme/pay" });
      const { text } = stored;
      const run = runOf([failed("a")], { ...SHOP, CI_PIPELINE_ID }, { store });
      await assert.rejects(run, /acme\/shop.*acme\/pay.*JOB_EXECUTIONS_URL.*"project"/);
      assert.equal(stored.text, text);
    }
  });

  test("goes by its address: another name is noted, and one that is not known refuses nothing", async () => {
    const nameAfter = async (project: JobExecutions["project"], variables: Variables) => {
      const { store, stored } = storeOf(project);
      await runOf([passed("a")], { ...SHOP, ...variables }, { store });
      return JSON.parse(`${stored.text}`).project.name;
    };
    const url = SHOP.CI_PROJECT_URL;
    assert.equal(await nameAfter({ name: "acme/shop", url }, { CI_PROJECT_PATH: "acme/shop / CI" }), "acme/shop / CI");
    assert.equal(await nameAfter({ name: "acme/old" }, {}), "acme/shop");
    assert.equal(await nameAfter({ name: "acme/old", url: "https://a.b" }, { CI_PROJECT_URL: undefined }), "acme/shop");
    assert.equal(await nameAfter({ name: "acme/shop", url }, { CI_PROJECT_PATH: undefined }), "acme/shop");
  });
});

describe("updateStatistics() titles", () => {
  const turned = (CI_COMMIT_MESSAGE: string | undefined) =>
    countJob(documentWith("·1", 1), 2, [failed("a")], { CI_COMMIT_MESSAGE })?.jobs_info.at(-1)?.title;

  const TITLES: [what: string, message: string | undefined, title: string | undefined][] = [
    ["the first line of a message", "Add a cart\n\nAs asked for\n", "Add a cart"],
    ["that line also with other line breaks", "Add a cart\r\n\r\nAs asked for", "Add a cart"],
    ["the first line that is not blank", "\n \nAdd a cart", "Add a cart"],
    ["what a merge by GitLab is of", "Merge branch 'x' into 'main'\n\nMerge branch 'x'\n \nAdd a cart", "Add a cart"],
    ["what a merge by GitHub is of", "Merge pull request #1 from acme/x\n\nAdd a cart", "Add a cart"],
    [
      "what a merge of a remote-tracking branch is of",
      "Merge remote-tracking branch 'o/x'\n\nAdd a cart",
      "Add a cart",
    ],
    ["what a merge of a tag is of", "Merge tag 'v1'\n\nAdd a cart", "Add a cart"],
    ["what a merge of a commit is of", "Merge commit 'c0ffee01'\n\nAdd a cart", "Add a cart"],
    ["the first line of a merge that says no more", "Merge branch 'x'\n\n", "Merge branch 'x'"],
    ["the first line of a merge of nothing but merges", "Merge branch 'x'\n\nMerge branch 'y'", "Merge branch 'x'"],
    ["a title that only begins like a merge", "Merge the two carts\n\nSee !1", "Merge the two carts"],
    ["a title that only begins with a word like it", "Merged branch 'x'\n\nSee !1", "Merged branch 'x'"],
    ["a title of branches in other words", "Merge branches of code\n\nSee !1", "Merge branches of code"],
    ["a long title, cut", "x".repeat(5_000), "x".repeat(120)],
    ["a long title, not cut within a character", `${"x".repeat(119)}🧪`, "x".repeat(119)],
    ["no title where there is no message", undefined, undefined],
    ["no title where a message is blank", "\n \n", undefined],
  ];
  for (const [what, message, title] of TITLES) {
    test(`are ${what}`, () => {
      assert.equal(turned(message), title);
    });
  }

  const TURNS: [what: string, strip: string, turned: string][] = [
    ["from one pipeline to the next", "··FFF", "c0ffee3, Title 3, from c0ffee2"],
    ["after pipelines in which it did not run", "·---FFF", "c0ffee5, Title 5, from c0ffee1"],
    ["at its first execution ever, as far as is known", "FFF", "c0ffee1, undefined, from undefined"],
    ["again when it is mended", "·FFF···", "c0ffee5, Title 5, from c0ffee4"],
    ["again when it is mended after a gap", "FFF----···", "c0ffee8, Title 8, from c0ffee3"],
  ];
  for (const [what, strip, turned] of TURNS) {
    test(`stand in an alert with the commits between which a job turned ${what}: ${strip}`, async () => {
      const { job } = await play(storyOf(strip));
      const { commit, title, from } = job?.alert?.turned ?? {};
      assert.equal(`${commit}, ${title}, from ${from}`, turned);
    });
  }
});

describe("retrieveJobExecutions() reads the document", () => {
  const at = "2026-11-23T09:00:00Z";
  const failure = { id: 1, failing: true, commit: "abcdef42" };

  test("of the original, with windows under either of their names, and pipelines only of the last executions", async () => {
    const document = await parseDocument(
      JSON.stringify({
        jobs: {
          a: { consecutive_failures: 2, jobs_info: [{ id: null, failing: false, commit: null }, failure, failure] },
          b: { consecutive_failures: 1, cumulative_failures: [{ id: 2, failing: true }] },
          c: { consecutive_failures: 0, jobs_info: [] },
        },
        pipeline_id: 123,
      }),
    );
    assert.deepEqual(
      ["a", "b", "c"].map((name) => wordsOf(document.jobs.get(name))),
      ["· F F123", "F123", ""],
    );
  });

  test("without pipeline_id as one of pipeline 0", async () => {
    assert.equal((await parseDocument('{"jobs": {}}')).pipeline_id, 0);
  });

  test("of version 3 with its open alerts told to the broadcast channel, and without its list of passes", async () => {
    const document = await parseDocument(
      JSON.stringify({
        pipeline_id: 123,
        pending_alerts: [{ id: "x" }],
        passed: [{ commit: "abcdef42", at, jobs: ["b"] }],
        jobs: {
          a: {
            consecutive_failures: 3,
            jobs_info: [failure, failure, failure],
            turned: { commit: "abcdef42" },
            executions_since_alert: 2,
            alert: { kind: "consecutive", pipeline_id: 120, at },
          },
        },
      }),
    );
    const expected = { kind: "consecutive", pipeline_id: 120, at, changed_at: at, told: { "": at } };
    assert.deepEqual([document.jobs.get("a")?.alert, document.passed.size], [expected, 0]);
  });

  test("of version 3 so that an alert of it is not told again, but its end is", async () => {
    const alert = { kind: "consecutive", pipeline_id: 3, at } as Alert;
    const before = documentWith("F1 F2 F3", 3, { alert });
    assert.equal((await play("F4 ·5 ·6 ·7", { before })).told, "7 recovered");
  });

  test("of version 3 so that a channel which comes later hears what is known of its alert", async () => {
    const before = documentWith("·1 F2 F3 F4", 4, { alert: { kind: "consecutive", pipeline_id: 4, at } as Alert });
    const { told, texts } = await play("F5", { before, rules: { F5: "a #team" } });
    assert.equal(told, "5 broken to #team");
    assert.match(`${texts}`, /failed 4 times in a row, first at .*c0ffee2/);
  });

  test("without passes, where these don't fit", async () => {
    for (const passed of [7, "a", null, [{ a: 7 }], { a: { commit: "abcdef42" } }]) {
      const document = await parseDocument(JSON.stringify({ pipeline_id: 1, jobs: {}, passed }));
      assert.deepEqual([document.passed.size, document.pipeline_id], [0, 1]);
    }
  });
});

describe("a document", () => {
  // Without backslashes: where a key ends with one, the JSON.parse of V8 13 may take the next `"` in its place for one.
  const aText = fc.string({ unit: "binary", maxLength: 255 }).filter((text) => !text.includes("\\"));
  const hostile = ["__proto__", "constructor", "prototype", "toString", "pipeline_id", "1", "\u0000", '"', "a\\b c"];
  const aName = fc.oneof(aText, fc.constantFrom(...hostile, "build: [linux, 1.22]", "🧪".repeat(60)));
  const aValue = fc.oneof(aText, fc.integer(), fc.boolean(), fc.constant({ a: [null, { b: 0.1 }] }));
  const unknownKeys = fc.dictionary(
    aText.map((key) => `x-${key}`),
    aValue,
    { maxKeys: 3 },
  );
  const withUnknown = <T extends object>(known: fc.Arbitrary<T>) =>
    fc.tuple(unknownKeys, known).map(([unknown, keys]) => ({ ...unknown, ...keys }));
  const at = "2026-11-23T10:00:00Z";
  const anExecution = fc.oneof(
    fc.record({
      id: fc.nat(),
      failing: fc.constant(true),
      commit: fc.constantFrom("abcdef42", null),
      pipeline: fc.nat(),
    }),
    fc.record({ id: fc.constant(null), failing: fc.constant(false), pipeline: fc.nat() }),
  );
  const anAlert = fc.record({
    kind: fc.constantFrom("consecutive", "cumulative", "recovered", "gone"),
    pipeline_id: fc.nat(),
    at: fc.constant(at),
    changed_at: fc.constant(at),
    told: fc.constantFrom({ "": at }, { "#team": at, "": at }),
    claims: fc.constant({ "#team": { until: at, by: "some run" } }),
  });
  const aJob = withUnknown(
    fc.record({
      consecutive_failures: fc.nat(),
      jobs_info: fc.array(withUnknown(anExecution), { maxLength: 4 }),
      last_day: fc.nat(),
      alert: withUnknown(anAlert),
    }),
  );
  const mapOf = <T>(values: fc.Arbitrary<T>) =>
    fc.array(fc.tuple(aName, values), { minLength: 1, maxLength: 5 }).map((entries) => Object.fromEntries(entries));
  const aDocument = withUnknown(
    fc.record({
      pipeline_id: fc.nat(),
      days: fc.integer({ min: 1, max: 999 }),
      jobs: mapOf(aJob),
      passed: mapOf(fc.record({ commit: fc.constant("abcdef42"), pipeline: fc.nat(), day: fc.nat() })),
    }),
  );

  // As maps, because assert may take the job __proto__ for the prototype.
  const parse = (json: string) => {
    const { jobs, passed, ...others } = JSON.parse(json);
    return { others, jobs: new Map(Object.entries(jobs)), passed: new Map(Object.entries(passed)) };
  };

  test("keeps every name and every key, also such as it does not know", async () => {
    await fc.assert(
      fc.asyncProperty(aDocument, async (document) => {
        const text = JSON.stringify(document);
        assert.deepEqual(parse(await serializeDocument(await parseDocument(text))), parse(text));
      }),
    );
  });

  test("keeps keys that it does not know while it is counted, told and noted", async () => {
    const alert = { ...openAlert("consecutive", { told: undefined }), note: "on it" };
    const jobs_info = windowOf("·1 F2 F3 F4").map((execution) => ({ ...execution, took: 7 }));
    const job = { ...trackedJob(""), alert, jobs_info, note: "slow" };
    const { stored, told } = await play("F5", {
      before: { ...documentOf(["a", job]), ...{ pipeline_id: 4, team: "ci" } },
    });
    const { team, jobs } = JSON.parse(stored);
    assert.deepEqual([told, team, jobs.a.note, jobs.a.alert.note], ["5 broken", "ci", "slow", "on it"]);
    assert.deepEqual(
      jobs.a.jobs_info.map(({ took }: { took?: number }) => took),
      [7, 7, 7, 7, undefined],
    );
  });

  for (const name of [...hostile, "a".repeat(255)]) {
    test(`tells of a job by its full name, and no other: ${JSON.stringify(name).slice(0, 30)}`, async () => {
      const { store, stored } = memoryStore(textOf(documentWith("", 0)));
      const sent: string[] = [];
      for (const id of [1, 2, 3]) {
        const { sent: now } = await runOf([failed(name), passed(`${name} `)], { CI_PIPELINE_ID: `${id}` }, { store });
        sent.push(...now.flatMap(({ message }) => message.news.map(({ job }) => job)));
      }
      const { jobs } = await parseDocument(stored.text);
      assert.deepEqual([sent, [...jobs.keys()], wordsOf(jobs.get(name))], [[name], [name], "F1 F2 F3"]);
    });
  }
});

const NAMES = ["a", "b", "__proto__"];
const anOutcome = fc.constantFrom("F", "F", "·", "-");
const somePipelines = fc.array(fc.tuple(...NAMES.map(() => anOutcome)), { minLength: 1, maxLength: 40 });
const someVariables = fc
  .record({
    CONSECUTIVE_THRESHOLD: fc.integer({ min: 1, max: 6 }),
    CUMULATIVE_LENGTH: fc.integer({ min: 1, max: 12 }),
    CUMULATIVE_THRESHOLD: fc.integer({ min: 1, max: 6 }),
  })
  .map((set) => Object.fromEntries(Object.entries(set).map(([variable, value]) => [variable, `${value}`])));

/** The jobs of a pipeline in which the n-th of NAMES had the n-th outcome; one more passes in each. */
const jobsWith = (outcomes: string[], pipeline: number) => [
  passed("other", { id: 1 }),
  ...outcomes.flatMap((outcome, i) => {
    const job = { id: pipeline * 10 + i };
    if (outcome === "-") return [];
    return outcome === "F" ? failed(NAMES[i] ?? "", job) : passed(NAMES[i] ?? "", job);
  }),
];

/** The documents that pipelines make, one after the other, and what is told then, all of which is delivered. */
function documentsAfter(pipelines: string[][], variables: Variables) {
  let document = createInitialJobExecutions();
  return pipelines.map((outcomes, i) => {
    const now = later(i * HOUR);
    const task = taskOf({ CI_PIPELINE_ID: `${i + 1}`, ...variables }, { now });
    const claimed = claimNews(count(document, i + 1, jobsWith(outcomes, i + 1), variables, now), task);
    const deliveries = claimed.messages.map((message) => ({ ...message, delivered: true }));
    document = noteTold(claimed.document, deliveries, task);
    return { document, news: deliveries.flatMap(({ news }) => news) };
  });
}

const lastOf = (played: ReturnType<typeof documentsAfter>) => played.at(-1)?.document ?? assert.fail();

describe("updateStatistics() whatever happens", () => {
  test("keeps windows no longer than they need be, in the order of their pipelines, with the failures in a row at the end", () => {
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const longest = Math.max(...Object.values(variables).map(Number));
        const jobs = lastOf(documentsAfter(pipelines, variables)).jobs.values();
        for (const { consecutive_failures, jobs_info } of jobs) {
          const places = jobs_info.map(({ pipeline = 0 }) => pipeline);
          const trailing = jobs_info.length - 1 - jobs_info.findLastIndex((execution) => !execution.failing);
          assert.ok(jobs_info.length <= longest, `${jobs_info.length} executions`);
          assert.ok(
            places.every((place, i) => i === 0 || place > (places[i - 1] ?? 0)),
            `${places}`,
          );
          assert.equal(trailing, Math.min(consecutive_failures, jobs_info.length));
        }
      }),
    );
  });

  test("makes the same document of the latest pipeline when it is counted again, but for jobs whose end was told", () => {
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const last = lastOf(documentsAfter(pipelines, variables));
        const { length } = pipelines;
        const ran = jobsWith(pipelines.at(-1) ?? [], length);
        const recount = (document: JobExecutions) =>
          count(document, length, ran, variables, later((length - 1) * HOUR)).document;
        const again = recount(last); // without the jobs that were tracked only until their end was told
        const dropped = [...last.jobs].filter(([name]) => !again.jobs.has(name));
        assert.ok(dropped.every(([, { alert }]) => alert?.kind === "recovered"));
        assert.equal(textOf(recount(again)), textOf(again));
        for (const [name, job] of again.jobs) assert.deepEqual(job, last.jobs.get(name));
      }),
    );
  });

  test("changes no history by any pipeline that is counted again with what it had", () => {
    const historiesOf = ({ jobs, passed }: JobExecutions) => ({
      jobs: [...jobs].map(([name, job]) => [name, wordsOf(job), job.consecutive_failures, job.alert]),
      passed: [...passed].map(([name, { pipeline }]) => [name, pipeline]),
    });
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const last = lastOf(documentsAfter(pipelines, variables));
        for (const [i, outcomes] of pipelines.slice(0, -1).entries()) {
          const again = count(last, i + 1, jobsWith(outcomes, i + 1), variables, later(pipelines.length * HOUR));
          assert.deepEqual(historiesOf(again.document), historiesOf(last));
        }
      }),
    );
  });

  test("files pipelines that come in any order as if they had come in theirs", () => {
    const ids = Array.from({ length: 12 }, (_, i) => i + 2);
    const order = fc.shuffledSubarray(ids, { minLength: ids.length });
    const outcomes = fc.array(fc.boolean(), { minLength: ids.length, maxLength: ids.length });
    const variables = { CUMULATIVE_LENGTH: "20" }; // nothing leaves the window
    fc.assert(
      fc.property(order, outcomes, (arriving, fails) => {
        const playIn = (order: number[]) =>
          order.reduce(
            (document, id) => {
              const ran = fails[id - 2] ? failed("a", { id }) : passed("a");
              return count(document, id, [ran], variables).document;
            },
            documentWith("F1", 1),
          );
        const [job, expected] = [playIn(arriving), playIn(ids)].map(({ jobs }) => jobs.get("a"));
        assert.deepEqual(
          [wordsOf(job), job?.consecutive_failures],
          [wordsOf(expected), expected?.consecutive_failures],
        );
      }),
    );
  });

  test("has alerts told in an order that people understand", () => {
    const LETTERS = { consecutive: "B", cumulative: "o", recovered: "r", gone: "g" };
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const news = documentsAfter(pipelines, variables).flatMap((played) => played.news);
        for (const name of NAMES) {
          const told = news.filter(({ job }) => job === name).map(({ alert }) => LETTERS[alert.kind]);
          // A job that only failed often recovers without a word; one that had looked mended is told again.
          assert.match(told.join(""), /^(o?B+r|o)*(o?B+)?$/);
        }
      }),
    );
  });

  test("makes the same of jobs in whatever order they are listed or stored", () => {
    const someJobs = fc.uniqueArray(fc.tuple(fc.constantFrom(...NAMES, "c", "d"), fc.constantFrom(failed, passed)), {
      minLength: 1,
      maxLength: 5,
      selector: ([name]) => name,
    });
    const stored = documentOf(
      ["a", history("✗✗")],
      ["b", history("✗✗✗··", { alert: openAlert() })],
      ["__proto__", history("✗·✗·✗·✗·")],
    );
    const shuffled = someJobs.chain((listed) => {
      const ran = listed.map(([name, build], i) => build(name, { id: i + 1 }));
      return fc.tuple(fc.constant(ran), fc.shuffledSubarray(ran, { minLength: ran.length }));
    });
    const reversed = { ...stored, jobs: new Map([...stored.jobs].reverse()) };
    const textAfter = (document: JobExecutions, ran: PipelineJob[]) =>
      formatDocument(textOf(count(document, 1005, ran).document));
    fc.assert(
      fc.property(shuffled, ([ran, otherwise]) => {
        assert.equal(textAfter(reversed, otherwise), textAfter(stored, ran));
      }),
    );
  });
});
