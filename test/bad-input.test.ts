/** What is wrong is refused: with an error that says where, the right exit code, and a document that stays as it was. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkConsistentFailures, openJobs, openStore, retrieveJobExecutions } from "../check-failures.ts";
import {
  history,
  listedFailed,
  makeWorld,
  memoryStore,
  pendingAlert,
  settings,
  taskOf,
  type Variables,
} from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";

/** A document that tracks one job, with what a case changes in that job. */
const withJob = (changes: object) => ({ pipeline_id: 1004, jobs: { "unit tests": { ...history("✗"), ...changes } } });
const withExecution = (execution: unknown) => withJob({ jobs_info: [...history("✗").jobs_info, execution] });
const withAlert = (changes: object) =>
  withJob({ alert: { kind: "consecutive", pipeline_id: 1001, at: "2026-11-23T10:00:00Z", ...changes } });
const PENDING = pendingAlert("unit tests");
const withPending = (changes: object) => ({ ...withJob({}), pending_alerts: [{ ...PENDING, ...changes }] });
const withNews = (changes: object) => withPending({ news: [...PENDING.news, { ...PENDING.news[0], ...changes }] });
const withTold = (changes: object) => withPending({ pipeline: { ...PENDING.pipeline, ...changes } });
const withPassed = (changes: object) => ({
  ...withJob({}),
  passed: [{ commit: "0ddba11", at: "2026-11-23T10:00:00Z", jobs: ["lint"], ...changes }],
});
const withJobs = (jobs: unknown) => ({ pipeline_id: 1004, jobs });

const OF_ANOTHER_CI = [{ id: 1, name: "a", status: "FAILED" }];
const GOOD_DOCUMENT = JSON.stringify(withJob({}));
const ENCODED = new Uint8Array([...Buffer.from('{"jobs": {"caf'), 0xe9, ...Buffer.from('": {}}}')]); // Latin-1

/** A run, or a command line, with what is wrong in it. */
type Given = {
  args?: string[];
  env?: Variables;
  files?: Record<string, unknown>;
  /** Which of the files is a folder. */
  folder?: string;
};

const VARIABLES: Variables = {
  CI_PIPELINE_ID: "1005",
  CI_COMMIT_SHA: "0ddba11",
  PIPELINE_JOBS_FILE: "jobs.json",
  JOB_EXECUTIONS_URL: "document.json",
};
const PATHS = ["PIPELINE_JOBS_FILE", "JOB_EXECUTIONS_URL", "JOB_OWNERS_FILE", "OWNER_CHANNELS_FILE"];

/** A folder with a good document and a list of jobs, but for what is given. */
function prepare(cleanUp: ReturnType<typeof makeCleanUp>, { files = {}, folder: subfolder = "." }: Given) {
  const all = { "document.json": GOOD_DOCUMENT, "jobs.json": [listedFailed("unit tests")], ...files };
  const { [subfolder]: _, ...kept }: Record<string, unknown> = all;
  const folder = makeFolder(kept);
  cleanUp(folder.remove);
  mkdirSync(join(folder.path, subfolder), { recursive: true });
  const read = () => (subfolder === "document.json" ? undefined : readFileSync(join(folder.path, "document.json")));
  return { path: folder.path, read };
}

