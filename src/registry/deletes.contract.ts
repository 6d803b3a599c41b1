/** The seam's contract on deletes, undelete and purge. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type OpenForTest, onFresh } from './fresh.testing.ts';
import type { Guards } from './guard.ts';
import type { Store } from './registry.ts';
import {
  blob,
  callAs,
  image,
  index,
  names,
  pullBlob,
  pushBlob,
  pushImage,
  pushManifest,
  refused,
  repo,
  tag,
} from './samples.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('team/other');
const layer = blob('layer of one');

async function deleteWhole(store: Store, name: typeof a): Promise<void> {
  for (let i = 0; i < 1_000; i++) if ((await store.deleteRepository(ann, name)).done) return;
  assert.fail('the repository was not deleted in 1,000 steps');
}

/** Registers the tests on deletes. */
export function deleteContract(open: OpenForTest): void {
  describe('deletes', () => {
    test(
      'of a blob: unknown, needed, gone, pushed again',
      onFresh(open, async (store) => {
        await refused(store.deleteBlob(ann, a, layer.digest), 'BLOB_UNKNOWN');
        const one = await pushImage(store, ann, a, 'one', 'v1');
        names(await refused(store.deleteBlob(ann, a, layer.digest), 'UNSUPPORTED', 405), one.digest);
        await pullBlob(store, ann, a, layer.digest);
        await store.deleteManifest(ann, a, one.digest);
        await store.deleteBlob(ann, a, layer.digest);
        await refused(store.resolveBlob(ann, a, layer.digest), 'BLOB_UNKNOWN');
        await refused(store.deleteBlob(ann, a, layer.digest), 'BLOB_UNKNOWN');
        await pushBlob(store, ann, a, layer);
        assert.deepEqual(await pullBlob(store, ann, a, layer.digest), layer.bytes);
      }),
    );

    test(
      'of a blob that many manifests need names at most ten of them',
      onFresh(open, async (store) => {
        const config = blob('{}');
        await pushBlob(store, ann, a, config);
        for (let i = 0; i < 12; i++) {
          await pushManifest(store, ann, a, image(config, [], { annotations: { i: String(i) } }));
        }
        const error = await refused(store.deleteBlob(ann, a, config.digest), 'UNSUPPORTED');
        const named = JSON.stringify(error.detail).match(/sha256:[0-9a-f]{64}/g) ?? [];
        assert.equal(new Set(named.filter((one) => one !== config.digest)).size, 10);
      }),
    );

    test(
      'of a tag: the manifest stays',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1', 'v2');
        await store.deleteTag(ann, a, tag('v1'));
        await refused(store.resolveManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        assert.deepEqual((await store.listTags(ann, a, { limit: 10 })).items, ['v2']);
        await refused(store.deleteTag(ann, a, tag('v1')), 'MANIFEST_UNKNOWN');
        await refused(store.deleteTag(ann, b, tag('v2')), 'MANIFEST_UNKNOWN');
        await store.getManifest(ann, a, { digest: one.digest });
      }),
    );

    test(
      'of a manifest: its tags go with it, at once',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1', 'v2');
        const two = await pushImage(store, ann, a, 'two', 'v3');
        await store.deleteManifest(ann, a, one.digest);
        for (const reference of [{ tag: tag('v1') }, { tag: tag('v2') }, { digest: one.digest }]) {
          await refused(store.getManifest(ann, a, reference), 'MANIFEST_UNKNOWN');
          await refused(store.resolveManifest(ann, a, reference), 'MANIFEST_UNKNOWN');
        }
        assert.deepEqual((await store.listTags(ann, a, { limit: 10 })).items, ['v3']);
        await refused(store.deleteManifest(ann, a, one.digest), 'MANIFEST_UNKNOWN');
        await refused(store.deleteManifest(ann, b, two.digest), 'MANIFEST_UNKNOWN');
        await store.deleteManifest(ann, a, two.digest);
        assert.deepEqual((await store.listTags(ann, a, { limit: 10 })).items, []);
      }),
    );

    test(
      "of an index's child is refused, naming the index, until the index is deleted",
      onFresh(open, async (store) => {
        const child = await pushImage(store, ann, a, 'one');
        const parent = index([child]);
        await pushManifest(store, ann, a, parent, 'v1');
        names(await refused(store.deleteManifest(ann, a, child.digest), 'UNSUPPORTED', 405), parent.digest);
        await store.deleteManifest(ann, a, parent.digest);
        await store.deleteManifest(ann, a, child.digest);
      }),
    );

    test(
      'a deleted manifest may be pushed again',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1');
        await store.deleteManifest(ann, a, one.digest);
        await pushManifest(store, ann, a, one, 'v1');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, one.digest);
      }),
    );

    test(
      'restore brings back a manifest with its blobs, and then its tag',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1');
        await store.deleteManifest(ann, a, one.digest);
        await store.deleteBlob(ann, a, layer.digest);
        await store.restore(ann, a, { digest: one.digest });
        assert.deepEqual(Buffer.from((await store.getManifest(ann, a, { digest: one.digest })).bytes), one.bytes);
        assert.deepEqual(await pullBlob(store, ann, a, layer.digest), layer.bytes);
        await refused(store.deleteBlob(ann, a, layer.digest), 'UNSUPPORTED');
        await refused(store.resolveManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await store.restore(ann, a, { tag: tag('v1') });
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, one.digest);
      }),
    );

    test(
      'restore of a tag brings its manifest back too',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1');
        await store.deleteTag(ann, a, tag('v1'));
        await store.restore(ann, a, { tag: tag('v1') });
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, one.digest);
        await store.deleteManifest(ann, a, one.digest);
        await store.restore(ann, a, { tag: tag('v1') });
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, one.digest);
        await refused(store.restore(ann, a, { tag: tag('never') }), 'MANIFEST_UNKNOWN');
        await refused(store.restore(ann, a, { digest: blob('never').digest }), 'MANIFEST_UNKNOWN');
        await refused(store.restore(ann, b, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
      }),
    );

    test(
      'restore of a tag moves no immutable one',
      onFresh(open, async (store) => {
        await pushImage(store, ann, a, 'one', 'v1');
        await store.deleteTag(ann, a, tag('v1'));
        const two = await pushImage(store, ann, a, 'two', 'v1');
        const guards: Guards = [{ kind: 'tags-unmoved', rule: 'all', include: ['**'], except: [] }];
        await refused(store.restore(ann, a, { tag: tag('v1') }, guards), 'DENIED');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, two.digest);
      }),
    );

    test(
      'restore of a tag with a digest rolls it back, the manifest with it where it is deleted',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1');
        const two = await pushImage(store, ann, a, 'two', 'v1');
        const at = async (): Promise<string> => (await store.resolveManifest(ann, a, { tag: tag('v1') })).digest;
        const back = { tag: tag('v1'), digest: one.digest };
        const immutable: Guards = [{ kind: 'tags-unmoved', rule: 'all', include: ['**'], except: [] }];
        await refused(store.restore(ann, a, back, immutable), 'DENIED');
        const elsewhere: Guards = [{ kind: 'tag-at', tag: tag('v1'), digest: one.digest }];
        assert.equal((await refused(store.restore(ann, a, back, elsewhere), 'DENIED')).status, 412);
        assert.equal(await at(), two.digest);
        await store.deleteManifest(ann, a, one.digest);
        await refused(store.restore(ann, a, back, immutable), 'DENIED');
        await refused(store.resolveManifest(ann, a, { digest: one.digest }), 'MANIFEST_UNKNOWN');
        await store.restore(ann, a, back, [{ kind: 'tag-at', tag: tag('v1'), digest: two.digest }]);
        assert.equal(await at(), one.digest);
        assert.deepEqual(await pullBlob(store, ann, a, layer.digest), layer.bytes);
        await store.restore(ann, a, back);
        await store.restore(ann, a, { tag: tag('new'), digest: two.digest }, [
          { kind: 'tag-at', tag: tag('new'), digest: null },
        ]);
        await refused(store.restore(ann, a, { tag: tag('v1'), digest: blob('never').digest }), 'MANIFEST_UNKNOWN');
        await refused(store.restore(ann, b, back), 'MANIFEST_UNKNOWN');
      }),
    );

    test(
      'restore of an index needs its children',
      onFresh(open, async (store) => {
        const child = await pushImage(store, ann, a, 'one');
        const parent = index([child]);
        await pushManifest(store, ann, a, parent, 'v1');
        await store.deleteManifest(ann, a, parent.digest);
        await store.deleteManifest(ann, a, child.digest);
        names(await refused(store.restore(ann, a, { digest: parent.digest }), 'MANIFEST_BLOB_UNKNOWN'), child.digest);
        await store.restore(ann, a, { digest: child.digest });
        await store.restore(ann, a, { digest: parent.digest });
        await refused(store.deleteManifest(ann, a, child.digest), 'UNSUPPORTED');
      }),
    );

    test(
      'purge ends the undelete window',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1');
        const two = await pushImage(store, ann, a, 'two', 'v2');
        await refused(store.purge(ann, a, { digest: blob('never').digest }), 'MANIFEST_UNKNOWN');
        await refused(store.purge(ann, a, { digest: one.digest }), 'MANIFEST_UNKNOWN');
        await refused(store.purge(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await store.deleteManifest(ann, a, one.digest);
        await store.purge(ann, a, { digest: one.digest });
        await refused(store.restore(ann, a, { digest: one.digest }), 'MANIFEST_UNKNOWN');
        await refused(store.restore(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await pushImage(store, ann, a, 'one');
        await refused(store.restore(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await store.deleteTag(ann, a, tag('v2'));
        await store.purge(ann, a, { tag: tag('v2') });
        await refused(store.restore(ann, a, { tag: tag('v2') }), 'MANIFEST_UNKNOWN');
        await store.getManifest(ann, a, { digest: two.digest });
        await pushImage(store, ann, a, 'one', 'v1');
      }),
    );

    test(
      'of a repository: everything goes, other repositories keep theirs, the name may be used again',
      onFresh(open, async (store) => {
        await refused(store.deleteRepository(ann, a), 'NAME_UNKNOWN');
        const one = await pushImage(store, ann, a, 'one', 'v1');
        const parent = index([one]);
        await pushManifest(store, ann, a, parent, 'index');
        await pushImage(store, ann, b, 'one', 'v1');
        const { id } = await store.startUpload(ann, a);
        await store.appendUpload(ann, a, id, { body: (await store.getBlob(ann, a, layer.digest)).open() });
        await deleteWhole(store, a);
        await refused(store.getManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await refused(store.getManifest(ann, a, { digest: one.digest }), 'MANIFEST_UNKNOWN');
        await refused(store.resolveBlob(ann, a, layer.digest), 'BLOB_UNKNOWN');
        await refused(store.listTags(ann, a, { limit: 10 }), 'NAME_UNKNOWN');
        await refused(store.restore(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await refused(store.uploadStatus(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
        await refused(store.deleteRepository(ann, a), 'NAME_UNKNOWN');
        assert.deepEqual((await store.listRepositories(ann, { limit: 10 })).items, [b]);
        assert.deepEqual(await pullBlob(store, ann, b, layer.digest), layer.bytes);
        await pushImage(store, ann, a, 'one', 'v2');
        assert.deepEqual((await store.listTags(ann, a, { limit: 10 })).items, ['v2']);
      }),
    );
  });
}
