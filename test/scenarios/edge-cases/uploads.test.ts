/** Edge cases 1-15: upload sessions. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { bytesOf, digestOf, expectError, expectStatus, get, startUpload, withQuery } from '../support/oci.ts';
import { open } from '../support/open.ts';
import { type Answer, ask, head, Wire } from '../support/wire.ts';

const server = await open();

function chunk(location: string, range: string, body: Uint8Array | string, method = 'PATCH'): Promise<Answer> {
  return ask(server, method, location, { headers: { 'content-range': range }, body });
}

function finish(location: string, bytes: Uint8Array | string, body?: Uint8Array | string): Promise<Answer> {
  return ask(server, 'PUT', withQuery(location, `digest=${digestOf(bytes)}`), body === undefined ? {} : { body });
}

async function expectBlob(repository: string, bytes: Uint8Array): Promise<void> {
  const answer = await get(server, `/v2/${repository}/blobs/${digestOf(bytes)}`);
  expectStatus(answer, 200);
  assert.ok(answer.body.equals(bytes), 'the bytes that came back differ');
}

async function expectNoBlob(repository: string, bytes: Uint8Array | string): Promise<void> {
  expectError(await get(server, `/v2/${repository}/blobs/${digestOf(bytes)}`), 404, 'BLOB_UNKNOWN');
}

async function expectOffset(location: string, size: number): Promise<void> {
  const status = await get(server, location);
  expectStatus(status, 204);
  assert.equal(status.header('range'), size === 0 ? '0-0' : `0-${size - 1}`);
  assert.match(status.header('location'), /^\/v2\//);
}

describe('uploads', { concurrency: true }, () => {
  it('E1 a streamed PATCH without Content-Range appends', async () => {
    const bytes = bytesOf(200_000);
    const location = await startUpload(server, 'e1');
    const first = await ask(server, 'PATCH', location, {
      body: Readable.from([bytes.subarray(0, 70_000), bytes.subarray(70_000, 150_000)]),
    });
    expectStatus(first, 202);
    assert.equal(first.header('range'), '0-149999');
    assert.match(first.header('location'), /^\/v2\/e1\/blobs\/uploads\//);
    const second = await ask(server, 'PATCH', first.header('location'), {
      body: Readable.from([bytes.subarray(150_000)]),
    });
    expectStatus(second, 202);
    assert.equal(second.header('range'), '0-199999');
    expectStatus(await finish(second.header('location'), bytes), 201);
    await expectBlob('e1', bytes);
  });

  it('E2 Content-Range is a-b; bytes a-b/N and bytes a-b/* are understood', async () => {
    const location = await startUpload(server, 'e2');
    expectStatus(await chunk(location, '0-4', 'hello'), 202);
    expectStatus(await chunk(location, 'bytes 5-9/10', 'HELLO'), 202);
    expectStatus(await chunk(location, 'bytes 10-12/*', 'end'), 202);
    await expectOffset(location, 13);
    expectStatus(await finish(location, 'helloHELLOend'), 201);
  });

  for (const range of [
    '0-',
    '-4',
    'a-b',
    '4',
    'bytes=0-4',
    '4-0',
    '0-4-8',
    '0 - 4',
    '0-99999999999999999999999',
    '-1-3',
    '0x0-0x4',
  ]) {
    it(`E2 the malformed Content-Range "${range}" is 416 and appends nothing`, async () => {
      const location = await startUpload(server, 'e2-bad');
      expectError(await chunk(location, range, 'hello'), 416, 'RANGE_INVALID');
      expectStatus(await chunk(location, '0-4', 'hello'), 202);
      expectStatus(await finish(location, 'hello'), 201);
    });
  }

  it('E2 a Content-Range whose length is not the Content-Length is 400 SIZE_INVALID', async () => {
    const location = await startUpload(server, 'e2-size');
    expectError(await chunk(location, '0-9', 'hello'), 400, 'SIZE_INVALID');
    await expectOffset(location, 0);
  });

  it('E3 out of order, overlapping and repeated chunks are 416 and the session survives at its offset', async () => {
    const location = await startUpload(server, 'e3');
    const early = await chunk(location, '5-9', 'HELLO');
    expectError(early, 416, 'RANGE_INVALID');
    assert.equal(early.header('range'), '0-0');
    assert.match(early.header('location'), /^\/v2\/e3\/blobs\/uploads\//);
    expectStatus(await chunk(location, '0-4', 'hello'), 202);
    for (const [range, body] of [
      ['3-7', 'loHEL'],
      ['0-4', 'hello'],
      ['6-9', 'ELLO'],
    ] as const) {
      const refused = await chunk(location, range, body);
      expectError(refused, 416, 'RANGE_INVALID');
      assert.equal(refused.header('range'), '0-4', range);
      assert.match(refused.header('location'), /^\/v2\/e3\/blobs\/uploads\//);
      await expectOffset(location, 5);
    }
    expectStatus(await chunk(location, '5-9', 'HELLO'), 202);
    expectStatus(await finish(location, 'helloHELLO'), 201);
    await expectBlob('e3', Buffer.from('helloHELLO'));
  });

  it('E4 the closing PUT may carry the last chunk; with a wrong range it is 416 and appends nothing', async () => {
    const location = await startUpload(server, 'e4');
    const whole = 'helloHELLO';
    const close = withQuery(location, `digest=${digestOf(whole)}`);
    expectStatus(await chunk(location, '0-4', 'hello'), 202);
    for (const range of ['0-4', '4-8', '6-10']) {
      expectError(await chunk(close, range, 'HELLO', 'PUT'), 416, 'RANGE_INVALID');
      await expectOffset(location, 5);
    }
    await expectNoBlob('e4', whole);
    expectStatus(await chunk(close, '5-9', 'HELLO', 'PUT'), 201);
    await expectBlob('e4', Buffer.from(whole));
  });

  it('E5 a closing PUT with Content-Length 0 after PATCHes', async () => {
    const bytes = bytesOf(1000);
    const location = await startUpload(server, 'e5');
    expectStatus(await ask(server, 'PATCH', location, { body: bytes }), 202);
    const closed = await ask(server, 'PUT', withQuery(location, `digest=${digestOf(bytes)}`), {
      headers: { 'content-length': '0' },
    });
    expectStatus(closed, 201);
    assert.equal(closed.header('docker-content-digest'), digestOf(bytes));
    assert.equal(closed.header('location'), `/v2/e5/blobs/${digestOf(bytes)}`);
  });

  for (const size of [1, 1000, 32_768, 32_769, 3_000_000]) {
    it(`E6 POST, then one PUT with the whole body of ${size} bytes`, async () => {
      const bytes = bytesOf(size);
      const location = await startUpload(server, 'e6');
      expectStatus(await finish(location, bytes, bytes), 201);
      await expectBlob('e6', bytes);
    });
  }

  it('E7 POST with digest and body is 201; a wrong digest keeps nothing', async () => {
    for (const size of [10, 100_000]) {
      const bytes = bytesOf(size);
      const done = await ask(server, 'POST', `/v2/e7/blobs/uploads/?digest=${digestOf(bytes)}`, {
        headers: { 'content-type': 'application/octet-stream' },
        body: bytes,
      });
      expectStatus(done, 201);
      assert.equal(done.header('location'), `/v2/e7/blobs/${digestOf(bytes)}`);
      assert.equal(done.header('docker-content-digest'), digestOf(bytes));
      await expectBlob('e7', bytes);
    }
    const wrong = digestOf('something else');
    expectError(
      await ask(server, 'POST', `/v2/e7/blobs/uploads/?digest=${wrong}`, { body: 'not that' }),
      400,
      'DIGEST_INVALID',
    );
    await expectNoBlob('e7', 'something else');
    await expectNoBlob('e7', 'not that');
  });

  it('E7 POST with digest and no body opens an upload for the PUT that follows', async () => {
    const bytes = bytesOf(50);
    const opened = await ask(server, 'POST', `/v2/e7-late/blobs/uploads/?digest=${digestOf(bytes)}`);
    expectStatus(opened, 202);
    expectStatus(await finish(opened.header('location'), bytes, bytes), 201);
  });

  it('E7 a body that the POST does not want is drained: the connection stays in step', async () => {
    const wire = await Wire.connect(server);
    await wire.send(head('POST', '/v2/e7-drain/blobs/uploads/', ['Content-Length: 5000']));
    await wire.send('GET /v2/smuggled HTTP/1.1\r\n'.repeat(250).slice(0, 5000));
    expectStatus(await wire.answer(), 202);
    await wire.send(head('GET', '/v2/'));
    const next = await wire.answer();
    expectStatus(next, 200);
    assert.equal(next.text(), '{}');
    assert.equal(wire.rest(), '');
    wire.destroy();
  });

  it('E8 nothing stored is Range 0-0, never 0--1 nor absent', async () => {
    const opened = await ask(server, 'POST', '/v2/e8/blobs/uploads/');
    assert.equal(opened.header('range'), '0-0');
    const location = opened.header('location');
    await expectOffset(location, 0);
    const empty = await ask(server, 'PATCH', location, { headers: { 'content-length': '0' } });
    expectStatus(empty, 202);
    assert.equal(empty.header('range'), '0-0');
    const one = await ask(server, 'PATCH', location, { body: 'x' });
    assert.equal(one.header('range'), '0-0');
    expectStatus(await finish(location, 'x'), 201);
  });

  it('E9 Range is cumulative', async () => {
    let location = await startUpload(server, 'e9');
    for (let at = 0; at < 50; at += 10) {
      const patched = await chunk(location, `${at}-${at + 9}`, '0123456789');
      assert.equal(patched.header('range'), `0-${at + 9}`);
      location = patched.header('location');
    }
    expectStatus(await finish(location, '0123456789'.repeat(5)), 201);
  });

  it('E10 GET of the upload says where to resume', async () => {
    const bytes = bytesOf(5000);
    const location = await startUpload(server, 'e10');
    expectStatus(await chunk(location, '0-1999', bytes.subarray(0, 2000)), 202);
    const status = await get(server, location);
    expectStatus(status, 204);
    assert.equal(status.header('range'), '0-1999');
    const probe = await ask(server, 'HEAD', location);
    assert.equal(probe.status, 204);
    expectStatus(await chunk(status.header('location'), '2000-4999', bytes.subarray(2000)), 202);
    expectStatus(await finish(status.header('location'), bytes), 201);
  });

  it('E11 files have no least chunk: no OCI-Chunk-Min-Length, and chunks of one byte are taken', async () => {
    const opened = await ask(server, 'POST', '/v2/e11/blobs/uploads/');
    assert.equal(opened.header('oci-chunk-min-length'), '');
    for (let i = 0; i < 3; i += 1) expectStatus(await chunk(opened.header('location'), `${i}-${i}`, 'x'), 202);
    expectStatus(await finish(opened.header('location'), 'xxx'), 201);
  });

  for (const [what, stored] of [
    ['with nothing stored', 0],
    ['with a little stored', 100],
    ['with much stored', 100_000],
  ] as const) {
    it(`E12 a cancelled upload ${what} is gone for every method`, async () => {
      const location = await startUpload(server, 'e12');
      if (stored > 0) expectStatus(await ask(server, 'PATCH', location, { body: bytesOf(stored) }), 202);
      const cancelled = await ask(server, 'DELETE', location);
      expectStatus(cancelled, 204);
      for (const method of ['GET', 'PATCH', 'DELETE']) {
        expectError(
          await ask(server, method, location, method === 'PATCH' ? { body: 'x' } : {}),
          404,
          'BLOB_UPLOAD_UNKNOWN',
        );
      }
      expectError(await finish(location, 'x', 'x'), 404, 'BLOB_UPLOAD_UNKNOWN');
      await expectNoBlob('e12', 'x');
    });
  }

  it('E13 Location is a relative path; unknown parameters and any order are taken', async () => {
    const location = await startUpload(server, 'e13');
    assert.match(location, /^\/v2\/e13\/blobs\/uploads\/[^?]+$/);
    const path = location.split('?')[0];
    const digest = digestOf('state');
    expectStatus(
      await ask(server, 'PUT', `${path}?_state=abc%3D&digest=${digest}&x=1&_state=abc%3D`, { body: 'state' }),
      201,
    );
  });

  it('E13 ?digest glued behind a second ? is not a digest', async () => {
    const location = await startUpload(server, 'e13b');
    const glued = `${location.split('?')[0]}?_state=abc?digest=${digestOf('glued')}`;
    expectError(await ask(server, 'PUT', glued, { body: 'glued' }), 400, 'DIGEST_INVALID');
    expectStatus(await finish(location, 'glued', 'glued'), 201);
  });

  it('E14 Location does not depend on Host or forwarded headers', async () => {
    const forwarded = {
      host: 'registry.example:8443',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'evil.example',
      forwarded: 'host=evil.example;proto=https',
    };
    const opened = await ask(server, 'POST', '/v2/e14/blobs/uploads/', { headers: forwarded });
    expectStatus(opened, 202);
    assert.match(opened.header('location'), /^\/v2\/e14\//);
    const patched = await ask(server, 'PATCH', opened.header('location'), { headers: forwarded, body: 'abc' });
    assert.match(patched.header('location'), /^\/v2\/e14\//);
    const closed = await ask(server, 'PUT', withQuery(patched.header('location'), `digest=${digestOf('abc')}`), {
      headers: forwarded,
    });
    assert.equal(closed.header('location'), `/v2/e14/blobs/${digestOf('abc')}`);
  });

  it('E15 an earlier Location of the session still works', async () => {
    const first = await startUpload(server, 'e15');
    const second = (await chunk(first, '0-2', 'abc')).header('location');
    assert.notEqual(second, '');
    expectStatus(await chunk(first, '3-5', 'def'), 202);
    expectStatus(await chunk(second, '6-8', 'ghi'), 202);
    expectStatus(await finish(first, 'abcdefghi'), 201);
  });
});
