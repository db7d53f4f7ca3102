import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type News, openSender, toPlainText, writeHello, writeMessage } from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  memoryStore,
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

const PROJECT = "https://gitlab.example.com/acme/shop/-";
const PIPELINE = `<${PROJECT}/pipelines/1005|pipeline 1005>`;
const linkToJob = (id: number) => `<${PROJECT}/jobs/${id}|${id}>`;
const linkToCommit = (commit: string) => `<${PROJECT}/commit/${commit}|${commit}>`;

const write = (news: News[], variables: Variables = {}, mentions: string[] = []) =>
  writeMessage({ channel: null, news, mentions }, settings(variables).pipeline, NOW);
const firstLineOf = (news: News[], variables: Variables = {}) => write(news, variables).split("\n")[0] ?? "";
const paragraphsOf = (news: News[], variables: Variables = {}) => write(news, variables).split("\n\n").slice(1);
const paragraphOf = (item: News, variables: Variables = {}) => paragraphsOf([item], variables)[0] ?? "";

/** A job that turned with a commit and failed three times since. */
const brokenBy = (name: string, commit: string, turned: object = {}, rest: Partial<News> = {}) =>
  newsOf(name, { job: history("·✗✗✗", { turned: { commit, ...turned } }), ...rest });
const recoveredBy = (name: string, commit: string, turned: object = {}) =>
  newsOf(name, { kind: "recovered", job: history("✗✗✗···", { turned: { commit, ...turned } }), latest: passed(name) });

/** With a message of its own, for which Node 20 need not find the assertion in what tsx made of this file. */
const assertIncludes = (text: string, part: string) => assert.ok(text.includes(part), `Expected ${part} in:\n${text}`);

describe("writeMessage() first line", () => {
  test("names the job, the project, the branch and the pipeline, with a link", () => {
    assert.equal(firstLineOf([newsOf("unit tests")]), `🔴 unit tests broken in acme/shop main, ${PIPELINE}`);
  });

  test("names the commit where there is no branch", () => {
    const variables = { CI_COMMIT_BRANCH: undefined, CI_COMMIT_SHA: "0ddba11".repeat(5) };
    assert.match(firstLineOf([newsOf("a")], variables), / in acme\/shop 0ddba110, /);
  });

  test("tells the kinds apart, the gravest first, and counts what is more than one", () => {
    const news = [
      newsOf("gone", { kind: "gone" }),
      newsOf("mended", { kind: "recovered" }),
      newsOf("flaky", { kind: "cumulative" }),
      newsOf("c"),
      newsOf("d"),
    ];
    const kinds = "🔴 2 jobs broken, 🟠 flaky failing often, 🟢 mended recovered, ⚪ gone gone";
    assert.equal(firstLineOf(news), `${kinds} in acme/shop main, ${PIPELINE}`);
  });

  test("counts a job whose name would fill it", () => {
    assert.match(firstLineOf([newsOf("x".repeat(255))]), /^🔴 1 job broken in /);
  });

  test("has the title of the commit where all of it has one cause, which its paragraph does not repeat", () => {
    const turned = { title: "Move checkout to the new API", author: "Ada Lovelace" };
    const message = write([brokenBy("a", "c0ffee02", turned), brokenBy("b", "c0ffee02", turned)]);
    const [first, ...others] = message.split("\n");
    assert.equal(first, `🔴 2 jobs broken in acme/shop main: "Move checkout to the new API", ${PIPELINE}`);
    assert.doesNotMatch(others.join("\n"), /Move checkout/);
    assert.match(others.join("\n"), / by Ada Lovelace/);
  });

  test("has no title where there are two causes, or something else is told as well", () => {
    const one = brokenBy("a", "c0ffee02", { title: "One" });
    for (const other of [brokenBy("b", "c0ffee03", { title: "Two" }), newsOf("b", { kind: "cumulative" })]) {
      const message = write([one, other]);
      assert.doesNotMatch(message.split("\n")[0] ?? "", /One|Two/);
      assertIncludes(message, '"One"');
    }
  });

  test("begins with whom to mention", () => {
    assert.match(write([newsOf("a")], {}, ["<!subteam^S1>", "<@U1>"]), /^<!subteam\^S1> <@U1> 🔴 a broken in /);
  });
});

