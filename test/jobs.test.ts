import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { openJobs, type PipelineJob } from "../check-failures.ts";
import {
  documentOf,
  history,
  listed,
  listedFailed,
  listedPassed,
  memoryStore,
  runOf,
  settings,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { type CleanUp, makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";
import {
  type GitLabBridge,
  type GitLabJob,
  JOB_TOKEN,
  PROJECT_ID,
  startGitLab,
  TOKEN,
} from "./support/servers/gitlab.ts";
import { answerJson, answerWith, type Fault, hang, reset, startServer } from "./support/servers/http.ts";

const BUILDS = Array.from({ length: 250 }, (_, i) => `build ${i + 1}`);

/** The source of jobs of pipeline 1005, and its warnings. */
function openSource(variables: Variables) {
  const { jobs, network } = settings(variables);
  const warnings: string[] = [];
  const { signal } = new AbortController();
  const source = { pipelineId: 1005, network, signal, warn: (text: string) => void warnings.push(text) };
  return { list: openJobs(jobs, source), warnings };
}

const variablesOf = (gitlab: { apiUrl: string }) => ({
  PIPELINE_JOBS_FILE: undefined,
  CI_API_V4_URL: gitlab.apiUrl,
  CI_PROJECT_ID: `${PROJECT_ID}`,
  GITLAB_TOKEN: TOKEN,
});

/** GitLab with the jobs of pipeline 1005. */
async function startWith(cleanUp: CleanUp, jobs: GitLabJob[], ...options: Parameters<typeof startGitLab>) {
  const gitlab = await startGitLab(...options);
  cleanUp(gitlab.close);
  gitlab.pipelines.set(1005, jobs);
  return gitlab;
}

const isBridges = ({ path }: { path: string }) => path.endsWith("/bridges");
const isJobs = ({ path }: { path: string }) => path.endsWith("/jobs");

describe("a run with GitLab", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const start = (jobs: GitLabJob[], ...options: Parameters<typeof startGitLab>) => startWith(cleanUp, jobs, ...options);

  /** Counts pipeline 1005 in a document that tracks jobs; resolves to their histories, and to how it ended. */
  async function count(variables: Variables, tracked: Record<string, string> = {}) {
    const jobs = Object.entries(tracked).map(([name, strip]): [string, ReturnType<typeof history>] => [
      name,
      history(strip),
    ]);
    const before = textOf(documentOf(...jobs));
    const { store, stored } = memoryStore(before);
    const outcome = await runOf([], variables, { store, jobs: openSource(variables).list }).then(
      ({ run }) => run.outcome,
      (error: Error) => error.message,
    );
    return { outcome, isUntouched: stored.text === before, jobs: JSON.parse(stored.text ?? "").jobs };
  }

  const TOKENS: [title: string, tokens: Record<string, string>, header: object][] = [
    ["GITLAB_TOKEN as PRIVATE-TOKEN", { GITLAB_TOKEN: TOKEN }, { "private-token": TOKEN }],
    ["CI_JOB_TOKEN as JOB-TOKEN", { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN }, { "job-token": JOB_TOKEN }],
    ["GITLAB_TOKEN alone where both are set", { CI_JOB_TOKEN: JOB_TOKEN }, { "private-token": TOKEN }],
  ];
  for (const [title, tokens, header] of TOKENS) {
    test(`sends ${title}`, async () => {
      const gitlab = await start([listedFailed("unit tests")]);
      const { outcome } = await count({ ...variablesOf(gitlab), ...tokens });
      assert.equal(outcome, "counted");
      assert.deepEqual(
        gitlab.requests.map(({ headers }) =>
          Object.fromEntries(Object.entries(headers).filter(([name]) => name.endsWith("token"))),
        ),
        [header, header], // jobs and trigger jobs
      );
    });
  }

  for (const pages of ["totals", "next", "link", "none"] as const) {
    test(`reads all pages, each once, where GitLab tells of them by ${pages} in its headers`, async () => {
      const gitlab = await start([...BUILDS.map((name) => listedPassed(name)), listedFailed("unit tests")], { pages });
      const { outcome, jobs } = await count(variablesOf(gitlab), {
        "build 1": "✗",
        "build 101": "✗",
        "build 250": "✗",
      });
      assert.equal(outcome, "counted");
      assert.deepEqual(
        ["build 1", "build 101", "build 250", "unit tests"].map((name) => jobs[name].consecutive_failures),
        [0, 0, 0, 1],
      );
      assert.deepEqual(
        gitlab.requests
          .filter(isJobs)
          .map(({ query }) => `${query.get("scope[]")} ${query.get("page")}`)
          .sort(),
        ["failed 1", "success 1", "success 2", "success 3"],
      );
    });

    test(`counts failed jobs of all pages where GitLab tells of them by ${pages} in its headers`, async () => {
      const gitlab = await start(
        BUILDS.map((name) => listedFailed(name)),
        { pages },
      );
      const { jobs } = await count(variablesOf(gitlab));
      assert.deepEqual(Object.keys(jobs).sort(), [...BUILDS].sort());
    });
  }

  test("asks for the further pages of succeeded jobs all at once", async () => {
    const gitlab = await start([...BUILDS.map((name) => listedPassed(name)), listedFailed("unit tests")]);
    const waiting: (() => void)[] = [];
    gitlab.faults.push({
      times: 2,
      matches: ({ query }) => query.get("scope[]") === "success" && query.get("page") !== "1",
      // No page is answered before each of them has been asked for.
      answer: (response, { query }) => {
        waiting.push(() => answerJson(response, [listedPassed(`page ${query.get("page")}`)]));
        if (waiting.length === 2) for (const answer of waiting) answer();
      },
    });
    const { jobs } = await count(variablesOf(gitlab), { "page 2": "✗", "page 3": "✗" });
    assert.deepEqual([jobs["page 2"].consecutive_failures, jobs["page 3"].consecutive_failures], [0, 0]);
  });

  test("asks for a project by its path as one part of the URL", async () => {
    const gitlab = await start([]);
    const urls: unknown[] = [];
    const answer: Fault["answer"] = (response) => {
      urls.push(response.req.url);
      answerJson(response, []);
    };
    gitlab.faults.push({ times: 2, answer });
    await count({ ...variablesOf(gitlab), CI_PROJECT_ID: "acme/shop" });
    assert.match(urls.join("\n"), /^\/api\/v4\/projects\/acme%2Fshop\/pipelines\/1005\/jobs\?.*$/m);
  });

  test("counts a job whose links and commit make no sense", async () => {
    const gitlab = await start([]);
    const odd = [{ id: 1, name: "unit tests", status: "failed", web_url: 5, stage: 7, failure_reason: {} }];
    gitlab.faults.push({ times: 1, matches: isJobs, answer: (response) => answerJson(response, odd) });
    const { jobs } = await count(variablesOf(gitlab));
    assert.equal(jobs["unit tests"].consecutive_failures, 1);
  });

  const html = answerWith(200, "<!DOCTYPE html>\n<title>Sign in</title>", { "content-type": "text/html" });
  const json = (body: unknown) => (response: Parameters<Fault["answer"]>[0]) => answerJson(response, body);
  const REFUSALS: [title: string, answer: Fault["answer"], says: RegExp][] = [
    ["401", answerWith(401, '{"message":"401 Unauthorized"}'), /answered 401; set GITLAB_TOKEN .*read_api/],
    ["403", answerWith(403, '{"message":"403 Forbidden"}'), /answered 403; set GITLAB_TOKEN .*read_api/],
    ["404", answerWith(404, '{"message":"404 Not found"}'), /answered 404; check CI_API_V4_URL, CI_PROJECT_ID/],
    ["500 again and again", answerWith(500, "Whoops"), /answered 500 Whoops, 3 times/],
    ["what is not JSON", answerWith(200, "[{"), /The answer of GitLab.* is not JSON/],
    ["a page for humans", html, /The answer of GitLab.* is not JSON/],
    ["an object", json({ message: "Hello" }), /pipelines\/1005\/jobs.* is not valid at its top: .*Array/],
    ["a job without a name", json([{ id: 1, status: "failed" }]), /pipelines\/1005\/jobs.* is not valid at 0\.name/],
    ["an id of another type", json([listedFailed("a"), { ...listedFailed("b"), id: "2" }]), /is not valid at 1\.id/],
    ["a status of another type", json([{ ...listedFailed("a"), status: null }]), /is not valid at 0\.status/],
    ["a flag of another type", json([{ ...listedFailed("a"), allow_failure: 0 }]), /is not valid at 0\.allow_failure/],
    ["nothing, but breaks the connection off", reset, /is unreachable: .*, 3 times/],
  ];
  for (const [title, answer, says] of REFUSALS) {
    test(`fails without an upload where GitLab answers ${title}`, async () => {
      const gitlab = await start([listedFailed("unit tests")]);
      gitlab.faults.push({ times: 9, matches: isJobs, answer });
      const { outcome, isUntouched } = await count(variablesOf(gitlab), { "unit tests": "✗" });
      assert.match(outcome, says);
      assert.match(outcome, /GitLab/);
      assert.equal(isUntouched, true);
    });
  }

  test("fails without an upload where one of the pages is missing", async () => {
    const gitlab = await start(BUILDS.map((name) => listedFailed(name)));
    gitlab.faults.push({ times: 9, matches: ({ query }) => query.get("page") === "2", answer: answerWith(404) });
    const { outcome, isUntouched } = await count(variablesOf(gitlab), { "build 1": "✗" });
    assert.match(outcome, /GitLab at .* answered 404/);
    assert.equal(isUntouched, true);
  });

  test("does not follow a redirect, whose host would get the token", async () => {
    const elsewhere = await startServer((_, response) => answerJson(response, []));
    cleanUp(elsewhere.close);
    const gitlab = await start([listedFailed("unit tests")]);
    gitlab.faults.push({
      times: 9,
      matches: isJobs,
      answer: answerWith(302, "", { location: `${elsewhere.url}/api/v4/jobs` }),
    });
    const { outcome, isUntouched } = await count(variablesOf(gitlab));
    assert.match(outcome, /GitLab at .* answered 302; check CI_API_V4_URL/);
    assert.equal(isUntouched, true);
    assert.deepEqual(elsewhere.requests, []);
  });

  for (const [title, answer] of [
    ["answers 500 once", answerWith(500)],
    ["breaks a connection off once", reset],
    ["says nothing for as long as a request may take", hang],
  ] as const) {
    test(`asks again where GitLab ${title}`, { timeout: 60_000 }, async () => {
      const gitlab = await start([listedFailed("unit tests")]);
      gitlab.faults.push({ times: 1, matches: isJobs, answer });
      const { outcome, jobs } = await count(variablesOf(gitlab));
      assert.equal(outcome, "counted");
      assert.equal(jobs["unit tests"].consecutive_failures, 1);
    });
  }

  test("waits after a 429 for as long as Retry-After says", async () => {
    const gitlab = await start([listedFailed("unit tests")]);
    let isLimited = true;
    gitlab.faults.push({
      times: 99,
      matches: (asked) => isLimited && isJobs(asked),
      answer: (response) => {
        // Whoever asks again before Retry-After is limited once more: a wait of their own choice is at most a second.
        setTimeout(() => {
          isLimited = false;
        }, 1_500);
        answerWith(429, "Retry later", { "retry-after": "2" })(response);
      },
    });
    const { outcome } = await count(variablesOf(gitlab));
    assert.equal(outcome, "counted");
    assert.equal(gitlab.requests.filter(isJobs).length, 2);
  });

  test("does not wait for longer than half a minute, and says so", async () => {
    const gitlab = await start([listedFailed("unit tests")]);
    gitlab.faults.push({ times: 9, matches: isJobs, answer: answerWith(429, "", { "retry-after": "120" }) });
    const { outcome, isUntouched } = await count(variablesOf(gitlab));
    assert.match(outcome, /GitLab at .* answered 429 and asks to wait for 120 s; try again then/);
    assert.deepEqual([gitlab.requests.filter(isJobs).length, isUntouched], [1, true]);
  });
});

describe("openJobs() follows GitLab's trigger jobs", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const child = (id: number, rest: object = {}) => ({
    downstream_pipeline: { id, project_id: PROJECT_ID, status: "success", ...rest },
  });
  const bridge = (name: string, status: string, rest: Partial<GitLabBridge> = {}): GitLabBridge => ({
    ...listed(name, status),
    ...rest,
  });
  const describeJobs = (jobs: PipelineJob[]) => jobs.map(({ name, outcome }) => `${outcome}: ${name}`).sort();

  type Pipelines = Record<number, { jobs?: GitLabJob[]; bridges?: GitLabBridge[] }>;

  /** What is listed of pipeline 1005, the failed and then the passed, and the warnings. */
  async function list(
    pipelines: Pipelines,
    prepare: (gitlab: Awaited<ReturnType<typeof startGitLab>>) => void = () => {},
  ) {
    const gitlab = await startGitLab();
    cleanUp(gitlab.close);
    for (const [id, { jobs = [], bridges = [] }] of Object.entries(pipelines)) {
      gitlab.pipelines.set(Number(id), jobs);
      gitlab.bridges.set(Number(id), bridges);
    }
    prepare(gitlab);
    const { list, warnings } = openSource(variablesOf(gitlab));
    const failed = describeJobs(await list("failed"));
    const passed = describeJobs(await list("passed"));
    return { jobs: [...failed, ...passed], warnings, gitlab };
  }

  test("to the jobs of child pipelines, two levels deep, under the names of the trigger jobs", async () => {
    const { jobs, warnings, gitlab } = await list({
      1005: {
        jobs: [listedFailed("lint")],
        bridges: [bridge("web", "failed", child(2001)), bridge("api", "success", child(2002))],
      },
      2001: { jobs: [listedFailed("unit"), listedPassed("lint")], bridges: [bridge("e2e", "failed", child(3001))] },
      2002: { jobs: [listedPassed("unit"), listed("deploy", "manual")] },
      3001: { jobs: [listedFailed("unit"), listedPassed("chrome")] },
    });
    assert.deepEqual(jobs, [
      ...["failed: lint", "failed: web / e2e / unit", "failed: web / unit"],
      ...[
        "passed: api",
        "passed: api / unit",
        "passed: web",
        "passed: web / e2e",
        "passed: web / e2e / chrome",
        "passed: web / lint",
      ],
    ]);
    assert.deepEqual(warnings, []);
    assert.equal(gitlab.requests.length, 2 + 2 * 2 + 1 + 1); // each pipeline's jobs and bridges once, and the passed
  });

  test("whose child pipeline could not be made, and then could", async () => {
    const failing = {
      1005: { bridges: [bridge("web", "failed", { downstream_pipeline: null, failure_reason: "x" })] },
    };
    assert.deepEqual((await list(failing)).jobs, ["failed: web"]);
    const empty = { 1005: { bridges: [bridge("web", "failed", child(2001, { status: "failed" }))] }, 2001: {} };
    assert.deepEqual((await list(empty)).jobs, ["failed: web"]);
    const skipped = { ...empty, 2001: { jobs: [listed("unit", "skipped")] } };
    assert.deepEqual((await list(skipped)).jobs, ["failed: web"]);
    const running = { ...empty, 2001: { jobs: [listedFailed("unit")] } };
    assert.deepEqual((await list(running)).jobs, ["failed: web / unit", "passed: web"]);
  });

  test("and counts one to another project by its own status", async () => {
    const elsewhere = (status: string) => ({ downstream_pipeline: { id: 9001, project_id: 77, status } });
    const bridges = [bridge("deploy", "failed", elsewhere("failed")), bridge("docs", "success", elsewhere("running"))];
    const { jobs, warnings } = await list({ 1005: { bridges: [...bridges, bridge("later", "manual")] } });
    assert.deepEqual([jobs, warnings], [["failed: deploy", "passed: docs"], []]);
  });

  test("below one that may fail, what failed did not run", async () => {
    const allowed = bridge("web", "failed", { allow_failure: true, ...child(2001) });
    const broken = bridge("api", "failed", { allow_failure: true, downstream_pipeline: null });
    const { jobs } = await list({
      1005: { bridges: [allowed, broken] },
      2001: { jobs: [listedFailed("unit"), listedPassed("lint")] },
    });
    assert.deepEqual(jobs, ["passed: web", "passed: web / lint"]);
  });

  test("and warns of a child pipeline that is not finished, with what to do", async () => {
    const { jobs, warnings } = await list({
      1005: { bridges: [bridge("web", "success", child(2001, { status: "running" }))] },
      2001: { jobs: [listedFailed("unit"), listed("e2e", "running")] },
    });
    assert.deepEqual(jobs, ["failed: web / unit", "passed: web"]);
    assert.match(warnings.join(), /child pipeline of web is not finished.*strategy: depend/);
  });

  test("by the latest of several attempts, as one that was retried is listed by some", async () => {
    const { jobs } = await list({
      1005: {
        bridges: [
          bridge("web", "failed", { id: 1, ...child(2001) }),
          bridge("web", "success", { id: 2, ...child(2002) }),
        ],
      },
      2001: { jobs: [listedFailed("unit")] },
      2002: { jobs: [listedPassed("unit")] },
    });
    assert.deepEqual(jobs, ["passed: web", "passed: web / unit"]);
  });

  test("where the project is named by its path", async () => {
    const gitlab = await startWith(cleanUp, []);
    const bridges = [{ ...bridge("web", "failed", child(2001)), pipeline: { project_id: PROJECT_ID } }];
    const answers: Record<string, unknown> = { "1005/bridges": bridges, "2001/jobs": [listedFailed("unit")] };
    gitlab.faults.push({
      times: 9,
      answer: (response, { path }) => answerJson(response, answers[path.split("/").slice(-2).join("/")] ?? []),
    });
    const { list } = openSource({ ...variablesOf(gitlab), CI_PROJECT_ID: "acme/shop" });
    assert.deepEqual(describeJobs(await list("failed")), ["failed: web / unit"]);
  });

  for (const status of [401, 403, 404]) {
    test(`and warns where they may not be read (${status}), naming GITLAB_TOKEN`, async () => {
      const { jobs, warnings } = await list({ 1005: { jobs: [listedFailed("lint")] } }, (gitlab) => {
        gitlab.faults.push({ times: 9, matches: isBridges, answer: answerWith(status) });
      });
      assert.deepEqual(jobs, ["failed: lint"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), new RegExp(`child pipelines are not counted: .* ${status}; .*GITLAB_TOKEN`));
    });
  }

  test("and fails where they can't be read for another reason", async () => {
    const down = list({ 1005: {} }, (gitlab) => {
      gitlab.faults.push({ times: 9, matches: isBridges, answer: answerWith(500) });
    });
    await assert.rejects(down, /GitLab at .*, asked for pipelines\/1005\/bridges .* answered 500, 3 times/);
  });

  test("at the same time as it asks for the failed jobs", async () => {
    const arrived = new Set<string>();
    let open = () => {};
    const both = new Promise<void>((resolve) => {
      open = resolve;
    });
    const { jobs } = await list({ 1005: { jobs: [listedFailed("lint")] } }, (gitlab) => {
      gitlab.faults.push({
        times: 2,
        // Neither is answered before both have been asked.
        answer: async (response, { path, query }) => {
          arrived.add(path);
          if (arrived.size === 2) open();
          await both;
          answerJson(
            response,
            path.endsWith("jobs") && query.get("scope[]") === "failed" ? [listedFailed("lint")] : [],
          );
        },
      });
    });
    assert.deepEqual(jobs, ["failed: lint"]);
  });
});

