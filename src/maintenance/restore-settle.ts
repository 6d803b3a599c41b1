/**
 * What a restore finds in storage, and what becomes of each blob's row (schema.md §3). Storage may be empty, as it was,
 * newer than the backup, or partly deleted. Afterwards no row names a dead key, and every live row has its bytes inline
 * or stored under its key with the right size; what cannot be had is damaged or absent, and told.
 */
import type { Database } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import { blobKey, parseBlobKey } from '../oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../oci/digest.ts';
import type { BlobState, Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { NAMED, shardRanges } from './backup.ts';
import { copyBlob, isIntact, sideBySide } from './backup-copy.ts';
import { type BackupPlace, backupKey } from './backup-place.ts';
import type { Unknown } from './commands/recover-state.ts';
import { restoreRenumber, restoreSettle, type Settled } from './commands/restore-settle.ts';

/** What was done with blobs. */
export interface SettleCounts {
  /** Rows that were looked at. */
  blobs: number;
  /** Bytes are where their row says. */
  inPlace: number;
  /** Bytes are in the database, and go to storage again. */
  inline: number;
  /** Bytes that lay in storage under another key, or under one that was dead. */
  found: number;
  /** Bytes that were copied from the backup. */
  copied: number;
  copiedBytes: number;
  /** Uploads that were under way when the backup was made. */
  unfinished: number;
  /** Stored blobs that the backup does not know: newer than it, or left over. The collector removes them in time. */
  unknown: number;
  unknownBytes: number;
  lostCount: number;
  /** What cannot be had; the first thousand. */
  readonly lost: Digest[];
}

/** What it works with. */
export interface SettleParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  /** Absent where there is no backup: what storage does not have is lost then. */
  readonly place?: BackupPlace | undefined;
  /** What to do with bytes that no row names; absent: they are counted. In the order of shards. */
  onUnknown?(keys: readonly Unknown[]): Promise<void>;
  /** Nothing was ever stored there or deleted from there: keys may stay as they are. */
  readonly isFresh: boolean;
  readonly signal: AbortSignal;
  onProgress(counts: SettleCounts): void;
}

interface Row {
  readonly digest: Uint8Array;
  readonly state: BlobState;
  readonly size: number | null;
  readonly n: number | null;
  readonly stored: number;
  readonly inline: number;
}

/** A row whose state has a key. */
interface Keyed extends Row {
  readonly size: number;
  readonly n: number;
  readonly name: Digest;
  readonly isDead: boolean;
}

/** What storage and database say about one shard: sizes and dead numbers by digest. */
interface Shard {
  readonly stored: Map<Digest, Map<number, number>>;
  readonly dead: Map<Digest, Set<number>>;
}

const AT_ONCE = 8;
const PAGE = 500;
const SHARDS = 256;

/** Looks at every blob. */
export async function settleBlobs(parts: SettleParts): Promise<SettleCounts> {
  const counts: SettleCounts = {
    ...{ blobs: 0, inPlace: 0, inline: 0, found: 0, copied: 0, copiedBytes: 0, unfinished: 0 },
    ...{ unknown: 0, unknownBytes: 0, lostCount: 0, lost: [] },
  };
  for (let at = 0; at < SHARDS; at++) {
    const shard = await lookAt(parts, at);
    for (const [from, to] of shardRanges(at)) {
      for (let after = from; ; ) {
        parts.signal.throwIfAborted();
        const rows: Row[] = await parts.database.query.all(
          `select b.digest, b.state, b.size, b.n, b.stored,
             (select count(*) from content c where c.digest = b.digest) as inline
           from blob b where b.digest > ? and b.digest < ? order by b.digest limit ?`,
          ...[after, to, PAGE],
        );
        await settlePage(parts, shard, rows, counts);
        parts.onProgress(counts);
        if (rows.length < PAGE) break;
        after = rows.at(-1)!.digest;
      }
    }
    // What is left in the map was named by no row.
    let unknown: Unknown[] = [];
    for (const [name, keys] of shard.stored) {
      // The highest first: of several keys of one blob it is the one that is in use.
      for (const [n, size] of [...keys].sort((a, b) => b[0] - a[0])) {
        if (shard.dead.get(name)?.has(n)) continue;
        counts.unknown++;
        counts.unknownBytes += size;
        unknown.push({ digest: digestToBytes(name), n, size });
      }
      if (unknown.length < PAGE) continue;
      await parts.onUnknown?.(unknown);
      unknown = [];
    }
    if (unknown.length > 0) await parts.onUnknown?.(unknown);
  }
  parts.onProgress(counts);
  return counts;
}

async function lookAt({ database, storage }: SettleParts, at: number): Promise<Shard> {
  const [stored, dead]: [Shard['stored'], Shard['dead']] = [new Map(), new Map()];
  for await (const { key, size } of storage.list(at.toString(16).padStart(2, '0'))) {
    const parsed = parseBlobKey(key);
    if (parsed === undefined) continue;
    const keys = stored.get(parsed.digest) ?? new Map<number, number>();
    stored.set(parsed.digest, keys.set(parsed.n, size));
  }
  for (const [from, to] of shardRanges(at)) {
    for (let [after, n] = [from, -1]; ; ) {
      const rows: { digest: Uint8Array; n: number }[] = await database.query.all(
        'select digest, n from dead_key where (digest, n) > (?, ?) and digest < ? order by digest, n limit ?',
        ...[after, n, to, PAGE],
      );
      for (const row of rows) {
        const name = digestFromBytes(row.digest);
        dead.set(name, (dead.get(name) ?? new Set<number>()).add(row.n));
      }
      const last = rows.at(-1);
      if (rows.length < PAGE || last === undefined) break;
      [after, n] = [last.digest, last.n];
    }
  }
  return { stored, dead };
}

