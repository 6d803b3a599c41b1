/**
 * A database never goes back under a server that runs: one that was restored to an older state, or exchanged for
 * another, would be answered from as if what it lacks had never been. Whoever exchanges it ends every connection, so
 * each new one is looked at before anything else is asked over it. While the database stands lower than this process
 * has seen it, no connection is to be had.
 *
 * That is as good as what this process has seen. A look at a connection that is made at the start sees the start only,
 * and an older state of a moment later would pass; so every transaction tells how far the database came with it: the
 * tick that it read as it began, and the number of the last event that it wrote, once it is committed. Both cost
 * nothing, for they come with answers that are needed anyway. Whatever was acknowledged here with an event (a manifest,
 * a tag, a deletion), and every tick that was met, is therefore known at once.
 *
 * Now and then one connection is looked at anyhow. This is how a process learns what others wrote, and how one that
 * only reads finds a state that was put back behind connections that stay (a proxy that keeps them, tables that are
 * replaced in their place): such a state may be read from for `EVERY` at most, and is never written to, for a
 * transaction that meets a lower tick or number than was known as it began is not committed.
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
  /** How far the database is known to have come. To be asked before a transaction begins, and handed to the others. */
  readonly known: () => Known;
  /** What a transaction met that began when `before` was known. FaultError `unavailable` where that is lower; no connection is used any more then, and each new one is looked at. */
  readonly meet: (before: Known, met: { readonly tick?: number; readonly sequence?: number }) => void;
  /** How far the database came with a transaction that is committed and began when `before` was known. */
  readonly came: (before: Known, to: { readonly tick: number; readonly sequence: number }) => void;
  /** Looks now and then; gives how to end that. */
  watch(pool: Pool): () => void;
}

/** How far the database is known to have come; undefined where nothing is known. */
export type Known = Pick<Seen, 'uid' | 'epoch' | 'tick' | 'sequence'> | undefined;

/** Every one of these only grows within an epoch; the number of an event is never taken back, not even by a transaction that is. */
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
/** Milliseconds between looks. */
const EVERY = 5_000;
/**
 * A sequence is read as it stands, also where what took its last numbers is not committed yet: a crash of PostgreSQL may
 * take those back that it has not logged, 32 at most and the one that begins the next group. That is no older state.
 */
const UNSURE = 33;
const UNDEFINED_TABLE = '42P01';

/** Knows how far the database of this process has come. `distrust`: ends every connection. */
export function forwardOnly(distrust: (why: FaultError) => void): Forward {
  let seen: Seen | undefined;

  async function admit(runner: Runner): Promise<void> {
    // What was seen before this was asked must be seen again; what others see meanwhile need not.
    const before = seen;
    const found = await look(runner);
    if (before !== undefined && (found === undefined || isBehind(found, before))) throw wentBack();
    if (found === undefined || (seen !== undefined && isBehind(found, seen))) return;
    const least = seen?.epoch === found.epoch ? seen.sequence : 0;
    seen = { ...found, sequence: Math.max(least, found.sequence - UNSURE) };
  }

  async function lookOver(pool: Pool): Promise<void> {
    const link = await pool.acquire('short');
    try {
      await admit(link);
    } catch (error) {
      if (error instanceof FaultError) distrust(error);
    } finally {
      pool.release(link);
    }
  }

  return {
    admit,
    known: () => seen,
    meet(before, { tick, sequence }) {
      if (before === undefined) return;
      // A number is taken behind what was known, so it is above it.
      const isLower = (tick ?? before.tick) < before.tick || (sequence ?? before.sequence + 1) <= before.sequence;
      if (!isLower) return;
      // Perhaps another epoch has begun, or this is an old connection of a proxy: who looks at the new ones will see.
      const why = wentBack();
      distrust(why);
      throw why;
    },
    came(before, { tick, sequence }) {
      // Numbers of another epoch say nothing.
      if (seen === undefined || before === undefined || seen.epoch !== before.epoch || seen.uid !== before.uid) return;
      if (tick <= seen.tick && sequence <= seen.sequence) return;
      seen = { ...seen, tick: Math.max(seen.tick, tick), sequence: Math.max(seen.sequence, sequence) };
    },
    watch(pool) {
      let looking = false;
      return every(EVERY, () => {
        if (looking) return;
        looking = true;
        // That the server is away is told by everything else.
        void lookOver(pool)
          .catch(() => undefined)
          .finally(() => {
            looking = false;
          });
      });
    },
  };
}

function wentBack(): FaultError {
  return new FaultError(
    'unavailable',
    'The database is older than it was, or another one: it was restored or exchanged under this server, which waits. Stop every server of it and run "longshore recover", or put the newer database back.',
    { retryAfterSeconds: 2 },
  );
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
