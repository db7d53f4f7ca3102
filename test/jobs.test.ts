/** Where the jobs of a pipeline come from: GitLab's API with its child pipelines, or a file of any CI. */
import assert from "node:assert/strict";
import http from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Listing, openJobs, type PipelineJob, stripOf } from "../check-failures.ts";
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
import { makeFolder } from "./support/run.ts";
import {
  type GitLabBridge,
  type GitLabJob,
  JOB_TOKEN,
  PROJECT_ID,
  startGitLab,
  TOKEN,
} from "./support/servers/gitlab.ts";
import { type Asked, answerJson, answerWith, type Fault, hang, reset, startServer } from "./support/servers/http.ts";
import { setStage } from "./support/stage.ts";
import { parseDocument } from "./support/stored.ts";

/** Lists the jobs of pipeline 1005, as a run does. */
const openSource = (variables: Variables) => openJobs(settings(variables).jobs, 1005, new AbortController().signal);

/** How each job did, in no order. */
const outcomesOf = (jobs: PipelineJob[]) => jobs.map(({ name, outcome }) => `${outcome}: ${name}`).sort();

const NOTHING_RAN = "No job of this pipeline failed or passed: check that the list of jobs is complete";

const variablesOf = (gitlab: { apiUrl: string }) => ({
  PIPELINE_JOBS_FILE: undefined,
  CI_API_V4_URL: gitlab.apiUrl,
  CI_PROJECT_ID: `${PROJECT_ID}`,
  GITLAB_TOKEN: TOKEN,
});

/** Only the job itself knows this token, which GitLab gives to each. */
const AS_JOB = { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN };

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

/** Runs that count what sources list, one after the other, into a document in which `unit` failed once. */
async function count(...sources: (() => Promise<Listing>)[]) {
  const before = textOf(documentOf(["unit", history("✗")]));
  const { store, stored } = memoryStore(before);
  const outcomes: string[] = [];
  const warnings: string[] = [];
  for (const jobs of sources) {
    const { run } = await runOf([], {}, { store, jobs });
    outcomes.push(run.outcome);
    warnings.push(...run.warnings);
  }
  const { jobs } = await parseDocument(stored.text);
  return {
    outcomes,
    warnings,
    strip: stripOf(jobs.get("unit")?.jobs_info ?? []),
    isUntouched: stored.text === before,
  };
}

/** An error of one source, which leaves the document as it was. */
async function assertFails(jobs: () => Promise<Listing>, ...says: RegExp[]) {
  const before = textOf(documentOf(["unit", history("✗")]));
  const { store, stored } = memoryStore(before);
  await assert.rejects(runOf([], {}, { store, jobs }), ({ message }: Error) => {
    for (const pattern of says) assert.match(message, pattern);
    return true;
  });
  assert.equal(stored.text, before);
}

