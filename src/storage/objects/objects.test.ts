/** The core over a store in memory: the contract, the arithmetic of pieces, and a crash after every single call. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FaultError } from '../../oci/error.ts';
import type { UploadId } from '../../oci/names.ts';
import { UploadBroken } from '../faults.ts';
import { brokenBy, calm, keyOf, newUpload, pieces, rejectsWith, sample, storageContract } from '../storage.contract.ts';
import type { Appended, BlobStorage } from '../storage.ts';
import { type Bucket, type Hooks, memoryObjects } from './memory-store.testing.ts';
import { openObjectStorage } from './objects.ts';
import { room } from './room.ts';
import type { ObjectLimits } from './store.ts';

const KIB = 1024;
const small = { pieceSize: (number: number) => (number < 4 ? 8 * KIB : 16 * KIB) };

function open(
  bucket: Bucket,
  more: { hooks?: Hooks; limits?: Partial<ObjectLimits>; page?: number; budget?: number } = {},
): Promise<BlobStorage> {
  return openObjectStorage({
    store: memoryObjects(bucket, more),
    room: room(more.budget ?? 1024 * KIB),
    ...small,
  });
}

storageContract('objects in memory', async () => ({ storage: await open(new Map()), remove: async () => {} }));
storageContract('objects in memory, least part, few parts, little room', async () => ({
  storage: await open(new Map(), {
    limits: { minimumPart: 6 * KIB, mostParts: 40, largestPart: 4 * KIB * KIB },
    page: 7,
    budget: 600 * KIB,
  }),
  remove: async () => {},
}));

async function idsOf(storage: BlobStorage): Promise<string[]> {
  const ids: string[] = [];
  for await (const id of storage.listUploads()) ids.push(id);
  return ids;
}

/** Uploads the chunks one by one, giving the state of each to `storage(i)`, and the hash with them. */
async function upload(id: UploadId, chunks: readonly Buffer[], storage: (i: number) => BlobStorage): Promise<Appended> {
  let at = await storage(0).begin(id, {});
  for (const [i, chunk] of chunks.entries()) at = await storage(i).append(id, at, pieces(chunk, 3001), calm());
  return at;
}

describe('pieces', () => {
  test('any sequence of chunks, each by another instance, makes the same bytes; no state is too long', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 90 * KIB })), { maxLength: 12 }),
        fc.constantFrom(1, 6 * KIB),
        fc.constantFrom(15, 40, 10_000),
        async (sizes, minimumPart, mostParts) => {
          const bucket: Bucket = new Map();
          const more = { limits: { minimumPart, mostParts, largestPart: 1024 * KIB }, page: 5 };
          const instances = await Promise.all([open(bucket, more), open(bucket, more)]);
          const chunks = sizes.map((size, i) => sample(size, i + 1));
          const whole = Buffer.concat(chunks);
          const id = newUpload();
          const at = await upload(id, chunks, (i) => instances[i % 2]!);
          assert.equal(at.size, whole.length);
          assert(JSON.stringify(at.state).length <= 4096);
          assert(whole.equals(await buffer(await instances[0]!.readUpload(id, at))));
          await instances[1]!.commit(id, at, keyOf(whole));
          assert(whole.equals(await buffer(await instances[0]!.read(keyOf(whole)))));
          await instances[0]!.discard(id, {});
          assert.deepEqual([...bucket.keys()].sort(), [`blobs/${keyOf(whole)}`, 'ping']);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('cut anywhere, then gone on: what was cut is gone, and the older state stays good', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 40 * KIB }), { minLength: 1, maxLength: 4 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 0, max: 30 * KIB }),
        async (sizes, share, more) => {
          const storage = await open(new Map(), { limits: { minimumPart: 6 * KIB } });
          const chunks = sizes.map((size, i) => sample(size, i + 1));
          const whole = Buffer.concat(chunks);
          const id = newUpload();
          const at = await upload(id, chunks, () => storage);
          const size = Math.floor(share * whole.length);
          const wanted = Buffer.concat([whole.subarray(0, size), sample(more, 77)]);
          const next = await storage.append(id, { size, state: at.state }, pieces(sample(more, 77), 999), calm());
          assert.equal(next.size, wanted.length);
          assert(wanted.equals(await buffer(await storage.readUpload(id, next))));
          const cut = whole.subarray(0, size);
          await storage.commit(id, { size, state: at.state }, keyOf(cut));
          assert(cut.equals(await buffer(await storage.read(keyOf(cut)))));
          if (wanted.length !== size) await storage.commit(id, next, keyOf(wanted, 'sha512'));
          await storage.commit(id, at, keyOf(whole, 'sha256', 3));
          assert(whole.equals(await buffer(await storage.read(keyOf(whole, 'sha256', 3)))));
        },
      ),
      { numRuns: 60 },
    );
  });

  test('very many tiny chunks: few objects at the end, a short state, an index where runs do not fit', async () => {
    const bucket: Bucket = new Map();
    const storage = await open(bucket, { limits: { minimumPart: 6 * KIB } });
    const id = newUpload();
    const chunks = Array.from({ length: 300 }, (_, i) => sample(i % 3 === 0 ? 9 * KIB + i : 50 + i, i + 1));
    const at = await upload(id, chunks, () => storage);
    assert(JSON.stringify(at.state).length <= 4096);
    assert(
      [...bucket.keys()].some((name) => name.includes('/index-')),
      'an index',
    );
    const whole = Buffer.concat(chunks);
    assert(whole.equals(await buffer(await storage.readUpload(id, at))));
    await storage.commit(id, at, keyOf(whole));
    assert(whole.equals(await buffer(await storage.read(keyOf(whole)))));
    const lost = [...bucket.keys()].find((name) => name.includes('/index-') && name.endsWith(String(at.state.index)))!;
    bucket.delete(lost);
    await rejectsWith('corrupt', () => storage.readUpload(id, at));
  });

  test('states that no upload wrote are corrupt', async () => {
    const storage = await open(new Map());
    for (const state of [
      { v: 2, size: 0, runs: '' },
      { v: 1, size: 5, runs: '' },
      { v: 1, size: 1, runs: 'abcdefgh.0.1.1,' },
      { v: 1, size: 1, runs: '../../xx.0.1.1' },
      { v: 1, size: 0, runs: '', index: '../../xx' },
      { v: 1, size: 0, runs: 'abcdefgh.0.zzzzzz.1' },
    ]) {
      await rejectsWith('corrupt', () => storage.readUpload(newUpload(), { size: 0, state }));
    }
  });
});

