import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { describeSettings, parseReportSettings, parseSettings, thresholdsOf } from "../check-failures.ts";

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
  S3_SSE: "none",
  S3_CONDITIONAL_WRITES: "on",
  CONSECUTIVE_THRESHOLD: 3,
  CUMULATIVE_THRESHOLD: 5,
  CUMULATIVE_LENGTH: 10,
  RECOVERY_THRESHOLD: 3,
  JOB_THRESHOLDS: [],
  NOT_RUN_JOBS: "keep",
  EXPIRE_AFTER_DAYS: 30,
  IGNORE_JOBS: [],
  IGNORE_FAILURES: [],
  SLACK_API_URL: "https://slack.com/api",
};

/** Variables that may hold any text. */
const ANY_TEXT = [
  ...["CI_COMMIT_BEFORE_SHA", "CI_COMMIT_BRANCH", "CI_COMMIT_TITLE", "CI_COMMIT_DESCRIPTION", "CI_PROJECT_PATH"],
  ...[
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "ALERT_COMMAND",
    "PIPELINE_JOBS_FILE",
    "JOB_OWNERS_FILE",
    "OWNER_CHANNELS_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
  ],
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
  S3_SSE: { expected: /one of none, AES256, aws:kms, aws:kms:dsse, e\.g\. none/, wrong: ["aes256", "off"] },
  S3_CONDITIONAL_WRITES: { expected: /one of on, off, e\.g\. on/, wrong: ["ON", "false", "0"] },
  AWS_ENDPOINT_URL: { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  AWS_ENDPOINT_URL_S3: { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  CONSECUTIVE_THRESHOLD: COUNT,
  CUMULATIVE_THRESHOLD: COUNT,
  CUMULATIVE_LENGTH: COUNT,
  RECOVERY_THRESHOLD: COUNT,
  JOB_THRESHOLDS: {
    expected: /patterns with thresholds, e\.g\. e2e:\*=5 nightly\\ \*=2\/4/,
    wrong: [
      ...["e2e", "e2e:*=0", "=5", "e2e=", "e2e=x", "e2e=1.5", "e2e=-1", "e2e = 5", "e2e=5\\", "lint=3 e2e"],
      ...["e2e=5/", "e2e=/5", "e2e=5/0", "e2e=5/4/3", "e2e=5/x"],
    ],
  },
  NOT_RUN_JOBS: { expected: /one of keep, pass, e\.g\. keep/, wrong: ["Keep", "fail"] },
  EXPIRE_AFTER_DAYS: COUNT,
  SLACK_API_TOKEN: TOKEN,
  SLACK_CHANNEL: { expected: /a channel, e\.g\. #ci-alerts/, wrong: ["#two words", "#ci\n"] },
  SLACK_WEBHOOK_URL: { expected: /an http or https URL without a password, e\.g\. https:\/\/\S+/, wrong: URLS },
  SLACK_API_URL: { expected: /an http or https URL without a password, e\.g\. https:\/\/slack\.com\/api/, wrong: URLS },
  IGNORE_JOBS: { expected: /patterns, e\.g\. /, wrong: ["lint\\", "a b\\"] },
  IGNORE_FAILURES: { expected: /patterns, e\.g\. /, wrong: ["lint\\"] },
};

/** What an environment sets in all parts together, with the defaults. */
const parse = (variables: Variables): Record<string, unknown> => {
  const set = Object.values(parseSettings(variables)).flatMap((part) => Object.entries(part));
  return Object.fromEntries(set.filter(([, value]) => value !== undefined));
};

/** The lines of the error, each of which has a name, what is expected and an example. */
const problemsOf = (variables: Variables): string[] => {
  try {
    parseSettings(variables);
    return [];
  } catch (error) {
    const { message, exitCode, lines } = error as Error & { exitCode: number; lines: string[] };
    assert.deepEqual([message, exitCode], ["The environment is not valid; see --help", 2]);
    for (const line of lines) assert.match(line, /^[A-Z0-9_]+ must be .+, e\.g\. .+$/);
    return lines;
  }
};

const namesOf = (problems: string[]) => problems.map((problem) => problem.split(" ", 1)[0]);

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
    assert.deepEqual(["glpat-1", "glcbt-1", "xoxb-1"].map(holders), [["jobs"], ["jobs"], ["sender"]]);
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

  test("takes thresholds by pattern, of which the last that matches counts", () => {
    const thresholds = "*=9/9 e2e:*=5 nightly\\ *=2/4\tslow=7 quick=1 a=b=6/6 padded=007";
    const { limits } = parseSettings({ ...REQUIRED, JOB_THRESHOLDS: thresholds });
    const of = (name: string) => Object.values(thresholdsOf(name, limits)).join("/");
    // Where the second is left out, it is the larger of the first and CUMULATIVE_THRESHOLD.
    assert.deepEqual(["lint", "e2e: chrome", "nightly build", "slow", "quick", "a=b", "padded"].map(of), [
      "9/9",
      "5/5",
      "2/4",
      "7/7",
      "1/5",
      "6/6",
      "7/7",
    ]);
    const { limits: global } = parseSettings(REQUIRED);
    assert.deepEqual(thresholdsOf("lint", global), { inARow: 3, often: 5 });
  });

  test("takes a proxy in lower case before one in upper case, unless it is empty", () => {
    for (const name of ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"]) {
      const proxyOf = (upper?: string, lower?: string) =>
        parse({ ...REQUIRED, [name]: upper, [name.toLowerCase()]: lower })[name];
      assert.deepEqual(
        [proxyOf("upper"), proxyOf(undefined, "lower"), proxyOf("upper", "lower"), proxyOf("upper", "")],
        ["upper", "lower", "lower", "upper"],
      );
    }
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

  test("reports everything that is wrong together, a line each", () => {
    const variables = Object.fromEntries(Object.entries(WRONG).map(([name, { wrong }]) => [name, wrong[0]]));
    assert.deepEqual(namesOf(problemsOf(variables)).sort(), Object.keys(WRONG).sort());
  });

  test("reports everything that is missing together", () => {
    const missing = ["CI_PIPELINE_ID", "CI_COMMIT_SHA", "CI_API_V4_URL", "CI_PROJECT_ID", "GITLAB_TOKEN"];
    assert.deepEqual(namesOf(problemsOf({})), missing);
    const inCi = [...missing, "JOB_EXECUTIONS_URL", "SLACK_API_TOKEN"].sort();
    assert.deepEqual(namesOf(problemsOf({ CI: "true" })).sort(), inCi);
    assert.deepEqual(namesOf(problemsOf({ CI: "true", SLACK_CHANNEL: "#ci" })).sort(), inCi);
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
  const SLACK = { SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "#ci" };
  const WEBHOOK = { SLACK_WEBHOOK_URL: "https://hooks.slack.com/services/T/B/x" };
  const RULES: { rule: string; variables: Record<string, string>; problems: RegExp[] }[] = [
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
      rule: "accepts a Slack token with a channel",
      variables: { ...REQUIRED, SLACK_API_TOKEN: "xoxb-1", SLACK_CHANNEL: "C0123" },
      problems: [],
    },
    {
      rule: "accepts a webhook alone",
      variables: { ...REQUIRED, ...WEBHOOK },
      problems: [],
    },
    {
      rule: "refuses a webhook besides a token",
      variables: { ...REQUIRED, ...SLACK, ...WEBHOOK },
      problems: [/^SLACK_WEBHOOK_URL must be unset beside SLACK_API_TOKEN/],
    },
    {
      rule: "accepts a command alone",
      variables: { ...REQUIRED, ALERT_COMMAND: "cat" },
      problems: [],
    },
    {
      rule: "refuses a command besides a token",
      variables: { ...REQUIRED, ...SLACK, ALERT_COMMAND: "cat" },
      problems: [/^ALERT_COMMAND must be unset beside Slack's variables/],
    },
    {
      rule: "refuses a command besides a webhook",
      variables: { ...REQUIRED, ...WEBHOOK, ALERT_COMMAND: "cat" },
      problems: [/^ALERT_COMMAND must be unset beside Slack's variables/],
    },
    {
      rule: "refuses owners besides a webhook, which has no channels",
      variables: { ...REQUIRED, ...WEBHOOK, JOB_OWNERS_FILE: "owners" },
      problems: [/^JOB_OWNERS_FILE must be unset beside a webhook or a command/],
    },
    {
      rule: "refuses owners besides a command",
      variables: { ...REQUIRED, ALERT_COMMAND: "cat", JOB_OWNERS_FILE: "owners", OWNER_CHANNELS_FILE: "channels.json" },
      problems: [/^JOB_OWNERS_FILE must be unset beside a webhook or a command/],
    },
    {
      rule: "accepts owners with a token",
      variables: { ...REQUIRED, ...SLACK, JOB_OWNERS_FILE: "owners", OWNER_CHANNELS_FILE: "channels.json" },
      problems: [],
    },
    ...["true", "1", "yes"].map((CI) => ({
      rule: `asks for JOB_EXECUTIONS_URL and for somebody who is told where CI is ${CI}`,
      variables: { ...REQUIRED, CI },
      problems: [
        /^JOB_EXECUTIONS_URL must be set in CI, e\.g\. s3:.*not set/,
        /^SLACK_API_TOKEN must be set in CI, e\.g\. xoxb-\.\.\., or SLACK_WEBHOOK_URL, or ALERT_COMMAND .*not set/,
      ],
    })),
    ...["", "false", "0"].map((CI) => ({
      rule: `does without either where CI is "${CI}"`,
      variables: { ...REQUIRED, CI },
      problems: [],
    })),
    ...[SLACK, WEBHOOK, { ALERT_COMMAND: "cat" }].map((sender) => ({
      rule: `is content in CI with ${Object.keys(sender).join(" and ")}`,
      variables: { ...REQUIRED, ...sender, CI: "true", JOB_EXECUTIONS_URL: "s3://ci/jobs.json" },
      problems: [],
    })),
    {
      rule: "refuses a cumulative threshold above the length",
      variables: { ...REQUIRED, CUMULATIVE_THRESHOLD: "11" },
      problems: [/^CUMULATIVE_THRESHOLD must be such that no threshold is over CUMULATIVE_LENGTH/],
    },
    {
      rule: "refuses a recovery threshold above the length",
      variables: { ...REQUIRED, RECOVERY_THRESHOLD: "11" },
      problems: [/^RECOVERY_THRESHOLD must be such that no threshold is over CUMULATIVE_LENGTH/],
    },
    {
      rule: "refuses a length below the default thresholds, by its own name, as it is what was set",
      variables: { ...REQUIRED, CUMULATIVE_LENGTH: "2" },
      problems: [/^CUMULATIVE_LENGTH must be such that no threshold is over CUMULATIVE_LENGTH, e\.g\. [^(]*$/],
    },
    {
      rule: "refuses a job's threshold above the length",
      variables: { ...REQUIRED, JOB_THRESHOLDS: "lint=3 e2e:*=2/11" },
      problems: [/^JOB_THRESHOLDS must be such that no threshold is over CUMULATIVE_LENGTH/],
    },
    {
      rule: "accepts a job's threshold that equals the length, and more failures in a row than that",
      variables: { ...REQUIRED, CUMULATIVE_LENGTH: "12", JOB_THRESHOLDS: "e2e:*=2/12 lint=20" },
      problems: [],
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
    const wrong = { CUMULATIVE_LENGTH: "2", S3_SSE: "x", CI: "true", CI_PIPELINE_ID: "x" };
    assert.throws(
      () => parseReportSettings(wrong),
      ({ lines }: { lines: string[] }) => {
        assert.deepEqual(namesOf(lines).sort(), ["CUMULATIVE_LENGTH", "JOB_EXECUTIONS_URL", "S3_SSE"]);
        return true;
      },
    );
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
    const described = describeSettings().map(({ name, standard, description }) => {
      const state = standard && standard !== "required" ? `\`${standard}\`` : standard;
      return `| \`${name}\` | ${state} | ${description} |`;
    });
    assert.deepEqual(rows.toSorted(), described.toSorted());
  });
});
