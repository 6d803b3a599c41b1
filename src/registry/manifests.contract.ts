/** The seam's contract on manifests: bytes, digests, what must be here before, tags. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import { type OpenForTest, onFresh } from './fresh.testing.ts';
import {
  blob,
  callAs,
  descriptor,
  image,
  index,
  manifest,
  names,
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
const config = blob('{}');
const layer = blob('a layer');

/** Registers the tests on manifests. */
export function manifestContract(open: OpenForTest): void {
  describe('manifests', () => {
    test(
      'come back byte for byte with their type, by tag and by digest',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, config);
        await pushBlob(store, ann, a, layer);
        const plain = image(config, [layer], { 'x-unknown': [1, { two: null }] });
        const bytes = Buffer.from(`\n ${plain.bytes.toString()}\n\n`);
        const pushed = await store.pushManifest(ann, a, bytes, OCI_MANIFEST, { tags: [tag('v1')] });
        assert.deepEqual(pushed.tags, ['v1']);
        assert.equal(pushed.subject, undefined);
        const { digest } = pushed.descriptor;
        for (const reference of [{ tag: tag('v1') }, { digest }]) {
          const got = await store.getManifest(ann, a, reference);
          assert.deepEqual(Buffer.from(got.bytes), bytes);
          const { mediaType, size } = got.descriptor;
          assert.deepEqual([mediaType, got.descriptor.digest, size], [OCI_MANIFEST, digest, bytes.length]);
          const resolved = await store.resolveManifest(ann, a, reference);
          assert.deepEqual([resolved.mediaType, resolved.digest, resolved.size], [OCI_MANIFEST, digest, bytes.length]);
        }
      }),
    );

    test(
      'Docker types, and a sha512 digest, are served as they were pushed',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, config);
        const docker = manifest(
          { schemaVersion: 2, mediaType: DOCKER_MANIFEST, config: descriptor(config), layers: null },
          DOCKER_MANIFEST,
          'sha512',
        );
        await pushManifest(store, ann, a, docker, 'docker');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('docker') })).digest, docker.digest);
        const list = manifest(
          { schemaVersion: 2, mediaType: DOCKER_LIST, manifests: [descriptor(docker)] },
          DOCKER_LIST,
        );
        await pushManifest(store, ann, a, list, 'list');
        assert.equal((await store.getManifest(ann, a, { digest: list.digest })).descriptor.mediaType, DOCKER_LIST);
      }),
    );

    test(
      'unknown tags, digests and repositories are MANIFEST_UNKNOWN; a blob is not a manifest',
      onFresh(open, async (store) => {
        await pushImage(store, ann, a, 'one', 'v1');
        await pushBlob(store, ann, a, config);
        for (const reference of [{ tag: tag('v2') }, { digest: blob('no').digest }, { digest: config.digest }]) {
          await refused(store.getManifest(ann, a, reference), 'MANIFEST_UNKNOWN');
          await refused(store.resolveManifest(ann, a, reference), 'MANIFEST_UNKNOWN');
        }
        await refused(store.getManifest(ann, b, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await refused(store.resolveManifest(ann, b, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
      }),
    );

    test(
      'bytes that do not match the digest, or are no manifest, are refused',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, config);
        const good = image(config, []);
        const push = (bytes: Uint8Array, mediaType: string, digest = blob('other').digest) =>
          store.pushManifest(ann, a, bytes, mediaType, { digest, tags: [tag('v1')] });
        await refused(push(good.bytes, OCI_MANIFEST), 'DIGEST_INVALID');
        for (const text of ['', '{', '[]', 'null', '{"schemaVersion":1}', '{"schemaVersion":2}']) {
          await refused(store.pushManifest(ann, a, Buffer.from(text), OCI_MANIFEST), 'MANIFEST_INVALID');
        }
        await refused(store.pushManifest(ann, a, good.bytes, OCI_INDEX), 'MANIFEST_INVALID');
        await refused(store.pushManifest(ann, a, good.bytes, 'text/plain'), 'MANIFEST_INVALID');
        await refused(store.getManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await refused(store.listTags(ann, a, { limit: 10 }), 'NAME_UNKNOWN');
      }),
    );

    test(
      'everything missing is named at once, and nothing is kept',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, layer);
        const two = blob('another layer');
        const sample = image(config, [layer, two]);
        const error = await refused(pushManifest(store, ann, a, sample, 'v1'), 'MANIFEST_BLOB_UNKNOWN', 404);
        names(error, config.digest, two.digest);
        assert.ok(!JSON.stringify(error.detail).includes(layer.digest));
        await refused(store.getManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
        await refused(store.getManifest(ann, a, { digest: sample.digest }), 'MANIFEST_UNKNOWN');
        await pushBlob(store, ann, b, config);
        await pushBlob(store, ann, b, two);
        await refused(pushManifest(store, ann, a, sample, 'v1'), 'MANIFEST_BLOB_UNKNOWN');
        await store.mountBlob(ann, a, config.digest, b);
        await store.mountBlob(ann, a, two.digest, b);
        await pushManifest(store, ann, a, sample, 'v1');
      }),
    );

    test(
      'an index needs its children here, live',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one');
        const two = await pushImage(store, ann, b, 'two');
        const both = index([one, two]);
        const error = await refused(pushManifest(store, ann, a, both, 'v1'), 'MANIFEST_BLOB_UNKNOWN');
        names(error, two.digest);
        await pushImage(store, ann, a, 'two');
        await store.deleteManifest(ann, a, two.digest);
        await refused(pushManifest(store, ann, a, both, 'v1'), 'MANIFEST_BLOB_UNKNOWN');
        await pushImage(store, ann, a, 'two');
        await pushManifest(store, ann, a, both, 'v1');
        const nested = index([both]);
        await pushManifest(store, ann, a, nested, 'nested');
        await pushManifest(store, ann, a, index([]), 'empty');
      }),
    );

    test(
      'an index may name blobs that are here, as the caches of BuildKit do',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, layer);
        const cache = index([descriptor(layer, { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' })]);
        await pushManifest(store, ann, a, cache, 'cache');
        names(await refused(store.deleteBlob(ann, a, layer.digest), 'UNSUPPORTED'), cache.digest);
      }),
    );

    test(
      'non-distributable layers, layers with urls, and subjects need not be here',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, config);
        const foreign = descriptor(blob('foreign'), {
          mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
        });
        const elsewhere = descriptor(blob('elsewhere'), { urls: ['https://example.com/layer'] });
        const sample = image(config, [], {
          layers: [foreign, elsewhere],
          subject: { ...descriptor(blob('subject')), mediaType: OCI_MANIFEST },
        });
        const pushed = await store.pushManifest(ann, a, sample.bytes, sample.mediaType);
        assert.equal(pushed.subject, blob('subject').digest);
        assert.equal(pushed.descriptor.digest, sample.digest);
      }),
    );

    test(
      'a tag moves; the manifest it left stays',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'latest', 'v1');
        const two = await pushImage(store, ann, a, 'two', 'latest');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('latest') })).digest, two.digest);
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, one.digest);
        await pushManifest(store, ann, a, one, 'latest');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('latest') })).digest, one.digest);
        assert.equal((await store.resolveManifest(ann, a, { digest: two.digest })).digest, two.digest);
      }),
    );

    test(
      'a push carries many tags, or none',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, config);
        const sample = image(config, []);
        const many = Array.from({ length: 50 }, (_, i) => tag(`t${String(i).padStart(2, '0')}`));
        const options = { digest: sample.digest, tags: many };
        const pushed = await store.pushManifest(ann, a, sample.bytes, sample.mediaType, options);
        assert.deepEqual([...pushed.tags].sort(), many);
        assert.deepEqual((await store.listTags(ann, a, { limit: 100 })).items, many);
        const again = await store.pushManifest(ann, a, sample.bytes, sample.mediaType);
        assert.deepEqual(again.tags, []);
        assert.equal((await store.listTags(ann, a, { limit: 100 })).items.length, 50);
      }),
    );

    test(
      'pushes of one tag at once end with one of them',
      onFresh(open, async (store) => {
        await pushBlob(store, ann, a, config);
        const samples = Array.from({ length: 8 }, (_, i) => image(config, [], { annotations: { n: String(i) } }));
        await Promise.all(samples.map((sample) => pushManifest(store, ann, a, sample, 'latest')));
        const { digest } = await store.resolveManifest(ann, a, { tag: tag('latest') });
        assert.ok(samples.some((sample) => sample.digest === digest));
        for (const sample of samples) await store.getManifest(ann, a, { digest: sample.digest });
      }),
    );
  });
}
