/** A stage for runs of the script: the stand-ins, with jobs that are about to open their alert and fail once more. */
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

export const isUpload = ({ method }: Asked) => method === "PUT";
/** Of the two uploads of a run that tells something, the second: no claim in it is in force. */
export const isNoting = (asked: Asked) => isUpload(asked) && !/"until":"(?!1970)/.test(`${asked.body}`);

export async function setStage(t: Scope, jobs = ["unit tests"]) {
  const standIns = await startStandIns();
  t.after(standIns.close);
  const { s3, gitlab, slack } = standIns;
  const stored = () => String(s3.objects.get(KEY));
  const store = async (document: JobExecutions) => {
    s3.objects.set(KEY, Buffer.from(await serializeDocument(document)));
  };
  // Counted just now, because the processes that read it have the time of the machine.
  const counted_at = new Date().toISOString();
  const recent = (document: JobExecutions) => ({ ...document, counted_at, last_date: counted_at.slice(0, 10) });
  await store(recent(documentOf(...jobs.map((name): [string, TrackedJob] => [name, history("✗✗")]))));
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
    recent,
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
