/**
 * Writes the script and its packages as one file that needs nothing installed, dist/check-failures.mjs:
 *
 *   tsx test/tools/bundle.ts
 *
 * It is not minified: whoever wants to can read it, and an error of the runtime shows a line and not all of the file.
 */
import { mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build, type Plugin } from "esbuild";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCE = "check-failures.ts";
const BUNDLE = "check-failures.mjs";
/** The packages that the script names, besides Node's own. */
const IMPORTED = [...readFileSync(join(PROJECT, SOURCE), "utf8").matchAll(/^import .* from "((?!node:)[^"]+)";$/gm)];
const VERSIONS = ["", ...IMPORTED.map(([, name]) => `node_modules/${name}`)].map((folder) => {
  const { name, version } = readManifest(folder);
  return `${name} ${version}`;
});
/** Keeps linters, formatters and compilers away from what nobody wrote. */
const HEAD = `// @ts-nocheck
/* eslint-disable */
/* biome-ignore-all lint: made by a program */
/* biome-ignore-all format: made by a program */
/*
 * @generated from ${SOURCE} by \`npm run bundle\`. All that it needs is in it:
 *
 *   ${VERSIONS.join(", ")}
 *
 *   node ${BUNDLE} --help
 *
 * The licences of all packages stand at the end. With DEBUG=1, stack traces lead to lines of ${SOURCE}.
 */`;
/** The map of one character, in column 1,048,576 of the first line: esbuild makes its own where one has none. */
const NO_MAP = toMapComment('{"version":3,"sources":[""],"mappings":"ggggCAAA"}');

function toMapComment(map: string): string {
  return `//# sourceMappingURL=data:application/json;base64,${Buffer.from(map).toString("base64")}\n`;
}

/** Resolves to the path of the bundle in the folder. The same sources make the same bytes. */
export async function writeBundle(folder: string): Promise<string> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: PROJECT,
    entryPoints: [SOURCE],
    inject: ["test/tools/bundle-traces.ts"],
    plugins: [mapNothingElse],
    bundle: true,
    platform: "node",
    target: "node20.16",
    format: "esm",
    // The packages as modules: what the script does not use of them is left out.
    mainFields: ["module", "main"],
    conditions: ["module"],
    keepNames: true, // of functions that share a name, as errors and traces show it
    banner: { js: HEAD },
    legalComments: "eof",
    sourcemap: "external",
    sourcesContent: false,
    metafile: true,
    write: false,
    outfile: BUNDLE, // the map tells of the source as if it lay beside it
  });
  const [map = "", code = ""] = outputFiles.sort((a, b) => b.path.localeCompare(a.path)).map(({ text }) => text);
  // Packages in CommonJS that load a module of Node would need it: it would throw, and only when it is called.
  if (code.includes("__require(")) throw new Error("The bundle would call require(), which modules don't have");
  const packages = packagesOf(metafile.outputs[BUNDLE]?.inputs ?? {});
  mkdirSync(folder, { recursive: true });
  const path = join(folder, BUNDLE);
  writeFileSync(path, [code, writeLicences(packages), toMapComment(map)].join("\n"));
  return path;
}

/** Traces are to lead to lines of the script only: the packages stand in the bundle as they are. */
const mapNothingElse: Plugin = {
  name: "map nothing else",
  setup: ({ onLoad }) =>
    onLoad({ filter: /\.[cm]?[jt]s$/ }, ({ path }) => {
      if (path === join(PROJECT, SOURCE)) return undefined;
      return { contents: `${readFileSync(path, "utf8")}\n${NO_MAP}`, loader: "default" };
    }),
};

function readManifest(folder: string) {
  return JSON.parse(readFileSync(join(PROJECT, folder, "package.json"), "utf8"));
}

type Package = { name: string; version: string; license: string; text: string };

/** The packages of which anything is in the bundle, this project among them. */
function packagesOf(inputs: Record<string, { bytesInOutput: number }>): Package[] {
  const used = Object.keys(inputs).filter((path) => inputs[path]?.bytesInOutput);
  const folders = new Set(used.map((path) => /^(?:.*\bnode_modules\/(?:@[^/]+\/)?[^/]+)?/.exec(path)?.[0] ?? ""));
  return [...folders].sort().map((folder) => {
    const path = join(PROJECT, folder);
    const { name, version, license } = readManifest(folder);
    const files = readdirSync(path).filter((file) => /^(licen[cs]e|notice|copying)\b/i.test(file));
    if (!license) throw new Error(`${path} names no licence`);
    const texts = files.map((file) => readFileSync(join(path, file), "utf8").trim());
    const text = texts.join("\n\n") || "These packages come without the text of their licence, and only name it.";
    return { name, version, license, text };
  });
}

/** Each licence once, below the packages that come with these words, however they are spaced. */
function writeLicences(packages: Package[]): string {
  const groups = new Map<string, Package[]>();
  for (const used of packages) {
    const words = used.text.replace(/\s+/g, " ");
    groups.set(words, [...(groups.get(words) ?? []), used]);
  }
  const parts = [...groups.values()].map((group) => {
    const titles = group.map(({ name, version, license }) => `${name} ${version} (${license})`);
    return `${titles.join("\n")}\n\n${group[0]?.text}`;
  });
  return `/*! The licences of what is in this file:\n\n${parts.join(`\n\n${"-".repeat(80)}\n\n`).replaceAll("*/", "* /")}\n*/`;
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  console.log(await writeBundle(join(PROJECT, "dist")));
}
