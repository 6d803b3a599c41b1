import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { BlobKey } from '../../oci/names.ts';
import { type Bucket, memoryObjects } from './memory-store.testing.ts';
import { openObjectStorage } from './objects.ts';
import type { ObjectStore } from './store.ts';

const hex = createHash('sha256').update('bytes').digest('hex');
const KEY = `sha256/${hex.slice(0, 2)}/${hex}` as BlobKey;

test('where somebody else answers 404 to everything, no blob is taken for missing', async () => {
  const bucket: Bucket = new Map();
  const inner = memoryObjects(bucket);
  let stray = false;
  const store: ObjectStore = {
    ...inner,
    head: async (name, signal) => (stray ? undefined : inner.head(name, signal)),
    get: async (name, range, signal) => (stray ? undefined : inner.get(name, range, signal)),
    put: async (name, bytes, signal) => {
      if (!stray) await inner.put(name, bytes, signal);
    },
  };
  const storage = await openObjectStorage({ store });
  await storage.put(KEY, Buffer.from('bytes'));
  stray = true;
  for (const ask of [() => storage.stat(KEY), () => storage.read(KEY), () => storage.records.get('a')])
    await assert.rejects(ask, { name: 'FaultError', code: 'unavailable' });
  await assert.rejects(() => storage.ping(), { code: 'unavailable' });
  stray = false;
  await storage.ping();
  assert.equal((await storage.stat(KEY))?.size, 5);
  await storage.close();
});

test('what is missing is said to be missing, also when the object for readiness was removed', async () => {
  const bucket: Bucket = new Map();
  const storage = await openObjectStorage({ store: memoryObjects(bucket) });
  assert.equal(await storage.stat(KEY), undefined);
  bucket.clear();
  assert.equal(await storage.stat(KEY), undefined);
  await assert.rejects(storage.read(KEY), { code: 'corrupt' });
  bucket.clear();
  await storage.ping();
  assert.equal(bucket.size, 1);
  await storage.close();
});