describe('memory', () => {
  test('many slow uploads and a fast one in little room: all end, and the room is given back', async () => {
    const budget = 2048 * KIB;
    const shared = room(budget);
    let most = 0;
    const storage = await openObjectStorage({
      store: memoryObjects(new Map(), {
        limits: { minimumPart: 300 * KIB },
        hooks: {
          before: async () => {
            most = Math.max(most, shared.used);
            await new Promise(setImmediate);
          },
        },
      }),
      room: shared,
      pieceSize: () => 512 * KIB,
    });
    let go: () => void = () => {};
    const gate = new Promise<void>((resolve) => (go = resolve));
    async function* slow(bytes: Buffer): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 100 * KIB);
      await gate;
      yield* pieces(bytes.subarray(100 * KIB), 10_000);
    }
    const bodies = Array.from({ length: 24 }, (_, i) => sample(700 * KIB + i, i + 1));
    const run = async (bytes: Buffer, body: AsyncIterable<Uint8Array>): Promise<void> => {
      const id = newUpload();
      const hash = createHash('sha256');
      const at = await storage.append(
        id,
        await storage.begin(id, {}),
        body,
        calm({
          hash: {
            // While one waits for its hash it may be pressed, and asks for room afterwards.
            update: async (part) => {
              await new Promise(setImmediate);
              hash.update(part);
            },
          },
        }),
      );
      assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
      await storage.commit(id, at, keyOf(bytes));
      assert(bytes.equals(await buffer(await storage.read(keyOf(bytes)))));
    };
    const held = bodies.map((bytes) => run(bytes, slow(bytes)));
    const fast = sample(5000 * KIB, 99);
    await run(fast, pieces(fast, 64 * KIB));
    go();
    await Promise.all(held);
    assert(most <= budget, `${most}`);
    assert.equal(shared.used, 0);
  });
});

class Crash extends Error {}

