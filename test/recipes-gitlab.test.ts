/** Plays the recipes for GitLab CI as they stand, in a shell with what GitLab sets. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { Variables } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { startChat } from "./support/recipes/chats.ts";
import { failedTwice, PROJECT, parsed, RECIPES, recipe } from "./support/recipes/files.ts";
import { assertDone, type Machine, MISSING, makeMachine, without } from "./support/recipes/machine.ts";
import { makeFolder } from "./support/run.ts";
import { JOB_TOKEN, startGitLab } from "./support/servers/gitlab.ts";
import { answerWith } from "./support/servers/http.ts";
import { startS3 } from "./support/servers/s3.ts";
import { startSlack } from "./support/servers/slack.ts";
import { startSts, stsError } from "./support/servers/sts.ts";
import { writeBundle } from "./tools/bundle.ts";

const ONE = "gitlab.yml";
const CACHED = "gitlab-without-s3.yml";
const MANY = "many/gitlab/check-failures.yml";
const jobIn = (name: string) => parsed(name)["check-failures"];

const built = makeFolder();
after(built.remove);
const BUNDLE = await writeBundle(built.path);

const SHELL = ["-eo", "pipefail"];
const ID_TOKEN = "id-token-of-gitlab";

/** The variables of a job of acme/shop as GitLab sets them: those of its file may name others. */
function variablesOf(own: Record<string, string>, machine: Machine): Variables {
  const predefined: Record<string, string> = {
    ...{ GITLAB_CI: "true", CI_PROJECT_PATH: "acme/shop", CI_PROJECT_URL: "https://gitlab.example.com/acme/shop" },
    ...{ CI_PROJECT_DIR: machine.work, CI_PROJECT_ID: "4242" },
    ...{ CI_SERVER_PROTOCOL: "https", CI_SERVER_FQDN: "gitlab.example.com" },
    ...{ CI_DEFAULT_BRANCH: "main", CI_COMMIT_BRANCH: "main", CI_JOB_TOKEN: JOB_TOKEN },
  };
  const expand = (text: string) => text.replace(/\$\{?(\w+)\}?/g, (_, name) => predefined[name] ?? "");
  const expanded = Object.entries(own).map(([name, text]) => [name, expand(text)]);
  return { ...predefined, ...Object.fromEntries(expanded) };
}

const listed = (id: number, name: string, status: string) => ({ id, name, status, stage: "test" });

/** A project of GitLab with its servers, whose last job can be played. */
async function makeProject(name: string, cleanUp: (step: () => unknown) => void, programs = {}) {
  const machine = makeMachine(programs);
  const [s3, gitlab, slack, sts] = await Promise.all([
    startS3({ bucket: "ci-bucket" }),
    startGitLab(),
    startSlack(),
    startSts(),
  ]);
  const servers = [s3, gitlab, slack, sts];
  for (const end of [machine.remove, ...servers.map(({ close }) => close)]) cleanUp(end);
  const job = jobIn(name);
  async function play(id: number, status: string, script: string[] = job.script, variables: Variables = {}) {
    gitlab.pipelines.set(id, [listed(id * 10, "unit tests", status), listed(id * 10 + 1, "lint", "success")]);
    return machine.play(
      script.join("\n"),
      {
        ...variablesOf(job.variables, machine),
        ...{ AWS_ENDPOINT_URL_S3: s3.url, AWS_ENDPOINT_URL_STS: sts.url, SLACK_API_URL: slack.apiUrl },
        ...{ CI_API_V4_URL: gitlab.apiUrl, SLACK_API_TOKEN: "xoxb-stand-in-token", AWS_ID_TOKEN: ID_TOKEN },
        ...{ CI_PIPELINE_ID: `${id}`, CI_COMMIT_SHA: `0ddba1${id}`, CI_COMMIT_MESSAGE: `Commit ${id}\n\nWhy.` },
        ...{ HOSTS: servers.map(({ url }) => new URL(url).host).join() },
        ...variables,
      },
      SHELL,
    );
  }
  const told = () => slack.messages.map(({ channel, text }) => `${channel} ${text.slice(0, 2)}`);
  return { machine, play, s3, gitlab, slack, sts, told };
}

