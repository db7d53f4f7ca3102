import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatTable, type Routes, type TrackedJob } from "../check-failures.ts";
import { alertOf, documentOf, environment, history, openAlert } from "./support/builders.ts";

const format = (jobs: [name: string, job: TrackedJob][], routes: Routes = new Map()) =>
  formatTable(documentOf(...jobs), environment(), routes);

describe("formatTable()", () => {
  test("shows the tracked jobs, worst first", () => {
    const table = format(
      [
        ["lint", history("✗·····")],
        ["e2e: [chrome]", history("✗·✗·✗·✗·✗·", { alert: openAlert("cumulative", "2026-11-22T18:00:00Z") })],
        ["unit tests", history("···✗✗✗", { alert: openAlert("consecutive") })],
      ],
      new Map([
        ["#ci", [alertOf("unit tests")]],
        ["#shop", [alertOf("unit tests")]],
      ]),
    );
    assert.equal(
      table,
      [
        "job            executions  in a row   in 10  alert",
        "unit tests         ···✗✗✗       3/3     3/5  consecutive → #ci, #shop",
        "e2e: [chrome]  ✗·✗·✗·✗·✗·       0/3     5/5  cumulative since 2026-11-22",
        "lint               ✗·····       0/3     1/5",
      ].join("\n"),
    );
  });

  test("puts failures in a row first, then failures in the window, then names", () => {
    const table = format([
      ["d", history("✗")],
      ["c", history("✗")],
      ["b", history("✗✗✗·")],
      ["a", history("✗·✗✗")],
      ["e", history("✗✗·✗")],
    ]);
    assert.deepEqual(
      table.split("\n").map((line) => line.split(" ", 1)[0]),
      ["job", "a", "e", "c", "d", "b"],
    );
  });

  test("says what was told now, of what, and to whom", () => {
    const jobs = ["broken", "recovered", "quiet"].map((name): [string, TrackedJob] => [name, history("✗")]);
    const told = [alertOf("broken"), alertOf("recovered", { kind: "recovered" })];
    const alertsIn = (routes: Routes) =>
      format(jobs, routes)
        .split("\n")
        .slice(1)
        .map((line) => /1\/5 *(.*)$/.exec(line)?.[1]);
    const routes: Routes = new Map([
      ["#ci", told],
      ["#shop", told.slice(0, 1)],
    ]);
    assert.deepEqual(alertsIn(routes), ["consecutive → #ci, #shop", "", "recovered → #ci"]);
    assert.deepEqual(alertsIn(new Map([[null, told]])), ["consecutive, told now", "", "recovered, told now"]);
  });

  test("stays aligned, but for the rows with a name of more than 60 characters", () => {
    const lengths = [1, 59, 60, 61, 255];
    const names = lengths.map((length, i) => `${i}`.padEnd(length, "x"));
    const lines = format(names.map((name) => [name, history("✗··")])).split("\n");
    assert.deepEqual(
      names.map((name) => lines.find((line) => line.startsWith(`${name} `))?.indexOf("✗")),
      [69, 69, 69, 70, 264],
    );
  });

  test("widens the strip for a window that is longer", () => {
    const [head, row] = format([["a", history("✗".repeat(14))]]).split("\n");
    assert.equal(head, "job      executions  in a row   in 10  alert");
    assert.equal(row, "a    ✗✗✗✗✗✗✗✗✗✗✗✗✗✗      14/3    14/5");
  });

  test("keeps a name with control characters from moving the cursor", () => {
    assert.doesNotMatch(format([["a\n\u001b[2Jb\r\u0085", history("✗")]]).replace("\n", ""), /\p{Cc}/u);
  });

  test("ends after 500 jobs and says how many more there are", () => {
    const lines = format(Array.from({ length: 502 }, (_, i) => [`job ${i}`, history("✗")])).split("\n");
    assert.equal(lines.length, 1 + 500 + 1);
    assert.equal(lines.at(-1), "... and 2 more, which report --json lists");
  });

  test("says that nothing is tracked", () => {
    assert.equal(format([]), "No job is tracked: none has failed lately.");
  });
});
