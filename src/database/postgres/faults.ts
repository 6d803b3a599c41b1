/** What PostgreSQL's errors mean to the rest of the program. */
import { FaultError, LongshoreError } from '../../oci/error.ts';

/** The five characters of a server's error, or undefined where no server sent it (the connection broke). */
export function sqlState(error: unknown): string | undefined {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown };
  return typeof code === 'string' && typeof severity === 'string' && code.length === 5 ? code : undefined;
}

/** Whether the transaction lost to another one and may be run again: a serialization failure or a deadlock. */
export function mayRunAgain(fault: unknown): boolean {
  const state = sqlState(fault instanceof FaultError ? fault.cause : fault);
  return state === '40001' || state === '40P01';
}

/**
 * Whether the connection is of no use after this: it broke, the server shut it down or is read-only, or its prepared
 * statements are of a schema that has changed since.
 */
export function endsConnection(error: unknown): boolean {
  if (error instanceof LongshoreError) return false;
  const state = sqlState(error);
  if (state === undefined) return true;
  const { routine } = error as { routine?: unknown };
  return /^(08|57P|XX000$|25006$|25P03$)/.test(state) || (state === '0A000' && routine === 'RevalidateCachedQuery');
}

/** Whether the server said for certain that it did not commit; otherwise the outcome of a COMMIT is unknown. */
export function surelyAborted(error: unknown): boolean {
  const state = sqlState(error);
  return state !== undefined && !/^(08|57|58|XX)/.test(state);
}

/** What a statement threw, as a LongshoreError. */
export function postgresFault(error: unknown): LongshoreError {
  if (error instanceof LongshoreError) return error;
  const state = sqlState(error);
  const options = { cause: error, retryAfterSeconds: 2 };
  if (state === undefined) return new FaultError('unavailable', 'PostgreSQL does not answer.', options);
  if (state === '53100') return new FaultError('full', "The disk of PostgreSQL's server is full.", options);
  if (state === '57014') return new FaultError('timeout', 'A statement took too long on PostgreSQL.', options);
  if (
    /^(08|53|57|40|28)/.test(state) ||
    state === '25006' ||
    state === '25P03' ||
    state === '55P03' ||
    state === '3D000' ||
    endsConnection(error)
  ) {
    return new FaultError('unavailable', 'PostgreSQL could not do it now.', options);
  }
  if (state === 'XX001' || state === 'XX002') {
    return new FaultError('corrupt', 'PostgreSQL reports damaged data: restore it from a backup.', options);
  }
  return new FaultError('bug', 'A database statement failed.', { cause: error });
}
