/** After the wall clock was set back: what waits for a time by the old clock would wait as long by the new one. */
import type { Command } from '../../database/database.ts';

const WAITING = `update job set run_at = run_at - ? where state = 'waiting' and run_at > ?`;
const LEASES = 'update job_lease set until_at = until_at - ? where until_at > ?';

/** Takes `by` milliseconds from every time that is still to come. */
export const jobShift: Command<{ readonly by: number }, null> = {
  name: 'job-shift',
  async run({ sql, now }, { by }) {
    await sql.run(WAITING, by, now);
    await sql.run(LEASES, by, now);
    return { result: null, touched: [] };
  },
};
