/**
 * Gives memory back when nothing happens: after the start, after each time of work, and again where jobs made the
 * process grow meanwhile. Only when no request is under way.
 */
import { every } from '../kit/clock.ts';
import { canGiveMemoryBack, giveMemoryBack } from '../kit/rest.ts';

/** How often it is looked, milliseconds; two looks without a request between them are quiet. */
const LOOK_EVERY = 2_000;
/** Growth since the last rest that is worth another. */
const GROWTH = 8 * 1024 * 1024;

/** `requests`: how many there were so far; `underWay`: how many there are. Gives the function that ends it. */
export function restWhenQuiet(parts: { readonly requests: () => number; readonly underWay: () => number }): () => void {
  if (!canGiveMemoryBack()) return () => undefined;
  let seen = -1;
  let rested = 0;
  return every(LOOK_EVERY, () => {
    const requests = parts.requests();
    if (requests !== seen || parts.underWay() > 0) {
      seen = requests;
      rested = 0;
      return;
    }
    if (rested > 0 && process.memoryUsage.rss() < rested + GROWTH) return;
    giveMemoryBack();
    rested = process.memoryUsage.rss();
  });
}
