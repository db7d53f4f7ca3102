import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Execution, Run } from "../check-failures.ts";
import { failed, memoryStore, passed, runOf } from "./support/builders.ts";
import { formatDocument, playScenario, readScenarioFile, scenarioNames } from "./support/scenarios.ts";

describe("the scenarios of fixtures/scenarios", () => {
  for (const scenario of scenarioNames()) {
    test(scenario, async () => {
      const { after, messages } = await playScenario(scenario);
      assert.equal(messages, readScenarioFile(scenario, "messages.md"));
      assert.equal(after, formatDocument(readScenarioFile(scenario, "after.json") ?? "null"));
    });
  }
});

type Original = {
  steps: {
    pipeline_id: number;
    commit: string;
    failed_jobs: { name: string; id: number }[];
    bypassed: boolean;
    reached: Record<"consecutive" | "cumulative", Record<string, number[]>>;
  }[];
  document: { pipeline_id: number; jobs: Record<string, { consecutive_failures: number; jobs_info: Execution[] }> };
};

const ORIGINAL = fileURLToPath(new URL("../fixtures/original", import.meta.url));

/** Plays the steps of the original; a job that did not fail is listed as succeeded, or not at all. */
async function playOriginal({ steps }: Original, listsSucceeded: boolean) {
  const names = [...new Set(steps.flatMap((step) => step.failed_jobs.map((job) => job.name)))];
  const { store } = memoryStore();
  const runs: Run[] = [];
  for (const { pipeline_id, commit, failed_jobs } of steps) {
    const failing = failed_jobs.map(({ name, id }) => failed(name, { id }));
    const others = names.filter((name) => !failed_jobs.some((job) => job.name === name));
    const succeeded = listsSucceeded ? others.map((name) => passed(name)) : [];
    const variables = { CI_PIPELINE_ID: `${pipeline_id}`, CI_COMMIT_SHA: commit, NOT_RUN_JOBS: "pass" };
    runs.push((await runOf([...failing, ...succeeded], variables, { store })).run);
  }
  return runs;
}

/** What must be the same in both: a window may lack passes at its start here, and passes carry their commit here. */
const comparable = (jobs: Iterable<[string, { consecutive_failures: number; jobs_info: Execution[] }]>) =>
  [...jobs]
    .map(([name, { consecutive_failures, jobs_info }]) => ({
      name,
      consecutive_failures,
      window: jobs_info
        .slice(jobs_info.findIndex((execution) => execution.failing))
        .map((execution) => (execution.failing ? execution : { ...execution, commit: null })),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

const toEntries = (reached: Iterable<[string, number[]]>) => [...reached].sort(([a], [b]) => (a < b ? -1 : 1));

describe("the sequences of fixtures/original come out as the original computes them", () => {
  for (const file of readdirSync(ORIGINAL)) {
    for (const listsSucceeded of [true, false]) {
      test(`${file}, jobs that did not fail ${listsSucceeded ? "succeeded" : "did not run"}`, async () => {
        const original: Original = JSON.parse(readFileSync(join(ORIGINAL, file), "utf8"));
        const runs = await playOriginal(original, listsSucceeded);

        const steps = runs.map(({ outcome, reached: { consecutive, cumulative } }, i) => ({
          pipeline: original.steps[i]?.pipeline_id,
          bypassed: outcome === "out-of-order",
          consecutive: toEntries(consecutive),
          cumulative: toEntries(cumulative),
        }));
        const expectedSteps = original.steps.map(({ pipeline_id, bypassed, reached }) => ({
          pipeline: pipeline_id,
          bypassed,
          consecutive: toEntries(Object.entries(reached.consecutive)),
          cumulative: toEntries(Object.entries(reached.cumulative)),
        }));
        assert.deepEqual(steps, expectedSteps);

        const { pipeline_id, jobs } = original.document;
        const failing = Object.entries(jobs).filter(([, job]) => job.jobs_info.some((execution) => execution.failing));
        const document = runs.at(-1)?.document;
        assert.equal(document?.pipeline_id, pipeline_id);
        assert.deepEqual(comparable(document?.jobs ?? []), comparable(failing));
      });
    }
  }
});
