/**
 * What must come of a list of happenings: small, slow, and meant to be right at a glance. It knows nothing of the script.
 *
 * A job is what is known of it: its executions at their pipelines' places, its alert, and what each channel knows or may
 * know of that. A job that is not tracked is known by its last pass, if by anything. The channel "" is the broadcast
 * channel, whatever it is called.
 */

/**
 * What holds for every job: thresholds, window, who hears of it beside the broadcast channel, and who is mentioned. The
 * broadcast channel is called so, or is null where a command is told.
 */
export type Rules = {
  inARow: number;
  often: number;
  length: number;
  ignored: string[];
  channels: string[];
  mentions: string[];
  broadcast: string | null;
};

/** A pipeline was counted, and that is stored. `at` is in milliseconds; `did` has the jobs that ran in it. */
export type Counted = {
  what: "counted";
  run: string;
  pipeline: number;
  at: number;
  rules: Rules;
  did: Record<string, { failing: boolean; id: number }>;
};

/** A run has noted what became of its messages, by channel, and that is stored. */
export type Noted = { what: "noted"; run: string; rules: Rules; became: Record<string, Became> };

/** What became of a message, which was of these jobs. */
export type Became = { fate: "told" | "refused" | "unsure"; jobs: string[] };

export type Happening = Counted | Noted;

/** An execution. The `pipeline` of one that another version counted is not known: -1. */
export type Execution = {
  pipeline: number;
  failing: boolean;
  id: number | null;
  commit: string | null;
  title: string | undefined;
};

export type Kind = "consecutive" | "cumulative" | "recovered" | "gone";

export type Alert = {
  kind: Kind;
  /** The pipeline, the time and the day of its last change; and when it opened. */
  pipeline: number;
  changedAt: string;
  day: number | undefined;
  at: string;
  /** Up to which pipeline executions belong to the alert before. */
  after: number | undefined;
  isFlaky: boolean;
  times: number | undefined;
  executions: number | undefined;
  turned: { commit: string; title: string | undefined; from: string | undefined } | undefined;
};

/** A run that is telling a channel until then, or was: what it says of the alert. */
export type Claim = { run: string; until: number; isOpen: boolean; changedAt: string; mayBeKnown: boolean };

export type Job = {
  isTracked: boolean;
  executions: Execution[];
  streak: number;
  lastRun: string | undefined;
  lastDay: number | undefined;
  alert: Alert | undefined;
  /** What each channel was told last of the alert: its `changedAt`. */
  told: Map<string, string>;
  claims: Map<string, Claim>;
};

export type Known = {
  latest: number;
  countedAt: string | undefined;
  days: number;
  date: string;
  /** Who is saying hello, or was; undefined: it is said. */
  hello: { run: string; until: number } | undefined;
  jobs: Map<string, Job>;
};

const CLAIM_MS = 5 * 60_000;
const DAY_MS = 24 * 3_600_000;
const FORGET_DAYS = 30;

const NOTHING: Job = {
  isTracked: false,
  executions: [],
  streak: 0,
  lastRun: undefined,
  lastDay: undefined,
  alert: undefined,
  told: new Map(),
  claims: new Map(),
};

/** A window is as long as the largest threshold needs. */
export const lengthOf = ({ inARow, often, length }: Rules) => Math.max(inARow, often, length);

export const commitOf = (pipeline: number) => `c0ffee${pipeline}`;

export const titleOf = (pipeline: number) => `Change ${pipeline}`;

export const isOpen = (alert: Alert | undefined) => alert?.kind === "consecutive" || alert?.kind === "cumulative";

const failuresIn = (executions: Execution[]) => executions.filter(({ failing }) => failing).length;

const streaksIn = (executions: Execution[]) =>
  executions.filter(({ failing }, i) => failing && !executions[i - 1]?.failing).length;

/** How many executions at the end of a list failed, or passed. */
function atTheEnd(executions: Execution[], failing: boolean) {
  let count = 0;
  while (executions.at(-1 - count)?.failing === failing) count++;
  return count;
}

// ── A pipeline is counted: filed, and, if it is not late, judged and told.

/** What is known after a pipeline was counted. */
export function count(known: Known, counted: Counted): Known {
  const { pipeline, at } = counted;
  const isLate = pipeline < known.latest;
  const time = new Date(at).toISOString();
  const isNewDay = !isLate && time.slice(0, 10) > known.date;
  const days = known.days + (isNewDay ? 1 : 0);
  const names = new Set([...known.jobs.keys(), ...Object.keys(counted.did)]);
  const jobs = [...names].map((name): [string, Job] => {
    const filed = file(known.jobs.get(name) ?? NOTHING, name, counted, days);
    return [name, isLate ? filed : claim(judge(filed, name, counted, days), counted)];
  });
  if (isLate) return { ...known, jobs: new Map(jobs) };
  const isGreeting = known.hello !== undefined && !isInForce(known.hello, counted);
  return {
    latest: pipeline,
    countedAt: time,
    days,
    date: isNewDay ? time.slice(0, 10) : known.date,
    hello: isGreeting ? { run: counted.run, until: at + CLAIM_MS } : known.hello,
    jobs: new Map(jobs),
  };
}

