/**
 * Runs in any order and through any accident that fast-check comes up with, played with the real script and checked
 * against a model and against what must hold of any story. A failure prints the smallest order in the words of
 * support/orders.ts, and a seed, which INTERLEAVINGS_SEED replays. INTERLEAVINGS is how many orders are played.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { JobExecutions } from "../check-failures.ts";
import { anyAccidents, anyOrders, anyPair, anyShuffle } from "./support/drawn-orders.ts";
import { KNOWN_ORDERS } from "./support/known-orders.ts";
import type { Known } from "./support/model.ts";
import { JOBS, type Landing, type Played, play } from "./support/play.ts";
import * as promises from "./support/promises.ts";

const { INTERLEAVINGS = "300", INTERLEAVINGS_SEED = `${Date.now() % 1_000_000_000}` } = process.env;
const seed = Number(INTERLEAVINGS_SEED);
const numRuns = Number(INTERLEAVINGS);
const timeout = 3_600_000; // for as many as may be asked for

// ── What the script knows and what the model knows, in the same words.

const sorted = <T>(pairs: [string, T][]) => Object.fromEntries(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));

/** A job as the document has it. */
function seen({ jobs, passed }: JobExecutions, name: string) {
  const job = jobs.get(name);
  const pass = passed.get(name);
  const { alert, jobs_info = pass ? [{ id: null, failing: false, ...pass }] : [] } = job ?? {};
  return {
    isTracked: job !== undefined,
    executions: jobs_info.map(({ pipeline = -1, failing, id, commit = null, title }) => {
      return { pipeline, failing, id, commit, title };
    }),
    streak: job?.consecutive_failures ?? 0,
    lastRun: job?.last_run,
    lastDay: job?.last_day ?? pass?.day,
    alert: alert && {
      kind: alert.kind,
      pipeline: alert.pipeline_id,
      changedAt: alert.changed_at,
      day: alert.day,
      at: alert.at,
      after: alert.after,
      isFlaky: alert.flaky ?? false,
      times: alert.times,
      executions: alert.executions,
      turned: alert.turned && { commit: alert.turned.commit, title: alert.turned.title, from: alert.turned.from },
    },
    told: sorted(Object.entries(alert?.told ?? {})),
    claims: sorted(Object.entries(alert?.claims ?? {}).map(([channel, claim]) => [channel, seenClaim(claim)])),
  };
}

const seenClaim = ({ until, by }: { until: string; by: string }) => `${by} until ${until}`;

/** A job as the model knows it. */
function expected({ jobs }: Known, name: string) {
  const {
    isTracked = false,
    executions = [],
    streak = 0,
    lastRun,
    lastDay,
    alert,
    told,
    claims,
  } = jobs.get(name) ?? {};
  return {
    isTracked,
    // A pass of a job that is not tracked has no title.
    executions: isTracked ? executions : executions.map((pass) => ({ ...pass, title: undefined })),
    streak,
    lastRun: isTracked ? lastRun : undefined,
    lastDay: isTracked || executions.length > 0 ? lastDay : undefined,
    alert,
    told: sorted([...(told ?? [])]),
    claims: sorted([...(claims ?? [])].map(([channel, claim]) => [channel, knownClaim(claim)])),
  };
}

const knownClaim = ({ run, until }: { run: string; until: number }) => `${run} until ${new Date(until).toISOString()}`;

const strip = (executions: { pipeline: number; failing: boolean }[] = []) =>
  executions.map(({ failing, pipeline }) => `${failing ? "F" : "P"}${pipeline}`).join(" ");

function checkLanding({ actor, happening, document, after }: Landing) {
  const what = `when ${actor.order.outcomes}${actor.order.pipeline} (${actor.name}) is ${happening.what}`;
  for (const name of JOBS) {
    const [is, should] = [seen(document, name), expected(after, name)];
    assert.equal(strip(is.executions), strip(should.executions), `The window of ${name} ${what}`);
    assert.deepEqual(is, should, `What is known of ${name} ${what}`);
  }
  const { pipeline_id, counted_at, days, hello } = document;
  const { latest, countedAt } = after;
  const known = {
    pipeline_id: latest,
    counted_at: countedAt,
    days: after.days,
    hello: after.hello && knownClaim(after.hello),
  };
  assert.deepEqual({ pipeline_id, counted_at, days, hello: hello && seenClaim(hello) }, known, `The document ${what}`);
}

// ── Whole stories, each played once and checked for all that must hold.

type Checks = Record<string, (played: Played) => void>;

/** When all is played, the chat works for two runs; then the rules are plain ones, and all jobs pass. */
const CALM = `back mark later n n mark [] ${"PP{} ".repeat(8)}`;

/** A check of what has happened when the chat has worked for two runs. */
const afterTwoRuns = (check: (played: Played) => void) => (played: Played) => check(played.marks[1] ?? played);

