import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  changeOf,
  checkConsistentFailures,
  createInitialJobExecutions,
  type Execution,
  type JobExecutions,
  type Kind,
  type PipelineJob,
  reviseStatistics,
  type TrackedJob,
  updateStatistics,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  jobsOf,
  listingOf,
  makeWorld,
  memoryStore,
  NOW,
  openAlert,
  passed,
  pendingAlert,
  runOf,
  settings,
  stripOf,
  taskOf,
  textOf as storedTextOf,
  type Variables,
} from "./support/builders.ts";
import { formatDocument } from "./support/scenarios.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const later = (ms: number) => new Date(NOW.getTime() + ms);

/** What one pipeline makes of the document. */
function update(document: JobExecutions, ran: PipelineJob[], variables: Variables = {}, now = NOW) {
  const { pipeline, limits } = settings(variables);
  return updateStatistics(document, listingOf(ran), { pipeline, limits, now });
}

/** What a pipeline in which it failed or passed, or (undefined) did not run, makes of a job with the name `a`. */
function updateJob(before: TrackedJob, ran: PipelineJob | undefined, variables: Variables = {}, now = NOW) {
  const { document, reached, news } = update(documentOf(["a", before]), ran ? [ran] : [], variables, now);
  const kinds = [
    ...(["consecutive", "cumulative"] as const).filter((kind) => reached[kind].has("a")),
    ...(["recovered", "gone"] as const).filter((kind) => reached[kind].includes("a")),
  ];
  return { job: document.jobs.get("a"), kinds, told: news.map((item) => item.kind), reached, news, document };
}

/** What a pipeline did to each job: `F` failed, `P` passed, `-` did not run. */
const OUTCOMES: Record<string, (name: string) => PipelineJob[]> = {
  F: (name) => [failed(name)],
  P: (name) => [passed(name)],
  "-": () => [],
};

/** The pipelines of a job `a` that did so in them, an hour and a commit each; `n` counts from 1. */
function playSequence(sequence: string, variables: Variables = {}, before = createInitialJobExecutions()) {
  let document = before;
  return [...sequence].map((outcome, i) => {
    const n = before.pipeline_id + i + 1;
    const commit = { CI_PIPELINE_ID: `${n}`, CI_COMMIT_SHA: `abcdef${`${n}`.padStart(4, "0")}` };
    const told = { CI_COMMIT_TITLE: `Title ${n}`, CI_COMMIT_AUTHOR: `Author ${n} <author@example.com>` };
    const ran = OUTCOMES[outcome]?.("a") ?? [];
    const result = update(document, ran, { ...commit, ...told, ...variables }, later((i + 1) * HOUR));
    document = result.document;
    return result;
  });
}

const LETTERS: Record<Kind, string> = { consecutive: "B", cumulative: "o", recovered: "r", gone: "g" };

/** What was told of the job after each outcome: `B`roken, `o`ften, `r`ecovered, `g`one; a dot is silence. */
const toldIn = (sequence: string, variables: Variables = {}, before = createInitialJobExecutions()) =>
  playSequence(sequence, variables, before)
    .map(({ news }) => news.map(({ kind }) => LETTERS[kind]).join("") || ".")
    .join("");

const isDropped = (job: TrackedJob, now: Date, variables: Variables = {}) =>
  !update(documentOf(["a", job]), [], variables, now).document.jobs.has("a");

const textOf = async (document: JobExecutions) => formatDocument(await serializeDocument(document));

