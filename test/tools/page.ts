/**
 * Writes a page that a team can leave open: what is broken, fails often, is stale or can't be read, in one document or
 * in sixty, and below that the last executions of each job.
 *
 *   npm run --silent page -- s3://bucket/shop.json s3://bucket/tools.json > page.html
 *
 * It reads the documents as the script's report does, with the same variables. A document that can't be read is an
 * error on stderr and on the page; the others are shown, and the exit code is 1.
 *
 * Names, titles and addresses are anybody's text. So nothing reaches the page but by `html`, which escapes all that is
 * put into it; a link leads to http or https only; and the page's own policy forbids scripts and requests.
 */
import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";
import {
  evidenceOf,
  formatDuration,
  groupBy,
  type JobExecutions,
  linksOf,
  naturalKey,
  openStore,
  parseReportSettings,
  type Row,
  retrieveJobExecutions,
  sortJobs,
  stripOf,
  type TrackedJob,
  type Variables,
} from "../../check-failures.ts";

const MINUTE_MS = 60_000;
const STALE_MS = 3 * 24 * 60 * MINUTE_MS;
const CLOCKS_DIFFER_MS = 60 * MINUTE_MS;
const READ_TIMEOUT_MS = 60_000;
const READ_AT_ONCE = 8; // sixty at once would be throttled
const USAGE = "Usage: npm run --silent page -- URL… > page.html    (each s3://bucket/key, or a path)";

// The grid is as wide for all projects that keep ten executions, the default; of many, the last ones are shown.
const MIN_COLUMNS = 10;
const MAX_COLUMNS = 15;
// What a summary names; the sections have all.
const MAX_NAMES = 6;
const MAX_CAUSES = 5;

/** A document as it was read, or why it could not be. */
export type Source = { source: string; document: JobExecutions } | { source: string; error: string };

type Links = ReturnType<typeof linksOf>;

/** What is worth knowing first of a project, the gravest first, as the page has it: in words, and by a mark. */
const STATES = {
  broken: { word: "broken", unit: "job" },
  often: { word: "failing often", unit: "job" },
  unread: { word: "unreadable", unit: "project" },
  stale: { word: "stale", unit: "project" },
  fine: { word: "without alerts", unit: "project" },
};
type State = keyof typeof STATES;
const STATE_NAMES = ["broken", "often", "unread", "stale", "fine"] as const satisfies State[];

/** A job with its number among those of its project. */
type Job = Row & { number: number };

/** What is shown of a document; `stale` says why it is, where it is. */
type Project = {
  id: string;
  name: string;
  source: string;
  state: State;
  error: string | undefined;
  document: JobExecutions | undefined;
  stale: Html | undefined;
  jobs: Job[];
  broken: Job[];
  often: Job[];
  links: Links;
};

// --- HTML: what is put into a template is escaped, unless it came from one.

type Html = { html: string };
type Part = Html | string | number | undefined | Part[];

function html(template: TemplateStringsArray, ...parts: Part[]): Html {
  return { html: String.raw(template, ...parts.map(toHtml)) };
}

function toHtml(part: Part): string {
  if (part === undefined) return "";
  if (Array.isArray(part)) return part.map(toHtml).join("");
  return typeof part === "object" ? part.html : escapeText(`${part}`);
}

/** What would be markup is shown, and what would turn or move the text around it is replaced by a mark. */
function escapeText(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\t\r\n]+/g, " ")
    .replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, "�")
    .replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

/** Separates with commas, and with "and" before the last. */
function enumerate(parts: Part[]): Part[] {
  return parts.map((part, i) => [i === 0 ? "" : i === parts.length - 1 ? " and " : ", ", part]);
}

/** A link, where the address is one of the web. */
function link(url: string | null | undefined, label: Part): Html {
  return url && /^https?:\/\//i.test(url) ? html`<a href="${url}">${label}</a>` : html`${label}`;
}

/** A name in its own direction of writing, whatever is around it. */
function isolate(name: string): Html {
  return html`<bdi>${name}</bdi>`;
}

function quote(text: string): Html {
  return html`“<bdi>${text}</bdi>”`;
}

/** Drawn by the style: it says nothing that is not beside it in words as well. */
function mark(state: State): Html {
  return html`<i class="mark ${state}" aria-hidden="true"></i>`;
}

