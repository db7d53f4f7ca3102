/** The script and its packages in one file, alone in a folder: the same program. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import { history, listedFailed } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, RUNTIME, run, SCRIPT, start } from "./support/run.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";
import { writeBundle } from "./tools/bundle.ts";

const PROJECT = dirname(SCRIPT);
/** What the script imports, besides Node's own. */
const PACKAGES = ["@aws-sdk/client-s3", "valibot"];
const readManifest = (folder: string) => JSON.parse(readFileSync(join(PROJECT, folder, "package.json"), "utf8"));
/** What runs JavaScript: a runtime without what it needs for TypeScript. */
const BARE = RUNTIME.includes(import.meta.resolve("tsx")) ? [process.execPath] : RUNTIME;

const folder = makeFolder();
after(folder.remove);
const bundle = await writeBundle(folder.path);
const text = readFileSync(bundle, "utf8");
const runBundle = (args: string[], env: Record<string, string | undefined> = {}) =>
  start(args, env, folder.path, [...BARE, bundle]).result;

/** The number of the first line of the script that has these words. */
function lineOf(words: string): number {
  const number =
    readFileSync(SCRIPT, "utf8")
      .split("\n")
      .findIndex((line) => line.includes(words)) + 1;
  assert.ok(number > 0, `No line has ${words}`);
  return number;
}

describe("the bundle", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("counts the first pipeline and alerts in a later one, with nothing beside it before and after", async () => {
    const { s3, gitlab, slack, env, close } = await startStandIns();
    cleanUp(close);
    for (const id of [1001, 1002, 1003]) {
      gitlab.pipelines.set(id, [listedFailed("unit tests")]);
      const { code, stdout, stderr } = await runBundle(["--json"], { ...env, CI_PIPELINE_ID: `${id}` });
      assert.deepEqual({ code, outcome: JSON.parse(stdout).outcome }, { code: 0, outcome: "counted" }, stderr);
    }
    assert.equal(JSON.parse(String(s3.objects.get(KEY))).pipeline_id, 1003);
    const [hello, alert, ...others] = slack.messages.map((message) => message.text ?? "");
    assert.match(hello ?? "", /^👋/);
    assert.match(alert ?? "", /unit tests/);
    assert.deepEqual(others, []);
    assert.deepEqual(readdirSync(folder.path), ["check-failures.mjs"]);
  });

  test("reads a document in a file and prints the same table as the script", async () => {
    const document = { pipeline_id: 1004, jobs: { "unit tests": history("·✗✗") } };
    const { path, remove } = makeFolder({ [KEY]: document });
    cleanUp(remove);
    const [bundled, source] = await Promise.all([
      start(["report"], {}, path, [...BARE, bundle]).result,
      run(["report"], {}, path),
    ]);
    assert.match(bundled.stdout, /·✗✗ .* unit tests\n/);
    assert.deepEqual(bundled, source);
  });

  test("ends with 1 and one line where a run fails, and with 2 and a line for each variable that is wrong", async () => {
    const { gitlab, env, close } = await startStandIns();
    cleanUp(close);
    gitlab.pipelines.set(1001, []);
    const elsewhere = { CI_PIPELINE_ID: "1001", JOB_EXECUTIONS_URL: "s3://no-such-bucket/document.json" };
    const failed = await runBundle([], { ...env, ...elsewhere });
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /^Error: .*NoSuchBucket.*\n$/);
    const wrong = await runBundle([]);
    assert.equal(wrong.code, 2);
    assert.match(
      wrong.stderr,
      /^Error: The environment is not valid; .*\n {2}CI_PIPELINE_ID must be .*\n( {2}[A-Z_\d]+ must be .*\n)+$/,
    );
  });

  test("shows traces under DEBUG that lead to the lines of the script", async () => {
    const { code, stderr } = await runBundle(["--unknown"], { DEBUG: "1" });
    assert.equal(code, 2);
    const line = lineOf("Unknown or repeated argument");
    assert.match(
      stderr,
      new RegExp(`^Error: Unknown .*\\n(.*\\n)* +at parseArguments \\(\\S*check-failures\\.ts:${line}:`),
    );
  });

  test("runs through a link and from another folder", async () => {
    const { path, remove } = makeFolder();
    cleanUp(remove);
    const link = join(path, "monitor.mjs");
    symlinkSync(bundle, link);
    const [linked, source] = await Promise.all([
      start(["--help"], {}, tmpdir(), [...BARE, link]).result,
      run(["--help"], {}),
    ]);
    assert.deepEqual(linked, source);
    assert.match(linked.stdout, /^check-failures \d/);
  });

  test("begins with what keeps compilers, linters and formatters away, and with the versions in it", () => {
    const [head = ""] = text.split("*/\nimport ", 1);
    assert.match(text, /^\/\/ @ts-nocheck\n\/\* eslint-disable \*\/\n/);
    for (const words of ["biome-ignore-all lint", "biome-ignore-all format", "@generated"]) {
      assert.ok(head.includes(words), words);
    }
    const versions = ["", ...PACKAGES.map((name) => `node_modules/${name}`)].map(readManifest);
    assert.ok(head.includes(versions.map(({ name, version }) => `${name} ${version}`).join(", ")), head);
  });

  test("names each package that is in it, with its licence, and the words of that", () => {
    for (const { name, version, license } of PACKAGES.map((name) => readManifest(`node_modules/${name}`))) {
      assert.ok(text.includes(`\n${name} ${version} (${license})\n`), name);
    }
    for (const words of [
      "Copyright (c) 2026 The check-failures authors",
      "Copyright (c) Fabian Hiller",
      "Apache License",
    ]) {
      assert.ok(text.includes(words), words);
    }
  });

  test("has the same bytes whoever makes it wherever", async () => {
    const { path, remove } = makeFolder();
    cleanUp(remove);
    assert.equal(readFileSync(await writeBundle(join(path, "new")), "utf8"), text);
    assert.ok(!text.includes(PROJECT));
  });
});