describe("writeMessage() paragraph of broken jobs", () => {
  test("alone, has the commit it broke with, its author, the changes, and a link to each failure", () => {
    const turned = { title: "Add a cart", author: "Ada Lovelace", from: "77aa01d3" };
    const [paragraph] = paragraphsOf([brokenBy("unit tests", "c0ffee02", turned), newsOf("b", { kind: "gone" })]);
    assert.equal(
      paragraph,
      [
        `🔴 <${PROJECT}/jobs/104|unit tests> failed 3 times in a row since ${linkToCommit("c0ffee02")} "Add a cart" by Ada Lovelace, <${PROJECT}/compare/77aa01d3...c0ffee02|changes since 77aa01d3>`,
        `failures: ${[102, 103, 104].map(linkToJob).join(", ")}`,
      ].join("\n"),
    );
  });

  test("with one cause, has their number, the cause once, and their names in order", () => {
    const names = ["shard 10/10", "shard 2/10", "shard 1/10"];
    const news = names.map((name, i) =>
      brokenBy(
        name,
        "c0ffee02",
        { title: "T", author: "Ada", from: "77aa01d3" },
        { latest: failed(name, { id: i + 1 }) },
      ),
    );
    assert.deepEqual(paragraphsOf(news), [
      [
        `🔴 3 jobs failed 3 times in a row since ${linkToCommit("c0ffee02")} by Ada, <${PROJECT}/compare/77aa01d3...c0ffee02|changes since 77aa01d3>`,
        `<${PROJECT}/jobs/3|shard 1/10>, <${PROJECT}/jobs/2|shard 2/10>, <${PROJECT}/jobs/1|shard 10/10>`,
      ].join("\n"),
    ]);
  });

  test("with two causes is two, the larger one first", () => {
    const news = [brokenBy("a", "c0ffee01"), brokenBy("b", "c0ffee02"), brokenBy("c", "c0ffee02")];
    const [first, second] = paragraphsOf(news);
    assert.match(first ?? "", /^🔴 2 jobs .* since .*c0ffee02/);
    assert.match(second ?? "", /^🔴 <.*\|a> .* since .*c0ffee01/);
  });

  test("has the stage and the reason, but not that the script failed", () => {
    const detailOf = (latest: object) => {
      const paragraph = paragraphOf(newsOf("a", { latest: failed("a", { id: 7, ...latest }) }));
      return /\|a>(.*?) failed 3/.exec(paragraph)?.[1];
    };
    assert.equal(detailOf({}), "");
    assert.equal(detailOf({ stage: "test", reason: "script_failure" }), " (test)");
    assert.equal(detailOf({ stage: "test", reason: "runner_system_failure" }), " (test: runner_system_failure)");
    assert.equal(detailOf({ reason: "Run npm test <&>" }), " (Run npm test &lt;&amp;&gt;)");
    assert.equal(detailOf({ stage: null, reason: null }), "");
  });

  test("tells the stage and the reason once where they are those of all", () => {
    const withReason = (name: string, reason: string) => newsOf(name, { latest: failed(name, { reason }) });
    const same = paragraphsOf([withReason("a", "stuck"), withReason("b", "stuck")]).join();
    assert.match(same, /^🔴 2 jobs \(stuck\) failed .*\|a>, .*\|b>$/s);
    const different = paragraphsOf([withReason("a", "stuck"), withReason("b", "timeout")]).join();
    assert.match(different, /^🔴 2 jobs failed .*\|a> \(stuck\), .*\|b> \(timeout\)$/s);
  });

  test("of a document of the original has what its window shows", () => {
    const jobs_info = [
      { id: null, failing: false, commit: "c0ffee00" },
      { id: null, failing: false, commit: null },
      { id: 101, failing: true, commit: "c0ffee02" },
    ];
    const paragraph = paragraphOf(newsOf("a", { job: { consecutive_failures: 1, jobs_info } }));
    assertIncludes(paragraph, `failed 1 time in a row since ${linkToCommit("c0ffee02")}, `);
    assertIncludes(paragraph, `/compare/c0ffee00...c0ffee02|changes since c0ffee00>`);
  });

  test("says nothing of where a streak began that is longer than the window, or whose first commit is unknown", () => {
    const longer = history("✗✗✗", { consecutive_failures: 4 });
    const unknown = { consecutive_failures: 2, jobs_info: [101, 102].map((id) => ({ id, failing: true })) };
    for (const job of [longer, unknown]) assert.match(paragraphOf(newsOf("a", { job })), / in a row\nfailures: /);
  });

  test("has no comparison of a commit with itself", () => {
    assert.doesNotMatch(paragraphOf(brokenBy("a", "c0ffee02", { from: "c0ffee02" })), /changes/);
  });

  test("links to the address that the CI gave for a job, else to the job by its id", () => {
    const url = "https://elsewhere.example.com/104";
    const given = paragraphOf(newsOf("a", { latest: failed("a", { id: 104, url }) }));
    assert.match(given, /^🔴 <https:\/\/elsewhere\.example\.com\/104\|a> /);
    assertIncludes(paragraphOf(newsOf("a", { latest: failed("a", { id: 9 }) })), `🔴 <${PROJECT}/jobs/9|a> `);
  });

  test("has no links where the project's address is unknown", () => {
    assert.equal(
      write([newsOf("a")], { CI_PROJECT_URL: undefined }),
      "🔴 a broken in acme/shop main, pipeline 1005\n\n🔴 a failed 3 times in a row since c0ffee02\nfailures: 102, 103, 104",
    );
  });
});

