/** How news gets to Slack: to each channel what it does not know, once, whatever breaks in between. */
import assert from "node:assert/strict";
import http, { type ServerResponse } from "node:http";
import https from "node:https";
import { type AddressInfo, createServer } from "node:net";
import process from "node:process";
import { describe, test } from "node:test";
import {
  type Alert,
  type Delivery,
  type Message,
  openSender,
  type PipelineJob,
  type Run,
  type Sender,
  sendNotification,
  stripOf,
  type World,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  MINUTE,
  makeWorld,
  memoryStore,
  messageOf,
  NOW,
  newsOf,
  notRun,
  openAlert,
  passed,
  runOf,
  settings,
  taskOf,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { createWorld, type Fate } from "./support/gates.ts";
import { type Asked, answerJson, answerWith, type Fault, hang, reset } from "./support/servers/http.ts";
import { preconditionFailed, s3Error } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { isNoting, isUpload, PIPELINE, type Scope, setStage } from "./support/stage.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

const timeout = MINUTE; // Bun's default is too short for several runs, or tries, one after the other
const NO_SLACK = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const OVER = "1970-01-01T00:00:00.000Z";
const at = (ms: number) => new Date(NOW.getTime() + ms).toISOString();

/** The one line that says what went wrong. */
function errorIn(stderr: string): string {
  const [line = "", ...others] = stderr.split("\n").filter((line) => line.startsWith("Error"));
  assert.deepEqual(others, []);
  return line;
}

const methodsOf = (requests: { method: string }[]) => requests.map(({ method }) => method).join(" ");
const refuse = (error: string) => (response: ServerResponse) => answerJson(response, { ok: false, error });
const isFor =
  (channel: string) =>
  ({ body }: Asked) =>
    JSON.parse(`${body}`).channel === channel;

// ── Processes of the script, with a store, GitLab and Slack.

describe("a run of the script", { concurrency: 2 }, () => {
  test("that has nothing to tell makes one upload, and asks Slack for nothing", async (t) => {
    const { s3, gitlab, slack, run, store } = await setStage(t);
    await store(documentOf());

    const { code, printed } = await run();

    assert.deepEqual([code, printed.outcome, printed.messages], [0, "counted", []]);
    assert.equal(methodsOf(s3.requests), "GET PUT");
    assert.deepEqual(gitlab.requests.map(({ path }) => path.split("/").at(-1)).sort(), ["bridges", "jobs"]);
    assert.equal(slack.requests.length, 0);
  });

  test("that has news claims them for five minutes, sends them, and notes who was told", async (t) => {
    const { s3, slack, run, stored } = await setStage(t);
    const started = Date.now();

    const { code, stderr, printed } = await run();

    assert.equal(code, 0);
    assert.doesNotMatch(stderr, /error|warning/i);
    assert.deepEqual(
      printed.messages.map(({ channel, delivered }: Record<string, unknown>) => [channel, delivered]),
      [["#ci", true]],
    );
    assert.match(slack.messages[0]?.text ?? "", /unit tests\S* failed 3 times in a row/);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    const claimed: Alert = JSON.parse(`${s3.requests[1]?.body}`).jobs["unit tests"].alert;
    assert.deepEqual([claimed.told, Object.keys(claimed.claims ?? {})], [undefined, [""]]);
    const untilMs = Date.parse(`${claimed.claims?.[""]?.until}`);
    assert.ok(untilMs >= started + 5 * MINUTE && untilMs <= Date.now() + 5 * MINUTE);
    const { told, claims, changed_at }: Alert = stored().jobs["unit tests"].alert;
    assert.deepEqual([told, claims], [{ "": changed_at }, undefined]);
  });

  test("asks Slack once, as the bot, for a message without previews of its links", async (t) => {
    const { slack, run } = await setStage(t);

    await run();

    assert.equal(slack.requests.length, 1);
    assert.equal(slack.requests[0]?.headers.authorization, `Bearer ${SLACK_TOKEN}`);
    const { channel, unfurl_links, unfurl_media } = slack.messages[0] ?? {};
    assert.deepEqual([channel, unfurl_links, unfurl_media], ["#ci", false, false]);
  });

  // A lost answer has the SDK upload again, which is then a conflict.
  const ECHOES: [upload: string, does: string, matches: Fault["matches"], answer: Fault["answer"], asked: string][] = [
    ["counts", "got lost", isUpload, reset, "GET PUT PUT GET GET PUT"],
    ["notes", "got lost", isNoting, reset, "GET PUT GET PUT PUT GET"],
    ["counts", "is a conflict, as where a proxy sends it twice", isUpload, preconditionFailed, "GET PUT GET GET PUT"],
    ["notes", "is a conflict, as where a proxy sends it twice", isNoting, preconditionFailed, "GET PUT GET PUT GET"],
  ];
  for (const [upload, does, matches, answer, asked] of ECHOES) {
    test(`takes its own upload for what it is, where the answer to the one that ${upload} ${does}`, async (t) => {
      const { s3, slack, run, stored } = await setStage(t);
      s3.faults.push({ times: 1, matches, isCarriedOut: true, answer });

      const { code, printed } = await run();

      assert.deepEqual([code, printed.outcome, printed.stored_pipeline_id], [0, "counted", documentOf().pipeline_id]);
      assert.deepEqual([methodsOf(s3.requests), slack.messages.length], [asked, 1]);
      const { jobs_info, alert } = stored().jobs["unit tests"];
      assert.deepEqual([stripOf(jobs_info), alert.told], ["✗✗✗", { "": alert.changed_at }]);
    });
  }

  test("whose second upload is refused though nobody else stored has told once, and notes that", async (t) => {
    const { s3, slack, run, stored } = await setStage(t);
    const conflict = s3Error(409, "ConditionalRequestConflict", "A conflicting operation was in progress.");
    s3.faults.push({ times: 1, matches: isNoting, answer: conflict });

    const { code, stderr } = await run();

    assert.deepEqual([code, stderr.includes("Error")], [0, false]);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT GET PUT");
    assert.equal(slack.messages.length, 1);
    const { told, claims, changed_at }: Alert = stored().jobs["unit tests"].alert;
    assert.deepEqual([told, claims], [{ "": changed_at }, undefined]);
  });

  test("that meets a conflict while it counts counts on what the other run stored", async (t) => {
    const { s3, slack, run, stored, intervene } = await setStage(t);
    intervene(isUpload, () => ({ ...documentOf(["unit tests", history("✗✗·")]), pipeline_id: PIPELINE - 1 }));

    const { code, printed } = await run();

    assert.deepEqual([code, printed.outcome, printed.stored_pipeline_id], [0, "counted", PIPELINE - 1]);
    assert.equal(stripOf(stored().jobs["unit tests"].jobs_info), "✗✗·✗");
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    assert.equal(slack.requests.length, 0);
  });

  test("that meets a conflict with a newer pipeline while it counts only files its executions", async (t) => {
    const { s3, slack, run, stored, intervene, recent } = await setStage(t);
    intervene(isUpload, (document) => recent({ ...document, pipeline_id: PIPELINE + 1 }));

    const { code, printed } = await run();

    assert.deepEqual([code, printed.outcome], [0, "late"]);
    const { pipeline_id, jobs } = stored();
    assert.deepEqual([pipeline_id, stripOf(jobs["unit tests"].jobs_info)], [PIPELINE + 1, "✗✗✗"]);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    assert.equal(slack.requests.length, 0);
  });

  test("that meets a conflict while it notes keeps what the other run stored", async (t) => {
    const { s3, slack, run, stored, intervene } = await setStage(t);
    const claims = { "": { until: new Date(Date.now() + MINUTE).toISOString(), by: "another run" } };
    const alert = openAlert("consecutive", { told: undefined, claims });
    intervene(isNoting, ({ jobs, ...own }) => ({
      ...own,
      pipeline_id: PIPELINE + 1,
      jobs: new Map([...jobs, ["lint", history("✗✗✗", { alert })]]),
    }));

    const { code } = await run();

    assert.equal(code, 0);
    assert.equal(slack.messages.length, 1);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT GET PUT");
    const { pipeline_id, jobs } = stored();
    assert.deepEqual([pipeline_id, jobs.lint.alert.claims], [PIPELINE + 1, claims]);
    assert.deepEqual(Object.keys(jobs["unit tests"].alert.told), [""]);
  });

  test("says nothing on stderr but what it has to say, even to a dozen channels", async (t) => {
    const jobs = Array.from({ length: 12 }, (_, i) => `job-${i}`);
    const { slack, launch } = await setStage(t, jobs);

    const { code, stderr } = await launch({ JOB_RULES: jobs.map((job) => `${job} #${job}`).join("\n") }, []).result;

    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(slack.messages.length, 13);
  });

  test("says who refused its message and what to do, and ends with 1; the alert is counted, and told to nobody", async (t) => {
    const { run, stored } = await setStage(t);

    const { code, stdout, stderr } = await run({ SLACK_API_TOKEN: "xoxb-of-yesterday" });

    assert.equal(code, 1);
    assert.match(
      errorIn(stderr),
      /^Error: #ci was not told: Slack at \S+ answered invalid_auth; set SLACK_API_TOKEN .*, then retry this job \(the next run tells it too\)$/,
    );
    assert.doesNotMatch(stdout + stderr, /yesterday/);
    const { kind, told, claims }: Alert = stored().jobs["unit tests"].alert;
    assert.deepEqual([kind, told, claims], ["consecutive", undefined, undefined]);
  });

  test("that is dry asks Slack whether the token is good, and sends and stores nothing", async (t) => {
    const { s3, slack, launch } = await setStage(t);

    const { code, stdout, stderr } = await launch({}, ["--dry-run"]).result;

    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /Would send to #ci:\n🔴 unit tests broken/u);
    assert.match(stdout, /\nSlack at \S+ takes the token \(auth\.test\); .*\n$/);
    assert.deepEqual(
      slack.requests.map(({ path }) => path),
      ["/api/auth.test"],
    );
    assert.equal(methodsOf(s3.requests), "GET");
  });

  test("that is dry ends with 1 where the token was revoked, and claims to have stored nothing", async (t) => {
    const { s3, launch, store } = await setStage(t);
    await store(documentOf());

    const { code, stdout, stderr } = await launch({ SLACK_API_TOKEN: "xoxb-of-yesterday" }, ["--dry-run"]).result;

    assert.equal(code, 1);
    assert.match(
      errorIn(stderr),
      /^Error: Slack at \S+ answered invalid_auth; set SLACK_API_TOKEN to a valid bot token/,
    );
    assert.doesNotMatch(stdout, /Stored in|alerts go to/);
    assert.equal(methodsOf(s3.requests), "GET");
  });

  test("prints its messages where there is neither Slack nor a command, and notes that", async (t) => {
    const { s3, slack, launch, stored } = await setStage(t);

    const { code, stdout } = await launch(NO_SLACK, []).result;

    assert.equal(code, 0);
    assert.match(stdout, /unit tests failed 3 times in a row/);
    assert.equal(slack.requests.length, 0);
    assert.equal(methodsOf(s3.requests), "GET PUT GET PUT");
    assert.deepEqual(Object.keys(stored().jobs["unit tests"].alert.told), [""]);
  });

  test("that is killed while Slack takes its message leaves a claim: it is told again when that is over", {
    timeout,
  }, async (t) => {
    const { slack, gitlab, launch, run, store, stored } = await setStage(t);
    const asked = new Promise<void>((resolve) => {
      slack.faults.push({ times: 1, answer: () => resolve() });
    });
    const { child, result } = launch();
    await asked;
    child.kill("SIGKILL");
    assert.equal((await result).signal, "SIGKILL");
    gitlab.pipelines.set(PIPELINE + 1, [{ id: 1, name: "lint", status: "success" }]);
    const next = { CI_PIPELINE_ID: `${PIPELINE + 1}` };

    const early = await run(next);
    assert.deepEqual([early.code, early.printed.messages, slack.messages.length], [0, [], 0]);

    const document = await parseDocument(JSON.stringify(stored()));
    const [[name = "", job] = []] = document.jobs;
    assert.ok(job?.alert?.claims?.[""]);
    job.alert.claims[""].until = new Date(Date.now() - 1).toISOString();
    await store({ ...document, jobs: new Map([[name, job]]) });
    const late = await run(next);
    assert.deepEqual([late.code, slack.messages.length], [0, 1]);
    assert.deepEqual(Object.keys(stored().jobs["unit tests"].alert.told), [""]);
  });
});

// ── Runs within this process, one after another, with a document in memory and a stand-in for Slack.

const breaking = (...names: string[]) =>
  documentOf(...names.map((name): Parameters<typeof documentOf>[0] => [name, history("✗✗")]));

/** What differs in a run: how long after the one before, and in its environment. */
type Next = { afterMs?: number; env?: Variables };

/** `#ci: 🔴 unit tests broken`, from a message. */
const headOf = (channel: string, text: string) => `${channel}: ${text.split(/ in acme\/shop|\n/, 1)}`;

async function setScene(t: Scope, document = breaking("unit tests"), given: Variables = {}) {
  const slack = await startSlack();
  t.after(slack.close);
  const { store, stored } = memoryStore(textOf(document));
  const common = { SLACK_API_URL: slack.apiUrl, SLACK_API_TOKEN: SLACK_TOKEN, ...given };
  let [pipeline, nowMs, heard] = [document.pipeline_id, NOW.getTime(), 0];
  return {
    slack,
    store,
    /** A run of the next pipeline, ten minutes later unless said otherwise, with what differs in its environment. */
    count: async (jobs: PipelineJob[], { afterMs = 10 * MINUTE, env = {} }: Next = {}, rest: Partial<World> = {}) => {
      nowMs += afterMs;
      pipeline = Number(env.CI_PIPELINE_ID ?? pipeline + 1);
      const all = { ...common, ...env, CI_PIPELINE_ID: `${pipeline}` };
      const sender = openSender(settings(all).sender, { environment: {}, print: async () => {}, say: () => {} });
      return (await runOf(jobs, all, { store, sender, ...rest, now: new Date(nowMs) })).run;
    },
    /** What was told since this was asked last. */
    heard: () => {
      const told = slack.messages.slice(heard);
      heard = slack.messages.length;
      return told.map(({ channel, text }) => headOf(channel, text));
    },
    alertOf: async (job = "unit tests") => (await parseDocument(stored.text)).jobs.get(job)?.alert,
  };
}
type Scene = Awaited<ReturnType<typeof setScene>>;

/** Pipelines with one job, `✗` for each failure, `·` for each pass; the last run. */
async function play(strip: string, { count }: Scene, next: Next = {}) {
  const runs: Run[] = [];
  for (const mark of strip) runs.push(await count([mark === "✗" ? failed("unit tests") : passed("unit tests")], next));
  return runs.at(-1);
}

/** A job whose alert was told in these channels, and that has passed twice since. */
const recovering = (told: Alert["told"], rest: Partial<Alert> = {}) =>
  documentOf(["unit tests", history("✗✗✗··", { alert: openAlert("consecutive", { told, ...rest }) })]);

describe("checkConsistentFailures() tells", { concurrency: 8 }, () => {
  test("an alert and its end, once each, and nothing in between", async (t) => {
    const scene = await setScene(t);
    await play("✗✗··", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken"]);
    await play("···", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
  });

  test("an end also where it comes in the same millisecond, as two clocks may have it", async (t) => {
    const scene = await setScene(t, undefined, { CONSECUTIVE_THRESHOLD: "1" });
    await play("✗·", scene, { afterMs: 0 });
    assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken", "#ci: 🟢 unit tests recovered"]);
  });

  test("one message a channel, with all that is new to it", async (t) => {
    const document = breaking("a", "b");
    document.jobs.set("c", recovering({ "": AN_HOUR_AGO }).jobs.get("unit tests") ?? history(""));
    const { count, heard, slack } = await setScene(t, document, { JOB_RULES: "b #team" });
    await count([failed("a"), failed("b"), passed("c")]);
    assert.deepEqual(heard().sort(), ["#ci: 🔴 2 jobs broken, 🟢 c recovered", "#team: 🔴 b broken"]);
    assert.match(
      slack.messages.find(({ channel }) => channel === "#ci")?.text ?? "",
      /\n\n🔴 2 jobs .*\n\n🟢 \S+c> passed/su,
    );
  });

  test("in a late run nothing, also not what waits", async (t) => {
    const untold = history("✗✗✗", { alert: openAlert("consecutive", { told: undefined }) });
    const { count, slack } = await setScene(t, documentOf(["unit tests", untold]));
    const { outcome } = await count([failed("unit tests")], { env: { CI_PIPELINE_ID: "1003" } });
    assert.deepEqual([outcome, slack.requests.length], ["late", 0]);
  });

  test("in a re-run what could not be told before", async (t) => {
    const { slack, count, heard, alertOf } = await setScene(t);
    slack.errors.set("#ci", "is_archived");
    await count([failed("unit tests")]);
    slack.errors.clear();
    const run = await count([failed("unit tests")], { env: { CI_PIPELINE_ID: "1005" } });
    assert.deepEqual([run.outcome, run.errors, heard()], ["counted", [], ["#ci: 🔴 unit tests broken"]]);
    assert.deepEqual((await alertOf())?.told, { "": at(10 * MINUTE) });
  });

  test("a first day's hello in front of an alert, in one message; and a hello that was refused later", async (t) => {
    const strict = { CONSECUTIVE_THRESHOLD: "1" };
    const slack = await startSlack();
    t.after(slack.close);
    const env = { SLACK_API_URL: slack.apiUrl, SLACK_API_TOKEN: SLACK_TOKEN, ...strict };
    const sender = openSender(settings(env).sender, { environment: {}, print: async () => {}, say: () => {} });
    const { store, stored } = memoryStore();
    slack.errors.set("#ci", "not_in_channel");
    const first = await runOf([failed("unit tests")], env, { store, sender });
    assert.equal(first.run.errors.length, 1);
    assert.deepEqual((await parseDocument(stored.text)).hello?.until, OVER);
    slack.errors.clear();
    await runOf([failed("unit tests")], { ...env, CI_PIPELINE_ID: "1006" }, { store, sender });
    assert.equal(slack.messages.length, 1);
    assert.match(slack.messages[0]?.text ?? "", /^👋 .*\n\n🔴 unit tests broken/su);
    assert.equal((await parseDocument(stored.text)).hello, undefined);
    await runOf([passed("unit tests")], { ...env, CI_PIPELINE_ID: "1007" }, { store, sender });
    assert.doesNotMatch(slack.messages[1]?.text ?? "", /👋/u);
  });

  test("only the broadcast channel hello", async (t) => {
    const { slack, count } = await setScene(t, { ...breaking("unit tests"), hello: { until: OVER, by: "" } });
    await count([failed("unit tests")], { env: { JOB_RULES: "unit* #team" } });
    const greeted = slack.messages.filter(({ text }) => text.startsWith("👋"));
    assert.deepEqual([greeted.map(({ channel }) => channel), slack.messages.length], [["#ci"], 2]);
  });
});

describe("checkConsistentFailures(), where the chat was away,", { concurrency: 8 }, () => {
  const dead = { env: { SLACK_API_TOKEN: "xoxb-of-yesterday" } };

  test("tells after two weeks what is true then, in one message, and nothing of what came and went", async (t) => {
    const document = breaking("came and went", "still broken", "broken anew");
    document.jobs.set("told before", recovering({ "": AN_HOUR_AGO }).jobs.get("unit tests") ?? history(""));
    const scene = await setScene(t, document);
    const days = [
      ["✗", "✗", "✗", "·"],
      ["·", "✗", "·", "·"],
      ["·", "✗", "·", "·"],
      ["·", "✗", "·", "·"],
      ["·", "✗", "✗", "·"],
      ["·", "✗", "✗", "·"],
      ["·", "✗", "✗", "·"],
    ];
    for (const marks of days) {
      const jobs = [...document.jobs.keys()].map((name, i) => (marks[i] === "✗" ? failed(name) : passed(name)));
      const { errors } = await scene.count(jobs, { ...dead, afterMs: DAY });
      assert.match(errors.join("\n"), /^#ci was not told: .* answered invalid_auth; set SLACK_API_TOKEN .*$/);
    }
    await scene.count([passed("another job")], { afterMs: 8 * DAY });

    assert.deepEqual(scene.heard(), ["#ci: 🔴 2 jobs broken, 🟢 told before recovered"]);
    const text = scene.slack.messages[0]?.text ?? "";
    assert.match(text, /🔴 \S+still broken> failed 3 times in a row.*, 14 days ago/u);
    assert.match(text, /🔴 \S+broken anew> failed 3 times in a row.*, 8 days ago/u);
    assert.match(text, /🟢 told before passed 3 times in a row.*, 14 days ago/u);
    assert.doesNotMatch(text, /came and went/);
    await scene.count([passed("another job")], { afterMs: DAY });
    assert.deepEqual(scene.heard(), []);
  });

  test("tells neither an alert that opened and closed meanwhile nor its end", async (t) => {
    const scene = await setScene(t);
    await play("✗···", scene, dead);
    const run = await play("·", scene);
    assert.deepEqual([scene.heard(), run?.errors], [[], []]);
  });

  test("tells an alert of a job that has passed since as that", async (t) => {
    const scene = await setScene(t);
    await play("✗", scene, dead);
    await play("·", scene);
    assert.match(scene.slack.messages[0]?.text ?? "", /failed 3 times in a row.*, and has passed since/);
  });
});

describe("checkConsistentFailures(), where Slack refuses a message,", { concurrency: 8 }, () => {
  test("of the broadcast channel, ends in an error in each run, until it is told", async (t) => {
    const scene = await setScene(t);
    scene.slack.errors.set("#ci", "is_archived");
    for (const mark of ["✗", "✗"]) {
      const run = await play(mark, scene);
      assert.deepEqual([run?.warnings, run?.errors.length], [[], 1]);
      const says =
        /^#ci was not told: Slack at \S+ answered is_archived; unarchive .*, then retry this job \(the next /;
      assert.match(run?.errors.join() ?? "", says);
    }
    scene.slack.errors.clear();
    const run = await play("✗", scene);
    assert.deepEqual([scene.heard(), run?.errors], [["#ci: 🔴 unit tests broken"], []]);
  });

  for (const error of ["not_in_channel", "messages_tab_disabled", "channel_not_found", "restricted_action"]) {
    test(`of a job's own channel (${error}), warns in each run, and tells it there once the bot may`, async (t) => {
      const scene = await setScene(t, undefined, { JOB_RULES: "unit* #team" });
      scene.slack.errors.set("#team", error);
      const runs = [await play("✗", scene), await play("✗", scene)];
      assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken"]);
      for (const run of runs) {
        assert.deepEqual([run?.errors, run?.warnings.length], [[], 1]);
        assert.match(run?.warnings.join() ?? "", new RegExp(`^#team was not told: Slack at \\S+ answered ${error}; `));
      }
      scene.slack.errors.clear();
      const run = await play("✗", scene);
      assert.deepEqual([scene.heard(), run?.warnings], [["#team: 🔴 unit tests broken"], []]);
      await play("···", scene);
      assert.deepEqual(scene.heard().sort(), ["#ci: 🟢 unit tests recovered", "#team: 🟢 unit tests recovered"]);
    });
  }

  test("says a line for each channel, and the others have their messages", async (t) => {
    const { slack, count, heard } = await setScene(t, breaking("a", "b", "c"), { JOB_RULES: "a #x\nb #y\nc #z" });
    slack.errors.set("#ci", "missing_scope").set("#x", "not_in_channel").set("#y", "fatal");
    const { errors, warnings } = await count([failed("a"), failed("b"), failed("c")]);
    assert.deepEqual(heard(), ["#z: 🔴 c broken"]);
    const shorten = (lines: string[]) => lines.map((line) => line.replace(/ Slack at [\d.:]+| ?;.*/g, ""));
    assert.deepEqual(shorten(errors), ["#ci was not told: answered missing_scope"]);
    assert.deepEqual(shorten(warnings), [
      "#x was not told: answered not_in_channel",
      "#y was not told: answered fatal",
    ]);
  });

  test("tells an end once the channel takes it, and then forgets it", async (t) => {
    const scene = await setScene(t, recovering({ "": AN_HOUR_AGO }));
    scene.slack.errors.set("#ci", "is_archived");
    await play("·", scene);
    scene.slack.errors.clear();
    await play("··", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
    assert.equal((await scene.alertOf())?.told, undefined);
  });

  test("gives up an end that no channel takes after 30 days on which pipelines were counted", async (t) => {
    const scene = await setScene(t, recovering({ "#left": AN_HOUR_AGO }));
    scene.slack.errors.set("#left", "is_archived");
    const warnings: number[] = [];
    for (let day = 0; day <= 32; day++) {
      const run = await scene.count([day === 0 ? passed("unit tests") : passed("lint")], {
        afterMs: day === 0 ? 0 : DAY,
      });
      warnings.push(run.warnings.length);
    }
    assert.deepEqual(warnings, [...Array(31).fill(1), 0, 0]);
    assert.equal(scene.slack.messages.length, 0);
  });
});

describe("checkConsistentFailures() tells the channels of JOB_RULES,", { concurrency: 8 }, () => {
  test("also one that is added while the alert is open; one that is gone hears only of the end", async (t) => {
    const scene = await setScene(t, undefined, { JOB_RULES: "unit* #old" });
    await play("✗", scene);
    assert.deepEqual(scene.heard().sort(), ["#ci: 🔴 unit tests broken", "#old: 🔴 unit tests broken"]);
    const rules = { env: { JOB_RULES: "unit* #new" } };
    await play("✗", scene, rules);
    assert.deepEqual(scene.heard(), ["#new: 🔴 unit tests broken"]);
    await play("···", scene, rules);
    assert.deepEqual(scene.heard().sort(), [
      "#ci: 🟢 unit tests recovered",
      "#new: 🟢 unit tests recovered",
      "#old: 🟢 unit tests recovered",
    ]);
  });

  test("not of an end of which the channel knows no beginning", async (t) => {
    const scene = await setScene(t, recovering({ "": AN_HOUR_AGO }), { JOB_RULES: "unit* #new" });
    await play("·", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
  });

  test("that a job is gone where a rule ignores it, wherever its alert was told", async (t) => {
    const scene = await setScene(t, recovering({ "": AN_HOUR_AGO, "#team": AN_HOUR_AGO }));
    const ignoring = { env: { JOB_RULES: "unit* ignore" } };
    await scene.count([passed("lint")], ignoring);
    assert.deepEqual(scene.heard().sort(), ["#ci: ⚪ unit tests gone", "#team: ⚪ unit tests gone"]);
    await scene.count([passed("lint")], ignoring);
    assert.equal(await scene.alertOf(), undefined);
  });

  for (const [SLACK_CHANNEL, named] of [
    ["#ci", "#ci"],
    ["#ci", "#CI"],
    ["CI", "#ci"],
    ["C0123ABCD", "C0123ABCD"],
  ] as const) {
    test(`one message where a rule names the broadcast channel ${SLACK_CHANNEL} as ${named}, with its mention`, async (t) => {
      const JOB_RULES = `* ${named} <!subteam^S0123ABCD>`;
      const scene = await setScene(t, undefined, { JOB_RULES, SLACK_CHANNEL });
      await play("✗", scene);
      assert.deepEqual(scene.heard(), [`${SLACK_CHANNEL}: <!subteam^S0123ABCD> 🔴 unit tests broken`]);
      await play("···", scene);
      assert.deepEqual(scene.heard(), [`${SLACK_CHANNEL}: 🟢 unit tests recovered`]);
    });
  }

  test("with the mentions of a line in its channels alone, else in the broadcast channel", async (t) => {
    const JOB_RULES = "a #team <@U1>\nb <!here>";
    const { count, heard } = await setScene(t, breaking("a", "b"), { JOB_RULES });
    await count([failed("a"), failed("b")]);
    assert.deepEqual(heard().sort(), ["#ci: <!here> 🔴 2 jobs broken", "#team: <@U1> 🔴 a broken"]);
  });

  test("one message to an own channel that is the broadcast channel by now", async (t) => {
    const scene = await setScene(t, recovering({ "": AN_HOUR_AGO, "#team": AN_HOUR_AGO }));
    await play("·", scene, { env: { SLACK_CHANNEL: "#Team" } });
    assert.deepEqual(scene.heard(), ["#Team: 🟢 unit tests recovered"]);
  });

  test("the end in a broadcast channel that was changed", async (t) => {
    const scene = await setScene(t, recovering({ "": AN_HOUR_AGO }));
    await play("·", scene, { env: { SLACK_CHANNEL: "#new" } });
    assert.deepEqual(scene.heard(), ["#new: 🟢 unit tests recovered"]);
  });

  test("all in one message where there are no channels any more, as with a command", async () => {
    const sent: Message[] = [];
    const sender: Sender = {
      ...makeWorld().world.sender,
      send: async (message) => void sent.push(message),
    };
    const { store, stored } = memoryStore(textOf(recovering({ "": AN_HOUR_AGO, "#team": AN_HOUR_AGO })));
    const command = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined, ALERT_COMMAND: "cat" };
    await runOf([passed("unit tests")], { JOB_RULES: "unit* #team <@U1>", ...command }, { store, sender });
    assert.deepEqual(
      sent.map(({ channel, news }) => [channel, news.map(({ alert }) => alert.kind)]),
      [["", ["recovered"]]],
    );
    assert.equal((await parseDocument(stored.text)).jobs.get("unit tests")?.alert?.told, undefined);
  });

  test("the end of an alert that version 3 told, which knew no channels", async () => {
    const { alert, ...job } = history("✗✗✗··", { alert: openAlert() });
    const { kind, pipeline_id, at } = alert ?? {};
    const jobs = { "unit tests": { ...job, alert: { kind, pipeline_id, at } } };
    const { store } = memoryStore(JSON.stringify({ pipeline_id: 1004, jobs }));
    const { sent } = await runOf([passed("unit tests")], {}, { store });
    assert.deepEqual(
      sent.map(({ channel, text }) => headOf(channel, text)),
      ["#ci: 🟢 unit tests recovered"],
    );
  });
});

describe("checkConsistentFailures(), where another run has claimed an alert,", { concurrency: 8 }, () => {
  const claimed = (until: string) =>
    documentOf([
      "unit tests",
      history("✗✗✗", {
        alert: openAlert("consecutive", { told: undefined, claims: { "": { until, by: "another run" } } }),
      }),
    ]);

  const CLAIMS: [title: string, untilMs: number, isTold: boolean][] = [
    ["that is over this very moment", 0, true],
    ["that is over in a moment", 1, false],
    ["that is over in a day", DAY, false],
    ["that is over later than that, as some clock ran ahead", DAY + 1, true],
    ["that is over in forty days, likewise", 40 * DAY, true],
  ];
  for (const [title, untilMs, isTold] of CLAIMS) {
    test(`${isTold ? "tells what" : "waits where"} that has a claim ${title}`, async (t) => {
      const { count, slack, alertOf } = await setScene(t, claimed(at(untilMs)));
      await count([failed("unit tests")], { afterMs: 0 });
      assert.equal(slack.messages.length, isTold ? 1 : 0);
      const { told, claims } = (await alertOf()) ?? {};
      const left = { "": { until: at(untilMs), by: "another run" } };
      assert.deepEqual([told, claims], isTold ? [{ "": AN_HOUR_AGO }, undefined] : [undefined, left]);
    });
  }

  for (const [title, untilMs, greetings] of [
    ["in force", MINUTE, 0],
    ["over", 0, 1],
  ] as const) {
    test(`says ${greetings} hellos where the claim of that is ${title}`, async (t) => {
      const hello = { until: at(untilMs), by: "another run" };
      const { count, slack } = await setScene(t, { ...documentOf(), hello });
      await count([passed("lint")], { afterMs: 0 });
      assert.equal(slack.messages.length, greetings);
    });
  }

  test("tells the end to whoever it may have told, when that is over", async (t) => {
    const document = claimed(at(0));
    const scene = await setScene(t, document);
    await play("·", scene, { afterMs: -MINUTE });
    await play("·", scene, { afterMs: 0 });
    await play("·", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
  });

  test("tells the end in the run after, where that claim was in force when it closed", async (t) => {
    const scene = await setScene(t, claimed(at(3 * MINUTE)));
    await play("···", scene, { afterMs: MINUTE / 2 });
    assert.deepEqual(scene.heard(), []);
    await play("·", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
  });

  test("keeps that it may have told, where the chat is away: the end is told at last", async (t) => {
    const scene = await setScene(t, claimed(at(0)));
    scene.slack.errors.set("#ci", "is_archived");
    await play("···", scene);
    scene.slack.errors.clear();
    await play("··", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
  });
});

describe("checkConsistentFailures(), where nobody knows whether Slack took a message,", { concurrency: 8 }, () => {
  test("says so, tells the alert again, and then knows", async (t) => {
    const scene = await setScene(t);
    scene.slack.faults.push({ times: 1, isCarriedOut: true, answer: reset });
    const run = await play("✗", scene);
    assert.match(run?.errors.join("\n") ?? "", /^#ci may not have been told: Slack at \S+ is unreachable: .*$/);
    assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken"]);
    assert.equal((await scene.alertOf())?.claims?.[""]?.until, OVER);
    await play("✗✗", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken"]);
    assert.equal((await scene.alertOf())?.claims, undefined);
  });

  test("tells the end of an alert that may have been told", async (t) => {
    const scene = await setScene(t);
    scene.slack.faults.push({ times: 3, answer: reset });
    await play("✗··", scene);
    assert.deepEqual(scene.heard(), []);
    await play("·", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🟢 unit tests recovered"]);
    await play("··", scene);
    assert.deepEqual(scene.heard(), []);
  });
});

// ── Runs that are held at each step.

describe("checkConsistentFailures(), while another run is sending,", { concurrency: 8 }, () => {
  const SOON = { CONSECUTIVE_THRESHOLD: "1" };
  const done = (pick: number) => ({ pick, fate: "done" as const });

  /** Pipeline 1005 breaks a job and is sending that, while 1006, in which the job passed, runs from start to end. */
  async function setRace(fate: Fate) {
    const { world, start, drive } = createWorld(await serializeDocument(documentOf()));
    const startRun = (id: number, job: PipelineJob, afterMs: number) =>
      start(
        taskOf({ ...SOON, CI_PIPELINE_ID: `${id}` }, { now: new Date(NOW.getTime() + afterMs), run: `run ${id}` }),
        [job],
      );
    const first = startRun(1005, failed("unit tests"), 0);
    const racing = drive([done(0), done(0), done(0), done(1), done(1), done(1), { pick: 0, fate }]);
    const isSending = () => first.gates.length === 1 && first.steps.at(-1)?.kind === "upload";
    while (!isSending()) await new Promise((resolve) => setImmediate(resolve));
    const second = startRun(1006, passed("unit tests"), MINUTE);
    await racing;
    assert.deepEqual(second.run?.messages, []);
    return {
      /** A later run of a pipeline that tells nothing new of the job. */
      next: async (id: number) => {
        startRun(id, passed("lint"), (id - 1000) * 10 * MINUTE);
        await drive([]);
      },
      told: () => world.taken.map(({ sent }) => sent.news.map(({ alert }) => alert.kind).join()),
    };
  }

  for (const [title, fate, expected] of [
    ["and it is delivered", "done", ["consecutive", "recovered"]],
    ["and it dies after that", "lost", ["consecutive", "recovered"]],
    ["and it dies before that", "dies", ["recovered"]],
    ["and it fails", "failed", []],
  ] as const) {
    test(`closes its alert, ${title}: the end is told ${expected.length > 0 ? "once" : "to nobody"}`, async () => {
      const { next, told } = await setRace(fate);
      await next(1007);
      await next(1008);
      assert.deepEqual(told(), expected);
    });
  }
});

describe("checkConsistentFailures(), where the store breaks before it is noted who was told,", {
  concurrency: 8,
}, () => {
  /** A run that tells an alert, and whose second upload comes to this. */
  async function runWith(t: Scope, write: (calls: number) => Promise<boolean> | undefined) {
    const scene = await setScene(t);
    let calls = 0;
    const store = {
      ...scene.store,
      write: (...args: Parameters<typeof scene.store.write>) => write(++calls) ?? scene.store.write(...args),
    };
    const run = await scene.count([failed("unit tests")], {}, { store });
    return { ...scene, run };
  }

  test("ends in an error that says so; the alert is told again", async (t) => {
    const scene = await runWith(t, (calls) => (calls > 1 ? Promise.reject(new Error("S3 is away")) : undefined));
    assert.deepEqual(scene.run.errors, ["It is not noted who was told, so some may be told again: S3 is away"]);
    assert.equal(scene.run.messages[0]?.delivered, true);
    await play("✗", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken", "#ci: 🔴 unit tests broken"]);
  });

  test("gives the second upload up after twenty refusals", async (t) => {
    const { run } = await runWith(t, (calls) => (calls > 1 ? Promise.resolve(false) : undefined));
    assert.match(run.errors.join("\n"), /^It is not noted who was told, .*: it was refused 20 times, .*$/);
  });

  test("tells the end of what a run told that died before it noted that", async (t) => {
    const scene = await runWith(t, (calls) => (calls > 1 ? Promise.reject(new Error("dead")) : undefined));
    scene.slack.errors.set("#ci", "is_archived");
    await play("··", scene);
    scene.slack.errors.clear();
    await play("·", scene);
    assert.deepEqual(scene.heard(), ["#ci: 🔴 unit tests broken", "#ci: 🟢 unit tests recovered"]);
  });

  test("stores no document anew where somebody took it away", async (t) => {
    const scene = await setScene(t);
    let reads = 0;
    const read: typeof scene.store.read = (signal) =>
      ++reads > 1 ? Promise.resolve(undefined) : scene.store.read(signal);
    let writes = 0;
    const write: typeof scene.store.write = (...args) => {
      writes++;
      return scene.store.write(...args);
    };
    const run = await scene.count([failed("unit tests")], {}, { store: { ...scene.store, read, write } });
    assert.deepEqual([run.errors, writes], [[], 1]);
  });
});

test("checkConsistentFailures() lets a job whose end is told only then be forgotten", async (t) => {
  const scene = await setScene(t, recovering({ "": AN_HOUR_AGO }));
  scene.slack.errors.set("#ci", "is_archived");
  await play("·".repeat(12), scene);
  assert.equal((await scene.alertOf())?.kind, "recovered");
  scene.slack.errors.clear();
  await scene.count([notRun("unit tests"), passed("lint")]);
  await scene.count([passed("lint")]);
  assert.equal(await scene.alertOf(), undefined);
});

// ── Slack itself.

describe("sendNotification()", { concurrency: 8 }, () => {
  const messageFor = (channel: string): Message => messageOf([newsOf("unit tests")], { channel });

  /** Slack, and a way to send messages through it within this process. */
  async function startSender(t: Scope) {
    const slack = await startSlack();
    t.after(slack.close);
    const { sender: access } = settings({ SLACK_API_URL: slack.apiUrl, SLACK_API_TOKEN: SLACK_TOKEN });
    const sender = openSender(access, { environment: {}, print: async () => {}, say: () => {} });
    const send = (messages: Message[], { signal = new AbortController().signal, dryRun = false } = {}) =>
      sendNotification(messages, taskOf({}, { dryRun }), { ...makeWorld().world, sender, signal });
    return { slack, sender, send };
  }

  /** Sends a message to each of the channels, which Slack answers so many times with their faults first. */
  async function sendTo(t: Scope, faults: Record<string, [times: number, answer: Fault["answer"]]>) {
    const { slack, send } = await startSender(t);
    for (const [channel, [times, answer]] of Object.entries(faults))
      slack.faults.push({ times, matches: isFor(channel), answer });
    const deliveries = await send(Object.keys(faults).map(messageFor));
    const requestsOf = (channel: string) => slack.requests.filter(isFor(channel)).length;
    return { slack, requestsOf, deliveries, problems: deliveries.map(({ failure }) => failure?.message ?? "") };
  }

  test("sends nothing in a dry run", async (t) => {
    const { slack, send } = await startSender(t);
    const [message] = await send([messageFor("#ci")], { dryRun: true });
    assert.deepEqual([message?.delivered, message?.failure, slack.requests.length], [false, undefined, 0]);
  });

  test("tries again where Slack surely did not take the message", { timeout }, async (t) => {
    const { slack, deliveries } = await sendTo(t, {
      "#busy": [1, answerWith(429, "", { "retry-after": "0" })],
      "#busier": [1, answerWith(429, "", { "retry-after": "1" })],
      "#busiest": [2, answerWith(429)],
      "#broken": [1, answerWith(500)],
      "#broken-twice": [2, answerWith(503)],
    });
    assert.deepEqual(
      deliveries.filter(({ delivered }) => !delivered),
      [],
    );
    assert.equal(slack.messages.length, 5);
  });

  test("does not try again what Slack may have taken, and says that nobody knows", async (t) => {
    const half: Fault["answer"] = (response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write('{"ok": true', () => response.destroy());
    };
    const { requestsOf, deliveries } = await sendTo(t, { "#gone": [9, reset], "#half": [9, half] });
    assert.deepEqual(
      deliveries.map(({ delivered, failure }) => [delivered, failure?.mayBeTaken]),
      [
        [false, true],
        [false, true],
      ],
    );
    assert.deepEqual([requestsOf("#gone"), requestsOf("#half")], [1, 1]);
  });

  test("gives a channel up after three tries, and the others have their messages", { timeout }, async (t) => {
    const { requestsOf, deliveries, problems } = await sendTo(t, {
      "#down": [9, answerWith(500)],
      "#fine": [0, reset],
    });
    assert.deepEqual(
      deliveries.map(({ delivered }) => delivered),
      [false, true],
    );
    assert.match(problems[0] ?? "", /^Slack at 127\.0\.0\.1:\d+ answered 500; wait a while$/);
    assert.deepEqual([requestsOf("#down"), deliveries[0]?.failure?.mayBeTaken], [3, undefined]);
  });

  test("leaves it to the next run where Slack asks to wait for more than half a minute, in that channel only", async (t) => {
    const { requestsOf, deliveries, problems } = await sendTo(t, {
      "#busy": [9, answerWith(429, "", { "retry-after": "31" })],
      "#fine": [0, reset],
    });
    assert.deepEqual([requestsOf("#busy"), deliveries.map(({ delivered }) => delivered)], [1, [false, true]]);
    assert.match(problems[0] ?? "", / answered 429 and asks to wait for 31 s; wait a while$/);
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
      messages_tab_disabled: /let the bot post/,
      restricted_action: /let the bot post/,
      restricted_action_thread_only_channel: /let the bot post/,
      ratelimited: /wait a minute/,
      rate_limited: /wait a minute/,
      invented_error: /see what Slack says/,
    };
    const errors = Object.keys(hints);
    const { slack, deliveries, problems } = await sendTo(
      t,
      Object.fromEntries(errors.map((error) => [`#${error}`, [1, refuse(error)]])),
    );
    assert.equal(slack.requests.length, errors.length);
    for (const [i, { channel, delivered, failure }] of deliveries.entries()) {
      const problem = problems[i] ?? "";
      assert.deepEqual([delivered, failure?.mayBeTaken], [false, undefined], channel);
      assert.match(problem, new RegExp(`^Slack at 127\\.0\\.0\\.1:\\d+ answered ${errors[i]}; `));
      assert.match(problem, hints[errors[i] ?? ""] ?? /^$/, channel);
      assert.equal(problem.includes(SLACK_TOKEN), false);
    }
  });

  const html = "<html>Sign in</html>";
  const STRANGERS: [title: string, answer: Fault["answer"], says: RegExp][] = [
    [
      "a page of a proxy",
      answerWith(200, html),
      /^The answer of Slack at \S+ is not JSON: .*; check SLACK_API_URL, .*proxy/,
    ],
    [
      "JSON of something else",
      answerWith(200, "{}"),
      /^The answer of Slack at \S+ is not valid at ok: .*SLACK_API_URL/,
    ],
    ["a redirect", answerWith(302, "", { location: "http://127.0.0.1:9/" }), / answered 302; check SLACK_API_URL/],
    ["a wrong path", answerWith(404, "not found"), /^Slack at \S+ answered 404; check SLACK_API_URL/],
  ];
  for (const [title, answer, says] of STRANGERS) {
    test(`takes ${title} for no delivery, and names SLACK_API_URL`, async (t) => {
      const { deliveries, problems, requestsOf } = await sendTo(t, { "#ci": [9, answer] });
      assert.deepEqual([deliveries[0]?.delivered, requestsOf("#ci")], [false, 1]);
      assert.match(problems[0] ?? "", says);
    });
  }

  test("check() asks auth.test with the token, sends nothing, and says what only a message shows", async (t) => {
    const { slack, sender } = await startSender(t);
    assert.match(await sender.check(new AbortController().signal), /takes the token .*; whether the bot may post/);
    assert.deepEqual([slack.requests.map(({ path }) => path), slack.messages], [["/api/auth.test"], []]);
  });
});

describe("sendNotification(), with its requests watched,", () => {
  /** Sends messages, one after the other; resolves to what became of them, and to the limits of time of all requests. */
  async function send(
    t: Scope,
    url: string,
    { messages = 1, onAnswer = () => {}, signal = new AbortController().signal } = {},
  ) {
    const library: { request: typeof http.request } = url.startsWith("https:") ? https : http;
    const { request } = library;
    const limits: number[] = [];
    t.after(() => {
      library.request = request;
    });
    // The same limit of time, but a shorter one.
    library.request = ((
      url: string,
      options: http.RequestOptions,
      callback: (response: http.IncomingMessage) => void,
    ) => {
      limits.push(options.timeout ?? 0);
      const onResponse = (response: http.IncomingMessage) => {
        response.on("end", () => setImmediate(onAnswer));
        callback(response);
      };
      return request(url, { ...options, timeout: 100 }, onResponse);
    }) as typeof request;
    const { sender: access } = settings({ SLACK_API_URL: url, SLACK_API_TOKEN: SLACK_TOKEN });
    const sender = openSender(access, { environment: {}, print: async () => {}, say: () => {} });
    const failures: Delivery["failure"][] = [];
    for (let i = 0; i < messages; i++) {
      const world = { ...makeWorld().world, sender, signal };
      const deliveries = await sendNotification([messageOf([newsOf("lint")])], taskOf(), world);
      failures.push(...deliveries.map(({ failure }) => failure));
    }
    return { failures, limits };
  }
  const mayBeTaken = (failure: Delivery["failure"]) => failure?.mayBeTaken ?? false;

  test("tries three times where nobody listens: the message surely was not taken", { timeout }, async (t) => {
    const { failures, limits } = await send(t, "http://127.0.0.1:1/api");
    assert.deepEqual([limits.length, failures.map(mayBeTaken)], [3, [false]]);
    assert.match(failures[0]?.message ?? "", /^Slack at 127\.0\.0\.1:1 is unreachable: .*NODE_USE_ENV_PROXY=1/);
  });

  test("tries once where Slack does not answer, for at most half a minute: it may have been taken", async (t) => {
    const slack = await startSlack();
    t.after(slack.close);
    slack.faults.push({ times: 9, answer: hang });
    const { failures, limits } = await send(t, slack.apiUrl);
    assert.deepEqual([limits.length, failures.map(mayBeTaken)], [1, [true]]);
    assert.ok(Number(limits[0]) > 0 && Number(limits[0]) <= 30_000);
    assert.match(failures[0]?.message ?? "", /^Slack at \S+ is unreachable: no answer in time; /);
  });

  test("tries again where the connection never came about: the message surely was not taken", {
    skip: process.versions.bun && "Bun has no limit of time for a handshake",
  }, async (t) => {
    const silent = createServer((socket) => void socket.on("error", () => {}).resume());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    t.after(() => silent.close());
    const { port } = silent.address() as AddressInfo;
    const { failures, limits } = await send(t, `https://127.0.0.1:${port}/api`);
    assert.deepEqual([limits.length, failures.map(mayBeTaken)], [3, [false]]);
    assert.match(failures[0]?.message ?? "", / is unreachable: no answer in time; /);
  });

  test("asks for no more when its time is up while it waits for what Slack asked, and says so", async (t) => {
    const slack = await startSlack();
    t.after(slack.close);
    slack.faults.push({ times: 9, answer: answerWith(429, "", { "retry-after": "30" }) });
    const stop = new AbortController();
    const { failures, limits } = await send(t, slack.apiUrl, {
      messages: 2,
      onAnswer: () => stop.abort(),
      signal: stop.signal,
    });
    assert.deepEqual([limits.length, failures.map(mayBeTaken)], [1, [false, false]]);
    assert.match(failures[0]?.message ?? "", / answered 429 and asks to wait for 30 s; wait a while$/);
    assert.match(failures[1]?.message ?? "", /^Slack at \S+ was not asked: the time of this run is up; /);
  });
});
