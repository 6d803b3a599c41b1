import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hashRing } from './hash-ring.ts';
import { DONE, WANTED } from './hash-thread.ts';

const SIZE = 100;

/** Takes the oldest piece, as the thread does; whether the owner wanted to know. */
function takeOne(ring: ReturnType<typeof hashRing>): boolean {
  const control = new Int32Array(ring.shared.control);
  Atomics.add(control, DONE, 1);
  return Atomics.exchange(control, WANTED, 0) === 1;
}

test('whatever is put and taken: pieces stay as they were put until they are taken, and none is refused for nothing', () => {
  const step = fc.oneof(fc.integer({ min: 1, max: SIZE }), fc.constant('take' as const));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const ring = hashRing(SIZE);
      const memory = new Uint8Array(ring.shared.bytes);
      const held: { start: number; bytes: Uint8Array }[] = [];
      let count = 0;
      for (const what of steps) {
        if (what === 'take') {
          const oldest = held.shift();
          if (oldest === undefined) continue;
          assert.deepEqual(memory.slice(oldest.start, oldest.start + oldest.bytes.length), oldest.bytes);
          takeOne(ring);
        } else {
          const bytes = new Uint8Array(what).fill(++count % 251);
          const start = ring.put(bytes);
          if (start !== undefined) held.push({ start, bytes });
          else assert.ok(held.length > 0, 'an empty ring has room');
        }
        assert.equal(
          ring.held,
          held.reduce((sum, { bytes }) => sum + bytes.length, 0),
        );
      }
    }),
  );
});

test('a full ring wants to be told, and one piece taken makes room for one of the same length, at the start again', () => {
  const ring = hashRing(SIZE);
  assert.equal(ring.put(new Uint8Array(SIZE + 1)), undefined);
  assert.equal(ring.put(new Uint8Array(60)), 0);
  assert.equal(ring.put(new Uint8Array(40)), 60);
  assert.equal(ring.held, SIZE);
  assert.equal(ring.put(new Uint8Array(1)), undefined);
  assert.equal(takeOne(ring), true);
  assert.equal(ring.put(new Uint8Array(60)), 0);
  assert.equal(takeOne(ring), false);
});

test('a thread that takes what it was not given is found out', () => {
  const ring = hashRing(SIZE);
  takeOne(ring);
  assert.throws(() => ring.put(new Uint8Array(1)), /more pieces/);
});
