/** Azure Blob Storage: the contract over a server, and what only this driver can get wrong. */
import assert from 'node:assert/strict';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import { openStorage } from '../open.ts';
import type { AzureSettings } from '../settings.ts';
import { calm, keyOf, newUpload, pieces, rejectsWith, sample, storageContract } from '../storage.contract.ts';
import { type AzureServer, startAzure, withAzure } from './server.testing.ts';

withAzure('Azure Blob Storage', () => {
  let server: AzureServer;
  before(async () => {
    server = await startAzure();
  });
  after(() => server.stop());

  storageContract('Azure Blob Storage', async () => ({
    storage: await openStorage(await server.container('contract')),
    remove: async () => {},
  }));
  storageContract('Azure Blob Storage, below a prefix', async () => ({
    storage: await openStorage(await server.container('prefixed', { prefix: 'a/b/' })),
    remove: async () => {},
  }));

  test('an upload of several blocks is joined in order, also where the service reads no blobs by itself', async () => {
    const storage = await openStorage(await server.container('blocks'));
    const id = newUpload();
    let at = await storage.begin(id, {});
    const parts = [sample(20_000_000, 1), sample(3, 2), sample(9_000_000, 3), sample(70_000, 4)];
    for (const part of parts) at = await storage.append(id, at, pieces(part, 1_000_000), calm());
    const whole = Buffer.concat(parts);
    await storage.commit(id, at, keyOf(whole));
    assert.equal((await buffer(await storage.read(keyOf(whole)))).equals(whole), true);
    await storage.close();
  });

  test('an address works for whoever has it, with ranges, and ends', async () => {
    const storage = await openStorage(await server.container('signed'));
    const bytes = sample(1000);
    await storage.put(keyOf(bytes), bytes);
    const url = await storage.presign!(keyOf(bytes), { seconds: 60, filename: 'blob' });
    const answer = await fetch(url!, { headers: { range: 'bytes=10-19' } });
    assert.equal(answer.status, 206);
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes.subarray(10, 20));
    assert.match(answer.headers.get('content-disposition') ?? '', /attachment; filename="blob"/);
    const past = await storage.presign!(keyOf(bytes), { seconds: -30 });
    assert.equal((await fetch(past!)).status, 403);
    await storage.close();
  });

  test('what is wrong with the settings is said at the start, without the secret', async () => {
    const settings = await server.container('there');
    const secret = Buffer.from('a secret that must not be shown').toString('base64');
    const { accountKey: _, account: __, endpoint: ___, ...bare } = settings;
    const wrong: AzureSettings[] = [
      { ...settings, container: 'nowhere' },
      { ...settings, accountKey: secret },
      { ...settings, endpoint: 'http://127.0.0.1:1/x' },
      bare,
      { ...bare, connectionString: `AccountKey=${secret}` },
      { ...bare, endpoint: server.endpoint, accountKey: secret },
      { ...bare, endpoint: server.endpoint, sasToken: `sv=2024-01-01&sig=${secret}` },
    ];
    for (const one of wrong) {
      await rejectsWith('unavailable', () => openStorage(one));
      const error: unknown = await openStorage(one).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof FaultError && !JSON.stringify([error.message, error.cause]).includes(secret));
    }
  });
});
