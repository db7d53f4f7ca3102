/**
 * check-failures: alerts the owners of a CI job that fails consistently. Run it as the last job of a pipeline:
 *
 *   tsx check-failures.ts            count this pipeline, alert, store
 *   tsx check-failures.ts report     print the stored document as a table
 *
 * One JSON document, in S3 or in a local file, keeps how each job did in the last pipelines. Three failures in a row,
 * or five in the last ten executions, are an alert. README.md shows one, and how to set this up in GitLab CI.
 *
 * From top to bottom: the document, the environment, the story, the store, the pipeline's jobs, the statistics,
 * the routing, the messages, the delivery, the table, the command line. Only the last one prints, reads the environment
 * and ends the process.
 */
import { existsSync, realpathSync } from "node:fs";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import type { IncomingHttpHeaders } from "node:http";
import { text as readStream } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs, styleText } from "node:util";
import { GetObjectCommand, PutObjectCommand, S3Client, type S3ServiceException } from "@aws-sdk/client-s3";
import * as v from "valibot";

const DAY_MS = 86_400_000;
const CLAIM_MS = 300_000; // a pending alert may be claimed again after this: longer than any run lives
const RUN_TIMEOUT_MS = 90_000;
const CLEAR_TIMEOUT_MS = 20_000; // on top of the run's: what was sent must still be noted
const REQUEST_TIMEOUT_MS = 20_000; // of one request, until its answer has been read
const TITLES_TIMEOUT_MS = 3_000; // titles are for the looks of a message, which does not wait for them
const MAX_RETRY_AFTER_MS = 30_000;
const MAX_ATTEMPTS = 3; // of one request
const MAX_UPLOADS = 20; // of a document that other runs store at the same time
const MAX_MESSAGE_LENGTH = 3_900;
const MAX_TABLE_ROWS = 500; // GitLab cuts a job's log at 4 MB

// Circles in red, orange and green, a cross, a dot, an arrow. Escaped, because a file that is all ASCII loads faster: in
// 222 instead of 238 ms for a whole run under Node 24 without tsx.
const SIGNS = {
  ...{ consecutive: "\u{1f534}", cumulative: "\u{1f7e0}", recovered: "\u{1f7e2}" },
  ...{ failed: "\u2717", passed: "\u00b7", to: "\u2192" },
};

// --- The document: what is stored between two pipelines. Format and names are those of DataDog's job_executions.v2.json.

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Timestamp = v.pipe(
  v.string(),
  v.check((value) => !Number.isNaN(Date.parse(value)), "Expected a time, e.g. 2026-11-23T10:00:00Z"),
);

/** One run of a job: `id` is null where it passed, `commit` where it did not really run. */
export type Execution = { id: number | null; failing: boolean; commit?: string | null };

// A predicate, where v.object would copy each entry: at 100,000 jobs that is a seventh of the time and memory.
const Execution = v.custom<Execution>(
  (value) =>
    isObject(value) &&
    (value.id === null || Number.isSafeInteger(value.id)) &&
    typeof value.failing === "boolean" &&
    (value.commit === undefined || value.commit === null || typeof value.commit === "string"),
  "Expected an execution: {id: integer or null, failing: boolean, commit: string or null}",
);

const OpenAlert = v.looseObject({
  kind: v.picklist(["consecutive", "cumulative"]),
  pipeline_id: Count,
  at: Timestamp,
});

const TrackedJob = v.pipe(
  v.looseObject({
    consecutive_failures: Count,
    jobs_info: v.optional(v.array(Execution)),
    cumulative_failures: v.optional(v.array(Execution)), // the older name of jobs_info
    last_run: v.optional(Timestamp),
    alert: v.optional(OpenAlert),
  }),
  v.check((job) => (job.jobs_info ?? job.cumulative_failures) !== undefined, "Expected an array jobs_info"),
  v.transform(({ cumulative_failures, jobs_info = cumulative_failures ?? [], ...job }) => ({ ...job, jobs_info })),
);
/** The history of a job: its window, oldest execution first, and its alert while that is open. */
export type TrackedJob = v.InferOutput<typeof TrackedJob>;

const PendingAlert = v.object({ channel: v.nullable(v.string()), text: v.string(), claimed_at: Timestamp });
/** A message that is ready to be sent; the run that claimed it last is sending it. */
export type PendingAlert = v.InferOutput<typeof PendingAlert>;

const JobExecutions = v.pipe(
  v.custom<Record<string, unknown>>(isObject, "Expected an object"),
  v.looseObject({
    pipeline_id: v.optional(Count, 0),
    // Through a Map, because v.record drops jobs that are named `constructor` or `__proto__`.
    jobs: v.pipe(
      v.custom<Record<string, unknown>>(isObject, "Expected an object of jobs"),
      v.transform((jobs) => new Map(Object.entries(jobs))),
      v.map(v.string(), TrackedJob),
    ),
    pending_alerts: v.optional(v.array(PendingAlert), []),
  }),
);
/** The document in memory. Keys that it does not know are kept. */
export type JobExecutions = v.InferOutput<typeof JobExecutions>;

/** Throws an error that names `source` and the path of the first fault. */
function validate<T extends v.GenericSchema>(schema: T, value: unknown, source: string): v.InferOutput<T> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new Error(`${source} is not valid at ${v.getDotPath(issue) ?? "its top"}: ${issue.message}`);
}

function parseJson<T extends v.GenericSchema>(schema: T, text: string, source: string): v.InferOutput<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = (error as Error).message.replace(/[\s,.]*".*/s, ""); // without the quotation: it may hold a secret
    throw new Error(`${source} is not JSON: ${reason}`, { cause: error });
  }
  return validate(schema, value, source);
}

const decodeUtf8 = (bytes: Uint8Array) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);

