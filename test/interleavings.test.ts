/**
 * Runs that meet on one document, in every order and with every accident that fast-check comes up with: nothing is
 * lost, and nothing is told twice. INTERLEAVINGS_SEED replays the seed that a failure prints; INTERLEAVINGS is how many
 * are tried.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import fc from "fast-check";
import {
  type JobExecutions,
  parseOwners,
  routeNews,
  type Task,
  updateStatistics,
  writeHello,
  writeMessage,
} from "../check-failures.ts";
import {
  documentOf,
  failed,
  history,
  MINUTE,
  NOW,
  openAlert,
  passed,
  pendingAlert,
  settings,
} from "./support/builders.ts";
import { type Actor, createWorld, type Fate, LIMIT_MS, type Sent, type Step, type Taken } from "./support/gates.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

// ── An example: what was stored, what the pipelines did, who runs when, and what goes wrong.

const timeout = 30 * MINUTE; // for as many as may be asked for
const STORED = documentOf().pipeline_id;
const JOBS = ["unit tests", "lint", "deploy"];
const OWNERS = { rules: parseOwners("lint #lint-owners\ndeploy #deploy-owners\n", "owners"), channels: new Map() };
const OUTCOMES = ["failed", "passed", "absent"];

/** How a job may stand: untracked, about to raise each of its alerts, and with each of them open. */
const HISTORIES = [
  undefined,
  history("✗"),
  history("✗✗"),
  history("✗·✗·✗·✗"),
  history("✗✗✗··", { alert: openAlert("consecutive") }),
  history("✗·✗·✗·✗·✗✗", { alert: openAlert("cumulative") }),
];

const choiceOf = (fate: fc.Arbitrary<Fate>) =>
  fc.array(fc.record({ pick: fc.nat(59), fate }), { maxLength: 60, size: "max" });
const exactly = <T>(length: number, item: fc.Arbitrary<T>) => fc.array(item, { minLength: length, maxLength: length });

const plans = fc.record({
  /** How the three jobs stood; undefined where nothing was stored yet. */
  histories: fc.option(exactly(3, fc.constantFrom(...HISTORIES)), { nil: undefined, freq: 8 }),
  /** For whom earlier runs left messages over, and how many minutes ago they became due: some will only be later. */
  leftOver: fc.array(
    fc.record({ channel: fc.constantFrom(null, "#lint-owners", "#gone"), minutes: fc.constantFrom(-4, 5) }),
    { maxLength: 3 },
  ),
  /** How the three jobs did in each pipeline, from the one before the stored one on. */
  outcomes: exactly(8, exactly(3, fc.constantFrom("failed", "failed", ...OUTCOMES))),
  /** The runs in flight. None of them lives for two minutes, so they start within two. */
  runs: fc.array(
    fc.record({
      pipeline: fc.integer({ min: STORED - 1, max: STORED + 4 }),
      startedMs: fc.oneof(fc.constant(0), fc.nat(2 * MINUTE - 1)), // often in the same millisecond
      /** The broadcast channel: somebody changes it, or tries a webhook, which has no channels. */
      broadcast: fc.constantFrom("#ci", "#ci", "#ci", "#new", null),
    }),
    { minLength: 2, maxLength: 5 },
  ),
  /** Which step of which run comes next, and what becomes of it; after the last choice all goes well, in order. */
  choices: choiceOf(
    fc.oneof(
      { arbitrary: fc.constant<Fate>("done"), weight: 14 },
      { arbitrary: fc.constant<Fate>("echo"), weight: 3 },
      { arbitrary: fc.constantFrom<Fate>("failed", "lost", "dies", "refused", "limited"), weight: 5 },
    ),
  ),
  /** The runs that come when the others are over, undisturbed: again for what is stored then, too late, or for a next pipeline. */
  later: fc.array(fc.constantFrom("again" as const, "next" as const, "late" as const), { minLength: 1, maxLength: 2 }),
  laterChoices: choiceOf(fc.constant<Fate>("done")),
});
type Plan = typeof plans extends fc.Arbitrary<infer T> ? T : never;

const jobsWith = (outcomes: string[]) =>
  JOBS.flatMap((name, i) => {
    if (outcomes[i] === "absent") return [];
    return outcomes[i] === "failed" ? failed(name, { id: i + 1 }) : passed(name, { id: i + 1 });
  });

async function documentBefore({ histories, leftOver }: Plan): Promise<string | undefined> {
  if (!histories) return undefined;
  const pending_alerts = leftOver.map(({ channel, minutes }, i) =>
    pendingAlert(`left over ${i}`, { channel, due: new Date(NOW.getTime() - minutes * MINUTE).toISOString() }),
  );
  const jobs = JOBS.flatMap((name, i): Parameters<typeof documentOf> => {
    const job = histories[i];
    return job ? [[name, job]] : [];
  });
  return serializeDocument({ ...documentOf(...jobs), pending_alerts });
}

function taskFor(pipelineId: number): Task {
  const { pipeline, limits } = settings({ CI_PIPELINE_ID: `${pipelineId}`, CI_COMMIT_SHA: `c0ffee${pipelineId}` });
  return { pipeline, limits, owners: OWNERS };
}

