/** Migrating the SQLite files, before any thread has them open. The caller owns the folder. */
import { constants, copyFileSync, existsSync, renameSync } from 'node:fs';
import { FaultError } from '../../oci/error.ts';
import { type Migration, migrate } from '../migrate.ts';
import { Connection, type Durability } from './connection.ts';
import { sqliteFault } from './faults.ts';

/** The two files of a data folder. */
export interface Files {
  readonly path: string;
  readonly sidePath: string;
}

/**
 * Brings the files to the end of the list. Before it changes files that have tables, it copies both beside
 * (`<file>.before-<number>`); throws FaultError where that, or a change, failed: the files are as before then.
 */
export async function migrateSqlite(
  files: Files,
  durability: Durability,
  migrations: readonly Migration[],
  now: number,
): Promise<number> {
  const open = () => new Connection({ ...files, readOnly: false, durability, cacheKib: 8192 });
  let connection = open();
  try {
    return await migrate(
      {
        dialect: 'sqlite',
        async keepCopy(version) {
          connection.db.exec('pragma wal_checkpoint(truncate)');
          // Closed first: closing the copy's handle would drop the locks of an open connection (POSIX).
          connection.close();
          for (const file of [files.path, files.sidePath]) copyBeside(file, version + 1);
          connection = open();
        },
        async transaction(work) {
          const { db, statements } = connection;
          db.exec('begin immediate');
          try {
            await work(statements, async (text) => db.exec(text));
            db.exec('commit');
          } catch (error) {
            if (db.isTransaction) db.exec('rollback');
            throw sqliteFault(error);
          }
        },
      },
      migrations,
      now,
    );
  } finally {
    connection.close();
  }
}

function copyBeside(file: string, number: number): void {
  const copy = `${file}.before-${number}`;
  if (!existsSync(file) || existsSync(copy)) return;
  try {
    copyFileSync(file, `${copy}.part`, constants.COPYFILE_FICLONE);
    renameSync(`${copy}.part`, copy);
  } catch (cause) {
    throw new FaultError('full', `The database could not be copied to ${copy} before its upgrade.`, { cause });
  }
}
