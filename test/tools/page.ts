/**
 * Writes a page of CI jobs, and watches their monitors: what is broken, fails often, can't be read, is stale or was not
 * told, in one document or in sixty, and below that the last executions of each job.
 *
 *   npm run --silent page -- [--max-age 3d] URL… > page.html
 *
 * A URL is s3://bucket/key or a path. Of s3://bucket/prefix/, and of a folder, every .json below it is read. The
 * variables are those of the script's report. stderr has one line for each document that can't be read, is stale, or
 * has an alert that its broadcast channel was not told for so long; where there is one, the exit code is 1.
 *
 * Names, titles and addresses are anybody's text. So nothing reaches the page but by `html`, which escapes all that is
 * put into it; a link leads to http or https only; and the page's own policy forbids scripts and requests.
 */
import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import { realpathSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, normalize } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { GetObjectCommand, paginateListObjectsV2, type S3Client } from "@aws-sdk/client-s3";
import {
  adviseOnAws,
  compare,
  type Execution,
  findTroubles,
  formatAge,
  formatCount,
  groupBy,
  isOpen,
  type JobExecutions,
  linksOf,
  naturalKey,
  openS3,
  openStore,
  parseAge,
  parseReportSettings,
  type Row,
  retrieveJobExecutions,
  S3_URL,
  sortJobs,
  stripOf,
  type TrackedJob,
  type Turn,
  untoldSince,
  type Variables,
} from "../../check-failures.ts";
import { STYLE } from "../support/page-style.ts";

const MINUTE_MS = 60_000;
const MAX_AGE_MS = 3 * 24 * 60 * MINUTE_MS;
const CLOCKS_DIFFER_MS = 60 * MINUTE_MS;
const TELLING_MS = 5 * MINUTE_MS; // a run that is just telling is done by then

// The grid is as wide for all projects that keep ten executions, the default; of many, the last ones are shown.
const MIN_COLUMNS = 10;
const MAX_COLUMNS = 15;
// What the top names; the sections have all.
const MAX_NAMES = 6;
const MAX_CAUSES = 5;

// --- Projects: what is known of each document, and what a watch says of it.

/** A document as it was read, or why it could not be. */
export type Source = { source: string; document?: JobExecutions; error?: string };

/** What may be said of a project, the gravest first, and of what so many are counted. */
const STATES = {
  broken: { word: "broken", unit: "job" },
  often: { word: "failing often", unit: "job" },
  unread: { word: "unreadable", unit: "document" },
  stale: { word: "stale", unit: "project" },
  untold: { word: "not told", unit: "alert" },
  fine: { word: "without alerts", unit: "project" },
};
type State = keyof typeof STATES;
const STATE_NAMES: State[] = ["broken", "often", "unread", "stale", "untold", "fine"];

type Links = ReturnType<typeof linksOf>;

/** A job with its number among those of its project, and since when its channel does not know of its alert. */
type Job = Row & { number: number; untold: string | undefined };

type Project = ReturnType<typeof toProject>;

