import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import type { Browser, Page, SerializedAXNode } from "puppeteer-core";
import type { JobExecutions, TrackedJob } from "../check-failures.ts";
import { listFaintTexts, noBrowser, openTab, startBrowser, startSite, type View } from "./support/browser.ts";
import { history, NOW, textOf } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import {
  alertOf,
  broken,
  documentWith,
  HOSTILE,
  hostile,
  hoursAgo,
  linksIn,
  listObjects,
  MIGRATION,
  type NamedJob,
  named,
  namesOn,
  often,
  pageOf,
  partOf,
  rowsOf,
  SHOP,
  shop,
  statesOf,
  summaryOf,
  textIn,
  watched,
} from "./support/page-builders.ts";
import { makeFolder, RUNTIME, start } from "./support/run.ts";
import { startMoto } from "./support/servers/moto.ts";
import { startS3 } from "./support/servers/s3.ts";
import { roleVariables, startSts } from "./support/servers/sts.ts";
import { documentAt } from "./support/stand-ins.ts";
import { listTroubles, parseArguments, type Source, toProjects } from "./tools/page.ts";

const PAGE = fileURLToPath(new URL("tools/page.ts", import.meta.url));
const DAY = 86_400_000;
const untoldFor = (hours: number) => ({ at: hoursAgo(hours), changed_at: hoursAgo(hours), told: undefined });

