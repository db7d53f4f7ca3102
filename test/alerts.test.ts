import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  type Alert,
  checkConsistentFailures,
  type JobExecutions,
  openSender,
  type Store,
  toPlainText,
  writeMessage,
} from "../check-failures.ts";
import {
  alertOf,
  documentOf,
  environment,
  failed,
  history,
  makeEdges,
  memoryStore,
  NOW,
  openAlert,
  textOf,
} from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";
import { type GitLabJob, startGitLab, TOKEN } from "./support/servers/gitlab.ts";
import { answerWith, hang } from "./support/servers/http.ts";

type Variables = Parameters<typeof environment>[0];

const PROJECT = "https://gitlab.example.com/acme/shop/-";
const linkToJob = (id: number) => `<${PROJECT}/jobs/${id}|${id}>`;

const write = (alerts: Alert[], variables: Variables = {}, titles: [commit: string, title: string][] = []) =>
  writeMessage(alerts, { env: environment(variables), now: NOW, titles: new Map(titles) });
const headerOf = (alerts: Alert[], variables: Variables = {}) => write(alerts, variables).split("\n\n")[0];
const paragraphOf = (alert: Alert, variables: Variables = {}, titles: [commit: string, title: string][] = []) =>
  write([alert], variables, titles).split("\n\n")[1];

/** With a message of its own, for which Node 20 need not find the assertion in what tsx made of this file. */
const assertIncludes = (text: string | undefined, part: string) =>
  assert.ok(text?.includes(part), `Expected ${part} in:\n${text}`);

/** The texts that a run sends about these jobs of its pipeline. */
async function tell(jobs: unknown[], variables: Variables = {}, before: JobExecutions = documentOf()) {
  const folder = makeFolder({ "jobs.json": jobs });
  try {
    const { edges, sent } = makeEdges({ store: memoryStore(textOf(before)).store });
    const env = environment({ PIPELINE_JOBS_FILE: `${folder.path}/jobs.json`, ...variables });
    await checkConsistentFailures(env, edges);
    return sent.map(({ text }) => text);
  } finally {
    folder.remove();
  }
}

describe("writeMessage() header", () => {
  test("names the job, the project, the branch and the pipeline, with a link", () => {
    assert.equal(
      headerOf([alertOf("unit tests")]),
      `🔴 broken: unit tests in acme/shop main, <${PROJECT}/pipelines/1005|pipeline 1005>`,
    );
  });

  test("names the commit where there is no branch", () => {
    const variables = { CI_COMMIT_BRANCH: undefined, CI_COMMIT_SHA: "0ddba11".repeat(5) };
    assert.match(headerOf([alertOf("a")], variables) ?? "", / in acme\/shop 0ddba110, /);
  });

  test("names the project by its id where its path is unknown", () => {
    const variables = { CI_PROJECT_PATH: undefined, CI_PROJECT_ID: "4242" };
    assert.match(headerOf([alertOf("a")], variables) ?? "", / in project 4242 main, /);
  });

  test("tells the kinds apart, the gravest first", () => {
    const alerts = [
      alertOf("a", { kind: "recovered" }),
      alertOf("b", { kind: "cumulative" }),
      alertOf("c"),
      alertOf("d"),
    ];
    assert.match(headerOf(alerts) ?? "", /^🔴 broken: c, d; 🟠 failing often: b; 🟢 recovered: a in /);
  });

  test("counts the jobs where their names would make it long", () => {
    const many = Array.from({ length: 30 }, (_, i) => alertOf(`job ${i + 1}`));
    assert.match(headerOf(many) ?? "", /^🔴 broken: 30 jobs in /);
    assert.match(headerOf([alertOf("x".repeat(255))]) ?? "", /^🔴 broken: 1 job in /);
  });
});

