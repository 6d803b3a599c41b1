/** The database on PostgreSQL: any number of servers over one. */
import type { Clock } from '../../kit/clock.ts';
import type { Log } from '../../kit/log.ts';
import { digestToBytes } from '../../oci/digest.ts';
import { FaultError } from '../../oci/error.ts';
import type { Command, CommandList, Database, Hot, RunOptions, Ticks } from '../database.ts';
import {
  BLOB_BY_LINK,
  type BlobRow,
  blobOf,
  MANIFEST_BY_DIGEST,
  MANIFEST_BY_TAG,
  type ManifestRow,
  manifestOf,
  UPLOAD_BY_ID,
  type UploadRow,
  uploadOf,
} from '../hot.ts';
import { kyselyOver } from '../kysely.ts';
import type { Migration } from '../migrate.ts';
import { Touched } from '../touched.ts';
import { within } from '../within.ts';
import { migratePostgres } from './migrate.ts';
import { Pool } from './pool.ts';
import { runOn } from './run.ts';

/** What is needed of the options of `openPostgres`. */
export interface PostgresParts {
  readonly url: string;
  readonly connections: number;
  readonly waiting: number;
  readonly commands: CommandList;
  readonly ticks: Ticks;
  readonly log: Log;
  readonly clock: Clock;
  readonly migrations: readonly Migration[];
  onFault?(fault: FaultError): void;
}

function hotOn({ statements }: Pool): Hot {
  return {
    manifestByTag: async (repository, tag) =>
      manifestOf(await statements.get<ManifestRow>(MANIFEST_BY_TAG, tag, repository)),
    manifestByDigest: async (repository, digest) =>
      manifestOf(await statements.get<ManifestRow>(MANIFEST_BY_DIGEST, digestToBytes(digest), repository)),
    blobByLink: async (repository, digest) =>
      blobOf(await statements.get<BlobRow>(BLOB_BY_LINK, digestToBytes(digest), repository)),
    uploadById: async (id) => uploadOf(await statements.get<UploadRow>(UPLOAD_BY_ID, id)),
  };
}

/** Connects, checks the server, migrates. Throws FaultError `unavailable` where that cannot be done. */
export async function openPostgresParts(parts: PostgresParts): Promise<Database> {
  const { log, clock, ticks } = parts;
  const pool = new Pool({
    ...parts,
    onBroken(error) {
      log.warn('a connection to PostgreSQL broke', { error });
      parts.onFault?.(new FaultError('unavailable', 'A connection to PostgreSQL broke.', { cause: error }));
    },
  });
  try {
    const ran = await migratePostgres(pool, parts.migrations, clock.now(), log);
    if (ran > 0) log.info('the database has new tables', { migrations: ran });
  } catch (error) {
    await pool.close();
    throw error;
  }
  const touched = new Touched();
  const names = new Set(parts.commands.map(({ name }) => name));
  const environment = { pool, ticks, clock, log, onTouched: touched.tell };
  let version = 0;
  let closing: Promise<void> | undefined;
  return {
    dialect: 'postgres',
    shared: true,
    hot: hotOn(pool),
    read: kyselyOver('postgres', pool.execute),
    query: { all: pool.statements.all, get: pool.statements.get },
    ticks,
    async run<Args, Result>(command: Command<Args, Result>, args: Args, options: RunOptions = {}): Promise<Result> {
      if (!names.has(command.name)) throw new FaultError('bug', `The database was not opened with "${command.name}".`);
      if (closing !== undefined) throw new FaultError('unavailable', 'The database is closing.');
      return pool.track(runOn(environment, command, args, options));
    },
    onTouched: touched.on,
    // Other servers commit without a word here, so nothing that was cached is known to be current.
    dataVersion: () => ++version,
    ping: () => within(pool.statements.get('select 1 as one')),
    close() {
      closing ??= pool.close();
      return closing;
    },
  };
}
