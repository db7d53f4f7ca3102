import assert from "node:assert/strict";
import http from "node:http";
import https from "node:https";
import { after, before, beforeEach, describe, test } from "node:test";
import { checkConsistentFailures, type Environment } from "../check-failures.ts";
import { documentOf, environment, failed, history, makeEdges, memoryStore } from "./builders.ts";
import { makeFolder } from "./run.ts";
import { type Asked, answerWith, startServer } from "./servers/http.ts";

// Datadog is reached by https at a name of its own, which no stand-in can have: these tests take its requests to one.
const realRequest = https.request;
const asked: (Asked & { url: string })[] = [];
const urls: string[] = [];
let status = 202;
const datadog = await startServer((request, response) => {
  asked.push({ ...request, url: urls.shift() ?? "" });
  answerWith(status)(response);
});

before(() => {
  https.request = ((url: string, ...rest: [http.RequestOptions, (response: http.IncomingMessage) => void]) => {
    urls.push(url);
    return http.request(`${datadog.url}${new URL(url).pathname}`, ...rest);
  }) as typeof https.request;
});
beforeEach(() => {
  asked.length = 0;
  status = 202;
});
after(() => {
  https.request = realRequest;
  datadog.close();
});

/** A run in which `unit tests`, owned by two teams, fails for the third time, and a job that nobody owns for the fifth. */
async function runWithAlerts(variables: Record<string, string>) {
  const document = documentOf(["unit tests", history("·✗✗")], ["e2e", history("✗·✗·✗·✗·")]);
  const text = JSON.stringify({ pipeline_id: 1004, jobs: Object.fromEntries(document.jobs) });
  const folder = makeFolder({
    "jobs.json": [failed("unit tests"), failed("e2e")],
    OWNERS: "unit* @acme/core #checkout",
  });
  const files = { PIPELINE_JOBS_FILE: `${folder.path}/jobs.json`, JOB_OWNERS_FILE: `${folder.path}/OWNERS` };
  const env: Environment = environment({ ...files, ...variables });
  const { edges, sent } = makeEdges({ store: memoryStore(text).store });
  const run = await checkConsistentFailures(env, edges).finally(folder.remove);
  return { run, sent };
}

describe("the metrics of Datadog", () => {
  test("count the alerts by kind and owner", async () => {
    const { run } = await runWithAlerts({ DD_API_KEY: "0123456789abcdef", DD_SITE: "datadoghq.eu" });

    assert.deepEqual(
      asked.map(({ method, url, headers }) => [method, url, headers["dd-api-key"]]),
      [["POST", "https://api.datadoghq.eu/api/v2/series", "0123456789abcdef"]],
    );
    const points = [{ timestamp: 1_795_428_000, value: 1 }];
    const count = (kind: string, ...tags: string[]) => ({
      metric: `datadog.ci.failed_job_alerts.${kind}`,
      type: 1,
      points,
      tags: ["repository:acme/shop", ...tags],
    });
    assert.deepEqual(JSON.parse(`${asked[0]?.body}`), {
      series: [count("consecutive", "team:@acme/core"), count("consecutive", "team:#checkout"), count("cumulative")],
    });
    assert.deepEqual(run.warnings, ["@acme/core has no channel in OWNER_CHANNELS_FILE"]);
  });

  test("that are refused are a warning, and the alert is sent", async () => {
    status = 403;
    const { run, sent } = await runWithAlerts({ DD_API_KEY: "0123456789abcdef" });
    assert.match(run.warnings[1] ?? "", /metrics.* Datadog at api\.datadoghq\.com answered 403; check DD_API_KEY/);
    assert.deepEqual(run.errors, []);
    assert.equal(sent.length, 2);
  });

  test("that anything but a 202 answers, as a proxy may, are a warning", async () => {
    status = 200;
    const { run } = await runWithAlerts({ DD_API_KEY: "0123456789abcdef" });
    assert.match(run.warnings[1] ?? "", /metrics.* Datadog at api\.datadoghq\.com answered 200; check DD_API_KEY/);
  });

  test("are sent only where there is a key", async () => {
    await runWithAlerts({});
    assert.equal(asked.length, 0);
  });
});
