/**
 * Makes a backup while everything runs (decisions.md 9). First a lease, so that the collector deletes no bytes of what
 * the snapshot names; then the rows and the list of blobs from one snapshot; then the bytes that the place does not
 * have yet, each checked by its hash; the point last. Broken off anywhere it leaves no point, and the next one goes on
 * with what was copied.
 */

import type { TableShape } from '../database/catalog.ts';
import type { Database, Value } from '../database/database.ts';
import type { Snapshot } from '../database/snapshot.ts';
import { type Clock, every } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import { randomId } from '../kit/id.ts';
import type { Log } from '../kit/log.ts';
import { blobKey, parseBlobKey } from '../oci/blob-key.ts';
import { digestFromBytes } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobKey, Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { copyBlob, sideBySide } from './backup-copy.ts';
import { type BackupPlace, backupKey, type DumpedTable, type Point, pointId } from './backup-place.ts';
import { lineWriter, type Piece, readLines, rowToLine } from './backup-records.ts';
import { backupLeaseEnd, backupLeaseRenew, backupLeaseTake } from './commands/backup-lease.ts';
import { NOT_DUMPED } from './commands/restore-load.ts';

/** How far a backup is. */
export interface BackupProgress {
  readonly phase: 'snapshot' | 'rows' | 'blobs' | 'done';
  readonly rows: number;
  /** Of all that the snapshot names: looked at, and how many there are. */
  readonly blobs: number;
  readonly allBlobs: number;
  /** What was copied, since the place did not have it. */
  readonly copied: number;
  readonly copiedBytes: number;
}

/** What a backup gives. */
export interface BackupResult {
  readonly id: string;
  readonly complete: boolean;
  readonly rows: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly copied: number;
  readonly copiedBytes: number;
  /** Blobs whose bytes are missing or damaged in the installation; the first thousand. */
  readonly missing: readonly string[];
  readonly missingCount: number;
}

/** What it is made of. */
export interface BackupParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly place: BackupPlace;
  openSnapshot(): Promise<Snapshot>;
  readonly clock: Clock;
  readonly log: Log;
  /** The program's version. */
  readonly program: string;
  /** The name of a migration by its number. */
  schemaName(schema: number): string;
  readonly tickMilliseconds: number;
  readonly signal: AbortSignal;
  onProgress(progress: BackupProgress): void;
}

/** The lease lasts this long without being renewed, and is renewed this often. */
const LEASE_MILLISECONDS = 5 * 60_000;
const LEASE_TICKS = 6;
const RENEW_MILLISECONDS = 20_000;
/** A page of rows is as many as weigh about this much. */
const PAGE_BYTES = 1024 * 1024;
const PAGE_ROWS = 1_000;
/** Blobs that are copied side by side. */
const AT_ONCE = 8;
/** Missing blobs that are named. */
export const NAMED = 1_000;
const SHARDS = 256;

/** The backup. FaultError where it could not be made; where bytes were missing it is made and says so. */
export async function backup(parts: BackupParts): Promise<BackupResult> {
  const { database, place, clock } = parts;
  const installation = await database.query.get<{ uid: string }>('select uid from installation where id = 1');
  if (installation === undefined) throw new FaultError('bug', 'The installation has no name.');
  await place.claim(installation.uid);
  const id = pointId(clock.now());
  const lock = await place.lock('backup', id);
  try {
    const lease = await takeLease(parts);
    try {
      const point = await write(parts, id, lease.signal);
      await lock.check();
      lease.signal.throwIfAborted();
      failpoint('backup.point.before');
      await place.putPoint(point.point);
      failpoint('backup.point.after');
      // Looked again behind the write: a prune that took this process for dead has either seen the point or is seen here.
      await lock.check().catch(async (error: unknown) => {
        await place.removePoint(id);
        throw error;
      });
      return point.result;
    } finally {
      await lease.end();
    }
  } finally {
    await lock.end();
  }
}

/** Takes the lease and keeps it; `signal` ends with it, or with the caller's. */
async function takeLease(parts: BackupParts): Promise<{ readonly signal: AbortSignal; end(): Promise<void> }> {
  const { database, log, signal: asked } = parts;
  const name = `backup.${Buffer.from(randomId(9)).toString('hex')}`;
  const ticks = Math.max(LEASE_TICKS, Math.ceil(LEASE_MILLISECONDS / parts.tickMilliseconds));
  const lost = new AbortController();
  await database.run(backupLeaseTake, { name, owner: parts.program, ticks }, { lane: 'job' });
  const renew = async (): Promise<void> => {
    if (await database.run(backupLeaseRenew, { name, ticks }, { lane: 'job' })) return;
    lost.abort(
      new FaultError('unavailable', 'The backup was held up for so long that its bytes may be gone: start it again.'),
    );
  };
  const stop = every(RENEW_MILLISECONDS, () => {
    renew().catch((error: Error) => log.warn('the lease of a backup could not be renewed', { error }));
  });
  return {
    signal: AbortSignal.any([asked, lost.signal]),
    async end() {
      stop();
      await database
        .run(backupLeaseEnd, { name }, { lane: 'job' })
        .catch((error: Error) => log.warn('the lease of a backup ends by itself later', { error }));
    },
  };
}

