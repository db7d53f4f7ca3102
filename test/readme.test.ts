/** Holds README to its limits, and to what it says of the files, the variables and the messages. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { parse } from "yaml";
import { describeSettings } from "../check-failures.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { failedTwice, PROJECT } from "./support/recipes/files.ts";
import { assertDone, makeMachine, without } from "./support/recipes/machine.ts";
import { makeFolder } from "./support/run.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { writeBundle } from "./tools/bundle.ts";

const readme = readFileSync(join(PROJECT, "README.md"), "utf8");
const source = readFileSync(join(PROJECT, "check-failures.ts"), "utf8");
const prose = readme.replace(/^```.*?^```$/gms, "");
const blocks = [...readme.matchAll(/^```\w*\n(.*?)^```$/gms)].map(([, text = ""]) => text);

/** The only block of README that has these words in it. */
function blockWith(words: string): string {
  const found = blocks.filter((text) => text.includes(words));
  assert.equal(found.length, 1, `${found.length} blocks have ${words}`);
  return found[0] ?? "";
}
/** What a link leads to; in a folder, the file that the others belong to. */
const fileAt = (path: string) => join(PROJECT, path.endsWith("/") ? `${path}check-failures.yml` : path);
const rowsOf = (heading: string) =>
  (readme.split(`| ${heading} |`)[1] ?? "").split("\n\n")[0]?.split("\n").slice(2).filter(Boolean) ?? [];

