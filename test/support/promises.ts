/**
 * What must hold of whatever was played, each checked on the record alone: on what was counted, stored and told, without
 * the model's rules for alerts and claims.
 */
import assert from "node:assert/strict";
import { type Alert, type Execution, type JobExecutions, SLACK, writeMessage } from "../../check-failures.ts";
import { addressOf, commitOf, lengthOf, type Rules, titleOf } from "./model.ts";
import { type Actor, JOBS, type Landing, type Played, type Taken } from "./play.ts";

const isOpen = (alert: Alert | undefined) => alert?.kind === "consecutive" || alert?.kind === "cumulative";

const nameOf = (channel: string) => channel || "the broadcast channel";

const wordOf = ({ order, name }: Actor) => `${order.outcomes}${order.pipeline} (${name})`;

const isCounted = ({ happening }: Landing): boolean => happening.what === "counted";

const wasNoted = ({ landings }: Played, actor: Actor) =>
  landings.some((landing) => landing.actor === actor && landing.happening.what === "noted");

// ── The truth: all that was counted of a job, each pipeline once, as it did last.

type Fact = { pipeline: number; failing: boolean; id: number | null; commit: string | null };

/** What a job did, as far as it was counted up to a landing and not forgotten, in the order of the pipelines. */
function truthOf({ start, landings }: Played, job: string, until: Landing): Fact[] {
  const first: Fact[] = start.jobs.get(job)?.executions ?? [];
  return landings.slice(0, landings.indexOf(until) + 1).reduce((facts, { happening, document: { jobs, passed } }) => {
    if (!jobs.has(job) && !passed.has(job)) return [];
    const did = happening.what === "counted" ? happening.did[job] : undefined;
    if (happening.what !== "counted" || !did || happening.rules.ignored.includes(job)) return facts;
    const { pipeline } = happening;
    // Another version did not say where the executions before its last pipeline belong.
    if (facts.some((fact) => fact.pipeline < 0) && pipeline < start.latest) return facts;
    const others = facts.filter((fact) => fact.pipeline !== pipeline);
    const fact = { pipeline, failing: did.failing, id: did.id, commit: commitOf(pipeline) };
    return [...others, fact].sort((a, b) => a.pipeline - b.pipeline);
  }, first);
}

/** Whether a job has done so in a pipeline in any of its runs. */
const everDid = ({ start, landings }: Played, job: string, commit: string, failing: boolean) =>
  (start.jobs.get(job)?.executions ?? []).some((one) => one.commit === commit && one.failing === failing) ||
  landings.some(
    ({ happening }) =>
      happening.what === "counted" &&
      commitOf(happening.pipeline) === commit &&
      happening.did[job]?.failing === failing,
  );

// ── 1 and 9. What is open is told, and what is said is true.

/** An alert that is open was told to each channel of today. To be asked when the chat has worked for two runs. */
export function checkOpenIsTold({ landings, rules, start, taken }: Played) {
  for (const [job, { alert }] of landings.at(-1)?.document.jobs ?? []) {
    if (!alert || !isOpen(alert)) continue;
    for (const channel of ["", ...rules.channels]) {
      const isHere = (other: string) => addressOf(other, rules) === addressOf(channel, rules);
      const isBeforehand = isHere("") && alert.changed_at === start.jobs.get(job)?.alert?.at;
      const isTold = taken.some(
        ({ channel, news }) => isHere(channel) && news.job === job && news.alert.changed_at === alert.changed_at,
      );
      assert.ok(isTold || isBeforehand, `${nameOf(channel)} was not told that ${job} is ${alert.kind}`);
    }
  }
}

