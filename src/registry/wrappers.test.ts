import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import type { UploadId } from '../oci/names.ts';
import type { Change, GuardSource } from './guard.ts';
import { memoryRegistry } from './memory.ts';
import { Passthrough } from './passthrough.ts';
import { readOnly } from './read-only.ts';
import { registryContract } from './registry.contract.ts';
import type { BlobSources, Store } from './registry.ts';
import { blob, body, callAs, image, pushBlob, pushImage, pushManifest, refused, repo, tag } from './samples.testing.ts';
import { select } from './select.ts';
import { traced } from './trace.ts';
import { withGuards } from './with-guards.ts';
import { withPullChecks } from './with-pull-checks.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('lab/app');

function over(wrap: (inner: Store) => Store): () => Promise<{ store: Store & BlobSources; close(): Promise<void> }> {
  return async () => {
    const inner = memoryRegistry();
    const outer = wrap(inner);
    const store = new Proxy(outer, {
      get(target, name) {
        if (name === 'sourcesOf') return inner.sourcesOf;
        const method: unknown = Reflect.get(target, name);
        return typeof method === 'function' ? method.bind(target) : method;
      },
    }) as Store & BlobSources;
    return { store, close: async () => {} };
  };
}

const silent: GuardSource = { guardsFor: () => [] };
registryContract(
  'passthrough',
  over((inner) => new Passthrough(inner)),
);
registryContract(
  'with-guards, with-pull-checks and trace in a row',
  over((inner) =>
    traced(
      withPullChecks(withGuards(inner, [silent]), [{ name: 'none', check: async () => undefined }]),
      (_m, _c, _r, work) => work(),
    ),
  ),
);
registryContract(
  'select with one store',
  over((inner) => select([inner], () => inner)),
);

const everyMutation: Record<string, (store: Store) => Promise<unknown>> = {
  'blob.push': (store) => store.pushBlob(ann, a, { digest: blob('x').digest }, body('x')),
  'upload.append': async (store) => {
    const { id } = await store.startUpload(ann, a);
    await store.appendUpload(ann, a, id, { body: body('x') });
  },
  'upload.commit': async (store) => {
    const { id } = await store.startUpload(ann, a);
    await store.commitUpload(ann, a, id, blob('x').digest, { body: body('x') });
  },
  'upload.cancel': async (store) => store.cancelUpload(ann, a, (await store.startUpload(ann, a)).id),
  'blob.mount': (store) => store.mountBlob(ann, a, blob('x').digest, a),
  'manifest.push': async (store) => {
    const sample = image(blob('x'), []);
    await store.pushManifest(ann, a, sample.bytes, sample.mediaType, { digest: sample.digest, tags: [tag('v1')] });
  },
  'tag.delete': (store) => store.deleteTag(ann, a, tag('v1')),
  restore: (store) => store.restore(ann, a, { tag: tag('v1') }),
  'manifest.delete': (store) => store.deleteManifest(ann, a, image(blob('x'), []).digest),
  purge: (store) => store.purge(ann, a, { digest: image(blob('x'), []).digest }),
  'blob.delete': (store) => store.deleteBlob(ann, a, blob('x').digest),
  'repository.delete': (store) => store.deleteRepository(ann, a),
};

describe('with-guards', () => {
  test('asks every source once for each mutation, in its words', async () => {
    const asked: Change[] = [];
    const source: GuardSource = {
      guardsFor: async (call, change) => {
        assert.equal(call, ann);
        asked.push(change);
        return [];
      },
    };
    const store = withGuards(memoryRegistry(), [silent, source]);
    for (const [operation, mutate] of Object.entries(everyMutation)) {
      asked.length = 0;
      await mutate(store);
      assert.deepEqual(
        asked.map((change) => [change.operation, change.repository]),
        [[operation, a]],
      );
    }
    asked.length = 0;
    await everyMutation['blob.push']!(store);
    await everyMutation['manifest.push']!(store);
    const sample = image(blob('x'), []);
    assert.deepEqual(asked, [
      { operation: 'blob.push', repository: a, digest: blob('x').digest, tags: [] },
      { operation: 'manifest.push', repository: a, digest: sample.digest, tags: ['v1'] },
    ]);
  });

  test("what the sources answer is checked, after the caller's own", async () => {
    const inner = memoryRegistry();
    const store = withGuards(inner, [
      { guardsFor: () => [{ kind: 'tags-unmoved', rule: 'all', include: ['**'], except: [] }] },
    ]);
    await pushImage(store, ann, a, 'one', 'v1');
    const two = await pushImage(inner, ann, a, 'two');
    await refused(pushManifest(store, ann, a, two, 'v1'), 'DENIED', 403);
    const guards = [{ kind: 'tag-at', tag: tag('v1'), digest: null }] as const;
    const push = store.pushManifest(ann, a, two.bytes, two.mediaType, { tags: [tag('v1')], guards });
    await refused(push, 'DENIED', 412);
    await refused(store.deleteTag(ann, a, tag('v1')), 'UNSUPPORTED');
  });

  test('a source that fails refuses the change', async () => {
    const inner = memoryRegistry();
    const failing = {
      guardsFor: () => {
        throw new RegistryError('UNAVAILABLE', 'The rules cannot be read.');
      },
    };
    await refused(pushBlob(withGuards(inner, [failing]), ann, a, blob('x')), 'UNAVAILABLE');
    await refused(inner.resolveBlob(ann, a, blob('x').digest), 'BLOB_UNKNOWN');
  });
});

