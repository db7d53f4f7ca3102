/** A stand-in for Slack: `chat.postMessage` of its API, and an incoming webhook. */
import { answerJson, answerWith, type ServerOptions, startServer } from "./http.ts";

export const SLACK_TOKEN = "xoxb-stand-in-token";
export type SlackMessage = { channel?: string; text: string; unfurl_links?: boolean; unfurl_media?: boolean };

export async function startSlack(options: ServerOptions = {}) {
  const messages: SlackMessage[] = [];
  /** The errors of channels: `not_in_channel`, `is_archived`, … */
  const errors = new Map<string, string>();
  const server = await startServer(({ path, headers, body }, response) => {
    const message: SlackMessage = JSON.parse(body.toString());
    if (path === "/services/T0/B0/stand-in-webhook") {
      messages.push(message);
      return answerWith(200, "ok", { "content-type": "text/html" })(response);
    }
    if (path !== "/api/chat.postMessage") return answerWith(404)(response);
    if (headers.authorization !== `Bearer ${SLACK_TOKEN}`) {
      return answerJson(response, { ok: false, error: headers.authorization ? "invalid_auth" : "not_authed" });
    }
    const error = errors.get(message.channel ?? "");
    if (error) return answerJson(response, { ok: false, error });
    messages.push(message);
    answerJson(response, { ok: true, channel: message.channel, ts: "1763892000.000100" });
  }, options);
  return {
    ...server,
    messages,
    errors,
    apiUrl: `${server.url}/api`,
    webhookUrl: `${server.url}/services/T0/B0/stand-in-webhook`,
  };
}
