/** Another storage of the same layout as a source of healing: a backup's, or a replica of the bucket. */
import { createHasher } from '../kit/hash-stream.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestFromHex } from '../oci/digest.ts';
import type { BlobKey, Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import type { HealingSource } from './healing-source.ts';

/** Numbers of keys that are looked for: a higher one means that a blob was given up and pushed again as often. */
const NUMBERS = 16;

/** The source. `open` is called when it is first asked, and again where that failed; the source closes what it opened. */
export function storageHealingSource(name: string, open: () => Promise<BlobStorage>): HealingSource {
  let opened: Promise<BlobStorage> | undefined;
  const place = (): Promise<BlobStorage> => {
    opened ??= open().catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  return {
    name,
    async open(digest, size, _repositories, { signal }) {
      const storage = await place();
      const keys: BlobKey[] = [];
      for (let n = 0; n < NUMBERS; n++) {
        signal.throwIfAborted();
        const key = blobKey(digest, n);
        const stored = await storage.stat(key);
        if (stored !== undefined && (size === undefined || stored.size === size)) keys.push(key);
      }
      const key = keys.length > 1 ? await firstWhole(storage, keys, digest, signal) : keys[0];
      if (key === undefined) return undefined;
      const stream = await storage.read(key);
      // One that hangs is not waited for, so whoever reads cannot end it.
      signal.addEventListener('abort', () => stream.destroy(), { once: true });
      return stream as AsyncIterable<Uint8Array>;
    },
    async close() {
      await (await opened?.catch(() => undefined))?.close();
    },
  };
}

/** Of several keys, the first whose bytes are right; the last of them where none is, so that it is said why. */
async function firstWhole(
  storage: BlobStorage,
  keys: readonly BlobKey[],
  digest: Digest,
  signal: AbortSignal,
): Promise<BlobKey> {
  for (const key of keys) {
    const hasher = createHasher(algorithmOf(digest));
    for await (const chunk of (await storage.read(key)) as AsyncIterable<Uint8Array>) {
      signal.throwIfAborted();
      hasher.update(chunk);
    }
    if (digestFromHex(hasher.algorithm, hasher.digestHex()) === digest) return key;
  }
  return keys[keys.length - 1]!;
}
