/**
 * Moving an installation's tables from one database to another: each table in pages by its primary key, out of one
 * snapshot and into one transaction, so that the target has everything or nothing. Tables are found in the schema, so
 * none can be forgotten.
 */
import { FaultError } from '../../oci/error.ts';
import type { AppliedMigration } from '../migrate.ts';

/** A table as both databases have it. */
export interface TableShape {
  readonly name: string;
  /** In no order. */
  readonly columns: readonly string[];
  readonly primaryKey: readonly string[];
  /** Tables that its foreign keys name. */
  readonly references: readonly string[];
}

/** A row: integers, text, bytes, null. */
export type MovedRow = Readonly<Record<string, unknown>>;

/** A database in one transaction: a snapshot to read, or an empty place to write. */
export interface MoveSide {
  readonly kind: 'SQLite' | 'PostgreSQL';
  migrations(): Promise<readonly AppliedMigration[]>;
  tables(): Promise<readonly TableShape[]>;
  count(table: string): Promise<number>;
  /** At most `limit` rows behind `after` (values of the primary key, absent: from the start), in its order. */
  page(table: TableShape, after: readonly unknown[] | undefined, limit: number): Promise<MovedRow[]>;
  insert(table: TableShape, rows: readonly MovedRow[]): Promise<void>;
  clear(table: string): Promise<void>;
  /** Highest id that was ever given out in a table that numbers its rows; such tables only. */
  sequences(): Promise<ReadonlyMap<string, number>>;
  setSequence(table: string, value: number): Promise<void>;
  commit(): Promise<void>;
  /** Gives up what was not committed, and closes. */
  close(): Promise<void>;
}

/** What was moved. */
export interface Moved {
  readonly tables: readonly { readonly name: string; readonly rows: number }[];
}

/** Tables that have rows once an installation was used: the target must have none there. */
const USED = ['repository', 'blob', 'content', 'account', 'signing_key', 'upload', 'tag_event', 'outbox'];
/** Which migrations have run is the target's own matter. */
const KEPT = new Set(['migration']);
const ROWS = 250;
/** Rows of tables with whole manifests and blobs in them, of up to 4 MiB each. */
const LARGE_ROWS = 16;

/** Moves all rows. `progress` is told after each table. FaultError `unavailable` where they do not fit each other, before anything is changed. */
export async function moveTables(
  from: MoveSide,
  to: MoveSide,
  progress: (table: string, rows: number) => void = () => undefined,
): Promise<Moved> {
  const [here, there] = [await from.migrations(), await to.migrations()];
  if (JSON.stringify(here) !== JSON.stringify(there)) {
    throw new FaultError('unavailable', 'The two databases are of different versions of Longshore.');
  }
  for (const name of USED) {
    if ((await to.count(name)) === 0) continue;
    throw new FaultError(
      'unavailable',
      `The ${to.kind} target is not empty ("${name}" has rows): give a new database.`,
    );
  }
  const tables = inOrder(await from.tables()).filter(({ name }) => !KEPT.has(name));
  checkShapes(tables, await to.tables());
  for (const { name } of [...tables].reverse()) await to.clear(name);
  const moved: { name: string; rows: number }[] = [];
  for (const table of tables) {
    const rows = await moveTable(from, to, table);
    moved.push({ name: table.name, rows });
    progress(table.name, rows);
  }
  for (const [table, value] of await from.sequences()) await to.setSequence(table, value);
  for (const { name, rows } of moved) {
    const [source, target] = [await from.count(name), await to.count(name)];
    if (source === rows && target === rows) continue;
    throw new FaultError('corrupt', `"${name}" has ${source} rows in the source and ${target} in the target.`);
  }
  await to.commit();
  return { tables: moved };
}

async function moveTable(from: MoveSide, to: MoveSide, table: TableShape): Promise<number> {
  const limit = table.columns.includes('bytes') ? LARGE_ROWS : ROWS;
  let moved = 0;
  let after: unknown[] | undefined;
  for (;;) {
    const rows = await from.page(table, after, limit);
    if (rows.length > 0) await to.insert(table, rows);
    moved += rows.length;
    if (rows.length < limit) return moved;
    const last = rows[rows.length - 1]!;
    after = table.primaryKey.map((column) => last[column]);
  }
}

/** Each table after those that its foreign keys name. */
function inOrder(tables: readonly TableShape[]): readonly TableShape[] {
  const done = new Map<string, TableShape>();
  let left = [...tables].sort((a, b) => (a.name < b.name ? -1 : 1));
  while (left.length > 0) {
    const ready = left.filter(({ name, references }) => references.every((one) => one === name || done.has(one)));
    if (ready.length === 0) throw new FaultError('bug', 'The foreign keys of the tables go in a circle.');
    for (const table of ready) done.set(table.name, table);
    left = left.filter(({ name }) => !done.has(name));
  }
  return [...done.values()];
}

function checkShapes(from: readonly TableShape[], to: readonly TableShape[]): void {
  const text = ({ name, columns, primaryKey }: TableShape): string =>
    `${name}(${[...columns].sort().join(', ')}; ${primaryKey.join(', ')})`;
  const target = new Set(to.map(text));
  const wrong = from.find((table) => table.primaryKey.length === 0 || !target.has(text(table)));
  if (wrong !== undefined) throw new FaultError('bug', `The table "${wrong.name}" is not alike in both databases.`);
}

/** The text that reads a page; placeholders by `mark`. */
export function pageText(table: TableShape, after: boolean, limit: number, mark: (index: number) => string): string {
  const keys = table.primaryKey.map(quoted).join(', ');
  const marks = table.primaryKey.map((_, index) => mark(index + 1)).join(', ');
  const where = after ? ` where (${keys}) > (${marks})` : '';
  return `select ${table.columns.map(quoted).join(', ')} from ${quoted(table.name)}${where} order by ${keys} limit ${limit}`;
}

/** A name from the schema as SQL takes it. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
