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

const textOf = async (document: JobExecutions) => formatDocument(await serializeDocument(document));

describe("updateStatistics() reached, as the original computes it", () => {
  const kindsAfter = (strip: string) => updateJob(history(strip), failed("a")).kinds;

  test("consecutive is reached at the threshold, neither before nor after it", () => {
    assert.deepEqual(["✗", "✗✗", "✗✗✗"].map(kindsAfter), [[], ["consecutive"], []]);
  });

  test("cumulative is reached at the threshold, neither before nor after it", () => {
    assert.deepEqual(["✗·✗·✗·", "✗·✗·✗·✗·", "✗✗·✗·✗✗·"].map(kindsAfter), [[], ["cumulative"], []]);
  });

  test("cumulative counts what is left in the window after this execution", () => {
    assert.deepEqual(kindsAfter("✗✗·✗·✗···✗"), ["cumulative"]);
    assert.deepEqual(kindsAfter("✗·✗·✗····✗"), []);
  });

  test("cumulative counts failures from before the last alert as well", () => {
    const { kinds, told } = updateJob(history("✗✗✗···✗", { executions_since_alert: 1 }), failed("a"));
    assert.deepEqual([kinds, told], [["cumulative"], []]);
  });

  test("a threshold that was passed before it was lowered is not reached, though its alert opens", () => {
    const { kinds, told } = updateJob(history("✗✗✗✗✗"), failed("a"));
    assert.deepEqual([kinds, told], [[], ["consecutive"]]);
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

  test("JOB_THRESHOLDS change nothing of it", () => {
    const own = { JOB_THRESHOLDS: "a=7/2" };
    assert.deepEqual(updateJob(history("✗✗"), failed("a"), own).kinds, ["consecutive"]);
    assert.deepEqual(updateJob(history("✗·✗·✗·✗·"), failed("a"), own).kinds, ["cumulative"]);
  });

  test("thresholds of one are one alert at the first failure", () => {
    const { kinds, told } = updateJob(history(""), failed("a"), {
      CONSECUTIVE_THRESHOLD: "1",
      CUMULATIVE_THRESHOLD: "1",
    });
    assert.deepEqual([kinds, told], [["consecutive", "cumulative"], ["consecutive"]]);
  });
});

describe("changeOf()", () => {
  const broken = { alert: openAlert("consecutive") };
  const often = { alert: openAlert("cumulative") };
  const none: Partial<TrackedJob> = {};
  type Case = [why: string, strip: string, before: Partial<TrackedJob>, change: ReturnType<typeof changeOf>];

  const CASES: Record<string, Case[]> = {
    "opens an alert": [
      ["not below both thresholds", "✗·✗✗", none, undefined],
      ["as broken at the threshold in a row", "·✗✗✗", none, "consecutive"],
      ["as broken above that threshold", "·✗✗✗✗", none, "consecutive"],
      ["as broken for a streak longer than its window", "✗✗✗✗✗✗✗✗✗✗", { consecutive_failures: 40 }, "consecutive"],
      ["not below the threshold in the window", "✗·✗·✗·✗", none, undefined],
      ["as failing often at the threshold in the window", "✗·✗·✗·✗·✗", none, "cumulative"],
      ["as failing often above that threshold", "✗✗·✗✗·✗✗", none, "cumulative"],
      ["as broken where both are reached", "✗·✗·✗✗✗", none, "consecutive"],
      ["not with a pass", "✗✗·✗✗·✗✗·", none, undefined],
      ["not by failures before its last alert closed", "✗✗✗···✗·✗", { executions_since_alert: 3 }, undefined],
      ["by enough failures since then", "✗···✗✗·✗✗·✗".slice(-10), { executions_since_alert: 7 }, "cumulative"],
      ["as broken by enough in a row since then", "✗✗···✗✗✗", { executions_since_alert: 3 }, "consecutive"],
    ],
    "turns failing often into broken": [
      ["not at the threshold in a row", "✗·✗·✗·✗✗✗", often, undefined],
      ["not one below the larger threshold in a row", "✗·✗·✗✗✗✗", often, undefined],
      ["at the larger threshold in a row", "✗·✗·✗✗✗✗✗", often, "consecutive"],
      ["above that, as after lowering it", "✗·✗✗✗✗✗✗✗", often, "consecutive"],
      ["not by as many that are not in a row", "✗✗✗✗·✗✗✗✗", often, undefined],
    ],
    "leaves a broken job alone": [
      ["that goes on failing", "✗✗✗✗", broken, undefined],
      ["that fails again before it has looked mended", "✗✗✗··✗✗✗✗✗".slice(-10), broken, undefined],
      ["that failed less often than the larger threshold since it looked mended", "✗···✗✗✗✗", broken, undefined],
      ["that failed more often than that since it looked mended", "···✗✗✗✗✗✗", broken, undefined],
    ],
    "reports a broken job once more": [
      ["that had looked mended, at the larger threshold in a row", "✗···✗✗✗✗✗", broken, "consecutive"],
      ["that had looked mended for long", "✗····✗✗✗✗✗", broken, "consecutive"],
    ],
    "closes an alert": [
      ["not before enough passes", "✗✗✗··", broken, undefined],
      ["at enough passes behind one streak", "✗✗✗···", broken, "recovered"],
      ["behind one streak that is not the whole window", "··✗✗✗···", broken, "recovered"],
      ["at more passes, as after lowering RECOVERY_THRESHOLD", "✗✗✗·····", broken, "recovered"],
      ["not while the window has two streaks", "✗·✗✗✗···", broken, undefined],
      ["not while the window has two streaks far apart", "✗····✗····", broken, undefined],
      ["of a job that failed often, by the same rule", "·✗·······", often, "recovered"],
      ["not of a job that failed often and passes by chance", "✗·✗·✗·✗···", often, undefined],
      ["where the window has passes alone", "··········", broken, "recovered"],
      ["not where none is open", "✗✗✗···", none, undefined],
      ["not with a failure", "···✗", broken, undefined],
    ],
  };
  for (const [rule, cases] of Object.entries(CASES)) {
    for (const [why, strip, before, change] of cases) {
      test(`${rule} ${why}: ${strip}`, () => {
        assert.equal(changeOf(history(strip, before), { inARow: 3, often: 5 }, { RECOVERY_THRESHOLD: 3 }), change);
      });
    }
  }

  test("goes by the thresholds that it is given, the larger of which makes a job surely broken", () => {
    const change = (strip: string, inARow: number, often: number, before = none) =>
      changeOf(history(strip, before), { inARow, often }, { RECOVERY_THRESHOLD: 2 });
    assert.deepEqual([change("✗", 2, 4), change("✗✗", 2, 4)], [undefined, "consecutive"]);
    assert.deepEqual([change("✗·✗", 4, 3), change("✗·✗·✗", 4, 3)], [undefined, "cumulative"]);
    assert.deepEqual([change("✗✗✗", 4, 2, often), change("✗✗✗✗", 4, 2, often)], [undefined, "consecutive"]);
    assert.deepEqual([change("✗✗✗", 2, 4, often), change("✗✗✗✗", 2, 4, often)], [undefined, "consecutive"]);
    assert.deepEqual([change("··✗✗✗", 4, 2, broken), change("··✗✗✗✗", 4, 2, broken)], [undefined, "consecutive"]);
    assert.deepEqual([change("✗·", 2, 4, broken), change("✗··", 2, 4, broken)], [undefined, "recovered"]);
  });

  test("closes no alert by passes none of which really ran", () => {
    const passes = (...commits: (string | null)[]) =>
      commits.map((commit): Execution => ({ id: null, failing: false, commit }));
    const changeAfter = (...commits: (string | null)[]) => {
      const jobs_info = [...history("✗✗✗").jobs_info, ...passes(...commits)];
      return changeOf({ ...history("", broken), jobs_info }, { inARow: 3, often: 5 }, { RECOVERY_THRESHOLD: 3 });
    };
    assert.equal(changeAfter(null, null, null), undefined);
    assert.equal(changeAfter("c0ffee04", null, null, null), undefined);
    assert.equal(changeAfter("c0ffee04", null, null), "recovered");
    assert.equal(changeAfter(null, null, "c0ffee04"), "recovered");
  });
});

describe("updateStatistics() tells over time", () => {
  const SEQUENCES: [why: string, outcomes: string, told: string, variables?: Variables][] = [
    ["a clean job at its third failure and its third pass", "PFFFPPP", "...B..r"],
    ["nothing of one red run after a recovery", "FFFFPPPF", "..B...r."],
    ["nothing of two red runs after a recovery", "FFFPPPFPF", "..B..r..."],
    ["a job that fails often after a recovery, by what it failed since", "FFFPPPFPFPFPFPF", "..B..r........o"],
    ["a job that breaks again after its recovery", "FFFPPPFFFPPPP", "..B..r..B...r"],
    ["a job that fails every second run, once", "FP".repeat(50), `${".".repeat(8)}o${".".repeat(91)}`],
    ["nothing of three passes of a job that goes on failing by chance", "FFFPFPPPFPFF", "..B........."],
    ["a break behind the open alert of a flaky past", "FFFPFPPPFFFFF", "..B.........B"],
    ["a flaky job that breaks at the fifth failure in a row", "FPFPFPFPFPFFFFFF", "........o.....B."],
    ["its recovery when the failures in the window are one streak", "FPFPFPFPFPFFFFFPPPP", "........o.....B...r"],
    ["no recovery of a job that only failed often", `FPFPFPFPF${"P".repeat(12)}`, `........o${".".repeat(12)}`],
    ["nothing of what did not run", "F-F--F-P-P-P", ".....B.....r"],
    [
      "such a job once in a window of thirty",
      "FP".repeat(50),
      `${".".repeat(8)}o${".".repeat(91)}`,
      { CUMULATIVE_LENGTH: "30" },
    ],
  ];
  for (const [why, outcomes, told, variables] of SEQUENCES) {
    test(`${why}: ${outcomes.slice(0, 30)}`, () => {
      assert.equal(toldIn(outcomes, variables), told);
    });
  }

  test("a threshold in a row that was lowered, at the next failure", () => {
    const high = { CONSECUTIVE_THRESHOLD: "6", CUMULATIVE_THRESHOLD: "6" };
    const before = playSequence("FFFF", high).at(-1)?.document;
    assert.equal(toldIn("FFFF", high), "....");
    assert.equal(toldIn("-F", {}, before), ".B");
    assert.equal(toldIn("P", {}, before), ".");
  });

  test("a threshold in the window that was lowered, at the next failure", () => {
    const high = { CUMULATIVE_THRESHOLD: "8" };
    const before = playSequence("FPFFPFFPF", high).at(-1)?.document;
    assert.equal(toldIn("FPFFPFFPF", high), ".........");
    assert.equal(toldIn("PF", {}, before), ".o");
  });

  test("a job again that went on failing often when its alert was taken out of the document", () => {
    const before = playSequence("FP".repeat(20)).at(-1)?.document ?? documentOf();
    const jobs = new Map([...before.jobs].map(([name, { alert: _, ...job }]) => [name, job]));
    assert.equal(toldIn("F", {}, { ...before, jobs }), "o");
  });

  test("an alert stays open since when it opened, whatever it becomes", () => {
    const alerts = playSequence("FPFPFPFPFPFFFFF").map(({ document }) => document.jobs.get("a")?.alert);
    const at = later(9 * HOUR).toISOString();
    assert.deepEqual(alerts[7], undefined);
    assert.deepEqual(alerts[8], { kind: "cumulative", pipeline_id: 9, at });
    assert.deepEqual(alerts[14], { kind: "consecutive", pipeline_id: 9, at });
  });

  test("an alert is gone from the document once it has closed, in silence or not", () => {
    for (const sequence of ["FFFPPP", `FPFPFPFPF${"P".repeat(8)}`]) {
      const { document, reached } = playSequence(sequence).at(-1) ?? update(documentOf(), []);
      assert.deepEqual([document.jobs.get("a")?.alert, reached.recovered], [undefined, ["a"]]);
    }
  });
});

describe("updateStatistics() JOB_THRESHOLDS", () => {
  const CASES: [why: string, thresholds: string, outcomes: string, told: string][] = [
    ["its threshold in a row", "a=5", "FFFFF", "....B"],
    ["a larger one, not told at five in the window", "a=7", "FFFFFFF", "......B"],
    ["a smaller one, in the window that for all jobs", "a=2", "FPFPFPFPF", "........o"],
    ["both of its thresholds", "a=4/3", "FPFPF", "....o"],
    ["the larger of its two where failing often becomes broken", "a=2/4", "FPFPFPFFFF", "......o..B"],
    ["the last pattern that matches", "a=2 *=4 b=1", "FFFF", "...B"],
    ["none of a pattern that does not match", "b=1 ab=1", "FFF", "..B"],
  ];
  for (const [why, thresholds, outcomes, told] of CASES) {
    test(`gives a job ${why}: ${thresholds}`, () => {
      assert.equal(toldIn(outcomes, { JOB_THRESHOLDS: thresholds }), told);
    });
  }

  test("matches whole names, with a space that is escaped", () => {
    const { news } = update(documentOf(["nightly build", history("✗")]), [failed("nightly build"), failed("nightly")], {
      JOB_THRESHOLDS: "nightly\\ *=2/4",
    });
    assert.deepEqual(
      news.map(({ job, kind }) => [job, kind]),
      [["nightly build", "consecutive"]],
    );
  });
});

describe("updateStatistics() news", () => {
  const newsIn = (sequence: string) => playSequence(sequence).flatMap(({ news }) => news);
  const first = (sequence: string) => newsIn(sequence).at(-1);

  test("of a broken job has its streak, since when, and the job as its CI lists it", () => {
    const before = documentOf(["a", history("✗·✗✗")]);
    const job = failed("a", { id: 200, stage: "test", reason: "timed_out", url: "https://ci.example.com/200" });
    assert.deepEqual(update(before, [job]).news, [
      {
        kind: "consecutive",
        job: "a",
        job_id: 200,
        url: "https://ci.example.com/200",
        stage: "test",
        reason: "timed_out",
        times: 3,
        executions: 3,
        ids: [103, 104, 200],
        turned: undefined,
        since: NOW.toISOString(),
      },
    ]);
  });

  test("of a broken job counts failures that its window no longer holds", () => {
    const job = history("✗✗✗✗✗✗✗✗✗✗", { consecutive_failures: 40, alert: openAlert("cumulative") });
    const { news } = updateJob(job, failed("a"));
    assert.deepEqual([news[0]?.times, news[0]?.ids.length], [41, 10]);
  });

  test("of a job that fails often counts what it did since its last alert", () => {
    const { times, executions, turned } = first("FFFPPPFPFPFPFPF") ?? {};
    assert.deepEqual([times, executions, turned], [5, 9, undefined]);
    assert.deepEqual([first("PPFPFPFPFPF")?.times, first("PPFPFPFPFPF")?.executions], [5, 9]);
  });

  test("of a recovery has its passes, and since when the alert was open", () => {
    const { kind, times, ids, since } = first("FFFPPP") ?? {};
    assert.deepEqual([kind, times, ids, since], ["recovered", 3, [], later(3 * HOUR).toISOString()]);
  });

  test("of a job that is gone has when it ran last, and its latest failure", () => {
    const last_run = "2026-10-01T10:00:00Z";
    const { news } = updateJob(history("✗✗✗", { last_run, alert: openAlert("consecutive") }), undefined);
    assert.deepEqual(
      news.map(({ kind, since, job_id, ids }) => [kind, since, job_id, ids]),
      [["gone", last_run, 103, []]],
    );
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

  test("has the pipeline that was counted, its commit, and when", () => {
    const { document } = update(documentOf(), [], { CI_PIPELINE_ID: "1005", CI_COMMIT_SHA: "abcdef42" });
    const { pipeline_id, commit, counted_at } = document;
    assert.deepEqual([pipeline_id, commit, counted_at], [1005, "abcdef42", NOW.toISOString()]);
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

  test("a job that did not run keeps its history, or with NOT_RUN_JOBS=pass passed without a commit", () => {
    const job = history("✗✗");
    assert.deepEqual(updateJob(job, undefined).job, job);
    const counted = updateJob(job, undefined, { NOT_RUN_JOBS: "pass" }).job;
    assert.deepEqual(counted?.jobs_info.at(-1), { id: null, failing: false, commit: null });
    assert.equal(counted?.consecutive_failures, 0);
  });

  test("executions_since_alert counts from the end of the alert, until that is a whole window ago", () => {
    const counts = playSequence(`FFFPPPF${"P".repeat(5)}-FPPPF`).map(
      ({ document }) => document.jobs.get("a")?.executions_since_alert,
    );
    assert.deepEqual(counts, [
      ...Array.from({ length: 5 }, () => undefined),
      ...[0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9],
      ...[undefined, undefined],
    ]);
  });

  test("executions_since_alert is as long as CUMULATIVE_LENGTH, and not there before the first alert", () => {
    const countAfter = (since: number | undefined, variables: Variables = {}) =>
      updateJob(history("✗·", { executions_since_alert: since }), passed("a"), variables).job?.executions_since_alert;
    assert.deepEqual([countAfter(undefined), countAfter(9), countAfter(8)], [undefined, undefined, 9]);
    assert.equal(countAfter(9, { CUMULATIVE_LENGTH: "11" }), 10);
  });

  test("unknown keys survive, at the top, in a job and in an execution", async () => {
    const before = await parseDocument(
      JSON.stringify({
        pipeline_id: 1,
        team: "ci",
        jobs: {
          a: {
            consecutive_failures: 1,
            jobs_info: [{ id: 1, failing: true, commit: "c0ffee01", took: 7 }],
            note: "slow",
          },
        },
      }),
    );
    const after = JSON.parse(await serializeDocument(update(before, [failed("a")]).document));
    assert.deepEqual([after.team, after.jobs.a.note, after.jobs.a.jobs_info[0].took], ["ci", "slow", 7]);
  });

  test("pending alerts are kept", () => {
    const pending_alerts = [pendingAlert("x")];
    assert.deepEqual(update({ ...documentOf(), pending_alerts }, []).document.pending_alerts, pending_alerts);
  });

  test("changes nothing that it is given", async () => {
    const open = { alert: openAlert("cumulative") };
    const before = documentOf(
      ["escalates", history("✗·✗✗✗✗", open)],
      ["fails", history("·✗✗✗✗✗✗✗✗✗")],
      ["recovers", history("✗··", open)],
      ["did not run", history("✗", { last_run: undefined })],
      ["is dropped", history("·".repeat(10))],
    );
    before.passed.set("begins to fail", { commit: "c0ffee01", at: NOW.toISOString() });
    const ran = [failed("escalates"), failed("fails"), passed("recovers"), failed("is new"), failed("begins to fail")];
    const text = await textOf(before);
    const { document } = update(deepFreeze(before), deepFreeze(ran));
    assert.equal(await textOf(before), text);
    assert.notEqual(await textOf(document), text);
  });
});

describe("updateStatistics() passed", () => {
  const at = NOW.toISOString();
  const withPasses = (...entries: [name: string, commit: string, at: string][]) => ({
    ...documentOf(),
    passed: new Map(entries.map(([name, commit, at]) => [name, { commit, at }])),
  });
  const COMMIT = { CI_COMMIT_SHA: "abcdef42" };

  test("has the commit with which a job that is not tracked passed last, and when", () => {
    const before = withPasses(["a", "c0ffee01", "2026-11-22T10:00:00Z"]);
    const { document } = update(before, [passed("a"), passed("b")], COMMIT);
    assert.equal(document.jobs.size, 0);
    assert.deepEqual(
      [...document.passed],
      [
        ["a", { commit: "abcdef42", at }],
        ["b", { commit: "abcdef42", at }],
      ],
    );
  });

  test("keeps what it has of a job that did not run, with NOT_RUN_JOBS=pass too", () => {
    const before = withPasses(["a", "c0ffee01", "2026-11-22T10:00:00Z"]);
    for (const NOT_RUN_JOBS of ["keep", "pass"]) {
      assert.deepEqual(update(before, [], { ...COMMIT, NOT_RUN_JOBS }).document.passed, before.passed);
    }
  });

  test("loses a job that fails, as it is tracked then", () => {
    const { document } = update(withPasses(["a", "c0ffee01", at]), [failed("a")]);
    assert.deepEqual([document.passed.size, [...document.jobs.keys()]], [0, ["a"]]);
  });

  test("keeps a job whose failure is ignored", () => {
    const before = withPasses(["a", "c0ffee01", at]);
    const { document } = update(before, [failed("a", { reason: "stuck" })], { IGNORE_FAILURES: "stuck" });
    assert.deepEqual([document.passed, document.jobs.size], [before.passed, 0]);
  });

  test("loses a job of IGNORE_JOBS", () => {
    const before = withPasses(["deploy: eu", "c0ffee01", at], ["a", "c0ffee01", at]);
    const { document } = update(before, [passed("deploy: us")], { IGNORE_JOBS: "deploy:*" });
    assert.deepEqual([...document.passed.keys()], ["a"]);
  });

  test("gets a job whose window has passes alone, when it is full and no alert is open", () => {
    const closed = history("·".repeat(9));
    const { document } = update(documentOf(["a", closed]), [passed("a")], COMMIT);
    assert.deepEqual([document.jobs.size, document.passed.get("a")], [0, { commit: "abcdef42", at }]);
    for (const [strip, rest, variables] of [
      ["·".repeat(8), {}, {}],
      [`✗${"·".repeat(8)}`, {}, {}],
      ["·".repeat(9), {}, { CUMULATIVE_LENGTH: "11" }],
      ["·".repeat(9), { alert: openAlert("cumulative") }, { RECOVERY_THRESHOLD: "10", CUMULATIVE_LENGTH: "11" }],
    ] as const) {
      const { document } = update(documentOf(["a", history(strip, rest)]), [passed("a")], variables);
      assert.deepEqual([...document.jobs.keys(), ...document.passed.keys()], ["a"]);
      assert.equal(document.jobs.size, 1, strip);
    }
  });

  test("gets such a job by when it ran last, where it did not run in this pipeline", () => {
    const job = history("·".repeat(10));
    const { document } = update(documentOf(["a", job]), [], COMMIT);
    assert.deepEqual(document.passed.get("a"), { commit: "c0ffee10", at: job.last_run });
  });

  test("forgets an entry after EXPIRE_AFTER_DAYS, reckoned to when the pipeline before was counted", () => {
    const keptAt = (countedAt: string, now: Date) => {
      const before = { ...withPasses(["a", "c0ffee01", "2026-11-20T10:00:00Z"]), counted_at: countedAt };
      return update(before, [], { EXPIRE_AFTER_DAYS: "3" }, now).document.passed.has("a");
    };
    assert.equal(keptAt("2026-11-23T10:00:00Z", later(HOUR)), true);
    assert.equal(keptAt("2026-11-23T10:00:01Z", later(HOUR)), false);
    assert.equal(keptAt("2026-11-22T10:00:00Z", later(40 * DAY)), true);
    assert.equal(keptAt("2026-12-30T10:00:00Z", NOW), true);
  });

  test("is stored with one entry a commit, and read from that", async () => {
    const before = withPasses(
      ["a", "c0ffee01", "2026-11-20T10:00:00.000Z"],
      ["__proto__", "c0ffee02", "2026-11-21T10:00:00.000Z"],
      ["c", "c0ffee01", "2026-11-21T10:00:00.000Z"],
    );
    const text = await serializeDocument(before);
    assert.deepEqual(JSON.parse(text).passed, [
      { commit: "c0ffee01", at: "2026-11-21T10:00:00.000Z", jobs: ["a", "c"] },
      { commit: "c0ffee02", at: "2026-11-21T10:00:00.000Z", jobs: ["__proto__"] },
    ]);
    const read = await parseDocument(text);
    assert.deepEqual(read.passed.get("__proto__"), { commit: "c0ffee02", at: "2026-11-21T10:00:00.000Z" });
    assert.deepEqual([...read.passed.keys()].sort(), ["__proto__", "a", "c"]);
    assert.equal(await serializeDocument(read), text);
  });

  test("is left out of a document where it is empty", async () => {
    assert.equal(JSON.parse(await serializeDocument(documentOf(["a", history("✗")]))).passed, undefined);
  });
});

describe("updateStatistics() turned", () => {
  const COMMIT = { CI_COMMIT_SHA: "0ddba11", CI_COMMIT_TITLE: "Add a cart", CI_COMMIT_AUTHOR: "Ada <ada@example.com>" };
  const ALL = { commit: "0ddba11", title: "Add a cart", author: "Ada" };
  /** The turn of a job with this strip; the pipeline before was that of its last execution. */
  const turnedOf = (
    strip: string,
    ran: PipelineJob | undefined,
    rest: Partial<TrackedJob> = {},
    more: Variables = {},
    commit = history(strip, rest).jobs_info.at(-1)?.commit ?? "c0ffee99",
  ) => {
    const before = { ...documentOf(["a", history(strip, rest)]), commit };
    return update(before, ran ? [ran] : [], { ...COMMIT, ...more }).document.jobs.get("a")?.turned;
  };

  test("names title and author where the job did otherwise in the pipeline right before", () => {
    assert.deepEqual(turnedOf("✗·", failed("a")), { ...ALL, from: "c0ffee02" });
    assert.deepEqual(turnedOf("✗", passed("a")), { ...ALL, from: "c0ffee01" });
  });

  test("knows a job that is not tracked by the commit with which it passed last", () => {
    const turnedAfter = (commit: string) => {
      const before = {
        ...documentOf(),
        commit,
        passed: new Map([["a", { commit: "c0ffee02", at: NOW.toISOString() }]]),
      };
      return update(before, [failed("a")], COMMIT).document.jobs.get("a")?.turned;
    };
    assert.deepEqual(turnedAfter("c0ffee02"), { ...ALL, from: "c0ffee02" });
    assert.deepEqual(turnedAfter("c0ffee03"), { commit: "0ddba11", from: "c0ffee02" });
  });

  test("names nobody where the execution before was in an earlier pipeline: it is a range", () => {
    assert.deepEqual(turnedOf("✗·", failed("a"), {}, {}, "c0ffee03"), { commit: "0ddba11", from: "c0ffee02" });
    assert.deepEqual(turnedOf("✗", passed("a"), {}, {}, "c0ffee03"), { commit: "0ddba11", from: "c0ffee01" });
  });

  test("has no commit before it, and names nobody, where none is known", () => {
    const { document } = update({ ...documentOf(), commit: "77aa01d3" }, [failed("a")], COMMIT);
    assert.deepEqual(document.jobs.get("a")?.turned, { commit: "0ddba11", from: undefined });
  });

  test("names nobody where the job turned with the same commit", () => {
    const same = { CI_COMMIT_SHA: "c0ffee02" };
    assert.deepEqual(turnedOf("✗·", failed("a"), {}, same), { commit: "c0ffee02", from: "c0ffee02" });
    assert.deepEqual(turnedOf("·✗", passed("a"), {}, same), { commit: "c0ffee02", from: "c0ffee02" });
  });

  const PUSHES: [why: string, before: string | undefined, isNamed: boolean][] = [
    ["is the commit of the pipeline before", "c0ffee02", true],
    ["is another commit, of a push without a pipeline", "c0ffee77", false],
    ["is all zeros", "0".repeat(40), true],
    ["is not set", undefined, true],
    ["is empty", "", true],
  ];
  for (const [why, CI_COMMIT_BEFORE_SHA, isNamed] of PUSHES) {
    test(`names ${isNamed ? "title and author" : "nobody"} where CI_COMMIT_BEFORE_SHA ${why}`, () => {
      const expected = isNamed ? { ...ALL, from: "c0ffee02" } : { commit: "0ddba11", from: "c0ffee02" };
      assert.deepEqual(turnedOf("✗·", failed("a"), {}, { CI_COMMIT_BEFORE_SHA }), expected);
    });
  }

  test("stays while a job goes on as it did, or does not run", () => {
    const turned = { commit: "c0ffee01" };
    assert.deepEqual(turnedOf("✗✗", failed("a"), { turned }), turned);
    assert.deepEqual(turnedOf("✗··", passed("a"), { turned }), turned);
    assert.deepEqual(turnedOf("✗", undefined, { turned }), turned);
    assert.deepEqual(turnedOf("✗", undefined, { turned }, { NOT_RUN_JOBS: "pass" }), turned);
    const long = { turned, consecutive_failures: 12 };
    assert.deepEqual(turnedOf("✗✗✗✗✗✗✗✗✗✗", failed("a"), long), turned);
  });

  test("looks through passes without a commit, which turn nothing", () => {
    const notRun = { id: null, failing: false, commit: null };
    const jobs_info = [{ id: 101, failing: true, commit: "c0ffee01" }, notRun];
    const turned = { commit: "c0ffee01" };
    assert.deepEqual(turnedOf("", failed("a"), { jobs_info, turned }, {}, "c0ffee01"), turned);
    assert.deepEqual(turnedOf("", passed("a"), { jobs_info, turned }, {}, "c0ffee01"), { ...ALL, from: "c0ffee01" });
  });

  const DAYS: [day: string, outcomes: string, turned: object][] = [
    [
      "cancelled runs between the last pass and the first failure",
      "P---FFF",
      { commit: "abcdef0005", from: "abcdef0001" },
    ],
    ["a nightly that is not in each pipeline", "P-FFF", { commit: "abcdef0003", from: "abcdef0001" }],
    ["the first execution ever a failure", "FFF", { commit: "abcdef0001", from: undefined }],
    ["a first execution in a later pipeline a failure", "--FFF", { commit: "abcdef0003", from: undefined }],
    ["a deploy that is absent before it passes", "PFFF---------PPP", { commit: "abcdef0014", from: "abcdef0004" }],
    [
      "a job that breaks from one pipeline to the next",
      "PPFFF",
      { commit: "abcdef0003", title: "Title 3", author: "Author 3", from: "abcdef0002" },
    ],
    [
      "a job that is mended from one pipeline to the next",
      "PFFFPPP",
      { commit: "abcdef0005", title: "Title 5", author: "Author 5", from: "abcdef0004" },
    ],
  ];
  for (const [day, outcomes, turned] of DAYS) {
    test(`in the last news tells no more than is known after ${day}: ${outcomes}`, () => {
      const news = playSequence(outcomes).flatMap((result) => result.news);
      assert.deepEqual(news.at(-1)?.turned, turned);
    });
  }

  const merged = (title: string, description?: string) => ({
    CI_COMMIT_TITLE: title,
    CI_COMMIT_DESCRIPTION: description,
  });
  const TITLES: [title: string, given: Variables, told: string | undefined][] = [
    ["a title", merged("Add a cart", "\n\nAs asked for\n"), "Add a cart"],
    ["a whole message", merged("Add a cart\r\n\r\nAs asked for"), "Add a cart"],
    [
      "a merge by GitLab",
      merged("Merge branch 'x' into 'main'", "\nMerge branch 'x'\n \nAdd a cart\n\nSee !1"),
      "Add a cart",
    ],
    ["a merge by GitHub", merged("Merge pull request #1 from acme/x\n\nAdd a cart"), "Add a cart"],
    ["a merge of a remote-tracking branch", merged("Merge remote-tracking branch 'o/x'", "\nAdd a cart"), "Add a cart"],
    ["a merge of a tag", merged("Merge tag 'v1'", "\nAdd a cart"), "Add a cart"],
    ["a merge of a commit", merged("Merge commit 'c0ffee01'", "\nAdd a cart"), "Add a cart"],
    ["a merge that says no more", merged("Merge branch 'x'", "\n"), "Merge branch 'x'"],
    ["a merge of nothing but merges", merged("Merge branch 'x'", "\nMerge branch 'y'"), "Merge branch 'x'"],
    ["a title that only begins like a merge", merged("Merge the two carts", "\nSee !1"), "Merge the two carts"],
    ["a title that only begins with a word like it", merged("Merged branch 'x'", "\nSee !1"), "Merged branch 'x'"],
    [
      "a merge of branches in other words",
      merged("Merge branches of the cart's code", "\nSee !1"),
      "Merge branches of the cart's code",
    ],
    ["a long title", merged("x".repeat(5_000)), "x".repeat(150)],
    ["a title that would be cut within a character", merged(`${"x".repeat(149)}🧪`), "x".repeat(149)],
    ["no title", { CI_COMMIT_TITLE: undefined }, undefined],
  ];
  for (const [title, given, told] of TITLES) {
    test(`has the line that says something of ${title}`, () => {
      assert.equal(turnedOf("·", failed("a"), {}, given)?.title, told);
    });
  }

  test("has the author without an address, cut at 150 characters", () => {
    const authorOf = (CI_COMMIT_AUTHOR: string) => turnedOf("·", failed("a"), {}, { CI_COMMIT_AUTHOR })?.author;
    assert.equal(authorOf("Ada Lovelace <ada@example.com>"), "Ada Lovelace");
    assert.equal(authorOf("ada@example.com"), "ada");
    assert.equal(authorOf("x".repeat(500)), "x".repeat(150));
  });
});

describe("updateStatistics() ignores", () => {
  test("jobs of IGNORE_JOBS, and drops those that it tracks", () => {
    const before = documentOf(["deploy: eu", history("✗✗✗")], ["b", history("✗")]);
    const { document, reached, news, warnings } = update(before, [failed("deploy: us"), failed("b")], {
      IGNORE_JOBS: "deploy:*",
    });
    assert.deepEqual([...document.jobs.keys()], ["b"]);
    assert.deepEqual([news, reached.gone, warnings], [[], [], []]);
  });

  test("jobs of IGNORE_JOBS with a warning that names each whose alert was open", () => {
    const open = { alert: openAlert("consecutive") };
    const before = documentOf(
      ["deploy: eu", history("✗✗✗", open)],
      ["deploy: us", history("✗✗✗", open)],
      ["deploy: asia", history("✗✗")],
      ["b", history("✗✗✗", open)],
    );
    const { document, news, warnings } = update(before, [], { IGNORE_JOBS: "deploy:*" });
    assert.deepEqual([[...document.jobs.keys()], news], [["b"], []]);
    assert.deepEqual(
      ["deploy: eu", "deploy: us", "deploy: asia", "b"].map((name) => warnings.join("\n").includes(name)),
      [true, true, false, false],
    );
    assert.match(warnings.join("\n"), /IGNORE_JOBS/);
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

describe("updateStatistics() expiry", () => {
  const variables = { EXPIRE_AFTER_DAYS: "3" };
  const job = history("✗✗✗", { last_run: "2026-11-20T10:00:00Z", alert: openAlert("consecutive") });
  const isDroppedAfter = (countedAt: string | undefined, now: Date, more: Variables = {}) => {
    const before = { ...documentOf(["a", job]), ...(countedAt ? { counted_at: countedAt } : {}) };
    return !update(before, [], { ...variables, ...more }, now).document.jobs.has("a");
  };

  test("drops a job that did not run for longer than EXPIRE_AFTER_DAYS, even if its alert is open", () => {
    assert.equal(isDroppedAfter("2026-11-23T10:00:00Z", later(HOUR)), false);
    assert.equal(isDroppedAfter("2026-11-23T10:00:01Z", later(HOUR)), true);
    assert.equal(isDroppedAfter("2026-11-23T10:00:01Z", later(HOUR), { NOT_RUN_JOBS: "pass" }), true);
  });

  test("goes by now where nobody knows when the pipeline before was counted", () => {
    assert.deepEqual([isDroppedAfter(undefined, NOW), isDroppedAfter(undefined, later(1_000))], [false, true]);
  });

  test("drops nothing after days without any pipeline", () => {
    assert.equal(isDroppedAfter("2026-11-20T11:00:00Z", later(32 * DAY)), false);
    const { job, told } = updateJob(history("✗✗"), failed("a"), {}, later(32 * DAY));
    assert.deepEqual([stripOf(job), told], ["✗✗✗", ["consecutive"]]);
  });

  test("drops nothing by one run whose clock is ahead, nor by the next", () => {
    const before = { ...documentOf(["a", { ...job, last_run: NOW.toISOString() }]), counted_at: NOW.toISOString() };
    const ahead = update(before, [], {}, later(40 * DAY));
    const next = update(ahead.document, [], {}, later(HOUR));
    assert.deepEqual([ahead.news, next.news, stripOf(next.document.jobs.get("a"))], [[], [], "✗✗✗"]);
  });

  test("keeps a job that has run, however long ago it did so before", () => {
    const before = { ...documentOf(["a", job]), counted_at: later(30 * DAY).toISOString() };
    const { document, news } = update(before, [failed("a")], variables, later(31 * DAY));
    assert.deepEqual([stripOf(document.jobs.get("a")), news], ["✗✗✗✗", []]);
  });

  test("begins with this pipeline for a job without last_run", () => {
    const { document } = update(documentOf(["a", history("✗", { last_run: undefined })]), []);
    assert.equal(document.jobs.get("a")?.last_run, NOW.toISOString());
  });

  test("begins anew with each run, which a pass for a job that did not run is none", () => {
    const jobs = ["failed", "passed", "skipped"].map((name): [string, TrackedJob] => [name, history("✗")]);
    const { document } = update(documentOf(...jobs), [failed("failed"), passed("passed")], { NOT_RUN_JOBS: "pass" });
    const now = NOW.toISOString();
    assert.deepEqual(
      [...document.jobs.values()].map((job) => job.last_run),
      [now, now, history("✗").last_run],
    );
  });

  test("of a job with an open alert is told as gone, of another without a word", () => {
    const old = { last_run: "2026-10-23T10:00:00Z" };
    for (const kind of ["consecutive", "cumulative"] as const) {
      const gone = updateJob(history("✗✗✗", { alert: openAlert(kind), ...old }), undefined);
      assert.deepEqual([gone.kinds, gone.told, gone.job], [["gone"], ["gone"], undefined]);
    }
    const quiet = updateJob(history("✗✗✗", old), undefined);
    assert.deepEqual([quiet.kinds, quiet.told, quiet.job], [[], [], undefined]);
  });
});

describe("reviseStatistics()", () => {
  const counted_at = NOW.toISOString();
  /** A job whose last execution was in the pipeline that was counted last, with the commit of the settings. */
  const lastIn = (strip: string, rest: Partial<TrackedJob> = {}): TrackedJob => {
    const { jobs_info, ...job } = history(strip, { last_run: counted_at, turned: { commit: "0ddba11" }, ...rest });
    const renamed = jobs_info.map((execution, i) =>
      i === jobs_info.length - 1 ? { ...execution, commit: "0ddba11" } : execution,
    );
    return { ...job, jobs_info: renamed };
  };
  const counted = (job: TrackedJob): JobExecutions => ({
    ...documentOf(["a", job]),
    pipeline_id: 1005,
    commit: "0ddba11",
    counted_at,
  });
  const revise = (before: JobExecutions, ran: PipelineJob[]) =>
    reviseStatistics(before, listingOf(ran), { pipeline: settings().pipeline });

  test("takes a failure in this very pipeline for a pass where its latest attempt passed", () => {
    const before = counted(Object.assign(lastIn("·✗✗"), { note: "slow" }));
    const { outcome, document, news, reached } = revise(before, [passed("a")]);
    const job = document.jobs.get("a");
    assert.deepEqual([outcome, stripOf(job), job?.consecutive_failures, job?.turned], ["revised", "·✗·", 0, undefined]);
    assert.deepEqual(job?.jobs_info.at(-1), { id: null, failing: false, commit: "0ddba11" });
    assert.deepEqual({ ...job, note: "slow", last_run: counted_at }, job);
    assert.deepEqual([news, reached.recovered, reached.consecutive.size], [[], [], 0]);
    assert.deepEqual({ ...document, jobs: before.jobs }, before);
  });

  test("changes nothing that it is given, and keeps unknown keys of the execution", () => {
    const job = lastIn("✗✗");
    const [first, last] = job.jobs_info.map((execution) => ({ ...execution, took: 7 }));
    const before = deepFreeze(counted({ ...job, jobs_info: first && last ? [first, last] : [] }));
    const { document } = revise(before, [passed("a")]);
    assert.equal(document.jobs.get("a")?.jobs_info.at(-1)?.took, 7);
    assert.equal(stripOf(before.jobs.get("a")), "✗✗");
  });

  test("opens and closes no alert", () => {
    const { alert } = { alert: openAlert("consecutive") };
    assert.deepEqual(revise(counted(lastIn("✗✗✗", { alert })), [passed("a")]).document.jobs.get("a")?.alert, alert);
    const closing = revise(counted(lastIn("✗··✗", { alert })), [passed("a")]);
    assert.deepEqual([closing.document.jobs.get("a")?.alert, closing.news], [alert, []]);
  });

  const UNCHANGED: [why: string, job: TrackedJob, ran: PipelineJob[]][] = [
    ["failed again", lastIn("✗✗"), [failed("a")]],
    ["is not listed", lastIn("✗✗"), []],
    ["did not run in its latest attempt", lastIn("✗✗"), [{ ...passed("a"), outcome: "not run" }]],
    ["had passed", lastIn("✗·"), [passed("a")]],
    [
      "did not run in the pipeline that was counted",
      lastIn("✗✗", { last_run: "2026-11-23T09:00:00.000Z" }),
      [passed("a")],
    ],
    ["failed last with another commit", history("✗✗", { last_run: counted_at }), [passed("a")]],
    ["is not the one that passed", lastIn("✗✗"), [passed("b")]],
  ];
  for (const [why, job, ran] of UNCHANGED) {
    test(`changes nothing, and returns the very same document, where the job ${why}`, () => {
      const before = counted(job);
      const { outcome, document } = revise(before, ran);
      assert.equal(outcome, "already-counted");
      assert.equal(document, before);
    });
  }
});

describe("checkConsistentFailures() of a pipeline that was counted already", () => {
  const at = (hours: number) => later(hours * HOUR);
  /** Runs of pipelines on one document; each with what happened to the job `a`. */
  async function playRuns(runs: [pipeline: number, outcome: string][]) {
    const { store, stored } = memoryStore(await serializeDocument(documentOf()));
    const sent: string[] = [];
    const outcomes: string[] = [];
    for (const [i, [pipeline, outcome]] of runs.entries()) {
      const variables = { CI_PIPELINE_ID: `${pipeline}`, CI_COMMIT_SHA: `abcdef${pipeline}` };
      const { run, sent: now } = await runOf(OUTCOMES[outcome]?.("a") ?? [], variables, { store, now: at(i) });
      outcomes.push(run.outcome);
      sent.push(...now.map(({ text }) => `${pipeline} ${text.slice(0, 2)}`));
    }
    const document = await parseDocument(stored.text);
    return { outcomes, sent, strip: stripOf(document.jobs.get("a")), document };
  }

  test("counts a job that passed in a re-run as passed, so that nobody is alerted of what is green", async () => {
    const { outcomes, sent, strip } = await playRuns([
      [1005, "F"],
      [1006, "F"],
      [1006, "P"],
      [1006, "P"],
      [1007, "F"],
    ]);
    assert.deepEqual(outcomes, ["counted", "counted", "revised", "already-counted", "counted"]);
    assert.deepEqual([sent, strip], [[], "✗·✗"]);
  });

  test("leaves the alert open that it had opened, until the job has recovered", async () => {
    const { sent, document } = await playRuns([
      [1005, "F"],
      [1006, "F"],
      [1007, "F"],
      [1007, "P"],
      [1008, "P"],
      [1009, "P"],
    ]);
    assert.deepEqual(sent, ["1007 🔴", "1009 🟢"]);
    assert.equal(document.jobs.get("a")?.alert, undefined);
  });

  test("revises only the last pipeline", async () => {
    const { outcomes, strip } = await playRuns([
      [1005, "F"],
      [1006, "F"],
      [1005, "P"],
    ]);
    assert.deepEqual([outcomes.at(-1), strip], ["out-of-order", "✗✗"]);
  });

  test("delivers what is due where the jobs can't be listed, and warns of that", async () => {
    const before = { ...documentOf(), pipeline_id: 1005, pending_alerts: [pendingAlert("x")] };
    const { store, stored } = memoryStore(await serializeDocument(before));
    const jobs = async () => {
      throw new Error("GitLab answered 502");
    };
    const { run, sent } = await runOf([], { CI_PIPELINE_ID: "1005" }, { store, jobs });
    assert.deepEqual([run.outcome, sent.length, run.errors], ["already-counted", 1, []]);
    assert.match(run.warnings.join("\n"), /GitLab answered 502/);
    assert.deepEqual((await parseDocument(stored.text)).pending_alerts, []);
  });
});

describe("checkConsistentFailures() project", () => {
  const SHOP = { CI_PROJECT_PATH: "acme/shop", CI_PROJECT_URL: "https://git.example.com/acme/shop" };
  const storeOf = async (project?: JobExecutions["project"]) =>
    memoryStore(await serializeDocument({ ...documentOf(), ...(project ? { project } : {}) }));

  test("is stored as the environment says it, without a CI that is neither GitLab nor GitHub", async () => {
    const project = { name: "acme/shop", url: "https://git.example.com/acme/shop" };
    for (const [variables, ci] of [
      [{ GITLAB_CI: "true" }, "gitlab"],
      [{ GITLAB_CI: undefined, GITHUB_ACTIONS: "true" }, "github"],
      [{ GITLAB_CI: undefined }, undefined],
    ] as const) {
      const { store, stored } = await storeOf();
      await runOf([], { ...SHOP, ...variables }, { store });
      assert.deepEqual(JSON.parse(`${stored.text}`).project, ci ? { ...project, ci } : project);
    }
  });

  test("of another name is an error that says what to do, and nothing is stored or sent", async () => {
    const { store, stored } = await storeOf({ name: "acme/shop" });
    const before = stored.text;
    const { world, sent } = makeWorld({ store, jobs: jobsOf([failed("unit tests")]) });
    await assert.rejects(
      checkConsistentFailures(await taskOf({ CI_PROJECT_PATH: "acme/pay" }), world),
      (error: Error) => {
        assert.match(error.message, /acme\/pay.*acme\/shop.*JOB_EXECUTIONS_URL.*"project"/s);
        return true;
      },
    );
    assert.deepEqual([stored.text, sent], [before, []]);
  });

  test("of another name is an error for a pipeline that is out of order or counted already, too", async () => {
    for (const CI_PIPELINE_ID of ["1003", "1004"]) {
      const { store } = await storeOf({ name: "acme/shop" });
      await assert.rejects(runOf([], { CI_PROJECT_PATH: "acme/pay", CI_PIPELINE_ID }, { store }), /acme\/pay/);
    }
  });

  test("that is not known, here or there, refuses nothing", async () => {
    const counted = async (stored: JobExecutions["project"], CI_PROJECT_PATH: string | undefined) => {
      const { store } = await storeOf(stored);
      return (await runOf([], { CI_PROJECT_PATH }, { store })).run.outcome;
    };
    assert.equal(await counted(undefined, "acme/pay"), "counted");
    assert.equal(await counted({ name: "acme/shop" }, undefined), "counted");
    assert.equal(await counted({ name: "acme/shop" }, "acme/shop"), "counted");
  });

  test("takes a renamed project once the key is taken out", async () => {
    const { store, stored } = await storeOf();
    await runOf([], { CI_PROJECT_PATH: "acme/new" }, { store });
    assert.equal(JSON.parse(`${stored.text}`).project.name, "acme/new");
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
    const result = updateStatistics(document, listingOf(jobsWith(outcomes, i + 1)), facts);
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

  test("the alerts of a job are told once each, but for one that had looked mended, and recovered where it was broken", () => {
    fc.assert(
      fc.property(somePipelines, someVariables, (pipelines, variables) => {
        const news = play(pipelines, variables).flatMap((result) => result.news);
        for (const name of NAMES) {
          const told = news.filter((item) => item.job === name).map((item) => LETTERS[item.kind]);
          // A job that only failed often recovers without a word.
          assert.match(told.join(""), /^(o?B+r|o)*(o?B+)?$/);
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
          for (const { job, kind } of news) last.set(job, kind);
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
      const passes = [...after.passed].sort(([a], [b]) => (a < b ? -1 : 1));
      return { kinds, passes, after: await textOf({ ...after, passed: new Map() }) };
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
  const withUnknown = <T extends object>(known: fc.Arbitrary<T>) =>
    fc.tuple(unknownKeys, known).map(([unknown, keys]) => ({ ...unknown, ...keys }));
  const aJob = withUnknown(
    fc.record({
      consecutive_failures: fc.nat(),
      jobs_info: fc.array(withUnknown(anExecution)),
      alert: fc.constant({ kind: "cumulative", pipeline_id: 1001, at }),
      executions_since_alert: fc.nat(),
    }),
  );
  const aDocument = withUnknown(
    fc.record({
      pipeline_id: fc.nat(),
      jobs: fc.array(fc.tuple(aName, aJob), { maxLength: 5 }).map((jobs) => Object.fromEntries(jobs)),
      passed: fc.uniqueArray(aName, { minLength: 1, maxLength: 5 }).map((jobs) => [{ commit: "abcdef42", at, jobs }]),
      pending_alerts: aName.map((name) => [pendingAlert(name, { channel: "#ci" })]),
    }),
  );

  test("keep every name and every key of a document", async () => {
    await fc.assert(
      fc.asyncProperty(aDocument, async (document) => {
        const text = JSON.stringify(document);
        // As a map, because assert may take the job __proto__ for the prototype.
        const parse = (json: string) => {
          const { jobs, ...others } = JSON.parse(json);
          return { others, jobs: new Map(Object.entries(jobs)) };
        };
        assert.deepEqual(parse(await serializeDocument(await parseDocument(text))), parse(text));
      }),
    );
  });
});
