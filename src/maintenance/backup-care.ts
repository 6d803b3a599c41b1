/** What keeps a place for backups in order: looking whether everything in it is as it was written, and removing what is old. */

import { FaultError } from '../oci/error.ts';
import type { Digest } from '../oci/names.ts';
import { type ListedBlob, listedBlobs, NAMED } from './backup.ts';
import { isIntact, sideBySide } from './backup-copy.ts';
import { type BackupPlace, backupKey, type Point, pointId } from './backup-place.ts';
import { type Piece, readPiece } from './backup-records.ts';

const AT_ONCE = 4;
const SHARDS = 256;

/** What a look found. */
export interface Verified {
  readonly points: number;
  readonly records: number;
  readonly blobs: number;
  readonly bytes: number;
  /** What is missing or damaged: records by their names, blobs by their digests; the first thousand. */
  readonly damaged: readonly string[];
  readonly damagedCount: number;
  /** Backups that were incomplete when they were made. */
  readonly incomplete: readonly string[];
}

/** Every piece of a point. */
export function piecesOf(point: Point): readonly Piece[] {
  return [...point.tables.flatMap(({ pieces }) => pieces), ...point.blobs.pieces];
}

/** Hashes everything that these points need. A damaged blob is marked, so that the next backup copies it again. */
export async function verifyBackups(
  place: BackupPlace,
  points: readonly Point[],
  options: { readonly signal: AbortSignal; onProgress(blobs: number, bytes: number): void },
): Promise<Verified> {
  let [records, blobs, bytes, damagedCount] = [0, 0, 0, 0];
  const damaged: string[] = [];
  const bad = (what: string): void => {
    damagedCount++;
    if (damaged.length < NAMED) damaged.push(what);
  };
  const readable: Point[] = [];
  for (const point of points) {
    let well = true;
    for (const piece of piecesOf(point)) {
      records++;
      try {
        await readPiece(place.storage.records, piece);
      } catch (error) {
        if (!(error instanceof FaultError) || error.code !== 'corrupt') throw error;
        bad(piece.record);
        if (point.blobs.pieces.includes(piece)) well = false;
      }
    }
    if (well) readable.push(point);
  }
  for await (const wanted of byShard(place, readable)) {
    const missing = new Set(readable.flatMap((point) => point.missing));
    await sideBySide(wanted.values(), AT_ONCE, async ({ digest, size }) => {
      if (missing.has(digest) && (await place.storage.stat(backupKey(digest))) === undefined) return;
      blobs++;
      bytes += size;
      if (!(await isIntact(place.storage, backupKey(digest), digest, size, options.signal))) {
        bad(digest);
        await place.markDamaged(digest);
      }
      options.onProgress(blobs, bytes);
    });
  }
  const incomplete = points.filter(({ complete }) => !complete).map(({ id }) => id);
  return { points: points.length, records, blobs, bytes, damaged, damagedCount, incomplete };
}

/** What these points need, each blob once, a shard at a time. */
async function* byShard(place: BackupPlace, points: readonly Point[]): AsyncGenerator<ReadonlyMap<Digest, ListedBlob>> {
  const lists = points.map((point) => listedBlobs(place, point.blobs.pieces));
  const next = await Promise.all(lists.map((list) => list.next()));
  for (let shard = 0; shard < SHARDS; shard++) {
    const name = shard.toString(16).padStart(2, '0');
    const wanted = new Map<Digest, ListedBlob>();
    for (const [index, list] of lists.entries()) {
      for (let at = next[index]!; at.done !== true && at.value.shard === name; at = next[index] = await list.next())
        wanted.set(at.value.digest, at.value);
    }
    yield wanted;
  }
}

/** What was removed. */
export interface Pruned {
  readonly kept: readonly string[];
  readonly removed: readonly string[];
  readonly blobs: number;
  readonly bytes: number;
}

/**
 * Keeps the newest `keep` complete backups, and whatever is newer than the oldest of them; removes the others and every
 * blob that none of the kept needs. FaultError `unavailable` while a backup runs there.
 */
export async function pruneBackups(
  place: BackupPlace,
  keep: number,
  options: { readonly now: number; readonly signal: AbortSignal },
): Promise<Pruned> {
  const lock = await place.lock('prune', `prune-${pointId(options.now)}`);
  try {
    const points = await place.points();
    const complete = points.filter((point) => point.complete);
    const oldest = complete.at(-keep)?.id ?? points[0]?.id ?? '';
    const kept = points.filter(({ id }) => id >= oldest);
    const removed = points.filter(({ id }) => id < oldest);
    // A list that cannot be read would let its blobs go: looked at before anything is removed.
    for (const point of kept) for (const piece of point.blobs.pieces) await readPiece(place.storage.records, piece);
    for (const { id } of removed) await place.removePoint(id);
    const alive = new Set(kept.map(({ id }) => id));
    for (const [id, names] of await place.dumps())
      if (!alive.has(id)) for (const name of names) await place.storage.records.delete(name);
    let [blobs, bytes, shard] = [0, 0, 0];
    for await (const wanted of byShard(place, kept)) {
      options.signal.throwIfAborted();
      await lock.check();
      const needed = new Set<string>([...wanted.keys()].map(backupKey));
      const gone: { readonly key: Parameters<typeof place.storage.delete>[0]; readonly size: number }[] = [];
      for await (const { key, size } of place.storage.list((shard++).toString(16).padStart(2, '0')))
        if (!needed.has(key)) gone.push({ key, size });
      await sideBySide(gone, AT_ONCE, async ({ key, size }) => {
        await place.storage.delete(key);
        blobs++;
        bytes += size;
      });
    }
    return { kept: kept.map(({ id }) => id), removed: removed.map(({ id }) => id), blobs, bytes };
  } finally {
    await lock.end();
  }
}
