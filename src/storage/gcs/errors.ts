/** What an error of the SDK means. Only its code and reason are passed on: the error holds the request. */
import { FaultError } from '../../oci/error.ts';
import { fault } from '../objects/faults.ts';

interface SdkError {
  readonly code?: unknown;
  readonly status?: unknown;
  readonly errors?: readonly { readonly reason?: unknown }[];
  readonly message?: unknown;
}

/** The HTTP status, 0 where there was no answer. */
export function statusOf(error: unknown): number {
  const { code, status } = (error ?? {}) as SdkError;
  const number = Number(typeof status === 'number' ? status : code);
  return Number.isInteger(number) && number >= 100 && number < 600 ? number : 0;
}

/** The reason or system code in plain letters; empty where there is none. */
function reasonOf(error: unknown): string {
  const { errors, code } = (error ?? {}) as SdkError;
  for (const text of [errors?.[0]?.reason, code])
    if (typeof text === 'string' && /^[A-Za-z][A-Za-z0-9_]{0,60}$/.test(text)) return text;
  return '';
}

/** Whether it says that there is no such object. */
export function isMissing(error: unknown): boolean {
  return statusOf(error) === 404;
}

/** Whether it came without an answer: asked again, the same may go well. */
export function isConnection(error: unknown): boolean {
  return !(error instanceof FaultError) && statusOf(error) === 0;
}

/** The fault that it is. `doing` completes "could not …"; `missing`: what it is that a 404 misses. */
export function gcsFault(error: unknown, doing: string, missing: 'object' | 'bucket' = 'object'): FaultError {
  if (error instanceof FaultError) return error;
  const [status, reason] = [statusOf(error), reasonOf(error)];
  const named = reason === '' ? '' : ` (${reason})`;
  switch (status) {
    case 429:
    case 503:
      return fault('unavailable', doing, `it asks for less load${named}`, 5);
    case 401:
      return fault('unavailable', doing, `the credentials are not accepted: check the key file${named}`);
    case 403:
      return /quota|billing/i.test(reason)
        ? fault('full', doing, `the project's quota or billing does not allow it${named}`)
        : fault('unavailable', doing, `access was denied: the account needs to read, write, list and delete${named}`);
    case 404:
      if (missing === 'bucket')
        return fault('unavailable', doing, 'the bucket does not exist: create it, or check its name and the endpoint');
      return fault('corrupt', doing, 'bytes that must be there are missing');
    case 416:
      return fault('corrupt', doing, 'the object has fewer bytes than are recorded');
    default:
      if (status >= 400) return fault('unavailable', doing, `it answered ${status}${named}`);
      return fault('unavailable', doing, `the connection or the credentials failed${named}`);
  }
}