async function readText(path: string): Promise<string> {
  try {
    return decodeUtf8(await readFile(path));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

// --- The environment: each variable, what it must look like, its default. README.md says what they mean.

const SECRETS = [
  "GITLAB_TOKEN",
  "CI_JOB_TOKEN",
  "SLACK_API_TOKEN",
  "SLACK_WEBHOOK_URL",
  "DD_API_KEY",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
];

const isHttpUrl = (value: string) => /^https?:\/\/[^\s/@]+([/?#]\S*)?$/i.test(value) && URL.canParse(value);

const matching = (pattern: RegExp, expected: string) => v.pipe(v.string(), v.regex(pattern, expected));
const word = (expected: string) => v.optional(matching(/^\S+$/, expected));
const anything = v.optional(v.string());
const secret = v.optional(
  matching(/^[\x21-\x7e]+$/, "a token without spaces or line breaks, e.g. glpat-... or xoxb-..."),
);
const integer = (expected: string) =>
  v.pipe(matching(/^\d+$/, expected), v.transform(Number), v.safeInteger(expected), v.minValue(1, expected));
const count = (usual: string) => v.optional(integer(`a positive integer, e.g. ${usual}`), usual);
const oneOf = <T extends string>(usual: T, ...others: T[]) =>
  v.optional(v.picklist([usual, ...others], [usual, ...others].join(" or ")), usual);
const httpUrl = (example: string) =>
  v.pipe(v.string(), v.check(isHttpUrl, `an http or https URL without a password, e.g. ${example}`));
const baseUrl = (example: string) =>
  v.pipe(
    httpUrl(example),
    v.transform((url) => url.replace(/\/+$/, "")),
  );

const HISTORY_EXAMPLE = "https://ci.example.com/?job={job}";

const Environment = v.object({
  // Required, as the default "" is valid for neither: a missing one reads like a wrong one.
  CI_PIPELINE_ID: v.optional(integer("a pipeline's id, a positive integer, e.g. 1005"), ""),
  CI_COMMIT_SHA: v.optional(matching(/^[0-9a-f]{7,64}$/i, "a commit's SHA, 7 to 64 hex digits, e.g. 0ddba11"), ""),
  CI_COMMIT_BRANCH: anything,
  CI_API_V4_URL: v.optional(baseUrl("https://gitlab.example.com/api/v4")),
  CI_PROJECT_ID: word("a project's id, e.g. 4242"),
  CI_PROJECT_URL: v.optional(baseUrl("https://gitlab.example.com/acme/shop")),
  CI_PROJECT_PATH: word("a project's path, e.g. acme/shop"),
  GITLAB_TOKEN: secret,
  CI_JOB_TOKEN: secret,
  PIPELINE_JOBS_FILE: anything,
  JOB_EXECUTIONS_URL: v.optional(
    matching(
      /^(s3:\/\/[^/]+\/.+|file:(\/\/)?\/[^/].*|(?!s3:|file:|[a-z][a-z0-9+.-]*:\/\/).+)$/i,
      "s3://bucket/key, a path or a file: URL, e.g. s3://ci-bucket/job_executions.v2.json",
    ),
    "job_executions.v2.json",
  ),
  S3_SSE: oneOf("AES256", "aws:kms", "aws:kms:dsse", "none"),
  S3_CONDITIONAL_WRITES: oneOf("on", "off"),
  AWS_ENDPOINT_URL: v.optional(httpUrl("https://s3.example.com")),
  AWS_ENDPOINT_URL_S3: v.optional(httpUrl("https://s3.example.com")),
  CONSECUTIVE_THRESHOLD: count("3"),
  CUMULATIVE_THRESHOLD: count("5"),
  CUMULATIVE_LENGTH: count("10"),
  RECOVERY_THRESHOLD: count("3"),
  NOT_RUN_JOBS: oneOf("keep", "pass"),
  EXPIRE_AFTER_DAYS: count("30"),
  SLACK_API_TOKEN: secret,
  SLACK_CHANNEL: word("a channel, e.g. #ci-alerts"),
  SLACK_WEBHOOK_URL: v.optional(httpUrl("https://hooks.slack.com/services/T0/B0/x")),
  SLACK_API_URL: v.optional(baseUrl("https://slack.com/api"), "https://slack.com/api"),
  JOB_OWNERS_FILE: anything,
  OWNER_CHANNELS_FILE: anything,
  JOB_HISTORY_URL: v.optional(
    v.pipe(httpUrl(HISTORY_EXAMPLE), v.includes("{job}", `a URL with {job} in it, e.g. ${HISTORY_EXAMPLE}`)),
  ),
  DD_API_KEY: secret,
  DD_SITE: v.optional(matching(/^[a-z0-9.-]+(:\d+)?$/i, "a host name, e.g. datadoghq.com"), "datadoghq.com"),
});
export type Environment = v.InferOutput<typeof Environment>;

type Variables = Record<string, string | undefined>;

/**
 * Validates environment variables; an empty one counts as unset, and `placeholders` stand in for unset ones.
 * Throws one error with all that is wrong, each with its name, what is expected and an example, but never with a value:
 * any of them may be a misplaced secret.
 */
export function parseEnvironment(variables: Variables, placeholders: Variables = {}): Environment {
  const given = Object.fromEntries(Object.entries(variables).filter(([, value]) => value));
  const set: Variables = { ...v.getDefaults(Environment), ...placeholders, ...given };
  const isLonger = (name: string) => Number(set[name]) > Number(set.CUMULATIVE_LENGTH);
  const fromFile = set.PIPELINE_JOBS_FILE;
  const rules: [isBroken: unknown, problem: string][] = [
    [!fromFile && !set.CI_API_V4_URL, "CI_API_V4_URL must be set, e.g. to https://gitlab.example.com/api/v4"],
    [!fromFile && !set.CI_PROJECT_ID, "CI_PROJECT_ID must be set, e.g. to 4242"],
    [!fromFile && !set.GITLAB_TOKEN && !set.CI_JOB_TOKEN, "GITLAB_TOKEN must be set, e.g. to a token with read_api"],
    [
      !set.SLACK_API_TOKEN !== !set.SLACK_CHANNEL,
      "SLACK_API_TOKEN and SLACK_CHANNEL must be set together, e.g. xoxb-... and #ci",
    ],
    [
      set.SLACK_API_TOKEN && set.SLACK_WEBHOOK_URL,
      "SLACK_API_TOKEN and SLACK_WEBHOOK_URL must not both be set, e.g. only the first",
    ],
    [isLonger("CUMULATIVE_THRESHOLD"), "CUMULATIVE_THRESHOLD must be at most CUMULATIVE_LENGTH, e.g. 5 and 10"],
    [isLonger("RECOVERY_THRESHOLD"), "RECOVERY_THRESHOLD must be at most CUMULATIVE_LENGTH, e.g. 3 and 10"],
  ];
  const result = v.safeParse(Environment, set);
  const problems = (result.issues ?? []).map((issue) => {
    const variable = v.getDotPath(issue) ?? "";
    return `${variable} must be ${issue.message}${given[variable] ? "" : " (it is not set)"}`;
  });
  problems.push(...rules.filter(([isBroken]) => isBroken).map(([, problem]) => problem));
  if (result.success && problems.length === 0) return result.output;
  throw new Error(`The environment is not valid: ${problems.join("; ")}`);
}

// --- The story: what a run does, step by step.

/** What a run talks to. `now` is the time of the whole run; `signal` ends every request when that has taken too long. */
export type Edges = {
  store: Store;
  send: (alert: PendingAlert, signal: AbortSignal) => Promise<void>;
  pause: (ms: number) => Promise<unknown>;
  now: Date;
  signal: AbortSignal;
};

export type Message = { channel: string | null; text: string; delivered: boolean; error?: string };

/** What a run did: the document as it was read (`before`) and as it was stored, and who was told what. */
export type Run = Update & {
  outcome: "counted" | "already-counted" | "out-of-order";
  before: JobExecutions;
  routes: Routes;
  claimed: PendingAlert[];
  messages: Message[];
  warnings: string[];
  errors: string[];
};

/**
 * Counts a pipeline, stores the document and sends the alerts; with `dryRun`, only computes all that.
 * The upload that counts also records the alerts as pending, and another one clears those that were sent, so that a run
 * may die anywhere. Throws where nothing was counted; what fails after that is in the `errors` of the run.
 */
export async function checkConsistentFailures(env: Environment, edges: Edges, dryRun = false): Promise<Run> {
  const owners = await readOwners(env);
  const listJobs = startListing(env, edges.signal); // GitLab answers while the store does
  const claimedAt = toClaim(edges.now);

  const run = await untilStored(edges, async (unconfirmed: Run | undefined) => {
    const stored = await retrieveJobExecutions(edges);
    const before = stored?.document ?? createInitialJobExecutions();
    if (unconfirmed && wasStored(unconfirmed, before)) return { result: unconfirmed };

    if (before.pipeline_id > env.CI_PIPELINE_ID) return { result: bypass(before) };

    const isNew = before.pipeline_id < env.CI_PIPELINE_ID;
    const update = isNew ? updateStatistics(before, await listJobs(before), env, edges.now) : keepStatistics(before);
    const routing = routeAlerts(update.alerts, owners, env);
    const claim = claimAlerts(update.document, await writeMessages(routing.routes, env, edges), env, claimedAt);
    const warnings = [...routing.warnings, ...claim.warnings];
    const outcome = isNew ? "counted" : "already-counted";
    const result: Run = { ...bypass(before), outcome, ...update, ...routing, ...claim, warnings };
    if (dryRun || (!isNew && claim.claimed.length === 0)) return { result };
    return { result, upload: await uploadJobExecutions(result.document, stored?.version, edges) };
  });
  if (dryRun || run.claimed.length === 0) return run;

  const metrics = sendMetrics(run.alerts, owners, env, edges);
  const messages = await sendNotification(run.claimed, edges);
  const errors = [...describeUndelivered(messages, edges.now), ...(await clearAlerts(run.claimed, messages, edges))];
  return { ...run, messages, warnings: [...run.warnings, ...(await metrics)], errors };
}

/** The run of a pipeline that is older than the stored one: nothing is counted, sent or written. */
const bypass = (before: JobExecutions): Run => ({
  ...keepStatistics(before),
  outcome: "out-of-order",
  before,
  routes: new Map(),
  claimed: [],
  messages: [],
  warnings: [],
  errors: [],
});

/**
 * Repeats an attempt to read, change and upload the document until no other run stored it in between. The attempt is
 * given its previous result where the store may have taken that in spite of the conflict that it answered.
 */
async function untilStored<T>(
  { store, pause }: Pick<Edges, "store" | "pause">,
  attempt: (unconfirmed: T | undefined) => Promise<{ result: T; upload?: Upload }>,
): Promise<T> {
  let unconfirmed: T | undefined;
  for (let tries = 1; tries <= MAX_UPLOADS; tries++) {
    const { result, upload } = await attempt(unconfirmed);
    if (!upload?.conflict) return result;
    unconfirmed = upload.mayBeOwn ? result : undefined;
    await pause(Math.random() * Math.min(100 * 2 ** tries, 2_000));
  }
  const what = `Cannot upload job executions to ${store.source}: others did it first, ${MAX_UPLOADS} times`;
  throw new Error(`${what}; retry this job, and give it a resource_group`);
}

/** Whether `document` holds what `run` uploaded, even if others have stored it since: its alerts, or else its pipeline. */
const wasStored = (run: Run, document: JobExecutions) =>
  run.claimed.length > 0
    ? run.claimed.every((claimed) => document.pending_alerts.some((alert) => isSameAlert(alert, claimed)))
    : run.document.pipeline_id === document.pipeline_id;

// --- The store: an object in S3, or a local file. An upload names the version that was read, so that none is overwritten.

export type Upload = { conflict: false } | { conflict: true; mayBeOwn: boolean };

/** Where the document is stored: `read` resolves to undefined where there is none yet, `write` replaces `version` only. */
export type Store = {
  source: string;
  read: (signal: AbortSignal) => Promise<{ json: unknown; version: string } | undefined>;
  write: (body: Uint8Array, version: string | undefined, signal: AbortSignal) => Promise<Upload>;
};

/** Reads the stored document; undefined where there is none. Throws where it can't be read or is not valid. */
export async function retrieveJobExecutions({ store, signal }: Pick<Edges, "store" | "signal">) {
  const stored = await store.read(signal);
  return stored && { document: validate(JobExecutions, stored.json, store.source), version: stored.version };
}

/** The document before the first pipeline. */
export function createInitialJobExecutions(): JobExecutions {
  return { pipeline_id: 0, jobs: new Map(), pending_alerts: [] };
}

/** Stores the document if `version` (undefined: none) is still the stored one. Throws where it can't be written. */
export function uploadJobExecutions(
  document: JobExecutions,
  version: string | undefined,
  { store, signal }: Pick<Edges, "store" | "signal">,
): Promise<Upload> {
  return store.write(encode(document), version, signal);
}

/** As JSON, job by job: a text of 56 MB would be in memory three times before it is on its way. */
function encode({ jobs, pending_alerts, ...others }: JobExecutions): Uint8Array {
  const head = JSON.stringify(pending_alerts.length > 0 ? { ...others, pending_alerts } : others);
  const parts = [Buffer.from(`${head.slice(0, -1)},"jobs":{`)];
  for (const [name, job] of jobs) {
    parts.push(Buffer.from(`${parts.length > 1 ? "," : ""}${JSON.stringify(name)}:${JSON.stringify(job)}`));
  }
  return Buffer.concat([...parts, Buffer.from("}}")]);
}

/** The store that `JOB_EXECUTIONS_URL` names. Throws where a file: URL is not a local path. */
export function openStore(env: Environment): Store {
  const [, bucket, key] = /^s3:\/\/([^/]+)\/(.+)$/is.exec(env.JOB_EXECUTIONS_URL) ?? [];
  if (bucket && key) return s3Store(env, bucket, key);
  return fileStore(
    /^file:/i.test(env.JOB_EXECUTIONS_URL) ? fileURLToPath(env.JOB_EXECUTIONS_URL) : env.JOB_EXECUTIONS_URL,
  );
}

function s3Store(env: Environment, Bucket: string, Key: string): Store {
  const endpoint = env.AWS_ENDPOINT_URL_S3 ?? env.AWS_ENDPOINT_URL;
  const source = endpoint ? `${env.JOB_EXECUTIONS_URL} at ${new URL(endpoint).host}` : env.JOB_EXECUTIONS_URL;
  const client = new S3Client({
    forcePathStyle: endpoint !== undefined,
    requestChecksumCalculation: "WHEN_REQUIRED", // older stores choke on the CRC32 of the default
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: 5_000,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      // A connection each: on a reused one Deno sends a PUT again by itself, and an echo could not be told from a conflict.
      httpAgent: { keepAlive: false },
      httpsAgent: { keepAlive: false },
    },
  });
  // The version that an upload named and that should be gone, and what to do where the store still holds it.
  let doubted: { version: string | undefined; hint: string } | undefined;

  const get = async (abortSignal: AbortSignal) => {
    try {
      const { Body, ETag = "" } = await client.send(new GetObjectCommand({ Bucket, Key }), { abortSignal });
      const decoder = new TextDecoder("utf-8", { fatal: true });
      let text = "";
      for await (const chunk of Body as AsyncIterable<Uint8Array>) text += decoder.decode(chunk, { stream: true });
      return { text: text + decoder.decode(), version: ETag };
    } catch (error) {
      if ((error as Error).name === "NoSuchKey") return undefined; // by name: there may be two copies of the SDK
      throw new Error(`Cannot read job executions from ${source}: ${explainS3Error(error, abortSignal)}`, {
        cause: error,
      });
    }
  };
  return {
    source,
    async read(signal) {
      const found = await get(signal);
      if (doubted && doubted.version === found?.version) {
        throw new Error(`Cannot upload job executions to ${source}: it still holds what it had; ${doubted.hint}`);
      }
      return found && { json: parseJson(v.unknown(), found.text, source), version: found.version };
    },
    async write(Body, version, signal) {
      const condition = version === undefined ? { IfNoneMatch: "*" } : { IfMatch: version };
      const command = new PutObjectCommand({
        ...{ Bucket, Key, Body, ContentType: "application/json" },
        ...(env.S3_SSE === "none" ? {} : { ServerSideEncryption: env.S3_SSE }),
        ...(env.S3_CONDITIONAL_WRITES === "on" ? condition : {}),
      });
      try {
        const { ETag } = await client.send(command, { abortSignal: signal });
        if (ETag) return { conflict: false };
        doubted = { version, hint: "check AWS_ENDPOINT_URL_S3, and whether a proxy answered instead" };
        return { conflict: true, mayBeOwn: true };
      } catch (error) {
        const { name, $metadata } = error as S3ServiceException;
        const { httpStatusCode: status, attempts = 1 } = $metadata ?? {};
        if (status !== 412 && status !== 409 && name !== "NoSuchKey") {
          const reason = explainS3Error(error, signal);
          throw new Error(`Cannot upload job executions to ${source}: ${reason}`, { cause: error });
        }
        const hint = "it compares versions wrongly: set S3_CONDITIONAL_WRITES=off";
        doubted = status === 412 ? { version, hint } : undefined;
        return { conflict: true, mayBeOwn: attempts > 1 };
      }
    },
  };
}

type Hints = [pattern: RegExp, hint: string][];

const S3_HINTS: Hints = [
  [/NoSuchBucket/, "check JOB_EXECUTIONS_URL"],
  [/InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken/, "check the AWS credentials"],
  [/credentials/, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role"],
  [/region|PermanentRedirect|AuthorizationHeaderMalformed/i, "set AWS_REGION to the region of the bucket"],
  [/answered 501/, "set S3_CONDITIONAL_WRITES=off if the store lacks conditional writes, S3_SSE=none if encryption"],
  [/answered 403/, "allow s3:GetObject and s3:PutObject, and s3:ListBucket: without it, a missing object is a 403 too"],
  [/answered 400 .*(encrypt|InvalidArgument|InvalidRequest)/i, "set S3_SSE=none if the store lacks encryption"],
  [/answered [2-4]\d\d/, "check AWS_ENDPOINT_URL_S3, and whether a proxy answered instead"],
  [/./, "check the network and AWS_ENDPOINT_URL_S3"],
];

/** A reason, and what to do about it. */
const withHint = (reason: string, hints: Hints) =>
  [reason, hints.find(([pattern]) => pattern.test(reason))?.[1]].filter(Boolean).join("; ");

function explainS3Error(error: unknown, signal: AbortSignal): string {
  const { name, message, $metadata } = error as S3ServiceException;
  const what = signal.aborted ? "no complete answer in time" : (message.split("\n", 1)[0] ?? "");
  return withHint(
    $metadata?.httpStatusCode ? `it answered ${$metadata.httpStatusCode} ${name}: ${what}` : what,
    S3_HINTS,
  );
}

function fileStore(path: string): Store {
  const read = async () => {
    try {
      const text = await readText(path);
      return { json: parseJson(v.unknown(), text, path), version: text };
    } catch (error) {
      if ((error as { cause?: NodeJS.ErrnoException }).cause?.code === "ENOENT") return undefined;
      throw error;
    }
  };
  return {
    source: path,
    read,
    async write(body, version) {
      if ((await read())?.version !== version) return { conflict: true, mayBeOwn: false };
      const temporary = `${path}.${crypto.randomUUID()}.tmp`;
      try {
        await writeFile(temporary, body);
        await rename(temporary, path); // whole or not at all
        return { conflict: false };
      } catch (error) {
        throw new Error(`Cannot write ${path}: ${(error as Error).message}`, { cause: error });
      } finally {
        await rm(temporary, { force: true });
      }
    },
  };
}

// --- The pipeline's jobs: read from GitLab, or from a file of the same shape.

const PipelineJob = v.object({
  id: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  name: v.pipe(v.string(), v.nonEmpty()),
  status: v.string(),
  allow_failure: v.optional(v.boolean(), false),
  // For the looks of a message, which they do not stop.
  web_url: v.fallback(v.optional(v.pipe(v.string(), v.check(isHttpUrl))), undefined),
  commit: v.fallback(v.optional(v.object({ title: v.string() })), undefined),
});
export type PipelineJob = v.InferOutput<typeof PipelineJob>;
const PipelineJobs = v.array(PipelineJob);

/**
 * Starts to list the failed jobs. The function that it returns resolves to these and, only where the document tracks a
 * job that is not among them, to the succeeded jobs too: on most days one request is all.
 */
function startListing(env: Environment, signal: AbortSignal) {
  const failed = listPipelineJobs(env, "failed", signal);
  failed.catch(() => {}); // thrown where the jobs are awaited, which a run that is out of order never does
  let succeeded: Promise<PipelineJob[]> | undefined;
  return async ({ jobs }: JobExecutions): Promise<PipelineJob[]> => {
    const failedNames = new Set((await failed).map((job) => job.name));
    if ([...jobs.keys()].every((name) => failedNames.has(name))) return failed;
    succeeded ??= listPipelineJobs(env, "success", signal);
    return [...(await failed), ...(await succeeded)];
  };
}

async function listPipelineJobs(env: Environment, scope: string, signal: AbortSignal): Promise<PipelineJob[]> {
  if (env.PIPELINE_JOBS_FILE) {
    return parseJson(PipelineJobs, await readText(env.PIPELINE_JOBS_FILE), env.PIPELINE_JOBS_FILE);
  }
  const path = `/pipelines/${env.CI_PIPELINE_ID}/jobs?scope[]=${scope}&per_page=100`;
  const readPage = async (page: number) => {
    const { body, headers } = await askGitLab(env, `${path}&page=${page}`, signal);
    const linked = /[?&]page=(\d+)[^<>]*>;\s*rel="?next/.exec(String(headers.link))?.[1];
    return {
      jobs: parseJson(PipelineJobs, body, `GitLab's list of jobs with scope ${scope}`),
      next: Number(headers["x-next-page"] || linked || 0),
      total: Number(headers["x-total-pages"] || 1), // absent above 10,000 jobs
    };
  };
  const first = await readPage(1);
  const rest = Array.from({ length: Math.min(first.total, 100) - 1 }, (_, i) => readPage(i + 2));
  const pages = [first, ...(await Promise.all(rest))];
  for (let last = pages.at(-1); last && last.next > pages.length; last = pages.at(-1)) {
    pages.push(await readPage(pages.length + 1));
  }
  return pages.flatMap((page) => page.jobs);
}

/** GETs a path below the project. Throws, with what to do, where GitLab refuses. */
async function askGitLab(env: Environment, path: string, signal: AbortSignal): Promise<Answer> {
  const base = `${env.CI_API_V4_URL}/projects/${encodeURIComponent(env.CI_PROJECT_ID ?? "")}`;
  const peer = `GitLab at ${new URL(base).host}`;
  const headers: Record<string, string> = env.GITLAB_TOKEN
    ? { "private-token": env.GITLAB_TOKEN }
    : { "job-token": env.CI_JOB_TOKEN ?? "" };
  const answer = await request(peer, base + path, { method: "GET", headers }, signal);
  if (answer.status === 200) return answer;
  const hint =
    answer.status === 401 || answer.status === 403
      ? "set GITLAB_TOKEN to a valid token with read_api (CI_JOB_TOKEN may list jobs from GitLab 18 on)"
      : "check CI_API_V4_URL, CI_PROJECT_ID and CI_PIPELINE_ID, and that the token can see the project";
  throw new Error(
    `Cannot read ${path.split("?", 1)[0]} of project ${env.CI_PROJECT_ID}: ${peer} answered ${answer.status}; ${hint}`,
  );
}

type Request = { method: string; headers: Record<string, string>; body?: string };
type Answer = { status: number; headers: IncomingHttpHeaders; body: string };

const isTransient = ({ status }: Answer) => status === 429 || status >= 500;

/** A signal with a time limit. It holds its timeout, which Node 20 would else take for garbage and never fire. */
function within(ms: number, signal: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(ms);
  return Object.assign(AbortSignal.any([signal, timeout]), { timeout });
}

/**
 * One HTTP request, tried again where the network, the peer's load or an error of its own failed it. Resolves to any
 * other answer. Throws an error that names the peer, and never the URL, which may be a secret.
 */
async function request(
  peer: string,
  url: string,
  what: Request,
  signal: AbortSignal,
  isBusy: (answer: Answer) => boolean = isTransient,
): Promise<Answer> {
  let failure = "did not answer";
  for (let attempt = 1, waitMs = 0; attempt <= MAX_ATTEMPTS; attempt++) {
    const either = within(waitMs + REQUEST_TIMEOUT_MS, signal);
    try {
      if (waitMs > 0) await sleep(waitMs, undefined, { signal: either });
      waitMs = Math.ceil(500 * 2 ** attempt * Math.random());
      const answer = await exchange(url, what, either);
      if (!isBusy(answer)) return answer;
      failure = `answered ${answer.status}`;
      waitMs = Math.min(Math.ceil(Number(answer.headers["retry-after"]) * 1_000) || waitMs, MAX_RETRY_AFTER_MS);
    } catch (error) {
      if (signal.aborted) throw new Error(`${peer} ${failure}, and the time of this run is up`, { cause: error });
      const { code, message } = error as NodeJS.ErrnoException;
      failure = either.aborted ? "did not answer in time" : `is unreachable (${message || code})`;
    }
  }
  throw new Error(`${peer} ${failure}, ${MAX_ATTEMPTS} times; check its address and the network, or try again later`);
}

/**
 * Not by fetch, whose loading alone is a tenth of a run, which follows redirects with the token in its headers, and
 * which under Deno sends a POST again by itself when a reused connection is reset: here, each has its own.
 */
function exchange(url: string, { method, headers, body }: Request, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    // Not imported: Node 24 loads WebSocket, and with it fetch, for whoever imports node:http.
    const { request } = process.getBuiltinModule(url.startsWith("https:") ? "node:https" : "node:http");
    const sent = request(url, { method, headers, signal, agent: false }, (response) => {
      const { statusCode: status = 0, headers } = response;
      readStream(response).then((body) => resolve({ status, headers, body }), reject);
    });
    sent.on("error", reject).end(body);
  });
}

// --- The statistics: pure; how each job did, and what that means for its alert. A threshold is reached when equalled.

export type Kind = "consecutive" | "cumulative" | "recovered";

/** The jobs that reached a threshold, each with the ids of all failing executions in its window, and the recovered. */
export type Reached = { consecutive: Map<string, number[]>; cumulative: Map<string, number[]>; recovered: string[] };

/** What is to be told of a job: its history after this pipeline, since when its alert is open, its latest attempt. */
export type Alert = { kind: Kind; name: string; job: TrackedJob; openedAt: string; latest: PipelineJob | undefined };

export type Update = { document: JobExecutions; reached: Reached; alerts: Alert[] };

/** The update that changes nothing. */
const keepStatistics = (document: JobExecutions): Update => ({
  document,
  reached: { consecutive: new Map(), cumulative: new Map(), recovered: [] },
  alerts: [],
});

/**
 * Adds the outcome of a pipeline to the histories; of a job that was retried, the latest attempt counts.
 * Returns a new document, without the jobs that say no more than absent ones, and the alerts to send: one when a
 * threshold opens the alert of a job, one if that goes from failing often to failing in a row, one when it recovered.
 */
export function updateStatistics(before: JobExecutions, ran: PipelineJob[], env: Environment, now: Date): Update {
  const { reached, alerts } = keepStatistics(before);
  const jobs = new Map<string, TrackedJob>();
  const at = now.toISOString();
  const attempts = new Map<string, PipelineJob>();
  for (const job of ran) if (job.id > (attempts.get(job.name)?.id ?? 0)) attempts.set(job.name, job);
  const failed = [...attempts.values()].filter(isFailed).map((job) => job.name);

  for (const name of new Set([...before.jobs.keys(), ...failed])) {
    const latest = attempts.get(name);
    const execution = toExecution(latest, env);
    let job = addExecution(before.jobs.get(name) ?? NEW_JOB, execution, env, at);
    const kinds = execution ? reachedBy(job, env) : [];
    for (const kind of kinds) {
      if (kind === "recovered") reached.recovered.push(name);
      else reached[kind].set(name, idsOf(failuresIn(job)));
    }
    const [kind] = kinds;
    // One alert for one trouble: while it is open, only going from failing often to failing in a row is news.
    if (kind === "recovered" || (kind && kind !== job.alert?.kind && job.alert?.kind !== "consecutive")) {
      alerts.push({ kind, name, job, openedAt: job.alert?.at ?? at, latest });
      const opened = { pipeline_id: env.CI_PIPELINE_ID, at, ...job.alert };
      job = { ...job, alert: kind === "recovered" ? undefined : { ...opened, kind } };
    }
    if (!isForgettable(job, env, now)) jobs.set(name, job);
  }
  return { document: { ...before, pipeline_id: env.CI_PIPELINE_ID, jobs }, reached, alerts };
}

const NEW_JOB: TrackedJob = { consecutive_failures: 0, jobs_info: [] };

const isFailed = (job: PipelineJob) => job.status === "failed" && !job.allow_failure;
const failuresIn = (job: TrackedJob) => job.jobs_info.filter((execution) => execution.failing);
const idsOf = (executions: Execution[]) => executions.flatMap(({ id }) => id ?? []);
/** The last executions of the window that all failed, or all passed. */
const lastThat = (job: TrackedJob, failing: boolean) =>
  job.jobs_info.slice(job.jobs_info.findLastIndex((execution) => execution.failing !== failing) + 1);

/** What this pipeline adds to the window of a job; undefined where it did not run and keeps its history. */
function toExecution(latest: PipelineJob | undefined, env: Environment): Execution | undefined {
  if (latest && isFailed(latest)) return { id: latest.id, failing: true, commit: env.CI_COMMIT_SHA };
  if (latest?.status === "success") return { id: null, failing: false, commit: env.CI_COMMIT_SHA };
  return env.NOT_RUN_JOBS === "pass" ? { id: null, failing: false, commit: null } : undefined;
}

function addExecution(job: TrackedJob, execution: Execution | undefined, env: Environment, at: string): TrackedJob {
  // A job from a document of the original has no last_run yet: its time to expire begins now.
  const last_run = execution?.commit || !job.last_run ? at : job.last_run;
  if (!execution) return job.last_run ? job : { ...job, last_run };
  const consecutive_failures = execution.failing ? job.consecutive_failures + 1 : 0;
  const jobs_info = [...job.jobs_info, execution].slice(-env.CUMULATIVE_LENGTH);
  return { ...job, consecutive_failures, jobs_info, last_run };
}

/** What the last execution of a job reached, the gravest first. */
function reachedBy(job: TrackedJob, env: Environment): Kind[] {
  const isFailing = job.consecutive_failures > 0;
  const kinds: [Kind, boolean][] = [
    ["consecutive", isFailing && job.consecutive_failures === env.CONSECUTIVE_THRESHOLD],
    ["cumulative", isFailing && failuresIn(job).length === env.CUMULATIVE_THRESHOLD],
    ["recovered", job.alert !== undefined && lastThat(job, false).length >= env.RECOVERY_THRESHOLD],
  ];
  return kinds.filter(([, isReached]) => isReached).map(([kind]) => kind);
}

function isForgettable({ alert, jobs_info, last_run }: TrackedJob, env: Environment, now: Date): boolean {
  const idleMs = last_run ? now.getTime() - Date.parse(last_run) : 0;
  const isClean = jobs_info.length >= env.CUMULATIVE_LENGTH && !jobs_info.some((execution) => execution.failing);
  return idleMs > env.EXPIRE_AFTER_DAYS * DAY_MS || (!alert && isClean);
}

// --- The routing: who owns a job, and which channels get which alerts.

type Owners = { rules: { pattern: RegExp; owners: string[] }[]; channels: Map<string, string> };

/** The alerts of each channel, of the one that gets all of them first; null is the webhook, or stdout. */
export type Routes = Map<string | null, Alert[]>;

async function readOwners({ JOB_OWNERS_FILE: owners, OWNER_CHANNELS_FILE: channels }: Environment): Promise<Owners> {
  return {
    rules: owners ? parseOwners(await readText(owners), owners) : [],
    channels: channels ? parseJson(OwnerChannels, await readText(channels), channels) : new Map(),
  };
}

const OwnerChannels = v.pipe(
  v.custom<Record<string, unknown>>(isObject, "Expected an object of owner: channel"),
  v.transform((channels) => new Map(Object.entries(channels))),
  v.map(v.pipe(v.string(), v.toLowerCase()), v.pipe(v.string(), v.regex(/^\S+$/, "Expected a channel, e.g. #team"))),
);

/**
 * Parses lines of a pattern (`*`, `?`, `\` before a character to be taken as it is, also a space) and its owners.
 * Throws an error that names `source` and the line.
 */
export function parseOwners(text: string, source: string): Owners["rules"] {
  return text.split(/\r?\n/).flatMap((line, index) => {
    const [pattern, ...owners] = line.match(/(\\.|[^\s\\])+/gu) ?? [];
    const fail = (problem: string) => new Error(`${source}:${index + 1}: ${problem}`);
    if (pattern?.startsWith("#")) return [];
    if (/(^|[^\\])(\\\\)*\\\s*$/.test(line)) throw fail("Expected a character after the last backslash");
    if (pattern === undefined) return [];
    if (owners.length === 0) throw fail(`Expected an owner after the pattern ${pattern}, e.g. @org/team or #channel`);
    if (owners.includes("#")) throw fail("Expected a channel's name after #; a comment needs a line of its own");
    return { pattern: toRegExp(pattern), owners: [...new Set(owners)] };
  });
}

function toRegExp(pattern: string): RegExp {
  const source = pattern.replace(/\\(.)|\*+|./gsu, (token, escaped: string | undefined) => {
    if (escaped === undefined && token.startsWith("*")) return ".*";
    if (token === "?") return ".";
    return (escaped ?? token).replace(/[\\^$.*+?()[\]{}|/]/, "\\$&");
  });
  return new RegExp(`^${source}$`, "su");
}

/** The owners of a job: those of the last line that matches its name. */
const ownersOf = (name: string, { rules }: Owners) => rules.findLast(({ pattern }) => pattern.test(name))?.owners ?? [];

/** Finds the channels of each alert. An owner without a channel is a warning: the first channel has its alert anyway. */
export function routeAlerts(alerts: Alert[], owners: Owners, env: Environment): { routes: Routes; warnings: string[] } {
  const routes: Routes = new Map();
  const unrouted = new Map<string, string[]>();
  const bare = (channel: string | undefined) => channel?.replace(/^#/, "").toLowerCase();
  const isBroadcast = (channel: string) => bare(channel) === bare(env.SLACK_CHANNEL);
  if (alerts.length > 0) routes.set(env.SLACK_CHANNEL ?? null, alerts);
  for (const alert of env.SLACK_CHANNEL ? alerts : []) {
    for (const owner of ownersOf(alert.name, owners)) {
      const channel = owner.startsWith("#") ? owner : owners.channels.get(owner.toLowerCase());
      if (channel === undefined) unrouted.set(owner, [...(unrouted.get(owner) ?? []), alert.name]);
      else if (!isBroadcast(channel)) routes.set(channel, [...new Set([...(routes.get(channel) ?? []), alert])]);
    }
  }
  const warnings = [...unrouted].map(
    ([owner, names]) => `${owner} has no channel in OWNER_CHANNELS_FILE and was not told of: ${names.join(", ")}`,
  );
  return { routes, warnings };
}

// --- The messages: pure but for the titles of commits; Slack's mrkdwn, in which names and titles are data.

type Context = { env: Environment; now: Date; titles: Map<string, string> };
type Text = { channel: string | null; text: string };

/** Without what would break a line, move the cursor or turn the direction of writing. */
const toOneLine = (text: string) => text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]+/gu, " ");

const escapeText = (text: string) =>
  toOneLine(text).replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;" })[c] ?? "&gt;");

function link(url: string | undefined, label: string): string {
  if (!url) return escapeText(label);
  return `<${escapeText(url.replace(/[\s<>|]/g, encodeURIComponent))}|${escapeText(label).replaceAll("|", "/")}>`;
}

const LINKS = /<([^|>]+)\|([^>]+)>/g; // what link() writes; in escaped text, nothing else looks so

/** What mrkdwn shows, for where there is no Slack. */
export const toPlainText = (mrkdwn: string) =>
  mrkdwn
    .replace(LINKS, (_, url, label) => (url.endsWith(`/${label}`) ? url : `${label} (${url})`))
    .replace(/&(lt|gt|amp);/g, (_, entity) => ({ lt: "<", gt: ">" })[entity as string] ?? "&");

/** The messages of all routes, split between jobs where they would be too long for Slack. */
async function writeMessages(routes: Routes, env: Environment, { now, signal }: Edges): Promise<Text[]> {
  const context = { env, now, titles: await readTitles([...routes.values()].flat(), env, signal) };
  return [...routes].flatMap(([channel, alerts]) => {
    const parts: Alert[][] = [];
    for (const alert of alerts) {
      const last = parts.at(-1);
      if (last && writeMessage([...last, alert], context).length <= MAX_MESSAGE_LENGTH) last.push(alert);
      else parts.push([alert]);
    }
    return parts.map((part) => ({ channel, text: writeMessage(part, context) }));
  });
}

/** One message: a first line that says it all on a phone, then a paragraph for each job. */
export function writeMessage(alerts: Alert[], context: Context): string {
  const { env } = context;
  const labels = { consecutive: "broken", cumulative: "failing often", recovered: "recovered" };
  const headline = Object.entries(labels).flatMap(([kind, label]) => {
    const names = alerts.filter((alert) => alert.kind === kind).map((alert) => alert.name);
    const list = names.join(", ");
    if (names.length === 0) return [];
    return `${SIGNS[kind as Kind]} ${label}: ${list.length <= 100 ? escapeText(list) : `${names.length} job${names.length > 1 ? "s" : ""}`}`;
  });
  const where = escapeText(`${projectName(env)} ${env.CI_COMMIT_BRANCH ?? env.CI_COMMIT_SHA.slice(0, 8)}`);
  const pipeline = link(projectUrl(env, `pipelines/${env.CI_PIPELINE_ID}`), `pipeline ${env.CI_PIPELINE_ID}`);
  const paragraphs = alerts.map((alert) => {
    const paragraph = describeAlert(alert, context);
    // Without its links it fits, even if its job has a name of 255 emoji, which are 3,000 characters in a URL.
    return paragraph.length <= MAX_MESSAGE_LENGTH - 500 ? paragraph : paragraph.replace(LINKS, "$2");
  });
  return [`${headline.join("; ")} in ${where}, ${pipeline}`, ...paragraphs].join("\n\n");
}

function describeAlert(alert: Alert, { env, now, titles }: Context): string {
  const { kind, job, latest } = alert;
  const failures = failuresIn(job);
  const jobUrl = (id: number) => (id === latest?.id ? latest.web_url : undefined) ?? projectUrl(env, `jobs/${id}`);
  const linksTo = (executions: Execution[]) =>
    idsOf(executions)
      .map((id) => link(jobUrl(id), `${id}`))
      .join(" ");
  const historyUrl = env.JOB_HISTORY_URL?.replaceAll("{job}", () => encodeURIComponent(alert.name.toWellFormed()));
  const name = link(historyUrl ?? idsOf(failures).map(jobUrl).at(-1), alert.name);
  if (kind === "recovered") {
    const passes = lastThat(job, false).length;
    const open = formatDuration(now.getTime() - Date.parse(alert.openedAt));
    return `${SIGNS[kind]} ${name} recovered: passed ${passes} times in a row, its alert was open for ${open}`;
  }
  if (kind === "cumulative") {
    const often = `failed ${failures.length} times in the last ${env.CUMULATIVE_LENGTH} executions`;
    return `${SIGNS[kind]} ${name} ${often}: ${linksTo(failures)}`;
  }
  const failed = `${SIGNS[kind]} ${name} failed ${job.consecutive_failures} times in a row: ${linksTo(lastThat(job, true))}`;
  const { first, lastPass } = originOf(job);
  if (!first) return failed;
  const title = titles.get(first);
  const commit = link(projectUrl(env, `commit/${first}`), first.slice(0, 8));
  const compareUrl = lastPass ? projectUrl(env, `compare/${lastPass}...${first}`) : undefined;
  const since = [title ? `${commit} "${escapeText(title)}"` : commit];
  if (compareUrl) since.push(link(compareUrl, "changes since the last pass"));
  return `${failed}\nsince ${since.join(", ")}`;
}

const projectName = (env: Environment) => env.CI_PROJECT_PATH ?? `project ${env.CI_PROJECT_ID ?? "at hand"}`;
const projectUrl = (env: Environment, path: string) => env.CI_PROJECT_URL && `${env.CI_PROJECT_URL}/-/${path}`;

/** The first failing commit of a streak and the passing one right before it, as far as the window still knows them. */
function originOf(job: TrackedJob): { first?: string | null; lastPass?: string | null } {
  const streak = lastThat(job, true);
  if (streak.length !== job.consecutive_failures) return {}; // it began before the window
  const [first, lastPass] = [streak[0]?.commit, job.jobs_info.at(-streak.length - 1)?.commit];
  return { first, lastPass: lastPass === first ? undefined : lastPass };
}

function formatDuration(ms: number): string {
  const [unit, length] = ms < 7_200_000 ? ["minute", 60_000] : ms < 2 * DAY_MS ? ["hour", 3_600_000] : ["day", DAY_MS];
  const format = new Intl.NumberFormat("en", { style: "unit", unit, unitDisplay: "long" });
  return format.format(Math.max(0, Math.round(ms / length))); // never below 0, whatever the clocks of two machines say
}

/** The titles of the commits that streaks began with. One that can't be read in time is left out: it is for the looks. */
async function readTitles(alerts: Alert[], env: Environment, signal: AbortSignal): Promise<Map<string, string>> {
  const soon = within(TITLES_TIMEOUT_MS, signal);
  const own = alerts.find(({ latest }) => latest?.commit)?.latest?.commit?.title;
  const titles = new Map(own ? [[env.CI_COMMIT_SHA, own]] : []);
  const commits = alerts.flatMap(({ kind, job }) => (kind === "consecutive" && originOf(job).first) || []);
  const readTitle = async (commit: string) => {
    const { body } = await askGitLab(env, `/repository/commits/${encodeURIComponent(commit)}`, soon);
    titles.set(commit, parseJson(v.object({ title: v.string() }), body, "The commit").title);
  };
  const unknown = env.CI_API_V4_URL ? [...new Set(commits)].filter((commit) => !titles.has(commit)) : [];
  await Promise.allSettled(unknown.map(readTitle));
  return titles;
}

// --- The delivery: pending alerts are claimed, sent to Slack, a webhook or stdout, and cleared when they have arrived.

const isSameAlert = (a: PendingAlert, b: PendingAlert) =>
  a.channel === b.channel && a.text === b.text && a.claimed_at === b.claimed_at;

/** A time that is a run's own, by its digits below a millisecond: what it claimed can't be taken for another's. */
const toClaim = (now: Date) => now.toISOString().replace("Z", `${Math.random().toFixed(6).slice(2)}Z`);

/** Records the messages of this run as pending, with those that an earlier one claimed long ago and did not deliver. */
function claimAlerts(document: JobExecutions, texts: Text[], env: Environment, claimedAt: string) {
  const isLeft = ({ claimed_at }: PendingAlert) => Date.parse(claimedAt) - Date.parse(claimed_at) > CLAIM_MS;
  const claimed = [...document.pending_alerts.filter(isLeft), ...texts].map(({ channel, text }): PendingAlert => {
    const target = env.SLACK_CHANNEL ? (channel ?? env.SLACK_CHANNEL) : null;
    return { channel: target, text, claimed_at: claimedAt };
  });
  const others = document.pending_alerts.filter((alert) => !isLeft(alert));
  const messages = claimed.map(({ channel, text }): Message => ({ channel, text, delivered: false }));
  const updated = { ...document, pending_alerts: [...others, ...claimed] };
  return { claimed, messages, document: updated, warnings: describeWaiting(others) };
}

/** Sends alerts, to each channel in their order. A failure is noted in the message and stops no other. */
export async function sendNotification(alerts: PendingAlert[], { send, signal }: Edges): Promise<Message[]> {
  const queues = new Map<string | null, Promise<Message>>();
  const messages = alerts.map((alert) => {
    const { channel, text } = alert;
    const message = Promise.resolve(queues.get(channel))
      .then(() => send(alert, signal))
      .then(() => ({ channel, text, delivered: true }))
      .catch((error: Error) => ({ channel, text, delivered: false, error: error.message }));
    queues.set(channel, message);
    return message;
  });
  return Promise.all(messages);
}

/** Takes the delivered alerts out of the stored document. Resolves to what went wrong with that. */
async function clearAlerts(claimed: PendingAlert[], messages: Message[], { store, pause }: Edges): Promise<string[]> {
  const delivered = claimed.filter((_, i) => messages[i]?.delivered);
  if (delivered.length === 0) return [];
  const edges = { store, pause, signal: AbortSignal.timeout(CLEAR_TIMEOUT_MS) };
  const isPending = (alert: PendingAlert) => !delivered.some((other) => isSameAlert(alert, other));
  try {
    await untilStored(edges, async () => {
      const stored = await retrieveJobExecutions(edges);
      if (!stored || stored.document.pending_alerts.every(isPending)) return { result: undefined };
      const document = { ...stored.document, pending_alerts: stored.document.pending_alerts.filter(isPending) };
      return { result: undefined, upload: await uploadJobExecutions(document, stored.version, edges) };
    });
    return [];
  } catch (error) {
    return [`A later run will send ${delivered.length} messages again: ${(error as Error).message}`];
  }
}

function describeWaiting(alerts: PendingAlert[]): string[] {
  if (alerts.length === 0) return [];
  const until = new Date(Math.max(...alerts.map((alert) => Date.parse(alert.claimed_at))) + CLAIM_MS).toISOString();
  return [`${alerts.length} messages of another run are pending; a run after ${until} sends those that stay so`];
}

function describeUndelivered(messages: Message[], now: Date): string[] {
  const failed = messages.filter((message) => !message.delivered);
  const reasons = failed.map(({ channel, error }) => (channel ? `${channel}: ${error}` : error)).join("; ");
  const until = new Date(now.getTime() + CLAIM_MS).toISOString();
  const what = `${failed.length} of ${messages.length} messages stay pending, for a run after ${until} to send`;
  return failed.length > 0 ? [`${what}: ${reasons}`] : [];
}

const SLACK_HINTS: Hints = [
  [/invalid_auth|not_authed/, "set SLACK_API_TOKEN to a valid bot token (xoxb-...)"],
  [/token_revoked|token_expired|account_inactive/, "the bot's access was withdrawn: issue a new SLACK_API_TOKEN"],
  [/missing_scope/, "give the bot the scope chat:write"],
  [/channel_not_found/, "check the channel's name, and invite the bot if it is private"],
  [/not_in_channel/, "invite the bot to the channel"],
  [/is_archived/, "unarchive the channel"],
  [/msg_too_long/, "shorten JOB_HISTORY_URL"],
  [/webhook/, "check SLACK_WEBHOOK_URL"],
];

const SlackAnswer = v.looseObject({ ok: v.boolean(), error: v.optional(v.string(), "no reason") });

/** How alerts are delivered: through a webhook, Slack's API, or `print` where neither is configured. */
export function openSender(env: Environment, print: (text: string) => void): Edges["send"] {
  const { SLACK_WEBHOOK_URL: webhook, SLACK_API_TOKEN: token, SLACK_API_URL: api } = env;
  if (!webhook && !token) return async ({ text }) => print(`${toPlainText(text)}\n`);
  const peer = webhook ? "Slack's webhook" : `Slack at ${new URL(api).host}`;
  const url = webhook ?? `${api}/chat.postMessage`;
  const isBusy = (answer: Answer) => isTransient(answer) || /"error":\s*"rate_?limited"/.test(answer.body);
  return async ({ channel, text }, signal) => {
    const message = { channel: channel ?? undefined, text, unfurl_links: false, unfurl_media: false };
    const init = post(message, token ? { authorization: `Bearer ${token}` } : {});
    const { status, body } = await request(peer, url, init, signal, isBusy);
    if (status !== 200)
      throw new Error(withHint(`${peer} answered ${status} ${/^\w{1,40}$/.exec(body) ?? ""}`, SLACK_HINTS));
    const { ok, error } = webhook ? { ok: true } : parseJson(SlackAnswer, body, `The answer of ${peer}`);
    if (!ok) throw new Error(withHint(`${peer} answered ${error}`, SLACK_HINTS));
  };
}

const post = (message: object, headers: Record<string, string>): Request => {
  const body = JSON.stringify(message);
  const length = `${Buffer.byteLength(body)}`;
  return {
    method: "POST",
    headers: { "content-type": "application/json; charset=utf-8", "content-length": length, ...headers },
    body,
  };
};

/** The alerts of a run as Datadog series: the number of jobs by kind and, where they have one, by owner. */
export function countAlerts(alerts: Alert[], owners: Owners, env: Environment, now: Date) {
  const timestamp = Math.floor(now.getTime() / 1_000);
  const counts = new Map<string, { metric: string; tags: string[]; value: number }>();
  for (const { kind, name } of alerts.filter((alert) => alert.kind !== "recovered")) {
    const teams = ownersOf(name, owners).map((owner) => [`team:${owner}`]);
    for (const team of teams.length > 0 ? teams : [[]]) {
      const value = (counts.get(kind + team)?.value ?? 0) + 1;
      const tags = [`repository:${projectName(env)}`, ...team];
      counts.set(kind + team, { metric: `datadog.ci.failed_job_alerts.${kind}`, tags, value });
    }
  }
  const type = 1; // count
  return [...counts.values()].map(({ metric, tags, value }) => ({
    metric,
    type,
    points: [{ timestamp, value }],
    tags,
  }));
}

/** Resolves to a warning where Datadog did not take the metrics: nobody misses an alert for that. */
async function sendMetrics(alerts: Alert[], owners: Owners, env: Environment, edges: Edges): Promise<string[]> {
  const series = countAlerts(alerts, owners, env, edges.now);
  if (!env.DD_API_KEY || series.length === 0) return [];
  const peer = `Datadog at api.${env.DD_SITE}`;
  try {
    const metrics = post({ series }, { "dd-api-key": env.DD_API_KEY });
    const { status } = await request(peer, `https://api.${env.DD_SITE}/api/v2/series`, metrics, edges.signal);
    if (status !== 202) throw new Error(`${peer} answered ${status}; check DD_API_KEY and DD_SITE`);
    return [];
  } catch (error) {
    return [`The alerts are not counted as metrics: ${(error as Error).message}`];
  }
}

// --- The table: pure; the tracked jobs, worst first, for a terminal or the log of a CI job.

/** How wide the terminal is, and how it colours a text, if at all. */
export type Look = { columns: number; paint: (style: "bold" | "dim" | "red", text: string) => string };

/** The tracked jobs of a document; `routes` are those of the run that ends with this table. */
export function formatTable(document: JobExecutions, env: Environment, look: Look, routes: Routes): string {
  const { columns, paint } = look;
  const worst = [...document.jobs]
    .map(([name, job]) => ({ name, job, streak: job.consecutive_failures, failures: failuresIn(job).length }))
    .sort((a, b) => b.streak - a.streak || b.failures - a.failures || (a.name < b.name ? -1 : 1))
    .slice(0, MAX_TABLE_ROWS);
  if (worst.length === 0) return "No job is tracked: none has failed lately.";

  const inLast = `in ${env.CUMULATIVE_LENGTH}`;
  const names = worst.map(({ name }) => toOneLine(name));
  const alerts = worst.map(({ name, job }) => describeAlertState(name, job, routes));
  const stripWidth = Math.max(10, ...worst.map(({ job }) => job.jobs_info.length));
  const room = columns - stripWidth - 22 - Math.max(5, ...alerts.map(widthOf));
  const nameWidth = Math.max(3, ...names.map(widthOf).filter((width) => width <= Math.max(room, 24)));

  const lines = worst.map(({ job, streak, failures }, i) => {
    const name = names[i] ?? "";
    // A name too long for its column gets a line of its own: a cut name could not be searched for.
    const padding = widthOf(name) <= nameWidth ? " ".repeat(nameWidth - widthOf(name)) : `\n${" ".repeat(nameWidth)}`;
    const strip = job.jobs_info
      .map(({ failing }) => (failing ? paint("red", SIGNS.failed) : paint("dim", SIGNS.passed)))
      .join("");
    const score = (count: number, threshold: number, width: number) =>
      paint(count >= threshold ? "red" : "dim", `${count}/${threshold}`.padStart(width));
    return [
      (job.alert ? paint("bold", name) : name) + padding,
      " ".repeat(stripWidth - job.jobs_info.length) + strip,
      score(streak, env.CONSECUTIVE_THRESHOLD, 8),
      score(failures, env.CUMULATIVE_THRESHOLD, Math.max(6, inLast.length)),
      alerts[i],
    ]
      .join("  ")
      .trimEnd();
  });
  const head = ["job".padEnd(nameWidth), "executions".padStart(stripWidth), "in a row", inLast.padStart(6), "alert"];
  const hidden = document.jobs.size - worst.length;
  const more = hidden > 0 ? [`... and ${hidden} more, which report --json lists`] : [];
  return [paint("dim", head.join("  ")), ...lines, ...more].join("\n");
}

function describeAlertState(name: string, { alert }: TrackedJob, routes: Routes): string {
  const told = [...routes].filter(([, alerts]) => alerts.some((news) => news.name === name));
  const news = told[0]?.[1].find((news) => news.name === name);
  const channels = told.flatMap(([channel]) => channel ?? []).join(", ");
  if (news) return `${news.kind}${channels ? ` ${SIGNS.to} ${channels}` : ", told now"}`;
  return alert ? `${alert.kind} since ${alert.at.slice(0, 10)}` : "";
}

/** The cells that a text takes in a terminal, where CJK and emoji take two. */
function widthOf(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  const wide =
    /\p{Emoji_Presentation}|\ufe0f|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff01-\uff60]|[\u{20000}-\u{3fffd}]/u;
  return [...new Intl.Segmenter().segment(text)].reduce(
    (width, { segment }) => width + (wide.test(segment) ? 2 : 1),
    0,
  );
}

