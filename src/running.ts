/** A server that runs: what is done to it, and with it, until it has stopped. */
import type { AccessRoom } from './access/open.ts';
import { type Base, type Core, isLoopbackHost } from './compose.ts';
import type { Configuration } from './configuration.ts';
import { every } from './kit/clock.ts';
import type { AdminCommands } from './server/admin.ts';
import { restWhenQuiet } from './server/rest.ts';
import { stopper } from './server/stop.ts';
import type { Serving } from './serving.ts';

/** A server that runs. */
export interface Running {
  /** Where it serves. */
  readonly url: string;
  /** What whoever gives no credentials may do, now. */
  anonymousMode(): 'none' | 'pull' | 'push';
  /** Loads what can be changed while it runs: access rules, log level, TLS files, log files. */
  reload(): Promise<void>;
  /** Stops gracefully; called again: at once. Whether all closed well. */
  stop(): Promise<boolean>;
}

/** What is given to whoever started it: how it is loaded again and stopped. `close`: what ends before the core. */
export function running(base: Base, core: Core, serving: Serving, close: readonly (() => unknown)[]): Running {
  const { config, log, clock } = base;
  // Probes and scrapes on the same listener count as work; where they come every second it does not rest.
  const rest = restWhenQuiet({
    requests: () => serving.listeners[0]!.requests,
    underWay: () => serving.listeners[0]!.underWay,
  });
  const stopping = stopper({
    notReadyMilliseconds: notReadyMilliseconds(base),
    drainMilliseconds: config.server.drainSeconds * 1000,
    notReady: () => {
      serving.state.stopping = true;
    },
    drain: (milliseconds) => Promise.all(serving.listeners.map((listener) => listener.stop(milliseconds))),
    close: [rest, ...close, core.close, () => serving.accessLog?.close()],
    clock,
    log,
  });
  return {
    url: urlOf(config, serving.port),
    anonymousMode: core.access.anonymousMode,
    reload: async () => {
      await reloadInto(base, core.access);
      serving.accessLog?.reopen();
      for (const listener of serving.listeners) listener.reload();
    },
    stop: stopping.stop,
  };
}

/** Takes up what may change while the server runs; a bad configuration changes nothing. */
export async function reloadInto(base: Base, access: AccessRoom): Promise<void> {
  const { log, options } = base;
  if (options.reload === undefined) return;
  try {
    const config = await options.reload();
    log.setLevel(config.log.level);
    access.setRules(config.access.rules);
    log.info('the configuration was loaded again: access rules, log level and TLS files');
  } catch (error) {
    log.error('the configuration could not be loaded again; the one in use stays', { error: error as Error });
  }
}

/** What has to be done now and then besides jobs: signing keys and refresh tokens. */
export function keepHouse(base: Base, access: AccessRoom): () => void {
  const { log } = base;
  const keep = (): void =>
    void access.maintain().catch((error: Error) => log.warn('keys and tokens could not be maintained', { error }));
  return every(3_600_000, keep);
}

/** What the admin socket does. */
export function adminCommands(access: AccessRoom): AdminCommands {
  const { accounts } = access;
  return {
    'user.add': async (args) => accounts.add(namedPassword(args)),
    'user.passwd': async (args) => {
      const { name, password } = namedPassword(args);
      await accounts.setPassword(name, password);
    },
    'user.disable': async (args) => accounts.setDisabled(named(args), true),
    'user.enable': async (args) => accounts.setDisabled(named(args), false),
    'user.list': async (args) => {
      const after = (args as { after?: unknown } | undefined)?.after;
      return accounts.list(typeof after === 'string' ? { after } : {});
    },
  };
}

function named(args: unknown): string {
  const name = (args as { name?: unknown } | null | undefined)?.name;
  if (typeof name !== 'string') throw Object.assign(new Error('A name is missing.'), { status: 400 });
  return name;
}

function namedPassword(args: unknown): { name: string; password: string } {
  const password = (args as { password?: unknown } | null | undefined)?.password;
  if (typeof password !== 'string') throw Object.assign(new Error('A password is missing.'), { status: 400 });
  return { name: named(args), password };
}

/** How long it says "not ready" and still serves. */
export function notReadyMilliseconds(base: Base): number {
  const { listen, notReadySeconds } = base.config.server;
  return 1000 * (notReadySeconds ?? (isLoopbackHost(listen.host) ? 0 : 5));
}

/** Where clients find it. */
export function urlOf(config: Configuration, port: number): string {
  const { host } = config.server.listen;
  const shown = host === '::' || host === '0.0.0.0' ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return `${config.server.tls === undefined ? 'http' : 'https'}://${shown}:${port}`;
}
