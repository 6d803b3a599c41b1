/**
 * Changes of the schema: a checked-in, numbered list, of which a database runs what it has not run, each in one
 * transaction. A change expands first and contracts in a later release, so that the version before still runs.
 */
import { uuidv7 } from '../kit/id.ts';
import { FaultError } from '../oci/error.ts';
import type { Statements } from './database.ts';
import { type DialectName, ddl } from './dialect.ts';

/** What a migration's `fill` may need. */
export interface MigrationFacts {
  readonly dialect: DialectName;
  /** Wall milliseconds. */
  readonly now: number;
  uuid(): string;
}

/** One change. `ddl` in the words of `dialect.ts`; `fill` moves or adds rows after it, in the same transaction. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly ddl: string;
  fill?(sql: Statements, facts: MigrationFacts): Promise<void>;
}

/** What a database must offer so that it can be migrated. */
export interface MigrationTarget {
  readonly dialect: DialectName;
  /** Called once before the first change of a database that has tables already: keeps a copy where it can. */
  keepCopy(version: number): Promise<void>;
  /** Runs `work` in one transaction that excludes every other migration. */
  transaction(work: (sql: Statements, run: (ddl: string) => Promise<void>) => Promise<void>): Promise<void>;
}

/** A row of `migration`. */
export interface AppliedMigration {
  readonly number: number;
  readonly name: string;
}

/** The migrations that were run; none where there are no tables yet. */
async function appliedIn(sql: Statements, dialect: DialectName): Promise<readonly AppliedMigration[]> {
  const there = await sql.get<{ found: number }>(
    dialect === 'sqlite'
      ? "select 1 as found from main.sqlite_schema where type = 'table' and name = 'migration'"
      : "select 1 as found where to_regclass('migration') is not null",
  );
  return there === undefined ? [] : sql.all('select number, name from migration order by number');
}

/** Throws FaultError `bug` where the list itself is not numbered 1, 2, 3, … with distinct names. */
function checkList(migrations: readonly Migration[]): void {
  const names = new Set<string>();
  for (const [index, { number, name }] of migrations.entries()) {
    if (number !== index + 1 || names.has(name)) {
      throw new FaultError('bug', `The list of migrations is out of order at number ${number}, "${name}".`);
    }
    names.add(name);
  }
}

function checkApplied(applied: readonly AppliedMigration[], migrations: readonly Migration[]): void {
  const newest = applied.at(-1)?.number ?? 0;
  if (newest > migrations.length) {
    throw new FaultError(
      'unavailable',
      `The database is newer than this program: it has schema ${newest}, this program knows ${migrations.length}. ` +
        'Start the newer Longshore again, or restore the copy or backup that was made before the upgrade.',
    );
  }
  for (const { number, name } of applied) {
    if (migrations[number - 1]?.name !== name) {
      throw new FaultError(
        'unavailable',
        `The database has run migration ${number} as "${name}", which this program does not know: it was made by another program.`,
      );
    }
  }
}

/**
 * Brings the database to the end of the list. Returns how many changes it ran. Throws FaultError `unavailable` where
 * the database is newer than the program, and whatever a change threw, after which the database is as before it.
 */
export async function migrate(target: MigrationTarget, migrations: readonly Migration[], now: number): Promise<number> {
  checkList(migrations);
  let before: readonly AppliedMigration[] = [];
  await target.transaction(async (sql) => {
    before = await appliedIn(sql, target.dialect);
  });
  checkApplied(before, migrations);
  const missing = migrations.slice(before.length);
  if (missing.length > 0 && before.length > 0) await target.keepCopy(before.length);
  let ran = 0;
  for (const migration of missing) {
    await target.transaction(async (sql, run) => {
      // Another server may have run it while this one waited for the lock.
      const applied = await appliedIn(sql, target.dialect);
      checkApplied(applied, migrations);
      if (applied.some(({ number }) => number === migration.number)) return;
      for (const statement of ddl(target.dialect, migration.ddl)) await run(statement);
      await migration.fill?.(sql, { dialect: target.dialect, now, uuid: () => uuidv7(now) });
      await sql.run(
        'insert into migration (number, name, applied_at) values (?, ?, ?)',
        migration.number,
        migration.name,
        now,
      );
      ran++;
    });
  }
  return ran;
}
