import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { mentionsIn, type News, parseOwners, readOwners, routeNews } from "../check-failures.ts";
import { failed, newsOf, runOf, toldOf, type Variables } from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";

const ownersOf = (text: string, channels: Record<string, string> = {}) => ({
  rules: parseOwners(text, "owners"),
  channels: new Map(Object.entries(channels).map(([owner, channel]) => [owner, { channel, mentions: [] }])),
});

/** What each channel is told, by the names of the jobs; the broadcast channel is null. */
const routesOf = (names: string[], owners: ReturnType<typeof ownersOf>, broadcast: string | null = "#ci") =>
  routeNews(
    names.map((name) => newsOf(name)),
    owners,
    broadcast,
  ).routes.map(({ channel, news }) => [channel, news.map(({ job }) => job)]);

/** The channels that are told of a job besides the broadcast channel, by the lines of an owners file. */
const channelsOf = (name: string, ...lines: string[]) =>
  routesOf([name], ownersOf(lines.join("\n")))
    .slice(1)
    .map(([channel]) => channel);

/** A run in whose pipeline these jobs failed, and that tells of a job when it first fails. */
async function runWith(files: { owners?: string; channels?: unknown }, names: string[], variables: Variables = {}) {
  const folder = makeFolder({ owners: files.owners ?? "", "channels.json": files.channels ?? {} });
  const set = {
    CONSECUTIVE_THRESHOLD: "1",
    JOB_OWNERS_FILE: `${folder.path}/owners`,
    OWNER_CHANNELS_FILE: `${folder.path}/channels.json`,
    ...variables,
  };
  try {
    const { run, sent } = await runOf(
      names.map((name) => failed(name)),
      set,
    );
    return { warnings: run.warnings, channels: sent.map(({ channel }) => channel), sent };
  } finally {
    folder.remove();
  }
}

