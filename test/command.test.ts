/** ALERT_COMMAND: any chat by one line of the shell. What it is given, what counts as a delivery, and how it ends. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MARKDOWN, openSender, sendNotification, writeMessage } from "../check-failures.ts";
import {
  documentOf,
  failed,
  history,
  MINUTE,
  makeWorld,
  memoryStore,
  messageOf,
  newsOf,
  openAlert,
  passed,
  runOf,
  settings,
  taskOf,
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
    const { sender } = settings({ ...NO_SLACK, ALERT_COMMAND: command });
    return openSender(sender, { environment, print: async () => {}, say: (text) => void said.push(text) });
  };
  return {
    said,
    openCommand,
    read: (name: string) => readFileSync(join(folder.path, name), "utf8"),
    has: (name: string) => existsSync(join(folder.path, name)),
    /** Gives a message to a command; resolves to what became of it. */
    send: async (
      command: string,
      message = messageOf([newsOf("unit tests")]),
      signal = new AbortController().signal,
    ) => {
      const { world } = makeWorld({ sender: openCommand(command), signal });
      const [delivery] = await sendNotification([message], taskOf(), world);
      assert.ok(delivery);
      return { delivered: delivery.delivered, failure: delivery.failure?.message };
    },
  };
}

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

/** Takes the place of the clock for what is to happen after so many milliseconds: it happens when the test says so. */
function holdTimeouts(t: Scope, heldMs: number) {
  const { setTimeout } = globalThis;
  const held: (() => void)[] = [];
  const hold = (callback: () => void, ms?: number) => {
    if (ms !== heldMs) return setTimeout(callback, ms);
    held.push(callback);
    return setTimeout(() => {}, 0);
  };
  globalThis.setTimeout = Object.assign(hold, setTimeout);
  t.after(() => {
    globalThis.setTimeout = setTimeout;
  });
  return () => held.forEach((callback) => void callback());
}

