/**
 * A connection to the two SQLite files, with its settings and its prepared statements. Everything is synchronous;
 * rows are always read to the end (an open read would keep the write-ahead log from being emptied).
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { FaultError } from '../../oci/error.ts';
import type { Statements, Value } from '../database.ts';
import { forSqlite } from '../dialect.ts';
import { checkNumber } from '../faults.ts';
import type { Execute } from '../kysely.ts';
import { sqliteFault } from './faults.ts';

/** `full`: a commit is on the disk before it is acknowledged. `relaxed`: a power cut may lose the last seconds. */
export type Durability = 'full' | 'relaxed';

/** Which files, and how. */
export interface ConnectionOptions {
  readonly path: string;
  /** The second file; absent for the look-ups of the request loop, which do not read it. */
  readonly sidePath?: string;
  readonly readOnly: boolean;
  readonly durability: Durability;
  /** Most memory for pages, KiB. */
  readonly cacheKib: number;
}

/** A released defect of SQLite's write-ahead log was mended in this version. */
const OLDEST = [3, 51, 3] as const;
const STATEMENTS = 1024;
const BUSY_MILLISECONDS = 1000;

function checkVersion(version: string): void {
  const parts = version.split('.').map(Number);
  for (const [index, least] of OLDEST.entries()) {
    const part = parts[index] ?? 0;
    if (part > least) return;
    if (part < least) {
      throw new FaultError(
        'unavailable',
        `SQLite ${version} is too old: Longshore needs ${OLDEST.join('.')} or newer, which comes with Node 26.`,
      );
    }
  }
}

/** Integers go in as integers (node would bind them as floating point), and only safe ones. */
function bind(value: unknown): string | bigint | Uint8Array | null {
  switch (typeof value) {
    case 'number':
      checkNumber(value);
      return BigInt(value);
    case 'boolean':
      return value ? 1n : 0n;
    case 'string':
    case 'bigint':
      return value;
    default:
      if (value === null || value instanceof Uint8Array) return value;
      throw new FaultError('bug', `A database value is of a type that does not exist there: ${typeof value}.`);
  }
}

/** One connection. Methods throw what SQLite threw; `statements` and `execute` give promises of the same. */
export class Connection {
  readonly db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly statements: Statements;
  /** For Kysely: any text, changes counted. */
  readonly execute: Execute;

  /** Opens, and asserts every setting that matters. Throws FaultError. */
  constructor(options: ConnectionOptions) {
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(options.path, {
        readOnly: options.readOnly,
        enableForeignKeyConstraints: true,
        enableDoubleQuotedStringLiterals: false,
        timeout: BUSY_MILLISECONDS,
      });
      configure(db, options);
    } catch (error) {
      db?.close();
      throw sqliteFault(error);
    }
    this.db = db;
    this.statements = {
      all: async <Row>(text: string, ...values: readonly Value[]) => this.all<Row>(forSqlite(text), values),
      get: async <Row>(text: string, ...values: readonly Value[]) => this.get<Row>(forSqlite(text), values),
      run: async (text, ...values) => this.run(forSqlite(text), values),
    };
    this.execute = async (text, values) => {
      const rows = this.all<unknown>(text, values);
      // `changes()` keeps the count of the last change, so it is asked only after one.
      if (/^\s*(select|with|pragma)\b/i.test(text)) return { rows };
      return { rows, changed: (this.get<{ n: number }>('select changes() as n', []) as { n: number }).n };
    };
  }

  /** The statement of a text, prepared once and kept; the oldest is forgotten beyond a bound. */
  prepare(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (statement === undefined) {
      statement = this.db.prepare(text);
      if (this.#statements.size >= STATEMENTS) {
        const [oldest] = this.#statements.keys();
        this.#statements.delete(oldest as string);
      }
      this.#statements.set(text, statement);
    }
    return statement;
  }

  all<Row>(text: string, values: readonly unknown[]): Row[] {
    return this.prepare(text).all(...values.map(bind)) as Row[];
  }

  get<Row>(text: string, values: readonly unknown[]): Row | undefined {
    return this.prepare(text).get(...values.map(bind)) as Row | undefined;
  }

  run(text: string, values: readonly unknown[]): number {
    return Number(this.prepare(text).run(...values.map(bind)).changes);
  }

  /**
   * Moves what the logs hold into the files, as far as that is possible now, and cuts the logs off. False where the
   * disk had no room for what the files grow by.
   */
  emptyLog(): boolean {
    try {
      // It waits for readers, and must not keep the next batch waiting long.
      this.db.exec('pragma busy_timeout = 50');
      for (const schema of ['main', 'side']) this.db.exec(`pragma ${schema}.wal_checkpoint(truncate)`);
      return true;
    } catch (error) {
      // Whatever is written next meets the same trouble and reports it.
      return sqliteFault(error).code !== 'full';
    } finally {
      this.db.exec(`pragma busy_timeout = ${BUSY_MILLISECONDS}`);
    }
  }

  /** Closes; errors are swallowed, as nobody can do anything about them. */
  close(): void {
    this.#statements.clear();
    try {
      if (this.db.isOpen) this.db.close();
    } catch {
      // The file is closed by the system at the latest with the process.
    }
  }
}

function pragma(db: DatabaseSync, text: string): unknown {
  const row = db.prepare(`pragma ${text}`).get();
  return row === undefined ? undefined : Object.values(row)[0];
}

function configure(db: DatabaseSync, options: ConnectionOptions): void {
  checkVersion(String(Object.values(db.prepare('select sqlite_version()').get() ?? {})[0]));
  if (options.sidePath !== undefined) db.prepare('attach database ? as side').run(options.sidePath);
  db.exec(`pragma cache_size = -${options.cacheKib}`);
  // An I/O error under a memory map kills the process.
  db.exec('pragma mmap_size = 0');
  db.exec('pragma temp_store = memory');
  if (pragma(db, 'foreign_keys') !== 1) throw new FaultError('bug', 'SQLite does not enforce foreign keys.');
  if (options.readOnly) {
    db.exec('pragma query_only = on');
    return;
  }
  for (const schema of options.sidePath === undefined ? ['main'] : ['main', 'side']) {
    const mode = pragma(db, `${schema}.journal_mode = wal`);
    if (mode !== 'wal') {
      throw new FaultError('unavailable', `The database's folder does not allow a write-ahead log (got "${mode}").`);
    }
    // What lies in the second file (leases, counts) is taken up again after a power cut; it need not wait for the disk.
    const sync = options.durability === 'full' && schema === 'main' ? 'full' : 'normal';
    db.exec(`pragma ${schema}.synchronous = ${sync}`);
    db.exec(`pragma ${schema}.journal_size_limit = ${64 * 1024 * 1024}`);
  }
  db.exec('pragma wal_autocheckpoint = 10000');
}
