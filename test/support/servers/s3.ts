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
const noMd5 = s3Error(501, "NotImplemented", "A header you provided implies functionality that is not implemented");
const badDigest = s3Error(400, "BadDigest", "The SHA256 you specified did not match the calculated checksum.");

/** What opens a directory bucket, and what it then asks for. */
export const SESSION = "stand-in-session-token";
const createSession = (response: ServerResponse) => {
  const expiration = new Date(Date.now() + 300_000).toISOString();
  const credentials = `<SessionToken>${SESSION}</SessionToken><SecretAccessKey>secret</SecretAccessKey><AccessKeyId>session</AccessKeyId><Expiration>${expiration}</Expiration>`;
  const body = `<CreateSessionResult><Credentials>${credentials}</Credentials></CreateSessionResult>`;
  answerWith(200, body, { "content-type": "application/xml" })(response);
};

type Options = ServerOptions & {
  bucket?: string;
  /** With object lock, an upload needs a checksum; a directory bucket needs a session, and takes no MD5. */
  kind?: "usual" | "object lock" | "directory";
  /** As a proxy that changes answers, compresses them for example, makes the versions in them. */
  hasWeakEtags?: boolean;
};

/** What is wrong with the headers of a request. */
function refusalOf({ headers, body }: Asked, kind: Options["kind"]) {
  const sha256 = headers["x-amz-checksum-sha256"];
  const md5 = headers["content-md5"];
  if (kind === "directory" && headers["x-amz-s3session-token"] !== SESSION) return accessDenied;
  if (kind === "directory" && md5) return noMd5;
  if (kind === "object lock" && body.length > 0 && !md5 && !sha256) return noChecksum;
  if (sha256 && sha256 !== createHash("sha256").update(body).digest("base64")) return badDigest;
  return undefined;
}

export async function startS3(options: Options = {}) {
  const { bucket = "bucket", kind = "usual", hasWeakEtags = false } = options;
  const objects = new Map<string, Buffer>();
  const etagTold = (body: Buffer) => (hasWeakEtags ? `W/${etagOf(body)}` : etagOf(body));
  const server = await startServer((asked: Asked, response: ServerResponse) => {
    const { method, path, query, headers, body } = asked;
    const [, name, key = ""] = /^\/([^/]+)\/*(.*)$/s.exec(path) ?? [];
    const stored = objects.get(key);
    if (name !== bucket) return noSuchBucket(response);
    if (kind === "directory" && query.has("session")) return createSession(response);
    const refuse = refusalOf(asked, kind);
    if (refuse) return refuse(response);
    if (method === "GET") {
      if (!stored) return noSuchKey(response);
      response.writeHead(200, { etag: etagTold(stored), "content-type": "application/json" }).end(stored);
      return;
    }
    const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = headers;
    if (ifMatch !== undefined && !stored) return noSuchKey(response);
    if (ifMatch !== undefined && stored && ifMatch !== etagOf(stored)) return preconditionFailed(response);
    if (ifNoneMatch === "*" && stored) return preconditionFailed(response);
    objects.set(key, body);
    response.writeHead(200, { etag: etagTold(body) }).end();
  }, options);
  return { ...server, objects };
}
