/**
 * Runs that meet on one document, in every order and with every accident that fast-check comes up with: nothing is
 * lost, and nothing is told twice. INTERLEAVINGS_SEED replays the seed that a failure prints; INTERLEAVINGS is how many
 * are tried.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import fc from "fast-check";
import { type JobExecutions, parseOwners, routeAlerts, updateStatistics, writeMessage } from "../check-failures.ts";
import { documentOf, environment, history, NOW, openAlert, pipelineJob } from "./support/builders.ts";
import { type Actor, createWorld, type Fate, type Step, type Taken } from "./support/gates.ts";
import { makeFolder } from "./support/run.ts";
import { parseDocument, serializeDocument } from "./support/stored.ts";

// ── An example: what was stored, what the pipelines did, who runs when, and what goes wrong.

const MINUTE = 60_000;
const timeout = 30 * MINUTE; // for as many as may be asked for
const STORED = documentOf().pipeline_id;
const JOBS = ["unit tests", "lint", "deploy"];
const OWNERS = "lint #lint-owners\ndeploy #deploy-owners\n";
const STATUSES = ["failed", "success", "skipped"];

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
  /** How many minutes ago each alert was claimed that earlier runs left over. */
  leftOver: fc.array(fc.constantFrom(1, 10), { maxLength: 2 }),
  /** The statuses of the three jobs in each pipeline, from the one before the stored one on. */
  statuses: exactly(8, exactly(3, fc.constantFrom("failed", "failed", ...STATUSES))),
  /** The runs in flight. None of them lives for two minutes, so they start within two. */
  runs: fc.array(
    fc.record({
      pipeline: fc.integer({ min: STORED - 1, max: STORED + 4 }),
      startedMs: fc.oneof(fc.constant(0), fc.nat(2 * MINUTE - 1)), // often in the same millisecond
    }),
    { minLength: 2, maxLength: 5 },
  ),
  /** Which step of which run comes next, and what becomes of it; after the last choice all goes well, in order. */
  choices: choiceOf(
    fc.oneof(
      { arbitrary: fc.constant<Fate>("done"), weight: 14 },
      { arbitrary: fc.constant<Fate>("echo"), weight: 3 },
      { arbitrary: fc.constantFrom<Fate>("failed", "lost", "dies"), weight: 3 },
    ),
  ),
  /** The runs that come when the others are over, undisturbed: again for what is stored then, or for a next pipeline. */
  later: fc.array(fc.constantFrom("again", "next"), { minLength: 1, maxLength: 2 }),
  laterChoices: choiceOf(fc.constant<Fate>("done")),
});
type Plan = typeof plans extends fc.Arbitrary<infer T> ? T : never;

// A file for each combination of statuses, where a run would ask GitLab: there are few, and they are written once.
const jobsWith = (statuses: string[]) => JOBS.map((name, i) => pipelineJob(name, `${statuses[i]}`, { id: i + 1 }));
const combinations = STATUSES.flatMap((a) => STATUSES.flatMap((b) => STATUSES.map((c) => [a, b, c])));
const folder = makeFolder({
  owners: OWNERS,
  ...Object.fromEntries(combinations.map((statuses) => [statuses.join("-"), jobsWith(statuses)])),
});
after(folder.remove);

async function documentBefore({ histories, leftOver }: Plan): Promise<string | undefined> {
  if (!histories) return undefined;
  const pending_alerts = leftOver.map((minutes, i) => ({
    channel: "#ci",
    text: `left over ${i}`,
    claimed_at: new Date(NOW.getTime() - minutes * MINUTE).toISOString(),
  }));
  const jobs = JOBS.flatMap((name, i): Parameters<typeof documentOf> => {
    const job = histories[i];
    return job ? [[name, job]] : [];
  });
  return serializeDocument({ ...documentOf(...jobs), pending_alerts });
}

