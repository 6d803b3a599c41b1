/** The scrub's commands for the command line: asked of the server that has the data folder, else done on it. */
import { type Ask, askOf, askOrOpen } from './asking.ts';
import type { Configuration } from './configuration.ts';
import type { ScrubResults } from './scrubbing.ts';

/** See `askOrOpen`. */
export function withScrub<T>(config: Configuration, work: (ask: Ask<ScrubResults>) => Promise<T>): Promise<T> {
  return askOrOpen<ScrubResults, T>(config, 'scrub.status', work, async (here) => {
    const [{ scrubbingFrom, scrubCommands }, { onFolder }] = await Promise.all([
      import('./scrubbing.ts'),
      import('./opening.ts'),
    ]);
    return onFolder(config, async (parts) => {
      const scrubbing = scrubbingFrom(config, parts);
      try {
        return await here(askOf(scrubCommands({ ...parts, scrubbing })));
      } finally {
        await scrubbing.close();
      }
    });
  });
}
