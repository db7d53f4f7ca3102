/** The script as its users run it: arguments, exit codes, what stands on stdout and stderr, and no secret anywhere. */
import assert from "node:assert/strict";
import { linkSync, lstatSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { describeSettings, openJobs, openStore } from "../check-failures.ts";
import {
  failed,
  history,
  listed,
  listedFailed,
  listedPassed,
  MINUTE,
  openAlert,
  runOf,
  settings,
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
const pathsOf = ({ requests }: { requests: { path: string }[] }) => requests.map(({ path }) => path);

/** A document with such histories, as a server stores it. */
const withJobs = (jobs: object, rest: object = {}) => ({ pipeline_id: 1004, ...rest, jobs });
const stripOf = ({ jobs_info }: { jobs_info: { failing: boolean }[] }) =>
  jobs_info.map(({ failing }) => (failing ? "✗" : "·")).join("");

/** The variables of pipeline 1005, whose jobs are in a file. */
const FROM_FILE = { CI_PIPELINE_ID: "1005", CI_COMMIT_SHA: "0ddba11", PIPELINE_JOBS_FILE: "jobs.json" };

const { version: VERSION } = JSON.parse(readFileSync(join(dirname(SCRIPT), "package.json"), "utf8"));

const JSON_LINE = /^\{.*\}\n$/;

describe("a run", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("alerts at the third failure in a row once, whatever pipeline comes next", { timeout: MINUTE }, async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp);
    const both = (id: number, job: GitLabJob): [number, GitLabJob[]] => [id, [job, listedPassed("lint")]];
    const pipelines = [
      both(1001, listedFailed("unit tests", { id: 11 })),
      both(1002, listedFailed("unit tests", { id: 12 })),
      both(1000, listedFailed("unit tests", { id: 10 })), // late, and older than all that is known
      both(1003, listedFailed("unit tests", { id: 13 })),
      both(1003, listedFailed("unit tests", { id: 14 })), // a re-run
      both(1003, listedPassed("unit tests", { id: 15 })), // another one
    ];
    const outcomes: unknown[] = [];
    for (const [id, jobs] of pipelines) {
      const { code, stdout } = await runPipeline(id, jobs, ["--json"]);
      const { outcome, stored_pipeline_id, messages } = JSON.parse(stdout);
      outcomes.push([id, code, outcome, stored_pipeline_id, messages.length]);
    }
    assert.deepEqual(outcomes, [
      [1001, 0, "counted", 0, 1], // the hello
      [1002, 0, "counted", 1001, 0],
      [1000, 0, "late", 1002, 0],
      [1003, 0, "counted", 1002, 1],
      [1003, 0, "counted", 1003, 0],
      [1003, 0, "counted", 1003, 0],
    ]);
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => `${channel} ${text.split(" ", 1)}`),
      ["#ci 👋", "#ci 🔴"],
    );
    const { pipeline_id, jobs, passed, hello } = JSON.parse(stored());
    assert.deepEqual([pipeline_id, Object.keys(jobs), Object.keys(passed)], [1003, ["unit tests"], ["lint"]]);
    assert.equal(stripOf(jobs["unit tests"]), "✗✗·");
    const { told, claims, changed_at } = jobs["unit tests"].alert;
    assert.deepEqual([told, claims, hello], [{ "": changed_at }, undefined, undefined]);
  });

  test("prints exactly one JSON object on stdout with --json, and all else on stderr", async () => {
    const document = withJobs({
      "unit tests": history("·✗✗"),
      lint: history("✗✗✗··", { alert: openAlert() }),
    });
    const { runPipeline, slack } = await startScene(cleanUp, document);
    const jobs = [listedFailed("unit tests", { id: 113 }), listedPassed("lint"), listed("deploy", "manual")];
    const { code, stdout, stderr } = await runPipeline(1005, jobs, ["--json"]);
    assert.equal(code, 0);
    assert.match(stdout, JSON_LINE);
    const { messages, ...printed } = JSON.parse(stdout);
    assert.deepEqual(printed, {
      outcome: "counted",
      pipeline_id: 1005,
      stored_pipeline_id: 1004,
      jobs: { failed: 1, passed: 1, not_run: 1 },
      warnings: [],
    });
    const [{ text, ...message }, ...others] = messages;
    assert.deepEqual([message, others], [{ channel: "#ci", delivered: true }, []]);
    assert.match(
      text,
      /^🔴 unit tests broken, 🟢 lint recovered in this project main, pipeline 1005\n\n🔴 unit tests /,
    );
    assert.deepEqual(
      slack.messages.map(({ channel }) => channel),
      ["#ci"],
    );
    assert.match(stderr, /^Pipeline 1005 is counted, after 1004: 1 job failed, 1 passed, 1 did not run$/m);
    assert.match(stderr, /^ +·✗✗✗ +3 +3 of 4 +broken since \d{4}-\d\d-\d\d +unit tests$/m);
    assert.match(stderr, /^Stored in s3:\/\/bucket\/.* at 127\.0\.0\.1:\d+; alerts go to #ci on Slack$/m);
  });

  test("has the text of a message without markup in its JSON, and a channel of null where it went to stdout", async () => {
    const files = { "jobs.json": [listedFailed("a *b* <c>", { id: 1 })], [KEY]: withJobs({}) };
    const folder = makeTestFolder(cleanUp, files);
    const { stdout, stderr } = await run(["--json"], { ...FROM_FILE, CONSECUTIVE_THRESHOLD: "1" }, folder);
    assert.match(stdout, JSON_LINE);
    const [{ channel, text, delivered }] = JSON.parse(stdout).messages;
    assert.deepEqual([channel, delivered], [null, true]);
    assert.match(text, /^🔴 a \*b\* <c> broken in /);
    assert.ok(stderr.includes(text), stderr);
    assert.match(stderr, /; alerts go to this log$/m);
  });

  test("has its warnings in its JSON and on stderr", async () => {
    const jobs = [listedFailed("unit tests"), listedPassed("lint"), listed("docs", "running"), listed("e2e", "manual")];
    const folder = makeTestFolder(cleanUp, { "jobs.json": jobs, [KEY]: withJobs({}) });
    const { code, stdout, stderr } = await run(["--json"], FROM_FILE, folder);
    assert.equal(code, 0);
    const { jobs: counted, warnings, messages } = JSON.parse(stdout);
    assert.deepEqual([counted, messages], [{ failed: 1, passed: 1, not_run: 2 }, []]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /1 job that had not finished: docs/);
    assert.ok(stderr.includes(`Warning: ${warnings[0]}\n`), stderr);
  });

  test("prints the table on stdout, worst first, then where it is stored, and nothing on stderr", async () => {
    const { runPipeline } = await startScene(cleanUp, withJobs({ lint: history("✗·"), "unit tests": history("·✗") }));
    const { stdout, stderr } = await runPipeline(1005, [listedFailed("unit tests"), listedPassed("lint")]);
    assert.match(stdout, /^ +·✗✗ +2 +2 of 3 +unit tests\n +✗·· +0 +1 of 3 +lint\n\nStored in .*\n$/m);
    assert.equal(stderr, "");
  });

  test("stores nothing where nothing ran, warns of it, and ends well", async () => {
    const { runPipeline, stored } = await startScene(cleanUp, withJobs({ lint: history("✗") }));
    const before = stored();
    const { code, stdout, stderr } = await runPipeline(1005, [listed("lint", "skipped")], ["--json"]);
    const { outcome, warnings, messages } = JSON.parse(stdout);
    assert.deepEqual([code, outcome, warnings.length, messages, stored()], [0, "nothing-ran", 1, [], before]);
    assert.match(stderr, /^Warning: No job of this pipeline failed or passed: /m);
    assert.match(stderr, /^Nothing is stored in s3:/m);
  });

  const many = (passed: number, failed: number) => [
    ...Array.from({ length: passed }, (_, i) => listedPassed(`build ${i + 1}`)),
    ...Array.from({ length: failed }, (_, i) => listedFailed(`test ${i + 1}`)),
    ...Array.from({ length: 30 }, (_, i) => listed(`deploy ${i + 1}`, "manual")),
  ];

  for (const [title, jobs, pages, token] of [
    ["a hundred jobs", many(64, 6), 1, {}],
    ["1,200 jobs", many(1_164, 6), 12, {}],
    ["a hundred jobs and no GITLAB_TOKEN", many(64, 6), 1, { GITLAB_TOKEN: "", CI_JOB_TOKEN: JOB_TOKEN }],
  ] as const) {
    test(`without news asks once for the document, and for each hundred jobs, and uploads once, of ${title}`, async () => {
      const { runPipeline, gitlab, s3, requests } = await startScene(cleanUp, withJobs({ "test 1": history("✗") }));
      const { code, stdout, stderr } = await runPipeline(1005, jobs, [], token);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.deepEqual(methodsOf(s3), ["GET", "PUT"]);
      const bridges = Object.keys(token).length > 0 ? [] : ["/api/v4/projects/4242/pipelines/1005/bridges"];
      const ofJobs = Array(pages).fill("/api/v4/projects/4242/pipelines/1005/jobs");
      assert.deepEqual(pathsOf(gitlab).sort(), [...bridges, ...ofJobs]);
      assert.equal(requests().length, 2 + bridges.length + pages);
      assert.equal(/child pipelines are not seen without GITLAB_TOKEN$/m.test(stdout), bridges.length === 0, stdout);
    });
  }

  test("asks and writes nothing in a pipeline of another branch", async () => {
    const { runPipeline, requests } = await startScene(cleanUp);
    const changes = { CI_COMMIT_BRANCH: "feature" };
    const { code, stdout } = await runPipeline(1005, [listedFailed("unit tests")], ["--json"], changes);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), {
      outcome: "not-default-branch",
      pipeline_id: 1005,
      stored_pipeline_id: null,
      jobs: null,
      warnings: [],
      messages: [],
    });
    assert.deepEqual(requests(), []);
  });

  test("ends well in a pipeline of a tag or a merge request that lacks the required variables", async () => {
    const folder = makeTestFolder(cleanUp);
    const { code, stdout, stderr } = await run([], { CI: "true", CI_DEFAULT_BRANCH: "main", S3_SSE: "x" }, folder);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /not a pipeline of the default branch, main/);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("tells of a token of GitLab's that expired once", async () => {
    const { runPipeline, gitlab, stored } = await startScene(cleanUp, withJobs({}));
    const before = stored();
    gitlab.faults.push({ times: 9, answer: answerWith(401) });
    const { code, stdout, stderr } = await runPipeline(1005, []);
    assert.deepEqual([code, stdout, stored()], [1, "", before]);
    assert.match(stderr, /^Error: GitLab at [^\n]* answered 401; set GITLAB_TOKEN [^\n]*\n$/);
  });
});

