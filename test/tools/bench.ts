/**
 * Measures what a user waits for, whole processes from start to end, with the stand-ins on loopback:
 *
 *   tsx test/tools/bench.ts                                      all of it
 *   tsx test/tools/bench.ts --runs 40 --jobs 0,1000 run growth   parts of it: done, run, growth, passed
 *
 * What is compared runs in turn, so that a slow machine slows all of it. The bars in seconds are for one without other
 * work, on which a run with no tracked jobs takes 0.35 s.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeFolder, SCRIPT, start } from "../support/run.ts";
import { KEY, startStandIns } from "../support/stand-ins.ts";
import { writeBundle } from "./bundle.ts";
import { installRuntimes, type Runtime } from "./install-runtimes.ts";

const MODULES = fileURLToPath(new URL("../../node_modules", import.meta.url));
const PACKAGES = ["tsx", "@aws-sdk/client-s3", "valibot"];
const PIPELINE = 1005;
const LATENCY_MS = 100;
const GROWTH_RUNS = 3;
const PASSED = 10_000;
const JOBS = { few: 90, many: 1_200 }; // of a pipeline: one page of GitLab's, and twelve
/** The jobs that failed in the pipeline, and of those the ones that are tracked: none comes near an alert. */
const FAILED = Array.from({ length: 6 }, (_, i) => `tests: [integration, ${i}]`);
const TRACKED = FAILED.slice(0, 3);

// Exports, as tsx leaves out imports of which nothing is used.
const EMPTY = `export { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
export * as v from "valibot";`;

type Measured = { ms: number; peakMb: number };
type Row = { what: string; figures: string; bar?: string | undefined; isOver?: boolean };

