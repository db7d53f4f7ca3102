/** What tests are made of: each builder has a default for all that a test does not care about. */
import {
  type Alert,
  type Edges,
  type Execution,
  type JobExecutions,
  type PendingAlert,
  type PipelineJob,
  parseEnvironment,
  type Store,
  type TrackedJob,
} from "../../check-failures.ts";

export const NOW = new Date("2026-11-23T10:00:00Z");
export const AN_HOUR_AGO = "2026-11-23T09:00:00Z";

/** The environment of a pipeline of acme/shop that tells #ci; `undefined` takes a variable away. */
export const environment = (variables: Record<string, string | undefined> = {}) =>
  parseEnvironment({
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

/** A job of a pipeline, as GitLab lists it; its id is higher than those of the jobs built before. */
export const pipelineJob = (name: string, status: string, rest: Partial<PipelineJob> = {}): PipelineJob => ({
  id: ++lastId,
  name,
  status,
  allow_failure: false,
  web_url: undefined,
  ...rest,
});
export const failed = (name: string, rest: Partial<PipelineJob> = {}) => pipelineJob(name, "failed", rest);
export const passed = (name: string, rest: Partial<PipelineJob> = {}) => pipelineJob(name, "success", rest);

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
export const alertOf = (name: string, rest: Partial<Alert> = {}): Alert => ({
  kind: "consecutive",
  name,
  job: history("·✗✗✗"),
  openedAt: AN_HOUR_AGO,
  latest: undefined,
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
      if (named !== version()) return { conflict: true, repeated: false };
      stored.text = new TextDecoder().decode(body);
      stored.version++;
      return { conflict: false };
    },
  };
  return { store, stored };
}

/** The edges of a run without a network: a store in memory, and a `send` that keeps what it is given in `sent`. */
export function makeEdges(rest: Partial<Edges> = {}) {
  const sent: PendingAlert[] = [];
  const edges: Edges = {
    store: memoryStore().store,
    send: async (alert) => {
      sent.push(alert);
    },
    pause: async () => {},
    now: NOW,
    signal: new AbortController().signal,
    ...rest,
  };
  return { edges, sent };
}