describe("openJobs() with GitLab", { concurrency: 8 }, () => {
  const cleanUp = makeCleanUp();
  const start = (jobs: GitLabJob[], ...options: Parameters<typeof startGitLab>) => startWith(cleanUp, jobs, ...options);
  const list = (gitlab: { apiUrl: string }, changes: Variables = {}) =>
    openSource({ ...variablesOf(gitlab), ...changes })();

  test("has all jobs: those that failed, those that passed, and those that did not run", async () => {
    const gitlab = await start([
      listedFailed("unit"),
      listedPassed("lint"),
      listedFailed("flaky", { allow_failure: true }),
      listed("deploy", "manual"),
    ]);
    const { jobs, warnings, remark } = await list(gitlab);
    assert.deepEqual(outcomesOf(jobs), ["failed: unit", "not run: deploy", "not run: flaky", "passed: lint"]);
    assert.deepEqual([warnings, remark], [[], undefined]);
  });

  test("asks for jobs of every status, a hundred a page", async () => {
    const gitlab = await start([listedFailed("unit")]);
    await list(gitlab);
    assert.deepEqual(
      gitlab.requests.filter(isJobs).map(({ query }) => `${query}`),
      ["per_page=100&page=1"],
    );
  });

  const TOKENS: [title: string, tokens: Variables, lists: string[], header: object][] = [
    ["GITLAB_TOKEN as PRIVATE-TOKEN", {}, ["bridges", "jobs"], { "private-token": TOKEN }],
    ["CI_JOB_TOKEN as JOB-TOKEN, for jobs only", AS_JOB, ["jobs"], { "job-token": JOB_TOKEN }],
    [
      "GITLAB_TOKEN alone where both are set",
      { CI_JOB_TOKEN: JOB_TOKEN },
      ["bridges", "jobs"],
      { "private-token": TOKEN },
    ],
  ];
  for (const [title, tokens, lists, header] of TOKENS) {
    test(`sends ${title}`, async () => {
      const gitlab = await start([listedFailed("unit")]);
      const { jobs } = await list(gitlab, tokens);
      assert.deepEqual(outcomesOf(jobs), ["failed: unit"]);
      assert.deepEqual(gitlab.requests.map(({ path }) => path.split("/").at(-1)).sort(), lists);
      for (const { headers } of gitlab.requests) {
        const sent = Object.entries(headers).filter(([name]) => name.endsWith("token"));
        assert.deepEqual(Object.fromEntries(sent), header);
      }
    });
  }

  test("with a job token alone warns of nothing, and has a remark that child pipelines are not seen", async () => {
    const { warnings, remark } = await list(await start([listedFailed("unit")]), AS_JOB);
    assert.deepEqual(warnings, []);
    assert.match(remark ?? "", /^child pipelines are not seen without GITLAB_TOKEN$/);
  });

  const many = (count: number) => Array.from({ length: count }, (_, i) => listedPassed(`build ${i + 1}`));

  for (const hasTotals of [true, false]) {
    test(`reads all pages, each once, where GitLab ${hasTotals ? "says" : "does not say"} how many there are`, async () => {
      const gitlab = await start([...many(250), listedFailed("unit")], { hasTotals });
      const { jobs } = await list(gitlab);
      assert.equal(new Set(jobs.map(({ name }) => name)).size, 251);
      assert.deepEqual(
        gitlab.requests
          .filter(isJobs)
          .map(({ query }) => query.get("page"))
          .sort(),
        ["1", "2", "3"],
      );
    });
  }

  for (const [hasTotals, jobs, requests] of [
    [true, 100, 1],
    [true, 0, 1],
    [false, 99, 1],
    [false, 100, 2],
  ] as const) {
    const title = hasTotals ? "the number of pages is known" : "nobody says whether it is the last one";
    test(`asks ${requests === 1 ? "once" : "for one more page"} where a page has ${jobs} jobs, and ${title}`, async () => {
      const gitlab = await start(many(jobs), { hasTotals });
      assert.equal((await list(gitlab)).jobs.length, jobs);
      assert.equal(gitlab.requests.filter(isJobs).length, requests);
    });
  }

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
    const nothing = { allow_failure: null, stage: null, failure_reason: null, web_url: null, conclusion: null };
    const nonsense = { web_url: 5, stage: 7, failure_reason: {}, steps: 1, run_attempt: "x", html_url: "javascript:" };
    gitlab.faults.push(
      answerJobs([
        { id: 1, name: "none", status: "failed" },
        { id: 2, name: "null", status: "failed", ...nothing },
        { id: 3, name: "odd", status: "failed", ...nonsense },
      ]),
    );
    const { jobs } = await list(gitlab);
    assert.deepEqual(outcomesOf(jobs), ["failed: none", "failed: null", "failed: odd"]);
    const details = jobs.flatMap(({ stage, reason, url }) => [stage, reason, url]);
    assert.deepEqual(
      details.filter((detail) => detail),
      [],
    );
  });

  test("takes a status that nobody knows for a job that did not run, without a word", async () => {
    const { jobs, warnings } = await list(await start([listedPassed("lint"), listed("unit", "invented")]));
    assert.deepEqual([outcomesOf(jobs), warnings], [["not run: unit", "passed: lint"], []]);
  });

  test("does not warn of jobs that still run, as the monitor itself does", async () => {
    const { jobs, warnings } = await list(await start([listedPassed("lint"), listed("monitor", "running")]));
    assert.deepEqual([outcomesOf(jobs), warnings], [["not run: monitor", "passed: lint"], []]);
  });

  const html = answerWith(200, "<!DOCTYPE html>\n<title>Sign in</title>", { "content-type": "text/html" });
  const json = (body: unknown) => (response: Parameters<Fault["answer"]>[0]) => answerJson(response, body);
  const REFUSALS: [title: string, answer: Fault["answer"], says: RegExp][] = [
    ["401", answerWith(401, '{"message":"401 Unauthorized"}'), / answered 401; set GITLAB_TOKEN .*read_api/],
    ["403", answerWith(403, '{"message":"403 Forbidden"}'), / answered 403; set GITLAB_TOKEN .*read_api/],
    ["404", answerWith(404, '{"message":"404 Not found"}'), / answered 404; check CI_API_V4_URL, CI_PROJECT_ID/],
    ["500 again and again", answerWith(500, "Whoops"), / answered 500; wait a while$/],
    ["what is not JSON", answerWith(200, "[{"), /^The answer of GitLab.* is not JSON: .*; .*proxy/],
    ["a page for humans", html, /^The answer of GitLab.* is not JSON: .*; .*proxy/],
    ["an object", json({ message: "Hello" }), /^The answer of GitLab.* is not valid at its top: .*Array/],
    ["a job without a name", json([{ id: 1, status: "failed" }]), / is not valid at 0\.name: /],
    ["an id of another type", json([listedFailed("a"), { ...listedFailed("b"), id: "2" }]), / not valid at 1\.id: /],
    ["a status of another type", json([{ ...listedFailed("a"), status: null }]), / is not valid at 0\.status: /],
    ["nothing, but breaks the connection off", reset, / is unreachable: .*NODE_USE_ENV_PROXY.*NODE_EXTRA_CA_CERTS/],
  ];
  for (const [title, answer, says] of REFUSALS) {
    test(`fails, so that nothing is stored, where GitLab answers ${title}`, async () => {
      const gitlab = await start([listedFailed("unit")]);
      gitlab.faults.push({ times: 9, matches: isJobs, answer });
      const peer = /GitLab at 127\.0\.0\.1:\d+, asked for pipelines\/1005\/jobs of project 4242, /;
      await assertFails(openSource(variablesOf(gitlab)), says, peer);
    });
  }

  test("never repeats what GitLab answered in more than a word: it may hold a token", async () => {
    const gitlab = await start([]);
    gitlab.faults.push({ times: 9, answer: answerWith(400, `your token ${TOKEN} is wrong`) });
    await assert.rejects(
      list(gitlab),
      ({ message }: Error) => !message.includes(TOKEN) && / answered 400; /.test(message),
    );
  });

  test("says to set GITLAB_TOKEN where a job token gets a 404", async () => {
    const gitlab = await start([]);
    gitlab.faults.push({ times: 9, answer: answerWith(404) });
    await assert.rejects(list(gitlab, AS_JOB), / answered 404; set GITLAB_TOKEN to one with read_api/);
  });

  test("fails where one of the pages is missing", async () => {
    const gitlab = await start(many(250));
    gitlab.faults.push({ times: 9, matches: ({ query }) => query.get("page") === "2", answer: answerWith(404) });
    await assert.rejects(list(gitlab), /^Error: GitLab at .* answered 404/);
  });

  test("does not follow a redirect, whose host would get the token", async () => {
    const elsewhere = await startServer((_, response) => answerJson(response, []));
    cleanUp(elsewhere.close);
    const gitlab = await start([listedFailed("unit")]);
    const location = `${elsewhere.url}/api/v4/jobs`;
    gitlab.faults.push({ times: 9, answer: answerWith(302, "", { location }) });
    await assert.rejects(list(gitlab), /^Error: GitLab at .* answered 302; check CI_API_V4_URL/);
    assert.deepEqual(elsewhere.requests, []);
  });

  for (const [title, answer] of [
    ["answers 500 once", answerWith(500)],
    ["breaks a connection off once", reset],
  ] as const) {
    test(`asks again where GitLab ${title}`, async () => {
      const gitlab = await start([listedFailed("unit")]);
      gitlab.faults.push({ times: 1, matches: isJobs, answer });
      const { jobs } = await list(gitlab);
      assert.deepEqual(outcomesOf(jobs), ["failed: unit"]);
    });
  }

  test("waits after a 429 for as long as Retry-After says", async () => {
    const gitlab = await start([listedFailed("unit")]);
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
    assert.deepEqual(outcomesOf(jobs), ["failed: unit"]);
    assert.equal(gitlab.requests.filter(isJobs).length, 2);
  });

  test("does not wait for longer than half a minute, and says so", async () => {
    const gitlab = await start([listedFailed("unit")]);
    gitlab.faults.push({ times: 9, matches: isJobs, answer: answerWith(429, "", { "retry-after": "31" }) });
    await assert.rejects(list(gitlab), /^Error: GitLab at .* answered 429 and asks to wait for 31 s; wait a while/);
    assert.equal(gitlab.requests.filter(isJobs).length, 1);
  });
});