/** How often, first where, changes since where, how long ago, and whether it has passed since. */
export function checkSaidIsTrue(played: Played) {
  for (const taken of played.taken) {
    const { actor, news } = taken;
    const { alert, job } = news;
    // A run may count twice, where another one stored something in between.
    const changed = played.landings.find(
      ({ happening, document }) =>
        happening.what === "counted" &&
        new Date(happening.at).toISOString() === alert.changed_at &&
        document.jobs.get(job)?.alert?.changed_at === alert.changed_at,
    );
    const said = `${nameOf(taken.channel)} was told by ${wordOf(actor)} that ${job} is ${alert.kind}`;
    if (changed) checkFacts(played, taken, truthOf(played, job, changed), said);
    if (changed?.happening.what === "counted") checkReason(alert, changed.happening.rules, said);
    const told = played.landings.findLast((landing) => landing.actor === actor && isCounted(landing));
    assert.ok(told, `${said} before it was counted`);
    const { jobs } = told.document;
    const open = [...jobs.values()].filter((one) => isOpen(one.alert)).length;
    assert.equal(taken.message.open, open, `${said}, and that ${open} alerts are open`);
    const { jobs_info = [] } = jobs.get(job) ?? {};
    checkNow(played, taken, truthOf(played, job, told).slice(-jobs_info.length), said); // as far as its window goes
    checkText(taken, said);
  }
}

/** Nobody is told of less than the rules ask for. */
function checkReason({ kind, times = 0 }: Alert, { inARow, often }: Rules, said: string) {
  const least = { consecutive: inARow, cumulative: often, recovered: inARow, gone: 0 }[kind];
  assert.ok(times >= least, `${said} after ${times} times, with ${least} as the threshold`);
}

function checkFacts(played: Played, { news: { alert, job } }: Taken, truth: Fact[], said: string) {
  const { kind, times = 0, executions = 0, turned } = alert;
  const number = Number(turned?.commit.slice(commitOf(0).length - 1));
  if (turned?.title) assert.equal(turned.title, titleOf(number), `${said}, at a commit with another title`);
  if (kind === "cumulative") {
    // One more where the pass in front is of the same pipeline as the failure after it.
    const counts = [executions, executions - 1].map((count) => truth.slice(-count).filter((one) => one.failing).length);
    assert.ok(counts.includes(times), `${said}, ${times} times in the last ${executions} executions`);
    return;
  }
  if (kind === "gone") return;
  const failing = kind === "consecutive";
  const streak = truth.slice(truth.findLastIndex((one) => one.failing !== failing) + 1);
  assert.ok(times <= Math.max(streak.length, longestBefore(played, job)), `${said}, ${times} times in a row`);
  if (!turned) return;
  const first = truth.findIndex((one) => one.commit === turned.commit);
  const isStreak = first >= 0 && truth.slice(first).every((one) => one.failing === failing);
  assert.ok(isStreak, `${said}, first at ${turned.commit}`);
  if (turned.from === undefined) return;
  assert.equal(truth.length - first, times, `${said}, first at ${turned.commit}, ${times} times`);
  const before = truth[first - 1];
  const isAsBefore = before?.commit === turned.from && before.failing !== failing;
  const isItself = turned.from === turned.commit && everDid(played, job, turned.commit, !failing);
  assert.ok(isAsBefore || isItself, `${said}, changes since ${turned.from}`);
}

/** How long a streak may have been before it was read. */
const longestBefore = ({ start, landings }: Played, job: string) =>
  Math.max(
    start.jobs.get(job)?.streak ?? 0,
    ...landings.map(({ document }) => document.jobs.get(job)?.consecutive_failures ?? 0),
  );

function checkNow(played: Played, { news, actor }: Taken, truth: Fact[], said: string) {
  const { alert, job, failures, hasPassedSince, listed } = news;
  const { did, rules } = actor.counted;
  const isListed = !rules.ignored.includes(job) && did[job]?.failing === isOpen(alert) && alert.kind !== "gone";
  assert.equal(listed?.id, isListed ? did[job]?.id : undefined, `${said}, linked to a job`);
  if (!isOpen(alert)) {
    assert.deepEqual({ failures, hasPassedSince }, { failures: [], hasPassedSince: false }, said);
    return;
  }
  // Of a broken job what came since the streak began that is told.
  const isBroken = alert.kind === "consecutive";
  const { after = -2 } = alert; // up to there all belongs to an alert before
  const own = truth.filter((one) => one.pipeline > after || (one.pipeline === after && one.failing));
  const until = own.filter(({ pipeline }) => pipeline <= alert.pipeline_id);
  const ended = until.slice(0, until.findLastIndex((one) => one.failing) + 1);
  const [first] = ended.slice(ended.findLastIndex((one) => !one.failing) + 1);
  const since = isBroken && first ? own.slice(own.indexOf(first)) : own;
  const failed = since.flatMap((one) => (one.failing ? (one.id ?? []) : []));
  assert.equal(failures.length > 0, failed.length > 0, `${said}, with links to ${failures}`);
  assert.deepEqual(failures, failed.slice(-failures.length), `${said}, with links`);
  const hasPassed = isBroken && since.some((one) => !one.failing);
  // A pass that a re-run has taken back may stay in front of the window: it was there.
  const isTakenBack = hasPassedSince && since.some(({ commit }) => everDid(played, job, `${commit}`, false));
  if (!isTakenBack) assert.equal(hasPassedSince, hasPassed, `${said}, has passed since: ${hasPassedSince}`);
}

