/**
 * A few MiB of the disk that are kept for the database. A log can only be emptied into the files where these may grow,
 * and on a full disk they may not: nothing could be written any more, not even the deletes that make room. Then the
 * reserve is given up, and taken again when there is room.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, existsSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** At most so many bytes, and at most a thirty-second of the disk. */
const MOST = 4 * 1024 * 1024;
const SHARE = 32;
const PIECE = 256 * 1024;
/** How long it is not tried again after it could not be taken (a quota, a fault): each try writes all of it. */
const PAUSE_MILLISECONDS = 60_000;

/** The reserve of one database. Methods never throw: whoever needs room finds out by not having it. */
export interface Reserve {
  /** Takes the room, unless it is taken or could not be taken lately. */
  take(): void;
  /** Gives the room up. False where there was none to give. */
  give(): boolean;
}

/** The reserve beside the database file at `path`, which may be there from an earlier run. `monotonic`: milliseconds. */
export function reserveBeside(path: string, monotonic: () => number): Reserve {
  const file = `${path}-reserve`;
  let taken = existsSync(file);
  let failed = Number.NEGATIVE_INFINITY;
  return {
    take() {
      if (taken || monotonic() - failed < PAUSE_MILLISECONDS) return;
      try {
        const { blocks, bsize } = statfsSync(dirname(path));
        write(file, Math.min(MOST, Math.floor((blocks * bsize) / SHARE)));
        taken = true;
      } catch {
        failed = monotonic();
        // Half a reserve is none: it would be counted as a whole one after a restart.
        remove(file);
      }
    },
    give() {
      if (!taken) return false;
      taken = !remove(file);
      return !taken;
    },
  };
}

function write(file: string, size: number): void {
  // Of zeros a file system that compresses would keep nothing.
  const piece = randomFillSync(Buffer.alloc(PIECE));
  const fd = openSync(file, 'w', 0o600);
  try {
    for (let at = 0; at < size; ) at += writeSync(fd, piece, 0, Math.min(PIECE, size - at), at);
  } finally {
    closeSync(fd);
  }
}

function remove(file: string): boolean {
  try {
    rmSync(file, { force: true });
    return true;
  } catch {
    return false;
  }
}