describe("writeMessage() paragraph", () => {
  test("of a job that fails in a row has the streak and where it began", () => {
    const alert = alertOf("unit tests", { job: history("✗·✗✗✗") });
    assert.equal(
      paragraphOf(alert, {}, [["c0ffee03", "Add a cart"]]),
      [
        `🔴 <${PROJECT}/jobs/105|unit tests> failed 3 times in a row: ${[103, 104, 105].map(linkToJob).join(" ")}`,
        `since <${PROJECT}/commit/c0ffee03|c0ffee03> "Add a cart", <${PROJECT}/compare/c0ffee02...c0ffee03|changes since the last pass>`,
      ].join("\n"),
    );
  });

  test("of a job that fails often has all failures of the window", () => {
    const alert = alertOf("e2e", { kind: "cumulative", job: history("✗·✗✗·✗✗") });
    const links = [101, 103, 104, 106, 107].map(linkToJob).join(" ");
    assert.equal(paragraphOf(alert), `🟠 <${PROJECT}/jobs/107|e2e> failed 5 times in the last 10 executions: ${links}`);
  });

  test("of a job that recovered has its passes and its latest failure", () => {
    const alert = alertOf("e2e", { kind: "recovered", job: history("✗✗✗···") });
    assert.equal(
      paragraphOf(alert),
      `🟢 <${PROJECT}/jobs/103|e2e> recovered: passed 3 times in a row, its alert was open for 60 minutes`,
    );
  });

  test("says for how long the alert was open in words that fit", () => {
    const spans = ["10:00:00Z", "09:59:00Z", "09:57:30Z", "08:01:00Z", "08:00:00Z"].map((at) => `2026-11-23T${at}`);
    const openSince = [...spans, "2026-11-22T10:00:00Z", "2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z", "2026-10-24"];
    const words = openSince.map((openedAt) =>
      /open for (.*)$/.exec(paragraphOf(alertOf("a", { kind: "recovered", openedAt })) ?? "")?.slice(1),
    );
    assert.deepEqual(words.flat(), [
      ...["0 minutes", "1 minute", "3 minutes", "119 minutes", "2 hours", "24 hours", "47 hours", "2 days", "30 days"],
    ]);
  });

  test("compares with the last pass that has a commit, where the job did not run after it", () => {
    const jobs_info = [
      { id: null, failing: false, commit: "c0ffee00" },
      { id: null, failing: false, commit: null },
      { id: 101, failing: true, commit: "c0ffee02" },
    ];
    const text = paragraphOf(alertOf("a", { job: { consecutive_failures: 1, jobs_info } }));
    assert.match(text ?? "", /\/compare\/c0ffee00\.\.\.c0ffee02\|changes since the last pass>$/);
  });

  test("says nothing of where a streak began that is longer than the window", () => {
    const alert = alertOf("a", { job: history("✗✗✗", { consecutive_failures: 4 }) });
    assert.equal(
      paragraphOf(alert),
      `🔴 <${PROJECT}/jobs/103|a> failed 4 times in a row: ${[101, 102, 103].map(linkToJob).join(" ")}`,
    );
  });

  test("says nothing of where a streak began whose first commit is unknown", () => {
    const jobs_info = [101, 102].map((id) => ({ id, failing: true }));
    const alert = alertOf("a", { job: { consecutive_failures: 2, jobs_info } });
    assert.equal(
      paragraphOf(alert),
      `🔴 <${PROJECT}/jobs/102|a> failed 2 times in a row: ${linkToJob(101)} ${linkToJob(102)}`,
    );
  });

  test("links a job's name to JOB_HISTORY_URL, with the name encoded wherever {job} stands", () => {
    const variables = { JOB_HISTORY_URL: "https://ci.example.com/{job}?name={job}&all" };
    const encoded = "build%3A%20%5Blinux%5D%20%24%26%20100%25%20%F0%9F%A7%AA%EF%BF%BD";
    assertIncludes(
      paragraphOf(alertOf("build: [linux] $& 100% 🧪\ud83e"), variables),
      `🔴 <https://ci.example.com/${encoded}?name=${encoded}&amp;all|build: [linux] $&amp; 100% 🧪`,
    );
  });

  test("links the latest failure to the address that GitLab gave", () => {
    const latest = failed("a", { id: 104, web_url: "https://gitlab.example.com/elsewhere/-/jobs/104" });
    assert.match(
      paragraphOf(alertOf("a", { latest })) ?? "",
      /^🔴 <https:\/\/gitlab\.example\.com\/elsewhere\/-\/jobs\/104\|a> .* <https:\/\/gitlab\.example\.com\/elsewhere\/-\/jobs\/104\|104>$/m,
    );
  });

  test("has no links where the project's address is unknown", () => {
    assert.equal(
      write([alertOf("a")], { CI_PROJECT_URL: undefined }),
      "🔴 broken: a in acme/shop main, pipeline 1005\n\n🔴 a failed 3 times in a row: 102 103 104\nsince c0ffee02",
    );
  });
});