describe("writeMessage() paragraph of other news", () => {
  test("of a job that fails often counts the executions that there are, and links its failures", () => {
    const news = newsOf("e2e", { kind: "cumulative", job: history("✗·✗✗·✗✗··") });
    const failures = [101, 103, 104, 106, 107].map(linkToJob).join(", ");
    assert.equal(
      paragraphOf(news),
      `🟠 <${PROJECT}/jobs/107|e2e> failed 5 times in the last 9 executions\nfailures: ${failures}`,
    );
  });

  test("of jobs that fail often is one for all of them", () => {
    const news = ["✗·✗✗·✗✗", "✗·✗✗·✗✗·✗"].map((strip, i) =>
      newsOf(`job ${i}`, { kind: "cumulative", job: history(strip) }),
    );
    assert.match(
      paragraphsOf(news).join(),
      /^🟠 2 jobs failed 5 times in the last 7 to 9 executions\n.*job 0>, .*job 1>$/,
    );
  });

  test("of a job that recovered has its passes, how long its alert was open, and what mended it", () => {
    const turned = { title: "Mend the cart", author: "Grace Hopper", from: "c0ffee03" };
    const news = { ...recoveredBy("e2e", "c0ffee04", turned), latest: passed("e2e", { id: 7 }) };
    assert.equal(
      paragraphOf(news),
      `🟢 <${PROJECT}/jobs/7|e2e> passed 3 times in a row, its alert was open for 60 minutes, mended by ${linkToCommit("c0ffee04")} "Mend the cart" (Grace Hopper)`,
    );
  });

  test("of jobs that recovered is one for each commit that mended them", () => {
    const news = [recoveredBy("a", "c0ffee04"), recoveredBy("b", "c0ffee04"), recoveredBy("c", "c0ffee05")];
    const [first, second] = paragraphsOf(news);
    assert.match(
      first ?? "",
      /^🟢 2 jobs passed 3 times in a row, .* up to 60 minutes, mended by .*c0ffee04>\n.*a>, .*b>$/,
    );
    assert.match(second ?? "", /^🟢 <.*\|c> .*c0ffee05>$/);
  });

  test("of a job that is gone says since when it has not run", () => {
    const job = history("✗✗✗", { last_run: "2026-10-01T10:00:00Z" });
    assert.equal(
      paragraphOf(newsOf("e2e", { kind: "gone", job })),
      `⚪ <${PROJECT}/jobs/103|e2e> (not run since 2026-10-01) is gone: its alert is closed`,
    );
  });

  test("says for how long the alert was open in words that fit", () => {
    const spans = ["10:00:00Z", "09:59:00Z", "09:57:30Z", "08:01:00Z", "08:00:00Z"].map((at) => `2026-11-23T${at}`);
    const openSince = [...spans, "2026-11-22T10:00:00Z", "2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z", "2026-10-24"];
    const words = openSince.map(
      (openedAt) => /open for (.*?)(,|$)/.exec(paragraphOf({ ...newsOf("a", { kind: "recovered" }), openedAt }))?.[1],
    );
    assert.deepEqual(words, [
      ...["0 minutes", "1 minute", "3 minutes", "119 minutes", "2 hours", "24 hours", "47 hours", "2 days", "30 days"],
    ]);
  });
});

