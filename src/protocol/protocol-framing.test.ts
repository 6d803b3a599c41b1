/** Odd requests on raw connections: routes.md §6 and rule D, threats rows 1 and 15. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import { blob } from '../registry/samples.testing.ts';
import { serve } from './serve.testing.ts';

const content = blob('0123456789');

test('broken frames are 400 and the connection ends', async () => {
  await using server = await serve();
  for (const [what, text] of [
    ['two Hosts', 'GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n'],
    ['no Host', 'GET /v2/ HTTP/1.1\r\n\r\n'],
    [
      'gzip, chunked',
      'POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'chunked twice',
      'POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'both lengths',
      'POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'two lengths',
      'POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde',
    ],
    ['absolute form', 'GET http://a/v2/ HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a fragment', 'GET /v2/a#b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['raw non-ASCII', Buffer.from('GET /v2/\xff/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n', 'latin1')],
    ['a bare LF', 'GET /v2/ HTTP/1.1\nHost: a\n\n'],
    ['an unknown method', 'NONSENSE /v2/ HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['chunked in HTTP/1.0', 'POST /v2/a/blobs/uploads/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ] as const) {
    const answer = await server.raw(text);
    assert.match(answer, /^HTTP\/1\.1 400 /, what);
    assert.match(answer, /\r\nConnection: close\r\n/i, what);
    assert.match(answer, /\r\n\r\n\{"errors":\[\{"code":"/, what);
    assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, what);
  }
});

test('paths that tools would tidy are refused as they are, never 200 and never 5xx', async () => {
  await using server = await serve();
  for (const path of [
    '/v2/%2F%2F..%2F/manifests/x',
    '/v2/a/%2e%2e/b/manifests/x',
    '/v2/a/..;/manifests/x',
    '/v2/a%5cb/manifests/x',
    '/v2/a%00/manifests/x',
    '/v2//manifests/x',
    '/v2/a//b/tags/list',
    '/v2/%c0%ae%c0%ae/manifests/x',
    '/v2/../etc/passwd',
    '/v2/a/../../manifests/x',
    '/v2/a/blobs/%2e%2e%2f%2e%2e',
    '/v2/a/manifests/%2e%2e%2fx',
    '/v2/a/blobs/uploads/..%2f..%2fx',
    '/v2/\\..\\/manifests/x',
  ]) {
    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'POST']) {
      const answer = await server.raw(
        `${method} ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
      );
      assert.match(answer, /^HTTP\/1\.1 (400|404|405) /, `${method} ${path}`);
      assert.match(answer, /\{"errors":\[\{"code":"/);
    }
  }
});

test('a target over 8 KiB is 414, headers over 16 KiB are 431', async () => {
  await using server = await serve();
  assert.match(
    await server.raw(`GET /v2/${'a'.repeat(8200)} HTTP/1.1\r\nHost: a\r\n\r\n`),
    /^HTTP\/1\.1 414 [\s\S]*UNSUPPORTED/,
  );
  assert.match(
    await server.raw(`GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(17_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431 [\s\S]*UNSUPPORTED/,
  );
});

test('HTTP/1.0 is served with a length and closed', async () => {
  await using server = await serve();
  const answer = await server.raw('GET /v2/ HTTP/1.0\r\n\r\n');
  assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*Content-Length: 2\r\n[\s\S]*Connection: close\r\n[\s\S]*\{\}$/);
  assert.doesNotMatch(answer, /chunked/i);
  const expecting = await server.raw(
    `POST /v2/a/blobs/uploads/?digest=${content.digest} HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n0123456789`,
  );
  assert.match(expecting, /^HTTP\/1\.1 201 /, 'no 100 to HTTP/1.0');
});

test('HEAD errors keep the connection in step', async () => {
  await using server = await serve();
  const answer = await server.raw(
    'HEAD /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\n\r\nHEAD /v2/A/manifests/x HTTP/1.1\r\nHost: a\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
  );
  assert.deepEqual(answer.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 404', 'HTTP/1.1 400', 'HTTP/1.1 200']);
  assert.ok(answer.endsWith('{}'));
});

test('the 100 goes out when the right is there, and not before', async () => {
  await using server = await serve({
    authorize: (call) => {
      if (call.principal.kind === 'anonymous') throw new RegistryError('UNAUTHORIZED', 'Log in.');
    },
    limits: { discardMilliseconds: 20 },
  });
  const head = `POST /v2/a/blobs/uploads/?digest=${content.digest} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n`;
  const refused = await server.raw(`${head}\r\n`);
  assert.match(refused, /^HTTP\/1\.1 401 [\s\S]*Connection: close/);
  const socket = await server.socket();
  socket.write(`${head}Authorization: Bearer alice\r\n\r\n`);
  const [first] = await once(socket, 'data');
  assert.match(String(first), /^HTTP\/1\.1 100 /);
  socket.write('0123456789');
  const [second] = await once(socket, 'data');
  assert.match(String(second), /^HTTP\/1\.1 201 /);
  socket.destroy();
});

test('an answer before the end of a large body can be read, and then the connection ends', async () => {
  await using server = await serve({
    authorize: () => {
      throw new RegistryError('UNAUTHORIZED', 'Log in.');
    },
  });
  const socket = await server.socket();
  let heard = '';
  socket.on('data', (chunk: Buffer) => {
    heard += chunk;
  });
  socket.write('PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n');
  const piece = Buffer.alloc(64 * 1024, 'x');
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const drained = () => new Promise<void>((resolve) => socket.once('drain', () => resolve()));
  for (let i = 0; i < 160 && !socket.destroyed; i++) {
    if (!socket.write(piece)) await Promise.race([drained(), ended]);
  }
  assert.match(heard, /^HTTP\/1\.1 401 [\s\S]*\r\nConnection: close\r\n[\s\S]*UNAUTHORIZED/);
  assert.equal(socket.destroyed, false, 'up to 16 MiB are taken and thrown away');
  for (let i = 0; i < 1000 && !socket.destroyed; i++) {
    if (!socket.write(piece)) await Promise.race([drained(), ended]);
  }
  await ended;
});

test('a small body at an early answer is thrown away and the connection lives, on GET and DELETE too', async () => {
  await using server = await serve();
  for (const method of ['GET', 'DELETE', 'PUT']) {
    const answer = await server.raw(
      `${method} /v2/a/manifests/.x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcdeGET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 40[04] [\s\S]*HTTP\/1\.1 200 /, method);
  }
});
