/** What a start looks at: whether a rebuild of the database has ended, and whether the database belongs to the storage. */
import type { Database } from '../database/database.ts';
import type { Log } from '../kit/log.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { REINDEX } from './commands/reindex-state.ts';
import { MIRROR_PREFIX, repositoryOfTable } from './mirror-format.ts';

/** Refuses a database of which a rebuild has not ended: what it does not have yet would be answered 404, and collected. FaultError. */
export async function refuseHalfRebuilt({ query }: Pick<Database, 'query'>): Promise<void> {
  if ((await query.get(`select name from lease where name = '${REINDEX}'`)) === undefined) return;
  throw new FaultError(
    'unavailable',
    'This database is being rebuilt from storage and is not whole: run "longshore reindex" again until it has ended.',
  );
}

/** Says it where storage has repositories and the database never had any: in a while all that storage has would be collected. */
export async function warnOfStranger(parts: {
  readonly database: Pick<Database, 'query'>;
  readonly storage: BlobStorage;
  readonly log: Log;
}): Promise<void> {
  if ((await parts.database.query.get('select id from repository limit 1')) !== undefined) return;
  for await (const record of parts.storage.records.list(MIRROR_PREFIX)) {
    if (typeof repositoryOfTable(record) !== 'string') continue;
    parts.log.error(
      'the database is empty, but storage holds repositories: stop this server and run "longshore reindex" before anything is pushed; otherwise what storage holds is collected as if nobody wanted it',
    );
    return;
  }
}
