/** Empty tables in a PostgreSQL database: the old ones move to a schema of their own, all in one transaction. */
import { FaultError } from '../../oci/error.ts';
import { migrate } from '../migrate.ts';
import { type Afresh, type Before, RESTORE_MARK, SET_MARK, tablesOf } from '../restore-mark.ts';
import type { LeaseTable } from '../schema.ts';
import { MIGRATION_LOCK } from './locks.ts';
import { connectSingle, type Single } from './single.ts';

/** See `startAfresh`. FaultError `unavailable` where servers are connected. */
export async function postgresAfresh(url: string, afresh: Afresh): Promise<Before> {
  const single = await connectSingle(url, 'longshore-restore');
  const { ask, statements } = single;
  try {
    await ask('begin isolation level read committed');
    await ask('set local lock_timeout = 0');
    await ask('set local statement_timeout = 0');
    // A server that starts now waits here, and meets the mark.
    await ask('select pg_advisory_xact_lock($1)', MIGRATION_LOCK);
    await refuseWhileServed(single);
    const before = await putAside(single, afresh);
    await migrate(
      {
        dialect: 'postgres',
        keepCopy: async () => undefined,
        transaction: (work) => work(statements, async (text) => void (await ask(text))),
      },
      afresh.migrations.slice(0, afresh.schema),
      afresh.now,
    );
    await statements.run(SET_MARK, afresh.mark);
    await ask('commit');
    return before;
  } finally {
    await single.close();
  }
}

/** FaultError `unavailable` where anybody else of Longshore is connected. */
export async function refuseWhileServed({ ask }: Single): Promise<void> {
  const [row] = await ask<{ sessions: number }>(
    `select count(*) as sessions from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and application_name like 'longshore%'`,
  );
  if ((row?.sessions ?? 0) === 0) return;
  throw new FaultError(
    'unavailable',
    `The database is in use: ${row?.sessions} connections of Longshore are open. Stop every server (and every backup) on it, then run this again.`,
  );
}

async function putAside({ ask }: Single, { migrations, now }: Afresh): Promise<Before> {
  const there = await ask<{ name: string }>(
    `select relname as name from pg_class
     where relkind = 'r' and relnamespace = current_schema()::regnamespace and relname = any(string_to_array($1, ','))`,
    tablesOf(migrations).join(','),
  );
  const names = new Set(there.map(({ name }) => name));
  if (!names.has('installation') || !names.has('lease') || !names.has('repository') || !names.has('gc_clock'))
    return { kept: undefined, epoch: undefined, tick: undefined, leases: [] };
  const [state] = await ask<{ epoch: number; tick: number; marked: number; used: number }>(
    `select i.epoch, c.tick, (select count(*) from lease where name = '${RESTORE_MARK}') as marked,
       (select count(*) from (select 1 from repository limit 1) r) + (select count(*) from (select 1 from account limit 1) a) as used
     from installation i, gc_clock c where i.id = 1 and c.id = 1`,
  );
  const leases = await ask<LeaseTable>("select * from lease where kind = 'backup' limit 100");
  const before = { kept: undefined, epoch: state?.epoch, tick: state?.tick, leases };
  const quoted = [...names].map((name) => `"${name}"`);
  if (state?.marked === 1 || state?.used === 0) {
    await ask(`drop table ${quoted.join(', ')} cascade`);
    return before;
  }
  const kept = `longshore_before_${new Date(now).toISOString().replaceAll(/[-:.]/g, '').toLowerCase()}`;
  await ask(`create schema "${kept}"`);
  for (const name of quoted) await ask(`alter table ${name} set schema "${kept}"`);
  return { ...before, kept: `the schema ${kept}` };
}
