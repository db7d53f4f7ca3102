/** How alerts get to Slack: once each, whatever the store, Slack or the process itself does in between. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { describe, test } from "node:test";
import {
  type AddressedMessage,
  type JobExecutions,
  openSender,
  type PendingMessage,
  type PipelineJob,
  type Run,
  sendNotification,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  MINUTE,
  memoryStore,
  messageOf,
  NOW,
  openAlert,
  passed,
  pendingAlert,
  runOf,
  settings,
  slackText,
  stripOf,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";
import { answerJson, answerWith, type Fault, reset } from "./support/servers/http.ts";
import { preconditionFailed } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { isClearing, isUpload, PIPELINE, recent, type Scope, setStage } from "./support/stage.ts";
import { parseDocument } from "./support/stored.ts";

const timeout = MINUTE; // Bun's default is too short for several runs, or tries, one after the other
const NO_SLACK = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
const DAY = 24 * 60 * MINUTE;
const later = (ms: number) => new Date(NOW.getTime() + ms).toISOString();

/** The one line that says what went wrong. */
function errorIn(stderr: string): string {
  const [line = "", ...others] = stderr.split("\n").filter((line) => line.startsWith("Error"));
  assert.deepEqual(others, []);
  return line;
}

const methodsOf = (requests: { method: string }[]) => requests.map(({ method }) => method).join(" ");

/** Answers the messages for a channel in place of Slack. */
const faultFor = (channel: string, times: number, answer: Fault["answer"]): Fault => ({
  times,
  matches: ({ body }) => JSON.parse(`${body}`).channel === channel,
  answer,
});

const refuse = (error: string) => (response: ServerResponse) => answerJson(response, { ok: false, error });

