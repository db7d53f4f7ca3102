/** How servers are reached: through proxies that alone know their names, and with certificates of a private authority. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { history, listedFailed, type Variables } from "./support/builders.ts";
import { makeCertificate } from "./support/certificates.ts";
import { type CleanUp, makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";
import { startForwardProxy } from "./support/servers/forward-proxy.ts";
import { startGitLab } from "./support/servers/gitlab.ts";
import { startSlack } from "./support/servers/slack.ts";
import { ROLE_KEY, roleVariables, startSts } from "./support/servers/sts.ts";
import { KEY, startStandIns } from "./support/stand-ins.ts";

const { bun, deno, node } = process.versions;
// Bun and Deno use a proxy by themselves, Node where it is told to.
const canProxy = bun || deno || process.allowedNodeEnvironmentFlags.has("--use-env-proxy");
const noProxy = !canProxy && `Node ${node} can't use a proxy: Node 24 can, with NODE_USE_ENV_PROXY=1`;
const proxied = (proxy: { host: string }, login = ""): Variables => ({
  NODE_USE_ENV_PROXY: "1",
  HTTP_PROXY: `http://${login}${proxy.host}`,
  HTTPS_PROXY: `http://${login}${proxy.host}`,
});

const DOCUMENT = JSON.stringify({ pipeline_id: 1004, jobs: { a: history("✗✗") } });

/** The stand-ins under names that only a proxy knows: `http://s3.corp.test`, … */
async function startCorporation(cleanUp: CleanUp, options: { login?: string } = {}) {
  const standIns = await startStandIns();
  const sts = await startSts();
  const { s3, gitlab, slack, env } = standIns;
  const proxy = await startForwardProxy(
    { "s3.corp.test": s3.url, "gitlab.corp.test": gitlab.url, "slack.corp.test": slack.url, "sts.corp.test": sts.url },
    options,
  );
  for (const { close } of [standIns, sts, proxy]) cleanUp(close);
  s3.objects.set(KEY, Buffer.from(DOCUMENT));
  gitlab.pipelines.set(1005, [listedFailed("a")]);
  const variables: Variables = {
    ...env,
    CI_PIPELINE_ID: "1005",
    CI_API_V4_URL: "http://gitlab.corp.test/api/v4",
    AWS_ENDPOINT_URL_S3: "http://s3.corp.test",
    SLACK_API_URL: "http://slack.corp.test/api",
    AWS_MAX_ATTEMPTS: "1",
  };
  return { ...standIns, proxy, variables };
}

describe("a run behind a proxy", { skip: noProxy, concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("reaches GitLab, Slack and S3 through it", async () => {
    const { proxy, slack, variables } = await startCorporation(cleanUp);
    const { code, stderr } = await run([], { ...variables, ...proxied(proxy) });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(slack.messages.length, 1);
    assert.deepEqual([...new Set(proxy.passed.map((line) => line.replace(/corp\.test.*/, "")))].sort(), [
      "GET http://gitlab.",
      "GET http://s3.",
      "POST http://slack.",
      "PUT http://s3.",
    ]);
  });

  test("gives it the password in its address, and shows that to nobody else", async () => {
    const { proxy, variables } = await startCorporation(cleanUp, { login: "robot:s3cr3t-pa55" });
    const right = await run([], { ...variables, ...proxied(proxy, "robot:s3cr3t-pa55@") });
    assert.deepEqual([right.code, right.stderr], [0, ""]);
    const wrong = await run(["--json"], { ...variables, ...proxied(proxy, "robot:wr0ng-pa55@"), DEBUG: "1" });
    assert.equal(wrong.code, 1);
    assert.doesNotMatch(wrong.stdout + wrong.stderr, /pa55/);
  });

  test("reaches AWS's STS through it as well, for a role by web identity", async () => {
    const { proxy, s3, variables } = await startCorporation(cleanUp);
    const folder = makeFolder({ token: "web-identity-token" });
    cleanUp(folder.remove);
    const role = roleVariables("http://sts.corp.test", `${folder.path}/token`);
    const { code, stderr } = await run(["report"], { ...variables, ...role, ...proxied(proxy) });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(proxy.passed, ["POST http://sts.corp.test/", `GET http://s3.corp.test/bucket/${KEY}`]);
    assert.match(s3.requests[0]?.headers.authorization ?? "", new RegExp(`Credential=${ROLE_KEY}/`));
  });

  test("asks for a document at an access point there, under the key that follows it", async () => {
    const proxy = await startForwardProxy({});
    cleanUp(proxy.close);
    const { code } = await run(["report"], {
      JOB_EXECUTIONS_URL: "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/my-ap/folder/key.json",
      ...{ AWS_REGION: "us-east-1", AWS_ACCESS_KEY_ID: "stand-in", AWS_SECRET_ACCESS_KEY: "stand-in-secret" },
      AWS_MAX_ATTEMPTS: "1",
      ...proxied(proxy),
    });
    assert.equal(code, 1); // nobody is there
    assert.deepEqual(proxy.passed, ["CONNECT my-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com:443"]);
  });
});

