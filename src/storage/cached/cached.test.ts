/** The blob cache: the contract of every storage, and what only a cache can get wrong. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { systemClock } from '../../kit/clock.ts';
import { noMetrics } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey } from '../../oci/names.ts';
import { memoryStorage } from '../memory.ts';
import { keyOf, rejectsWith, sample, storageContract } from '../storage.contract.ts';
import type { BlobStorage } from '../storage.ts';
import { streamingStorage } from '../streaming.testing.ts';
import { withBlobCache } from './cached.ts';

const MIB = 2 ** 20;

function cacheOver(inner: BlobStorage, folder: string, maxBytes = 64 * MIB): Promise<BlobStorage> {
  return withBlobCache(inner, { folder, maxBytes, clock: systemClock, metrics: noMetrics });
}

storageContract('cached', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-cache-'));
  return {
    storage: await cacheOver(streamingStorage(), folder),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
});

/** A store that counts its reads; `gate` holds a read's bytes back, `spoil` changes them. */
function counting(spoil: (bytes: Buffer) => Buffer = (bytes) => bytes) {
  const inner = memoryStorage();
  const counted = { reads: 0, gate: Promise.resolve() };
  const storage: BlobStorage = {
    ...inner,
    async read(key, range) {
      counted.reads++;
      const bytes = spoil(await buffer(await inner.read(key, range)));
      const { gate } = counted;
      return Readable.from(
        (async function* () {
          yield bytes.subarray(0, bytes.length >> 1);
          await gate;
          yield bytes.subarray(bytes.length >> 1);
        })(),
        { objectMode: false },
      );
    },
  };
  return { storage, counted };
}

