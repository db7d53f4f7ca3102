/**
 * Plays orders in words (orders.ts) with the real `checkConsistentFailures`, on a store and a chat in which each step can
 * be held, go wrong, or be the last of its run. Keeps a record of all that was stored and told, and of what the model makes
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
  type Sender,
  type Store,
  type Task,
} from "../../check-failures.ts";
import { begin, START } from "./beginnings.ts";
import { makeWorld, memoryStore, settings } from "./builders.ts";
import {
  type Became,
  type Counted,
  commitOf,
  count,
  type Happening,
  type Known,
  note,
  type Rules,
  titleOf,
} from "./model.ts";
import { BROADCAST, type Fate, type Order, PLAIN_RULES, parseOrders, type RunOrder } from "./orders.ts";

export const JOBS = ["unit", "e2e", "lint"];
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** A run, with what became of its steps. */
export type Actor = {
  name: string;
  order: RunOrder;
  task: Task;
  jobs: PipelineJob[];
  counted: Counted;
  /** What was known when it last read the document to count. */
  known: Known;
  /** What went wrong, and where. */
  struck: Map<string, Fate>;
  /** What became of each of its messages. */
  became: Record<string, Became>;
  isTelling: boolean;
  isDead: boolean;
  isOver: boolean;
  /** Whether its clock is not that of a run that it met. */
  isSkewed: boolean;
  /** What its next steps wait for; undefined where it is not held at any. */
  gates: (() => void)[] | undefined;
  run?: Run;
  error?: Error;
};

/** Something that a channel took: what is new of a job, in a message. */
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
  /** All that was stored and taken, in its order. */
  story: ({ landing: Landing } | { taken: Taken })[];
  /** Who was greeted in the broadcast channel. */
  greetings: Actor[];
  /** The rules of today, and the channels that refuse whatever they are told. */
  rules: Rules;
  away: string[];
  known: Known;
  /** All of this as it was at each mark. */
  marks: Played[];
};

/** What runs act on: a store, a clock, and whoever waits for one of them to come to its next step. */
type Stage = {
  played: Played;
  memory: ReturnType<typeof memoryStore>;
  clockMs: number;
  isClockSet: boolean;
  wake: () => void;
};

/** Plays words to their end. */
export async function play(words: string): Promise<Played> {
  const { beginning, orders } = parseOrders(words);
  const { text, known } = begin(beginning);
  const rules = { ...PLAIN_RULES, broadcast: BROADCAST };
  const record = { actors: [], landings: [], taken: [], story: [], greetings: [], marks: [] };
  const played: Played = { words, start: known, known, rules, away: [], ...record };
  const stage: Stage = { played, memory: memoryStore(text), clockMs: START, isClockSet: false, wake: () => {} };
  for (const order of orders) await follow(stage, order);
  return played;
}

async function follow(stage: Stage, order: Order): Promise<void> {
  const { played } = stage;
  if (order.kind === "rules") {
    const { broadcast } = played.rules; // from a command, nothing leads back to channels
    played.rules = { ...played.rules, ...order.rules, ...(broadcast === null ? { broadcast } : {}) };
  }
  if (order.kind === "run") await runAlone(stage, order.run);
  if (order.kind === "both") await runBoth(stage, order);
  if (order.kind === "away") played.away = order.channels;
  if (order.kind === "clock") setClock(stage, stage.clockMs + order.ms);
  if (order.kind === "later") {
    const latest = Math.max(stage.clockMs, ...played.actors.map(({ counted }) => counted.at));
    setClock(stage, latest + 10 * MINUTE_MS);
  }
  if (order.kind === "mark") {
    const { landings, taken, story } = played;
    played.marks.push({ ...played, landings: [...landings], taken: [...taken], story: [...story] });
  }
  for (let day = 0; order.kind === "quiet" && day < order.days; day++) {
    setClock(stage, stage.clockMs + DAY_MS);
    await runAlone(stage, { pipeline: played.known.latest + 1, outcomes: "n", accidents: {}, isDry: false });
  }
}

