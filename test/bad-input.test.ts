/** What is wrong is refused: with an error that says where, the right exit code, and a document that stays as it was. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkConsistentFailures, openJobs, openStore, parseAge, retrieveJobExecutions } from "../check-failures.ts";
import {
  history,
  listed,
  listedFailed,
  listedPassed,
  makeWorld,
  memoryStore,
  settings,
  taskOf,
  type Variables,
} from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";
import { parseDocument } from "./support/stored.ts";

/** A document that tracks one job, with what a case changes in that job. */
const withJob = (changes: object) => ({ pipeline_id: 1004, jobs: { "unit tests": { ...history("✗"), ...changes } } });
const withExecution = (execution: unknown) => withJob({ jobs_info: [...history("✗").jobs_info, execution] });
const TIME = "2026-11-23T10:00:00Z";
const withAlert = (changes: object) =>
  withJob({ alert: { kind: "consecutive", pipeline_id: 1001, at: TIME, changed_at: TIME, ...changes } });
const withJobs = (jobs: unknown) => ({ pipeline_id: 1004, jobs });
const withProject = (project: unknown) => ({ ...withJob({}), project });

const OF_ANOTHER_CI = [listedFailed("a"), { id: 1, name: "b", status: "FAILED" }];
const GOOD_DOCUMENT = JSON.stringify(withProject({ name: "acme/shop", url: "https://gitlab.example.com/acme/shop" }));
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

/** A run on the files of a folder. */
async function runIn(path: string, env: Variables = {}) {
  const pathOf = (name: string) => join(path, { ...VARIABLES, ...env }[name] ?? "");
  const paths = { PIPELINE_JOBS_FILE: pathOf("PIPELINE_JOBS_FILE"), JOB_EXECUTIONS_URL: pathOf("JOB_EXECUTIONS_URL") };
  const variables = { ...VARIABLES, ...env, ...paths };
  const { store, jobs, pipeline } = settings(variables);
  const { world } = makeWorld({ store: openStore(store) });
  const source = openJobs(jobs, pipeline.CI_PIPELINE_ID, world.signal);
  return checkConsistentFailures(taskOf(variables), { ...world, jobs: source });
}

const jobs = (content: unknown): Given => ({ files: { "jobs.json": content } });
const document = (content: unknown): Given => ({ files: { "document.json": content } });