test("a run with a job token alone says in the last line of its log that it sees no child pipelines", async (t) => {
  const { gitlab, launch } = await setStage(t);
  const { code, stdout, stderr } = await launch(AS_JOB, []).result;
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /\nStored in .*; alerts go to .*; child pipelines are not seen without GITLAB_TOKEN\n$/);
  assert.deepEqual(gitlab.requests.filter(isBridges), []);
});

describe("openJobs() with a GitLab that says nothing", () => {
  const cleanUp = makeCleanUp();

  test("asks again after at most half a minute", { timeout: 60_000 }, async () => {
    const gitlab = await startWith(cleanUp, [listedFailed("unit")]);
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
    assert.deepEqual(outcomesOf(jobs), ["failed: unit"]);
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

  const MADE: [title: string, bridge: GitLabBridge, jobs: GitLabJob[], expected: string[]][] = [
    ["could not be made", bridge("web", "failed", { downstream_pipeline: null }), [], ["failed: web"]],
    ["has no jobs", bridge("web", "failed", child(2001)), [], ["failed: web"]],
    [
      "has only jobs that did not run",
      bridge("web", "failed", child(2001)),
      [listed("unit", "skipped"), listed("e2e", "canceled")],
      ["failed: web", "not run: web / e2e", "not run: web / unit"],
    ],
    [
      "has a job that ran",
      bridge("web", "failed", child(2001)),
      [listedFailed("unit")],
      ["failed: web / unit", "passed: web"],
    ],
    [
      "has a job that may fail, and did",
      bridge("web", "success", child(2001)),
      [listedFailed("unit", { allow_failure: true })],
      ["not run: web / unit", "passed: web"],
    ],
  ];
  for (const [title, trigger, below, expected] of MADE) {
    test(`of which the child pipeline ${title}`, async () => {
      const { jobs } = await list({ 1005: { bridges: [trigger] }, 2001: { jobs: below } });
      assert.deepEqual(jobs, expected);
    });
  }

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
    test(`and warns once where they may not be read (${status}), with what to do; the jobs count`, async () => {
      const fault = { times: 9, matches: isBridges, answer: answerWith(status) };
      const { jobs, warnings } = await list({ 1005: { jobs: [listedFailed("lint")] } }, [fault]);
      assert.deepEqual(jobs, ["failed: lint"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), new RegExp(`child pipelines are not counted: .* ${status}; .*GITLAB_TOKEN`));
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
      await assert.rejects(down, /GitLab at .*, asked for pipelines\/\d+\/(bridges|jobs) .* answered 500; /);
    });
  }

  test("and tells of a token that expired by one error, not by a warning as well", async () => {
    const gitlab = await startWith(cleanUp, []);
    gitlab.faults.push({ times: 9, answer: answerWith(401) });
    await assertFails(openSource(variablesOf(gitlab)), /^GitLab at [^;]* answered 401; set GITLAB_TOKEN [^;]*$/);
  });
});

/** A source that lists a file with such a content. */
function fileOf(cleanUp: CleanUp, content: unknown) {
  const folder = makeFolder({ "jobs.json": content });
  cleanUp(folder.remove);
  return openSource({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json") });
}

describe("openJobs() with a file as GitLab lists jobs", () => {
  const cleanUp = makeCleanUp();
  const list = (content: unknown) => fileOf(cleanUp, content)();

  const ATTEMPTS: [title: string, first: GitLabJob, second: GitLabJob, expected: string][] = [
    ["passed at last", listedFailed("a", { id: 201 }), listedPassed("a", { id: 202 }), "passed: a 202"],
    ["failed at last", listedPassed("a", { id: 201 }), listedFailed("a", { id: 202 }), "failed: a 202"],
    ["was canceled at last", listedFailed("a", { id: 201 }), listed("a", "canceled", { id: 202 }), "not run: a 202"],
    ["failed twice", listedFailed("a", { id: 201 }), listedFailed("a", { id: 202 }), "failed: a 202"],
    ["is queued again", listedFailed("a", { id: 201 }), listed("a", "pending", { id: 202 }), "failed: a 201"],
    ["runs again", listedPassed("a", { id: 201 }), listed("a", "running", { id: 202 }), "passed: a 201"],
  ];
  for (const [title, first, second, expected] of ATTEMPTS) {
    test(`has one entry, the latest attempt that is over, of a job that ${title}, in either order`, async () => {
      for (const attempts of [
        [first, second],
        [second, first],
      ]) {
        const { jobs } = await list(attempts);
        assert.deepEqual(
          jobs.map(({ id, name, outcome }) => `${outcome}: ${name} ${id}`),
          [expected],
        );
      }
    });
  }

  test("takes a job that was allowed to fail for one that did not run", async () => {
    const { jobs } = await list([listedFailed("a", { allow_failure: true })]);
    assert.deepEqual(outcomesOf(jobs), ["not run: a"]);
  });

  for (const status of ["skipped", "manual", "canceled"]) {
    test(`takes a job that is ${status} for one that did not run, without a word`, async () => {
      const { jobs, warnings } = await list([listed("a", status), listedPassed("b")]);
      assert.deepEqual([outcomesOf(jobs), warnings], [["not run: a", "passed: b"], []]);
    });
  }

  const UNFINISHED = ["running", "pending", "created", "preparing", "waiting_for_resource", "waiting_for_callback"];
  for (const status of [...UNFINISHED, "canceling"]) {
    test(`takes a job that is ${status} for one that did not run, and warns that it had not finished`, async () => {
      const { jobs, warnings } = await list([listed("a", status), listedPassed("b")]);
      assert.deepEqual(outcomesOf(jobs), ["not run: a", "passed: b"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), /jobs\.json has 1 job that had not finished: a$/);
    });
  }

  test("keeps the stage, the reason and the address of a failure", async () => {
    const details = { stage: "test", failure_reason: "stuck_or_timeout_failure", web_url: "https://x.example/1" };
    const [job] = (await list([listedFailed("a", details)])).jobs;
    assert.deepEqual([job?.stage, job?.reason, job?.url], ["test", "stuck_or_timeout_failure", "https://x.example/1"]);
  });

  test("leaves out an address that is none of http", async () => {
    const [job] = (await list([listedFailed("a", { web_url: "javascript:alert(1)" })])).jobs;
    assert.deepEqual([job?.outcome, job?.url], ["failed", undefined]);
  });
});

let lastId = 500;
/** A job as GitHub lists it: of attempt 1, and completed, unless it has no conclusion. */
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
const again = { run_attempt: 2 };

describe("openJobs() with a file as GitHub lists jobs", () => {
  const cleanUp = makeCleanUp();
  const source = (content: unknown) => fileOf(cleanUp, content);
  const list = async (content: unknown) => (await source(content)()).jobs;

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
    const jobs = await list([job("e2e", "timed_out"), job("unit", "cancelled")]);
    const details = jobs.map(({ name, outcome, reason }) => `${name} ${outcome} ${reason}`);
    assert.deepEqual(details.sort(), ["e2e failed timed_out", "unit not run undefined"]);
  });

  for (const conclusion of ["neutral", "cancelled", "skipped", "action_required", "stale", "startup_failure"]) {
    test(`takes a job whose conclusion is ${conclusion} for one that did not run, without a word`, async () => {
      const { jobs, warnings } = await source([job("a", conclusion), job("b", "success")])();
      assert.deepEqual([outcomesOf(jobs), warnings], [["not run: a", "passed: b"], []]);
    });
  }

  for (const status of ["in_progress", "queued", "waiting", "requested", "pending"]) {
    test(`warns of a job that is still ${status}, which did not run`, async () => {
      const { jobs, warnings } = await source({ jobs: [job("a", "failure"), job("b", null, { status })] })();
      assert.deepEqual(outcomesOf(jobs), ["failed: a", "not run: b"]);
      assert.equal(warnings.length, 1);
      assert.match(warnings.join(), /jobs\.json has 1 job that had not finished: b$/);
    });
  }

  test("names some of many jobs that had not finished, each once", async () => {
    const running = Array.from({ length: 7 }, (_, i) => [
      job(`shard ${i}`, null),
      job(`shard ${i}`, null, { run_attempt: 2, status: "queued" }),
    ]);
    const { warnings } = await source(running.flat())();
    assert.match(warnings.join(), / has 7 jobs that had not finished: shard 0, shard 1, .*…$/);
  });

  test("has the latest of all attempts, whether or not they are numbered", async () => {
    const [first, second] = [job("a", "failure"), job("a", "success", again)];
    assert.deepEqual(outcomesOf(await list([{ jobs: [second, first] }])), ["passed: a"]);
    const { run_attempt: _, ...without } = job("b", "failure");
    const { run_attempt: __, ...later } = job("b", "success");
    assert.deepEqual(outcomesOf(await list({ jobs: [without, later] })), ["passed: b"]);
  });

  test("has each job by its own latest attempt: one failed and one was skipped, then one passed and one failed", async () => {
    const first = [job("build", "failure"), job("test", "skipped")];
    const second = [job("build", "success", again), job("test", "failure", again)];
    assert.deepEqual(outcomesOf(await list([...first, ...second])), ["failed: test", "passed: build"]);
  });

  test("has the failure of a job that is queued again, and, when that is over, its outcome in that place", async () => {
    const failure = job("unit", "failure");
    const queued = job("unit", null, { ...again, status: "queued" });
    const early = await count(source([failure, queued]));
    assert.deepEqual([early.outcomes, early.strip], [["counted"], "✗✗"]);
    assert.match(early.warnings.join(), /had not finished: unit$/);
    const over = await count(source([failure, queued]), source([failure, job("unit", "success", again)]));
    assert.deepEqual([over.outcomes, over.strip], [["counted", "counted"], "✗·"]);
  });

  test("of two jobs with one name in the latest attempt, has the one that failed, else one that passed", async () => {
    const jobs = [
      job("a", "failure", { id: 1 }),
      job("a", "success", { id: 2 }),
      job("b", "skipped", { id: 4 }),
      job("b", "success", { id: 3 }),
    ];
    assert.deepEqual(outcomesOf(await list({ jobs })), ["failed: a", "passed: b"]);
    const mended = [...jobs, job("a", "success", { id: 9, ...again })];
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
  const source = (content: unknown) => fileOf(cleanUp, content);
  const list = (content: unknown) => source(content)();

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
  const INCOMPLETE: [title: string, content: unknown, jobs: number][] = [
    ["a page", { total_count: 47, jobs: THIRTY }, 30],
    ["pages", [0, 17].map((from, i) => ({ total_count: 47, jobs: THIRTY.slice(from, [17, 30][i]) })), 30],
    ["an empty page", { total_count: 47, jobs: [] }, 0],
  ];
  for (const [title, content, jobs] of INCOMPLETE) {
    test(`refuses ${title} with fewer jobs than total_count says, with how to list all`, async () => {
      await assertFails(source(content), new RegExp(`jobs\\.json has ${jobs} of 47 jobs; .*--paginate --slurp`));
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
    ["jobs of which none ran", [listed("a", "skipped"), job("b", "cancelled")]],
  ];
  for (const [title, content] of EMPTY) {
    test(`counts and stores nothing of ${title}, and warns of it`, async () => {
      const { outcomes, warnings, isUntouched } = await count(source(content));
      assert.deepEqual([outcomes, warnings, isUntouched], [["nothing-ran"], [NOTHING_RAN], true]);
    });
  }

  const STRANGERS: [title: string, job: object, says: RegExp][] = [
    ["a status in capitals", { status: "FAILED" }, /not valid at 1\.status: Expected success, failed or .*completed/],
    ["passed, which is Buildkite's", { status: "passed" }, /not valid at 1\.status: Expected success, failed or /],
    ["a conclusion as a status", { status: "failure" }, /not valid at 1\.status: Expected success, failed or /],
    ["a name of every object", { status: "constructor" }, /not valid at 1\.status: /],
    ["an unknown conclusion", { status: "completed", conclusion: "error" }, /at 1\.conclusion: .*failure.*timed_out/],
    [
      "a status as a conclusion",
      { status: "completed", conclusion: "failed" },
      /at 1\.conclusion: .*failure.*timed_out/,
    ],
    ["a number for a conclusion", { status: "completed", conclusion: 1 }, /at 1\.conclusion: .*failure.*timed_out/],
  ];
  for (const [title, words, says] of STRANGERS) {
    test(`refuses ${title}, with its path and the words that may stand there`, async () => {
      await assertFails(source([listedPassed("a"), { id: 2, name: "b", ...words }]), says);
    });
  }

  test("names the page of a word that neither CI uses", async () => {
    const pages = [{ jobs: [job("a", "success")] }, { jobs: [job("b", "success"), job("c", "error")] }];
    await assertFails(source(pages), /jobs\.json is not valid at 1\.jobs\.1\.conclusion: /);
  });

  test("counts after a retry, when a word that neither CI uses is mended", async () => {
    await assertFails(source([{ id: 1, name: "unit", status: "FAILED" }]), /0\.status/);
    const mended = await count(source([{ id: 1, name: "unit", status: "failed" }]));
    assert.deepEqual([mended.outcomes, mended.strip], [["counted"], "✗✗"]);
  });

  test("says of an id that is no number how to make one", async () => {
    const byBuildkite = [{ id: "0193-a1b2", name: "a", status: "failed" }];
    await assertFails(source(byBuildkite), /jobs\.json is not valid at 0\.id: Expected a number, .*1000 \+ index/);
  });

  test("says to use --slurp where there are several arrays, which is not JSON", async () => {
    const twoPages = [[job("a", "success")], [job("b", "success")]].map((page) => JSON.stringify(page)).join("\n");
    await assertFails(source(twoPages), /jobs\.json is not JSON: .*--slurp/);
  });

  for (const [title, content, path] of [
    ["an object without jobs", { message: "Not Found" }, "its top"],
    ["a job without a status", [{ id: 1, name: "a", conclusion: "failure" }], "0\\.status"],
    ["a job without a name", [{ id: 1, status: "failed" }], "0\\.name"],
    ["a job whose name is empty", [{ id: 1, name: "", status: "failed" }], "0\\.name"],
    ["jobs that are no list", { jobs: {} }, "0\\.jobs"],
    ["a page among jobs", [{ jobs: [] }, listedFailed("a")], "1\\.jobs"],
    ["null", null, "its top"],
    ["a text", '"jobs"', "its top"],
  ] as const) {
    test(`refuses ${title}, and says what belongs there`, async () => {
      await assertFails(source(content), new RegExp(`jobs\\.json is not valid at ${path}: .*GitLab or GitHub lists`));
    });
  }

  test("refuses a file that is not there, or is not UTF-8, by its name", async () => {
    await assertFails(openSource({ PIPELINE_JOBS_FILE: "nowhere/jobs.json" }), /^Cannot read nowhere\/jobs\.json: /);
    await assertFails(source(Buffer.from('[{"name": "é"}]', "latin1")), /^Cannot read .*jobs\.json: .*encoded data/);
  });
});
