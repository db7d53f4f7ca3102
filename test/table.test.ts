import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatTable, type TrackedJob } from "../check-failures.ts";
import { documentOf, history, openAlert, settings } from "./support/builders.ts";

const HEAD = "A job alerts at 3 failures in a row, or 5 in its last 10 executions.\n\n";
const format = (...jobs: [name: string, job: TrackedJob][]) => formatTable(documentOf(...jobs), settings().limits);
const rowsOf = (...jobs: Parameters<typeof format>) =>
  format(...jobs)
    .slice(HEAD.length)
    .split("\n");

describe("formatTable()", () => {
  test("shows the tracked jobs, worst first, in plain numbers below a head with the thresholds", () => {
    const table = format(
      ["lint", history("✗·····")],
      ["e2e: [chrome]", history("✗·✗·✗·✗·✗·", { alert: openAlert("cumulative", "2026-11-22T18:00:00Z") })],
      ["unit tests", history("···✗✗✗", { alert: openAlert("consecutive") })],
    );
    const lines = [
      "job            executions  in a row  in 10  alert since",
      "unit tests         ···✗✗✗         3      3  broken 2026-11-23",
      "e2e: [chrome]  ✗·✗·✗·✗·✗·         0      5  failing often 2026-11-22",
      "lint               ✗·····         0      1",
    ];
    assert.equal(table, HEAD + lines.join("\n"));
  });

  test("puts failures in a row first, then failures in the window, then names", () => {
    const rows = rowsOf(
      ["d", history("✗")],
      ["c", history("✗")],
      ["b", history("✗✗✗·")],
      ["a", history("✗·✗✗")],
      ["e", history("✗✗·✗")],
    );
    assert.deepEqual(
      rows.map((row) => row.split(" ", 1)[0]),
      ["job", "a", "e", "c", "d", "b"],
    );
  });

  test("fits 80 columns: a name that does not has a line of its own, whole", () => {
    const names = ["lint", "build: [linux, 1.22]", "integration: [postgres-16, ubuntu-24.04, node-22]"];
    const often = { alert: openAlert("cumulative") };
    const rows = rowsOf(...names.map((name): [string, TrackedJob] => [name, history("✗·✗·✗·✗·✗·", often)]));
    assert.ok(Math.max(...rows.map(({ length }) => length)) <= 80, rows.join("\n"));
    const [head, ...others] = rows;
    const column = head?.indexOf("executions");
    assert.deepEqual(
      others.map((row) => row.indexOf("✗")),
      [column, -1, column, column],
    );
    assert.equal(rows.includes(names[2] ?? ""), true);
  });

  test("widens the strip for a window that is longer", () => {
    assert.deepEqual(rowsOf(["a", history("✗".repeat(14))]), [
      "job      executions  in a row  in 10  alert since",
      "a    ✗✗✗✗✗✗✗✗✗✗✗✗✗✗        14     14",
    ]);
  });

  test("keeps a name with control characters from moving the cursor", () => {
    assert.doesNotMatch(format(["a\n\u001b[2Jb\r\u0085", history("✗")]).replaceAll("\n", ""), /\p{Cc}/u);
    assert.equal(rowsOf(["a\nb", history("✗")]).length, 2);
  });

  test("has all jobs, however many there are", () => {
    assert.equal(
      rowsOf(...Array.from({ length: 700 }, (_, i): [string, TrackedJob] => [`${i}`, history("✗")])).length,
      701,
    );
  });

  test("says that nothing is tracked", () => {
    assert.equal(format(), "No job is tracked: none has failed lately.");
  });
});