/** What a run says before it ends: its outcome, for a dry run what it would have done, and the table. */
function describeRun(run: Run, env: Environment, look: Look, dryRun: boolean): string {
  const { outcome, before, document, messages, routes } = run;
  const delivered = messages.filter((message) => message.delivered).length;
  const lines = {
    counted: `Pipeline ${env.CI_PIPELINE_ID} ${dryRun ? "would be" : "is"} counted, after ${before.pipeline_id}`,
    "already-counted": `Pipeline ${env.CI_PIPELINE_ID} had been counted before`,
    "out-of-order": `Pipeline ${env.CI_PIPELINE_ID} is older than the stored ${before.pipeline_id}: nothing is done`,
  };
  const sent = messages.length > 0 && !dryRun ? `, ${delivered} of ${messages.length} messages delivered` : "";
  const refused = new Set(messages.filter((message) => message.error).map(({ channel }) => channel));
  const told = [...routes].map(([channel, alerts]): [string | null, Alert[]] => [
    refused.has(channel) ? `${channel ?? "nobody"} (pending)` : channel,
    alerts,
  ]);
  const table = formatTable(document, env, look, new Map(told));
  return [...(dryRun ? describeDryRun(run) : []), lines[outcome] + sent, table].join("\n\n");
}

function describeDryRun({ before, document, messages }: Run): string[] {
  const describe = (job: TrackedJob | undefined) =>
    job
      ? `${job.jobs_info.length} executions, ${failuresIn(job).length} failed, alert ${job.alert?.kind ?? "none"}`
      : "not tracked";
  const changes = [...new Set([...before.jobs.keys(), ...document.jobs.keys()])]
    .filter((name) => before.jobs.get(name) !== document.jobs.get(name))
    .map(
      (name) =>
        `  ${toOneLine(name)}: ${describe(before.jobs.get(name))} ${SIGNS.to} ${describe(document.jobs.get(name))}`,
    );
  const sent = messages.map(({ channel, text }) => `Would send${channel ? ` to ${channel}` : ""}:\n${text}`);
  return ["Dry run: nothing is sent or written", ...sent, ["Would store:", ...changes].join("\n")];
}

