import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Alert, checkConsistentFailures, countAlerts, parseOwners, routeAlerts } from "../check-failures.ts";
import { alertOf, environment, failed, makeEdges, NOW } from "./support/builders.ts";
import { makeFolder } from "./support/run.ts";

type Variables = Parameters<typeof environment>[0];

const ownersOf = (text: string, channels: Record<string, string> = {}) => ({
  rules: parseOwners(text, "owners"),
  channels: new Map(Object.entries(channels)),
});

/** The channels that get the alert of a job besides the broadcast channel, by the lines of an owners file. */
const channelsOf = (name: string, ...lines: string[]) =>
  [...routeAlerts([alertOf(name)], ownersOf(lines.join("\n")), environment()).routes.keys()].slice(1);

const namesIn = (alerts: Alert[] | undefined) => alerts?.map((alert) => alert.name);

/** A run in whose pipeline these jobs failed, and that tells of a job when it first fails. */
async function runWith(files: { owners?: string; channels?: unknown }, names: string[], variables: Variables = {}) {
  const jobs = names.map((name) => failed(name));
  const folder = makeFolder({ "jobs.json": jobs, owners: files.owners ?? "", "channels.json": files.channels ?? {} });
  const env = environment({
    CONSECUTIVE_THRESHOLD: "1",
    PIPELINE_JOBS_FILE: `${folder.path}/jobs.json`,
    JOB_OWNERS_FILE: `${folder.path}/owners`,
    OWNER_CHANNELS_FILE: `${folder.path}/channels.json`,
    ...variables,
  });
  const { edges, sent } = makeEdges();
  try {
    const { warnings } = await checkConsistentFailures(env, edges);
    return { warnings, channels: sent.map(({ channel }) => channel) };
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

  test("rejects a line that it can't take, with its number", () => {
    const reject = (line: string, message: RegExp) =>
      assert.throws(() => parseOwners(`# owners\n\n${line}\nb #b`, "ci/owners"), { message });
    reject("lint", /^ci\/owners:3: Expected an owner after the pattern lint, e\.g\. /);
    reject("lint\\ #a", /^ci\/owners:3: Expected an owner after the pattern lint\\ #a, /);
    reject("lint #a \\", /^ci\/owners:3: Expected a character after the last backslash$/);
    reject("lint #a # the team", /^ci\/owners:3: Expected a channel's name after #; /);
  });
});

describe("routeAlerts()", () => {
  test("every alert goes to SLACK_CHANNEL, those of a job with an owner to its channel as well", () => {
    const owners = ["a", "b", "c", "d", "e", "f"];
    const text = owners.map((owner) => `${owner}-* @acme/${owner}`).join("\n");
    const channels = Object.fromEntries(owners.map((owner) => [`@acme/${owner}`, `#${owner}`]));
    const names = Array.from({ length: 150 }, (_, i) => `${"abcdefg"[i % 7]}-${i}`);
    const { routes, warnings } = routeAlerts(
      names.map((name) => alertOf(name)),
      ownersOf(text, channels),
      environment({ SLACK_CHANNEL: "#everything" }),
    );
    assert.deepEqual([...routes.keys()], ["#everything", "#a", "#b", "#c", "#d", "#e", "#f"]);
    assert.deepEqual(namesIn(routes.get("#everything")), names);
    for (const owner of owners) {
      assert.deepEqual(
        namesIn(routes.get(`#${owner}`)),
        names.filter((name) => name.startsWith(owner)),
      );
    }
    assert.deepEqual(warnings, []);
  });

  test("several owners of a job each get its alert, but a channel gets it once", () => {
    const owners = ownersOf("a @acme/x #y @acme/z", { "@acme/x": "#y", "@acme/z": "#z" });
    const { routes } = routeAlerts([alertOf("a")], owners, environment());
    assert.deepEqual(
      [...routes].map(([channel, alerts]) => [channel, namesIn(alerts)]),
      [
        ["#ci", ["a"]],
        ["#y", ["a"]],
        ["#z", ["a"]],
      ],
    );
  });

  test("an owner whose channel is the broadcast channel gets no second message", () => {
    const owners = ownersOf("a @acme/ci\nb #ci", { "@acme/ci": "#ci" });
    const { routes } = routeAlerts([alertOf("a"), alertOf("b")], owners, environment({ SLACK_CHANNEL: "#ci" }));
    assert.deepEqual(
      [...routes].map(([channel, alerts]) => [channel, namesIn(alerts)]),
      [["#ci", ["a", "b"]]],
    );
  });

  test("owners who spell one channel differently share its message", () => {
    const owners = ownersOf("a #web\nb @acme/web #Web", { "@acme/web": "web" });
    const { routes } = routeAlerts([alertOf("a"), alertOf("b")], owners, environment());
    assert.deepEqual(
      [...routes].map(([channel, alerts]) => [channel, namesIn(alerts)]),
      [
        ["#ci", ["a", "b"]],
        ["#web", ["a", "b"]],
      ],
    );
  });

  test("an owner without a channel is warned of once, and the broadcast channel has its jobs", () => {
    const owners = ownersOf("* @acme/lost\nc #c @acme/gone");
    const alerts = ["a", "b", "c"].map((name) => alertOf(name));
    const { routes, warnings } = routeAlerts(alerts, owners, environment());
    assert.deepEqual(namesIn(routes.get("#ci")), ["a", "b", "c"]);
    assert.deepEqual(warnings, [
      "@acme/lost has no channel in OWNER_CHANNELS_FILE",
      "@acme/gone has no channel in OWNER_CHANNELS_FILE",
    ]);
  });

  test("without alerts there is nothing to route", () => {
    const { routes, warnings } = routeAlerts([], ownersOf("* @acme/lost"), environment());
    assert.deepEqual([routes.size, warnings], [0, []]);
  });

  test("with a webhook, or on stdout, there is one message and no routing", () => {
    const noSlack = { SLACK_API_TOKEN: undefined, SLACK_CHANNEL: undefined };
    for (const variables of [noSlack, { ...noSlack, SLACK_WEBHOOK_URL: "https://hooks.slack.example/x" }]) {
      const { routes, warnings } = routeAlerts([alertOf("a")], ownersOf("a #a @acme/lost"), environment(variables));
      assert.deepEqual([[...routes.keys()], warnings], [[null], []]);
    }
  });
});

describe("checkConsistentFailures() reads JOB_OWNERS_FILE and OWNER_CHANNELS_FILE", () => {
  test("and finds an owner's channel whatever its case", async () => {
    const files = {
      owners: "\ufeffa @Acme/Web\nb @acme/SHOP\n",
      channels: { "@acme/WEB": "#web", "@ACME/Shop": "#shop" },
    };
    assert.deepEqual(await runWith(files, ["a", "b"]), { warnings: [], channels: ["#ci", "#web", "#shop"] });
  });

  test("and passes the warnings of the routing on", async () => {
    const { warnings } = await runWith({ owners: "a @acme/lost" }, ["a"]);
    assert.deepEqual(warnings, ["@acme/lost has no channel in OWNER_CHANNELS_FILE"]);
  });

  test("and needs no channels for owners that are channels", async () => {
    const { warnings, channels } = await runWith({ owners: "a #a" }, ["a"], { OWNER_CHANNELS_FILE: undefined });
    assert.deepEqual({ warnings, channels }, { warnings: [], channels: ["#ci", "#a"] });
  });

  test("and says what is wrong in them", async () => {
    await assert.rejects(runWith({ owners: "a #a\nb\n" }, ["a"]), /owners:2: Expected an owner after the pattern b, /);
    const fault = (channels: unknown) => runWith({ channels }, ["a"]);
    await assert.rejects(fault({ "@a": 5 }), /channels\.json is not valid at @a: /);
    await assert.rejects(
      fault({ "@a": "#a b" }),
      /channels\.json is not valid at @a: Expected a channel, e\.g\. #team/,
    );
    await assert.rejects(fault([]), /channels\.json is not valid at its top: Expected an object/);
    await assert.rejects(fault('{"@a": "#a"'), /channels\.json is not JSON: /);
    const missing = (name: string) => runWith({}, ["a"], { [name]: "/nowhere/file" });
    await assert.rejects(missing("JOB_OWNERS_FILE"), /^Error: Cannot read \/nowhere\/file: /);
    await assert.rejects(missing("OWNER_CHANNELS_FILE"), /^Error: Cannot read \/nowhere\/file: /);
  });
});

describe("countAlerts()", () => {
  const series = (kind: string, value: number, ...tags: string[]) => ({
    metric: `datadog.ci.failed_job_alerts.${kind}`,
    type: 1,
    points: [{ timestamp: 1_795_428_000, value }],
    tags: ["repository:acme/shop", ...tags],
  });
  const count = (alerts: Alert[], text: string) => countAlerts(alerts, ownersOf(text), environment(), NOW);

  test("counts the jobs of each kind by owner, also of owners without a channel", () => {
    const cumulative = { kind: "cumulative" } as const;
    const alerts = [alertOf("a-1"), alertOf("a-2"), alertOf("b"), alertOf("a-3", cumulative), alertOf("c", cumulative)];
    const text = "a-* @acme/a\nb @acme/b @acme/x";
    assert.deepEqual(count(alerts, text), [
      series("consecutive", 2, "team:@acme/a"),
      series("consecutive", 1, "team:@acme/b"),
      series("consecutive", 1, "team:@acme/x"),
      series("cumulative", 1, "team:@acme/a"),
      series("cumulative", 1),
    ]);
  });

  test("counts a job once for an owner that is named twice", () => {
    assert.deepEqual(count([alertOf("a")], "a @acme/a @acme/a"), [series("consecutive", 1, "team:@acme/a")]);
  });

  test("does not count the recovered", () => {
    assert.deepEqual(count([alertOf("a", { kind: "recovered" })], "a @acme/a"), []);
  });

  test("names the project by its id where its path is unknown", () => {
    const env = environment({ CI_PROJECT_PATH: undefined, CI_PROJECT_ID: "4242" });
    assert.deepEqual(countAlerts([alertOf("a")], ownersOf(""), env, NOW)[0]?.tags, ["repository:project 4242"]);
  });
});