describe("the first day", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("begins with a hello in front of what else there is to say, which is not said again", async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp);
    const first = await runPipeline(1005, [listedFailed("unit tests")], ["--json"], { CONSECUTIVE_THRESHOLD: "1" });
    assert.deepEqual([first.code, slack.messages.length, slack.messages[0]?.channel], [0, 1, "#ci"]);
    assert.match(slack.messages[0]?.text ?? "", /^👋 .*watches(.*\n)+\n🔴 unit tests broken in /);
    assert.equal(JSON.parse(first.stdout).messages.length, 1);
    assert.equal(JSON.parse(stored()).hello, undefined);

    await runPipeline(1006, [listedPassed("lint")]);
    assert.equal(slack.messages.length, 1);
  });

  test("is told later where the channel can't have it, and the run says why", async () => {
    const { runPipeline, slack } = await startScene(cleanUp);
    slack.errors.set("#ci", "not_in_channel");
    const { code, stderr } = await runPipeline(1005, [listedPassed("lint")]);
    assert.equal(code, 1);
    const advice = "invite the bot to the channel, then retry this job .*";
    assert.match(stderr, new RegExp(`^Error: #ci was not told: Slack at .* answered not_in_channel; ${advice}\n$`));

    slack.errors.clear();
    await runPipeline(1006, [listedPassed("lint")]);
    assert.match(slack.messages[0]?.text ?? "", /^👋 /);
  });

  test("says that the document is new, and that alerts go to this log outside CI", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": [listedPassed("lint")] });
    const { code, stdout, stderr } = await run([], FROM_FILE, folder);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^👋 check-failures now watches /);
    assert.match(stdout, /^Pipeline 1005 is counted, a new document: 0 jobs failed, 1 passed, 0 did not run$/m);
    assert.match(stdout, /^Stored in job_executions\.v2\.json; alerts go to this log$/m);
  });
});

