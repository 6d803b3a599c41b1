/** Waiting for a time or a call, whichever comes first; a call while nobody waits is remembered. */
import type { Clock } from '../kit/clock.ts';

/** One waiter at a time. */
export class Wake {
  readonly #clock: Clock;
  #called = false;
  #end: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the wait under way, or the next one before it begins. */
  readonly call = (): void => {
    this.#called = true;
    this.#end?.();
  };

  /** Waits at most so long. Never rejects. */
  async wait(milliseconds: number): Promise<void> {
    if (!this.#called) {
      const stop = new AbortController();
      const called = new Promise<void>((resolve) => {
        this.#end = resolve;
      });
      await Promise.race([called, this.#clock.sleep(milliseconds, stop.signal).catch(() => {})]);
      stop.abort();
      this.#end = undefined;
    }
    this.#called = false;
  }
}
