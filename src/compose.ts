/**
 * The joining file: from a configuration to a store with everything around it. What the parts are is said here, and so
 * is the order of the wrappers.
 */
import { type AccessRoom, accessFrom } from './access/open.ts';
import { type GuardedStore, withAccess } from './access/with-access.ts';
import type { ApiRoute } from './api/route.ts';
import { collectorFrom, gcCommands } from './collecting.ts';
import { fileBytes, fileStamp } from './config/files.ts';
import type { CoreConfig } from './config/schema.ts';
import type { Configuration } from './configuration.ts';
import type { Database } from './database/database.ts';
import type { Feature, Core as FeatureCore } from './features/feature.ts';
import { type Jobs, startJobs } from './jobs/start.ts';
import { openLocal } from './local/open.ts';
import { sweepUploads } from './maintenance/expire.ts';
import { maintenance } from './maintenance/jobs.ts';
import type { Marker } from './maintenance/recover-mark.ts';
import { refuseHalfRebuilt, warnOfStranger } from './maintenance/reindex-mark.ts';
import { refuseHalfRestored } from './maintenance/restore-mark.ts';
import { FaultError } from './oci/error.ts';
import type { Opening } from './opening.ts';
import { redirectFrom } from './redirecting.ts';
import type { BlobSources, Store } from './registry/registry.ts';
import { withGuards } from './registry/with-guards.ts';
import { withPullChecks } from './registry/with-pull-checks.ts';
import { drainCommands } from './reindexing.ts';
import { scrubbingFrom, scrubCommands } from './scrubbing.ts';
import type { AdminCommands } from './server/admin.ts';
import { isLoopback } from './server/forwarded.ts';
import type { BlobStorage } from './storage/storage.ts';
import type { RootLog } from './telemetry/log.ts';
import type { MetricStore } from './telemetry/metrics.ts';
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

/** What every process has, whatever it does. */
export interface Base extends Opening {
  readonly options: StartOptions;
  readonly log: RootLog;
  readonly metrics: MetricStore;
}

/** Store, access and what they stand on. */
export interface Core {
  readonly database: Database;
  readonly storage: BlobStorage;
  /** What requests are served from: every wrapper, access outermost. */
  readonly forRequests: GuardedStore;
  /** What jobs work on: guards, but neither access nor pull checks. */
  readonly forJobs: Store;
  readonly access: AccessRoom;
  readonly tracing: Tracing | undefined;
  /** What the admin socket does about collector, drain and scrub; nothing in a process that does not keep house. */
  readonly gcCommands: AdminCommands;
  /** The routes of the REST API. Loaded by the first call. */
  readonly apiRoutes: () => Promise<readonly ApiRoute[]>;
  /** Starts the jobs: in one process of a data folder, once it serves. */
  readonly startJobs: () => void;
  /** Ends jobs, closes store, storage and database, in this order. */
  readonly close: () => Promise<void>;
}

/** What differs between the processes of one data folder. */
export interface CoreParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  /** Whether this process moves the tick: exactly one of them does, the one that runs the jobs. */
  readonly keepsHouse: boolean;
  /** What the collector asks before it deletes bytes; one of its own if absent. */
  readonly marker?: Marker;
}

