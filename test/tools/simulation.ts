/**
 * Simulates jobs that fail at random, days on which many jobs break at once, and jobs that break for good, and counts
 * what a channel gets. Prints three Markdown tables:
 *
 *   npm run --silent simulate
 */
import { realpathSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import {
  claimNews,
  createInitialJobExecutions,
  failuresIn,
  type JobExecutions,
  type News,
  noteTold,
  type PipelineJob,
  type TrackedJob,
  updateStatistics,
} from "../../check-failures.ts";
import { listingOf, MINUTE, NOW, taskOf } from "../support/builders.ts";

/** In the first runs most windows are still short, and most jobs not tracked: what they would tell is not counted. */
const WARM_UP_RUNS = 100;
const RUNS = 100;
const RATES = [0.2, 0.3, 0.4, 0.5, 0.6, 0.8];

const HOUR = 60 * MINUTE; // from one run to the next
const TASK = taskOf();
const { CONSECUTIVE_THRESHOLD, CUMULATIVE_THRESHOLD } = TASK.limits;

/** Numbers in [0, 1) that are the same for the same seed: a generator of Lehmer's. */
function randomNumbers(seed: number): () => number {
  const modulus = 2 ** 31 - 1;
  let state = seed;
  return () => {
    state = (state * 48_271) % modulus;
    return state / modulus;
  };
}

type Told = { document: JobExecutions; news: News[]; messages: number; thresholds: number };

/** Counts a pipeline in which the n-th job failed or passed, and delivers what is told of that. */
function count(before: JobExecutions, run: number, failing: boolean[]): Told {
  const ran = failing.map((isFailing, i): PipelineJob => {
    return { id: run * failing.length + i + 1, name: `job ${i}`, outcome: isFailing ? "failed" : "passed" };
  });
  const pipeline = { ...TASK.pipeline, CI_PIPELINE_ID: run, CI_COMMIT_SHA: `c0ffee${run + 100}` };
  const task = { ...TASK, pipeline, now: new Date(NOW.getTime() + run * HOUR) };
  const update = updateStatistics(before, listingOf(ran), task);
  const claimed = claimNews(update, task);
  const delivered = claimed.messages.map((message) => ({ ...message, delivered: true }));
  return {
    document: noteTold(claimed.document, delivered, task),
    news: delivered.flatMap(({ news }) => news),
    messages: delivered.filter(({ news }) => news.length > 0).length,
    thresholds: [...update.document.jobs.values()].reduce((sum, job) => sum + thresholdsReached(job), 0),
  };
}

/** How many thresholds a job has just reached: what is told where each of them is a line. */
function thresholdsReached({ consecutive_failures, jobs_info }: TrackedJob) {
  if (consecutive_failures === 0) return 0;
  const reached = [
    consecutive_failures === CONSECUTIVE_THRESHOLD,
    failuresIn(jobs_info).length === CUMULATIVE_THRESHOLD,
  ];
  return reached.filter(Boolean).length;
}

const isRecovery = ({ alert }: News) => alert.kind === "recovered";

/** The lines about a job in 100 runs, averaged over jobs that all fail at the same rate. */
export function simulate(failureRate: number, { jobs = 1_000, seed = 1 } = {}) {
  const random = randomNumbers(seed);
  const told = { thresholds: 0, lines: 0, recoveries: 0 };
  let document = createInitialJobExecutions();
  for (let run = 1; run <= WARM_UP_RUNS + RUNS; run++) {
    const failing = Array.from({ length: jobs }, () => random() < failureRate);
    const counted = count(document, run, failing);
    document = counted.document;
    if (run <= WARM_UP_RUNS) continue;
    told.thresholds += counted.thresholds / jobs;
    told.lines += counted.news.length / jobs;
    told.recoveries += counted.news.filter(isRecovery).length / jobs;
  }
  return told;
}

const formatTable = (head: string[], rows: string[][]) =>
  [head, head.map(() => "---:"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
const percent = (share: number) => `${Math.round(share * 100)} %`;

/** The lines by failure rate. */
export function formatSimulation(options = {}): string {
  const rows = RATES.map((rate) => {
    const { thresholds, lines, recoveries } = simulate(rate, options);
    return [percent(rate), ...[thresholds, lines, recoveries].map((count) => count.toFixed(1))];
  });
  const head = [
    "a run fails by chance in",
    "lines if every reached threshold were told",
    "lines",
    "of these, recoveries",
  ];
  return formatTable(head, rows);
}

/**
 * The messages of a day on which jobs break by one commit, fail in five pipelines, and recover over three: a third of
 * them passes from the sixth pipeline on, the next from the seventh, the last from the eighth. `thresholds`: in how
 * many pipelines some job reaches a threshold.
 */
export function simulateDay(jobs: number) {
  const told = { thresholds: 0, alerts: 0, recoveries: 0 };
  let document = createInitialJobExecutions();
  for (let run = 1; run <= 12; run++) {
    const failing = Array.from({ length: jobs }, (_, i) => run < 6 + Math.floor((3 * i) / jobs));
    const { news, messages, thresholds, ...counted } = count(document, run, failing);
    document = counted.document;
    told.thresholds += Math.min(thresholds, 1);
    told[news.some(isRecovery) ? "recoveries" : "alerts"] += messages;
  }
  return told;
}

/** The messages of such days, by how many jobs break. */
export function formatDays(): string {
  const rows = [1, 5, 40, 300].map((jobs) => [`${jobs}`, ...Object.values(simulateDay(jobs)).map(String)]);
  const head = [
    "jobs that break at once",
    "messages if every reached threshold were told (without recoveries)",
    "alerts",
    "recoveries",
  ];
  return formatTable(head, rows);
}

/** A job that is broken for longer than this has been noticed otherwise. */
const PATIENCE_RUNS = 15;

/**
 * How soon a break and its end are told. The jobs fail at a rate by chance, pass once, then fail in 15 runs, and then
 * pass for good. `failures` and `passes` are after how many of these each job was told of, if it was.
 */
export function simulateBreak(failureRate: number, { jobs = 1_000, seed = 1 } = {}) {
  const random = randomNumbers(seed);
  const failures = new Map<string, number>();
  const passes = new Map<string, number>();
  let document = createInitialJobExecutions();
  for (let run = 1 - WARM_UP_RUNS; run <= 2 * PATIENCE_RUNS; run++) {
    const failing = Array.from({ length: jobs }, () => {
      const fails = random() < failureRate;
      return run < 0 ? fails : run > 0 && run <= PATIENCE_RUNS;
    });
    const counted = count(document, run + WARM_UP_RUNS, failing);
    document = counted.document;
    for (const { alert, job } of run > 0 ? counted.news : []) {
      if (alert.kind === "consecutive" && !failures.has(job)) failures.set(job, run);
      if (alert.kind === "recovered" && !passes.has(job)) passes.set(job, run - PATIENCE_RUNS);
    }
  }
  return { failures: [...failures.values()], passes: [...passes.values()], told: failures.size / jobs };
}

const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
const mean = (numbers: number[]) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
const describeDelays = (numbers: number[]) => `${median(numbers)} (mean ${mean(numbers).toFixed(1)})`;

/** How soon a break and its end are told, by how the job did before. */
export function formatBreaks(options = {}): string {
  const rows = [0, 0.2, 0.3, 0.4].map((rate) => {
    const { failures, passes, told } = simulateBreak(rate, options);
    const past = rate === 0 ? "in no run" : `in ${percent(rate)} of its runs, by chance`;
    return [past, percent(told), describeDelays(failures), describeDelays(passes)];
  });
  const head = [
    "before it broke, the job failed",
    `jobs reported as broken within ${PATIENCE_RUNS} runs`,
    "failures up to the message, if there is one: median",
    "passes up to its recovery: median",
  ];
  return formatTable(head, rows);
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  const tables = [
    `Lines in the chat about one job in ${RUNS} runs, in which it fails by chance (after ${WARM_UP_RUNS} runs that do not count):`,
    formatSimulation(),
    "Messages of a day on which jobs break by one commit and are mended one after the other:",
    formatDays(),
    `How soon a job is reported that breaks for good, fails ${PATIENCE_RUNS} times and is mended:`,
    formatBreaks(),
  ];
  process.stdout.write(`${tables.join("\n\n")}\n`);
}
