/** The seam's contract on lists: repositories, tags, referrers, and their pages. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import type { RepositoryName } from '../oci/names.ts';
import { type OpenForTest, onFresh } from './fresh.testing.ts';
import type { Page, PageRequest } from './registry.ts';
import {
  blob,
  callAs,
  descriptor,
  image,
  index,
  pushBlob,
  pushImage,
  pushManifest,
  refused,
  repo,
  type Sample,
  tag,
} from './samples.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const config = blob('{}');

async function allPages<T>(list: (page: PageRequest) => Promise<Page<T>>, limit: number): Promise<T[]> {
  const items: T[] = [];
  for (let after: string | undefined; ; ) {
    const page = await list(after === undefined ? { limit } : { limit, after });
    assert.ok(page.items.length <= limit);
    if (page.next !== undefined) assert.ok(page.items.length > 0, 'a page that goes on is not empty');
    items.push(...page.items);
    if (page.next === undefined) return items;
    after = page.next;
  }
}

function referrer(subject: Sample, n: number, type = 'application/vnd.test.signature'): Sample {
  return image(config, [], {
    artifactType: type,
    annotations: { n: String(n) },
    subject: { ...descriptor(subject), mediaType: OCI_MANIFEST },
  });
}

/** Registers the tests on lists. */
export function listContract(open: OpenForTest): void {
  describe('lists', () => {
    test(
      'a repository shows once it had a manifest, and stays',
      onFresh(open, async (store) => {
        const none = { limit: 10 };
        assert.deepEqual(await store.listRepositories(ann, none), { items: [] });
        await refused(store.listTags(ann, a, none), 'NAME_UNKNOWN', 404);
        await pushBlob(store, ann, a, config);
        assert.deepEqual((await store.listRepositories(ann, none)).items, []);
        await refused(store.listTags(ann, a, none), 'NAME_UNKNOWN');
        const one = await pushImage(store, ann, a, 'one');
        assert.deepEqual((await store.listRepositories(ann, none)).items, [a]);
        assert.deepEqual((await store.listTags(ann, a, none)).items, []);
        await store.deleteManifest(ann, a, one.digest);
        assert.deepEqual((await store.listRepositories(ann, none)).items, [a]);
        assert.deepEqual((await store.listTags(ann, a, none)).items, []);
      }),
    );

    test(
      'repositories come in byte order, in pages',
      onFresh(open, async (store) => {
        const all = ['a', 'a-b', 'a.b', 'a/b', 'a/b/c', 'a0', 'a_b', 'aa', 'b', 'b__c'].map(repo);
        const names = [...all].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
        for (const name of [...names].reverse()) await pushImage(store, ann, name, 'one');
        for (const limit of [1, 3, 5, 9, 10, 11]) {
          assert.deepEqual(await allPages((page) => store.listRepositories(ann, page), limit), names);
        }
        const exact = await store.listRepositories(ann, { limit: names.length });
        assert.equal(exact.next, undefined);
        const rest = await store.listRepositories(ann, { limit: 10, after: 'a/zzz' });
        assert.deepEqual(rest.items, names.slice(names.findIndex((name) => name > 'a/zzz')));
        assert.deepEqual((await store.listRepositories(ann, { limit: 10, after: 'zzz' })).items, []);
      }),
    );

    test(
      'visibility narrows the list in the store, so that pages are full',
      onFresh(open, async (store) => {
        const names = ['pub/one', 'pub/two', 'secret/one', 'secret/two', 'team/app', 'team/tool'].map(repo);
        for (const name of names) await pushImage(store, ann, name, 'one');
        const nothing = { ranges: [], patterns: [], ids: [] };
        const list = async (visibility: object): Promise<readonly RepositoryName[]> =>
          (await store.listRepositories(ann, { limit: 10 }, { ...nothing, ...visibility })).items;
        assert.deepEqual(await list({}), []);
        assert.deepEqual(await list({ ranges: [{ from: 'pub/', to: 'pub0' }] }), names.slice(0, 2));
        assert.deepEqual(await list({ patterns: ['*/one'] }), [names[0], names[2]]);
        const two = { ranges: [{ from: 'pub/', to: 'pub0' }], patterns: ['team/*'] };
        assert.deepEqual(await list(two), [...names.slice(0, 2), ...names.slice(4)]);
        const visibility = { ...nothing, ...two };
        const paged = await allPages((page) => store.listRepositories(ann, page, visibility), 1);
        assert.deepEqual(paged, [...names.slice(0, 2), ...names.slice(4)]);
        const first = await store.listRepositories(ann, { limit: 3 }, visibility);
        assert.equal(first.items.length, 3);
      }),
    );

    test(
      'tags come in byte order, in pages; a start that does not exist is fine',
      onFresh(open, async (store) => {
        const tags = ['1.0', '1.10', '1.2', 'A', 'Z', '_x', 'a', 'a-b', 'a.b', 'aB', 'b'].map(tag);
        const sorted = [...tags].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
        await pushImage(store, ann, a, 'one', ...[...sorted].reverse());
        for (const limit of [1, 2, 4, 10, 11, 100]) {
          assert.deepEqual(await allPages((page) => store.listTags(ann, a, page), limit), sorted);
        }
        assert.deepEqual((await store.listTags(ann, a, { limit: 2, after: '1.100' })).items, ['1.2', 'A']);
        await store.deleteTag(ann, a, tag('1.2'));
        assert.deepEqual((await store.listTags(ann, a, { limit: 1, after: '1.2' })).items, ['A']);
        assert.deepEqual((await store.listTags(ann, a, { limit: 5, after: 'zzz' })).items, []);
      }),
    );

    test(
      'referrers carry type, annotations, size and digest, and are filtered by type',
      onFresh(open, async (store) => {
        const subject = await pushImage(store, ann, a, 'subject', 'v1');
        await pushBlob(store, ann, a, config);
        const signature = referrer(subject, 1);
        const bom = referrer(subject, 2, 'application/vnd.test.bom+json');
        const plain = image(config, [], { subject: { ...descriptor(subject), mediaType: OCI_MANIFEST } });
        const list = index([], { artifactType: 'application/vnd.test.index', subject: descriptor(subject) });
        for (const one of [signature, bom, plain, list]) await pushManifest(store, ann, a, one);
        await pushManifest(store, ann, a, referrer(blob('another subject'), 3));
        const { items, filtered } = await store.listReferrers(ann, a, subject.digest, undefined, { limit: 100 });
        assert.equal(filtered, false);
        const sorted = [signature, bom, plain, list].map((one) => one.digest).sort();
        assert.deepEqual(
          items.map((one) => one.digest),
          sorted,
        );
        const found = new Map(items.map((one) => [one.digest, one]));
        const first = found.get(signature.digest)!;
        assert.equal(first.artifactType, 'application/vnd.test.signature');
        assert.deepEqual({ ...first.annotations }, { n: '1' });
        assert.deepEqual([first.mediaType, first.size], [OCI_MANIFEST, signature.bytes.length]);
        assert.equal(found.get(plain.digest)!.artifactType, 'application/vnd.oci.image.config.v1+json');
        assert.equal(found.get(list.digest)!.artifactType, 'application/vnd.test.index');
        const type = 'application/vnd.test.bom+json';
        const some = await store.listReferrers(ann, a, subject.digest, type, { limit: 100 });
        assert.equal(some.filtered, true);
        assert.deepEqual(
          some.items.map((one) => one.digest),
          [bom.digest],
        );
        assert.deepEqual((await store.listReferrers(ann, a, subject.digest, 'none/such', { limit: 5 })).items, []);
      }),
    );

    test(
      'referrers of what is unknown are none; of a missing or deleted subject they stay',
      onFresh(open, async (store) => {
        const nobody = blob('nobody');
        const list = async (subject: Sample) =>
          (await store.listReferrers(ann, a, subject.digest, undefined, { limit: 100 })).items;
        assert.deepEqual(await list(nobody), []);
        await pushBlob(store, ann, a, config);
        assert.deepEqual(await list(nobody), []);
        const early = referrer(nobody, 1);
        await pushManifest(store, ann, a, early);
        assert.equal((await list(nobody)).length, 1);
        const subject = await pushImage(store, ann, a, 'subject');
        const late = referrer(subject, 2);
        await pushManifest(store, ann, a, late);
        await store.deleteManifest(ann, a, subject.digest);
        assert.equal((await list(subject)).length, 1);
        await store.deleteManifest(ann, a, late.digest);
        assert.deepEqual(await list(subject), []);
        await store.restore(ann, a, { digest: late.digest });
        assert.equal((await list(subject)).length, 1);
      }),
    );

    test(
      'referrers come in pages, in byte order, filtered or not',
      onFresh(open, async (store) => {
        const subject = blob('subject');
        await pushBlob(store, ann, a, config);
        const samples = Array.from({ length: 7 }, (_, n) => referrer(subject, n, n % 2 ? 'type/odd' : 'type/even'));
        for (const one of samples) await pushManifest(store, ann, a, one);
        const digests = samples.map((one) => one.digest).sort();
        for (const limit of [1, 2, 3, 7, 8]) {
          const list = await allPages((page) => store.listReferrers(ann, a, subject.digest, undefined, page), limit);
          assert.deepEqual(
            list.map((one) => one.digest),
            digests,
          );
          const odd = await allPages((page) => store.listReferrers(ann, a, subject.digest, 'type/odd', page), limit);
          assert.equal(odd.length, 3);
        }
      }),
    );

    test(
      'the fallback tag is merged with the subjects, each referrer once',
      onFresh(open, async (store) => {
        const subject = await pushImage(store, ann, a, 'subject', 'v1');
        await pushBlob(store, ann, a, config);
        const both = referrer(subject, 1);
        const old = image(config, [], { artifactType: 'type/old', annotations: { from: 'manifest' } });
        const direct = referrer(subject, 2);
        for (const one of [both, old, direct]) await pushManifest(store, ann, a, one);
        const lying = { ...descriptor(old), artifactType: 'type/lie', annotations: { from: 'index' } };
        const fallback = subject.digest.replace(':', '-');
        await pushManifest(store, ann, a, index([both, lying]), fallback);
        const list = async () => (await store.listReferrers(ann, a, subject.digest, undefined, { limit: 100 })).items;
        const items = await list();
        assert.deepEqual(
          items.map((one) => one.digest),
          [both, old, direct].map((one) => one.digest).sort(),
        );
        const found = items.find((one) => one.digest === old.digest)!;
        assert.equal(found.artifactType, 'type/old');
        assert.deepEqual({ ...found.annotations }, { from: 'manifest' });
        await pushManifest(store, ann, a, index([both]), fallback);
        assert.ok(!(await list()).some((one) => one.digest === old.digest), 'the tag moved: its old children are out');
        await store.deleteTag(ann, a, tag(fallback));
        assert.deepEqual(
          (await list()).map((one) => one.digest),
          [both, direct].map((one) => one.digest).sort(),
        );
      }),
    );
  });
}
