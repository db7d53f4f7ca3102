/** Plays the recipes for GitHub Actions as they stand: expressions by GitHub's own library, scripts in a shell. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import type { Variables } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { failedTwice, PROJECT, parsed, recipe } from "./support/recipes/files.ts";
import {
  contextOf,
  evaluate,
  examplesOf,
  fill,
  type Job,
  look,
  type Played,
  playJob,
  problemsOf,
  type Step,
  type Workflow,
} from "./support/recipes/github.ts";
import { assertDone, GH, type Machine, MISSING, makeMachine, without } from "./support/recipes/machine.ts";
import { makeFolder } from "./support/run.ts";
import { startS3 } from "./support/servers/s3.ts";
import { startSlack } from "./support/servers/slack.ts";
import { writeBundle } from "./tools/bundle.ts";

const [ISSUE, SLACK, S3, MANY] = [
  "github.yml",
  "github-slack.yml",
  "github-s3.yml",
  "many/github/check-failures.yml",
] as const;
const CALLER = "many/github/caller.yml";
const PAGE = "many/github/page.yml";
const WATCHERS = [ISSUE, SLACK, S3, MANY];

const workflows: Record<string, Workflow> = Object.fromEntries(
  [...WATCHERS, CALLER, PAGE].map((name) => [name, parsed(name)]),
);
const jobIn = (name: string): Job => {
  const [job] = Object.values(workflows[name]?.jobs ?? {});
  return job ?? assert.fail(name);
};

const built = makeFolder();
after(built.remove);
const BUNDLE = await writeBundle(built.path);

const RIGHTS = { actions: "read", checks: "read" };
const PERMISSIONS: Record<string, Record<string, string>> = {
  [ISSUE]: { ...RIGHTS, contents: "write", issues: "write" },
  [SLACK]: { ...RIGHTS, contents: "write" },
  [S3]: { ...RIGHTS, contents: "read", "id-token": "write" },
  [MANY]: { ...RIGHTS, contents: "write", issues: "write" },
  [CALLER]: { ...RIGHTS, contents: "write", issues: "write" },
  [PAGE]: { contents: "read", pages: "write", "id-token": "write" },
};

for (const [name, workflow] of Object.entries(workflows)) {
  const steps = jobIn(name).steps ?? [];

  test(`${name} passes actionlint`, async () => {
    assert.deepEqual(await problemsOf(recipe(name)), []);
  });

  test(`${name} has the rights that it needs, and no more`, () => {
    assert.deepEqual(workflow.permissions, PERMISSIONS[name]);
  });

  test(`${name} pins each action to a commit, but for those of acme/ci`, () => {
    for (const { uses = "acme/ci" } of steps) assert.match(uses, /^acme\/ci|@[0-9a-f]{40}$/);
  });

  test(`${name} has no expression in a script`, () => {
    for (const { run = "" } of steps) assert.doesNotMatch(run, /\$\{\{/);
  });
}

for (const name of WATCHERS) {
  const job = jobIn(name);

  test(`${name} lets runs take turns, leaves none out, and has shells that fail with a pipe`, () => {
    const group = `check-failures-\${{ github.event.workflow_run.workflow_id }}`;
    const { concurrency, defaults } = workflows[name] ?? {};
    assert.deepEqual([concurrency, defaults], [{ group, queue: "max" }, { run: { shell: "bash" } }]);
  });

  test(`${name} gives tokens to the steps that need one, and values of the event to none`, () => {
    assert.doesNotMatch(JSON.stringify(job.env), /token|secrets/);
    for (const { name: step = "", env = {} } of job.steps) {
      assert.equal(/token|secrets/.test(JSON.stringify(env)), /^(List|Count|Keep)/.test(step), step);
      assert.doesNotMatch(JSON.stringify(env), /github\.event\.workflow_run/);
    }
  });

  test(`${name} reads of the event only what each of GitHub's examples has`, () => {
    const paths = [...JSON.stringify(job).matchAll(/github\.event\.([\w.]+)/g)].map(([, path = ""]) => path);
    assert.ok(paths.length > 10);
    for (const example of examplesOf("workflow_run"))
      for (const path of paths) assert.notEqual(look(example, path) ?? undefined, undefined, path);
  });

  const RUNS: [changes: object, runs: boolean, title: string][] = [
    [{}, true, "a push to the default branch"],
    [{ event: "schedule" }, true, "a schedule"],
    [{ event: "workflow_dispatch" }, true, "a run by hand"],
    [{ event: "merge_group", head_branch: "gh-readonly-queue/master/pr-7-0ddba11" }, true, "the merge queue"],
    [{ event: "merge_group", head_branch: "gh-readonly-queue/next/pr-7-0ddba11" }, false, "another branch's queue"],
    [{ event: "pull_request" }, false, "a pull request from the default branch to another"],
    [{ event: "pull_request_target" }, false, "the same with the rights of the target"],
    [{ head_branch: "feature" }, false, "another branch"],
    [{ head_repository: { full_name: "fork/shop" } }, false, "a fork whose branch has the same name"],
    [{ head_repository: null }, false, "a fork that was deleted"],
  ];
  for (const [changes, runs, title] of RUNS) {
    test(`${name} ${runs ? "counts" : "leaves out"} ${title}`, () => {
      assert.equal(evaluate(job.if, contextOf(changes)).coerceString(), `${runs}`);
    });
  }

  test(`${name} does nothing in a fork`, () => {
    const { github, secrets } = contextOf();
    const forked = JSON.parse(JSON.stringify(github).replaceAll("acme/", "ada/"));
    assert.equal(evaluate(job.if, { secrets, github: { ...forked, repository_owner: "ada" } }).coerceString(), "false");
  });

  test(`${name} counts a run of the merge queue as one of the default branch`, () => {
    const context = contextOf({ event: "merge_group", head_branch: "gh-readonly-queue/master/pr-7-0ddba11" });
    const { CI_COMMIT_BRANCH = "", CI_DEFAULT_BRANCH = "" } = job.env;
    assert.deepEqual([fill(CI_COMMIT_BRANCH, context), fill(CI_DEFAULT_BRANCH, context)], ["master", "master"]);
  });
}

test("the line for the merge queue can be taken out, as the recipe says", () => {
  const lines = recipe(ISSUE).split("\n");
  const without = lines.filter((line) => line.startsWith("#") || !line.includes("gh-readonly-queue"));
  assert.equal(lines.length - without.length, 1);
  const condition = jobIn(ISSUE).if.replace(/startsWith\(\S+, format\([^)]*\)\) \|\|/, "");
  const queue = contextOf({ event: "merge_group", head_branch: "gh-readonly-queue/master/pr-7-0ddba11" });
  assert.deepEqual(
    [contextOf(), queue].map((context) => evaluate(condition, context).coerceString()),
    ["true", "false"],
  );
});

test("the variants differ from the first in what they say they do, and in little else", () => {
  const linesOf = (name: string) =>
    recipe(name)
      .split("\n")
      .filter((line) => !line.startsWith("#"));
  const first = new Set(linesOf(ISSUE));
  const changed = [SLACK, S3, MANY].map((name) => linesOf(name).filter((line) => !first.has(line)).length);
  assert.deepEqual(changed, [4, 6, 6]);
});

// --- Played

type Conclusion = "success" | "failure" | "cancelled";
const ID = 2_823_525; // of the workflow in GitHub's example
const BRANCH = `check-failures-${ID}`;

/** A job of a run as GitHub lists it. */
const jobOf = (id: number, name: string, conclusion: Conclusion, steps = [{ name: "Run npm test", conclusion }]) => ({
  ...{ id, name, run_attempt: 1, status: "completed", conclusion, steps },
  html_url: `https://github.com/acme/shop/actions/runs/1/job/${id}`,
});
type GitHubJobOf = ReturnType<typeof jobOf>;
/** What `gh` lists of them, in pages of one job. */
const listingOf = (jobs: GitHubJobOf[]) => jobs.map((job) => ({ total_count: jobs.length, jobs: [job] }));
const unit = (run: number, conclusion: Conclusion) => [
  jobOf(run * 10 + 1, "unit", conclusion),
  jobOf(run * 10 + 2, "lint", "success"),
];

