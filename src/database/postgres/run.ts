/** Commands on PostgreSQL: one transaction each, READ COMMITTED, run again where it surely was not committed. */
import type { QueryResult } from 'pg';
import { backoff } from '../../kit/backoff.ts';
import type { Clock } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/id.ts';
import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import type { Command, CommandContext, HintTopic, Outcome, RunOptions, Ticks } from '../database.ts';
import { INSERT_OUTBOX } from '../event-row.ts';
import { transactionOver } from '../kysely.ts';
import { leaseHeld, leaseLost } from '../lease.ts';
import { mayRunAgain, postgresFault, surelyAborted } from './faults.ts';
import type { Forward } from './forward.ts';
import type { Link } from './link.ts';
import { executeOn, type Pool, statementsOn } from './pool.ts';

/** What `runOn` needs besides the command. */
export interface RunEnvironment {
  readonly pool: Pool;
  /** Knows that the database never goes back. */
  readonly forward: Pick<Forward, 'known' | 'meet' | 'came'>;
  readonly ticks: Ticks;
  readonly clock: Clock;
  readonly log: Log;
  /** Called before the promise settles, also where it is unknown whether it was committed. */
  onTouched(repositories: readonly string[]): void;
  /** The statement that tells other processes of a topic at the commit. */
  telling(topic: HintTopic): string;
}

const RETRIES = 3;
const SLOW_MILLISECONDS = 50;
// The server's time, so that several servers agree on it, and the tick; in the round trip that begins.
const BEGIN = `begin isolation level read committed;
  select tick, (extract(epoch from clock_timestamp()) * 1000)::bigint as now from gc_clock where id = 1`;

const WRITE_EVENT = `${INSERT_OUTBOX} returning id`;

/** The transaction's connection broke before the commit was asked for: nothing of it is there. */
class Broken extends FaultError {
  constructor(cause: unknown) {
    super('unavailable', 'PostgreSQL does not answer.', { cause, retryAfterSeconds: 2 });
  }
}

/**
 * Runs a command. Rejects with what it threw. Deadlocks, serialization failures, and connections that broke before
 * the COMMIT are run again three times. A COMMIT whose answer was lost is FaultError `unavailable` and never run
 * again: it may have been done.
 */
export async function runOn<Args, Result>(
  environment: RunEnvironment,
  command: Command<Args, Result>,
  args: Args,
  options: RunOptions,
): Promise<Result> {
  const { clock, log, onTouched, pool } = environment;
  const deadline = pool.deadline();
  for (let attempt = 1; ; attempt++) {
    const began = clock.monotonic();
    try {
      const outcome = await once(environment, command, args, options, deadline);
      const milliseconds = Math.round(clock.monotonic() - began);
      if (milliseconds > SLOW_MILLISECONDS) {
        log.warn('a database command was slow', { command: command.name, milliseconds });
      }
      if (outcome.touched.length > 0) onTouched(outcome.touched);
      return outcome.result;
    } catch (error) {
      const again = mayRunAgain(error) || (error instanceof Broken && clock.monotonic() < deadline);
      if (attempt > RETRIES || !again) throw error;
    }
    await clock.sleep(backoff(attempt, 10, 200));
  }
}

async function once<Args, Result>(
  environment: RunEnvironment,
  command: Command<Args, Result>,
  args: Args,
  { lease }: RunOptions,
  deadline: number,
): Promise<Outcome<Result>> {
  const { pool, forward } = environment;
  // A later attempt has some time even where the first one took it all.
  const link = await pool.acquire('usual', Math.max(deadline, environment.clock.monotonic() + 100));
  // Behind the look at a new connection, and before anything is asked over it.
  const known = forward.known();
  let broken = false;
  let [tick, sequence] = [0, 0];
  try {
    let outcome: Outcome<Result>;
    try {
      const context = await begin(link, environment, (number) => {
        forward.meet(known, { sequence: number });
        sequence = Math.max(sequence, number);
      });
      tick = context.tick;
      forward.meet(known, { tick });
      outcome = await command.run(context, args);
      if (lease !== undefined) {
        const { text, values } = leaseHeld(lease);
        if ((await context.sql.get(text, ...values)) === undefined) throw leaseLost();
      }
    } catch (error) {
      if (link.dead !== undefined) throw link.dead instanceof FaultError ? link.dead : new Broken(link.dead);
      await link.query({ text: 'rollback' }).catch(() => {
        broken = true;
      });
      throw asLongshoreError(error);
    }
    try {
      await commit(link, command.name, command.tells === undefined ? '' : environment.telling(command.tells));
    } catch (error) {
      broken = true;
      if (error instanceof UnknownOutcome) environment.onTouched(outcome.touched);
      throw error;
    }
    forward.came(known, { tick, sequence });
    return outcome;
  } finally {
    pool.release(link, broken);
  }
}

/** A command's own mistakes are bugs; statements have thrown LongshoreErrors already. */
function asLongshoreError(error: unknown): Error {
  if (error instanceof Error && 'status' in error) return error;
  return new FaultError('bug', 'A database command failed in a way it did not foresee.', { cause: error });
}

/** `wrote`: hears the number of each event that is written. */
async function begin(link: Link, { ticks }: RunEnvironment, wrote: (number: number) => void): Promise<CommandContext> {
  let answers: QueryResult[];
  try {
    answers = (await link.query({ text: BEGIN })) as unknown as QueryResult[];
  } catch (error) {
    throw postgresFault(error);
  }
  const { tick, now } = (answers[1]?.rows[0] as { tick: number; now: number } | undefined) ?? { tick: 1, now: 0 };
  const sql = statementsOn(link);
  let trx: CommandContext['trx'] | undefined;
  return {
    sql,
    get trx() {
      return (trx ??= transactionOver('postgres', executeOn(link)));
    },
    dialect: 'postgres',
    shared: true,
    now,
    tick,
    ticks,
    async outbox(type, repositoryId, payload) {
      const values = [uuidv7(now), type, repositoryId || null, JSON.stringify(payload), now];
      const row = await sql.get<{ id: number }>(WRITE_EVENT, ...values);
      wrote(row?.id ?? 0);
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

async function commit(link: Link, name: string, before: string): Promise<void> {
  let answer: QueryResult | QueryResult[];
  try {
    answer = await link.query({ text: `${before}commit` });
  } catch (error) {
    if (surelyAborted(error)) throw postgresFault(error);
    throw new UnknownOutcome(error);
  }
  const last = Array.isArray(answer) ? answer.at(-1) : answer;
  if (last?.command !== 'COMMIT') {
    throw new FaultError('bug', `Command "${name}" went on after a statement of its transaction had failed.`);
  }
}