describe("writeMessage() on GitHub", () => {
  const GITHUB = {
    GITHUB_ACTIONS: "true",
    CI_PROJECT_URL: "https://github.com/acme/shop",
    CI_PIPELINE_URL: "https://github.com/acme/shop/actions/runs/555",
  };

  test("links GitHub's pages of the run, the job, the commit and the comparison", () => {
    const message = write([brokenBy("a", "c0ffee02", { from: "77aa01d3" })], GITHUB);
    assertIncludes(message, "<https://github.com/acme/shop/actions/runs/555|pipeline 1005>");
    assertIncludes(message, "<https://github.com/acme/shop/runs/104|a>");
    assertIncludes(message, "<https://github.com/acme/shop/commit/c0ffee02|c0ffee02>");
    assertIncludes(message, "<https://github.com/acme/shop/compare/77aa01d3...c0ffee02|changes since 77aa01d3>");
    assert.doesNotMatch(message, /\/-\//);
  });

  test("has no link to a run whose address is unknown, as its number is not in it", () => {
    assert.match(
      write([newsOf("a")], { ...GITHUB, CI_PIPELINE_URL: undefined }),
      / in acme\/shop main, pipeline 1005\n/,
    );
  });
});

describe("writeMessage() is at most 3,900 characters", () => {
  const LIMIT = 3_900;

  test("and counts the jobs that do not fit, with a link to the pipeline", () => {
    const names = Array.from({ length: 300 }, (_, i) => `${i + 1}`.padStart(3, "0").padEnd(240, "x"));
    const message = write(names.map((name) => brokenBy(name, "c0ffee02", { title: "T" })));
    assert.ok(message.length <= LIMIT && message.length > LIMIT - 500, `${message.length}`);
    assert.match(message, /^🔴 300 jobs broken in /);
    const shown = names.filter((name) => message.includes(`|${name}>`)).length;
    assert.match(message, new RegExp(`, and <${PROJECT}/pipelines/1005\\|${300 - shown} more>$`));
  });

  test("and has no count where all fits", () => {
    const message = write(Array.from({ length: 40 }, (_, i) => brokenBy(`unit tests ${i + 1}/40`, "c0ffee02")));
    assert.ok(message.length <= LIMIT, `${message.length}`);
    assert.doesNotMatch(message, / more>/);
    assertIncludes(message, "|unit tests 40/40>");
  });

  test("and keeps the first line of each cause, as long as those fit", () => {
    const many = Array.from({ length: 100 }, (_, i) => brokenBy(`job ${i}`.padEnd(60, "x"), "c0ffee02"));
    const message = write([...many, brokenBy("a", "c0ffee03"), brokenBy("b", "c0ffee04")]);
    assert.ok(message.length <= LIMIT, `${message.length}`);
    for (const commit of ["c0ffee02", "c0ffee03", "c0ffee04"]) assertIncludes(message, `since ${linkToCommit(commit)}`);
  });

  test("and counts the jobs of the causes that do not fit", () => {
    const message = write(Array.from({ length: 60 }, (_, i) => brokenBy(`job ${i}`, `c0ffee${i + 10}`)));
    assert.ok(message.length <= LIMIT, `${message.length}`);
    const shown = message.match(/failed 3 times/g)?.length ?? 0;
    assert.ok(shown > 8, `${shown} paragraphs`);
    assert.match(message, new RegExp(`\n\nand <.*\\|${60 - shown} more>$`));
  });

  test("and counts the failures of a single job that do not fit", () => {
    const message = write([newsOf("a", { job: history("✗".repeat(300)) })]);
    assert.ok(message.length <= LIMIT, `${message.length}`);
    const shown = message.match(/jobs\/\d+\|\d+>/g)?.length ?? 0;
    assert.match(message, new RegExp(`, and <.*\\|${300 - shown} more>$`));
  });

  test("whatever its names, titles, authors, branches and addresses are", () => {
    const unit = fc.constantFrom("&", "<", "x", "🧪", " ");
    const aText = (maxLength: number) => fc.string({ unit, minLength: 1, maxLength, size: "max" });
    const aTurn = fc.record({ title: aText(75), author: aText(75), from: fc.constant("77aa01d3") });
    const kinds = fc.constantFrom("consecutive" as const, "cumulative" as const, "recovered" as const, "gone" as const);
    const someNews = fc.array(fc.tuple(aText(125), aTurn, kinds, fc.constantFrom("c0ffee01", "c0ffee02")), {
      minLength: 1,
      maxLength: 40,
      size: "max",
    });
    fc.assert(
      fc.property(someNews, aText(200), (listed, branch) => {
        const news = listed.map(([name, turned, kind, commit]) => ({ ...brokenBy(name, commit, turned), kind }));
        const { length } = write(news, {
          CI_COMMIT_BRANCH: branch,
          CI_PROJECT_URL: `https://x.example/${"x".repeat(200)}`,
        });
        assert.ok(length <= LIMIT, `${length}`);
      }),
      { numRuns: 200 },
    );
  });
});

describe("writeMessage() takes names, titles, authors and branches for data", () => {
  test("escapes what Slack would take for markup", () => {
    const name = "<!channel> & <http://evil|x>";
    const message = write([brokenBy(name, "c0ffee02", { title: "<@U1> & <!here>", author: "<@U2>" })]);
    assert.match(message, /^🔴 &lt;!channel&gt; &amp; &lt;http:\/\/evil\|x&gt; broken in /);
    assertIncludes(message, `<${PROJECT}/jobs/104|&lt;!channel&gt; &amp; &lt;http://evil/x&gt;> failed`);
    assertIncludes(message, '"&lt;@U1&gt; &amp; &lt;!here&gt;"');
    assertIncludes(message, "by &lt;@U2&gt;");
  });

  test("replaces control characters and line breaks", () => {
    const message = write([brokenBy("a\nb\u0007\u0085c\u2028d\u0000", "c0ffee02", { title: "one\r\n\r\ntwo" })]);
    assert.match(message, /^🔴 a b c d {2}broken in /);
    assertIncludes(message, '"one two"');
  });

  test("every < and > belongs to a link of its own making, whatever the texts are", () => {
    const unit = fc.constantFrom(..."<>|&!@#a 🧪\n\r\u0000\u0085\u2028\ud83e", "$&", "https://evil");
    const aText = fc.string({ unit, minLength: 1, maxLength: 20 });
    const kinds = fc.constantFrom("consecutive" as const, "cumulative" as const, "recovered" as const, "gone" as const);
    fc.assert(
      fc.property(aText, aText, kinds, (name, text, kind) => {
        const latest = failed(name, { stage: text, reason: text });
        const news = { ...brokenBy(name, "c0ffee02", { title: text, author: text, from: text }, { latest }), kind };
        const message = write([news, newsOf("b", { kind: "cumulative" })], { CI_COMMIT_BRANCH: text });
        const rest = message.replace(/<https:\/\/gitlab\.example\.com\/acme\/shop\/-\/[^\s<>|]+\|[^<>|]*>/g, "");
        return !/[<>]/.test(rest) && !/[\p{Cc}\u2028\u2029]/u.test(message.replaceAll("\n", ""));
      }),
    );
  });
});

describe("toPlainText()", () => {
  test("shows what mrkdwn shows, with the addresses of links", () => {
    const mrkdwn = "🔴 <https://ci.example.com/?a=1&amp;b=2|a &lt;b&gt;> failed &amp;lt;";
    assert.equal(toPlainText(mrkdwn), "🔴 a <b> (https://ci.example.com/?a=1&b=2) failed &lt;");
  });

  test("is what is printed where no Slack is configured", async () => {
    const printed: string[] = [];
    const { slack, network } = settings({ SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined });
    const { send } = openSender(slack, network, async (text) => void printed.push(text));
    await send(write([newsOf("a & b")], { CI_PROJECT_URL: undefined }), null, new AbortController().signal);
    assert.match(printed.join(), /^🔴 a & b broken in acme\/shop main, pipeline 1005\n/);
  });
});

describe("what a run tells", () => {
  const tell = async (...args: Parameters<typeof runOf>) => (await runOf(...args)).sent.map(({ text }) => text);
  const storeOf = (document: Parameters<typeof textOf>[0]) => memoryStore(textOf(document)).store;

  test("has the comparison with the pipeline before, also where the job was green for weeks", async () => {
    const { store } = memoryStore(textOf({ ...documentOf(), commit: "77aa01d3" }));
    for (const id of [1005, 1006]) {
      await tell([failed("a")], { CI_PIPELINE_ID: `${id}`, CI_COMMIT_SHA: `c0ffee0${id - 1004}` }, { store });
    }
    const [text = ""] = await tell([failed("a")], { CI_PIPELINE_ID: "1007", CI_COMMIT_SHA: "c0ffee03" }, { store });
    assertIncludes(text, `since ${linkToCommit("c0ffee01")}, <${PROJECT}/compare/77aa01d3...c0ffee01|changes since`);
  });

  test("is nothing where a job that only failed often has recovered", async () => {
    const store = storeOf(documentOf(["a", history("✗·✗·✗✗✗··", { alert: openAlert("cumulative") })]));
    const { run, sent } = await runOf([passed("a")], {}, { store });
    assert.deepEqual([run.reached.recovered, sent], [["a"], []]);
  });

  test("is that a job with an open alert is gone, of either kind", async () => {
    for (const kind of ["consecutive", "cumulative"] as const) {
      const job = history("✗✗✗", { alert: openAlert(kind), last_run: "2026-10-01T10:00:00Z" });
      const { run, sent } = await runOf([], {}, { store: storeOf(documentOf(["a", job])) });
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
    const texts = await tell(ran, {}, { store: storeOf(before) });
    assert.equal(texts.length, 1);
    assert.match(texts[0] ?? "", /^🔴 40 jobs broken, 🟠 often failing often, 🟢 mended recovered in /);
  });
});

describe("writeHello()", () => {
  test("says what it watches, when it will speak, and what it means where it was seen before", async () => {
    const hello = writeHello(await taskOf({ CONSECUTIVE_THRESHOLD: "4" }), "s3://bucket/key");
    assert.match(hello, /^👋 .*acme\/shop main/);
    assert.match(hello, /failed 4 times in a row, or 5 times in its last 10 executions/);
    assert.match(hello, /seen this message before\? .*s3:\/\/bucket\/key was lost, and with it the open alerts/);
  });
});
