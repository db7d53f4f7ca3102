/** Holds the file to its header: its two halves and their rooms, its size, and who opens a connection, sees a token or a file. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { SCRIPT } from "./support/run.ts";

const COMPUTES = "// === What only computes: ";
const TOUCHES = "// === What touches the world: ";
/** The rooms in their order: those of the story, then those of either half. */
const ROOMS = {
  story: ["Document", "Story"],
  computes: ["Statistics", "Listings", "Rules", "News", "Messages", "Report", "Settings", "Usage", "Text"],
  touches: ["Telling", "Store", "Jobs", "Senders", "Requests", "Command line"],
};
const MAX_LINES = 2_135;
const MAX_TOUCHING = 600; // lines that somebody reads before giving this a token
const [MAX_WIDE, COLUMNS] = [200, 100]; // lines that are wider than so many columns
const MAX_FUNCTION = 40; // lines: a screen

const source = readFileSync(SCRIPT, "utf8");
const [header = "", imports = ""] = source.slice(0, source.indexOf("\nconst VERSION")).split("\n */\n");
const [story = "", computes = "", touches = ""] = source.split(new RegExp(`^(?=${COMPUTES}|${TOUCHES})`, "m"));
const roomsIn = (text: string) => [...text.matchAll(/^\/\/ --- ([\w ]+): /gm)].map(([, name]) => name);
/** A room of a half. */
const roomOf = (name: string) =>
  source.split(/^(?=\/\/ (?:---|===) )/m).find((room) => room.startsWith(`// --- ${name}: `)) ?? "";
const countLines = (text: string) => text.trimEnd().split("\n").length;

/** Code without comments and without what stands in strings: names in these are advice to people. */
function codeOf(text: string): string {
  return text
    .replace(/\/\*\*[\s\S]*?\*\//g, "")
    .replace(/(^|\s)\/\/ .*$/gm, "")
    .replace(/"[^"\n]*"/g, '""');
}

/** The names, the whole text and the whole code of the top-level functions. */
function functionsIn(text: string): { name: string; text: string; code: string }[] {
  const begun = text.split(/^(?=(?:export )?(?:async )?function )/m).slice(1);
  return begun.map((rest) => {
    const text = rest.slice(0, rest.indexOf("\n}\n") + 2);
    return { name: /function (\w+)/.exec(text)?.[1] ?? "", text, code: codeOf(text) };
  });
}

/** The top-level functions whose code matches, in the order of the file. */
const functionsWith = (pattern: RegExp) =>
  functionsIn(source).flatMap(({ name, code }) => (pattern.test(code) ? name : []));
/** The top-level functions that call one. */
const callersOf = (name: string) => functionsWith(new RegExp(`(?<!function |\\.)\\b${name}\\(`));

/** What is left of code outside of functions. */
const looseCode = codeOf(source).replace(/^(export )?(async )?function [\s\S]*?\n\}\n/gm, "");

/** What the file imports from elsewhere, but for valibot, which only looks at values. */
const imported = [...imports.matchAll(/^import (?:type )?(?:\* as )?(.+?) from/gms)]
  .flatMap(([, names = ""]) => names.match(/\w+(?= as)|(?<= as )\w+|\w+/g) ?? [])
  .filter((name) => !["as", "type", "v"].includes(name));
/** Of what is imported, what a text uses. */
const importedIn = (text: string) => imported.filter((name) => new RegExp(`\\b${name}\\b\\s*[(.]`).test(codeOf(text)));

