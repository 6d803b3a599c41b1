import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { handOver } from '../kit/free.ts';
import { chunksOf, peek } from './peek.ts';

const SIZE = 64 * 1024;
const made = (): Buffer[] => [1, 2, 3, 4].map((value) => Buffer.allocUnsafeSlow(SIZE).fill(value));

/** One chunk for each read, as from a connection that is slower than its reader. */
function slowly(chunks: readonly Buffer[]): Readable {
  let at = 0;
  return new Readable({
    highWaterMark: 1,
    read() {
      const next = chunks[at++];
      setImmediate(() => this.push(next ?? null));
    },
  });
}

/** First byte and length of each chunk while it is the last that was asked for. */
async function seen(chunks: AsyncIterable<Uint8Array>): Promise<number[][]> {
  const all: number[][] = [];
  for await (const chunk of chunks) all.push([chunk[0]!, chunk.length]);
  return all;
}

const WHOLE = [1, 2, 3, 4].map((value) => [value, SIZE]);
const lengths = (chunks: readonly Buffer[]): number[] => chunks.map(({ length }) => length);

test('chunks of a body that was handed over are freed when the next is asked for, those of others stay', async () => {
  for (const mine of [true, false]) {
    const chunks = made();
    const body = slowly(chunks);
    if (mine) handOver(body);
    assert.deepEqual(await seen(chunksOf(body)), WHOLE);
    assert.deepEqual(lengths(chunks), mine ? [0, 0, 0, 0] : [SIZE, SIZE, SIZE, SIZE]);
  }
});

test('what was peeked at comes whole, whoever owns it', async () => {
  for (const mine of [true, false]) {
    const chunks = made();
    const body = slowly(chunks);
    if (mine) handOver(body);
    const peeked = await peek(body, SIZE + 1);
    assert.ok('rest' in peeked);
    assert.deepEqual(await seen(peeked.rest), WHOLE);
    assert.deepEqual(lengths(chunks), mine ? [0, 0, 0, 0] : [SIZE, SIZE, SIZE, SIZE]);
  }
});

test('a small body is given whole, and stays', async () => {
  const chunks = made();
  const body = slowly(chunks);
  handOver(body);
  const peeked = await peek(body, 10 * SIZE);
  assert.ok('whole' in peeked);
  assert.ok(peeked.whole.equals(Buffer.concat(made())));
  const [only] = made();
  const single = slowly([only!]);
  handOver(single);
  const one = await peek(single, SIZE);
  assert.ok('whole' in one && one.whole.length === SIZE);
});

test('who stops early leaves the stream open and the last chunk as it is', async () => {
  const chunks = made();
  const body = slowly(chunks);
  handOver(body);
  for await (const chunk of chunksOf(body)) {
    assert.equal(chunk[0], 1);
    break;
  }
  assert.equal(body.destroyed, false);
  assert.equal(chunks[0]!.length, SIZE);
});

test('a body that breaks off: the error comes behind its last chunk', async () => {
  const body = new Readable({ read() {} });
  handOver(body);
  body.push(Buffer.allocUnsafeSlow(SIZE).fill(9));
  const iterator = chunksOf(body)[Symbol.asyncIterator]();
  assert.equal((await iterator.next()).value[0], 9);
  body.destroy(new Error('it broke'));
  await assert.rejects(async () => iterator.next(), /it broke/);
});
