/**
 * check-failures 3.0.0 alerts the owners of a CI job that fails consistently. It is the last job of
 * a pipeline:
 *
 *   node check-failures.mjs      the bundle, made by `npm run bundle`: nothing to install
 *   npx tsx check-failures.ts    this file, beside @aws-sdk/client-s3@3.1173.0 and valibot@1.5.0
 *
 * One JSON document, in S3 or in a file, keeps how each job did in the last pipelines. A job that
 * failed three times in a row, or five times in its last ten executions, is reported once, and, if
 * it was broken, when it has recovered. `--help` lists the variables that set this up. MIT licensed: copy it.
 *
 * The first half names no token. The second, from "What touches the world" on, is all that must be
 * read before this gets a token. Callers come before callees.
 *
 * Audit map. What leaves this process, to whom, by which function, with which secret:
 *
 *   the document           S3          s3Store         AWS credentials, which the SDK finds
 *   questions for jobs     GitLab      listPages       GITLAB_TOKEN or CI_JOB_TOKEN
 *   messages               Slack       slackSender     SLACK_API_TOKEN
 *                          a webhook   webhookSender   SLACK_WEBHOOK_URL, which is the secret
 *                          a command   commandSender   none of these, and nothing named AWS_; any
 *                                                      other variable of the job, secrets included
 *   messages, table,       stdout and  printerFor      none: it masks the value of each of these
 *   JSON, errors, output   stderr
 *
 * - Variables decide where tokens go. Who can set CI_API_V4_URL or SLACK_API_URL gets the token
 *   that is for it, over plain http where the address says so; AWS's own variables and files (an
 *   AWS_ENDPOINT_URL, a profile) decide where its credentials come from and where they are used.
 * - GitLab, Slack and webhooks are asked by `request`, whose `exchange` opens the connection,
 *   sends the headers that it is given, and follows no redirect. With HTTPS_PROXY or HTTP_PROXY,
 *   and where the runtime can, that is by the proxy (`agentsFor`), which gets the password in its
 *   own address.
 * - `fileStore` writes the document where JOB_EXECUTIONS_URL is a path. `readTextFile` reads
 *   that, PIPELINE_JOBS_FILE, JOB_OWNERS_FILE and OWNER_CHANNELS_FILE. `isMain` looks at the path
 *   that was started. The AWS SDK reads AWS's own files, and may ask AWS for credentials.
 * - `runCommand` starts ALERT_COMMAND; the AWS SDK, a `credential_process` that AWS's files name.
 * - The command line sees the whole environment, and hands it out: by `parseSettings`, to each
 *   function the variables in its type; by `withoutSecrets`, the rest to ALERT_COMMAND. DEBUG
 *   prints stack traces.
 * - Whoever can write the document can make the bot speak, but only in the words of
 *   `writeMessage`, to which all in it is data; with links to http(s) addresses; in the broadcast
 *   channel and in those that the owners' files name.
 */
import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { existsSync, realpathSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { dirname } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { GetObjectCommand, PutObjectCommand, S3Client, type S3ServiceException } from "@aws-sdk/client-s3";
import * as v from "valibot";

const VERSION = "3.0.0";
const [MINUTE_MS, HOUR_MS, DAY_MS] = [60_000, 3_600_000, 86_400_000];

// --- Document: what is stored between two pipelines, as DataDog's job_executions.v2.json has it.

/** An object, and no array: valibot's own schemas take both. */
const PlainObject = v.custom<Record<string, unknown>>(isPlainObject, "Expected an object");
const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Timestamp = v.pipe(
  v.string(),
  v.check(
    (text) => /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:?\d\d)$/.test(text) && Number.isFinite(Date.parse(text)),
    "Expected a time, e.g. 2026-11-23T10:00:00Z",
  ),
);
// An address or a note that does not fit is left out: a message does as well without.
const Address = orNothing(v.pipe(v.string(), v.regex(/^https?:\/\/[^\s/]/i)));
const Note = orNothing(v.string());

/** How a job did in one pipeline. A pass has no `id`; one without a `commit` did not really run. */
const Execution = v.looseObject({
  id: v.nullable(Count),
  failing: v.boolean(),
  commit: v.optional(v.nullable(v.string())),
});
export type Execution = v.InferOutput<typeof Execution>;

/**
 * The commit with which a job last turned, from passing to failing or back. `from` is the commit of
 * the execution before, where that is known; `title` and `author` stand only where no other commit
 * came between the two.
 */
const Turn = v.looseObject({
  commit: v.string(),
  title: v.optional(v.string()),
  author: v.optional(v.string()),
  from: v.optional(v.string()),
});
export type Turn = v.InferOutput<typeof Turn>;

/** An alert that is open: since which pipeline, and since when. */
const Alert = v.looseObject({ kind: v.picklist(["consecutive", "cumulative"]), pipeline_id: Count, at: Timestamp });
type Alert = v.InferOutput<typeof Alert>;

const TrackedJob = v.pipe(
  v.looseObject({
    consecutive_failures: Count,
    jobs_info: v.optional(v.array(Execution)),
    cumulative_failures: v.optional(v.array(Execution)), // the older name of jobs_info
    last_run: v.optional(Timestamp),
    turned: v.optional(Turn),
    alert: v.optional(Alert),
    executions_since_alert: v.optional(Count),
  }),
  v.check((job) => (job.jobs_info ?? job.cumulative_failures) !== undefined, "Expected an array jobs_info"),
  v.transform(({ cumulative_failures, jobs_info = cumulative_failures ?? [], ...job }) => ({ ...job, jobs_info })),
);
/**
 * The history of a job: its window, oldest execution first, and its alert while that is open.
 * `executions_since_alert` counts from the end of its last alert, until that is a whole window ago.
 */
export type TrackedJob = v.InferOutput<typeof TrackedJob>;

const Project = v.looseObject({
  name: v.optional(v.string()),
  url: Address,
  ci: v.optional(v.picklist(["gitlab", "github"])),
});
/** What the environment says of a project. Without `ci`, no addresses of its pages are known. */
export type Project = v.InferOutput<typeof Project>;

const Kind = v.picklist(["consecutive", "cumulative", "recovered", "gone"]);
export type Kind = v.InferOutput<typeof Kind>;

/**
 * What is to be reported of a job. `job_id` and `url` are those of the job that its name links to.
 * `times` is how often it failed (recovered: passed) in a row, or, where it fails often, within so
 * many `executions`; `ids` are those failures. `since` is when its alert opened; where the job is
 * gone, when it ran last.
 */
const News = v.object({
  kind: Kind,
  job: v.string(),
  job_id: v.optional(Count),
  url: Address,
  stage: Note,
  reason: Note,
  times: Count,
  executions: Count,
  ids: v.array(Count),
  turned: v.optional(Turn),
  since: Timestamp,
});
export type News = v.InferOutput<typeof News>;

/** What the run says that creates the document: its name, and the thresholds. */
const Hello = v.object({ document: v.string(), in_a_row: Count, often: Count, window: Count });

/**
 * What a channel is to be told, as data, and of which pipeline: it becomes text where it is sent. A
 * `channel` of null is the broadcast channel of the run that sends it.
 */
const Message = v.object({
  channel: v.nullable(v.string()),
  pipeline: v.object({
    id: Count,
    commit: v.string(),
    branch: v.optional(v.string()),
    url: Address,
    at: Timestamp,
    project: Project,
  }),
  news: v.array(News),
  hello: v.optional(Hello),
});
export type Message = v.InferOutput<typeof Message>;

/**
 * What is not delivered yet. A run may send it once it is `due`, and then gives it a new `id`. It
 * is `held` where Slack asked to wait; else another run is just sending it.
 */
const PendingMessage = v.object({ id: v.string(), due: Timestamp, held: v.optional(v.boolean()), ...Message.entries });
export type PendingMessage = v.InferOutput<typeof PendingMessage>;

/** Of jobs that are not tracked: the commit with which each passed last, and when. */
type Passes = Map<string, { commit: string; at: string }>;

const StoredPasses = v.pipe(
  v.array(v.looseObject({ commit: v.string(), at: Timestamp, jobs: v.array(v.string()) })),
  v.transform((all): Passes => new Map(all.flatMap(({ jobs, ...pass }) => jobs.map((name) => [name, pass])))),
);

const JobExecutions = v.pipe(
  PlainObject,
  v.looseObject({
    pipeline_id: v.optional(Count, 0),
    commit: v.optional(v.string()),
    counted_at: v.optional(Timestamp),
    project: v.optional(Project),
    jobs: mapOf(TrackedJob),
    passed: v.optional(StoredPasses, []),
    pending_alerts: v.optional(v.array(PendingMessage), []),
  }),
);
/** The document in memory. Keys that it does not know are kept. */
export type JobExecutions = v.InferOutput<typeof JobExecutions>;

