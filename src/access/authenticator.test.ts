import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { basic, bearer, openTestRoom, type TestRoom } from './access.testing.ts';
import { addAccount, setDisabled } from './accounts.ts';
import { authenticatorContract } from './authenticator.contract.ts';
import { type AuthenticatorParts, authenticator, commonNameOf } from './authenticator.ts';
import type { Passwords } from './password.ts';
import { dummyHash, hashPassword } from './password-hash.ts';

const PEER = { address: '127.0.0.1' };
const PASSWORD = 'pässwörd:with:colons 🔑';
const HASH = await hashPassword(PASSWORD);
const tools = { hash: async () => HASH };

/** A room with alice, whose hash is made once for all tests. */
async function withAlice(...asked: Parameters<typeof openTestRoom>): Promise<TestRoom> {
  const room = await openTestRoom(...asked);
  await addAccount(room.database, { name: 'alice', password: PASSWORD }, tools);
  room.identities.changed();
  return room;
}

async function within<T>(opening: Promise<TestRoom>, work: (room: TestRoom) => Promise<T>): Promise<T> {
  const room = await opening;
  try {
    return await work(room);
  } finally {
    await room.close();
  }
}

/** An authenticator on the room's parts that counts the hashes. */
function counting(room: TestRoom, verify?: Passwords['verify']) {
  const checked: [string, string][] = [];
  const parts: AuthenticatorParts = {
    identities: room.identities,
    tokens: room.tokens,
    refreshTokens: room.refreshTokens,
    clock: room.clock,
    certificates: true,
    passwords: {
      verify: async (password, hash) => {
        checked.push([password, hash]);
        return verify === undefined ? password === PASSWORD && hash === HASH : verify(password, hash);
      },
    },
  };
  return { logins: authenticator(parts), checked };
}

const refused = (work: () => unknown): Promise<void> => assert.rejects(async () => work(), { code: 'UNAUTHORIZED' });

const shared = await withAlice();
after(() => shared.close());
authenticatorContract('the authenticator of accounts', async () => {
  const issued = await shared.tokens.issue((await shared.identities.find('alice'))!, []);
  return {
    authenticator: shared.authenticator,
    user: { name: 'alice', password: PASSWORD },
    token: issued.token,
    close: async () => {},
  };
});

test('a right password is hashed once a minute, a wrong one each time, and many at once share one hash', () =>
  within(withAlice(), async (room) => {
    const { logins, checked } = counting(room);
    const all = await Promise.all(Array.from({ length: 20 }, () => logins.password('alice', PASSWORD)));
    assert.equal(checked.length, 1);
    assert.equal(new Set(all).size, 1);
    const again = logins.password('alice', PASSWORD);
    assert.ok(!(again instanceof Promise));
    assert.equal(again, all[0]);
    room.clock.move(59_000);
    assert.equal((await logins.password('alice', PASSWORD)).name, 'alice');
    assert.equal(checked.length, 1);
    room.clock.move(1001);
    await logins.password('alice', PASSWORD);
    assert.equal(checked.length, 2);
    await refused(() => logins.password('alice', 'wrong'));
    await refused(() => logins.password('alice', 'wrong'));
    assert.equal(checked.length, 4);
  }));

test('an unknown name, a disabled account and one without a password do the same work, and say the same', () =>
  within(withAlice(), async (room) => {
    await addAccount(room.database, { name: 'off', password: PASSWORD }, tools);
    await setDisabled(room.database, 'off', true);
    room.identities.changed();
    const { logins, checked } = counting(room, async () => true);
    const said = new Set<string>();
    for (const name of ['nobody', 'off', '*)(uid=*', 'ALICE']) {
      await assert.rejects(
        async () => logins.password(name, PASSWORD),
        (error: Error) => {
          said.add(error.message);
          return true;
        },
      );
    }
    assert.equal(checked.length, 4);
    assert.equal(said.size, 1);
    for (const [, hash] of checked) assert.equal(hash.slice(0, 31), HASH.slice(0, 31), 'the same cost');
  }));