interface Counts {
  rows: number;
  blobs: number;
  bytes: number;
  looked: number;
  copied: number;
  copiedBytes: number;
  missingCount: number;
  readonly missing: string[];
}

async function write(
  parts: BackupParts,
  id: string,
  signal: AbortSignal,
): Promise<{ readonly point: Point; readonly result: BackupResult }> {
  const { place } = parts;
  const counts: Counts = {
    ...{ rows: 0, blobs: 0, bytes: 0, looked: 0, copied: 0, copiedBytes: 0, missingCount: 0 },
    missing: [],
  };
  const say = (phase: BackupProgress['phase']): void =>
    parts.onProgress({
      phase,
      rows: counts.rows,
      blobs: counts.looked,
      allBlobs: counts.blobs,
      copied: counts.copied,
      copiedBytes: counts.copiedBytes,
    });
  say('snapshot');
  const head = await dump(parts, id, signal, counts, () => say('rows'));
  failpoint('backup.snapshot.after');
  say('blobs');
  await copyAll(parts, head.pieces, signal, counts, () => say('blobs'));
  say('done');
  const { rows, blobs, bytes, copied, copiedBytes, missing, missingCount } = counts;
  const complete = missingCount === 0;
  const point: Point = {
    ...{ format: 1, id, program: parts.program, complete, missingCount, missing },
    ...head.facts,
    tables: head.tables,
    blobs: { count: blobs, bytes, pieces: head.pieces },
  };
  await place.storage.ping();
  return { point, result: { id, complete, rows, blobs, bytes, copied, copiedBytes, missing, missingCount } };
}

type Facts = Pick<Point, 'at' | 'schema' | 'schemaName' | 'installation' | 'epoch' | 'tick' | 'database'>;

/** Everything that comes from the snapshot, which is not kept open for longer. */
async function dump(
  parts: BackupParts,
  id: string,
  signal: AbortSignal,
  counts: Counts,
  say: () => void,
): Promise<{ readonly facts: Facts; readonly tables: DumpedTable[]; readonly pieces: readonly Piece[] }> {
  const { records } = parts.place.storage;
  const snapshot = await parts.openSnapshot();
  try {
    const [state] = await snapshot.all<{ uid: string; epoch: number; tick: number }>(
      'select i.uid, i.epoch, c.tick from installation i, gc_clock c where i.id = 1 and c.id = 1',
    );
    const tables: DumpedTable[] = [];
    for (const table of snapshot.tables) {
      if (NOT_DUMPED.has(table.name)) continue;
      const lines = lineWriter(records, `dumps/${id}/${table.name}`);
      let rows = 0;
      for await (const page of pagesOf(snapshot, table)) {
        signal.throwIfAborted();
        for (const row of page) await lines.write(rowToLine(row));
        rows += page.length;
        counts.rows += page.length;
        say();
      }
      tables.push({
        ...{ name: table.name, columns: table.columns, rows, pieces: await lines.end() },
        ...(table.counter === undefined
          ? {}
          : { counter: { column: table.counter, value: await snapshot.counter(table) } }),
      });
    }
    const pieces = await listBlobs(snapshot, lineWriter(records, `dumps/${id}/blobs`), counts, signal);
    const facts: Facts = {
      at: parts.clock.now(),
      schema: snapshot.schema,
      schemaName: parts.schemaName(snapshot.schema),
      installation: state?.uid ?? '',
      epoch: state?.epoch ?? 0,
      tick: state?.tick ?? 0,
      database: snapshot.dialect,
    };
    return { facts, tables, pieces };
  } finally {
    await snapshot.close();
  }
}

/** All rows of a table, in the order of its key, a page at a time. */
async function* pagesOf(snapshot: Snapshot, table: TableShape): AsyncGenerator<Value[][]> {
  const { name, columns, key } = table;
  if (key.length === 0) throw new FaultError('bug', `The table ${name} has no primary key, so it cannot be backed up.`);
  const quoted = (names: readonly string[]): string => names.map((column) => `"${column}"`).join(', ');
  const select = `select ${quoted(columns)} from "${name}"`;
  const order = `order by ${quoted(key)} limit ?`;
  const behind = `where (${quoted(key)}) > (${key.map(() => '?').join(', ')})`;
  let [after, limit]: [Value[] | undefined, number] = [undefined, 64];
  for (;;) {
    const rows: Record<string, Value>[] =
      after === undefined
        ? await snapshot.all(`${select} ${order}`, limit)
        : await snapshot.all(`${select} ${behind} ${order}`, ...after, limit);
    if (rows.length > 0) yield rows.map((row) => columns.map((column) => row[column] ?? null));
    if (rows.length < limit) return;
    const last = rows.at(-1)!;
    after = key.map((column) => last[column] ?? null);
    const bytes = rows.reduce((sum, row) => sum + weigh(row), 0);
    limit = Math.max(1, Math.min(PAGE_ROWS, Math.floor((limit * PAGE_BYTES) / Math.max(1, bytes)), limit * 4));
  }
}

