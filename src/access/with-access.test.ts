import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import type { Digest, UploadId } from '../oci/names.ts';
import type { Call, Principal } from '../registry/call.ts';
import { memoryRegistry } from '../registry/memory.ts';
import { registryContract } from '../registry/registry.contract.ts';
import type { Store } from '../registry/registry.ts';
import { blob, body, pushBlob, pushImage, repo, tag } from '../registry/samples.testing.ts';
import { callBy } from './access.testing.ts';
import type { AccessRule, AnonymousMode } from './config.ts';
import { ANONYMOUS } from './principals.ts';
import { rightsFrom } from './rights.ts';
import { challengeOf, type GuardedStore, withAccess } from './with-access.ts';

function open(rules: readonly AccessRule[] | undefined, mode: AnonymousMode = 'none') {
  const inner = memoryRegistry();
  return {
    inner,
    guarded: withAccess(
      inner,
      rightsFrom(rules, () => mode),
      inner,
    ),
  };
}

const GRANT_ALL: AccessRule[] = [{ users: ['*'], repositories: ['**'], actions: ['pull', 'push', 'delete', 'purge'] }];
const user = (name: string, bounds?: Principal['bounds']): Call =>
  callBy({ kind: 'user', id: `user:${name}`, name, ...(bounds === undefined ? {} : { bounds }) });
const job = callBy({ kind: 'system', id: 'system:test', name: 'test' });

// The contract says what an implementation does without a source: nothing. Here nobody holds anything.
registryContract('memory behind access, for who may do everything', async () => {
  const inner = memoryRegistry();
  const guarded = withAccess(
    inner,
    rightsFrom(GRANT_ALL, () => 'none'),
    { sourcesOf: async () => [] },
  );
  return { store: { ...guarded, sourcesOf: inner.sourcesOf }, close: async () => {} };
});

const some = blob('some');
const missing = blob('missing').digest;
const id = 'no-such-upload' as UploadId;

/** Each method with the right it needs. */
const METHODS: Readonly<
  Record<
    keyof Store,
    readonly [
      'pull' | 'push' | 'delete' | 'purge' | 'catalog',
      (at: Store, call: Call, name: string) => Promise<unknown>,
    ]
  >
> = {
  resolveManifest: ['pull', (at, call, name) => at.resolveManifest(call, repo(name), { tag: tag('v1') })],
  getManifest: ['pull', (at, call, name) => at.getManifest(call, repo(name), { tag: tag('v1') })],
  resolveBlob: ['pull', (at, call, name) => at.resolveBlob(call, repo(name), missing)],
  getBlob: ['pull', (at, call, name) => at.getBlob(call, repo(name), missing)],
  listTags: ['pull', (at, call, name) => at.listTags(call, repo(name), { limit: 10 })],
  listReferrers: ['pull', (at, call, name) => at.listReferrers(call, repo(name), missing, undefined, { limit: 10 })],
  pushBlob: ['push', (at, call, name) => at.pushBlob(call, repo(name), { digest: some.digest }, body(some.bytes))],
  startUpload: ['push', (at, call, name) => at.startUpload(call, repo(name))],
  uploadStatus: ['push', (at, call, name) => at.uploadStatus(call, repo(name), id)],
  appendUpload: ['push', (at, call, name) => at.appendUpload(call, repo(name), id, { body: body('x') })],
  commitUpload: ['push', (at, call, name) => at.commitUpload(call, repo(name), id, missing)],
  cancelUpload: ['push', (at, call, name) => at.cancelUpload(call, repo(name), id)],
  mountBlob: ['push', (at, call, name) => at.mountBlob(call, repo(name), missing)],
  pushManifest: ['push', (at, call, name) => at.pushManifest(call, repo(name), Buffer.from('{}'), 'application/json')],
  restore: ['push', (at, call, name) => at.restore(call, repo(name), { tag: tag('v1') })],
  deleteBlob: ['delete', (at, call, name) => at.deleteBlob(call, repo(name), missing)],
  deleteManifest: ['delete', (at, call, name) => at.deleteManifest(call, repo(name), missing)],
  deleteTag: ['delete', (at, call, name) => at.deleteTag(call, repo(name), tag('none'))],
  deleteRepository: ['delete', (at, call, name) => at.deleteRepository(call, repo(name))],
  purge: ['purge', (at, call, name) => at.purge(call, repo(name), { tag: tag('v1') })],
  listRepositories: ['catalog', (at, call) => at.listRepositories(call, { limit: 10 })],
};

