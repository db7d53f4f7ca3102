/** A certificate authority that nobody knows, and what it signs: made by openssl, for as long as a test runs. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Resolves to a server's key and certificate for these names, and the file of their authority. Undefined without openssl. */
export function makeCertificate(folder: string, names: string[]) {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
  try {
    openssl("version");
  } catch {
    return undefined;
  }
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const authority = "basicConstraints=critical,CA:true";
  openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    "ca.key",
    "-out",
    "ca.pem",
    "-days",
    "2",
    "-subj",
    "/CN=Test CA",
    "-addext",
    authority,
  );
  openssl("req", ...key, "-keyout", "server.key", "-out", "server.csr", "-subj", `/CN=${names[0]}`);
  writeFileSync(join(folder, "names"), `subjectAltName=${names.map((name) => `DNS:${name}`).join()}\n`);
  const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"];
  openssl("x509", "-req", "-in", "server.csr", ...signed, "-out", "server.pem");
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  return { tls: { key: read("server.key"), cert: read("server.pem") }, authorityFile: join(folder, "ca.pem") };
}
