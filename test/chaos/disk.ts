/** What lies in a data folder of a server that is not running (or only reads), compared with its database. */
import { readdirSync, readlinkSync, statSync, utimesSync } from 'node:fs';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { blobKey, parseBlobKey } from '../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../../src/oci/digest.ts';

/** The database file of a data folder. */
export const databaseFile = (data: string): string => join(data, 'longshore.db');

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

/** Every disagreement between files and rows: files that no row names, rows whose bytes are missing or cut short. */
export function disagreements(data: string): string[] {
  const wrong: string[] = [];
  const blobs = join(data, 'storage/blobs');
  using database = new DatabaseSync(databaseFile(data), { readOnly: true });
  for (const row of database.prepare('pragma integrity_check').all()) {
    if (row.integrity_check !== 'ok') wrong.push(`database: ${row.integrity_check}`);
  }
  for (const row of database.prepare('pragma foreign_key_check').all())
    wrong.push(`foreign key: ${JSON.stringify(row)}`);

  const rowOf = database.prepare('select state, n, size, stored from blob where digest = ?');
  const deadOf = database.prepare('select 1 from dead_key where digest = ? and n = ? and confirmed = 0');
  for (const file of filesBelow(blobs)) {
    const key = parseBlobKey(file);
    if (key === undefined) {
      wrong.push(`storage/blobs/${file}: not a blob's name`);
      continue;
    }
    const digest = digestToBytes(key.digest);
    const named = rowOf.get(digest)?.n === key.n || deadOf.get(digest, key.n) !== undefined;
    if (!named) wrong.push(`storage/blobs/${file}: no row names it`);
  }
  const content = database.prepare('select length(bytes) as size from content where digest = ?');
  for (const row of database.prepare("select digest, n, size, stored from blob where state = 'live'").all()) {
    const bytes = row.digest as Uint8Array;
    const key = blobKey(digestFromBytes(bytes), Number(row.n));
    const inline = content.get(bytes)?.size;
    const stored = statSync(join(blobs, key), { throwIfNoEntry: false })?.size;
    if (row.stored === 1 && stored !== row.size)
      wrong.push(`blob ${key}: ${stored} bytes stored, its row says ${row.size}`);
    if (row.stored === 0 && inline !== row.size)
      wrong.push(`blob ${key}: ${inline} bytes in the database, its row says ${row.size}`);
  }
  return wrong;
}

/** How many uploads the database knows, and the files that lie in the folder of uploads. */
export function uploadsLeft(data: string): { readonly rows: number; readonly files: readonly string[] } {
  using database = new DatabaseSync(databaseFile(data), { readOnly: true });
  const rows = Number(database.prepare('select count(*) as count from upload').get()?.count);
  return { rows, files: filesBelow(join(data, 'storage/uploads')) };
}

/** Moves the collector's clock on, so that what would end in an hour ends now. The server must not be running. */
export function advanceClock(data: string, ticks: number): void {
  using database = new DatabaseSync(databaseFile(data));
  database.prepare('update gc_clock set tick = tick + ?').run(ticks);
}

/** Makes waiting jobs due and lets the leases of dead processes run out, as a minute would. The server must not be running. */
export function hastenJobs(data: string): void {
  using database = new DatabaseSync(databaseFile(data));
  database.exec("update job set run_at = 0 where state = 'waiting'");
  using side = new DatabaseSync(join(data, 'side.db'));
  side.exec('update job_lease set until_at = 0');
}

/** Makes what a crash left half written look two hours old: a start removes what is older than one. */
export function ageTemporaryFiles(data: string): void {
  const folder = join(data, 'storage/uploads');
  const then = new Date(Date.now() - 2 * 3_600_000);
  for (const name of filesBelow(folder)) if (name.endsWith('.tmp')) utimesSync(join(folder, name), then, then);
}

/** The files below a folder that a process has open. */
export function openFiles(pid: number, folder: string): string[] {
  const open: string[] = [];
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const path = readlinkSync(`/proc/${pid}/fd/${name}`);
      if (path.startsWith(folder)) open.push(path);
    } catch {
      // Closed meanwhile.
    }
  }
  return open;
}
