/** The recipes, as people copy them. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { SCRIPT } from "../run.ts";

export const PROJECT = dirname(SCRIPT);
export const RECIPES = join(PROJECT, "fixtures/recipes");

export const recipe = (name: string) => readFileSync(join(RECIPES, name), "utf8");
export const parsed = (name: string) => parse(recipe(name));

/** A job that failed so many times, without an alert, as it is stored after as many pipelines. */
export const failedTimes = (times: number) => ({
  consecutive_failures: times,
  jobs_info: Array.from({ length: times }, (_, i) => ({
    ...{ id: 100 + i, failing: true, commit: `c0ffee0${i}`, pipeline: i + 1 },
  })),
});

/** A document of two pipelines in which these jobs failed: they are broken with the third. */
export const failedTwice = (...names: string[]) => ({
  ...{ pipeline_id: 2, commit: "c0ffee01", counted_at: new Date().toISOString() },
  jobs: Object.fromEntries(names.map((name) => [name, failedTimes(2)])),
});
