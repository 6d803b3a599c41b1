/** What this room's tests stand on: a real database in a temporary folder, the real password thread, a clock that is moved by hand. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Database } from '../database/database.ts';
import { openSqlite } from '../database/open.ts';
import type { Clock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { MIGRATIONS } from '../migrations.ts';
import type { Call, Principal } from '../registry/call.ts';
import { ACCESS_COMMANDS } from './commands/list.ts';
import type { AccessConfig, FileSource } from './config.ts';
import { type AccessRoom, accessFrom } from './open.ts';

/** A clock that stands until it is moved; it starts at the real time, which the database sees too. */
export interface HandClock extends Clock {
  move(milliseconds: number): void;
}

/** Makes one. */
export function handClock(): HandClock {
  let moved = 0;
  const start = Date.now();
  return {
    now: () => start + moved,
    monotonic: () => 1_000_000 + moved,
    sleep: async () => {},
    move: (milliseconds) => {
      moved += milliseconds;
    },
  };
}

/** Files from the disk. */
export const diskFiles: FileSource = {
  stamp: async (path) => {
    try {
      const { ino, size, mtimeMs, ctimeMs } = await stat(path);
      return `${ino}:${size}:${mtimeMs}:${ctimeMs}`;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  },
  read: async (path, limit) => {
    const bytes = await readFile(path);
    return bytes.length > limit ? undefined : bytes;
  },
};

/** A room of its own. */
export interface TestRoom extends AccessRoom {
  readonly database: Database;
  readonly clock: HandClock;
  readonly folder: string;
  /** Another instance on the same database. */
  another(config?: AccessConfig): Promise<AccessRoom>;
}

/** Opens a database in a temporary folder. */
export async function openTestDatabase(
  clock: Clock,
): Promise<{ database: Database; folder: string; close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-access-'));
  const database = await openSqlite({
    folder,
    durability: 'relaxed',
    commands: ACCESS_COMMANDS,
    ticks: { grace: 10, undelete: 10, uploadLifetime: 10 },
    log: silentLog,
    metrics: noMetrics,
    clock,
    migrations: MIGRATIONS,
    entries: { writer: new URL('./writer.testing.ts', import.meta.url) },
  });
  return {
    database,
    folder,
    close: async () => {
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Opens the room. `htpasswd`: the text of a file. */
export async function openTestRoom(
  config: AccessConfig = {},
  options: { readonly loopback?: boolean; readonly htpasswd?: string } = {},
): Promise<TestRoom> {
  const clock = handClock();
  const { database, folder, close } = await openTestDatabase(clock);
  const path = join(folder, 'htpasswd');
  if (options.htpasswd !== undefined) await writeFile(path, options.htpasswd);
  const parts = { database, loopback: options.loopback ?? true, log: silentLog, files: diskFiles, clock };
  const full = { ...config, ...(options.htpasswd === undefined ? {} : { htpasswd: path }) };
  const others: AccessRoom[] = [];
  const room = await accessFrom(full, parts);
  return {
    ...room,
    database,
    clock,
    folder,
    another: async (other = full) => {
      const opened = await accessFrom(other, parts);
      others.push(opened);
      return opened;
    },
    close: async () => {
      for (const other of others) await other.close();
      await room.close();
      await close();
    },
  };
}

/** A call by a principal. */
export function callBy(principal: Principal): Call {
  return { principal, requestId: 'test', signal: new AbortController().signal };
}

/** The header of a name and a password. */
export function basic(name: string, password: string): { authorization: string } {
  return { authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` };
}

/** The header of a token. */
export function bearer(token: string): { authorization: string } {
  return { authorization: `Bearer ${token}` };
}