const KEY = "acme/shop/check-failures.json";
const storeTwice = (s3: { objects: Map<string, Buffer> }) =>
  s3.objects.set(KEY, Buffer.from(JSON.stringify(failedTwice("unit tests"))));

for (const name of [ONE, CACHED, MANY]) {
  test(`${name} comes last on the default branch, whatever failed, turns nothing red, and ends in minutes`, () => {
    const { stage, allow_failure, timeout, resource_group, rules } = jobIn(name);
    assert.deepEqual([stage, allow_failure, timeout, resource_group], [".post", true, "10m", "check-failures"]);
    assert.deepEqual(rules, [{ if: "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", when: "always" }]);
  });

  test(`${name} takes nothing from the project's defaults but its runners, and no artifacts`, () => {
    const { inherit, before_script, dependencies, image } = jobIn(name);
    assert.deepEqual([inherit, before_script, dependencies], [{ default: ["tags"] }, [], []]);
    assert.match(image, /^node:\d+\.\d+\.\d+/);
  });
}

describe("the recipes for GitLab, played", { skip: without("bash", "git"), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("gitlab.yml tells after three pipelines, with a role of AWS by GitLab's token, and the job's own token", async () => {
    const { machine, play, s3, sts, told, slack } = await makeProject(ONE, cleanUp);
    machine.put(BUNDLE, "work/ci/check-failures.mjs");
    assert.deepEqual(Object.keys(jobIn(ONE).id_tokens), ["AWS_ID_TOKEN"]);
    for (const [id, status] of [
      [1000, "success"],
      [1001, "failed"],
      [1002, "failed"],
      [1003, "failed"],
    ] as const)
      assertDone(await play(id, status));
    assert.deepEqual(told(), ["#ci-alerts 👋", "#ci-alerts 🔴"]);
    const text = slack.messages[1]?.text ?? "";
    assert.match(text, /^🔴 .*unit tests.* broken in acme\/shop main since .*Commit 1001/);
    assert.ok(text.includes("https://gitlab.example.com/acme/shop/-/commit/0ddba11001"), text);
    assert.match(`${sts.requests[0]?.body}`, new RegExp(`WebIdentityToken=${ID_TOKEN}`));
    assert.match(`${s3.requests[0]?.headers.authorization}`, /Credential=AKIAROLE\//);
    assert.deepEqual([...s3.objects.keys()], [KEY]);
    assert.deepEqual(readdirSync(machine.work), ["ci"]);
  });

  test("gitlab-without-s3.yml keeps its document in GitLab's cache", async () => {
    const { machine, play, told } = await makeProject(CACHED, cleanUp);
    machine.put(BUNDLE, "work/ci/check-failures.mjs");
    machine.write("work/.check-failures/document.json", failedTwice("unit tests"));
    assertDone(await play(1003, "failed"));
    assert.deepEqual(told(), ["#ci-alerts 🔴"]);
    assert.deepEqual(jobIn(CACHED).cache, { key: "check-failures", paths: [".check-failures/"], when: "always" });
    assert.match(machine.read("work/.check-failures/document.json") ?? "", /"pipeline_id": ?1003\b/);
  });

  test("many/gitlab runs from a project that keeps it for many others, and leaves nothing behind", async () => {
    const { machine, play, s3, told } = await makeProject(MANY, cleanUp);
    storeTwice(s3);
    const url = `https://gitlab-ci-token:${JOB_TOKEN}@gitlab.example.com/acme/ci.git`;
    const seed = `git init -q -b main seed && mkdir seed/ci && cp '${BUNDLE}' seed/ci && cd seed && git add . &&
      git -c user.name=a -c user.email=a@localhost commit -qm seed && git clone -q --bare . "$MACHINE/ci.git"`;
    assertDone(await machine.play(seed, {}, ["-e"], machine.path));
    const key = `url.file://${machine.path}/ci.git.insteadOf`;
    const git = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: key, GIT_CONFIG_VALUE_0: url };
    // As on a runner that keeps its folders, each pipeline finds what the one before has left.
    for (const id of [1003, 1004]) assertDone(await play(id, "failed", undefined, git));
    assert.deepEqual(told(), ["#ci-alerts 🔴"]);
    assert.deepEqual(readdirSync(machine.work), []);
    assert.deepEqual(parsed("many/gitlab/include.yml"), {
      include: [{ project: "acme/ci", file: "check-failures.yml" }],
    });
    const { code, stderr } = await play(1005, "failed"); // no such project
    assert.deepEqual([code !== 0, /check-failures/.test(stderr)], [true, false]);
  });

  test("gitlab.yml tells another chat by that chat's recipe", { skip: without("curl", "jq") }, async () => {
    const [{ machine, play, s3, told }, chat] = await Promise.all([makeProject(ONE, cleanUp), startChat("mattermost")]);
    cleanUp(chat.close);
    storeTwice(s3);
    machine.put(BUNDLE, "work/ci/check-failures.mjs");
    machine.put(join(RECIPES, "mattermost.sh"), "work/ci/mattermost.sh");
    const command = { ALERT_COMMAND: "sh ci/mattermost.sh", MATTERMOST_WEBHOOK_URL: chat.url };
    const noSlack = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
    assertDone(await play(1003, "failed", undefined, { ...command, ...noSlack }));
    assert.match(`${chat.taken[0]?.text}`, /^🔴 .*unit tests.* broken in acme\/shop main/);
    assert.deepEqual(told(), []);
  });

  test("gitlab.yml fails, and says why, without the bundle, a role or a good token", async () => {
    const { machine, play, sts, slack, s3 } = await makeProject(ONE, cleanUp);
    storeTwice(s3);
    assert.match((await play(1003, "failed")).stderr, /Cannot find module .*ci\/check-failures\.mjs/);
    machine.put(BUNDLE, "work/ci/check-failures.mjs");

    const refused = await play(1003, "failed", undefined, { SLACK_API_TOKEN: "xoxb-revoked" });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /invalid_auth/);
    assert.doesNotMatch(refused.stderr, /xoxb-revoked/);

    sts.faults.push({
      times: 9,
      answer: stsError(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
    });
    const { code, stderr } = await play(1003, "failed");
    assert.equal(code, 1);
    assert.match(stderr, /AWS_ROLE_ARN/);
    assert.equal(slack.messages.length, 0);
  });

  test("gitlab.yml runs the source as well, installed by its lock file without development's packages", async () => {
    // Installs nothing: the project's own packages are there. Keeps with what it was called.
    const npm = `echo "$*" >> "$MACHINE/npm.log"; ln -sfn '${PROJECT}/node_modules' "$3/node_modules"`;
    const { machine, play, s3, told } = await makeProject(ONE, cleanUp, { npm });
    storeTwice(s3);
    for (const file of ["check-failures.ts", "package.json", "package-lock.json"])
      machine.put(join(PROJECT, file), `work/ci/${file}`);
    const [, command = ""] = /^(npm ci --prefix ci .*ci\/check-failures\.ts)$/m.exec(readme()) ?? [];
    assertDone(await play(1003, "failed", [...jobIn(ONE).script.slice(0, -1), command]));
    assert.deepEqual(told(), ["#ci-alerts 🔴"]);
    assert.match(machine.read("npm.log") ?? "", /^ci --prefix ci --omit=dev --ignore-scripts\n$/);
    const lock = JSON.parse(readFileSync(join(PROJECT, "package-lock.json"), "utf8"));
    assert.equal(lock.packages["node_modules/tsx"].dev, undefined, "tsx is there without development's packages");
  });
});

