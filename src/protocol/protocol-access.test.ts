/** Who is let in, in which order things are answered, and what is written about it: routes.md §1. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultError, RegistryError } from '../oci/error.ts';
import type { Call } from '../registry/call.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import { blob } from '../registry/samples.testing.ts';
import type { ProtocolParts } from './parts.ts';
import { serve } from './serve.testing.ts';

const D = blob('x').digest;
const alice = { authorization: 'Bearer alice' };

/** Alice may everything, bob nothing; the anonymous have to log in. */
const closed: Partial<ProtocolParts> = {
  mayPushAnonymously: () => false,
  authorize: (call: Call, action: string) => {
    if (call.principal.kind === 'anonymous') throw new RegistryError('UNAUTHORIZED', 'Log in.');
    if (call.principal.name === 'narrow') throw new RegistryError('UNAUTHORIZED', 'The token does not cover this.');
    if (call.principal.name === 'bob') {
      throw action.endsWith('.pull') ? new RegistryError('NAME_UNKNOWN', 'No.') : new RegistryError('DENIED', 'No.');
    }
  },
};

/** A registry that checks the reads itself, as the wrapper of the access room does. */
function checking(): Registry {
  const inner = memoryRegistry();
  return {
    ...inner,
    getManifest: async (call, repository, reference) => {
      await closed.authorize!(call, 'repository.pull', repository);
      return inner.getManifest(call, repository, reference);
    },
  };
}

const challenges = (raw: readonly string[]) => raw.filter((_, i) => i % 2 === 1 && raw[i - 1] === 'WWW-Authenticate');

test('GET /v2/ asks for credentials unless anybody may push, and takes good ones', async () => {
  await using server = await serve(closed);
  const answer = await server.send('GET', '/v2/');
  assert.equal(answer.status, 401);
  assert.equal(answer.code, 'UNAUTHORIZED');
  assert.deepEqual(challenges(answer.rawHeaders), [
    'Bearer realm="http://registry.test/token",service="registry.test"',
    'Basic realm="registry.test"',
  ]);
  assert.equal(answer.headers['docker-distribution-api-version'], 'registry/2.0');
  assert.equal((await server.send('GET', '/v2/', { headers: alice })).status, 200);
  assert.equal((await server.send('GET', '/v2/', { headers: { authorization: 'Basic alice' } })).status, 200);
  assert.equal((await server.send('GET', '/v2/', { headers: { authorization: 'Basic Og==' } })).status, 401);
  const bad = await server.send('GET', '/v2/', { headers: { authorization: 'Bearer bad' } });
  assert.match(challenges(bad.rawHeaders)[0]!, /,error="invalid_token"$/);
  await using open = await serve();
  assert.equal((await open.send('GET', '/v2/')).status, 200);
  assert.equal(
    (await open.send('GET', '/v2/', { headers: { authorization: 'Basic bad' } })).status,
    401,
    'bad is bad, even where none are needed',
  );
});

test('without a token endpoint only Basic is offered', async () => {
  await using server = await serve({ ...closed, realm: () => undefined });
  assert.deepEqual(challenges((await server.send('GET', '/v2/')).rawHeaders), ['Basic realm="registry.test"']);
});

test('the scope is named, and what is wrong with a token', async () => {
  await using server = await serve({ ...closed, registry: checking() });
  const anonymous = await server.send('GET', '/v2/a/b/manifests/x');
  assert.equal(
    challenges(anonymous.rawHeaders)[0],
    'Bearer realm="http://registry.test/token",service="registry.test",scope="repository:a/b:pull"',
  );
  const narrow = await server.send('PUT', '/v2/a/b/manifests/x', {
    headers: { authorization: 'Bearer narrow' },
    body: '{}',
  });
  assert.equal(narrow.status, 401);
  assert.match(challenges(narrow.rawHeaders)[0]!, /scope="repository:a\/b:pull,push",error="insufficient_scope"$/);
  const catalog = await server.send('GET', '/v2/_catalog');
  assert.match(challenges(catalog.rawHeaders)[0]!, /scope="registry:catalog:\*"/);
  const bob = { authorization: 'Bearer bob' };
  const pull = await server.send('GET', '/v2/a/b/manifests/x', { headers: bob });
  assert.equal(pull.status, 404);
  assert.equal(pull.code, 'NAME_UNKNOWN');
  assert.equal((await server.send('PUT', '/v2/a/b/manifests/x', { headers: bob, body: '{}' })).code, 'DENIED');
});

