/**
 * How the soak reads a database from outside: one consistent snapshot, read only, by the same SQL on SQLite and
 * PostgreSQL. Nothing of the program takes part, so that the program cannot be believed by mistake.
 */
import { DatabaseSync } from 'node:sqlite';
import { Client, types } from 'pg';

/** A snapshot's tables. */
export interface Tables {
  all<Row>(text: string): Promise<Row[]>;
}

/** Runs `work` on one snapshot. */
export type Look = <T>(work: (tables: Tables) => Promise<T>) => Promise<T>;

/** The database file of a server that may be running. */
export function lookAtFile(file: string): Look {
  return async (work) => {
    using database = new DatabaseSync(file, { readOnly: true, timeout: 60_000 });
    database.exec('begin');
    return await work({ all: async <Row>(text: string) => database.prepare(text).all() as unknown as Row[] });
  };
}

/** bigint and numeric as numbers: nothing here is beyond 2^53. */
const getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === 20 || oid === 1700 ? (text: string) => Number(text) : types.getTypeParser(oid, format as 'text');

/** A PostgreSQL database that servers are using. */
export function lookAtPostgres(url: string): Look {
  return async (work) => {
    const client = new Client({ connectionString: url, types: { getTypeParser: getTypeParser as never } });
    await client.connect();
    try {
      await client.query('begin isolation level repeatable read read only');
      return await work({ all: async <Row>(text: string) => (await client.query(text)).rows as Row[] });
    } finally {
      await client.end();
    }
  };
}
