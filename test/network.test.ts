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
const canProxy = bun || deno || process.allowedNodeEnvironmentFlags.has("--use-env-proxy");
const skip = !canProxy && `Node ${node} has no proxies`;

/** The stand-ins under names that only a proxy knows: `http://s3.corp.test`, … */
async function startCorporation(cleanUp: CleanUp, options: { login?: string } = {}) {
  const standIns = await startStandIns();
  const { s3, gitlab, slack, env } = standIns;
  const hosts = { "s3.corp.test": s3.url, "gitlab.corp.test": gitlab.url, "slack.corp.test": slack.url };
  const proxy = await startForwardProxy(hosts, options);
  for (const { close } of [standIns, proxy]) cleanUp(close);
  s3.objects.set(KEY, Buffer.from(JSON.stringify({ pipeline_id: 1004, jobs: { a: history("✗✗") } })));
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

describe("a run behind a proxy", { skip }, () => {
  const cleanUp = makeCleanUp();

  for (const variable of ["HTTP_PROXY", "http_proxy"]) {
    test(`reaches GitLab, Slack and S3 through the one that ${variable} names`, async () => {
      const { proxy, slack, variables } = await startCorporation(cleanUp);
      const { code, stderr } = await run([], { ...variables, [variable]: `http://${proxy.host}` });
      assert.deepEqual([code, stderr], [0, ""]);
      assert.equal(slack.messages.length, 1);
      assert.deepEqual(
        new Set(proxy.passed.map((line) => line.replace(/corp\.test.*/, ""))),
        new Set([...["GET http://s3.", "PUT http://s3.", "GET http://gitlab.", "POST http://slack."]]),
      );
    });
  }

  test("takes a proxy without a scheme for an http one, and the variable in lower case before the other", async () => {
    const { proxy, variables } = await startCorporation(cleanUp);
    const set = { HTTP_PROXY: "http://127.0.0.1:1", http_proxy: proxy.host };
    const { code, stderr } = await run([], { ...variables, ...set });
    assert.deepEqual([code, stderr], [0, ""]);
  });

  test("gives the proxy the password in its address, and shows it to nobody else", async () => {
    const login = "robot:s3cr3t-pa55";
    const { proxy, variables } = await startCorporation(cleanUp, { login });
    const right = await run([], { ...variables, HTTP_PROXY: `http://${login}@${proxy.host}` });
    assert.deepEqual([right.code, right.stderr], [0, ""]);
    const wrong = await run(["--json"], {
      ...variables,
      HTTP_PROXY: `http://robot:wr0ng-pa55@${proxy.host}`,
      DEBUG: "1",
    });
    assert.equal(wrong.code, 1);
    assert.doesNotMatch(wrong.stdout + wrong.stderr, /pa55/);
  });

  for (const NO_PROXY of [
    "corp.test",
    ".corp.test",
    "*.corp.test",
    "other.test, corp.test",
    "gitlab.corp.test s3.corp.test",
    "*",
  ]) {
    test(`goes straight to the hosts of NO_PROXY=${NO_PROXY}`, async () => {
      const { proxy, variables } = await startCorporation(cleanUp);
      const { code, stderr } = await run([], { ...variables, HTTP_PROXY: `http://${proxy.host}`, NO_PROXY });
      assert.equal(code, 1);
      assert.match(stderr, /Cannot read job executions from s3:.* at s3\.corp\.test/);
      assert.deepEqual(proxy.passed, []);
    });
  }

  test("goes through it to hosts whose names only look like those of NO_PROXY", async () => {
    const { proxy, variables } = await startCorporation(cleanUp);
    const set = { HTTP_PROXY: `http://${proxy.host}`, no_proxy: "b.corp.test,orp.test", NO_PROXY: "corp.test" };
    const { code, stderr } = await run([], { ...variables, ...set });
    assert.deepEqual([code, stderr], [0, ""]);
  });

  test("does not go through the one for https addresses to http ones", async () => {
    const { proxy, variables } = await startCorporation(cleanUp);
    const { code } = await run([], { ...variables, HTTPS_PROXY: `http://${proxy.host}` });
    assert.equal(code, 1);
    assert.deepEqual(proxy.passed, []);
  });

  test("reaches AWS's STS through it as well, for a role by web identity", async () => {
    const { proxy, s3, variables } = await startCorporation(cleanUp);
    const sts = await startSts();
    const network = await startForwardProxy({ "sts.corp.test": sts.url, "s3.corp.test": s3.url });
    const folder = makeFolder({ token: "web-identity-token" });
    for (const end of [sts.close, network.close, folder.remove]) cleanUp(end);
    const { code, stderr } = await run(["report"], {
      ...variables,
      ...roleVariables("http://sts.corp.test", `${folder.path}/token`),
      HTTP_PROXY: `http://${network.host}`,
    });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(network.passed, ["POST http://sts.corp.test/", `GET http://s3.corp.test/bucket/${KEY}`]);
    assert.match(s3.requests[0]?.headers.authorization ?? "", new RegExp(`Credential=${ROLE_KEY}/`));
    assert.deepEqual(proxy.passed, []);
  });
});

test("a document at an access point is asked for there, under the key that follows it", { skip }, async (t) => {
  const proxy = await startForwardProxy({});
  t.after(proxy.close);
  const { code } = await run(["report"], {
    JOB_EXECUTIONS_URL: "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/my-ap/folder/key.json",
    ...{ AWS_REGION: "us-east-1", AWS_ACCESS_KEY_ID: "stand-in", AWS_SECRET_ACCESS_KEY: "stand-in-secret" },
    AWS_MAX_ATTEMPTS: "1",
    HTTPS_PROXY: proxy.host,
  });
  assert.equal(code, 1); // nobody is there
  assert.deepEqual(proxy.passed, ["CONNECT my-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com:443"]);
});

test("a run says which runtimes can use a proxy, where its own can't", {
  skip: canProxy && "this one can",
}, async () => {
  const { stderr } = await run(["report"], { https_proxy: "http://127.0.0.1:1", JOB_EXECUTIONS_URL: "nowhere.json" });
  assert.match(stderr, /^Warning: https_proxy is set, but Node 20\.\S+ can't use it: .*Node 24.*Bun.*Deno\n$/);
});

describe("a run with a private certificate authority", () => {
  const cleanUp = makeCleanUp();
  const folder = makeFolder();
  cleanUp(folder.remove);
  const names = ["localhost", "gitlab.corp.test", "slack.corp.test"];
  const certificate = makeCertificate(folder.path, names);
  const skip = !certificate && "openssl is not installed";

  /** GitLab and Slack behind TLS, at addresses of this machine. */
  async function startTrusted() {
    const { env, s3, close } = await startStandIns();
    const options = { host: "localhost", ...(certificate ? { tls: certificate.tls } : {}) };
    const [gitlab, slack] = await Promise.all([startGitLab(options), startSlack(options)]);
    for (const end of [close, gitlab.close, slack.close]) cleanUp(end);
    s3.objects.set(KEY, Buffer.from(JSON.stringify({ pipeline_id: 1004, jobs: { a: history("✗✗") } })));
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

  test("asks a server that it does not trust once, and says what to do", { skip }, async () => {
    const { gitlab, s3, variables } = await startTrusted();
    const { code, stderr } = await run([], variables);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^Error: GitLab at localhost:\d+, .* is unreachable: .*certificate.*; set NODE_EXTRA_CA_CERTS .*\n$/,
    );
    assert.doesNotMatch(stderr, /CI_SERVER_TLS_CA_FILE|times/);
    assert.deepEqual(gitlab.requests, []);
    assert.equal(
      s3.requests.some(({ method }) => method === "PUT"),
      false,
    );
  });

  test("names GitLab's own file where there is one", { skip }, async () => {
    const { variables } = await startTrusted();
    const { stderr } = await run([], { ...variables, CI_SERVER_TLS_CA_FILE: "/builds/ca.crt" });
    assert.match(stderr, /NODE_EXTRA_CA_CERTS .*\$CI_SERVER_TLS_CA_FILE\n$/);
  });

  test("says the same of S3", { skip }, async () => {
    const { variables, gitlab } = await startTrusted();
    const { code, stderr } = await run(["report"], { ...variables, AWS_ENDPOINT_URL_S3: gitlab.url });
    assert.equal(code, 1);
    assert.match(stderr, /^Error: Cannot read job executions from s3:.* at localhost:\d+: .*NODE_EXTRA_CA_CERTS .*\n$/);
  });

  test("reaches https addresses through a proxy by CONNECT", {
    skip: skip || (!canProxy && `Node ${node} has no proxies`),
  }, async () => {
    const { gitlab, slack, variables } = await startTrusted();
    const proxy = await startForwardProxy({ "gitlab.corp.test": gitlab.url, "slack.corp.test": slack.url });
    cleanUp(proxy.close);
    const { code, stderr } = await run([], {
      ...variables,
      ...trust(),
      CI_API_V4_URL: "https://gitlab.corp.test/api/v4",
      SLACK_API_URL: "https://slack.corp.test/api",
      HTTPS_PROXY: proxy.host,
    });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual([...proxy.passed].sort(), [
      ...["CONNECT gitlab.corp.test:443", "CONNECT gitlab.corp.test:443", "CONNECT slack.corp.test:443"],
    ]);
    assert.equal(slack.messages.length, 1);
  });
});