/** What a text says of a job alone. */
function checkText({ news, message, actor }: Taken, said: string) {
  const { alert, job } = news;
  const line = writeMessage(message, SLACK)
    .split("\n")
    .find((text) => new RegExp(`^\\S+ ${job} (?!.*in acme/shop)`).test(text));
  if (!line) return; // told together with another one
  const number = (pattern: RegExp) => Number(pattern.exec(line)?.[1] ?? Number.NaN);
  if (alert.kind !== "gone") assert.equal(number(/(?:failed|passed) (\d+) times?/), alert.times, `${said}: ${line}`);
  const [, first = ""] = /first at (\w+)/.exec(line) ?? [];
  assert.equal(first, alert.turned?.commit.slice(0, 8) ?? "", `${said}: ${line}`);
  const [, since] = /changes since (\w+)/.exec(line) ?? [];
  if (since) assert.equal(since, alert.turned?.from?.slice(0, 8), `${said}: ${line}`);
  const minutes = { minute: 1, hour: 60, day: 24 * 60 };
  const [, count, unit] = /, (\d+) (minute|hour|day)s? ago/.exec(line) ?? [];
  const lateMinutes = (actor.task.now.getTime() - Date.parse(alert.changed_at)) / 60_000;
  const saidMinutes = Number(count ?? 0) * minutes[(unit ?? "day") as keyof typeof minutes];
  assert.ok(Math.abs(saidMinutes - Math.max(0, lateMinutes)) < Math.max(60, lateMinutes / 2), `${said}: ${line}`);
  assert.equal(line.includes("passed since"), news.hasPassedSince, `${said}: ${line}`);
}

/** Whom a rule mentions is mentioned in its channels, or, where it has none, to all; for what opened only. */
export function checkMentions({ taken }: Played) {
  for (const { actor, channel, message } of taken) {
    const { rules } = actor.counted;
    const places = rules.channels.length > 0 ? rules.channels.map((place) => addressOf(place, rules)) : [""];
    const isOpening = message.news.some(({ alert }) => isOpen(alert));
    const expected = isOpening && places.includes(channel) ? rules.mentions : [];
    assert.deepEqual(message.mentions, expected, `Mentioned in ${nameOf(channel)} by ${wordOf(actor)}`);
  }
}

// ── 2. Nothing is told twice.

const keyOf = ({ actor, channel, news: { job, alert } }: Taken) =>
  [channel || `broadcast to ${actor.counted.rules.broadcast}`, job, alert.kind, alert.at, alert.changed_at].join(" ");

/**
 * Nothing is told twice to a channel, unless an answer was lost, the run could not note what it had told, or it met one
 * whose clock is more than five minutes off.
 */
export function checkToldOnce(played: Played) {
  const told = new Map<string, Taken>();
  for (const taken of played.taken) {
    const key = keyOf(taken);
    const before = told.get(key);
    const mayComeAgain =
      !before ||
      before.actor.isSkewed ||
      before.actor.became[taken.channel]?.fate === "unsure" ||
      !wasNoted(played, before.actor);
    assert.ok(mayComeAgain, `${wordOf(taken.actor)} told again: ${key}`);
    told.set(key, taken);
  }
}

// ── 3. Whoever was told hears of the end, once; nobody else does.

/** What a channel has heard of a job, or may have, from runs that have not said what became of it. */
type Hearing = { isHeard: boolean; isBroken: boolean; mayBe: Set<Actor>; ending: Actor | undefined };

