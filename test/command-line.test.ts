import assert from "node:assert/strict";
import { linkSync, lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { describeSettings, openJobs, openStore, readOwners } from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  listed,
  listedFailed,
  listedPassed,
  MINUTE,
  memoryStore,
  NOW,
  openAlert,
  pendingAlert,
  runOf,
  settings,
  stripOf,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { type CleanUp, makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, RUNTIME, run, SCRIPT, start } from "./support/run.ts";
import { type GitLabJob, JOB_TOKEN, TOKEN } from "./support/servers/gitlab.ts";
import { answerJson, answerWith, type Fault } from "./support/servers/http.ts";
import { s3Error } from "./support/servers/s3.ts";
import { SLACK_TOKEN } from "./support/servers/slack.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";

/** The stand-ins with a stored document, and a way to run the script for pipelines. */
async function startScene(cleanUp: CleanUp, document?: object) {
  const standIns = await startStandIns();
  cleanUp(standIns.close);
  if (document) standIns.s3.objects.set(KEY, Buffer.from(JSON.stringify(document)));
  const variables = { ...standIns.env, CI_DEFAULT_BRANCH: "main", CI_COMMIT_BRANCH: "main" };
  return {
    ...standIns,
    stored: () => standIns.s3.objects.get(KEY)?.toString() ?? "",
    runPipeline: (id: number, jobs: GitLabJob[], args: string[] = [], changes: Variables = {}) => {
      standIns.gitlab.pipelines.set(id, jobs);
      return run(args, { ...variables, CI_PIPELINE_ID: String(id), ...changes });
    },
  };
}

function makeTestFolder(cleanUp: CleanUp, files: Record<string, unknown> = {}) {
  const folder = makeFolder(files);
  cleanUp(folder.remove);
  return folder.path;
}

const methodsOf = ({ requests }: { requests: { method: string }[] }) => requests.map(({ method }) => method);

/** A document with such histories, as a server stores it. */
const withJobs = (jobs: object) => ({ pipeline_id: 1004, jobs });

/** The variables of pipeline 1005, whose jobs are in a file. */
const FROM_FILE = { CI_PIPELINE_ID: "1005", CI_COMMIT_SHA: "0ddba11", PIPELINE_JOBS_FILE: "jobs.json" };

const { version: VERSION } = JSON.parse(readFileSync(join(dirname(SCRIPT), "package.json"), "utf8"));

const JSON_LINE = /^\{.*\}\n$/;

describe("a run", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  test("alerts at the third failure in a row once, whatever pipeline comes next", { timeout: 60_000 }, async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp);
    const pipelines: [id: number, jobs: GitLabJob[]][] = [
      [1001, [listedFailed("unit tests", { id: 11 }), listedPassed("lint")]],
      [1002, [listedFailed("unit tests", { id: 12 }), listedPassed("lint")]],
      [1000, [listedFailed("unit tests", { id: 10 }), listedPassed("lint")]],
      [1003, [listedFailed("unit tests", { id: 13 }), listedPassed("lint")]],
      [1003, [listedFailed("unit tests", { id: 13 }), listedPassed("lint")]],
      [1004, [listedFailed("unit tests", { id: 14 }), listedPassed("lint")]],
      [1004, [listedPassed("unit tests", { id: 15 }), listedPassed("lint")]], // a re-run
    ];
    const outcomes: unknown[] = [];
    for (const [id, jobs] of pipelines) {
      const { code, stdout } = await runPipeline(id, jobs, ["--json"]);
      const { outcome, stored_pipeline_id, reached, messages } = JSON.parse(stdout);
      outcomes.push([id, code, outcome, stored_pipeline_id, reached.consecutive, messages.length]);
    }
    assert.deepEqual(outcomes, [
      [1001, 0, "counted", 0, {}, 1], // the hello
      [1002, 0, "counted", 1001, {}, 0],
      [1000, 0, "out-of-order", 1002, {}, 0],
      [1003, 0, "counted", 1002, { "unit tests": [11, 12, 13] }, 1],
      [1003, 0, "already-counted", 1003, {}, 0],
      [1004, 0, "counted", 1003, {}, 0],
      [1004, 0, "revised", 1004, {}, 0],
    ]);
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => `${channel} ${text.split(" ", 1)}`),
      ["#ci 👋", "#ci 🔴"],
    );
    const { pipeline_id, jobs, passed, pending_alerts } = JSON.parse(stored());
    assert.equal(pipeline_id, 1004);
    assert.deepEqual(Object.keys(jobs), ["unit tests"]);
    assert.equal(stripOf(jobs["unit tests"]), "✗✗✗·");
    assert.deepEqual(passed[0].jobs, ["lint"]);
    assert.equal(pending_alerts, undefined);
  });

  test("prints one JSON object on stdout with --json, and the table on stderr", async () => {
    const document = withJobs({
      "unit tests": history("·✗✗"),
      lint: history("✗✗✗··", { alert: openAlert("consecutive") }),
    });
    const { runPipeline, slack } = await startScene(cleanUp, document);
    const jobs = [listedFailed("unit tests", { id: 113 }), listedPassed("lint"), listedPassed("build")];
    const { code, stdout, stderr } = await runPipeline(1005, jobs, ["--json"]);
    assert.equal(code, 0);
    assert.match(stdout, JSON_LINE);
    const { messages, ...printed } = JSON.parse(stdout);
    assert.deepEqual(printed, {
      outcome: "counted",
      pipeline_id: 1005,
      stored_pipeline_id: 1004,
      jobs: { failed: 1, passed: 2, not_run: null }, // GitLab's API does not list those
      warnings: [],
      reached: { consecutive: { "unit tests": [102, 103, 113] }, cumulative: {}, recovered: ["lint"], gone: [] },
    });
    const [{ plain, ...message }, ...others] = messages;
    assert.deepEqual(message, { channel: "#ci", text: slack.messages[0]?.text, delivered: true });
    assert.deepEqual(others, []);
    const [headline] = plain.split("\n");
    assert.match(headline, /^🔴 unit tests broken, 🟢 lint recovered in this project main, pipeline 1005$/);
    assert.match(stderr, /^Pipeline 1005 is counted, after 1004: 1 job failed, 2 passed; 1 of 1 message delivered$/m);
    assert.match(stderr, /^ +·✗✗✗ +3 +3 +broken since \d{4}-\d\d-\d\d +unit tests$/m);
    assert.match(stderr, /^ +✗✗✗··· +0 +3 +lint$/m);
    assert.match(stderr, /^Stored in s3:\/\/bucket\/.* at 127\.0\.0\.1:\d+; alerts go to #ci on Slack$/m);
  });

  test("has with --json the jobs that did not run and the warnings, which stderr has as well", async () => {
    const jobs = [
      ...[listedFailed("unit tests"), listedPassed("lint"), listedPassed("build"), listed("deploy", "manual")],
      listed("docs", "FAILED"),
    ];
    const folder = makeTestFolder(cleanUp, { "jobs.json": jobs, "job_executions.v2.json": withJobs({}) });
    const { code, stdout, stderr } = await run(["--json"], FROM_FILE, folder);
    assert.equal(code, 0);
    const { jobs: counted, warnings, messages } = JSON.parse(stdout);
    assert.deepEqual([counted, messages], [{ failed: 1, passed: 2, not_run: 2 }, []]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /FAILED \(1 job\)/);
    assert.ok(stderr.includes(`Warning: ${warnings[0]}\n`), stderr);
    assert.match(stderr, /^Pipeline 1005 is counted, after 1004: 1 job failed, 2 passed, 2 did not run$/m);
  });

  test("has with --json a channel of null and plain text for a message that goes to stdout", async () => {
    const files = { "jobs.json": [listedFailed("a *b* <c>", { id: 1 })], "job_executions.v2.json": withJobs({}) };
    const folder = makeTestFolder(cleanUp, files);
    const { stdout, stderr } = await run(["--json"], { ...FROM_FILE, CONSECUTIVE_THRESHOLD: "1" }, folder);
    assert.match(stdout, JSON_LINE);
    const [{ channel, text, plain, delivered }] = JSON.parse(stdout).messages;
    assert.deepEqual([channel, delivered], [null, true]);
    assert.match(plain, /^🔴 a \*b\* <c> broken in /);
    assert.match(text, /^🔴 a \u2060\*b\* &lt;c&gt; broken in /);
    assert.ok(stderr.includes(plain), stderr);
    assert.match(stderr, /; alerts go to this log$/m);
  });

  test("prints the table on stdout, worst first, and nothing on stderr", async () => {
    const { runPipeline } = await startScene(cleanUp, withJobs({ lint: history("✗·"), "unit tests": history("·✗") }));
    const { stdout, stderr } = await runPipeline(1005, [listedFailed("unit tests"), listedPassed("lint")]);
    assert.match(stdout, /^ +·✗✗ +2 +2 +unit tests\n +✗·· +0 +1 +lint$/m);
    assert.equal(stderr, "");
  });

  test("prints at most 40 rows of the table, open alerts first, and names where the rest is", async () => {
    const jobs = Object.fromEntries(Array.from({ length: 199 }, (_, i) => [`job ${i}`, history("✗✗·")]));
    const alert = openAlert("cumulative");
    const { runPipeline } = await startScene(cleanUp, withJobs({ ...jobs, flaky: history("✗·✗·✗·✗·✗·", { alert }) }));
    const { stdout } = await runPipeline(1005, [listedPassed("flaky")]);
    const rows = stdout.split("\n").filter((line) => / (flaky|job \d+)$/.test(line));
    assert.equal(rows.length, 40);
    assert.match(rows[0] ?? "", /failing often since .* flaky$/);
    assert.match(stdout, /^and 160 more: report has all$/m);
  });

  const many = (passed: number, failed: number) => [
    ...Array.from({ length: passed }, (_, i) => listedPassed(`build ${i + 1}`)),
    ...Array.from({ length: failed }, (_, i) => listedFailed(`test ${i + 1}`)),
    ...Array.from({ length: 150 }, (_, i) => listed(`deploy ${i + 1}`, "manual")),
  ];

  const REQUESTS: [jobs: GitLabJob[], tracked: object, pages: number][] = [
    [many(94, 6), {}, 1],
    [many(1_194, 6), { "test 1": history("✗"), "build 1194": history("✗") }, 12],
  ];
  for (const [jobs, tracked, pages] of REQUESTS) {
    test(`makes ${pages + 3} requests for ${pages}00 jobs that failed or passed, whichever are tracked`, async () => {
      const { runPipeline, gitlab, s3, requests, stored } = await startScene(cleanUp, withJobs(tracked));
      const { code, stderr } = await runPipeline(1005, jobs);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.deepEqual(methodsOf(s3), ["GET", "PUT"]);
      assert.deepEqual(
        gitlab.requests.map(({ path, query }) => `${path.split("/").at(-1)} ${query.getAll("scope[]")}`).sort(),
        ["bridges ", ...Array(pages).fill("jobs failed,success")],
      );
      assert.equal(requests().length, pages + 3);
      const names = [...Array.from({ length: 6 }, (_, i) => `test ${i + 1}`), ...Object.keys(tracked)];
      assert.deepEqual(Object.keys(JSON.parse(stored()).jobs).sort(), [...new Set(names)].sort());
    });
  }

  const OTHER_BRANCHES = [
    { title: "another branch", changes: { CI_COMMIT_BRANCH: "feature" } },
    { title: "a tag or a merge request", changes: { CI_COMMIT_BRANCH: "" } },
  ];
  for (const { title, changes } of OTHER_BRANCHES) {
    test(`asks and writes nothing in a pipeline of ${title}`, async () => {
      const { runPipeline, requests } = await startScene(cleanUp);
      const { code, stdout } = await runPipeline(1005, [listedFailed("unit tests")], ["--json"], changes);
      assert.equal(code, 0);
      assert.deepEqual(JSON.parse(stdout), {
        outcome: "not-default-branch",
        pipeline_id: 1005,
        stored_pipeline_id: null,
        jobs: null,
        warnings: [],
        reached: { consecutive: {}, cumulative: {}, recovered: [], gone: [] },
        messages: [],
      });
      assert.deepEqual(requests(), []);
    });
  }

  test("ends well on another branch that lacks the required variables", async () => {
    const folder = makeTestFolder(cleanUp);
    const { code, stdout, stderr } = await run([], { CI_DEFAULT_BRANCH: "main" }, folder);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /not a pipeline of the default branch, main/);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("sends and writes nothing with --dry-run, and says what it would", async () => {
    const { runPipeline, s3, slack, stored } = await startScene(cleanUp, {
      pipeline_id: 1004,
      jobs: { "unit tests": history("·✗✗") },
    });
    const before = stored();
    const jobs = [listedFailed("unit tests"), listedFailed("lint")];
    const { code, stdout } = await runPipeline(1005, jobs, ["--dry-run"], {
      CI_PROJECT_URL: "https://git.example/shop",
    });
    assert.equal(code, 0);
    assert.match(stdout, /Dry run: nothing is sent or written/);
    assert.match(stdout, /Would send to #ci:\n.*unit tests(.*\n)+.*unit tests \(https:\S+\) failed 3 times in a row/);
    assert.match(stdout, /^Pipeline 1005 would be counted, after 1004: 2 jobs failed, 0 passed$/m);
    assert.match(stdout, /would be stored/);
    assert.match(stdout, /^ +·✗✗✗ .*broken .* unit tests$/m);
    assert.match(stdout, /^ +✗ .* lint$/m);
    assert.deepEqual(methodsOf(s3), ["GET"]);
    assert.deepEqual(slack.requests, []);
    assert.equal(stored(), before);
  });

  test("says with --dry-run --json that nothing is delivered", async () => {
    const { runPipeline, requests } = await startScene(cleanUp, withJobs({ lint: history("✗✗") }));
    const { stdout } = await runPipeline(1005, [listedFailed("lint", { id: 113 })], ["--dry-run", "--json"]);
    const { outcome, reached, messages } = JSON.parse(stdout);
    assert.deepEqual([outcome, reached.consecutive], ["counted", { lint: [101, 102, 113] }]);
    assert.deepEqual(
      messages.map(({ channel, delivered }: { channel: string; delivered: boolean }) => [channel, delivered]),
      [["#ci", false]],
    );
    assert.deepEqual(new Set(requests().map(({ method }) => method)), new Set(["GET"]));
  });
});

describe("a run on the first day, and on bad days", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("says hello where it creates the document, in front of what else it has to say, and not again", async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp);
    const { stdout } = await runPipeline(1005, [listedFailed("unit tests")], ["--json"], {
      CONSECUTIVE_THRESHOLD: "1",
    });
    const texts = slack.messages.map(({ channel, text }) => `${channel} ${text}`);
    assert.equal(texts.length, 2);
    assert.match(texts[0] ?? "", /^#ci 👋 .*watches/);
    assert.match(texts[1] ?? "", /^#ci 🔴 /);
    assert.equal(JSON.parse(stdout).messages.length, 2);
    assert.equal(JSON.parse(stored()).pending_alerts, undefined);

    await runPipeline(1006, []);
    assert.equal(slack.messages.length, 2);
  });

  test("keeps its hello where Slack can't have it, and says why", async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp);
    slack.errors.set("#ci", "not_in_channel");
    const { code, stderr } = await runPipeline(1005, [listedPassed("lint")]);
    assert.equal(code, 1);
    const advice = "invite the bot to the channel, then retry this job (the next run sends it too)";
    assert.equal(stderr, `Error: Slack refused 1 message for #ci: not_in_channel; ${advice}\n`);
    const [{ channel, hello }] = JSON.parse(stored()).pending_alerts;
    assert.deepEqual([channel, hello.in_a_row, hello.often, hello.window], [null, 3, 5, 10]);
  });

  test("says that the document is new, and that alerts go to this log outside CI", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": [listedPassed("lint")] });
    const { code, stdout, stderr } = await run([], FROM_FILE, folder);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^👋 check-failures now watches /);
    assert.match(stdout, /^Pipeline 1005 is counted, a new document: 0 jobs failed, 1 passed, 0 did not run; 1 of 1 /m);
    assert.match(stdout, /^Stored in job_executions\.v2\.json; alerts go to this log$/m);
  });

  test("tells of a token of GitLab's that expired once", async () => {
    const { runPipeline, gitlab, stored } = await startScene(cleanUp, withJobs({}));
    const before = stored();
    gitlab.faults.push({ times: 9, answer: answerWith(401) });
    const { code, stdout, stderr } = await runPipeline(1005, []);
    assert.deepEqual([code, stdout, stored()], [1, "", before]);
    assert.match(stderr, /^Error: GitLab at [^\n]* answered 401; set GITLAB_TOKEN [^\n]*\n$/);
  });

  const runAfter = async (days: number | undefined) => {
    const counted_at = days && new Date(NOW.getTime() - days * 86_400_000).toISOString();
    const before = JSON.stringify({ ...withJobs({}), counted_at });
    const { store, stored } = memoryStore(before);
    const ended = runOf([], { CI_PIPELINE_ID: "12" }, { store }).then(({ run }) => run.outcome);
    return { ended, isUntouched: () => stored.text === before };
  };

  test("fails where the ids began anew, and leaves the document as it was", async () => {
    const { ended, isUntouched } = await runAfter(8);
    await assert.rejects(
      ended,
      /^Error: Cannot count pipeline 12: it is older than 1004.*began anew.*JOB_EXECUTIONS_URL/,
    );
    assert.equal(isUntouched(), true);
  });

  test("is only out of order where the document was counted within a week, or nobody knows when", async () => {
    for (const days of [6, undefined]) assert.equal(await (await runAfter(days)).ended, "out-of-order");
  });

  test("says what waits for a later run", async () => {
    const due = new Date(Date.now() + 60_000).toISOString();
    const document = { ...documentOf(), pending_alerts: [pendingAlert("x", { due })] };
    const { runPipeline } = await startScene(cleanUp, JSON.parse(textOf(document)));
    const { code, stderr } = await runPipeline(1005, [listedPassed("lint")]);
    assert.equal(code, 0);
    assert.match(stderr, /^Warning: 1 message will be sent by a later run$/m);
  });

  test("shows with --dry-run what would be on any branch, without a token of Slack's", async () => {
    const { runPipeline, requests, stored } = await startScene(cleanUp, {
      pipeline_id: 1004,
      jobs: { a: history("✗✗") },
    });
    const before = stored();
    const mergeRequest = { CI_COMMIT_BRANCH: undefined, SLACK_API_TOKEN: "", SLACK_CHANNEL: "" };
    const { code, stdout } = await runPipeline(1005, [listedFailed("a")], ["--dry-run"], mergeRequest);
    assert.equal(code, 0);
    assert.match(stdout, /Would send:\n🔴 a broken in /);
    assert.match(stdout, /^Pipeline 1005 would be counted, after 1004: 1 job failed, 0 passed$/m);
    assert.deepEqual(new Set(requests().map(({ method }) => method)), new Set(["GET"]));
    assert.equal(stored(), before);
  });
});