/** Puts what a job did at its pipeline's place, instead of what it did there before. */
function file(job: Job, name: string, { pipeline, at, did, rules }: Counted, days: number): Job {
  const ran = did[name];
  if (!ran || rules.ignored.includes(name)) return job;
  const run = { lastDay: days, lastRun: new Date(at).toISOString() };
  const [oldest] = job.executions; // what came before it is not known
  if (oldest && oldest.pipeline > pipeline) return job.isTracked ? { ...job, ...run } : job;
  // What is known of the time before a job's first failure is a pass, also where that was of this very pipeline.
  const isBefore = (other: Execution) => other === job.executions[0] && !other.failing && ran.failing;
  const others = job.executions.filter((other) => other.pipeline !== pipeline || isBefore(other));
  const id = ran.failing ? ran.id : null;
  const execution = { pipeline, failing: ran.failing, id, commit: commitOf(pipeline), title: titleOf(pipeline) };
  const executions = [...others, execution].sort((a, b) => a.pipeline - b.pipeline);
  if (!job.isTracked && !ran.failing) return { ...job, ...run, executions: executions.slice(-1) };

  const failures = atTheEnd(executions, true);
  const isNew = others.length === job.executions.length;
  const streak = failures === executions.length ? Math.max(failures, job.streak + (isNew ? 1 : 0)) : failures;
  const length = Math.max(lengthOf(rules), job.executions.length);
  return { ...job, ...run, isTracked: true, executions: titled(executions.slice(-length)), streak };
}

/** A title stands only where the outcome is another one than before. */
const titled = (executions: Execution[]) =>
  executions.map((one, i) => (executions[i - 1]?.failing === !one.failing ? one : { ...one, title: undefined }));

/** The executions that do not belong to an alert before. */
function ownExecutions({ executions, alert }: Job) {
  const last = isOpen(alert) ? alert?.after : alert?.pipeline;
  if (last === undefined) return executions;
  return executions.filter(({ pipeline, failing }) => pipeline > last || (pipeline === last && failing));
}

/** How often a job failed in a row: where that is its whole window, for as long as its streak is known to be. */
const failedInARow = (job: Job, own: Execution[]) =>
  atTheEnd(own, true) === job.executions.length ? job.streak : atTheEnd(own, true);

/** What the table of rules says. */
function changeOf(job: Job, { inARow, often }: Rules): Kind | "flaky" | undefined {
  const own = ownExecutions(job);
  const failed = failedInARow(job, own);
  const passed = atTheEnd(own, false);
  const { alert } = job;
  if (!alert || !isOpen(alert)) {
    if (failed >= inARow) return "consecutive";
    return own.at(-1)?.failing && failuresIn(own) >= often ? "cumulative" : undefined;
  }
  const isBroken = alert.kind === "consecutive" && !alert.isFlaky;
  if (!isBroken && failed >= 2 * inARow) return "consecutive";
  if (passed >= inARow && streaksIn(own) <= 1) return "recovered";
  return passed >= inARow && isBroken ? "flaky" : undefined;
}

const isLongAgo = (day: number | undefined, days: number) => day !== undefined && days - day > FORGET_DAYS;

function judge(job: Job, name: string, { pipeline, at, rules }: Counted, days: number): Job {
  const cut = { ...job, executions: job.executions.slice(-lengthOf(rules)), lastDay: job.lastDay ?? days };
  // Another version noted nothing of what it told.
  const isUnsaid = isOpen(job.alert) && job.alert?.times === undefined;
  const facts = job.alert && isUnsaid ? factsOf(cut, job.alert.kind) : {};
  const known = { ...cut, alert: job.alert && { ...job.alert, ...facts } };

  const isGone = rules.ignored.includes(name) || isLongAgo(known.lastDay, days);
  const change = isGone ? (isOpen(job.alert) ? "gone" : undefined) : changeOf(known, rules);
  const now = { pipeline, changedAt: new Date(at).toISOString(), day: days };
  const judged = job.isTracked && change ? changed(known, change, now) : known;
  const isGivenUp = judged.alert && !isOpen(judged.alert) && isLongAgo(judged.alert.day, days);
  const after = isGivenUp ? { ...judged, ...NOBODY } : judged;

  const isAwaited = after.told.size + after.claims.size > 0;
  if ((failuresIn(after.executions) > 0 && !isGone) || isOpen(after.alert) || isAwaited) return after;
  const last = after.executions.slice(-1).filter(({ commit }) => commit);
  return { ...NOTHING, executions: isGone ? [] : last, lastDay: after.lastDay };
}

const NOBODY = { told: new Map<string, string>(), claims: new Map<string, Claim>() };

