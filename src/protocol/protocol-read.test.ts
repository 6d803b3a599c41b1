/** The reads: routes.md §2, over a real server and a registry in memory. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import { blob, callAs, image, repo, type Sample, tag } from '../registry/samples.testing.ts';
import { type Served, serve } from './serve.testing.ts';

const call = callAs('alice');
const content = blob('0123456789');
const empty = blob('');
const config = blob('{}');
const picture = image(config, [content]);

async function filled(registry: Registry): Promise<void> {
  const name = repo('a/b');
  for (const one of [content, empty, config]) {
    await registry.pushBlob(call, name, { digest: one.digest, size: one.bytes.length }, Readable.from([one.bytes]));
  }
  await registry.pushManifest(call, name, picture.bytes, picture.mediaType, {
    tags: [tag('v1'), tag('v2'), tag('v3')],
  });
}

async function served(): Promise<Served> {
  const one = await serve();
  await filled(one.registry);
  return one;
}

/** GET, and HEAD beside it: the same but for the body. */
async function both(server: Served, path: string, headers: Record<string, string> = {}) {
  const get = await server.send('GET', path, { headers });
  const head = await server.send('HEAD', path, { headers });
  assert.equal(head.status, get.status, `HEAD of ${path}`);
  assert.equal(head.body.length, 0);
  const named = (list: readonly string[]) => list.filter((_, i) => i % 2 === 0 && !['Date'].includes(list[i]!));
  assert.deepEqual(named(head.rawHeaders), named(get.rawHeaders));
  assert.equal(head.headers['content-length'], get.headers['content-length']);
  return get;
}

test('/v2/ and /v2 answer an empty object and who they are', async () => {
  await using server = await serve();
  for (const path of ['/v2/', '/v2', '/v2/?x=1']) {
    const answer = await both(server, path);
    assert.equal(answer.status, 200);
    assert.equal(answer.text, '{}');
    assert.equal(answer.headers['docker-distribution-api-version'], 'registry/2.0');
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
    assert.equal(answer.headers['content-security-policy'], "default-src 'none'; sandbox");
    assert.equal(answer.headers['cache-control'], 'no-store');
  }
});

test('a blob, whole', async () => {
  await using server = await served();
  const answer = await both(server, `/v2/a/b/blobs/${content.digest}`);
  assert.equal(answer.status, 200);
  assert.equal(answer.text, '0123456789');
  assert.equal(answer.headers['content-type'], 'application/octet-stream');
  assert.equal(answer.headers['accept-ranges'], 'bytes');
  assert.equal(answer.headers['docker-content-digest'], content.digest);
  assert.equal(answer.headers.etag, `"${content.digest}"`);
  assert.equal(answer.headers['cache-control'], 'private, max-age=31536000, immutable');
  assert.equal(answer.headers['content-disposition'], 'attachment');
  const nothing = await both(server, `/v2/a/b/blobs/${empty.digest}`);
  assert.equal(nothing.headers['content-length'], '0');
  const encoded = await server.send('GET', `/v2/a/b/blobs/${content.digest.replace(':', '%3A')}`);
  assert.equal(encoded.status, 200);
});