test('malformed paths come before the login, everything else after it', async () => {
  await using server = await serve(closed);
  for (const [method, path, status] of [
    ['GET', '/v2/A/manifests/x', 400],
    ['GET', '/v2/a/blobs/sha256:x', 400],
    ['GET', '/v2/a/nothing', 404],
    ['POST', '/v2/a/manifests/x', 405],
    ['GET', '/v2/a/manifests/.x', 401],
    ['PUT', '/v2/a/manifests/.x', 401],
    ['GET', '/v2/a/manifests/x?y=%zz', 401],
    ['GET', '/v2/a/tags/list?n=x', 401],
    ['GET', `/v2/a/referrers/${D}?artifactType=%00`, 401],
    ['POST', '/v2/a/blobs/uploads/?digest=x', 401],
    ['PUT', '/v2/a/blobs/uploads/x', 401],
    ['PATCH', '/v2/a/blobs/uploads/%00', 401],
    ['DELETE', `/v2/a/blobs/${D}`, 401],
    ['DELETE', '/v2/a/manifests/.x', 401],
    ['GET', '/v2/_catalog?n=x', 401],
  ] as const) {
    assert.equal((await server.send(method, path)).status, status, `${method} ${path}`);
  }
  for (const [method, path, code] of [
    ['GET', '/v2/a/manifests/.x', 'MANIFEST_UNKNOWN'],
    ['PUT', '/v2/a/manifests/.x', 'NAME_INVALID'],
    ['GET', '/v2/a/tags/list?n=x', 'PAGINATION_NUMBER_INVALID'],
    ['PATCH', '/v2/a/blobs/uploads/%00', 'BLOB_UPLOAD_UNKNOWN'],
  ] as const) {
    assert.equal((await server.send(method, path, { headers: alice })).code, code, `${method} ${path}`);
  }
});

test('the order before the login: method, expectation, readiness, address limit', async () => {
  let state: 'ready' | 'draining' = 'draining';
  await using server = await serve({
    ...closed,
    state: () => state,
    admit: () => {
      throw new RegistryError('TOOMANYREQUESTS', 'Slow down.', { retryAfterSeconds: 3.2 });
    },
  });
  assert.equal((await server.send('PATCH', '/v2/')).status, 405);
  assert.equal((await server.send('OPTIONS', '/v2/')).status, 204);
  const expecting = await server.send('GET', '/v2/', { headers: { expect: 'tea' } });
  assert.equal(expecting.status, 417);
  const draining = await server.send('GET', '/v2/');
  assert.equal(draining.status, 503);
  assert.equal(draining.code, 'UNAVAILABLE');
  assert.ok(Number(draining.headers['retry-after']) >= 1);
  state = 'ready';
  const limited = await server.send('GET', '/v2/', { headers: { authorization: 'Bearer bad' } });
  assert.equal(limited.status, 429);
  assert.equal(limited.headers['retry-after'], '4');
});

test('methods: what is not served is 405 with Allow; OPTIONS needs no login', async () => {
  await using server = await serve(closed);
  const kinds = [
    ['/v2/', 'GET, HEAD, OPTIONS'],
    ['/v2/_catalog', 'GET, HEAD, OPTIONS'],
    ['/v2/a/tags/list', 'GET, HEAD, OPTIONS'],
    [`/v2/a/referrers/${D}`, 'GET, HEAD, OPTIONS'],
    ['/v2/a/manifests/x', 'GET, HEAD, PUT, DELETE, OPTIONS'],
    [`/v2/a/blobs/${D}`, 'GET, HEAD, DELETE, OPTIONS'],
    ['/v2/a/blobs/uploads/', 'POST, OPTIONS'],
    ['/v2/a/blobs/uploads/x', 'GET, HEAD, PATCH, PUT, DELETE, OPTIONS'],
  ] as const;
  for (const [path, allow] of kinds) {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND', 'OPTIONS']) {
      const answer = await server.send(method, path);
      if (method === 'OPTIONS') assert.equal(answer.status, 204);
      else assert.equal(answer.status === 405, !allow.includes(method), `${method} ${path}`);
      if (answer.status === 405 || answer.status === 204) assert.equal(answer.headers.allow, allow);
      if (answer.status === 405 && method !== 'HEAD') assert.equal(answer.code, 'UNSUPPORTED');
    }
  }
  assert.equal((await server.send('OPTIONS', '/v2/a/nothing')).status, 404);
});

