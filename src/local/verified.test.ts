/** Large stored blobs on their way out: checked in threads, whole only where they are right. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { type HashThreads, hashThreads } from '../kit/hash-threads.ts';
import { silentLog } from '../kit/log.ts';
import { startThread } from '../kit/thread.ts';
import { digestOf } from '../oci/digest.ts';
import type { BlobContent } from '../registry/registry.ts';
import { body, callAs, refused, repo, type Sample } from '../registry/samples.testing.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { streamingStorage } from '../storage/streaming.testing.ts';
import { freshLocal, type LocalForTest } from './fresh.testing.ts';

const MIB = 1024 * 1024;
const SIZE = 2 * MIB + 12_345;
const RING = 300_000;
const call = callAs('user');

function randomBlob(size = SIZE): Sample {
  const bytes = randomBytes(size);
  return { bytes, digest: digestOf(bytes), mediaType: 'application/octet-stream' };
}

interface Having extends LocalForTest {
  readonly threads: HashThreads;
  readonly started: Worker[];
  /** Flips a byte of what storage reads: at this position of a blob, so many times. */
  flip(position: number, times?: number): void;
}

/** The storage, through which a byte may be read wrong. */
function flipping(storage: BlobStorage): { storage: BlobStorage; flip: Having['flip'] } {
  let [wrong, left] = [-1, 0];
  const spoil = (bytes: Uint8Array, at: number): void => {
    if (left === 0 || wrong < at || wrong >= at + bytes.length) return;
    left--;
    bytes[wrong - at]! ^= 1;
  };
  async function* spoiled(source: Readable, start: number): AsyncGenerator<Uint8Array> {
    let at = start;
    for await (const chunk of source as AsyncIterable<Uint8Array>) {
      for (let from = 0; from < chunk.length; from += 100_000) {
        const copy = Buffer.from(chunk.subarray(from, from + 100_000));
        spoil(copy, at);
        at += copy.length;
        yield copy;
      }
    }
  }
  const { openRandom } = storage;
  return {
    storage: {
      ...storage,
      read: async (key, range) =>
        Readable.from(spoiled(await storage.read(key, range), range?.start ?? 0), { objectMode: false }),
      ...(openRandom === undefined
        ? {}
        : {
            openRandom: async (key, range) => {
              const reader = await openRandom(key, range);
              return {
                async read(into, position) {
                  const length = await reader.read(into, position);
                  spoil(into.subarray(0, length), position);
                  return length;
                },
                close: () => reader.close(),
              };
            },
          }),
    },
    flip(position, times = Number.POSITIVE_INFINITY) {
      [wrong, left] = [position, times];
    },
  };
}

async function having(inner: BlobStorage, work: (local: Having) => Promise<void>): Promise<void> {
  const started: Worker[] = [];
  const threads = hashThreads({
    log: silentLog,
    ring: RING,
    most: 1,
    start: (shared) => {
      const worker = startThread('hashes', shared);
      started.push(worker);
      return worker;
    },
  });
  const { storage, flip } = flipping(inner);
  const local = await freshLocal({ storage, hashing: threads });
  try {
    await work({ ...local, threads, started, flip });
    await until('all hashes are over', () => threads.load().hashes === 0);
  } finally {
    await local.close();
  }
}

const push = ({ store }: LocalForTest, { digest, bytes }: Sample): Promise<unknown> =>
  store.pushBlob(call, repo('a'), { digest, size: bytes.length }, body(bytes));

const content = ({ store }: LocalForTest, { digest }: Sample): Promise<BlobContent> =>
  store.getBlob(call, repo('a'), digest);

async function until(what: string, is: () => boolean): Promise<void> {
  for (let tries = 0; !is(); tries++) {
    assert.ok(tries < 3000, what);
    await sleep(10);
  }
}

interface Pulled {
  readonly bytes: Buffer;
  readonly error?: { readonly code?: string };
}

/** Pulls as the pump does, in one buffer that is used again; `stopAfter`: goes away after so many bytes. */
async function pull(local: LocalForTest, blob: Sample, stopAfter = Number.POSITIVE_INFINITY): Promise<Pulled> {
  const got = await content(local, blob);
  const chunks: Buffer[] = [];
  let length = 0;
  const error = await (async () => {
    if (got.openRandom === undefined) {
      for await (const chunk of got.open() as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        length += chunk.length;
        if (length >= stopAfter) return;
      }
      return;
    }
    const reader = await got.openRandom();
    try {
      const into = new Uint8Array(512 * 1024);
      while (length < got.range.end && length < stopAfter) {
        const read = await reader.read(into, length);
        assert.notEqual(read, 0);
        chunks.push(Buffer.from(into.subarray(0, read)));
        length += read;
      }
    } finally {
      await reader.close();
    }
  })().catch((reason: { code?: string }) => reason);
  got.close();
  return { bytes: Buffer.concat(chunks), ...(error === undefined ? {} : { error }) };
}

