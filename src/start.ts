/** Starts and stops a server: in one process, or as the primary and the members of several. */
import { resolve } from 'node:path';
import type { AccessRoom } from './access/open.ts';
import {
  type Base,
  type Core,
  databaseOptions,
  failpointOf,
  isLoopbackHost,
  openCore,
  type StartOptions,
  storageSettings,
} from './compose.ts';
import type { Configuration } from './configuration.ts';
import { joinSqlite, openSqlite } from './database/open.ts';
import { every, systemClock } from './kit/clock.ts';
import { armFailpoints, killAt } from './kit/failpoint.ts';
import { type AdminCommands, serveAdmin } from './server/admin.ts';
import { isMember, joinPrimary, startMembers } from './server/cluster.ts';
import { restWhenQuiet } from './server/rest.ts';
import { stopper } from './server/stop.ts';
import { openServing, type Serving } from './serving.ts';
import { openStorage } from './storage/open.ts';
import { openLog } from './telemetry/log.ts';
import { openMetrics, processMetrics } from './telemetry/metrics.ts';

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

/** Starts what the configuration describes, in this process and, with `server.processes`, in members of it. */
export async function start(options: StartOptions): Promise<Running> {
  const { config } = options;
  const log = openLog({ level: config.log.level });
  armFor(options.failpoint);
  const metrics = openMetrics();
  processMetrics(metrics, options.version);
  const base: Base = { options, config, data: resolve(config.data), clock: systemClock, log, metrics };
  if (isMember()) return startMember(base);
  return config.server.processes > 1 ? startPrimary(base) : startAlone(base);
}

/** One process that does everything: what a laptop and most servers run. */
async function startAlone(base: Base): Promise<Running> {
  const database = await openSqlite(databaseOptions(base));
  const storage = await openStorage(storageSettings(base), base);
  const core = await openCore(base, { database, storage, keepsHouse: true });
  const admin = await serveAdmin(base.data, adminCommands(core.access), base.log);
  const serving = await openServing(base, core, { snapshots: undefined });
  const maintenance = keepHouse(base, core.access);
  return running(base, core, serving, [admin, maintenance]);
}

/** The process that owns the folder of several: the writer, the jobs, the admin socket. */
async function startPrimary(base: Base): Promise<Running> {
  const { config, log, clock, metrics } = base;
  const database = await openSqlite(databaseOptions(base));
  const storage = await openStorage(storageSettings(base), base);
  const core = await openCore(base, { database, storage, keepsHouse: true });
  const admin = await serveAdmin(base.data, adminCommands(core.access), log);
  const maintenance = keepHouse(base, core.access);
  const members = startMembers({
    count: config.server.processes,
    serve: (channel) => database.serve(channel),
    own: () => metrics.snapshot(),
    clock,
    log,
  });
  const port = await members.ready;
  const waits = notReadyMilliseconds(base) + config.server.drainSeconds * 1000;
  const stopping = stopper({
    notReadyMilliseconds: 0,
    drainMilliseconds: waits + 5_000,
    notReady: () => undefined,
    drain: (milliseconds) => members.stop(milliseconds),
    close: [admin, maintenance, core.close],
    clock,
    log,
  });
  return {
    url: urlOf(config, port),
    anonymousMode: core.access.anonymousMode,
    reload: async () => {
      await reloadInto(base, core.access);
      members.reload();
    },
    stop: stopping.stop,
  };
}

/** A serving process of several. */
async function startMember(base: Base): Promise<Running> {
  const asked: { running?: Running } = {};
  const membership = joinPrimary({
    stop: () => {
      if (asked.running === undefined) process.exit(0);
      void asked.running.stop().then((well) => process.exit(well ? 0 : 1));
    },
    reload: () => void asked.running?.reload(),
    own: () => base.metrics.snapshot(),
  });
  const database = await joinSqlite(databaseOptions(base), membership.channel);
  const storage = await openStorage(storageSettings(base), base);
  const core = await openCore(base, { database, storage, keepsHouse: false });
  const serving = await openServing(base, core, membership);
  membership.ready(serving.port);
  asked.running = running(base, core, serving, []);
  return asked.running;
}

function running(base: Base, core: Core, serving: Serving, close: readonly (() => unknown)[]): Running {
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
async function reloadInto(base: Base, access: AccessRoom): Promise<void> {
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
function keepHouse(base: Base, access: AccessRoom): () => void {
  const { log } = base;
  const keep = (): void =>
    void access.maintain().catch((error: Error) => log.warn('keys and tokens could not be maintained', { error }));
  return every(3_600_000, keep);
}

/** What the admin socket does. */
function adminCommands(access: AccessRoom): AdminCommands {
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

function armFor(asked: StartOptions['failpoint']): void {
  const failpoint = failpointOf(asked);
  if (failpoint !== undefined) armFailpoints(killAt(failpoint.name, failpoint.count));
}

function notReadyMilliseconds(base: Base): number {
  const { listen, notReadySeconds } = base.config.server;
  return 1000 * (notReadySeconds ?? (isLoopbackHost(listen.host) ? 0 : 5));
}

function urlOf(config: Configuration, port: number): string {
  const { host } = config.server.listen;
  const shown = host === '::' || host === '0.0.0.0' ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return `${config.server.tls === undefined ? 'http' : 'https'}://${shown}:${port}`;
}
