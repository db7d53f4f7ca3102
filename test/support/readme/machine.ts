/** A CI's machine on which README's snippets are played: a workspace, stand-ins for programs, and nobody's settings. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Variables } from "../builders.ts";
import { makeFolder, RUNTIME, start } from "../run.ts";

const quote = (words: string[]) => words.map((word) => `'${word}'`).join(" ");
const GH = fileURLToPath(new URL("gh.mjs", import.meta.url));

const PROGRAMS: Record<string, string> = {
  node: `case "$1" in *.ts) exec ${quote(RUNTIME)} "$@" ;; *) exec '${process.execPath}' "$@" ;; esac`,
  gh: `exec '${process.execPath}' '${GH}' "$@"`,
};

/** Which of these programs are not on this machine. */
export const missingOf = (...programs: string[]) =>
  programs.filter((program) => spawnSync(program, ["--version"]).error !== undefined);

/** For the options of a test: why it is skipped, or false. */
export const without = (...programs: string[]) => {
  const missing = missingOf(...programs);
  return missing.length > 0 && `${missing.join(" and ")} not found`;
};

/** `programs` maps the names of further stand-ins to their scripts for `sh`; they find this folder in $MACHINE. */
export function makeMachine(programs: Record<string, string> = {}) {
  const { path, remove } = makeFolder();
  const inside = (name: string) => join(path, name);
  for (const folder of ["bin", "work", "temp", "home", "gh"]) mkdirSync(inside(folder));
  for (const [name, text] of Object.entries({ ...PROGRAMS, ...programs })) {
    writeFileSync(inside(`bin/${name}`), `#!/bin/sh\n${text}\n`);
    chmodSync(inside(`bin/${name}`), 0o755);
  }
  const env = {
    ...{ MACHINE: path, PATH: `${inside("bin")}:${process.env.PATH}`, TMPDIR: inside("temp"), CI: "true" },
    ...{ HOME: inside("home"), GIT_CONFIG_NOSYSTEM: "1", EMAIL: undefined },
  };
  return {
    path,
    inside,
    /** Where a snippet runs. */
    work: inside("work"),
    remove,
    read: (name: string) => (existsSync(inside(name)) ? readFileSync(inside(name), "utf8") : undefined),
    write: (name: string, content: unknown) =>
      writeFileSync(inside(name), typeof content === "string" ? content : JSON.stringify(content)),
    play: (script: string, variables: Variables = {}, options = ["-e"], cwd = inside("work")) =>
      start([], { ...env, ...variables }, cwd, ["bash", "--noprofile", "--norc", ...options, "-c", script]).result,
    /** What was asked of `gh`, without what was asked before. */
    takeCalls() {
      const text = existsSync(inside("gh/calls.json")) ? readFileSync(inside("gh/calls.json"), "utf8") : "";
      writeFileSync(inside("gh/calls.json"), "");
      const lines = text.split("\n").filter((line) => line !== "");
      return lines.map((line): { args: string[]; body?: string } => JSON.parse(line));
    },
    issues(): Issue[] {
      return JSON.parse(existsSync(inside("gh/issues.json")) ? readFileSync(inside("gh/issues.json"), "utf8") : "[]");
    },
  };
}

/**
 * Pushes so many commits with this title as Ada Lovelace from the machine's workspace, and gives the last of them and
 * the commit before the push: zeros where there was none, as GitLab has it.
 */
export async function push(machine: Machine, title: string, commits: number): Promise<{ before: string; sha: string }> {
  const commit = `git commit --quiet --allow-empty -m '${title}'`;
  const script = [
    ...["git init --quiet --initial-branch=main", `git rev-parse --verify --quiet HEAD || echo ${"0".repeat(40)}`],
    ...Array.from({ length: commits }, () => commit),
    "git rev-parse HEAD",
  ];
  const author = { GIT_AUTHOR_NAME: "Ada Lovelace", GIT_COMMITTER_NAME: "Ada Lovelace" };
  const emails = { GIT_AUTHOR_EMAIL: "ada@localhost", GIT_COMMITTER_EMAIL: "ada@localhost" };
  const { code, stdout, stderr } = await machine.play(script.join("\n"), { ...author, ...emails });
  if (code !== 0) throw new Error(stderr);
  const [before = "", sha = ""] = stdout.split("\n");
  return { before, sha };
}

export type Machine = ReturnType<typeof makeMachine>;
export type Issue = { number: number; state: string; label: string; title: string; said: string[] };