async function settlePage(parts: SettleParts, shard: Shard, rows: readonly Row[], counts: SettleCounts): Promise<void> {
  const settled: Settled[] = [];
  await sideBySide(rows.values(), AT_ONCE, async (row) => {
    counts.blobs++;
    if (row.state === 'absent' || row.n === null) return;
    const name = digestFromBytes(row.digest);
    const isDead = shard.dead.get(name)?.has(row.n) === true;
    const keyed: Keyed = { ...row, n: row.n, size: row.size ?? 0, name, isDead };
    const end = await settle(parts, shard, keyed, counts);
    const n = end === undefined ? row.n : end.n;
    shard.stored.get(name)?.delete(row.n);
    if (n !== null) shard.stored.get(name)?.delete(n);
    if (end !== undefined) settled.push(end);
  });
  if (settled.length > 0) await parts.database.run(restoreSettle, { rows: settled });
}

/** What becomes of a row; undefined where it stays as it is. */
async function settle(
  parts: SettleParts,
  shard: Shard,
  row: Keyed,
  counts: SettleCounts,
): Promise<Settled | undefined> {
  const { digest, n, name, size } = row;
  if (row.state === 'incoming') {
    // Its upload is not in the backup; what was stored under its key meanwhile belongs to nobody.
    counts.unfinished++;
    await renumber(parts, row, n);
    return { digest, state: 'absent', n: null, stored: 0 };
  }
  const sizeThere = shard.stored.get(name)?.get(n);
  if (row.state === 'live' && row.stored === 1 && !row.isDead && sizeThere === size) {
    counts.inPlace++;
    return undefined;
  }
  if (row.inline > 0) {
    counts.inline++;
    if (row.state === 'live' && row.stored === 0 && !row.isDead) return undefined;
    const isFree = !row.isDead && row.state === 'live' && sizeThere === undefined;
    return { digest, state: 'live', n: isFree ? n : await renumber(parts, row, n), stored: 0 };
  }
  const { at, isThere } = await recover(parts, shard, row, counts);
  failpoint('recover.copy.after');
  if (isThere) return { digest, state: 'live', n: at, stored: 1 };
  counts.lostCount++;
  if (counts.lost.length < NAMED) counts.lost.push(name);
  return row.isDead ? { digest, state: 'absent', n: null, stored: 0 } : { digest, state: 'damaged', n: at, stored: 0 };
}

/** Gives key n up and takes the next number. */
async function renumber({ database }: SettleParts, { digest }: Keyed, n: number): Promise<number> {
  const [fresh] = await database.run(restoreRenumber, { keys: [{ digest, n }] });
  return fresh!;
}

/** Finds the bytes elsewhere, in storage first. `at`: the number of the row's key from now on, whether they are there or not. */
async function recover(
  parts: SettleParts,
  shard: Shard,
  row: Keyed,
  counts: SettleCounts,
): Promise<{ readonly at: number; readonly isThere: boolean }> {
  const { storage, place, signal } = parts;
  const { name, size } = row;
  const stored = shard.stored.get(name) ?? new Map<number, number>();
  const highestDead = Math.max(-1, ...(shard.dead.get(name) ?? []));
  const others = [...stored.keys()].filter((n) => n !== row.n).sort((a, b) => b - a);
  // A later push of the same bytes, under a key that never died.
  for (const n of others) {
    if (n <= highestDead || stored.get(n) !== size) continue;
    if (!(await isIntact(storage, blobKey(name, n), name, size, signal))) continue;
    if (!row.isDead) await renumber(parts, row, row.n);
    counts.found++;
    return { at: n, isThere: true };
  }
  const at = await freeNumber(parts, row, stored);
  const copying = { digest: name, size, to: storage, toKey: blobKey(name, at), signal };
  for (const n of [row.n, ...others]) {
    if (stored.get(n) !== size || n === at) continue;
    if (!(await copyBlob({ ...copying, from: storage, fromKey: blobKey(name, n) }))) continue;
    counts.found++;
    return { at, isThere: true };
  }
  if (place === undefined) return { at, isThere: false };
  if (!(await copyBlob({ ...copying, from: place.storage, fromKey: backupKey(name) }))) return { at, isThere: false };
  counts.copied++;
  counts.copiedBytes += size;
  return { at, isThere: true };
}

/** A number under which nothing lies and that was never dead; the row's own where storage is fresh. */
async function freeNumber(parts: SettleParts, row: Keyed, stored: ReadonlyMap<number, number>): Promise<number> {
  if (parts.isFresh && !row.isDead && row.state === 'live') return row.n;
  let n = await renumber(parts, row, row.n);
  // Something that is not the blob lies there: that key is given up as well.
  while (stored.has(n)) n = await renumber(parts, row, n);
  return n;
}
