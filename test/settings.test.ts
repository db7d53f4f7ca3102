/** The environment: what is taken, what is refused, and that all of it is told together, without a value. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeSettings, parseReportSettings, parseSettings } from "../check-failures.ts";
import type { Variables } from "./support/builders.ts";

const REQUIRED = {
  CI_PIPELINE_ID: "1005",
  CI_COMMIT_SHA: "0ddba11",
  CI_API_V4_URL: "https://gitlab.example.com/api/v4",
  CI_PROJECT_ID: "4242",
  GITLAB_TOKEN: "glpat-1",
};

const DEFAULTS = {
  JOB_EXECUTIONS_URL: "job_executions.v2.json",
  S3_SSE: "none",
  S3_CONDITIONAL_WRITES: "on",
  CONSECUTIVE_THRESHOLD: 3,
  CUMULATIVE_THRESHOLD: 5,
  CUMULATIVE_LENGTH: 10,
  JOB_RULES: [],
  IGNORE_FAILURES: [],
  SLACK_API_URL: "https://slack.com/api",
};

/** Variables that may hold any text. */
const ANY_TEXT = [
  ...["CI_COMMIT_MESSAGE", "CI_COMMIT_BRANCH", "CI_PROJECT_PATH", "GITLAB_CI", "GITHUB_ACTIONS"],
  ...["PIPELINE_JOBS_FILE", "ALERT_COMMAND", "AWS_REGION", "AWS_DEFAULT_REGION"],
];

const COUNT = {
  expected: /a positive integer, e\.g\. \d+/,
  wrong: ["0", "-1", "1.5", "1e3", "0x10", " 3", "3\n", "three", "9007199254740993"],
};
const TOKEN = {
  expected: /a token without spaces or line breaks, e\.g\. \S+/,
  wrong: ["two words", "line\nbreak", "glpat-1\n", "tokèn"],
};
const KEY = { expected: /without spaces or line breaks, e\.g\. \S+/, wrong: ["key\n", "key\r\n", " key", "a b"] };
const BAD_URLS = [
  "gitlab",
  "ftp://gitlab.example.com",
  "https://",
  "https://bot:pass@gitlab.example.com",
  "https://a b",
];
const ADDRESS = { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: BAD_URLS };

