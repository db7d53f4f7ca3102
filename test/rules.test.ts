/** JOB_RULES: which jobs a line is about, who hears of them, whom it mentions, and when they alert. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Alert, claimNews, MARKDOWN, PLAIN, type TrackedJob, writeMessage } from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  memoryStore,
  openAlert,
  passed,
  runOf,
  settings,
  taskOf,
  textOf,
  type Variables,
} from "./support/builders.ts";

const UNKNOWN = openAlert("consecutive", { told: undefined }); // nobody knows of it

/** What each channel is told of jobs under these rules, where the broadcast channel is `broadcast`. */
function tell(lines: string[], jobs: Record<string, Alert>, broadcast: string | null = "#ci") {
  const tracked = Object.entries(jobs).map(([name, alert]): [string, TrackedJob] => [name, history("✗✗✗", { alert })]);
  const task = taskOf({ JOB_RULES: lines.join("\n") }, { broadcast });
  return claimNews({ document: documentOf(...tracked), ran: new Map() }, task).messages;
}

/** The jobs that each channel is told of, where all have just broken. */
const channelsOf = (lines: string[], names: string[], broadcast?: string | null) =>
  Object.fromEntries(
    tell(lines, Object.fromEntries(names.map((name) => [name, UNKNOWN])), broadcast).map(({ channel, news }) => [
      channel,
      news.map(({ job }) => job),
    ]),
  );

/** Whom each channel's message mentions. */
const mentionsOf = (lines: string[], jobs: Record<string, Alert>, broadcast?: string) =>
  Object.fromEntries(tell(lines, jobs, broadcast).map(({ channel, mentions }) => [channel, mentions]));

describe("a pattern of JOB_RULES", () => {
  /** Whether the first line, which names #own, is about a job. */
  const matches = (line: string, name: string) => "#own" in channelsOf([line], [name]);
  const assertMatches = (line: string, names: string[], others: string[]) => {
    for (const name of names) assert.ok(matches(line, name), `${line} must match ${name}`);
    for (const name of others) assert.ok(!matches(line, name), `${line} must not match ${name}`);
  };

  test("is a whole name, unless it has a * or a ?", () => {
    assertMatches("lint #own", ["lint"], ["lin", "lint2", "int", "Lint", "lint\n", " lint"]);
    assertMatches("l?nt #own", ["lint", "l🧪nt", "l\nnt"], ["lnt", "liint"]);
    assertMatches("lint* #own", ["lint", "lint: [a/b, 1.22]\nx"], ["a lint"]);
    assertMatches("*chrome #own", ["e2e chrome", "chrome"], ["chrome 2"]);
    assertMatches("** #own", ["a", "__proto__", "constructor"], []);
    assertMatches("a*b?*c*d #own", ["ab1bcd", "abxcd", "ab-bc-c-cd"], ["abd", "acbd", "ab1bcd2"]);
  });

  test("has no other special characters", () => {
    assertMatches("build:[linux,1.22](a|b)^$+{2}/x-y_#@& #own", ["build:[linux,1.22](a|b)^$+{2}/x-y_#@&"], ["build:l"]);
    assertMatches("1.22 #own", ["1.22"], ["1x22"]);
    assertMatches("__proto__ #own", ["__proto__"], ["constructor"]);
  });

  test("takes the character behind a backslash as it is", () => {
    assertMatches("unit\\ tests #own", ["unit tests"], ["unit", "unit\\ tests"]);
    assertMatches("a\\* #own", ["a*"], ["ab", "a"]);
    assertMatches("a\\? #own", ["a?"], ["ab"]);
    assertMatches("a\\\\b #own", ["a\\b"], ["ab"]);
    assertMatches("\\#1 #own", ["#1"], ["1"]);
    assertMatches("n\\🧪 #own", ["n🧪"], ["n"]);
  });

  test("with many * does not take for ever", () => {
    assertMatches(`${"*a".repeat(12)} #own`, ["a".repeat(255)], []);
    assertMatches(`${"*a".repeat(12)}b #own`, [], ["a".repeat(255)]);
  });
});