/** Plays an example to its end, and resolves to the record of it. */
async function play(plan: Plan) {
  const before = await documentBefore(plan);
  const { world, start, drive } = createWorld(before);
  const startRun = (pipeline: number, startedMs: number) => {
    const statuses = plan.statuses[pipeline - STORED + 1] ?? [];
    const env = environment({
      CI_PIPELINE_ID: String(pipeline),
      CI_COMMIT_SHA: `c0ffee${pipeline}`,
      PIPELINE_JOBS_FILE: join(folder.path, statuses.join("-")),
      JOB_OWNERS_FILE: join(folder.path, "owners"),
    });
    start(env, new Date(NOW.getTime() + startedMs), jobsWith(statuses));
  };

  for (const { pipeline, startedMs } of plan.runs) startRun(pipeline, startedMs);
  await drive(plan.choices);
  const landedInFlight = world.landings.length;

  const { pipeline_id: last } = await parseDocument(world.stored.text);
  plan.later.forEach((kind, i) => {
    startRun(kind === "again" && last > 0 ? last : STORED + 5 + i, 7 * MINUTE + i);
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
    initial: await parseDocument(before),
    landings,
    phases: [landings.slice(0, landedInFlight), landings.slice(landedInFlight)],
  };
}
type Played = Awaited<ReturnType<typeof play>>;
type Upload = Played["landings"][number];

// ── What is expected of it, from the statistics and the messages alone.

const keyOf = ({ channel, text }: { channel: string | null; text: string }) => `${channel} ${text}`;

const statisticsOf = ({ pipeline_id, jobs }: JobExecutions) => JSON.stringify([pipeline_id, [...jobs]]);
const isCount = ({ before, after }: Upload) => statisticsOf(before) !== statisticsOf(after);

/** The document that the counting runs give, one after the other, and the messages that each of them owes. */
function fold(initial: JobExecutions, runs: Actor[]) {
  const owners = { rules: parseOwners(OWNERS, "owners"), channels: new Map<string, string>() };
  const owed = new Map<Actor, string[]>();
  let document: JobExecutions = { ...initial, pending_alerts: [] };
  for (const run of runs) {
    const { env, now } = run;
    const update = updateStatistics(document, run.jobs, env, now);
    const { routes } = routeAlerts(update.alerts, owners, env);
    const messages = [...routes].map(([channel, alerts]) => ({
      channel,
      text: writeMessage(alerts, { env, now, titles: new Map() }),
    }));
    owed.set(run, messages.map(keyOf));
    document = update.document;
  }
  return { document, owed };
}

const hasGoneWrong = ({ fate }: Step) => ["failed", "lost", "dies"].includes(fate);

/**
 * Whether the message that Slack took may be sent once more. There are two cases: Slack's answer got lost, so the run
 * could not know; or the answer came, but before the clearing was stored the run died, or failed to read or to upload
 * for the clearing. Where only the answer to that upload got lost there is none, because the alert is cleared.
 */
function mayComeAgain({ actor, step }: Taken): boolean {
  const next = actor.steps.slice(actor.steps.indexOf(step) + 1);
  const isBrokenOff = next.some((other) => other.fate === "dies" || (other.kind !== "send" && hasGoneWrong(other)));
  return step.fate === "lost" || (isBrokenOff && !next.some(({ hasLanded }) => hasLanded));
}

/** The alerts that an upload claimed, of those that were pending before it. */
function claimedBy({ actor, before, after }: Upload) {
  return before.pending_alerts.flatMap((alert) => {
    const renewed = after.pending_alerts.find((other) => keyOf(other) === keyOf(alert));
    const ageMs = actor.now.getTime() - Date.parse(alert.claimed_at);
    return renewed && renewed.claimed_at !== alert.claimed_at ? [{ key: keyOf(alert), ageMs }] : [];
  });
}

async function checkPlayed({ initial, actors, landings, phases, taken, stored }: Played) {
  const counts = landings.filter(isCount).map(({ actor }) => actor);
  const counted = counts.map(({ env }) => env.CI_PIPELINE_ID);
  const { document, owed } = fold(initial, counts);
  assert.ok(
    counted.every((id, i) => id > (counted[i - 1] ?? 0)),
    "A pipeline was counted twice, or out of order",
  );
  assert.deepEqual(
    JSON.parse(stored.text ?? ""),
    JSON.parse(await serializeDocument(document)),
    "The document is not what the counted pipelines give, with nothing pending",
  );

  const expected = new Set([...initial.pending_alerts.map(keyOf), ...[...owed.values()].flat()]);
  assert.deepEqual(new Set(taken.map(({ alert }) => keyOf(alert))), expected, "Not what there was to tell was told");
  const earlier = taken.filter(({ alert }, i) =>
    taken.slice(i + 1).some((later) => keyOf(later.alert) === keyOf(alert)),
  );
  assert.ok(earlier.every(mayComeAgain), "An alert was told again for no reason");

  for (const claims of phases.map((uploads) => uploads.flatMap(claimedBy))) {
    assert.ok(
      claims.every(({ ageMs }) => ageMs > 5 * MINUTE),
      "A run claimed what another may be sending",
    );
    assert.equal(new Set(claims.map(({ key }) => key)).size, claims.length, "Two runs claimed an alert");
  }

  const ended = actors.flatMap((actor) => (actor.run ? [{ ...actor, actor, run: actor.run }] : []));
  for (const { run, steps } of ended) {
    const delivered = run.messages.filter((message) => message.delivered).map(keyOf);
    const answered = steps.flatMap((step) => (step.alert && !hasGoneWrong(step) ? [keyOf(step.alert)] : []));
    assert.deepEqual(delivered.sort(), answered.sort(), "What a run reports as delivered is not what Slack answered");
  }
  for (const { actor, run, env, steps } of ended.filter(({ run }) => run.outcome === "counted")) {
    assert.ok(counted.includes(env.CI_PIPELINE_ID), "A run reports that it counted, but its pipeline is not stored");
    // With nothing to tell, a run can't know its own count from that of a re-run, where the store's answer is open.
    const isUnsure = run.messages.length === 0 && steps.some(({ kind, fate }) => kind === "upload" && fate === "echo");
    assert.ok(isUnsure || counts.includes(actor), "A run reports what another one counted");
  }
  for (const { actor, steps } of ended.filter(({ run }) => run.outcome === "out-of-order")) {
    assert.ok(!steps.some(({ kind }) => kind === "send"), "A run that is out of order sent something");
    const others = landings.filter((landing) => landing.actor === actor && !isCount(landing));
    assert.equal(others.length, 0, "A run that is out of order stored something");
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
      "A run left its own alerts to a later one",
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
  const statuses = ["skipped", "failed", "skipped"];
  const env = environment({ PIPELINE_JOBS_FILE: join(folder.path, statuses.join("-")) });
  for (const _ of [1, 2]) start(env, NOW, jobsWith(statuses));

  await drive([
    { pick: 0, fate: "done" }, // both read
    { pick: 1, fate: "done" },
    { pick: 1, fate: "done" }, // the second one uploads
    { pick: 0, fate: "echo" }, // the first one failed to, tried again, and can't know whose upload it meets
  ]);

  assert.equal(world.taken.length, 1);
});
