/** Kysely over whatever executes a text: the reader thread, the pool, or the one connection of a transaction. */
import {
  type CompiledQuery,
  type DatabaseConnection,
  DefaultQueryExecutor,
  type Dialect,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  SingleConnectionProvider,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  Transaction,
} from 'kysely';
import type { DialectName } from './dialect.ts';
import type { Tables } from './schema.ts';

/** Executes one statement. `changed` is the number of rows a change changed. */
export type Execute = (
  text: string,
  values: readonly unknown[],
) => Promise<{ readonly rows: unknown[]; readonly changed?: number }>;

function connectionOf(execute: Execute): DatabaseConnection {
  return {
    async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
      const { rows, changed } = await execute(query.sql, query.parameters);
      return { rows: rows as R[], ...(changed === undefined ? {} : { numAffectedRows: BigInt(changed) }) };
    },
    // biome-ignore lint/correctness/useYield: streams are not offered; an open read would pin the WAL.
    async *streamQuery() {
      throw new Error('The database gives no streams: page by key instead.');
    },
  };
}

const refuse = async (): Promise<void> => {
  throw new Error('Transactions begin in database.run only.');
};

function dialectOf(name: DialectName, connection: DatabaseConnection): Dialect {
  const driver: Driver = {
    init: async () => {},
    acquireConnection: async () => connection,
    beginTransaction: refuse,
    commitTransaction: refuse,
    rollbackTransaction: refuse,
    releaseConnection: async () => {},
    destroy: async () => {},
  };
  return {
    createDriver: () => driver,
    createAdapter: () => (name === 'sqlite' ? new SqliteAdapter() : new PostgresAdapter()),
    createQueryCompiler: () => (name === 'sqlite' ? new SqliteQueryCompiler() : new PostgresQueryCompiler()),
    createIntrospector: (db) => (name === 'sqlite' ? new SqliteIntrospector(db) : new PostgresIntrospector(db)),
  };
}

/** A Kysely that only reads, statement by statement. */
export function kyselyOver(name: DialectName, execute: Execute): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: dialectOf(name, connectionOf(execute)) });
}

/** A transaction that someone else begins and ends, as Kysely's type. */
export function transactionOver(name: DialectName, execute: Execute): Transaction<Tables> {
  const connection = connectionOf(execute);
  const dialect = dialectOf(name, connection);
  const executor = new DefaultQueryExecutor(
    dialect.createQueryCompiler(),
    dialect.createAdapter(),
    new SingleConnectionProvider(connection),
  );
  return new Transaction<Tables>({ config: { dialect }, dialect, driver: dialect.createDriver(), executor });
}
