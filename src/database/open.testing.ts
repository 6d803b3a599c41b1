/** Databases for tests, each empty and its own; what they leave is removed by `stop`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { MIGRATIONS } from '../migrations.ts';
import type { CommandList, Database } from './database.ts';
import { openPostgres, openSqlite, type SqliteDatabase, type SqliteOptions } from './open.ts';
import { startPostgres, type TestServer } from './postgres/server.testing.ts';

/** A database with the means to be rid of it. */
export interface Opened<D extends Database = Database> {
  readonly database: D;
  /** The data folder, on SQLite. */
  readonly folder: string;
  stop(): Promise<void>;
}

/** What tests usually change. `writer`: the module of a writer thread that knows `commands`; the program's if absent. */
export interface TestOptions extends Partial<Omit<SqliteOptions, 'commands'>> {
  readonly commands: CommandList;
  readonly writer?: URL;
}

/** Options that suit a test. */
export function testOptions({ writer, ...options }: TestOptions): Omit<SqliteOptions, 'folder'> {
  return {
    ticks: { grace: 8, undelete: 4, uploadLifetime: 3 },
    log: silentLog,
    metrics: noMetrics,
    clock: systemClock,
    migrations: MIGRATIONS,
    durability: 'relaxed',
    ...(writer === undefined ? {} : { entries: { writer } }),
    ...options,
  };
}

/** SQLite in a folder of its own. */
export async function openTestSqlite(options: TestOptions): Promise<Opened<SqliteDatabase>> {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'longshore-db-')));
  const database = await openSqlite({ ...testOptions(options), folder });
  return {
    database,
    folder,
    async stop() {
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

let server: Promise<TestServer> | undefined;
let count = 0;

/** PostgreSQL: one server for the test file, a database of its own for each call. `stopTestServer` at the end. */
export async function openTestPostgres(options: TestOptions & { url?: string }): Promise<Opened & { url: string }> {
  server ??= startPostgres();
  const url = options.url ?? (await (await server).database(`test${++count}`));
  const database = await openPostgres({ ...testOptions(options), url });
  return { database, url, folder: '', stop: () => database.close() };
}

/** Ends the server, if one was started. */
export async function stopTestServer(): Promise<void> {
  const running = server;
  server = undefined;
  await (await running)?.stop();
}
