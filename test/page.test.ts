import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Browser, Page, SerializedAXNode } from "puppeteer-core";
import type { JobExecutions, TrackedJob } from "../check-failures.ts";
import { listFaintTexts, noBrowser, openTab, startBrowser, startSite, type View } from "./support/browser.ts";
import { documentOf, history, NOW, openAlert, pendingAlert } from "./support/builders.ts";
import { makeCleanUp } from "./support/clean-up.ts";
import { makeFolder, RUNTIME, start } from "./support/run.ts";
import { startS3 } from "./support/servers/s3.ts";
import { documentAt, KEY } from "./support/stand-ins.ts";
import { serializeDocument } from "./support/stored.ts";
import { mapBounded, renderPage, type Source } from "./tools/page.ts";

type NamedJob = [name: string, job: TrackedJob];

const PAGE = fileURLToPath(new URL("tools/page.ts", import.meta.url));
const SHOP = { name: "acme/shop", url: "https://gitlab.example.com/acme/shop", ci: "gitlab" as const };
const HOUR = 3_600_000;
const hoursAgo = (hours: number) => new Date(NOW.getTime() - hours * HOUR).toISOString();

/** A document that was counted half an hour ago, as it was read. */
const sourceOf = (jobs: NamedJob[], rest: Partial<JobExecutions> = {}, source = "shop.json") => ({
  source,
  document: { ...documentOf(...jobs), counted_at: hoursAgo(0.5), project: SHOP, ...rest },
});
const named = (name: string, jobs: NamedJob[] = [], rest: Partial<JobExecutions> = {}) =>
  sourceOf(jobs, { project: { ...SHOP, name }, ...rest }, `${name}.json`);

const ran = { last_run: hoursAgo(0.5) };
const broken = (turned?: TrackedJob["turned"], strip = "···✗✗✗"): TrackedJob =>
  history(strip, { ...ran, turned, alert: openAlert("consecutive", hoursAgo(16)) });
const often = (): TrackedJob => history("✗·✗·✗·✗·✗·", { ...ran, alert: openAlert("cumulative", hoursAgo(70)) });
const watched = (strip = "··✗·"): TrackedJob => history(strip, ran);

const MIGRATION = { commit: "abcdef4277", title: "Move checkout", author: "Ada Lovelace", from: "77aa01d3ff" };
const HOSTILE = [
  "<script>window.ran = 1</script>",
  "<img src=/leak onerror='window.ran = 1'>",
  `"><svg onload="window.ran = 1"><a href="javascript:window.ran = 1">`,
  "</style><style>@import '/leak'",
  "\u202egnp.exe\u2066\u0000\n\ud800&amp;",
  "__proto__",
];

/** What a part of a page says, without its markup. */
const textOf = (html: string) =>
  html
    .replace(/<style>.*<\/style>/s, "")
    .replace(/<[^>]*>/g, "")
    .replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))
    .replace(/\s+/g, " ")
    .trim();
/** The part of a page for which a pattern has a group. */
const partOf = (html: string, pattern: RegExp) => pattern.exec(html)?.[1] ?? "";
const summaryOf = (html: string, state: string) =>
  textOf(partOf(html, new RegExp(`<section class="part" aria-labelledby="${state}">(.*?)</section>`, "s")));
const rowsOf = (html: string) => [...html.matchAll(/<tr role="row" class="\w+" id.*<\/tr>/g)].map(([row]) => row);
const statesOf = (html: string) => rowsOf(html).map((row) => textOf(partOf(row, /class="state">(.*)<\/td>/)));
const linksIn = (html: string) => [...html.matchAll(/ href="([^"]*)"/g)].map(([, url]) => url);
const pageOf = (...jobs: NamedJob[]) => renderPage([sourceOf(jobs)], NOW);