describe("writeMessage() takes names and titles for data", () => {
  test("escapes what Slack would take for markup", () => {
    const name = "<!channel> & <http://evil|x>";
    const message = write([alertOf(name)], {}, [["c0ffee02", "<@U1> & <!here>"]]);
    assert.match(message, /^🔴 broken: &lt;!channel&gt; &amp; &lt;http:\/\/evil\|x&gt; in /);
    assertIncludes(message, `<${PROJECT}/jobs/104|&lt;!channel&gt; &amp; &lt;http://evil/x&gt;> failed`);
    assertIncludes(message, '"&lt;@U1&gt; &amp; &lt;!here&gt;"');
  });

  test("keeps an address in its link, whatever characters it has", () => {
    const message = write([alertOf("a")], { JOB_HISTORY_URL: "https://ci.example.com/?q=<x|y>&job={job}" });
    assertIncludes(message, "🔴 <https://ci.example.com/?q=%3Cx%7Cy%3E&amp;job=a|a> failed");
  });

  test("replaces control characters and line breaks", () => {
    const message = write([alertOf("a\nb\u0007\u0085c\u2028d\u0000")], {}, [["c0ffee02", "one\r\n\r\ntwo"]]);
    assert.match(message, /^🔴 broken: a b c d {2}in /);
    assertIncludes(message, '"one two"');
  });

  test("every < and > in a message belongs to a link of its own making, whatever the name and the title are", () => {
    const unit = fc.constantFrom(..."<>|&!@#a 🧪\n\r\u0000\u0085\u2028\ud83e", "$&", "https://evil");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    const kinds = fc.constantFrom("consecutive" as const, "cumulative" as const, "recovered" as const);
    const env = environment({ JOB_HISTORY_URL: `${PROJECT}/history?{job}` });
    fc.assert(
      fc.property(aText, aText, kinds, (name, title, kind) => {
        const titles = new Map([["c0ffee02", title]]);
        const context = { env: { ...env, CI_COMMIT_BRANCH: title }, now: NOW, titles };
        const message = writeMessage([alertOf(name, { kind })], context);
        const rest = message.replace(/<https:\/\/gitlab\.example\.com\/acme\/shop\/-\/[^\s<>|]+\|[^<>|]*>/g, "");
        return !/[<>]/.test(rest) && !/[\p{Cc}\u2028\u2029]/u.test(message.replaceAll("\n", ""));
      }),
    );
  });

  test("does not link an address that is not http", async () => {
    const job = { ...failed("a", { id: 7 }), web_url: "javascript:alert(1)" };
    const variables = { CONSECUTIVE_THRESHOLD: "1", CI_PROJECT_URL: undefined };
    assert.deepEqual(await tell([job], variables), [
      "🔴 broken: a in acme/shop main, pipeline 1005\n\n🔴 a failed 1 time in a row: 7\nsince 0ddba11",
    ]);
  });
});

describe("toPlainText()", () => {
  test("shows what mrkdwn shows, with the addresses of links unless these say it all", () => {
    assert.equal(
      toPlainText(
        "🔴 <https://ci.example.com/?a=1&amp;b=2|a &lt;b&gt;> failed &amp;lt; <https://ci.example.com/jobs/7|7>",
      ),
      "🔴 a <b> (https://ci.example.com/?a=1&b=2) failed &lt; https://ci.example.com/jobs/7",
    );
  });

  test("is what is printed where no Slack is configured", async () => {
    const printed: string[] = [];
    const env = environment({ SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined });
    const { edges } = makeEdges({ send: openSender(env, (text) => printed.push(text)) });
    const alert = { channel: null, text: write([alertOf("a & b")]), claimed_at: NOW.toISOString() };
    await edges.send(alert, edges.signal);
    assert.deepEqual(printed, [
      [
        `🔴 broken: a & b in acme/shop main, pipeline 1005 (${PROJECT}/pipelines/1005)`,
        "",
        `🔴 a & b (${PROJECT}/jobs/104) failed 3 times in a row: ${[102, 103, 104].map((id) => `${PROJECT}/jobs/${id}`).join(" ")}`,
        `since ${PROJECT}/commit/c0ffee02, changes since the last pass (${PROJECT}/compare/c0ffee01...c0ffee02)`,
        "",
      ].join("\n"),
    ]);
  });
});

