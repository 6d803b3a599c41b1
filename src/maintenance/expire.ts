/** Uploads that ended without anybody saying so: past their lifetime, or a file that a crash left without a row. */
import type { Database } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import type { Log } from '../kit/log.ts';
import { CLOSED, uploadExpire } from '../local/commands/upload-commands.ts';
import { readState } from '../local/upload-state.ts';
import type { UploadId } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { uploadLeftovers, uploadLeftoversDue } from './commands/upload-leftovers.ts';

/** What both need. */
export interface ExpireParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly log: Log;
}

function fileOf(state: string): { file: UploadId; storage: Readonly<Record<string, string | number>> } | undefined {
  if (state === CLOSED) return undefined;
  const read = readState(state);
  return read.kind === 'file' ? read : undefined;
}

/** Ends every upload that is past its lifetime; how many. Row first, file second: a crash between leaves a file for `sweepUploads`. */
export async function expireUploads(parts: ExpireParts, signal: AbortSignal): Promise<number> {
  const { database, storage, log } = parts;
  let ended = 0;
  while (!signal.aborted) {
    failpoint('expire.commit.before');
    const due = await database.run(uploadExpire, {}, { lane: 'job' });
    failpoint('expire.commit.after');
    for (const { state } of due) {
      const stored = fileOf(state);
      if (stored !== undefined) await storage.discard(stored.file, stored.storage);
    }
    ended += due.length;
    if (due.length === 0) break;
  }
  if (database.shared && !signal.aborted) await sweepLeftovers(parts, signal);
  if (ended > 0) log.info('ended uploads that were past their lifetime', { uploads: ended });
  return ended;
}

/**
 * Removes upload files that no row names; how many. Only at the start of the process that owns the data folder, before
 * it serves: then nobody is writing one. Where other servers share the database, they may be: then it does nothing,
 * and `sweepLeftovers` looks in time.
 */
export async function sweepUploads(parts: ExpireParts): Promise<number> {
  const { database, storage, log } = parts;
  if (database.shared) return 0;
  const named = await namedFiles(parts);
  let removed = 0;
  for await (const file of storage.listUploads()) {
    if (named.has(file)) continue;
    await storage.discard(file, {});
    removed++;
  }
  // What commits left that never ended, on an object store; no file of an upload is older than its row.
  if (storage.idleUploads !== undefined) for await (const _ of storage.idleUploads(A_DAY));
  if (removed > 0) log.info('removed files of uploads that a crash had left', { files: removed });
  return removed;
}

/** Nothing that a running request writes is untouched for so long, milliseconds. */
const A_DAY = 86_400_000;
/** Files that one look takes up; what is beyond comes when these are gone. */
const FILES = 10_000;

/** The same while other servers write, where a look is due: a file goes that had no row a grace ago and has none now. */
async function sweepLeftovers(parts: ExpireParts, signal: AbortSignal): Promise<void> {
  const { database, storage, log } = parts;
  if (!(await database.run(uploadLeftoversDue, {}, { lane: 'job' }))) return;
  const files: UploadId[] = [];
  // An object store tells which have been touched lately, and removes on the way what commits left that never ended.
  for await (const file of storage.idleUploads?.(A_DAY) ?? storage.listUploads()) {
    if (signal.aborted) return;
    if (files.push(file) === FILES) break;
  }
  // Rows after files: a row that comes meanwhile is seen.
  const named = await namedFiles(parts);
  const unnamed = files.filter((file) => !named.has(file));
  const old = await database.run(uploadLeftovers, { unnamed }, { lane: 'job' });
  for (const file of old) await storage.discard(file as UploadId, {});
  if (old.length > 0) log.info('removed files of uploads that a crash had left', { files: old.length });
}

async function namedFiles({ database }: ExpireParts): Promise<ReadonlySet<UploadId>> {
  const named = new Set<UploadId>();
  let after = new Uint8Array(0);
  for (;;) {
    const rows = await database.query.all<{ id: Uint8Array; state: string }>(
      'select id, state from upload where id > ? order by id limit 1000',
      after,
    );
    for (const { state } of rows) {
      const stored = fileOf(state);
      if (stored !== undefined) named.add(stored.file);
    }
    if (rows.length < 1000) return named;
    after = new Uint8Array(rows[rows.length - 1]!.id);
  }
}
