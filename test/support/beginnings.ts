/** The documents that a story may begin with: none, an empty one, or what the original or an earlier version left. */
import { commitOf, type Execution, type Known } from "./model.ts";
import type { Beginning } from "./orders.ts";

/** When stories begin, in milliseconds; what another version left is a day older. */
export const START = Date.parse("2026-11-02T08:00:00.000Z");
const DAY_MS = 24 * 3_600_000;

const NOTHING: Known = { latest: 0, days: 0, date: "", hello: undefined, countedAt: undefined, jobs: new Map() };

/** What is stored at first, as text, and what is to be known from it. */
export function begin(beginning: Beginning): { text: string | undefined; known: Known } {
  if (beginning.version === "none") return { text: undefined, known: { ...NOTHING, hello: { run: "", until: 0 } } };
  if (beginning.version === "empty") return { text: '{"pipeline_id": 0, "jobs": {}}', known: NOTHING };
  const at = new Date(START - DAY_MS).toISOString();
  return { text: JSON.stringify(store(beginning, at)), known: know(beginning, at) };
}

/** How the job `unit` did in the pipelines 1, 2, …; the original noted no commit of a pass. */
const executionsOf = ({ version, strip }: Beginning) =>
  [...strip].map((letter, i) => ({
    id: letter === "F" ? i + 1 : null,
    failing: letter === "F",
    commit: version === "original" && letter === "P" ? null : commitOf(i + 1),
  }));

const streakOf = ({ strip }: Beginning) => /F*$/.exec(strip)?.[0].length ?? 0;

/** The document as that version stored it, with what only that version had. */
function store(beginning: Beginning, at: string) {
  const { version, strip, alert } = beginning;
  const isOriginal = version === "original";
  const v3 = { turned: { commit: commitOf(1) }, ...(alert ? {} : { executions_since_alert: 1 }) };
  const unit = {
    consecutive_failures: streakOf(beginning),
    [version === "v1" ? "cumulative_failures" : "jobs_info"]: executionsOf(beginning),
    ...(isOriginal ? {} : { last_run: at }),
    ...(alert ? { alert: { kind: alert, pipeline_id: strip.length, at } } : {}),
    ...(version === "v3" ? v3 : {}),
  };
  const pending_alerts = [{ id: "1", channel: null, due: at, text: "unit" }];
  return {
    pipeline_id: strip.length,
    ...(isOriginal ? {} : { commit: commitOf(strip.length), counted_at: at }),
    ...(version === "v2" || version === "v3" ? { pending_alerts } : {}),
    ...(version === "v3" ? { passed: [{ commit: commitOf(1), at, jobs: ["lint"] }] } : {}),
    jobs: { unit },
  };
}

/** Only of its last execution the pipeline is known; an open alert was told to the broadcast channel. */
function know(beginning: Beginning, at: string): Known {
  const { version, strip, alert: kind } = beginning;
  const isOriginal = version === "original";
  const latest = strip.length;
  const executions = executionsOf(beginning).map(
    (one, i): Execution => ({ ...one, pipeline: i === latest - 1 ? latest : -1, title: undefined }),
  );
  const unsaid = { times: undefined, executions: undefined, turned: undefined, day: undefined, after: undefined };
  const unit = {
    isTracked: true,
    executions,
    streak: streakOf(beginning),
    lastRun: isOriginal ? undefined : at,
    lastDay: undefined,
    alert: kind && { kind, pipeline: latest, at, changedAt: at, isFlaky: false, ...unsaid },
    told: new Map(kind ? [["", at]] : []),
    claims: new Map(),
  };
  const counted = isOriginal ? {} : { countedAt: at, date: at.slice(0, 10) };
  return { ...NOTHING, latest, ...counted, jobs: new Map([["unit", unit]]) };
}