/** Opens everything below the listeners. */
export async function openCore(base: Base, parts: CoreParts): Promise<Core> {
  const { config, clock, log, metrics } = base;
  const { database, storage, keepsHouse, marker } = parts;
  const marking = marker === undefined ? {} : { marker };
  if (keepsHouse) await refuseHalfRebuilt(database);
  if (keepsHouse) await refuseHalfRestored(database);
  // Both wait for threads that start now; side by side they wait once.
  const [local, access] = await Promise.all([
    openLocal({
      storage,
      database,
      clock,
      log,
      sparse: config.manifests.sparse,
      redirect: redirectFrom(config),
      tickMilliseconds: config.gc.tick,
      movesTick: keepsHouse,
    }),
    accessFrom(config.access, {
      database,
      loopback: isLoopbackHost(config.server.listen.host),
      log,
      files: { stamp: fileStamp, read: fileBytes },
      clock,
    }),
  ]);
  const { endpoint, sampleRatio } = config.tracing;
  // Loaded only where it is wanted: 50 MiB that nobody else has to carry.
  const tracing =
    endpoint === undefined
      ? undefined
      : await (await import('./telemetry/trace.ts')).openTracing(
          { endpoint, sampleRatio, version: base.options.version },
          log,
        );
  let jobs: Jobs | undefined;
  let wrapped: Stack | undefined;
  const featureCore: FeatureCore = {
    forJobs: () => opened(wrapped).forJobs,
    forRequests: () => opened(wrapped).forRequests,
    jobs: () => opened(jobs).queue,
    database,
    access: access.access,
    clock,
    log,
    metrics,
    tickMilliseconds: config.gc.tick,
  };
  const features = await openFeatures(config, featureCore);
  wrapped = await stack(local, { access, tracing }, features);
  // Before anyone is served: afterwards there are files of uploads that have no row yet.
  if (keepsHouse) await sweepUploads({ database, storage, log });
  if (keepsHouse) await warnOfStranger({ database, storage, log });
  const collecting = keepsHouse
    ? collectorFrom(config, { ...marking, database, storage, clock, log, metrics })
    : undefined;
  const scrubbing = keepsHouse ? scrubbingFrom(config, { database, storage, clock, log, metrics }) : undefined;
  const openJobs = (): void => {
    if (jobs !== undefined) return;
    const upkeep = maintenance({
      ...{ storage, database, clock, log, metrics },
      tickMilliseconds: config.gc.tick,
      sparse: config.manifests.sparse !== 'none',
      collector: config.gc.enabled ? collecting : undefined,
    });
    const trust = scrubbing === undefined ? [] : [scrubbing.giver];
    jobs = startJobs({ database, givers: [upkeep, ...trust, ...features], clock, log, metrics });
  };
  const close = async (): Promise<void> => {
    await jobs?.stop();
    await scrubbing?.close();
    await access.close();
    await local.close();
    await storage.close();
    await database.close();
    await tracing?.close();
  };
  const gc =
    collecting === undefined || scrubbing === undefined
      ? {}
      : {
          ...gcCommands({ database, clock, collector: collecting }),
          ...drainCommands({ database, storage, log, metrics }),
          ...scrubCommands({ database, clock, scrubbing }),
        };
  return {
    database,
    storage,
    ...wrapped,
    access,
    tracing,
    gcCommands: gc,
    apiRoutes: () => routesOf(features, featureCore),
    startJobs: openJobs,
    close,
  };
}

/** What is always there, then what features add that are on. */
async function routesOf(features: readonly Feature[], core: FeatureCore): Promise<readonly ApiRoute[]> {
  const { ALWAYS } = await import('./always.ts');
  const own = await Promise.all(features.map((feature) => feature.routes?.() ?? []));
  return [...ALWAYS.flatMap((module) => module.routes(core)), ...own.flat()];
}

/** The store for requests and the one for jobs. */
interface Stack {
  readonly forRequests: GuardedStore;
  readonly forJobs: Store;
}

/** The wrappers around the store, outermost last. A feature that is off is not there. */
async function stack(
  local: Store & BlobSources,
  parts: { readonly access: AccessRoom; readonly tracing: Tracing | undefined },
  features: readonly Feature[],
): Promise<Stack> {
  const guards = features.flatMap((feature) => feature.guards ?? []);
  const checks = features.flatMap((feature) => feature.pullChecks ?? []);
  const forJobs = guards.length === 0 ? (local as Store) : withGuards(local, guards);
  const checked = checks.length === 0 ? forJobs : withPullChecks(forJobs, checks);
  const seen = parts.tracing === undefined ? checked : await withSpans(checked, parts.tracing);
  return { forJobs, forRequests: withAccess(seen, parts.access.access, local) };
}

/** A span around each call of the store. */
async function withSpans(inner: Store, tracing: Tracing): Promise<Store> {
  const { traced } = await import('./registry/trace.ts');
  return traced(inner, async (method, _call, _repository, work) => {
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

/** The features whose section the configuration has. Without any, not even their list is loaded. */
async function openFeatures(config: Configuration, core: FeatureCore): Promise<readonly Feature[]> {
  const sections = config as Readonly<Record<string, unknown>>;
  if (!Object.keys(sections).some((name) => !CORE.has(name) && sections[name] !== undefined)) return [];
  const { FEATURES } = await import('./features.ts');
  return FEATURES.filter((module) => sections[module.name] !== undefined).map((module) =>
    module.create(core, sections[module.name] as never),
  );
}

/** Sections that are no feature's. */
const CORE: ReadonlySet<string> = new Set<keyof CoreConfig>([
  'server',
  'data',
  'storage',
  'database',
  'manifests',
  'uploads',
  'gc',
  'scrub',
  'heal',
  'access',
  'log',
  'tracing',
  'limits',
]);

function opened<T>(part: T | undefined): T {
  if (part === undefined)
    throw new FaultError('bug', 'A feature asked for a part before it was there, or in a process that has none.');
  return part;
}

/** Whether a host to listen on can be reached from this machine only. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || isLoopback(host);
}
