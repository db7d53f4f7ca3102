/** What a run and a report say of the document: the table, the lines around it, and what a watch finds wrong. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Alert,
  describeDocument,
  describeRun,
  findTroubles,
  formatTable,
  type JobExecutions,
  type PipelineJob,
  type TrackedJob,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
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

type Jobs = [name: string, job: TrackedJob][];

const format = (jobs: Jobs, { variables = {}, maxRows }: { variables?: Variables; maxRows?: number } = {}) =>
  formatTable(documentOf(...jobs), settings(variables).limits, maxRows);
/** What stands above the rows, and the rows with their head. */
const partsOf = (...args: Parameters<typeof format>) => {
  const [above = "", rows = ""] = format(...args).split("\n\n");
  return { above: above.split("\n"), rows: rows.split("\n") };
};
const rowsOf = (...args: Parameters<typeof format>) => partsOf(...args).rows;
/** The names in the order of their rows. */
const namesOf = (...args: Parameters<typeof format>) =>
  rowsOf(...args)
    .slice(1)
    .map((row) => row.trim().split(/ {2,}/).at(-1));
const broken = (strip = "✗✗✗") => history(strip, { alert: openAlert("consecutive") });
const often = (strip = "✗·✗·✗·✗·✗·") => history(strip, { alert: openAlert("cumulative") });

