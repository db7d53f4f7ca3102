/** What a channel reads: the first line, the paragraphs, what fits, and that names, titles and branches are data. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  type Alert,
  type Format,
  type Kind,
  MARKDOWN,
  type News,
  openSender,
  PLAIN,
  SLACK,
  type Task,
  type Turn,
  writeMessage,
  writeSubject,
} from "../check-failures.ts";
import {
  documentOf,
  failed,
  history,
  memoryStore,
  messageOf,
  NOW,
  newsOf,
  openAlert,
  passed,
  runOf,
  settings,
  taskOf,
  textOf,
  type Variables,
} from "./support/builders.ts";

const LIMIT = 3_900;
const FORMATS = { SLACK, MARKDOWN, PLAIN };
const PAGES = "https://gitlab.example.com/acme/shop/-";
const PIPELINE = `<${PAGES}/pipelines/1005|pipeline 1005>`;
const linkToJob = (id: number) => `<${PAGES}/jobs/${id}|${id}>`;
const linkToCommit = (commit: string) => `<${PAGES}/commit/${commit}|${commit}>`;
const linkToChanges = (from: string, to: string) => `<${PAGES}/compare/${from}...${to}|changes since ${from}>`;

/** A pipeline of which no address is known. */
const WITHOUT_LINKS = { CI_PROJECT_URL: undefined };

const write = (news: News[], variables: Variables = {}, format: Format = SLACK) =>
  writeMessage(messageOf(news, { task: taskOf(variables) }), format);
const firstLineOf = (...args: Parameters<typeof write>) => write(...args).split("\n")[0] ?? "";
const paragraphsOf = (...args: Parameters<typeof write>) =>
  write(...args)
    .split("\n\n")
    .slice(1);
const paragraphOf = (...[news, ...rest]: [News, Variables?, Format?]) => paragraphsOf([news], ...rest)[0] ?? "";

const minutesAgo = (minutes: number) => new Date(NOW.getTime() - minutes * 60_000).toISOString();

/** News of an alert that changed just now. */
const newsOfKind = (kind: Kind, name: string, alert: Partial<Alert> = {}, rest: Partial<News> = {}) =>
  newsOf(name, {
    alert: openAlert(kind, { told: undefined, at: minutesAgo(0), changed_at: minutesAgo(0), ...alert }),
    ...rest,
  });
/** Where a streak began: at a commit whose title is known, after another one. */
const TURNED: Turn = { commit: "c0ffee02", title: "Add a cart", from: "77aa01d3" };
const broken = (name: string, turned: Turn | undefined = TURNED, rest: Partial<News> = {}) =>
  newsOfKind("consecutive", name, { turned }, rest);
const often = (name: string, alert: Partial<Alert> = {}, rest: Partial<News> = {}) =>
  newsOfKind("cumulative", name, { times: 5, executions: 10, ...alert }, rest);
const recovered = (name: string, alert: Partial<Alert> = {}, rest: Partial<News> = {}) =>
  newsOfKind("recovered", name, alert, { listed: passed(name, { id: 1005 }), failures: [], ...rest });
const gone = (name: string, alert: Partial<Alert> = {}) =>
  newsOfKind("gone", name, { times: undefined, ...alert }, { listed: undefined, failures: [] });

const KINDS = fc.constantFrom<Kind>("consecutive", "cumulative", "recovered", "gone");

/** A message for Slack without the links to the project's own pages. */
const withoutOwnLinks = (text = "") =>
  text.replace(/<https:\/\/gitlab\.example\.com\/acme\/shop\/-\/[^\s<>|]+\|[^<>|]*>/g, "");

/** With a message of its own, for which Node 20 need not find the assertion in what tsx made of this file. */
const assertIncludes = (text: string, part: string) => assert.ok(text.includes(part), `Expected ${part} in:\n${text}`);
const assertFits = (text: string) => assert.ok(text.length <= LIMIT, `${text.length} characters:\n${text}`);

describe("the first line of a message", () => {
  test("names the job, the project, the branch and the pipeline, with a link", () => {
    assert.equal(firstLineOf([newsOf("unit tests")]), `🔴 unit tests broken in acme/shop main, ${PIPELINE}`);
  });

  test("names the commit where there is no branch, and no project where none is known", () => {
    const variables = { CI_COMMIT_BRANCH: undefined, CI_COMMIT_SHA: "0ddba11".repeat(5), CI_PROJECT_PATH: undefined };
    assert.match(firstLineOf([newsOf("a")], variables), /^🔴 a broken in this project 0ddba110, /);
  });

  test("tells the kinds apart, the gravest first, and counts what is more than one", () => {
    const news = [gone("removed"), recovered("mended"), often("flaky"), newsOf("c"), newsOf("d")];
    const kinds = "🔴 2 jobs broken, 🟠 flaky failing often, 🟢 mended recovered, ⚪ removed gone";
    assert.equal(firstLineOf(news), `${kinds} in acme/shop main, ${PIPELINE}`);
  });

  test("has the title of the commit at which all of it began, which its paragraphs do not repeat", () => {
    const [first, ...others] = write([broken("a"), broken("b")]).split("\n");
    assert.equal(first, `🔴 2 jobs broken in acme/shop main since "Add a cart", ${PIPELINE}`);
    assert.doesNotMatch(others.join("\n"), /Add a cart/);
    const mended = firstLineOf([recovered("a", { turned: { ...TURNED, title: "Mend it" } })]);
    assert.match(mended, /^🟢 a recovered in acme\/shop main since "Mend it", /);
  });

  test("has no title where something began elsewhere, or without a commit", () => {
    for (const other of [broken("b", { ...TURNED, commit: "c0ffee03" }), often("b"), gone("b"), newsOf("b")]) {
      const [first = "", ...others] = write([broken("a"), other]).split("\n");
      assert.doesNotMatch(first, /since|Add a cart/);
      assertIncludes(others.join("\n"), '"Add a cart"');
    }
  });

  test("has no title where the commit has none", () => {
    assert.doesNotMatch(write([broken("a", { commit: "c0ffee02", from: "77aa01d3" })]), /since "|"/);
  });

  test("begins with whom to mention, in Slack", () => {
    const message = messageOf([newsOf("a")], { mentions: ["<!subteam^S1>", "<@U1>"] });
    assert.match(writeMessage(message, SLACK), /^<!subteam\^S1> <@U1> 🔴 a broken in /);
    for (const format of [MARKDOWN, PLAIN]) assert.match(writeMessage(message, format), /^🔴 a broken in /);
  });
});