function orNothing<T extends v.GenericSchema>(schema: T) {
  return v.fallback(v.nullish(schema), undefined);
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object as a Map: valibot's own schemas drop jobs named `constructor` or `__proto__`. */
function mapOf<T extends v.GenericSchema>(values: T) {
  const toEntries = v.transform((object: Record<string, unknown>) => new Map(Object.entries(object)));
  return v.pipe(PlainObject, toEntries, v.map(v.string(), values));
}

// --- Story: what a run does, step by step, and the one function that changes the document.

const MAX_UPLOADS = 20; // of a document that other runs store at the same time
const BEGAN_ANEW_MS = 7 * DAY_MS;

/** What is counted, when, by which limits, and who is told. No token can be in it. */
export type Task = { pipeline: Pipeline; limits: Limits; owners: Owners; now: Date; dryRun?: boolean };

/** What a run talks to. `signal` ends what it waits for when that takes too long. */
export type World = {
  store: Store;
  jobs: Jobs;
  sender: Sender;
  pause: (ms: number) => Promise<unknown>;
  signal: AbortSignal;
};

/** What a run did to the document that it read, what it told whom, and what went wrong. */
export type Run = Update & { before: JobExecutions; messages: Delivery[]; errors: string[] };

/**
 * Counts a pipeline, stores the document, sends the messages. The upload that counts also records
 * the messages, and a second one takes out those that were delivered, so that a run may die
 * anywhere. Throws where the document can't be read or stored, or the jobs can't be listed: then
 * nothing was counted. What fails later is in the `errors` of the run.
 */
export async function checkConsistentFailures(task: Task, world: World): Promise<Run> {
  const listing = world.jobs(); // the CI answers while the store does
  listing.catch(() => {}); // whoever awaits it sees the error
  const store = task.dryRun ? { ...world.store, write: async () => true } : world.store;
  const { broadcast } = world.sender;

  const run = await changeDocument({ ...world, store }, async (stored) => {
    const before = stored ?? createInitialJobExecutions();
    const order = orderOf(task, before);
    const isNext = order === "next";
    const update = isNext ? updateStatistics(before, await listing, task) : await revise(order, before, listing, task);
    const { routes, warnings } = routeNews(update.news, task.owners, broadcast);
    const own = routes.map((route): Message => ({ ...route, pipeline: describePipeline(task) }));
    if (!stored) own.unshift(sayHello(task, store.source));
    const { document, messages, lost } = recordMessages(update.document, own, task, broadcast);
    return { ...update, before, document, messages, warnings: [...update.warnings, ...warnings, ...lost] };
  });

  const deliveries = await sendNotification(addressMessages(run, task.owners, broadcast), world, task);
  if (task.dryRun) return { ...run, messages: deliveries, errors: [] };
  const errors = [...describeFailures(deliveries, world.sender), ...(await settleMessages(deliveries, world))];
  return { ...run, messages: deliveries, errors };
}

type Order = "next" | "same" | "older";

/**
 * Whether a pipeline comes after the stored one. Throws where the document is another project's,
 * and where the ids must have begun anew, as then every pipeline would seem to come too late.
 */
function orderOf({ pipeline, now }: Task, { pipeline_id, counted_at, project }: JobExecutions): Order {
  const { CI_PIPELINE_ID: id, CI_PROJECT_PATH: name } = pipeline;
  if (name && project?.name && name !== project.name) {
    throw failure(
      `Cannot count a pipeline of ${name}: the document is that of ${project.name}`,
      'give each project a JOB_EXECUTIONS_URL of its own; if it was renamed, take the key "project" out of the document',
    );
  }
  if (id > pipeline_id) return "next";
  if (id === pipeline_id) return "same";
  if (counted_at && now.getTime() - Date.parse(counted_at) > BEGAN_ANEW_MS) {
    throw failure(
      `Cannot count pipeline ${id}: it is older than ${pipeline_id}, which was the last one, on ${counted_at.slice(0, 10)}`,
      "if the ids began anew (a moved project, a renamed workflow), set JOB_EXECUTIONS_URL to a new document",
    );
  }
  return "older";
}

/** A pipeline that is not counted: where it had been counted before, a re-run may have passed. */
async function revise(order: Order, before: JobExecutions, listing: Promise<Listing>, task: Task): Promise<Update> {
  const unchanged = { document: before, listing: undefined, reached: noneReached(), news: [] };
  if (order === "older") return { ...unchanged, outcome: "out-of-order", warnings: [] };
  try {
    return reviseStatistics(before, await listing, task);
  } catch (error) {
    const warning = `Whether a re-run passed is not known: ${(error as Error).message}`;
    return { ...unchanged, outcome: "already-counted", warnings: [warning] };
  }
}

type Change = { document: JobExecutions | undefined; outcome?: Outcome; messages?: PendingMessage[] };

/**
 * Reads the document, changes and stores it, and does it again where another run stored it first.
 * `change` returns the very document that it was given where there is nothing to store. An upload
 * whose answer got lost is repeated by the SDK, and then refused as a conflict: what is stored
 * shows whose it was.
 */
async function changeDocument<T extends Change>(
  { store, pause, signal }: Omit<World, "jobs" | "sender">,
  change: (stored: JobExecutions | undefined) => Promise<T>,
): Promise<T> {
  let last: T | undefined;
  for (let attempt = 1; attempt <= MAX_UPLOADS; attempt++) {
    const stored = await retrieveJobExecutions(store, signal);
    if (last && stored && isStoredBy(stored.document, last)) return last;
    last = await change(stored?.document);
    if (!last.document || last.document === stored?.document) return last;
    if (await uploadJobExecutions(last.document, stored?.version, { store, signal })) return last;
    await pause(Math.random() * Math.min(100 * 2 ** attempt, 2_000));
  }
  throw failure(
    `${CANNOT_UPLOAD} ${store.source}: it was refused ${MAX_UPLOADS} times, as if others always stored first`,
    "retry this job if other pipelines end at the same time; if none do, the store refuses its own version: " +
      "set S3_CONDITIONAL_WRITES=off",
  );
}

/** Whether what is stored is this run's: by its messages, or, without any, by its time. */
function isStoredBy(stored: JobExecutions, { outcome, document, messages = [] }: Change) {
  if (messages.length > 0) return stored.pending_alerts.some(({ id }) => messages.some((own) => own.id === id));
  const isOfPipeline = stored.pipeline_id === document?.pipeline_id && stored.counted_at === document.counted_at;
  return outcome === "counted" && isOfPipeline;
}

/** Reads the document, if there is one. Throws where it can't be read or is not valid. */
export async function retrieveJobExecutions(store: Store, signal: AbortSignal) {
  const stored = await store.read(signal);
  if (!stored) return undefined;
  const todo = "mend the document, or restore an earlier version of it";
  return { document: parseJson(JobExecutions, stored.text, { source: store.source, todo }), version: stored.version };
}

/** The document before the first pipeline. */
export function createInitialJobExecutions(): JobExecutions {
  return { pipeline_id: 0, jobs: new Map(), passed: new Map(), pending_alerts: [] };
}

/**
 * Stores the document if `version` (undefined: none) is still the stored one, and resolves to
 * whether it was. Throws where it can't be written.
 */
export function uploadJobExecutions(
  { pipeline_id, commit, counted_at, project, jobs, passed, pending_alerts, ...unknown }: JobExecutions,
  version: string | undefined,
  { store, signal }: { store: Store; signal: AbortSignal },
): Promise<boolean> {
  const byCommit = groupBy([...passed], ([, { commit }]) => commit).map((group) => {
    const times = group.map(([, { at }]) => at).sort();
    return { commit: group[0][1].commit, at: times.at(-1), jobs: group.map(([name]) => name) };
  });
  const document = {
    pipeline_id,
    commit,
    counted_at,
    project,
    ...unknown,
    jobs: Object.fromEntries(jobs),
    passed: byCommit.length > 0 ? byCommit : undefined,
    pending_alerts: pending_alerts.length > 0 ? pending_alerts : undefined,
  };
  return store.write(Buffer.from(JSON.stringify(document)), version, signal);
}

// === What only computes: no token, no time, no connection, no file, and nothing of the process.

// --- Statistics: how each job did, what that reaches, and how its alert opens, changes and closes.

const MAX_TITLE = 150; // of a commit's title, and of its author

/** The jobs that reached a threshold, each with the ids of the failures in its window. */
type Reached = {
  consecutive: Map<string, number[]>;
  cumulative: Map<string, number[]>;
  recovered: string[];
  gone: string[];
};

type Outcome = "counted" | "revised" | "already-counted" | "out-of-order";

/** What a pipeline makes of the document. */
export type Update = {
  outcome: Outcome;
  document: JobExecutions;
  listing: Listing | undefined;
  reached: Reached;
  news: News[];
  warnings: string[];
};

type Counting = Pick<Task, "pipeline" | "limits" | "now">;

/**
 * Adds the outcome of a pipeline, given as one entry a job name, to the histories. Returns a new
 * document, what reached a threshold, and what of that is news. A job that is not tracked has
 * nothing but the commit with which it passed last.
 */
export function updateStatistics(before: JobExecutions, listing: Listing, counting: Counting): Update {
  const { limits, now } = counting;
  const latest = new Map(listing.jobs.map((job) => [job.name, job]));
  const isExpired = expiryOf(before, counting);
  const reached = noneReached();
  const news: News[] = [];
  const warnings = [...listing.warnings];
  const jobs = new Map<string, TrackedJob>();
  const passed: Passes = new Map();

  for (const name of new Set([...before.jobs.keys(), ...before.passed.keys(), ...latest.keys()])) {
    const tracked = before.jobs.get(name);
    if (matchesAny(limits.IGNORE_JOBS, name)) {
      if (tracked?.alert) warnings.push(`IGNORE_JOBS matches ${name}, whose alert was open: it is dropped`);
      continue;
    }
    const execution = toExecution(latest.get(name), counting);
    if (!tracked && !execution?.failing) {
      const pass = execution?.commit ? { commit: execution.commit, at: now.toISOString() } : before.passed.get(name);
      if (pass && !isExpired(pass.at)) passed.set(name, pass);
      continue;
    }
    const counted = addExecution(name, tracked ?? NEW_JOB, execution, before, counting);
    if (execution?.failing) noteReached(reached, name, counted, limits);
    if (isExpired(counted.last_run)) {
      if (!counted.alert) continue;
      reached.gone.push(name);
      news.push(newsOf("gone", name, counted, undefined, now));
      continue;
    }
    const change = execution && changeOf(counted, thresholdsOf(name, limits), limits);
    if (change === "recovered") reached.recovered.push(name);
    const isSilent = change === "recovered" && counted.alert?.kind === "cumulative"; // it only failed often
    if (change && !isSilent) news.push(newsOf(change, name, counted, latest.get(name), now));

    const job = changeAlert(counted, change, counting);
    const isClean = job.jobs_info.length >= limits.CUMULATIVE_LENGTH && failuresIn(job.jobs_info).length === 0;
    const lastCommit = job.jobs_info.findLast((execution) => execution.commit)?.commit;
    if (job.alert || !isClean) jobs.set(name, job);
    else if (lastCommit) passed.set(name, { commit: lastCommit, at: counted.last_run });
  }
  const document = { ...before, ...lastCounted(before, counting), jobs, passed };
  return { outcome: "counted", document, listing, reached, news, warnings };
}

/** What the document says of the pipeline that was counted last. */
function lastCounted({ project }: JobExecutions, { pipeline, now }: Counting) {
  const known = projectOf(pipeline, project?.name);
  const hasAny = Object.keys(known).length > 0;
  const { CI_PIPELINE_ID: pipeline_id, CI_COMMIT_SHA: commit } = pipeline;
  return { pipeline_id, commit, counted_at: now.toISOString(), project: hasAny ? known : undefined };
}

/** Whether a time expired, reckoned to the last count: days without pipelines expire nothing. */
function expiryOf({ counted_at }: JobExecutions, { limits, now }: Counting) {
  const lastMs = Math.min(Date.parse(counted_at ?? now.toISOString()), now.getTime());
  return (at: string) => lastMs - Date.parse(at) > limits.EXPIRE_AFTER_DAYS * DAY_MS;
}

/**
 * Of a pipeline that is counted already, a job that failed in it and has passed since is taken for
 * one that passed. What it had turned is unknown again; its alert stays as it is. Where there is
 * none, the document is the very same.
 */
export function reviseStatistics(before: JobExecutions, listing: Listing, task: Pick<Task, "pipeline">): Update {
  const jobs = new Map(before.jobs);
  let isRevised = false;
  for (const { name } of listing.jobs.filter(({ outcome }) => outcome === "passed")) {
    const job = before.jobs.get(name);
    const last = job?.jobs_info.at(-1);
    const isOfPipeline = job?.last_run === before.counted_at && last?.commit === task.pipeline.CI_COMMIT_SHA;
    if (!job || !last?.failing || !isOfPipeline) continue;
    const jobs_info = [...job.jobs_info.slice(0, -1), { ...last, id: null, failing: false }];
    jobs.set(name, { ...job, consecutive_failures: 0, jobs_info, turned: undefined });
    isRevised = true;
  }
  const outcome = isRevised ? "revised" : "already-counted";
  const document = isRevised ? { ...before, jobs } : before;
  return { outcome, document, listing, reached: noneReached(), news: [], warnings: listing.warnings };
}

function noneReached(): Reached {
  return { consecutive: new Map(), cumulative: new Map(), recovered: [], gone: [] };
}

const NEW_JOB: TrackedJob = { consecutive_failures: 0, jobs_info: [] };

/** What this pipeline adds to a job's window; undefined: nothing, it stays as it is. */
function toExecution(latest: PipelineJob | undefined, { pipeline, limits }: Counting): Execution | undefined {
  const commit = pipeline.CI_COMMIT_SHA;
  if (latest?.outcome === "passed") return { id: null, failing: false, commit };
  if (latest?.outcome === "failed") {
    const isIgnored = latest.reason && matchesAny(limits.IGNORE_FAILURES, latest.reason);
    return isIgnored ? undefined : { id: latest.id, failing: true, commit };
  }
  return limits.NOT_RUN_JOBS === "pass" ? { id: null, failing: false, commit: null } : undefined;
}

function addExecution(
  name: string,
  job: TrackedJob,
  execution: Execution | undefined,
  before: JobExecutions,
  { pipeline, limits, now }: Counting,
) {
  const { last_run = now.toISOString() } = job; // the original has none
  if (!execution) return { ...job, jobs_info: job.jobs_info.slice(-limits.CUMULATIVE_LENGTH), last_run };
  const since = job.executions_since_alert === undefined ? undefined : job.executions_since_alert + 1;
  const pass = before.passed.get(name);
  const passed = pass && { id: null, failing: false, commit: pass.commit };
  const last = job.jobs_info.findLast((earlier) => earlier.commit) ?? passed;
  return {
    ...job,
    consecutive_failures: execution.failing ? job.consecutive_failures + 1 : 0,
    jobs_info: [...job.jobs_info, execution].slice(-limits.CUMULATIVE_LENGTH),
    last_run: execution.commit ? now.toISOString() : last_run,
    turned: turnOf(execution, last, before, pipeline) ?? job.turned,
    executions_since_alert: since !== undefined && since < limits.CUMULATIVE_LENGTH ? since : undefined,
  };
}

/** The turn that an execution makes after the last one that had a commit, if it makes one. */
function turnOf(execution: Execution, last: Execution | undefined, before: JobExecutions, pipeline: Pipeline) {
  if (!execution.commit || last?.failing === execution.failing) return undefined;
  const { CI_COMMIT_SHA: commit, CI_COMMIT_AUTHOR: author, CI_COMMIT_BEFORE_SHA: pushedOn = "" } = pipeline;
  const from = last?.commit ?? undefined;
  const isNextCommit = from !== undefined && from === before.commit && from !== commit;
  const isOnlyPush = /^0*$/.test(pushedOn) || pushedOn === from; // zeros: the first push of a branch
  // Else no commit can be blamed: others came between, or this very one had passed before.
  return isNextCommit && isOnlyPush ? { commit, title: titleOf(pipeline), author, from } : { commit, from };
}

/** The first line of a commit's message; of a merge, the first that says what was merged. */
function titleOf({ CI_COMMIT_TITLE = "", CI_COMMIT_DESCRIPTION = "" }: Pipeline): string | undefined {
  const lines = `${CI_COMMIT_TITLE}\n${CI_COMMIT_DESCRIPTION}`.split(/[\r\n]+/).map((line) => line.trim());
  const [first, ...others] = lines.filter((line) => line !== "");
  const isMerge = (line: string) => /^Merge (branch|pull request|remote-tracking|tag|commit) /.test(line);
  const title = first && isMerge(first) ? (others.find((line) => !isMerge(line)) ?? first) : first;
  return title && cut(title, MAX_TITLE);
}

/** The thresholds of a job. Of JOB_THRESHOLDS, the last that matches counts. */
export function thresholdsOf(name: string, limits: Limits): { inARow: number; often: number } {
  const { CONSECUTIVE_THRESHOLD: inARow, CUMULATIVE_THRESHOLD: often } = limits;
  const own = limits.JOB_THRESHOLDS.findLast(({ pattern }) => pattern.test(name));
  return own ? { inARow: own.inARow, often: own.often ?? Math.max(own.inARow, often) } : { inARow, often };
}

/** Notes the thresholds that a failed job has reached: as in the original, those that it equals. */
function noteReached(reached: Reached, name: string, job: TrackedJob, limits: Limits) {
  const failures = failuresIn(job.jobs_info);
  const ids = idsOf(failures);
  if (job.consecutive_failures === limits.CONSECUTIVE_THRESHOLD) reached.consecutive.set(name, ids);
  if (failures.length === limits.CUMULATIVE_THRESHOLD) reached.cumulative.set(name, ids);
}

/**
 * The rules for alerts: what the latest execution of a job, which is in its window already, does to
 * its alert. It opens it as broken (`consecutive`) or as failing often (`cumulative`), turns
 * failing often into broken, reports a broken job once more that had looked mended, or closes it
 * (`recovered`). Undefined: nothing changes, and nothing is reported.
 */
export function changeOf(
  job: TrackedJob,
  { inARow, often }: { inARow: number; often: number },
  { RECOVERY_THRESHOLD: passes }: Pick<Limits, "RECOVERY_THRESHOLD">,
): Exclude<Kind, "gone"> | undefined {
  const { alert, consecutive_failures: streak } = job;
  const strip = stripOf(job);
  const surelyBroken = Math.max(inARow, often); // so often in a row that nobody calls the job flaky
  if (!strip.endsWith("✗")) {
    const isOneStreak = new RegExp(`^·*✗*·{${passes},}$`).test(strip);
    const hasReallyRun = job.jobs_info.slice(-passes).some((execution) => execution.commit);
    return alert && isOneStreak && hasReallyRun ? "recovered" : undefined;
  }
  if (!alert && streak >= inARow) return "consecutive";
  if (!alert) return failuresIn(sinceAlert(job)).length >= often ? "cumulative" : undefined;
  const hadLookedMended = new RegExp(`·{${passes}}✗{${surelyBroken}}$`).test(strip);
  const isBroken = alert.kind === "cumulative" ? streak >= surelyBroken : hadLookedMended;
  return isBroken ? "consecutive" : undefined;
}

function changeAlert(job: TrackedJob, change: ReturnType<typeof changeOf>, { pipeline, now }: Counting): TrackedJob {
  if (change === undefined) return job;
  if (change === "recovered") return { ...job, alert: undefined, executions_since_alert: 0 };
  const opened = job.alert ?? { pipeline_id: pipeline.CI_PIPELINE_ID, at: now.toISOString() };
  return { ...job, alert: { ...opened, kind: change } };
}

function newsOf(kind: Kind, job: string, counted: TrackedJob, latest: PipelineJob | undefined, now: Date): News {
  const { alert, last_run, turned, consecutive_failures, jobs_info } = counted;
  const { id, url, stage, reason } = latest ?? {};
  const passes = lastThat(jobs_info, false);
  const window = sinceAlert(counted);
  const said = {
    consecutive: { times: consecutive_failures, executions: lastThat(jobs_info, true), turned },
    cumulative: { times: failuresIn(window).length, executions: window, turned: undefined },
    recovered: { times: passes.length, executions: passes, turned },
    gone: { times: 0, executions: [], turned: undefined },
  }[kind];
  const ids = idsOf(failuresIn(said.executions));
  const since = (kind === "gone" ? last_run : alert?.at) ?? now.toISOString();
  const job_id = id ?? idsOf(failuresIn(jobs_info)).at(-1);
  return { kind, job, job_id, url, stage, reason, ...said, executions: said.executions.length, ids, since };
}

/** The executions since the last alert of a job was closed, as far as they are in its window. */
function sinceAlert({ jobs_info, executions_since_alert: since = jobs_info.length }: TrackedJob) {
  return jobs_info.slice(Math.max(jobs_info.length - since, 0));
}

/** The window of a job as a strip, the oldest execution first. */
export function stripOf({ jobs_info }: TrackedJob): string {
  return jobs_info.map(({ failing }) => (failing ? "✗" : "·")).join("");
}

function failuresIn(executions: Execution[]) {
  return executions.filter((execution) => execution.failing);
}

function idsOf(executions: Execution[]) {
  return executions.flatMap(({ id }) => id ?? []);
}

/** The last executions that all failed, or all passed. */
function lastThat(executions: Execution[], failing: boolean) {
  return executions.slice(executions.findLastIndex((execution) => execution.failing !== failing) + 1);
}

// --- Listings: from what GitLab or GitHub list to how each job did.

/** A job by its latest attempt: where (`stage`) and why (`reason`) it failed, and its page. */
export type PipelineJob = {
  id: number;
  name: string;
  outcome: "failed" | "passed" | "not run";
  stage?: string | null | undefined;
  reason?: string | null | undefined;
  url?: string | null | undefined;
};

/** The jobs of a pipeline, one entry a name. Not every list has those that did not run. */
export type Listing = { jobs: PipelineJob[]; warnings: string[]; hasNotRun: boolean };

const Id = v.pipe(v.number("Expected a number, e.g. the build's * 1000 + index"), v.safeInteger(), v.minValue(1));

/** A job as either CI lists it: what both have, what only GitLab has, and what only GitHub has. */
const ListedJob = v.object({
  id: Id,
  name: v.pipe(v.string(), v.nonEmpty()),
  status: v.string(),
  allow_failure: v.fallback(v.boolean(), false),
  stage: Note,
  failure_reason: Note,
  web_url: Address,
  conclusion: v.nullish(v.string()),
  run_attempt: orNothing(v.number()),
  html_url: Address,
  steps: v.fallback(v.array(v.fallback(v.object({ name: Note, conclusion: Note }), {})), []),
});
type ListedJob = v.InferOutput<typeof ListedJob>;

/** A trigger job of GitLab, with the pipeline that it made, if it could. */
const Bridge = v.object({
  ...ListedJob.entries,
  pipeline: orNothing(v.object({ project_id: Id })),
  downstream_pipeline: v.nullish(v.object({ id: Id, project_id: orNothing(Id), status: Note })),
});
type Bridge = v.InferOutput<typeof Bridge>;

/** A page of GitHub's list, with the number of jobs on all pages. */
const Page = v.object({ total_count: v.fallback(v.number(), 0), jobs: v.array(ListedJob) });

/** A file of jobs: an array of them, a page, or an array of pages. */
const PagesOfJobs = v.lazy((json) => {
  const isPaged = [json].flat().some((item) => isPlainObject(item) && "jobs" in item);
  const toPages = v.transform((jobs: ListedJob[]) => [{ total_count: 0, jobs }]);
  const toArray = v.transform((page: unknown) => [page].flat());
  return isPaged ? v.pipe(v.unknown(), toArray, v.array(Page)) : v.pipe(v.array(ListedJob), toPages);
});

// The words of both CIs: of any other, nobody knows what it means.
const GITLAB_STATUSES = "success failed canceled canceling skipped manual scheduled created preparing pending running";
const STATUSES = `${GITLAB_STATUSES} waiting_for_resource waiting_for_callback completed queued in_progress waiting requested`;
const CONCLUSIONS = "success failure timed_out neutral cancelled skipped action_required stale startup_failure";
const STARTED = ["success", "failed", "running"];
const UNFINISHED = ["created", "preparing", "pending", "running", "waiting_for_resource", "waiting_for_callback"];

/** A job of a list. Only GitHub gives an `attempt`; nobody knows what `unknown` means. */
type Attempt = PipelineJob & { attempt?: number | null | undefined; unknown?: string | undefined };

function toAttempt(job: ListedJob): Attempt {
  const { id, name, status, conclusion, run_attempt: attempt, stage, failure_reason, web_url, html_url } = job;
  const isGitHub = status === "completed" && Boolean(conclusion);
  const word = isGitHub ? `${conclusion}` : status;
  const failing = isGitHub ? ["failure", "timed_out"] : ["failed"];
  const hasFailed = failing.includes(word) && !job.allow_failure;
  const otherwise = word === "success" ? "passed" : "not run";
  const outcome = hasFailed ? "failed" : otherwise;
  const step = job.steps.find((step) => step.conclusion === "failure")?.name;
  const reason = word === "timed_out" ? word : (failure_reason ?? step);
  const isKnown = (isGitHub ? CONCLUSIONS : STATUSES).split(" ").includes(word);
  const unknown = isKnown ? undefined : word;
  return { id, name, outcome, attempt, stage, reason, url: web_url ?? html_url, unknown };
}

/** One job a name: the latest attempt, by its id. Of several in that attempt, one that failed. */
function latestAttempts<T extends Attempt>(jobs: T[]): T[] {
  const newestFirst = jobs.toSorted((a, b) => b.id - a.id);
  return groupBy(newestFirst, ({ name }) => name).map(([latest, ...earlier]) => {
    const { attempt } = latest; // only GitHub numbers them; elsewhere each job is one
    const same = [latest, ...(attempt ? earlier.filter((job) => job.attempt === attempt) : [])];
    const find = (outcome: string) => same.find((job) => job.outcome === outcome);
    return find("failed") ?? find("passed") ?? latest;
  });
}

/** Reads a file's list. Throws where it is not complete, or says of no job how it did. */
function readListing(text: string, source: string): Listing {
  const todo = "write into it what GitLab or GitHub lists as the jobs of a pipeline (see --help; gh api needs --slurp)";
  const pages = parseJson(PagesOfJobs, text, { source, todo });
  const listed = pages.flatMap((page) => page.jobs);
  const total = Math.max(0, ...pages.map((page) => page.total_count));
  if (total > listed.length) {
    throw failure(`${source} has ${listed.length} of ${total} jobs`, "list all pages: gh api --paginate --slurp");
  }
  const attempts = listed.map(toAttempt);
  const jobs = latestAttempts(attempts);
  const groups = groupBy(attempts, (job) => job.unknown).filter(([job]) => job.unknown);
  const unknown = groups.map((group) => `${group[0].unknown} (${formatCount(group.length, "job")})`);
  if (unknown.length === 0) return { jobs, warnings: [], hasNotRun: true };
  const what = `${source} has words that neither CI uses: ${unknown.join(", ")}`;
  const words = "a status is success or failed; with status completed, a conclusion is success, failure or timed_out";
  if (jobs.every(({ outcome }) => outcome === "not run")) throw failure(`${what}; nothing is counted`, words);
  return { jobs, warnings: [`${what}: these jobs are taken for not run; ${words}`], hasNotRun: true };
}

// --- Text and patterns: errors for people, JSON that must fit, words, times, patterns of names.

/** What the handler of an error needs to know, beside what people do. */
type Failure = Error & Details;
type Details = {
  cause?: unknown;
  exitCode?: number;
  /** More lines, each one problem. */
  lines?: string[];
  /** Of a request: what was answered, or why nothing was, and what to do before trying again. */
  reason?: string;
  todo?: string | undefined;
  isReached?: boolean;
  status?: number;
  /** Of a message: how long Slack asks to wait, and whether the channel is at fault. */
  waitMs?: number;
  isOfChannel?: boolean;
};

/** An error of one line: what failed and on what, then what to do. */
function failure(what: string, todo: string, { cause, ...details }: Details = {}): Failure {
  return Object.assign(new Error(`${what}; ${todo}`, { cause }), details);
}

/** Throws an error that names `source`, the path of the first fault in its JSON, and what to do. */
function parseJson<T extends v.GenericSchema>(
  schema: T,
  text: string,
  { source, todo }: { source: string; todo: string },
) {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const reason = (error as Error).message.replace(/[\s,.]*".*/s, ""); // without the quotation: it may hold a secret
    throw failure(`${source} is not JSON: ${reason}`, todo, { cause: error });
  }
  const { success, output, issues } = v.safeParse(schema, json, { abortEarly: true });
  if (success) return output;
  const path = v.getDotPath(issues[0]) ?? "its top";
  throw failure(`${source} is not valid at ${path}: ${issues[0].message.slice(0, 200)}`, todo);
}

/** Without what would break a line, move the cursor or turn the direction of writing. */
function toOneLine(text: string) {
  return text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]+/gu, " ");
}

