/** Loading a database from a backup's dump. Only while the restore's mark is set, so that no server sees it. */

import { raiseCounter, readTables } from '../../database/catalog.ts';
import type { Command, CommandContext, Value } from '../../database/database.ts';
import { RESTORE_MARK } from '../../database/restore-mark.ts';
import { FaultError } from '../../oci/error.ts';

/** Rows of one statement. */
const GROUP = 64;

/** Refuses where no restore is under way: these commands overwrite. */
async function checkMark({ sql }: CommandContext): Promise<void> {
  const mark = await sql.get(`select 1 as one from lease where name = '${RESTORE_MARK}'`);
  if (mark === undefined) throw new FaultError('bug', 'A restore went on in a database that is not being restored.');
}

/** Tables that no backup holds: what the new database has of its own, and what means nothing in another one. */
export const NOT_DUMPED: ReadonlySet<string> = new Set(['migration', 'lease', 'job_lease', 'orphan', 'upload']);

/** A name as the schema's own are. The dump gives it, and it becomes a part of a statement: checked right here too. */
function quoted(name: string): string {
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(name))
    throw new FaultError('corrupt', 'The backup names a table or column that is none.');
  return `"${name}"`;
}

/** Empties tables, those that name others first, so that the dump's rows are the only ones. */
export const restoreClear: Command<{ tables: readonly string[] }, null> = {
  name: 'restore-clear',
  async run(context, { tables }) {
    await checkMark(context);
    const { sql, dialect } = context;
    const shapes = await readTables(dialect, (text, ...values) => sql.all(text, ...values));
    const known = new Set(shapes.map(({ name }) => name));
    for (const table of tables) {
      if (!known.has(table) || NOT_DUMPED.has(table))
        throw new FaultError('corrupt', 'The backup has rows of a table that no backup has.');
      await sql.run(`delete from ${quoted(table)}`);
    }
    return { result: null, touched: [] };
  },
};

/** Some rows of one table. */
export interface LoadArgs {
  readonly table: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Value[])[];
}

/** Inserts them. */
export const restoreLoad: Command<LoadArgs, null> = {
  name: 'restore-load',
  async run(context, { table, columns, rows }) {
    await checkMark(context);
    const names = columns.map(quoted).join(', ');
    const one = `(${columns.map(() => '?').join(', ')})`;
    const insert = (count: number): string =>
      `insert into ${quoted(table)} (${names}) values ${Array.from({ length: count }, () => one).join(', ')}`;
    let at = 0;
    for (; at + GROUP <= rows.length; at += GROUP)
      await context.sql.run(insert(GROUP), ...rows.slice(at, at + GROUP).flat());
    for (; at < rows.length; at++) await context.sql.run(insert(1), ...rows[at]!);
    return { result: null, touched: [] };
  },
};

/** A table's counter goes on where the dump's stood. */
export const restoreCounter: Command<{ table: string; column: string; value: number }, null> = {
  name: 'restore-counter',
  async run(context, { table, column, value }) {
    await checkMark(context);
    await raiseCounter(context, table, column, value);
    return { result: null, touched: [] };
  },
};

/** A lease of a backup that was running when the restore began. `ticks`: how long it still had. */
export interface WantedLease {
  readonly name: string;
  readonly owner: string;
  readonly ticks: number;
}

/**
 * The new epoch, one that this storage has not seen: whoever still works for the former database stops when it reads
 * it. Backups that were running keep every byte until their leases run out.
 */
export const restoreEpoch: Command<{ atLeast: number; leases: readonly WantedLease[] }, number> = {
  name: 'restore-epoch',
  async run(context, { atLeast, leases }) {
    await checkMark(context);
    const { sql, tick, now } = context;
    const row = await sql.get<{ epoch: number }>('select epoch from installation where id = 1');
    const epoch = Math.max((row?.epoch ?? 0) + 1, atLeast, Math.floor(now / 1000));
    await sql.run('update installation set epoch = ? where id = 1', epoch);
    for (const { name, owner, ticks } of leases) {
      await sql.run(
        `insert into lease (name, kind, owner, fence, since_tick, due_tick) values (?, 'backup', ?, 0, 0, ?)
         on conflict (name) do nothing`,
        name,
        owner,
        tick + ticks,
      );
    }
    return { result: epoch, touched: [] };
  },
};

/** The restore has ended: servers may serve it. */
export const restoreEnd: Command<object, null> = {
  name: 'restore-end',
  async run({ sql }) {
    await sql.run(`delete from lease where name = '${RESTORE_MARK}'`);
    return { result: null, touched: [] };
  },
};
