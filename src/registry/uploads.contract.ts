/** The seam's contract on uploads: offsets, ends, owners, bodies that break, and races. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { UploadId } from '../oci/names.ts';
import { type OpenForTest, onFresh } from './fresh.testing.ts';
import { blob, body, brokenBody, callAs, pullBlob, refused, repo } from './samples.testing.ts';

const ann = callAs('ann');
const bob = callAs('bob');
const a = repo('team/app');
const b = repo('team/other');
const big = 'abcdefgh'.repeat(10_000);

/** Registers the tests on uploads. */
export function uploadContract(open: OpenForTest): void {
  describe('uploads', () => {
    test(
      'a blob comes in pieces, with offsets and without',
      onFresh(open, async (store) => {
        for (const [one, two, three] of [
          ['ab', 'cd', 'ef'],
          [big, 'middle', big],
        ] as const) {
          const sample = blob(one + two + three);
          const started = await store.startUpload(ann, a);
          assert.equal(started.size, 0);
          const { id } = started;
          assert.equal((await store.appendUpload(ann, a, id, { body: body(one), offset: 0 })).size, one.length);
          const second = await store.appendUpload(ann, a, id, { body: body(two), length: two.length });
          assert.equal(second.size, one.length + two.length);
          assert.equal((await store.uploadStatus(ann, a, id)).size, second.size);
          const last = { body: body(three), offset: second.size, length: three.length };
          const committed = await store.commitUpload(ann, a, id, sample.digest, last);
          assert.deepEqual([committed.digest, committed.size], [sample.digest, sample.bytes.length]);
          assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
          await refused(store.uploadStatus(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
        }
      }),
    );

    test(
      'the whole body may come with the commit, or the commit without a body',
      onFresh(open, async (store) => {
        for (const text of ['whole', big]) {
          const first = await store.startUpload(ann, a);
          await store.commitUpload(ann, a, first.id, blob(text).digest, { body: body(text) });
          const second = await store.startUpload(ann, a);
          await store.appendUpload(ann, a, second.id, { body: body(`${text}!`) });
          await store.commitUpload(ann, a, second.id, blob(`${text}!`).digest);
          assert.equal(String(await pullBlob(store, ann, a, blob(`${text}!`).digest)), `${text}!`);
        }
      }),
    );

    test(
      'the empty blob, with an empty last chunk and without one',
      onFresh(open, async (store) => {
        const empty = blob('');
        const first = await store.startUpload(ann, a);
        await store.commitUpload(ann, a, first.id, empty.digest, { body: body(), length: 0 });
        const second = await store.startUpload(ann, b);
        await store.commitUpload(ann, b, second.id, empty.digest);
        assert.equal((await store.resolveBlob(ann, a, empty.digest)).size, 0);
        assert.equal((await store.resolveBlob(ann, b, empty.digest)).size, 0);
      }),
    );

    test(
      'the closing digest may be of another algorithm than was announced',
      onFresh(open, async (store) => {
        const sample = blob(big, 'sha512');
        const { id } = await store.startUpload(ann, a, { algorithm: 'sha256' });
        await store.appendUpload(ann, a, id, { body: body(big) });
        await store.commitUpload(ann, a, id, sample.digest);
        assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
        await refused(store.resolveBlob(ann, a, blob(big).digest), 'BLOB_UNKNOWN');
      }),
    );

    test(
      'a wrong offset is refused with the right one, and stores nothing',
      onFresh(open, async (store) => {
        const { id } = await store.startUpload(ann, a);
        const early = await refused(
          store.appendUpload(ann, a, id, { body: body('cd'), offset: 2 }),
          'RANGE_INVALID',
          416,
        );
        assert.deepEqual({ ...(early.detail as object) }, { size: 0 });
        await store.appendUpload(ann, a, id, { body: body('ab'), offset: 0 });
        for (const offset of [0, 1, 3, 400]) {
          const error = await refused(store.appendUpload(ann, a, id, { body: body('xx'), offset }), 'RANGE_INVALID');
          assert.deepEqual({ ...(error.detail as object) }, { size: 2 });
        }
        const digest = blob('abcd').digest;
        const last = await refused(
          store.commitUpload(ann, a, id, digest, { body: body('cd'), offset: 0 }),
          'RANGE_INVALID',
        );
        assert.deepEqual({ ...(last.detail as object) }, { size: 2 });
        assert.equal((await store.uploadStatus(ann, a, id)).size, 2);
        await store.commitUpload(ann, a, id, digest, { body: body('cd'), offset: 2 });
      }),
    );

    test(
      'a chunk shorter or longer than announced is dropped whole',
      onFresh(open, async (store) => {
        for (const text of ['hello', big]) {
          const { id } = await store.startUpload(ann, a);
          await store.appendUpload(ann, a, id, { body: body('>') });
          for (const length of [text.length - 1, text.length + 1]) {
            await refused(store.appendUpload(ann, a, id, { body: body(text), offset: 1, length }), 'SIZE_INVALID');
            assert.equal((await store.uploadStatus(ann, a, id)).size, 1);
          }
          const whole = blob(`>${text}`);
          const short = { body: body(text), length: text.length + 1 };
          await refused(store.commitUpload(ann, a, id, whole.digest, short), 'SIZE_INVALID');
          await store.commitUpload(ann, a, id, whole.digest, { body: body(text), length: text.length });
          assert.deepEqual(await pullBlob(store, ann, a, whole.digest), whole.bytes);
        }
      }),
    );

    test(
      'a body that breaks off keeps what arrived, and the upload goes on from there',
      onFresh(open, async (store) => {
        for (const piece of ['12345', 'q'.repeat(50_000)]) {
          const whole = blob(`${piece}${piece}rest`);
          const { id } = await store.startUpload(ann, a);
          const length = whole.bytes.length;
          await assert.rejects(store.appendUpload(ann, a, id, { body: brokenBody(piece, piece), offset: 0, length }));
          assert.equal((await store.uploadStatus(ann, a, id)).size, 2 * piece.length);
          const rest = { body: body('rest'), offset: 2 * piece.length };
          await store.commitUpload(ann, a, id, whole.digest, rest);
          assert.deepEqual(await pullBlob(store, ann, a, whole.digest), whole.bytes);
        }
      }),
    );

    test(
      'a closing body that breaks off leaves the upload open and commits nothing',
      onFresh(open, async (store) => {
        const whole = blob('0123456789');
        const { id } = await store.startUpload(ann, a);
        await store.appendUpload(ann, a, id, { body: body('01') });
        const last = { body: brokenBody('234'), offset: 2, length: 8 };
        await assert.rejects(store.commitUpload(ann, a, id, whole.digest, last));
        await refused(store.resolveBlob(ann, a, whole.digest), 'BLOB_UNKNOWN');
        const { size } = await store.uploadStatus(ann, a, id);
        assert.equal(size, 5);
        const rest = { body: body('0123456789'.slice(size)), offset: size };
        await store.commitUpload(ann, a, id, whole.digest, rest);
      }),
    );

    test(
      'a wrong digest ends the upload and keeps nothing',
      onFresh(open, async (store) => {
        for (const text of ['bytes', big]) {
          const { id } = await store.startUpload(ann, a);
          await store.appendUpload(ann, a, id, { body: body(text) });
          await refused(store.commitUpload(ann, a, id, blob('other').digest), 'DIGEST_INVALID');
          await refused(store.uploadStatus(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
          await refused(store.resolveBlob(ann, a, blob('other').digest), 'BLOB_UNKNOWN');
          await refused(store.resolveBlob(ann, a, blob(text).digest), 'BLOB_UNKNOWN');
        }
      }),
    );

    test(
      'an upload answers to its own repository and principal only',
      onFresh(open, async (store) => {
        const { id } = await store.startUpload(ann, a);
        const { digest } = blob('x');
        const check = async () => {
          for (const [call, name] of [
            [bob, a],
            [ann, b],
          ] as const) {
            await refused(store.uploadStatus(call, name, id), 'BLOB_UPLOAD_UNKNOWN');
            await refused(store.appendUpload(call, name, id, { body: body('x') }), 'BLOB_UPLOAD_UNKNOWN');
            await refused(store.commitUpload(call, name, id, digest, { body: body('x') }), 'BLOB_UPLOAD_UNKNOWN');
            await refused(store.cancelUpload(call, name, id), 'BLOB_UPLOAD_UNKNOWN');
          }
        };
        await check();
        await store.appendUpload(ann, a, id, { body: body('x') });
        await check();
        await store.commitUpload(ann, a, id, digest);
      }),
    );

    test(
      'ids that no POST gave are unknown',
      onFresh(open, async (store) => {
        const { id } = await store.startUpload(ann, a);
        const changed = `${id.slice(0, -2)}${id.endsWith('AA') ? 'BB' : 'AA'}`;
        for (const bad of ['', 'x', '../../etc/passwd', 'a'.repeat(500), changed, `${id}${id}`]) {
          await refused(store.uploadStatus(ann, a, bad as UploadId), 'BLOB_UPLOAD_UNKNOWN', 404);
          await refused(store.appendUpload(ann, a, bad as UploadId, { body: body('x') }), 'BLOB_UPLOAD_UNKNOWN');
          await refused(store.cancelUpload(ann, a, bad as UploadId), 'BLOB_UPLOAD_UNKNOWN');
        }
      }),
    );

    test(
      'a cancelled upload is gone, before its first byte and after',
      onFresh(open, async (store) => {
        for (const text of ['', 'some', big]) {
          const { id } = await store.startUpload(ann, a);
          if (text !== '') await store.appendUpload(ann, a, id, { body: body(text) });
          await store.cancelUpload(ann, a, id);
          await refused(store.uploadStatus(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
          await refused(store.appendUpload(ann, a, id, { body: body('x') }), 'BLOB_UPLOAD_UNKNOWN');
          await refused(store.commitUpload(ann, a, id, blob(text).digest), 'BLOB_UPLOAD_UNKNOWN');
          await refused(store.cancelUpload(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
        }
      }),
    );

    test(
      'one blob from two uploads at once: both are answered',
      onFresh(open, async (store) => {
        for (const sample of [blob('twice'), blob(`twice ${big}`)]) {
          const ids = await Promise.all([store.startUpload(ann, a), store.startUpload(bob, a)]);
          await Promise.all([
            store.commitUpload(ann, a, ids[0].id, sample.digest, { body: body(sample.bytes) }),
            store.commitUpload(bob, a, ids[1].id, sample.digest, { body: body(sample.bytes) }),
          ]);
          assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
        }
      }),
    );

    test(
      'of two chunks for the same offset exactly one is stored',
      onFresh(open, async (store) => {
        for (const size of [3, 70_000]) {
          const { id } = await store.startUpload(ann, a);
          await store.appendUpload(ann, a, id, { body: body('>') });
          const texts = ['x'.repeat(size), 'y'.repeat(size)];
          const settled = await Promise.allSettled(
            texts.map((text) => store.appendUpload(ann, a, id, { body: body(text), offset: 1 })),
          );
          const won = settled.map((one) => one.status === 'fulfilled');
          assert.equal(won.filter(Boolean).length, 1, JSON.stringify(settled.map(String)));
          const lost = settled[won.indexOf(false)]!;
          assert.ok(lost.status === 'rejected');
          await refused(Promise.reject(lost.reason), 'RANGE_INVALID');
          assert.equal((await store.uploadStatus(ann, a, id)).size, 1 + size);
          await store.commitUpload(ann, a, id, blob(`>${texts[won.indexOf(true)]}`).digest);
        }
      }),
    );

    test(
      'of a chunk and a closing chunk for the same offset exactly one wins',
      onFresh(open, async (store) => {
        for (const size of [3, 70_000]) {
          const { id } = await store.startUpload(ann, a);
          await store.appendUpload(ann, a, id, { body: body('>') });
          const patched = 'x'.repeat(size);
          const put = blob(`>${'y'.repeat(size)}`);
          const [patch, commit] = await Promise.allSettled([
            store.appendUpload(ann, a, id, { body: body(patched), offset: 1 }),
            store.commitUpload(ann, a, id, put.digest, { body: body('y'.repeat(size)), offset: 1 }),
          ]);
          if (commit.status === 'fulfilled') {
            assert.equal(patch.status, 'rejected');
            assert.deepEqual(await pullBlob(store, ann, a, put.digest), put.bytes);
            await refused(store.uploadStatus(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
          } else {
            assert.equal(patch.status, 'fulfilled');
            await refused(Promise.reject(commit.reason), 'RANGE_INVALID');
            await refused(store.resolveBlob(ann, a, put.digest), 'BLOB_UNKNOWN');
            await store.commitUpload(ann, a, id, blob(`>${patched}`).digest);
          }
        }
      }),
    );

    test(
      'of two commits of one upload at least one is answered, and the other says that it is gone',
      onFresh(open, async (store) => {
        const sample = blob(big);
        const { id } = await store.startUpload(ann, a);
        await store.appendUpload(ann, a, id, { body: body(big) });
        const settled = await Promise.allSettled([
          store.commitUpload(ann, a, id, sample.digest),
          store.commitUpload(ann, a, id, sample.digest),
        ]);
        assert.ok(settled.some((one) => one.status === 'fulfilled'));
        for (const one of settled) {
          if (one.status === 'rejected') {
            assert.match(String(one.reason.code), /^(BLOB_UPLOAD_UNKNOWN|RANGE_INVALID)$/);
          }
        }
        assert.deepEqual(await pullBlob(store, ann, a, sample.digest), sample.bytes);
      }),
    );
  });
}
