/** The collector's commands for the command line: asked of the server that has the data folder, else done on it. */
import { type Ask, askOf, askOrOpen } from './asking.ts';
import type { GcResults } from './collecting.ts';
import type { Configuration } from './configuration.ts';

/** See `askOrOpen`. */
export function withGc<T>(config: Configuration, work: (ask: Ask<GcResults>) => Promise<T>): Promise<T> {
  return askOrOpen<GcResults, T>(config, 'gc.status', work, async (here) => {
    // Loaded only where it is needed: with a server running, this is a small program.
    const [{ collectorFrom, gcCommands }, { onFolder }] = await Promise.all([
      import('./collecting.ts'),
      import('./opening.ts'),
    ]);
    return onFolder(config, (parts) => here(askOf(gcCommands({ ...parts, collector: collectorFrom(config, parts) }))));
  });
}
