/** A fresh store for each test of the contract. */
import type { BlobSources, Store } from './registry.ts';

/** A freshly opened, empty store. */
export interface OpenStore {
  readonly store: Store & BlobSources;
  close(): Promise<void>;
}

/** Opens one for a test. */
export type OpenForTest = () => Promise<OpenStore>;

/** A test that runs `work` on a fresh store and closes it. */
export function onFresh(open: OpenForTest, work: (store: Store & BlobSources) => Promise<void>): () => Promise<void> {
  return async () => {
    const { store, close } = await open();
    try {
      await work(store);
    } finally {
      await close();
    }
  };
}
