/**
 * Requests that move many bytes have long limits, since lines are slow. Where the store as a whole does not answer any
 * more they are given up much earlier: while one runs, a small request is made now and then, shared by all of them.
 */
import { after } from '../../kit/clock.ts';
import { singleFlight } from '../../kit/single-flight.ts';
import { REQUEST_MILLISECONDS, timed } from './faults.ts';

/** So long a request runs before the store is asked, and so long it is left alone after it answered. */
export const VIGIL_MILLISECONDS = 500;

/** Runs work as `timed` does, and ends it early where the store is away. */
export type Vigil = <T>(milliseconds: number, doing: string, work: (signal: AbortSignal) => Promise<T>) => Promise<T>;

/** A vigil over a store. `ask`: something small; whatever it is answered with, an error too, shows that the store is there. */
export function vigil(
  ask: (signal: AbortSignal) => Promise<unknown>,
  { wait = VIGIL_MILLISECONDS, limit = REQUEST_MILLISECONDS } = {},
): Vigil {
  const shared = singleFlight<boolean>();
  const answers = (): Promise<boolean> =>
    shared('', async () => {
      let answered = false;
      const asked = timed(limit, 'answer', (signal) =>
        ask(signal).then(
          () => void (answered = true),
          () => void (answered = true),
        ),
      );
      await asked.catch(() => undefined);
      return answered;
    });
  return async (milliseconds, doing, work) => {
    // What ends as soon by itself needs no watching.
    if (milliseconds <= limit) return timed(milliseconds, doing, work);
    const away = new AbortController();
    let ended = false;
    const look = (): void => {
      void answers().then((there) => {
        if (ended) return;
        if (there) cancel = after(wait, look);
        else away.abort('it does not answer any more');
      });
    };
    let cancel = after(wait, look);
    try {
      return await timed(milliseconds, doing, work, away.signal);
    } finally {
      ended = true;
      cancel();
    }
  };
}
