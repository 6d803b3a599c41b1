/**
 * The joining file: from a configuration to a server that runs. What the parts are is said here and only here, and so
 * is the order of the wrappers around the store.
 */
import { resolve } from 'node:path';
import { type AccessRoom, accessFrom } from './access/open.ts';
import { withAccess } from './access/with-access.ts';
import { COMMANDS } from './commands.ts';
import { fileBytes, fileStamp } from './config/files.ts';
import { LIMITS } from './config/limits.ts';
import type { Configuration } from './configuration.ts';
import type { Database } from './database/database.ts';
import { joinSqlite, openSqlite, type SqliteDatabase } from './database/open.ts';
import { type TransferBuffers, transferBuffers } from './kit/buffers.ts';
import { type Clock, every, systemClock } from './kit/clock.ts';
import { armFailpoints, FAILPOINTS, type Failpoint, killAt } from './kit/failpoint.ts';
import type { Log, Metrics } from './kit/log.ts';
import { openLocal } from './local/open.ts';
import { MIGRATIONS } from './migrations.ts';
import { clientErrorAnswer, connectAnswer } from './protocol/client-error.ts';
import { protocolHandler } from './protocol/handler.ts';
import type { BlobSources, Store } from './registry/registry.ts';
import { serveAdmin } from './server/admin.ts';
import { isMember, joinPrimary, type Membership, startMembers } from './server/cluster.ts';
import { isLoopback, peers } from './server/forwarded.ts';
import { openHealth } from './server/health.ts';
import { type Listener, type ListenerLimits, openListener } from './server/http.ts';
import { metricsRoute } from './server/metrics.ts';
import { observer } from './server/observe.ts';
import { stopper } from './server/stop.ts';
import { openStorage } from './storage/open.ts';
import type { BlobStorage } from './storage/storage.ts';
import { type AccessLog, openAccessLog } from './telemetry/access-log.ts';
import { openLog, type RootLog } from './telemetry/log.ts';
import { type MetricStore, openMetrics, processMetrics } from './telemetry/metrics.ts';
import type { Tracing } from './telemetry/trace.ts';

/** What a server is started with. */
export interface StartOptions {
  readonly config: Configuration;
  readonly version: string;
  /** Reads the configuration again; for SIGHUP. */
  readonly reload?: () => Promise<Configuration>;
  /** Under a test: the process kills itself there. */
  readonly failpoint?: { readonly name: string; readonly count: number } | undefined;
}

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

/** What every process has, whatever it does. */
interface Base {
  readonly options: StartOptions;
  readonly config: Configuration;
  readonly data: string;
  readonly clock: Clock;
  readonly log: RootLog;
  readonly metrics: MetricStore;
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
  const core = await openCore(base, { database, storage, movesTick: true });
  const admin = await serveAdmin(base.data, adminCommands(core.access), base.log);
  const serving = await openServing(base, core, { snapshots: undefined });
  const maintenance = keepHouse(base, core.access);
  return running(base, core, serving, [admin, maintenance]);
}

/** The process that owns the folder of several: the writer, the jobs, the admin socket. */
async function startPrimary(base: Base): Promise<Running> {
  const { config, log, clock, metrics } = base;
  const database: SqliteDatabase = await openSqlite(databaseOptions(base));
  const storage = await openStorage(storageSettings(base), base);
  const core = await openCore(base, { database, storage, movesTick: true });
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
  const core = await openCore(base, { database, storage, movesTick: false });
  const serving = await openServing(base, core, membership);
  membership.ready(serving.port);
  asked.running = running(base, core, serving, []);
  return asked.running;
}

/** Store, access and what they stand on. */
interface Core {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly local: Store & BlobSources;
  readonly access: AccessRoom;
  readonly tracing: Tracing | undefined;
  readonly close: () => Promise<void>;
}

async function openCore(
  base: Base,
  parts: { readonly database: Database; readonly storage: BlobStorage; readonly movesTick: boolean },
): Promise<Core> {
  const { config, clock, log } = base;
  const { database, storage } = parts;
  const local = await openLocal({
    storage,
    database,
    clock,
    log,
    sparse: config.manifests.sparse,
    tickMilliseconds: config.gc.tick,
    movesTick: parts.movesTick,
  });
  const access = await accessFrom(config.access, {
    database,
    loopback: isLoopbackHost(config.server.listen.host),
    log,
    files: { stamp: fileStamp, read: fileBytes },
    clock,
  });
  const { endpoint, sampleRatio } = config.tracing;
  // Loaded only where it is wanted: 50 MiB that nobody else has to carry.
  const tracing =
    endpoint === undefined
      ? undefined
      : await (await import('./telemetry/trace.ts')).openTracing(
          { endpoint, sampleRatio, version: base.options.version },
          log,
        );
  const close = async (): Promise<void> => {
    await access.close();
    await local.close();
    await storage.close();
    await database.close();
    await tracing?.close();
  };
  return { database, storage, local, access, tracing, close };
}

