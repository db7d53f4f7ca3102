/** A CI's machine on which recipes are played: a workspace, stand-ins for programs, and nobody's settings. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Variables } from "../builders.ts";
import { makeFolder, type Result, RUNTIME, start } from "../run.ts";

const quote = (words: string[]) => words.map((word) => `'${word}'`).join(" ");
/** What stands in for `gh`. */
export const GH = `exec sh '${fileURLToPath(new URL("gh.sh", import.meta.url))}' "$@"`;

const PROGRAMS: Record<string, string> = {
  node: `case "$1" in *.ts) exec ${quote(RUNTIME)} "$@" ;; *) exec '${process.execPath}' "$@" ;; esac`,
  gh: GH,
};

/** A program that is not there, as a shell sees it. */
export const MISSING = "echo not found >&2; exit 127";

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
    /** Where a recipe runs. */
    work: inside("work"),
    remove,
    read: (name: string) => (existsSync(inside(name)) ? readFileSync(inside(name), "utf8") : undefined),
    /** A text is written as it is, all else as JSON. */
    write(name: string, content: unknown) {
      mkdirSync(dirname(inside(name)), { recursive: true });
      writeFileSync(inside(name), typeof content === "string" ? content : JSON.stringify(content));
    },
    /** Copies a file to where the recipes have it. */
    put(file: string, name: string) {
      mkdirSync(dirname(inside(name)), { recursive: true });
      copyFileSync(file, inside(name));
    },
    play: (script: string, variables: Variables = {}, options = ["-eo", "pipefail"], cwd = inside("work")) =>
      start([], { ...env, ...variables }, cwd, ["bash", "--noprofile", "--norc", ...options, "-c", script]).result,
    /** What was asked of `gh`, each a list of words, without what was asked before. */
    takeCalls() {
      const text = existsSync(inside("gh/calls")) ? readFileSync(inside("gh/calls"), "utf8") : "";
      writeFileSync(inside("gh/calls"), "");
      return text.split("\n").flatMap((line) => (line ? [line.split("\x1f").slice(0, -1)] : []));
    },
    /** Lets `gh` fail where a call has one of these words in it. */
    failGh: (...words: string[]) => writeFileSync(inside("gh/fails"), words.map((word) => `${word}\n`).join("")),
    issues(): Issue[] {
      return JSON.parse(existsSync(inside("gh/issues.json")) ? readFileSync(inside("gh/issues.json"), "utf8") : "[]");
    },
  };
}

/** Fails with what a process said if it did not end well. */
export function assertDone({ code, stdout, stderr }: Result) {
  assert.equal(code, 0, `${stdout}\n${stderr}`);
}

/** Commits nothing in the machine's workspace, with this message, and gives the commit. */
export async function commit(machine: Machine, message: string): Promise<string> {
  const ada = { GIT_AUTHOR_NAME: "Ada Lovelace", GIT_COMMITTER_NAME: "Ada Lovelace", MESSAGE: message };
  const emails = { GIT_AUTHOR_EMAIL: "ada@localhost", GIT_COMMITTER_EMAIL: "ada@localhost" };
  const script = 'git init -q -b main && git commit -q --allow-empty -m "$MESSAGE" && git rev-parse HEAD';
  const result = await machine.play(script, { ...ada, ...emails });
  assertDone(result);
  return result.stdout.trim();
}

export type Machine = ReturnType<typeof makeMachine>;
export type Issue = { number: number; state: string; label: string; title: string; said: string[] };