/** Plays an example to its end, and resolves to the record of it. */
async function play(plan: Plan) {
  const before = await documentBefore(plan);
  const { world, start, drive } = createWorld(before);
  const startRun = (pipeline: number, startedMs: number, broadcast: string | null) => {
    const jobs = jobsWith(plan.outcomes[pipeline - STORED + 1] ?? []);
    start(taskFor(pipeline), new Date(NOW.getTime() + startedMs), jobs, broadcast);
  };

  for (const { pipeline, startedMs, broadcast } of plan.runs) startRun(pipeline, startedMs, broadcast);
  await drive(plan.choices);
  const landedInFlight = world.landings.length;

  const { pipeline_id: last } = await parseDocument(world.stored.text);
  plan.later.forEach((kind, i) => {
    const pipeline = { again: last, late: last - 1, next: STORED + 5 + i }[kind];
    startRun(last > 1 ? pipeline : STORED + 5 + i, 7 * MINUTE + i, "#ci");
  });
  await drive(plan.laterChoices);

  const landings = await Promise.all(
    world.landings.map(async (landing) => ({
      ...landing,
      before: await parseDocument(landing.before),
      after: await parseDocument(landing.after),
    })),
  );
  return {
    ...world,
    isNew: before === undefined,
    initial: await parseDocument(before),
    landings,
    phases: [landings.slice(0, landedInFlight), landings.slice(landedInFlight)],
  };
}
type Played = Awaited<ReturnType<typeof play>>;
type Upload = Played["landings"][number];

// ── What is expected of it, from the statistics and the messages alone.

const keyOf = ({ channel, text }: Sent) => `${channel} ${text}`;

const statisticsOf = ({ pipeline_id, jobs }: JobExecutions) => JSON.stringify([pipeline_id, [...jobs]]);
const isCount = ({ before, after }: Upload) => statisticsOf(before) !== statisticsOf(after);

/** The document that the counting runs give, one after the other, and the messages that each of them owes. */
function fold({ initial, isNew }: Played, runs: Actor[]) {
  const owed = new Map<Actor, string[]>();
  let document: JobExecutions = { ...initial, pending_alerts: [] };
  for (const run of runs) {
    const { task, now, broadcast } = run;
    const { news, ...update } = updateStatistics(document, run.jobs, { ...task, now });
    const { routes } = routeNews(news, OWNERS, broadcast);
    const messages = routes.map((route) => ({ ...route, text: writeMessage(route, task.pipeline, now) }));
    const hello = { channel: null, text: writeHello(task, "the store in memory") };
    owed.set(run, [...(isNew && run === runs[0] ? [hello] : []), ...messages].map(keyOf));
    document = update.document;
  }
  return { document, owed };
}

const hasGoneWrong = ({ fate }: Step) => fate !== "done" && fate !== "echo";

/**
 * Whether the message that Slack took may be sent once more. There are two cases: Slack's answer got lost, so the run
 * could not know; or the answer came, but before the clearing was stored the run died, or failed to read or to upload
 * for the clearing. Where only the answer to that upload got lost there is none, because the message is cleared.
 */
function mayComeAgain({ actor, step }: Taken): boolean {
  const next = actor.steps.slice(actor.steps.indexOf(step) + 1);
  const isBrokenOff = next.some((other) => other.fate === "dies" || (other.kind !== "send" && hasGoneWrong(other)));
  return step.fate === "lost" || (isBrokenOff && !next.some(({ hasLanded }) => hasLanded));
}

/** The messages of other runs that an upload took over, or took out without a word. */
function takenBy({ actor, before, after }: Upload) {
  return before.pending_alerts.flatMap((alert) => {
    if (after.pending_alerts.some(({ id }) => id === alert.id)) return [];
    const isTakenOver = after.pending_alerts.some((other) => keyOf(other) === keyOf(alert));
    const earlyMs = Date.parse(alert.due) - actor.now.getTime();
    return { id: alert.id, key: keyOf(alert), isTakenOver, earlyMs };
  });
}

function checkTold({ initial, actors, landings, taken }: Played, owed: Map<Actor, string[]>) {
  const told = new Set(taken.map(({ sent }) => keyOf(sent)));
  const expected = new Set([...initial.pending_alerts.map(keyOf), ...[...owed.values()].flat()]);
  assert.deepEqual(
    [...told].filter((key) => !expected.has(key)),
    [],
    "What was told is not what there was to tell",
  );

  const refused = actors.flatMap(({ steps, broadcast }) =>
    steps.flatMap(({ fate, sent }) => (fate === "refused" && sent?.channel && broadcast ? keyOf(sent) : [])),
  );
  const withoutChannels = landings.filter(({ actor }) => actor.broadcast === null);
  const dropped = withoutChannels.flatMap((landing) => takenBy(landing).map(({ key }) => key));
  const mayBeLost = [...refused, ...dropped].filter((key) => !key.startsWith("null "));
  const lost = [...expected].filter((key) => !told.has(key));
  assert.deepEqual(
    lost.filter((key) => !mayBeLost.includes(key)),
    [],
    "A message was lost",
  );

  const earlier = taken.filter(({ sent }, i) => taken.slice(i + 1).some((later) => keyOf(later.sent) === keyOf(sent)));
  assert.ok(earlier.every(mayComeAgain), "A message was told again for no reason");
}

