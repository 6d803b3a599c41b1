/** Makes sure that each scheduled job has its one row, which stays from run to run and over restarts. */
import type { Command } from '../../database/database.ts';
import { SCHEDULE_KEY } from './job-finish.ts';

/** A type, and how often it runs. */
export interface Scheduled {
  readonly type: string;
  readonly everyMilliseconds: number;
}

const RUNNING = `select 1 as one from job where state = 'running' and type = ? and key = ?`;
// Where the interval was made shorter, the next run is drawn forward.
const INSERT = `insert into job (type, key, payload, state, run_at) values (?, ?, '{}', 'waiting', ?)
 on conflict (type, key) where state = 'waiting' and key is not null do nothing`;
const SOONER = `update job set run_at = ? where state = 'waiting' and type = ? and key = ? and attempt = 0 and run_at > ?`;

/** The first run ever is at once; after a restart it is when it would have been. */
export const jobSchedule: Command<{ readonly jobs: readonly Scheduled[] }, null> = {
  name: 'job-schedule',
  async run({ sql, now }, { jobs }) {
    for (const { type, everyMilliseconds } of [...jobs].sort((a, b) => (a.type < b.type ? -1 : 1))) {
      if ((await sql.get(RUNNING, type, SCHEDULE_KEY)) !== undefined) continue;
      await sql.run(INSERT, type, SCHEDULE_KEY, now);
      const latest = now + everyMilliseconds;
      await sql.run(SOONER, latest, type, SCHEDULE_KEY, latest);
    }
    return { result: null, touched: [] };
  },
};
