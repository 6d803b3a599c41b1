import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import fastify from 'fastify';
import { basic, bearer, openTestRoom } from '../access/access.testing.ts';
import { addAccount, setDisabled } from '../access/accounts.ts';
import { hashPassword } from '../access/password-hash.ts';
import { withAccess } from '../access/with-access.ts';
import type { Principal } from '../registry/call.ts';
import { memoryRegistry } from '../registry/memory.ts';
import { pushImage, repo, tag } from '../registry/samples.testing.ts';
import { tokenRoutes } from './token.ts';

const PASSWORD = 'pässwörd:1';
const HASH = await hashPassword(PASSWORD);
const room = await openTestRoom({
  anonymous: 'none',
  rules: [
    { users: ['alice'], repositories: ['team/**'], actions: ['pull', 'push'] },
    { users: ['alice'], repositories: ['shared/*'], actions: ['pull'] },
  ],
});
for (const name of ['alice', 'bob', 'off']) {
  await addAccount(room.database, { name, password: PASSWORD }, { hash: async () => HASH });
}
await setDisabled(room.database, 'off', true);
const app = fastify({ routerOptions: { ignoreTrailingSlash: false } });
await app.register(tokenRoutes(room));
app.post('/elsewhere', async (request) => ({ body: request.body }));
const base = await app.listen({ host: '127.0.0.1', port: 0 });
after(async () => {
  await app.close();
  await room.close();
});

interface Body {
  readonly token?: string;
  readonly access_token: string;
  readonly refresh_token?: string;
  readonly scope?: string;
  readonly expires_in: number;
  readonly issued_at: string;
  readonly error?: string;
  readonly error_description?: string;
  readonly errors?: readonly { readonly code: string; readonly message: string }[];
}

async function ask(path: string, init: RequestInit = {}): Promise<{ response: Response; body: Body; text: string }> {
  const response = await fetch(`${base}${path}`, init);
  const text = await response.text();
  return { response, text, body: text === '' ? ({} as Body) : (JSON.parse(text) as Body) };
}

function get(query: string, headers: Record<string, string> = {}) {
  return ask(`/token?${query}`, { headers });
}

function post(form: Record<string, string> | string, headers: Record<string, string> = {}) {
  return ask('/token', {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: typeof form === 'string' ? form : new URLSearchParams(form).toString(),
  });
}

function claimsOf(token: string): { sub: string; access: unknown[]; exp: number; iat: number } {
  return JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString());
}

async function refused(
  answer: Promise<{ response: Response; body: Body; text: string }>,
  status: number,
  error: string,
): Promise<Response> {
  const { response, body, text } = await answer;
  assert.equal(response.status, status, text);
  assert.equal(body.error, error, text);
  assert.equal(body.errors!.length, 1);
  assert.ok(body.errors![0]!.code);
  assert.match(response.headers.get('content-type')!, /^application\/json/);
  assert.ok(!text.includes(PASSWORD) && !/\\n\s+at /.test(text), 'neither a secret nor a stack');
  return response;
}

const alice = basic('alice', PASSWORD);

test('GET gives the subset of what was asked, in the form of the specification', async () => {
  const { response, body } = await get(
    'service=longshore&account=alice&client_id=docker&scope=repository:team/app:pull,push,delete&scope=repository:shared/x:pull,push+repository:secret:pull',
    alice,
  );
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('cache-control'), 'no-store');
  assert.equal(body.token, body.access_token);
  assert.equal(body.expires_in, 300);
  assert.match(body.issued_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.equal(body.refresh_token, undefined);
  const claims = claimsOf(body.token!);
  assert.equal(claims.sub, 'alice');
  assert.deepEqual(claims.access, [
    { type: 'repository', name: 'team/app', actions: ['pull', 'push'] },
    { type: 'repository', name: 'shared/x', actions: ['pull'] },
  ]);
});