function median(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** A document in which these jobs failed once, and as many others as asked for have only passed. */
function documentOf(names: string[], passed = 0): string {
  const commits = Array.from({ length: 10 }, (_, i) => (0xdec0de10 + i * 0x1234567).toString(16).slice(0, 8));
  const jobs = names.map((name, n) => {
    const jobs_info = commits.map((commit, i) =>
      i === 2 ? { id: 800_000_000 + n, failing: true, commit } : { id: null, failing: false, commit },
    );
    return [name, { consecutive_failures: 0, jobs_info }];
  });
  const at = new Date().toISOString();
  const others = commits.map((commit, i) => {
    const inTurn = Array.from({ length: passed / commits.length }, (_, n) => `lint: [package ${n}, part ${i}]`);
    return { commit, at, jobs: inTurn };
  });
  return JSON.stringify({ pipeline_id: PIPELINE - 1, jobs: Object.fromEntries(jobs), passed: others });
}

/** The stand-ins with a pipeline of so many jobs, and a function that measures a run against them. */
async function prepare(document: string, { latencyMs = 0, jobs: count = JOBS.few } = {}) {
  const { s3, gitlab, env, close } = await startStandIns({ latencyMs });
  const passed = Array.from({ length: count - FAILED.length }, (_, i) => `build: [package ${i}, linux]`);
  const jobs = [...FAILED, ...passed].map((name, i) => ({
    id: 900_000_000 + i,
    name,
    status: i < FAILED.length ? "failed" : "success",
    web_url: `https://gitlab.example.com/acme/shop/-/jobs/${900_000_000 + i}`,
  }));
  gitlab.pipelines.set(PIPELINE, jobs);
  const body = Buffer.from(document);
  const measure = async (command: string[], folder: string): Promise<Measured> => {
    s3.objects.set(KEY, body);
    const measured = await time(command, { ...env, CI_PIPELINE_ID: `${PIPELINE}` }, folder);
    if (s3.objects.get(KEY) === body) throw new Error(`${command.join(" ")} stored nothing`);
    return measured;
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
    return undefined; // it has ended, or this is not Linux: then the table has no memory
  }
}

/** What is compared with others, and what came of it in each round. */
type Contestant = { once: () => Promise<Measured>; rounds: Measured[] };

const contestant = (once: Contestant["once"]): Contestant => ({ once, rounds: [] });
const medianOf = ({ rounds }: Contestant, key: keyof Measured = "ms") => median(rounds.map((round) => round[key]));

/** One after another, again and again; the first round only fills caches. */
async function compete(times: number, contestants: Contestant[]) {
  for (let round = 0; round <= times; round++) {
    for (const { once, rounds } of contestants) {
      const measured = await once();
      if (round > 0) rounds.push(measured);
    }
  }
}

function printTable(title: string, rows: Row[]) {
  const widthOf = (texts: string[]) => Math.max(...texts.map((text) => text.length));
  const [first, second] = [widthOf(rows.map(({ what }) => what)), widthOf(rows.map(({ figures }) => figures))];
  console.log(`\n${title}\n`);
  for (const { what, figures, bar, isOver } of rows) {
    const limit = bar ? `bar: ${bar}${isOver ? "  OVER" : ""}` : "";
    console.log(`  ${what.padEnd(first)}  ${figures.padStart(second)}  ${limit}`.trimEnd());
  }
}

const inSeconds = (ms: number) => `${(ms / 1_000).toFixed(2)} s`;
const ratio = (ms: number, base: number) => (ms / base).toFixed(2).padStart(6);

/** `path` has the script, the empty one and node_modules; nothing is beside the bundle. */
type Bench = { path: string; bundle: string; runs: number; sizes: number[] };

/** From an empty folder to a counted pipeline, with packages that are installed each time, once, or never. */
async function benchDone({ path, bundle, runs }: Bench) {
  const { measure, close } = await prepare(documentOf(TRACKED));
  const tsx = ["npx", "tsx", "check-failures.ts"];
  const installing = contestant(async () => {
    const empty = makeFolder({ "check-failures.ts": readFileSync(SCRIPT, "utf8") });
    const started = performance.now();
    const options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
    execFileSync("npm", ["install", ...options, ...PACKAGES.map(pin)], { cwd: empty.path, stdio: "ignore" });
    const installed = performance.now() - started;
    const { ms, peakMb } = await measure(tsx, empty.path);
    empty.remove();
    return { ms: installed + ms, peakMb };
  });
  const keeping = contestant(() => measure(tsx, path));
  const bundled = contestant(() => measure([process.execPath, bundle], dirname(bundle)));
  await compete(Math.min(runs, 5), [installing, keeping, bundled]);
  close();
  const row = (what: string, ms: number) => ({ what, figures: `${inSeconds(ms)}  ${ratio(ms, medianOf(bundled))}` });
  printTable(
    `From an empty folder to done, ratio to the bundle (Node ${process.versions.node}; npm's cache is filled)`,
    [
      row("npm install of three packages, npx tsx check-failures.ts", medianOf(installing)),
      row("npx tsx check-failures.ts, with node_modules kept", medianOf(keeping)),
      row("node check-failures.mjs, the bundle", medianOf(bundled)),
    ],
  );
}

function pin(name: string): string {
  return `${name}@${JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8")).version}`;
}

/**
 * The run itself beside an empty script with the same imports, so that neither the packages nor the machine count; and
 * with slow servers, which show how many round trips it waits for.
 */
async function benchRun({ path, bundle, runs }: Bench) {
  const document = documentOf(TRACKED);
  const near = await prepare(document);
  const far = await prepare(document, { latencyMs: LATENCY_MS });
  const [nearMany, farMany] = [
    await prepare(document, { jobs: JOBS.many }),
    await prepare(document, { jobs: JOBS.many, latencyMs: LATENCY_MS }),
  ];
  const [old, current] = await installRuntimes([`tsx on Node ${process.versions.node}`, "Node 24.21"]);
  if (!old || !current) throw new Error("Run this with another Node than 24.21, e.g. 20");
  const contestantsOf = ({ command, bare }: Runtime) => ({
    empty: contestant(() => time([...command("s3"), join(path, "empty.ts")], {}, path)),
    source: contestant(() => near.measure([...command("s3"), join(path, "check-failures.ts")], path)),
    bundled: contestant(() => near.measure([...bare("s3"), bundle], path)),
    slow: contestant(() => far.measure([...bare("s3"), bundle], path)),
    many: contestant(() => nearMany.measure([...bare("s3"), bundle], path)),
    slowMany: contestant(() => farMany.measure([...bare("s3"), bundle], path)),
  });
  const [a, b] = [contestantsOf(old), contestantsOf(current)];
  await compete(runs, [...Object.values(a), ...Object.values(b)]);
  for (const { close } of [near, far, nearMany, farMany]) close();
  const row = (what: string, one: Contestant, empty: Contestant, bar?: number): Row => {
    const [ms, base] = [medianOf(one), medianOf(empty)];
    const isOver = bar !== undefined && ms / base > bar;
    return { what, figures: `${ms.toFixed(0)} ms  ${ratio(ms, base)}`, bar: bar?.toFixed(2), isOver };
  };
  const trips = (slow: Contestant, fast: Contestant, jobs: number, bar: number): Row => {
    const number = (medianOf(slow) - medianOf(fast)) / LATENCY_MS;
    const what = `  with ${LATENCY_MS} ms of latency on each server, ${jobs} jobs in the pipeline`;
    return { what, figures: `${number.toFixed(1)} round trips`, bar: `${bar}, rounded`, isOver: number >= bar + 0.5 };
  };
  const bothTrips = (one: typeof a) => [
    trips(one.slow, one.bundled, JOBS.few, 2),
    trips(one.slowMany, one.many, JOBS.many, 3),
  ];
  printTable(`A run without alerts, ratio to an empty script with the same imports (medians of ${runs})`, [
    row(`${old.name}: the empty script`, a.empty, a.empty),
    row(`${old.name}: check-failures.ts`, a.source, a.empty, 1.35),
    row(`${old.name}, but without tsx: the bundle`, a.bundled, a.empty, 0.6),
    ...bothTrips(a),
    row(`${current.name}: the empty script`, b.empty, b.empty),
    row(`${current.name}: check-failures.ts`, b.source, b.empty, 1.8),
    row(`${current.name}: the bundle`, b.bundled, b.empty, 1.3),
    ...bothTrips(b),
  ]);
}

/** A run with ever more tracked jobs, few of which are in the pipeline. */
async function benchGrowth({ path, sizes }: Bench) {
  const command = [process.execPath, "--import", import.meta.resolve("tsx"), join(path, "check-failures.ts")];
  const stages = sizes.map(async (size) => {
    const document = documentOf(Array.from({ length: size }, (_, i) => TRACKED[i] ?? `tests: [package ${i}, linux]`));
    const { measure, close } = await prepare(document);
    return { size, megabytes: document.length / 1e6, one: contestant(() => measure(command, path)), close };
  });
  const contestants = (await Promise.all(stages)).map(({ one }) => one);
  await compete(GROWTH_RUNS, contestants);
  const least = Math.min(...contestants.map((one) => medianOf(one)));
  const rows = (await Promise.all(stages)).map(({ size, megabytes, one, close }): Row => {
    close();
    const [ms, peak] = [medianOf(one), medianOf(one, "peakMb")];
    const bars: Record<number, Partial<Row>> = {
      10000: { bar: "0.60 s more", isOver: ms - least > 600 },
      100000: { bar: "4.50 s, 700 MB", isOver: ms > 4_500 || peak > 700 },
    };
    const cost = `${inSeconds(ms)}  ${inSeconds(ms - least)} more  peak ${peak.toFixed(0).padStart(3)} MB`;
    const figures = `${megabytes.toFixed(1).padStart(5)} MB  ${cost}`;
    return { what: `${size.toLocaleString("en")} tracked jobs`, figures, ...bars[size] };
  });
  printTable(`Large documents (tsx on Node ${process.versions.node}, medians of ${GROWTH_RUNS})`, rows);
}

/** A run with many jobs that only passed, which are not tracked. */
async function benchPassed({ path }: Bench) {
  const command = [process.execPath, "--import", import.meta.resolve("tsx"), join(path, "check-failures.ts")];
  const [none, many] = [await prepare(documentOf(TRACKED)), await prepare(documentOf(TRACKED, PASSED))];
  const [without, withMany] = [none, many].map(({ measure }) => contestant(() => measure(command, path)));
  if (!without || !withMany) throw new Error("Expected two contestants");
  await compete(2 * GROWTH_RUNS, [without, withMany]);
  for (const { close } of [none, many]) close();
  const more = medianOf(withMany) - medianOf(without);
  const what = `${PASSED.toLocaleString("en")} jobs in passed`;
  const figures = `${inSeconds(medianOf(withMany))}  ${inSeconds(more)} more`;
  printTable(`Jobs that only passed (tsx on Node ${process.versions.node})`, [
    { what, figures, bar: "0.10 s more", isOver: more > 100 },
  ]);
}

const PARTS = { done: benchDone, run: benchRun, growth: benchGrowth, passed: benchPassed };

const { values, positionals } = parseArgs({
  options: { runs: { type: "string", default: "15" }, jobs: { type: "string", default: "0,10000,100000" } },
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
    await part({ path, bundle, runs: Number(values.runs), sizes: values.jobs.split(",").map(Number) });
  }
} finally {
  remove();
  alone.remove();
}
