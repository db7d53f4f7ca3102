/** Whatever a peer does, a run ends: when its time is up at the latest, with an error that names the peer. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkConsistentFailures, openJobs, openSender, type Run, type Store } from "../check-failures.ts";
import {
  documentOf,
  failed,
  history,
  jobsOf,
  makeWorld,
  memoryStore,
  settings,
  taskOf,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { RUNTIME, SCRIPT, start } from "./support/run.ts";
import { type Fault, hang, startServer, trickle } from "./support/servers/http.ts";
import { accessDenied } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { isNoting, isUpload, type Scope, setStage } from "./support/stage.ts";
import { parseDocument } from "./support/stored.ts";
import { withTimeUpAfter } from "./support/time-up.ts";

const UNTIL_TIME_UP = [...RUNTIME, fileURLToPath(new URL("./support/run-until-time-up.ts", import.meta.url))];
const PATIENCE_MS = 15_000; // less than the script waits for one answer

/** Does something about what has not ended by itself, so that a test fails where it would have to wait. */
async function watch<T>(end: Promise<T>, interfere: () => void): Promise<T> {
  const timer = setTimeout(interfere, PATIENCE_MS);
  return end.finally(() => clearTimeout(timer));
}

async function endOf({ child, result }: ReturnType<typeof start>) {
  const { code, signal, stdout, stderr } = await watch(result, () => child.kill("SIGKILL"));
  return { end: code ?? signal, stdout, stderr };
}

function checkInTime(...args: Parameters<typeof checkConsistentFailures>): Promise<Run> {
  return new Promise((resolve, reject) => {
    const end = checkConsistentFailures(...args);
    watch(end, () => reject(new Error("The run goes on after its time is up"))).then(resolve, reject);
  });
}

async function startPeer(t: Scope, answer: Fault["answer"]): Promise<string> {
  const server = await startServer((asked, response) => answer(response, asked));
  t.after(server.close);
  return server.url;
}

/** Peers that never give a complete answer. Only one that was never reached has surely not taken a message. */
const peers = [
  {
    does: "hangs",
    startPeerOf: (t: Scope) => startPeer(t, hang),
    reason: /time/,
    words: "#ci may not have been told",
    claims: [""],
  },
  {
    does: "answers a byte at a time",
    startPeerOf: (t: Scope) => startPeer(t, trickle),
    reason: /time/,
    words: "#ci may not have been told",
    claims: [""],
  },
  {
    does: "has a name that does not resolve",
    startPeerOf: async () => "http://name.invalid",
    reason: /name\.invalid/,
    words: "#ci was not told",
    claims: [],
  },
];

/** The world of a run with a job that breaks: a store that does nothing for those whose time is up, and a sender. */
function makeAlert(variables: Variables) {
  const { store: memory, stored } = memoryStore(textOf(documentOf(["unit tests", history("✗✗")])));
  const store: Store = {
    source: memory.source,
    async read(signal) {
      signal.throwIfAborted();
      return memory.read(signal);
    },
    async write(body, version, signal) {
      signal.throwIfAborted();
      return memory.write(body, version, signal);
    },
  };
  const output = { environment: { PATH: process.env.PATH }, print: async () => {}, say: () => {} };
  const sender = openSender(settings(variables).sender, output);
  return {
    world: makeWorld({ store, sender, jobs: jobsOf([failed("unit tests")]) }).world,
    /** Which channels know of the alert, and which may. */
    told: async () => {
      const { told = {}, claims = {} } = (await parseDocument(stored.text)).jobs.get("unit tests")?.alert ?? {};
      return { told: Object.keys(told), claims: Object.keys(claims) };
    },
  };
}

const ofSlack = (url: string) => ({ SLACK_API_URL: `${url}/api`, SLACK_API_TOKEN: SLACK_TOKEN });

for (const { does, startPeerOf, reason, words, claims } of peers) {
  describe(`a run ends when its time is up, where a peer ${does}`, () => {
    const names = (peer: string, url: string) => new RegExp(`${peer} at ${new URL(url).host.replaceAll(".", "\\.")}`);

    test("that is GitLab", async (t) => {
      const url = await startPeerOf(t);
      const api = { CI_API_V4_URL: `${url}/api/v4`, CI_PROJECT_ID: "4242", GITLAB_TOKEN: "glpat-1" };
      const { jobs } = settings({ PIPELINE_JOBS_FILE: undefined, ...api });
      const world = withTimeUpAfter("read", makeWorld().world);

      const end = checkInTime(taskOf(), { ...world, jobs: openJobs(jobs, 1005, world.signal) });

      await assert.rejects(end, ({ message }: Error) => {
        assert.match(message, names("GitLab", url));
        assert.match(message, reason);
        return true;
      });
    });

    test("that is Slack, and the channel counts as told only as far as it may have been", async (t) => {
      const url = await startPeerOf(t);
      const { world, told } = makeAlert(ofSlack(url));

      const { outcome, errors } = await checkInTime(taskOf(), withTimeUpAfter("send", world));

      assert.equal(outcome, "counted");
      assert.match(errors.join("\n"), new RegExp(`^${words}: Slack at .* retry this job.*$`));
      assert.match(errors.join(), reason);
      assert.deepEqual(await told(), { told: [], claims });
    });

    test("that is S3, and nothing keeps the process alive", async (t) => {
      const url = await startPeerOf(t);
      const { env } = await setStage(t);

      const { end, stdout } = await endOf(start(["read"], { ...env, AWS_ENDPOINT_URL_S3: url }, ".", UNTIL_TIME_UP));

      assert.equal(end, 0);
      assert.match(JSON.parse(stdout).message, names("Cannot read job executions from s3://.*", url));
      assert.match(stdout, reason);
    });
  });
}

