/** Where the document is stored: S3 in its many shapes, what goes wrong there, and whose fault that is. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { devNull } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { adviseOnAws, openS3, S3_URL } from "../check-failures.ts";
import {
  failed,
  history,
  listedFailed,
  listedPassed,
  memoryStore,
  runOf,
  settings,
  type Variables,
} from "./support/builders.ts";
import { type CleanUp, makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, run } from "./support/run.ts";
import { type Asked, answerWith, type Fault } from "./support/servers/http.ts";
import { startMoto } from "./support/servers/moto.ts";
import { accessDenied, etagOf, noSuchKey, preconditionFailed, s3Error, startS3 } from "./support/servers/s3.ts";
import { ROLE_KEY, roleVariables, startSts, stsError } from "./support/servers/sts.ts";
import { documentAt, KEY } from "./support/stand-ins.ts";

const DOCUMENT = JSON.stringify({ pipeline_id: 1004, jobs: { "unit tests": history("✗") } });

/** The variables of a run with its document at an endpoint, and none of the machine's own for AWS. */
const s3Variables = (endpoint: string): Variables => ({
  CI_PIPELINE_ID: "1005",
  CI_COMMIT_SHA: "0ddba11",
  PIPELINE_JOBS_FILE: "jobs.json",
  ...documentAt(endpoint),
  AWS_CONFIG_FILE: devNull,
  AWS_SHARED_CREDENTIALS_FILE: devNull,
  AWS_EC2_METADATA_DISABLED: "true",
});

/** The credentials are found elsewhere, or nowhere. */
const NO_KEYS: Variables = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined };

type Scene = {
  stored?: string | undefined;
  key?: string;
  faults?: Fault[];
  env?: Variables;
  server?: Parameters<typeof startS3>[0];
};

/** Runs the script once for a pipeline with a failed job, with a document in the stand-in. */
async function runOnce(cleanUp: CleanUp, { stored, key = KEY, faults = [], env = {}, server = {} }: Scene) {
  const s3 = await startS3(server);
  cleanUp(s3.close);
  if (stored !== undefined) s3.objects.set(key, Buffer.from(stored));
  s3.faults.push(...faults);
  const folder = makeFolder({ "jobs.json": [listedFailed("unit tests", { id: 105 })] });
  cleanUp(folder.remove);
  const result = await run([], { ...s3Variables(s3.url), ...env }, folder.path);
  const puts = s3.requests.filter(isPut);
  return { ...result, s3, puts, stored: s3.objects.get(key)?.toString() };
}

const isGet = ({ method }: Asked) => method === "GET";
const isPut = ({ method }: Asked) => method === "PUT";
const always = (matches: Fault["matches"], answer: Fault["answer"]): Fault[] => [{ times: 99, matches, answer }];
const once = (matches: Fault["matches"], answer: Fault["answer"]): Fault[] => [{ times: 1, matches, answer }];

const html = (status: number) =>
  answerWith(status, "<!DOCTYPE html>\n<html><body>A proxy's page</body></html>\n", { "content-type": "text/html" });
const slowDown = s3Error(503, "SlowDown", "Please reduce your request rate.");

