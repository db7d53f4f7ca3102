/** Plays the recipes for Jenkins, Buildkite and the chats as they stand, and holds the form of all. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { Variables } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { type ChatName, startChat, startMailServer } from "./support/recipes/chats.ts";
import { failedTwice, PROJECT, parsed, RECIPES, recipe } from "./support/recipes/files.ts";
import { assertDone, commit, MISSING, makeMachine, without } from "./support/recipes/machine.ts";
import { makeFolder } from "./support/run.ts";
import { answerWith, startServer } from "./support/servers/http.ts";
import { startS3 } from "./support/servers/s3.ts";
import { startSlack } from "./support/servers/slack.ts";
import { startSts } from "./support/servers/sts.ts";
import { writeBundle } from "./tools/bundle.ts";

const built = makeFolder();
after(built.remove);
const BUNDLE = await writeBundle(built.path);

const ALL = readdirSync(RECIPES, { recursive: true, encoding: "utf8" })
  .filter((name) => statSync(join(RECIPES, name)).isFile())
  .sort();
/** The comment that a recipe begins with; JSON can't have one, and aws/README.md is one for its JSON. */
const COMMENTED = ALL.filter((name) => !/\.(json|md)$/.test(name));
const CHATS = COMMENTED.filter((name) => name.endsWith(".sh"));
const headOf = (name: string) =>
  /^(?:#!.*\n)?((?:(?:#|\/\/) .*\n)*)/.exec(recipe(name))?.[1]?.trimEnd().split("\n") ?? [];

describe("every recipe", () => {
  test("begins with a comment of at most eight lines that says how long it takes", () => {
    for (const name of COMMENTED) {
      const head = headOf(name);
      assert.ok(head.length <= 8 && head.join("").length > 50, `${name}: ${head.length} lines`);
      assert.match(head.join(" "), /\b[Tt]akes \d+ minutes|acme\/ci/, name);
    }
  });

  test("has no line that is wider than a screen", () => {
    const wide = ALL.flatMap((name) =>
      recipe(name)
        .split("\n")
        .filter((line) => line.length > 180)
        .map(() => name),
    );
    assert.deepEqual(wide, []);
  });

  test("pins what it uses, and has the bundle in a folder of its own", () => {
    for (const name of COMMENTED) {
      assert.doesNotMatch(recipe(name), /image: [\w/-]+$|:latest|-latest/m, name);
      assert.doesNotMatch(recipe(name), /node check-failures\.mjs/, name);
    }
  });

  test("sets no variable that the script does not know", () => {
    const source = readFileSync(join(PROJECT, "check-failures.ts"), "utf8");
    const set = COMMENTED.flatMap(
      (name) => recipe(name).match(/\b(CI|ALERT|SLACK|JOB|PIPELINE)_[A-Z_]+\b(?=: |=)/g) ?? [],
    );
    const known = [...new Set(set)].filter((name) => name !== "SLACK_WEBHOOK_URL");
    assert.ok(known.length > 8);
    assert.deepEqual(
      known.filter((name) => !source.includes(name)),
      [],
    );
  });
});

describe("the recipe for a chat,", { skip: without("bash", "curl", "jq"), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const SUBJECT = '🔴 unit <tests> & "more" broken in acme/shop main, pipeline 1003';
  const MESSAGE = `${SUBJECT}\n\n🔴 [unit](https://ci.example.com/1) failed 3 times in a row\nfailures: \`1\`, $HOME\n`;

  /** Plays a script as the command of a run, with a message on stdin. */
  async function playChat(
    file: string,
    variables: Variables,
    message = MESSAGE,
    programs: Record<string, string> = {},
  ) {
    const machine = makeMachine(programs);
    cleanUp(machine.remove);
    machine.put(join(RECIPES, file), `work/ci/${file}`);
    machine.write("message", message);
    const told = { ALERT_SUBJECT: SUBJECT, ALERT_OPEN: "1", ...variables };
    const result = await machine.play(`sh ci/${file} < ../message`, told, ["-e"]);
    return { ...result, machine };
  }
  const WEBHOOKS: [file: string, chat: ChatName, variable: string][] = [
    ["teams.sh", "teams", "TEAMS_WEBHOOK_URL"],
    ["discord.sh", "discord", "DISCORD_WEBHOOK_URL"],
    ["mattermost.sh", "mattermost", "MATTERMOST_WEBHOOK_URL"],
    ["slack-webhook.sh", "slack", "SLACK_WEBHOOK_URL"],
  ];

  for (const [file, name, variable] of WEBHOOKS) {
    async function play(message = MESSAGE, programs = {}, address = "") {
      const chat = await startChat(name);
      cleanUp(chat.close);
      const result = await playChat(file, { [variable]: `${chat.url}${address}` }, message, programs);
      return { ...result, ...chat };
    }

    test(`${file}, posts the message once, whole`, async () => {
      const { code, stderr, taken } = await play();
      assert.equal(code, 0, stderr);
      assert.equal(taken.length, 1);
      for (const words of [SUBJECT, "[unit](https://ci.example.com/1) failed 3 times", "$HOME"])
        assert.ok(JSON.stringify(taken).includes(JSON.stringify(words).slice(1, -1)), words);
    });

    test(`${file}, posts the longest message there is`, async () => {
      const { code, stderr, taken } = await play(`${MESSAGE}${"x".repeat(3_900 - MESSAGE.length)}`);
      assert.deepEqual([code, taken.length], [0, 1], stderr);
    });

    test(`${file}, fails and posts nothing without jq, without curl, and without a message`, async () => {
      for (const programs of [{ jq: MISSING }, { curl: MISSING }]) {
        const { code, taken } = await play(MESSAGE, programs);
        assert.deepEqual([code === 0, taken], [false, []], JSON.stringify(programs));
      }
      const { code, stderr, requests } = await play("\n");
      assert.deepEqual([code === 0, requests], [false, []]);
      assert.match(stderr, /There is no message/);
    });

    test(`${file}, fails with what the chat says that refuses its address, and without an address`, async () => {
      const { code, stderr, taken } = await play(MESSAGE, {}, "x");
      assert.deepEqual([code === 0, taken], [false, []]);
      assert.match(stderr, /40[0-9]|invalid_token/);
      const unset = await playChat(file, {});
      assert.notEqual(unset.code, 0);
      assert.match(unset.stderr, new RegExp(variable));
    });
  }

  test("teams.sh, gives each line of the message a place of its own", async () => {
    const chat = await startChat("teams");
    cleanUp(chat.close);
    await playChat("teams.sh", { TEAMS_WEBHOOK_URL: chat.url });
    const [{ attachments }] = chat.taken as [{ attachments: { content: { body: { text: string }[] } }[] }];
    assert.deepEqual(
      attachments[0]?.content.body.map(({ text }) => text),
      MESSAGE.split("\n").filter((line) => line),
    );
  });

  test("discord.sh, pings nobody", async () => {
    const chat = await startChat("discord");
    cleanUp(chat.close);
    await playChat("discord.sh", { DISCORD_WEBHOOK_URL: chat.url });
    assert.deepEqual(chat.taken[0]?.allowed_mentions, { parse: [] });
  });

  test("slack-webhook.sh, has for notifications what Slack shows as it is, and no previews", async () => {
    const chat = await startChat("slack");
    cleanUp(chat.close);
    await playChat("slack-webhook.sh", { SLACK_WEBHOOK_URL: chat.url });
    const { text, unfurl_links, unfurl_media } = chat.taken[0] ?? {};
    assert.equal(text, '🔴 unit &lt;tests&gt; &amp; "more" broken in acme/shop main, pipeline 1003');
    assert.deepEqual([unfurl_links, unfurl_media], [false, false]);
  });

  test("slack-webhook.sh, fails where 200 is no delivery", async () => {
    const server = await startServer((_, response) => answerWith(200, '{"ok":false}')(response));
    cleanUp(server.close);
    const { code, stderr } = await playChat("slack-webhook.sh", { SLACK_WEBHOOK_URL: server.url });
    assert.equal(code, 1);
    assert.match(stderr, /"ok":false/);
  });

  const MAIL = { MAIL_FROM: "ci@example.com", MAIL_TO: "owners@example.com", SMTP_LOGIN: "ci:secret" };
  async function playMail(variables: Variables = {}, message = MESSAGE, programs = {}) {
    const server = await startMailServer({ to: MAIL.MAIL_TO, login: MAIL.SMTP_LOGIN });
    cleanUp(server.close);
    const result = await playChat("email.sh", { SMTP_URL: server.url, ...MAIL, ...variables }, message, programs);
    return { ...result, mails: server.mails };
  }

  test("email.sh, sends a mail whose subject and text are whole", async () => {
    const { code, stderr, mails } = await playMail();
    assert.deepEqual([code, mails.length], [0, 1], stderr);
    const [, head = "", body = ""] = /^(.*?)\n\n(.*)$/s.exec(mails[0] ?? "") ?? [];
    const subject = [...head.matchAll(/=\?UTF-8\?B\?(.*?)\?=/g)].map(([, text = ""]) => Buffer.from(text, "base64"));
    assert.equal(Buffer.concat(subject).toString(), SUBJECT);
    assert.equal(Buffer.from(body, "base64").toString(), MESSAGE);
    assert.deepEqual(
      head.split("\n").filter((line) => line.length > 78),
      [],
    );
    assert.match(head, /^From: .*<ci@example.com>\nTo: <owners@example.com>\n/);
  });

  test("email.sh, fails and sends nothing where something is missing or refused", async () => {
    const cases: [Variables, string, Record<string, string>][] = [
      ...[{ SMTP_LOGIN: "ci:wrong" }, { MAIL_TO: "nobody@example.com" }, { MAIL_TO: undefined }].map(
        (variables): [Variables, string, Record<string, string>] => [variables, MESSAGE, {}],
      ),
      [{ SMTP_URL: "smtp://mail.example.com" }, MESSAGE, {}],
      [{}, "\n", {}],
      [{}, MESSAGE, { jq: MISSING }],
      [{}, MESSAGE, { curl: MISSING }],
    ];
    for (const [variables, message, programs] of cases) {
      const { code, mails, stderr } = await playMail(variables, message, programs);
      assert.deepEqual([code === 0, mails, stderr === ""], [false, [], false], JSON.stringify([variables, programs]));
    }
  });

  const ISSUE = { GH_TOKEN: "ghp", GH_REPO: "acme/shop" };
  test("github-issue.sh, has one issue whose title is the last message's, open while an alert is", async () => {
    const machine = makeMachine();
    cleanUp(machine.remove);
    machine.put(join(RECIPES, "github-issue.sh"), "work/ci/github-issue.sh");
    const pull = {
      number: 1,
      url: "u",
      state: "open",
      label: "check-failures",
      title: "A change",
      said: [],
      pull_request: {},
    };
    machine.write("gh/issues.json", [pull]);
    const messages: [subject: string, open: string, issue: string][] = [
      ["👋 check-failures now watches", "0", "closed 1 👋 check-failures now watches"],
      ["🔴 unit broken", "1", "open 2 🔴 unit broken"],
      ["🔴 lint broken", "2", "open 3 🔴 lint broken (2 alerts are open)"],
      ["🟢 unit recovered", "1", "open 4 🟢 unit recovered"],
      ["👋 check-failures now watches", "0", "open 5 🟢 unit recovered"],
      ["🟢 lint recovered", "0", "closed 6 🟢 lint recovered"],
      ["🔴 unit broken", "1", "open 7 🔴 unit broken"],
    ];
    for (const [subject, open, issue] of messages) {
      const told = { ...ISSUE, ALERT_SUBJECT: subject, ALERT_OPEN: open };
      assertDone(await machine.play(`echo '${subject}' | sh ci/github-issue.sh`, told, ["-e"]));
      const [first, ...others] = machine.issues();
      assert.deepEqual(first, pull);
      assert.deepEqual(
        others.map(({ state, said, title }) => `${state} ${said.length} ${title}`),
        [issue],
      );
    }
  });

  test("github-issue.sh, fails without gh or a token, and where GitHub refuses", async () => {
    const cases: [Variables, Record<string, string>][] = [
      [ISSUE, { gh: MISSING }],
      [{ GH_REPO: "acme/shop" }, {}],
      [ISSUE, { gh: "echo HTTP 403 >&2; exit 1" }],
    ];
    for (const [variables, programs] of cases) {
      const { code, machine, stderr } = await playChat("github-issue.sh", variables, MESSAGE, programs);
      assert.deepEqual([code === 0, machine.issues(), stderr === ""], [false, [], false]);
    }
  });

  test("which is there for each, gets what it needs from a run of the script", async () => {
    assert.equal(CHATS.length, 6);
    for (const name of CHATS) assert.match(recipe(name), new RegExp(`ALERT_COMMAND: sh ci/${name}\n`));
    const chat = await startChat("teams");
    const machine = makeMachine();
    for (const end of [machine.remove, chat.close]) cleanUp(end);
    for (const file of [BUNDLE, join(RECIPES, "teams.sh")]) machine.put(file, `work/ci/${file.replace(/.*\//, "")}`);
    machine.write("work/document.json", failedTwice("unit"));
    machine.write("work/jobs.json", [{ id: 1, name: "unit", status: "failed" }]);
    const result = await machine.play("node ci/check-failures.mjs", {
      ...{ CI_PIPELINE_ID: "3", CI_COMMIT_SHA: "0ddba11", PIPELINE_JOBS_FILE: "jobs.json" },
      ...{ JOB_EXECUTIONS_URL: "document.json", ALERT_COMMAND: "sh ci/teams.sh", TEAMS_WEBHOOK_URL: chat.url },
    });
    assertDone(result);
    assert.match(JSON.stringify(chat.taken), /🔴 .*unit.*failed 3 times in a row/);
  });
});

const recorded = (name: string): { stages: object[]; jobs: object[] } =>
  JSON.parse(readFileSync(join(PROJECT, "fixtures/other-cis", name), "utf8"));

type ListedJob = { id: number; name: string; status: string; web_url: string; failure_reason?: string | null };
const statuses = (text: string | undefined) =>
  (JSON.parse(text ?? "[]") as ListedJob[]).map(({ name, status }) => `${name}: ${status}`);

describe("the recipe for Jenkins", { skip: without("bash", "curl", "jq", "git", "flock"), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const text = recipe("jenkins/Jenkinsfile");
  const [, script = ""] = /sh '''(.*?)'''/s.exec(text) ?? [];

  async function playBuild(answer: object, programs: Record<string, string> = {}, variables: Variables = {}) {
    const server = await startServer(({ headers }, response) => {
      const isKnown = headers.authorization === `Basic ${Buffer.from("ci:token").toString("base64")}`;
      answerWith(isKnown ? 200 : 401, JSON.stringify(answer))(response);
    });
    const chat = await startChat("teams");
    const machine = makeMachine(programs);
    for (const end of [server.close, chat.close, machine.remove]) cleanUp(end);
    const sha = await commit(machine, "Move checkout; echo $HOME `id`\n\nWhy.");
    for (const file of [BUNDLE, join(RECIPES, "teams.sh")]) machine.put(file, `work/ci/${file.replace(/.*\//, "")}`);
    machine.write("home/check-failures/acme-shop.json", failedTwice("unit tests"));
    const result = await machine.play(
      script,
      {
        ...{ BUILD_URL: `${server.url}/job/acme/job/shop/job/main/314/`, BUILD_NUMBER: "314", BRANCH_NAME: "main" },
        ...{ JOB_URL: `${server.url}/job/acme/job/shop/job/main/`, CI: undefined, TEAMS_WEBHOOK_URL: chat.url },
        ...{ JENKINS_USER: "ci", JENKINS_API_TOKEN: "token", ...variables },
      },
      [],
    );
    const stored = JSON.parse(machine.read("home/check-failures/acme-shop.json") ?? "null");
    return { ...result, machine, stored, sha, asked: server.requests[0], taken: chat.taken };
  }

  test("is run in every case, holds one node for it, and turns no build red when it fails", () => {
    const order = [
      "post {",
      "always {",
      "catchError(buildResult: 'SUCCESS'",
      "timeout(time: 10",
      "node('check-failures')",
    ];
    const places = [...order, "withCredentials", "sh '''#!/bin/bash\n"].map((words) => text.indexOf(words));
    assert.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
    );
    assert.ok(places.every((place) => place > 0));
    assert.equal(text.split("{").length, text.split("}").length);
  });

  test("has nothing that Jenkins' language reads otherwise between three quotes, and prints no command", () => {
    assert.doesNotMatch(script, /\\/);
    assert.doesNotMatch(script, /set -[a-z]*x/);
    assert.match(script, /^#!\/bin\/bash\n/);
  });

  test("counts the stages of a build, and keeps the document where it lasts", async () => {
    const { code, stdout, stderr, machine, stored, sha, asked, taken } = await playBuild(recorded("jenkins.json"));
    assert.equal(code, 0, stderr);
    assert.equal(asked?.path, "/job/acme/job/shop/job/main/314/wfapi/describe");
    assert.deepEqual(statuses(machine.read("work/check-failures-jobs.json")), [
      ...["Declarative: Checkout SCM: success", "lint: success", "unit tests: failed", "reports: failed"],
      ...["end to end: failed", "deploy: skipped", "Declarative: Post Actions: skipped"],
    ]);
    assert.doesNotMatch(stderr, /Warning/);
    assert.match(stdout, /3 jobs failed, 2 passed, 2 did not run/);
    assert.deepEqual([stored.pipeline_id, stored.project.name, stored.commit], [314, "acme/shop", sha]);
    const [job] = JSON.parse(machine.read("work/check-failures-jobs.json") ?? "[]");
    assert.match(job.web_url, /\/job\/main\/314\/execution\/node\/6\/$/);
    assert.match(JSON.stringify(taken), /🔴 .*unit tests/);
    assert.doesNotMatch(`${stdout}${stderr}`, /\btoken\b/);
  });

  test("takes no stage that was skipped for one that failed or passed, whatever Jenkins lists", async () => {
    const { code, machine, stderr } = await playBuild(recorded("jenkins-skipped.json"), {}, { BRANCH_NAME: undefined });
    assert.equal(code, 0, stderr);
    assert.deepEqual(statuses(machine.read("work/check-failures-jobs.json")), [
      ...["lint: success", "slow: failed", "unit tests: failed", "package: skipped", "publish: skipped"],
      ...["reports: failed", "end to end: skipped", "Declarative: Post Actions: skipped"],
    ]);
  });

  const BROKEN: [title: string, answer: object, programs: Record<string, string>, variables: Variables][] = [
    ["without jq", recorded("jenkins.json"), { jq: MISSING }, {}],
    ["without curl", recorded("jenkins.json"), { curl: MISSING }, {}],
    ["with a token that is refused", recorded("jenkins.json"), {}, { JENKINS_API_TOKEN: "old" }],
    ["where no stage is listed", { stages: [] }, {}, {}],
    ["where the chat refuses its address", recorded("jenkins.json"), {}, { TEAMS_WEBHOOK_URL: "http://127.0.0.1:1/" }],
  ];
  for (const [title, answer, programs, variables] of BROKEN) {
    test(`fails ${title}`, async () => {
      const { code, stderr, taken } = await playBuild(answer, programs, variables);
      assert.deepEqual([code === 0, stderr === "", taken], [false, false, []]);
    });
  }
});

describe("the recipe for Buildkite", { skip: without("bash", "curl", "jq", "git"), concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const { steps } = parsed("buildkite.yml");
  const step = steps.at(-1);
  /** What `buildkite-agent pipeline upload` makes of a command: each $ of the shell is written twice. */
  const script = step.command.replaceAll("$$", "$");

  async function playBuild(answer: object, programs: Record<string, string> = {}, variables: Variables = {}) {
    const server = await startServer(({ headers }, response) => {
      const isKnown = headers.authorization === "Bearer secret-BUILDKITE_READ_TOKEN";
      answerWith(isKnown ? 200 : 401, JSON.stringify(answer))(response);
    });
    const [s3, sts, slack] = await Promise.all([startS3({ bucket: "ci-bucket" }), startSts(), startSlack()]);
    // The address of Buildkite is that of the server here.
    const curl = `for word; do shift; set -- "$@" "$(echo "$word" | sed "s#^https://api.buildkite.com#$SERVER#")"; done
      PATH=\${PATH#*:} exec curl "$@"`;
    const agent = `case "$1 $2" in
      "secret get") [ "$3" = SLACK_API_TOKEN ] && echo xoxb-stand-in-token || echo "secret-$3" ;;
      "oidc request-token") echo "oidc for $4" ;;
      *) exit 1 ;;
    esac`;
    const machine = makeMachine({ curl, "buildkite-agent": agent, ...programs });
    for (const end of [server, s3, sts, slack]) cleanUp(end.close);
    cleanUp(machine.remove);
    await commit(machine, "Commit");
    machine.put(BUNDLE, "work/ci/check-failures.mjs");
    const key = "acme/shop/check-failures.json";
    s3.objects.set(key, Buffer.from(JSON.stringify(failedTwice("package"))));
    const result = await machine.play(
      script,
      {
        ...{
          SERVER: server.url,
          AWS_ENDPOINT_URL_S3: s3.url,
          AWS_ENDPOINT_URL_STS: sts.url,
          SLACK_API_URL: slack.apiUrl,
        },
        ...{ BUILDKITE_ORGANIZATION_SLUG: "acme", BUILDKITE_PIPELINE_SLUG: "shop", BUILDKITE_BUILD_NUMBER: "27" },
        ...{ BUILDKITE_COMMIT: "HEAD", BUILDKITE_BRANCH: "main", BUILDKITE_PIPELINE_DEFAULT_BRANCH: "main" },
        ...{
          BUILDKITE_BUILD_URL: "https://buildkite.com/acme/shop/builds/27",
          BUILDKITE_MESSAGE: "Move checkout; echo `id`",
        },
        ...{ BUILDKITE_JOB_ID: "01936e4f-8a2b-4c1d-9e00-000000000015", ...step.env, ...variables },
      },
      ["-e"],
    );
    return { ...result, machine, asked: server.requests[0], stored: JSON.parse(`${s3.objects.get(key)}`), slack, sts };
  }

  test("comes last, on the default branch, one at a time, and turns no build red", () => {
    assert.deepEqual(steps.at(-2), { wait: { continue_on_failure: true } });
    const { key, soft_fail, concurrency, concurrency_group, timeout_in_minutes } = step;
    assert.deepEqual(
      [key, soft_fail, concurrency, concurrency_group],
      ["check-failures", true, 1, "check-failures/shop"],
    );
    assert.equal(timeout_in_minutes, 10);
    assert.match(step.if, /^build\.branch == pipeline\.default_branch && build\.pull_request\.id == null$/);
  });

  test("leaves nothing for the upload of the pipeline to fill in", () => {
    assert.doesNotMatch(step.command.replaceAll("$$", ""), /\$/);
    assert.doesNotMatch(JSON.stringify(step.env), /\$/);
  });

  test("counts the jobs of a build: the last attempt, each shard, none that may fail, and not itself", async () => {
    const { code, stdout, stderr, machine, asked, stored, slack, sts } = await playBuild(recorded("buildkite.json"));
    assert.equal(code, 0, stderr);
    assert.equal(asked?.path, "/v2/organizations/acme/pipelines/shop/builds/27");
    assert.doesNotMatch(stderr, /Warning/);
    assert.match(stdout, /3 jobs failed, 5 passed, 3 did not run/);
    assert.deepEqual(Object.keys(stored.jobs).toSorted(), ["end to end 2/2", "package", "slow"]);
    assert.deepEqual(Object.keys(stored.passed).toSorted(), [
      ...[":pipeline: Upload", "end to end 1/2", "lint", "make docs", "unit tests"],
    ]);
    assert.match(`${sts.requests[0]?.body}`, /WebIdentityToken=oidc(%20|\+)for/);
    assert.match(slack.messages[0]?.text ?? "", /^🔴 .*package.* broken in acme\/shop main/);
    assert.deepEqual(readdirSync(machine.inside("temp")), [], "no token is left");
  });

  const BROKEN: [title: string, answer: object, programs: Record<string, string>][] = [
    ["without jq", recorded("buildkite.json"), { jq: MISSING }],
    ["without the agent's secrets", recorded("buildkite.json"), { "buildkite-agent": "exit 1" }],
    ["with a token that is refused", recorded("buildkite.json"), { "buildkite-agent": "echo other" }],
    ["where no job is listed", { number: 27, jobs: [] }, {}],
  ];
  for (const [title, answer, programs] of BROKEN) {
    test(`fails ${title}`, async () => {
      const { code, stderr, stored, slack } = await playBuild(answer, programs);
      assert.notEqual(code, 0);
      assert.deepEqual([stored.pipeline_id, slack.messages], [2, []], stderr);
    });
  }
});
