import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, describe, test } from 'node:test';
import { MIGRATIONS } from '../migrations.ts';
import { FaultError } from '../oci/error.ts';
import { script, TEST_COMMANDS } from './commands.testing.ts';
import type { Database } from './database.ts';
import { BLOB_BY_LINK, MANIFEST_BY_DIGEST, MANIFEST_BY_TAG, UPLOAD_BY_ID } from './hot.ts';
import type { Migration } from './migrate.ts';
import { openTestPostgres, openTestSqlite, stopTestServer } from './open.testing.ts';
import { filesOf } from './open.ts';
import { postgresIsThere } from './postgres/server.testing.ts';

const options = { commands: TEST_COMMANDS, writer: new URL('./writer.testing.ts', import.meta.url) };
const extra: Migration = {
  number: MIGRATIONS.length + 1,
  name: 'extra',
  ddl: 'create table extra (id ID, name NAME! unique) T;',
  async fill(sql) {
    await sql.run('insert into extra (name) values (?)', 'first');
  },
};
const ALL = MIGRATIONS.map((migration) => migration.number);
const broken: Migration = {
  ...extra,
  name: 'broken',
  async fill(sql) {
    await sql.run('insert into extra (name) values (?)', 'first');
    await sql.run('insert into extra (name) values (?)', 'first');
  },
};
const folders: string[] = [];
const postgres = await postgresIsThere();

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-migrate-'));
  folders.push(folder);
  return folder;
}

after(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
  if (postgres) await stopTestServer();
});

const newer = (error: unknown): boolean => error instanceof FaultError && /newer than this program/.test(error.message);
const numbers = async (database: Database) =>
  (await database.query.all<{ number: number }>('select number from migration order by number')).map(
    (row) => row.number,
  );

/** Opens one database several times over, with different lists. */
function suite(name: string, start: () => Promise<(migrations: readonly Migration[]) => Promise<Database>>): void {
  describe(`migrations: ${name}`, () => {
    test('run once, in order, and a newer database is refused', async () => {
      const open = await start();
      const first = await open(MIGRATIONS);
      assert.deepEqual(await numbers(first), ALL);
      const installation = await first.query.get('select * from installation');
      await first.close();
      const second = await open([...MIGRATIONS, extra]);
      assert.deepEqual(await numbers(second), [...ALL, extra.number]);
      assert.deepEqual(await second.query.get('select * from installation'), installation);
      await second.close();
      await assert.rejects(open(MIGRATIONS), newer);
      const third = await open([...MIGRATIONS, extra]);
      assert.deepEqual(await numbers(third), [...ALL, extra.number]);
      await third.close();
      await assert.rejects(open([...MIGRATIONS, { ...extra, name: 'another' }]), /made by another program/);
    });

    test('one that fails changes nothing', async () => {
      const open = await start();
      await (await open(MIGRATIONS)).close();
      await assert.rejects(open([...MIGRATIONS, broken]), FaultError);
      const again = await open(MIGRATIONS);
      assert.deepEqual(await numbers(again), ALL);
      await assert.rejects(again.query.all('select * from extra'), FaultError);
      await again.close();
    });

    test('a list out of order is refused', async () => {
      const open = await start();
      await assert.rejects(open([extra]), /out of order/);
      await assert.rejects(open([...MIGRATIONS, { ...extra, name: MIGRATIONS[0]?.name ?? '' }]), /out of order/);
    });
  });
}

suite('sqlite', async () => {
  const folder = await newFolder();
  return async (migrations) => (await openTestSqlite({ ...options, folder, migrations })).database;
});
if (postgres) {
  suite('postgres', async () => {
    const { url, stop } = await openTestPostgres({ ...options, migrations: [] });
    await stop();
    return async (migrations) => (await openTestPostgres({ ...options, url, migrations })).database;
  });

  test('several servers that start at once migrate once', async () => {
    const { url, stop } = await openTestPostgres({ ...options, migrations: [] });
    await stop();
    const all = await Promise.all(
      Array.from({ length: 4 }, () => openTestPostgres({ ...options, url, migrations: [...MIGRATIONS, extra] })),
    );
    assert.deepEqual(await all[0]?.database.query.all('select name from extra'), [{ name: 'first' }]);
    for (const { stop } of all) await stop();
  });

  test('both databases have the same tables, columns and indexes', async () => {
    const [lite, pg] = [await openTestSqlite(options), await openTestPostgres(options)];
    type Column = { t: string; c: string };
    const columns = await pg.database.query.all<Column>(
      `select table_name as t, column_name as c from information_schema.columns where table_schema = 'public'
        order by table_name collate "C", ordinal_position`,
    );
    const tables = `select name from %s.sqlite_schema where type = 'table' and name not like 'sqlite_%%'`;
    const names = await lite.database.query.all<{ name: string }>(
      `${tables.replace('%s', 'main')} union ${tables.replace('%s', 'side')} order by name`.replaceAll('%%', '%'),
    );
    const liteColumns: Column[] = [];
    for (const { name } of names) {
      const rows = await lite.database.query.all<Column>(
        'select ? as t, name as c from pragma_table_info(?)',
        name,
        name,
      );
      liteColumns.push(...rows.map(({ t, c }) => ({ t, c })));
    }
    assert.equal(names.length, 29);
    assert.deepEqual(
      liteColumns,
      columns.map(({ t, c }) => ({ t, c })),
    );
    type Named = { name: string };
    const pgIndexes = await pg.database.query.all<Named>(
      `select indexname::text as name from pg_indexes where schemaname = 'public' and indexname not like '%_key'
        and indexname not like '%_pkey' union select 'job_key' order by 1`,
    );
    const liteIndexes = await lite.database.query.all<Named>(
      "select name from main.sqlite_schema where type = 'index' and name not like 'sqlite_%' order by name",
    );
    assert.deepEqual(
      liteIndexes.map(({ name }) => name),
      pgIndexes.map(({ name }) => name).sort(),
    );
    await lite.stop();
    await pg.stop();
  });
}

test('the SQLite files are copied before they change, not before they exist', async () => {
  const folder = await newFolder();
  const first = await openTestSqlite({ ...options, folder });
  await first.database.run(script, { steps: [{ text: "insert into orphan (key, seen_tick) values ('before', 1)" }] });
  await first.database.close();
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.includes('before')),
    [],
  );
  const second = await openTestSqlite({ ...options, folder, migrations: [...MIGRATIONS, extra] });
  await second.database.close();
  const copy = new DatabaseSync(`${filesOf(folder).path}.before-${extra.number}`, { readOnly: true });
  assert.deepEqual({ ...copy.prepare('select key from orphan').get() }, { key: 'before' });
  assert.equal(copy.prepare("select 1 from sqlite_schema where name = 'extra'").get(), undefined);
  copy.close();
  assert.ok(readdirSync(folder).includes(`side.db.before-${extra.number}`));
});

test('the look-ups of the request loop use indexes only', async () => {
  const { database, stop } = await openTestSqlite(options);
  for (const text of [MANIFEST_BY_TAG, MANIFEST_BY_DIGEST, BLOB_BY_LINK, UPLOAD_BY_ID]) {
    const count = text.split('?').length - 1;
    const plan = await database.query.all<{ detail: string }>(
      `explain query plan ${text}`,
      ...Array.from({ length: count }, () => ''),
    );
    assert.ok(plan.length >= 2);
    for (const { detail } of plan) assert.match(detail, /^SEARCH /, detail);
  }
  await stop();
});
