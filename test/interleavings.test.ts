/**
 * Runs that meet on one document, in every order and with every accident that fast-check comes up with: nothing is
 * lost, nothing is told twice, and each channel is told in order. INTERLEAVINGS_SEED replays the seed that a failure prints; INTERLEAVINGS is how many
 * are tried.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import fc from "fast-check";
import {
  type JobExecutions,
  type Message,
  type PendingMessage,
  parseOwners,
  reviseStatistics,
  routeNews,
  type Task,
  type TrackedJob,
  updateStatistics,
} from "../check-failures.ts";
import {
  AN_HOUR_AGO,
  documentOf,
  failed,
  history,
  listingOf,
  MINUTE,
  NOW,
  openAlert,
  PIPELINE_TOLD,
  passed,
  pendingAlert,
  settings,
  slackText,
  toldOf,
} from "./support/builders.ts";
import { type Actor, createWorld, type Fate, LIMIT_MS, type Step, type Taken } from "./support/gates.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

// ── An example: what was stored, what the pipelines did, who runs when, and what goes wrong.

const timeout = 30 * MINUTE; // for as many as may be asked for
const STORED = documentOf().pipeline_id;
const JOBS = ["unit tests", "lint", "deploy"];
const OWNERS = { rules: parseOwners("lint #lint-owners\ndeploy #deploy-owners\n", "owners"), channels: new Map() };
const OUTCOMES = ["failed", "passed", "absent"];
const NO_OWNERS = "#gone"; // a channel that no owner has: it may be anybody's

/** Which of the three jobs have passed since, where a pipeline is run again. */
const mended = fc.array(fc.boolean(), { minLength: 3, maxLength: 3 });

const commitOf = (pipeline: number) => `c0ffee${pipeline}`;

/** How a job may stand: untracked, about to raise each of its alerts, and with each of them open. */
const HISTORIES = [
  undefined,
  history("✗"),
  history("✗✗"),
  history("✗·✗·✗·✗"),
  history("✗✗✗··", { alert: openAlert("consecutive") }),
  history("✗✗✗··✗", { alert: openAlert("consecutive") }),
  history("✗·✗·✗✗✗✗", { alert: openAlert("cumulative") }),
].map((job) => job && lastInStored(job));

/** A job whose last execution was in the stored pipeline, so that a re-run of that may revise it. */
function lastInStored(job: TrackedJob): TrackedJob {
  const last = job.jobs_info.at(-1);
  return last ? { ...job, jobs_info: job.jobs_info.with(-1, { ...last, commit: commitOf(STORED) }) } : job;
}

const choiceOf = (fate: fc.Arbitrary<Fate>) =>
  fc.array(fc.record({ pick: fc.nat(59), fate }), { maxLength: 60, size: "max" });
const exactly = <T>(length: number, item: fc.Arbitrary<T>) => fc.array(item, { minLength: length, maxLength: length });

const plans = fc.record({
  /** How the three jobs stood; undefined where nothing was stored yet. */
  histories: fc.option(exactly(3, fc.constantFrom(...HISTORIES)), { nil: undefined, freq: 8 }),
  /** For whom earlier runs left messages over, and how many minutes ago they became due: some will only be later. */
  leftOver: fc.array(
    fc.record({ channel: fc.constantFrom(null, "#lint-owners", NO_OWNERS), minutes: fc.constantFrom(-4, 5) }),
    { maxLength: 3 },
  ),
  /** How the three jobs did in each pipeline, from the one before the stored one on. */
  outcomes: exactly(8, exactly(3, fc.constantFrom("failed", "failed", ...OUTCOMES))),
  /** The runs in flight. None of them lives for two minutes, so they start within two. */
  runs: fc.array(
    fc.record({
      pipeline: fc.integer({ min: STORED - 1, max: STORED + 4 }),
      mended: fc.option(mended, { nil: [], freq: 2 }),
      startedMs: fc.oneof(fc.constant(0), fc.nat(2 * MINUTE - 1)), // often in the same millisecond
      /** The broadcast channel: somebody changes it, or tries a command, which has no channels. */
      broadcast: fc.constantFrom("#ci", "#ci", "#ci", "#new", null),
    }),
    { minLength: 2, maxLength: 5 },
  ),
  /** Which step of which run comes next, and what becomes of it; after the last choice all goes well, in order. */
  choices: choiceOf(
    fc.oneof(
      { arbitrary: fc.constant<Fate>("done"), weight: 14 },
      { arbitrary: fc.constant<Fate>("echo"), weight: 3 },
      { arbitrary: fc.constantFrom<Fate>("failed", "lost", "dies", "refused", "limited", "limited"), weight: 6 },
    ),
  ),
  /** The runs that come when the others are over, undisturbed: again for what is stored then, too late, or for a next pipeline. */
  later: fc.array(fc.record({ kind: fc.constantFrom("again" as const, "next" as const, "late" as const), mended }), {
    minLength: 1,
    maxLength: 2,
  }),
  laterChoices: choiceOf(fc.constant<Fate>("done")),
});
type Plan = typeof plans extends fc.Arbitrary<infer T> ? T : never;

