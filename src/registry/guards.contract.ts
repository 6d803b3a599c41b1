/** The seam's contract on guards: what must still be true at the commit. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type OpenForTest, onFresh } from './fresh.testing.ts';
import type { Guard, Guards } from './guard.ts';
import { blob, callAs, image, index, names, pushImage, pushManifest, refused, repo, tag } from './samples.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const immutable: Guards = [{ kind: 'tags-unmoved', rule: 'releases', include: ['v*'], except: ['v0*'] }];

/** Registers the tests on guards. */
export function guardContract(open: OpenForTest): void {
  describe('guards', () => {
    test(
      'an immutable tag may be made and pushed again, but not moved',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'plain');
        const two = await pushImage(store, ann, a, 'two');
        const push = (sample: typeof one, ...tags: string[]) =>
          store.pushManifest(ann, a, sample.bytes, sample.mediaType, { tags: tags.map(tag), guards: immutable });
        await push(one, 'v1');
        await push(one, 'v1');
        names(await refused(push(two, 'v1'), 'DENIED', 403), 'v1');
        await push(one, 'v0.1', 'other');
        await push(two, 'v0.1', 'other');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('v1') })).digest, one.digest);
      }),
    );

    test(
      'a refused tag moves none of the others, and the manifest of the push is not kept',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1', 'latest');
        const config = blob('{"seed":"one"}');
        const two = image(config, []);
        const options = { tags: [tag('latest'), tag('new'), tag('v1')], guards: immutable };
        await refused(store.pushManifest(ann, a, two.bytes, two.mediaType, options), 'DENIED');
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('latest') })).digest, one.digest);
        await refused(store.resolveManifest(ann, a, { tag: tag('new') }), 'MANIFEST_UNKNOWN');
        await refused(store.resolveManifest(ann, a, { digest: two.digest }), 'MANIFEST_UNKNOWN');
      }),
    );

    test(
      'an immutable tag is not deleted: by its name, its digest or its repository',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'v1', 'other');
        names(await refused(store.deleteTag(ann, a, tag('v1'), immutable), 'UNSUPPORTED', 405), 'v1');
        names(await refused(store.deleteManifest(ann, a, one.digest, immutable), 'UNSUPPORTED', 405), 'v1');
        await refused(store.deleteRepository(ann, a, immutable), 'UNSUPPORTED', 405);
        await store.deleteTag(ann, a, tag('other'), immutable);
        assert.deepEqual((await store.listTags(ann, a, { limit: 10 })).items, ['v1']);
      }),
    );

    test(
      'tag-at: the tag must be where the condition says, or not be',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one');
        const two = await pushImage(store, ann, a, 'two');
        const at = (digest: typeof one.digest | null): Guard => ({ kind: 'tag-at', tag: tag('latest'), digest });
        const push = (sample: typeof one, guard: Guard) =>
          store.pushManifest(ann, a, sample.bytes, sample.mediaType, { tags: [tag('latest')], guards: [guard] });
        await refused(push(one, at(one.digest)), 'DENIED', 412);
        await push(one, at(null));
        await refused(push(two, at(null)), 'DENIED', 412);
        await refused(push(two, at(two.digest)), 'DENIED', 412);
        await push(two, at(one.digest));
        await refused(store.deleteTag(ann, a, tag('latest'), [at(one.digest)]), 'DENIED', 412);
        await store.deleteTag(ann, a, tag('latest'), [at(two.digest)]);
        await push(one, at(null));
      }),
    );

    test(
      'of several pushes that ask for an absent tag exactly one wins',
      onFresh(open, async (store) => {
        const samples = await Promise.all(['1', '2', '3', '4'].map((seed) => pushImage(store, ann, a, seed)));
        const guards: Guards = [{ kind: 'tag-at', tag: tag('lock'), digest: null }];
        const settled = await Promise.allSettled(
          samples.map((one) => store.pushManifest(ann, a, one.bytes, one.mediaType, { tags: [tag('lock')], guards })),
        );
        const won = settled.flatMap((one, i) => (one.status === 'fulfilled' ? [samples[i]!.digest] : []));
        assert.equal(won.length, 1);
        assert.equal((await store.resolveManifest(ann, a, { tag: tag('lock') })).digest, won[0]);
      }),
    );

    test(
      'manifest-unreferenced: a tag or an index that came meanwhile saves the manifest',
      onFresh(open, async (store) => {
        const one = await pushImage(store, ann, a, 'one', 'tagged');
        const guards: Guards = [{ kind: 'manifest-unreferenced', digest: one.digest }];
        await refused(store.deleteManifest(ann, a, one.digest, guards), 'UNSUPPORTED');
        await store.deleteTag(ann, a, tag('tagged'));
        const parent = index([one]);
        await pushManifest(store, ann, a, parent);
        await refused(store.deleteManifest(ann, a, one.digest, guards), 'UNSUPPORTED');
        await store.deleteManifest(ann, a, parent.digest);
        await store.deleteManifest(ann, a, one.digest, guards);
        await refused(store.resolveManifest(ann, a, { digest: one.digest }), 'MANIFEST_UNKNOWN');
      }),
    );
  });
}