const nothingHeard = (): Hearing => ({ isHeard: false, isBroken: false, mayBe: new Set(), ending: undefined });

const GIVE_UP_DAYS = 30;

export function checkEnds(played: Played) {
  for (const job of JOBS) checkEndsOf(played, job);
}

function checkEndsOf({ start, story, actors }: Played, job: string) {
  const isSkewed = actors.some((actor) => actor.isSkewed); // then two may tell, in any order
  const kind = start.jobs.get(job)?.alert?.kind;
  const beforehand = { ...nothingHeard(), isHeard: kind !== undefined, isBroken: kind === "consecutive" };
  const hearings: Record<string, Hearing> = { "": beforehand, "#own": nothingHeard(), "#two": nothingHeard() };
  let closedOn: number | undefined;

  for (const event of story) {
    const { actor } = "landing" in event ? event.landing : event.taken;
    // Where a channel is the broadcast channel by now, or all is told to a command, these are one.
    const oneWith = (channel: string) =>
      Object.keys(hearings).filter((other) => addressOf(other, actor.counted.rules) === channel);
    const hearingsOf = (channel: string) => oneWith(channel).flatMap((other) => hearings[other] ?? []);

    if ("landing" in event) {
      const { jobs, days } = event.landing.document;
      const isGivenUp = days - (closedOn ?? days) > GIVE_UP_DAYS;
      const alert = jobs.get(job)?.alert;
      closedOn = isOpen(alert) ? undefined : alert?.day;
      for (const [channel, hearing] of Object.entries(hearings)) {
        if (isGivenUp) Object.assign(hearing, nothingHeard());
        follow(hearing, hearingsOf(channel), event.landing, job, channel);
      }
      continue;
    }
    const { channel, news } = event.taken;
    if (news.job !== job) continue;
    if (isOpen(news.alert)) {
      const isBroken = hearings[channel]?.isBroken || news.alert.kind === "consecutive";
      Object.assign(hearings[channel] ?? {}, { isHeard: true, isBroken, ending: undefined });
      continue;
    }
    const mayHave = hearingsOf(channel).some(({ isHeard, mayBe }) => isHeard || mayBe.size > 0);
    assert.ok(
      mayHave || isSkewed,
      `${nameOf(channel)} heard from ${wordOf(actor)} of an end of ${job} that it knew nothing of`,
    );
    for (const hearing of hearingsOf(channel)) Object.assign(hearing, { isBroken: false, ending: actor });
  }
  for (const [channel, { isBroken }] of Object.entries(hearings)) {
    assert.ok(!isBroken || isSkewed, `${nameOf(channel)} was told that ${job} is broken, and never of the end`);
  }
}

/** What an upload changes in what a channel knows, or may know. */
function follow(hearing: Hearing, all: Hearing[], landing: Landing, job: string, channel: string) {
  const { actor, happening, document } = landing;
  const alert = document.jobs.get(job)?.alert;
  const claim = alert?.claims?.[channel];
  if (happening.what === "counted") {
    if (isOpen(alert) && claim?.by === actor.name) hearing.mayBe.add(actor);
    const isAwaited = Object.keys({ ...alert?.told, ...alert?.claims }).length > 0;
    const isForgotten = !hearing.isBroken && !isOpen(alert) && !isAwaited;
    if (isForgotten) Object.assign(hearing, { isHeard: false, mayBe: new Set() });
    return;
  }
  const { fate: became, jobs = [] } = happening.became[channel] ?? {};
  if (!jobs.includes(job)) return;
  if (became !== "unsure") hearing.mayBe.delete(actor);
  if (became !== "told" || hearing.ending !== actor) return;
  for (const one of all) Object.assign(one, nothingHeard());
}

// ── 4. Failures in a row open, passes close.

