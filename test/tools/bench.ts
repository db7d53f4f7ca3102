/**
 * Measures whole runs of the script, from the start of its process to its end, with the stand-ins on loopback:
 *
 *   tsx test/bench.ts [--runs 10] [--jobs 1000,10000,100000] [runtime…]
 */
import { copyFileSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeFolder, SCRIPT, start } from "../support/run.ts";
import { KEY, startStandIns } from "../support/stand-ins.ts";
import { installRuntimes, type Runtime } from "./install-runtimes.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const PIPELINE = 1005;
const LATENCY_MS = 100;
const GROWTH_RUNS = 3;

// Its imports are exported, or tsx would leave them out.
const EMPTY = `
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import * as v from "valibot";
export { GetObjectCommand, PutObjectCommand, S3Client, v };
`;

type Measured = { ms: number; peakMb: number; requests: number; readMb: number; writtenMb: number };

/** The number in the middle, or between the two that are there. */
function median(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
}

/** A document of tracked jobs, none of which comes near an alert. */
function documentOf(names: string[]): string {
  const commits = Array.from({ length: 10 }, (_, i) => (0xdec0de10 + i * 0x1234567).toString(16).slice(0, 8));
  const jobs = names.map((name, n) => {
    const jobs_info = commits.map((commit, i) =>
      i === 2 ? { id: 800_000_000 + n, failing: true, commit } : { id: null, failing: false, commit },
    );
    return [name, { consecutive_failures: 0, jobs_info }];
  });
  return JSON.stringify({ pipeline_id: PIPELINE - 1, jobs: Object.fromEntries(jobs) });
}

const FAILED = Array.from({ length: 6 }, (_, i) => `tests: [integration, ${i}]`);

/** The stand-ins with a pipeline of six failures and some successes, and a function that measures runs against them. */
async function prepare(document: string, succeeded: number, latencyMs = 0) {
  const { s3, gitlab, slack, env, close } = await startStandIns({ latencyMs });
  const jobs = [...FAILED, ...Array.from({ length: succeeded }, (_, i) => `build: [package ${i}, linux]`)];
  gitlab.pipelines.set(
    PIPELINE,
    jobs.map((name, i) => ({
      id: 900_000_000 + i,
      name,
      status: i < FAILED.length ? "failed" : "success",
      web_url: `https://gitlab.example.com/acme/shop/-/jobs/${900_000_000 + i}`,
      commit: { title: "Take the wind out of the sails of flaky tests" },
    })),
  );
  const body = Buffer.from(document);
  const measure = async (command: string[], folder: string, more = {}): Promise<Measured> => {
    s3.objects.set(KEY, body);
    for (const { requests } of [s3, gitlab, slack]) requests.length = 0;
    const { ms, peakMb } = await time(command, { ...env, ...more, CI_PIPELINE_ID: `${PIPELINE}` }, folder);
    const requests = [s3, gitlab, slack].reduce((sum, server) => sum + server.requests.length, 0);
    const written = s3.requests.reduce((sum, request) => sum + request.body.length, 0);
    return { ms, peakMb, requests, readMb: body.length / 1e6, writtenMb: written / 1e6 };
  };
  return { measure, close };
}

async function time(command: string[], env: Record<string, string>, folder: string) {
  const started = performance.now();
  const { child, result } = start([], env, folder, command);
  let peakKb = Number.NaN;
  // The kernel keeps the peak until the process ends, so that nothing is missed between two looks.
  const timer = setInterval(() => {
    peakKb = readPeak(child.pid) ?? peakKb;
  }, 20);
  const { code, stdout, stderr } = await result;
  const ms = performance.now() - started;
  clearInterval(timer);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${stdout}${stderr}`);
  return { ms, peakMb: peakKb / 1024 };
}

function readPeak(pid: number | undefined): number | undefined {
  try {
    const [, kb] = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return kb === undefined ? undefined : Number(kb);
  } catch {
    return undefined; // it has ended, or this is not Linux: then the table has no memory
  }
}

/** A folder with a copy of the script and the empty one, so that both resolve their imports alike. */
function makeBench() {
  const { path, remove } = makeFolder({
    "package.json": readFileSync(join(PROJECT, "package.json"), "utf8"),
    "empty.ts": EMPTY,
  });
  copyFileSync(SCRIPT, join(path, "check-failures.ts"));
  symlinkSync(join(PROJECT, "node_modules"), join(path, "node_modules"));
  return { path, remove };
}

const printRow = (...cells: (string | number)[]) => console.log(`| ${cells.join(" | ")} |`);

function printHead(title: string, ...columns: string[]) {
  console.log(`\n## ${title}\n`);
  printRow(...columns);
  printRow(...columns.map((_, i) => (i === 0 ? "---" : "---:")));
}

