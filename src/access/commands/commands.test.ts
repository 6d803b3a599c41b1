import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { type Opened, openTestPostgres, openTestSqlite, stopTestServer } from '../../database/open.testing.ts';
import { postgresIsThere } from '../../database/postgres/server.testing.ts';
import { silentLog } from '../../kit/log.ts';
import { basic, bearer, handClock } from '../access.testing.ts';
import { addAccount, listAccounts, setDisabled, setPassword } from '../accounts.ts';
import { accessFrom } from '../open.ts';
import { dummyHash, hashPassword } from '../password-hash.ts';
import { openSigningKeys } from '../signing-keys.ts';
import { ACCESS_COMMANDS } from './list.ts';
import { MAX_REFRESH_TOKENS, refreshTokenAdd, refreshTokenExpire } from './refresh-token.ts';

const PEER = { address: '127.0.0.1' };

function onEach(name: string, open: () => Promise<Opened>): void {
  describe(`the commands of access on ${name}`, () => {
    test('accounts, refresh tokens and signing keys', async () => {
      const { database, stop } = await open();
      const clock = handClock();
      try {
        const two = await Promise.all([openSigningKeys(database, clock), openSigningKeys(database, clock)]);
        assert.ok(two.every((keys) => keys !== undefined));
        const room = await accessFrom({}, { database, loopback: true, log: silentLog, clock });
        try {
          assert.equal(room.anonymousMode(), 'push');
          const hash = await hashPassword('long enough');
          await addAccount(database, { name: 'alice', password: 'long enough' }, { hash: async () => hash });
          await assert.rejects(addAccount(database, { name: 'alice', password: 'long enough' }), { status: 409 });
          room.identities.changed();
          const alice = await room.authenticator.authenticate(basic('alice', 'long enough'), PEER);
          const identity = (await room.identities.find('alice'))!;
          const { token } = await room.tokens.issue(identity, []);
          assert.equal((await room.authenticator.authenticate(bearer(token), PEER)).id, alice.id);
          const refresh = await room.refreshTokens.issue(identity, 'longshore', 'test');
          assert.equal((await room.refreshTokens.redeem(refresh, 'longshore'))?.principal.id, alice.id);

          await setPassword(database, 'alice', 'another one', { hash: async () => dummyHash() });
          await setDisabled(database, 'alice', true);
          room.identities.changed();
          assert.equal((await room.identities.find('alice'))!.generation, 3);
          assert.equal(await room.refreshTokens.redeem(refresh, 'longshore'), undefined);
          await assert.rejects(setDisabled(database, 'nobody', true), { code: 'NAME_UNKNOWN' });
          assert.deepEqual(
            (await listAccounts(database)).map(({ name, disabled }) => [name, disabled]),
            [['alice', true]],
          );

          for (let i = 0; i < MAX_REFRESH_TOKENS + 2; i++) {
            const made = {
              hash: new Uint8Array(32).fill(i),
              subject: 'user:x',
              generation: 1,
              service: 's',
              client: null,
            };
            await database.run(refreshTokenAdd, { ...made, lifetime: i < 3 ? -1 : 60_000 });
          }
          const left = await database.query.all('select hash from refresh_token limit 999');
          assert.ok(left.length <= MAX_REFRESH_TOKENS);
          assert.equal(await database.run(refreshTokenExpire, null), 0);

          assert.equal(await room.keys.rotateIfDue(clock.now()), false);
          clock.move(91 * 86_400_000);
          assert.equal(await room.keys.rotateIfDue(clock.now()), true);
          assert.equal(await room.keys.rotateIfDue(clock.now()), false);
          await room.maintain();
        } finally {
          await room.close();
        }
      } finally {
        await stop();
      }
    });
  });
}

const commands = ACCESS_COMMANDS;
onEach('SQLite', () => openTestSqlite({ commands, writer: new URL('../writer.testing.ts', import.meta.url) }));
if (await postgresIsThere()) {
  onEach('PostgreSQL', () => openTestPostgres({ commands }));
  after(stopTestServer);
}
