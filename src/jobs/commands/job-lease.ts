/** What a worker writes while a job runs: only the lease's row, in the second SQLite file. */
import type { Command } from '../../database/database.ts';

/** A lease as it was granted. */
export interface Held {
  readonly id: number;
  readonly fence: number;
}

const RENEW = 'update job_lease set until_at = ? where job_id = ? and fence = ? and owner = ?';
const PROGRESS = 'update job_lease set progress = ? where job_id = ? and fence = ?';

/** Gives the ids of those that are not held any more. */
export const jobRenew: Command<
  { readonly owner: string; readonly jobs: readonly (Held & { readonly leaseMilliseconds: number })[] },
  readonly number[]
> = {
  name: 'job-renew',
  file: 'side',
  async run({ sql, now }, { owner, jobs }) {
    const lost: number[] = [];
    // In one order, so that two workers' renewals do not lock crosswise.
    for (const { id, fence, leaseMilliseconds } of [...jobs].sort((a, b) => a.id - b.id)) {
      if ((await sql.run(RENEW, now + leaseMilliseconds, id, fence, owner)) === 0) lost.push(id);
    }
    return { result: lost, touched: [] };
  },
};

/** `progress`: JSON. Of no effect where the lease is another's by now. */
export const jobProgress: Command<Held & { readonly progress: string }, null> = {
  name: 'job-progress',
  file: 'side',
  async run({ sql }, { id, fence, progress }) {
    await sql.run(PROGRESS, progress, id, fence);
    return { result: null, touched: [] };
  },
};
