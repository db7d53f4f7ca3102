/** How alerts get to Slack: once each, whatever the store, Slack or the process itself does in between. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Delivery, openSender, type PendingAlert, sendNotification } from "../check-failures.ts";
import { documentOf, MINUTE, NOW, pendingAlert, settings, stripOf, type Variables } from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";
import { answerJson, answerWith, type Fault, reset } from "./support/servers/http.ts";
import { preconditionFailed } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { isClearing, isUpload, PIPELINE, recent, type Scope, setStage } from "./support/stage.ts";
import { parseDocument } from "./support/stored.ts";

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
    assert.deepEqual(gitlab.requests.map(({ path }) => path.split("/").at(-1)).sort(), ["bridges", "jobs"]);
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

  /** A stage with two jobs that break and whose owners have channels, one of which Slack refuses with an error. */
  async function setStageOfOwners(t: Scope, error: string) {
    const stage = await setStage(t, ["lint", "deploy"]);
    const folder = makeFolder({ owners: "lint #lint-owners\ndeploy @acme/ops\n", channels: { "@acme/ops": "#ops" } });
    t.after(folder.remove);
    stage.slack.errors.set("#lint-owners", error);
    const files = {
      JOB_OWNERS_FILE: join(folder.path, "owners"),
      OWNER_CHANNELS_FILE: join(folder.path, "channels"),
    };
    return { ...stage, run: (variables: Variables = {}) => stage.run({ ...files, ...variables }) };
  }

  for (const refusal of ["channel_not_found", "not_in_channel", "is_archived", "restricted_action_read_only_channel"]) {
    test(`drops what an owner's channel refuses with ${refusal}, says so once, and is quiet afterwards`, async (t) => {
      const { slack, gitlab, run, stored } = await setStageOfOwners(t, refusal);

      const { code, stderr, printed } = await run();

      assert.equal(code, 1);
      const delivered = printed.messages.map((message: Delivery) => [message.channel, message.delivered]);
      assert.deepEqual(delivered, [
        ["#ci", true],
        ["#lint-owners", false],
        ["#ops", true],
      ]);
      assert.equal(stored().pending_alerts, undefined);
      const line = new RegExp(`^Error: #lint-owners refused what #ci has as well, so it is dropped: .* ${refusal}; `);
      assert.match(errorIn(stderr), line);

      gitlab.pipelines.set(PIPELINE + 1, []);
      const next = await run({ CI_PIPELINE_ID: `${PIPELINE + 1}` });
      assert.deepEqual([next.code, next.stderr.match(/Error/)], [0, null]);
      assert.equal(slack.messages.length, 2);
    });
  }

  test("hands on at once what another failure kept from an owner's channel: a retry delivers it", async (t) => {
    const { slack, run, stored } = await setStageOfOwners(t, "token_revoked");

    const { code, stderr } = await run();

    assert.equal(code, 1);
    assert.match(
      errorIn(stderr),
      /^Error: 1 of 3 messages not delivered.*#lint-owners: .* token_revoked; set SLACK_API/,
    );
    assert.deepEqual(
      stored().pending_alerts.map(({ channel }: PendingAlert) => channel),
      ["#lint-owners"],
    );

    slack.errors.clear();
    const retried = await run();
    assert.deepEqual([retried.code, retried.printed.outcome], [0, "already-counted"]);
    assert.deepEqual(slack.messages.map(({ channel }) => channel).sort(), ["#ci", "#lint-owners", "#ops"]);
    assert.equal(stored().pending_alerts, undefined);
  });

  test("keeps what the broadcast channel refuses, fails until that is mended, and then delivers it there", async (t) => {
    const { slack, gitlab, run, stored } = await setStage(t);
    slack.errors.set("#ci", "is_archived");

    assert.equal((await run()).code, 1);
    gitlab.pipelines.set(PIPELINE + 1, []);
    const next = { CI_PIPELINE_ID: `${PIPELINE + 1}` };
    assert.equal((await run(next)).code, 1);
    assert.equal(stored().pending_alerts[0].channel, null);

    const { code, printed } = await run({ ...next, SLACK_CHANNEL: "#new" });
    assert.deepEqual([code, printed.messages[0].channel], [0, "#new"]);
    assert.deepEqual(
      slack.messages.map(({ channel }) => channel),
      ["#new"],
    );
    assert.equal(stored().pending_alerts, undefined);
  });

  test("that comes too late counts nothing, but delivers what is due", async (t) => {
    const { slack, run, stored, store } = await setStage(t);
    const pending_alerts = [pendingAlert("left over")];
    await store({ ...documentOf(), pipeline_id: PIPELINE + 1, pending_alerts });

    const { code, printed } = await run();

    assert.deepEqual([code, printed.outcome], [0, "out-of-order"]);
    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      ["left over"],
    );
    assert.deepEqual(stored(), { pipeline_id: PIPELINE + 1, jobs: {} });
  });

  test("hands a message on to the time that Slack asks for, and does not ask again before", async (t) => {
    const { slack, run, stored } = await setStage(t);
    slack.faults.push({ times: 9, answer: answerWith(429, "", { "retry-after": "120" }) });
    const started = Date.now();

    const { code, stderr } = await run();

    assert.equal(code, 1);
    assert.equal(slack.requests.length, 1);
    const dueMs = Date.parse(stored().pending_alerts[0].due) - started;
    assert.ok(dueMs >= 120_000 && dueMs < 240_000, `${dueMs}`);
    assert.match(errorIn(stderr), /answered 429.* asks to wait for 120 s/);
    assert.equal((await run()).printed.messages.length, 0);
    assert.equal(slack.requests.length, 1);
  });

  test("sends at most ten waiting messages a channel, the oldest first, besides its own", async (t) => {
    const { slack, run, stored, store } = await setStage(t);
    const waiting = Array.from({ length: 13 }, (_, i) => pendingAlert(`waiting ${i}`));
    const owners = [pendingAlert("for owners", { channel: "#owners" })];
    await store({ ...documentOf(["unit tests", recent("✗✗")]), pending_alerts: [...waiting, ...owners] });

    const { printed } = await run();

    assert.equal(printed.messages.length, 10 + 1 + 1);
    const told = slack.messages.filter(({ channel }) => channel === "#ci").map(({ text }) => text);
    assert.deepEqual(
      told.slice(0, 10),
      waiting.slice(0, 10).map(({ text }) => text),
    );
    assert.match(told[10] ?? "", /unit tests broken/);
    assert.deepEqual(stored().pending_alerts, waiting.slice(10));
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

  test("drops what waits for an owner's channel where there are no channels: it got everything", async (t) => {
    const { slack, run, stored, store } = await setStage(t);
    const pending_alerts = [pendingAlert("for all"), pendingAlert("for owners", { channel: "#owners" })];
    await store({ ...documentOf(), pending_alerts });

    const { code } = await run({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });

    assert.equal(code, 0);
    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      ["for all"],
    );
    assert.equal(stored().pending_alerts, undefined);
  });

  test("says why a webhook refused its message, but not which webhook", async (t) => {
    const { slack, run, stored } = await setStage(t);
    slack.faults.push({ times: 1, answer: answerWith(404, "no_service") });

    const { code, stdout, stderr } = await run({ ...NO_SLACK, SLACK_WEBHOOK_URL: slack.webhookUrl });

    assert.equal(code, 1);
    assert.match(errorIn(stderr), /Slack's webhook answered 404 no_service.*SLACK_WEBHOOK_URL/);
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
  const messageFor = (channel: string): PendingAlert => pendingAlert(`for ${channel}`, { channel });

  /** Slack, and a way to send messages through it within this process. */
  async function startSender(t: Scope, variables: (slack: Awaited<ReturnType<typeof startSlack>>) => Variables) {
    const slackServer = await startSlack();
    t.after(slackServer.close);
    const { slack, network } = settings(variables(slackServer));
    const sender = openSender(slack, network, async () => {});
    return {
      slack: slackServer,
      send: (messages: PendingAlert[], signal = new AbortController().signal) =>
        sendNotification(messages, { sender, now: NOW, signal }),
    };
  }
  const startApi = (t: Scope) =>
    startSender(t, ({ apiUrl }) => ({ SLACK_API_URL: apiUrl, SLACK_API_TOKEN: SLACK_TOKEN }));
  const startWebhook = (t: Scope) =>
    startSender(t, ({ webhookUrl }) => ({ ...NO_SLACK, SLACK_WEBHOOK_URL: webhookUrl }));

  /** Sends a message to each of the channels, which Slack answers with their faults first. */
  async function sendTo(t: Scope, faults: Record<string, Omit<Fault, "matches">>) {
    const { slack, send } = await startApi(t);
    const channels = Object.keys(faults);
    for (const channel of channels) {
      const matches: Fault["matches"] = ({ body }) => JSON.parse(`${body}`).channel === channel;
      slack.faults.push({ times: 1, ...faults[channel], matches } as Fault);
    }
    return { slack, messages: await send(channels.map(messageFor)) };
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
    assert.match(gone ?? "", /^Slack at 127\.0\.0\.1:\d+ is unreachable: .*, 3 times/);
    assert.equal(slack.requests.length, 3 + 3 + 1);
  });

  test("sends the messages of a channel in their order, each when the one before has arrived", async (t) => {
    const { slack, send } = await startApi(t);
    slack.faults.push({ times: 1, answer: answerWith(500) });
    const texts = ["first", "second", "third"];

    await send(texts.map((text) => pendingAlert(text)));

    assert.deepEqual(
      slack.messages.map(({ text }) => text),
      texts,
    );
  });

  test("leaves a channel alone for which Slack asked to wait, and no other", async (t) => {
    const { slack, send } = await startApi(t);
    const matches: Fault["matches"] = ({ body }) => body.includes("#busy");
    slack.faults.push({ times: 9, matches, answer: answerWith(429, "", { "retry-after": "31" }) });

    const [first, second, other] = await send([messageFor("#busy"), messageFor("#busy"), messageFor("#fine")]);

    assert.equal(slack.requests.length, 2);
    assert.deepEqual([first?.delivered, second?.delivered, other?.delivered], [false, false, true]);
    assert.equal(second?.due, first?.due);
    assert.equal(Date.parse(first?.due ?? "") > Date.now(), true);
  });

  test("goes on with a channel where a message fails for another reason", async (t) => {
    const { slack, send } = await startApi(t);
    slack.faults.push({ times: 1, answer: (response) => answerJson(response, { ok: false, error: "msg_too_long" }) });

    const deliveries = await send([pendingAlert("first"), pendingAlert("second")]);

    assert.deepEqual(
      deliveries.map(({ delivered, due }) => [delivered, due === NOW.toISOString()]),
      [
        [false, true],
        [true, false],
      ],
    );
  });

  test("says to try again where the time is up while Slack is busy", async (t) => {
    const { slack, send } = await startApi(t);
    const stop = new AbortController();
    const answer: Fault["answer"] = (response) => {
      response.on("close", () => stop.abort());
      answerWith(429, "", { "retry-after": "30" })(response);
    };
    slack.faults.push({ times: 1, answer });

    const [message] = await send([messageFor("#ci")], stop.signal);

    assert.match(message?.error ?? "", /the time of this run is up: try again later/);
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
      invented_error: /chat\.postMessage/,
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
      assert.equal(error.includes(SLACK_TOKEN), false);
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
      const { slack, send } = await startWebhook(t);
      slack.faults.push({ times: 1, answer: answerWith(status, reason) });

      const [message] = await send([pendingAlert("for all")]);

      assert.equal(message?.delivered, false);
      assert.match(message?.error ?? "", new RegExp(`^Slack's webhook answered ${status} ${reason}; `));
      assert.doesNotMatch(message?.error ?? "", /services|127/);
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
    ["a page", [200, "<html>Please log in</html>"], false],
    ["a blank line and a page", [200, "\r\n\n<!DOCTYPE html>\n"], false],
  ];
  for (const [answer, [status, body], delivered] of WEBHOOK_ANSWERS) {
    test(`takes it for ${delivered ? "a" : "no"} delivery that a webhook answers ${answer}`, async (t) => {
      const { slack, send } = await startWebhook(t);
      slack.faults.push({ times: 1, answer: answerWith(status, body) });
      const [message] = await send([pendingAlert("for all")]);
      assert.equal(message?.delivered, delivered);
      assert.equal(slack.requests.length, 1);
    });
  }

  test("says that a webhook can't be reached, but not which webhook", { timeout }, async (t) => {
    const { slack, send } = await startWebhook(t);
    slack.close();

    const [message] = await send([pendingAlert("for all")]);

    assert.match(message?.error ?? "", /^Slack's webhook is unreachable: .*, 3 times/);
    assert.doesNotMatch(message?.error ?? "", /services/);
  });
});
