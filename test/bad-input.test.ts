import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { retrieveJobExecutions } from "../check-failures.ts";
import { history, listedFailed, memoryStore } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";

/** A document that tracks one job, with what a case changes in that job. */
const withJob = (changes: object) => ({ pipeline_id: 1004, jobs: { "unit tests": { ...history("✗"), ...changes } } });
const withExecution = (execution: unknown) => withJob({ jobs_info: [...history("✗").jobs_info, execution] });
const withAlert = (changes: object) =>
  withJob({ alert: { kind: "consecutive", pipeline_id: 1001, at: "2026-11-23T10:00:00Z", ...changes } });
const withPending = (changes: object) => ({
  ...withJob({}),
  pending_alerts: [{ id: "1", channel: "#ci", text: "…", due: "2026-11-23T10:00:00Z", ...changes }],
});
const withJobs = (jobs: unknown) => ({ pipeline_id: 1004, jobs });

const GOOD_DOCUMENT = JSON.stringify(withJob({}));
const ENCODED = new Uint8Array([...Buffer.from('{"jobs": {"caf'), 0xe9, ...Buffer.from('": {}}}')]); // Latin-1

describe("the script refuses", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  type Case = [title: string, says: RegExp, given: Given];
  type Given = {
    args?: string[];
    env?: Record<string, string | undefined>;
    files?: Record<string, unknown>;
    folder?: string;
  };

  const document = (content: unknown): Given => ({ files: { "document.json": content } });
  const jobs = (content: unknown): Given => ({ files: { "jobs.json": content } });
  const owners = (content: string): Given => ({
    files: { owners: content },
    env: { JOB_OWNERS_FILE: "owners", SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "#ci" },
  });
  const channels = (content: unknown): Given => ({
    files: { owners: "* @org/team\n", "channels.json": content },
    env: { ...owners("").env, OWNER_CHANNELS_FILE: "channels.json" },
  });
  const env = (changes: Record<string, string | undefined>): Given => ({ env: changes });
  const GITLAB = { PIPELINE_JOBS_FILE: undefined, CI_API_V4_URL: "https://127.0.0.1:1/api/v4", CI_PROJECT_ID: "1" };

  const INPUTS: Case[] = [
    ["an empty document", /document\.json is not JSON/, document("")],
    ["a document that is cut", /document\.json is not JSON/, document(GOOD_DOCUMENT.slice(0, -3))],
    ["two documents in one", /document\.json is not JSON/, document(`${GOOD_DOCUMENT}\n${GOOD_DOCUMENT}`)],
    ["a page for humans as document", /document\.json is not JSON/, document("<!DOCTYPE html>\n<title>\n</title>")],
    ["a document that is not UTF-8", /document\.json.*(utf-8|encod)/i, document(ENCODED)],
    ["a document that is a folder", /document\.json.*(EISDIR|director)/i, { folder: "document.json" }],
    [
      "a document in the place of a folder",
      /Cannot upload job executions to jobs\.json\/document\.json: .*(ENOTDIR|EEXIST|directory|exists)/i,
      env({ JOB_EXECUTIONS_URL: "jobs.json/document.json" }),
    ],
    ["null as document", /document\.json is not valid at its top: .*object/, document("null")],
    ["an array as document", /document\.json is not valid at its top: .*object/, document([])],
    ["a document without jobs", /document\.json is not valid at jobs: /, document({ pipeline_id: 1004 })],
    ["a document with an array of jobs", /document\.json is not valid at jobs: /, document(withJobs([]))],
    [
      "a negative counter",
      /at jobs\.unit tests\.consecutive_failures: /,
      document(withJob({ consecutive_failures: -1 })),
    ],
    ["an execution of no job", /at jobs\.unit tests\.jobs_info\.1: .*Object/, document(withExecution("✗"))],
    ["a job without a window", /at jobs\.unit tests: .*jobs_info/, document(withJob({ jobs_info: undefined }))],
    ["an unknown alert", /at jobs\.unit tests\.alert\.kind: /, document(withAlert({ kind: "weekly" }))],
    ["a pending alert without a text", /at pending_alerts\.0\.text: /, document(withPending({ text: undefined }))],
    [
      "a fault in a job with line breaks in its name",
      /at jobs\.unit tests: /,
      document(withJobs({ "unit\r\ntests": 1 })),
    ],

    ["a missing file of jobs", /Cannot read missing\.json: .*ENOENT/, env({ PIPELINE_JOBS_FILE: "missing.json" })],
    ["a file of jobs that is a folder", /Cannot read jobs\.json: .*(EISDIR|director)/i, { folder: "jobs.json" }],
    ["a file of jobs that is not UTF-8", /Cannot read jobs\.json: .*(utf-8|encod)/i, jobs(ENCODED)],
    ["an empty file of jobs", /jobs\.json is not JSON/, jobs("")],
    ["an object without jobs", /jobs\.json is not valid at its top: .*neither/, jobs({ jbos: [] })],
    [
      "a page of GitHub's with a wrong job",
      /jobs\.json is not valid at 0\.jobs\.0\.name: /,
      jobs({ jobs: [{ id: 1 }] }),
    ],
    ["null as job", /jobs\.json is not valid at 0: /, jobs([null])],
    ["a job without an id", /jobs\.json is not valid at 0\.id: /, jobs([{ name: "a", status: "failed" }])],
    [
      "an id that is text",
      /jobs\.json is not valid at 1\.id: /,
      jobs([listedFailed("a"), { ...listedFailed("b"), id: "2" }]),
    ],
    ["an id of zero", /jobs\.json is not valid at 0\.id: /, jobs([listedFailed("a", { id: 0 })])],
    ["a job without a name", /jobs\.json is not valid at 0\.name: /, jobs([listedFailed("")])],
    ["a name that is a number", /jobs\.json is not valid at 0\.name: /, jobs([{ ...listedFailed("a"), name: 1 }])],
    ["a job without a status", /jobs\.json is not valid at 0\.status: /, jobs([{ id: 1, name: "a" }])],
    ["a flag that is text", /at 0\.allow_failure: /, jobs([{ ...listedFailed("a"), allow_failure: "no" }])],

    ["a missing file of owners", /Cannot read owners: .*ENOENT/, { ...owners(""), files: {} }],
    ["a pattern without an owner", /owners:2: unit-\* has no owner; /, owners("* @org/team\nunit-*\n")],
    ["a pattern that ends in a backslash", /owners:1: a backslash ends the line; /, owners("unit @org/team \\\n")],
    ["a comment after an owner", /owners:1: .*comment/, owners("* #ci # everything\n")],
    [
      "an inline comment that looks like a channel",
      /owners:1: owners is not an owner/,
      owners("* @acme/ci #Default owners\n"),
    ],
    [
      "whom to mention in a way nobody knows",
      /channels\.json is not valid at @org\/team: /,
      channels({ "@org/team": "#a <!all>" }),
    ],
    ["channels that are not JSON", /channels\.json is not JSON/, channels("@org/team: #team\n")],
    ["an array of channels", /channels\.json is not valid at its top: /, channels(["#team"])],
    ["a channel that is a number", /channels\.json is not valid at @org\/team: /, channels({ "@org/team": 7 })],
    ["a channel of two words", /channels\.json is not valid at @org\/team: /, channels({ "@org/team": "the team" })],
  ];

  const USAGE: Case[] = [
    ["an unknown flag", /--nope/, { args: ["--nope"] }],
    ["an unknown short flag", /-x/, { args: ["-x"] }],
    ["an unknown command", /reprot/, { args: ["reprot"] }],
    ["a command too many", /report/, { args: ["report", "report"] }],
    ["a value for a flag without one", /--json/, { args: ["--json=yes"] }],
    ["an unknown flag of a report", /--nope/, { args: ["report", "--nope"] }],
    ["no pipeline", /CI_PIPELINE_ID must be .*not set/, env({ CI_PIPELINE_ID: undefined })],
    ["a wrong pipeline", /CI_PIPELINE_ID must be /, env({ CI_PIPELINE_ID: "#1005" })],
    ["a wrong commit", /CI_COMMIT_SHA must be /, env({ CI_COMMIT_SHA: "HEAD" })],
    ["no way to the jobs", /CI_API_V4_URL .*CI_PROJECT_ID .*GITLAB_TOKEN /, env({ PIPELINE_JOBS_FILE: undefined })],
    ["a project without a token", /GITLAB_TOKEN must be .*not set/, env(GITLAB)],
    ["a token of two words", /GITLAB_TOKEN must be a token/, env({ ...GITLAB, GITLAB_TOKEN: "glpat 1" })],
    ["a wrong API", /CI_API_V4_URL must be /, env({ ...GITLAB, GITLAB_TOKEN: "glpat-1", CI_API_V4_URL: "gitlab" })],
    ["a bucket without a key", /JOB_EXECUTIONS_URL must be /, env({ JOB_EXECUTIONS_URL: "s3://bucket" })],
    ["a document on the web", /JOB_EXECUTIONS_URL must be /, env({ JOB_EXECUTIONS_URL: "https://example.com/a.json" })],
    ["a file of another host", /JOB_EXECUTIONS_URL/, env({ JOB_EXECUTIONS_URL: "file://elsewhere/document.json" })],
    ["a wrong endpoint", /AWS_ENDPOINT_URL_S3 must be /, env({ AWS_ENDPOINT_URL_S3: "localhost:9000" })],
    ["a threshold of zero", /CONSECUTIVE_THRESHOLD must be /, env({ CONSECUTIVE_THRESHOLD: "0" })],
    ["a threshold that can't be reached", /CUMULATIVE_THRESHOLD must be at most/, env({ CUMULATIVE_THRESHOLD: "11" })],
    ["a channel without a token", /SLACK_API_TOKEN must be set together/, env({ SLACK_CHANNEL: "#ci" })],
    ["no document in CI", /JOB_EXECUTIONS_URL must be set in CI/, env({ CI: "true", JOB_EXECUTIONS_URL: undefined })],
    ["patterns that end in a backslash", /IGNORE_JOBS must be patterns/, env({ IGNORE_JOBS: "lint\\" })],
    ["a wrong webhook", /SLACK_WEBHOOK_URL must be /, env({ SLACK_WEBHOOK_URL: "hooks.slack.com" })],
    [
      "several faults, all on one line",
      /NOT_RUN_JOBS .*S3_SSE .*SLACK_API_URL /,
      env({ S3_SSE: "yes", NOT_RUN_JOBS: "0", SLACK_API_URL: "/" }),
    ],
    [
      "a wrong environment of a report",
      /CUMULATIVE_LENGTH must be /,
      { args: ["report"], ...env({ CUMULATIVE_LENGTH: "ten" }) },
    ],
  ];

  const cases = [...INPUTS.map((input) => ({ exitCode: 1, input })), ...USAGE.map((input) => ({ exitCode: 2, input }))];
  for (const { exitCode, input } of cases) {
    const [title, says, { args = [], env = {}, files = {}, folder: subfolder }] = input;
    test(`${title}: exit ${exitCode}, one line on stderr, and the document stays as it was`, async () => {
      const all = { "document.json": GOOD_DOCUMENT, "jobs.json": [listedFailed("unit tests")], ...files };
      const { [subfolder ?? ""]: _, ...kept }: Record<string, unknown> = all;
      const folder = makeFolder(kept);
      cleanUp(folder.remove);
      mkdirSync(join(folder.path, subfolder ?? "."), { recursive: true });
      const variables = {
        CI_PIPELINE_ID: "1005",
        CI_COMMIT_SHA: "0ddba11",
        PIPELINE_JOBS_FILE: "jobs.json",
        JOB_EXECUTIONS_URL: "document.json",
      };
      const read = () => (subfolder === "document.json" ? undefined : readFileSync(join(folder.path, "document.json")));
      const before = read();
      const { code, stdout, stderr } = await run(args, { ...variables, ...env }, folder.path);
      assert.equal(code, exitCode, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^Error: .+\n$/);
      assert.match(stderr, says);
      assert.deepEqual(read(), before);
    });
  }
});

