/**
 * Opens what a configuration names, in a server and in commands on data: the database, and places for bytes. Whoever
 * opens closes.
 */
import { resolve } from 'node:path';
import { COMMANDS } from './commands.ts';
import type { Place } from './config/storage-schema.ts';
import type { Configuration } from './configuration.ts';
import type { Database } from './database/database.ts';
import type { PostgresOptions, SqliteOptions } from './database/open.ts';
import { type Clock, systemClock } from './kit/clock.ts';
import { FAILPOINTS, type Failpoint } from './kit/failpoint.ts';
import { type Log, type Metrics, noMetrics, silentLog } from './kit/log.ts';
import { MIGRATIONS } from './migrations.ts';
import type { StorageSettings } from './storage/settings.ts';
import type { BlobStorage } from './storage/storage.ts';

/** What opening needs. */
export interface Opening {
  readonly config: Configuration;
  /** The data folder, absolute. */
  readonly data: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Under a test: the process kills itself there. */
  readonly failpoint?: { readonly name: string; readonly count: number } | undefined;
}

/** Where bytes lie. */
export function storageSettings(base: Pick<Opening, 'config' | 'data'>): StorageSettings {
  const { storage } = base.config;
  return placeSettings(
    { ...storage, fs: { root: storage.fs.root ?? resolve(base.data, 'storage') } },
    storage.durability,
  );
}

/** A place of the configuration, as its driver is told. */
export function placeSettings(place: Place, durability: 'full' | 'relaxed' = 'full'): StorageSettings {
  const { driver } = place;
  if (driver === 'fs') return { driver, root: resolve(place.fs.root ?? ''), durability };
  if (driver === 's3') return { driver, ...place.s3! };
  if (driver === 'gcs') return { driver, ...place.gcs! };
  return { driver, ...place.azure! };
}

/** The storage that a server serves from, with the cache that the configuration puts in front of it. FaultError. */
export async function openServingStorage(base: Opening): Promise<BlobStorage> {
  const { openStorage } = await import('./storage/open.ts');
  const storage = await openStorage(storageSettings(base), base);
  const { driver, cache } = base.config.storage;
  if (driver === 'fs' || cache.maxBytes === undefined) return storage;
  const { withBlobCache } = await import('./storage/cached/cached.ts');
  return withBlobCache(storage, {
    folder: resolve(cache.path ?? resolve(base.data, 'cache')),
    // Each process knows its own files only.
    maxBytes: Math.floor(cache.maxBytes / base.config.server.processes),
    ...base,
  });
}

/** How the SQLite files are opened; the same for the owner, a member, and a command on data. */
export function sqliteOptions(base: Opening): SqliteOptions {
  const failpoint = failpointOf(base.failpoint);
  return {
    ...common(base),
    folder: base.data,
    durability: base.config.storage.durability,
    ...(failpoint === undefined ? {} : { failpoint }),
  };
}

/** How PostgreSQL is opened. */
export function postgresOptions(base: Opening, url: string): PostgresOptions {
  const { connections, waiting } = base.config.database;
  return { ...common(base), url, connections, waiting };
}

function common({ config, clock, log, metrics }: Opening) {
  return {
    commands: COMMANDS,
    migrations: MIGRATIONS,
    ticks: {
      grace: config.gc.graceTicks,
      undelete: config.gc.undeleteTicks,
      uploadLifetime: Math.max(1, Math.ceil(config.uploads.lifetime / config.gc.tick)),
    },
    ...{ clock, log, metrics },
  };
}

/** The database of the configuration, migrated, as its only owner (SQLite) or beside others (PostgreSQL). FaultError. */
export async function openDatabase(base: Opening): Promise<Database> {
  const { openPostgres, openSqlite } = await import('./database/open.ts');
  const { url } = base.config.database;
  return url === undefined ? openSqlite(sqliteOptions(base)) : openPostgres(postgresOptions(base, url));
}

/** The failpoint of that name; a wrong name ends the start. */
export function failpointOf(asked: Opening['failpoint']): { name: Failpoint; count: number } | undefined {
  if (asked === undefined) return undefined;
  const name = FAILPOINTS.find((one) => one === asked.name);
  if (name === undefined) throw new Error(`there is no failpoint ${asked.name}`);
  return { name, count: asked.count };
}

/** What a command on data works with. */
export interface OnFolder extends Opening {
  readonly database: Database;
  readonly storage: BlobStorage;
}

/**
 * Opens database and storage for a command of the command line, and closes them when the work has ended. The data
 * folder is taken for so long where SQLite is in it. FaultError where a server has it, and, unless `halfRebuilt`, where
 * a rebuild of the database has not ended.
 */
export async function onFolder<T>(
  config: Configuration,
  work: (parts: OnFolder) => Promise<T>,
  options: { readonly log?: Log; readonly halfRebuilt?: boolean } = {},
): Promise<T> {
  const base: Opening = {
    config,
    data: resolve(config.data),
    clock: systemClock,
    log: options.log ?? silentLog,
    metrics: noMetrics,
  };
  const { openStorage } = await import('./storage/open.ts');
  const database = await openDatabase(base);
  try {
    if (options.halfRebuilt !== true) await (await import('./maintenance/reindex-mark.ts')).refuseHalfRebuilt(database);
    await (await import('./maintenance/restore-mark.ts')).refuseHalfRestored(database);
    const storage = await openStorage(storageSettings(base), base);
    try {
      const { refuseOlder } = await import('./maintenance/recover-mark.ts');
      if (options.halfRebuilt !== true) await refuseOlder({ database, storage });
      return await work({ ...base, database, storage });
    } finally {
      await storage.close();
    }
  } finally {
    await database.close();
  }
}
