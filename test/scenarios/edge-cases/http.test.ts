/** Edge cases 90-100: HTTP in general. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  bytesOf,
  digestOf,
  expectError,
  expectStatus,
  get,
  pushBlob,
  pushImage,
  startUpload,
  withQuery,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { type Answer, ask, head, rawAsk, Wire } from '../support/wire.ts';

const server = await open({
  config: { access: { anonymous: 'push' }, server: { corsOrigins: ['https://ui.example'] } },
});
const shut = await open({ config: { access: { anonymous: 'none' } } });
const image = await pushImage(server, 'http/app', 'v1');

describe('http', { concurrency: true }, () => {
  it('E90 Docker-Distribution-Api-Version on every answer of /v2/', async () => {
    for (const answer of [
      await get(server, '/v2/'),
      await get(server, '/v2/http/app/manifests/v1'),
      await get(server, '/v2/http/app/manifests/none'),
      await get(server, '/v2/nonsense'),
      await get(server, '/v2/Bad/manifests/x'),
      await ask(server, 'POST', '/v2/http/app/blobs/uploads/'),
      await ask(server, 'OPTIONS', '/v2/'),
      await ask(server, 'DELETE', '/v2/'),
      await get(shut, '/v2/'),
    ]) {
      assert.equal(answer.header('docker-distribution-api-version'), 'registry/2.0', String(answer.status));
      assert.equal(answer.header('x-content-type-options'), 'nosniff');
      assert.equal(answer.header('content-security-policy'), "default-src 'none'; sandbox");
    }
  });

  it('E91 every error has the form of the specification, with its length', async () => {
    expectError(await get(server, '/v2/nonsense'), 404, 'UNSUPPORTED');
    expectError(await get(server, '/v2/http/app/manifests/v1/'), 404, 'UNSUPPORTED');
    expectError(await get(server, '/v2/http/app/tags/'), 404, 'UNSUPPORTED');
    expectError(await get(server, '/v2/_catalog/'), 404, 'UNSUPPORTED');
    expectError(await ask(server, 'DELETE', '/v2/'), 405, 'UNSUPPORTED');
    expectError(await ask(server, 'POST', '/v2/http/app/manifests/v1'), 405, 'UNSUPPORTED');
    expectError(await ask(server, 'PUT', '/v2/http/app/tags/list'), 405, 'UNSUPPORTED');
    expectError(await get(server, '/v2/http/app/blobs/sha256:x'), 400, 'DIGEST_INVALID');
    expectError(
      await get(server, `/v2/http/app/blobs/${image.layerDigest}`, { range: 'bytes=9999-' }),
      416,
      'RANGE_INVALID',
    );
    expectError(await get(server, `/v2/${'a/'.repeat(5000)}b/tags/list`), 414, 'UNSUPPORTED');
    expectError(await get(server, '/v2/', { 'x-large': 'x'.repeat(17_000) }), 431, 'UNSUPPORTED');
    expectError(await get(shut, '/v2/'), 401, 'UNAUTHORIZED');
    expectError(await get(shut, '/v2/http/app/manifests/v1'), 401, 'UNAUTHORIZED');
    const wrong = await ask(server, 'POST', '/v2/http/app/manifests/v1');
    assert.deepEqual(wrong.header('allow').split(/,\s*/).sort(), ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'PUT']);
    assert.equal(wrong.header('cache-control'), 'no-store');
  });

  it('E92 HEAD errors have no body, and the connection stays in step', async () => {
    const wire = await Wire.connect(server);
    for (const target of [
      '/v2/http/app/manifests/none',
      '/v2/nonsense',
      '/v2/http/app/blobs/sha256:x',
      `/v2/http/app/blobs/${digestOf('none')}`,
    ]) {
      await wire.send(head('HEAD', target));
      const probe = await wire.answer('HEAD');
      await wire.send(head('GET', target));
      const read = await wire.answer();
      assert.equal(probe.status, read.status);
      assert.equal(probe.header('content-length'), String(read.body.length));
      read.json();
    }
    await wire.send(
      head('HEAD', '/v2/') + head('GET', '/v2/') + head('HEAD', '/v2/http/app/manifests/v1') + head('GET', '/v2/'),
    );
    for (const method of ['HEAD', 'GET', 'HEAD', 'GET']) expectStatus(await wire.answer(method), 200);
    assert.equal(wire.rest(), '');
    wire.destroy();
  });

  it('E94 there is no Warning header where there is nothing to warn of', async () => {
    for (const answer of [await get(server, '/v2/'), await get(server, '/v2/http/app/manifests/v1')]) {
      for (const warning of answer.all('warning')) assert.match(warning, /^299 - "[\x20-\x7e]*"$/);
    }
  });

  for (const target of [
    '/v2//http/app/manifests/v1',
    '/v2/http//app/manifests/v1',
    '/v2/http/app//manifests/v1',
    '/v2/http/./app/manifests/v1',
    '/v2/x/../http/app/manifests/v1',
    '/v2/http/app/manifests/../manifests/v1',
    '/v2/http/%61pp/manifests/v1',
    '/v2/http%00/app/manifests/v1',
    '/v2/http/app%2fmanifests/v1',
    '/v2/http\\app/manifests/v1',
    '/v2/http/app/manifests/v1%00',
    '/v2/http/app/manifests/%zz',
    '/v2/./',
  ]) {
    it(`E95 ${target} is refused for every method and never redirected`, async () => {
      for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'POST']) {
        const length = ['PUT', 'PATCH', 'POST'].includes(method) ? ['Content-Length: 0'] : [];
        const answer = await rawAsk(server, head(method, target, length), method);
        assert.ok([400, 404, 405].includes(answer.status), `${method}: ${answer.status}`);
        assert.equal(answer.header('location'), '');
      }
    });
  }

  it('E96 HTTP/1.0 and Connection: close', async () => {
    const old = await Wire.connect(server);
    await old.send('GET /v2/http/app/manifests/v1 HTTP/1.0\r\n\r\n');
    const read = await old.answer();
    expectStatus(read, 200);
    assert.equal(read.text(), image.manifest);
    assert.equal(read.header('transfer-encoding'), '');
    assert.equal(await old.ended(), 'fin');
    const bytes = bytesOf(5000);
    const location = await startUpload(server, 'http/old');
    const put = await Wire.connect(server);
    await put.send(`PUT ${withQuery(location, `digest=${digestOf(bytes)}`)} HTTP/1.0\r\nContent-Length: 5000\r\n\r\n`);
    await put.send(bytes);
    expectStatus(await put.answer(), 201);
    assert.equal(await put.ended(), 'fin');
    const post = await rawAsk(server, 'POST /v2/http/old/blobs/uploads/ HTTP/1.0\r\nHost: x\r\n\r\n');
    expectStatus(post, 202);
    const close = await Wire.connect(server);
    await close.send(head('GET', `/v2/http/app/blobs/${image.layerDigest}`, ['Connection: close']));
    expectStatus(await close.answer(), 200);
    assert.equal(await close.ended(), 'fin');
  });

  it('E97 Docker-Upload-UUID on what an upload answers', async () => {
    const opened = await ask(server, 'POST', '/v2/http/uuid/blobs/uploads/');
    const id = opened.header('docker-upload-uuid');
    assert.ok(id !== '' && opened.header('location').includes(id));
    const location = opened.header('location');
    const answers: [number, Answer][] = [
      [202, await ask(server, 'PATCH', location, { body: 'abc' })],
      [204, await get(server, location)],
      [416, await ask(server, 'PATCH', location, { headers: { 'content-range': '9-11' }, body: 'abc' })],
    ];
    for (const [status, answer] of answers) {
      expectStatus(answer, status);
      assert.equal(answer.header('docker-upload-uuid'), id, String(status));
    }
  });

  it('E98 the same blob by two sessions whose pieces take turns, and many uploads and pulls at once', async () => {
    const bytes = bytesOf(300_000);
    const sessions = [await startUpload(server, 'http/two'), await startUpload(server, 'http/two')];
    for (let at = 0; at < bytes.length; at += 100_000) {
      for (const location of sessions) {
        const range = `${at}-${at + 99_999}`;
        expectStatus(
          await ask(server, 'PATCH', location, {
            headers: { 'content-range': range },
            body: bytes.subarray(at, at + 100_000),
          }),
          202,
        );
      }
    }
    const closings = await Promise.all(
      sessions.map((location) => ask(server, 'PUT', withQuery(location, `digest=${digestOf(bytes)}`))),
    );
    for (const closing of closings) expectStatus(closing, 201);
    const many = Array.from({ length: 12 }, () => bytesOf(150_000));
    await Promise.all(many.map((blob) => pushBlob(server, 'http/many', blob)));
    const read = await Promise.all(many.map((blob) => get(server, `/v2/http/many/blobs/${digestOf(blob)}`)));
    for (const [i, answer] of read.entries()) assert.ok(answer.body.equals(many[i]!));
  });

  it('E99 a body shorter than its Content-Length commits nothing', async () => {
    const bytes = bytesOf(2000);
    const digest = digestOf(bytes.subarray(0, 1500));
    const location = await startUpload(server, 'http/short');
    const wire = await Wire.connect(server, { allowHalfOpen: true });
    await wire.send(head('PUT', withQuery(location, `digest=${digest}`), ['Content-Length: 2000']));
    await wire.send(bytes.subarray(0, 1500));
    wire.socket.end();
    const answer = await wire.answer().catch(() => undefined);
    assert.ok(answer === undefined || answer.status === 400, String(answer?.status));
    wire.destroy();
    expectError(await get(server, `/v2/http/short/blobs/${digest}`), 404, 'BLOB_UNKNOWN');
    const manifest = await Wire.connect(server, { allowHalfOpen: true });
    await manifest.send(
      head('PUT', '/v2/http/app/manifests/short', [
        'Content-Length: 5000',
        'Content-Type: application/vnd.oci.image.manifest.v1+json',
      ]),
    );
    await manifest.send(image.manifest);
    manifest.socket.end();
    const second = await manifest.answer().catch(() => undefined);
    assert.ok(second === undefined || second.status === 400, String(second?.status));
    manifest.destroy();
    expectError(await get(server, '/v2/http/app/manifests/short'), 404, 'MANIFEST_UNKNOWN');
  });

  it('E100 OPTIONS needs no login; CORS for configured origins only', async () => {
    for (const place of [server, shut]) {
      const options = await ask(place, 'OPTIONS', '/v2/http/app/manifests/v1');
      expectStatus(options, 204);
      assert.match(options.header('allow'), /GET/);
      assert.equal(options.header('access-control-allow-origin'), '');
    }
    const asked = { origin: 'https://ui.example', 'access-control-request-method': 'GET' };
    const preflight = await ask(server, 'OPTIONS', '/v2/http/app/manifests/v1', { headers: asked });
    expectStatus(preflight, 204);
    assert.equal(preflight.header('access-control-allow-origin'), 'https://ui.example');
    const read = await get(server, '/v2/http/app/manifests/v1', { origin: 'https://ui.example' });
    assert.equal(read.header('access-control-allow-origin'), 'https://ui.example');
    assert.match(read.header('access-control-expose-headers'), /docker-content-digest/i);
    assert.match(read.header('vary'), /origin/i);
    for (const origin of ['https://evil.example', 'null', 'https://ui.example.evil.example', 'http://ui.example']) {
      const other = await get(server, '/v2/http/app/manifests/v1', { origin });
      expectStatus(other, 200);
      assert.equal(other.header('access-control-allow-origin'), '');
    }
    expectStatus(await ask(server, 'OPTIONS', '/v2/', { headers: { origin: 'https://ui.example' } }), 204);
  });
});
