import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { after, test } from 'node:test';
import { exportJWK, jwtVerify, SignJWT } from 'jose';
import { bearer, openTestRoom } from './access.testing.ts';
import { dummyHash } from './password-hash.ts';

const room = await openTestRoom({}, { htpasswd: `alice:${dummyHash()}` });
after(() => room.close());
const PEER = { address: '127.0.0.1' };
const alice = (await room.identities.find('alice'))!;
const access = [{ type: 'repository', name: 'a/b', actions: ['pull', 'push'] }];
const key = await room.keys.signer();

const seconds = (): number => Math.floor(room.clock.now() / 1000);
const claims = (): Record<string, unknown> => ({
  iss: 'longshore',
  sub: 'alice',
  aud: 'longshore',
  exp: seconds() + 300,
  nbf: seconds(),
  iat: seconds(),
  jti: 'x',
  access,
  uid: alice.principal.id,
  gen: alice.generation,
});
const encode = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const HEADER = { alg: 'ES256', kid: key.kid, typ: 'JWT' };

function signed(header: unknown, payload: unknown, by: KeyObject = key.privateKey): string {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${sign('sha256', Buffer.from(input), { key: by, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

async function refused(token: string, what: string): Promise<void> {
  assert.equal(await room.tokens.verify(token), undefined, what);
  await assert.rejects(
    async () => room.authenticator.authenticate(bearer(token), PEER),
    (error: { code?: string; status?: number; message: string }) => {
      assert.equal(error.code, 'UNAUTHORIZED', what);
      if (token.length > 20) assert.ok(!error.message.includes(token.slice(0, 20)), 'no token in errors');
      return true;
    },
    what,
  );
}

test('what is issued verifies here and by another implementation, with the claims of the specification', async () => {
  const { token, expiresIn, issuedAt } = await room.tokens.issue(alice, access);
  assert.equal(expiresIn, 300);
  const { payload, protectedHeader } = await jwtVerify(token, key.publicKey, {
    issuer: 'longshore',
    audience: 'longshore',
    algorithms: ['ES256'],
    currentDate: new Date(room.clock.now()),
  });
  assert.equal(protectedHeader.kid, key.kid);
  assert.equal(payload.sub, 'alice');
  assert.equal(payload.iat! * 1000, issuedAt);
  assert.equal(payload.exp! - payload.iat!, 300);
  assert.deepEqual(payload.access, access);
  assert.ok(payload.jti!.length >= 20);
  const verified = (await room.tokens.verify(token))!;
  assert.deepEqual(verified.bounds, [{ repository: 'a/b', actions: ['repository.pull', 'repository.push'] }]);
  assert.deepEqual(verified.subject, { id: alice.principal.id, name: 'alice', generation: alice.generation });
});

test('a token of another implementation under our key is taken: nothing depends on our own spelling', async () => {
  const token = await new SignJWT(claims()).setProtectedHeader({ alg: 'ES256', kid: key.kid }).sign(key.privateKey);
  assert.ok(await room.tokens.verify(token));
});

test('an anonymous token has an empty subject, an array of access, and bounds', async () => {
  const { token } = await room.tokens.issue(undefined, []);
  const verified = (await room.tokens.verify(token))!;
  assert.deepEqual(verified, { subject: undefined, bounds: [], expiresAt: verified.expiresAt });
  const principal = await room.authenticator.authenticate(bearer(token), PEER);
  assert.equal(principal.id, 'anonymous');
  assert.deepEqual(principal.bounds, []);
});

test('algorithm none, an HMAC over the public key in every spelling, and another algorithm', async () => {
  for (const alg of ['none', 'None', 'NONE', '', null, undefined, ['none']]) {
    for (const header of [{ ...HEADER, alg }, { alg }]) {
      const input = `${encode(header)}.${encode(claims())}`;
      await refused(`${input}.`, `alg ${alg}`);
      await refused(input, `alg ${alg} in two parts`);
      await refused(`${input}.${signed(HEADER, claims()).split('.')[2]}`, `alg ${alg} with a signature`);
    }
  }
  const pem = key.publicKey.export({ format: 'pem', type: 'spki' }) as string;
  const jwk = JSON.stringify(await exportJWK(key.publicKey));
  const der = key.publicKey.export({ format: 'der', type: 'spki' });
  for (const alg of ['HS256', 'hs256', 'HS512']) {
    const input = `${encode({ ...HEADER, alg })}.${encode(claims())}`;
    for (const secret of [pem, pem.trim(), ` ${pem}`, pem.replace(/\n/g, '\r\n'), pem.replace(/\n/g, ''), jwk, der]) {
      const hash = alg.toLowerCase() === 'hs256' ? 'sha256' : 'sha512';
      await refused(`${input}.${createHmac(hash, secret).update(input).digest('base64url')}`, alg);
    }
  }
  for (const alg of ['ES384', 'RS256', 'PS256', 'EdDSA', 'es256', ' ES256'])
    await refused(signed({ ...HEADER, alg }, claims()), alg);
});

test('a key that the header brings is never used', async () => {
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = await exportJWK(own.publicKey);
  for (const extra of [
    { jwk },
    { jwk, kid: undefined },
    { jku: 'http://127.0.0.1:1/keys' },
    { x5u: 'http://127.0.0.1:1/c' },
    { x5c: ['MIIB'] },
  ]) {
    await refused(signed({ ...HEADER, ...extra }, claims(), own.privateKey), JSON.stringify(Object.keys(extra)));
  }
  // Beside a right signature of ours they change nothing.
  assert.ok(await room.tokens.verify(signed({ ...HEADER, jwk }, claims())));
});

test('key ids that lead elsewhere', async () => {
  for (const kid of [
    '../../x',
    '/dev/null',
    '',
    'x',
    '__proto__',
    'constructor',
    "' or '1'='1",
    `${key.kid} `,
    key.kid.toLowerCase(),
    5,
    null,
    [key.kid],
    { a: 1 },
  ]) {
    await refused(signed({ ...HEADER, kid }, claims()), JSON.stringify(kid));
  }
  await refused(signed({ alg: 'ES256' }, claims()), 'no kid');
  await refused(signed({ ...HEADER, crit: ['exp'] }, claims()), 'crit');
});

test('claims: missing, far, past and ahead times, another issuer and audience, shapes that are none', async () => {
  const now = seconds();
  const bad: Record<string, unknown>[] = [
    { exp: undefined },
    { exp: now },
    { exp: now - 1 },
    { exp: now + 86_400 * 365 },
    { exp: 1e300 },
    { exp: `${now + 300}` },
    { exp: now + 300.5 },
    { exp: now + 86_400, iat: now - 10 },
    { nbf: undefined },
    { nbf: now + 120 },
    { iat: undefined },
    { iat: now + 120 },
    { iat: -1 },
    { iss: 'other' },
    { iss: undefined },
    { aud: 'other' },
    { aud: ['longshore'] },
    { aud: undefined },
    { access: undefined },
    { access: {} },
    { access: 'repository:a:pull' },
    { access: [null] },
    { access: [{ type: 'repository', name: 'a' }] },
    { access: Array.from({ length: 201 }, () => access[0]) },
    { sub: undefined },
    { sub: 5 },
    { uid: undefined },
    { gen: undefined },
    { gen: '1' },
  ];
  for (const change of bad)
    await refused(signed(HEADER, { ...claims(), ...change }), JSON.stringify(change).slice(0, 80));
  for (const payload of ['[]', 'null', '"x"', '{', '', '\ufeff{}']) await refused(signed(HEADER, payload), payload);
  // The subject is anonymous or somebody: no claim makes one of the other.
  await refusedByAccount({ uid: 'user:somebody-else' });
  await refusedByAccount({ gen: alice.generation + 1 });
  await refusedByAccount({ sub: 'bob' });
});

async function refusedByAccount(change: Record<string, unknown>): Promise<void> {
  const token = signed(HEADER, { ...claims(), ...change });
  await assert.rejects(async () => room.authenticator.authenticate(bearer(token), PEER), { code: 'UNAUTHORIZED' });
}

test('signatures: changed, cut, padded, respelled, of another token, of another key', async () => {
  const token = signed(HEADER, claims());
  const [header, payload, signature] = token.split('.') as [string, string, string];
  const bytes = Buffer.from(signature, 'base64url');
  bytes[10]! ^= 1;
  await refused(`${header}.${payload}.${bytes.toString('base64url')}`, 'one bit');
  await refused(`${header}.${payload}.`, 'empty');
  await refused(`${header}.${payload}.${signature.slice(0, -4)}`, 'cut');
  await refused(`${header}.${payload}.${signature}==`, 'padded');
  await refused(`${header}.${payload}.${signature}A`, 'longer');
  await refused(`${header}.${payload}.${Buffer.alloc(64).toString('base64url')}`, 'zeros');
  await refused(`${header}.${encode({ ...claims(), jti: 'y' })}.${signature}`, 'another payload');
  const last = signature.at(-1)!;
  const respelled = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'].find(
    (c) =>
      c !== last && Buffer.from(signature.slice(0, -1) + c, 'base64url').equals(Buffer.from(signature, 'base64url')),
  );
  assert.ok(respelled);
  await refused(`${header}.${payload}.${signature.slice(0, -1)}${respelled}`, 'other bits that count for nothing');
  const der = sign('sha256', Buffer.from(`${header}.${payload}`), key.privateKey).toString('base64url');
  await refused(`${header}.${payload}.${der}`, 'DER');
  await refused(signed(HEADER, claims(), generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey), 'another key');
});

test('bombs: length, dots, JWE, nested JSON, text that is not base64', async () => {
  await refused('.'.repeat(1_000_000), 'a million dots');
  await refused(`${encode(HEADER)}.${'a'.repeat(17_000)}.x`, 'long');
  await refused(`${encode(HEADER)}.a.b.c.d`, 'five parts');
  await refused(`${encode(HEADER)}..`, 'empty parts');
  await refused('..', 'nothing');
  await refused(`${encode('['.repeat(5000))}.${encode(claims())}.x`, 'nested');
  await refused(`${encode(HEADER)}!.${encode(claims())}.x`, 'not base64');
  await refused(`${Buffer.from([0xff, 0xfe]).toString('base64url')}.e30.x`, 'not UTF-8');
});

test('a token ends with its time, here and where it was remembered', async () => {
  const { token } = await room.tokens.issue(alice, access);
  await room.authenticator.authenticate(bearer(token), PEER);
  room.clock.move(299_000);
  await room.authenticator.authenticate(bearer(token), PEER);
  room.clock.move(1000);
  await assert.rejects(async () => room.authenticator.authenticate(bearer(token), PEER), { code: 'UNAUTHORIZED' });
  assert.equal(await room.tokens.verify(token), undefined);
});

test('scopes that do not fit into a header are refused, not cut', async () => {
  const many = Array.from({ length: 100 }, (_, i) => ({
    type: 'repository',
    name: `${'a'.repeat(250)}${i}`,
    actions: ['pull'],
  }));
  await assert.rejects(room.tokens.issue(alice, many), { status: 400 });
});
