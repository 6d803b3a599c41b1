/** Uploads that ended without anybody saying so: past their lifetime, or a file that a crash left without a row. */
import type { Database } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import type { Log } from '../kit/log.ts';
import { CLOSED, uploadExpire } from '../local/commands/upload-commands.ts';
import { readState } from '../local/upload-state.ts';
import type { UploadId } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';

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
export async function expireUploads({ database, storage, log }: ExpireParts, signal: AbortSignal): Promise<number> {
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
  if (ended > 0) log.info('ended uploads that were past their lifetime', { uploads: ended });
  return ended;
}

/**
 * Removes upload files that no row names; how many. Only at the start of the process that owns the data folder, before
 * it serves: then nobody is writing one.
 */
export async function sweepUploads({ database, storage, log }: ExpireParts): Promise<number> {
  const named = new Set<string>();
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
    if (rows.length < 1000) break;
    after = new Uint8Array(rows[rows.length - 1]!.id);
  }
  let removed = 0;
  for await (const file of storage.listUploads()) {
    if (named.has(file)) continue;
    await storage.discard(file, {});
    removed++;
  }
  if (removed > 0) log.info('removed files of uploads that a crash had left', { files: removed });
  return removed;
}