describe("JOB_RULES", () => {
  test("has comments and empty lines, which say nothing, and lines that end and are indented as editors like", () => {
    const lines = ["\ufeff# a #x\r", "", "  \t ", "\r", " \ta\t#a   #b\t\r", "#* #y", "  # c #z"];
    assert.deepEqual(channelsOf(lines, ["a", "#a", "c"]), { "": ["a", "#a", "c"], "#a": ["a"], "#b": ["a"] });
  });

  test("may be unset, or be only comments", () => {
    assert.deepEqual(channelsOf([], ["a"]), { "": ["a"] });
    assert.deepEqual(channelsOf(["# a #a"], ["a"]), { "": ["a"] });
  });

  test("says of a job what its last line says that matches, and nothing of what the others say", () => {
    const lines = ["* #all <@U1>", "e2e* #e2e", "e2e-chrome <@U2>", "lint #lint"];
    assert.deepEqual(channelsOf(lines, ["build", "e2e-firefox", "e2e-chrome", "lint"]), {
      "": ["build", "e2e-firefox", "e2e-chrome", "lint"],
      "#all": ["build"],
      "#e2e": ["e2e-firefox"],
      "#lint": ["lint"],
    });
    assert.deepEqual(channelsOf(lines.toReversed(), ["e2e-chrome"]), { "": ["e2e-chrome"], "#all": ["e2e-chrome"] });
    assert.deepEqual(mentionsOf(lines, { "e2e-firefox": UNKNOWN, "e2e-chrome": UNKNOWN }), {
      "": ["<@U2>"],
      "#e2e": [],
    });
  });

  describe("with channels", () => {
    test("tells the broadcast channel of everything, and each other channel of its jobs, in one message each", () => {
      const names = Array.from({ length: 150 }, (_, i) => `${"abcdefg"[i % 7]}-${i}`);
      const letters = ["a", "b", "c", "d", "e", "f"];
      const own = letters.map((letter) => [`#${letter}`, names.filter((name) => name.startsWith(letter))]);
      assert.deepEqual(
        channelsOf(
          letters.map((letter) => `${letter}-* #${letter}`),
          names,
        ),
        { "": names, ...Object.fromEntries(own) },
      );
    });

    test("takes several in a line, names in any script, and ids of channels", () => {
      assert.deepEqual(channelsOf(["a #x #équipe_1-b C0123ABCD G0123ABCD"], ["a"]), {
        "": ["a"],
        "#x": ["a"],
        "#équipe_1-b": ["a"],
        C0123ABCD: ["a"],
        G0123ABCD: ["a"],
      });
    });

    test("gives a channel one message, however often and however it is spelt", () => {
      const one = { "": ["a", "b"], "#web": ["a", "b"] };
      assert.deepEqual(channelsOf(["a #web #web", "b #Web"], ["a", "b"]), one);
    });

    for (const [broadcast, spelt] of [
      ["#ci", "#ci"],
      ["#ci", "#CI"],
      ["#CI", "#ci"],
      ["ci", "#ci"],
      ["C0123ABCD", "C0123ABCD"],
    ] as const) {
      test(`gives the broadcast channel ${broadcast} one message where a line calls it ${spelt}`, () => {
        assert.deepEqual(channelsOf([`a ${spelt}`], ["a", "b"], broadcast), { "": ["a", "b"] });
      });
    }
  });

  describe("with mentions", () => {
    test("takes groups, people, and all who are there", () => {
      const mentions = ["<!subteam^S0123ABCD>", "<@U1>", "<!here>", "<!channel>"];
      assert.deepEqual(mentionsOf([`a ${mentions.join(" ")}`], { a: UNKNOWN }), { "": mentions });
    });

    for (const [title, line, mentioned] of [
      ["in the line's channels only", "a #web #ops <@U1>", { "": [], "#web": ["<@U1>"], "#ops": ["<@U1>"] }],
      ["in the broadcast channel where the line names none", "a <@U1>", { "": ["<@U1>"] }],
      ["in the broadcast channel where the line names it", "a #CI <@U1>", { "": ["<@U1>"] }],
      ["in both where the line names both", "a #web #ci <@U1>", { "": ["<@U1>"], "#web": ["<@U1>"] }],
    ] as const) {
      test(`mentions ${title}`, () => {
        assert.deepEqual(mentionsOf([line], { a: UNKNOWN }), mentioned);
      });
    }

    test("mentions everybody once, of all jobs that a message is about, and nobody of others", () => {
      const lines = ["a #web <@U1> <!here>", "b #web <@U2> <@U1>", "c #ops <!channel>"];
      assert.deepEqual(mentionsOf(lines, { a: UNKNOWN, b: UNKNOWN, c: UNKNOWN }), {
        "": [],
        "#web": ["<@U1>", "<!here>", "<@U2>"],
        "#ops": ["<!channel>"],
      });
    });

    test("mentions people for what opened, of either kind, and not for what has ended", () => {
      const told = { "": AN_HOUR_AGO };
      const often = openAlert("cumulative", { told: undefined });
      const [recovered, gone] = [openAlert("recovered", { told }), openAlert("gone", { told })];
      const lines = ["broken <@U1>", "often <@U2>", "recovered <@U3>", "gone <@U4>"];
      assert.deepEqual(mentionsOf(lines, { broken: UNKNOWN, often, recovered, gone }), { "": ["<@U1>", "<@U2>"] });
      assert.deepEqual(mentionsOf(lines, { recovered, gone }), { "": [] });
    });
  });

  test("has no channels and mentions nobody where messages go to a command or to stdout", () => {
    const [message, ...others] = tell(["a #web <@U1>", "b #ops <!here>"], { a: UNKNOWN, b: UNKNOWN }, null);
    assert.deepEqual([message?.channel, message?.news.map(({ job }) => job), others], ["", ["a", "b"], []]);
    for (const format of [MARKDOWN, PLAIN]) {
      assert.match(message ? writeMessage(message, format) : "", /^🔴 2 jobs broken in /);
    }
  });
});

