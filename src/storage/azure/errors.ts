/** What an error of the SDK means. Only its code is passed on: the error holds the request with its signature. */
import { FaultError } from '../../oci/error.ts';
import { fault } from '../objects/faults.ts';

interface SdkError {
  readonly statusCode?: unknown;
  readonly code?: unknown;
  readonly name?: unknown;
  readonly details?: { readonly errorCode?: unknown };
}

/** The HTTP status, 0 where there was no answer. */
export function statusOf(error: unknown): number {
  const { statusCode } = (error ?? {}) as SdkError;
  return typeof statusCode === 'number' ? statusCode : 0;
}

/** Azure's or the system's code in plain letters. */
export function codeOf(error: unknown): string {
  const { code, details, name } = (error ?? {}) as SdkError;
  for (const text of [code, details?.errorCode, name])
    if (typeof text === 'string' && text !== 'Error' && /^[A-Za-z][A-Za-z0-9_]{0,60}$/.test(text)) return text;
  return 'an error without a name';
}

/** Whether it says that there is no such blob (and not: no such container). */
export function isMissing(error: unknown): boolean {
  return statusOf(error) === 404 && codeOf(error) !== 'ContainerNotFound';
}

/** Whether the service does not know the operation at all: an emulator. */
export function isUnknownThere(error: unknown): boolean {
  return statusOf(error) === 501 || ['NotImplemented', 'APINotImplemented'].includes(codeOf(error));
}

/** Whether the service could not read another blob by itself. */
export function cannotCopy(error: unknown): boolean {
  return isUnknownThere(error) || codeOf(error) === 'CannotVerifyCopySource';
}

/** The fault that it is. `doing` completes "could not …". */
export function azureFault(error: unknown, doing: string): FaultError {
  if (error instanceof FaultError) return error;
  const [status, code] = [statusOf(error), codeOf(error)];
  if (code === 'ContainerNotFound')
    return fault('unavailable', doing, 'the container does not exist: create it, or check its name and the account');
  if (status === 503 || status === 429 || code === 'ServerBusy' || code === 'OperationTimedOut')
    return fault('unavailable', doing, `it asks for less load (${code})`, 5);
  if (code === 'AccountIsDisabled' || code === 'InsufficientAccountPermissions' || status === 401 || status === 403)
    return fault(
      'unavailable',
      doing,
      `access was denied (${code}): the credentials need to read, write, list and delete in this container`,
    );
  if (status === 413 || code === 'RequestBodyTooLarge' || code === 'BlockCountExceedsLimit')
    return fault('full', doing, `it does not take so much (${code})`);
  if (status === 416) return fault('corrupt', doing, 'the object has fewer bytes than are recorded');
  if (status === 404) return fault('corrupt', doing, 'bytes that must be there are missing');
  if (status >= 400) return fault('unavailable', doing, `it answered ${status} (${code})`);
  return fault('unavailable', doing, `the connection or the credentials failed (${code})`);
}