test('no scope is a login check; odd and unknown scopes give nothing; * is what the account may', async () => {
  const accessOf = async (query: string): Promise<unknown[]> => claimsOf((await get(query, alice)).body.token!).access;
  assert.deepEqual(await accessOf('service=longshore'), []);
  assert.deepEqual(await accessOf(''), []);
  assert.deepEqual(await accessOf('scope='), []);
  assert.deepEqual(
    await accessOf('scope=nonsense&scope=repository:team/app:fly&scope=repository:host:5000/x:pull&scope=thing:x:pull'),
    [],
  );
  assert.deepEqual(
    await accessOf('scope=repository:Team/../app:pull&scope=repository:team/**:pull&scope=repository:*:pull'),
    [],
  );
  assert.deepEqual(await accessOf('scope=repository(plugin):team/app:pull'), [
    { type: 'repository', name: 'team/app', actions: ['pull'] },
  ]);
  assert.deepEqual(await accessOf('scope=repository:team/app:*&scope=registry:catalog:*&scope=registry:catalog:pull'), [
    { type: 'repository', name: 'team/app', actions: ['pull', 'push'] },
    { type: 'registry', name: 'catalog', actions: ['*'] },
  ]);
});

test('without credentials, or empty ones, the token is anonymous', async () => {
  for (const headers of [{}, { authorization: 'Basic Og==' }] as Record<string, string>[]) {
    const { response, body } = await get(
      'service=longshore&scope=repository:team/app:pull&offline_token=true',
      headers,
    );
    assert.equal(response.status, 200);
    assert.equal(body.refresh_token, undefined);
    assert.deepEqual([claimsOf(body.token!).sub, claimsOf(body.token!).access], ['', []]);
  }
});

test('bad credentials are 401, each alike, also where anonymous would do', async () => {
  const texts = new Set<string>();
  for (const [name, password] of [
    ['alice', 'wrong'],
    ['nobody', PASSWORD],
    ['off', PASSWORD],
    ['alice', 'p'.repeat(1025)],
    ['alice', ''],
  ] as const) {
    const response = await refused(get('service=longshore', basic(name, password)), 401, 'invalid_grant');
    assert.match(response.headers.get('www-authenticate')!, /^Basic realm=/);
    texts.add((await get('service=longshore', basic(name, password))).text);
  }
  assert.equal(texts.size, 1);
});

test('an access token makes no other token', async () => {
  const { body } = await get('service=longshore&scope=repository:team/app:pull', alice);
  await refused(get('service=longshore&scope=repository:team/app:push', bearer(body.token!)), 401, 'invalid_grant');
  await refused(get('service=longshore', { authorization: `bearer ${body.token}` }), 401, 'invalid_grant');
});

test('bounds of the question: another service, scopes too many and too long, a parameter said twice', async () => {
  await refused(get('service=other', alice), 400, 'invalid_request');
  await refused(
    get(Array.from({ length: 101 }, (_, i) => `scope=repository:a${i}:pull`).join('&')),
    400,
    'invalid_request',
  );
  await refused(get(`scope=repository:${'a'.repeat(1024)}:pull`), 400, 'invalid_request');
  await refused(get('service=longshore&service=other'), 400, 'invalid_request');
  assert.equal((await get('service=longshore&service=longshore')).response.status, 200);
});

test('POST with a password, and with the refresh token it gave, again and again', async () => {
  const form = {
    grant_type: 'password',
    service: 'longshore',
    client_id: 'containerd',
    access_type: 'offline',
    username: 'alice',
    password: PASSWORD,
    scope: 'repository:team/app:pull repository:team/b:push repository:secret:pull',
  };
  const { response, body } = await post(form);
  assert.equal(response.status, 200);
  assert.equal(body.scope, 'repository:team/app:pull repository:team/b:push');
  assert.equal(body.token, undefined);
  const refresh = body.refresh_token!;
  for (let i = 0; i < 2; i++) {
    const again = await post({
      grant_type: 'refresh_token',
      service: 'longshore',
      refresh_token: refresh,
      scope: 'repository:team/c:pull,push,delete',
    });
    assert.equal(again.response.status, 200);
    assert.equal(again.body.scope, 'repository:team/c:pull,push');
    assert.equal(again.body.refresh_token, refresh);
    assert.equal(claimsOf(again.body.access_token).sub, 'alice');
  }
  const online = await post({ ...form, access_type: 'online' });
  assert.equal(online.body.refresh_token, undefined);
  await refused(post({ ...form, password: 'wrong' }), 401, 'invalid_grant');
  await refused(post({ grant_type: 'refresh_token', refresh_token: `${refresh.slice(0, -1)}_` }), 401, 'invalid_grant');
  await refused(post({ grant_type: 'refresh_token', refresh_token: body.access_token }), 401, 'invalid_grant');
  await room.accounts.setPassword('alice', 'for a moment');
  await refused(post({ grant_type: 'refresh_token', refresh_token: refresh }), 401, 'invalid_grant');
  await room.accounts.setPassword('alice', PASSWORD);
});

