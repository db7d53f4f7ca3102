import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  type AddressedMessage,
  checkConsistentFailures,
  type Format,
  MARKDOWN,
  type Message,
  type News,
  openSender,
  PLAIN,
  parseOwners,
  SLACK,
  type Turn,
  WEBHOOK,
  writeMessage,
  writeSubject,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  makeWorld,
  memoryStore,
  messageOf,
  NOW,
  newsOf,
  openAlert,
  PIPELINE_TOLD,
  passed,
  pendingAlert,
  runOf,
  settings,
  taskOf,
  textOf,
  toldOf,
  type Variables,
} from "./support/builders.ts";

const LIMIT = 3_900;
const FORMATS = { SLACK, WEBHOOK, MARKDOWN, PLAIN };
const PROJECT = "https://gitlab.example.com/acme/shop/-";
const PIPELINE = `<${PROJECT}/pipelines/1005|pipeline 1005>`;
const linkToJob = (id: number) => `<${PROJECT}/jobs/${id}|${id}>`;
const linkToCommit = (commit: string) => `<${PROJECT}/commit/${commit}|${commit}>`;
const linkToChanges = (from: string, to: string) => `<${PROJECT}/compare/${from}...${to}|changes since ${from}>`;

/** A pipeline of which no address is known. */
const WITHOUT_LINKS = { pipeline: { ...PIPELINE_TOLD, project: { name: "acme/shop" } } };

const write = (news: News[], rest: Partial<Message> = {}, format: Format = SLACK) =>
  writeMessage({ ...toldOf(news, rest), mentions: [] }, format);
const firstLineOf = (...args: Parameters<typeof write>) => write(...args).split("\n")[0] ?? "";
const paragraphsOf = (...args: Parameters<typeof write>) =>
  write(...args)
    .split("\n\n")
    .slice(1);
const paragraphOf = (item: News, rest: Partial<Message> = {}) => paragraphsOf([item], rest)[0] ?? "";

/** Evidence that one commit is at fault: the job had passed with the commit before it. */
const DIRECT: Turn = { commit: "c0ffee02", title: "Add a cart", author: "Ada Lovelace", from: "77aa01d3" };
const broken = (name: string, turned: Partial<Turn> = {}, rest: Partial<News> = {}) =>
  newsOf(name, { turned: { commit: "c0ffee02", ...turned }, ...rest });
const recovered = (name: string, turned: Partial<Turn> = {}, rest: Partial<News> = {}) =>
  newsOf(name, { kind: "recovered", ids: [], turned: { commit: "c0ffee04", ...turned }, ...rest });

/** Any kind of news. */
const KINDS = fc.constantFrom("consecutive" as const, "cumulative" as const, "recovered" as const, "gone" as const);

/** A message for Slack or a webhook without the links to the project's own pages. */
const withoutOwnLinks = (text = "") =>
  text.replace(/<https:\/\/gitlab\.example\.com\/acme\/shop\/-\/[^\s<>|]+\|[^<>|]*>/g, "");

/** With a message of its own, for which Node 20 need not find the assertion in what tsx made of this file. */
const assertIncludes = (text: string, part: string) => assert.ok(text.includes(part), `Expected ${part} in:\n${text}`);

describe("writeMessage() first line", () => {
  test("names the job, the project, the branch and the pipeline, with a link", () => {
    assert.equal(firstLineOf([newsOf("unit tests")]), `🔴 unit tests broken in acme/shop main, ${PIPELINE}`);
  });

  test("names the commit where there is no branch", () => {
    const { branch: _, ...pipeline } = { ...PIPELINE_TOLD, commit: "0ddba11".repeat(5) };
    assert.match(firstLineOf([newsOf("a")], { pipeline }), / in acme\/shop 0ddba110, /);
  });

  test("tells the kinds apart, the gravest first, and counts what is more than one", () => {
    const news = [
      newsOf("removed", { kind: "gone" }),
      newsOf("mended", { kind: "recovered" }),
      newsOf("flaky", { kind: "cumulative" }),
      newsOf("c"),
      newsOf("d"),
    ];
    const kinds = "🔴 2 jobs broken, 🟠 flaky failing often, 🟢 mended recovered, ⚪ removed gone";
    assert.equal(firstLineOf(news), `${kinds} in acme/shop main, ${PIPELINE}`);
  });

  test("counts a job whose name would fill it", () => {
    assert.match(firstLineOf([newsOf("x".repeat(255))]), /^🔴 1 job broken in /);
  });

  test("has the title of the commit where all of it has one cause, which its paragraph does not repeat", () => {
    const message = write([broken("a", DIRECT), broken("b", DIRECT)]);
    const [first, ...others] = message.split("\n");
    assert.equal(first, `🔴 2 jobs broken in acme/shop main since "Add a cart", ${PIPELINE}`);
    assert.doesNotMatch(others.join("\n"), /Add a cart/);
    assert.match(others.join("\n"), / by Ada Lovelace/);
  });

  test("has no title where there are two causes, or something else is told as well", () => {
    const others = [
      broken("b", { commit: "c0ffee03", title: "Two", from: "c0ffee02" }),
      broken("b", { from: "c0ffee01" }),
      newsOf("b", { kind: "cumulative" }),
      newsOf("b", { kind: "gone" }),
    ];
    for (const other of others) {
      const message = write([broken("a", DIRECT), other]);
      assert.doesNotMatch(message.split("\n")[0] ?? "", /since|Add a cart|Two/);
      assertIncludes(message, '"Add a cart"');
    }
  });

  test("has no title of a commit that only recovered jobs share", () => {
    assert.doesNotMatch(firstLineOf([recovered("a", { title: "Mend it", from: "c0ffee03" })]), /since|Mend it/);
  });

  test("has no title without evidence against that commit, whatever the document says", () => {
    for (const from of [undefined, "c0ffee02"]) {
      const turned = from === undefined ? {} : { from };
      assert.doesNotMatch(write([broken("a", { title: "Add a cart", author: "Ada", ...turned })]), /Add a cart|Ada/);
    }
  });

  test("begins with whom to mention, in Slack", () => {
    const mentions = ["<!subteam^S1>", "<@U1>"];
    const writeAs = (format: Format) => writeMessage({ ...toldOf([newsOf("a")]), mentions }, format);
    assert.match(writeAs(SLACK), /^<!subteam\^S1> <@U1> 🔴 a broken in /);
    for (const format of [WEBHOOK, MARKDOWN, PLAIN]) assert.match(writeAs(format), /^🔴 a broken in /);
  });
});

