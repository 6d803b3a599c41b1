/** Blobs that lie in an object store: addresses for clients that may have them, streams for the rest. */
import assert from 'node:assert/strict';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import type { BlobKey } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import { registryContract } from '../registry/registry.contract.ts';
import { blob, body, callAs, refused, repo } from '../registry/samples.testing.ts';
import { streamingStorage } from '../storage/streaming.testing.ts';
import { freshLocal } from './fresh.testing.ts';
import type { Redirect } from './parts.ts';

registryContract('local (an object store, SQLite)', () => freshLocal({ storage: streamingStorage() }));

const redirect: Redirect = { seconds: 60, allowed: ({ address }) => address !== '10.0.0.9' };
const at = (address: string): Call => ({
  ...callAs('user'),
  origin: { address, host: 'registry.example', method: 'GET' },
});
const large = blob('x'.repeat(100_000));
const small = blob('y'.repeat(50_000));

test('a large blob has an address for who asks from a network that is not excepted; jobs and small blobs have none', async () => {
  const storage = streamingStorage();
  const local = await freshLocal({ storage, redirect });
  try {
    const { store } = local;
    const call = callAs('user');
    for (const one of [large, small])
      await store.pushBlob(call, repo('a'), { digest: one.digest, size: one.bytes.length }, body(one.bytes));
    const sent = await store.getBlob(at('10.0.0.1'), repo('a'), large.digest);
    assert.match(sent.redirectUrl ?? '', /^https:\/\/store\.example\/sha256\/..\/[0-9a-f]{64}\?for=60$/);
    assert.deepEqual(sent.range, { start: 0, end: 100_000 });
    sent.close();
    const part = await store.getBlob(at('10.0.0.1'), repo('a'), large.digest, { start: 10, end: 20 });
    assert.notEqual(part.redirectUrl, undefined);
    part.close();
    assert.equal(storage.asked.length, 2);
    const { origin: _, ...ofJob } = call;
    for (const asking of [at('10.0.0.9'), ofJob]) {
      const served = await store.getBlob(asking, repo('a'), large.digest, { start: 99_990, end: 100_000 });
      assert.equal(served.redirectUrl, undefined);
      assert.equal((await buffer(served.open())).toString(), 'x'.repeat(10));
      served.close();
    }
    const inMemory = await store.getBlob(at('10.0.0.1'), repo('a'), small.digest);
    assert.equal(inMemory.bytes?.length, 50_000);
    inMemory.close();
    assert.equal(storage.asked.length, 2);
    await refused(store.getBlob(at('10.0.0.1'), repo('b'), large.digest), 'BLOB_UNKNOWN');
    assert.equal(storage.asked.length, 2);
  } finally {
    await local.close();
  }
});

test('bytes that are missing in the store are found before the answer begins, and the blob is pushed again', async () => {
  const storage = streamingStorage();
  const local = await freshLocal({ storage });
  try {
    const { store } = local;
    const call = callAs('user');
    const push = () =>
      store.pushBlob(call, repo('a'), { digest: large.digest, size: large.bytes.length }, body(large.bytes));
    await push();
    const keys: BlobKey[] = [];
    for await (const { key } of storage.list()) keys.push(key);
    await storage.delete(keys[0]!);
    await refused(store.getBlob(call, repo('a'), large.digest), 'BLOB_UNKNOWN');
    await refused(store.resolveBlob(call, repo('a'), large.digest), 'BLOB_UNKNOWN');
    await push();
    const again = await store.getBlob(call, repo('a'), large.digest);
    assert.equal((await buffer(again.open())).length, 100_000);
    again.close();
  } finally {
    await local.close();
  }
});
