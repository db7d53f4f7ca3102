/** Plays the snippets of README.md as a CI would, so that they can't drift from the script. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import type { components } from "@octokit/openapi-types";
import { parse, stringify } from "yaml";
import { openJobs } from "../check-failures.ts";
import { history, listedFailed, listedPassed, settings, type Variables } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import {
  contextOf,
  evaluate,
  examplesOf,
  look,
  type Played,
  playJob,
  problemsOf,
  type Step,
  type Workflow,
} from "./support/readme/github.ts";
import { type Machine, makeMachine, push, without } from "./support/readme/machine.ts";
import { makeFolder, type Result, SCRIPT } from "./support/run.ts";
import { JOB_TOKEN, startGitLab } from "./support/servers/gitlab.ts";
import { answerWith, startServer } from "./support/servers/http.ts";
import { startS3 } from "./support/servers/s3.ts";
import { startSlack } from "./support/servers/slack.ts";
import { writeBundle } from "./tools/bundle.ts";

const PROJECT = dirname(SCRIPT);
const readme = readFileSync(join(PROJECT, "README.md"), "utf8");
const blocks = [...readme.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({
  language,
  text,
}));

/** The only block of README that has these words in it. */
function blockWith(words: string): string {
  const found = blocks.filter(({ text }) => text.includes(words));
  assert.equal(found.length, 1, `${found.length} blocks have ${words}`);
  return found[0]?.text ?? "";
}

/** The only piece of code within README's sentences that begins so. */
function codeWith(start: string): string {
  const text = readme.replace(/^```.*?^```$/gms, "");
  const found = [...text.matchAll(/`([^`\n]+)`/g)]
    .map(([, code = ""]) => code)
    .filter((code) => code.startsWith(start));
  assert.equal(found.length, 1, `${found.length} pieces begin with ${start}`);
  return found[0] ?? "";
}

const built = makeFolder();
after(built.remove);
const BUNDLE = await writeBundle(built.path);
const bundleInto = (machine: Machine) => copyFileSync(BUNDLE, join(machine.work, "check-failures.mjs"));

/** Fails with what a process said if it did not end well. */
function assertDone({ code, stdout, stderr }: Result) {
  assert.equal(code, 0, `${stdout}\n${stderr}`);
}

const A_FAILURE_AWAY = { pipeline_id: 1002, jobs: { "unit tests": history("·✗✗") } };

describe("README", () => {
  test("has at most 330 lines", () => {
    assert.ok(readme.split("\n").length - 1 <= 330, `${readme.split("\n").length - 1} lines`);
  });

  test("links to headings that are there", () => {
    const anchors = [...readme.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
      title.toLowerCase().replaceAll(" ", "-"),
    );
    const linked = [...readme.matchAll(/\]\(#([\w-]+)\)/g)].map(([, anchor = ""]) => anchor);
    assert.deepEqual(
      linked.filter((anchor) => !anchors.includes(anchor)),
      [],
    );
  });

  test("names npm's commands that are there", () => {
    const { scripts } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
    const named = [...readme.matchAll(/npm run (?:--silent )?([\w:]+)/g)].map(([, name = ""]) => name);
    assert.ok(named.length > 5);
    assert.deepEqual(
      [...new Set(named)].filter((name) => !(name in scripts)),
      [],
    );
  });

  test("has for each block of JSON what can be parsed", () => {
    const texts = blocks.filter(({ language }) => language === "json").map(({ text }) => text);
    assert.ok(texts.length >= 5);
    for (const text of texts) JSON.parse(text);
  });
});

describe("README's promises of the script", { skip: without("bash") }, () => {
  const cleanUp = makeCleanUp();
  const source = readFileSync(SCRIPT, "utf8");

  /** What a run says as JSON that breaks two jobs, and then what a report says. */
  async function playJson() {
    const machine = makeMachine();
    cleanUp(machine.remove);
    bundleInto(machine);
    const names = ["unit tests", "e2e: cart"];
    const failing = names.map((name) => [name, history("·✗✗")]);
    machine.write("work/document.json", { pipeline_id: 1002, jobs: Object.fromEntries(failing) });
    machine.write(
      "work/jobs.json",
      names.map((name, id) => ({ id: id + 1, name, status: "failed" })),
    );
    machine.write("work/owners", blockWith("@acme/ci"));
    machine.write("work/channels.json", codeWith('{ "@acme/ci"'));
    const variables = {
      ...{ CI_PIPELINE_ID: "1003", CI_COMMIT_SHA: "0ddba11", PIPELINE_JOBS_FILE: "jobs.json" },
      ...{ JOB_EXECUTIONS_URL: "document.json", SLACK_API_TOKEN: "xoxb-no", SLACK_CHANNEL: "#ci" },
      ...{ JOB_OWNERS_FILE: "owners", OWNER_CHANNELS_FILE: "channels.json" },
    };
    const run = await machine.play("node check-failures.mjs --dry-run --json", variables);
    const report = await machine.play("node check-failures.mjs report --json", variables);
    for (const result of [run, report]) assertDone(result);
    return { run: JSON.parse(run.stdout), report: JSON.parse(report.stdout), warnings: run.stderr };
  }
  const keysIn = (text: string) => new Set([...text.matchAll(/"(\w+)"/g)].map(([, name]) => name));

  test("has in its JSON the keys that README names", async () => {
    const { run, report } = await playJson();
    const parts = [run, run.jobs, run.reached, run.messages[0]];
    assert.deepEqual(keysIn(codeWith('{"outcome"')), new Set(parts.flatMap(Object.keys)));
    assert.deepEqual(keysIn(codeWith('{"source"')), new Set([report, report.jobs[0]].flatMap(Object.keys)));
  });

  test("tells those who README's files of owners say", async () => {
    const { run, warnings } = await playJson();
    const told = run.messages.map(({ channel, plain }: { channel: string; plain: string }) => {
      return [channel, ["unit tests", "e2e: cart"].filter((name) => plain.includes(name))];
    });
    const expected = { "#ci": ["unit tests", "e2e: cart"], "#team-checkout": ["unit tests", "e2e: cart"] };
    assert.deepEqual(Object.fromEntries(told), { ...expected, "#e2e-watchers": ["e2e: cart"] });
    assert.match(warnings, /@acme\/core/, "an owner without a channel is a warning");
  });

  test("reads README's document", async () => {
    const machine = makeMachine();
    cleanUp(machine.remove);
    bundleInto(machine);
    machine.write("work/document.json", blockWith('"pipeline_id": 123'));
    const result = await machine.play("node check-failures.mjs report", { JOB_EXECUTIONS_URL: "document.json" });
    assertDone(result);
    assert.match(result.stdout, /·✗ .*unit tests/);
  });

  test("says what README's table of symptoms quotes", () => {
    const [, table = ""] = /\| you see \| do \|\n(.*?)\n\n/s.exec(readme) ?? [];
    const quoted = [...table.matchAll(/^\| [^|]*?`([^`]+)`/gm)].flatMap(([, text = ""]) => text.split(/…|\d+/));
    assert.ok(quoted.length > 5);
    assert.deepEqual(
      quoted.filter((part) => !source.includes(part.trim())),
      [],
    );
  });
});

