/** Time, as an argument: the only file that asks the machine for it. All times are integer milliseconds. */
import { setTimeout as sleepFor } from 'node:timers/promises';

/** What tells the time. Tests give their own. */
export interface Clock {
  /** Wall time, milliseconds since 1970. For display and retention only: it may jump. */
  now(): number;
  /** Milliseconds that only grow, from an arbitrary start. */
  monotonic(): number;
  /** Waits; ends early, rejecting with the signal's reason, when aborted. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. A sleep does not keep the process alive by itself. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (milliseconds, signal) =>
    sleepFor(milliseconds, undefined, signal === undefined ? { ref: false } : { ref: false, signal }),
};

/** Calls `work` every `milliseconds` until the returned function is called. Does not keep the process alive. */
export function every(milliseconds: number, work: () => void): () => void {
  const timer = setInterval(work, milliseconds);
  timer.unref();
  return () => clearInterval(timer);
}

/**
 * Calls `work` once after `milliseconds` unless the returned function is called first. Does not keep the process alive
 * unless `held`.
 */
export function after(milliseconds: number, work: () => void, { held = false } = {}): () => void {
  const timer = setTimeout(work, milliseconds);
  if (!held) timer.unref();
  return () => clearTimeout(timer);
}
