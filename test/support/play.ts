/**
 * Plays orders in words (orders.ts) with the real `checkConsistentFailures`, on a store and a chat in which each step can
 * be held, go wrong, or be the last of its run. Keeps a record of all that was stored and told, and what the model makes
 * of it.
 */
import { setImmediate as tick } from "node:timers/promises";
import {
  checkConsistentFailures,
  type JobExecutions,
  type Message,
  type News,
  type PipelineJob,
  type Run,
  type Store,
  type Task,
  type World,
} from "../../check-failures.ts";
import { memoryStore, settings } from "./builders.ts";
import {
  type Became,
  type Counted,
  commitOf,
  count,
  type Execution,
  type Happening,
  type Known,
  note,
  type Rules,
  titleOf,
} from "./model.ts";
import { type Beginning, BROADCAST, type Fate, type Order, PLAIN_RULES, parseOrders, type RunOrder } from "./orders.ts";

export const JOBS = ["unit", "e2e", "lint"];
const START = Date.parse("2026-11-02T08:00:00.000Z");
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** A run, with what became of its steps. */
export type Actor = {
  name: string;
  order: RunOrder;
  task: Task;
  counted: Counted;
  /** What was known when it last read the document. */
  known: Known;
  /** What went wrong, and where. */
  struck: Map<string, Fate>;
  /** What became of each of its messages. */
  became: Record<string, Became>;
  isTelling: boolean;
  isDead: boolean;
  isOver: boolean;
  gates: (() => void)[];
  run?: Run;
  error?: Error;
};

/** Something that was told, in the order in which it was. `listed` is what was said of one job. */
export type Taken = { actor: Actor; channel: string; message: Message; news: News };

/** An upload that is stored: the document, and what the model knew before and knows after. */
export type Landing = {
  actor: Actor;
  happening: Happening;
  text: string;
  document: JobExecutions;
  before: Known;
  after: Known;
};

export type Played = {
  words: string;
  start: Known;
  actors: Actor[];
  landings: Landing[];
  taken: Taken[];
  /** All that was uploaded and told, in its order. */
  story: ({ landing: Landing } | { taken: Taken })[];
  rules: Rules;
  known: Known;
  /** The channels that refuse whatever they are told, for now. */
  away: string[];
  /** Who was greeted in the broadcast channel. */
  greetings: Actor[];
  /** All of this as it was at each mark. */
  marks: Played[];
};

// ── The environment of a run.

const cached = new Map<string, Task["limits"]>();

function limitsOf(rules: Rules): Task["limits"] {
  const key = JSON.stringify(rules);
  const { limits } = cached.has(key) ? { limits: cached.get(key) } : settings(variablesOf(rules));
  if (!limits) throw new Error("These rules are none");
  cached.set(key, limits);
  return limits;
}

const variablesOf = ({ inARow, often, length, ignored, channels }: Rules) => ({
  CONSECUTIVE_THRESHOLD: `${inARow}`,
  CUMULATIVE_THRESHOLD: `${often}`,
  CUMULATIVE_LENGTH: `${length}`,
  JOB_RULES: [
    ...(channels.length > 0 ? [`* ${channels.join(" ")}`] : []),
    ...ignored.map((job) => `${job} ignore ${channels.join(" ")}`),
  ].join("\n"),
});

const { pipeline: PIPELINE } = settings({ CI_PROJECT_URL: undefined, GITLAB_CI: undefined });

const jobsOfRun = (order: RunOrder, serial: number): PipelineJob[] =>
  [...`${order.outcomes.padEnd(2, "n")}P`].flatMap((letter, i) => {
    const outcome = ({ F: "failed", P: "passed" } as const)[letter];
    return outcome ? [{ id: order.pipeline * 1_000 + serial, name: JOBS[i] ?? "", outcome }] : [];
  });

// ── The document that another version left.

