/** Another implementation of S3, where it is installed: what the stand-in and the script are held against. */
import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";

/** Starts a `moto_server` that has one bucket. Resolves to undefined where it is not installed. */
export async function startMoto({ bucket = "bucket" } = {}) {
  // It would take a profile of AWS or a proxy from the environment for its own.
  const env = { PATH: process.env.PATH, HOME: process.env.HOME };
  const server = spawn("moto_server", ["-H", "127.0.0.1", "-p", "0"], { env, stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise<void>((resolve) => {
    server.on("error", () => resolve()); // there is no such command
    server.on("close", () => resolve());
  });
  const listening = new Promise<string>((resolve) => {
    createInterface(server.stderr).on("line", (line) => {
      const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(line) ?? [];
      if (url) resolve(url);
    });
  });
  const url = await Promise.race([listening, ended]);
  if (url === undefined) return undefined;
  const close = () => {
    server.kill();
    return ended;
  };
  const created = await fetch(`${url}/${bucket}`, { method: "PUT" });
  const answer = await created.text();
  if (created.ok) return { url, close };
  await close();
  throw new Error(`moto_server did not create the bucket ${bucket}: it answered ${created.status} ${answer}`);
}
