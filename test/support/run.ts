/** Runs the script as its users do: as a process of its own, with nothing in its environment but what a test gives. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

export const SCRIPT = fileURLToPath(new URL("../../check-failures.ts", import.meta.url));

/** The command that runs a script: tsx, or what CHECK_FAILURES_RUNTIME names (a JSON array), for other runtimes. */
export const RUNTIME: string[] = JSON.parse(process.env.CHECK_FAILURES_RUNTIME ?? "null") ?? [
  process.execPath,
  "--import",
  import.meta.resolve("tsx"),
];

export type Result = { code: number | null; signal: string | null; stdout: string; stderr: string };

export function start(
  args: string[],
  env: Record<string, string | undefined>,
  cwd: string,
  [file = "", ...options]: string[] = [...RUNTIME, SCRIPT],
) {
  // Deno fetches packages itself, where a proxy may have a certificate that only the system knows.
  const inherited = { PATH: process.env.PATH, HOME: process.env.HOME, DENO_TLS_CA_STORE: "system" };
  const child: ChildProcess = spawn(file, [...options, ...args], { cwd, env: { ...inherited, ...env } });
  const ended = new Promise<[number | null, string | null]>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (...end) => resolve(end));
  });
  const { stdout, stderr } = child;
  if (!stdout || !stderr) throw new Error("Expected pipes");
  const result = Promise.all([ended, text(stdout), text(stderr)]).then(
    ([[code, signal], stdout, stderr]): Result => ({ code, signal, stdout, stderr }),
  );
  return { child, result };
}

export const run = (args: string[], env: Record<string, string | undefined>, cwd: string = tmpdir()) =>
  start(args, env, cwd).result;

/** A folder of its own for a test, with files in it; `remove` it when the test is over. */
export function makeFolder(files: Record<string, unknown> = {}) {
  const path = mkdtempSync(join(tmpdir(), "check-failures-"));
  for (const [name, content] of Object.entries(files)) {
    const isText = typeof content === "string" || content instanceof Uint8Array;
    writeFileSync(join(path, name), isText ? content : JSON.stringify(content));
  }
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