describe("updateStatistics() thresholds", () => {
  test("consecutive is reached at the threshold, neither before nor after it", () => {
    const kindsAfter = (strip: string) => updateJob(history(strip), failed("a")).kinds;
    assert.deepEqual(["✗", "✗✗", "✗✗✗"].map(kindsAfter), [[], ["consecutive"], []]);
  });

  test("cumulative is reached at the threshold, neither before nor after it", () => {
    const kindsAfter = (strip: string) => updateJob(history(strip), failed("a")).kinds;
    assert.deepEqual(["✗·✗·✗·", "✗·✗·✗·✗·", "✗✗·✗·✗✗·"].map(kindsAfter), [[], ["cumulative"], []]);
  });

  test("cumulative counts what is left in the window after this execution", () => {
    assert.deepEqual(updateJob(history("✗✗·✗·✗···✗"), failed("a")).kinds, ["cumulative"]);
    assert.deepEqual(updateJob(history("✗·✗·✗····✗"), failed("a")).kinds, []);
  });

  test("a job that passed reaches neither, even if its window comes to hold as many failures", () => {
    assert.deepEqual(updateJob(history("✗✗✗✗✗✗····"), passed("a")).kinds, []);
  });

  test("a job that did not run reaches nothing", () => {
    assert.deepEqual(updateJob(history("✗✗✗"), undefined).kinds, []);
    assert.deepEqual(updateJob(history("✗·✗·✗·✗·✗"), undefined).kinds, []);
  });

  test("what reached a threshold comes with the ids of all failing executions of its window", () => {
    const { reached } = updateJob(history("✗·✗✗"), failed("a", { id: 200 }));
    assert.deepEqual(reached.consecutive, new Map([["a", [101, 103, 104, 200]]]));
  });

  test("both reached at once is told as consecutive, once", () => {
    const { kinds, told, job } = updateJob(history("✗·✗·✗✗"), failed("a"));
    assert.deepEqual(kinds, ["consecutive", "cumulative"]);
    assert.deepEqual(told, ["consecutive"]);
    assert.equal(job?.alert?.kind, "consecutive");
  });

  test("thresholds of one alert at the first failure", () => {
    const { told } = updateJob(history(""), failed("a"), { CONSECUTIVE_THRESHOLD: "1", CUMULATIVE_THRESHOLD: "1" });
    assert.deepEqual(told, ["consecutive"]);
  });
});

describe("updateStatistics() alerts", () => {
  test("a reached threshold opens the alert of the job", () => {
    const { job } = updateJob(history("✗✗"), failed("a"), { CI_PIPELINE_ID: "1005" });
    assert.deepEqual(job?.alert, { kind: "consecutive", pipeline_id: 1005, at: "2026-11-23T10:00:00.000Z" });
  });

  test("an open cumulative alert becomes consecutive and stays open since when it was", () => {
    const { told, job } = updateJob(history("✗·✗·✗·✗✗", { alert: openAlert("cumulative") }), failed("a"));
    assert.deepEqual(told, ["consecutive"]);
    assert.deepEqual(job?.alert, openAlert("consecutive"));
  });

  test("an open consecutive alert is not told of again, whatever it reaches", () => {
    const open = { alert: openAlert("consecutive") };
    assert.deepEqual(updateJob(history("✗✗✗·✗✗", open), failed("a")).told, []);
    const cumulative = updateJob(history("✗✗✗·✗·", open), failed("a"));
    assert.deepEqual([cumulative.kinds, cumulative.told, cumulative.job?.alert], [["cumulative"], [], open.alert]);
  });

  test("a job recovers when it passed as often as RECOVERY_THRESHOLD says", () => {
    const open = { alert: openAlert("consecutive") };
    assert.deepEqual(updateJob(history("✗✗✗·", open), passed("a")).kinds, []);
    const { kinds, news, job } = updateJob(history("✗✗✗··", open), passed("a"));
    assert.deepEqual(kinds, ["recovered"]);
    assert.deepEqual(
      news.map(({ kind, openedAt }) => ({ kind, openedAt })),
      [{ kind: "recovered", openedAt: open.alert.at }],
    );
    assert.equal(job?.alert, undefined);
  });

  test("a job that had passed more often when RECOVERY_THRESHOLD was lowered recovers with its next pass", () => {
    const job = history("✗✗✗····", { alert: openAlert("consecutive") });
    const lowered = { RECOVERY_THRESHOLD: "2" };
    assert.deepEqual(updateJob(job, passed("a"), lowered).told, ["recovered"]);
    assert.deepEqual(updateJob(job, undefined, lowered).told, []);
    assert.deepEqual(updateJob(job, failed("a"), lowered).told, []);
  });

  test("a job without an open alert never recovers", () => {
    assert.deepEqual(updateJob(history("✗✗··"), passed("a")).kinds, []);
  });
});