describe("renderPage()", () => {
  test("counts what is broken, fails often, can't be read or is stale, and links each count to what is behind it", () => {
    const sources: Source[] = [
      named("a", [
        ["x", broken()],
        ["y", broken()],
      ]),
      named("b", [["z", often()]]),
      named("c", [], { counted_at: hoursAgo(100) }),
      { source: "d.json", error: "Cannot read d.json" },
      named("e"),
      named("f"),
    ];
    const html = renderPage(sources, NOW);
    const counts = partOf(html, /<ul class="counts">(.*?)<\/ul>/s);
    const said = "2 jobs broken 1 job failing often 1 project unreadable 1 project stale 2 projects without alerts";
    assert.equal(textOf(counts.replaceAll("</li>", " ")), said);
    assert.deepEqual(linksIn(counts), ["#broken", "#often", "#unread", "#stale", "#fine"]);
    for (const id of ["broken", "often", "unread", "stale", "fine"]) assert.equal(html.split(` id="${id}"`).length, 2);
    assert.match(html, /<title>2 broken, 1 failing often, 1 unreadable, 1 stale – CI jobs of 6 projects<\/title>/);
  });

  test("says of what is broken, by project and cause, how often it failed, since which commit, and since when it alerts", () => {
    const html = renderPage(
      [
        named("acme/tools", [["lint", broken()]]),
        named("acme/shop", [
          ["build", broken(MIGRATION)],
          ["e2e", broken(MIGRATION, "··✗✗✗✗")],
          ["unit tests", broken({ commit: "0ddba11" }, "✗✗✗✗✗")],
        ]),
      ],
      NOW,
    );
    assert.equal(
      summaryOf(html, "broken"),
      "4 jobs are broken" +
        "acme/shop2 jobs: e2e and build failed 3 to 4 times in a row since abcdef42 “Move checkout” by Ada Lovelace, changes since 77aa01d3; alerted 16 hours ago" +
        "unit tests failed 5 times in a row since 0ddba11 or earlier; alerted 16 hours ago" +
        "acme/toolslint failed 3 times in a row; alerted 16 hours ago",
    );
  });

  test("says of what fails often how often that is, of what is stale since when, and of what can't be read why", () => {
    const html = renderPage(
      [
        named("a", [["z", often()]]),
        named("b", [], { counted_at: hoursAgo(73) }),
        named("c", [], { counted_at: undefined }),
        named("d", [], { counted_at: hoursAgo(-30) }),
        named("e", [], { counted_at: hoursAgo(71) }),
        { source: "f.json", error: "Cannot read f.json: EACCES" },
      ],
      NOW,
    );
    assert.equal(summaryOf(html, "often"), "1 job fails oftenaz (5 of 10), alerted 3 days ago");
    assert.equal(
      summaryOf(html, "stale"),
      "3 projects are stale: does the job still run?" +
        "bits last pipeline was counted 3 days ago" +
        "cit is not known when its last pipeline was counted" +
        "dits last pipeline was counted at 2026-11-24 16:00:00 UTC, which is still to come: check the clocks",
    );
    assert.equal(summaryOf(html, "unread"), "1 project can't be readf.jsonCannot read f.json: EACCES");
  });

  const CAUSES: Record<string, [turned: TrackedJob["turned"], said: string]> = {
    "one commit, where only that can be at fault": [
      MIGRATION,
      "failed 3 times in a row since abcdef42 “Move checkout” by Ada Lovelace, changes since 77aa01d3",
    ],
    "a range, where more commits may be at fault": [
      { commit: "abcdef4277", from: "77aa01d3ff" },
      "failed 3 times in a row, changes since 77aa01d3",
    ],
    "that it may be an earlier one, where it is not known that the job passed before, and names nobody": [
      { commit: "abcdef4277", title: "Move checkout", author: "Ada Lovelace" },
      "failed 3 times in a row since abcdef42 or earlier",
    ],
    "that the commit had passed before, and names nobody": [
      { ...MIGRATION, from: MIGRATION.commit },
      "failed 3 times in a row with abcdef42, which had passed before",
    ],
    "no commit, where none is known": [undefined, "failed 3 times in a row"],
  };
  for (const [what, [turned, said]] of Object.entries(CAUSES)) {
    test(`names for a broken job ${what}`, () => {
      const html = pageOf(["unit tests", broken(turned)]);
      assert.deepEqual(statesOf(html), [`broken ${said}, alerted 16 hours ago`]);
    });
  }

  test("blames no commit for a job that is open as broken but passes again", () => {
    const html = pageOf(["unit tests", broken(MIGRATION, "✗✗✗··")]);
    assert.deepEqual(statesOf(html), [
      "broken passed 2 times in a row since then, not recovered yet, alerted 16 hours ago",
    ]);
  });

  test("tells of a commit once in a project, however many jobs it broke", () => {
    const html = pageOf(["a", broken(MIGRATION)], ["b", broken({ commit: "0ddba11" })], ["c", broken(MIGRATION)]);
    assert.deepEqual(statesOf(html), [
      "broken failed 3 times in a row since abcdef42 “Move checkout” by Ada Lovelace, changes since 77aa01d3, alerted 16 hours ago",
      "broken failed 3 times in a row since 0ddba11 or earlier, alerted 16 hours ago",
      "broken failed 3 times in a row, likewise since abcdef42, alerted 16 hours ago",
    ]);
  });

  test("shows broken jobs first, then those that fail often, then the others by their failures and natural names", () => {
    const html = pageOf(
      ["test 10", watched()],
      ["test 2", watched()],
      ["flaky", often()],
      ["mended", watched("··········")],
      ["unit tests", broken()],
      ["again", history("·✗✗", { last_run: hoursAgo(24 * 9) })],
    );
    assert.deepEqual(
      rowsOf(html).map((row) => textOf(partOf(row, /<th.*?>(.*)<\/th>/))),
      ["unit tests", "flaky", "again", "test 2", "test 10", "mended"],
    );
    assert.deepEqual(statesOf(html).slice(1), [
      "failing often failed 5 of the last 10 times, alerted 3 days ago",
      "failed 2 times in a row, ran 9 days ago",
      "failed 1 of the last 4 times",
      "failed 1 of the last 4 times",
      "passed the last 10 times",
    ]);
  });

  test("draws the last executions to the right, each with its commit, and failed ones as links to their jobs", () => {
    const job = watched("✗·✗");
    job.jobs_info.push({ id: null, failing: false });
    const [row = ""] = rowsOf(pageOf(["unit tests", job]));
    assert.match(row, /<td role="cell" class="gap" colspan="6" aria-colspan="6"><\/td>/);
    assert.deepEqual(
      [...row.matchAll(/<i class="(\w+)" title="(.*?)"><span>(\w+)</g)].map(([, ...found]) => found),
      [
        ["failed", "failed with c0ffee01", "failed"],
        ["passed", "passed with c0ffee02", "passed"],
        ["failed", "failed with c0ffee03", "failed"],
        ["unsure", "passed, commit not known", "passed"],
      ],
    );
    const jobs = [103, 101, 103].map((id) => `${SHOP.url}/-/jobs/${id}`);
    assert.deepEqual(linksIn(row), jobs);
  });

  test("shows the last fifteen executions of a longer window, and counts all", () => {
    const html = pageOf(["unit tests", watched(`${"✗".repeat(10)}${"·".repeat(20)}`)]);
    assert.equal(html.match(/class="passed" title/g)?.length, 15);
    assert.deepEqual(statesOf(html), ["failed 10 of the last 30 times"]);
  });

  test("says times as a person does, with the exact one on hover, and when the page was made", () => {
    const html = renderPage([sourceOf([], { counted_at: hoursAgo(3), commit: "abcdef4277" })], NOW);
    const time = `<time datetime="2026-11-23T07:00:00.000Z" title="2026-11-23 07:00:00 UTC">3 hours ago</time>`;
    assert.ok(html.includes(`last counted ${time}: `));
    assert.match(textOf(html), /as of Mon, 23 Nov 2026, 10:00 UTC/);
    assert.match(textOf(html), /No job has failed lately · last counted 3 hours ago: pipeline 1004 at abcdef42/);
  });

  test("says that messages are not delivered", () => {
    assert.match(
      textOf(renderPage([sourceOf([], { pending_alerts: [pendingAlert("a")] })], NOW)),
      /1 message is not del/,
    );
  });

  test("links to GitHub as its addresses are, and to nothing where no address is known", () => {
    const jobs: NamedJob[] = [["unit tests", broken(MIGRATION)]];
    const url = "https://github.com/acme/shop";
    const github = linksIn(renderPage([sourceOf(jobs, { project: { name: "acme/shop", url, ci: "github" } })], NOW));
    assert.ok(github.includes(`${url}/runs/106`));
    assert.ok(github.includes(`${url}/compare/77aa01d3ff...abcdef4277`));
    const outside = linksIn(renderPage([sourceOf(jobs, { project: undefined })], NOW));
    assert.deepEqual(
      outside.filter((link) => !/^(#.*|data:.*|)$/.test(link ?? "")),
      [],
    );
  });

  test("links to addresses of http and https only", () => {
    for (const url of ["javascript:alert(1)", "data:text/html,x", "//evil.example", " https://evil.example"]) {
      const html = renderPage([sourceOf([["a", broken(MIGRATION)]], { project: { ...SHOP, url } })], NOW);
      assert.ok(!html.includes(`href="${url}`), url);
    }
  });

  test("escapes what is anybody's, and shows what would turn or move the text as a mark", () => {
    for (const name of HOSTILE) {
      const turned = { ...MIGRATION, commit: name, title: name, author: name };
      const project = { ...SHOP, name };
      const sources: Source[] = [
        sourceOf([[name, broken(turned)]], { project, commit: name }, name),
        { source: `${name} `, error: name },
      ];
      const html = renderPage(sources, NOW).replace(/<style>.*?<\/style>/s, "");
      assert.doesNotMatch(html, /<(script|img|svg|style)\b|\son\w+=["']|href="javascript:/);
      assert.doesNotMatch(html, /[\u0000\u202a-\u202e\u2066-\u2069]|\p{Surrogate}/u);
    }
    assert.match(pageOf([HOSTILE[4] ?? "", watched()]), /<bdi>�gnp\.exe�� �&#38;amp;<\/bdi>/);
  });

  test("has an icon of its own for each state, within itself", () => {
    const old = { counted_at: hoursAgo(100) };
    const pages: Source[][] = [
      [sourceOf([["a", broken()]])],
      [sourceOf([["a", often()]])],
      [{ source: "a.json", error: "x" }],
      [sourceOf([], old)],
      [sourceOf([])],
    ];
    const icons = pages.map((sources) => partOf(renderPage(sources, NOW), /<link rel="icon" href="(data:.*?)">/));
    assert.equal(new Set(icons).size, pages.length);
  });

  test("gives each section an address that lasts, and no two the same one", () => {
    const sources = [named("acme/shop"), named("acme shop"), named("名前"), { source: "名", error: "x" }];
    const html = renderPage(sources, NOW);
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ["at-acme-shop", "at-acme-shop--2", "at", "at--2"]) assert.ok(ids.includes(id), id);
    for (const link of linksIn(html).filter((url) => url?.startsWith("#")))
      assert.ok(ids.includes(link?.slice(1)), link);
  });

  test("names a few of many broken jobs at the top, counts the others, and has all in the grid", () => {
    const jobs = Array.from(
      { length: 300 },
      (_, i): NamedJob => [`job ${i}`, broken(i < 290 ? MIGRATION : { commit: `c${i}` })],
    );
    const html = pageOf(...jobs);
    const summary = summaryOf(html, "broken");
    assert.match(summary, /290 jobs: job 0, job 1, job 2, job 3, job 4, job 5 and 284 more failed 3 times/);
    assert.match(summary, /and 6 more$/);
    assert.equal(rowsOf(html).length, 300);
  });
});

test("mapBounded() has as many at work as it may, not one more, and keeps their order", async () => {
  const waiting: (() => void)[] = [];
  const results = mapBounded([1, 2, 3, 4, 5], 3, async (item) => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    return item * 10;
  });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  await turn();
  assert.equal(waiting.length, 3);
  waiting[2]?.();
  await turn();
  assert.equal(waiting.length, 4);
  waiting[1]?.();
  await turn();
  for (const resolve of waiting) resolve();
  assert.deepEqual(await results, [10, 20, 30, 40, 50]);
});

describe("npm run page", { concurrency: 2 }, () => {
  const cleanUp = makeCleanUp();
  const folderOf = (files: Record<string, unknown>) => {
    const { path, remove } = makeFolder(files);
    cleanUp(remove);
    return path;
  };
  const run = (urls: string[], cwd: string, env = {}) => start(urls, env, cwd, [...RUNTIME, PAGE]).result;
  const shop = () => serializeDocument(sourceOf([["unit tests", broken(MIGRATION)]]).document);

  test("shows files and objects in S3; what can't be read is an error of one line, on the page as well", async () => {
    const s3 = await startS3();
    cleanUp(s3.close);
    s3.objects.set(KEY, Buffer.from(await serializeDocument(named("acme/in-s3").document)));
    const folder = folderOf({ "shop.json": await shop(), "torn.json": '{"pipeline_id": 12' });
    const urls = ["shop.json", "torn.json", "none.json", `s3://bucket/${KEY}`, "s3://elsewhere/x", "shop.json"];
    const { code, stdout, stderr } = await run(urls, folder, documentAt(s3.url));
    assert.equal(code, 1);
    const lines = stderr.trimEnd().split("\n");
    assert.equal(lines.length, 3, stderr);
    assert.match(lines[0] ?? "", /^Error: .*torn\.json/);
    assert.match(lines[1] ?? "", /^Error: none\.json: there is no document yet/);
    assert.match(lines[2] ?? "", /^Error: .*s3:\/\/elsewhere\/x.*bucket/);
    const unread = summaryOf(stdout, "unread");
    assert.match(unread, /^3 projects can't be read/);
    for (const source of ["torn.json", "none.json", "s3://elsewhere/x"]) assert.ok(unread.includes(source), source);
    const heads = [...stdout.matchAll(/<h2 id="at-.*<\/h2>/g)].map(([head]) => textOf(head));
    assert.deepEqual(heads, ["acme/shop", "none.json", "s3://elsewhere/x", "torn.json", "acme/in-s3"]);
  });

  test("ends with 0 and says nothing where all can be read", async () => {
    const { code, stdout, stderr } = await run(["shop.json"], folderOf({ "shop.json": await shop() }));
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.match(stdout, /^<!doctype html>/);
  });

  for (const [what, urls] of Object.entries({
    "no document": [],
    "an empty name": [""],
    "an option": ["--json", "x"],
  })) {
    test(`says how it is used, and ends with 2, where it is given ${what}`, async () => {
      const { code, stdout, stderr } = await run(urls, folderOf({}));
      assert.deepEqual({ code, stdout, lines: stderr.trimEnd().split("\n").length }, { code: 2, stdout: "", lines: 1 });
      assert.match(stderr, /^Usage: npm run --silent page -- URL… > page\.html/);
    });
  }
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
    pages["/"] = renderPage(sourcesAt(url), NOW);
    const tab = await openTab(browser, `${url}/`, view);
    return { tab, url, asked: () => requests.map(({ path }) => path) };
  }
  const at = (site: string, jobs: NamedJob[], name = "acme/shop") =>
    sourceOf(
      jobs,
      { project: { name, url: `${site}/${name}`, ci: "gitlab" }, pending_alerts: [pendingAlert("a")] },
      name,
    );
  const everything = (site: string): Source[] => [
    at(site, [
      ["unit tests", broken(MIGRATION)],
      ["flaky", often()],
      ["lint", watched()],
    ]),
    named("acme/old", [], { counted_at: hoursAgo(100) }),
    named("acme/fine"),
    { source: "s3://bucket/none", error: "there is no document yet" },
  ];
  const click = (tab: Page, selector: string) => Promise.all([tab.waitForNavigation(), tab.locator(selector).click()]);

  test("asks for nothing but itself, whatever is in it", async () => {
    const { tab, asked } = await open((site) => [
      ...everything(site),
      at(
        site,
        HOSTILE.map((name) => [name, watched()]),
      ),
    ]);
    await tab.waitForNetworkIdle({ idleTime: 100 });
    assert.deepEqual(asked(), ["/"]);
  });

  test("runs nothing that names, titles or addresses hold", async () => {
    const { tab } = await open(() =>
      HOSTILE.map((name) => {
        const job = broken({ ...MIGRATION, commit: name, title: name, author: name });
        return sourceOf([[name, job]], { project: { ...SHOP, name, url: `javascript:window.ran=1//${name}` } }, name);
      }),
    );
    assert.equal(await tab.evaluate(() => "ran" in globalThis), false);
    const foreign = await tab.$$eval("script, img, svg, style ~ style, [onload], [onerror]", (found) => found.length);
    assert.equal(foreign, 0);
    const names = await tab.$$eval("tbody bdi", (found) => found.map(({ textContent }) => textContent));
    for (const name of HOSTILE.slice(0, 4)) assert.ok(names.includes(name), name);
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
        return [style?.backgroundImage.split("-gradient")[0], mark?.getBoundingClientRect().width];
      }),
    );
    assert.deepEqual(looks, [
      ["linear", 20],
      ["radial", 20],
    ]);
  });

  test("leads from the top to the section of a project, and to the row of a job", async () => {
    const { tab, url } = await open(everything);
    const seen = (selector: string) => tab.$eval(selector, (found) => found.getBoundingClientRect().top < innerHeight);
    const links = await tab.$$eval("header a, .part a, nav a", (found) => found.map(({ href }) => href));
    const inside = links.filter((link) => link.startsWith(`${url}/#`));
    const missing = await tab.evaluate(
      (links) => links.filter((link) => !document.getElementById(decodeURIComponent(new URL(link).hash.slice(1)))),
      inside,
    );
    assert.deepEqual([inside.length > 10, missing], [true, []]);
    await click(tab, `.part a[href="#at-acme-old"]`);
    assert.equal(await seen("#at-acme-old"), true);
    await click(tab, `.part a[href="#at-acme-shop.1"]`);
    assert.equal(await tab.$eval(":target th", (found) => found.textContent), "unit tests");
    assert.notEqual(await tab.$eval(":target", (found) => getComputedStyle(found).outlineStyle), "none");
  });

  for (const [what, selector, path] of [
    ["an execution to its failed job", "tbody td.run:nth-last-child(4) a", "/acme/shop/-/jobs/104"],
    ["a job's name to its latest failed job", "tbody th a", "/acme/shop/-/jobs/106"],
    ["a commit to its page", ".state code", "/acme/shop/-/commit/abcdef4277"],
    ["changes to the comparison", ".why a[href*=compare]", "/acme/shop/-/compare/77aa01d3ff...abcdef4277"],
    ["a project to its page", "main h2 a", "/acme/shop"],
  ] as const) {
    test(`leads from ${what}`, async () => {
      const { tab, asked } = await open((site) => [at(site, [["unit tests", broken(MIGRATION)]])]);
      await click(tab, selector);
      assert.ok(asked().includes(path), asked().join(" "));
    });
  }

  for (const width of [1280, 360]) {
    test(`is a table for a screen reader, on a screen of ${width}`, async () => {
      const { tab } = await open(everything, { width });
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
      assert.deepEqual(
        runs.map((cell) => cell.replace("cell ", "")),
        ["passed", "passed", "passed", "failed", "failed", "failed"],
      );
      assert.match(cells[1]?.at(-1) ?? "", /^cell broken failed 3 times in a row since abcdef42/);
    });
  }

  test("holds a phone's width with names of 255 characters, whatever is in them", async () => {
    const long = ["x".repeat(255), "名前".repeat(127), "a name ".repeat(36), "👩‍👩‍👧‍👦".repeat(23)];
    const { tab } = await open(
      (site) => [
        ...long.map((name) => at(site, [[name, broken({ ...MIGRATION, title: name, author: name })]], name)),
        sourceOf([["a", watched("✗".repeat(40))]]),
        { source: "y".repeat(255), error: "z".repeat(255) },
      ],
      { width: 360 },
    );
    for (const width of [360, 641, 1280]) {
      await tab.setViewport({ width, height: 800 });
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth);
      assert.equal(wide, width);
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

  test("shows 0, 3 and 300 jobs", async () => {
    for (const count of [0, 3, 300]) {
      const jobs = Array.from({ length: count }, (_, i): NamedJob => [`job ${i}`, watched()]);
      const { tab } = await open((site) => [at(site, jobs)]);
      assert.equal((await tab.$$("tbody tr")).length, count);
      assert.equal((await tab.$$("table")).length, count > 0 ? 1 : 0);
      await tab.close();
    }
  });

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
