/**
 * Plays the scenarios of fixtures/scenarios: pipelines one after the other, as the script would see them. Without a
 * before.json, an empty document is stored; with an empty one, none.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkConsistentFailures, openJobs, type Sender } from "../../check-failures.ts";
import { makeWorld, memoryStore, settings, taskOf, type Variables } from "./builders.ts";
import { makeFolder } from "./run.ts";
import { type GitLabPipeline, startGitLab, TOKEN } from "./servers/gitlab.ts";

export const SCENARIOS = fileURLToPath(new URL("../../fixtures/scenarios", import.meta.url));

/**
 * A pipeline: `jobs` as its CI lists them and, with `pipelines`, the child pipelines as GitLab has them by their ids.
 * `message` is the commit's, `environment` what differs in this pipeline, and `refuses` the channels that take nothing.
 */
type Pipeline = {
  id: number;
  sha: string;
  at: string;
  message?: string;
  environment?: Variables;
  refuses?: string[];
  jobs: unknown;
  bridges?: GitLabPipeline["bridges"];
  pipelines?: Record<string, GitLabPipeline>;
};

export const scenarioNames = () => readdirSync(SCENARIOS).sort();

/** A file of a scenario; undefined where it has none. */
export function readScenarioFile(scenario: string, file: string): string | undefined {
  const path = join(SCENARIOS, scenario, file);
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

/** What comes out of a scenario: the document in the end, and everything that was sent on the way. */
export async function playScenario(scenario: string) {
  const pipelines: Pipeline[] = JSON.parse(readScenarioFile(scenario, "pipelines.json") ?? "");
  const variables = JSON.parse(readScenarioFile(scenario, "environment.json") ?? "{}");
  const before = readScenarioFile(scenario, "before.json") ?? '{"pipeline_id": 0, "jobs": {}}';
  const { store, stored } = memoryStore(before.trim() || undefined);
  const folder = makeFolder();
  const gitlab = await startGitLab();
  const parts: string[] = [];
  try {
    for (const [i, pipeline] of pipelines.entries()) {
      const { id, sha, at } = pipeline;
      const environment: Variables = {
        CI_COMMIT_MESSAGE: pipeline.message,
        ...variables,
        ...pipeline.environment,
        CI_PIPELINE_ID: String(id),
        CI_COMMIT_SHA: sha,
        ...listJobs(pipeline, folder.path, gitlab),
      };
      const jobs = openJobs(settings(environment).jobs, id, new AbortController().signal);
      const { world, sent } = makeWorld({ store, jobs });
      const task = taskOf(environment, { now: new Date(at), run: `run ${i + 1}` });
      const sender = withRefusals(world.sender, pipeline.refuses);
      const { warnings, errors } = await checkConsistentFailures(task, { ...world, sender });
      const write = (what: string, text: string) => parts.push(`## Pipeline ${id} ${what}\n\n${text}\n`);
      for (const { channel, text } of sent) write(`to ${channel}`, text);
      for (const warning of warnings) write("warns", warning.replace(`${folder.path}/`, ""));
      for (const error of errors) write("fails", error);
    }
  } finally {
    folder.remove();
    gitlab.close();
  }
  return { after: formatDocument(stored.text ?? "null"), messages: parts.join("\n") || "Nothing is sent.\n" };
}

/** A sender to which some channels take nothing. */
function withRefusals(sender: Sender, refuses: string[] = []): Sender {
  return {
    ...sender,
    send: async (message, signal) => {
      const channel = message.channel || "#ci";
      if (refuses.includes(channel)) throw new Error("The chat refuses the message; mend that");
      await sender.send(message, signal);
    },
  };
}

type GitLab = Awaited<ReturnType<typeof startGitLab>>;

/** Lists the jobs of a pipeline where the script finds them: in a file, or, with child pipelines, at GitLab. */
function listJobs({ id, jobs, bridges, pipelines = {} }: Pipeline, folder: string, gitlab: GitLab): Variables {
  if (!bridges || !Array.isArray(jobs)) {
    const file = join(folder, "jobs.json");
    writeFileSync(file, JSON.stringify(jobs));
    return { PIPELINE_JOBS_FILE: file };
  }
  gitlab.pipelines.set(id, jobs);
  gitlab.bridges.set(id, bridges);
  for (const [child, { jobs, bridges }] of Object.entries(pipelines)) {
    gitlab.pipelines.set(Number(child), jobs);
    gitlab.bridges.set(Number(child), bridges ?? []);
  }
  return {
    PIPELINE_JOBS_FILE: undefined,
    CI_API_V4_URL: gitlab.apiUrl,
    CI_PROJECT_ID: "4242",
    GITLAB_TOKEN: TOKEN,
  };
}

/**
 * A document with all its keys in order and an execution a line, so that a difference can be read; without `upload`,
 * which is another one each time.
 */
export function formatDocument(text: string): string {
  const { upload: _, ...document } = JSON.parse(text);
  const lines = JSON.stringify(inOrder(document), null, 2);
  return `${lines.replace(/\{[^{}[\]]*\}/g, (innermost) => innermost.replace(/\s*\n\s*/g, " "))}\n`;
}

/** Plain values first, then by the name of the key. */
function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== "object" || value === null) return value;
  const rankOf = ([key, inner]: [string, unknown]) => `${typeof inner === "object" && inner !== null} ${key}`;
  const sorted = Object.entries(value).toSorted((a, b) => (rankOf(a) < rankOf(b) ? -1 : 1));
  return Object.fromEntries(sorted.map(([key, inner]) => [key, inOrder(inner)]));
}