test('beside an htpasswd file an unknown name costs what one of its users or an account would, always the same', () =>
  within(withAlice({}, { htpasswd: `bob:$2y$04$${'a'.repeat(53)}\n` }), async (room) => {
    await room.identities.countAccounts();
    const decoys = Array.from({ length: 200 }, (_, i) => room.identities.decoy(`nobody${i}`));
    const bcrypt = decoys.filter((hash) => hash.startsWith('$2y$')).length;
    assert.ok(bcrypt > 50 && bcrypt < 150, `${bcrypt} of 200`);
    assert.equal(room.identities.decoy('nobody1'), decoys[1]);
    const { logins } = counting(room, async () => true);
    for (let i = 0; i < 10; i++) await refused(() => logins.password(`nobody${i}`, 'x'));
  }));

test('two users racing never swap identities', () =>
  within(withAlice(), async (room) => {
    const names = ['a', 'ab', 'abc', 'alice'];
    for (const name of names.slice(0, 3)) await addAccount(room.database, { name, password: PASSWORD }, tools);
    room.identities.changed();
    // Pairs whose concatenation is the same, good for the one name only.
    const good: Readonly<Record<string, string>> = { a: 'bcdef', ab: 'cdef', abc: 'def', alice: 'x:y' };
    const { logins } = counting(room, async (password) => {
      await new Promise((resolve) => setImmediate(resolve));
      return Object.values(good).includes(password);
    });
    await Promise.all(
      Array.from({ length: 400 }, async (_, i) => {
        const name = names[i % names.length]!;
        const principal = await logins.authenticate(basic(name, good[name]!), PEER);
        assert.equal(principal.name, name);
      }),
    );
  }));

test('a change of the account ends its passwords and tokens: here at once, elsewhere within ten seconds', () =>
  within(withAlice(), async (room) => {
    const other = await room.another();
    const { token } = await room.tokens.issue((await room.identities.find('alice'))!, []);
    const both = [room, other];
    for (const one of both) {
      await one.authenticator.authenticate(bearer(token), PEER);
      await one.authenticator.authenticate(basic('alice', PASSWORD), PEER);
    }
    const refresh = await room.refreshTokens.issue((await room.identities.find('alice'))!, 'longshore', 'test');
    assert.ok(await other.refreshTokens.redeem(refresh, 'longshore'));
    await room.accounts.setDisabled('alice', true);
    await refused(() => room.authenticator.authenticate(bearer(token), PEER));
    await refused(() => room.authenticator.authenticate(basic('alice', PASSWORD), PEER));
    room.clock.move(10_000);
    await refused(() => other.authenticator.authenticate(bearer(token), PEER));
    await refused(() => other.authenticator.authenticate(basic('alice', PASSWORD), PEER));
    assert.equal(await other.refreshTokens.redeem(refresh, 'longshore'), undefined);

    await room.accounts.setDisabled('alice', false);
    await refused(() => room.authenticator.authenticate(bearer(token), PEER));
    assert.equal((await room.authenticator.authenticate(basic('alice', PASSWORD), PEER)).name, 'alice');
    await room.accounts.setPassword('alice', 'quite another');
    await refused(() => room.authenticator.authenticate(basic('alice', PASSWORD), PEER));
    assert.equal((await room.authenticator.authenticate(basic('alice', 'quite another'), PEER)).name, 'alice');
  }));

test('an account that changes while its password is hashed does not get in', () =>
  within(withAlice(), async (room) => {
    const { logins } = counting(room, async () => {
      await room.accounts.setDisabled('alice', true);
      return true;
    });
    await refused(() => logins.password('alice', PASSWORD));
  }));