describe("updateStatistics() document", () => {
  test("counts a failure, with the id of the job and the commit of the pipeline", () => {
    const { job } = updateJob(history("·✗"), failed("a", { id: 200 }), { CI_COMMIT_SHA: "abcdef42" });
    assert.equal(job?.consecutive_failures, 2);
    assert.deepEqual(job?.jobs_info.at(-1), { id: 200, failing: true, commit: "abcdef42" });
  });

  test("counts a pass, with the commit of the pipeline", () => {
    const { job } = updateJob(history("✗✗"), passed("a", { id: 200 }), { CI_COMMIT_SHA: "abcdef42" });
    assert.equal(job?.consecutive_failures, 0);
    assert.deepEqual(job?.jobs_info.at(-1), { id: null, failing: false, commit: "abcdef42" });
  });

  test("a job that passes and is not tracked stays untracked", () => {
    assert.equal(update(documentOf(), [passed("a")]).document.jobs.size, 0);
  });

  test("the window keeps the last CUMULATIVE_LENGTH executions, also of a document with longer ones", () => {
    const job = history("✗·✗·✗·✗·✗·");
    assert.equal(stripOf(updateJob(job, failed("a")).job), "·✗·✗·✗·✗·✗");
    assert.equal(stripOf(updateJob(job, failed("a"), { CUMULATIVE_LENGTH: "5" }).job), "✗·✗·✗");
    assert.equal(stripOf(updateJob(job, undefined, { CUMULATIVE_LENGTH: "5" }).job), "·✗·✗·");
  });

  test("failures in a row count on where the window has long forgotten the first of them", () => {
    const { job } = updateJob(history("✗✗✗✗✗✗✗✗✗✗", { consecutive_failures: 40 }), failed("a"));
    assert.deepEqual([job?.consecutive_failures, stripOf(job)], [41, "✗✗✗✗✗✗✗✗✗✗"]);
  });

  test("a window of passes alone is dropped when it is full, unless its alert is open", () => {
    const closed = history("·".repeat(10));
    assert.equal(isDropped(closed, NOW), true);
    assert.equal(isDropped(history("·".repeat(9)), NOW), false);
    assert.equal(isDropped({ ...closed, alert: openAlert("cumulative") }, NOW), false);
    assert.equal(isDropped(closed, NOW, { CUMULATIVE_LENGTH: "11" }), false);
  });

  test("a job that did not run for longer than EXPIRE_AFTER_DAYS is dropped, even if its alert is open", () => {
    const job = history("✗✗✗", { last_run: "2026-11-20T10:00:00Z", alert: openAlert("consecutive") });
    const variables = { EXPIRE_AFTER_DAYS: "3" };
    assert.equal(isDropped(job, new Date("2026-11-23T10:00:00Z"), variables), false);
    assert.equal(isDropped(job, new Date("2026-11-23T10:00:01Z"), variables), true);
    assert.equal(isDropped(job, new Date("2026-11-23T10:00:01Z"), { ...variables, NOT_RUN_JOBS: "pass" }), true);
  });

  test("the time of a job without last_run begins with this pipeline", () => {
    const { document } = update(documentOf(["a", history("✗", { last_run: undefined })]), []);
    assert.equal(document.jobs.get("a")?.last_run, "2026-11-23T10:00:00.000Z");
  });

  test("a job that ran has run now, one that did not has not", () => {
    const jobs = ["failed", "passed", "skipped"].map((name): [string, TrackedJob] => [name, history("✗")]);
    const { document } = update(documentOf(...jobs), [failed("failed"), passed("passed")], { NOT_RUN_JOBS: "pass" });
    const now = "2026-11-23T10:00:00.000Z";
    assert.deepEqual(
      [...document.jobs.values()].map((job) => job.last_run),
      [now, now, history("✗").last_run],
    );
  });

  test("pending alerts are kept", () => {
    const pending_alerts = [pendingAlert("x")];
    assert.deepEqual(update({ ...documentOf(), pending_alerts }, []).document.pending_alerts, pending_alerts);
  });

  test("changes nothing that it is given", async () => {
    const open = { alert: openAlert("cumulative") };
    const before = documentOf(
      ["escalates", history("✗·✗✗", open)],
      ["fails", history("·✗✗✗✗✗✗✗✗✗")],
      ["recovers", history("✗··", open)],
      ["did not run", history("✗", { last_run: undefined })],
      ["is dropped", history("·".repeat(10))],
    );
    const ran = [failed("escalates"), failed("fails"), passed("recovers"), failed("is new")];
    const text = await textOf(before);
    const { document } = update(deepFreeze(before), deepFreeze(ran));
    assert.equal(await textOf(before), text);
    assert.notEqual(await textOf(document), text);
  });
});

