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
 *                  the broadcast channel from now on, with `to:command` there are none any more; `@here` is mentioned
 *   v3:FFF:consecutive   at the very beginning: the document that another version left; or `none`
 */
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

type Version = "none" | "empty" | "original" | "v1" | "v2" | "v3";
export type Beginning = { version: Version; strip: string; alert?: "consecutive" | "cumulative" };

export type Order =
  | { kind: "run"; run: RunOrder }
  | { kind: "both"; runs: [RunOrder, RunOrder]; schedule: string; skewMs: number }
  | { kind: "clock"; ms: number }
  | { kind: "later" | "mark" }
  | { kind: "quiet"; days: number }
  | { kind: "away"; channels: string[] }
  | { kind: "rules"; rules: NewRules };

export const PLAIN_RULES = { inARow: 2, often: 3, length: 5, ignored: [], channels: [], mentions: [] };

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
  const [, isAway, channel] = /^(away)(?::(#\w+))?$/.exec(word) ?? [];
  if (isAway) return [{ kind: "away", channels: channel ? [channel] : CHANNELS }];
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
    mentions: words.includes("@here") ? ["<!here>"] : [],
    ...(words.includes("to:#own") ? { broadcast: "#own" } : {}),
    ...(words.includes("to:command") ? { broadcast: null } : {}),
  };
}
