/** Edge cases 27, 28 and 78-89: credentials, tokens, challenges. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, it } from 'node:test';
import { temporaryFolder } from '../../support/temp.ts';
import {
  type Answer,
  basic,
  bearer,
  bytesOf,
  digestOf,
  expectError,
  expectStatus,
  get,
  pushBlob,
  pushImage,
  putManifest,
  startUpload,
  token,
  withQuery,
} from '../support/oci.ts';
import { addUser, closed, open, PASSWORDS } from '../support/open.ts';
import { ask, head, Wire } from '../support/wire.ts';

const server = await closed();
const alice = basic('alice', PASSWORDS.alice);
const bob = basic('bob', PASSWORDS.bob);
const carol = basic('carol', PASSWORDS.carol);
const image = await pushImage(server, 'team/app', 'v1', { headers: alice });
await pushImage(server, 'alice/private', 'v1', { headers: alice });
await pushImage(server, 'bob/own', 'v1', { headers: bob });

/** The Bearer challenge's parameters; asserts that all are quoted. */
function challenge(answer: Answer): Record<string, string> {
  const found = answer.all('www-authenticate').filter((value) => /^bearer /i.test(value));
  assert.equal(found.length, 1, JSON.stringify(answer.rawHeaders));
  const rest = found[0]!.slice(7);
  const parameters = [...rest.matchAll(/([a-z_]+)="([^"]*)"/g)].map((match) => [match[1]!, match[2]!] as const);
  assert.equal(parameters.map(([name, value]) => `${name}="${value}"`).join(','), rest.replaceAll(/,\s+/g, ','));
  return Object.fromEntries(parameters);
}

function claims(jwt: string): { access: { type: string; name: string; actions: string[] }[]; [name: string]: unknown } {
  return JSON.parse(Buffer.from(jwt.split('.')[1]!, 'base64url').toString());
}

function form(fields: Record<string, string>): Promise<Answer> {
  return ask(server, 'POST', '/token', {
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(fields).toString(),
  });
}

const granted = (jwt: string, name: string): string[] =>
  [...(claims(jwt).access.find((entry) => entry.name === name)?.actions ?? [])].sort();

