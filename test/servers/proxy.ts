/** A proxy in front of another server, which can hold requests back before it passes them on. */
import { request } from "node:http";
import { type Asked, startServer } from "./http.ts";

export const startProxy = (url: string, hold: (asked: Asked) => Promise<void> | undefined) =>
  startServer(async (asked, response) => {
    await hold(asked);
    const { method, path, query, headers, body } = asked;
    request(new URL(`${path}?${query}`, url), { method, headers })
      .on("response", (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      })
      .on("error", () => response.destroy())
      .end(body);
  });

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
