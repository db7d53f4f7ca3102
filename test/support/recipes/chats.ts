/** Stand-ins for chats: each takes and refuses what the real one takes and refuses, as its documentation has it. */
import { type AddressInfo, createServer } from "node:net";
import { createInterface } from "node:readline";
import { answerWith, startServer } from "../servers/http.ts";

type Answer = [status: number, body?: string];
/** What a chat answers to a body; undefined where that is no JSON. */
type Chat = { path: string; unknown: Answer; answer: (body: Record<string, unknown> | undefined) => Answer };

const isText = (value: unknown): value is string => typeof value === "string" && value.trim() !== "";

function answerTeams(body: Record<string, unknown> = {}): Answer {
  const [card] =
    (body.attachments as { contentType?: string; content?: { type?: string; body?: { text?: string }[] } }[]) ?? [];
  const isCard =
    card?.contentType === "application/vnd.microsoft.card.adaptive" && card.content?.type === "AdaptiveCard";
  const texts = card?.content?.body ?? [];
  return isCard && texts.length > 0 && texts.every(({ text }) => isText(text))
    ? [202]
    : [400, "TriggerInputSchemaMismatch"];
}

function answerDiscord(body?: Record<string, unknown>): Answer {
  if (!body) return [400, '{"code": 50109, "message": "The request body contains invalid JSON."}'];
  const [embed] = (body.embeds as { description?: string }[] | undefined) ?? [];
  if (!isText(body.content) && !isText(embed?.description)) return [400, '{"code": 50006}'];
  const isTooLong = String(body.content ?? "").length > 2_000 || (embed?.description?.length ?? 0) > 4_096;
  return isTooLong ? [400, '{"code": 50035, "message": "Invalid Form Body"}'] : [204];
}

function answerSlack(body?: Record<string, unknown>): Answer {
  if (!body) return [400, "invalid_payload"];
  const blocks = (body.blocks as { type: string; text: string }[] | undefined) ?? [];
  const known = blocks.every(({ type, text }) => type === "markdown" && isText(text) && text.length <= 12_000);
  if (!known) return [400, "invalid_blocks"];
  return isText(body.text) || blocks.length > 0 ? [200, "ok"] : [400, "no_text"];
}

const CHATS = {
  teams: {
    path: "/workflows/1/triggers/manual/paths/invoke",
    unknown: [401, "DirectApiAuthorizationRequired"],
    answer: answerTeams,
  },
  discord: {
    path: "/api/webhooks/1/token",
    unknown: [401, '{"message": "Invalid Webhook Token", "code": 50027}'],
    answer: answerDiscord,
  },
  mattermost: {
    path: "/hooks/token",
    unknown: [404, '{"id": "web.incoming_webhook.invalid.app_error"}'],
    answer: (body) => (isText(body?.text) ? [200, "ok"] : [400, '{"id": "web.incoming_webhook.text.app_error"}']),
  },
  slack: { path: "/services/T0/B0/token", unknown: [403, "invalid_token"], answer: answerSlack },
} satisfies Record<string, Chat>;
export type ChatName = keyof typeof CHATS;

/** Parses what may be no JSON. */
function bodyOf(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `url` is the address of its webhook; `taken` are the bodies that it posted. */
export async function startChat(name: ChatName) {
  const { path, unknown, answer }: Chat = CHATS[name];
  const taken: Record<string, unknown>[] = [];
  const server = await startServer((asked, response) => {
    const isJson = asked.headers["content-type"] === "application/json";
    const body = isJson ? bodyOf(asked.body.toString()) : undefined;
    const [status, text] = asked.path === path ? answer(body) : unknown;
    if (status < 300 && body) taken.push(body);
    answerWith(status, text)(response);
  });
  return { ...server, url: `${server.url}${path}`, taken };
}

/** A mail server that takes mail for one address from whoever logs in, and keeps what it took. */
export async function startMailServer({ to, login }: { to: string; login: string }) {
  const mails: string[] = [];
  const wanted = Buffer.from(`\0${login.replace(":", "\0")}`).toString("base64");
  const server = createServer((socket) => {
    const say = (line: string) => void socket.write(`${line}\r\n`);
    let isKnown = false;
    let lines: string[] | undefined;
    socket.on("error", () => {}); // it may leave
    say("220 mail");
    createInterface(socket).on("line", (line) => {
      if (lines && line !== ".") return void lines.push(line);
      if (lines) {
        mails.push(lines.join("\n"));
        lines = undefined;
        return say("250 taken");
      }
      if (/^EHLO/i.test(line)) return say("250-mail\r\n250-AUTH PLAIN\r\n250 8BITMIME");
      if (/^AUTH PLAIN$/i.test(line)) return say("334 ");
      if (/^[\w+/]+=*$/.test(line) && line.length > 8) {
        isKnown = line === wanted;
        return say(isKnown ? "235 welcome" : "535 authentication failed");
      }
      if (/^MAIL/i.test(line)) return say(isKnown ? "250 ok" : "530 log in first");
      if (/^RCPT/i.test(line)) return say(line.includes(`<${to}>`) ? "250 ok" : "550 no such user");
      if (/^QUIT/i.test(line)) return void socket.end("221 bye\r\n");
      if (!/^DATA/i.test(line)) return say("502 unknown");
      lines = [];
      say("354 go on");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `smtp://127.0.0.1:${port}`, mails, close: () => void server.close() };
}