/** What was stored at first, as text, and what is to be known from it. */
function begin({ version, strip, alert }: Beginning): { text: string | undefined; known: Known } {
  const nothing: Known = { latest: 0, days: 0, date: "", hello: undefined, countedAt: undefined, jobs: new Map() };
  if (version === "none") return { text: undefined, known: { ...nothing, hello: { run: "", until: 0 } } };
  if (version === "empty") return { text: '{"pipeline_id": 0, "jobs": {}}', known: nothing };
  const at = new Date(START - DAY_MS).toISOString();
  const isOld = version === "original";
  const executions = [...strip].map((letter, i) => ({
    id: letter === "F" ? i + 1 : null,
    failing: letter === "F",
    commit: isOld && letter === "P" ? null : commitOf(i + 1),
  }));
  const streak = /F*$/.exec(strip)?.[0].length ?? 0;
  const opened = alert ? { kind: alert, pipeline_id: strip.length, at } : undefined;
  const job = {
    consecutive_failures: streak,
    [version === "v1" ? "cumulative_failures" : "jobs_info"]: executions,
    ...(isOld ? {} : { last_run: at }),
    ...(opened ? { alert: opened } : {}),
    ...(version === "v3" ? { turned: { commit: commitOf(1) }, ...(opened ? {} : { executions_since_alert: 1 }) } : {}),
  };
  const stored = {
    pipeline_id: strip.length,
    ...(isOld ? {} : { commit: commitOf(strip.length), counted_at: at }),
    ...(version === "v3" ? { passed: [{ commit: commitOf(1), at, jobs: ["lint"] }] } : {}),
    ...(version === "v2" || version === "v3"
      ? { pending_alerts: [{ id: "1", channel: null, due: at, text: "unit" }] }
      : {}),
    jobs: { unit: job },
  };
  const placed = executions.map(
    (one, i): Execution => ({ ...one, title: undefined, pipeline: i === strip.length - 1 ? i + 1 : -1 }),
  );
  const unsaid = { times: undefined, executions: undefined, turned: undefined, day: undefined, after: undefined };
  const known: Known = {
    latest: strip.length,
    days: 0,
    hello: undefined,
    countedAt: isOld ? undefined : at,
    date: isOld ? "" : at.slice(0, 10),
    jobs: new Map([
      [
        "unit",
        {
          isTracked: true,
          executions: placed,
          streak,
          lastRun: isOld ? undefined : at,
          lastDay: undefined,
          alert: alert && { kind: alert, pipeline: strip.length, at, changedAt: at, isFlaky: false, ...unsaid },
          told: new Map(alert ? [["", at]] : []),
          claims: new Map(),
        },
      ],
    ]),
  };
  return { text: JSON.stringify(stored), known };
}

/** What this version has stored. */
function asDocument(text: string): JobExecutions {
  const { jobs, passed = {}, ...rest } = JSON.parse(text);
  return { days: 0, ...rest, jobs: new Map(Object.entries(jobs)), passed: new Map(Object.entries(passed)) };
}

// ── The play.

