import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Listing, openJobs, type PipelineJob } from "../check-failures.ts";
import {
  documentOf,
  history,
  listed,
  listedFailed,
  listedPassed,
  memoryStore,
  runOf,
  settings,
  stripOf,
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
import { type Asked, answerJson, answerWith, type Fault, hang, reset, startServer } from "./support/servers/http.ts";

const { signal } = new AbortController();

/** Lists the jobs of pipeline 1005, as a run does. */
function openSource(variables: Variables) {
  const { jobs, network } = settings(variables);
  return openJobs(jobs, 1005, network, signal);
}

/** How each job did, in no order. */
const outcomesOf = (jobs: PipelineJob[]) => jobs.map(({ name, outcome }) => `${outcome}: ${name}`).sort();

const NOTHING_RAN = "No job of this pipeline failed or passed: check that the list of jobs is complete";

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

const isBridges = ({ path }: Asked) => path.endsWith("/bridges");
const isJobs = ({ path }: Asked) => path.endsWith("/jobs");
const isOf = (pipeline: number) => (asked: Asked) => isJobs(asked) && asked.path.includes(`/${pipeline}/`);

/** A run that counts what a source lists into a document with a job that failed once; how that ended. */
async function count(jobs: () => Promise<Listing>, rest: { stored?: number } = {}) {
  const before = textOf({ ...documentOf(["unit tests", history("✗")]), pipeline_id: rest.stored ?? 1004 });
  const { store, stored } = memoryStore(before);
  const { outcome, warnings, strip } = await runOf([], {}, { store, jobs }).then(
    ({ run }) => ({ ...run, strip: stripOf(run.document.jobs.get("unit tests")) }),
    ({ message }: Error) => ({ outcome: message, warnings: [], strip: undefined }),
  );
  return { outcome, warnings, strip, isUntouched: stored.text === before };
}

describe("openJobs() with GitLab", { concurrency: 8 }, () => {
  const cleanUp = makeCleanUp();
  const start = (jobs: GitLabJob[], ...options: Parameters<typeof startGitLab>) => startWith(cleanUp, jobs, ...options);
  const list = (gitlab: { apiUrl: string }, changes: Variables = {}) =>
    openSource({ ...variablesOf(gitlab), ...changes })();

  test("has the jobs that failed and those that passed, and says that it can't know which did not run", async () => {
    const gitlab = await start([
      listedFailed("unit tests"),
      listedPassed("lint"),
      listedFailed("flaky", { allow_failure: true }),
      listed("deploy", "manual"),
    ]);
    const { jobs, warnings, hasNotRun } = await list(gitlab);
    assert.deepEqual(outcomesOf(jobs), ["failed: unit tests", "not run: flaky", "passed: lint"]);
    assert.deepEqual([warnings, hasNotRun], [[], false]);
  });

  const TOKENS: [title: string, tokens: Record<string, string>, header: object][] = [
    ["GITLAB_TOKEN as PRIVATE-TOKEN", { GITLAB_TOKEN: TOKEN }, { "private-token": TOKEN }],
    ["CI_JOB_TOKEN as JOB-TOKEN", { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN }, { "job-token": JOB_TOKEN }],
    ["GITLAB_TOKEN alone where both are set", { CI_JOB_TOKEN: JOB_TOKEN }, { "private-token": TOKEN }],
  ];
  for (const [title, tokens, header] of TOKENS) {
    test(`sends ${title}`, async () => {
      const gitlab = await start([listedFailed("unit tests")]);
      const { jobs } = await list(gitlab, tokens);
      assert.deepEqual(outcomesOf(jobs), ["failed: unit tests"]);
      assert.deepEqual(
        gitlab.requests.map(({ headers }) =>
          Object.fromEntries(Object.entries(headers).filter(([name]) => name.endsWith("token"))),
        ),
        [header, header], // jobs and trigger jobs
      );
    });
  }

  const many = (count: number) => Array.from({ length: count }, (_, i) => listedPassed(`build ${i + 1}`));

  for (const pages of ["totals", "next", "link", "none"] as const) {
    test(`reads all pages of both outcomes, each once, where GitLab tells of them by ${pages} in its headers`, async () => {
      const gitlab = await start([...many(250), listedFailed("unit tests")], { pages });
      const { jobs } = await list(gitlab);
      assert.equal(new Set(jobs.map(({ name }) => name)).size, 251);
      assert.deepEqual(
        gitlab.requests
          .filter(isJobs)
          .map(({ query }) => `${query.getAll("scope[]")} ${query.get("page")}`)
          .sort(),
        ["failed,success 1", "failed,success 2", "failed,success 3"],
      );
    });
  }

  test("asks once where one page has all jobs, and for one more page where nobody knows whether a full one is the last", async () => {
    const requestsFor = async (count: number, pages: "totals" | "none") => {
      const gitlab = await start(many(count), { pages });
      const { jobs } = await list(gitlab);
      assert.equal(jobs.length, count);
      return gitlab.requests.filter(isJobs).length;
    };
    assert.deepEqual(await Promise.all([requestsFor(100, "totals"), requestsFor(99, "none")]), [1, 1]);
    assert.equal(await requestsFor(100, "none"), 2);
  });

  /** Answers no request before all of `count` have been asked. */
  function holdBack(matches: (asked: Asked) => boolean, count: number, answer: Fault["answer"]): Fault {
    const waiting: (() => void)[] = [];
    return {
      times: count,
      matches,
      answer: (response, asked) => {
        waiting.push(() => answer(response, asked));
        if (waiting.length === count) for (const answerNow of waiting) answerNow();
      },
    };
  }

  test("asks for the further pages all at once where their number is known", { timeout: 60_000 }, async () => {
    const gitlab = await start(many(300));
    const isFurther = ({ query }: Asked) => query.get("page") !== "1";
    gitlab.faults.push(
      holdBack(isFurther, 2, (response, { query }) =>
        answerJson(response, [listedPassed(`page ${query.get("page")}`)]),
      ),
    );
    const { jobs } = await list(gitlab);
    assert.deepEqual(outcomesOf(jobs).slice(-2), ["passed: page 2", "passed: page 3"]);
  });

  test("asks for the trigger jobs at the same time as for the jobs", { timeout: 60_000 }, async () => {
    const gitlab = await start([]);
    const answer: Fault["answer"] = (response, asked) =>
      answerJson(response, isJobs(asked) ? [listedFailed("lint")] : []);
    gitlab.faults.push(holdBack(() => true, 2, answer));
    assert.deepEqual(outcomesOf((await list(gitlab)).jobs), ["failed: lint"]);
  });

  test("asks for a project by its path as one part of the URL", async () => {
    const gitlab = await start([]);
    const urls: unknown[] = [];
    const answer: Fault["answer"] = (response) => {
      urls.push(response.req.url);
      answerJson(response, []);
    };
    gitlab.faults.push({ times: 2, answer });
    await list(gitlab, { CI_PROJECT_ID: "acme/shop" });
    assert.match(urls.join("\n"), /^\/api\/v4\/projects\/acme%2Fshop\/pipelines\/1005\/jobs\?.*$/m);
  });

  const answerJobs = (jobs: unknown): Fault => ({
    times: 9,
    matches: isJobs,
    answer: (response) => answerJson(response, jobs),
  });

  test("has a job whose fields that no outcome needs are missing, null or make no sense", async () => {
    const gitlab = await start([]);
    gitlab.faults.push(
      answerJobs([
        { id: 1, name: "none", status: "failed" },
        {
          id: 2,
          name: "null",
          status: "failed",
          allow_failure: null,
          stage: null,
          failure_reason: null,
          web_url: null,
        },
        { id: 3, name: "odd", status: "failed", web_url: 5, stage: 7, failure_reason: {}, steps: 1, run_attempt: "x" },
      ]),
    );
    const { jobs } = await list(gitlab);
    assert.deepEqual(outcomesOf(jobs), ["failed: none", "failed: null", "failed: odd"]);
  });

  test("takes a status that nobody knows for a job that did not run, without a word", async () => {
    const gitlab = await start([]);
    gitlab.faults.push(answerJobs([listedPassed("lint"), listed("unit tests", "invented")]));
    const { jobs, warnings } = await list(gitlab);
    assert.deepEqual([outcomesOf(jobs), warnings], [["not run: unit tests", "passed: lint"], []]);
  });

  test("warns where no job failed or passed", async () => {
    const { jobs, warnings } = await list(await start([listed("deploy", "manual")]));
    assert.deepEqual([jobs, warnings], [[], [NOTHING_RAN]]);
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
    ["nothing, but breaks the connection off", reset, /is unreachable: .*, 3 times/],
  ];
  for (const [title, answer, says] of REFUSALS) {
    test(`fails, so that nothing is stored, where GitLab answers ${title}`, async () => {
      const gitlab = await start([listedFailed("unit tests")]);
      gitlab.faults.push({ times: 9, matches: isJobs, answer });
      const { outcome, isUntouched } = await count(openSource(variablesOf(gitlab)));
      assert.match(outcome, says);
      assert.match(outcome, /GitLab at 127\.0\.0\.1:\d+, asked for pipelines\/1005\/jobs of project 4242/);
      assert.equal(isUntouched, true);
    });
  }

  test("says to set GITLAB_TOKEN where a job token gets a 404", async () => {
    const gitlab = await start([]);
    gitlab.faults.push({ times: 9, answer: answerWith(404) });
    const byJobToken = list(gitlab, { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN });
    await assert.rejects(byJobToken, /answered 404; set GITLAB_TOKEN to one with read_api/);
  });

  test("fails where one of the pages is missing", async () => {
    const gitlab = await start(many(250));
    gitlab.faults.push({ times: 9, matches: ({ query }) => query.get("page") === "2", answer: answerWith(404) });
    await assert.rejects(list(gitlab), /GitLab at .* answered 404/);
  });

  test("does not follow a redirect, whose host would get the token", async () => {
    const elsewhere = await startServer((_, response) => answerJson(response, []));
    cleanUp(elsewhere.close);
    const gitlab = await start([listedFailed("unit tests")]);
    const location = `${elsewhere.url}/api/v4/jobs`;
    gitlab.faults.push({ times: 9, answer: answerWith(302, "", { location }) });
    await assert.rejects(list(gitlab), /GitLab at .* answered 302; check CI_API_V4_URL/);
    assert.deepEqual(elsewhere.requests, []);
  });

  for (const [title, answer] of [
    ["answers 500 once", answerWith(500)],
    ["breaks a connection off once", reset],
  ] as const) {
    test(`asks again where GitLab ${title}`, async () => {
      const gitlab = await start([listedFailed("unit tests")]);
      gitlab.faults.push({ times: 1, matches: isJobs, answer });
      const { jobs } = await list(gitlab);
      assert.deepEqual(outcomesOf(jobs), ["failed: unit tests"]);
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
    const { jobs } = await list(gitlab);
    assert.deepEqual(outcomesOf(jobs), ["failed: unit tests"]);
    assert.equal(gitlab.requests.filter(isJobs).length, 2);
  });

  test("does not wait for longer than half a minute, and says so", async () => {
    const gitlab = await start([listedFailed("unit tests")]);
    gitlab.faults.push({ times: 9, matches: isJobs, answer: answerWith(429, "", { "retry-after": "120" }) });
    await assert.rejects(list(gitlab), /GitLab at .* answered 429 and asks to wait for 120 s; try again later/);
    assert.equal(gitlab.requests.filter(isJobs).length, 1);
  });
});

describe("openJobs() with a GitLab that says nothing", () => {
  const cleanUp = makeCleanUp();

  test("asks again after at most half a minute", { timeout: 60_000 }, async () => {
    const gitlab = await startWith(cleanUp, [listedFailed("unit tests")]);
    gitlab.faults.push({ times: 1, matches: isJobs, answer: hang });
    const { request } = http;
    const limits: number[] = [];
    cleanUp(() => {
      http.request = request;
    });
    // The same limit of time, but a shorter one.
    http.request = ((url: string, options: http.RequestOptions, callback: () => void) => {
      limits.push(options.timeout ?? 0);
      return request(url, { ...options, timeout: 100 }, callback);
    }) as typeof request;
    const { jobs } = await openSource(variablesOf(gitlab))();
    assert.deepEqual(outcomesOf(jobs), ["failed: unit tests"]);
    assert.equal(limits.length, 3);
    for (const limit of limits) assert.ok(limit > 0 && limit <= 30_000, `${limit} ms`);
  });
});

describe("openJobs() follows GitLab's trigger jobs", { concurrency: 8 }, () => {
  const cleanUp = makeCleanUp();
  const child = (id: number, rest: object = {}) => ({
    downstream_pipeline: { id, project_id: PROJECT_ID, status: "success", ...rest },
  });
  const bridge = (name: string, status: string, rest: Partial<GitLabBridge> = {}): GitLabBridge => ({
    ...listed(name, status),
    ...rest,
  });

  type Pipelines = Record<number, { jobs?: GitLabJob[]; bridges?: GitLabBridge[] }>;

  /** What is listed of pipeline 1005. */
  async function list(pipelines: Pipelines, faults: Fault[] = [], changes: Variables = {}) {
    const gitlab = await startWith(cleanUp, []);
    for (const [id, { jobs = [], bridges = [] }] of Object.entries(pipelines)) {
      gitlab.pipelines.set(Number(id), jobs);
      gitlab.bridges.set(Number(id), bridges);
    }
    gitlab.faults.push(...faults);
    const { jobs, warnings } = await openSource({ ...variablesOf(gitlab), ...changes })();
    return { jobs: outcomesOf(jobs), warnings, gitlab };
  }

  test("to the jobs of child pipelines, two levels deep, under the names of the trigger jobs", async () => {
    const { jobs, warnings, gitlab } = await list({
      1005: {
        jobs: [listedFailed("lint")],
        bridges: [bridge("web", "failed", child(2001)), bridge("api", "success", child(2002))],
      },
      2001: { jobs: [listedFailed("unit"), listedPassed("lint")], bridges: [bridge("e2e", "failed", child(3001))] },
      2002: { jobs: [listedPassed("unit"), listed("deploy", "manual")] },
      3001: { jobs: [listedFailed("unit"), listedPassed("chrome")], bridges: [bridge("deeper", "failed")] },
    });
    assert.deepEqual(jobs, [
      ...["failed: lint", "failed: web / e2e / unit", "failed: web / unit"],
      "not run: api / deploy",
      ...["passed: api", "passed: api / unit", "passed: web", "passed: web / e2e"],
      ...["passed: web / e2e / chrome", "passed: web / lint"],
    ]);
    assert.deepEqual(warnings, []);
    assert.equal(gitlab.requests.length, 2 + 2 * 2 + 1); // the jobs of each pipeline once, and the bridges of three
  });

  const web = (status: string, rest: object = {}) => ({ bridges: [bridge("web", status, child(2001, rest))] });

  test("whose child pipeline could not be made, and then could", async () => {
    const failing = bridge("web", "failed", { downstream_pipeline: null, failure_reason: "x" });
    assert.deepEqual((await list({ 1005: { bridges: [failing] } })).jobs, ["failed: web"]);
    const empty = { 1005: web("failed", { status: "failed" }), 2001: {} };
    assert.deepEqual((await list(empty)).jobs, ["failed: web"]);
    const skipped = { ...empty, 2001: { jobs: [listed("unit", "skipped")] } };
    assert.deepEqual((await list(skipped)).jobs, ["failed: web", "not run: web / unit"]);
    const running = { ...empty, 2001: { jobs: [listedFailed("unit")] } };
    assert.deepEqual((await list(running)).jobs, ["failed: web / unit", "passed: web"]);
  });

  test("and counts one to another project by its own status", async () => {
    const elsewhere = (status: string) => ({ downstream_pipeline: { id: 9001, project_id: 77, status } });
    const bridges = [bridge("deploy", "failed", elsewhere("failed")), bridge("docs", "success", elsewhere("running"))];
    const { jobs, warnings } = await list({ 1005: { bridges: [...bridges, bridge("later", "manual")] } });
    assert.deepEqual([jobs, warnings], [["failed: deploy", "not run: later", "passed: docs"], []]);
  });

  test("below one that may fail, what failed did not run", async () => {
    const allowed = bridge("web", "failed", { allow_failure: true, ...child(2001) });
    const broken = bridge("api", "failed", { allow_failure: true, downstream_pipeline: null });
    const { jobs } = await list({
      1005: { bridges: [allowed, broken] },
      2001: { jobs: [listedFailed("unit"), listedPassed("lint")], bridges: [bridge("e2e", "failed")] },
    });
    assert.deepEqual(jobs, [
      ...["not run: api", "not run: web / e2e", "not run: web / unit"],
      ...["passed: web", "passed: web / lint"],
    ]);
  });

  for (const status of ["running", "pending", "created", "preparing", "waiting_for_resource"]) {
    test(`and warns, with what to do, of a child pipeline that is still ${status}`, async () => {
      const { jobs, warnings } = await list({
        1005: web("success", { status }),
        2001: { jobs: [listedFailed("unit"), listed("e2e", "running")] },
      });
      assert.deepEqual(jobs, ["failed: web / unit", "not run: web / e2e", "passed: web"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), /child pipeline of web is not finished.*strategy: depend/);
    });
  }

  for (const status of ["manual", "scheduled", "failed", "canceled", "skipped", "invented", null, undefined]) {
    test(`and does not warn of a child pipeline whose status is ${status}`, async () => {
      const { jobs, warnings } = await list({
        1005: web("success", { status }),
        2001: { jobs: [listedFailed("unit"), listed("deploy", "manual")] },
      });
      assert.deepEqual(jobs, ["failed: web / unit", "not run: web / deploy", "passed: web"]);
      assert.deepEqual(warnings, []);
    });
  }

  for (const project_id of [undefined, null]) {
    test(`and takes a downstream pipeline whose project_id is ${project_id} for one of the same project`, async () => {
      const { jobs } = await list({ 1005: web("failed", { project_id }), 2001: { jobs: [listedFailed("unit")] } });
      assert.deepEqual(jobs, ["failed: web / unit", "passed: web"]);
    });
  }

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
    const bridges = [{ ...bridge("web", "failed", child(2001)), pipeline: { project_id: PROJECT_ID } }];
    const answers: Record<string, unknown> = { "1005/bridges": bridges, "2001/jobs": [listedFailed("unit")] };
    const answer: Fault["answer"] = (response, { path }) =>
      answerJson(response, answers[path.split("/").slice(-2).join("/")] ?? []);
    const { jobs } = await list({}, [{ times: 9, answer }], { CI_PROJECT_ID: "acme/shop" });
    assert.deepEqual(jobs, ["failed: web / unit", "passed: web"]);
  });

  for (const status of [401, 403, 404]) {
    test(`and warns once where they may not be read (${status}), naming GITLAB_TOKEN`, async () => {
      const fault = { times: 9, matches: isBridges, answer: answerWith(status) };
      const jobToken = { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN };
      const { jobs, warnings } = await list({ 1005: { jobs: [listedFailed("lint")] } }, [fault], jobToken);
      assert.deepEqual(jobs, ["failed: lint"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), new RegExp(`child pipelines are not counted: .* ${status}; set GITLAB_TOKEN`));
    });

    test(`and warns once where the jobs of a child may not be read (${status}); the rest counts`, async () => {
      const fault = { times: 9, matches: isOf(2001), answer: answerWith(status) };
      const bridges = [bridge("web", "failed", child(2001)), bridge("api", "failed", child(2002))];
      const { jobs, warnings } = await list(
        { 1005: { jobs: [listedPassed("lint")], bridges }, 2001: {}, 2002: { jobs: [listedFailed("unit")] } },
        [fault],
      );
      assert.deepEqual(jobs, ["failed: api / unit", "failed: web", "passed: api", "passed: lint"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), new RegExp(`jobs of the child pipeline of web are not counted: .* ${status}; `));
    });
  }

  test("and warns once of a child pipeline of which neither jobs nor trigger jobs may be read", async () => {
    const isOfChild = ({ path }: Asked) => path.includes("/2001/");
    const lists = { 1005: { ...web("success"), jobs: [listedPassed("lint")] } };
    const { jobs, warnings } = await list(lists, [{ times: 9, matches: isOfChild, answer: answerWith(404) }]);
    assert.deepEqual(jobs, ["passed: lint", "passed: web"]);
    assert.equal(warnings.length, 1, warnings.join("\n"));
    assert.match(warnings.join(), /child pipeline of web .*not counted: .* 404; /);
  });

  for (const [title, matches] of [
    ["they", isBridges],
    ["the jobs of a child", isOf(2001)],
  ] as const) {
    test(`and fails where ${title} can't be read for another reason`, async () => {
      const down = list({ 1005: web("failed"), 2001: {} }, [{ times: 9, matches, answer: answerWith(500) }]);
      await assert.rejects(down, /GitLab at .*, asked for pipelines\/\d+\/(bridges|jobs) .* answered 500, 3 times/);
    });
  }

  test("and tells of a token that expired by one error, not by a warning as well", async () => {
    const gitlab = await startWith(cleanUp, []);
    gitlab.faults.push({ times: 9, answer: answerWith(401) });
    const jobs = openSource(variablesOf(gitlab));
    const { outcome, warnings } = await count(jobs);
    assert.match(outcome, /^GitLab at [^;]* answered 401; set GITLAB_TOKEN [^;]*$/);
    assert.deepEqual(warnings, []);
    const again = await count(jobs, { stored: 1005 });
    assert.deepEqual([again.outcome, again.warnings.length], ["already-counted", 1]);
  });
});

/** The listing of a file with such a content. */
async function listFile(cleanUp: CleanUp, content: unknown) {
  const folder = makeFolder({ "jobs.json": content });
  cleanUp(folder.remove);
  return openSource({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json") })();
}

describe("openJobs() with a file as GitLab lists jobs", () => {
  const cleanUp = makeCleanUp();
  const list = async (content: unknown) =>
    (await listFile(cleanUp, content)).jobs.map(({ id, name, outcome }) => `${outcome}: ${name} ${id}`);

  const ATTEMPTS: [title: string, first: GitLabJob, second: GitLabJob, expected: string][] = [
    ["passed at last", listedFailed("a", { id: 201 }), listedPassed("a", { id: 202 }), "passed: a 202"],
    ["failed at last", listedPassed("a", { id: 201 }), listedFailed("a", { id: 202 }), "failed: a 202"],
    ["was canceled at last", listedFailed("a", { id: 201 }), listed("a", "canceled", { id: 202 }), "not run: a 202"],
    ["failed twice", listedFailed("a", { id: 201 }), listedFailed("a", { id: 202 }), "failed: a 202"],
  ];
  for (const [title, first, second, expected] of ATTEMPTS) {
    test(`has one entry, the latest attempt, of a job that ${title}, in whatever order they are listed`, async () => {
      assert.deepEqual(await list([first, second]), [expected]);
      assert.deepEqual(await list([second, first]), [expected]);
    });
  }

  test("takes a job that was allowed to fail for one that did not run", async () => {
    assert.deepEqual(await list([listedFailed("a", { allow_failure: true, id: 5 })]), ["not run: a 5"]);
  });

  const STATUSES = ["skipped", "manual", "canceled", "canceling", "scheduled"];
  const UNFINISHED = ["running", "pending", "created", "preparing", "waiting_for_resource", "waiting_for_callback"];
  for (const status of [...STATUSES, ...UNFINISHED]) {
    test(`takes a job that is ${status} for one that did not run, without a word`, async () => {
      const { jobs, warnings, hasNotRun } = await listFile(cleanUp, [listed("a", status), listedPassed("b")]);
      assert.deepEqual([outcomesOf(jobs), warnings], [["not run: a", "passed: b"], []]);
      assert.equal(hasNotRun, true);
    });
  }

  test("keeps the stage, the reason and the address of a failure", async () => {
    const details = { stage: "test", failure_reason: "stuck_or_timeout_failure", web_url: "https://x.example/1" };
    const [job] = (await listFile(cleanUp, [listedFailed("a", details)])).jobs;
    assert.deepEqual([job?.stage, job?.reason, job?.url], ["test", "stuck_or_timeout_failure", "https://x.example/1"]);
  });

  test("leaves out an address that is none of http", async () => {
    const [job] = (await listFile(cleanUp, [listedFailed("a", { web_url: "javascript:alert(1)" })])).jobs;
    assert.deepEqual([job?.outcome, job?.url], ["failed", undefined]);
  });
});

let lastId = 500;
/** A job as GitHub lists it. */
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

describe("openJobs() with a file as GitHub lists jobs", () => {
  const cleanUp = makeCleanUp();
  const list = async (content: unknown) => (await listFile(cleanUp, content)).jobs;

  test("reads an array of pages, one page alone, and the jobs alone as --jq .jobs writes them", async () => {
    const [first, second] = [
      { total_count: 3, jobs: [job("build", "success"), job("unit", "failure")] },
      { total_count: 3, jobs: [job("lint", "timed_out")] },
    ];
    const expected = ["failed: lint", "failed: unit", "passed: build"];
    assert.deepEqual(outcomesOf(await list([first, second])), expected);
    assert.deepEqual(outcomesOf(await list({ total_count: 3, jobs: [...first.jobs, ...second.jobs] })), expected);
    assert.deepEqual(outcomesOf(await list([...first.jobs, ...second.jobs])), expected);
    assert.deepEqual(outcomesOf(await list({ jobs: first.jobs })), expected.slice(1));
  });

  test("takes a job that timed out for failed, and one that was cancelled for not run", async () => {
    const [timedOut, cancelled] = await list([job("e2e", "timed_out"), job("unit", "cancelled")]);
    const details = [timedOut, cancelled].map((listed) => `${listed?.name} ${listed?.outcome} ${listed?.reason}`);
    assert.deepEqual(details.sort(), ["e2e failed timed_out", "unit not run undefined"]);
  });

  test("takes all else for jobs that did not run, also what is not completed", async () => {
    const conclusions = ["neutral", "cancelled", "skipped", "action_required", "stale", "startup_failure", null];
    const jobs = conclusions.map((conclusion, i) => job(`job ${i}`, conclusion));
    const statuses = ["in_progress", "queued", "waiting", "requested", "pending"];
    const running = statuses.map((status, i) => job(`running ${i}`, i % 2 ? "success" : "failure", { status }));
    const listing = await listFile(cleanUp, { jobs: [...jobs, ...running, job("c", "failure")] });
    const outcomes = outcomesOf(listing.jobs).map((outcome) => outcome.split(":", 1)[0]);
    assert.deepEqual(outcomes, ["failed", ...Array(jobs.length + running.length).fill("not run")]);
    assert.deepEqual(listing.warnings, []);
  });

  test("has the latest of all attempts", async () => {
    const [first, second] = [job("a", "failure"), job("a", "success", { run_attempt: 2 })];
    assert.deepEqual(outcomesOf(await list([{ jobs: [second, first] }])), ["passed: a"]);
    const { run_attempt: _, ...without } = job("b", "failure");
    const { run_attempt: __, ...later } = job("b", "success");
    assert.deepEqual(outcomesOf(await list({ jobs: [without, later] })), ["passed: b"]);
  });

  test("of two jobs with one name in the latest attempt, has the one that failed", async () => {
    const jobs = [
      job("a", "failure", { id: 1 }),
      job("a", "success", { id: 2 }),
      job("b", "skipped", { id: 4 }),
      job("b", "success", { id: 3 }),
    ];
    assert.deepEqual(outcomesOf(await list({ jobs })), ["failed: a", "passed: b"]);
    const mended = [...jobs, job("a", "success", { id: 9, run_attempt: 2 })];
    assert.deepEqual(outcomesOf(await list({ jobs: mended })), ["passed: a", "passed: b"]);
  });

  test("has the name of the first step that failed for the reason, or that the time was up", async () => {
    const steps = [
      { name: "Set up job", conclusion: "success" },
      { name: "Run npm test", conclusion: "failure" },
      { name: "Upload", conclusion: "failure" },
      { name: "Post", conclusion: null },
    ];
    const jobs = await list([
      job("a", "failure", { steps }),
      job("b", "timed_out", { steps }),
      job("c", "failure", { html_url: null }),
    ]);
    const reasons = jobs.map(({ name, reason }) => `${name}: ${reason}`).sort();
    assert.deepEqual(reasons, ["a: Run npm test", "b: timed_out", "c: undefined"]);
    assert.match(jobs.find(({ name }) => name === "a")?.url ?? "", /^https:\/\/github\.com\//);
    assert.ok(!jobs.find(({ name }) => name === "c")?.url);
  });

  const STEPS = [null, undefined, {}, "x", [null], [{}], [{ name: null, conclusion: "failure" }], [{ name: 7 }]];
  for (const steps of STEPS) {
    test(`counts a job whose steps are ${JSON.stringify(steps)}, without a reason`, async () => {
      const [failed] = await list([job("a", "failure", { steps })]);
      assert.deepEqual([failed?.outcome, failed?.reason ?? undefined], ["failed", undefined]);
    });
  }

  test("has the reason of a step beside one that makes no sense", async () => {
    const steps = [null, { name: null }, { name: "Run npm test", conclusion: "failure" }];
    assert.equal((await list([job("a", "failure", { steps })]))[0]?.reason, "Run npm test");
  });
});

describe("openJobs() with a file of any CI", () => {
  const cleanUp = makeCleanUp();
  const list = (content: unknown) => listFile(cleanUp, content);

  test("reads each entry by its own shape", async () => {
    const mixed = [
      listedFailed("gitlab, failed"),
      job("github, failed", "failure"),
      listedPassed("gitlab, passed"),
      job("github, passed", "success"),
      { id: 1, name: "github, missing all else", status: "completed", conclusion: "failure" },
      { ...listedFailed("gitlab, with null"), conclusion: null },
    ];
    const expected = [
      ...["failed: github, failed", "failed: github, missing all else", "failed: gitlab, failed"],
      ...["failed: gitlab, with null", "passed: github, passed", "passed: gitlab, passed"],
    ];
    for (const content of [
      mixed,
      mixed.toReversed(),
      { jobs: mixed },
      [{ jobs: mixed.slice(0, 3) }, { jobs: mixed.slice(3) }],
    ]) {
      const { jobs, warnings } = await list(content);
      assert.deepEqual([outcomesOf(jobs), warnings], [expected, []]);
    }
  });

  const THIRTY = Array.from({ length: 30 }, (_, i) => job(`job ${i}`, "success"));
  for (const [title, content] of [
    ["a page", { total_count: 47, jobs: THIRTY }],
    ["pages", [17, 13].map((end, i) => ({ total_count: 47, jobs: THIRTY.slice(i * 17, i * 17 + end) }))],
    ["an empty page", { total_count: 47, jobs: [] }],
  ] as const) {
    test(`refuses ${title} with fewer jobs than total_count says, with how to list all`, async () => {
      const jobs = title === "an empty page" ? 0 : 30;
      await assert.rejects(list(content), new RegExp(`jobs\\.json has ${jobs} of 47 jobs; .*--paginate --slurp`));
    });
  }

  test("takes all jobs where total_count says no more than there are", async () => {
    for (const total_count of [30, 12, 0, null, "47", undefined]) {
      const { jobs, warnings } = await list({ total_count, jobs: THIRTY });
      assert.deepEqual([jobs.length, warnings], [30, []]);
    }
  });

  const EMPTY: [title: string, content: unknown][] = [
    ["an empty array", []],
    ["an empty page", { total_count: 0, jobs: [] }],
    ["an array of an empty page", [{ total_count: 0, jobs: [] }]],
    ["jobs of which none ran", [listed("a", "skipped"), job("b", "cancelled"), job("c", null)]],
  ];
  for (const [title, content] of EMPTY) {
    test(`warns of ${title}, and the histories stay`, async () => {
      const { outcome, warnings, strip } = await count(() => list(content));
      assert.deepEqual([outcome, warnings, strip], ["counted", [NOTHING_RAN], "✗"]);
    });
  }

  const WORDS = /status is success or failed; .*conclusion is success, failure or timed_out/;

  test("warns of words that neither CI has, with how many jobs have each and which words count", async () => {
    const { jobs, warnings } = await list([
      { id: 1, name: "a", status: "FAILED" },
      { id: 2, name: "b", status: "passed" },
      { id: 3, name: "c", status: "FAILED" },
      job("d", "error"),
      job("e", "success"),
      { id: 4, name: "f", status: "constructor" },
    ]);
    const notRun = ["a", "b", "c", "d", "f"].map((name) => `not run: ${name}`);
    assert.deepEqual(outcomesOf(jobs), [...notRun, "passed: e"]);
    assert.equal(warnings.length, 1);
    for (const word of ["FAILED (2 jobs)", "passed (1 job)", "error (1 job)", "constructor (1 job)"])
      assert.ok(warnings.join().includes(word), warnings.join());
    assert.match(warnings.join(), WORDS);
  });

  test("takes the words of one CI in the place of the other's for unknown", async () => {
    const { warnings } = await list([job("a", "failed"), { id: 1, name: "b", status: "failure" }, listedPassed("c")]);
    assert.match(warnings.join(), /neither CI uses: failed \(1 job\), failure \(1 job\)/);
  });

  test("counts and stores nothing where such words are all that there is; a retry after mending it counts", async () => {
    const strangers = [
      { id: 1, name: "a", status: "FAILED" },
      { id: 2, name: "b", status: "passed" },
    ];
    const { outcome, isUntouched } = await count(() => list([...strangers, listed("c", "skipped")]));
    assert.match(outcome, /FAILED \(1 job\), passed \(1 job\); nothing is counted; /);
    assert.match(outcome, WORDS);
    assert.equal(isUntouched, true);
    const mended = await count(() => list([{ id: 1, name: "unit tests", status: "failed" }]));
    assert.deepEqual([mended.outcome, mended.strip], ["counted", "✗✗"]);
  });

  test("says of an id that is no number how to make one", async () => {
    const byBuildkite = [{ id: "0193-a1b2", name: "a", status: "failed" }];
    await assert.rejects(list(byBuildkite), /jobs\.json is not valid at 0\.id: Expected a number, .*1000 \+ index/);
  });

  test("says to use --slurp where there are several arrays, which is not JSON", async () => {
    const twoPages = [[job("a", "success")], [job("b", "success")]].map((page) => JSON.stringify(page)).join("\n");
    await assert.rejects(list(twoPages), /jobs\.json is not JSON: .*--slurp/);
  });

  for (const [title, content, path] of [
    ["an object without jobs", { message: "Not Found" }, "its top"],
    ["a job without a status", [{ id: 1, name: "a", conclusion: "failure" }], "0\\.status"],
    ["jobs that are no list", { jobs: {} }, "0\\.jobs"],
    ["a page among jobs", [{ jobs: [] }, listedFailed("a")], "1\\.jobs"],
    ["null", null, "its top"],
    ["a text", '"jobs"', "its top"],
  ] as const) {
    test(`refuses ${title}, and says what belongs there`, async () => {
      await assert.rejects(list(content), new RegExp(`jobs\\.json is not valid at ${path}: .*GitLab or GitHub lists`));
    });
  }
});

describe("a run that has nothing to count", { concurrency: 4 }, () => {
  const cleanUp = makeCleanUp();

  const ANSWERS: [title: string, answer: Fault["answer"]][] = [
    ["is down", answerWith(502, "Bad Gateway")],
    ["refuses the token", answerWith(401)],
  ];
  const ORDERS: [outcome: string, stored: number, warnings: number][] = [
    ["out-of-order", 1006, 0],
    ["already-counted", 1005, 1], // whether a re-run passed is not known
  ];

  for (const [outcome, stored, warned] of ORDERS) {
    for (const [title, answer] of ANSWERS) {
      test(`ends well as ${outcome} where GitLab ${title}, with ${warned} warnings`, async () => {
        const gitlab = await startWith(cleanUp, []);
        gitlab.faults.push({ times: 99, answer });
        const { warnings, ...result } = await count(openSource(variablesOf(gitlab)), { stored });
        assert.deepEqual(result, { outcome, strip: "✗", isUntouched: true });
        assert.equal(warnings.length, warned, warnings.join("\n"));
      });
    }
  }

  test("does not wait for a GitLab that never answers, nor ask it again", { timeout: 120_000 }, async () => {
    const gitlab = await startWith(cleanUp, []);
    gitlab.faults.push({ times: 99, answer: hang });
    const document = JSON.stringify({ pipeline_id: 1006, jobs: {} });
    const folder = makeFolder({ "document.json": document });
    cleanUp(folder.remove);
    const pipeline = { CI_PIPELINE_ID: "1005", CI_COMMIT_SHA: "0ddba11", JOB_EXECUTIONS_URL: "document.json" };
    const { code, stdout } = await run(["--json"], { ...variablesOf(gitlab), ...pipeline }, folder.path);
    assert.deepEqual([code, JSON.parse(stdout).outcome], [0, "out-of-order"]);
    assert.equal(readFileSync(join(folder.path, "document.json"), "utf8"), document);
    assert.ok(gitlab.requests.length <= 2, `${gitlab.requests.length} requests`); // it may end before the first arrives
  });
});