test("README begins with a message that a channel gets", { skip: without("bash") }, async () => {
  const fixtures = join(PROJECT, "fixtures/demo");
  const commits = Object.entries<{ sha: string; title: string; author: string }>(
    JSON.parse(readFileSync(join(fixtures, "commits.json"), "utf8")),
  );
  const machine = makeMachine();
  try {
    bundleInto(machine);
    let message = "";
    for (const [id, { sha, title, author }] of commits) {
      const result = await machine.play("node check-failures.mjs --json", {
        ...{ CI_PIPELINE_ID: id, CI_COMMIT_SHA: sha, CI_COMMIT_TITLE: title, CI_COMMIT_AUTHOR: author },
        ...{ CI_COMMIT_BRANCH: "main", CI_PROJECT_PATH: "acme/shop", ALERT_COMMAND: "cat" },
        ...{ PIPELINE_JOBS_FILE: join(fixtures, `pipeline-${id}.json`), JOB_EXECUTIONS_URL: "document.json" },
      });
      assertDone(result);
      const [first] = JSON.parse(result.stdout).messages;
      if (first?.plain.startsWith("🔴")) message ||= first.plain;
    }
    const names = message.trimEnd().split("\n").at(-1)?.split(", ") ?? [];
    const shortened = [...names.slice(0, 3), `… ${names.at(-1)}`].join(", ");
    assert.equal(names.length, 40);
    const unlinked = message.replace(names.join(", "), shortened).replace(/ \(https?:[^)]*\)/g, "");
    assert.equal(blockWith("🔴 40 jobs broken"), `${unlinked.trimEnd()}\n`);
  } finally {
    machine.remove();
  }
});

// --- GitLab

/** AWS's STS: gives a role for any token. */
async function startSts() {
  const values = { AccessKeyId: "AKIAROLE", SecretAccessKey: "role-secret", SessionToken: "role-token" };
  const credentials = { ...values, Expiration: new Date(Date.now() + 3_600_000).toISOString() };
  const xml = Object.entries(credentials).map(([name, value]) => `<${name}>${value}</${name}>`);
  const result = `<AssumeRoleWithWebIdentityResult><Credentials>${xml.join("")}</Credentials></AssumeRoleWithWebIdentityResult>`;
  const body = `<AssumeRoleWithWebIdentityResponse>${result}</AssumeRoleWithWebIdentityResponse>`;
  return startServer((_, response) => answerWith(200, body, { "content-type": "text/xml" })(response));
}

/** What README's jobs speak to, and the variables that point them there. */
async function startServers() {
  const [s3, gitlab, slack, sts] = await Promise.all([
    startS3({ bucket: "ci-bucket" }),
    startGitLab(),
    startSlack(),
    startSts(),
  ]);
  const servers = { AWS_ENDPOINT_URL_S3: s3.url, AWS_ENDPOINT_URL_STS: sts.url, SLACK_API_URL: slack.apiUrl };
  const close = () => [s3, gitlab, slack, sts].forEach((server) => void server.close());
  return { s3, gitlab, slack, sts, servers, close };
}

