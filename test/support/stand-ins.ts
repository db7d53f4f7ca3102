/** The three stand-ins at once, and an environment that points the script at them. */
import { startGitLab, TOKEN } from "./servers/gitlab.ts";
import { startS3 } from "./servers/s3.ts";
import { SLACK_TOKEN, startSlack } from "./servers/slack.ts";

export const KEY = "job_executions.v2.json";

/** The variables of a document in the bucket of a server. */
export const documentAt = (endpoint: string) => ({
  JOB_EXECUTIONS_URL: `s3://bucket/${KEY}`,
  AWS_ENDPOINT_URL_S3: endpoint,
  AWS_REGION: "us-east-1",
  AWS_ACCESS_KEY_ID: "stand-in",
  AWS_SECRET_ACCESS_KEY: "stand-in-secret",
});

export async function startStandIns({ latencyMs = 0 } = {}) {
  const [s3, gitlab, slack] = await Promise.all([
    startS3({ latencyMs }),
    startGitLab({ latencyMs }),
    startSlack({ latencyMs }),
  ]);
  const servers = [s3, gitlab, slack];
  return {
    s3,
    gitlab,
    slack,
    env: {
      GITLAB_CI: "true",
      CI_COMMIT_SHA: "0ddba11",
      CI_API_V4_URL: gitlab.apiUrl,
      CI_PROJECT_ID: "4242",
      GITLAB_TOKEN: TOKEN,
      ...documentAt(s3.url),
      SLACK_API_URL: slack.apiUrl,
      SLACK_API_TOKEN: SLACK_TOKEN,
      SLACK_CHANNEL: "#ci",
    },
    requests: () => servers.flatMap(({ requests }) => requests),
    close: () => servers.forEach((server) => void server.close()),
  };
}