describe("a run refuses", () => {
  const cleanUp = makeCleanUp();
  type Case = [title: string, says: RegExp, given: Given];

  const document = (content: unknown): Given => ({ files: { "document.json": content } });
  const jobs = (content: unknown): Given => ({ files: { "jobs.json": content } });
  const owners = (content: string): Given => ({ files: { owners: content }, env: { JOB_OWNERS_FILE: "owners" } });
  const channels = (content: unknown): Given => ({
    files: { owners: "* @org/team\n", "channels.json": content },
    env: { JOB_OWNERS_FILE: "owners", OWNER_CHANNELS_FILE: "channels.json" },
  });

  const INPUTS: Case[] = [
    ["an empty document", /document\.json is not JSON/, document("")],
    ["a document that is cut", /document\.json is not JSON/, document(GOOD_DOCUMENT.slice(0, -3))],
    ["two documents in one", /document\.json is not JSON/, document(`${GOOD_DOCUMENT}\n${GOOD_DOCUMENT}`)],
    ["a page for humans as document", /document\.json is not JSON/, document("<!DOCTYPE html>\n<title>\n</title>")],
    ["a document that is not UTF-8", /document\.json.*(utf-8|encod)/i, document(ENCODED)],
    ["a document that is a folder", /document\.json.*(EISDIR|director)/i, { folder: "document.json" }],
    [
      "a document in the place of a folder",
      /Cannot upload job executions to \S*jobs\.json\/document\.json: .*(ENOTDIR|EEXIST|directory|exists)/i,
      { env: { JOB_EXECUTIONS_URL: "jobs.json/document.json" } },
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
    ["a pending alert of version 2", /at pending_alerts\.0\./, document(withPending({ news: undefined, text: "…" }))],

    [
      "a missing file of jobs",
      /Cannot read \S*missing\.json: .*ENOENT/,
      { env: { PIPELINE_JOBS_FILE: "missing.json" } },
    ],
    ["a file of jobs that is a folder", /Cannot read \S*jobs\.json: .*(EISDIR|director)/i, { folder: "jobs.json" }],
    ["a file of jobs that is not UTF-8", /Cannot read \S*jobs\.json: .*(utf-8|encod)/i, jobs(ENCODED)],
    ["an empty file of jobs", /jobs\.json is not JSON/, jobs("")],
    ["an object without jobs", /jobs\.json is not valid at its top: .*GitLab or GitHub lists/, jobs({ jbos: [] })],
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
    [
      "a list that is not complete",
      /jobs\.json has 1 of 2 jobs; /,
      jobs({ total_count: 2, jobs: [listedFailed("a")] }),
    ],
    ["words of another CI", /FAILED \(1 job\); nothing is counted/, jobs(OF_ANOTHER_CI)],
  ];

  const OWNERS: Case[] = [
    ["a missing file of owners", /Cannot read \S*owners: .*ENOENT/, { ...owners(""), files: {} }],
    [
      "a missing file of channels",
      /Cannot read \S*channels\.json: .*ENOENT/,
      { ...channels({}), files: { owners: "" } },
    ],
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

  for (const [exitCode, cases] of [
    [undefined, INPUTS], // which is 1
    [2, OWNERS],
  ] as const) {
    for (const [title, says, given] of cases) {
      test(`${title}: exit ${exitCode ?? 1}, and the document stays as it was`, async () => {
        const { path, read } = prepare(cleanUp, given);
        const before = read();
        const named = Object.entries({ ...VARIABLES, ...given.env });
        const variables = Object.fromEntries(
          named.map(([name, value]) => [name, PATHS.includes(name) && value ? join(path, value) : value]),
        );
        const runNow = async () => {
          const { store, jobs, network, pipeline } = settings(variables);
          const { world } = makeWorld({ store: openStore(store, network) });
          const source = openJobs(jobs, pipeline.CI_PIPELINE_ID, network, world.signal);
          return checkConsistentFailures(await taskOf(variables), { ...world, jobs: source });
        };
        await assert.rejects(runNow(), (error: Error & { exitCode?: number }) => {
          assert.match(error.message, says);
          assert.equal(error.exitCode, exitCode);
          return true;
        });
        assert.deepEqual(read(), before);
      });
    }
  }
});

describe("the command line refuses", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const env = (changes: Variables): Given => ({ env: changes });
  const ages = ["0d", "3", "3w", "-3d", "--json"];

  const CASES: [exitCode: number, title: string, says: RegExp, given: Given][] = [
    [
      1,
      "a document that is not JSON",
      /^Error: document\.json is not JSON: .*\n$/,
      { files: { "document.json": "x" } },
    ],
    [
      1,
      "a fault in a job with line breaks in its name",
      /^Error: document\.json is not valid at jobs\.unit tests: .*\n$/,
      { files: { "document.json": withJobs({ "unit\r\ntests": 1 }) } },
    ],
    [1, "words of another CI", /^Error: .*FAILED \(1 job\).*\n$/, { files: { "jobs.json": OF_ANOTHER_CI } }],
    [
      2,
      "owners that are wrong",
      /^Error: owners:1: unit-\* has no owner; .*\n$/,
      {
        files: { owners: "unit-*\n" },
        env: { JOB_OWNERS_FILE: "owners", SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "#ci" },
      },
    ],
    [2, "an unknown flag", /^Error: .*--nope; see --help\n$/, { args: ["--nope"] }],
    [2, "an unknown command", /^Error: .*reprot; see --help\n$/, { args: ["reprot"] }],
    [2, "a command too many", /^Error: .*report; see --help\n$/, { args: ["report", "report"] }],
    [2, "a value for a flag without one", /^Error: .*--json=yes; see --help\n$/, { args: ["--json=yes"] }],
    [2, "a dry run of a report", /^Error: --dry-run is not for report/, { args: ["report", "--dry-run"] }],
    [2, "an age of a run", /^Error: --max-age is for report, .*3d, 12h; .*\n$/, { args: ["--max-age", "3d"] }],
    ...ages.map((age): (typeof CASES)[number] => [
      2,
      `an age of "${age}"`,
      /^Error: --max-age is for report, .*\n$/,
      { args: ["report", "--max-age", age] },
    ]),
    [
      2,
      "several faults of the environment, each on a line",
      /^Error: The environment is not valid; see --help\n {2}CI_COMMIT_SHA must be [^\n]+\n {2}NOT_RUN_JOBS must be [^\n]+\n {2}SLACK_API_URL must be [^\n]+\n$/,
      env({ CI_COMMIT_SHA: "HEAD", NOT_RUN_JOBS: "0", SLACK_API_URL: "/" }),
    ],
    [
      2,
      "alerts in CI that only a log would have",
      /^Error: [^\n]+\n {2}SLACK_API_TOKEN must be set in CI, .*SLACK_WEBHOOK_URL.*ALERT_COMMAND.*\n$/,
      env({ CI: "true" }),
    ],
    [
      2,
      "a wrong environment of a report",
      /^Error: [^\n]+\n {2}CUMULATIVE_LENGTH must be .*\n$/,
      { args: ["report"], ...env({ CUMULATIVE_LENGTH: "ten" }) },
    ],
  ];
  for (const [exitCode, title, says, given] of CASES) {
    test(`${title}: exit ${exitCode}, only what is wrong on stderr, and the document stays as it was`, async () => {
      const { path, read } = prepare(cleanUp, given);
      const before = read();
      const { code, stdout, stderr } = await run(given.args ?? [], { ...VARIABLES, ...given.env }, path);
      assert.deepEqual([code, stdout], [exitCode, ""], stderr);
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
    ["pending_alerts.0.channel", withPending({ channel: undefined })],
    ["pending_alerts.0.news", withPending({ news: undefined })],
    ["pending_alerts.0.news", withPending({ news: "🔴 unit tests broken" })],
    ["pending_alerts.0.news.1.kind", withNews({ kind: "weekly" })],
    ["pending_alerts.0.news.1.job", withNews({ job: undefined })],
    ["pending_alerts.0.news.1.times", withNews({ times: -3 })],
    ["pending_alerts.0.news.1.ids.0", withNews({ ids: ["101"] })],
    ["pending_alerts.0.news.1.since", withNews({ since: "noon" })],
    ["pending_alerts.0.news.1.turned.commit", withNews({ turned: {} })],
    ["pending_alerts.0.pipeline", withPending({ pipeline: undefined })],
    ["pending_alerts.0.pipeline.id", withTold({ id: "1005" })],
    ["pending_alerts.0.pipeline.at", withTold({ at: undefined })],
    ["pending_alerts.0.pipeline.project", withTold({ project: undefined })],
    ["pending_alerts.0.hello.in_a_row", withPending({ hello: { document: "x" } })],
    ["passed", { ...withJob({}), passed: {} }],
    ["passed.0", { ...withJob({}), passed: ["lint"] }],
    ["passed.0.commit", withPassed({ commit: null })],
    ["passed.0.at", withPassed({ at: "noon" })],
    ["passed.0.jobs.0", withPassed({ jobs: [7] })],
    ["project", { ...withJob({}), project: "acme/shop" }],
    ["project.name", { ...withJob({}), project: { name: 7 } }],
    ["project.ci", { ...withJob({}), project: { ci: "jenkins" } }],
    ["jobs.unit tests.executions_since_alert", withJob({ executions_since_alert: -1 })],
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