describe("retrieveJobExecutions() refuses", () => {
  const FAULTS: [path: string, document: unknown][] = [
    ["its top", "text"],
    ["its top", 42],
    ["jobs", withJobs(null)],
    ["jobs", withJobs("none")],
    ["jobs.unit tests", withJobs({ "unit tests": null })],
    ["jobs.unit tests.consecutive_failures", withJobs({ "unit tests": [] })],
    ["pipeline_id", { ...withJob({}), pipeline_id: null }],
    ["pipeline_id", { ...withJob({}), pipeline_id: "1004" }],
    ["pipeline_id", { ...withJob({}), pipeline_id: -1 }],
    ["pipeline_id", { ...withJob({}), pipeline_id: 2 ** 53 }],
    ["jobs.unit tests.consecutive_failures", withJob({ consecutive_failures: undefined })],
    ["jobs.unit tests.consecutive_failures", withJob({ consecutive_failures: null })],
    ["jobs.unit tests.consecutive_failures", withJob({ consecutive_failures: "1" })],
    ["jobs.unit tests.consecutive_failures", withJob({ consecutive_failures: 1.5 })],
    ["jobs.unit tests.jobs_info", withJob({ jobs_info: {} })],
    ["jobs.unit tests.jobs_info", withJob({ jobs_info: null })],
    ["jobs.unit tests.jobs_info.1", withExecution(null)],
    ["jobs.unit tests.jobs_info.1.id", withExecution([])],
    ["jobs.unit tests.jobs_info.1.id", withExecution({ failing: true })],
    ["jobs.unit tests.jobs_info.1.id", withExecution({ id: "1", failing: true })],
    ["jobs.unit tests.jobs_info.1.id", withExecution({ id: 1.5, failing: true })],
    ["jobs.unit tests.jobs_info.1.failing", withExecution({ id: 1 })],
    ["jobs.unit tests.jobs_info.1.failing", withExecution({ id: 1, failing: "yes" })],
    ["jobs.unit tests.jobs_info.1.commit", withExecution({ id: 1, failing: true, commit: 7 })],
    ["jobs.unit tests.cumulative_failures.0", withJob({ jobs_info: undefined, cumulative_failures: [1] })],
    ["jobs.unit tests.last_run", withJob({ last_run: "yesterday" })],
    ["jobs.unit tests.last_run", withJob({ last_run: 1_763_892_000 })],
    ["jobs.unit tests.last_run", withJob({ last_run: "2026-11-23T10:00:00+00" })],
    ["jobs.unit tests.alert", withJob({ alert: null })],
    ["jobs.unit tests.alert", withJob({ alert: "consecutive" })],
    ["jobs.unit tests.alert.at", withAlert({ at: undefined })],
    ["jobs.unit tests.alert.at", withAlert({ at: "at noon" })],
    ["jobs.unit tests.alert.pipeline_id", withAlert({ pipeline_id: "1001" })],
    ["pending_alerts", { ...withJob({}), pending_alerts: {} }],
    ["pending_alerts.0", { ...withJob({}), pending_alerts: ["…"] }],
    ["pending_alerts.0.channel", withPending({ channel: 7 })],
    ["pending_alerts.0.due", withPending({ due: "now" })],
    ["pending_alerts.0.due", withPending({ due: undefined })],
    ["pending_alerts.0.id", withPending({ id: undefined })],
    ["pending_alerts.0.id", withPending({ id: 7 })],
    ["pending_alerts.0.due", withPending({ id: undefined, due: undefined, claimed_at: "at noon" })],
    ["commit", { ...withJob({}), commit: 7 }],
    ["counted_at", { ...withJob({}), counted_at: "yesterday" }],
    ["jobs.unit tests.turned", withJob({ turned: "0ddba11" })],
    ["jobs.unit tests.turned.commit", withJob({ turned: { title: "x" } })],
    ["jobs.unit tests.turned.title", withJob({ turned: { commit: "0ddba11", title: 7 } })],
    ["jobs.unit tests.turned.from", withJob({ turned: { commit: "0ddba11", from: null } })],
  ];
  const texts = FAULTS.map(([path, document]) => ({ path, text: JSON.stringify(document) }));
  texts.push(
    { path: "jobs.a.consecutive_failures", text: '{"jobs": {"a": {"consecutive_failures": 1e400, "jobs_info": []}}}' },
    { path: "jobs.__proto__", text: '{"jobs": {"__proto__": 1}}' },
    {
      path: "jobs.constructor.jobs_info",
      text: '{"jobs": {"constructor": {"consecutive_failures": 0, "jobs_info": 1}}}',
    },
  );
  for (const { path, text } of texts) {
    test(`${text}, and names ${path}`, async () => {
      const { store } = memoryStore(text);
      const { signal } = new AbortController();
      await assert.rejects(retrieveJobExecutions(store, signal), ({ message }: Error) =>
        message.startsWith(`${store.source} is not valid at ${path}: `),
      );
    });
  }
});
