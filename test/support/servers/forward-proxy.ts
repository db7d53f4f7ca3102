/** A proxy that alone knows the hosts of a network: for http addresses, and by CONNECT for https. */
import { createServer, request } from "node:http";
import { type AddressInfo, connect } from "node:net";

/** `hosts` maps a name to the address of a server; `login` (`user:password`) is asked for where it is given. */
export async function startForwardProxy(hosts: Record<string, string>, { login }: { login?: string } = {}) {
  /** What has passed: `GET http://host/path` or `CONNECT host:443`. */
  const passed: string[] = [];
  const wanted = login && `Basic ${Buffer.from(login).toString("base64")}`;
  const serverOf = (host: string) => new URL(hosts[host] ?? "http://127.0.0.1:1");
  const isAllowed = (authorization: string | undefined) => !wanted || authorization === wanted;

  const server = createServer((asked, response) => {
    const url = new URL(asked.url ?? "");
    if (!isAllowed(asked.headers["proxy-authorization"])) return void response.writeHead(407).end();
    passed.push(`${asked.method} ${url.origin}${url.pathname}`);
    const { hostname, port } = serverOf(url.hostname);
    const { "proxy-authorization": _, "proxy-connection": __, ...headers } = asked.headers;
    const { method } = asked;
    const further = request({ hostname, port, path: `${url.pathname}${url.search}`, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    further.on("error", () => response.writeHead(502).end());
    asked.pipe(further);
  });
  server.on("connect", ({ url = "", headers }, client, head) => {
    client.on("error", () => {}); // it may leave
    if (!isAllowed(headers["proxy-authorization"])) return void client.end("HTTP/1.1 407 Proxy\r\n\r\n");
    passed.push(`CONNECT ${url}`);
    const { hostname, port } = serverOf(url.replace(/:\d+$/, ""));
    const further = connect(Number(port), hostname, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      further.write(head);
      further.pipe(client).pipe(further);
    });
    further.on("error", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    passed,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
