import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { basic, handClock, openTestDatabase, openTestRoom } from './access.testing.ts';
import { addAccount, listAccounts, setDisabled, setPassword } from './accounts.ts';
import { MAX_REFRESH_TOKENS, refreshTokenAdd } from './commands/refresh-token.ts';
import { hashPassword, verifyPassword } from './password-hash.ts';

const clock = handClock();
const { database, close } = await openTestDatabase(clock);
after(close);
// One hash for all that is not about hashing.
const once = await hashPassword('long enough');
const tools = { hash: async () => once };

interface Row {
  readonly password_hash: string;
  readonly generation: number;
  readonly disabled: number;
}
const rowOf = (name: string): Promise<Row | undefined> =>
  database.query.get<Row>('select password_hash, generation, disabled from account where name = ?', name);

test('an account is added once, with its hash only', async () => {
  await addAccount(database, { name: 'alice', password: 'pässwörd:1' });
  const row = (await rowOf('alice'))!;
  assert.ok(await verifyPassword('pässwörd:1', row.password_hash));
  assert.doesNotMatch(row.password_hash, /pässwörd/);
  await assert.rejects(addAccount(database, { name: 'alice', password: 'another one' }, tools), {
    code: 'DENIED',
    status: 409,
  });
  assert.deepEqual(await rowOf('alice'), row);
});

test('names and passwords are checked, with an error that says how', async () => {
  for (const name of [
    '',
    'A',
    '-a',
    '.a',
    'a b',
    'a/b',
    'a:b',
    '*',
    'ü',
    'a'.repeat(65),
    "a'; drop table account; --",
    'a\n',
  ]) {
    await assert.rejects(
      addAccount(database, { name, password: 'long enough' }, tools),
      { code: 'NAME_INVALID' },
      name,
    );
  }
  for (const password of ['', '1234567', '🔑🔑🔑🔑', 'a'.repeat(1025)]) {
    await assert.rejects(addAccount(database, { name: 'valid', password }, tools), { status: 400 });
    await assert.rejects(setPassword(database, 'alice', password, tools), { status: 400 });
  }
  await addAccount(database, { name: `0.a_b-${'c'.repeat(58)}`, password: '🔑🔑🔑🔑🔑🔑🔑🔑' }, tools);
});

test('every change raises the generation and drops refresh tokens; none changes nothing', async () => {
  await addAccount(database, { name: 'bob', password: 'long enough' }, tools);
  assert.equal((await rowOf('bob'))!.generation, 1);
  const { uid } = (await database.query.get<{ uid: string }>('select uid from account where name = ?', 'bob'))!;
  const tokens = async (): Promise<number> =>
    (await database.query.all('select hash from refresh_token where subject = ? limit 9', `user:${uid}`)).length;
  const token = { subject: `user:${uid}`, generation: 1, service: 's', client: null, lifetime: 1000 };
  await database.run(refreshTokenAdd, { ...token, hash: new Uint8Array(32).fill(200) });
  assert.equal(await tokens(), 1);
  await setPassword(database, 'bob', 'another one', tools);
  assert.equal((await rowOf('bob'))!.generation, 2);
  assert.equal(await tokens(), 0);
  await database.run(refreshTokenAdd, { ...token, hash: new Uint8Array(32).fill(201) });
  await setDisabled(database, 'bob', true);
  await setDisabled(database, 'bob', true);
  assert.deepEqual({ ...(await rowOf('bob'))! }, { password_hash: once, generation: 3, disabled: 1 });
  assert.equal(await tokens(), 0);
  await setDisabled(database, 'bob', false);
  assert.equal((await rowOf('bob'))!.generation, 4);
  await assert.rejects(setDisabled(database, 'nobody', true), { code: 'NAME_UNKNOWN' });
  await assert.rejects(setPassword(database, 'nobody', 'long enough', tools), { code: 'NAME_UNKNOWN' });
});

test('the list is in pages and shows no hash', async () => {
  const all = await listAccounts(database);
  assert.deepEqual(
    all.map((one) => one.name),
    [...all.map((one) => one.name)].sort(),
  );
  assert.deepEqual(Object.keys(all[0]!).sort(), ['createdAt', 'disabled', 'name']);
  const first = await listAccounts(database, { limit: 1 });
  assert.deepEqual(await listAccounts(database, { after: first[0]!.name }), all.slice(1));
  assert.equal((await listAccounts(database, { limit: -5 })).length, 1);
});

test('an account keeps a bounded number of refresh tokens, the newest', async () => {
  for (let i = 0; i < MAX_REFRESH_TOKENS + 5; i++) {
    const hash = new Uint8Array(32);
    new DataView(hash.buffer).setUint32(0, i);
    await database.run(refreshTokenAdd, {
      hash,
      subject: 'user:x',
      generation: 1,
      service: 's',
      client: null,
      lifetime: 1000 + i,
    });
  }
  const row = await database.query.get<{ n: number }>(
    'select count(*) as n from refresh_token where subject = ?',
    'user:x',
  );
  assert.equal(row!.n, MAX_REFRESH_TOKENS);
});

test('the first account closes the open laptop at once here, and within a second elsewhere', async () => {
  const room = await openTestRoom();
  try {
    const other = await room.another();
    assert.equal(room.anonymousMode(), 'push');
    await room.accounts.add({ name: 'alice', password: 'long enough' });
    assert.equal(room.anonymousMode(), 'none');
    const deadline = Date.now() + 60_000;
    while (other.anonymousMode() !== 'none' && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(other.anonymousMode(), 'none');
    assert.deepEqual(
      (await room.accounts.list()).map((one) => one.name),
      ['alice'],
    );
    const principal = await room.authenticator.authenticate(basic('alice', 'long enough'), { address: '' });
    assert.equal(principal.name, 'alice');
  } finally {
    await room.close();
  }
});

test('the mode without a word in the configuration, and with one', async () => {
  const modeOf = async (...asked: Parameters<typeof openTestRoom>): Promise<string> => {
    const room = await openTestRoom(...asked);
    try {
      return room.anonymousMode();
    } finally {
      await room.close();
    }
  };
  assert.equal(await modeOf({}, { loopback: true }), 'push');
  assert.equal(await modeOf({}, { loopback: false }), 'none');
  assert.equal(await modeOf({}, { loopback: true, htpasswd: '# nobody' }), 'push');
  assert.equal(await modeOf({}, { loopback: true, htpasswd: `alice:${once}` }), 'none');
  assert.equal(await modeOf({ anonymous: 'pull' }, { loopback: false }), 'pull');
  assert.equal(await modeOf({ anonymous: 'none' }, { loopback: true }), 'none');
  assert.equal(await modeOf({ anonymous: 'push' }, { loopback: false, htpasswd: `alice:${once}` }), 'push');
});
