import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';
import type { SharedRing } from './hash-thread.ts';
import { type HashThreads, type HashThreadsOptions, hashThreads, type RunningHash } from './hash-threads.ts';
import { silentLog } from './log.ts';
import { startThread } from './thread.ts';

const LARGE = 1024 * 1024 + 1;
const hexOf = (bytes: Uint8Array, algorithm = 'sha256'): string => createHash(algorithm).update(bytes).digest('hex');
const script = (code: string): URL => new URL(`data:text/javascript,${encodeURIComponent(code)}`);

/** Runs with threads of its own, which are closed afterwards. */
async function having(
  options: Omit<HashThreadsOptions, 'log'>,
  work: (threads: HashThreads, started: Worker[]) => Promise<void>,
): Promise<void> {
  const started: Worker[] = [];
  const start = options.start ?? ((shared: SharedRing) => startThread('hashes', shared));
  const threads = hashThreads({
    log: silentLog,
    ...options,
    start: (shared) => {
      const worker = start(shared);
      started.push(worker);
      return worker;
    },
  });
  try {
    await work(threads, started);
  } finally {
    await threads.close();
    assert.deepEqual(threads.load(), { threads: 0, hashes: 0, bytes: 0 });
  }
}

/** Gives the bytes in chunks of one buffer, which is overwritten after each. */
async function give(hash: RunningHash, bytes: Uint8Array, chunk: number): Promise<void> {
  const buffer = new Uint8Array(chunk);
  for (let at = 0; at < bytes.length; at += chunk) {
    const part = bytes.subarray(at, at + chunk);
    buffer.set(part);
    await hash.update(buffer.subarray(0, part.length));
    buffer.fill(0);
  }
  assert.equal(hash.length, bytes.length);
}

async function hexBy(threads: HashThreads, bytes: Uint8Array, chunk = 300_000): Promise<string> {
  const hash = threads.begin('sha256', bytes.length);
  await give(hash, bytes, chunk);
  return hash.digestHex();
}

async function until(what: string, is: () => boolean): Promise<void> {
  for (let tries = 0; !is(); tries++) {
    assert.ok(tries < 3000, what);
    await sleep(10);
  }
}

test('the same digests as on one thread: both algorithms, chunks of every kind, many at once', async () => {
  await having({ ring: 200_000, most: 2 }, async (threads, started) => {
    const work = [1, 2, 3, 4, 5, 6, 7, 8].map(async (at) => {
      const algorithm = at % 2 === 0 ? 'sha256' : 'sha512';
      const bytes = randomBytes(LARGE + at * 1000);
      const hash = threads.begin(algorithm, bytes.length);
      await give(hash, bytes, [777, 65_536, 200_000, 200_001, 900_000][at % 5]!);
      assert.equal(await hash.digestHex(), hexOf(bytes, algorithm));
      await assert.rejects(hash.update(bytes), /over/);
      await assert.rejects(hash.digestHex(), /over/);
      hash.close();
    });
    await Promise.all(work);
    assert.equal(started.length, 2);
    assert.deepEqual(threads.load(), { threads: 2, hashes: 0, bytes: 0 });
    const empty = threads.begin('sha256', LARGE);
    assert.equal(await empty.digestHex(), hexOf(new Uint8Array()));
  });
});

test('what is small stays here, and starts no thread', async () => {
  await having({}, async (threads, started) => {
    const bytes = randomBytes(LARGE - 1);
    assert.equal(await hexBy(threads, bytes), hexOf(bytes));
    assert.equal(started.length, 0);
  });
});

test('updates that were not waited for keep their order', async () => {
  await having({ ring: 10_000 }, async (threads) => {
    const bytes = randomBytes(LARGE);
    const hash = threads.begin('sha256', bytes.length);
    const parts: Promise<void>[] = [];
    for (let at = 0; at < bytes.length; at += 30_000) parts.push(hash.update(bytes.subarray(at, at + 30_000)));
    await Promise.all(parts);
    assert.equal(await hash.digestHex(), hexOf(bytes));
  });
});