describe("formatTable()", () => {
  test("shows how many jobs there are of each kind, when a job alerts, what the marks mean, and a row a job", () => {
    const table = format([
      ["lint", history("✗·····")],
      ["e2e: [chrome]", history("✗·✗·✗·✗·✗·", { alert: openAlert("cumulative", { at: "2026-11-22T18:00:00Z" }) })],
      ["unit tests", broken("···✗✗✗")],
    ]);
    assert.deepEqual(table.split("\n"), [
      "3 jobs: 1 broken, 1 failing often, 1 only watched",
      "A job alerts when it has failed 3 times in a row, or 5 times in its last 10 executions.",
      "In executions, ✗ failed and · passed, the latest at the right.",
      "",
      "executions  in a row   in all  alert                           job",
      "    ···✗✗✗         3   3 of 6  broken since 2026-11-23         unit tests",
      "✗·✗·✗·✗·✗·         0  5 of 10  failing often since 2026-11-22  e2e: [chrome]",
      "    ✗·····         0   1 of 6                                  lint",
    ]);
  });

  test("has a job whose alert has ended, or only looks mended, where it belongs", () => {
    const [recovered, gone, flaky] = [
      openAlert("recovered"),
      openAlert("gone"),
      openAlert("consecutive", { flaky: true }),
    ];
    const { above, rows } = partsOf([
      ["recovered", history("✗✗✗···", { alert: recovered })],
      ["gone", history("✗✗✗✗✗✗", { alert: gone })],
      ["flaky", history("✗···", { alert: flaky })],
    ]);
    assert.equal(above[0], "3 jobs: 1 broken, 0 failing often, 2 only watched");
    assert.deepEqual(
      rows.slice(1).map((row) => row.replace(/^.* of \d+ +/, "")),
      ["broken since 2026-11-23  flaky", "gone", "recovered"],
    );
  });

  test("names the thresholds that are set, and says that JOB_RULES has others", () => {
    const variables = { CONSECUTIVE_THRESHOLD: "2", CUMULATIVE_THRESHOLD: "4", CUMULATIVE_LENGTH: "8" };
    const alerts = "A job alerts when it has failed 2 times in a row, or 4 times in its last 8 executions";
    const above = (JOB_RULES: string) =>
      partsOf([["a", history("✗")]], { variables: { ...variables, JOB_RULES } }).above[1];
    assert.equal(above(""), `${alerts}.`);
    assert.equal(above("e2e:* #web\ndeploy ignore"), `${alerts}.`);
    assert.equal(above("e2e:* 5"), `${alerts}; JOB_RULES has exceptions.`);
  });

  test("names the window that there is, where a threshold needs a longer one than CUMULATIVE_LENGTH", () => {
    const variables = { CUMULATIVE_THRESHOLD: "12" };
    assert.match(format([["a", history("✗")]], { variables }), /12 times in its last 12 executions\.$/m);
  });

  test("puts broken jobs first, then those that fail often, then those with more failures", () => {
    const jobs: Jobs = [
      ["watched, 2", history("✗✗")],
      ["often, 5", often()],
      ["watched, 4", history("✗✗·✗✗")],
      ["broken, 3", broken()],
      ["watched, 2, mended", history("✗✗·")],
      ["often, 6", often("✗✗✗·✗✗✗·")],
      ["broken, 6", broken("✗✗✗✗✗✗")],
      ["broken, 1", broken("✗··")],
    ];
    assert.deepEqual(namesOf(jobs), [
      ...["broken, 6", "broken, 3", "broken, 1"],
      ...["often, 6", "often, 5"],
      ...["watched, 4", "watched, 2", "watched, 2, mended"],
    ]);
  });

  test("puts jobs that are alike in the natural order of their names", () => {
    const names = ["shard 10/10", "b", "shard 2/10", "shard 1/10", "a 1.22", "a 1.9"];
    const sorted = ["a 1.9", "a 1.22", "b", "shard 1/10", "shard 2/10", "shard 10/10"];
    for (const order of [names, names.toReversed()]) {
      assert.deepEqual(namesOf(order.map((name) => [name, history("✗")])), sorted);
    }
  });

  test("keeps its columns in line whatever the names are, as these come last", () => {
    const names = ["lint", "x".repeat(255), "構建測試", "e2e 🧪👩‍👩‍👧‍👦", "é́́", "a  b", "__proto__", ""];
    const jobs = names.map((name): Jobs[number] => [name, often()]);
    const rows = rowsOf(jobs).slice(1);
    const row = "✗·✗·✗·✗·✗·         0  5 of 10  failing often since 2026-11-23  ";
    assert.deepEqual(rows.toSorted(), names.map((name) => row + name).sort());
  });

  test("widens the columns for a window that is longer and for large numbers", () => {
    const long = history("✗".repeat(14), { consecutive_failures: 123_456_789 });
    assert.deepEqual(
      rowsOf([
        ["a", long],
        ["b", history("·✗")],
      ]).map((row) => row.trimEnd()),
      [
        "    executions   in a row    in all  alert  job",
        "✗✗✗✗✗✗✗✗✗✗✗✗✗✗  123456789  14 of 14         a",
        "            ·✗          1    1 of 2         b",
      ],
    );
  });

  test("keeps a name with control characters from moving the cursor or breaking its row", () => {
    const name = "a\n\u001b[2Jb\r\u0085c\u2028d\u202ee";
    const rows = rowsOf([[name, history("✗")]]);
    assert.equal(rows.length, 2);
    assert.match(rows[1] ?? "", / {2}a \[2Jb c d e$/);
    assert.doesNotMatch(rows.join(""), /[\p{Cc}\u2028\u202e]/u);
  });

  test("has all jobs, however many there are, unless it is told how many rows to have", () => {
    const jobs = Array.from({ length: 200 }, (_, i): Jobs[number] => [`${i}`, history("✗")]);
    assert.equal(rowsOf(jobs).length, 1 + 200);
    const rows = rowsOf(jobs, { maxRows: 40 });
    assert.equal(rows.length, 1 + 40 + 1);
    assert.match(rows[40] ?? "", / 39$/);
    assert.equal(rows.at(-1), "and 160 more: report has all");
    assert.equal(rowsOf(jobs.slice(0, 40), { maxRows: 40 }).length, 1 + 40);
    assert.equal(rowsOf(jobs.slice(0, 41), { maxRows: 40 }).at(-1), "and 1 more: report has all");
  });

  test("has the open alerts of 200 jobs with long names in its first rows, and counts all of them", () => {
    const nameOf = (i: number) => `job ${i} `.padEnd(60, "x");
    const watched = Array.from({ length: 198 }, (_, i): Jobs[number] => [nameOf(i), history("✗✗·✗✗·✗✗")]);
    const jobs: Jobs = [...watched.slice(0, 99), [nameOf(998), often()], ...watched.slice(99), [nameOf(999), broken()]];
    const { above, rows } = partsOf(jobs, { maxRows: 40 });
    assert.equal(above[0], "200 jobs: 1 broken, 1 failing often, 198 only watched");
    assert.deepEqual(
      [rows[1], rows[2]].map((row) => row?.slice(-60)),
      [nameOf(999), nameOf(998)],
    );
    assert.equal([...above, ...rows].length, 3 + 1 + 40 + 1);
  });

  test("says that nothing is tracked", () => {
    assert.equal(format([]), "No job is tracked: none has failed lately.");
  });
});

describe("describeRun()", () => {
  const JOBS = [failed("a"), passed("b"), passed("c"), notRun("d"), notRun("e"), notRun("f")];

  /** What is said of pipeline 1005 on a document, by default with 1004 as its latest. */
  async function describeOn(document: Partial<JobExecutions>, jobs: PipelineJob[] = JOBS, dryRun = false) {
    const { store } = memoryStore(textOf({ ...documentOf(), ...document }));
    const { run } = await runOf(jobs, {}, { store });
    const [first = "", ...others] = describeRun(run, taskOf({}, { dryRun }));
    return { first, others };
  }

  for (const [title, stored, said] of [
    ["a pipeline", 1004, "is counted, after 1004: 1 job failed, 2 passed, 3 did not run"],
    ["a re-run", 1005, "is counted again: 1 job failed, 2 passed, 3 did not run"],
    ["the first pipeline", 0, "is counted, a new document: 1 job failed, 2 passed, 3 did not run"],
    ["a late pipeline", 1006, "is older than 1006: it is filed, and no alert changes"],
  ] as const) {
    test(`says of ${title} what became of it, then the table`, async () => {
      const { first, others } = await describeOn({ pipeline_id: stored });
      assert.equal(first, `Pipeline 1005 ${said}`);
      assert.match(others.join("\n"), /^1 job: 0 broken, 0 failing often, 1 only watched\n(.*\n)*.* {2}a$/);
    });
  }

  test("says of a pipeline in which nothing ran that it is not counted", async () => {
    const { first } = await describeOn({}, [notRun("a"), notRun("b")]);
    assert.equal(first, "Pipeline 1005 is not counted: 0 jobs failed, 0 passed, 2 did not run");
  });

  test("counts a job that a rule or its reason leaves out among those that did not run", async () => {
    const variables = { JOB_RULES: "deploy ignore", IGNORE_FAILURES: "runner_*" };
    const jobs = [failed("deploy"), failed("a", { reason: "runner_system_failure" }), failed("b"), passed("c")];
    const { run } = await runOf(jobs, variables);
    const [first] = describeRun(run, taskOf(variables));
    assert.equal(first, "Pipeline 1005 is counted, after 1004: 1 job failed, 1 passed, 2 did not run");
  });

  test("says of a dry run what it would send to whom, and that nothing is done", async () => {
    const { first, others } = await describeOn({ jobs: new Map([["a", history("✗✗")]]) }, JOBS, true);
    assert.match(first, /^Dry run: nothing is sent or written/);
    const text = others.join("\n");
    assert.match(text, /^Would send to #ci:\n🔴 a broken in acme\/shop main, pipeline 1005 \(https:[^)]+\)\n\n🔴 a /);
    assert.match(text, /^Pipeline 1005 would be counted, after 1004: 1 job failed, 2 passed, 3 did not run$/m);
    assert.match(text, /broken since 2026-11-23 {2}a$/m);
  });

  test("has at most 40 rows", async () => {
    const jobs = Array.from({ length: 41 }, (_, i) => failed(`job ${i}`));
    const { others } = await describeOn({}, jobs);
    assert.match(others.join("\n"), / job 39\nand 1 more: report has all$/);
  });
});

describe("a report", () => {
  const DAY_MS = 86_400_000;
  const agoOf = (days: number) => new Date(NOW.getTime() - days * DAY_MS).toISOString();
  /** A document counted an hour ago with these alerts. */
  const withAlerts = (...alerts: Alert[]) =>
    documentOf(...alerts.map((alert, i): Jobs[number] => [`job ${i}`, history("✗✗✗", { alert })]));

  test("says whose document it is, which pipeline was counted last, and when", () => {
    const document = { ...documentOf(), counted_at: agoOf(4), project: { name: "acme/shop" } };
    assert.equal(
      describeDocument(document, "s3://ci/shop.json", NOW),
      "acme/shop, s3://ci/shop.json: pipeline 1004 was counted 4 days ago, at 2026-11-19T10:00:00.000Z",
    );
  });

  test("says so where it is not known whose document it is, or when a pipeline was counted", () => {
    const { counted_at: _, ...document } = documentOf();
    assert.equal(
      describeDocument(document, "document.json", NOW),
      "document.json: it is not known when pipeline 1004 was counted",
    );
  });

  test("takes the project's name for data", () => {
    const document = { ...documentOf(), project: { name: "acme\n\u001b[2Jshop" } };
    assert.match(describeDocument(document, "document.json", NOW), /^acme \[2Jshop, document\.json: /);
  });

  const at = agoOf(5);
  const changed_at = agoOf(4);
  const claims = { "": { until: "1970-01-01T00:00:00.000Z", by: "a run" } };
  const [open, changed] = [
    { at, changed_at: at },
    { at, changed_at },
  ];
  const alert = (kind: Alert["kind"], rest: Partial<Alert>) => openAlert(kind, { told: undefined, ...rest });

  const KNOWN: [title: string, alert: Alert][] = [
    ["is open, and was told", alert("consecutive", { ...open, told: { "": at } })],
    ["became graver, which was told", alert("consecutive", { ...changed, told: { "": changed_at } })],
    ["has recovered, which was told", alert("recovered", changed)],
    ["has recovered, which another channel waits for", alert("recovered", { ...changed, told: { "#web": at } })],
  ];
  for (const [title, alert] of KNOWN) {
    test(`says nothing of an alert that ${title}`, () => {
      assert.doesNotMatch(describeDocument(withAlerts(alert), "document.json", NOW), /does not know/);
      assert.deepEqual(findTroubles(withAlerts(alert), NOW, 3 * DAY_MS), []);
    });
  }

  const UNTOLD: [title: string, alert: Alert, days: number][] = [
    ["is open, and was not told", alert("consecutive", open), 5],
    ["is open, and was told to another channel only", alert("consecutive", { ...open, told: { "#web": at } }), 5],
    ["is open, and may have been told", alert("consecutive", { ...open, claims }), 5],
    ["became graver, which was not told", alert("consecutive", { ...changed, told: { "": at } }), 4],
    ["became graver, and was never told", alert("consecutive", changed), 5],
    ["has recovered, which was not told", alert("recovered", { ...changed, told: { "": at } }), 4],
    ["is gone, and may have been told", alert("gone", { ...changed, claims }), 4],
  ];
  for (const [title, alert, days] of UNTOLD) {
    test(`says that the broadcast channel does not know of an alert that ${title}, and since when`, () => {
      assert.match(
        describeDocument(withAlerts(alert), "document.json", NOW),
        /; the broadcast channel does not know 1 alert$/,
      );
      const [trouble = "", ...others] = findTroubles(withAlerts(alert), NOW, 3 * DAY_MS);
      assert.match(trouble, new RegExp(`^its broadcast channel .*not .*told of an alert for ${days} days; see `));
      assert.deepEqual(others, []);
      assert.deepEqual(findTroubles(withAlerts(alert), NOW, 6 * DAY_MS), []);
    });
  }

  test("counts the alerts that the broadcast channel does not know, and reckons from the oldest", () => {
    const alerts = [2, 5, 4].map((days) => openAlert("consecutive", { at: agoOf(days), told: undefined }));
    const document = withAlerts(...alerts, openAlert());
    assert.match(describeDocument(document, "a", NOW), /; the broadcast channel does not know 3 alerts$/);
    assert.match(findTroubles(document, NOW, 3 * DAY_MS).join(), / for 5 days; /);
  });

  test("finds a document stale whose latest pipeline was counted too long ago, or nobody knows when", () => {
    const troublesOf = (counted_at: string | undefined, maxAgeMs: number) =>
      findTroubles({ ...documentOf(), counted_at }, NOW, maxAgeMs);
    const todo = "check that the job runs in each pipeline of the default branch";
    assert.deepEqual(troublesOf(agoOf(3), 3 * DAY_MS), []);
    const [old = "", unknown = ""] = [agoOf(4), undefined].flatMap((at) => troublesOf(at, 3 * DAY_MS));
    assert.match(old, new RegExp(`^it is stale: .*counted 4 days ago; ${todo}`));
    assert.match(unknown, new RegExp(`^it is stale: .*; ${todo}`));
    assert.deepEqual(troublesOf(AN_HOUR_AGO, 3_600_000), []);
    assert.equal(troublesOf(AN_HOUR_AGO, 3_599_999).length, 1);
  });

  test("finds a document both stale and untold", () => {
    const document = { ...withAlerts(openAlert("consecutive", { at, told: undefined })), counted_at: at };
    assert.equal(findTroubles(document, NOW, 3 * DAY_MS).length, 2);
  });
});