describe("a run with --dry-run", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const DOCUMENT = withJobs({ "unit tests": history("·✗✗") });
  const JOBS = [listedFailed("unit tests"), listedFailed("lint")];

  test("reads what a run reads, asks Slack whether the token is good, and says what it would do", async () => {
    const { runPipeline, s3, gitlab, slack, stored } = await startScene(cleanUp, DOCUMENT);
    const before = stored();
    const { code, stdout, stderr } = await runPipeline(1005, JOBS, ["--dry-run"], {
      CI_PROJECT_URL: "https://git.example/shop",
    });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^Dry run: nothing is sent or written/);
    assert.match(stdout, /^Would send to #ci:\n.*unit tests(.*\n)+.*unit tests \(https:\S+\) failed 3 times in a row/m);
    assert.match(stdout, /^Pipeline 1005 would be counted, after 1004: 2 jobs failed, 0 passed, 0 did not run$/m);
    assert.match(stdout, /^ +·✗✗✗ .*broken .* unit tests$/m);
    assert.match(stdout, /^ +✗ .* lint$/m);
    assert.match(stdout, /^Slack at 127\.0\.0\.1:\d+ takes the token \(auth\.test\)/m);
    assert.doesNotMatch(stdout, /Stored in/);
    assert.deepEqual([methodsOf(s3), pathsOf(slack), stored()], [["GET"], ["/api/auth.test"], before]);
    assert.equal(gitlab.requests.length, 2);
  });

  test("fails where Slack has revoked the token, and says what to do", async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp, DOCUMENT);
    const before = stored();
    slack.faults.push({ times: 9, answer: (response) => answerJson(response, { ok: false, error: "token_revoked" }) });
    const { code, stdout, stderr } = await runPipeline(1005, JOBS, ["--dry-run"]);
    assert.equal(code, 1);
    assert.match(stderr, /^Error: Slack at \S+ answered token_revoked; set SLACK_API_TOKEN to a valid bot token.*\n$/);
    assert.match(stdout, /^Pipeline 1005 would be counted/m);
    assert.doesNotMatch(stdout, /Stored in|takes the token/);
    assert.equal(stored(), before);
  });

  test("says in its JSON that nothing is delivered", async () => {
    const { runPipeline, s3, slack } = await startScene(cleanUp, withJobs({ lint: history("✗✗") }));
    const { stdout } = await runPipeline(1005, [listedFailed("lint")], ["--dry-run", "--json"]);
    assert.match(stdout, JSON_LINE);
    const { outcome, messages } = JSON.parse(stdout);
    assert.deepEqual([outcome, messages.length], ["counted", 1]);
    const { channel, text, delivered } = messages[0];
    assert.deepEqual([channel, delivered], ["#ci", false]);
    assert.match(text, /^🔴 lint broken in /);
    assert.deepEqual([methodsOf(s3), slack.messages], [["GET"], []]);
  });

  test("runs on any branch, also without a token of Slack's", async () => {
    const { runPipeline, requests, stored } = await startScene(cleanUp, DOCUMENT);
    const before = stored();
    const mergeRequest = { CI_COMMIT_BRANCH: undefined, SLACK_API_TOKEN: "", SLACK_CHANNEL: "" };
    const { code, stdout } = await runPipeline(1005, JOBS, ["--dry-run"], mergeRequest);
    assert.equal(code, 0);
    assert.match(stdout, /Would send:\n🔴 unit tests broken in /);
    assert.deepEqual(new Set(methodsOf({ requests: requests() })), new Set(["GET"]));
    assert.equal(stored(), before);
  });
});

