/**
 * A server over a database that was put back to an older state by means of its own does not serve: it refuses to start,
 * and one that runs answers 503 until the database has been recovered or the newer one is there again.
 */
import type { Database } from './database/database.ts';
import { every } from './kit/clock.ts';
import { type Marker, OlderError, openMarker, refuseOlder } from './maintenance/recover-mark.ts';
import { refuseHalfRestored } from './maintenance/restore-mark.ts';
import type { Opening } from './opening.ts';
import type { BlobStorage } from './storage/storage.ts';

/** The database of a server, under watch. */
export interface WatchedDatabase {
  /** The same database; everything that is asked of it is refused while it is older than its storage. */
  readonly database: Database;
  readonly marker: Marker;
  /** Makes a last mark, where something has changed and storage answers. */
  close(): Promise<void>;
}

/** How often it is looked where the database stands, and how often at most a mark is made while it changes. Milliseconds. */
const LOOK = 5_000;
const MARK = 30_000;

/** What changes with what clients do; it need not grow. */
const ACTIVITY = `select c.tick, (select max(id) from tag_event) as tags, (select max(id) from manifest) as manifests,
   (select max(id) from outbox) as events from gc_clock c where c.id = 1`;

/** Refuses a database that is older than its storage (OlderError), and watches it from now on. `marks`: also makes marks; one process of a host does. */
export async function watchDatabase(
  base: Pick<Opening, 'clock' | 'log' | 'config'>,
  parts: { readonly database: Database; readonly storage: BlobStorage; readonly marks: boolean },
): Promise<WatchedDatabase> {
  const { clock, log } = base;
  const { database: inner, storage, marks } = parts;
  const marker = openMarker({ database: inner, storage, clock });
  if (marks) {
    await refuseHalfRestored(inner);
    await refuseOlder({ database: inner, storage });
  }
  let older: OlderError | undefined;
  /** What was there at the last mark, and when that was. */
  let [marked, markedAt] = ['', Number.NEGATIVE_INFINITY];
  let seenTick: number | undefined;

  const mark = async (isLast: boolean): Promise<void> => {
    const found = await inner.query.get<{ tick: number }>(ACTIVITY);
    const now = JSON.stringify(found);
    const isNewTick = seenTick !== found?.tick;
    if (older === undefined) {
      if (now === marked || !(isLast || isNewTick || clock.monotonic() - markedAt >= MARK)) return;
      // A process that makes no marks looks once a tick.
      if (!marks && !isNewTick) return;
    }
    try {
      await (marks && older === undefined ? marker.make() : marker.check());
      seenTick = found?.tick;
      [marked, markedAt] = [now, clock.monotonic()];
      if (older !== undefined) log.info('the database is no longer older than its storage: serving again');
      older = undefined;
    } catch (error) {
      if (!(error instanceof OlderError)) throw error;
      if (older === undefined)
        log.error(
          'the database is older than its storage: nothing is served until every server of it was stopped and "longshore recover" has run, or the newer database is there again',
          { error },
        );
      older = error;
    }
  };
  let working: Promise<void> | undefined;
  const work = (isLast = false): Promise<void> => {
    working ??= mark(isLast)
      .catch((error: Error) => log.warn('could not compare the database with its storage', { error }))
      .finally(() => {
        working = undefined;
      });
    return working;
  };
  const stop = every(Math.min(LOOK, base.config.gc.tick), () => void work());
  // Nobody waits for the first mark: what deletes bytes sees to one of its own.
  if (marks) void work();

  const refuse = <A extends readonly unknown[], R>(ask: (...args: A) => Promise<R>) => {
    return (...args: A): Promise<R> => (older === undefined ? ask(...args) : Promise.reject(older));
  };
  const { hot, query } = inner;
  const database: Database = {
    ...inner,
    get read() {
      if (older !== undefined) throw older;
      return inner.read;
    },
    hot: {
      manifestByTag: refuse(hot.manifestByTag),
      manifestByDigest: refuse(hot.manifestByDigest),
      blobByLink: refuse(hot.blobByLink),
      uploadById: refuse(hot.uploadById),
    },
    query: {
      all: (text, ...values) => (older === undefined ? query.all(text, ...values) : Promise.reject(older)),
      get: (text, ...values) => (older === undefined ? query.get(text, ...values) : Promise.reject(older)),
    },
    run: (command, args, options) => (older === undefined ? inner.run(command, args, options) : Promise.reject(older)),
    ping: refuse(inner.ping),
  };
  return {
    database,
    marker,
    async close() {
      stop();
      await working;
      if (marks && older === undefined) await work(true);
    },
  };
}