describe("updateStatistics() turned", () => {
  const COMMIT = { CI_COMMIT_SHA: "0ddba11", CI_COMMIT_TITLE: "Add a cart", CI_COMMIT_AUTHOR: "Ada <ada@example.com>" };
  const turnedOf = (
    strip: string,
    ran: PipelineJob | undefined,
    rest: Partial<TrackedJob> = {},
    more: Variables = {},
  ) => updateJob(history(strip, rest), ran, { ...COMMIT, ...more }).job?.turned;

  test("is the commit with which a job fails that passed or was not tracked, and the one before it", () => {
    const turned = { commit: "0ddba11", title: "Add a cart", author: "Ada" };
    assert.deepEqual(turnedOf("✗·", failed("a")), { ...turned, from: "c0ffee02" });
    assert.deepEqual(turnedOf("✗", passed("a")), { ...turned, from: "c0ffee01" });
    const { document } = update({ ...documentOf(), commit: "77aa01d3" }, [failed("a")], COMMIT);
    assert.deepEqual(document.jobs.get("a")?.turned, { ...turned, from: "77aa01d3" });
    assert.equal(document.commit, "0ddba11");
    assert.equal(document.counted_at, NOW.toISOString());
  });

  test("has no commit before it where nobody knows one", () => {
    const { document } = update(documentOf(), [failed("a")], COMMIT);
    assert.equal(document.jobs.get("a")?.turned?.from, undefined);
  });

  test("stays while a job goes on as it did, or does not run", () => {
    const turned = { commit: "c0ffee01" };
    assert.deepEqual(turnedOf("✗✗", failed("a"), { turned }), turned);
    assert.deepEqual(turnedOf("✗··", passed("a"), { turned }), turned);
    assert.deepEqual(turnedOf("✗", undefined, { turned }), turned);
    assert.deepEqual(turnedOf("✗", undefined, { turned }, { NOT_RUN_JOBS: "pass" }), turned);
    const long = { turned, consecutive_failures: 12 };
    assert.deepEqual(turnedOf("✗✗✗✗✗✗✗✗✗✗", failed("a"), long), turned);
  });

  test("is the first pass with a commit, also after passes without one", () => {
    const notRun = { id: null, failing: false, commit: null };
    const jobs_info = [{ id: 101, failing: true, commit: "c0ffee01" }, notRun];
    const turned = turnedOf("", passed("a"), { jobs_info, turned: { commit: "c0ffee01" } });
    assert.equal(turned?.commit, "0ddba11");
  });

  const TITLES: [title: string, given: Variables, told: string | undefined][] = [
    ["a title", { CI_COMMIT_TITLE: "Add a cart", CI_COMMIT_DESCRIPTION: "\n\nAs asked for\n" }, "Add a cart"],
    ["a whole message", { CI_COMMIT_TITLE: "Add a cart\r\n\r\nAs asked for" }, "Add a cart"],
    [
      "a merge by GitLab",
      {
        CI_COMMIT_TITLE: "Merge branch 'x' into 'main'",
        CI_COMMIT_DESCRIPTION: "\nMerge branch 'x'\n \nAdd a cart\n\nSee !1",
      },
      "Add a cart",
    ],
    ["a merge by GitHub", { CI_COMMIT_TITLE: "Merge pull request #1 from acme/x\n\nAdd a cart" }, "Add a cart"],
    [
      "a merge that says no more",
      { CI_COMMIT_TITLE: "Merge branch 'x'", CI_COMMIT_DESCRIPTION: "\n" },
      "Merge branch 'x'",
    ],
    ["a long title", { CI_COMMIT_TITLE: "x".repeat(5_000) }, "x".repeat(150)],
    ["a title that would be cut within a character", { CI_COMMIT_TITLE: `${"x".repeat(149)}🧪` }, "x".repeat(149)],
    ["no title", { CI_COMMIT_TITLE: undefined }, undefined],
  ];
  for (const [title, given, told] of TITLES) {
    test(`has the line that says something of ${title}`, () => {
      assert.equal(turnedOf("", failed("a"), {}, given)?.title, told);
    });
  }
});