describe("writeMessage() paragraph of broken jobs", () => {
  test("of one that passed right before names the commit, its title and author, and the changes", () => {
    const [paragraph] = paragraphsOf([broken("unit tests", DIRECT), newsOf("b", { kind: "gone" })]);
    const cause = `since ${linkToCommit("c0ffee02")} "Add a cart" by Ada Lovelace, ${linkToChanges("77aa01d3", "c0ffee02")}`;
    assert.equal(
      paragraph,
      `🔴 <${PROJECT}/jobs/104|unit tests> failed 3 times in a row ${cause}\n` +
        `failures: ${[102, 103, 104].map(linkToJob).join(", ")}`,
    );
  });

  test("of one that passed further back has the range as its only cause, and names nobody", () => {
    const paragraph = paragraphOf(broken("a", { from: "77aa01d3" }));
    assertIncludes(paragraph, `|a> failed 3 times in a row, ${linkToChanges("77aa01d3", "c0ffee02")}\nfailures: `);
  });

  test("of one that is not known to have passed says since which commit or earlier, and names nobody", () => {
    for (const turned of [{}, { title: "Add a cart", author: "Ada Lovelace" }]) {
      const message = write([broken("a", turned), newsOf("b", { kind: "cumulative" })]);
      assertIncludes(message, `|a> failed 3 times in a row since ${linkToCommit("c0ffee02")} or earlier\nfailures: `);
      assert.doesNotMatch(message, /Add a cart|Ada|changes/);
    }
  });

  test("of one that had passed with the same commit says so, and compares nothing", () => {
    const message = write([broken("a", { ...DIRECT, from: "c0ffee02" }), newsOf("b", { kind: "cumulative" })]);
    assertIncludes(message, `|a> failed 3 times in a row with ${linkToCommit("c0ffee02")}, which had passed before\n`);
    assert.doesNotMatch(message, /Add a cart|Ada|changes/);
  });

  test("of fifty that were broken when the project adopted this is one, which names nobody", () => {
    const news = Array.from({ length: 50 }, (_, i) => broken(`job ${i}`, { title: "Adopt it", author: "Ada" }));
    const message = write(news);
    assert.equal(message.split("\n\n").length, 2);
    assertIncludes(message, `🔴 50 jobs failed 3 times in a row since ${linkToCommit("c0ffee02")} or earlier\n`);
    assert.doesNotMatch(message, /Ada|Adopt/);
  });

  test("with one cause has their number, the cause once, and their names in natural order", () => {
    const names = ["shard 10/10", "shard 2/10", "shard 1/10"];
    const news = names.map((name, i) => broken(name, DIRECT, { job_id: i + 1, times: 3 + i }));
    assert.deepEqual(paragraphsOf(news), [
      [
        `🔴 3 jobs failed 3 to 5 times in a row since ${linkToCommit("c0ffee02")} by Ada Lovelace, ${linkToChanges("77aa01d3", "c0ffee02")}`,
        `<${PROJECT}/jobs/3|shard 1/10>, <${PROJECT}/jobs/2|shard 2/10>, <${PROJECT}/jobs/1|shard 10/10>`,
      ].join("\n"),
    ]);
  });

  test("with two causes is two, the larger one first", () => {
    const news = [broken("a", { commit: "c0ffee01" }), broken("b"), broken("c")];
    const [first, second, ...others] = paragraphsOf(news);
    assert.match(first ?? "", /^🔴 2 jobs .* since .*c0ffee02/);
    assert.match(second ?? "", /^🔴 <.*\|a> .* since .*c0ffee01/);
    assert.deepEqual(others, []);
  });

  test("with one commit, but another one before it, is another cause", () => {
    const [first, second] = paragraphsOf([broken("a", DIRECT), broken("b", { from: "c0ffee01" })]);
    assert.match(first ?? "", /\|a> .* by Ada Lovelace, /);
    assert.match(second ?? "", /\|b> failed 3 times in a row, <.*\|changes since c0ffee01>\n/);
  });

  test("says nothing of where a streak began where that is unknown", () => {
    const paragraph = paragraphOf(newsOf("a", { times: 1, ids: [104] }));
    assert.match(paragraph, /\|a> failed 1 time in a row\nfailures: <\S+\|104>$/);
  });

  test("cuts long commits where they are shown, and links them whole", () => {
    const [commit, from] = ["c0ffee02".repeat(5), "77aa01d3".repeat(5)];
    const paragraph = paragraphOf(broken("a", { commit, from, title: "T" }));
    assertIncludes(paragraph, `<${PROJECT}/commit/${commit}|c0ffee02>`);
    assertIncludes(paragraph, `<${PROJECT}/compare/${from}...${commit}|changes since 77aa01d3>`);
  });

  test("has the stage and the reason, but not that the script failed", () => {
    const detailOf = (where: Partial<News>) => /\|a>(.*?) failed 3/.exec(paragraphOf(newsOf("a", where)))?.[1];
    assert.equal(detailOf({}), "");
    assert.equal(detailOf({ stage: "test", reason: "script_failure" }), " (test)");
    assert.equal(detailOf({ stage: "test", reason: "runner_system_failure" }), " (test: runner_system_failure)");
    assert.equal(detailOf({ reason: "Run npm test <&>" }), " (Run npm test &lt;&amp;&gt;)");
    assert.equal(detailOf({ stage: null, reason: null }), "");
  });

  test("tells the stage and the reason once where they are those of all", () => {
    const withReason = (name: string, reason: string) => newsOf(name, { reason });
    const same = paragraphsOf([withReason("a", "stuck"), withReason("b", "stuck")]).join();
    assert.match(same, /^🔴 2 jobs \(stuck\) failed .*\|a>, .*\|b>$/s);
    const different = paragraphsOf([withReason("a", "stuck"), withReason("b", "timeout")]).join();
    assert.match(different, /^🔴 2 jobs failed .*\|a> \(stuck\), .*\|b> \(timeout\)$/s);
  });

  test("links to the address that the CI gave for a job, else to the job by its id", () => {
    const given = paragraphOf(newsOf("a", { url: "https://elsewhere.example.com/104?a=1&b=2" }));
    assert.match(given, /^🔴 <https:\/\/elsewhere\.example\.com\/104\?a=1&amp;b=2\|a> /);
    assertIncludes(paragraphOf(newsOf("a", { job_id: 9 })), `🔴 <${PROJECT}/jobs/9|a> `);
  });
});

