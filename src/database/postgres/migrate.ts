/** Migrating PostgreSQL, one server at a time: the others wait for the advisory lock and find it done. */

import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import { type Migration, migrate } from '../migrate.ts';
import { postgresFault } from './faults.ts';
import { executeOn, type Pool, statementsOn } from './pool.ts';

/** Any number that no other program's advisory locks use in this database. */
const LOCK = 7_235_421_106;
const OLDEST_SERVER = 150_000;

/**
 * Checks that the server is one that Longshore works with, and brings the database to the end of the list. Backups
 * before an upgrade are the operator's here.
 */
export async function migratePostgres(
  pool: Pool,
  migrations: readonly Migration[],
  now: number,
  log: Log,
): Promise<number> {
  await checkServer(pool, log);
  return migrate(
    {
      dialect: 'postgres',
      keepCopy: async () => {},
      async transaction(work) {
        const link = await pool.acquire('endless');
        let broken = false;
        try {
          await link.query({ text: 'begin isolation level read committed' });
          await link.query({ text: 'set local lock_timeout = 0; set local statement_timeout = 0' });
          await link.query({ text: 'set local idle_in_transaction_session_timeout = 0' });
          await link.query({ text: 'select pg_advisory_xact_lock($1)', values: [LOCK] });
          await work(statementsOn(link), async (text) => void (await executeOn(link)(text, [])));
          await link.query({ text: 'commit' });
        } catch (error) {
          await link.query({ text: 'rollback' }).catch(() => {
            broken = true;
          });
          throw postgresFault(error);
        } finally {
          pool.release(link, broken);
        }
      },
    },
    migrations,
    now,
  );
}

interface Settings {
  readonly version: string;
  readonly encoding: string;
  readonly commit: string;
  readonly fsync: string;
}

async function checkServer(pool: Pool, log: Log): Promise<void> {
  const settings = await pool.statements.get<Settings>(
    `select current_setting('server_version_num') as version, current_setting('server_encoding') as encoding,
      current_setting('synchronous_commit') as commit, current_setting('fsync') as fsync`,
  );
  if (settings === undefined) throw new FaultError('unavailable', 'PostgreSQL does not tell its settings.');
  if (Number(settings.version) < OLDEST_SERVER) {
    throw new FaultError('unavailable', `PostgreSQL ${settings.version} is too old: Longshore needs 15 or newer.`);
  }
  if (settings.encoding !== 'UTF8') {
    throw new FaultError('unavailable', `The database's encoding is ${settings.encoding}: Longshore needs UTF8.`);
  }
  if (settings.commit === 'off' || settings.fsync === 'off') {
    log.warn('PostgreSQL may lose what it acknowledged: turn synchronous_commit and fsync on', {
      synchronous_commit: settings.commit,
      fsync: settings.fsync,
    });
  }
}