describe("updateStatistics() ignores", () => {
  test("jobs of IGNORE_JOBS, and drops those that it tracks without a word", () => {
    const before = documentOf(["deploy: eu", history("✗✗✗", { alert: openAlert("consecutive") })], ["b", history("✗")]);
    const { document, reached, news } = update(before, [failed("deploy: us"), failed("b")], {
      IGNORE_JOBS: "deploy:*",
    });
    assert.deepEqual([...document.jobs.keys()], ["b"]);
    assert.deepEqual([news, reached.gone], [[], []]);
  });

  test("failures of IGNORE_FAILURES, which keep a job's history, with NOT_RUN_JOBS=pass too", () => {
    const ignoring = { IGNORE_FAILURES: "runner_* stuck_or_timeout_failure" };
    const stripAfter = (reason: string | undefined, more: Variables = {}) =>
      stripOf(updateJob(history("✗✗"), failed("a", { reason }), { ...ignoring, ...more }).job);
    assert.equal(stripAfter("runner_system_failure"), "✗✗");
    assert.equal(stripAfter("stuck_or_timeout_failure", { NOT_RUN_JOBS: "pass" }), "✗✗");
    assert.equal(stripAfter("script_failure"), "✗✗✗");
    assert.equal(stripAfter(undefined), "✗✗✗");
  });
});

