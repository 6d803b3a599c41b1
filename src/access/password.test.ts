import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { hash as bcryptHash } from 'bcryptjs';
import { startThread } from '../kit/thread.ts';
import { openPasswords } from './password.ts';
import { dummyHash, hashPassword, isSupportedHash, verifyPassword } from './password-hash.ts';

const passwords = openPasswords();
after(() => passwords.close());

test('argon2id: made and verified in the thread, and text of the PHC format', async () => {
  const hash = await passwords.hash('pässwörd:🔑');
  assert.match(hash, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
  assert.equal(await passwords.verify('pässwörd:🔑', hash), true);
  assert.equal(await passwords.verify('passwörd:🔑', hash), false);
  assert.equal(await passwords.verify('', hash), false);
  assert.notEqual(await passwords.hash('same'), await passwords.hash('same'));
});

test('a hash of the reference implementation verifies', async () => {
  // From the reference implementation's own tests (argon2id, v=19, m=256, t=2, p=1).
  const hash = '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4';
  assert.equal(await verifyPassword('password', hash), true);
  assert.equal(await verifyPassword('passwore', hash), false);
});

test('bcrypt of all three spellings verifies', async () => {
  const hash = await bcryptHash('secret', 4);
  for (const version of ['$2a$', '$2b$', '$2y$']) {
    assert.equal(await passwords.verify('secret', version + hash.slice(4)), true);
    assert.equal(await passwords.verify('Secret', version + hash.slice(4)), false);
  }
});

test('what costs too much, or is no hash, is not looked at', async () => {
  const good = await hashPassword('secret!!');
  const bad = [
    '',
    'secret',
    '$apr1$x$y',
    '{SHA}abc',
    '$2y$31$......................................................',
    `$2y$15$${'a'.repeat(53)}`,
    `$2x$04$${'a'.repeat(53)}`,
    good.replace('m=19456', 'm=999999'),
    good.replace('t=2', 't=999'),
    good.replace('p=1', 'p=99'),
    good.replace('m=19456', 'm=0'),
    good.replace('argon2id', 'argon2d'),
    good.replace('v=19', 'v=16'),
    `${good}\n`,
  ];
  for (const text of bad) {
    assert.equal(isSupportedHash(text), false, text);
    assert.equal(await verifyPassword('secret!!', text), false);
  }
  assert.ok(isSupportedHash(dummyHash()));
});

test('a password over 1 KiB is refused without work', async () => {
  const hash = await hashPassword('a'.repeat(1024));
  assert.equal(await passwords.verify('a'.repeat(1024), hash), true);
  assert.equal(await passwords.verify('a'.repeat(1025), hash), false);
  assert.equal(passwords.load().running, 0);
});

test('at most so many at once, so many wait, and the rest is told to come again', async () => {
  const few = openPasswords({ atOnce: 2, queue: 3 });
  try {
    const hash = dummyHash();
    const first = Array.from({ length: 5 }, (_, i) => few.verify(`wrong ${i}`, hash));
    assert.deepEqual(few.load(), { running: 2, waiting: 3 });
    await assert.rejects(few.verify('one more', hash), { code: 'TOOMANYREQUESTS', status: 429, retryAfterSeconds: 2 });
    assert.deepEqual(await Promise.all(first), [false, false, false, false, false]);
    assert.deepEqual(few.load(), { running: 0, waiting: 0 });
    assert.equal(await few.verify('again', hash), false);
  } finally {
    await few.close();
  }
});

test('a thread that dies fails what it had and is started again', async () => {
  const started: ReturnType<typeof startThread>[] = [];
  const fragile = openPasswords({
    start: () => {
      const thread = startThread('passwords', undefined);
      started.push(thread);
      return thread;
    },
  });
  try {
    const hash = await hashPassword('secret!!');
    const lost = assert.rejects(fragile.verify('secret!!', hash), { code: 'UNAVAILABLE' });
    await once(started[0]!, 'online');
    await started[0]!.terminate();
    await lost;
    assert.equal(await fragile.verify('secret!!', hash), true);
    assert.equal(started.length, 2);
  } finally {
    await fragile.close();
  }
  await assert.rejects(fragile.verify('x', dummyHash()), { code: 'UNAVAILABLE' });
});
