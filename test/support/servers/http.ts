/** What the stand-ins share: a server on loopback that keeps what it was asked, and can be told to misbehave. */
import { createServer, type IncomingHttpHeaders, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export type Asked = {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  body: Buffer;
};

/** Answers the next `times` requests that `matches` accepts in place of the server. */
export type Fault = {
  times: number;
  matches?: (asked: Asked) => boolean;
  /** Carries the request out before the answer is spoiled, as a proxy does that loses answers. */
  isCarriedOut?: boolean;
  answer: (response: ServerResponse, asked: Asked) => void;
};

export type ServerOptions = {
  latencyMs?: number;
  host?: string;
  tls?: { key: string; cert: string };
  /** Like some proxies and stores: never tells a client to go on that asks whether it may. */
  ignoresExpect?: boolean;
};

const BACKLOG = 128; // connections that wait: of more, a client's system tries again a second later

export async function startServer(
  answer: (asked: Asked, response: ServerResponse) => void,
  { latencyMs = 0, host = "127.0.0.1", tls, ignoresExpect = false }: ServerOptions = {},
) {
  const requests: Asked[] = [];
  const faults: Fault[] = [];
  const listener: RequestListener = async (request, response) => {
    const { pathname, searchParams: query } = new URL(request.url ?? "/", "http://stand-in");
    // A client that breaks off in the middle of its request has nothing to be answered.
    const body = await buffer(request).catch(() => undefined);
    if (body === undefined) return;
    const { method = "", headers } = request;
    const asked = { method, path: decodeURIComponent(pathname), query, headers, body };
    requests.push(asked);
    const fault = faults.find(({ times, matches }) => times > 0 && (matches?.(asked) ?? true));
    if (fault) {
      fault.times--;
      if (fault.isCarriedOut) answer(asked, silent);
      fault.answer(response, asked);
    } else if (latencyMs > 0) {
      setTimeout(answer, latencyMs, asked, response);
    } else {
      answer(asked, response);
    }
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  if (ignoresExpect) server.on("checkContinue", () => {});
  await new Promise<void>((resolve) => server.listen({ port: 0, host, backlog: BACKLOG }, resolve));
  return {
    url: `${tls ? "https" : "http"}://${host}:${(server.address() as AddressInfo).port}`,
    requests,
    faults,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Takes an answer that nobody is to get. */
const silent = { writeHead: () => silent, end: () => silent } as unknown as ServerResponse;

export const answerWith =
  (status: number, body = "", headers: Record<string, string> = {}) =>
  (response: ServerResponse) =>
    void response.writeHead(status, headers).end(body);

export const answerJson = (response: ServerResponse, body: unknown, headers: Record<string, string> = {}) =>
  answerWith(200, JSON.stringify(body), { "content-type": "application/json", ...headers })(response);

/** Breaks the connection off, with what was already said of an answer. */
export const reset = (response: ServerResponse) => void response.destroy();

/** Never answers. */
export const hang = () => {};

/** Answers a byte at a time, for as long as the client listens. */
export const trickle = (response: ServerResponse) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000000", etag: '"trickle"' });
  const timer = setInterval(() => response.write(" "), 200);
  response.on("close", () => clearInterval(timer));
};