function setClock(stage: Stage, ms: number) {
  Object.assign(stage, { clockMs: ms, isClockSet: true });
}

/** When the next run comes: ten minutes after the last, or as the clock was set; never at the very same time. */
function nextTime(stage: Stage) {
  stage.clockMs += (stage.isClockSet ? 0 : 10 * MINUTE_MS) + 1;
  stage.isClockSet = false;
  return stage.clockMs;
}

async function runAlone(stage: Stage, order: RunOrder) {
  const actor = startRun(stage, makeActor(stage, order, nextTime(stage)));
  while (!actor.isOver) await woken(stage);
}

/** Two runs at once: a step of the first for each `a`, one of the second for each `b`, then whoever is not over. */
async function runBoth(stage: Stage, { runs: [first, second], schedule, skewMs }: Extract<Order, { kind: "both" }>) {
  const at = nextTime(stage);
  const startHeld = (order: RunOrder, ms: number) =>
    startRun(stage, { ...makeActor(stage, order, ms), gates: [], isSkewed: skewMs !== 0 });
  const runs = [startHeld(first, at), startHeld(second, at + 1 + skewMs)];
  stage.clockMs++;
  await settle(stage, runs);
  for (let i = 0; runs.some(({ isOver }) => !isOver); i++) {
    const wanted = runs[schedule[i] === "b" ? 1 : 0];
    const next = [wanted, ...runs].find((actor) => actor?.gates?.length);
    next?.gates?.shift()?.();
    await settle(stage, runs);
  }
}

/** Waits until each run stands at a gate or is over. */
async function settle(stage: Stage, runs: Actor[]) {
  while (runs.some(({ isOver, gates }) => !isOver && gates?.length === 0)) await woken(stage);
  await tick(); // one that tells several channels stands at several gates
}

function woken(stage: Stage) {
  return new Promise<void>((resolve) => {
    stage.wake = resolve;
  });
}

// ── A run.

const { pipeline: PIPELINE } = settings({ CI_PROJECT_URL: undefined, GITLAB_CI: undefined });

function makeActor({ played }: Stage, order: RunOrder, at: number): Actor {
  const { pipeline: id, outcomes, isDry } = order;
  const { actors, rules, known } = played;
  const name = `run ${actors.length}`;
  const jobs = [...`${outcomes.padEnd(2, "n")}P`].flatMap((letter, i): PipelineJob[] => {
    const outcome = ({ F: "failed", P: "passed" } as const)[letter];
    return outcome ? [{ id: id * 1_000 + actors.length, name: `${JOBS[i]}`, outcome }] : [];
  });
  const did = Object.fromEntries(jobs.map(({ name, outcome, id }) => [name, { failing: outcome === "failed", id }]));
  const named = { CI_PIPELINE_ID: id, CI_COMMIT_SHA: commitOf(id), CI_COMMIT_MESSAGE: titleOf(id) };
  const pipeline = { ...PIPELINE, ...named };
  const { broadcast } = rules;
  return {
    name,
    order,
    task: { pipeline, limits: limitsOf(rules), broadcast, now: new Date(at), run: name, dryRun: isDry },
    jobs,
    counted: { what: "counted", run: name, pipeline: id, at, rules, did },
    known,
    struck: new Map(),
    became: {},
    isTelling: false,
    isDead: false,
    isOver: false,
    isSkewed: false,
    gates: undefined,
  };
}

const limits = new Map<string, Task["limits"]>();

/** What the environment says where these are the rules. */
function limitsOf(rules: Rules): Task["limits"] {
  const { inARow, often, length, ignored, channels, mentions } = rules;
  const key = JSON.stringify(rules);
  const hearing = [...channels, ...mentions].join(" ");
  const lines = [hearing && `* ${hearing}`, ...ignored.map((job) => `${job} ignore ${hearing}`)];
  const parse = () =>
    settings({
      CONSECUTIVE_THRESHOLD: `${inARow}`,
      CUMULATIVE_THRESHOLD: `${often}`,
      CUMULATIVE_LENGTH: `${length}`,
      JOB_RULES: lines.join("\n"),
    }).limits;
  const known = limits.get(key) ?? parse();
  limits.set(key, known);
  return known;
}

