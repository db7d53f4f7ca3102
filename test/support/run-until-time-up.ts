/**
 * A run whose time is up a moment after the step that its argument names. Prints how it ended, and ends by itself only
 * if nothing of the run is left.
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { checkConsistentFailures, openSender, openStore, parseEnvironment } from "../../check-failures.ts";
import { type StepName, withTimeUpAfter } from "./time-up.ts";

const step = process.argv[2] as StepName;
const env = parseEnvironment(process.env);
const edges = withTimeUpAfter(step, { store: openStore(env), send: openSender(env, () => {}) });
const pause = (ms: number) => sleep(ms, undefined, { signal: edges.signal });
const print = (end: { message: string }) => console.log(JSON.stringify({ message: end.message }));
checkConsistentFailures(env, { ...edges, pause, now: new Date() }).then(
  ({ errors }) => print({ message: errors.join() }),
  print,
);