describe("a paragraph of broken jobs", () => {
  test("says where the job first failed, with the title, the changes since it passed, and its failures, all linked", () => {
    const [paragraph] = paragraphsOf([broken("unit tests"), gone("b")]);
    const turn = `first at ${linkToCommit("c0ffee02")} "Add a cart", ${linkToChanges("77aa01d3", "c0ffee02")}`;
    assert.equal(
      paragraph,
      `🔴 <${PAGES}/jobs/1005|unit tests> failed 3 times in a row, ${turn}\n` +
        `failures: ${[1003, 1004, 1005].map(linkToJob).join(", ")}`,
    );
  });

  test("says `or earlier` where it is not known what came before, and tells no title", () => {
    const message = write([broken("a", { commit: "c0ffee02" }), gone("b")]);
    assertIncludes(message, `|a> failed 3 times in a row, first at ${linkToCommit("c0ffee02")} or earlier\nfailures: `);
    assert.doesNotMatch(message, /changes since/);
  });

  test("says that the very commit had passed before, and compares nothing", () => {
    const message = write([broken("a", { ...TURNED, from: "c0ffee02" }), gone("b")]);
    const turn = `first at ${linkToCommit("c0ffee02")}, which had passed before`;
    assertIncludes(message, `|a> failed 3 times in a row, ${turn}\nfailures: `);
    assert.doesNotMatch(message, /Add a cart|changes since/);
  });

  test("says nothing of where a streak began where no commit is known", () => {
    const once = newsOf("a", { failures: [1005] });
    const alert = { ...once.alert, times: 1 };
    assert.match(paragraphOf({ ...once, alert }), /\|a> failed 1 time in a row\nfailures: <\S+\|1005>$/);
  });

  test("tells jobs together that broke at one commit after one commit: their number, the turn, and all names", () => {
    const names = ["shard 10/10", "shard 2/10", "shard 1/10"];
    const news = names.map((name, i) =>
      newsOfKind("consecutive", name, { turned: TURNED, times: 3 + i }, { listed: failed(name, { id: i + 1 }) }),
    );
    assert.deepEqual(paragraphsOf(news), [
      [
        `🔴 3 jobs failed 3 to 5 times in a row, first at ${linkToCommit("c0ffee02")}, ${linkToChanges("77aa01d3", "c0ffee02")}`,
        `<${PAGES}/jobs/3|shard 1/10>, <${PAGES}/jobs/2|shard 2/10>, <${PAGES}/jobs/1|shard 10/10>`,
      ].join("\n"),
    ]);
  });

  test("tells jobs apart that broke at different commits, the larger group first", () => {
    const other = { ...TURNED, commit: "c0ffee01" };
    const [first, second, ...others] = paragraphsOf([broken("a", other), broken("b"), broken("c")]);
    assert.match(first ?? "", /^🔴 2 jobs .* first at .*c0ffee02/);
    assert.match(second ?? "", /^🔴 <.*\|a> .* first at .*c0ffee01/);
    assert.deepEqual(others, []);
  });

  test("tells jobs apart that broke at one commit, but had passed last at different ones", () => {
    const [first, second] = paragraphsOf([broken("a"), broken("b", { ...TURNED, from: "c0ffee01" })]);
    assertIncludes(first ?? "", linkToChanges("77aa01d3", "c0ffee02"));
    assertIncludes(second ?? "", linkToChanges("c0ffee01", "c0ffee02"));
  });

  test("tells jobs apart whose alerts changed at different times, each with its own", () => {
    const late = newsOfKind("consecutive", "a", { turned: TURNED, changed_at: minutesAgo(15 * 1_440) });
    const [first, second] = paragraphsOf([late, broken("b")]);
    assert.match(first ?? "", /^🔴 .*\|a> .*, 15 days ago\n/);
    assert.match(second ?? "", /^🔴 .*\|b> failed [^\n]*77aa01d3>\n/);
  });

  test("cuts long commits where they are shown, and links them whole", () => {
    const [commit, from] = ["c0ffee02".repeat(5), "77aa01d3".repeat(5)];
    const paragraph = paragraphOf(broken("a", { commit, from }));
    assertIncludes(paragraph, `<${PAGES}/commit/${commit}|c0ffee02>`);
    assertIncludes(paragraph, `<${PAGES}/compare/${from}...${commit}|changes since 77aa01d3>`);
  });
});

