import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { describeSettings, parseReportSettings, parseSettings } from "../check-failures.ts";

type Variables = Record<string, string | undefined>;

const REQUIRED = {
  CI_PIPELINE_ID: "1005",
  CI_COMMIT_SHA: "0ddba11",
  CI_API_V4_URL: "https://gitlab.example.com/api/v4",
  CI_PROJECT_ID: "4242",
  GITLAB_TOKEN: "glpat-1",
};

const DEFAULTS = {
  JOB_EXECUTIONS_URL: "job_executions.v2.json",
  S3_SSE: "AES256",
  S3_CONDITIONAL_WRITES: "on",
  CONSECUTIVE_THRESHOLD: 3,
  CUMULATIVE_THRESHOLD: 5,
  CUMULATIVE_LENGTH: 10,
  RECOVERY_THRESHOLD: 3,
  NOT_RUN_JOBS: "keep",
  EXPIRE_AFTER_DAYS: 30,
  IGNORE_JOBS: [],
  IGNORE_FAILURES: [],
  SLACK_API_URL: "https://slack.com/api",
};

/** Variables that may hold any text. */
const ANY_TEXT = [
  ...["CI_COMMIT_BRANCH", "CI_COMMIT_TITLE", "CI_COMMIT_DESCRIPTION", "CI_PROJECT_PATH", "GITHUB_ACTIONS"],
  ...["PIPELINE_JOBS_FILE", "JOB_OWNERS_FILE", "OWNER_CHANNELS_FILE", "AWS_REGION", "AWS_DEFAULT_REGION"],
  ...["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "CI_SERVER_TLS_CA_FILE"],
];

const COUNT = {
  expected: /a positive integer, e\.g\. \d+/,
  wrong: ["0", "-1", "1.5", "1e3", "0x10", " 3", "three", "9007199254740993"],
};
const TOKEN = {
  expected: /a token without spaces or line breaks, e\.g\. \S+/,
  wrong: ["two words", "line\nbreak", "tokèn"],
};
const URLS = ["gitlab", "ftp://gitlab.example.com", "https://", "https://bot:pass@gitlab.example.com", "https://a b"];

/** What the error says is expected, and values that are something else. */
const WRONG: Record<string, { expected: RegExp; wrong: string[] }> = {
  CI_PIPELINE_ID: { expected: /a positive integer, e\.g\. 1005/, wrong: COUNT.wrong },
  CI_COMMIT_SHA: {
    expected: /7 to 64 hex digits, e\.g\. 0ddba11/,
    wrong: ["0ddba1", "0ddball", "a".repeat(65), "HEAD"],
  },
  CI_API_V4_URL: { expected: /URL without a password, e\.g\. https:\/\/\S+\/api\/v4/, wrong: URLS },
  CI_PROJECT_ID: { expected: /a project's id, e\.g\. 4242/, wrong: ["two words"] },
  CI_PROJECT_URL: { expected: /URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  CI_PIPELINE_URL: { expected: /URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  GITLAB_TOKEN: TOKEN,
  CI_JOB_TOKEN: TOKEN,
  JOB_EXECUTIONS_URL: {
    expected: /s3:\/\/bucket\/key or a path, e\.g\. s3:\/\/\S+\/\S+/,
    wrong: [
      "file:state.json",
      "file:///var/a.json",
      "s3://bucket",
      "s3://bucket/",
      "s3:///key",
      "s3:bucket/key",
      "https://example.com/key",
      "gs://bucket/key",
    ],
  },
  S3_SSE: { expected: /one of AES256, aws:kms, aws:kms:dsse, none, e\.g\. AES256/, wrong: ["aes256", "off"] },
  S3_CONDITIONAL_WRITES: { expected: /one of on, off, e\.g\. on/, wrong: ["ON", "false", "0"] },
  AWS_ENDPOINT_URL: { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  AWS_ENDPOINT_URL_S3: { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  CONSECUTIVE_THRESHOLD: COUNT,
  CUMULATIVE_THRESHOLD: COUNT,
  CUMULATIVE_LENGTH: COUNT,
  RECOVERY_THRESHOLD: COUNT,
  NOT_RUN_JOBS: { expected: /one of keep, pass, e\.g\. keep/, wrong: ["Keep", "fail"] },
  EXPIRE_AFTER_DAYS: COUNT,
  SLACK_API_TOKEN: TOKEN,
  SLACK_CHANNEL: { expected: /a channel, e\.g\. #ci-alerts/, wrong: ["#two words", "#ci\n"] },
  SLACK_WEBHOOK_URL: { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  SLACK_API_URL: { expected: /an http or https URL without a password, e\.g\. https:\/\/slack\.com\/api/, wrong: URLS },
  IGNORE_JOBS: { expected: /patterns, e\.g\. /, wrong: ["lint\\", "a b\\ "] },
  IGNORE_FAILURES: { expected: /patterns, e\.g\. /, wrong: ["lint\\"] },
};

/** What an environment sets in all parts together, with the defaults. */
const parse = (variables: Variables): Record<string, unknown> => {
  const set = Object.values(parseSettings(variables)).flatMap((part) => Object.entries(part));
  return Object.fromEntries(set.filter(([, value]) => value !== undefined));
};

const problemsOf = (variables: Variables): string[] => {
  try {
    parseSettings(variables);
    return [];
  } catch (error) {
    const { message } = error as Error;
    return message
      .replace(/^The environment is not valid: /, "")
      .replace(/; see --help$/, "")
      .split("; ");
  }
};

describe("parseSettings()", () => {
  test("fills in the defaults and keeps what is required", () => {
    assert.deepEqual(parse(REQUIRED), { ...DEFAULTS, ...REQUIRED, CI_PIPELINE_ID: 1005 });
  });

  test("leaves out what is not the script's", () => {
    assert.deepEqual(parse({ ...REQUIRED, PATH: "/bin" }), parse(REQUIRED));
  });

  test("gives a token to the part that needs it and to no other", () => {
    const tokens = { SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "#ci", CI_JOB_TOKEN: "glcbt-1" };
    const parts = parseSettings({ ...REQUIRED, ...tokens });
    const holders = (token: string) =>
      Object.entries(parts).flatMap(([part, values]) => (JSON.stringify(values).includes(token) ? part : []));
    assert.deepEqual(["glpat-1", "glcbt-1", "xoxb-1"].map(holders), [["jobs"], ["jobs"], ["slack"]]);
  });

  test("takes the name of an author without an address", () => {
    const authorOf = (author: string) => parse({ ...REQUIRED, CI_COMMIT_AUTHOR: author }).CI_COMMIT_AUTHOR;
    assert.deepEqual(
      [
        "Ada Lovelace <ada@example.com>",
        "Ada",
        "<ada@example.com>",
        "ada@example.com",
        "<@U1> Eve <e@x>",
        "x".repeat(200),
      ].map(authorOf),
      ["Ada Lovelace", "Ada", undefined, "ada", "<@U1> Eve", "x".repeat(150)],
    );
  });

  test("takes patterns, separated by white space", () => {
    const { limits } = parseSettings({ ...REQUIRED, IGNORE_JOBS: " deploy:*\tmanual\\ tests\n? " });
    const ignored = (name: string) => limits.IGNORE_JOBS.some((pattern) => pattern.test(name));
    const names = ["deploy: eu", "manual tests", "x", "manual", "lint"];
    assert.deepEqual(names.filter(ignored), ["deploy: eu", "manual tests", "x"]);
  });

  test("takes numbers, and base URLs without their last slashes", () => {
    const variables = {
      CONSECUTIVE_THRESHOLD: "4",
      CUMULATIVE_THRESHOLD: "6",
      CUMULATIVE_LENGTH: "12",
      RECOVERY_THRESHOLD: "2",
      EXPIRE_AFTER_DAYS: "7",
      CI_API_V4_URL: "http://127.0.0.1:8080/gitlab/api/v4//",
      CI_PROJECT_URL: "https://gitlab.example.com/acme/shop/",
      SLACK_API_URL: "https://proxy.example.com/slack/api/",
    };
    assert.deepEqual(parse({ ...REQUIRED, ...variables }), {
      ...parse(REQUIRED),
      CONSECUTIVE_THRESHOLD: 4,
      CUMULATIVE_THRESHOLD: 6,
      CUMULATIVE_LENGTH: 12,
      RECOVERY_THRESHOLD: 2,
      EXPIRE_AFTER_DAYS: 7,
      CI_API_V4_URL: "http://127.0.0.1:8080/gitlab/api/v4",
      CI_PROJECT_URL: "https://gitlab.example.com/acme/shop",
      SLACK_API_URL: "https://proxy.example.com/slack/api",
    });
  });

  const ACCEPTED: Record<string, string[]> = {
    CI_PIPELINE_ID: ["1", "9007199254740991"],
    CI_COMMIT_SHA: ["0ddba11", "0DDBA11", "a".repeat(64)],
    CI_COMMIT_BRANCH: ["main", "feature/two words"],
    CI_PROJECT_ID: ["4242", "acme/shop"],
    JOB_EXECUTIONS_URL: [
      "s3://bucket/a/key.json",
      "job executions.json",
      "/var/ci.json",
      "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/my-ap/key.json",
      "C:\\ci.json",
    ],
    S3_SSE: ["AES256", "aws:kms", "aws:kms:dsse", "none"],
    S3_CONDITIONAL_WRITES: ["on", "off"],
    NOT_RUN_JOBS: ["keep", "pass"],
  };
  for (const [name, values] of Object.entries(ACCEPTED)) {
    test(`accepts each form of ${name}`, () => {
      for (const value of values) assert.equal(String(parse({ ...REQUIRED, [name]: value })[name]), value);
    });
  }

  for (const name of [...Object.keys(WRONG), ...ANY_TEXT]) {
    test(`takes an empty ${name} for one that is not set`, () => {
      const { [name]: _, ...without }: Record<string, string> = REQUIRED;
      const outcomeOf = (variables: Record<string, string>) => {
        const problems = problemsOf(variables);
        return problems.length > 0 ? problems : parse(variables);
      };
      assert.deepEqual(outcomeOf({ ...without, [name]: "" }), outcomeOf(without));
    });
  }

  for (const [name, { expected, wrong }] of Object.entries(WRONG)) {
    test(`refuses a wrong ${name} with what is expected`, () => {
      for (const value of wrong) {
        const problems = problemsOf({ ...REQUIRED, [name]: value });
        const named = problems.filter((problem) => problem.startsWith(`${name} must be `) && expected.test(problem));
        assert.equal(named.length, 1, `${value}: ${problems.join("; ")}`);
      }
    });
  }

  test("reports everything that is wrong together", () => {
    const variables = Object.fromEntries(Object.entries(WRONG).map(([name, { wrong }]) => [name, wrong[0]]));
    const named = problemsOf(variables).map((problem) => problem.split(" ", 1)[0]);
    assert.deepEqual(new Set(named), new Set(Object.keys(WRONG)));
  });

  test("reports everything that is missing together", () => {
    assert.deepEqual(
      problemsOf({}).map((problem) => problem.split(" ", 1)[0]),
      ["CI_PIPELINE_ID", "CI_COMMIT_SHA", "CI_API_V4_URL", "CI_PROJECT_ID", "GITLAB_TOKEN"],
    );
    const inCi = problemsOf({ CI: "true", SLACK_CHANNEL: "#ci" }).map((problem) => problem.split(" ", 1)[0]);
    assert.deepEqual(inCi.slice(2).sort(), [
      ...["CI_API_V4_URL", "CI_PROJECT_ID", "GITLAB_TOKEN", "JOB_EXECUTIONS_URL", "SLACK_API_TOKEN"],
    ]);
  });

  test("says of a missing variable that it is not set, and of a wrong one not", () => {
    const [missing, wrong] = problemsOf({ ...REQUIRED, CI_PIPELINE_ID: "", CI_COMMIT_SHA: "HEAD" });
    assert.match(missing ?? "", /^CI_PIPELINE_ID must be .+ \(it is not set\)$/);
    assert.doesNotMatch(wrong ?? "", /not set/);
  });

  test("echoes no value: any of them may be a misplaced secret", () => {
    const misplaced = "xoxb hunter2 {\n";
    const variables = Object.fromEntries(Object.keys(WRONG).map((name) => [name, `${misplaced}${name}\\`]));
    const problems = problemsOf(variables);
    assert.equal(problems.length >= Object.keys(WRONG).length, true);
    assert.doesNotMatch(problems.join("; "), /hunter2/);
  });

  const { CI_API_V4_URL: _url, CI_PROJECT_ID: _id, GITLAB_TOKEN: _token, ...PIPELINE } = REQUIRED;
  const RULES: { rule: string; variables: Record<string, string>; problems: RegExp[] }[] = [
    {
      rule: "asks for the API's URL and a token where there is no file of jobs",
      variables: { ...PIPELINE, CI_PROJECT_ID: "4242" },
      problems: [/^CI_API_V4_URL must be .*not set/, /^GITLAB_TOKEN must be .*e\.g\. .*not set/],
    },
    {
      rule: "asks for the project's id",
      variables: { ...REQUIRED, CI_PROJECT_ID: "" },
      problems: [/^CI_PROJECT_ID must be .*e\.g\. 4242, .*not set/],
    },
    {
      rule: "asks for none of them where there is a file of jobs",
      variables: { ...PIPELINE, PIPELINE_JOBS_FILE: "jobs.json" },
      problems: [],
    },
    {
      rule: "is content with a CI_JOB_TOKEN",
      variables: { ...REQUIRED, GITLAB_TOKEN: "", CI_JOB_TOKEN: "glcbt-1" },
      problems: [],
    },
    {
      rule: "refuses a Slack token without a channel",
      variables: { ...REQUIRED, SLACK_API_TOKEN: "xoxb-1" },
      problems: [/^SLACK_CHANNEL must be set together with SLACK_API_TOKEN, e\.g\. #/],
    },
    {
      rule: "refuses a channel without a Slack token",
      variables: { ...REQUIRED, SLACK_CHANNEL: "#ci" },
      problems: [/^SLACK_API_TOKEN must be set together with SLACK_CHANNEL, e\.g\. xoxb/],
    },
    {
      rule: "accepts a Slack token with a channel",
      variables: { ...REQUIRED, SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "C0123" },
      problems: [],
    },
    {
      rule: "accepts a webhook alone",
      variables: { ...REQUIRED, SLACK_WEBHOOK_URL: "https://hooks.slack.com/services/T/B/x" },
      problems: [],
    },
    {
      rule: "refuses a webhook besides a token",
      variables: {
        ...REQUIRED,
        SLACK_API_TOKEN: "xoxb-1",
        SLACK_CHANNEL: "#ci",
        SLACK_WEBHOOK_URL: "https://hooks.slack.com/services/T/B/x",
      },
      problems: [/^SLACK_WEBHOOK_URL must be unset where SLACK_API_TOKEN is set/],
    },
    ...["true", "1", "yes"].map((CI) => ({
      rule: `asks for JOB_EXECUTIONS_URL where CI is ${CI}`,
      variables: { ...REQUIRED, CI },
      problems: [/^JOB_EXECUTIONS_URL must be set in CI, e\.g\. s3:.*not set/],
    })),
    ...["", "false", "0"].map((CI) => ({
      rule: `does without JOB_EXECUTIONS_URL where CI is "${CI}"`,
      variables: { ...REQUIRED, CI },
      problems: [],
    })),
    {
      rule: "refuses a cumulative threshold above the length",
      variables: { ...REQUIRED, CUMULATIVE_THRESHOLD: "11" },
      problems: [/^CUMULATIVE_THRESHOLD must be at most CUMULATIVE_LENGTH, e\.g\./],
    },
    {
      rule: "refuses a recovery threshold above the length",
      variables: { ...REQUIRED, RECOVERY_THRESHOLD: "11" },
      problems: [/^RECOVERY_THRESHOLD must be at most CUMULATIVE_LENGTH, e\.g\./],
    },
    {
      rule: "refuses defaults above a smaller length",
      variables: { ...REQUIRED, CUMULATIVE_LENGTH: "2" },
      problems: [/^CUMULATIVE_THRESHOLD must be at most/, /^RECOVERY_THRESHOLD must be at most/],
    },
    {
      rule: "accepts thresholds that equal the length",
      variables: { ...REQUIRED, CUMULATIVE_THRESHOLD: "10", RECOVERY_THRESHOLD: "10" },
      problems: [],
    },
    {
      rule: "accepts more failures in a row than the window holds",
      variables: { ...REQUIRED, CONSECUTIVE_THRESHOLD: "11" },
      problems: [],
    },
  ];
  for (const { rule, variables, problems } of RULES) {
    test(rule, () => {
      const found = problemsOf(variables);
      assert.equal(found.length, problems.length, found.join("\n"));
      for (const [i, problem] of problems.entries()) assert.match(found[i] ?? "", problem);
    });
  }
});

describe("parseReportSettings()", () => {
  test("needs none of a pipeline's variables, and does not look at them", () => {
    const wrong = { CI_PIPELINE_ID: "x", CI_API_V4_URL: "nope", GITLAB_TOKEN: "two words", SLACK_CHANNEL: "#ci" };
    assert.deepEqual(parseReportSettings(wrong), parseReportSettings({}));
    assert.deepEqual(Object.keys(parseReportSettings({})), ["limits", "store", "network"]);
  });

  test("refuses what is wrong in its own", () => {
    const parseWrong = () =>
      parseReportSettings({ CUMULATIVE_LENGTH: "2", S3_SSE: "x", CI: "true", CI_PIPELINE_ID: "x" });
    assert.throws(parseWrong, /S3_SSE .*CUMULATIVE_THRESHOLD .*RECOVERY_THRESHOLD .*JOB_EXECUTIONS_URL/);
    assert.throws(parseWrong, ({ message }: Error) => !message.includes("CI_PIPELINE_ID"));
  });
});

describe("describeSettings()", () => {
  test("has each variable once, with a line of description", () => {
    const described = describeSettings();
    const names = described.map(({ name }) => name);
    assert.deepEqual(names, [...new Set(names)]);
    const isLower = (name: string) => name === name.toLowerCase();
    const missing = [...Object.keys(WRONG), ...ANY_TEXT].filter((name) => !isLower(name) && !names.includes(name));
    assert.deepEqual(missing, []);
    for (const { name, description } of described) assert.match(description, /^[^\n]{5,110}$/, name);
  });

  test("is what README's tables of variables say", () => {
    const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
    const rows = readme.match(/^\| `[A-Z0-9_]+`.*\|$/gm) ?? [];
    const described = describeSettings().map(({ name, usual, description }) => {
      const state = usual && usual !== "required" ? `\`${usual}\`` : usual;
      return `| \`${name}\` | ${state} | ${description} |`;
    });
    assert.deepEqual(rows.toSorted(), described.toSorted());
  });
});
