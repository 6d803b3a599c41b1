/** Backup and restore of an installation, from its configuration: who opens what, and in which order. */
import { isAbsolute, relative, resolve } from 'node:path';
import type { Configuration } from './configuration.ts';
import { startAfresh } from './database/afresh.ts';
import type { Database } from './database/database.ts';
import { type DatabasePlace, openSnapshot } from './database/snapshot.ts';
import { type Clock, systemClock } from './kit/clock.ts';
import { failpoint } from './kit/failpoint.ts';
import { type Log, noMetrics, silentLog } from './kit/log.ts';
import { type BackupProgress, type BackupResult, backup } from './maintenance/backup.ts';
import { type Pruned, pruneBackups, type Verified, verifyBackups } from './maintenance/backup-care.ts';
import { type BackupPlace, backupPlace, type Point } from './maintenance/backup-place.ts';
import {
  checkPoint,
  finishRestore,
  loadRows,
  type RestoreProgress,
  type RestoreResult,
} from './maintenance/restore.ts';
import { MIGRATIONS } from './migrations.ts';
import { FaultError } from './oci/error.ts';
import { type Opening, openDatabase, postgresOptions, sqliteOptions, storageSettings } from './opening.ts';
import { AddressError, isSamePlace, parseAddress } from './storage/address.ts';
import { openStorage } from './storage/open.ts';
import type { StorageSettings } from './storage/settings.ts';
import { VERSION } from './version.ts';

/** An installation whose database is open. */
export interface BackingUp extends Opening {
  readonly database: Database;
}

/** Where the configuration says the database is. */
function databasePlace({ config, data }: Opening): DatabasePlace {
  const { url } = config.database;
  return url === undefined ? { folder: data } : { url };
}

/** The settings of the place that a command was given. AddressError. */
export function settingsOf(base: Opening, to: string): StorageSettings {
  const { s3, gcs, azure } = base.config.storage;
  const settings = parseAddress(to, { s3, gcs, azure }, (path) => resolve(path));
  const own = storageSettings(base);
  if (isSamePlace(settings, own)) throw new AddressError('Backups need a place of their own, not the storage itself.');
  if (settings.driver === 'fs') {
    for (const taken of [base.data, ...(own.driver === 'fs' ? [own.root] : [])]) {
      const way = relative(taken, settings.root);
      if (!way.startsWith('..') && !isAbsolute(way))
        throw new AddressError(`Backups need a folder outside of ${taken}, which they are to outlive.`);
    }
  }
  return settings;
}

/** Opens the place for backups, and closes it when the work has ended. */
async function inPlace<T>(
  settings: StorageSettings,
  clock: Clock,
  work: (place: BackupPlace) => Promise<T>,
): Promise<T> {
  const storage = await openStorage(settings);
  try {
    return await work(backupPlace(storage, clock));
  } finally {
    await storage.close();
  }
}

/** Makes a backup of an installation that is open. FaultError, AddressError. */
export async function backUp(
  parts: BackingUp,
  to: string,
  options: { readonly signal: AbortSignal; onProgress(progress: BackupProgress): void },
): Promise<BackupResult> {
  const settings = settingsOf(parts, to);
  return inPlace(settings, parts.clock, async (place) => {
    // Opened again, without any cache: what is backed up is what is stored.
    const storage = await openStorage(storageSettings(parts));
    try {
      return await backup({
        ...{ database: parts.database, storage, place, clock: parts.clock, log: parts.log },
        openSnapshot: () => openSnapshot(databasePlace(parts)),
        program: VERSION,
        schemaName: (schema) => MIGRATIONS[schema - 1]?.name ?? '',
        tickMilliseconds: parts.config.gc.tick,
        ...options,
      });
    } finally {
      await storage.close();
    }
  });
}

/** What commands on places for backups need: the configuration has credentials. */
export function openingOf(config: Configuration, log: Log = silentLog): Opening {
  return { config, data: resolve(config.data), clock: systemClock, log, metrics: noMetrics };
}

/** The backups in a place, oldest first; `damaged`: records of points that cannot be read. */
export async function listBackups(
  base: Opening,
  to: string,
): Promise<{ readonly points: readonly Point[]; readonly damaged: readonly string[] }> {
  return inPlace(settingsOf(base, to), base.clock, async (place) => {
    await place.check();
    const damaged: string[] = [];
    return { points: await place.points((record) => damaged.push(record)), damaged };
  });
}

/** Hashes everything of all backups, or of one. */
export async function verifyPlace(
  base: Opening,
  to: string,
  id: string | undefined,
  options: { readonly signal: AbortSignal; onProgress(blobs: number, bytes: number): void },
): Promise<Verified> {
  return inPlace(settingsOf(base, to), base.clock, async (place) => {
    await place.check();
    const broken: string[] = [];
    const points = await place.points((record) => broken.push(record));
    const chosen = id === undefined ? points : [choosePoint(points, { point: id })];
    const found = await verifyBackups(place, chosen, options);
    const own = id === undefined ? broken : [];
    return { ...found, damaged: [...own, ...found.damaged], damagedCount: own.length + found.damagedCount };
  });
}