describe("a run refuses", () => {
  const cleanUp = makeCleanUp();
  const WORDS_OF_GITLAB = "success, failed or another status";
  const CASES: [title: string, says: RegExp, given: Given][] = [
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
    [
      "a document without jobs",
      /document\.json is not valid at jobs: .*; mend the document/,
      document({ pipeline_id: 1 }),
    ],
    ["a document with an array of jobs", /document\.json is not valid at jobs: /, document(withJobs([]))],
    [
      "a negative counter",
      /at jobs\.unit tests\.consecutive_failures: /,
      document(withJob({ consecutive_failures: -1 })),
    ],
    ["an execution of no job", /at jobs\.unit tests\.jobs_info\.1: .*Object/, document(withExecution("✗"))],
    ["a job without a window", /at jobs\.unit tests: .*jobs_info/, document(withJob({ jobs_info: undefined }))],
    ["an unknown alert", /at jobs\.unit tests\.alert\.kind: /, document(withAlert({ kind: "weekly" }))],
    [
      "a document of another project",
      /^Cannot count a pipeline of https:\/\/elsewhere\.example\/x: the document is that of https:\/\/gitlab\.example\.com\/acme\/shop; .*JOB_EXECUTIONS_URL of its own.*moved.*"project"/,
      { env: { CI_PROJECT_URL: "https://elsewhere.example/x" } },
    ],

    [
      "a missing file of jobs",
      /Cannot read \S*missing\.json: .*ENOENT/,
      { env: { PIPELINE_JOBS_FILE: "missing.json" } },
    ],
    ["a file of jobs that is a folder", /Cannot read \S*jobs\.json: .*(EISDIR|director)/i, { folder: "jobs.json" }],
    ["a file of jobs that is not UTF-8", /Cannot read \S*jobs\.json: .*(utf-8|encod)/i, jobs(ENCODED)],
    ["an empty file of jobs", /jobs\.json is not JSON/, jobs("")],
    ["one job a line", /jobs\.json is not JSON/, jobs('{"id": 1, "name": "a", "status": "failed"}\n{"id": 2}\n')],
    ["an object without jobs", /jobs\.json is not valid at its top: .*GitLab or GitHub lists/, jobs({ jbos: [] })],
    ["a text instead of jobs", /jobs\.json is not valid at its top: /, jobs('"none"')],
    [
      "a page of GitHub's with a wrong job",
      /jobs\.json is not valid at 0\.jobs\.0\.name: /,
      jobs({ jobs: [{ id: 1 }] }),
    ],
    ["null as job", /jobs\.json is not valid at 0: /, jobs([null])],
    ["a job without an id", /jobs\.json is not valid at 0\.id: /, jobs([{ name: "a", status: "failed" }])],
    [
      "an id that is text, and says what to give instead",
      /jobs\.json is not valid at 1\.id: Expected a number, e\.g\. the build's \* 1000 \+ index; /,
      jobs([listedFailed("a"), { ...listedFailed("b"), id: "2" }]),
    ],
    ["an id of zero", /jobs\.json is not valid at 0\.id: /, jobs([listedFailed("a", { id: 0 })])],
    ["a job without a name", /jobs\.json is not valid at 0\.name: /, jobs([listedFailed("")])],
    ["a name that is a number", /jobs\.json is not valid at 0\.name: /, jobs([{ ...listedFailed("a"), name: 1 }])],
    ["a job without a status", /jobs\.json is not valid at 0\.status: /, jobs([{ id: 1, name: "a" }])],
    [
      "a status that neither CI has, and says what may stand there",
      new RegExp(`jobs\\.json is not valid at 1\\.status: .*${WORDS_OF_GITLAB}`),
      jobs(OF_ANOTHER_CI),
    ],
    ["a status in capitals", /jobs\.json is not valid at 0\.status: /, jobs([listed("a", "Success")])],
    [
      "a conclusion that GitHub does not have, and says what may stand there",
      /jobs\.json is not valid at 0\.jobs\.0\.conclusion: .*success.*failure/,
      jobs({ total_count: 1, jobs: [{ id: 1, name: "a", status: "completed", conclusion: "errored" }] }),
    ],
    [
      "a list that is not complete",
      /jobs\.json has 1 of 2 jobs; /,
      jobs({ total_count: 2, jobs: [listedFailed("a")] }),
    ],
    [
      "pages that are not all",
      /jobs\.json has 2 of 3 jobs; .*--slurp/,
      jobs(["a", "b"].map((name) => ({ total_count: 3, jobs: [listedFailed(name)] }))),
    ],
  ];

  for (const [title, says, given] of CASES) {
    test(`${title}, and the document stays as it was`, async () => {
      const { path, read } = prepare(cleanUp, given);
      const before = read();
      await assert.rejects(runIn(path, given.env), ({ message }: Error) => {
        assert.match(message, says);
        return true;
      });
      assert.deepEqual(read(), before);
    });
  }
});

describe("a run takes", () => {
  const cleanUp = makeCleanUp();
  /** What a run on these files counted and warned of. */
  async function countIn(given: Given) {
    const { ran, warnings, outcome } = await runIn(prepare(cleanUp, given).path, given.env);
    return { ran: [...ran.keys()], outcome, warnings: warnings.join("\n") };
  }

  test("a job that had not finished for one that did not run, and warns of it by its name", async () => {
    const unfinished = [listed("b", "running"), listed("c", "pending"), listed("c", "created")];
    const { ran, warnings } = await countIn(jobs([listedPassed("a"), ...unfinished]));
    assert.deepEqual(ran, ["a"]);
    assert.match(warnings, /^The list of jobs in \S*jobs\.json has 2 jobs that had not finished: b, c$/);
  });

  test("a queued attempt of GitHub's beside one that failed, and warns of it", async () => {
    const attempt = (run_attempt: number, status: string, conclusion: string | null) => {
      return { id: 100 + run_attempt, name: "unit", run_attempt, status, conclusion };
    };
    const attempts = [attempt(1, "completed", "failure"), attempt(2, "queued", null)];
    const { ran, warnings } = await countIn(jobs({ total_count: 2, jobs: attempts }));
    assert.deepEqual(ran, ["unit"]);
    assert.match(warnings, / has 1 job that had not finished: unit$/);
  });

  test("a pipeline in which nothing ran for none, with a warning, and stores nothing", async () => {
    for (const none of [[], [listed("a", "skipped"), listed("b", "manual")]]) {
      const { path, read } = prepare(cleanUp, jobs(none));
      const before = read();
      const { outcome, warnings } = await runIn(path);
      assert.equal(outcome, "nothing-ran");
      assert.match(warnings.join("\n"), /^No job of this pipeline failed or passed: /);
      assert.deepEqual(read(), before);
    }
  });

  test("fields that do not fit, where they are not needed to tell an outcome, for missing ones", async () => {
    const odd = { stage: 7, failure_reason: {}, web_url: "javascript:alert(1)", allow_failure: null, steps: "none" };
    const { ran, warnings } = await countIn(jobs([{ ...listedFailed("a"), ...odd }]));
    assert.deepEqual([ran, warnings], [["a"], ""]);
  });
});

