import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateWatch, type Watched } from './rate-watch.ts';

const rate = { bytesPerSecond: 1000, milliseconds: 60 };

test('who moves nothing is ended once; who moves enough, or is not waited for, is not', async () => {
  const watch = new RateWatch(rate);
  const slow: string[] = [];
  let moved = 0;
  const make = (name: string, count: () => number | undefined): Watched => ({
    moved: count,
    tooSlow: () => void slow.push(name),
  });
  const fast = make('fast', () => (moved += 1000));
  const busy = make('busy', () => undefined);
  const gone = make('gone', () => 0);
  const { promise, resolve } = Promise.withResolvers<void>();
  watch.add(fast);
  watch.add(busy);
  watch.add(gone);
  watch.remove(gone);
  watch.add({
    moved: () => 5,
    tooSlow: () => {
      slow.push('still');
      resolve();
    },
  });
  await promise;
  assert.deepEqual(slow, ['still']);
  assert.equal(watch.size, 2);
  watch.remove(fast);
  watch.remove(busy);
  watch.remove(busy);
  assert.equal(watch.size, 0);
});