/** Removes all but the newest backups. */
export async function prunePlace(base: Opening, to: string, keep: number, signal: AbortSignal): Promise<Pruned> {
  return inPlace(settingsOf(base, to), base.clock, async (place) => {
    await place.check();
    return pruneBackups(place, keep, { now: base.clock.now(), signal });
  });
}

/** Which backup: its id, the newest complete one, or the newest that is not younger than a time. */
export type Choice = { readonly point: string } | { readonly before: number };

/** The chosen point. FaultError where there is none. */
export function choosePoint(points: readonly Point[], choice: Choice): Point {
  if ('before' in choice) {
    const found = points.filter(({ complete, at }) => complete && at <= choice.before).at(-1);
    if (found !== undefined) return found;
    throw new FaultError('unavailable', 'There is no complete backup of that time or before.');
  }
  const { point } = choice;
  const found =
    point === 'latest' ? points.filter(({ complete }) => complete).at(-1) : points.find(({ id }) => id === point);
  if (found !== undefined) return found;
  throw new FaultError(
    'unavailable',
    point === 'latest' ? 'There is no complete backup in that place.' : `There is no backup ${point} in that place.`,
  );
}

/** How far a restore is. */
export type RestoringProgress = RestoreProgress;

/** What a restore gives, and where the former database is. */
export interface Restored extends RestoreResult {
  readonly kept: string | undefined;
  readonly program: string;
  readonly backupComplete: boolean;
}

/**
 * Restores into the configuration's database and storage, whatever is there; a server must not be running. FaultError
 * where nothing was changed, or where it broke off: then it is begun anew.
 */
export async function restore(
  base: Opening,
  from: string,
  choice: Choice,
  options: { readonly signal: AbortSignal; onProgress(progress: RestoreProgress): void },
): Promise<Restored> {
  return inPlace(settingsOf(base, from), base.clock, async (place) => {
    await place.check();
    const point = choosePoint(await place.points(), choice);
    const allRows = point.tables.reduce((sum, { rows }) => sum + rows, 0);
    const say = (phase: 'check' | 'rows', rows: number): void =>
      options.onProgress({ ...{ phase, rows, allRows }, ...{ blobs: 0, copied: 0, copiedBytes: 0 } });
    say('check', 0);
    checkSchema(point);
    await checkPoint(place, point);
    const storage = await openStorage(storageSettings(base), base);
    try {
      await storage.ping();
      failpoint('recover.empty.before');
      const before = await startAfresh(databasePlace(base), {
        migrations: MIGRATIONS,
        schema: point.schema,
        mark: point.id,
        now: base.clock.now(),
      });
      failpoint('recover.empty.after');
      const rows = await withDatabase(base, point.schema, (database) =>
        loadRows({ database, place, signal: options.signal }, point, (loaded) => say('rows', loaded)),
      );
      failpoint('recover.load.after');
      // Opened again, it is brought to the program's own schema.
      const result = await withDatabase(base, MIGRATIONS.length, (database) =>
        finishRestore({ ...{ database, storage, place, point, before, rows }, ...options }),
      );
      return { ...result, kept: before.kept, program: point.program, backupComplete: point.complete };
    } finally {
      await storage.close();
    }
  });
}

/** Refuses a backup that this program cannot read, before anything is changed. */
function checkSchema({ schema, schemaName, program, format }: Point): void {
  if (format === 1 && schema >= 1 && schema <= MIGRATIONS.length && MIGRATIONS[schema - 1]?.name === schemaName) return;
  throw new FaultError(
    'unavailable',
    `The backup was made by Longshore ${program} with schema ${schema}, this program knows ${MIGRATIONS.length}: restore it with that version or a newer one.`,
  );
}

async function withDatabase<T>(base: Opening, schema: number, work: (database: Database) => Promise<T>): Promise<T> {
  const { openPostgres, openSqlite } = await import('./database/open.ts');
  const { url } = base.config.database;
  const migrations = MIGRATIONS.slice(0, schema);
  const database =
    url === undefined
      ? await openSqlite({ ...sqliteOptions(base), migrations })
      : await openPostgres({ ...postgresOptions(base, url), migrations });
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** Makes a backup of an installation that no server serves, or beside servers on PostgreSQL. */
export async function backUpDirectly(
  base: Opening,
  to: string,
  options: { readonly signal: AbortSignal; onProgress(progress: BackupProgress): void },
): Promise<BackupResult> {
  settingsOf(base, to);
  const database = await openDatabase(base);
  try {
    // A backup of half an installation would look like a whole one.
    await (await import('./maintenance/reindex-mark.ts')).refuseHalfRebuilt(database);
    await (await import('./maintenance/restore-mark.ts')).refuseHalfRestored(database);
    return await backUp({ ...base, database }, to, options);
  } finally {
    await database.close();
  }
}
