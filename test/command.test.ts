/** ALERT_COMMAND: any chat by one line of the shell. What it is given, what counts as a delivery, and how it ends. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type AddressedMessage, MARKDOWN, openSender, sendNotification, writeMessage } from "../check-failures.ts";
import {
  documentOf,
  failed,
  history,
  MINUTE,
  memoryStore,
  messageOf,
  NOW,
  newsOf,
  openAlert,
  passed,
  pendingAlert,
  runOf,
  settings,
  textOf,
  type Variables,
} from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";
import { type Scope, setStage } from "./support/stage.ts";
import { parseDocument } from "./support/stored.ts";

const skip = process.platform === "win32" && "these commands are for a POSIX shell";
const timeout = MINUTE; // half a minute less than what a command that hangs would cost by itself
const NO_SLACK = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
const INHERITED = { PATH: process.env.PATH };

/** A folder in which commands run, what they wrote there, and what they said. */
function setWorkshop(t: Scope) {
  const folder = makeFolder();
  t.after(folder.remove);
  const said: string[] = [];
  const environment: Variables = { ...INHERITED, OUT: folder.path };
  const openCommand = (command: string) => {
    const { sender, network } = settings({ ...NO_SLACK, ALERT_COMMAND: command });
    const output = { environment, print: async () => {}, say: (text: string) => void said.push(text) };
    return openSender(sender, network, output);
  };
  return {
    said,
    openCommand,
    read: (name: string) => readFileSync(join(folder.path, name), "utf8"),
    has: (name: string) => existsSync(join(folder.path, name)),
    /** Gives the messages to a command; resolves to what became of each. */
    send: (
      command: string,
      messages: AddressedMessage[] = [messageOf("unit tests")],
      signal = new AbortController().signal,
    ) => sendNotification(messages, { sender: openCommand(command), signal }, { now: NOW }),
  };
}

const reasonsOf = (deliveries: { failure?: { reason?: string } }[]) => deliveries.map(({ failure }) => failure?.reason);

