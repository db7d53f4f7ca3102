/** The audit map, enforced: under Deno, the main job does its work with the permissions that README gives, and no more. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Alert } from "../check-failures.ts";
import { history, listedFailed, MINUTE, type Variables } from "./support/builders.ts";
import { type CleanUp, makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, SCRIPT, start } from "./support/run.ts";
import { ROLE_KEY, roleVariables, startSts } from "./support/servers/sts.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";
import { writeBundle } from "./tools/bundle.ts";
import { findDeno } from "./tools/install-runtimes.ts";

const README = readFileSync(fileURLToPath(new URL("../README.md", import.meta.url)), "utf8");
/** The command that README gives, in one line. */
const COMMAND = (/^deno run (?:.*\\\n)*.*/m.exec(README)?.[0] ?? "").replace(/\s*\\\n\s*/g, " ");
const FLAGS: string[] = COMMAND.match(/--[\w-]+(=\S+)?/g) ?? [];
/** What each run is permitted, besides the very hosts and files. */
const PERMISSIONS = FLAGS.filter((flag) => !/^--allow-(net|read)=/.test(flag));
const HOSTS_IN_README = (/--allow-net=(\S+)/.exec(COMMAND)?.[1] ?? "").split(",");

const NO_SLACK = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
const timeout = MINUTE;

const deno = await findDeno();
const skip = !deno && "deno is not installed: `npm run test:runtimes` installs it";
const built = makeFolder();
after(built.remove);
const bundle = skip ? "" : await writeBundle(built.path);

type HostName = "s3" | "gitlab" | "slack" | "sts";
const HOSTS: HostName[] = ["s3", "gitlab", "slack", "sts"];
const hostNamed = (address: string) => HOSTS.find((name) => new RegExp(`\\b${name}\\b`).test(address));

const JOBS = [listedFailed("unit tests")];
/** What is in the folder of a run before it. */
const FILES = { "jobs.json": JOBS, token: "a-token-of-the-ci" };

type Permitted = {
  hosts?: HostName[];
  /** The files that may be read, and the folders that may be written as well. */
  read?: string[];
  write?: string[];
  flags?: string[];
  env?: (folder: string) => Variables;
};

/** Runs the main job, as a role, for a job that fails for the third time, in a folder of its own. */
async function runConfined(cleanUp: CleanUp, file: string, permitted: Permitted = {}) {
  const { hosts = HOSTS, read = ["token"], write = [], flags = [], env = () => ({}) } = permitted;
  const [standIns, sts] = await Promise.all([startStandIns(), startSts()]);
  const servers = { ...standIns, sts };
  const folder = makeFolder(FILES);
  for (const end of [standIns.close, sts.close, folder.remove]) cleanUp(end);
  const stored = JSON.stringify({ pipeline_id: 1004, jobs: { "unit tests": history("✗✗") } });
  standIns.s3.objects.set(KEY, Buffer.from(stored));
  standIns.gitlab.pipelines.set(1005, JOBS);
  const list = (flag: string, values: string[]) => (values.length > 0 ? [`--allow-${flag}=${values.join()}`] : []);
  const within = (names: string[]) => names.map((name) => join(folder.path, name));
  const granted = [
    ...list(
      "net",
      hosts.map((name) => new URL(servers[name].url).host),
    ),
    ...list("read", within(read)),
    ...list("write", within(write)),
  ];
  const command = [deno ?? "", "run", ...PERMISSIONS, ...granted, ...flags, file];
  const role = roleVariables(sts.url, join(folder.path, "token"));
  const variables = { ...standIns.env, ...role, CI_PIPELINE_ID: "1005", NO_COLOR: "1", ...env(folder.path) };
  const result = await start([], variables, folder.path, command).result;
  return { ...result, ...servers, files: readdirSync(folder.path), folder: folder.path };
}

/** An error of one line that says what was not permitted, and no trace. */
function assertRefused({ code, stderr }: { code: number | null; stderr: string }, access: RegExp) {
  assert.equal(code, 1);
  assert.match(stderr, /^Error: .*\n$/);
  assert.match(stderr, access);
}

