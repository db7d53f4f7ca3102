/**
 * Simulates jobs that fail at random, days on which many jobs break at once, and jobs that break for good, and counts
 * what a channel gets. Prints three Markdown tables:
 *
 *   npx tsx test/tools/simulation.ts
 */
import { realpathSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import {
  createInitialJobExecutions,
  type JobExecutions,
  type PipelineJob,
  type Update,
  updateStatistics,
} from "../../check-failures.ts";
import { listingOf, NOW, settings } from "../support/builders.ts";

/** In the first runs most windows are still short, and most jobs not tracked: what they would tell is not counted. */
const WARM_UP_RUNS = 100;
const RUNS = 100;
const RATES = [0.2, 0.3, 0.4, 0.5, 0.6, 0.8];

const { pipeline: PIPELINE, limits } = settings();
const { CONSECUTIVE_THRESHOLD, CUMULATIVE_THRESHOLD, CUMULATIVE_LENGTH, RECOVERY_THRESHOLD } = limits;

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

const nameOf = (job: number) => `job ${job}`;

/** Counts a pipeline in which the n-th job failed or passed. */
function count(document: JobExecutions, run: number, failing: boolean[]): Update {
  const ran = failing.map((isFailing, i): PipelineJob => {
    return { id: run * failing.length + i + 1, name: nameOf(i), outcome: isFailing ? "failed" : "passed" };
  });
  const pipeline = { ...PIPELINE, CI_PIPELINE_ID: run, CI_COMMIT_SHA: `c0ffee${run + 100}` };
  return updateStatistics(document, listingOf(ran), { pipeline, limits, now: NOW });
}

/**
 * What version 2 told of one job: of an alert when it opened, by the very execution with which a threshold was reached,
 * and once more when it became broken; of every third pass in a row that closed the alert of a broken job.
 */
function createVersion2() {
  let window: boolean[] = [];
  let streak = 0;
  let alert: "broken" | "often" | undefined;
  return (isFailing: boolean): boolean => {
    window = [...window, isFailing].slice(-CUMULATIVE_LENGTH);
    streak = isFailing ? streak + 1 : 0;
    const before = alert;
    const last = window.slice(-RECOVERY_THRESHOLD);
    if (alert && last.length === RECOVERY_THRESHOLD && !last.includes(true)) alert = undefined;
    else if (isFailing && streak === CONSECUTIVE_THRESHOLD) alert = "broken";
    else if (isFailing && window.filter(Boolean).length === CUMULATIVE_THRESHOLD) alert = before ?? "often";
    return alert !== before && !(before === "often" && alert === undefined);
  };
}

/** The lines about a job in 100 runs, averaged over jobs that all fail at the same rate. */
export function simulate(failureRate: number, { jobs = 1_000, seed = 1 } = {}) {
  const random = randomNumbers(seed);
  const version2 = Array.from({ length: jobs }, createVersion2);
  const told = { thresholds: 0, version2: 0, alerts: 0, recoveries: 0 };
  let document = createInitialJobExecutions();
  for (let run = 1; run <= WARM_UP_RUNS + RUNS; run++) {
    const failing = version2.map(() => random() < failureRate);
    const toldByVersion2 = version2.filter((play, i) => play(failing[i] === true)).length;
    const update = count(document, run, failing);
    document = update.document;
    if (run <= WARM_UP_RUNS) continue;
    const { reached, news } = update;
    const recoveries = news.filter((item) => item.kind === "recovered").length;
    told.thresholds += (reached.consecutive.size + reached.cumulative.size) / jobs;
    told.version2 += toldByVersion2 / jobs;
    told.alerts += (news.length - recoveries) / jobs;
    told.recoveries += recoveries / jobs;
  }
  return { ...told, lines: told.alerts + told.recoveries };
}

const formatTable = (head: string[], rows: string[][]) =>
  [head, head.map(() => "---:"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
const percent = (share: number) => `${Math.round(share * 100)} %`;

/** The lines by failure rate. */
export function formatSimulation(options = {}): string {
  const rows = RATES.map((rate) => {
    const { thresholds, version2, lines, alerts, recoveries } = simulate(rate, options);
    return [percent(rate), ...[thresholds, version2, lines, alerts, recoveries].map((count) => count.toFixed(1))];
  });
  const head = [
    "a run fails by chance in",
    "lines if every reached threshold were told",
    "lines of version 2",
    "lines now",
    "of these, alerts",
    "of these, recoveries",
  ];
  return formatTable(head, rows);
}

/**
 * The messages of a day on which jobs break by one commit, fail in five pipelines, and recover over three: a third of
 * them passes from the sixth pipeline on, the next from the seventh, the last from the eighth.
 */
export function simulateDay(jobs: number) {
  const told = { thresholds: 0, alerts: 0, recoveries: 0 };
  let document = createInitialJobExecutions();
  for (let run = 1; run <= 12; run++) {
    const failing = Array.from({ length: jobs }, (_, i) => run < 6 + Math.floor((3 * i) / jobs));
    const { reached, news, ...update } = count(document, run, failing);
    document = update.document;
    if (reached.consecutive.size + reached.cumulative.size > 0) told.thresholds++;
    if (news.some(({ kind }) => kind === "consecutive" || kind === "cumulative")) told.alerts++;
    else if (news.length > 0) told.recoveries++;
  }
  return told;
}

/** The messages of such days, by how many jobs break. */
export function formatDays(): string {
  const rows = [1, 5, 40, 300].map((jobs) => [`${jobs}`, ...Object.values(simulateDay(jobs)).map(String)]);
  const head = [
    "jobs that break at once",
    "alerts if every reached threshold were told (it has no recoveries)",
    "alerts now",
    "recoveries now",
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
    const update = count(document, run + WARM_UP_RUNS, failing);
    document = update.document;
    for (const { kind, job } of run > 0 ? update.news : []) {
      if (kind === "consecutive" && !failures.has(job)) failures.set(job, run);
      if (kind === "recovered" && !passes.has(job)) passes.set(job, run - PATIENCE_RUNS);
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
