/** The seam's contract with both halves over HTTP, against a real protocol server over a registry in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UploadId } from '../oci/names.ts';
import { serve } from '../protocol/serve.testing.ts';
import { blobContract } from '../registry/blobs.contract.ts';
import { deleteContract } from '../registry/deletes.contract.ts';
import type { OpenStore } from '../registry/fresh.testing.ts';
import { listContract } from '../registry/lists.contract.ts';
import { manifestContract } from '../registry/manifests.contract.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import {
  blob,
  body,
  brokenBody,
  callAs,
  image,
  pullBlob,
  pushBlob,
  refused,
  repo,
  tag,
} from '../registry/samples.testing.ts';
import { lying, reading } from './upstream.testing.ts';

const ann = callAs('ann');
const bob = callAs('bob');
const a = repo('team/app');
const b = repo('team/other');

/** Only what the seam does not have (undelete, purge) goes to the memory itself. */
async function open(): Promise<OpenStore> {
  const memory = memoryRegistry();
  const served = await serve({ registry: memory });
  const url = `http://127.0.0.1:${served.port}`;
  const upstream = reading({ url, credentials: { username: 'ann', password: 'x' } });
  return {
    store: { ...memory, ...upstream.registry },
    async close() {
      await upstream[Symbol.asyncDispose]();
      await served[Symbol.asyncDispose]();
    },
  };
}

blobContract(open);
manifestContract(open);
deleteContract(open);
listContract(open);

async function withUpstream(work: (to: Registry) => Promise<void>): Promise<void> {
  const { store, close } = await open();
  try {
    await work(store);
  } finally {
    await close();
  }
}

test('an upload goes on piece by piece, and answers to its own repository and principal only', () =>
  withUpstream(async (to) => {
    const { id } = await to.startUpload(ann, a);
    assert.deepEqual(await to.uploadStatus(ann, a, id), { id, size: 0 });
    assert.equal((await to.appendUpload(ann, a, id, { body: body('ab'), offset: 0, length: 2 })).size, 2);
    const wrong = await refused(
      to.appendUpload(ann, a, id, { body: body('xx'), offset: 7, length: 2 }),
      'RANGE_INVALID',
    );
    assert.deepEqual(wrong.detail, { size: 2 });
    assert.equal((await to.appendUpload(ann, a, id, { body: body('cd') })).size, 4);
    for (const [call, repository, one] of [
      [bob, a, id],
      [ann, b, id],
      [ann, a, 'other' as UploadId],
    ] as const) {
      await refused(to.uploadStatus(call, repository, one), 'BLOB_UPLOAD_UNKNOWN');
      await refused(to.appendUpload(call, repository, one, { body: body('x') }), 'BLOB_UPLOAD_UNKNOWN');
      await refused(to.cancelUpload(call, repository, one), 'BLOB_UPLOAD_UNKNOWN');
    }
    const whole = blob('abcdef');
    const done = await to.commitUpload(ann, a, id, whole.digest, { body: body('ef'), offset: 4, length: 2 });
    assert.deepEqual([done.digest, done.size], [whole.digest, 6]);
    await refused(to.uploadStatus(ann, a, id), 'BLOB_UPLOAD_UNKNOWN');
    assert.deepEqual(await pullBlob(to, ann, a, whole.digest), whole.bytes);
  }));

test('an upload that is cancelled or closed with a wrong digest is gone; one that broke off goes on', () =>
  withUpstream(async (to) => {
    const cancelled = await to.startUpload(ann, a);
    await to.appendUpload(ann, a, cancelled.id, { body: body('ab') });
    await to.cancelUpload(ann, a, cancelled.id);
    await refused(to.appendUpload(ann, a, cancelled.id, { body: body('x') }), 'BLOB_UPLOAD_UNKNOWN');
    const closed = await to.startUpload(ann, a);
    await to.appendUpload(ann, a, closed.id, { body: body('ab') });
    await refused(to.commitUpload(ann, a, closed.id, blob('other').digest), 'DIGEST_INVALID');
    await refused(to.uploadStatus(ann, a, closed.id), 'BLOB_UPLOAD_UNKNOWN');
    const broken = await to.startUpload(ann, a);
    await assert.rejects(to.appendUpload(ann, a, broken.id, { body: brokenBody('0123') }));
    const { size } = await to.uploadStatus(ann, a, broken.id);
    const whole = blob('0123456789');
    await to.commitUpload(ann, a, broken.id, whole.digest, { body: body('0123456789'.slice(size)), offset: size });
    assert.deepEqual(await pullBlob(to, ann, a, whole.digest), whole.bytes);
  }));

test('conditions are refused, since nobody would check them', () =>
  withUpstream(async (to) => {
    const guards = [{ kind: 'tag-at', tag: tag('v1'), digest: null }] as const;
    const sample = image(blob('{}'), []);
    await refused(
      to.pushManifest(ann, a, sample.bytes, sample.mediaType, { tags: [tag('v1')], guards }),
      'UNSUPPORTED',
      501,
    );
    await refused(to.pushBlob(ann, a, { digest: sample.digest }, body('x'), guards), 'UNSUPPORTED');
    await refused(to.deleteTag(ann, a, tag('v1'), guards), 'UNSUPPORTED');
  }));

test('tags are set one by one where the upstream does not take several', async () => {
  const sample = image(blob('{}'), []);
  await using server = await lying((request, response) => {
    request.resume();
    response.writeHead(201, { location: '/x', 'docker-content-digest': sample.digest });
    response.end();
  });
  await using upstream = reading({ url: server.origin });
  const tags = [tag('v1'), tag('v2')];
  const pushed = await upstream.registry.pushManifest(ann, a, sample.bytes, sample.mediaType, { tags });
  assert.deepEqual(pushed.tags, tags);
  assert.deepEqual(
    server.asked.map(({ url }) => url?.slice('/v2/team/app/manifests/'.length)),
    [`${sample.digest}?tag=v1&tag=v2`, `v1?digest=${sample.digest}`, `v2?digest=${sample.digest}`],
  );
});

test('an upload is not sent anywhere else than to the registry', async () => {
  await using other = await lying((_request, response) => void response.writeHead(201).end());
  for (const location of [`${other.origin}/upload`, '//127.0.0.1:1/x', 'file:///tmp/x', 'http://u:p@127.0.0.1/', '']) {
    await using server = await lying((request, response) => {
      request.resume();
      response.writeHead(202, location === '' ? {} : { location });
      response.end();
    });
    await using upstream = reading({ url: server.origin, credentials: { username: 'u', password: 'p' } });
    await refused(
      pushBlob(upstream.registry, ann, a, blob('secret')).then(() => {}),
      'UNAVAILABLE',
      502,
    );
    await refused(upstream.registry.startUpload(ann, a), 'UNAVAILABLE', 502);
  }
  assert.equal(other.asked.length, 0);
});

test('an upstream that calls what was pushed something else is not believed', async () => {
  const other = blob('other').digest;
  await using server = await lying((request, response) => {
    request.resume();
    response.writeHead(request.method === 'POST' ? 202 : 201, { location: '/v2/up', 'docker-content-digest': other });
    response.end();
  });
  await using upstream = reading({ url: server.origin });
  const sample = image(blob('{}'), []);
  await refused(
    upstream.registry.pushManifest(ann, a, sample.bytes, sample.mediaType, { tags: [tag('v1')] }),
    'UNAVAILABLE',
    502,
  );
  await refused(
    pushBlob(upstream.registry, ann, a, blob('x')).then(() => {}),
    'UNAVAILABLE',
    502,
  );
});
