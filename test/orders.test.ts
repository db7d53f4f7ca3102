import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { KNOWN_ORDERS } from "./support/known-orders.ts";
import { play, type Taken } from "./support/play.ts";

const KINDS = { consecutive: "broken", cumulative: "failing often", recovered: "recovered", gone: "gone" };

/** In which pipeline whom was told what of the job `unit`. */
function describeTaken({ actor, channel, news }: Taken) {
  const { broadcast } = actor.task;
  return `${actor.order.pipeline} ${channel || (broadcast ?? "the command")} ${KINDS[news.alert.kind]}`;
}

describe("checkConsistentFailures() tells whoever must know, in orders that broke it once:", () => {
  for (const { title, words, told } of KNOWN_ORDERS) {
    test(title, async () => {
      const { taken } = await play(words);
      assert.deepEqual(taken.map(describeTaken), told);
    });
  }
});
