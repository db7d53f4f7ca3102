/**
 * Breaks the rooms of the script that decide what is said to whom, in a copy, in one small way after the other, and lists
 * what no test notices.
 *
 *   npx tsx test/tools/mutate.ts [--minutes 30] [--only changeOf] [--tests statistics,interleavings] [--list]
 *
 * `--only` takes the ways whose line or function has such a text; `--list` shows the ways and runs nothing. Two tests run
 * at a time. Exit 1: something survived.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { transformSync } from "esbuild";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SCRIPT = "check-failures.ts";
const ROOMS = ["Story", "Statistics", "News", "Telling"];
const WORKERS = 2;
const TEST_TIMEOUT_MS = 180_000;

/** The tests that may notice, the quickest first: one after the other, until one fails. */
const TESTS = [
  "orders",
  "statistics",
  "rules",
  "telling",
  "interleavings",
  "messages",
  "report",
  "fixtures",
  "races",
  "bad-input",
  "store",
];

/** What is put in place of what, wherever it stands in code. */
const WAYS: [pattern: RegExp, by: string][] = [
  [/===/, "!=="],
  [/!==/, "==="],
  [/ >= /, " > "],
  [/ >= /, " < "],
  [/ <= /, " < "],
  [/ > (?=[\w(])/, " >= "],
  [/ > (?=[\w(])/, " < "],
  [/ < (?=[\w(])/, " <= "],
  [/ && /, " || "],
  [/ \|\| /, " && "],
  [/ \?\? /, " && "],
  [/ \+ 1\b/, ""],
  [/ - 1\b/, ""],
  [/ \+ 1\b/, " + 2"],
  [/\?\./, "?.constructor?."],
  [/\btrue\b/, "false"],
  [/\bfalse\b/, "true"],
  [/\.some\(/, ".every("],
  [/\.every\(/, ".some("],
  [/\.find\(/, ".findLast("],
  [/\.findLast\(/, ".find("],
  [/\.findLastIndex\(/, ".findIndex("],
  [/\.filter\(/, ".map("],
  [/\.filter\(([^()]|\([^()]*\))*\)/, ""],
  [/\.slice\(-/, ".slice("],
  [/\.at\(-1\)/, ".at(0)"],
  [/Math\.max\(/, "Math.min("],
  [/Math\.min\(/, "Math.max("],
  [/ \* /, " / "],
  [/(?<![\w!])!(?=[\w(])/, ""],
  [/\bif \((?!!)/, "if (!("],
  [/ \? /, " ? undefined && "],
  [/\bcontinue;/, ";"],
  [/\breturn undefined;/, ";"],
  [/\b(FORGET_DAYS|CLAIM_MS|BEGAN_ANEW_MS|DAY_MS|MAX_UPLOADS)\b(?! =)/, "($1 + 1)"],
  [/\b(FORGET_DAYS|CLAIM_MS|BEGAN_ANEW_MS|DAY_MS)\b(?! =)/, "($1 / 2)"],
  [/(?<=[{,] )\.\.\.\w+(\.\w+)?,/, ""],
  [/, \.\.\.\w+(\.\w+)?(?= [}\]])/, ""],
  [/(?<=[{,] )(told|claims|flaky|after|day|last_day|last_run|turned|from|times|executions|hello)(: [\w.?]+)?,/, ""],
  [/, (told|claims|flaky|after|day|last_day|last_run|turned|from|times|executions|hello)(: [\w.?]+)?(?= \})/, ""],
  [/\w+\.(set|delete)\([^;]*\);/, ";"],
];

/** Words that decide something, wherever they stand as a text. */
const WORDS: [word: string, by: string][] = [
  ["consecutive", "cumulative"],
  ["cumulative", "consecutive"],
  ["recovered", "gone"],
  ["gone", "recovered"],
  ["flaky", "gone"],
  ["failed", "passed"],
  ["passed", "failed"],
  ["counted", "late"],
  ["late", "counted"],
  ["not run", "passed"],
  ["", "#ci"],
];

type Mutant = { line: number; room: string; within: string; before: string; after: string; text: string };

/** The text with everything in comments, texts and regular expressions blanked, at the same places. */
function blank(text: string): string {
  const pattern =
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|(?<=[(,=:] ?)\/(?![*/])(?:\\.|\[[^\]]*\]|[^/\\\n])+\//g;
  return text.replace(pattern, (found) => found.replace(/[^\n]/g, "\0"));
}

const withoutTypes = (text: string) => transformSync(text, { loader: "ts", minifyWhitespace: true }).code;

/** Every way to break a room that still can be read as a program, and is another one. */
function listMutants(): Mutant[] {
  const source = readFileSync(join(ROOT, SCRIPT), "utf8");
  const code = blank(source);
  const original = withoutTypes(source);
  const seen = new Set([original]);
  const mutants: Mutant[] = [];
  for (const { name, from, to } of rooms(source)) {
    const add = (at: number, length: number, by: string) => {
      const text = source.slice(0, at) + by + source.slice(at + length);
      const program = tryTo(() => withoutTypes(closeParenthesis(text, at, by)));
      if (program === undefined || seen.has(program)) return;
      seen.add(program);
      const whole = closeParenthesis(text, at, by);
      const line = source.slice(0, at).split("\n").length;
      const lineOf = (all: string) => (all.split("\n")[line - 1] ?? "").trim();
      const names = [...source.slice(0, at).matchAll(/^(?:export )?(?:async )?function (\w+)/gm)];
      const within = `${names.at(-1)?.[1]}`;
      mutants.push({ line, room: name, within, before: lineOf(source), after: lineOf(whole), text: whole });
    };
    for (const [pattern, by] of WAYS) {
      for (const match of code.slice(from, to).matchAll(new RegExp(pattern, "g"))) {
        add(from + match.index, match[0].length, match[0].replace(pattern, by));
      }
    }
    for (const [word, by] of WORDS) {
      for (const match of source.slice(from, to).matchAll(new RegExp(`"${word}"`, "g"))) {
        const at = from + match.index;
        if (/\/\//.test(source.slice(source.lastIndexOf("\n", at), at))) continue;
        add(at, match[0].length, `"${by}"`);
      }
    }
  }
  return mutants;
}

/** A way that opens `if (!(` closes it where its condition ends. */
function closeParenthesis(text: string, at: number, by: string): string {
  if (by !== "if (!(") return text;
  let depth = 1;
  let end = at + by.length;
  for (; depth > 0 && end < text.length; end++) depth += { "(": 1, ")": -1 }[text[end] ?? ""] ?? 0;
  return `${text.slice(0, end)})${text.slice(end)}`;
}

function tryTo<T>(what: () => T): T | undefined {
  try {
    return what();
  } catch {
    return undefined;
  }
}

function rooms(source: string) {
  const heads = [...source.matchAll(/^\/\/ (?:---|===) (\w+)/gm)];
  return heads.flatMap((head, i) => {
    const [, name = ""] = head;
    return ROOMS.includes(name) ? [{ name, from: head.index, to: heads[i + 1]?.index ?? source.length }] : [];
  });
}

/** A copy of the project, whose script may be broken. */
function makeCopy(): string {
  const folder = mkdtempSync(join(tmpdir(), "mutate-"));
  copies.add(folder);
  for (const item of [SCRIPT, "package.json", "tsconfig.json", "test", "fixtures"]) {
    cpSync(join(ROOT, item), join(folder, item), { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** What is to be ended and taken away when this is interrupted. */
const running = new Set<number>();
const copies = new Set<string>();

function endGroup(pid: number | undefined) {
  if (pid !== undefined) tryTo(() => process.kill(-pid, "SIGKILL"));
}

function cleanUp() {
  for (const pid of running) endGroup(pid);
  for (const folder of copies) rmSync(folder, { recursive: true, force: true });
  process.exit(130);
}

/** Whether a test passes in a copy: as soon as anything in it fails, it is ended. */
function passes(folder: string, test: string): Promise<boolean> {
  const command = join("node_modules", ".bin", "tsx");
  const args = ["--test", "--test-reporter=tap", `test/${test}.test.ts`];
  const env = { ...process.env, INTERLEAVINGS: "150", INTERLEAVINGS_SEED: "4" };
  const child = spawn(command, args, { cwd: folder, env, stdio: ["ignore", "pipe", "ignore"], detached: true });
  const end = () => endGroup(child.pid);
  if (child.pid) running.add(child.pid);
  const timer = setTimeout(end, TEST_TIMEOUT_MS);
  child.stdout.setEncoding("utf8").on("data", (text) => {
    if (/^ *not ok/m.test(text)) end();
  });
  return new Promise((resolve) => {
    child.on("close", (code) => {
      clearTimeout(timer);
      if (child.pid) running.delete(child.pid);
      resolve(code === 0);
    });
  });
}

/** The test that notices a way to break the script, if any does. */
async function findTest(folder: string, tests: string[], text: string): Promise<string | undefined> {
  writeFileSync(join(folder, SCRIPT), text);
  for (const test of tests) if (!(await passes(folder, test))) return test;
  return undefined;
}

async function main() {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "60" },
      only: { type: "string", default: "" },
      tests: { type: "string", default: TESTS.join(",") },
      list: { type: "boolean", default: false },
    },
  });
  const until = Date.now() + Number(values.minutes) * 60_000;
  const describe = ({ line, room, within, before, after }: Mutant) =>
    `${line} ${room} ${within}\n  - ${before}\n  + ${after}`;
  // In a fixed order that mixes all rooms, so that a run that is cut short has seen something of each.
  const mutants = listMutants()
    .filter((mutant) => describe(mutant).includes(values.only))
    .map((mutant, i, all) => ({ mutant, key: (i * 7_919) % (all.length || 1) }))
    .sort((a, b) => a.key - b.key)
    .map(({ mutant }) => mutant);
  if (values.list) {
    for (const mutant of mutants) console.log(describe(mutant));
    console.log(`${mutants.length} ways`);
    return;
  }
  process.once("SIGINT", cleanUp).once("SIGTERM", cleanUp);
  const folders = Array.from({ length: WORKERS }, makeCopy);
  const [first = ""] = folders;
  const tests: string[] = [];
  for (const test of values.tests.split(",")) if (await passes(first, test)) tests.push(test);
  console.log(`${mutants.length} ways; tests that pass as it is: ${tests.join(", ")}`);
  const queue = [...mutants];
  const survivors: Mutant[] = [];
  const noticed = new Map<string, number>();
  await Promise.all(
    folders.map(async (folder) => {
      for (let mutant = queue.shift(); mutant && Date.now() < until; mutant = queue.shift()) {
        const test = await findTest(folder, tests, mutant.text);
        if (test) noticed.set(test, (noticed.get(test) ?? 0) + 1);
        else survivors.push(mutant);
        if (!test) console.log(`Survives: ${describe(mutant)}`);
      }
      rmSync(folder, { recursive: true });
    }),
  );
  const tried = survivors.length + [...noticed.values()].reduce((sum, count) => sum + count, 0);
  console.log(`${tried} of ${mutants.length} tried, ${survivors.length} survived`);
  console.log([...noticed].map(([test, count]) => `${test} noticed ${count}`).join("; "));
  process.exitCode = survivors.length > 0 ? 1 : 0;
}

await main();
