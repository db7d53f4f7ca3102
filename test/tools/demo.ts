/**
 * Plays seven pipelines of a made-up project, eight hours apart, on a local document: a new base image breaks forty jobs
 * for three of them. Shows what the channel gets, then the table, and writes the page.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  checkConsistentFailures,
  formatTable,
  openJobs,
  openStore,
  PLAIN,
  parseSettings,
  type Sender,
  writeMessage,
} from "../../check-failures.ts";
import { RUNTIME } from "../support/run.ts";

const HOURS_APART = 8;
const MAX_ROWS = 6;
const fixtures = fileURLToPath(new URL("../../fixtures/demo/", import.meta.url));
const page = fileURLToPath(new URL("page.ts", import.meta.url));
const commits: Record<string, { sha: string; title: string }> = JSON.parse(
  readFileSync(join(fixtures, "commits.json"), "utf8"),
);
const folder = mkdtempSync(join(tmpdir(), "check-failures-demo-"));
const JOB_EXECUTIONS_URL = join(folder, "job_executions.v2.json");

/** What a channel shows of a message: links as their labels. Of a long list, only its ends. */
const sender: Sender = {
  place: "this screen",
  check: async () => "",
  send: async (message) => {
    const text = writeMessage(message, { ...PLAIN, link: (label) => label });
    console.log(`${text.replace(/^((?:[^,\n]+, ){3})(?:[^,\n]+, ){9,}/gm, "$1… ")}\n`);
  },
};

/** Counts a pipeline as its CI would, so many hours ago. */
async function countPipeline(id: string, hoursAgo: number) {
  const { sha, title } = commits[id] ?? { sha: "", title: "" };
  const { pipeline, limits, store, jobs } = parseSettings({
    GITLAB_CI: "true",
    CI_PIPELINE_ID: id,
    CI_COMMIT_SHA: sha,
    CI_COMMIT_MESSAGE: title,
    CI_COMMIT_BRANCH: "main",
    CI_PROJECT_PATH: "acme/shop",
    CI_PROJECT_URL: "https://gitlab.example.com/acme/shop",
    PIPELINE_JOBS_FILE: join(fixtures, `pipeline-${id}.json`),
    JOB_EXECUTIONS_URL,
  });
  const { signal } = new AbortController();
  const now = new Date(Date.now() - hoursAgo * 3_600_000);
  const world = { store: openStore(store), jobs: openJobs(jobs, Number(id), signal), sender, pause, signal };
  const { document } = await checkConsistentFailures(
    { pipeline, limits, broadcast: "#ci", now, run: `of ${id}` },
    world,
  );
  return formatTable(document, limits, MAX_ROWS);
}

/** Writes the page of the document as a process of its own. */
function writePage(): string {
  const [command = "", ...options] = RUNTIME;
  const env = { PATH: process.env.PATH };
  const { status, stdout, stderr } = spawnSync(command, [...options, page, JOB_EXECUTIONS_URL], {
    encoding: "utf8",
    env,
  });
  if (status !== 0) throw new Error(stderr);
  const file = join(folder, "page.html");
  writeFileSync(file, stdout);
  return file;
}

const ids = Object.keys(commits);
let table = "";
for (const [i, id] of ids.entries()) table = await countPipeline(id, HOURS_APART * (ids.length - 1 - i));
console.log(`$ npx tsx check-failures.ts report\n${table.replace(/ more: .*/, " more rows")}`);
console.log(`\nThe page: ${writePage()}`);
