import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import type { ByteRange } from '../../oci/names.ts';
import { memoryObjects } from './memory-store.testing.ts';
import { openReader } from './reader.ts';
import type { ObjectStore, OpenedBody } from './store.ts';

const bytes = Buffer.from('0123456789'.repeat(100));
const never = new AbortController().signal;
const fault = (code: string) => (error: unknown) => error instanceof FaultError && error.code === code;

async function stored(open?: ObjectStore['open']): Promise<ObjectStore> {
  const store = memoryObjects(new Map());
  await store.put('o', bytes, never);
  return open === undefined ? store : { ...store, open };
}

/** A quick way that gives at most `most` bytes a read and notes what it was asked for. */
function quick(asked: (ByteRange | undefined)[], most: number): ObjectStore['open'] {
  return async (_name, range): Promise<OpenedBody> => {
    asked.push(range);
    const { start, end } = range ?? { start: 0, end: bytes.length };
    let at = start;
    return {
      size: bytes.length,
      length: end - start,
      async read(into) {
        const part = bytes.subarray(at, Math.min(end, at + most, at + into.length));
        into.set(part);
        at += part.length;
        return part.length;
      },
      close: () => undefined,
    };
  };
}

describe('reading objects at positions', () => {
  test('in order it is one request, elsewhere another, and none beyond the range', async () => {
    const asked: (ByteRange | undefined)[] = [];
    const reader = await openReader(await stored(quick(asked, 7)), 'o', { start: 10, end: 60 });
    const into = Buffer.alloc(20);
    let at = 10;
    while (at < 60) {
      const read = await reader.read(into, at);
      assert(bytes.subarray(at, at + read).equals(into.subarray(0, read)));
      at += read;
    }
    assert.equal(await reader.read(into, 60), 0);
    assert.equal(await reader.read(into, 900), 0);
    assert.deepEqual(asked, [{ start: 10, end: 60 }]);
    assert.equal(await reader.read(into, 42), 7);
    assert.equal(into.toString('latin1', 0, 7), '2345678');
    assert.deepEqual(asked[1], { start: 42, end: 60 });
    await reader.close();
    await assert.rejects(reader.read(into, 42), fault('bug'));
  });

  test('where the quick way does not work out, the other one is asked: also for what is missing', async () => {
    for (const store of [await stored(), await stored(async () => undefined)]) {
      const reader = await openReader(store, 'o', undefined);
      const into = Buffer.alloc(bytes.length);
      let at = 0;
      for (let read = 1; read > 0; at += read) read = await reader.read(into.subarray(at), at);
      assert(into.equals(bytes));
      await reader.close();
      await assert.rejects(openReader(store, 'other', undefined), fault('corrupt'));
      await assert.rejects(openReader(store, 'o', { start: 5, end: bytes.length + 1 }), fault('corrupt'));
      const empty = await openReader(store, 'o', { start: 5, end: 5 });
      assert.equal(await empty.read(into, 5), 0);
      await empty.close();
    }
  });

  test('what ends early, breaks, stands still or is another part is unavailable', async () => {
    const body = (read: OpenedBody['read'], length = bytes.length): ObjectStore['open'] => {
      return async () => ({ size: bytes.length, length, read, close: () => undefined });
    };
    const reads: OpenedBody['read'][] = [
      async () => 0,
      async () => {
        throw new Error('broken');
      },
      () => new Promise<number>(() => undefined),
    ];
    for (const read of reads) {
      const reader = await openReader(await stored(body(read)), 'o', undefined, 10);
      // Keeps the process up: the limit itself does not.
      const held = setInterval(() => undefined, 1000);
      await assert.rejects(reader.read(Buffer.alloc(5), 0), fault('unavailable'));
      clearInterval(held);
      await reader.close();
    }
    await assert.rejects(openReader(await stored(body(async () => 1, 3)), 'o', undefined), fault('unavailable'));
  });
});
