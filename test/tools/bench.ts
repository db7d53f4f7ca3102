/**
 * Measures what a run costs, in whole processes with the stand-ins on loopback, and holds it to its bars:
 *
 *   tsx test/tools/bench.ts                        all of it
 *   tsx test/tools/bench.ts --runs 40 start trips  parts of it: trips, start, document
 *
 * Nothing is measured alone: what is compared runs in turn, and what counts is the median of the ratios within each turn,
 * so that neither the machine nor its other work decides. Ends with 1 where a bar is not held.
 */
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeFolder, SCRIPT, start } from "../support/run.ts";
import { KEY, startStandIns } from "../support/stand-ins.ts";
import { writeBundle } from "./bundle.ts";
import { installRuntimes, type Runtime } from "./install-runtimes.ts";

const MODULES = fileURLToPath(new URL("../../node_modules", import.meta.url));
const PIPELINE = 1005;
const LATENCY_MS = 200;
const TRIPS_RUNS = 5;
const DOCUMENT_RUNS = 3;
/** The jobs that failed in the pipeline, half of which are tracked: none comes near an alert. */
const FAILED = Array.from({ length: 6 }, (_, i) => `tests: [integration, ${i}]`);
const TRACKED = FAILED.slice(0, 3);

// Exports, as tsx leaves out imports of which nothing is used.
const EMPTY = `export { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
export * as v from "valibot";`;

/** What the original does with a document between its download and its upload: JSON into objects, and back. */
const IN_PYTHON = `import json, sys


class Execution:
    def __init__(self, job, failing, commit):
        self.job, self.failing, self.commit = job, failing, commit

    def to_json(self):
        return {"id": self.job, "failing": self.failing, "commit": self.commit}


class Job:
    def __init__(self, in_a_row, executions):
        self.in_a_row, self.executions = in_a_row, executions

    def add(self, execution):
        self.in_a_row = self.in_a_row + 1 if execution.failing else 0
        self.executions = [*self.executions, execution][-10:]

    def to_json(self):
        return {"consecutive_failures": self.in_a_row, "jobs_info": [one.to_json() for one in self.executions]}


def read(path):
    with open(path) as file:
        stored = json.load(file)["jobs"]
    executions = {name: [Execution(*one.values()) for one in job["jobs_info"]] for name, job in stored.items()}
    return {name: Job(job["consecutive_failures"], executions[name]) for name, job in stored.items()}


document_file, jobs_file = sys.argv[1:]
jobs = read(document_file)
with open(jobs_file) as file:
    failed = {job["name"]: job["id"] for job in json.load(file) if job["status"] == "failed"}
for name in failed:
    jobs.setdefault(name, Job(0, []))
for name, job in jobs.items():
    job.add(Execution(failed.get(name), name in failed, "0ddba11f"))
news = [job for job in jobs.values() if job.in_a_row >= 3 or sum(one.failing for one in job.executions) >= 5]
if news:
    sys.exit("Nothing was to be told")
with open(document_file, "w") as file:
    json.dump({"pipeline_id": ${PIPELINE}, "jobs": {name: job.to_json() for name, job in jobs.items()}}, file)
`;

type Measured = { ms: number; peakMb: number };
type Row = { what: string; figures: string; bar: string; isOver: boolean };

