/**
 * What may happen to a document, in words that one can read and type:
 *
 *   F P n          the job `unit` failed, passed, did not run, each in the next pipeline
 *   FP7            in pipeline 7, `unit` failed and `e2e` passed; `lint` passes in every pipeline
 *   late:F5        pipeline 5 is counted after a newer one (F-2: two before the latest);  again:P7  the latest once more
 *   dry:F8         a dry run, of which nothing may stay
 *   F8{#own refuses; note dies}   what goes wrong in that run: where, and how
 *   (F8|P9 abab)   two runs at once, one step of the first, one of the second, …; +1h behind that: by the second's clock
 *   +2h -1d        the clock, before the next run; else each run comes ten minutes after the one before
 *   later          the clock goes on to where no run has been
 *   away           the chat refuses all until it is `back`;  away:#own  that channel does
 *   mark           what has happened until then is asked for
 *   quiet:31       in 31 pipelines, one a day, only `lint` runs
 *   [#own 2/3 of 5]   the rules from now on: channels, thresholds and window, `ignore` (of `unit`); with `to:#own` that is
 *                  the broadcast channel from now on, with `to:command` there are none any more
 *   v3:FFF:consecutive   at the very beginning: the document that another version left; or `none`
 */
import fc from "fast-check";
import type { Rules } from "./model.ts";

export type Fate = "done" | "fails" | "loses" | "echoes" | "conflicts" | "refuses" | "hangs" | "dies";

/** The rules from now on. Who is told stays as it was, unless they say so. */
type NewRules = Omit<Rules, "broadcast"> & Partial<Pick<Rules, "broadcast">>;

/** How words call the broadcast channel. */
export const BROADCAST = "#ci";
const CHANNELS = [BROADCAST, "#own", "#two"];

/** What goes wrong in a run, and how: at `read`, `count`, `reread` or `note`, or in a channel. */
export type Accidents = Record<string, Fate>;

export type RunOrder = { pipeline: number; outcomes: string; accidents: Accidents; isDry: boolean };

export type Version = "none" | "empty" | "original" | "v1" | "v2" | "v3";
export type Beginning = { version: Version; strip: string; alert?: "consecutive" | "cumulative" };

export type Order =
  | { kind: "run"; run: RunOrder }
  | { kind: "both"; runs: [RunOrder, RunOrder]; schedule: string; skewMs: number }
  | { kind: "clock"; ms: number }
  | { kind: "later" | "mark" }
  | { kind: "quiet"; days: number }
  | { kind: "away"; channels: string[] }
  | { kind: "rules"; rules: NewRules };

export const PLAIN_RULES = { inARow: 2, often: 3, length: 5, ignored: [], channels: [] };

// ── From words.

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Reads words. A pipeline without a number is the next one. */
export function parseOrders(text: string): { beginning: Beginning; orders: Order[] } {
  const words = text.match(/\[[^\]]*\]|\([^)]*\)|(\{[^}]*\}|[^\s{[(])+/g) ?? [];
  const [, version, strip = "", alert] =
    /^(none|empty|original|v[123])(?::(\w*))?(?::(\w+))?$/.exec(words[0] ?? "") ?? [];
  const beginning = { version: version ?? "none", strip, ...(alert ? { alert } : {}) } as Beginning;
  const latest = { id: strip.length };
  const orders = words.slice(version ? 1 : 0).flatMap((word) => parseWord(word, latest));
  return { beginning, orders };
}

function parseWord(word: string, latest: { id: number }): Order[] {
  if (word.startsWith("[")) return [{ kind: "rules", rules: parseRules(word.slice(1, -1)) }];
  if (word.startsWith("(")) {
    const [, first = "", second = "", schedule = "", skew = ""] = /^\((.*?)\|(.*?) ([ab]*)(\S*)\)$/.exec(word) ?? [];
    const runs: [RunOrder, RunOrder] = [parseRun(first, latest), parseRun(second, latest)];
    return [{ kind: "both", runs, schedule, skewMs: parseTime(skew) ?? 0 }];
  }
  const ms = parseTime(word);
  if (ms !== undefined) return [{ kind: "clock", ms }];
  if (word === "later" || word === "mark") return [{ kind: word }];
  if (word === "back") return [{ kind: "away", channels: [] }];
  if (word.startsWith("away"))
    return [{ kind: "away", channels: word === "away" ? CHANNELS : word.split(":").slice(1) }];
  const [, days] = /^quiet:(\d+)$/.exec(word) ?? [];
  if (days) {
    latest.id += Number(days);
    return [{ kind: "quiet", days: Number(days) }];
  }
  // FFP, without numbers and accidents: one pipeline a letter
  if (/^[FPn]+$/.test(word)) return [...word].map((letter) => ({ kind: "run", run: parseRun(letter, latest) }));
  return [{ kind: "run", run: parseRun(word, latest) }];
}

