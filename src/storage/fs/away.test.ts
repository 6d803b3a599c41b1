import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import type { Clock } from '../../kit/clock.ts';
import { systemClock } from '../../kit/clock.ts';
import { blobKey } from '../../oci/blob-key.ts';
import { digestOf } from '../../oci/digest.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey, UploadId } from '../../oci/names.ts';
import { UploadBroken } from '../faults.ts';
import type { BlobStorage } from '../storage.ts';
import { openFsStorage } from './fs.ts';
import { MARK } from './home.ts';
import { type Operations, systemOperations } from './operations.ts';
import { room } from './room.ts';

const MIB = 1024 * 1024;
const bytes = Buffer.alloc(1000, 7);
const key = (n: number): BlobKey => blobKey(digestOf(bytes), n);
const fails = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof FaultError && error.code === code && message.test(error.message);
const calm = () => ({ signal: new AbortController().signal });

describe('files whose storage is away or full', () => {
  let folder: string;
  let root: string;
  before(async () => {
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'longshore-away-'));
    root = path.join(folder, 'storage');
  });
  after(() => fs.rm(folder, { recursive: true, force: true }));

  async function everythingRefused(storage: BlobStorage, id: UploadId, why: RegExp): Promise<void> {
    const refused = (work: Promise<unknown>) => assert.rejects(work, fails('unavailable', why));
    await refused(storage.stat(key(0)));
    await refused(storage.read(key(0)));
    await refused(storage.openRandom!(key(0)));
    await refused(storage.put(key(1), bytes));
    await refused(storage.records.put('some/record', bytes));
    await refused(storage.records.get('some/record'));
    await refused(storage.delete(key(0)));
    await refused(storage.commit(id, { size: 1000, state: {} }, key(2)));
    await refused(storage.append(id, { size: 1000, state: {} }, Readable.from([bytes]), calm()));
    await refused(storage.ping());
    await refused(
      (async () => {
        for await (const _ of storage.list('aa')) assert.fail();
      })(),
    );
  }

  test('moved away: everything is refused, nothing counts as lost, nothing is made there; back: all is as before', async () => {
    const storage = await openFsStorage({ root, durability: 'full' });
    await storage.put(key(0), bytes);
    const id = 'an-upload' as UploadId;
    await storage.append(id, await storage.begin(id, {}), Readable.from([bytes]), calm());
    const aside = path.join(folder, 'aside');
    await fs.rename(root, aside);
    await everythingRefused(storage, id, /gone|missing/);
    assert.deepEqual(await fs.readdir(folder), ['aside']);
    // Another storage in its place, as when a disk is not mounted: nothing stays in it.
    const other = await openFsStorage({ root, durability: 'full' });
    await everythingRefused(storage, id, /Another folder/);
    assert.equal(await other.stat(key(2)), undefined);
    await other.close();
    await fs.rm(root, { recursive: true });
    await fs.rename(aside, root);
    await storage.ping();
    assert.equal((await storage.stat(key(0)))?.size, 1000);
    assert.equal((await storage.commit(id, { size: 1000, state: {} }, key(3))).size, 1000);
    await storage.close();
  });

  test('a copy under the same name is told by its mark, and a storage without a mark by its folder', async () => {
    const storage = await openFsStorage({ root, durability: 'full' });
    const copy = path.join(folder, 'copy');
    await fs.cp(root, copy, { recursive: true });
    await fs.rename(root, path.join(folder, 'original'));
    await fs.rename(copy, root);
    await storage.ping();
    await storage.put(key(4), bytes);
    await storage.close();
    const operations: Operations = {
      ...systemOperations,
      link: async (from, to) => {
        if (to.endsWith(MARK)) throw Object.assign(new Error('read-only'), { code: 'EROFS' });
        return systemOperations.link(from, to);
      },
    };
    const plain = path.join(folder, 'plain');
    const unmarked = await openFsStorage({ root: plain, durability: 'full', operations });
    await unmarked.put(key(0), bytes);
    await fs.rename(plain, `${plain}-aside`);
    await fs.mkdir(plain);
    await assert.rejects(unmarked.ping(), fails('unavailable', /Another folder/));
    await unmarked.close();
  });

  test('a nearly full disk takes no pushes, but records and deletes; a push that met it goes on when there is room', async () => {
    let free = 100 * MIB;
    const operations: Operations = {
      ...systemOperations,
      space: async () => ({ free, total: 160 * MIB }),
      async write(fd, from, offset, length, position) {
        free -= length;
        return systemOperations.write(fd, from, offset, length, position);
      },
    };
    let time = 0;
    const clock: Clock = { ...systemClock, monotonic: () => time };
    const storage = await openFsStorage({ root: path.join(folder, 'full'), durability: 'full', operations, clock });
    await assert.rejects(storage.begin('large' as UploadId, { size: 95 * MIB }), fails('full', /nearly full/));
    const id = 'upload' as UploadId;
    const begun = await storage.begin(id, { size: 2 * MIB });
    const half = Buffer.alloc(MIB, 1);
    const at = await storage.append(id, begun, Readable.from([half]), calm());
    free = 10 * MIB + 300_000;
    time += 2_000;
    const broken = await storage.append(id, at, Readable.from([half]), calm()).then(
      () => assert.fail('it took more than there is room for'),
      (error: unknown) => error,
    );
    assert.ok(broken instanceof UploadBroken && broken.code === 'full');
    assert.equal(broken.appended.size, MIB + 262_144);
    await assert.rejects(storage.put(key(0), Buffer.alloc(100_000)), fails('full', /nearly full/));
    await storage.records.put('some/record', bytes);
    await storage.records.delete('some/record');
    free = 9 * MIB;
    time += 2_000;
    await assert.rejects(storage.ping(), fails('full', /nearly full/));
    free = 50 * MIB;
    await storage.ping();
    const rest = half.subarray(262_144);
    const whole = await storage.append(id, broken.appended, Readable.from([rest]), calm());
    assert.equal(whole.size, 2 * MIB);
    await storage.close();
  });

  test('an upload whose file could not be removed goes with the next', async () => {
    let failing = true;
    const operations: Operations = {
      ...systemOperations,
      unlink: (file) =>
        failing && file.includes('uploads')
          ? Promise.reject(Object.assign(new Error('no'), { code: 'EIO' }))
          : systemOperations.unlink(file),
    };
    const place = path.join(folder, 'left');
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    const [one, two] = ['upload-one', 'upload-two'] as UploadId[];
    for (const id of [one!, two!]) await storage.begin(id, {});
    await assert.rejects(storage.discard(one!, {}), fails('unavailable', /input/));
    failing = false;
    await storage.discard(two!, {});
    const left = (await fs.readdir(path.join(place, 'uploads'))).filter((name) => !name.endsWith('.tmp'));
    assert.deepEqual(left, []);
    await storage.close();
  });

  test('room is asked for once a second while there is enough, and not bounded where nobody can tell', async () => {
    let looks = 0;
    let time = 0;
    const clock: Clock = { ...systemClock, monotonic: () => time };
    const spacious = room(
      '/',
      {
        ...systemOperations,
        async space() {
          looks++;
          return { free: 1e12, total: 2e12 };
        },
      },
      clock,
    );
    await Promise.all([spacious.take(1), spacious.take(1)]);
    for (let n = 0; n < 100; n++) assert.equal(spacious.take(262_144), undefined);
    assert.equal(looks, 1);
    time += 1_001;
    await spacious.take(1);
    assert.equal(looks, 2);
    let free = 500 * MIB;
    const tight = room('/', { ...systemOperations, space: async () => ({ free, total: 1e9 }) }, clock);
    await tight.take(1);
    // Somebody else took the rest meanwhile.
    free = 0;
    time += 21;
    await assert.rejects(async () => tight.take(1), fails('full', /nearly full/));
    const blind = room('/', { ...systemOperations, space: () => Promise.reject(new Error('no')) }, clock);
    await blind.take(1e15);
    const none = room('/', { ...systemOperations, space: async () => ({ free: 0, total: 0 }) }, clock);
    await none.expect(1e15);
  });
});
