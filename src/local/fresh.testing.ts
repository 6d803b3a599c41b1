/** A store over real files and a real SQLite in a temporary folder, for tests. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COMMANDS } from '../commands.ts';
import type { Database } from '../database/database.ts';
import { openSqlite } from '../database/open.ts';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { MIGRATIONS } from '../migrations.ts';
import { openStorage } from '../storage/open.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { type Local, openLocal } from './open.ts';
import type { Sparse } from './parts.ts';

/** What a test has in hand. */
export interface LocalForTest {
  readonly store: Local;
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly folder: string;
  close(): Promise<void>;
}

/** Opens one. Ticks are an hour long unless said otherwise, so that they stand still. */
export async function freshLocal(
  options: { sparse?: Sparse; folder?: string; keep?: boolean } = {},
): Promise<LocalForTest> {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'longshore-local-')));
  const shared = { log: silentLog, metrics: noMetrics, clock: systemClock };
  const storage = await openStorage({ driver: 'fs', root: join(folder, 'storage'), durability: 'full' });
  const database = await openSqlite({
    ...shared,
    folder,
    commands: COMMANDS,
    migrations: MIGRATIONS,
    durability: 'full',
    ticks: { grace: 144, undelete: 1008, uploadLifetime: 1008 },
  });
  const store = await openLocal({
    ...shared,
    storage,
    database,
    sparse: options.sparse ?? 'none',
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
