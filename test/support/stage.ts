/** A stage for runs of the script: the stand-ins, with jobs that are about to raise their alert and fail once more. */
import type { JobExecutions, TrackedJob } from "../../check-failures.ts";
import { documentOf, history, listedFailed, type Variables } from "./builders.ts";
import { start } from "./run.ts";
import type { Asked } from "./servers/http.ts";
import { preconditionFailed } from "./servers/s3.ts";
import { KEY, startStandIns } from "./stand-ins.ts";
import { parseDocument, serializeDocument } from "./stored.ts";

export const PIPELINE = documentOf().pipeline_id + 10;

/** What ends when a test does. */
export type Scope = { after: (end: () => void) => void };

/** A history that ends today, because the processes that read it have the time of the machine. */
export const recent = (strip: string) => history(strip, { last_run: new Date().toISOString() });

export const isUpload = ({ method }: Asked) => method === "PUT";
/** Of the two uploads of a run that alerts, the second. */
export const isClearing = (asked: Asked) => isUpload(asked) && !asked.body.includes("pending_alerts");

export async function setStage(t: Scope, jobs = ["unit tests"]) {
  const standIns = await startStandIns();
  t.after(standIns.close);
  const { s3, gitlab, slack } = standIns;
  const stored = () => String(s3.objects.get(KEY));
  const store = async (document: JobExecutions) => {
    s3.objects.set(KEY, Buffer.from(await serializeDocument(document)));
  };
  await store(documentOf(...jobs.map((name): [string, TrackedJob] => [name, recent("✗✗")])));
  gitlab.pipelines.set(
    PIPELINE,
    jobs.map((name) => listedFailed(name)),
  );

  const env = { ...standIns.env, CI_PIPELINE_ID: String(PIPELINE) };
  const launch = (variables: Variables = {}, args = ["--json"]) => start(args, { ...env, ...variables }, ".");
  return {
    env,
    s3,
    gitlab,
    slack,
    store,
    /** The stored document, as it is stored. */
    stored: () => JSON.parse(stored()),
    /** Stores what another run makes of the document, right before the first upload that `matches`. */
    intervene: (matches: (asked: Asked) => boolean, change: (document: JobExecutions) => JobExecutions) =>
      s3.faults.push({
        times: 1,
        matches,
        answer: async (response) => {
          await store(change(await parseDocument(stored())));
          preconditionFailed(response);
        },
      }),
    launch,
    /** A run of the pipeline, with what differs in its environment; `printed` is its JSON. */
    run: async (variables: Variables = {}) => {
      const result = await launch(variables).result;
      return { ...result, printed: JSON.parse(result.stdout) };
    },
  };
}
