/** The room in one piece: queue, dispatch, worker and schedule over one database. */
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { randomId } from '../kit/id.ts';
import type { Log, Metrics } from '../kit/log.ts';
import { Dispatch } from './dispatch.ts';
import type { Job, JobGiver, JobQueue } from './job.ts';
import { jobQueue } from './queue.ts';
import { schedule } from './schedule.ts';
import { JobWorker } from './worker.ts';

/** What the room is made of. The rest has good defaults; tests change them. */
export interface JobsOptions {
  readonly database: Database;
  readonly givers: readonly JobGiver[];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** How long at most until queue and outbox are looked at again. Absent: 5 s where this process hears of everything, by hints or as the only one; else 1 s. */
  readonly pollMilliseconds?: number;
  /** Milliseconds before the first retry, and at most; 500 and 300,000 if absent. */
  readonly retry?: { readonly first: number; readonly most: number };
  /** How long `stop` waits for jobs that do not listen; 10,000 if absent. */
  readonly stopMilliseconds?: number;
}

/** The running room. */
export interface Jobs {
  readonly queue: JobQueue;
  /** Claims nothing more, tells what runs to stop, hands it back, and ends. */
  stop(): Promise<void>;
  /** For tests: resolves when every event is dispatched and all due work is done, retries that wait not counted. */
  idle(): Promise<void>;
}

/** The jobs of all givers. Throws where two have one type, or a job's numbers are out of bounds. */
// biome-ignore lint/suspicious/noExplicitAny: a list of jobs of many payloads.
function jobsOf(givers: readonly JobGiver[]): readonly Job<any>[] {
  const jobs = givers.flatMap((giver) => giver.jobs ?? []);
  const seen = new Set<string>();
  for (const { type, concurrency, maxAttempts, leaseSeconds, everyMilliseconds } of jobs) {
    if (seen.has(type)) throw new TypeError(`two jobs are of the type "${type}"`);
    seen.add(type);
    const numbers = [concurrency, maxAttempts, leaseSeconds, everyMilliseconds ?? 1];
    if (type === '' || !numbers.every((one) => Number.isSafeInteger(one) && one >= 1)) {
      throw new TypeError(`the job "${type}" needs whole numbers of at least 1`);
    }
  }
  return jobs;
}

/** Starts dispatch and worker. Queue requests may be made at once; they run when there is room. */
export function startJobs(options: JobsOptions): Jobs {
  const { database, givers, clock, log, metrics } = options;
  const jobs = jobsOf(givers);
  const { hints } = database;
  const pollMilliseconds = (): number =>
    options.pollMilliseconds ?? (database.shared && hints?.arrive !== true ? 1_000 : 5_000);
  const shared = { database, clock, log, metrics, pollMilliseconds };
  const worker = new JobWorker({
    ...shared,
    jobs,
    owner: Buffer.from(randomId(12)).toString('base64url'),
    retry: options.retry ?? { first: 500, most: 300_000 },
    stopMilliseconds: options.stopMilliseconds ?? 10_000,
  });
  const woken = (due: boolean): void => {
    worker.wake();
    if (due) hints?.tell('jobs');
  };
  const forget = hints?.on('jobs', () => worker.wake());
  const types = new Set(jobs.map(({ type }) => type));
  const dispatch = new Dispatch({ ...shared, givers, types, onJobs: (due) => woken(due) });
  const scheduled = schedule(database, jobs).then(
    () => worker.wake(),
    (error: unknown) => log.error('jobs could not be scheduled', { error: error as Error }),
  );
  dispatch.start();
  worker.start();
  return {
    queue: jobQueue(database, woken),
    async stop() {
      forget?.();
      await scheduled;
      await dispatch.stop();
      await worker.stop();
    },
    async idle() {
      await scheduled;
      for (let before = -1; ; ) {
        await dispatch.flush();
        await worker.drain();
        const after = dispatch.taken + worker.ended;
        if (after === before) return;
        before = after;
      }
    },
  };
}
