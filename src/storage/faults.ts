/** What a failing call of the file system means: one of the codes of FaultError, and what a person can do about it. */
import { type FaultCode, FaultError } from '../oci/error.ts';
import type { Appended } from './storage.ts';

const MEANING: Readonly<Record<string, readonly [FaultCode, string]>> = {
  ENOSPC: ['full', 'the disk is full: free some space or give the storage a larger one'],
  EDQUOT: ['full', "the disk quota of Longshore's user is used up: raise it or free some space"],
  EFBIG: ['full', 'the file system does not take a file of that size'],
  EIO: ['unavailable', 'the disk reported an input/output error: look at the system log and check the disk'],
  EROFS: ['unavailable', 'the file system is read-only: look at the system log, then mount it read-write'],
  EACCES: ['unavailable', "Longshore's user may not do that: check owner and mode of the storage folder"],
  EPERM: ['unavailable', "Longshore's user may not do that: check owner and mode of the storage folder"],
  EMFILE: ['unavailable', 'too many files are open: raise the limit on open files (ulimit -n)'],
  ENFILE: ['unavailable', 'the system has too many files open: raise fs.file-max'],
  ENOENT: ['unavailable', 'a file or folder is missing: check that the storage folder is still mounted'],
  ESTALE: ['unavailable', 'the network file system lost the file: check the mount'],
  ENOTDIR: ['unavailable', 'a file stands where a folder should be: check the storage folder'],
  ELOOP: ['unavailable', 'a symbolic link leads nowhere: check the storage folder'],
  EISDIR: ['bug', 'a folder stands where a file should be'],
  ENAMETOOLONG: ['bug', 'the name is longer than the file system takes'],
};

/** The system's code of an error (`ENOSPC`), or the empty string. */
export function errno(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return error instanceof Error && !(error instanceof FaultError) && typeof code === 'string' ? code : '';
}

/** The fault that this error is; a FaultError passes as it is. `doing` completes "could not …". */
export function asFault(error: unknown, doing: string): FaultError {
  if (error instanceof FaultError) return error;
  const code = errno(error);
  const [fault, advice] = MEANING[code] ?? ['unavailable', `the system answered ${code === '' ? 'an error' : code}`];
  return new FaultError(fault, `Storage could not ${doing}: ${advice}.`, { cause: error });
}

/** An upload whose bytes storage has lost, as it said before or as its file shows: only a new one helps. */
export class UploadLost extends FaultError {
  constructor(message: string, cause?: unknown) {
    super('corrupt', message, cause === undefined ? {} : { cause });
    this.name = 'UploadLost';
  }
}

/**
 * An append that ended early: the body or the signal broke off, or storage failed. `appended` is where the upload truly
 * stands; going on there is fine. `broke` says who: for `body` and `signal` the cause is the body's error or the
 * signal's reason, and everything that arrived was stored and hashed.
 */
export class UploadBroken extends FaultError {
  readonly appended: Appended;
  readonly broke: 'body' | 'signal' | 'storage';
  /** Whether the hash was fed with exactly the bytes up to `appended.size`; otherwise it has to be made again. */
  readonly hashIntact: boolean;

  constructor(broke: 'body' | 'signal' | 'storage', appended: Appended, hashIntact: boolean, cause: unknown) {
    const fault = broke === 'storage' ? asFault(cause, 'append to the upload') : undefined;
    super(fault?.code ?? 'unavailable', fault?.message ?? 'The upload broke off before its end.', {
      cause: fault === undefined || fault === cause ? cause : fault.cause,
    });
    this.name = 'UploadBroken';
    this.broke = broke;
    this.appended = appended;
    this.hashIntact = hashIntact;
  }
}
