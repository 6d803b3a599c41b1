/** What a command has in its transaction, on SQLite. */
import type { Transaction } from 'kysely';
import { uuidv7 } from '../../kit/id.ts';
import type { CommandContext, Statements, Ticks } from '../database.ts';
import { INSERT_OUTBOX } from '../event-row.ts';
import { transactionOver } from '../kysely.ts';
import type { Tables } from '../schema.ts';
import type { Connection } from './connection.ts';

/** Makes the contexts of one connection. */
export class Contexts {
  readonly #connection: Connection;
  readonly #ticks: Ticks;
  #trx: Transaction<Tables> | undefined;

  constructor(connection: Connection, ticks: Ticks) {
    this.#connection = connection;
    this.#ticks = ticks;
  }

  /** The context of one command; the tick is read now, in its transaction. */
  of(now: number): CommandContext {
    const sql: Statements = this.#connection.statements;
    const tick = this.#connection.get<{ tick: number }>('select tick from gc_clock where id = 1', [])?.tick ?? 1;
    const trx = () => (this.#trx ??= transactionOver('sqlite', this.#connection.execute));
    return {
      sql,
      get trx() {
        return trx();
      },
      dialect: 'sqlite',
      shared: false,
      now,
      tick,
      ticks: this.#ticks,
      async outbox(type, repositoryId, payload) {
        await sql.run(INSERT_OUTBOX, uuidv7(now), type, repositoryId || null, JSON.stringify(payload), now);
      },
    };
  }
}