describe("a document in S3", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  test("is created where its key is missing, on the condition that it still is", async () => {
    const { code, stderr, puts, stored } = await runOnce(cleanUp, {});
    assert.deepEqual([code, stderr], [0, ""]);
    const [first, second, ...others] = puts.map(({ headers }) => [headers["if-none-match"], headers["if-match"]]);
    assert.deepEqual(first, ["*", undefined]);
    assert.deepEqual(second, [undefined, etagOf(`${puts[0]?.body}`)]); // that the hello was delivered
    assert.deepEqual(others, []);
    assert.equal(JSON.parse(stored ?? "").jobs["unit tests"].consecutive_failures, 1);
  });

  test("is replaced on the condition that it is still the version that was read", async () => {
    const { code, puts, stored } = await runOnce(cleanUp, { stored: DOCUMENT });
    assert.equal(code, 0);
    assert.deepEqual(
      puts.map(({ headers }) => [headers["if-match"], headers["if-none-match"]]),
      [[etagOf(DOCUMENT), undefined]],
    );
    assert.equal(JSON.parse(stored ?? "").jobs["unit tests"].consecutive_failures, 2);
  });

  for (const stored of [undefined, DOCUMENT]) {
    test(`is ${stored ? "replaced" : "created"} without a condition with S3_CONDITIONAL_WRITES=off`, async () => {
      const { code, puts } = await runOnce(cleanUp, { stored, env: { S3_CONDITIONAL_WRITES: "off" } });
      assert.equal(code, 0);
      assert.deepEqual(
        puts.map(({ headers }) => [headers["if-match"], headers["if-none-match"]]),
        puts.map(() => [undefined, undefined]),
      );
    });
  }

  for (const [S3_SSE, header] of [
    ["none", undefined],
    ["aws:kms:dsse", "aws:kms:dsse"],
  ]) {
    test(`is stored with ${header ?? "no"} encryption with S3_SSE=${S3_SSE}`, async () => {
      const { code, puts } = await runOnce(cleanUp, { stored: DOCUMENT, env: { S3_SSE } });
      assert.equal(code, 0);
      assert.deepEqual(
        puts.map(({ headers }) => headers["x-amz-server-side-encryption"]),
        [header],
      );
    });
  }

  for (const variable of ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]) {
    test(`is addressed by its path at the endpoint of ${variable}`, async () => {
      const server = await startS3();
      cleanUp(server.close);
      const { host, port } = new URL(server.url.replace("127.0.0.1", "localhost"));
      const env = { ...s3Variables(""), [variable]: `http://${host}` };
      const { code } = await run(["report"], env);
      assert.equal(code, 0);
      assert.deepEqual(
        server.requests.map(({ path, headers }) => [path, headers.host]),
        [[`/bucket/${KEY}`, `localhost:${port}`]],
      );
    });
  }

  test("may have a key with folders, spaces and letters of any kind", async () => {
    const key = "ci/job executions/é 🔥+%2F?#.json";
    const { code, stored } = await runOnce(cleanUp, {
      stored: DOCUMENT,
      key,
      env: { JOB_EXECUTIONS_URL: `s3://bucket/${key}` },
    });
    assert.equal(code, 0);
    assert.equal(JSON.parse(stored ?? "").pipeline_id, 1005);
  });

  test("is read and stored in spite of a store that is busy once", async () => {
    const faults = [...once(isGet, slowDown), ...once(isPut, slowDown)];
    const { code, s3, stored } = await runOnce(cleanUp, { stored: DOCUMENT, faults });
    assert.equal(code, 0);
    assert.deepEqual(
      s3.requests.map(({ method }) => method),
      ["GET", "GET", "PUT", "PUT"],
    );
    assert.equal(JSON.parse(stored ?? "").pipeline_id, 1005);
  });

  const CONFLICTS: [title: string, answer: Fault["answer"]][] = [
    ["412, as another one is stored", preconditionFailed],
    ["409, as another one is being stored", s3Error(409, "ConditionalRequestConflict", "A conflict occurred.")],
    ["404, as it was deleted meanwhile", noSuchKey],
  ];
  for (const [title, answer] of CONFLICTS) {
    test(`is read and counted again where its upload is answered by ${title}`, async () => {
      const { code, stderr, s3, stored } = await runOnce(cleanUp, { stored: DOCUMENT, faults: once(isPut, answer) });
      assert.deepEqual([code, stderr], [0, ""]);
      assert.deepEqual(
        s3.requests.map(({ method }) => method),
        ["GET", "PUT", "GET", "PUT"],
      );
      assert.equal(JSON.parse(stored ?? "").jobs["unit tests"].consecutive_failures, 2);
    });
  }

  test("is stored with its SHA-256, and with no other checksum", async () => {
    const { code, stderr, puts } = await runOnce(cleanUp, { stored: DOCUMENT, server: { kind: "object lock" } });
    assert.deepEqual([code, stderr], [0, ""]);
    const [{ headers, body }] = puts as [Asked];
    const checksums = Object.entries(headers).filter(([name]) => /md5|checksum|trailer|content-encoding/.test(name));
    assert.deepEqual(checksums, [["x-amz-checksum-sha256", createHash("sha256").update(body).digest("base64")]]);
  });

  test("is read and stored in a directory bucket, which takes no MD5", async () => {
    const bucket = "ci--use1-az4--x-s3";
    const env = { JOB_EXECUTIONS_URL: `s3://${bucket}/${KEY}` };
    const { code, stderr, stored } = await runOnce(cleanUp, {
      stored: DOCUMENT,
      env,
      server: { bucket, kind: "directory" },
    });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal(JSON.parse(stored ?? "").pipeline_id, 1005);
  });

  test("is stored where a proxy makes its versions weak, on the condition that it is the strong one", async () => {
    const { code, stderr, puts } = await runOnce(cleanUp, { stored: DOCUMENT, server: { hasWeakEtags: true } });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(
      puts.map(({ headers }) => headers["if-match"]),
      [etagOf(DOCUMENT)],
    );
  });

  test("of several MB is stored where nobody answers to Expect: 100-continue", { timeout: 60_000 }, async () => {
    const jobs = Object.fromEntries(Array.from({ length: 4_000 }, (_, i) => [`job ${i}`, history("✗✗✗✗✗✗✗✗✗✗")]));
    const stored = JSON.stringify({ pipeline_id: 1004, jobs });
    const { code, stderr, puts } = await runOnce(cleanUp, { stored, server: { ignoresExpect: true } });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.equal((puts[0]?.body.length ?? 0) > 2_000_000, true);
  });

  test("is in the region of AWS_DEFAULT_REGION where AWS_REGION is not set, else in that", async () => {
    const regionOf = async (env: Variables) => {
      const { s3 } = await runOnce(cleanUp, { stored: DOCUMENT, env });
      return /Credential=[^/]+\/\d+\/([^/]+)\//.exec(s3.requests[0]?.headers.authorization ?? "")?.[1];
    };
    assert.equal(await regionOf({ AWS_REGION: "", AWS_DEFAULT_REGION: "eu-central-1" }), "eu-central-1");
    assert.equal(await regionOf({ AWS_REGION: "eu-west-1", AWS_DEFAULT_REGION: "eu-central-1" }), "eu-west-1");
  });

  const truncated: Fault["answer"] = (response) => {
    response.writeHead(200, { etag: etagOf(DOCUMENT), "content-length": DOCUMENT.length });
    response.write(DOCUMENT.slice(0, 20), () => response.destroy());
  };
  const FAILURES: (Scene & { title: string; says: RegExp })[] = [
    {
      title: "whose bucket is missing",
      env: { JOB_EXECUTIONS_URL: `s3://nowhere/${KEY}` },
      says: /404 NoSuchBucket.*; check JOB_EXECUTIONS_URL/,
    },
    {
      title: "that may not be read",
      faults: always(isGet, accessDenied),
      says: /^Error: Cannot read .* 403 AccessDen/,
    },
    {
      title: "in a store without any space left",
      faults: always(
        isPut,
        s3Error(507, "StorageFull", "Storage backend has reached its minimum free drive threshold"),
      ),
      says: /^Error: Cannot upload .* 507 StorageFull: .*; free some space in the store\n$/,
    },
    { title: "in the place of which a proxy has a page", faults: always(isGet, html(200)), says: /ETag.*proxy/ },
    {
      title: "in an answer without a version, on which an upload could depend",
      faults: always(isGet, answerWith(200, DOCUMENT)),
      says: /ETag/,
    },
    {
      title: "whose upload a proxy answers with a page",
      faults: always(isPut, html(200)),
      says: /Cannot upload.*proxy/,
    },
    { title: "whose transfer breaks off", faults: always(isGet, truncated), says: /Cannot read/ },
    { title: "that was cut", stored: DOCUMENT.slice(0, -20), says: /not JSON: .*restore an earlier version/ },
    { title: "that is not UTF-8", faults: always(isGet, latin1), says: /UTF-8: restore an earlier version/ },
    { title: "without credentials", env: NO_KEYS, says: /^(?!.*STS).*credentials.*set AWS_ACCESS_KEY_ID/ },
    { title: "without a region", env: { AWS_REGION: undefined }, says: /Region.*set AWS_REGION/ },
    {
      title: "at an endpoint with two addresses where nobody listens",
      env: { AWS_ENDPOINT_URL_S3: "http://localhost:1" },
      says: /at localhost:1: .*ECONNREFUSED.*; check its address .*NODE_USE_ENV_PROXY=1.*NODE_EXTRA_CA_CERTS/,
    },
  ];
  for (const { title, says, ...scene } of FAILURES) {
    test(`${title} is an error that names it, and stays as it was`, async () => {
      const before = scene.stored ?? DOCUMENT;
      const { code, stdout, stderr, stored } = await runOnce(cleanUp, { stored: before, ...scene });
      assert.equal(code, 1, stdout + stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^Error: .*s3:\/\/(bucket|nowhere)\/job_executions\.v2\.json .*\n$/);
      assert.match(stderr, says);
      assert.equal(stored, before);
    });
  }
});