describe("openJobs() with a file as GitLab lists jobs", () => {
  const cleanUp = makeCleanUp();

  /** What is listed, as `failed: name id` or `passed: name id`. */
  async function list(content: unknown) {
    const folder = makeFolder({ "jobs.json": content });
    cleanUp(folder.remove);
    const { list } = openSource({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json") });
    return [...(await list("failed")), ...(await list("passed"))].map(
      ({ id, name, outcome }) => `${outcome}: ${name} ${id}`,
    );
  }

  const ATTEMPTS: [title: string, first: GitLabJob, second: GitLabJob, expected: string[]][] = [
    ["passed at last", listedFailed("a", { id: 201 }), listedPassed("a", { id: 202 }), ["passed: a 202"]],
    ["failed at last", listedPassed("a", { id: 201 }), listedFailed("a", { id: 202 }), ["failed: a 202"]],
    ["was canceled at last", listedFailed("a", { id: 201 }), listed("a", "canceled", { id: 202 }), []],
    ["failed twice", listedFailed("a", { id: 201 }), listedFailed("a", { id: 202 }), ["failed: a 202"]],
  ];
  for (const [title, first, second, expected] of ATTEMPTS) {
    test(`has the latest attempt of a job that ${title}, in whatever order they are listed`, async () => {
      assert.deepEqual(await list([first, second]), expected);
      assert.deepEqual(await list([second, first]), expected);
    });
  }

  test("takes a job that was allowed to fail for one that did not run", async () => {
    assert.deepEqual(await list([listedFailed("a", { allow_failure: true })]), []);
  });

  for (const status of ["skipped", "manual", "canceled", "canceling", "running", "created", "scheduled", "invented"]) {
    test(`takes a job that is ${status} for one that did not run`, async () => {
      assert.deepEqual(await list([listed("a", status)]), []);
    });
  }

  test("keeps the stage, the reason and the address of a failure", async () => {
    const details = { stage: "test", failure_reason: "stuck_or_timeout_failure", web_url: "https://x.example/1" };
    const folder = makeFolder({ "jobs.json": [listedFailed("a", details)] });
    cleanUp(folder.remove);
    const { list } = openSource({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json") });
    const [job] = await list("failed");
    assert.deepEqual([job?.stage, job?.reason, job?.url], ["test", "stuck_or_timeout_failure", "https://x.example/1"]);
  });

  test("has no jobs where the list is empty", async () => {
    assert.deepEqual(await list([]), []);
  });
});

describe("openJobs() with a file as GitHub lists jobs", () => {
  const cleanUp = makeCleanUp();
  let lastId = 500;
  const job = (name: string, conclusion: string | null, rest: object = {}) => ({
    id: ++lastId,
    name,
    run_attempt: 1,
    status: conclusion === null ? "in_progress" : "completed",
    conclusion,
    html_url: `https://github.com/acme/shop/actions/runs/1/job/${lastId}`,
    steps: [],
    ...rest,
  });

  async function list(content: unknown) {
    const folder = makeFolder({ "jobs.json": content });
    cleanUp(folder.remove);
    const { list } = openSource({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json") });
    return [...(await list("failed")), ...(await list("passed"))];
  }
  const outcomesOf = async (content: unknown) =>
    (await list(content)).map(({ name, outcome }) => `${outcome}: ${name}`).sort();

  test("reads an array of pages, and one page alone", async () => {
    const pages = [
      { total_count: 3, jobs: [job("build", "success"), job("unit", "failure")] },
      { total_count: 3, jobs: [job("lint", "timed_out")] },
    ];
    assert.deepEqual(await outcomesOf(pages), ["failed: lint", "failed: unit", "passed: build"]);
    assert.deepEqual(await outcomesOf(pages[0]), ["failed: unit", "passed: build"]);
    assert.deepEqual(await outcomesOf({ total_count: 0, jobs: [] }), []);
  });

  test("takes all else for jobs that did not run, also what nobody knows or is not completed", async () => {
    const conclusions = [
      "neutral",
      "cancelled",
      "skipped",
      "action_required",
      "stale",
      "invented",
      "constructor",
      null,
    ];
    const jobs = conclusions.map((conclusion, i) => job(`job ${i}`, conclusion));
    const running = [job("a", "failure", { status: "in_progress" }), job("b", "success", { status: "queued" })];
    assert.deepEqual(await outcomesOf({ jobs: [...jobs, ...running, job("c", "failure", { status: "completed" })] }), [
      "failed: c",
    ]);
  });

  test("has the latest of all attempts", async () => {
    const [first, second] = [job("a", "failure"), job("a", "success", { run_attempt: 2 })];
    assert.deepEqual(await outcomesOf([{ jobs: [second, first] }]), ["passed: a"]);
    const { run_attempt: _, ...without } = job("b", "failure");
    const { run_attempt: __, ...later } = job("b", "success");
    assert.deepEqual(await outcomesOf({ jobs: [without, later] }), ["passed: b"]);
  });

  test("of two jobs with one name in the latest attempt, has the one that failed", async () => {
    const jobs = [
      job("a", "failure", { id: 1 }),
      job("a", "success", { id: 2 }),
      job("b", "skipped", { id: 4 }),
      job("b", "success", { id: 3 }),
    ];
    assert.deepEqual(await outcomesOf({ jobs }), ["failed: a", "passed: b"]);
    const mended = [...jobs, job("a", "success", { id: 9, run_attempt: 2 })];
    assert.deepEqual(await outcomesOf({ jobs: mended }), ["passed: a", "passed: b"]);
  });

  test("has the name of the first step that failed for the reason, or that the time was up", async () => {
    const steps = [
      { name: "Set up job", conclusion: "success" },
      { name: "Run npm test", conclusion: "failure" },
      { name: "Upload", conclusion: "failure" },
      { name: "Post", conclusion: null },
    ];
    const [a, b, c] = await list({
      jobs: [
        job("a", "failure", { steps }),
        job("b", "timed_out", { steps }),
        job("c", "failure", { steps: null, html_url: null }),
      ],
    });
    const byName = new Map([a, b, c].map((job) => [job?.name, job]));
    assert.deepEqual(
      [byName.get("a")?.reason, byName.get("b")?.reason, byName.get("c")?.reason],
      ["Run npm test", "timed_out", undefined],
    );
    assert.match(byName.get("a")?.url ?? "", /^https:\/\/github\.com\//);
    assert.equal(byName.get("c")?.url, null);
  });

  for (const [title, content] of [
    ["an object without jobs", { message: "Not Found" }],
    ["a job of GitHub's without its page", [job("a", "failure")].map(({ status: _, ...rest }) => rest)],
    ["jobs that are no list", { jobs: {} }],
    ["null", null],
    ["a text", '"jobs"'],
  ] as const) {
    test(`says of ${title} that it is neither GitLab's list nor GitHub's`, async () => {
      await assert.rejects(list(content), /jobs\.json is not valid at .*GitLab's or GitHub's API lists.*neither/);
    });
  }
});

describe("a run that has nothing to count", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  const ANSWERS: [title: string, answer: Fault["answer"]][] = [
    ["is down", answerWith(502, "Bad Gateway")],
    ["refuses the token", answerWith(401)],
  ];
  const ORDERS = [
    ["out-of-order", 1006],
    ["already-counted", 1005],
  ] as const;

  /** Runs the script for pipeline 1005 with a GitLab that answers like this, and a document of a stored pipeline. */
  async function runAfter(stored: number, answer: Fault["answer"]) {
    const gitlab = await startGitLab();
    cleanUp(gitlab.close);
    gitlab.faults.push({ times: 99, answer });
    const document = JSON.stringify({ pipeline_id: stored, jobs: {} });
    const folder = makeFolder({ "document.json": document });
    cleanUp(folder.remove);
    const variables = {
      CI_PIPELINE_ID: "1005",
      CI_COMMIT_SHA: "0ddba11",
      CI_API_V4_URL: gitlab.apiUrl,
      CI_PROJECT_ID: "4242",
      GITLAB_TOKEN: TOKEN,
      JOB_EXECUTIONS_URL: "document.json",
    };
    const { code, stdout } = await run(["--json"], variables, folder.path);
    const isUntouched = readFileSync(join(folder.path, "document.json"), "utf8") === document;
    return { code, outcome: JSON.parse(stdout).outcome, isUntouched, requests: gitlab.requests };
  }

  for (const [outcome, stored] of ORDERS) {
    for (const [title, answer] of ANSWERS) {
      test(`ends well as ${outcome} where GitLab ${title}`, async () => {
        const { requests: _, ...result } = await runAfter(stored, answer);
        assert.deepEqual(result, { code: 0, outcome, isUntouched: true });
      });
    }
  }

  test("does not wait for a GitLab that never answers, nor ask it again", { timeout: 120_000 }, async () => {
    const { requests, ...result } = await runAfter(1006, hang);
    assert.deepEqual(result, { code: 0, outcome: "out-of-order", isUntouched: true });
    assert.ok(requests.length <= 2, `${requests.length} requests`); // it may end before even the first one has arrived
  });
});
