/** The contract of the queue: what is put in comes out once, at its time, within its bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../kit/clock.ts';
import { listJobs } from './overview.ts';
import { MAX_PAYLOAD } from './queue.ts';
import { gate, job, leases, type OnDatabase, one, rowsOf, until } from './suite.testing.ts';

/** Registers the tests. */
export function queueContract(on: OnDatabase): void {
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
    'the overview shows what waits, runs and was given up, in pages',
    on(async (database, start) => {
      const go = gate();
      const { queue, idle } = start(
        one(
          job('run', async ({ progress }) => {
            await progress(3, 9, 'under way');
            await go.opened;
          }),
          job('fail', async () => Promise.reject(new Error('no luck')), { maxAttempts: 1 }),
        ),
      );
      const later = systemClock.now() + 3_600_000;
      await queue.enqueue({ type: 'fail', payload: 1 });
      await queue.enqueue({ type: 'run', payload: 1, key: 'k' });
      await queue.enqueue({ type: 'run', payload: 1, runAt: later });
      await until(async () =>
        (await listJobs(database, { limit: 9 })).items.some(({ progress }) => progress?.done === 3),
      );
      await until(async () => (await listJobs(database, { limit: 9, state: 'failed' })).items.length === 1);
      const all = await listJobs(database, { limit: 9 });
      assert.deepEqual(
        all.items.map(({ type, key, state, outcome, progress }) => [type, key, state, outcome, progress?.note]),
        [
          ['run', undefined, 'waiting', undefined, undefined],
          ['run', 'k', 'running', undefined, 'under way'],
          ['fail', undefined, 'failed', 'no luck', undefined],
        ],
      );
      assert.equal(all.items[0]?.runAt, later);
      assert.equal(all.next, undefined);
      const first = await listJobs(database, { limit: 2 });
      assert.equal(first.items.length, 2);
      const rest = await listJobs(database, { limit: 2, after: first.next! });
      assert.deepEqual([...first.items, ...rest.items], all.items);
      assert.deepEqual((await listJobs(database, { limit: 9, state: 'waiting' })).items, all.items.slice(0, 1));
      go.open();
      await idle();
    }),
  );
}