test('a thread that takes nothing: no more than its ring is held, the rest waits, and who closes waits no longer', async () => {
  const stuck = script('setInterval(() => {}, 1000);');
  await having({ ring: 100_000, most: 1, start: () => startThread(stuck, undefined) }, async (threads) => {
    const bytes = randomBytes(70_000);
    const hashes = Array.from({ length: 20 }, () => threads.begin('sha256', LARGE));
    let done = 0;
    const updates = hashes.map((hash) => hash.update(bytes).then(() => done++));
    const settled = Promise.allSettled(updates);
    await updates[0];
    assert.deepEqual(threads.load(), { threads: 1, hashes: 20, bytes: 70_000 });
    assert.equal(done, 1);
    hashes[1]!.close();
    hashes[1]!.close();
    await assert.rejects(updates[1]!, /closed/);
    assert.equal(threads.load().hashes, 19);
    await threads.close();
    assert.equal((await settled).filter(({ status }) => status === 'rejected').length, 19);
    await assert.rejects(hashes[0]!.digestHex(), /closed/);
    assert.throws(() => threads.begin('sha256', 1), /closed/);
  });
});

test('closed in the middle: nothing is left of it, and the others go on', async () => {
  await having({ ring: 50_000, most: 1 }, async (threads, started) => {
    const bytes = randomBytes(LARGE);
    const whole = hexBy(threads, bytes);
    const hash = threads.begin('sha256', LARGE);
    const cut = assert.rejects(hash.update(bytes), /closed/);
    hash.close();
    await cut;
    await assert.rejects(hash.update(bytes), /closed/);
    assert.equal(await whole, hexOf(bytes));
    assert.deepEqual(threads.load(), { threads: 1, hashes: 0, bytes: 0 });
    assert.equal(started.length, 1);
  });
});

test('a thread that dies fails what it had, and the next hash has another thread', async () => {
  await having({ most: 1 }, async (threads, started) => {
    const bytes = randomBytes(LARGE);
    assert.equal(await hexBy(threads, bytes), hexOf(bytes));
    const hash = threads.begin('sha256', LARGE);
    await hash.update(bytes);
    const other = threads.begin('sha256', LARGE);
    // No owner sends such a thing: there is no such algorithm.
    started[0]!.postMessage({ kind: 'begin', id: 99, algorithm: 'none' });
    await assert.rejects(hash.digestHex(), /ended/);
    assert.deepEqual(threads.load(), { threads: 0, hashes: 0, bytes: 0 });
    await assert.rejects(other.update(bytes), /ended/);
    await assert.rejects(other.digestHex(), /ended/);
    other.close();
    assert.equal(await hexBy(threads, bytes), hexOf(bytes));
    assert.equal(started.length, 2);
  });
});

test('where the machine gives no thread the bytes are hashed here', async () => {
  const bytes = randomBytes(LARGE);
  const refusing = (): Worker => {
    throw new Error('no more threads');
  };
  await having({ start: refusing }, async (threads) => assert.equal(await hexBy(threads, bytes), hexOf(bytes)));
  const dying = (): Worker => startThread(script('process.exit(1)'), undefined);
  await having({ start: dying, most: 1 }, async (threads, started) => {
    await assert.rejects(hexBy(threads, bytes), /ended/);
    assert.equal(await hexBy(threads, bytes), hexOf(bytes));
    assert.equal(started.length, 1);
  });
});

test('a thread without work ends, and another one starts when there is some', async () => {
  await having({ idle: 1, most: 1 }, async (threads, started) => {
    const bytes = randomBytes(LARGE);
    for (let round = 1; round <= 2; round++) {
      assert.equal(await hexBy(threads, bytes), hexOf(bytes));
      await until('the thread ended', () => threads.load().threads === 0);
      assert.equal(started.length, round);
    }
  });
});

test('threads that have nothing to do keep no process alive', async () => {
  const module = JSON.stringify(join(import.meta.dirname, 'hash-threads.ts'));
  const code = `import(${module}).then(async ({ hashThreads }) => {
    const nothing = () => {};
    const threads = hashThreads({ log: { debug: nothing, info: nothing, warn: nothing, error: nothing } });
    const hash = threads.begin('sha256', ${LARGE});
    await hash.update(new Uint8Array(${LARGE}));
    console.log(await hash.digestHex());
    threads.begin('sha256', ${LARGE}).close();
    });`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--eval', code]);
  assert.equal(stdout.trim(), hexOf(new Uint8Array(LARGE)));
});
