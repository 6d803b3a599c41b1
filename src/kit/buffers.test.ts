import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Borrowed, type TransferBuffers, transferBuffers } from './buffers.ts';

const KIB = 1024;
const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  let done = false;
  promise.then(
    () => (done = true),
    () => (done = true),
  );
  for (let i = 0; i < 5; i++) await Promise.resolve();
  return done;
};
const tiny = (): TransferBuffers => transferBuffers({ budget: 4, large: 2, small: 1, few: 2, idle: 4 });

describe('transfer buffers', () => {
  test('512 KiB while at most 32 transfers run, 64 KiB beyond, and 512 KiB again', async () => {
    const buffers = transferBuffers();
    const transfers = Array.from({ length: 32 }, () => buffers.begin());
    const size = async (): Promise<number> => {
      const lent = await transfers[0]!.borrow();
      assert.equal(buffers.lentBytes, lent.bytes.length);
      lent.giveBack();
      return lent.bytes.length;
    };
    assert.equal(await size(), 512 * KIB);
    transfers.push(buffers.begin());
    assert.equal(await size(), 64 * KIB);
    transfers.pop()!.end();
    assert.equal(await size(), 512 * KIB);
    for (const transfer of transfers) transfer.end();
    assert.equal(buffers.lentBytes, 0);
  });

  test('never more than the budget; who waits is served in order', async () => {
    const buffers = tiny();
    const transfer = buffers.begin();
    const held = [await transfer.borrow(), await transfer.borrow()];
    const order: number[] = [];
    const waiting = [1, 2, 3].map(async (n) => {
      const lent = await transfer.borrow();
      order.push(n);
      return lent;
    });
    assert.equal(await settled(waiting[0]!), false);
    assert.equal(buffers.lentBytes, 4);
    held[0]!.giveBack();
    held[1]!.drop();
    const next = await Promise.all(waiting.slice(0, 2));
    assert.equal(buffers.lentBytes, 4);
    next[0]!.giveBack();
    (await waiting[2]!).giveBack();
    next[1]!.giveBack();
    assert.deepEqual(order, [1, 2, 3]);
    assert.equal(buffers.lentBytes, 0);
  });

  test('a small one does not overtake a large one that waits', async () => {
    const buffers = tiny();
    const first = buffers.begin();
    const lent = [await first.borrow(), await first.borrow()];
    const late = first.borrow();
    const others = [buffers.begin(), buffers.begin()];
    const small = others[0]!.borrow();
    assert.equal(await settled(small), false);
    lent[0]!.giveBack();
    assert.equal((await late).bytes.length, 1, 'its size is decided when it is granted');
    assert.equal((await small).bytes.length, 1);
  });

  test('what was given back is used again; what was dropped is not; twice counts once', async () => {
    const buffers = tiny();
    const transfer = buffers.begin();
    const first = await transfer.borrow();
    first.giveBack();
    first.giveBack();
    first.drop();
    assert.equal(buffers.lentBytes, 0);
    const second = await transfer.borrow();
    const third = await transfer.borrow();
    assert.equal(second.bytes, first.bytes);
    assert.notEqual(third.bytes, first.bytes);
    second.drop();
    const fourth = await transfer.borrow();
    assert.notEqual(fourth.bytes, first.bytes);
  });

  test('an abort, before or while waiting, rejects with its reason and leaves nothing behind', async () => {
    const buffers = tiny();
    const transfer = buffers.begin();
    const reason = new Error('gone');
    await assert.rejects(transfer.borrow(AbortSignal.abort(reason)), reason);
    const held = [await transfer.borrow(), await transfer.borrow()];
    const stop = new AbortController();
    const aborted = transfer.borrow(stop.signal);
    const patient = transfer.borrow(new AbortController().signal);
    stop.abort(reason);
    await assert.rejects(aborted, reason);
    held[0]!.giveBack();
    (await patient).giveBack();
    held[1]!.giveBack();
    assert.equal(buffers.lentBytes, 0);
  });

  test('an ended transfer borrows nothing; its waiters are refused and the others served', async () => {
    const buffers = tiny();
    const [one, two] = [buffers.begin(), buffers.begin()];
    const held = [await one.borrow(), await one.borrow()];
    const refused = two.borrow();
    two.end();
    two.end();
    await assert.rejects(refused, /ended/);
    await assert.rejects(two.borrow(), /ended/);
    one.end();
    for (const lent of held) lent.giveBack();
    assert.equal(buffers.lentBytes, 0);
  });

  test('2,000 transfers that borrow, abort, drop and end in every order leave the budget whole', async () => {
    const buffers = transferBuffers({ budget: 64, large: 8, small: 2, few: 16, idle: 16 });
    await Promise.all(
      Array.from({ length: 2000 }, async (_, i) => {
        const transfer = buffers.begin();
        const stop = new AbortController();
        if (i % 5 === 0) setImmediate(() => stop.abort(new Error('stop')));
        const lent: Borrowed[] = [];
        try {
          lent.push(await transfer.borrow(stop.signal));
          assert(buffers.lentBytes <= 64);
          if (i % 3 === 0) await new Promise(setImmediate);
        } catch (error) {
          assert.match((error as Error).message, /stop/);
        } finally {
          if (i % 2 === 0) transfer.end();
          for (const one of lent) i % 7 === 0 ? one.drop() : one.giveBack();
          transfer.end();
        }
      }),
    );
    assert.equal(buffers.lentBytes, 0);
    const transfer = buffers.begin();
    assert.equal((await transfer.borrow()).bytes.length, 8);
  });
});
