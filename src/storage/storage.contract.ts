/** What every storage must promise, as tests. Each driver's own test file calls `storageContract` once. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { Algorithm, BlobKey, UploadId } from '../oci/names.ts';
import { UploadBroken } from './faults.ts';
import { recordsContract } from './records.contract.ts';
import type { Appended, AppendOptions, BlobStorage } from './storage.ts';

/** A storage for one suite; `remove` is called after it was closed. */
export interface Opened {
  readonly storage: BlobStorage;
  remove(): Promise<void>;
}

let count = 0;
/** An id that no other test uses. */
export function newUpload(): UploadId {
  return `up-${process.pid}_${++count}` as UploadId;
}

/** Bytes that differ by `seed` and position. */
export function sample(size: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  for (let i = 0, x = seed >>> 0 || 1; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

/** The plain key of these bytes. */
export function keyOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256', n = 0): BlobKey {
  return blobKey(digestOf(bytes, algorithm), n);
}

/** The bytes in pieces, all in one buffer that is overwritten when the next is asked for, as the interface allows. */
export async function* pieces(bytes: Uint8Array, size: number, failure?: Error): AsyncGenerator<Uint8Array> {
  const shared = new Uint8Array(size);
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    shared.set(part);
    yield shared.subarray(0, part.length);
    shared.fill(0xee);
  }
  if (failure !== undefined) throw failure;
}

/** Options of an append that nothing stops. */
export function calm(more: Partial<AppendOptions> = {}): AppendOptions {
  return { signal: new AbortController().signal, ...more };
}

