/**
 * Checks that the script and its bundle do their work under every runtime for which they are made:
 *
 *   tsx test/tools/runtimes.ts             under all of them
 *   tsx test/tools/runtimes.ts deno bun    under those with such a name
 */
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { makeFolder, SCRIPT, start } from "../support/run.ts";
import { KEY, startStandIns } from "../support/stand-ins.ts";
import { writeBundle } from "./bundle.ts";
import { installRuntimes, type Runtime } from "./install-runtimes.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const MODULES = join(PROJECT, "node_modules");
const LOCAL = { JOB_EXECUTIONS_URL: undefined };
const RULES = { JOB_RULES: "unit* #shop <!here>" };
const GITHUB = { GITHUB_ACTIONS: "true", PIPELINE_JOBS_FILE: "jobs.json", CI_API_V4_URL: undefined, NO_COLOR: "1" };

const built = makeFolder();
const BUNDLE = await writeBundle(built.path);

/** Tests that know no runtime, as they are of texts, of wrong input, of recipes or of Deno's permissions: once is enough. */
const SAME_EVERYWHERE = /^(audit|bad-input|page|readme|recipes|sandbox|simulation)/;
const TSX = [process.execPath, "--import", import.meta.resolve("tsx"), "--test", "--test-reporter=spec"];

/** Resolves to what a success is worth saying of; throws where the runtime fails. The folder is the check's own. */
type Check = (runtime: Runtime, folder: string) => Promise<string>;

const CHECKS: Record<string, Check> = {
  "S3, GitLab and Slack": (runtime, folder) => followJob([...runtime.command("s3"), SCRIPT], folder),

  "a local document and rules": (runtime, folder) =>
    followJob([...runtime.command("local"), SCRIPT], folder, { ...LOCAL, ...RULES }, ["#ci", "#shop"]),

  "a symlinked checkout": (runtime, folder) => {
    symlinkSync(PROJECT, join(folder, "checkout"));
    return followJob([...runtime.command("s3"), join(folder, "checkout", "check-failures.ts")], folder);
  },

  "a lone copy beside node_modules": (runtime, folder) => {
    symlinkSync(MODULES, join(folder, "node_modules"));
    return followJob([...runtime.command("s3"), ...runtime.lone, copyTo(folder, SCRIPT)], folder);
  },

  "a lone copy with an import map": async (runtime, folder) => {
    const imports = Object.fromEntries(["@aws-sdk/client-s3", "valibot"].map((name) => [name, pin(name)]));
    const options = runtime.withImports?.(imports);
    if (!options) return "it has none, and needs none";
    const command = [...runtime.command("s3"), ...options, copyTo(folder, SCRIPT)];
    await start(["--help"], {}, folder, command).result; // it says what it fetches, when it runs for the first time
    return followJob(command, folder);
  },

  "the bundle in an empty folder": (runtime, folder) => {
    const command = [...runtime.bare("s3"), copyTo(folder, BUNDLE)];
    return followJob(command, folder);
  },

  "the bundle with GitHub's jobs and a local document": (runtime, folder) => {
    const command = [...runtime.bare("local"), copyTo(folder, BUNDLE)];
    return followJob(command, folder, { ...LOCAL, ...GITHUB });
  },

  "no more than its permissions": ({ name }) =>
    name.startsWith("Deno") ? runTests(TSX, ["sandbox.test.ts"]) : Promise.resolve("are Deno's"),

  "the test suite": ({ suite, command }) => {
    if (!suite) return Promise.resolve("is what `npm test` runs");
    const files = readdirSync(join(PROJECT, "test"))
      .filter((name) => name.endsWith(".test.ts"))
      .filter((name) => !SAME_EVERYWHERE.test(name));
    return runTests(suite, files, { CHECK_FAILURES_RUNTIME: JSON.stringify(command("any")) });
  },
};

