/** The scrub's commands for the command line: asked of the server that has the data folder, else done on it. */
import { resolve } from 'node:path';
import type { Configuration } from './configuration.ts';
import type { ScrubAsk, ScrubResults } from './scrubbing.ts';
import { AdminError, askAdmin } from './server/admin.ts';

/**
 * Works through the admin socket where a server runs, else takes the data folder and gives it back. With PostgreSQL it
 * works there, beside the servers that run. AdminError, FaultError.
 */
export async function withScrub<T>(config: Configuration, work: (ask: ScrubAsk) => Promise<T>): Promise<T> {
  const folder = resolve(config.data);
  if (config.database.url !== undefined) return onData(config, work);
  if ((await askAdmin(folder, 'scrub.status', undefined)) === undefined) return onData(config, work);
  return work(async (name, args) => {
    const asked = await askAdmin(folder, name, args);
    if (asked === undefined) throw new AdminError('The server has stopped meanwhile.');
    return asked.result as ScrubResults[typeof name];
  });
}

async function onData<T>(config: Configuration, work: (ask: ScrubAsk) => Promise<T>): Promise<T> {
  // Loaded only where it is needed: with a server running, this is a small program.
  const [{ scrubbingFrom, scrubCommands }, { onFolder }] = await Promise.all([
    import('./scrubbing.ts'),
    import('./opening.ts'),
  ]);
  return onFolder(config, async (parts) => {
    const scrubbing = scrubbingFrom(config, parts);
    const commands = scrubCommands({ ...parts, scrubbing });
    try {
      return await work((name, args) => commands[name](args) as Promise<ScrubResults[typeof name]>);
    } finally {
      await scrubbing.close();
    }
  });
}
