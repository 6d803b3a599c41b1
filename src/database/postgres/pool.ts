/** The connections to PostgreSQL: bounded, and so is who may wait for one. */
import { Pool as PgPool, type PoolClient } from 'pg';
import { FaultError } from '../../oci/error.ts';
import type { Statements } from '../database.ts';
import { forPostgres } from '../dialect.ts';
import type { Execute } from '../kysely.ts';
import { postgresFault } from './faults.ts';
import { bind, typeParsers } from './types.ts';

/** What a pool is made of. */
export interface PoolOptions {
  /** `postgres://…`; it may hold a password, so it is never part of a message. */
  readonly url: string;
  readonly connections: number;
  /** How many may wait for a connection. */
  readonly waiting: number;
  onBroken(error: Error): void;
}

const CONNECT_MILLISECONDS = 5000;

/** Whatever runs a query of `pg`: the pool, or one of its clients. */
type Runner = Pick<PoolClient, 'query'>;

/** Prepared statements on a client: parsed once a connection under a name made of the text. */
export function statementsOn(runner: () => Promise<Runner> | Runner): Statements {
  const query = async (text: string, values: readonly unknown[]) => {
    const bound = values.map(bind);
    const on = await runner();
    try {
      return await on.query({ ...forPostgres(text), values: bound });
    } catch (error) {
      throw postgresFault(error);
    }
  };
  return {
    all: async <Row>(text: string, ...values: readonly unknown[]) => (await query(text, values)).rows as Row[],
    get: async <Row>(text: string, ...values: readonly unknown[]) =>
      (await query(text, values)).rows[0] as Row | undefined,
    run: async (text, ...values) => (await query(text, values)).rowCount ?? 0,
  };
}

/** Statements of any text, unnamed, in PostgreSQL's own dialect: for Kysely and for DDL. */
export function executeOn(runner: () => Promise<Runner> | Runner): Execute {
  return async (text, values) => {
    const bound = values.map(bind);
    const on = await runner();
    try {
      const { rows, rowCount, command } = await on.query({ text, values: bound });
      return command === 'SELECT' ? { rows } : { rows, changed: rowCount ?? 0 };
    } catch (error) {
      throw postgresFault(error);
    }
  };
}

/** The pool. */
export class Pool {
  readonly #pool: PgPool;
  readonly #waiting: number;
  /** The pool forgets who waits for a connection when it ends. */
  readonly #running = new Set<Promise<unknown>>();
  readonly statements: Statements;
  readonly execute: Execute;

  constructor({ url, connections, waiting, onBroken }: PoolOptions) {
    this.#waiting = waiting;
    this.#pool = new PgPool({
      connectionString: url,
      max: connections,
      connectionTimeoutMillis: CONNECT_MILLISECONDS,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      application_name: 'longshore',
      statement_timeout: 30_000,
      lock_timeout: 10_000,
      idle_in_transaction_session_timeout: 60_000,
      types: typeParsers as never,
    });
    // An idle connection that breaks; without a listener it would end the process.
    this.#pool.on('error', onBroken);
    const runner = (): Runner => {
      this.#checkRoom();
      return this.#pool as unknown as Runner;
    };
    const { all, get, run } = statementsOn(runner);
    const execute = executeOn(runner);
    this.statements = {
      all: (text, ...values) => this.track(all(text, ...values)),
      get: (text, ...values) => this.track(get(text, ...values)),
      run: (text, ...values) => this.track(run(text, ...values)),
    };
    this.execute = (text, values) => this.track(execute(text, values));
  }

  /** A connection of one's own; give it back with `release`. FaultError `full` or `unavailable`. */
  async connect(): Promise<PoolClient> {
    this.#checkRoom();
    try {
      return await this.#pool.connect();
    } catch (error) {
      throw postgresFault(error);
    }
  }

  /** Makes `close` wait for the work. */
  track<Result>(work: Promise<Result>): Promise<Result> {
    const end = (): void => void this.#running.delete(work);
    this.#running.add(work);
    work.then(end, end);
    return work;
  }

  /** Waits for what runs or waits, and closes every connection. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#running);
    await this.#pool.end();
  }

  #checkRoom(): void {
    if (this.#pool.waitingCount >= this.#waiting) {
      throw new FaultError('full', 'Too many requests wait for PostgreSQL.', { retryAfterSeconds: 2 });
    }
  }
}