test('POST: what is missing, unknown, too large, of another type', async () => {
  await refused(post({}), 400, 'invalid_request');
  await refused(post(''), 400, 'invalid_request');
  await refused(post({ grant_type: 'password', username: '', password: 'x' }), 400, 'invalid_request');
  await refused(post({ grant_type: 'refresh_token' }), 400, 'invalid_request');
  await refused(post({ grant_type: 'authorization_code', code: 'x' }), 400, 'unsupported_grant_type');
  await refused(
    post({ grant_type: 'password', service: 'other', username: 'alice', password: PASSWORD }),
    400,
    'invalid_request',
  );
  await refused(post('grant_type=password&username=alice&username=bob&password=x'), 400, 'invalid_request');
  await refused(
    post({ grant_type: 'password', username: 'alice', password: 'x'.repeat(16_384) }),
    413,
    'invalid_request',
  );
  await refused(post('{}', { 'content-type': 'application/json' }), 415, 'invalid_request');
  await refused(post('{}', { 'content-type': 'multipart/form-data; boundary=x' }), 415, 'invalid_request');
  await refused(post('x', { 'content-type': '////' }), 415, 'invalid_request');
  const charset = await post('grant_type=password&username=alice&password=p%C3%A4ssw%C3%B6rd%3A1', {
    'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
  });
  assert.equal(charset.response.status, 200);
});

test('HEAD and the other methods make no token', async () => {
  const head = await fetch(`${base}/token?service=longshore`, { method: 'HEAD', headers: alice });
  assert.equal(head.status, 405);
  assert.equal(head.headers.get('allow'), 'GET, POST');
  for (const method of ['PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
    const { response } = await ask('/token', { method, headers: alice });
    assert.equal(response.status, 405, method);
    assert.equal(response.headers.get('allow'), 'GET, POST');
  }
});

test('its parsers are its own: other routes parse as they did', async () => {
  const response = await fetch(`${base}/elsewhere`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"a":1}',
  });
  assert.deepEqual(await response.json(), { body: { a: 1 } });
});

test('a token reaches what it says and the account may, and says insufficient_scope for the rest', async () => {
  const inner = memoryRegistry();
  const job = {
    principal: { kind: 'system', id: 'system:t', name: 't' } as Principal,
    requestId: 't',
    signal: AbortSignal.timeout(60_000),
  };
  for (const name of ['team/app', 'team/other', 'secret']) await pushImage(inner, job, repo(name), name, 'v1');
  const guarded = withAccess(inner, room.access, inner);
  const { body } = await get('scope=repository:team/app:pull&scope=repository:secret:pull', alice);
  const principal = await room.authenticator.authenticate(bearer(body.token!), { address: '' });
  const call = { ...job, principal };
  assert.ok(await guarded.resolveManifest(call, repo('team/app'), { tag: tag('v1') }));
  await assert.rejects(guarded.startUpload(call, repo('team/app')), {
    code: 'UNAUTHORIZED',
    detail: { scope: 'repository:team/app:pull,push', error: 'insufficient_scope' },
  });
  await assert.rejects(guarded.listTags(call, repo('team/other'), { limit: 1 }), { code: 'UNAUTHORIZED' });
  await assert.rejects(guarded.listTags(call, repo('secret'), { limit: 1 }), { code: 'NAME_UNKNOWN' });
  // Rights that are gone are gone for tokens too.
  room.access.setRules([]);
  await assert.rejects(guarded.resolveManifest(call, repo('team/app'), { tag: tag('v1') }), { code: 'NAME_UNKNOWN' });
});