export function checkRows({ landings }: Played) {
  for (const job of JOBS) {
    const row = { failing: false, length: 0 };
    let latest = 0;
    for (const { actor, happening, document, before } of landings) {
      if (happening.what !== "counted") continue;
      const { did, pipeline, rules } = happening;
      const ran = did[job];
      const isNew = pipeline > Math.max(before.latest, latest);
      latest = Math.max(latest, pipeline);
      const isForgotten = !document.jobs.has(job) || document.jobs.get(job)?.alert?.kind === "gone";
      if (!isNew || isForgotten || rules.ignored.includes(job)) {
        row.length = 0;
        continue;
      }
      if (!ran) continue;
      Object.assign(row, { failing: ran.failing, length: row.failing === ran.failing ? row.length + 1 : 1 });
      const { alert, jobs_info = [] } = document.jobs.get(job) ?? {};
      const isRow = row.length >= rules.inARow;
      if (isRow && row.failing) {
        assert.ok(
          isOpen(alert),
          `${job} failed ${row.length} times in a row, and no alert is open after ${wordOf(actor)}`,
        );
      }
      const isOneStreak = /^P*F*P*$/.test(jobs_info.map(({ failing }) => (failing ? "F" : "P")).join(""));
      if (isRow && !row.failing && isOneStreak) {
        assert.ok(
          !isOpen(alert),
          `${job} passed ${row.length} times in a row, and its alert is open after ${wordOf(actor)}`,
        );
      }
    }
  }
}

// ── 7. Nothing stays for ever, and nothing grows.

/** To be asked when all has passed for longer than a window. */
export function checkNothingStays({ landings }: Played) {
  const document = landings.at(-1)?.document;
  assert.ok(document);
  const { jobs, passed, hello } = document;
  assert.deepEqual([...jobs.keys()], [], "A job is tracked that has only passed");
  assert.ok([...passed.keys()].every((name) => JOBS.includes(name)));
  assert.equal(hello, undefined, "Hello is not said");
}

export function checkNothingGrows({ landings }: Played) {
  for (const { actor, happening, document, before } of landings) {
    if (happening.what !== "counted" || happening.pipeline < before.latest) continue;
    for (const [name, { jobs_info, alert }] of document.jobs) {
      assert.ok(
        jobs_info.length <= lengthOf(happening.rules),
        `The window of ${name} is too long after ${wordOf(actor)}`,
      );
      const isAwaited = alert && Object.keys({ ...alert.told, ...alert.claims }).length > 0;
      const isOld = alert && !isOpen(alert) && document.days - (alert.day ?? 0) > 30;
      assert.ok(!isAwaited || !isOld, `The end of ${name} is still to be told after ${wordOf(actor)}`);
    }
    for (const [name, { day }] of document.passed) {
      assert.ok(document.days - day <= 30, `The pass of ${name} stays after ${wordOf(actor)}`);
    }
  }
}

// ── 8. Nothing vanishes.

export function checkNothingVanishes(played: Played) {
  const { landings } = played;
  landings.forEach(({ actor, happening, document }, i) => {
    const before = landings[i - 1]?.document;
    for (const [name, { jobs_info, alert, last_day }] of before?.jobs ?? []) {
      const now = document.jobs.get(name);
      const after = `after ${wordOf(actor)}`;
      const isForgotten = happening.what === "counted" && happening.rules.ignored.includes(name);
      const isExpired = document.days - (last_day ?? document.days) > 30;
      if (isOpen(alert) && !isOpen(now?.alert)) {
        assert.equal(happening.what, "counted", `The alert of ${name} vanished ${after}`);
        const isGone = isForgotten || isExpired;
        const isMended = /P$/.test(stripOf(now?.jobs_info ?? []));
        const isUntracked = now === undefined && document.passed.has(name);
        assert.ok(isGone || isMended || isUntracked, `The alert of ${name} closed ${after}`);
      }
      if (happening.what === "noted") assert.ok(now, `${name} vanished ${after}`);
      if (isForgotten || isExpired || happening.what === "noted") continue;
      const kept = new Set(now?.jobs_info.map((one) => one.id));
      for (const failure of jobs_info.filter(({ failing }) => failing)) {
        const newer = [...union(jobs_info, now?.jobs_info ?? passOf(document, name))].filter(
          ([id]) => id > placeOf(failure),
        );
        const isOut = newer.length >= lengthOf(happening.rules) || placeOf(failure) === -1;
        const isReplaced = failure.pipeline === happening.pipeline;
        assert.ok(
          kept.has(failure.id) || isOut || isReplaced,
          `The failure ${failure.pipeline} of ${name} vanished ${after}`,
        );
      }
    }
  });
}

const placeOf = ({ pipeline = -1 }: Execution) => pipeline;

