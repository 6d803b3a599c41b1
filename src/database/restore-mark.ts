/** What is made, and marked, where a restore begins: the words that both databases share. */

import type { Migration } from './migrate.ts';
import type { LeaseTable } from './schema.ts';

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

/** The tables that the migrations make, in their order. */
export function tablesOf(migrations: readonly Migration[]): readonly string[] {
  const names = migrations.flatMap(({ ddl }) =>
    [...ddl.matchAll(/\bcreate table (?:side\.)?"?([a-z_][a-z0-9_]*)"?/gi)].map((found) => found[1]!),
  );
  return [...new Set(names)];
}

/** The statement that sets the mark. */
export const SET_MARK = `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${RESTORE_MARK}', 'restore', ?, 0, 0, 0)`;
