/** The recipes, as people copy them. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { SCRIPT } from "../run.ts";

export const PROJECT = dirname(SCRIPT);
export const RECIPES = join(PROJECT, "fixtures/recipes");

export const recipe = (name: string) => readFileSync(join(RECIPES, name), "utf8");
export const parsed = (name: string) => parse(recipe(name));
