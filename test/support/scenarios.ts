/**
 * Plays the scenarios of fixtures/scenarios: pipelines one after the other, as the script would see them. Without a
 * before.json, an empty document is stored; with an empty one, none.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkConsistentFailures, openJobs } from "../../check-failures.ts";
import { makeWorld, memoryStore, settings, taskOf, type Variables } from "./builders.ts";
import { makeFolder } from "./run.ts";
import { type GitLabPipeline, startGitLab, TOKEN } from "./servers/gitlab.ts";

export const SCENARIOS = fileURLToPath(new URL("../../fixtures/scenarios", import.meta.url));

/** A pipeline: `jobs` as its CI lists them, and with `pipelines`, the child pipelines as GitLab has them by their ids. */
type Pipeline = {
  id: number;
  sha: string;
  at: string;
  title?: string;
  description?: string;
  author?: string;
  /** The branch's commit before the push, where that is not the commit of the pipeline before. */
  pushed_on?: string;
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
  const pathOf = (file: string) => (existsSync(join(SCENARIOS, scenario, file)) ? join(SCENARIOS, scenario, file) : "");
  const before = readScenarioFile(scenario, "before.json") ?? '{"pipeline_id": 0, "jobs": {}}';
  const { store, stored } = memoryStore(before.trim() || undefined);
  const folder = makeFolder();
  const gitlab = await startGitLab();
  const messages: string[] = [];
  try {
    for (const pipeline of pipelines) {
      const { id, sha, at } = pipeline;
      const environment: Variables = {
        CI_COMMIT_TITLE: pipeline.title,
        CI_COMMIT_DESCRIPTION: pipeline.description,
        CI_COMMIT_AUTHOR: pipeline.author,
        CI_COMMIT_BEFORE_SHA: pipeline.pushed_on,
        ...variables,
        CI_PIPELINE_ID: String(id),
        CI_COMMIT_SHA: sha,
        JOB_OWNERS_FILE: pathOf("owners"),
        OWNER_CHANNELS_FILE: pathOf("channels.json"),
        ...listJobs(pipeline, folder.path, gitlab),
      };
      const { jobs, network } = settings(environment);
      const listed = openJobs(jobs, id, network, new AbortController().signal);
      const { world, sent } = makeWorld({ store, jobs: listed });
      const run = await checkConsistentFailures(await taskOf(environment, new Date(at)), world);
      messages.push(...sent.map(({ channel, text }) => `## Pipeline ${id} to ${channel ?? "#ci"}\n\n${text}\n`));
      const problems = [...run.warnings, ...run.errors];
      messages.push(...problems.map((problem) => `## Pipeline ${id} warns\n\n${problem}\n`));
    }
  } finally {
    folder.remove();
    gitlab.close();
  }
  return { after: formatDocument(stored.text ?? "null"), messages: messages.join("\n") || "Nothing is sent.\n" };
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

/** A document with its jobs in order and an execution a line, so that a difference can be read. */
export function formatDocument(text: string): string {
  const { jobs, ...others } = JSON.parse(text);
  const sorted = Object.entries(jobs).sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = JSON.stringify({ ...others, jobs: Object.fromEntries(sorted) }, null, 2);
  return `${lines.replace(/\{[^{}[\]]*\}/g, (innermost) => innermost.replace(/\s*\n\s*/g, " "))}\n`;
}