describe("a run of the script", { concurrency: 2 }, () => {
  test("that has nothing to tell makes one upload", async (t) => {
    const { s3, gitlab, slack, run, store } = await setStage(t);
    await store(documentOf());

    const { code, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "counted");
    assert.equal(methodsOf(s3.requests), "GET PUT");
    assert.deepEqual(gitlab.requests.map(({ path }) => path.split("/").at(-1)).sort(), ["bridges", "jobs"]);
    assert.equal(slack.requests.length, 0);
  });

  test("that alerts records its news as data, sends them as text and clears them", async (t) => {
    const { s3, slack, run, stored } = await setStage(t);

    const { code, stderr, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "counted");
    const [{ channel, text, delivered }, ...others] = printed.messages;
    assert.deepEqual([channel, text, delivered, others.length], ["#ci", slack.messages[0]?.text, true, 0]);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    const [, counting] = s3.requests;
    const [pending, ...more]: PendingMessage[] = JSON.parse(`${counting?.body}`).pending_alerts;
    assert.deepEqual(more, []);
    assert.ok(pending);
    assert.deepEqual(Object.keys(pending).sort(), ["channel", "due", "id", "news", "pipeline"]);
    assert.deepEqual(
      [pending.channel, pending.news.map(({ kind, job }) => [kind, job])],
      [null, [["consecutive", "unit tests"]]],
    );
    assert.equal(slackText(pending), text);
    assert.equal(stored().pending_alerts, undefined);
    assert.doesNotMatch(stderr, /error|warning/i);
  });

  test("records a message so that another run may send it five minutes later", async (t) => {
    const { s3, run } = await setStage(t);
    const started = Date.now();

    await run();

    const [{ due }] = JSON.parse(`${s3.requests.find(isUpload)?.body}`).pending_alerts;
    const dueMs = Date.parse(due);
    assert.ok(dueMs >= started + 5 * MINUTE && dueMs <= Date.now() + 5 * MINUTE, due);
  });

  test("asks Slack once, as the bot, for a message without previews of its links", async (t) => {
    const { slack, run } = await setStage(t);

    await run();

    assert.equal(slack.requests.length, 1);
    assert.equal(slack.requests[0]?.headers.authorization, `Bearer ${SLACK_TOKEN}`);
    const { channel, unfurl_links, unfurl_media } = slack.messages[0] ?? {};
    assert.deepEqual(
      { channel, unfurl_links, unfurl_media },
      { channel: "#ci", unfurl_links: false, unfurl_media: false },
    );
  });

  const ECHOES = [
    ["got lost", reset],
    ["is a conflict, as where a proxy sends it twice", preconditionFailed],
  ] as const;
  for (const [title, answer] of ECHOES) {
    for (const [upload, matches] of [
      ["counts", isUpload],
      ["clears", isClearing],
    ] as const) {
      test(`takes its own upload for what it is, where the answer to the one that ${upload} ${title}`, async (t) => {
        const { s3, slack, run, stored } = await setStage(t);
        s3.faults.push({ times: 1, matches, isCarriedOut: true, answer });

        const { code, printed } = await run();

        assert.equal(code, 0);
        assert.equal(printed.outcome, "counted");
        assert.equal(slack.messages.length, 1);
        assert.equal(stripOf(stored().jobs["unit tests"]), "✗✗✗");
        assert.equal(stored().pending_alerts, undefined);
      });
    }

    test(`without messages tells that it counted, where the answer to its upload ${title}`, async (t) => {
      const { s3, run, stored, store } = await setStage(t);
      await store(documentOf());
      s3.faults.push({ times: 1, matches: isUpload, isCarriedOut: true, answer });

      const { code, printed } = await run();

      assert.deepEqual([code, printed.outcome, printed.jobs.failed], [0, "counted", 1]);
      assert.equal(stripOf(stored().jobs["unit tests"]), "✗");
    });
  }

  test("does not take for its own what another run of its pipeline counted at another time", async (t) => {
    const { run, intervene, store } = await setStage(t);
    await store(documentOf());
    intervene(isUpload, (document) => ({ ...document, pipeline_id: PIPELINE, counted_at: AN_HOUR_AGO }));

    const { code, printed } = await run();

    assert.deepEqual([code, printed.outcome], [0, "already-counted"]);
  });

  test("that meets a conflict while it counts counts on what the other run stored", async (t) => {
    const { s3, slack, run, stored, intervene } = await setStage(t);
    intervene(isUpload, () => ({ ...documentOf(["unit tests", recent("✗✗·")]), pipeline_id: PIPELINE - 1 }));

    const { code, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "counted");
    assert.equal(printed.stored_pipeline_id, PIPELINE - 1);
    assert.equal(stripOf(stored().jobs["unit tests"]), "✗✗·✗");
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    assert.equal(slack.requests.length, 0);
  });

  test("that meets a conflict with a newer pipeline while it counts leaves all to that one", async (t) => {
    const { s3, slack, run, stored, intervene } = await setStage(t);
    intervene(isUpload, () => ({ ...documentOf(), pipeline_id: PIPELINE + 1 }));

    const { code, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "out-of-order");
    assert.deepEqual(stored(), { pipeline_id: PIPELINE + 1, jobs: {} });
    assert.equal(methodsOf(s3.requests), "GET PUT GET");
    assert.equal(slack.requests.length, 0);
  });

  test("that meets a conflict while it clears keeps what the other run stored", async (t) => {
    const { s3, slack, run, stored, intervene } = await setStage(t);
    const other = pendingAlert("of another run", { due: new Date(Date.now() + MINUTE).toISOString() });
    intervene(isClearing, (own) => ({
      ...documentOf(["lint", recent("✗")]),
      pipeline_id: PIPELINE + 1,
      pending_alerts: [...own.pending_alerts, other],
    }));

    const { code } = await run();

    assert.equal(code, 0);
    assert.equal(slack.messages.length, 1);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT GET PUT");
    const { pipeline_id, jobs, pending_alerts } = stored();
    assert.equal(pipeline_id, PIPELINE + 1);
    assert.deepEqual(Object.keys(jobs), ["lint"]);
    assert.deepEqual(pending_alerts, [other]);
  });

  test("says nothing on stderr but what it has to say, even to a dozen channels", async (t) => {
    const jobs = Array.from({ length: 12 }, (_, i) => `job-${i}`);
    const { slack, launch } = await setStage(t, jobs);
    const folder = makeFolder({ owners: jobs.map((job) => `${job} #${job}`).join("\n") });
    t.after(folder.remove);

    const { code, stderr } = await launch({ JOB_OWNERS_FILE: `${folder.path}/owners` }, []).result;

    assert.equal(code, 0);
    assert.equal(slack.messages.length, 13);
    assert.equal(stderr, "");
  });

  test("says who refused its message and what to do, and ends with 1", async (t) => {
    const { run, stored } = await setStage(t);

    const { code, stdout, stderr } = await run({ SLACK_API_TOKEN: "xoxb-of-yesterday" });

    assert.equal(code, 1);
    assert.match(
      errorIn(stderr),
      /^Error: Slack refused 1 message for #ci: invalid_auth; set SLACK_API_TOKEN .*, then retry this job \(the next run sends it too\)$/,
    );
    assert.doesNotMatch(stdout + stderr, /yesterday/);
    assert.equal(stored().pending_alerts.length, 1);
  });

  test("says why a webhook refused its message, but not which webhook", async (t) => {
    const { slack, run, stored } = await setStage(t);
    slack.faults.push({ times: 1, answer: answerWith(404, "no_service") });

    const { code, stdout, stderr } = await run({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });

    assert.equal(code, 1);
    assert.match(
      errorIn(stderr),
      /^Error: The webhook refused 1 message: 404 no_service; check SLACK_WEBHOOK_URL, then retry this job \(/,
    );
    assert.doesNotMatch(stdout + stderr, /services\/T0/);
    assert.equal(stored().pending_alerts.length, 1);
  });

  test("prints its messages where no Slack is configured", async (t) => {
    const { s3, slack, launch, stored } = await setStage(t);

    const { code, stdout } = await launch(NO_SLACK, []).result;

    assert.equal(code, 0);
    assert.match(stdout, /unit tests failed 3 times in a row/);
    assert.equal(slack.requests.length, 0);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    assert.equal(stored().pending_alerts, undefined);
  });
});

describe("a run that is killed while Slack takes its message", () => {
  /** A stage after that, with the message still pending. */
  async function setStageOfKilled(t: Scope) {
    const stage = await setStage(t);
    const { slack, launch, store, stored } = stage;
    const asked = new Promise<void>((resolve) => {
      slack.faults.push({ times: 1, answer: () => resolve() });
    });
    const { child, result } = launch();
    await asked;
    child.kill("SIGKILL");
    assert.equal((await result).signal, "SIGKILL");
    /** Makes it `minutes` ago that the message was recorded. */
    const age = async (minutes: number) => {
      const document = await parseDocument(JSON.stringify(stored()));
      const due = new Date(Date.now() + (5 - minutes) * MINUTE).toISOString();
      await store({ ...document, pending_alerts: document.pending_alerts.map((alert) => ({ ...alert, due })) });
    };
    return { ...stage, age };
  }

  test("leaves it to the first run that comes five minutes later, and only to that", { timeout }, async (t) => {
    const { slack, gitlab, run, stored, age } = await setStageOfKilled(t);
    const text = slackText(stored().pending_alerts[0]);
    assert.match(text, /unit tests failed 3 times in a row/);
    for (const next of [1, 2, 3]) gitlab.pipelines.set(PIPELINE + next, []);

    await age(4);
    await run({ CI_PIPELINE_ID: String(PIPELINE + 1) });
    assert.equal(slack.messages.length, 0);
    assert.equal(stored().pending_alerts.length, 1);

    await age(6);
    const { code, printed } = await run({ CI_PIPELINE_ID: String(PIPELINE + 2) });
    assert.equal(code, 0);
    assert.deepEqual(
      printed.messages.map(({ text, delivered }: { text: string; delivered: boolean }) => [text, delivered]),
      [[text, true]],
    );
    assert.equal(stored().pending_alerts, undefined);

    await run({ CI_PIPELINE_ID: String(PIPELINE + 3) });
    assert.deepEqual(
      slack.messages.map((message) => message.text),
      [text],
    );
  });

  test("has it delivered by a re-run, which does not count again", async (t) => {
    const { slack, run, stored, age } = await setStageOfKilled(t);
    await age(6);

    const { code, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "already-counted");
    assert.equal(slack.messages.length, 1);
    assert.equal(stripOf(stored().jobs["unit tests"]), "✗✗✗");
    assert.equal(stored().pending_alerts, undefined);
  });
});

/** Runs within this process, one after another, with a document in memory and a stand-in for Slack. */
async function setScene(t: Scope, document: JobExecutions, files: Record<string, unknown> = {}) {
  const slack = await startSlack();
  const folder = makeFolder(files);
  for (const end of [slack.close, folder.remove]) t.after(end);
  const { store, stored } = memoryStore(textOf(document));
  const pathOf = (name: string) => (files[name] ? `${folder.path}/${name}` : undefined);
  const env = {
    SLACK_API_URL: slack.apiUrl,
    SLACK_API_TOKEN: SLACK_TOKEN,
    JOB_OWNERS_FILE: pathOf("owners"),
    OWNER_CHANNELS_FILE: pathOf("channels"),
  };
  const pendingIn = async () => (await parseDocument(stored.text)).pending_alerts;
  return {
    slack,
    /** What was told, as `#ci: the first line`. */
    told: () => slack.messages.map(({ channel, text }) => `${channel}: ${text.split("\n", 1)}`),
    pending: pendingIn,
    /** For whom messages wait. */
    waiting: async () => (await pendingIn()).map(({ channel }) => channel),
    count: async (jobs: PipelineJob[], variables: Variables = {}, now = NOW): Promise<Run> => {
      const given = { ...env, ...variables };
      const { sender: access, network } = settings(given);
      const sender = openSender(access, network, { environment: {}, print: async () => {}, say: () => {} });
      return (await runOf(jobs, given, { store, sender, now })).run;
    },
  };
}

const breaking = () => documentOf(["unit tests", history("✗✗")]);
const deliveriesOf = ({ messages }: Run) => messages.map(({ channel, delivered }) => [channel, delivered]);
const textsFor = (alerts: PendingMessage[]) => alerts.map((alert) => slackText(alert));

describe("checkConsistentFailures(), with messages that an earlier run left over,", () => {
  const leftOver = (rest: Partial<PendingMessage> = {}) => ({
    ...documentOf(),
    pending_alerts: [pendingAlert("unit tests", rest)],
  });

  test("sends those that are due, and takes them out of the document", async (t) => {
    const { slack, count, pending } = await setScene(t, leftOver());
    await count([]);
    assert.deepEqual(
      slack.messages.map(({ channel, text }) => [channel, text]),
      [["#ci", slackText(pendingAlert("unit tests"))]],
    );
    assert.deepEqual(await pending(), []);
  });

  test("takes them over under an id of its own before it sends them, due again in five minutes", async (t) => {
    const { slack, count, pending } = await setScene(t, leftOver());
    const seen: PendingMessage[] = [];
    const answer: Fault["answer"] = async (response) => {
      seen.push(...(await pending()));
      answerJson(response, { ok: true });
    };
    slack.faults.push({ times: 1, answer });
    await count([]);
    assert.deepEqual(
      seen.map(({ due }) => due),
      [later(5 * MINUTE)],
    );
    assert.notEqual(seen[0]?.id, pendingAlert("unit tests").id);
  });

  for (const [title, due, isSent] of [
    ["that are due this very moment", NOW.toISOString(), true],
    ["that are due in a moment, as another run may be sending them", later(1), false],
    ["that are due in a day, as Slack may have asked for that", later(DAY), false],
    ["that are due later than that, as some clock ran ahead", later(DAY + 1), true],
    ["that are due in forty days, likewise", later(40 * DAY), true],
  ] as const) {
    test(`${isSent ? "sends" : "leaves"} those ${title}`, async (t) => {
      const { slack, count, pending } = await setScene(t, leftOver({ due }));
      await count([]);
      assert.deepEqual([slack.messages.length, (await pending()).length], isSent ? [1, 0] : [0, 1]);
    });
  }

  for (const [outcome, pipeline_id] of [
    ["already-counted", 1005],
    ["out-of-order", 1006],
  ] as const) {
    test(`sends them in a run that is ${outcome} as well`, async (t) => {
      const { slack, count, pending } = await setScene(t, { ...leftOver(), pipeline_id });
      const run = await count([failed("unit tests")]);
      assert.equal(run.outcome, outcome);
      assert.equal(slack.messages.length, 1);
      assert.deepEqual(await pending(), []);
    });
  }

  test("sends them in front of its own, so that no recovery comes before its alert", async (t) => {
    const broken = history("✗✗✗··", { alert: openAlert("consecutive") });
    const { told, count } = await setScene(t, {
      ...documentOf(["unit tests", broken]),
      pending_alerts: leftOver().pending_alerts,
    });
    await count([passed("unit tests")]);
    const [first, second, ...others] = told();
    assert.match(`${first}`, /🔴 unit tests broken/);
    assert.match(`${second}`, /🟢 unit tests recovered/);
    assert.deepEqual(others, []);
  });

  test("sends at most ten a channel, the oldest first, besides its own", async (t) => {
    const waiting = Array.from({ length: 13 }, (_, i) => pendingAlert(`waiting ${i}`));
    const pending_alerts = [...waiting, pendingAlert("for owners", { channel: "#owners" })];
    const { slack, count, pending } = await setScene(t, { ...breaking(), pending_alerts }, { owners: "lint #owners" });

    const run = await count([failed("unit tests")]);

    assert.equal(run.messages.length, 10 + 1 + 1);
    const told = slack.messages.filter(({ channel }) => channel === "#ci").map(({ text }) => text);
    assert.deepEqual(told.slice(0, 10), textsFor(waiting.slice(0, 10)));
    assert.match(told[10] ?? "", /unit tests broken/);
    assert.deepEqual(await pending(), waiting.slice(10));
  });

  test("drops those for a channel that no owner has any more, says so once, and nobody hears of them", async (t) => {
    const pending_alerts = ["lint", "e2e"].map((job) => pendingAlert(job, { channel: "#elsewhere" }));
    const { slack, count, pending } = await setScene(
      t,
      { ...documentOf(), pending_alerts },
      { owners: "lint #owners" },
    );

    const { warnings, errors } = await count([failed("build")]);

    assert.equal(slack.requests.length, 0);
    assert.deepEqual(await pending(), []);
    assert.deepEqual([warnings.length, errors], [1, []]);
    assert.match(`${warnings[0]}`, /#elsewhere/);
  });

  for (const [title, files] of [
    ["names it in JOB_OWNERS_FILE", { owners: "lint #Owners" }],
    ["has it in OWNER_CHANNELS_FILE, however it is spelt", { channels: { "@acme/lint": "owners <!here>" } }],
  ] as const) {
    test(`sends those for a channel of today's owners, who ${title}`, async (t) => {
      const pending_alerts = [pendingAlert("lint", { channel: "#owners" })];
      const { slack, count } = await setScene(t, { ...documentOf(), pending_alerts }, files);
      const { warnings } = await count([failed("build")]);
      assert.deepEqual([slack.messages.map(({ channel }) => channel), warnings], [["#owners"], []]);
    });
  }

  for (const [title, isWebhook] of [
    ["a webhook", true],
    ["stdout", false],
  ] as const) {
    test(`drops those for an owner's channel where all goes to ${title}, without a word: it got everything`, async (t) => {
      const pending_alerts = [pendingAlert("for all"), pendingAlert("for owners", { channel: "#owners" })];
      const files = isWebhook ? {} : { owners: "lint #owners" };
      const { slack, count, pending } = await setScene(t, { ...documentOf(), pending_alerts }, files);

      const sender = { ...NO_SLACK, SLACK_WEBHOOK_URL: isWebhook ? slack.webhookUrl : undefined };
      const { warnings, messages } = await count([failed("build")], sender);

      assert.deepEqual(
        messages.map(({ news, delivered }) => [news[0]?.job, delivered]),
        [["for all", true]],
      );
      assert.deepEqual([await pending(), warnings], [[], []]);
    });
  }
});

describe("checkConsistentFailures(), where Slack refuses a message,", () => {
  const OWNERS = { owners: "lint #lint-owners\ndeploy @acme/ops\n", channels: { "@acme/ops": "#ops" } };
  const JOBS = [failed("lint"), failed("deploy")];
  /** Two jobs break whose owners have channels, one of which Slack refuses with an error. */
  async function setSceneOfOwners(t: Scope, error: string) {
    const scene = await setScene(t, documentOf(["lint", history("✗✗")], ["deploy", history("✗✗")]), OWNERS);
    scene.slack.errors.set("#lint-owners", error);
    return scene;
  }

  for (const refusal of ["channel_not_found", "not_in_channel", "is_archived", "restricted_action_read_only_channel"]) {
    test(`drops what an owner's channel refuses with ${refusal}, says so once, and is quiet afterwards`, async (t) => {
      const { slack, count, pending } = await setSceneOfOwners(t, refusal);

      const run = await count(JOBS);

      assert.deepEqual(deliveriesOf(run), [
        [null, true],
        ["#lint-owners", false],
        ["#ops", true],
      ]);
      assert.deepEqual(await pending(), []);
      const [error, ...others] = run.errors;
      const line = new RegExp(
        `^Slack refused 1 message for #lint-owners: ${refusal}; #ci has it as well, so it is dropped: `,
      );
      assert.match(`${error}`, line);
      assert.doesNotMatch(`${error}`, /the next run/);
      assert.deepEqual(others, []);

      const next = await count([], { CI_PIPELINE_ID: "1006" });
      assert.deepEqual(next.errors, []);
      assert.equal(slack.messages.length, 2);
    });
  }

  test("hands on at once what another failure kept from an owner's channel: a retry delivers it", async (t) => {
    const { slack, count, pending, waiting } = await setSceneOfOwners(t, "token_revoked");

    const { errors } = await count(JOBS);

    assert.deepEqual(errors, [
      "Slack refused 1 message for #lint-owners: token_revoked; set SLACK_API_TOKEN to a valid bot token (xoxb-...), then retry this job (the next run sends it too)",
    ]);
    assert.deepEqual(await waiting(), ["#lint-owners"]);
    assert.deepEqual(
      (await pending()).map(({ due }) => due),
      [NOW.toISOString()],
    );

    slack.errors.clear();
    const retried = await count(JOBS);
    assert.deepEqual([retried.errors, retried.outcome], [[], "already-counted"]);
    assert.deepEqual(slack.messages.map(({ channel }) => channel).sort(), ["#ci", "#lint-owners", "#ops"]);
    assert.deepEqual(await pending(), []);
  });

  test("keeps what the broadcast channel refuses, fails until that is mended, and then delivers it there", async (t) => {
    const { slack, count, pending, waiting } = await setScene(t, breaking());
    slack.errors.set("#ci", "is_archived");

    const first = await count([failed("unit tests")]);
    const next = { CI_PIPELINE_ID: "1006" };
    const second = await count([], next);

    for (const { errors } of [first, second]) {
      assert.match(errors.join(), /^Slack refused 1 message for #ci: is_archived; unarchive .*, then retry this job/);
    }
    assert.deepEqual(await waiting(), [null]);
    const { errors } = await count([], { ...next, SLACK_CHANNEL: "#new" });
    assert.deepEqual(errors, []);
    assert.deepEqual(
      slack.messages.map(({ channel }) => channel),
      ["#new"],
    );
    assert.deepEqual(await pending(), []);
  });

  test("keeps what it refuses for the broadcast channel under the name that an owner has for it", async (t) => {
    const pending_alerts = [pendingAlert("lint", { channel: "ci" })];
    const { slack, count, waiting } = await setScene(t, { ...documentOf(), pending_alerts }, { owners: "lint #ci" });
    slack.errors.set("ci", "is_archived");
    await count([failed("build")]);
    assert.deepEqual(await waiting(), ["ci"]);
  });

  test("stops at the first failure of a channel, and keeps the order in the runs that follow", async (t) => {
    const pending_alerts = ["first", "second", "third"].map((job) => pendingAlert(job));
    const { slack, count, pending } = await setScene(t, { ...breaking(), pending_alerts });
    slack.faults.push({ times: 1, matches: ({ body }) => body.includes("second broken"), answer: refuse("fatal") });

    const run = await count([failed("unit tests")]);

    assert.deepEqual(
      run.messages.map(({ delivered }) => delivered),
      [true, false, false, false],
    );
    assert.match(run.errors.join("\n"), /^Slack refused 3 messages for #ci: fatal; .*$/);
    assert.deepEqual(
      (await pending()).map(({ due, news }) => [due, news[0]?.job]),
      ["second", "third", "unit tests"].map((job) => [NOW.toISOString(), job]),
    );

    await count([failed("unit tests")]);
    assert.deepEqual(
      slack.messages.map(({ text }) => /(\w+( tests)?) broken/.exec(text)?.[1]),
      ["first", "second", "third", "unit tests"],
    );
  });

  test("tells a line for each channel and reason", async (t) => {
    const pending_alerts = [
      pendingAlert("a", { channel: "#x" }),
      pendingAlert("b", { channel: "#x" }),
      pendingAlert("c", { channel: "#y" }),
      pendingAlert("d", { channel: "#z" }),
      pendingAlert("e", { channel: "#z" }),
    ];
    const document = { ...breaking(), pending_alerts };
    const { slack, count } = await setScene(t, document, { owners: "a #x\nc #y\nd #z" });
    slack.errors.set("#x", "fatal").set("#y", "not_in_channel").set("#ci", "missing_scope").set("#z", "is_archived");

    const { errors } = await count([failed("unit tests")]);

    assert.deepEqual(
      errors.map((line) => line.replace(/;.*/, "")),
      [
        "Slack refused 2 messages for #x: fatal",
        "Slack refused 1 message for #y: not_in_channel",
        "Slack refused 2 messages for #z: is_archived",
        "Slack refused 1 message for #ci: missing_scope",
      ],
    );
  });
});

describe("checkConsistentFailures(), where Slack asks to wait,", () => {
  const wait = (seconds: string) => answerWith(429, "", { "retry-after": seconds });

  test("hands a message on to the time that it asks for, and does not ask again before", async (t) => {
    const { slack, count, pending } = await setScene(t, breaking());
    slack.faults.push({ times: 9, answer: wait("120") });

    const { errors } = await count([failed("unit tests")]);

    assert.equal(slack.requests.length, 1);
    assert.deepEqual(
      (await pending()).map(({ due }) => due),
      [later(2 * MINUTE)],
    );
    assert.match(errors.join("\n"), /^Slack refused 1 message for #ci: 429 and asks to wait for 120 s; .*$/);

    const early = await count([failed("unit tests")], {}, new Date(NOW.getTime() + MINUTE));
    assert.deepEqual([early.messages, early.errors, slack.requests.length], [[], [], 1]);
    slack.faults.length = 0;
    await count([failed("unit tests")], {}, new Date(NOW.getTime() + 2 * MINUTE));
    assert.deepEqual([slack.messages.length, await pending()], [1, []]);
  });

  test("hands on the rest of that channel with it, in order, and settles the others", async (t) => {
    const pending_alerts = [pendingAlert("first"), pendingAlert("other", { channel: "#owners" })];
    const scene = await setScene(t, { ...breaking(), pending_alerts }, { owners: "other #owners" });
    const { slack, count, pending } = scene;
    slack.faults.push(faultFor("#ci", 9, wait("600")));

    const { errors } = await count([failed("unit tests")]);

    assert.equal(slack.requests.length, 2);
    assert.deepEqual(
      (await pending()).map(({ due, news }) => [news[0]?.job, due]),
      ["first", "unit tests"].map((job) => [job, later(10 * MINUTE)]),
    );
    assert.match(errors.join("\n"), /^Slack refused 2 messages for #ci: 429 and asks to wait for 600 s; .*$/);
  });

  test("lets a recovery wait where its alert is not among the ten that are sent before", async (t) => {
    const broken = history("✗✗✗··", { alert: openAlert("consecutive") });
    const others = Array.from({ length: 11 }, (_, i) => pendingAlert(`job ${i}`));
    const pending_alerts = [...others, pendingAlert("unit tests")];
    const scene = await setScene(t, { ...documentOf(["unit tests", broken]), pending_alerts });
    const { count, told } = scene;

    await count([passed("unit tests")]);
    assert.equal(told().length, 10);
    await count([], { CI_PIPELINE_ID: "1006" });

    assert.deepEqual(
      told()
        .slice(10)
        .map((line) => /(🔴|🟢) (job 10|unit tests)/u.exec(line)?.[0]),
      ["🔴 job 10", "🔴 unit tests", "🟢 unit tests"],
    );
  });

  test("lets what a later run has to say wait behind what was handed on, however soon that is due", async (t) => {
    const { slack, count, pending, told } = await setScene(t, breaking());
    slack.faults.push({ times: 1, answer: wait("240") });
    const pipelineAt = (i: number) =>
      [{ CI_PIPELINE_ID: `${1005 + i}` }, new Date(NOW.getTime() + i * MINUTE)] as const;

    await count([failed("unit tests")]);
    for (const i of [1, 2, 3]) await count([passed("unit tests")], ...pipelineAt(i));

    assert.equal(slack.requests.length, 1);
    assert.deepEqual(
      (await pending()).map(({ due, news }) => [news[0]?.kind, due]),
      ["consecutive", "recovered"].map((kind) => [kind, later(4 * MINUTE)]),
    );
    await count([], ...pipelineAt(4));
    assert.deepEqual(
      told().map((line) => /🔴|🟢/u.exec(line)?.[0]),
      ["🔴", "🟢"],
    );
  });

  for (const seconds of ["90000", "99999999999999", "1e300"]) {
    test(`for ${seconds} s: hands the message on by a day, and the other channel's is delivered once`, async (t) => {
      const pending_alerts = [pendingAlert("other", { channel: "#owners" })];
      const document = { ...breaking(), pending_alerts };
      const { slack, count, pending } = await setScene(t, document, { owners: "other #owners" });
      slack.faults.push(faultFor("#ci", 1, wait(seconds)));

      const run = await count([failed("unit tests")]);

      assert.equal(run.errors.length, 1);
      assert.deepEqual(
        (await pending()).map(({ channel, due }) => [channel, due]),
        [[null, later(DAY)]],
      );
      await count([failed("unit tests")]);
      assert.deepEqual(
        slack.messages.map(({ channel }) => channel),
        ["#owners"],
      );
    });
  }

  test("by an answer of 200 that says ratelimited: hands the message on", async (t) => {
    const { slack, count, pending } = await setScene(t, breaking());
    slack.errors.set("#ci", "ratelimited");

    const { errors } = await count([failed("unit tests")]);

    assert.equal(slack.requests.length, 1);
    assert.deepEqual(
      (await pending()).map(({ due }) => due),
      [NOW.toISOString()],
    );
    assert.deepEqual(errors, [
      "Slack refused 1 message for #ci: ratelimited; wait a minute, then retry this job (the next run sends it too)",
    ]);
  });
});

describe("sendNotification()", () => {
  const messageFor = (channel: string): AddressedMessage => messageOf(`for ${channel}`, { channel });

  /** Slack, and a way to send messages through it within this process. */
  async function startSender(t: Scope, variables: (slack: Awaited<ReturnType<typeof startSlack>>) => Variables) {
    const slack = await startSlack();
    t.after(slack.close);
    const { sender: access, network } = settings(variables(slack));
    const sender = openSender(access, network, { environment: {}, print: async () => {}, say: () => {} });
    return {
      slack,
      send: (messages: AddressedMessage[], { signal = new AbortController().signal, dryRun = false } = {}) =>
        sendNotification(messages, { sender, signal }, { now: NOW, dryRun }),
    };
  }
  const startApi = (t: Scope) =>
    startSender(t, ({ apiUrl }) => ({ SLACK_API_URL: apiUrl, SLACK_API_TOKEN: SLACK_TOKEN }));
  const startWebhook = (t: Scope) =>
    startSender(t, ({ webhookUrl }) => ({ ...NO_SLACK, SLACK_WEBHOOK_URL: webhookUrl }));

  /** Sends a message to each of the channels, which Slack answers so many times with their faults first. */
  async function sendTo(t: Scope, faults: Record<string, [times: number, answer: Fault["answer"]]>) {
    const { slack, send } = await startApi(t);
    for (const [channel, fault] of Object.entries(faults)) slack.faults.push(faultFor(channel, ...fault));
    const messages = await send(Object.keys(faults).map(messageFor));
    return { slack, messages, problems: messages.map(({ failure }) => failure?.message ?? "") };
  }

  test("sends nothing in a dry run", async (t) => {
    const { slack, send } = await startApi(t);
    const [message] = await send([messageFor("#ci")], { dryRun: true });
    assert.deepEqual([message?.delivered, slack.requests.length], [false, 0]);
  });

  test("tries again what may go well a little later", { timeout }, async (t) => {
    const { slack, messages } = await sendTo(t, {
      "#busy": [1, answerWith(429, "", { "retry-after": "0" })],
      "#busier": [1, answerWith(429, "", { "retry-after": "1" })],
      "#broken": [1, answerWith(500)],
      "#broken-twice": [2, answerWith(503)],
      "#reset": [1, reset],
    });
    assert.deepEqual(
      messages.filter(({ delivered }) => !delivered),
      [],
    );
    assert.deepEqual(
      slack.messages.map(({ channel }) => channel).sort(),
      messages.map(({ channel }) => channel).sort(),
    );
  });

  test("gives a channel up after a few tries, and the others have their messages", { timeout }, async (t) => {
    const { slack, messages, problems } = await sendTo(t, {
      "#down": [9, answerWith(500)],
      "#gone": [9, reset],
      "#fine": [0, reset],
    });
    assert.deepEqual(
      messages.map(({ channel, delivered }) => [channel, delivered]),
      [
        ["#down", false],
        ["#gone", false],
        ["#fine", true],
      ],
    );
    const [down, gone] = problems;
    assert.match(down ?? "", /^Slack at 127\.0\.0\.1:\d+ answered 500, 3 times/);
    assert.match(gone ?? "", /^Slack at 127\.0\.0\.1:\d+ is unreachable: .*, 3 times/);
    assert.equal(slack.requests.length, 3 + 3 + 1);
  });

  test("sends the messages of a channel in their order, each when the one before has arrived", async (t) => {
    const { slack, send } = await startApi(t);
    slack.faults.push({ times: 1, answer: answerWith(500) });
    const messages = ["first", "second", "third"].map((job) => messageOf(job));

    await send(messages);

    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      textsFor(messages),
    );
  });

  test("leaves a channel alone for which Slack asked to wait, and no other", async (t) => {
    const { slack, send } = await startApi(t);
    slack.faults.push(faultFor("#busy", 9, answerWith(429, "", { "retry-after": "31" })));

    const [first, second, other] = await send([messageFor("#busy"), messageFor("#busy"), messageFor("#fine")]);

    assert.equal(slack.requests.length, 2);
    assert.deepEqual([first?.delivered, second?.delivered, other?.delivered], [false, false, true]);
    assert.deepEqual([first?.due, second?.due], [later(31_000), later(31_000)]);
  });

  test("goes on with an owner's channel after a message that is dropped", async (t) => {
    const { slack, send } = await startApi(t);
    slack.faults.push({ times: 1, answer: refuse("restricted_action") });

    const deliveries = await send([messageFor("#owners"), messageFor("#owners")]);

    assert.deepEqual(
      deliveries.map(({ delivered, isDropped = false }) => [delivered, isDropped]),
      [
        [false, true],
        [true, false],
      ],
    );
  });

  test("gives what it could not send for the time that is up to the next run at once", async (t) => {
    const { slack, send } = await startApi(t);
    const stop = new AbortController();
    const answer: Fault["answer"] = (response) => {
      response.on("close", () => stop.abort());
      answerWith(429, "", { "retry-after": "30" })(response);
    };
    slack.faults.push({ times: 1, answer });

    const [message] = await send([messageFor("#ci")], { signal: stop.signal });

    assert.match(message?.failure?.message ?? "", /; the time of this run is up/);
    assert.deepEqual([message?.delivered, message?.due], [false, NOW.toISOString()]);
  });

  test("says of each error of Slack what to do about it, once, and never the token", async (t) => {
    const hints: Record<string, RegExp> = {
      invalid_auth: /SLACK_API_TOKEN.*valid/,
      not_authed: /SLACK_API_TOKEN/,
      token_revoked: /SLACK_API_TOKEN/,
      token_expired: /SLACK_API_TOKEN/,
      account_inactive: /SLACK_API_TOKEN/,
      missing_scope: /chat:write/,
      channel_not_found: /name.*invite.*private/,
      not_in_channel: /invite the bot/,
      is_archived: /unarchive/,
      restricted_action: /let the bot post/,
      restricted_action_thread_only_channel: /let the bot post/,
      ratelimited: /wait a minute/,
      rate_limited: /wait a minute/,
      invented_error: /chat\.postMessage/,
    };
    const errors = Object.keys(hints);
    const { slack, messages, problems } = await sendTo(
      t,
      Object.fromEntries(errors.map((error) => [`#${error}`, [1, refuse(error)]])),
    );

    assert.equal(slack.requests.length, errors.length);
    for (const [i, { channel, delivered }] of messages.entries()) {
      const problem = problems[i] ?? "";
      assert.equal(delivered, false);
      assert.match(problem, new RegExp(`^Slack at 127\\.0\\.0\\.1:\\d+ answered ${errors[i]}`));
      assert.match(problem, hints[errors[i] ?? ""] ?? /^$/, channel ?? "");
      assert.equal(problem.includes(SLACK_TOKEN), false);
    }
  });

  test("says that something else than Slack answered", async (t) => {
    const { problems } = await sendTo(t, {
      "#proxy": [1, answerWith(200, "<html>Sign in</html>")],
      "#redirect": [1, answerWith(302, "", { location: "http://127.0.0.1:9/" })],
      "#wrong-path": [1, answerWith(404, "not found")],
    });
    const [proxy, redirect, wrongPath] = problems;
    assert.match(proxy ?? "", /Slack at 127\.0\.0\.1:\d+.*not JSON.*SLACK_API_URL/);
    assert.match(redirect ?? "", /Slack at 127\.0\.0\.1:\d+ answered 302.*SLACK_API_URL/);
    assert.match(wrongPath ?? "", /Slack at 127\.0\.0\.1:\d+ answered 404.*SLACK_API_URL/);
  });

  for (const [status, reason] of [
    [400, "invalid_payload"],
    [403, "action_prohibited"],
    [404, "no_service"],
    [410, "channel_is_archived"],
  ] as const) {
    test(`says that a webhook answered ${status} ${reason}, but not which webhook`, async (t) => {
      const { slack, send } = await startWebhook(t);
      slack.faults.push({ times: 1, answer: answerWith(status, reason) });

      const [message] = await send([messageOf("for all")]);

      assert.equal(message?.delivered, false);
      assert.match(message?.failure?.message ?? "", new RegExp(`^The webhook answered ${status} ${reason}; `));
      assert.doesNotMatch(message?.failure?.message ?? "", /services|127/);
    });
  }

  const WEBHOOK_ANSWERS: [answer: string, answer: [status: number, body?: string], delivered: boolean][] = [
    ["ok", [200, "ok"], true],
    ["202 and nothing", [202], true],
    ["204 and nothing", [204], true],
    ['{"success": true}', [200, '{"success": true}'], true],
    ['{"ok": true}', [200, '{"ok": true}'], true],
    ["a JSON array", [200, "[false]"], true],
    ["a word that is no JSON", [200, "{thanks"], true],
    ['{"ok": false}', [200, '{"ok": false}'], false],
    ['{"success": false}', [200, ' {"success": false, "error": "no"}'], false],
    ['{"ok": true, "success": false}', [200, '{"ok": true, "success": false}'], false],
    ["a page", [200, "<html>Please log in</html>"], false],
    ["a blank line and a page", [200, "\r\n\n<!DOCTYPE html>\n"], false],
  ];
  for (const [answer, [status, body], delivered] of WEBHOOK_ANSWERS) {
    test(`takes it for ${delivered ? "a" : "no"} delivery that a webhook answers ${answer}`, async (t) => {
      const { slack, send } = await startWebhook(t);
      slack.faults.push({ times: 1, answer: answerWith(status, body) });
      const [message] = await send([messageOf("for all")]);
      assert.equal(message?.delivered, delivered);
      assert.equal(slack.requests.length, 1);
    });
  }

  test("says that a webhook can't be reached, but not which webhook", { timeout }, async (t) => {
    const { slack, send } = await startWebhook(t);
    slack.close();

    const [message] = await send([messageOf("for all")]);

    assert.match(message?.failure?.message ?? "", /^The webhook is unreachable: .*, 3 times/);
    assert.doesNotMatch(message?.failure?.message ?? "", /services/);
  });
});