describe("renderPage()", () => {
  test("counts what is broken, fails often, can't be read, is stale or not told, and links each count to what is behind it", () => {
    const html = pageOf([
      named("a", [
        ["x", broken()],
        ["y", broken(undefined, "·✗✗✗", untoldFor(2))],
      ]),
      named("b", [["z", often()]]),
      named("c", [], { counted_at: hoursAgo(100) }),
      { source: "d.json", error: "Cannot read d.json" },
      named("e"),
      named("f", [["w", watched()]]),
    ]);
    const counts = partOf(html, /<ul class="counts">(.*?)<\/ul>/s);
    assert.deepEqual(counts.split("</li>").map(textIn), [
      "2 jobs broken",
      "1 job failing often",
      "1 document unreadable",
      "1 project stale",
      "1 alert not told",
      "2 projects without alerts",
      "",
    ]);
    assert.deepEqual(linksIn(counts), ["#broken", "#often", "#unread", "#stale", "#untold", "#fine"]);
    for (const link of linksIn(counts)) assert.equal(html.split(` id="${link.slice(1)}"`).length, 2, link);
    const title = "2 broken, 1 failing often, 1 unreadable, 1 stale, 1 not told – CI jobs of 5 projects";
    assert.equal(partOf(html, /<title>(.*)<\/title>/), title);
  });

  test("counts of a single project only what there may be several of", () => {
    const counts = partOf(pageOf([shop([["x", broken()]])]), /<ul class="counts">(.*?)<\/ul>/s);
    const said = ["1 job broken", "0 jobs failing often", "0 alerts not told", ""];
    assert.deepEqual(counts.split("</li>").map(textIn), said);
  });

  test("says of what is broken, by project and cause, how often it failed, first at which commit, and since when it alerts", () => {
    const html = pageOf([
      named("acme/tools", [["lint", broken()]]),
      named("acme/shop", [
        ["build", broken(MIGRATION)],
        ["e2e", broken(MIGRATION, "··✗✗✗✗")],
        ["unit tests", broken({ commit: "0ddba11" }, "✗✗✗✗✗", { at: hoursAgo(50) })],
      ]),
    ]);
    assert.deepEqual(summaryOf(html, "broken"), [
      "4 jobs broken",
      "acme/shop",
      "2 jobs: e2e and build failed 3 to 4 times in a row, first at abcdef42 “Move checkout”, changes since 77aa01d3; alerted 16 hours ago",
      "unit tests failed 5 times in a row, first at 0ddba11 or earlier; alerted 2 days ago",
      "acme/tools",
      "lint failed 3 times in a row; alerted 16 hours ago",
    ]);
  });

  test("says of what fails often how often that is, and since when it alerts", () => {
    const html = pageOf([
      named("a", [
        ["y", often({ at: hoursAgo(96) })],
        ["z", often()],
      ]),
    ]);
    assert.deepEqual(summaryOf(html, "often"), [
      "2 jobs failing often",
      "a",
      "2 jobs: y and z failed 5 of the last 10 times; first alerted 4 days ago",
    ]);
  });

  test("says of what is stale since when, by the age that is given, and of what can't be read why", () => {
    const sources = [
      named("a", [], { counted_at: hoursAgo(73) }),
      named("b", [], { counted_at: undefined }),
      named("c", [], { counted_at: hoursAgo(-30) }),
      named("d", [], { counted_at: hoursAgo(71) }),
      { source: "e.json", error: "Cannot read e.json: EACCES" },
    ];
    const stale = summaryOf(pageOf(sources), "stale");
    assert.deepEqual([stale[0], stale[1], stale[3], stale[5]], ["3 projects stale", "a", "b", "c"]);
    assert.match(stale[2] ?? "", /3 days ago/);
    assert.match(stale[6] ?? "", /at 2026-11-24T16:00:00\.000Z, which is to come/);
    assert.deepEqual(
      summaryOf(pageOf(sources, DAY), "stale").filter((line) => /^\w$/.test(line)),
      ["a", "b", "c", "d"],
    );
    assert.deepEqual(summaryOf(pageOf(sources), "unread"), [
      "1 document unreadable",
      "e.json",
      "Cannot read e.json: EACCES",
    ]);
  });

  test("says which alerts the broadcast channel was not told, since when, and what it does not know: also of an end", () => {
    const told = { "": hoursAgo(90), "#team": hoursAgo(30) };
    const changed = { at: hoursAgo(90), changed_at: hoursAgo(30), told };
    const html = pageOf([
      named("a", [["known", broken()]]),
      named("b", [
        ["just being told", broken(undefined, "✗✗✗", untoldFor(0.05))],
        ["mended", watched("✗✗✗···", alertOf("recovered", 30, changed))],
        ["silent", broken(undefined, "✗✗✗", { ...untoldFor(100), told: { "#team": hoursAgo(100) } })],
        ["graver", broken(undefined, "✗✗✗", changed)],
      ]),
    ]);
    assert.deepEqual(summaryOf(html, "untold"), [
      "3 alerts not told",
      "b",
      "silent broken, not told for 4 days",
      "graver broken, not told for 30 hours",
      "mended recovered, not told for 30 hours",
    ]);
    assert.deepEqual(statesOf(html).slice(-1), [
      "recovered 30 hours ago, failed 3 of the last 6 times, not told for 30 hours",
    ]);
  });

  const COURSES: Record<string, [job: TrackedJob, said: string]> = {
    "where it first failed and what changed then": [
      broken(MIGRATION),
      "failed 3 times in a row, first at abcdef42 “Move checkout”, changes since 77aa01d3",
    ],
    "that it may have failed earlier, where it is not known that it passed before": [
      broken({ commit: "abcdef4277", title: "Move checkout" }),
      "failed 3 times in a row, first at abcdef42 or earlier",
    ],
    "that the commit had passed before": [
      broken({ ...MIGRATION, from: MIGRATION.commit }),
      "failed 3 times in a row, first at abcdef42, which had passed before",
    ],
    "no commit, where none is known": [broken(), "failed 3 times in a row"],
    "that it passes again": [
      broken(MIGRATION, "·✗✗✗··"),
      "failed first at abcdef42 “Move checkout”, changes since 77aa01d3, passed 2 times since, not recovered yet",
    ],
    "how often it failed, where it had passed since": [
      broken(MIGRATION, "·✗✗✗··✗"),
      "failed 4 of the last 7 times, first at abcdef42 “Move checkout”, changes since 77aa01d3",
    ],
    "that it is flaky": [
      broken(MIGRATION, "·✗✗✗·✗···", { flaky: true }),
      "flaky: failed 4 of the last 9 times, first at abcdef42 “Move checkout”, changes since 77aa01d3, passed 3 times since, not recovered yet",
    ],
  };
  for (const [what, [job, said]] of Object.entries(COURSES)) {
    test(`says of a broken job ${what}`, () => {
      const html = pageOf([shop([["unit tests", job]])]);
      assert.deepEqual(statesOf(html), [`broken ${said}, alerted 16 hours ago`]);
      assert.deepEqual(summaryOf(html, "broken").slice(2), [`unit tests ${said}; alerted 16 hours ago`]);
    });
  }

  test("tells of a commit once in a project, however many jobs it broke", () => {
    const html = pageOf([
      shop([
        ["a", broken(MIGRATION)],
        ["b", broken({ commit: "0ddba11" })],
        ["c", broken(MIGRATION)],
      ]),
    ]);
    assert.deepEqual(statesOf(html), [
      "broken failed 3 times in a row, first at abcdef42 “Move checkout”, changes since 77aa01d3, alerted 16 hours ago",
      "broken failed 3 times in a row, first at 0ddba11 or earlier, alerted 16 hours ago",
      "broken failed 3 times in a row, likewise first at abcdef42, alerted 16 hours ago",
    ]);
  });

  test("shows broken jobs first, then those that fail often, then the others by their failures and natural names", () => {
    const html = pageOf([
      shop([
        ["test 10", watched()],
        ["test 2", watched()],
        ["flaky", often()],
        ["mended", watched("✗✗·······", alertOf("recovered", 5, { told: undefined }))],
        ["unit tests", broken()],
        ["again", history("·✗✗", { last_run: hoursAgo(24 * 9) })],
      ]),
    ]);
    assert.deepEqual(
      rowsOf(html).map((row) => textIn(partOf(row, /<th.*?>(.*)<\/th>/))),
      ["unit tests", "flaky", "again", "mended", "test 2", "test 10"],
    );
    assert.deepEqual(statesOf(html).slice(1), [
      "failing often failed 5 of the last 10 times, alerted 3 days ago",
      "failed 2 times in a row, ran 9 days ago",
      "recovered 5 hours ago, failed 2 of the last 9 times",
      "failed 1 of the last 4 times",
      "failed 1 of the last 4 times",
    ]);
  });

  test("draws the last executions to the right, each with its pipeline, commit and title, and failed ones as links to their jobs", () => {
    const job = watched("✗·✗");
    job.jobs_info.push({ id: null, failing: false, commit: null });
    Object.assign(job.jobs_info[1] ?? {}, { title: "Mend it" });
    const [row = ""] = rowsOf(pageOf([shop([["unit tests", job]])]));
    assert.match(row, /<td role="cell" class="gap" colspan="6" aria-colspan="6"><\/td>/);
    assert.deepEqual(
      [...row.matchAll(/<i class="(\w+)" title="(.*?)"><span>(\w+)</g)].map(([, ...found]) => found),
      [
        ["failed", "failed in pipeline 1002 at c0ffee10", "failed"],
        ["passed", "passed in pipeline 1003 at c0ffee10: Mend it", "passed"],
        ["failed", "failed in pipeline 1004 at c0ffee10", "failed"],
        ["passed", "passed", "passed"],
      ],
    );
    const jobs = [1004, 1002, 1004].map((id) => `${SHOP.url}/-/jobs/${id}`);
    assert.deepEqual(linksIn(row), jobs);
  });

  test("shows the last fifteen executions of a longer window, and counts all", () => {
    const html = pageOf([shop([["unit tests", watched(`${"✗".repeat(10)}${"·".repeat(20)}`)]])]);
    assert.equal(html.match(/class="passed" title/g)?.length, 15);
    assert.deepEqual(statesOf(html), ["failed 10 of the last 30 times"]);
  });

  test("says times as a person does, with the exact one on hover, and when the page was made", () => {
    const html = pageOf([shop([["a", watched()]], { counted_at: hoursAgo(3), commit: "abcdef4277" })]);
    const time = `<time datetime="2026-11-23T07:00:00.000Z" title="2026-11-23 07:00:00 UTC">3 hours ago</time>`;
    assert.ok(html.includes(`last counted ${time}: `));
    assert.match(textIn(html), /as of Mon, 23 Nov 2026, 10:00 UTC/);
    assert.match(textIn(pageOf([shop([], { counted_at: hoursAgo(0.01) })])), /last counted just now: /);
    assert.match(textIn(html), /1 only watched · last counted 3 hours ago: pipeline 1004 at abcdef42/);
  });

  test("has projects in which no job failed lately in a line each, after all others", () => {
    const html = pageOf([named("quiet 10"), named("quiet 2"), named("loud", [["a", watched()]])]);
    const quiet = partOf(html, /aria-labelledby="quiet">(.*?)<\/section>/s);
    assert.match(
      textIn(quiet),
      /^2 projects in which no job failed lately ?quiet 2 last counted 30 minutes ago: pipeline 1004 quiet 10/,
    );
    assert.ok(html.indexOf(' id="at-loud"') < html.indexOf(quiet));
  });

  test("says that nobody has heard the message of the first day, unless it is just being told", () => {
    const hello = (minutes: number) => ({ hello: { until: hoursAgo(-minutes / 60), by: "a run" } });
    assert.match(
      textIn(pageOf([shop([["a", watched()]], hello(-1))])),
      /its broadcast channel has not heard the hello/,
    );
    assert.doesNotMatch(textIn(pageOf([shop([["a", watched()]], hello(5))])), /hello/);
  });

  test("tells two documents of one name apart by their addresses", () => {
    const html = pageOf([shop(), { ...shop(), source: "nightly.json" }]);
    assert.deepEqual(namesOn(html), ["acme/shop (nightly.json)", "acme/shop (shop.json)"]);
  });

  test("calls a document without a project by its address", () => {
    for (const project of [undefined, { name: " " }]) assert.match(pageOf([shop([], { project })]), /<h1>.*shop\.json/);
  });

  test("links to GitHub as its addresses are, and to nothing where no address is known", () => {
    const jobs: NamedJob[] = [["unit tests", broken(MIGRATION)]];
    const url = "https://github.com/acme/shop";
    const github = linksIn(pageOf([shop(jobs, { project: { name: "acme/shop", url, ci: "github" } })]));
    assert.ok(github.includes(`${url}/runs/1004`));
    assert.ok(github.includes(`${url}/compare/77aa01d3ff...abcdef4277`));
    const outside = linksIn(pageOf([shop(jobs, { project: undefined })]));
    assert.deepEqual(
      outside.filter((link) => !/^(#.*|data:.*|)$/.test(link)),
      [],
    );
  });

  test("links to addresses of http and https only", () => {
    for (const url of ["javascript:alert(1)", "data:text/html,x", "//evil.example", " https://evil.example"]) {
      const html = pageOf([shop([["a", broken(MIGRATION)]], { project: { ...SHOP, url } })]);
      assert.ok(!html.includes(`href="${url}`), url);
    }
  });

  test("escapes what is anybody's, and shows what would turn or move the text as a mark", () => {
    for (const name of HOSTILE) {
      const page = pageOf([hostile(name, SHOP.url), { source: `${name} `, error: name }]);
      const html = page.replace(/<style>.*?<\/style>/s, "");
      assert.doesNotMatch(html, /<(script|img|svg|style)\b|\son\w+=["']|href="javascript:/);
      assert.doesNotMatch(html, /[\u0000\u202a-\u202e\u2066-\u2069]|\p{Surrogate}/u);
    }
    const html = pageOf([shop([["\u202egnp.exe\u2066\u0000\n\ud800&amp;", watched()]])]);
    assert.match(html, /<bdi>�gnp\.exe�� �&#38;amp;<\/bdi>/);
  });

  test("has an icon within itself that tells broken, other trouble and neither apart", () => {
    const pages = [[shop([["a", broken()]])], [shop([], { counted_at: hoursAgo(100) })], [shop()]];
    const icons = pages.map((sources) => partOf(pageOf(sources), /<link rel="icon" href="(data:.*?)">/));
    assert.equal(new Set(icons).size, 3);
  });

  test("gives each project an address that lasts, and no two the same one", () => {
    const html = pageOf([named("acme/shop"), named("acme shop"), named("名前"), { source: "名", error: "x" }]);
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ["at-acme-shop", "at-acme-shop--2", "at", "at--2"]) assert.ok(ids.includes(id), id);
    for (const link of linksIn(html).filter((url) => url.startsWith("#"))) assert.ok(ids.includes(link.slice(1)), link);
  });

  test("names a few of many broken jobs at the top, counts the others, and has all in the grid", () => {
    const jobs = Array.from({ length: 300 }, (_, i): NamedJob => {
      return [`job ${i}`, broken(i < 290 ? MIGRATION : { commit: `c${i}` })];
    });
    const html = pageOf([shop(jobs)]);
    const summary = summaryOf(html, "broken").join("\n");
    assert.match(summary, /290 jobs: job 0, job 1, job 2, job 3, job 4, job 5 and 284 more failed 3 times/);
    assert.match(summary, /and 6 more$/);
    assert.equal(rowsOf(html).length, 300);
  });
});

describe("listTroubles()", () => {
  const troublesOf = (sources: Source[], maxAgeMs = 3 * DAY) => listTroubles(toProjects(sources, NOW, maxAgeMs));
  const mute = (name: string, hours: number, rest: Partial<JobExecutions> = {}) =>
    named(
      name,
      [
        ["a", broken()],
        ["b", broken(undefined, "✗✗✗", untoldFor(hours))],
      ],
      rest,
    );

  test("has a line for each document that can't be read, is stale or was not told, the gravest first, then the longest", () => {
    const troubles = troublesOf([
      mute("mute", 80),
      named("stale", [], { counted_at: hoursAgo(80) }),
      mute("both", 90, { counted_at: hoursAgo(90) }),
      named("never", [], { counted_at: undefined }),
      named("ahead", [], { counted_at: hoursAgo(-2) }),
      { source: "torn.json", error: "torn.json is not JSON" },
      named("fine", [["a", broken()]]),
    ]);
    assert.deepEqual(
      troubles.map((line) => line.replace(/^(\S+): .*(stale|come|told).*$/, "$1 $2")),
      [
        "torn.json is not JSON",
        "never.json stale",
        "both.json stale",
        "stale.json stale",
        "ahead.json come",
        "both.json told",
        "mute.json told",
      ],
    );
  });

  test("says nothing of what is younger than the age that is given, nor of what is only broken", () => {
    const sources = [mute("mute", 80), named("stale", [], { counted_at: hoursAgo(80) })];
    assert.equal(troublesOf(sources, 79 * 3_600_000).length, 2);
    assert.deepEqual(troublesOf(sources, 81 * 3_600_000), []);
  });

  test("keeps to a line, whatever is in an address", () => {
    const [line = ""] = troublesOf([{ ...named("x", [], { counted_at: undefined }), source: "a\n\u001b[31mb" }]);
    assert.match(line, /^a �\[31mb: it is stale/);
  });
});

describe("parseArguments()", () => {
  test("takes addresses of S3, files and folders, and an age of days or hours among them", () => {
    const urls = ["s3://bucket/a.json", "s3://bucket/", "./docs", "C:\\a.json"];
    assert.deepEqual(parseArguments(urls), { urls, maxAgeMs: 3 * DAY });
    assert.deepEqual(parseArguments(["a", "--max-age", "24h", "b"]), { urls: ["a", "b"], maxAgeMs: DAY });
  });

  for (const [what, args] of Object.entries({
    "no address": [],
    "no address but an age": ["--max-age", "3d"],
    "an empty address, as of a variable that is not set": ["a.json", ""],
    "an option that it does not know": ["--json", "x"],
    "no age": ["a.json", "--max-age"],
    "an age in weeks": ["--max-age", "3w", "a.json"],
    "an address of the web": ["https://ci.example.com/a.json"],
    "an address of another store": ["gs://bucket/a.json"],
    "an address of a file": ["file:///a.json"],
    "a bucket without a slash": ["s3://bucket"],
  })) {
    test(`refuses ${what}`, () => assert.equal(parseArguments(args), undefined));
  }
});

describe("npm run page", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  /** A folder with these files, also in folders of their own. */
  const folderOf = (files: Record<string, string>) => {
    const { path, remove } = makeFolder();
    cleanUp(remove);
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(path, name)), { recursive: true });
      writeFileSync(join(path, name), text);
    }
    return path;
  };
  const run = (args: string[], cwd: string, env = {}) => start(args, env, cwd, [...RUNTIME, PAGE]).result;
  const linesOf = (stderr: string) => stderr.split("\n").slice(0, -1);
  /** A document as it is stored, that was counted so many hours before the process has it. */
  const stored = (name: string, hours = 1, jobs: NamedJob[] = []) =>
    textOf(documentWith(jobs, { counted_at: hoursAgo(hours, new Date()), project: { name } }));
  const mute = (hours: number): NamedJob => {
    const at = hoursAgo(hours, new Date());
    return [
      "unit tests",
      history("✗✗✗", { alert: alertOf("consecutive", 0, { at, changed_at: at, told: undefined }) }),
    ];
  };

  /** A bucket with these objects, whose store lists two at a time; and the variables that lead there. */
  async function bucketOf(objects: Record<string, string | Buffer>) {
    const s3 = await startS3();
    cleanUp(s3.close);
    listObjects(s3);
    for (const [key, body] of Object.entries(objects)) s3.objects.set(key, Buffer.from(body));
    return { ...s3, env: documentAt(s3.url) };
  }

  test("shows every .json below a prefix of S3 and below a folder, each once, and what is no document as an error", async () => {
    const { env } = await bucketOf({
      "ci/shop.json": stored("acme/shop"),
      "ci/team/tools.json": stored("acme/tools"),
      "ci/team/latin.json": Buffer.from(stored("café"), "latin1"),
      "ci/team/package.json": '{"name": "tools"}',
      "ci/team/notes.txt": "no document",
      "ci/torn.json": '{"pipeline_id": 12',
      "cinema.json": "not below",
    });
    const files = { "docs/a/pay.json": stored("acme/pay"), "docs/web.json": stored("acme/web") };
    const folder = folderOf({ ...files, "docs/empty.json": "", "docs/notes.md": "no document" });
    const urls = ["s3://bucket/ci/", "./docs", "./docs/web.json", "s3://bucket/ci/shop.json"];
    const { code, stdout, stderr } = await run(urls, folder, env);
    const inS3 = ["team/latin", "team/package", "torn"].map((name) => `s3://bucket/ci/${name}.json`);
    const wrong = ["docs/empty.json", ...inS3];
    const named = (line: string) => line.replace(/^Error: (Cannot read )?(\S+\.json).* not .*$/, "$2");
    assert.deepEqual([code, ...linesOf(stderr).map(named)], [1, ...wrong]);
    assert.deepEqual(namesOn(stdout), [...wrong, "acme/pay", "acme/shop", "acme/tools", "acme/web"]);
    const unread = summaryOf(stdout, "unread");
    for (const name of wrong) assert.ok(unread.includes(name), name);
  });

  test("shows the objects and files that it is given, and says which are not there", async () => {
    const { env } = await bucketOf({ "shop.json": stored("acme/shop") });
    const folder = folderOf({ "tools.json": stored("acme/tools") });
    const urls = [
      "s3://bucket/shop.json",
      "tools.json",
      "none.json",
      "s3://bucket/ci",
      "s3://bucket/none/",
      "s3://elsewhere/",
    ];
    const { code, stdout, stderr } = await run(urls, folder, env);
    assert.equal(code, 1);
    const [bucket = "", ...others] = linesOf(stderr).sort(
      (a, b) => Number(/Bucket/.test(b)) - Number(/Bucket/.test(a)),
    );
    assert.match(bucket, /^Error: Cannot read s3:\/\/elsewhere\/: S3 answered 404 NoSuchBucket/);
    assert.deepEqual(others.sort(), [
      "Error: There is no .json below s3://bucket/none/; check its address",
      "Error: There is no document none.json, if that is its address (one that ends with / is a prefix)",
      "Error: There is no document s3://bucket/ci, if that is its address (one that ends with / is a prefix)",
    ]);
    assert.deepEqual(namesOn(stdout).slice(-2), ["acme/shop", "acme/tools"]);
  });

  test("ends with 0 and says nothing where nothing is stale, untold or unreadable, though jobs are broken", async () => {
    const broken: NamedJob = ["unit tests", history("✗✗✗", { alert: alertOf("consecutive", 0) })];
    const folder = folderOf({ "docs/a.json": stored("a", 71, [broken]), "docs/b.json": stored("b", 71, [mute(71)]) });
    const { code, stdout, stderr } = await run(["docs"], folder);
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.match(stdout, /^<!doctype html>/);
    assert.match(stdout, /2 broken, 1 not told/);
  });

  test("ends with 1, and says so in a line each, where a document is stale or an alert untold for three days", async () => {
    const folder = folderOf({ "a.json": stored("a", 1, [mute(73)]), "b.json": stored("b", 73) });
    const { code, stderr } = await run(["."], folder);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^Error: b\.json: it is stale.*counted 3 days ago.*\nError: a\.json: .*not told of an alert for 3 days.*\n$/,
    );
  });

  test("takes another age for three days", async () => {
    const folder = folderOf({ "a.json": stored("a", 13), "b.json": stored("b", 1, [mute(13)]) });
    const codes = ["12h", "14h"].map(async (age) => (await run(["a.json", "--max-age", age, "b.json"], folder)).code);
    assert.deepEqual(await Promise.all(codes), [1, 0]);
  });

  test("assumes a role once, however many documents there are, and reads some at once", async () => {
    const keys = Array.from({ length: 5 }, (_, i) => `ci/${i}.json`);
    const { env, requests, faults, objects } = await bucketOf(
      Object.fromEntries(keys.map((key) => [key, stored(key)])),
    );
    const sts = await startSts();
    cleanUp(sts.close);
    const waiting: (() => void)[] = [];
    const isDocument = ({ path }: { path: string }) => path.endsWith(".json");
    faults.push({
      times: 5,
      matches: isDocument,
      answer: (response, { path }) => {
        waiting.push(() => response.writeHead(200, { etag: '"1"' }).end(objects.get(path.replace("/bucket/", ""))));
        if (waiting.length === 5) for (const answer of waiting) answer();
      },
    });
    const role = roleVariables(sts.url, join(folderOf({ token: "a token of the CI" }), "token"));
    const { code, stderr } = await run(["s3://bucket/ci/"], ".", { ...env, ...role });
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.equal(sts.requests.length, 1);
    assert.equal(requests.filter(isDocument).length, 5);
  });

  test("says that the store can't be read, once for a prefix, and why", async () => {
    const { env } = await bucketOf({});
    const key = {
      AWS_ACCESS_KEY_ID: undefined,
      AWS_SECRET_ACCESS_KEY: undefined,
      HOME: folderOf({}),
      AWS_EC2_METADATA_DISABLED: "true",
    };
    const { code, stdout, stderr } = await run(["s3://bucket/ci/"], ".", { ...env, ...key });
    assert.equal(code, 1);
    assert.match(stderr, /^Error: Cannot read s3:\/\/bucket\/ci\/: the AWS SDK: .*; check the AWS credentials.*\n$/);
    assert.match(summaryOf(stdout, "unread").join("\n"), /check the AWS credentials/);
  });

  test("says how it is used, and ends with 2, where it is asked for something else", async () => {
    const { code, stdout, stderr } = await run(["--json", "x"], ".");
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
    assert.match(stderr, /^Usage: npm run --silent page -- \[--max-age 3d\] URL… > page\.html\n/);
  });

  test("says which variable is wrong, and ends with 2", async () => {
    const { code, stdout, stderr } = await run(["a.json"], ".", { AWS_ENDPOINT_URL_S3: "not-an-address", CI: "true" });
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
    assert.match(stderr, /^Error: The environment is not valid.*\n {2}AWS_ENDPOINT_URL_S3 must be .*\n$/);
  });

  test("watches sixty documents below a prefix of another S3, some stale, untold, torn or of other kinds", async (t) => {
    const moto = await startMoto();
    if (!moto) return t.skip("moto_server is not installed");
    cleanUp(moto.close);
    const credentials = { accessKeyId: "moto", secretAccessKey: "moto-secret" };
    const s3 = new S3Client({ endpoint: moto.url, region: "us-east-1", forcePathStyle: true, credentials });
    const put = (name: string, Body: string) => {
      return s3.send(new PutObjectCommand({ Bucket: "bucket", Key: `ci/team ${name.length}/${name}.json`, Body }));
    };
    const fine = Array.from({ length: 54 }, (_, i) =>
      put(`acme-${i}`, stored(`acme/${i}`, 1, [["lint", history("·✗·")]])),
    );
    const others = [
      put("stale", stored("acme/stale", 100)),
      put("mute", stored("acme/mute", 1, [mute(200)])),
      put("both", stored("acme/both", 200, [mute(100)])),
      put("torn", stored("acme/torn").slice(0, -9)),
      put("<b> & ü+", "[1, 2]"),
      put("package", '{"name": "acme", "jobs": ["unit"]}'),
    ];
    await Promise.all([...fine, ...others]);
    const { code, stdout, stderr } = await run(["s3://bucket/ci/"], ".", documentAt(moto.url));
    assert.equal(code, 1);
    assert.deepEqual(
      linesOf(stderr).map((line) =>
        line.replace(/^Error: s3:\/\/bucket\/ci\/team \d\/(.*?)\.json.* (not valid|not JSON|stale|told)\b.*$/, "$1 $2"),
      ),
      [
        "torn not JSON",
        "package not valid",
        "<b> & ü+ not valid",
        "both stale",
        "stale stale",
        "mute told",
        "both told",
      ],
    );
    const counts = "2 broken, 3 unreadable, 2 stale, 2 not told – CI jobs of 57 projects";
    assert.equal(partOf(stdout, /<title>(.*)<\/title>/), counts);
    assert.equal(namesOn(stdout).length, 60);
  });
});