/** What the error says is expected, and values that are something else. */
const WRONG: Record<string, { expected: RegExp; wrong: string[] }> = {
  CI_PIPELINE_ID: { expected: /a positive integer, e\.g\. 1005/, wrong: COUNT.wrong },
  CI_COMMIT_SHA: {
    expected: /7 to 64 hex digits, e\.g\. 0ddba11/,
    wrong: ["0ddba1", "0ddball", "a".repeat(65), "HEAD", "0ddba11\n"],
  },
  CI_API_V4_URL: { ...ADDRESS, expected: /URL without a password, e\.g\. https:\/\/\S+\/api\/v4/ },
  CI_PROJECT_ID: { expected: /a project's id, e\.g\. 4242/, wrong: ["two words"] },
  CI_PROJECT_URL: ADDRESS,
  CI_PIPELINE_URL: ADDRESS,
  GITLAB_TOKEN: TOKEN,
  CI_JOB_TOKEN: TOKEN,
  JOB_EXECUTIONS_URL: {
    expected: /a path.*, e\.g\. s3:\/\/\S+\/\S+/,
    wrong: [
      ...["file:state.json", "file:///var/a.json", "https://example.com/key", "gs://bucket/key"],
      ...["s3://bucket", "s3://bucket/", "s3:///key", "s3:bucket/key", "s3://bucket/key\n"],
    ],
  },
  S3_SSE: { expected: /one of none, AES256, aws:kms, aws:kms:dsse, e\.g\. none/, wrong: ["aes256", "off"] },
  S3_CONDITIONAL_WRITES: { expected: /one of on, off, e\.g\. on/, wrong: ["ON", "false", "0"] },
  AWS_ENDPOINT_URL: ADDRESS,
  AWS_ENDPOINT_URL_S3: ADDRESS,
  AWS_ACCESS_KEY_ID: KEY,
  AWS_SECRET_ACCESS_KEY: KEY,
  AWS_SESSION_TOKEN: KEY,
  CONSECUTIVE_THRESHOLD: COUNT,
  CUMULATIVE_THRESHOLD: COUNT,
  CUMULATIVE_LENGTH: COUNT,
  JOB_RULES: { expected: /lines of a pattern.*, e\.g\. \S+ #team 5/, wrong: ["lint", "lint 0", "* #ci\nlint"] },
  IGNORE_FAILURES: { expected: /patterns, e\.g\. /, wrong: ["stuck\\", "a b\\"] },
  SLACK_API_TOKEN: TOKEN,
  SLACK_CHANNEL: { expected: /a channel, e\.g\. #ci-alerts/, wrong: ["#two words", "#ci\n"] },
  SLACK_API_URL: { ...ADDRESS, expected: /an http or https URL without a password, e\.g\. https:\/\/slack\.com\/api/ },
};

/** What an environment sets in all parts together, with the defaults. */
const parse = (variables: Variables): Record<string, unknown> => {
  const set = Object.values(parseSettings(variables)).flatMap((part) => Object.entries(part));
  return Object.fromEntries(set.filter(([, value]) => value !== undefined));
};

/** The lines of an error about the environment, each of which has a name, what is expected and an example. */
function linesOf(check: () => unknown): string[] {
  try {
    check();
    return [];
  } catch (error) {
    const [first, ...lines] = (error as Error).message.split("\n");
    assert.equal(first, "The environment is not valid; see --help");
    for (const line of lines) assert.match(line, /^ {2}[A-Z0-9_]+ must be .+, e\.g\. .+$/);
    return lines.map((line) => line.trim());
  }
}
const problemsOf = (variables: Variables) => linesOf(() => parseSettings(variables));
const namesOf = (problems: string[]) => problems.map((problem) => problem.split(" ", 1)[0]).sort();

describe("parseSettings()", () => {
  test("fills in the defaults and keeps what is required", () => {
    assert.deepEqual(parse(REQUIRED), { ...DEFAULTS, ...REQUIRED, CI_PIPELINE_ID: 1005 });
  });

  test("leaves out what is not the script's", () => {
    assert.deepEqual(parse({ ...REQUIRED, PATH: "/bin", AWS_PROFILE: "ci" }), parse(REQUIRED));
  });

  test("gives a token to the part that needs it and to no other", () => {
    const tokens = { SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "#ci", CI_JOB_TOKEN: "glcbt-1" };
    const parts = parseSettings({ ...REQUIRED, ...tokens });
    const holders = (token: string) =>
      Object.entries(parts).flatMap(([part, values]) => (JSON.stringify(values).includes(token) ? part : []));
    assert.deepEqual(["glpat-1", "glcbt-1", "xoxb-1"].map(holders), [["jobs"], ["jobs"], ["sender"]]);
  });

  test("takes patterns of reasons, separated by white space", () => {
    const { limits } = parseSettings({ ...REQUIRED, IGNORE_FAILURES: " runner_*\tRun\\ npm\\ ci\n? " });
    const ignored = (reason: string) => limits.IGNORE_FAILURES.some((pattern) => pattern.test(reason));
    const reasons = ["runner_system_failure", "Run npm ci", "x", "Run", "script_failure"];
    assert.deepEqual(reasons.filter(ignored), ["runner_system_failure", "Run npm ci", "x"]);
  });

  test("takes numbers, and base URLs without their last slashes", () => {
    const variables = {
      CONSECUTIVE_THRESHOLD: "4",
      CUMULATIVE_THRESHOLD: "06",
      CUMULATIVE_LENGTH: "2",
      CI_API_V4_URL: "http://127.0.0.1:8080/gitlab/api/v4//",
      CI_PROJECT_URL: "https://gitlab.example.com/acme/shop/",
      SLACK_API_URL: "https://proxy.example.com/slack/api/",
    };
    assert.deepEqual(parse({ ...REQUIRED, ...variables }), {
      ...parse(REQUIRED),
      CONSECUTIVE_THRESHOLD: 4,
      CUMULATIVE_THRESHOLD: 6, // above the length: the window is as long as it needs
      CUMULATIVE_LENGTH: 2,
      CI_API_V4_URL: "http://127.0.0.1:8080/gitlab/api/v4",
      CI_PROJECT_URL: "https://gitlab.example.com/acme/shop",
      SLACK_API_URL: "https://proxy.example.com/slack/api",
    });
  });

  const ACCEPTED: Record<string, string[]> = {
    CI_PIPELINE_ID: ["1", "9007199254740991"],
    CI_COMMIT_SHA: ["0ddba11", "0DDBA11", "a".repeat(64)],
    CI_COMMIT_BRANCH: ["main", "feature/two words"],
    CI_COMMIT_MESSAGE: ["Add a cart\n\nIt has wheels.\n"],
    CI_PROJECT_ID: ["4242", "acme/shop"],
    JOB_EXECUTIONS_URL: [
      ...["s3://bucket/a/key.json", "job executions.json", "/var/ci.json", "C:\\ci.json"],
      "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/my-ap/key.json",
    ],
    S3_SSE: ["AES256", "aws:kms", "aws:kms:dsse", "none"],
    S3_CONDITIONAL_WRITES: ["on", "off"],
  };
  for (const [name, values] of Object.entries(ACCEPTED)) {
    test(`accepts each form of ${name}`, () => {
      for (const value of values) assert.equal(String(parse({ ...REQUIRED, [name]: value })[name]), value);
    });
  }

  for (const name of [...Object.keys(WRONG), ...ANY_TEXT]) {
    test(`takes an empty ${name} for one that is not set`, () => {
      const { [name]: _, ...without }: Record<string, string> = REQUIRED;
      const outcomeOf = (variables: Variables) => ({
        problems: problemsOf(variables),
        defaults: problemsOf(variables).length > 0 || parse(variables),
      });
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

  test("reports everything that is wrong together, a line each", () => {
    const variables = Object.fromEntries(Object.entries(WRONG).map(([name, { wrong }]) => [name, wrong[0]]));
    assert.deepEqual(namesOf(problemsOf(variables)), Object.keys(WRONG).sort());
  });

  test("reports everything that is missing together", () => {
    const missing = ["CI_API_V4_URL", "CI_COMMIT_SHA", "CI_PIPELINE_ID", "CI_PROJECT_ID", "GITLAB_TOKEN"];
    assert.deepEqual(namesOf(problemsOf({})), missing);
    const inCi = [...missing, "JOB_EXECUTIONS_URL", "SLACK_API_TOKEN"];
    assert.deepEqual(namesOf(problemsOf({ CI: "true" })), inCi);
    assert.deepEqual(namesOf(problemsOf({ CI: "true", SLACK_CHANNEL: "#ci" })), inCi);
  });

  test("reports what is wrong, what is missing and what does not go together at once", () => {
    const variables = { CI_PIPELINE_ID: "x", SLACK_CHANNEL: "#ci", ALERT_COMMAND: "cat", CI_PROJECT_ID: "4242" };
    assert.deepEqual(namesOf(problemsOf(variables)), [
      ...["ALERT_COMMAND", "CI_API_V4_URL", "CI_COMMIT_SHA", "CI_PIPELINE_ID", "GITLAB_TOKEN", "SLACK_API_TOKEN"],
    ]);
  });

  test("says of a missing variable that it is not set, and of a wrong one not", () => {
    const [missing, wrong] = problemsOf({ ...REQUIRED, CI_PIPELINE_ID: "", CI_COMMIT_SHA: "HEAD" });
    assert.match(missing ?? "", /^CI_PIPELINE_ID must be .+ \(it is not set\)$/);
    assert.doesNotMatch(wrong ?? "", /not set/);
  });

  test("echoes no value, nor a part of one: any of them may be a misplaced secret", () => {
    const misplaced = "xoxb hunter2 {\n";
    const variables = Object.fromEntries(Object.keys(WRONG).map((name) => [name, `${misplaced}${name}\\`]));
    const problems = problemsOf(variables);
    assert.deepEqual(namesOf(problems), Object.keys(WRONG).sort());
    assert.doesNotMatch(problems.join("; "), /hunter2|xoxb (?!\.)/);
  });

  const { CI_API_V4_URL: _url, CI_PROJECT_ID: _id, GITLAB_TOKEN: _token, ...PIPELINE } = REQUIRED;
  const SLACK = { SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "#ci" };
  const RULES: { rule: string; variables: Variables; problems: RegExp[] }[] = [
    {
      rule: "asks for the API's URL and a token where there is no file of jobs",
      variables: { ...PIPELINE, CI_PROJECT_ID: "4242" },
      problems: [/^CI_API_V4_URL must be .*not set/, /^GITLAB_TOKEN must be .*e\.g\. .*not set/],
    },
    {
      rule: "asks for the project's id",
      variables: { ...REQUIRED, CI_PROJECT_ID: "" },
      problems: [/^CI_PROJECT_ID must be .*e\.g\. 4242 .*not set/],
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
      rule: "accepts a Slack token with a channel, by its id as well",
      variables: { ...REQUIRED, SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "C0123" },
      problems: [],
    },
    {
      rule: "accepts a command alone",
      variables: { ...REQUIRED, ALERT_COMMAND: "cat" },
      problems: [],
    },
    {
      rule: "refuses a command besides Slack",
      variables: { ...REQUIRED, ...SLACK, ALERT_COMMAND: "cat" },
      problems: [/^ALERT_COMMAND must be unset beside Slack's variables/],
    },
    ...["true", "1", "yes"].map((CI) => ({
      rule: `asks for JOB_EXECUTIONS_URL and for somebody who is told where CI is ${CI}`,
      variables: { ...REQUIRED, CI },
      problems: [
        /^JOB_EXECUTIONS_URL must be set in CI, e\.g\. s3:.*not set/,
        /^SLACK_API_TOKEN must be set in CI, e\.g\. xoxb-\.\.\., or ALERT_COMMAND .*not set/,
      ],
    })),
    ...["", "false", "0"].map((CI) => ({
      rule: `does without either where CI is "${CI}"`,
      variables: { ...REQUIRED, CI },
      problems: [],
    })),
    ...[SLACK, { ALERT_COMMAND: "cat" }].map((sender) => ({
      rule: `is content in CI with ${Object.keys(sender).join(" and ")}`,
      variables: { ...REQUIRED, ...sender, CI: "true", JOB_EXECUTIONS_URL: "s3://ci/jobs.json" },
      problems: [],
    })),
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
    assert.deepEqual(Object.keys(parseReportSettings({})), ["limits", "store"]);
  });

  test("refuses what is wrong in its own, all together", () => {
    const wrong = { CUMULATIVE_LENGTH: "x", S3_SSE: "x", CI: "true", CI_PIPELINE_ID: "x", AWS_ACCESS_KEY_ID: "key\n" };
    assert.deepEqual(namesOf(linesOf(() => parseReportSettings(wrong))), [
      ...["AWS_ACCESS_KEY_ID", "CUMULATIVE_LENGTH", "JOB_EXECUTIONS_URL", "S3_SSE"],
    ]);
  });
});

describe("describeSettings()", () => {
  const described = describeSettings();

  test("has each variable once, with a line of description", () => {
    const isKey = (name: string) => WRONG[name] === KEY; // the SDK's own, which may be described
    const known = [...Object.keys(WRONG), ...ANY_TEXT, "CI", "CI_DEFAULT_BRANCH", "DEBUG"];
    const names = described.map(({ name }) => name);
    assert.deepEqual(names, [...new Set(names)]);
    assert.deepEqual(names.filter((name) => !isKey(name)).sort(), known.filter((name) => !isKey(name)).sort());
    for (const { name, description } of described) assert.match(description, /^[^\n]{5,110}$/, name);
  });

  test("has the defaults that are used, and says what is required", () => {
    const standards = described.map(({ name, standard }) => [name, standard]).filter(([, standard]) => standard);
    const defaults = Object.entries({ ...DEFAULTS, JOB_RULES: "", IGNORE_FAILURES: "" }).filter(([, value]) => value);
    assert.deepEqual(Object.fromEntries(standards), {
      CI_PIPELINE_ID: "required",
      CI_COMMIT_SHA: "required",
      ...Object.fromEntries(defaults.map(([name, value]) => [name, `${value}`])),
    });
  });
});