describe('crashes', () => {
  /** A store that dies at its `count`-th call, before or after the effect; then nothing of it happens any more. */
  function dying(count: number, when: 'before' | 'after'): Hooks & { readonly died: boolean } {
    let calls = 0;
    let died = false;
    const at = (moment: 'before' | 'after') => (): void => {
      if (died) throw new Crash();
      if (moment === when && calls++ === count) {
        died = true;
        throw new Crash();
      }
    };
    return {
      before: at('before'),
      after: at('after'),
      get died() {
        return died;
      },
    };
  }

  const sizes = [20 * KIB, 700, 30 * KIB, 10, 9000];
  const chunks = sizes.map((size, i) => sample(size, i + 50));
  const whole = Buffer.concat(chunks);
  const limits = { minimumPart: 6 * KIB, mostParts: 4, largestPart: 1024 * KIB };

  for (const when of ['before', 'after'] as const) {
    test(`after every call (${when} its effect) another instance goes on, and the sweep leaves nothing`, async () => {
      for (let count = 0; ; count++) {
        const bucket: Bucket = new Map();
        const hooks = dying(count, when);
        const id = newUpload();
        /** What the database would hold. */
        let row: Appended | undefined;
        let acknowledged = false;
        try {
          const storage = await open(bucket, { hooks, limits });
          row = await storage.begin(id, {});
          for (const chunk of chunks) row = await storage.append(id, row, pieces(chunk, 3001), calm());
          await storage.commit(id, row, keyOf(whole));
          acknowledged = true;
          await storage.discard(id, row.state);
        } catch (error) {
          assert(error instanceof FaultError, `${error}`);
        }
        const other = await open(bucket, { limits });
        if (acknowledged) assert(whole.equals(await buffer(await other.read(keyOf(whole)))), `${count}`);
        if (row === undefined) row = await other.begin(id, {});
        if (!acknowledged) {
          assert(whole.subarray(0, row.size).equals(await buffer(await other.readUpload(id, row))), `${count}`);
          row = await other.append(id, row, pieces(whole.subarray(row.size), 2000), calm());
          await other.commit(id, row, keyOf(whole));
          assert(whole.equals(await buffer(await other.read(keyOf(whole)))), `${count}`);
        }
        for (const left of await idsOf(other)) await other.discard(left as UploadId, {});
        assert.deepEqual([...bucket.keys()].sort(), [`blobs/${keyOf(whole)}`, 'ping']);
        if (!hooks.died) break;
      }
    });
  }

  test('a piece that fails: the offset is true, later pieces do not count, the append goes on', async () => {
    for (let failing = 0; failing < 6; failing++) {
      const bucket: Bucket = new Map();
      let puts = 0;
      const hooks: Hooks = {
        async before(call, name) {
          if (call === 'put' && name.startsWith('uploads/') && puts++ === failing) {
            await new Promise(setImmediate);
            throw new FaultError('full', 'The quota is used up.');
          }
        },
      };
      const storage = await open(bucket, { hooks });
      const bytes = sample(60 * KIB, failing + 1);
      const id = newUpload();
      const hash = createHash('sha256');
      const error = await brokenBy(
        storage.append(
          id,
          await storage.begin(id, {}),
          pieces(bytes, 1000),
          calm({ hash: { update: (part) => void hash.update(part) } }),
        ),
      );
      assert.equal(error.broke, 'storage');
      assert.equal(error.code, 'full');
      assert.equal(error.appended.size, (failing < 4 ? failing : 4 + (failing - 4) * 2) * 8 * KIB);
      assert.equal(error.hashIntact, false);
      const rest = pieces(bytes.subarray(error.appended.size), 999);
      const at = await storage.append(id, error.appended, rest, calm());
      await storage.commit(id, at, keyOf(bytes));
      assert(bytes.equals(await buffer(await storage.read(keyOf(bytes)))));
    }
  });

  test('a failure while small pieces are taken again keeps the old ones', async () => {
    const bucket: Bucket = new Map();
    let broken = false;
    const hooks: Hooks = {
      before(call, name) {
        if (broken && call === 'put' && name.startsWith('uploads/')) throw new FaultError('unavailable', 'Down.');
      },
    };
    const storage = await open(bucket, { hooks });
    const id = newUpload();
    const small = Array.from({ length: 64 }, (_, i) => sample(20, i + 1));
    const at = await upload(id, small, () => storage);
    broken = true;
    const error = await brokenBy(storage.append(id, at, pieces(sample(100), 50), calm()));
    assert(error instanceof UploadBroken);
    assert.deepEqual(error.appended, at);
    broken = false;
    const next = await storage.append(id, error.appended, pieces(sample(100), 50), calm());
    const all = Buffer.concat([...small, sample(100)]);
    assert(all.equals(await buffer(await storage.readUpload(id, next))));
  });
});

describe('the sweep', () => {
  test('idleUploads gives those that are older, and asks the store for what commits left', async () => {
    const bucket: Bucket = new Map([
      ['uploads/old/abcdefgh-0', { bytes: Buffer.from('x'), modifiedAt: 1000 }],
      ['uploads/young/abcdefgh-0', { bytes: Buffer.from('x'), modifiedAt: 1000 }],
      ['uploads/young/abcdefgh-1', { bytes: Buffer.from('x'), modifiedAt: 99_000 }],
      ['uploads/stray', { bytes: Buffer.from('x'), modifiedAt: 1000 }],
    ]);
    const store = memoryObjects(bucket);
    const asked: number[] = [];
    const storage = await openObjectStorage({
      store: {
        ...store,
        removeUnfinished: async (before) => {
          asked.push(before);
          return 2;
        },
      },
      clock: { now: () => 100_000, monotonic: () => 0, sleep: async () => {} },
    });
    const found: string[] = [];
    for await (const id of storage.idleUploads!(50_000)) found.push(id);
    assert.deepEqual(found, ['old']);
    assert.deepEqual(asked, [50_000]);
  });
});
