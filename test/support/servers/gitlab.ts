/** A stand-in for GitLab: the jobs of pipelines, in pages and by scope, and the titles of commits. */
import { answerJson, answerWith, startServer } from "./http.ts";

export type GitLabJob = {
  id: number;
  name: string;
  status: string;
  allow_failure?: boolean;
  web_url?: string;
  commit?: { title: string };
};

export const TOKEN = "glpat-stand-in-token";
export const JOB_TOKEN = "glcbt-stand-in-token";

const json = (status: number, body: object) =>
  answerWith(status, JSON.stringify(body), { "content-type": "application/json" });

/** `pages` says which headers tell of further pages: GitLab leaves the totals out above 10,000 records. */
export async function startGitLab({ latencyMs = 0, pages = "totals" as "totals" | "next" | "link" } = {}) {
  const pipelines = new Map<number, GitLabJob[]>();
  const titles = new Map<string, string>();
  const server = await startServer(
    ({ path, query, headers }, response) => {
      if (headers["private-token"] !== TOKEN && headers["job-token"] !== JOB_TOKEN) {
        return json(401, { message: "401 Unauthorized" })(response);
      }
      const commit = /^\/api\/v4\/projects\/4242\/repository\/commits\/(\w+)$/.exec(path)?.[1];
      const title = titles.get(commit ?? "");
      if (title !== undefined) return answerJson(response, { id: commit, title });
      const jobs = pipelines.get(Number(/^\/api\/v4\/projects\/4242\/pipelines\/(\d+)\/jobs$/.exec(path)?.[1]));
      if (!jobs) return json(404, { message: "404 Not found" })(response);

      const scopes = query.getAll("scope[]");
      const found = scopes.length > 0 ? jobs.filter((job) => scopes.includes(job.status)) : jobs;
      const perPage = Math.min(Number(query.get("per_page") ?? 20), 100);
      const page = Number(query.get("page") ?? 1);
      const total = Math.max(1, Math.ceil(found.length / perPage));
      const next = page < total ? String(page + 1) : "";
      const nextQuery = new URLSearchParams(query);
      nextQuery.set("page", next);
      const link = `<http://elsewhere.invalid${path}?${nextQuery}>; rel="next", <http://elsewhere.invalid${path}?page=1>; rel="first"`;
      const headersOf: Record<typeof pages, Record<string, string>> = {
        totals: { "x-total-pages": String(total), "x-next-page": next },
        next: { "x-next-page": next },
        link: next ? { link } : {},
      };
      answerJson(response, found.slice((page - 1) * perPage, page * perPage), headersOf[pages]);
    },
    { latencyMs },
  );
  return { ...server, pipelines, titles, apiUrl: `${server.url}/api/v4` };
}
