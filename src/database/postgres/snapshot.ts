/** A snapshot of PostgreSQL: one read-only transaction of REPEATABLE READ on a connection of its own. */
import { readCounter, readTables } from '../catalog.ts';
import type { Snapshot } from '../snapshot.ts';
import { connectSingle } from './single.ts';

/** Begins the transaction. */
export async function postgresSnapshot(url: string): Promise<Snapshot> {
  const single = await connectSingle(url, 'longshore-backup');
  const { ask, statements } = single;
  try {
    await ask('set statement_timeout = 0');
    await ask('set idle_in_transaction_session_timeout = 0');
    await ask('begin isolation level repeatable read read only');
    const [last] = await ask<{ number: number }>('select max(number) as number from migration');
    const tables = await readTables('postgres', ask);
    return {
      dialect: 'postgres',
      tables,
      schema: last?.number ?? 0,
      all: statements.all,
      counter: (table) => readCounter('postgres', ask, table),
      close: () => single.close(),
    };
  } catch (error) {
    await single.close();
    throw error;
  }
}
