/** What SQLite's errors mean to the rest of the program. */
import { FaultError, LongshoreError } from '../../oci/error.ts';

/** SQLite's primary result codes that mean something of their own here. */
const BUSY = 5;
const LOCKED = 6;
const NOMEM = 7;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const NOTADB = 26;

function primaryCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code & 0xff : undefined;
}

/** Whether another connection holds the lock. */
export function isBusy(error: unknown): boolean {
  const code = primaryCode(error);
  return code === BUSY || code === LOCKED;
}

/** Whether the disk has no room. */
export function isFull(error: unknown): boolean {
  return primaryCode(error) === FULL || (error as { code?: unknown } | null)?.code === 'ENOSPC';
}

/** The error as a LongshoreError: what passes through unchanged, what will pass by itself, what is broken, or a bug. */
export function sqliteFault(error: unknown): LongshoreError {
  if (error instanceof LongshoreError) return error;
  switch (primaryCode(error)) {
    case BUSY:
    case LOCKED:
      return new FaultError('unavailable', 'The database is locked by another program.', { cause: error });
    case FULL:
      return new FaultError('full', 'The disk of the database is full: free some space.', {
        cause: error,
        retryAfterSeconds: 5,
      });
    case READONLY:
      return new FaultError('unavailable', `The database's disk is read-only: look at the system log and its mount.`, {
        cause: error,
      });
    case CANTOPEN:
      return new FaultError(
        'unavailable',
        'The database file cannot be opened: check the data folder, its mount and rights.',
        {
          cause: error,
        },
      );
    case IOERR:
      return new FaultError('unavailable', `The database's disk reported an error: look at the system log.`, {
        cause: error,
      });
    case NOMEM:
      return new FaultError('unavailable', 'The database has not enough memory.', { cause: error });
    case CORRUPT:
    case NOTADB:
      return new FaultError('corrupt', 'The database file is damaged: restore it from a backup.', { cause: error });
    default:
      return new FaultError('bug', 'A database statement failed.', { cause: error });
  }
}