// --- The command line: the only part that touches the process.

const HELP = `Usage: tsx check-failures.ts [report] [--dry-run] [--json]

Counts the jobs of this CI pipeline in the stored job executions, alerts the owners of a job that fails
consistently, and stores the document again. Everything is set by environment variables: see README.md.

  report      print the stored document as a table; reads only
  --dry-run   compute and print; send and write nothing
  --json      print one JSON object on stdout, everything else on stderr
  --help      print this

Exit 0: done. 1: failed, with the reason on stderr. 2: wrong usage or environment. DEBUG=1 shows stack traces.`;

/** A report counts nothing: what it need not know of the pipeline, it need not be told. */
const REPORT_PLACEHOLDERS = { CI_PIPELINE_ID: "1", CI_COMMIT_SHA: "0000000", PIPELINE_JOBS_FILE: "none" };

function parseCommandLine(args: string[]) {
  const boolean = { type: "boolean" } as const;
  const options = { "dry-run": boolean, json: boolean, help: { ...boolean, short: "h" } };
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  const command = positionals.join(" ");
  if (command !== "" && command !== "report") throw new Error(`Unknown command: ${command}; see --help`);
  return { ...values, isReport: command === "report", dryRun: values["dry-run"] === true };
}

const reportToJson = ({ pipeline_id, jobs }: JobExecutions) => ({
  pipeline_id,
  jobs: [...jobs].map(([name, job]) => ({
    name,
    consecutive_failures: job.consecutive_failures,
    failures: failuresIn(job).length,
    executions: job.jobs_info.length,
  })),
});

