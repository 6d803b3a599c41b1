import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import type { Digest, RepositoryName, UploadId } from '../oci/names.ts';
import { challengeHeaders, scopeOf } from './challenge.ts';
import { clientErrorAnswer, connectAnswer } from './client-error.ts';
import { corsRule } from './cors.ts';
import { errorBody, registryErrorBody } from './error-body.ts';
import { manifestHeaders, namesDigest, nextLink, uploadStatusHeaders } from './headers.ts';
import { readHeaders } from './request-headers.ts';
import { parseRoute } from './route.ts';

const D = `sha256:${'a'.repeat(64)}` as Digest;
const OTHER = `sha256:${'b'.repeat(64)}`;

test('conditions name a digest quoted, bare, weak, in a list, or all of them', () => {
  for (const list of [`"${D}"`, D, `W/"${D}"`, `"${OTHER}", "${D}"`, '*', ` "${D}" ,`])
    assert.ok(namesDigest(list, D), list);
  for (const list of ['', `"${OTHER}"`, '""', `"${D}x"`, ',']) assert.ok(!namesDigest(list, D), list);
  assert.ok(!namesDigest(`W/"${D}"`, D, true));
});

test('a link is a path with everything encoded', () => {
  assert.deepEqual(
    nextLink('/v2/a/tags/list', [
      ['n', '5'],
      ['last', 'a>b"\r\n&c'],
    ]),
    ['Link', '</v2/a/tags/list?n=5&last=a%3Eb%22%0D%0A%26c>; rel="next"'],
  );
});

test("an upload's headers carry its smallest chunk where there is one", () => {
  const status = { id: 'u' as UploadId, size: 3, minChunk: 7 };
  assert.deepEqual(uploadStatusHeaders('a' as RepositoryName, status, true).slice(0, 10), [
    'Location',
    '/v2/a/blobs/uploads/u',
    'Range',
    '0-2',
    'Docker-Upload-UUID',
    'u',
    'OCI-Chunk-Min-Length',
    '7',
    'Content-Length',
    '0',
  ]);
});

test("a manifest's headers are made once per descriptor", () => {
  const descriptor = { mediaType: 'm', digest: D, size: 1 };
  assert.equal(manifestHeaders(descriptor), manifestHeaders(descriptor));
});

test('the scope of a challenge fits the route and the method', () => {
  const scope = (method: string, target: string) => scopeOf(parseRoute(target)!, method, target);
  assert.equal(scope('GET', '/v2/'), undefined);
  assert.equal(scope('GET', '/v2/_catalog'), 'registry:catalog:*');
  assert.equal(scope('GET', '/v2/a/b/manifests/x'), 'repository:a/b:pull');
  assert.equal(scope('PUT', '/v2/a/manifests/x'), 'repository:a:pull,push');
  assert.equal(scope('DELETE', '/v2/a/manifests/x'), 'repository:a:delete');
  assert.equal(scope('GET', '/v2/a/blobs/uploads/x'), 'repository:a:pull,push');
  assert.equal(scope('POST', `/v2/a/blobs/uploads/?mount=${D}&from=b/c`), 'repository:a:pull,push repository:b/c:pull');
  assert.equal(scope('POST', `/v2/a/blobs/uploads/?mount=${D}&from=B"`), 'repository:a:pull,push');
  assert.equal(scope('POST', `/v2/a/blobs/uploads/?mount=%zz`), 'repository:a:pull,push');
});

test('a challenge offers Bearer, then Basic, everything quoted', () => {
  assert.deepEqual(
    challengeHeaders({
      realm: 'https://r.example/token',
      service: 'r"x\r\n',
      scope: 'repository:a:pull,push',
      error: 'insufficient_scope',
    }),
    [
      'WWW-Authenticate',
      'Bearer realm="https://r.example/token",service="r\\"x",scope="repository:a:pull,push",error="insufficient_scope"',
      'WWW-Authenticate',
      'Basic realm="r\\"x"',
    ],
  );
  assert.deepEqual(challengeHeaders({ realm: undefined, service: 'r', scope: undefined, error: undefined }), [
    'WWW-Authenticate',
    'Basic realm="r"',
  ]);
});

test("an error body is the specification's; the unforeseen carries its request", () => {
  assert.deepEqual(JSON.parse(errorBody('DENIED', 'no', { a: 1 })), {
    errors: [{ code: 'DENIED', message: 'no', detail: { a: 1 } }],
  });
  const circular: { self?: unknown } = {};
  circular.self = circular;
  assert.deepEqual(JSON.parse(errorBody('DENIED', 'no', circular)), { errors: [{ code: 'DENIED', message: 'no' }] });
  const body = JSON.parse(registryErrorBody(new RegistryError('UNKNOWN', 'x', { detail: 'secret' }), 'r-1'));
  assert.deepEqual(body.errors[0].detail, { requestId: 'r-1' });
});

test('raw headers are read without regard to case, repeated lists joined', () => {
  const read = readHeaders([
    'HOST',
    'x',
    'range',
    'bytes=0-1',
    'Range',
    'bytes=3-4',
    'If-None-Match',
    'a',
    'if-none-match',
    'b',
    'AUTHORIZATION',
    'one',
    'Authorization',
    'two',
    'content-length',
    '12',
    'Host',
    'y',
  ]);
  assert.equal(read.hosts, 2);
  assert.equal(read.host, 'x');
  assert.equal(read.range, 'bytes=0-1, bytes=3-4');
  assert.equal(read.ifNoneMatch, 'a, b');
  assert.equal(read.authorization, 'one');
  assert.equal(read.contentLength, 12);
});

test('only configured origins are let in', () => {
  const rule = corsRule(['https://ui.example']);
  assert.ok(rule('https://ui.example').includes('https://ui.example'));
  assert.deepEqual(rule('https://evil.example'), ['Vary', 'Origin']);
  assert.ok(corsRule(['*'])('https://any.example').includes('*'));
});

test('what never became a request is answered in the same words', () => {
  const answer = (code: string, rawPacket?: Buffer) =>
    clientErrorAnswer(Object.assign(new Error('x'), { code, ...(rawPacket === undefined ? {} : { rawPacket }) }));
  for (const [code, status] of [
    ['HPE_INVALID_METHOD', 400],
    ['HPE_HEADER_OVERFLOW', 431],
    ['ERR_HTTP_REQUEST_TIMEOUT', 408],
    ['HPE_WHATEVER', 400],
    ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 413],
  ] as const) {
    const [head, body] = answer(code).split('\r\n\r\n');
    assert.ok(head!.startsWith(`HTTP/1.1 ${status} `), code);
    assert.ok(head!.includes('Connection: close') && head!.includes(`Content-Length: ${body!.length}`));
    assert.ok(JSON.parse(body!).errors[0].code.length > 0);
  }
  assert.ok(answer('HPE_HEADER_OVERFLOW', Buffer.from(`GET /${'a'.repeat(9000)}`)).startsWith('HTTP/1.1 414 '));
  assert.ok(
    answer('HPE_HEADER_OVERFLOW', Buffer.from(`GET / HTTP/1.1\nX: ${'a'.repeat(9000)}`)).startsWith('HTTP/1.1 431 '),
  );
  assert.equal(answer('ECONNRESET'), '');
  assert.ok(connectAnswer().startsWith('HTTP/1.1 405 ') && connectAnswer().includes('Allow: '));
});
