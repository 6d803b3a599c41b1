/**
 * Gives memory back when nothing happens: after the start, and after each time of work, garbage is collected once and
 * the free heap returned to the system. Some 30 ms of pause, only when no request is under way.
 */
import { every } from '../kit/clock.ts';
import { native } from '../kit/ffi.ts';

/** How often it is looked, milliseconds; two looks without a request between them are quiet. */
const LOOK_EVERY = 2_000;

/** The function that Node has under --expose-gc, as bin/longshore starts it. */
type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/** `requests`: how many there were so far; `underWay`: how many there are. Gives the function that ends it. */
export function restWhenQuiet(parts: { readonly requests: () => number; readonly underWay: () => number }): () => void {
  const collect = (globalThis as { gc?: Collect }).gc;
  if (collect === undefined) return () => undefined;
  let seen = -1;
  let rested = false;
  return every(LOOK_EVERY, () => {
    const requests = parts.requests();
    if (requests !== seen || parts.underWay() > 0) {
      seen = requests;
      rested = false;
      return;
    }
    if (rested) return;
    rested = true;
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    native().trimHeap?.();
  });
}
