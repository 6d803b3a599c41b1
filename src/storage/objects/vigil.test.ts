import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import { REQUEST_MILLISECONDS, StoreAway } from './faults.ts';
import { AWAY_MILLISECONDS, QUIET_MILLISECONDS, vigil } from './vigil.ts';

const never = (): Promise<never> => new Promise(() => undefined);
const AN_HOUR = 3_600_000;

/** Time that only moves when it is told to. */
function heldTime(): { pass(milliseconds: number): Promise<void>; [Symbol.dispose](): void } {
  mock.timers.enable({ apis: ['setTimeout'] });
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 6; turn++) await new Promise(setImmediate);
  };
  return {
    async pass(milliseconds) {
      for (let left = milliseconds; left > 0; left -= 50) {
        mock.timers.tick(Math.min(50, left));
        await settle();
      }
    },
    [Symbol.dispose]: () => mock.timers.reset(),
  };
}

/** What became of the promise so far. */
function outcome(work: Promise<unknown>): { ended: unknown } {
  const state = { ended: 'no' as unknown };
  work.then(
    (value) => (state.ended = value),
    (error: unknown) => (state.ended = error),
  );
  return state;
}

const isAway = (error: unknown): boolean => error instanceof StoreAway;

test('a long request ends when the store as a whole does not answer', async () => {
  let asked = 0;
  const watched = vigil(
    () => {
      asked++;
      return never();
    },
    { quiet: 5, limit: 25, small: 30 },
  );
  const aborted: boolean[] = [];
  const work = (signal: AbortSignal): Promise<never> => {
    signal.addEventListener('abort', () => aborted.push(true));
    return never();
  };
  const both = await Promise.allSettled([watched(AN_HOUR, 'store', work), watched(AN_HOUR, 'store', work)]);
  for (const one of both) {
    assert.ok(one.status === 'rejected' && one.reason instanceof FaultError);
    assert.equal(one.reason.code, 'unavailable');
    assert.ok(one.reason instanceof StoreAway);
    assert.match(one.reason.message, /does not answer any more/);
  }
  assert.equal(aborted.length, 2);
  assert.equal(asked, 1, 'they share what they ask');
});

test('a long request waits for a store that is away no longer than a small one, which is less than two seconds', async () => {
  assert.ok(AWAY_MILLISECONDS < REQUEST_MILLISECONDS && REQUEST_MILLISECONDS <= 1800);
  using time = heldTime();
  let asked = 0;
  const watched = vigil(() => {
    asked++;
    return never();
  });
  const state = outcome(watched(AN_HOUR, 'store', never));
  await time.pass(QUIET_MILLISECONDS - 1);
  assert.equal(asked, 0);
  await time.pass(1);
  assert.equal(asked, 1);
  await time.pass(AWAY_MILLISECONDS - QUIET_MILLISECONDS - 1);
  assert.equal(state.ended, 'no');
  await time.pass(1);
  assert.ok(isAway(state.ended));
});

test('where the store goes away under long requests, they end in less than two seconds after its last answer', async () => {
  using time = heldTime();
  const watched = vigil(never);
  const state = outcome(watched(AN_HOUR, 'store', never));
  await time.pass(QUIET_MILLISECONDS - 10);
  // Another one succeeds: the store was there until now.
  await watched(AN_HOUR, 'store', async () => undefined);
  await time.pass(AWAY_MILLISECONDS);
  assert.equal(state.ended, 'no');
  await time.pass(2 * QUIET_MILLISECONDS - 10);
  assert.ok(isAway(state.ended));
});

test('a store that takes a second and a half for everything is not away', async () => {
  using time = heldTime();
  const slow = (): Promise<string> => new Promise((resolve) => setTimeout(() => resolve('done'), 1500));
  const watched = vigil(slow);
  const small = outcome(watched(REQUEST_MILLISECONDS, 'store', slow));
  const large = outcome(
    watched(AN_HOUR, 'store', async () => {
      for (let part = 0; part < 20; part++) await slow();
      return 'all';
    }),
  );
  await time.pass(1500);
  assert.equal(small.ended, 'done');
  for (let part = 1; part < 20; part++) await time.pass(1500);
  assert.equal(large.ended, 'all');
});

test('a store that does not get round to what it is asked, but stores the parts, is not away', async () => {
  using time = heldTime();
  const watched = vigil(never);
  const large = outcome(watched(AN_HOUR, 'store', never));
  for (let part = 0; part < 20; part++) {
    const stored = watched(AN_HOUR, 'store', () => new Promise((resolve) => setTimeout(() => resolve('part'), 1500)));
    await time.pass(1500);
    assert.equal(await stored, 'part');
  }
  assert.equal(large.ended, 'no');
});

test('while answers come by themselves nothing is asked', async () => {
  using time = heldTime();
  let asked = 0;
  const watched = vigil(async () => {
    asked++;
  });
  const large = outcome(watched(AN_HOUR, 'store', never));
  for (let part = 0; part < 30; part++) {
    await time.pass(QUIET_MILLISECONDS / 2);
    await watched(AN_HOUR, 'store', async () => undefined);
  }
  assert.deepEqual([asked, large.ended], [0, 'no']);
  await time.pass(2 * QUIET_MILLISECONDS);
  assert.equal(asked, 1);
});

test('whatever the store answers, the long request goes on', async () => {
  let asked = 0;
  let done: ((value: string) => void) | undefined;
  const watched = vigil(
    async () => {
      if (++asked === 4) done?.('stored');
      if (asked % 2 === 0) throw new Error('403');
    },
    { quiet: 1, limit: 1000 },
  );
  const work = (): Promise<string> =>
    new Promise((resolve) => {
      done = resolve;
    });
  assert.equal(await watched(AN_HOUR, 'store', work), 'stored');
  assert.equal(asked, 4);
});

test('its own limit and its own failure hold as ever', async () => {
  const watched = vigil(async () => undefined, { quiet: 1, limit: 10, small: 10 });
  await assert.rejects(watched(20, 'store', never), /did not answer within/);
  await assert.rejects(
    watched(AN_HOUR, 'store', async () => {
      throw new Error('refused');
    }),
    /refused/,
  );
});