describe("README", () => {
  test("is short: 160 lines, 12,000 characters, no prose line over 160, five sentences a paragraph", () => {
    const lines = readme.trimEnd().split("\n");
    const wide = prose.split("\n").filter((line) => !line.startsWith("|") && line.length > 160);
    assert.ok(lines.length <= 160, `${lines.length} lines`);
    assert.ok(readme.length <= 12_000, `${readme.length} characters`);
    assert.deepEqual(wide, []);
    const paragraphs = prose
      .replace(/^\d\. /gm, "- ")
      .split(/\n\n|\n(?=[-|] ?)/)
      .filter((text) => !/^\s*[|#]/.test(text));
    const long = paragraphs.filter((text) => (text.match(/[.!?](?=\s+[A-Z*`]|\s*$)/g) ?? []).length > 5);
    assert.deepEqual(long, []);
  });

  test("begins with what it is and a message, on one screen", () => {
    const [, screen = ""] = /^(.*?)^## /ms.exec(readme) ?? [];
    assert.ok(screen.split("\n").length <= 24);
    assert.ok(screen.includes(blockWith("🔴")));
  });

  test("names files that are there", () => {
    const linked = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, path = ""]) => path);
    const quoted = [...prose.matchAll(/`([\w./-]+\/[\w./-]*|[\w-]+\.(?:ts|json))`/g)].map(([, path = ""]) => path);
    const made = /^(dist|ci)\/|^job_executions/;
    const missing = [...linked, ...quoted].filter((path) => !made.test(path) && !existsSync(join(PROJECT, path)));
    assert.ok(linked.length > 15);
    assert.deepEqual(missing, []);
  });

  test("leads to each recipe, or to a file that names it", () => {
    const entries = readdirSync(join(PROJECT, "fixtures/recipes"));
    assert.deepEqual(
      entries.filter((name) => !readme.includes(`fixtures/recipes/${name}`)),
      [],
    );
  });

  test("says for each recipe what it needs and how long it takes", () => {
    const rows = rowsOf("your CI or chat | file to copy | it needs | minutes");
    assert.ok(rows.length > 12);
    for (const row of rows) {
      const [, path = ""] = /\]\(([^)]+)\)/.exec(row) ?? [];
      const [, needs = "", minutes = ""] = /\| ([^|]+) \| (\d+)[^|]*\|$/.exec(row) ?? [];
      assert.ok(needs && minutes, row);
      const [, said = minutes] = /[Tt]akes (\d+) minutes/.exec(readFileSync(fileAt(path), "utf8")) ?? [];
      assert.ok(Number(minutes) >= Number(said), `${path} says ${said} minutes`);
    }
  });

  test("names npm's commands that are there", () => {
    const { scripts } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
    const named = [...readme.matchAll(/npm run ([\w:]+)/g)].map(([, name = ""]) => name);
    const alone = [...(prose.split("## Developing")[1] ?? "").matchAll(/`([a-z:]+)`/g)].map(([, name = ""]) => name);
    assert.ok(named.length > 2 && alone.length > 2);
    assert.deepEqual(
      [...named, ...alone].filter((name) => !(name in scripts)),
      [],
    );
  });

  test("has eight variables, with the defaults that they have", () => {
    const rows = rowsOf("variable | default | meaning").map((row) => row.split("|").map((cell) => cell.trim()));
    const known = new Map(describeSettings().map(({ name, standard }) => [name, standard]));
    const wrong = rows.filter(([, name = "", standard = ""]) => {
      return known.get(name.replaceAll("`", "")) !== standard.replaceAll("`", "");
    });
    assert.deepEqual([rows.length, wrong], [8, []]);
  });

  test("names no other variable than those of --help, of a runtime or of a recipe", () => {
    const others = ["RUN_ID", "NODE_USE_ENV_PROXY", "NODE_EXTRA_CA_CERTS", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    const known = new Set([...describeSettings().map(({ name }) => name), ...others]);
    const named = [...readme.matchAll(/\b[A-Z]+_[A-Z0-9_]*[A-Z0-9]\b/g)].map(([name]) => name);
    assert.deepEqual(
      named.filter((name) => !known.has(name)),
      [],
    );
  });

  test("quotes in its table of troubles what the script says", () => {
    const quoted = rowsOf("you see | do").flatMap((row) => /^\| [^|]*?`([^`]+)`/.exec(row)?.[1]?.split(/…|\d+/) ?? []);
    assert.ok(quoted.length > 5);
    const names = ["JOB_RULES", "report"];
    assert.deepEqual(
      quoted.filter((part) => !names.includes(part) && !source.includes(part.trim())),
      [],
    );
  });

  test("names rooms and functions that are there", () => {
    const [, section = ""] = readme.split("## Read it before you trust it");
    const named = [...section.matchAll(/\*([A-Z][^*\n]+)\*(?!\*)/g)].map(([, name = ""]) => name);
    assert.ok(named.includes("Statistics") && named.includes("What touches the world"));
    for (const name of named) assert.match(source, new RegExp(`^// (---|===) ${name}:`, "m"));
    for (const [, name] of section.matchAll(/`(\w+[a-z][A-Z]\w+)`/g))
      assert.match(source, new RegExp(`^(export )?function ${name}\\(`, "m"));
  });

  test("says how Bun is started so that no file of the folder changes the environment", () => {
    assert.match(prose, /`bun --no-env-file`/);
  });
});

describe("README's promises of the script", { skip: without("bash") }, () => {
  const cleanUp = makeCleanUp();
  const built = makeFolder();
  after(built.remove);
  const bundle = writeBundle(built.path);

  async function makeWorkspace() {
    const machine = makeMachine({ npx: '[ "$1" = tsx ] && shift 2 && exec node ci/check-failures.mjs "$@"' });
    cleanUp(machine.remove);
    machine.put(await bundle, "work/ci/check-failures.mjs");
    return machine;
  }

  test("its rules tell whom it says, in one message to each channel", async () => {
    const [machine, slack] = await Promise.all([makeWorkspace(), startSlack()]);
    cleanUp(slack.close);
    const names = ["unit tests", "e2e: cart", "nightly build", "deploy: eu"];
    machine.write("work/document.json", failedTwice(...names));
    machine.write(
      "work/jobs.json",
      names.map((name, id) => ({ id: id + 1, name, status: "failed" })),
    );
    const result = await machine.play("node ci/check-failures.mjs --json", {
      ...{
        CI_PIPELINE_ID: "3",
        CI_COMMIT_SHA: "0ddba11",
        PIPELINE_JOBS_FILE: "jobs.json",
        SLACK_CHANNEL: "#everything",
      },
      ...{ JOB_EXECUTIONS_URL: "document.json", SLACK_API_TOKEN: SLACK_TOKEN, SLACK_API_URL: slack.apiUrl },
      ...parse(blockWith("JOB_RULES: |")),
    });
    assertDone(result);
    const told = slack.messages.map(({ channel, text }) => [channel, names.filter((name) => text.includes(name))]);
    assert.equal(told.length, 2);
    assert.deepEqual(Object.fromEntries(told), { "#everything": ["unit tests"], "#ci-alerts": ["unit tests"] });
    const kept: object = JSON.parse(machine.read("work/document.json") ?? "{}").jobs;
    assert.ok(!("deploy: eu" in kept), "what is ignored is dropped");
  });

  test("its commands show on anybody's machine what a channel would get, and write nothing", async () => {
    const machine = await makeWorkspace();
    machine.put(join(PROJECT, "fixtures/demo/pipeline-1004.json"), "work/fixtures/demo/pipeline-1004.json");
    const result = await machine.play(blockWith("--dry-run"), { CI: undefined });
    assertDone(result);
    assert.match(result.stdout, /🔴 \d+ jobs broken in acme\/shop main/);
    assert.deepEqual(readdirSync(machine.work).sort(), ["ci", "fixtures"]);
  });

  test("its first message is what a channel gets", async () => {
    const fixtures = join(PROJECT, "fixtures/demo");
    const commits = Object.entries<{ sha: string; title: string }>(
      JSON.parse(readFileSync(join(fixtures, "commits.json"), "utf8")),
    );
    const machine = await makeWorkspace();
    const texts: string[] = [];
    for (const [id, { sha, title }] of commits) {
      const result = await machine.play("node ci/check-failures.mjs --json", {
        ...{ CI_PIPELINE_ID: id, CI_COMMIT_SHA: sha, CI_COMMIT_MESSAGE: title, CI_COMMIT_BRANCH: "main" },
        ...{ CI_PROJECT_PATH: "acme/shop", ALERT_COMMAND: "cat", JOB_EXECUTIONS_URL: "document.json" },
        PIPELINE_JOBS_FILE: join(fixtures, `pipeline-${id}.json`),
      });
      assertDone(result);
      texts.push(...JSON.parse(result.stdout).messages.map(({ text }: { text: string }) => text));
    }
    const alert = texts.find((text) => text.startsWith("🔴")) ?? "";
    const names = alert.trimEnd().split("\n").at(-1)?.split(", ") ?? [];
    assert.equal(names.length, 40);
    const unlinked = alert
      .replace(names.slice(3, -1).join(", "), "…")
      .replace("…, ", "… ")
      .replace(/ \(https?:[^)]*\)/g, "");
    assert.equal(`${unlinked.trimEnd()}\n`, blockWith("🔴 40 jobs broken"));
  });
});
