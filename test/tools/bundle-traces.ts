/**
 * Stands in the bundle in front of the script. Where DEBUG is set, stack traces lead to the lines of check-failures.ts,
 * by the source map at the end of the bundle. Node itself would have to be told of that before it loads the file.
 */
import { readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";

// Deno reads the map by itself.
if (process.env.DEBUG && !process.versions.deno) {
  const bundle = fileURLToPath(import.meta.url);
  const encoded = /[^,]*$/.exec(readFileSync(bundle, "utf8"))?.[0] ?? "";
  const map = new SourceMap(JSON.parse(Buffer.from(encoded, "base64").toString()));
  Error.prepareStackTrace = (error, frames) =>
    [error, ...frames.map((frame) => `    at ${lead(map, frame)}`)].join("\n");
}

function lead(map: SourceMap, frame: NodeJS.CallSite): string {
  const [line, column] = [frame.getLineNumber() ?? 0, frame.getColumnNumber() ?? 0];
  const isHere = [import.meta.url, fileURLToPath(import.meta.url)].includes(frame.getFileName() ?? "");
  const entry = map.findEntry(line - 1, column - 1);
  // The map finds what is nearest, be it in a line of a package.
  if (!isHere || !("originalLine" in entry) || entry.generatedLine !== line - 1) return `${frame}`;
  const place = `${entry.originalSource}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  return `${frame}`.replace(/[^\s(]*check-failures\.mjs:\d+:\d+/, place);
}