function median(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** A document of the original's, in which each of these jobs failed once. */
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

/** So many jobs of a pipeline, as GitLab lists them. */
function listJobs(count: number) {
  const passed = Array.from({ length: count - FAILED.length }, (_, i) => `build: [package ${i}, linux]`);
  return [...FAILED, ...passed].map((name, i) => ({
    id: 900_000_000 + i,
    name,
    status: i < FAILED.length ? "failed" : "success",
    web_url: `https://gitlab.example.com/acme/shop/-/jobs/${900_000_000 + i}`,
  }));
}

/** The stand-ins with a pipeline of so many jobs, and a function that measures a run against them. */
async function prepare(jobs: number, latencyMs = 0) {
  const { s3, gitlab, env, requests, close } = await startStandIns({ latencyMs });
  gitlab.pipelines.set(PIPELINE, listJobs(jobs));
  const body = Buffer.from(documentOf(TRACKED));
  const measure = async (command: string[], folder: string): Promise<Measured & { requests: number }> => {
    s3.objects.set(KEY, body);
    const before = requests().length;
    const measured = await time(command, { ...env, CI_PIPELINE_ID: `${PIPELINE}` }, folder);
    if (s3.objects.get(KEY) === body) throw new Error(`${command.join(" ")} stored nothing`);
    return { ...measured, requests: requests().length - before };
  };
  return { measure, close };
}

async function time(command: string[], env: Record<string, string>, folder: string): Promise<Measured> {
  const started = performance.now();
  const { child, result } = start([], env, folder, command);
  let peakMb = Number.NaN;
  // The kernel keeps the peak until the process ends, so that nothing is missed between two looks.
  const timer = setInterval(() => {
    peakMb = readPeakMb(child.pid) ?? peakMb;
  }, 20);
  const { code, stdout, stderr } = await result;
  const ms = performance.now() - started;
  clearInterval(timer);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${stdout}${stderr}`);
  return { ms, peakMb };
}

function readPeakMb(pid: number | undefined): number | undefined {
  try {
    const [, kb] = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return kb ? Number(kb) / 1024 : undefined;
  } catch {
    return undefined; // it has ended, or this is not Linux: then memory is not known
  }
}

/** Each of them in turn, again and again; the first turn only fills caches. Resolves to what came of each. */
async function takeTurns<K extends string>(times: number, all: Record<K, () => Promise<Measured>>) {
  const names = Object.keys(all) as K[];
  const rounds = Object.fromEntries(names.map((name) => [name, [] as Measured[]])) as Record<K, Measured[]>;
  for (let round = 0; round <= times; round++) {
    for (const name of names) {
      const measured = await all[name]();
      if (round > 0) rounds[name].push(measured);
    }
  }
  return {
    median: (name: K, of: keyof Measured = "ms") => median(rounds[name].map((measured) => measured[of])),
    /** Between what ran in the same turn. */
    ratio: (name: K, base: K, of: keyof Measured = "ms") =>
      median(rounds[name].map((measured, i) => measured[of] / (rounds[base][i]?.[of] ?? Number.NaN))),
    difference: (name: K, base: K) =>
      median(rounds[name].map((measured, i) => measured.ms - (rounds[base][i]?.ms ?? Number.NaN))),
  };
}

function printTable(title: string, rows: Row[]) {
  const widthOf = (texts: string[]) => Math.max(...texts.map((text) => text.length));
  const [first, second] = [widthOf(rows.map(({ what }) => what)), widthOf(rows.map(({ figures }) => figures))];
  console.log(`\n${title}\n`);
  for (const { what, figures, bar, isOver } of rows) {
    console.log(
      `  ${what.padEnd(first)}  ${figures.padStart(second)}  ${bar && `bar: ${bar}`}${isOver ? "  OVER" : ""}`.trimEnd(),
    );
  }
  if (rows.some(({ isOver }) => isOver)) process.exitCode = 1;
}

const inSeconds = (ms: number) => `${(ms / 1_000).toFixed(2)} s`;

/** `path` has the script, the empty one and node_modules; nothing is beside the bundle. */
type Bench = { path: string; bundle: string; runs: number };

/** How much a run asks for, and how often it waits for an answer: slow servers show that. */
async function benchTrips({ path, bundle }: Bench) {
  const rows: Row[] = [];
  for (const { jobs, requests, trips } of [
    { jobs: 90, requests: 1 + 1 + 1 + 1, trips: 2 },
    { jobs: 1_200, requests: 1 + 12 + 1 + 1, trips: 3 },
  ]) {
    const [near, far] = [await prepare(jobs), await prepare(jobs, LATENCY_MS)];
    const command = [process.execPath, bundle];
    const turns = await takeTurns(TRIPS_RUNS, {
      near: () => near.measure(command, path),
      far: () => far.measure(command, path),
    });
    const counted = (await near.measure(command, path)).requests;
    const waited = turns.difference("far", "near") / LATENCY_MS;
    for (const { close } of [near, far]) close();
    const what = `${jobs.toLocaleString("en")} jobs in the pipeline`;
    rows.push(
      { what, figures: `${counted} requests`, bar: `${requests}`, isOver: counted > requests },
      { what, figures: `${waited.toFixed(1)} round trips`, bar: `${trips}, rounded`, isOver: waited >= trips + 0.5 },
    );
  }
  printTable("What a run without news asks for, with GITLAB_TOKEN", rows);
}

/** A run beside an empty script with the same imports, so that neither the packages nor the machine count. */
async function benchStart({ path, bundle, runs }: Bench) {
  const { measure, close } = await prepare(90);
  const [old, current] = await installRuntimes([`tsx on Node ${process.versions.node}`, "Node 24.21"]);
  if (!old || !current) throw new Error("Run this with another Node than 24.21, e.g. 20");
  const empty = ({ command }: Runtime) => time([...command("s3"), join(path, "empty.ts")], {}, path);
  const source = ({ command }: Runtime) => measure([...command("s3"), join(path, "check-failures.ts")], path);
  const bundled = ({ bare }: Runtime) => measure([...bare("s3"), bundle], path);
  const turns = await takeTurns(runs, {
    oldEmpty: () => empty(old),
    oldSource: () => source(old),
    oldBundle: () => bundled(old),
    empty: () => empty(current),
    source: () => source(current),
    bundle: () => bundled(current),
  });
  close();
  type Name = Parameters<typeof turns.median>[0];
  const row = (what: string, name: Name, base: Name, bar: number): Row => {
    const ratio = turns.ratio(name, base);
    const figures = `${turns.median(name).toFixed(0)} ms  ${ratio.toFixed(2)}`;
    return { what, figures, bar: name === base ? "" : bar.toFixed(2), isOver: ratio > bar };
  };
  printTable(`A run without news, 90 jobs: medians, and ratios to the empty script (${runs} turns)`, [
    row(`${old.name}: an empty script`, "oldEmpty", "oldEmpty", 1),
    row(`${old.name}: check-failures.ts`, "oldSource", "oldEmpty", 1.35),
    row(`${old.name}, without tsx: the bundle`, "oldBundle", "oldEmpty", 0.55),
    row(`${current.name}: an empty script`, "empty", "empty", 1),
    row(`${current.name}: check-failures.ts`, "source", "empty", 1.85),
    row(`${current.name}: the bundle`, "bundle", "empty", 1.25),
  ]);
}

/** A document with very many tracked jobs, few of which are in the pipeline, beside the original's work on it. */
async function benchDocument({ path }: Bench) {
  const names = Array.from({ length: 100_000 }, (_, i) => TRACKED[i] ?? `tests: [package ${i}, linux]`);
  const document = documentOf(names);
  const folder = makeFolder({ "jobs.json": listJobs(90), "original.py": IN_PYTHON });
  const tsx = [process.execPath, "--import", import.meta.resolve("tsx"), join(path, "check-failures.ts")];
  const variables = {
    CI_PIPELINE_ID: `${PIPELINE}`,
    CI_COMMIT_SHA: "0ddba11f",
    PIPELINE_JOBS_FILE: "jobs.json",
    JOB_EXECUTIONS_URL: "document.json",
  };
  const renewed = async (command: string[]) => {
    writeFileSync(join(folder.path, "document.json"), document);
    const measured = await time(command, variables, folder.path);
    const { pipeline_id } = JSON.parse(readFileSync(join(folder.path, "document.json"), "utf8"));
    if (pipeline_id !== PIPELINE) throw new Error(`${command.join(" ")} stored nothing`);
    return measured;
  };
  const turns = await takeTurns(DOCUMENT_RUNS, {
    python: () => renewed(["python3", "original.py", "document.json", "jobs.json"]),
    script: () => renewed(tsx),
  });
  folder.remove();
  const row = (what: string, of: keyof Measured, bar: number, format: (figure: number) => string): Row => {
    const ratio = turns.ratio("script", "python", of);
    const figures = `${format(turns.median("script", of))} to ${format(turns.median("python", of))}  ${ratio.toFixed(2)}`;
    return { what, figures, bar: bar.toFixed(2), isOver: ratio > bar };
  };
  const size = (document.length / 1e6).toFixed(0);
  printTable(`100,000 tracked jobs, ${size} MB, beside the original's work in Python (${DOCUMENT_RUNS} turns)`, [
    row("time", "ms", 0.8, inSeconds),
    row("memory at most", "peakMb", 1.1, (peak) => `${peak.toFixed(0)} MB`),
  ]);
}

const PARTS = { trips: benchTrips, start: benchStart, document: benchDocument };

const { values, positionals } = parseArgs({
  options: { runs: { type: "string", default: "15" } },
  allowPositionals: true,
});
const unknown = positionals.find((name) => !Object.hasOwn(PARTS, name));
if (unknown) throw new Error(`There is no part ${unknown}, only ${Object.keys(PARTS).join(", ")}`);
const { path, remove } = makeFolder({ "package.json": { type: "module" }, "empty.ts": EMPTY });
const alone = makeFolder();
try {
  copyFileSync(SCRIPT, join(path, "check-failures.ts"));
  symlinkSync(MODULES, join(path, "node_modules"));
  const bundle = await writeBundle(alone.path);
  for (const [name, part] of Object.entries(PARTS)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    await part({ path, bundle, runs: Number(values.runs) });
  }
} finally {
  remove();
  alone.remove();
}
