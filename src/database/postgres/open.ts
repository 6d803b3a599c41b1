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
import { postgresFault } from './faults.ts';
import { forwardOnly } from './forward.ts';
import { PostgresHints } from './hints.ts';
import { readOnly } from './link.ts';
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

function hotOn({ lookUps: statements }: Pool): Hot {
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
  // One connection of those that are allowed is kept for hints and for signs of life.
  const forward = forwardOnly((why) => pool.distrust(why));
  const pool: Pool = new Pool({
    ...parts,
    admit: forward.admit,
    connections: Math.max(1, parts.connections - 1),
    probe: () => hints.probe(),
    onBroken(error) {
      log.warn('PostgreSQL does not answer, or a connection to it broke', { error });
      parts.onFault?.(new FaultError('unavailable', 'A connection to PostgreSQL broke.', { cause: error }));
    },
    onWell: () => log.info('PostgreSQL answers again'),
  });
  const hints: PostgresHints = new PostgresHints({
    url: parts.url,
    clock,
    log,
    heard: pool.heard,
    send: (text, channel, payload) => pool.statements.get(text, channel, payload),
  });
  try {
    const ran = await migratePostgres(pool, parts.migrations, clock.now(), log);
    if (ran > 0) log.info('the database has new tables', { migrations: ran });
  } catch (error) {
    await Promise.all([hints.close(), pool.close()]);
    throw error;
  }
  const stopLooking = forward.watch(pool);
  const touched = new Touched();
  const names = new Set(parts.commands.map(({ name }) => name));
  const environment = { pool, forward, ticks, clock, log, onTouched: touched.tell, telling: hints.telling };
  let version = 0;
  let closing: Promise<void> | undefined;
  return {
    dialect: 'postgres',
    shared: true,
    hot: hotOn(pool),
    read: kyselyOver('postgres', pool.execute),
    query: { all: pool.statements.all, get: pool.statements.get },
    ticks,
    hints,
    async run<Args, Result>(command: Command<Args, Result>, args: Args, options: RunOptions = {}): Promise<Result> {
      if (!names.has(command.name)) throw new FaultError('bug', `The database was not opened with "${command.name}".`);
      if (closing !== undefined) throw new FaultError('unavailable', 'The database is closing.');
      return runOn(environment, command, args, options);
    },
    onTouched: touched.on,
    // Other servers commit without a word here, or with one that comes late: nothing cached is known to be current.
    dataVersion: () => ++version,
    ping: () => within(ping(pool)),
    close() {
      stopLooking();
      closing ??= Promise.all([hints.close(), pool.close()]).then(() => undefined);
      return closing;
    },
  };
}

/** A server that only reads serves nobody: its connections are made anew until one takes changes. */
async function ping(pool: Pool): Promise<void> {
  const link = await pool.acquire('short');
  let broken = false;
  try {
    const { rows } = await link.query(PING);
    broken = rows[0]?.mode === 'on';
    if (broken) throw readOnly();
  } catch (error) {
    throw postgresFault(error);
  } finally {
    pool.release(link, broken);
  }
}

const PING = { name: 'ping', text: "select current_setting('transaction_read_only') as mode" };