describe("ALERT_COMMAND", { skip }, () => {
  test("gets a message in Markdown on stdin, its first line as a title, and how many alerts are open", async (t) => {
    const { send, read } = setWorkshop(t);
    const message = messageOf([newsOf("unit *tests*")], { open: 7 });

    const { delivered } = await send(
      'cat > "$OUT/text"; printf "%s|%s" "$ALERT_OPEN" "$ALERT_SUBJECT" > "$OUT/env"',
      message,
    );

    assert.equal(delivered, true);
    assert.equal(read("text"), writeMessage(message, MARKDOWN));
    assert.match(
      read("text"),
      /\[pipeline 1005\]\(https:\/\/gitlab\.example\.com\/.*\)\n\n🔴 \[unit \\\*tests\\\*\]\(https:/,
    );
    assert.equal(read("env"), "7|🔴 unit *tests* broken in acme/shop main, pipeline 1005");
  });

  test("is given a name that the shell would run as data: nothing of it is run", async (t) => {
    const { send, read, has } = setWorkshop(t);
    const name = '$(touch "$OUT/pwned") `touch "$OUT/pwned"`; touch "$OUT/pwned" \' "';

    await send('cat > "$OUT/text"; printf "%s" "$ALERT_SUBJECT" > "$OUT/subject"', messageOf([newsOf(name)]));

    assert.equal(has("pwned"), false);
    assert.ok(read("subject").includes(name));
  });

  for (const [title, command, reason] of [
    ["ends with another code than 0", "exit 3", /^ALERT_COMMAND ended with 3; /],
    [
      "says why it failed",
      "echo one >&2; echo 'no such issue' >&2; echo >&2; exit 1",
      /^ALERT_COMMAND ended with 1: no such issue; /,
    ],
    ["does not exist", "no-such-command-here", /^ALERT_COMMAND ended with 127: .*no-such-command-here/],
    ["is ended by a signal", "kill -9 $$", /^ALERT_COMMAND was ended by SIGKILL; /],
    ["fails behind a pipe that it checks", "set -e; text=$(false); echo $text", /^ALERT_COMMAND ended with 1; /],
  ] as const) {
    test(`that ${title} is no delivery, and the reason says so`, async (t) => {
      const { delivered, failure } = await setWorkshop(t).send(command);
      assert.equal(delivered, false);
      assert.match(failure ?? "", reason);
    });
  }

  test("that ends with 0 is a delivery, whatever it says on stderr", async (t) => {
    const { delivered } = await setWorkshop(t).send("echo 'deprecated option' >&2");
    assert.equal(delivered, true);
  });

  test("that does not read its message is a delivery all the same", async (t) => {
    const { send } = setWorkshop(t);
    const news = Array.from({ length: 60 }, (_, i) => newsOf(`job ${i} ${"x".repeat(60)}`));
    assert.equal((await send("exec <&-; exit 0", messageOf(news))).delivered, true);
  });

  test("may say megabytes: it goes on, and the end of it is kept", async (t) => {
    const { send, said } = setWorkshop(t);
    const { delivered } = await send("yes filler | head -c 3000000 >&2; yes filler | head -c 3000000; echo the end");
    assert.equal(delivered, true);
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

  test("that hangs is ended with all that it started when the time of the run is up", { timeout }, async (t) => {
    const { send, read, has } = setWorkshop(t);
    const stop = new AbortController();
    const sent = send(HANGING, undefined, stop.signal);
    await until(() => has("up"));

    stop.abort();
    const { delivered, failure } = await sent;

    assert.equal(delivered, false);
    assert.match(failure ?? "", /^ALERT_COMMAND was ended: the time of this run is up(: still at it)?; /);
    await until(() => !isAlive(read("shell")) && !isAlive(read("child")));
  });

  test("that takes 60 seconds is ended with all that it started", { timeout }, async (t) => {
    const expire = holdTimeouts(t, MINUTE);
    const { send, read, has } = setWorkshop(t);
    const sent = send(HANGING);
    await until(() => has("up"));

    expire();
    const { delivered, failure } = await sent;

    assert.equal(delivered, false);
    assert.match(failure ?? "", /^ALERT_COMMAND took over 60 s(: still at it)?; /);
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

    const { delivered } = await sent;
    const wasAlive = isAlive(read("left"));
    process.kill(Number(read("left")), "SIGKILL"); // nothing of a test stays
    assert.deepEqual([wasAlive, delivered], [true, false]);
  });

  test("is not started once the time of the run is up", { timeout }, async (t) => {
    const { send, has } = setWorkshop(t);
    const { delivered, failure } = await send('touch "$OUT/started"', undefined, AbortSignal.abort());
    assert.deepEqual([delivered, has("started")], [false, false]);
    assert.match(failure ?? "", /the time of this run is up; /);
  });
});

describe("a run with ALERT_COMMAND", { skip }, () => {
  /** Runs whose messages go to a command, on a document that the next one finds again. */
  function setRuns(t: Scope, document = documentOf(["unit tests", history("✗✗")])) {
    const workshop = setWorkshop(t);
    const { store, stored } = memoryStore(textOf(document));
    return {
      ...workshop,
      alertOf: async (job: string) => (await parseDocument(stored.text)).jobs.get(job)?.alert,
      count: async (command: string, jobs = [failed("unit tests")], rest: Variables = {}) => {
        const sender = workshop.openCommand(command);
        return (await runOf(jobs, { ...NO_SLACK, ALERT_COMMAND: command, ...rest }, { store, sender })).run;
      },
    };
  }

  test("says what it said last where it fails, and the next run tells it", async (t) => {
    const { count, alertOf, read } = setRuns(t);

    const { outcome, errors } = await count("echo 'HTTP 401: Bad credentials' >&2; exit 1");

    assert.equal(outcome, "counted");
    assert.match(
      errors.join("\n"),
      /^ALERT_COMMAND ended with 1: HTTP 401: Bad credentials; mend it, then retry this job.*$/,
    );
    assert.deepEqual((await alertOf("unit tests"))?.told, undefined);

    const retried = await count('cat > "$OUT/text"');
    assert.deepEqual([retried.outcome, retried.errors], ["counted", []]);
    const alert = await alertOf("unit tests");
    assert.deepEqual([alert?.told, alert?.claims], [{ "": alert?.changed_at }, undefined]);
    assert.match(read("text"), /unit tests broken/);
  });

  test("gives it one message, whatever channels JOB_RULES names", async (t) => {
    const { count, read } = setRuns(t);
    const JOB_RULES = "unit* #web <@U1>\nlint #ops";
    const { messages } = await count('cat >> "$OUT/text"', [failed("unit tests"), failed("lint")], {
      JOB_RULES,
      CONSECUTIVE_THRESHOLD: "1",
    });
    assert.deepEqual(
      messages.map(({ channel, news }) => [channel, news.map(({ job }) => job).sort()]),
      [["", ["lint", "unit tests"]]],
    );
    assert.match(read("text"), /^🔴 2 jobs broken in /);
  });

  test("tells it how many alerts are open after each pipeline: 0 when the last one has recovered", async (t) => {
    const document = documentOf(["unit tests", history("✗✗")], ["lint", history("✗✗✗··", { alert: openAlert() })]);
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
      ["1 🔴 unit tests broken, 🟢 lint recovered", "0 🟢 unit tests recovered"],
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
      CI_JOB_TOKEN: "glcbt-job-token",
      CI_REGISTRY_PASSWORD: "glcbt-job-token",
      CI_REPOSITORY_URL: "https://gitlab-ci-token:glcbt-job-token@gitlab.example.com/acme/shop.git",
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
    const { alert } = stored().jobs["unit tests"];
    assert.deepEqual([alert.told, alert.claims], [{ "": alert.changed_at }, undefined]);
  });

  test("prints what it says on stderr also without --json", async (t) => {
    const { launch } = await setStage(t);
    const { code, stdout, stderr } = await launch({ ...NO_SLACK, ALERT_COMMAND: "cat" }, []).result;
    assert.equal(code, 0);
    assert.match(stderr, /^🔴 unit tests broken in /);
    assert.doesNotMatch(stdout, /🔴/);
  });

  test("that fails ends with 1, and says no secret that it repeats", async (t) => {
    const { run } = await setStage(t);
    const { code, stderr, printed } = await run({
      ...NO_SLACK,
      ALERT_COMMAND: "echo 'it says glpat-stand-in-token' >&2; exit 4",
    });
    assert.deepEqual([code, printed.messages[0].delivered], [1, false]);
    assert.match(stderr, /^Error: ALERT_COMMAND ended with 4: it says \*\*\*; mend it, /m);
    assert.doesNotMatch(stderr, /glpat/);
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
    await until(() => existsSync(join(folder.path, "up")));

    child.kill("SIGKILL");
    process.kill(-Number(readFileSync(join(folder.path, "shell"), "utf8")), "SIGKILL"); // it has outlived the run
    await result;

    const claimed = await parseDocument(JSON.stringify(stored()));
    const job = claimed.jobs.get("unit tests");
    assert.ok(job?.alert?.claims?.[""] && !job.alert.told);
    const claims = { "": { ...job.alert.claims[""], until: new Date().toISOString() } }; // five minutes later
    await store({ ...claimed, jobs: new Map([["unit tests", { ...job, alert: { ...job.alert, claims } }]]) });
    const again = await run({ ...NO_SLACK, ALERT_COMMAND: 'cat >> "$OUT/text"', OUT: folder.path });
    assert.deepEqual([again.code, again.printed.outcome], [0, "counted"]);
    assert.match(readFileSync(join(folder.path, "text"), "utf8"), /unit tests broken/);
    const { alert } = stored().jobs["unit tests"];
    assert.deepEqual([alert.told, alert.claims], [{ "": alert.changed_at }, undefined]);
  });
});