test("README has one command for Deno, whose permissions are those of the audit map: hosts, the token of a role, and no more", () => {
  assert.equal(README.match(/^deno run /gm)?.length, 1);
  assert.deepEqual(PERMISSIONS, ["--no-prompt", "--allow-env", "--allow-sys=osRelease"]);
  assert.deepEqual(
    FLAGS.filter((flag) => flag.startsWith("--allow-read")),
    ['--allow-read="$AWS_WEB_IDENTITY_TOKEN_FILE"'],
  );
  assert.deepEqual(HOSTS_IN_README.map(hostNamed).sort(), HOSTS.toSorted());
});

describe("under Deno with the permissions that README gives,", { skip, concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  for (const [name, file] of [
    ["the bundle", bundle],
    ["the source", SCRIPT],
  ] as const) {
    test(`${name} takes a role, reads, counts, tells and stores, and writes no file`, { timeout }, async () => {
      const { code, stderr, stdout, s3, slack, files } = await runConfined(cleanUp, file);

      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(stdout, /^Pipeline 1005 is counted, after 1004: /);
      assert.match(`${s3.requests[0]?.headers.authorization}`, new RegExp(`Credential=${ROLE_KEY}/`));
      assert.match(slack.messages[0]?.text ?? "", /unit tests broken/);
      const { pipeline_id, jobs } = JSON.parse(`${s3.objects.get(KEY)}`);
      const { told, changed_at }: Alert = jobs["unit tests"].alert;
      assert.deepEqual([pipeline_id, told], [1005, { "": changed_at }]);
      assert.deepEqual(files, Object.keys(FILES));
    });
  }

  for (const [missing, file, access] of [
    ["s3", bundle, /^Error: Cannot read job executions from s3:.* net access/],
    ["gitlab", SCRIPT, /^Error: GitLab at .* net access/],
    ["slack", bundle, /^Error: #ci .* told: Slack at .* net access/],
    ["sts", bundle, /^Error: Cannot read job executions from s3:.* STS: .*net access/],
  ] as const) {
    test(`${missing} is not reached where its host is not listed`, { timeout }, async () => {
      const run = await runConfined(cleanUp, file, { hosts: HOSTS.filter((host) => host !== missing) });
      assertRefused(run, access);
      assert.deepEqual(run[missing].requests, []);
    });
  }

  test("the token of a role is not read where its file is not listed", { timeout }, async () => {
    assertRefused(await runConfined(cleanUp, bundle, { read: [] }), /read access .*token/);
  });

  test("a jobs file is read where it is listed, and not else", { timeout }, async () => {
    const env = (folder: string) => ({ PIPELINE_JOBS_FILE: join(folder, "jobs.json") });
    const listed = await runConfined(cleanUp, bundle, { env, read: ["token", "jobs.json"] });
    assert.deepEqual([listed.code, listed.stderr, listed.gitlab.requests], [0, "", []]);
    assertRefused(await runConfined(cleanUp, bundle, { env }), /^Error: Cannot read .*jobs\.json: .*read access/);
  });

  test("a document in a file is read and written where its folder is listed, and not else", { timeout }, async () => {
    const env = () => ({ JOB_EXECUTIONS_URL: "here/document.json" });
    const listed = await runConfined(cleanUp, bundle, { env, read: ["here"], write: ["here"] });
    assert.deepEqual([listed.code, listed.stderr], [0, ""]);
    assert.deepEqual(readdirSync(join(listed.folder, "here")), ["document.json"]);

    assertRefused(await runConfined(cleanUp, bundle, { env }), /read access .*document\.json/);
    const unwritten = await runConfined(cleanUp, bundle, { env, read: ["here"] });
    assertRefused(unwritten, /^Error: Cannot upload job executions to here\/document\.json: .*write access/);
    assert.equal(existsSync(join(unwritten.folder, "here")), false);
  });

  test("ALERT_COMMAND is started with --allow-run, and not without", { timeout }, async () => {
    const env = () => ({ ...NO_SLACK, ALERT_COMMAND: "cat; touch started" });

    const allowed = await runConfined(cleanUp, bundle, { env, flags: ["--allow-run"] });
    assert.equal(allowed.code, 0);
    assert.match(allowed.stderr, /^🔴 unit tests broken/u);
    assert.ok(allowed.files.includes("started"));

    const refused = await runConfined(cleanUp, bundle, { env });
    assertRefused(refused, /ALERT_COMMAND .*run access/);
    assert.deepEqual(refused.files, Object.keys(FILES));
    assert.equal(JSON.parse(`${refused.s3.objects.get(KEY)}`).jobs["unit tests"].alert.told, undefined);
  });
});
