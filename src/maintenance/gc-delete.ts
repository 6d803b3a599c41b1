/** The bytes of dead keys go: many in one request where storage can, else side by side. */
import { failpoint } from '../kit/failpoint.ts';
import type { Log } from '../kit/log.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestFromBytes } from '../oci/digest.ts';
import type { BlobKey } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import type { DeadKey } from './commands/gc-bytes.ts';

/** Keys that are deleted side by side. */
const AT_ONCE = 8;

/** Deletes them; gives those that are gone now and how many bytes they had. What fails is logged, and tried again by whoever takes it next. */
export async function deleteKeys(
  storage: BlobStorage,
  keys: readonly DeadKey[],
  log: Log,
  signal: AbortSignal,
): Promise<{ readonly gone: readonly DeadKey[]; readonly bytes: number }> {
  const named = keys.map((dead) => ({ dead, key: blobKey(digestFromBytes(dead.digest), dead.n) }));
  if (storage.deleteMany !== undefined) {
    failpoint('gc.delete.before');
    let deleted: ReadonlySet<BlobKey>;
    try {
      deleted = new Set(await storage.deleteMany(named.map(({ key }) => key)));
    } catch (error) {
      log.warn('could not delete the bytes of dead keys; they are tried again', {
        keys: keys.length,
        error: error as Error,
      });
      deleted = new Set();
    }
    failpoint('gc.delete.after');
    const gone = named.filter(({ key }) => deleted.has(key)).map(({ dead }) => dead);
    return { gone, bytes: gone.reduce((sum, { size }) => sum + (size ?? 0), 0) };
  }
  const gone: DeadKey[] = [];
  let bytes = 0;
  const waiting = named.values();
  const worker = async (): Promise<void> => {
    for (const { dead, key } of waiting) {
      if (signal.aborted) return;
      try {
        const size = dead.size ?? (await storage.stat(key))?.size ?? 0;
        failpoint('gc.delete.before');
        const was = await storage.delete(key);
        failpoint('gc.delete.after');
        if (was) bytes += size;
        gone.push(dead);
      } catch (error) {
        log.warn('could not delete the bytes of a dead key; they are tried again', { key, error: error as Error });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, named.length) }, worker));
  return { gone, bytes };
}
