/**
 * Checks that the script does its work under every runtime for which it is made:
 *
 *   tsx test/tools/runtimes.ts             under all of them
 *   tsx test/tools/runtimes.ts deno bun    under those with such a name
 */
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { makeFolder, SCRIPT, start } from "../support/run.ts";
import { KEY, startStandIns } from "../support/stand-ins.ts";
import { installRuntimes, type Runtime } from "./install-runtimes.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const MODULES = join(PROJECT, "node_modules");
const ROUTING = { "owners.txt": "unit* @org/shop\n", "channels.json": { "@Org/Shop": "#shop" } };

/** Resolves to what a success is worth saying of; throws where the runtime fails. The folder is the check's own. */
type Check = (runtime: Runtime, folder: string) => Promise<string>;

const CHECKS: Record<string, Check> = {
  "the test suite": runSuite,

  "S3, GitLab and Slack": (runtime, folder) => followJob([...runtime.command("s3"), SCRIPT], folder),

  "a local document and routing files": (runtime, folder) =>
    followJob(
      [...runtime.command("local"), SCRIPT],
      folder,
      { JOB_EXECUTIONS_URL: undefined, JOB_OWNERS_FILE: "owners.txt", OWNER_CHANNELS_FILE: "channels.json" },
      ["#ci", "#shop"],
    ),

  "a symlinked checkout": (runtime, folder) => {
    symlinkSync(PROJECT, join(folder, "checkout"));
    return followJob([...runtime.command("s3"), join(folder, "checkout", "check-failures.ts")], folder);
  },

  "a lone copy beside node_modules": (runtime, folder) => {
    symlinkSync(MODULES, join(folder, "node_modules"));
    return followJob([...runtime.command("s3"), ...runtime.lone, copyScript(folder)], folder);
  },

  "a lone copy with an import map": async (runtime, folder) => {
    const imports = Object.fromEntries(["@aws-sdk/client-s3", "valibot"].map((name) => [name, pin(name)]));
    const options = runtime.withImports?.(imports);
    if (!options) return "it has none, and needs none";
    const command = [...runtime.command("s3"), ...options, copyScript(folder)];
    await start(["--help"], {}, folder, command).result; // it says what it fetches, when it runs for the first time
    return followJob(command, folder);
  },
};

/** Runs the tests under a runtime; those that spawn the script do that under the same one. */
async function runSuite(runtime: Runtime): Promise<string> {
  const files = readdirSync(join(PROJECT, "test")).filter((name) => name.endsWith(".test.ts"));
  const paths = files.map((name) => join(PROJECT, "test", name));
  const env = { CHECK_FAILURES_RUNTIME: JSON.stringify(runtime.command("any")), NO_COLOR: "1" };
  const { code, stdout, stderr } = await start(paths, env, PROJECT, runtime.suite).result;
  const notable = `${stdout}${stderr}`.split("\n").filter((line) => !/✔|▶|\(pass\)|\bok \(/.test(line));
  const summary = notable.slice(-80).join("\n");
  if (code !== 0) throw new Error(`${runtime.suite.join(" ")} test/*.test.ts ended with ${code}:\n${summary}`);
  // node --test says `pass 12`, deno test `12 passed (34 steps)`, bun test `12 pass`.
  const passed = summary.match(/\bpass [1-9]\d*|\b[1-9]\d* pass(ed( \(\d+ steps\))?)?/g)?.at(-1);
  assert.ok(passed, `No test ran:\n${summary}`);
  return `${passed}, in ${files.length} files`;
}

/** Runs the main job for a job that fails three times and then passes three times, and looks at all that came of it. */
async function followJob(command: string[], folder: string, changes = {}, channels = ["#ci"]): Promise<string> {
  const { s3, gitlab, slack, env, close } = await startStandIns();
  const runs: { code: number | null; stderr: string; table: string; told: (string | undefined)[] }[] = [];
  try {
    for (const [i, status] of ["failed", "failed", "failed", "success", "success", "success"].entries()) {
      const id = 1001 + i;
      gitlab.pipelines.set(id, [
        { id: 10 * id, name: "unit tests", status },
        { id: 10 * id + 1, name: "lint", status: "success" },
      ]);
      const told = slack.messages.length;
      const { result } = start([], { ...env, CI_PIPELINE_ID: `${id}`, ...changes }, folder, command);
      const { code, stdout, stderr } = await result;
      runs.push({
        code,
        stderr,
        table: stdout,
        told: slack.messages
          .slice(told)
          .map(({ channel }) => channel)
          .sort(),
      });
    }
  } finally {
    close();
  }
  assert.deepEqual(
    runs.map(({ table, ...run }) => run),
    [[], [], channels, [], [], channels].map((told) => ({ code: 0, stderr: "", told })),
  );
  const arrow = `→ ${channels.join(", ")}`;
  assert.match(runs[2]?.table ?? "", new RegExp(`unit tests +✗✗✗ +3/3 +3/5 +consecutive ${arrow}$`, "m"));
  assert.match(runs[5]?.table ?? "", new RegExp(`unit tests +✗✗✗··· +0/3 +3/5 +recovered ${arrow}$`, "m"));
  assert.match(slack.messages[0]?.text ?? "", /unit tests failed 3 times in a row: 10010 10020 10030/);
  assert.match(slack.messages.at(-1)?.text ?? "", /unit tests recovered: passed 3 times in a row/);
  const stored = s3.objects.get(KEY) ?? readFileSync(join(folder, KEY));
  const { pipeline_id, pending_alerts } = JSON.parse(stored.toString());
  assert.deepEqual({ pipeline_id, pending_alerts }, { pipeline_id: 1006, pending_alerts: undefined });
  return "alert, recovery, table";
}

function copyScript(folder: string): string {
  const copy = join(folder, "check-failures.ts");
  copyFileSync(SCRIPT, copy);
  return copy;
}

function pin(name: string): string {
  const { version } = JSON.parse(readFileSync(join(MODULES, name, "package.json"), "utf8"));
  return `npm:${name}@${version}`;
}

for (const runtime of await installRuntimes(process.argv.slice(2))) {
  for (const [name, check] of Object.entries(CHECKS)) {
    const { path, remove } = makeFolder(ROUTING);
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