describe("checkConsistentFailures() splits messages", () => {
  test("between jobs, below 3,900 characters, with the header in each part and each job in one", async () => {
    const names = Array.from({ length: 150 }, (_, i) => `job-${i + 1} ${"x".repeat(i)}`);
    const texts = await tell(
      names.map((name) => failed(name)),
      { CONSECUTIVE_THRESHOLD: "1" },
    );
    const parts = texts.map((text) => text.split("\n\n"));
    const lengths = texts.map((text) => text.length);
    assert.ok(Math.max(...lengths) <= 3_900, `${lengths}`);
    assert.ok(Math.min(...lengths.slice(0, -1)) > 3_000, `${lengths}`);
    assert.deepEqual(
      parts.map(([header]) => /^🔴 broken: .* in acme\/shop main, .*pipeline 1005>$/.test(header ?? "")),
      parts.map(() => true),
    );
    const told = parts.flatMap(([, ...paragraphs]) => paragraphs.map((text) => /\|(job-[^>]*)>/.exec(text)?.[1]));
    assert.deepEqual(told, names);
  });

  test("delivers a paragraph that is too long by itself, without its links", async () => {
    const name = "🧪".repeat(255);
    const long = { JOB_HISTORY_URL: "https://ci.example.com/?job={job}", CI_COMMIT_BRANCH: "b".repeat(255) };
    const variables = { CONSECUTIVE_THRESHOLD: "1", ...long };
    const texts = await tell(
      [failed("before", { id: 6 }), failed(name, { id: 7 }), failed("after", { id: 8 })],
      variables,
    );
    const paragraphs = texts.flatMap((text) => text.split("\n\n").slice(1));
    assert.equal(paragraphs[1], `🔴 ${name} failed 1 time in a row: 7\nsince 0ddba11`);
    assert.match(paragraphs[0] ?? "", /^🔴 <https:\/\/ci\.example\.com\/\?job=before\|before> /);
    assert.match(paragraphs[2] ?? "", /^🔴 <https:\/\/ci\.example\.com\/\?job=after\|after> /);
    const lengths = texts.map((text) => text.length);
    assert.ok(Math.max(...lengths) <= 3_900, `${lengths}`);
  });

  test("delivers a paragraph with its links only where it fits below a long first line", async () => {
    const variables = { CONSECUTIVE_THRESHOLD: "9", CI_COMMIT_BRANCH: "b".repeat(600) };
    const before = documentOf(["a", history("✗✗✗✗✗✗✗✗")]);
    const telling = (CI_PROJECT_URL: string) =>
      tell([failed("a", { id: 109 })], { ...variables, CI_PROJECT_URL }, before);
    const [linked = ""] = await telling("https://gitlab.example.com/acme");
    const [bare = ""] = await telling(`https://gitlab.example.com/${"x".repeat(250)}`);
    assert.match(linked.split("\n\n")[1] ?? "", /^🔴 </);
    assert.match(bare.split("\n\n")[1] ?? "", /^🔴 a failed 9 times in a row: 101 .* 109\nsince c0ffee01$/);
    assert.ok(bare.length <= 3_900, `${bare.length}`);
  });

  test("delivers the alert of a job that failed hundreds of times", async () => {
    const variables = { CONSECUTIVE_THRESHOLD: "301", CUMULATIVE_LENGTH: "400" };
    const texts = await tell([failed("a", { id: 999 })], variables, documentOf(["a", history("✗".repeat(300))]));
    const ids = Array.from({ length: 300 }, (_, i) => 101 + i);
    assert.equal(texts[0]?.split("\n\n")[1], `🔴 a failed 301 times in a row: ${ids.join(" ")} 999\nsince c0ffee01`);
  });
});

