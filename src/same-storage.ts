/**
 * Whether a storage belongs to a database that servers of several hosts share. One of them with a folder of its own
 * would find no bytes, and mark what the others serve as damaged: it does not start.
 */
import type { Database } from './database/database.ts';
import { blobKey } from './oci/blob-key.ts';
import { digestFromBytes } from './oci/digest.ts';
import { FaultError } from './oci/error.ts';
import type { BlobStorage } from './storage/storage.ts';

/** The record in storage with the installation's id. */
const RECORD = 'installation';
/** Stored blobs of which one must be there, where the storage has no record yet (it was moved from SQLite). */
const SAMPLES = 20;

/** Throws FaultError `unavailable` where they do not belong together; puts the record where it is missing. Nothing where the database is one process's own. */
export async function checkSameStorage(database: Database, storage: BlobStorage): Promise<void> {
  if (!database.shared) return;
  const installation = await database.query.get<{ uid: string }>('select uid from installation where id = 1');
  const uid = installation?.uid ?? '';
  const written = await storage.records.get(RECORD);
  if (written !== undefined) {
    if (Buffer.from(written).toString('utf8') === uid) return;
    throw new FaultError('unavailable', 'The storage belongs to another installation than the database. Set both.');
  }
  const blobs = await database.query.all<{ digest: Uint8Array; n: number }>(
    `select digest, n from blob where state = 'live' and stored = 1 order by digest limit ${SAMPLES}`,
  );
  let found = blobs.length === 0;
  for (const { digest, n } of blobs) found ||= (await storage.stat(blobKey(digestFromBytes(digest), n))) !== undefined;
  if (!found) {
    throw new FaultError(
      'unavailable',
      'The storage has none of the bytes that the database knows of: every server of one database needs the same storage (storage.fs.root on a shared folder, or an object store).',
    );
  }
  await storage.records.put(RECORD, Buffer.from(uid));
}