function weigh(row: Readonly<Record<string, Value>>): number {
  let bytes = 0;
  for (const value of Object.values(row))
    bytes += typeof value === 'string' || value instanceof Uint8Array ? value.length : 8;
  return bytes;
}

/** Bounds of a shard in the database's form of digests, for both algorithms. */
export function shardRanges(shard: number): readonly (readonly [from: Uint8Array, to: Uint8Array])[] {
  return [1, 2].map(
    (code) =>
      [
        new Uint8Array([code, shard]),
        shard === SHARDS - 1 ? new Uint8Array([code + 1]) : new Uint8Array([code, shard + 1]),
      ] as const,
  );
}

/** What has to be copied: every live blob whose bytes are in storage and not among the rows. */
async function listBlobs(
  snapshot: Snapshot,
  lines: ReturnType<typeof lineWriter>,
  counts: Counts,
  signal: AbortSignal,
): Promise<readonly Piece[]> {
  for (let shard = 0; shard < SHARDS; shard++) {
    for (const [from, to] of shardRanges(shard)) {
      for (let after = from; ; ) {
        signal.throwIfAborted();
        const rows: { digest: Uint8Array; size: number; n: number }[] = await snapshot.all(
          `select digest, size, n from blob where digest > ? and digest < ? and state = 'live' and stored = 1
             and not exists (select 1 from content c where c.digest = blob.digest) order by digest limit ?`,
          ...[after, to, PAGE_ROWS],
        );
        for (const { digest, size, n } of rows) {
          await lines.write(`${blobKey(digestFromBytes(digest), n)} ${size}`);
          counts.blobs++;
          counts.bytes += size;
        }
        if (rows.length < PAGE_ROWS) break;
        after = rows.at(-1)!.digest;
      }
    }
  }
  return lines.end();
}

/** A blob of a point's list: where it lay in the installation. */
export interface ListedBlob {
  readonly key: BlobKey;
  readonly digest: Digest;
  readonly size: number;
  readonly shard: string;
}

/** The list of a point, shard by shard. FaultError `corrupt`. */
export async function* listedBlobs(place: BackupPlace, pieces: readonly Piece[]): AsyncGenerator<ListedBlob> {
  for await (const line of readLines(place.storage.records, pieces)) {
    const [text = '', size = ''] = line.split(' ');
    const parsed = parseBlobKey(text);
    if (parsed === undefined || !/^\d{1,15}$/.test(size))
      throw new FaultError('corrupt', 'A line of a backup’s list of blobs cannot be read.');
    yield { key: parsed.key, digest: parsed.digest, size: Number(size), shard: text.split('/')[1]! };
  }
}

async function copyAll(
  { place, storage, log }: BackupParts,
  pieces: readonly Piece[],
  signal: AbortSignal,
  counts: Counts,
  say: () => void,
): Promise<void> {
  const rotten = await place.damaged();
  let [shard, there]: [string, Map<string, number>] = ['', new Map()];
  /** What is not there yet, in the order of the list. */
  async function* wanted(): AsyncGenerator<ListedBlob> {
    for await (const blob of listedBlobs(place, pieces)) {
      if (blob.shard !== shard) {
        there = new Map();
        for await (const { key, size } of place.storage.list(blob.shard)) there.set(key, size);
        shard = blob.shard;
        say();
      }
      if (there.get(backupKey(blob.digest)) === blob.size && !rotten.has(blob.digest)) counts.looked++;
      else yield blob;
    }
  }
  await sideBySide(wanted(), AT_ONCE, async ({ key, digest, size }) => {
    signal.throwIfAborted();
    const to = backupKey(digest);
    // What lies there is damaged: nothing may be linked beside it.
    if (rotten.has(digest)) await place.storage.delete(to);
    const well = await copyBlob({
      ...{ digest, size, from: storage, fromKey: key },
      to: place.storage,
      toKey: to,
      signal,
    });
    failpoint('backup.copy.after');
    counts.looked++;
    if (well) {
      counts.copied++;
      counts.copiedBytes += size;
      if (rotten.has(digest)) await place.clearDamaged(digest);
    } else {
      log.error('a blob could not be backed up: its bytes are missing or damaged', { digest });
      counts.missingCount++;
      if (counts.missing.length < NAMED) counts.missing.push(digest);
    }
    say();
  });
}
