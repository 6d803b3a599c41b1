/** S3: the contract over a real server, and what only an object store does. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import { CreateMultipartUploadCommand, ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import { blobKey } from '../../oci/blob-key.ts';
import { digestFromHex } from '../../oci/digest.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey, UploadId } from '../../oci/names.ts';
import { openStorage } from '../open.ts';
import { brokenBy, calm, keyOf, newUpload, pieces, rejectsWith, sample, storageContract } from '../storage.contract.ts';
import type { BlobStorage } from '../storage.ts';
import { s3Client } from './client.ts';
import { s3Objects } from './s3.ts';
import { type S3Server, startS3, TEST_SECRET, withS3 } from './server.testing.ts';

withS3('S3 storage', () => {
  let server: S3Server;
  before(async () => {
    server = await startS3();
  });
  after(() => server.stop());

  storageContract('S3', async () => ({
    storage: await openStorage(await server.bucket('contract')),
    remove: async () => {},
  }));
  storageContract('S3, below a prefix, fewest checksums', async () => ({
    storage: await openStorage(await server.bucket('prefixed', { prefix: 'a/b c/', checksums: 'whenRequired' })),
    remove: async () => {},
  }));

  describe('S3: what only an object store does', { concurrency: 4 }, () => {
    const opened: BlobStorage[] = [];
    async function open(bucket: string, more = {}): Promise<BlobStorage> {
      const storage = await openStorage(await server.bucket(bucket, more));
      opened.push(storage);
      return storage;
    }
    after(() => Promise.all(opened.map((storage) => storage.close())));

    test('70 MiB in odd chunks, broken off, taken over by another, committed by a third', async () => {
      const [one, two, three] = [await open('large'), await open('large'), await open('large')];
      const block = sample(100_003, 5);
      const total = 70 * 1024 * 1024 + 13;
      const bytes = (start: number, end: number): Buffer => {
        const parts: Buffer[] = [];
        for (let at = start; at < end; ) {
          const offset = at % block.length;
          const part = block.subarray(offset, offset + Math.min(block.length - offset, end - at));
          parts.push(part);
          at += part.length;
        }
        return Buffer.concat(parts);
      };
      const id = newUpload();
      const hash = createHash('sha256');
      const options = calm({ hash: { update: (part) => void hash.update(part) } });
      const begun = await one.begin(id, {});
      const cut = 41_234_567;
      const error = await brokenBy(one.append(id, begun, pieces(bytes(0, cut), 65_521, new Error('gone')), options));
      assert.equal(error.appended.size, cut);
      assert(JSON.stringify(error.appended.state).length <= 4096);
      // As `local` takes over: what is stored is copied into an upload of its own.
      const mine = newUpload();
      const old = await two.readUpload(id, error.appended);
      let at = await two.append(mine, await two.begin(mine, {}), old, calm());
      assert.equal(at.size, cut);
      at = await two.append(mine, at, pieces(bytes(cut, cut + 1000), 999), options);
      at = await two.append(mine, at, pieces(bytes(cut + 1000, total), 100_003), options);
      const key = blobKey(digestFromHex('sha256', hash.digest('hex')), 0);
      await three.commit(mine, at, key);
      const read = createHash('sha256');
      for await (const chunk of await one.read(key)) read.update(chunk as Buffer);
      assert.equal(read.digest('hex'), key.split('/')[2]);
      const range = { start: 40_000_000, end: 42_000_000 };
      assert(bytes(range.start, range.end).equals(await buffer(await one.read(key, range))));
      const ids: UploadId[] = [];
      for await (const listed of three.listUploads()) ids.push(listed);
      assert.deepEqual(new Set(ids), new Set([id, mine]));
      for (const left of ids) await three.discard(left, {});
      for await (const listed of three.listUploads()) assert.fail(listed);
    });

    test('open multiparts are found and aborted, and only those of this prefix', async () => {
      const settings = await server.bucket('multiparts', { prefix: 'mine/' });
      const client = await s3Client(settings);
      const names = ['mine/blobs/sha256/aa/x', 'mine/blobs/y', 'mine/uploads/a/segment-1', 'other/blobs/z', 'mine/x'];
      for (const Key of names) await client.send(new CreateMultipartUploadCommand({ Bucket: settings.bucket, Key }));
      const store = await s3Objects(settings);
      const signal = new AbortController().signal;
      assert.equal(await store.removeUnfinished!(Date.now() - 3_600_000, signal), 0);
      assert.equal(await store.removeUnfinished!(Date.now() + 3_600_000, signal), 3);
      const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: settings.bucket }));
      assert.deepEqual(Uploads?.map(({ Key }) => Key).sort(), ['mine/x', 'other/blobs/z']);
      const storage = await open('multiparts', { prefix: 'mine/' });
      for await (const id of storage.idleUploads!(86_400_000)) assert.fail(id);
      client.destroy();
      store.close();
    });

    test('wrong credentials and a missing bucket are told apart, without the secret', async () => {
      await server.bucket('guarded');
      const wrong = { accessKeyId: 'nobody', secretAccessKey: 'another-secret-that-must-not-show' };
      for (const [bucket, more, says] of [
        ['guarded', { secretAccessKey: wrong.secretAccessKey }, /secret access key does not belong/],
        ['guarded', wrong, /access key id is not known/],
      ] as const) {
        const settings = await server.bucket(bucket, more);
        await assert.rejects(openStorage(settings), (error: unknown) => {
          assert(error instanceof FaultError);
          assert.equal(error.code, 'unavailable');
          assert.match(error.message, says);
          assert.doesNotMatch(inspect(error, { depth: 20, showHidden: true }), /must-not-show|AWS4-HMAC/);
          return true;
        });
      }
      const nowhere = { ...(await server.bucket('guarded')), bucket: 'nowhere-at-all' };
      await assert.rejects(openStorage(nowhere), /bucket does not exist/);
      await assert.rejects(openStorage({ ...nowhere, ca: '/nowhere/ca.pem' }), /`ca` of the storage configuration/);
    });

    test('a bucket that goes away is unavailable: no blob of it is taken for missing', async () => {
      const storage = await open('leaving');
      const key = keyOf(sample(10));
      await storage.put(key, sample(10));
      await rename(join(server.root, 'leaving'), join(server.root, '..', 'left'));
      await new Promise((resolve) => setTimeout(resolve, 1050));
      await rejectsWith('unavailable', () => storage.stat(key));
      await rejectsWith('unavailable', () => storage.read(key));
      await rejectsWith('unavailable', () => storage.ping());
      await rename(join(server.root, '..', 'left'), join(server.root, 'leaving'));
      await storage.ping();
      assert.equal((await storage.stat(key))?.size, 10);
    });

    test('a presigned address: whole, in a range, with a name; it expires, and shows no secret', async () => {
      const storage = await open('signed');
      const bytes = sample(100_000, 9);
      await storage.put(keyOf(bytes), bytes);
      const short = (await storage.presign!(keyOf(bytes), { seconds: 1 }))!;
      const url = (await storage.presign!(keyOf(bytes), { seconds: 60, filename: 'a "b"\r\nc.tar' }))!;
      assert(!url.includes(TEST_SECRET));
      const whole = await fetch(url);
      assert.equal(whole.status, 200);
      assert.equal(whole.headers.get('content-type'), 'application/octet-stream');
      assert.equal(whole.headers.get('content-disposition'), 'attachment; filename="a _b___c.tar"');
      assert(bytes.equals(Buffer.from(await whole.arrayBuffer())));
      const part = await fetch(url, { headers: { range: 'bytes=10-19' } });
      assert.equal(part.status, 206);
      assert(bytes.subarray(10, 20).equals(Buffer.from(await part.arrayBuffer())));
      for (;;) {
        const answer = await fetch(short);
        await answer.arrayBuffer();
        if (answer.status === 403) break;
        assert.equal(answer.status, 200);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    });

    test('prefixes in one bucket do not see one another', async () => {
      const all = await Promise.all(['', 'a/', 'a/b/', 'ab/'].map((prefix) => open('shared', { prefix })));
      for (const [i, storage] of all.entries()) {
        await storage.put(keyOf(sample(100 + i)), sample(100 + i));
        await storage.records.put(`r/${i}`, sample(10));
        const id = `up-${i}` as UploadId;
        await storage.append(id, await storage.begin(id, {}), pieces(sample(50), 10), calm());
      }
      for (const [i, storage] of all.entries()) {
        const seen: string[] = [];
        for await (const { key } of storage.list()) seen.push(key);
        for await (const name of storage.records.list('')) seen.push(name);
        for await (const id of storage.listUploads()) seen.push(id);
        assert.deepEqual(seen, [keyOf(sample(100 + i)), `r/${i}`, `up-${i}`]);
      }
      await all[1]!.discard('up-2' as UploadId, {});
      for await (const id of all[2]!.listUploads()) assert.equal(id, 'up-2');
    });

    test('2,300 objects: pages, shards, strangers passed over, deleted in batches', async () => {
      const storage = await open('many');
      const keys: BlobKey[] = [];
      const folder = (name: string): string => join(server.root, 'many', 'blobs', 'sha256', name);
      for (const shard of ['00', '7f']) await mkdir(folder(shard), { recursive: true });
      for (let i = 0; i < 2300; i++) {
        const hex = `${i % 2 === 0 ? '00' : '7f'}${i.toString(16).padStart(62, '0')}`;
        keys.push(blobKey(digestFromHex('sha256', hex), 0));
      }
      await Promise.all(keys.map((key) => writeFile(join(server.root, 'many', 'blobs', key), 'x')));
      await writeFile(join(folder('00'), 'stray'), 'x');
      const listed = async (shard?: string): Promise<string[]> => {
        const found: string[] = [];
        for await (const { key, size } of storage.list(shard)) {
          assert.equal(size, 1);
          found.push(key);
        }
        return found.sort();
      };
      assert.deepEqual(await listed(), [...keys].sort());
      assert.deepEqual(await listed('7f'), keys.filter((key) => key.startsWith('sha256/7f')).sort());
      const gone = await storage.deleteMany!([...keys, keyOf(sample(1))]);
      assert.equal(gone.length, 2301);
      assert.deepEqual(await listed(), []);
    });
  });
});
