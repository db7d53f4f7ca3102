/** Holds the file to its header: its two halves and their rooms, and who opens a connection, sees a token or a file. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { SCRIPT } from "./support/run.ts";

const COMPUTES = "// === What only computes: ";
const TOUCHES = "// === What touches the world: ";
/** The rooms in their order: those of the story, then those of either half. */
const ROOMS = {
  story: ["Document", "Story"],
  computes: ["Statistics", "Listings", "Text and patterns", "Routing", "Messages", "Report"],
  touches: ["Delivery", "Store", "Jobs", "Senders", "Requests", "Settings", "Command line"],
};
const MAX_LINES = 1_150; // of the half that somebody reads before giving this a token

const source = readFileSync(SCRIPT, "utf8");
const [header = "", imports = ""] = source.slice(0, source.indexOf("\nconst VERSION")).split("\n */\n");
const [story = "", computes = "", touches = ""] = source.split(new RegExp(`^(?=${COMPUTES}|${TOUCHES})`, "m"));
const roomsIn = (text: string) => [...text.matchAll(/^\/\/ --- ([\w ]+): /gm)].map(([, name]) => name);

/** Code without comments and without what stands in strings: names in these are advice to people. */
function codeOf(text: string): string {
  return text
    .replace(/\/\*\*[\s\S]*?\*\//g, "")
    .replace(/(^|\s)\/\/ .*$/gm, "")
    .replace(/"[^"\n]*"/g, '""');
}

/** The names and the whole code of the top-level functions. */
function functionsIn(text: string): { name: string; code: string }[] {
  const begun = text.split(/^(?=(?:export )?(?:async )?function )/m).slice(1);
  return begun.map((text) => {
    const name = /function (\w+)/.exec(text)?.[1] ?? "";
    return { name, code: codeOf(text.slice(0, text.indexOf("\n}\n"))) };
  });
}

/** The top-level functions whose code matches, in the order of the file. */
const functionsWith = (pattern: RegExp) =>
  functionsIn(source).flatMap(({ name, code }) => (pattern.test(code) ? name : []));

/** What is left of code outside of functions. */
const looseCode = codeOf(source).replace(/^(export )?(async )?function [\s\S]*?\n\}\n/gm, "");

/** What the file imports from elsewhere, but for valibot, which only looks at values. */
const imported = [...imports.matchAll(/^import (?:type )?(?:\* as )?(.+?) from/gms)]
  .flatMap(([, names = ""]) => names.match(/\w+(?= as)|(?<= as )\w+|\w+/g) ?? [])
  .filter((name) => !["as", "type", "v"].includes(name));

