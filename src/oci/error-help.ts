/** What each error code of `/v2/` means and what to do about it. docs/errors.md is made from it (`npm run docs`). */
import { type ErrorCode, STATUS } from './error.ts';

/** `specified`: whether distribution-spec names the code. */
export interface ErrorHelp {
  readonly meaning: string;
  readonly advice: string;
  readonly specified: boolean;
}

/** One entry for each code of `STATUS`. */
export const ERROR_HELP: Readonly<Record<ErrorCode, ErrorHelp>> = {
  BLOB_UNKNOWN: {
    meaning: 'The repository does not have this blob.',
    advice:
      'Push it to this repository, or mount it from one that has it. A manifest’s digest is asked for under `manifests/`.',
    specified: true,
  },
  BLOB_UPLOAD_INVALID: {
    meaning: 'The upload cannot go on.',
    advice:
      'Start a new one. Longshore does not answer with it, because some clients then repeat the request for ever.',
    specified: true,
  },
  BLOB_UPLOAD_UNKNOWN: {
    meaning: 'There is no such upload: finished, cancelled, expired, or of another repository or account.',
    advice: 'Start a new upload.',
    specified: true,
  },
  DIGEST_INVALID: {
    meaning: 'The digest is malformed, or is not that of the bytes sent.',
    advice: 'Send `sha256:` or `sha512:` and the lower-case hex of the exact bytes. On a mismatch nothing was kept.',
    specified: true,
  },
  MANIFEST_BLOB_UNKNOWN: {
    meaning: 'The manifest names blobs or manifests that the repository does not have; `detail` lists them all.',
    advice: 'Push what is listed, then the manifest again.',
    specified: true,
  },
  MANIFEST_INVALID: {
    meaning: 'The manifest is not one that is accepted; the message says which rule it breaks.',
    advice: 'Send an OCI or Docker manifest or index whose Content-Type is its `mediaType`.',
    specified: true,
  },
  MANIFEST_UNKNOWN: {
    meaning: 'The repository has no manifest of this tag or digest.',
    advice: 'Look at `tags/list`. A blob’s digest is asked for under `blobs/`.',
    specified: true,
  },
  NAME_INVALID: {
    meaning: 'The repository’s name, or a tag on a push, is not in the grammar.',
    advice:
      'Lower-case letters, digits and the separators `.`, `_`, `__`, `-` in parts separated by `/`; at most 255 bytes.',
    specified: true,
  },
  NAME_UNKNOWN: {
    meaning: 'There is no such repository, or you may not see it.',
    advice: 'Check the name, and whether you are signed in with an account that may pull from it.',
    specified: true,
  },
  SIZE_INVALID: {
    meaning: 'The body is not as long as announced, or longer than is accepted.',
    advice: 'Send as many bytes as Content-Length and Content-Range say.',
    specified: true,
  },
  UNAUTHORIZED: {
    meaning: 'Credentials are missing, wrong or too narrow.',
    advice: 'Sign in, or fetch a token with the scope that the WWW-Authenticate header names.',
    specified: true,
  },
  DENIED: {
    meaning: 'You are known and may not do this: a right is missing, or a rule, a quota or a condition forbids it.',
    advice: 'The message names what stands against it.',
    specified: true,
  },
  UNSUPPORTED: {
    meaning: 'The method, path, media type or expectation is not served here, or what is asked would break something.',
    advice: 'The `Allow` header has the methods; the message says what stands against it.',
    specified: true,
  },
  TOOMANYREQUESTS: {
    meaning: 'A limit on requests was met.',
    advice: 'Wait as long as Retry-After says.',
    specified: true,
  },
  RANGE_INVALID: {
    meaning: 'A range starts beyond the blob’s end, or a chunk does not start where the upload stands.',
    advice: 'The `Range` header of the answer says where the upload stands.',
    specified: false,
  },
  PAGINATION_NUMBER_INVALID: {
    meaning: '`n` is not a whole number.',
    advice: 'Send digits only.',
    specified: false,
  },
  UNAVAILABLE: {
    meaning: 'The server, its database or its storage cannot serve this now, or the request came too slowly.',
    advice: 'Try again after Retry-After. Nothing that was acknowledged is lost.',
    specified: false,
  },
  UNKNOWN: {
    meaning: 'Longshore failed in a way it did not foresee.',
    advice: 'Look for the request’s id in the server’s log.',
    specified: false,
  },
};

/** docs/errors.md, whole. */
export function errorsDocument(): string {
  const lines = [
    '# Errors',
    '',
    'Made by `npm run docs` from `src/oci/error.ts` and `src/oci/error-help.ts`; do not edit. An error is',
    '`{"errors":[{"code","message","detail"}]}`; a code may come with another status where the message says so.',
    'Codes marked * stand where the distribution specification names none.',
    '',
    '| code | status | meaning | what to do |',
    '|---|---|---|---|',
  ];
  for (const code of Object.keys(STATUS) as ErrorCode[]) {
    const help = ERROR_HELP[code];
    lines.push(`| \`${code}\`${help.specified ? '' : ' *'} | ${STATUS[code]} | ${help.meaning} | ${help.advice} |`);
  }
  return `${lines.join('\n')}\n`;
}