test('CORS only for configured origins, errors too', async () => {
  await using server = await serve({ ...closed, cors: { origins: ['https://ui.example'] } });
  const ui = await server.send('GET', '/v2/', { headers: { origin: 'https://ui.example' } });
  assert.equal(ui.status, 401);
  assert.equal(ui.headers['access-control-allow-origin'], 'https://ui.example');
  assert.match(String(ui.headers['access-control-expose-headers']), /Docker-Content-Digest/);
  const preflight = await server.send('OPTIONS', '/v2/a/manifests/x', {
    headers: { origin: 'https://ui.example', 'access-control-request-method': 'DELETE' },
  });
  assert.match(String(preflight.headers['access-control-allow-methods']), /DELETE/);
  assert.match(String(preflight.headers['access-control-allow-headers']), /Authorization/);
  for (const method of ['GET', 'OPTIONS']) {
    const evil = await server.send(method, '/v2/', { headers: { origin: 'https://evil.example' } });
    assert.equal(evil.headers['access-control-allow-origin'], undefined);
    assert.equal(evil.headers['access-control-allow-methods'], undefined);
    assert.equal(evil.headers.vary, 'Origin');
  }
});

test('an unforeseen failure is 500 without its cause, which the log has', async () => {
  const inner = memoryRegistry();
  let thrown: unknown;
  const registry: Registry = {
    ...inner,
    getManifest: async () => {
      throw thrown;
    },
  };
  await using server = await serve({ registry });
  thrown = new TypeError('a secret of the inside');
  const failed = await server.send('GET', '/v2/a/manifests/x');
  assert.equal(failed.status, 500);
  assert.equal(failed.code, 'UNKNOWN');
  assert.ok(!failed.text.includes('secret'));
  const id = JSON.parse(failed.text).errors[0].detail.requestId;
  assert.ok(server.logged[0]!.includes('a secret of the inside') && server.logged[0]!.includes(id));
  thrown = new FaultError('unavailable', 'The database is away.');
  const away = await server.send('GET', '/v2/a/manifests/x');
  assert.equal(away.status, 503);
  assert.ok(Number(away.headers['retry-after']) >= 1);
});

test('one line of the access log for every request', async () => {
  await using server = await serve(closed);
  const long = `/v2/a/manifests/${'x'.repeat(600)}`;
  await server.send('GET', '/v2/?q=1', { headers: { ...alice, 'user-agent': 'u'.repeat(300) } });
  await server.send('GET', long);
  const [first, second] = server.lines;
  assert.equal(server.lines.length, 2);
  assert.deepEqual(
    { ...first, milliseconds: 0, requestId: '' },
    {
      requestId: '',
      method: 'GET',
      path: '/v2/?q=1',
      status: 200,
      bytes: 2,
      milliseconds: 0,
      user: 'alice',
      address: '127.0.0.1',
      userAgent: 'u'.repeat(256),
    },
  );
  assert.equal(second!.path.length, 512);
  assert.equal(second!.error, 'UNAUTHORIZED');
  assert.notEqual(first!.requestId, second!.requestId);
});

test('metrics and a trace see every request', async () => {
  const counted: string[] = [];
  const ended: number[] = [];
  await using server = await serve({
    metrics: {
      counter: () => (_value, labels) => void counted.push(Object.values(labels!).join(' ')),
      gauge: () => () => {},
      histogram: () => () => {},
    },
    trace: (start) => {
      assert.equal(start.traceparent, '00-x');
      return (status) => void ended.push(status);
    },
  });
  await server.send('GET', '/v2/a/manifests/x', { headers: { traceparent: '00-x' } });
  await server.send('PROPFIND', '/v2/nothing');
  assert.deepEqual(counted, ['GET manifest 4xx', 'other none 4xx']);
  assert.deepEqual(ended, [404]);
});

test('the call knows where the request came from, and when the client goes', async () => {
  const inner = memoryRegistry();
  const { promise, resolve } = Promise.withResolvers<Call>();
  const registry: Registry = {
    ...inner,
    listTags: async (call) => {
      resolve(call);
      return new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason)));
    },
  };
  await using server = await serve({ registry });
  const socket = await server.socket();
  socket.write('GET /v2/a/tags/list HTTP/1.1\r\nHost: x\r\nUser-Agent: tester\r\n\r\n');
  const call = await promise;
  assert.deepEqual(call.origin, { address: '127.0.0.1', host: 'registry.test', method: 'GET', userAgent: 'tester' });
  assert.equal(call.signal.aborted, false);
  const aborted = new Promise((done) => call.signal.addEventListener('abort', done));
  socket.destroy();
  await aborted;
  while (server.lines.length === 0) await new Promise(setImmediate);
  assert.equal(server.lines[0]!.status, 499);
  assert.deepEqual(server.logged, []);
});
