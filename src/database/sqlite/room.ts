/**
 * Room on the database's disk. A database without any cannot even delete, and only deletes make room again: so what
 * makes it grow is refused a little before the end, and its log is emptied before the disk could be too full for that.
 */
import { statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Files } from './migrate.ts';

/** `low`: the logs are to be emptied now. `none`: nothing may grow. */
export type Room = 'plenty' | 'low' | 'none';

/** What is kept back: a thirty-second of the disk, at most so many bytes. Storage on the same disk keeps back twice that. */
const SHARE = 32;
const MOST = 32 * 1024 * 1024;
/** How long a look is trusted, and how long where the disk could be full before that. */
const LOOK_MILLISECONDS = 250;
const CLOSE_LOOK_MILLISECONDS = 10;
/** A disk takes hardly more in `LOOK_MILLISECONDS`. */
const CLOSE = 512 * 1024 * 1024;

/** Tells how much room there is, looking at the disk at most every quarter of a second while much is free. `plenty` where nobody can tell. */
export function roomFor(files: Files, monotonic: () => number, look: (files: Files) => Space = space): () => Room {
  let looked = Number.NEGATIVE_INFINITY;
  let trusted = LOOK_MILLISECONDS;
  let room: Room = 'plenty';
  return () => {
    const now = monotonic();
    if (now - looked < trusted) return room;
    looked = now;
    try {
      const found = look(files);
      trusted = found.free < CLOSE ? CLOSE_LOOK_MILLISECONDS : LOOK_MILLISECONDS;
      room = judge(found);
    } catch {
      room = 'plenty';
    }
    return room;
  };
}

/** Bytes of a file system, and of the logs in it: emptying them may make the files grow by as much. */
export interface Space {
  readonly free: number;
  readonly total: number;
  readonly logs: number;
}

function judge({ free, total, logs }: Space): Room {
  if (total === 0) return 'plenty';
  const kept = Math.min(MOST, total / SHARE);
  if (free < kept) return 'none';
  return free < 2 * kept + logs ? 'low' : 'plenty';
}

function space({ path, sidePath }: Files): Space {
  const { bavail, blocks, bsize } = statfsSync(dirname(path));
  const logs = [path, sidePath].map((file) => statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0);
  return { free: bavail * bsize, total: blocks * bsize, logs: logs.reduce((sum, size) => sum + size, 0) };
}
