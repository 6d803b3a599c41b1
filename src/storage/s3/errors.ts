/** What an error of the SDK means. Nothing of it is passed on but its code: the error holds the request with its signature. */
import { FaultError } from '../../oci/error.ts';
import { fault } from '../objects/faults.ts';

const FULL = new Set([
  'QuotaExceeded',
  'InsufficientCapacity',
  'InsufficientStorage',
  'XMinioStorageFull',
  'StorageFull',
  'EntityTooLarge',
  'TooManyParts',
  'ServiceQuotaExceededException',
  'EDQUOT',
  'ENOSPC',
]);
const SLOW = new Set([
  'SlowDown',
  'RequestLimitExceeded',
  'ThrottlingException',
  'TooManyRequests',
  'ServiceUnavailable',
]);
const REFUSED: Readonly<Record<string, string>> = {
  InvalidAccessKeyId: 'the access key id is not known there: check the key of the storage configuration',
  XAdminUserNotFound: 'the access key id is not known there: check the key of the storage configuration',
  SignatureDoesNotMatch: 'the secret access key does not belong to the key id: check both',
  ExpiredToken: 'the session token has expired: the credentials have to be renewed',
  InvalidToken: 'the session token is not accepted: check the credentials',
  RequestTimeTooSkewed: "this machine's clock differs too much from the store's: set it right",
  NoSuchBucket: 'the bucket does not exist: create it, or check its name and the endpoint',
  PermanentRedirect: 'the bucket is in another region: check the region and the endpoint',
  AuthorizationHeaderMalformed: 'the region is not that of the bucket: check the region',
  CredentialsProviderError: 'no credentials were found: configure keys, or give the process a role',
  AccessDenied: 'access was denied: the credentials need to read, write, list and delete in this bucket',
};

interface SdkError {
  readonly name?: unknown;
  readonly Code?: unknown;
  readonly code?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: unknown };
}

/** The code by which S3 or the network names the error, of plain letters only. */
export function codeOf(error: unknown): string {
  const { Code, code, name } = (error ?? {}) as SdkError;
  for (const text of [Code, code, name]) {
    if (typeof text === 'string' && text !== 'Error' && /^[A-Za-z][A-Za-z0-9._-]{0,60}$/.test(text)) return text;
  }
  return 'an error without a name';
}

/** The HTTP status of the answer, 0 where there was none. */
export function statusOf(error: unknown): number {
  const status = ((error ?? {}) as SdkError).$metadata?.httpStatusCode;
  return typeof status === 'number' ? status : 0;
}

/** Whether it says that there is no such object. Any other 404 (no such bucket, no such user, a stray proxy) does not. */
export function isMissing(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'NoSuchKey' || code === 'NotFound';
}

/** The fault that it is. `doing` completes "could not …". */
export function s3Fault(error: unknown, doing: string): FaultError {
  if (error instanceof FaultError) return error;
  const [code, status] = [codeOf(error), statusOf(error)];
  if (FULL.has(code) || status === 507)
    return fault('full', doing, `it has no room, or does not take so much (${code})`);
  if (SLOW.has(code) || status === 503 || status === 429)
    return fault('unavailable', doing, `it asks for less load (${code})`, 5);
  const refused = REFUSED[code] ?? (status === 403 ? REFUSED.AccessDenied : undefined);
  if (refused !== undefined) return fault('unavailable', doing, `${refused} (${code})`);
  if (code === 'InvalidRange' || status === 416)
    return fault('corrupt', doing, 'the object has fewer bytes than are recorded');
  if (code === 'NoSuchKey') return fault('corrupt', doing, 'bytes that must be there are missing');
  if (status >= 500) return fault('unavailable', doing, `it answered ${status} (${code})`);
  if (status >= 400) return fault('unavailable', doing, `it refused the request with ${status} (${code})`);
  return fault('unavailable', doing, `the connection failed (${code})`);
}