describe("the page in a browser", { skip: noBrowser }, () => {
  const cleanUp = makeCleanUp();
  let browser: Browser;
  before(async () => {
    browser = await startBrowser(cleanUp);
  });

  /** A tab with the page of these documents, of projects on the same server. */
  async function open(sourcesAt: (site: string) => Source[], view?: View) {
    const pages: Record<string, string> = {};
    const { url, requests } = await startSite(cleanUp, pages);
    pages["/"] = pageOf(sourcesAt(url));
    const tab = await openTab(browser, `${url}/`, view);
    return { tab, url, asked: () => requests.map(({ path }) => path) };
  }
  const at = (site: string, jobs: NamedJob[], name = "acme/shop") => {
    return shop(jobs, { project: { name, url: `${site}/${name}`, ci: "gitlab" } });
  };
  const everything = (site: string): Source[] => [
    at(site, [
      ["unit tests", broken(MIGRATION)],
      ["e2e", broken(undefined, "·✗✗✗", untoldFor(90))],
      ["flaky", often()],
      ["lint", watched()],
    ]),
    named("acme/old", [], { counted_at: hoursAgo(100) }),
    named("acme/fine", [["lint", watched()]]),
    named("acme/quiet"),
    { source: "s3://bucket/none", error: "there is no document yet" },
  ];
  const click = (tab: Page, selector: string) => Promise.all([tab.waitForNavigation(), tab.locator(selector).click()]);
  const hasWidth = (tab: Page) => tab.evaluate(() => document.documentElement.scrollWidth === innerWidth);

  test("asks for nothing but itself, whatever is in it", async () => {
    const { tab, asked } = await open((site) => [...everything(site), ...HOSTILE.map((name) => hostile(name, site))]);
    await tab.waitForNetworkIdle({ idleTime: 100 });
    assert.deepEqual(asked(), ["/"]);
  });

  test("runs nothing that names, titles or addresses hold", async () => {
    const { tab } = await open(() => HOSTILE.map((name) => hostile(name, `javascript:window.ran=1//${name}`)));
    assert.equal(await tab.evaluate(() => "ran" in globalThis), false);
    const foreign = await tab.$$eval("script, img, svg, style ~ style, [onload], [onerror]", (found) => found.length);
    assert.equal(foreign, 0);
    const names = await tab.$$eval("tbody bdi", (found) => found.map(({ textContent }) => textContent));
    for (const name of HOSTILE.slice(0, 5)) assert.ok(names.includes(name), name);
  });

  test("forbids scripts, styles and requests by its policy, should something foreign get into it", async () => {
    const { tab, asked } = await open(everything);
    const refused = await tab.evaluate(async () => {
      const directives: string[] = [];
      document.addEventListener("securitypolicyviolation", (event) => directives.push(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.ran = 1";
      const style = document.createElement("style");
      style.textContent = "body { display: none }";
      const picture = document.createElement("img");
      picture.src = "/leak.png";
      const failed = new Promise((resolve) => picture.addEventListener("error", resolve));
      document.body.append(script, style, picture);
      await failed;
      await new Promise(requestAnimationFrame);
      return directives.sort();
    });
    assert.deepEqual(refused, ["img-src", "script-src-elem", "style-src-elem"]);
    assert.equal(await tab.evaluate(() => "ran" in globalThis), false);
    assert.equal(await tab.$eval("body", (body) => getComputedStyle(body).display), "block");
    assert.deepEqual(asked(), ["/"]);
  });

  test("has its style applied, so that failed and passed executions differ by shape", async () => {
    const { tab } = await open(everything);
    const looks = await tab.evaluate(() =>
      [".run .failed", ".run .passed"].map((selector) => {
        const mark = document.querySelector(selector);
        const style = mark && getComputedStyle(mark);
        return [style?.backgroundImage.match(/gradient/g)?.length, mark?.getBoundingClientRect().width];
      }),
    );
    assert.deepEqual(looks, [
      [2, 20],
      [1, 20],
    ]);
  });

  test("leads from the top to each part, to the section of a project, and to the row of a job", async () => {
    const { tab, url } = await open(everything);
    const links = await tab.$$eval("header a, .part a, nav a", (found) => found.map(({ href }) => href));
    const inside = links.filter((link) => link.startsWith(`${url}/#`));
    const missing = await tab.evaluate(
      (links) => links.filter((link) => !document.getElementById(decodeURIComponent(new URL(link).hash.slice(1)))),
      inside,
    );
    assert.deepEqual([inside.length > 15, missing], [true, []]);
    const isSeen = (selector: string) =>
      tab.$eval(selector, (found) => found.getBoundingClientRect().top < innerHeight);
    await click(tab, `.part a[href="#at-acme-old"]`);
    assert.equal(await isSeen("#at-acme-old"), true);
    await click(tab, `.part a[href="#at-acme-shop.1"]`);
    assert.equal(await tab.$eval(":target th", (found) => found.textContent), "e2e");
    assert.notEqual(await tab.$eval(":target", (found) => getComputedStyle(found).outlineStyle), "none");
  });

  test("leads from executions and names to their jobs, from commits and changes to theirs, and to the project", async () => {
    const { tab, url } = await open((site) => [at(site, [["unit tests", broken(MIGRATION)]])]);
    const follow = async (selector: string) => {
      await tab.goto(`${url}/`);
      await click(tab, selector);
      return tab.url().replace(`${url}/acme/shop`, "");
    };
    assert.equal(await follow("tbody td.run:nth-last-child(4) a"), "/-/jobs/1002");
    assert.equal(await follow("tbody th a"), "/-/jobs/1004");
    assert.equal(await follow(".state code"), "/-/commit/abcdef4277");
    assert.equal(await follow(".why a[href*=compare]"), "/-/compare/77aa01d3ff...abcdef4277");
    assert.equal(await follow("main h2 a"), "");
  });

  for (const width of [1280, 360]) {
    test(`is a table for a screen reader, on a screen of ${width}`, async () => {
      const { tab } = await open((site) => [at(site, [["unit tests", broken(MIGRATION)]])], { width });
      const tree = await tab.accessibility.snapshot({ interestingOnly: false });
      const all = (node: SerializedAXNode): SerializedAXNode[] => [node, ...(node.children ?? []).flatMap(all)];
      const [table] = (tree ? all(tree) : []).filter(({ role }) => role === "table");
      assert.equal(table?.name, "Jobs of acme/shop that failed lately, with their last 10 executions");
      const rows = (table ? all(table) : []).filter(({ role }) => role === "row");
      const cells = rows.map((row) =>
        all(row)
          .filter(({ role }) => /^(cell|rowheader|columnheader|gridcell)$/.test(role))
          .map(({ role, name }) => `${role} ${name}`),
      );
      assert.deepEqual(cells[0]?.slice(0, 2), ["columnheader Job", "columnheader 9 before the latest"]);
      assert.deepEqual(cells[0]?.slice(-2), ["columnheader latest", "columnheader State"]);
      const [gap, ...runs] = cells[1]?.slice(1, -1) ?? [];
      assert.equal(cells[1]?.[0], "rowheader unit tests");
      assert.match(gap ?? "", /^cell/);
      const words = runs.map((cell) => cell.replace("cell ", ""));
      assert.deepEqual(words, ["passed", "passed", "passed", "failed", "failed", "failed"]);
      assert.match(cells[1]?.at(-1) ?? "", /^cell broken failed 3 times in a row, first at abcdef42/);
    });

    test(`has each strip on a line, and all end at one place, on a screen of ${width}`, async () => {
      const strips = ["✗", "✗·········", "✗··············"].map((strip, i): NamedJob => [`job ${i}`, watched(strip)]);
      const { tab } = await open((site) => [at(site, strips)], { width });
      const places = await tab.$$eval("tbody tr", (rows) =>
        rows.map((row) => [...row.querySelectorAll(".run")].map((cell) => cell.getBoundingClientRect().toJSON())),
      );
      assert.deepEqual(
        places.map((cells) => [cells.length, new Set(cells.map(({ top }) => top)).size]),
        [
          [1, 1],
          [10, 1],
          [15, 1],
        ],
      );
      assert.equal(new Set(places.map((cells) => cells.at(-1)?.right)).size, 1);
    });
  }

  test("has a job's name above its executions and its state below them on a phone, each as wide as the page", async () => {
    const { tab } = await open(everything, { width: 360 });
    const [name, run, state] = await tab.$eval("tbody tr", (row) =>
      ["th", ".run", ".state"].map((selector) => row.querySelector(selector)?.getBoundingClientRect().toJSON()),
    );
    assert.ok(name.bottom <= run.top && run.bottom <= state.top, JSON.stringify([name, run, state]));
    assert.ok(name.width > 300 && state.width > 300);
  });

  test("holds the width of a screen with names of 255 characters, whatever is in them", async () => {
    const long = ["x".repeat(255), "名前".repeat(127), "a name ".repeat(36), "👩‍👩‍👧‍👦".repeat(23)];
    const { tab } = await open(
      (site) => [
        ...long.map((name) => at(site, [[name, broken({ ...MIGRATION, title: name })]], name)),
        shop([["a", watched("✗".repeat(40))]]),
        named("q".repeat(255)),
        { source: "y".repeat(255), error: "z".repeat(255) },
      ],
      { width: 360 },
    );
    for (const width of [360, 641, 1280]) {
      await tab.setViewport({ width, height: 800 });
      assert.equal(await hasWidth(tab), true, `${width}`);
    }
  });

  for (const scheme of ["light", "dark"] as const) {
    for (const width of [1280, 360]) {
      test(`has no text of too little contrast, ${scheme}, on a screen of ${width}`, async () => {
        const { tab } = await open(everything, { scheme, width });
        assert.deepEqual(await listFaintTexts(tab), []);
        const isDark = await tab.$eval("b.broken", (found) => getComputedStyle(found).color !== "rgb(179, 38, 30)");
        assert.equal(isDark, scheme === "dark");
      });
    }
  }

  test("is dark on white on paper, without what is only of use on a screen, whatever the screen is like", async () => {
    const { tab } = await open(everything, { scheme: "dark", media: "print" });
    const ground = await tab.evaluate(() => {
      const canvas = document.createElement("p");
      canvas.className = "error";
      document.body.append(canvas);
      const [body, error] = [document.body, canvas].map((element) => getComputedStyle(element));
      return [body?.backgroundColor, body?.color, error?.color];
    });
    assert.deepEqual(ground, ["rgb(255, 255, 255)", "rgb(0, 0, 0)", "rgb(135, 80, 0)"]);
    const displays = await tab.$$eval("nav, .aged, .source a", (found) =>
      found.map((part) => getComputedStyle(part).display),
    );
    assert.deepEqual(new Set(displays), new Set(["none"]));
    const marks = await tab.$eval(".run .failed", (mark) => getComputedStyle(mark).printColorAdjust);
    assert.equal(marks, "exact");
  });

  for (const count of [0, 3, 300]) {
    test(`shows ${count} jobs`, async () => {
      const jobs = Array.from({ length: count }, (_, i): NamedJob => [`job ${i}`, watched()]);
      const { tab } = await open((site) => [at(site, jobs)]);
      assert.equal((await tab.$$("tbody tr")).length, count);
      assert.equal((await tab.$$("table")).length, Number(count > 0));
      assert.equal(await hasWidth(tab), true);
    });
  }

  for (const width of [1280, 360]) {
    test(`shows sixty projects, of which some need somebody, on a screen of ${width}`, async () => {
      const quiet = Array.from({ length: 56 }, (_, i) => named(`acme/p${i}`));
      const { tab } = await open(
        (site) => [...quiet, ...everything(site).slice(0, 3), everything(site).slice(-1)].flat(),
        { width },
      );
      assert.equal((await tab.$$(".wall a")).length, 60);
      const [first] = await tab.$$eval(".wall a", (found) => found.map(({ textContent }) => textContent));
      assert.equal(first, "acme/shop (broken, failing often, not told)");
      const heads = await tab.$$eval(".part h2", (found) => found.map(({ textContent }) => textContent));
      assert.deepEqual(heads, [
        "2 jobs broken",
        "1 job failing often",
        "1 document unreadable",
        "1 project stale",
        "1 alert not told",
      ]);
      assert.equal(await hasWidth(tab), true);
    });
  }

  test("says that it is no longer new when it has been open for over two hours", async () => {
    const { tab } = await open(everything);
    const visibility = () => tab.$eval(".aged", (found) => getComputedStyle(found).visibility);
    const age = (minutes: number) =>
      tab.evaluate((minutes) => {
        for (const animation of document.getAnimations()) animation.currentTime = minutes * 60_000;
      }, minutes);
    await age(119);
    assert.equal(await visibility(), "hidden");
    await age(121);
    assert.equal(await visibility(), "visible");
  });
});