async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'ok';
  } catch (error) {
    assert.ok(error instanceof RegistryError);
    const { scope, error: word } = challengeOf(error);
    return `${error.code} ${error.message} ${scope ?? ''} ${word ?? ''}`;
  }
}

async function filled(rules: readonly AccessRule[] | undefined, mode: AnonymousMode = 'none') {
  const made = open(rules, mode);
  for (const name of ['team/app', 'secret/app']) await pushImage(made.inner, job, repo(name), name, 'v1');
  return made;
}

const RULES: AccessRule[] = [
  { users: ['alice'], repositories: ['team/**'], actions: ['pull', 'push'] },
  { users: ['reader'], repositories: ['team/**'], actions: ['pull'] },
];

for (const method of Object.keys(METHODS) as (keyof Store)[]) {
  const [need, run] = METHODS[method];
  test(`${method} needs ${need}, and refusals are alike whether the repository exists`, async () => {
    const { guarded } = await filled(RULES);
    for (const [call, grants] of [
      [user('alice'), ['pull', 'push', 'catalog']],
      [user('reader'), ['pull', 'catalog']],
      [user('nobody'), ['catalog']],
    ] as const) {
      const granted = (grants as readonly string[]).includes(need);
      const got = await outcome(run(guarded, call, 'team/app'));
      if (granted) assert.doesNotMatch(got, /DENIED|NAME_UNKNOWN|UNAUTHORIZED/);
      else assert.match(got, need === 'pull' ? /^NAME_UNKNOWN/ : /^DENIED/);
      if (need === 'catalog') continue;
      const hidden = await outcome(run(guarded, call, 'secret/app'));
      assert.match(hidden, need === 'pull' ? /^NAME_UNKNOWN/ : /^DENIED/);
      assert.equal(await outcome(run(guarded, call, 'secret/none')), hidden);
    }
    const unnamed = callBy(ANONYMOUS);
    const scope =
      need === 'catalog' ? 'registry:catalog:\\*' : `repository:team/app:${need === 'push' ? 'pull,push' : need}`;
    assert.match(await outcome(run(guarded, unnamed, 'team/app')), new RegExp(`^UNAUTHORIZED .*${scope} $`));
    if (need !== 'catalog') {
      assert.equal(
        (await outcome(run(guarded, unnamed, 'secret/app'))).replace('secret/app', ''),
        (await outcome(run(guarded, unnamed, 'secret/none'))).replace('secret/none', ''),
      );
    }
    assert.doesNotMatch(await outcome(run(guarded, job, 'secret/app')), /^(DENIED|NAME_UNKNOWN|UNAUTHORIZED)/);
  });

  test(`${method} with a token too narrow says insufficient_scope only where the account may`, async () => {
    const { guarded } = await filled(RULES);
    const narrow = [{ repository: 'team/other', actions: ['repository.pull' as const] }];
    const got = await outcome(run(guarded, user('alice', narrow), 'team/app'));
    const may = ['pull', 'push', 'catalog'].includes(need);
    if (may) assert.match(got, /^UNAUTHORIZED .*insufficient_scope$/);
    else assert.match(got, /^DENIED/);
    if (need === 'catalog') return;
    assert.match(
      await outcome(run(guarded, user('nobody', narrow), 'team/app')),
      need === 'pull' ? /^NAME_UNKNOWN/ : /^DENIED/,
    );
  });

  test(`${method} refuses by rejecting, never by throwing`, async () => {
    const { guarded } = open([]);
    const promise = run(guarded, callBy(ANONYMOUS), 'a');
    assert.ok(promise instanceof Promise);
    await assert.rejects(promise);
  });
}

test('every method of the store is in the matrix', () => {
  const { authorize: _, ...methods } = open([]).guarded;
  assert.deepEqual(Object.keys(methods).sort(), Object.keys(METHODS).sort());
});

test('anonymous modes: pull reads only, push writes and deletes', async () => {
  for (const [mode, expected] of [
    ['pull', ['pull', 'catalog']],
    ['push', ['pull', 'push', 'delete', 'catalog']],
  ] as const) {
    const { guarded } = await filled([], mode);
    for (const [need, run] of Object.values(METHODS)) {
      const got = await outcome(run(guarded, callBy(ANONYMOUS), 'team/app'));
      assert.equal(/^UNAUTHORIZED/.test(got), !(expected as readonly string[]).includes(need), got);
    }
  }
});