describe('auth', { concurrency: true }, () => {
  it('E27 without credentials Expect: 100-continue gets the 401 and no 100', async () => {
    const wire = await Wire.connect(server);
    await wire.send(
      head('PATCH', '/v2/team/app/blobs/uploads/x', ['Content-Length: 100000000', 'Expect: 100-continue']),
    );
    const refused = await wire.answer();
    expectError(refused, 401, 'UNAUTHORIZED');
    assert.match(refused.header('connection'), /close/i);
    wire.destroy();
  });

  for (const [size, framing] of [
    [60_000, 'length'],
    [1_000_000, 'length'],
    [1_000_000, 'chunked'],
    [12_000_000, 'length'],
  ] as const) {
    it(`E28 a 401 during a body of ${size} bytes (${framing}) is read whole, not lost in a reset`, async () => {
      const wire = await Wire.connect(server);
      const headers = framing === 'length' ? [`Content-Length: ${size}`] : ['Transfer-Encoding: chunked'];
      await wire.send(head('PATCH', '/v2/team/app/blobs/uploads/x', headers));
      if (framing === 'chunked') await wire.send(`${size.toString(16)}\r\n`);
      await wire.send(bytesOf(size));
      expectError(await wire.answer(), 401, 'UNAUTHORIZED');
      wire.destroy();
      expectStatus(await get(server, '/v2/', alice), 200);
    });
  }

  it('E28 after a small body that was not wanted the connection goes on', async () => {
    const wire = await Wire.connect(server);
    await wire.send(head('PATCH', '/v2/team/app/blobs/uploads/x', ['Content-Length: 20000']));
    await wire.send(bytesOf(20_000));
    expectError(await wire.answer(), 401, 'UNAUTHORIZED');
    await wire.send(head('GET', '/v2/', [`Authorization: ${alice.authorization}`]));
    expectStatus(await wire.answer(), 200);
    wire.destroy();
  });

  it('E78 /v2/ without credentials is 401 with a challenge, with and without the slash', async () => {
    for (const path of ['/v2/', '/v2']) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await ask(server, method, path);
        expectStatus(answer, 401);
        assert.ok(challenge(answer).realm);
        expectStatus(await ask(server, method, path, { headers: alice }), 200);
      }
    }
    assert.equal((await get(server, '/v2/', alice)).text(), '{}');
  });

  it('E79 Bearer first, everything quoted; Basic as a header of its own', async () => {
    const refused = await get(server, '/v2/team/app/manifests/v1');
    expectError(refused, 401, 'UNAUTHORIZED');
    const both = refused.all('www-authenticate');
    assert.equal(both.length, 2);
    assert.match(both[0]!, /^Bearer /);
    assert.match(both[1]!, /^Basic realm="[^"]+"/);
    const pull = challenge(refused);
    assert.equal(pull.scope, 'repository:team/app:pull');
    assert.ok(pull.service);
    assert.match(pull.realm!, /^http:\/\/127\.0\.0\.1:\d+\/token$/);
    const push = challenge(await ask(server, 'POST', '/v2/team/app/blobs/uploads/'));
    assert.match(push.scope!, /^repository:team\/app:(pull,push|push,pull|push)$/);
    assert.match(
      challenge(await ask(server, 'DELETE', '/v2/team/app/manifests/v1')).scope!,
      /^repository:team\/app:.*delete/,
    );
    const jwt = await token(server, ['repository:team/app:pull'], alice);
    for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
      expectStatus(await get(server, '/v2/team/app/manifests/v1', { authorization: `${scheme} ${jwt}` }), 200);
    }
    for (const scheme of ['basic', 'BASIC']) {
      expectStatus(await get(server, '/v2/', { authorization: alice.authorization!.replace('Basic', scheme) }), 200);
    }
  });

  it('E80 two scopes, as two parameters or joined by a blank', async () => {
    const first = 'repository:alice/private:pull';
    const second = 'repository:team/app:pull,push';
    for (const query of [
      `scope=${first}&scope=${second}`,
      `scope=${first}%20${second}`,
      `scope=${first}+${second}`.replace('+', '%20'),
    ]) {
      const answer = await get(server, `/token?${query}`, alice);
      expectStatus(answer, 200);
      const jwt = answer.json().token;
      assert.deepEqual(granted(jwt, 'alice/private'), ['pull']);
      assert.deepEqual(granted(jwt, 'team/app'), ['pull', 'push']);
    }
    const posted = await form({
      grant_type: 'password',
      username: 'alice',
      password: PASSWORDS.alice,
      service: 'longshore',
      client_id: 'c',
      scope: `${first} ${second}`,
    });
    expectStatus(posted, 200);
    assert.deepEqual(granted(posted.json().access_token, 'team/app'), ['pull', 'push']);
  });

  it('E80 a mount across repositories with one token of two scopes', async () => {
    const jwt = await token(server, ['repository:team/app:pull', 'repository:alice/mounted:pull,push'], alice);
    const mounted = await ask(
      server,
      'POST',
      `/v2/alice/mounted/blobs/uploads/?mount=${image.layerDigest}&from=team/app`,
      { headers: bearer(jwt) },
    );
    expectStatus(mounted, 201);
    const narrow = await token(server, ['repository:alice/narrow:pull,push'], alice);
    expectStatus(
      await ask(server, 'POST', `/v2/alice/narrow/blobs/uploads/?mount=${image.layerDigest}&from=team/app`, {
        headers: bearer(narrow),
      }),
      202,
    );
  });

  it('E81 more asked than allowed: a token with what is allowed; bad credentials: 401', async () => {
    const jwt = await token(server, ['repository:team/app:pull,push,delete', 'repository:alice/private:pull'], bob);
    assert.deepEqual(granted(jwt, 'team/app'), ['pull']);
    assert.deepEqual(granted(jwt, 'alice/private'), []);
    expectStatus(await get(server, '/v2/team/app/manifests/v1', bearer(jwt)), 200);
    const push = await ask(server, 'POST', '/v2/team/app/blobs/uploads/', { headers: bearer(jwt) });
    assert.ok([401, 403].includes(push.status), String(push.status));
    for (const bad of [basic('bob', 'wrong'), basic('nobody', 'x'), basic('bob', '')]) {
      const refused = await get(server, '/token?scope=repository:team/app:pull', bad);
      expectStatus(refused, 401);
      assert.match(refused.header('www-authenticate'), /^Basic /);
      assert.equal(refused.all('www-authenticate').length, 1);
      expectError(await get(server, '/v2/team/app/manifests/v1', bad), 401, 'UNAUTHORIZED');
    }
  });

  it('E82 the token answer has token, access_token, expires_in and issued_at', async () => {
    const answer = await get(server, '/token?service=longshore&scope=repository:team/app:pull', alice);
    expectStatus(answer, 200);
    const body = answer.json();
    assert.equal(body.token, body.access_token);
    assert.ok(Number.isInteger(body.expires_in) && body.expires_in >= 60);
    assert.match(body.issued_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
    assert.equal('refresh_token' in body, false);
    const said = claims(body.token);
    for (const claim of ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti']) assert.ok(said[claim] !== undefined, claim);
    assert.equal((said.exp as number) - (said.iat as number), body.expires_in);
    assert.match(answer.header('cache-control'), /no-store/);
    assert.deepEqual(claims(await token(server, [], alice)).access, []);
  });

  it('E83 offline_token gives a refresh token, which is used again and not rotated', async () => {
    const answer = await get(
      server,
      '/token?service=longshore&offline_token=true&client_id=docker&account=alice',
      alice,
    );
    expectStatus(answer, 200);
    const refresh = answer.json().refresh_token;
    assert.equal(typeof refresh, 'string');
    for (let i = 0; i < 2; i += 1) {
      const again = await form({
        grant_type: 'refresh_token',
        refresh_token: refresh,
        service: 'longshore',
        client_id: 'docker',
        scope: 'repository:team/app:pull,push',
      });
      expectStatus(again, 200);
      assert.deepEqual(granted(again.json().access_token, 'team/app'), ['pull', 'push']);
      assert.ok(
        again.json().refresh_token === undefined || again.json().refresh_token === refresh,
        'the refresh token was rotated',
      );
    }
    expectError(await get(server, '/v2/team/app/manifests/v1', bearer(refresh)), 401, 'UNAUTHORIZED');
  });

  it('E84 the form: password and refresh_token; everything else refused in OAuth words', async () => {
    const good = await form({
      grant_type: 'password',
      username: 'alice',
      password: PASSWORDS.alice,
      service: 'longshore',
      client_id: 'containerd',
      access_type: 'offline',
      scope: 'repository:team/app:pull',
    });
    expectStatus(good, 200);
    assert.equal(typeof good.json().refresh_token, 'string');
    assert.ok(good.json().scope.includes('repository:team/app:pull'));
    for (const [fields, status, error] of [
      [{ grant_type: 'password', username: 'alice', password: 'wrong', service: 'longshore' }, 401, 'invalid_grant'],
      [{ grant_type: 'refresh_token', refresh_token: 'nonsense', service: 'longshore' }, 401, 'invalid_grant'],
      [{ grant_type: 'client_credentials', service: 'longshore' }, 400, 'unsupported_grant_type'],
      [{ service: 'longshore' }, 400, 'invalid_request'],
      [{ grant_type: 'password', username: 'alice', service: 'longshore' }, 400, 'invalid_request'],
    ] as const) {
      const refused = await form(fields as unknown as Record<string, string>);
      expectStatus(refused, status);
      assert.equal(refused.json().error, error, refused.text());
      assert.ok(Array.isArray(refused.json().errors), refused.text());
    }
    expectStatus(
      await ask(server, 'POST', '/token', {
        headers: { 'content-type': 'application/json' },
        body: '{"grant_type":"password"}',
      }),
      415,
    );
    expectStatus(await form({ grant_type: 'password', username: 'x'.repeat(20_000), password: 'y' }), 413);
    for (const method of ['HEAD', 'PUT', 'DELETE', 'PATCH']) expectStatus(await ask(server, method, '/token'), 405);
  });

  it('E85 no credentials: an anonymous token that may pull what is public', async () => {
    const data = temporaryFolder('data');
    await addUser(data, 'owner', 'the owner has a password');
    const half = await open({ data, config: { access: { anonymous: 'pull' } } });
    const owner = basic('owner', 'the owner has a password');
    const pushed = await pushImage(half, 'public/app', 'v1', { headers: owner });
    for (const headers of [{}, { authorization: 'Basic Og==' }]) {
      const jwt = await token(half, ['repository:public/app:pull,push'], headers as Record<string, string>);
      assert.deepEqual(granted(jwt, 'public/app'), ['pull']);
      expectStatus(await get(half, '/v2/public/app/manifests/v1', bearer(jwt)), 200);
      expectStatus(await get(half, `/v2/public/app/blobs/${pushed.layerDigest}`, bearer(jwt)), 200);
      assert.notEqual((await ask(half, 'POST', '/v2/public/app/blobs/uploads/', { headers: bearer(jwt) })).status, 202);
    }
    expectStatus(await get(half, '/v2/public/app/manifests/v1'), 200);
    const probe = await get(half, '/v2/');
    expectError(probe, 401, 'UNAUTHORIZED');
    assert.ok(challenge(probe).realm);
    // Bad credentials are refused where none would have done.
    expectError(await get(half, '/v2/public/app/manifests/v1', basic('owner', 'wrong')), 401, 'UNAUTHORIZED');
  });

  it('E86 invalid token: invalid_token; too narrow: insufficient_scope; no right: 403 for push, 404 for pull', async () => {
    for (const bad of ['nonsense', 'a.b.c', `${await token(server, [], alice)}x`]) {
      const refused = await get(server, '/v2/team/app/manifests/v1', bearer(bad));
      expectError(refused, 401, 'UNAUTHORIZED');
      assert.equal(challenge(refused).error, 'invalid_token');
    }
    const narrow = bearer(await token(server, ['repository:team/app:pull'], alice));
    const refused = await ask(server, 'POST', '/v2/team/app/blobs/uploads/', { headers: narrow });
    expectError(refused, 401, 'UNAUTHORIZED');
    assert.equal(challenge(refused).error, 'insufficient_scope');
    assert.match(challenge(refused).scope!, /push/);
    expectError(await ask(server, 'POST', '/v2/team/app/blobs/uploads/', { headers: bob }), 403, 'DENIED');
    expectError(await ask(server, 'DELETE', '/v2/team/app/manifests/v1', { headers: bob }), 403, 'DENIED');
    expectError(await get(server, '/v2/alice/private/manifests/v1', bob), 404, 'NAME_UNKNOWN');
    expectError(await get(server, '/v2/alice/absent/manifests/v1', bob), 404, 'NAME_UNKNOWN');
    expectError(await putManifest(server, 'alice/absent', 'v1', '{}', undefined, bob), 403, 'DENIED');
  });

  it('E87 passwords with colons and UTF-8; the token as password; empty credentials', async () => {
    expectStatus(await get(server, '/v2/', carol), 200);
    await pushBlob(server, 'carol/x', bytesOf(10), carol);
    const refresh = (await get(server, '/token?offline_token=true', carol)).json().refresh_token;
    for (const user of ['<token>', '00000000-0000-0000-0000-000000000000']) {
      const answer = await get(server, '/token?scope=repository:carol/x:pull,push', basic(user, refresh));
      assert.ok([200, 401].includes(answer.status), String(answer.status));
    }
    expectError(await get(server, '/v2/', { authorization: 'Basic Og==' }), 401, 'UNAUTHORIZED');
    for (const value of [
      'Basic',
      'Basic ',
      'Basic !!!!',
      'Basic YWxpY2U=',
      'Negotiate abc',
      'x',
      'Basic YWxpY2U6 extra',
    ]) {
      expectError(await get(server, '/v2/', { authorization: value }), 401, 'UNAUTHORIZED');
    }
  });

  it('E88 scopes: names with a port, classes, the catalog, and nonsense', async () => {
    const jwt = await token(
      server,
      [
        'repository(plugin):team/app:pull',
        'repository:host.example:5000/team/app:pull',
        'registry:catalog:*',
        'nonsense',
        'repository:team/app',
        'other:team/app:pull',
        ':::',
      ],
      alice,
    );
    assert.deepEqual(granted(jwt, 'team/app'), ['pull']);
    assert.deepEqual(granted(jwt, 'host.example:5000/team/app'), []);
    const listed = (await get(server, '/v2/_catalog', bearer(jwt))).json().repositories;
    assert.ok(listed.includes('team/app') && listed.includes('alice/private') && !listed.includes('bob/own'));
    const refused = await get(server, '/v2/_catalog');
    expectError(refused, 401, 'UNAUTHORIZED');
    assert.equal(challenge(refused).scope, 'registry:catalog:*');
    expectStatus(await get(server, '/token?service=another', alice), 400);
    expectStatus(await get(server, `/token?${'scope=repository:a:pull&'.repeat(101)}`, alice), 400);
    expectStatus(await get(server, `/token?scope=repository:${'a'.repeat(1100)}:pull`, alice), 400);
  });

  it('E67 the catalog lists what the caller may pull', async () => {
    const of = async (headers: Record<string, string>): Promise<string[]> =>
      (await get(server, '/v2/_catalog', headers)).json().repositories;
    const seen = await of(bob);
    assert.ok(seen.includes('team/app') && seen.includes('bob/own'));
    assert.ok(
      seen.every((name) => !name.startsWith('alice/')),
      seen.join(),
    );
    assert.ok((await of(carol)).every((name) => name.startsWith('carol/')));
    const paged: string[] = [];
    for (let next: string | undefined = '/v2/_catalog?n=1'; next !== undefined; ) {
      const page: Answer = await get(server, next, bob);
      paged.push(...page.json().repositories);
      next = /<([^>]+)>/.exec(page.header('link'))?.[1];
    }
    assert.deepEqual(paged, seen);
  });

  it('E89 the realm is absolute: publicUrl where set, else the Host of the request', async () => {
    const realm = async (headers: Record<string, string>): Promise<string> =>
      challenge(await get(server, '/v2/', headers)).realm!;
    assert.equal(await realm({ host: 'registry.example:8443' }), 'http://registry.example:8443/token');
    assert.equal(
      await realm({ host: 'r.example', 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https' }),
      'http://r.example/token',
    );
    const fixed = await open({
      config: { access: { anonymous: 'none' }, server: { publicUrl: 'https://public.example' } },
    });
    assert.equal(challenge(await get(fixed, '/v2/', { host: 'evil.example' })).realm, 'https://public.example/token');
    const odd = await get(server, '/v2/', { host: 'a"b,c' });
    assert.ok([400, 401].includes(odd.status));
    // A Host that is none makes no realm: only Basic is offered.
    for (const value of odd.all('www-authenticate')) assert.doesNotMatch(value, /a"b|a%22b/);
  });

  it('E23 a mount from what the caller may not see is 202, as from nowhere', async () => {
    const hidden = await pushBlob(server, 'alice/private', bytesOf(77), alice);
    for (const query of [
      `mount=${hidden}&from=alice/private`,
      `mount=${hidden}`,
      `mount=${digestOf('nowhere')}&from=alice/private`,
    ]) {
      const opened = await ask(server, 'POST', `/v2/bob/own/blobs/uploads/?${query}`, { headers: bob });
      expectStatus(opened, 202);
    }
    assert.equal((await ask(server, 'HEAD', `/v2/bob/own/blobs/${hidden}`, { headers: bob })).status, 404);
    const location = await startUpload(server, 'bob/own', bob);
    expectStatus(
      await ask(server, 'PUT', withQuery(location, `digest=${digestOf('mine')}`), { headers: bob, body: 'mine' }),
      201,
    );
  });
});
