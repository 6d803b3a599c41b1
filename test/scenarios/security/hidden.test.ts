/** Threat cases 30-32: what one may not see, and what is deleted. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type Answer,
  basic,
  bearer,
  bytesOf,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageIndex,
  imageManifest,
  OCI_INDEX,
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  putManifest,
  token,
} from '../support/oci.ts';
import { closed, open, PASSWORDS } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const guarded = await closed();
const server = await open();
const alice = basic('alice', PASSWORDS.alice);
const bob = basic('bob', PASSWORDS.bob);

/** An answer without what differs from request to request, digests replaced. */
function shape(answer: Answer, digest: string): unknown {
  const changing = ['date', 'docker-upload-uuid', 'location', 'x-request-id'];
  return {
    status: answer.status,
    headers: answer.rawHeaders
      .filter(([name]) => !changing.includes(name))
      .map(([name, value]) => `${name}: ${value.replaceAll(digest, 'D').replaceAll(encodeURIComponent(digest), 'D')}`),
    names: answer.rawHeaders.map(([name]) => name),
    body: answer.text().replaceAll(digest, 'D'),
  };
}

describe('what may not be seen', { concurrency: true }, () => {
  it('T30 a digest that is only in a hidden repository is answered as a random one, in every way', async () => {
    const secret = bytesOf(500);
    const large = bytesOf(120_000);
    const hidden = await pushBlob(guarded, 'alice/secret', secret, alice);
    await pushBlob(guarded, 'alice/secret', large, alice);
    const image = await pushImage(guarded, 'alice/secret', 'v1', { headers: alice });
    await pushBlob(guarded, 'bob/own', EMPTY_CONFIG, bob);
    await pushImage(guarded, 'bob/own', 'v1', { headers: bob });
    const jwt = bearer(
      await token(guarded, ['repository:bob/own:pull,push,delete', 'repository:alice/secret:pull'], bob),
    );
    const random = digestOf(bytesOf(40));
    for (const headers of [bob, jwt]) {
      const tries: ((digest: string) => Promise<Answer>)[] = [
        (d) => ask(guarded, 'HEAD', `/v2/bob/own/blobs/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/bob/own/blobs/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/bob/own/blobs/${d}`, { headers: { ...headers, range: 'bytes=0-1' } }),
        (d) => ask(guarded, 'GET', `/v2/bob/own/blobs/${d}`, { headers: { ...headers, 'if-none-match': `"${d}"` } }),
        (d) => ask(guarded, 'DELETE', `/v2/bob/own/blobs/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/bob/own/manifests/${d}`, { headers }),
        (d) => ask(guarded, 'HEAD', `/v2/bob/own/manifests/${d}`, { headers }),
        (d) => ask(guarded, 'DELETE', `/v2/bob/own/manifests/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/bob/own/referrers/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/alice/secret/blobs/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/alice/secret/manifests/${d}`, { headers }),
        (d) => ask(guarded, 'GET', `/v2/alice/nothing/blobs/${d}`, { headers }),
        (d) => ask(guarded, 'POST', `/v2/bob/own/blobs/uploads/?mount=${d}&from=alice/secret`, { headers }),
        (d) => ask(guarded, 'POST', `/v2/bob/own/blobs/uploads/?mount=${d}&from=bob/own`, { headers }),
        (d) => ask(guarded, 'POST', `/v2/bob/own/blobs/uploads/?mount=${d}`, { headers }),
        (d) =>
          putManifest(
            guarded,
            'bob/own',
            'probe',
            imageManifest(EMPTY_CONFIG, [], {
              layers: [{ mediaType: 'application/octet-stream', digest: d, size: 500 }],
            }),
            OCI_MANIFEST,
            headers,
          ),
        (d) =>
          putManifest(
            guarded,
            'bob/own',
            'probe',
            imageIndex([{ mediaType: OCI_MANIFEST, digest: d, size: 500 }]),
            OCI_INDEX,
            headers,
          ),
      ];
      for (const [i, attempt] of tries.entries()) {
        const expected = shape(await attempt(random), random);
        for (const digest of [hidden, digestOf(large), image.digest, image.layerDigest]) {
          assert.deepEqual(shape(await attempt(digest), digest), expected, `try ${i}`);
        }
      }
    }
  });

  it('T30 a hidden repository and a missing one differ in nothing, for anybody', async () => {
    await pushImage(guarded, 'alice/there', 'v1', { headers: alice });
    const narrow = bearer(await token(guarded, ['repository:bob/own:pull'], bob));
    for (const headers of [{}, bob, narrow, bearer(await token(guarded, ['repository:alice/there:pull,push']))]) {
      for (const [method, path] of [
        ['GET', 'manifests/v1'],
        ['HEAD', 'manifests/v1'],
        ['GET', 'tags/list'],
        ['GET', `blobs/${digestOf('x')}`],
        ['GET', `referrers/${digestOf('x')}`],
        ['PUT', 'manifests/v1'],
        ['DELETE', 'manifests/v1'],
        ['DELETE', `blobs/${digestOf('x')}`],
        ['POST', 'blobs/uploads/'],
        ['PATCH', 'blobs/uploads/x'],
        ['GET', 'blobs/uploads/x'],
      ] as const) {
        const of = async (name: string): Promise<unknown> =>
          shape(
            await ask(guarded, method, `/v2/alice/${name}/${path}`, { headers: headers as Record<string, string> }),
            `alice/${name}`,
          );
        assert.deepEqual(await of('there'), await of('gone0'), `${method} ${path}`);
      }
    }
  });

  for (const size of [100, 100_000]) {
    it(`T31 a blob of ${size} bytes mounted and deleted is gone there for every way of asking, and unharmed at its source`, async () => {
      const bytes = bytesOf(size);
      const digest = await pushBlob(server, 't31/a', bytes);
      for (let round = 0; round < 3; round += 1) {
        expectStatus(await ask(server, 'POST', `/v2/t31/b/blobs/uploads/?mount=${digest}&from=t31/a`), 201);
        expectStatus(await get(server, `/v2/t31/b/blobs/${digest}`), 200);
        expectStatus(await ask(server, 'DELETE', `/v2/t31/b/blobs/${digest}`), 202);
        for (const [method, headers] of [
          ['HEAD', {}],
          ['GET', {}],
          ['GET', { range: 'bytes=0-1' }],
          ['GET', { 'if-none-match': `"${digest}"` }],
          ['HEAD', { 'if-none-match': '*' }],
          ['DELETE', {}],
        ] as const) {
          assert.equal(
            (await ask(server, method, `/v2/t31/b/blobs/${digest}`, { headers: headers as Record<string, string> }))
              .status,
            404,
            `${method} ${JSON.stringify(headers)}`,
          );
        }
        const text = imageManifest(EMPTY_CONFIG, [bytes]);
        await pushBlob(server, 't31/b', EMPTY_CONFIG);
        expectError(await putManifest(server, 't31/b', 'v1', text), 404, 'MANIFEST_BLOB_UNKNOWN');
        const read = await get(server, `/v2/t31/a/blobs/${digest}`);
        expectStatus(read, 200);
        assert.ok(read.body.equals(bytes));
      }
    });

    it(`T32 a deleted blob of ${size} bytes does not come back because another repository reads the same digest`, async () => {
      const bytes = bytesOf(size);
      const digest = await pushBlob(server, 't32/a', bytes);
      await pushBlob(server, 't32/b', bytes);
      for (const name of ['t32/a', 't32/b']) expectStatus(await get(server, `/v2/${name}/blobs/${digest}`), 200);
      expectStatus(await ask(server, 'DELETE', `/v2/t32/b/blobs/${digest}`), 202);
      let reading = true;
      const reader = (async () => {
        while (reading) expectStatus(await get(server, `/v2/t32/a/blobs/${digest}`), 200);
      })();
      for (let i = 0; i < 50; i += 1) {
        assert.equal((await ask(server, i % 2 === 0 ? 'HEAD' : 'GET', `/v2/t32/b/blobs/${digest}`)).status, 404);
      }
      reading = false;
      await reader;
    });
  }

  it('T32 a deleted manifest does not come back either, by tag or by digest', async () => {
    const a = await pushImage(server, 't32/m', 'v1');
    await pushBlob(server, 't32/n', a.layer);
    await pushBlob(server, 't32/n', a.config);
    expectStatus(await putManifest(server, 't32/n', 'v1', a.manifest), 201);
    for (const name of ['t32/m', 't32/n']) expectStatus(await get(server, `/v2/${name}/manifests/v1`), 200);
    expectStatus(await ask(server, 'DELETE', `/v2/t32/n/manifests/${a.digest}`), 202);
    for (let i = 0; i < 20; i += 1) {
      expectStatus(await get(server, `/v2/t32/m/manifests/${a.digest}`), 200);
      for (const reference of ['v1', a.digest])
        expectError(await get(server, `/v2/t32/n/manifests/${reference}`), 404, 'MANIFEST_UNKNOWN');
      assert.equal((await get(server, `/v2/t32/n/manifests/v1`, { 'if-none-match': `"${a.digest}"` })).status, 404);
    }
  });
});
