/** The audit map, enforced: under Deno, the main job does its work with the permissions that README gives, and no more. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { history, listedFailed, MINUTE, type Variables } from "./support/builders.ts";
import { type CleanUp, makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, SCRIPT, start } from "./support/run.ts";
import { ROLE_KEY, roleVariables, startSts } from "./support/servers/sts.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";
import { writeBundle } from "./tools/bundle.ts";
import { findDeno } from "./tools/install-runtimes.ts";

/** What each run is permitted, besides the very hosts. */
const PERMISSIONS = ["--no-prompt", "--allow-env", "--allow-sys=osRelease"];
const NO_SLACK = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
const README = fileURLToPath(new URL("../README.md", import.meta.url));

const deno = await findDeno();
const skip = !deno && "deno is not installed: `npm run test:runtimes` installs it";
const built = makeFolder();
after(built.remove);
const bundle = skip ? "" : await writeBundle(built.path);

/** What is in the folder of a run before it. */
const FILES = ["owners", "token"];

type HostName = "s3" | "gitlab" | "slack" | "sts";
const HOSTS: HostName[] = ["s3", "gitlab", "slack"];
type Permitted = {
  hosts?: HostName[];
  flags?: (folder: string) => string[];
  env?: (folder: string, sts: string) => Variables;
};

/** Runs the main job for a job that fails for the third time, in a folder of its own. */
async function runConfined(cleanUp: CleanUp, file: string, permitted: Permitted = {}) {
  const { hosts = HOSTS, flags = () => [], env = () => ({}) } = permitted;
  const [standIns, sts] = await Promise.all([startStandIns(), startSts()]);
  const servers = { ...standIns, sts };
  const folder = makeFolder({ owners: "unit* #owners", token: "a-token-of-the-ci" });
  for (const end of [standIns.close, sts.close, folder.remove]) cleanUp(end);
  standIns.s3.objects.set(
    KEY,
    Buffer.from(JSON.stringify({ pipeline_id: 1004, jobs: { "unit tests": history("✗✗") } })),
  );
  standIns.gitlab.pipelines.set(1005, [listedFailed("unit tests")]);
  const net = `--allow-net=${hosts.map((name) => new URL(servers[name].url).host).join()}`;
  const command = [deno ?? "", "run", ...PERMISSIONS, net, ...flags(folder.path), file];
  const variables = { ...standIns.env, CI_PIPELINE_ID: "1005", NO_COLOR: "1", ...env(folder.path, sts.url) };
  const result = await start([], variables, folder.path, command).result;
  return { ...result, ...servers, files: readdirSync(folder.path), folder: folder.path };
}

/** An error of one line that says what was not permitted, and no trace. */
function assertRefused({ code, stderr }: { code: number | null; stderr: string }, access: RegExp) {
  assert.equal(code, 1);
  assert.match(stderr, /^Error: .*\n$/);
  assert.match(stderr, access);
}

