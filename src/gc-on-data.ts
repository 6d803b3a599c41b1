/** The collector's commands for the command line: asked of the server that has the data folder, else done on it. */
import { resolve } from 'node:path';
import type { GcAsk, GcResults } from './collecting.ts';
import type { Configuration } from './configuration.ts';
import { AdminError, askAdmin } from './server/admin.ts';

/**
 * Works through the admin socket where a server runs, else takes the data folder and gives it back; on PostgreSQL it
 * works beside the servers that run. AdminError, FaultError.
 */
export async function withGc<T>(config: Configuration, work: (ask: GcAsk) => Promise<T>): Promise<T> {
  const folder = resolve(config.data);
  if (config.database.url !== undefined) return onData(config, work);
  if ((await askAdmin(folder, 'gc.status', undefined)) === undefined) return onData(config, work);
  return work(async (name, args) => {
    const asked = await askAdmin(folder, name, args);
    if (asked === undefined) throw new AdminError('The server has stopped meanwhile.');
    return asked.result as GcResults[typeof name];
  });
}

async function onData<T>(config: Configuration, work: (ask: GcAsk) => Promise<T>): Promise<T> {
  // Loaded only where it is needed: with a server running, this is a small program.
  const [{ collectorFrom, gcCommands }, { onFolder }] = await Promise.all([
    import('./collecting.ts'),
    import('./opening.ts'),
  ]);
  return onFolder(config, (parts) => {
    const commands = gcCommands({ ...parts, collector: collectorFrom(config, parts) });
    return work((name, args) => commands[name](args) as Promise<GcResults[typeof name]>);
  });
}
