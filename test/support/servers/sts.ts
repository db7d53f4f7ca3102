/** A stand-in for AWS's STS, which gives a role for the token of a CI. */
import { answerWith, startServer } from "./http.ts";

/** The key that the role signs with. */
export const ROLE_KEY = "AKIAROLE";

export function startSts() {
  const expiration = new Date(Date.now() + 3_600_000).toISOString();
  const credentials = `<Credentials><AccessKeyId>${ROLE_KEY}</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken><Expiration>${expiration}</Expiration></Credentials>`;
  const result = `<AssumeRoleWithWebIdentityResult>${credentials}</AssumeRoleWithWebIdentityResult>`;
  const answer = `<AssumeRoleWithWebIdentityResponse>${result}</AssumeRoleWithWebIdentityResponse>`;
  return startServer((_, response) => answerWith(200, answer, { "content-type": "text/xml" })(response));
}

/** An error as STS words it. */
export const stsError = (status: number, code: string, message: string) =>
  answerWith(
    status,
    `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
    { "content-type": "text/xml" },
  );

/** The variables of a role, in place of those of keys. */
export const roleVariables = (stsUrl: string, tokenFile: string) => ({
  AWS_ACCESS_KEY_ID: undefined,
  AWS_SECRET_ACCESS_KEY: undefined,
  AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/ci",
  AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile,
  AWS_ENDPOINT_URL_STS: stsUrl,
});