describe("a paragraph of other jobs", () => {
  test("of one that fails often counts its failures and executions, and links its failures", () => {
    const failures = [1001, 1003, 1005];
    assert.equal(
      paragraphOf(often("e2e", { times: 5, executions: 9 }, { failures })),
      `🟠 <${PAGES}/jobs/1005|e2e> failed 5 times in the last 9 executions\nfailures: ${failures.map(linkToJob).join(", ")}`,
    );
  });

  test("of those that fail often is one for all of them", () => {
    const news = [7, 9].map((executions, i) => often(`job ${i}`, { executions }));
    assert.match(
      paragraphsOf(news).join(),
      /^🟠 2 jobs failed 5 times in the last 7 to 9 executions\n.*job 0>, .*job 1>$/,
    );
  });

  test("of one that recovered says where it first passed, and for how long its alert was open", () => {
    const mended = recovered("e2e", { at: minutesAgo(2 * 1_440), turned: { ...TURNED, title: "Mend it" } });
    const turn = `first at ${linkToCommit("c0ffee02")} "Mend it", ${linkToChanges("77aa01d3", "c0ffee02")}`;
    assert.equal(
      paragraphsOf([mended, gone("b")])[0],
      `🟢 <${PAGES}/jobs/1005|e2e> passed 3 times in a row, ${turn}; its alert was open for 2 days`,
    );
  });

  test("of one that recovered says `or earlier`, or that the very commit had failed before", () => {
    const turnOf = (turned: Turn) => / in a row, (.*); its alert/.exec(paragraphOf(recovered("a", { turned })))?.[1];
    const first = `first at ${linkToCommit("c0ffee02")}`;
    assert.equal(turnOf({ commit: "c0ffee02" }), `${first} or earlier`);
    assert.equal(turnOf({ ...TURNED, from: "c0ffee02" }), `${first}, which had failed before`);
  });

  test("of those that recovered is one for each turn, with the longest time that an alert was open", () => {
    const mended = { turned: TURNED, times: 4 };
    const news = [
      recovered("a", { ...mended, at: minutesAgo(180) }),
      recovered("b", { ...mended, at: minutesAgo(120), times: 3 }),
      recovered("c", { turned: { ...TURNED, commit: "c0ffee05" } }),
    ];
    const [first = "", second = ""] = paragraphsOf(news);
    assert.match(
      first,
      /^🟢 2 jobs passed 3 to 4 times in a row, .*; their alerts were open for up to 3 hours\n.*a>, .*b>$/,
    );
    assert.match(second, /^🟢 <.*\|c> .*c0ffee05/);
  });

  test("of those that are gone says what may be so, and guesses at no cause", () => {
    const reasons = "renamed, removed, ignored, or allowed to fail";
    assert.match(paragraphOf(gone("e2e")), new RegExp(`^⚪ e2e does not count any more.*${reasons}\\)?$`));
    const [both = ""] = paragraphsOf([gone("b"), gone("a")]);
    assert.match(both, new RegExp(`^⚪ 2 jobs do not count any more.*${reasons}\\)?\na, b$`));
  });
});

describe("a job in a message", () => {
  test("is linked to the address that its CI gave, else to the job by its id, else to its last failure", () => {
    const url = "https://elsewhere.example.com/104?a=1&b=2";
    const linkOf = (rest: Partial<News>) => /^🔴 <(.*?)\|a> /.exec(paragraphOf(newsOf("a", rest)))?.[1];
    assert.equal(linkOf({ listed: failed("a", { url }) }), url.replace("&", "&amp;"));
    assert.equal(linkOf({ listed: failed("a", { id: 9 }) }), `${PAGES}/jobs/9`);
    assert.equal(linkOf({ listed: undefined }), `${PAGES}/jobs/1005`);
  });

  test("has its stage and its reason, but not that the script failed", () => {
    const detailOf = (rest: object) => {
      const news = newsOf("a", { listed: failed("a", rest) });
      return /\|a>(.*?) failed 3/.exec(paragraphOf(news))?.[1];
    };
    assert.equal(detailOf({}), "");
    assert.equal(detailOf({ stage: "test", reason: "script_failure" }), " (test)");
    assert.equal(detailOf({ stage: "test", reason: "runner_system_failure" }), " (test: runner_system_failure)");
    assert.equal(detailOf({ reason: "Run npm test <&>" }), " (Run npm test &lt;&amp;&gt;)");
    assert.equal(detailOf({ stage: null, reason: null }), "");
    assert.match(detailOf({ stage: "x".repeat(300) }) ?? "", /^ \(x{80}\)$/);
  });

  test("has no stage and no reason where it has recovered", () => {
    const listed = passed("a", { stage: "test", reason: "stuck" });
    assert.doesNotMatch(paragraphOf(recovered("a", {}, { listed })), /test|stuck/);
  });

  test("shares its stage and reason with the others of its paragraph, or has its own", () => {
    const withReason = (name: string, reason: string) => newsOf(name, { listed: failed(name, { reason }) });
    const same = paragraphsOf([withReason("a", "stuck"), withReason("b", "stuck")]).join();
    assert.match(same, /^🔴 2 jobs \(stuck\) failed .*\|a>, .*\|b>$/s);
    const different = paragraphsOf([withReason("a", "stuck"), withReason("b", "timeout")]).join();
    assert.match(different, /^🔴 2 jobs failed .*\|a> \(stuck\), .*\|b> \(timeout\)$/s);
  });
});

describe("what is told late", () => {
  const agoOf = (minutes: number, kind: Kind = "consecutive") =>
    / \w+(?:, (\d+ \w+ ago))?$/m.exec(paragraphOf(newsOfKind(kind, "a", { changed_at: minutesAgo(minutes) })))?.[1];

  for (const [minutes, ago] of [
    [0, undefined],
    [59, undefined],
    [60, "60 minutes ago"],
    [119, "119 minutes ago"],
    [120, "2 hours ago"],
    [47 * 60, "47 hours ago"],
    [48 * 60, "2 days ago"],
    [15 * 1_440, "15 days ago"],
    [-5, undefined], // by another clock
  ] as const) {
    test(`after ${minutes} minutes says ${ago ?? "nothing of that"}`, () => {
      assert.equal(agoOf(minutes), ago);
    });
  }

  test("says so of each kind", () => {
    for (const kind of ["consecutive", "cumulative", "recovered", "gone"] as const) {
      assert.match(
        paragraphOf(newsOfKind(kind, "a", { changed_at: minutesAgo(15 * 1_440), times: 3, executions: 9 })),
        /, 15 days ago(\n|$)/,
      );
    }
  });

  test("says of broken jobs that they have passed since, and tells those apart that have not", () => {
    const mended = { hasPassedSince: true };
    assert.match(paragraphOf(broken("a", TURNED, mended)), /^[^\n]*, and has passed since\n/);
    const late = newsOfKind("consecutive", "a", { changed_at: minutesAgo(180) }, mended);
    assert.match(paragraphOf(late), /, 3 hours ago, and has passed since\n/);
    const [both = "", other = ""] = paragraphsOf([
      broken("a", TURNED, mended),
      broken("b", TURNED, mended),
      broken("c"),
    ]);
    assert.match(both, /^🔴 2 jobs .*, and have passed since\n.*\|a>, .*\|b>$/);
    assert.doesNotMatch(other, /passed since/);
  });
});