test("a run ends when its time is up, where S3 hangs in the upload, and nobody is told what is not stored", async (t) => {
  const { env, s3, slack } = await setStage(t);
  s3.faults.push({ times: 9, matches: isUpload, answer: hang });

  const { end, stdout } = await endOf(start(["write"], env, ".", UNTIL_TIME_UP));

  assert.equal(end, 0);
  assert.match(JSON.parse(stdout).message, /^Cannot upload job executions to s3:\/\/.* at 127\.0\.0\.1:\d+: .*time/);
  assert.equal(slack.requests.length, 0);
});

test("a run whose time is up still notes what Slack took", async (t) => {
  const slack = await startSlack();
  t.after(slack.close);
  slack.faults.push({ times: 1, matches: ({ body }) => body.includes("#web"), answer: hang });
  const { told, world } = makeAlert(ofSlack(slack.url));
  const { sender } = world;
  const stop = new AbortController();
  const sendAndStop: typeof sender.send = async (message, signal) => {
    await sender.send(message, signal);
    stop.abort();
  };

  const { messages, errors, warnings } = await checkInTime(taskOf({ JOB_RULES: "unit* #web" }), {
    ...world,
    sender: { ...sender, send: sendAndStop },
    signal: stop.signal,
  });

  assert.deepEqual(
    messages.map(({ channel, delivered }) => [channel, delivered]),
    [
      ["", true],
      ["#web", false],
    ],
  );
  assert.deepEqual(await told(), { told: [""], claims: ["#web"] });
  assert.deepEqual(errors, []);
  assert.match(warnings.join("\n"), /^#web may not have been told: Slack at .*: the time of this run is up; .*$/);
});

test("a run ends when its time is up, where ALERT_COMMAND hangs, and its message is told by the next one", {
  skip: process.platform === "win32" && "this command is for a POSIX shell",
}, async () => {
  const command = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined, ALERT_COMMAND: "cat > /dev/null; sleep 300" };
  const { told, world } = makeAlert(command);

  const { outcome, errors } = await checkInTime(taskOf(command), withTimeUpAfter("send", world));

  assert.equal(outcome, "counted");
  assert.match(errors.join("\n"), /^ALERT_COMMAND was ended: the time of this run is up; .*$/);
  assert.deepEqual((await told()).told, []);
});

/** Holds the time of a run, and of its second upload, until the process is told that it is up. */
const HELD_TIME = `
  import timers from "node:timers/promises";
  import { syncBuiltinESMExports } from "node:module";
  const held = [];
  const { setTimeout } = timers;
  timers.setTimeout = (ms, ...rest) =>
    ms < 60_000 ? setTimeout(ms, ...rest) : new Promise((end) => held.push({ ms, end }));
  syncBuiltinESMExports();
  AbortSignal.timeout = (ms) => {
    const stop = new AbortController();
    held.push({ ms, end: () => stop.abort() });
    return stop.signal;
  };
  process.on("SIGUSR2", () => {
    const { ms, end } = held.pop();
    console.error("Time is up after " + ms / 1_000 + " s");
    end();
  });`;

test("a run ends within two minutes: 90 seconds, and 20 to note what was told", {
  skip: !RUNTIME.includes("--import") && "only Node takes another clock",
}, async (t) => {
  const { env, s3, slack } = await setStage(t);
  const [node = "", ...options] = RUNTIME;
  const clock = ["--import", `data:text/javascript,${encodeURIComponent(HELD_TIME)}`];
  const launched = start([], env, ".", [node, ...clock, ...options, SCRIPT]);
  const timeIsUp = () => void launched.child.kill("SIGUSR2");
  slack.faults.push({ times: 9, answer: (response) => [trickle(response), timeIsUp()] });
  s3.faults.push({ times: 9, matches: isNoting, answer: timeIsUp });

  const { end, stderr } = await endOf(launched);

  assert.equal(end, 1, stderr);
  assert.deepEqual(stderr.match(/after \d+ s/g), ["after 90 s", "after 20 s"]);
  assert.match(stderr, /^Error: #ci may not have been told: Slack at .*: the time of this run is up; /m);
  assert.match(stderr, /^Error: It is not noted who was told, .*Cannot upload job executions to s3:.*time/m);
});

test("a process ends as soon as S3 denies it the document, while GitLab still hangs", async (t) => {
  const { gitlab, s3, launch } = await setStage(t);
  s3.faults.push({ times: 9, answer: accessDenied });
  gitlab.faults.push({ times: 9, answer: hang });

  const { end, stderr } = await endOf(launch());

  assert.equal(end, 1);
  assert.match(stderr, /^Error: Cannot read job executions from s3:.* 403/);
});
