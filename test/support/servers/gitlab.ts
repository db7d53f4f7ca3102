/** A stand-in for GitLab: the jobs of pipelines, in pages, and their trigger jobs. */
import { answerJson, answerWith, type ServerOptions, startServer } from "./http.ts";

export type GitLabJob = {
  id: number;
  name: string;
  status: string;
  allow_failure?: boolean;
  stage?: string | null;
  failure_reason?: string | null;
  web_url?: string;
};
export type GitLabBridge = GitLabJob & {
  /** `project_id` came late, and a pipeline that was just made may have no status. */
  downstream_pipeline?: { id: number; project_id?: number | null; status?: string | null; web_url?: string } | null;
};
export type GitLabPipeline = { jobs: GitLabJob[]; bridges?: GitLabBridge[] };

export const TOKEN = "glpat-stand-in-token";
export const JOB_TOKEN = "glcbt-stand-in-token";
export const PROJECT_ID = 4242;

const json = (status: number, body: object) =>
  answerWith(status, JSON.stringify(body), { "content-type": "application/json" });

type Options = ServerOptions & {
  /** Whether the headers tell how many pages there are: GitLab leaves the totals out above 10,000 records. */
  hasTotals?: boolean;
};

export async function startGitLab({ hasTotals = true, ...options }: Options = {}) {
  const pipelines = new Map<number, GitLabJob[]>();
  /** The trigger jobs of pipelines; one that is not here has none. */
  const bridges = new Map<number, GitLabBridge[]>();
  const server = await startServer(({ path, query, headers }, response) => {
    const [, id, kind] = /^\/api\/v4\/projects\/4242\/pipelines\/(\d+)\/(jobs|bridges)$/.exec(path) ?? [];
    // A job token may list the jobs of its project, and not the trigger jobs.
    const isKnown = headers["private-token"] === TOKEN || (headers["job-token"] === JOB_TOKEN && kind === "jobs");
    if (!isKnown) return json(401, { message: "401 Unauthorized" })(response);
    const jobs = pipelines.get(Number(id));
    if (!jobs) return json(404, { message: "404 Not found" })(response);
    const listed = kind === "bridges" ? (bridges.get(Number(id)) ?? []) : jobs;

    const perPage = Math.min(Number(query.get("per_page") ?? 20), 100);
    const page = Number(query.get("page") ?? 1);
    const total = Math.max(1, Math.ceil(listed.length / perPage));
    const headersOfPage: Record<string, string> = hasTotals ? { "x-total-pages": `${total}` } : {};
    answerJson(response, listed.slice((page - 1) * perPage, page * perPage), headersOfPage);
  }, options);
  return { ...server, pipelines, bridges, apiUrl: `${server.url}/api/v4` };
}
