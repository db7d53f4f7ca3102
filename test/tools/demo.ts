/**
 * Plays seven pipelines of a project in which a new base image breaks forty jobs: as its CI would, by one process for
 * each pipeline, on a local document.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { RUNTIME, SCRIPT } from "../support/run.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/demo/", import.meta.url));
const commits: Record<string, { sha: string; title: string; author: string }> = JSON.parse(
  readFileSync(join(fixtures, "commits.json"), "utf8"),
);
const folder = mkdtempSync(join(tmpdir(), "check-failures-demo-"));
copyFileSync(join(fixtures, "document.json"), join(folder, "job_executions.v2.json"));
const [command = "", ...options] = RUNTIME;
try {
  for (const [pipeline, { sha, title, author }] of Object.entries(commits)) {
    console.log(`\n$ CI_PIPELINE_ID=${pipeline} CI_COMMIT_SHA=${sha} tsx check-failures.ts\n`);
    const { status } = spawnSync(command, [...options, SCRIPT], {
      cwd: folder,
      stdio: "inherit",
      env: {
        PATH: process.env.PATH,
        TERM: process.env.TERM,
        CI_PIPELINE_ID: pipeline,
        CI_COMMIT_SHA: sha,
        CI_COMMIT_TITLE: title,
        CI_COMMIT_AUTHOR: author,
        CI_COMMIT_BRANCH: "main",
        CI_PROJECT_PATH: "acme/shop",
        CI_PROJECT_URL: "https://gitlab.example.com/acme/shop",
        PIPELINE_JOBS_FILE: join(fixtures, `pipeline-${pipeline}.json`),
      },
    });
    if (status !== 0) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