/** The projects in the order in which they are shown: the gravest state first, then by name. */
export function toProjects(sources: Source[], now: Date, maxAgeMs = MAX_AGE_MS): Project[] {
  const projects = sources.map((source) => toProject(source, now, maxAgeMs));
  for (const same of groupBy(projects, ({ name }) => name)) {
    if (same.length > 1) for (const project of same) project.name = `${project.name} (${project.source})`;
  }
  const rankOf = ({ states: [gravest] }: Project) => STATE_NAMES.indexOf(gravest ?? "fine");
  const byName = projects.toSorted((a, b) => compare(naturalKey(a.name), naturalKey(b.name)));
  return nameSections(byName.sort((a, b) => rankOf(a) - rankOf(b)));
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

/** `stale` and `silent` are what a watch says of it: that it was not counted, or its channel not told, for so long. */
function toProject({ source, document, error }: Source, now: Date, maxAgeMs: number) {
  const rows = sortJobs(document?.jobs ?? new Map<string, TrackedJob>());
  const isOld = (at = "") => now.getTime() - Date.parse(at) > TELLING_MS;
  const jobs = rows.map((row, i): Job => ({ ...row, number: i + 1, untold: [untoldSince(row.job)].find(isOld) }));
  const broken = jobs.filter(({ job }) => job.alert?.kind === "consecutive");
  const often = jobs.filter(({ job }) => job.alert?.kind === "cumulative");
  const untold = jobs
    .filter((job) => job.untold !== undefined)
    .sort((a, b) => Date.parse(`${a.untold}`) - Date.parse(`${b.untold}`)); // the longest first
  const { stale, silent } = watch(document, now, maxAgeMs);
  const bad = { broken: broken.length, often: often.length, stale: stale ? 1 : 0, untold: untold.length };
  const fine = document && Object.values(bad).every((count) => count === 0) ? 1 : 0;
  const counts: Record<State, number> = { ...bad, unread: document ? 0 : 1, fine };
  const states = STATE_NAMES.filter((state) => counts[state] > 0);
  const links = linksOf(document?.project ?? {}, document?.pipeline_id ?? 0);
  const name = document?.project?.name?.trim() || source;
  return { id: "", name, source, counts, states, error, document, stale, silent, jobs, broken, often, untold, links };
}

/** What the script's report says of a document that is too old, and of one whose channel was not told for too long. */
function watch(document: JobExecutions | undefined, now: Date, maxAgeMs: number) {
  if (!document) return {};
  const { counted_at = "" } = document;
  const isAhead = Date.parse(counted_at) - now.getTime() > CLOCKS_DIFFER_MS; // it would look fresh for all that time
  const ahead = `its latest pipeline was counted at ${counted_at}, which is to come; check the clocks`;
  const [stale = isAhead ? ahead : undefined] = findTroubles({ ...document, jobs: new Map() }, now, maxAgeMs);
  const [silent] = findTroubles({ ...document, counted_at: now.toISOString() }, now, maxAgeMs);
  return { stale, silent };
}

/** What a watch says, in a line each: what can't be read, is stale, was not told; what lasts longest first. */
export function listTroubles(projects: Project[]): string[] {
  const bySince = (since: (project: Project) => string | undefined) => {
    const msOf = (project: Project) => Date.parse(since(project) ?? "1970-01-01");
    return projects.toSorted((a, b) => msOf(a) - msOf(b));
  };
  const name = (source: string, trouble: string | undefined) => (trouble ? `${oneLine(source)}: ${trouble}` : []);
  return [
    ...projects.flatMap(({ error }) => error ?? []),
    ...bySince(({ document }) => document?.counted_at).flatMap(({ source, stale }) => name(source, stale)),
    ...bySince(({ untold }) => untold[0]?.untold).flatMap(({ source, silent }) => name(source, silent)),
  ];
}

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

/** What would be markup is shown. */
function escapeText(text: string): string {
  return oneLine(text).replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

/** What would turn or move the text around it, on a page or in a terminal, is replaced by a mark. */
function oneLine(text: string): string {
  const line = text.toWellFormed().replace(/[\t\r\n]+/g, " ");
  return line.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, "�");
}

/** A link, where the address is one of the web. */
function link(url: string | null | undefined, label: Part): Html {
  return url && /^https?:\/\//i.test(url) ? html`<a href="${url}">${label}</a>` : html`${label}`;
}

/** A name in its own direction of writing, whatever is around it. */
function isolate(name: string): Html {
  return html`<bdi>${name}</bdi>`;
}

/** Drawn by the style: it says nothing that is not beside it in words as well. */
function mark(state: State): Html {
  return html`<i class="mark ${state}" aria-hidden="true"></i>`;
}

/** Separates what there is with commas, and the last one likewise or with another word. */
function enumerate(parts: Part[], last = ", "): Part[] {
  const found = parts.filter((part) => part !== undefined);
  return found.map((part, i) => [i === 0 ? "" : i === found.length - 1 ? last : ", ", part]);
}

// --- Words: what is said of jobs and times.

const KINDS = { consecutive: "broken", cumulative: "failing often", recovered: "recovered", gone: "gone" };

/** `8`, or `8 to 10` where the numbers differ. */
function formatSpan(numbers: number[]): string {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return low === high ? `${low}` : `${low} to ${high}`;
}

function formatTimes(numbers: number[]): string {
  const span = formatSpan(numbers);
  return span === "1" ? "1 time" : `${span} times`;
}

/** A time as a person says it, exact on hover. */
function timeOf(at: string, words: string): Html {
  const time = new Date(at).toISOString();
  return html`<time datetime="${time}" title="${time.slice(0, 19).replace("T", " ")} UTC">${words}</time>`;
}

function formatAgo(at: string, now: Date): Html {
  const ms = now.getTime() - Date.parse(at);
  return timeOf(at, ms < MINUTE_MS ? "just now" : `${formatAge(at, now)} ago`);
}

function linkCommit(commit: string, links: Links): Html {
  return link(links.commit?.(commit), html`<code>${commit.slice(0, 8)}</code>`);
}

/** How jobs did that broke together, and where they first failed; what `isKnown` of that commit is not said again. */
function describeBroken(jobs: [Job, ...Job[]], links: Links, isKnown = false): Html {
  const [first] = jobs;
  const count = describeCount(jobs);
  const inARow = `failed ${formatTimes(jobs.map(({ job }) => job.consecutive_failures))} in a row`;
  const failed = { flaky: `flaky: ${count}`, passing: undefined, again: count, failing: inARow }[courseOf(first)];
  const { turned } = first.job.alert ?? {};
  const turn = turned && html`${failed ? "" : "failed "}${describeTurn(turned, links, isKnown)}`;
  const passed = `passed ${formatTimes(jobs.map(passesOf))} since, not recovered yet`;
  return html`${enumerate([failed, turn, passesOf(first) > 0 ? passed : undefined])}`;
}

/** What a broken job does since its alert: it is flaky, it passes, it had passed and fails again, or it fails on. */
function courseOf(row: Job) {
  const { alert, jobs_info, consecutive_failures } = row.job;
  const { flaky, turned } = alert ?? {};
  if (flaky) return "flaky";
  if (passesOf(row) > 0) return "passing";
  const first = jobs_info.at(-consecutive_failures); // undefined: before the window
  return first && turned && first.commit !== turned.commit ? "again" : "failing";
}

/** Where a streak began, in the words of the script's messages. */
function describeTurn({ commit, from, title }: Turn, links: Links, isKnown: boolean): Html {
  const first = html`first at ${linkCommit(commit, links)}`;
  if (isKnown) return html`likewise ${first}`;
  if (from === undefined) return html`${first} or earlier`;
  if (from === commit) return html`${first}, which had passed before`;
  const what = title ? html` “<bdi>${title}</bdi>”` : undefined;
  const changes = html`changes since <code>${from.slice(0, 8)}</code>`;
  return html`${first}${what}, ${link(links.compare?.(from, commit), changes)}`;
}

/** What tells whether jobs of a project broke together. */
function causeOf(row: Job): string {
  const { turned } = row.job.alert ?? {};
  return JSON.stringify([courseOf(row), passesOf(row) > 0, turned?.commit, turned?.from]);
}

function passesOf({ job }: Job): number {
  return /·*$/.exec(stripOf(job.jobs_info))?.[0].length ?? 0;
}

function describeCount(jobs: Job[]): string {
  const failures = formatSpan(jobs.map(({ failures }) => failures));
  const all = formatTimes(jobs.map(({ job }) => job.jobs_info.length));
  return failures === "0" ? `passed the last ${all}` : `failed ${failures} of the last ${all}`;
}

/** Since when the alerts of jobs are open. */
function describeAlerts(jobs: Job[], now: Date): Part {
  const times = new Set(jobs.map(({ job }) => job.alert?.at ?? ""));
  const [first = ""] = [...times].sort((a, b) => Date.parse(a) - Date.parse(b));
  return html`${times.size > 1 ? "first alerted" : "alerted"} ${formatAgo(first, now)}`;
}

/** Since when the broadcast channel does not know of an alert, if that is so. */
function markUntold({ untold }: Job, now: Date): Html | undefined {
  return untold ? html`<b class="untold">not told for ${timeOf(untold, formatAge(untold, now))}</b>` : undefined;
}

// --- The top: what is the matter, in all projects.

function renderTop(projects: Project[], now: Date): Html {
  const made = now.toUTCString().replace(/^(.{11}) (.{4}) (.{5}).*$/, "$1 $2, $3 UTC");
  return html`<header id="top">
<h1>CI jobs of ${isolate(nameAll(projects))}</h1>
<p class="asof">as of ${timeOf(now.toISOString(), made)}</p>
<ul class="counts">${STATE_NAMES.map((state) => renderCount(state, projects))}</ul>
</header>
${renderPart("broken", projects, (project) => listBroken(project, now))}
${renderPart("often", projects, (project) => listOften(project, now))}
${renderPart("unread", projects, ({ error }) => [html`${error}`])}
${renderPart("stale", projects, ({ stale }) => [html`${stale}`])}
${renderPart("untold", projects, (project) => listUntold(project, now))}
${projects.length > 1 ? renderWall(projects) : undefined}`;
}

/** A project by its name, several by their number; what can't be read is none. */
function nameAll(projects: Project[]): string {
  const read = projects.length - countOf("unread", projects);
  return projects.length === 1 ? `${projects[0]?.name}` : formatCount(read, "project");
}

function countOf(state: State, projects: Project[]): number {
  return projects.reduce((sum, { counts }) => sum + counts[state], 0);
}

function describeState(state: State, projects: Project[]): string {
  const { word, unit } = STATES[state];
  return `${formatCount(countOf(state, projects), unit)} ${word}`;
}

function renderCount(state: State, projects: Project[]): Html | undefined {
  const [count, ...words] = describeState(state, projects).split(" ");
  const content = html`<span>${mark(state)}<b>${count}</b></span> <span>${words.join(" ")}</span>`;
  const isOfMany = !["job", "alert"].includes(STATES[state].unit);
  if (count === "0" && isOfMany && projects.length === 1) return undefined;
  if (count === "0") return html`<li class="none"><p>${content}</p></li>`;
  return html`<li class="${state}"><a href="#${state}">${content}</a></li>`;
}

/** A part of the top, if there is anything in it: for each project what is to be said of it. */
function renderPart(state: State, projects: Project[], list: (project: Project) => Html[]): Html | undefined {
  const found = projects.filter(({ states }) => states.includes(state));
  if (found.length === 0) return undefined;
  const items = found.map((project) => {
    const said = list(project).map((item) => html`<li>${item}</li>`);
    return html`<li><a class="project" href="#${project.id}">${isolate(project.name)}</a><ul>${said}</ul></li>
`;
  });
  const title = html`<h2 id="${state}">${mark(state)}${describeState(state, projects)}</h2>`;
  return html`<section class="part" aria-labelledby="${state}">${title}<ul>${items}</ul></section>`;
}

function listBroken(project: Project, now: Date): Html[] {
  const causes = groupBy(project.broken, causeOf).sort((a, b) => b.length - a.length);
  const said = causes.slice(0, MAX_CAUSES).map((jobs) => {
    const why = html`${describeBroken(jobs, project.links)}; ${describeAlerts(jobs, now)}`;
    return html`${nameJobs(jobs, project)} <span class="why">${why}</span>`;
  });
  const left = causes.slice(MAX_CAUSES).flat().length;
  return left > 0 ? [...said, html`<a href="#${project.id}">and ${left} more</a>`] : said;
}

function listOften(project: Project, now: Date): Html[] {
  const why = html`${describeCount(project.often)}; ${describeAlerts(project.often, now)}`;
  return [html`${nameJobs(project.often, project)} <span class="why">${why}</span>`];
}

/** What its broadcast channel does not know, and since when: what it waits for longest first. */
function listUntold(project: Project, now: Date): Html[] {
  const groups = groupBy(project.untold, ({ job, untold }) => `${job.alert?.kind} ${untold}`);
  return groups.map((jobs) => {
    const [first] = jobs;
    const why = html`${KINDS[first.job.alert?.kind ?? "gone"]}, ${markUntold(first, now)}`;
    return html`${nameJobs(jobs, project)} <span class="why">${why}</span>`;
  });
}

/** The names of jobs, each a link to its row; of many, how many there are and the first ones. */
function nameJobs(jobs: Job[], { id }: Project): Html {
  const names = jobs
    .slice(0, MAX_NAMES)
    .map(({ name, number }) => html`<a href="#${id}.${number}">${isolate(name)}</a>`);
  const left = jobs.length - names.length;
  const more = left > 0 ? [html`<a href="#${id}">${left} more</a>`] : [];
  const count = jobs.length > 1 ? html`<b>${formatCount(jobs.length, "job")}</b>: ` : undefined;
  return html`${count}${enumerate([...names, ...more], " and ")}`;
}

/** All projects on a wall, with their marks: also those of which there is nothing to say. */
function renderWall(projects: Project[]): Html {
  const tiles = projects.map(({ id, name, states }) => {
    const words = states.map((state) => STATES[state].word).join(", ");
    const label = html`${states.map(mark)}${isolate(name)}<span class="unseen"> (${words})</span>`;
    return html`<li><a href="#${id}" class="${states[0]}">${label}</a></li>
`;
  });
  return html`<nav aria-labelledby="projects"><h2 id="projects">All projects</h2><ul class="wall">${tiles}</ul></nav>`;
}

// --- The sections: a project, and the grid of its jobs.

function renderProject(project: Project, now: Date): Html {
  const { id, name, source, states, document, jobs, error, stale, silent } = project;
  const isUngreeted = document?.hello && Date.parse(document.hello.until) < now.getTime();
  const hello = isUngreeted ? "its broadcast channel has not heard the hello of the first day" : undefined;
  const errors = [error, stale, silent, hello].filter((said) => said !== undefined);
  return html`<section aria-labelledby="${id}">
<h2 id="${id}">${states.map(mark)}${link(document?.project?.url, isolate(name))}</h2>
${document ? html`<p class="facts">${countJobs(project)} · ${describeLatest(project, now)}</p>` : undefined}
${errors.map((said) => html`<p class="error">${said}</p>`)}
${jobs.length > 0 ? renderGrid(project, now) : undefined}
<p class="source">${name === source ? undefined : html`${isolate(source)} `}<a href="#top">to the top</a></p>
</section>
`;
}

function countJobs({ jobs, counts }: Project): Part {
  const open = (["broken", "often"] as const).filter((state) => counts[state] > 0);
  const marked = open.map((state) => html`<b class="${state}">${counts[state]} ${STATES[state].word}</b>`);
  const watched = jobs.length - counts.broken - counts.often;
  const all = enumerate([...marked, watched > 0 ? `${watched} only watched` : undefined]);
  return all.length > 0 ? all : "no job has failed lately";
}

function describeLatest({ document, links }: Project, now: Date): Html {
  const { pipeline_id, commit, counted_at } = document ?? {};
  const when = counted_at ? html` ${formatAgo(counted_at, now)}` : undefined;
  const at = commit ? html` at ${linkCommit(commit, links)}` : undefined;
  return html`last counted${when}: ${link(links.pipeline, `pipeline ${pipeline_id}`)}${at}`;
}

/**
 * The jobs and their last executions. The roles say again what the elements are, as on a phone, where the style makes
 * blocks of them, some browsers no longer take it for a table.
 */
function renderGrid(project: Project, now: Date): Html {
  const { id, name, jobs, document } = project;
  const longest = jobs.reduce((max, { job }) => Math.max(max, job.jobs_info.length), MIN_COLUMNS);
  const columns = Math.min(longest, MAX_COLUMNS);
  const heads = Array.from({ length: columns - 1 }, (_, i) => {
    return html`<th scope="col" role="columnheader" class="run"><span>${columns - 1 - i} before the latest</span></th>`;
  });
  const told = new Set<string>();
  const rows = jobs.map((row) => {
    const said = [describeJob(row, project, now, told.has(causeOf(row))), markUntold(row, now)];
    told.add(causeOf(row));
    const { last_run = document?.counted_at } = row.job; // of most jobs, the two are the same
    const ran = last_run && last_run !== document?.counted_at ? html`ran ${formatAgo(last_run, now)}` : undefined;
    return renderRow(row, project, columns, enumerate([...said, ran]));
  });
  return html`<table role="table" aria-labelledby="${id}.jobs">
<caption id="${id}.jobs">Jobs of ${isolate(name)} that failed lately, with their last ${columns} executions</caption>
<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">Job</th>${heads}
<th scope="col" role="columnheader" class="run last"><span>latest</span></th>
<th scope="col" role="columnheader" class="state">State</th></tr></thead>
<tbody role="rowgroup">
${rows}</tbody>
</table>`;
}

function renderRow({ name, job, number }: Job, { id, links }: Project, columns: number, state: Part): Html {
  const shown = job.jobs_info.slice(-columns);
  const gap = columns - shown.length;
  const empty = gap > 0 ? html`<td role="cell" class="gap" colspan="${gap}" aria-colspan="${gap}"></td>` : undefined;
  const kind = isOpen(job.alert) ? "open" : "watched";
  const latest = job.jobs_info.findLast((execution) => execution.failing && execution.id !== null)?.id ?? undefined;
  const label = link(latest === undefined ? undefined : links.job?.(latest), isolate(name));
  const cells = [empty, ...shown.map((execution) => renderCell(execution, links))];
  return html`<tr role="row" class="${kind}" id="${id}.${number}"><th scope="row" role="rowheader">${label}</th>${cells}
<td role="cell" class="state">${state}</td></tr>
`;
}

function renderCell({ failing, id, commit, pipeline, title }: Execution, links: Links): Html {
  const word = failing ? "failed" : "passed";
  const place = `${pipeline ? ` in pipeline ${pipeline}` : ""}${commit ? ` at ${commit.slice(0, 8)}` : ""}`;
  const url = failing && id !== null ? links.job?.(id) : undefined;
  const label = html`<i class="${word}" title="${word}${place}${title ? `: ${title}` : ""}"><span>${word}</span></i>`;
  return html`<td role="cell" class="run">${link(url, label)}</td>`;
}

/** What is to be said of a job beside its executions. */
function describeJob(row: Job, { links }: Project, now: Date, isKnown: boolean): Html {
  const { alert, consecutive_failures } = row.job;
  const count = describeCount([row]);
  const failed = consecutive_failures > 1 ? `failed ${consecutive_failures} times in a row` : count;
  if (!alert) return html`${failed}`;
  if (!isOpen(alert)) return html`${KINDS[alert.kind]} ${formatAgo(alert.changed_at, now)}, ${failed}`;
  const isBroken = alert.kind === "consecutive";
  const said = isBroken ? describeBroken([row], links, isKnown) : count;
  const badge = html`<b class="badge ${isBroken ? "broken" : "often"}">${KINDS[alert.kind]}</b>`;
  return html`${badge} ${said}, alerted ${formatAgo(alert.at, now)}`;
}

/** The projects of which there is nothing to say, in a line each. */
function renderQuiet(projects: Project[], now: Date): Html | undefined {
  if (projects.length === 0) return undefined;
  const items = projects.map((project) => {
    const name = link(project.document?.project?.url, isolate(project.name));
    const latest = html`<span class="why">${describeLatest(project, now)}</span>`;
    return html`<li id="${project.id}">${mark("fine")}${name} ${latest}</li>
`;
  });
  const title = `${formatCount(projects.length, "project")} in which no job failed lately`;
  return html`<section aria-labelledby="quiet"><h2 id="quiet">${title}</h2><ul class="quiet">${items}</ul></section>`;
}

// --- The page: its head, and all parts in their order.

/** What the tab of a page says, that is open behind others. */
function writeTitle(projects: Project[]): Html {
  const found = STATE_NAMES.filter((state) => state !== "fine" && countOf(state, projects) > 0);
  const counts = found.map((state) => `${countOf(state, projects)} ${STATES[state].word}`);
  return html`${counts.join(", ") || "No alert"} – CI jobs of ${nameAll(projects)}`;
}

/** The mark of the gravest state, for the tab; it also keeps browsers from asking a server for one. */
function drawIcon([gravest]: Project[]): string {
  const shape = {
    broken: '<path d="M0 0h16v16H0z" fill="#c62828"/><path d="M4 4l8 8m0-8l-8 8" stroke="#fff" stroke-width="2.5"/>',
    fine: '<path d="M3 3h10v10H3z" fill="#1a7f37"/>',
    other: '<path d="M2 2h12v12H2z" fill="#fff" stroke="#c77700" stroke-width="4"/>',
  }[gravest?.counts.broken ? "broken" : gravest?.counts.fine ? "fine" : "other"];
  const picture = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${shape}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(picture)}`;
}

const LEGEND = html`<p class="legend"><span><i class="failed"></i> failed</span>
<span><i class="passed"></i> passed</span> <span>the latest at the right</span></p>`;

/** The page of these projects. Nothing in it is loaded from elsewhere, and nothing in it runs. */
export function renderPage(projects: Project[], now: Date): string {
  const hash = createHash("sha256").update(STYLE).digest("base64");
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; img-src data:; base-uri 'none'; form-action 'none'`;
  const isFine = ({ states }: Project) => states.includes("fine");
  const quiet = projects.filter((project) => isFine(project) && project.jobs.length === 0);
  const fine = projects.filter((project) => isFine(project) && project.jobs.length > 0);
  const troubled = projects.filter((project) => !isFine(project));
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
${troubled.map((project) => renderProject(project, now))}
<div id="fine">
${fine.map((project) => renderProject(project, now))}
${renderQuiet(quiet, now)}
</div>
</main>
<p class="aged">This page was loaded over two hours ago. <a href="">Load it again</a></p>
</body>
</html>
`.html;
}

// --- Reading: from addresses to documents, in S3 or in folders. Nothing is written.

type Access = ReturnType<typeof parseReportSettings>["store"];
/** The clients are by bucket: where a role is assumed, that is once, and not for each of sixty documents. */
type Reader = { access: Access; clients: Map<string, S3Client>; signal: AbortSignal };
type Place = { bucket: string; key: string };

const READ_TIMEOUT_MS = 90_000; // for all of them
const AT_ONCE = 16; // sixty at once may be throttled

/** What is below these addresses, as documents or as what keeps them from being read; each once. */
async function readSources(urls: string[], access: Access): Promise<Source[]> {
  const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
  setMaxListeners(0, signal); // each request has one
  const reader = { access, clients: new Map(), signal };
  const asError =
    (source: string) =>
    (error: Error): Source => ({ source, error: oneLine(error.message) });
  const listed = await Promise.all(urls.map((url) => listBelow(url, reader).catch(asError(url))));
  const found = groupBy(listed.flat(), ({ source }) => source).map(([first]) => first);
  const sources: Source[] = [];
  for (let i = 0; i < found.length; i += AT_ONCE) {
    const some = found.slice(i, i + AT_ONCE);
    const read = some.map((one) => (one.error ? one : readDocument(one.source, reader).catch(asError(one.source))));
    sources.push(...(await Promise.all(read)));
  }
  return sources;
}

/** The addresses of the documents that an address stands for: itself, or every .json below it. */
async function listBelow(url: string, reader: Reader): Promise<Source[]> {
  const place = placeOf(url);
  const isFolder = place ? /^$|\/$/.test(place.key) : statSync(url, { throwIfNoEntry: false })?.isDirectory();
  if (!isFolder) return [{ source: place ? url : normalize(url) }];
  const paths = place ? await listObjects(url, place, reader) : await listFiles(url);
  const sources = paths.filter((path) => path.endsWith(".json")).map((source) => ({ source }));
  return sources.length > 0 ? sources : [{ source: url, error: `There is no .json below ${url}; check its address` }];
}

/** The bucket and the key of an address, or the beginning of keys; undefined for a path. */
function placeOf(url: string): Place | undefined {
  const [, bucket, key = ""] = S3_URL.exec(url) ?? [];
  return bucket ? { bucket, key } : undefined;
}

async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map(({ parentPath, name }) => join(parentPath, name));
}

async function listObjects(url: string, { bucket, key }: Place, reader: Reader): Promise<string[]> {
  return askS3("list", url, bucket, reader, async (client) => {
    const keys: (string | undefined)[] = [];
    const pages = paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: key }, { abortSignal: reader.signal });
    for await (const { Contents = [] } of pages) keys.push(...Contents.map(({ Key }) => Key));
    return keys.map((found) => `s3://${bucket}/${found}`);
  });
}

