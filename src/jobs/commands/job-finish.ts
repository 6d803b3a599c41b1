/** Ends an attempt: done, again later, given up, or handed back because the process stops. */
import type { Command, CommandContext } from '../../database/database.ts';
import type { Held } from './job-lease.ts';

/**
 * `again` counts the attempt, `handed-back` does not. `outcome` is for people, kept with what was given up.
 * `everyMilliseconds`: a scheduled job, which waits for its next turn however this one ended.
 */
export interface Finish extends Held {
  readonly how: 'done' | 'again' | 'given-up' | 'handed-back';
  readonly delayMilliseconds: number;
  readonly outcome: string;
  readonly everyMilliseconds?: number;
  /** With `again`: the attempt does not count, because an outage was to blame. */
  readonly uncounted?: boolean;
}

interface Row {
  readonly type: string;
  readonly key: string | null;
  readonly payload: string;
  readonly attempt: number;
}

/** The key of a scheduled job's row: there is one for each type. */
export const SCHEDULE_KEY = 'schedule';

const MINE = `select type, key, payload, attempt from job where id = ? and fence = ? and state = 'running'{ for update}`;
const DELETE = 'delete from job where id = ?';
const DELETE_LEASE = 'delete from job_lease where job_id = ? and fence = ?';
const WAIT = `insert into job (type, key, payload, state, run_at, attempt) values (?, ?, ?, 'waiting', ?, ?)
 on conflict (type, key) where state = 'waiting' and key is not null do nothing`;
const GIVE_UP = `update job set state = 'failed', outcome = ? where id = ?`;
const FORGET_SAME = `delete from job where state = 'failed' and type = ? and key = ? and id <> ?`;
const FORGET_OLD = `delete from job where state = 'failed' and id <= (
 select id from job where state = 'failed' order by id desc limit 1 offset 1000)`;

/** Whether the attempt still held its lease; if not, nothing was changed. */
export const jobFinish: Command<Finish, boolean> = {
  name: 'job-finish',
  async run(context, finish) {
    const { sql } = context;
    const { id, fence } = finish;
    const row = await sql.get<Row>(MINE, id, fence);
    await sql.run(DELETE_LEASE, id, fence);
    if (row !== undefined) await end(context, finish, row);
    return { result: row !== undefined, touched: [] };
  },
};

/**
 * What waits again gets a new row rather than its old one: where a request of the same key came meanwhile, that one
 * stands for both.
 */
async function end({ sql, now }: CommandContext, finish: Finish, row: Row): Promise<void> {
  const { type, key, payload, attempt } = row;
  const { id, how, delayMilliseconds, outcome, everyMilliseconds } = finish;
  if (how === 'given-up') {
    await sql.run(GIVE_UP, outcome, id);
    if (key !== null) await sql.run(FORGET_SAME, type, key, id);
    await sql.run(FORGET_OLD);
  } else await sql.run(DELETE, id);
  if (how === 'again')
    await sql.run(WAIT, type, key, payload, now + delayMilliseconds, finish.uncounted === true ? attempt - 1 : attempt);
  else if (how === 'handed-back') await sql.run(WAIT, type, key, payload, now, attempt - 1);
  else if (everyMilliseconds !== undefined && key === SCHEDULE_KEY) {
    await sql.run(WAIT, type, key, payload, now + everyMilliseconds, 0);
  }
}