/** Runs tests, of which those that spawn the script do that with the runtime in `env`. */
async function runTests(suite: string[], files: string[], env: Record<string, string> = {}): Promise<string> {
  const paths = files.map((name) => join(PROJECT, "test", name));
  const { code, stdout, stderr } = await start(paths, { ...env, NO_COLOR: "1" }, PROJECT, suite).result;
  const notable = `${stdout}${stderr}`.split("\n").filter((line) => !/✔|▶|\(pass\)|\bok \(/.test(line));
  const summary = notable.slice(-80).join("\n");
  if (code !== 0) throw new Error(`${suite.join(" ")} ${files.join(" ")} ended with ${code}:\n${summary}`);
  // node --test says `pass 12`, deno test `12 passed (34 steps)`, bun test `12 pass`.
  const passed = summary.match(/\bpass [1-9]\d*|\b[1-9]\d* pass(ed( \(\d+ steps\))?)?/g)?.at(-1);
  assert.ok(passed, `No test ran:\n${summary}`);
  return `${passed}, in ${files.length} files`;
}

const JOB = "unit tests";
const FAILURES = [true, true, true, false, false, false];

/** Runs the main job for a job that fails three times and then passes three times, and looks at all that came of it. */
async function followJob(command: string[], folder: string, changes = {}, channels = ["#ci"]): Promise<string> {
  const { s3, gitlab, slack, env, close } = await startStandIns();
  type Message = { head: string; text: string };
  const runs: { code: number | null; stderr: string; table: string; told: Message[] }[] = [];
  try {
    for (const [i, failing] of FAILURES.entries()) {
      const id = 1001 + i;
      gitlab.pipelines.set(id, listedByGitLab(id, failing));
      writeFileSync(join(folder, "jobs.json"), JSON.stringify(listedByGitHub(id, failing)));
      const before = slack.messages.length;
      const variables = { ...env, CI_PIPELINE_ID: `${id}`, CI_COMMIT_SHA: `c0ffee${i}`, ...changes };
      const { code, stdout, stderr } = await start([], variables, folder, command).result;
      const told = slack.messages
        .slice(before)
        .map(({ channel, text }) => ({ head: `${channel} ${symbolOf(text)}`, text }));
      told.sort((a, b) => a.head.localeCompare(b.head));
      runs.push({ code, stderr, table: stdout, told });
    }
  } finally {
    close();
  }
  const said = [["👋"], [], ["🔴"], [], [], ["🟢"]];
  assert.deepEqual(
    runs.map(({ code, stderr, told }) => ({ code, stderr, told: told.map(({ head }) => head) })),
    said.map((symbols) => ({
      code: 0,
      stderr: "",
      // Only the broadcast channel is said hello to.
      told: symbols.flatMap((symbol) =>
        (symbol === "👋" ? ["#ci"] : channels).map((channel) => `${channel} ${symbol}`),
      ),
    })),
  );
  assert.match(runs[2]?.told[0]?.text ?? "", /unit tests\S* failed 3 times in a row/);
  assert.match(runs[5]?.told[0]?.text ?? "", /unit tests\S* passed 3 times in a row/);
  assert.match(runs[2]?.table ?? "", /^ *✗✗✗ +3 +3 of 3 +broken since \S+ +unit tests$/m);
  assert.match(runs[5]?.table ?? "", /^ *✗✗✗··· +0 +3 of 6 +unit tests$/m);
  const stored = s3.objects.get(KEY) ?? readFileSync(join(folder, KEY));
  const { pipeline_id, hello, jobs } = JSON.parse(stored.toString());
  const { kind, told, claims } = jobs[JOB].alert;
  assert.deepEqual([pipeline_id, hello, kind, told, claims], [1006, undefined, "recovered", undefined, undefined]);
  return "alert, recovery, table";
}

/** What it is about. */
const symbolOf = (text: string) => /[👋🔴🟢]/u.exec(text)?.[0];

function listedByGitLab(id: number, failing: boolean) {
  return [
    { id: 10 * id, name: JOB, status: failing ? "failed" : "success" },
    { id: 10 * id + 1, name: "lint", status: "success" },
  ];
}

function listedByGitHub(id: number, failing: boolean) {
  const job = { id: 10 * id, name: JOB, status: "completed", run_attempt: 1, steps: [] };
  const html_url = `https://github.com/acme/shop/actions/runs/${id}/job/${job.id}`;
  return [{ total_count: 1, jobs: [{ ...job, html_url, conclusion: failing ? "failure" : "success" }] }];
}

function copyTo(folder: string, file: string): string {
  const copy = join(folder, file === BUNDLE ? "check-failures.mjs" : "check-failures.ts");
  copyFileSync(file, copy);
  return copy;
}

function pin(name: string): string {
  const { version } = JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8"));
  return `npm:${name}@${version}`;
}

try {
  for (const runtime of await installRuntimes(process.argv.slice(2))) {
    for (const [name, check] of Object.entries(CHECKS)) {
      const { path, remove } = makeFolder();
      try {
        console.log(`ok    ${runtime.name}: ${name}: ${await check(runtime, path)}`);
      } catch (error) {
        process.exitCode = 1;
        console.log(`FAIL  ${runtime.name}: ${name}\n${(error as Error).message.replace(/^/gm, "      ")}`);
      } finally {
        remove();
      }
    }
  }
} finally {
  built.remove();
}
