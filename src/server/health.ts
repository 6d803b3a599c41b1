/**
 * /livez and /readyz. Live: the process answers. Ready: it is not stopping, and database and storage answered within
 * two seconds. Answers name what is not ready but never why: the causes are in the log.
 */
import type { Clock } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import { answer, onlyReads, type RawHandler } from './answer.ts';

/** What readiness asks, by the name that is shown. Each rejects where it is not well. */
export type Checks = Readonly<Record<string, () => Promise<unknown>>>;

/** Health of the process. */
export interface Health {
  readonly livez: RawHandler;
  readonly readyz: RawHandler;
  /** What is not well: empty when ready. Asked at most once a second. */
  reasons(): Promise<readonly string[]>;
}

/** How long a check may take, and how long its answer is used. Milliseconds. */
export const CHECK_LIMIT = 2_000;
const KEPT = 1_000;

/** Health from a state and checks. `state` gives what the process itself says: undefined when it serves. */
export function openHealth(parts: {
  readonly checks: Checks;
  readonly state: () => 'starting' | 'stopping' | undefined;
  readonly clock: Clock;
  readonly log: Log;
}): Health {
  const { checks, state, clock, log } = parts;
  let asked = Number.NEGATIVE_INFINITY;
  let asking: Promise<readonly string[]> | undefined;
  const failing = new Set<string>();

  const ask = async (name: string, check: () => Promise<unknown>): Promise<string | undefined> => {
    const late = new AbortController();
    try {
      await Promise.race([
        check(),
        clock.sleep(CHECK_LIMIT, late.signal).then(() => {
          throw new Error(`no answer within ${CHECK_LIMIT / 1000} s`);
        }),
      ]);
      if (failing.delete(name)) log.info(`${name} is well again`);
      return undefined;
    } catch (error) {
      // Once for each time that it becomes unwell, not for each probe.
      if (!failing.has(name)) log.error(`${name} is not well: not ready`, { error: error as Error });
      failing.add(name);
      return name;
    } finally {
      late.abort();
    }
  };
  const reasons = async (): Promise<readonly string[]> => {
    const own = state();
    if (own !== undefined) return [own];
    if (asking === undefined || clock.monotonic() - asked >= KEPT) {
      asked = clock.monotonic();
      asking = Promise.all(Object.entries(checks).map(([name, check]) => ask(name, check))).then((found) =>
        found.filter((name) => name !== undefined),
      );
    }
    return asking;
  };
  return {
    reasons,
    livez: (request, response) => {
      if (onlyReads(request, response)) answer(request, response, 200, 'application/json', '{"status":"live"}');
    },
    readyz: (request, response) => {
      if (!onlyReads(request, response)) return;
      void reasons().then((found) => {
        const body = found.length === 0 ? { status: 'ready' } : { status: 'not ready', reasons: found };
        const later = found.length === 0 ? {} : { 'Retry-After': '2' };
        answer(request, response, found.length === 0 ? 200 : 503, 'application/json', JSON.stringify(body), later);
      });
    },
  };
}
