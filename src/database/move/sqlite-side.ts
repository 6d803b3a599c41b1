/** A data folder as one side of a move: taken like a server takes it, so that none runs on it meanwhile. */
import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import type { AppliedMigration, Migration } from '../migrate.ts';
import { filesOf } from '../open.ts';
import { Connection } from '../sqlite/connection.ts';
import { migrateSqlite } from '../sqlite/migrate.ts';
import { takeFolder } from '../sqlite/owner.ts';
import { type MovedRow, type MoveSide, pageText, quoted, type TableShape } from './move.ts';

/** Takes the folder and brings its files to the newest schema. FaultError `unavailable` where a server has it. */
export async function sqliteSide(
  folder: string,
  parts: { readonly migrations: readonly Migration[]; readonly now: number; readonly log: Log },
): Promise<MoveSide> {
  const owner = takeFolder(folder);
  let connection: Connection;
  try {
    const files = filesOf(folder);
    await migrateSqlite(files, 'full', parts.migrations, parts.now);
    connection = new Connection({ ...files, readOnly: false, durability: 'full', cacheKib: 16 * 1024 });
    connection.db.exec('begin immediate');
  } catch (error) {
    owner.release();
    throw error;
  }
  const { db } = connection;
  const rows = (text: string, ...values: readonly unknown[]): MovedRow[] => connection.all<MovedRow>(text, values);
  const names = (): { name: string; schema: string }[] =>
    (rows("select name, schema from pragma_table_list where type = 'table'") as { name: string; schema: string }[])
      .filter(({ name, schema }) => !name.startsWith('sqlite_') && (schema === 'main' || schema === 'side'))
      .map(({ name, schema }) => ({ name, schema }));
  return {
    kind: 'SQLite',
    migrations: async () => plain<AppliedMigration>(rows('select number, name from migration order by number')),
    tables: async () =>
      names().map(({ name, schema }): TableShape => {
        const info = rows('select name, pk from pragma_table_info(?, ?)', name, schema) as {
          name: string;
          pk: number;
        }[];
        const keys = rows('select distinct "table" as other from pragma_foreign_key_list(?, ?)', name, schema);
        return {
          name,
          columns: info.map((column) => column.name),
          primaryKey: info
            .filter(({ pk }) => pk > 0)
            .sort((a, b) => a.pk - b.pk)
            .map((column) => column.name),
          references: (keys as { other: string }[]).map(({ other }) => other),
        };
      }),
    count: async (table) => Number(rows(`select count(*) as n from ${quoted(table)}`)[0]?.n),
    page: async (table, after, limit) =>
      rows(
        pageText(table, after !== undefined, limit, () => '?'),
        ...(after ?? []),
      ),
    async insert(table, inserted) {
      const columns = table.columns.map(quoted).join(', ');
      const text = `insert into ${quoted(table.name)} (${columns}) values (${table.columns.map(() => '?').join(', ')})`;
      for (const row of inserted)
        connection.run(
          text,
          table.columns.map((column) => row[column]),
        );
    },
    async clear(table) {
      db.exec(`delete from ${quoted(table)}`);
    },
    async sequences() {
      const found = rows('select name, seq from main.sqlite_sequence') as { name: string; seq: number }[];
      return new Map(found.map(({ name, seq }) => [name, seq]));
    },
    async setSequence(table, value) {
      if (connection.run('update main.sqlite_sequence set seq = ? where name = ?', [value, table]) > 0) return;
      connection.run('insert into main.sqlite_sequence (name, seq) values (?, ?)', [table, value]);
    },
    async commit() {
      const broken = rows('select "table" as name from pragma_foreign_key_check limit 1')[0];
      if (broken !== undefined) throw new FaultError('corrupt', `A foreign key of "${broken.name}" does not hold.`);
      db.exec('commit');
    },
    async close() {
      if (db.isOpen && db.isTransaction) db.exec('rollback');
      connection.close();
      owner.release();
    },
  };
}

function plain<Row>(rows: readonly MovedRow[]): Row[] {
  return rows.map((row) => ({ ...row }) as Row);
}