function changed(job: Job, change: Kind | "flaky", now: Pick<Alert, "pipeline" | "changedAt" | "day">): Job {
  const { alert } = job;
  if (change === "flaky") return { ...job, alert: alert && { ...alert, isFlaky: true } };
  const facts = { ...now, kind: change, ...factsOf(job, change) };
  if (alert && isOpen(alert)) {
    const isSilent = change === "recovered" && alert.kind === "cumulative" && !alert.isFlaky;
    return { ...job, alert: { ...alert, ...facts, isFlaky: false }, ...(isSilent ? NOBODY : {}) };
  }
  const isAwaited = job.told.size + job.claims.size > 0;
  const isFlaky = change === "cumulative" && isAwaited;
  return { ...job, alert: { ...facts, at: now.changedAt, after: alert?.pipeline, isFlaky } };
}

/** What is true of an alert: how often the job failed or passed, and where the last streak of that began. */
function factsOf(job: Job, kind: Kind): Pick<Alert, "times" | "executions" | "turned"> {
  const own = ownExecutions(job);
  if (kind === "gone") return { times: undefined, executions: undefined, turned: undefined };
  if (kind === "cumulative") return { times: failuresIn(own), executions: own.length, turned: undefined };
  const failing = kind === "consecutive";
  // Only in an alert of another version something else may have come after the streak.
  const ended = own.slice(0, own.length - atTheEnd(own, !failing));
  const length = atTheEnd(ended, failing);
  const times = failing ? Math.max(length, failedInARow(job, own)) : length;
  const first = ended.at(-length);
  if (!first?.commit || length === 0) return { times, executions: undefined, turned: undefined };
  const { commit, title } = first;
  const before = job.executions[job.executions.indexOf(first) - 1];
  const from = before && before.failing !== failing ? (before.commit ?? undefined) : undefined;
  return { times, executions: undefined, turned: { commit, title, from } };
}

// ── Who is told what.

/** Where a channel's messages go: to the broadcast channel, if it is that; where there are no channels, all goes there. */
export const addressOf = (channel: string, { broadcast }: Rules) =>
  broadcast === null || channel === broadcast ? "" : channel;

/** Whether another run is telling. One that says that it will for over a day has a wrong clock. */
const isInForce = (claim: { run: string; until: number }, { at, run }: Counted) =>
  claim.run !== run && claim.until > at && claim.until <= at + DAY_MS;

/** The channels that a run tells of a job: of an open alert all of today, of an end those that know or may know of it. */
function channelsToTell({ alert, told, claims }: Job, counted: Counted) {
  const { rules } = counted;
  const toAddress = (channel: string) => addressOf(channel, rules);
  const audience = isOpen(alert) ? ["", ...rules.channels] : [...told.keys(), ...claims.keys()];
  const knowing = [...told.keys()].filter((channel) => isOpen(alert) && told.get(channel) === alert?.changedAt);
  const claimed = [...claims].flatMap(([channel, claim]) => (isInForce(claim, counted) ? channel : []));
  const skipped = [...knowing, ...claimed].map(toAddress);
  return [...new Set(audience.map(toAddress))].filter((channel) => !skipped.includes(channel));
}

function claim(job: Job, counted: Counted): Job {
  const { alert } = job;
  if (!alert) return job;
  const claims = new Map(job.claims);
  for (const channel of channelsToTell(job, counted)) {
    const earlier = [...job.claims].filter(([other]) => addressOf(other, counted.rules) === channel);
    for (const [other] of earlier) claims.delete(other);
    claims.set(channel, {
      run: counted.run,
      until: counted.at + CLAIM_MS,
      isOpen: isOpen(alert),
      changedAt: alert.changedAt,
      mayBeKnown: earlier.some(([, { run }]) => run !== counted.run),
    });
  }
  return { ...job, claims };
}

// ── A run notes what it told.

/** What is known after a run has noted what became of its messages. */
export function note(known: Known, { run, rules, became }: Noted): Known {
  const jobs = new Map<string, Job>();
  for (const [name, job] of known.jobs) {
    const [told, claims] = [new Map(job.told), new Map(job.claims)];
    for (const [channel, claim] of job.claims) {
      const { fate, jobs = [] } = became[channel] ?? {};
      if (claim.run !== run || !jobs.includes(name)) continue;
      const isOfChannel = (other: string) => addressOf(other, rules) === channel;
      for (const other of claims.keys()) if (isOfChannel(other)) claims.delete(other);
      for (const other of told.keys()) if (fate === "told" && isOfChannel(other)) told.delete(other);
      if (fate === "told" && claim.isOpen) told.set(channel, claim.changedAt);
      // The channel may know, and nobody is telling it any more.
      if (fate === "unsure" || (fate === "refused" && claim.mayBeKnown)) claims.set(channel, { ...claim, until: 0 });
    }
    jobs.set(name, { ...job, told, claims });
  }
  const greeting = known.hello?.run === run ? became[""]?.fate : undefined;
  const hello = greeting && (greeting === "told" ? undefined : { run, until: 0 });
  return greeting ? { ...known, jobs, hello } : { ...known, jobs };
}
