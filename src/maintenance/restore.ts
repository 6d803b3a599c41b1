/**
 * Restores a backup, in the steps of schema.md §3: the caller has put an empty, marked database in place; the rows are
 * loaded; a new epoch; then the journal of dead keys, which storage kept while the backup was away; then every blob is
 * looked for; the mark goes last. Broken off anywhere, it is begun anew.
 */

import type { Database, Value } from '../database/database.ts';
import type { Before } from '../database/restore-mark.ts';
import { jobEnqueue } from '../jobs/commands/job-enqueue.ts';
import { failpoint } from '../kit/failpoint.ts';
import { parseBlobKey } from '../oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { piecesOf } from './backup-care.ts';
import type { BackupPlace, DumpedTable, Point } from './backup-place.ts';
import { lineToRow, readLines, readPiece } from './backup-records.ts';
import {
  restoreClear,
  restoreCounter,
  restoreEnd,
  restoreEpoch,
  restoreLoad,
  type WantedLease,
} from './commands/restore-load.ts';
import { type KeyOf, restoreDead } from './commands/restore-settle.ts';
import { readJournal } from './gc-journal.ts';
import { MIRROR_PREFIX, repositoryOfTable } from './mirror-format.ts';
import { highestEpoch } from './recover-mark.ts';
import { type SettleCounts, settleBlobs } from './restore-settle.ts';

/** How far a restore is. */
export interface RestoreProgress {
  readonly phase: 'check' | 'rows' | 'journal' | 'blobs' | 'done';
  readonly rows: number;
  readonly allRows: number;
  readonly blobs: number;
  readonly copied: number;
  readonly copiedBytes: number;
}

/** A blob that could not be had, and who names it. */
export interface Lost {
  readonly digest: Digest;
  /** `repository@manifest`; the first ten. */
  readonly neededBy: readonly string[];
}

/** What a restore gives. */
export interface RestoreResult {
  readonly point: string;
  /** Wall milliseconds: when the backup's snapshot was taken. */
  readonly at: number;
  readonly rows: number;
  readonly blobs: Omit<SettleCounts, 'lost'>;
  /** Keys that the storage says were deleted since. */
  readonly deadSince: number;
  /** Repositories that were made since, as far as storage tells; the first hundred. They are not in the backup. */
  readonly newerRepositories: readonly string[];
  readonly lost: readonly Lost[];
  /** Whether everything that the backup promises is there. */
  readonly whole: boolean;
}

/** Rows that one command loads, and about how many bytes of lines. */
const LOAD_ROWS = 512;
const LOAD_BYTES = 512 * 1024;
const BATCH = 500;
const REPOSITORIES_NAMED = 100;

/** Hashes every record of the point, before anything is changed. FaultError `corrupt`. */
export async function checkPoint(place: BackupPlace, point: Point): Promise<void> {
  for (const piece of piecesOf(point)) await readPiece(place.storage.records, piece);
}

/** Loads the rows into the empty database, which has the very schema of the point. */
export async function loadRows(
  parts: { readonly database: Database; readonly place: BackupPlace; readonly signal: AbortSignal },
  point: Point,
  onRows: (rows: number) => void,
): Promise<number> {
  const { database, place, signal } = parts;
  await database.run(restoreClear, { tables: point.tables.map(({ name }) => name).reverse() });
  let loaded = 0;
  for (const table of point.tables) {
    let rows: Value[][] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      if (rows.length === 0) return;
      signal.throwIfAborted();
      await database.run(restoreLoad, { table: table.name, columns: table.columns, rows });
      loaded += rows.length;
      [rows, bytes] = [[], 0];
      onRows(loaded);
    };
    let count = 0;
    for await (const line of readLines(place.storage.records, table.pieces)) {
      rows.push(lineToRow(line, table.columns.length));
      count++;
      bytes += line.length;
      if (rows.length >= LOAD_ROWS || bytes >= LOAD_BYTES) await flush();
    }
    await flush();
    if (count !== table.rows)
      throw new FaultError('corrupt', `The backup has ${count} rows of ${table.name}, it should have ${table.rows}.`);
    await raise(database, table);
  }
  return loaded;
}

async function raise(database: Database, { name, counter }: DumpedTable): Promise<void> {
  if (counter === undefined || counter.value === 0) return;
  await database.run(restoreCounter, { table: name, column: counter.column, value: counter.value });
}

/** What is done once the rows are loaded and the schema is the program's own. */
export interface FinishParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly place: BackupPlace;
  readonly point: Point;
  /** What was there before. */
  readonly before: Before;
  readonly rows: number;
  readonly signal: AbortSignal;
  onProgress(progress: RestoreProgress): void;
}

