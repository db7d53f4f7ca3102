import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatTable, type TrackedJob } from "../check-failures.ts";
import { documentOf, history, openAlert, settings, type Variables } from "./support/builders.ts";

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
      ["e2e: [chrome]", history("✗·✗·✗·✗·✗·", { alert: openAlert("cumulative", "2026-11-22T18:00:00Z") })],
      ["unit tests", broken("···✗✗✗")],
    ]);
    assert.deepEqual(table.split("\n"), [
      "3 jobs: 1 broken, 1 failing often, 1 only watched",
      "A job alerts when it has failed 3 times in a row, or 5 times in its last 10 executions.",
      "In executions, ✗ failed and · passed, the latest at the right.",
      "",
      "executions  in a row  in 10  alert                           job",
      "    ···✗✗✗         3      3  broken since 2026-11-23         unit tests",
      "✗·✗·✗·✗·✗·         0      5  failing often since 2026-11-22  e2e: [chrome]",
      "    ✗·····         0      1                                  lint",
    ]);
  });

  test("names the thresholds that are set, and says that some jobs have others", () => {
    const variables = { CONSECUTIVE_THRESHOLD: "2", CUMULATIVE_THRESHOLD: "4", CUMULATIVE_LENGTH: "8" };
    const alerts = "A job alerts when it has failed 2 times in a row, or 4 times in its last 8 executions";
    const jobs: Jobs = [["a", history("✗")]];
    const { above, rows } = partsOf(jobs, { variables });
    assert.equal(above[1], `${alerts}.`);
    assert.match(rows[0] ?? "", / in 8 /);
    const own = partsOf(jobs, { variables: { ...variables, JOB_THRESHOLDS: "e2e:*=5 nightly\\ *=2/4" } }).above;
    assert.match(own[1] ?? "", new RegExp(`^${alerts}.*JOB_THRESHOLDS`));
  });

  test("puts broken jobs first, then those that fail often, then those with more failures", () => {
    const jobs: Jobs = [
      ["watched, 2", history("✗✗")],
      ["often, 5", often()],
      ["watched, 4", history("✗✗·✗✗")],
      ["broken, 3", broken()],
      ["often, 6", often("✗✗✗·✗✗✗·")],
      ["broken, 6", broken("✗✗✗✗✗✗")],
      ["broken, 1", broken("✗···")],
    ];
    assert.deepEqual(namesOf(jobs), [
      ...["broken, 6", "broken, 3", "broken, 1"],
      ...["often, 6", "often, 5"],
      ...["watched, 4", "watched, 2"],
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
    const row = "✗·✗·✗·✗·✗·         0      5  failing often since 2026-11-23  ";
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
        "    executions   in a row  in 10  alert  job",
        "✗✗✗✗✗✗✗✗✗✗✗✗✗✗  123456789     14         a",
        "            ·✗          1      1         b",
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
    const jobs = Array.from({ length: 200 }, (_, i): Jobs[number] => {
      return [nameOf(i), i === 150 ? broken() : i === 115 ? often() : history("✗✗·✗✗·✗✗")];
    });
    const { above, rows } = partsOf(jobs, { maxRows: 40 });
    assert.equal(above[0], "200 jobs: 1 broken, 1 failing often, 198 only watched");
    assert.deepEqual(
      [rows[1], rows[2]].map((row) => row?.slice(-60)),
      [nameOf(150), nameOf(115)],
    );
    assert.equal([...above, ...rows].length, 3 + 1 + 40 + 1);
  });

  test("says that nothing is tracked", () => {
    assert.equal(format([]), "No job is tracked: none has failed lately.");
  });
});