/** The first UTF-16 units of a text, without half a character at the end. */
function cut(text: string, length: number) {
  return text.slice(0, length).replace(/\p{Surrogate}$/u, "");
}

function shorten(commit: string) {
  return commit.slice(0, 8);
}

function formatCount(count: number, unit: string) {
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** The numbers as `10`, or `8 to 10` where they differ. */
function formatSpan(numbers: number[]) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return low === high ? `${low}` : `${low} to ${high}`;
}

/** A time as a person says it: `2 hours`, `3 days`. A negative one, of two clocks, is none. */
export function formatDuration(ms: number): string {
  if (ms >= 2 * DAY_MS) return formatCount(Math.round(ms / DAY_MS), "day");
  if (ms >= 2 * HOUR_MS) return formatCount(Math.round(ms / HOUR_MS), "hour");
  return formatCount(Math.max(0, Math.round(ms / MINUTE_MS)), "minute");
}

/** When a job alerts, in words: of the message on the first day, and of the table. */
function describeThresholds(inARow: number, often: number, window: number) {
  return `${formatCount(inARow, "time")} in a row, or ${formatCount(often, "time")} in its last ${window} executions`;
}

/** A key that sorts names as people do: 2 before 10. */
export function naturalKey(name: string): string {
  return name.replace(/\d+/g, (digits) => digits.padStart(20, "0"));
}

function compare(a: string | number, b: string | number) {
  return Number(a > b) - Number(a < b);
}

/** The items in groups of the same key, in the order in which the keys come first. */
export function groupBy<T>(items: T[], keyOf: (item: T) => unknown): [T, ...T[]][] {
  const groups = new Map<unknown, [T, ...T[]]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return [...groups.values()];
}

/** The words of a text; a backslash takes the character behind it as it is, also a space. */
function splitWords(text: string): string[] {
  return text.match(/(\\.|[^\s\\])+/gsu) ?? [];
}

function endsInBackslash(text: string) {
  return /(^|[^\\])(\\\\)*\\$/.test(text);
}

/** A pattern of a whole name: `*` is any text, `?` any character; what follows `\` is itself. */
function toRegExp(pattern: string): RegExp {
  const source = pattern.replace(/\\(.)|\*+|./gsu, (token, escaped: string = token) => {
    if (token.startsWith("*")) return "\0";
    return token === "?" ? "." : escaped.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&");
  });
  // In `*a*b`, the first * ends at the first `a`, as good as any: else many stars are slow.
  const stars = source.replace(/\0([^\0]*)(?=\0)/g, "((?!$1).)*$1").replace("\0", ".*");
  return new RegExp(`^${stars}$`, "su");
}

function matchesAny(patterns: RegExp[], text: string) {
  return patterns.some((pattern) => pattern.test(text));
}

// --- Routing: who owns a job, which channels hear of it, and who is mentioned there.

/** A channel of an owner, and whom to mention there. */
type Target = { channel: string; mentions: string[] };
/** The rules of the owners' file, the last that matches counts, and each owner's channel. */
export type Owners = { rules: { pattern: RegExp; owners: string[] }[]; channels: Map<string, Target> };

/** What a channel is to be told; null is the broadcast channel. */
type Route = { channel: string | null; news: News[] };

/**
 * Finds who is told what: the broadcast channel everything, each owner's channel its own jobs.
 * Where `broadcast` is null there are no channels, and all is one message. An owner without a
 * channel is a warning: everything is in the broadcast channel anyway.
 */
export function routeNews(news: News[], owners: Owners, broadcast: string | null) {
  const warnings = new Set<string>();
  const copies = (broadcast === null ? [] : news).flatMap((item) =>
    ownersOf(item.job, owners).flatMap((owner) => {
      const target = targetOf(owner, owners);
      if (!target) warnings.add(`${owner} has no channel: add it to OWNER_CHANNELS_FILE`);
      return target ? { channel: target.channel, item } : [];
    }),
  );
  const everything = news.map((item) => ({ channel: broadcast, item }));
  const routes = groupBy([...everything, ...copies], ({ channel }) => bareName(channel)).map((group): Route => {
    const [{ channel }] = group;
    return { channel: channel === broadcast ? null : channel, news: [...new Set(group.map(({ item }) => item))] };
  });
  return { routes, warnings: [...warnings] };
}

/** Adds to recorded messages whom to mention, and how many alerts are open in the document. */
function addressMessages(
  { messages, document }: { messages: PendingMessage[]; document: JobExecutions },
  owners: Owners,
  broadcast: string | null,
): AddressedMessage[] {
  const open = [...document.jobs.values()].filter((job) => job.alert).length;
  return messages.map((message) => ({ ...message, open, mentions: mentionsIn(message, owners, broadcast) }));
}

/** Whom to mention in a message: whoever owns what failed in it, not what has only recovered. */
export function mentionsIn({ channel, news }: Message, owners: Owners, broadcast: string | null): string[] {
  const opened = news.filter(({ kind }) => kind === "consecutive" || kind === "cumulative");
  const targets = opened.flatMap(({ job }) => ownersOf(job, owners).map((owner) => targetOf(owner, owners)));
  const here = targets.filter((target) => bareName(target?.channel ?? null) === bareName(channel ?? broadcast));
  return [...new Set(here.flatMap((target) => target?.mentions ?? []))];
}

function ownersOf(job: string, { rules }: Owners): string[] {
  return rules.findLast(({ pattern }) => pattern.test(job))?.owners ?? [];
}

function targetOf(owner: string, { channels }: Owners): Target | undefined {
  return owner.startsWith("#") ? { channel: owner, mentions: [] } : channels.get(owner.toLowerCase());
}

/** Whether the owners' files name a channel, and not only the document does. */
function isKnownChannel(channel: string, { rules, channels }: Owners) {
  const direct = rules.flatMap(({ owners }) => owners).filter((owner) => owner.startsWith("#"));
  const named = [...direct, ...[...channels.values()].map((target) => target.channel)];
  return named.some((name) => bareName(name) === bareName(channel));
}

