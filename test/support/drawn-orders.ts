/** Orders as fast-check draws them, in words (orders.ts). */
import fc from "fast-check";

/** A step that knows no number of a pipeline yet: `by` is how far it is from the latest one. */
type Drawn =
  | { kind: "next" | "late" | "again" | "dry"; by: number; strip: string; other: string; accidents: string }
  | { kind: "both"; ahead: [number, number]; runs: [string, string]; accidents: [string, string]; schedule: string }
  | { kind: "word"; word: string };

/** Numbers the pipelines, and writes all as words. */
function toWords(beginning: string, drawn: Drawn[]): string {
  let latest = /^\w+:(\w*)/.exec(beginning)?.[1]?.length ?? 0;
  const unknown = latest; // up to here, another version counted, and did not say what is of which pipeline
  const words = drawn.flatMap((step) => {
    if (step.kind === "word") {
      latest += Number(/^quiet:(\d+)$/.exec(step.word)?.[1] ?? 0);
      return step.word;
    }
    if (step.kind === "both") {
      const { runs, ahead, accidents, schedule } = step;
      const [first, second] = runs.map((outcomes, i) => `${outcomes}${latest + (ahead[i] ?? 1)}${accidents[i]}`);
      latest += Math.max(...ahead);
      return `(${first}|${second} ${schedule})`;
    }
    const { kind, by, strip, other, accidents } = step;
    if (kind === "next") {
      return [...strip].map((letter) => {
        latest += by;
        return `${letter}${other}${latest}${accidents}`;
      });
    }
    const pipeline = { again: latest, late: latest - by, dry: latest + by }[kind];
    return pipeline < Math.max(unknown, 1) ? [] : `${kind}:${strip}${other}${pipeline}${accidents}`;
  });
  return [beginning, ...words].join(" ");
}

const one = (weight: number, arbitrary: fc.Arbitrary<Drawn>) => ({ weight, arbitrary });
const words = (...all: string[]) => fc.constantFrom(...all).map((word): Drawn => ({ kind: "word", word }));

const none = fc.constant("");
/** How a second job did, where there is one. */
const other = fc.constantFrom("", "", "", "F", "P");
const single = fc.constantFrom("F", "P", "F", "P", "n");
const strips = fc.oneof(
  single,
  fc.constantFrom("FF", "PP", "FFF", "PPP", "FPF", "PF", "FP", "FPFPF", "PPPPP", "FFFFFF"),
);

const pipelines = (accidents: fc.Arbitrary<string>) => [
  one(9, fc.record({ kind: fc.constant("next"), by: fc.constantFrom(1, 1, 2), strip: strips, other, accidents })),
  one(3, fc.record({ kind: fc.constant("late"), by: fc.integer({ min: 1, max: 6 }), strip: single, other, accidents })),
  one(1, fc.record({ kind: fc.constant("dry"), by: fc.constant(1), strip: single, other, accidents })),
  one(2, fc.record({ kind: fc.constant("again"), by: fc.constant(0), strip: single, other, accidents })),
];

const thresholds = [
  "[1/1 of 2]",
  "[1/2 of 3]",
  "[2/2 of 4]",
  "[3/2 of 5]",
  "[3/3 of 3]",
  "[2/4 of 8]",
  "[3/5 of 10]",
  "[4/2 of 3]",
  "[2/1 of 6]",
];
const channels = [
  "[#own]",
  "[#two]",
  "[#own to:#own]",
  "[to:command]",
  "[#own #two]",
  "[#own 1/1 of 2]",
  "[#own 3/2 of 5]",
  "[#own #two 2/2 of 4]",
  "[@here]",
  "[#own @here]",
];
const rules = words(...thresholds, ...channels, "[]", "[]", "[]", "[ignore]", "[#own ignore]");
const clocks = words("+1m", "+1h", "+1d", "+2d", "-2h", "-18h", "-1d", "+5d");
const outages = words("away", "away", "away:#ci", "away:#own", "back", "back");
const pauses = words("quiet:1", "quiet:3", "quiet:31", "quiet:32");