/** The wrappers around the store, outermost last. */
async function stack(core: Core) {
  const { local, access, tracing } = core;
  let forRequests: Store = local;
  if (tracing !== undefined) {
    const { traced } = await import('./registry/trace.ts');
    forRequests = traced(forRequests, async (method, _call, _repository, work) => {
      const span = tracing.span(`registry.${method}`);
      try {
        const result = await span.within(work);
        span.end();
        return result;
      } catch (error) {
        span.end(error);
        throw error;
      }
    });
  }
  return { forJobs: local, forRequests: withAccess(forRequests, access.access, local) };
}

/** The listeners of a serving process. */
interface Serving {
  readonly port: number;
  readonly listeners: readonly Listener[];
  readonly accessLog: AccessLog | undefined;
  readonly state: { stopping: boolean };
}

async function openServing(
  base: Base,
  core: Core,
  metricsOf: { readonly snapshots: Membership['snapshots'] | undefined },
): Promise<Serving> {
  const { config, log, metrics, clock } = base;
  const { access, database, storage } = core;
  const state = { stopping: false };
  const { forRequests } = await stack(core);
  const buffers: TransferBuffers = transferBuffers({ budget: config.limits.transferBufferBytes });
  const lent = metrics.gauge('longshore_transfer_buffer_bytes', 'Bytes of transfer buffers in use.');
  const peerOf = peers(config.server.trustedProxies);
  const accessLog =
    config.log.access === false
      ? undefined
      : openAccessLog(config.log.access === true ? 1 : resolve(config.log.access), log, clock);
  const { publicUrl } = config.server;
  const { tracing } = core;

  const handler = protocolHandler({
    registry: forRequests,
    authenticator: access.authenticator,
    authorize: (call, action, repository) => forRequests.authorize(call, action, repository),
    mayPushAnonymously: () => access.anonymousMode() === 'push',
    peerOf,
    realm: (peer) => {
      if (publicUrl !== undefined) return new URL('/token', publicUrl).href;
      return peer.host === '' ? undefined : `${peer.scheme}://${peer.host}/token`;
    },
    service: access.tokens.settings.service,
    buffers,
    log,
    accessLog: accessLog === undefined ? undefined : (line) => accessLog.write(line),
    metrics,
    clock,
    state: () => 'ready',
    limits: {
      targetBytes: LIMITS.targetBytes.value,
      manifestBytes: config.manifests.maxBytes,
      tagsPerPush: LIMITS.tagsPerPush.value,
      tagsPage: LIMITS.tagsPage.value,
      catalogPageCap: LIMITS.catalogPage.value,
      referrersPage: LIMITS.referrersPage.value,
      minimumRate: {
        bytesPerSecond: config.limits.minimumRate,
        milliseconds: config.limits.minimumRateSeconds * 1000,
      },
      discarded: LIMITS.discardBytes.value,
    },
    cors: config.server.corsOrigins.length === 0 ? undefined : { origins: config.server.corsOrigins },
    trace:
      tracing === undefined
        ? undefined
        : (begun) => {
            const span = tracing.request(`${begun.method} ${begun.route}`, begun.traceparent);
            span.set('http.request.method', begun.method);
            span.set('longshore.repository', begun.repository);
            span.set('longshore.request_id', begun.requestId);
            span.enter();
            return (status) => {
              span.set('http.response.status_code', status);
              span.end(status >= 500 ? { name: `status ${status}` } : undefined);
            };
          },
  });

  const health = openHealth({
    checks: { database: () => database.ping(), storage: () => storage.ping() },
    state: () => (state.stopping ? 'stopping' : undefined),
    clock,
    log,
  });
  const own = config.server.metricsListen;
  const text = async (): Promise<string> => metrics.text(await metricsOf.snapshots?.());
  const probes = [['/livez', health.livez] as const, ['/readyz', health.readyz] as const];
  const { metricsToken: token } = config.server;
  const limits: ListenerLimits = {
    ...config.limits,
    http2StreamWindowBytes: LIMITS.http2StreamWindowBytes.value,
    http2SessionWindowBytes: LIMITS.http2SessionWindowBytes.value,
    headerBytes: LIMITS.headerBytes.value,
    headerCount: LIMITS.headerCount.value,
  };
  const observe = observer({ metrics, clock, peerOf, accessLog });
  const main = openListener({
    protocol: { handler: handler as ListenerHandler, clientErrorAnswer, connectAnswer },
    routes: new Map([
      ...probes,
      ...(own === undefined ? [['/metrics', metricsRoute({ text, token, peerOf })] as const] : []),
    ]),
    application: {
      serves: (path) => path === '/token',
      open: async () => {
        const [{ openApplication }, { tokenRoutes }] = await Promise.all([
          import('./server/application.ts'),
          import('./api/token.ts'),
        ]);
        const tokenPlugin = tokenRoutes({ ...access, peerOf: (request) => peerOf(request.raw) });
        return openApplication([tokenPlugin], log);
      },
    },
    tls: config.server.tls,
    trustedProxies: config.server.trustedProxies,
    limits,
    observe,
    log,
  });
  const listeners = [main];
  // With several processes one listener has one port: the members share it, and each answers for all.
  if (own !== undefined) {
    const routes = new Map([...probes, ['/metrics', metricsRoute({ text, token })] as const]);
    const listener = openListener({ routes, limits, log });
    await listener.listen(own);
    listeners.push(listener);
  }
  const connections = metrics.gauge('longshore_connections', 'Open connections.');
  metrics.onScrape(() => {
    lent(buffers.lentBytes);
    connections(listeners.reduce((sum, listener) => sum + listener.connections, 0));
  });
  const { port } = await main.listen(config.server.listen);
  return { port, listeners, accessLog, state };
}

