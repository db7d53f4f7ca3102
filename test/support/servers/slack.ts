/** A stand-in for Slack: `chat.postMessage` and `auth.test` of its API. */
import { answerJson, answerWith, type ServerOptions, startServer } from "./http.ts";

export const SLACK_TOKEN = "xoxb-stand-in-token";
export type SlackMessage = { channel: string; text: string; unfurl_links?: boolean; unfurl_media?: boolean };

export async function startSlack(options: ServerOptions = {}) {
  const messages: SlackMessage[] = [];
  /** The errors of channels: `not_in_channel`, `is_archived`, … */
  const errors = new Map<string, string>();
  const server = await startServer(({ path, headers, body }, response) => {
    const [, method] = /^\/api\/(chat\.postMessage|auth\.test)$/.exec(path) ?? [];
    if (!method) return answerWith(404)(response);
    if (headers.authorization !== `Bearer ${SLACK_TOKEN}`) {
      return answerJson(response, { ok: false, error: headers.authorization ? "invalid_auth" : "not_authed" });
    }
    if (method === "auth.test") return answerJson(response, { ok: true, team: "acme", user: "ci" });
    const message: SlackMessage = JSON.parse(body.toString());
    const error = errors.get(message.channel);
    if (error) return answerJson(response, { ok: false, error });
    messages.push(message);
    answerJson(response, { ok: true, channel: message.channel, ts: "1763892000.000100" });
  }, options);
  return { ...server, messages, errors, apiUrl: `${server.url}/api` };
}
