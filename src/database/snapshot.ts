/** One consistent look at a whole database, for as long as it is open: what a backup is made from. */

import type { TableShape } from './catalog.ts';
import type { Value } from './database.ts';

/** The look. Statements are one text for both databases, as everywhere (`?`, `{PostgreSQL only}`). */
export interface Snapshot {
  readonly dialect: 'sqlite' | 'postgres';
  /** Every table, each behind those that it names. */
  readonly tables: readonly TableShape[];
  /** The number of the last migration. */
  readonly schema: number;
  /** All rows of a statement; the caller bounds them. FaultError. */
  all<Row>(text: string, ...values: readonly Value[]): Promise<Row[]>;
  /** The highest number that the table's counter ever gave; 0 where it has none. */
  counter(table: TableShape): Promise<number>;
  close(): Promise<void>;
}

/** Where the database is. */
export type DatabasePlace = { readonly folder: string } | { readonly url: string };

/**
 * Takes the look. On SQLite a copy is made by a thread of its own beside the database (the disk must have room for it)
 * and removed by `close`; on PostgreSQL one transaction stays open. FaultError.
 */
export async function openSnapshot(place: DatabasePlace): Promise<Snapshot> {
  if ('folder' in place) return (await import('./sqlite/snapshot.ts')).sqliteSnapshot(place.folder);
  return (await import('./postgres/snapshot.ts')).postgresSnapshot(place.url);
}
