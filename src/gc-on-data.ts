/** The collector's commands for the command line: asked of the server that has the data folder, else done on it. */
import { resolve } from 'node:path';
import type { GcAsk, GcResults } from './collecting.ts';
import type { Configuration } from './configuration.ts';
import { AdminError, askAdmin } from './server/admin.ts';

/** Works through the admin socket where a server runs, else takes the data folder and gives it back. AdminError, FaultError. */
export async function withGc<T>(config: Configuration, work: (ask: GcAsk) => Promise<T>): Promise<T> {
  const folder = resolve(config.data);
  if ((await askAdmin(folder, 'gc.status', undefined)) === undefined) return onFolder(config, work);
  return work(async (name, args) => {
    const asked = await askAdmin(folder, name, args);
    if (asked === undefined) throw new AdminError('The server has stopped meanwhile.');
    return asked.result as GcResults[typeof name];
  });
}

async function onFolder<T>(config: Configuration, work: (ask: GcAsk) => Promise<T>): Promise<T> {
  // Loaded only where it is needed: with a server running, this is a small program.
  const [{ collectorFrom, gcCommands }, { databaseOptions, storageSettings }] = await Promise.all([
    import('./collecting.ts'),
    import('./compose.ts'),
  ]);
  const [{ openSqlite }, { openStorage }] = await Promise.all([
    import('./database/open.ts'),
    import('./storage/open.ts'),
  ]);
  const { systemClock } = await import('./kit/clock.ts');
  const { noMetrics, silentLog } = await import('./kit/log.ts');
  const base = { config, data: resolve(config.data), clock: systemClock, log: silentLog, metrics: noMetrics };
  const database = await openSqlite(databaseOptions(base));
  try {
    const storage = await openStorage(storageSettings(base), base);
    try {
      const parts = { ...base, database, storage };
      const commands = gcCommands({ ...parts, collector: collectorFrom(config, parts) });
      return await work((name, args) => commands[name](args) as Promise<GcResults[typeof name]>);
    } finally {
      await storage.close();
    }
  } finally {
    await database.close();
  }
}