async function filesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  return names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Runs with a cache of its own. */
async function within(
  work: (cache: {
    readonly folder: string;
    open(inner: BlobStorage, maxBytes?: number): Promise<BlobStorage>;
  }) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-cache-'));
  try {
    await work({ folder, open: (inner, maxBytes) => cacheOver(inner, folder, maxBytes) });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function get(storage: BlobStorage, key: BlobKey, range?: { start: number; end: number }): Promise<Buffer> {
  return buffer(await storage.read(key, range));
}

describe('the blob cache', () => {
  test('the store is read once: by those who ask together, by ranges meanwhile, and after a restart', () =>
    within(async ({ open }) => {
      const { storage, counted } = counting();
      const bytes = sample(3 * MIB);
      const key = keyOf(bytes);
      await storage.put(key, bytes);
      let release = (): void => {};
      counted.gate = new Promise((resolve) => (release = resolve));
      const cache = await open(storage);
      const together = Promise.all([
        get(cache, key, { start: 0, end: bytes.length }),
        get(cache, key),
        get(cache, key, { start: 0, end: bytes.length }),
      ]);
      const streams = await Promise.race([together, new Promise((resolve) => setTimeout(resolve, 50))]);
      assert.equal(streams, undefined);
      const range = get(cache, key, { start: 1000, end: 2000 });
      assert.deepEqual(await range, bytes.subarray(1000, 2000));
      release();
      for (const got of await together) assert.deepEqual(got, bytes);
      assert.equal(counted.reads, 1);
      assert.deepEqual(await get(cache, key, { start: 5, end: 2 * MIB }), bytes.subarray(5, 2 * MIB));
      assert.equal(counted.reads, 1);
      const later = await open(storage);
      // Nothing is believed of a file that this process has not checked: a part of it is the store's to give.
      assert.deepEqual(await get(later, key, { start: 5, end: 9 }), bytes.subarray(5, 9));
      assert.equal(counted.reads, 2);
      assert.deepEqual(await get(later, key), bytes);
      assert.deepEqual(await get(later, key, { start: 5, end: 9 }), bytes.subarray(5, 9));
      assert.equal(counted.reads, 2);
    }));

  test('wrong bytes of the store never make a whole answer and are not kept', () =>
    within(async ({ folder, open }) => {
      const { storage } = counting((bytes) => {
        const wrong = Buffer.from(bytes);
        wrong[10] = wrong[10]! ^ 1;
        return wrong;
      });
      const bytes = sample(MIB);
      await storage.put(keyOf(bytes), bytes);
      const cache = await open(storage);
      await rejectsWith('corrupt', () => get(cache, keyOf(bytes)));
      await rejectsWith('corrupt', () => get(cache, keyOf(bytes)));
      assert.deepEqual(await filesIn(folder), []);
    }));

  test('a file that was changed on the disk is noticed after a restart, and asked for again', () =>
    within(async ({ folder, open }) => {
      const inner = memoryStorage();
      const bytes = sample(MIB);
      await inner.put(keyOf(bytes), bytes);
      await get(await open(inner), keyOf(bytes));
      const [path = ''] = await filesIn(folder);
      const changed = await readFile(path);
      changed[changed.length - 1] = changed[changed.length - 1]! ^ 1;
      await writeFile(path, changed);
      const cache = await open(inner);
      await rejectsWith('unavailable', () => get(cache, keyOf(bytes)));
      assert.deepEqual(await get(cache, keyOf(bytes)), bytes);
      await writeFile((await filesIn(folder))[0]!, 'short');
      assert.deepEqual(await get(cache, keyOf(bytes)), bytes);
      await rm(join(folder, (await readdir(folder)).find((name) => name !== 'tmp')!), { recursive: true });
      assert.deepEqual(await get(cache, keyOf(bytes)), bytes);
    }));

  test('it is never larger than it may be, forgets what was used longest ago, and leaves out what is too large', () =>
    within(async ({ folder, open }) => {
      const { storage, counted } = counting();
      const blobs = Array.from({ length: 6 }, (_, seed) => sample(300 * 1024, seed + 1));
      const large = sample(600 * 1024, 99);
      for (const bytes of [...blobs, large]) await storage.put(keyOf(bytes), bytes);
      const cache = await open(storage, MIB);
      for (const bytes of blobs) {
        assert.deepEqual(await get(cache, keyOf(bytes)), bytes);
        assert.deepEqual(await get(cache, keyOf(blobs[0]!)), blobs[0]);
      }
      assert.equal((await filesIn(folder)).length, 3);
      assert.equal(counted.reads, 6, 'the first, always used, was read once');
      assert.deepEqual(await get(cache, keyOf(large)), large);
      assert.equal((await filesIn(folder)).length, 3);
      const smaller = await open(storage, 400 * 1024);
      assert.equal((await filesIn(folder)).length, 1);
      await smaller.close();
    }));

  test('what is deleted is gone, whatever the cache has; what was never there is not asked of it', () =>
    within(async ({ folder, open }) => {
      const inner = memoryStorage();
      const bytes = sample(100_000);
      await inner.put(keyOf(bytes), bytes);
      const cache = await open(inner);
      await get(cache, keyOf(bytes));
      await inner.delete(keyOf(bytes));
      assert.equal(await cache.stat(keyOf(bytes)), undefined);
      await cache.delete(keyOf(bytes));
      await rejectsWith('corrupt', () => get(cache, keyOf(bytes)));
      assert.deepEqual(await filesIn(folder), []);
    }));

  test('a store that breaks off breaks every reader; a reader that leaves, or that never reads, breaks nobody', () =>
    within(async ({ folder, open }) => {
      const { storage, counted } = counting();
      const bytes = sample(MIB);
      await storage.put(keyOf(bytes), bytes);
      counted.gate = Promise.reject(new FaultError('unavailable', 'cut'));
      counted.gate.catch(() => undefined);
      const cache = await open(storage);
      const readers = [get(cache, keyOf(bytes)), get(cache, keyOf(bytes))];
      for (const reader of readers) await rejectsWith('unavailable', () => reader);
      counted.gate = Promise.resolve();
      const unread = await cache.read(keyOf(bytes));
      const left = await cache.read(keyOf(bytes));
      await new Promise((resolve) => left.once('data', resolve));
      left.destroy();
      unread.destroy();
      assert.deepEqual(await get(cache, keyOf(bytes)), bytes);
      const again = await cache.read(keyOf(bytes));
      again.destroy();
      await cache.close();
      assert.equal((await filesIn(folder)).length, 1);
    }));

  test('a folder that cannot be written costs nobody an answer', () =>
    within(async ({ folder, open }) => {
      const inner = memoryStorage();
      const bytes = sample(MIB);
      await inner.put(keyOf(bytes), bytes);
      const cache = await open(inner);
      await rm(folder, { recursive: true });
      assert.deepEqual(await get(cache, keyOf(bytes)), bytes);
    }));
});
