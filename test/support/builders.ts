/** What tests are made of: each builder has a default for all that a test does not care about. */
import {
  checkConsistentFailures,
  type Edges,
  type Execution,
  type JobExecutions,
  type Jobs,
  type News,
  type PendingAlert,
  type PipelineJob,
  parseSettings,
  readOwners,
  type Sender,
  type Store,
  type Task,
  type TrackedJob,
} from "../../check-failures.ts";
import type { GitLabJob } from "./servers/gitlab.ts";

export type Variables = Record<string, string | undefined>;

export const NOW = new Date("2026-11-23T10:00:00Z");
export const AN_HOUR_AGO = "2026-11-23T09:00:00Z";
export const MINUTE = 60_000;

/** The settings of a pipeline of acme/shop that tells #ci; `undefined` takes a variable away. */
export const settings = (variables: Variables = {}) =>
  parseSettings({
    CI_PIPELINE_ID: "1005",
    CI_COMMIT_SHA: "0ddba11",
    CI_COMMIT_BRANCH: "main",
    CI_PROJECT_PATH: "acme/shop",
    CI_PROJECT_URL: "https://gitlab.example.com/acme/shop",
    PIPELINE_JOBS_FILE: "jobs.json",
    SLACK_API_TOKEN: "xoxb-builder",
    SLACK_CHANNEL: "#ci",
    ...variables,
  });

let lastId = 10_000;

const pipelineJob = (name: string, outcome: PipelineJob["outcome"], rest: Partial<PipelineJob>): PipelineJob => ({
  id: ++lastId,
  name,
  outcome,
  ...rest,
});
/** How a job did in a pipeline; its id is higher than those of the jobs built before. */
export const failed = (name: string, rest: Partial<PipelineJob> = {}) => pipelineJob(name, "failed", rest);
export const passed = (name: string, rest: Partial<PipelineJob> = {}) => pipelineJob(name, "passed", rest);

/** A job as GitLab lists it; likewise. */
export const listed = (name: string, status: string, rest: Partial<GitLabJob> = {}): GitLabJob => ({
  id: ++lastId,
  name,
  status,
  ...rest,
});
export const listedFailed = (name: string, rest: Partial<GitLabJob> = {}) => listed(name, "failed", rest);
export const listedPassed = (name: string, rest: Partial<GitLabJob> = {}) => listed(name, "success", rest);

/** A source of jobs that lists these. */
export const jobsOf =
  (jobs: PipelineJob[]): Jobs =>
  async (scope) =>
    jobs.filter((job) => job.outcome === scope);

/** The history of a job from its strip in the table, "·✗✗": the n-th execution has id 100 + n and commit c0ffee0n. */
export function history(strip: string, rest: Partial<TrackedJob> = {}): TrackedJob {
  const jobs_info = [...strip].map((mark, i): Execution => {
    const commit = `c0ffee${String(i + 1).padStart(2, "0")}`;
    return mark === "✗" ? { id: 101 + i, failing: true, commit } : { id: null, failing: false, commit };
  });
  const consecutive_failures = /✗*$/.exec(strip)?.[0].length ?? 0;
  return { consecutive_failures, jobs_info, last_run: AN_HOUR_AGO, ...rest };
}

export const stripOf = (job: TrackedJob | undefined) =>
  job?.jobs_info.map(({ failing }) => (failing ? "✗" : "·")).join("");

export const openAlert = (kind: "consecutive" | "cumulative", at = AN_HOUR_AGO) => ({ kind, pipeline_id: 1001, at });

export const documentOf = (...jobs: [name: string, job: TrackedJob][]): JobExecutions => ({
  pipeline_id: 1004,
  jobs: new Map(jobs),
  pending_alerts: [],
});

/** A document as it is stored. */
export const textOf = (document: JobExecutions) =>
  JSON.stringify({ ...document, jobs: Object.fromEntries(document.jobs) });

/** What is to be told of a job, of one that failed three times in a row unless said otherwise. */
export const newsOf = (name: string, rest: Partial<News> = {}): News => ({
  kind: "consecutive",
  name,
  job: history("·✗✗✗"),
  openedAt: AN_HOUR_AGO,
  ...rest,
});

/** A message that an earlier run left over, due a minute ago. */
export const pendingAlert = (text: string, rest: Partial<PendingAlert> = {}): PendingAlert => ({
  id: `left over: ${text}`,
  channel: null,
  text,
  due: new Date(NOW.getTime() - MINUTE).toISOString(),
  ...rest,
});

/** A store in memory, with the versions of a real one; `text` is what it holds. */
export function memoryStore(text?: string) {
  const stored = { text, version: 0 };
  const version = () => (stored.text === undefined ? undefined : String(stored.version));
  const store: Store = {
    source: "the store in memory",
    read: async () => (stored.text === undefined ? undefined : { text: stored.text, version: String(stored.version) }),
    write: async (body, named) => {
      if (named !== version()) return false;
      stored.text = body.toString();
      stored.version++;
      return true;
    },
  };
  return { store, stored };
}

/** The edges of a run without a network: a store in memory, no jobs, and a sender that keeps what it is given. */
export function makeEdges(rest: Partial<Edges> = {}) {
  const sent: { channel: string | null; text: string }[] = [];
  const sender: Sender = {
    name: "the test",
    broadcast: "#ci",
    send: async (text, channel) => {
      sent.push({ channel, text });
    },
  };
  const edges: Edges = {
    store: memoryStore(textOf(documentOf())).store,
    jobs: jobsOf([]),
    sender,
    pause: async () => {},
    now: NOW,
    signal: new AbortController().signal,
    ...rest,
  };
  return { edges, sent };
}

/** What a run is told by the environment. */
export async function taskOf(variables: Variables = {}): Promise<Task> {
  const { pipeline, limits, routing } = settings(variables);
  return { pipeline, limits, owners: await readOwners(routing) };
}

/** A run within this process, of a pipeline with these jobs. */
export async function runOf(jobs: PipelineJob[], variables: Variables = {}, rest: Partial<Edges> = {}) {
  const { edges, sent } = makeEdges({ jobs: jobsOf(jobs), ...rest });
  return { run: await checkConsistentFailures(await taskOf(variables), edges), sent };
}
