/**
 * check-failures 2.0.0: tells the owners of a CI job when it fails consistently. It runs as the last job of a pipeline:
 *
 *   npm install --no-save --ignore-scripts tsx @aws-sdk/client-s3 valibot
 *   npx tsx check-failures.ts
 *
 * One JSON document, in S3 or in a file, keeps how each job did in the last pipelines. A job that failed three times in
 * a row, or five times in its last ten executions, is told of once, and once more when the trouble is over.
 * `--help` lists the variables that set this up. MIT licensed: copy it.
 *
 * The rooms, in this order: document, story, statistics, messages, routing, delivery, store, jobs, Slack, requests,
 * settings, table, command line. What a room needs comes after it, so read on.
 *
 * Audit map. What leaves this process, to whom, by which function, with which secret:
 *
 *   the document           S3            s3Store         AWS credentials, which the SDK finds by itself
 *   questions for jobs     GitLab        gitLabJobs      GITLAB_TOKEN or CI_JOB_TOKEN
 *   messages               Slack         slackSender     SLACK_API_TOKEN
 *                          a webhook     webhookSender   SLACK_WEBHOOK_URL, which is the secret
 *   table, JSON, errors    stdout/-err   printerFor      none: it masks the value of each secret
 *
 * GitLab, Slack and webhooks are asked by `request`, whose `exchange` opens the connection, sends the headers that it is
 * given, and follows no redirect. Where HTTPS_PROXY or HTTP_PROXY is set, all of it goes through that proxy
 * (`agentsFor`), which is given the password in its own URL. On disk, `fileStore` writes the document where
 * JOB_EXECUTIONS_URL is a path, and `readTextFile` reads that, PIPELINE_JOBS_FILE, JOB_OWNERS_FILE and
 * OWNER_CHANNELS_FILE. The AWS SDK reads AWS's own files, and may ask AWS for credentials. Nothing else is read, written
 * or sent. Each function is given the variables in its type and no others; `parseSettings` hands them out.
 */
