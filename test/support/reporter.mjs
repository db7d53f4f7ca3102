/** What `npm test` prints: each test that failed, in full, and at the end what was proved, in some ten lines. */
import { basename } from "node:path";
import { inspect } from "node:util";

/**
 * What the tests of some files prove together.
 * @type {[sentence: string, files: RegExp][]}
 */
const PROVED = [
  [
    "What it decides: places, rules for alerts, days, the sequences of the original",
    /^(statistics|fixtures|simulation)$/,
  ],
  ["In any order, through any accident: races, kills, refusals, clocks", /^(interleavings|orders|races)$/],
  ["Each channel is told what differs, once: claimed, sent, noted", /^(telling|rules)$/],
  ["What messages and reports say is true, fits, and is data", /^(messages|report)$/],
  ["What is wrong is refused, in words for people", /^(settings|bad-input)$/],
  ["The command line: what it prints, runs and ends with", /^(command.*|termination)$/],
  ["GitLab, GitHub, S3, proxies and certificates", /^(jobs|store|network)$/],
  ["What touches the world is held to its map", /^(audit|sandbox|bundle)$/],
  ["README and the recipes, played as people copy them", /^(readme|recipes.*)$/],
  ["The page and the watch, in a browser", /^page$/],
  ["And the rest", /^/],
];

/**
 * Node loads this before it knows TypeScript.
 * @param {AsyncIterable<{type: string, data: any}>} source
 */
export default async function* report(source) {
  const counts = PROVED.map(() => ({ passed: 0, failed: 0, skipped: 0 }));
  const begun = Date.now();
  for await (const { type, data } of source) {
    if (data.details?.type === "suite" || !["test:pass", "test:fail"].includes(type)) continue;
    const file = basename(data.file ?? "").replace(/\.test\.ts$/, "");
    const count = counts[PROVED.findIndex(([, files]) => files.test(file))];
    if (!count) continue;
    if (data.skip !== undefined) count.skipped++;
    else if (type === "test:pass") count.passed++;
    else {
      count.failed++;
      const error = data.details?.error;
      yield `\n✗ ${file}: ${data.name}\n${inspect(error?.cause ?? error)}\n`;
    }
  }
  yield "\n";
  for (const [i, [sentence]] of PROVED.entries()) {
    const { passed, failed, skipped } = counts[i] ?? { passed: 0, failed: 0, skipped: 0 };
    const others = [failed > 0 ? `${failed} failed` : [], skipped > 0 ? `${skipped} skipped` : []].flat().join(", ");
    const line = `${failed > 0 ? "✗" : "✓"} ${`${passed}`.padStart(5)}  ${sentence}`;
    if (passed + failed + skipped > 0) yield `${line}${others && ` (${others})`}\n`;
  }
  const sum = (/** @type {"passed" | "failed" | "skipped"} */ key) =>
    counts.reduce((all, count) => all + count[key], 0);
  yield `\n${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped\n`;
  yield `in ${Math.round((Date.now() - begun) / 1_000)} s\n`;
}
