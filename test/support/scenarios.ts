/** Plays the scenarios of fixtures/scenarios: pipelines one after the other, as the script would see them. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkConsistentFailures } from "../../check-failures.ts";
import { environment, makeEdges, memoryStore } from "./builders.ts";
import { makeFolder } from "./run.ts";

export const SCENARIOS = fileURLToPath(new URL("../../fixtures/scenarios", import.meta.url));

type Pipeline = { id: number; sha: string; at: string; jobs: object[] };

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
  const { store, stored } = memoryStore(readScenarioFile(scenario, "before.json"));
  const folder = makeFolder();
  const messages: string[] = [];
  try {
    const jobsFile = join(folder.path, "jobs.json");
    for (const { id, sha, at, jobs } of pipelines) {
      writeFileSync(jobsFile, JSON.stringify(jobs));
      const env = environment({
        ...variables,
        CI_PIPELINE_ID: String(id),
        CI_COMMIT_SHA: sha,
        PIPELINE_JOBS_FILE: jobsFile,
        JOB_OWNERS_FILE: pathOf("owners"),
        OWNER_CHANNELS_FILE: pathOf("channels.json"),
      });
      const { edges, sent } = makeEdges({ store, now: new Date(at) });
      const { warnings, errors } = await checkConsistentFailures(env, edges);
      messages.push(...sent.map(({ channel, text }) => `## Pipeline ${id} to ${channel}\n\n${text}\n`));
      messages.push(...[...warnings, ...errors].map((problem) => `## Pipeline ${id} warns\n\n${problem}\n`));
    }
  } finally {
    folder.remove();
  }
  return { after: formatDocument(stored.text ?? "null"), messages: messages.join("\n") || "Nothing is sent.\n" };
}

/** A document with its jobs in order and an execution a line, so that a difference can be read. */
export function formatDocument(text: string): string {
  const { jobs, ...others } = JSON.parse(text);
  const sorted = Object.entries(jobs).sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = JSON.stringify({ ...others, jobs: Object.fromEntries(sorted) }, null, 2);
  return `${lines.replace(/\{[^{}[\]]*\}/g, (innermost) => innermost.replace(/\s*\n\s*/g, " "))}\n`;
}
