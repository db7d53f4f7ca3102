/**
 * A run whose time is up a moment after the step that its argument names. Prints how it ended, and ends by itself only
 * if nothing of the run is left.
 */
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { checkConsistentFailures, openJobs, openSender, openStore, parseSettings } from "../../check-failures.ts";
import { type StepName, withTimeUpAfter } from "./time-up.ts";

const step = process.argv[2] as StepName;
const { pipeline, limits, store, jobs, sender } = parseSettings(process.env);
const world = withTimeUpAfter(step, {
  store: openStore(store),
  sender: openSender(sender, { environment: process.env, print: async () => {}, say: () => {} }),
});
const print = (message: string) => console.log(JSON.stringify({ message }));
checkConsistentFailures(
  { pipeline, limits, broadcast: sender.SLACK_CHANNEL ?? null, now: new Date(), run: "a run in a hurry" },
  { ...world, jobs: openJobs(jobs, pipeline.CI_PIPELINE_ID, world.signal), pause },
).then(
  ({ errors }) => print(errors.join()),
  ({ message }) => print(message),
);