test("a run that can't reach a peer, as behind a proxy, says which variables are for that", async (t) => {
  const standIns = await startStandIns();
  t.after(standIns.close);
  standIns.s3.objects.set(KEY, Buffer.from(DOCUMENT));
  const nowhere = { CI_PIPELINE_ID: "1005", CI_API_V4_URL: "http://gitlab.invalid/api/v4" };
  const { code, stderr } = await run([], { ...standIns.env, ...nowhere });
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^Error: GitLab at gitlab\.invalid, .* is unreachable: .*NODE_USE_ENV_PROXY=1.*NODE_EXTRA_CA_CERTS.*\n$/,
  );
});

describe("a run with a private certificate authority", () => {
  const cleanUp = makeCleanUp();
  const folder = makeFolder();
  cleanUp(folder.remove);
  const certificate = makeCertificate(folder.path, ["localhost", "gitlab.corp.test", "slack.corp.test"]);
  const skip = !certificate && "openssl is not installed";

  /** GitLab and Slack behind TLS, at addresses of this machine. */
  async function startTrusted() {
    const { env, s3, close } = await startStandIns();
    const options = { host: "localhost", ...(certificate ? { tls: certificate.tls } : {}) };
    const [gitlab, slack] = await Promise.all([startGitLab(options), startSlack(options)]);
    for (const end of [close, gitlab.close, slack.close]) cleanUp(end);
    s3.objects.set(KEY, Buffer.from(DOCUMENT));
    gitlab.pipelines.set(1005, [listedFailed("a")]);
    const variables = { ...env, CI_PIPELINE_ID: "1005", CI_API_V4_URL: gitlab.apiUrl, SLACK_API_URL: slack.apiUrl };
    return { s3, gitlab, slack, variables };
  }
  const trust = (): Variables => ({
    NODE_EXTRA_CA_CERTS: deno ? undefined : certificate?.authorityFile,
    DENO_CERT: certificate?.authorityFile,
  });

  test("trusts it by NODE_EXTRA_CA_CERTS, or with Deno by DENO_CERT", { skip }, async () => {
    const { slack, variables } = await startTrusted();
    const { code, stderr } = await run([], { ...variables, ...trust() });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(slack.messages.length, 1);
  });

  const TODO = /certificate.*; set NODE_EXTRA_CA_CERTS \(with Deno, DENO_CERT\) to the file of [^;]*\n$/;

  test("asks a GitLab that it does not trust for nothing, stores nothing, and says what to do", { skip }, async () => {
    const { gitlab, s3, variables } = await startTrusted();
    const { code, stderr } = await run([], variables);
    assert.equal(code, 1);
    assert.match(stderr, /^Error: GitLab at localhost:\d+, .* is unreachable: /);
    assert.match(stderr, TODO);
    assert.deepEqual(gitlab.requests, []);
    assert.equal(`${s3.objects.get(KEY)}`, DOCUMENT);
  });

  test("says the same of S3", { skip }, async () => {
    const { variables, gitlab } = await startTrusted();
    const { code, stderr } = await run(["report"], { ...variables, AWS_ENDPOINT_URL_S3: gitlab.url });
    assert.equal(code, 1);
    assert.match(stderr, /^Error: Cannot read job executions from s3:.* at localhost:\d+: /);
    assert.match(stderr, TODO);
  });

  test("reaches https addresses through a proxy by CONNECT", { skip: skip || noProxy }, async () => {
    const { gitlab, slack, s3, variables } = await startTrusted();
    const hosts = { "gitlab.corp.test": gitlab.url, "slack.corp.test": slack.url, "s3.corp.test": s3.url };
    const proxy = await startForwardProxy(hosts);
    cleanUp(proxy.close);
    const { code, stderr } = await run([], {
      ...variables,
      ...trust(),
      ...proxied(proxy),
      CI_API_V4_URL: "https://gitlab.corp.test/api/v4",
      SLACK_API_URL: "https://slack.corp.test/api",
      AWS_ENDPOINT_URL_S3: "http://s3.corp.test",
    });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(proxy.passed.filter((line) => line.startsWith("CONNECT")).sort(), [
      "CONNECT gitlab.corp.test:443",
      "CONNECT gitlab.corp.test:443",
      "CONNECT slack.corp.test:443",
    ]);
    assert.equal(slack.messages.length, 1);
  });
});
