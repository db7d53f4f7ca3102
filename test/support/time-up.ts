/** The time of a run, which is up a moment after one of its steps began, where the script gives it a minute and a half. */
import type { Edges } from "../../check-failures.ts";

const MOMENT_MS = 300;

export type StepName = "read" | "write" | "send";

export function withTimeUpAfter(step: StepName, { store, send }: Pick<Edges, "store" | "send">) {
  const controller = new AbortController();
  const begin = (begun: StepName) => {
    if (begun === step) setTimeout(() => controller.abort(new DOMException("Time is up", "TimeoutError")), MOMENT_MS);
  };
  const watched: Pick<Edges, "store" | "send" | "signal"> = {
    store: {
      source: store.source,
      read: (signal) => {
        begin("read");
        return store.read(signal);
      },
      write: (text, version, signal) => {
        begin("write");
        return store.write(text, version, signal);
      },
    },
    send: (alert, signal) => {
      begin("send");
      return send(alert, signal);
    },
    signal: controller.signal,
  };
  return watched;
}