describe("a threshold of JOB_RULES", () => {
  /** What alert is open after a pipeline that ends this strip. */
  async function alertAfter(strip: string, line: string, variables: Variables = {}) {
    const { store } = memoryStore(textOf(documentOf(["e2e: chrome", history(strip.slice(0, -1))])));
    const last = strip.endsWith("✗") ? failed("e2e: chrome") : passed("e2e: chrome");
    const { run } = await runOf([last], { JOB_RULES: line, ...variables }, { store });
    return run.document.jobs.get("e2e: chrome")?.alert?.kind;
  }

  for (const [line, strip, kind] of [
    ["lint 1", "✗✗", undefined],
    ["e2e:* 5", "✗✗✗✗", undefined],
    ["e2e:* 5", "✗✗✗✗✗", "consecutive"],
    ["e2e:* 05", "✗✗✗✗✗", "consecutive"],
    ["e2e:* 5/8", "✗✗✗✗·✗✗✗", undefined],
    ["e2e:* 5/8", "✗✗✗✗·✗✗✗✗", "cumulative"],
    ["e2e:* #web 2/4 <@U1>", "✗·✗·✗·✗", "cumulative"],
    ["e2e:* 2/4", "✗·✗·✗", undefined],
    ["* 9/9\ne2e:* #web", "✗✗✗", "consecutive"],
  ] as const) {
    test(`${JSON.stringify(line)} makes ${strip} ${kind ?? "no alert"}`, async () => {
      assert.equal(await alertAfter(strip, line), kind);
    });
  }

  for (const [line, variables, failures] of [
    ["e2e:* 7", {}, 7], // more than CUMULATIVE_THRESHOLD
    ["e2e:* 4", {}, 5],
    ["e2e:* 4", { CUMULATIVE_THRESHOLD: "6" }, 6],
    ["e2e:* 7", { CONSECUTIVE_THRESHOLD: "7" }, 7], // as all jobs have it, and yet said of these
  ] as const) {
    test(`"${line}" alone means ${failures} failures in the window with ${JSON.stringify(variables)}`, async () => {
      const strips = Array.from({ length: 10 }, (_, i) => "✗✗✗·✗✗✗·✗✗".slice(0, i + 1)).filter((s) => s.endsWith("✗"));
      const kinds = await Promise.all(strips.map((strip) => alertAfter(strip, line, variables)));
      const first = strips[kinds.indexOf("cumulative")] ?? "";
      assert.equal(first.replaceAll("·", "").length, failures);
    });
  }

  for (const [line, length] of [
    ["e2e:* 12", 12],
    ["e2e:* 2/13", 13],
    ["e2e:* 2/4", 10],
  ] as const) {
    test(`"${line}" makes the window ${length} executions long`, async () => {
      const { store } = memoryStore(textOf(documentOf(["e2e: chrome", history("✗".repeat(20))])));
      const { run } = await runOf([failed("e2e: chrome")], { JOB_RULES: line }, { store });
      assert.equal(run.document.jobs.get("e2e: chrome")?.jobs_info.length, length);
    });
  }
});

