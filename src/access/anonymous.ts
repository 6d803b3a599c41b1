/**
 * What whoever gives no credentials may do, now. Without a word in the configuration a laptop is open while nobody
 * was ever added; the first user closes it within a second, for good.
 */
import { every } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import type { AnonymousMode } from './config.ts';

const CHECK_EVERY = 1000;

/** The mode, and what keeps it right. */
export interface Anonymous {
  mode(): AnonymousMode;
  /** Looks at the users now. */
  refresh(): Promise<void>;
  close(): void;
}

/** `anyUser`: whether an account or an htpasswd line exists. While it cannot be asked, nobody is let in unnamed. */
export async function openAnonymous(
  configured: AnonymousMode | undefined,
  loopback: boolean,
  anyUser: () => Promise<boolean>,
  log: Log,
): Promise<Anonymous> {
  const fixed: AnonymousMode | undefined = configured ?? (loopback ? undefined : 'none');
  if (fixed !== undefined) return { mode: () => fixed, refresh: async () => {}, close: () => {} };

  let closed = false;
  let failing = false;
  let stop = (): void => {};

  const refresh = async (): Promise<void> => {
    if (closed) return;
    try {
      const found = await anyUser();
      failing = false;
      if (found && !closed) {
        closed = true;
        stop();
        log.info('there is a user: pushing and pulling need a login from now on');
      }
    } catch (error) {
      if (!failing)
        log.warn('it is not known whether users exist: nobody is let in without a login', { error: error as Error });
      failing = true;
    }
  };
  await refresh();
  if (!closed) stop = every(CHECK_EVERY, () => void refresh());
  return { mode: () => (closed || failing ? 'none' : 'push'), refresh, close: () => stop() };
}
