/** `Store` over storage and database: everything that an installation holds itself. */
import type { Database } from '../database/database.ts';
import { type Clock, every } from '../kit/clock.ts';
import { type HashThreads, hashThreads } from '../kit/hash-threads.ts';
import { randomId, uuidv7 } from '../kit/id.ts';
import type { Log } from '../kit/log.ts';
import { asRegistryError } from '../oci/error.ts';
import type { BlobSources, Store } from '../registry/registry.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { localBlobs } from './blobs.ts';
import { tickForward, uploadKeyEnsure } from './commands/house-keeping.ts';
import { localDeleter } from './deleter.ts';
import { localLister } from './lister.ts';
import { localManifests } from './manifests.ts';
import { type LocalParts, newCaches, type Redirect, type Sparse } from './parts.ts';
import { localReader } from './reader.ts';
import { uploadIds } from './upload-id.ts';
import { localUploads } from './uploads.ts';

/** What it is made of. */
export interface LocalOptions {
  readonly storage: BlobStorage;
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly sparse: Sparse;
  /** Where storage can give addresses: who gets them. Absent: nobody. */
  readonly redirect?: Redirect | undefined;
  /** Milliseconds of one tick. */
  readonly tickMilliseconds: number;
  /** Whether this process moves the tick; false in all but one process of a host. */
  readonly movesTick: boolean;
  /** What stored bytes are hashed with on their way out; closed with the store. Absent: threads of its own. */
  readonly hashing?: HashThreads | undefined;
}

/** The store, and how it ends. */
export interface Local extends Store, BlobSources {
  /** Waits for what requests did not wait for. Storage and database stay open. */
  close(): Promise<void>;
}

/** How often a process looks where the tick stands. */
const TICK_CHECK = 5_000;

/** Opens the store over a storage and a migrated database. Throws FaultError where either does not answer. */
export async function openLocal(options: LocalOptions): Promise<Local> {
  const { database, storage, clock, log } = options;
  const key = await database.run(uploadKeyEnsure, { kid: uuidv7(clock.now()), secret: randomId(32) });
  const clockwork = await startTicks(options);
  const pending = new Set<Promise<unknown>>();
  const parts: LocalParts = {
    storage,
    database,
    clock,
    log,
    sparse: options.sparse,
    redirect: options.redirect,
    uploadIds: uploadIds(key),
    soleWriter: database.dataVersion() === undefined,
    ...newCaches(),
    hashing: options.hashing ?? hashThreads({ log }),
    tick: clockwork.tick,
    background(work, what) {
      const settled: Promise<unknown> = work.then(
        () => pending.delete(settled),
        (error: unknown) => {
          pending.delete(settled);
          log.warn(`could not ${what}`, { error: error instanceof Error ? error : new Error(String(error)) });
        },
      );
      pending.add(settled);
    },
  };
  const unsubscribe = database.onTouched((repositories) => {
    for (const repository of repositories) parts.tagCache.drop(repository);
  });
  const { listReferrers, listRepositories, listTags, sourcesOf } = localLister(parts);
  return {
    ...localReader(parts),
    ...translated({
      ...localBlobs(parts),
      ...localUploads(parts),
      ...localManifests(parts),
      ...localDeleter(parts),
      listReferrers,
      listRepositories,
      listTags,
      sourcesOf,
    }),
    async close() {
      clockwork.stop();
      unsubscribe();
      await Promise.all(pending);
      await parts.hashing.close();
    },
  };
}

/** Knows the tick, and moves it in the one process that does: once it has watched it stand for a whole tick on its own clock. */
async function startTicks({
  database,
  clock,
  log,
  tickMilliseconds,
  movesTick,
}: LocalOptions): Promise<{ tick: () => number; stop: () => void }> {
  const read = async (): Promise<number> =>
    (await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1'))?.tick ?? 1;
  let tick = await read();
  let since = clock.monotonic();
  let looking = false;
  const look = async (): Promise<void> => {
    const now = await read();
    if (now !== tick) since = clock.monotonic();
    tick = now;
    if (!movesTick || clock.monotonic() - since < tickMilliseconds) return;
    tick = await database.run(tickForward, { seen: tick }, { lane: 'job' });
    since = clock.monotonic();
  };
  const stop = every(Math.min(TICK_CHECK, tickMilliseconds), () => {
    if (looking) return;
    looking = true;
    look()
      .catch((error: unknown) =>
        log.warn('could not look at the tick', { error: error instanceof Error ? error : new Error(String(error)) }),
      )
      .finally(() => {
        looking = false;
      });
  });
  return { tick: () => tick, stop };
}

/** The same methods with every error translated to what crosses the seam. */
function translated<T extends object>(methods: T): T {
  const answer: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(methods) as [string, (...args: unknown[]) => unknown][]) {
    answer[name] = async (...args: unknown[]) => {
      try {
        return await method(...args);
      } catch (error) {
        throw asRegistryError(error);
      }
    };
  }
  return answer as T;
}
