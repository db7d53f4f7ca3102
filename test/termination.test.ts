/** Whatever a peer does, a run ends: when its time is up at the latest, with an error that names the peer. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkConsistentFailures, openSender, type PendingAlert, type Store } from "../check-failures.ts";
import { documentOf, environment, failed, history, makeEdges, memoryStore } from "./builders.ts";
import { makeFolder, RUNTIME, start } from "./run.ts";
import { hang, startServer, trickle } from "./servers/http.ts";
import { isUpload, type Scope, setStage } from "./stage.ts";
import { startStandIns } from "./stand-ins.ts";
import { parseDocument, serializeDocument } from "./stored.ts";

const SOON_MS = 300;
const STOP_AFTER = fileURLToPath(new URL("./stop-after.ts", import.meta.url));

/** Peers that never give a complete answer. A name below .invalid never resolves. */
const peers: Record<string, (t: Scope) => Promise<string>> = {
  hangs: (t) => startPeer(t, hang),
  "answers a byte at a time": (t) => startPeer(t, trickle),
  "has a name that does not resolve": async () => "http://name.invalid",
};

async function startPeer(t: Scope, answer: typeof hang | typeof trickle): Promise<string> {
  const server = await startServer((_, response) => answer(response));
  t.after(server.close);
  return server.url;
}

const hostOf = (url: string) => new RegExp(new URL(url).host.replaceAll(".", "\\."));

for (const [does, startPeerOf] of Object.entries(peers)) {
  describe(`where a peer ${does}, a run ends when its time is up`, () => {
    test("if that is GitLab", async (t) => {
      const url = await startPeerOf(t);
      const env = environment({
        CI_API_V4_URL: `${url}/api/v4`,
        CI_PROJECT_ID: "4242",
        GITLAB_TOKEN: "glpat-1",
        PIPELINE_JOBS_FILE: undefined,
      });
      const { edges } = makeEdges({ signal: AbortSignal.timeout(SOON_MS) });

      await assert.rejects(checkConsistentFailures(env, edges), hostOf(url));
    });

    test("if that is Slack, whose message stays pending", async (t) => {
      const url = await startPeerOf(t);
      const folder = makeFolder({ jobs: [failed("unit tests")] });
      t.after(folder.remove);
      const env = environment({ SLACK_API_URL: `${url}/api`, PIPELINE_JOBS_FILE: `${folder.path}/jobs` });
      const { store, stored } = memoryStore(await serializeDocument(documentOf(["unit tests", history("✗✗")])));
      const { edges } = makeEdges({ store, send: openSender(env, () => {}), signal: AbortSignal.timeout(SOON_MS) });

      const { outcome, errors } = await checkConsistentFailures(env, edges);

      assert.equal(outcome, "counted");
      assert.match(`${errors}`, hostOf(url));
      assert.equal((await parseDocument(stored.text)).pending_alerts.length, 1);
    });

    test("if that is S3", async (t) => {
      const url = await startPeerOf(t);
      const standIns = await startStandIns();
      t.after(standIns.close);
      const { code, signal, stdout } = await start(
        [String(SOON_MS)],
        { ...standIns.env, CI_PIPELINE_ID: "1005", AWS_ENDPOINT_URL_S3: url },
        ".",
        [...RUNTIME, STOP_AFTER],
      ).result;

      assert.deepEqual({ code, signal }, { code: 0, signal: null });
      assert.match(stdout, hostOf(url));
    });
  });
}
