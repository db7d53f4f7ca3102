/**
 * Simulates jobs that fail at random, and days on which many break at once, and counts the messages: of the thresholds
 * alone, as the original sends them whenever one is reached, and those that a channel gets. Prints two Markdown tables:
 *
 *   npx tsx test/tools/simulation.ts
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

/** Version 1 split its messages: forty jobs made five. */
const JOBS_A_MESSAGE_IN_VERSION_1 = 8;

/**
 * The messages of a day on which jobs break by one commit, fail in five pipelines, and recover over three: a third of
 * them passes from the sixth pipeline on, the next from the seventh, the last from the eighth.
 */
export function simulateDay(jobs: number) {
  const names = Array.from({ length: jobs }, (_, i) => `job ${i}`);
  const told = { thresholds: 0, version1: 0, ours: 0 };
  let document = createInitialJobExecutions();
  for (let run = 1; run <= 12; run++) {
    const ran = names.map((name, i): PipelineJob => {
      const mended = 6 + Math.floor((3 * i) / jobs);
      return { id: run * jobs + i + 1, name, outcome: run < mended ? "failed" : "passed" };
    });
    const { pipeline, limits } = settings({ CI_PIPELINE_ID: `${run}`, CI_COMMIT_SHA: `c0ffee${run + 10}` });
    const { reached, news, ...update } = updateStatistics(document, ran, { pipeline, limits, now: NOW });
    document = update.document;
    if (reached.consecutive.size + reached.cumulative.size > 0) told.thresholds++;
    told.version1 += Math.ceil(news.length / JOBS_A_MESSAGE_IN_VERSION_1);
    if (news.length > 0) told.ours++;
  }
  return told;
}

/** The messages of such days, by how many jobs break. */
export function formatDays(): string {
  const rows = [1, 5, 40, 300].map((jobs) => [`${jobs}`, ...Object.values(simulateDay(jobs)).map(String)]);
  const head = ["jobs that break", "thresholds alone", "version 1", "now"];
  return [head, ["---:", "---:", "---:", "---:"], ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  process.stdout.write(`Messages about a job in ${RUNS} runs:\n\n${formatSimulation()}\n\n`);
  process.stdout.write(`Messages of a day on which jobs break by one commit:\n\n${formatDays()}\n`);
}