describe("updateStatistics() recovery and end", () => {
  const open = { alert: openAlert("consecutive") };
  const notRun = { id: null, failing: false, commit: null };

  test("a job recovers only if it really ran in one of those passes", () => {
    const passes = (...commits: (string | null)[]) => commits.map((commit) => ({ ...notRun, commit }));
    const failures = history("✗✗✗").jobs_info;
    const kindsAfter = (jobs_info: TrackedJob["jobs_info"], ran: PipelineJob | undefined) =>
      updateJob({ ...history("", open), jobs_info }, ran, { NOT_RUN_JOBS: "pass" }).kinds;
    assert.deepEqual(kindsAfter([...failures, ...passes(null, null)], undefined), []);
    assert.deepEqual(kindsAfter([...failures, ...passes(null, null)], passed("a")), ["recovered"]);
    assert.deepEqual(kindsAfter([...failures, ...passes("c0ffee04", null)], undefined), ["recovered"]);
  });

  test("a job that only failed often recovers without a word, and its alert closes", () => {
    const { kinds, told, job } = updateJob(history("✗✗·✗··", { alert: openAlert("cumulative") }), passed("a"));
    assert.deepEqual([kinds, told, job?.alert], [["recovered"], [], undefined]);
  });

  test("a job with an open alert that expires is gone, and one without goes without a word", () => {
    const old = { last_run: "2026-10-23T10:00:00Z" };
    for (const kind of ["consecutive", "cumulative"] as const) {
      const gone = updateJob(history("✗✗✗", { alert: openAlert(kind), ...old }), undefined);
      assert.deepEqual([gone.kinds, gone.told, gone.job], [["gone"], ["gone"], undefined]);
    }
    const quiet = updateJob(history("✗✗✗", old), undefined);
    assert.deepEqual([quiet.kinds, quiet.told, quiet.job], [[], [], undefined]);
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

const NAMES = ["a", "b", "__proto__"];
const anOutcome = fc.constantFrom("failed", "failed", "passed", "absent");
const somePipelines = fc.array(fc.tuple(...NAMES.map(() => anOutcome)), { minLength: 1, maxLength: 40 });
const someVariables = fc
  .record({
    CONSECUTIVE_THRESHOLD: fc.integer({ min: 1, max: 6 }),
    CUMULATIVE_LENGTH: fc.integer({ min: 1, max: 12 }),
    CUMULATIVE_THRESHOLD: fc.integer({ min: 1, max: 6 }),
    RECOVERY_THRESHOLD: fc.integer({ min: 1, max: 4 }),
    NOT_RUN_JOBS: fc.constantFrom("keep", "pass"),
  })
  .filter((set) => Math.max(set.CUMULATIVE_THRESHOLD, set.RECOVERY_THRESHOLD) <= set.CUMULATIVE_LENGTH)
  .map((set) => Object.fromEntries(Object.entries(set).map(([variable, value]) => [variable, `${value}`])));

/** The jobs of a pipeline in which the n-th of NAMES had the n-th outcome. */
const jobsWith = (outcomes: string[], pipeline: number) =>
  outcomes.flatMap((outcome, i) => {
    const job = { id: pipeline * 10 + i };
    if (outcome === "absent") return [];
    return outcome === "failed" ? failed(NAMES[i] ?? "", job) : passed(NAMES[i] ?? "", job);
  });

/** The updates that pipelines make, one after the other. */
function play(pipelines: string[][], variables: Variables) {
  const { pipeline, limits } = settings(variables);
  let document = createInitialJobExecutions();
  return pipelines.map((outcomes, i) => {
    const facts = { pipeline: { ...pipeline, CI_PIPELINE_ID: i + 1 }, limits, now: NOW };
    const result = updateStatistics(document, jobsWith(outcomes, i + 1), facts);
    document = result.document;
    return result;
  });
}

describe("updateStatistics() whatever happens", () => {
  test("a window is never longer than CUMULATIVE_LENGTH, and ends with the failures in a row", () => {
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const { document } = play(pipelines, variables).at(-1) ?? { document: documentOf() };
        for (const { consecutive_failures, jobs_info } of document.jobs.values()) {
          const trailing = jobs_info.length - 1 - jobs_info.findLastIndex((execution) => !execution.failing);
          assert.ok(jobs_info.length <= Number(variables.CUMULATIVE_LENGTH), `${jobs_info.length} executions`);
          assert.equal(trailing, Math.min(consecutive_failures, jobs_info.length));
        }
      }),
    );
  });

  test("the alerts of a job are told once each: opened, at most one escalation, recovered where it was broken", () => {
    const letters = { consecutive: "C", cumulative: "c", recovered: "r", gone: "g" };
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const news = play(pipelines, variables).flatMap((result) => result.news);
        for (const name of NAMES) {
          const told = news.filter((item) => item.name === name).map((item) => letters[item.kind]);
          // A job that only failed often recovers without a word.
          assert.match(told.join(""), /^(c?Cr|c)*(c?C)?$/);
        }
      }),
    );
  });

  test("an alert is open exactly while it was told and the job has not recovered", () => {
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const updates = play(pipelines, variables);
        const last = new Map<string, string>();
        for (const { news, reached } of updates) {
          for (const { name, kind } of news) last.set(name, kind);
          for (const name of reached.recovered) last.set(name, "recovered");
        }
        const open = NAMES.map((name) => updates.at(-1)?.document.jobs.get(name)?.alert?.kind ?? "recovered");
        assert.deepEqual(
          open,
          NAMES.map((name) => last.get(name) ?? "recovered"),
        );
      }),
    );
  });

  test("the order in which jobs are listed or stored does not matter", () => {
    const someJobs = fc.uniqueArray(fc.tuple(fc.constantFrom(...NAMES, "c", "d"), fc.constantFrom(failed, passed)), {
      maxLength: 5,
      selector: ([name]) => name,
    });
    const stored = documentOf(
      ["a", history("✗✗")],
      ["b", history("✗✗✗··", { alert: openAlert("consecutive") })],
      ["__proto__", history("✗·✗·✗·✗·")],
    );
    const shuffled = someJobs.chain((listed) => {
      const ran = listed.map(([name, build], i) => build(name, { id: i + 1 }));
      return fc.tuple(fc.constant(ran), fc.shuffledSubarray(ran, { minLength: ran.length }));
    });
    const whole = async (document: JobExecutions, ran: PipelineJob[]) => {
      const { document: after, reached } = update(document, ran);
      const kinds = Object.values(reached).map((names) => [...names].sort((a, b) => (`${a}` < `${b}` ? -1 : 1)));
      return { kinds, after: await textOf(after) };
    };
    const reversed = { ...stored, jobs: new Map([...stored.jobs].reverse()) };
    return fc.assert(
      fc.asyncProperty(shuffled, async ([ran, otherwise]) => {
        assert.deepEqual(await whole(reversed, otherwise), await whole(stored, ran));
      }),
    );
  });
});

