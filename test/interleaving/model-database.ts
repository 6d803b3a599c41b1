/**
 * A `Database` in this process: one SQLite connection in memory with the program's own migrations and commands, shared
 * by several processes of a run. Every command, query and look-up is one point. A run happens inside one transaction
 * that is rolled back at its end, so that the next one begins on the same empty tables at no cost.
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type {
  Command,
  CommandContext,
  Database,
  Outcome,
  Statements,
  Ticks,
  Value,
} from '../../src/database/database.ts';
import { forSqlite } from '../../src/database/dialect.ts';
import { INSERT_OUTBOX } from '../../src/database/event-row.ts';
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
} from '../../src/database/hot.ts';
import { migrate } from '../../src/database/migrate.ts';
import { sqliteFault } from '../../src/database/sqlite/faults.ts';
import { Touched } from '../../src/database/touched.ts';
import { uuidv7 } from '../../src/kit/id.ts';
import { MIGRATIONS } from '../../src/migrations.ts';
import { digestToBytes } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import type { Digest } from '../../src/oci/names.ts';
import type { Process, Scheduler } from './scheduler.ts';

/** A planted fault: other SQL than the program's, or another command under the same name. */
export interface Fault {
  readonly name: string;
  /** Each must be found in some statement, else the fault is planted nowhere. */
  readonly rewrite?: readonly (readonly [from: string, to: string])[];
  // biome-ignore lint/suspicious/noExplicitAny: commands of many arguments.
  readonly wrap?: (command: Command<any, any>) => Command<any, any>;
}

type Row = Record<string, unknown>;

/** The one connection. */
export class ModelDatabase {
  readonly #db: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();
  #fault: Fault | undefined;
  #running: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: commands of many arguments.
  #always: (command: Command<any, any>) => Command<any, any> = (same) => same;
  /** Rewrites that were found. */
  readonly planted = new Set<string>();
  readonly statements: Statements;

  private constructor(db: DatabaseSync) {
    this.#db = db;
    this.statements = {
      all: async <R>(text: string, ...values: readonly Value[]) => this.all(text, ...values) as R[],
      get: async <R>(text: string, ...values: readonly Value[]) => this.get(text, ...values) as R | undefined,
      run: async (text, ...values) => Number(this.#statement(text).run(...values.map(bind)).changes),
    };
  }

  /** Opens and migrates one. */
  static async open(): Promise<ModelDatabase> {
    const db = new DatabaseSync(':memory:', { enableForeignKeyConstraints: true });
    db.exec("attach database ':memory:' as side");
    const model = new ModelDatabase(db);
    await migrate(
      {
        dialect: 'sqlite',
        keepCopy: async () => undefined,
        transaction: (work) => work(model.statements, async (text) => db.exec(text)),
      },
      MIGRATIONS,
      1_700_000_000_000,
    );
    return model;
  }

  /** `always`: replaces commands in every run. */
  // biome-ignore lint/suspicious/noExplicitAny: commands of many arguments.
  begin(fault: Fault | undefined, always: (command: Command<any, any>) => Command<any, any> = (same) => same): void {
    this.#always = always;
    if (fault !== this.#fault) {
      this.#prepared.clear();
      this.planted.clear();
    }
    this.#fault = fault;
    this.#db.exec('begin');
  }

  reset(): void {
    this.#db.exec('rollback');
  }

  close(): void {
    this.#prepared.clear();
    this.#db.close();
  }

  all(text: string, ...values: readonly Value[]): Row[] {
    return this.#statement(text).all(...values.map(bind)) as Row[];
  }

  get(text: string, ...values: readonly Value[]): Row | undefined {
    return this.#statement(text).get(...values.map(bind)) as Row | undefined;
  }

  /** One command in its savepoint. Whatever is no RegistryError is the program's defect. */
  async run<A, R>(command: Command<A, R>, args: A, context: CommandContext): Promise<Outcome<R>> {
    const planted = this.#always(this.#fault?.wrap?.(command) ?? command);
    // One command is whole before the next one begins: their savepoints would mix.
    if (this.#running !== undefined) throw new Error(`${command.name} begins within ${this.#running}`);
    this.#running = command.name;
    this.#db.exec('savepoint command');
    try {
      const outcome = await planted.run(context, args);
      this.#db.exec('release command');
      return outcome;
    } catch (error) {
      this.#db.exec('rollback to command');
      this.#db.exec('release command');
      throw error instanceof RegistryError ? error : sqliteFault(error);
    } finally {
      this.#running = undefined;
    }
  }

  #statement(text: string): StatementSync {
    let statement = this.#prepared.get(text);
    if (statement === undefined) {
      statement = this.#db.prepare(this.#rewritten(forSqlite(text)));
      this.#prepared.set(text, statement);
    }
    return statement;
  }

  #rewritten(text: string): string {
    let done = text.replace(/\s+/g, ' ');
    for (const [from, to] of this.#fault?.rewrite ?? []) {
      if (!done.includes(from)) continue;
      done = done.replace(from, to);
      this.planted.add(from);
    }
    return done;
  }
}

