/**
 * Plays seven pipelines of a project in which a new base image breaks forty jobs: as its CI would, by one process for
 * each pipeline, on a local document. Shows what a channel gets, then the table, and writes the page.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { RUNTIME, SCRIPT } from "../support/run.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/demo/", import.meta.url));
const page = fileURLToPath(new URL("page.ts", import.meta.url));
const commits: Record<string, { sha: string; title: string; author: string }> = JSON.parse(
  readFileSync(join(fixtures, "commits.json"), "utf8"),
);
const folder = mkdtempSync(join(tmpdir(), "check-failures-demo-"));
const document = join(folder, "job_executions.v2.json");
const [command = "", ...options] = RUNTIME;
const { PATH, TERM, NO_COLOR, FORCE_COLOR } = process.env;
const surroundings = { PATH, TERM, NO_COLOR, FORCE_COLOR, JOB_EXECUTIONS_URL: document };

function run(args: string[], env: Record<string, string> = {}): string {
  const { status, stdout, stderr } = spawnSync(command, [...options, ...args], {
    encoding: "utf8",
    env: { ...surroundings, ...env },
  });
  if (status !== 0) {
    process.exitCode = 1;
    console.error(stderr);
  }
  return stdout;
}

/** What Slack shows of a text: links as their labels. Of a long list, only its ends. */
const shown = (mrkdwn: string) =>
  mrkdwn
    .replace(/<[^|<>]+\|([^<>]+)>/g, "$1")
    .replace(/^((?:[^,\n]+, ){3})(?:[^,\n]+, ){9,}/gm, "$1… ")
    .replace(/^/gm, "  │ ");

/** The table and the page, while the forty jobs are broken. */
function showDocument() {
  console.log("\n$ npx tsx check-failures.ts report");
  const lines = run([SCRIPT, "report"]).trimEnd().split("\n");
  console.log(lines.slice(0, 10).join("\n"));
  console.log(`… and ${lines.length - 10} more rows`);
  const file = join(folder, "page.html");
  writeFileSync(file, run([page, document]));
  return file;
}

let sent = 0;
let file = "";
for (const [pipeline, { sha, title, author }] of Object.entries(commits)) {
  const stdout = run([SCRIPT, "--json"], {
    GITLAB_CI: "true",
    CI_PIPELINE_ID: pipeline,
    CI_COMMIT_SHA: sha,
    CI_COMMIT_TITLE: title,
    CI_COMMIT_AUTHOR: author,
    CI_COMMIT_BRANCH: "main",
    CI_PROJECT_PATH: "acme/shop",
    CI_PROJECT_URL: "https://gitlab.example.com/acme/shop",
    PIPELINE_JOBS_FILE: join(fixtures, `pipeline-${pipeline}.json`),
  });
  const { jobs, messages } = JSON.parse(stdout);
  sent += messages.length;
  console.log(`\nPipeline ${pipeline}, "${title}": ${jobs.failed} failed, ${jobs.passed} passed`);
  for (const { text } of messages) console.log(`\n${shown(text)}`);
  if (pipeline === "1004") file = showDocument();
}
console.log(`\n${Object.keys(commits).length} pipelines, ${sent} messages. The page after pipeline 1004: ${file}`);
