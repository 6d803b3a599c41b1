/** Commands on PostgreSQL: one transaction each, READ COMMITTED, run again where it lost to another. */
import type { PoolClient, QueryResult } from 'pg';
import { backoff } from '../../kit/backoff.ts';
import type { Clock } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/id.ts';
import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import type { Command, CommandContext, Outcome, RunOptions, Ticks } from '../database.ts';
import { INSERT_OUTBOX } from '../event-row.ts';
import { transactionOver } from '../kysely.ts';
import { leaseHeld, leaseLost } from '../lease.ts';
import { mayRunAgain, postgresFault, surelyAborted } from './faults.ts';
import { executeOn, type Pool, statementsOn } from './pool.ts';

/** What `runOn` needs besides the command. */
export interface RunEnvironment {
  readonly pool: Pool;
  readonly ticks: Ticks;
  readonly clock: Clock;
  readonly log: Log;
  /** Called before the promise settles, also where it is unknown whether it was committed. */
  onTouched(repositories: readonly string[]): void;
}

const RETRIES = 3;
const SLOW_MILLISECONDS = 50;
// The server's time, so that several servers agree on it, and the tick, in one round trip.
const NOW = `select tick, (extract(epoch from clock_timestamp()) * 1000)::bigint as now from gc_clock where id = 1`;

/**
 * Runs a command. Rejects with what it threw; deadlocks and serialization failures are run again three times. A
 * COMMIT whose answer was lost is FaultError `unavailable` and never run again: it may have been done.
 */
export async function runOn<Args, Result>(
  environment: RunEnvironment,
  command: Command<Args, Result>,
  args: Args,
  options: RunOptions,
): Promise<Result> {
  const { clock, log, onTouched } = environment;
  for (let attempt = 1; ; attempt++) {
    const began = clock.monotonic();
    try {
      const outcome = await once(environment, command, args, options);
      const milliseconds = Math.round(clock.monotonic() - began);
      if (milliseconds > SLOW_MILLISECONDS) {
        log.warn('a database command was slow', { command: command.name, milliseconds });
      }
      if (outcome.touched.length > 0) onTouched(outcome.touched);
      return outcome.result;
    } catch (error) {
      if (attempt > RETRIES || !mayRunAgain(error)) throw error;
    }
    await clock.sleep(backoff(attempt, 10, 200));
  }
}

async function once<Args, Result>(
  environment: RunEnvironment,
  command: Command<Args, Result>,
  args: Args,
  { lease }: RunOptions,
): Promise<Outcome<Result>> {
  const client = await environment.pool.connect();
  let broken = false;
  try {
    let outcome: Outcome<Result>;
    try {
      const context = await begin(client, environment.ticks);
      outcome = await command.run(context, args);
      if (lease !== undefined) {
        const { text, values } = leaseHeld(lease);
        if ((await context.sql.get(text, ...values)) === undefined) throw leaseLost();
      }
    } catch (error) {
      await client.query('rollback').catch(() => {
        broken = true;
      });
      throw postgresFaultOf(error);
    }
    try {
      await commit(client, command.name);
    } catch (error) {
      broken = true;
      if (error instanceof UnknownOutcome) environment.onTouched(outcome.touched);
      throw error;
    }
    return outcome;
  } finally {
    client.release(broken);
  }
}

/** A command's own mistakes are bugs; statements have thrown LongshoreErrors already. */
function postgresFaultOf(error: unknown): Error {
  if (error instanceof Error && 'status' in error) return error;
  return new FaultError('bug', 'A database command failed in a way it did not foresee.', { cause: error });
}

async function begin(client: PoolClient, ticks: Ticks): Promise<CommandContext> {
  const sql = statementsOn(() => client);
  // Both are sent at once; the second waits for the first on the connection. Neither may reject unheard.
  const began = client.query('begin isolation level read committed').catch((error: unknown) => {
    throw postgresFault(error);
  });
  const [, facts] = await Promise.all([began, sql.get<{ tick: number; now: number }>(NOW)]);
  const { tick, now } = facts ?? { tick: 1, now: 0 };
  let trx: CommandContext['trx'] | undefined;
  return {
    sql,
    get trx() {
      return (trx ??= transactionOver(
        'postgres',
        executeOn(() => client),
      ));
    },
    dialect: 'postgres',
    shared: true,
    now,
    tick,
    ticks,
    async outbox(type, repositoryId, payload) {
      await sql.run(INSERT_OUTBOX, uuidv7(now), type, repositoryId || null, JSON.stringify(payload), now);
    },
  };
}

/** The server's answer to COMMIT never came. */
class UnknownOutcome extends FaultError {
  constructor(cause: unknown) {
    super('unavailable', 'PostgreSQL did not confirm the change; it may or may not be stored.', {
      cause,
      retryAfterSeconds: 5,
    });
  }
}

async function commit(client: PoolClient, name: string): Promise<void> {
  let result: QueryResult;
  try {
    result = await client.query('commit');
  } catch (error) {
    if (surelyAborted(error)) throw postgresFault(error);
    throw new UnknownOutcome(error);
  }
  if (result.command !== 'COMMIT') {
    throw new FaultError('bug', `Command "${name}" went on after a statement of its transaction had failed.`);
  }
}