const readme = () => readFileSync(join(PROJECT, "README.md"), "utf8");

describe("README's command for Deno", () => {
  const cleanUp = makeCleanUp();
  const [command = ""] = /^deno run (?:.*\\\n)*.*$/m.exec(readme()) ?? [];

  test("allows gitlab.yml the hosts that it speaks to, its token's file, and no more", () => {
    const { AWS_REGION, JOB_EXECUTIONS_URL } = jobIn(ONE).variables;
    const aws = [`${new URL(JOB_EXECUTIONS_URL).host}.s3`, "sts"].map((name) => `${name}.${AWS_REGION}.amazonaws.com`);
    const hosts = [...aws, "gitlab.example.com", "slack.com"];
    assert.deepEqual(command.match(/--[\w-]+(=\S+)?/g)?.toSorted(), [
      ...["--allow-env", `--allow-net=${hosts.join()}`, '--allow-read="$AWS_WEB_IDENTITY_TOKEN_FILE"'],
      ...["--allow-sys=osRelease", "--no-prompt"],
    ]);
  });

  test("is enough for gitlab.yml", { skip: without("bash", "deno") }, async () => {
    const { machine, play, s3, told } = await makeProject(ONE, cleanUp);
    storeTwice(s3);
    machine.put(BUNDLE, "work/ci/check-failures.mjs");
    const confined = command.replace(/--allow-net=\S+/, '--allow-net="$HOSTS"');
    assertDone(await play(1003, "failed", [...jobIn(ONE).script.slice(0, -1), confined]));
    assert.deepEqual(told(), ["#ci-alerts 🔴"]);
  });
});