describe("writeMessage() paragraph of other news", () => {
  test("of a job that fails often counts the executions that there are, and links its failures", () => {
    const ids = [101, 103, 104, 106, 107];
    const news = newsOf("e2e", { kind: "cumulative", times: 5, executions: 9, ids, job_id: 107 });
    assert.equal(
      paragraphOf(news),
      `🟠 <${PROJECT}/jobs/107|e2e> failed 5 times in the last 9 executions\nfailures: ${ids.map(linkToJob).join(", ")}`,
    );
  });

  test("of jobs that fail often is one for all of them", () => {
    const news = [7, 9].map((executions, i) => newsOf(`job ${i}`, { kind: "cumulative", times: 5, executions }));
    assert.match(
      paragraphsOf(news).join(),
      /^🟠 2 jobs failed 5 times in the last 7 to 9 executions\n.*job 0>, .*job 1>$/,
    );
  });

  test("of a job that recovered has its passes, how long its alert was open, and what mended it", () => {
    const news = recovered("e2e", { title: "Mend the cart", author: "Grace Hopper", from: "c0ffee03" }, { job_id: 7 });
    assert.equal(
      paragraphOf(news),
      `🟢 <${PROJECT}/jobs/7|e2e> passed 3 times in a row, its alert was open for 60 minutes, mended by ${linkToCommit("c0ffee04")} "Mend the cart" (Grace Hopper)`,
    );
  });

  test("of a job that recovered has only the changes where it failed last further back", () => {
    const changes = linkToChanges("c0ffee01", "c0ffee04");
    const paragraph = paragraphOf(recovered("e2e", { from: "c0ffee01" }));
    assert.match(paragraph, /\|e2e> passed 3 times in a row, its alert was open for 60 minutes, <[^<]*$/);
    assert.ok(paragraph.endsWith(`, ${changes}`), paragraph);
  });

  test("of a job that recovered without any change says that the commit had failed before", () => {
    const paragraph = paragraphOf(recovered("e2e", { from: "c0ffee04", title: "Mend it", author: "Grace" }));
    assert.ok(
      paragraph.endsWith(`for 60 minutes, with ${linkToCommit("c0ffee04")}, which had failed before`),
      paragraph,
    );
  });

  test("of a job that recovered says nothing of what mended it where that is unknown", () => {
    for (const news of [recovered("e2e", { title: "Mend it" }), newsOf("e2e", { kind: "recovered", ids: [] })]) {
      assert.match(paragraphOf(news), /passed 3 times in a row, its alert was open for 60 minutes$/);
    }
  });

  test("of jobs that recovered is one for each commit that mended them", () => {
    const mended = { title: "Mend it", from: "c0ffee03" };
    const news = [recovered("a", mended), recovered("b", mended, { since: NOW.toISOString(), times: 4 })];
    const [first, second] = paragraphsOf([...news, recovered("c", { ...mended, commit: "c0ffee05" })]);
    assert.match(
      first ?? "",
      /^🟢 2 jobs passed 3 to 4 times in a row, the alerts were open for up to 60 minutes, mended by .*c0ffee04> "Mend it"\n.*a>, .*b>$/,
    );
    assert.match(second ?? "", /^🟢 <.*\|c> .*c0ffee05> "Mend it"$/);
  });

  test("of jobs that are gone says since when each has not run", () => {
    const gone = (name: string, since: string) => newsOf(name, { kind: "gone", ids: [], job_id: 103, since });
    const one = gone("e2e", "2026-10-01T10:00:00Z");
    const link = (name: string) => `<${PROJECT}/jobs/103|${name}>`;
    assert.equal(paragraphOf(one), `⚪ ${link("e2e")} (not run since 2026-10-01) is gone: its alert is closed`);
    assert.equal(
      paragraphsOf([one, gone("lint", "2026-10-02T10:00:00Z")]).join(),
      `⚪ 2 jobs are gone: their alerts are closed\n` +
        `${link("e2e")} (not run since 2026-10-01), ${link("lint")} (not run since 2026-10-02)`,
    );
  });

  test("says for how long the alert was open in words that fit", () => {
    const times = ["10:00:00Z", "09:59:00Z", "09:57:30Z", "08:01:00Z", "08:00:00Z", "10:05:00Z"];
    const days = ["2026-11-22T10", "2026-11-21T11", "2026-11-21T10", "2026-10-24T10"].map((day) => `${day}:00:00Z`);
    const words = [...times.map((time) => `2026-11-23T${time}`), ...days].map(
      (since) => /open for (.*)$/.exec(paragraphOf(recovered("a", {}, { since })))?.[1],
    );
    assert.deepEqual(words, [
      ...["0 minutes", "1 minute", "3 minutes", "119 minutes", "2 hours", "0 minutes"],
      ...["24 hours", "47 hours", "2 days", "30 days"],
    ]);
  });
});