describe("check-failures.ts", () => {
  test("has two halves, and its rooms in their order", () => {
    assert.equal(source.split(COMPUTES).length, 2);
    assert.equal(source.split(TOUCHES).length, 2);
    assert.ok(computes.startsWith(COMPUTES) && touches.startsWith(TOUCHES));
    assert.deepEqual({ story: roomsIn(story), computes: roomsIn(computes), touches: roomsIn(touches) }, ROOMS);
  });

  test(`touches the world in at most ${MAX_LINES} lines, and its header says where they begin`, () => {
    const lines = touches.trimEnd().split("\n").length;
    assert.ok(lines <= MAX_LINES, `${lines} lines`);
    assert.ok(header.includes('from "What touches the world" on'));
  });

  test("imports nothing but what its audit map speaks of", () => {
    const modules = [...imports.matchAll(/ from "([^"]+)"/g)].map(([, name]) => name);
    assert.deepEqual(modules, [
      ...["node:child_process", "node:crypto", "node:events", "node:fs", "node:fs/promises", "node:http", "node:https"],
      ...["node:path", "node:process", "node:timers/promises", "node:url", "@aws-sdk/client-s3", "valibot"],
    ]);
    assert.doesNotMatch(source.replace(header, ""), /\b(fetch|require|createRequire|eval|WebSocket)\(|\bimport\(/);
    assert.doesNotMatch(source.replace(header, ""), /\bnew (Function|WebSocket|Worker)\b|\bglobalThis\b/);
  });

  for (const [half, text] of [
    ["only computes", computes],
    ["tells the story", story.slice(story.indexOf("\nconst VERSION"))],
  ] as const) {
    test(`names no token, and uses neither the process nor anything from elsewhere, where it ${half}`, () => {
      assert.ok(imported.includes("spawn") && imported.includes("http") && imported.includes("readFile"));
      const code = codeOf(text);
      assert.doesNotMatch(code, /TOKEN|SECRET|WEBHOOK_URL|ALERT_COMMAND|\bprocess\b|\bconsole\b|\bVariables\b/);
      for (const name of imported) assert.doesNotMatch(code, new RegExp(`\\b${name}\\b\\s*[(.]`), name);
    });
  }

  test("knows no time, waits for nothing and leaves nothing to chance, where it only computes", () => {
    assert.doesNotMatch(
      codeOf(computes),
      /\bDate\.now\b|\bnew Date\(\)|\bset(Timeout|Interval|Immediate)\b|\bsleep\b|\bawait\b|\basync\b|Math\.random|\bperformance\b/,
    );
  });

  test("calls nothing that touches the world, where it only computes", () => {
    const code = codeOf(computes);
    const touching = functionsIn(touches).map(({ name }) => name);
    assert.ok(touching.includes("request"));
    assert.deepEqual(
      touching.filter((name) => new RegExp(`\\b${name}\\(`).test(code)),
      [],
    );
  });

  test("opens a connection, starts a program, reads and writes a file only where its audit map says so", () => {
    assert.deepEqual(functionsWith(/\.request\(/), ["exchange"]);
    assert.deepEqual(functionsWith(/\bexchange\(url, what\)/), ["request"]);
    assert.deepEqual(functionsWith(/(?<!function |\.)\brequest\(/), ["listPages", "slackSender", "webhookSender"]);
    assert.deepEqual(functionsWith(/\bhttps?\.(get|createServer|Agent)\b/), ["agentsFor"]);
    assert.deepEqual(functionsWith(/\bS3Client\(|\.send\(new GetObjectCommand|\.send\(command/), ["s3Store"]);
    assert.deepEqual(functionsWith(/\bspawn\(/), ["runCommand"]);
    assert.deepEqual(functionsWith(/(?<!function )\brunCommand\(/), ["commandSender"]);
    assert.deepEqual(functionsWith(/\b(writeFile|rename|mkdir|rm)\(/), ["fileStore"]);
    assert.deepEqual(functionsWith(/\breadFile\(/), ["readTextFile"]);
    assert.deepEqual(functionsWith(/(?<!function )\breadTextFile\(/), ["fileStore", "openJobs", "readOwners"]);
    assert.deepEqual(functionsWith(/\b(existsSync|realpathSync)\(/), ["fileStore", "isMain"]);
    assert.deepEqual(functionsWith(/\.(stdout|stderr)\b|\bstream\.write\(|\{ stdout, stderr \}/), [
      ...["runCommand", "main", "printerFor"],
    ]);
    assert.doesNotMatch(looseCode, /\b(spawn|request|exchange|writeFile|rename|mkdir|rm|readFile|fetch)\(/);
  });

  test("touches the process only by the command line, and by the function that starts a program", () => {
    assert.deepEqual(functionsWith(/\bprocess\b/), ["runCommand", "main", "warnOfProxy", "limitTime", "isMain"]);
    assert.deepEqual(functionsWith(/\bprocess\.env\b/), []);
    assert.doesNotMatch(codeOf(source.slice(0, source.indexOf("\nif (isMain())"))), /\bprocess\.env\b/);
    assert.doesNotMatch(source, /\bconsole\./);
  });

  test("names a token only where it is used, checked or hidden", () => {
    assert.deepEqual(functionsWith(/\b(GITLAB_TOKEN|CI_JOB_TOKEN)\b/), ["listPages", "checkRules"]);
    assert.deepEqual(functionsWith(/\bSLACK_API_TOKEN\b/), ["openSender", "slackSender", "checkRules"]);
    assert.deepEqual(functionsWith(/\bSLACK_WEBHOOK_URL\b/), ["openSender", "checkRules"]);
    assert.deepEqual(functionsWith(/\bAWS_(SECRET|SESSION|ACCESS)/), []);
    assert.deepEqual(functionsWith(/\bSECRETS\b/), ["secretsIn", "withoutSecrets"]);
  });

  test("gives each part of the settings only to those who need it, by their types", () => {
    assert.deepEqual(functionsWith(/\bStoreAccess\b/), ["openStore", "s3Store", "encodingOf", "clientOptions"]);
    assert.deepEqual(functionsWith(/\bJobsAccess\b/), ["openJobs", "gitLabJobs", "listPages"]);
    assert.deepEqual(functionsWith(/\bSenderAccess\b/), ["openSender", "slackSender"]);
    const settingsOn = touches.slice(touches.indexOf("// --- Settings: "));
    const seeing = functionsWith(/\bvariables: Variables\b|\bgiven: Variables\b|: Surroundings\b/);
    const last = functionsIn(settingsOn).map(({ name }) => name);
    assert.ok(seeing.includes("main"));
    assert.deepEqual(
      seeing.filter((name) => !last.includes(name)),
      [],
    );
  });

  test("has the functions that its header names, and names there whoever sends, reads, writes or starts", () => {
    const functions = functionsIn(source).map(({ name }) => name);
    const map = header.slice(header.indexOf("Audit map."));
    const [table = "", ...notes] = map.split(/\n \*\n \* - /);
    const senders = [...table.matchAll(/ {2,}([a-z]\w*[A-Z]\w*) {2,}/g)].map(([, name = ""]) => name);
    const inNotes = [...notes.join("\n").matchAll(/`([a-z][a-zA-Z]+)`/g)].map(([, name = ""]) => name);
    assert.deepEqual(senders, [
      ...["s3Store", "listPages", "slackSender", "webhookSender", "commandSender", "printerFor"],
    ]);
    const named = ["request", "exchange", "agentsFor", "fileStore", "readTextFile", "isMain", "runCommand"];
    assert.deepEqual(
      named.filter((name) => !inNotes.includes(name)),
      [],
    );
    assert.deepEqual(
      [...senders, ...inNotes].filter((name) => !functions.includes(name)),
      [],
    );
  });
});
