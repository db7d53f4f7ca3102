/**
 * check-failures 4.0.0 tells people of a CI job that fails consistently: three times in a row, or
 * five times in its last ten executions. It is the last job of a pipeline:
 *
 *   npx tsx check-failures.ts    this file, beside @aws-sdk/client-s3@3.1173.0 and valibot@1.5.0
 *   node check-failures.mjs      the bundle, made by `npm run bundle`: nothing to install
 *
 * One JSON document, in S3 or in a file, keeps how each job did in the last pipelines, and which
 * channel was told what. `--help` lists the variables that set this up. MIT licensed: copy it.
 *
 * What it decides: the room "Statistics", from `updateStatistics` to `factsOf`. Where tokens go:
 * all below the line "What touches the world"; above it, "Settings" looks at them, and sends
 * nothing. Callers come before callees.
 *
 * Audit map. What leaves this process, to whom, by which function, with which secret:
 *
 *   the document           S3          s3Store         AWS credentials, which the SDK finds
 *   questions for these    STS, SSO …  s3Store         the CI's OIDC token, what AWS's files hold
 *   questions for jobs     GitLab      listPages       GITLAB_TOKEN or CI_JOB_TOKEN
 *   messages               Slack       slackSender     SLACK_API_TOKEN
 *                          a command   commandSender   none of these, but all other variables
 *   messages, table,       stdout and  printerFor      none: it masks the values of these
 *   JSON, errors, output   stderr                      variables, not what is in AWS's files
 *
 * - Variables decide where tokens go: who can set CI_API_V4_URL or SLACK_API_URL gets the token
 *   for it, over plain http where the address says so. AWS's own variables and files (an endpoint,
 *   a profile) decide where its credentials come from and where they are used.
 * - GitLab and Slack are asked by `request`, whose `exchange` follows no redirect; S3 by the client
 *   of `openS3`. Both go by a proxy where the runtime has one.
 * - `fileStore` writes the document where JOB_EXECUTIONS_URL is a path. `readTextFile` reads that
 *   and PIPELINE_JOBS_FILE. `isMain` looks at the path that was started. The SDK reads AWS's files.
 * - `runCommand` starts ALERT_COMMAND, and the SDK a `credential_process` that AWS's files name.
 *   Either may read what this process was started with, in /proc, secrets included.
 * - `npx tsx` runs what npm has under that name: pin it by a lock file.
 * - Whoever can write the document decides what is said of which job, and which channel hears of an
 *   end; but only in the words of `writeMessage`, to which all in it is data.
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

const VERSION = "4.0.0";
const [MINUTE_MS, HOUR_MS, DAY_MS] = [60_000, 3_600_000, 86_400_000];

// --- Document: what is stored between pipelines, as the original, DataDog's Python task, has it.

/** An object, and no array: valibot's own schemas take both. */
const PlainObject = v.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "Expected an object",
);
const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Counter = v.pipe(Count, v.maxValue(1e15)); // and may grow
const TIME = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:?\d\d)$/;
const Timestamp = v.pipe(
  v.string(),
  v.check((text) => TIME.test(text) && !Number.isNaN(Date.parse(text)), "Expected a time, e.g. 2026-11-23T10:00:00Z"),
);
// An address or a note that does not fit is left out: a message can do without it.
const Address = orNothing(v.pipe(v.string(), v.regex(/^https?:\/\/[^\s/]/i)));
const Note = orNothing(v.string());

/** How a job did in one pipeline. A pass has no `id`, the original's executions no `pipeline`. */
const Execution = v.looseObject({
  id: v.nullable(Count),
  failing: v.boolean(),
  commit: v.nullish(v.string()),
  pipeline: v.optional(Count),
  title: v.optional(v.string()), // where the execution before ended otherwise
});
export type Execution = v.InferOutput<typeof Execution>;

/** The commit at which a streak began, and that of the execution before it, if that is known. */
const Turn = v.looseObject({ commit: v.string(), title: v.optional(v.string()), from: v.optional(v.string()) });
export type Turn = v.InferOutput<typeof Turn>;

/** The run that is just telling something, and until when no other run does. */
const Claim = v.object({ until: Timestamp, by: v.string() });
type Claim = v.InferOutput<typeof Claim>;

const Kind = v.picklist(["consecutive", "cumulative", "recovered", "gone"]);
export type Kind = v.InferOutput<typeof Kind>;

const Alert = v.pipe(
  v.looseObject({
    kind: Kind,
    pipeline_id: Count,
    at: Timestamp,
    changed_at: v.optional(Timestamp),
    day: v.optional(Count),
    times: v.optional(Count),
    executions: v.optional(Count),
    turned: v.optional(Turn),
    flaky: v.optional(v.boolean()),
    after: v.optional(Count),
    told: v.optional(v.pipe(PlainObject, v.record(v.string(), Timestamp))),
    claims: v.optional(v.pipe(PlainObject, v.record(v.string(), Claim))),
  }),
  v.transform(({ changed_at: at, ...alert }) => {
    if (at) return { ...alert, changed_at: at };
    return { ...alert, changed_at: alert.at, told: { "": alert.at } }; // from before version 4
  }),
);
/**
 * An alert: `consecutive` (broken) or `cumulative` (failing often) while it is open. It opened `at`
 * and last changed at `changed_at`, on the `day`; `times`, `executions` and `turned` say what was
 * true then. `told` has the channels that know of it ("": the broadcast channel), each with the
 * `changed_at` that it was told last. The alert before closed in the pipeline `after`.
 */
export type Alert = v.InferOutput<typeof Alert>;

const StoredJob = v.pipe(
  v.looseObject({
    consecutive_failures: Counter,
    jobs_info: v.optional(v.array(Execution)),
    cumulative_failures: v.optional(v.array(Execution)), // the older name of jobs_info
    last_run: v.optional(Timestamp),
    last_day: v.optional(Count),
    alert: v.optional(Alert),
  }),
  v.check((job) => (job.jobs_info ?? job.cumulative_failures) !== undefined, "Expected an array jobs_info"),
  v.transform(({ cumulative_failures, jobs_info = cumulative_failures ?? [], ...job }) => ({ ...job, jobs_info })),
);
/** The history of a job: its window, oldest execution first, and its alert. */
export type TrackedJob = v.InferOutput<typeof StoredJob>;

const Ci = v.optional(v.picklist(["gitlab", "github"]));
const Project = v.looseObject({ name: v.optional(v.string()), url: Address, ci: Ci });
/** What the environment says of a project. Without `ci`, no addresses of its pages are known. */
export type Project = v.InferOutput<typeof Project>;

/** Where a job that is not tracked passed last, and on which day. */
const Pass = v.object({ commit: v.string(), pipeline: Count, day: Count });

const JobExecutions = v.pipe(
  PlainObject,
  v.looseObject({
    pipeline_id: v.optional(Count, 0),
    commit: v.nullish(v.string()),
    counted_at: v.optional(Timestamp),
    upload: v.optional(v.string()),
    project: v.optional(Project),
    days: v.optional(Counter, 0), // of UTC, on which pipelines were counted
    last_date: v.optional(v.string()), // of these days
    hello: v.optional(Claim), // until the message of the first day is delivered
    jobs: mapOf(StoredJob),
    passed: v.fallback(v.optional(mapOf(Pass), {}), () => new Map()),
  }),
  v.transform((document) => {
    for (const { jobs_info } of document.jobs.values()) {
      const last = jobs_info.at(-1); // the original does not say of which pipeline it is
      if (last) last.pipeline ??= document.pipeline_id;
    }
    return document;
  }),
);
/** The document in memory. Keys that it does not know are kept. */
export type JobExecutions = v.InferOutput<typeof JobExecutions>;

function orNothing<T extends v.GenericSchema>(schema: T) {
  return v.fallback(v.nullish(schema), undefined);
}

/** An object as a Map: valibot's own schemas drop jobs named `constructor` or `__proto__`. */
function mapOf<T extends v.GenericSchema>(values: T) {
  const toEntries = v.transform((object: Record<string, unknown>) => new Map(Object.entries(object)));
  return v.pipe(PlainObject, toEntries, v.map(v.string(), values));
}

// --- Story: what a run does, step by step, and the one function that changes the document.

const MAX_UPLOADS = 20; // of a document that other runs store at the same time
const OVER = "1970-01-01T00:00:00.000Z"; // until when a claim lasts that is no longer in force

/** What is counted, by which limits, when, and by which run. No token can be in it. */
export type Task = {
  pipeline: Pipeline;
  limits: Limits;
  broadcast: string | null; // the channel that hears everything, where there are channels
  now: Date;
  run: string;
  dryRun?: boolean;
};

/** What a run talks to. */
export type World = {
  store: Store;
  jobs: Jobs;
  sender: Sender;
  pause: (ms: number) => Promise<unknown>;
  signal: AbortSignal; // ends what takes too long
};

/** What a run made of the document that it read, what it told whom, and what went wrong. */
export type Run = Update & { before: JobExecutions; messages: Delivery[]; errors: string[] };

/**
 * Counts a pipeline, stores the document, tells each channel what is new to it, and notes what was
 * told. Throws where the document can't be read or stored, or the jobs can't be listed: then
 * nothing was counted. What fails later is in the `errors` of the run, or in its `warnings`.
 */
export async function checkConsistentFailures(task: Task, world: World): Promise<Run> {
  const listing = world.jobs(); // the CI answers while the store does
  listing.catch(() => {}); // whoever awaits it sees the error

  // The document is retrieved and uploaded by changeDocument, again where another run was faster.
  const counted = await changeDocument(task, world, async (stored) => {
    const before = stored ?? createInitialJobExecutions();
    const update = updateStatistics(before, await listing, task);
    const news = update.outcome === "counted" ? claimNews(update, task) : { messages: [] };
    return { before, ...update, ...news };
  });

  const messages = await sendNotification(counted.messages, task, world);
  const unnoted = await noteDeliveries(messages, task, world);
  const { errors, warnings } = describeFailures(messages, task);
  return { ...counted, messages, errors: [...errors, ...unnoted], warnings: [...counted.warnings, ...warnings] };
}

/**
 * Reads the document, and stores it if it changes, again where another run stored it first. The SDK
 * repeats an upload whose answer got lost, and is refused: by its id, a run knows its own.
 */
async function changeDocument<T extends { before: JobExecutions; document: JobExecutions }>(
  { dryRun }: Task,
  { store, pause, signal }: Omit<World, "jobs" | "sender">,
  change: (stored: JobExecutions | undefined) => Promise<T>,
): Promise<T> {
  let last: T | undefined;
  for (let attempt = 1; attempt <= MAX_UPLOADS; attempt++) {
    const stored = await retrieveJobExecutions(store, signal);
    if (last && stored?.document.upload === last.document.upload) return last;
    const changed = await change(stored?.document);
    if (dryRun || changed.document === changed.before) return changed;
    last = { ...changed, document: { ...changed.document, upload: randomUUID() } };
    if (await uploadJobExecutions(last.document, stored?.version, store, signal)) return last;
    await pause(Math.random() * Math.min(100 * 2 ** attempt, 2_000));
  }
  const what = `${CANNOT_UPLOAD} ${store.source}: it was refused ${MAX_UPLOADS} times, as if others always stored first`;
  const others = "retry this job if other pipelines end at the same time";
  throw failure(what, `${others}; if none do, the store refuses its own version: set S3_CONDITIONAL_WRITES=off`);
}

/** Reads the document, if there is one. Throws where it can't be read or is not valid. */
export async function retrieveJobExecutions(store: Store, signal: AbortSignal) {
  const stored = await store.read(signal);
  if (!stored) return undefined;
  const todo = "mend the document, or restore an earlier version of it";
  return { document: parseJson(JobExecutions, stored.text, store.source, todo), version: stored.version };
}

/** The document before the first pipeline, with a hello that nobody has said. */
export function createInitialJobExecutions(): JobExecutions {
  return { pipeline_id: 0, days: 0, hello: { until: OVER, by: "" }, jobs: new Map(), passed: new Map() };
}

/** Stores the document if `version` is still the stored one: whether it was. Throws if it can't. */
export function uploadJobExecutions(document: JobExecutions, version: Version, store: Store, signal: AbortSignal) {
  return store.write(Buffer.from(JSON.stringify(toStored(document))), version, signal);
}

function toStored({ jobs, passed, days, ...rest }: JobExecutions) {
  const passes = passed.size > 0 ? Object.fromEntries(passed) : undefined;
  return { ...rest, days: days || undefined, jobs: Object.fromEntries(jobs), passed: passes };
}

// === What only computes: no token, no time, no connection, no file, and nothing of the process.

// --- Statistics: executions at their places, and how an alert opens, changes and closes.

const MAX_TITLE = 120;

type Counting = Pick<Task, "pipeline" | "limits" | "now">;

/** What a pipeline makes of the document. `ran`: the jobs that failed or passed, by their names. */
export type Update = {
  outcome: "counted" | "late" | "nothing-ran";
  document: JobExecutions;
  listing: Listing;
  ran: Map<string, PipelineJob>;
  warnings: string[];
};

/**
 * Adds the outcome of a pipeline to the histories, and returns a new document. A pipeline that is
 * older than the stored one is only filed: it brings older rules and another clock. Throws where
 * the document is another project's, or the ids of pipelines have begun anew.
 */
