/** A stand-in for S3: one bucket in memory, with the conditions of PUT and the XML of the errors of the real one. */
import { createHash } from "node:crypto";
import type { ServerResponse } from "node:http";
import { type Asked, answerWith, startServer } from "./http.ts";

const etags = new WeakMap<Buffer, string>();

/** The real one computes it while an upload arrives; here, it is kept, so that a large object is not hashed thrice. */
export function etagOf(body: Buffer | string): string {
  const known = typeof body === "string" ? undefined : etags.get(body);
  const etag = known ?? `"${createHash("md5").update(body).digest("hex")}"`;
  if (typeof body !== "string") etags.set(body, etag);
  return etag;
}

export const s3Error = (status: number, code: string, message: string) =>
  answerWith(
    status,
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>`,
    { "content-type": "application/xml" },
  );

export const noSuchKey = s3Error(404, "NoSuchKey", "The specified key does not exist.");
export const noSuchBucket = s3Error(404, "NoSuchBucket", "The specified bucket does not exist");
export const accessDenied = s3Error(403, "AccessDenied", "Access Denied");
export const preconditionFailed = s3Error(
  412,
  "PreconditionFailed",
  "At least one of the pre-conditions you specified did not hold",
);

export async function startS3({ bucket = "bucket", latencyMs = 0 } = {}) {
  const objects = new Map<string, Buffer>();
  const server = await startServer(
    ({ method, path, headers, body }: Asked, response: ServerResponse) => {
      const [, name, key = ""] = /^\/([^/]+)\/?(.*)$/s.exec(path) ?? [];
      const stored = objects.get(key);
      if (name !== bucket) return noSuchBucket(response);
      if (method === "GET") {
        if (!stored) return noSuchKey(response);
        response.writeHead(200, { etag: etagOf(stored), "content-type": "application/json" }).end(stored);
        return;
      }
      const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = headers;
      if (ifMatch !== undefined && !stored) return noSuchKey(response);
      if (ifMatch !== undefined && stored && ifMatch !== etagOf(stored)) return preconditionFailed(response);
      if (ifNoneMatch === "*" && stored) return preconditionFailed(response);
      objects.set(key, body);
      response.writeHead(200, { etag: etagOf(body) }).end();
    },
    { latencyMs },
  );
  return { ...server, objects };
}
