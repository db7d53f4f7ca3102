import assert from "node:assert/strict";
import { linkSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { describeSettings, openStore } from "../check-failures.ts";
import {
  documentOf,
  history,
  listedFailed,
  listedPassed,
  openAlert,
  pendingAlert,
  settings,
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

const escapeRegExp = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

const methodsOf = ({ requests }: { requests: { method: string }[] }) => requests.map(({ method }) => method);

describe("a run", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  test("tells of the third failure in a row once, whatever pipeline comes next", { timeout: 60_000 }, async () => {
    const { runPipeline, slack, stored } = await startScene(cleanUp);
    const pipelines: [id: number, jobs: GitLabJob[]][] = [
      [1001, [listedFailed("unit tests", { id: 11 }), listedPassed("lint")]],
      [1002, [listedFailed("unit tests", { id: 12 }), listedPassed("lint")]],
      [1000, [listedFailed("unit tests", { id: 10 }), listedPassed("lint")]],
      [1003, [listedFailed("unit tests", { id: 13 }), listedPassed("lint")]],
      [1003, [listedFailed("unit tests", { id: 13 }), listedPassed("lint")]],
      [1004, [listedFailed("unit tests", { id: 14 }), listedPassed("lint")]],
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
    ]);
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => `${channel} ${text.split(" ", 1)}`),
      ["#ci 👋", "#ci 🔴"],
    );
    const { pipeline_id, jobs, pending_alerts } = JSON.parse(stored());
    assert.equal(pipeline_id, 1004);
    assert.deepEqual(Object.keys(jobs), ["unit tests"]);
    assert.equal(jobs["unit tests"].consecutive_failures, 4);
    assert.equal(pending_alerts, undefined);
  });

  test("prints one JSON object on stdout with --json, and the table on stderr", async () => {
    const { runPipeline, slack } = await startScene(cleanUp, {
      pipeline_id: 1004,
      jobs: { "unit tests": history("·✗✗"), lint: history("✗✗✗··", { alert: openAlert("consecutive") }) },
    });
    const { code, stdout, stderr } = await runPipeline(
      1005,
      [listedFailed("unit tests", { id: 113 }), listedPassed("lint")],
      ["--json"],
    );
    assert.equal(code, 0);
    assert.equal(stdout.trimEnd().split("\n").length, 1);
    assert.deepEqual(JSON.parse(stdout), {
      outcome: "counted",
      pipeline_id: 1005,
      stored_pipeline_id: 1004,
      reached: { consecutive: { "unit tests": [102, 103, 113] }, cumulative: {}, recovered: ["lint"], gone: [] },
      messages: [{ channel: "#ci", text: slack.messages[0]?.text, delivered: true }],
    });
    assert.match(stderr, /^unit tests +·✗✗✗ +3 +3 +broken \d{4}-\d\d-\d\d$/m);
    assert.match(stderr, /^lint +✗✗✗··· +0 +3$/m);
    assert.match(stderr, /^Stored in s3:\/\/bucket\/.* at 127\.0\.0\.1:\d+; alerts go to #ci on Slack$/m);
  });

  test("prints the table on stdout, worst first, and nothing on stderr", async () => {
    const { runPipeline } = await startScene(cleanUp, {
      pipeline_id: 1004,
      jobs: { lint: history("✗·"), "unit tests": history("·✗") },
    });
    const { stdout, stderr } = await runPipeline(1005, [listedFailed("unit tests"), listedPassed("lint")]);
    assert.match(stdout, /^unit tests +·✗✗ +2 +2\nlint +✗·· +0 +1$/m);
    assert.equal(stderr, "");
  });

  const MANY = [
    ...Array.from({ length: 1_194 }, (_, i) => listedPassed(`build ${i + 1}`)),
    ...Array.from({ length: 6 }, (_, i) => listedFailed(`test ${i + 1}`)),
  ];

  const NONE = { pipeline_id: 1004, jobs: {} };

  test("makes four requests for 1,200 jobs, six of them failed, where none is tracked", async () => {
    const { runPipeline, gitlab, s3, requests } = await startScene(cleanUp, NONE);
    const { code, stderr } = await runPipeline(1005, MANY);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(methodsOf(s3), ["GET", "PUT"]);
    assert.deepEqual(
      gitlab.requests.map(({ path, query }) => `${path.split("/").at(-1)} ${query.getAll("scope[]")}`).sort(),
      ["bridges ", "jobs failed"],
    );
    assert.equal(requests().length, 4);
  });

  test("does not ask for the succeeded jobs where each tracked job is among the failed", async () => {
    const { runPipeline, requests } = await startScene(cleanUp, {
      pipeline_id: 1004,
      jobs: { "test 1": history("✗"), "test 6": history("✗·") },
    });
    const { code } = await runPipeline(1005, MANY);
    assert.equal(code, 0);
    assert.equal(requests().length, 4);
  });

  test("asks for the pages of the succeeded jobs once where a tracked job is not among the failed", async () => {
    const { runPipeline, gitlab, requests, stored } = await startScene(cleanUp, {
      pipeline_id: 1004,
      jobs: { "test 1": history("✗"), "build 1194": history("✗") },
    });
    const { code } = await runPipeline(1005, MANY);
    assert.equal(code, 0);
    const pages = gitlab.requests.filter(({ query }) => query.get("scope[]") === "success");
    assert.deepEqual(
      pages.map(({ query }) => Number(query.get("page"))).sort((a, b) => a - b),
      Array.from({ length: 12 }, (_, i) => i + 1),
    );
    assert.equal(requests().length, 4 + 12);
    assert.equal(JSON.parse(stored()).jobs["build 1194"].consecutive_failures, 0);
  });

  const OTHER_BRANCHES = [
    { title: "another branch", changes: { CI_COMMIT_BRANCH: "feature" } },
    { title: "a tag or a merge request", changes: { CI_COMMIT_BRANCH: undefined } },
    { title: "an empty branch", changes: { CI_COMMIT_BRANCH: "" } },
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
    assert.match(stdout, /would be stored/);
    assert.match(stdout, /^unit tests +·✗✗✗ .*broken /m);
    assert.match(stdout, /^lint +✗ /m);
    assert.deepEqual(methodsOf(s3), ["GET"]);
    assert.deepEqual(slack.requests, []);
    assert.equal(stored(), before);
  });

  test("says with --dry-run --json that nothing is delivered", async () => {
    const { runPipeline, requests } = await startScene(cleanUp, { pipeline_id: 1004, jobs: { lint: history("✗✗") } });
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
    const { code, stderr } = await runPipeline(1005, []);
    assert.equal(code, 1);
    assert.match(stderr, /^Error: 1 of 1 messages not delivered.* #ci: Slack .* not_in_channel; invite the bot/);
    assert.match(JSON.parse(stored()).pending_alerts[0].text, /^👋/);
  });

  test("warns where CI is set and no Slack is", async () => {
    const { runPipeline } = await startScene(cleanUp, { pipeline_id: 1004, jobs: {} });
    const noSlack = { SLACK_API_TOKEN: "", SLACK_CHANNEL: "" };
    const inCi = await runPipeline(1005, [], [], { ...noSlack, CI: "true" });
    assert.equal(inCi.code, 0);
    assert.match(inCi.stderr, /^Warning: Alerts are only in this log: set SLACK_API_TOKEN .*SLACK_WEBHOOK_URL\n$/);
    const elsewhere = await runPipeline(1006, [], [], { ...noSlack, CI: "false" });
    assert.equal(elsewhere.stderr, "");
  });

  test("fails where the ids began anew, and leaves the document as it was", async () => {
    const eightDaysAgo = new Date(Date.now() - 8 * 86_400_000).toISOString();
    const { runPipeline, stored } = await startScene(cleanUp, {
      pipeline_id: 1004,
      counted_at: eightDaysAgo,
      jobs: {},
    });
    const before = stored();
    const { code, stdout, stderr } = await runPipeline(12, []);
    assert.deepEqual([code, stdout, stored()], [1, "", before]);
    assert.match(
      stderr,
      /^Error: Cannot count pipeline 12: it is older than 1004.*began anew.*JOB_EXECUTIONS_URL.*\n$/,
    );
  });

  test("is only out of order where the document was counted within a week, or nobody knows when", async () => {
    const sixDaysAgo = new Date(Date.now() - 6 * 86_400_000).toISOString();
    for (const counted_at of [sixDaysAgo, undefined]) {
      const { runPipeline } = await startScene(cleanUp, { pipeline_id: 1004, counted_at, jobs: {} });
      const { code, stdout } = await runPipeline(12, [], ["--json"]);
      assert.deepEqual([code, JSON.parse(stdout).outcome], [0, "out-of-order"]);
    }
  });

  test("says what waits for a later run", async () => {
    const due = new Date(Date.now() + 60_000).toISOString();
    const document = { ...documentOf(), pending_alerts: [pendingAlert("x", { due })] };
    const { runPipeline } = await startScene(cleanUp, JSON.parse(textOf(document)));
    const { code, stderr } = await runPipeline(1005, []);
    assert.equal(code, 0);
    assert.match(stderr, /^Warning: 1 message of other runs will be sent by a later one\n$/);
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
    assert.match(stdout, /^Pipeline 1005 would be counted, after 1004$/m);
    assert.deepEqual(new Set(requests().map(({ method }) => method)), new Set(["GET"]));
    assert.equal(stored(), before);
  });

  test("reads a document of version 1, and delivers what waits in it", async () => {
    const pending_alerts = [{ channel: null, text: "of version 1", claimed_at: "2026-11-23T10:00:00Z" }];
    const { runPipeline, slack, stored } = await startScene(cleanUp, { pipeline_id: 1004, jobs: {}, pending_alerts });
    const { code } = await runPipeline(1005, []);
    assert.equal(code, 0);
    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      ["of version 1"],
    );
    assert.equal(JSON.parse(stored()).pending_alerts, undefined);
  });
});