test('ranges of a blob', async () => {
  await using server = await served();
  const path = `/v2/a/b/blobs/${content.digest}`;
  const get = (range: string, more: Record<string, string> = {}) =>
    server.send('GET', path, { headers: { range, ...more } });
  for (const [range, text, contentRange] of [
    ['bytes=2-4', '234', 'bytes 2-4/10'],
    ['bytes=8-99', '89', 'bytes 8-9/10'],
    ['bytes=7-', '789', 'bytes 7-9/10'],
    ['bytes=-3', '789', 'bytes 7-9/10'],
    ['bytes=-99', '0123456789', 'bytes 0-9/10'],
  ] as const) {
    const answer = await get(range);
    assert.equal(answer.status, 206, range);
    assert.equal(answer.text, text);
    assert.equal(answer.headers['content-range'], contentRange);
    assert.equal(answer.headers['content-length'], String(text.length));
    assert.equal(answer.headers['docker-content-digest'], content.digest);
  }
  for (const range of ['bytes=10-', 'bytes=99-100', 'bytes=-0', 'bytes=5-2', 'bytes=x', 'bytes=']) {
    const answer = await get(range);
    assert.equal(answer.status, 416, range);
    assert.equal(answer.code, 'RANGE_INVALID');
    assert.equal(answer.headers['content-range'], 'bytes */10');
  }
  for (const range of ['lines=1-2', 'bytes=0-1,5-6']) assert.equal((await get(range)).status, 200, range);
  assert.equal((await get('bytes=0-1', { 'if-range': `"${content.digest}"` })).status, 206);
  assert.equal((await get('bytes=0-1', { 'if-range': `W/"${content.digest}"` })).status, 200);
  assert.equal((await get('bytes=0-1', { 'if-range': 'Tue, 24 Nov 2026 00:00:00 GMT' })).status, 200);
  const head = await server.send('HEAD', path, { headers: { range: 'bytes=2-4' } });
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], '10');
  for (const range of ['bytes=0-', 'bytes=-5']) {
    const none = await server.send('GET', `/v2/a/b/blobs/${empty.digest}`, { headers: { range } });
    assert.equal(none.status, 200, range);
  }
});

test('conditions on a blob and a manifest: 304', async () => {
  await using server = await served();
  for (const [path, digest, cache] of [
    [`/v2/a/b/blobs/${content.digest}`, content.digest, 'private, max-age=31536000, immutable'],
    ['/v2/a/b/manifests/v1', picture.digest, 'private, no-cache'],
  ] as const) {
    for (const list of [`"${digest}"`, digest, `W/"${digest}"`, '*', `"x", "${digest}"`]) {
      const answer = await both(server, path, { 'if-none-match': list });
      assert.equal(answer.status, 304, list);
      assert.equal(answer.headers['docker-content-digest'], digest);
      assert.equal(answer.headers['cache-control'], cache);
      assert.equal(answer.headers.etag, `"${digest}"`);
    }
    assert.equal((await server.send('GET', path, { headers: { 'if-none-match': '"sha256:x"' } })).status, 200);
  }
});

test('what is not there has its own code, also on HEAD', async () => {
  await using server = await served();
  const unknown = blob('unknown').digest;
  for (const [path, code] of [
    [`/v2/a/b/blobs/${unknown}`, 'BLOB_UNKNOWN'],
    [`/v2/none/blobs/${content.digest}`, 'BLOB_UNKNOWN'],
    [`/v2/a/b/blobs/${picture.digest}`, 'BLOB_UNKNOWN'],
    [`/v2/a/b/manifests/${content.digest}`, 'MANIFEST_UNKNOWN'],
    ['/v2/a/b/manifests/none', 'MANIFEST_UNKNOWN'],
    ['/v2/a/b/manifests/.INVALID', 'MANIFEST_UNKNOWN'],
    [`/v2/a/b/manifests/${'x'.repeat(129)}`, 'MANIFEST_UNKNOWN'],
    ['/v2/a/b/manifests/%zz', 'MANIFEST_UNKNOWN'],
    ['/v2/none/manifests/v1', 'MANIFEST_UNKNOWN'],
    ['/v2/none/tags/list', 'NAME_UNKNOWN'],
    ['/v2/a/b/blobs/uploads/none', 'BLOB_UPLOAD_UNKNOWN'],
    ['/v2/a/b/blobs/uploads/%2F', 'BLOB_UPLOAD_UNKNOWN'],
    ['/v2/a/b', 'UNSUPPORTED'],
    ['/v2/a/b/manifests/', 'UNSUPPORTED'],
  ] as const) {
    const answer = await both(server, path);
    assert.equal(answer.status, 404, path);
    assert.equal(answer.code, code, path);
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.equal(answer.headers['cache-control'], 'no-store');
  }
});

