/** What tests are made of: each builder has a default for all that a test does not care about. */
import {
  type AddressedMessage,
  checkConsistentFailures,
  type Execution,
  type JobExecutions,
  type Jobs,
  type Listing,
  type Message,
  type News,
  type PendingMessage,
  type PipelineJob,
  parseSettings,
  readOwners,
  type Sender,
  SLACK,
  type Store,
  type Task,
  type TrackedJob,
  type World,
  writeMessage,
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
    GITLAB_CI: "true",
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

/** A list of these jobs, as a file has them. */
export const listingOf = (jobs: PipelineJob[], warnings: string[] = []): Listing => ({
  jobs,
  warnings,
  hasNotRun: true,
});

/** A source of jobs that lists these. */
export const jobsOf =
  (jobs: PipelineJob[]): Jobs =>
  async () =>
    listingOf(jobs);

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
  passed: new Map(),
  pending_alerts: [],
});

/** A document without passes as it is stored. */
export const textOf = ({ passed: _, ...document }: JobExecutions) =>
  JSON.stringify({ ...document, jobs: Object.fromEntries(document.jobs) });

/** What is to be reported of a job, of one that failed three times in a row unless said otherwise. */
export const newsOf = (job: string, rest: Partial<News> = {}): News => ({
  kind: "consecutive",
  job,
  job_id: 104,
  times: 3,
  executions: 4,
  ids: [102, 103, 104],
  since: AN_HOUR_AGO,
  ...rest,
});

/** What messages say of the pipeline of `settings`. */
export const PIPELINE_TOLD: Message["pipeline"] = {
  id: 1005,
  commit: "0ddba11",
  branch: "main",
  at: NOW.toISOString(),
  project: { name: "acme/shop", url: "https://gitlab.example.com/acme/shop", ci: "gitlab" },
};

/** What a channel is to be told. */
export const toldOf = (news: News[], rest: Partial<Message> = {}): Message => ({
  channel: null,
  pipeline: PIPELINE_TOLD,
  news,
  ...rest,
});

/** A message that an earlier run left over, due a minute ago: that this job is broken. */
export const pendingAlert = (job: string, rest: Partial<PendingMessage> = {}): PendingMessage => ({
  ...toldOf([newsOf(job)]),
  id: `left over: ${job}`,
  due: new Date(NOW.getTime() - MINUTE).toISOString(),
  ...rest,
});

/** A message as a sender gets it. */
export const messageOf = (job: string, rest: Partial<AddressedMessage> = {}): AddressedMessage => ({
  ...pendingAlert(job),
  mentions: [],
  open: 1,
  ...rest,
});

/** A message as Slack gets it. */
export const slackText = (told: Message, mentions: string[] = []) => writeMessage({ ...told, mentions }, SLACK);

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

/** The world of a run without a network: a store in memory, no jobs, and a sender that keeps what it is given. */
export function makeWorld(rest: Partial<World> = {}) {
  const sent: { channel: string | null; text: string }[] = [];
  const sender: Sender = {
    name: "Slack",
    place: "the test",
    broadcast: "#ci",
    send: async (message, channel) => {
      sent.push({ channel, text: writeMessage(message, SLACK) });
    },
  };
  const world: World = {
    store: memoryStore(textOf(documentOf())).store,
    jobs: jobsOf([]),
    sender,
    pause: async () => {},
    signal: new AbortController().signal,
    ...rest,
  };
  return { world, sent };
}

/** What a run is told by the environment. */
export async function taskOf(variables: Variables = {}, now: Date = NOW): Promise<Task> {
  const { pipeline, limits, routing } = settings(variables);
  return { pipeline, limits, owners: await readOwners(routing), now };
}

/** A run within this process, of a pipeline with these jobs. */
export async function runOf(
  jobs: PipelineJob[],
  variables: Variables = {},
  { now, ...rest }: Partial<World> & { now?: Date } = {},
) {
  const { world, sent } = makeWorld({ jobs: jobsOf(jobs), ...rest });
  return { run: await checkConsistentFailures(await taskOf(variables, now), world), sent };
}
