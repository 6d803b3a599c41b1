/**
 * Room on the database's disk. A database without any cannot even delete, and only deletes make room again: so what
 * makes it grow is refused a little before the end.
 */
import { statfsSync } from 'node:fs';

/** What is kept back: a thirty-second of the disk, at most so many bytes. Storage on the same disk keeps back twice that. */
const SHARE = 32;
const MOST = 32 * 1024 * 1024;
const LOOK_MILLISECONDS = 250;

/** Tells whether there is room, looking at the disk at most every quarter of a second. True where nobody can tell. */
export function roomFor(
  folder: string,
  monotonic: () => number,
  look: (folder: string) => Space = space,
): () => boolean {
  let looked = Number.NEGATIVE_INFINITY;
  let enough = true;
  return () => {
    const now = monotonic();
    if (now - looked < LOOK_MILLISECONDS) return enough;
    looked = now;
    try {
      const { free, total } = look(folder);
      enough = total === 0 || free >= Math.min(MOST, total / SHARE);
    } catch {
      enough = true;
    }
    return enough;
  };
}

/** Bytes of a file system. */
export interface Space {
  readonly free: number;
  readonly total: number;
}

function space(folder: string): Space {
  const { bavail, blocks, bsize } = statfsSync(folder);
  return { free: bavail * bsize, total: blocks * bsize };
}