const ratioBar = ({ name }: Runtime) => (name.startsWith("tsx") ? "1.35" : name.startsWith("Node") ? "1.50" : "–");

/** A run without alerts beside the empty script and beside itself with slow servers, in turn. */
async function benchStartUp(runtimes: Runtime[], runs: number, folder: string) {
  const document = documentOf(FAILED.slice(0, 3));
  const near = await prepare(document, 1_194);
  const far = await prepare(document, 1_194, LATENCY_MS);
  printHead(
    `A run without alerts, in a pipeline of 1,200 jobs (medians of ${runs} runs, ms)`,
    "runtime",
    "empty script",
    "check-failures.ts",
    "ratio",
    "at most",
    "ratio of the fastest runs",
    "requests, at most 3",
    `with ${LATENCY_MS} ms latency`,
    "round trips more, about 2",
    "with NODE_COMPILE_CACHE",
  );
  const cache = { NODE_COMPILE_CACHE: join(folder, "compile-cache") };
  for (const runtime of runtimes) {
    const command = (script: string) => [...runtime.command("s3"), join(folder, script)];
    const times: Record<"empty" | "near" | "far" | "cached", number[]> = { empty: [], near: [], far: [], cached: [] };
    let requests = 0;
    for (let i = -1; i < runs; i++) {
      const empty = await time(command("empty.ts"), {}, folder);
      const run = await near.measure(command("check-failures.ts"), folder);
      const slow = await far.measure(command("check-failures.ts"), folder);
      const cached = await near.measure(command("check-failures.ts"), folder, cache);
      requests = Math.max(requests, run.requests, slow.requests);
      if (i < 0) continue; // the first ones fill caches
      times.empty.push(empty.ms);
      times.near.push(run.ms);
      times.far.push(slow.ms);
      times.cached.push(cached.ms);
    }
    const [a, b, c] = [median(times.empty), median(times.near), median(times.far)];
    const trips = ((c - b) / LATENCY_MS).toFixed(1);
    const ratio = (b / a).toFixed(2);
    const fastest = (Math.min(...times.near) / Math.min(...times.empty)).toFixed(2); // less of the machine's other work
    printRow(
      runtime.name,
      a.toFixed(0),
      b.toFixed(0),
      ratio,
      ratioBar(runtime),
      fastest,
      requests,
      c.toFixed(0),
      trips,
      median(times.cached).toFixed(0),
    );
  }
  near.close();
  far.close();
}

/** A run with ever more tracked jobs, few of which are in the pipeline. */
async function benchGrowth(runtimes: Runtime[], sizes: number[], folder: string) {
  printHead(
    `A run with a large document (medians of ${GROWTH_RUNS} runs)`,
    "runtime",
    "tracked jobs",
    "s",
    "peak MB",
    "MB read",
    "MB written",
    "requests",
  );
  for (const size of sizes) {
    const others = Array.from({ length: size - 3 }, (_, i) => `tests: [package ${i}, linux]`);
    const { measure, close } = await prepare(documentOf([...FAILED.slice(0, 3), ...others]), 150);
    for (const runtime of runtimes) {
      const measured: Measured[] = [];
      for (let i = 0; i < GROWTH_RUNS; i++) {
        measured.push(await measure([...runtime.command("s3"), join(folder, "check-failures.ts")], folder));
      }
      const middle = (key: keyof Measured) => median(measured.map((run) => run[key]));
      const [peak, read, written] = [middle("peakMb"), middle("readMb"), middle("writtenMb")];
      const seconds = (middle("ms") / 1_000).toFixed(2);
      printRow(
        runtime.name,
        size.toLocaleString("en"),
        seconds,
        peak.toFixed(0),
        read.toFixed(1),
        written.toFixed(1),
        middle("requests"),
      );
    }
    close();
  }
  console.log("\nOn Node 20, 100,000 jobs may take 2.8 s and 450 MB.");
}

const { values, positionals } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    jobs: { type: "string", default: "1000,10000,100000" },
  },
  allowPositionals: true,
});
const runtimes = await installRuntimes(positionals);
const { path, remove } = makeBench();
try {
  if (Number(values.runs) > 0) await benchStartUp(runtimes, Number(values.runs), path);
  if (values.jobs) await benchGrowth(runtimes, values.jobs.split(",").map(Number), path);
} finally {
  remove();
}