describe("README's job for GitLab", { skip: without("bash", "git"), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const job = parse(blockWith("stage: .post"))["check-failures"];
  const [trust] = JSON.parse(blockWith("AssumeRoleWithWebIdentity")).Statement;
  const rights = JSON.parse(blockWith("s3:GetObject")).Statement;

  /** The variables of a job of acme/shop as GitLab sets them: those of its file may name others. */
  function variablesOf(jobVariables: Record<string, string>, machine: Machine): Variables {
    const predefined: Record<string, string> = {
      ...{ GITLAB_CI: "true", CI_PROJECT_PATH: "acme/shop", CI_PROJECT_URL: "https://gitlab.example.com/acme/shop" },
      ...{ CI_PROJECT_DIR: machine.work, CI_PROJECT_ID: "4242" },
      ...{ CI_SERVER_PROTOCOL: "https", CI_SERVER_FQDN: "gitlab.example.com" },
      ...{ CI_DEFAULT_BRANCH: "main", CI_COMMIT_BRANCH: "main", CI_JOB_TOKEN: JOB_TOKEN },
    };
    const expand = (text: string) => text.replace(/\$\{?(\w+)\}?/g, (_, name) => predefined[name] ?? "");
    const own = Object.entries(jobVariables).map(([name, text]) => [name, expand(text)]);
    return { ...predefined, ...Object.fromEntries(own) };
  }

  /** Plays a script for pipelines in which `unit tests` fails, each for a push of so many commits. */
  async function playPipelines(
    script: string[],
    jobVariables: Record<string, string>,
    variables: Variables,
    machine: Machine,
    commits = 1,
  ) {
    const { s3, gitlab, slack, sts, servers, close } = await startServers();
    cleanUp(close);
    cleanUp(machine.remove);
    const HOSTS = [s3, gitlab, slack, sts].map(({ url }) => new URL(url).host).join();
    const said: string[] = [];
    const shas: string[] = [];
    for (const id of [1000, 1001, 1002, 1003]) {
      const { before, sha } = await push(machine, `Commit ${id}`, commits);
      shas.push(sha);
      gitlab.pipelines.set(id, [id === 1000 ? listedPassed("unit tests") : listedFailed("unit tests")]);
      const result = await machine.play(
        script.join("\n"),
        {
          ...variablesOf(jobVariables, machine),
          ...{ ...servers, HOSTS, CI_API_V4_URL: gitlab.apiUrl, SLACK_API_TOKEN: "xoxb-stand-in-token" },
          ...{ CI_PIPELINE_ID: `${id}`, CI_COMMIT_SHA: sha, CI_COMMIT_BEFORE_SHA: before },
          ...{ CI_COMMIT_TITLE: `Commit ${id}`, CI_COMMIT_AUTHOR: "Ada Lovelace <ada@example.com>" },
          ...variables,
        },
        ["-eo", "pipefail"],
      );
      assertDone(result);
      said.push(result.stdout);
    }
    return { s3, sts, messages: slack.messages, said, shas };
  }

  const FIRST_LINES = [/^#ci-alerts 👋/, /^#ci-alerts 🔴 unit tests broken in acme\/shop main since "Commit 1001", /];
  function assertAlerted(messages: { channel?: string; text: string }[]) {
    assert.equal(messages.length, FIRST_LINES.length);
    for (const [i, { channel, text }] of messages.entries()) assert.match(`${channel} ${text}`, FIRST_LINES[i] ?? /^$/);
    assert.match(messages[1]?.text ?? "", /by Ada Lovelace/);
  }

  test("comes last on the default branch, whatever failed, fails no pipeline, and ends in minutes", () => {
    assert.equal(job.stage, ".post");
    assert.equal(job.allow_failure, true);
    assert.equal(job.timeout, "10m");
    assert.equal(job.resource_group, "check-failures");
    assert.deepEqual(job.rules, [{ if: "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", when: "always" }]);
  });

  test("takes nothing from the project's defaults but its runners, and no artifacts", () => {
    assert.deepEqual(job.inherit, { default: ["tags"] });
    assert.deepEqual(job.before_script, []);
    assert.deepEqual(job.dependencies, []);
  });

  test("alerts after three pipelines, with a role of AWS by GitLab's token, and the job's own token", async () => {
    const machine = makeMachine();
    bundleInto(machine);
    const tokens = { AWS_ID_TOKEN: "id-token-of-gitlab" };
    assert.deepEqual(Object.keys(job.id_tokens), Object.keys(tokens));
    const { s3, sts, messages, said, shas } = await playPipelines(job.script, job.variables, tokens, machine);
    assertAlerted(messages);
    assert.ok(messages[1]?.text.includes(`gitlab.example.com/acme/shop/-/commit/${shas[1]}`), messages[1]?.text);
    assert.match(sts.requests[0]?.body.toString() ?? "", /WebIdentityToken=id-token-of-gitlab/);
    assert.match(s3.requests[0]?.headers.authorization ?? "", /Credential=AKIAROLE\//);
    assert.match(said[3] ?? "", /\x1b\[/, "FORCE_COLOR gives the log colour");
    assert.deepEqual([...s3.objects.keys()], ["acme/shop.json"]);
    assert.deepEqual(readdirSync(machine.work).toSorted(), [".git", "check-failures.mjs"]);
  });

  const NOT_BLAMED: [title: string, commits: number, before: string[]][] = [
    ["a push of two commits", 2, []],
    ["a commit in an image without git", 1, ["git() { return 127; }"]],
  ];
  for (const [title, commits, before] of NOT_BLAMED) {
    test(`names nobody for ${title}`, async () => {
      const machine = makeMachine();
      bundleInto(machine);
      const script = [...before, ...job.script];
      const tokens = { AWS_ID_TOKEN: "id-token" };
      const { messages, shas } = await playPipelines(script, job.variables, tokens, machine, commits);
      const text = messages[1]?.text ?? "";
      assert.match(text, /^🔴 unit tests broken in acme\/shop main, /);
      assert.ok(text.includes(`/compare/${shas[0]}...${shas[1]}|changes since`), text);
      assert.doesNotMatch(text, /Ada|Commit 1001/);
    });
  }

  test("alerts without OpenID Connect, with what README says to leave out left out", async () => {
    const machine = makeMachine();
    bundleInto(machine);
    const { AWS_ROLE_ARN: _, ...variables } = job.variables;
    const keys = { AWS_ACCESS_KEY_ID: "AKIAKEY", AWS_SECRET_ACCESS_KEY: "secret" };
    const { s3, messages } = await playPipelines(job.script.slice(2), variables, keys, machine);
    assertAlerted(messages);
    assert.match(s3.requests[0]?.headers.authorization ?? "", /Credential=AKIAKEY\//);
  });

  test("keeps its document in GitLab's cache without S3", async () => {
    const machine = makeMachine();
    bundleInto(machine);
    const [, url = ""] = /JOB_EXECUTIONS_URL: (\S+)/.exec(codeWith("JOB_EXECUTIONS_URL: $CI_PROJECT_DIR")) ?? [];
    const variables = { SLACK_CHANNEL: "#ci-alerts", JOB_EXECUTIONS_URL: url };
    const { messages } = await playPipelines(job.script.slice(2), variables, {}, machine);
    assertAlerted(messages);
    const { cache } = parse(codeWith("cache: {"));
    assert.deepEqual([cache.when, cache.paths], ["always", [".check-failures/"]]);
    assert.match(machine.read("work/.check-failures/document.json") ?? "", /"pipeline_id": ?1003\b/);
  });

  for (const [start, isOldNode] of [
    ["npm ci --prefix ci --omit=dev", false],
    ["npm ci --prefix ci --ignore-scripts", true],
  ] as const) {
    test(`runs by the source and its lock file ${isOldNode ? "on Node 20" : "on a Node that knows TypeScript"}`, async () => {
      // Installs nothing: the project's own packages are there. Keeps with what it was called.
      const npm = `echo "$*" >> "$MACHINE/npm.log"; [ "$2" = --prefix ] && ln -sfn '${PROJECT}/node_modules' "$3/node_modules"`;
      const machine = makeMachine({ npm });
      mkdirSync(join(machine.work, "ci"));
      for (const name of ["check-failures.ts", "package.json", "package-lock.json"])
        copyFileSync(join(PROJECT, name), join(machine.work, "ci", name));
      // What a variable names is found where the job begins.
      machine.write("work/owners", "* #ci-alerts");
      const variables = { AWS_ID_TOKEN: "id-token", JOB_OWNERS_FILE: "owners" };
      const script = [...job.script.slice(0, -1), codeWith(start)];
      const { messages } = await playPipelines(script, job.variables, variables, machine);
      assertAlerted(messages);
      const packages: Record<string, { dev?: boolean }> = JSON.parse(
        readFileSync(join(PROJECT, "package-lock.json"), "utf8"),
      ).packages;
      const [line = ""] = (machine.read("npm.log") ?? "").split("\n");
      const isInstalled = !(packages["node_modules/tsx"]?.dev === true && line.includes("--omit=dev"));
      assert.equal(isInstalled, isOldNode, line);
    });
  }

  test("runs from a project that keeps it for many others", async () => {
    const machine = makeMachine();
    const url = "https://gitlab-ci-token:glcbt-stand-in-token@gitlab.example.com/acme/ci.git";
    const seed = `git init -q -b main seed && cp '${BUNDLE}' seed && cd seed && git add . &&
      git -c user.name=a -c user.email=a@localhost commit -qm seed && git clone -q --bare . "$MACHINE/ci.git"`;
    assertDone(await machine.play(seed, {}, ["-e"], machine.path));
    const git = {
      ...{
        GIT_CONFIG_COUNT: "1",
        GIT_CONFIG_KEY_0: `url.file://${machine.path}/ci.git.insteadOf`,
        GIT_CONFIG_VALUE_0: url,
      },
    };
    const { script } = parse(blockWith("gitlab-ci-token"));
    // As on a runner that keeps /builds, each pipeline finds what the one before has left.
    const all = [...job.script.slice(0, -1), ...script];
    const { messages } = await playPipelines(all, job.variables, { ...git, AWS_ID_TOKEN: "id-token" }, machine);
    assertAlerted(messages);
    assert.ok(!readdirSync(machine.path).includes("work.ci"), "nothing is left beside the workspace");
    assert.deepEqual(parse(codeWith("include:")), { include: [{ project: "acme/ci", file: "check-failures.yml" }] });
  });

  const deno = blockWith("deno run");

  test("is allowed by README's command for Deno the hosts that it speaks to, its token's file, and no more", () => {
    const allowed = /--allow-net=(\S+)/.exec(deno)?.[1]?.split(",");
    const { AWS_REGION, JOB_EXECUTIONS_URL } = job.variables;
    const aws = [`${new URL(JOB_EXECUTIONS_URL).host}.s3`, "sts"].map((name) => `${name}.${AWS_REGION}.amazonaws.com`);
    assert.deepEqual(allowed, [...aws, "gitlab.example.com", "slack.com"]);
    const others = [...deno.matchAll(/--(?:allow-(?!net)|no-prompt)\S*/g)].map(([option]) => option);
    const file = '--allow-read="$AWS_WEB_IDENTITY_TOKEN_FILE"';
    assert.deepEqual(others, ["--no-prompt", "--allow-env", "--allow-sys=osRelease", file]);
  });

  test("alerts under README's command for Deno", { skip: without("deno") }, async () => {
    const machine = makeMachine();
    bundleInto(machine);
    const script = [...job.script.slice(0, -1), deno.replace(/--allow-net=\S+/, '--allow-net="$HOSTS"')];
    const { messages } = await playPipelines(script, job.variables, { AWS_ID_TOKEN: "id-token" }, machine);
    assertAlerted(messages);
  });

  test("is trusted by AWS on the default branch of the project alone", () => {
    const { AWS_ID_TOKEN } = job.id_tokens;
    const host = new URL(AWS_ID_TOKEN.aud).host;
    assert.deepEqual(trust.Condition.StringEquals, {
      [`${host}:aud`]: AWS_ID_TOKEN.aud,
      [`${host}:sub`]: "project_path:acme/shop:ref_type:branch:ref:main",
    });
    assert.equal(trust.Action, "sts:AssumeRoleWithWebIdentity");
    const account = /::(\d+):/.exec(job.variables.AWS_ROLE_ARN)?.[1];
    assert.equal(trust.Principal.Federated, `arn:aws:iam::${account}:oidc-provider/${host}`);
  });

  test("may read and write its own document, and list the bucket", () => {
    const machine = makeMachine();
    cleanUp(machine.remove);
    const { JOB_EXECUTIONS_URL = "" } = variablesOf(job.variables, machine);
    const { host, pathname } = new URL(JOB_EXECUTIONS_URL);
    assert.deepEqual(
      rights.map(({ Action, Resource }: { Action: unknown; Resource: string }) => [Action, Resource]),
      [
        [["s3:GetObject", "s3:PutObject"], `arn:aws:s3:::${host}${pathname}`],
        ["s3:ListBucket", `arn:aws:s3:::${host}`],
      ],
    );
  });

  test("has an app of Slack's that may write and no more", () => {
    const manifest = JSON.parse(blockWith("display_information"));
    assert.deepEqual(manifest.oauth_config, { scopes: { bot: ["chat:write"] } });
    assert.equal(typeof manifest.features.bot_user.display_name, "string");
  });
});

describe("README's page and watch of many repositories", { skip: without("bash") }, () => {
  const cleanUp = makeCleanUp();
  const { script } = parse(blockWith("public/index.html"));

  /** Plays the scheduled job for two documents, the second of which was counted so many days ago. */
  async function playSchedule(days: number) {
    const npm = `[ "$1" = ci ] || { shift 4; exec node '${PROJECT}/test/tools/page.ts' "$@"; }`;
    const machine = makeMachine({ npm, npx: '[ "$1" = tsx ] && shift && exec node "$@"' });
    cleanUp(machine.remove);
    symlinkSync(SCRIPT, join(machine.work, "check-failures.ts"));
    const at = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
    const documentOf = (name: string, days: number) => ({ ...A_FAILURE_AWAY, counted_at: at(days), project: { name } });
    machine.write("work/shop.json", documentOf("acme/shop", 0));
    machine.write("work/pay.json", documentOf("acme/pay", days));
    const result = await machine.play(script.join("\n"), { DOCUMENTS: "shop.json pay.json" }, ["-eo", "pipefail"]);
    return { result, page: machine.read("work/public/index.html") ?? "" };
  }

  test("writes one page of all, and is content with monitors that ran", async () => {
    const { result, page } = await playSchedule(2);
    assertDone(result);
    for (const name of ["acme/shop", "acme/pay"]) assert.ok(page.includes(name) && result.stdout.includes(name), name);
  });

  test("fails where a monitor has not counted for three days, after all are shown", async () => {
    const { result, page } = await playSchedule(4);
    assert.equal(result.code, 1, result.stderr);
    assert.match(result.stderr, /pay\.json/);
    assert.ok(page.includes("acme/shop") && page.includes("acme/pay"));
  });
});

// --- GitHub

const NEEDED = ["bash", "git", "jq"];
const text = blockWith("git ls-remote");
const workflow: Workflow & { on: { workflow_run: { types: string[] } } } = parse(text);
const job = workflow.jobs["check-failures"];
const stepOf = (words: string) => {
  const step = job.steps.find(({ name = "" }) => name.startsWith(words));
  assert.ok(step, words);
  return step;
};

describe("README's workflow for GitHub Actions", () => {
  test("passes actionlint", async () => {
    assert.deepEqual(await problemsOf(text), []);
  });

  test("is called for each run that has ended, with no more rights than it needs, and leaves none out", () => {
    assert.deepEqual(workflow.on.workflow_run.types, ["completed"]);
    assert.deepEqual(workflow.permissions, { actions: "read", checks: "read", contents: "write", issues: "write" });
    const group = `check-failures-\${{ github.event.workflow_run.workflow_id }}`;
    assert.deepEqual(workflow.concurrency, { group, queue: "max" });
  });

  test("pins each action to a commit", () => {
    const others: Step[] = parse(blockWith("configure-aws-credentials"));
    for (const { uses } of [...job.steps, ...others]) if (uses) assert.match(uses, /@[0-9a-f]{40}$/);
  });

  test("gives its token to the steps that ask GitHub", () => {
    const holders = job.steps.filter(({ env = {} }) => /token|secrets/.test(JSON.stringify(env)));
    assert.deepEqual(holders, [stepOf("List the jobs"), stepOf("Count and send")]);
    assert.doesNotMatch(JSON.stringify(job.env), /token|secrets/);
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
    for (const { run = "", env = {} } of job.steps) {
      assert.doesNotMatch(run, /\$\{\{/);
      assert.doesNotMatch(JSON.stringify(env), /github\.event/);
    }
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
});

type Conclusion = "success" | "failure" | "cancelled";
const ID = 2_823_525; // of the workflow in GitHub's example

/** A job of a run as GitHub lists it. */
const jobOf = (id: number, name: string, conclusion: Conclusion, steps = [{ name: "Run npm test", conclusion }]) => ({
  ...{ id, name, run_attempt: 1, status: "completed", conclusion, steps },
  html_url: `https://github.com/octo-org/octo-repo/actions/runs/1/job/${id}`,
});
type GitHubJobOf = ReturnType<typeof jobOf>;
/** What `gh` lists of them, in pages of one job. */
const listingOf = (jobs: GitHubJobOf[]) => jobs.map((job) => ({ total_count: jobs.length, jobs: [job] }));
const unit = (run: number, conclusion: Conclusion) => [
  jobOf(run * 10 + 1, "unit", conclusion),
  jobOf(run * 10 + 2, "lint", "success"),
];

/** A repository on GitHub, and the workflow in it, whose runs can be played. */
async function makeRepository(steps: Step[] = job.steps, env = job.env) {
  const machine = makeMachine();
  const seed = `git init -q -b main seed && cp '${BUNDLE}' seed && cd seed &&
    echo '*.json working-tree-encoding=UTF-16' > .gitattributes && git add . &&
    git -c user.name=a -c user.email=a@localhost commit -qm seed && git clone -q --bare . "$MACHINE/remote.git"`;
  assertDone(await machine.play(seed, {}, ["-e"], machine.path));
  const git = (...args: string[]) => spawnSync("git", ["-C", machine.inside("remote.git"), ...args]).stdout.toString();

  type Options = {
    changes?: object;
    variables?: Variables;
    between?: Record<string, () => unknown>;
    /** Those of the run's commit; by itself, the commit of the run before. */
    parents?: string[];
  };
  const shaOf = (run_number: number) => `0ddba1${run_number}`.padEnd(40, "0");
  async function play(
    run_number: number,
    jobs: GitHubJobOf[],
    { changes = {}, variables = {}, between = {}, parents = [shaOf(run_number - 1)] }: Options = {},
  ) {
    machine.write("gh/listed.json", listingOf(jobs));
    machine.write("gh/parents.json", { [shaOf(run_number)]: parents });
    rmSync(machine.work, { recursive: true, force: true });
    const commit = { message: `Commit ${run_number}\n\nWhy.`, author: { name: "Ada Lovelace" } };
    const run = { run_number, head_sha: shaOf(run_number), head_commit: commit, ...changes };
    const context = contextOf(run);
    const use = ({ uses = "", with: given = {} }: Step): Variables => {
      if (uses.startsWith("actions/checkout@")) {
        const url = `file://${machine.path}/remote.git`;
        const options = ["clone", "--quiet", "--depth=1", "--branch=main", url, machine.work];
        assert.equal(spawnSync("git", options).status, 0);
        return {};
      }
      assert.match(uses, /^aws-actions\/configure-aws-credentials@/);
      return { AWS_REGION: given["aws-region"], AWS_ACCESS_KEY_ID: "AKIAROLE", AWS_SECRET_ACCESS_KEY: "secret" };
    };
    const started: Variables = {
      ...{ GITHUB_ACTIONS: "true", GITHUB_REPOSITORY: context.github.repository },
      GITHUB_ENV: machine.inside("github.env"),
    };
    const playScript = async (script: string, set: Variables) => {
      machine.write("github.env", "");
      const result = await machine.play(script, { ...started, ...set, ...variables });
      for (const [words, act] of Object.entries(between)) if (script.includes(words)) await act();
      return { result, written: machine.read("github.env") ?? "" };
    };
    return playJob({ if: "", env, steps }, context, playScript, use);
  }

  return {
    machine,
    git,
    play,
    remove: machine.remove,
    /** The document that the branch holds. */
    stored: (id = ID) => JSON.parse(git("show", `check-failures-${id}:document.json`) || "null"),
  };
}

const assertPlayed = ({ code, steps }: Played) => assert.equal(code, 0, JSON.stringify(steps, null, 2));
const failedStep = ({ steps }: Played) => steps.filter(({ code }) => code !== 0).map(({ name }) => name);

describe("README's workflow for GitHub Actions, played with a branch and an issue", {
  skip: without(...NEEDED),
  concurrency: 2,
}, () => {
  const cleanUp = makeCleanUp();

  test("has one issue open while anything is: opened, commented, closed, and opened anew", async () => {
    const { machine, git, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    const days: [run: number, conclusion: Conclusion, states: string[]][] = [
      [10, "success", ["closed 1"]], // 👋
      [11, "failure", ["closed 1"]],
      [12, "failure", ["closed 1"]],
      [13, "failure", ["closed 1", "open 1"]],
      [14, "failure", ["closed 1", "open 1"]],
      [15, "success", ["closed 1", "open 1"]],
      [16, "success", ["closed 1", "open 1"]],
      [17, "success", ["closed 1", "closed 2"]],
    ];
    for (const [run, conclusion, states] of days) {
      assertPlayed(await play(run, unit(run, conclusion)));
      const seen = machine.issues().map(({ state, said }) => `${state} ${said.length}`);
      assert.deepEqual([run, seen], [run, states]);
      assert.equal(stored().pipeline_id, run);
    }
    const [hello, issue] = machine.issues();
    assert.match(hello?.title ?? "", /^👋/);
    assert.equal(issue?.title, '🔴 unit broken in octo-org/octo-repo test master since "Commit 11", pipeline 13');
    const [alert, recovery] = issue?.said ?? [];
    assert.match(alert ?? "", /^🔴 .*\[pipeline 13\]\(https:/);
    assert.match(
      alert ?? "",
      /\[unit\]\(https:.*\/job\/131\) \(Run npm test\) failed 3 times in a row since \[.*by Ada Lovelace/,
    );
    assert.match(recovery ?? "", /unit.* recovered/);
    // The branch shows the document to whoever opens it, and does not grow.
    assert.deepEqual(git("ls-tree", "--name-only", `check-failures-${ID}`), "document.json\n");
    assert.deepEqual(git("rev-list", "--count", `check-failures-${ID}`), "1\n");
    assert.deepEqual(git("for-each-ref", "--format=%(refname:short)").split("\n"), [
      `check-failures-${ID}`,
      "main",
      "",
    ]);
  });

  test("says with the issue closed that a second alert is still open", async () => {
    const { machine, play, remove } = await makeRepository();
    cleanUp(remove);
    const runs: [number, Conclusion, Conclusion][] = [
      ...[1, 2, 3].map((run): [number, Conclusion, Conclusion] => [run, "failure", "failure"]),
      ...[4, 5, 6].map((run): [number, Conclusion, Conclusion] => [run, "success", "failure"]),
    ];
    for (const [run, first, second] of runs)
      assertPlayed(await play(run, [jobOf(run * 10 + 1, "a", first), jobOf(run * 10 + 2, "b", second)]));
    assert.deepEqual(
      machine.issues().map(({ state, said }) => `${state} ${said.length}`),
      ["closed 1", "open 2"],
    );
  });

  test("closes the issue of a job that only failed often, whose alert closes without a message", async () => {
    const { machine, play, remove } = await makeRepository();
    cleanUp(remove);
    const variables = { CUMULATIVE_THRESHOLD: "2", CUMULATIVE_LENGTH: "4" };
    const states: (string | undefined)[] = [];
    for (const [i, mark] of [..."✗·✗···"].entries()) {
      assertPlayed(await play(i + 1, unit(i + 1, mark === "✗" ? "failure" : "success"), { variables }));
      const [, issue] = machine.issues();
      states.push(issue && `${issue.state} ${issue.said.length}`);
    }
    assert.deepEqual(states, [undefined, undefined, "open 1", "open 1", "open 1", "closed 1"]);
  });

  const NOT_BLAMED: [title: string, options: { parents?: string[] }, fails: string[]][] = [
    ["whose parent is not the commit that was counted before", { parents: ["0123abcd".padEnd(40, "0")] }, []],
    ["whose second parent is that commit", { parents: ["0123abcd".padEnd(40, "0"), "0ddba11".padEnd(40, "0")] }, []],
    ["that has no parent", { parents: [] }, []],
    ["whose parent can't be asked for", {}, ["/commits/"]],
  ];
  for (const [title, options, fails] of NOT_BLAMED) {
    test(`names nobody for a commit ${title}`, async () => {
      const { machine, play, remove } = await makeRepository();
      cleanUp(remove);
      machine.write("gh/fails.json", fails);
      assertPlayed(await play(1, unit(1, "success")));
      assertPlayed(await play(2, unit(2, "failure"), options));
      for (const run of [3, 4]) assertPlayed(await play(run, unit(run, "failure")));
      const [, issue] = machine.issues();
      assert.match(issue?.title ?? "", /^🔴 unit broken in octo-org\/octo-repo test master, pipeline 4$/);
      assert.match(issue?.said[0] ?? "", /\[changes since 0ddba110\]\(https:\S*\/0ddba110+\.\.\.0ddba120+\)/);
      assert.doesNotMatch(issue?.said[0] ?? "", /Ada|Commit 2/);
    });
  }

  test("asks for the jobs of the run, with every attempt and all pages", async () => {
    const { machine, play, remove } = await makeRepository();
    cleanUp(remove);
    assertPlayed(await play(1, unit(1, "success"), { changes: { id: 4242 } }));
    const [asked] = machine.takeCalls();
    const path = "repos/octo-org/octo-repo/actions/runs/4242/jobs?filter=all&per_page=100";
    assert.deepEqual(asked?.args, ["api", "--paginate", "--slurp", path]);
  });

  test("does not take an outage for a first day: nothing is counted, sent or stored", async () => {
    const { machine, git, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    assertPlayed(await play(1, unit(1, "failure")));
    const before = git("rev-parse", `check-failures-${ID}`);
    machine.takeCalls();
    const away = { "gh api --paginate": () => machine.play('mv "$MACHINE/remote.git" "$MACHINE/away"') };
    const played = await play(2, unit(2, "failure"), { between: away });
    assert.deepEqual(failedStep(played), ["Fetch the document"]);
    assert.equal(played.steps.at(-1)?.name, "Fetch the document", "no step follows");
    assert.deepEqual(
      machine.takeCalls().map(({ args }) => args[0]),
      ["api", "api"],
    );
    await machine.play('mv "$MACHINE/away" "$MACHINE/remote.git"', {}, ["-e"], machine.path);
    assert.equal(git("rev-parse", `check-failures-${ID}`), before);
    assertPlayed(await play(3, unit(3, "failure")));
    assert.equal(stored().jobs.unit.consecutive_failures, 2);
    assert.equal(machine.issues().length, 1, "no second 👋");
  });

  test("does not store a document that it could not read whole", async () => {
    const { git, play, remove } = await makeRepository();
    cleanUp(remove);
    assertPlayed(await play(1, unit(1, "failure")));
    const before = git("rev-parse", `check-failures-${ID}`);
    // The branch is there, and its file is not.
    const tree = git("mktree", "--missing").trim() || "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    const commit = git("-c", "user.name=a", "-c", "user.email=a@localhost", "commit-tree", "-m", "empty", tree).trim();
    git("update-ref", `refs/heads/check-failures-${ID}`, commit);
    const played = await play(2, unit(2, "failure"));
    assert.deepEqual(failedStep(played), ["Fetch the document"]);
    assert.equal(git("rev-parse", `check-failures-${ID}`).trim(), commit);
    assert.notEqual(before.trim(), commit);
  });

  test("is refused where the branch has changed since it was fetched", async () => {
    const { machine, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    assertPlayed(await play(1, unit(1, "failure")));
    const change = `tree=$(git rev-parse check-failures-${ID}:) &&
      git -c user.name=a -c user.email=a@localhost commit-tree -m other $tree | xargs git update-ref refs/heads/check-failures-${ID}`;
    const between = {
      "git ls-remote": () => machine.play(change, {}, ["-e"], machine.inside("remote.git")),
    };
    const played = await play(2, unit(2, "failure"), { between });
    assert.deepEqual(failedStep(played), ["Store the document"]);
    assert.match(played.steps.at(-1)?.stderr ?? "", /stale info/);
    assert.equal(stored().pipeline_id, 1);
  });

  test("stores what could not be sent, and the next run sends it once", async () => {
    const { machine, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    for (const run of [1, 2, 3]) {
      machine.write("gh/fails.json", run === 3 ? ["/issues?"] : []);
      const played = await play(run, unit(run, "failure"));
      assert.deepEqual(failedStep(played), run === 3 ? ["Count and send"] : []);
    }
    assert.equal(machine.issues().length, 1, "an issue that can't be looked up is not opened again");
    assert.deepEqual([stored().pipeline_id, stored().pending_alerts?.length], [3, 1]);
    machine.write("gh/fails.json", []);
    for (const run of [4, 5]) assertPlayed(await play(run, unit(run, "failure")));
    assert.deepEqual(
      machine.issues().map(({ state, said }) => `${state} ${said.length}`),
      ["closed 1", "open 1"],
    );
    assert.equal(stored().pending_alerts, undefined);
  });

  test("counts a job that ran out of time as failed, and no other that was cancelled", async () => {
    const { machine, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    const cancelled = (id: number, name: string, steps?: []) => jobOf(id, name, "cancelled", steps);
    for (const run of [1, 2, 3]) {
      const [late, old, stopped, silent, waiting] = [1, 2, 3, 4, 5].map((n) => run * 10 + n) as [
        number,
        number,
        number,
        number,
        number,
      ];
      machine.write("gh/annotations.json", {
        [late]: ["Node.js 20 is deprecated.", "The job has exceeded the maximum execution time of 30m0s"],
        [old]: ["The job running on runner A has exceeded the maximum execution time of 360 minutes."],
        [stopped]: ["The operation was canceled.", "Canceling since a higher priority waiting request exists"],
      });
      const jobs = [cancelled(late, "late"), cancelled(old, "old"), cancelled(stopped, "stopped")];
      jobs.push(cancelled(silent, "silent"), cancelled(waiting, "waiting", []), jobOf(run * 10, "lint", "success"));
      assertPlayed(await play(run, jobs));
    }
    assert.deepEqual(Object.keys(stored().jobs).sort(), ["late", "old"]);
    assert.match(machine.issues()[1]?.said[0] ?? "", /2 jobs \(timed_out\) failed 3 times in a row/);
    const asked = machine.takeCalls().flatMap(({ args }) => /check-runs\/3(\d)\//.exec(args.join(" "))?.[1] ?? []);
    assert.deepEqual(asked, ["1", "2", "3", "4"], "one that never started has no annotations to ask for");
  });

  test("counts nothing where it can't ask why a job was cancelled", async () => {
    const { machine, play, remove } = await makeRepository();
    cleanUp(remove);
    machine.write("gh/fails.json", ["/annotations"]);
    const played = await play(1, [jobOf(1, "late", "cancelled"), jobOf(2, "lint", "success")]);
    assert.deepEqual([failedStep(played), played.steps.length], [["List the jobs"], 1]);
  });

  test("keeps two workflows apart: a document, a branch and an issue each", async () => {
    const { machine, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    const other = { changes: { workflow_id: 77 } };
    for (const run of [1, 2, 3]) {
      assertPlayed(await play(run, unit(run, "failure")));
      assertPlayed(await play(run, unit(run, run === 3 ? "success" : "failure"), other));
    }
    assert.deepEqual([stored().jobs.unit.consecutive_failures, stored(77).jobs.unit.consecutive_failures], [3, 0]);
    assert.deepEqual(
      machine.issues().map(({ label, state }) => `${label} ${state}`),
      [`check-failures-${ID} closed`, "check-failures-77 closed", `check-failures-${ID} open`],
    );
  });

  test("corrects the count when the last run is run again and passes", async () => {
    const { play, stored, remove } = await makeRepository();
    cleanUp(remove);
    for (const conclusion of ["failure", "failure", "success"] as const) {
      const run = conclusion === "success" ? 2 : (stored()?.pipeline_id ?? 0) + 1;
      assertPlayed(await play(run, unit(run, conclusion)));
    }
    const { consecutive_failures, jobs_info } = stored().jobs.unit;
    assert.equal(consecutive_failures, 0);
    assert.deepEqual(
      jobs_info.map(({ failing }: { failing: boolean }) => failing),
      [true, false],
    );
  });

  test("needs none of git's settings, and heeds no attributes that the repository gives its files", async () => {
    const { machine, play, git, remove } = await makeRepository();
    cleanUp(remove);
    assertPlayed(await play(1, unit(1, "success")));
    assert.deepEqual(readdirSync(machine.inside("home")), []);
    assert.match(git("log", "-1", "--format=%an %s", `check-failures-${ID}`), /^check-failures Run 1\n$/);
  });
});

describe("README's workflow for GitHub Actions with Slack and S3", { skip: without(...NEEDED), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const slackEnv = parse(`${codeWith("SLACK_API_TOKEN: ${{")}\n${codeWith('SLACK_CHANNEL: "')}`);
  const [credentials]: Step[] = parse(blockWith("configure-aws-credentials"));
  const url = codeWith("JOB_EXECUTIONS_URL: s3://").replace("JOB_EXECUTIONS_URL: ", "");

  const withSlack = (steps: Step[]) =>
    steps.map((step) => {
      const { GH_TOKEN: _, ALERT_COMMAND: __, ...env } = step.env ?? {};
      const [run] = (step.run ?? "").split("\n");
      return step.name?.startsWith("Count") ? { ...step, run, env: { ...env, ...slackEnv } } : step;
    });
  const withS3 = (steps: Step[]) =>
    steps.flatMap((step) => {
      if (step.name === "Fetch the document") return credentials ?? [];
      return step.name === "Store the document" ? [] : step;
    });
  const workflowOf = (steps: Step[], permissions: object, env = job.env) =>
    stringify({ ...workflow, permissions, jobs: { "check-failures": { ...job, env, steps } } });

  test("tells Slack instead of opening issues", async () => {
    const steps = withSlack(job.steps);
    const permissions = { actions: "read", checks: "read", contents: "write" };
    assert.deepEqual(await problemsOf(workflowOf(steps, permissions)), []);
    const slack = await startSlack();
    const { machine, play, remove } = await makeRepository(steps);
    cleanUp(slack.close);
    cleanUp(remove);
    for (const run of [1, 2, 3, 4]) {
      const played = await play(run, unit(run, "failure"), { variables: { SLACK_API_URL: slack.apiUrl } });
      assertPlayed(played);
      for (const { name, stderr } of played.steps) if (name.startsWith("Count")) assert.equal(stderr, "");
    }
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => `${channel} ${text.slice(0, 2)}`),
      ["#ci-alerts 👋", "#ci-alerts 🔴"],
    );
    assert.deepEqual(machine.issues(), []);
  });

  test("keeps its document in S3 instead of on a branch", async () => {
    const [steps, env] = [withS3(job.steps), { ...job.env, JOB_EXECUTIONS_URL: url }];
    const permissions = { actions: "read", checks: "read", contents: "read", issues: "write", "id-token": "write" };
    assert.deepEqual(await problemsOf(workflowOf(steps, permissions, env)), []);
    const s3 = await startS3({ bucket: "ci-bucket" });
    const { git, play, remove } = await makeRepository(steps, env);
    cleanUp(s3.close);
    cleanUp(remove);
    for (const run of [1, 2])
      assertPlayed(await play(run, unit(run, "failure"), { variables: { AWS_ENDPOINT_URL_S3: s3.url } }));
    assert.deepEqual([...s3.objects.keys()], [`octo-org/octo-repo/${ID}.json`]);
    assert.equal(JSON.parse(String([...s3.objects.values()][0])).pipeline_id, 2);
    assert.equal(git("for-each-ref", "--format=%(refname:short)"), "main\n");
  });

  test("names what AWS's role for GitHub must trust", () => {
    for (const claim of [
      "token.actions.githubusercontent.com",
      "sts.amazonaws.com",
      "repo:acme/shop:ref:refs/heads/main",
    ])
      codeWith(claim);
  });
});

describe("README's workflow for many repositories on GitHub", { skip: without("bash") }, () => {
  const cleanUp = makeCleanUp();
  const action = parse(blockWith("using: composite"));
  const caller = blockWith("uses: acme/ci/.github/workflows/check-failures.yml@main");
  const step: Step = parse(`- ${codeWith("- uses: acme/ci@").slice(2)}`)[0];
  const [checkout, ...rest] = job.steps;
  const called = { ...workflow, ...parse(codeWith("on: workflow_call")) };
  const shared = { ...called, jobs: { "check-failures": { ...job, steps: [checkout, step, ...rest] } } };

  test("passes actionlint, as the one that is called and as the one that calls", async () => {
    assert.deepEqual(await problemsOf(stringify(shared)), []);
    assert.deepEqual(await problemsOf(caller), []);
  });

  test("gives the workflow that is called every right that it needs", () => {
    const { permissions, on } = parse(caller);
    assert.deepEqual(permissions, workflow.permissions);
    assert.deepEqual(on.workflow_run.types, ["completed"]);
  });

  test("puts the bundle where the workflow looks for it", async () => {
    const machine = makeMachine();
    cleanUp(machine.remove);
    for (const { run, shell } of action.runs.steps) {
      assert.equal(shell, "bash");
      assertDone(await machine.play(run, { GITHUB_ACTION_PATH: built.path }));
    }
    assert.deepEqual(readdirSync(machine.work), ["check-failures.mjs"]);
    assert.match(stepOf("Count and send").run ?? "", /^node check-failures\.mjs$/m);
  });
});

// --- Other CIs and other chats

const recorded = (name: string) => readFileSync(join(PROJECT, "fixtures/other-cis", name), "utf8");

test("README's list of jobs for any other CI is read as it says", async () => {
  const folder = makeFolder({ "jobs.json": blockWith('"allow_failure"') });
  try {
    const { jobs } = await listingIn(join(folder.path, "jobs.json"))();
    assert.deepEqual(Object.fromEntries(jobs.map(({ name, outcome, reason }) => [name, [outcome, reason]])), {
      "unit tests": ["failed", "timeout"],
      lint: ["passed", undefined],
      nightly: ["not run", undefined],
    });
  } finally {
    folder.remove();
  }
});

function listingIn(path: string) {
  const { jobs, network } = settings({ PIPELINE_JOBS_FILE: path });
  return openJobs(jobs, 1, network, new AbortController().signal);
}

describe("README's script for another CI", { skip: without("bash", "curl", "jq", "git") }, () => {
  const cleanUp = makeCleanUp();

  /** Plays a script against a server with a recorded answer. `prepare` sets up the workspace, and further variables. */
  async function playScript(
    script: string,
    answer: string,
    variables: (url: string) => Variables,
    prepare = async (_: Machine): Promise<Variables> => ({}),
  ) {
    const server = await startServer((_, response) => answerWith(200, recorded(answer))(response));
    // The address of Buildkite is that of the server here.
    const curl = `for word; do shift; set -- "$@" "$(echo "$word" | sed "s#^https://api.buildkite.com#$SERVER#")"; done
      PATH=\${PATH#*:} exec curl "$@"`;
    const machine = makeMachine({ curl });
    cleanUp(server.close);
    cleanUp(machine.remove);
    bundleInto(machine);
    const set = {
      SERVER: server.url,
      JOB_EXECUTIONS_URL: "document.json",
      ALERT_COMMAND: "cat",
      ...variables(server.url),
      ...(await prepare(machine)),
    };
    const result = await machine.play(script, set);
    assertDone(result);
    const jobs: Record<"name" | "status" | "web_url", string>[] = JSON.parse(machine.read("work/jobs.json") ?? "[]");
    const [asked] = server.requests;
    return { result, asked, jobs, stored: JSON.parse(machine.read("work/document.json") ?? "null") };
  }

  const [JENKINS, BUILDKITE] = [blockWith("wfapi/describe"), blockWith("api.buildkite.com")];
  const jenkins = (url: string): Variables => ({
    ...{ BUILD_URL: `${url}/job/acme/job/shop/job/main/314/`, BUILD_NUMBER: "314", JOB_NAME: "acme/shop/main" },
    ...{ GIT_COMMIT: "abcdef42", BRANCH_NAME: "main", JENKINS_USER: "ci", JENKINS_API_TOKEN: "token" },
  });
  const buildkite = (): Variables => ({
    ...{ BUILDKITE_ORGANIZATION_SLUG: "acme", BUILDKITE_PIPELINE_SLUG: "shop", BUILDKITE_BUILD_NUMBER: "27" },
    ...{ BUILDKITE_COMMIT: "abcdef42", BUILDKITE_BRANCH: "main", BUILDKITE_PIPELINE_DEFAULT_BRANCH: "main" },
    ...{ BUILDKITE_BUILD_URL: "https://buildkite.com/acme/shop/builds/27", BUILDKITE_API_TOKEN: "bkua_token" },
    ...{ BUILDKITE_MESSAGE: "Move checkout; echo $HOME `id`\n\nWhy.", BUILDKITE_BUILD_AUTHOR: "Ada Lovelace" },
  });

  for (const [ci, script, answer, variables, name] of [
    ["Jenkins", JENKINS, "jenkins.json", jenkins, "unit tests"],
    ["Buildkite", BUILDKITE, "buildkite.json", buildkite, "package"],
  ] as const) {
    test(`names on ${ci} the author of the only commit that came, and nobody where two came`, async () => {
      for (const commits of [1, 2]) {
        let before = "";
        const { result, stored } = await playScript(script, answer, variables, async (machine) => {
          before = (await push(machine, "Before", 1)).sha;
          const { sha } = await push(machine, "Move checkout", commits);
          const at = new Date().toISOString();
          const passed = [{ commit: before, at, jobs: [name] }];
          machine.write("work/document.json", { pipeline_id: 1, commit: before, counted_at: at, jobs: {}, passed });
          return { GIT_COMMIT: sha, BUILDKITE_COMMIT: sha };
        });
        const { from, title, author } = stored.jobs[name].turned;
        assert.equal(from, before);
        const expected = ci === "Jenkins" ? "Move checkout" : "Move checkout; echo $HOME `id`";
        assert.deepEqual([title, author], commits === 1 ? [expected, "Ada Lovelace"] : [undefined, undefined]);
        assert.doesNotMatch(result.stderr, /fatal/);
      }
    });
  }

  test("counts a build of Jenkins outside multibranch projects, where no branch is named", async () => {
    const variables = (url: string) => ({ ...jenkins(url), BRANCH_NAME: undefined });
    const { stored } = await playScript(JENKINS, "jenkins.json", variables);
    assert.equal(stored.pipeline_id, 314);
  });

  test("has for Jenkins nothing that its language reads otherwise between three quotes", () => {
    assert.doesNotMatch(JENKINS, /\\|'''/);
  });

  test("counts the stages of a build of Jenkins", async () => {
    const { result, asked, jobs, stored } = await playScript(JENKINS, "jenkins.json", jenkins);
    assert.equal(asked?.path, "/job/acme/job/shop/job/main/314/wfapi/describe");
    assert.equal(asked?.headers.authorization, `Basic ${Buffer.from("ci:token").toString("base64")}`);
    assert.deepEqual(
      jobs.map(({ name, status }) => `${name}: ${status}`),
      [
        "Declarative: Checkout SCM: success",
        "lint: success",
        "unit tests: failed",
        "reports: failed",
        "end to end: skipped",
        "deploy: skipped",
        "Declarative: Post Actions: skipped",
      ],
    );
    assert.doesNotMatch(result.stderr, /Warning/);
    assert.match(result.stdout, /2 jobs failed, 2 passed, 3 did not run/);
    assert.deepEqual([stored.pipeline_id, stored.project.name], [314, "acme/shop/main"]);
    assert.deepEqual(Object.keys(stored.jobs).toSorted(), ["reports", "unit tests"]);
    assert.equal(stored.jobs["unit tests"].jobs_info[0].id, 314_002);
    const [stage] = JSON.parse(recorded("jenkins.json")).stages;
    assert.ok(jobs[0]?.web_url.endsWith(`/job/main/314/execution/node/${stage.id}/`), jobs[0]?.web_url);
  });

  test("counts the jobs of a build of Buildkite: the last attempt, each shard, none that may fail", async () => {
    const { result, asked, jobs, stored } = await playScript(BUILDKITE, "buildkite.json", buildkite);
    assert.equal(asked?.path, "/v2/organizations/acme/pipelines/shop/builds/27");
    assert.equal(asked?.headers.authorization, "Bearer bkua_token");
    assert.deepEqual(
      jobs.filter(({ status }) => status !== "success").map(({ name, status }) => `${name}: ${status}`),
      [
        ...["end to end 2/2: failed", "nightly: failed", "slow: failed", "package: failed"],
        ...["publish: skipped", "deploy: skipped", "check-failures: skipped"],
      ],
    );
    assert.doesNotMatch(result.stderr, /Warning/);
    assert.match(result.stdout, /3 jobs failed, 5 passed, 4 did not run/);
    assert.deepEqual(Object.keys(stored.jobs).toSorted(), ["end to end 2/2", "package", "slow"]);
    assert.deepEqual(stored.passed[0].jobs.toSorted(), [
      ":pipeline: Upload",
      "end to end 1/2",
      "lint",
      "make docs",
      "unit tests",
    ]);
  });
});

describe("README's command for another chat", { skip: without("bash", "curl", "jq") }, () => {
  const cleanUp = makeCleanUp();
  const commands = new Map(
    blockWith("# E-mail")
      .split(/^(?=# )/m)
      .map((text) => [/^# (An issue|E-mail|\w+ Teams|Discord)/.exec(text)?.[1] ?? text, text]),
  );

  /** Plays a run that breaks these jobs, with a command in alert.sh. */
  async function playAlert(name: string, status = 204, jobs = ["unit tests"]) {
    const server = await startServer((_, response) => answerWith(status)(response));
    const mail = 'printf "%s\\n" "$@" > "$MACHINE/mail.args"; cat > "$MACHINE/mail.body"';
    const machine = makeMachine({ mail });
    cleanUp(server.close);
    cleanUp(machine.remove);
    bundleInto(machine);
    machine.write("work/alert.sh", commands.get(name) ?? assert.fail(name));
    const document = { pipeline_id: 1002, jobs: Object.fromEntries(jobs.map((job) => [job, history("·✗✗")])) };
    machine.write("work/document.json", document);
    machine.write(
      "work/jobs.json",
      jobs.map((name, id) => ({ id: id + 1, name, status: "failed" })),
    );
    const [, command] = codeWith("ALERT_COMMAND: sh").split(": ");
    const result = await machine.play("node check-failures.mjs", {
      ...{ CI_PIPELINE_ID: "1003", CI_COMMIT_SHA: "0ddba11", CI_PROJECT_PATH: "acme/shop", CI_COMMIT_BRANCH: "main" },
      ...{ PIPELINE_JOBS_FILE: "jobs.json", JOB_EXECUTIONS_URL: "document.json", ALERT_COMMAND: command },
      ...{ TEAMS_WEBHOOK_URL: `${server.url}/teams`, DISCORD_WEBHOOK_URL: `${server.url}/discord`, GH_TOKEN: "ghp" },
    });
    const bodies = server.requests.map(({ headers, body }) => {
      assert.equal(headers["content-type"], "application/json");
      return JSON.parse(body.toString());
    });
    return { result, bodies, machine, stored: JSON.parse(machine.read("work/document.json") ?? "null") };
  }

  const SUBJECT = "🔴 unit tests broken in acme/shop main, pipeline 1003";

  test("is there for each that README names", () => {
    assert.deepEqual([...commands.keys()], ["Microsoft Teams", "Discord", "E-mail", "An issue"]);
  });

  test("posts a card to Teams", async () => {
    const { result, bodies, stored } = await playAlert("Microsoft Teams", 202);
    assertDone(result);
    const [card] = bodies[0].attachments;
    assert.equal(card.contentType, "application/vnd.microsoft.card.adaptive");
    assert.equal(card.content.type, "AdaptiveCard");
    assert.equal(card.content.body[0].text.split("\n")[0].startsWith("🔴 unit tests broken in acme/shop main"), true);
    assert.deepEqual([bodies.length, stored.pending_alerts], [1, undefined]);
  });

  test("posts to Discord what fits into its two limits, and pings nobody", async () => {
    const names = Array.from({ length: 80 }, (_, i) => `end to end tests of the shop on a slow machine ${i}`);
    const { result, bodies } = await playAlert("Discord", 204, names);
    assertDone(result);
    const [{ content, embeds, allowed_mentions }] = bodies;
    assert.ok(content.length <= 2_000 && content.startsWith("🔴 80 jobs broken in acme/shop main"));
    const { description } = embeds[0];
    assert.ok(description.length > 2_000 && description.length <= 4_096, `${description.length}`);
    assert.ok(description.includes(names[0]));
    assert.deepEqual(allowed_mentions, { parse: [] });
  });

  for (const name of ["Microsoft Teams", "Discord"]) {
    test(`keeps the message where ${name} refuses it`, async () => {
      const { result, stored } = await playAlert(name, 500);
      assert.equal(result.code, 1);
      assert.match(result.stderr, /ALERT_COMMAND.*500/);
      assert.equal(stored.pending_alerts.length, 1);
    });
  }

  test("sends an e-mail", async () => {
    const { result, machine } = await playAlert("E-mail");
    assertDone(result);
    assert.equal(machine.read("mail.args"), `-s\n${SUBJECT}\nci-owners@example.com\n`);
    assert.match(machine.read("mail.body") ?? "", /unit tests.* failed 3 times in a row/);
  });

  test("opens an issue on GitHub", async () => {
    const { result, machine } = await playAlert("An issue");
    assertDone(result);
    assert.deepEqual(
      machine.issues().map(({ title }) => title),
      [SUBJECT],
    );
    assert.match(machine.issues()[0]?.said[0] ?? "", /unit tests.* failed 3 times in a row/);
  });
});

// --- What GitHub's own descriptions say

/** What the script reads of a job of GitHub's is there by GitHub's own description: these types must agree. */
type ListedJob = components["schemas"]["job"];
type GitHubJob = Pick<ListedJob, "id" | "name" | "status" | "conclusion" | "html_url" | "run_attempt"> & {
  steps?: Pick<NonNullable<ListedJob["steps"]>[number], "name" | "conclusion">[];
};

test("jobs as GitHub's examples have them are read as jobs", async () => {
  const examples = examplesOf("workflow_job").map(({ workflow_job }) => workflow_job as GitHubJob);
  assert.equal(examples.length > 0, true);
  for (const [i, example] of examples.entries()) {
    const folder = makeFolder({ "jobs.json": { total_count: 1, jobs: [example] } });
    try {
      const { jobs } = await listingIn(join(folder.path, "jobs.json"))();
      const { id, name, status, conclusion, html_url: url, steps } = example;
      const outcomes: Record<string, string> = { failure: "failed", success: "passed" };
      const outcome = (status === "completed" && outcomes[conclusion ?? ""]) || "not run";
      assert.deepEqual(
        jobs.map((job) => ({ id: job.id, name: job.name, url: job.url, outcome: job.outcome })),
        [{ id, name, url, outcome }],
        `example ${i}`,
      );
      const reason = steps?.find((step) => step.conclusion === "failure")?.name;
      if (outcome === "failed") assert.equal(jobs[0]?.reason, reason, `example ${i}`);
    } finally {
      folder.remove();
    }
  }
});
