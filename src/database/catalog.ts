/**
 * What tables a database has, asked of the database itself: a backup holds every table, also those of features that
 * came later. Both databases answer in the same words.
 */
import type { CommandContext, Value } from './database.ts';
import type { DialectName } from './dialect.ts';

/** A table, as far as its rows have to be read in pages and written again. */
export interface TableShape {
  readonly name: string;
  readonly columns: readonly string[];
  /** The primary key's columns, in its order. */
  readonly key: readonly string[];
  /** The column whose numbers the database gives, where there is one. */
  readonly counter: string | undefined;
}

/** Asks one statement, written in the dialect of the database. */
export type AskAll = <Row>(text: string, ...values: readonly Value[]) => Promise<Row[]>;

interface ColumnRow {
  readonly table_name: string;
  readonly column_name: string;
  readonly key_at: number;
  readonly counts: number;
}
interface ParentRow {
  readonly child: string;
  readonly parent: string;
}

const COLUMNS: Readonly<Record<DialectName, string>> = {
  sqlite: `select t.name as table_name, c.name as column_name, c.pk as key_at,
      case when c.pk > 0 and lower(t.sql) like '%autoincrement%' then 1 else 0 end as counts
    from (select name, sql, 'main' as place from main.sqlite_schema where type = 'table' and name not like 'sqlite%'
      union all select name, sql, 'side' from side.sqlite_schema where type = 'table' and name not like 'sqlite%') t
    join pragma_table_info(t.name, t.place) c order by t.name, c.cid`,
  postgres: `select c.table_name, c.column_name, coalesce(array_position(i.indkey::int2[], a.attnum), -1) + 1 as key_at,
      case when c.is_identity = 'YES' then 1 else 0 end as counts
    from information_schema.columns c
    join pg_class r on r.relname = c.table_name and r.relkind = 'r' and r.relnamespace = current_schema()::regnamespace
    join pg_attribute a on a.attrelid = r.oid and a.attname = c.column_name
    left join pg_index i on i.indrelid = r.oid and i.indisprimary
    where c.table_schema = current_schema() order by c.table_name, c.ordinal_position`,
};
const PARENTS: Readonly<Record<DialectName, string>> = {
  sqlite: `select t.name as child, f."table" as parent
    from main.sqlite_schema t join pragma_foreign_key_list(t.name) f where t.type = 'table'`,
  postgres: `select c.relname as child, p.relname as parent
    from pg_constraint f join pg_class c on c.oid = f.conrelid join pg_class p on p.oid = f.confrelid
    where f.contype = 'f' and c.relnamespace = current_schema()::regnamespace`,
};

/** Every table, each behind those that its foreign keys name. */
export async function readTables(dialect: DialectName, ask: AskAll): Promise<readonly TableShape[]> {
  const columns = await ask<ColumnRow>(COLUMNS[dialect]);
  const parents = await ask<ParentRow>(PARENTS[dialect]);
  const shapes = new Map<string, TableShape>();
  for (const { table_name: name } of columns) {
    if (shapes.has(name)) continue;
    const own = columns.filter((column) => column.table_name === name);
    const key = own.filter(({ key_at }) => key_at > 0).sort((a, b) => a.key_at - b.key_at);
    shapes.set(name, {
      name,
      columns: own.map(({ column_name }) => column_name),
      key: key.map(({ column_name }) => column_name),
      counter: own.find(({ counts }) => counts === 1)?.column_name,
    });
  }
  const ordered = new Map<string, TableShape>();
  const add = (name: string): void => {
    const shape = shapes.get(name);
    if (shape === undefined || ordered.has(name)) return;
    shapes.delete(name);
    for (const { child, parent } of parents) if (child === name && parent !== name) add(parent);
    ordered.set(name, shape);
  };
  for (const name of [...shapes.keys()]) add(name);
  return [...ordered.values()];
}

/** The highest number that a table's counter ever gave; 0 where none. */
export async function readCounter(dialect: DialectName, ask: AskAll, table: TableShape): Promise<number> {
  if (table.counter === undefined) return 0;
  if (dialect === 'sqlite') {
    const [row] = await ask<{ seq: number }>('select seq from sqlite_sequence where name = ?', table.name);
    return row?.seq ?? 0;
  }
  const [sequence] = await ask<{ name: string }>(
    'select pg_get_serial_sequence($1, $2) as name',
    table.name,
    table.counter,
  );
  const [row] = await ask<{ last: number; called: number }>(
    `select last_value as last, is_called as called from ${sequence?.name}`,
  );
  return row?.called === 1 ? row.last : 0;
}

/** Makes a table's counter go on behind `value` at least. */
export async function raiseCounter(
  { sql, dialect }: CommandContext,
  table: string,
  column: string,
  value: number,
): Promise<void> {
  if (dialect === 'postgres') {
    await sql.get('select setval(pg_get_serial_sequence(?, ?), ?) as last', table, column, value);
    return;
  }
  const changed = await sql.run('update sqlite_sequence set seq = max(seq, ?) where name = ?', value, table);
  if (changed === 0) await sql.run('insert into sqlite_sequence (name, seq) values (?, ?)', table, value);
}
