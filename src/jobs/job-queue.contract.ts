/** The contract of queue, dispatch, worker and schedule, over a database opened with TEST_COMMANDS. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Database } from '../database/database.ts';
import type { Event, NewEvent } from '../events/event.ts';
import { systemClock } from '../kit/clock.ts';
import { type Log, noMetrics, silentLog } from '../kit/log.ts';
import { blob, descriptor, repo, tag } from '../registry/samples.testing.ts';
import { type Claimed, jobClaim } from './commands/job-claim.ts';
import { jobFinish } from './commands/job-finish.ts';
import { jobRenew } from './commands/job-lease.ts';
import { testChange, testClear, testEmit, testLeases, testOutbox } from './commands.testing.ts';
import type { Job, JobContext, JobGiver } from './job.ts';
import { parseProgress } from './progress.ts';
import { MAX_PAYLOAD } from './queue.ts';
import { type Jobs, type JobsOptions, startJobs } from './start.ts';

/** An empty database, for the whole suite. */
export type OpenDatabase = () => Promise<{ readonly database: Database; close(): Promise<void> }>;

interface Row {
  readonly id: number;
  readonly type: string;
  readonly key: string | null;
  readonly state: string;
  readonly attempt: number;
  readonly run_at: number;
  readonly outcome: string | null;
}

const rowsOf = (database: Database): Promise<Row[]> =>
  database.query.all<Row>('select * from job order by id limit 1000');
const leases = (database: Database) =>
  database.query.all<{ job_id: number; progress: string | null }>('select * from job_lease limit 1000');

function job(type: string, run: Job<unknown>['run'], more: Partial<Job<unknown>> = {}): Job<unknown> {
  return { type, parse: (value) => value, concurrency: 4, maxAttempts: 3, leaseSeconds: 60, ...more, run };
}

