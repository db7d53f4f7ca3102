/** A stand-in for S3: one bucket in memory, with the conditions of PUT and the XML of the errors of the real one. */
import { createHash } from "node:crypto";
import type { ServerResponse } from "node:http";
import { type Asked, answerWith, type ServerOptions, startServer } from "./http.ts";

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

const noChecksum = s3Error(
  400,
  "InvalidRequest",
  "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
);
const unknownHeader = s3Error(400, "InvalidArgument", "Unsupported header x-amz-checksum");
const badDigest = s3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.");

type Options = ServerOptions & {
  bucket?: string;
  /** With object lock, an upload needs a checksum; an old store knows none but MD5. */
  kind?: "usual" | "object lock" | "old";
};

/** What is wrong with the checksums of an upload. */
function refusalOf({ headers, body }: Asked, kind: Options["kind"]) {
  const newer = Object.keys(headers).filter((name) => /^x-amz-(sdk-)?checksum/.test(name));
  const md5 = headers["content-md5"];
  if (kind === "object lock" && !md5 && newer.length === 0) return noChecksum;
  if (kind === "old" && (newer.length > 0 || headers["content-encoding"] === "aws-chunked")) return unknownHeader;
  if (md5 && md5 !== createHash("md5").update(body).digest("base64")) return badDigest;
  return undefined;
}

export async function startS3({ bucket = "bucket", kind = "usual", ...options }: Options = {}) {
  const objects = new Map<string, Buffer>();
  const server = await startServer((asked: Asked, response: ServerResponse) => {
    const { method, path, headers, body } = asked;
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
    const refuse = refusalOf(asked, kind);
    if (refuse) return refuse(response);
    objects.set(key, body);
    response.writeHead(200, { etag: etagOf(body) }).end();
  }, options);
  return { ...server, objects };
}
