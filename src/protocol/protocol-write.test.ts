/** Writing manifests, deleting: routes.md §4. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import { memoryRegistry } from '../registry/memory.ts';
import { blob, callAs, image, pushBlob, repo } from '../registry/samples.testing.ts';
import { type Served, serve } from './serve.testing.ts';

const config = blob('{}');
const layer = blob('layer');
const picture = image(config, [layer]);
const other = image(config, [layer], { annotations: { other: 'yes' } });
const TYPE = { 'content-type': OCI_MANIFEST };

const put = (
  server: Served,
  reference: string,
  body: string | Uint8Array = picture.bytes,
  headers: Record<string, string> = TYPE,
) => server.send('PUT', `/v2/a/b/manifests/${reference}`, { body, headers });
const digestAt = async (server: Served, reference: string) =>
  (await server.send('HEAD', `/v2/a/b/manifests/${reference}`)).headers['docker-content-digest'];

test('by tag and by digest: 201, Location by digest, and again 201', async () => {
  await using server = await serve();
  for (const reference of ['v1', 'v1', picture.digest, `v2?digest=${picture.digest}`]) {
    const answer = await put(server, reference);
    assert.equal(answer.status, 201, answer.text);
    assert.equal(answer.headers.location, `/v2/a/b/manifests/${picture.digest}`);
    assert.equal(answer.headers['docker-content-digest'], picture.digest);
    assert.equal(answer.headers['oci-tag'], undefined);
    assert.equal(answer.headers['content-length'], '0');
  }
  const large = image(config, [layer], {});
  const sha512 = blob(large.bytes.toString(), 'sha512').digest;
  const answer = await put(server, `v5?digest=${sha512}`, large.bytes);
  assert.equal(answer.headers['docker-content-digest'], sha512);
  assert.equal(await digestAt(server, 'v5'), sha512, 'a tag answers in the algorithm it was pushed with');
});

test('the type: parameters dropped, from the document where the header is absent', async () => {
  await using server = await serve();
  assert.equal(
    (await put(server, 'v1', picture.bytes, { 'content-type': `${OCI_MANIFEST}; charset=utf-8` })).status,
    201,
  );
  assert.equal((await put(server, 'v2', picture.bytes, {})).status, 201);
  assert.equal((await server.send('GET', '/v2/a/b/manifests/v2')).headers['content-type'], OCI_MANIFEST);
  for (const type of ['application/json', 'text/plain', `a/${'b'.repeat(300)}`]) {
    assert.equal((await put(server, 'v3', picture.bytes, { 'content-type': type })).code, 'MANIFEST_INVALID', type);
  }
});

test('what is wrong with a push, in order', async () => {
  await using server = await serve({ registry: memoryRegistry(), limits: { manifestBytes: 10_000, tagsPerPush: 3 } });
  const encoded = await put(server, 'v1', picture.bytes, { ...TYPE, 'content-encoding': 'gzip' });
  assert.equal(encoded.status, 415);
  assert.equal(encoded.code, 'UNSUPPORTED');
  assert.equal(
    (await put(server, 'v1', picture.bytes, { ...TYPE, 'content-encoding': 'identity' })).code,
    'MANIFEST_BLOB_UNKNOWN',
  );
  for (const reference of ['.x', 'x'.repeat(129), '%zz', `${picture.digest}?tag=.x`, `${picture.digest}?tag=`]) {
    const answer = await put(server, reference);
    assert.equal(answer.status, 400, reference);
    assert.equal(answer.code, 'NAME_INVALID', reference);
  }
  const both = await put(server, 'v1?tag=v2');
  assert.equal(both.status, 400);
  assert.equal(both.code, 'UNSUPPORTED');
  const many = await put(server, `${picture.digest}?tag=a&tag=b&tag=c&tag=d`);
  assert.equal(many.status, 414);
  assert.equal((await put(server, 'v1?digest=sha256:x')).code, 'DIGEST_INVALID');
  assert.equal((await put(server, `v1?digest=${other.digest}`)).code, 'DIGEST_INVALID');
  assert.equal((await put(server, other.digest)).code, 'DIGEST_INVALID');
  assert.equal((await put(server, `${picture.digest}?digest=${other.digest}`)).code, 'DIGEST_INVALID');
  for (const body of ['', 'no', '[]', '{"schemaVersion":2}', '\ufeff{}', `${'['.repeat(5000)}`]) {
    const answer = await put(server, 'v1', body);
    assert.equal(answer.status, 400);
    assert.equal(answer.code, 'MANIFEST_INVALID');
  }
  const absent = await put(server, 'v1');
  assert.equal(absent.status, 404);
  assert.equal(absent.code, 'MANIFEST_BLOB_UNKNOWN');
  assert.ok(absent.text.includes(config.digest) && absent.text.includes(layer.digest), 'all are named');
});

test('too large: 413 by length and by count, and reading stops', async () => {
  await using server = await serve({ limits: { manifestBytes: 1000, keptAlive: 100, discarded: 200_000 } });
  const announced = await put(server, 'v1', 'x'.repeat(1001));
  assert.equal(announced.status, 413);
  assert.equal(announced.code, 'MANIFEST_INVALID');
  const socket = await server.socket();
  let heard = '';
  socket.on('data', (chunk: Buffer) => {
    heard += chunk;
  });
  socket.write('PUT /v2/a/b/manifests/v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  const piece = `1000\r\n${'x'.repeat(4096)}\r\n`;
  let written = 0;
  await new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
    const more = (): void => {
      while (!socket.destroyed && written < 50_000_000) {
        written += piece.length;
        if (!socket.write(piece)) {
          socket.once('drain', more);
          return;
        }
      }
    };
    more();
  });
  assert.match(heard, /^HTTP\/1\.1 413 /);
  assert.match(heard, /Connection: close/);
  assert.ok(written < 50_000_000, 'the connection ended before the body did');
});

test('several tags at once: a header for each', async () => {
  await using server = await serve();
  const answer = await put(server, `${picture.digest}?tag=a&tag=b&tag=a`);
  assert.equal(answer.status, 201);
  const tags = answer.rawHeaders.filter((_, i) => i % 2 === 1 && answer.rawHeaders[i - 1] === 'OCI-Tag');
  assert.deepEqual(tags, ['a', 'b']);
  for (const tag of tags) assert.equal(await digestAt(server, tag), picture.digest);
});

test('If-Match and If-None-Match hold at the commit: 412', async () => {
  await using server = await serve();
  assert.equal((await put(server, 'v1', picture.bytes, { ...TYPE, 'if-match': `"${picture.digest}"` })).status, 412);
  assert.equal((await put(server, 'v1', picture.bytes, { ...TYPE, 'if-match': '*' })).status, 412);
  assert.equal((await put(server, 'v1', picture.bytes, { ...TYPE, 'if-none-match': '*' })).status, 201);
  const again = await put(server, 'v1', other.bytes, { ...TYPE, 'if-none-match': '*' });
  assert.equal(again.status, 412);
  assert.equal(again.code, 'DENIED');
  for (const headers of [
    { 'if-match': `"${other.digest}"` },
    { 'if-match': `W/"${picture.digest}", "x"` },
    { 'if-none-match': `"x", "${picture.digest}"` },
  ]) {
    assert.equal((await put(server, 'v1', other.bytes, { ...TYPE, ...headers } as Record<string, string>)).status, 412);
  }
  assert.equal(await digestAt(server, 'v1'), picture.digest);
  assert.equal((await put(server, 'v1', other.bytes, { ...TYPE, 'if-match': `"x", "${picture.digest}"` })).status, 201);
  assert.equal(
    (await put(server, 'v1', picture.bytes, { ...TYPE, 'if-none-match': `"${picture.digest}"` })).status,
    201,
  );
  const kept = await server.send('DELETE', '/v2/a/b/manifests/v1', { headers: { 'if-match': `"${other.digest}"` } });
  assert.equal(kept.status, 412);
  assert.equal((await server.send('DELETE', '/v2/a/b/manifests/v1', { headers: { 'if-match': '*' } })).status, 202);
});

test('deleting: a tag alone, a digest with its tags, a blob that nobody needs', async () => {
  await using server = await serve();
  await pushBlob(server.registry, callAs('x'), repo('a/b'), layer);
  await put(server, `${picture.digest}?tag=a&tag=b`);
  assert.equal((await server.send('DELETE', '/v2/a/b/manifests/a')).status, 202);
  assert.equal((await server.send('DELETE', '/v2/a/b/manifests/a')).code, 'MANIFEST_UNKNOWN');
  assert.equal(await digestAt(server, 'b'), picture.digest);
  const needed = await server.send('DELETE', `/v2/a/b/blobs/${layer.digest}`);
  assert.equal(needed.status, 405);
  assert.equal(needed.code, 'UNSUPPORTED');
  assert.ok(needed.headers.allow !== undefined && needed.text.includes(picture.digest));
  assert.equal((await server.send('DELETE', `/v2/a/b/manifests/${picture.digest}`)).status, 202);
  assert.equal((await server.send('GET', '/v2/a/b/manifests/b')).status, 404);
  assert.equal((await server.send('DELETE', `/v2/a/b/manifests/${picture.digest}`)).code, 'MANIFEST_UNKNOWN');
  assert.equal((await server.send('DELETE', `/v2/a/b/blobs/${layer.digest}`)).status, 202);
  assert.equal((await server.send('DELETE', `/v2/a/b/blobs/${layer.digest}`)).code, 'BLOB_UNKNOWN');
  assert.equal((await server.send('DELETE', '/v2/a/b/manifests/.x')).code, 'MANIFEST_UNKNOWN');
});
