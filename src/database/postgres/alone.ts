/** Whether anybody else of Longshore works on a PostgreSQL database, before it is marked as one that nobody may serve. */
import { refuseWhileServed } from './afresh.ts';
import { MIGRATION_LOCK } from './locks.ts';
import { connectSingle } from './single.ts';

/** FaultError `unavailable` where servers, or other commands, are connected. */
export async function refuseServedPostgres(url: string): Promise<void> {
  const single = await connectSingle(url, 'longshore-recover');
  try {
    await single.ask('begin');
    await single.ask('select pg_advisory_xact_lock($1)', MIGRATION_LOCK);
    await refuseWhileServed(single);
    await single.ask('commit');
  } finally {
    await single.close();
  }
}
