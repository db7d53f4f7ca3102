/**
 * Runs of `checkConsistentFailures` that are held at each of their steps (read, upload, send), so that a test decides
 * in which order they go on and what becomes of each step. One store in memory, one Slack, and a record of all of it.
 */
import { setImmediate as tick } from "node:timers/promises";
import {
  checkConsistentFailures,
  type Environment,
  type PendingAlert,
  type PipelineJob,
  type Run,
  type Store,
} from "../../check-failures.ts";
import { memoryStore } from "./builders.ts";

/**
 * What becomes of a step. One whose answer is `lost` is carried out and ends in an error. An upload that is an `echo`
 * is carried out too, but its answer is lost, and the SDK, which tries again, meets its own write: a conflict that may
 * be its own. A run that `dies` is never resumed, and what it was about to do is not done.
 */
export type Fate = "done" | "failed" | "lost" | "echo" | "dies";

export type Step = { kind: "read" | "upload" | "send"; fate: Fate; alert?: PendingAlert; hasLanded?: boolean };

export type Actor = {
  env: Environment;
  now: Date;
  jobs: PipelineJob[];
  steps: Step[];
  gates: ((fate: Fate) => void)[];
  isOver: boolean;
  run?: Run;
  error?: Error;
};

/** An upload that replaced what was stored before. */
export type Landing = { actor: Actor; before: string | undefined; after: string };

/** A message that Slack took. */
export type Taken = { actor: Actor; step: Step; alert: PendingAlert };

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
  function hold<T>(
    actor: Actor,
    kind: Step["kind"],
    carryOut: (step: Step) => Promise<T>,
    alert?: PendingAlert,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const gate = (fate: Fate) => {
        const step: Step = { kind, fate, ...(alert ? { alert } : {}) };
        actor.steps.push(step);
        actor.gates.splice(actor.gates.indexOf(gate), 1);
        if (fate === "failed") return reject(new Error(`The ${kind} failed`));
        if (fate === "dies") {
          actor.gates.length = 0;
          actor.isOver = true;
          return;
        }
        const lose = () => reject(new Error(`The answer to the ${kind} is lost`));
        carryOut(step).then(fate === "lost" ? lose : resolve, reject);
      };
      actor.gates.push(gate);
      wake();
    });
  }

  function start(env: Environment, now: Date, jobs: PipelineJob[]): Actor {
    const actor: Actor = { env, now, jobs, steps: [], gates: [], isOver: false };
    const held: Store = {
      source: store.source,
      read: (...args) => hold(actor, "read", () => store.read(...args)),
      write: (...args) =>
        hold(actor, "upload", async (step) => {
          const before = stored.text;
          const { conflict } = await store.write(...args);
          // Not its own, although it may be: the first try failed, another run stored, and the next try was refused.
          if (conflict) return { conflict, repeated: step.fate === "echo" };
          world.landings.push({ actor, before, after: `${stored.text}` });
          step.hasLanded = true;
          return step.fate === "echo" ? { conflict: true, repeated: true } : { conflict };
        }),
    };
    const take = (alert: PendingAlert) => async (step: Step) => void world.taken.push({ actor, step, alert });
    const send = (alert: PendingAlert) => hold(actor, "send", take(alert), alert);
    const end = (result: Pick<Actor, "run" | "error">) => {
      Object.assign(actor, result, { isOver: true });
      wake();
    };
    const { signal } = new AbortController();
    checkConsistentFailures(env, { store: held, send, pause: async () => {}, now, signal }).then(
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
    await tick(); // one that sends to several channels stands at a gate for each of them
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