test('a manifest by tag and by digest: exact bytes, stored type, whatever Accept says', async () => {
  await using server = await served();
  for (const reference of ['v1', picture.digest, picture.digest.replace(':', '%3A')]) {
    for (const accept of [undefined, '*/*', 'application/json', 'text/html']) {
      const headers = accept === undefined ? {} : { accept };
      const answer = await both(server, `/v2/a/b/manifests/${reference}`, { range: 'bytes=0-1', ...headers });
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.body, picture.bytes);
      assert.equal(answer.headers['content-type'], OCI_MANIFEST);
      assert.equal(answer.headers['docker-content-digest'], picture.digest);
      assert.equal(answer.headers['cache-control'], 'private, no-cache');
    }
  }
  assert.equal((await server.send('GET', '/v2/a/b/manifests/v1?ns=docker.io')).status, 200);
  assert.equal((await server.send('GET', '/v2/a/b/manifests/v1?x=%zz')).status, 400);
});

test('tags in pages', async () => {
  await using server = await served();
  const list = async (query: string) => await both(server, `/v2/a/b/tags/list${query}`);
  const all = await list('');
  assert.deepEqual(JSON.parse(all.text), { name: 'a/b', tags: ['v1', 'v2', 'v3'] });
  assert.equal(all.headers.link, undefined);
  const first = await list('?n=2');
  assert.deepEqual(JSON.parse(first.text).tags, ['v1', 'v2']);
  assert.equal(first.headers.link, '</v2/a/b/tags/list?n=2&last=v2>; rel="next"');
  const second = await list('?n=2&last=v2');
  assert.deepEqual(JSON.parse(second.text).tags, ['v3']);
  assert.equal(second.headers.link, undefined);
  assert.equal((await list('?n=3')).headers.link, undefined);
  assert.deepEqual(JSON.parse((await list('?last=v1x')).text).tags, ['v2', 'v3']);
  const zero = await list('?n=0');
  assert.deepEqual(JSON.parse(zero.text).tags, []);
  assert.equal(zero.headers.link, undefined);
  for (const query of ['?n=', '?n=1000000000', '?n=9223372036854775808', '?n=00003', '?unknown=1']) {
    assert.equal(JSON.parse((await list(query)).text).tags.length, 3, query);
  }
  for (const query of ['?n=-1', '?n=1e3', '?n=x', '?n=1.5', '?n=+1', '?n=%201']) {
    const answer = await list(query);
    assert.equal(answer.status, 400, query);
    assert.equal(answer.code, 'PAGINATION_NUMBER_INVALID');
  }
  for (const query of [`?last=${'x'.repeat(1025)}`, '?n=1&n=2', '?last=%00', '?last=%ff']) {
    assert.equal((await list(query)).status, 400, query);
  }
});

test('a repository whose tags are gone has an empty list', async () => {
  await using server = await served();
  await server.registry.deleteManifest(call, repo('a/b'), picture.digest);
  assert.deepEqual(JSON.parse((await server.send('GET', '/v2/a/b/tags/list')).text), { name: 'a/b', tags: [] });
});

test('the catalog in pages', async () => {
  await using server = await served();
  await server.registry.pushManifest(call, repo('z'), picture.bytes, picture.mediaType, { tags: [] });
  assert.deepEqual(JSON.parse((await both(server, '/v2/_catalog')).text), { repositories: ['a/b', 'z'] });
  const first = await both(server, '/v2/_catalog?n=1');
  assert.deepEqual(JSON.parse(first.text).repositories, ['a/b']);
  assert.equal(first.headers.link, '</v2/_catalog?n=1&last=a%2Fb>; rel="next"');
  assert.deepEqual(JSON.parse((await both(server, '/v2/_catalog?n=1&last=a%2Fb')).text).repositories, ['z']);
  assert.deepEqual(JSON.parse((await both(server, '/v2/_catalog?n=0')).text).repositories, []);
  assert.equal((await both(server, '/v2/_catalog?n=x')).code, 'PAGINATION_NUMBER_INVALID');
});

