/**
 * One process owns a data folder: it holds `lock.db` exclusively for its life. The lock is SQLite's own (advisory
 * locks of the file), so it ends with the process, however it ends. Nothing in this process may open `lock.db` by
 * other means: closing such a handle would drop the lock (POSIX).
 */
import { closeSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { FaultError } from '../../oci/error.ts';
import { isBusy, isFull } from './faults.ts';

/** The claim on a folder. */
export interface Ownership {
  release(): void;
}

/** Makes the folder and what is missing above it; a power cut does not take its name, and all in it, away again. */
function makeDurable(folder: string): void {
  const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  const top = dirname(resolve(first));
  for (let at = resolve(folder); at !== top; at = dirname(at)) {
    const parent = openSync(dirname(at), 'r');
    try {
      fsyncSync(parent);
    } finally {
      closeSync(parent);
    }
  }
}

/** Takes the folder, which it creates if need be (0700). FaultError `unavailable`, naming it, where it has an owner. */
export function takeFolder(folder: string): Ownership {
  let lock: DatabaseSync | undefined;
  try {
    makeDurable(folder);
    lock = new DatabaseSync(join(folder, 'lock.db'), { timeout: 0 });
    lock.exec('pragma journal_mode = delete');
    lock.exec('begin exclusive');
  } catch (cause) {
    lock?.close();
    const message = isBusy(cause)
      ? `The data folder ${folder} is in use by another Longshore process: stop that one, or give this one a folder of its own.`
      : isFull(cause)
        ? `The disk of the data folder ${folder} is full: free some space, then start again.`
        : `The data folder ${folder} cannot be used: it must be a folder in which this user may write.`;
    throw new FaultError('unavailable', message, { cause });
  }
  const held = lock;
  return {
    release() {
      if (held.isOpen) held.close();
    },
  };
}
