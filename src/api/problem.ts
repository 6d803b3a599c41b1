/**
 * Errors of the REST API: RFC 9457 problems (`application/problem+json`). One table: code → status, meaning, what to
 * do. Errors of the seam and faults below it are translated here and nowhere else; no cause ever leaves.
 */
import { asRegistryError, type ErrorCode, type ErrorOptions, FaultError, LongshoreError } from '../oci/error.ts';

/** Code → status and title. docs/api/openapi.json has it too. */
export const PROBLEMS = {
  invalid: { status: 400, title: 'The request is not valid.' },
  unauthorized: { status: 401, title: 'Sign in first, or with credentials that reach as far as this.' },
  forbidden: { status: 403, title: 'You may not do this.' },
  not_found: { status: 404, title: 'There is no such thing, or you may not see it.' },
  method_not_allowed: { status: 405, title: 'This path does not answer that method.' },
  conflict: { status: 409, title: 'What is there stands against it.' },
  precondition_failed: { status: 412, title: 'It is not as you made it a condition.' },
  too_large: { status: 413, title: 'The body is too large.' },
  target_too_long: { status: 414, title: 'The address is too long.' },
  unsupported_media_type: { status: 415, title: 'The body must be application/json.' },
  too_many_requests: { status: 429, title: 'A limit on requests was met.' },
  unknown: { status: 500, title: 'Longshore failed in a way it did not foresee; its log has the cause.' },
  unavailable: { status: 503, title: 'This cannot be served now. Try again in a moment.' },
} as const satisfies Readonly<Record<string, { status: number; title: string }>>;

/** A code of the table. */
export type ApiCode = keyof typeof PROBLEMS;

/** One thing that is wrong with a request. `at`: where, as in `body.reason`. */
export interface Flaw {
  readonly at: string;
  readonly message: string;
}

/** An error that a route answers with. The message is for a person; `detail` goes to the client as `about`. */
export class ApiError extends LongshoreError {
  readonly code: ApiCode;
  readonly status: number;
  readonly flaws: readonly Flaw[];

  constructor(code: ApiCode, message: string, options: ErrorOptions & { readonly flaws?: readonly Flaw[] } = {}) {
    super(message, options);
    this.name = 'ApiError';
    this.code = code;
    this.status = PROBLEMS[code].status;
    this.flaws = options.flaws ?? [];
  }
}

/** What the seam's codes are here. UNSUPPORTED is a state that forbids (a hold, an index), where `/v2/` must say 405. */
const OF_REGISTRY: Readonly<Record<ErrorCode, ApiCode>> = {
  BLOB_UNKNOWN: 'not_found',
  BLOB_UPLOAD_INVALID: 'invalid',
  BLOB_UPLOAD_UNKNOWN: 'not_found',
  DIGEST_INVALID: 'invalid',
  MANIFEST_BLOB_UNKNOWN: 'conflict',
  MANIFEST_INVALID: 'invalid',
  MANIFEST_UNKNOWN: 'not_found',
  NAME_INVALID: 'invalid',
  NAME_UNKNOWN: 'not_found',
  SIZE_INVALID: 'invalid',
  UNAUTHORIZED: 'unauthorized',
  DENIED: 'forbidden',
  UNSUPPORTED: 'conflict',
  TOOMANYREQUESTS: 'too_many_requests',
  RANGE_INVALID: 'invalid',
  PAGINATION_NUMBER_INVALID: 'invalid',
  UNAVAILABLE: 'unavailable',
  UNKNOWN: 'unknown',
};

/** What the web framework refuses itself, by its status. */
const OF_STATUS: Readonly<Record<number, ApiCode>> = {
  404: 'not_found',
  413: 'too_large',
  414: 'target_too_long',
  415: 'unsupported_media_type',
};

/** Whatever was thrown, as an error of this API. The cause stays inside, for the log. */
export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  const status = (thrown as { statusCode?: unknown } | undefined)?.statusCode;
  if (typeof status === 'number' && status >= 400 && status < 500) {
    const code = OF_STATUS[status] ?? 'invalid';
    return new ApiError(code, PROBLEMS[code].title, { cause: thrown });
  }
  const known = asRegistryError(thrown);
  const code = known.status === 412 ? 'precondition_failed' : OF_REGISTRY[known.code];
  // A fault's own words are for the log: they may name files and hosts.
  const message = known.cause instanceof FaultError ? PROBLEMS[code].title : known.message;
  return new ApiError(code, message, {
    cause: known.cause ?? known,
    ...(code === 'unknown' || known.detail === undefined ? {} : { detail: known.detail }),
    ...(known.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: known.retryAfterSeconds }),
  });
}

/** Seconds for Retry-After where an error says nothing of its own; undefined where none is sent. */
export function retryAfterOf(error: ApiError): number | undefined {
  if (error.code !== 'unavailable' && error.code !== 'too_many_requests') return undefined;
  return Math.max(1, Math.ceil(error.retryAfterSeconds ?? 2));
}

/** The problem document. `about` holds the facts that the message speaks of, `flaws` all that is wrong with the request. */
export function problemOf(error: ApiError, requestId: string): Record<string, unknown> {
  const { code, status, message, detail, flaws } = error;
  const { title } = PROBLEMS[code];
  return {
    type: 'about:blank',
    title,
    status,
    code,
    ...(message === title ? {} : { detail: message }),
    ...(detail === undefined ? {} : { about: detail }),
    ...(flaws.length === 0 ? {} : { flaws }),
    requestId,
  };
}
