/** The seam's contract on blobs: whole pushes, reads, ranges, mounts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type OpenForTest, onFresh } from './fresh.testing.ts';
import { blob, body, brokenBody, callAs, pullBlob, pushBlob, pushImage, refused, repo } from './samples.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('team/other');

/** Registers the tests on blobs. */
export function blobContract(open: OpenForTest): void {
  describe('blobs', () => {
    test(
      'what was pushed comes back, in both algorithms and of every size',
      onFresh(open, async (store) => {
        const samples = [
          blob(''),
          blob('hello'),
          blob('hello', 'sha512'),
          blob('x'.repeat(40_000)),
          blob('y'.repeat(300_000), 'sha512'),
        ];
        for (const sample of samples) {
          const pushed = await store.pushBlob(ann, a, { digest: sample.digest }, body(sample.bytes));
          assert.equal(pushed.digest, sample.digest);
          assert.equal(pushed.size, sample.bytes.length);
          const resolved = await store.resolveBlob(ann, a, sample.digest);
          assert.deepEqual([resolved.digest, resolved.size], [sample.digest, sample.bytes.length]);
          assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
        }
      }),
    );

    test(
      'a blob may be pushed again',
      onFresh(open, async (store) => {
        const sample = blob('again');
        await pushBlob(store, ann, a, sample);
        await pushBlob(store, callAs('bob'), a, sample);
        assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
      }),
    );

    test(
      'bytes that do not match are refused and not kept',
      onFresh(open, async (store) => {
        const sample = blob('right');
        await refused(store.pushBlob(ann, a, { digest: sample.digest }, body('wrong')), 'DIGEST_INVALID');
        await refused(store.pushBlob(ann, a, { digest: sample.digest, size: 6 }, body('right')), 'SIZE_INVALID');
        await refused(store.pushBlob(ann, a, { digest: sample.digest, size: 4 }, body('right')), 'SIZE_INVALID');
        await assert.rejects(store.pushBlob(ann, a, { digest: sample.digest }, brokenBody('ri')));
        await refused(store.resolveBlob(ann, a, sample.digest), 'BLOB_UNKNOWN');
        await refused(store.getBlob(ann, a, sample.digest), 'BLOB_UNKNOWN');
      }),
    );

    test(
      'a blob is in the repository it was pushed to, and in no other',
      onFresh(open, async (store) => {
        const sample = blob('mine');
        await pushBlob(store, ann, a, sample);
        await pushBlob(store, ann, b, blob('something else'));
        await refused(store.resolveBlob(ann, b, sample.digest), 'BLOB_UNKNOWN');
        await refused(store.getBlob(ann, b, sample.digest), 'BLOB_UNKNOWN');
        await refused(store.resolveBlob(ann, repo('never/seen'), sample.digest), 'BLOB_UNKNOWN');
      }),
    );

    test(
      'a manifest is not a blob',
      onFresh(open, async (store) => {
        const image = await pushImage(store, ann, a, 'one', 'v1');
        await refused(store.resolveBlob(ann, a, image.digest), 'BLOB_UNKNOWN');
        await refused(store.getBlob(ann, a, image.digest), 'BLOB_UNKNOWN');
      }),
    );

    test(
      'ranges are half-open, clipped at the end, and refused beyond it',
      onFresh(open, async (store) => {
        for (const text of ['0123456789', '0123456789'.repeat(10_000)]) {
          const sample = blob(text);
          const size = sample.bytes.length;
          await pushBlob(store, ann, a, sample);
          const read = (start: number, end: number) => pullBlob(store, ann, a, sample.digest, { start, end });
          assert.equal(String(await read(2, 5)), '234');
          assert.equal(String(await read(0, 1)), '0');
          assert.equal(String(await read(size - 1, size + 100)), '9');
          const content = await store.getBlob(ann, a, sample.digest, { start: size - 2, end: size + 7 });
          try {
            assert.deepEqual({ ...content.range }, { start: size - 2, end: size });
            assert.equal(content.descriptor.size, size);
          } finally {
            content.close();
          }
          await refused(store.getBlob(ann, a, sample.digest, { start: size, end: size + 1 }), 'RANGE_INVALID');
        }
      }),
    );

    test(
      'every way to the bytes gives the same ones',
      onFresh(open, async (store) => {
        for (const sample of [blob('short'), blob('long '.repeat(20_000))]) {
          await pushBlob(store, ann, a, sample);
          const size = sample.bytes.length;
          const content = await store.getBlob(ann, a, sample.digest, { start: 1, end: size });
          try {
            if (content.bytes !== undefined) {
              assert.deepEqual(Buffer.from(content.bytes), sample.bytes.subarray(1));
            }
            const reader = await content.openRandom?.();
            if (reader !== undefined) {
              const into = new Uint8Array(3);
              assert.equal(await reader.read(into, size - 3), 3);
              assert.deepEqual(Buffer.from(into), sample.bytes.subarray(size - 3));
              assert.equal(await reader.read(into, size), 0);
              await reader.close();
            }
          } finally {
            content.close();
          }
        }
      }),
    );

    test(
      'a mount links the blob of another repository',
      onFresh(open, async (store) => {
        const sample = blob('shared');
        await pushBlob(store, ann, a, sample);
        const mounted = await store.mountBlob(ann, b, sample.digest, a);
        assert.deepEqual([mounted?.digest, mounted?.size], [sample.digest, sample.bytes.length]);
        assert.deepEqual(await pullBlob(store, ann, b, sample.digest), sample.bytes);
        await store.deleteBlob(ann, a, sample.digest);
        await refused(store.resolveBlob(ann, a, sample.digest), 'BLOB_UNKNOWN');
        assert.deepEqual(await pullBlob(store, ann, b, sample.digest), sample.bytes);
      }),
    );

    test(
      'what cannot be mounted gives undefined and links nothing',
      onFresh(open, async (store) => {
        const sample = blob('shared');
        await pushBlob(store, ann, a, sample);
        assert.equal(await store.mountBlob(ann, b, blob('unknown').digest, a), undefined);
        assert.equal(await store.mountBlob(ann, b, sample.digest, repo('never/seen')), undefined);
        assert.equal(await store.mountBlob(ann, b, sample.digest), undefined);
        await refused(store.resolveBlob(ann, b, sample.digest), 'BLOB_UNKNOWN');
      }),
    );

    test(
      'the sources of a blob are the repositories that link it, at most as many as asked',
      onFresh(open, async (store) => {
        const sample = blob('shared');
        assert.deepEqual(await store.sourcesOf(sample.digest, 10), []);
        await pushBlob(store, ann, a, sample);
        await store.mountBlob(ann, b, sample.digest, a);
        assert.deepEqual([...(await store.sourcesOf(sample.digest, 10))].sort(), [a, b]);
        assert.equal((await store.sourcesOf(sample.digest, 1)).length, 1);
        await store.deleteBlob(ann, a, sample.digest);
        assert.deepEqual(await store.sourcesOf(sample.digest, 10), [b]);
      }),
    );

    test(
      'the same blob pushed many times at once is there once',
      onFresh(open, async (store) => {
        for (const sample of [blob('small'), blob('large '.repeat(10_000))]) {
          await Promise.all(
            Array.from({ length: 8 }, (_, i) =>
              store.pushBlob(callAs(`u${i}`), i % 2 ? a : b, { digest: sample.digest }, body(sample.bytes)),
            ),
          );
          assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
          assert.deepEqual(await pullBlob(store, ann, b, sample.digest), sample.bytes);
        }
      }),
    );
  });
}