describe("a report", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const DOCUMENT = fileURLToPath(new URL("../fixtures/report/document.json", import.meta.url));

  test("prints the table of the stored document, without a pipeline", async () => {
    const { code, stdout, stderr } = await run(["report"], { JOB_EXECUTIONS_URL: DOCUMENT, CI_PIPELINE_ID: "" });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(
      stdout,
      /document\.json: pipeline 123 was counted last, at 2026-11-23T10:00:00\.000Z; 1 message not delivered yet\n/,
    );
    assert.match(stdout, /^unit tests +·✗✗ +2 +2 +broken 2026-11-22$/m);
  });

  test("prints one JSON object on stdout with --json", async () => {
    const { code, stdout } = await run(["report", "--json"], { JOB_EXECUTIONS_URL: DOCUMENT });
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), {
      pipeline_id: 123,
      counted_at: "2026-11-23T10:00:00.000Z",
      jobs: [{ name: "unit tests", consecutive_failures: 2, failures: 2, executions: 3 }],
    });
  });

  test("needs no variables but those of the document", async () => {
    const variables = {
      ...{ CI_PIPELINE_ID: "", CI_COMMIT_SHA: "main", CI_API_V4_URL: "nope", GITLAB_TOKEN: "two words" },
      ...{ SLACK_CHANNEL: "#ci", SLACK_API_TOKEN: "", JOB_OWNERS_FILE: "missing" },
    };
    const { code, stderr } = await run(["report"], { JOB_EXECUTIONS_URL: DOCUMENT, ...variables });
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
  });

  test("reads only: one GET, also on another branch, and no alert that is still pending is sent", async () => {
    const { runPipeline, requests } = await startScene(cleanUp, JSON.parse(readFileSync(DOCUMENT, "utf8")));
    const { code, stdout } = await runPipeline(1005, [listedFailed("unit tests")], ["report"], {
      CI_COMMIT_BRANCH: "topic",
    });
    assert.equal(code, 0);
    assert.match(stdout, /^unit tests /m);
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
  test("explains itself with --help, in any environment", async () => {
    const { code, stdout, stderr } = await run(["--help"], {});
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^Usage: tsx check-failures\.ts /m);
    for (const word of ["report", "--dry-run", "--json", "--help"])
      assert.match(stdout, new RegExp(`^ +${word} `, "m"));
    for (const { name, description } of describeSettings())
      assert.match(stdout, new RegExp(`^  ${name}( .*)?\n +${escapeRegExp(description)}$`, "m"));
    assert.match(stdout, /^Install: npm install /m);
  });

  test("has the version of package.json in --help and in the file's first lines", async () => {
    const { version } = JSON.parse(readFileSync(join(dirname(SCRIPT), "package.json"), "utf8"));
    const { stdout } = await run(["--help"], {});
    assert.equal(
      stdout.split("\n")[0],
      `check-failures ${version}: tells the owners of a CI job when it fails consistently`,
    );
    assert.equal(readFileSync(SCRIPT, "utf8").split("\n")[1]?.startsWith(` * check-failures ${version}: `), true);
  });

  for (const arg of ["--nope", "reprot"]) {
    test(`refuses ${arg} with one line on stderr, and does nothing`, async () => {
      const { runPipeline, requests } = await startScene(cleanUp);
      const { code, stdout, stderr } = await runPipeline(1005, [listedFailed("unit tests")], [arg]);
      assert.deepEqual([code, stdout], [2, ""]);
      assert.match(stderr, new RegExp(`^Error: .*${arg}.*\n$`));
      assert.deepEqual(requests(), []);
    });
  }

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
      return stdout.split("\n").find((line) => line.startsWith("lint"));
    };
    const coloured = await reportOn({}).catch((error) => (error.code === "ENOENT" ? undefined : Promise.reject(error)));
    if (coloured === undefined) return t.skip("script is not installed");
    assert.match(coloured, /^lint +·\u001b\[31m✗✗\u001b\[39m· /);
    assert.match((await reportOn({ NO_COLOR: "1" })) ?? "", /^lint +·✗✗· /);
  });

  const COLOURS: [variables: Variables, isRed: boolean][] = [
    [{}, false],
    [{ GITLAB_CI: "true" }, true],
    [{ GITHUB_ACTIONS: "true" }, true],
    [{ FORCE_COLOR: "1" }, true],
    [{ FORCE_COLOR: "0", GITLAB_CI: "true" }, false],
    [{ NO_COLOR: "1", GITLAB_CI: "true", FORCE_COLOR: "1" }, false],
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
    assert.match(stderr, /^Error: 1 of 1 messages not delivered.*: Cannot print: .*EPIPE.*\nexit 1\n$/);
    const { pipeline_id, pending_alerts } = JSON.parse(readFileSync(join(folder, KEY), "utf8"));
    assert.deepEqual([pipeline_id, pending_alerts.length], [1006, 1]);
  });

  test("takes an empty variable of the AWS SDK for one that is not set", async () => {
    const { s3, runPipeline } = await startScene(cleanUp, { jobs: {} });
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

describe("a document in a local file", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const JOBS = [listedFailed("unit tests", { id: 101 })];
  const variables = { CI_PIPELINE_ID: "1005", CI_COMMIT_SHA: "0ddba11", PIPELINE_JOBS_FILE: "jobs.json" };
  const read = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8"));

  test("is created where the default names it, in the working directory", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": JOBS });
    const { code } = await run([], variables, folder);
    assert.equal(code, 0);
    assert.deepEqual(readdirSync(folder).sort(), ["job_executions.v2.json", "jobs.json"]);
    const { pipeline_id, jobs } = read(folder, "job_executions.v2.json");
    assert.equal(pipeline_id, 1005);
    assert.deepEqual(jobs["unit tests"].jobs_info, [{ id: 101, failing: true, commit: "0ddba11" }]);
  });

  test("is replaced as a whole, never written into, and leaves no temporary file", async () => {
    const before = { pipeline_id: 1004, jobs: { "unit tests": history("✗") } };
    const folder = makeTestFolder(cleanUp, { "document.json": before, "jobs.json": JOBS });
    linkSync(join(folder, "document.json"), join(folder, "what it was.json"));
    const { code } = await run([], { ...variables, JOB_EXECUTIONS_URL: "document.json" }, folder);
    assert.equal(code, 0);
    assert.deepEqual(readdirSync(folder).sort(), ["document.json", "jobs.json", "what it was.json"]);
    assert.deepEqual(read(folder, "what it was.json"), before);
    assert.equal(read(folder, "document.json").pipeline_id, 1005);
  });

  test("is whole where two uploads meet, and neither is an error", async () => {
    const folder = makeTestFolder(cleanUp);
    const { store: access, network } = settings({ JOB_EXECUTIONS_URL: join(folder, "document.json") });
    const store = openStore(access, network);
    const { signal } = new AbortController();
    const texts = ["a", "b"].map((letter) => letter.repeat(5_000_000));
    await Promise.all(texts.map((text) => store.write(Buffer.from(text), undefined, signal)));
    const stored = await store.read(signal);
    assert.equal(texts.includes(stored?.text ?? ""), true);
    assert.deepEqual(readdirSync(folder), ["document.json"]);
  });

  test("may be a symbolic link, which it stays", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": JOBS, "document.json": { pipeline_id: 1004, jobs: {} } });
    symlinkSync("document.json", join(folder, "link.json"));
    const { code } = await run([], { ...variables, JOB_EXECUTIONS_URL: "link.json" }, folder);
    assert.equal(code, 0);
    assert.equal(read(folder, "document.json").pipeline_id, 1005);
    assert.deepEqual(readdirSync(folder).sort(), ["document.json", "jobs.json", "link.json"]);
  });

  test("may be in a folder that is not there yet", async () => {
    const folder = makeTestFolder(cleanUp, { "jobs.json": JOBS });
    const path = join(folder, "cache", "job executions", "v2.json");
    const { code } = await run([], { ...variables, JOB_EXECUTIONS_URL: path }, folder);
    assert.equal(code, 0);
    assert.equal(read(path).pipeline_id, 1005);
  });

  test("stays as it was, byte for byte, after an error", async () => {
    const before = '{ "jobs": {}, "pipeline_id": 1004 }\n';
    const folder = makeTestFolder(cleanUp, { "document.json": before, "jobs.json": "[{}]" });
    const { code } = await run([], { ...variables, JOB_EXECUTIONS_URL: "document.json" }, folder);
    assert.equal(code, 1);
    assert.equal(readFileSync(join(folder, "document.json"), "utf8"), before);
    assert.deepEqual(readdirSync(folder).sort(), ["document.json", "jobs.json"]);
  });
});

describe("a secret", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("of another program is none: it may be a word of the output", async () => {
    const { runPipeline } = await startScene(cleanUp, { jobs: {} });
    const others = { SONAR_TOKEN: "pipeline", OTP_TOKEN: "100500", NPM_API_KEY: "counted" };
    const { stdout } = await runPipeline(100500, [], ["--json"], others);
    const { outcome, pipeline_id } = JSON.parse(stdout);
    assert.deepEqual([outcome, pipeline_id], ["counted", 100500]);
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
      const scene = await startScene(cleanUp, { pipeline_id: 1004, jobs: { "unit tests": history("✗✗") } });
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