const jobsWith = (outcomes: string[], mended: boolean[]) =>
  JOBS.flatMap((name, i) => {
    if (outcomes[i] === "absent") return [];
    const build = outcomes[i] === "failed" && !mended[i] ? failed : passed;
    return build(name, { id: i + 1 });
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
  return serializeDocument({
    ...documentOf(...jobs),
    commit: commitOf(STORED),
    counted_at: AN_HOUR_AGO,
    pending_alerts,
  });
}

const { pipeline: PIPELINE, limits } = settings();

function taskFor(pipelineId: number, startedMs = 0): Task {
  const pipeline = { ...PIPELINE, CI_PIPELINE_ID: pipelineId, CI_COMMIT_SHA: commitOf(pipelineId) };
  return { pipeline, limits, owners: OWNERS, now: new Date(NOW.getTime() + startedMs) };
}

/** Plays an example to its end, and resolves to the record of it. */
async function play(plan: Plan) {
  const before = await documentBefore(plan);
  const { world, start, drive } = createWorld(before);
  const startRun = (pipeline: number, startedMs: number, mended: boolean[], broadcast: string | null) => {
    const jobs = jobsWith(plan.outcomes[pipeline - STORED + 1] ?? [], mended);
    start(taskFor(pipeline, startedMs), jobs, broadcast);
  };

  for (const run of plan.runs) startRun(run.pipeline, run.startedMs, run.mended, run.broadcast);
  await drive(plan.choices);
  const landedInFlight = world.landings.length;

  const { pipeline_id: last } = await parseDocument(world.stored.text);
  plan.later.forEach(({ kind, mended }, i) => {
    const pipeline = { again: last, late: last - 1, next: STORED + 5 + i }[kind];
    startRun(last > 1 ? pipeline : STORED + 5 + i, 7 * MINUTE + i, mended, "#ci");
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

const keyOf = (told: Message) => `${told.channel} ${slackText(told)}`;

const statisticsOf = ({ pipeline_id, jobs }: JobExecutions) => JSON.stringify([pipeline_id, [...jobs]]);
const isCount = ({ before, after }: Upload) => statisticsOf(before) !== statisticsOf(after);

/** What a run that counts, or counts again, makes of a document. */
const updateBy = ({ task, jobs }: Actor, document: JobExecutions) =>
  task.pipeline.CI_PIPELINE_ID > document.pipeline_id
    ? updateStatistics(document, listingOf(jobs), task)
    : reviseStatistics(document, listingOf(jobs), task);

const HELLO = { document: "the store in memory", in_a_row: 3, often: 5, window: 10 };

/** The document that the counting runs give, one after the other, and the messages that each of them owes. */
function fold({ initial, isNew }: Played, runs: Actor[]) {
  const owed = new Map<Actor, string[]>();
  let document: JobExecutions = { ...initial, pending_alerts: [] };
  for (const run of runs) {
    const { news, ...update } = updateBy(run, document);
    const { CI_PIPELINE_ID: id, CI_COMMIT_SHA: commit } = run.task.pipeline;
    const pipeline = { ...PIPELINE_TOLD, id, commit, at: run.task.now.toISOString() };
    const messages = routeNews(news, OWNERS, run.broadcast).routes.map(({ channel, news }) =>
      toldOf(news, { channel, pipeline }),
    );
    if (isNew && run === runs[0]) messages.unshift(toldOf([], { pipeline, hello: HELLO }));
    owed.set(run, messages.map(keyOf));
    document = update.document;
  }
  return { document, owed };
}

const isOfStore = ({ kind }: Step) => kind === "read" || kind === "upload";
const hasGoneWrong = ({ fate }: Step) => fate !== "done" && fate !== "echo";

/**
 * Whether the message that was told may be told once more. There are two cases: the answer got lost, so the run could
 * not know; or the answer came, but before the clearing was stored the run died, or failed to read or to upload
 * for the clearing. Where only the answer to that upload got lost there is none, because the message is cleared.
 */
function mayComeAgain({ actor, step }: Taken): boolean {
  const next = actor.steps.slice(actor.steps.indexOf(step) + 1);
  const isBrokenOff = next.some((other) => other.fate === "dies" || (isOfStore(other) && hasGoneWrong(other)));
  return step.fate === "lost" || (isBrokenOff && !next.some(({ hasLanded }) => hasLanded));
}

/** The messages of other runs that an upload took over, or took out without a word. */
function takenBy({ actor, before, after }: Upload) {
  return before.pending_alerts.flatMap((alert) => {
    if (after.pending_alerts.some(({ id }) => id === alert.id)) return [];
    const isTakenOver = after.pending_alerts.some((other) => keyOf(other) === keyOf(alert));
    const earlyMs = Date.parse(alert.due) - actor.task.now.getTime();
    return { id: alert.id, channel: alert.channel, key: keyOf(alert), isTakenOver, earlyMs };
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
  const dropped = landings.flatMap((landing) =>
    takenBy(landing).filter(({ channel }) => channel === NO_OWNERS || landing.actor.broadcast === null),
  );
  const mayBeLost = [...refused, ...dropped.map(({ key }) => key)].filter((key) => !key.startsWith("null "));
  assert.ok(!taken.some(({ sent }) => sent.channel === NO_OWNERS), "A channel was told that no owner has");
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
  for (const [{ run, task, steps }, { after }] of last) {
    const isSettled =
      steps.findLastIndex(({ hasLanded }) => hasLanded) > steps.findIndex(({ kind }) => kind === "send");
    if (!run || !isSettled || !steps.some(({ kind }) => kind === "send")) continue;
    for (const { id, delivered } of run.messages) {
      const pending = after.pending_alerts.find((alert) => alert.id === id);
      assert.ok(!delivered || !pending, "A delivered message stays pending");
      const waitMs = pending ? Date.parse(pending.due) - task.now.getTime() : 0;
      assert.ok(waitMs === 0 || waitMs === LIMIT_MS, `A message is handed on in ${waitMs} ms`);
    }
  }
}

const channelsOf = (messages: Message[]) => [...new Set(messages.map(({ channel }) => channel))];

/**
 * Each channel is told in the order in which the document has its messages, and not on beyond the first that failed,
 * but for one that an owner's channel refused, which is dropped.
 */
function checkOrder({ actors, landings }: Played) {
  for (const { steps, broadcast } of actors) {
    const sends = steps.flatMap(({ fate, sent }) => (sent ? { fate, sent } : []));
    const recorded = landings.map(({ after }) => after.pending_alerts.map(({ id }) => id));
    for (const channel of channelsOf(sends.map(({ sent }) => sent))) {
      const queue = sends.filter(({ sent }) => sent.channel === channel);
      const goesOn = ({ fate }: { fate: Fate }) =>
        fate === "done" || fate === "echo" || (fate === "refused" && !!channel);
      assert.ok(queue.slice(0, -1).every(goesOn), `A run went on in ${channel ?? broadcast} after a failure`);
      const ids = queue.map(({ sent }) => sent.id);
      const order = recorded.find((all) => all.includes(ids[0] ?? ""))?.filter((id) => ids.includes(id));
      assert.deepEqual(ids, order, `A run told ${channel ?? broadcast} in another order than the document has`);
    }
  }
  for (const { before, after } of landings) {
    for (const channel of channelsOf(before.pending_alerts)) {
      const keysOf = (alerts: PendingMessage[]) => alerts.filter((alert) => alert.channel === channel).map(keyOf);
      const [was, is] = [keysOf(before.pending_alerts), keysOf(after.pending_alerts)];
      const stay = was.filter((key) => is.includes(key));
      assert.deepEqual(is.slice(0, stay.length), stay, "An upload changed the order of what a channel is to be told");
      const waiting = after.pending_alerts.filter((alert) => alert.channel === channel);
      const behind = waiting
        .slice(waiting.findIndex(({ held }) => held))
        .filter((alert) => !was.includes(keyOf(alert)));
      const isKept = !waiting.some(({ held }) => held) || behind.every(({ held }) => held);
      assert.ok(isKept, "A run goes ahead of what waits because Slack asked for it");
    }
  }
}

/** A document as it is stored, without an order of what passed. */
async function comparable({ passed, ...document }: JobExecutions) {
  const passes = [...passed].sort(([a], [b]) => (a < b ? -1 : 1));
  return { ...JSON.parse(await serializeDocument({ ...document, passed: new Map() })), passes };
}

/** What a run recorded for a channel in which Slack asked an earlier run to wait: it comes behind what waits there. */
const heldBy = ({ after }: Upload) => after.pending_alerts.filter(({ held }) => held).map(keyOf);

const keyOfRun = ({ pipeline, now }: Task) => `${pipeline.CI_PIPELINE_ID} ${now.getTime()}`;

async function checkPlayed(played: Played) {
  const { actors, landings, phases, stored } = played;
  const counts = landings.filter(isCount).map(({ actor }) => actor);
  const { document, owed } = fold(played, counts);
  assert.ok(
    landings.filter(isCount).every(({ actor, before, after }) => {
      const id = actor.task.pipeline.CI_PIPELINE_ID;
      const isRevised = after.pipeline_id === before.pipeline_id && after.counted_at === before.counted_at;
      return after.pipeline_id === id && (id > before.pipeline_id || (id === before.pipeline_id && isRevised));
    }),
    "A pipeline was counted twice, or out of order",
  );
  assert.deepEqual(
    await comparable(await parseDocument(stored.text)),
    await comparable(document),
    "The document is not what the counted pipelines give, with nothing pending",
  );
  checkTold(played, owed);
  checkHandedOn(played);
  checkOrder(played);

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
    assert.deepEqual(delivered.sort(), answered.sort(), "What a run reports as delivered is not what was answered");
  }
  for (const { actor } of ended.filter(({ run }) => run.outcome === "counted" || run.outcome === "revised")) {
    // A run without messages knows its upload by the pipeline and the time alone.
    const isAlike = counts.some(({ task }) => keyOfRun(task) === keyOfRun(actor.task));
    assert.ok(isAlike, "A run reports what another one counted");
  }

  // Conflicts and echoes are no trouble: where there was nothing else, a run does all that is its own to do.
  for (const { run, error } of actors.filter(({ steps }) => !steps.some(hasGoneWrong))) {
    assert.equal(error, undefined);
    assert.deepEqual(run?.errors, []);
  }
  const undisturbed = counts.filter((run) => !run.steps.some(hasGoneWrong) && owed.get(run)?.length !== 0);
  for (const actor of undisturbed) {
    assert.equal(actor.run?.outcome, "counted"); // a re-run that revises owes nothing
    const delivered = actor.run.messages.filter((message) => message.delivered).map(keyOf);
    const settled = new Set([...delivered, ...landings.filter((landing) => landing.actor === actor).flatMap(heldBy)]);
    assert.ok(
      owed.get(actor)?.every((key) => settled.has(key)),
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
  for (const _ of [1, 2]) start(taskFor(STORED + 1), [failed("lint")]);

  await drive([
    { pick: 0, fate: "done" }, // both list and read
    { pick: 0, fate: "done" },
    { pick: 1, fate: "done" },
    { pick: 1, fate: "done" },
    { pick: 1, fate: "done" }, // the second one uploads
    { pick: 0, fate: "echo" }, // the first one failed to, tried again, and can't know whose upload it meets
  ]);

  assert.deepEqual(
    world.taken.map(({ sent }) => sent.channel),
    [null, "#lint-owners"],
  );
});

test("checkConsistentFailures() tells nothing in a channel before what waits there because Slack asked for it", async () => {
  const pending_alerts = [pendingAlert("left over")];
  const before = { ...documentOf(["lint", history("✗✗")]), pending_alerts };
  const { world, start, drive } = createWorld(await serializeDocument(before));
  const done = { pick: 0, fate: "done" as const };

  start(taskFor(STORED), []); // it reads, lists, takes over what was left, and is asked to wait
  await drive([done, done, done, { pick: 0, fate: "limited" }]);
  start(taskFor(STORED + 1, MINUTE), [failed("lint")]);
  await drive([]);
  start(taskFor(STORED + 1, LIMIT_MS + MINUTE), []);
  await drive([]);

  assert.deepEqual(
    world.taken.map(({ sent: { channel, news } }) => [channel, news[0]?.job]),
    [
      ["#lint-owners", "lint"],
      [null, "left over"],
      [null, "lint"],
    ],
  );
});
