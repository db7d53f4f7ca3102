/** Processes of the script that race for one document: each reads the same version, before any of them has uploaded. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { JobExecutions, TrackedJob } from "../check-failures.ts";
import { documentOf, history, listedFailed } from "./support/builders.ts";
import { makeFolder, run } from "./support/run.ts";
import { startMoto } from "./support/servers/moto.ts";
import { meetingOf, startProxy } from "./support/servers/proxy.ts";
import { startS3 } from "./support/servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./support/servers/slack.ts";
import { documentAt, KEY } from "./support/stand-ins.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

const RACERS = 6;
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
const before = {
  ...documentOf(
    ["build", history("✗✗")],
    ...PIPELINES.map((pipeline): [string, TrackedJob] => [`job ${pipeline}`, history("✗✗")]),
  ),
  counted_at: now.toISOString(),
  last_date: now.toISOString().slice(0, 10),
};

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
  assert.deepEqual(
    results.filter(({ code }) => code !== 0),
    [],
  );
  const document = await parseDocument(await (await fetch(object, { headers })).text());
  const outcomes: string[] = results.map(({ stdout }) => JSON.parse(stdout).outcome);
  return { outcomes, document, told: slack.messages.map(({ text }) => text) };
}

/** The pipelines in whose executions a job failed, in the order of its window. */
const pipelinesOf = ({ jobs }: JobExecutions, job: string) =>
  (jobs.get(job)?.jobs_info ?? []).map(({ pipeline, failing }) => (failing ? pipeline : 0));
const toldOf = ({ jobs }: JobExecutions, job: string) => Object.keys(jobs.get(job)?.alert?.told ?? {});

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
    test("of different pipelines: each is counted or filed at its place, and each that counts tells what it opened, once", {
      timeout,
    }, async (t) => {
      const { outcomes, document, told } = await race(t, url, PIPELINES);

      const counted = PIPELINES.filter((_, i) => outcomes[i] === "counted");
      const late = PIPELINES.filter((_, i) => outcomes[i] === "late");
      assert.equal(counted.length + late.length, RACERS);
      assert.deepEqual([document.pipeline_id, counted.at(-1)], [PIPELINES.at(-1), PIPELINES.at(-1)]);
      assert.deepEqual(pipelinesOf(document, "build"), [1003, 1004, ...PIPELINES]);
      for (const pipeline of PIPELINES) {
        assert.deepEqual(pipelinesOf(document, `job ${pipeline}`), [1003, 1004, pipeline]);
      }
      // What a late one filed is judged by the next that counts, if that came after it.
      const names = ["build", ...PIPELINES.map((pipeline) => `job ${pipeline}`)];
      const open = names.filter((job) => document.jobs.get(job)?.alert);
      for (const pipeline of counted) assert.ok(open.includes(`job ${pipeline}`), `job ${pipeline}`);
      for (const job of names) {
        const tellers = told.filter((text) => new RegExp(`\\b${job}\\b`).test(text));
        const expected = open.includes(job) ? { times: 1, told: [""] } : { times: 0, told: [] };
        assert.deepEqual({ times: tellers.length, told: toldOf(document, job) }, expected, job);
      }
    });

    test("of the same pipeline: each counts it at the same place, and one tells", { timeout }, async (t) => {
      const pipeline = PIPELINES[0] ?? 0;
      const { outcomes, document, told } = await race(t, url, Array(RACERS).fill(pipeline));

      assert.deepEqual(outcomes, Array(RACERS).fill("counted"));
      for (const job of ["build", `job ${pipeline}`]) {
        assert.deepEqual([pipelinesOf(document, job), toldOf(document, job)], [[1003, 1004, pipeline], [""]]);
      }
      assert.equal(told.length, 1);
    });
  });
}
