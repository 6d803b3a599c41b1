/**
 * A database never goes back under a server that runs: one that was restored to an older state, or exchanged for
 * another, would be answered from as if what it lacks had never been. Whoever exchanges it ends every connection, so
 * each new one is looked at before anything else is asked over it; behind a proxy that keeps connections, one is looked
 * at now and then. While the database stands lower than this process has seen it, no connection is to be had.
 */
import type { QueryConfig } from 'pg';
import { every } from '../../kit/clock.ts';
import { FaultError } from '../../oci/error.ts';
import { STORAGE_MARK } from '../standing.ts';
import { sqlState } from './faults.ts';
import type { Pool, Runner } from './pool.ts';

/** Looks that nothing goes back. */
export interface Forward {
  /** Looks at the database behind a connection. FaultError `unavailable` where it stands lower than before. */
  readonly admit: (runner: Runner) => Promise<void>;
  /** Looks now and then; gives how to end that. */
  watch(pool: Pool): () => void;
}

/** Every one of these only grows within an epoch; a sequence is never taken back, not even by a transaction that is. */
interface Seen {
  readonly uid: string;
  readonly epoch: number;
  readonly tick: number;
  readonly number: number;
  readonly sequence: number;
}

const LOOK: QueryConfig = {
  text: `select i.uid, i.epoch, c.tick,
     coalesce((select l.fence from lease l where l.name = '${STORAGE_MARK}'), 0) as number,
     coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'id')::regclass), 0) as sequence
   from installation i, gc_clock c where i.id = 1 and c.id = 1`,
};
const EVERY = 5_000;
const UNDEFINED_TABLE = '42P01';

/** Knows how far the database of this process has come. */
export function forwardOnly(): Forward {
  let seen: Seen | undefined;

  async function admit(runner: Runner): Promise<void> {
    // What was seen before this was asked must be seen again; what others see meanwhile need not.
    const before = seen;
    const found = await look(runner);
    if (before !== undefined && (found === undefined || isBehind(found, before))) {
      throw new FaultError(
        'unavailable',
        'The database is older than it was, or another one: it was restored or exchanged under this server, which waits. Stop every server of it and run "longshore recover", or put the newer database back.',
        { retryAfterSeconds: 2 },
      );
    }
    if (found !== undefined && (seen === undefined || !isBehind(found, seen))) seen = found;
  }

  return {
    admit,
    watch(pool) {
      let looking = false;
      const once = async (): Promise<void> => {
        const link = await pool.acquire('short');
        try {
          await admit(link);
        } catch (error) {
          if (error instanceof FaultError) pool.distrust(error);
        } finally {
          pool.release(link);
        }
      };
      return every(EVERY, () => {
        if (looking) return;
        looking = true;
        // That the server is away is told by everything else.
        void once()
          .catch(() => undefined)
          .finally(() => {
            looking = false;
          });
      });
    },
  };
}

/** Undefined where there are no tables yet. */
async function look(runner: Runner): Promise<Seen | undefined> {
  try {
    return (await runner.query(LOOK)).rows[0] as Seen | undefined;
  } catch (error) {
    if (sqlState(error) === UNDEFINED_TABLE) return undefined;
    throw error;
  }
}

function isBehind(one: Seen, other: Seen): boolean {
  // Another epoch is the end of a restore or a recovery, and begins its numbers anew.
  if (one.epoch !== other.epoch) return one.epoch < other.epoch;
  if (one.uid !== other.uid) return true;
  return one.tick < other.tick || one.number < other.number || one.sequence < other.sequence;
}
