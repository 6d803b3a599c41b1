/** Jobs that run by themselves: each has one row in the queue, so that one process runs it at a time. */
import type { Database } from '../database/database.ts';
import { jobSchedule } from './commands/job-schedule.ts';
import type { Job } from './job.ts';

/** Makes sure that each of these has its row. Again at any time; rows of jobs that are gone stay and do nothing. */
// biome-ignore lint/suspicious/noExplicitAny: a list of jobs of many payloads.
export async function schedule(database: Database, jobs: readonly Job<any>[]): Promise<void> {
  const scheduled = jobs.flatMap(({ type, everyMilliseconds }) =>
    everyMilliseconds === undefined ? [] : [{ type, everyMilliseconds }],
  );
  if (scheduled.length > 0) await database.run(jobSchedule, { jobs: scheduled }, { lane: 'job' });
}
