/**
 * The errors that cross rooms. `RegistryError` crosses the seam and becomes `{errors:[…]}` on `/v2/`; `FaultError`
 * comes from storage, database and outbound and is translated once by who called. The codes are those of
 * distribution-spec, "Error Codes"; the last four stand where it names none, as in Distribution.
 */

/** What an error may carry besides its message. `detail` goes to the client; `cause` goes to the log only. */
export interface ErrorOptions {
  readonly detail?: unknown;
  readonly cause?: unknown;
  /** Seconds, at least 1, for a Retry-After header. */
  readonly retryAfterSeconds?: number;
  /** Overrides the code's own status. */
  readonly status?: number;
}

/** Code → HTTP status. The one table; `docs/errors.md` comes from it. */
export const STATUS = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 404,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  RANGE_INVALID: 416,
  PAGINATION_NUMBER_INVALID: 400,
  UNAVAILABLE: 503,
  UNKNOWN: 500,
} as const;

/** A code of the table above. */
export type ErrorCode = keyof typeof STATUS;

/** What every error of the program shares. `message` is for a person: what was wrong, what to do. */
export abstract class LongshoreError extends Error {
  abstract readonly code: string;
  abstract readonly status: number;
  readonly detail: unknown;
  readonly retryAfterSeconds: number | undefined;

  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.detail = options.detail;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** The only error that crosses the seam (`Registry`). */
export class RegistryError extends LongshoreError {
  readonly code: ErrorCode;
  readonly status: number;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.name = 'RegistryError';
    this.code = code;
    this.status = options.status ?? STATUS[code];
  }
}

/** unavailable: try again; full: no room or queue; corrupt: bytes are not what they should be; timeout; bug. */
export type FaultCode = 'unavailable' | 'full' | 'corrupt' | 'timeout' | 'bug';

/** A part below the seam failed. Never sent to a client as it is. */
export class FaultError extends LongshoreError {
  readonly code: FaultCode;
  readonly status: number;

  constructor(code: FaultCode, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.name = 'FaultError';
    this.code = code;
    this.status = code === 'bug' || code === 'corrupt' ? 500 : 503;
  }
}

/**
 * The seam's translation of whatever was thrown below it: a RegistryError passes, a fault that will pass becomes
 * UNAVAILABLE with Retry-After, everything else UNKNOWN with the cause kept for the log.
 */
export function asRegistryError(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof FaultError && error.status === 503) {
    return new RegistryError('UNAVAILABLE', `${error.message} Try again in a moment.`, {
      cause: error,
      retryAfterSeconds: error.retryAfterSeconds ?? 2,
    });
  }
  return new RegistryError(
    'UNKNOWN',
    'Longshore failed in a way it did not foresee; its log has the cause under this request id.',
    {
      cause: error,
    },
  );
}
