/** A store over real files and a real SQLite in a temporary folder, for tests. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COMMANDS } from '../commands.ts';
import type { Database } from '../database/database.ts';
import { openSqlite } from '../database/open.ts';
import { systemClock } from '../kit/clock.ts';
import type { HashThreads } from '../kit/hash-threads.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { MIGRATIONS } from '../migrations.ts';
import { openStorage } from '../storage/open.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { type Local, openLocal } from './open.ts';
import type { Redirect, Sparse } from './parts.ts';

/** What a test has in hand. */
export interface LocalForTest {
  readonly store: Local;
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly folder: string;
  close(): Promise<void>;
}

interface FreshOptions {
  readonly sparse?: Sparse;
  readonly folder?: string;
  readonly keep?: boolean;
  /** Another database than a new SQLite in the folder; the caller closes nothing of it. */
  readonly openDatabase?: (folder: string) => Promise<Database>;
  /** Another storage than files in the folder; closed with the store. */
  readonly storage?: BlobStorage;
  readonly redirect?: Redirect;
  /** Closed with the store. */
  readonly hashing?: HashThreads;
}

/** Opens one. Ticks are an hour long, so that they stand still. */
export async function freshLocal(options: FreshOptions = {}): Promise<LocalForTest> {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'longshore-local-')));
  const shared = { log: silentLog, metrics: noMetrics, clock: systemClock };
  const storage =
    options.storage ?? (await openStorage({ driver: 'fs', root: join(folder, 'storage'), durability: 'full' }));
  const database = await (options.openDatabase ?? openFolder)(folder);
  const store = await openLocal({
    ...shared,
    storage,
    database,
    sparse: options.sparse ?? 'none',
    redirect: options.redirect,
    hashing: options.hashing,
    tickMilliseconds: 3_600_000,
    movesTick: true,
  });
  return {
    store,
    database,
    storage,
    folder,
    async close() {
      await store.close();
      await database.close();
      await storage.close();
      if (options.keep !== true) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What every database of these tests is opened with. */
export const DATABASE_FOR_TEST = {
  log: silentLog,
  metrics: noMetrics,
  clock: systemClock,
  commands: COMMANDS,
  migrations: MIGRATIONS,
  ticks: { grace: 144, undelete: 1008, uploadLifetime: 1008 },
};

function openFolder(folder: string): Promise<Database> {
  return openSqlite({ ...DATABASE_FOR_TEST, folder, durability: 'full' });
}
