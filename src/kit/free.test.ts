import assert from 'node:assert/strict';
import { test } from 'node:test';
import { free, freeChunk, handOver } from './free.ts';

test('bytes that are all of their buffer go; parts of one, small ones and shared memory stay', () => {
  const whole = Buffer.allocUnsafeSlow(64 * 1024);
  free(whole);
  assert.equal(whole.length, 0);
  assert.equal(whole.buffer.byteLength, 0);
  const large = Buffer.allocUnsafeSlow(64 * 1024).fill(7);
  free(large.subarray(1));
  free(large.subarray(0, 32 * 1024));
  assert.deepEqual([large.length, large[5]], [64 * 1024, 7]);
  const small = Buffer.allocUnsafeSlow(100);
  free(small);
  assert.equal(small.length, 100);
  const pooled = Buffer.from('some text');
  free(pooled);
  assert.equal(pooled.toString(), 'some text');
  const shared = new Uint8Array(new SharedArrayBuffer(64 * 1024));
  free(shared);
  assert.equal(shared.length, 64 * 1024);
});

test('freeing twice is fine', () => {
  const bytes = new Uint8Array(10_000);
  free(bytes);
  free(bytes);
  assert.equal(bytes.length, 0);
});

test('chunks of a body are only freed where it was handed over', () => {
  const [mine, others] = [{}, {}];
  handOver(mine);
  const [one, other] = [new Uint8Array(10_000), new Uint8Array(10_000)];
  freeChunk(mine, one);
  freeChunk(others, other);
  assert.deepEqual([one.length, other.length], [0, 10_000]);
});