type ListenerHandler = NonNullable<Parameters<typeof openListener>[0]['protocol']>['handler'];

function running(base: Base, core: Core, serving: Serving, close: readonly (() => unknown)[]): Running {
  const { config, log, clock } = base;
  const stopping = stopper({
    notReadyMilliseconds: notReadyMilliseconds(base),
    drainMilliseconds: config.server.drainSeconds * 1000,
    notReady: () => {
      serving.state.stopping = true;
    },
    drain: (milliseconds) => Promise.all(serving.listeners.map((listener) => listener.stop(milliseconds))),
    close: [...close, core.close, () => serving.accessLog?.close()],
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
function adminCommands(access: AccessRoom): Parameters<typeof serveAdmin>[1] {
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

/** How the database is opened; the same for the owner, a member, and a command on data. */
export function databaseOptions(
  base: Pick<Base, 'config' | 'data' | 'clock'> & {
    readonly log: Log;
    readonly metrics: Metrics;
    readonly options?: StartOptions;
  },
): Parameters<typeof openSqlite>[0] {
  const { config, data, clock, log, metrics } = base;
  const failpoint = failpointOf(base.options?.failpoint);
  return {
    commands: COMMANDS,
    migrations: MIGRATIONS,
    folder: data,
    durability: config.storage.durability,
    ticks: {
      grace: config.gc.graceTicks,
      undelete: config.gc.undeleteTicks,
      uploadLifetime: Math.max(1, Math.ceil(config.uploads.lifetime / config.gc.tick)),
    },
    clock,
    log,
    metrics,
    ...(failpoint === undefined ? {} : { failpoint }),
  };
}

function storageSettings(base: Base): Parameters<typeof openStorage>[0] {
  const { driver, fs, durability } = base.config.storage;
  return { driver, root: resolve(fs.root ?? resolve(base.data, 'storage')), durability };
}

function failpointOf(asked: StartOptions['failpoint']): { name: Failpoint; count: number } | undefined {
  if (asked === undefined) return undefined;
  const name = FAILPOINTS.find((one) => one === asked.name);
  if (name === undefined) throw new Error(`there is no failpoint ${asked.name}`);
  return { name, count: asked.count };
}

function armFor(asked: StartOptions['failpoint']): void {
  const failpoint = failpointOf(asked);
  if (failpoint !== undefined) armFailpoints(killAt(failpoint.name, failpoint.count));
}

function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || isLoopback(host);
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
