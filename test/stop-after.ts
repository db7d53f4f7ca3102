/**
 * A run whose time is up after as many milliseconds as its argument says, where a run of the script has a minute and a
 * half. Prints how it ended, and ends by itself only if nothing of it is left.
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { checkConsistentFailures, openSender, openStore, parseEnvironment } from "../check-failures.ts";

const env = parseEnvironment(process.env);
const signal = AbortSignal.timeout(Number(process.argv[2]));
const pause = (ms: number) => sleep(ms, undefined, { signal });
const edges = { store: openStore(env), send: openSender(env, () => {}), pause, now: new Date(), signal };
const print = (end: { message: string }) => console.log(JSON.stringify({ message: end.message }));
checkConsistentFailures(env, edges).then(({ errors }) => print({ message: errors.join() }), print);
