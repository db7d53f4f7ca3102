/**
 * Runs of `checkConsistentFailures` that are held at each of their steps (list, read, upload, send), so that a test decides
 * in which order they go on and what becomes of each step. One store in memory, one chat, and a record of all of it.
 */
import { setImmediate as tick } from "node:timers/promises";
import {
  checkConsistentFailures,
  type Failure,
  type Message,
  type PipelineJob,
  type Run,
  type Sender,
  type Store,
  type Task,
} from "../../check-failures.ts";
import { jobsOf, makeWorld, memoryStore } from "./builders.ts";

/**
 * What becomes of a step. One that `failed` is not carried out; one whose answer is `lost` is, and ends in an error: of a
 * message, nobody but a command knows then that it was not taken. An upload that is an `echo` is carried out too, but its
 * answer is lost, and the SDK, which tries again, meets its own write: a conflict. An upload that is `refused` meets a
 * conflict though nobody else has stored anything. A run that `dies` is never resumed, and what it was about to do is not
 * done.
 */
export type Fate = "done" | "failed" | "lost" | "echo" | "refused" | "dies";

export type Step = {
  kind: "list" | "read" | "upload" | "send";
  fate: Fate;
  sent?: Message;
  hasLanded?: boolean;
};

export type Actor = {
  task: Task;
  jobs: PipelineJob[];
  steps: Step[];
  gates: ((fate: Fate) => void)[];
  isOver: boolean;
  run?: Run;
  error?: Error;
};

/** An upload that replaced what was stored before. */
export type Landing = { actor: Actor; before: string | undefined; after: string };

/** A message that was told. */
export type Taken = { actor: Actor; step: Step; sent: Message };

/** What becomes of a step of this kind: only an upload meets conflicts. */
function fateOf(drawn: Fate, kind: Step["kind"]): Fate {
  if (kind === "upload") return drawn;
  return ({ echo: "done", refused: "failed" } as Partial<Record<Fate, Fate>>)[drawn] ?? drawn;
}

export function createWorld(text: string | undefined) {
  const { store, stored } = memoryStore(text);
  const world = {
    stored,
    actors: [] as Actor[],
    landings: [] as Landing[],
    taken: [] as Taken[],
  };
  let wake = () => {};

  /** Holds a run until its gate is opened with the fate of the step. */
  function hold<T>(actor: Actor, kind: Step["kind"], carryOut: (step: Step) => Promise<T>, sent?: Message): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const gate = (drawn: Fate) => {
        const fate = fateOf(drawn, kind);
        const step: Step = { kind, fate, ...(sent ? { sent } : {}) };
        actor.steps.push(step);
        actor.gates.splice(actor.gates.indexOf(gate), 1);
        if (fate === "failed") return reject(new Error(`The ${kind} failed`));
        if (fate === "dies") {
          actor.gates.length = 0;
          actor.isOver = true;
          return;
        }
        const mayBeTaken = kind === "send" && actor.task.broadcast !== null;
        const lost: Failure = Object.assign(new Error(`The answer to the ${kind} is lost`), { mayBeTaken });
        carryOut(step).then(fate === "lost" ? () => reject(lost) : resolve, reject);
      };
      actor.gates.push(gate);
      wake();
    });
  }

  function start(task: Task, jobs: PipelineJob[]): Actor {
    const actor: Actor = { task, jobs, steps: [], gates: [], isOver: false };
    const held: Store = {
      source: store.source,
      read: (...args) => hold(actor, "read", () => store.read(...args)),
      write: (...args) =>
        hold(actor, "upload", async (step) => {
          if (step.fate === "refused") return false;
          const before = stored.text;
          if (!(await store.write(...args))) return false;
          world.landings.push({ actor, before, after: `${stored.text}` });
          step.hasLanded = true;
          return step.fate !== "echo";
        }),
    };
    const sender: Sender = {
      place: "the test",
      send: (sent) => hold(actor, "send", async (step) => void world.taken.push({ actor, step, sent }), sent),
      check: async () => "The test is there",
    };
    const end = (result: Pick<Actor, "run" | "error">) => {
      Object.assign(actor, result, { isOver: true });
      wake();
    };
    const list = () => hold(actor, "list", jobsOf(jobs));
    const { world: surroundings } = makeWorld({ store: held, sender, jobs: list });
    checkConsistentFailures(task, surroundings).then(
      (run) => end({ run }),
      (error: Error) => end({ error }),
    );
    world.actors.push(actor);
    return actor;
  }

  /** Waits until each live run stands at a gate. */
  async function settle() {
    while (world.actors.some(({ isOver, gates }) => !isOver && gates.length === 0)) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    await tick(); // one that lists and reads, or sends to several channels, stands at several gates
  }

  /** Lets the runs go on as chosen, one step of one run at a time, until all have ended. */
  async function drive(choices: { pick: number; fate: Fate }[]) {
    await settle();
    for (let i = 0; world.actors.some(({ gates }) => gates.length > 0); i++) {
      const { pick, fate } = choices[i] ?? { pick: 0, fate: "done" };
      const gates = world.actors.flatMap((actor) => actor.gates);
      gates[pick % gates.length]?.(fate);
      await settle();
    }
  }

  return { world, start, drive };
}
