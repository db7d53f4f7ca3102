/** A stand-in for S3: one bucket in memory that answers as the real one does, and misbehaves where a test asks for it. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export type S3Request = { method: string; key: string; headers: IncomingMessage["headers"]; status: number };
/** What a fault does with a request: `before` instead of carrying it out, `after` instead of answering it. */
export type Fault = {
  method: string;
  times: number;
  before?: (response: ServerResponse, request: IncomingMessage) => void;
  after?: (response: ServerResponse) => void;
};

export const etagOf = (body: Buffer | string) => `"${createHash("md5").update(body).digest("hex")}"`;

export const s3Error = (status: number, code: string, message: string) => (response: ServerResponse) => {
  response.writeHead(status, { "content-type": "application/xml" });
  response.end(
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message><RequestId>1</RequestId></Error>`,
  );
};
const preconditionFailed = s3Error(
  412,
  "PreconditionFailed",
  "At least one of the pre-conditions you specified did not hold",
);
const noSuchKey = s3Error(404, "NoSuchKey", "The specified key does not exist.");

export async function startS3({ bucket = "bucket", latencyMs = 0 } = {}) {
  const objects = new Map<string, Buffer>();
  const requests: S3Request[] = [];
  const faults: Fault[] = [];
  const answer = (request: IncomingMessage, response: ServerResponse, body: Buffer) => {
    const [, name, key = ""] = /^\/([^/?]+)\/?([^?]*)/.exec(decodeURIComponent(request.url ?? "")) ?? [];
    if (name !== bucket) return s3Error(404, "NoSuchBucket", "The specified bucket does not exist")(response);
    const stored = objects.get(key);
    if (request.method === "GET") {
      if (!stored) return noSuchKey(response);
      return response.writeHead(200, { etag: etagOf(stored), "content-type": "application/json" }).end(stored);
    }
    const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = request.headers;
    if (ifMatch !== undefined && !stored) return noSuchKey(response);
    if (ifMatch !== undefined && stored && ifMatch !== etagOf(stored)) return preconditionFailed(response);
    if (ifNoneMatch === "*" && stored) return preconditionFailed(response);
    objects.set(key, body);
    return response.writeHead(200, { etag: etagOf(body) }).end();
  };
  const server = createServer(async (request, response) => {
    const entry: S3Request = {
      method: request.method ?? "",
      key: request.url ?? "",
      headers: request.headers,
      status: 0,
    };
    requests.push(entry);
    response.on("finish", () => {
      entry.status = response.statusCode;
    });
    const body = await buffer(request).catch(() => Buffer.alloc(0));
    const fault = faults.find(({ method, times }) => method === request.method && times > 0);
    if (fault) fault.times--;
    if (fault?.before) return fault.before(response, request);
    if (fault?.after) {
      const sink = { writeHead: () => sink, end: () => sink } as unknown as ServerResponse;
      answer(request, sink, body);
      return fault.after(response);
    }
    setTimeout(() => answer(request, response, body), latencyMs);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    requests,
    faults,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