/** What goes wrong in a run. */
const accident = fc.oneof(
  fc.constantFrom("#ci refuses", "#own refuses", "#two refuses", "#ci loses", "#own loses", "#ci hangs", "#own hangs"),
  fc.constantFrom("read dies", "count dies", "#ci dies", "#own dies", "reread dies", "note dies"),
  fc.constantFrom("note fails", "note loses", "note echoes", "note conflicts", "reread fails"),
  fc.constantFrom("read fails", "count fails", "count loses", "count echoes", "count conflicts"),
);
const accidents = fc.oneof(
  { weight: 5, arbitrary: none },
  { weight: 3, arbitrary: accident.map((one) => `{${one}}`) },
  { weight: 1, arbitrary: fc.tuple(accident, accident).map(([one, two]) => `{${one}; ${two}}`) },
  { weight: 1, arbitrary: fc.constantFrom("{#ci refuses; #own refuses}", "{#ci hangs; #own refuses; #two refuses}") },
);

/** Whose turn it is, step by step; sometimes also by how much the second one's clock is off. */
const schedule = fc
  .tuple(
    fc.array(fc.constantFrom("a", "b"), { maxLength: 14, size: "max" }),
    fc.constantFrom("", "", "", "", "+2m", "-2m", "+1h", "-1h"),
  )
  .map(([letters, skew]) => letters.join("") + skew);

const pair = (accidents: fc.Arbitrary<string>) =>
  fc.record({
    kind: fc.constant("both"),
    // Of the same pipeline, or of the next ones, in either order.
    ahead: fc.constantFrom<[number, number][]>([1, 1], [1, 2], [1, 2], [2, 1]),
    runs: fc.tuple(fc.constantFrom("F", "P", "FF", "FP", "PP", "n"), fc.constantFrom("F", "P", "FF", "PF", "PP", "n")),
    accidents: fc.tuple(accidents, accidents),
    schedule,
  });

const strip = fc.array(fc.constantFrom("F", "P"), { maxLength: 5, size: "max" }).map((all) => all.join(""));
const beginnings = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("none", "empty") },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom("original", "v1", "v2", "v3"), strip).map(([name, all]) => `${name}:P${all}`),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom("v2", "v3"), strip, fc.constantFrom("consecutive", "cumulative"))
      .map(([name, all, kind]) => `${name}:F${all}:${kind}`),
  },
);

const sequence = (steps: ReturnType<typeof one>[], maxLength: number) =>
  fc
    .tuple(
      beginnings,
      fc.constantFrom("", ...thresholds, ...channels),
      fc.array(fc.oneof(...steps), { minLength: 1, maxLength, size: "max" }),
    )
    .map(([beginning, rules, drawn]) => toWords(rules ? `${beginning} ${rules}` : beginning, drawn));

/** Pipelines in any order, under rules that change, on days that pass: nothing goes wrong. */
export const anyOrders = sequence([...pipelines(none), one(2, rules), one(1, clocks), one(1, pauses)], 16);

/** With accidents, and runs that meet. */
export const anyAccidents = sequence(
  [...pipelines(accidents), one(3, outages), one(2, rules), one(2, clocks), one(1, pauses), one(3, pair(accidents))],
  12,
);

/** How pipelines come in their order, and how they came: "… / …". No rule applies until all are counted. */
export const anyShuffle = fc
  .array(fc.record({ letter: fc.constantFrom("F", "P"), delay: fc.constantFrom(0, 0, 0, 1, 2, 4) }), {
    minLength: 2,
    maxLength: 9,
    size: "max",
  })
  .map((all) => {
    const pipelines = all.map(({ letter, delay }, i) => ({ word: `${letter}${i + 1}`, at: i + delay }));
    const written = (words: { word: string }[]) =>
      `none [9/9 of 10] ${words.map(({ word }) => word).join(" ")} n${all.length + 1} [2/3 of 10] n${all.length + 2}`;
    return `${written(pipelines)} / ${written(pipelines.toSorted((a, b) => a.at - b.at))}`;
  });

/** Two runs that meet, after a story without accidents: "story | one | other | schedule". */
export const anyPair = fc.tuple(sequence([...pipelines(none), one(1, rules)], 5), pair(none)).map(([before, pair]) => {
  const words = toWords("", [pair]).trim();
  return words.replace(/^\((\S+)\|(\S+) ([ab]*)\S*\)$/, `${before} | $1 | $2 | $3`);
});