import { createHash, randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { existsSync, realpathSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { GetObjectCommand, PutObjectCommand, S3Client, type S3ServiceException } from "@aws-sdk/client-s3";
import * as v from "valibot";

const VERSION = "2.0.0";
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

// --- Document: what is stored between two pipelines, in the format of DataDog's job_executions.v2.json.

/** What valibot's own object schemas are not: no array. */
const PlainObject = v.custom<Record<string, unknown>>(isPlainObject, "Expected an object");
const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Timestamp = v.pipe(
  v.string(),
  v.check((text) => Number.isFinite(Date.parse(text)), "Expected a time, e.g. 2026-11-23T10:00:00Z"),
);

/** How a job did in one pipeline: `id` is that of a failed job, `commit` is missing where it did not really run. */
const Execution = v.object({
  id: v.nullable(v.pipe(v.number(), v.safeInteger())),
  failing: v.boolean(),
  commit: v.optional(v.nullable(v.string())),
});
export type Execution = v.InferOutput<typeof Execution>;

/** The commit with which a job last turned, from passing to failing or back, and the one before it. */
const Turn = v.looseObject({
  commit: v.string(),
  title: v.optional(v.string()),
  author: v.optional(v.string()),
  from: v.optional(v.string()),
});
export type Turn = v.InferOutput<typeof Turn>;

const Alert = v.looseObject({ kind: v.picklist(["consecutive", "cumulative"]), pipeline_id: Count, at: Timestamp });

const TrackedJob = v.pipe(
  v.looseObject({
    consecutive_failures: Count,
    jobs_info: v.optional(v.array(Execution)),
    cumulative_failures: v.optional(v.array(Execution)), // the older name of jobs_info
    last_run: v.optional(Timestamp),
    turned: v.optional(Turn),
    alert: v.optional(Alert),
  }),
  v.check((job) => (job.jobs_info ?? job.cumulative_failures) !== undefined, "Expected an array jobs_info"),
  v.transform(({ cumulative_failures, jobs_info = cumulative_failures ?? [], ...job }) => ({ ...job, jobs_info })),
);
/** The history of a job: its window, oldest execution first, and its alert while that is open. */
export type TrackedJob = v.InferOutput<typeof TrackedJob>;

/** A message that a run has recorded and not yet seen delivered. `channel` is null for the broadcast channel. */
const PendingAlert = v.pipe(
  PlainObject,
  v.transform(({ claimed_at, ...alert }) => (claimed_at ? { id: "", due: claimed_at, ...alert } : alert)), // version 1
  v.looseObject({ id: v.string(), channel: v.nullable(v.string()), text: v.string(), due: Timestamp }),
);
export type PendingAlert = v.InferOutput<typeof PendingAlert>;

const JobExecutions = v.pipe(
  PlainObject,
  v.looseObject({
    pipeline_id: v.optional(Count, 0),
    commit: v.optional(v.string()),
    counted_at: v.optional(Timestamp),
    jobs: mapOf(TrackedJob),
    pending_alerts: v.optional(v.array(PendingAlert), []),
  }),
);
/** The document in memory. Keys that it does not know are kept. */
export type JobExecutions = v.InferOutput<typeof JobExecutions>;

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object as a Map, as valibot's own would drop jobs that are named `constructor` or `__proto__`. */
function mapOf<T extends v.GenericSchema>(value: T) {
  const toEntries = v.transform((object: Record<string, unknown>) => new Map(Object.entries(object)));
  return v.pipe(PlainObject, toEntries, v.map(v.string(), value));
}

// --- Story: what a run does, step by step, and the one function that changes the document.

const MAX_UPLOADS = 20; // of a document that other runs store at the same time
const BEGAN_ANEW_MS = 7 * DAY_MS;

/** What is counted, by which limits, and who is told. No token can be in it. */
export type Task = { pipeline: Pipeline; limits: Limits; owners: Owners; dryRun?: boolean };

/** What a run talks to. `now` is the time of the whole run; `signal` ends what it waits for when that takes too long. */
export type Edges = {
  store: Store;
  jobs: Jobs;
  sender: Sender;
  pause: (ms: number) => Promise<unknown>;
  now: Date;
  signal: AbortSignal;
};

type Outcome = "counted" | "already-counted" | "out-of-order";

/** What a run did: the document as it was read (`before`) and stored, what it told whom, and what went wrong. */
export type Run = Update & {
  outcome: Outcome;
  before: JobExecutions;
  messages: Delivery[];
  warnings: string[];
  errors: string[];
};

/**
 * Counts a pipeline, stores the document and sends the alerts. The upload that counts also records the messages, and a
 * second one clears those that were delivered, so that a run may die anywhere. Throws where the document can't be read
 * or stored, or the jobs can't be listed: then nothing was counted. What fails after that is in the `errors` of the run.
 */
export async function checkConsistentFailures(task: Task, edges: Edges): Promise<Run> {
  const { pipeline, dryRun } = task;
  edges.jobs("failed").catch(() => {}); // the CI answers while the store does; who needs the answer sees the error
  const store = dryRun ? { ...edges.store, write: async () => true } : edges.store;

  const run = await changeDocument({ ...edges, store }, async (stored) => {
    const before = stored ?? createInitialJobExecutions();
    const outcome = orderOf(pipeline, before, edges.now);
    const update =
      outcome === "counted"
        ? updateStatistics(before, await jobsFor(before, edges.jobs), { ...task, now: edges.now })
        : { document: before, reached: noneReached(), news: [] };
    const { routes, warnings } = routeNews(update.news, task.owners, edges.sender.broadcast);
    const texts = routes.map((route) => ({ channel: route.channel, text: writeMessage(route, pipeline, edges.now) }));
    if (!stored) texts.unshift({ channel: null, text: writeHello(task, edges.store.source) });
    return { outcome, before, ...update, ...recordMessages(update.document, texts, edges), warnings };
  });
  if (dryRun)
    return { ...run, messages: run.messages.map((message) => ({ ...message, delivered: false })), errors: [] };

  const messages = await sendNotification(run.messages, edges);
  const errors = [...describeFailures(messages, edges.sender), ...(await settleMessages(messages, edges))];
  return { ...run, messages, errors };
}

/** Whether a pipeline comes after the stored one. Throws where the ids must have begun anew, as all would be too late. */
function orderOf({ CI_PIPELINE_ID: id }: Pipeline, { pipeline_id, counted_at }: JobExecutions, now: Date): Outcome {
  if (id > pipeline_id) return "counted";
  if (id === pipeline_id) return "already-counted";
  if (counted_at && now.getTime() - Date.parse(counted_at) > BEGAN_ANEW_MS) {
    throw failure(
      `Cannot count pipeline ${id}: it is older than ${pipeline_id}, which was the last one, on ${counted_at.slice(0, 10)}`,
      "if the ids began anew (a moved project, a renamed workflow), set JOB_EXECUTIONS_URL to a new document",
    );
  }
  return "out-of-order";
}

/** The jobs that count: those that passed are asked for only where a tracked job is not among the failed. */
async function jobsFor(document: JobExecutions, jobs: Jobs): Promise<PipelineJob[]> {
  const failed = await jobs("failed");
  const names = new Set(failed.map((job) => job.name));
  if ([...document.jobs.keys()].every((name) => names.has(name))) return failed;
  return [...failed, ...(await jobs("passed"))];
}

type Change = { document: JobExecutions | undefined; messages: PendingAlert[] };

/**
 * Reads the document, changes and stores it, and does it again where another run stored it first. `change` is given
 * undefined where there is no document, and returns the same one where there is nothing to store.
 */
async function changeDocument<T extends Change>(
  { store, pause, signal }: Pick<Edges, "store" | "pause" | "signal">,
  change: (stored: JobExecutions | undefined) => Promise<T>,
): Promise<T> {
  let last: T | undefined;
  for (let attempt = 1; attempt <= MAX_UPLOADS; attempt++) {
    const stored = await retrieveJobExecutions(store, signal);
    // An upload whose answer got lost is repeated by the SDK, and then refused: the messages show whose it was.
    const isStored = stored?.document.pending_alerts.some(({ id }) => last?.messages.some((own) => own.id === id));
    if (last && isStored) return last;
    last = await change(stored?.document);
    if (!last.document || last.document === stored?.document) return last;
    if (await uploadJobExecutions(last.document, stored?.version, { store, signal })) return last;
    await pause(Math.random() * Math.min(100 * 2 ** attempt, 2_000));
  }
  throw failure(
    `Cannot upload job executions to ${store.source}: it was refused ${MAX_UPLOADS} times, as if others always stored first`,
    "retry this job if other pipelines end at the same time; if none do, the store refuses its own version: " +
      "set S3_CONDITIONAL_WRITES=off",
  );
}

/** Reads the stored document; undefined where there is none. Throws where it can't be read or is not valid. */
export async function retrieveJobExecutions(store: Store, signal: AbortSignal) {
  const stored = await store.read(signal);
  if (!stored) return undefined;
  const todo = "mend the document, or restore an earlier version of it";
  return { document: parseJson(JobExecutions, stored.text, { source: store.source, todo }), version: stored.version };
}

/** The document before the first pipeline. */
export function createInitialJobExecutions(): JobExecutions {
  return { pipeline_id: 0, jobs: new Map(), pending_alerts: [] };
}

/**
 * Stores the document if `version` (undefined: none) is still the stored one, and resolves to whether it was.
 * Throws where it can't be written.
 */
export function uploadJobExecutions(
  { pipeline_id, commit, counted_at, jobs, pending_alerts, ...unknown }: JobExecutions,
  version: string | undefined,
  { store, signal }: { store: Store; signal: AbortSignal },
): Promise<boolean> {
  const document = {
    pipeline_id,
    commit,
    counted_at,
    ...unknown,
    jobs: Object.fromEntries(jobs),
    pending_alerts: pending_alerts.length > 0 ? pending_alerts : undefined,
  };
  return store.write(Buffer.from(JSON.stringify(document)), version, signal);
}

// --- Statistics: pure; how each job did, and what that means for its alert. A threshold is reached when equalled.

type Kind = "consecutive" | "cumulative" | "recovered" | "gone";

/** The jobs that reached a threshold, each with the ids of all failing executions in its window, and the others. */
type Reached = {
  consecutive: Map<string, number[]>;
  cumulative: Map<string, number[]>;
  recovered: string[];
  gone: string[];
};

/** What is to be told of a job: its history after this pipeline, since when its alert is open, how it did last. */
export type News = { kind: Kind; name: string; job: TrackedJob; openedAt: string; latest?: PipelineJob | undefined };

type Update = { document: JobExecutions; reached: Reached; news: News[] };

type Facts = { pipeline: Pipeline; limits: Limits; now: Date };

/**
 * Adds the outcome of a pipeline, given as one entry a job name, to the histories. Returns a new document, without the
 * jobs that say no more than absent ones, what reached a threshold, and what of that is news: one when the alert of a
 * job opens, one when it goes from failing often to broken, one when a broken job recovered, one when it is gone.
 */
export function updateStatistics(before: JobExecutions, ran: PipelineJob[], facts: Facts): Update {
  const { pipeline, limits, now } = facts;
  const reached = noneReached();
  const news: News[] = [];
  const jobs = new Map<string, TrackedJob>();
  const latest = new Map(ran.map((job) => [job.name, job]));

  for (const name of new Set([...before.jobs.keys(), ...latest.keys()])) {
    if (matchesAny(limits.IGNORE_JOBS, name)) continue;
    const tracked = before.jobs.get(name);
    const execution = toExecution(latest.get(name), facts);
    if (!tracked && !execution?.failing) continue; // only a failure makes a job tracked
    const counted = addExecution(tracked ?? NEW_JOB, execution, { ...facts, before });
    const isExpired = now.getTime() - Date.parse(counted.last_run) > limits.EXPIRE_AFTER_DAYS * DAY_MS;
    const kinds = execution ? kindsReached(counted, limits) : [];
    const { job, told } = changeAlert(counted, kinds, { isExpired, pipeline, now });

    for (const kind of kinds) {
      if (kind === "recovered") reached.recovered.push(name);
      else reached[kind].set(name, idsOf(failuresIn(counted)));
    }
    if (told === "gone") reached.gone.push(name);
    const openedAt = counted.alert?.at ?? now.toISOString();
    if (told) news.push({ kind: told, name, job, openedAt, latest: latest.get(name) });
    const isClean = job.jobs_info.length >= limits.CUMULATIVE_LENGTH && failuresIn(job).length === 0;
    if (!isExpired && (job.alert || !isClean)) jobs.set(name, job);
  }
  const { CI_PIPELINE_ID: pipeline_id, CI_COMMIT_SHA: commit } = pipeline;
  return { document: { ...before, pipeline_id, commit, counted_at: now.toISOString(), jobs }, reached, news };
}

function noneReached(): Reached {
  return { consecutive: new Map(), cumulative: new Map(), recovered: [], gone: [] };
}

const NEW_JOB: TrackedJob = { consecutive_failures: 0, jobs_info: [] };

function failuresIn(job: TrackedJob) {
  return job.jobs_info.filter((execution) => execution.failing);
}

function idsOf(executions: Execution[]) {
  return executions.flatMap(({ id }) => id ?? []);
}

/** The last executions of the window that all failed, or all passed. */
function lastThat(job: TrackedJob, failing: boolean) {
  return job.jobs_info.slice(job.jobs_info.findLastIndex((execution) => execution.failing !== failing) + 1);
}

/** What this pipeline adds to the window of a job; undefined where it did not run and keeps its history. */
function toExecution(latest: PipelineJob | undefined, { pipeline, limits }: Facts): Execution | undefined {
  const commit = pipeline.CI_COMMIT_SHA;
  if (latest?.outcome === "passed") return { id: null, failing: false, commit };
  if (latest?.outcome === "failed") {
    const isIgnored = latest.reason && matchesAny(limits.IGNORE_FAILURES, latest.reason);
    return isIgnored ? undefined : { id: latest.id, failing: true, commit };
  }
  return limits.NOT_RUN_JOBS === "pass" ? { id: null, failing: false, commit: null } : undefined;
}

function addExecution(
  job: TrackedJob,
  execution: Execution | undefined,
  { pipeline, limits, now, before }: Facts & { before: JobExecutions },
) {
  const window = execution ? [...job.jobs_info, execution] : job.jobs_info;
  const counted = {
    ...job,
    jobs_info: window.length > limits.CUMULATIVE_LENGTH ? window.slice(-limits.CUMULATIVE_LENGTH) : window,
    // A job from a document of the original has no last_run yet: its time to expire begins now.
    last_run: execution?.commit || !job.last_run ? now.toISOString() : job.last_run,
  };
  if (!execution) return counted;
  const consecutive_failures = execution.failing ? job.consecutive_failures + 1 : 0;
  const hasTurned = execution.failing
    ? consecutive_failures === 1
    : execution.commit && !lastThat(job, false).some(({ commit }) => commit);
  if (!hasTurned) return { ...counted, consecutive_failures };
  const turned = {
    commit: pipeline.CI_COMMIT_SHA,
    title: titleOf(pipeline),
    author: pipeline.CI_COMMIT_AUTHOR,
    from: job.jobs_info.at(-1)?.commit ?? before.commit,
  };
  return { ...counted, consecutive_failures, turned };
}

/** The first line of a commit's message that says something: of a merge, that is what its description begins with. */
function titleOf({ CI_COMMIT_TITLE = "", CI_COMMIT_DESCRIPTION = "" }: Pipeline): string | undefined {
  const lines = `${CI_COMMIT_TITLE}\n${CI_COMMIT_DESCRIPTION}`.split(/[\r\n]+/).map((line) => line.trim());
  const said = lines.filter((line) => line !== "");
  const title = said.find((line) => !line.startsWith("Merge ")) ?? said[0];
  return title && cut(title, MAX_TITLE);
}

/** What the last execution of a job reached, the gravest first. */
function kindsReached(job: TrackedJob, limits: Limits): Exclude<Kind, "gone">[] {
  const last = job.jobs_info.slice(-limits.RECOVERY_THRESHOLD);
  const hasPassed = last.length === limits.RECOVERY_THRESHOLD && last.every((execution) => !execution.failing);
  if (job.alert && hasPassed && last.some((execution) => execution.commit)) return ["recovered"];
  if (!job.jobs_info.at(-1)?.failing) return [];
  const kinds: Exclude<Kind, "gone">[] = [];
  if (job.consecutive_failures === limits.CONSECUTIVE_THRESHOLD) kinds.push("consecutive");
  if (failuresIn(job).length === limits.CUMULATIVE_THRESHOLD) kinds.push("cumulative");
  return kinds;
}

/** Opens, escalates or closes the alert of a job, and says what of that is told. One alert for one trouble. */
function changeAlert(
  job: TrackedJob,
  [gravest]: Kind[],
  { isExpired, pipeline, now }: { isExpired: boolean; pipeline: Pipeline; now: Date },
): { job: TrackedJob; told?: Kind | undefined } {
  const { alert } = job;
  if (gravest === "recovered") {
    // A job that only failed often and is quiet for a while is no news.
    return { job: { ...job, alert: undefined }, told: alert?.kind === "consecutive" ? "recovered" : undefined };
  }
  if (alert && isExpired) return { job: { ...job, alert: undefined }, told: "gone" };
  const isEscalation = gravest === "consecutive" && alert?.kind === "cumulative";
  if ((gravest === "consecutive" || gravest === "cumulative") && (!alert || isEscalation)) {
    const opened = { pipeline_id: pipeline.CI_PIPELINE_ID, at: now.toISOString(), ...alert, kind: gravest };
    return { job: { ...job, alert: opened }, told: gravest };
  }
  return { job };
}

// --- Messages: pure; what a channel reads, in Slack's mrkdwn. Names, titles, authors and branches are data in it.

const MAX_MESSAGE = 3_900; // UTF-16 units as sent: Slack shows some 4,000 well
const MAX_TITLE = 150; // of a commit's title, and of its author
const MAX_LABEL = 100; // of a project's or branch's name, and of a stage with a reason
const MAX_HEADLINE_NAME = 200;

/** What a kind of news begins with, the word for it, and what is told of its jobs, the gravest first. */
const KINDS: Record<Kind, { sign: string; word: string; describe: (group: Group, context: Context) => string }> = {
  consecutive: { sign: "🔴", word: "broken", describe: describeBroken },
  cumulative: { sign: "🟠", word: "failing often", describe: describeOften },
  recovered: { sign: "🟢", word: "recovered", describe: describeRecovered },
  gone: { sign: "⚪", word: "gone", describe: describeGone },
};

/** News of at least one job, told together: jobs that broke with one commit, that one commit mended, or are alike. */
type Group = [News, ...News[]];

/** What is told of a group: a line, and a list below it of which perhaps not all fits. */
type Paragraph = { head: string; list: string[]; jobs: number };

type Links = ReturnType<typeof linksOf>;
/** `title` is that of the only cause, which the first line tells already. */
type Context = { links: Links; now: Date; title: string | undefined };

/**
 * The message for a channel, of at most 3,900 characters: a first line that says all that a phone needs, then a
 * paragraph for each group. What does not fit is counted. `now` tells for how long an alert was open.
 */
export function writeMessage({ news, mentions }: Route, pipeline: Pipeline, now: Date): string {
  const links = linksOf(pipeline);
  const sorted = news.toSorted((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const groups = [...groupBy(sorted, groupOf).values()].sort((a, b) => gravityOf(a) - gravityOf(b));
  const [main] = groups.length === 1 ? sorted : [];
  const title = main?.kind === "consecutive" ? turnOf(main.job)?.title : undefined;

  const first = [...mentions, writeFirstLine(sorted, pipeline, title)].join(" ");
  const paragraphs = groups.map((group) => writeParagraph(group, { links, now, title }));
  return [first, ...fitParagraphs(paragraphs, MAX_MESSAGE - first.length, links.pipeline)].join("\n\n");
}

function groupOf({ kind, job }: News) {
  return kind === "consecutive" || kind === "recovered" ? `${kind} ${turnOf(job)?.commit}` : kind;
}

/** Its place: the gravest kind first, and of one kind the largest group. */
function gravityOf([{ kind }, ...others]: Group) {
  return Object.keys(KINDS).indexOf(kind) - others.length / 1_000_000;
}

/** The commit with which a job turned; for a document of the original, as far as its window shows it. */
function turnOf(job: TrackedJob): Turn | undefined {
  if (job.turned) return job.turned;
  const streak = lastThat(job, job.consecutive_failures > 0);
  const beganEarlier = streak.length < job.consecutive_failures;
  const commit = streak.find((execution) => execution.commit)?.commit;
  const before = job.jobs_info.slice(0, -streak.length).findLast((execution) => execution.commit);
  return commit && !beganEarlier ? { commit, from: before?.commit ?? undefined } : undefined;
}

function writeFirstLine(news: News[], pipeline: Pipeline, title: string | undefined) {
  const counts = Object.entries(KINDS).flatMap(([kind, { sign, word }]) => {
    const names = news.filter((item) => item.kind === kind).map(({ name }) => escapeText(name));
    const name = names.length === 1 && names.find(({ length }) => length <= MAX_HEADLINE_NAME);
    return names.length > 0 ? `${sign} ${name || formatCount(names.length, "job")} ${word}` : [];
  });
  const cause = title ? `: "${escapeText(title)}"` : "";
  return `${counts.join(", ")} in ${placeOf(pipeline)}${cause}, ${linkPipeline(pipeline)}`;
}

function linkPipeline(pipeline: Pipeline) {
  return link(linksOf(pipeline).pipeline, `pipeline ${pipeline.CI_PIPELINE_ID}`);
}

function placeOf({ CI_PROJECT_PATH: project = "this project", CI_COMMIT_BRANCH: branch, CI_COMMIT_SHA }: Pipeline) {
  return `${escapeText(cut(project, MAX_LABEL))} ${escapeText(cut(branch ?? shorten(CI_COMMIT_SHA), MAX_LABEL))}`;
}

function writeParagraph(group: Group, context: Context): Paragraph {
  const { links } = context;
  const [{ kind, job }] = group;
  const { sign, describe } = KINDS[kind];
  const details = group.map(detailsOf);
  const isShared = details.every((detail) => detail === details[0]); // then they are told once
  const names = group.map((news, i) => link(urlOf(news, links), news.name) + (isShared ? "" : details[i]));
  const subject = group.length === 1 ? names[0] : `${group.length} jobs`;
  const head = `${sign} ${subject}${isShared ? details[0] : ""} ${describe(group, context)}`;
  if (group.length > 1) return { head: `${head}\n`, list: names, jobs: group.length };
  const failures = { consecutive: lastThat(job, true), cumulative: failuresIn(job), recovered: [], gone: [] }[kind];
  const list = idsOf(failures).map((id) => link(links.job(id), `${id}`));
  return { head: list.length > 0 ? `${head}\nfailures: ` : head, list, jobs: 1 };
}

function describeBroken([{ job }]: Group, { links, title: told }: Context) {
  const failed = `failed ${formatCount(job.consecutive_failures, "time")} in a row`;
  const turn = turnOf(job);
  if (!turn) return failed;
  const { title, author, from } = turn;
  const since = ` since ${linkCommit(turn, links)}${title && !told ? ` "${escapeText(title)}"` : ""}`;
  const by = author ? ` by ${escapeText(author)}` : "";
  const url = from && from !== turn.commit && links.compare(from, turn.commit);
  return `${failed}${since}${by}${url ? `, ${link(url, `changes since ${shorten(from)}`)}` : ""}`;
}

function describeOften([{ job }, ...others]: Group) {
  const executions = formatSpan([job, ...others.map((news) => news.job)].map(({ jobs_info }) => jobs_info.length));
  return `failed ${formatCount(failuresIn(job).length, "time")} in the last ${executions} executions`;
}

function describeRecovered(group: Group, { links, now }: Context) {
  const passes = formatSpan(group.map(({ job }) => lastThat(job, false).length));
  const longest = Math.max(...group.map(({ openedAt }) => now.getTime() - Date.parse(openedAt)));
  const open = `${group.length === 1 ? "its alert was open for" : "the alerts were open for up to"} ${formatDuration(longest)}`;
  const turn = turnOf(group[0].job);
  const title = turn?.title ? ` "${escapeText(turn.title)}"` : "";
  const author = turn?.author ? ` (${escapeText(turn.author)})` : "";
  const mended = turn ? `, mended by ${linkCommit(turn, links)}${title}${author}` : "";
  return `passed ${passes} ${passes === "1" ? "time" : "times"} in a row, ${open}${mended}`;
}

function describeGone({ length }: Group) {
  return length === 1 ? "is gone: its alert is closed" : "are gone: their alerts are closed";
}

/** Behind a job's name: where it failed and why, as far as that says more than that its script did. */
function detailsOf({ kind, job, latest }: News) {
  if (kind === "gone") return ` (not run since ${job.last_run?.slice(0, 10)})`;
  if (kind === "recovered" || !latest) return "";
  const reason = latest.reason === "script_failure" ? undefined : latest.reason;
  const known = [latest.stage, reason].filter(Boolean);
  return known.length > 0 ? ` (${escapeText(cut(known.join(": "), MAX_LABEL))})` : "";
}

/** The page of the job that the news is of: the latest attempt, or the last one that failed. */
function urlOf({ job, latest }: News, links: Links) {
  const id = latest?.id ?? idsOf(failuresIn(job)).at(-1);
  return latest?.url ?? (id ? links.job(id) : undefined);
}

/** As many paragraphs as fit, each with its head, then with as much of its list as there is room for. */
function fitParagraphs(paragraphs: Paragraph[], length: number, pipelineUrl: string | undefined): string[] {
  const andMore = (count: number) => `and ${link(pipelineUrl, `${count} more`)}`;
  const reserve = andMore(1_000_000).length + "\n\n".length; // for the end of each list, and of the message
  const heads = fit(
    paragraphs.map(({ head }) => "\n\n".length + head.length + reserve),
    length - reserve,
  );
  let room = length - reserve - heads.taken;
  const texts = paragraphs.slice(0, heads.count).map(({ head, list }) => {
    const lengths = list.map((item) => item.length + ", ".length);
    const whole = fit(lengths, room + reserve);
    const isWhole = whole.count === list.length;
    const { count, taken } = isWhole ? whole : fit(lengths, room);
    room -= isWhole ? taken - reserve : taken;
    const end = isWhole ? [] : [andMore(list.length - count)];
    return head + [...list.slice(0, count), ...end].join(", ");
  });
  const left = paragraphs.slice(heads.count).reduce((sum, { jobs }) => sum + jobs, 0);
  return left > 0 ? [...texts, andMore(left)] : texts;
}

/** How many of the texts fit one after the other, by their lengths, and how much of the room they take. */
function fit(lengths: number[], room: number) {
  let count = 0;
  let taken = 0;
  for (const length of lengths) {
    if (taken + length > room) break;
    taken += length;
    count++;
  }
  return { count, taken };
}

/** What the run says that creates the document: who sees it knows that all is set up, or that the document was lost. */
export function writeHello({ pipeline, limits }: Task, source: string): string {
  const { CONSECUTIVE_THRESHOLD: inARow, CUMULATIVE_THRESHOLD: often, CUMULATIVE_LENGTH: window } = limits;
  return [
    `👋 check-failures now watches the CI jobs of ${placeOf(pipeline)}, from ${linkPipeline(pipeline)} on.`,
    `It will speak when a job failed ${formatCount(inARow, "time")} in a row, or ${often} times in its last ${window} executions, and when a broken job has recovered. Until then it is silent.`,
    `Have you seen this message before? Then the document ${escapeText(source)} was lost, and with it the open alerts.`,
  ].join("\n");
}

/** The pages of GitLab or GitHub; undefined where the project's address is not known. */
function linksOf({ CI_PROJECT_URL, CI_PIPELINE_URL, CI_PIPELINE_ID, GITHUB_ACTIONS }: Pipeline) {
  const isGitHub = GITHUB_ACTIONS === "true";
  const page = (path: string) => CI_PROJECT_URL && `${CI_PROJECT_URL}/${isGitHub ? "" : "-/"}${path}`;
  return {
    // A run's number, which GitHub's runs are counted by here, is not in its address.
    pipeline: CI_PIPELINE_URL ?? (isGitHub ? undefined : page(`pipelines/${CI_PIPELINE_ID}`)),
    commit: (commit: string) => page(`commit/${commit}`),
    compare: (from: string, to: string) => page(`compare/${from}...${to}`),
    job: (id: number) => page(`${isGitHub ? "runs" : "jobs"}/${id}`),
  };
}

function link(url: string | undefined, label: string) {
  if (!url) return escapeText(label);
  return `<${escapeText(url.replace(/[\s\p{Cc}<>|]/gu, encodeURIComponent))}|${escapeText(label).replaceAll("|", "/")}>`;
}

function linkCommit({ commit }: Turn, links: Links) {
  return link(links.commit(commit), shorten(commit));
}

function shorten(commit: string) {
  return commit.slice(0, 8);
}

function escapeText(text: string) {
  return toOneLine(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Without what would break a line, move the cursor or turn the direction of writing. */
function toOneLine(text: string) {
  return text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]+/gu, " ");
}

/** The first UTF-16 units of a text, without half a character at the end. */
function cut(text: string, length: number) {
  return text.slice(0, length).replace(/\p{Surrogate}$/u, "");
}

function formatCount(count: number, unit: string) {
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** The numbers as `10`, or `8 to 10` where they differ. */
function formatSpan(numbers: number[]) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return low === high ? `${low}` : `${low} to ${high}`;
}

function formatDuration(ms: number) {
  if (ms >= 2 * DAY_MS) return formatCount(Math.round(ms / DAY_MS), "day");
  if (ms >= 2 * HOUR_MS) return formatCount(Math.round(ms / HOUR_MS), "hour");
  return formatCount(Math.max(0, Math.round(ms / 60_000)), "minute"); // whatever the clocks of two machines say
}

/** What mrkdwn shows, for where there is no Slack: links with their addresses, unless these end with the label. */
export function toPlainText(mrkdwn: string): string {
  return mrkdwn
    .replace(/<([^|<>]+)\|([^<>]+)>/g, (_, url, label) => (url.endsWith(`/${label}`) ? url : `${label} (${url})`))
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
}

/** The items by key, in the order in which the keys come first; each group has at least one. */
function groupBy<T, K>(items: T[], keyOf: (item: T) => K): Map<K, [T, ...T[]]> {
  const groups = new Map<K, [T, ...T[]]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return groups;
}

// --- Routing: pure; who owns a job, and which channels are told of it.

type Target = { channel: string; mentions: string[] };
/** The rules of the owners file, of which the last that matches counts, and where each owner reads, in lower case. */
export type Owners = { rules: { pattern: RegExp; owners: string[] }[]; channels: Map<string, Target> };

/** What a channel is told (null is the broadcast channel), and who is mentioned there. */
export type Route = { channel: string | null; news: News[]; mentions: string[] };

/**
 * Finds who is told of what: the broadcast channel of everything, each owner's channel of its own jobs. Where `broadcast`
 * is null there are no channels, and all is one message. An owner without a channel is a warning: everything is in the
 * broadcast channel anyway.
 */
export function routeNews(news: News[], owners: Owners, broadcast: string | null) {
  const warnings = new Set<string>();
  const ownNews = broadcast === null ? [] : news;
  const targets = ownNews.flatMap((item) => {
    const rule = owners.rules.findLast(({ pattern }) => pattern.test(item.name));
    return (rule?.owners ?? []).flatMap((owner) => {
      const known = owners.channels.get(owner.toLowerCase());
      const target = owner.startsWith("#") ? { channel: owner, mentions: [] } : known;
      if (!target) warnings.add(`${owner} has no channel: add it to OWNER_CHANNELS_FILE`);
      return target ? { ...target, item } : [];
    });
  });
  const everything = news.map((item) => ({ channel: broadcast, mentions: [], item }));
  const routes = [...groupBy([...everything, ...targets], ({ channel }) => bareName(channel)).values()].map((group) => {
    const alerts = group.filter(({ item }) => item.kind === "consecutive" || item.kind === "cumulative");
    const [{ channel }] = group;
    return {
      channel: channel === broadcast ? null : channel,
      news: [...new Set(group.map(({ item }) => item))],
      mentions: [...new Set(alerts.flatMap(({ mentions }) => mentions))],
    };
  });
  return { routes, warnings: [...warnings] };
}

/** Channels are the same however they are spelt. */
function bareName(channel: string | null) {
  return channel?.replace(/^#/, "").toLowerCase();
}

/**
 * Parses lines of a pattern and its owners, each a `#channel` or an `@owner`; a line that begins with `#` is a comment.
 * Throws an error that names `source` and the line.
 */
export function parseOwners(text: string, source: string): Owners["rules"] {
  return text.split(/\r?\n/).flatMap((line, index) => {
    if (/^\s*(#|$)/.test(line)) return [];
    const [pattern = "", ...owners] = splitWords(line);
    const fail = (problem: string, todo: string) => failure(`${source}:${index + 1}: ${problem}`, todo);
    if (endsInBackslash(line)) throw fail("a backslash ends the line", "give it the character that it is to escape");
    if (owners.length === 0) throw fail(`${pattern} has no owner`, "add one, e.g. @acme/ci or #ci-alerts");
    const wrong = owners.find((owner) => !/^[@#]./.test(owner));
    if (wrong) throw fail(`${wrong} is not an owner`, "begin owners with @ or #, and give a comment a line of its own");
    return { pattern: toRegExp(pattern), owners: [...new Set(owners)] };
  });
}

/** Parses an owner's channel and whom to mention there: `#team-ci <!subteam^S0123ABCD>`. */
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

/** Reads the files of owners and their channels. Throws where one can't be read, or names the line that is wrong. */
export async function readOwners({ JOB_OWNERS_FILE: owners, OWNER_CHANNELS_FILE: channels }: Routing): Promise<Owners> {
  const context = { source: `${channels}`, todo: "mend OWNER_CHANNELS_FILE" };
  const known = channels ? parseJson(mapOf(ChannelOfOwner), await readTextFile(channels), context) : [];
  return {
    rules: owners ? parseOwners(await readTextFile(owners), owners) : [],
    channels: new Map([...known].map(([owner, target]) => [owner.toLowerCase(), target])),
  };
}

/** The words of a text; a backslash takes the character behind it as it is, also a space. */
function splitWords(text: string): string[] {
  return text.match(/(\\.|[^\s\\])+/gsu) ?? [];
}

function endsInBackslash(text: string) {
  return /(^|[^\\])(\\\\)*\\\s*$/.test(text);
}

/** A pattern of the whole name: `*` is any text, `?` any character, and what follows `\` is taken as it is. */
function toRegExp(pattern: string): RegExp {
  const source = pattern.replace(/\\(.)|\*+|./gsu, (token, escaped: string = token) => {
    if (token.startsWith("*")) return "\0";
    return token === "?" ? "." : escaped.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&");
  });
  // A * before another one ends at the first match of what is between them, as many would else take for ever.
  const stars = source.replace(/\0([^\0]*)(?=\0)/g, "((?!$1).)*$1").replace("\0", ".*");
  return new RegExp(`^${stars}$`, "su");
}

function matchesAny(patterns: RegExp[], text: string) {
  return patterns.some((pattern) => pattern.test(text));
}

// --- Delivery: messages are recorded in the document, sent, and then cleared, or handed on to the next run.

const DUE_MS = 300_000; // a run that recorded a message is over long before another may send it
const MAX_WAITING = 10; // of one channel, in one run: a token that was dead for long is no flood
const SETTLE_TIMEOUT_MS = 20_000; // on top of the run's: what became of the messages must still be stored

/** A message and what became of it; `due` is when the next run may send one that was not delivered. */
export type Delivery = PendingAlert & { delivered: boolean; dropped?: boolean; error?: string };

/** Records the texts of this run in the document, and takes over what is due of earlier runs. */
function recordMessages(
  document: JobExecutions,
  texts: Pick<PendingAlert, "channel" | "text">[],
  { sender, now }: Pick<Edges, "sender" | "now">,
) {
  const due = document.pending_alerts.filter((alert) => Date.parse(alert.due) <= now.getTime());
  // Without channels, everything was said in one place: an owner's copy is dropped.
  const dropped = due.filter(({ channel }) => channel !== null && sender.broadcast === null);
  const sendable = due.filter((alert) => !dropped.includes(alert));
  const waiting = [...groupBy(sendable, ({ channel }) => channel).values()].flatMap((all) => all.slice(0, MAX_WAITING));
  const left = document.pending_alerts.filter((alert) => !dropped.includes(alert) && !waiting.includes(alert));
  const dueNext = new Date(now.getTime() + DUE_MS).toISOString();
  const messages = [...waiting, ...texts].map((message) => ({ ...message, id: randomUUID(), due: dueNext }));
  const isSame = messages.length === 0 && dropped.length === 0;
  return { document: isSame ? document : { ...document, pending_alerts: [...left, ...messages] }, messages };
}

/** Sends messages, to each channel in their order. A failure is noted in the delivery and stops no other. */
export async function sendNotification(
  messages: PendingAlert[],
  edges: Pick<Edges, "sender" | "now" | "signal">,
): Promise<Delivery[]> {
  const channels = [...groupBy(messages, ({ channel }) => channel).values()];
  const sent = await Promise.all(channels.map((queue) => sendInOrder(queue, edges)));
  return sent.flat();
}

async function sendInOrder(queue: PendingAlert[], { sender, now, signal }: Pick<Edges, "sender" | "now" | "signal">) {
  const deliveries: Delivery[] = [];
  let pause: Partial<Delivery> | undefined; // what Slack asked for: until then, nothing is tried in this channel
  for (const message of queue) {
    if (pause) {
      deliveries.push({ ...message, ...pause, delivered: false });
      continue;
    }
    try {
      await sender.send(message.text, message.channel, signal);
      deliveries.push({ ...message, delivered: true });
    } catch (error) {
      const { message: reason, retryAt, isOfChannel } = error as Failure;
      const isOwners = message.channel !== null && bareName(message.channel) !== bareName(sender.broadcast);
      const due = (retryAt ?? now).toISOString();
      deliveries.push({ ...message, delivered: false, dropped: Boolean(isOfChannel && isOwners), due, error: reason });
      if (retryAt) pause = { due, error: reason };
    }
  }
  return deliveries;
}

/** Takes what was delivered or dropped out of the document, and hands on the rest; resolves to what kept it from that. */
async function settleMessages(deliveries: Delivery[], { store, pause }: Edges): Promise<string[]> {
  if (deliveries.length === 0) return [];
  const settled = new Map(deliveries.map((delivery) => [delivery.id, delivery]));
  const edges = { store, pause, signal: AbortSignal.timeout(SETTLE_TIMEOUT_MS) };
  try {
    await changeDocument(edges, async (stored) => {
      const pending = stored?.pending_alerts ?? [];
      if (!stored || !pending.some(({ id }) => settled.has(id))) return { document: stored, messages: [] };
      const pending_alerts = pending.flatMap((alert) => {
        const { delivered, dropped, due } = settled.get(alert.id) ?? { due: alert.due };
        return delivered || dropped ? [] : { ...alert, due };
      });
      return { document: { ...stored, pending_alerts }, messages: [] };
    });
    return [];
  } catch (error) {
    return [`What became of the messages is not stored, so some may be sent again: ${(error as Error).message}`];
  }
}

function describeFailures(deliveries: Delivery[], { broadcast }: Sender): string[] {
  const dropped = deliveries.filter((delivery) => delivery.dropped);
  const waiting = deliveries.filter((delivery) => !delivery.delivered && !delivery.dropped);
  const errors = [...groupBy(dropped, ({ channel }) => channel).values()].map(
    ([{ channel, error }]) => `${channel} refused what ${broadcast} has as well, so it is dropped: ${error}`,
  );
  if (waiting.length > 0) {
    const reasons = waiting.map(({ channel, error }) => [channel ?? broadcast, error].filter(Boolean).join(": "));
    const due = waiting
      .map((delivery) => delivery.due)
      .sort()
      .at(-1);
    const count = `${waiting.length} of ${deliveries.length} messages`;
    errors.push(
      `${count} not delivered; the next run from ${due} on, or a retry of this job, sends them: ${[...new Set(reasons)].join("; ")}`,
    );
  }
  return errors;
}

// --- Store: an object in S3, or a local file. AWS's credentials are found by the SDK, and stay in it.

/**
 * Where the document is stored. `read` resolves to undefined where there is none; `write` stores a body in place of the
 * `version` that was read (undefined: none), and resolves to false where another one is stored by now.
 */
export type Store = {
  source: string;
  read: (signal: AbortSignal) => Promise<{ text: string; version: string } | undefined>;
  write: (body: Buffer, version: string | undefined, signal: AbortSignal) => Promise<boolean>;
};

const ACCESS_POINT = /^s3:\/\/(arn:[^/]+:accesspoint[:/][^/]+)\/(.+)$/is; // its name has a slash or a colon in it
const NO_ETAG = "an answer without an ETag, as a proxy would give it";
const BUCKET = /^s3:\/\/([^/]+)\/(.+)$/is;

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
  return {
    source,
    async read(abortSignal) {
      try {
        const { Body, ETag } = await client.send(new GetObjectCommand(object), { abortSignal });
        if (!ETag || !Body) throw new Error(NO_ETAG);
        const decoder = new TextDecoder("utf-8", { fatal: true });
        let text = ""; // piece by piece, as the bytes of 56 MB would else be in memory twice
        for await (const bytes of Body as AsyncIterable<Uint8Array>) text += decoder.decode(bytes, { stream: true });
        return { text: text + decoder.decode(), version: ETag };
      } catch (error) {
        // By its name, as there may be two copies of the SDK.
        if ((error as Error).name === "NoSuchKey") return undefined;
        throw explainS3(error, { action: "read", source, isTimeUp: abortSignal.aborted, network });
      }
    },
    async write(Body, version, abortSignal) {
      const command = new PutObjectCommand({
        ...object,
        ...checksumOf(Body),
        Body,
        ContentType: "application/json",
        ServerSideEncryption: access.S3_SSE === "none" ? undefined : access.S3_SSE,
        IfMatch: isConditional ? version : undefined,
        IfNoneMatch: isConditional && version === undefined ? "*" : undefined,
      });
      try {
        const { ETag } = await client.send(command, { abortSignal });
        if (!ETag) throw new Error(NO_ETAG);
        return true;
      } catch (error) {
        const { name, $metadata } = error as S3ServiceException;
        const isOtherVersion = [409, 412].includes($metadata?.httpStatusCode ?? 0) || name === "NoSuchKey";
        if (isConditional && isOtherVersion) return false;
        throw explainS3(error, { action: "upload", source, isTimeUp: abortSignal.aborted, network });
      }
    },
  };
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

/** Buckets with object lock want a checksum, and of these, old stores know only MD5, which FIPS mode forbids. */
function checksumOf(body: Buffer): { ContentMD5: string } | { ChecksumSHA256: string } {
  try {
    return { ContentMD5: createHash("md5").update(body).digest("base64") };
  } catch {
    return { ChecksumSHA256: createHash("sha256").update(body).digest("base64") };
  }
}

type Asked = { action: "read" | "upload"; source: string; isTimeUp: boolean; network: Network };

function explainS3(error: unknown, { action, source, isTimeUp, network }: Asked) {
  const { name, message, $metadata: { httpStatusCode: status } = {} } = error as S3ServiceException;
  const [reason] = isTimeUp ? ["no complete answer in time"] : message.split(/\.?\n/);
  const answer = status ? `S3 answered ${status} ${name}: ${reason}` : `S3: ${reason}`;
  const what = action === "read" ? "Cannot read job executions from" : "Cannot upload job executions to";
  const todo = adviceOnTrust(error, network) ?? adviceOnS3(`${name} ${reason}`, status, action);
  return failure(`${what} ${source}: ${answer}`, todo, { cause: error });
}

/** What to do, by the name of S3's error and its message, by the status, and by what was asked. */
function adviceOnS3(said: string, status: number | undefined, action: Asked["action"]) {
  if (/NoSuchBucket/.test(said)) return "check JOB_EXECUTIONS_URL";
  if (/InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|[Cc]redentials/.test(said)) {
    return "check the AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role";
  }
  if (/Region is missing|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation/.test(said)) {
    return "set AWS_REGION to the region of the bucket";
  }
  if (/RequestTimeTooSkewed/.test(said)) return "set the clock of this machine";
  if (/encoded data was not valid/.test(said)) return "the document is not UTF-8: restore an earlier version of it";
  if (status === 403) {
    const rights = "allow s3:GetObject, s3:PutObject and s3:ListBucket (without it, a missing object is a 403)";
    return action === "read"
      ? rights
      : `${rights}; if the bucket demands KMS, set S3_SSE=aws:kms (or none: its default)`;
  }
  if (action === "upload" && (status === 400 || status === 501)) {
    return "if the store lacks If-Match, set S3_CONDITIONAL_WRITES=off; if it lacks encryption, set S3_SSE=none";
  }
  if (status === 429 || (status ?? 0) >= 500) return "try again later";
  return "check AWS_ENDPOINT_URL_S3, the network, and whether a proxy answered instead";
}

/** For one run at a time: it has no version. */
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
        throw failure(`Cannot upload job executions to ${path}: ${(error as Error).message}`, todo, { cause: error });
      }
    },
  };
}

// --- Jobs: how each job of the pipeline did, from GitLab, or from a file as GitLab or GitHub list them.

/** A job by its latest attempt. `stage` and `reason` say where and why it failed, `url` is its page. */
export type PipelineJob = {
  id: number;
  name: string;
  outcome: "failed" | "passed" | "not run";
  stage?: string | null | undefined;
  reason?: string | null | undefined;
  url?: string | null | undefined;
};

/** The jobs of the pipeline that failed, or those that passed; one entry a name. */
export type Jobs = (scope: "failed" | "passed") => Promise<PipelineJob[]>;

const Id = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const Name = v.pipe(v.string(), v.nonEmpty());
// These are for the looks of a message, which does as well without them.
const Page = v.fallback(v.nullish(httpUrl("")), undefined);
const Detail = v.fallback(v.nullish(v.string()), undefined);

const GitLabJob = v.object({
  id: Id,
  name: Name,
  status: v.string(),
  allow_failure: v.optional(v.boolean(), false),
  stage: Detail,
  failure_reason: Detail,
  web_url: Page,
});

/** A trigger job, with the pipeline that it made, if it could. */
const GitLabBridge = v.object({
  ...GitLabJob.entries,
  pipeline: v.nullish(v.object({ project_id: Id })),
  downstream_pipeline: v.nullish(v.object({ id: Id, project_id: Id, status: v.string() })),
});

const GitHubJob = v.object({
  id: Id,
  name: Name,
  run_attempt: v.nullish(v.number()),
  status: v.string(),
  conclusion: v.nullish(v.string()),
  html_url: Page,
  steps: v.nullish(v.array(v.object({ name: v.string(), conclusion: v.nullish(v.string()) }))),
});

/** Either of both CIs' lists: GitHub's is one of pages, or a page alone. */
const Listing = v.lazy((json) => {
  const isPage = (item: unknown) => isPlainObject(item) && "jobs" in item;
  return [json].flat().some(isPage) ? GitHubListing : GitLabListing;
});
const GitLabListing = v.pipe(v.array(GitLabJob), v.mapItems(fromGitLab));
const GitHubListing = v.pipe(
  v.unknown(),
  v.transform((json) => [json].flat()),
  v.array(v.object({ jobs: v.array(GitHubJob) })),
  v.transform((pages) => pages.flatMap(({ jobs }) => jobs.map(fromGitHub))),
);

type Source = { pipelineId: number; network: Network; signal: AbortSignal; warn: (warning: string) => void };

/** Where the jobs of a pipeline come from. Each scope is asked for once, however often it is needed. */
export function openJobs(access: JobsAccess, source: Source): Jobs {
  const { PIPELINE_JOBS_FILE: file } = access;
  const list = file ? fileJobs(file) : gitLabJobs(access, source);
  const asked = { failed: once(() => list("failed")), passed: once(() => list("passed")) };
  return (scope) => asked[scope]();
}

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function fileJobs(file: string): Jobs {
  // It may be a pipe, of which a second reading finds nothing.
  const jobs = once(async () => {
    const todo = "write into it what GitLab's or GitHub's API lists as the jobs of a pipeline, as it is neither";
    const text = await readTextFile(file);
    return latestAttempts(parseJson(Listing, text, { source: `The list of jobs in ${file}`, todo }));
  });
  return async (scope) => (await jobs()).filter((job) => job.outcome === scope);
}

function fromGitLab(job: v.InferOutput<typeof GitLabJob>): Attempt {
  const { id, name, status, allow_failure, stage, failure_reason: reason, web_url: url } = job;
  const outcome = status === "success" ? "passed" : status === "failed" && !allow_failure ? "failed" : "not run";
  return { id, name, outcome, stage, reason, url };
}

function fromGitHub(job: v.InferOutput<typeof GitHubJob>): Attempt {
  const { id, name, status, conclusion, run_attempt: attempt, steps, html_url: url } = job;
  const ended = status === "completed" ? conclusion : undefined;
  const hasFailed = ended === "failure" || ended === "timed_out";
  const outcome = hasFailed ? "failed" : ended === "success" ? "passed" : "not run";
  const step = steps?.find((step) => step.conclusion === "failure")?.name;
  return { id, name, outcome, attempt, reason: conclusion === "timed_out" ? conclusion : step, url };
}

type Attempt = PipelineJob & { attempt?: number | null | undefined };

/** One job a name: the latest attempt, which has the highest id. Of several in that attempt, one that failed. */
function latestAttempts<T extends Attempt>(jobs: T[]): T[] {
  const newestFirst = jobs.toSorted((a, b) => b.id - a.id);
  return [...groupBy(newestFirst, ({ name }) => name).values()].map(([latest, ...earlier]) => {
    const { attempt } = latest; // only GitHub numbers them; elsewhere each job is one
    const same = [latest, ...(attempt ? earlier.filter((job) => job.attempt === attempt) : [])];
    const find = (outcome: string) => same.find((job) => job.outcome === outcome);
    return find("failed") ?? find("passed") ?? latest;
  });
}

const PER_PAGE = 100; // the most that GitLab gives
const MAX_DEPTH = 2; // of child pipelines, as in GitLab
const STARTED = ["success", "failed", "running"];
const FINISHED = ["success", "failed", "canceled", "skipped"];

type Bridge = v.InferOutput<typeof GitLabBridge>;

/** Asks GitLab for the jobs of a pipeline, and for those of the child pipelines that its trigger jobs made. */
function gitLabJobs(access: JobsAccess, { pipelineId, warn, ...connection }: Source): Jobs {
  const list = <T extends v.GenericSchema>(path: string, schema: T) => listPages({ access, connection, path, schema });

  /** The trigger jobs of a pipeline, and the jobs below them. */
  async function listBelow(id: number, depth: number): Promise<PipelineJob[]> {
    const bridges = await list(`pipelines/${id}/bridges?`, GitLabBridge).catch((error: Failure) => {
      if (![401, 403, 404].includes(error.status ?? 0)) throw error;
      warn(`Trigger jobs and child pipelines are not counted: ${error.message}`);
      return [];
    });
    const latest = latestAttempts(bridges.map((bridge) => ({ ...fromGitLab(bridge), bridge })));
    return (await Promise.all(latest.map((job) => followBridge(job, depth)))).flat();
  }

  async function followBridge({ bridge, ...own }: PipelineJob & { bridge: Bridge }, depth: number) {
    const child = bridge.downstream_pipeline;
    const projects = [bridge.pipeline?.project_id, access.CI_PROJECT_ID]; // the latter may be a path
    if (!child || !projects.some((id) => `${id}` === `${child.project_id}`)) return [own];
    if (!FINISHED.includes(child.status)) {
      warn(`The child pipeline of ${own.name} is not finished, so not all of it counts: set strategy: depend there`);
    }
    const [jobs, below] = await Promise.all([
      list(`pipelines/${child.id}/jobs?`, GitLabJob),
      depth < MAX_DEPTH ? listBelow(child.id, depth + 1) : [],
    ]);
    const inside = [...latestAttempts(jobs.map(fromGitLab)), ...below].map((job): PipelineJob => {
      const isAllowed = bridge.allow_failure && job.outcome === "failed";
      return { ...job, name: `${own.name} / ${job.name}`, outcome: isAllowed ? "not run" : job.outcome };
    });
    // The trigger job itself is at fault only where no job came of it, as from wrong YAML.
    const hasRun = jobs.some((job) => STARTED.includes(job.status)) || below.some((job) => job.outcome !== "not run");
    return [{ ...own, outcome: hasRun ? ("passed" as const) : own.outcome }, ...inside];
  }

  const below = once(() => listBelow(pipelineId, 1));
  return async (scope) => {
    const status = scope === "failed" ? "failed" : "success";
    const [jobs, others] = await Promise.all([
      list(`pipelines/${pipelineId}/jobs?scope[]=${status}&`, GitLabJob),
      below(),
    ]);
    return latestAttempts([...jobs.map(fromGitLab), ...others]).filter((job) => job.outcome === scope);
  };
}

type Listing<T> = { path: string; schema: T; access: JobsAccess; connection: Omit<Source, "pipelineId" | "warn"> };

/** All pages of a list: at once where GitLab says how many there are, else one after another while they are full. */
async function listPages<T extends v.GenericSchema>({ path, schema, access, connection }: Listing<T>) {
  const { CI_API_V4_URL, CI_PROJECT_ID = "", GITLAB_TOKEN, CI_JOB_TOKEN } = access;
  const headers = GITLAB_TOKEN ? { "private-token": GITLAB_TOKEN } : { "job-token": CI_JOB_TOKEN };
  const project = `${CI_API_V4_URL}/projects/${encodeURIComponent(CI_PROJECT_ID)}`;
  const peer = `GitLab at ${new URL(project).host}, asked for ${path.replace(/\?.*/, "")} of project ${CI_PROJECT_ID},`;
  const todo = (status: number) =>
    status === 401 || status === 403
      ? "set GITLAB_TOKEN to one with read_api (CI_JOB_TOKEN may do for jobs from GitLab 18 on)"
      : "check CI_API_V4_URL, CI_PROJECT_ID, CI_PIPELINE_ID, and what GITLAB_TOKEN can see";
  const readPage = async (page: number) => {
    const url = `${project}/${path}per_page=${PER_PAGE}&page=${page}`;
    const { body, headers: answered } = await request(peer, url, { headers, todo, ...connection });
    const advice = "check CI_API_V4_URL, and whether a proxy answered instead";
    const items = parseJson(v.array(schema), body, { source: `The answer of ${peer}`, todo: advice });
    const next = answered["x-next-page"] ?? (/rel="?next/.test(`${answered.link}`) || items.length === PER_PAGE);
    return { items, hasNext: Boolean(next), total: Number(answered["x-total-pages"] ?? 0) };
  };
  const first = await readPage(1);
  const rest = Array.from({ length: Math.max(first.total - 1, 0) }, (_, i) => readPage(i + 2));
  const pages = [first, ...(await Promise.all(rest))];
  while (first.total === 0 && pages.at(-1)?.hasNext) pages.push(await readPage(pages.length + 1));
  return pages.flatMap(({ items }) => items);
}

// --- Slack: its API, a webhook, or stdout where there is neither.

/**
 * How messages are delivered. `broadcast` is the channel that gets everything, null where there are no channels; a
 * message for `null` goes there. `send` throws where a message was not delivered.
 */
export type Sender = {
  name: string;
  broadcast: string | null;
  send: (text: string, channel: string | null, signal: AbortSignal) => Promise<void>;
};

const LOG = "this log";

/** The sender that the environment names; `print` is for where it names none, and throws where it can't. */
export function openSender(access: SlackAccess, network: Network, print: (text: string) => Promise<void>): Sender {
  const { SLACK_WEBHOOK_URL, SLACK_API_TOKEN } = access;
  if (SLACK_WEBHOOK_URL) return webhookSender(SLACK_WEBHOOK_URL, network);
  if (SLACK_API_TOKEN) return slackSender(access, network);
  return { name: LOG, broadcast: null, send: (text) => print(`${toPlainText(text)}\n`) };
}

/** What to do about the errors of `chat.postMessage`. */
const SLACK_ADVICE: [error: RegExp, todo: string][] = [
  [/_auth$|^not_authed$|^token_|^account_inactive$/, "set SLACK_API_TOKEN to a valid bot token (xoxb-...)"],
  [/^missing_scope$/, "give the bot the scope chat:write"],
  [/^channel_not_found$/, "check the channel's name, and invite the bot if it is private"],
  [/^not_in_channel$/, "invite the bot to the channel"],
  [/^is_archived$/, "unarchive the channel, or name another one"],
  [/^restricted_action/, "let the bot post in this channel, or name another one"],
];
const REFUSED_BY_CHANNEL = /^(channel_not_found|not_in_channel|is_archived|restricted_action\w*)$/;

function slackSender({ SLACK_API_TOKEN, SLACK_API_URL, SLACK_CHANNEL = "" }: SlackAccess, network: Network): Sender {
  const peer = `Slack at ${new URL(SLACK_API_URL).host}`;
  const todo = "check SLACK_API_URL, and whether a proxy answered instead";
  const headers = { authorization: `Bearer ${SLACK_API_TOKEN}` };
  const isBusy = (body: string) => /"error":\s*"rate_?limited"/.test(body); // also with status 200
  const Answer = v.object({ ok: v.boolean(), error: v.optional(v.string(), "no reason") });
  return {
    name: `${SLACK_CHANNEL} on Slack`,
    broadcast: SLACK_CHANNEL,
    async send(text, channel, signal) {
      const json = { channel: channel ?? SLACK_CHANNEL, text, unfurl_links: false, unfurl_media: false };
      const url = `${SLACK_API_URL}/chat.postMessage`;
      const { body } = await request(peer, url, { headers, json, isBusy, todo: () => todo, network, signal });
      const { ok, error } = parseJson(Answer, body, { source: `The answer of ${peer}`, todo });
      if (ok) return;
      const known = SLACK_ADVICE.find(([pattern]) => pattern.test(error))?.[1];
      const advice = known ?? "see what Slack says of this error of chat.postMessage";
      throw failure(`${peer} answered ${error}`, advice, { isOfChannel: REFUSED_BY_CHANNEL.test(error) });
    },
  };
}

function webhookSender(url: string, network: Network): Sender {
  const peer = "Slack's webhook";
  const todo = "check SLACK_WEBHOOK_URL";
  const no = v.literal(false);
  const Refusal = v.pipe(v.string(), v.parseJson(), v.union([v.object({ ok: no }), v.object({ success: no })]));
  return {
    name: "a webhook",
    broadcast: null,
    async send(text, _channel, signal) {
      const { body } = await request(peer, url, { headers: {}, json: { text }, todo: () => todo, network, signal });
      if (body.trim().startsWith("<")) throw failure(`${peer} answered with a page`, todo);
      if (v.is(Refusal, body)) throw failure(`${peer} did not take the message`, todo);
    },
  };
}

// --- Requests: the one function that speaks HTTP to GitLab and Slack, how answers are read, and errors for people.

const REQUEST_TIMEOUT_MS = 20_000; // for which a peer may say nothing
const MAX_RETRY_AFTER_MS = 30_000; // a run does not wait for longer
const MAX_ATTEMPTS = 3; // of one request

/** `json` is posted, if there is any. `todo` is what to do where it is refused; `isBusy` tells that from a body. */
type Request = {
  headers: Record<string, string | undefined>;
  json?: object;
  isBusy?: (body: string) => boolean;
  todo: (status: number) => string;
  network: Network;
  signal: AbortSignal;
};

/**
 * One HTTP request, tried again where the network, the peer's load or an error of its own failed it. Throws an error
 * that names the peer, and never the URL, which may be a secret.
 */
async function request(peer: string, url: string, what: Request) {
  const { isBusy, todo, network, signal } = what;
  let problem = `${peer} did not answer`;
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    let waitMs = 500 * 2 ** attempt * Math.random();
    const answer = await exchange(url, what).catch((error: NodeJS.ErrnoException) => {
      const advice = adviceOnTrust(error, network);
      if (advice) throw failure(`${peer} is not trusted: ${error.message}`, advice, { cause: error });
      if (!signal.aborted) problem = `${peer} is unreachable: ${error.message || error.code}`;
    });
    if (answer) {
      const { status, headers, body } = answer;
      const [word = ""] = /^\w{1,40}$/.exec(body.trim()) ?? []; // a reason: more may repeat a secret
      problem = `${peer} answered ${status} ${word}`.trimEnd();
      const isRetried = status === 429 || status >= 500 || isBusy?.(body);
      if (!isRetried && status >= 200 && status < 300) return answer;
      if (!isRetried) throw failure(problem, todo(status), { status });
      const askedMs = Number(headers["retry-after"]) * 1_000 || 0;
      if (askedMs > MAX_RETRY_AFTER_MS) {
        const retryAt = new Date(Date.now() + askedMs);
        throw failure(`${problem} and asks to wait for ${askedMs / 1_000} s`, "try again then", { status, retryAt });
      }
      waitMs = askedMs || waitMs;
    }
    if (attempt < MAX_ATTEMPTS) await sleep(waitMs, undefined, { signal }).catch(() => {}); // aborted: told below
    if (signal.aborted) throw failure(problem, "the time of this run is up: try again later");
  }
  throw failure(`${problem}, ${MAX_ATTEMPTS} times`, "try again later, or check its address and the network");
}

/**
 * Not by fetch, which follows redirects with the token in its headers, and which under Deno sends a POST again by itself
 * when a reused connection is reset: here, each has its own.
 */
function exchange(url: string, { headers, json, network, signal }: Request) {
  type Answer = { status: number; headers: NodeJS.Dict<string | string[]>; body: string };
  const isHttps = url.startsWith("https:");
  const { httpAgent, httpsAgent } = agentsFor(network);
  return new Promise<Answer>((resolve, reject) => {
    const options = {
      method: json ? "POST" : "GET",
      headers,
      signal,
      agent: isHttps ? httpsAgent : httpAgent,
      timeout: REQUEST_TIMEOUT_MS,
    };
    const sent = (isHttps ? https : http).request(url, options, async (response) => {
      const { statusCode: status = 0, headers } = response;
      response
        .setEncoding("utf8")
        .toArray()
        .then((texts) => resolve({ status, headers, body: texts.join("") }), reject);
    });
    if (json) sent.setHeader("content-type", "application/json; charset=utf-8");
    sent.on("timeout", () => sent.destroy(new Error("no answer in time")));
    sent.on("error", reject).end(json && JSON.stringify(json));
  });
}

/** New connections for each request, through the proxy that the environment names. Node 20 ignores `proxyEnv`. */
function agentsFor(network: Network) {
  const withScheme = (proxy: string | undefined) => (!proxy || /^\w+:\/\//.test(proxy) ? proxy : `http://${proxy}`);
  const direct = (network.no_proxy ?? network.NO_PROXY ?? "").split(/[\s,]+/).filter(Boolean);
  const proxyEnv = {
    HTTPS_PROXY: withScheme(network.https_proxy ?? network.HTTPS_PROXY),
    HTTP_PROXY: withScheme(network.http_proxy ?? network.HTTP_PROXY),
    // Runtimes differ in whether a name covers its subdomains: with both spellings, it does in all.
    NO_PROXY: direct
      .map((name) => name.replace(/^\*?\./, ""))
      .flatMap((name) => [name, `.${name}`])
      .join(),
  };
  // On a reused connection, Deno sends a PUT again by itself, which the SDK does not count.
  const options = { keepAlive: false, proxyEnv };
  return { httpAgent: new http.Agent(options), httpsAgent: new https.Agent(options) };
}

/** What to do about a certificate that is not trusted, which trying again does not help; undefined for other errors. */
function adviceOnTrust(error: unknown, { CI_SERVER_TLS_CA_FILE }: Network): string | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  if (!/certificate|_CERT|CERT_/i.test(`${code} ${message}`)) return undefined;
  const ofGitLab = CI_SERVER_TLS_CA_FILE ? ", for GitLab's own to $CI_SERVER_TLS_CA_FILE" : "";
  return `set NODE_EXTRA_CA_CERTS (with Deno, DENO_CERT) to the file of its certificate authority${ofGitLab}`;
}

type Failure = Error & Details;
/** What the handler of an error needs to know, beside what people do: see where each is set. */
type Details = { cause?: unknown; status?: number; retryAt?: Date; isOfChannel?: boolean; exitCode?: number };

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

async function readTextFile(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    throw failure(`Cannot read ${path}: ${(error as Error).message}`, "check its name and its content", {
      cause: error,
    });
  }
}

// --- Settings: each variable, what it must look like, its default and its description, in the part that needs it.

type Variables = Record<string, string | undefined>;

const Pipeline = v.object({
  CI_PIPELINE_ID: setting("the pipeline that is counted", integer("1005"), ""),
  CI_COMMIT_SHA: setting(
    "the pipeline's commit",
    matching(/^[0-9a-f]{7,64}$/i, "7 to 64 hex digits, e.g. 0ddba11"),
    "",
  ),
  CI_COMMIT_BRANCH: setting("the pipeline's branch", v.string()),
  CI_COMMIT_TITLE: setting("the title of the commit, or its whole message", v.string()),
  CI_COMMIT_DESCRIPTION: setting("the rest of the commit's message", v.string()),
  CI_COMMIT_AUTHOR: setting(
    "the author of the commit; an address is left out",
    v.pipe(v.string(), v.transform(withoutAddress)),
  ),
  CI_PROJECT_PATH: setting("the project's name, for messages", v.string()),
  CI_PROJECT_URL: setting("the project's page, for links", httpUrl("https://gitlab.example.com/acme/shop")),
  CI_PIPELINE_URL: setting("the pipeline's page", httpUrl("https://gitlab.example.com/acme/shop/-/pipelines/1005")),
  GITHUB_ACTIONS: setting("`true`: links are GitHub's, and the log has colour", v.string()),
});
/** The pipeline that is counted. */
export type Pipeline = v.InferOutput<typeof Pipeline>;

const Limits = v.object({
  CONSECUTIVE_THRESHOLD: setting("failures in a row that raise an alert", integer("3"), "3"),
  CUMULATIVE_THRESHOLD: setting("failures in the last executions that raise an alert", integer("5"), "5"),
  CUMULATIVE_LENGTH: setting("how many executions are the last ones", integer("10"), "10"),
  RECOVERY_THRESHOLD: setting("passes in a row that close an alert", integer("3"), "3"),
  NOT_RUN_JOBS: setting("a job that did not run keeps its history; `pass`: it passed", oneOf(["keep", "pass"]), "keep"),
  EXPIRE_AFTER_DAYS: setting("a job that has not run for so long is forgotten", integer("30"), "30"),
  IGNORE_JOBS: setting("patterns of jobs that are not counted, e.g. `deploy:* manual\\ tests`", patterns(), ""),
  IGNORE_FAILURES: setting(
    "patterns of reasons: a job that failed so is not counted, e.g. `runner_system_failure`",
    patterns(),
    "",
  ),
});
export type Limits = v.InferOutput<typeof Limits>;

const StoreAccess = v.object({
  JOB_EXECUTIONS_URL: setting(
    "where the document is stored: s3://bucket/key or a path; required where `CI` is set",
    matching(/^(s3:\/\/[^/]+\/.+|(?!s3:|file:|\S*:\/\/).+)$/i, "s3://bucket/key or a path, e.g. s3://ci/jobs.json"),
    "job_executions.v2.json",
  ),
  S3_SSE: setting(
    "the encryption of the upload; `none` leaves it to the bucket",
    oneOf(["AES256", "aws:kms", "aws:kms:dsse", "none"]),
    "AES256",
  ),
  S3_CONDITIONAL_WRITES: setting(
    "`off` for stores without `If-Match`: races then lose counts",
    oneOf(["on", "off"]),
    "on",
  ),
  AWS_REGION: setting("the bucket's region; `AWS_PROFILE`, keys and all else as the AWS SDK has them", v.string()),
  AWS_DEFAULT_REGION: setting("the bucket's region where `AWS_REGION` is not set", v.string()),
  AWS_ENDPOINT_URL_S3: setting("an S3 that is not AWS's, addressed path-style", httpUrl("https://s3.example.com")),
  AWS_ENDPOINT_URL: setting(
    "an endpoint for all of the AWS SDK, if that for S3 is not set",
    httpUrl("https://s3.example.com"),
  ),
});
export type StoreAccess = v.InferOutput<typeof StoreAccess>;

const JobsAccess = v.object({
  PIPELINE_JOBS_FILE: setting(
    "a file of the pipeline's jobs as GitLab or GitHub list them, instead of GitLab",
    v.string(),
  ),
  CI_API_V4_URL: setting(
    "GitLab's API; required without `PIPELINE_JOBS_FILE`",
    httpUrl("https://gitlab.example.com/api/v4"),
  ),
  CI_PROJECT_ID: setting(
    "the project's id in GitLab; required without `PIPELINE_JOBS_FILE`",
    matching(/^\S+$/, "a project's id, e.g. 4242"),
  ),
  GITLAB_TOKEN: setting(
    "a token of GitLab with `read_api`; this or `CI_JOB_TOKEN` is required without `PIPELINE_JOBS_FILE`",
    token("glpat-... with read_api"),
  ),
  CI_JOB_TOKEN: setting(
    "GitLab's token of the job: from GitLab 18 on it can read jobs, but not child pipelines",
    token("glcbt-..."),
  ),
});
export type JobsAccess = v.InferOutput<typeof JobsAccess>;

const SlackAccess = v.object({
  SLACK_API_TOKEN: setting("a bot token with `chat:write`", token("xoxb-...")),
  SLACK_CHANNEL: setting("the channel that gets everything", matching(/^\S+$/, "a channel, e.g. #ci-alerts")),
  SLACK_WEBHOOK_URL: setting(
    "an incoming webhook of Slack, Mattermost or Rocket.Chat, instead of a token and a channel",
    httpUrl("https://hooks.slack.com/services/T0/B0/x"),
  ),
  SLACK_API_URL: setting("Slack's API", httpUrl("https://slack.com/api"), "https://slack.com/api"),
});
export type SlackAccess = v.InferOutput<typeof SlackAccess>;

const Routing = v.object({
  JOB_OWNERS_FILE: setting("lines of a pattern of jobs and their owners, who are told as well", v.string()),
  OWNER_CHANNELS_FILE: setting("JSON: the channel of each owner, and whom to mention there", v.string()),
});
export type Routing = v.InferOutput<typeof Routing>;

const Network = v.object({
  HTTPS_PROXY: setting("the proxy for https addresses; also in lower case, which wins", v.string()),
  https_proxy: v.optional(v.string()),
  HTTP_PROXY: setting("the proxy for http addresses; also in lower case, which wins", v.string()),
  http_proxy: v.optional(v.string()),
  NO_PROXY: setting(
    "hosts that are reached without a proxy, with their subdomains; also in lower case, which wins",
    v.string(),
  ),
  no_proxy: v.optional(v.string()),
  CI_SERVER_TLS_CA_FILE: setting("GitLab's certificate authority, for advice about `NODE_EXTRA_CA_CERTS`", v.string()),
});
/** How servers are reached. The address of a proxy may hold a password. */
export type Network = v.InferOutput<typeof Network>;

const Display = v.object({
  CI: setting("set by a CI: `JOB_EXECUTIONS_URL` is required then", v.string()),
  CI_DEFAULT_BRANCH: setting("where it is set, pipelines of other branches are not counted", v.string()),
  GITLAB_CI: setting("`true`: the log has colour", v.string()),
  NO_COLOR: setting("no colour", v.string()),
  FORCE_COLOR: setting("colour where there is no terminal", v.string()),
  DEBUG: setting("errors with their stack traces", v.string()),
});

/** What a report needs, and what a run needs besides. */
const ReportSettings = v.object({ limits: Limits, store: StoreAccess, network: Network });
const Settings = v.object({
  pipeline: Pipeline,
  jobs: JobsAccess,
  ...ReportSettings.entries,
  slack: SlackAccess,
  routing: Routing,
});

/** The variables whose values are never printed; of a proxy's address, that is the part with the password. */
const SECRETS = /^((GITLAB|CI_JOB|SLACK_API|AWS_\w+)_TOKEN|AWS_SECRET_ACCESS_KEY|SLACK_WEBHOOK_URL)$/;
const PROXIES = /^https?_proxy$/i;

/** What must hold between variables: the one that is told of, whether it is right, and what is expected. */
function checkRules(given: Variables): [variable: string, isRight: boolean, expected: string][] {
  const { PIPELINE_JOBS_FILE: file, SLACK_API_TOKEN: token, SLACK_CHANNEL: channel, CUMULATIVE_LENGTH = 10 } = given;
  const isInWindow = (threshold: string | number) => !(Number(threshold) > Number(CUMULATIVE_LENGTH));
  const unlessFile = "unless PIPELINE_JOBS_FILE is set";
  return [
    ["CUMULATIVE_THRESHOLD", isInWindow(given.CUMULATIVE_THRESHOLD ?? 5), "at most CUMULATIVE_LENGTH, e.g. 5 and 10"],
    ["RECOVERY_THRESHOLD", isInWindow(given.RECOVERY_THRESHOLD ?? 3), "at most CUMULATIVE_LENGTH, e.g. 3 and 10"],
    ["JOB_EXECUTIONS_URL", !isInCi(given) || !!given.JOB_EXECUTIONS_URL, "set in CI, e.g. s3://ci-bucket/jobs.json"],
    ["CI_API_V4_URL", !!(file || given.CI_API_V4_URL), `set, e.g. https://gitlab.example.com/api/v4, ${unlessFile}`],
    ["CI_PROJECT_ID", !!(file || given.CI_PROJECT_ID), `set, e.g. 4242, ${unlessFile}`],
    [
      "GITLAB_TOKEN",
      !!(file || given.GITLAB_TOKEN || given.CI_JOB_TOKEN),
      `set, e.g. glpat-... with read_api, unless CI_JOB_TOKEN or PIPELINE_JOBS_FILE is`,
    ],
    ["SLACK_CHANNEL", !token || !!channel, "set together with SLACK_API_TOKEN, e.g. #ci-alerts"],
    ["SLACK_API_TOKEN", !channel || !!token, "set together with SLACK_CHANNEL, e.g. xoxb-..."],
    ["SLACK_WEBHOOK_URL", !given.SLACK_WEBHOOK_URL || !token, "unset where SLACK_API_TOKEN is set, e.g. empty"],
  ];
}

function isInCi({ CI = "" }: Variables) {
  return !["", "false", "0"].includes(CI);
}

/**
 * The parts of the environment for a run, or those for a report. An empty variable counts as unset. Throws one error
 * with all that is wrong, each with its name, what is expected and an example, but never with a value: any may be a
 * misplaced secret.
 */
export function parseSettings(variables: Variables) {
  return parseParts(Settings, variables);
}

export function parseReportSettings(variables: Variables) {
  return parseParts(ReportSettings, variables);
}

type Parts = v.ObjectSchema<Record<string, v.ObjectSchema<v.ObjectEntries, undefined>>, undefined>;

function parseParts<T extends Parts>(schema: T, variables: Variables): v.InferOutput<T> {
  const given = Object.fromEntries(Object.entries(variables).filter(([, value]) => value));
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
  throw failure(`The environment is not valid: ${[...problems.values()].join("; ")}`, "see --help", { exitCode: 2 });
}

/** Each variable with its default (`required` where it must be set, empty where there is none) and its description. */
export function describeSettings(): { name: string; usual: string; description: string }[] {
  const parts = [...Object.values(Settings.entries), Display];
  return parts.flatMap(({ entries }) =>
    Object.entries(entries).flatMap(([name, schema]) => {
      const description = v.getDescription(schema);
      const usual = v.getDefault(schema) ?? "";
      return description ? { name, usual: v.is(schema, undefined) ? usual : "required", description } : [];
    }),
  );
}

/** A variable with the description that `--help` prints; required where its default, "", is not valid. */
function setting<T extends v.GenericSchema<string, unknown>, const D extends string | undefined = undefined>(
  description: string,
  schema: T,
  usual?: D,
) {
  return v.pipe(v.optional(schema, usual as D), v.description(description));
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

function oneOf<const T extends [string, ...string[]]>(options: T) {
  return v.picklist(options, `one of ${options.join(", ")}, e.g. ${options[0]}`);
}

/** Patterns of jobs or reasons, separated by white space. */
function patterns() {
  const isWhole = v.check((text: string) => !endsInBackslash(text), "patterns, e.g. deploy:* manual\\ tests");
  return v.pipe(
    v.string(),
    isWhole,
    v.transform((text) => splitWords(text).map(toRegExp)),
  );
}

function httpUrl(example: string) {
  const expected = `an http or https URL without a password, e.g. ${example}`;
  const trimmed = v.transform((url: string) => url.replace(/\/+$/, ""));
  return v.pipe(matching(/^https?:\/\/[^\s/@]+([/?#]\S*)?$/, expected), v.url(expected), trimmed);
}

/** `Ada Lovelace <ada@example.com>` is a name with an address. */
function withoutAddress(author: string): string | undefined {
  const name = author.replace(/\s*<[^<>]*>\s*$/, "").replace(/^(\S+)@\S+$/, "$1");
  return cut(name.trim(), MAX_TITLE) || undefined;
}

// --- Table: pure; the tracked jobs, worst first, for a terminal or the log of a CI job.

const LINE_WIDTH = 80;
const MIN_NAME_WIDTH = 20;

/** The tracked jobs of a document. A name that is too long for its column has a line of its own. */
export function formatTable({ jobs }: JobExecutions, limits: Limits): string {
  if (jobs.size === 0) return "No job is tracked: none has failed lately.";
  const worst = [...jobs]
    .map(([name, job]) => ({ name, job, failures: failuresIn(job).length }))
    .sort(
      (a, b) =>
        b.job.consecutive_failures - a.job.consecutive_failures ||
        b.failures - a.failures ||
        (a.name < b.name ? -1 : 1),
    );
  const rows = worst.map(({ name, job, failures }) => [
    toOneLine(name),
    job.jobs_info.map(({ failing }) => (failing ? "✗" : "·")).join(""),
    `${job.consecutive_failures}`,
    `${failures}`,
    job.alert ? `${KINDS[job.alert.kind].word} ${job.alert.at.slice(0, 10)}` : "",
  ]);
  rows.unshift(["job", "executions", "in a row", `in ${limits.CUMULATIVE_LENGTH}`, "alert since"]);
  const widthOf = (column: number) => rows.reduce((width, row) => Math.max(width, row[column]?.length ?? 0), 0);
  const widths = [1, 2, 3, 4].map(widthOf);
  const rest = widths.reduce((sum, width) => sum + width + 2, 0);
  const nameWidth = Math.min(widthOf(0), Math.max(LINE_WIDTH - rest, MIN_NAME_WIDTH));
  const lines = rows.map(([name = "", strip = "", inARow = "", inWindow = "", alert = ""]) => {
    const numbers = [
      strip.padStart(widths[0] ?? 0),
      inARow.padStart(widths[1] ?? 0),
      inWindow.padStart(widths[2] ?? 0),
    ];
    const start = name.length > nameWidth ? `${name}\n${" ".repeat(nameWidth)}` : name.padEnd(nameWidth);
    return [start, ...numbers, alert].join("  ").trimEnd();
  });
  const { CONSECUTIVE_THRESHOLD, CUMULATIVE_THRESHOLD, CUMULATIVE_LENGTH } = limits;
  const head = `A job alerts at ${CONSECUTIVE_THRESHOLD} failures in a row, or ${CUMULATIVE_THRESHOLD} in its last ${CUMULATIVE_LENGTH} executions.`;
  return [head, "", ...lines].join("\n");
}

// --- Command line: what people see, and the only part that touches the process.

const RUN_TIMEOUT_MS = 90_000;
const LAST_TIMEOUT_MS = 115_000; // for what no signal reaches, e.g. an AWS credential_process
const ARGUMENTS = ["report", "--dry-run", "--json", "--help", "-h"];

/** What a command says, to people and to programs. */
type Output = { text: string; json: object; warnings?: string[]; errors?: string[] };

/** What a command runs in. `print` throws where nobody reads any more. */
type Surroundings = {
  variables: Variables;
  signal: AbortSignal;
  print: (text: string) => Promise<void>;
  warn: (text: string) => void;
};

function writeHelp(): string {
  const variables = describeSettings().map(({ name, usual, description }) => {
    return `  ${name}${usual && ` (${usual})`}\n      ${description}`;
  });
  return `check-failures ${VERSION}: tells the owners of a CI job when it fails consistently

Usage: tsx check-failures.ts [report] [--dry-run] [--json]

  (nothing)   count this CI pipeline, alert, store
  report      print the stored document as a table; reads only
  --dry-run   compute and print; send and write nothing; on any branch
  --json      print one JSON object on stdout, everything else on stderr
  --help      print this

Install: npm install --no-save --ignore-scripts tsx @aws-sdk/client-s3 valibot
(Node 22.18 or newer needs no tsx: node check-failures.ts)

Exit 0: done. 1: failed, with the reason on stderr. 2: wrong usage or environment.

Variables (with their defaults; an empty one counts as unset):

${variables.join("\n")}`;
}

/** What the arguments ask for. */
async function execute(args: string[], surroundings: Surroundings): Promise<Output> {
  if (args.includes("report")) return report(surroundings);
  const { CI_DEFAULT_BRANCH, CI_COMMIT_BRANCH, CI_PIPELINE_ID } = surroundings.variables;
  const dryRun = args.includes("--dry-run");
  if (dryRun || !CI_DEFAULT_BRANCH || CI_COMMIT_BRANCH === CI_DEFAULT_BRANCH)
    return countPipeline(surroundings, dryRun);
  // Before all validation: a pipeline of another branch lacks the protected variables.
  const text = `Nothing to do: this is not a pipeline of the default branch, ${CI_DEFAULT_BRANCH}`;
  const ids = { pipeline_id: Number(CI_PIPELINE_ID) || null, stored_pipeline_id: null };
  return { text, json: { outcome: "not-default-branch", ...ids, reached: noneReached(), messages: [] } };
}

async function countPipeline({ variables, signal, print, warn }: Surroundings, dryRun: boolean): Promise<Output> {
  const { pipeline, limits, store: storeAccess, jobs: jobsAccess, slack, routing, network } = parseSettings(variables);
  const { CI_PIPELINE_ID: id } = pipeline;
  const store = openStore(storeAccess, network);
  const sender = openSender(slack, network, print);
  const jobs = openJobs(jobsAccess, { pipelineId: id, network, signal, warn });
  const task = { pipeline, limits, owners: await readOwners(routing), dryRun };
  if (isInCi(variables) && sender.name === LOG) {
    warn("Alerts are only in this log: set SLACK_API_TOKEN and SLACK_CHANNEL, or SLACK_WEBHOOK_URL");
  }

  const run = await checkConsistentFailures(task, { store, sender, jobs, pause: sleep, now: new Date(), signal });
  const { outcome, before, document, reached, warnings, errors } = run;
  const messages = run.messages.map(({ channel, text, delivered }) => ({
    channel: channel ?? sender.broadcast,
    text,
    delivered,
  }));
  const waiting = document.pending_alerts.length - messages.length;
  if (waiting > 0) warnings.push(`${formatCount(waiting, "message")} of other runs will be sent by a later one`);
  const outcomes = {
    counted: `${dryRun ? "would be" : "is"} counted, after ${before.pipeline_id}`,
    "already-counted": "had been counted before",
    "out-of-order": `is older than ${before.pipeline_id}, which is stored: it is not counted`,
  };
  const delivered = messages.filter((message) => message.delivered).length;
  const end =
    messages.length > 0 && !dryRun ? `, ${delivered} of ${formatCount(messages.length, "message")} delivered` : "";
  const dry = messages.map(
    ({ channel, text }) => `Would send${channel ? ` to ${channel}` : ""}:\n${toPlainText(text)}`,
  );
  const text = [
    ...(dryRun ? ["Dry run: nothing is sent or written; the table is what would be stored", ...dry] : []),
    `Pipeline ${id} ${outcomes[outcome]}${end}`,
    formatTable(document, limits),
    `Stored in ${store.source}; alerts go to ${sender.name}`,
  ].join("\n\n");
  const ids = { pipeline_id: id, stored_pipeline_id: before.pipeline_id };
  return { text, json: { outcome, ...ids, reached, messages }, warnings, errors };
}

async function report({ variables, signal }: Surroundings): Promise<Output> {
  const { limits, store: access, network } = parseReportSettings(variables);
  const store = openStore(access, network);
  const stored = await retrieveJobExecutions(store, signal);
  const { pipeline_id, counted_at, jobs, pending_alerts } = stored?.document ?? createInitialJobExecutions();
  const last = `pipeline ${pipeline_id} was counted last${counted_at ? `, at ${counted_at}` : ""}`;
  const waiting =
    pending_alerts.length > 0 ? `; ${formatCount(pending_alerts.length, "message")} not delivered yet` : "";
  const state = stored ? `${last}${waiting}` : "there is no document yet, if JOB_EXECUTIONS_URL is right";
  const rows = [...jobs].map(([name, job]) => ({
    name,
    consecutive_failures: job.consecutive_failures,
    failures: failuresIn(job).length,
    executions: job.jobs_info.length,
  }));
  const table = formatTable(stored?.document ?? createInitialJobExecutions(), limits);
  return {
    text: `${store.source}: ${state}\n\n${table}`,
    json: { pipeline_id, counted_at: counted_at ?? null, jobs: rows },
  };
}

type Printer = (stream: NodeJS.WriteStream, text: string) => Promise<Error | null | undefined>;

/** Prints without secrets; resolves to the error that kept it from that, if any. */
function printerFor(variables: Variables): Printer {
  const secrets = Object.entries(variables).flatMap(([name, value = ""]) => {
    if (SECRETS.test(name)) return value;
    const [, login = "", password = ""] = (PROXIES.test(name) && /^(?:\w+:\/\/)?([^/@:]*:([^/@]*))@/.exec(value)) || [];
    return [login, password];
  });
  // The longest first, as one may be a part of another.
  const hidden = secrets.filter((secret) => secret.length > 5).sort((a, b) => b.length - a.length);
  return (stream, text) => {
    const shown = hidden.reduce((rest, secret) => rest.replaceAll(secret, "***"), text);
    return new Promise((resolve) => stream.write(`${shown}\n`, resolve));
  };
}

/** A table with its failures in red, where the stream that it is for shows colour. */
function paint(text: string, { isTTY }: NodeJS.WriteStream, variables: Variables) {
  const { NO_COLOR, FORCE_COLOR, GITLAB_CI, GITHUB_ACTIONS } = variables;
  const isWanted = FORCE_COLOR ? FORCE_COLOR !== "0" : isTTY || [GITLAB_CI, GITHUB_ACTIONS].includes("true");
  return isWanted && !NO_COLOR ? text.replace(/✗+/g, "\u001b[31m$&\u001b[39m") : text;
}

/** Node before 22.21 can't use a proxy: it says so once, as it then only waits in vain. */
function warnOfProxy(variables: Variables, warn: (text: string) => void) {
  const name = Object.keys(variables).find((name) => PROXIES.test(name) && variables[name]);
  const { bun, deno } = process.versions;
  if (!name || bun || deno || process.allowedNodeEnvironmentFlags.has("--use-env-proxy")) return;
  warn(`${name} is set, but Node ${process.versions.node} can't use it: run with Node 24, Bun or Deno`);
}

/** What ends a run that takes too long: by its signal, and at last, after `complain`, with its process. */
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
    const wrong = args.find((arg, i) => !ARGUMENTS.includes(arg) || args.indexOf(arg) < i);
    if (wrong !== undefined) throw failure(`Unknown or repeated argument: ${wrong}`, "see --help", { exitCode: 2 });
    if (args.includes("--help") || args.includes("-h")) {
      await print(stdout, writeHelp());
      return 0;
    }
    const log = args.includes("--json") ? stderr : stdout;
    const printText = async (text: string) => {
      const error = await print(log, text);
      if (error) throw failure(`Cannot print: ${error.message}`, "keep this log open", { cause: error });
    };
    warnOfProxy(variables, warn);
    const surroundings = { variables, signal: stop.signal, print: printText, warn };
    const { text, json, warnings = [], errors = [] } = await execute(args, surroundings);
    print(log, paint(text, log, variables));
    const toObject = (_: string, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value);
    if (args.includes("--json")) print(stdout, JSON.stringify(json, toObject));
    for (const warning of warnings) warn(warning);
    for (const error of errors) print(stderr, `Error: ${toOneLine(error)}`);
    return errors.length > 0 ? 1 : 0;
  } catch (error) {
    const { message, stack, cause, exitCode = 1 } = error as Failure;
    const because = cause instanceof Error ? `\nbecause of ${cause.stack}` : "";
    print(stderr, variables.DEBUG ? `${stack}${because}` : `Error: ${toOneLine(message)}`);
    return exitCode;
  } finally {
    stop.abort(); // what is still asked of a peer no longer matters
  }
}

/** Whether Node, as it is on this machine, was started with this file, under whatever name that was. */
function isStarted(): boolean {
  if (import.meta.main) return true; // not there under tsx on Node 20, and wrong in Node 24.2
  const [, entry] = process.argv;
  if (entry === undefined) return false;
  const own = realpathSync(fileURLToPath(import.meta.url));
  // tsx takes a name without an ending, or with that of JavaScript, for this file.
  const names = [entry, `${entry}.ts`, entry.replace(/\.[cm]?js$/, ".ts")];
  return names.some((name) => existsSync(name) && realpathSync(name) === own);
}

if (isStarted()) {
  for (const name in process.env) if (!process.env[name]) delete process.env[name]; // the SDK takes "" for a value
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true"; // said in every log, about every Node 20
  main(process.argv.slice(2), process.env).then((exitCode) => {
    process.exitCode = exitCode;
  });
}
