/** Threat cases 20-23, 26 and 29: tokens, scopes, identities. */
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { after, describe, it } from 'node:test';
import { encoded, hmacSigned, opened, signed, signingKey } from '../support/keys.ts';
import {
  type Answer,
  basic,
  bearer,
  bytesOf,
  digestOf,
  expectError,
  expectStatus,
  get,
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  token,
} from '../support/oci.ts';
import { closed, PASSWORDS } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const server = await closed();
const alice = basic('alice', PASSWORDS.alice);
const bob = basic('bob', PASSWORDS.bob);
const image = await pushImage(server, 'team/app', 'v1', { headers: alice });
await pushImage(server, 'alice/app', 'v1', { headers: alice });
const good = await token(server, ['repository:team/app:pull,push'], alice);
const { header, claims } = opened(good);
const key = signingKey(server.data);
const target = '/v2/team/app/manifests/v1';

/** What the token gets; the good one must get 200 beside it. */
async function refused(jwt: string, what: string): Promise<void> {
  const answer = await get(server, target, bearer(jwt));
  assert.ok([401, 431].includes(answer.status), `${what}: ${answer.status}`);
  if (answer.status === 401) {
    expectError(answer, 401, 'UNAUTHORIZED');
    assert.match(answer.header('www-authenticate'), /error="invalid_token"/, what);
  }
}