describe("parseOwners()", () => {
  test("a pattern is a whole name, unless it has a * or a ?", () => {
    assert.deepEqual(channelsOf("lint", "lint #a"), ["#a"]);
    assert.deepEqual(channelsOf("lint", "lin #a"), []);
    assert.deepEqual(channelsOf("lint", "int #a"), []);
    assert.deepEqual(channelsOf("Lint", "lint #a"), []);
    assert.deepEqual(channelsOf("lint", "l?nt #a"), ["#a"]);
    assert.deepEqual(channelsOf("lnt", "l?nt #a"), []);
    assert.deepEqual(channelsOf("lint: [a/b, 1.22]\nx", "lint* #a"), ["#a"]);
    assert.deepEqual(channelsOf("e2e chrome", "*chrome #a"), ["#a"]);
    assert.deepEqual(channelsOf("a", "** #a"), ["#a"]);
    assert.deepEqual(channelsOf("🧪", "? #a"), ["#a"]);
    for (const name of ["ab1bcd", "abxcd", "ab-bc-c-cd"])
      assert.deepEqual(channelsOf(name, "a*b?*c*d #a"), ["#a"], name);
    for (const name of ["abd", "acbd", "ab1bcd2"]) assert.deepEqual(channelsOf(name, "a*b?*c*d #a"), [], name);
  });

  test("many * do not take for ever", () => {
    assert.deepEqual(channelsOf("a".repeat(255), `${"*a".repeat(12)}b #a`), []);
    assert.deepEqual(channelsOf("a".repeat(255), `${"*a".repeat(12)} #a`), ["#a"]);
  });

  test("no other character is special", () => {
    const name = "build:[linux,1.22](a|b)^$+{2}/x-y_#@&";
    assert.deepEqual(channelsOf(name, `${name} #a`), ["#a"]);
    assert.deepEqual(channelsOf("build:l", "build:[linux] #a"), []);
    assert.deepEqual(channelsOf("1x22", "1.22 #a"), []);
  });

  test("a backslash takes the next character as it is", () => {
    assert.deepEqual(channelsOf("unit tests", "unit\\ tests #a"), ["#a"]);
    assert.deepEqual(channelsOf("a*", "a\\* #a"), ["#a"]);
    assert.deepEqual(channelsOf("ab", "a\\* #a"), []);
    assert.deepEqual(channelsOf("a?", "a\\? #a"), ["#a"]);
    assert.deepEqual(channelsOf("ab", "a\\? #a"), []);
    assert.deepEqual(channelsOf("a\\b", "a\\\\b #a"), ["#a"]);
    assert.deepEqual(channelsOf("#1", "\\#1 #a"), ["#a"]);
    assert.deepEqual(channelsOf("n🧪", "\\n\\🧪 #a"), ["#a"]);
  });

  test("comments and empty lines say nothing", () => {
    assert.deepEqual(channelsOf("a", "# a #x", "", "  \t ", "a #a", "#* #y"), ["#a"]);
    assert.deepEqual(channelsOf("#a", "#a #x", "  #a #y"), []);
  });

  test("lines may end and be indented as editors like", () => {
    assert.deepEqual(channelsOf("a", " \ta\t#a   #b\t\r"), ["#a", "#b"]);
  });

  test("the last line that matches wins", () => {
    const lines = ["* #all", "e2e* #e2e", "e2e-chrome #chrome", "lint #lint"];
    assert.deepEqual(channelsOf("build", ...lines), ["#all"]);
    assert.deepEqual(channelsOf("e2e-firefox", ...lines), ["#e2e"]);
    assert.deepEqual(channelsOf("e2e-chrome", ...lines), ["#chrome"]);
    assert.deepEqual(channelsOf("e2e-chrome", ...lines.toReversed()), ["#all"]);
  });

  test("rejects a line that it can't take, with its number and what to do", () => {
    const reject = (line: string, message: RegExp) =>
      assert.throws(() => parseOwners(`# owners\n\n${line}\nb #b`, "ci/owners"), { message });
    reject("lint", /^ci\/owners:3: lint has no owner; add one, e\.g\. /);
    reject("lint\\ #a", /^ci\/owners:3: lint\\ #a has no owner; /);
    reject("lint #a \\", /^ci\/owners:3: a backslash ends the line; /);
    reject("lint #a # the team", /^ci\/owners:3: # is not an owner; .*a comment a line of its own/);
    reject("* @acme/ci #Default owners", /^ci\/owners:3: owners is not an owner; .*a comment a line of its own/);
    reject("lint ada@example.com", /^ci\/owners:3: ada@example\.com is not an owner; begin owners with @ or #/);
    reject("lint @", /^ci\/owners:3: @ is not an owner/);
  });
});

describe("routeNews()", () => {
  test("everything goes to the broadcast channel, and what has an owner to its channel as well", () => {
    const owners = ["a", "b", "c", "d", "e", "f"];
    const text = owners.map((owner) => `${owner}-* @acme/${owner}`).join("\n");
    const channels = Object.fromEntries(owners.map((owner) => [`@acme/${owner}`, `#${owner}`]));
    const names = Array.from({ length: 150 }, (_, i) => `${"abcdefg"[i % 7]}-${i}`);
    assert.deepEqual(routesOf(names, ownersOf(text, channels)), [
      [null, names],
      ...owners.map((owner) => [`#${owner}`, names.filter((name) => name.startsWith(owner))]),
    ]);
  });

  test("several owners of a job are each told of it, but a channel once", () => {
    const owners = ownersOf("a @acme/x #y @acme/z", { "@acme/x": "#y", "@acme/z": "#z" });
    assert.deepEqual(routesOf(["a"], owners), [
      [null, ["a"]],
      ["#y", ["a"]],
      ["#z", ["a"]],
    ]);
  });

  test("an owner whose channel is the broadcast channel gets no second message, however it is spelt", () => {
    const owners = ownersOf("a @acme/ci\nb #ci\nc #CI", { "@acme/ci": "ci" });
    assert.deepEqual(routesOf(["a", "b", "c"], owners), [[null, ["a", "b", "c"]]]);
  });

  test("owners who spell one channel differently share its message", () => {
    const owners = ownersOf("a #web\nb @acme/web #Web", { "@acme/web": "web" });
    assert.deepEqual(routesOf(["a", "b"], owners), [
      [null, ["a", "b"]],
      ["#web", ["a", "b"]],
    ]);
  });

  test("an owner without a channel is warned of once, and the broadcast channel has its jobs", () => {
    const news = ["a", "b", "c"].map((name) => newsOf(name));
    const { routes, warnings } = routeNews(news, ownersOf("* @acme/lost\nc #c @acme/gone"), "#ci");
    assert.deepEqual(routes[0]?.news, news);
    assert.deepEqual(warnings, [
      "@acme/lost has no channel: add it to OWNER_CHANNELS_FILE",
      "@acme/gone has no channel: add it to OWNER_CHANNELS_FILE",
    ]);
  });

  test("without news there is nothing to route", () => {
    assert.deepEqual(routeNews([], ownersOf("* @acme/lost"), "#ci"), { routes: [], warnings: [] });
  });

  test("where there are no channels there is one message and no warning", () => {
    const owners = ownersOf("a #a @acme/lost");
    assert.deepEqual(routesOf(["a", "b"], owners, null), [[null, ["a", "b"]]]);
    assert.deepEqual(routeNews([newsOf("a")], owners, null).warnings, []);
  });
});

describe("mentionsIn()", () => {
  const channels = new Map([
    ["@acme/a", { channel: "#a", mentions: ["<!subteam^S1>", "<@U1>"] }],
    ["@acme/b", { channel: "#A", mentions: ["<!here>", "<@U1>"] }],
    ["@acme/c", { channel: "#c", mentions: ["<!channel>"] }],
    ["@acme/ci", { channel: "ci", mentions: ["<@U9>"] }],
  ]);
  const rules = parseOwners("a @Acme/A\nb @acme/b\nc @acme/c #a\nd @acme/ci\ne #a @acme/lost", "owners");
  /** Whom a message with these news mentions in a channel; null is the broadcast channel. */
  const mentionedIn = (channel: string | null, news: News[], broadcast: string | null = "#ci") =>
    mentionsIn(toldOf(news, { channel }), { rules, channels }, broadcast);

  test("names the people of an owner where something broke or fails often", () => {
    for (const kind of ["consecutive", "cumulative"] as const) {
      assert.deepEqual(mentionedIn("#a", [newsOf("a", { kind })]), ["<!subteam^S1>", "<@U1>"]);
    }
  });

  test("names nobody where something has only recovered or is gone", () => {
    for (const kind of ["recovered", "gone"] as const) {
      assert.deepEqual(mentionedIn("#a", [newsOf("a", { kind })]), []);
      assert.deepEqual(mentionedIn("#a", [newsOf("a", { kind }), newsOf("e")]), []);
      assert.deepEqual(mentionedIn("#a", [newsOf("a"), newsOf("b", { kind })]), ["<!subteam^S1>", "<@U1>"]);
    }
  });

  test("names everybody once whose channel it is, however it is spelt", () => {
    const news = [newsOf("a"), newsOf("b")];
    for (const channel of ["#a", "A"]) {
      assert.deepEqual(mentionedIn(channel, news), ["<!subteam^S1>", "<@U1>", "<!here>"]);
    }
  });

  test("names nobody of another channel, nor in the broadcast channel unless it is an owner's", () => {
    assert.deepEqual(mentionedIn("#a", [newsOf("c")]), []);
    assert.deepEqual(mentionedIn(null, [newsOf("a"), newsOf("b"), newsOf("c")]), []);
    assert.deepEqual(mentionedIn(null, [newsOf("a"), newsOf("d")]), ["<@U9>"]);
  });

  test("names nobody where there are no channels, or no owner is known", () => {
    assert.deepEqual(mentionedIn(null, [newsOf("a"), newsOf("d")], null), []);
    assert.deepEqual(mentionedIn("#a", [newsOf("e"), newsOf("nobody's")]), []);
  });
});

describe("readOwners()", () => {
  test("finds an owner's channel whatever its case, and whom to mention there", async () => {
    const files = {
      owners: "\ufeffa @Acme/Web\nb @acme/SHOP\n",
      channels: { "@acme/WEB": "#web", "@ACME/Shop": " #shop  <!subteam^S0123ABCD> <@U1> <!here> <!channel> " },
    };
    const { warnings, channels, sent } = await runWith(files, ["a", "b"]);
    assert.deepEqual({ warnings, channels }, { warnings: [], channels: [null, "#web", "#shop"] });
    assert.match(sent[1]?.text ?? "", /^🔴 a broken/);
    assert.match(sent[2]?.text ?? "", /^<!subteam\^S0123ABCD> <@U1> <!here> <!channel> 🔴 b broken/);
  });

  test("needs no channels for owners that are channels", async () => {
    const { warnings, channels } = await runWith({ owners: "a #a" }, ["a"], { OWNER_CHANNELS_FILE: undefined });
    assert.deepEqual({ warnings, channels }, { warnings: [], channels: [null, "#a"] });
  });

  test("passes the warnings of the routing on", async () => {
    const { warnings } = await runWith({ owners: "a @acme/lost" }, ["a"]);
    assert.deepEqual(warnings, ["@acme/lost has no channel: add it to OWNER_CHANNELS_FILE"]);
  });

  test("says what is wrong in the files", async () => {
    await assert.rejects(runWith({ owners: "a #a\nb\n" }, ["a"]), /owners:2: b has no owner; /);
    const fault = (channels: unknown) => runWith({ channels }, ["a"]);
    await assert.rejects(fault({ "@a": 5 }), /channels\.json is not valid at @a: .*; mend OWNER_CHANNELS_FILE/);
    for (const wrong of ["#a b", "#a <!everyone>", "#a <https://evil>", "<!here>", "", "#a <@U1", "#a <@>"]) {
      await assert.rejects(fault({ "@a": wrong }), /channels\.json is not valid at @a: Expected a channel/, wrong);
    }
    await assert.rejects(fault([]), /channels\.json is not valid at its top: Expected an object/);
    await assert.rejects(fault('{"@a": "#a"'), /channels\.json is not JSON: /);
    for (const variable of ["JOB_OWNERS_FILE", "OWNER_CHANNELS_FILE"] as const) {
      const missing = readOwners({ [variable]: "/nowhere/file" });
      await assert.rejects(missing, /^Error: Cannot read \/nowhere\/file: /);
    }
  });
});
