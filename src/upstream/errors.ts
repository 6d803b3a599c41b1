/** What an upstream's answers and failures become at the seam. Its texts are never shown: they may be anything. */

import { isDigest } from '../oci/digest.ts';
import { asRegistryError, type ErrorCode, FaultError, RegistryError, STATUS } from '../oci/error.ts';
import { parseDigits } from '../oci/range.ts';
import type { OutboundAnswer } from '../outbound/client.ts';

const MOST_ERROR_BYTES = 64 * 1024;
const MOST_DIGESTS = 1_000;
const LONGEST_WAIT = 24 * 3_600;

/** The upstream gave what no registry gives: 502 to whoever waits for it. */
export function badAnswer(host: string, why: string, cause?: unknown): RegistryError {
  return new RegistryError('UNAVAILABLE', `The registry ${host} gave an answer that is not valid: ${why}.`, {
    status: 502,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Whatever failed on the way, as the seam's error. */
export function upstreamError(error: unknown, signal?: AbortSignal): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof FaultError && error.code === 'corrupt') {
    return new RegistryError('UNAVAILABLE', error.message, { status: 502, cause: error });
  }
  if (signal?.aborted === true && error === signal.reason) {
    return new RegistryError('UNAVAILABLE', 'The request was broken off.', { cause: error });
  }
  return asRegistryError(error);
}

/** What a refusal is about. */
export interface Refusal {
  readonly host: string;
  /** What 404 means here. */
  readonly unknown: ErrorCode;
  readonly clockNow: number;
}

/** The error of an answer that is no success. Reads its body, up to 64 KiB. */
export async function refusalOf(answer: OutboundAnswer, { host, unknown, clockNow }: Refusal): Promise<RegistryError> {
  const { status } = answer;
  const said = await errorsOf(answer);
  const shown = said.code === undefined ? String(status) : `${status} ${said.code}`;
  const detail = { upstream: host, status, ...(said.digests.length === 0 ? {} : { digests: said.digests }) };
  const make = (code: ErrorCode, what: string, more: { status?: number; retryAfterSeconds?: number } = {}) =>
    new RegistryError(code, `The registry ${host} ${what} (${shown}).`, { detail, ...more });
  const wait = retryAfterSeconds(answer.header('retry-after'), clockNow);
  const again = wait === undefined ? {} : { retryAfterSeconds: wait };
  if (status === 401 || status === 403) return make('DENIED', 'refused this, or its credentials are wrong');
  if (status === 404) {
    return make(said.code === 'MANIFEST_BLOB_UNKNOWN' ? said.code : unknown, 'does not have it');
  }
  if (status === 429) return make('TOOMANYREQUESTS', 'was asked too often', again);
  if (status === 416) return make('RANGE_INVALID', 'does not have that range');
  if (status === 405) return make('UNSUPPORTED', 'does not do this');
  if (status === 413) return make(said.code ?? 'SIZE_INVALID', 'takes nothing so large', { status: 413 });
  if (status >= 500) return make('UNAVAILABLE', 'failed', again);
  if (said.code !== undefined && said.code !== 'UNKNOWN' && said.code !== 'UNAUTHORIZED')
    return make(said.code, 'refused this');
  return badAnswer(host, `the status ${status}`);
}

interface Said {
  readonly code?: ErrorCode;
  readonly digests: readonly string[];
}

/** The first error's code where it is one that we know, and all digests that details name. */
async function errorsOf(answer: OutboundAnswer): Promise<Said> {
  let document: unknown;
  try {
    document = JSON.parse(String(await answer.bytes(MOST_ERROR_BYTES)));
  } catch {
    return { digests: [] };
  }
  const errors = (document as { errors?: unknown } | null)?.errors;
  if (!Array.isArray(errors)) return { digests: [] };
  const code = (errors[0] as { code?: unknown } | undefined | null)?.code;
  const digests = new Set<string>();
  const look = (value: unknown, depth: number): void => {
    if (digests.size >= MOST_DIGESTS || depth > 6) return;
    if (typeof value === 'string') {
      if (isDigest(value)) digests.add(value);
    } else if (typeof value === 'object' && value !== null)
      for (const one of Object.values(value)) look(one, depth + 1);
  };
  look(errors, 0);
  return {
    digests: [...digests],
    ...(typeof code === 'string' && Object.hasOwn(STATUS, code) ? { code: code as ErrorCode } : {}),
  };
}

/** Seconds of a Retry-After (RFC 9110 §10.2.3), from 1 to a day; undefined where there is none that can be read. */
export function retryAfterSeconds(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  const seconds = parseDigits(header.trim()) ?? (Date.parse(header.slice(0, 64)) - now) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.min(LONGEST_WAIT, Math.max(1, Math.ceil(seconds)));
}