describe('tokens', { concurrency: true }, () => {
  it('T20 a token signed anew with our key and header is good: the forgeries below fail for what they change', async () => {
    expectStatus(await get(server, target, bearer(good)), 200);
    expectStatus(await get(server, target, bearer(signed(header, claims, key.privateKey))), 200);
  });

  it('T20 keys that a token brings, names or points to are never looked at', async () => {
    let fetched = 0;
    const trap = createServer((_, response) => {
      fetched += 1;
      response.end('{}');
    });
    await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve));
    after(() => trap.close());
    const url = `http://127.0.0.1:${(trap.address() as { port: number }).port}/keys`;
    const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = own.publicKey.export({ format: 'jwk' });
    const x5c = [own.publicKey.export({ format: 'der', type: 'spki' }).toString('base64')];
    for (const more of [
      { jwk },
      { jku: url },
      { x5u: url },
      { x5c },
      { jwk, kid: undefined },
      { jwk, kid: 'mine' },
      { crit: ['jwk'], jwk },
    ]) {
      await refused(signed({ ...header, ...more }, claims, own.privateKey), JSON.stringify(more).slice(0, 60));
    }
    for (const kid of [
      '../../x',
      '../../../../dev/null',
      '',
      'x'.repeat(5000),
      `${header.kid}\u0000`,
      "' or 1=1 --",
      null,
      5,
      { a: 1 },
      [header.kid],
      '__proto__',
      url,
    ]) {
      await refused(signed({ ...header, kid }, claims, own.privateKey), `kid ${JSON.stringify(kid)?.slice(0, 40)}`);
      if (kid !== '')
        await refused(signed({ ...header, kid }, claims, key.privateKey), `kid ${JSON.stringify(kid)?.slice(0, 40)}`);
    }
    assert.equal(fetched, 0);
  });

  it('T21 none, no signature, and HS256 over the public key in every form', async () => {
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null]) {
      const text = `${encoded({ ...header, alg })}.${encoded(claims)}`;
      await refused(`${text}.`, `alg ${alg}`);
      await refused(text, `alg ${alg} without a dot`);
      await refused(`${text}.${good.split('.')[2]}`, `alg ${alg} with a signature`);
    }
    const [first, second] = good.split('.');
    await refused(`${first}.${second}.`, 'empty signature');
    await refused(`${first}.${second}`, 'no signature');
    await refused(`${first}.${second}.${'A'.repeat(86)}`, 'zero signature');
    const publicKey = createPublicKey(key.privateKey);
    const pem = publicKey.export({ format: 'pem', type: 'spki' }).toString();
    const der = publicKey.export({ format: 'der', type: 'spki' });
    const jwk = publicKey.export({ format: 'jwk' });
    const forms = [
      pem,
      pem.trim(),
      ` ${pem}`,
      `\t${pem}`,
      pem.replaceAll('\n', '\r\n'),
      pem.replaceAll('\n', ''),
      pem.split('\n').slice(1, -2).join(''),
      der,
      JSON.stringify(jwk),
      jwk.x!,
      '',
      'null',
    ];
    for (const alg of ['HS256', 'HS384', 'ES256', 'RS256', 'EdDSA']) {
      for (const [i, form] of forms.entries())
        await refused(hmacSigned({ ...header, alg }, claims, form), `${alg} over form ${i}`);
    }
    for (const alg of ['ES384', 'ES512', 'RS256', 'PS256', 'HS256', 'EdDSA', 'es256']) {
      await refused(signed({ ...header, alg }, claims, key.privateKey), `our key under ${alg}`);
    }
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await refused(signed({ ...header, alg: 'RS256' }, claims, rsa.privateKey), 'RS256');
  });

  it('T21 a token changed in any part is refused', async () => {
    const parts = good.split('.');
    for (const at of [0, 1, 2]) {
      const part = parts[at]!;
      for (const i of [0, Math.floor(part.length / 2), part.length - 3]) {
        const changed = [...parts];
        changed[at] = part.slice(0, i) + (part[i] === 'A' ? 'B' : 'A') + part.slice(i + 1);
        await refused(changed.join('.'), `part ${at} at ${i}`);
      }
    }
    await refused(
      `${parts[0]}.${encoded({ ...claims, access: [{ type: 'repository', name: '**', actions: ['*'] }] })}.${parts[2]}`,
      'widened',
    );
    await refused(`${good}.`, 'a part more');
    await refused(`${good}=`, 'padding');
  });

  it('T22 the times, audience and issuer of a token count, though the signature is right', async () => {
    const now = Math.floor(Date.now() / 1000);
    const cases: [string, Record<string, unknown>][] = [
      ['no exp', { exp: undefined }],
      ['past exp', { exp: now - 3600, iat: now - 7200, nbf: now - 7200 }],
      ['far exp', { exp: now + 10 * 365 * 86_400 }],
      ['exp as text', { exp: String(now + 300) }],
      ['exp of 1e300', { exp: 1e300 }],
      ['no iat', { iat: undefined }],
      ['iat ahead', { iat: now + 3600, exp: now + 3900 }],
      ['nbf ahead', { nbf: now + 3600, exp: now + 7200 }],
      ['another aud', { aud: 'another' }],
      ['no aud', { aud: undefined }],
      ['a list of other auds', { aud: ['another', 'third'] }],
      ['another iss', { iss: 'another' }],
      ['no iss', { iss: undefined }],
      ['access that is no list', { access: { type: 'repository' } }],
      ['access absent', { access: undefined }],
      ['access of nulls', { access: [null] }],
    ];
    for (const [what, change] of cases) await refused(signed(header, { ...claims, ...change }, key.privateKey), what);
    await refused(`${encoded(header)}.${encoded('null')}.x`, 'claims null');
  });

  it('T22 bombs in tokens are refused before they are parsed', async () => {
    await refused('.'.repeat(10_000), '10,000 dots');
    await refused(`a${'.a'.repeat(5000)}`, '5,000 parts');
    const over = await get(server, target, bearer('.'.repeat(100_000)));
    assert.equal(over.status, 431);
    const deep = `{"alg":"ES256","x":${'['.repeat(3000)}${']'.repeat(3000)}}`;
    await refused(`${encoded(deep)}.${encoded(claims)}.${good.split('.')[2]}`, 'deep header');
    const jwe = [
      encoded({ alg: 'dir', enc: 'A256GCM', zip: 'DEF' }),
      '',
      encoded('iv'),
      encoded('text'),
      encoded('tag'),
    ].join('.');
    await refused(jwe, 'JWE');
    await refused(`${encoded({ ...header, zip: 'DEF' })}.${encoded(claims)}.${good.split('.')[2]}`, 'zip');
    for (const text of ['ey', '..', '...', '%', 'é'.normalize(), '\u0131']) {
      const answer = await get(server, target, { authorization: `Bearer ${Buffer.from(text).toString('latin1')}` });
      assert.ok([400, 401].includes(answer.status), text);
    }
    expectStatus(await get(server, target, bearer(good)), 200);
  });

  it('T23 each kind of credential reaches the cells it was given and no other', async () => {
    type Cell = readonly [string, string, string];
    // route, needed action, repository
    const cells: Cell[] = [];
    for (const repository of ['team/app', 'alice/app', 'bob/app', 'carol/app', 'team', 'team2/app', 'public/app']) {
      for (const method of ['GET', 'HEAD']) {
        cells.push([method, `/v2/${repository}/manifests/none`, 'pull']);
        cells.push([method, `/v2/${repository}/blobs/${digestOf('none')}`, 'pull']);
        cells.push([method, `/v2/${repository}/tags/list`, 'pull']);
        cells.push([method, `/v2/${repository}/referrers/${digestOf('none')}`, 'pull']);
        cells.push([method, `/v2/${repository}/blobs/uploads/none`, 'push']);
      }
      cells.push(['PUT', `/v2/${repository}/manifests/none`, 'push']);
      cells.push(['POST', `/v2/${repository}/blobs/uploads/`, 'push']);
      cells.push(['PATCH', `/v2/${repository}/blobs/uploads/none`, 'push']);
      cells.push(['PUT', `/v2/${repository}/blobs/uploads/none?digest=${digestOf('none')}`, 'push']);
      cells.push(['DELETE', `/v2/${repository}/blobs/uploads/none`, 'push']);
      cells.push(['DELETE', `/v2/${repository}/manifests/none`, 'delete']);
      cells.push(['DELETE', `/v2/${repository}/blobs/${digestOf('none')}`, 'delete']);
    }
    const owns = (user: string, action: string, repository: string): boolean =>
      repository.startsWith(`${user}/`) ||
      (repository.startsWith('team/') && (user === 'alice' || (user === 'bob' && action === 'pull')));
    const everything = ['team/app', 'alice/app', 'bob/app', 'carol/app'].map(
      (name) => `repository:${name}:pull,push,delete`,
    );
    const kinds: [string, Record<string, string>, (action: string, repository: string) => boolean][] = [
      ['nobody', {}, () => false],
      ['anonymous token', bearer(await token(server, everything)), () => false],
      ['alice Basic', alice as Record<string, string>, (a, r) => owns('alice', a, r)],
      ['bob Basic', bob as Record<string, string>, (a, r) => owns('bob', a, r)],
      ['alice token for all', bearer(await token(server, everything, alice)), (a, r) => owns('alice', a, r)],
      ['bob token for all', bearer(await token(server, everything, bob)), (a, r) => owns('bob', a, r)],
      [
        'alice pull token',
        bearer(await token(server, ['repository:team/app:pull'], alice)),
        (a, r) => r === 'team/app' && a === 'pull',
      ],
      [
        'alice push token',
        bearer(await token(server, ['repository:team/app:push'], alice)),
        (a, r) => r === 'team/app' && a === 'push',
      ],
      [
        'alice delete token',
        bearer(await token(server, ['repository:alice/app:delete'], alice)),
        (a, r) => r === 'alice/app' && a === 'delete',
      ],
      ['alice star token', bearer(await token(server, ['repository:alice/app:*'], alice)), (_, r) => r === 'alice/app'],
      ['alice catalog token', bearer(await token(server, ['registry:catalog:*'], alice)), () => false],
      ['alice empty token', bearer(await token(server, [], alice)), () => false],
      ['a session cookie of nobody', { cookie: `token=${good}; session=${good}` }, () => false],
      ['a token in the query', {}, () => false],
      ['a token as Basic user', basic(good, '') as Record<string, string>, () => false],
    ];
    let wrong = '';
    for (const [kind, headers, may] of kinds) {
      for (const [method, path, action] of cells) {
        const repository = /^\/v2\/(.*?)\/(manifests|blobs|tags|referrers)/.exec(path)![1]!;
        const asked =
          kind === 'a token in the query'
            ? `${path}${path.includes('?') ? '&' : '?'}access_token=${good}&token=${good}`
            : path;
        const answer: Answer = await ask(server, method, asked, {
          headers: { ...headers, 'content-type': OCI_MANIFEST },
          ...(method === 'PUT' || method === 'PATCH' ? { body: 'x' } : {}),
        });
        const hidden = answer.status === 404 && method !== 'HEAD' && answer.json().errors[0].code === 'NAME_UNKNOWN';
        const denied =
          [401, 403].includes(answer.status) ||
          hidden ||
          (answer.status === 404 && method === 'HEAD' && action === 'pull');
        const allowed =
          !denied || (answer.status === 404 && (method === 'HEAD' || (hidden && path.endsWith('/tags/list'))));
        if (answer.status >= 500 || (may(action, repository) ? !allowed : !denied))
          wrong += `${kind}: ${method} ${path}: ${answer.status}\n`;
      }
    }
    assert.equal(wrong, '');
    // A token does not reach further than the account does now: bob asked for push and got a token without it.
    assert.equal(
      (
        await ask(server, 'POST', '/v2/team/app/blobs/uploads/', {
          headers: bearer(await token(server, ['repository:team/app:push'], bob)),
        })
      ).status,
      403,
    );
    const widened = signed(
      header,
      { ...claims, access: [{ type: 'repository', name: 'carol/app', actions: ['pull', 'push', 'delete'] }] },
      key.privateKey,
    );
    const beyond = await ask(server, 'POST', '/v2/carol/app/blobs/uploads/', { headers: bearer(widened) });
    expectError(beyond, 403, 'DENIED');
  });

  it('T26 two users who log in at once are never taken for each other', async () => {
    const users = Object.entries(PASSWORDS);
    const mine = new Map<string, string>();
    for (const [name, password] of users)
      mine.set(name, await pushBlob(server, `${name}/t26`, bytesOf(30), basic(name, password)));
    for (let round = 0; round < 15; round += 1) {
      await Promise.all(
        users.flatMap(([name, password]) =>
          users.map(async ([owner]) => {
            const answer = await ask(server, 'HEAD', `/v2/${owner}/t26/blobs/${mine.get(owner)}`, {
              headers: basic(name, password),
            });
            assert.ok(
              answer.status === (name === owner ? 200 : 404) || answer.status === 429,
              `${name} at ${owner}: ${answer.status}`,
            );
          }),
        ),
      );
    }
  });

  it('T26 the split between name and password cannot be moved', async () => {
    expectStatus(await get(server, '/v2/', basic('alice', PASSWORDS.alice)), 200);
    for (const pair of [
      `alice:${PASSWORDS.alice}:`,
      `:alice:${PASSWORDS.alice}`,
      `alic:e${PASSWORDS.alice}`,
      `alice${PASSWORDS.alice}:`,
      `alice::${PASSWORDS.alice}`,
    ]) {
      expectError(
        await get(server, '/v2/', { authorization: `Basic ${Buffer.from(pair).toString('base64')}` }),
        401,
        'UNAUTHORIZED',
      );
    }
    // A right password of one account is wrong for every other, also just after it was right.
    for (const name of ['bob', 'carol', 'Alice', 'alice ', 'ALICE', 'alice\u200b']) {
      expectError(await get(server, '/v2/', basic(name, PASSWORDS.alice)), 401, 'UNAUTHORIZED');
    }
  });

  it('T29 user names are names: filters, wildcards, NUL and empty passwords match nobody', async () => {
    for (const name of [
      '*',
      '*)(uid=*',
      'alice)(|(uid=*',
      'alice\u0000',
      'ali*',
      'al%',
      '%',
      'alice,dc=x',
      'cn=alice',
      '\\2a',
      "alice' or '1'='1",
      'alice"',
      'alice;',
      '../alice',
      'a'.repeat(5000),
    ]) {
      const answer = await get(server, '/token', basic(name, PASSWORDS.alice));
      assert.equal(answer.status, 401, name.slice(0, 40));
    }
    for (const name of ['alice', 'bob', 'nobody', '']) {
      if (name !== '') expectStatus(await get(server, '/token', basic(name, '')), 401);
      expectStatus(await get(server, '/token', basic(name, '\u0000')), 401);
    }
    expectStatus(await get(server, '/token', basic('alice', 'x'.repeat(1025))), 401);
    expectStatus(await get(server, '/token', basic('alice', 'x'.repeat(8000))), 401);
    expectStatus(await get(server, '/token', { authorization: alice.authorization! }), 200);
    assert.equal((await get(server, `/v2/team/app/blobs/${image.layerDigest}`, alice)).status, 200);
  });
});
