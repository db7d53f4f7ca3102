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
const { pipeline, limits, store, jobs, slack, routing, network } = parseSettings(process.env);
const edges = withTimeUpAfter(step, {
  store: openStore(store, network),
  sender: openSender(slack, network, async () => {}),
});
const { signal } = edges;
const print = (end: { message: string }) => console.log(JSON.stringify({ message: end.message }));
checkConsistentFailures(
  { pipeline, limits, owners: await readOwners(routing) },
  {
    ...edges,
    jobs: openJobs(jobs, { pipelineId: pipeline.CI_PIPELINE_ID, network, signal, warn: () => {} }),
    pause: (ms: number) => sleep(ms, undefined, { signal }),
    now: new Date(),
  },
).then(({ errors }) => print({ message: errors.join() }), print);
