/**
 * check-failures: alerts the owners of a CI job that fails consistently. Run it as the last job of a pipeline:
 *
 *   tsx check-failures.ts            count this pipeline, alert, store
 *   tsx check-failures.ts report     print the stored document as a table
 *
 * One JSON document, in S3 or in a local file, keeps how each job did in the last pipelines. Three failures in a row,
 * or five in the last ten executions, are an alert. README.md shows one, and lists the variables that set this up.
 *
 * From top to bottom: the errors, the document, the environment, the story, the store, the pipeline's jobs, the
 * statistics, the routing, the messages, the delivery, the requests, the table, the command line. Only the last one
 * prints, reads the environment and ends the process.
 */
import { setMaxListeners } from "node:events";
import { createReadStream, existsSync, realpathSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { GetObjectCommand, PutObjectCommand, S3Client, type S3ServiceException } from "@aws-sdk/client-s3";
import * as v from "valibot";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const CLAIM_MS = 300_000; // a pending alert may be claimed again after this: longer than any run lives
const RUN_TIMEOUT_MS = 90_000;
const CLEAR_TIMEOUT_MS = 20_000; // on top of the run's: what was sent must still be noted
const LAST_TIMEOUT_MS = 115_000; // for what no signal reaches, e.g. an AWS credential_process
const REQUEST_TIMEOUT_MS = 20_000; // for which a peer may say nothing
const TITLES_TIMEOUT_MS = 3_000; // titles are for the looks of a message, which does not wait for them
const MAX_RETRY_AFTER_MS = 30_000;
const MAX_ATTEMPTS = 3; // of one request
const MAX_UPLOADS = 20; // of a document that other runs store at the same time
const MAX_MESSAGE_LENGTH = 3_900;
const MAX_TABLE_ROWS = 500; // GitLab cuts a job's log at 4 MB
const MAX_NAME_WIDTH = 60; // in the table; a longer name moves its row, as it could not be searched for if it were cut

// --- The errors: what failed, why, and what to do about it.

const HINTS: [message: RegExp, hint: string][] = [
  [/: S3 .*NoSuchBucket/, "check JOB_EXECUTIONS_URL"],
  [
    /: S3.*(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|: .*credentials)/,
    "check the AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role",
  ],
  [/: S3: Region|PermanentRedirect|AuthorizationHeaderMalformed/, "set AWS_REGION to the region of the bucket"],
  [/: S3 answered 501/, "if it lacks conditional writes, set S3_CONDITIONAL_WRITES=off; if encryption, S3_SSE=none"],
  [/: S3 answered 403 .*Skewed/, "set the clock of this machine"],
  [/: S3 answered 403/, "allow s3:GetObject, s3:PutObject and s3:ListBucket (without it, a missing object is a 403)"],
  [/: S3 answered 400 .*(encrypt|InvalidArgument|InvalidRequest)/i, "set S3_SSE=none if the store lacks encryption"],
  [/: S3: The encoded data/, "the document is not UTF-8: restore an earlier version of it"],
  [
    /: S3 answered (429|5)|( \d+ times|time of this run is up)$/,
    "try again later, or check its address and the network",
  ],
  [/: S3/, "check AWS_ENDPOINT_URL_S3, the network, and whether a proxy answered instead"],
  [/^(GitLab's|The answer).* is not (JSON|valid)/, "check its address, and whether a proxy answered instead"],
  [/ is not (JSON|valid)/, "mend it, or restore an earlier version of it"],
  [
    /^GitLab.* answered 40[13]( \w+)?$/,
    "set GITLAB_TOKEN to one with read_api (CI_JOB_TOKEN may do from GitLab 18 on)",
  ],
  [/^GitLab.* answered/, "check CI_API_V4_URL, CI_PROJECT_ID, CI_PIPELINE_ID, and what the token can see"],
  [/^Slack's webhook answered/, "check SLACK_WEBHOOK_URL"],
  [/^Slack.* (\w+_auth|not_authed|token_\w+|account_inactive)/, "set a new SLACK_API_TOKEN, a valid one (xoxb-...)"],
  [/^Slack.* missing_scope/, "give the bot the scope chat:write"],
  [/^Slack.* channel_not_found/, "check the channel's name, and invite the bot if it is private"],
  [/^Slack.* not_in_channel/, "invite the bot to the channel"],
  [/^Slack.* is_archived/, "unarchive the channel"],
  [/^Slack.* msg_too_long/, "shorten JOB_HISTORY_URL"],
  [/^Slack.* answered/, "check SLACK_API_URL, and what Slack says of this error of chat.postMessage"],
  [/^Datadog.* answered/, "check DD_API_KEY and DD_SITE"],
];

/** An error of one line: what failed, why, and, where the reason is a known one, what to do. */
function failure(message: string, cause?: unknown) {
  const hint = HINTS.find(([pattern]) => pattern.test(message))?.[1];
  return new Error(hint ? `${message}; ${hint}` : message, { cause });
}

// --- The document: what is stored between two pipelines, in the format of DataDog's job_executions.v2.json.

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const PlainObject = v.custom<object>(isObject, "Expected an object");
const toMap = v.transform((object: object) => new Map(Object.entries(object)));
/** An object as a Map, because v.record drops keys that are named `constructor` or `__proto__`. */
const mapOf = <T extends v.GenericSchema>(value: T) => v.pipe(PlainObject, toMap, v.map(v.string(), value));

const matching = (pattern: RegExp, expected: string) => v.pipe(v.string(), v.regex(pattern, expected));

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const isTime = (text: string) => Number.isFinite(Date.parse(text));
const Timestamp = v.pipe(v.string(), v.check(isTime, "Expected a time, e.g. 2026-11-23T10:00:00Z"));

/** One run of a job: `id` is null where it passed, `commit` where it did not really run. */
export type Execution = { id: number | null; failing: boolean; commit?: string | null };

// A predicate, where v.object would copy each entry: at 100,000 jobs that is a seventh of the time and memory.
const Execution = v.custom<Execution>(
  (value) =>
    isObject(value) &&
    (value.id === null || Number.isSafeInteger(value.id)) &&
    typeof value.failing === "boolean" &&
    typeof (value.commit ?? "") === "string",
  "Expected an execution: {id: integer or null, failing: boolean, commit: string or null}",
);

const TrackedJob = v.pipe(
  v.looseObject({
    consecutive_failures: Count,
    jobs_info: v.optional(v.array(Execution)),
    cumulative_failures: v.optional(v.array(Execution)), // the older name of jobs_info
    last_run: v.optional(Timestamp),
    alert: v.optional(
      v.looseObject({ kind: v.picklist(["consecutive", "cumulative"]), pipeline_id: Count, at: Timestamp }),
    ),
  }),
  v.check((job) => (job.jobs_info ?? job.cumulative_failures) !== undefined, "Expected an array jobs_info"),
  v.transform(({ cumulative_failures, jobs_info = cumulative_failures ?? [], ...job }) => ({ ...job, jobs_info })),
);
/** The history of a job: its window, oldest execution first, and its alert while that is open. */
export type TrackedJob = v.InferOutput<typeof TrackedJob>;

const PendingAlert = v.looseObject({ channel: v.nullable(v.string()), text: v.string(), claimed_at: Timestamp });
/** A message that is ready to be sent; the run that claimed it last is sending it. */
export type PendingAlert = v.InferOutput<typeof PendingAlert>;

const JobExecutions = v.pipe(
  PlainObject,
  v.looseObject({
    pipeline_id: v.optional(Count, 0),
    jobs: mapOf(TrackedJob),
    pending_alerts: v.optional(v.array(PendingAlert), []),
  }),
);
/** The document in memory. Keys that it does not know are kept. */
export type JobExecutions = v.InferOutput<typeof JobExecutions>;

/** Throws an error that names `source` and, where it is JSON, the path of the first fault. */
function parseJson<T extends v.GenericSchema>(schema: T, text: string, source: string) {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const reason = (error as Error).message.replace(/[\s,.]*".*/s, ""); // without the quotation: it may hold a secret
    throw failure(`${source} is not JSON: ${reason}`, error);
  }
  const { success, output, issues } = v.safeParse(schema, json, { abortEarly: true });
  if (success) return output;
  const path = v.getDotPath(issues[0]) ?? "its top";
  throw failure(`${source} is not valid at ${path}: ${issues[0].message.slice(0, 200)}`);
}

/** Decodes piece by piece, as 56 MB would else be in memory twice. Throws where a byte is not UTF-8. */
async function readUtf8(stream: AsyncIterable<Uint8Array>) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  for await (const bytes of stream) text += decoder.decode(bytes, { stream: true });
  return text + decoder.decode();
}

const readFile = (path: string) =>
  readUtf8(createReadStream(path)).catch((error: Error) => {
    throw failure(`Cannot read ${path}: ${error.message}`, error);
  });

// --- The environment: each variable, what it must look like, its default. README.md says what they mean.

/** The variables whose values are never printed: those that this script or the AWS SDK uses. */
const SECRETS = /^((GITLAB|CI_JOB|SLACK_API|AWS_\w+)_TOKEN|AWS_SECRET_ACCESS_KEY|SLACK_WEBHOOK_URL|DD_API_KEY)$/;

const word = (expected: string) => v.optional(matching(/^\S+$/, expected));
const anything = v.optional(v.string());
const secret = (example: string) =>
  v.optional(matching(/^[!-~]+$/, `a token without spaces or line breaks, e.g. ${example}`));
const integer = (expected: string) =>
  v.pipe(matching(/^0*[1-9]\d*$/, expected), v.transform(Number), v.safeInteger(expected));
const count = (usual: string) => v.optional(integer(`a positive integer, e.g. ${usual}`), usual);
const oneOf = <T extends string>(...options: [usual: T, ...T[]]) =>
  v.optional(v.picklist(options, options.join(" or ")), options[0]);
const httpUrl = (example: string) => {
  const expected = `an http or https URL without a password, e.g. ${example}`;
  return v.pipe(
    matching(/^https?:\/\/[^\s/@]+([/?#]\S*)?$/, expected),
    v.url(expected),
    v.transform((url) => url.replace(/\/+$/, "")),
  );
};

const Environment = v.object({
  CI_PIPELINE_ID: integer("a pipeline's id, a positive integer, e.g. 1005"),
  CI_COMMIT_SHA: matching(/^[0-9a-f]{7,64}$/i, "a commit's SHA, 7 to 64 hex digits, e.g. 0ddba11"),
  CI_COMMIT_BRANCH: anything,
  CI_API_V4_URL: v.optional(httpUrl("https://gitlab.example.com/api/v4")),
  CI_PROJECT_ID: word("a project's id, e.g. 4242"),
  CI_PROJECT_URL: v.optional(httpUrl("https://gitlab.example.com/acme/shop")),
  CI_PROJECT_PATH: word("a project's path, e.g. acme/shop"),
  GITLAB_TOKEN: secret("glpat-... with read_api, or set CI_JOB_TOKEN"),
  CI_JOB_TOKEN: secret("glcbt-..."),
  PIPELINE_JOBS_FILE: anything,
  JOB_EXECUTIONS_URL: v.optional(
    matching(
      /^(s3:\/\/[^/]+\/.+|file:(\/\/)?\/[^/].*|(?!s3:|file:|\S*:\/\/).+)$/i,
      "s3://bucket/key, a path or a file: URL, e.g. s3://ci/job_executions.v2.json",
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
  SLACK_API_TOKEN: secret("xoxb-..."),
  SLACK_CHANNEL: word("a channel, e.g. #ci-alerts"),
  SLACK_WEBHOOK_URL: v.optional(httpUrl("https://hooks.slack.com/services/T0/B0/x")),
  SLACK_API_URL: v.optional(httpUrl("https://slack.com/api"), "https://slack.com/api"),
  JOB_OWNERS_FILE: anything,
  OWNER_CHANNELS_FILE: anything,
  JOB_HISTORY_URL: v.optional(
    matching(
      /^https?:\/\/[^\s/@]+[/?#]\S*\{job\}\S*$/,
      "an http or https URL with {job}, e.g. https://ci.example.com/?job={job}",
    ),
  ),
  DD_API_KEY: secret("0123456789abcdef0123456789abcdef"),
  DD_SITE: v.optional(matching(/^[a-z0-9.-]+(:\d+)?$/i, "a host name, e.g. datadoghq.com"), "datadoghq.com"),
});
export type Environment = v.InferOutput<typeof Environment>;

type Variables = Record<string, string | undefined>;

/**
 * Validates environment variables; an empty one counts as unset. Throws one error with all that is wrong, each with its
 * name, what is expected and an example, but never with a value: any of them may be a misplaced secret.
 */
export function parseEnvironment(variables: Variables): Environment {
  const given: Variables = Object.fromEntries(Object.entries(variables).filter(([, value]) => value));
  // What is required is empty where it is not set, as that is valid for none of them.
  const token = given.CI_JOB_TOKEN ? {} : { GITLAB_TOKEN: "" };
  const api = given.PIPELINE_JOBS_FILE ? {} : { CI_API_V4_URL: "", CI_PROJECT_ID: "", ...token };
  const required = { CI_PIPELINE_ID: "", CI_COMMIT_SHA: "", ...api };
  const set: Variables = { ...v.getDefaults(Environment), ...required, ...given };
  const { success, output, issues = [] } = v.safeParse(Environment, set, { abortPipeEarly: true });
  const problems = issues.map((issue) => {
    const variable = v.getDotPath(issue) ?? "";
    return `${variable} must be ${issue.message}${given[variable] ? "" : " (it is not set)"}`;
  });
  if (!set.SLACK_API_TOKEN !== !set.SLACK_CHANNEL) {
    problems.push("SLACK_API_TOKEN and SLACK_CHANNEL must be set together, e.g. to xoxb-... and #ci");
  }
  if (set.SLACK_API_TOKEN && set.SLACK_WEBHOOK_URL) {
    problems.push("SLACK_API_TOKEN and SLACK_WEBHOOK_URL must not both be set, e.g. only the first");
  }
  for (const name of ["CUMULATIVE_THRESHOLD", "RECOVERY_THRESHOLD"]) {
    const isLonger = Number(set[name]) > Number(set.CUMULATIVE_LENGTH);
    if (isLonger) problems.push(`${name} must be at most CUMULATIVE_LENGTH, e.g. 3 and 10`);
  }
  if (success && problems.length === 0) return output;
  throw new Error(`The environment is not valid: ${problems.join("; ")}`);
}

// --- The story: what a run does, step by step.

/** What a run talks to. `now` is the time of the whole run; `signal` ends every request when that takes too long. */
export type Edges = {
  store: Store;
  send: (alert: PendingAlert, signal: AbortSignal) => Promise<void>;
  pause: (ms: number) => Promise<unknown>;
  now: Date;
  signal: AbortSignal;
};

type Access = Pick<Edges, "store" | "signal">;

/** What a run did: the document as it was read (`before`) and as it was stored, and who was told what. */
export type Run = Update & {
  outcome: "counted" | "already-counted" | "out-of-order";
  before: JobExecutions;
  routes: Routes;
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
  const titles = new Map<string, string>(); // of commits: read once, however often the upload is tried
  const failed = listPipelineJobs(env, "failed", edges.signal); // GitLab answers while the store does
  failed.catch(() => {}); // thrown where it is awaited, which a run that is out of order never does

  const run = await untilStored<Run>(edges, async (last) => {
    const stored = await retrieveJobExecutions(edges);
    const before = stored?.document ?? createInitialJobExecutions();
    if (last && wasStored(last, before)) return [last[0]];
    if (before.pipeline_id > env.CI_PIPELINE_ID) return [bypass(before, "out-of-order")];

    let run = bypass(before, "already-counted");
    if (before.pipeline_id < env.CI_PIPELINE_ID) {
      const jobs = await addSucceeded(await failed, before, env, edges.signal);
      run = { ...run, outcome: "counted", ...updateStatistics(before, jobs, env, edges.now) };
    }
    run = { ...run, ...routeAlerts(run.alerts, owners, env) };
    run = { ...run, ...claimAlerts(run.document, await writeMessages(run.routes, titles, env, edges), edges.now) };
    if (dryRun || (run.outcome === "already-counted" && run.messages.length === 0)) return [run];
    return [run, await uploadJobExecutions(run.document, stored?.version, edges)];
  });
  if (dryRun || run.messages.length === 0) return run;

  const metrics = sendMetrics(run.alerts, owners, env, edges);
  const messages = await sendNotification(run.messages, edges);
  const errors = [...describeUndelivered(messages), ...(await clearAlerts(messages, edges))];
  return { ...run, messages, warnings: [...run.warnings, ...(await metrics)], errors };
}

/** Resolves to what kept a step from its end, if anything did: it stops no other. */
const problemsOf = (step: Promise<unknown>, what: string): Promise<string[]> =>
  step.then(
    () => [],
    (error: Error) => [`${what}: ${error.message}`],
  );

/** A run that counts, sends and writes nothing: all of it, or what it begins with. */
function bypass(before: JobExecutions, outcome: Run["outcome"]): Run {
  const nothing = { reached: noneReached(), alerts: [], routes: new Map(), messages: [], warnings: [], errors: [] };
  return { outcome, before, document: before, ...nothing };
}

/** What an attempt to change the document came to, and what the store answered if that was uploaded. */
type Attempt<T> = [result: T, upload?: Upload];

/** Repeats an attempt, which is given the last one, until no other run stored the document in between. */
async function untilStored<T>({ store, pause }: Edges, attempt: (last?: Attempt<T>) => Promise<Attempt<T>>) {
  let last: Attempt<T> | undefined;
  for (let tries = 1; tries <= MAX_UPLOADS; tries++) {
    last = await attempt(last);
    const [result, upload] = last;
    if (!upload?.conflict) return result;
    await pause(Math.random() * Math.min(100 * 2 ** tries, 2_000));
  }
  throw new Error(`Cannot upload job executions to ${store.source}: other runs always did it first; retry this job`);
}

/**
 * Whether the store took an upload that it answered with a conflict, as when the SDK repeats one whose answer was lost:
 * `document` then holds its alerts, which others leave there, or, without any, its pipeline.
 */
function wasStored([run, upload]: Attempt<Run>, document: JobExecutions) {
  const [message] = run.messages;
  if (message) return document.pending_alerts.some((alert) => alert.claimed_at === message.claimed_at);
  return upload?.repeated && document.pipeline_id === run.document.pipeline_id;
}

/** Reads the stored document; undefined where there is none. Throws where it can't be read or is not valid. */
export async function retrieveJobExecutions({ store, signal }: Access) {
  const stored = await store.read(signal);
  return stored && { document: parseJson(JobExecutions, stored.text, store.source), version: stored.version };
}

/** The document before the first pipeline. */
export function createInitialJobExecutions(): JobExecutions {
  return { pipeline_id: 0, jobs: new Map(), pending_alerts: [] };
}

/** Stores the document if `version` (undefined: none) is still the stored one. Throws where it can't be written. */
export function uploadJobExecutions(document: JobExecutions, version: string | undefined, { store, signal }: Access) {
  const { jobs, pending_alerts, ...others } = document;
  const head = JSON.stringify(pending_alerts.length > 0 ? { ...others, pending_alerts } : others).slice(0, -1);
  // The jobs come last, one by one: as one text, 100,000 of them take a sixth more memory.
  const parts = [Buffer.from(`${head},"jobs":{`)];
  for (const [name, job] of jobs) {
    parts.push(Buffer.from(`${parts.length > 1 ? "," : ""}${JSON.stringify(name)}:${JSON.stringify(job)}`));
  }
  return store.write(Buffer.concat([...parts, Buffer.from("}}")]), version, signal);
}

// --- The store: an object in S3, or a local file. An upload replaces only the version that was read.

/** `repeated`: the SDK had sent it before, so that the conflict may be with itself. */
type Upload = { conflict: boolean; repeated?: boolean };

/** Where the document is stored: `read` resolves to undefined where there is none, `write` replaces `version` only. */
export type Store = {
  source: string;
  read: (signal: AbortSignal) => Promise<{ text: string; version: string } | undefined>;
  write: (body: Uint8Array, version: string | undefined, signal: AbortSignal) => Promise<Upload>;
};

/** The store that `JOB_EXECUTIONS_URL` names. Throws where a file: URL is not a local path. */
export function openStore(env: Environment): Store {
  const url = env.JOB_EXECUTIONS_URL;
  const [, bucket, key] = /^s3:\/\/([^/]+)\/(.+)$/is.exec(url) ?? [];
  return bucket && key ? s3Store(env, bucket, key) : fileStore(/^file:/i.test(url) ? fileURLToPath(url) : url);
}

const NO_ETAG = "an answer without an ETag, as a proxy would give it";

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
      socketTimeout: REQUEST_TIMEOUT_MS,
      // A connection each: on a reused one Deno sends a PUT again by itself, uncounted in `attempts`.
      httpAgent: { keepAlive: false },
      httpsAgent: { keepAlive: false },
    },
  });
  const explain = (what: string, error: unknown, signal: AbortSignal) => {
    const { name, message, $metadata: { httpStatusCode: status } = {} } = error as S3ServiceException;
    const reason = signal.aborted ? "no complete answer in time" : message.replace(/\.?(\n.*)?$/s, "");
    return failure(`Cannot ${what} ${source}: S3${status ? ` answered ${status} ${name}` : ""}: ${reason}`, error);
  };
  let refused: string | undefined | null = null; // the version that the store said it does not hold; null: none

  return {
    source,
    async read(abortSignal) {
      let found: { text: string; version: string } | undefined;
      try {
        const { Body, ETag } = await client.send(new GetObjectCommand({ Bucket, Key }), { abortSignal });
        if (!ETag) throw new Error(NO_ETAG);
        found = { text: await readUtf8(Body as AsyncIterable<Uint8Array>), version: ETag };
      } catch (error) {
        // By its name, as there may be two copies of the SDK.
        if ((error as Error).name !== "NoSuchKey") throw explain("read job executions from", error, abortSignal);
      }
      if (found?.version === refused) {
        throw new Error(
          `Cannot upload job executions to ${source}: it refuses its own version; set S3_CONDITIONAL_WRITES=off`,
        );
      }
      return found;
    },
    async write(Body, version, abortSignal) {
      const isConditional = env.S3_CONDITIONAL_WRITES === "on";
      const command = new PutObjectCommand({
        Bucket,
        Key,
        Body,
        ContentType: "application/json",
        ServerSideEncryption: env.S3_SSE === "none" ? undefined : env.S3_SSE,
        IfMatch: isConditional ? version : undefined,
        IfNoneMatch: isConditional && version === undefined ? "*" : undefined,
      });
      try {
        const { ETag } = await client.send(command, { abortSignal });
        if (!ETag) throw new Error(NO_ETAG);
        return { conflict: false };
      } catch (error) {
        const { name, $metadata: { httpStatusCode: status, attempts = 1 } = {} } = error as S3ServiceException;
        const isConflict = status === 412 || status === 409 || name === "NoSuchKey";
        if (!isConflict) throw explain("upload job executions to", error, abortSignal);
        refused = status === 412 ? version : null;
        return { conflict: true, repeated: attempts > 1 };
      }
    },
  };
}

function fileStore(path: string): Store {
  const file = existsSync(path) ? realpathSync(path) : path; // a link stays one
  const read = async () => {
    if (!existsSync(file)) return undefined;
    const text = await readFile(file);
    return { text, version: text };
  };
  return {
    source: path,
    read,
    async write(body, version) {
      if ((await read())?.version !== version) return { conflict: true };
      const temporary = `${file}.${crypto.randomUUID()}.tmp`;
      try {
        await writeFile(temporary, body);
        await rename(temporary, file); // whole or not at all
        return { conflict: false };
      } catch (error) {
        throw failure(`Cannot write ${path}: ${(error as Error).message}`, error);
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
  web_url: v.fallback(v.optional(httpUrl("")), undefined), // for the looks of a message, which it does not stop
});
export type PipelineJob = v.InferOutput<typeof PipelineJob>;

async function listPipelineJobs(env: Environment, scope: string, signal: AbortSignal) {
  const { PIPELINE_JOBS_FILE: file } = env;
  if (file) return parseJson(v.array(PipelineJob), await readFile(file), file);
  const readPage = async (page: number) => {
    const path = `/pipelines/${env.CI_PIPELINE_ID}/jobs?scope[]=${scope}&per_page=100&page=${page}`;
    const { body, headers } = await askGitLab(env, path, signal);
    const linked = /[?&]page=(\d+)[^<>]*>;\s*rel="?next/.exec(String(headers.link))?.[1];
    return {
      jobs: parseJson(v.array(PipelineJob), body, `GitLab's list of jobs with scope ${scope}`),
      next: Number(headers["x-next-page"] || linked || 0),
      total: Number(headers["x-total-pages"] || 1), // absent above 10,000 jobs
    };
  };
  const first = await readPage(1);
  const others = Array.from({ length: Math.min(first.total, 100) - 1 }, (_, i) => readPage(i + 2));
  const pages = [first, ...(await Promise.all(others))];
  while ((pages.at(-1)?.next ?? 0) > pages.length) pages.push(await readPage(pages.length + 1));
  return pages.flatMap((page) => page.jobs);
}

/** Adds the succeeded jobs only where the document tracks a job that did not fail: on most days one request is all. */
async function addSucceeded(failed: PipelineJob[], { jobs }: JobExecutions, env: Environment, signal: AbortSignal) {
  const names = new Set(failed.map((job) => job.name));
  if (env.PIPELINE_JOBS_FILE || [...jobs.keys()].every((name) => names.has(name))) return failed; // a file has them all
  return [...failed, ...(await listPipelineJobs(env, "success", signal))];
}

/** GETs a path below the project. */
function askGitLab(env: Environment, path: string, signal: AbortSignal) {
  const url = `${env.CI_API_V4_URL}/projects/${encodeURIComponent(env.CI_PROJECT_ID ?? "")}${path}`;
  const headers = env.GITLAB_TOKEN ? { "private-token": env.GITLAB_TOKEN } : { "job-token": env.CI_JOB_TOKEN };
  const { host, pathname } = new URL(url);
  return request(`GitLab at ${host}, asked for ${pathname},`, url, { headers, signal });
}

// --- The statistics: pure; how each job did, and what that means for its alert. A threshold is reached when equalled.

const KINDS = ["consecutive", "cumulative", "recovered"] as const; // the gravest first
type Kind = (typeof KINDS)[number];

/** The jobs that reached a threshold, each with the ids of all failing executions in its window, and the recovered. */
type Reached = { consecutive: Map<string, number[]>; cumulative: Map<string, number[]>; recovered: string[] };
const noneReached = (): Reached => ({ consecutive: new Map(), cumulative: new Map(), recovered: [] });

/** What is to be told of a job: its history after this pipeline, since when its alert is open, its latest attempt. */
export type Alert = { kind: Kind; name: string; job: TrackedJob; openedAt: string; latest: PipelineJob | undefined };

type Update = { document: JobExecutions; reached: Reached; alerts: Alert[] };

/**
 * Adds the outcome of a pipeline to the histories; of a job that was retried, the latest attempt counts.
 * Returns a new document, without the jobs that say no more than absent ones, and the alerts to send, gravest first:
 * one when a threshold opens the alert of a job, one if that goes from failing often to failing in a row, one when it
 * recovered.
 */
export function updateStatistics(before: JobExecutions, ran: PipelineJob[], env: Environment, now: Date): Update {
  const reached = noneReached();
  const alerts: Alert[] = [];
  const jobs = new Map<string, TrackedJob>();
  const at = now.toISOString();
  const attempts = new Map(ran.toSorted((a, b) => a.id - b.id).map((job) => [job.name, job]));

  for (const name of new Set([...before.jobs.keys(), ...attempts.keys()])) {
    const tracked = before.jobs.get(name);
    const latest = attempts.get(name);
    const execution = toExecution(latest, env);
    if (!tracked && !execution?.failing) continue; // only a failure makes a job tracked
    let job = addExecution(tracked ?? NEW_JOB, execution, env, at);
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
    const isStale = now.getTime() - Date.parse(job.last_run) > env.EXPIRE_AFTER_DAYS * DAY_MS;
    const isClean = job.jobs_info.length >= env.CUMULATIVE_LENGTH && failuresIn(job).length === 0;
    if (!isStale && (job.alert || !isClean)) jobs.set(name, job);
  }
  alerts.sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
  return { document: { ...before, pipeline_id: env.CI_PIPELINE_ID, jobs }, reached, alerts };
}

const NEW_JOB: TrackedJob = { consecutive_failures: 0, jobs_info: [] };

const failuresIn = (job: TrackedJob) => job.jobs_info.filter((execution) => execution.failing);
const idsOf = (executions: Execution[]) => executions.flatMap(({ id }) => id ?? []);
/** The last executions of the window that all failed, or all passed. */
const lastThat = (job: TrackedJob, failing: boolean) =>
  job.jobs_info.slice(job.jobs_info.findLastIndex((execution) => execution.failing !== failing) + 1);

/** What this pipeline adds to the window of a job; undefined where it did not run and keeps its history. */
function toExecution(latest: PipelineJob | undefined, env: Environment): Execution | undefined {
  const commit = env.CI_COMMIT_SHA;
  if (latest?.status === "failed" && !latest.allow_failure) return { id: latest.id, failing: true, commit };
  if (latest?.status === "success") return { id: null, failing: false, commit };
  return env.NOT_RUN_JOBS === "pass" ? { id: null, failing: false, commit: null } : undefined;
}

function addExecution(job: TrackedJob, execution: Execution | undefined, env: Environment, at: string) {
  // A job from a document of the original has no last_run yet: its time to expire begins now.
  const last_run = execution?.commit || !job.last_run ? at : job.last_run;
  const window = execution ? [...job.jobs_info, execution] : job.jobs_info;
  const jobs_info = window.length > env.CUMULATIVE_LENGTH ? window.slice(-env.CUMULATIVE_LENGTH) : window;
  if (!execution) return { ...job, jobs_info, last_run };
  return { ...job, consecutive_failures: execution.failing ? job.consecutive_failures + 1 : 0, jobs_info, last_run };
}

/** What the last execution of a job reached, the gravest first. */
function reachedBy(job: TrackedJob, env: Environment): Kind[] {
  const passes = lastThat(job, false).length;
  if (passes > 0) return job.alert && passes >= env.RECOVERY_THRESHOLD ? ["recovered"] : [];
  const kinds: Kind[] = [];
  if (job.consecutive_failures === env.CONSECUTIVE_THRESHOLD) kinds.push("consecutive");
  if (failuresIn(job).length === env.CUMULATIVE_THRESHOLD) kinds.push("cumulative");
  return kinds;
}

// --- The routing: who owns a job, and which channels get which alerts.

type Owners = { rules: { pattern: RegExp; owners: string[] }[]; channels: Map<string, string> };

/** The alerts of each channel, of the one that gets all of them first; null is the webhook, or stdout. */
export type Routes = Map<string | null, Alert[]>;

async function readOwners({ JOB_OWNERS_FILE: owners, OWNER_CHANNELS_FILE: channels }: Environment) {
  const Channels = mapOf(matching(/^\S+$/, "Expected a channel, e.g. #team"));
  const known = channels ? parseJson(Channels, await readFile(channels), channels) : [];
  return {
    rules: owners ? parseOwners(await readFile(owners), owners) : [],
    channels: new Map([...known].map(([owner, channel]) => [owner.toLowerCase(), channel])),
  };
}

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

function toRegExp(pattern: string) {
  const source = pattern.replace(/\\(.)|\*+|./gsu, (token, escaped: string = token) => {
    if (token.startsWith("*")) return "\0";
    return token === "?" ? "." : escaped.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&");
  });
  // A * before another one ends at the first match of what is between them, as many would else take for ever.
  const stars = source.replace(/\0([^\0]*)(?=\0)/g, "((?!$1).)*$1").replace("\0", ".*");
  return new RegExp(`^${stars}$`, "su");
}

/** The owners of a job: those of the last line that matches its name. */
const ownersOf = (name: string, { rules }: Owners) => rules.findLast(({ pattern }) => pattern.test(name))?.owners;

/** Finds the channels of each alert. An owner without one is a warning: the first channel has the alert anyway. */
export function routeAlerts(alerts: Alert[], owners: Owners, env: Environment): { routes: Routes; warnings: string[] } {
  const routes: Routes = new Map(alerts.length > 0 ? [[env.SLACK_CHANNEL ?? null, alerts]] : []);
  const unrouted = new Set<string>();
  const bare = (channel: string | null) => channel?.replace(/^#/, "").toLowerCase();
  for (const alert of env.SLACK_CHANNEL ? alerts : []) {
    for (const owner of ownersOf(alert.name, owners) ?? []) {
      const channel = owner.startsWith("#") ? owner : owners.channels.get(owner.toLowerCase());
      if (channel) {
        const known = [...routes.keys()].find((other) => bare(other) === bare(channel)) ?? channel;
        routes.set(known, [...new Set(routes.get(known)).add(alert)]);
      } else unrouted.add(owner);
    }
  }
  return { routes, warnings: [...unrouted].map((owner) => `${owner} has no channel in OWNER_CHANNELS_FILE`) };
}

// --- The messages: pure but for the titles of commits; Slack's mrkdwn, in which names and titles are data.

type Context = { env: Environment; now: Date; titles: Map<string, string> };

// Circles in red, orange and green, and below a cross, a dot and an arrow: escaped, as a file that is all ASCII takes a
// twentieth off a whole run under Node 24.
/** What an alert of a kind begins with. */
const HEADLINES: Record<Kind, [sign: string, label: string]> = {
  consecutive: ["\u{1f534}", "broken"],
  cumulative: ["\u{1f7e0}", "failing often"],
  recovered: ["\u{1f7e2}", "recovered"],
};

/** Without what would break a line, move the cursor or turn the direction of writing. */
const toOneLine = (text: string) => text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]+/gu, " ");

const escapeText = (text: string) =>
  toOneLine(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function link(url: string | undefined, label: string) {
  if (!url) return escapeText(label);
  return `<${escapeText(url.replace(/[\s<>|]/g, encodeURIComponent))}|${escapeText(label).replaceAll("|", "/")}>`;
}

const LINKS = /<([^|>]+)\|([^>]+)>/g; // what link() writes; in escaped text, nothing else looks so

/** What mrkdwn shows, for where there is no Slack. */
export const toPlainText = (mrkdwn: string) =>
  mrkdwn
    // A URL that ends with its label, as a job's with the id, says both.
    .replace(LINKS, (_, url, label) => (url.endsWith(`/${label}`) ? url : `${label} (${url})`))
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");

/** The messages of all routes, split between jobs where they would be too long for Slack. */
async function writeMessages(routes: Routes, titles: Map<string, string>, env: Environment, { now, signal }: Edges) {
  const context = { env, now, titles };
  await readTitles([...routes.values()].flat(), titles, env, signal);
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
  const headline = KINDS.flatMap((kind) => {
    const [sign, label] = HEADLINES[kind];
    const names = alerts.filter((alert) => alert.kind === kind).map((alert) => alert.name);
    const list = escapeText(names.join(", "));
    const what = list.length <= 100 ? list : formatCount(names.length, "job");
    return names.length > 0 ? `${sign} ${label}: ${what}` : [];
  });
  const where = escapeText(`${projectName(env)} ${env.CI_COMMIT_BRANCH ?? env.CI_COMMIT_SHA.slice(0, 8)}`);
  const pipeline = link(projectUrl(env, `pipelines/${env.CI_PIPELINE_ID}`), `pipeline ${env.CI_PIPELINE_ID}`);
  const header = `${headline.join("; ")} in ${where}, ${pipeline}\n\n`;
  const paragraphs = alerts.map((alert) => {
    const paragraph = `${HEADLINES[alert.kind][0]} ${describeAlert(alert, context)}`;
    // A name of 255 emoji has 3,000 characters in a URL: better without links than cut by Slack.
    return header.length + paragraph.length <= MAX_MESSAGE_LENGTH ? paragraph : paragraph.replace(LINKS, "$2");
  });
  return header + paragraphs.join("\n\n");
}

function describeAlert({ kind, name, job, openedAt, latest }: Alert, { env, now, titles }: Context) {
  const failures = failuresIn(job);
  const jobUrl = (id: number) => (id === latest?.id ? latest.web_url : undefined) ?? projectUrl(env, `jobs/${id}`);
  const linksTo = (ids: number[]) => ids.map((id) => link(jobUrl(id), `${id}`)).join(" ");
  const historyUrl = env.JOB_HISTORY_URL?.replaceAll("{job}", () => encodeURIComponent(name.toWellFormed()));
  const title = link(historyUrl ?? idsOf(failures).map(jobUrl).at(-1), name);
  if (kind === "recovered") {
    const open = formatDuration(now.getTime() - Date.parse(openedAt));
    const passed = formatCount(lastThat(job, false).length, "time");
    return `${title} recovered: passed ${passed} in a row, its alert was open for ${open}`;
  }
  if (kind === "cumulative") {
    const failed = formatCount(failures.length, "time");
    return `${title} failed ${failed} in the last ${env.CUMULATIVE_LENGTH} executions: ${linksTo(idsOf(failures))}`;
  }
  const streak = lastThat(job, true);
  const failed = `${title} failed ${formatCount(job.consecutive_failures, "time")} in a row: ${linksTo(idsOf(streak))}`;
  const first = originOf(job);
  if (!first) return failed;
  const since = link(projectUrl(env, `commit/${first}`), first.slice(0, 8));
  const subject = titles.get(first);
  const lastPass = job.jobs_info.findLast(({ failing, commit }) => !failing && commit)?.commit;
  const compareUrl = lastPass && lastPass !== first && projectUrl(env, `compare/${lastPass}...${first}`);
  const changes = compareUrl ? `, ${link(compareUrl, "changes since the last pass")}` : "";
  return `${failed}\nsince ${since}${subject ? ` "${escapeText(subject)}"` : ""}${changes}`;
}

const projectName = (env: Environment) => env.CI_PROJECT_PATH ?? `project ${env.CI_PROJECT_ID ?? "at hand"}`;
const projectUrl = (env: Environment, path: string) => env.CI_PROJECT_URL && `${env.CI_PROJECT_URL}/-/${path}`;

/** The first failing commit of a streak, unless it began before the window. */
function originOf(job: TrackedJob) {
  const streak = lastThat(job, true);
  return streak.length === job.consecutive_failures ? streak[0]?.commit : undefined;
}

const formatCount = (count: number, unit: string) => `${count} ${unit}${count === 1 ? "" : "s"}`;

function formatDuration(ms: number) {
  if (ms >= 2 * DAY_MS) return formatCount(Math.round(ms / DAY_MS), "day");
  if (ms >= 2 * HOUR_MS) return formatCount(Math.round(ms / HOUR_MS), "hour");
  return formatCount(Math.max(0, Math.round(ms / 60_000)), "minute"); // whatever the clocks of two machines say
}

/** Adds the titles of the commits that streaks began with; "" where that can't be read in time: it is for the looks. */
async function readTitles(alerts: Alert[], titles: Map<string, string>, env: Environment, signal: AbortSignal) {
  if (!env.CI_API_V4_URL || !(env.GITLAB_TOKEN || env.CI_JOB_TOKEN)) return;
  const commits = alerts.flatMap(({ kind, job }) => (kind === "consecutive" && originOf(job)) || []);
  const unknown = new Set(commits.filter((commit) => !titles.has(commit)));
  const readings = [...unknown].map(async (commit) => {
    titles.set(commit, "");
    const { body } = await askGitLab(env, `/repository/commits/${encodeURIComponent(commit)}`, signal);
    titles.set(commit, parseJson(v.object({ title: v.string() }), body, "The commit").title);
  });
  await Promise.race([Promise.allSettled(readings), sleep(TITLES_TIMEOUT_MS, undefined, { ref: false })]);
}

// --- The delivery: pending alerts are claimed, sent to Slack, a webhook or stdout, and cleared when they have arrived.

/** A pending alert and what became of it. */
export type Message = PendingAlert & { delivered?: boolean; error?: string };

const claimEnd = ({ claimed_at }: PendingAlert) => Date.parse(claimed_at) + CLAIM_MS;

/** Records the messages of this run as pending, with those that an earlier one claimed long ago and did not deliver. */
function claimAlerts(document: JobExecutions, texts: Pick<PendingAlert, "channel" | "text">[], now: Date) {
  // A run's own, by its digits below a millisecond: what it claimed can't be taken for another's.
  const claimed_at = now.toISOString().replace("Z", `${Math.random().toFixed(6).slice(2)}Z`);
  const isLeft = (alert: PendingAlert) => claimEnd(alert) < now.getTime();
  const messages = [...document.pending_alerts.filter(isLeft), ...texts].map((alert) => ({ ...alert, claimed_at }));
  const pending_alerts = [...document.pending_alerts.filter((alert) => !isLeft(alert)), ...messages];
  return { document: { ...document, pending_alerts }, messages };
}

/** Sends alerts, to each channel in their order. A failure is noted in the message and stops no other. */
export async function sendNotification(alerts: PendingAlert[], { send, signal }: Edges): Promise<Message[]> {
  const queues = new Map<string | null, Promise<Message>>();
  const messages = alerts.map((alert) => {
    const message = Promise.resolve(queues.get(alert.channel))
      .then(() => send(alert, signal))
      .then(() => ({ ...alert, delivered: true }))
      .catch((error: Error) => ({ ...alert, delivered: false, error: error.message }));
    queues.set(alert.channel, message);
    return message;
  });
  return Promise.all(messages);
}

/** Takes the delivered alerts out of the stored document; resolves to what kept it from that. */
async function clearAlerts(messages: Message[], others: Edges) {
  const keyOf = ({ channel, text, claimed_at }: PendingAlert) => JSON.stringify([channel, text, claimed_at]);
  const sent = new Set(messages.filter((message) => message.delivered).map(keyOf));
  if (sent.size === 0) return [];
  const isSent = (alert: PendingAlert) => sent.has(keyOf(alert));
  const edges = { ...others, signal: AbortSignal.timeout(CLEAR_TIMEOUT_MS) };
  const clearing = untilStored(edges, async () => {
    const stored = await retrieveJobExecutions(edges);
    if (!stored?.document.pending_alerts.some(isSent)) return [undefined];
    const pending_alerts = stored.document.pending_alerts.filter((alert) => !isSent(alert));
    return [undefined, await uploadJobExecutions({ ...stored.document, pending_alerts }, stored.version, edges)];
  });
  return problemsOf(clearing, "A later run will send messages again");
}

function describeUndelivered(messages: Message[]) {
  const undelivered = messages.filter((message) => !message.delivered);
  if (!undelivered[0]) return [];
  const reasons = undelivered.map(({ channel, error }) => (channel ? `${channel}: ${error}` : error));
  const what = `${undelivered.length} of ${messages.length} messages stay pending`;
  const until = new Date(claimEnd(undelivered[0])).toISOString();
  return [`${what}, for a run after ${until} to send: ${[...new Set(reasons)].join("; ")}`];
}

/** How alerts are delivered: through a webhook, Slack's API, or `print` where neither is configured. */
export function openSender(env: Environment, print: (text: string) => unknown): Edges["send"] {
  const { SLACK_WEBHOOK_URL: webhook, SLACK_API_TOKEN: token, SLACK_API_URL: api } = env;
  if (!webhook && !token) return async ({ text }) => void (await print(`${toPlainText(text)}\n`));
  const peer = webhook ? "Slack's webhook" : `Slack at ${new URL(api).host}`;
  const url = webhook ?? `${api}/chat.postMessage`;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const Answer = v.object({ ok: v.boolean(), error: v.optional(v.string(), "no reason") });
  return async ({ channel, text }, signal) => {
    const to = webhook ? undefined : (channel ?? env.SLACK_CHANNEL);
    const json = { channel: to, text, unfurl_links: false, unfurl_media: false };
    const { body } = await request(peer, url, { headers, json, signal });
    if (webhook && !body.startsWith("<")) return; // a page is that of a proxy
    const { ok, error } = parseJson(Answer, body, `The answer of ${peer}`);
    if (!ok) throw failure(`${peer} answered ${error}`);
  };
}

/** The alerts of a run as Datadog series: the number of jobs by kind and, where they have one, by owner. */
export function countAlerts(alerts: Alert[], owners: Owners, env: Environment, now: Date) {
  const timestamp = Math.floor(now.getTime() / 1_000);
  return ["consecutive", "cumulative"].flatMap((kind) => {
    const ofKind = alerts.filter((alert) => alert.kind === kind);
    const teams = ofKind.flatMap(({ name }) => ownersOf(name, owners) ?? "");
    return [...new Set(teams)].map((team) => ({
      metric: `datadog.ci.failed_job_alerts.${kind}`,
      type: 1, // count
      tags: [`repository:${projectName(env)}`, ...(team ? [`team:${team}`] : [])],
      points: [{ timestamp, value: teams.filter((other) => other === team).length }],
    }));
  });
}

/** Counts the alerts; resolves to what kept it from that, which stops no alert. */
async function sendMetrics(alerts: Alert[], owners: Owners, env: Environment, { now, signal }: Edges) {
  const series = env.DD_API_KEY ? countAlerts(alerts, owners, env, now) : [];
  if (series.length === 0) return [];
  const host = `api.${env.DD_SITE}`;
  const what = { headers: { "dd-api-key": env.DD_API_KEY }, json: { series }, success: 202, signal };
  const sending = request(`Datadog at ${host}`, `https://${host}/api/v2/series`, what);
  return problemsOf(sending, "The alerts are not counted as metrics");
}

// --- The requests: how GitLab, Slack and Datadog are asked. S3 has its SDK.

/** `json` is posted, if there is any; `success` is the status that says so, 200 unless given. */
type Request = { headers: Variables; json?: object; success?: number; signal: AbortSignal };

/**
 * One HTTP request, tried again where the network, the peer's load or an error of its own failed it. Throws where it
 * is refused: an error that names the peer, and never the URL, which may be a secret.
 */
async function request(peer: string, url: string, what: Request) {
  const { success = 200, signal } = what;
  let reason = "did not answer";
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    let waitMs = 500 * 2 ** attempt * Math.random();
    const answer = await exchange(url, what).catch((error: NodeJS.ErrnoException) => {
      if (!signal.aborted) reason = `is unreachable (${error.message || error.code})`;
    });
    if (answer) {
      const { status, headers, body } = answer;
      const why = /^\w{1,40}$|(?<="error":\s*")rate_?limited/.exec(body); // what Slack says: more may repeat a secret
      reason = `answered ${status} ${why ?? ""}`.trimEnd();
      const isBusy = status === 429 || status >= 500 || why?.[0].startsWith("rate");
      if (!isBusy && status === success) return answer;
      if (!isBusy) throw failure(`${peer} ${reason}`);
      waitMs = Math.min(Number(headers["retry-after"]) * 1_000 || waitMs, MAX_RETRY_AFTER_MS);
    }
    if (attempt < MAX_ATTEMPTS) await sleep(waitMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) throw failure(`${peer} ${reason}, and the time of this run is up`);
  }
  throw failure(`${peer} ${reason}, ${MAX_ATTEMPTS} times`);
}

/**
 * Not by fetch, whose loading alone is a tenth of a run, which follows redirects with the token in its headers, and
 * which under Deno sends a POST again by itself when a reused connection is reset: here, each has its own.
 */
function exchange(url: string, { headers, json, signal }: Request) {
  type Answer = { status: number; headers: NodeJS.Dict<string | string[]>; body: string };
  return new Promise<Answer>((resolve, reject) => {
    // Not imported: Node 24 loads WebSocket, and with it fetch, for whoever imports node:http.
    const http = process.getBuiltinModule(url.startsWith("https:") ? "node:https" : "node:http");
    const options = { method: json ? "POST" : "GET", headers, signal, agent: false, timeout: REQUEST_TIMEOUT_MS };
    const sent = http.request(url, options, (response) => {
      const { statusCode: status = 0, headers } = response;
      readUtf8(response).then((body) => resolve({ status, headers, body }), reject);
    });
    if (json) sent.setHeader("content-type", "application/json; charset=utf-8");
    sent.on("timeout", () => sent.destroy(new Error("no answer in time")));
    sent.on("error", reject).end(json && JSON.stringify(json));
  });
}

// --- The table: pure; the tracked jobs, worst first, for a terminal or the log of a CI job.

const [CROSS, DOT, ARROW] = ["\u2717", "\u00b7", "\u2192"];

/** The tracked jobs of a document; `routes` are those of the run that ends with this table. */
export function formatTable({ jobs }: JobExecutions, env: Environment, routes: Routes): string {
  if (jobs.size === 0) return "No job is tracked: none has failed lately.";
  const worst = [...jobs]
    .map(([name, job]) => ({ name, job, streak: job.consecutive_failures, failures: failuresIn(job).length }))
    .sort((a, b) => b.streak - a.streak || b.failures - a.failures || (a.name < b.name ? -1 : 1))
    .slice(0, MAX_TABLE_ROWS);
  type Row = [name: string, strip: string, inARow: string, inWindow: string, alert: string];
  const rows = worst.map(
    ({ name, job, streak, failures }): Row => [
      toOneLine(name),
      job.jobs_info.map(({ failing }) => (failing ? CROSS : DOT)).join(""),
      `${streak}/${env.CONSECUTIVE_THRESHOLD}`,
      `${failures}/${env.CUMULATIVE_THRESHOLD}`,
      describeAlertState(name, job, routes),
    ],
  );
  rows.unshift(["job", "executions", "in a row", `in ${env.CUMULATIVE_LENGTH}`, "alert"]);

  const nameWidth = Math.min(MAX_NAME_WIDTH, Math.max(...rows.map(([name]) => name.length)));
  const stripWidth = Math.max(...rows.map(([, strip]) => strip.length));
  const lines = rows.map(([name, strip, inARow, inWindow, alert]) => {
    const counts = [strip.padStart(stripWidth), inARow.padStart(8), inWindow.padStart(6)];
    return [name.padEnd(nameWidth), ...counts, alert].join("  ").trimEnd();
  });
  if (jobs.size > worst.length) lines.push(`... and ${jobs.size - worst.length} more, which report --json lists`);
  return lines.join("\n");
}

function describeAlertState(name: string, { alert }: TrackedJob, routes: Routes) {
  const told = [...routes].filter(([, alerts]) => alerts.some((news) => news.name === name));
  const news = told[0]?.[1].find((news) => news.name === name);
  const channels = told.flatMap(([channel]) => channel ?? []).join(", ");
  if (news) return `${news.kind}${channels ? ` ${ARROW} ${channels}` : ", told now"}`;
  return alert ? `${alert.kind} since ${alert.at.slice(0, 10)}` : "";
}

// --- The command line: the only part that touches the process.

const HELP = `Usage: tsx check-failures.ts [report] [--dry-run] [--json]

  (nothing)   count this CI pipeline, alert, store; README.md lists the environment variables
  report      print the stored document as a table; reads only
  --dry-run   compute and print; send and write nothing
  --json      print one JSON object on stdout, everything else on stderr
  --help      print this

Exit 0: done. 1: failed, with the reason on stderr. 2: wrong usage or environment. DEBUG=1 shows stack traces.`;

const ARGUMENTS = ["report", "--dry-run", "--json", "--help", "-h"];

/** What a report reads. It neither counts nor sends: all other variables may be missing or wrong. */
const REPORT_VARIABLES = /^(JOB_EXECUTIONS_URL|AWS_ENDPOINT_\w+|\w+_THRESHOLD|CUMULATIVE_LENGTH)$/;
const NO_PIPELINE = { CI_PIPELINE_ID: "1", CI_COMMIT_SHA: "0000000", PIPELINE_JOBS_FILE: "none" };

/** What a command says, to people and to programs. */
type Output = { text: string; json: object; warnings?: string[]; errors?: string[] };

async function report(env: Environment, edges: Edges): Promise<Output> {
  const stored = await retrieveJobExecutions(edges);
  const document = stored?.document ?? createInitialJobExecutions();
  const { pipeline_id, pending_alerts } = document;
  const found = `after pipeline ${pipeline_id}, ${pending_alerts.length} messages pending`;
  const state = stored ? found : "not there yet, if JOB_EXECUTIONS_URL is right";
  const text = `Job executions in ${edges.store.source}: ${state}\n\n${formatTable(document, env, new Map())}`;
  const jobs = [...document.jobs].map(([name, job]) => ({
    name,
    consecutive_failures: job.consecutive_failures,
    failures: failuresIn(job).length,
    executions: job.jobs_info.length,
  }));
  return { text, json: { pipeline_id, jobs } };
}

async function countPipeline(env: Environment, edges: Edges, dryRun: boolean): Promise<Output> {
  const run = await checkConsistentFailures(env, edges, dryRun);
  const { outcome, before, document, reached, warnings, errors } = run;
  const messages = run.messages.map(({ claimed_at, ...message }) => ({ delivered: false, ...message }));
  const outcomes = {
    counted: `${dryRun ? "would be" : "is"} counted, after ${before.pipeline_id}`,
    "already-counted": "had been counted before",
    "out-of-order": `is older than the stored ${before.pipeline_id}: nothing is done`,
  };
  const lost = dryRun ? [] : messages.filter((message) => !message.delivered);
  const told = [...run.routes].filter(([channel]) => !lost.some((message) => message.channel === channel));
  const paragraphs = [`Pipeline ${env.CI_PIPELINE_ID} ${outcomes[outcome]}`, formatTable(document, env, new Map(told))];
  if (dryRun) {
    const toSend = messages.map(({ channel, text }) => {
      return `Would send${channel ? ` to ${channel}` : ""}:\n${toPlainText(text)}`;
    });
    paragraphs.unshift("Dry run: nothing is sent or written; the table is what would be stored", ...toSend);
  } else if (messages.length > 0) {
    paragraphs[0] += `, ${messages.length - lost.length} of ${messages.length} messages delivered`;
  }
  const others = document.pending_alerts.length - messages.length;
  if (others > 0) warnings.push(`${others} messages of another run are pending; one five minutes later sends them`);
  const ids = { pipeline_id: env.CI_PIPELINE_ID, stored_pipeline_id: before.pipeline_id };
  return { text: paragraphs.join("\n\n"), json: { outcome, ...ids, reached, messages }, warnings, errors };
}

/** The output of a run in a pipeline of another branch, where protected variables, and so tokens, are missing. */
function skipBranch({ CI_DEFAULT_BRANCH, CI_PIPELINE_ID }: Variables): Output {
  const text = `Nothing to do: this is not a pipeline of the default branch, ${CI_DEFAULT_BRANCH}`;
  const ids = { pipeline_id: Number(CI_PIPELINE_ID) || null, stored_pipeline_id: null };
  return { text, json: { outcome: "not-default-branch", ...ids, reached: noneReached(), messages: [] } };
}

/** Prints without secrets, and in colour where that is wanted; resolves to the error that kept it from that, if any. */
function printerFor(variables: Variables) {
  const secrets = Object.entries(variables).flatMap(([name, value = ""]) => (SECRETS.test(name) ? value : []));
  const hidden = secrets.filter((secret) => secret.length > 5);
  hidden.sort((a, b) => b.length - a.length); // one may be a part of another
  return (stream: NodeJS.WriteStream, text: string) => {
    const shown = hidden.reduce((rest, secret) => rest.replaceAll(secret, "***"), text);
    const isColoured = stream.isTTY && !variables.NO_COLOR;
    const coloured = isColoured ? shown.replace(/\u2717+/g, "\u001b[31m$&\u001b[39m") : shown;
    return new Promise<Error | null | undefined>((resolve) => stream.write(`${coloured}\n`, resolve));
  };
}

/** Runs a command line; resolves to its exit code. */
async function main(args: string[], variables: Variables) {
  const { stdout, stderr } = process;
  const print = printerFor(variables);
  for (const stream of [stdout, stderr]) stream.on("error", () => {}); // a reader may leave: go on
  const stop = new AbortController();
  setMaxListeners(0, stop.signal); // each request has one
  sleep(RUN_TIMEOUT_MS, undefined, { ref: false }).then(() => stop.abort());
  sleep(LAST_TIMEOUT_MS, undefined, { ref: false }).then(() => {
    print(stderr, "Error: The run did not end in time; check what gives the AWS credentials");
    process.exit(1);
  });
  let exitCode = 2; // until the usage and the environment have proved right
  try {
    const wrong = args.find((arg, i) => !ARGUMENTS.includes(arg) || args.indexOf(arg) < i);
    if (wrong !== undefined) throw new Error(`Unknown or repeated argument: ${wrong}; see --help`);
    const [isReport, dryRun = false, json, ...help] = ARGUMENTS.map((argument) => args.includes(argument));
    if (help.includes(true)) {
      print(stdout, HELP);
      return 0;
    }
    const stream = json ? stderr : stdout;
    let output = skipBranch(variables);
    if (isReport || !variables.CI_DEFAULT_BRANCH || variables.CI_COMMIT_BRANCH === variables.CI_DEFAULT_BRANCH) {
      const reported = Object.entries(variables).filter(([name]) => REPORT_VARIABLES.test(name));
      const env = parseEnvironment(isReport ? { ...Object.fromEntries(reported), ...NO_PIPELINE } : variables);
      const send = openSender(env, async (text) => {
        const error = await print(stream, text);
        if (error) throw failure(`Cannot print: ${error.message}`, error);
      });
      const edges = { store: openStore(env), send, pause: sleep, now: new Date(), signal: stop.signal };
      exitCode = 1;
      output = await (isReport ? report(env, edges) : countPipeline(env, edges, dryRun));
    }
    print(stream, output.text);
    const toObject = (_: string, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value);
    if (json) print(stdout, JSON.stringify(output.json, toObject));
    for (const warning of output.warnings ?? []) print(stderr, `Warning: ${toOneLine(warning)}`);
    if (output.errors?.length) throw new Error(output.errors.join("; "));
    return 0;
  } catch (error) {
    const { message, stack, cause } = error as Error;
    const because = cause instanceof Error ? `\nbecause of ${cause.stack}` : "";
    print(stderr, variables.DEBUG ? `${stack}${because}` : `Error: ${toOneLine(message)}`);
    return exitCode;
  } finally {
    stop.abort(); // what is still asked of a peer no longer matters
  }
}

// tsx on Node 20 has no import.meta.main, Node 24.2 has a wrong one, and a symlinked checkout has another path.
const entry = process.argv[1];
if (import.meta.main || (entry && existsSync(entry) && import.meta.url === pathToFileURL(realpathSync(entry)).href)) {
  for (const name in process.env) if (!process.env[name]) delete process.env[name]; // the SDK takes "" for a value
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true"; // said in every log, about every Node 20
  main(process.argv.slice(2), process.env).then((exitCode) => {
    process.exitCode = exitCode;
  });
}
