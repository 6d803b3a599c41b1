import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { useNative } from '../../kit/ffi.ts';
import { createHasher } from '../../kit/hash-stream.ts';
import { blobKey } from '../../oci/blob-key.ts';
import { digestFromHex } from '../../oci/digest.ts';
import { openStorage } from '../open.ts';
import { calm, keyOf, newUpload, pieces, rejectsWith, sample, storageContract } from '../storage.contract.ts';
import { openFsStorage } from './fs.ts';

const folder = (): Promise<string> => fs.mkdtemp(path.join(os.tmpdir(), 'longshore-fs-'));
const gone = (root: string): Promise<void> => fs.rm(root, { recursive: true, force: true });

for (const durability of ['full', 'relaxed'] as const) {
  storageContract(`files, ${durability}`, async () => {
    const root = await folder();
    return {
      storage: await openStorage({ driver: 'fs', root: path.join(root, 'deep', 'place'), durability }),
      remove: () => gone(root),
    };
  });
}

describe('the files', () => {
  let root: string;
  before(async () => {
    root = await folder();
  });
  after(() => gone(root));

  test('lie where the layout says, for their owner only', async () => {
    const storage = await openFsStorage({ root, durability: 'full' });
    const bytes = sample(100);
    const id = newUpload();
    const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 10), calm());
    await storage.commit(id, at, keyOf(bytes));
    await storage.put(keyOf(bytes, 'sha512', 3), bytes);
    await storage.records.put('index/a.json', bytes);
    const hex = keyOf(bytes).slice(-64);
    for (const name of [
      `blobs/sha256/${hex.slice(0, 2)}/${hex}`,
      `blobs/${keyOf(bytes, 'sha512', 3)}`,
      `uploads/${id}`,
    ]) {
      const { mode } = await fs.stat(path.join(root, name));
      assert.equal(mode & 0o777, 0o600, name);
    }
    for (const entry of await fs.readdir(root, { recursive: true, withFileTypes: true })) {
      const { mode } = await fs.stat(path.join(entry.parentPath, entry.name));
      assert.equal(mode & 0o777, entry.isDirectory() ? 0o700 : 0o600, entry.name);
    }
    await storage.close();
  });

  test('stray files are passed over; a blob that lost bytes is corrupt, also while it is read', async () => {
    const storage = await openFsStorage({ root, durability: 'full' });
    const bytes = sample(600_000, 8);
    const key = keyOf(bytes);
    await storage.put(key, bytes);
    const file = path.join(root, 'blobs', key);
    await fs.writeFile(`${file}.bak`, 'x');
    await fs.writeFile(path.join(root, 'blobs', 'sha256', 'README'), 'x');
    await fs.writeFile(path.join(root, 'uploads', 'x.y'), 'x');
    const keys = [];
    for await (const blob of storage.list()) keys.push(blob.key);
    assert(keys.includes(key) && keys.every((listed) => !listed.includes('bak')));
    for await (const id of storage.listUploads()) assert(!id.includes('.'));
    const stream = await storage.read(key);
    await fs.truncate(file, 300_000);
    await rejectsWith('corrupt', async () => {
      for await (const _ of stream);
    });
    await rejectsWith('corrupt', () => storage.read(key, { start: 0, end: 600_000 }));
    await storage.close();
  });

  test('a start removes only temporary files that are old', async () => {
    const [old, young, upload] = ['a.tmp', 'b.tmp', 'upload1'].map((name) => path.join(root, 'uploads', name));
    for (const file of [old!, young!, upload!]) await fs.writeFile(file, 'x');
    for (const file of [old!, upload!]) await fs.utimes(file, 1, 1);
    await (await openFsStorage({ root, durability: 'full' })).close();
    await assert.rejects(fs.stat(old!), { code: 'ENOENT' });
    await fs.stat(young!);
    await fs.stat(upload!);
  });

  test('a root that is a file, or lies under one, is refused with FaultError', async () => {
    const file = path.join(root, 'plain');
    await fs.writeFile(file, '');
    await rejectsWith('unavailable', () => openFsStorage({ root: file, durability: 'full' }));
    await rejectsWith('unavailable', () => openFsStorage({ root: path.join(file, 'below'), durability: 'full' }));
  });

  for (const accelerated of [true, false]) {
    test(`64 MiB ${accelerated ? 'with' : 'without'} the accelerator: memory stays bounded`, async () => {
      useNative(accelerated);
      try {
        const storage = await openFsStorage({ root, durability: 'full' });
        const id = newUpload();
        const hash = createHasher('sha256');
        const part = sample(65_536, 9);
        let most = 0;
        async function* body(): AsyncGenerator<Uint8Array> {
          for (let i = 0; i < 1024; i++) {
            part.writeUInt32LE(i, 0);
            yield part;
            most = Math.max(most, process.memoryUsage().arrayBuffers);
          }
        }
        const start = process.memoryUsage().arrayBuffers;
        const at = await storage.append(id, await storage.begin(id, {}), body(), calm({ hash }));
        assert.equal(at.size, 64 * 1024 * 1024);
        assert.equal(hash.length, at.size);
        assert(most - start < 8 * 1024 * 1024, `${most - start} bytes of buffers`);
        const blob = await storage.commit(id, at, blobKey(digestFromHex('sha256', hash.digestHex()), 0));
        assert.equal(blob.size, at.size);
        const again = createHasher('sha256');
        for await (const chunk of await storage.read(blob.key)) again.update(chunk);
        assert.equal(again.digestHex(), hash.digestHex());
        await storage.discard(id, at.state);
        await storage.close();
      } finally {
        useNative(true);
      }
    });
  }

  test('2,000 appends and reads that break off leave no descriptor', async () => {
    const storage = await openFsStorage({ root, durability: 'relaxed' });
    const bytes = sample(900_000, 10);
    const key = keyOf(bytes);
    await storage.put(key, bytes);
    const open = async (): Promise<number> => (await fs.readdir('/proc/self/fd')).length;
    await fs.readdir('/proc/self/fd');
    const before = await open();
    for (let round = 0; round < 50; round++) {
      await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? brokenAppend(i) : brokenRead(i))));
    }
    await storage.close();
    assert.equal(await open(), before);

    async function brokenAppend(i: number): Promise<void> {
      const id = newUpload();
      const stop = new AbortController();
      async function* body(): AsyncGenerator<Uint8Array> {
        for (let part = 0; part <= i; part++) yield bytes.subarray(0, 20_000);
        if (i % 4 === 0) throw new Error('broken');
        stop.abort();
        await new Promise(() => undefined);
      }
      await assert.rejects(storage.append(id, await storage.begin(id, {}), body(), { signal: stop.signal }));
      await storage.discard(id, {});
    }
    async function brokenRead(i: number): Promise<void> {
      const stream = await storage.read(key);
      if (i % 3 === 0) stream.destroy();
      else if (i % 3 === 1) {
        stream.resume();
        setImmediate(() => stream.destroy());
      } else for await (const _ of stream) break;
      if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
    }
  });
});
