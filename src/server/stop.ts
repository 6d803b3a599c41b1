/**
 * How a server stops: not ready for a while and still serving, so that load balancers notice; then no new
 * connections, and transfers may finish within a limit; then everything is closed in order. A second signal skips
 * the waiting.
 */
import type { Clock } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';

/** What is stopped. */
export interface StopParts {
  readonly notReadyMilliseconds: number;
  readonly drainMilliseconds: number;
  /** Says "not ready" from now on. */
  readonly notReady: () => void;
  /** Takes no more requests and waits at most so long for those under way. */
  readonly drain: (milliseconds: number) => Promise<unknown>;
  /** Closes what is below, in order. Each is tried even where one before failed. */
  readonly close: readonly (() => unknown)[];
  readonly clock: Clock;
  readonly log: Log;
}

/** A stop that can be asked for more than once. */
export interface Stopper {
  /** Begins, or hurries the one that is under way. Resolves when all is closed; whether all closed well. */
  stop(): Promise<boolean>;
}

/** Makes it. */
export function stopper(parts: StopParts): Stopper {
  const hurry = new AbortController();
  let stopping: Promise<boolean> | undefined;
  const run = async (): Promise<boolean> => {
    const { clock, log } = parts;
    parts.notReady();
    log.info('stopping', {
      notReadySeconds: parts.notReadyMilliseconds / 1000,
      drainSeconds: parts.drainMilliseconds / 1000,
    });
    if (parts.notReadyMilliseconds > 0) {
      await clock.sleep(parts.notReadyMilliseconds, hurry.signal).catch(() => undefined);
    }
    const hurried = new Promise<void>((resolve) => {
      if (hurry.signal.aborted) resolve();
      else hurry.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const drained = parts.drain(hurry.signal.aborted ? 0 : parts.drainMilliseconds);
    await Promise.race([drained, hurried.then(() => parts.drain(0))]);
    await drained;
    let well = true;
    for (const close of parts.close) {
      try {
        await close();
      } catch (error) {
        well = false;
        log.error('something did not close well', { error: error as Error });
      }
    }
    return well;
  };
  return {
    stop: () => {
      if (stopping === undefined) stopping = run();
      else hurry.abort();
      return stopping;
    },
  };
}
