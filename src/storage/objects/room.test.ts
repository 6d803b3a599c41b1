import assert from 'node:assert/strict';
import { test } from 'node:test';
import { room } from './room.ts';

const KIB = 1024;

test('after the last upload nothing is counted, and the next one takes the same buffers again', () => {
  const shared = room(256 * KIB);
  const taken: unknown[] = [];
  for (let round = 0; round < 3; round++) {
    const holder = shared.enter(() => undefined);
    const buffers = Array.from({ length: 4 }, () => shared.obtain(holder, 64 * KIB) as Uint8Array);
    assert.equal(new Set(buffers).size, 4);
    if (round > 0) for (const buffer of buffers) assert.ok(taken.includes(buffer));
    taken.push(...buffers);
    for (const buffer of buffers) shared.release(shared.send(holder), buffer);
    shared.leave(holder);
    assert.equal(shared.used, 0);
  }
});

test('buffers that were left are only taken for their own size', () => {
  const shared = room(256 * KIB);
  const first = shared.enter(() => undefined);
  const buffer = shared.obtain(first, 64 * KIB) as Uint8Array;
  shared.release(shared.send(first), buffer);
  shared.leave(first);
  const next = shared.enter(() => undefined);
  const smaller = shared.obtain(next, 32 * KIB) as Uint8Array;
  assert.equal(smaller.length, 32 * KIB);
  assert.equal(shared.obtain(next, 64 * KIB), buffer);
  assert.equal(shared.used, 96 * KIB);
});

test('who leaves while it waits gets nothing any more, and others get it instead', async () => {
  const shared = room(64 * KIB);
  const [one, two, three] = [1, 2, 3].map(() => shared.enter(() => undefined));
  const buffer = shared.obtain(one!, 64 * KIB) as Uint8Array;
  const never = shared.obtain(two!, 64 * KIB);
  const soon = shared.obtain(three!, 64 * KIB);
  assert.ok(never instanceof Promise && soon instanceof Promise);
  shared.leave(two!);
  shared.release(shared.send(one!), buffer);
  assert.equal(await soon, buffer);
  shared.leave(three!);
  shared.leave(one!);
  assert.equal(shared.used, 0);
});
