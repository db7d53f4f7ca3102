/** The time of a run, which is up a moment after one of its steps began, where the script gives it a minute and a half. */
import type { World } from "../../check-failures.ts";

const MOMENT_MS = 300;

export type StepName = "read" | "write" | "send";

export function withTimeUpAfter<T extends Pick<World, "store" | "sender">>(step: StepName, edges: T) {
  const controller = new AbortController();
  const watch =
    <Args extends unknown[], Result>(begun: StepName, carryOut: (...args: Args) => Result) =>
    (...args: Args) => {
      if (begun === step) setTimeout(() => controller.abort(new DOMException("Time is up", "TimeoutError")), MOMENT_MS);
      return carryOut(...args);
    };
  const { store, sender } = edges;
  return {
    ...edges,
    store: { ...store, read: watch("read", store.read), write: watch("write", store.write) },
    sender: { ...sender, send: watch("send", sender.send) },
    signal: controller.signal,
  };
}
