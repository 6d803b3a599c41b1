/** Immutable tags stay where they are, whoever writes and through whichever door. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { freshLocal } from '../../local/fresh.testing.ts';
import { digestOf } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { OCI_MANIFEST } from '../../oci/media-types.ts';
import type { Descriptor, RepositoryName, Tag } from '../../oci/names.ts';
import type { Call } from '../../registry/call.ts';
import type { Store } from '../../registry/registry.ts';
import { withGuards } from '../../registry/with-guards.ts';
import type { Core } from '../feature.ts';
import { immutabilityConfig } from './config.ts';
import { immutability } from './feature.ts';
import { guardsOf } from './rules.ts';

const call: Call = {
  principal: { kind: 'user', id: 'user:1', name: 'ann' },
  requestId: 'r',
  signal: new AbortController().signal,
};
const repository = 'team/app' as RepositoryName;
const rules = immutabilityConfig.parse({
  rules: [{ name: 'releases', repositories: ['team/**'], except: ['latest', '*-dev'] }],
});

async function push(store: Store, note: string, tags: string[], into = repository): Promise<Descriptor> {
  const config = Buffer.from(`{"note":${JSON.stringify(note)}}`);
  const digest = digestOf(config);
  await store.pushBlob(call, into, { digest }, Readable.from([config]));
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/json', digest, size: config.length },
    layers: [],
  };
  const pushed = await store.pushManifest(call, into, Buffer.from(JSON.stringify(manifest)), OCI_MANIFEST, {
    tags: tags as Tag[],
  });
  return pushed.descriptor;
}

async function refused(work: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof RegistryError && error.code === code);
}

test('a tag under a rule is neither moved nor deleted, through any door; exceptions and other repositories are free', async () => {
  const opened = await freshLocal();
  try {
    const feature = immutability.create({} as Core, rules);
    const store = withGuards(opened.store, [feature.guards!]);
    const first = await push(store, 'one', ['v1', 'latest', 'x-dev']);
    await push(store, 'one', ['v1']); // the same digest again is no move
    await refused(push(store, 'two', ['v1']), 'DENIED');
    await refused(push(store, 'two', ['new', 'v1']), 'DENIED');
    await refused(store.getManifest(call, repository, { tag: 'new' as Tag }), 'MANIFEST_UNKNOWN');
    await push(store, 'two', ['latest', 'x-dev']);
    await refused(store.deleteTag(call, repository, 'v1' as Tag), 'UNSUPPORTED');
    const { digest: second } = await push(store, 'two', []);
    await refused(store.restore(call, repository, { tag: 'v1' as Tag, digest: second }), 'DENIED');
    await store.restore(call, repository, { tag: 'v1' as Tag, digest: first.digest });
    await store.restore(call, repository, { tag: 'latest' as Tag, digest: first.digest });
    await push(store, 'two', ['latest']);
    await refused(store.deleteManifest(call, repository, first.digest), 'UNSUPPORTED');
    await refused(store.deleteRepository(call, repository), 'UNSUPPORTED');
    await store.deleteTag(call, repository, 'latest' as Tag);
    assert.equal((await store.resolveManifest(call, repository, { tag: 'v1' as Tag })).digest, first.digest);
    const other = 'free/app' as RepositoryName;
    await push(store, 'one', ['v1'], other);
    await push(store, 'two', ['v1'], other);
  } finally {
    await opened.close();
  }
});

test('of many pushes of one immutable tag exactly one wins', async () => {
  const opened = await freshLocal();
  try {
    const store = withGuards(opened.store, [immutability.create({} as Core, rules).guards!]);
    const answers = await Promise.allSettled(Array.from({ length: 16 }, (_, i) => push(store, `n${i}`, ['v2'])));
    assert.equal(answers.filter((answer) => answer.status === 'fulfilled').length, 1);
  } finally {
    await opened.close();
  }
});

test('a rule guards exactly the changes that can move a tag, in exactly its repositories', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('team/a', 'team/a/b', 'teams/a', 'x'),
      fc.constantFrom('manifest.push', 'tag.delete', 'manifest.delete', 'blob.push', 'upload.commit'),
      (name, operation) => {
        const guards = guardsOf(rules.rules, {
          operation: operation as 'tag.delete',
          repository: name as RepositoryName,
          tags: [],
        });
        const concerned = name.startsWith('team/') && !operation.startsWith('blob') && !operation.startsWith('upload');
        assert.equal(guards.length, concerned ? 1 : 0);
      },
    ),
  );
});
