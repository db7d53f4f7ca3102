/** What tests are made of: each builder has a default for all that a test does not care about. */
import process from "node:process";
import fc from "fast-check";
import {
  type Alert,
  checkConsistentFailures,
  type Execution,
  type JobExecutions,
  type Jobs,
  type Listing,
  type Message,
  type News,
  type PipelineJob,
  parseSettings,
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

/** With a seed, all properties draw the same examples again. */
const { INTERLEAVINGS_SEED } = process.env;
if (INTERLEAVINGS_SEED) fc.configureGlobal({ seed: Number(INTERLEAVINGS_SEED) });

export const NOW = new Date("2026-11-23T10:00:00.000Z");
export const AN_HOUR_AGO = "2026-11-23T09:00:00.000Z";
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
export const notRun = (name: string, rest: Partial<PipelineJob> = {}) => pipelineJob(name, "not run", rest);

/** A job as GitLab lists it; likewise. */
export const listed = (name: string, status: string, rest: Partial<GitLabJob> = {}): GitLabJob => ({
  id: ++lastId,
  name,
  status,
  ...rest,
});
export const listedFailed = (name: string, rest: Partial<GitLabJob> = {}) => listed(name, "failed", rest);
export const listedPassed = (name: string, rest: Partial<GitLabJob> = {}) => listed(name, "success", rest);

/** A list of these jobs. */
export const listingOf = (jobs: PipelineJob[], warnings: string[] = []): Listing => ({ jobs, warnings });

/** A source of jobs that lists these. */
export const jobsOf =
  (jobs: PipelineJob[]): Jobs =>
  async () =>
    listingOf(jobs);

/**
 * The history of a job from its strip in the table, "·✗✗": the last execution is of pipeline 1004, the one before of
 * 1003; that of pipeline 1004 has id 1004 and commit c0ffee1004.
 */
export function history(strip: string, rest: Partial<TrackedJob> = {}): TrackedJob {
  const jobs_info = [...strip].map((mark, i): Execution => {
    const pipeline = 1004 - strip.length + 1 + i;
    const commit = `c0ffee${pipeline}`;
    return mark === "✗"
      ? { id: pipeline, failing: true, commit, pipeline }
      : { id: null, failing: false, commit, pipeline };
  });
  const consecutive_failures = /✗*$/.exec(strip)?.[0].length ?? 0;
  return { consecutive_failures, jobs_info, last_run: AN_HOUR_AGO, last_day: 7, ...rest };
}

/** An alert that opened an hour ago and of which the broadcast channel was told. */
export const openAlert = (kind: Alert["kind"] = "consecutive", rest: Partial<Alert> = {}): Alert => ({
  kind,
  pipeline_id: 1001,
  at: AN_HOUR_AGO,
  changed_at: AN_HOUR_AGO,
  day: 7,
  times: 3,
  told: { "": AN_HOUR_AGO },
  ...rest,
});

/** A document in memory, counted an hour ago on its seventh day, with these jobs. */
export const documentOf = (...jobs: [name: string, job: TrackedJob][]): JobExecutions => ({
  pipeline_id: 1004,
  counted_at: AN_HOUR_AGO,
  days: 7,
  last_date: "2026-11-23",
  jobs: new Map(jobs),
  passed: new Map(),
});

/** A document as it is stored. */
export const textOf = ({ jobs, passed, ...document }: JobExecutions) =>
  JSON.stringify({ ...document, jobs: Object.fromEntries(jobs), passed: Object.fromEntries(passed) });

/** What is new of a job, of one that failed three times in a row unless said otherwise. */
export const newsOf = (job: string, rest: Partial<News> = {}): News => ({
  job,
  alert: openAlert("consecutive", { told: undefined, at: NOW.toISOString(), changed_at: NOW.toISOString() }),
  listed: failed(job, { id: 1005 }),
  failures: [1003, 1004, 1005],
  hasPassedSince: false,
  mayBeKnown: false,
  ...rest,
});

/** What a run is told by the environment. */
export function taskOf(variables: Variables = {}, rest: Partial<Task> = {}): Task {
  const { pipeline, limits, sender } = settings(variables);
  return { pipeline, limits, broadcast: sender.SLACK_CHANNEL ?? null, now: NOW, run: "this run", ...rest };
}

/** What a channel is told. */
export const messageOf = (news: News[], rest: Partial<Message> = {}): Message => ({
  channel: "",
  hello: false,
  news,
  mentions: [],
  open: news.length,
  task: taskOf(),
  ...rest,
});

/** A message as Slack gets it. */
export const slackText = (news: News[], rest: Partial<Message> = {}) => writeMessage(messageOf(news, rest), SLACK);

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
  const sent: { channel: string; text: string; message: Message }[] = [];
  const sender: Sender = {
    place: "the test",
    send: async (message) => {
      sent.push({ channel: message.channel || "#ci", text: writeMessage(message, SLACK), message });
    },
    check: async () => "The test is there",
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

let lastRun = 0;

/** A run within this process, of a pipeline with these jobs. Each run has an id of its own. */
export async function runOf(
  jobs: PipelineJob[],
  variables: Variables = {},
  { now = NOW, ...rest }: Partial<World> & { now?: Date } = {},
) {
  const { world, sent } = makeWorld({ jobs: jobsOf(jobs), ...rest });
  const task = taskOf(variables, { now, run: `run ${++lastRun}` });
  return { run: await checkConsistentFailures(task, world), sent };
}