describe("a report", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * MINUTE).toISOString();
  /** A document whose latest pipeline was counted three hours ago, with an alert that nobody was told of. */
  const DOCUMENT = {
    pipeline_id: 1004,
    commit: "0ddba11",
    counted_at: minutesAgo(180),
    project: { name: "acme/shop", url: "https://gitlab.example.com/acme/shop", ci: "gitlab" },
    days: 7,
    jobs: {
      "unit tests": history("··✗✗✗", { alert: openAlert("consecutive", { told: undefined }) }),
      "e2e 10": history("✗·"),
      "e2e 2": history("✗·"),
      flaky: history("✗·✗·✗·✗·✗·", { alert: openAlert("cumulative") }),
    },
    passed: { lint: { commit: "0ddba11", pipeline: 1004, day: 7 } },
  };
  const reportOn = (document: object, ...args: string[]) => {
    const folder = makeTestFolder(cleanUp, { "document.json": document });
    return run(["report", ...args], { JOB_EXECUTIONS_URL: "document.json" }, folder);
  };

  test("prints what is known of the document and the table of all its jobs, without a pipeline", async () => {
    const more = Array.from({ length: 50 }, (_, i) => [`job ${i}`, history("✗")]);
    const { code, stdout, stderr } = await reportOn({
      ...DOCUMENT,
      jobs: { ...DOCUMENT.jobs, ...Object.fromEntries(more) },
    });
    assert.deepEqual([code, stderr], [0, ""]);
    const [first = "", ...table] = stdout.split("\n");
    assert.equal(
      first,
      `acme/shop, document.json: pipeline 1004 was counted 3 hours ago, at ${DOCUMENT.counted_at}; the broadcast channel does not know 1 alert`,
    );
    assert.match(stdout, /^54 jobs: 1 broken, 1 failing often, 52 only watched$/m);
    assert.deepEqual(
      table.flatMap((line) => / (unit tests|e2e \d+|flaky)$/.exec(line)?.[1] ?? []),
      ["unit tests", "flaky", "e2e 2", "e2e 10"],
    );
    assert.equal(table.filter((line) => / job \d+$/.test(line)).length, 50);
  });

  test("prints the document as it is stored, with its source, as one JSON object with --json", async () => {
    const { code, stdout, stderr } = await reportOn(DOCUMENT, "--json");
    assert.equal(code, 0);
    assert.match(stdout, JSON_LINE);
    assert.deepEqual(JSON.parse(stdout), { source: "document.json", ...JSON.parse(JSON.stringify(DOCUMENT)) });
    assert.match(stderr, / unit tests$/m);
  });

  const alertOf = (days: number, isTold: boolean) => {
    const at = minutesAgo(days * 1_440);
    return openAlert("consecutive", { at, changed_at: at, told: isTold ? { "": at } : undefined });
  };
  for (const [title, counted, alert, exitCode, says] of [
    ["is fresh, and whose alert was told long ago", 1_440, alertOf(5, true), 0, /^$/],
    ["is stale", 4 * 1_440, alertOf(5, true), 1, /^Error: document\.json: it is stale: [^\n]*4 days ago[^\n]*\n$/],
    [
      "has lost its voice",
      1_440,
      alertOf(5, false),
      1,
      /^Error: document\.json: [^\n]*not[^\n]*told[^\n]*5 days[^\n]*\n$/,
    ],
  ] as const) {
    test(`ends with ${exitCode} under --max-age 3d of a document that ${title}`, async () => {
      const document = withJobs({ lint: history("✗✗✗", { alert }) }, { counted_at: minutesAgo(counted) });
      const { code, stdout, stderr } = await reportOn(document, "--max-age", "3d");
      assert.equal(code, exitCode);
      assert.match(stdout, /^document\.json: (.*\n)+.* lint\n$/);
      assert.match(stderr, says);
    });
  }

  test("needs no variables but those of the document, says so where nothing is stored, and stores nothing", async () => {
    const variables = {
      ...{ CI_PIPELINE_ID: "", CI_COMMIT_SHA: "main", CI_API_V4_URL: "nope", GITLAB_TOKEN: "two words" },
      ...{ SLACK_CHANNEL: "#ci", SLACK_API_TOKEN: "", PIPELINE_JOBS_FILE: "missing" },
    };
    const folder = makeTestFolder(cleanUp);
    const [once, watched] = await Promise.all([
      run(["report"], variables, folder),
      run(["report", "--max-age", "3d"], variables, folder),
    ]);
    assert.deepEqual([once.code, once.stderr, watched.code], [0, "", 1]);
    assert.match(once.stdout, /^job_executions\.v2\.json: there is no document yet.*\s+No job is tracked/);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("reads only: one GET, also on another branch, and no alert that nobody knows is told", async () => {
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
});

describe("the command line", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("explains with --help all that is needed by whoever has only this file, in any environment", async () => {
    const { code, stdout, stderr } = await run(["--help"], { CI: "true", CI_DEFAULT_BRANCH: "main" });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(stdout.split("\n")[0]?.startsWith(`check-failures ${VERSION}: `), true);
    assert.match(stdout, /node check-failures\.mjs .*Node 20/);
    assert.match(stdout, /npx tsx check-failures\.ts /);
    assert.match(stdout, /npm install .*tsx @aws-sdk\/client-s3@\S+ valibot@\S+$/m);
    for (const word of ["report", "--dry-run", "--max-age", "--json", "--version", "--help"])
      assert.match(stdout, new RegExp(`^ +(--version, )?${word}\\b`, "m"));
    assert.match(stdout, /Exit 0: .* 1: .* 2: /);
    for (const { name, standard, description } of describeSettings()) {
      const head = standard ? `${name} (${standard})` : name;
      assert.ok(stdout.includes(`\n  ${head}\n      ${description}\n`) || stdout.endsWith(`${description}\n`), name);
    }
  });

  test("shows with --help a file of jobs and lines of JOB_RULES that work as they are", async () => {
    const { stdout } = await run(["--help"], {});
    const jobs = /^ {2}\[\{"id".*?\]$/ms.exec(stdout)?.[0] ?? "";
    const [JOB_RULES = ""] = /^( {2}\S.* (#\S+|\d+\/\d+|ignore)\b.*\n){3}/m.exec(stdout) ?? [];
    const path = makeTestFolder(cleanUp, { "jobs.json": jobs });
    const { jobs: access, limits } = settings({ PIPELINE_JOBS_FILE: join(path, "jobs.json"), JOB_RULES });
    const listing = await openJobs(access, 1005, new AbortController().signal)();
    assert.deepEqual(listing.jobs.map(({ name, outcome, stage }) => [name, outcome, stage]).sort(), [
      ["lint", "passed", undefined],
      ["unit tests", "failed", "test"],
    ]);
    assert.deepEqual(listing.warnings, []);
    assert.equal(limits.JOB_RULES.length, 3);
    assert.ok(limits.JOB_RULES.some(({ channels, mentions }) => channels.length === 1 && mentions.length === 1));
    assert.ok(limits.JOB_RULES.some(({ ignore }) => ignore));
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

  test("goes on where the reader of its output leaves, and the next run tells what it could not print", async () => {
    const folder = makeTestFolder(cleanUp, {
      "jobs.json": [listedFailed("unit tests", { id: 1 })],
      [KEY]: withJobs({}),
    });
    const command = [...RUNTIME, SCRIPT].map((word) => `'${word}'`).join(" ");
    const env = { ...FROM_FILE, CONSECUTIVE_THRESHOLD: "1" };
    const { stderr } = await start([], env, folder, ["sh", "-c", `{ ${command}; echo "exit $?" >&2; } | true`]).result;
    assert.match(stderr, /^Error: Cannot print: .*EPIPE.*\nexit 1\n$/);
    const { pipeline_id, jobs } = JSON.parse(readFileSync(join(folder, KEY), "utf8"));
    assert.deepEqual([pipeline_id, jobs["unit tests"].alert.told], [1005, undefined]);
    assert.match((await run([], env, folder)).stdout, /^🔴 unit tests broken in /);
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
    const { code, stdout } = await start(["--version"], {}, folder, [...RUNTIME, linked]).result;
    assert.deepEqual([code, stdout], [0, `${VERSION}\n`]);
  });

  test("runs under whatever name tsx takes for it", async (t) => {
    if (!RUNTIME.includes(import.meta.resolve("tsx"))) return t.skip("only tsx takes other names");
    const folder = makeTestFolder(cleanUp);
    for (const name of ["check-failures", "check-failures.js"]) {
      const { code, stdout } = await start(["--version"], {}, folder, [...RUNTIME, join(dirname(SCRIPT), name)]).result;
      assert.deepEqual([code, stdout], [0, `${VERSION}\n`], name);
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
  const open = (...path: string[]) => openStore(settings({ JOB_EXECUTIONS_URL: join(...path) }).store);
  /** Counts pipeline 1005 in such a document. */
  const countIn = (...path: string[]) => runOf([failed("unit tests", { id: 101 })], {}, { store: open(...path) });

  test("is created where the default names it, in the working directory", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": [listedFailed("unit tests", { id: 101 })] });
    const { code } = await run([], FROM_FILE, folder);
    assert.equal(code, 0);
    assert.deepEqual(readdirSync(folder).sort(), ["job_executions.v2.json", "jobs.json"]);
    const { pipeline_id, jobs } = read(folder, "job_executions.v2.json");
    assert.equal(pipeline_id, 1005);
    assert.deepEqual(jobs["unit tests"].jobs_info, [{ id: 101, failing: true, commit: "0ddba11", pipeline: 1005 }]);
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
    const { stdout } = await runPipeline(100500, [listedPassed("lint")], ["--json"], others);
    const { outcome, pipeline_id } = JSON.parse(stdout);
    assert.deepEqual([outcome, pipeline_id], ["counted", 100500]);
  });

  test("in a name is hidden in the table, in a message and in JSON, unless it is too short to be told apart", async () => {
    const [secret, short] = ['xoxb-"1234"-abcdef', "tests"];
    const jobs = [listedFailed(`unit ${short} ${secret} ${secret}/longer`, { id: 1 })];
    const folder = makeTestFolder(cleanUp, { "jobs.json": jobs, [KEY]: withJobs({}) });
    const secrets = { CI_JOB_TOKEN: secret, GITLAB_TOKEN: short, AWS_SECRET_ACCESS_KEY: `${secret}/longer` };
    const variables = { ...FROM_FILE, ...secrets, CONSECUTIVE_THRESHOLD: "1" };
    const { code, stdout, stderr } = await run(["--json"], variables, folder);
    assert.equal(code, 0);
    assert.match(JSON.parse(stdout).messages[0].text, /^🔴 unit tests \*\*\* \*\*\* broken /);
    assert.match(stderr, /^🔴 unit tests \*\*\* \*\*\* broken /m); // the message
    assert.match(stderr, / unit tests \*\*\* \*\*\*$/m); // the table
    assert.doesNotMatch(stdout + stderr, /1234|abcdef/);
  });

  test("in an argument is hidden in what is said of it", async () => {
    const { code, stderr } = await run([SLACK_TOKEN], { SLACK_API_TOKEN: SLACK_TOKEN }, makeTestFolder(cleanUp));
    assert.equal(code, 2);
    assert.match(stderr, /\*\*\*/);
    assert.ok(!stderr.includes(SLACK_TOKEN));
  });

  const SESSION_TOKEN = "IQoJb3JpZ2luX2VjEH4aCXVzLW";
  const SECRETS = [TOKEN, JOB_TOKEN, SLACK_TOKEN, SESSION_TOKEN];
  /** The parts of secrets, of eight characters each, that a text gives away. */
  const leaksIn = (text: string) =>
    SECRETS.flatMap((secret) => Array.from({ length: secret.length - 7 }, (_, i) => secret.slice(i, i + 8))).filter(
      (part) => text.includes(part),
    );

  const ECHOES: { title: string; server: "s3" | "gitlab" | "slack"; answer: Fault["answer"] }[] = [
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
      title: "Slack repeats where its answer is cut",
      server: "slack",
      answer: (response, { headers }) =>
        answerJson(response, { ok: false, error: `${".".repeat(85)} ${headers.authorization}` }),
    },
    {
      title: "a proxy answers with, in front of Slack",
      server: "slack",
      answer: (response, { headers }) => answerWith(403, `${headers.authorization}`.slice(7))(response),
    },
    {
      title: "S3 refuses",
      server: "s3",
      answer: (response, { headers }) =>
        s3Error(400, "InvalidToken", `The token ${headers["x-amz-security-token"]} is malformed`)(response),
    },
  ];
  for (const { title, server, answer } of ECHOES) {
    test(`that ${title} reaches neither the log nor the document`, async () => {
      const scene = await startScene(cleanUp, withJobs({ "unit tests": history("✗✗") }));
      scene[server].faults.push({ times: 9, answer });
      const { code, stdout, stderr } = await scene.runPipeline(1005, [listedFailed("unit tests")], ["--json"], {
        AWS_SESSION_TOKEN: SESSION_TOKEN,
        CI_JOB_TOKEN: JOB_TOKEN,
        DEBUG: "1",
      });
      assert.equal(code, 1);
      assert.deepEqual(leaksIn(stdout + stderr + scene.stored()), [], stderr);
    });
  }
});

describe("npm run demo", { skip: !RUNTIME.includes("--import") && "one runtime is enough" }, () => {
  const cleanUp = makeCleanUp();

  test("shows on one screen a hello, two messages, the table and the page, whose numbers agree", async () => {
    const folder = makeTestFolder(cleanUp);
    const demo = fileURLToPath(new URL("./tools/demo.ts", import.meta.url));
    const { code, stdout, stderr } = await start([], { TMPDIR: folder, TSX_DISABLE_CACHE: "1" }, folder, [
      ...RUNTIME,
      demo,
    ]).result;
    assert.deepEqual([code, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n");
    assert.ok(lines.length <= 35, `${lines.length} lines`);
    assert.match(stdout, /^👋 check-failures now watches /);
    assert.deepEqual(
      lines.filter((line) => / in acme\/shop main\b.*, pipeline \d+$/.test(line)),
      [
        '🔴 40 jobs broken in acme/shop main since "Move the base image to Debian 13", pipeline 1004',
        "🟠 e2e: checkout 2/3 failing often, 🟢 40 jobs recovered in acme/shop main, pipeline 1007",
      ],
    );

    const [, all, broken, often, watched] =
      /^(\d+) jobs: (\d+) broken, (\d+) failing often, (\d+) only watched$/m.exec(stdout)?.map(Number) ?? [];
    assert.deepEqual([all, broken, often, watched], [41, 0, 1, 40]);
    const rows = lines.filter((line) => /^ *[✗·]+ +\d+ +\d+ of \d+ /.test(line)).length;
    const [, more] = /^and (\d+) more/m.exec(stdout)?.map(Number) ?? [];
    assert.equal(rows + (more ?? 0), all);

    const [, file = ""] = /^The page: (.*)$/.exec(lines.at(-1) ?? "") ?? [];
    const page = readFileSync(file, "utf8");
    assert.match(page, /^<!doctype html>/i);
    assert.equal(new Set(page.match(/unit tests \d+\/40/g)).size, watched);
    assert.match(page, /e2e: checkout 2\/3/);
    assert.deepEqual(readdirSync(folder), [basename(dirname(file))]); // all that it writes
  });
});
