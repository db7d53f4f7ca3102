import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  formatBreaks,
  formatDays,
  formatSimulation,
  simulate,
  simulateBreak,
  simulateDay,
} from "./tools/simulation.ts";

const JOBS = 300; // so many that the averages are near enough, and so few that this is quick

/** At most so many lines; of thresholds alone about so many. */
const PROMISED: [rate: number, atMost: number, thresholds: number][] = [
  [0.2, 1.6, 2.0],
  [0.3, 3.2, 7.1],
  [0.4, 3.5, 13.9],
  [0.5, 3.4, 18.6],
  [0.6, 3.3, 18.7],
  [0.8, 1.6, 11.5],
];

describe("simulate()", () => {
  for (const [rate, atMost, alone] of PROMISED) {
    test(`comes to the promised number of lines where ${rate * 100} % of the runs fail`, () => {
      const { lines, thresholds } = simulate(rate, { jobs: JOBS });
      assert.ok(lines <= atMost, `${lines} lines, and not at most ${atMost}`);
      assert.ok(lines >= atMost / 2, `${lines} lines, as if nothing were simulated`);
      assert.ok(Math.abs(thresholds - alone) <= 0.2 + alone / 20, `${thresholds} of thresholds, and not some ${alone}`);
    });
  }

  test("tells nothing of jobs that never fail, and nothing new of those that always do", () => {
    for (const rate of [0, 1]) assert.equal(simulate(rate, { jobs: 20 }).lines, 0);
  });

  test("is repeatable, and another seed is another simulation", () => {
    assert.deepEqual(simulate(0.5, { jobs: 20, seed: 2 }), simulate(0.5, { jobs: 20, seed: 2 }));
    assert.notDeepEqual(simulate(0.5, { jobs: 20, seed: 2 }), simulate(0.5, { jobs: 20, seed: 3 }));
  });
});

describe("simulateDay()", () => {
  test("tells of forty jobs that break at once in one message, and of their recovery in one a pipeline", () => {
    assert.deepEqual(simulateDay(40), { thresholds: 2, alerts: 1, recoveries: 3 });
    assert.deepEqual(simulateDay(300), { thresholds: 2, alerts: 1, recoveries: 3 });
    assert.deepEqual(simulateDay(1), { thresholds: 2, alerts: 1, recoveries: 1 });
  });
});

describe("simulateBreak()", () => {
  test("tells of each clean job at its third failure, and of its recovery at its third pass", () => {
    const { failures, passes, told } = simulateBreak(0, { jobs: 20 });
    assert.deepEqual([new Set(failures), new Set(passes), told], [new Set([3]), new Set([3]), 1]);
  });

  for (const [rate, atLeast] of [
    [0.2, 0.97],
    [0.3, 0.92],
    [0.4, 0.87],
  ] as const) {
    test(`tells within 15 runs of enough jobs that failed in ${rate * 100} % of their runs before they broke`, () => {
      const { failures, passes, told } = simulateBreak(rate, { jobs: JOBS });
      assert.ok(told >= atLeast, `${told} of the jobs, and not at least ${atLeast}`);
      assert.ok(Math.min(...failures) >= 3, "A break was told before its third failure");
      assert.deepEqual(new Set(passes), new Set([3]), "A recovery was not told at its third pass");
    });
  }
});

describe("the tables", () => {
  const columnsOf = (table: string) =>
    table.split("\n").map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const TABLES: [name: string, table: string, firstColumn: string[]][] = [
    ["formatSimulation()", formatSimulation({ jobs: 5 }), ["20 %", "30 %", "40 %", "50 %", "60 %", "80 %"]],
    ["formatDays()", formatDays(), ["1", "5", "40", "300"]],
    [
      "formatBreaks()",
      formatBreaks({ jobs: 5 }),
      ["in no run", ...[20, 30, 40].map((rate) => `in ${rate} % of its runs, by chance`)],
    ],
  ];
  for (const [name, table, firstColumn] of TABLES) {
    test(`${name} is a Markdown table with a row for each case and a cell for each head`, () => {
      const [heads = [], rule = [], ...rows] = columnsOf(table);
      assert.ok(rule.every((cell) => cell === "---:"));
      assert.deepEqual(
        rows.map(([first]) => first),
        firstColumn,
      );
      for (const row of [rule, ...rows]) assert.equal(row.length, heads.length);
    });
  }
});