/** Epoch, journal, blobs, the mark: the restore is whole when it resolves. */
export async function finishRestore(parts: FinishParts): Promise<RestoreResult> {
  const { database, storage, place, point, before, rows, signal } = parts;
  const leases = before.leases.flatMap(({ name, owner, due_tick }): WantedLease[] => {
    const ticks = due_tick - (before.tick ?? 0);
    return ticks < 0 ? [] : [{ name, owner, ticks }];
  });
  const atLeast = Math.max(before.epoch ?? 0, await highestEpoch(storage.records)) + 1;
  await database.run(restoreEpoch, { atLeast, leases });
  failpoint('recover.epoch.after');
  const say = (phase: RestoreProgress['phase'], counts?: SettleCounts): void =>
    parts.onProgress({
      ...{ phase, rows, allRows: rows, blobs: counts?.blobs ?? 0 },
      ...{ copied: counts?.copied ?? 0, copiedBytes: counts?.copiedBytes ?? 0 },
    });
  say('journal');
  // Behind the epoch: whoever still deletes for the former database has written its journal before it reads the epoch.
  const journal = await loadJournal(database, storage);
  failpoint('recover.journal.after');
  const isFresh = journal.keys === 0 && (await isEmpty(storage));
  const { lost, ...counts } = await settleBlobs({
    ...{ database, storage, place, isFresh, signal },
    onProgress: (counts) => say('blobs', counts),
  });
  const newerRepositories = await mirrorAgain(database, storage);
  const named = await whoNeeds(database, lost);
  // The storage is that of the restored installation now, whoever had it before.
  await storage.records.put('installation', Buffer.from(point.installation));
  failpoint('recover.end.before');
  await database.run(restoreEnd, {});
  failpoint('recover.end.after');
  say('done');
  return {
    ...{ point: point.id, at: point.at, rows, blobs: counts, deadSince: journal.added, newerRepositories },
    ...{ lost: named, whole: counts.lostCount === 0 },
  };
}

/** The keys that storage says were deleted become dead. How many there are, and how many were new. */
export async function loadJournal(
  database: Database,
  storage: BlobStorage,
): Promise<{ readonly keys: number; readonly added: number }> {
  let [keys, added]: [number, number] = [0, 0];
  let batch: KeyOf[] = [];
  const flush = async (): Promise<void> => {
    if (batch.length > 0) added += await database.run(restoreDead, { keys: batch });
    batch = [];
  };
  for await (const { key } of readJournal(storage.records)) {
    const parsed = parseBlobKey(key);
    if (parsed === undefined) continue;
    keys++;
    batch.push({ digest: digestToBytes(parsed.digest), n: parsed.n });
    if (batch.length === BATCH) await flush();
  }
  await flush();
  return { keys, added };
}

async function isEmpty(storage: BlobStorage): Promise<boolean> {
  for await (const _ of storage.list()) return false;
  return true;
}

/** The index mirror in storage is of another time: every repository's is written again, also of those that are not there any more. */
export async function mirrorAgain(database: Database, storage: BlobStorage): Promise<readonly string[]> {
  const newer: string[] = [];
  const enqueue = async (names: readonly string[]): Promise<void> => {
    if (names.length === 0) return;
    const requests = names.map((name) => ({
      ...{ type: 'mirror.repository', key: name, payload: JSON.stringify({ repository: name }), runAt: null },
    }));
    await database.run(jobEnqueue, { requests });
  };
  for (let after = ''; ; ) {
    const rows: { name: string }[] = await database.query.all(
      'select name from repository where gone = 0 and name > ? order by name limit ?',
      after,
      BATCH,
    );
    await enqueue(rows.map(({ name }) => name));
    if (rows.length < BATCH) break;
    after = rows.at(-1)!.name;
  }
  for await (const record of storage.records.list(MIRROR_PREFIX)) {
    const name = repositoryOfTable(record);
    if (typeof name !== 'string') continue;
    const there = await database.query.get('select 1 as one from repository where gone = 0 and name = ?', name);
    if (there !== undefined) continue;
    if (newer.length < REPOSITORIES_NAMED) newer.push(name);
    await enqueue([name]);
  }
  return newer;
}

/** Which manifests name them; the first ten each. */
export async function whoNeeds(database: Database, lost: readonly Digest[]): Promise<readonly Lost[]> {
  const named: Lost[] = [];
  for (const digest of lost) {
    const rows: { name: string; digest: Uint8Array }[] = await database.query.all(
      `select r.name, m.digest from reference f join manifest m on m.id = f.manifest_id
       join repository r on r.id = m.repository_id where f.digest = ? and m.deleted_tick = 0 limit 10`,
      digestToBytes(digest),
    );
    named.push({ digest, neededBy: rows.map((row) => `${row.name}@${digestFromBytes(row.digest)}`) });
  }
  return named;
}
