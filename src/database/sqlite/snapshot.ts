/**
 * A snapshot of the SQLite files: `VACUUM INTO` by a thread of its own, from a connection that opened them read-only
 * (decisions.md 9), into a folder beside them. Writers go on meanwhile.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readCounter, readTables } from '../catalog.ts';
import type { Value } from '../database.ts';
import { forSqlite } from '../dialect.ts';
import type { Snapshot } from '../snapshot.ts';
import { Reader } from './reader.ts';

/** The folder in a data folder where a snapshot lies while a backup reads it. */
function snapshotFolder(folder: string): string {
  return join(folder, 'snapshot');
}

/** Removes what a killed backup left. Only while none runs. */
export function removeOldSnapshot(folder: string): void {
  rmSync(snapshotFolder(folder), { recursive: true, force: true });
}

/** Copies both files and opens the copy. One at a time for a data folder. */
export async function sqliteSnapshot(folder: string): Promise<Snapshot> {
  removeOldSnapshot(folder);
  const own = snapshotFolder(folder);
  mkdirSync(own, { mode: 0o700 });
  const files = { path: join(own, 'longshore.db'), sidePath: join(own, 'side.db') };
  const source = new Reader({ path: join(folder, 'longshore.db'), sidePath: join(folder, 'side.db') });
  let reader: Reader | undefined;
  try {
    // SQLite counts the new file as a write; the connection itself can write nothing.
    await source.read('pragma query_only = off', []);
    await source.read('vacuum main into ?', [files.path]);
    await source.read('vacuum side into ?', [files.sidePath]);
    reader = new Reader(files);
    const looking = reader;
    const ask = async <Row>(text: string, ...values: readonly Value[]): Promise<Row[]> =>
      (await looking.read(forSqlite(text), values)) as Row[];
    const [last] = await ask<{ number: number }>('select max(number) as number from migration');
    const tables = await readTables('sqlite', ask);
    return {
      dialect: 'sqlite',
      tables,
      schema: last?.number ?? 0,
      all: ask,
      counter: (table) => readCounter('sqlite', ask, table),
      async close() {
        await looking.close();
        removeOldSnapshot(folder);
      },
    };
  } catch (error) {
    await reader?.close();
    removeOldSnapshot(folder);
    throw error;
  } finally {
    await source.close();
  }
}
