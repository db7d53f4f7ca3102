import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDays, formatSimulation, simulate, simulateDay } from "./tools/simulation.ts";

const assertNear = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= expected / 10, `Expected ${actual} to be within 10 % of ${expected}`);

test("simulate() counts at most as many alerts as thresholds reached, at every failure rate", () => {
  for (const rate of [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]) {
    const { thresholds, alerts, recoveries } = simulate(rate, { jobs: 100 });
    assert.ok(alerts <= thresholds, `${alerts} alerts, ${thresholds} thresholds at ${rate}`);
    // What was opened before the 100 runs that count may recover in them.
    assert.ok(recoveries <= alerts + 1, `${recoveries} recoveries, ${alerts} alerts at ${rate}`);
  }
});

test("simulate() comes to the numbers that are promised", () => {
  const half = simulate(0.5);
  assertNear(half.thresholds, 18.6);
  assertNear(half.alerts, 6.9);
  const most = simulate(0.8);
  assertNear(most.thresholds, 11.6);
  assertNear(most.alerts, 0.9);
});

test("simulate() is repeatable, and another seed is another simulation", () => {
  assert.deepEqual(simulate(0.5, { jobs: 20, seed: 2 }), simulate(0.5, { jobs: 20, seed: 2 }));
  assert.notDeepEqual(simulate(0.5, { jobs: 20, seed: 2 }), simulate(0.5, { jobs: 20, seed: 3 }));
});

test("formatSimulation() is a Markdown table with a row for each failure rate", () => {
  const [head, rule, ...rows] = formatSimulation({ jobs: 10 }).split("\n");
  assert.equal(head, "| failure rate | thresholds alone | alerts | recoveries |");
  assert.equal(rule, "| ---: | ---: | ---: | ---: |");
  assert.deepEqual(
    rows.map((row) => /^\| (\d0) % \| \d+\.\d \| \d+\.\d \| \d+\.\d \|$/.exec(row)?.[1]),
    ["10", "20", "30", "40", "50", "60", "70", "80", "90"],
  );
});

test("simulateDay() tells of forty jobs that break at once in one message, and of their recovery in one a pipeline", () => {
  assert.deepEqual(simulateDay(40), { thresholds: 2, version1: 5 + 2 + 2 + 2, ours: 1 + 3 });
  assert.equal(simulateDay(300).ours, 4);
  assert.equal(simulateDay(1).ours, 2);
});

test("formatDays() is a Markdown table with a row for each number of jobs", () => {
  const rows = formatDays().split("\n").slice(2);
  assert.deepEqual(
    rows.map((row) => /^\| (\d+) \| \d+ \| \d+ \| \d+ \|$/.exec(row)?.[1]),
    ["1", "5", "40", "300"],
  );
});
