/** Google Cloud Storage: the contract over a server, and what only this driver can get wrong. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { openStorage } from '../open.ts';
import { calm, keyOf, newUpload, pieces, rejectsWith, sample, storageContract } from '../storage.contract.ts';
import { type GcsServer, startGcs, withGcs } from './server.testing.ts';

withGcs('Google Cloud Storage', () => {
  let server: GcsServer;
  before(async () => {
    server = await startGcs();
  });
  after(() => server.stop());

  storageContract('Google Cloud Storage', async () => ({
    storage: await openStorage(await server.bucket('contract')),
    remove: async () => {},
  }));
  storageContract('Google Cloud Storage, below a prefix', async () => ({
    storage: await openStorage(await server.bucket('prefixed', { prefix: 'a/b/' })),
    remove: async () => {},
  }));

  test('an upload of more pieces than one compose takes is joined in rounds', async () => {
    const storage = await openStorage(await server.bucket('rounds'));
    const id = newUpload();
    let at = await storage.begin(id, {});
    const parts = Array.from({ length: 70 }, (_, seed) => sample(1000 + seed, seed + 1));
    for (const part of parts) at = await storage.append(id, at, pieces(part, 400), calm());
    const whole = Buffer.concat(parts);
    const key = keyOf(whole);
    await storage.commit(id, at, key);
    assert.deepEqual(await buffer(await storage.read(key)), whole);
    await storage.discard(id, at.state);
    const left: string[] = [];
    for await (const upload of storage.listUploads()) left.push(upload);
    assert.deepEqual(left, []);
    await storage.close();
  });

  test('an address works for whoever has it, with ranges, under the right name', async () => {
    const storage = await openStorage(await server.bucket('signed'));
    const bytes = sample(1000);
    await storage.put(keyOf(bytes), bytes);
    const url = await storage.presign!(keyOf(bytes), { seconds: 60, filename: 'blob' });
    const answer = await fetch(url!, { headers: { range: 'bytes=10-19' } });
    assert.equal(answer.status, 206);
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes.subarray(10, 20));
    assert.match(url!, /X-Goog-Expires=60\b/);
    await storage.close();
  });

  test('a bucket that is not there, a server that is not there, and a key file of another kind are said at the start', async () => {
    const settings = await server.bucket('there');
    await rejectsWith('unavailable', () => openStorage({ ...settings, bucket: 'nowhere' }));
    await rejectsWith('unavailable', () => openStorage({ ...settings, endpoint: 'http://127.0.0.1:1' }));
    const folder = await mkdtemp(join(tmpdir(), 'longshore-key-'));
    try {
      const keyFile = join(folder, 'key.json');
      for (const text of [
        '{',
        '{"type":"external_account","token_url":"http://127.0.0.1:1/"}',
        '{"type":"service_account"}',
      ]) {
        await writeFile(keyFile, text);
        await rejectsWith('unavailable', () => openStorage({ ...settings, keyFile }));
      }
      await rejectsWith('unavailable', () => openStorage({ ...settings, keyFile: join(folder, 'none') }));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
