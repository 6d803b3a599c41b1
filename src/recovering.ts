/** Recovering a database that was put back to an older state, from its configuration: who opens what, and in which order. */
import { resolve } from 'node:path';
import type { Configuration } from './configuration.ts';
import { systemClock } from './kit/clock.ts';
import { type Log, noMetrics, silentLog } from './kit/log.ts';
import { type RecoverOptions, type RecoverResult, recover } from './maintenance/recover.ts';
import { type Opening, openDatabase, storageSettings } from './opening.ts';
import { checkSameStorage } from './same-storage.ts';
import { openStorage } from './storage/open.ts';

/** How far it is. */
export type RecoveringProgress = Parameters<RecoverOptions['onProgress']>[0];

/**
 * Recovers the configuration's database over its storage. No server may run on either: with SQLite the folder is taken,
 * with PostgreSQL it is refused while anybody of Longshore is connected. FaultError.
 */
export async function recoverInstallation(
  config: Configuration,
  options: Pick<RecoverOptions, 'merge' | 'signal' | 'onProgress'>,
  log: Log = silentLog,
): Promise<RecoverResult> {
  const base: Opening = { config, data: resolve(config.data), clock: systemClock, log, metrics: noMetrics };
  const { url } = config.database;
  if (url !== undefined) await (await import('./database/postgres/alone.ts')).refuseServedPostgres(url);
  const database = await openDatabase(base);
  try {
    const storage = await openStorage(storageSettings(base), base);
    try {
      await storage.ping();
      await checkSameStorage(database, storage);
      return await recover({ ...base, database, storage, ...options });
    } finally {
      await storage.close();
    }
  } finally {
    await database.close();
  }
}
