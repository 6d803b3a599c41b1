import assert from 'node:assert/strict';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, describe, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import { addRepository, script, TEST_COMMANDS } from '../commands.testing.ts';
import { type Opened, openTestSqlite } from '../open.testing.ts';
import type { SqliteDatabase } from '../open.ts';
import { presentFiles } from './present.ts';
import { roomFor } from './room.ts';

const stops: (() => Promise<void>)[] = [];
after(async () => {
  for (const stop of stops) await stop();
});

async function open(): Promise<Opened<SqliteDatabase>> {
  const opened = await openTestSqlite({
    commands: TEST_COMMANDS,
    writer: new URL('../writer.testing.ts', import.meta.url),
  });
  stops.push(opened.stop);
  return opened;
}

const says = (message: RegExp) => (error: unknown) =>
  error instanceof FaultError && error.code === 'unavailable' && message.test(error.message);
const orphan = (key: string) => ({
  steps: [{ text: 'insert into orphan (key, seen_tick) values (?, 1)', values: [key] }],
});
const keys = async (database: SqliteDatabase): Promise<string[]> =>
  (await database.query.all<{ key: string }>('select key from orphan order by key')).map(({ key }) => key);

describe('a database that is away', () => {
  for (const name of ['longshore.db', 'side.db']) {
    test(`${name} moved away or replaced: changes are refused, reads go on; back: all goes on`, async () => {
      const { database, folder } = await open();
      await database.run(script, orphan('before'));
      assert.deepEqual(await keys(database), ['before']);
      const [file, aside] = [join(folder, name), join(folder, 'aside')];
      renameSync(file, aside);
      const gone = says(new RegExp(`${name} is gone`));
      // The first goes through the descriptor that is open and is found out after its commit, the second before it.
      await assert.rejects(database.run(script, orphan('first')), gone);
      await assert.rejects(database.run(script, orphan('second')), gone);
      await assert.rejects(database.ping(), gone);
      assert.equal((await keys(database)).includes('before'), true);
      writeFileSync(file, '');
      await assert.rejects(database.run(script, orphan('third')), says(/replaced/));
      await assert.rejects(database.ping(), says(/replaced/));
      rmSync(file);
      renameSync(aside, file);
      await database.ping();
      await database.run(script, orphan('then'));
      const left = await keys(database);
      assert.deepEqual(
        left.filter((key) => key !== 'first'),
        ['before', 'then'],
      );
    });
  }

  test('locked by another program: refused with its reason, soon where it is known, and again well without a restart', async () => {
    const { database, folder } = await open();
    await database.run(addRepository, { name: 'a/b' });
    const other = new DatabaseSync(join(folder, 'longshore.db'));
    other.exec('begin exclusive');
    await assert.rejects(database.run(script, orphan('first')), says(/locked/));
    await assert.rejects(database.run(script, orphan('second')), says(/locked/));
    await assert.rejects(database.ping(), says(/locked/));
    assert.deepEqual(await keys(database), []);
    other.exec('commit');
    other.close();
    await database.ping();
    await database.run(script, orphan('then'));
    assert.deepEqual(await keys(database), ['then']);
  });

  test('a ping writes, and touches nothing that caches look at', async () => {
    const { database, folder } = await open();
    await database.run(addRepository, { name: 'a/b' });
    const other = new DatabaseSync(join(folder, 'longshore.db'));
    const version = () => Number(other.prepare('pragma data_version').get()?.data_version);
    const before = version();
    for (let n = 0; n < 3; n++) await database.ping();
    assert.equal(version(), before);
    other.close();
  });

  test('a missing file is a fault; it is not made anew', () => {
    assert.throws(() => presentFiles({ path: '/nowhere/longshore.db', sidePath: '/nowhere/side.db' }), says(/is gone/));
  });
});

test('room: looked at four times a second at most, more often near the end, plenty where nobody can tell', () => {
  let time = 0;
  let looks = 0;
  let free = 600e6;
  let logs = 0;
  const room = roomFor(
    { path: '/x/longshore.db', sidePath: '/x/side.db' },
    () => time,
    () => {
      looks++;
      return { free, total: 640e6, logs };
    },
  );
  assert.equal(room(), 'plenty');
  free = 19e6;
  assert.equal(room(), 'plenty');
  assert.equal(looks, 1);
  time = 251;
  assert.equal(room(), 'none');
  assert.equal(looks, 2);
  time = 262;
  free = 30e6;
  assert.equal(room(), 'low');
  free = 60e6;
  time = 753;
  assert.equal(room(), 'plenty');
  // Emptying the logs may take as much as they hold.
  logs = 30e6;
  time = 1004;
  assert.equal(room(), 'low');
  assert.equal(looks, 5);
  const nowhere = { path: '/nowhere-at-all/longshore.db', sidePath: '/nowhere-at-all/side.db' };
  assert.equal(roomFor(nowhere, () => 0)(), 'plenty');
});
