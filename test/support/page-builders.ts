/** What tests of the page are made of: documents as they are read, a store that lists them, and what a page says. */
import type { Alert, JobExecutions, TrackedJob, Turn } from "../../check-failures.ts";
import { renderPage, type Source, toProjects } from "../tools/page.ts";
import { documentOf, history, NOW, openAlert } from "./builders.ts";
import { answerWith } from "./servers/http.ts";
import type { startS3 } from "./servers/s3.ts";

export type NamedJob = [name: string, job: TrackedJob];
type Details = Partial<JobExecutions>;

export const SHOP = { name: "acme/shop", url: "https://gitlab.example.com/acme/shop", ci: "gitlab" as const };
export const hoursAgo = (hours: number, now = NOW) => new Date(now.getTime() - hours * 3_600_000).toISOString();

/** The page of these documents, at the time of the tests. */
export const pageOf = (sources: Source[], maxAgeMs?: number) => renderPage(toProjects(sources, NOW, maxAgeMs), NOW);

/** A document of acme/shop that was counted half an hour ago. */
export const documentWith = (jobs: NamedJob[], rest: Details = {}): JobExecutions => ({
  ...{ ...documentOf(...jobs), counted_at: hoursAgo(0.5), project: SHOP },
  ...rest,
});
/** A document of acme/shop as it was read. */
export const shop = (jobs: NamedJob[] = [], rest: Details = {}) => ({
  source: "shop.json",
  document: documentWith(jobs, rest),
});
/** Likewise, of another project. */
export const named = (name: string, jobs: NamedJob[] = [], rest: Details = {}) => ({
  source: `${name}.json`,
  document: documentWith(jobs, { project: { ...SHOP, name }, ...rest }),
});

const ran = { last_run: hoursAgo(0.5) };

/** An alert that changed so many hours ago, and of which the broadcast channel was told then. */
export function alertOf(kind: Alert["kind"], hours: number, rest: Partial<Alert> = {}): Alert {
  const at = hoursAgo(hours);
  return openAlert(kind, { at, changed_at: at, told: { "": at }, ...rest });
}
/** A job that is broken for 16 hours, first at the commit of its turn. */
export function broken(turned?: Turn, strip = "···✗✗✗", alert: Partial<Alert> = {}): TrackedJob {
  const job = history(strip, { ...ran, alert: alertOf("consecutive", 16, { turned, ...alert }) });
  Object.assign(job.jobs_info[strip.indexOf("✗")] ?? {}, turned && { commit: turned.commit });
  return job;
}
export const often = (alert: Partial<Alert> = {}) =>
  history("✗·✗·✗·✗·✗·", { ...ran, alert: alertOf("cumulative", 70, alert) });
export const watched = (strip = "··✗·", alert?: Alert) => history(strip, { ...ran, alert });

/** As an earlier version stored it, with an author, whom nothing is to name. */
export const MIGRATION = { commit: "abcdef4277", title: "Move checkout", from: "77aa01d3ff", author: "Ada Lovelace" };
export const HOSTILE = [
  "<script>window.ran = 1</script>",
  "<img src=/leak onerror='window.ran = 1'>",
  `"><svg onload="window.ran = 1"><a href="javascript:window.ran = 1">`,
  "</style><style>@import '/leak'",
  "</title><img src=/leak>",
  "\u202egnp.exe\u2066\u0000\n\ud800&amp;",
  "__proto__",
];
/** A document in which all that anybody can name has one name. */
export const hostile = (name: string, url: string): Source => {
  const job = broken({ commit: name, title: name, from: `${name}!` });
  job.jobs_info = job.jobs_info.map((execution) => ({ ...execution, title: name }));
  return { source: name, document: documentWith([[name, job]], { commit: name, project: { ...SHOP, name, url } }) };
};

/** What a part of a page says, without its markup. */
export const textIn = (html: string) =>
  html
    .replace(/<style>.*<\/style>/s, "")
    .replace(/<[^>]*>/g, "")
    .replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))
    .replace(/\s+/g, " ")
    .trim();
/** The part of a page for which a pattern has a group. */
export const partOf = (html: string, pattern: RegExp) => pattern.exec(html)?.[1] ?? "";
/** What the top says of a state: its heading, and a line for each thing that is said of a project. */
export function summaryOf(html: string, state: string) {
  const part = partOf(html, new RegExp(`<section class="part" aria-labelledby="${state}">(.*?)</section>`, "s"));
  return part.split(/<\/h2>|<\/a><ul>|<\/li>/).flatMap((line) => textIn(line) || []);
}
/** The names of all projects, as the wall has them. */
export const namesOn = (html: string) => {
  const wall = partOf(html, /<ul class="wall">(.*?)<\/ul>/s);
  return [...wall.matchAll(/<bdi>(.*?)<\/bdi>/g)].map(([, name]) => name);
};
export const rowsOf = (html: string) =>
  [...html.matchAll(/<tr role="row" class="\w+" id.*?<\/tr>/gs)].map(([row]) => row);
export const statesOf = (html: string) => rowsOf(html).map((row) => textIn(partOf(row, /class="state">(.*)<\/td>/)));
export const linksIn = (html: string) => [...html.matchAll(/ href="([^"]*)"/g)].map(([, url]) => `${url}`);

/** Has a stand-in for S3 list its objects as the real one does, in pages of two. */
export function listObjects({ objects, faults }: Awaited<ReturnType<typeof startS3>>) {
  faults.push({
    times: Number.POSITIVE_INFINITY,
    matches: ({ path, query }) => path === "/bucket/" && query.has("list-type"),
    answer: (response, { query }) => {
      const start = Number(query.get("continuation-token"));
      const keys = [...objects.keys()].filter((key) => key.startsWith(query.get("prefix") ?? "")).sort();
      const shown = keys.slice(start, start + 2).map((key) => `<Contents><Key>${textIn(key)}</Key></Contents>`);
      const next = `<NextContinuationToken>${start + 2}</NextContinuationToken>`;
      const more = `<IsTruncated>${keys.length > start + 2}</IsTruncated>${keys.length > start + 2 ? next : ""}`;
      const body = `<ListBucketResult>${more}${shown.join("")}</ListBucketResult>`;
      answerWith(200, body, { "content-type": "application/xml" })(response);
    },
  });
}