describe("a report", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * MINUTE).toISOString();
  const TURNED = { commit: "c0ffee03", title: "Add a cart", author: "Ada", from: "c0ffee02" };
  /** A document whose last pipeline was counted three hours ago, with a message that waits. */
  const DOCUMENT = {
    ...withJobs({
      "unit tests": history("··✗✗", { alert: openAlert("consecutive"), turned: TURNED }),
      "e2e 10": history("✗·"),
      "e2e 2": history("✗·", { last_run: undefined }),
      flaky: history("✗·✗·✗·✗·✗·", { alert: openAlert("cumulative") }),
    }),
    commit: "0ddba11",
    counted_at: minutesAgo(180),
    project: { name: "acme/shop", url: "https://gitlab.example.com/acme/shop", ci: "gitlab" },
    passed: [{ commit: "0ddba11", at: AN_HOUR_AGO, jobs: ["lint"] }],
    pending_alerts: [pendingAlert("unit tests")],
  };
  const reportOn = (document: object, ...args: string[]) => {
    const folder = makeTestFolder(cleanUp, { "document.json": document });
    return run(["report", ...args], { JOB_EXECUTIONS_URL: "document.json" }, folder);
  };

  test("prints what is known of the document and the table of all its jobs, without a pipeline", async () => {
    const { code, stdout, stderr } = await reportOn(DOCUMENT);
    assert.deepEqual([code, stderr], [0, ""]);
    const [first = "", ...table] = stdout.split("\n");
    const at = `at ${DOCUMENT.counted_at}: pipeline 1004`;
    assert.equal(
      first,
      `acme/shop, document.json: the last pipeline was counted 3 hours ago, ${at}; 1 message not delivered yet`,
    );
    assert.match(stdout, /^4 jobs: 1 broken, 1 failing often, 2 only watched$/m);
    assert.deepEqual(
      table.flatMap((line) => / (unit tests|e2e \d+|flaky)$/.exec(line)?.[1] ?? []),
      ["unit tests", "flaky", "e2e 2", "e2e 10"],
    );
  });

  test("has a row for each job, however many there are", async () => {
    const jobs = Array.from({ length: 200 }, (_, i) => [`job ${i}`, history("✗")]);
    const { stdout } = await reportOn(withJobs(Object.fromEntries(jobs)));
    assert.equal(stdout.match(/ job \d+$/gm)?.length, 200);
  });

  test("prints all that the table has as one JSON object with --json", async () => {
    const { code, stdout, stderr } = await reportOn(DOCUMENT, "--json");
    assert.equal(code, 0);
    assert.match(stdout, JSON_LINE);
    const { jobs, ...rest } = JSON.parse(stdout);
    const { project, commit, counted_at } = DOCUMENT;
    assert.deepEqual(rest, { source: "document.json", project, pipeline_id: 1004, commit, counted_at, pending: 1 });
    assert.deepEqual(jobs[0], {
      name: "unit tests",
      consecutive_failures: 2,
      failures: 2,
      executions: 4,
      window: "··✗✗",
      last_run: AN_HOUR_AGO,
      alert: { kind: "consecutive", at: AN_HOUR_AGO, pipeline_id: 1001 },
      turned: TURNED,
    });
    assert.deepEqual(
      jobs.map(({ name }: { name: string }) => name),
      ["unit tests", "flaky", "e2e 2", "e2e 10"],
    );
    assert.deepEqual([jobs[2].last_run, jobs[2].alert, jobs[2].turned], [null, null, null]);
    assert.match(stderr, / unit tests$/m);
  });

  test("has null with --json for what no document says", async () => {
    const folder = makeTestFolder(cleanUp);
    const { code, stdout } = await run(["report", "--json"], {}, folder);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), {
      ...{ source: "job_executions.v2.json", project: null, pipeline_id: 0, commit: null, counted_at: null },
      ...{ pending: 0, jobs: [] },
    });
  });

  const AGES: [title: string, maxAge: string, document: object | undefined, exitCode: number][] = [
    ["two hours ago where three are allowed", "3h", withJobs({}), 0],
    ["an hour and a half ago where an hour is allowed", "1h", withJobs({}), 1],
    ["two days ago where three are allowed", "3d", withJobs({}), 0],
    ["four days ago where three are allowed", "3d", withJobs({}), 1],
    ["nobody knows when", "3d", withJobs({}), 1],
    ["never, as there is no document", "3d", undefined, 1],
  ];
  const MINUTES: Record<string, number> = { "two hours": 120, "an hour": 90, "two days": 2_880, "four days": 5_760 };
  for (const [title, maxAge, document, exitCode] of AGES) {
    test(`ends with ${exitCode} under --max-age ${maxAge} where the last pipeline was counted ${title}`, async () => {
      const age = Object.entries(MINUTES).find(([words]) => title.startsWith(words))?.[1];
      const counted_at = age && minutesAgo(age);
      const folder = makeTestFolder(cleanUp, document && { "job_executions.v2.json": { ...document, counted_at } });
      const { code, stdout, stderr } = await run(["report", "--max-age", maxAge], {}, folder);
      assert.equal(code, exitCode);
      assert.match(stdout, /No job is tracked/);
      if (exitCode === 0) assert.equal(stderr, "");
      else assert.match(stderr, /^Error: job_executions\.v2\.json is too old: .*; check that the job runs .*\n$/);
    });
  }

  test("needs no variables but those of the document", async () => {
    const variables = {
      ...{ CI_PIPELINE_ID: "", CI_COMMIT_SHA: "main", CI_API_V4_URL: "nope", GITLAB_TOKEN: "two words" },
      ...{ SLACK_CHANNEL: "#ci", SLACK_API_TOKEN: "", JOB_OWNERS_FILE: "missing" },
    };
    const { code, stderr } = await run(["report"], variables, makeTestFolder(cleanUp));
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
  });

  test("reads only: one GET, also on another branch, and no alert that is still pending is sent", async () => {
    const { runPipeline, requests } = await startScene(cleanUp, DOCUMENT);
    const { code, stdout } = await runPipeline(1005, [listedFailed("unit tests")], ["report"], {
      CI_COMMIT_BRANCH: "topic",
    });
    assert.equal(code, 0);
    assert.match(stdout, / unit tests$/m);
    assert.deepEqual(
      requests().map(({ method, path }) => `${method} ${path}`),
      [`GET /bucket/${KEY}`],
    );
  });

  test("says so where nothing is stored, and stores nothing", async () => {
    const folder = makeTestFolder(cleanUp);
    const { code, stdout } = await run(["report"], {}, folder);
    assert.equal(code, 0);
    assert.match(stdout, /job_executions\.v2\.json: there is no document yet.*\s+No job is tracked/);
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe("the command line", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  test("explains with --help all that is needed by whoever has only this file, in any environment", async () => {
    const { code, stdout, stderr } = await run(["--help"], { CI: "true", CI_DEFAULT_BRANCH: "main" });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(stdout.split("\n")[0]?.startsWith(`check-failures ${VERSION}: `), true);
    assert.match(stdout, /^Usage: node check-failures\.mjs .*the bundle.*Node 20/m);
    assert.match(stdout, /^ +npx tsx check-failures\.ts /m);
    assert.match(stdout, /^Install .*: npm install .*tsx @aws-sdk\/client-s3@\S+ valibot@\S+$/m);
    for (const word of ["report", "--dry-run", "--max-age", "--json", "--version", "--help"])
      assert.match(stdout, new RegExp(`^ +(--version, )?${word}\\b`, "m"));
    assert.match(stdout, /Exit 0: .* 1: .* 2: /);
    for (const { name, standard, description } of describeSettings()) {
      const head = standard ? `${name} (${standard})` : name;
      assert.ok(stdout.includes(`\n  ${head}\n      ${description}`), name);
    }
  });

  test("shows with --help files of jobs, owners and channels that work as they are", async () => {
    const { stdout } = await run(["--help"], {});
    const [jobs = "", channels = ""] = [/^ {2}\[\{"id".*?\]$/ms, /^ {2}\{"@.*\}$/m].map(
      (shape) => shape.exec(stdout)?.[0],
    );
    const owners = /^ {2}(.*@\S+ #\S+)$/m.exec(stdout)?.[1] ?? "";
    const path = makeTestFolder(cleanUp, { "jobs.json": jobs, owners, "channels.json": channels });
    const files = {
      PIPELINE_JOBS_FILE: join(path, "jobs.json"),
      JOB_OWNERS_FILE: join(path, "owners"),
      OWNER_CHANNELS_FILE: join(path, "channels.json"),
    };
    const { jobs: access, network, routing } = settings(files);
    const listing = await openJobs(access, 1005, network, new AbortController().signal)();
    assert.deepEqual(listing.jobs.map(({ name, outcome, stage }) => [name, outcome, stage]).sort(), [
      ["lint", "passed", undefined],
      ["unit tests", "failed", "test"],
    ]);
    assert.deepEqual(listing.warnings, []);
    const { rules, channels: known } = await readOwners(routing);
    assert.equal(rules.length, 1);
    assert.equal(rules[0]?.pattern.test("unit tests"), true);
    assert.equal(
      rules[0]?.owners.every((owner) => owner.startsWith("#") || known.has(owner)),
      true,
    );
  });

  test("prints with --version that of package.json, which is also in the file's first lines", async () => {
    const { code, stdout, stderr } = await run(["--version"], { CI: "true" });
    assert.deepEqual([code, stdout, stderr], [0, `${VERSION}\n`, ""]);
    assert.equal(readFileSync(SCRIPT, "utf8").split("\n")[1]?.startsWith(` * check-failures ${VERSION} `), true);
  });

  test("does nothing where an argument is wrong", async () => {
    const { runPipeline, requests } = await startScene(cleanUp);
    const { code, stdout } = await runPipeline(1005, [listedFailed("unit tests")], ["reprot"]);
    assert.deepEqual([code, stdout, requests()], [2, "", []]);
  });

  test("prints a stack trace with DEBUG, and none without it", async () => {
    const variables = { JOB_EXECUTIONS_URL: "document.json" };
    const folder = makeTestFolder(cleanUp, { "document.json": "not JSON" });
    const [quiet, debugged] = await Promise.all([
      run(["report"], variables, folder),
      run(["report"], { ...variables, DEBUG: "1" }, folder),
    ]);
    assert.deepEqual([quiet.code, debugged.code], [1, 1]);
    assert.match(quiet.stderr, /^Error: document\.json is not JSON: .+\n$/);
    assert.match(debugged.stderr, /Error: document\.json is not JSON: .+\n(.*\n)*?\s+at .+/);
  });

  test("colours failures red, on a terminal that wants it", async (t) => {
    const folder = makeTestFolder(cleanUp, { "document.json": { jobs: { lint: history("·✗✗·") } } });
    const command = [...RUNTIME, SCRIPT, "report"].map((word) => `'${word}'`).join(" ");
    const reportOn = async (variables: Variables) => {
      const env = { TERM: "xterm", JOB_EXECUTIONS_URL: "document.json", ...variables };
      const terminal = ["script", "--quiet", "--return", "--command", command, "/dev/null"];
      const { code, stdout } = await start([], env, folder, terminal).result;
      assert.equal(code, 0, stdout);
      return stdout.split(/\r?\n/).find((line) => line.endsWith("lint"));
    };
    const coloured = await reportOn({}).catch((error) => (error.code === "ENOENT" ? undefined : Promise.reject(error)));
    if (coloured === undefined) return t.skip("script is not installed");
    assert.match(coloured, /^ +·\u001b\[31m✗✗\u001b\[39m· .* lint$/);
    assert.match((await reportOn({ NO_COLOR: "1" })) ?? "", /^ +·✗✗· .* lint$/);
  });

  const COLOURS: [variables: Variables, isRed: boolean][] = [
    [{ GITLAB_CI: "true", GITHUB_ACTIONS: "true" }, false],
    [{ FORCE_COLOR: "1" }, true],
    [{ FORCE_COLOR: "0" }, false],
    [{ NO_COLOR: "1", FORCE_COLOR: "1" }, false],
  ];
  for (const [variables, isRed] of COLOURS) {
    test(`colours a log ${isRed ? "" : "not "}with ${JSON.stringify(variables)}, and never its JSON`, async () => {
      const folder = makeTestFolder(cleanUp, { "document.json": { jobs: { "✗": history("·✗✗·") } } });
      const env = { JOB_EXECUTIONS_URL: "document.json", ...variables };
      const { stdout, stderr } = await run(["report", "--json"], env, folder);
      assert.equal(stderr.includes("\u001b[31m✗✗\u001b[39m"), isRed);
      assert.equal(JSON.parse(stdout).jobs[0].name, "✗");
    });
  }

  test("goes on where the reader of its output leaves, and keeps the alerts that it could not print", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": [listedFailed("unit tests", { id: 1 })] });
    const command = [...RUNTIME, SCRIPT].map((word) => `'${word}'`).join(" ");
    const env = { CI_COMMIT_SHA: "0ddba11", PIPELINE_JOBS_FILE: "jobs.json", CONSECUTIVE_THRESHOLD: "2" };
    writeFileSync(join(folder, KEY), '{"jobs": {}}');
    const piped = ["sh", "-c", `{ ${command}; echo "exit $?" >&2; } | true`];
    const runPipeline = (CI_PIPELINE_ID: string) => start([], { ...env, CI_PIPELINE_ID }, folder, piped).result;
    assert.equal((await runPipeline("1005")).stderr, "exit 0\n");
    const { stderr } = await runPipeline("1006");
    assert.match(stderr, /^Error: stdout refused 1 message: .*EPIPE.*\nexit 1\n$/);
    const { pipeline_id, pending_alerts } = JSON.parse(readFileSync(join(folder, KEY), "utf8"));
    assert.deepEqual([pipeline_id, pending_alerts.length], [1006, 1]);
  });

  test("takes an empty variable of the AWS SDK for one that is not set", async () => {
    const { s3, runPipeline } = await startScene(cleanUp, withJobs({}));
    const folder = makeTestFolder(cleanUp, { config: "[default]\nregion = eu-west-1\n" });
    const profile = { AWS_REGION: "", AWS_CONFIG_FILE: join(folder, "config") };
    const { code, stderr } = await runPipeline(1005, [listedFailed("unit tests")], [], profile);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(s3.requests[0]?.headers.authorization ?? "", /\/eu-west-1\/s3\//);
  });

  test("works in a symlinked checkout", async () => {
    const folder = makeTestFolder(cleanUp);
    symlinkSync(dirname(SCRIPT), join(folder, "checkout"));
    const linked = join(folder, "checkout", basename(SCRIPT));
    const { code, stdout } = await start(["--help"], {}, folder, [...RUNTIME, linked]).result;
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: /m);
  });

  test("runs under whatever name tsx takes for it", async (t) => {
    if (!RUNTIME.includes(import.meta.resolve("tsx"))) return t.skip("only tsx takes other names");
    const folder = makeTestFolder(cleanUp);
    for (const name of ["check-failures", "check-failures.js"]) {
      const { code, stdout } = await start(["--help"], {}, folder, [...RUNTIME, join(dirname(SCRIPT), name)]).result;
      assert.equal(code, 0);
      assert.match(stdout, /^Usage: /m, name);
    }
  });

  test("does not run where the file is imported", async () => {
    const folder = makeTestFolder(cleanUp);
    const importing = fileURLToPath(new URL("./support/importing.ts", import.meta.url));
    const { code, stdout, stderr } = await start(["--help"], {}, folder, [...RUNTIME, importing]).result;
    assert.deepEqual([code, stdout, stderr], [0, "imported\n", ""]);
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe("a document in a local file", () => {
  const cleanUp = makeCleanUp();
  const read = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8"));
  const { signal } = new AbortController();
  const open = (...path: string[]) => {
    const { store, network } = settings({ JOB_EXECUTIONS_URL: join(...path) });
    return openStore(store, network);
  };
  /** Counts pipeline 1005 in such a document. */
  const countIn = (...path: string[]) => runOf([failed("unit tests", { id: 101 })], {}, { store: open(...path) });

  test("is created where the default names it, in the working directory", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": [listedFailed("unit tests", { id: 101 })] });
    const { code } = await run([], FROM_FILE, folder);
    assert.equal(code, 0);
    assert.deepEqual(readdirSync(folder).sort(), ["job_executions.v2.json", "jobs.json"]);
    const { pipeline_id, jobs } = read(folder, "job_executions.v2.json");
    assert.equal(pipeline_id, 1005);
    assert.deepEqual(jobs["unit tests"].jobs_info, [{ id: 101, failing: true, commit: "0ddba11" }]);
  });

  test("is replaced as a whole, never written into, and leaves no temporary file", async () => {
    const before = withJobs({ "unit tests": history("✗") });
    const folder = makeTestFolder(cleanUp, { "document.json": before });
    linkSync(join(folder, "document.json"), join(folder, "what it was.json"));
    await countIn(folder, "document.json");
    assert.deepEqual(readdirSync(folder).sort(), ["document.json", "what it was.json"]);
    assert.deepEqual(read(folder, "what it was.json"), before);
    assert.equal(read(folder, "document.json").pipeline_id, 1005);
  });

  test("is whole where two uploads meet, and neither is an error", async () => {
    const folder = makeTestFolder(cleanUp);
    const store = open(folder, "document.json");
    const texts = ["a", "b"].map((letter) => letter.repeat(5_000_000));
    await Promise.all(texts.map((text) => store.write(Buffer.from(text), undefined, signal)));
    const stored = await store.read(signal);
    assert.equal(texts.includes(stored?.text ?? ""), true);
    assert.deepEqual(readdirSync(folder), ["document.json"]);
  });

  test("may be a symbolic link, which it stays", async () => {
    const folder = makeTestFolder(cleanUp, { "document.json": withJobs({}) });
    symlinkSync("document.json", join(folder, "link.json"));
    await countIn(folder, "link.json");
    assert.equal(read(folder, "document.json").pipeline_id, 1005);
    assert.equal(lstatSync(join(folder, "link.json")).isSymbolicLink(), true);
    assert.deepEqual(readdirSync(folder).sort(), ["document.json", "link.json"]);
  });

  test("may be in a folder that is not there yet", async () => {
    const path = [makeTestFolder(cleanUp), "cache", "job executions", "v2.json"];
    await countIn(...path);
    assert.equal(read(...path).pipeline_id, 1005);
  });
});

describe("a secret", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("of another program is none: it may be a word of the output", async () => {
    const { runPipeline } = await startScene(cleanUp, withJobs({}));
    const others = { SONAR_TOKEN: "pipeline", OTP_TOKEN: "100500", NPM_API_KEY: "counted" };
    const { stdout } = await runPipeline(100500, [], ["--json"], others);
    const { outcome, pipeline_id } = JSON.parse(stdout);
    assert.deepEqual([outcome, pipeline_id], ["counted", 100500]);
  });

  test("in a name is hidden in the table, in a message and in JSON, unless it is too short to be told apart", async () => {
    const [secret, short] = ["xoxb-1234-abcdef", "tests"];
    const jobs = [listedFailed(`unit ${short} ${secret} ${secret}/longer`, { id: 1 })];
    const folder = makeTestFolder(cleanUp, { "jobs.json": jobs, [KEY]: withJobs({}) });
    const secrets = { CI_JOB_TOKEN: secret, GITLAB_TOKEN: short, AWS_SECRET_ACCESS_KEY: `${secret}/longer` };
    const variables = { ...FROM_FILE, ...secrets, CONSECUTIVE_THRESHOLD: "1" };
    const { code, stdout, stderr } = await run(["--json"], variables, folder);
    assert.equal(code, 0);
    assert.deepEqual(Object.keys(JSON.parse(stdout).reached.consecutive), ["unit tests *** ***"]);
    assert.match(stderr, /^🔴 unit tests \*\*\* \*\*\* broken /m); // the message
    assert.match(stderr, / unit tests \*\*\* \*\*\*$/m); // the table
    assert.ok(!(stdout + stderr).includes(secret));
  });

  test("in the address of a proxy is hidden, and the rest of it is not", async () => {
    const jobs = [listedFailed("http://bot:pa55word@proxy.example, bot:pa55word, pa55word", { id: 1 })];
    const folder = makeTestFolder(cleanUp, { "jobs.json": jobs, [KEY]: withJobs({}) });
    const variables = { ...FROM_FILE, https_proxy: "http://bot:pa55word@proxy.example:3128" };
    const { stdout } = await run([], variables, folder);
    assert.match(stdout, / http:\/\/\*\*\*@proxy\.example, \*\*\*, \*\*\*$/m);
  });

  const SESSION_TOKEN = "IQoJb3JpZ2luX2VjEH4aCXVzLW";
  const SECRETS = [TOKEN, JOB_TOKEN, SLACK_TOKEN, SESSION_TOKEN, "T0/B0/stand-in-webhook"];
  /** The parts of secrets, of eight characters each, that a text gives away. */
  const leaksIn = (text: string) =>
    SECRETS.flatMap((secret) => Array.from({ length: secret.length - 7 }, (_, i) => secret.slice(i, i + 8))).filter(
      (part) => text.includes(part),
    );

  const ECHOES: { title: string; server: "s3" | "gitlab" | "slack"; answer: Fault["answer"]; isWebhook?: boolean }[] = [
    {
      title: "GitLab refuses",
      server: "gitlab",
      answer: (response, { headers }) =>
        answerWith(401, `{"message": "${headers["private-token"]} is revoked"}`)(response),
    },
    {
      title: "GitLab lists among the jobs",
      server: "gitlab",
      answer: (response, { headers }) =>
        answerJson(response, [{ id: headers["private-token"], name: "a", status: "failed" }]),
    },
    {
      title: "GitLab redirects with",
      server: "gitlab",
      answer: (response, { headers }) =>
        answerWith(302, "", { location: `http://127.0.0.1:1/login?token=${headers["private-token"]}` })(response),
    },
    {
      title: "Slack refuses",
      server: "slack",
      answer: (response, { headers }) => answerJson(response, { ok: false, error: `invalid ${headers.authorization}` }),
    },
    {
      title: "the server of a webhook repeats",
      server: "slack",
      answer: (response, { path }) => answerWith(404, `Cannot POST ${path}`)(response),
      isWebhook: true,
    },
    {
      title: "the server of a webhook repeats where its answer is cut",
      server: "slack",
      answer: (response, { path }) => answerWith(403, `no_service ${".".repeat(65)} ${path}`)(response),
      isWebhook: true,
    },
    {
      title: "S3 refuses",
      server: "s3",
      answer: (response, { headers }) =>
        s3Error(400, "InvalidToken", `The token ${headers["x-amz-security-token"]} is malformed`)(response),
    },
  ];
  for (const { title, server, answer, isWebhook = false } of ECHOES) {
    test(`that ${title} reaches neither the log nor the document`, async () => {
      const scene = await startScene(cleanUp, withJobs({ "unit tests": history("✗✗") }));
      scene[server].faults.push({ times: 9, answer });
      const webhook = { SLACK_WEBHOOK_URL: scene.slack.webhookUrl, SLACK_API_TOKEN: "", SLACK_CHANNEL: "" };
      const { code, stdout, stderr } = await scene.runPipeline(1005, [listedFailed("unit tests")], ["--json"], {
        AWS_SESSION_TOKEN: SESSION_TOKEN,
        CI_JOB_TOKEN: JOB_TOKEN,
        DEBUG: "1",
        ...(isWebhook && webhook),
      });
      assert.equal(code, 1);
      assert.deepEqual(leaksIn(stdout + stderr + scene.stored()), [], stderr);
    });
  }
});
