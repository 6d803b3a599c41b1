/** A store that hangs, seen from whole uploads, in time that only moves when it is told to: all are refused at once. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import { calm, keyOf, newUpload, pieces, sample } from '../storage.contract.ts';
import type { BlobStorage } from '../storage.ts';
import { REQUEST_MILLISECONDS } from './faults.ts';
import { type Bucket, memoryObjects } from './memory-store.testing.ts';
import { openObjectStorage } from './objects.ts';
import { type Room, room } from './room.ts';
import { AWAY_MILLISECONDS, QUIET_MILLISECONDS } from './vigil.ts';

const KIB = 1024;
/** Large enough that its request has the long limit. */
const PIECE = 128 * KIB;

let hangs: (call: string, name: string) => boolean;
let shared: Room;
let bucket: Bucket;

async function open(minimumPart = 1): Promise<BlobStorage> {
  return openObjectStorage({
    store: memoryObjects(bucket, {
      limits: { minimumPart },
      hooks: { before: async (call, name) => (hangs(call, name) ? new Promise<void>(() => undefined) : undefined) },
    }),
    room: shared,
    pieceSize: () => PIECE,
  });
}

beforeEach(() => {
  hangs = () => false;
  shared = room(4 * PIECE);
  bucket = new Map();
  mock.timers.enable({ apis: ['setTimeout'] });
});
afterEach(() => mock.timers.reset());

async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
}

/** So long as one small request may wait, and not longer. */
async function passLimit(): Promise<void> {
  await settle();
  mock.timers.tick(QUIET_MILLISECONDS);
  await settle();
  mock.timers.tick(AWAY_MILLISECONDS - QUIET_MILLISECONDS);
  await settle();
  mock.timers.tick(REQUEST_MILLISECONDS - AWAY_MILLISECONDS);
  await settle();
}

/** The messages of those that failed so far; undefined for who still waits. */
function failures(works: readonly Promise<unknown>[]): (string | undefined)[] {
  const found: (string | undefined)[] = works.map(() => undefined);
  for (const [at, work] of works.entries()) {
    work.then(
      () => (found[at] = 'succeeded'),
      (error: unknown) => (found[at] = error instanceof FaultError && error.code === 'unavailable' ? 'away' : 'other'),
    );
  }
  return found;
}

for (const chunk of [PIECE, 10 * KIB]) {
  test(`uploads that wait for room end together with those that have it, with chunks of ${chunk} bytes`, async () => {
    const storage = await open();
    hangs = () => true;
    const works = Array.from({ length: 20 }, async (_, i) => {
      const id = newUpload();
      await storage.append(id, await storage.begin(id, {}), pieces(sample(3 * PIECE, i + 1), chunk), calm());
    });
    const found = failures(works);
    await passLimit();
    assert.deepEqual(
      found,
      works.map(() => 'away'),
    );
    assert.equal(shared.used, 0, 'and leave nothing in it');
    hangs = () => false;
    const [id, bytes] = [newUpload(), sample(3 * PIECE, 99)];
    const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, chunk), calm());
    await storage.commit(id, at, keyOf(bytes));
  });
}

test('an upload ends while its body says nothing', async () => {
  const storage = await open();
  hangs = () => true;
  let left = false;
  async function* body(): AsyncGenerator<Uint8Array> {
    try {
      yield sample(PIECE, 1);
      await new Promise(() => undefined);
    } finally {
      left = true;
    }
  }
  const id = newUpload();
  const found = failures([storage.append(id, await storage.begin(id, {}), body(), calm())]);
  await passLimit();
  assert.deepEqual([found, left], [['away'], false]);
});

test('a commit neither waits for its turn to merge nor looks once more for what it could not make', async () => {
  const storage = await open(PIECE);
  const commits: (() => Promise<unknown>)[] = [];
  for (let i = 0; i < 6; i++) {
    const id = newUpload();
    let at = await storage.begin(id, {});
    // Small pieces are merged in memory, few uploads' at a time.
    for (let chunk = 0; chunk < 3; chunk++)
      at = await storage.append(id, at, pieces(sample(30 * KIB, 10 * i + chunk), 999), calm());
    commits.push(() => storage.commit(id, at, keyOf(sample(40, i + 1))));
  }
  let looked = 0;
  hangs = (call, name) => {
    if (call === 'head' && name.startsWith('blobs/')) looked++;
    else return call !== 'get';
    return false;
  };
  const found = failures(commits.map((commit) => commit()));
  await passLimit();
  assert.deepEqual(
    found,
    commits.map(() => 'away'),
  );
  assert.equal(looked, 6);
});
