/** Whatever a peer does, a run ends: when its time is up at the latest, with an error that names the peer. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkConsistentFailures, openJobs, openSender, parseOwners, type Run, type Store } from "../check-failures.ts";
import {
  documentOf,
  failed,
  history,
  jobsOf,
  makeWorld,
  memoryStore,
  NOW,
  settings,
  taskOf,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { RUNTIME, start } from "./support/run.ts";
import { type Fault, hang, startServer, trickle } from "./support/servers/http.ts";
import { accessDenied } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { isUpload, PIPELINE, type Scope, setStage } from "./support/stage.ts";
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

/** Peers that never give a complete answer. */
const peers: { does: string; startPeerOf: (t: Scope) => Promise<string>; reason: RegExp }[] = [
  { does: "hangs", startPeerOf: (t) => startPeer(t, hang), reason: /time/ },
  { does: "answers a byte at a time", startPeerOf: (t) => startPeer(t, trickle), reason: /time/ },
  { does: "has a name that does not resolve", startPeerOf: async () => "http://name.invalid", reason: /name\.invalid/ },
];

/** The world of a run with a job that breaks: a store that does nothing for those whose time is up, and a sender. */
function makeAlert(variables: Variables) {
  const { sender: access, network } = settings(variables);
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
  const sender = openSender(access, network, output);
  return {
    ...makeWorld({ store, sender, jobs: jobsOf([failed("unit tests")]) }).world,
    pending: async () => (await parseDocument(stored.text)).pending_alerts,
  };
}

const ofSlack = (url: string) => ({ SLACK_API_URL: `${url}/api`, SLACK_API_TOKEN: SLACK_TOKEN });

for (const { does, startPeerOf, reason } of peers) {
  describe(`a run ends when its time is up, where a peer ${does}`, () => {
    const names = (peer: string, url: string) => new RegExp(`${peer} at ${new URL(url).host.replaceAll(".", "\\.")}`);

    test("that is GitLab", async (t) => {
      const url = await startPeerOf(t);
      const api = { CI_API_V4_URL: `${url}/api/v4`, CI_PROJECT_ID: "4242", GITLAB_TOKEN: "glpat-1" };
      const { jobs, network } = settings({ PIPELINE_JOBS_FILE: undefined, ...api });
      const world = withTimeUpAfter("read", makeWorld().world);

      const end = checkInTime(await taskOf(), { ...world, jobs: openJobs(jobs, 1005, network, world.signal) });

      await assert.rejects(end, ({ message }: Error) => {
        assert.match(message, names("GitLab", url));
        assert.match(message, reason);
        return true;
      });
    });

    test("that is Slack, and the message stays pending", async (t) => {
      const url = await startPeerOf(t);
      const { pending, ...world } = makeAlert(ofSlack(url));

      const { outcome, errors } = await checkInTime(await taskOf(), withTimeUpAfter("send", world));

      assert.equal(outcome, "counted");
      assert.match(errors.join("\n"), /^Slack could not be reached with 1 message for #ci: .*retry this job.*$/);
      assert.match(errors.join(), reason);
      assert.deepEqual(
        (await pending()).map(({ due }) => due),
        [NOW.toISOString()],
      );
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

test("a run ends when its time is up, where S3 hangs in the upload", async (t) => {
  const { env, s3, slack } = await setStage(t);
  s3.faults.push({ times: 9, matches: isUpload, answer: hang });

  const { end, stdout } = await endOf(start(["write"], env, ".", UNTIL_TIME_UP));

  assert.equal(end, 0);
  assert.match(JSON.parse(stdout).message, /^Cannot upload job executions to s3:\/\/.* at 127\.0\.0\.1:\d+: .*time/);
  assert.equal(slack.requests.length, 0);
});

test("a run whose time is up still clears what Slack took", async (t) => {
  const slack = await startSlack();
  t.after(slack.close);
  slack.faults.push({ times: 1, matches: ({ body }) => body.includes("#owners"), answer: hang });
  const { pending, sender, ...world } = makeAlert(ofSlack(slack.url));
  const stop = new AbortController();
  const sendAndStop: typeof sender.send = async (message, channel, signal) => {
    await sender.send(message, channel, signal);
    stop.abort();
  };
  const owners = { rules: parseOwners("unit* #owners", "owners"), channels: new Map() };
  const task = { ...(await taskOf()), owners };

  const { messages, errors } = await checkInTime(task, {
    ...world,
    sender: { ...sender, send: sendAndStop },
    signal: stop.signal,
  });

  assert.deepEqual(
    messages.map(({ channel, delivered }) => [channel, delivered]),
    [
      [null, true],
      ["#owners", false],
    ],
  );
  assert.deepEqual(
    (await pending()).map(({ channel }) => channel),
    ["#owners"],
  );
  assert.match(errors.join("\n"), /^Slack could not be reached with 1 message for #owners: .*$/);
});

test("a run ends when its time is up, where ALERT_COMMAND hangs, and the message stays pending", {
  skip: process.platform === "win32" && "this command is for a POSIX shell",
}, async () => {
  const command = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined, ALERT_COMMAND: "cat > /dev/null; sleep 300" };
  const { pending, ...world } = makeAlert(command);

  const { outcome, errors } = await checkInTime(await taskOf(command), withTimeUpAfter("send", world));

  assert.equal(outcome, "counted");
  assert.match(errors.join("\n"), /^ALERT_COMMAND refused 1 message: the time of this run is up; .*$/);
  assert.equal((await pending()).length, 1);
});

describe("a process ends as soon as its outcome is known", () => {
  test("where it is out of order, while GitLab still hangs", async (t) => {
    const { gitlab, store, launch } = await setStage(t);
    await store({ ...documentOf(), pipeline_id: PIPELINE + 1 });
    gitlab.faults.push({ times: 9, answer: hang });

    const { end, stdout } = await endOf(launch());

    assert.equal(end, 0);
    assert.equal(JSON.parse(stdout).outcome, "out-of-order");
  });

  test("where S3 denies it the document, while GitLab still hangs", async (t) => {
    const { gitlab, s3, launch } = await setStage(t);
    s3.faults.push({ times: 9, answer: accessDenied });
    gitlab.faults.push({ times: 9, answer: hang });

    const { end, stderr } = await endOf(launch());

    assert.equal(end, 1);
    assert.match(stderr, /^Error: Cannot read job executions from s3:.* 403/);
  });
});