/** A repository on GitHub, and a recipe in it whose runs can be played. */
async function makeRepository(name: string = ISSUE, programs: Record<string, string> = {}) {
  const job = jobIn(name);
  const machine = makeMachine(programs);
  const seed = `git init -q -b main seed && mkdir seed/ci && cp '${BUNDLE}' seed/ci && cd seed &&
    echo '*.json working-tree-encoding=UTF-16' > .gitattributes && git add . &&
    git -c user.name=a -c user.email=a@localhost commit -qm seed && git clone -q --bare . "$MACHINE/remote.git"`;
  assertDone(await machine.play(seed, {}, ["-e"], machine.path));
  const git = (...args: string[]) => spawnSync("git", ["-C", machine.inside("remote.git"), ...args]).stdout.toString();

  type Options = { changes?: object; vars?: object; variables?: Variables; between?: Record<string, () => unknown> };
  async function play(
    run_number: number,
    jobs: GitHubJobOf[],
    { changes = {}, vars = {}, variables = {}, between = {} }: Options = {},
  ) {
    machine.write("gh/listed.json", listingOf(jobs));
    rmSync(machine.work, { recursive: true, force: true });
    const head_sha = `0ddba1${run_number}`.padEnd(40, "0");
    const head_commit = { message: `Commit ${run_number}\n\nWhy.` };
    const context = { ...contextOf({ run_number, head_sha, head_commit, ...changes }), vars };
    const use = ({ uses = "", with: given = {} }: Step): Variables => {
      if (uses.startsWith("actions/checkout@")) {
        const url = `file://${machine.path}/remote.git`;
        const options = ["clone", "--quiet", "--depth=1", "--branch=main", url, machine.work];
        assert.equal(spawnSync("git", options).status, 0);
        return {};
      }
      if (uses === "acme/ci@main") {
        const { runs } = parsed("many/github/action.yml");
        const options = { cwd: machine.work, env: { ...process.env, GITHUB_ACTION_PATH: built.path } };
        for (const { run } of runs.steps) assert.equal(spawnSync("bash", ["-ec", run], options).status, 0);
        rmSync(join(machine.work, "ci"), { recursive: true });
        return {};
      }
      assert.match(uses, /^aws-actions\/configure-aws-credentials@/);
      return { AWS_REGION: given["aws-region"], AWS_ACCESS_KEY_ID: "AKIAROLE", AWS_SECRET_ACCESS_KEY: "secret" };
    };
    const started: Variables = {
      ...{ GITHUB_ACTIONS: "true", GITHUB_REPOSITORY: "acme/shop", GITHUB_REPOSITORY_OWNER: "acme" },
    };
    const playScript = async (script: string, set: Variables) => {
      const result = await machine.play(script, { ...started, ...set, ...variables });
      for (const [words, act] of Object.entries(between)) if (script.includes(words)) await act();
      return { result, outputs: "" };
    };
    return playJob(job, context, playScript, use);
  }

  return {
    machine,
    git,
    play,
    /** Puts a document on the branch, as an earlier run has left it. */
    async store(document: object, branch = BRANCH) {
      machine.write("document.json", document);
      const script = `blob=$(git hash-object -w ../document.json)
        tree=$(printf '100644 blob %s\\tdocument.json\\n' "$blob" | git mktree)
        commit=$(git -c user.name=a -c user.email=a@localhost commit-tree -m stored "$tree")
        git update-ref refs/heads/${branch} "$commit"`;
      assertDone(await machine.play(script, {}, ["-eo", "pipefail"], machine.inside("remote.git")));
    },
    remove: machine.remove,
    /** The document that the branch holds. */
    stored: (branch = BRANCH) => JSON.parse(git("show", `${branch}:document.json`) || "null"),
  };
}

