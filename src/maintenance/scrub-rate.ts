/** How fast the scrub reads: a bucket of bytes that fills at a set rate, on the given clock. */
import type { Clock } from '../kit/clock.ts';

/** Waits for its turn. */
export interface RateLimit {
  /** Resolves when so many bytes may be read. Rejects with the signal's reason when aborted. */
  take(bytes: number, signal: AbortSignal): Promise<void>;
}

/** A bucket that holds half a second's worth. Whoever takes more than it holds waits for the rest afterwards. */
export function rateLimit(clock: Clock, bytesPerSecond: number): RateLimit {
  const most = bytesPerSecond / 2;
  let filled = most;
  let at = clock.monotonic();
  return {
    async take(bytes, signal) {
      signal.throwIfAborted();
      const now = clock.monotonic();
      filled = Math.min(most, filled + ((now - at) * bytesPerSecond) / 1000);
      at = now;
      filled -= bytes;
      if (filled < 0) await clock.sleep(Math.ceil((-filled * 1000) / bytesPerSecond), signal);
    },
  };
}