describe("a link in a message", () => {
  test("leads to GitHub's pages of the run, the job, the commit and the comparison there", () => {
    const CI_PIPELINE_URL = "https://github.com/acme/shop/actions/runs/555";
    const github = { GITLAB_CI: undefined, GITHUB_ACTIONS: "true", CI_PROJECT_URL: "https://github.com/acme/shop" };
    const message = write([broken("a")], { ...github, CI_PIPELINE_URL });
    assertIncludes(message, "<https://github.com/acme/shop/actions/runs/555|pipeline 1005>");
    assertIncludes(message, "<https://github.com/acme/shop/runs/1005|a>");
    assertIncludes(message, "<https://github.com/acme/shop/commit/c0ffee02|c0ffee02>");
    assertIncludes(message, "<https://github.com/acme/shop/compare/77aa01d3...c0ffee02|changes since 77aa01d3>");
    assert.doesNotMatch(message, /\/-\//);
    // A run's number is not in the address of the run.
    assert.match(firstLineOf([newsOf("a")], github), / main, pipeline 1005$/);
  });

  test("is only one that was given where the CI is neither GitLab's nor GitHub's", () => {
    const CI_PIPELINE_URL = "https://jenkins.example.com/job/shop/1005";
    const url = "https://jenkins.example.com/a";
    const other = { GITLAB_CI: undefined, CI_PROJECT_URL: "https://github.com/acme/shop", CI_PIPELINE_URL };
    const message = write([broken("a", TURNED, { listed: failed("a", { url }) }), often("b")], other);
    assert.deepEqual(message.match(/https?:[^|>]*/g), [CI_PIPELINE_URL, url]);
    assertIncludes(message, '"Add a cart", changes since 77aa01d3\nfailures: 1003, 1004, 1005');
  });

  test("is missing where no address is known", () => {
    assert.equal(
      write([broken("a")], WITHOUT_LINKS),
      '🔴 a broken in acme/shop main since "Add a cart", pipeline 1005\n\n' +
        "🔴 a failed 3 times in a row, first at c0ffee02, changes since 77aa01d3\nfailures: 1003, 1004, 1005",
    );
  });

  test("looks as each chat has it", () => {
    const address = `${PAGES}/pipelines/1005`;
    const linkIn = (format: Format) => firstLineOf([newsOf("a")], {}, format).replace(/.* main, /, "");
    assert.equal(linkIn(SLACK), `<${address}|pipeline 1005>`);
    assert.equal(linkIn(MARKDOWN), `[pipeline 1005](${address})`);
    assert.equal(linkIn(PLAIN), `pipeline 1005 (${address})`);
  });

  test("can't be ended by what is in its address", () => {
    const url = "https://ci.example.com/a b|c> <!channel> (d) `e` \n\u2028[f](g)\\";
    const news = newsOf("a", { listed: failed("a", { url }), failures: [] });
    const linkIn = (format: Format) => paragraphOf(news, WITHOUT_LINKS, format);
    assert.match(linkIn(SLACK), /^🔴 <https:\/\/ci\.example\.com\/[^\s<>|]+\|a> failed /);
    assert.match(linkIn(MARKDOWN), /^🔴 \[a\]\(https:\/\/ci\.example\.com\/[^\s<>()`\\]+\) failed /);
    assert.match(linkIn(PLAIN), /^🔴 a \(https:\/\/ci\.example\.com\/[^\s<>]+\) failed /);
  });

  test("is left out where its address alone would fill the message", () => {
    const news = newsOf("a", { listed: failed("a", { url: `https://ci.example.com/${"x".repeat(4_000)}` }) });
    assert.match(paragraphOf(news), /^🔴 a failed 3 times/);
  });
});

describe("a message has at most 3,900 characters", () => {
  const BIG_NAMES = Array.from({ length: 300 }, (_, i) => `${i + 1}`.padStart(3, "0").padEnd(240, "x"));

  test("and has all of forty jobs that break at once", () => {
    const message = write(Array.from({ length: 40 }, (_, i) => broken(`unit tests ${i + 1}/40`)));
    assertFits(message);
    assert.match(message, /^🔴 40 jobs broken in acme\/shop main since "Add a cart", [^\n]*\n\n🔴 40 jobs failed /);
    assert.doesNotMatch(message, / more/);
    assertIncludes(message, "|unit tests 40/40>");
    assert.equal(message.split("\n\n").length, 2);
  });

  test("and counts those of 300 jobs that do not fit, with a link to the pipeline", () => {
    const message = write(BIG_NAMES.map((name) => broken(name)));
    assertFits(message);
    assert.ok(message.length > LIMIT - 500, `${message.length} characters`);
    assert.match(message, /^🔴 300 jobs broken in /);
    const shown = BIG_NAMES.filter((name) => message.includes(`|${name}>`)).length;
    assert.ok(message.endsWith(`, and <${PAGES}/pipelines/1005|${300 - shown} more>`), message.slice(-200));
  });

  test("and counts them without a link where there is none", () => {
    const message = write(
      BIG_NAMES.map((name) => newsOf(name)),
      WITHOUT_LINKS,
    );
    assert.match(message, /, and 28\d more$/);
  });

  test("and keeps the first line of each paragraph, as long as those fit", () => {
    const many = Array.from({ length: 100 }, (_, i) => broken(`job ${i}`.padEnd(60, "x")));
    const others = ["c0ffee03", "c0ffee04"].map((commit) => broken(commit, { ...TURNED, commit }));
    const message = write([...many, ...others, recovered("mended")]);
    assertFits(message);
    for (const commit of ["c0ffee02", "c0ffee03", "c0ffee04"])
      assertIncludes(message, `first at ${linkToCommit(commit)}`);
    assertIncludes(message, "\n\n🟢 ");
  });

  test("and counts the jobs of the paragraphs that do not fit", () => {
    const message = write(Array.from({ length: 60 }, (_, i) => broken(`job ${i}`, { commit: `c0ffee${i + 10}` })));
    assertFits(message);
    const shown = message.match(/failed 3 times/g)?.length ?? 0;
    assert.ok(shown > 8, `${shown} paragraphs`);
    assert.match(message, new RegExp(`\n\nand <.*\\|${60 - shown} more>$`));
  });

  test("and counts the failures of a single job that do not fit", () => {
    const message = write([newsOf("a", { failures: Array.from({ length: 300 }, (_, i) => i + 1_000) })]);
    assertFits(message);
    const shown = message.match(/jobs\/\d+\|\d+>/g)?.length ?? 0;
    assert.match(message, new RegExp(`, and <.*\\|${300 - shown} more>$`));
  });

  test("and has room for its paragraphs beside 250 mentions, of which it has the first ones", () => {
    const mentions = Array.from({ length: 250 }, (_, i) => `<!subteam^S${String(i).padStart(8, "0")}>`);
    const message = writeMessage(messageOf([broken("a"), often("b"), recovered("c")], { mentions }), SLACK);
    assertFits(message);
    assert.match(message, /^(<!subteam\^S\d{8}> )+🔴 a broken/);
    assert.equal(message.split("\n\n").length, 4);
    assert.doesNotMatch(message, / more/);
  });

  test("in every format, with mentions and on the first day, whatever its names, titles and addresses are", () => {
    const unit = fc.constantFrom("&", "<", "x", "🧪", " ", "*", " _", "`", ":", "@a", "[");
    const aText = (maxLength: number) =>
      fc.string({ unit, minLength: 1, maxLength, size: "max" }).map((text) => text.slice(0, maxLength).toWellFormed());
    const aTurn = fc.record({
      title: aText(400),
      from: fc.constant("77aa01d3"),
      commit: fc.constantFrom("c0ffee01", "c0ffee02"),
    });
    const someNews = fc.array(fc.tuple(aText(255), aTurn, KINDS), { minLength: 1, maxLength: 40, size: "max" });
    const aUrl = fc.constantFrom(`https://x.example/${"x".repeat(200)}`, undefined);
    fc.assert(
      fc.property(
        someNews,
        aText(255),
        aUrl,
        fc.constantFrom(...Object.values(FORMATS)),
        fc.boolean(),
        (listed, text, url, format, hello) => {
          const news = listed.map(([name, turned, kind]) =>
            newsOfKind(kind, name, { turned }, { listed: failed(name, { url, stage: text, reason: text }) }),
          );
          const task = taskOf({
            CI_PROJECT_PATH: text,
            CI_COMMIT_BRANCH: text,
            CI_PROJECT_URL: url,
            CI_PIPELINE_URL: url,
          });
          const mentions = Array.from({ length: 60 }, (_, i) => `<@U${i}>`);
          assertFits(writeMessage(messageOf(news, { task, hello, mentions }), format));
        },
      ),
      { numRuns: 200 },
    );
  });

  test("where all is as long as it can be", () => {
    const long = (mark: string) => mark.repeat(400);
    const url = `https://x.example/${"x".repeat(470)}`;
    const kinds: Kind[] = ["consecutive", "cumulative", "recovered", "gone"];
    for (const mark of ["&", "_", "[", "x"]) {
      const task = taskOf({ CI_PROJECT_PATH: long(mark), CI_COMMIT_BRANCH: long(mark), CI_PIPELINE_URL: url });
      const news = kinds.map((kind) =>
        newsOfKind(
          kind,
          mark.repeat(255),
          { turned: { ...TURNED, title: long(mark) } },
          {
            listed: failed(mark, { url, stage: long(mark), reason: long(mark) }),
          },
        ),
      );
      const mentions = Array.from({ length: 250 }, () => "<!subteam^S0123ABCD>");
      for (const [format, hello] of Object.values(FORMATS).flatMap((one) => [
        [one, false] as const,
        [one, true] as const,
      ])) {
        assertFits(writeMessage(messageOf(news, { task, mentions, hello }), format));
      }
    }
  });
});

describe("a message takes names, titles and branches for data", () => {
  /** How a job's name is shown where it is no link. */
  const shown = (name: string, format: Format) =>
    /^🔴 (.*) broken in acme\/shop main, pipeline 1005\n/s.exec(write([newsOf(name)], WITHOUT_LINKS, format))?.[1] ??
    "";
  /** What a reader sees of a text in each format. */
  const decode = (text: string) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  const withoutBackslashes = (text: string) => text.replace(/\\([!-/:-@[-`{-~])/g, "$1");
  const readAs = { SLACK: decode, MARKDOWN: withoutBackslashes, PLAIN: (text: string) => text };
  const withoutMarks = (text: string) => text.replaceAll("\u2060", "");
  const readable = (text: string) => text.replaceAll("\u2060", "^");

  test("an ordinary name can be copied from every chat", () => {
    const names = [
      "unit-tests (ubuntu, 20)",
      "test_foo_bar",
      "build: [linux, 1.22]",
      "e2e: checkout 1/3",
      "1.5*2",
      "a: b",
    ];
    for (const [name, format] of Object.entries(FORMATS)) {
      const seen = names.map((job) => readAs[name as keyof typeof FORMATS](shown(job, format)));
      assert.deepEqual(seen, names, name);
    }
    assert.equal(shown("a@v2", SLACK), "a@v2");
  });

  test("what Slack would take for a mention or a link is escaped", () => {
    const name = "<!channel> & <http://evil|x>";
    const message = write([broken(name, { ...TURNED, title: "<@U1> & <!here>" }), gone("b")]);
    assert.match(withoutMarks(message), /^🔴 &lt;!channel&gt; &amp; &lt;http:\/\/evil\|x&gt; broken, /);
    assertIncludes(withoutMarks(message), `<${PAGES}/jobs/1005|&lt;!channel&gt; &amp; &lt;http://evil/x&gt;> failed`);
    assertIncludes(message, '"&lt;@U1&gt; &amp; &lt;!here&gt;"');
  });

  for (const [name, expected] of [
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
  ] as const) {
    test(`Slack shows ${name} as written, by an invisible character at the edge of a word, and only there`, () => {
      assert.equal(readable(shown(name, SLACK)), expected);
    });
  }

  for (const [name, expected] of [
    ["build `x` *y* _z_ ~w~", "build \\`x\\` \\*y\\* \\_z_ \\~w\\~"],
    ["test_foo_bar", "test_foo_bar"],
    ["[a](https://evil.example)", "\\[a\\](https:^//evil.example)"],
    ["![a](//evil.example)", "!\\[a\\](//evil.example)"],
    ["<script> & &lt; <!-- -->", "\\<script\\> \\& \\&lt; \\<!-- --\\>"],
    ["back\\slash \\*", "back\\\\slash \\\\\\*"],
    ["# a", "\\# a"],
    ["1. a", "1\\. a"],
    ["1) a", "1\\) a"],
    ["- a", "\\- a"],
    ["+ a", "\\+ a"],
    ["===", "\\==="],
    [":boom: @all @acme/ci", ":^boom: @^all @^acme/ci"],
    ["fixes acme/shop#12, #13 and GH-14", "fixes acme/shop#^12, #^13 and GH-^14"],
  ] as const) {
    test(`Markdown shows ${name} as written`, () => {
      assert.equal(readable(shown(name, MARKDOWN)), expected);
    });
  }

  test("titles, branches and stages ping nobody and link to nothing in Markdown", () => {
    const title = "Notify @all and @here of rails/rails#4000 [x](https://evil.example) @channel";
    const news = broken("@ada", { ...TURNED, title }, { listed: failed("@ada", { stage: "@carl #1" }) });
    const message = write([news, gone("b")], { CI_COMMIT_BRANCH: "@bob/#2" }, MARKDOWN);
    assert.doesNotMatch(message, /[@#]\w/);
    assert.doesNotMatch(message, /[^\\]\]\(https:\/\/evil/);
    assertIncludes(withoutBackslashes(withoutMarks(message)), title);
  });

  test("control characters, line breaks and what turns the direction of writing are spaces", () => {
    const name = "a\nb\u0007\u0085c\u2028d\u0000\u202ee\u2066";
    for (const format of Object.values(FORMATS)) {
      const message = write(
        [broken(name, { ...TURNED, title: "one\r\n\r\ntwo" })],
        { CI_COMMIT_BRANCH: "x\ty" },
        format,
      );
      assert.match(message, /^🔴 a b c d e {2}broken in acme\/shop x y since "one two", /);
      assert.doesNotMatch(message.replaceAll("\n", ""), /[\p{Cc}\u2028-\u202e\u2066-\u2069]/u);
    }
  });

  test("any name is shown as written, in every format", () => {
    const unit = fc.constantFrom(..."*_~`:@[]()<>&|\\#+-=!1.a é🧪", "://", "www.", "__", "&lt;", "GH-");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(aText, fc.constantFrom("SLACK", "MARKDOWN", "PLAIN"), (name, format) => {
        assert.equal(withoutMarks(readAs[format](shown(name, FORMATS[format]))), name);
      }),
    );
  });

  test("no mark is left in any name that would be one", () => {
    const unit = fc.constantFrom(..."*_~`:@[]()<>&\\a1#é🧪", " https://", "all");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(aText, (name) => {
        const [slack = "", markdown = ""] = [SLACK, MARKDOWN].map((format) => shown(name, format));
        assert.doesNotMatch(slack, /(^|[\s()[\]\\@:;#])[*_~`]|:[\w+-]+:|https:\/\//);
        const active = markdown.replace(/\\[!-/:-@[-`{-~]/g, " ");
        assert.doesNotMatch(active, /[`*[\]<>&~]|(^|[\s()@:])_|[@#]\w|:[\w+-]+:|https:\/\//);
      }),
    );
  });

  test("every < and > in Slack belongs to a link of its own making, whatever the texts are", () => {
    const unit = fc.constantFrom(..."<>|&!@#a 🧪\n\r\u0000\u0085\u2028\ud83e", "$&", "https://evil");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(aText, aText, KINDS, (name, text, kind) => {
        const turned = { commit: text, title: text, from: name };
        const news = newsOfKind(kind, name, { turned }, { listed: failed(name, { stage: text, reason: text }) });
        const message = write([news, often("b")], { CI_PROJECT_PATH: text, CI_COMMIT_BRANCH: text });
        assert.doesNotMatch(withoutOwnLinks(message), /[<>]/);
        assert.doesNotMatch(message.replaceAll("\n", ""), /[\p{Cc}\u2028\u2029]/u);
      }),
    );
  });
});

describe("writeSubject()", () => {
  test("is the first line as plain text, without addresses and mentions", () => {
    const message = messageOf([broken("a *b* <c>")], { mentions: ["<!here>"] });
    assert.equal(writeSubject(message), '🔴 a *b* <c> broken in acme/shop main since "Add a cart", pipeline 1005');
  });

  test("is one line of at most 250 characters, without half a character at its end", () => {
    for (const length of [0, 1, 2, 3]) {
      const CI_COMMIT_BRANCH = `${"x".repeat(length)}${"🧪".repeat(80)}`;
      const title = `two\nlines ${"🧪".repeat(70)}`;
      const task = taskOf({ CI_COMMIT_BRANCH });
      const subject = writeSubject(messageOf([broken("a", { ...TURNED, title })], { task }));
      assert.ok(subject.length <= 250 && subject.length > 245, `${subject.length}`);
      assert.ok(!/\n/.test(subject) && subject.isWellFormed(), subject);
    }
  });

  test("is on the first day how the message begins", () => {
    assert.match(writeSubject(messageOf([], { hello: true })), /^👋 .* acme\/shop main, from pipeline 1005 on\.$/);
  });
});

describe("the message of the first day", () => {
  const hello = (task: Task, format: Format, news: News[] = []) =>
    writeMessage(messageOf(news, { hello: true, task }), format);

  test("says what it watches, when it will speak, and what it means where it was seen before", () => {
    for (const format of Object.values(FORMATS)) {
      const text = hello(taskOf({ CONSECUTIVE_THRESHOLD: "4" }), format);
      assert.match(text, /^👋 .*acme\/shop main/);
      assert.match(text, /failed 4 times in a row, or 5 times in its last 10 executions/);
      assert.match(text, /seen this message before\? .* lost, and with it the open alerts/);
    }
  });

  test("names the window that there is, where a threshold needs a longer one than CUMULATIVE_LENGTH", () => {
    assert.match(hello(taskOf({ CONSECUTIVE_THRESHOLD: "12" }), PLAIN), /or 5 times in its last 12 executions/);
  });

  test("stands in front of what else is told", () => {
    const [first, second, third] = hello(taskOf(), SLACK, [broken("a")]).split("\n\n");
    assert.match(first ?? "", /^👋 /);
    assert.match(second ?? "", /^🔴 a broken in acme\/shop main since "Add a cart", /);
    assert.match(third ?? "", /^🔴 <.*\|a> failed /);
  });

  test("takes the project and the branch for data", () => {
    const variables = { CI_PROJECT_PATH: "<!channel>\n*a*", CI_COMMIT_BRANCH: "@all" };
    assertIncludes(hello(taskOf(variables), SLACK), "of &lt;!channel&gt; \u2060*a* @all, from");
    assertIncludes(hello(taskOf(variables), MARKDOWN), "of \\<!channel\\> \\*a\\* @\u2060all, from");
  });
});

describe("a sender of stdout", () => {
  test("prints plain text", async () => {
    const printed: string[] = [];
    const { sender } = settings({ SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined });
    const print = async (text: string) => void printed.push(text);
    const { send } = openSender(sender, { environment: {}, print, say: () => {} });
    await send(messageOf([newsOf("a & *b*")], { task: taskOf(WITHOUT_LINKS) }), new AbortController().signal);
    assert.match(printed.join(), /^🔴 a & \*b\* broken in acme\/shop main, pipeline 1005\n/);
  });
});

describe("what a run tells", () => {
  type Step = { id: number; mark: string; sha?: string; now?: Date };

  /** The n-th pipeline of a strip in which a job passed (·), failed (✗) or was absent (a space). */
  const stepsOf = (strip: string) => [...strip].map((mark, i): Step => ({ id: i + 1, mark }));

  /** What is sent of a job in pipelines; the n-th has the commit c0ffee0n, with the title "Change n". */
  async function tell(steps: Step[], variables: Variables = {}) {
    const { store } = memoryStore(textOf({ ...documentOf(), pipeline_id: 0 }));
    const texts: string[] = [];
    for (const { id, mark, sha = `c0ffee${String(id).padStart(2, "0")}`, now = NOW } of steps) {
      const environment = {
        CI_PIPELINE_ID: `${id}`,
        CI_COMMIT_SHA: sha,
        CI_COMMIT_MESSAGE: `Change ${id}`,
        ...variables,
      };
      const jobs = { "✗": [failed("build", { id: 100 + id })], "·": [passed("build")] }[mark] ?? [];
      const { sent } = await runOf([passed("lint"), ...jobs], environment, { store, now });
      texts.push(...sent.map(({ text }) => text));
    }
    return texts;
  }

  /** The last message: its first line, and its paragraph. */
  const tellLast = async (...args: Parameters<typeof tell>) => {
    const [first = "", paragraph = ""] = (await tell(...args)).at(-1)?.split("\n\n") ?? [];
    return { first, paragraph };
  };

  test("of a job that broke is where it first failed, the changes since it passed, and each failure", async () => {
    const [text = "", ...others] = await tell(stepsOf("·✗✗✗"));
    assert.match(text, /^🔴 build broken in acme\/shop main since "Change 2", <.*\|pipeline 4>\n/);
    const turn = `first at ${linkToCommit("c0ffee02")}, ${linkToChanges("c0ffee01", "c0ffee02")}`;
    assertIncludes(text, `failed 3 times in a row, ${turn}\nfailures: ${[102, 103, 104].map(linkToJob).join(", ")}`);
    assert.deepEqual(others, []);
  });

  test("of a job that had not run in between has the changes since it passed", async () => {
    const { paragraph } = await tellLast(stepsOf("·   ✗✗✗"));
    assertIncludes(paragraph, `first at ${linkToCommit("c0ffee05")}, ${linkToChanges("c0ffee01", "c0ffee05")}\n`);
  });

  test("of a job whose first known execution failed is that it may have begun earlier, without a title", async () => {
    const { first, paragraph } = await tellLast(stepsOf("✗✗✗"));
    assertIncludes(paragraph, `first at ${linkToCommit("c0ffee01")} or earlier\n`);
    assert.doesNotMatch(first + paragraph, /Change/);
  });

  test("of a job that failed at the very commit with which it had passed says so", async () => {
    const nightly = stepsOf("·✗✗✗").map((step) => ({ ...step, sha: "c0ffee01" }));
    const { paragraph } = await tellLast(nightly);
    assertIncludes(paragraph, `first at ${linkToCommit("c0ffee01")}, which had passed before\n`);
  });

  test("of a job that recovered is where it first passed, with the title", async () => {
    const { first, paragraph } = await tellLast(stepsOf("✗✗✗···"));
    assert.match(first, /^🟢 build recovered in acme\/shop main since "Change 4", /);
    const turn = `first at ${linkToCommit("c0ffee04")}, ${linkToChanges("c0ffee03", "c0ffee04")}`;
    assertIncludes(paragraph, `passed 3 times in a row, ${turn}; its alert was open for 0 minutes`);
  });

  test("of a job whose failures all passed in re-runs is that it may have passed earlier", async () => {
    const reruns = [3, 4, 5].map((id) => ({ id, mark: "·" }));
    const { paragraph } = await tellLast([...stepsOf("··✗✗✗"), ...reruns]);
    assert.match(paragraph, /passed 4 times in a row, first at <.*c0ffee02> or earlier; its alert was open/);
  });

  test("is that a job fails often, with the executions that there are", async () => {
    const { first, paragraph } = await tellLast(stepsOf("✗·✗✗·✗·✗"));
    assert.match(first, /^🟠 build failing often in acme\/shop main, /);
    assert.match(paragraph, /\|build> failed 5 times in the last 8 executions\nfailures: (<\S+>(, )?){5}$/);
  });

  test("is nothing where a job that only failed often has recovered", async () => {
    const texts = await tell(stepsOf("✗·✗✗·✗·✗··········"));
    assert.deepEqual(
      texts.map((text) => text.slice(0, 2)),
      ["🟠"],
    );
  });

  test("has no links to pages of another CI, as no address is guessed", async () => {
    const other = { GITLAB_CI: undefined, CI_PROJECT_URL: "https://github.com/acme/shop" };
    const { first, paragraph } = await tellLast(stepsOf("·✗✗✗"), other);
    assert.doesNotMatch(first + paragraph, /https?:/);
    assertIncludes(paragraph, "first at c0ffee02, changes since c0ffee01\n");
  });

  test("is one message, whatever happened", async () => {
    const names = Array.from({ length: 40 }, (_, i) => `shard ${i}`);
    const jobs = names.map((name): [string, ReturnType<typeof history>] => [name, history("✗✗")]);
    const mended = history("✗✗✗··", { alert: openAlert() });
    const before = documentOf(...jobs, ["often", history("✗·✗·✗·✗·")], ["mended", mended]);
    const ran = [...names.map((name) => failed(name)), failed("often"), passed("mended")];
    const { sent } = await runOf(ran, {}, { store: memoryStore(textOf(before)).store });
    assert.equal(sent.length, 1);
    assert.match(sent[0]?.text ?? "", /^🔴 40 jobs broken, 🟠 often failing often, 🟢 mended recovered in /);
  });
});

describe("whoever can write the document", () => {
  const WORDS = "<!channel> <@U1> @all #12 [x](https://evil.example/) <https://evil.example/|x> *b* `c`\n\nHello";

  /** A run on a document with this alert, and its message as each chat gets it. */
  async function tellOf(alert: Partial<Alert>, { name = "a", extra = {} } = {}) {
    const told = { "": minutesAgo(60) };
    const open = { ...openAlert("consecutive", { told: undefined, ...alert }), ...extra };
    const ended = { ...openAlert("recovered", { told, ...alert }), ...extra };
    const document = documentOf(
      [name, history("✗✗✗", { alert: open })],
      [`${name} 2`, history("✗···", { alert: ended })],
    );
    const { sent } = await runOf([failed(name, { id: 1005 })], {}, { store: memoryStore(textOf(document)).store });
    const [message] = sent.map(({ message }) => message);
    assert.ok(message);
    return { slack: writeMessage(message, SLACK), markdown: writeMessage(message, MARKDOWN), message, sent };
  }

  test("can't put words, links or pings into the bot's mouth", async () => {
    for (const turned of [{ commit: WORDS, title: WORDS, from: `${WORDS} before` }, { commit: WORDS }]) {
      const { slack, markdown } = await tellOf({ turned }, { name: WORDS });
      assert.doesNotMatch(withoutOwnLinks(slack), /[<>]|:\/\/|(^|[\s"(])[*`]/);
      const active = markdown.replace(/\\[!-/:-@[-`{-~]/g, " ");
      const withoutOwn = active.replace(/\]\(https:\/\/gitlab\.example\.com\/acme\/shop\/-\/[^\s<>()`]+\)/g, "");
      assert.doesNotMatch(withoutOwn, /[<>`*&]|:\/\/|[@#]\w|\]\(/);
      for (const text of [slack, markdown]) assert.doesNotMatch(text, /^Hello/m);
    }
  });

  test("can't speak by keys that are not known", async () => {
    const extra = {
      text: WORDS,
      mentions: ["<!channel>"],
      hello: true,
      url: "https://evil.example",
      listed: { url: "x" },
    };
    const { slack, message } = await tellOf({}, { extra });
    assert.equal(slack, (await tellOf({})).slack);
    assert.deepEqual(message.mentions, []);
  });

  test("can't make a message longer than a chat takes, by texts without an end", async () => {
    for (const character of "x&<*🧪") {
      const long = character.repeat(5_000);
      for (const name of ["a", long]) {
        const { message } = await tellOf({ turned: { commit: long, title: long, from: `${long}.` } }, { name });
        for (const format of Object.values(FORMATS)) assertFits(writeMessage(message, format));
      }
    }
  });

  test("can't silence the channel by half a character", async () => {
    const half = "\ud83e";
    const { slack } = await tellOf({ turned: { commit: half, title: half, from: `${half}2` } }, { name: half });
    assert.match(slack, /^🔴 . broken, 🟢 . 2 recovered in /u);
  });
});