test('an htpasswd line gets in until it goes; an account of the same name hides it, also when disabled', () =>
  within(openTestRoom({}, { htpasswd: `bob:${HASH}\nalice:${HASH}\n` }), async (room) => {
    const bob = await room.authenticator.authenticate(basic('bob', PASSWORD), PEER);
    assert.equal(bob.id, 'user:htpasswd:bob');
    const { token } = await room.tokens.issue((await room.identities.find('bob'))!, []);
    const refresh = await room.refreshTokens.issue((await room.identities.find('bob'))!, 'longshore', undefined);
    await room.authenticator.authenticate(bearer(token), PEER);
    assert.equal((await room.refreshTokens.redeem(refresh, 'longshore'))?.principal.id, bob.id);

    await addAccount(room.database, { name: 'alice', password: PASSWORD }, { hash: async () => dummyHash() });
    await setDisabled(room.database, 'alice', true);
    room.identities.changed();
    await refused(() => room.authenticator.authenticate(basic('alice', PASSWORD), PEER));

    await writeFile(join(room.folder, 'htpasswd'), `carol:${HASH}\n`);
    const deadline = Date.now() + 60_000;
    while ((await room.identities.find('carol')) === undefined && Date.now() < deadline) {
      room.clock.move(10_000);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await refused(() => room.authenticator.authenticate(basic('bob', PASSWORD), PEER));
    await refused(() => room.authenticator.authenticate(bearer(token), PEER));
    assert.equal(await room.refreshTokens.redeem(refresh, 'longshore'), undefined);
  }));

test('refresh tokens: stored hashed, for one service, as a password of <token>, and they expire', () =>
  within(withAlice(), async (room) => {
    const alice = (await room.identities.find('alice'))!;
    const token = await room.refreshTokens.issue(alice, 'longshore', 'docker');
    const rows = await room.database.query.all<Record<string, unknown>>('select * from refresh_token limit 9');
    assert.equal(rows.length, 1);
    assert.ok(!JSON.stringify(rows).includes(token));
    assert.ok(
      !Buffer.from(rows[0]!.hash as Uint8Array)
        .toString()
        .includes(token.slice(4, 12)),
    );
    for (const name of ['<token>', '00000000-0000-0000-0000-000000000000']) {
      assert.equal((await room.authenticator.authenticate(basic(name, token), PEER)).id, alice.principal.id);
      await refused(() => room.authenticator.authenticate(basic(name, `${token.slice(0, -1)}_`), PEER));
      await refused(() => room.authenticator.authenticate(basic(name, PASSWORD), PEER));
    }
    assert.equal(await room.refreshTokens.redeem(token, 'other'), undefined);
    assert.equal(await room.refreshTokens.redeem('', 'longshore'), undefined);
    room.clock.move(90 * 86_400_000);
    assert.equal(await room.refreshTokens.redeem(token, 'longshore'), undefined);
    await room.maintain();
    assert.equal((await room.database.query.all('select hash from refresh_token limit 9')).length, 0);
    const other = { principal: alice.principal, generation: alice.generation + 1 };
    const stale = await room.refreshTokens.issue(other, 'longshore', undefined);
    assert.equal(await room.refreshTokens.redeem(stale, 'longshore'), undefined);
  }));

test('a client certificate names an existing account, once, and nothing else', () =>
  within(withAlice(), async (room) => {
    const { logins } = counting(room);
    const by = (certificateSubject: string) => logins.authenticate({}, { ...PEER, certificateSubject });
    assert.equal((await by('C=DE\nO=Harbour\nCN=alice')).name, 'alice');
    for (const subject of ['CN=nobody', 'CN=ALICE', 'O=x, CN=alice', 'CN=alice\nCN=bob', 'OU=CN=alice', 'CN=*', '']) {
      assert.equal((await by(subject)).kind, 'anonymous', subject);
    }
    await room.accounts.setDisabled('alice', true);
    await refused(() => by('CN=alice'));
    await room.accounts.setDisabled('alice', false);
    await refused(() => logins.authenticate(basic('alice', 'wrong'), { ...PEER, certificateSubject: 'CN=alice' }));
    assert.equal(
      (await room.authenticator.authenticate({}, { ...PEER, certificateSubject: 'CN=alice' })).kind,
      'anonymous',
    );
    assert.equal(commonNameOf('CN=a=b'), 'a=b');
  }));

test('a database that fails is 503 for who has credentials, not a refusal and not a way in', () =>
  within(withAlice(), async (room) => {
    const broken = {
      ...room.identities,
      peek: () => undefined,
      find: async (): Promise<never> => {
        throw new (await import('../oci/error.ts')).FaultError('unavailable', 'The database is away.');
      },
    };
    const logins = authenticator({
      identities: broken,
      tokens: room.tokens,
      refreshTokens: room.refreshTokens,
      clock: room.clock,
      certificates: false,
      passwords: { verify: async () => true },
    });
    const { token } = await room.tokens.issue((await room.identities.find('alice'))!, []);
    for (const headers of [basic('alice', PASSWORD), bearer(token)]) {
      await assert.rejects(async () => logins.authenticate(headers, PEER), { code: 'UNAVAILABLE', status: 503 });
    }
  }));
