/**
 * A run whose time is up a moment after the step that its argument names. Prints how it ended, and ends by itself only
 * if nothing of the run is left.
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import {
  checkConsistentFailures,
  openJobs,
  openSender,
  openStore,
  parseSettings,
  readOwners,
} from "../../check-failures.ts";
import { type StepName, withTimeUpAfter } from "./time-up.ts";

const step = process.argv[2] as StepName;
const { pipeline, limits, store, jobs, sender, routing, network } = parseSettings(process.env);
const output = { environment: process.env, print: async () => {}, say: () => {} };
const world = withTimeUpAfter(step, {
  store: openStore(store, network),
  sender: openSender(sender, network, output),
});
const { signal } = world;
const print = (end: { message: string }) => console.log(JSON.stringify({ message: end.message }));
checkConsistentFailures(
  { pipeline, limits, owners: await readOwners(routing), now: new Date() },
  {
    ...world,
    jobs: openJobs(jobs, pipeline.CI_PIPELINE_ID, network, signal),
    pause: (ms: number) => sleep(ms, undefined, { signal }),
  },
).then(({ errors }) => print({ message: errors.join() }), print);