/** What a run could not deliver is due at once, or when Slack asked for it, as soon as it has settled that. */
function checkHandedOn({ landings }: Played) {
  const last = new Map(landings.map((landing) => [landing.actor, landing]));
  for (const [{ run, now, steps }, { after }] of last) {
    const isSettled =
      steps.findLastIndex(({ hasLanded }) => hasLanded) > steps.findIndex(({ kind }) => kind === "send");
    if (!run || !isSettled || !steps.some(({ kind }) => kind === "send")) continue;
    for (const { id, delivered } of run.messages) {
      const pending = after.pending_alerts.find((alert) => alert.id === id);
      assert.ok(!delivered || !pending, "A delivered message stays pending");
      const waitMs = pending ? Date.parse(pending.due) - now.getTime() : 0;
      assert.ok(waitMs === 0 || waitMs === LIMIT_MS, `A message is handed on in ${waitMs} ms`);
    }
  }
}

async function checkPlayed(played: Played) {
  const { actors, landings, phases, stored } = played;
  const counts = landings.filter(isCount).map(({ actor }) => actor);
  const counted = counts.map(({ task }) => task.pipeline.CI_PIPELINE_ID);
  const { document, owed } = fold(played, counts);
  assert.ok(
    counted.every((id, i) => id > (counted[i - 1] ?? 0)),
    "A pipeline was counted twice, or out of order",
  );
  assert.deepEqual(
    JSON.parse(stored.text ?? ""),
    JSON.parse(await serializeDocument(document)),
    "The document is not what the counted pipelines give, with nothing pending",
  );
  checkTold(played, owed);
  checkHandedOn(played);

  for (const taken of phases.map((uploads) => uploads.flatMap(takenBy).filter(({ isTakenOver }) => isTakenOver))) {
    assert.ok(
      taken.every(({ earlyMs }) => earlyMs <= 0),
      "A run took over what another may be sending",
    );
    assert.equal(new Set(taken.map(({ id }) => id)).size, taken.length, "Two runs took over one message");
  }

  const ended = actors.flatMap((actor) => (actor.run ? [{ ...actor, actor, run: actor.run }] : []));
  for (const { run, steps } of ended) {
    const delivered = run.messages.filter((message) => message.delivered).map(keyOf);
    const answered = steps.flatMap((step) => (step.sent && !hasGoneWrong(step) ? [keyOf(step.sent)] : []));
    assert.deepEqual(delivered.sort(), answered.sort(), "What a run reports as delivered is not what Slack answered");
  }
  for (const { actor, run } of ended.filter(({ run }) => run.outcome === "counted")) {
    assert.ok(counts.includes(actor) || run.document === run.before, "A run reports what another one counted");
  }

  // Conflicts and echoes are no trouble: where there was nothing else, a run does all that is its own to do.
  for (const { run, error } of actors.filter(({ steps }) => !steps.some(hasGoneWrong))) {
    assert.equal(error, undefined);
    assert.deepEqual(run?.errors, []);
  }
  const undisturbed = counts.filter((run) => !run.steps.some(hasGoneWrong) && owed.get(run)?.length !== 0);
  for (const actor of undisturbed) {
    assert.equal(actor.run?.outcome, "counted");
    const delivered = new Set(actor.run.messages.filter((message) => message.delivered).map(keyOf));
    assert.ok(
      owed.get(actor)?.every((key) => delivered.has(key)),
      "A run left its own messages to a later one",
    );
  }
}

test("checkConsistentFailures() loses nothing and tells nothing twice, however runs meet and whatever breaks", {
  timeout,
}, async () => {
  const { INTERLEAVINGS_SEED: seed, INTERLEAVINGS: count = "2500" } = process.env;
  const parameters = { numRuns: Number(count), includeErrorInReport: true, ...(seed ? { seed: Number(seed) } : {}) };
  await fc.assert(
    fc.asyncProperty(plans, async (plan) => checkPlayed(await play(plan))),
    parameters,
  );
});

test("checkConsistentFailures() tells once, of two runs of a pipeline that start in the same millisecond", async () => {
  const { world, start, drive } = createWorld(await serializeDocument(documentOf(["lint", history("✗✗")])));
  for (const _ of [1, 2]) start(taskFor(STORED + 1), NOW, [failed("lint")]);

  await drive([
    { pick: 0, fate: "done" }, // both read
    { pick: 1, fate: "done" },
    { pick: 1, fate: "done" }, // the second one uploads
    { pick: 0, fate: "echo" }, // the first one failed to, tried again, and can't know whose upload it meets
  ]);

  assert.deepEqual(
    world.taken.map(({ sent }) => sent.channel),
    [null, "#lint-owners"],
  );
});
