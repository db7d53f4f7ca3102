/**
 * A stand-in for GitHub's `gh`: what the recipes ask of it, on files in the folder $MACHINE/gh. Each call is a line in
 * calls.json. What it does not know is an error, and so is a call that has words of fails.json in it, or no token.
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
const body = optionOf("--body-file") === "-" ? readFileSync(0, "utf8") : optionOf("--body");
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
const issueOf = (name) => {
  const named = ({ number, url }) => name === String(number) || name === url;
  const issue = issues.find(named) ?? end(1, "no issue");
  if (issue.pull_request) end(1, "a pull request");
  return issue;
};
/** What GitHub takes for a title. */
const titleOf = (title) => (title && [...title].length <= 256 ? title : end(1, "gh: HTTP 422: title is too long"));
const change = (changes) => {
  Object.assign(issueOf(args[2]), changes);
  write("issues.json", issues);
};

function answerApi() {
  const url = new URL(
    args.find((arg) => /^(repos|orgs)\//.test(arg)),
    "https://api.github.com/",
  );
  const [, kind, id] = /\/(issues|runs|check-runs|pages|contents|matching-refs)(?:\/(.*))?$/.exec(url.pathname) ?? [];
  const [, repository] = /^\/repos\/([^/]+\/[^/]+)/.exec(url.pathname) ?? [];
  if (kind === "runs") return read("listed.json");
  if (kind === "check-runs")
    return (read("annotations.json", {})[id.split("/")[0]] ?? []).map((message) => ({ message }));
  if (kind === "pages") return { public: read("public.json", false) };
  if (url.pathname === "/orgs/acme/repos") return read("repositories.json", []);
  const branches = read("branches.json", {})[repository] ?? {};
  if (kind === "matching-refs") return Object.keys(branches).map((name) => ({ ref: `refs/heads/${name}` }));
  if (kind === "contents") return branches[url.searchParams.get("ref")] ?? end(1, "gh: HTTP 404");
  if (kind === "issues") {
    const has = ({ state, label }) =>
      label === url.searchParams.get("labels") && ["all", state].includes(url.searchParams.get("state") ?? "open");
    return issues.filter(has).toReversed();
  }
  return end(1, "gh: HTTP 404");
}

const answers = {
  "label create": () => write("labels.json", [...labels, args[2]]),
  "issue create": () => {
    const label = optionOf("--label");
    if (!labels.includes(label)) end(1, `could not add label: '${label}' not found`);
    const number = issues.length + 1;
    const url = `https://github.com/acme/shop/issues/${number}`;
    const title = titleOf(optionOf("--title"));
    write("issues.json", [...issues, { number, url, state: "open", label, title, said: [body] }]);
    return url;
  },
  "issue comment": () => change({ said: [...issueOf(args[2]).said, body] }),
  "issue edit": () => change({ title: titleOf(optionOf("--title")) }),
  "issue close": () => change({ state: "closed" }),
  "issue reopen": () => change({ state: "open" }),
};
const command = args[0] === "api" ? answerApi : answers[args.slice(0, 2).join(" ")];
const answer = command ? command() : end(1, "unknown command");
if (answer !== undefined) {
  const text = typeof answer === "string" ? answer : JSON.stringify(answer);
  const filter = optionOf("--jq");
  process.stdout.write(filter ? spawnSync("jq", ["-rc", filter], { input: text }).stdout : `${text}\n`);
}