const PROMISES: Checks = {
  "windows, streaks, alerts, and who knows of them, are what the model reads off": ({ landings }) =>
    landings.forEach(checkLanding),
  "an open alert was told to each of its channels once the chat has worked for two runs": afterTwoRuns(
    promises.checkOpenIsTold,
  ),
  "how often, first at, changes since, how long ago and passed since are true": promises.checkSaidIsTrue,
  "whom a rule mentions is mentioned where its jobs are told, for what opened": promises.checkMentions,
  "nothing is told twice, unless an answer was lost or a run could not note it": promises.checkToldOnce,
  "whoever was told that a job is broken hears of its end, and nobody else of any": promises.checkEnds,
  "enough failures in a row leave an open alert, enough passes after one streak none": promises.checkRows,
  "nothing stays for ever": promises.checkNothingStays,
  "no window, no end to tell and no pass grows old": promises.checkNothingGrows,
  "no alert and no failure vanishes": promises.checkNothingVanishes,
  "a run fails, errs or warns where something went wrong, and only there": promises.checkReports,
  "hello is said of a new document, and once": promises.checkHello,
  "each upload has an id of its own": promises.checkUploads,
  "of a dry run nothing stays, and nobody hears": promises.checkDryRuns,
};

const SHARED = { seed, numRuns, includeErrorInReport: true };

const property = (orders: fc.Arbitrary<string>, check: (played: Played) => void) =>
  fc.asyncProperty(orders, async (words) => check(await play(`${words} ${CALM}`)));

/** Orders that broke something before are played besides those that are drawn. */
const examples = KNOWN_ORDERS.map(({ words }): [string] => [words]);

/** Plays as many stories as are asked for; resolves to which was the first that broke each promise. */
async function playAll(orders: fc.Arbitrary<string>): Promise<Map<string, number>> {
  const broken = new Map<string, number>();
  let index = 0;
  const checkEach = (played: Played) => {
    for (const [title, check] of Object.entries(PROMISES)) {
      try {
        check(played);
      } catch {
        broken.set(title, broken.get(title) ?? index);
      }
    }
    index++;
  };
  await fc.assert(property(orders, checkEach), { ...SHARED, examples });
  return broken;
}

/** A test for each promise, which shrinks the first story that broke it. */
function testAll(orders: fc.Arbitrary<string>, broken: Map<string, number>) {
  for (const [title, check] of Object.entries(PROMISES)) {
    const path = `${broken.get(title) ?? 0}`;
    test(title, { timeout }, () => fc.assert(property(orders, check), { ...SHARED, examples, path, numRuns: 1 }));
  }
}

// Played before any test begins: within one, node:test follows each promise, which takes a third longer.
const brokenByOrders = await playAll(anyOrders);
const brokenByAccidents = await playAll(anyAccidents);

describe("in any order of pipelines, under any rules, on any day,", () => testAll(anyOrders, brokenByOrders));

describe("through refusals, deaths, lost answers and runs that meet,", () => testAll(anyAccidents, brokenByAccidents));

// ── Two stories that must come to the same.

const check = (words: fc.Arbitrary<string>, compare: (words: string) => Promise<void>) =>
  fc.assert(fc.asyncProperty(words, compare), { ...SHARED, numRuns: Math.ceil(numRuns / 3) });

const documentOf = (played: Played) => played.landings.at(-1)?.document;

const whatMatters = (played: Played) => {
  const document = documentOf(played);
  return document && promises.whatMatters(document);
};

const AGAIN = {
  "counting the latest pipeline again, with the same jobs, changes nothing and says nothing":
    "F mark again:F mark P mark again:P mark n mark again:n mark",
  "counting a late pipeline again, with the same jobs, changes nothing and says nothing":
    "F n late:F-1 mark late:F-1 mark late:P-2 mark late:P-2 mark",
};

for (const [title, words] of Object.entries(AGAIN)) {
  test(title, { timeout }, () =>
    check(fc.oneof(anyOrders, anyAccidents), async (orders) => {
      const { marks } = await play(`${orders} back later n n ${words}`);
      for (const [i, again] of marks.entries()) {
        const once = marks[i - (i % 2)] ?? again;
        assert.deepEqual(whatMatters(again), whatMatters(once));
        assert.equal(again.taken.length, once.taken.length);
      }
    }),
  );
}

test(
  "late pipelines give the windows that their order gives, as far as these reach, and no other alert",
  {
    timeout,
  },
  () =>
    check(anyShuffle, async (both) => {
      const [inOrder = "", shuffled = ""] = both.split(" / ");
      const documents = [documentOf(await play(inOrder)), documentOf(await play(shuffled))];
      const [all, known] = documents.map((document) => document && seen(document, "unit"));
      const counted = inOrder.match(/[FP]\d+/g)?.join(" ") ?? "";
      assert.ok(counted.endsWith(strip(known?.executions)), `${strip(known?.executions)} is no end of ${counted}`);
      assert.ok(!known?.alert || all?.alert, "An alert is open that would not be");
    }),
);

test(
  "two runs that meet leave what one of them after the other leaves, once the next runs have come",
  { timeout },
  () =>
    check(anyPair, async (words) => {
      const [before, first, second, schedule] = words.split(" | ");
      const [met, one, other] = await Promise.all(
        [`(${first}|${second} ${schedule})`, `${first} ${second}`, `${second} ${first}`].map(async (runs) =>
          JSON.stringify(whatMatters(await play(`${before} ${runs} later n n n`)), null, 1),
        ),
      );
      assert.ok(met === one || met === other, `${met}\nis neither\n${one}\nnor\n${other}`);
    }),
);