describe("ignore in JOB_RULES", () => {
  const RULES = { JOB_RULES: "deploy:* ignore\ndeploy:\\ eu #ops" };

  test("does not count its jobs, unless a later line says more of them", async () => {
    const { run } = await runOf([failed("deploy: us"), failed("deploy: eu"), passed("deploy: asia")], RULES);
    assert.deepEqual([...run.ran.keys()], ["deploy: eu"]);
    assert.deepEqual([...run.document.jobs.keys(), ...run.document.passed.keys()], ["deploy: eu"]);
  });

  test("drops its jobs where they are tracked or have passed, also in a pipeline without them", async () => {
    const passes = new Map([["deploy: asia", { commit: "0ddba11", pipeline: 1003, day: 7 }]]);
    const document = { ...documentOf(["deploy: us", history("✗·")]), passed: passes };
    const { run, sent } = await runOf([passed("lint")], RULES, { store: memoryStore(textOf(document)).store });
    assert.deepEqual([[...run.document.jobs.keys()], [...run.document.passed.keys()], sent], [[], ["lint"], []]);
  });

  test("ends an open alert as gone, tells whoever was told of it, and then drops the job", async () => {
    const alert = openAlert("consecutive", { told: { "": AN_HOUR_AGO, "#ops": AN_HOUR_AGO } });
    const { store } = memoryStore(textOf(documentOf(["deploy: us", history("✗✗✗", { alert })])));
    const { run, sent } = await runOf([failed("deploy: us"), passed("lint")], RULES, { store });
    assert.equal(run.document.jobs.get("deploy: us")?.alert?.kind, "gone");
    assert.deepEqual(sent.map(({ channel }) => channel).sort(), ["#ci", "#ops"]);
    for (const { text } of sent) assert.match(text, /^⚪ deploy: us gone in /);
    const next = await runOf([passed("lint")], { ...RULES, CI_PIPELINE_ID: "1006" }, { store });
    assert.deepEqual([[...next.run.document.jobs.keys()], next.sent], [[], []]);
  });
});

describe("a wrong line of JOB_RULES", () => {
  const problemOf = (JOB_RULES: string) => {
    try {
      return settings({ JOB_RULES }) && "";
    } catch (error) {
      return (error as Error).message;
    }
  };

  for (const [line, title] of [
    ["lint", "no word"],
    ["lint\\ #a", "no word, as its blank is escaped"],
    ["lint #a # the-team", "a comment behind it"],
    ["* #ci #Default owners", "a comment that looks like a channel"],
    ["lint ada@example.com", "an address"],
    ["lint @acme/web", "a team of another system"],
    ["lint #", "an empty channel"],
    ["lint #a,#b", "channels without a space"],
    ["lint web", "a channel without its #"],
    ["lint C01", "a short id"],
    ["lint <!everyone>", "a mention that nobody knows"],
    ["lint <@>", "an empty mention"],
    ["lint <@U1", "half a mention"],
    ["lint <https://evil.example>", "a link"],
    ["lint 0", "a threshold of zero"],
    ["lint -1", "a negative threshold"],
    ["lint 1.5", "half a failure"],
    ["lint 5/", "half a threshold"],
    ["lint /5", "the other half of a threshold"],
    ["lint 5/0", "a second threshold of zero"],
    ["lint 5/4/3", "three thresholds in one"],
    ["lint 3 5", "two thresholds"],
    ["lint 10000000", "a threshold that nobody reaches"],
    ["lint Ignore", "a word that is spelt otherwise"],
    ["lint #a \\", "a backslash at its end"],
    ["lint #a \\\\\\", "three backslashes at its end"],
  ] as const) {
    test(`with ${title} is named by its number, with what may stand there`, () => {
      assert.match(
        problemOf(`# rules\n\n${line}\nb #b`),
        /^The environment is not valid; see --help\n {2}JOB_RULES must be (?=.* line 3\b)lines of a pattern, .*#channel.*<!mention.*threshold.*ignore.*, e\.g\. .*$/,
      );
    });
  }

  test("is the first that is named, of several, whatever ends the lines before it", () => {
    assert.match(problemOf("# d\r\na #a\n\r\nb\nc 0"), / lines? 4\b/);
  });

  test("is not repeated, nor any word of it: it may be a misplaced secret", () => {
    const secret = "xoxb-hunter2";
    for (const line of [secret, `${secret} #a ${secret}`, `* ${secret}`, `* #a\\ ${secret} 0 \\`]) {
      assert.doesNotMatch(problemOf(`a #own-channel\n${line}`), /xoxb|hunter2|own-channel/);
    }
  });
});
