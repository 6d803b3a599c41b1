/** One connection to PostgreSQL outside of any pool, for backup and restore: nothing there is cut short by a timeout. */
import { Client } from 'pg';
import type { Statements, Value } from '../database.ts';
import { forPostgres } from '../dialect.ts';
import { postgresFault } from './faults.ts';
import { bind, typeParsers } from './types.ts';

/** The connection. `ask` takes PostgreSQL's own words, `statements` those of both databases. */
export interface Single {
  readonly statements: Statements;
  ask<Row>(text: string, ...values: readonly Value[]): Promise<Row[]>;
  close(): Promise<void>;
}

const CONNECT_MILLISECONDS = 5_000;

/** Connects under a name that the server's list of sessions shows. FaultError, without the address. */
export async function connectSingle(url: string, name: string): Promise<Single> {
  const client = new Client({
    connectionString: url,
    application_name: name,
    connectionTimeoutMillis: CONNECT_MILLISECONDS,
    keepAlive: true,
    types: typeParsers as never,
  });
  // What breaks while nothing is asked shows at the next statement.
  client.on('error', () => undefined);
  const run = async (text: string, values: readonly Value[]) => {
    try {
      return await client.query({ text, values: values.map(bind) });
    } catch (error) {
      throw postgresFault(error);
    }
  };
  try {
    await client.connect();
  } catch (error) {
    throw postgresFault(error);
  }
  const ask = async <Row>(text: string, ...values: readonly Value[]): Promise<Row[]> =>
    (await run(text, values)).rows as Row[];
  return {
    ask,
    statements: {
      all: (text, ...values) => ask(forPostgres(text).text, ...values),
      get: async <Row>(text: string, ...values: readonly Value[]) =>
        (await ask<Row>(forPostgres(text).text, ...values))[0],
      run: async (text, ...values) => (await run(forPostgres(text).text, values)).rowCount ?? 0,
    },
    close: () => client.end(),
  };
}