/** Asserts a FaultError of this code. */
export async function rejectsWith(code: string, work: () => Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    assert(error instanceof FaultError, `not a FaultError: ${error}`);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

/** The error of an append that must break. */
export async function brokenBy(appending: Promise<Appended>): Promise<UploadBroken> {
  const error = await appending.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert(error instanceof UploadBroken, `not broken: ${error}`);
  return error;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Registers the suite. */
export function storageContract(name: string, open: () => Promise<Opened>): void {
  describe(`storage: ${name}`, () => {
    let opened: Opened;
    let storage: BlobStorage;
    before(async () => {
      opened = await open();
      storage = opened.storage;
    });
    after(async () => {
      await storage.close();
      await rejectsWith('unavailable', () => storage.ping());
      await opened.remove();
    });

    async function upload(bytes: Uint8Array, pieceSize = 10_000): Promise<{ id: UploadId; at: Appended }> {
      const id = newUpload();
      const at = await storage.begin(id, {});
      return { id, at: await storage.append(id, at, pieces(bytes, pieceSize), calm()) };
    }
    const bytesOf = async (key: BlobKey): Promise<Buffer> => buffer(await storage.read(key));

    describe('blobs', () => {
      test('put, stat, read: the same bytes, and again over them', async () => {
        const bytes = sample(12_345, 2);
        const key = keyOf(bytes);
        assert.equal(await storage.stat(key), undefined);
        assert.deepEqual(pick(await storage.put(key, bytes)), { key, size: bytes.length });
        assert.deepEqual(pick((await storage.stat(key))!), { key, size: bytes.length });
        await storage.put(key, bytes);
        assert(bytes.equals(await bytesOf(key)));
      });

      test('an empty blob, by put and by upload', async () => {
        const empty = new Uint8Array(0);
        await storage.put(keyOf(empty, 'sha512'), empty);
        assert.equal((await bytesOf(keyOf(empty, 'sha512'))).length, 0);
        const { id, at } = await upload(empty);
        assert.equal(at.size, 0);
        assert.equal((await storage.commit(id, at, keyOf(empty))).size, 0);
        assert.equal((await bytesOf(keyOf(empty))).length, 0);
      });

      test('ranges: every edge; beyond the end is corrupt, backwards a bug', async () => {
        const bytes = sample(700_001, 3);
        const key = keyOf(bytes);
        await storage.put(key, bytes);
        const size = bytes.length;
        const edges = [0, 1, 262_143, 262_144, 262_145, size - 1, size];
        for (const start of edges) {
          for (const end of edges.filter((edge) => edge >= start)) {
            const part = await buffer(await storage.read(key, { start, end }));
            assert(bytes.subarray(start, end).equals(part), `[${start}, ${end})`);
          }
        }
        await rejectsWith('corrupt', () => storage.read(key, { start: 0, end: size + 1 }));
        for (const [start, end] of [
          [2, 1],
          [-1, 1],
          [0.5, 1],
          [0, Number.NaN],
          [0, Number.POSITIVE_INFINITY],
        ] as const) {
          await rejectsWith('bug', () => storage.read(key, { start, end }));
        }
      });

      test('a missing blob: read and openRandom are corrupt, delete says so', async () => {
        const key = keyOf(sample(10, 4));
        await rejectsWith('corrupt', () => storage.read(key));
        if (storage.openRandom !== undefined) await rejectsWith('corrupt', () => storage.openRandom!(key));
        assert.equal(await storage.delete(key), false);
      });

      test('openRandom reads at positions into the given buffer, 0 at the end, not after close', async () => {
        if (storage.openRandom === undefined) return;
        const bytes = sample(100_000, 5);
        const key = keyOf(bytes);
        await storage.put(key, bytes);
        const reader = await storage.openRandom(key);
        const into = new Uint8Array(1000);
        assert.equal(await reader.read(into, 500), 1000);
        assert(bytes.subarray(500, 1500).equals(into));
        assert.equal(await reader.read(into, bytes.length - 10), 10);
        assert(bytes.subarray(-10).equals(into.subarray(0, 10)));
        assert.equal(await reader.read(into, bytes.length), 0);
        assert.equal(await reader.read(into, bytes.length + 1_000_000), 0);
        const late = reader.read(into, 0);
        await Promise.all([reader.close(), reader.close()]);
        assert.equal(await late, 1000);
        await rejectsWith('bug', () => reader.read(into, 0));
      });

      test('delete is final and idempotent, and leaves the other numbers of a key', async () => {
        const bytes = sample(99, 6);
        const [plain, second] = [keyOf(bytes), keyOf(bytes, 'sha256', 1)];
        await storage.put(plain, bytes);
        await storage.put(second, bytes);
        assert.equal(await storage.delete(plain), true);
        assert.equal(await storage.delete(plain), false);
        assert.equal(await storage.stat(plain), undefined);
        assert(bytes.equals(await bytesOf(second)));
      });

      test('deleteMany, where there is one: those that were there and those that were not are gone', async () => {
        if (storage.deleteMany === undefined) return;
        const bytes = sample(77, 7);
        const keys = Array.from({ length: 30 }, (_, n) => keyOf(bytes, 'sha256', n));
        for (const key of keys.slice(0, 25)) await storage.put(key, bytes);
        const some = keys.slice(5);
        assert.deepEqual(await storage.deleteMany(some), some);
        assert.deepEqual(await storage.deleteMany([]), []);
        for (const [n, key] of keys.entries()) assert.equal((await storage.stat(key)) !== undefined, n < 5);
        await rejectsWith('bug', () => storage.deleteMany!([keys[0]!, '../x' as BlobKey]));
        assert.notEqual(await storage.stat(keys[0]!), undefined);
      });

      test('list gives every blob once, and by shard', async () => {
        const keys = new Set<BlobKey>();
        for (let i = 0; i < 60; i++) {
          const bytes = sample(50 + i, 1000 + i);
          const key = keyOf(bytes, i % 3 === 0 ? 'sha512' : 'sha256', i % 7);
          await storage.put(key, bytes);
          keys.add(key);
        }
        const all = await collect(storage.list());
        const listed = all.map((blob) => blob.key);
        assert.equal(new Set(listed).size, listed.length);
        for (const key of keys) assert(listed.includes(key), key);
        const shard = [...keys][0]!.split('/')[1]!;
        const some = await collect(storage.list(shard));
        assert.deepEqual(
          new Set(some.map(({ key }) => key)),
          new Set(listed.filter((key) => key.split('/')[1] === shard)),
        );
        for (const blob of some) assert.deepEqual(blob, await storage.stat(blob.key));
        for await (const _ of storage.list()) break;
        for (const bad of ['', 'a', 'AB', '..', 'abc', '/a', 'g0']) {
          await rejectsWith('bug', () => collect(storage.list(bad)));
        }
      });

      test('what is not a key, an id or a size is refused', async () => {
        const hex = 'a'.repeat(64);
        const bad = [
          '',
          '/',
          '..',
          '../x',
          `sha256/${hex}`,
          `sha256/aa/${hex}~0`,
          `sha256/ab/${hex}`,
          `sha256/aa/../aa/${hex}`,
        ];
        for (const text of [
          ...bad,
          `/sha256/aa/${hex}`,
          `sha256/aa/${hex}\0`,
          `md5/aa/${hex}`,
          `sha256/aa/${hex}~01`,
        ]) {
          const key = text as BlobKey;
          await rejectsWith('bug', () => storage.stat(key));
          await rejectsWith('bug', () => storage.read(key));
          await rejectsWith('bug', () => storage.put(key, new Uint8Array(1)));
          await rejectsWith('bug', () => storage.delete(key));
        }
        for (const text of ['', '.', '..', 'a/b', 'a.tmp', 'a\0', 'x'.repeat(201), 'ü']) {
          const id = text as UploadId;
          await rejectsWith('bug', () => storage.begin(id, {}));
          await rejectsWith('bug', () => storage.discard(id, {}));
          await rejectsWith('bug', () => storage.append(id, { size: 0, state: {} }, pieces(sample(1), 1), calm()));
        }
        const { id } = await upload(sample(10));
        for (const size of [-1, 0.5, Number.NaN, 2 ** 60]) {
          await rejectsWith('bug', () => storage.append(id, { size, state: {} }, pieces(sample(1), 1), calm()));
          await rejectsWith('bug', () => storage.commit(id, { size, state: {} }, keyOf(sample(10))));
        }
      });
    });

    describe('uploads', () => {
      test('append, readUpload, commit, discard; the hash sees every byte in order', async () => {
        const bytes = sample(3_000_017, 20);
        const id = newUpload();
        const hash = createHash('sha256');
        let at = await storage.begin(id, { size: bytes.length });
        assert.equal(at.size, 0);
        at = await storage.append(
          id,
          at,
          pieces(bytes, 65_536),
          calm({ hash: { update: (part) => void hash.update(part) } }),
        );
        assert.equal(at.size, bytes.length);
        assert.equal(`sha256:${hash.digest('hex')}`, digestOf(bytes));
        assert(bytes.equals(await buffer(await storage.readUpload(id, at))));
        assert.deepEqual(pick(await storage.commit(id, at, keyOf(bytes))), { key: keyOf(bytes), size: bytes.length });
        assert((await collect(storage.listUploads())).includes(id), 'stays until discard');
        await storage.discard(id, at.state);
        await storage.discard(id, at.state);
        assert(!(await collect(storage.listUploads())).includes(id));
        assert(bytes.equals(await bytesOf(keyOf(bytes))));
      });

      test('a hash that takes its time gets bytes that stay as they are', async () => {
        const bytes = sample(2_500_000, 21);
        const hash = createHash('sha256');
        const slow = {
          update: async (part: Uint8Array) => {
            await new Promise(setImmediate);
            await new Promise(setImmediate);
            hash.update(part);
          },
        };
        const id = newUpload();
        await storage.append(
          id,
          await storage.begin(id, {}),
          pieces(bytes, 30_000),
          calm({ hash: slow, durable: true }),
        );
        assert.equal(`sha256:${hash.digest('hex')}`, digestOf(bytes));
      });

      test('goes on at an offset, and cuts off what lies beyond it', async () => {
        const bytes = sample(200_000, 22);
        const { id, at } = await upload(sample(150_000, 23));
        let now = await storage.append(
          id,
          { size: 0, state: at.state },
          pieces(bytes.subarray(0, 70_000), 999),
          calm(),
        );
        assert.equal(now.size, 70_000);
        now = await storage.append(id, now, pieces(bytes.subarray(70_000), 65_536), calm());
        assert.equal(now.size, bytes.length);
        await storage.append(id, now, pieces(sample(5000, 24), 100), calm());
        assert.equal((await storage.commit(id, now, keyOf(bytes))).size, bytes.length);
        assert(bytes.equals(await bytesOf(keyOf(bytes))), 'committed without what was appended behind the offset');
      });

      test('an offset beyond what is stored is corrupt, for append, readUpload and commit', async () => {
        const { id, at } = await upload(sample(1000));
        const beyond = { size: 1001, state: at.state };
        await rejectsWith('corrupt', () => storage.append(id, beyond, pieces(sample(1), 1), calm()));
        await rejectsWith('corrupt', () => storage.readUpload(id, beyond));
        await rejectsWith('corrupt', () => storage.commit(id, beyond, keyOf(sample(1001))));
      });

      test('an upload that is not there is corrupt', async () => {
        const at = { size: 0, state: {} };
        await rejectsWith('corrupt', () => storage.append(newUpload(), at, pieces(sample(1), 1), calm()));
        await rejectsWith('corrupt', () => storage.commit(newUpload(), at, keyOf(sample(7, 99))));
      });

      for (const size of [0, 1, 65_535, 65_536, 262_144, 1_048_575, 1_048_576, 1_048_577, 2_621_440]) {
        test(`a body that breaks at ${size}: what arrived is kept, hashed and reported`, async () => {
          const bytes = sample(size + 1000, size + 1);
          const id = newUpload();
          const hash = createHash('sha256');
          const start = await storage.begin(id, {});
          const failure = new Error('connection reset');
          const body = pieces(bytes.subarray(0, size), 7777, failure);
          const options = calm({ hash: { update: (part) => void hash.update(part) } });
          const error = await brokenBy(storage.append(id, start, body, options));
          assert.equal(error.broke, 'body');
          assert.equal(error.cause, failure);
          assert.equal(error.appended.size, size);
          assert.equal(hash.copy().digest('hex'), createHash('sha256').update(bytes.subarray(0, size)).digest('hex'));
          const at = await storage.append(id, error.appended, pieces(bytes.subarray(size), 999), options);
          await storage.commit(id, at, keyOf(bytes));
          assert(bytes.equals(await bytesOf(keyOf(bytes))));
        });
      }

      test('a signal ends an append whose body gives nothing more', async () => {
        const bytes = sample(100_000, 30);
        const id = newUpload();
        const stop = new AbortController();
        async function* stuck(): AsyncGenerator<Uint8Array> {
          yield* pieces(bytes, 10_000);
          setImmediate(() => stop.abort(new Error('idle')));
          await new Promise(() => undefined);
        }
        const appending = storage.append(id, await storage.begin(id, {}), stuck(), { signal: stop.signal });
        const error = await brokenBy(appending);
        assert.equal(error.broke, 'signal');
        assert.equal((error.cause as Error).message, 'idle');
        assert.equal(error.appended.size, bytes.length);
        assert(bytes.equals(await buffer(await storage.readUpload(id, error.appended))));
      });

      test('a signal that is aborted already stores nothing', async () => {
        const id = newUpload();
        const options = { signal: AbortSignal.abort(new Error('gone')) };
        const appending = storage.append(id, await storage.begin(id, {}), pieces(sample(10), 1), options);
        const error = await brokenBy(appending);
        assert.equal(error.appended.size, 0);
      });

      test('many commits of one key at once, and one more later', async () => {
        const bytes = sample(50_000, 31);
        const key = keyOf(bytes);
        const all = await Promise.all(Array.from({ length: 12 }, () => upload(bytes)));
        const blobs = await Promise.all(all.map(({ id, at }) => storage.commit(id, at, key)));
        for (const blob of blobs) assert.deepEqual(pick(blob), { key, size: bytes.length });
        await storage.commit(all[0]!.id, all[0]!.at, key);
        await Promise.all(all.map(({ id, at }) => storage.discard(id, at.state)));
        assert(bytes.equals(await bytesOf(key)));
      });

      test('a commit onto a key of another size is corrupt and changes nothing', async () => {
        const bytes = sample(1234, 32);
        const key = keyOf(bytes);
        await storage.put(key, bytes.subarray(0, 1000));
        const { id, at } = await upload(bytes);
        await rejectsWith('corrupt', () => storage.commit(id, at, key));
        assert.equal((await storage.stat(key))!.size, 1000);
        assert(bytes.equals(await buffer(await storage.readUpload(id, at))));
      });

      test('uploads side by side do not mix', async () => {
        const bodies = Array.from({ length: 20 }, (_, i) => sample(300_000 + i * 1001, 40 + i));
        await Promise.all(
          bodies.map(async (bytes) => {
            const { id, at } = await upload(bytes, 8191);
            await storage.commit(id, at, keyOf(bytes));
            await storage.discard(id, at.state);
          }),
        );
        for (const bytes of bodies) assert(bytes.equals(await bytesOf(keyOf(bytes))));
      });
    });

    recordsContract(() => storage);
  });
}

function pick({ key, size }: { key: BlobKey; size: number }): { key: BlobKey; size: number } {
  return { key, size };
}