describe("writeMessage() links", () => {
  test("lead to GitHub's pages of the run, the job, the commit and the comparison there", () => {
    const url = "https://github.com/acme/shop/actions/runs/555";
    const project = { name: "acme/shop", url: "https://github.com/acme/shop", ci: "github" as const };
    const message = write([broken("a", DIRECT)], { pipeline: { ...PIPELINE_TOLD, url, project } });
    assertIncludes(message, "<https://github.com/acme/shop/actions/runs/555|pipeline 1005>");
    assertIncludes(message, "<https://github.com/acme/shop/runs/104|a>");
    assertIncludes(message, "<https://github.com/acme/shop/commit/c0ffee02|c0ffee02>");
    assertIncludes(message, "<https://github.com/acme/shop/compare/77aa01d3...c0ffee02|changes since 77aa01d3>");
    assert.doesNotMatch(message, /\/-\//);
    // A run's number is not in the address of the run.
    assert.match(firstLineOf([newsOf("a")], { pipeline: { ...PIPELINE_TOLD, project } }), / main, pipeline 1005$/);
  });

  test("are only those that are given where the CI is neither GitLab's nor GitHub's", () => {
    const project = { name: "acme/shop", url: "https://github.com/acme/shop" };
    const url = "https://jenkins.example.com/job/shop/1005";
    const message = write([broken("a", { from: "77aa01d3" }, { url: "https://jenkins.example.com/a" }), broken("b")], {
      pipeline: { ...PIPELINE_TOLD, url, project },
    });
    const addresses = message.match(/https?:[^|>]*/g);
    assert.deepEqual(addresses, [url, "https://jenkins.example.com/a"]);
    assertIncludes(message, "failed 3 times in a row, changes since 77aa01d3\nfailures: 102, 103, 104");
  });

  test("are missing where no address is known", () => {
    assert.equal(
      write([broken("a", { from: "77aa01d3", title: "T" })], WITHOUT_LINKS),
      '🔴 a broken in acme/shop main since "T", pipeline 1005\n\n' +
        "🔴 a failed 3 times in a row since c0ffee02, changes since 77aa01d3\nfailures: 102, 103, 104",
    );
  });

  test("look as each chat has them", () => {
    const address = `${PROJECT}/pipelines/1005`;
    const writeAs = (format: Format) =>
      firstLineOf([newsOf("a")], {}, format).slice(
        firstLineOf([newsOf("a")], WITHOUT_LINKS, format).indexOf("pipeline"),
      );
    assert.equal(writeAs(SLACK), `<${address}|pipeline 1005>`);
    assert.equal(writeAs(WEBHOOK), `<${address}|pipeline 1005>`);
    assert.equal(writeAs(MARKDOWN), `[pipeline 1005](${address})`);
    assert.equal(writeAs(PLAIN), `pipeline 1005 (${address})`);
  });

  test("in plain text are the address alone where that ends with the label", () => {
    assert.match(
      write([newsOf("a")], {}, PLAIN),
      /\nfailures: https:\S+\/jobs\/102, https:\S+\/jobs\/103, https:\S+\/104$/,
    );
  });

  test("can't be ended by what is in an address", () => {
    const url = "https://ci.example.com/a b|c> <!channel> (d) `e` \n\u2028[f](g)";
    const linkIn = (format: Format) => paragraphsOf([newsOf("a", { url, ids: [] })], WITHOUT_LINKS, format).join();
    for (const format of [SLACK, WEBHOOK])
      assert.match(linkIn(format), /^🔴 <https:\/\/ci\.example\.com\/[^\s<>|]+\|a> failed /);
    assert.match(linkIn(MARKDOWN), /^🔴 \[a\]\(https:\/\/ci\.example\.com\/[^\s<>()`\\]+\) failed /);
    assert.match(linkIn(PLAIN), /^🔴 a \(https:\/\/ci\.example\.com\/[^\s<>]+\) failed /);
  });
});

describe("writeMessage() is at most 3,900 characters", () => {
  const BIG_NAMES = Array.from({ length: 300 }, (_, i) => `${i + 1}`.padStart(3, "0").padEnd(240, "x"));
  const assertFits = (message: string) => assert.ok(message.length <= LIMIT, `${message.length} characters`);

  test("and counts the jobs that do not fit, with a link to the pipeline", () => {
    const message = write(BIG_NAMES.map((name) => broken(name, DIRECT)));
    assertFits(message);
    assert.ok(message.length > LIMIT - 500, `${message.length} characters`);
    assert.match(message, /^🔴 300 jobs broken in /);
    const shown = BIG_NAMES.filter((name) => message.includes(`|${name}>`)).length;
    assert.ok(message.endsWith(`, and <${PROJECT}/pipelines/1005|${300 - shown} more>`), message.slice(-200));
  });

  test("and counts them without a link where there is none", () => {
    assert.match(
      write(
        BIG_NAMES.map((name) => newsOf(name)),
        WITHOUT_LINKS,
      ),
      /, and 28\d more$/,
    );
  });

  test("and has no count where all fits", () => {
    const message = write(Array.from({ length: 40 }, (_, i) => broken(`unit tests ${i + 1}/40`, DIRECT)));
    assertFits(message);
    assert.doesNotMatch(message, / more/);
    assertIncludes(message, "|unit tests 40/40>");
  });

  test("and keeps the first line of each cause, as long as those fit", () => {
    const many = Array.from({ length: 100 }, (_, i) => broken(`job ${i}`.padEnd(60, "x")));
    const message = write([...many, broken("a", { commit: "c0ffee03" }), broken("b", { commit: "c0ffee04" })]);
    assertFits(message);
    for (const commit of ["c0ffee02", "c0ffee03", "c0ffee04"]) assertIncludes(message, `since ${linkToCommit(commit)}`);
  });

  test("and counts the jobs of the causes that do not fit", () => {
    const message = write(Array.from({ length: 60 }, (_, i) => broken(`job ${i}`, { commit: `c0ffee${i + 10}` })));
    assertFits(message);
    const shown = message.match(/failed 3 times/g)?.length ?? 0;
    assert.ok(shown > 8, `${shown} paragraphs`);
    assert.match(message, new RegExp(`\n\nand <.*\\|${60 - shown} more>$`));
  });

  test("and counts the failures of a single job that do not fit", () => {
    const message = write([newsOf("a", { ids: Array.from({ length: 300 }, (_, i) => i + 1000) })]);
    assertFits(message);
    const shown = message.match(/jobs\/\d+\|\d+>/g)?.length ?? 0;
    assert.match(message, new RegExp(`, and <.*\\|${300 - shown} more>$`));
  });

  test("in every format, whatever its names, titles, authors, branches and addresses are", () => {
    const unit = fc.constantFrom("&", "<", "x", "🧪", " ", "*", " _", "`", ":", "@a", "[");
    const aText = (maxLength: number) =>
      fc.string({ unit, minLength: 1, maxLength, size: "max" }).map((text) => text.slice(0, maxLength).toWellFormed());
    const aTurn = fc.record({ title: aText(150), author: aText(150), from: fc.constant("77aa01d3") });
    const aCommit = fc.constantFrom("c0ffee01", "c0ffee02");
    const someNews = fc.array(fc.tuple(aText(255), aTurn, KINDS, aCommit), {
      minLength: 1,
      maxLength: 40,
      size: "max",
    });
    const aUrl = fc.constantFrom(`https://x.example/${"x".repeat(200)}`, undefined);
    fc.assert(
      fc.property(
        someNews,
        aText(255),
        aUrl,
        fc.constantFrom(...Object.values(FORMATS)),
        (listed, text, url, format) => {
          const news = listed.map(([name, turned, kind, commit]) =>
            broken(name, { commit, ...turned }, { kind, url, stage: text, reason: text }),
          );
          const project = { ...PIPELINE_TOLD.project, name: text, ...(url ? { url } : {}) };
          assertFits(write(news, { pipeline: { ...PIPELINE_TOLD, branch: text, url, project } }, format));
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("writeMessage() takes names, titles, authors and branches for data", () => {
  /** How a job's name is shown where it is no link. */
  const shown = (name: string, format: Format) =>
    /^🔴 (.*) broken in acme\/shop main, pipeline 1005\n/s.exec(write([newsOf(name)], WITHOUT_LINKS, format))?.[1] ??
    "";
  /** What a reader sees of a text in each format. */
  const decode = (text: string) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  const withoutBackslashes = (text: string) => text.replace(/\\([!-/:-@[-`{-~])/g, "$1");
  const readAs = { SLACK: decode, WEBHOOK: decode, MARKDOWN: withoutBackslashes, PLAIN: (text: string) => text };
  const withoutMarks = (text: string) => text.replaceAll("\u2060", "");

  test("an ordinary name can be copied from every chat", () => {
    const names = [
      "unit-tests (ubuntu, 20)",
      "test_foo_bar",
      "build: [linux, 1.22]",
      "e2e: checkout 1/3",
      "a@v2",
      "1.5*2",
    ];
    for (const [name, format] of Object.entries(FORMATS)) {
      const read = readAs[name as keyof typeof FORMATS];
      const seen = names.map((job) => read(shown(job, format)));
      assert.deepEqual(
        seen.map((text, i) => (names[i]?.includes("@") ? withoutMarks(text) : text)),
        names,
        name,
      );
    }
  });

  test("escapes what Slack would take for markup", () => {
    const name = "<!channel> & <http://evil|x>";
    const message = write([broken(name, { ...DIRECT, title: "<@U1> & <!here>", author: "<@U2>" })]);
    assert.match(withoutMarks(message), /^🔴 &lt;!channel&gt; &amp; &lt;http:\/\/evil\|x&gt; broken in /);
    assertIncludes(withoutMarks(message), `<${PROJECT}/jobs/104|&lt;!channel&gt; &amp; &lt;http://evil/x&gt;> failed`);
    assertIncludes(message, '"&lt;@U1&gt; &amp; &lt;!here&gt;"');
    assertIncludes(message, "by &lt;@U2&gt;");
  });

  test("keeps marks at the edge of a word from being marks in Slack, and only those", () => {
    const cases = [
      ["build `x` *y* _z_", "build ^`x` ^*y* ^_z_"],
      ["Revert `foo` ~bar~ :boom:", "Revert ^`foo` ^~bar~ :^boom:"],
      ["test_*_foo *x*", "test_*_foo ^*x*"],
      ["__proto__", "^__proto__"],
      ['(_a_) "*b*"', '(^_a_) "^*b*"'],
      ["***a***", "^***a***"],
      ["é_ü_1 5*3", "é_ü_1 5*3"],
      [":app:test :+1:", ":^app:test :^+1:"],
      ["see https://evil.example HTTP://EVIL", "see https:^//evil.example HTTP:^//EVIL"],
      [":了解: :skin-tone-2:", ":^了解: :^skin-tone-2:"],
      ["at 10:30, a: b, c :", "at 10:30, a: b, c :"],
    ] as const;
    const marked = cases.map(([name]) => shown(name, SLACK).replaceAll("\u2060", "^"));
    assert.deepEqual(
      marked,
      cases.map(([, expected]) => expected),
    );
  });

  test("escapes what CommonMark would take for markup", () => {
    const cases = [
      ["build `x` *y* _z_ ~w~", "build \\`x\\` \\*y\\* \\_z_ \\~w\\~"],
      ["test_foo_bar", "test_foo_bar"],
      ["[a](https://evil.example)", "\\[a\\](https:^//evil.example)"],
      ["![a](//evil.example)", "!\\[a\\](//evil.example)"],
      ["<script> & &lt; <!-- -->", "\\<script\\> \\& \\&lt; \\<!-- --\\>"],
      ["back\\slash \\*", "back\\\\slash \\\\\\*"],
      ["# a", "\\# a"],
      ["1. a", "1\\. a"],
      ["- a", "\\- a"],
      [":boom: @all @acme/ci", ":^boom: @^all @^acme/ci"],
    ] as const;
    const marked = cases.map(([name]) => shown(name, MARKDOWN).replaceAll("\u2060", "^"));
    assert.deepEqual(
      marked,
      cases.map(([, expected]) => expected),
    );
  });

  test("pings nobody in other chats, and makes no link there", () => {
    const title = "Notify @all and @here of deploys [x](https://evil.example) @channel";
    for (const format of [WEBHOOK, MARKDOWN]) {
      const message = write([broken("@ada", { ...DIRECT, title, author: "@bob_" }, { stage: "@carl" })], {}, format);
      assert.doesNotMatch(message, /@\w/);
      assert.doesNotMatch(message, /[^\\]\]\(https:\/\/evil/);
      assertIncludes(withoutBackslashes(withoutMarks(message)), title);
    }
  });

  test("replaces control characters, line breaks and what turns the direction of writing", () => {
    const name = "a\nb\u0007\u0085c\u2028d\u0000\u202ee\u2066";
    for (const format of Object.values(FORMATS)) {
      const message = write([broken(name, { ...DIRECT, title: "one\r\n\r\ntwo", author: "x\ty" })], {}, format);
      assert.match(message, /^🔴 a b c d e {2}broken in .* since "one two", /);
      assert.doesNotMatch(message.replaceAll("\n", ""), /[\p{Cc}\u2028-\u202e\u2066-\u2069]/u);
      assertIncludes(message, " by x y, ");
    }
  });

  test("is shown as written in every format, whatever it is", () => {
    const unit = fc.constantFrom(..."*_~`:@[]()<>&|\\#+-=!1.a é🧪", "://", "www.", "__", "&lt;");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(aText, fc.constantFrom("SLACK", "WEBHOOK", "MARKDOWN", "PLAIN"), (name, format) => {
        assert.equal(withoutMarks(readAs[format](shown(name, FORMATS[format]))), name);
      }),
    );
  });

  test("has no mark left that would be one, whatever it is", () => {
    const unit = fc.constantFrom(..."*_~`:@[]()<>&\\a1 é🧪", " https://", "all");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(aText, (name) => {
        const [slack, webhook, markdown] = [SLACK, WEBHOOK, MARKDOWN].map((format) => shown(name, format));
        for (const text of [slack, webhook])
          assert.doesNotMatch(text ?? "", /(^|[\s()[\]\\@:;])[*_~`]|:[\w+-]+:|https:\/\//);
        assert.doesNotMatch(webhook ?? "", /@\w|\]\(/);
        const active = (markdown ?? "").replace(/\\[!-/:-@[-`{-~]/g, " ");
        assert.doesNotMatch(active, /[`*[\]<>&~]|(^|[\s()@:])_|@\w|:[\w+-]+:|https:\/\//);
      }),
    );
  });

  test("every < and > in Slack belongs to a link of its own making, whatever the texts are", () => {
    const unit = fc.constantFrom(..."<>|&!@#a 🧪\n\r\u0000\u0085\u2028\ud83e", "$&", "https://evil");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(aText, aText, KINDS, (name, text, kind) => {
        const turned = { commit: text, title: text, author: text, from: name };
        const news = broken(name, turned, { kind, stage: text, reason: text });
        const pipeline = { ...PIPELINE_TOLD, branch: text, project: { ...PIPELINE_TOLD.project, name: text } };
        const message = write([news, newsOf("b", { kind: "cumulative" })], { pipeline });
        assert.doesNotMatch(withoutOwnLinks(message), /[<>]/);
        assert.doesNotMatch(message.replaceAll("\n", ""), /[\p{Cc}\u2028\u2029]/u);
      }),
    );
  });
});

describe("writeSubject()", () => {
  const subjectOf = (news: News[], rest: Partial<Message> = {}) =>
    writeSubject({ ...toldOf(news, rest), mentions: [] });

  test("is the first line as plain text, without addresses and mentions", () => {
    const content = { ...toldOf([broken("a *b* <c>", DIRECT)]), mentions: ["<!here>"] };
    assert.equal(writeSubject(content), '🔴 a *b* <c> broken in acme/shop main since "Add a cart", pipeline 1005');
  });

  test("is one line of at most 255 characters, without half a character at its end", () => {
    for (let length = 0; length < 4; length++) {
      const branch = `${"x".repeat(length)}${"🧪".repeat(80)}`;
      const title = `two\nlines ${"🧪".repeat(70)}`;
      const subject = subjectOf([broken("a", { ...DIRECT, title })], { pipeline: { ...PIPELINE_TOLD, branch } });
      assert.ok(subject.length <= 255 && !/\n/.test(subject) && subject.isWellFormed(), subject);
    }
  });

  test("is how a message on the first day begins", () => {
    const hello = { document: "s3://bucket/key", in_a_row: 3, often: 5, window: 10 };
    assert.match(subjectOf([], { hello }), /^👋 .* acme\/shop main, from pipeline 1005 on\.$/);
  });
});

describe("writeMessage() on the first day", () => {
  const hello = { document: "s3://bucket/key", in_a_row: 4, often: 5, window: 10 };

  test("says what it watches, when it will speak, and what it means where it was seen before", () => {
    for (const format of Object.values(FORMATS)) {
      const text = write([], { hello }, format).replaceAll("\u2060", "");
      assert.match(text, /^👋 .*acme\/shop main/);
      assert.match(text, /failed 4 times in a row, or 5 times in its last 10 executions/);
      assert.match(text, /seen this message before\? .*s3:\/\/bucket\/key was lost, and with it the open alerts/);
    }
  });

  test("takes the name of the document for data", () => {
    const text = write([], { hello: { ...hello, document: "<!channel> *a*\n@all" } });
    assertIncludes(text, "&lt;!channel&gt; \u2060*a* @all was lost");
  });
});

describe("a sender of stdout", () => {
  test("prints plain text", async () => {
    const printed: string[] = [];
    const { sender, network } = settings({ SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined });
    const print = async (text: string) => void printed.push(text);
    const { send } = openSender(sender, network, { environment: {}, print, say: () => {} });
    await send(messageOf("a & *b*", WITHOUT_LINKS), null, new AbortController().signal);
    assert.match(printed.join(), /^🔴 a & \*b\* broken in acme\/shop main, pipeline 1005\n/);
  });
});

describe("what a run tells", () => {
  const storeOf = (document: Parameters<typeof textOf>[0]) => memoryStore(textOf(document)).store;

  /**
   * What is sent of a job in pipelines in which it passed (·), failed (✗) or was absent (a space). The n-th has the
   * commit c0ffee0n, with the title "Change n" by Dev n.
   */
  async function tell(strip: string, variables: Variables = {}) {
    const store = storeOf({ ...documentOf(), pipeline_id: 0 });
    const texts: string[] = [];
    for (const [i, mark] of [...strip].entries()) {
      const n = i + 1;
      const environment = {
        CI_PIPELINE_ID: `${n}`,
        CI_COMMIT_SHA: `c0ffee${String(n).padStart(2, "0")}`,
        CI_COMMIT_TITLE: `Change ${n}`,
        CI_COMMIT_AUTHOR: `Dev ${n} <dev@example.com>`,
        ...variables,
      };
      const job = mark === "✗" ? failed("build") : passed("build");
      const { sent } = await runOf([passed("lint"), ...(mark === " " ? [] : [job])], environment, { store });
      texts.push(...sent.map(({ text }) => text));
    }
    return texts;
  }

  /** The last paragraph of the last message. */
  const tellLast = async (...args: Parameters<typeof tell>) => (await tell(...args)).at(-1)?.split("\n\n").at(-1) ?? "";

  test("of a job that broke with the commit after it had passed names that commit's author", async () => {
    const [text = "", ...others] = await tell("·✗✗✗");
    assert.match(text, /^🔴 build broken in acme\/shop main since "Change 2", /);
    assertIncludes(text, `since ${linkToCommit("c0ffee02")} by Dev 2, ${linkToChanges("c0ffee01", "c0ffee02")}\n`);
    assert.deepEqual(others, []);
  });

  test("of a job that had not run in between has the range since it passed, and names nobody", async () => {
    for (const [strip, to] of [
      ["·   ✗✗✗", "c0ffee05"],
      ["· ✗✗✗", "c0ffee03"],
    ] as const) {
      const [text = ""] = await tell(strip);
      assertIncludes(text, `failed 3 times in a row, ${linkToChanges("c0ffee01", to)}\n`);
      assert.doesNotMatch(text, /Change|Dev/);
    }
  });

  test("of a job whose first known execution failed names nobody", async () => {
    const [text = ""] = await tell("✗✗✗");
    assertIncludes(text, `since ${linkToCommit("c0ffee01")} or earlier\n`);
    assert.doesNotMatch(text, /Change|Dev|changes/);
  });

  test("of a job that recovered after it had failed right before names what mended it", async () => {
    const mended = `mended by ${linkToCommit("c0ffee04")} "Change 4" (Dev 4)`;
    assert.ok((await tellLast("✗✗✗···")).endsWith(mended));
  });

  test("of a job that recovered after nine pipelines without it has the changes since it failed", async () => {
    const paragraph = await tellLast("✗✗✗         ···");
    assert.ok(paragraph.endsWith(linkToChanges("c0ffee03", "c0ffee13")), paragraph);
    assert.doesNotMatch(paragraph, /mended|Change|Dev/);
  });

  test("has no links under another CI, as no address is guessed", async () => {
    const [text = ""] = await tell("·✗✗✗", { GITLAB_CI: undefined, CI_PROJECT_URL: "https://github.com/acme/shop" });
    assert.doesNotMatch(text, /https?:/);
    assertIncludes(text, "since c0ffee02 by Dev 2, changes since c0ffee01\n");
  });

  test("is nothing where a job that only failed often has recovered", async () => {
    const store = storeOf(documentOf(["a", history("···✗✗✗✗✗··", { alert: openAlert("cumulative") })]));
    const { run, sent } = await runOf([passed("a")], {}, { store });
    assert.deepEqual([run.reached.recovered, sent], [["a"], []]);
  });

  test("is that a job with an open alert is gone, of either kind", async () => {
    for (const kind of ["consecutive", "cumulative"] as const) {
      const job = history("✗✗✗", { alert: openAlert(kind), last_run: "2026-10-01T10:00:00Z" });
      const store = storeOf({ ...documentOf(["a", job]), counted_at: AN_HOUR_AGO });
      const { run, sent } = await runOf([], {}, { store });
      assert.deepEqual(run.reached.gone, ["a"]);
      assert.match(sent[0]?.text ?? "", /^⚪ a gone in .*not run since 2026-10-01/s);
    }
  });

  test("is one message, whatever happened", async () => {
    const open = { alert: openAlert("consecutive", AN_HOUR_AGO) };
    const names = Array.from({ length: 40 }, (_, i) => `shard ${i}`);
    const jobs = names.map((name): [string, ReturnType<typeof history>] => [name, history("✗✗")]);
    const before = documentOf(...jobs, ["often", history("✗·✗·✗·✗·")], ["mended", history("✗✗✗··", open)]);
    const ran = [...names.map((name) => failed(name)), failed("often"), passed("mended")];
    const { sent } = await runOf(ran, {}, { store: storeOf(before) });
    assert.equal(sent.length, 1);
    assert.match(sent[0]?.text ?? "", /^🔴 40 jobs broken, 🟠 often failing often, 🟢 mended recovered in /);
  });
});

describe("whoever can write the document", () => {
  const WORDS = "<!channel> <@U1> @all [x](https://evil.example/) <https://evil.example/|x> *b* `c`\n\nHello";
  const owners = {
    rules: parseOwners("hers @acme/web\nours @acme/ci", "owners"),
    channels: new Map([
      ["@acme/web", { channel: "#web", mentions: ["<@U2>"] }],
      ["@acme/ci", { channel: "#ci", mentions: ["<!here>"] }],
    ]),
  };

  /** A run of a pipeline without failures on a document with these messages. */
  async function deliver(pending_alerts: object[], document: object = {}) {
    const { store, stored } = memoryStore(JSON.stringify({ pipeline_id: 1004, jobs: {}, ...document, pending_alerts }));
    const messages: (AddressedMessage & { to: string | null })[] = [];
    const send = async (message: AddressedMessage, to: string | null) => void messages.push({ ...message, to });
    const { world } = makeWorld({ store, sender: { name: "Slack", place: "the test", broadcast: "#ci", send } });
    const run = await checkConsistentFailures({ ...(await taskOf()), owners }, world);
    const textsIn = (format: Format) => messages.map((message) => writeMessage(message, format));
    return { run, messages, textsIn, left: JSON.parse(`${stored.text}`).pending_alerts ?? [] };
  }

  test("can't send to a channel that no owner has", async () => {
    const channels = ["#general", "#ci-other", "C0123ABCD", "U0123ABCD", "@acme/web", "@ada", "", "#", "<!channel>"];
    const forged = channels.map((channel) => pendingAlert(`for ${channel}`, { channel, id: channel }));
    const { run, messages, left } = await deliver([...forged, pendingAlert("hers", { channel: "#web" })]);
    assert.deepEqual(
      messages.map(({ to, news }) => [to, news[0]?.job]),
      [["#web", "hers"]],
    );
    assert.deepEqual([left, run.errors], [[], []]);
    assert.equal(run.warnings.length, channels.length);
    assert.equal(run.warnings[0], "What waited for #general is dropped: no owner has that channel any more");
  });

  test("can't put words, links or pings into the bot's mouth", async () => {
    const turned = { commit: WORDS, title: WORDS, author: WORDS, from: `${WORDS} before` };
    const kinds = ["consecutive", "cumulative", "recovered", "gone"] as const;
    const news = kinds.map((kind) => newsOf(WORDS, { kind, turned, stage: WORDS, reason: WORDS }));
    const pipeline = { ...PIPELINE_TOLD, commit: WORDS, branch: WORDS };
    const project = { ...PIPELINE_TOLD.project, name: WORDS };
    const { branch: _, ...withoutBranch } = pipeline;
    const told = [
      { news, pipeline: { ...pipeline, project } },
      { news: [newsOf(WORDS, { turned })], pipeline: withoutBranch },
      { news: [], hello: { document: WORDS, in_a_row: 3, often: 5, window: 10 } },
    ];
    const { textsIn } = await deliver(told.map((rest, i) => pendingAlert("a", { id: `${i}`, ...rest })));

    const [slack, webhook, markdown] = [SLACK, WEBHOOK, MARKDOWN].map((format) => textsIn(format).join("\n"));
    for (const text of [slack, webhook]) assert.doesNotMatch(withoutOwnLinks(text), /[<>]|:\/\/|(^|[\s"(])[*`]/);
    assert.doesNotMatch(withoutOwnLinks(webhook), /@\w|\]\(/);
    const active = (markdown ?? "").replace(/\\[!-/:-@[-`{-~]/g, " ");
    const withoutOwn = active.replace(/\]\(https:\/\/gitlab\.example\.com\/acme\/shop\/-\/[^\s<>()`]+\)/g, "");
    assert.doesNotMatch(withoutOwn, /[<>`*&]|:\/\/|@\w|\]\(/);
    for (const text of [slack, webhook, markdown]) assert.doesNotMatch(text ?? "", /^Hello/m);
  });

  test("can't give addresses but those of http and https", async () => {
    const urls = [
      "javascript:alert(1)",
      "data:text/html,x",
      "//evil.example",
      "ftp://evil.example",
      " https://x",
      "",
      7,
    ];
    const withUrl = (url: unknown, i: number) => ({
      ...pendingAlert("a"),
      id: `${i}`,
      news: [{ ...newsOf("a"), url }],
      pipeline: { ...PIPELINE_TOLD, url, project: { ...PIPELINE_TOLD.project, url } },
    });
    const { textsIn, messages } = await deliver(urls.map(withUrl));
    assert.equal(messages.length, urls.length);
    for (const text of textsIn(SLACK)) {
      assert.equal(
        text,
        "🔴 a broken in acme/shop main, pipeline 1005\n\n🔴 a failed 3 times in a row\nfailures: 102, 103, 104",
      );
    }
  });

  test("can't say whom to mention, what became of a message, or anything by keys that are not known", async () => {
    const extra = {
      ...{ text: WORDS, plain: WORDS, mentions: ["<!channel>"], open: 99, to: "#general", broadcast: "#general" },
      ...{ delivered: false, isDropped: true, failure: { message: WORDS, reason: WORDS, todo: WORDS } },
    };
    const withExtra = (job: string, channel: string | null) => ({
      ...pendingAlert(job, { channel }),
      ...extra,
      pipeline: { ...PIPELINE_TOLD, ...extra },
      news: [{ ...newsOf(job), ...extra, mentions: ["<!channel>"] }],
    });
    const { run, messages, textsIn, left } = await deliver([withExtra("ours", null), withExtra("hers", "#web")]);
    const plain = (job: string) => write([newsOf(job)]);
    assert.deepEqual(textsIn(SLACK), [`<!here> ${plain("ours")}`, `<@U2> ${plain("hers")}`]);
    assert.deepEqual(
      messages.map(({ open, mentions }) => [open, mentions]),
      [
        [0, ["<!here>"]],
        [0, ["<@U2>"]],
      ],
    );
    assert.deepEqual([run.errors, left], [[], []]);
  });

  test("can't make a message longer than a chat takes, by texts or addresses without an end", async () => {
    const kinds = ["consecutive", "cumulative", "recovered", "gone"] as const;
    const told = [..."x&<*🧪"].flatMap((character) => {
      const [long, url] = [character.repeat(2_500), `https://x.example/${character.repeat(480)}`];
      const [project, endless] = [{ name: long, url, ci: "gitlab" as const }, `${url}${long}`];
      const pipeline = { ...PIPELINE_TOLD, url, branch: long, commit: long, project };
      const news = kinds.map((kind) =>
        broken(character.repeat(40), { ...DIRECT, title: long }, { kind, url: endless }),
      );
      return [
        { news, pipeline },
        { news: [broken("a", { ...DIRECT, title: long, author: long }, { stage: long, reason: long })] },
        { news, pipeline: { ...PIPELINE_TOLD, url: endless } },
        { news, pipeline: { ...PIPELINE_TOLD, project: { ...project, url: endless } } },
        { news: [], hello: { document: long, in_a_row: 3, often: 5, window: 10 }, pipeline },
      ];
    });
    const lengths: number[] = [];
    for (const rest of told) {
      const { textsIn } = await deliver([pendingAlert("a", rest)]);
      lengths.push(...Object.values(FORMATS).flatMap((format) => textsIn(format).map(({ length }) => length)));
    }
    assert.equal(lengths.length, 4 * told.length);
    assert.ok(Math.max(...lengths) <= LIMIT, `${lengths}`);
  });

  test("can't keep a message from being sent by a time that lies far ahead", async () => {
    const due = ["2099-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "2026-11-24T10:00:01Z"];
    const { messages, left } = await deliver(due.map((time) => pendingAlert(time, { id: time, due: time })));
    assert.deepEqual(
      messages.map(({ news }) => news[0]?.job),
      due,
    );
    assert.deepEqual(left, []);
  });

  test("can't silence the channel by half a character", async () => {
    const half = "\ud83e";
    const turned = { commit: half, title: half, author: half, from: `${half}2` };
    const { textsIn } = await deliver([pendingAlert("a", { news: [newsOf(half, { turned })] })]);
    assert.match(textsIn(SLACK).join(), /^🔴 . broken in /u);
  });

  test("can't speak by the history of a job either", async () => {
    const turned = { commit: WORDS, title: WORDS, author: WORDS, from: WORDS.slice(1) };
    const before = { ...documentOf([WORDS, history("✗✗", { turned })]), commit: WORDS };
    const { sent } = await runOf([failed(WORDS)], {}, { store: memoryStore(textOf(before)).store });
    assert.equal(sent.length, 1);
    assert.doesNotMatch(withoutOwnLinks(sent[0]?.text), /[<>]|:\/\/|^Hello/m);
  });
});