/** Channels are the same however they are spelt. */
function bareName(channel: string | null) {
  return channel?.replace(/^#/, "").toLowerCase() ?? null;
}

/**
 * Parses lines of a pattern and its owners, each a `#channel` or an `@owner`; a line that begins
 * with `#` is a comment. Throws an error that names `source` and the line.
 */
export function parseOwners(text: string, source: string): Owners["rules"] {
  return text.split(/\r?\n/).flatMap((line, index) => {
    if (/^\s*(#|$)/.test(line)) return [];
    const [pattern = "", ...owners] = splitWords(line);
    const fail = (problem: string, todo: string) =>
      failure(`${source}:${index + 1}: ${problem}`, todo, { exitCode: 2 });
    if (endsInBackslash(line)) throw fail("a backslash ends the line", "give it the character that it is to escape");
    if (owners.length === 0) throw fail(`${pattern} has no owner`, "add one, e.g. @acme/ci or #ci-alerts");
    const wrong = owners.find((owner) => !/^[@#]./.test(owner));
    if (wrong) throw fail(`${wrong} is not an owner`, "begin owners with @ or #, and give a comment a line of its own");
    return { pattern: toRegExp(pattern), owners: [...new Set(owners)] };
  });
}

/** An owner's channel and whom to mention there: `#team-ci <!subteam^S0123ABCD>`. */
const ChannelOfOwner = v.pipe(
  v.string(),
  v.regex(
    /^\s*[^\s<>]+(\s+<(!subteam\^\w+|@\w+|!here|!channel)>)*\s*$/,
    "Expected a channel, and then, if anybody, whom to mention, e.g. #team-ci <!subteam^S0123ABCD>",
  ),
  v.transform((text): Target => {
    const [channel = "", ...mentions] = text.trim().split(/\s+/);
    return { channel, mentions };
  }),
);

// --- Messages: from news to the text of a chat, in which names, titles and authors are data.

const MAX_MESSAGE = 3_900; // UTF-16 units as sent: Slack shows some 4,000 well
const MAX_LABEL = 100; // of a project's or branch's name, and of a stage with a reason
const MAX_HEADLINE_NAME = 200;
const MAX_ADDRESS = 500; // as sent: a longer one is left out
const MAX_SUBJECT = 250; // GitHub takes 256 characters for the title of an issue

/** How a chat writes a text that is data, a link with such a label, and a mention. */
export type Format = {
  text: (data: string) => string;
  link: (label: string, url: string) => string;
  mention: (mention: string) => string;
};

/** Slack's mrkdwn. */
export const SLACK: Format = {
  text: (data) => escapeText(disarm(toOneLine(data))),
  link: (label, url) => linkInMrkdwn(SLACK.text(label), url),
  mention: (mention) => mention,
};

/** For Mattermost and others: there, `@all` and `@name` ping, and Markdown works too. */
export const WEBHOOK: Format = {
  text: (data) => SLACK.text(silencePings(data).replaceAll("](", "]\u2060(")),
  link: (label, url) => linkInMrkdwn(WEBHOOK.text(label), url),
  mention: () => "",
};

/** CommonMark, as GitHub, Teams and Discord read it. */
export const MARKDOWN: Format = {
  text: (data) =>
    silencePings(toOneLine(data))
      .replace(/[\\`*[\]<>&~]|(?<![\p{L}\p{N}])_+|^\s*([#+=-]|\d+[.)])/gu, (mark) => mark.replace(/[^\s\d]/g, "\\$&"))
      .replace(EMOJI, ":\u2060"),
  link: (label, url) => `[${MARKDOWN.text(label)}](${encodeIn(url, /[<>()\\`]/g)})`,
  mention: () => "",
};

/** For where there is no markup: links with their addresses, unless these end with the label. */
export const PLAIN: Format = {
  text: toOneLine,
  link: (label, url) => {
    const address = encodeIn(url, /[<>]/g);
    return address.endsWith(`/${label}`) ? address : `${toOneLine(label)} (${address})`;
  },
  mention: () => "",
};

const EMOJI = /:(?=[\p{L}\p{N}_+'-]+:)|(?<=\b(https?|ftp)):(?=\/\/)/giu; // also the : of an address

/** An invisible character (U+2060) in front of a mark at the edge of a word makes it plain text. */
function disarm(text: string) {
  return text.replace(/(?<![\p{L}\p{N}*_~`])[*_~`]+/gu, "\u2060$&").replace(EMOJI, ":\u2060");
}

/** With an invisible character behind each `@`, so that `@all` and `@name` ping nobody. */
function silencePings(text: string) {
  return text.replace(/@(?=\w)/g, "@\u2060");
}

function linkInMrkdwn(label: string, url: string) {
  return `<${escapeText(encodeIn(url, /[<>|`]/g))}|${label.replaceAll("|", "/")}>`;
}

function escapeText(text: string) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function encodeIn(url: string, marks: RegExp) {
  const encode = (mark: string) => `%${mark.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  return url.replace(/[\s\p{Cc}]/gu, encodeURIComponent).replace(marks, encode);
}

/** How news of each kind begins, its word, and what is said of its jobs; the gravest first. */
const KINDS: Record<Kind, { sign: string; word: string; describe: (group: Group, context: Context) => string }> = {
  consecutive: { sign: "🔴", word: "broken", describe: describeBroken },
  cumulative: { sign: "🟠", word: "failing often", describe: describeOften },
  recovered: { sign: "🟢", word: "recovered", describe: describeRecovered },
  gone: { sign: "⚪", word: "gone", describe: describeGone },
};

/** News that is told together: of jobs that one commit broke or mended, or that are alike. */
type Group = [News, ...News[]];

/** What is told of a group: a line, and a list below it, of which only a part may fit. */
type Paragraph = { head: string; list: string[]; jobs: number };

/** How a message is written. `title`: of its only cause, if its first line has told that. */
type Context = { format: Format; links: Links; at: string; title?: string | undefined };

/** What a message is made of. */
export type Content = Pick<Message, "pipeline" | "news" | "hello"> & { mentions: string[] };

/**
 * The text of a message in the language of a chat, of at most 3,900 characters: a first line that
 * says all that a phone needs, then a paragraph for each group. What does not fit is counted.
 */
export function writeMessage(content: Content, format: Format): string {
  const { pipeline, news, hello, mentions } = content;
  const links = linksOf(pipeline);
  if (hello) return writeHello(hello, pipeline, format);
  const groups = groupNews(news);
  const title = commonTitle(groups);
  const firstLine = [...mentions.map(format.mention), writeFirstLine(content, title, format)].filter(Boolean).join(" ");
  const paragraphs = groups.map((group) => writeParagraph(group, { format, links, at: pipeline.at, title }));
  const andMore = (count: number) => (count > 0 ? [`and ${linkTo(links.pipeline, `${count} more`, format)}`] : []);

  const write = (count: number, shown: number[]) => {
    const left = paragraphs.slice(count).reduce((sum, { jobs }) => sum + jobs, 0);
    const texts = paragraphs.slice(0, count).map(({ head, list }, i) => {
      const items = list.slice(0, shown[i] ?? 0);
      return head + [...items, ...andMore(list.length - items.length)].join(", ");
    });
    return [firstLine, ...texts, ...andMore(left)].join("\n\n");
  };
  const isShort = (text: string) => text.length <= MAX_MESSAGE;
  const most = mostThatFit(paragraphs.length, (count) => isShort(write(count, [])));
  const shown = paragraphs.map(() => 0);
  for (const [i, { list }] of paragraphs.slice(0, most).entries()) {
    shown[i] = mostThatFit(list.length, (count) => isShort(write(most, shown.with(i, count))));
  }
  return write(most, shown);
}

/** How many fit: all, else as many as do while one more has to follow. */
function mostThatFit(all: number, fits: (count: number) => boolean) {
  if (fits(all)) return all;
  let count = 0;
  while (count + 1 < all && fits(count + 1)) count++;
  return count;
}

/** The first line of a message as a title, in plain text and without addresses. */
export function writeSubject(content: Content): string {
  const [line = ""] = writeMessage(content, { ...PLAIN, link: toOneLine }).split("\n", 1);
  return cut(line, MAX_SUBJECT);
}

/** News by cause, or by kind where there is none: the gravest first, then the largest group. */
function groupNews(news: News[]): Group[] {
  const rankOf = ({ kind }: News) => Object.keys(KINDS).indexOf(kind);
  const sorted = news.toSorted((a, b) => compare(naturalKey(a.job), naturalKey(b.job)));
  const groups = groupBy(sorted, ({ kind, turned }) => JSON.stringify([kind, turned?.commit, turned?.from]));
  return groups.sort((a, b) => rankOf(a[0]) - rankOf(b[0]) || b.length - a.length);
}

function commonTitle(groups: Group[]): string | undefined {
  const [first, ...others] = groups;
  const isOnly = first?.[0].kind === "consecutive" && others.length === 0;
  return isOnly && evidenceOf(first[0].turned) === "one commit" ? first[0].turned?.title : undefined;
}

function writeFirstLine({ news, pipeline }: Content, title: string | undefined, format: Format): string {
  const counts = Object.entries(KINDS).flatMap(([kind, { sign, word }]) => {
    const [first, ...others] = news.filter((item) => item.kind === kind);
    if (!first) return [];
    const name = format.text(first.job);
    const subject = others.length > 0 || name.length > MAX_HEADLINE_NAME ? formatCount(others.length + 1, "job") : name;
    return `${sign} ${subject} ${word}`;
  });
  const cause = title ? ` since "${format.text(cut(title, MAX_TITLE))}"` : "";
  return `${counts.join(", ")} in ${placeOf(pipeline, format)}${cause}, ${linkPipeline(pipeline, format)}`;
}

function placeOf({ project, branch, commit }: Message["pipeline"], { text }: Format) {
  const name = project.name ?? "this project";
  return `${text(cut(name, MAX_LABEL))} ${text(cut(branch ?? shorten(commit), MAX_LABEL))}`;
}

function linkPipeline(pipeline: Message["pipeline"], format: Format) {
  return linkTo(linksOf(pipeline).pipeline, `pipeline ${pipeline.id}`, format);
}

function writeParagraph(group: Group, context: Context): Paragraph {
  const { format, links } = context;
  const [{ kind, ids }] = group;
  const { sign, describe } = KINDS[kind];
  const details = group.map((news) => detailsOf(news, format));
  const isShared = details.every((detail) => detail === details[0]); // then they are told once
  const names = group.map((news, i) => {
    const url = news.url ?? (news.job_id ? links.job?.(news.job_id) : undefined);
    return linkTo(url, news.job, format) + (isShared ? "" : details[i]);
  });
  const subject = group.length === 1 ? names[0] : `${group.length} jobs`;
  const head = `${sign} ${subject}${isShared ? details[0] : ""} ${describe(group, context)}`;
  if (group.length > 1) return { head: `${head}\n`, list: names, jobs: group.length };
  const failures = ids.map((id) => linkTo(links.job?.(id), `${id}`, format));
  return { head: failures.length > 0 ? `${head}\nfailures: ` : head, list: failures, jobs: 1 };
}

/** Behind a job's name: where it failed, and why, if that says more than "the script failed". */
function detailsOf({ kind, stage, reason, since }: News, { text }: Format) {
  if (kind === "gone") return ` (not run since ${since.slice(0, 10)})`;
  if (kind === "recovered") return "";
  const known = [stage, reason === "script_failure" ? undefined : reason].filter(Boolean);
  return known.length > 0 ? ` (${text(cut(known.join(": "), MAX_LABEL))})` : "";
}

/** What is known of a turn: blame needs evidence. */
export function evidenceOf(turned: Turn | undefined) {
  if (turned?.from === undefined) return "nothing";
  if (turned.from === turned.commit) return "no change";
  return turned.title || turned.author ? "one commit" : "a range";
}

function describeBroken(group: Group, context: Context) {
  const [{ turned }] = group;
  const failed = `failed ${formatTimes(group)} in a row`;
  if (!turned) return failed;
  const { commit, changes, title, author } = describeTurn(turned, context);
  const since = `${failed} since ${commit}${title && !context.title ? ` "${title}"` : ""}${author && ` by ${author}`}`;
  return {
    nothing: `${failed} since ${commit} or earlier`,
    "no change": `${failed} with ${commit}, which had passed before`,
    "a range": `${failed}, ${changes}`,
    "one commit": `${since}, ${changes}`,
  }[evidenceOf(turned)];
}

function describeTurn(turned: Turn, { format, links }: Context) {
  const { commit, from = "", title = "", author = "" } = turned;
  return {
    commit: linkTo(links.commit?.(commit), shorten(commit), format),
    changes: linkTo(links.compare?.(from, commit), `changes since ${shorten(from)}`, format),
    title: format.text(cut(title, MAX_TITLE)),
    author: format.text(cut(author, MAX_TITLE)),
  };
}

function describeOften(group: Group) {
  return `failed ${formatTimes(group)} in the last ${formatSpan(group.map((news) => news.executions))} executions`;
}

function describeRecovered(group: Group, context: Context) {
  const [{ turned }] = group;
  const longestMs = Math.max(...group.map(({ since }) => Date.parse(context.at) - Date.parse(since)));
  const alerts = group.length === 1 ? "its alert was open for" : "the alerts were open for up to";
  const passed = `passed ${formatTimes(group)} in a row, ${alerts} ${formatDuration(longestMs)}`;
  if (!turned) return passed;
  const { commit, changes, title, author } = describeTurn(turned, context);
  return {
    nothing: passed,
    "no change": `${passed}, with ${commit}, which had failed before`,
    "a range": `${passed}, ${changes}`,
    "one commit": `${passed}, mended by ${commit}${title && ` "${title}"`}${author && ` (${author})`}`,
  }[evidenceOf(turned)];
}

function formatTimes(group: Group) {
  const times = formatSpan(group.map((news) => news.times));
  return `${times} ${times === "1" ? "time" : "times"}`;
}

function describeGone({ length }: Group) {
  return length === 1 ? "is gone: its alert is closed" : "are gone: their alerts are closed";
}

/** The message of the first day: whoever sees it later knows that the document was lost. */
function writeHello(hello: NonNullable<Message["hello"]>, pipeline: Message["pipeline"], format: Format): string {
  const { in_a_row, often, window, document } = hello;
  const from = linkPipeline(pipeline, format);
  return [
    `👋 check-failures now watches the CI jobs of ${placeOf(pipeline, format)}, from ${from} on.`,
    `It will speak when a job has failed ${describeThresholds(in_a_row, often, window)}, and when a broken job has recovered. Until then it is silent.`,
    `Have you seen this message before? Then the document ${format.text(cut(document, MAX_ADDRESS))} was lost, and with it the open alerts.`,
  ].join("\n");
}

function sayHello(task: Task, document: string): Message {
  const { CONSECUTIVE_THRESHOLD: in_a_row, CUMULATIVE_THRESHOLD: often, CUMULATIVE_LENGTH: window } = task.limits;
  const hello = { document, in_a_row, often, window };
  return { channel: null, pipeline: describePipeline(task), news: [], hello };
}

function describePipeline({ pipeline, now }: Pick<Task, "pipeline" | "now">): Message["pipeline"] {
  const { CI_PIPELINE_ID: id, CI_COMMIT_SHA: commit, CI_COMMIT_BRANCH: branch, CI_PIPELINE_URL: url } = pipeline;
  return { id, commit, branch, url, at: now.toISOString(), project: projectOf(pipeline) };
}

/** What the environment says of the project; where it has no name, the known one is taken. */
function projectOf({ CI_PROJECT_URL: url, ...pipeline }: Pipeline, knownName?: string): Project {
  const name = pipeline.CI_PROJECT_PATH ?? knownName;
  const gitlab = pipeline.GITLAB_CI === "true" ? "gitlab" : undefined;
  const ci = pipeline.GITHUB_ACTIONS === "true" ? "github" : gitlab;
  return { ...(name ? { name } : {}), ...(url ? { url } : {}), ...(ci ? { ci } : {}) };
}

type Links = ReturnType<typeof linksOf>;

/** The pages of GitLab or GitHub, as far as the project's address and CI are known. */
export function linksOf({ project, url, id }: { project: Project; url?: string | null | undefined; id?: number }) {
  const { ci, url: home } = project;
  if (!home || !ci) return { pipeline: url ?? undefined };
  const base = ci === "github" ? `${home}/` : `${home}/-/`;
  const encode = (text: string) => encodeURIComponent(text.toWellFormed());
  return {
    // A run's number, which GitHub's runs are counted by here, is not in its address.
    pipeline: url ?? (ci === "gitlab" && id !== undefined ? `${base}pipelines/${id}` : undefined),
    commit: (commit: string) => `${base}commit/${encode(commit)}`,
    compare: (from: string, to: string) => `${base}compare/${encode(from)}...${encode(to)}`,
    job: (job: number) => `${base}${ci === "github" ? "runs" : "jobs"}/${job}`,
  };
}

function linkTo(url: string | null | undefined, label: string, { text, link }: Format) {
  return url && link("", url).length <= MAX_ADDRESS ? link(label, url) : text(label);
}

// --- Report: what a run and a report say of the document, to people and to programs.

export type Row = { name: string; job: TrackedJob; failures: number };

/** The tracked jobs: broken ones first, then those that fail often, then by failures and name. */
export function sortJobs(jobs: Map<string, TrackedJob>): Row[] {
  const rankOf = ({ alert }: TrackedJob) => ["consecutive", "cumulative", undefined].indexOf(alert?.kind);
  return [...jobs]
    .map(([name, job]) => ({ name, job, failures: failuresIn(job.jobs_info).length, key: naturalKey(name) }))
    .sort(
      (a, b) =>
        rankOf(a.job) - rankOf(b.job) ||
        b.failures - a.failures ||
        b.job.consecutive_failures - a.job.consecutive_failures ||
        compare(a.key, b.key),
    );
}

/** The tracked jobs as a table, at most so many rows. The name is last: none can break a column. */
export function formatTable({ jobs }: JobExecutions, limits: Limits, maxRows = Number.POSITIVE_INFINITY): string {
  if (jobs.size === 0) return "No job is tracked: none has failed lately.";
  const { CONSECUTIVE_THRESHOLD, CUMULATIVE_THRESHOLD, CUMULATIVE_LENGTH, JOB_THRESHOLDS } = limits;
  const sorted = sortJobs(jobs);
  const count = (kind: Alert["kind"] | undefined) => sorted.filter(({ job }) => job.alert?.kind === kind).length;
  const counts = `${count("consecutive")} broken, ${count("cumulative")} failing often, ${count(undefined)} only watched`;
  const thresholds = describeThresholds(CONSECUTIVE_THRESHOLD, CUMULATIVE_THRESHOLD, CUMULATIVE_LENGTH);
  const exceptions = JOB_THRESHOLDS.length > 0 ? "; JOB_THRESHOLDS has exceptions" : "";
  const left = sorted.length - maxRows;
  return [
    `${formatCount(sorted.length, "job")}: ${counts}`,
    `A job alerts when it has failed ${thresholds}${exceptions}.`,
    "In executions, ✗ failed and · passed, the latest at the right.",
    "",
    ...alignRows(sorted.slice(0, maxRows), CUMULATIVE_LENGTH),
    ...(left > 0 ? [`and ${left} more: report has all`] : []),
  ].join("\n");
}

function alignRows(rows: Row[], window: number): string[] {
  const cells = rows.map(({ name, job, failures }) => [
    stripOf(job),
    `${job.consecutive_failures}`,
    `${failures}`,
    job.alert ? `${KINDS[job.alert.kind].word} since ${job.alert.at.slice(0, 10)}` : "",
    toOneLine(name),
  ]);
  const lines = [["executions", "in a row", `in ${window}`, "alert", "job"], ...cells];
  const widths = [0, 1, 2, 3].map((column) => lines.reduce((max, line) => Math.max(max, line[column]?.length ?? 0), 0));
  const pad = (cell: string, i: number) => (i < 3 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0));
  return lines.map((line) => line.map(pad).join("  "));
}

/** What a run says first: what became of the pipeline; of a dry run, also what it would send. */
function describeRun({ outcome, before, listing, messages }: Run, task: Task, broadcast: string | null): string {
  const { failed = 0, passed = 0, not_run = null } = countJobs(listing) ?? {};
  const jobs = `${formatCount(failed, "job")} failed, ${passed} passed${not_run === null ? "" : `, ${not_run} did not run`}`;
  const is = task.dryRun ? "would be" : "is";
  const outcomes: Record<Outcome, string> = {
    counted: `${is} counted, ${before.pipeline_id === 0 ? "a new document" : `after ${before.pipeline_id}`}: ${jobs}`,
    revised: `had been counted before; what failed then and has passed since ${is} counted as passed`,
    "already-counted": "had been counted before",
    "out-of-order": `is older than ${before.pipeline_id}, which is stored: it is not counted`,
  };
  const result = `Pipeline ${task.pipeline.CI_PIPELINE_ID} ${outcomes[outcome]}`;
  const delivered = messages.filter((message) => message.delivered).length;
  if (!task.dryRun && messages.length === 0) return result;
  if (!task.dryRun) return `${result}; ${delivered} of ${formatCount(messages.length, "message")} delivered`;
  const told = messages.map((message) => {
    const channel = message.channel ?? broadcast;
    return `Would send${channel ? ` to ${channel}` : ""}:\n${writeMessage(message, PLAIN)}`;
  });
  return ["Dry run: nothing is sent or written; the table is what would be stored", ...told, result].join("\n\n");
}

function toJson(run: Run, { CI_PIPELINE_ID: pipeline_id }: Pipeline, broadcast: string | null) {
  const { outcome, warnings, reached } = run;
  const messages = run.messages.map((message) => ({
    channel: message.channel ?? broadcast,
    text: writeMessage(message, SLACK),
    plain: writeMessage(message, PLAIN),
    delivered: message.delivered,
  }));
  const stored_pipeline_id = run.before.pipeline_id;
  return { outcome, pipeline_id, stored_pipeline_id, jobs: countJobs(run.listing), warnings, reached, messages };
}

/** How many jobs failed, passed and did not run; null for what is not known. */
function countJobs(listing: Listing | undefined) {
  if (!listing) return null;
  const count = (wanted: string) => listing.jobs.filter(({ outcome }) => outcome === wanted).length;
  return { failed: count("failed"), passed: count("passed"), not_run: listing.hasNotRun ? count("not run") : null };
}

/** What a report says first; `age` is when the last pipeline was counted, in words. */
function describeDocument(document: JobExecutions | undefined, source: string, age: string): string {
  if (!document) return `${source}: there is no document yet, if JOB_EXECUTIONS_URL is right`;
  const { project, pipeline_id, counted_at, pending_alerts } = document;
  const place = project?.name ? `${toOneLine(project.name)}, ${source}` : source;
  const last = counted_at
    ? `${age}, at ${counted_at}: pipeline ${pipeline_id}`
    : `pipeline ${pipeline_id} was the last`;
  const waiting =
    pending_alerts.length > 0 ? `; ${formatCount(pending_alerts.length, "message")} not delivered yet` : "";
  return `${place}: ${last}${waiting}`;
}

function documentToJson(
  { project, pipeline_id, commit, counted_at, pending_alerts, jobs }: JobExecutions,
  source: string,
) {
  const rows = sortJobs(jobs).map(({ name, job, failures }) => ({
    name,
    consecutive_failures: job.consecutive_failures,
    failures,
    executions: job.jobs_info.length,
    window: stripOf(job),
    last_run: job.last_run ?? null,
    alert: job.alert ? { kind: job.alert.kind, at: job.alert.at, pipeline_id: job.alert.pipeline_id } : null,
    turned: job.turned ?? null,
  }));
  const last = { pipeline_id, commit: commit ?? null, counted_at: counted_at ?? null };
  return { source, project: project ?? null, ...last, pending: pending_alerts.length, jobs: rows };
}

// === What touches the world: what somebody reads before giving it a token.

// --- Delivery: messages are recorded in the document, sent, and taken out or handed on.

const DUE_MS = 5 * MINUTE_MS; // the run that recorded a message is over long before
const MAX_WAITING = 10; // of one channel, in one run: a token that was dead for long is no flood
const SETTLE_TIMEOUT_MS = 20_000; // on top of the run's: what became of the messages must still be stored

/** A message as it is sent: whom to mention, and how many alerts are open after this pipeline. */
export type AddressedMessage = PendingMessage & { mentions: string[]; open: number };

/** A message and what became of it: it may be sent again once it is `due`. */
export type Delivery = AddressedMessage & { delivered: boolean; isDropped?: boolean; failure?: Failure };

/** Records in the document what this run tells, and takes over what is due of earlier runs. */
function recordMessages(document: JobExecutions, own: Message[], { owners, now }: Task, broadcast: string | null) {
  const channelOf = ({ channel }: Message) => bareName(channel ?? broadcast);
  const waitMs = ({ due }: PendingMessage) => Date.parse(due) - now.getTime();
  // A message that waits for longer than a day was recorded by a clock that ran ahead.
  const due = document.pending_alerts.filter((message) => waitMs(message) <= 0 || waitMs(message) > DAY_MS);
  // Without channels, all was said in one place. A channel that no owner has may be anybody's.
  const isSendable = ({ channel }: Message) =>
    channel === null || (broadcast !== null && isKnownChannel(channel, owners));
  const dropped = due.filter((message) => !isSendable(message));
  const sendable = groupBy(due.filter(isSendable), channelOf).flatMap((all) => all.slice(0, MAX_WAITING));

  const dueNext = new Date(now.getTime() + DUE_MS).toISOString();
  const record = (message: Message) => ({ ...message, id: randomUUID(), due: dueNext, held: undefined });
  const renewed = new Map(sendable.map((message) => [message, record(message)]));
  const kept = document.pending_alerts.filter((message) => !dropped.includes(message));
  const earlier = kept.map((message) => renewed.get(message) ?? message); // in its place: the order stays
  const recorded = own.map(record).map((message) => {
    // It must not come before what Slack asked to wait with, nor, over MAX_WAITING, before news of the same job.
    const jobs = new Set(message.news.map(({ job }) => job));
    const isAhead = (other: PendingMessage) => due.includes(other) && other.news.some(({ job }) => jobs.has(job));
    const waiting = earlier.filter((other) => channelOf(other) === channelOf(message));
    const ahead = waiting.findLast((other) => other.held || isAhead(other));
    return ahead ? { ...message, due: ahead.due, held: true } : message;
  });
  const messages = [...renewed.values(), ...recorded.filter(({ held }) => !held)];
  const channels = [...new Set(dropped.map(({ channel }) => channel))];
  const explain = (channel: string | null) =>
    `What waited for ${channel} is dropped: no owner has that channel any more`;
  const isSame = due.length === 0 && own.length === 0;
  return {
    document: isSame ? document : { ...document, pending_alerts: [...earlier, ...recorded] },
    messages,
    lost: broadcast === null ? [] : channels.map(explain),
  };
}

/**
 * Sends messages, to each channel in their order; a dry run sends none. A failure stops what else
 * is for that channel, and no other.
 */
export async function sendNotification(
  messages: AddressedMessage[],
  { sender, signal }: Pick<World, "sender" | "signal">,
  { now, dryRun }: Pick<Task, "now" | "dryRun">,
): Promise<Delivery[]> {
  if (dryRun) return messages.map((message) => ({ ...message, delivered: false }));
  const queues = groupBy(messages, ({ channel }) => bareName(channel ?? sender.broadcast));
  return (await Promise.all(queues.map((queue) => sendInOrder(queue, sender, now, signal)))).flat();
}

async function sendInOrder(
  queue: AddressedMessage[],
  sender: Sender,
  now: Date,
  signal: AbortSignal,
): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  for (const [i, message] of queue.entries()) {
    try {
      await sender.send(message, message.channel, signal);
      deliveries.push({ ...message, delivered: true });
    } catch (error) {
      const failed = error as Failure;
      const isOwners = message.channel !== null && bareName(message.channel) !== bareName(sender.broadcast);
      if (failed.isOfChannel && isOwners) {
        deliveries.push({ ...message, delivered: false, isDropped: true, failure: failed });
        continue;
      }
      // The rest waits as well: a recovery must not come before its alert.
      const { waitMs = 0 } = failed;
      const due = new Date(now.getTime() + Math.min(waitMs, DAY_MS)).toISOString();
      const left = queue
        .slice(i)
        .map((rest) => ({ ...rest, delivered: false, due, held: waitMs > 0, failure: failed }));
      return [...deliveries, ...left];
    }
  }
  return deliveries;
}

/** Takes out of the document what was delivered or dropped; resolves to what kept it from that. */
async function settleMessages(deliveries: Delivery[], { store, pause }: World): Promise<string[]> {
  if (deliveries.length === 0) return [];
  const settled = new Map(deliveries.map((delivery) => [delivery.id, delivery]));
  try {
    const signal = AbortSignal.timeout(SETTLE_TIMEOUT_MS);
    await changeDocument({ store, pause, signal }, async (document) => {
      if (!document?.pending_alerts.some(({ id }) => settled.has(id))) return { document };
      const pending_alerts = document.pending_alerts.flatMap((message) => {
        const delivery = settled.get(message.id);
        if (delivery?.delivered || delivery?.isDropped) return [];
        return delivery ? { ...message, due: delivery.due, held: delivery.held || undefined } : message;
      });
      return { document: { ...document, pending_alerts } };
    });
    return [];
  } catch (error) {
    return [`It is not stored which messages were sent, so some may be sent again: ${(error as Error).message}`];
  }
}

/** A line for each channel and reason: who refused what, and what to do. */
function describeFailures(deliveries: Delivery[], { name, broadcast }: Sender): string[] {
  const failed = deliveries.filter(({ failure }) => failure);
  return groupBy(failed, ({ channel, failure }) => JSON.stringify([channel, failure?.message])).map((group) => {
    const [{ channel, failure, isDropped }] = group;
    const { reason = failure?.message, todo, isReached = true } = failure ?? {};
    const what = formatCount(group.length, "message");
    const where = channel ?? broadcast;
    const verb = isReached ? "refused" : "could not be reached with";
    const problem = `${name} ${verb} ${what}${where ? ` for ${where}` : ""}: ${reason}`;
    if (isDropped) return `${problem}; ${broadcast} has it as well, so it is dropped: ${todo}`;
    return `${problem}; ${todo ? `${todo}, then retry this job` : "retry this job later"} (the next run sends it too)`;
  });
}

// --- Store: an object in S3, or a file. AWS's credentials are found by the SDK, and stay in it.

/**
 * Where the document is stored. `read` resolves to undefined where there is none; `write` stores a
 * body in place of the `version` that was read (undefined: none), and resolves to false where
 * another one is stored by now.
 */
export type Store = {
  source: string;
  read: (signal: AbortSignal) => Promise<{ text: string; version: string } | undefined>;
  write: (body: Buffer, version: string | undefined, signal: AbortSignal) => Promise<boolean>;
};

const ACCESS_POINT = /^s3:\/\/(arn:[^/]+:accesspoint[:/][^/]+)\/(.+)$/is; // an ARN may have a slash in it
const BUCKET = /^s3:\/\/([^/]+)\/(.+)$/is;
const NO_ETAG = "an answer without an ETag, as a proxy would give it";
const PROXY_ANSWERED = "whether a proxy answered instead";
const CANNOT_UPLOAD = "Cannot upload job executions to";

/** The store that `JOB_EXECUTIONS_URL` names. */
export function openStore(access: StoreAccess, network: Network): Store {
  const url = access.JOB_EXECUTIONS_URL;
  const [, bucket, key] = ACCESS_POINT.exec(url) ?? BUCKET.exec(url) ?? [];
  return bucket && key ? s3Store(access, network, { Bucket: bucket, Key: key }) : fileStore(url);
}

function s3Store(access: StoreAccess, network: Network, object: { Bucket: string; Key: string }): Store {
  const endpoint = access.AWS_ENDPOINT_URL_S3 ?? access.AWS_ENDPOINT_URL;
  const source = access.JOB_EXECUTIONS_URL + (endpoint ? ` at ${new URL(endpoint).host}` : "");
  const isConditional = access.S3_CONDITIONAL_WRITES === "on";
  const isPathStyle = endpoint !== undefined && !object.Bucket.startsWith("arn:");
  const client = new S3Client({ ...clientOptions(access, network), forcePathStyle: isPathStyle });
  const explain = (error: unknown, action: "role" | "read" | "upload", { aborted }: AbortSignal, peer = "S3") => {
    const { name, message, $metadata: { httpStatusCode: status } = {} } = error as S3ServiceException;
    const [reason] = aborted ? ["no complete answer in time"] : message.split(/\.?\n/);
    const answer = status ? `${peer} answered ${status} ${name}: ${reason}` : `${peer}: ${reason}`;
    const said = `${action} ${status ?? "without answer"} ${name} ${reason}`.replace(` ${object.Bucket}.`, " BUCKET.");
    const known = AWS_ADVICE.find(([pattern]) => pattern.test(said))?.[1];
    const what = action === "upload" ? CANNOT_UPLOAD : "Cannot read job executions from";
    const todo = adviceOnTrust(error, network) ?? known ?? CHECK_NETWORK;
    return failure(`${what} ${source}: ${answer}`, todo, { cause: error });
  };
  return {
    source,
    async read(abortSignal) {
      await client.config.credentials().catch((error) => {
        const isAlone = /CredentialsProviderError|Region is missing/.test(`${error.name} ${error.message}`);
        throw explain(error, "role", abortSignal, isAlone ? "the AWS SDK" : "AWS's STS");
      });
      try {
        const { Body, ETag } = await client.send(new GetObjectCommand(object), { abortSignal });
        if (!ETag || !Body) throw new Error(NO_ETAG);
        const text = await decode(Body as AsyncIterable<Uint8Array>);
        return { text, version: ETag.replace(/^W\//, "") }; // a proxy makes it weak, and S3 refuses that
      } catch (error) {
        // By its name, as there may be two copies of the SDK.
        if ((error as Error).name === "NoSuchKey") return undefined;
        throw explain(error, "read", abortSignal);
      }
    },
    async write(Body, version, abortSignal) {
      const condition = version === undefined ? { IfNoneMatch: "*" } : { IfMatch: version };
      const put = { ...object, Body, ...encodingOf(Body, access), ...(isConditional ? condition : {}) };
      try {
        const { ETag } = await client.send(new PutObjectCommand(put), { abortSignal });
        if (!ETag) throw new Error(NO_ETAG);
        return true;
      } catch (error) {
        const { name, $metadata } = error as S3ServiceException;
        const isOtherVersion = [409, 412].includes($metadata?.httpStatusCode ?? 0) || name === "NoSuchKey";
        if (isConditional && isOtherVersion) return false;
        throw explain(error, "upload", abortSignal);
      }
    },
  };
}

/** Decodes piece by piece: a large body would else be in memory twice. */
async function decode(body: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  for await (const bytes of body) text += decoder.decode(bytes, { stream: true });
  return text + decoder.decode();
}

function encodingOf(body: Buffer, { S3_SSE }: StoreAccess) {
  const ChecksumSHA256 = createHash("sha256").update(body).digest("base64"); // object lock wants one
  const ServerSideEncryption = S3_SSE === "none" ? undefined : S3_SSE;
  return { ChecksumSHA256, ServerSideEncryption, ContentType: "application/json" };
}

function clientOptions(access: StoreAccess, network: Network) {
  const region = access.AWS_REGION ?? access.AWS_DEFAULT_REGION;
  return {
    ...(region ? { region } : {}), // else the SDK looks for it in its own files
    requestChecksumCalculation: "WHEN_REQUIRED" as const, // older stores choke on the CRC32 of the default
    responseChecksumValidation: "WHEN_REQUIRED" as const,
    expectContinueHeader: false, // a store or proxy that does not answer it stalls each upload of over 2 MB
    requestHandler: {
      connectionTimeout: 5_000,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      socketTimeout: REQUEST_TIMEOUT_MS,
      ...agentsFor(network),
    },
  };
}

const CHECK_KEYS = "check the AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role";
const CHECK_ROLE =
  "check AWS_ROLE_ARN, the trust policy of that role, and the audience (aud) of the token that the CI gave";
const CHECK_FILE = "write the CI's token into the file that AWS_WEB_IDENTITY_TOKEN_FILE names, and check AWS_ROLE_ARN";
const SET_REGION = "set AWS_REGION to the region of the bucket";
const RIGHTS = "allow s3:GetObject, s3:PutObject and s3:ListBucket (without it, a missing object is a 403)";
const NO_IF_MATCH =
  "if the store lacks If-Match, set S3_CONDITIONAL_WRITES=off; if it lacks encryption, set S3_SSE=none";
const NOT_PATH_STYLE = "set AWS_ENDPOINT_URL_S3: an endpoint in AWS's own config file is not addressed path-style";
const CHECK_NETWORK = `check AWS_ENDPOINT_URL_S3, the network, and ${PROXY_ANSWERED}`;

/** What to do, by action, status, error name and message in one text: the first match counts. */
const AWS_ADVICE: [said: RegExp, todo: string][] = [
  [/Region is missing/, SET_REGION],
  [/^\w+ (429|500|50[2-9]) /, "try again later"],
  [/^role .*(ENOENT|no such file)/i, CHECK_FILE],
  [/^role without .*(ECONN|ENOTFOUND|EAI_AGAIN|timed? ?out)/, "check the network, and AWS_ENDPOINT_URL_STS"],
  [/^role (\d|.*(AccessDenied|Identity|IDP|Expired|Validation))/, CHECK_ROLE],
  [/^role /, CHECK_KEYS],
  [/NoSuchBucket/, "check JOB_EXECUTIONS_URL"],
  [/InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|[Cc]redentials/, CHECK_KEYS],
  [/PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation/, SET_REGION],
  [/RequestTimeTooSkewed/, "set the clock of this machine"],
  [/encoded data was not valid/, "the document is not UTF-8: restore an earlier version"],
  [/ BUCKET\.(?!.*\.amazonaws\.com)/, NOT_PATH_STYLE],
  [/^upload 403 /, `${RIGHTS}; if the bucket demands an encryption, set S3_SSE, e.g. aws:kms`],
  [/^read 403 /, RIGHTS],
  [/^upload (400|501) /, NO_IF_MATCH],
];

/** For one run at a time: files have no version. */
function fileStore(path: string): Store {
  return {
    source: path,
    async read() {
      return existsSync(path) ? { text: await readTextFile(path), version: "" } : undefined;
    },
    async write(body) {
      const file = existsSync(path) ? realpathSync(path) : path; // a link stays one
      const temporary = `${file}.${randomUUID()}.tmp`;
      try {
        await mkdir(dirname(file), { recursive: true });
        await writeFile(temporary, body);
        await rename(temporary, file); // whole or not at all
        return true;
      } catch (error) {
        await rm(temporary, { force: true }).catch(() => {}); // what went wrong before says more
        const todo = "check JOB_EXECUTIONS_URL, and that this user may write there";
        throw failure(`${CANNOT_UPLOAD} ${path}: ${(error as Error).message}`, todo, { cause: error });
      }
    },
  };
}

// --- Jobs: where the list of the pipeline's jobs comes from: GitLab's API, or a file.

/** Where the jobs of a pipeline come from: asked for once a run. */
export type Jobs = () => Promise<Listing>;

export function openJobs(access: JobsAccess, pipelineId: number, network: Network, signal: AbortSignal): Jobs {
  const { PIPELINE_JOBS_FILE: file } = access;
  return async () => {
    const listing = file
      ? readListing(await readTextFile(file), `The list of jobs in ${file}`)
      : await gitLabJobs(access, pipelineId, network, signal);
    const isMeasured = listing.jobs.some(({ outcome }) => outcome !== "not run");
    const warning = "No job of this pipeline failed or passed: check that the list of jobs is complete";
    return isMeasured ? listing : { ...listing, warnings: [...listing.warnings, warning] };
  };
}

const PER_PAGE = 100; // the most that GitLab gives
const MAX_DEPTH = 2; // of child pipelines, as in GitLab
const MAY_NOT_READ = [401, 403, 404];

/** Asks GitLab for the jobs of a pipeline and of its child pipelines. */
async function gitLabJobs(access: JobsAccess, id: number, network: Network, signal: AbortSignal): Promise<Listing> {
  const warnings = new Map<string, string>(); // each is told once, by its key
  const list = <T extends v.GenericSchema>(path: string, schema: T) => listPages(access, path, schema, network, signal);

  async function listOrWarn<T extends v.GenericSchema>(path: string, schema: T, warning: string) {
    return list(path, schema).catch((error: Failure) => {
      if (!MAY_NOT_READ.includes(error.status ?? 0)) throw error;
      if (!warnings.has(warning)) warnings.set(warning, `${warning}: ${error.message}`);
      return undefined;
    });
  }

  /** The trigger jobs of a pipeline, and the jobs below them. */
  async function listBelow(id: number, depth: number, warning: string): Promise<PipelineJob[]> {
    const bridges = await listOrWarn(`pipelines/${id}/bridges?`, Bridge, warning);
    const latest = latestAttempts((bridges ?? []).map((bridge) => ({ ...toAttempt(bridge), bridge })));
    return (await Promise.all(latest.map((job) => followBridge(job, depth)))).flat();
  }

  async function followBridge({ bridge, ...own }: PipelineJob & { bridge: Bridge }, depth: number) {
    const child = bridge.downstream_pipeline;
    const projects = [bridge.pipeline?.project_id, access.CI_PROJECT_ID].map(String); // the latter may be a path
    if (!child || (child.project_id && !projects.includes(`${child.project_id}`))) return [own];
    if (UNFINISHED.includes(child.status ?? "")) {
      const unfinished = `The child pipeline of ${own.name} is not finished, so not all counts`;
      warnings.set(unfinished, `${unfinished}: set strategy: depend there`);
    }
    const warning = `The jobs of the child pipeline of ${own.name} are not counted`;
    const [jobs, below] = await Promise.all([
      listOrWarn(`pipelines/${child.id}/jobs?`, ListedJob, warning),
      depth < MAX_DEPTH ? listBelow(child.id, depth + 1, warning) : [],
    ]);
    const inside = [...latestAttempts((jobs ?? []).map(toAttempt)), ...below].map((job) => nameBelow(bridge, job));
    // The trigger job itself is at fault only where no job came of it, as from wrong YAML.
    const hasRun = jobs?.some((job) => STARTED.includes(job.status)) || below.some((job) => job.outcome !== "not run");
    return [{ ...own, outcome: hasRun ? ("passed" as const) : own.outcome }, ...inside];
  }

  const [jobs, below] = await Promise.all([
    list(`pipelines/${id}/jobs?scope[]=failed&scope[]=success&`, ListedJob),
    listBelow(id, 1, "Trigger jobs and child pipelines are not counted"),
  ]);
  const latest = latestAttempts([...jobs.map(toAttempt), ...below]);
  return { jobs: latest, warnings: [...warnings.values()], hasNotRun: false };
}

/** A job of a child pipeline: below a trigger job that may fail, what failed did not run. */
function nameBelow(bridge: Bridge, job: PipelineJob): PipelineJob {
  const isAllowed = bridge.allow_failure && job.outcome === "failed";
  return { ...job, name: `${bridge.name} / ${job.name}`, outcome: isAllowed ? "not run" : job.outcome };
}

/** All pages of a list: at once where GitLab says how many there are, else one after another. */
async function listPages<T extends v.GenericSchema>(
  access: JobsAccess,
  path: string,
  schema: T,
  network: Network,
  signal: AbortSignal,
) {
  const { CI_API_V4_URL, CI_PROJECT_ID = "", GITLAB_TOKEN, CI_JOB_TOKEN } = access;
  const headers = GITLAB_TOKEN ? { "private-token": GITLAB_TOKEN } : { "job-token": CI_JOB_TOKEN };
  const project = `${CI_API_V4_URL}/projects/${encodeURIComponent(CI_PROJECT_ID)}`;
  const peer = `GitLab at ${new URL(project).host}, asked for ${path.replace(/\?.*/, "")} of project ${CI_PROJECT_ID},`;
  const adviseOn = (status: number) => {
    const isRefused = status === 401 || status === 403 || (status === 404 && !GITLAB_TOKEN);
    if (isRefused) return "set GITLAB_TOKEN to one with read_api (CI_JOB_TOKEN may do for jobs from GitLab 18 on)";
    return "check CI_API_V4_URL, CI_PROJECT_ID, CI_PIPELINE_ID, and what GITLAB_TOKEN can see";
  };
  const readPage = async (page: number) => {
    const url = `${project}/${path}per_page=${PER_PAGE}&page=${page}`;
    const { body, headers: answered } = await request(peer, url, { headers, adviseOn, network, signal });
    const todo = `check CI_API_V4_URL, and ${PROXY_ANSWERED}`;
    const items = parseJson(v.array(schema), body, { source: `The answer of ${peer}`, todo });
    const next = answered["x-next-page"] ?? (/rel="?next/.test(`${answered.link}`) || items.length === PER_PAGE);
    return { items, hasNext: Boolean(next), total: Number(answered["x-total-pages"]) || 0 };
  };
  const first = await readPage(1);
  const rest = Array.from({ length: Math.max(first.total - 1, 0) }, (_, i) => readPage(i + 2));
  const pages = [first, ...(await Promise.all(rest))];
  while (first.total === 0 && pages.at(-1)?.hasNext) pages.push(await readPage(pages.length + 1));
  return pages.flatMap(({ items }) => items);
}

// --- Senders: Slack's API, a webhook, a command, or stdout where there is none of them.

/**
 * How messages are delivered. `name` is told of in errors, `place` in the log. `broadcast` is the
 * channel that gets everything, null where there are no channels; a message for `null` goes there.
 * `send` throws where a message was not delivered.
 */
export type Sender = {
  name: string;
  place: string;
  broadcast: string | null;
  send: (message: AddressedMessage, channel: string | null, signal: AbortSignal) => Promise<void>;
};

/** For a command and stdout: `environment` has no secrets; `print` throws if nobody reads. */
type Output = { environment: Variables; print: (text: string) => Promise<void>; say: (text: string) => void };

/** The sender that the environment names. */
export function openSender(access: SenderAccess, network: Network, output: Output): Sender {
  const { SLACK_WEBHOOK_URL, SLACK_API_TOKEN, ALERT_COMMAND } = access;
  if (SLACK_API_TOKEN) return slackSender(access, network);
  if (SLACK_WEBHOOK_URL) return webhookSender(SLACK_WEBHOOK_URL, network);
  if (ALERT_COMMAND) return commandSender(ALERT_COMMAND, output);
  const send = (message: AddressedMessage) => output.print(`${writeMessage(message, PLAIN)}\n`);
  return { name: "stdout", place: "this log", broadcast: null, send };
}

/** What to do about an error of `chat.postMessage`, and whether the channel is at fault. */
const SLACK_ADVICE: [error: RegExp, todo: string, isOfChannel: boolean][] = [
  [/^channel_not_found$/, "check the channel's name, and invite the bot if it is private", true],
  [/^not_in_channel$/, "invite the bot to the channel", true],
  [/^is_archived$/, "unarchive the channel, or name another one", true],
  [/^restricted_action/, "let the bot post in this channel, or name another one", true],
  [/_auth$|^not_authed$|^token_|^account_inactive$/, "set SLACK_API_TOKEN to a valid bot token (xoxb-...)", false],
  [/^missing_scope$/, "give the bot the scope chat:write", false],
  [/^rate_?limited$/, "wait a minute", false],
  [/^/, "see what Slack says of this error of chat.postMessage", false],
];

function slackSender({ SLACK_API_TOKEN, SLACK_API_URL, SLACK_CHANNEL = "" }: SenderAccess, network: Network): Sender {
  const url = `${SLACK_API_URL}/chat.postMessage`;
  const peer = `Slack at ${new URL(SLACK_API_URL).host}`;
  const headers = { authorization: `Bearer ${SLACK_API_TOKEN}` };
  const todo = `check SLACK_API_URL, and ${PROXY_ANSWERED}`;
  const Answer = v.object({ ok: v.boolean(), error: v.optional(v.string(), "no reason") });
  return {
    name: "Slack",
    place: `${SLACK_CHANNEL} on Slack`,
    broadcast: SLACK_CHANNEL,
    async send(message, channel, signal) {
      const text = writeMessage(message, SLACK);
      const json = { channel: channel ?? SLACK_CHANNEL, text, unfurl_links: false, unfurl_media: false };
      const { body } = await request(peer, url, { headers, json, adviseOn: () => todo, network, signal });
      const { ok, error } = parseJson(Answer, body, { source: `The answer of ${peer}`, todo });
      if (ok) return;
      const [, advice = "", isOfChannel = false] = SLACK_ADVICE.find(([pattern]) => pattern.test(error)) ?? [];
      throw failure(`${peer} answered ${error}`, advice, { reason: error, todo: advice, isOfChannel });
    },
  };
}

function webhookSender(url: string, network: Network): Sender {
  const peer = "The webhook";
  const todo = "check SLACK_WEBHOOK_URL";
  const format = new URL(url).host === "hooks.slack.com" ? SLACK : WEBHOOK;
  const no = v.literal(false);
  const Refusal = v.pipe(v.string(), v.parseJson(), v.union([v.object({ ok: no }), v.object({ success: no })]));
  return {
    name: peer,
    place: "a webhook",
    broadcast: null,
    async send(message, _channel, signal) {
      const json = { text: writeMessage(message, format) };
      const { body } = await request(peer, url, { headers: {}, json, adviseOn: () => todo, network, signal });
      const isPage = body.trim().startsWith("<");
      const reason = isPage ? "it answered with a page" : "it did not take the message";
      if (isPage || v.is(Refusal, body)) throw failure(`${peer}: ${reason}`, todo, { reason, todo });
    },
  };
}

const COMMAND_TIMEOUT_MS = 60_000;
const TIME_IS_UP = "the time of this run is up";
const MAX_OUTPUT = 10_000; // UTF-16 units of what a command says that are kept: its end

function commandSender(command: string, { environment, say }: Output): Sender {
  return {
    name: "ALERT_COMMAND",
    place: "ALERT_COMMAND",
    broadcast: null,
    async send(message, _channel, signal) {
      if (signal.aborted) throw failure("ALERT_COMMAND was not started", "try again later", { reason: TIME_IS_UP });
      const env = { ...environment, ALERT_SUBJECT: writeSubject(message), ALERT_OPEN: `${message.open}` };
      const { problem, output, errors } = await runCommand(command, writeMessage(message, MARKDOWN), env, signal);
      if (output.trim()) say(output.trimEnd());
      if (!problem) return;
      const lastLine = errors.trimEnd().split("\n").at(-1);
      const reason = lastLine ? `${problem}: ${lastLine}` : problem;
      throw failure(`ALERT_COMMAND: ${reason}`, "mend it", { reason, todo: "mend ALERT_COMMAND" });
    },
  };
}

/** Runs a command in the platform's shell; resolves to what it said and what went wrong. */
function runCommand(command: string, input: string, env: Variables, signal: AbortSignal) {
  type Result = { problem: string | undefined; output: string; errors: string };
  return new Promise<Result>((resolve) => {
    const isWindows = process.platform === "win32";
    const child = spawn(command, { shell: true, detached: !isWindows, env }); // a group of its own, to be ended as one
    let [output, errors, problem]: [string, string, string | undefined] = ["", "", undefined];
    const end = (reason: string) => {
      problem ??= reason;
      try {
        if (!isWindows && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {} // it has just ended, or Deno may end no group
      child.kill("SIGKILL");
      for (const stream of [child.stdout, child.stderr]) stream.destroy(); // what left its group may keep them open
    };
    const timer = setTimeout(() => end(`it took over ${COMMAND_TIMEOUT_MS / 1_000} s`), COMMAND_TIMEOUT_MS);
    const onAbort = () => end(TIME_IS_UP);
    signal.addEventListener("abort", onAbort);
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-MAX_OUTPUT);
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-MAX_OUTPUT);
      errors = (errors + text).slice(-MAX_OUTPUT);
    });
    child.stdin.on("error", () => {}); // it need not read all
    child.stdin.end(input);
    child.on("error", (error) => {
      problem ??= error.message;
    });
    child.on("close", (code, killedBy) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      if (code !== 0) problem ??= code === null ? `it was ended by ${killedBy}` : `it ended with ${code}`;
      resolve({ problem, output, errors });
    });
  });
}

// --- Requests: the function that speaks HTTP to GitLab and chats, and the one that reads files.

const REQUEST_TIMEOUT_MS = 20_000; // for which a peer may say nothing
const MAX_RETRY_AFTER_MS = 30_000; // a run does not wait for longer
const MAX_ATTEMPTS = 3; // of one request

/** `json` is posted, if there is any. `adviseOn` says what to do about a status. */
type Request = {
  headers: Record<string, string | undefined>;
  json?: object;
  adviseOn: (status: number) => string;
  network: Network;
  signal: AbortSignal;
};

/**
 * One HTTP request, tried again where the network, the peer's load or an error of its own failed
 * it. Throws an error that names the peer, and never the URL, which may be a secret.
 */
async function request(peer: string, url: string, what: Request) {
  const { adviseOn, network, signal } = what;
  const fail = (details: Details) => {
    const { isReached, reason, todo = "try again later" } = details;
    return failure(`${peer} ${isReached ? "answered" : "is unreachable:"} ${reason}`, todo, details);
  };
  let last: Details = { isReached: false, reason: "no answer" };
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    let waitMs = 500 * 2 ** attempt * Math.random();
    const answer = await exchange(url, what).catch((error: NodeJS.ErrnoException) => {
      const reason = error.message || `${error.code}`;
      const todo = adviceOnTrust(error, network);
      if (todo) throw fail({ isReached: false, reason, todo, cause: error });
      if (!signal.aborted) last = { isReached: false, reason, todo: "check its address and the network" };
    });
    if (answer) {
      const { status, headers, body } = answer;
      const [word = ""] = /^\w{1,40}$/.exec(body.trim()) ?? []; // a reason: more may repeat a secret
      last = { isReached: true, reason: `${status} ${word}`.trimEnd(), status };
      if (status >= 200 && status < 300) return answer;
      if (status !== 429 && status < 500) throw fail({ ...last, todo: adviseOn(status) });
      const askedMs = Number(headers["retry-after"]) * 1_000 || 0;
      if (askedMs > MAX_RETRY_AFTER_MS) {
        throw fail({ ...last, reason: `${last.reason} and asks to wait for ${askedMs / 1_000} s`, waitMs: askedMs });
      }
      waitMs = askedMs || waitMs;
    }
    if (attempt < MAX_ATTEMPTS) await sleep(waitMs, undefined, { signal }).catch(() => {}); // if aborted, see below
    if (signal.aborted) throw fail({ ...last, reason: `${last.reason}; ${TIME_IS_UP}`, todo: undefined });
  }
  throw fail({ ...last, reason: `${last.reason}, ${MAX_ATTEMPTS} times` });
}

/**
 * Not by fetch, which follows redirects with the token in its headers, and which under Deno sends a
 * POST again by itself when a reused connection is reset: here, each has its own.
 */
function exchange(url: string, { headers, json, network, signal }: Request) {
  type Answer = { status: number; headers: NodeJS.Dict<string | string[]>; body: string };
  const isHttps = url.startsWith("https:");
  const { httpAgent, httpsAgent } = agentsFor(network);
  return new Promise<Answer>((resolve, reject) => {
    const agent = isHttps ? httpsAgent : httpAgent;
    const options = { method: json ? "POST" : "GET", headers, signal, agent, timeout: REQUEST_TIMEOUT_MS };
    const sent = (isHttps ? https : http).request(url, options, (response) => {
      const { statusCode: status = 0, headers } = response;
      const body = response.setEncoding("utf8").toArray();
      body.then((texts) => resolve({ status, headers, body: texts.join("") }), reject);
    });
    if (json) sent.setHeader("content-type", "application/json; charset=utf-8");
    sent.on("timeout", () => sent.destroy(new Error("no answer in time")));
    sent.on("error", reject).end(json && JSON.stringify(json));
  });
}

/** A connection of its own for each request, by the proxy, if any. Node 20 ignores `proxyEnv`. */
function agentsFor({ HTTPS_PROXY, HTTP_PROXY, NO_PROXY = "" }: Network) {
  const withScheme = (proxy: string | undefined) => (!proxy || /^\w+:\/\//.test(proxy) ? proxy : `http://${proxy}`);
  const direct = NO_PROXY.split(/[\s,]+/).filter(Boolean);
  const names = direct.map((name) => name.replace(/^\*?\./, ""));
  const proxyEnv = {
    HTTPS_PROXY: withScheme(HTTPS_PROXY),
    HTTP_PROXY: withScheme(HTTP_PROXY),
    NO_PROXY: names.flatMap((name) => [name, `.${name}`]).join(), // both: not in each runtime, a name covers its subdomains
  };
  // On a reused connection, Deno sends a PUT again by itself, which the SDK does not count.
  const options = { keepAlive: false, proxyEnv };
  return { httpAgent: new http.Agent(options), httpsAgent: new https.Agent(options) };
}

/** What to do about a certificate that is not trusted: trying again does not help. */
function adviceOnTrust(error: unknown, { CI_SERVER_TLS_CA_FILE }: Network): string | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  if (!/certificate|_CERT|CERT_/i.test(`${code} ${message}`)) return undefined;
  const ofGitLab = CI_SERVER_TLS_CA_FILE ? ", for GitLab's own to $CI_SERVER_TLS_CA_FILE" : "";
  return `set NODE_EXTRA_CA_CERTS (with Deno, DENO_CERT) to the file of its certificate authority${ofGitLab}`;
}

async function readTextFile(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    const todo = "check its name and its content";
    throw failure(`Cannot read ${path}: ${(error as Error).message}`, todo, { cause: error });
  }
}

/** Reads the files of owners and channels. Throws where one can't be read, or a line is wrong. */
export async function readOwners({ JOB_OWNERS_FILE: owners, OWNER_CHANNELS_FILE: channels }: Routing): Promise<Owners> {
  try {
    const context = { source: `${channels}`, todo: "mend OWNER_CHANNELS_FILE" };
    const known = channels ? parseJson(mapOf(ChannelOfOwner), await readTextFile(channels), context) : [];
    return {
      rules: owners ? parseOwners(await readTextFile(owners), owners) : [],
      channels: new Map([...known].map(([owner, target]) => [owner.toLowerCase(), target])),
    };
  } catch (error) {
    throw Object.assign(error as Failure, { exitCode: 2 });
  }
}

// --- Settings: each variable with its description, shape and default, in the part that needs it.

export type Variables = Record<string, string | undefined>;

const REQUIRED = ""; // a default that is never valid
const OFTEN = "5";
const PASSES = "3";
const WINDOW = "10";
const DOCUMENT = matching(
  /^(s3:\/\/[^/]+\/.+|(?!s3:|file:|\S*:\/\/).+)$/i,
  "s3://bucket/key or a path, e.g. s3://ci/jobs.json",
);
const NOT_RUN = oneOf("keep", "pass");
const ENCRYPTIONS = oneOf("none", "AES256", "aws:kms", "aws:kms:dsse");
const PROJECT_ID = matching(/^\S+$/, "a project's id, e.g. 4242");
const TEXT = v.string();

const Settings = v.object({
  pipeline: v.object({
    CI_PIPELINE_ID: env("the pipeline that is counted, a number that grows", integer("1005"), REQUIRED),
    CI_COMMIT_SHA: env(
      "the commit of the pipeline",
      matching(/^[0-9a-f]{7,64}$/i, "7 to 64 hex digits, e.g. 0ddba11"),
      REQUIRED,
    ),
    CI_COMMIT_BEFORE_SHA: env("the commit before that one, or the branch's before the push", TEXT),
    CI_COMMIT_BRANCH: env("the branch of the pipeline", TEXT),
    CI_COMMIT_TITLE: env("the title of the commit, or its whole message", TEXT),
    CI_COMMIT_DESCRIPTION: env("the rest of the commit's message", TEXT),
    CI_COMMIT_AUTHOR: env("the author of the commit; an address is left out", authorName()),
    CI_PROJECT_PATH: env("the project's name, in messages and in the document", TEXT),
    CI_PROJECT_URL: env("the project's page, for links", baseUrl("gitlab.example.com/acme/shop")),
    CI_PIPELINE_URL: env("the pipeline's page, for links", httpUrl("ci.example.com/1005")),
    GITLAB_CI: env("`true`: links to commits and jobs are GitLab's", TEXT),
    GITHUB_ACTIONS: env("`true`: links to commits and jobs are GitHub's", TEXT),
  }),
  limits: v.object({
    CONSECUTIVE_THRESHOLD: env("failures in a row that open an alert", integer("3"), "3"),
    CUMULATIVE_THRESHOLD: env("failures in the last executions that open an alert", integer(OFTEN), OFTEN),
    CUMULATIVE_LENGTH: env("how many executions are the last ones", integer(WINDOW), WINDOW),
    RECOVERY_THRESHOLD: env("passes in a row that close an alert", integer(PASSES), PASSES),
    JOB_THRESHOLDS: env("by pattern: `e2e:*=5` in a row, `nightly\\ *=2/4` also in the last", thresholds(), ""),
    NOT_RUN_JOBS: env("`pass`: what did not run has passed; `keep`: it keeps its history", NOT_RUN, "keep"),
    EXPIRE_AFTER_DAYS: env("a job that has not run for so long is forgotten", integer("30"), "30"),
    IGNORE_JOBS: env("patterns of jobs that are not counted, e.g. `deploy:* manual\\ tests`", patterns(), ""),
    IGNORE_FAILURES: env("patterns of reasons that are not counted, e.g. `runner_system_failure`", patterns(), ""),
  }),
  store: v.object({
    JOB_EXECUTIONS_URL: env("where the document is; required where `CI` is set", DOCUMENT, "job_executions.v2.json"),
    S3_SSE: env("the upload's encryption; `none` leaves it to the bucket", ENCRYPTIONS, "none"),
    S3_CONDITIONAL_WRITES: env("`off` for stores without `If-Match`: races then lose counts", oneOf("on", "off"), "on"),
    AWS_REGION: env("the bucket's region; `AWS_PROFILE`, keys and all else as the AWS SDK has them", TEXT),
    AWS_DEFAULT_REGION: env("the bucket's region where `AWS_REGION` is not set", TEXT),
    AWS_ENDPOINT_URL_S3: env("an S3 that is not AWS's, addressed path-style", baseUrl("s3.example.com")),
    AWS_ENDPOINT_URL: env("an endpoint for all of AWS, if that for S3 is not set", baseUrl("s3.example.com")),
  }),
  jobs: v.object({
    PIPELINE_JOBS_FILE: env("a file of the pipeline's jobs, instead of GitLab's API", TEXT),
    CI_API_V4_URL: env("GitLab's API; required without `PIPELINE_JOBS_FILE`", baseUrl("gitlab.example.com/api/v4")),
    CI_PROJECT_ID: env("the project's id there; required without `PIPELINE_JOBS_FILE`", PROJECT_ID),
    GITLAB_TOKEN: env("its token, with `read_api`; this, `CI_JOB_TOKEN` or a file is required", token("glpat-...")),
    CI_JOB_TOKEN: env("GitLab's own token: lists jobs from GitLab 18 on, no child pipelines", token("glcbt-...")),
  }),
  sender: v.object({
    SLACK_API_TOKEN: env("a bot token; where `CI` is set, this, a webhook or a command is required", token("xoxb-...")),
    SLACK_CHANNEL: env("the channel that gets every message", matching(/^\S+$/, "a channel, e.g. #ci-alerts")),
    SLACK_WEBHOOK_URL: env("a webhook of Slack or one like it, instead of a token", httpUrl("hooks.slack.com/x")),
    ALERT_COMMAND: env("a command that gets each message on stdin, instead of Slack; `cat`: the log", TEXT),
    SLACK_API_URL: env("Slack's API", baseUrl("slack.com/api"), "https://slack.com/api"),
  }),
  routing: v.object({
    JOB_OWNERS_FILE: env("lines of a pattern of jobs and their owners, who hear of them as well", TEXT),
    OWNER_CHANNELS_FILE: env("JSON: the channel of each owner, and whom to mention there", TEXT),
  }),
  network: v.object({
    HTTPS_PROXY: env("the proxy for https addresses; also in lower case, which wins", TEXT),
    HTTP_PROXY: env("the proxy for http addresses; also in lower case, which wins", TEXT),
    NO_PROXY: env("hosts to reach without a proxy, with their subdomains; also in lower case, which wins", TEXT),
    CI_SERVER_TLS_CA_FILE: env("GitLab's certificate authority, for advice about `NODE_EXTRA_CA_CERTS`", TEXT),
  }),
});
type Settings = v.InferOutput<typeof Settings>;
export type Pipeline = Settings["pipeline"];
type Limits = Settings["limits"];
type StoreAccess = Settings["store"];
type JobsAccess = Settings["jobs"];
type SenderAccess = Settings["sender"];
export type Routing = Settings["routing"];
/** How servers are reached. The address of a proxy may hold a password. */
type Network = Settings["network"];

/** What only the command line looks at. */
const Display = v.object({
  CI: env("set by a CI: some variables are required then", TEXT),
  CI_DEFAULT_BRANCH: env("where it is set, pipelines of other branches are not counted", TEXT),
  NO_COLOR: env("no colour", TEXT),
  FORCE_COLOR: env("colour where there is no terminal", TEXT),
  DEBUG: env("errors with their stack traces", TEXT),
});

/** Variables whose values are never printed; of a proxy's address, that is only the password. */
const SECRETS = /^((GITLAB|CI_JOB|SLACK_API|AWS_\w+)_TOKEN|AWS_SECRET_ACCESS_KEY|SLACK_WEBHOOK_URL)$/;
const PROXIES = /^https?_proxy$/i;

/** Rules between variables: the variable to name, whether it is right, what is expected. */
function checkRules(given: Variables): [variable: string, isRight: boolean, expected: string][] {
  const { PIPELINE_JOBS_FILE: file, SLACK_WEBHOOK_URL: webhook, ALERT_COMMAND: command, CI = "" } = given;
  const { SLACK_API_TOKEN: token, SLACK_CHANNEL: channel, JOB_OWNERS_FILE: owners } = given;
  const { CUMULATIVE_THRESHOLD: often, RECOVERY_THRESHOLD: passes, CUMULATIVE_LENGTH: window = WINDOW } = given;
  const isInCi = !["", "false", "0"].includes(CI);
  const fits = (threshold: string) => !(Number(threshold) > Number(window));
  const toFit = `such that no threshold is over CUMULATIVE_LENGTH, e.g. ${OFTEN} and ${WINDOW}, the defaults`;
  const own = splitWords(given.JOB_THRESHOLDS ?? "").flatMap((word) => /\/(\d+)$/.exec(word)?.[1] ?? []);
  return [
    [often ? "CUMULATIVE_THRESHOLD" : "CUMULATIVE_LENGTH", fits(often ?? OFTEN), toFit],
    [passes ? "RECOVERY_THRESHOLD" : "CUMULATIVE_LENGTH", fits(passes ?? PASSES), toFit],
    ["JOB_THRESHOLDS", own.every(fits), toFit],
    ["JOB_EXECUTIONS_URL", !isInCi || !!given.JOB_EXECUTIONS_URL, "set in CI, e.g. s3://ci-bucket/jobs.json"],
    ["CI_API_V4_URL", !!(file || given.CI_API_V4_URL), `${UNLESS_FILE}, e.g. https://gitlab.example.com/api/v4`],
    ["CI_PROJECT_ID", !!(file || given.CI_PROJECT_ID), `${UNLESS_FILE}, e.g. 4242`],
    ["GITLAB_TOKEN", !!(file || given.GITLAB_TOKEN || given.CI_JOB_TOKEN), `${UNLESS_FILE}, e.g. glpat-...`],
    ["SLACK_API_TOKEN", !isInCi || !!(token || channel || webhook || command), ANY_SENDER],
    ["SLACK_CHANNEL", !token || !!channel, "set together with SLACK_API_TOKEN, e.g. #ci-alerts"],
    ["SLACK_API_TOKEN", !channel || !!token, "set together with SLACK_CHANNEL, e.g. xoxb-..."],
    ["SLACK_WEBHOOK_URL", !webhook || !token, "unset beside SLACK_API_TOKEN, e.g. empty"],
    ["ALERT_COMMAND", !command || !(token || webhook), "unset beside Slack's variables, e.g. empty"],
    ["JOB_OWNERS_FILE", !owners || !(webhook || command), "unset beside a webhook or a command, e.g. empty"],
  ];
}

const UNLESS_FILE = "set unless PIPELINE_JOBS_FILE is";
const ANY_SENDER = "set in CI, e.g. xoxb-..., or SLACK_WEBHOOK_URL, or ALERT_COMMAND (cat: only in the log)";

/**
 * The parts of the environment for a run, or those for a report. An empty variable counts as unset.
 * Throws one error with all that is wrong, each with its name, what is expected and an example, but
 * never with a value: any may be a misplaced secret.
 */
export function parseSettings(variables: Variables): Settings {
  return parseParts(Settings, variables);
}

export function parseReportSettings(variables: Variables): Pick<Settings, "limits" | "store" | "network"> {
  return parseParts(v.pick(Settings, ["limits", "store", "network"]), variables);
}

type Parts = v.ObjectSchema<Record<string, v.ObjectSchema<v.ObjectEntries, undefined>>, undefined>;

function parseParts<T extends Parts>(schema: T, variables: Variables): v.InferOutput<T> {
  const given = Object.fromEntries(Object.entries(variables).filter(([, value]) => value));
  for (const name of ["https_proxy", "http_proxy", "no_proxy"]) {
    given[name.toUpperCase()] = given[name] ?? given[name.toUpperCase()];
  }
  const parts = Object.keys(schema.entries).map((part) => [part, given]);
  const { success, output, issues = [] } = v.safeParse(schema, Object.fromEntries(parts));
  const names = new Set(Object.values(schema.entries).flatMap((part) => Object.keys(part.entries)));
  const problems = new Map<string, string>(); // the first of each variable
  const note = (variable: string, expected: string) => {
    const state = given[variable] ? "" : " (it is not set)";
    if (!problems.has(variable)) problems.set(variable, `${variable} must be ${expected}${state}`);
  };
  for (const issue of issues) note(`${issue.path?.at(-1)?.key}`, issue.message);
  for (const [variable, isRight, expected] of checkRules(given)) {
    if (!isRight && names.has(variable)) note(variable, expected);
  }
  if (success && problems.size === 0) return output;
  throw failure("The environment is not valid", "see --help", { exitCode: 2, lines: [...problems.values()] });
}

/** Each variable with its description and its default: `required` where it must be set. */
export function describeSettings(): { name: string; standard: string; description: string }[] {
  const parts = [...Object.values(Settings.entries), Display];
  return parts.flatMap(({ entries }) =>
    Object.entries(entries).map(([name, schema]) => {
      const standard = v.is(schema, undefined) ? (v.getDefault(schema) ?? "") : "required";
      return { name, standard, description: v.getDescription(schema) ?? "" };
    }),
  );
}

/** A variable: its description, what it must look like, and its default or `REQUIRED`. */
function env<T extends v.GenericSchema<string, unknown>, const D extends string | undefined = undefined>(
  description: string,
  schema: T,
  standard?: D,
) {
  return v.pipe(v.optional(schema, standard as D), v.description(description));
}

function matching(pattern: RegExp, expected: string) {
  return v.pipe(v.string(), v.regex(pattern, expected));
}

function integer(example: string) {
  const expected = `a positive integer, e.g. ${example}`;
  return v.pipe(matching(/^0*[1-9]\d*$/, expected), v.transform(Number), v.safeInteger(expected));
}

function token(example: string) {
  return matching(/^[!-~]+$/, `a token without spaces or line breaks, e.g. ${example}`);
}

function oneOf<const T extends [string, ...string[]]>(...options: T) {
  return v.picklist(options, `one of ${options.join(", ")}, e.g. ${options[0]}`);
}

/** Patterns of jobs or reasons, separated by white space. */
function patterns() {
  const isWhole = v.check((text: string) => !endsInBackslash(text), "patterns, e.g. deploy:* manual\\ tests");
  const toPatterns = v.transform((text: string) => splitWords(text).map(toRegExp));
  return v.pipe(v.string(), isWhole, toPatterns);
}

/** Patterns of jobs, each with a threshold in a row and perhaps one in the window. */
function thresholds() {
  const expected = "patterns with thresholds, e.g. e2e:*=5 nightly\\ *=2/4";
  const parse = (word: string) => /^(.+)=0*([1-9]\d{0,5})(?:\/0*([1-9]\d{0,5}))?$/su.exec(word);
  const isRight = (text: string) => !endsInBackslash(text) && splitWords(text).every((word) => parse(word));
  const toRule = (word: string) => {
    const [, pattern = "", inARow, often] = parse(word) ?? [];
    return { pattern: toRegExp(pattern), inARow: Number(inARow), often: often ? Number(often) : undefined };
  };
  const toRules = v.transform((text: string) => splitWords(text).map(toRule));
  return v.pipe(v.string(), v.check(isRight, expected), toRules);
}

function httpUrl(example: string) {
  const expected = `an http or https URL without a password, e.g. https://${example}`;
  return v.pipe(matching(/^https?:\/\/[^\s/@]+([/?#]\S*)?$/, expected), v.url(expected));
}

/** An address to which paths are added. */
function baseUrl(example: string) {
  return v.pipe(
    httpUrl(example),
    v.transform((url) => url.replace(/\/+$/, "")),
  );
}

/** `Ada Lovelace <ada@example.com>` is a name with an address. */
function authorName() {
  const withoutAddress = (author: string) => author.replace(/\s*<[^<>]*>\s*$/, "").replace(/^(\S+)@\S+$/, "$1");
  return v.pipe(
    v.string(),
    v.transform((author) => cut(withoutAddress(author).trim(), MAX_TITLE) || undefined),
  );
}

// --- Command line: what people see, and the room that touches the process.

const RUN_TIMEOUT_MS = 90_000;
const LAST_TIMEOUT_MS = 115_000; // for what no signal reaches, e.g. an AWS credential_process
const MAX_LOG_ROWS = 40;

type Answer = { text: string; json: object; warnings?: string[]; errors?: string[] };

type Surroundings = Output & { variables: Variables; signal: AbortSignal };

/** What is asked for; with `print`, only that is printed. */
type Arguments = Record<"isReport" | "dryRun" | "json", boolean> & Partial<{ print: string; maxAgeMs: number }>;

/** Runs a command line; resolves to its exit code. */
async function main(args: string[], variables: Variables): Promise<number> {
  const { stdout, stderr } = process;
  const print = printerFor(variables);
  for (const stream of [stdout, stderr]) stream.on("error", () => {}); // a reader may leave: go on
  const stop = limitTime(() =>
    print(stderr, "Error: The run did not end in time; check what gives the AWS credentials"),
  );
  const warn = (text: string) => void print(stderr, `Warning: ${toOneLine(text)}`);
  try {
    const asked = parseArguments(args);
    if (asked.print) {
      await print(stdout, asked.print);
      return 0;
    }
    const log = asked.json ? stderr : stdout;
    const printOrThrow = async (text: string) => {
      const error = await print(log, text);
      const todo = "keep this log open";
      if (error) throw failure(`Cannot print: ${error.message}`, todo, { reason: error.message, todo, cause: error });
    };
    warnOfProxy(variables, warn);
    const environment = withoutSecrets(variables);
    const streams = { print: printOrThrow, say: (text: string) => void print(stderr, text) };
    const surroundings = { variables, environment, signal: stop.signal, ...streams };
    const { text, json, warnings = [], errors = [] } = await execute(asked, surroundings);
    print(log, paint(text, log, variables));
    const toObject = (_: string, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value);
    if (asked.json) print(stdout, JSON.stringify(json, toObject));
    for (const warning of warnings) warn(warning);
    for (const error of errors) print(stderr, `Error: ${toOneLine(error)}`);
    return errors.length > 0 ? 1 : 0;
  } catch (error) {
    const { message, stack, cause, lines = [], exitCode = 1 } = error as Failure;
    const because = cause instanceof Error ? `\nbecause of ${cause.stack}` : "";
    print(stderr, variables.DEBUG ? `${stack}${because}` : `Error: ${toOneLine(message)}`);
    for (const line of lines) print(stderr, `  ${toOneLine(line)}`);
    return exitCode;
  } finally {
    stop.abort(); // what is still asked of a peer no longer matters
  }
}

function parseArguments(args: string[]): Arguments {
  const fail = (problem: string) => failure(problem, "see --help", { exitCode: 2 });
  const known = ["report", "--dry-run", "--json", "--max-age", "--version", "--help", "-h"];
  const has = (name: string) => args.includes(name);
  const isAge = (i: number) => args[i - 1] === "--max-age";
  const wrong = args.find((arg, i) => !isAge(i) && (!known.includes(arg) || args.indexOf(arg) < i));
  if (wrong !== undefined) throw fail(`Unknown or repeated argument: ${wrong}`);
  const [, count = "", unit] = /^([1-9]\d{0,4})([dh])$/.exec(args.find((_, i) => isAge(i)) ?? "") ?? [];
  if (has("--max-age") && !(has("report") && count)) throw fail("--max-age is for report, with days or hours: 3d, 12h");
  const version = has("--version") ? VERSION : undefined;
  if (has("report") && has("--dry-run")) throw fail("--dry-run is not for report, which only reads");
  return {
    isReport: has("report"),
    dryRun: has("--dry-run"),
    json: has("--json"),
    print: has("--help") || has("-h") ? writeHelp() : version,
    maxAgeMs: count ? Number(count) * (unit === "d" ? DAY_MS : HOUR_MS) : undefined,
  };
}

async function execute({ isReport, dryRun, maxAgeMs }: Arguments, surroundings: Surroundings): Promise<Answer> {
  if (isReport) return report(surroundings, maxAgeMs);
  const { CI_DEFAULT_BRANCH, CI_COMMIT_BRANCH, CI_PIPELINE_ID } = surroundings.variables;
  const isDefaultBranch = !CI_DEFAULT_BRANCH || CI_COMMIT_BRANCH === CI_DEFAULT_BRANCH;
  if (dryRun || isDefaultBranch) return countPipeline(surroundings, dryRun);
  // Before all validation: a pipeline of another branch lacks the protected variables.
  const text = `Nothing to do: this is not a pipeline of the default branch, ${CI_DEFAULT_BRANCH}`;
  const ids = { pipeline_id: Number(CI_PIPELINE_ID) || null, stored_pipeline_id: null };
  const nothing = { jobs: null, warnings: [], reached: noneReached(), messages: [] };
  return { text, json: { outcome: "not-default-branch", ...ids, ...nothing } };
}

async function countPipeline({ variables, signal, ...output }: Surroundings, dryRun: boolean): Promise<Answer> {
  const settings = parseSettings(variables);
  const { pipeline, limits, network } = settings;
  const owners = await readOwners(settings.routing);
  const store = openStore(settings.store, network);
  const sender = openSender(settings.sender, network, output);
  const jobs = openJobs(settings.jobs, pipeline.CI_PIPELINE_ID, network, signal);
  const task = { pipeline, limits, owners, now: new Date(), dryRun };

  const run = await checkConsistentFailures(task, { store, jobs, sender, pause: sleep, signal });
  const waiting = run.document.pending_alerts.length - run.messages.length;
  if (waiting > 0) run.warnings.push(`${formatCount(waiting, "message")} will be sent by a later run`);
  const places = `Stored in ${store.source}; alerts go to ${sender.place}`;
  const text = [describeRun(run, task, sender.broadcast), formatTable(run.document, limits, MAX_LOG_ROWS), places];
  return { text: text.join("\n\n"), json: toJson(run, pipeline, sender.broadcast), ...run };
}

async function report({ variables, signal }: Surroundings, maxAgeMs = Number.POSITIVE_INFINITY): Promise<Answer> {
  const { limits, store: access, network } = parseReportSettings(variables);
  const store = openStore(access, network);
  const stored = await retrieveJobExecutions(store, signal);
  const document = stored?.document ?? createInitialJobExecutions();
  const { counted_at } = document;
  const ageMs = counted_at ? Date.now() - Date.parse(counted_at) : Number.POSITIVE_INFINITY;
  const known = counted_at && `the last pipeline was counted ${formatDuration(ageMs)} ago`;
  const age = known ?? "it is not known when a pipeline was counted";
  const error = `${store.source} is too old: ${age}; check that the job runs in each pipeline of the default branch`;
  return {
    text: `${describeDocument(stored?.document, store.source, age)}\n\n${formatTable(document, limits)}`,
    json: documentToJson(document, store.source),
    errors: ageMs > maxAgeMs ? [error] : [],
  };
}

/** Prints without secrets; resolves to the error that kept it from that, if any. */
function printerFor(variables: Variables) {
  const passwords = Object.entries(variables).flatMap(([name, value = ""]) => {
    const [, login = "", password = ""] = (PROXIES.test(name) && /^(?:\w+:\/\/)?([^/@:]*:([^/@]*))@/.exec(value)) || [];
    return [login, password];
  });
  // The longest first, as one may be a part of another.
  const hidden = [...secretsIn(variables), ...passwords.filter(isLong)]
    .flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1)])
    .sort((a, b) => b.length - a.length);
  return (stream: NodeJS.WriteStream, text: string) => {
    const shown = hidden.reduce((rest, secret) => rest.replaceAll(secret, "***"), text);
    return new Promise<Error | null | undefined>((resolve) => stream.write(`${shown}\n`, resolve));
  };
}

function secretsIn(variables: Variables): string[] {
  return Object.entries(variables).flatMap(([name, value = ""]) => (SECRETS.test(name) && isLong(value) ? value : []));
}

function isLong(secret: string) {
  return secret.length > 5; // less would be found in any text
}

/** What ALERT_COMMAND may see: nothing of AWS, and no secret under any name. */
function withoutSecrets(variables: Variables): Variables {
  const secrets = secretsIn(variables);
  const isOpen = ([name, value = ""]: [string, string | undefined]) =>
    !/^AWS_/.test(name) && !SECRETS.test(name) && !secrets.some((secret) => value.includes(secret));
  return Object.fromEntries(Object.entries(variables).filter(isOpen));
}

/** A table with its failures in red, where the stream that it is for shows colour. */
function paint(text: string, { isTTY }: NodeJS.WriteStream, { NO_COLOR, FORCE_COLOR }: Variables) {
  const isWanted = FORCE_COLOR ? FORCE_COLOR !== "0" : isTTY;
  return isWanted && !NO_COLOR ? text.replace(/✗+/g, "\u001b[31m$&\u001b[39m") : text;
}

/** Warns where Node (before 22.21) can't use the proxy: requests would only time out. */
function warnOfProxy(variables: Variables, warn: (text: string) => void) {
  const name = Object.keys(variables).find((name) => PROXIES.test(name) && variables[name]);
  const { bun, deno } = process.versions;
  if (!name || bun || deno || process.allowedNodeEnvironmentFlags.has("--use-env-proxy")) return;
  warn(`${name} is set, but Node ${process.versions.node} can't use it: run with Node 24, Bun or Deno`);
}

/** Ends a run that takes too long: by its signal, and at last, after `complain`, by its process. */
function limitTime(complain: () => void) {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal); // each request has one
  sleep(RUN_TIMEOUT_MS, undefined, { ref: false }).then(() => stop.abort());
  sleep(LAST_TIMEOUT_MS, undefined, { ref: false }).then(() => {
    complain();
    process.exit(1);
  });
  return stop;
}

function writeHelp(): string {
  const variables = describeSettings().map(({ name, standard, description }) => {
    return `  ${name}${standard && ` (${standard})`}\n      ${description}`;
  });
  return `check-failures ${VERSION}: alerts the owners of a CI job that fails consistently

Usage: node check-failures.mjs [report] [options]    the bundle: Node 20.16 or newer, Deno, Bun
       npx tsx check-failures.ts [report] [options]  this file; Node 22.18 or newer runs it without tsx

  (nothing)      count this CI pipeline, alert, store
  report         print the stored document as a table; reads only
  --dry-run      compute and print; send and write nothing; on any branch
  --max-age 3d   report: exit 1 where the last pipeline was counted longer ago (also 12h)
  --json         print one JSON object on stdout, everything else on stderr
  --version, --help

Install beside this file: npm install --no-save --ignore-scripts tsx @aws-sdk/client-s3@3.1173.0 valibot@1.5.0
Exit 0: done. 1: failed, with the reason on stderr. 2: wrong usage, environment or owners' files.

PIPELINE_JOBS_FILE, from any CI; or what GitHub lists, by gh api --paginate --slurp:
  [{"id": 314, "name": "unit tests", "status": "failed", "stage": "test", "web_url": "https://ci.example.com/314"},
   {"id": 315, "name": "lint", "status": "success"}]
JOB_OWNERS_FILE, of which the last line that matches counts, and OWNER_CHANNELS_FILE:
  unit\\ tests   @acme/core #unit-tests
  {"@acme/core": "#team-core <!subteam^S0123ABCD>"}

Variables (with their defaults; an empty one counts as unset):

${variables.join("\n")}`;
}

/** Whether it is this file that was started, under whatever name. */
function isMain(): boolean {
  if (import.meta.main) return true; // not there under tsx on Node 20, and wrong in Node 24.2
  const [, entry] = process.argv;
  if (entry === undefined) return false;
  const own = realpathSync(fileURLToPath(import.meta.url));
  // tsx takes a name without an ending, or with that of JavaScript, for this file.
  const names = [entry, `${entry}.ts`, entry.replace(/\.[cm]?js$/, ".ts")];
  return names.some((name) => existsSync(name) && realpathSync(name) === own);
}

if (isMain()) {
  for (const name in process.env) if (!process.env[name]) delete process.env[name]; // the SDK takes "" for a value
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true"; // else in each log under Node 20
  main(process.argv.slice(2), process.env).then((exitCode) => {
    process.exitCode = exitCode;
  });
}
