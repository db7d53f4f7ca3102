/**
 * A stand-in for GitHub's `gh`: what README's snippets ask of it, on files in the folder $MACHINE/gh. Each call is a
 * line in calls.json. What it does not know is an error, and so is a call that matches fails.txt, or one without a token.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

const folder = join(process.env.MACHINE, "gh");
const read = (name, otherwise) =>
  existsSync(join(folder, name)) ? JSON.parse(readFileSync(join(folder, name), "utf8")) : otherwise;
const write = (name, value) => writeFileSync(join(folder, name), JSON.stringify(value));

const args = process.argv.slice(2);
const optionOf = (option) => (args.includes(option) ? args[args.indexOf(option) + 1] : undefined);
const body = optionOf("--body-file") === "-" ? readFileSync(0, "utf8") : undefined;
appendFileSync(join(folder, "calls.json"), `${JSON.stringify({ args, body })}\n`);

function end(code, text) {
  process.stderr.write(`${text}\n`);
  process.exit(code);
}
if (!process.env.GH_TOKEN)
  end(4, "gh: To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN environment variable");
if (read("fails.json", []).some((words) => args.join(" ").includes(words))) {
  if (args[0] === "api") process.stdout.write('{"message":"Server Error"}'); // as `gh` does, whatever its --jq
  end(1, "gh: HTTP 502");
}

const issues = read("issues.json", []);
const labels = read("labels.json", []);
const issueOf = (name) =>
  issues.find(({ number, url }) => name === String(number) || name === url) ?? end(1, "no issue");
const answers = {
  api: () => {
    const url = new URL(
      args.findLast((arg) => arg.startsWith("repos/")),
      "https://api.github.com/",
    );
    const label = url.searchParams.get("labels");
    const [, kind, id] =
      /(issues|runs|check-runs|commits)(?:\/(\w+))?/.exec(url.pathname.replace("/actions", "")) ?? [];
    if (kind === "runs") return read("listed.json");
    if (kind === "check-runs") return (read("annotations.json", {})[id] ?? []).map((message) => ({ message }));
    if (kind === "commits") return { sha: id, parents: (read("parents.json", {})[id] ?? []).map((sha) => ({ sha })) };
    if (kind === "issues") return issues.filter(({ state, label: has }) => state === "open" && has === label);
    return end(1, "gh: HTTP 404");
  },
  "label create": () => write("labels.json", [...labels, args[2]]),
  "issue create": () => {
    const label = optionOf("--label");
    if (label && !labels.includes(label)) end(1, `could not add label: '${label}' not found`);
    const number = issues.length + 1;
    const url = `https://github.com/acme/shop/issues/${number}`;
    write("issues.json", [...issues, { number, url, state: "open", label, title: optionOf("--title"), said: [body] }]);
    return url;
  },
  "issue comment": () => {
    issueOf(args[2]).said.push(body);
    write("issues.json", issues);
  },
  "issue close": () => {
    issueOf(args[2]).state = "closed";
    write("issues.json", issues);
  },
};
const answer = (answers[args[0] === "api" ? "api" : args.slice(0, 2).join(" ")] ?? (() => end(1, "unknown command")))();
if (answer !== undefined) {
  const text = typeof answer === "string" ? answer : JSON.stringify(answer);
  const filter = optionOf("--jq");
  process.stdout.write(filter ? spawnSync("jq", ["-r", filter], { input: text }).stdout : `${text}\n`);
}
