/** Opens the database: SQLite as its owner, SQLite as a member of the owner's processes, or PostgreSQL. */
import { join } from 'node:path';
import type { Clock } from '../kit/clock.ts';
import type { Failpoint } from '../kit/failpoint.ts';
import type { Log, Metrics } from '../kit/log.ts';
import { FaultError } from '../oci/error.ts';
import type { Command, CommandList, Database, RunOptions, Statements, Ticks } from './database.ts';
import { forSqlite } from './dialect.ts';
import { kyselyOver } from './kysely.ts';
import type { Migration } from './migrate.ts';
import { type Channel, Member, serveMember } from './sqlite/channel.ts';
import type { Durability } from './sqlite/connection.ts';
import { openHot, type SqliteHot } from './sqlite/hot.ts';
import { type Files, migrateSqlite } from './sqlite/migrate.ts';
import { takeFolder } from './sqlite/owner.ts';
import { type Present, presentFiles } from './sqlite/present.ts';
import { Reader } from './sqlite/reader.ts';
import { Writer, type WriterLimits } from './sqlite/writer.ts';
import { Touched } from './touched.ts';
import { within } from './within.ts';

/** What every database is opened with. */
export interface OpenOptions {
  /** Every command that may be run; a thread finds its own by the same list. */
  readonly commands: CommandList;
  readonly ticks: Ticks;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly migrations: readonly Migration[];
  /** Told of faults that no caller is answerable for: a lost transaction, a dead thread, a broken connection. */
  onFault?(fault: FaultError): void;
}

/** Where the SQLite files lie, and how safely. */
export interface SqliteOptions extends OpenOptions {
  readonly folder: string;
  readonly durability: Durability;
  /** Under a test: the process kills itself there. */
  readonly failpoint?: { readonly name: Failpoint; readonly count: number };
  /** The threads' modules where they are not the program's own (tests run commands that the program does not have). */
  readonly entries?: { readonly writer?: URL; readonly reader?: URL };
  readonly limits?: WriterLimits;
}

/** Which PostgreSQL, and how many connections. */
export interface PostgresOptions extends OpenOptions {
  /** `postgres://user:password@host:port/database`; never part of a message. */
  readonly url: string;
  /** Most connections, 10 if absent. */
  readonly connections?: number;
  /** How many statements and commands may wait for a connection, 512 if absent. */
  readonly waiting?: number;
}

/** The owner's database, which also serves the members of its processes. */
export interface SqliteDatabase extends Database {
  /** Runs the commands of the process at the channel's other end, until the returned function is called. */
  serve(channel: Channel): () => void;
}

/** The two files in a data folder. */
export function filesOf(folder: string): Files {
  return { path: join(folder, 'longshore.db'), sidePath: join(folder, 'side.db') };
}

type Send = (name: string, args: unknown, options: RunOptions) => Promise<unknown>;

/** The part that owner and members share: look-ups here, reads in the thread, commands through `send`. */
function assemble(
  options: SqliteOptions,
  parts: {
    readonly hot: SqliteHot;
    readonly reader: Reader;
    readonly touched: Touched;
    readonly send: Send;
    readonly known: boolean;
    readonly ping: () => Promise<void>;
    readonly close: () => Promise<void>;
  },
): Database {
  const { hot, reader, touched, send, known } = parts;
  const names = new Set(options.commands.map(({ name }) => name));
  const query: Pick<Statements, 'all' | 'get'> = {
    all: async <Row>(text: string, ...values: readonly unknown[]) =>
      (await reader.read(forSqlite(text), values)) as Row[],
    get: async <Row>(text: string, ...values: readonly unknown[]) =>
      (await reader.read(forSqlite(text), values))[0] as Row | undefined,
  };
  let closing: Promise<void> | undefined;
  return {
    dialect: 'sqlite',
    shared: false,
    hot: hot.hot,
    read: kyselyOver('sqlite', async (text, values) => ({ rows: await reader.read(text, values) })),
    query,
    ticks: options.ticks,
    async run<Args, Result>(command: Command<Args, Result>, args: Args, runOptions: RunOptions = {}): Promise<Result> {
      if (!names.has(command.name)) throw new FaultError('bug', `The database was not opened with "${command.name}".`);
      return (await send(command.name, args, runOptions)) as Result;
    },
    onTouched: touched.on,
    dataVersion: () => (known ? undefined : hot.dataVersion()),
    async ping() {
      hot.check();
      await within(parts.ping());
    },
    close() {
      closing ??= parts.close();
      return closing;
    },
  };
}

/**
 * Takes the folder (which has no other owner), migrates its files and opens them. Throws FaultError `unavailable`
 * where another process owns it or its files are newer than the program.
 */
export async function openSqlite(options: SqliteOptions): Promise<SqliteDatabase> {
  const owner = takeFolder(options.folder);
  const files = filesOf(options.folder);
  let hot: SqliteHot | undefined;
  let present: Present;
  try {
    const ran = await migrateSqlite(files, options.durability, options.migrations, options.clock.now());
    if (ran > 0) options.log.info('the database has new tables', { migrations: ran });
    present = presentFiles(files);
    hot = openHot(files.path, present);
  } catch (error) {
    hot?.close();
    owner.release();
    throw error;
  }
  const lookUps = hot;
  const touched = new Touched();
  const reader = new Reader({ ...files, present }, options.entries?.reader);
  const writer = new Writer({
    data: {
      ...files,
      durability: options.durability,
      ticks: options.ticks,
      present,
      ...(options.failpoint === undefined ? {} : { failpoint: options.failpoint }),
    },
    ...(options.entries?.writer === undefined ? {} : { entry: options.entries.writer }),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    log: options.log,
    metrics: options.metrics,
    clock: options.clock,
    onTouched: touched.tell,
    onDeath: () => touched.tell(lookUps.repositories()),
    onLost(fault) {
      options.log.error('the database lost a transaction', { error: fault });
      options.onFault?.(fault);
    },
  });
  const send: Send = (name, args, runOptions) => writer.run(name, args, runOptions);
  const database = assemble(options, {
    hot: lookUps,
    reader,
    touched,
    send,
    known: true,
    ping: () => writer.ping(),
    async close() {
      await reader.close();
      await writer.close();
      lookUps.close();
      owner.release();
    },
  });
  return {
    ...database,
    serve: (channel) => serveMember({ run: send, onTouched: touched.on, ping: () => writer.ping() }, channel),
  };
}

/**
 * Opens the files of a folder that another process owns, serves and has migrated; commands go to it through the
 * channel. Throws FaultError where the files cannot be read.
 */
export async function joinSqlite(options: SqliteOptions, channel: Channel): Promise<Database> {
  const files = filesOf(options.folder);
  const present = presentFiles(files);
  const hot = openHot(files.path, present);
  const touched = new Touched();
  const reader = new Reader({ ...files, present }, options.entries?.reader);
  const member = new Member(channel, touched.tell);
  return assemble(options, {
    hot,
    reader,
    touched,
    send: (name, args, runOptions) => member.run(name, args, runOptions),
    known: false,
    ping: () => member.ping(),
    async close() {
      await reader.close();
      await member.close();
      hot.close();
    },
  });
}

/** Connects to PostgreSQL and migrates it. Throws FaultError `unavailable` where it is not there, too old, or too new. */
export async function openPostgres(options: PostgresOptions): Promise<Database> {
  // Not loaded where SQLite is used.
  const { openPostgresParts } = await import('./postgres/open.ts');
  return openPostgresParts({ connections: 10, waiting: 512, ...options });
}