function bind(value: Value): string | bigint | Uint8Array | null {
  return typeof value === 'number' ? BigInt(value) : value;
}

/** What the processes of a run share. */
export interface DatabaseWorld {
  readonly model: ModelDatabase;
  readonly scheduler: Scheduler;
  readonly ticks: Ticks;
  now(): number;
  /** Commits, by process: what another one committed invalidates what was cached. */
  readonly facades: Set<Facade>;
  /** Called with what must never happen. */
  defect(why: string, error?: unknown): void;
  /** A look-up found a blob that is stored under key n. */
  served(digest: Digest, n: number): void;
  /** Told after each command. */
  observe(process: Process, name: string, args: unknown, result: unknown): void;
}

/** A process's view of the database. */
export interface Facade {
  readonly process: Process;
  version: number;
  readonly touched: Touched;
}

/** The database as one process sees it. `sole`: there is no other process, so caches live by what they are told. */
export function databaseOf(world: DatabaseWorld, process: Process, sole: boolean): Database {
  const { model, scheduler, ticks } = world;
  const facade: Facade = { process, version: 0, touched: new Touched() };
  world.facades.add(facade);
  const context = (): CommandContext => {
    const now = world.now();
    return {
      sql: model.statements,
      get trx(): never {
        throw new Error('no command of the store uses it');
      },
      dialect: 'sqlite',
      shared: !sole,
      now,
      tick: (model.get('select tick from gc_clock where id = 1') as { tick: number }).tick,
      ticks,
      async outbox(type, repositoryId, payload) {
        await model.statements.run(
          INSERT_OUTBOX,
          uuidv7(now),
          type,
          repositoryId || null,
          JSON.stringify(payload),
          now,
        );
      },
    };
  };
  const look = <R>(label: string, read: () => R): Promise<R> => scheduler.at(process, label, async () => read());
  return {
    dialect: 'sqlite',
    shared: !sole,
    ticks,
    hot: {
      manifestByTag: (repository, tag) =>
        look('hot tag', () => manifestOf(model.get(MANIFEST_BY_TAG, tag, repository) as ManifestRow | undefined)),
      manifestByDigest: (repository, digest) =>
        look('hot manifest', () =>
          manifestOf(model.get(MANIFEST_BY_DIGEST, digestToBytes(digest), repository) as ManifestRow | undefined),
        ),
      blobByLink: (repository, digest) =>
        look('hot blob', () => {
          const blob = blobOf(model.get(BLOB_BY_LINK, digestToBytes(digest), repository) as BlobRow | undefined);
          if (blob?.state === 'live' && blob.stored) world.served(digest, blob.n);
          return blob;
        }),
      uploadById: (id) => look('hot upload', () => uploadOf(model.get(UPLOAD_BY_ID, id) as UploadRow | undefined)),
    },
    get read(): never {
      throw new Error('nothing of the store uses it');
    },
    query: {
      all: <R>(text: string, ...values: readonly Value[]) => look('query', () => model.all(text, ...values) as R[]),
      get: <R>(text: string, ...values: readonly Value[]) =>
        look('query', () => model.get(text, ...values) as R | undefined),
    },
    run: (command, args) =>
      scheduler.at(process, command.name, async () => {
        try {
          const { result, touched } = await model.run(command, args, context());
          for (const other of world.facades) if (other !== facade) other.version++;
          if (process.alive) facade.touched.tell(touched);
          world.observe(process, command.name, args, result);
          return result;
        } catch (error) {
          if (!(error instanceof RegistryError)) world.defect(`the command ${command.name} failed`, error);
          throw error;
        }
      }),
    onTouched: facade.touched.on,
    dataVersion: () => (sole ? undefined : facade.version),
    ping: async () => undefined,
    close: async () => undefined,
  };
}
