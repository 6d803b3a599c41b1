/** A storage in memory that behaves as an object store does: no reads at positions, addresses instead. For tests. */
import type { BlobKey } from '../oci/names.ts';
import { memoryStorage } from './memory.ts';
import type { BlobStorage } from './storage.ts';

/** The storage, and what addresses it was asked for. */
export interface StreamingStorage extends BlobStorage {
  readonly asked: { readonly key: BlobKey; readonly seconds: number }[];
}

/** One of its own. */
export function streamingStorage(): StreamingStorage {
  const { openRandom: _, ...rest } = memoryStorage();
  const asked: { key: BlobKey; seconds: number }[] = [];
  return {
    ...rest,
    asked,
    async presign(key, { seconds }) {
      asked.push({ key, seconds });
      return `https://store.example/${key}?for=${seconds}`;
    },
  };
}
