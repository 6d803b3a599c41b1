import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import type { RepositoryName } from '../../oci/names.ts';
import { addRepository, script, TEST_COMMANDS } from '../commands.testing.ts';
import type { Command, Database } from '../database.ts';
import { openTestPostgres, stopTestServer } from '../open.testing.ts';
import { postgresIsThere } from './server.testing.ts';

const fault = (code: string) => (error: unknown) => error instanceof FaultError && error.code === code;
let attempts = 0;

/** Locks two rows in the order given, with a pause between that lets another one do the same. */
const lockTwo: Command<{ first: string; second: string }, number> = {
  name: 'test-lock-two',
  async run({ sql }, { first, second }) {
    attempts++;
    await sql.run('update repository set shown = 1 where name = ?', first);
    await sql.get('select 1 as one from pg_sleep(0.1)');
    return { result: await sql.run('update repository set shown = 1 where name = ?', second), touched: [] };
  },
};

/** Goes on after a statement failed, which PostgreSQL does not allow. */
const swallow: Command<object, null> = {
  name: 'test-swallow',
  async run({ sql }) {
    await sql.run('insert into orphan (key, seen_tick) values (?, 1)', 'swallowed');
    await sql.run('insert into orphan (key, seen_tick) values (?, 1)', 'swallowed').catch(() => {});
    return { result: null, touched: [] };
  },
};

/** Its connection ends at the very COMMIT. */
const endAtCommit: Command<object, null> = {
  name: 'test-end-at-commit',
  async run({ sql }) {
    attempts++;
    await sql.run('insert into deadly (n) values (?)', 1);
    return { result: null, touched: ['p/a' as RepositoryName] };
  },
};

const hold: Command<object, null> = {
  name: 'test-hold',
  async run({ sql }) {
    await sql.get('select 1 as one from pg_sleep(0.2)');
    return { result: null, touched: [] };
  },
};

const commands = [...TEST_COMMANDS, lockTwo, swallow, endAtCommit, hold];

if (await postgresIsThere()) {
  describe('commands on PostgreSQL', () => {
    let db: Database;
    let stop: () => Promise<void>;
    let url: string;
    before(async () => {
      ({ database: db, stop, url } = await openTestPostgres({ commands }));
      await db.run(addRepository, { name: 'p/a' });
      await db.run(addRepository, { name: 'p/b' });
    });
    after(async () => {
      await stop();
      await stopTestServer();
    });

    test('a deadlock is run again', async () => {
      attempts = 0;
      const ends = await Promise.all([
        db.run(lockTwo, { first: 'p/a', second: 'p/b' }),
        db.run(lockTwo, { first: 'p/b', second: 'p/a' }),
      ]);
      assert.deepEqual(ends, [1, 1]);
      assert.ok(attempts >= 3, `${attempts} attempts`);
    });

    test('an error that a command swallows is a bug, and nothing is stored', async () => {
      await assert.rejects(db.run(swallow, {}), fault('bug'));
      assert.equal(await db.query.get("select 1 as one from orphan where key = 'swallowed'"), undefined);
    });

    test('a COMMIT without an answer is unavailable, told to caches, and not run again', async () => {
      await db.run(script, {
        steps: [
          { text: 'create table deadly (n bigint)' },
          {
            text: `create function deadly() returns trigger language plpgsql as '
              begin perform pg_terminate_backend(pg_backend_pid()); return new; end'`,
          },
          {
            text: `create constraint trigger deadly after insert on deadly deferrable initially deferred
              for each row execute function deadly()`,
          },
        ],
      });
      attempts = 0;
      const touched: string[] = [];
      const off = db.onTouched((names) => touched.push(...names));
      await assert.rejects(
        db.run(endAtCommit, {}),
        (error) => fault('unavailable')(error) && /may or may not/.test((error as Error).message),
      );
      off();
      assert.equal(attempts, 1);
      assert.deepEqual(touched, ['p/a']);
      await db.ping();
    });

    test('too many who wait are refused', async () => {
      const { database, stop } = await openTestPostgres({ commands, url, connections: 1, waiting: 2 } as never);
      const ends = await Promise.allSettled(Array.from({ length: 5 }, () => database.run(hold, {})));
      // The first may still count as waiting while its connection is handed to it.
      const done = ends.filter(({ status }) => status === 'fulfilled').length;
      assert.ok(done === 2 || done === 3, `${done} were done`);
      for (const end of ends) if (end.status === 'rejected') assert.ok(fault('full')(end.reason));
      await stop();
    });

    test('every look is a new one, as other servers commit too', () => {
      assert.notEqual(db.dataVersion(), db.dataVersion());
    });

    test('a server that is not there is unavailable, without its password', async () => {
      const dead = 'postgres://someone:verysecret@127.0.0.1:1/none';
      await assert.rejects(openTestPostgres({ commands, url: dead }), (error) => {
        assert.ok(fault('unavailable')(error));
        assert.doesNotMatch(`${(error as Error).stack} ${((error as Error).cause as Error).stack}`, /verysecret/);
        return true;
      });
    });
  });
}