export function updateStatistics(before: JobExecutions, listing: Listing, counting: Counting): Update {
  const { pipeline, limits } = counting;
  checkOrder(before, counting);
  const hasRun = ({ name, outcome, reason }: PipelineJob) => {
    const isIgnored = outcome === "failed" && reason && limits.IGNORE_FAILURES.some((pattern) => pattern.test(reason));
    return outcome !== "not run" && !isIgnored && !ruleOf(name, limits)?.ignore;
  };
  const ran = new Map(listing.jobs.filter(hasRun).map((job) => [job.name, job]));
  const update = { listing, ran, warnings: listing.warnings };
  if (ran.size === 0) {
    const warning = "No job of this pipeline failed or passed: check that the list of jobs is complete";
    return { ...update, outcome: "nothing-ran", document: before, warnings: [...listing.warnings, warning] };
  }
  const isLate = pipeline.CI_PIPELINE_ID < before.pipeline_id;
  if (isLate) {
    const { counted_at = counting.now.toISOString() } = before; // the original has none
    return { ...update, outcome: "late", document: fileExecutions({ ...before, counted_at }, ran, counting) };
  }
  const filed = fileExecutions({ ...before, ...describeLatest(before, counting) }, ran, counting);
  return { ...update, outcome: "counted", document: judgeJobs(filed, counting) };
}

function checkOrder({ pipeline_id, counted_at = "", project }: JobExecutions, { pipeline, now }: Counting) {
  const { CI_PIPELINE_ID: id, CI_PROJECT_URL: url } = pipeline;
  if (url && project?.url && url !== project.url) {
    const what = `Cannot count a pipeline of ${url}: the document is that of ${project.url}`;
    const moved = 'if it has moved, take the key "project" out of the document';
    throw failure(what, `give each project a JOB_EXECUTIONS_URL of its own; ${moved}`);
  }
  if (id < pipeline_id && now.getTime() - Date.parse(counted_at) > 7 * DAY_MS) {
    const what = `Cannot count pipeline ${id}: it is older than ${pipeline_id}, the latest, of ${counted_at.slice(0, 10)}`;
    const anew =
      "if the ids began anew (a moved project, a renamed workflow), set JOB_EXECUTIONS_URL to a new document";
    throw failure(what, `a retry of an old pipeline needs nothing; ${anew}`);
  }
}

/** What is known of the latest pipeline. A day counts once, whatever clock says so first. */
function describeLatest({ days, last_date, counted_at = "", project }: JobExecutions, { pipeline, now }: Counting) {
  const { CI_PIPELINE_ID: pipeline_id, CI_COMMIT_SHA: commit } = pipeline;
  const at = now.toISOString();
  const [today, seen] = [at.slice(0, 10), last_date ?? counted_at.slice(0, 10)];
  const dates = today > seen ? { days: days + 1, last_date: today } : { days, last_date: seen };
  const known = { ...project, ...projectOf(pipeline) };
  return { pipeline_id, commit, counted_at: at, project: Object.keys(known).length > 0 ? known : undefined, ...dates };
}

/** Files what ran. Of a job that is not tracked, only the latest pass is kept, until it fails. */
function fileExecutions(document: JobExecutions, ran: Update["ran"], { pipeline, limits, now }: Counting) {
  const { CI_PIPELINE_ID: id, CI_COMMIT_SHA: commit } = pipeline;
  const [jobs, passed] = [new Map(document.jobs), new Map(document.passed)];
  const own = { commit, pipeline: id, title: titleOf(pipeline) };
  for (const [name, { id: job, outcome }] of ran) {
    const [tracked, pass] = [jobs.get(name), passed.get(name)];
    if (!tracked && pass && pass.pipeline > id) continue;
    if (!tracked && outcome === "passed") {
      passed.set(name, { commit, pipeline: id, day: document.days });
      continue;
    }
    const remembered = pass ? [{ id: null, failing: false, commit: pass.commit, pipeline: pass.pipeline }] : [];
    const history = tracked ?? { consecutive_failures: 0, jobs_info: remembered };
    const how = outcome === "failed" ? { id: job, failing: true } : { id: null, failing: false };
    const filed = fileExecution(history, { ...how, ...own }, thresholdsOf(name, limits).kept);
    jobs.set(name, { ...filed, last_run: now.toISOString(), last_day: document.days });
    passed.delete(name);
  }
  return { ...document, jobs, passed };
}

/** Puts an execution at its pipeline's place in the window, instead of what that had added. */
function fileExecution(job: TrackedJob, execution: Execution & { pipeline: number }, length: number): TrackedJob {
  const { jobs_info: window } = job;
  const { pipeline } = execution;
  if (window[0] && placeOf(window[0]) > pipeline) return job; // what came between is not known
  // A pass in front stays before a failure of its own pipeline: it is what came before.
  const isPassBefore = (other: Execution) => other === window[0] && !other.failing && execution.failing;
  const earlier = window.filter((one) => placeOf(one) < pipeline || (placeOf(one) === pipeline && isPassBefore(one)));
  const later = window.filter((one) => placeOf(one) > pipeline);
  const kept = [...earlier, execution, ...later].slice(-Math.max(length, window.length));
  const jobs_info = kept.map((one, i) => (kept[i - 1]?.failing === !one.failing ? one : { ...one, title: undefined }));
  const isNew = earlier.length + later.length === window.length;
  const streak = lastThat(jobs_info, true).length;
  const fillsWindow = streak === jobs_info.length; // it may have begun before the window
  const known = fillsWindow ? job.consecutive_failures + (isNew ? 1 : 0) : 0;
  return { ...job, consecutive_failures: Math.max(streak, known), jobs_info };
}

/** By its pipeline; the original's executions come before all others. */
function placeOf({ pipeline = -1 }: Execution) {
  return pipeline;
}

/** The first line of a commit's message; of a merge, the first that says what was merged. */
function titleOf({ CI_COMMIT_MESSAGE = "" }: Pipeline): string | undefined {
  const lines = CI_COMMIT_MESSAGE.split(/[\r\n]+/).flatMap((line) => line.trim() || []);
  const isMerge = (line: string) => /^Merge (branch|pull request|remote-tracking|tag|commit) /.test(line);
  const title = lines.find((line) => !isMerge(line)) ?? lines[0];
  return title && cut(title, MAX_TITLE);
}

/** Judges every tracked job, whether or not it ran, and forgets what nobody needs any more. */
function judgeJobs(document: JobExecutions, { pipeline, limits, now }: Counting): JobExecutions {
  const { days } = document;
  const when = { pipeline_id: pipeline.CI_PIPELINE_ID, changed_at: now.toISOString(), day: days };
  const isOld = (day = days) => days - day > 30; // days on which pipelines were counted
  const isIgnored = (name: string) => Boolean(ruleOf(name, limits)?.ignore);
  const passed = new Map([...document.passed].filter(([name, { day }]) => !isOld(day) && !isIgnored(name)));
  const jobs = new Map<string, TrackedJob>();
  for (const [name, stored] of document.jobs) {
    const thresholds = thresholdsOf(name, limits);
    const jobs_info = stored.jobs_info.slice(-thresholds.kept);
    const job = { ...stored, last_day: stored.last_day ?? days, jobs_info };
    const isGone = isOld(job.last_day) || isIgnored(name);
    const change = isGone ? "gone" : changeOf(job, thresholds);
    let alert = changeAlert(job, change, when);
    if (alert && !isOpen(alert) && isOld(alert.day)) alert = { ...alert, told: undefined, claims: undefined }; // given up
    const last = jobs_info.at(-1);
    if (isOpen(alert) || isToBeTold(alert) || (!isGone && failuresIn(jobs_info).length > 0)) {
      jobs.set(name, { ...job, alert });
    } else if (!isGone && last?.commit) {
      passed.set(name, { commit: last.commit, pipeline: last.pipeline ?? 0, day: job.last_day });
    }
  }
  return { ...document, jobs, passed };
}

export function isOpen(alert: Alert | undefined): boolean {
  return alert?.kind === "consecutive" || alert?.kind === "cumulative";
}

/** Whether some channel knows, or may know, of an alert, and must hear of its end. */
function isToBeTold(alert: Alert | undefined) {
  return Object.keys({ ...alert?.told, ...alert?.claims }).length > 0;
}

type Change = Kind | "flaky";
type When = Pick<Alert, "pipeline_id" | "changed_at" | "day">;

/**
 * The rules for alerts: what the window of a job does to its alert; undefined: nothing. A job is
 * `flaky` that was broken and only looks mended.
 */
export function changeOf(job: TrackedJob, { inARow, often }: Thresholds): Change | undefined {
  const { alert } = job;
  const executions = sinceAlertBefore(job);
  const failed = failedInARow(job);
  if (!alert || !isOpen(alert)) {
    if (failed >= inARow) return "consecutive";
    return failed > 0 && failuresIn(executions).length >= often ? "cumulative" : undefined;
  }
  const isFlaky = alert.kind === "cumulative" || alert.flaky;
  if (isFlaky && failed >= 2 * inARow) return "consecutive";
  if (lastThat(executions, false).length < inARow) return undefined;
  const isOneStreak = /^·*✗*·*$/.test(stripOf(executions)); // passes, then failures, then passes
  if (isOneStreak) return "recovered";
  return isFlaky ? undefined : "flaky";
}

/** The executions of a window without those that belong to an alert before. */
function sinceAlertBefore({ jobs_info, alert }: TrackedJob): Execution[] {
  const closedBy = isOpen(alert) ? alert?.after : alert?.pipeline_id;
  if (closedBy === undefined) return jobs_info;
  const isInReRun = (one: Execution) => one.failing && placeOf(one) === closedBy; // of the pipeline that closed it
  return jobs_info.filter((one) => placeOf(one) > closedBy || isInReRun(one));
}

/** How often a job failed in a row, up to now. A streak may be longer than the window. */
function failedInARow(job: TrackedJob) {
  const streak = lastThat(sinceAlertBefore(job), true).length;
  return streak === job.jobs_info.length ? job.consecutive_failures : streak;
}

/** The alert of a job after a change, with what is true now: it is told from that, also later. */
function changeAlert(job: TrackedJob, change: Change | undefined, when: When): Alert | undefined {
  const isOlder = job.alert?.times === undefined && isOpen(job.alert); // than version 4: nothing was noted
  const alert = job.alert && isOlder ? { ...job.alert, ...factsOf(job, job.alert.kind) } : job.alert;
  if (!change || (change === "gone" && !isOpen(alert))) return alert;
  if (change === "flaky") return alert && { ...alert, flaky: true };
  const reset = { flaky: undefined, times: undefined, executions: undefined, turned: undefined };
  const changed = { ...reset, ...when, kind: change, ...factsOf(job, change) };
  if (!alert || !isOpen(alert)) {
    // Somebody may still wait for the end of a broken alert before: then this one is its sequel, whose end is told.
    const isSequel = change === "cumulative" && isToBeTold(alert);
    const { pipeline_id: after, told, claims } = alert ?? {};
    return { ...changed, at: when.changed_at, after, told, claims, flaky: isSequel || undefined };
  }
  // Who only heard that a job fails often needs no recovery of it.
  const isSilent = change === "recovered" && alert.kind === "cumulative" && !alert.flaky;
  return { ...alert, ...changed, ...(isSilent ? { told: undefined, claims: undefined } : {}) };
}

/** What is said of an alert: how often the job failed or passed, and where that streak began. */
function factsOf(job: TrackedJob, kind: Kind): Pick<Alert, "times" | "executions" | "turned"> {
  const executions = sinceAlertBefore(job);
  if (kind === "gone") return {};
  if (kind === "cumulative") return { times: failuresIn(executions).length, executions: executions.length };
  const failing = kind === "consecutive";
  const streak = lastStreak(executions, failing);
  const [first] = streak;
  const before = first && job.jobs_info[job.jobs_info.indexOf(first) - 1];
  const from = before && before.failing !== failing ? (before.commit ?? undefined) : undefined;
  const turned = first?.commit ? { commit: first.commit, title: first.title, from } : undefined;
  return { times: Math.max(streak.length, failing ? failedInARow(job) : 0), turned };
}

/** The executions as a strip, the oldest first. */
export function stripOf(executions: Execution[]): string {
  return executions.map(({ failing }) => (failing ? "✗" : "·")).join("");
}

export function failuresIn(executions: Execution[]): Execution[] {
  return executions.filter(({ failing }) => failing);
}

/** The executions at the end of a window that all failed, or all passed. */
function lastThat(executions: Execution[], failing: boolean) {
  return executions.slice(executions.findLastIndex((one) => one.failing !== failing) + 1);
}

/** The last executions that all failed, or all passed, whatever came after them. */
function lastStreak(executions: Execution[], failing: boolean) {
  const end = executions.findLastIndex((execution) => execution.failing === failing) + 1;
  return lastThat(executions.slice(0, end), failing);
}

// --- Listings: from what GitLab or GitHub list to how each job did.

/** A job by its latest attempt that has finished; `stage` and `reason` are those of a failure. */
export type PipelineJob = {
  id: number;
  name: string;
  outcome: "failed" | "passed" | "not run";
  stage?: string | null | undefined;
  reason?: string | null | undefined;
  url?: string | null | undefined;
};

/** The jobs of a pipeline, one entry a name. `remark`: what is not seen, for the log's end. */
export type Listing = { jobs: PipelineJob[]; warnings: string[]; remark?: string | undefined };

const AN_ID = "Expected a number, e.g. the build's * 1000 + index";
const Id = v.pipe(v.number(AN_ID), v.safeInteger(AN_ID), v.minValue(1, AN_ID));