describe("AWS's policies", () => {
  const policy = (name: string) => JSON.parse(recipe(`aws/${name}.json`)).Statement;
  const TRUSTED: [name: string, host: string, audience: string, subject: string][] = [
    [
      "gitlab-trust",
      "gitlab.example.com",
      "https://gitlab.example.com",
      "project_path:acme/shop:ref_type:branch:ref:main",
    ],
    [
      "gitlab-many-trust",
      "gitlab.example.com",
      "https://gitlab.example.com",
      "project_path:acme/*:ref_type:branch:ref:main",
    ],
    ["github-trust", "token.actions.githubusercontent.com", "sts.amazonaws.com", "repo:acme/shop:ref:refs/heads/main"],
    [
      ...(["buildkite-trust", "agent.buildkite.com", "sts.amazonaws.com"] as const),
      "organization:acme:pipeline:shop:ref:refs/heads/main:commit:*:step:check-failures",
    ],
  ];
  for (const [name, host, audience, subject] of TRUSTED) {
    test(`${name} trusts the default branch alone, and compares with wildcards only where there are some`, () => {
      const [{ Condition, Principal, Action }] = policy(name);
      const { StringEquals, StringLike = {} } = Condition;
      assert.equal(Action, "sts:AssumeRoleWithWebIdentity");
      assert.equal(Principal.Federated, `arn:aws:iam::123456789012:oidc-provider/${host}`);
      assert.deepEqual({ ...StringEquals, ...StringLike }, { [`${host}:aud`]: audience, [`${host}:sub`]: subject });
      const wild = Object.values<string>(StringEquals).filter((value) => value.includes("*"));
      assert.deepEqual([wild, Object.keys(StringLike).length], [[], subject.includes("*") ? 1 : 0]);
    });
  }

  test("rights are to read and write the documents, and to list the bucket", () => {
    for (const [name, prefix] of [
      ["rights", "acme/shop"],
      ["many-rights", "acme"],
    ] as const) {
      const rights = policy(name).map(({ Action, Resource }: { Action: unknown; Resource: string }) => [
        Action,
        Resource,
      ]);
      assert.deepEqual(rights, [
        [["s3:GetObject", "s3:PutObject"], `arn:aws:s3:::ci-bucket/${prefix}/*`],
        ["s3:ListBucket", "arn:aws:s3:::ci-bucket"],
      ]);
    }
  });

  test("rights cover the documents of each recipe", () => {
    const urls = [ONE, MANY, "github-s3.yml", "buildkite.yml"].map(
      (name) => /JOB_EXECUTIONS_URL: (.*)/.exec(recipe(name))?.[1],
    );
    const expanded = urls.map((url) => url?.replace(/\$CI_PROJECT_PATH|\$\{\{ github\.repository \}\}/, "acme/shop"));
    for (const url of expanded) assert.match(url ?? "", /^s3:\/\/ci-bucket\/acme\/shop\//);
  });

  test("the README beside them names each of them", () => {
    const named = new Set(recipe("aws/README.md").match(/[\w-]+\.json/g));
    const there = readdirSync(join(PROJECT, "fixtures/recipes/aws")).filter((file) => file.endsWith(".json"));
    assert.deepEqual([...named].sort(), there.sort());
  });
});

test("Slack's app may write, and no more", () => {
  const { oauth_config, features } = JSON.parse(recipe("slack-manifest.json"));
  assert.deepEqual(oauth_config, { scopes: { bot: ["chat:write"] } });
  assert.equal(features.bot_user.display_name, "check-failures");
});

describe("many/gitlab/page.yml, played", { skip: without("bash"), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const { pages, watch } = parsed("many/gitlab/page.yml");
  const XML = { "content-type": "application/xml" };
  const toXml = (key: string) => `<Contents><Key>${key}</Key></Contents>`;

  /** Plays the two jobs for two documents, the second of which was counted so many days ago. */
  async function playPage(days: number, bucket = "ci-bucket", programs = {}) {
    const [s3, sts] = await Promise.all([startS3({ bucket }), startSts()]);
    const npm = `[ "$1" = ci ] && exit; shift 4; exec node '${PROJECT}/test/tools/page.ts' "$@"`;
    const machine = makeMachine({ npm, ...programs });
    for (const end of [machine.remove, s3.close, sts.close]) cleanUp(end);
    const at = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
    for (const [name, age] of [
      ["shop", 0],
      ["pay", days],
    ] as const) {
      const document = { pipeline_id: 1, counted_at: at(age), project: { name: `acme/${name}` }, jobs: {} };
      s3.objects.set(`acme/${name}/check-failures.json`, Buffer.from(JSON.stringify(document)));
    }
    s3.faults.push({
      times: 1,
      matches: ({ query }) => query.get("prefix") === "acme/",
      answer: answerWith(
        200,
        `<ListBucketResult>${[...s3.objects.keys()].map(toXml).join("")}</ListBucketResult>`,
        XML,
      ),
    });
    const variables = {
      ...pages.variables,
      AWS_ENDPOINT_URL_S3: s3.url,
      AWS_ENDPOINT_URL_STS: sts.url,
      AWS_ID_TOKEN: ID_TOKEN,
    };
    const made = await machine.play(pages.script.join("\n"), variables, SHELL);
    const watched = await machine.play(watch.script.join("\n"), {}, SHELL);
    return { made, watched, page: machine.read("work/public/index.html") ?? "" };
  }

  test("has every document below the prefix, and is content with monitors that ran", async () => {
    const { made, watched, page } = await playPage(2);
    assertDone(made);
    assertDone(watched);
    assert.ok(page.includes("acme/shop") && page.includes("acme/pay"));
  });

  test("is published, and the watch fails, where a monitor has not counted for three days", async () => {
    const { made, watched, page } = await playPage(4);
    assertDone(made);
    assert.equal(watched.code, 1);
    assert.match(watched.stderr, /acme\/pay/);
    assert.ok(page.includes("acme/shop"));
    assert.deepEqual(pages.artifacts.paths, ["public", "troubles", "code"]);
    assert.deepEqual(watch.needs, ["pages"]);
  });

  test("fails where there is no page", async () => {
    const { made, watched } = await playPage(0, undefined, { npm: MISSING });
    assert.ok(made.code !== 0 && watched.code !== 0);
  });
});