describe("adviseOnAws()", { concurrency: 8 }, () => {
  const cleanUp = makeCleanUp();

  /** What is said of the error that the SDK makes of an answer. */
  async function adviceOn(action: "read" | "upload", answer: Fault["answer"]) {
    const s3 = await startS3();
    cleanUp(s3.close);
    s3.faults.push({ times: 9, answer });
    const credentials = { accessKeyId: "stand-in", secretAccessKey: "stand-in-secret" };
    const place = { endpoint: s3.url, region: "us-east-1", forcePathStyle: true };
    const client = new S3Client({ ...place, credentials, maxAttempts: 1 });
    const object = { Bucket: "bucket", Key: KEY };
    const sent =
      action === "read"
        ? client.send(new GetObjectCommand(object))
        : client.send(new PutObjectCommand({ ...object, Body: "{}" }));
    const error = await sent.then(
      () => assert.fail("Nothing failed"),
      (error: unknown) => error,
    );
    const { reason, todo } = adviseOnAws(error, action, object.Bucket);
    return `${reason}; ${todo}`;
  }

  const NO_SSE = "Server Side Encryption with AES256 over an insecure connection is not supported";
  const CONDITIONS = /S3_CONDITIONAL_WRITES=off.*S3_SSE=none/;
  const ANSWERS: [title: string, action: "read" | "upload", answer: Fault["answer"], says: RegExp[]][] = [
    ["a read that is denied", "read", accessDenied, [/^S3 answered 403 AccessDenied: .*s3:ListBucket/]],
    ["an upload that is denied", "upload", accessDenied, [/^S3 answered 403 AccessDenied: .*s3:PutObject.*S3_SSE/]],
    [
      "a bucket whose quota is used up",
      "upload",
      s3Error(400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
      [/^S3 answered 400 XMinioAdminBucketQuotaExceeded: .*; free some space in the store$/],
    ],
    ["a disk that is full", "upload", s3Error(507, "StorageFull", "x"), [/^S3 answered 507 .*; free some space/]],
    ["a store that stays busy", "read", slowDown, [/^S3 answered 503 SlowDown: .*; wait a while$/]],
    ["a page of a proxy's", "read", html(404), [/^S3 answered 404 .*proxy/]],
    ["a page of a proxy's, of an upload", "upload", html(404), [/^S3 answered 404 .*proxy/]],
    [
      "a store without conditional writes",
      "upload",
      s3Error(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
      [/^S3 answered 501 NotImplemented: /, CONDITIONS],
    ],
    ["a store without encryption", "upload", s3Error(400, "InvalidRequest", NO_SSE), [/ 400 InvalidRe/, CONDITIONS]],
    ["a store that does not know If-Match", "upload", s3Error(400, "InvalidArgument", "x"), [/ 400 Inv/, CONDITIONS]],
    ["a bucket of another region", "read", s3Error(301, "PermanentRedirect", "x"), [/ 301 Perm.*; set AWS_REGION/]],
    ["a token that has expired", "read", s3Error(400, "ExpiredToken", "x"), [/ 400 Exp.*; check the AWS credentials/]],
    ["a key that is wrong", "read", s3Error(403, "SignatureDoesNotMatch", "x"), [/; check the AWS credentials/]],
    ["a clock that is wrong", "read", s3Error(403, "RequestTimeTooSkewed", "x"), [/ 403 Req.*; set the clock/]],
  ];
  for (const [title, action, answer, patterns] of ANSWERS) {
    test(`says what to do about ${title}`, async () => {
      const advice = await adviceOn(action, answer);
      for (const pattern of patterns) assert.match(advice, pattern);
    });
  }
});

for (const [title, text] of [
  ["that is there", DOCUMENT],
  ["that is not there yet", undefined],
] as const) {
  test(`a document ${title}, in a store that refuses each version, is given up with an error of both causes`, async () => {
    const { store } = memoryStore(text);
    let uploads = 0;
    const waits: number[] = [];
    const write = async () => {
      uploads++;
      return false;
    };
    const pause = async (ms: number) => void waits.push(ms);
    await assert.rejects(runOf([failed("unit tests")], {}, { store: { ...store, write }, pause }), {
      message:
        /^Cannot upload job executions to the store in memory: it was refused 20 times, .*other.*its own version: set S3_CONDITIONAL_WRITES=off$/,
    });
    assert.equal(uploads, 20);
    assert.ok(waits.every((ms) => ms >= 0 && ms <= 2_000) && new Set(waits).size > 1, `${waits}`);
  });
}

describe("a document in S3, for a role by the token of the CI,", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  /** Runs a report as a role, with a stand-in for AWS's STS that gives this answer, or else what is asked for. */
  async function reportAs(answer: Fault["answer"] | undefined, env: Variables = {}) {
    const [s3, sts] = await Promise.all([startS3(), startSts()]);
    const folder = makeFolder({ token: "a-token-of-the-ci" });
    for (const end of [s3.close, sts.close, folder.remove]) cleanUp(end);
    s3.objects.set(KEY, Buffer.from(DOCUMENT));
    if (answer) sts.faults.push({ times: 9, answer });
    const role = roleVariables(sts.url, join(folder.path, "token"));
    const result = await run(["report"], { ...s3Variables(s3.url), ...role, ...env });
    return { ...result, s3, sts };
  }

  test("is read with the credentials that STS gives for the token", async () => {
    const { code, stderr, s3, sts } = await reportAs(undefined);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(`${sts.requests[0]?.body}`, /WebIdentityToken=a-token-of-the-ci/);
    assert.match(`${s3.requests[0]?.headers.authorization}`, new RegExp(`Credential=${ROLE_KEY}/`));
  });

  const ROLE = /check AWS_ROLE_ARN, the trust policy .*\(aud\)/;
  const STS_FAILURES: [title: string, answer: Fault["answer"], env: Variables, says: RegExp[]][] = [
    [
      "that it may not assume",
      stsError(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
      {},
      [/AWS's STS answered 403 AccessDenied: Not authorized/, ROLE],
    ],
    [
      "by a token for another audience",
      stsError(400, "InvalidIdentityToken", "Incorrect token audience"),
      {},
      [/AWS's STS answered 400 InvalidIdentityToken\w*: Incorrect token audience/, ROLE],
    ],
    [
      "by a token that has expired",
      stsError(400, "ExpiredTokenException", "Token expired: current date/time must be before the expiration"),
      {},
      [/AWS's STS answered 400 ExpiredTokenException: Token expired/, ROLE],
    ],
    [
      "by a file that is not there",
      answerWith(500),
      { AWS_WEB_IDENTITY_TOKEN_FILE: "/nowhere/token" },
      [/AWS's STS: .*\/nowhere\/token/, /AWS_ROLE_ARN.* the file that AWS_WEB_IDENTITY_TOKEN_FILE names$/m],
    ],
    [
      "while STS is down",
      stsError(500, "InternalFailure", "The request processing has failed"),
      {},
      [/AWS's STS answered 500 InternalFailure/, /^(?!.*policy).*wait a while/],
    ],
    [
      "while nobody listens at the address of STS",
      answerWith(500),
      { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:1" },
      [/AWS's STS: .*ECONNREFUSED/, /^(?!.*AWS_ACCESS_KEY_ID).*network/],
    ],
  ];
  for (const [title, answer, env, says] of STS_FAILURES) {
    test(`${title}: names STS, not S3, and what to do, once`, { timeout: 60_000 }, async () => {
      const { code, stdout, stderr, s3 } = await reportAs(answer, env);
      assert.deepEqual([code, stdout], [1, ""]);
      assert.match(stderr, /^Error: Cannot read job executions from s3:\/\/bucket\/.*\n$/);
      for (const pattern of says) assert.match(stderr, pattern);
      assert.doesNotMatch(stderr, /: S3|s3:GetObject|a-token-of-the-ci/);
      assert.equal(stderr.split("AWS's STS").length, 2);
      assert.deepEqual(s3.requests, []);
    });
  }
});

for (const variable of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) {
  test(`a run whose ${variable} ends in a line break ends at once, and names that variable alone`, async (t) => {
    const s3 = await startS3();
    t.after(s3.close);
    const { code, stdout, stderr } = await run(["report"], { ...s3Variables(s3.url), [variable]: "stand-in-key\n" });
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(
      stderr,
      new RegExp(`^Error: The environment is not valid.*\\n {2}${variable} must be .*line break.*\\n$`),
    );
    assert.doesNotMatch(stderr, /stand-in-key/);
    assert.deepEqual(s3.requests, []);
  });
}

const ARN = "arn:aws:s3:us-east-1:123456789012:accesspoint/my-ap";
for (const [url, ...parts] of [
  ["s3://bucket/folder/key.json", "bucket", "folder/key.json"],
  ["S3://bucket/ci/", "bucket", "ci/"],
  [`s3://${ARN}/folder/key.json`, ARN, "folder/key.json"],
  ["job_executions.v2.json"],
  ["/s3/key.json"],
  ["C:\\ci\\document.json"],
]) {
  test(`S3_URL takes ${url} for ${parts.length > 0 ? `a key in ${parts[0]}` : "a path"}`, () => {
    assert.deepEqual([...(S3_URL.exec(url ?? "") ?? [])].slice(1), parts);
  });
}

test("openS3() addresses an access point by its name, and a bucket at a custom endpoint by its path", () => {
  const { store } = settings({ AWS_ENDPOINT_URL_S3: "http://s3.example.com", AWS_REGION: "us-east-1" });
  const isPathStyle = (bucket: string) => openS3(store, bucket).config.forcePathStyle;
  assert.deepEqual([isPathStyle("bucket"), isPathStyle(ARN)], [true, false]);
});

test("an endpoint in AWS's own config file is not addressed path-style: the error says which variable to set", async (t) => {
  const folder = makeFolder({
    config: "[default]\nregion = us-east-1\nendpoint_url = http://s3.invalid\n",
    keys: "[default]\naws_access_key_id = a\naws_secret_access_key = b\n",
  });
  t.after(folder.remove);
  const { code, stderr } = await run(["report"], {
    JOB_EXECUTIONS_URL: `s3://ci-bucket/${KEY}`,
    AWS_CONFIG_FILE: `${folder.path}/config`,
    AWS_SHARED_CREDENTIALS_FILE: `${folder.path}/keys`,
    AWS_MAX_ATTEMPTS: "1",
  });
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^Error: Cannot read job executions from s3:.* ci-bucket\.s3\.invalid; set AWS_ENDPOINT_URL_S3.*\n$/,
  );
  assert.doesNotMatch(stderr, /check .*network/);
});

function latin1(response: Parameters<Fault["answer"]>[0]) {
  response.writeHead(200, { etag: '"latin1"' }).end(Buffer.from('{"jobs": {"é": 1}}', "latin1"));
}

// ── The stand-in and another implementation, held against what S3 is documented to do.

type Ask = { method: string; path: string; headers?: Record<string, string>; body?: string };

const OLD = '{"version": "old"}';
const NEW = '{"version": "new"}';
const put = (path: string, body: string, headers = {}): Ask => ({ method: "PUT", path, headers, body });
const get = (path: string): Ask => ({ method: "GET", path });

/** Requests, one after the other, and what each is answered: its status, and its error or body. */
const CONFORMANCE: [title: string, asked: Ask[], answered: string[]][] = [
  ["GET of a missing object", [get("bucket/missing")], ["404 NoSuchKey"]],
  ["GET in a missing bucket", [get("nowhere/key")], ["404 NoSuchBucket"]],
  ["PUT in a missing bucket", [put("nowhere/key", NEW)], ["404 NoSuchBucket"]],
  [
    "PUT without a condition",
    [put("bucket/a", OLD), put("bucket/a", NEW), get("bucket/a")],
    ["200 ", "200 ", `200 ${NEW}`],
  ],
  [
    "PUT of what must not be there yet",
    [put("bucket/b", OLD, { "if-none-match": "*" }), put("bucket/b", NEW, { "if-none-match": "*" }), get("bucket/b")],
    ["200 ", "412 PreconditionFailed", `200 ${OLD}`],
  ],
  [
    "PUT in place of the version that is there",
    [put("bucket/c", OLD), put("bucket/c", NEW, { "if-match": etagOf(OLD) }), get("bucket/c")],
    ["200 ", "200 ", `200 ${NEW}`],
  ],
  [
    "PUT in place of another version",
    [put("bucket/d", OLD), put("bucket/d", NEW, { "if-match": etagOf(NEW) }), get("bucket/d")],
    ["200 ", "412 PreconditionFailed", `200 ${OLD}`],
  ],
  ["PUT in place of nothing", [put("bucket/e", NEW, { "if-match": etagOf(OLD) })], ["404 NoSuchKey"]],
];

async function answersOf(url: string, asked: Ask[]): Promise<string[]> {
  // Signed in form only, which neither server checks.
  const authorization =
    "AWS4-HMAC-SHA256 Credential=stand-in/20261123/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
  const answers: string[] = [];
  for (const { method, path, headers, body } of asked) {
    const init = { method, headers: { authorization, ...headers }, ...(body !== undefined && { body }) };
    const response = await fetch(`${url}/${path}`, init);
    const text = await response.text();
    answers.push(`${response.status} ${/<Code>(.*)<\/Code>/.exec(text)?.[1] ?? text}`);
  }
  return answers;
}

for (const [server, startStore] of [
  ["the stand-in", startS3],
  ["moto_server", startMoto],
] as const) {
  test(`${server} answers as S3 does`, async (t) => {
    const s3 = await startStore({ bucket: "bucket" });
    if (!s3) return t.skip("moto_server is not installed");
    t.after(s3.close);
    for (const [title, asked, answered] of CONFORMANCE)
      assert.deepEqual(await answersOf(s3.url, asked), answered, title);
  });
}

test("several runs against moto_server leave a document that the aws client reads", async (t) => {
  const moto = await startMoto({ bucket: "bucket" });
  if (!moto) return t.skip("moto_server is not installed");
  t.after(moto.close);
  const folder = makeFolder({
    "failed.json": [listedFailed("unit tests", { id: 105 })],
    "passed.json": [listedPassed("unit tests")],
  });
  t.after(folder.remove);
  const variables = s3Variables(moto.url);
  for (const [id, file] of [
    ["1005", "failed.json"],
    ["1004", "failed.json"],
    ["1006", "passed.json"],
  ]) {
    const { code, stderr } = await run([], { ...variables, CI_PIPELINE_ID: id, PIPELINE_JOBS_FILE: file }, folder.path);
    assert.deepEqual([code, stderr], [0, ""]);
  }
  const args = ["--endpoint-url", moto.url, "s3", "cp", `s3://bucket/${KEY}`, "-"];
  const read = promisify(execFile)("aws", args, { env: { PATH: process.env.PATH, ...variables } });
  const copy = await read.catch((error) => (error.code === "ENOENT" ? undefined : Promise.reject(error)));
  if (!copy) return t.skip("aws is not installed");
  const { pipeline_id, jobs } = JSON.parse(copy.stdout);
  assert.equal(pipeline_id, 1006);
  assert.deepEqual(jobs["unit tests"].jobs_info, [
    { id: 105, failing: true, commit: "0ddba11", pipeline: 1005 },
    { id: null, failing: false, commit: "0ddba11", pipeline: 1006 },
  ]);
});
