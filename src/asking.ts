/** Commands of the command line that a server may already have the data for: asked of it, else done here. */
import { resolve } from 'node:path';
import type { Configuration } from './configuration.ts';
import { AdminError, askAdmin } from './server/admin.ts';

/** Runs a command by its name. */
export type Ask<Results> = <Name extends keyof Results & string>(name: Name, args: unknown) => Promise<Results[Name]>;

/**
 * Works through the admin socket where a server has the data folder, else by `onData`, which opens it; with PostgreSQL
 * always there, beside the servers that run. `probe` changes nothing: by its answer it is seen whether a server is
 * there. AdminError, FaultError.
 */
export async function askOrOpen<Results, T>(
  config: Configuration,
  probe: keyof Results & string,
  work: (ask: Ask<Results>) => Promise<T>,
  onData: (work: (ask: Ask<Results>) => Promise<T>) => Promise<T>,
): Promise<T> {
  const folder = resolve(config.data);
  if (config.database.url !== undefined || (await askAdmin(folder, probe, undefined)) === undefined)
    return onData(work);
  return work(async (name, args) => {
    const asked = await askAdmin(folder, name, args);
    if (asked === undefined) throw new AdminError('The server has stopped meanwhile.');
    return asked.result as Results[typeof name];
  });
}

/** Commands by their names, as something that is asked. */
export function askOf<Results>(
  commands: {
    readonly [Name in keyof Results]: (args: unknown) => Promise<Results[Name]>;
  },
): Ask<Results> {
  return (name, args) => commands[name](args);
}