test('authorize throws at once what the method would, and says nothing where it is allowed', () => {
  const { guarded } = open(RULES);
  assert.equal(guarded.authorize(user('alice'), 'repository.push', repo('team/app')), undefined);
  assert.equal(guarded.authorize(user('alice'), 'registry.catalog', undefined), undefined);
  assert.throws(() => guarded.authorize(user('alice'), 'repository.delete', repo('team/app')), { code: 'DENIED' });
  assert.throws(() => guarded.authorize(callBy(ANONYMOUS), 'registry.catalog', undefined), { code: 'UNAUTHORIZED' });
});

test('an access that answers later refuses and allows all the same', async () => {
  const inner = memoryRegistry();
  const rights = rightsFrom(RULES, () => 'none');
  const guarded = withAccess(inner, { ...rights, may: async (...asked) => rights.may(...asked) }, inner);
  await guarded.startUpload(user('alice'), repo('team/app'));
  await assert.rejects(guarded.startUpload(user('reader'), repo('team/app')), { code: 'DENIED' });
  await assert.rejects(Promise.resolve(guarded.authorize(user('reader'), 'repository.push', repo('team/app'))), {
    code: 'DENIED',
  });
  await assert.rejects(guarded.mountBlob(user('reader'), repo('team/app'), missing), { code: 'DENIED' });
});

async function mounted(guarded: GuardedStore, call: Call, digest: Digest, from?: string): Promise<boolean> {
  const made = await guarded.mountBlob(call, repo('team/new'), digest, from === undefined ? undefined : repo(from));
  return made !== undefined;
}

test('a blob is mounted from where the caller may pull, named or found, and from nowhere else', async () => {
  const { inner, guarded } = open(RULES);
  await pushBlob(inner, job, repo('secret/app'), some);
  const alice = user('alice');
  assert.equal(await mounted(guarded, alice, some.digest, 'secret/app'), false);
  assert.equal(await mounted(guarded, alice, some.digest), false);
  await assert.rejects(guarded.resolveBlob(alice, repo('team/new'), some.digest), { code: 'BLOB_UNKNOWN' });
  await pushBlob(inner, job, repo('team/app'), some);
  assert.equal(
    await mounted(
      guarded,
      user('alice', [{ repository: 'team/new', actions: ['repository.push'] }]),
      some.digest,
      'team/app',
    ),
    false,
  );
  assert.equal(
    await mounted(guarded, user('alice', [{ repository: 'team/new', actions: ['repository.push'] }]), some.digest),
    false,
  );
  assert.equal(await mounted(guarded, alice, some.digest), true);
  assert.equal(await mounted(guarded, alice, some.digest, 'team/app'), true);
  assert.equal(await mounted(guarded, alice, missing), false);
});

test('the catalog shows what may be pulled, exactly, also by patterns', async () => {
  const rules: AccessRule[] = [
    { users: ['alice'], repositories: ['team/*', 'b'], actions: ['pull'] },
    { users: ['bob'], repositories: ['**'], actions: ['push'] },
  ];
  const { inner, guarded } = open(rules);
  for (const name of ['a', 'b', 'team/app', 'team/app/deep', 'teams/x'])
    await pushImage(inner, job, repo(name), name, 'v1');
  const names = async (call: Call): Promise<readonly string[]> =>
    (await guarded.listRepositories(call, { limit: 100 })).items;
  assert.deepEqual(await names(user('alice')), ['b', 'team/app']);
  assert.deepEqual(await names(user('bob')), []);
  assert.deepEqual(await names(job), ['a', 'b', 'team/app', 'team/app/deep', 'teams/x']);
  await assert.rejects(guarded.listRepositories(callBy(ANONYMOUS), { limit: 1 }), { code: 'UNAUTHORIZED' });
});

test('a lister that takes a pattern for a wider one shows no more for it', async () => {
  const inner = memoryRegistry();
  for (const name of ['team/app', 'team/app/deep']) await pushImage(inner, job, repo(name), name, 'v1');
  const wide: Store = { ...inner, listRepositories: (call, page) => inner.listRepositories(call, page, 'all') };
  const rights = rightsFrom([{ users: ['alice'], repositories: ['team/*'], actions: ['pull'] }], () => 'none');
  const found = await withAccess(wide, rights, inner).listRepositories(user('alice'), { limit: 10 });
  assert.deepEqual(found.items, ['team/app']);
});