describe("ALERT_COMMAND", { skip }, () => {
  test("gets a message in Markdown on stdin, its first line as a title, and how many alerts are open", async (t) => {
    const { send, read } = setWorkshop(t);
    const message = messageOf("unit *tests*", { open: 7 });

    const [delivery] = await send('cat > "$OUT/text"; printf "%s|%s" "$ALERT_OPEN" "$ALERT_SUBJECT" > "$OUT/env"', [
      message,
    ]);

    assert.equal(delivery?.delivered, true);
    assert.equal(read("text"), writeMessage(message, MARKDOWN));
    assert.match(
      read("text"),
      /\[pipeline 1005\]\(https:\/\/gitlab\.example\.com\/.*\) *\n\n🔴 \[unit \\\*tests\\\*\]\(https:/,
    );
    assert.equal(read("env"), "7|🔴 unit *tests* broken in acme/shop main, pipeline 1005");
  });

  test("gets a title of at most 250 characters, none of them cut in half", async (t) => {
    const { send, read } = setWorkshop(t);
    const turned = { commit: "c0ffee02", from: "c0ffee01", title: "🔥".repeat(200) };
    const pipeline = { ...messageOf("").pipeline, branch: "b".repeat(100) };
    const message = messageOf("x", { pipeline, news: [newsOf("x", { turned })] });

    await send('printf "%s" "$ALERT_SUBJECT" > "$OUT/subject"', [message]);

    const subject = read("subject");
    assert.ok(subject.length <= 250 && subject.length > 240, `${subject.length}`);
    assert.match(subject, /^🔴 x broken in acme\/shop b+ since "🔥+$/u);
  });

  test("is given a name that the shell would run as data: nothing of it is run", async (t) => {
    const { send, read, has } = setWorkshop(t);
    const name = '$(touch "$OUT/pwned") `touch "$OUT/pwned"`; touch "$OUT/pwned" \' "';

    await send('cat > "$OUT/text"; printf "%s" "$ALERT_SUBJECT" > "$OUT/subject"', [messageOf(name)]);

    assert.equal(has("pwned"), false);
    assert.ok(read("subject").includes(name));
  });

  test("runs once a message, one after another", async (t) => {
    const { send, read } = setWorkshop(t);
    const command =
      'mkdir "$OUT/running" || exit 9; cat > /dev/null; sleep 0.05; echo "$ALERT_SUBJECT" >> "$OUT/log"; rmdir "$OUT/running"';

    const deliveries = await send(
      command,
      ["first", "second", "third"].map((job) => messageOf(job)),
    );

    assert.deepEqual(reasonsOf(deliveries), [undefined, undefined, undefined]);
    assert.deepEqual(
      read("log")
        .trim()
        .split("\n")
        .map((line) => line.split(" ")[1]),
      ["first", "second", "third"],
    );
  });

  for (const [title, command, reason] of [
    ["ends with another code than 0", "exit 3", "it ended with 3"],
    [
      "says why it failed",
      "echo one >&2; echo 'no such issue' >&2; echo >&2; exit 1",
      "it ended with 1: no such issue",
    ],
    ["says on stdout alone that it failed", "echo done; exit 1", "it ended with 1"],
    ["does not exist", "no-such-command-here", /^it ended with 127: .*no-such-command-here/],
    ["is ended by a signal", "kill -9 $$", "it was ended by SIGKILL"],
  ] as const) {
    test(`that ${title} is no delivery, and the reason says so`, async (t) => {
      const { send } = setWorkshop(t);
      const [delivery] = await send(command);
      assert.equal(delivery?.delivered, false);
      const said = `${delivery?.failure?.reason}`;
      if (typeof reason === "string") assert.equal(said, reason);
      else assert.match(said, reason);
    });
  }

  test("that ends with 0 is a delivery, whatever it says on stderr", async (t) => {
    const { send } = setWorkshop(t);
    const [delivery] = await send("echo 'deprecated option' >&2");
    assert.equal(delivery?.delivered, true);
  });

  test("that does not read its message is a delivery all the same", async (t) => {
    const { send } = setWorkshop(t);
    const news = Array.from({ length: 60 }, (_, i) => newsOf(`job ${i} ${"x".repeat(60)}`));
    const [first, second] = await send("exec <&-; exit 0", [messageOf("", { news }), messageOf("unit tests")]);
    assert.deepEqual([first?.delivered, second?.delivered], [true, true]);
  });

  test("may say megabytes: it goes on, and the end of it is kept", async (t) => {
    const { send, said } = setWorkshop(t);
    const [delivery] = await send("yes filler | head -c 3000000 >&2; yes filler | head -c 3000000; echo the end");
    assert.equal(delivery?.delivered, true);
    assert.equal(said.length, 1);
    assert.match(`${said[0]}`, /the end$/);
    assert.ok(`${said[0]}`.length <= 20_000);
  });

  test("has what it says told once, on both streams, and nothing where it is silent", async (t) => {
    const { send, said } = setWorkshop(t);
    await send("echo to stdout; echo to stderr >&2");
    await send("true");
    assert.deepEqual(
      said.map((text) => text.split("\n").sort()),
      [["to stderr", "to stdout"]],
    );
  });

  /** A command that hangs with a child of its own, and writes who they are. */
  const HANGING =
    'sleep 300 & echo $! > "$OUT/child"; echo $$ > "$OUT/shell"; echo "still at it" >&2; touch "$OUT/up"; wait';

  /** Whether a process is there, and not only waits for its parent to take note of its end. */
  function isAlive(pid: string) {
    try {
      process.kill(Number(pid), 0);
      return process.platform !== "linux" || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid.trim()}/status`, "utf8"));
    } catch {
      return false;
    }
  }

  async function until(isReached: () => boolean) {
    while (!isReached()) await sleep(10);
  }

  test("that hangs is ended with all that it started when the time of the run is up", { timeout }, async (t) => {
    const { send, read, has } = setWorkshop(t);
    const stop = new AbortController();
    const sent = send(HANGING, [messageOf("first"), messageOf("second")], stop.signal);
    await until(() => has("up"));

    stop.abort();
    const deliveries = await sent;

    assert.deepEqual(
      deliveries.map(({ delivered, due }) => [delivered, due]),
      Array(2).fill([false, NOW.toISOString()]),
    );
    assert.match(`${deliveries[0]?.failure?.reason}`, /^the time of this run is up: still at it$/);
    await until(() => !isAlive(read("shell")) && !isAlive(read("child")));
  });

  test("whose child has left its group and keeps its output open does not keep the run", { timeout }, async (t) => {
    const { send, read, has } = setWorkshop(t);
    const stop = new AbortController();
    const program = `const { pid } = require("node:child_process").spawn("sleep", ["300"], { detached: true, stdio: "inherit" });
      require("node:fs").writeFileSync(process.env.OUT + "/left", String(pid));
      process.exit();`;
    const leave = `${JSON.stringify(process.execPath)} -e '${program}'`;
    const sent = send(`${leave} & echo $! > "$OUT/child"; touch "$OUT/up"; wait; sleep 300`, undefined, stop.signal);
    await until(() => has("up") && !isAlive(read("child")));

    stop.abort();

    const [delivery] = await sent;
    const wasAlive = isAlive(read("left"));
    process.kill(Number(read("left")), "SIGKILL"); // nothing of a test stays
    assert.deepEqual([wasAlive, delivery?.delivered], [true, false]);
  });

  test("is not started once the time of the run is up", { timeout }, async (t) => {
    const { send, has } = setWorkshop(t);
    const [delivery] = await send('touch "$OUT/started"', undefined, AbortSignal.abort());
    assert.deepEqual([delivery?.delivered, has("started")], [false, false]);
  });
});

describe("checkConsistentFailures(), with ALERT_COMMAND,", { skip }, () => {
  const variables = (command: string) => ({ ...NO_SLACK, ALERT_COMMAND: command });

  /** A run whose messages go to a command, on a document that the next one finds again. */
  function setRuns(t: Scope, document = documentOf(["unit tests", history("✗✗")])) {
    const workshop = setWorkshop(t);
    const { store, stored } = memoryStore(textOf(document));
    return {
      ...workshop,
      pending: async () => (await parseDocument(stored.text)).pending_alerts,
      count: async (command: string, jobs = [failed("unit tests")], rest: Variables = {}) => {
        const sender = workshop.openCommand(command);
        return (await runOf(jobs, { ...variables(command), ...rest }, { store, sender })).run;
      },
    };
  }

  test("keeps a message that it did not take, says what it said last, and the next run sends it", async (t) => {
    const { count, pending, read } = setRuns(t);

    const { errors } = await count("echo 'HTTP 401: Bad credentials' >&2; exit 1");

    assert.deepEqual(errors, [
      "ALERT_COMMAND refused 1 message: it ended with 1: HTTP 401: Bad credentials; mend ALERT_COMMAND, then retry this job (the next run sends it too)",
    ]);
    assert.deepEqual(
      (await pending()).map(({ due }) => due),
      [NOW.toISOString()],
    );

    const retried = await count('cat > "$OUT/text"');
    assert.deepEqual([retried.outcome, retried.errors, await pending()], ["already-counted", [], []]);
    assert.match(read("text"), /unit tests broken/);
  });

  test("does not ask it for the messages behind one that it did not take", async (t) => {
    const pending_alerts = [pendingAlert("first"), pendingAlert("second")];
    const { count, pending, read } = setRuns(t, { ...documentOf(), pending_alerts });

    const { errors } = await count('echo "$ALERT_SUBJECT" >> "$OUT/log"; exit 1', []);

    assert.match(errors.join("\n"), /^ALERT_COMMAND refused 2 messages: it ended with 1; .*$/);
    assert.equal(read("log").trim().split("\n").length, 1);
    assert.deepEqual(
      (await pending()).map(({ news }) => news[0]?.job),
      ["first", "second"],
    );
  });

  test("tells it how many alerts are open after each pipeline: 0 when the last one has recovered", async (t) => {
    const document = documentOf(
      ["unit tests", history("✗✗")],
      ["lint", history("✗✗✗", { alert: openAlert("consecutive") })],
    );
    const { count, read } = setRuns(t, document);
    const command = 'echo "$ALERT_OPEN $ALERT_SUBJECT" >> "$OUT/open"';

    await count(command, [failed("unit tests"), passed("lint")]);
    for (const id of ["1006", "1007", "1008"]) {
      await count(command, [passed("unit tests"), passed("lint")], { CI_PIPELINE_ID: id });
    }

    assert.deepEqual(
      read("open")
        .trim()
        .split("\n")
        .map((line) => line.replace(/ in .*/, "")),
      ["2 🔴 unit tests broken", "1 🟢 lint recovered", "0 🟢 unit tests recovered"],
    );
  });
});

describe("a run of the script with ALERT_COMMAND", { skip, concurrency: 2 }, () => {
  test("gives it the environment without any secret, whatever its name, and without AWS's", async (t) => {
    const { run, stored } = await setStage(t);
    const folder = makeFolder();
    t.after(folder.remove);

    const { code, stderr, stdout, printed } = await run({
      ...NO_SLACK,
      ALERT_COMMAND: 'env > "$OUT/env"; cat > "$OUT/text"; echo to the log',
      OUT: folder.path,
      GH_TOKEN: "ghp_for_the_command",
      AWS_PROFILE: "",
      AWS_SESSION_TOKEN: "",
      MY_COPY: "glpat-stand-in-token",
      CI_REPOSITORY_URL: "https://gitlab-ci-token:glcbt-job-token@gitlab.example.com/acme/shop.git",
      CI_JOB_TOKEN: "glcbt-job-token",
      BUILD_KEY: "stand-in-secret",
    });

    assert.deepEqual([code, printed.messages.length, printed.messages[0].channel], [0, 1, null]);
    const env = readFileSync(join(folder.path, "env"), "utf8");
    assert.doesNotMatch(env, /glpat-|glcbt-|stand-in-secret|^AWS_|^(GITLAB|CI_JOB)_TOKEN=/m);
    assert.match(env, /^GH_TOKEN=ghp_for_the_command$/m);
    assert.match(env, /^ALERT_OPEN=1$/m);
    assert.match(env, /^ALERT_SUBJECT=🔴 unit tests broken/mu);
    assert.match(env, /^CI_COMMIT_SHA=0ddba11$/m);
    assert.match(readFileSync(join(folder.path, "text"), "utf8"), /unit tests/);
    assert.match(stderr, /^to the log$/m);
    assert.doesNotMatch(stdout, /to the log/);
    assert.equal(stored().pending_alerts, undefined);
  });

  test("that fails ends with 1, and its message stays pending", async (t) => {
    const { run, stored } = await setStage(t);
    const { code, stderr } = await run({
      ...NO_SLACK,
      ALERT_COMMAND: "echo 'it says glpat-stand-in-token' >&2; exit 4",
    });
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^Error: ALERT_COMMAND refused 1 message: it ended with 4: it says \*\*\*; mend ALERT_COMMAND, /m,
    );
    assert.doesNotMatch(stderr, /glpat/);
    assert.equal(stored().pending_alerts.length, 1);
  });

  test("starts nothing with --dry-run", async (t) => {
    const { launch } = await setStage(t);
    const folder = makeFolder();
    t.after(folder.remove);
    const variables = { ...NO_SLACK, ALERT_COMMAND: 'touch "$OUT/started"', OUT: folder.path };
    const { code } = await launch(variables, ["--dry-run"]).result;
    assert.deepEqual([code, existsSync(join(folder.path, "started"))], [0, false]);
  });

  test("that is killed while the command has the message leaves it to a later run: at least once", {
    timeout,
  }, async (t) => {
    const { launch, run, stored, store } = await setStage(t);
    const folder = makeFolder();
    t.after(folder.remove);
    const hanging = 'cat > /dev/null; echo $$ > "$OUT/shell"; touch "$OUT/up"; sleep 300';
    const { child, result } = launch({ ...NO_SLACK, ALERT_COMMAND: hanging, OUT: folder.path });
    while (!existsSync(join(folder.path, "up"))) await sleep(10);

    child.kill("SIGKILL");
    process.kill(-Number(readFileSync(join(folder.path, "shell"), "utf8")), "SIGKILL"); // it has outlived the run
    await result;

    assert.equal(stored().pending_alerts.length, 1);
    const document = await parseDocument(JSON.stringify(stored()));
    const due = new Date().toISOString();
    await store({ ...document, pending_alerts: document.pending_alerts.map((alert) => ({ ...alert, due })) });
    const again = await run({ ...NO_SLACK, ALERT_COMMAND: 'cat >> "$OUT/text"', OUT: folder.path });
    assert.deepEqual([again.code, again.printed.outcome], [0, "already-counted"]);
    assert.match(readFileSync(join(folder.path, "text"), "utf8"), /unit tests broken/);
    assert.equal(stored().pending_alerts, undefined);
  });
});
