/** A PostgreSQL database as one side of a move: one transaction, and no server connected to it. */
import type { Clock } from '../../kit/clock.ts';
import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import type { AppliedMigration, Migration } from '../migrate.ts';
import { postgresFault } from '../postgres/faults.ts';
import { migratePostgres } from '../postgres/migrate.ts';
import { Pool } from '../postgres/pool.ts';
import { bind } from '../postgres/types.ts';
import { type MovedRow, type MoveSide, pageText, quoted, type TableShape } from './move.ts';

const SERVERS = `select count(*)::int8 as n from pg_stat_activity
  where datname = current_database() and application_name = 'longshore' and pid <> pg_backend_pid()`;
const TABLES = `select c.relname as name,
    (select string_agg(a.attname, ',' order by a.attnum) from pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    (select string_agg(a.attname, ',' order by k.place) from pg_index i
      cross join lateral unnest(i.indkey) with ordinality as k(attnum, place)
      join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
      where i.indrelid = c.oid and i.indisprimary) as keys,
    (select string_agg(distinct o.relname, ',') from pg_constraint f join pg_class o on o.oid = f.confrelid
      where f.conrelid = c.oid and f.contype = 'f') as others
  from pg_class c where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace order by c.relname`;
const NUMBERED = `select c.relname as name, a.attname as column_name,
    pg_get_serial_sequence(quote_ident(c.relname), a.attname) as sequence
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attidentity <> ''
  where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace`;

/** Connects, makes the tables where they are missing, and begins. FaultError `unavailable` where servers are connected. */
export async function postgresSide(
  url: string,
  parts: { readonly migrations: readonly Migration[]; readonly clock: Clock; readonly log: Log },
): Promise<MoveSide> {
  const { clock, log } = parts;
  const pool = new Pool({
    url,
    connections: 1,
    waiting: 1,
    clock,
    // A statement of a move may take long; it is given up only when the connection breaks.
    probe: async () => undefined,
    onBroken: () => undefined,
    onWell: () => undefined,
  });
  try {
    await migratePostgres(pool, parts.migrations, clock.now(), log);
    const link = await pool.acquire('endless');
    const rows = async (text: string, values: readonly unknown[] = []): Promise<MovedRow[]> => {
      try {
        return (await link.query({ text, values: values.map(bind) })).rows as MovedRow[];
      } catch (error) {
        throw postgresFault(error);
      }
    };
    const end = async (): Promise<void> => {
      pool.release(link, true);
      await pool.close();
    };
    try {
      await rows('begin isolation level repeatable read');
      await rows('set local statement_timeout = 0');
      await rows('set local idle_in_transaction_session_timeout = 0');
      if ((await rows(SERVERS))[0]?.n !== 0) {
        throw new FaultError('unavailable', 'Longshore servers are connected to the PostgreSQL database: stop them.');
      }
    } catch (error) {
      pool.release(link, true);
      throw error;
    }
    return sideOn(rows, end);
  } catch (error) {
    await pool.close();
    throw error;
  }
}

function sideOn(
  rows: (text: string, values?: readonly unknown[]) => Promise<MovedRow[]>,
  end: () => Promise<void>,
): MoveSide {
  const list = (text: unknown): string[] => (typeof text === 'string' && text !== '' ? text.split(',') : []);
  return {
    kind: 'PostgreSQL',
    migrations: async () =>
      (await rows('select number, name from migration order by number')) as unknown as AppliedMigration[],
    tables: async () =>
      (await rows(TABLES)).map(
        ({ name, columns, keys, others }): TableShape => ({
          name: String(name),
          columns: list(columns),
          primaryKey: list(keys),
          references: list(others),
        }),
      ),
    count: async (table) => Number((await rows(`select count(*) as n from ${quoted(table)}`))[0]?.n),
    page: (table, after, limit) =>
      rows(
        pageText(table, after !== undefined, limit, (index) => `$${index}`),
        after,
      ),
    async insert(table, inserted) {
      let count = 0;
      const values = inserted.map(() => `(${table.columns.map(() => `$${++count}`).join(', ')})`);
      const columns = table.columns.map(quoted).join(', ');
      const text = `insert into ${quoted(table.name)} (${columns}) values ${values.join(', ')}`;
      await rows(
        text,
        inserted.flatMap((row) => table.columns.map((column) => row[column])),
      );
    },
    async clear(table) {
      await rows(`delete from ${quoted(table)}`);
    },
    async sequences() {
      const found = new Map<string, number>();
      for (const { name, sequence } of await rows(NUMBERED)) {
        const [row] = await rows(`select case when is_called then last_value else 0 end as n from ${sequence}`);
        found.set(String(name), Number(row?.n));
      }
      return found;
    },
    async setSequence(table, value) {
      const numbered = (await rows(NUMBERED)).find(({ name }) => name === table);
      if (numbered === undefined) throw new FaultError('bug', `"${table}" does not number its rows on PostgreSQL.`);
      await rows('select setval($1::regclass, greatest($2::int8, 1), $2::int8 > 0) as n', [numbered.sequence, value]);
    },
    async commit() {
      await rows('commit');
      await rows('analyze');
    },
    close: end,
  };
}
