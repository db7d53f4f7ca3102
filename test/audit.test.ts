/** Holds the file to what its header and README say of it: its rooms, and who opens a connection or writes a file. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { SCRIPT } from "./support/run.ts";

const source = readFileSync(SCRIPT, "utf8");
const header = source.slice(0, source.indexOf("*/"));
const rooms = [...source.matchAll(/^\/\/ --- ([\w ]+): /gm)].map(([, name = ""]) => name);

/** The top-level functions whose text matches. */
function functionsWith(pattern: RegExp): string[] {
  const texts = source.split(/^(?=(?:export )?(?:async )?function )/m).slice(1);
  return texts.flatMap((text) => {
    const body = text.slice(0, text.indexOf("\n}\n"));
    const name = /function (\w+)/.exec(text)?.[1] ?? "";
    return pattern.test(body) ? name : [];
  });
}

const roomOf = (text: string) => rooms.findLast((name) => source.indexOf(`// --- ${name}: `) < source.indexOf(text));

describe("check-failures.ts", () => {
  test("has its rooms in the order that its header says", () => {
    const promised = /The rooms, in this order: ([^.]*)\./.exec(header.replaceAll(/\n \* /g, " "))?.[1];
    assert.deepEqual(
      rooms.map((room) => room.toLowerCase()),
      promised?.split(", ").map((room) => room.toLowerCase()),
    );
  });

  test("opens connections, writes and reads files only where the audit map says so", () => {
    assert.deepEqual(functionsWith(/\.request\(/), ["exchange"]);
    assert.deepEqual(functionsWith(/new S3Client\(/), ["s3Store"]);
    assert.deepEqual(functionsWith(/\bexchange\(url/), ["request", "exchange"]);
    assert.deepEqual(functionsWith(/\b(writeFile|rename|mkdir|rm)\(/), ["fileStore"]);
    assert.deepEqual(functionsWith(/\breadFile\(/), ["readTextFile"]);
    assert.doesNotMatch(
      source,
      /\bfetch\(|node:(net|tls|dgram|child_process|http2)|\bimport\(|\beval\(|new Function\(/,
    );
    for (const name of ["s3Store", "gitLabJobs", "slackSender", "printerFor", "fileStore", "readTextFile", "request"])
      assert.match(header, new RegExp(`\\b${name}\\b`));
  });

  test("names a token only where it is used, checked or hidden", () => {
    const holders = (name: string) => functionsWith(new RegExp(`\\b${name}\\b`));
    assert.deepEqual(holders("GITLAB_TOKEN: "), []);
    assert.deepEqual(functionsWith(/\bGITLAB_TOKEN\b(?!\S* (to|can|see))/), ["listPages", "checkRules"]);
    assert.deepEqual(
      functionsWith(/(?<!set )\bSLACK_API_TOKEN[ ,}]/).filter((name) => name !== "checkRules"),
      [...["openSender", "slackSender"]],
    );
    assert.deepEqual(holders("webhookSender"), ["openSender", "webhookSender"]);
  });

  test("touches the process only in its last room", () => {
    const last = source.indexOf("// --- Command line: ");
    assert.equal(last > 0, true);
    assert.doesNotMatch(source.slice(0, last), /\bprocess\./);
    assert.doesNotMatch(source.slice(0, last), /\bconsole\./);
  });

  test("has pure statistics, messages, routing and table: nothing in them waits, and none knows the time", () => {
    for (const room of ["Statistics", "Messages", "Table"]) {
      const start = source.indexOf(`// --- ${room}: `);
      const text = source.slice(start, source.indexOf("\n// --- ", start + 1));
      assert.doesNotMatch(text, /\bawait\b|new Date\(\)|Date\.now|Math\.random|TOKEN/, room);
    }
    assert.equal(roomOf("function routeNews("), "Routing");
  });
});