test('referrers: an index, filtered, in pages by number and by size', async () => {
  await using server = await serve({ limits: { referrersBytes: 700 } });
  await filled(server.registry);
  const subject = { mediaType: OCI_MANIFEST, digest: picture.digest, size: picture.bytes.length };
  const made: Sample[] = [];
  for (const kind of ['a', 'b', 'b', 'b']) {
    const one = image(config, [content], {
      subject,
      artifactType: `application/vnd.${kind}+json`,
      annotations: { n: String(made.length) },
    });
    made.push(one);
    const path = `/v2/a/b/manifests/${one.digest}`;
    const put = await server.send('PUT', path, { headers: { 'content-type': one.mediaType }, body: one.bytes });
    assert.equal(put.status, 201);
    assert.equal(put.headers['oci-subject'], picture.digest);
  }
  const path = `/v2/a/b/referrers/${picture.digest}`;
  const seen: string[] = [];
  let next: string | undefined = path;
  while (next !== undefined) {
    const answer = await both(server, next);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-type'], OCI_INDEX);
    assert.equal(answer.headers['oci-filters-applied'], undefined);
    const index = JSON.parse(answer.text);
    assert.equal(index.schemaVersion, 2);
    assert.ok(index.manifests.length > 0 && index.manifests.length < 4, 'no page holds all');
    seen.push(...index.manifests.map((one: { digest: string }) => one.digest));
    next = /^<(.*)>; rel="next"$/.exec(String(answer.headers.link ?? ''))?.[1];
  }
  assert.deepEqual(seen, made.map((one) => one.digest).sort());
  const filtered = await both(server, `${path}?artifactType=application/vnd.b+json&n=2`);
  assert.equal(filtered.headers['oci-filters-applied'], 'artifactType');
  assert.match(String(filtered.headers.link), /artifactType=application%2Fvnd\.b%2Bjson&n=\d&last=sha256%3A/);
  for (const one of JSON.parse(filtered.text).manifests) assert.equal(one.artifactType, 'application/vnd.b+json');
  const none = await both(server, `/v2/none/referrers/${picture.digest}`);
  assert.equal(none.status, 200);
  assert.deepEqual(JSON.parse(none.text).manifests, []);
  assert.equal((await both(server, '/v2/a/b/referrers/latest')).code, 'DIGEST_INVALID');
  assert.equal((await both(server, `${path}?artifactType=${'x'.repeat(256)}`)).status, 400);
});

test('a blob that lies elsewhere is redirected to on GET, never on HEAD', async () => {
  const inner = memoryRegistry({ sparse: 'all' });
  await filled(inner);
  let closed = 0;
  const registry: Registry = {
    ...inner,
    async getBlob(...args: Parameters<Registry['getBlob']>) {
      const found = await inner.getBlob(...args);
      return { ...found, redirectUrl: 'https://store.example/x?sig=1', close: () => void closed++ };
    },
  };
  await using server = await serve({ registry });
  const get = await server.send('GET', `/v2/a/b/blobs/${content.digest}`);
  assert.equal(get.status, 307);
  assert.equal(get.headers.location, 'https://store.example/x?sig=1');
  assert.equal(get.headers['cache-control'], 'no-store');
  assert.equal(closed, 1);
  const head = await server.send('HEAD', `/v2/a/b/blobs/${content.digest}`);
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], '10');
});

test('ns leads to the repository that caches it, where one is configured', async () => {
  const registry = memoryRegistry({ sparse: 'all' });
  await filled(registry);
  await using server = await serve({
    registry,
    namespace: (ns, name) => (ns === 'docker.io' && name === 'library/x' ? repo('a/b') : undefined),
  });
  const answer = await server.send('GET', '/v2/library/x/manifests/v1?ns=docker.io');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['oci-namespace'], 'docker.io');
  const unknown = await server.send('GET', '/v2/library/x/manifests/v1?ns=quay.io');
  assert.equal(unknown.status, 404);
  assert.equal(unknown.code, 'NAME_UNKNOWN');
});