const stripOf = (executions: Execution[]) => executions.map(({ failing }) => (failing ? "F" : "P")).join("");

const union = (before: Execution[], after: Execution[]) =>
  new Map([...before, ...after].map((one) => [placeOf(one), one]));

function passOf({ passed }: JobExecutions, name: string): Execution[] {
  const pass = passed.get(name);
  return pass ? [{ id: null, failing: false, ...pass }] : [];
}

// ── Of the run itself.

/** For how long a late pipeline may come: then its ids must have begun anew. */
const BEGAN_ANEW_MS = 7 * 24 * 3_600_000;

/** Where nothing goes wrong, a run says nothing of errors; where a channel or the store fails it, it does. */
export function checkReports({ actors }: Played) {
  for (const actor of actors) {
    const { struck, run, error, isDead } = actor;
    const word = wordOf(actor);
    const went = [...struck];
    const isStoreFailing = went.some(([place, fate]) => /^(read|count)$/.test(place) && /^(fails|loses)$/.test(fate));
    const { pipeline, at } = actor.counted;
    const { latest, countedAt = "" } = actor.known;
    const isAnew = pipeline < latest && at - Date.parse(countedAt) > BEGAN_ANEW_MS;
    assert.equal(error !== undefined, (isStoreFailing || isAnew) && !isDead, `${word}: ${error?.message}`);
    if (!run) continue;
    const failing = went.filter(([, fate]) => /^(fails|loses|refuses|hangs)$/.test(fate)).map(([place]) => place);
    const isFailing = failing.some((place) => /^(#ci|reread|note)$/.test(place));
    assert.equal(run.errors.length > 0, isFailing, `${word} said: ${run.errors}`);
    assert.equal(
      run.warnings.length > 0,
      failing.includes("#own") || failing.includes("#two"),
      `${word}: ${run.warnings}`,
    );
  }
}

/** A run knows its own upload by its id: none has that of another. */
export function checkUploads({ landings }: Played) {
  const ids = landings.map(({ document }) => document.upload);
  assert.ok(ids.every(Boolean), "An upload has no id");
  assert.ok(!landings.some(({ text }) => /"(told|claims|passed)":\{\}/.test(text)), "Something empty is stored");
  assert.equal(new Set(ids).size, ids.length, "Two uploads have one id");
}

/** Of a dry run nothing stays, and nobody hears. */
export function checkDryRuns({ actors, landings, taken, greetings }: Played) {
  for (const actor of actors.filter(({ order }) => order.isDry)) {
    const isHeard = greetings.includes(actor) || taken.some((one) => one.actor === actor);
    const isStored = landings.some((landing) => landing.actor === actor);
    assert.ok(!isHeard && !isStored, `${wordOf(actor)} is a dry run`);
    assert.ok(actor.run?.messages.every(({ delivered }) => !delivered) ?? true);
  }
}

/** Whoever starts a document says hello, once, as soon as the chat takes it. */
export function checkHello(played: Played) {
  const { greetings, landings } = played;
  const isNew = !/^(empty|original|v\d)/.test(played.words) && landings.length > 0;
  assert.equal(greetings.length > 0, isNew, "Hello is said of a new document");
  const mayComeAgain = (actor: Actor) =>
    actor.isSkewed || actor.became[""]?.fate === "unsure" || !wasNoted(played, actor);
  assert.ok(greetings.slice(0, -1).every(mayComeAgain), "Hello is said again");
}

/** What matters of a document: not when it was stored, by which upload, and when a job ran last. */
export function whatMatters({ jobs, passed, pipeline_id, hello }: JobExecutions) {
  const tracked = [...jobs].map(([name, { consecutive_failures, jobs_info, alert }]) => {
    const window = jobs_info.map(({ failing, pipeline }) => `${failing ? "F" : "P"}${pipeline}`).join(" ");
    const told = Object.keys({ ...alert?.told, ...alert?.claims }).sort();
    return [name, consecutive_failures, window, alert?.kind, alert?.times, ...told];
  });
  const passes = [...passed].map(([name, { pipeline }]) => [name, pipeline]);
  return { pipeline_id, isHelloSaid: hello === undefined, tracked: tracked.sort(), passes: passes.sort() };
}
