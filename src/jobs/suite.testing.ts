/** What the contract's parts share: jobs to run, events to emit, and one database for the whole suite. */
import { after } from 'node:test';
import type { Database } from '../database/database.ts';
import type { NewEvent } from '../events/event.ts';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { blob, repo, tag } from '../registry/samples.testing.ts';
import { testClear } from './commands.testing.ts';
import type { Job, JobGiver } from './job.ts';
import { type Jobs, type JobsOptions, startJobs } from './start.ts';

/** An empty database, for the whole suite. */
export type OpenDatabase = () => Promise<{ readonly database: Database; close(): Promise<void> }>;

/** Starts the room with these givers; it is stopped after the test. */
export type Start = (givers: readonly JobGiver[], more?: Partial<JobsOptions>) => Jobs;
/** Makes a test of this work: on an empty database. */
export type OnDatabase = (work: (database: Database, start: Start) => Promise<void>) => () => Promise<void>;

/** A row of `job`. */
export interface Row {
  readonly id: number;
  readonly type: string;
  readonly key: string | null;
  readonly state: string;
  readonly attempt: number;
  readonly run_at: number;
  readonly outcome: string | null;
}

/** Opens the database once, closes it at the suite's end. Called inside `describe`. */
export function suite(open: OpenDatabase): OnDatabase {
  let opened: ReturnType<OpenDatabase> | undefined;
  after(async () => (await opened)?.close());
  return (work) => async () => {
    opened ??= open();
    const { database } = await opened;
    const started: Jobs[] = [];
    try {
      await work(database, (givers, more = {}) => {
        const jobs = startJobs({
          database,
          givers,
          clock: systemClock,
          log: silentLog,
          metrics: noMetrics,
          retry: { first: 1, most: 5 },
          pollMilliseconds: 20,
          stopMilliseconds: 200,
          ...more,
        });
        started.push(jobs);
        return jobs;
      });
    } finally {
      await Promise.all(started.map((jobs) => jobs.stop()));
      await database.run(testClear, null);
    }
  };
}

/** All rows of the queue. */
export function rowsOf(database: Database): Promise<Row[]> {
  return database.query.all<Row>('select * from job order by id limit 1000');
}

/** All leases. */
export function leases(database: Database): Promise<{ job_id: number; progress: string | null }[]> {
  return database.query.all('select * from job_lease limit 1000');
}

/** A job that takes any payload. */
export function job(type: string, run: Job<unknown>['run'], more: Partial<Job<unknown>> = {}): Job<unknown> {
  return { type, parse: (value) => value, concurrency: 4, maxAttempts: 3, leaseSeconds: 60, ...more, run };
}

/** A giver of these jobs. */
export function one(...jobs: Job<unknown>[]): readonly JobGiver[] {
  return [{ name: 'test', jobs }];
}

/** An event that tells of the tag `t<n>`. */
export function pushed(n: number): NewEvent {
  return {
    type: 'tag.moved',
    repository: repo(`team/app${n % 3}`),
    actor: 'user:ann',
    request: { id: `r-${n}` },
    tag: tag(`t${n}`),
    to: blob('x').digest,
  };
}

/** A promise and how to resolve it. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

/** Waits for the check to hold. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await check())) await systemClock.sleep(2);
}