describe("checkConsistentFailures() reads the titles of commits", () => {
  /** What is told of jobs that fail for the third time, with GitLab on loopback. */
  async function tellWithGitLab(
    gitlab: Awaited<ReturnType<typeof startGitLab>>,
    jobs: GitLabJob[],
    before: JobExecutions,
    variables: Variables = {},
    { store } = memoryStore(textOf(before)),
  ) {
    gitlab.pipelines.set(1005, jobs);
    const { edges, sent } = makeEdges({ store });
    const api = { PIPELINE_JOBS_FILE: undefined, CI_API_V4_URL: gitlab.apiUrl, CI_PROJECT_ID: "4242" };
    const run = await checkConsistentFailures(environment({ ...api, GITLAB_TOKEN: TOKEN, ...variables }), edges);
    const lines = sent.flatMap(({ text }) => text.split("\n").filter((line) => line.startsWith("since ")));
    return { run, since: lines.map((line) => line.replace(/<[^|>]*\|([^>]*)>/g, "$1")) };
  }

  const asked = (gitlab: Awaited<ReturnType<typeof startGitLab>>) =>
    gitlab.requests.filter(({ path }) => path.includes("/repository/commits/")).map(({ path }) => path.slice(-8));

  test("of the first failing commit of each streak, once each", async (t) => {
    const gitlab = await startGitLab();
    t.after(gitlab.close);
    gitlab.titles.set("c0ffee02", "Add a cart & <!here>").set("c0ffee03", "Empty the cart");
    const before = documentOf(["a", history("·✗✗")], ["b", history("··✗✗")], ["c", history("·✗✗")]);
    const jobs = ["a", "b", "c"].map((name, i) => ({ id: 200 + i, name, status: "failed" }));
    const { since } = await tellWithGitLab(gitlab, jobs, before);
    assert.deepEqual(since, [
      'since c0ffee02 "Add a cart &amp; &lt;!here&gt;", changes since the last pass',
      'since c0ffee03 "Empty the cart", changes since the last pass',
      'since c0ffee02 "Add a cart &amp; &lt;!here&gt;", changes since the last pass',
    ]);
    assert.deepEqual(asked(gitlab), ["c0ffee02", "c0ffee03"]);
  });

  test("once, however often the upload is tried", async (t) => {
    const gitlab = await startGitLab();
    t.after(gitlab.close);
    gitlab.titles.set("c0ffee02", "Add a cart");
    const before = documentOf(["a", history("·✗✗")], ["b", history("··✗✗")]);
    const { store, stored } = memoryStore(textOf(before));
    let conflicts = 3;
    const write: Store["write"] = async (...args) => (conflicts-- > 0 ? { conflict: true } : store.write(...args));
    const jobs = ["a", "b"].map((name, i) => ({ id: 200 + i, name, status: "failed" }));
    const { since } = await tellWithGitLab(gitlab, jobs, before, {}, { store: { ...store, write }, stored });
    assert.deepEqual(since, [
      'since c0ffee02 "Add a cart", changes since the last pass',
      "since c0ffee03, changes since the last pass",
    ]);
    assert.deepEqual(asked(gitlab), ["c0ffee02", "c0ffee03"]);
  });

  test("and none for alerts that do not show it", async (t) => {
    const gitlab = await startGitLab();
    t.after(gitlab.close);
    const before = documentOf(
      ["often", history("✗·✗·✗·✗·")],
      ["recovers", history("✗✗✗··", { alert: openAlert("consecutive") })],
    );
    const jobs = [
      { id: 200, name: "often", status: "failed" },
      { id: 201, name: "recovers", status: "success" },
    ];
    const { run } = await tellWithGitLab(gitlab, jobs, before);
    assert.equal(run.alerts.length, 2);
    assert.deepEqual(asked(gitlab), []);
  });

  const patient = { timeout: 30_000 };
  test("and does without those that GitLab does not give, gives wrongly or never gives", patient, async (t) => {
    const gitlab = await startGitLab();
    t.after(gitlab.close);
    gitlab.titles.set("c0ffee05", "Add a cart");
    const answers = { c0ffee01: hang, c0ffee02: answerWith(500), c0ffee03: answerWith(200, '{"title": 5}') };
    for (const [commit, answer] of Object.entries(answers)) {
      gitlab.faults.push({ times: Infinity, matches: ({ path }) => path.endsWith(commit), answer });
    }
    const strips = ["✗✗", "·✗✗", "··✗✗", "···✗✗", "····✗✗"];
    const before = documentOf(
      ...strips.map((strip, i): [string, ReturnType<typeof history>] => [`${i}`, history(strip)]),
    );
    const jobs = strips.map((_, i) => ({ id: 200 + i, name: `${i}`, status: "failed" }));
    const { run, since } = await tellWithGitLab(gitlab, jobs, before);
    assert.deepEqual(since, [
      "since c0ffee01",
      "since c0ffee02, changes since the last pass",
      "since c0ffee03, changes since the last pass",
      "since c0ffee04, changes since the last pass",
      'since c0ffee05 "Add a cart", changes since the last pass',
    ]);
    assert.deepEqual(run.errors, []);
  });
});
