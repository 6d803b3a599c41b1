/** S3 behind an endpoint that hangs, resets, refuses, loses answers and lies. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import { FaultError } from '../../oci/error.ts';
import { type Breakage, type BrokenProxy, brokenProxy } from '../objects/broken-proxy.testing.ts';
import { openStorage } from '../open.ts';
import { brokenBy, calm, keyOf, newUpload, pieces, rejectsWith, sample } from '../storage.contract.ts';
import type { BlobStorage } from '../storage.ts';
import { s3Objects } from './s3.ts';
import { type S3Server, startS3, withS3 } from './server.testing.ts';

/** Many bytes without much work: the time limits of requests run while this process is busy. */
function large(size: number, seed: number): Buffer {
  return Buffer.alloc(size, sample(Math.min(size, 65_521), seed));
}

withS3('S3 storage that fails', () => {
  describe('S3: failures', { concurrency: 3 }, () => {
    let server: S3Server;
    const stops: (() => Promise<void>)[] = [];
    let buckets = 0;
    before(async () => {
      server = await startS3();
    });
    after(async () => {
      for (const stop of stops.reverse()) await stop();
      await server.stop();
    });

    async function open(): Promise<{ storage: BlobStorage; proxy: BrokenProxy }> {
      const proxy = await brokenProxy(server.endpoint);
      const settings = await server.bucket(`bucket-${++buckets}`);
      const storage = await openStorage({ ...settings, endpoint: proxy.endpoint });
      stops.push(
        () => proxy.stop(),
        () => storage.close(),
      );
      return { storage, proxy };
    }

    const isCopy = (request: IncomingMessage): boolean => request.headers['x-amz-copy-source'] !== undefined;
    /** The first so many requests that match break, the others pass. */
    function first(count: number, breakage: Breakage, matches: (request: IncomingMessage) => boolean) {
      let left = count;
      return (request: IncomingMessage): Breakage => (matches(request) && left-- > 0 ? breakage : 'pass');
    }

    for (const breakage of ['hang', 'reset', { status: 500 }, { status: 503 }] as const) {
      test(`${inspect(breakage)}: every call is unavailable, tried a few times, and works again at once`, async () => {
        const { storage, proxy } = await open();
        const bytes = sample(1000);
        const key = keyOf(bytes);
        await storage.put(key, bytes);
        const id = newUpload();
        const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 100), calm());
        proxy.rule = () => breakage;
        proxy.seen.length = 0;
        const calls: (() => Promise<unknown>)[] = [
          () => storage.stat(key),
          () => storage.read(key),
          () => storage.put(key, bytes),
          () => storage.delete(key),
          () => storage.deleteMany!([key]),
          () => storage.commit(id, at, keyOf(bytes, 'sha512')),
          () => storage.records.get('a'),
          () => storage.records.put('a', bytes),
          () => storage.ping(),
        ];
        // A listing and an append have longer limits than this test.
        if (breakage === 'hang') calls.splice(4, 1);
        else {
          calls.push(async () => {
            for await (const _ of storage.list()) assert.fail();
          });
        }
        await Promise.all(calls.map((call) => rejectsWith('unavailable', call)));
        assert(proxy.seen.length <= calls.length * 3, `${proxy.seen.length} requests`);
        if (breakage !== 'hang') {
          const error = await brokenBy(storage.append(id, at, pieces(bytes, 100), calm()));
          assert.deepEqual(error.appended, at);
        }
        proxy.rule = () => 'pass';
        await storage.ping();
        await storage.commit(id, at, keyOf(bytes, 'sha512'));
        assert(bytes.equals(await buffer(await storage.read(keyOf(bytes, 'sha512')))));
        assert.notEqual(await storage.stat(key), undefined);
      });
    }

    test('a refusal once, a reset once, an answer lost once: the request is made again', async () => {
      const { storage, proxy } = await open();
      const conflict = {
        status: 409,
        body: '<?xml version="1.0"?><Error><Code>OperationAborted</Code><Message>Try again.</Message></Error>',
      };
      for (const breakage of [{ status: 503 }, { status: 500 }, conflict, 'reset', 'lost-answer'] as const) {
        const bytes = sample(5000, 3);
        const key = keyOf(bytes);
        proxy.rule = first(1, breakage, ({ method }) => method === 'PUT');
        await storage.put(key, bytes);
        proxy.rule = first(1, breakage, ({ method }) => method === 'GET');
        assert(bytes.equals(await buffer(await storage.read(key))));
        proxy.rule = first(1, breakage, ({ method }) => method === 'DELETE');
        assert.equal(await storage.delete(key), true);
        assert.equal(await storage.stat(key), undefined);
      }
    });

    test('answers to PUT that are always lost: unavailable, and once more is fine', async () => {
      const { storage, proxy } = await open();
      const bytes = sample(300_000, 4);
      proxy.rule = ({ method }) => (method === 'PUT' ? 'lost-answer' : 'pass');
      await rejectsWith('unavailable', () => storage.put(keyOf(bytes), bytes));
      const id = newUpload();
      const begun = await storage.begin(id, {});
      const error = await brokenBy(storage.append(id, begun, pieces(bytes, 65_536), calm()));
      assert.equal(error.appended.size, 0);
      proxy.rule = () => 'pass';
      await storage.put(keyOf(bytes), bytes);
      const at = await storage.append(id, error.appended, pieces(bytes, 65_536), calm());
      await storage.commit(id, at, keyOf(bytes, 'sha256', 1));
      await storage.discard(id, {});
      for await (const left of storage.listUploads()) assert.fail(left);
    });

    test('the answer to the copy, or to the completion of many, is lost: the commit finds its bytes', async () => {
      const { storage, proxy } = await open();
      for (const size of [10_000, 12_000_000]) {
        const bytes = large(size, 6);
        const id = newUpload();
        const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 65_536), calm());
        proxy.rule = (request) => {
          const completes = request.method === 'POST' && request.url!.includes('uploadId=');
          return completes || (size < 20_000 && isCopy(request)) ? 'lost-answer' : 'pass';
        };
        assert.equal((await storage.commit(id, at, keyOf(bytes))).size, size);
        proxy.rule = () => 'pass';
        assert(bytes.equals(await buffer(await storage.read(keyOf(bytes)))));
      }
    });

    test('a part that cannot be copied: the multipart is aborted, the key stays free, once more works', async () => {
      const { storage, proxy } = await open();
      const bytes = large(12_000_000, 7);
      const id = newUpload();
      const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 65_536), calm());
      proxy.rule = (request) => (isCopy(request) && request.url!.includes('partNumber=2') ? { status: 500 } : 'pass');
      await rejectsWith('unavailable', () => storage.commit(id, at, keyOf(bytes)));
      assert.equal(proxy.seen.filter((line) => line.startsWith('DELETE')).length, 1);
      assert.equal(await storage.stat(keyOf(bytes)), undefined);
      proxy.rule = () => 'pass';
      await storage.commit(id, at, keyOf(bytes));
      assert(bytes.equals(await buffer(await storage.read(keyOf(bytes)))));
    });

    test('a body that is cut or whose bytes are missing is an error, never a short success', async () => {
      const { storage, proxy } = await open();
      const bytes = large(3_000_000, 8);
      const id = newUpload();
      const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 65_536), calm());
      await storage.commit(id, at, keyOf(bytes));
      proxy.rule = ({ method }) => (method === 'GET' ? 'cut-body' : 'pass');
      await rejectsWith('unavailable', async () => buffer(await storage.read(keyOf(bytes))));
      await rejectsWith('unavailable', async () => buffer(await storage.readUpload(id, at)));
      await storage.records.put('r', bytes);
      await rejectsWith('unavailable', () => storage.records.get('r'));
      proxy.rule = () => 'pass';
      await storage.discard(id, {});
      await rejectsWith('corrupt', async () => buffer(await storage.readUpload(id, at)));
      await rejectsWith('corrupt', () => storage.commit(id, at, keyOf(bytes, 'sha512')));
    });

    test('a quota is full; no answer shows a signature', async () => {
      const { storage, proxy } = await open();
      const body = '<Error><Code>QuotaExceeded</Code><Message>X-Amz-Signature=abc</Message></Error>';
      for (const [status, text, code] of [
        [403, body, 'full'],
        [507, '', 'full'],
        [403, '', 'unavailable'],
        [400, '<Error><Code>In valid\n</Code></Error>', 'unavailable'],
        [301, '<Error><Code>PermanentRedirect</Code></Error>', 'unavailable'],
      ] as const) {
        proxy.rule = () => ({ status, body: text });
        await assert.rejects(storage.put(keyOf(sample(5)), sample(5)), (error: unknown) => {
          assert(error instanceof FaultError);
          assert.equal(error.code, code, error.message);
          assert.doesNotMatch(inspect(error, { depth: 20, showHidden: true }), /Signature=|AWS4-HMAC|must-not-show/);
          return true;
        });
      }
    });

    test('encryption goes with everything, the storage class with blobs only', async () => {
      const proxy = await brokenProxy(server.endpoint);
      const settings = await server.bucket('attributes');
      const storage = await openStorage({ ...settings, endpoint: proxy.endpoint });
      const store = await s3Objects({
        ...settings,
        endpoint: proxy.endpoint,
        serverSideEncryption: 'aws:kms',
        kmsKeyId: 'key-1',
        storageClass: 'STANDARD_IA',
      });
      stops.push(
        () => proxy.stop(),
        () => storage.close(),
        async () => store.close(),
      );
      const headers = new Map<string, IncomingMessage['headers']>();
      proxy.rule = (request) => {
        headers.set(`${request.method} ${request.url!.split(/[?]/)[0]}`, request.headers);
        return { status: 400 };
      };
      const signal = new AbortController().signal;
      const source = { name: 'uploads/a/b', size: 5 * 1024 * 1024 };
      for (const job of [
        () => store.put('blobs/put', new Uint8Array(1), signal),
        () => store.put('uploads/put', new Uint8Array(1), signal),
        () => store.join('blobs/copied', [source], '', signal),
        () => store.join('blobs/joined', [source, source], '', signal),
        () => store.join('uploads/joined', [source, source], '', signal),
      ]) {
        await rejectsWith('unavailable', job);
      }
      const want = ['PUT put blobs', 'PUT put uploads', 'PUT copied blobs', 'POST joined blobs', 'POST joined uploads'];
      for (const [method, name, folder] of want.map((line) => line.split(' '))) {
        const sent = headers.get(`${method} /attributes/${folder}/${name}`)!;
        assert.equal(sent['x-amz-server-side-encryption'], 'aws:kms');
        assert.equal(sent['x-amz-server-side-encryption-aws-kms-key-id'], 'key-1');
        assert.equal(sent['x-amz-storage-class'], folder === 'blobs' ? 'STANDARD_IA' : undefined);
      }
    });

    test("without keys the SDK's chain is asked: the environment here; nobody at all is said clearly", async () => {
      const { accessKeyId, secretAccessKey, ...bare } = await server.bucket('chain');
      const nobody = {
        AWS_EC2_METADATA_DISABLED: 'true',
        AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
        AWS_CONFIG_FILE: '/dev/null',
      };
      Object.assign(process.env, nobody);
      await assert.rejects(openStorage(bare), /no credentials were found/);
      Object.assign(process.env, { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey });
      try {
        const storage = await openStorage(bare);
        await storage.ping();
        assert.match((await storage.presign!(keyOf(sample(1)), { seconds: 5 })) ?? '', /X-Amz-Expires=5/);
        await storage.close();
      } finally {
        for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', ...Object.keys(nobody)])
          delete process.env[name];
      }
    });

    test('forged listings: endless, of strangers, of sizes that are none, no listing at all', async () => {
      const { storage, proxy } = await open();
      const key = (n: number): string => keyOf(sample(1), 'sha256', n);
      const entry = (name: string, size: string): string =>
        `<Contents><Key>${name}</Key><Size>${size}</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`;
      const page = (inner: string, token?: string): string =>
        `<ListBucketResult><IsTruncated>${token !== undefined}</IsTruncated>${
          token === undefined ? '' : `<NextContinuationToken>${token}</NextContinuationToken>`
        }${inner}</ListBucketResult>`;
      const all = async (): Promise<number> => {
        let count = 0;
        for await (const _ of storage.list()) count++;
        return count;
      };
      for (const body of [
        page(entry(`blobs/${key(0)}`, '1'), 'again'),
        page(entry('others/secret', '1')),
        page(entry(`blobs/${key(0)}`, '-1')),
        page(entry(`blobs/${key(0)}`, '1e999')),
        page(entry(`blobs/${key(0)}`, 'many')),
        '<ListBucketResult><Contents>',
        'not even XML',
      ]) {
        proxy.rule = () => ({ status: 200, body });
        await assert.rejects(all(), (error: unknown) => error instanceof FaultError, body.slice(0, 200));
      }
      const many = Array.from({ length: 20_000 }, (_, n) => entry(`blobs/${key(n)}`, '1')).join('');
      proxy.rule = () => ({ status: 200, body: page(many) });
      assert.equal(await all(), 20_000);
    });
  });
});
