/** Bodies that lie: shorter, longer, stalled, broken. Never a short success. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { rejectsWith } from '../storage.contract.ts';
import { fault, timed } from './faults.ts';
import { memoryObjects } from './memory-store.testing.ts';
import { readObject, readWhole } from './read.ts';
import type { ObjectStore } from './store.ts';

function storeOf(body: () => Readable, size: number): ObjectStore {
  return { ...memoryObjects(new Map()), get: async () => ({ body: body(), size }) };
}
const of = (...parts: string[]): Readable => Readable.from(parts.map((part) => Buffer.from(part)));

describe('reading objects', () => {
  test('whole, and in a range', async () => {
    assert.equal(
      String(
        await buffer(
          await readObject(
            storeOf(() => of('ab', 'cd'), 4),
            'x',
            undefined,
          ),
        ),
      ),
      'abcd',
    );
    const part = readObject(
      storeOf(() => of('bc'), 4),
      'x',
      { start: 1, end: 3 },
    );
    assert.equal(String(await buffer(await part)), 'bc');
  });

  test('short is unavailable, long is corrupt, a shorter object than the range is corrupt', async () => {
    await rejectsWith('unavailable', async () =>
      buffer(
        await readObject(
          storeOf(() => of('abc'), 4),
          'x',
          undefined,
        ),
      ),
    );
    await rejectsWith('corrupt', async () =>
      buffer(
        await readObject(
          storeOf(() => of('abcde'), 4),
          'x',
          undefined,
        ),
      ),
    );
    await rejectsWith('corrupt', () =>
      readObject(
        storeOf(() => of('ab'), 2),
        'x',
        { start: 0, end: 3 },
      ),
    );
    await rejectsWith('corrupt', () =>
      readWhole(
        storeOf(() => of('ab'), 2 ** 40),
        'x',
        1024,
      ),
    );
  });

  test('a broken connection says so without its words; a stall ends; leaving early ends the request', async () => {
    async function* breaking(): AsyncGenerator<Buffer> {
      yield Buffer.from('ab');
      throw Object.assign(new Error('https://bucket/?X-Amz-Signature=secret'), { code: 'ECONNRESET' });
    }
    const broken = await readObject(
      storeOf(() => Readable.from(breaking()), 4),
      'x',
      undefined,
    );
    await assert.rejects(buffer(broken), (error: Error) => {
      assert.match(error.message, /ECONNRESET/);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
    const stuck = new Readable({ read() {} });
    stuck.push('ab');
    const stalled = await readObject(
      storeOf(() => stuck, 4),
      'x',
      undefined,
      50,
    );
    // The timers of the core do not keep a process alive.
    const alive = setInterval(() => {}, 10);
    await rejectsWith('unavailable', () => buffer(stalled));
    clearInterval(alive);
    assert(stuck.destroyed);
    const left = new Readable({ read: () => {} });
    left.push('ab');
    const leaving = await readObject(
      storeOf(() => left, 4),
      'x',
      undefined,
    );
    for await (const _ of leaving) break;
    assert(left.destroyed);
  });

  test('a limit ends what does not listen, and aborts what does', async () => {
    const alive = setInterval(() => {}, 10);
    let aborted = false;
    await rejectsWith('unavailable', () =>
      timed(20, 'try', (signal) => {
        signal.addEventListener('abort', () => (aborted = true));
        return new Promise(() => {});
      }),
    );
    assert(aborted);
    const outer = new AbortController();
    const running = timed(60_000, 'try', () => new Promise(() => {}), outer.signal);
    outer.abort();
    await rejectsWith('unavailable', () => running);
    await rejectsWith('unavailable', () => timed(60_000, 'try', async () => 1, outer.signal));
    await rejectsWith('full', () => timed(60_000, 'try', () => Promise.reject(fault('full', 'try', 'no'))));
    assert.equal(await timed(60_000, 'try', async () => 5), 5);
    clearInterval(alive);
  });
});
