/** Rebuilding a database from storage, and bringing storage up to it: for the command line and the admin socket. */
import { type Ask, askOf, askOrOpen } from './asking.ts';
import type { Configuration } from './configuration.ts';
import type { Database } from './database/database.ts';
import type { Log, Metrics } from './kit/log.ts';
import type { Drain, Drained, DrainPlace, Lag } from './maintenance/drain.ts';
import type { ReindexOptions } from './maintenance/reindex.ts';
import type { ReindexReport } from './maintenance/reindex-report.ts';
import type { AdminCommands } from './server/admin.ts';
import type { BlobStorage } from './storage/storage.ts';

/** Rebuilds the database of this configuration, which must be empty, from its storage. FaultError. */
export async function runReindex(
  config: Configuration,
  options: Omit<ReindexOptions, 'database' | 'storage' | 'clock'>,
  failpoint?: { readonly name: string; readonly count: number },
): Promise<ReindexReport> {
  const [{ onFolder, failpointOf }, { armFailpoints, killAt }, { reindex }] = await Promise.all([
    import('./opening.ts'),
    import('./kit/failpoint.ts'),
    import('./maintenance/reindex.ts'),
  ]);
  const armed = failpointOf(failpoint);
  if (armed !== undefined) armFailpoints(killAt(armed.name, armed.count));
  return onFolder(config, (parts) => reindex({ ...parts, ...options }), { halfRebuilt: true });
}

/** What each command of a drain takes and gives. */
export interface DrainResults {
  readonly 'drain.lag': Lag;
  readonly 'drain.step': Drained;
}

/** What is served on the admin socket, and done on a folder that no server has. */
export function drainCommands(parts: { database: Database; storage: BlobStorage; log: Log; metrics: Metrics }) {
  // Loaded and opened when first asked.
  let draining: Promise<Drain> | undefined;
  const drainer = (): Promise<Drain> => {
    draining ??= import('./maintenance/drain.ts').then(({ drain }) => drain(parts));
    return draining;
  };
  return {
    'drain.lag': async (): Promise<Lag> => (await drainer()).lag(),
    'drain.step': async (args: unknown): Promise<Drained> => {
      const place = placeFrom(args);
      return (await drainer()).step(place, new AbortController().signal);
    },
  } satisfies AdminCommands;
}

function placeFrom(args: unknown): DrainPlace {
  const { stage, after } = (args ?? {}) as { stage?: unknown; after?: unknown };
  if (stage !== 'spill' && stage !== 'mirror' && stage !== 'strays')
    throw Object.assign(new Error('There is no such stage of a drain.'), { status: 400 });
  return typeof after === 'string' && after.length <= 255 ? { stage, after } : { stage };
}

/** See `askOrOpen`. */
export function withDrain<T>(config: Configuration, work: (ask: Ask<DrainResults>) => Promise<T>): Promise<T> {
  return askOrOpen<DrainResults, T>(config, 'drain.lag', work, async (here) => {
    const { onFolder } = await import('./opening.ts');
    return onFolder(config, (parts) => here(askOf(drainCommands(parts))));
  });
}