// --- Words.

function formatCount(count: number, unit: string): string {
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function formatTimes(numbers: number[]): string {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return low === high ? formatCount(low, "time") : `${low} to ${high} times`;
}

function formatExactly(at: string | Date): string {
  return `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** A time as a person says it, exact on hover. */
function formatAgo(at: string, now: Date): Html {
  const ms = now.getTime() - Date.parse(at);
  const words = ms < MINUTE_MS ? "just now" : `${formatDuration(ms)} ago`;
  return html`<time datetime="${new Date(at).toISOString()}" title="${formatExactly(at)}">${words}</time>`;
}

function linkCommit(commit: string, links: Links): Html {
  return link(links.commit?.(commit), html`<code>${commit.slice(0, 8)}</code>`);
}

/**
 * How often jobs that broke together failed, and since which commit, in no more words than there is evidence for. What
 * is known of that commit is left out where it `isKnown`: forty jobs that one commit broke need to say it once.
 */
function describeBroken(jobs: Job[], links: Links, isKnown = false): Html {
  const [{ job } = { job: undefined }] = jobs;
  if (job?.jobs_info.at(-1)?.failing === false) {
    return html`passed ${formatTimes(jobs.map(passesOf))} in a row since then, not recovered yet`;
  }
  const failed = html`failed ${formatTimes(jobs.map((row) => row.job.consecutive_failures))} in a row`;
  if (!job?.turned) return failed;
  const { commit, from = "", title, author } = job.turned;
  const evidence = evidenceOf(job.turned);
  const linked = linkCommit(commit, links);
  if (evidence === "nothing") return html`${failed} since ${linked} or earlier`;
  if (evidence === "no change") return html`${failed} with ${linked}, which had passed before`;
  const changes = link(links.compare?.(from, commit), html`changes since <code>${from.slice(0, 8)}</code>`);
  if (evidence === "a range") return html`${failed}, ${changes}`;
  if (isKnown) return html`${failed}, likewise since ${linked}`;
  const what = title ? html` ${quote(title)}` : undefined;
  const who = author ? html` by ${isolate(author)}` : undefined;
  return html`${failed} since ${linked}${what}${who}, ${changes}`;
}

/** What tells whether jobs of a project broke together. */
function causeOf({ job: { jobs_info, turned } }: Job): string {
  return JSON.stringify([jobs_info.at(-1)?.failing, turned?.commit, turned?.from]);
}

function passesOf({ job }: Job): number {
  return /·*$/.exec(stripOf(job))?.[0].length ?? 0;
}

function describeCount({ job, failures }: Job): string {
  const all = job.jobs_info.length;
  return failures === 0
    ? `passed the last ${formatCount(all, "time")}`
    : `failed ${failures} of the last ${formatCount(all, "time")}`;
}

// --- Projects: what the page knows of each document.

/** The projects in the order in which they are shown: the gravest state first, then by name. */
function toProjects(sources: Source[], now: Date): Project[] {
  const projects = sources.map((source) => toProject(source, now));
  const rankOf = ({ state }: Project) => STATE_NAMES.indexOf(state);
  const keys = new Map(projects.map((project) => [project, naturalKey(project.name)]));
  const compareNames = (a: Project, b: Project) => ((keys.get(a) ?? "") < (keys.get(b) ?? "") ? -1 : 1);
  projects.sort((a, b) => rankOf(a) - rankOf(b) || compareNames(a, b));
  return nameSections(projects);
}

/** Gives each an address within the page that stays the same from one page to the next, so that it can be shared. */
function nameSections(projects: Project[]): Project[] {
  const taken = new Map<string, number>();
  return projects.map((project) => {
    const words = project.name.toLowerCase().match(/[a-z0-9]+/g) ?? [];
    const id = ["at", ...words].join("-").slice(0, 80);
    const count = (taken.get(id) ?? 0) + 1;
    taken.set(id, count);
    return { ...project, id: count === 1 ? id : `${id}--${count}` };
  });
}

function toProject(shown: Source, now: Date): Project {
  const { source, document, error } = { document: undefined, error: undefined, ...shown };
  const rows = sortJobs(document?.jobs ?? new Map<string, TrackedJob>());
  const jobs = rows.map((row, i) => ({ ...row, number: i + 1 }));
  const broken = jobs.filter(({ job }) => job.alert?.kind === "consecutive");
  const often = jobs.filter(({ job }) => job.alert?.kind === "cumulative");
  const stale = document ? describeStale(document, now) : undefined;
  const is = { broken: broken.length > 0, often: often.length > 0, unread: !document, stale: stale !== undefined };
  const state = STATE_NAMES.find((name) => name === "fine" || is[name]) ?? "fine";
  const links = linksOf({ project: document?.project ?? {}, id: document?.pipeline_id ?? 0 });
  const name = document?.project?.name ?? source;
  return { id: "", name, source, state, error, document, stale, jobs, broken, often, links };
}

/** Why nobody should rely on a document, if so: a monitor that stopped looks as green as one that runs. */
function describeStale({ counted_at }: JobExecutions, now: Date): Html | undefined {
  if (counted_at === undefined) return html`it is not known when its last pipeline was counted`;
  const ageMs = now.getTime() - Date.parse(counted_at);
  if (ageMs < -CLOCKS_DIFFER_MS) {
    return html`its last pipeline was counted at ${formatExactly(counted_at)}, which is still to come: check the clocks`;
  }
  return ageMs > STALE_MS ? html`its last pipeline was counted ${formatAgo(counted_at, now)}` : undefined;
}

// --- The top: what is the matter, in all projects.

function renderTop(projects: Project[], now: Date): Html {
  const made = now.toUTCString().replace(/^(.{11}) (.{4}) (.{5}).*$/, "$1 $2, $3 UTC");
  const name = projects.length === 1 ? isolate(projects[0]?.name ?? "") : formatCount(projects.length, "project");
  return html`<header id="top">
<h1>CI jobs of ${name}</h1>
<p class="asof">as of <time datetime="${now.toISOString()}" title="${formatExactly(now)}">${made}</time></p>
<ul class="counts">${STATE_NAMES.map((state) => renderCount(state, projects))}</ul>
</header>
${[renderBroken(projects, now), renderOften(projects, now), renderUnread(projects), renderStale(projects)]}
${projects.length > 1 ? renderWall(projects) : undefined}`;
}

function countOf(state: State, projects: Project[]): number {
  if (state === "broken" || state === "often") return projects.reduce((sum, project) => sum + project[state].length, 0);
  if (state === "stale") return projects.filter((project) => project.stale).length;
  return projects.filter((project) => project.state === state).length;
}

function renderCount(state: State, projects: Project[]): Html | undefined {
  const count = countOf(state, projects);
  const { word, unit } = STATES[state];
  if (count === 0 && unit === "project" && projects.length === 1) return undefined;
  const content = html`<span>${mark(state)}<b>${count}</b></span> <span>${unit}${count === 1 ? "" : "s"} ${word}</span>`;
  if (count === 0) return html`<li class="none"><p>${content}</p></li>`;
  return html`<li class="${state}"><a href="#${state}">${content}</a></li>`;
}

/** All projects on a wall, with a mark for each: also those of which there is nothing to say. */
function renderWall(projects: Project[]): Html {
  const tiles = projects.map(({ id, name, state, stale }) => {
    const words = stale && state !== "stale" ? `${STATES[state].word}, stale` : STATES[state].word;
    return html`<li><a href="#${id}" class="${state}">${mark(state)}${isolate(name)}<span class="unseen"> (${words})</span></a></li>`;
  });
  return html`<nav aria-labelledby="projects"><h2 id="projects">All projects</h2><ul class="wall">${tiles}</ul></nav>`;
}

/** A part of the summary, if there is anything in it: for each project what is to be said of it. */
function renderPart(state: State, title: string, entries: [Project, Html[]][]): Html | undefined {
  if (entries.length === 0) return undefined;
  const items = entries.map(([{ id, name }, said]) => {
    return html`<li><a class="project" href="#${id}">${isolate(name)}</a><ul>${said.map((item) => html`<li>${item}</li>`)}</ul></li>`;
  });
  return html`<section class="part" aria-labelledby="${state}"><h2 id="${state}">${mark(state)}${title}</h2><ul>${items}</ul></section>
`;
}

function renderBroken(projects: Project[], now: Date): Html | undefined {
  const entries = projects
    .filter(({ broken }) => broken.length > 0)
    .map((project): [Project, Html[]] => {
      const causes = groupBy(project.broken, causeOf).sort((a, b) => b.length - a.length);
      const said = causes.slice(0, MAX_CAUSES).map((jobs) => {
        const why = html`<span class="why">${describeBroken(jobs, project.links)}; ${describeAlerts(jobs, now)}</span>`;
        return html`${nameJobs(jobs, project)} ${why}`;
      });
      const left = causes.slice(MAX_CAUSES).flat().length;
      const more = html`<a href="#${project.id}">and ${left} more</a>`;
      return [project, left > 0 ? [...said, more] : said];
    });
  const count = countOf("broken", projects);
  return renderPart("broken", count === 1 ? "1 job is broken" : `${count} jobs are broken`, entries);
}

/** Since when the alerts of jobs are open. */
function describeAlerts(jobs: Job[], now: Date): Part {
  const times = jobs.flatMap(({ job }) => job.alert?.at ?? []).sort((a, b) => Date.parse(a) - Date.parse(b));
  const [first, last] = [times.at(0), times.at(-1)].map((at) => at && formatAgo(at, now));
  if (!first || !last) return "";
  return first.html === last.html ? html`alerted ${first}` : html`first alerted ${first}`;
}

/** The names of jobs, each a link to its row; of many, how many there are and the first ones. */
function nameJobs(jobs: Job[], project: Project, describe: (job: Job) => Part = () => ""): Html {
  const names = jobs.slice(0, MAX_NAMES).map((job) => {
    return html`<a href="#${project.id}.${job.number}">${isolate(job.name)}</a>${describe(job)}`;
  });
  const left = jobs.length - names.length;
  const more = left > 0 ? [html`<a href="#${project.id}">${left} more</a>`] : [];
  const count = jobs.length > 1 ? html`<b>${formatCount(jobs.length, "job")}</b>: ` : undefined;
  return html`${count}${enumerate([...names, ...more])}`;
}

function renderOften(projects: Project[], now: Date): Html | undefined {
  const entries = projects
    .filter(({ often }) => often.length > 0)
    .map((project): [Project, Html[]] => {
      const jobs = nameJobs(project.often, project, ({ job, failures }) => ` (${failures} of ${job.jobs_info.length})`);
      return [project, [html`${jobs}<span class="why">, ${describeAlerts(project.often, now)}</span>`]];
    });
  const count = countOf("often", projects);
  return renderPart("often", count === 1 ? "1 job fails often" : `${count} jobs fail often`, entries);
}

function renderUnread(projects: Project[]): Html | undefined {
  const entries = projects.flatMap((project): [Project, Html[]][] =>
    project.error === undefined ? [] : [[project, [html`${project.error}`]]],
  );
  return renderPart("unread", `${formatCount(entries.length, "project")} can't be read`, entries);
}

function renderStale(projects: Project[]): Html | undefined {
  const entries = projects.flatMap((project): [Project, Html[]][] =>
    project.stale ? [[project, [project.stale]]] : [],
  );
  const title = entries.length === 1 ? "1 project is stale" : `${entries.length} projects are stale`;
  return renderPart("stale", `${title}: does the job still run?`, entries);
}

// --- The sections: a project, and the grid of its jobs.

function renderProject(project: Project, isFirstFine: boolean, now: Date): Html {
  const { id, name, source, state, document } = project;
  const title = link(document?.project?.url, isolate(name));
  return html`<section${isFirstFine ? html` id="fine"` : undefined} aria-labelledby="${id}">
<h2 id="${id}">${mark(state)}${title}</h2>
${document ? renderFacts(project, document, now) : html`<p class="error">${project.error}</p>`}
${document && document.jobs.size > 0 ? renderGrid(project, document, now) : undefined}
<p class="source">${name === source ? undefined : html`${isolate(source)} `}<a href="#top">to the top</a></p>
</section>`;
}

function renderFacts({ jobs, broken, often, stale, links }: Project, document: JobExecutions, now: Date): Html {
  const { pipeline_id, commit, counted_at, pending_alerts } = document;
  const watched = jobs.length - broken.length - often.length;
  const counts = [
    broken.length > 0 ? html`<b class="broken">${broken.length} broken</b>` : undefined,
    often.length > 0 ? html`<b class="often">${often.length} failing often</b>` : undefined,
    watched > 0 ? html`${watched} only watched` : undefined,
  ].filter((part) => part !== undefined);
  const counted =
    counts.length > 0 ? counts.flatMap((part, i) => [i === 0 ? "" : ", ", part]) : "No job has failed lately";
  const pipeline = link(links.pipeline, `pipeline ${pipeline_id}`);
  const at = commit ? html` at ${linkCommit(commit, links)}` : undefined;
  const when = counted_at ? html` ${formatAgo(counted_at, now)}` : undefined;
  const waiting = pending_alerts.length;
  const verb = waiting === 1 ? "is" : "are";
  return html`<p class="facts">${counted} · last counted${when}: ${pipeline}${at}</p>
${stale ? html`<p class="error">Stale: ${stale}.</p>` : undefined}
${waiting > 0 ? html`<p class="error">${formatCount(waiting, "message")} ${verb} not delivered yet.</p>` : undefined}`;
}

/**
 * The jobs and their last executions. The roles say again what the elements are, as on a phone, where the style makes
 * blocks of them, some browsers no longer take it for a table.
 */
function renderGrid(project: Project, document: JobExecutions, now: Date): Html {
  const longest = project.jobs.reduce((max, { job }) => Math.max(max, job.jobs_info.length), MIN_COLUMNS);
  const columns = Math.min(longest, MAX_COLUMNS);
  const heads = Array.from({ length: columns }, (_, i) => {
    const before = columns - 1 - i;
    const words = before === 0 ? "latest" : `${before} before the latest`;
    return html`<th scope="col" role="columnheader" class="${before === 0 ? "run last" : "run"}"><span>${words}</span></th>`;
  });
  const told = new Set<string>();
  const rows = project.jobs.map((job) => {
    const isKnown = told.has(causeOf(job));
    told.add(causeOf(job));
    const isOlder = job.job.last_run !== document.counted_at; // of most, that is when the last pipeline was counted
    const ran = isOlder && job.job.last_run ? html`, ran ${formatAgo(job.job.last_run, now)}` : undefined;
    return renderRow(job, project, columns, html`${describeState(job, project, now, isKnown)}${ran}`);
  });
  return html`<table role="table" aria-labelledby="${project.id}.jobs">
<caption id="${project.id}.jobs">Jobs of ${isolate(project.name)} that failed lately, with their last ${columns} executions</caption>
<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">Job</th>${heads}<th scope="col" role="columnheader" class="state">State</th></tr></thead>
<tbody role="rowgroup">
${rows}</tbody>
</table>`;
}

function renderRow({ name, job, number }: Job, { id, links }: Project, columns: number, state: Html): Html {
  const shown = job.jobs_info.slice(-columns);
  const gap = columns - shown.length;
  const empty = gap > 0 ? html`<td role="cell" class="gap" colspan="${gap}" aria-colspan="${gap}"></td>` : undefined;
  const kind = { consecutive: "broken", cumulative: "often", none: "watched" }[job.alert?.kind ?? "none"];
  const latest = job.jobs_info.findLast((execution) => execution.failing && execution.id !== null)?.id ?? undefined;
  const label = link(latest === undefined ? undefined : links.job?.(latest), isolate(name));
  const cells = [empty, ...shown.map((execution) => renderCell(execution, links))];
  const head = html`<th scope="row" role="rowheader">${label}</th>`;
  return html`<tr role="row" class="${kind}" id="${id}.${number}">${head}${cells}<td role="cell" class="state">${state}</td></tr>
`;
}

/** An execution. A pass without a commit may be a job that did not really run, so it does not look as green as others. */
function renderCell({ failing, id, commit }: TrackedJob["jobs_info"][number], links: Links): Html {
  const word = failing ? "failed" : "passed";
  const title = commit ? `${word} with ${commit.slice(0, 8)}` : `${word}, commit not known`;
  const kind = failing ? "failed" : commit ? "passed" : "unsure";
  const url = failing && id !== null ? links.job?.(id) : undefined;
  const label = html`<i class="${kind}" title="${title}"><span>${word}</span></i>`;
  return html`<td role="cell" class="run">${link(url, label)}</td>`;
}

/** What is to be said of a job beside its executions. */
function describeState(row: Job, { links }: Project, now: Date, isKnown: boolean): Html {
  const { alert, consecutive_failures } = row.job;
  if (alert?.kind === "consecutive") {
    const broken = describeBroken([row], links, isKnown);
    return html`<b class="badge broken">broken</b> ${broken}, alerted ${formatAgo(alert.at, now)}`;
  }
  if (alert) {
    return html`<b class="badge often">failing often</b> ${describeCount(row)}, alerted ${formatAgo(alert.at, now)}`;
  }
  return html`${consecutive_failures > 1 ? `failed ${consecutive_failures} times in a row` : describeCount(row)}`;
}

// --- The page.

/** What the tab of a page says, that is open behind others. */
function writeTitle(projects: Project[]): string {
  const counts = STATE_NAMES.filter((state) => state !== "fine").flatMap((state) => {
    const count = countOf(state, projects);
    return count > 0 ? `${count} ${STATES[state].word}` : [];
  });
  const [first] = projects;
  const name = projects.length === 1 && first ? first.name : formatCount(projects.length, "project");
  return `${counts.join(", ") || "No alert"} – CI jobs of ${name}`;
}

/** The mark of the gravest state, for the tab; it also keeps browsers from asking a server for one. */
function drawIcon([gravest]: Project[]): string {
  const shape = {
    broken: `<path d="M0 0h16v16H0z" fill="#c62828"/><path d="M4 4l8 8m0-8l-8 8" stroke="#fff" stroke-width="2.5"/>`,
    often: `<path d="M8 0l8 8-8 8-8-8z" fill="#c77700"/>`,
    unread: `<path d="M1 1h14v14H1z" fill="#fff" stroke="#777" stroke-width="2" stroke-dasharray="3 2"/>`,
    stale: `<circle cx="8" cy="8" r="6.5" fill="#fff" stroke="#777" stroke-width="3"/>`,
    fine: `<circle cx="8" cy="8" r="6" fill="#1a7f37"/>`,
  }[gravest?.state ?? "fine"];
  return `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${shape}</svg>`)}`;
}

const LEGEND = html`<p class="legend"><span><i class="failed"></i> failed</span>
<span><i class="passed"></i> passed</span>
<span><i class="unsure"></i> passed, commit not known</span>
<span>the latest at the right</span></p>`;

/** The page of these documents, in HTML. Nothing in it is loaded from elsewhere, and nothing in it runs. */
export function renderPage(sources: Source[], now: Date): string {
  const projects = toProjects(sources, now);
  const firstFine = projects.find(({ state }) => state === "fine");
  const hash = createHash("sha256").update(STYLE).digest("base64");
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; img-src data:; base-uri 'none'; form-action 'none'`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${writeTitle(projects)}</title>
<link rel="icon" href="${drawIcon(projects)}">
<style>${{ html: STYLE }}</style>
</head>
<body>
${renderTop(projects, now)}
<main>
${projects.some(({ jobs }) => jobs.length > 0) ? LEGEND : undefined}
${projects.map((project) => renderProject(project, project === firstFine, now))}
</main>
<p class="aged">This page was loaded over two hours ago. <a href="">Load it again</a></p>
</body>
</html>
`.html;
}

const STYLE = `
:root { color-scheme: light dark; --bad: #b3261e; --warn: #875000; --good: #1a7f37; --mute: #59636e; --line: #d5dae0; --soft: #f3f5f7; --bad-soft: #fdf0ef; --warn-soft: #fdf5e6 }
@media (prefers-color-scheme: dark) {
  :root { --bad: #ff7b72; --warn: #e3a83b; --good: #45b95c; --mute: #a0a9b3; --line: #3b424a; --soft: #1e2227; --bad-soft: #2d1d1d; --warn-soft: #292319 }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 3rem) 3rem; max-width: 90rem; background: Canvas; color: CanvasText; font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0; font-size: 1.25rem }
h2 { margin: 0; font-size: 1.1rem }
ul { margin: 0; padding: 0; list-style: none }
p { margin: .25rem 0 }
a { color: LinkText; text-underline-offset: .15em; text-decoration-thickness: 1px }
a:focus-visible { outline: 2px solid currentColor; outline-offset: 2px }
code { font: .9em ui-monospace, monospace }
:target { scroll-margin-top: 1rem }
tr:target { outline: 2px solid CanvasText }
i { font-style: normal }
.unseen, .run span { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
.asof, .facts, .source, .legend, .why { color: var(--mute) }
.error { color: var(--warn); font-weight: 600 }
b.broken { color: var(--bad) } b.often { color: var(--warn) }

/* Marks: each has a shape of its own. */
.mark, .failed, .passed, .unsure { display: inline-block; width: 1.25rem; height: 1.25rem; flex: none; vertical-align: -.25rem; background: center / 100% no-repeat; print-color-adjust: exact; -webkit-print-color-adjust: exact; forced-color-adjust: none }
.mark { margin-right: .5rem }
.failed, .mark.broken { border-radius: 2px; background: linear-gradient(45deg, transparent calc(50% - 1px), Canvas calc(50% - 1px) calc(50% + 1px), transparent calc(50% + 1px)) center / .625rem .625rem no-repeat, linear-gradient(-45deg, transparent calc(50% - 1px), Canvas calc(50% - 1px) calc(50% + 1px), transparent calc(50% + 1px)) center / .625rem .625rem no-repeat, var(--bad) }
.passed, .mark.fine { background-image: radial-gradient(circle, var(--good) 0 32%, transparent 36%) }
.unsure { background-image: radial-gradient(circle, transparent 0 22%, var(--mute) 26% 34%, transparent 38%) }
.mark.often { clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%); background: var(--warn) }
.mark.unread { border: 2px dashed var(--mute) }
.mark.stale { border: 3px double var(--mute); border-radius: 50% }

/* The top */
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; margin-bottom: 1rem }
.counts { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .5rem; flex: 1 0 100% }
.counts li { border: 1px solid var(--line); border-radius: 6px; color: var(--mute) }
.counts li > * { display: block; margin: 0; padding: .4rem .75rem .5rem; color: inherit; text-decoration: none }
.counts span { display: block; line-height: 1.3 }
.counts b { font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.counts .mark { vertical-align: .05rem }
.counts .none .mark { opacity: .4 }
.counts li.broken { background: var(--bad-soft); border-color: var(--bad); color: var(--bad) }
.counts li:is(.often, .unread, .stale) { background: var(--warn-soft); border-color: var(--warn); color: var(--warn) }
.counts li.fine { color: var(--good) }
.counts a:hover span { text-decoration: underline }
.wall { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); gap: .15rem .75rem; margin-top: .4rem }
.wall a { display: flex; align-items: center; padding: .15rem .25rem; color: inherit; text-decoration: none }
.wall a:hover bdi { text-decoration: underline }
.wall bdi { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden }
a.broken { color: var(--bad); font-weight: 600 }
.part { margin: 0 0 .75rem; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: 6px }
.part > ul > li { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 4fr); gap: 0 1rem; padding: .4rem 0 0 1.6rem }
.part li li + li { padding-top: .4rem }
.part .project { font-weight: 600 }

/* The projects */
main { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: .5rem }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .9rem }
main section { padding-top: 1.25rem }
.source { font-size: .85rem }
table { width: 100%; margin: .5rem 0; border-collapse: collapse }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
th { text-align: left; font-weight: inherit }
thead th { color: var(--mute); font-size: .85rem; padding: .2rem .5rem; border-bottom: 1px solid var(--line) }
thead .last { position: relative }
thead .last span { all: unset; position: absolute; right: 0; bottom: .2rem; white-space: nowrap }
tbody th, .state { padding: .25rem .5rem; vertical-align: top }
tbody th { width: 28% }
time { white-space: nowrap }
tbody th a { color: inherit; text-decoration-color: var(--mute) }
tbody .broken th, tbody .often th { font-weight: 600 }
tbody tr { border-bottom: 1px solid var(--line) }
tbody tr:hover { background: var(--soft) }
.run, .gap { width: 1.5rem; padding: .2rem 0; vertical-align: top; text-align: center }
.run a { display: block; min-height: 1.5rem }
.run a:hover i { outline: 2px solid currentColor; outline-offset: 1px }
.state { min-width: 10rem; font-size: .9rem; padding-left: 1rem; color: var(--mute) }
.badge { padding: .05rem .4rem; border: 1px solid; border-radius: 3px; margin-right: .25rem; white-space: nowrap; print-color-adjust: exact; -webkit-print-color-adjust: exact }
.badge.broken { background: var(--bad); border-color: var(--bad); color: Canvas }

