/**
 * Requests that move many bytes have long limits, since lines are slow. Where the store as a whole does not answer any
 * more they are given up as early as a small one: while one runs and nothing was answered for a moment, a small request
 * is made, shared by all of them. Whatever is answered meanwhile, to any of them, shows that the store is there.
 */
import { after } from '../../kit/clock.ts';
import { singleFlight } from '../../kit/single-flight.ts';
import { REQUEST_MILLISECONDS, StoreAway, timed } from './faults.ts';

/** The store is asked when nothing was answered for so long. */
export const QUIET_MILLISECONDS = 100;
/** A little before small requests end by themselves: who waits for what those hold ends before them, not after. */
export const AWAY_MILLISECONDS = REQUEST_MILLISECONDS - 100;
/** For what waits for others who wait for the store: however long it takes. Its end is no answer of the store. */
export const ANY_MILLISECONDS = 86_400_000;

/** Runs work as `timed` does, and ends it early, with StoreAway, where the store is away. */
export type Vigil = <T>(milliseconds: number, doing: string, work: (signal: AbortSignal) => Promise<T>) => Promise<T>;

/**
 * A vigil over a store. `ask`: something small; whatever it is answered with, an error too, shows that the store is
 * there. Where nothing is answered, work ends `limit` milliseconds after it began, or, where the store goes away under
 * it, at most `quiet` more after the last answer. What has no more than `small` is not watched.
 */
export function vigil(
  ask: (signal: AbortSignal) => Promise<unknown>,
  { quiet = QUIET_MILLISECONDS, limit = AWAY_MILLISECONDS, small = REQUEST_MILLISECONDS } = {},
): Vigil {
  const shared = singleFlight<boolean>();
  let answers = 0;
  const isThere = (): Promise<boolean> =>
    shared('', async () => {
      const before = answers;
      const asked = timed(limit - quiet, 'answer', async (signal) => {
        await ask(signal).catch(() => undefined);
        if (!signal.aborted) answers++;
      });
      await asked.catch(() => undefined);
      return answers !== before;
    });
  return async (milliseconds, doing, work) => {
    // It ends as soon by itself.
    if (milliseconds <= small) return timed(milliseconds, doing, work);
    const away = new AbortController();
    let seen = answers;
    let ended = false;
    const look = (): void => {
      if (answers !== seen) {
        lookLater();
        return;
      }
      void isThere().then((there) => {
        if (ended) return;
        if (there) lookLater();
        else away.abort('it does not answer any more');
      });
    };
    const lookLater = (): void => {
      seen = answers;
      cancel = after(quiet, look);
    };
    let cancel = after(quiet, look);
    try {
      const result = await timed(milliseconds, doing, work, away.signal);
      if (milliseconds < ANY_MILLISECONDS) answers++;
      return result;
    } catch (error) {
      throw away.signal.aborted && error instanceof Error ? new StoreAway(error.message) : error;
    } finally {
      ended = true;
      cancel();
    }
  };
}