/** Plays words, and some more after them: what has happened until then is kept. */
export async function play(words: string): Promise<Played> {
  const { beginning, orders } = parseOrders(words);
  const { text, known } = begin(beginning);
  const { store, stored } = memoryStore(text);
  const played: Played = {
    words,
    start: known,
    actors: [],
    landings: [],
    taken: [],
    story: [],
    rules: { ...PLAIN_RULES, broadcast: BROADCAST },
    known,
    away: [],
    greetings: [],
    marks: [],
  };
  const clock = { ms: START, isSet: false };
  let wake = () => {};
  const woken = () =>
    new Promise<void>((resolve) => {
      wake = resolve;
    });

  /** When the next run comes: ten minutes after the last, or as the clock was set; never at the very same time. */
  const nextTime = () => {
    clock.ms += (clock.isSet ? 0 : 10 * MINUTE_MS) + 1;
    clock.isSet = false;
    return clock.ms;
  };

  function land(actor: Actor, happening: Happening, document: JobExecutions) {
    const before = played.known;
    played.known = happening.what === "counted" ? count(before, happening) : note(before, happening);
    const landing = { actor, happening, text: `${stored.text}`, document, before, after: played.known };
    played.landings.push(landing);
    played.story.push({ landing });
  }

  async function startRun(order: RunOrder, at: number, isHeld: boolean): Promise<Actor> {
    const name = `run ${played.actors.length}`;
    const { rules } = played;
    const pipeline = {
      ...PIPELINE,
      CI_PIPELINE_ID: order.pipeline,
      CI_COMMIT_SHA: commitOf(order.pipeline),
      CI_COMMIT_MESSAGE: titleOf(order.pipeline),
    };
    const jobs = jobsOfRun(order, played.actors.length);
    const did = Object.fromEntries(jobs.map(({ name, outcome, id }) => [name, { failing: outcome === "failed", id }]));
    const actor: Actor = {
      name,
      order,
      task: { pipeline, limits: limitsOf(rules), broadcast: rules.broadcast, now: new Date(at), run: name },
      counted: { what: "counted", run: name, pipeline: order.pipeline, at, rules, did },
      known: played.known,
      struck: new Map(),
      became: {},
      isTelling: false,
      isDead: false,
      isOver: false,
      gates: [],
    };
    played.actors.push(actor);

    /** Waits for the run's turn; resolves to what becomes of a step. One that dies never goes on. */
    async function reach(place: string): Promise<Fate> {
      if (isHeld) {
        await new Promise<void>((resolve) => {
          actor.gates.push(resolve);
          wake();
        });
      }
      const drawn = order.accidents[place] ?? (played.away.includes(place) ? "refuses" : "done");
      const fate = actor.struck.has(place) ? "done" : drawn;
      if (fate !== "done") actor.struck.set(place, fate);
      if (fate === "dies") actor.isDead = true;
      if (actor.isDead) {
        actor.gates = [];
        actor.isOver = true;
        wake();
        return new Promise(() => {});
      }
      return fate;
    }

    const held: Store = {
      source: store.source,
      async read(signal) {
        if ((await reach(actor.isTelling ? "reread" : "read")) === "fails") throw new Error("The store is away");
        if (!actor.isTelling) actor.known = played.known;
        return store.read(signal);
      },
      async write(body, version, signal) {
        const { isTelling } = actor;
        const fate = await reach(isTelling ? "note" : "count");
        if (fate === "fails") throw new Error("The store is away");
        if (fate === "conflicts") return false;
        if (!(await store.write(body, version, signal))) {
          actor.struck.delete(isTelling ? "note" : "count"); // there is no answer to lose: another run was faster
          return false;
        }
        const happening: Happening = isTelling
          ? { what: "noted", run: name, rules, became: { ...actor.became } }
          : actor.counted;
        land(actor, happening, asDocument(`${stored.text}`));
        if (fate === "loses") throw new Error("The answer of the store is lost");
        return fate !== "echoes";
      },
    };

    async function send(message: Message) {
      actor.isTelling = true;
      const { channel } = message;
      const fate = await reach(channel || BROADCAST);
      const isTaken = fate !== "refuses" && fate !== "hangs";
      const jobs = message.news.map(({ job }) => job);
      const became = fate === "refuses" ? "refused" : fate === "loses" || fate === "hangs" ? "unsure" : "told";
      actor.became[channel] = { fate: became, jobs };
      if (isTaken && message.hello) played.greetings.push(actor);
      for (const news of isTaken ? message.news : []) {
        const taken = { actor, channel, message, news };
        played.taken.push(taken);
        played.story.push({ taken });
      }
      if (fate === "refuses") throw new Error("is_archived");
      if (fate === "loses" || fate === "hangs") throw Object.assign(new Error("no answer"), { mayBeTaken: true });
    }

    const world: World = {
      store: held,
      jobs: async () => ({ jobs, warnings: [] }),
      sender: { place: "the test", send, check: async () => "" },
      pause: async () => {},
      signal: new AbortController().signal,
    };
    const over = checkConsistentFailures(actor.task, world).then(
      (run) => Object.assign(actor, { run }),
      (error: Error) => Object.assign(actor, { error }),
    );
    over.then(() => {
      actor.isOver = true;
      wake();
    });
    return actor;
  }

  const untilOver = async (actor: Actor) => {
    while (!actor.isOver) await woken();
  };

  const runAlone = async (order: RunOrder) => untilOver(await startRun(order, nextTime(), false));

  /** Waits until each run stands at a gate or is over. */
  async function settle(runs: Actor[]) {
    while (runs.some(({ isOver, gates }) => !isOver && gates.length === 0)) {
      await woken();
    }
    await tick(); // one that tells several channels stands at several gates
  }

  async function runBoth([first, second]: [RunOrder, RunOrder], schedule: string) {
    const at = nextTime();
    const runs = [await startRun(first, at, true), await startRun(second, at + 1, true)];
    clock.ms++;
    await settle(runs);
    for (let i = 0; runs.some(({ isOver }) => !isOver); i++) {
      const wanted = runs[schedule[i] === "b" ? 1 : 0];
      const next = [wanted, ...runs].find((actor) => actor && actor.gates.length > 0);
      next?.gates.shift()?.();
      await settle(runs);
    }
  }

  async function follow(order: Order) {
    if (order.kind === "rules") {
      const { broadcast } = played.rules; // from a command, nothing leads back to channels
      played.rules = { ...played.rules, ...order.rules, ...(broadcast === null ? { broadcast } : {}) };
    }
    if (order.kind === "run") await runAlone(order.run);
    if (order.kind === "both") await runBoth(order.runs, order.schedule);
    if (order.kind === "away") played.away = order.channels;
    if (order.kind === "mark") {
      const { landings, taken, story } = played;
      played.marks.push({ ...played, landings: [...landings], taken: [...taken], story: [...story] });
    }
    if (order.kind === "later") {
      clock.ms = Math.max(clock.ms, ...played.actors.map(({ task }) => task.now.getTime())) + 10 * MINUTE_MS;
      clock.isSet = true;
    }
    if (order.kind === "clock") {
      clock.ms += order.ms;
      clock.isSet = true;
    }
    for (let day = 0; order.kind === "quiet" && day < order.days; day++) {
      clock.ms += DAY_MS;
      clock.isSet = true;
      await runAlone({ pipeline: played.known.latest + 1, outcomes: "n", accidents: {} });
    }
  }

  for (const order of orders) await follow(order);
  return played;
}
