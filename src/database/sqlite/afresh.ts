/** An empty database in a data folder: made beside, then renamed over the old file, of which a second name stays. */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Afresh, Before } from '../restore-mark.ts';
import { RESTORE_MARK, SET_MARK } from '../restore-mark.ts';
import type { LeaseTable } from '../schema.ts';
import { Connection } from './connection.ts';
import { type Files, migrateSqlite } from './migrate.ts';
import { takeFolder } from './owner.ts';

const filesIn = (folder: string): Files => ({
  path: join(folder, 'longshore.db'),
  sidePath: join(folder, 'side.db'),
});
const NOTHING: Before = { kept: undefined, epoch: undefined, tick: undefined, leases: [] };

/** See `startAfresh`. FaultError `unavailable` where a server has the folder. */
export async function sqliteAfresh(folder: string, afresh: Afresh): Promise<Before> {
  const owner = takeFolder(folder);
  try {
    const building = join(folder, 'restoring');
    rmSync(building, { recursive: true, force: true });
    mkdirSync(building, { mode: 0o700 });
    const made = filesIn(building);
    await migrateSqlite(made, 'full', afresh.migrations.slice(0, afresh.schema), afresh.now);
    const marked = new Connection({ ...made, readOnly: false, durability: 'full', cacheKib: 1024 });
    try {
      marked.run(SET_MARK, [afresh.mark]);
    } finally {
      marked.close();
    }
    const files = filesIn(folder);
    const before = keepAside(files, afresh.now);
    // No write-ahead log of the old file may meet the new one.
    for (const rest of ['-wal', '-shm']) {
      rmSync(files.path + rest, { force: true });
      rmSync(files.sidePath + rest, { force: true });
    }
    renameSync(made.path, files.path);
    renameSync(made.sidePath, files.sidePath);
    syncFolder(folder);
    rmSync(building, { recursive: true, force: true });
    return before;
  } finally {
    owner.release();
  }
}

/** Gives the old file a second name, with all that was committed in it; one that a broken restore left is worth nothing. */
function keepAside(files: Files, now: number): Before {
  if (!existsSync(files.path)) return NOTHING;
  const kept = `${files.path}.before-restore-${new Date(now).toISOString().replaceAll(/[-:.]/g, '').toLowerCase()}`;
  let read: Before & { readonly isMarked: boolean };
  try {
    read = readBefore(files);
  } catch {
    // It cannot be read, which may be why there is a restore: its log is kept with it.
    second(files.path, kept);
    if (existsSync(`${files.path}-wal`)) second(`${files.path}-wal`, `${kept}-wal`);
    return { ...NOTHING, kept };
  }
  const { isMarked, ...before } = read;
  if (isMarked) return before;
  second(files.path, kept);
  return { ...before, kept };
}

function readBefore(files: Files): Before & { readonly isMarked: boolean } {
  const connection = new Connection({ ...files, readOnly: false, durability: 'full', cacheKib: 1024 });
  try {
    const state = connection.get<{ epoch: number; tick: number }>(
      'select i.epoch, c.tick from installation i, gc_clock c where i.id = 1 and c.id = 1',
      [],
    );
    const leases = connection.all<LeaseTable>("select * from lease where kind = 'backup' limit 100", []);
    const isMarked = connection.get(`select 1 as one from lease where name = '${RESTORE_MARK}'`, []) !== undefined;
    connection.db.exec('pragma wal_checkpoint(truncate)');
    return { ...NOTHING, epoch: state?.epoch, tick: state?.tick, leases, isMarked };
  } finally {
    connection.close();
  }
}

/** A second name for a file; a copy where the file system has no links. */
function second(file: string, name: string): void {
  try {
    linkSync(file, name);
  } catch {
    copyFileSync(file, name);
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