/** A job as either CI lists it: what both have, what only GitLab has, and what only GitHub has. */
const ListedJob = v.object({
  id: v.optional(Id, Number.NaN), // which says what to give instead
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

const RUNNING = ["created", "preparing", "pending", "running", "waiting_for_resource", "waiting_for_callback"];
const UNFINISHED = [...RUNNING, "canceling", "scheduled", "queued", "in_progress", "waiting", "requested"];
const STATUSES = ["success", "failed", "canceled", "skipped", "manual", "completed", ...UNFINISHED];
const CONCLUSIONS = "success failure timed_out neutral cancelled skipped action_required stale startup_failure";

/** A job in a file: there, a word that neither CI uses may be anything, also a failure. */
const JobInFile = v.object({
  ...ListedJob.entries,
  status: v.picklist(STATUSES, "Expected success, failed or another status of GitLab's, or GitHub's completed"),
  conclusion: v.nullish(v.picklist(CONCLUSIONS.split(" "), `Expected one of ${CONCLUSIONS}`)),
});

/** A file of jobs: an array of them, or pages, each with the number of jobs on all pages. */
const PagesOfJobs = v.lazy((json) => {
  const isPaged = [json].flat().some((item) => v.is(PlainObject, item) && "jobs" in item);
  const Page = v.object({ total_count: v.fallback(v.number(), 0), jobs: v.array(JobInFile) });
  const toArray = v.transform((page: unknown) => [page].flat());
  const toPages = v.transform((jobs: ListedJob[]) => [{ total_count: 0, jobs }]);
  return isPaged ? v.pipe(v.unknown(), toArray, v.array(Page)) : v.pipe(v.array(JobInFile), toPages);
});

/** A job of a list. Only GitHub numbers attempts. */
type Attempt = PipelineJob & { attempt: number; isFinished: boolean };

function toAttempt(job: ListedJob): Attempt {
  const { id, name, status, conclusion, stage, failure_reason, web_url, html_url } = job;
  const word = status === "completed" ? (conclusion ?? "in_progress") : status;
  const hasFailed = word === (status === "completed" ? "failure" : "failed") || word === "timed_out";
  const otherwise = word === "success" ? "passed" : "not run";
  const outcome = hasFailed && !job.allow_failure ? "failed" : otherwise;
  const step = job.steps.find((step) => step.conclusion === "failure")?.name;
  const reason = word === "timed_out" ? word : (failure_reason ?? step);
  const [attempt, isFinished] = [job.run_attempt ?? 0, !UNFINISHED.includes(word)];
  return { id, name, outcome, stage, reason, url: web_url ?? html_url, attempt, isFinished };
}

/** One job a name: its latest attempt that has finished. Of several in that, one that failed. */
function latestAttempts<T extends Attempt>(jobs: T[]): T[] {
  const newestFirst = jobs.toSorted((a, b) => b.attempt - a.attempt || b.id - a.id);
  return groupBy(newestFirst, ({ name }) => name).map((attempts) => {
    const latest = attempts.find((job) => job.isFinished) ?? attempts[0];
    const isSame = ({ attempt, isFinished }: T) => isFinished && attempt > 0 && attempt === latest.attempt;
    const find = (outcome: string) => attempts.filter(isSame).find((job) => job.outcome === outcome);
    return find("failed") ?? find("passed") ?? latest;
  });
}

/** Reads a file's list. Throws where it is not complete, or has a word that neither CI uses. */
function readListing(text: string, source: string): Listing {
  const todo = "write into it what GitLab or GitHub lists as the jobs of a pipeline (see --help; gh api needs --slurp)";
  const pages = parseJson(PagesOfJobs, text, source, todo);
  const attempts = pages.flatMap((page) => page.jobs).map(toAttempt);
  const total = Math.max(0, ...pages.map((page) => page.total_count));
  if (total > attempts.length) {
    throw failure(`${source} has ${attempts.length} of ${total} jobs`, "list all pages: gh api --paginate --slurp");
  }
  const unfinished = [...new Set(attempts.flatMap(({ isFinished, name }) => (isFinished ? [] : name)))];
  const some = unfinished.length > 3 ? `${unfinished.slice(0, 3).join(", ")}, …` : unfinished.join(", ");
  const warning = `${source} has ${formatCount(unfinished.length, "job")} that had not finished: ${some}`;
  return { jobs: latestAttempts(attempts), warnings: unfinished.length > 0 ? [warning] : [] };
}

/** A trigger job, by its own status only where no job ran (as from wrong YAML), and its jobs. */
function withChild(own: PipelineJob, bridge: Bridge, jobs: ListedJob[], below: PipelineJob[]): PipelineJob[] {
  const hasStarted = jobs.some(({ status }) => ["success", "failed", "running"].includes(status));
  const hasRun = hasStarted || below.some(({ outcome }) => outcome !== "not run");
  const inside = [...latestAttempts(jobs.map(toAttempt)), ...below].map((job): PipelineJob => {
    const isAllowed = bridge.allow_failure && job.outcome === "failed";
    return { ...job, name: `${own.name} / ${job.name}`, outcome: isAllowed ? "not run" : job.outcome };
  });
  return [hasRun ? { ...own, outcome: "passed" } : own, ...inside];
}

// --- Rules: what JOB_RULES says of a job: who hears of it as well, and when it alerts.

/** A line of JOB_RULES. */
export type Rule = {
  pattern: RegExp;
  channels: string[];
  mentions: string[];
  ignore: boolean;
  thresholds: number[]; // in a row, and in the window, as far as the line says
};

/** Failures in a row, and within the window, that open an alert. */
export type Thresholds = { inARow: number; often: number };

/** The rule of a job: the last line that matches it. */
function ruleOf(name: string, { JOB_RULES }: Limits): Rule | undefined {
  return JOB_RULES.findLast(({ pattern }) => pattern.test(name));
}

/** Also how many executions of a job are kept: as many as its largest threshold needs. */
function thresholdsOf(name: string, limits: Limits) {
  const { CONSECUTIVE_THRESHOLD, CUMULATIVE_THRESHOLD, CUMULATIVE_LENGTH } = limits;
  const [own, often = Math.max(own ?? 0, CUMULATIVE_THRESHOLD)] = ruleOf(name, limits)?.thresholds ?? [];
  const inARow = own ?? CONSECUTIVE_THRESHOLD;
  return { inARow, often, kept: Math.max(CUMULATIVE_LENGTH, inARow, often) };
}

/** Parses a line of JOB_RULES; undefined where it is wrong. */
function parseRule(line: string): Rule | undefined {
  const [pattern = "", ...words] = splitWords(line);
  const find = (shape: RegExp) => words.filter((word) => shape.test(word));
  const channels = find(/^(#[^\s#<>@]+|[CDG][A-Z0-9]{5,})$/);
  const mentions = find(/^<(!subteam\^\w+|@\w+|!here|!channel)>$/);
  const numbers = find(/^0*[1-9]\d{0,5}(\/0*[1-9]\d{0,5})?$/);
  const ignores = find(/^ignore$/);
  const isKnown = words.length === channels.length + mentions.length + numbers.length + ignores.length;
  if (words.length === 0 || !isKnown || numbers.length > 1 || endsInBackslash(line)) return undefined;
  return {
    pattern: toRegExp(pattern),
    channels: channels.map((channel) => (channel.startsWith("#") ? channel.toLowerCase() : channel)), // as Slack has them
    mentions,
    ignore: ignores.length > 0,
    thresholds: numbers.flatMap((number) => number.split("/").map(Number)),
  };
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

// --- News: what each channel does not know of an alert: claimed before it is told, noted after.

/** What is new of a job. */
export type News = {
  job: string;
  alert: Alert;
  listed: PipelineJob | undefined; // how it did in this pipeline, if that is what is told
  failures: number[]; // their ids
  hasPassedSince: boolean;
  mayBeKnown: boolean; // a run was to tell it, and never said what became of that
};

/** What a run tells a channel: all that is new to it. */
export type Message = {
  channel: string;
  hello: boolean;
  news: News[];
  mentions: string[];
  open: number; // how many alerts are open
  task: Task;
};

/** A message and what became of it. */
export type Delivery = Message & { delivered: boolean; failure?: Failure };

/** Claims what each channel does not know, so that no other run tells it: one message a channel. */
export function claimNews({ document, ran }: Pick<Update, "document" | "ran">, task: Task) {
  const until = new Date(task.now.getTime() + 5 * MINUTE_MS).toISOString(); // runs end long before
  const claim = { until, by: task.run };
  const jobs = new Map(document.jobs);
  const found = [...document.jobs].flatMap(([name, job]) => {
    const { alert } = job;
    const channels = alert ? channelsToTell(name, alert, task) : [];
    if (!alert || channels.length === 0) return [];
    const own = Object.fromEntries(channels.map((channel) => [channel, claim]));
    jobs.set(name, { ...job, alert: { ...alert, claims: { ...without(alert.claims, channels, task), ...own } } });
    const others = Object.entries(alert.claims ?? {}).filter(([, { by }]) => by !== task.run);
    const claimed = others.map(([channel]) => addressOf(channel, task));
    const news = newsOf(name, job, alert, ran.get(name));
    return channels.map((channel) => ({ channel, news: { ...news, mayBeKnown: claimed.includes(channel) } }));
  });
  const isGreeting = document.hello !== undefined && !isInForce(document.hello, task);
  const open = [...jobs.values()].filter(({ alert }) => isOpen(alert)).length;
  const channels = new Set([...(isGreeting ? [""] : []), ...found.map(({ channel }) => channel)]);
  const messages = [...channels].map((channel): Message => {
    const news = found.flatMap((item) => (item.channel === channel ? item.news : []));
    const mentions = mentionsIn(channel, news, task);
    return { channel, hello: isGreeting && channel === "", news, mentions, open, task };
  });
  return { document: { ...document, jobs, ...(isGreeting ? { hello: claim } : {}) }, messages };
}

/** The channels that must hear of an alert now, each by its address. */
function channelsToTell(job: string, alert: Alert, task: Task): string[] {
  const { told = {}, claims = {}, changed_at } = alert;
  const claimed = Object.entries(claims).filter(([, claim]) => isInForce(claim, task));
  const known = Object.entries(told).filter(([, at]) => isOpen(alert) && at === changed_at);
  // An open alert is for its channels of today; its end, for whoever knows or may know of it.
  const ofToday = ["", ...(ruleOf(job, task.limits)?.channels ?? [])];
  const audience = isOpen(alert) ? ofToday : Object.keys({ ...told, ...claims });
  const skipped = [...claimed, ...known].map(([channel]) => addressOf(channel, task));
  const addresses = new Set(audience.map((channel) => addressOf(channel, task)));
  return [...addresses].filter((address) => !skipped.includes(address));
}

/** "" for the broadcast channel, however it is spelt. Where there are no channels, all is one. */
function addressOf(channel: string, { broadcast }: Task) {
  const bare = (name: string) => name.replace(/^#/, "").toLowerCase();
  return broadcast === null || bare(channel) === bare(broadcast) ? "" : channel;
}

/** Whether another run is just telling. One that claimed for over a day had a wrong clock. */
function isInForce({ until, by }: Claim, { now, run }: Task) {
  const leftMs = Date.parse(until) - now.getTime();
  return by !== run && leftMs > 0 && leftMs <= DAY_MS;
}

/** What a record says of all other channels, if anything. */
function without<T>(record: Record<string, T> = {}, channels: string[], task: Task) {
  const left = Object.entries(record).filter(([other]) => !channels.includes(addressOf(other, task)));
  return left.length > 0 ? Object.fromEntries(left) : undefined;
}

function newsOf(job: string, tracked: TrackedJob, alert: Alert, ran: PipelineJob | undefined) {
  const isShown = ran?.outcome === (isOpen(alert) ? "failed" : "passed") && alert.kind !== "gone";
  const isBroken = alert.kind === "consecutive";
  const executions = sinceAlertBefore(tracked);
  const [first] = lastStreak(
    executions.filter((one) => placeOf(one) <= alert.pipeline_id),
    true,
  );
  const since = isBroken && first ? executions.slice(executions.indexOf(first)) : executions; // the streak that is told
  const failures = isOpen(alert) ? failuresIn(since).flatMap(({ id }) => id ?? []) : [];
  const hasPassedSince = isBroken && since.some(({ failing }) => !failing);
  return { job, alert, listed: isShown ? ran : undefined, failures, hasPassedSince };
}

/** Whom the rules mention in a channel: for what opened, not for what has ended. */
function mentionsIn(channel: string, news: News[], task: Task): string[] {
  const opened = news.filter(({ alert }) => isOpen(alert));
  const mentions = opened.flatMap(({ job }) => {
    const { channels = [], mentions = [] } = ruleOf(job, task.limits) ?? {};
    const places = channels.length > 0 ? channels : [""];
    return places.some((place) => addressOf(place, task) === channel) ? mentions : [];
  });
  return [...new Set(mentions)];
}

/** Notes who was told, and gives up the claims of this run. One that stays: may have been told. */
export function noteTold(before: JobExecutions, deliveries: Delivery[], task: Task): JobExecutions {
  const document = { ...before, jobs: new Map(before.jobs) };
  const over = { until: OVER, by: task.run };
  for (const { channel, news, delivered, failure, hello } of deliveries) {
    if (hello && before.hello?.by === task.run) document.hello = delivered ? undefined : over;
    for (const { job: name, alert: said, mayBeKnown } of news) {
      const job = document.jobs.get(name);
      if (job?.alert?.claims?.[channel]?.by !== task.run) continue;
      const isUnsure = !delivered && (mayBeKnown || failure?.mayBeTaken);
      const claims = without(job.alert.claims, [channel], task);
      const told = delivered ? without(job.alert.told, [channel], task) : job.alert.told; // an end is told once
      const noted = {
        claims: isUnsure ? { ...claims, [channel]: over } : claims,
        told: delivered && isOpen(said) ? { ...told, [channel]: said.changed_at } : told,
      };
      document.jobs.set(name, { ...job, alert: { ...job.alert, ...noted } });
    }
  }
  return document;
}

/** Since when the broadcast channel has not been told of an alert as it is; undefined: it knows. */
export function untoldSince({ alert }: TrackedJob): string | undefined {
  const told = alert?.told?.[""];
  if (!alert || (isOpen(alert) && told === alert.changed_at)) return undefined;
  const mayKnow = told !== undefined || alert.claims?.[""] !== undefined;
  if (isOpen(alert)) return told === undefined ? alert.at : alert.changed_at;
  return mayKnow ? alert.changed_at : undefined;
}

// --- Messages: from news to the text of a chat, in which names, titles and branches are data.

const MAX_MESSAGE = 3_900; // UTF-16 units as sent: Slack shows some 4,000 well
const MAX_LABEL = 80; // of a project's or branch's name, and of a stage with a reason
const MAX_NAME = 150; // of a job in the first line, as sent
const MAX_PART = 250; // of all mentions, and of an address, as sent: a longer one is left out

/** How a chat writes a text that is data, and a link with such a label. */
export type Format = { text(data: string): string; link(label: string, url: string): string };

/** Slack's mrkdwn. */
export const SLACK: Format = {
  text: (data) => escapeText(toOneLine(data).replace(MARKS, "\u2060$&").replace(EMOJI, "$&\u2060")),
  link: (label, url) => `<${escapeText(encodeIn(url, /[<>|`]/g))}|${SLACK.text(label).replaceAll("|", "/")}>`,
};

/** CommonMark, as GitHub, Teams and Discord read it: there `@name` pings, and `#12` is an issue. */
export const MARKDOWN: Format = {
  text: (data) =>
    toOneLine(data)
      .replace(/[\\`*[\]<>&~|$]|(?<![\p{L}\p{N}])_+|^\s*([#+=-]|\d+[.)])/gu, (mark) => mark.replace(/[^\s\d]/g, "\\$&"))
      .replace(/[@#](?=\w)|(?<=\bGH)-(?=\d)/gi, "$&\u2060")
      .replace(EMOJI, "$&\u2060"),
  link: (label, url) => `[${MARKDOWN.text(label)}](${encodeIn(url, /[<>()\\`]/g)})`,
};

/** For where there is no markup. */
export const PLAIN: Format = {
  text: toOneLine,
  link: (label, url) => `${toOneLine(label)} (${encodeIn(url, /[<>]/g)})`,
};

// What is markup at the edge of a word: an invisible character (U+2060) there makes it plain text.
const MARKS = /(?<![\p{L}\p{N}*_~`])[*_~`]+/gu;
const EMOJI = /:(?=[\p{L}\p{N}_+'-]+:)|(?<=\b(https?|ftp)):(?=\/\/)|(?<=\bwww)(?=\.)/giu; // or addresses

function escapeText(text: string) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function encodeIn(url: string, marks: RegExp) {
  const encode = (mark: string) => `%${mark.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  return url.replace(/[\s\p{Cc}]/gu, encodeURIComponent).replace(marks, encode);
}

/** How news of each kind begins, and its word; the gravest first. */
const KINDS: Record<Kind, { sign: string; word: string }> = {
  consecutive: { sign: "🔴", word: "broken" },
  cumulative: { sign: "🟠", word: "failing often" },
  recovered: { sign: "🟢", word: "recovered" },
  gone: { sign: "⚪", word: "gone" },
};

/** News that is told together: of jobs that one commit broke or mended, at one time. */
type Group = [News, ...News[]];

/** The text of a message, of at most 3,900 characters: what does not fit is counted. */
export function writeMessage(message: Message, format: Format): string {
  const context = contextOf(message, format);
  const hasNews = message.news.length > 0; // whose first line has the place
  const hello = message.hello ? [writeHello(context, hasNews ? "this project" : context.place)] : [];
  const top = [...hello, ...(hasNews ? [writeFirstLine(message.news, context)] : [])];
  const groups = groupNews(message.news);
  const paragraphs = groups.map((group) => writeParagraph(group, context));
  const andMore = (count: number) =>
    count > 0 ? [`and ${context.linkTo(context.links.pipeline, `${count} more`)}`] : [];

  const write = (count: number, shown: number[]) => {
    const texts = paragraphs.slice(0, count).map(({ head, list }, i) => {
      const items = list.slice(0, shown[i] ?? 0);
      return head + [...items, ...andMore(list.length - items.length)].join(", ");
    });
    return [...top, ...texts, ...andMore(groups.slice(count).flat().length)].join("\n\n");
  };
  const isShort = (text: string) => text.length <= MAX_MESSAGE;
  const most = mostThatFit(paragraphs.length, (count) => isShort(write(count, [])));
  const shown = paragraphs.map(() => 0);
  for (const [i, { list }] of paragraphs.slice(0, most).entries()) {
    shown[i] = mostThatFit(list.length, (count) => isShort(write(most, shown.with(i, count))));
  }
  return write(most, shown);
}

type Context = ReturnType<typeof contextOf>;

/** What all of a message needs; `title` is that of the commit at which all that is told began. */
function contextOf({ task, news, mentions: asked }: Message, format: Format) {
  const { text, link } = format;
  const { CI_PIPELINE_ID: id, CI_PIPELINE_URL, CI_PROJECT_PATH, CI_COMMIT_BRANCH, CI_COMMIT_SHA } = task.pipeline;
  const links = linksOf(projectOf(task.pipeline), id, CI_PIPELINE_URL);
  const linkTo = (url: string | null | undefined, label: string) =>
    url && link("", url).length <= MAX_PART ? link(label, url) : text(label);
  const names = [CI_PROJECT_PATH ?? "this project", CI_COMMIT_BRANCH ?? shorten(CI_COMMIT_SHA)];
  const place = text(names.map((name) => cut(name, MAX_LABEL)).join(" "));
  const pipeline = linkTo(links.pipeline, `pipeline ${id}`);
  const [first, ...others] = news.map(({ alert }) => alert.turned);
  const isCommon = others.every((turned) => turned?.commit === first?.commit && turned?.title === first?.title);
  const title = isCommon && first?.title ? cut(first.title, MAX_TITLE) : undefined;
  const mentions = format === SLACK ? asked : []; // elsewhere these would ping nobody
  return { task, text, mentions, links, linkTo, place, pipeline, title };
}

/** How many fit: all, else as many as do while one more has to follow. */
function mostThatFit(all: number, fits: (count: number) => boolean) {
  if (fits(all)) return all;
  let count = 0;
  while (count + 1 < all && fits(count + 1)) count++;
  return count;
}

/** The first line of a message as a title, in plain text: GitHub takes 256 characters for an issue's. */
export function writeSubject(message: Message): string {
  return cut(writeMessage(message, { ...PLAIN, link: toOneLine }).replace(/\n.*/s, ""), 250);
}

/** The gravest first, then the largest group. */
function groupNews(news: News[]): Group[] {
  const rankOf = ({ alert }: News) => Object.keys(KINDS).indexOf(alert.kind);
  const sorted = news.toSorted((a, b) => compare(naturalKey(a.job), naturalKey(b.job)));
  const groups = groupBy(sorted, ({ alert: { kind, turned, changed_at }, hasPassedSince }) =>
    JSON.stringify([kind, turned?.commit, turned?.from, changed_at, hasPassedSince]),
  );
  return groups.sort((a, b) => rankOf(a[0]) - rankOf(b[0]) || b.length - a.length);
}

function writeFirstLine(news: News[], { text, mentions, place, pipeline, title }: Context): string {
  const counts = Object.entries(KINDS).flatMap(([kind, { sign, word }]) => {
    const jobs = news.flatMap(({ alert, job }) => (alert.kind === kind ? text(job) : []));
    if (jobs.length === 0) return [];
    const isName = jobs.length === 1 && `${jobs}`.length <= MAX_NAME;
    return `${sign} ${isName ? jobs[0] : formatCount(jobs.length, "job")} ${word}`;
  });
  const since = title ? ` since "${text(title)}"` : "";
  const most = mostThatFit(mentions.length, (count) => mentions.slice(0, count).join(" ").length <= MAX_PART);
  return [...mentions.slice(0, most), `${counts.join(", ")} in ${place}${since}, ${pipeline}`].join(" ");
}

/** What is told of a group: a line, and a list below it, of which only a part may fit. */
function writeParagraph(group: Group, context: Context): { head: string; list: string[] } {
  const { task, text, links, linkTo } = context;
  const [{ alert, failures, hasPassedSince }] = group;
  const { sign } = KINDS[alert.kind];
  const isAlone = group.length === 1;
  const details = group.map((news) => detailsOf(news, text));
  const isShared = details.every((detail) => detail === details[0]); // then they are told once
  const names = group.map(({ job, listed, failures }, i) => {
    const url = listed?.url ?? links.job(listed?.id ?? failures.at(-1));
    return linkTo(url, job) + (isShared ? "" : details[i]);
  });
  const agoMs = task.now.getTime() - Date.parse(alert.changed_at);
  const ago = agoMs >= HOUR_MS ? `, ${formatDuration(agoMs)} ago` : "";
  const since = hasPassedSince ? `, and ${isAlone ? "has" : "have"} passed since` : "";
  const subject = `${isAlone ? names[0] : formatCount(group.length, "job")}${isShared ? details[0] : ""}`;
  const head = `${sign} ${subject} ${describeGroup(group, context)}${ago}${since}`;
  if (!isAlone) return { head: `${head}\n`, list: names };
  const list = failures.map((id) => linkTo(links.job(id), `${id}`));
  return { head: list.length > 0 ? `${head}\nfailures: ` : head, list };
}

/** Behind a job's name: where it failed, and why, if that says more than "the script failed". */
function detailsOf({ listed, alert }: News, text: Format["text"]) {
  const reason = listed?.reason === "script_failure" ? undefined : listed?.reason;
  const known = isOpen(alert) ? [listed?.stage, reason].filter(Boolean) : [];
  return known.length > 0 ? ` (${text(cut(known.join(": "), MAX_LABEL))})` : "";
}

/** What is said of the jobs of a group, behind their names. */
function describeGroup(group: Group, context: Context): string {
  const [{ alert }] = group;
  const isAlone = group.length === 1;
  const span = formatSpan(group, "times");
  const times = `${span} ${span === "1" ? "time" : "times"}`;
  const inARow = `${times} in a row${describeTurn(alert, context)}`;
  if (alert.kind === "consecutive") return `failed ${inARow}`;
  if (alert.kind === "cumulative") return `failed ${times} in the last ${formatSpan(group, "executions")} executions`;
  const does = isAlone ? "does" : "do";
  if (alert.kind === "gone") return `${does} not count any more (renamed, removed, ignored, or allowed to fail)`;
  const longestMs = Math.max(...group.map(({ alert }) => Date.parse(alert.changed_at) - Date.parse(alert.at)));
  const alerts = isAlone ? "its alert was open for" : "their alerts were open for up to";
  return `passed ${inARow}; ${alerts} ${formatDuration(longestMs)}`;
}

/** Where the streak began; a title that the first line has is not told again. */
function describeTurn({ kind, turned }: Alert, { text, links, linkTo, title: told }: Context) {
  if (!turned) return "";
  const { commit, from, title } = turned;
  const first = `, first at ${linkTo(links.commit(commit), shorten(commit))}`;
  if (from === undefined) return `${first} or earlier`;
  if (from === commit) return `${first}, which had ${kind === "recovered" ? "failed" : "passed"} before`;
  const changes = linkTo(links.compare(from, commit), `changes since ${shorten(from)}`);
  return `${first}${title && !told ? ` "${text(cut(title, MAX_TITLE))}"` : ""}, ${changes}`;
}

/** The numbers of a group as `10`, or `8 to 10` where they differ. */
function formatSpan(group: Group, key: "times" | "executions") {
  const numbers = group.map(({ alert }) => alert[key] ?? 0).sort((a, b) => a - b);
  const [low, high] = [numbers[0], numbers.at(-1)];
  return low === high ? `${low}` : `${low} to ${high}`;
}

/** The message of the first day: whoever sees it later knows that the document was lost. */
function writeHello({ task, pipeline }: Context, place: string): string {
  return [
    `👋 check-failures now watches the CI jobs of ${place}, from ${pipeline} on.`,
    `It will speak when a job has failed ${describeThresholds(task.limits)}, and when a broken job has recovered. Until then it is silent.`,
    "Have you seen this message before? Then its document was lost, and with it the open alerts.",
  ].join("\n");
}

function projectOf({ CI_PROJECT_PATH: name, CI_PROJECT_URL: url, GITLAB_CI, GITHUB_ACTIONS }: Pipeline): Project {
  const gitlab = GITLAB_CI === "true" ? "gitlab" : undefined;
  const ci = GITHUB_ACTIONS === "true" ? "github" : gitlab;
  return { ...(name ? { name } : {}), ...(url ? { url } : {}), ...(ci ? { ci } : {}) };
}

/** The pages of a pipeline, as far as the project's address and its CI are known. */
export function linksOf({ ci, url: home }: Project, pipelineId: number, pipelineUrl?: string) {
  const page = (path: string) => (home && ci ? `${home}/${ci === "github" ? "" : "-/"}${path}` : undefined);
  const encode = (text: string) => encodeURIComponent(text.toWellFormed());
  return {
    // A run's number, which GitHub's runs are counted by here, is not in its address.
    pipeline: pipelineUrl ?? (ci === "gitlab" ? page(`pipelines/${pipelineId}`) : undefined),
    commit: (commit: string) => page(`commit/${encode(commit)}`),
    compare: (from: string, to: string) => page(`compare/${encode(from)}...${encode(to)}`),
    job: (id: number | undefined) => (id ? page(`${ci === "github" ? "runs" : "jobs"}/${id}`) : undefined),
  };
}

// --- Report: what a run and a report say of the document, to people and to programs.

export type Row = { name: string; job: TrackedJob; failures: number };

/** The tracked jobs: broken ones first, then those that fail often, then by failures and name. */
export function sortJobs(jobs: Map<string, TrackedJob>): Row[] {
  const rankOf = ({ alert }: TrackedJob) => (alert && isOpen(alert) ? Object.keys(KINDS).indexOf(alert.kind) : 2);
  const rows = [...jobs].map(([name, job]) => {
    return { name, job, rank: rankOf(job), failures: failuresIn(job.jobs_info).length, key: naturalKey(name) };
  });
  return rows.sort((a, b) => a.rank - b.rank || b.failures - a.failures || compare(a.key, b.key));
}

/** The tracked jobs as a table, at most so many rows. The name is last: none can break a column. */
export function formatTable({ jobs }: JobExecutions, limits: Limits, maxRows = Number.POSITIVE_INFINITY): string {
  if (jobs.size === 0) return "No job is tracked: none has failed lately.";
  const sorted = sortJobs(jobs);
  const count = (kind: Kind) => sorted.filter(({ job }) => job.alert?.kind === kind).length;
  const [broken, often] = [count("consecutive"), count("cumulative")];
  const counts = `${broken} broken, ${often} failing often, ${sorted.length - broken - often} only watched`;
  const hasOwn = limits.JOB_RULES.some(({ thresholds }) => thresholds.length > 0);
  const left = sorted.length - maxRows;
  return [
    `${formatCount(sorted.length, "job")}: ${counts}`,
    `A job alerts when it has failed ${describeThresholds(limits)}${hasOwn ? "; JOB_RULES has exceptions" : ""}.`,
    "In executions, ✗ failed and · passed, the latest at the right.",
    "",
    ...alignRows(sorted.slice(0, maxRows)),
    ...(left > 0 ? [`and ${left} more: report has all`] : []),
  ].join("\n");
}

function alignRows(rows: Row[]): string[] {
  const cells = rows.map(({ name, job: { jobs_info, consecutive_failures, alert }, failures }) => [
    stripOf(jobs_info),
    `${consecutive_failures}`,
    `${failures} of ${jobs_info.length}`,
    alert && isOpen(alert) ? `${KINDS[alert.kind].word} since ${alert.at.slice(0, 10)}` : "",
    toOneLine(name),
  ]);
  const lines = [["executions", "in a row", "in all", "alert", "job"], ...cells];
  const widths = [0, 1, 2, 3].map((column) => lines.reduce((max, line) => Math.max(max, line[column]?.length ?? 0), 0));
  const pad = (cell: string, i: number) => (i < 3 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0));
  return lines.map((line) => line.map(pad).join("  "));
}

/** What a run says: what became of the pipeline, the table, and what a dry run would send. */
export function describeRun(run: Run, task: Task): string[] {
  const { dryRun, limits } = task;
  const { pipeline_id: id, stored_pipeline_id: stored, jobs: ran, messages } = runToJson(run, task);
  const order = id === stored ? " again" : `, after ${stored}`;
  const jobs = `${formatCount(ran.failed, "job")} failed, ${ran.passed} passed, ${ran.not_run} did not run`;
  const is = dryRun ? "would be" : "is";
  const outcomes: Record<Update["outcome"], string> = {
    counted: `${is} counted${stored === 0 ? ", a new document" : order}: ${jobs}`,
    late: `is older than ${stored}: it ${is} filed, and no alert changes`,
    "nothing-ran": `${dryRun ? "would not be" : "is not"} counted: ${jobs}`,
  };
  const would = messages.map(
    ({ channel, text }) => `Would send${channel ? ` to ${toOneLine(channel)}` : ""}:\n${text}`,
  );
  const dry = ["Dry run: nothing is sent or written; the table is what would be stored", ...would];
  const result = `Pipeline ${id} ${outcomes[run.outcome]}`;
  return [...(dryRun ? dry : []), result, formatTable(run.document, limits, 40)];
}

/** What a run says to programs. */
export function runToJson(run: Run, { pipeline, broadcast }: Task) {
  const messages = run.messages.map((message) => {
    return { channel: message.channel || broadcast, text: writeMessage(message, PLAIN), delivered: message.delivered };
  });
  const ids = { pipeline_id: pipeline.CI_PIPELINE_ID, stored_pipeline_id: run.before.pipeline_id };
  const failed = [...run.ran.values()].filter(({ outcome }) => outcome === "failed").length;
  const jobs = { failed, passed: run.ran.size - failed, not_run: run.listing.jobs.length - run.ran.size };
  return { outcome: run.outcome, ...ids, jobs, warnings: run.warnings, messages };
}

/** A line for each channel that was not told, and why: of the broadcast channel, an error. */
export function describeFailures(deliveries: Delivery[], { broadcast }: Task) {
  const describe = ({ channel, failure }: Delivery) => {
    if (!failure) return [];
    const place = channel || broadcast;
    const what = failure.mayBeTaken ? "may not have been told" : "was not told";
    return `${place ? `${place} ${what}: ` : ""}${failure.message}, then retry this job (the next run tells it too)`;
  };
  const isBroadcast = ({ channel }: Delivery) => channel === "";
  const others = deliveries.filter((delivery) => !isBroadcast(delivery));
  return { errors: deliveries.filter(isBroadcast).flatMap(describe), warnings: others.flatMap(describe) };
}

/** What a report says of a document: whose it is, its latest pipeline, and what is not told. */
export function describeDocument({ project, pipeline_id, counted_at, jobs }: JobExecutions, source: string, now: Date) {
  const place = project?.name ? `${toOneLine(project.name)}, ${source}` : source;
  const unknown = [...jobs.values()].filter((job) => untoldSince(job)).length;
  const untold = unknown > 0 ? `; the broadcast channel does not know ${formatCount(unknown, "alert")}` : "";
  if (!counted_at) return `${place}: it is not known when pipeline ${pipeline_id} was counted${untold}`;
  return `${place}: pipeline ${pipeline_id} was counted ${formatAge(counted_at, now)} ago, at ${counted_at}${untold}`;
}

/** What is wrong where nothing was counted, or the broadcast channel not told, for so long. */
export function findTroubles({ counted_at, jobs }: JobExecutions, now: Date, maxAgeMs: number): string[] {
  // Also what is far ahead, by a wrong clock.
  const isOld = (at: string) => Math.abs(now.getTime() - Date.parse(at)) > maxAgeMs;
  const untold = [...jobs.values()].flatMap((job) => untoldSince(job) ?? []).filter(isOld);
  const [oldest] = untold.sort((a, b) => Date.parse(a) - Date.parse(b));
  const when = counted_at
    ? `at ${counted_at} was the latest, counted ${formatAge(counted_at, now)} ago`
    : "no pipeline was counted";
  const stale = `it is stale: ${when}; check that the job runs in each pipeline of the default branch`;
  const silent = `its broadcast channel was not told of an alert for ${formatAge(`${oldest}`, now)}; see the log of its last run`;
  return [...(!counted_at || isOld(counted_at) ? [stale] : []), ...(oldest ? [silent] : [])];
}

// --- Settings: each variable with its description, shape and default, in the part that needs it.

export type Variables = Record<string, string | undefined>;

const REQUIRED = ""; // a default that fits no variable: it must be set
const TEXT = v.string();
const DOCUMENT = matching(/^(s3:\/\/[^/]+\/.+|(?!s3:|file:|\S*:\/\/).+)$/i, "a path or s3://, e.g. s3://ci/jobs.json");
const ENCRYPTIONS = oneOf("none", "AES256", "aws:kms", "aws:kms:dsse");
const COMMIT = matching(/^[0-9a-f]{7,64}$/i, "7 to 64 hex digits, e.g. 0ddba11");
const nothing = v.transform((_: string) => undefined);
const KEY = v.pipe(token("AKIA... or wJalr..."), nothing); // only checked: the SDK takes it itself

const Settings = v.object({
  pipeline: v.object({
    CI_PIPELINE_ID: env("the pipeline that is counted, a number that grows", integer("1005"), REQUIRED),
    CI_COMMIT_SHA: env("the commit of the pipeline", COMMIT, REQUIRED),
    CI_COMMIT_MESSAGE: env("the commit's message: its first line is told as its title", TEXT),
    CI_COMMIT_BRANCH: env("the branch of the pipeline", TEXT),
    CI_PROJECT_PATH: env("the project's name, in messages and in the document", TEXT),
    CI_PROJECT_URL: env("the project's page, for links", httpUrl("gitlab.example.com/acme/shop")),
    CI_PIPELINE_URL: env("the pipeline's page, for links", httpUrl("ci.example.com/1005")),
    GITLAB_CI: env("`true`: links to commits and jobs are GitLab's", TEXT),
    GITHUB_ACTIONS: env("`true`: links to commits and jobs are GitHub's", TEXT),
  }),
  limits: v.object({
    CONSECUTIVE_THRESHOLD: env("failures in a row that open an alert, and passes that close it", integer("3"), "3"),
    CUMULATIVE_THRESHOLD: env("failures in the last executions that open an alert", integer("5"), "5"),
    CUMULATIVE_LENGTH: env("how many executions are the last ones, at least", integer("10"), "10"),
    JOB_RULES: env("lines of a pattern of jobs and what is said of them (see above)", rules(), ""),
    IGNORE_FAILURES: env("patterns of reasons that are not counted, e.g. `runner_system_failure`", patterns(), ""),
  }),
  store: v.object({
    JOB_EXECUTIONS_URL: env("where the document is; required where `CI` is set", DOCUMENT, "job_executions.v2.json"),
    S3_SSE: env("the upload's encryption; `none` leaves it to the bucket", ENCRYPTIONS, "none"),
    S3_CONDITIONAL_WRITES: env("`off` for stores without `If-Match`: races then lose counts", oneOf("on", "off"), "on"),
    AWS_ACCESS_KEY_ID: env("the SDK's, as `AWS_PROFILE`, roles and all else of AWS", KEY),
    AWS_SECRET_ACCESS_KEY: env("likewise", KEY),
    AWS_SESSION_TOKEN: env("likewise", KEY),
    AWS_REGION: env("the bucket's region", TEXT),
    AWS_DEFAULT_REGION: env("the bucket's region where `AWS_REGION` is not set", TEXT),
    AWS_ENDPOINT_URL_S3: env("an S3 that is not AWS's, addressed path-style", httpUrl("s3.example.com")),
    AWS_ENDPOINT_URL: env("an endpoint for all of AWS, if that for S3 is not set", httpUrl("s3.example.com")),
  }),
  jobs: v.object({
    PIPELINE_JOBS_FILE: env("a file of the pipeline's jobs, instead of GitLab's API", TEXT),
    CI_API_V4_URL: env("GitLab's API; required without `PIPELINE_JOBS_FILE`", httpUrl("gitlab.example.com/api/v4")),
    CI_PROJECT_ID: env("the project's id there; required likewise", matching(/^\S+$/, "a project's id, e.g. 4242")),
    GITLAB_TOKEN: env("its token, with `read_api`; this, `CI_JOB_TOKEN` or a file is required", token("glpat-...")),
    CI_JOB_TOKEN: env("GitLab's own token: lists jobs from GitLab 18 on, no child pipelines", token("glcbt-...")),
  }),
  sender: v.object({
    SLACK_API_TOKEN: env("a bot token; where `CI` is set, this or `ALERT_COMMAND` is required", token("xoxb-...")),
    SLACK_CHANNEL: env("the channel that hears everything", matching(/^\S+$/, "a channel, e.g. #ci-alerts")),
    ALERT_COMMAND: env("a command that gets each message on stdin, instead of Slack; `cat`: the log", TEXT),
    SLACK_API_URL: env("Slack's API", httpUrl("slack.com/api"), "https://slack.com/api"),
  }),
  commandLine: v.object({
    CI: env("set by a CI: some variables are required then", TEXT),
    CI_DEFAULT_BRANCH: env("where it is set, pipelines of other branches are not counted", TEXT),
    DEBUG: env("errors with their stack traces", TEXT),
  }),
});
type Settings = v.InferOutput<typeof Settings>;
type ReportSettings = Pick<Settings, "limits" | "store">;
export type Pipeline = Settings["pipeline"];
export type Limits = Settings["limits"];
type StoreAccess = Settings["store"];
type JobsAccess = Settings["jobs"];
type SenderAccess = Settings["sender"];

/** Variables whose values are never printed. */
const SECRETS = /^((GITLAB|CI_JOB|SLACK_API|AWS_\w+)_TOKEN|AWS_SECRET_ACCESS_KEY)$/;

/** Rules between variables: the variable to name, whether it is right, what is expected. */
function checkRules(given: Variables): [variable: string, isRight: boolean, expected: string][] {
  const { PIPELINE_JOBS_FILE: file, ALERT_COMMAND: command, CI = "" } = given;
  const { SLACK_API_TOKEN: token, SLACK_CHANNEL: channel, JOB_EXECUTIONS_URL: url } = given;
  const isInCi = !["", "false", "0"].includes(CI);
  const unlessFile = "set unless PIPELINE_JOBS_FILE is";
  const isTold = !isInCi || !!(token || channel || command);
  return [
    ["JOB_EXECUTIONS_URL", !isInCi || !!url, "set in CI, e.g. s3://ci-bucket/jobs.json"],
    ["CI_API_V4_URL", !!(file || given.CI_API_V4_URL), `${unlessFile}, e.g. https://gitlab.example.com/api/v4`],
    ["CI_PROJECT_ID", !!(file || given.CI_PROJECT_ID), `${unlessFile}, e.g. 4242`],
    ["GITLAB_TOKEN", !!(file || given.GITLAB_TOKEN || given.CI_JOB_TOKEN), `${unlessFile}, e.g. glpat-...`],
    ["SLACK_API_TOKEN", isTold, "set in CI, e.g. xoxb-..., or ALERT_COMMAND (cat: only in the log)"],
    ["SLACK_CHANNEL", !token || !!channel, "set together with SLACK_API_TOKEN, e.g. #ci-alerts"],
    ["SLACK_API_TOKEN", !channel || !!token, "set together with SLACK_CHANNEL, e.g. xoxb-..."],
    ["ALERT_COMMAND", !command || !(token || channel), "unset beside Slack's variables, e.g. empty"],
  ];
}

/**
 * The parts of the environment for a run. Throws one error with all that is wrong, each with its
 * name, what is expected and an example, but never with a value: any may be a misplaced secret.
 */
export function parseSettings(variables: Variables): Settings {
  return parseParts(Settings, variables);
}

export function parseReportSettings(variables: Variables): ReportSettings {
  return parseParts(v.pick(Settings, ["limits", "store"]), variables);
}

type Parts = v.ObjectSchema<Record<string, v.ObjectSchema<v.ObjectEntries, undefined>>, undefined>;

function parseParts<T extends Parts>(schema: T, variables: Variables): v.InferOutput<T> {
  const given = Object.fromEntries(Object.entries(variables).filter(([, value]) => value));
  const parts = Object.keys(schema.entries).map((part) => [part, given]);
  const { success, output, issues = [] } = v.safeParse(schema, Object.fromEntries(parts));
  const names = Object.values(schema.entries).flatMap((part) => Object.keys(part.entries));
  const problems = new Map<string, string>(); // the first of each variable
  const note = (variable: string, expected: string) => {
    const state = given[variable] ? "" : " (it is not set)";
    if (!problems.has(variable)) problems.set(variable, `  ${variable} must be ${expected}${state}`);
  };
  for (const issue of issues) note(`${issue.path?.at(-1)?.key}`, issue.message);
  for (const [variable, isRight, expected] of checkRules(given)) {
    if (!isRight && names.includes(variable)) note(variable, expected);
  }
  if (success && problems.size === 0) return output;
  throw new Error(["The environment is not valid; see --help", ...problems.values()].join("\n"));
}

/** Each variable with its description and default. */
export function describeSettings() {
  const parts = Object.values(Settings.entries);
  const variables = parts.flatMap(({ entries }) => Object.entries<v.GenericSchema>(entries));
  return variables.map(([name, schema]) => {
    const standard = v.is(schema, undefined) ? (v.getDefault(schema) ?? "") : "required";
    return { name, standard, description: v.getDescription(schema) ?? "" };
  });
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

function patterns() {
  const isWhole = v.check((text: string) => !endsInBackslash(text), "patterns, e.g. runner_* stuck_or_timeout_failure");
  const toPatterns = v.transform((text: string) => splitWords(text).map(toRegExp));
  return v.pipe(v.string(), isWhole, toPatterns);
}

/** The lines of JOB_RULES. A wrong one is named by its number, as any word may be a secret. */
function rules() {
  const words = "a pattern, then #channels, <!mentions>, one threshold (5 or 5/8) or ignore, e.g. e2e:* #team 5";
  const toRules = v.rawTransform<string, Rule[]>(({ dataset, addIssue }) =>
    dataset.value.split(/\r?\n/).flatMap((line, i) => {
      if (/^\s*(#|$)/.test(line)) return [];
      const rule = parseRule(line);
      if (!rule) addIssue({ message: `lines of ${words}; see line ${i + 1}` });
      return rule ?? [];
    }),
  );
  return v.pipe(v.string(), toRules);
}

/** An address, without slashes at its end, as paths are added to it. */
function httpUrl(example: string) {
  const expected = `an http or https URL without a password, e.g. https://${example}`;
  const withoutSlash = v.transform((url: string) => url.replace(/\/+$/, ""));
  return v.pipe(matching(/^https?:\/\/[^\s/@]+([/?#]\S*)?$/, expected), v.url(expected), withoutSlash);
}

// --- Usage: what can be asked for on the command line, and how.

/** What is asked for; with `print`, only that is printed. */
type Arguments = { isReport: boolean; dryRun: boolean; json: boolean; print?: string; maxAgeMs: number | undefined };

function parseArguments(args: string[]): Arguments {
  const fail = (problem: string) => failure(problem, "see --help");
  const known = ["report", "--dry-run", "--json", "--max-age", "--version", "--help", "-h"];
  const has = (name: string) => args.includes(name);
  const isAge = (i: number) => args[i - 1] === "--max-age";
  const wrong = args.find((arg, i) => !isAge(i) && (!known.includes(arg) || args.indexOf(arg) < i));
  if (wrong !== undefined) throw fail(`Unknown or repeated argument: ${wrong}`);
  const maxAgeMs = parseAge(args.find((_, i) => isAge(i)));
  if (has("--max-age") && !(has("report") && maxAgeMs)) throw fail("--max-age is for report, e.g. 3d or 12h");
  if (has("report") && has("--dry-run")) throw fail("--dry-run is not for report, which only reads");
  const asked = { isReport: has("report"), dryRun: has("--dry-run"), json: has("--json"), maxAgeMs };
  if (has("--help") || has("-h")) return { ...asked, print: writeHelp() };
  return has("--version") ? { ...asked, print: VERSION } : asked;
}

/** An age like `3d` or `12h`, in milliseconds; undefined for any other text. */
export function parseAge(text = ""): number | undefined {
  const [, count, unit] = /^([1-9]\d{0,4})([dh])$/.exec(text) ?? [];
  return count ? Number(count) * (unit === "d" ? DAY_MS : HOUR_MS) : undefined;
}

function writeHelp(): string {
  const variables = describeSettings().map(({ name, standard, description }) => {
    return `  ${name}${standard && ` (${standard})`}\n      ${description}`;
  });
  return `check-failures ${VERSION}: tells people of CI jobs that fail consistently

Usage: npx tsx check-failures.ts [report] [options]  this file; Node 22.18 or newer runs it without tsx
       node check-failures.mjs [report] [options]    the bundle: Node 20.16 or newer, Deno, Bun

  (nothing)      count this CI pipeline, tell what is new, store
  report         print the stored document as a table; reads only
  --dry-run      compute and print; send and write nothing; on any branch. It asks Slack whether the token is good
  --max-age 3d   report: exit 1 where the latest pipeline was counted longer ago (also 12h),
                 or where the broadcast channel was not told of an alert for so long
  --json         print one JSON object on stdout, everything else on stderr
  --version, --help

Install beside this file: npm install --no-save --ignore-scripts tsx @aws-sdk/client-s3@3.1173.0 valibot@1.5.0
Exit 0: done. 1: failed, with the reason on stderr. 2: wrong usage or environment.

PIPELINE_JOBS_FILE, from any CI; or what GitHub lists, by gh api --paginate --slurp:
  [{"id": 314, "name": "unit tests", "status": "failed", "stage": "test", "web_url": "https://ci.example.com/314"},
   {"id": 315, "name": "lint", "status": "success"}]
JOB_RULES, of which the last line that matches a job counts: who hears of it as well, whom to mention there,
failures in a row (and in the window) that open its alert, or that it does not count:
  e2e:*        #checkout <!subteam^S0123ABCD> 5
  nightly\\ *   5/8
  deploy:*     ignore

Variables (with their defaults; an empty one counts as unset):

${variables.join("\n")}`;
}

// --- Text: errors for people and what to do about them, JSON that must fit, words and times.

/** An error for people: what failed, and what to do. `mayBeTaken`: its message may be delivered. */
export type Failure = Error & { status?: number; mayBeTaken?: boolean };

function failure(what: string, todo: string, { cause, ...details }: Partial<Failure> = {}): Failure {
  return Object.assign(new Error(toOneLine(`${what}; ${todo}`), { cause }), details);
}

/** Throws an error that names `source`, the path of the first fault in its JSON, and what to do. */
function parseJson<T extends v.GenericSchema>(schema: T, text: string, source: string, todo: string) {
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
  throw failure(`${source} is not valid at ${path}: ${cut(issues[0].message, 200)}`, todo);
}

const CHECK_ROLE =
  "check AWS_ROLE_ARN, the trust policy of that role, the audience (aud) of the token that the CI gave, " +
  "and that it is in the file that AWS_WEB_IDENTITY_TOKEN_FILE names";
const CHECK_KEYS = "check the AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role";
const ALLOW = "allow s3:GetObject, s3:PutObject and s3:ListBucket (without it, a missing object is a 403)";
const SET_REGION = "set AWS_REGION to the region of the bucket";
const LACKS = "if the store lacks If-Match, set S3_CONDITIONAL_WRITES=off; if it lacks encryption, set S3_SSE=none";
const NOT_PATH_STYLE = "set AWS_ENDPOINT_URL_S3: an endpoint in AWS's own config file is not addressed path-style";
const PROXY_ANSWERED = "whether a proxy answered instead";
const CHECK_NETWORK =
  "check its address and the network; behind a proxy, set NODE_USE_ENV_PROXY=1, and NODE_EXTRA_CA_CERTS " +
  "to the file of its certificate authority";

/** What to do about what AWS's SDK says: the first that fits action, status, name and message. */
const AWS_ADVICE: [said: RegExp, todo: string][] = [
  [/Region is missing|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation/, SET_REGION],
  [/QuotaExceeded|StorageFull|^\w+ 507 /, "free some space in the store"],
  [/^\w+ (429|500|50[2-9]) /, "wait a while"],
  [/^role .*(ECONN|ENOTFOUND|EAI_AGAIN|timed? ?out)/, "check the network, and AWS_ENDPOINT_URL_STS"],
  [/^role (\d|.*(AccessDenied|Identity|IDP|Expired|Validation|ENOENT|no such file))/i, CHECK_ROLE],
  [/^role |InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|credentials/i, CHECK_KEYS],
  [/NoSuchBucket/, "check JOB_EXECUTIONS_URL"],
  [/RequestTimeTooSkewed/, "set the clock of this machine"],
  [/encoded data (was|is) not valid/, "the document is not UTF-8: restore an earlier version"],
  [/ BUCKET\.(?!.*\.amazonaws\.com)/, NOT_PATH_STYLE],
  [/^upload 403 /, `${ALLOW}; if the bucket demands an encryption, set S3_SSE, e.g. aws:kms`],
  [/ 403 /, ALLOW],
  [/^upload (400|501) /, LACKS],
  [/^\w+ \d|without an ETag|XML/, `check AWS_ENDPOINT_URL_S3, and ${PROXY_ANSWERED}`],
  [/^/, CHECK_NETWORK], // anything else
];

/** What an error of the SDK says, with who says it, and what to do. */
export function adviseOnAws(error: unknown, action: "role" | "read" | "list" | "upload", bucket: string) {
  const { name, message, $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } };
  const status = $metadata?.httpStatusCode;
  const isAlone = /CredentialsProviderError|Region is missing/.test(`${name} ${message}`);
  const ofRole = isAlone ? "the AWS SDK" : "AWS's STS";
  const [what = ""] = message.split(/\.?\n/);
  const said = `${action} ${status ?? "without answer"} ${name} ${what}`.replace(` ${bucket}.`, " BUCKET.");
  const todo = adviseOnTrust(error as Error) ?? AWS_ADVICE.find(([pattern]) => pattern.test(said))?.[1] ?? "";
  const reason = `${action === "role" ? ofRole : "S3"}${status ? ` answered ${status} ${name}` : ""}: ${what}`;
  return { reason, todo };
}

/** What to do about a certificate that is not trusted: trying again does not help. */
function adviseOnTrust({ code, message }: Error & { code?: string }): string | undefined {
  if (!/certificate|_CERT|CERT_/i.test(`${code} ${message}`)) return undefined;
  return "set NODE_EXTRA_CA_CERTS (with Deno, DENO_CERT) to the file of its certificate authority";
}

const SLACK_ADVICE: [error: RegExp, todo: string][] = [
  [/^channel_not_found$/, "check the channel's name, and invite the bot if it is private"],
  [/^not_in_channel$/, "invite the bot to the channel"],
  [/^is_archived$/, "unarchive the channel, or name another one"],
  [/^(restricted_action|messages_tab_disabled)/, "let the bot post in this channel, or name another one"],
  [/_auth$|^not_authed$|^token_|^account_inactive$/, "set SLACK_API_TOKEN to a valid bot token (xoxb-...)"],
  [/^missing_scope$/, "give the bot the scope chat:write"],
  [/^rate_?limited$/, "wait a minute"],
  [/^/, "see what Slack says of this error of its API"], // any other
];

/** Without what would break a line, move the cursor or turn the direction of writing. */
function toOneLine(text: string) {
  return text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]+/gu, " ");
}

/** The first UTF-16 units of a text, without half a character at the end. */
function cut(text: string, length: number) {
  return text.slice(0, length).replace(/\p{Surrogate}$/u, "");
}

export function shorten(commit: string): string {
  return commit.slice(0, 8);
}

export function formatCount(count: number, unit: string): string {
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** A time as a person says it: `2 hours`, `3 days`. A negative one, of two clocks, is none. */
export function formatDuration(ms: number): string {
  if (ms >= 2 * DAY_MS) return formatCount(Math.round(ms / DAY_MS), "day");
  if (ms >= 2 * HOUR_MS) return formatCount(Math.round(ms / HOUR_MS), "hour");
  return formatCount(Math.max(0, Math.round(ms / MINUTE_MS)), "minute");
}

/** How long ago a time is. */
export function formatAge(at: string, now: Date): string {
  return formatDuration(now.getTime() - Date.parse(at));
}

function describeThresholds({ CONSECUTIVE_THRESHOLD: inARow, CUMULATIVE_THRESHOLD: often, CUMULATIVE_LENGTH }: Limits) {
  const window = Math.max(CUMULATIVE_LENGTH, inARow, often);
  return `${formatCount(inARow, "time")} in a row, or ${formatCount(often, "time")} in its last ${window} executions`;
}

/** A key that sorts names as people do: 2 before 10. */
export function naturalKey(name: string): string {
  return name.replace(/\d+/g, (digits) => digits.padStart(20, "0"));
}

export function compare(a: string | number, b: string | number): number {
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

// === What touches the world: what somebody reads before giving it a token.

// --- Telling: what is claimed is sent, then noted.

/** Sends all messages at once; a dry run sends none. What failed is noted in the delivery. */
export function sendNotification(messages: Message[], { dryRun }: Task, { sender, signal }: World) {
  const deliver = async (message: Message): Promise<Delivery> => {
    if (dryRun) return { ...message, delivered: false };
    return sender.send(message, signal).then(
      () => ({ ...message, delivered: true }),
      (failure: Failure) => ({ ...message, delivered: false, failure }),
    );
  };
  return Promise.all(messages.map(deliver));
}

/** Notes in the document what was told; resolves to what kept it from that. */
async function noteDeliveries(deliveries: Delivery[], task: Task, { store, pause }: World): Promise<string[]> {
  if (task.dryRun || deliveries.length === 0) return [];
  const signal = AbortSignal.timeout(20_000); // on top of the run's: what was told must be noted
  try {
    await changeDocument(task, { store, pause, signal }, async (stored) => {
      const before = stored ?? createInitialJobExecutions(); // somebody took it away: nothing is to be noted
      return { before, document: stored ? noteTold(stored, deliveries, task) : before };
    });
    return [];
  } catch (error) {
    return [`It is not noted who was told, so some may be told again: ${(error as Error).message}`];
  }
}

// --- Store: an object in S3, or a file. AWS's credentials are found by the SDK, and stay in it.

/** Where the document is stored. Its `version` is undefined where there was none. */
export type Store = {
  source: string;
  read: (signal: AbortSignal) => Promise<{ text: string; version: string } | undefined>;
  write: (body: Buffer, version: Version, signal: AbortSignal) => Promise<boolean>; // false: another one is there
};
type Version = string | undefined;

const REQUEST_TIMEOUT_MS = 20_000; // for which a peer may say nothing
export const S3_URL = /^s3:\/\/(arn:[^/]+:accesspoint[:/][^/]+|[^/]+)\/(.*)$/is; // an ARN may have a slash in it
const CANNOT_UPLOAD = "Cannot upload job executions to";

/** The store that `JOB_EXECUTIONS_URL` names. */
export function openStore(access: StoreAccess): Store {
  const [, Bucket, Key] = S3_URL.exec(access.JOB_EXECUTIONS_URL) ?? [];
  return Bucket && Key ? s3Store(access, { Bucket, Key }) : fileStore(access.JOB_EXECUTIONS_URL);
}

function s3Store(access: StoreAccess, object: { Bucket: string; Key: string }): Store {
  const endpoint = access.AWS_ENDPOINT_URL_S3 ?? access.AWS_ENDPOINT_URL;
  const source = access.JOB_EXECUTIONS_URL + (endpoint ? ` at ${new URL(endpoint).host}` : "");
  const client = openS3(access, object.Bucket);
  const explain = (error: unknown, action: "role" | "read" | "upload", { aborted }: AbortSignal) => {
    const { reason, todo } = adviseOnAws(error, action, object.Bucket);
    const what = action === "upload" ? CANNOT_UPLOAD : "Cannot read job executions from";
    return failure(`${what} ${source}: ${aborted ? "no complete answer in time" : reason}`, todo, { cause: error });
  };
  return {
    source,
    async read(abortSignal) {
      let action: "role" | "read" = "role"; // first, as STS needs other advice than S3
      try {
        await client.config.credentials();
        action = "read";
        const { Body, ETag } = await client.send(new GetObjectCommand(object), { abortSignal });
        if (!ETag || !Body) throw new Error(NO_ETAG);
        const text = new TextDecoder("utf-8", { fatal: true }).decode(await Body.transformToByteArray());
        return { text, version: ETag.replace(/^W\//, "") }; // a proxy makes it weak, and S3 refuses that
      } catch (error) {
        // By its name, as there may be two copies of the SDK.
        if ((error as Error).name === "NoSuchKey") return undefined;
        throw explain(error, action, abortSignal);
      }
    },
    async write(body, version, abortSignal) {
      try {
        const put = new PutObjectCommand({ ...object, ...describeUpload(body, version, access) });
        if (!(await client.send(put, { abortSignal })).ETag) throw new Error(NO_ETAG);
        return true;
      } catch (error) {
        const { name, $metadata } = error as S3ServiceException;
        const isOther = [409, 412].includes($metadata?.httpStatusCode ?? 0) || name === "NoSuchKey";
        if (isOther && access.S3_CONDITIONAL_WRITES === "on") return false;
        throw explain(error, "upload", abortSignal);
      }
    },
  };
}

const NO_ETAG = "an answer without an ETag, as a proxy would give it";

/** The SDK's client, by the runtime's global agents, which know of proxies. */
export function openS3(access: StoreAccess, bucket: string): S3Client {
  // On a connection that it reuses, Deno sends an upload again by itself.
  if (process.versions.deno)
    for (const { globalAgent } of [http, https]) Object.assign(globalAgent, { keepAlive: false });
  const region = access.AWS_REGION ?? access.AWS_DEFAULT_REGION;
  const hasEndpoint = (access.AWS_ENDPOINT_URL_S3 ?? access.AWS_ENDPOINT_URL) !== undefined;
  return new S3Client({
    ...(region ? { region } : {}), // else the SDK looks for it in its own files
    forcePathStyle: hasEndpoint && !bucket.startsWith("arn:"),
    requestChecksumCalculation: "WHEN_REQUIRED", // older stores choke on the CRC32 of the default
    responseChecksumValidation: "WHEN_REQUIRED",
    expectContinueHeader: false, // a store or proxy that does not answer it stalls each upload of over 2 MB
    requestHandler: {
      connectionTimeout: 5_000,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      socketTimeout: REQUEST_TIMEOUT_MS,
      httpAgent: http.globalAgent,
      httpsAgent: https.globalAgent,
    },
  });
}

function describeUpload(Body: Buffer, version: Version, { S3_SSE, S3_CONDITIONAL_WRITES }: StoreAccess) {
  const ChecksumSHA256 = createHash("sha256").update(Body).digest("base64"); // object lock wants one
  const ServerSideEncryption = S3_SSE === "none" ? undefined : S3_SSE;
  const condition = version === undefined ? { IfNoneMatch: "*" } : { IfMatch: version };
  const content = { Body, ChecksumSHA256, ServerSideEncryption, ContentType: "application/json" };
  return S3_CONDITIONAL_WRITES === "on" ? { ...content, ...condition } : content;
}

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

export function openJobs(access: JobsAccess, pipelineId: number, signal: AbortSignal): Jobs {
  const { PIPELINE_JOBS_FILE: file } = access;
  if (!file) return () => gitLabJobs(access, pipelineId, signal);
  return async () => readListing(await readTextFile(file), `The list of jobs in ${file}`);
}

const PER_PAGE = 100; // the most that GitLab gives

/** Asks GitLab for the jobs of a pipeline and, where the token may, of its child pipelines. */
async function gitLabJobs(access: JobsAccess, id: number, signal: AbortSignal): Promise<Listing> {
  const isJobToken = !access.GITLAB_TOKEN; // it may not list trigger jobs
  const asking = { access, signal, warnings: new Map<string, string>() };
  const [jobs, below] = await Promise.all([
    listPages(`pipelines/${id}/jobs`, ListedJob, asking),
    isJobToken ? [] : listBelow(id, 1, "Trigger jobs and child pipelines are not counted", asking),
  ]);
  const latest = new Map([...latestAttempts(jobs.map(toAttempt)), ...below].map((job) => [job.name, job]));
  const remark = isJobToken ? "child pipelines are not seen without GITLAB_TOKEN" : undefined;
  return { jobs: [...latest.values()], warnings: [...asking.warnings.values()], remark };
}

/** Who asks GitLab, and the warnings so far: each is told once, by its key. */
type Asking = { access: JobsAccess; signal: AbortSignal; warnings: Map<string, string> };

/** The trigger jobs of a pipeline, and the jobs of its child pipelines. */
async function listBelow(id: number, depth: number, warning: string, asking: Asking): Promise<PipelineJob[]> {
  const bridges = await listOrWarn(`pipelines/${id}/bridges`, Bridge, warning, asking);
  const latest = latestAttempts(bridges.map((bridge) => ({ ...toAttempt(bridge), bridge })));
  const follow = async ({ bridge, ...own }: PipelineJob & { bridge: Bridge }) => {
    const child = bridge.downstream_pipeline;
    const projects = [bridge.pipeline?.project_id, asking.access.CI_PROJECT_ID].map(String); // the latter may be a path
    if (!child || (child.project_id && !projects.includes(`${child.project_id}`))) return [own];
    if (RUNNING.includes(child.status ?? "")) {
      const unfinished = `The child pipeline of ${own.name} is not finished, so not all counts`;
      asking.warnings.set(unfinished, `${unfinished}: set strategy: depend there`);
    }
    const warning = `The jobs of the child pipeline of ${own.name} are not counted`;
    const [jobs, below] = await Promise.all([
      listOrWarn(`pipelines/${child.id}/jobs`, ListedJob, warning, asking),
      depth < 2 ? listBelow(child.id, depth + 1, warning, asking) : [], // as deep as GitLab goes
    ]);
    return withChild(own, bridge, jobs, below);
  };
  return (await Promise.all(latest.map(follow))).flat();
}

/** A list that the token may not be allowed to read: then it is empty, with a warning. */
async function listOrWarn<T extends v.GenericSchema>(path: string, schema: T, warning: string, asking: Asking) {
  return listPages(path, schema, asking).catch((error: Failure) => {
    if (![401, 403, 404].includes(error.status ?? 0)) throw error;
    if (!asking.warnings.has(warning)) asking.warnings.set(warning, `${warning}: ${error.message}`);
    return [];
  });
}

/** All pages of a list: at once where GitLab says how many there are, else one after another. */
async function listPages<T extends v.GenericSchema>(path: string, schema: T, { access, signal }: Asking) {
  const { CI_API_V4_URL, CI_PROJECT_ID = "", GITLAB_TOKEN, CI_JOB_TOKEN } = access;
  const headers = GITLAB_TOKEN ? { "private-token": GITLAB_TOKEN } : { "job-token": `${CI_JOB_TOKEN}` };
  const project = `${CI_API_V4_URL}/projects/${encodeURIComponent(CI_PROJECT_ID)}`;
  const peer = `GitLab at ${new URL(project).host}, asked for ${path} of project ${CI_PROJECT_ID},`;
  const adviseOn = (status: number) => {
    const isRefused = status === 401 || status === 403 || (status === 404 && !GITLAB_TOKEN);
    if (isRefused) return "set GITLAB_TOKEN to one with read_api (CI_JOB_TOKEN may do for jobs from GitLab 18 on)";
    return "check CI_API_V4_URL, CI_PROJECT_ID, CI_PIPELINE_ID, and what GITLAB_TOKEN can see";
  };
  const readPage = async (page: number) => {
    const url = `${project}/${path}?per_page=${PER_PAGE}&page=${page}`;
    const { body, headers: answered } = await request(peer, url, { headers, adviseOn, signal });
    const todo = `check CI_API_V4_URL, and ${PROXY_ANSWERED}`;
    const items = parseJson(v.array(schema), body, `The answer of ${peer}`, todo);
    return { items, total: Number(answered["x-total-pages"]) || 0 };
  };
  const first = await readPage(1);
  const rest = Array.from({ length: Math.max(first.total - 1, 0) }, (_, i) => readPage(i + 2));
  const pages = [first, ...(await Promise.all(rest))];
  while (first.total === 0 && pages.at(-1)?.items.length === PER_PAGE) pages.push(await readPage(pages.length + 1));
  return pages.flatMap(({ items }) => items);
}

// --- Senders: Slack's API, a command, or stdout where there is neither.

/** How messages are delivered. `send` throws where that fails; `check` tries it without one. */
export type Sender = {
  place: string; // for the log
  send: (message: Message, signal: AbortSignal) => Promise<void>;
  check: (signal: AbortSignal) => Promise<string>;
};

/** For a command and stdout: `environment` has no secrets; `print` throws if nobody reads. */
type Output = { environment: Variables; print: (text: string) => Promise<void>; say: (text: string) => void };

/** The sender that the environment names. */
export function openSender(access: SenderAccess, output: Output): Sender {
  if (access.SLACK_API_TOKEN) return slackSender(access);
  if (access.ALERT_COMMAND) return commandSender(access.ALERT_COMMAND, output);
  return {
    place: "this log",
    send: (message) => output.print(`${writeMessage(message, PLAIN)}\n`),
    check: async () => "Messages would stand in this log",
  };
}

function slackSender({ SLACK_API_TOKEN, SLACK_API_URL, SLACK_CHANNEL = "" }: SenderAccess): Sender {
  const peer = `Slack at ${new URL(SLACK_API_URL).host}`;
  const headers = { authorization: `Bearer ${SLACK_API_TOKEN}` };
  const todo = `check SLACK_API_URL, and ${PROXY_ANSWERED}`;
  const Answer = v.object({ ok: v.boolean(), error: v.optional(v.string(), "no reason") });
  const call = async (method: string, json: object, signal: AbortSignal) => {
    const { body } = await request(peer, `${SLACK_API_URL}/${method}`, { headers, json, adviseOn: () => todo, signal });
    const { ok, error } = parseJson(Answer, body, `The answer of ${peer}`, todo);
    const [, advice = ""] = SLACK_ADVICE.find(([pattern]) => pattern.test(error)) ?? [];
    if (!ok) throw failure(`${peer} answered ${cut(error, 100)}`, advice);
  };
  return {
    place: `${SLACK_CHANNEL} on Slack`,
    async send(message, signal) {
      const text = writeMessage(message, SLACK);
      const channel = message.channel || SLACK_CHANNEL;
      await call("chat.postMessage", { channel, text, unfurl_links: false, unfurl_media: false }, signal);
    },
    async check(signal) {
      await call("auth.test", {}, signal);
      return `${peer} takes the token (auth.test); whether the bot may post in each channel, only a message shows`;
    },
  };
}

const COMMAND_TIMEOUT_MS = 60_000;
const TIME_IS_UP = "the time of this run is up";

function commandSender(command: string, { environment, say }: Output): Sender {
  return {
    place: "ALERT_COMMAND",
    check: async () => "ALERT_COMMAND is not tried by a dry run",
    async send(message, signal) {
      if (signal.aborted) throw failure(`ALERT_COMMAND was not started: ${TIME_IS_UP}`, "wait a while");
      const env = { ...environment, ALERT_SUBJECT: writeSubject(message), ALERT_OPEN: `${message.open}` };
      const { problem, output, wasEnded } = await runCommand(command, writeMessage(message, MARKDOWN), env, signal);
      if (output.trim()) say(output.trimEnd());
      const lastLine = output.trimEnd().split("\n").at(-1);
      const what = `ALERT_COMMAND ${problem}${lastLine && `: ${lastLine}`}`;
      if (problem) throw failure(what, "mend it", { mayBeTaken: wasEnded });
    },
  };
}

/** Runs a command in the platform's shell; resolves to what it said and what went wrong. */
function runCommand(command: string, input: string, env: Variables, signal: AbortSignal) {
  return new Promise<{ problem: string | undefined; output: string; wasEnded: boolean }>((resolve) => {
    const isWindows = process.platform === "win32";
    const child = spawn(command, { shell: true, detached: !isWindows, env }); // a group of its own, to be ended as one
    let [output, problem, wasEnded]: [string, string | undefined, boolean] = ["", undefined, false];
    const leave = () => [child.stdout, child.stderr].map((stream) => stream.destroy());
    const end = (reason: string) => {
      problem ??= reason;
      wasEnded = true;
      try {
        if (!isWindows && child.pid) process.kill(-child.pid, "SIGKILL");
      } catch {} // it has just ended, or Deno may end no group
      child.kill("SIGKILL");
      leave();
    };
    const timer = setTimeout(() => end(`took over ${COMMAND_TIMEOUT_MS / 1_000} s`), COMMAND_TIMEOUT_MS);
    const onAbort = () => end(`was ended: ${TIME_IS_UP}`);
    signal.addEventListener("abort", onAbort);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output = (output + text).slice(-10_000); // its end says most
      });
    }
    child.stdin.on("error", () => {}); // it need not read all
    child.stdin.end(input);
    child.on("error", (error) => {
      problem ??= `can't be started: ${error.message}`;
    });
    child.on("exit", () => setTimeout(leave, 1_000).unref()); // what it left behind may keep them open
    child.on("close", (code, killedBy) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      if (code !== 0) problem ??= code === null ? `was ended by ${killedBy}` : `ended with ${code}`;
      resolve({ problem, output, wasEnded });
    });
  });
}

// --- Requests: the function that speaks HTTP to GitLab and Slack, and the one that reads files.

const MAX_ATTEMPTS = 3; // of one request

/** `json` is posted, if there is any. `adviseOn` says what to do about a status. */
type Request = {
  headers: Record<string, string | undefined>;
  json?: object;
  adviseOn: (status: number) => string;
  signal: AbortSignal;
};

/**
 * One HTTP request, tried again where the network, the peer's load or an error of its own failed
 * it; what is posted, only where it surely was not taken. Throws an error that names the peer.
 */
async function request(peer: string, url: string, what: Request): Promise<HttpAnswer> {
  const { json, adviseOn, signal } = what;
  let last = failure(`${peer} was not asked: ${TIME_IS_UP}`, "wait a while");
  for (let attempt = 1; attempt <= MAX_ATTEMPTS && !signal.aborted; attempt++) {
    let waitMs = 500 * 2 ** attempt * Math.random();
    const answer = await exchange(url, what).catch((error: Error & { code?: string; isUnsent?: boolean }) => {
      const todo = adviseOnTrust(error);
      const reason = signal.aborted ? TIME_IS_UP : error.message || `${error.code}`;
      const mayBeTaken = json !== undefined && !error.isUnsent;
      last = failure(`${peer} is unreachable: ${reason}`, todo ?? CHECK_NETWORK, { cause: error, mayBeTaken });
      if (todo || mayBeTaken) throw last;
    });
    if (answer) {
      const { status, headers } = answer;
      if (status >= 200 && status < 300) return answer;
      const askedMs = Number(headers["retry-after"]) * 1_000 || 0;
      const wish = askedMs > 0 ? ` and asks to wait for ${askedMs / 1_000} s` : "";
      const isBusy = status === 429 || status >= 500;
      const todo = isBusy ? "wait a while" : adviseOn(status);
      last = failure(`${peer} answered ${status}${wish}`, todo, { status });
      if (!isBusy || askedMs > 30_000) throw last; // the next run tries again
      waitMs = askedMs || waitMs;
    }
    if (attempt < MAX_ATTEMPTS) await sleep(waitMs, undefined, { signal }).catch(() => {}); // aborted: the loop ends
  }
  throw last;
}

type HttpAnswer = { status: number; headers: NodeJS.Dict<string | string[]>; body: string };

/**
 * Not by fetch, which follows redirects with the token in its headers, and which under Deno sends a
 * POST again by itself when a reused connection is reset: here, each request has its own.
 */
function exchange(url: string, { headers, json, signal }: Request) {
  return new Promise<HttpAnswer>((resolve, reject) => {
    const method = json ? "POST" : "GET";
    const content = json ? { "content-type": "application/json; charset=utf-8" } : {};
    const sending = { method, headers: { ...headers, ...content, connection: "close" }, signal };
    const options = { ...sending, timeout: REQUEST_TIMEOUT_MS };
    const sent = (url.startsWith("https:") ? https : http).request(url, options, (response) => {
      const { statusCode: status = 0, headers } = response;
      const body = response.setEncoding("utf8").toArray();
      body.then((texts) => resolve({ status, headers, body: texts.join("") }), reject);
    });
    sent.on("timeout", () => sent.destroy(new Error("no answer in time")));
    sent.on("error", (error) => reject(Object.assign(error, { isUnsent: !sent.writableFinished })));
    sent.end(json && JSON.stringify(json));
  });
}

async function readTextFile(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    const todo = "check its name and its content";
    throw failure(`Cannot read ${path}: ${(error as Error).message}`, todo, { cause: error });
  }
}

// --- Command line: what people see, and the room that touches the process.

/** What a command line comes to: for people, for programs, and what went wrong. */
type Result = { texts: string[]; json: object; warnings?: string[]; errors?: string[] };

async function main(args: string[], variables: Variables): Promise<number> {
  const { stdout, stderr } = process;
  const print = printerFor(variables);
  for (const stream of [stdout, stderr]) stream.on("error", () => {}); // a reader may leave: go on
  const stop = new AbortController();
  setMaxListeners(0, stop.signal); // each request has one
  sleep(90_000, undefined, { ref: false }).then(() => stop.abort());
  let exitCode = 2; // until the arguments and the environment are known to be right
  try {
    const asked = parseArguments(args);
    if (asked.print) await print(stdout, asked.print);
    if (asked.print) return 0;
    const log = asked.json ? stderr : stdout;
    const printOrThrow = async (text: string) => {
      const error = await print(log, text);
      if (error) throw failure(`Cannot print: ${error.message}`, "keep this log open", { cause: error });
    };
    const say = (text: string) => void print(stderr, text);
    const output = { environment: withoutSecrets(variables), print: printOrThrow, say };
    const execute = plan(asked, variables, output, stop.signal);
    exitCode = 1;
    const { texts, json, warnings = [], errors = [] } = await execute();
    print(log, texts.join("\n\n"));
    if (asked.json) print(stdout, JSON.stringify(json));
    for (const warning of warnings) say(`Warning: ${toOneLine(warning)}`);
    for (const error of errors) say(`Error: ${toOneLine(error)}`);
    return errors.length > 0 ? 1 : 0;
  } catch (error) {
    const { message, stack, cause } = error as Error;
    const because = cause instanceof Error ? `\nbecause of ${cause.stack}` : "";
    print(stderr, variables.DEBUG ? `${stack}${because}` : `Error: ${message}`);
    return exitCode;
  } finally {
    stop.abort(); // what is still asked of a peer no longer matters
  }
}

/** What is to be done. Throws where the environment is wrong, before anything is done. */
function plan(asked: Arguments, variables: Variables, output: Output, signal: AbortSignal): () => Promise<Result> {
  if (asked.isReport) {
    const settings = parseReportSettings(variables);
    return () => report(settings, asked.maxAgeMs, signal);
  }
  const { CI_DEFAULT_BRANCH, CI_COMMIT_BRANCH, CI_PIPELINE_ID } = variables;
  if (!asked.dryRun && CI_DEFAULT_BRANCH && CI_COMMIT_BRANCH !== CI_DEFAULT_BRANCH) {
    // Before all validation: a pipeline of another branch lacks the protected variables.
    const text = `Nothing to do: this is not a pipeline of the default branch, ${CI_DEFAULT_BRANCH}`;
    const ids = { pipeline_id: Number(CI_PIPELINE_ID) || null, stored_pipeline_id: null };
    const json = { outcome: "not-default-branch", ...ids, jobs: null, warnings: [], messages: [] };
    return async () => ({ texts: [text], json });
  }
  const CI_COMMIT_MESSAGE = maskSecrets(variables.CI_COMMIT_MESSAGE ?? "", variables);
  const settings = parseSettings({ ...variables, CI_COMMIT_MESSAGE });
  return () => countPipeline(settings, asked.dryRun, output, signal);
}

async function countPipeline(settings: Settings, dryRun: boolean, output: Output, signal: AbortSignal) {
  const { pipeline, limits } = settings;
  const store = openStore(settings.store);
  const sender = openSender(settings.sender, output);
  const jobs = openJobs(settings.jobs, pipeline.CI_PIPELINE_ID, signal);
  const broadcast = settings.sender.SLACK_CHANNEL ?? null;
  const task = { pipeline, limits, broadcast, now: new Date(), run: randomUUID(), dryRun };
  const run = await checkConsistentFailures(task, { store, jobs, sender, pause: sleep, signal });
  const { warnings, errors, listing } = run;
  const stored = run.outcome === "nothing-ran" ? "Nothing is stored" : "Stored";
  const places = [`${stored} in ${store.source}`, `alerts go to ${sender.place}`, listing.remark ?? []].flat();
  const texts = describeRun(run, task);
  try {
    texts.push(dryRun ? await sender.check(signal) : places.join("; "));
  } catch (error) {
    errors.push((error as Error).message);
  }
  return { texts, json: runToJson(run, task), warnings, errors };
}

async function report({ store: access, limits }: ReportSettings, maxAgeMs: number | undefined, signal: AbortSignal) {
  const store = openStore(access);
  const stored = await retrieveJobExecutions(store, signal);
  const now = new Date();
  const { document } = stored ?? { document: createInitialJobExecutions() };
  const missing = `${store.source}: there is no document yet, if JOB_EXECUTIONS_URL is right`;
  return {
    texts: [stored ? describeDocument(document, store.source, now) : missing, formatTable(document, limits)],
    json: { source: store.source, ...toStored(document) },
    errors: maxAgeMs ? findTroubles(document, now, maxAgeMs).map((trouble) => `${store.source}: ${trouble}`) : [],
  };
}

/** Prints without secrets; resolves to the error that kept it from that, if any. */
function printerFor(variables: Variables) {
  return (stream: NodeJS.WriteStream, text: string) => {
    // To some CIs, a line that begins with :: or ## is a command.
    const shown = maskSecrets(text, variables).replace(/^(\s*)([:#])(?=\2)/gm, "$1$2\u2060");
    return new Promise<Error | null | undefined>((resolve) => stream.write(`${shown}\n`, resolve));
  };
}

function maskSecrets(text: string, variables: Variables): string {
  const hidden = secretsIn(variables).flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1)]);
  hidden.sort((a, b) => b.length - a.length); // the longest first, as one may be a part of another
  return hidden.reduce((rest, secret) => rest.replaceAll(secret, "***"), text);
}

/** The values that are never printed; one of few characters would be found in any text. */
function secretsIn(variables: Variables): string[] {
  const isHidden = (name: string, value: string) => SECRETS.test(name) && value.length > 5;
  return Object.entries(variables).flatMap(([name, value = ""]) => (isHidden(name, value) ? value : []));
}

/** What ALERT_COMMAND gets: all but AWS's, this script's secrets, and what holds one of these. */
function withoutSecrets(variables: Variables): Variables {
  const secrets = secretsIn(variables);
  const isHarmless = ([name, value = ""]: [string, string | undefined]) =>
    !/^(AWS|ACTIONS_ID_TOKEN)_/.test(name) && !SECRETS.test(name) && !secrets.some((secret) => value.includes(secret));
  return Object.fromEntries(Object.entries(variables).filter(isHarmless));
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
