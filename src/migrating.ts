/** `longshore migrate`: an installation's database moved to the other kind; the bytes in storage stay where they are. */
import { basename, dirname, resolve } from 'node:path';
import { type Moved, type MoveSide, moveTables } from './database/move/move.ts';
import { type Clock, systemClock } from './kit/clock.ts';
import { type Log, silentLog } from './kit/log.ts';
import { MIGRATIONS } from './migrations.ts';
import { FaultError } from './oci/error.ts';

/** Where from and where to: `sqlite://` with a data folder or its longshore.db, or `postgres://…`. */
export interface Migrating {
  readonly from: string;
  readonly to: string;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly progress?: (table: string, rows: number) => void;
}

/** Moves every table; the source stays as it is. FaultError where a side is in use, not empty, or cannot be reached. */
export async function migrateInstallation(options: Migrating): Promise<Moved> {
  const { from, to, progress } = options;
  if (kindOf(from) === kindOf(to)) {
    throw new FaultError('unavailable', 'A move goes from sqlite:// to postgres://, or back.');
  }
  const source = await open(from, options);
  try {
    const target = await open(to, options);
    try {
      return await moveTables(source, target, progress);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

function kindOf(address: string): 'sqlite' | 'postgres' {
  if (address.startsWith('sqlite://')) return 'sqlite';
  if (/^postgres(ql)?:\/\//.test(address)) return 'postgres';
  throw new FaultError('unavailable', 'A database is given as sqlite://FOLDER or postgres://user:password@host/name.');
}

async function open(address: string, { clock = systemClock, log = silentLog }: Migrating): Promise<MoveSide> {
  const parts = { migrations: MIGRATIONS, clock, now: clock.now(), log };
  if (kindOf(address) === 'postgres') {
    return (await import('./database/move/postgres-side.ts')).postgresSide(address, parts);
  }
  const path = resolve(address.slice('sqlite://'.length));
  const folder = basename(path) === 'longshore.db' ? dirname(path) : path;
  return (await import('./database/move/sqlite-side.ts')).sqliteSide(folder, parts);
}