function parseTime(word: string): number | undefined {
  const [, sign, size, unit = ""] = /^([+-])(\d+)([mhd])$/.exec(word) ?? [];
  return sign ? Number(`${sign}${size}`) * (UNITS[unit] ?? 0) : undefined;
}

function parseRun(word: string, latest: { id: number }): RunOrder {
  const [, kind = "", outcomes, id, back, , accidents = ""] =
    /^(late:|again:|dry:)?([FPn]{1,2})(?:(\d+)|-(\d+))?(\{(.*)\})?$/.exec(word) ?? [];
  if (!outcomes) throw new Error(`${word} is no word of an order`);
  const isDry = kind === "dry:";
  const pipeline = Number(id ?? latest.id + (back ? -back : kind === "again:" ? 0 : 1));
  latest.id = isDry ? latest.id : Math.max(latest.id, pipeline);
  const parts = accidents.split("; ").filter(Boolean);
  return { pipeline, outcomes, isDry, accidents: Object.fromEntries(parts.map((part) => part.split(" "))) };
}

function parseRules(text: string): NewRules {
  const words = text.split(" ");
  const [, inARow, often, length] = /(\d+)\/(\d+) of (\d+)/.exec(text) ?? [];
  return {
    inARow: Number(inARow ?? PLAIN_RULES.inARow),
    often: Number(often ?? PLAIN_RULES.often),
    length: Number(length ?? PLAIN_RULES.length),
    ignored: words.includes("ignore") ? ["unit"] : [],
    channels: words.filter((word) => word.startsWith("#")),
    ...(words.includes("to:#own") ? { broadcast: "#own" } : {}),
    ...(words.includes("to:command") ? { broadcast: null } : {}),
  };
}

// ── What fast-check draws: words.

/** A step that knows no number of a pipeline yet: `by` is how far it is from the latest one. */
type Drawn =
  | { kind: "next" | "late" | "again" | "dry"; by: number; strip: string; other: string; accidents: string }
  | {
      kind: "both";
      gap: number;
      first: string;
      second: string;
      accidents: [string, string];
      schedule: string;
      skew: string;
    }
  | { kind: "word"; word: string };

/** Numbers the pipelines, and writes all as words. */
function toWords(beginning: string, drawn: Drawn[]): string {
  let latest = /^\w+:(\w*)/.exec(beginning)?.[1]?.length ?? 0;
  const words = drawn.flatMap((step) => {
    if (step.kind === "word") {
      latest += Number(/^quiet:(\d+)$/.exec(step.word)?.[1] ?? 0);
      return step.word;
    }
    if (step.kind === "both") {
      const [first, second] = [latest + 1 + (step.gap & 1), latest + 1 + (step.gap >> 1)];
      latest = Math.max(first, second);
      const [mine, others] = step.accidents;
      return `(${step.first}${first}${mine}|${step.second}${second}${others} ${step.schedule}${step.skew})`;
    }
    const { kind, by, strip, other, accidents } = step;
    if (kind === "next") {
      return [...strip].map((letter) => {
        latest += by;
        return `${letter}${other}${latest}${accidents}`;
      });
    }
    const pipeline = { again: latest, late: latest - by, dry: latest + by }[kind];
    return pipeline < 1 ? [] : `${kind}:${strip}${other}${pipeline}${accidents}`;
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

const thresholds = ["[1/1 of 2]", "[1/2 of 3]", "[2/2 of 4]", "[3/2 of 5]", "[3/3 of 3]", "[2/4 of 8]", "[3/5 of 10]"];
const channels = [
  "[#own]",
  "[#two]",
  "[#own to:#own]",
  "[to:command]",
  "[#own #two]",
  "[#own 1/1 of 2]",
  "[#own 3/2 of 5]",
  "[#own #two 2/2 of 4]",
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

const schedule = fc.array(fc.constantFrom("a", "b"), { maxLength: 14, size: "max" }).map((letters) => letters.join(""));

const pair = (accidents: fc.Arbitrary<string>) =>
  fc.record({
    kind: fc.constant("both"),
    gap: fc.constantFrom(0, 1, 2, 2, 3), // of the same pipeline, or of the next ones
    first: fc.constantFrom("F", "P", "FF", "FP", "PP", "n"),
    second: fc.constantFrom("F", "P", "FF", "PF", "PP", "n"),
    accidents: fc.tuple(accidents, accidents),
    schedule,
    skew: fc.constantFrom("", "", "", "", "+2m", "-2m", "+1h", "-1h"),
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
