/** Uploads and mounts: routes.md §3, over a real server and a registry in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import type { Algorithm, RepositoryName } from '../oci/names.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import { blob } from '../registry/samples.testing.ts';
import { type Answer, type Served, serve } from './serve.testing.ts';

const START = '/v2/a/b/blobs/uploads/';
const content = blob('0123456789');

async function start(server: Served, query = ''): Promise<string> {
  const answer = await server.send('POST', `${START}${query}`);
  assert.equal(answer.status, 202);
  assertUpload(answer, 0);
  return String(answer.headers.location);
}

function assertUpload(answer: Answer, size: number): void {
  assert.match(String(answer.headers.location), /^\/v2\/a\/b\/blobs\/uploads\/[^/?]+$/);
  assert.equal(answer.headers.range, `0-${Math.max(0, size - 1)}`);
  assert.equal(answer.headers.location, `${START}${answer.headers['docker-upload-uuid']}`);
  assert.equal(answer.body.length > 0, answer.status >= 400);
}

function assertCreated(answer: Answer, digest = content.digest): void {
  assert.equal(answer.status, 201, answer.text);
  assert.equal(answer.headers.location, `/v2/a/b/blobs/${digest}`);
  assert.equal(answer.headers['docker-content-digest'], digest);
  assert.equal(answer.headers['content-length'], '0');
}

const patch = (server: Served, at: string, text: string, headers: Record<string, string> = {}) =>
  server.send('PATCH', at, { body: text, headers });
const put = (server: Served, at: string, digest: string, text = '', headers: Record<string, string> = {}) =>
  server.send('PUT', `${at}?digest=${digest}`, { body: text, headers });

test('POST, then PUT of everything', async () => {
  await using server = await serve();
  const at = await start(server);
  assertCreated(
    await put(server, at, content.digest, '0123456789', { 'content-type': 'application/x-www-form-urlencoded' }),
  );
  assert.equal((await server.send('GET', `/v2/a/b/blobs/${content.digest}`)).text, '0123456789');
  assert.equal((await put(server, at, content.digest)).code, 'BLOB_UPLOAD_UNKNOWN');
});

test('POST without the last slash, without a length, with an encoded digest at the end', async () => {
  await using server = await serve();
  const begun = await server.send('POST', '/v2/a/b/blobs/uploads');
  assertUpload(begun, 0);
  assertCreated(await put(server, String(begun.headers.location), content.digest.replace(':', '%3A'), '0123456789'));
});

test('chunks with and without ranges, each answer says where it stands', async () => {
  await using server = await serve();
  const at = await start(server);
  const first = await patch(server, at, '012', { 'content-range': '0-2' });
  assert.equal(first.status, 202);
  assertUpload(first, 3);
  assertUpload(await patch(server, at, '345'), 6);
  assertUpload(await patch(server, at, '67', { 'content-range': 'bytes 6-7/*' }), 8);
  const nothing = await patch(server, at, '');
  assert.equal(nothing.status, 202);
  assertUpload(nothing, 8);
  for (const method of ['GET', 'HEAD']) {
    const status = await server.send(method, at);
    assert.equal(status.status, 204);
    assertUpload(status, 8);
  }
  assertCreated(await put(server, at, content.digest, '89', { 'content-range': '8-9' }));
});

test('a stream in one PATCH, closed by an empty PUT', async () => {
  await using server = await serve();
  const at = await start(server);
  const answer = await server.raw(
    `PATCH ${at} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n`,
  );
  assert.match(answer, /^HTTP\/1\.1 202 [\s\S]*\r\nRange: 0-9\r\n/);
  assertCreated(await put(server, at, content.digest));
});

test('ranges that do not fit are 416 and change nothing; lengths that do not are 400', async () => {
  await using server = await serve();
  const at = await start(server);
  await patch(server, at, '01234');
  for (const range of ['0-2', '6-8', '4-6']) {
    const answer = await patch(server, at, '567', { 'content-range': range });
    assert.equal(answer.status, 416, range);
    assert.equal(answer.code, 'RANGE_INVALID');
    assertUpload(answer, 5);
    const closing = await put(server, at, content.digest, '567', { 'content-range': range });
    assert.equal(closing.status, 416);
    assertUpload(closing, 5);
  }
  for (const range of ['x', '5', '7-5', '5-9/3', '0--1']) {
    const answer = await patch(server, at, '56789', { 'content-range': range });
    assert.equal(answer.status, 416, range);
    assertUpload(answer, 5);
  }
  const lengths = await patch(server, at, '567', { 'content-range': '5-9' });
  assert.equal(lengths.status, 400);
  assert.equal(lengths.code, 'SIZE_INVALID');
  const chunked = await server.raw(
    `PATCH ${at} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Range: 5-9\r\nConnection: close\r\n\r\n3\r\n567\r\n0\r\n\r\n`,
  );
  assert.match(chunked, /^HTTP\/1\.1 400 [\s\S]*SIZE_INVALID/);
  assert.equal((await patch(server, at, '', { 'content-range': '5-9' })).code, 'SIZE_INVALID');
  assertUpload(await server.send('GET', at), 5);
  const unknown = await patch(server, `${START}none`, '5', { 'content-range': 'x' });
  assert.equal(unknown.status, 416, 'malformed comes before unknown');
  assert.equal(unknown.headers.range, '0-0');
});

test('the digest at the end: absent or malformed leaves the upload, wrong ends it', async () => {
  await using server = await serve();
  const at = await start(server);
  for (const query of [
    '',
    '?digest=',
    '?digest=sha256:x',
    '?digest=md5:00',
    `?x=y?digest=${content.digest}`,
    `?digest=${content.digest.toUpperCase()}`,
  ]) {
    const answer = await server.send('PUT', `${at}${query}`, { body: '0123456789' });
    assert.equal(answer.status, 400, query);
    assert.equal(answer.code, 'DIGEST_INVALID');
  }
  assertUpload(await server.send('GET', at), 0);
  const wrong = await put(server, at, content.digest, 'other');
  assert.equal(wrong.status, 400);
  assert.equal(wrong.code, 'DIGEST_INVALID');
  assert.equal((await server.send('GET', at)).code, 'BLOB_UPLOAD_UNKNOWN');
  assert.equal((await server.send('GET', `/v2/a/b/blobs/${content.digest}`)).status, 404);
});

test('cancelled means gone', async () => {
  await using server = await serve();
  const at = await start(server);
  const answer = await server.send('DELETE', at);
  assert.equal(answer.status, 204);
  for (const method of ['GET', 'PATCH', 'DELETE'])
    assert.equal((await server.send(method, at)).code, 'BLOB_UPLOAD_UNKNOWN');
});

test('a whole blob in the POST', async () => {
  await using server = await serve();
  assertCreated(await server.send('POST', `${START}?digest=${content.digest}`, { body: '0123456789' }));
  const wrong = await server.send('POST', `${START}?digest=${content.digest}`, { body: '012345678x' });
  assert.equal(wrong.code, 'DIGEST_INVALID');
  const without = await server.send('POST', `${START}?digest=${content.digest}`);
  assert.equal(without.status, 202, 'no body: PUT follows');
  assertCreated(await put(server, String(without.headers.location), content.digest, '0123456789'));
  for (const algorithm of ['sha256', 'sha512'] as Algorithm[]) {
    const empty = blob('', algorithm).digest;
    assertCreated(await server.send('POST', `${START}?digest=${empty}`), empty);
  }
  const large = blob('0123456789', 'sha512').digest;
  assertCreated(
    await server.send('POST', `${START}?digest=${large}&digest-algorithm=sha512`, { body: '0123456789' }),
    large,
  );
});

test('a malformed start is 400 with the digest blamed', async () => {
  await using server = await serve();
  const other = blob('other').digest;
  for (const query of [
    '?digest=x',
    '?digest=',
    '?mount=x',
    '?mount=',
    '?digest-algorithm=md5',
    '?digest-algorithm=',
    `?digest=${content.digest}&digest-algorithm=sha512`,
    `?mount=${content.digest}&digest=${other}`,
  ]) {
    const answer = await server.send('POST', `${START}${query}`);
    assert.equal(answer.status, 400, query);
    assert.equal(answer.code, 'DIGEST_INVALID');
  }
  assert.equal((await server.send('POST', `${START}?digest-algorithm=sha512`)).status, 202);
});

test('a body that a POST does not want is thrown away, and the connection lives', async () => {
  await using server = await serve();
  const body = 'x'.repeat(1000);
  const answer = await server.raw(
    `POST ${START} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n${body}GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  );
  assert.equal(answer.match(/HTTP\/1\.1 202 /g)?.length, 1);
  assert.equal(answer.match(/HTTP\/1\.1 200 /g)?.length, 1);
});

test('mounts: from a repository that has it; otherwise an upload, never an error', async () => {
  await using server = await serve();
  const there = await server.send('POST', `/v2/source/blobs/uploads/?digest=${content.digest}`, { body: '0123456789' });
  assert.equal(there.status, 201);
  assertCreated(await server.send('POST', `${START}?from=source&mount=${content.digest.replace(':', '%3A')}`));
  const missing = blob('missing').digest;
  for (const query of [
    `?mount=${missing}&from=source`,
    `?mount=${missing}&from=Bad%2F..`,
    `?mount=${missing}&from=`,
    `?mount=${missing}`,
    `?mount=${missing}&from=none`,
  ]) {
    assertUpload(await server.send('POST', `${START}${query}`), 0);
  }
  const fallback = await server.send('POST', `${START}?mount=${missing}&from=none&digest=${missing}`, {
    body: 'missing',
  });
  assertCreated(fallback, missing);
});

test('a mount that is refused becomes an upload; a registry that is down is not hidden', async () => {
  const inner = memoryRegistry();
  let error: RegistryError | undefined;
  const registry: Registry = {
    ...inner,
    async mountBlob() {
      throw error!;
    },
  };
  await using server = await serve({ registry });
  for (const code of ['NAME_UNKNOWN', 'DENIED', 'UNAUTHORIZED', 'BLOB_UNKNOWN'] as const) {
    error = new RegistryError(code, 'no');
    assert.equal((await server.send('POST', `${START}?mount=${content.digest}&from=source`)).status, 202, code);
  }
  error = new RegistryError('UNAVAILABLE', 'down', { retryAfterSeconds: 7 });
  const down = await server.send('POST', `${START}?mount=${content.digest}&from=source`);
  assert.equal(down.status, 503);
  assert.equal(down.headers['retry-after'], '7');
});

test('a blob over the bound is refused by its announced length', async () => {
  await using server = await serve({ limits: { blobBytes: 5 } });
  const at = await start(server);
  for (const answer of [await patch(server, at, '0123456789'), await put(server, at, content.digest, '0123456789')]) {
    assert.equal(answer.status, 413);
    assert.equal(answer.code, 'SIZE_INVALID');
  }
});

test('a body cut short gives no answer; what came stays', async () => {
  await using server = await serve();
  const at = await start(server);
  const rangeOf = async (): Promise<unknown> => (await server.send('GET', at)).headers.range;
  let heard = '';
  let range: unknown;
  // Cut before it was read, nothing has come: then it is cut once more, later.
  for (let tries = 1; range !== '0-3'; tries++) {
    assert.ok(tries <= 20, `what came is not kept: ${range}`);
    const socket = await server.socket();
    socket.write(`PATCH ${at} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123`);
    socket.on('data', (chunk: Buffer) => {
      heard += chunk;
    });
    await new Promise((resolve) => setTimeout(resolve, 30 * tries));
    socket.destroy();
    for (let looks = 0; looks < 100 && range !== '0-3'; looks++) range = await rangeOf();
  }
  assert.equal(heard, '');
  const isWritten = (): boolean => server.lines.some((line) => line.method === 'PATCH' && line.status === 499);
  for (let tries = 0; tries < 1_200 && !isWritten(); tries++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(isWritten(), 'it is in the access log');
  assert.deepEqual(server.logged, [], 'a client that goes is no failure of the server');
});

test('a body below the minimum rate is 408, and the offset is kept', async () => {
  await using server = await serve({ limits: { minimumRate: { bytesPerSecond: 1000, milliseconds: 60 } } });
  const at = await start(server);
  const answer = await server.raw(`PATCH ${at} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n0123`);
  assert.match(answer, /^HTTP\/1\.1 408 [\s\S]*Connection: close[\s\S]*UNAVAILABLE/);
  let status = await server.send('GET', at);
  while (status.headers.range !== '0-3') status = await server.send('GET', at);
});

test('the smallest chunk is told where there is one', async () => {
  const inner = memoryRegistry();
  const registry: Registry = {
    ...inner,
    startUpload: async (...args: [never, RepositoryName]) => ({
      ...(await inner.startUpload(...args)),
      minChunk: 5_000_000,
    }),
  };
  await using server = await serve({ registry });
  assert.equal((await server.send('POST', START)).headers['oci-chunk-min-length'], '5000000');
});

test('a registry that destroys the body or leaves it unread does not take the answer and the connection along', async () => {
  const inner = memoryRegistry();
  for (const destroy of [true, false]) {
    const registry: Registry = {
      ...inner,
      appendUpload: async (_call, _repository, _id, chunk) => {
        if (destroy) chunk.body.destroy(new Error('the reader failed'));
        else await new Promise((resolve) => chunk.body.once('readable', resolve));
        throw new RegistryError('RANGE_INVALID', 'no', { detail: { size: 7 } });
      },
    };
    await using server = await serve({ registry });
    const answer = await server.raw(
      `PATCH ${START}x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n01234GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 416 [\s\S]*Range: 0-6\r\n[\s\S]*HTTP\/1\.1 200 /);
    assert.deepEqual(server.logged, []);
  }
});