/** Runs a command line; resolves to its exit code. */
async function main(args: string[], variables: Variables): Promise<number> {
  const secrets = SECRETS.map((secret) => variables[secret] ?? "").filter((secret) => secret.length >= 6);
  secrets.sort((a, b) => b.length - a.length); // one may be a part of another
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {}); // a reader may leave: go on
  const printTo = (stream: NodeJS.WriteStream) => (text: string) => {
    stream.write(`${secrets.reduce((hidden, secret) => hidden.replaceAll(secret, "***"), text)}\n`);
  };
  const printError = printTo(process.stderr);
  const stop = new AbortController();
  let exitCode = 2; // until the usage and the environment have proved right
  try {
    const { isReport, dryRun, json, help } = parseCommandLine(args);
    const stream = json && !help ? process.stderr : process.stdout;
    const print = printTo(stream);
    const toObject = (_: string, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value);
    const printJson = (value: object) => json && printTo(process.stdout)(JSON.stringify(value, toObject));
    const { CI_DEFAULT_BRANCH, CI_COMMIT_BRANCH, CI_PIPELINE_ID } = variables;
    if (help) {
      print(HELP);
      return 0;
    }
    if (!isReport && CI_DEFAULT_BRANCH && CI_COMMIT_BRANCH !== CI_DEFAULT_BRANCH) {
      // Before the rest is validated: protected variables are missing in the pipelines of other branches.
      print(`Nothing to do: this is not a pipeline of the default branch, ${CI_DEFAULT_BRANCH}`);
      const { reached } = keepStatistics(createInitialJobExecutions());
      const ids = { pipeline_id: Number(CI_PIPELINE_ID) || null, stored_pipeline_id: null };
      printJson({ outcome: "not-default-branch", ...ids, reached, messages: [] });
      return 0;
    }
    const env = parseEnvironment(variables, isReport ? REPORT_PLACEHOLDERS : {});
    const store = openStore(env);
    exitCode = 1;
    const signal = within(RUN_TIMEOUT_MS, stop.signal);
    const isColoured = stream.isTTY && !variables.NO_COLOR && variables.TERM !== "dumb";
    const look: Look = { columns: stream.columns ?? 120, paint: isColoured ? styleText : (_, text) => text };
    if (isReport) {
      const stored = await retrieveJobExecutions({ store, signal });
      const document = stored?.document ?? createInitialJobExecutions();
      const state = `after pipeline ${document.pipeline_id}, ${document.pending_alerts.length} messages pending`;
      print(`Job executions in ${store.source}: ${stored ? state : "not there yet, if JOB_EXECUTIONS_URL is right"}\n`);
      print(formatTable(document, env, look, new Map()));
      printJson(reportToJson(document));
      return 0;
    }
    const edges = { store, send: openSender(env, print), pause: sleep, now: new Date(), signal };
    const run = await checkConsistentFailures(env, edges, dryRun);
    print(describeRun(run, env, look, dryRun));
    const { outcome, before, reached, messages } = run;
    const ids = { pipeline_id: env.CI_PIPELINE_ID, stored_pipeline_id: before.pipeline_id };
    printJson({ outcome, ...ids, reached, messages });
    for (const warning of run.warnings) printError(`Warning: ${toOneLine(warning)}`);
    if (run.errors.length > 0) throw new Error(run.errors.join("; "));
    return 0;
  } catch (error) {
    const { message, stack } = error as Error;
    const reason = message.replace(/(Unknown option '[^']*').*/, "$1; see --help");
    printError(variables.DEBUG ? `${stack}` : `Error: ${toOneLine(reason)}`);
    return exitCode;
  } finally {
    stop.abort(); // what is still asked of a peer no longer matters
  }
}

// tsx on Node 20 has no import.meta.main, Node 24.2 has a wrong one, and a symlinked checkout has another path.
const entry = process.argv[1];
if (import.meta.main || (entry && existsSync(entry) && import.meta.url === pathToFileURL(realpathSync(entry)).href)) {
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true"; // said in every log, about every Node 20
  main(process.argv.slice(2), process.env).then((exitCode) => {
    process.exitCode = exitCode;
  });
}
