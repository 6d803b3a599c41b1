import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryRegistry } from './memory.ts';
import { registryContract } from './registry.contract.ts';
import {
  blob,
  body,
  callAs,
  image,
  index,
  pushBlob,
  pushImage,
  pushManifest,
  refused,
  repo,
} from './samples.testing.ts';

registryContract('memory', async () => ({ store: memoryRegistry(), close: async () => {} }));

const ann = callAs('ann');
const a = repo('team/app');

test('sparse: indexes may lack children, or images blobs too', async () => {
  const config = blob('{}');
  const sample = image(config, []);
  const list = index([sample]);
  const indexes = memoryRegistry({ sparse: 'indexes' });
  await pushManifest(indexes, ann, a, list, 'v1');
  await refused(pushManifest(indexes, ann, a, sample), 'MANIFEST_BLOB_UNKNOWN');
  const all = memoryRegistry({ sparse: 'all' });
  await pushManifest(all, ann, a, list, 'v1');
  await pushManifest(all, ann, a, sample);
  await refused(all.resolveBlob(ann, a, config.digest), 'BLOB_UNKNOWN');
});

test('quota: a project takes no more than its bytes and manifests', async () => {
  const store = memoryRegistry();
  const bytes = [{ kind: 'quota', project: 'team', maxBytes: 10 }] as const;
  const small = blob('12345');
  await store.pushBlob(ann, a, { digest: small.digest }, body('12345'), bytes);
  const large = blob('1234567');
  await refused(store.pushBlob(ann, a, { digest: large.digest }, body('1234567'), bytes), 'DENIED', 403);
  await refused(store.resolveBlob(ann, a, large.digest), 'BLOB_UNKNOWN');
  await store.pushBlob(ann, repo('other/app'), { digest: large.digest }, body('1234567'));
  const one = await pushImage(store, ann, a, 'one');
  const two = image(blob('{"seed":"one"}'), []);
  const guards = [{ kind: 'quota', project: 'team', maxManifests: 1 }] as const;
  await store.pushManifest(ann, a, one.bytes, one.mediaType, { guards });
  await refused(store.pushManifest(ann, a, two.bytes, two.mediaType, { guards }), 'DENIED');
});

test('a manifest beyond 4 MiB is refused with 413', async () => {
  const store = memoryRegistry();
  await pushBlob(store, ann, a, blob('{}'));
  const sample = image(blob('{}'), [], { annotations: { large: 'x'.repeat(4 * 1024 * 1024) } });
  await refused(store.pushManifest(ann, a, sample.bytes, sample.mediaType), 'MANIFEST_INVALID', 413);
  assert.deepEqual((await store.listRepositories(ann, { limit: 1 })).items, []);
});
