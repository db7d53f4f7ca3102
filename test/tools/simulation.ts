/**
 * Simulates jobs that fail at random, and counts the messages: of the thresholds alone, as the original sends them
 * whenever one is reached, and of the alerts that updateStatistics() opens. Prints a Markdown table:
 *
 *   npx tsx test/simulation.ts
 */
import { realpathSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { createInitialJobExecutions, type PipelineJob, updateStatistics } from "../../check-failures.ts";
import { NOW, settings } from "../support/builders.ts";

/** In the first runs most windows are still short, and most jobs not tracked: what they would tell is not counted. */
const WARM_UP_RUNS = 100;
const RUNS = 100;

/** Numbers in [0, 1) that are the same for the same seed (Mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The messages about a job in 100 runs, averaged over jobs that all fail at the same rate. */
export function simulate(failureRate: number, { jobs = 1_000, seed = 1 } = {}) {
  const random = randomNumbers(seed);
  const names = Array.from({ length: jobs }, (_, i) => `job ${i}`);
  const told = { thresholds: 0, alerts: 0, recoveries: 0 };
  let document = createInitialJobExecutions();
  for (let run = 1; run <= WARM_UP_RUNS + RUNS; run++) {
    const ran = names.map((name, i): PipelineJob => {
      return { id: run * jobs + i, name, outcome: random() < failureRate ? "failed" : "passed" };
    });
    const { pipeline, limits } = settings({ CI_PIPELINE_ID: `${run}` });
    const { reached, news, ...update } = updateStatistics(document, ran, { pipeline, limits, now: NOW });
    document = update.document;
    if (run <= WARM_UP_RUNS) continue;
    told.thresholds += (reached.consecutive.size + reached.cumulative.size) / jobs;
    told.alerts += news.filter((item) => item.kind !== "recovered").length / jobs;
    told.recoveries += news.filter((item) => item.kind === "recovered").length / jobs;
  }
  return told;
}

/** The messages by failure rate. */
export function formatSimulation(options = {}): string {
  const rows = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9].map((rate) => {
    const { thresholds, alerts, recoveries } = simulate(rate, options);
    return [`${rate * 100} %`, ...[thresholds, alerts, recoveries].map((count) => count.toFixed(1))];
  });
  const head = ["failure rate", "thresholds alone", "alerts", "recoveries"];
  return [head, ["---:", "---:", "---:", "---:"], ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  process.stdout.write(`Messages about a job in ${RUNS} runs:\n\n${formatSimulation()}\n`);
}
