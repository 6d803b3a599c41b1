/** The marks of a restore and of a recovery that have not ended: nothing serves such a database. */

import type { Database } from '../database/database.ts';
import { RESTORE_MARK } from '../database/restore-mark.ts';
import { FaultError } from '../oci/error.ts';
import { RECOVER } from './commands/recover-state.ts';

/** FaultError `unavailable`, which says what to do, where a restore or a recovery was broken off. */
export async function refuseHalfRestored(database: Pick<Database, 'query'>): Promise<void> {
  await refuseMidRestore(database);
  const { query } = database;
  if ((await query.get(`select 1 as one from lease where name = '${RECOVER}'`)) === undefined) return;
  throw new FaultError(
    'unavailable',
    'The recovery of this database has not ended, so nothing is served. Run "longshore recover" again: it goes on and loses nothing.',
  );
}

/** The same for a restore alone. */
export async function refuseMidRestore({ query }: Pick<Database, 'query'>): Promise<void> {
  const mark = await query.get<{ owner: string }>(`select owner from lease where name = '${RESTORE_MARK}'`);
  if (mark === undefined) return;
  throw new FaultError(
    'unavailable',
    `The restore of the backup ${mark.owner} has not ended, so nothing is served. Run \`longshore restore\` again, with this backup or another one: it begins anew and loses nothing.`,
  );
}