describe("the command line refuses", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const env = (changes: Variables): Given => ({ env: changes });

  const CASES: [exitCode: number, title: string, says: RegExp, given: Given][] = [
    [1, "a document that is not JSON", /^Error: document\.json is not JSON: .*\n$/, document("x")],
    [
      1,
      "a fault in a job with line breaks in its name",
      /^Error: document\.json is not valid at jobs\.unit tests: .*\n$/,
      document(withJobs({ "unit\r\ntests": 1 })),
    ],
    [1, "words of another CI", /^Error: .*jobs\.json is not valid at 1\.status: .*\n$/, jobs(OF_ANOTHER_CI)],
    [
      2,
      "a wrong line of JOB_RULES",
      /^Error: [^\n]+\n {2}JOB_RULES must be .*\bline 2\b.*\n$/,
      env({ JOB_RULES: "* #ci\nunit-*" }),
    ],
    [2, "an unknown flag", /^Error: .*--nope; see --help\n$/, { args: ["--nope"] }],
    [2, "a command too many", /^Error: .*report; see --help\n$/, { args: ["report", "report"] }],
    [2, "a value for a flag without one", /^Error: .*--json=yes; see --help\n$/, { args: ["--json=yes"] }],
    [2, "a dry run of a report", /^Error: --dry-run is not for report/, { args: ["report", "--dry-run"] }],
    [
      2,
      "an age of a run",
      /^Error: --max-age is for report, .*3d.*12h.*; see --help\n$/,
      { args: ["--max-age", "3d"] },
    ],
    [2, "no age", /^Error: --max-age is for report, .*\n$/, { args: ["report", "--max-age"] }],
    [2, "an age that is none", /^Error: --max-age is for report, .*\n$/, { args: ["report", "--max-age", "3w"] }],
    [
      2,
      "several faults of the environment, each on a line",
      /^Error: The environment is not valid; see --help\n {2}CI_COMMIT_SHA must be [^\n]+\n {2}S3_SSE must be [^\n]+\n {2}SLACK_API_URL must be [^\n]+\n$/,
      env({ CI_COMMIT_SHA: "HEAD", S3_SSE: "0", SLACK_API_URL: "/" }),
    ],
    [
      2,
      "a key of AWS's that ends in a line break",
      /^Error: [^\n]+\n {2}AWS_SECRET_ACCESS_KEY must be .*line break.*\n$/,
      env({ AWS_SECRET_ACCESS_KEY: "key\n", JOB_EXECUTIONS_URL: "s3://bucket/key" }),
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

describe("parseAge()", () => {
  test("takes days and hours, and nothing else", () => {
    assert.deepEqual(["3d", "12h", "99999d"].map(parseAge), [259_200_000, 43_200_000, 8_639_913_600_000]);
    for (const age of ["0d", "3", "3w", "-3d", "1.5d", "03d", "3d ", "--json", "", undefined]) {
      assert.equal(parseAge(age), undefined, `${age}`);
    }
  });
});

describe("retrieveJobExecutions() refuses", () => {
  const claim = { until: TIME, by: "a run" };
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
    ["commit", { ...withJob({}), commit: 7 }],
    ["counted_at", { ...withJob({}), counted_at: "yesterday" }],
    ["upload", { ...withJob({}), upload: 7 }],
    ["days", { ...withJob({}), days: -1 }],
    ["days", { ...withJob({}), days: "41" }],
    ["last_date", { ...withJob({}), last_date: 20_261_123 }],
    ["hello", { ...withJob({}), hello: true }],
    ["hello.until", { ...withJob({}), hello: { ...claim, until: "soon" } }],
    ["hello.by", { ...withJob({}), hello: { until: TIME } }],
    ["project", withProject("acme/shop")],
    ["project.name", withProject({ name: 7 })],
    ["project.ci", withProject({ ci: "jenkins" })],
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
    ["jobs.unit tests.jobs_info.1.pipeline", withExecution({ id: 1, failing: true, pipeline: "1004" })],
    ["jobs.unit tests.jobs_info.1.pipeline", withExecution({ id: 1, failing: true, pipeline: -1 })],
    ["jobs.unit tests.jobs_info.1.title", withExecution({ id: 1, failing: true, title: ["x"] })],
    ["jobs.unit tests.cumulative_failures.0", withJob({ jobs_info: undefined, cumulative_failures: [1] })],
    ["jobs.unit tests.last_run", withJob({ last_run: "yesterday" })],
    ["jobs.unit tests.last_run", withJob({ last_run: 1_763_892_000 })],
    ["jobs.unit tests.last_run", withJob({ last_run: "2026-11-23T10:00:00+00" })],
    ["jobs.unit tests.last_day", withJob({ last_day: 1.5 })],
    ["jobs.unit tests.alert", withJob({ alert: null })],
    ["jobs.unit tests.alert", withJob({ alert: "consecutive" })],
    ["jobs.unit tests.alert.at", withAlert({ at: undefined })],
    ["jobs.unit tests.alert.at", withAlert({ at: "at noon" })],
    ["jobs.unit tests.alert.changed_at", withAlert({ changed_at: "at noon" })],
    ["jobs.unit tests.alert.pipeline_id", withAlert({ pipeline_id: "1001" })],
    ["jobs.unit tests.alert.times", withAlert({ times: -3 })],
    ["jobs.unit tests.alert.executions", withAlert({ executions: "10" })],
    ["jobs.unit tests.alert.after", withAlert({ after: -1 })],
    ["jobs.unit tests.alert.flaky", withAlert({ flaky: "yes" })],
    ["jobs.unit tests.alert.turned", withAlert({ turned: "0ddba11" })],
    ["jobs.unit tests.alert.turned.commit", withAlert({ turned: { title: "x" } })],
    ["jobs.unit tests.alert.turned.title", withAlert({ turned: { commit: "0ddba11", title: 7 } })],
    ["jobs.unit tests.alert.turned.from", withAlert({ turned: { commit: "0ddba11", from: null } })],
    ["jobs.unit tests.alert.told", withAlert({ told: ["#ci"] })],
    ["jobs.unit tests.alert.told.#ci", withAlert({ told: { "#ci": true } })],
    ["jobs.unit tests.alert.claims", withAlert({ claims: [] })],
    ["jobs.unit tests.alert.claims.#ci", withAlert({ claims: { "#ci": TIME } })],
    ["jobs.unit tests.alert.claims.#ci.until", withAlert({ claims: { "#ci": { ...claim, until: "soon" } } })],
    ["jobs.unit tests.alert.claims.#ci.by", withAlert({ claims: { "#ci": { until: TIME } } })],
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

describe("retrieveJobExecutions() takes", () => {
  const parse = (document: object) => parseDocument(JSON.stringify(document));

  test("a document without what is optional", async () => {
    const { pipeline_id, days, jobs, passed } = await parse({ jobs: {} });
    assert.deepEqual([pipeline_id, days, [...jobs], [...passed]], [0, 0, [], []]);
  });

  test("passes that do not fit for none, as they are only evidence", async () => {
    const PASS = { commit: "0ddba11", pipeline: 1003, day: 7 };
    const ofVersion3 = [{ commit: "0ddba11", at: TIME, jobs: ["lint"] }];
    for (const passed of [null, 7, "lint", ofVersion3, { lint: 7 }, { lint: { ...PASS, day: -1 } }]) {
      assert.deepEqual((await parse({ ...withJob({}), passed })).passed, new Map(), JSON.stringify(passed));
    }
    const { passed } = await parse({ ...withJob({}), passed: { lint: PASS } });
    assert.deepEqual(passed, new Map([["lint", PASS]]));
  });

  test("an address of the project that is none for a missing one", async () => {
    for (const url of ["javascript:alert(1)", "acme/shop", 7, null]) {
      assert.equal(
        (await parse(withProject({ name: "acme/shop", url }))).project?.url ?? undefined,
        undefined,
        `${url}`,
      );
    }
  });
});