describe("under Deno with the permissions that README gives,", { skip, concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("which are these", () => {
    const commands = readFileSync(README, "utf8").match(/deno run(.*\\\n)*.*/g) ?? [];
    assert.ok(commands.length > 0, "README has no command for Deno");
    for (const command of commands) {
      const flags: string[] = command.match(/--[\w-]+(=\S+)?/g) ?? [];
      const missing = PERMISSIONS.filter((flag) => !flags.includes(flag));
      const others = flags.filter((flag) => !PERMISSIONS.includes(flag));
      const unknown = others.filter((flag) => !/^--allow-(net|read|write)=\S|^--allow-run$/.test(flag));
      assert.deepEqual({ missing, unknown }, { missing: [], unknown: [] }, command);
      assert.ok(
        others.some((flag) => flag.startsWith("--allow-net=")),
        command,
      );
    }
  });

  for (const [name, file] of [
    ["the bundle", bundle],
    ["the source", SCRIPT],
  ] as const) {
    test(`${name} reads, counts, alerts and stores, and writes no file`, { timeout: MINUTE }, async () => {
      const { code, stderr, stdout, s3, slack, files } = await runConfined(cleanUp, file);

      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(stdout, /Pipeline 1005 is counted, after 1004: .* 1 of 1 message delivered/);
      assert.match(slack.messages[0]?.text ?? "", /unit tests broken/);
      const { pipeline_id, pending_alerts } = JSON.parse(`${s3.objects.get(KEY)}`);
      assert.deepEqual([pipeline_id, pending_alerts], [1005, undefined]);
      assert.deepEqual(files, FILES);
    });
  }

  for (const [missing, file, access] of [
    ["s3", bundle, /^Error: Cannot read job executions from s3:.* net access/],
    ["gitlab", SCRIPT, /^Error: GitLab at .* net access/],
    ["slack", bundle, /^Error: Slack could not be reached with 1 message for #ci: .* net access/],
  ] as const) {
    test(`${missing} is not reached where its host is not listed`, { timeout: MINUTE }, async () => {
      const hosts = HOSTS.filter((host) => host !== missing);
      const run = await runConfined(cleanUp, file, { hosts });
      assertRefused(run, access);
      assert.deepEqual(run[missing].requests, []);
    });
  }

  test("a role is had where STS and the file of the CI's token are listed, and not else", {
    timeout: MINUTE,
  }, async () => {
    const env = (folder: string, sts: string) => roleVariables(sts, join(folder, "token"));
    const flags = (folder: string) => [`--allow-read=${join(folder, "token")}`];
    const hosts: HostName[] = [...HOSTS, "sts"];

    const listed = await runConfined(cleanUp, bundle, { env, flags, hosts });
    assert.deepEqual([listed.code, listed.stderr], [0, ""]);
    assert.match(`${listed.s3.requests[0]?.headers.authorization}`, new RegExp(`Credential=${ROLE_KEY}/`));

    assertRefused(await runConfined(cleanUp, bundle, { env, hosts }), /read access .*token/);
    const unlisted = await runConfined(cleanUp, bundle, { env, flags });
    assertRefused(unlisted, /STS: .*net access/);
    assert.deepEqual(unlisted.sts.requests, []);
  });

  test("a file is read where its path is listed, and no other", { timeout: MINUTE }, async () => {
    const env = (folder: string) => ({ JOB_OWNERS_FILE: join(folder, "owners") });
    const flags = (folder: string) => [`--allow-read=${join(folder, "owners")}`];
    const listed = await runConfined(cleanUp, bundle, { env, flags });
    assert.deepEqual([listed.code, listed.stderr], [0, ""]);
    assert.deepEqual(listed.slack.messages.map(({ channel }) => channel).sort(), ["#ci", "#owners"]);

    const unlisted = await runConfined(cleanUp, bundle, { env });
    assert.equal(unlisted.code, 2);
    assert.match(unlisted.stderr, /^Error: Cannot read .*owners: Requires read access .*\n$/);
    assert.deepEqual(unlisted.requests(), []);
  });

  test("a document in a file is read and written where its folder is listed, and not else", {
    timeout: MINUTE,
  }, async () => {
    const env = () => ({ JOB_EXECUTIONS_URL: "here/document.json" });
    const read = (folder: string) => [`--allow-read=${join(folder, "here")}`];
    const both = (folder: string) => [...read(folder), `--allow-write=${join(folder, "here")}`];

    const listed = await runConfined(cleanUp, bundle, { env, flags: both });
    assert.deepEqual([listed.code, listed.stderr], [0, ""]);
    assert.deepEqual(readdirSync(join(listed.folder, "here")), ["document.json"]);

    const unread = await runConfined(cleanUp, bundle, { env });
    assertRefused(unread, /read access .*document\.json/);
    const unwritten = await runConfined(cleanUp, bundle, { env, flags: read });
    assertRefused(unwritten, /^Error: Cannot upload job executions to here\/document\.json: .*write access/);
    assert.equal(existsSync(join(unwritten.folder, "here")), false);
  });

  test("ALERT_COMMAND is started with --allow-run, and not without", { timeout: MINUTE }, async () => {
    const env = () => ({ ...NO_SLACK, ALERT_COMMAND: "cat; touch started" });
    const hosts: HostName[] = ["s3", "gitlab"];

    const allowed = await runConfined(cleanUp, bundle, { env, hosts, flags: () => ["--allow-run"] });
    assert.equal(allowed.code, 0);
    assert.match(allowed.stderr, /^🔴 unit tests broken/u);
    assert.ok(allowed.files.includes("started"));

    const refused = await runConfined(cleanUp, bundle, { env, hosts });
    assertRefused(refused, /^Error: ALERT_COMMAND refused 1 message: .*run access/);
    assert.deepEqual(refused.files, FILES);
    assert.equal(JSON.parse(`${refused.s3.objects.get(KEY)}`).pending_alerts.length, 1);
  });
});