function startRun(stage: Stage, actor: Actor): Actor {
  stage.played.actors.push(actor);
  const { world } = makeWorld({
    store: storeOf(stage, actor),
    jobs: async () => ({ jobs: actor.jobs, warnings: [] }),
    sender: senderOf(stage, actor),
  });
  const end = (result: Pick<Actor, "run" | "error">) => {
    Object.assign(actor, result, { isOver: true });
    stage.wake();
  };
  checkConsistentFailures(actor.task, world).then(
    (run) => end({ run }),
    (error: Error) => end({ error }),
  );
  return actor;
}

/** Waits for a run's turn; resolves to what becomes of a step. A run that dies never goes on. */
async function reach(stage: Stage, actor: Actor, place: string): Promise<Fate> {
  if (actor.gates) {
    await new Promise<void>((resolve) => {
      actor.gates?.push(resolve);
      stage.wake();
    });
  }
  const { struck, order } = actor;
  const drawn = order.accidents[place] ?? (stage.played.away.includes(place) ? "refuses" : "done");
  const fate = struck.has(place) ? "done" : drawn;
  if (fate !== "done") struck.set(place, fate);
  if (fate !== "dies" && !actor.isDead) return fate;
  Object.assign(actor, { isDead: true, isOver: true, gates: [] });
  stage.wake();
  return new Promise(() => {});
}

function storeOf(stage: Stage, actor: Actor): Store {
  const { played, memory } = stage;
  const { store, stored } = memory;
  return {
    source: store.source,
    async read(signal) {
      if ((await reach(stage, actor, actor.isTelling ? "reread" : "read")) === "fails") throw new Error("It is away");
      if (!actor.isTelling) actor.known = played.known;
      return store.read(signal);
    },
    async write(body, version, signal) {
      const place = actor.isTelling ? "note" : "count";
      const fate = await reach(stage, actor, place);
      if (fate === "fails") throw new Error("It is away");
      if (fate === "conflicts") return false;
      if (!(await store.write(body, version, signal))) {
        actor.struck.delete(place); // there is no answer to lose: another run was faster
        return false;
      }
      land(played, actor, `${stored.text}`);
      if (fate === "loses") throw new Error("Its answer is lost");
      return fate !== "echoes";
    },
  };
}

/** Records an upload, and what the model makes of it. */
function land(played: Played, actor: Actor, text: string) {
  const { name, became, counted, isTelling } = actor;
  const { jobs, passed = {}, ...rest } = JSON.parse(text);
  const maps = { jobs: new Map(Object.entries(jobs)), passed: new Map(Object.entries(passed)) };
  const document = { days: 0, ...rest, ...maps } as JobExecutions;
  const noted: Happening = { what: "noted", run: name, rules: counted.rules, became: { ...became } };
  const before = played.known;
  played.known = isTelling ? note(before, noted) : count(before, counted);
  const landing = { actor, happening: isTelling ? noted : counted, text, document, before, after: played.known };
  played.landings.push(landing);
  played.story.push({ landing });
}

function senderOf(stage: Stage, actor: Actor): Sender {
  const { taken, story, greetings } = stage.played;
  async function send(message: Message) {
    const { channel } = message;
    actor.isTelling = true;
    const fate = await reach(stage, actor, channel || BROADCAST);
    const isUnsure = fate === "loses" || fate === "hangs";
    const known = fate === "refuses" ? "refused" : "told";
    actor.became[channel] = { fate: isUnsure ? "unsure" : known, jobs: message.news.map(({ job }) => job) };
    if (fate === "done" || fate === "loses") {
      if (message.hello) greetings.push(actor);
      const all = message.news.map((news): Taken => ({ actor, channel, message, news }));
      taken.push(...all);
      story.push(...all.map((one) => ({ taken: one })));
    }
    if (isUnsure) throw Object.assign(new Error("There is no answer"), { mayBeTaken: true });
    if (fate === "refuses") throw new Error("is_archived");
  }
  return { place: "the test", send, check: async () => "The test is there" };
}