function pushed(n: number): NewEvent {
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
function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

/** Registers the suite. */
export function jobQueueContract(name: string, open: OpenDatabase): void {
  type Start = (givers: readonly JobGiver[], more?: Partial<JobsOptions>) => Jobs;
  let opened: ReturnType<OpenDatabase> | undefined;
  const on = (work: (database: Database, start: Start) => Promise<void>) => async (): Promise<void> => {
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
  const one = (...jobs: Job<unknown>[]): readonly JobGiver[] => [{ name: 'test', jobs }];
  async function until(check: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await check())) await systemClock.sleep(2);
  }

  describe(`jobs on ${name}`, () => {
    after(async () => (await opened)?.close());

    test(
      'a job runs with its payload and leaves nothing behind',
      on(async (database, start) => {
        const seen: unknown[] = [];
        const { queue, idle } = start(
          one(job('a', async (context, payload) => void seen.push(context.attempt, payload))),
        );
        await queue.enqueue({ type: 'a', payload: { list: [1, 'ü', null] } });
        await idle();
        assert.deepEqual(seen, [1, { list: [1, 'ü', null] }]);
        assert.deepEqual(await rowsOf(database), []);
        assert.deepEqual(await leases(database), []);
      }),
    );

    test(
      'a job waits for its time, and jobs that nobody runs wait for ever',
      on(async (database, start) => {
        const seen: unknown[] = [];
        const { queue, idle } = start(one(job('a', async (_c, payload) => void seen.push(payload))));
        const later = systemClock.now() + 3_600_000;
        await queue.enqueue({ type: 'a', payload: 1, key: 'k', runAt: later });
        await queue.enqueue({ type: 'unknown', payload: 2 });
        await idle();
        assert.deepEqual(seen, []);
        assert.equal((await rowsOf(database)).length, 2);
        await queue.enqueue({ type: 'a', payload: 3, key: 'k' });
        await idle();
        assert.deepEqual(seen, [1]);
        assert.deepEqual(
          (await rowsOf(database)).map((row) => [row.type, row.state]),
          [['unknown', 'waiting']],
        );
      }),
    );

    test(
      'waiting requests of one key are one job; while it runs a new one waits for it',
      on(async (database, start) => {
        const seen: unknown[] = [];
        const first = gate();
        let running = 0;
        const work = job('a', async (_c, payload) => {
          assert.equal(++running, 1, 'two of one key ran at once');
          seen.push(payload);
          if (payload === 1) await first.opened;
          running--;
        });
        const { queue, idle } = start(
          one(
            work,
            job('b', async () => {}),
          ),
        );
        await queue.enqueue({ type: 'a', payload: 1, key: 'k' });
        await until(() => seen.length === 1);
        for (const payload of [2, 3, 4]) await queue.enqueue({ type: 'a', payload, key: 'k' });
        await queue.enqueue({ type: 'b', payload: 1, key: 'k' });
        await until(async () => (await rowsOf(database)).length === 2);
        first.open();
        await idle();
        assert.deepEqual(seen, [1, 2]);
        assert.deepEqual(await rowsOf(database), []);
      }),
    );

    test(
      'no more than the concurrency of its type run at once',
      on(async (_database, start) => {
        let running = 0;
        let most = 0;
        let count = 0;
        const work = async (): Promise<void> => {
          most = Math.max(most, ++running);
          await systemClock.sleep(1);
          running--;
          count++;
        };
        const { queue, idle } = start(one(job('a', work, { concurrency: 2 })));
        for (let i = 0; i < 12; i++) await queue.enqueue({ type: 'a', payload: i });
        await idle();
        assert.equal(count, 12);
        assert.ok(most <= 2);
      }),
    );

    test(
      'a failing job is tried again, then given up with its outcome kept',
      on(async (database, start) => {
        const attempts: number[] = [];
        const lines: string[] = [];
        const log: Log = { ...silentLog, error: (message) => lines.push(message) };
        const work = job('a', async ({ attempt }, payload) => {
          attempts.push(attempt);
          if (payload === 'never' || attempt < 3) throw new Error(`no luck at ${attempt}`);
        });
        const { queue } = start(one(work), { log });
        await queue.enqueue({ type: 'a', payload: 'third', key: 'x' });
        await until(async () => attempts.length === 3 && (await rowsOf(database)).length === 0);
        await queue.enqueue({ type: 'a', payload: 'never', key: 'y' });
        await until(async () => (await rowsOf(database))[0]?.state === 'failed');
        assert.deepEqual(attempts, [1, 2, 3, 1, 2, 3]);
        const [row] = await rowsOf(database);
        assert.equal(row?.outcome, 'no luck at 3');
        assert.equal(row?.attempt, 3);
        assert.deepEqual(lines, ['a job failed too often and was given up']);
        assert.deepEqual(await leases(database), []);
        await queue.enqueue({ type: 'a', payload: 'fourth', key: 'y' });
        await until(() => attempts.length === 9);
      }),
    );

    test(
      'a payload that its job does not take is given up at once',
      on(async (database, start) => {
        const parse = (value: unknown): number => {
          if (typeof value !== 'number') throw new TypeError('not a number');
          return value;
        };
        const { queue, idle } = start(one(job('a', async () => assert.fail('ran'), { parse })));
        await queue.enqueue({ type: 'a', payload: 'text' });
        await idle();
        const [row] = await rowsOf(database);
        assert.deepEqual([row?.state, row?.attempt], ['failed', 1]);
      }),
    );

    test(
      'requests beyond their bounds are refused',
      on(async (database, start) => {
        const { queue } = start(one(job('a', async () => {})));
        await assert.rejects(queue.enqueue({ type: 'a', payload: 'x'.repeat(MAX_PAYLOAD) }), /too large/);
        await assert.rejects(queue.enqueue({ type: '', payload: 1 }), /type or key/);
        await assert.rejects(queue.enqueue({ type: 'a', payload: 1, key: 'k'.repeat(600) }), /type or key/);
        await assert.rejects(queue.enqueue({ type: 'a', payload: 1, runAt: 1.5 }), /milliseconds/);
        assert.deepEqual(await rowsOf(database), []);
        const twice = one(
          job('a', async () => {}),
          job('a', async () => {}),
        );
        assert.throws(() => start(twice), /two jobs/);
        assert.throws(() => start(one(job('a', async () => {}, { concurrency: 0 }))), /at least 1/);
      }),
    );

    test(
      'a stopping worker hands back what runs, without counting the attempt',
      on(async (database, start) => {
        const seen: number[] = [];
        const hang = job('a', async ({ signal, attempt }) => {
          seen.push(attempt);
          await systemClock.sleep(60_000, signal);
        });
        const first = start(one(hang));
        await first.queue.enqueue({ type: 'a', payload: 1, key: 'k' });
        await until(() => seen.length === 1);
        await first.stop();
        const [row] = await rowsOf(database);
        assert.deepEqual([row?.state, row?.attempt, row?.key], ['waiting', 0, 'k']);
        const second = start(one(job('a', async ({ attempt }) => void seen.push(attempt))));
        await second.idle();
        assert.deepEqual(seen, [1, 1]);
      }),
    );

    for (const how of ['expire', 'forget'] as const) {
      test(
        `a job whose worker died (leases: ${how}) is taken over, and the old attempt can change nothing`,
        on(async (database, start) => {
          const args = { wanted: [{ type: 'a', limit: 1, leaseMilliseconds: 60_000 }], expired: true, lost: true };
          const { queue } = start([]);
          await queue.enqueue({ type: 'a', payload: 1, key: 'k' });
          const { jobs } = await database.run(jobClaim, { ...args, owner: 'dead' });
          assert.equal(jobs.length, 1);
          const old = jobs[0]!;
          const lease = { id: String(old.id), fence: old.fence };
          assert.equal(await database.run(testChange, null, { lease }), 'changed');
          assert.deepEqual((await database.run(jobClaim, { ...args, owner: 'other' })).jobs, []);
          await database.run(testLeases, { how });
          const attempts: JobContext[] = [];
          const taker = start(one(job('a', async (context) => void attempts.push(context))));
          await taker.idle();
          assert.equal(attempts.length, 1);
          assert.equal(attempts[0]?.attempt, 2);
          assert.equal(attempts[0]?.lease.fence, old.fence + 1);
          await assert.rejects(database.run(testChange, null, { lease }), /taken over/);
          assert.equal(
            await database.run(jobFinish, { ...old, how: 'again', delayMilliseconds: 0, outcome: '' }),
            false,
          );
          assert.deepEqual(await rowsOf(database), []);
        }),
      );
    }

    test(
      'a lease is renewed while the job runs; a lost one aborts the attempt',
      on(async (database, start) => {
        const args = { wanted: [{ type: 'a', limit: 1, leaseMilliseconds: 60_000 }], expired: true, lost: false };
        const reasons: string[] = [];
        const begun = gate();
        const work = job(
          'a',
          async ({ signal }) => {
            begun.open();
            await systemClock.sleep(60_000, signal).catch(() => reasons.push(String(signal.reason)));
            throw new Error('stopped');
          },
          { leaseSeconds: 1 },
        );
        const { queue, idle } = start(one(work));
        await queue.enqueue({ type: 'a', payload: 1 });
        await begun.opened;
        const first = await database.query.get<{ until_at: number }>('select until_at from job_lease');
        await until(async () => {
          const now = await database.query.get<{ until_at: number }>('select until_at from job_lease');
          return now!.until_at > first!.until_at;
        });
        let jobs: readonly Claimed[] = [];
        // A renewal may come between the two.
        await until(async () => {
          await database.run(testLeases, { how: 'expire' });
          ({ jobs } = await database.run(jobClaim, { ...args, owner: 'other' }));
          return jobs.length === 1;
        });
        assert.equal(jobs[0]?.attempt, 2);
        await until(() => reasons.length === 1);
        assert.match(reasons[0]!, /taken over/);
        await idle();
        assert.equal((await rowsOf(database))[0]?.state, 'running');
        const held = { id: jobs[0]!.id, fence: jobs[0]!.fence, leaseMilliseconds: 1_000 };
        assert.deepEqual(await database.run(jobRenew, { owner: 'other', jobs: [held] }), []);
        assert.deepEqual(await database.run(jobRenew, { owner: 'nobody', jobs: [held] }), [held.id]);
        assert.equal(await database.run(jobFinish, { ...held, how: 'done', delayMilliseconds: 0, outcome: '' }), true);
      }),
    );

    test(
      'progress is kept beside the lease',
      on(async (database, start) => {
        const go = gate();
        const { queue, idle } = start(
          one(
            job('a', async ({ progress }) => {
              await progress(1, 10, 'x'.repeat(2_000));
              await progress(2, 10);
              await go.opened;
            }),
          ),
        );
        await queue.enqueue({ type: 'a', payload: 1 });
        await until(async () => (await leases(database))[0]?.progress != null);
        const kept = parseProgress((await leases(database))[0]!.progress);
        assert.deepEqual([kept?.done, kept?.total, kept?.note?.length], [1, 10, 500]);
        go.open();
        await idle();
      }),
    );

    test(
      'a scheduled job runs at once, then again and again, one at a time over all processes',
      on(async (database, start) => {
        let running = 0;
        let runs = 0;
        const work = job(
          'tick',
          async (_c, payload) => {
            assert.deepEqual(payload, {});
            assert.equal(++running, 1, 'two runs at once');
            await systemClock.sleep(1);
            running--;
            if (++runs === 2) throw new Error('the second fails');
          },
          { everyMilliseconds: 5, maxAttempts: 1 },
        );
        start(one(work));
        start(one(work));
        await until(() => runs >= 5);
        const rows = await rowsOf(database);
        assert.equal(rows.filter(({ state }) => state !== 'failed').length, 1);
        assert.deepEqual(
          rows.filter(({ state }) => state === 'failed').map(({ outcome }) => outcome),
          ['the second fails'],
        );
      }),
    );

    test(
      'a schedule stays over restarts, and a shorter interval counts',
      on(async (database, start) => {
        let runs = 0;
        const every = (milliseconds: number) =>
          one(job('tick', async () => void runs++, { everyMilliseconds: milliseconds }));
        const first = start(every(3_600_000));
        await first.idle();
        await first.stop();
        assert.equal(runs, 1);
        const before = (await rowsOf(database))[0]!.run_at;
        const second = start(every(3_600_000));
        await second.idle();
        await second.stop();
        assert.equal(runs, 1);
        assert.equal((await rowsOf(database))[0]!.run_at, before);
        const third = start(every(60_000));
        await third.idle();
        assert.ok((await rowsOf(database))[0]!.run_at < before - 3_000_000);
      }),
    );

    test(
      'events become jobs, each event once, waiting jobs of one key once',
      on(async (database, start) => {
        const seen: Event[] = [];
        const ran: unknown[] = [];
        const giver: JobGiver = {
          name: 'test',
          jobs: [job('a', async (_c, payload) => void ran.push(payload))],
          on: {
            'tag.moved': (event) => {
              seen.push(event);
              return [
                { type: 'a', payload: event.tag },
                { type: 'a', payload: event.repository, key: event.repository, runAt: 0 },
              ];
            },
          },
        };
        const count = 603;
        const events = Array.from({ length: count }, (_, n) => pushed(n));
        await database.run(testEmit, { events });
        await database.run(testEmit, { events: [{ ...pushed(1), type: 'blob.pushed', blob: descriptor(blob('x')) }] });
        const { idle } = start([giver]);
        await idle();
        assert.equal(seen.length, count);
        assert.equal(new Set(seen.map((event) => event.id)).size, count);
        assert.ok(seen.every((event, i) => i === 0 || event.sequence > seen[i - 1]!.sequence));
        assert.equal(ran.filter((payload) => /^t\d+$/.test(String(payload))).length, count);
        const keyed = ran.filter((payload) => String(payload).startsWith('team/'));
        assert.ok(keyed.length >= 3 && keyed.length <= 9, `${keyed.length} jobs of three keys`);
        assert.deepEqual(await database.query.all('select id from outbox limit 10'), []);
      }),
    );

    test(
      'a change wakes the dispatch by itself',
      on(async (database, start) => {
        let runs = 0;
        const giver: JobGiver = {
          name: 'test',
          jobs: [job('a', async () => void runs++)],
          on: { 'tag.moved': async () => [{ type: 'a', payload: null }] },
        };
        const jobs = start([giver], { pollMilliseconds: 3_600_000 });
        await jobs.idle();
        await database.run(testEmit, { events: [pushed(1)] });
        await until(() => runs === 1);
      }),
    );

    test(
      'a handler that fails is asked again, and the event is not lost; in the end the others go on',
      on(async (database, start) => {
        let asked = 0;
        const ran: unknown[] = [];
        const lines: string[] = [];
        const log: Log = { ...silentLog, error: (message) => lines.push(message) };
        const givers: readonly JobGiver[] = [
          {
            name: 'bad',
            on: {
              'tag.moved': (event) => {
                if (event.tag === 't1') throw new Error('never');
                if (event.tag === 't2' && ++asked < 3) throw new Error('not yet');
                return event.tag === 't3' ? [{ type: 'no-such-job', payload: 1 }] : [];
              },
            },
          },
          {
            name: 'good',
            jobs: [job('a', async (_c, payload) => void ran.push(payload))],
            on: { 'tag.moved': (event) => [{ type: 'a', payload: event.tag }] },
          },
        ];
        await database.run(testEmit, { events: [pushed(1), pushed(2), pushed(3)] });
        start(givers, { log });
        await until(() => ran.length === 3);
        assert.deepEqual(ran.sort(), ['t1', 't2', 't3']);
        assert.equal(asked, 3);
        assert.equal(lines.length, 2);
        assert.deepEqual(await database.query.all('select id from outbox limit 10'), []);
      }),
    );

    test(
      'a row that cannot be read is left out with a line; one of a newer program stays for it',
      on(async (database, start) => {
        const lines: string[] = [];
        const log: Log = { ...silentLog, error: (message) => lines.push(message) };
        await database.run(testOutbox, { type: 'tag.moved', payload: { nothing: true } });
        await database.run(testOutbox, { type: 'newer.event', payload: {} });
        const { idle } = start([{ name: 'test', on: { 'tag.moved': () => assert.fail('asked') } }], { log });
        await idle();
        assert.deepEqual(lines, ['an event cannot be read and is left out']);
        const left = await database.query.all<{ type: string }>('select type from outbox limit 10');
        assert.deepEqual(
          left.map(({ type }) => type),
          ['newer.event'],
        );
      }),
    );

    test(
      'several processes share the work: each event and each job is taken once',
      on(async (database, start) => {
        const ran: unknown[] = [];
        const giver: JobGiver = {
          name: 'test',
          jobs: [job('a', async (_c, payload) => void ran.push(payload))],
          on: { 'tag.moved': (event) => [{ type: 'a', payload: event.tag }] },
        };
        const all = [start([giver]), start([giver]), start([giver])];
        const events = Array.from({ length: 300 }, (_, n) => pushed(n));
        for (let at = 0; at < 300; at += 30) await database.run(testEmit, { events: events.slice(at, at + 30) });
        await Promise.all(all.map((jobs) => jobs.idle()));
        await until(async () => (await rowsOf(database)).length === 0);
        assert.equal(ran.length, 300);
        assert.equal(new Set(ran).size, 300);
      }),
    );
  });
}
