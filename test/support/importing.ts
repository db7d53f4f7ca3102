/** A program that imports the script, and so must be all that runs. */
import * as script from "../../check-failures.ts";

console.log(Object.keys(script).includes("checkConsistentFailures") ? "imported" : "not imported");
