/** Processes of the script that race for one document: each reads the same version, before any of them has uploaded. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { type TrackedJob, updateStatistics } from "../check-failures.ts";
import { documentOf, failed, history, listedFailed, listingOf, settings } from "./support/builders.ts";
import { makeFolder, run } from "./support/run.ts";
import { startMoto } from "./support/servers/moto.ts";
import { meetingOf, startProxy } from "./support/servers/proxy.ts";
import { startS3 } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { documentAt, KEY } from "./support/stand-ins.ts";
import { serializeDocument } from "./support/stored.ts";

const RACERS = 10;
const PIPELINES = Array.from({ length: RACERS }, (_, i) => documentOf().pipeline_id + 1 + i);
const timeout = 120_000; // Bun's default of five seconds is too short for so many processes
/** Of the test's own requests: moto looks at who asks, and not at the signature. */
const headers = { authorization: "AWS4-HMAC-SHA256 Credential=stand-in/20261123/us-east-1/s3/aws4_request" };

/** Each pipeline fails `build`, which all of them count, and a job of its own, which then has something to tell. */
const jobsOf = <T>(build: (name: string, rest: { id: number }) => T, pipeline: number) => [
  build("build", { id: 2 * pipeline }),
  build(`job ${pipeline}`, { id: 2 * pipeline + 1 }),
];
const now = new Date();
const failing = (strip: string) => history(strip, { last_run: now.toISOString() });
const before = documentOf(
  ["build", failing("✗✗✗✗")],
  ...PIPELINES.map((pipeline): [string, TrackedJob] => [`job ${pipeline}`, failing("✗✗")]),
);

/** A document without its times, which are those of the processes. */
const withoutTimes = (text: string) =>
  JSON.parse(text, (key, value) => (["last_run", "at", "counted_at"].includes(key) ? now : value));

async function race(t: { after: (close: () => unknown) => void }, url: string, pipelines: number[]) {
  const arrive = meetingOf(pipelines.length);
  const [slack, proxy] = await Promise.all([
    startSlack(),
    startProxy(url, ({ method }) => (method === "GET" ? arrive() : undefined)),
  ]);
  const folder = makeFolder(
    Object.fromEntries(pipelines.map((pipeline) => [`${pipeline}.json`, jobsOf(listedFailed, pipeline)])),
  );
  for (const end of [slack.close, proxy.close, folder.remove]) t.after(end);

  const object = `${url}/bucket/${KEY}`;
  await fetch(object, { method: "PUT", body: await serializeDocument(before), headers });
  const results = await Promise.all(
    pipelines.map((pipeline) =>
      run(["--json"], {
        CI_PIPELINE_ID: String(pipeline),
        CI_COMMIT_SHA: `c0ffee${pipeline}`,
        PIPELINE_JOBS_FILE: join(folder.path, `${pipeline}.json`),
        ...documentAt(proxy.url),
        SLACK_API_URL: slack.apiUrl,
        SLACK_API_TOKEN: SLACK_TOKEN,
        SLACK_CHANNEL: "#ci",
      }),
    ),
  );
  const stored = await (await fetch(object, { headers })).text();
  assert.deepEqual(
    results.filter(({ code }) => code !== 0),
    [],
  );
  return {
    outcomes: results.map(({ stdout }): string => JSON.parse(stdout).outcome),
    stored: withoutTimes(stored),
    told: slack.messages.map(({ text }) => text),
  };
}

/** What the store must hold in the end, and whom the job is told of, when these pipelines were counted. */
async function expectedOf(counted: number[]) {
  const document = counted.reduce((document, pipeline) => {
    const facts = settings({
      ...{ CI_PROJECT_PATH: undefined, CI_PROJECT_URL: undefined, GITLAB_CI: undefined },
      CI_PIPELINE_ID: String(pipeline),
      CI_COMMIT_SHA: `c0ffee${pipeline}`,
    });
    return updateStatistics(document, listingOf(jobsOf(failed, pipeline)), { ...facts, now }).document;
  }, before);
  return withoutTimes(await serializeDocument(document));
}

const standIn = await startS3();
const moto = await startMoto();
after(standIn.close);
after(() => moto?.close());

const stores = [
  { name: "the stand-in for S3", url: standIn.url },
  { name: "moto", url: moto?.url ?? "", skip: moto === undefined && "moto_server is not installed" },
];

for (const { name, url, skip = false } of stores) {
  describe(`${RACERS} processes at once on ${name}`, { skip }, () => {
    test("of different pipelines: none overwrites another, and each one that counts tells it once", {
      timeout,
    }, async (t) => {
      const { outcomes, stored, told } = await race(t, url, PIPELINES);

      const counted = PIPELINES.filter((_, i) => outcomes[i] === "counted");
      const others = outcomes.filter((outcome) => outcome !== "counted");
      assert.deepEqual(others, Array(others.length).fill("out-of-order"));
      assert.deepEqual(stored, await expectedOf(counted));
      assert.equal(told.length, counted.length);
      for (const pipeline of counted) assert.equal(told.filter((text) => text.includes(`job ${pipeline}`)).length, 1);
    });

    test("of the same pipeline: one counts it, and one tells", { timeout }, async (t) => {
      const pipeline = PIPELINES[0] ?? 0;
      const { outcomes, stored, told } = await race(t, url, Array(RACERS).fill(pipeline));

      assert.deepEqual(outcomes.sort(), [...Array(RACERS - 1).fill("already-counted"), "counted"]);
      assert.deepEqual(stored, await expectedOf([pipeline]));
      assert.equal(told.length, 1);
    });
  });
}
