/**
 * Threat cases 10, 31, 32, 37 and 76 where blobs lie in an object store: addresses that clients are sent to, and what
 * two instances keep in their caches.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { TEST_KEY, TEST_SECRET } from '../../../src/storage/s3/server.testing.ts';
import { newShared, s3, startFleet, stopEngines, storageOf, withFleet } from '../../engines/fleet/fleet.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { basic, bytesOf, expectStatus, get, OCI_MANIFEST, pushBlob, pushImage, putManifest } from '../support/oci.ts';
import { addUser, open, PASSWORDS } from '../support/open.ts';
import { ask, eventually } from '../support/wire.ts';

await withFleet('presigned addresses and caches', () => {
  describe('blobs in an object store', () => {
    after(stopEngines);

    it('T10 T37 T76 an address is for one blob and a short time, only for who may pull, and is written nowhere', async () => {
      const bucket = await (await s3()).bucket('presigned');
      const data = temporaryFolder('data');
      const accessLog = join(data, 'access.log');
      await addUser(data, 'alice', PASSWORDS.alice);
      await addUser(data, 'bob', PASSWORDS.bob);
      const server = await open({
        data,
        config: {
          storage: storageOf(bucket, { redirect: { lifetime: '30s' } }),
          log: { level: 'debug', access: accessLog },
          access: {
            anonymous: 'none',
            rules: [{ users: ['alice'], repositories: ['private/**'], actions: ['pull', 'push', 'delete'] }],
          },
        },
      });
      const [alice, bob] = [basic('alice', PASSWORDS.alice), basic('bob', PASSWORDS.bob)];
      const secret = bytesOf(200_000);
      const digest = await pushBlob(server, 'private/a', secret, alice);
      const other = bytesOf(200_001);
      const otherDigest = await pushBlob(server, 'private/b', other, alice);
      const path = `/v2/private/a/blobs/${digest}`;
      const sent = await get(server, path, alice);
      expectStatus(sent, 307);
      assert.equal(sent.body.length, 0);
      assert.match(sent.header('cache-control'), /no-store/);
      const address = new URL(sent.header('location'));
      assert.equal(address.searchParams.get('X-Amz-Expires'), '30');
      assert.ok(!address.href.includes(TEST_SECRET));
      const fetched = await fetch(address);
      assert.ok(secret.equals(Buffer.from(await fetched.arrayBuffer())));
      // For another object, another method, longer, or with another header in the answer: refused by the store.
      const changed = (change: (url: URL) => void): URL => {
        const url = new URL(address);
        change(url);
        return url;
      };
      const hex = (text: string): string => text.slice(7);
      for (const [what, url, method] of [
        [
          'another blob',
          changed((url) => (url.pathname = url.pathname.replaceAll(hex(digest), hex(otherDigest)))),
          'GET',
        ],
        ['longer', changed((url) => url.searchParams.set('X-Amz-Expires', '604800')), 'GET'],
        ['later', changed((url) => url.searchParams.set('X-Amz-Date', '20360101T000000Z')), 'GET'],
        ['as a page', changed((url) => url.searchParams.set('response-content-type', 'text/html')), 'GET'],
        [
          'another key',
          changed((url) => url.searchParams.set('X-Amz-Credential', 'x/20260101/us-east-1/s3/aws4_request')),
          'GET',
        ],
        ['deleted', new URL(address), 'DELETE'],
        ['overwritten', new URL(address), 'PUT'],
      ] as const) {
        const answer = await fetch(url, { method, ...(method === 'PUT' ? { body: 'x' } : {}) });
        await answer.arrayBuffer();
        assert.ok(answer.status >= 400 && answer.status < 500, `${what}: ${answer.status}`);
      }
      assert.notEqual(address.pathname.indexOf(hex(digest)), -1);
      // Whoever may not pull is told nothing of it, and neither is who may not any more.
      for (const [headers, status] of [
        [bob, 404],
        [{}, 401],
        [basic('alice', 'wrong'), 401],
      ] as const) {
        for (const method of ['GET', 'HEAD']) {
          const answer = await ask(server, method, path, { headers });
          expectStatus(answer, status);
          assert.equal(answer.header('location'), '');
        }
      }
      expectStatus(await ask(server, 'DELETE', path, { headers: alice }), 202);
      for (const method of ['GET', 'HEAD']) {
        const answer = await ask(server, method, path, { headers: { ...alice, range: 'bytes=0-1' } });
        expectStatus(answer, 404);
        assert.equal(answer.header('location'), '');
      }
      await get(server, '/v2/private/b/blobs/last-line', alice);
      await eventually('the access log has all of it', () =>
        readFileSync(accessLog, 'utf8').includes('last-line') ? true : undefined,
      );
      const metrics = await get(server, '/metrics');
      expectStatus(metrics, 200);
      for (const [what, text] of [
        ['the log', server.output()],
        ['the access log', readFileSync(accessLog, 'utf8')],
        ['the metrics', metrics.text()],
      ] as const) {
        assert.ok(text.length > 100, what);
        for (const canary of ['X-Amz-', address.searchParams.get('X-Amz-Signature')!, TEST_SECRET, TEST_KEY])
          assert.ok(!text.includes(canary), `${what} has ${canary}`);
      }
    });

    it('T31 T32 two instances with caches: what is deleted in one repository is gone there on both at once', async () => {
      const shared = await newShared();
      const fleet = await startFleet({
        instances: 2,
        shared,
        config: {
          storage: { redirect: { enabled: false }, cache: { maxBytes: '64 MiB' } },
          access: {
            anonymous: 'push',
            rules: [{ users: ['*'], repositories: ['**'], actions: ['pull', 'push', 'delete'] }],
          },
        },
      });
      try {
        const [one, two] = fleet.servers as [(typeof fleet.servers)[0], (typeof fleet.servers)[0]];
        for (const size of [1_000, 300_000]) {
          const bytes = bytesOf(size);
          const digest = await pushBlob(one, `a/${size}`, bytes);
          const mounted = await ask(two, 'POST', `/v2/b/${size}/blobs/uploads/?mount=${digest}&from=a/${size}`);
          expectStatus(mounted, 201);
          const inRepository = (name: string) => `/v2/${name}/${size}/blobs/${digest}`;
          // Both have it in their caches now, read through both repositories.
          for (const server of [one, two])
            for (const name of ['a', 'b', 'a'])
              assert.ok(bytes.equals(expectStatus(await get(server, inRepository(name)), 200).body));
          expectStatus(await ask(one, 'DELETE', inRepository('b')), 202);
          for (let round = 0; round < 3; round++) {
            for (const server of [two, one]) {
              for (const [method, headers] of [
                ['HEAD', {}],
                ['GET', {}],
                ['GET', { range: 'bytes=0-9' }],
              ] as const)
                expectStatus(await ask(server, method, inRepository('b'), { headers }), 404);
              // Another repository reads the same digest in between.
              assert.ok(bytes.equals(expectStatus(await get(server, inRepository('a')), 200).body));
            }
          }
          expectStatus(await ask(two, 'DELETE', inRepository('a')), 202);
          for (const server of [one, two])
            for (const name of ['a', 'b'])
              for (const method of ['HEAD', 'GET']) expectStatus(await ask(server, method, inRepository(name)), 404);
        }
        // A manifest too, by tag and by digest.
        const image = await pushImage(one, 'a/image', 'v1');
        await pushBlob(two, 'b/image', image.layer);
        await pushBlob(two, 'b/image', image.config);
        expectStatus(await putManifest(two, 'b/image', 'v1', image.manifest, OCI_MANIFEST), 201);
        for (const server of [one, two])
          for (const name of ['a', 'b'])
            for (const reference of ['v1', image.digest])
              expectStatus(await get(server, `/v2/${name}/image/manifests/${reference}`), 200);
        expectStatus(await ask(one, 'DELETE', `/v2/b/image/manifests/${image.digest}`), 202);
        for (const server of [two, one]) {
          for (const reference of ['v1', image.digest]) {
            expectStatus(await get(server, `/v2/a/image/manifests/${reference}`), 200);
            expectStatus(await get(server, `/v2/b/image/manifests/${reference}`), 404);
          }
        }
      } finally {
        await fleet.stop();
      }
    });
  });
});
