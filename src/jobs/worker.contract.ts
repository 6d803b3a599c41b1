/** The contract of the worker: concurrency, retries, leases, schedules, and its end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../kit/clock.ts';
import { type Log, silentLog } from '../kit/log.ts';
import { FaultError } from '../oci/error.ts';
import { type Claimed, jobClaim } from './commands/job-claim.ts';
import { jobFinish } from './commands/job-finish.ts';
import { jobRenew } from './commands/job-lease.ts';
import { jobShift } from './commands/job-shift.ts';
import { testChange, testLeases } from './commands.testing.ts';
import type { JobContext } from './job.ts';
import { parseProgress } from './progress.ts';
import { gate, job, leases, type OnDatabase, one, rowsOf, until } from './suite.testing.ts';

/** Registers the tests. */
export function workerContract(on: OnDatabase): void {
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
    'an outage is no reason to give a job up',
    on(async (database, start) => {
      const attempts: number[] = [];
      const work = job('a', async ({ attempt }) => {
        attempts.push(attempt);
        if (attempts.length < 7) throw new FaultError('unavailable', 'The disk is away.');
      });
      const { queue } = start(one(work));
      await queue.enqueue({ type: 'a', payload: 1, key: 'x' });
      await until(async () => attempts.length === 7 && (await rowsOf(database)).length === 0);
      assert.deepEqual(attempts, [1, 2, 3, 3, 3, 3, 3]);
    }),
  );

  test(
    'times that are to come are set back with the clock',
    on(async (database, start) => {
      const { queue } = start([]);
      const later = systemClock.now() + 3_600_000;
      await queue.enqueue({ type: 'a', payload: 1, runAt: later });
      await queue.enqueue({ type: 'b', payload: 1, runAt: 1 });
      await database.run(jobShift, { by: 3_000_000 });
      const rows = await database.query.all<{ run_at: number }>('select run_at from job order by type');
      assert.deepEqual(
        rows.map((row) => Number(row.run_at)),
        [later - 3_000_000, 1],
      );
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
        assert.equal(await database.run(jobFinish, { ...old, how: 'again', delayMilliseconds: 0, outcome: '' }), false);
        assert.deepEqual(await rowsOf(database), []);
      }),
    );
  }

  test(
    'a job that takes its process with it is given up in the end',
    on(async (database, start) => {
      const args = { wanted: [{ type: 'a', limit: 1, leaseMilliseconds: 60_000 }], expired: true, lost: true };
      const { queue } = start([]);
      await queue.enqueue({ type: 'a', payload: 1 });
      for (let attempt = 1; attempt <= 6; attempt++) {
        const { jobs } = await database.run(jobClaim, { ...args, owner: `dead${attempt}` });
        assert.equal(jobs[0]?.attempt, attempt);
        await database.run(testLeases, { how: 'expire' });
      }
      const { idle } = start(one(job('a', async () => assert.fail('ran'))));
      await idle();
      const [row] = await rowsOf(database);
      assert.deepEqual([row?.state, row?.outcome], ['failed', 'every attempt ended with its process']);
    }),
  );

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
    'a start while a scheduled job runs elsewhere makes no second one',
    on(async (database, start) => {
      const go = gate();
      const work = job('tick', async () => go.opened, { everyMilliseconds: 3_600_000 });
      start(one(work));
      await until(async () => (await rowsOf(database))[0]?.state === 'running');
      const second = start(one(work));
      await second.idle();
      assert.deepEqual(
        (await rowsOf(database)).map(({ state }) => state),
        ['running'],
      );
      go.open();
      await until(async () => (await rowsOf(database))[0]?.state === 'waiting');
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
}
