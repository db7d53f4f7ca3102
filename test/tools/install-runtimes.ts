/** The runtimes under which the script promises to run: pinned, from the npm registry, and never a dependency. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";

/** The oldest Node that will do, the oldest that needs no tsx, and those that people use. */
const VERSIONS = { node20: "20.16.0", node22: "22.18.0", node24: "24.21.0", deno: "2.9.6", bun: "1.4.5" };

/** What a run reads and writes: a document in S3, a document in its working folder, or whatever a test asks for, commands too. */
export type Store = "s3" | "local" | "any";

export type Runtime = {
  name: string;
  /** The command that runs a script, with no more rights than it needs. */
  command: (store: Store) => string[];
  /** The command that runs a bundle, which is JavaScript and has its packages in it. */
  bare: (store: Store) => string[];
  /** What it needs besides for a script with node_modules but no package.json beside it. */
  lone: string[];
  /** What makes it resolve imports by itself, where it can do that. */
  withImports?: (imports: Record<string, string>) => string[];
  /** The command that runs the files of the test suite. `npm test` is that of tsx. */
  suite?: string[];
};

const DENO_RIGHTS: Record<Store, string[]> = {
  s3: ["--allow-net", "--allow-env", "--allow-sys=osRelease"],
  local: ["--allow-net", "--allow-env", "--allow-read=.", "--allow-write=."],
  any: ["--allow-net", "--allow-env", "--allow-sys=osRelease", "--allow-read", "--allow-write", "--allow-run"],
};

/**
 * Resolves to the runtimes with any of these words in their names, all of them if there are no words. Installs them
 * first where that was not done before. Throws where one can't be installed or is not the pinned one.
 */
export async function installRuntimes(words: string[] = []): Promise<Runtime[]> {
  const nodes = ["node20", "node22", "node24"] as const;
  const node = `node-${process.platform}-${process.arch}`;
  const packages = nodes.map((name) => `${name}@npm:${node}@${VERSIONS[name]}`);
  const denoProgram = await installDeno();
  const folder = await install([...packages, `bun@${VERSIONS.bun}`]);
  const [node20 = "", node22 = "", node24 = ""] = await Promise.all(
    nodes.map((name) => verify(join(folder, name, "bin", "node"), VERSIONS[name])),
  );
  const deno = await verify(denoProgram, VERSIONS.deno);
  const bun = await verify(join(await onlyOf(folder, "@oven"), "bin", "bun"), VERSIONS.bun);
  const runtimes: Runtime[] = [
    withTsx(node20, VERSIONS.node20),
    withTsx(process.execPath, process.versions.node),
    { name: `Node ${VERSIONS.node22}`, ...same(() => [node22]), lone: [] },
    {
      name: `Node ${VERSIONS.node24}`,
      ...same(() => [node24]),
      lone: [],
      suite: [node24, "--test", "--test-reporter=spec"],
    },
    {
      name: `Deno ${VERSIONS.deno}`,
      ...same((store) => [deno, "run", ...DENO_RIGHTS[store]]),
      lone: ["--node-modules-dir=manual"],
      withImports: (imports) => [`--import-map=data:application/json,${JSON.stringify({ imports })}`],
      suite: [deno, "test", "-A", "--no-check"],
    },
    { name: `Bun ${VERSIONS.bun}`, ...same(() => [bun]), lone: [], suite: [bun, "test", "--timeout", "60000"] },
  ];
  const isNamed = ({ name }: Runtime) => words.some((word) => name.toLowerCase().includes(word.toLowerCase()));
  const chosen = words.length > 0 ? runtimes.filter(isNamed) : runtimes;
  if (chosen.length === 0) throw new Error(`No runtime is called ${words.join(" or ")}`);
  return chosen;
}

const DENO = [`deno@${VERSIONS.deno}`];

/** Resolves to the program. */
async function installDeno(): Promise<string> {
  return join(await onlyOf(await install(DENO), "@deno"), "deno");
}

/** The program, where it has been installed before, or is on the PATH: nothing is fetched. */
export async function findDeno(): Promise<string | undefined> {
  if (existsSync(folderOf(DENO))) return installDeno();
  return execute("deno", ["--version"]).then(
    () => "deno",
    () => undefined,
  );
}

/** Of the optional packages with the programs, npm installs the one that fits the machine. */
async function onlyOf(modules: string, scope: string): Promise<string> {
  return join(modules, scope, (await readdir(join(modules, scope)))[0] ?? "");
}

function withTsx(node: string, version: string): Runtime {
  const command = [node, "--import", import.meta.resolve("tsx")];
  return { name: `tsx on Node ${version}`, command: () => command, bare: () => [node], lone: [] };
}

/** What runs TypeScript and JavaScript alike. */
const same = (command: Runtime["command"]) => ({ command, bare: command });

const execute = promisify(execFile);

/** Resolves to the node_modules with the packages, which a broken-off installation does not leave half filled. */
async function install(packages: string[]): Promise<string> {
  const folder = folderOf(packages);
  if (!existsSync(folder)) {
    const unfinished = await mkdtemp(`${folder}-`);
    await writeFile(join(unfinished, "package.json"), "{}");
    try {
      // Without their install scripts, which npm may forbid, and which do no more than copy the programs.
      const options = ["--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--prefix", unfinished];
      await execute("npm", ["install", ...options, ...packages], { cwd: unfinished });
    } catch (error) {
      await rm(unfinished, { recursive: true });
      throw new Error(`Cannot install ${packages.join(", ")}: ${(error as Error).message}`, { cause: error });
    }
    await rename(unfinished, folder);
  }
  return join(folder, "node_modules");
}

function folderOf(packages: string[]): string {
  const hash = createHash("sha256").update(packages.join()).digest("hex").slice(0, 12);
  return join(tmpdir(), `check-failures-runtimes-${hash}`);
}

async function verify(program: string, version: string): Promise<string> {
  const { stdout } = await execute(program, ["--version"]);
  if (!stdout.includes(version)) throw new Error(`Expected ${program} to be ${version}, but it is ${stdout}`);
  return program;
}