const assertPlayed = ({ code, steps }: Played) => assert.equal(code, 0, JSON.stringify(steps, null, 2));
const failedSteps = ({ steps }: Played) => steps.filter(({ code }) => code !== 0).map(({ name }) => name);
const shown = (machine: Machine) =>
  machine.issues().map(({ state, said, title }) => `${state} ${said.length} ${title}`);

const NEEDED = without("bash", "git", "jq");

describe("github.yml, played with a branch and an issue", { skip: NEEDED, concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const HELLO = /^closed 1 👋/;

  test("has one issue that is open while anything is broken, and whose title is true", async () => {
    const { machine, git, play, stored, remove } = await makeRepository();
    cleanUp(remove);
    const days: [run: number, conclusion: Conclusion, issue: RegExp][] = [
      [10, "success", HELLO],
      [11, "failure", HELLO],
      [12, "failure", HELLO],
      [13, "failure", /^open 2 🔴 test: 1 broken: unit$/],
      [14, "failure", /^open 2 🔴 test: 1 broken: unit$/],
      [15, "success", /^open 2 🔴 test: 1 broken: unit$/],
      [16, "success", /^open 2 🔴 test: 1 broken: unit$/],
      [17, "success", /^closed 3 🟢 test: no alert is open$/],
    ];
    for (const [run, conclusion, issue] of days) {
      assertPlayed(await play(run, unit(run, conclusion), { changes: { id: 4242 } }));
      assert.match(shown(machine).join(), issue, `run ${run}`);
      assert.equal(stored().pipeline_id, run);
    }
    const path = "repos/acme/shop/actions/runs/4242/jobs?filter=all&per_page=100"; // every attempt, and all pages
    assert.deepEqual(machine.takeCalls()[0], ["api", "--paginate", "--slurp", path]);
    const [, alert = "", recovery = ""] = machine.issues()[0]?.said ?? [];
    assert.match(alert, /^🔴 .*unit.* broken in acme\/shop test.* since .*Commit 11.*\[pipeline 13\]\(https:/);
    assert.match(alert, /\[unit\]\(https:.*\/job\/131\) .*failed 3 times in a row/);
    assert.match(recovery, /unit.* recovered/);
    // The branch shows the document to whoever opens it, and does not grow.
    assert.equal(git("ls-tree", "--name-only", BRANCH), "document.json\n");
    assert.equal(git("rev-list", "--count", BRANCH), "1\n");
    assert.equal(git("for-each-ref", "--format=%(refname:short)"), `${BRANCH}\nmain\n`);
    assert.equal(git("log", "-1", "--format=%an %s", BRANCH), "check-failures Run 17 [skip ci]\n");
    assert.deepEqual(readdirSync(machine.inside("home")), [], "none of git's settings are needed");
  });

  test("says in the title what is broken still when another job has recovered", async () => {
    const { machine, play, store, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit", "lint"));
    const jobs = (run: number, first: Conclusion) => [
      jobOf(run * 10 + 1, "unit", first),
      jobOf(run * 10 + 2, "lint", "failure"),
    ];
    assertPlayed(await play(3, jobs(3, "failure")));
    assert.deepEqual(shown(machine), ["open 1 🔴 test: 2 broken: lint, unit"]);
    for (const run of [4, 5, 6]) assertPlayed(await play(run, jobs(run, "success")));
    assert.deepEqual(shown(machine), ["open 2 🔴 test: 1 broken: lint"]);
  });

  test("closes the issue of a job that only failed often, whose alert closes without a message", async () => {
    const { machine, play, store, remove } = await makeRepository();
    cleanUp(remove);
    const at = new Date().toISOString();
    const alert = { kind: "cumulative", pipeline_id: 3, at, changed_at: at, times: 3, executions: 4, told: { "": at } };
    const jobs_info = [..."✗✗··"].map((mark, i) => ({
      ...{ id: mark === "✗" ? i : null, failing: mark === "✗", commit: `c0ffee0${i}`, pipeline: i },
    }));
    await store({ pipeline_id: 3, counted_at: at, jobs: { unit: { consecutive_failures: 0, jobs_info, alert } } });
    machine.write("gh/issues.json", [{ number: 1, state: "open", label: BRANCH, title: "🔴 unit", said: ["🔴 unit"] }]);
    assertPlayed(await play(4, unit(4, "success")));
    assert.deepEqual(shown(machine), ["closed 1 🟢 test: no alert is open"]);
  });

  test("opens the issue again that a bot has closed while a job is broken, and is content with one that is", async () => {
    const { machine, play, store, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    assertPlayed(await play(3, unit(3, "failure")));
    machine.write(
      "gh/issues.json",
      machine.issues().map((issue) => ({ ...issue, state: "closed" })),
    );
    assertPlayed(await play(4, unit(4, "failure")));
    assert.match(shown(machine).join(), /^open 1 🔴 test: 1 broken: unit$/);
    machine.takeCalls();
    assertPlayed(await play(5, unit(5, "failure")));
    assert.deepEqual(
      machine.takeCalls().filter(([word]) => word === "issue"),
      [],
    );
  });

  test("opens another issue where somebody took the label off the first", async () => {
    const { machine, play, store, remove } = await makeRepository();
    cleanUp(remove);
    const { jobs, ...latest } = failedTwice("unit");
    const at = latest.counted_at;
    const alert = { kind: "consecutive", pipeline_id: 2, at, changed_at: at, times: 3, told: { "": at } };
    await store({ ...latest, jobs: { unit: { ...jobs.unit, alert } } });
    machine.write("gh/issues.json", [{ number: 1, state: "open", label: "bug", title: "🔴 unit", said: [] }]);
    assertPlayed(await play(3, unit(3, "failure")));
    assert.deepEqual(shown(machine), ["open 0 🔴 unit", "open 1 🔴 test: 1 broken: unit"]);
  });

  test("leaves the issue open where the document was lost", async () => {
    const { machine, git, play, store, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    assertPlayed(await play(3, unit(3, "failure")));
    git("branch", "--delete", "--force", BRANCH);
    assertPlayed(await play(4, unit(4, "success")));
    assert.match(shown(machine).join(), /^open 2 🔴 test: 1 broken: unit$/);
    assert.match(machine.issues()[0]?.said[1] ?? "", /^👋/);
  });

  test("touches no pull request, and opens an issue of its own beside one", async () => {
    const { machine, play, store, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    const pull = { number: 1, url: "u", state: "open", label: BRANCH, title: "A change", said: [], pull_request: {} };
    machine.write("gh/issues.json", [pull]);
    assertPlayed(await play(3, unit(3, "failure")));
    const [first, ...others] = machine.issues();
    assert.deepEqual(first, pull);
    assert.match(others.map(({ title }) => title).join(), /^🔴 test: 1 broken: unit$/);
  });

  test("keeps titles within what GitHub takes, of many jobs with long names", async () => {
    const { machine, play, store, remove } = await makeRepository();
    cleanUp(remove);
    const names = Array.from({ length: 9 }, (_, i) => `${i} ${"🐌 end to end ".repeat(18)}`);
    await store(failedTwice(...names));
    assertPlayed(
      await play(
        3,
        names.map((name, i) => jobOf(300 + i, name, "failure")),
      ),
    );
    assert.match(shown(machine).join(), /^open 1 🔴 test: 9 broken: 0 .*, 1 .*, 2 .*, …$/);
  });

  test("does not take an outage for a first day: nothing is counted, told or stored", async () => {
    const { machine, git, play, store, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    const before = git("rev-parse", BRANCH);
    machine.takeCalls();
    const away = { "gh api --paginate": () => machine.play('mv "$MACHINE/remote.git" "$MACHINE/away"') };
    const played = await play(3, unit(3, "failure"), { between: away });
    assert.deepEqual(failedSteps(played), ["Fetch the document"]);
    assert.equal(played.steps.at(-1)?.name, "Fetch the document", "no step follows");
    assert.deepEqual(
      machine.takeCalls().map(([word]) => word),
      ["api"],
    );
    await machine.play('mv "$MACHINE/away" "$MACHINE/remote.git"', {}, ["-e"], machine.path);
    assert.equal(git("rev-parse", BRANCH), before);
  });

  test("does not store a document that it could not read whole", async () => {
    const { git, play, store, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    // The branch is there, and its file is not.
    const tree = git("mktree", "--missing").trim() || "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    const commit = git("-c", "user.name=a", "-c", "user.email=a@localhost", "commit-tree", "-m", "empty", tree).trim();
    git("update-ref", `refs/heads/${BRANCH}`, commit);
    assert.deepEqual(failedSteps(await play(3, unit(3, "failure"))), ["Fetch the document"]);
    assert.equal(git("rev-parse", BRANCH).trim(), commit);
  });

  test("is refused where the branch has changed since it was fetched, and leaves the issue alone", async () => {
    const { machine, play, store, stored, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    const change = `tree=$(git rev-parse ${BRANCH}:) &&
      git -c user.name=a -c user.email=a@localhost commit-tree -m other $tree | xargs git update-ref refs/heads/${BRANCH}`;
    const between = { "git ls-remote": () => machine.play(change, {}, ["-e"], machine.inside("remote.git")) };
    const played = await play(3, unit(3, "failure"), { between });
    assert.deepEqual(failedSteps(played), ["Store the document"]);
    assert.match(played.steps.at(-1)?.stderr ?? "", /stale info/);
    assert.equal(stored().pipeline_id, 2);
  });

  test("stores what could not be told, and the next run tells it once", async () => {
    const { machine, play, store, stored, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    machine.failGh("/issues?");
    assert.deepEqual(failedSteps(await play(3, unit(3, "failure"))), ["Count and tell"]);
    assert.deepEqual(shown(machine), [], "an issue that can't be looked up is not opened");
    assert.equal(stored().pipeline_id, 3);
    machine.failGh();
    for (const run of [4, 5]) assertPlayed(await play(run, unit(run, "failure")));
    assert.deepEqual(shown(machine), ["open 1 🔴 test: 1 broken: unit"]);
  });

  test("counts as failed what ran out of time or found no runner, and nothing else that was cancelled", async () => {
    const { machine, play, store, stored, remove } = await makeRepository();
    cleanUp(remove);
    const names = ["late", "old", "waiting", "stopped", "silent"];
    await store(failedTwice(...names));
    const jobs = names.map((name, i) => jobOf(30 + i, name, "cancelled", name === "waiting" ? [] : undefined));
    machine.write("gh/annotations.json", {
      30: ["Node.js 20 is deprecated.", "The job has exceeded the maximum execution time of 30m0s"],
      31: ["The job running on runner A has exceeded the maximum execution time of 360 minutes."],
      32: ["The job has exceeded the maximum execution time while awaiting a runner for 24h0m0s"],
      33: ["The operation was canceled.", "Canceling since a higher priority waiting request exists"],
    });
    assertPlayed(await play(3, [...jobs, jobOf(30 + 9, "lint", "success")]));
    const alerts = Object.entries<{ alert?: object }>(stored().jobs).filter(([, { alert }]) => alert);
    assert.deepEqual(alerts.map(([name]) => name).sort(), ["late", "old", "waiting"]);
    assert.match(machine.issues()[0]?.said[0] ?? "", /3 jobs \(timed_out\) failed 3 times in a row/);
  });

  test("asks of at most 50 cancelled jobs why they were, the last ones", async () => {
    const quick = `case "$*" in *annotations*) echo "$2" >> "$MACHINE/asked" ;; *) ${GH} ;; esac`;
    const { machine, play, remove } = await makeRepository(ISSUE, { gh: quick });
    cleanUp(remove);
    const jobs = Array.from({ length: 53 }, (_, i) => jobOf(1000 + i, `shard ${i}`, "cancelled"));
    assertPlayed(await play(1, [...jobs, jobOf(1, "lint", "success")]));
    const asked = [...(machine.read("asked") ?? "").matchAll(/check-runs\/(\d+)\//g)].map(([, id]) => id);
    assert.deepEqual([asked.length, asked[0], asked.at(-1)], [50, "1052", "1003"]);
  });

  test("counts nothing where it can't ask why a job was cancelled", async () => {
    const { machine, play, remove } = await makeRepository();
    cleanUp(remove);
    machine.failGh("/annotations");
    const played = await play(1, [jobOf(1, "late", "cancelled"), jobOf(2, "lint", "success")]);
    assert.deepEqual([failedSteps(played), played.steps.length], [["List the jobs"], 1]);
  });

  const BROKEN: [title: string, programs: Record<string, string>, jobs: GitHubJobOf[], step: string][] = [
    ["without jq", { jq: MISSING }, unit(1, "success"), "List the jobs"],
    ["without gh", { gh: MISSING }, unit(1, "success"), "List the jobs"],
    [
      "with a token that is refused",
      { gh: "echo 'gh: HTTP 401: Bad credentials' >&2; exit 1" },
      unit(1, "success"),
      "List the jobs",
    ],
    ["without node", { node: MISSING }, unit(1, "success"), "Count and tell"],
    ["where no job is listed", {}, [], "List the jobs"],
  ];
  for (const [title, programs, jobs, step] of BROKEN) {
    test(`fails ${title}`, async () => {
      const { play, git, remove } = await makeRepository(ISSUE, programs);
      cleanUp(remove);
      const played = await play(1, jobs);
      assert.deepEqual(failedSteps(played), [step]);
      assert.equal(git("for-each-ref", "--format=%(refname:short)"), "main\n");
    });
  }

  test("keeps two workflows apart: a document, a branch and an issue each", async () => {
    const { machine, play, store, stored, remove } = await makeRepository();
    cleanUp(remove);
    await store(failedTwice("unit"));
    await store(failedTwice("unit"), "check-failures-77");
    assertPlayed(await play(3, unit(3, "failure"), { changes: { workflow_id: 77 } }));
    assertPlayed(await play(3, unit(3, "success")));
    assert.deepEqual(
      [stored(), stored("check-failures-77")].map(({ jobs }) => jobs.unit.consecutive_failures),
      [0, 3],
    );
    assert.deepEqual(
      machine
        .issues()
        .map(({ label, state }) => `${label} ${state}`)
        .sort(),
      ["check-failures-77 open"],
    );
  });
});

describe("the variants of github.yml, played", { skip: NEEDED, concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();

  async function playVariant(name: string) {
    const repository = await makeRepository(name);
    const [s3, slack] = await Promise.all([startS3({ bucket: "ci-bucket" }), startSlack()]);
    for (const end of [repository.remove, s3.close, slack.close]) cleanUp(end);
    const variables = { AWS_ENDPOINT_URL_S3: s3.url, SLACK_API_URL: slack.apiUrl };
    const play = () => repository.play(3, unit(3, "failure"), { variables });
    const told = () => slack.messages.map(({ channel, text }) => `${channel} ${text.slice(0, 2)}`);
    const branches = () => repository.git("for-each-ref", "--format=%(refname:short)");
    return { ...repository, s3, play, told, branches };
  }

  test("github-slack.yml tells Slack, and keeps its document on the branch", async () => {
    const { store, stored, play, told, branches } = await playVariant(SLACK);
    await store(failedTwice("unit"));
    assertPlayed(await play());
    assert.deepEqual([told(), stored().pipeline_id, branches()], [["#ci-alerts 🔴"], 3, `${BRANCH}\nmain\n`]);
  });

  test("github-s3.yml tells Slack, and keeps its document in S3", async () => {
    const { s3, play, told, branches } = await playVariant(S3);
    const key = `acme/shop/${ID}.json`;
    s3.objects.set(key, Buffer.from(JSON.stringify(failedTwice("unit"))));
    assertPlayed(await play());
    assert.deepEqual([told(), [...s3.objects.keys()], branches()], [["#ci-alerts 🔴"], [key], "main\n"]);
    assert.equal(JSON.parse(`${s3.objects.get(key)}`).pipeline_id, 3);
  });

  test("many/github/check-failures.yml does it for a repository that has no bundle", async () => {
    const { machine, play, store, remove } = await makeRepository(MANY);
    cleanUp(remove);
    await store(failedTwice("unit"));
    assertPlayed(await play(3, unit(3, "failure")));
    assert.deepEqual(shown(machine), ["open 1 🔴 test: 1 broken: unit"]);
  });

  test("many/github/check-failures.yml takes rules and a threshold from the variables of the repository", async () => {
    const { machine, play, stored, remove } = await makeRepository(MANY);
    cleanUp(remove);
    assertPlayed(await play(3, unit(3, "failure"), { vars: { JOB_RULES: "lint ignore", CONSECUTIVE_THRESHOLD: "1" } }));
    assert.deepEqual(Object.keys(stored().jobs), ["unit"]);
    assert.deepEqual(
      shown(machine).map((issue) => issue.slice(7)),
      ["🔴 test: 1 broken: unit"],
    );
  });

  test("many/github/caller.yml calls it, after each run", () => {
    assert.deepEqual(workflows[CALLER]?.on, workflows[ISSUE]?.on);
    assert.deepEqual(workflows[MANY]?.on, "workflow_call");
    assert.equal(jobIn(CALLER).uses, `acme/ci/.github/workflows/check-failures.yml@main`);
  });
});

describe("many/github/page.yml, played", { skip: NEEDED, concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const at = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
  const documentOf = (name: string, days: number) => ({
    ...{ pipeline_id: 1002, counted_at: at(days), project: { name }, jobs: {} },
  });

  type Organisation = { days?: number; repositories?: string[]; fails?: string[]; isPublic?: boolean };
  async function playPage({
    days = 0,
    repositories = ["acme/shop", "acme/pay", "acme/docs", "acme/new"],
    ...rest
  }: Organisation) {
    const { fails = [], isPublic = false } = rest;
    // Installs nothing: the project's own packages are there.
    const npm = `[ "$1" = ci ] && exit; shift 4; exec node '${PROJECT}/test/tools/page.ts' "$@"`;
    const machine = makeMachine({ npm });
    cleanUp(machine.remove);
    machine.failGh(...fails);
    machine.write("gh/public.json", isPublic);
    machine.write("gh/repositories.json", [
      ...repositories.map((full_name) => ({ full_name, archived: false })),
      { full_name: "acme/old", archived: true },
    ]);
    machine.write("gh/branches.json", {
      "acme/shop": {
        "check-failures-7": documentOf("acme/shop CI", 0),
        "check-failures-8": documentOf("acme/shop Nightly", 0),
      },
      "acme/pay": {
        "check-failures-9": documentOf("acme/pay CI", days),
        "check-failures-upgrade": "a person's branch",
      },
      "acme/new": "empty",
    });
    const started = { GITHUB_REPOSITORY: "acme/ci", GITHUB_REPOSITORY_OWNER: "acme" };
    const done: string[] = [];
    const context = { ...contextOf(), github: { repository: "acme/ci", token: "ghs" } };
    const play = async (script: string, set: Variables) => {
      machine.write("output", "");
      const result = await machine.play(script, { ...started, ...set, GITHUB_OUTPUT: machine.inside("output") });
      return { result, outputs: machine.read("output") ?? "" };
    };
    const use = ({ uses = "" }: Step) => {
      done.push(uses.replace(/@.*/, ""));
      return {};
    };
    const played = await playJob({ ...jobIn(PAGE), if: "" }, context, play, use);
    return { played, done, page: machine.read("work/public/index.html") ?? "" };
  }
  const PUBLISHED = ["actions/checkout", "actions/upload-pages-artifact", "actions/deploy-pages"];

  test("has every repository of the organisation with a document, and none that is archived", async () => {
    const { played, done, page } = await playPage({});
    assertPlayed(played);
    assert.deepEqual(done, PUBLISHED);
    for (const name of ["acme/shop CI", "acme/shop Nightly", "acme/pay CI"]) assert.ok(page.includes(name), name);
    assert.match(played.steps[1]?.stdout ?? "", /^acme\/docs has no document$/m);
    assert.doesNotMatch(`${played.steps[1]?.stdout}${page}`, /acme\/new|check-failures-upgrade/);
  });

  test("is published, and then fails, where a monitor has not counted for three days", async () => {
    const { played, done } = await playPage({ days: 4 });
    assert.deepEqual(failedSteps(played), ["Fail where a monitor needs somebody"]);
    assert.match(played.steps.at(-1)?.stderr ?? "", /acme\/pay/);
    assert.deepEqual(done, PUBLISHED);
  });

  test("shows the others, and fails, where a repository can't be read", async () => {
    for (const fails of [["acme/pay/git"], ["acme/pay/contents"]]) {
      const { played, done, page } = await playPage({ fails });
      assert.deepEqual(failedSteps(played), ["Fail where a monitor needs somebody"]);
      assert.deepEqual(done, PUBLISHED);
      assert.ok(page.includes("acme/shop CI") && page.includes("acme/pay"));
    }
  });

  test("fails where nothing is listed, and where the list is refused", async () => {
    for (const organisation of [{ repositories: [] }, { fails: ["orgs/"] }]) {
      const { played, done } = await playPage(organisation);
      assert.deepEqual([failedSteps(played), done], [["Fetch the documents"], ["actions/checkout"]]);
    }
  });

  test("is not published where everybody could read it", async () => {
    const { played, done } = await playPage({ isPublic: true });
    assert.deepEqual([failedSteps(played), done], [["Refuse to show it to everybody"], ["actions/checkout"]]);
    assert.match(played.steps[0]?.stdout ?? "", /MAY_BE_PUBLIC/);
  });
});