for (const [name, storage] of [
  ['at positions', memoryStorage],
  ['as a stream', streamingStorage],
] as const) {
  test(`read ${name}: right bytes come whole, in a thread the first time and unchecked afterwards`, async () => {
    await having(storage(), async (local) => {
      const blob = randomBlob();
      await push(local, blob);
      for (let again = 0; again < 3; again++) {
        const pulled = await pull(local, blob);
        assert.equal(pulled.error, undefined);
        assert.ok(pulled.bytes.equals(blob.bytes));
      }
      assert.equal(local.started.length, 1);
      // Nobody looks: it was found right a moment ago.
      local.flip(7);
      assert.equal((await pull(local, blob)).bytes.length, SIZE);
      assert.ok((await buffer((await content(local, blob)).open())).length === SIZE);
    });
  });

  test(`read ${name}: a wrong byte, wherever, is never part of a complete answer, and the blob is out of service`, async () => {
    await having(storage(), async (local) => {
      const blob = randomBlob();
      for (const position of [0, SIZE >> 1, SIZE - 1]) {
        await push(local, blob);
        local.flip(position);
        const { bytes, error } = await pull(local, blob);
        assert.equal(error?.code, 'BLOB_UNKNOWN');
        assert.ok(bytes.length < SIZE);
        await refused(content(local, blob), 'BLOB_UNKNOWN');
        local.flip(-1);
      }
      await push(local, blob);
      assert.ok((await pull(local, blob)).bytes.equals(blob.bytes));
    });
  });

  test(`read ${name}: wrong once only breaks that answer off`, async () => {
    await having(storage(), async (local) => {
      const blob = randomBlob();
      await push(local, blob);
      local.flip(SIZE >> 1, 1);
      const { bytes, error } = await pull(local, blob);
      assert.equal(error?.code, 'unavailable');
      assert.ok(bytes.length < SIZE);
      assert.ok((await pull(local, blob)).bytes.equals(blob.bytes));
    });
  });

  test(`read ${name}: who goes in the middle leaves nothing behind`, async () => {
    await having(storage(), async (local) => {
      const blob = randomBlob();
      await push(local, blob);
      for (let again = 0; again < 5; again++) {
        assert.ok((await pull(local, blob, 600_000)).bytes.length < SIZE);
        await until('the hash is over', () => local.threads.load().hashes === 0);
      }
      // Opened and never read: nothing was begun.
      const unread = await content(local, blob);
      const reader = await unread.openRandom?.();
      await reader?.close();
      unread.close();
      assert.ok((await pull(local, blob)).bytes.equals(blob.bytes));
      assert.equal(local.started.length, 1);
    });
  });

  test(`read ${name}: a thread that dies breaks its answers off, is no damage, and the next pull has another`, async () => {
    await having(storage(), async (local) => {
      const [first, second] = [randomBlob(), randomBlob()];
      await push(local, first);
      await push(local, second);
      assert.equal((await pull(local, first)).error, undefined);
      // It takes this before the pieces of the pull, and fails.
      local.started[0]!.postMessage({ kind: 'begin', id: -1, algorithm: 'none' });
      const { bytes, error } = await pull(local, second);
      assert.equal(error?.code, 'unavailable');
      assert.ok(bytes.length < SIZE);
      assert.ok((await pull(local, second)).bytes.equals(second.bytes));
      assert.equal(local.started.length, 2);
    });
  });

  test(`read ${name}: many at once are bounded and all right`, async () => {
    await having(storage(), async (local) => {
      const blobs = [randomBlob(), randomBlob(SIZE + 1), randomBlob(SIZE + 2)];
      for (const blob of blobs) await push(local, blob);
      let most = 0;
      const watching = setInterval(() => {
        most = Math.max(most, local.threads.load().bytes);
      }, 1);
      try {
        const pulls = Array.from({ length: 12 }, (_, at) => blobs[at % blobs.length]!);
        await Promise.all(
          pulls.map(async (blob) => assert.ok((await pull(local, blob)).bytes.equals(blob.bytes), blob.digest)),
        );
      } finally {
        clearInterval(watching);
      }
      assert.ok(most <= RING);
      assert.equal(local.started.length, 1);
    });
  });
}