/* Left open for long, the page says that it no longer is what it was. */
.aged { position: fixed; inset: auto 0 0; margin: 0; padding: .75rem 1rem; background: CanvasText; color: Canvas; text-align: center; visibility: hidden; animation: aged 1ms 7200s forwards }
.aged a { color: inherit }
@keyframes aged { to { visibility: visible } }

@media (max-width: 40rem) {
  table, tbody { display: block }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tbody tr { display: flex; flex-wrap: wrap; justify-content: flex-end; padding: .35rem 0 }
  tbody th, .state { flex: 0 0 100%; width: auto; min-width: 0; padding: .1rem 0 }
  .gap { width: 0; padding: 0 }
  .part > ul > li { grid-template-columns: minmax(0, 1fr); padding-left: 0 }
  .part > ul > li + li { margin-top: .4rem }
  .counts { grid-template-columns: 1fr 1fr }
  .wall { display: flex; flex-wrap: wrap }
}
@media print {
  .aged, .wall, .source a { display: none }
  html { font-size: 10pt }
  body { padding: 0; max-width: none }
  tr, .part li { break-inside: avoid }
  h2 { break-after: avoid }
}
`;

// --- The command line.

/** Reads a document as the report of the script does. */
async function readSource(url: string, variables: Variables): Promise<Source> {
  try {
    const settings = parseReportSettings({ ...variables, JOB_EXECUTIONS_URL: url });
    const store = openStore(settings.store, settings.network);
    const stored = await retrieveJobExecutions(store, AbortSignal.timeout(READ_TIMEOUT_MS));
    if (stored) return { source: url, document: stored.document };
    return { source: url, error: "there is no document yet, if its address is right" };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const lines = "lines" in error && Array.isArray(error.lines) ? error.lines : [];
    return { source: url, error: [error.message, ...lines].join("; ").replace(/\s+/g, " ") };
  }
}

/** Resolves to what a function makes of each item, in their order, with so many at work at once. */
export async function mapBounded<T, R>(items: T[], atOnce: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries(); // shared: each worker takes the next one
  const workers = Array.from({ length: atOnce }, async () => {
    for (const [i, item] of queue) results[i] = await work(item);
  });
  await Promise.all(workers);
  return results;
}

/** Resolves to the exit code. */
async function main(urls: string[], variables: Variables): Promise<number> {
  // An empty one comes of a variable that is not set: it must not stand for the script's default document.
  if (urls.length === 0 || urls.some((url) => url === "" || url.startsWith("-"))) {
    process.stderr.write(`${USAGE}\n`);
    return 2;
  }
  const sources = await mapBounded([...new Set(urls)], READ_AT_ONCE, (url) => readSource(url, variables));
  const lost = await print(renderPage(sources, new Date()));
  const errors = sources.flatMap((shown) => ("error" in shown ? nameIn(shown.error, shown.source) : []));
  if (lost) errors.push(`Cannot write the page: ${lost.message}`);
  for (const error of errors) process.stderr.write(`Error: ${error}\n`);
  return errors.length > 0 ? 1 : 0;
}

/** Resolves to the error that kept it from that, if any: a full disk, or a reader that left. */
function print(page: string): Promise<Error | null | undefined> {
  process.stdout.on("error", () => {}); // the callback has it as well
  return new Promise((resolve) => process.stdout.write(page, resolve));
}

/** An error that names its document; most do by themselves. */
function nameIn(error: string, source: string): string {
  return error.includes(source) ? error : `${source}: ${error}`;
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  // As the script has it: the SDK takes "" for a value, and says of every Node 20 that it is old.
  for (const name in process.env) if (!process.env[name]) delete process.env[name];
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true";
  process.exitCode = await main(process.argv.slice(2), process.env);
}