/** Reads a document as the report of the script does. */
async function readDocument(source: string, reader: Reader): Promise<Source> {
  const place = placeOf(source);
  const read = place
    ? () => readObject(source, place, reader)
    : openStore({ ...reader.access, JOB_EXECUTIONS_URL: source }).read;
  const stored = await retrieveJobExecutions({ source, read, write: async () => false }, reader.signal);
  if (stored) return { source, document: stored.document };
  return { source, error: `There is no document ${source}, if that is its address (one that ends with / is a prefix)` };
}

async function readObject(url: string, { bucket, key }: Place, reader: Reader) {
  return askS3("read", url, bucket, reader, async (client) => {
    const object = new GetObjectCommand({ Bucket: bucket, Key: key });
    const answer = await client.send(object, { abortSignal: reader.signal }).catch((error: Error) => {
      if (error.name !== "NoSuchKey") throw error;
    });
    const bytes = await answer?.Body?.transformToByteArray();
    return bytes && { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), version: "" };
  });
}

type Ask<T> = (client: S3Client) => Promise<T>;

/** Asks S3; throws an error that says what can't be done, why, and what to do. */
async function askS3<T>(action: "list" | "read", url: string, bucket: string, reader: Reader, ask: Ask<T>): Promise<T> {
  const { access, clients, signal } = reader;
  const explain = (action: "role" | "list" | "read") => (error: unknown) => {
    const { reason, todo } = adviseOnAws(error, action, bucket);
    throw new Error(`Cannot read ${url}: ${signal.aborted ? "no complete answer in time" : reason}; ${todo}`);
  };
  const client = clients.get(bucket) ?? openS3(access, bucket);
  clients.set(bucket, client);
  await client.config.credentials().catch(explain("role"));
  return ask(client).catch(explain(action));
}

