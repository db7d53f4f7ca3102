/** Writes what comes out of the scenarios now as what must come out: read the diff before you commit it. */
import { writeFileSync } from "node:fs";
import { playScenario, SCENARIOS, scenarioNames } from "../support/scenarios.ts";

for (const scenario of scenarioNames()) {
  const { after, messages } = await playScenario(scenario);
  writeFileSync(`${SCENARIOS}/${scenario}/after.json`, after);
  writeFileSync(`${SCENARIOS}/${scenario}/messages.md`, messages);
}