describe("check-failures.ts", () => {
  test("has two halves, and its rooms in their order", () => {
    assert.equal(source.split(COMPUTES).length, 2);
    assert.equal(source.split(TOUCHES).length, 2);
    assert.ok(computes.startsWith(COMPUTES) && touches.startsWith(TOUCHES));
    assert.deepEqual({ story: roomsIn(story), computes: roomsIn(computes), touches: roomsIn(touches) }, ROOMS);
  });

  test(`has at most ${MAX_LINES} lines`, () => {
    assert.ok(countLines(source) <= MAX_LINES, `${countLines(source)} lines`);
  });

  test(`touches the world in at most ${MAX_TOUCHING} lines, and its header says where they begin`, () => {
    assert.ok(countLines(touches) <= MAX_TOUCHING, `${countLines(touches)} lines`);
    assert.match(header, /What\W+touches\W+the\W+world/);
  });

  test(`has at most ${MAX_WIDE} lines of more than ${COLUMNS} columns`, () => {
    const wide = source.split("\n").filter((line) => [...line].length > COLUMNS);
    assert.ok(wide.length <= MAX_WIDE, `${wide.length} lines`);
  });

  test(`has no function of more than ${MAX_FUNCTION} lines`, () => {
    const long = functionsIn(source).filter(({ text }) => countLines(text) > MAX_FUNCTION);
    assert.deepEqual(
      long.map(({ name, text }) => `${name}: ${countLines(text)} lines`),
      [],
    );
  });

  test("tells its story in less than 30 lines", () => {
    const [told] = functionsIn(story).filter(({ name }) => name === "checkConsistentFailures");
    assert.ok(told && countLines(told.text) < 30);
  });

  test("imports nothing but what its audit map speaks of", () => {
    const modules = [...imports.matchAll(/ from "([^"]+)"/g)].map(([, name]) => name);
    assert.deepEqual(modules, [
      ...["node:child_process", "node:crypto", "node:events", "node:fs", "node:fs/promises", "node:http", "node:https"],
      ...["node:path", "node:process", "node:timers/promises", "node:url", "@aws-sdk/client-s3", "valibot"],
    ]);
    const code = source.replace(header, "");
    assert.doesNotMatch(code, /\b(fetch|require|createRequire|eval|WebSocket)\(|\bimport\(/);
    assert.doesNotMatch(code, /\bnew (Function|WebSocket|Worker)\b|\bglobalThis\b/);
  });

  test("uses nothing from elsewhere but valibot where it only computes, and tells its story with an id alone", () => {
    assert.ok(["spawn", "http", "readFile", "S3Client", "sleep"].every((name) => imported.includes(name)));
    assert.deepEqual(importedIn(computes), []);
    assert.deepEqual(importedIn(story.slice(story.indexOf("\nconst VERSION"))), ["randomUUID"]);
  });

  test("names no token and nothing of the process where it only computes, but for what a variable looks like", () => {
    const words = /\b([A-Z_]+_TOKEN|AWS_SECRET_ACCESS_KEY|SECRETS|ALERT_COMMAND|process|console)\b|: Variables\b/;
    const withoutSettings = computes.replace(roomOf("Settings"), "");
    assert.ok(withoutSettings.length < computes.length);
    assert.doesNotMatch(codeOf(withoutSettings), words);
    assert.doesNotMatch(codeOf(story.slice(story.indexOf("\nconst VERSION"))), words);
    assert.doesNotMatch(codeOf(roomOf("Settings")), /\bprocess\b|\bconsole\b/);
  });

  test("knows no time, waits for nothing and leaves nothing to chance where it only computes", () => {
    assert.doesNotMatch(
      codeOf(computes),
      /\bDate\.now\b|\bnew Date\(\)|\bset(Timeout|Interval|Immediate)\b|\bsleep\b|\bawait\b|\basync\b|Math\.random|\bperformance\b/,
    );
  });

  test("calls nothing that touches the world where it only computes", () => {
    const code = codeOf(computes);
    const touching = functionsIn(touches).map(({ name }) => name);
    assert.ok(touching.includes("request"));
    assert.deepEqual(
      touching.filter((name) => new RegExp(`(?<!\\.)\\b${name}\\(`).test(code) && !code.includes(`const ${name} = `)),
      [],
    );
  });

  test("opens a connection, starts a program, reads and writes a file only where its audit map says so", () => {
    assert.deepEqual(functionsWith(/\.request\(/), ["exchange"]);
    assert.deepEqual(callersOf("exchange"), ["request"]);
    assert.deepEqual(callersOf("request"), ["listPages", "slackSender"]);
    assert.deepEqual(functionsWith(/\bhttps?\.(get|createServer|Agent)\b/), []);
    assert.deepEqual(functionsWith(/\bS3Client\(/), ["openS3"]);
    assert.deepEqual(callersOf("openS3"), ["s3Store"]);
    assert.deepEqual(functionsWith(/\bclient\.|\b(Get|Put)ObjectCommand\(/), ["s3Store"]);
    assert.deepEqual(callersOf("spawn"), ["runCommand"]);
    assert.deepEqual(callersOf("runCommand"), ["commandSender"]);
    assert.deepEqual(functionsWith(/\b(writeFile|rename|mkdir|rm)\(/), ["fileStore"]);
    assert.deepEqual(callersOf("readFile"), ["readTextFile"]);
    assert.deepEqual(callersOf("readTextFile"), ["fileStore", "openJobs"]);
    assert.deepEqual(functionsWith(/\b(existsSync|realpathSync)\(/), ["fileStore", "isMain"]);
    assert.deepEqual(functionsWith(/\.(stdout|stderr)\b|\bstream\.write\(|\{ stdout, stderr \}/), [
      ...["runCommand", "main", "printerFor"],
    ]);
    assert.doesNotMatch(looseCode, /\b(spawn|request|exchange|S3Client|writeFile|rename|mkdir|rm|readFile|fetch)\(/);
  });

  test("touches the process only by the command line, by the function that starts a program, and to know Deno", () => {
    assert.deepEqual(functionsWith(/\bprocess\b/), ["openS3", "runCommand", "main", "isMain"]);
    assert.doesNotMatch(codeOf(source.slice(0, source.indexOf("\nif (isMain())"))), /\bprocess\.env\b/);
    assert.doesNotMatch(source, /\bconsole\./);
  });

  test("names a token only where it is used, checked or hidden", () => {
    const isOfJobs = (name: string) => ["checkRules", "gitLabJobs", "listPages"].includes(name);
    assert.deepEqual(
      functionsWith(/\b(GITLAB_TOKEN|CI_JOB_TOKEN)\b/).filter((name) => !isOfJobs(name)),
      [],
    );
    assert.deepEqual(functionsWith(/\bSLACK_API_TOKEN\b/), ["checkRules", "openSender", "slackSender"]);
    assert.deepEqual(functionsWith(/\bAWS_(SECRET|SESSION|ACCESS)/), []);
    assert.deepEqual(functionsWith(/\bSECRETS\b/), ["secretsIn", "withoutSecrets"]);
    assert.deepEqual(callersOf("secretsIn"), ["maskSecrets", "withoutSecrets"]);
  });

  test("gives each part of the settings only to those who need it, by their types", () => {
    const [store, jobs, senders] = ["Store", "Jobs", "Senders"].map((room) =>
      functionsIn(roomOf(room)).map(({ name }) => name),
    );
    assert.deepEqual(
      functionsWith(/\bStoreAccess\b/).filter((name) => !store?.includes(name)),
      [],
    );
    assert.deepEqual(
      functionsWith(/\bJobsAccess\b/).filter((name) => !jobs?.includes(name)),
      [],
    );
    assert.deepEqual(
      functionsWith(/\bSenderAccess\b/).filter((name) => !senders?.includes(name)),
      [],
    );
    const atTheEdges = ["Settings", "Command line"].flatMap((room) => functionsIn(roomOf(room)));
    const elsewhere = functionsWith(/: Variables\b/).filter((name) => !atTheEdges.some((edge) => edge.name === name));
    assert.deepEqual(elsewhere, ["runCommand"]); // which is given one without secrets
  });

  test("has the functions that its header names, and names there whoever sends, reads, writes or starts", () => {
    const functions = functionsIn(source).map(({ name }) => name);
    const map = header.slice(header.indexOf("Audit map."));
    const [table = "", ...notes] = map.split(/\n \*\n \* - /);
    const sending = [...table.matchAll(/ {2,}([a-z]\w*[A-Z]\w*) {2,}/g)].map(([, name = ""]) => name);
    const inNotes = [...notes.join("\n").matchAll(/`([a-z][a-zA-Z0-9]+)`/g)].map(([, name = ""]) => name);
    assert.deepEqual(sending, ["s3Store", "s3Store", "listPages", "slackSender", "commandSender", "printerFor"]);
    const touching = ["request", "exchange", "openS3", "fileStore", "readTextFile", "isMain", "runCommand"];
    assert.deepEqual(
      touching.filter((name) => !inNotes.includes(name)),
      [],
    );
    assert.deepEqual(
      [...sending, ...inNotes].filter((name) => !functions.includes(name)),
      [],
    );
  });

  test("names in its header the function that decides, which is there", () => {
    assert.match(header, /`factsOf`/);
    assert.ok(functionsIn(computes).some(({ name }) => name === "factsOf"));
  });
});