describe('with-pull-checks', () => {
  test('refuses by the digest that would be sent, also through a tag, for HEAD and GET', async () => {
    const inner = memoryRegistry();
    const bad = await pushImage(inner, ann, a, 'bad', 'latest');
    const good = await pushImage(inner, ann, a, 'good', 'stable');
    const store = withPullChecks(inner, [
      { name: 'quiet', check: async () => undefined },
      {
        name: 'scan',
        check: async (_c, _r, manifest) => (manifest.digest === bad.digest ? 'Not scanned.' : undefined),
      },
    ]);
    for (const reference of [{ tag: tag('latest') }, { digest: bad.digest }]) {
      const error = await refused(store.getManifest(ann, a, reference), 'DENIED', 403);
      assert.equal(error.message, 'Not scanned.');
      await refused(store.resolveManifest(ann, a, reference), 'DENIED');
    }
    assert.equal((await store.getManifest(ann, a, { tag: tag('stable') })).descriptor.digest, good.digest);
    await pushManifest(inner, ann, a, good, 'latest');
    assert.equal((await store.resolveManifest(ann, a, { tag: tag('latest') })).digest, good.digest);
    await refused(store.getManifest(ann, a, { tag: tag('none') }), 'MANIFEST_UNKNOWN');
  });
});

describe('read-only', () => {
  test('refuses every mutation and passes every read', async () => {
    const inner = memoryRegistry();
    const one = await pushImage(inner, ann, a, 'one', 'v1');
    const { id } = await inner.startUpload(ann, a);
    const store = readOnly(inner);
    for (const [operation, mutate] of Object.entries(everyMutation)) {
      const error = await refused(mutate(store), 'UNSUPPORTED', 405);
      assert.match(error.message, /read-only/, operation);
    }
    const chunk = { body: body('x') };
    await refused(store.appendUpload(ann, a, id, chunk), 'UNSUPPORTED');
    await refused(store.commitUpload(ann, a, id, blob('').digest), 'UNSUPPORTED');
    await refused(store.cancelUpload(ann, a, id), 'UNSUPPORTED');
    assert.equal((await store.uploadStatus(ann, a, id)).size, 0);
    assert.equal((await store.getManifest(ann, a, { tag: tag('v1') })).descriptor.digest, one.digest);
    await store.resolveManifest(ann, a, { tag: tag('v1') });
    await store.resolveBlob(ann, a, blob('layer of one').digest);
    (await store.getBlob(ann, a, blob('layer of one').digest)).close();
    assert.deepEqual((await store.listTags(ann, a, { limit: 1 })).items, ['v1']);
    assert.deepEqual((await store.listRepositories(ann, { limit: 1 })).items, [a]);
    assert.deepEqual((await store.listReferrers(ann, a, one.digest, undefined, { limit: 1 })).items, []);
  });
});

describe('select', () => {
  const team = () => {
    const stores = [memoryRegistry(), memoryRegistry()] as const;
    return { stores, store: select(stores, (name) => (name.startsWith('team/') ? stores[0] : stores[1])) };
  };

  test('each repository lies in its own store; nothing is mounted between two', async () => {
    const { stores, store } = team();
    const sample = blob('x');
    await pushBlob(store, ann, a, sample);
    await refused(stores[1].resolveBlob(ann, a, sample.digest), 'BLOB_UNKNOWN');
    await pushBlob(stores[1], ann, a, sample); // a leftover in the wrong store
    assert.equal(await store.mountBlob(ann, b, sample.digest, a), undefined);
    assert.ok((await store.mountBlob(ann, repo('team/two'), sample.digest, a)) !== undefined);
    await refused(store.uploadStatus(ann, b, (await store.startUpload(ann, a)).id as UploadId), 'BLOB_UPLOAD_UNKNOWN');
  });

  test('the catalog is merged, in order, in full pages, without what lies in the wrong store', async () => {
    const { stores, store } = team();
    const names = ['lab/a', 'lab/z', 'team/a', 'team/b', 'zoo/a'].map(repo);
    for (const name of names) await pushImage(store, ann, name, 'one');
    await pushImage(stores[1], ann, repo('team/hidden'), 'one');
    await pushImage(stores[0], ann, repo('lab/hidden'), 'one');
    for (const limit of [1, 2, 3, 4, 5, 9]) {
      const seen: string[] = [];
      for (let after: string | undefined; ; ) {
        const page = await store.listRepositories(ann, after === undefined ? { limit } : { limit, after });
        seen.push(...page.items);
        if (page.next === undefined) break;
        assert.equal(page.items.length, limit);
        after = page.next;
      }
      assert.deepEqual(seen, names);
    }
  });
});

describe('trace', () => {
  test('tells of every method with its call and repository, and changes no answer', async () => {
    const inner = memoryRegistry();
    const seen: string[] = [];
    const store = traced(inner, async (method, call, repository, work) => {
      assert.equal(call, ann);
      seen.push(`${method} ${repository}`);
      return work();
    });
    await pushImage(store, ann, a, 'one', 'v1');
    await store.listRepositories(ann, { limit: 1 });
    await refused(store.resolveManifest(ann, b, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
    assert.deepEqual(seen, [
      `pushBlob ${a}`,
      `pushBlob ${a}`,
      `pushManifest ${a}`,
      'listRepositories undefined',
      `resolveManifest ${b}`,
    ]);
  });

  test('has every method of the seam', () => {
    const methods = Object.getOwnPropertyNames(Passthrough.prototype).filter((name) => name !== 'constructor');
    assert.equal(methods.length, 21);
    assert.deepEqual(Object.keys(traced(memoryRegistry(), (_m, _c, _r, work) => work())).sort(), methods.sort());
  });
});
