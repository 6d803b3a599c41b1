/** Planted faults of object storage: what the core must do, and what the program must do because of what stores do. */
import type { ObjectStore } from '../../src/storage/objects/store.ts';
import type { BlobStorage } from '../../src/storage/storage.ts';
import { FAULTS } from './faults.ts';
import type { ObjectPlant } from './model-bucket.ts';
import type { Fault } from './model-database.ts';

/** A fault, in how many runs it must be caught, and what clients do where they would seldom meet it otherwise. */
export interface ObjectFault extends Fault, ObjectPlant {
  readonly within: number;
  readonly menu?: readonly string[];
  readonly size?: 'small' | 'large';
}

/** The pieces of every append have the same names, as the parts of one multipart have. */
const same = (name: string): string => name.replace(/^(uploads\/[^/]+\/)[A-Za-z0-9_-]{8}-(\d+)$/, '$1same-$2');

function samePieces(store: ObjectStore): ObjectStore {
  return {
    ...store,
    head: (name, signal) => store.head(same(name), signal),
    get: (name, range, signal) => store.get(same(name), range, signal),
    put: (name, bytes, signal) => store.put(same(name), bytes, signal),
    join: (to, sources, scratch, signal) =>
      store.join(
        to,
        sources.map(({ name, size }) => ({ name: same(name), size })),
        scratch,
        signal,
      ),
  };
}

const nothing = (): undefined => undefined;

const again = (name: string): ObjectFault => {
  const fault = FAULTS.find((one) => one.name === name);
  if (fault === undefined) throw new Error(`there is no planted fault "${name}"`);
  return { ...fault, menu: ['blob', 'blob', 'unlink'], size: 'large' };
};

/** All of them. */
export const OBJECT_FAULTS: readonly ObjectFault[] = [
  { name: 'the name of a piece is used again', within: 200, store: samePieces, nameOf: same },
  {
    name: 'a commit does not look whether the join made the object',
    within: 200,
    storage: (storage: BlobStorage) => ({
      ...storage,
      commit: (id, at, key) => storage.commit(id, at, key).catch(() => ({ key, size: at.size, modifiedAt: 0 })),
    }),
  },
  {
    name: 'a row is live before it is known whether the join made the object',
    within: 200,
    storage: (storage: BlobStorage) => ({
      ...storage,
      async commit(id, at, key) {
        void storage.commit(id, at, key).catch(nothing);
        return { key, size: at.size, modifiedAt: 0 };
      },
    }),
  },
  {
    name: 'the pieces of an upload go before the row is live',
    within: 400,
    storage: (storage: BlobStorage) => ({
      ...storage,
      async commit(id, at, key) {
        const stored = await storage.commit(id, at, key);
        await storage.discard(id, at.state).catch(nothing);
        return stored;
      },
    }),
  },
  {
    name: 'a piece counts as stored whatever the store answered',
    within: 400,
    menu: ['blob', 'blob', 'blob', 'unlink'],
    store: (store: ObjectStore) => ({
      ...store,
      put: (name, bytes, signal) =>
        name.startsWith('uploads/') ? store.put(name, bytes, signal).catch(nothing) : store.put(name, bytes, signal),
    }),
  },
  {
    name: 'a spill counts as stored whatever the store answered',
    within: 400,
    storage: (storage: BlobStorage) => ({
      ...storage,
      put: (key, bytes) => storage.put(key, bytes).catch(() => ({ key, size: bytes.length, modifiedAt: 0 })),
    }),
  },
  {
    name: 'a batch of deletes is taken for whole',
    within: 400,
    menu: ['blob', 'blob', 'unlink', 'push', 'delete'],
    store: (store: ObjectStore) => ({
      ...store,
      async deleteMany(names, signal) {
        await store.deleteMany(names, signal);
        return [];
      },
    }),
  },
  {
    name: 'joins that never ended are left lying',
    within: 200,
    store: (store: ObjectStore) => ({ ...store, removeUnfinished: async () => 0 }),
  },
  {
    name: 'what was written of an upload after its row went is left lying',
    within: 400,
    storage: (storage: BlobStorage) => ({ ...storage, async *idleUploads() {}, async *listUploads() {} }),
  },
  {
    name: 'whoever lost its claim of an upload may say what it wrote',
    within: 1_000,
    menu: ['blob'],
    rewrite: [
      [
        'update upload set size = ?, state = ?, fence = fence + 1, claimed = ?, due_tick = ? where id = ? and fence = ?',
        'update upload set size = ?, state = ?, fence = fence + 1, claimed = ?, due_tick = ? where id = ? and ? is not null',
      ],
    ],
  },
  again('a key is used again once its bytes are gone'),
  again('bytes always go to the plain key'),
  again('a push makes the row live whatever its key'),
];
