/** The mark of a restore that has not ended: nothing serves such a database. */

import type { Database } from '../database/database.ts';
import { RESTORE_MARK } from '../database/restore-mark.ts';
import { FaultError } from '../oci/error.ts';

/** FaultError `unavailable`, which says what to do, where a restore was broken off. */
export async function refuseHalfRestored({ query }: Pick<Database, 'query'>): Promise<void> {
  const mark = await query.get<{ owner: string }>(`select owner from lease where name = '${RESTORE_MARK}'`);
  if (mark === undefined) return;
  throw new FaultError(
    'unavailable',
    `The restore of the backup ${mark.owner} has not ended, so nothing is served. Run \`longshore restore\` again, with this backup or another one: it begins anew and loses nothing.`,
  );
}
