import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkConsistentFailures } from "../check-failures.ts";
import { environment, failed, history, makeEdges, memoryStore, passed, pipelineJob } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";
import { type GitLabJob, JOB_TOKEN, startGitLab, TOKEN } from "./support/servers/gitlab.ts";
import { answerJson, answerWith, type Fault, hang, reset, startServer } from "./support/servers/http.ts";

const BUILDS = Array.from({ length: 250 }, (_, i) => `build ${i + 1}`);

describe("checkConsistentFailures() with GitLab", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  /** GitLab with the jobs of pipeline 1005. */
  async function start(jobs: GitLabJob[], ...options: Parameters<typeof startGitLab>) {
    const gitlab = await startGitLab(...options);
    cleanUp(gitlab.close);
    gitlab.pipelines.set(1005, jobs);
    return gitlab;
  }

  /** Counts pipeline 1005 in a document that tracks jobs; resolves to their histories, or rejects with `stored` untouched. */
  async function count(variables: Record<string, string | undefined>, tracked: Record<string, string> = {}) {
    const jobs = Object.fromEntries(Object.entries(tracked).map(([name, strip]) => [name, history(strip)]));
    const before = JSON.stringify({ pipeline_id: 1004, jobs });
    const { store, stored } = memoryStore(before);
    const { edges } = makeEdges({ store });
    const outcome = await checkConsistentFailures(environment(variables), edges).then(
      (run) => run.outcome,
      (error: Error) => error.message,
    );
    const isUntouched = stored.text === before;
    return { outcome, isUntouched, jobs: JSON.parse(stored.text ?? "").jobs };
  }

  const variablesOf = (gitlab: { apiUrl: string }) => ({
    PIPELINE_JOBS_FILE: undefined,
    CI_API_V4_URL: gitlab.apiUrl,
    CI_PROJECT_ID: "4242",
    GITLAB_TOKEN: TOKEN,
  });

  const TOKENS: [title: string, tokens: Record<string, string>, header: object][] = [
    ["GITLAB_TOKEN as PRIVATE-TOKEN", { GITLAB_TOKEN: TOKEN }, { "private-token": TOKEN }],
    ["CI_JOB_TOKEN as JOB-TOKEN", { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN }, { "job-token": JOB_TOKEN }],
    ["GITLAB_TOKEN alone where both are set", { CI_JOB_TOKEN: JOB_TOKEN }, { "private-token": TOKEN }],
  ];
  for (const [title, tokens, header] of TOKENS) {
    test(`sends ${title}`, async () => {
      const gitlab = await start([failed("unit tests")]);
      const { outcome } = await count({ ...variablesOf(gitlab), ...tokens });
      assert.equal(outcome, "counted");
      assert.deepEqual(
        gitlab.requests.map(({ headers }) =>
          Object.fromEntries(Object.entries(headers).filter(([name]) => name.endsWith("token"))),
        ),
        [header],
      );
    });
  }

  for (const pages of ["totals", "next", "link"] as const) {
    test(`reads all pages, each once, where GitLab tells of them by ${pages}`, async () => {
      const gitlab = await start([...BUILDS.map((name) => passed(name)), failed("unit tests")], { pages });
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
      assert.deepEqual(gitlab.requests.map(({ query }) => `${query.get("scope[]")} ${query.get("page")}`).sort(), [
        "failed 1",
        "success 1",
        "success 2",
        "success 3",
      ]);
    });

    test(`counts failed jobs of all pages where GitLab tells of them by ${pages}`, async () => {
      const gitlab = await start(
        BUILDS.map((name) => failed(name)),
        { pages },
      );
      const { jobs } = await count(variablesOf(gitlab));
      assert.deepEqual(Object.keys(jobs).sort(), [...BUILDS].sort());
    });
  }

  test("asks for the further pages of succeeded jobs all at once", async () => {
    const gitlab = await start([...BUILDS.map((name) => passed(name)), failed("unit tests")]);
    const waiting: (() => void)[] = [];
    gitlab.faults.push({
      times: 2,
      matches: ({ query }) => query.get("scope[]") === "success" && query.get("page") !== "1",
      // No page is answered before each of them has been asked for.
      answer: (response, { query }) => {
        waiting.push(() => answerJson(response, [passed(`page ${query.get("page")}`)]));
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
    gitlab.faults.push({ times: 1, answer });
    await count({ ...variablesOf(gitlab), CI_PROJECT_ID: "acme/shop" });
    assert.match(urls.join("\n"), /^\/api\/v4\/projects\/acme%2Fshop\/pipelines\/1005\/jobs\?.*$/);
  });

  test("counts a job whose links and commit make no sense", async () => {
    const gitlab = await start([]);
    const odd = [{ id: 1, name: "unit tests", status: "failed", web_url: 5, commit: "HEAD", stage: null }];
    gitlab.faults.push({ times: 1, answer: (response) => answerJson(response, odd) });
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
    ["what is not JSON", answerWith(200, "[{"), /list of jobs.* is not JSON/],
    ["a page for humans", html, /list of jobs.* is not JSON/],
    ["an object", json({ message: "Hello" }), /list of jobs.* is not valid at its top: .*Array/],
    ["a job without a name", json([{ id: 1, status: "failed" }]), /list of jobs.* is not valid at 0\.name/],
    ["an id of another type", json([failed("a"), { ...failed("b"), id: "2" }]), /is not valid at 1\.id/],
    ["a status of another type", json([{ ...failed("a"), status: null }]), /is not valid at 0\.status/],
    ["a flag of another type", json([{ ...failed("a"), allow_failure: 0 }]), /is not valid at 0\.allow_failure/],
    ["nothing, but breaks the connection off", reset, /is unreachable.*, 3 times/],
  ];
  for (const [title, answer, says] of REFUSALS) {
    test(`fails without an upload where GitLab answers ${title}`, async () => {
      const gitlab = await start([failed("unit tests")]);
      gitlab.faults.push({ times: 9, answer });
      const { outcome, isUntouched } = await count(variablesOf(gitlab), { "unit tests": "✗" });
      assert.match(outcome, says);
      assert.match(outcome, /GitLab/);
      assert.ok(isUntouched);
    });
  }

  test("fails without an upload where one of the pages is missing", async () => {
    const gitlab = await start(BUILDS.map((name) => failed(name)));
    gitlab.faults.push({ times: 9, matches: ({ query }) => query.get("page") === "2", answer: answerWith(404) });
    const { outcome, isUntouched } = await count(variablesOf(gitlab), { "build 1": "✗" });
    assert.match(outcome, /GitLab at .* answered 404/);
    assert.ok(isUntouched);
  });

  test("does not follow a redirect, whose host would get the token", async () => {
    const elsewhere = await startServer((_, response) => answerJson(response, []));
    cleanUp(elsewhere.close);
    const gitlab = await start([failed("unit tests")]);
    gitlab.faults.push({ times: 9, answer: answerWith(302, "", { location: `${elsewhere.url}/api/v4/jobs` }) });
    const { outcome, isUntouched } = await count(variablesOf(gitlab));
    assert.match(outcome, /GitLab at .* answered 302; check CI_API_V4_URL/);
    assert.ok(isUntouched);
    assert.deepEqual(elsewhere.requests, []);
  });

  for (const [title, answer] of [
    ["answers 500 once", answerWith(500)],
    ["breaks a connection off once", reset],
    ["says nothing for as long as a request may take", hang],
  ] as const) {
    test(`asks again where GitLab ${title}`, { timeout: 60_000 }, async () => {
      const gitlab = await start([failed("unit tests")]);
      gitlab.faults.push({ times: 1, answer });
      const { outcome, jobs } = await count(variablesOf(gitlab));
      assert.equal(outcome, "counted");
      assert.equal(jobs["unit tests"].consecutive_failures, 1);
    });
  }

  test("waits after a 429 for as long as Retry-After says", async () => {
    const gitlab = await start([failed("unit tests")]);
    let isLimited = true;
    gitlab.faults.push({
      times: 99,
      matches: () => isLimited,
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
    assert.equal(gitlab.requests.length, 2);
  });
});

describe("checkConsistentFailures() with a file of jobs", () => {
  const cleanUp = makeCleanUp();

  /** How a job stands after a pipeline of these jobs, of which it passed none and failed one before. */
  async function standOf(name: string, jobs: GitLabJob[], variables: Record<string, string> = {}) {
    const folder = makeFolder({ "jobs.json": jobs });
    cleanUp(folder.remove);
    const { store } = memoryStore(JSON.stringify({ pipeline_id: 1004, jobs: { "unit tests": history("✗") } }));
    const { edges } = makeEdges({ store });
    const env = environment({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json"), ...variables });
    const { document } = await checkConsistentFailures(env, edges);
    const job = document.jobs.get(name);
    return job && { ids: job.jobs_info.map(({ id }) => id), consecutive_failures: job.consecutive_failures };
  }
  const UNTOUCHED = { ids: [101], consecutive_failures: 1 };
  const FAILED_AGAIN = { ids: [101, 202], consecutive_failures: 2 };
  const PASSED = { ids: [101, null], consecutive_failures: 0 };

  const ATTEMPTS: [title: string, first: GitLabJob, second: GitLabJob, stand: object][] = [
    ["passed at last", failed("unit tests", { id: 201 }), passed("unit tests", { id: 202 }), PASSED],
    ["failed at last", passed("unit tests", { id: 201 }), failed("unit tests", { id: 202 }), FAILED_AGAIN],
    [
      "was canceled at last",
      failed("unit tests", { id: 201 }),
      pipelineJob("unit tests", "canceled", { id: 202 }),
      UNTOUCHED,
    ],
    ["failed twice", failed("unit tests", { id: 201 }), failed("unit tests", { id: 202 }), FAILED_AGAIN],
  ];
  for (const [title, first, second, stand] of ATTEMPTS) {
    test(`counts the latest attempt of a job that ${title}, in whatever order they are listed`, async () => {
      assert.deepEqual(await standOf("unit tests", [first, second]), stand);
      assert.deepEqual(await standOf("unit tests", [second, first]), stand);
    });
  }

  test("counts a job that was allowed to fail as one that did not run", async () => {
    const allowed = { allow_failure: true };
    const jobs = [failed("unit tests", allowed), failed("lint", allowed)];
    assert.deepEqual(await standOf("unit tests", jobs), UNTOUCHED);
    assert.equal(await standOf("lint", jobs), undefined);
  });

  for (const status of ["skipped", "manual", "canceled", "canceling", "running", "created", "scheduled", "invented"]) {
    test(`counts a job that is ${status} as one that did not run`, async () => {
      const jobs = [pipelineJob("unit tests", status), pipelineJob("lint", status)];
      assert.deepEqual(await standOf("unit tests", jobs), UNTOUCHED);
      assert.deepEqual(await standOf("unit tests", jobs, { NOT_RUN_JOBS: "pass" }), PASSED);
      assert.equal(await standOf("lint", jobs), undefined);
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
    assert.ok(requests.length <= 1); // it may end before even the first one has arrived
  });
});
