/**
 * A proxy in front of an S3, which can hold requests back before it passes them on. It passes one upload on at a time:
 * moto_server compares versions and stores in two steps, and so takes two uploads of one version now and then.
 */
import { request } from "node:http";
import { finished } from "node:stream/promises";
import { type Asked, startServer } from "./http.ts";

export function startProxy(url: string, hold: (asked: Asked) => Promise<void> | undefined) {
  let uploaded: Promise<unknown> = Promise.resolve();
  return startServer(async (asked, response) => {
    await hold(asked);
    const { method, path, query, headers, body } = asked;
    if (method === "PUT") {
      const before = uploaded;
      uploaded = finished(response).catch(() => {}); // its client may have left
      await before;
    }
    request(new URL(`${path}?${query}`, url), { method, headers })
      .on("response", (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      })
      .on("error", () => response.destroy())
      .end(body);
  });
}

/** Lets nobody pass until `count` have arrived. */
export function meetingOf(count: number): () => Promise<void> {
  let missing = count;
  let open = () => {};
  const isOpen = new Promise<void>((resolve) => {
    open = resolve;
  });
  return () => {
    missing--;
    if (missing === 0) open();
    return isOpen;
  };
}
