/** A database that is exchanged for an older state under an open one, or put back in its place: nothing of it is answered. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { FaultError } from '../../oci/error.ts';
import { TEST_COMMANDS } from '../commands.testing.ts';
import type { Command, Database } from '../database.ts';
import { openTestPostgres, stopTestServer } from '../open.testing.ts';
import { postgresIsThere } from './server.testing.ts';

const tell: Command<{ text: string }, undefined> = {
  name: 'test-tell',
  async run(context, { text }) {
    await context.outbox('test', 0, { text });
    return { result: undefined, touched: [] };
  },
};
const passTick: Command<object, undefined> = {
  name: 'test-pass-tick',
  async run({ sql }) {
    await sql.run('update gc_clock set tick = tick + 1 where id = 1');
    return { result: undefined, touched: [] };
  },
};
const look: Command<object, number> = {
  name: 'test-look',
  async run({ tick }) {
    return { result: tick, touched: [] };
  },
};
const commands = [...TEST_COMMANDS, tell, passTick, look];
const unavailable = (error: unknown): boolean => error instanceof FaultError && error.code === 'unavailable';
const EVENTS = 'select count(*) as count from outbox';

/** One whose tables are there as it opens, so that it is known from the start. */
async function opened() {
  const { url, stop } = await openTestPostgres({ commands });
  await stop();
  return openTestPostgres({ commands, url });
}

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return client;
}

/** Puts the database `other` in the place of `name`, which is called `aside` then. Nobody is connected to either at that moment. */
async function exchange(admin: Client, name: string, aside: string, other: string): Promise<void> {
  for (const one of [name, other]) {
    await admin.query(`alter database ${one} allow_connections false`);
    await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [one]);
  }
  await admin.query(`alter database ${name} rename to ${aside}`);
  await admin.query(`alter database ${other} rename to ${name}`);
  for (const one of [aside, name]) await admin.query(`alter database ${one} allow_connections true`);
}

/** Asked over and over, it answers `right` once it answers. */
async function comesBack(database: Database, right: number): Promise<void> {
  for (let tried = 0; tried < 400; tried++) {
    const row = await database.query.get<{ count: number }>(EVENTS).catch(() => undefined);
    if (row !== undefined) return assert.equal(row.count, right);
    await sleep(50);
  }
  assert.fail('it does not come back');
}

if (await postgresIsThere()) {
  after(stopTestServer);

  for (const [what, one, events] of [
    ['an event', (database: Database) => database.run(tell, { text: 'new' }), 2],
    // Whatever is done next meets it.
    ['a tick', (database: Database) => database.run(passTick, {}).then(() => database.run(look, {})), 1],
  ] as const) {
    test(`exchanged right behind ${what}: not one answer comes from the older one`, async () => {
      const first = await openTestPostgres({ commands });
      await first.database.run(tell, { text: 'old' });
      await first.stop();
      const name = first.url.replace(/.*\//, '');
      const admin = await connect(first.url.replace(/[^/]*$/, 'postgres'));
      await admin.query(`create database ${name}_copy template ${name}`);
      const { database, stop } = await openTestPostgres({ commands, url: first.url });
      try {
        // What is opened has seen no more than the copy has, and nothing but its own changes tells it of more.
        await one(database);
        await exchange(admin, name, `${name}_newer`, `${name}_copy`);
        const all = [1, 2, 3, 4].flatMap(() => [database.query.get(EVENTS), database.run(look, {})]);
        await Promise.all(all.map((one) => assert.rejects(one as Promise<unknown>, unavailable)));
        await exchange(admin, name, `${name}_copy`, `${name}_newer`);
        await comesBack(database, events);
      } finally {
        await stop();
        await admin.end();
      }
    });
  }

  test('put back in its place, connections and all: a change finds it, and is not made', async () => {
    const { database, url, stop } = await opened();
    const other = await connect(url);
    try {
      await database.run(tell, { text: 'one' });
      const before = await other.query('select tick from gc_clock');
      await database.run(passTick, {});
      await database.run(look, {});
      await other.query('update gc_clock set tick = $1', [before.rows[0].tick]);
      await assert.rejects(database.run(look, {}), unavailable);
      await assert.rejects(database.query.get(EVENTS), unavailable);
      await other.query('update gc_clock set tick = tick + 1');
      await comesBack(database, 1);

      await database.run(tell, { text: 'two' });
      await other.query('delete from outbox where id = (select max(id) from outbox)');
      await other.query("select setval(pg_get_serial_sequence('outbox', 'id'), (select max(id) from outbox))");
      await assert.rejects(database.run(tell, { text: 'three' }), unavailable);
      assert.equal((await other.query(EVENTS)).rows[0].count, '1');
      // The number that was taken in vain is not above the one that was seen; the next one is.
      await other.query("select setval(pg_get_serial_sequence('outbox', 'id'), 100)");
      await comesBack(database, 1);
    } finally {
      await other.end();
      await stop();
    }
  });

  test('another epoch begins its numbers anew', async () => {
    const { database, url, stop } = await opened();
    const other = await connect(url);
    try {
      for (let count = 0; count < 3; count++) await database.run(passTick, {});
      await database.run(tell, { text: 'one' });
      await other.query('update installation set epoch = epoch + 1');
      await other.query('update gc_clock set tick = 1');
      await comesBack(database, 1);
      for (let tried = 0; ; tried++) {
        const tick = await database.run(look, {}).catch((error: unknown) => {
          if (!unavailable(error) || tried === 400) throw error;
        });
        if (tick !== undefined) break;
        await sleep(20);
      }
      await database.run(tell, { text: 'two' });
      assert.equal(await database.run(look, {}), 1);
    } finally {
      await other.end();
      await stop();
    }
  });
}