// --- Command line: what is asked for, the page on stdout, and the troubles on stderr.

const USAGE = `Usage: npm run --silent page -- [--max-age 3d] URL… > page.html
A URL is s3://bucket/key, s3://bucket/prefix/, a file or a folder; --max-age is in days or hours: 3d, 12h`;

/** Undefined: they are wrong. An empty address comes of a variable that is not set. */
export function parseArguments(args: string[]): { urls: string[]; maxAgeMs: number } | undefined {
  const at = args.indexOf("--max-age");
  const urls = at < 0 ? args : args.toSpliced(at, 2);
  const maxAgeMs = at < 0 ? MAX_AGE_MS : parseAge(args[at + 1]);
  const isWrong = (url: string) => /^(-|file:|$)|^\S*:\/\//i.test(url) && !placeOf(url);
  return maxAgeMs && urls.length > 0 && !urls.some(isWrong) ? { urls, maxAgeMs } : undefined;
}

/** Resolves to the exit code. */
async function main(args: string[], variables: Variables): Promise<number> {
  const say = (text: string) => void process.stderr.write(`${text}\n`);
  const asked = parseArguments(args);
  if (!asked) say(USAGE);
  if (!asked) return 2;
  let access: Access;
  try {
    access = parseReportSettings({ ...variables, JOB_EXECUTIONS_URL: "each has its own" }).store;
  } catch (error) {
    say(`Error: ${(error as Error).message}`);
    return 2;
  }
  const sources = await readSources(asked.urls, access);
  const now = new Date();
  const projects = toProjects(sources, now, asked.maxAgeMs);
  process.stdout.on("error", () => {}); // a full disk, or a reader that left: the callback has it as well
  const page = renderPage(projects, now);
  const lost = await new Promise<Error | null | undefined>((resolve) => process.stdout.write(page, resolve));
  const troubles = [...(lost ? [`Cannot write the page: ${lost.message}`] : []), ...listTroubles(projects)];
  for (const trouble of troubles) say(`Error: ${trouble}`);
  return troubles.length > 0 ? 1 : 0;
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  // As the script has it: the SDK takes "" for a value, and says of every Node 20 that it is old.
  for (const name in process.env) if (!process.env[name]) delete process.env[name];
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true";
  process.exitCode = await main(process.argv.slice(2), process.env);
}
