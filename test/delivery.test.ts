/** How alerts get to Slack: once each, whatever the store, Slack or the process itself does in between. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Message, openSender, type PendingAlert, sendNotification } from "../check-failures.ts";
import { documentOf, environment, makeEdges, NOW, stripOf } from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";
import { answerJson, answerWith, type Fault, reset } from "./support/servers/http.ts";
import { preconditionFailed } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { isClearing, isUpload, PIPELINE, recent, type Scope, setStage } from "./support/stage.ts";
import { parseDocument } from "./support/stored.ts";

const MINUTE = 60_000;
const timeout = MINUTE; // Bun's default is too short for several runs, or tries, one after the other
const NO_SLACK = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };

/** The one line that says what went wrong. */
function errorIn(stderr: string): string {
  const [line = "", ...others] = stderr.split("\n").filter((line) => line.startsWith("Error"));
  assert.deepEqual(others, []);
  return line;
}

const methodsOf = (requests: { method: string }[]) => requests.map(({ method }) => method).join(" ");

describe("a run of the script", () => {
  test("that has nothing to tell makes one upload", async (t) => {
    const { s3, gitlab, slack, run, store } = await setStage(t);
    await store(documentOf());

    const { code, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "counted");
    assert.equal(methodsOf(s3.requests), "GET PUT");
    assert.equal(gitlab.requests.length, 1);
    assert.equal(slack.requests.length, 0);
  });

  test("that alerts records its message, sends it and clears it", async (t) => {
    const { s3, slack, run, stored } = await setStage(t);

    const { code, stderr, printed } = await run();

    assert.equal(code, 0);
    assert.equal(printed.outcome, "counted");
    assert.deepEqual(printed.messages, [{ channel: "#ci", text: slack.messages[0]?.text, delivered: true }]);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    const [, counting] = s3.requests;
    assert.deepEqual(
      JSON.parse(`${counting?.body}`).pending_alerts.map(({ text }: PendingAlert) => text),
      [slack.messages[0]?.text],
    );
    assert.equal(stored().pending_alerts, undefined);
    assert.doesNotMatch(stderr, /error|warning/i);
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

  for (const [upload, matches, answer, title] of [
    ["counts", isUpload, reset, "got lost"],
    ["clears", isClearing, reset, "got lost"],
    ["counts", isUpload, preconditionFailed, "is a conflict, as where a proxy sends it twice"],
    ["clears", isClearing, preconditionFailed, "is a conflict, as where a proxy sends it twice"],
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
    const other = { channel: "#ci", text: "of another run", claimed_at: new Date().toISOString() };
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

  test("delivers to all channels but the one that Slack refuses, and says what stays pending and why", async (t) => {
    const { slack, run, stored } = await setStage(t, ["lint", "deploy"]);
    const folder = makeFolder({
      owners: "lint #lint-owners\ndeploy @acme/ops\n",
      channels: { "@acme/ops": "#ops" },
    });
    t.after(folder.remove);
    slack.errors.set("#lint-owners", "not_in_channel");

    const { code, stderr, printed } = await run({
      JOB_OWNERS_FILE: join(folder.path, "owners"),
      OWNER_CHANNELS_FILE: join(folder.path, "channels"),
    });

    assert.equal(code, 1);
    const delivered = printed.messages.map((message: Message) => [message.channel, message.delivered]);
    assert.deepEqual(delivered, [
      ["#ci", true],
      ["#lint-owners", false],
      ["#ops", true],
    ]);
    assert.deepEqual(slack.messages.map(({ channel }) => channel).sort(), ["#ci", "#ops"]);
    assert.deepEqual(
      stored().pending_alerts.map(({ channel }: PendingAlert) => channel),
      ["#lint-owners"],
    );
    const line =
      /^Error: 1 of 3 messages stay pending.*: #lint-owners: Slack at 127\.0\.0\.1:\d+ answered not_in_channel.*invite the bot/;
    assert.match(errorIn(stderr), line);
  });

  test("says nothing on stderr but what it has to say, even to a dozen channels", async (t) => {
    const jobs = Array.from({ length: 12 }, (_, i) => `job-${i}`);
    const { slack, launch } = await setStage(t, jobs);
    const folder = makeFolder({ owners: jobs.map((job) => `${job} #${job}`).join("\n") });
    t.after(folder.remove);

    const { code, stderr } = await launch({ JOB_OWNERS_FILE: join(folder.path, "owners") }, []).result;

    assert.equal(code, 0);
    assert.equal(slack.messages.length, 13);
    assert.equal(stderr, "");
  });

  test("says why a webhook refused its message, but not which webhook", async (t) => {
    const { s3, slack, run, stored } = await setStage(t);
    slack.faults.push({ times: 1, answer: answerWith(404, "no_service") });

    const { code, stdout, stderr } = await run({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });

    assert.equal(code, 1);
    assert.match(errorIn(stderr), /Slack's webhook answered 404 no_service.*SLACK_WEBHOOK_URL/);
    assert.doesNotMatch(stdout + stderr, /services\/T0/);
    assert.equal(methodsOf(s3.requests), "GET PUT");
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
    /** Makes it `minutes` ago that the message was claimed. */
    const age = async (minutes: number) => {
      const document = await parseDocument(JSON.stringify(stored()));
      const claimed_at = new Date(Date.now() - minutes * MINUTE).toISOString();
      await store({ ...document, pending_alerts: document.pending_alerts.map((alert) => ({ ...alert, claimed_at })) });
    };
    return { ...stage, age };
  }

  test("leaves it to the first run that comes five minutes later, and only to that", { timeout }, async (t) => {
    const { slack, gitlab, run, stored, age } = await setStageOfKilled(t);
    const [pending] = stored().pending_alerts;
    assert.match(pending.text, /unit tests failed 3 times in a row/);
    for (const next of [1, 2, 3]) gitlab.pipelines.set(PIPELINE + next, []);

    await age(4);
    await run({ CI_PIPELINE_ID: String(PIPELINE + 1) });
    assert.deepEqual(slack.messages, []);
    assert.equal(stored().pending_alerts.length, 1);

    await age(6);
    const { code, printed } = await run({ CI_PIPELINE_ID: String(PIPELINE + 2) });
    assert.equal(code, 0);
    assert.deepEqual(printed.messages, [{ channel: "#ci", text: pending.text, delivered: true }]);
    assert.equal(stored().pending_alerts, undefined);

    await run({ CI_PIPELINE_ID: String(PIPELINE + 3) });
    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      [pending.text],
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

describe("sendNotification()", () => {
  const pendingFor = (channel: string): PendingAlert => ({
    channel,
    text: `for ${channel}`,
    claimed_at: NOW.toISOString(),
  });

  /** Sends a message to each of the channels, which Slack answers with their faults first. */
  async function sendTo(t: Scope, faults: Record<string, Omit<Fault, "matches">>) {
    const slack = await startSlack();
    t.after(slack.close);
    const channels = Object.keys(faults);
    for (const channel of channels) {
      const matches: Fault["matches"] = ({ body }) => JSON.parse(`${body}`).channel === channel;
      slack.faults.push({ times: 1, ...faults[channel], matches } as Fault);
    }
    const env = environment({ SLACK_API_URL: slack.apiUrl, SLACK_API_TOKEN: SLACK_TOKEN });
    const { edges } = makeEdges({ send: openSender(env, () => {}) });
    const messages = await sendNotification(channels.map(pendingFor), edges);
    return { slack, messages };
  }

  test("tries again what may go well a little later", { timeout }, async (t) => {
    const { slack, messages } = await sendTo(t, {
      "#busy": { times: 1, answer: answerWith(429, "", { "retry-after": "0" }) },
      "#busier": { times: 1, answer: answerWith(429, "", { "retry-after": "1" }) },
      "#limited": { times: 1, answer: (response) => answerJson(response, { ok: false, error: "ratelimited" }) },
      "#rate-limited": { times: 1, answer: (response) => answerJson(response, { ok: false, error: "rate_limited" }) },
      "#broken": { times: 1, answer: answerWith(500) },
      "#broken-twice": { times: 2, answer: answerWith(503) },
      "#reset": { times: 1, answer: reset },
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
    const { slack, messages } = await sendTo(t, {
      "#down": { times: 9, answer: answerWith(500) },
      "#gone": { times: 9, answer: reset },
      "#fine": { times: 0, answer: reset },
    });
    assert.deepEqual(
      messages.map(({ channel, delivered }) => [channel, delivered]),
      [
        ["#down", false],
        ["#gone", false],
        ["#fine", true],
      ],
    );
    const [down, gone] = messages.map(({ error }) => error ?? "");
    assert.match(down ?? "", /^Slack at 127\.0\.0\.1:\d+ answered 500, 3 times/);
    assert.match(gone ?? "", /^Slack at 127\.0\.0\.1:\d+ is unreachable .*, 3 times/);
    assert.equal(slack.requests.length, 3 + 3 + 1);
  });

  test("sends the messages of a channel in their order, each when the one before has arrived", async (t) => {
    const slack = await startSlack();
    t.after(slack.close);
    slack.faults.push({ times: 1, answer: answerWith(500) });
    const env = environment({ SLACK_API_URL: slack.apiUrl, SLACK_API_TOKEN: SLACK_TOKEN });
    const { edges } = makeEdges({ send: openSender(env, () => {}) });
    const texts = ["first", "second", "third"];

    await sendNotification(
      texts.map((text) => ({ ...pendingFor("#ci"), text })),
      edges,
    );

    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      texts,
    );
  });

  test("says to try again where the time is up while Slack is busy", async (t) => {
    const slack = await startSlack();
    t.after(slack.close);
    const stop = new AbortController();
    const answer: Fault["answer"] = (response) => {
      response.on("close", () => stop.abort());
      answerWith(429, "", { "retry-after": "30" })(response);
    };
    slack.faults.push({ times: 1, answer });
    const env = environment({ SLACK_API_URL: slack.apiUrl, SLACK_API_TOKEN: SLACK_TOKEN });
    const { edges } = makeEdges({ send: openSender(env, () => {}), signal: stop.signal });

    const [message] = await sendNotification([pendingFor("#ci")], edges);

    assert.match(message?.error ?? "", /the time of this run is up; try again later/);
  });

  test("says of each error of Slack what to do about it, once, and never the token", async (t) => {
    const hints: Record<string, RegExp> = {
      invalid_auth: /SLACK_API_TOKEN.*valid/,
      not_authed: /SLACK_API_TOKEN/,
      token_revoked: /new SLACK_API_TOKEN/,
      token_expired: /new SLACK_API_TOKEN/,
      account_inactive: /new SLACK_API_TOKEN/,
      missing_scope: /chat:write/,
      channel_not_found: /name.*invite.*private/,
      not_in_channel: /invite the bot/,
      is_archived: /unarchive/,
      msg_too_long: /JOB_HISTORY_URL/,
    };
    const errors = Object.keys(hints);
    const refusal = (error: string) => ({
      times: 1,
      answer: (response: ServerResponse) => answerJson(response, { ok: false, error }),
    });
    const { slack, messages } = await sendTo(
      t,
      Object.fromEntries(errors.map((error) => [`#${error}`, refusal(error)])),
    );

    assert.equal(slack.requests.length, errors.length);
    for (const [i, { channel, delivered, error = "" }] of messages.entries()) {
      assert.equal(delivered, false);
      assert.match(error, new RegExp(`^Slack at 127\\.0\\.0\\.1:\\d+ answered ${errors[i]}`));
      assert.match(error, hints[errors[i] ?? ""] ?? /^$/, channel ?? "");
      assert.ok(!error.includes(SLACK_TOKEN));
    }
  });

  test("says that something else than Slack answered", async (t) => {
    const { messages } = await sendTo(t, {
      "#proxy": { times: 1, answer: answerWith(200, "<html>Sign in</html>") },
      "#redirect": { times: 1, answer: answerWith(302, "", { location: "http://127.0.0.1:9/" }) },
      "#wrong-path": { times: 1, answer: answerWith(404, "not found") },
    });
    const [proxy, redirect, wrongPath] = messages.map(({ error }) => error ?? "");
    assert.match(proxy ?? "", /Slack at 127\.0\.0\.1:\d+.*not JSON/);
    assert.match(redirect ?? "", /Slack at 127\.0\.0\.1:\d+ answered 302/);
    assert.match(wrongPath ?? "", /Slack at 127\.0\.0\.1:\d+ answered 404/);
  });

  for (const [status, reason] of [
    [400, "invalid_payload"],
    [403, "action_prohibited"],
    [404, "no_service"],
    [410, "channel_is_archived"],
  ] as const) {
    test(`says that a webhook answered ${status} ${reason}, but not which webhook`, async (t) => {
      const slack = await startSlack();
      t.after(slack.close);
      slack.faults.push({ times: 1, answer: answerWith(status, reason) });
      const env = environment({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });
      const { edges } = makeEdges({ send: openSender(env, () => {}) });

      const [message] = await sendNotification([{ ...pendingFor("#ci"), channel: null }], edges);

      assert.equal(message?.delivered, false);
      assert.match(message?.error ?? "", new RegExp(`^Slack's webhook answered ${status} ${reason}; `));
      assert.doesNotMatch(message?.error ?? "", /services|127/);
    });
  }

  test("does not take a page for a webhook's answer", async (t) => {
    const slack = await startSlack();
    t.after(slack.close);
    slack.faults.push({ times: 1, answer: answerWith(200, "<html>Please log in</html>") });
    const env = environment({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });
    const { edges } = makeEdges({ send: openSender(env, () => {}) });

    const [message] = await sendNotification([{ ...pendingFor("#ci"), channel: null }], edges);

    assert.equal(message?.delivered, false);
    assert.match(message?.error ?? "", /^The answer of Slack's webhook is not JSON: .*proxy/);
  });

  test("says that a webhook can't be reached, but not which webhook", { timeout }, async () => {
    const slack = await startSlack();
    slack.close();
    const env = environment({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });
    const { edges } = makeEdges({ send: openSender(env, () => {}) });

    const [message] = await sendNotification([{ ...pendingFor("#ci"), channel: null }], edges);

    assert.match(message?.error ?? "", /^Slack's webhook is unreachable .*, 3 times/);
    assert.doesNotMatch(message?.error ?? "", /services/);
  });
});