describe("uploadJobExecutions() and retrieveJobExecutions()", () => {
  // Without backslashes: where a key ends with one, the JSON.parse of V8 13 may take the next `"` in its place for one.
  const aText = fc.string({ unit: "binary", maxLength: 255 }).filter((text) => !text.includes("\\"));
  const aName = fc.oneof(
    aText,
    fc.constantFrom("__proto__", "constructor", "prototype", "toString", "pipeline_id", "1", "\u0000", '"', "a\\b c"),
  );
  const aValue = fc.oneof(aText, fc.integer(), fc.boolean(), fc.constant({ a: [null, { b: 0.1 }] }));
  const unknownKeys = fc.dictionary(
    aText.map((key) => `x-${key}`),
    aValue,
  );
  const anExecution = fc.oneof(
    fc.record({ id: fc.nat(), failing: fc.constant(true), commit: fc.constantFrom("abcdef42", null) }),
    fc.constant({ id: null, failing: false }),
  );
  const at = "2026-11-23T10:00:00Z";
  const anAlert = unknownKeys.map((unknown) => ({ ...unknown, kind: "cumulative", pipeline_id: 1001, at }));
  const aPendingAlert = unknownKeys.map((unknown) => ({ ...unknown, id: "1", channel: "#ci", text: "...", due: at }));
  const aJob = fc
    .tuple(unknownKeys, anAlert, fc.record({ consecutive_failures: fc.nat(), jobs_info: fc.array(anExecution) }))
    .map(([unknown, alert, known]) => ({ ...unknown, ...known, alert }));
  const aDocument = fc
    .tuple(unknownKeys, fc.nat(), fc.array(fc.tuple(aName, aJob), { maxLength: 5 }), aPendingAlert)
    .map(([unknown, pipeline_id, jobs, pending]) => ({
      ...unknown,
      pipeline_id,
      jobs: Object.fromEntries(jobs),
      pending_alerts: [pending],
    }));

  test("keep every name and every key of a document", async () => {
    await fc.assert(
      fc.asyncProperty(aDocument, async (document) => {
        const text = JSON.stringify(document);
        const read = await retrieveJobExecutions(memoryStore(text).store, signal);
        // As a map, because assert may take the job __proto__ for the prototype.
        const parse = (json: string) => {
          const { jobs, ...others } = JSON.parse(json);
          return { others, jobs: new Map(Object.entries(jobs)) };
        };
        assert.deepEqual(parse(await textOf(read?.document ?? documentOf())), parse(text));
      }),
    );
  });
});
