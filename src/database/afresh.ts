/**
 * Puts an empty database in the place of whatever is there, for a restore. What was there is kept aside, never removed;
 * the new one bears a mark until the restore has ended, under which nothing serves it.
 */

import type { Migration } from './migrate.ts';
import type { LeaseTable } from './schema.ts';
import type { DatabasePlace } from './snapshot.ts';

/** The mark's name in `lease`. */
export const RESTORE_MARK = 'restore';

/** What to make. */
export interface Afresh {
  /** Every migration there is: what it names as tables is what is kept aside. */
  readonly migrations: readonly Migration[];
  /** How many of them the new database has run. */
  readonly schema: number;
  /** What the mark says: which backup is being restored. */
  readonly mark: string;
  /** Wall milliseconds. */
  readonly now: number;
}

/** What was there before. */
export interface Before {
  /** Where it was put; absent where there was nothing worth keeping. */
  readonly kept: string | undefined;
  /** The installation's epoch, where it could be read. */
  readonly epoch: number | undefined;
  /** The tick, where it could be read. */
  readonly tick: number | undefined;
  /** Leases of backups that may still run. */
  readonly leases: readonly LeaseTable[];
}

/** Does it in one step that a crash leaves whole: before it all is as it was, after it the empty database is there. FaultError. */
export async function startAfresh(place: DatabasePlace, afresh: Afresh): Promise<Before> {
  if ('folder' in place) return (await import('./sqlite/afresh.ts')).sqliteAfresh(place.folder, afresh);
  return (await import('./postgres/afresh.ts')).postgresAfresh(place.url, afresh);
}

/** The tables that the migrations make, in their order. */
export function tablesOf(migrations: readonly Migration[]): readonly string[] {
  const names = migrations.flatMap(({ ddl }) =>
    [...ddl.matchAll(/\bcreate table (?:side\.)?"?([a-z_][a-z0-9_]*)"?/gi)].map((found) => found[1]!),
  );
  return [...new Set(names)];
}

/** The statement that sets the mark. */
export const SET_MARK = `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${RESTORE_MARK}', 'restore', ?, 0, 0, 0)`;
