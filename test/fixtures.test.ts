import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Execution, isOpen, type Run } from "../check-failures.ts";
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

/** Plays the steps that the original counted. It takes each job that it tracks and that did not fail for passed. */
async function playOriginal({ steps }: Original) {
  const { store } = memoryStore();
  const runs: Run[] = [];
  for (const { pipeline_id, commit, failed_jobs } of steps.filter(({ bypassed }) => !bypassed)) {
    const failing = failed_jobs.map(({ name, id }) => failed(name, { id }));
    const tracked = [...(runs.at(-1)?.document.jobs.keys() ?? [])];
    const others = tracked.filter((name) => !failed_jobs.some((job) => job.name === name));
    const variables = { CI_PIPELINE_ID: `${pipeline_id}`, CI_COMMIT_SHA: commit };
    runs.push((await runOf([...failing, ...others.map((name) => passed(name))], variables, { store })).run);
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
        .map(({ id, failing, commit }) => ({ id, failing, commit: failing ? commit : null })),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

/** The jobs that reach a threshold of the original for the first time: where, and whether an alert is open then. */
async function playThresholds(original: Original) {
  const runs = await playOriginal(original);
  const counted = original.steps.filter(({ bypassed }) => !bypassed);
  const reached = counted.flatMap(({ pipeline_id, reached: { consecutive, cumulative } }, i) => {
    const names = Object.keys({ ...consecutive, ...cumulative });
    return names.map((name) => ({ name, pipeline_id, isOpen: isOpen(runs[i]?.document.jobs.get(name)?.alert) }));
  });
  return reached.filter(({ name }, i) => reached.findIndex((other) => other.name === name) === i);
}

describe("the sequences of fixtures/original", () => {
  const sequences = readdirSync(ORIGINAL).map((file): [file: string, original: Original] => {
    return [file, JSON.parse(readFileSync(join(ORIGINAL, file), "utf8"))];
  });

  for (const [file, original] of sequences) {
    test(`${file} leaves the windows and counters of the original`, async () => {
      const { pipeline_id, jobs } = original.document;
      const failing = Object.entries(jobs).filter(([, job]) => job.jobs_info.some((execution) => execution.failing));
      const document = (await playOriginal(original)).at(-1)?.document;
      assert.equal(document?.pipeline_id, pipeline_id);
      assert.deepEqual(comparable(document?.jobs ?? []), comparable(failing));
    });
  }

  test("open an alert wherever the original reaches a threshold of a job for the first time", async () => {
    const first = (await Promise.all(sequences.map(([, original]) => playThresholds(original)))).flat();
    const silent = first.filter(({ isOpen }) => !isOpen);
    assert.deepEqual(silent, []);
    assert.ok(first.length >= 10, `Only ${first.length} jobs reach a threshold in these sequences`);
  });
});
