/** Edge cases 34-42: blobs coming down. */
import assert from 'node:assert/strict';
import { globSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { bytesOf, digestOf, expectError, expectStatus, get, pushBlob, pushImage } from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask, eventually } from '../support/wire.ts';

const server = await open();

const small = bytesOf(1000);
const large = bytesOf(200_000);
const blobs = [
  ['inline', small, `/v2/blobs/x/blobs/${digestOf(small)}`],
  ['a file', large, `/v2/blobs/x/blobs/${digestOf(large)}`],
] as const;
await pushBlob(server, 'blobs/x', small);
await pushBlob(server, 'blobs/x', large);

describe('blobs', { concurrency: true }, () => {
  for (const [kind, bytes, path] of blobs) {
    it(`E34 HEAD of a blob (${kind}) has its length, digest and no body`, async () => {
      const probe = await ask(server, 'HEAD', path);
      expectStatus(probe, 200);
      assert.equal(probe.header('content-length'), String(bytes.length));
      assert.equal(probe.header('docker-content-digest'), digestOf(bytes));
      assert.equal(probe.header('content-type'), 'application/octet-stream');
      assert.equal(probe.body.length, 0);
      const read = await get(server, path);
      const without = (name: string): boolean => !['date', 'connection', 'keep-alive'].includes(name);
      const names = (answer: typeof read): string[] =>
        answer.rawHeaders
          .map(([n]) => n)
          .filter(without)
          .sort();
      assert.deepEqual(names(probe), names(read));
      for (const name of names(read)) {
        if (!/request-id|trace/.test(name)) assert.equal(probe.header(name), read.header(name), name);
      }
    });

    it(`E35 ranges of a blob (${kind})`, async () => {
      const size = bytes.length;
      const cases: [string, number, number][] = [
        ['bytes=0-0', 0, 1],
        ['bytes=0-99', 0, 100],
        ['bytes=10-19', 10, 20],
        [`bytes=${size - 1}-`, size - 1, size],
        ['bytes=500-', 500, size],
        ['bytes=-1', size - 1, size],
        ['bytes=-100', size - 100, size],
        [`bytes=-${size + 10}`, 0, size],
        [`bytes=10-${size + 1000}`, 10, size],
      ];
      for (const [range, start, end] of cases) {
        const part = await get(server, path, { range });
        expectStatus(part, 206);
        assert.equal(part.header('content-range'), `bytes ${start}-${end - 1}/${size}`, range);
        assert.equal(part.header('content-length'), String(end - start), range);
        assert.equal(part.header('accept-ranges'), 'bytes');
        assert.equal(part.header('docker-content-digest'), digestOf(bytes));
        assert.ok(part.body.equals(bytes.subarray(start, end)), range);
      }
      for (const range of [`bytes=${size}-`, `bytes=${size}-${size + 5}`, 'bytes=99999999999-', 'bytes=-0']) {
        const refused = await get(server, path, { range });
        expectError(refused, 416, 'RANGE_INVALID');
        assert.equal(refused.header('content-range'), `bytes */${size}`, range);
      }
      const probe = await ask(server, 'HEAD', path, { headers: { range: 'bytes=0-9' } });
      expectStatus(probe, 200);
      assert.equal(probe.header('content-length'), String(size));
    });

    it(`E36 malformed ranges (${kind}) are 416 or ignored, never an error of ours`, async () => {
      for (const range of [
        'bytes=',
        'bytes=a-b',
        'bytes=5-2',
        'bytes=-',
        'bytes=--5',
        'bytes=1-2-3',
        'bytes=1e3-',
        'bytes=0x1-',
      ]) {
        expectError(await get(server, path, { range }), 416, 'RANGE_INVALID');
      }
      for (const range of ['items=0-1', 'nonsense', 'seconds=1-2', '']) {
        const whole = await get(server, path, { range });
        expectStatus(whole, 200);
        assert.ok(whole.body.equals(bytes), range);
      }
    });

    it(`E37 a blob (${kind}) is never compressed on the way`, async () => {
      for (const encoding of ['gzip', 'gzip, deflate, br, zstd', '*', 'identity;q=0, gzip']) {
        const read = await get(server, path, { 'accept-encoding': encoding });
        expectStatus(read, 200);
        assert.equal(read.header('content-encoding'), '');
        assert.equal(read.header('content-length'), String(bytes.length));
        assert.ok(read.body.equals(bytes));
      }
    });

    it(`E38 the ETag of a blob (${kind}) is its digest; If-None-Match is 304`, async () => {
      const digest = digestOf(bytes);
      const read = await get(server, path);
      assert.equal(read.header('etag'), `"${digest}"`);
      assert.equal(read.header('cache-control'), 'private, max-age=31536000, immutable');
      for (const tag of [`"${digest}"`, `W/"${digest}"`, `"other", "${digest}"`, '*', digest]) {
        for (const method of ['GET', 'HEAD']) {
          const same = await ask(server, method, path, { headers: { 'if-none-match': tag } });
          expectStatus(same, 304);
          assert.equal(same.body.length, 0);
          assert.equal(same.header('docker-content-digest'), digest);
          assert.equal(same.header('etag'), `"${digest}"`);
        }
      }
      expectStatus(await get(server, path, { 'if-none-match': '"sha256:other"' }), 200);
    });

    it(`E39 If-Range and several ranges (${kind})`, async () => {
      const match = await get(server, path, { range: 'bytes=0-9', 'if-range': `"${digestOf(bytes)}"` });
      expectStatus(match, 206);
      for (const headers of [
        { range: 'bytes=0-9', 'if-range': '"sha256:other"' },
        { range: 'bytes=0-9', 'if-range': 'Wed, 21 Oct 2015 07:28:00 GMT' },
        { range: 'bytes=0-1,5-6' },
        { range: 'bytes=0-1, 5-6, -1' },
      ]) {
        const whole = await get(server, path, headers as unknown as Record<string, string>);
        expectStatus(whole, 200);
        assert.ok(whole.body.equals(bytes));
      }
    });

    it(`E40 files are served here: no redirect, and HEAD gives the length itself (${kind})`, async () => {
      expectStatus(await get(server, path), 200);
      const probe = await ask(server, 'HEAD', path);
      expectStatus(probe, 200);
      assert.equal(probe.header('location'), '');
    });
  }

  it('E35 any range of a blob without bytes is the whole of it', async () => {
    await pushBlob(server, 'blobs/x', '');
    const whole = await get(server, `/v2/blobs/x/blobs/${digestOf('')}`, { range: 'bytes=0-9' });
    expectStatus(whole, 200);
    assert.equal(whole.body.length, 0);
  });

  it('E41 a manifest is not a blob and a blob is no manifest, for GET and HEAD alike', async () => {
    const image = await pushImage(server, 'e41', 'v1');
    for (const method of ['GET', 'HEAD']) {
      assert.equal((await ask(server, method, `/v2/e41/blobs/${image.digest}`)).status, 404);
      assert.equal((await ask(server, method, `/v2/e41/manifests/${image.layerDigest}`)).status, 404);
    }
    expectError(await get(server, `/v2/e41/blobs/${image.digest}`), 404, 'BLOB_UNKNOWN');
    expectError(await get(server, `/v2/e41/manifests/${image.layerDigest}`), 404, 'MANIFEST_UNKNOWN');
  });

  it('E42 a blob whose file is too short never looks like a whole one', async () => {
    const bytes = bytesOf(1_234_567);
    const digest = await pushBlob(server, 'e42', bytes);
    const file = await eventually('the file of the blob is there', () =>
      globSync(join(server.data, '**/*')).find((path) => {
        const stats = statSync(path, { throwIfNoEntry: false });
        return stats?.isFile() === true && stats.size === bytes.length;
      }),
    );
    truncateSync(file, 600_000);
    const outcome = await get(server, `/v2/e42/blobs/${digest}`).catch((error: Error) => error);
    if (outcome instanceof Error) assert.match(outcome.message, /cut|aborted|reset|hang up/i);
    else assert.ok([404, 503].includes(outcome.status), String(outcome.status));
    expectStatus(await get(server, '/v2/'), 200);
    // A push of the same bytes heals it (decisions: damaged).
    await pushBlob(server, 'e42', bytes);
    const healed = await get(server, `/v2/e42/blobs/${digest}`);
    expectStatus(healed, 200);
    assert.ok(healed.body.equals(bytes));
  });
});
