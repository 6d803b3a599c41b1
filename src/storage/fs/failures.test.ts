/** The order of system calls, and every single one of them failing once. */
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { armFailpoints, type Failpoint } from '../../kit/failpoint.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey } from '../../oci/names.ts';
import { brokenBy, calm, keyOf, newUpload, pieces, rejectsWith, sample } from '../storage.contract.ts';
import type { BlobStorage } from '../storage.ts';
import { openFsStorage } from './fs.ts';
import { type Operations, systemOperations } from './operations.ts';

type Name = keyof Operations;
type Around = (name: Name, values: readonly unknown[], run: () => Promise<unknown>) => Promise<unknown>;

/** The real calls, each inside `around`. */
function operationsWith(around: Around): Operations {
  const wrapped: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(systemOperations) as [Name, (...values: never[]) => unknown][]) {
    if (name === 'entries') wrapped[name] = call;
    else {
      wrapped[name] = (...values: never[]) => around(name, values, async () => call(...values));
    }
  }
  return wrapped as unknown as Operations;
}

/** Remembers the calls by name and the file they were made on, and follows descriptors to paths. */
function recorder(root: string): { operations: Operations; calls: string[]; openFiles: Map<number, string> } {
  const calls: string[] = [];
  const openFiles = new Map<number, string>();
  const short = (file: string): string => path.relative(root, file) || '.';
  const operations = operationsWith(async (name, values, run) => {
    const where = values.map((value) => (typeof value === 'string' ? short(value) : undefined)).filter(Boolean);
    const fd = values[0];
    const text = `${name} ${typeof fd === 'number' ? openFiles.get(fd) : where.join(' > ')}`;
    if (name === 'close') openFiles.delete(fd as number);
    const result = await run();
    if (name === 'open') openFiles.set(result as number, short(values[0] as string));
    calls.push(text);
    return result;
  });
  return { operations, calls, openFiles };
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

describe('files: order and failures', () => {
  let root: string;
  let round = 0;
  before(async () => {
    root = await fs.mkdtemp(path.join(os.tmpdir(), 'longshore-failures-'));
  });
  after(() => fs.rm(root, { recursive: true, force: true }));

  test('commit: write, sync, link, sync of the folders, and only then it resolves', async () => {
    const place = path.join(root, 'order');
    const { operations, calls, openFiles } = recorder(place);
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    const bytes = sample(3_000_000);
    const key = keyOf(bytes);
    const folder = path.dirname(`blobs/${key}`);
    for (const again of [false, true]) {
      calls.length = 0;
      const id = newUpload();
      const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 65_536), calm());
      const writes = calls.filter((call) => call.startsWith('write'));
      assert(writes.length >= 3 && writes.every((call) => call === `write uploads/${id}`));
      const fired: Failpoint[] = [];
      armFailpoints((name) => fired.push(name));
      calls.length = 0;
      const blob = await storage.commit(id, at, key);
      armFailpoints(undefined);
      assert.equal(blob.size, bytes.length);
      const steps = calls.filter((call) => /^(sync|link|rename)/.test(call));
      const link = `link uploads/${id} > blobs/${key}`;
      const own = ['commit.sync.before', 'commit.sync.after', 'fs.link.before', 'fs.link.after'];
      assert.deepEqual(
        fired.filter((name) => !name.startsWith('fs.syncdir')),
        own,
      );
      assert(fired.at(-1) === 'fs.syncdir.after');
      if (again) assert.deepEqual(steps, [`syncData uploads/${id}`, `sync ${folder}`]);
      else {
        assert.deepEqual(steps.slice(0, 2), [`syncData uploads/${id}`, 'sync blobs/sha256']);
        assert.equal(steps[2], link);
        assert(steps.slice(3).includes(`sync ${folder}`), steps.join());
      }
      assert(fired.includes('fs.syncdir.before') && fired.includes('fs.syncdir.after'));
    }
    assert.equal(openFiles.size, 0);
    await storage.close();
  });

  test('put and records: write, sync, rename, sync of the folder; relaxed leaves out the syncs only', async () => {
    for (const durability of ['full', 'relaxed'] as const) {
      const place = path.join(root, `put-${durability}`);
      const { operations, calls, openFiles } = recorder(place);
      const storage = await openFsStorage({ root: place, durability, operations });
      const key = keyOf(sample(100));
      await storage.put(key, sample(100));
      await storage.records.put('a/b', sample(100));
      calls.length = 0;
      const fired: Failpoint[] = [];
      armFailpoints((name) => fired.push(name));
      await storage.put(key, sample(100));
      armFailpoints(undefined);
      await storage.records.put('a/b', sample(50));
      await storage.delete(key);
      const names = calls.map((call) => call.split(' ')[0]).filter((name) => name !== 'open' && name !== 'close');
      const [data, entries] = durability === 'full' ? [['syncData'], ['sync']] : [[], []];
      // The last: whether it is still the folder that was opened.
      const whole = ['write', ...data, 'rename', ...entries, 'stateOf'];
      assert.deepEqual(names, [...whole, ...whole, 'unlink', ...entries]);
      assert.equal(fired[0], 'spill.put.before');
      assert.equal(fired.at(-1), 'spill.put.after');
      assert.equal(openFiles.size, 0);
      await storage.close();
    }
  });

  test('commits at once into one folder share syncs that began after their links', async () => {
    const place = path.join(root, 'shared');
    const { operations, calls } = recorder(place);
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    const bytes = sample(10, 5);
    const many = Array.from({ length: 40 }, (_, n) => keyOf(bytes, 'sha256', n));
    await storage.put(keyOf(bytes, 'sha256', 99), bytes);
    const uploads = await Promise.all(
      many.map(async (key) => {
        const id = newUpload();
        return { key, id, at: await storage.append(id, await storage.begin(id, {}), pieces(bytes, 10), calm()) };
      }),
    );
    calls.length = 0;
    await Promise.all(uploads.map(({ key, id, at }) => storage.commit(id, at, key)));
    const syncs = calls.filter((call) => call.startsWith('sync blobs/'));
    assert(syncs.length < 40, `${syncs.length} syncs for 40 commits`);
    const lastLink = calls.findLastIndex((call) => call.startsWith('link'));
    assert(calls.findLastIndex((call) => call.startsWith('sync blobs/')) > lastLink);
    await storage.close();
  });

  test('without hard links the upload is renamed, and a commit after a failed folder sync still works', async () => {
    const place = path.join(root, 'no-links');
    let failSync = false;
    const operations = operationsWith(async (name, _values, run) => {
      if (name === 'link') throw systemError('EPERM');
      if (name === 'sync' && failSync) {
        failSync = false;
        throw systemError('EIO');
      }
      return run();
    });
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    const bytes = sample(5000, 6);
    const key = keyOf(bytes);
    await storage.put(keyOf(bytes, 'sha256', 1), bytes);
    for (let i = 0; i < 2; i++) {
      const id = newUpload();
      const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 1000), calm());
      if (i === 0) {
        failSync = true;
        await rejectsWith('unavailable', () => storage.commit(id, at, key));
      }
      assert.equal((await storage.commit(id, at, key)).size, bytes.length);
      await storage.discard(id, at.state);
    }
    assert(bytes.equals(await buffer(await storage.read(key))));
    await storage.close();
  });

  test('what a commit linked before it failed is never written to again', async () => {
    const place = path.join(root, 'linked');
    let fails: 'no' | 'after the link' | 'yes' = 'no';
    const operations = operationsWith(async (name, _values, run) => {
      if (name === 'sync' && fails === 'yes') throw systemError('EIO');
      const result = await run();
      if (name === 'link' && fails === 'after the link') fails = 'yes';
      return result;
    });
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    const bytes = sample(5000, 11);
    const key = keyOf(bytes);
    const id = newUpload();
    const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 1000), calm());
    fails = 'after the link';
    await rejectsWith('unavailable', () => storage.commit(id, at, key));
    fails = 'no';
    assert.equal((await storage.stat(key))?.size, bytes.length);
    await rejectsWith('corrupt', () => storage.append(id, at, pieces(bytes, 1000), calm()));
    await rejectsWith('corrupt', () => storage.append(id, { ...at, size: 10 }, pieces(bytes, 1000), calm()));
    await rejectsWith('corrupt', () => storage.commit(id, { ...at, size: 10 }, keyOf(bytes.subarray(0, 10))));
    assert.ok(bytes.equals(await buffer(await storage.read(key))));
    assert.equal((await storage.commit(id, at, key)).size, bytes.length);
    await storage.discard(id, at.state);
    await storage.close();
  });

  test('an upload whose sync failed is broken for good, also for another process', async () => {
    const place = path.join(root, 'broken-sync');
    let left = 0;
    const operations = operationsWith(async (name, _values, run) => {
      if (name === 'syncData' && left-- > 0) throw systemError('EIO');
      return run();
    });
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    const bytes = sample(5000, 7);
    const id = newUpload();
    const at = await storage.append(id, await storage.begin(id, {}), pieces(bytes, 1000), calm());
    left = 1;
    await rejectsWith('unavailable', () => storage.commit(id, at, keyOf(bytes)));
    const other = await openFsStorage({ root: place, durability: 'full' });
    for (const one of [storage, other]) {
      await rejectsWith('corrupt', () => one.commit(id, at, keyOf(bytes)));
      await rejectsWith('corrupt', () => one.append(id, at, pieces(bytes, 1000), calm()));
      await rejectsWith('corrupt', () => one.readUpload(id, at));
    }
    assert.equal(await storage.stat(keyOf(bytes)), undefined);
    await storage.discard(id, {});
    await storage.close();
    await other.close();
  });

  test('a failed write: the offset is true, the hash is known to be ahead, and the append can go on', async () => {
    const place = path.join(root, 'broken-write');
    let writes = 0;
    const operations = operationsWith(async (name, _values, run) => {
      if (name === 'write' && ++writes === 3) throw systemError('ENOSPC');
      return run();
    });
    const storage = await openFsStorage({ root: place, durability: 'full', operations });
    writes = 0;
    const bytes = sample(4_500_000, 8);
    const id = newUpload();
    let seen = 0;
    const hash = { update: (part: Uint8Array) => void (seen += part.length) };
    const error = await brokenBy(
      storage.append(id, await storage.begin(id, {}), pieces(bytes, 65_536), calm({ hash })),
    );
    assert.equal(error.broke, 'storage');
    assert.equal(error.code, 'full');
    assert.match(error.message, /disk is full/);
    assert.equal(error.appended.size, 2 * 256 * 1024, 'two buffers were written before the third failed');
    assert(seen > error.appended.size && !error.hashIntact);
    const rest = pieces(bytes.subarray(error.appended.size), 65_536);
    const at = await storage.append(id, error.appended, rest, calm());
    await storage.commit(id, at, keyOf(bytes));
    assert(bytes.equals(await buffer(await storage.read(keyOf(bytes)))));
    await storage.close();
  });

  test('short writes and reads are gone on with', async () => {
    const operations = operationsWith(async (name, values, run) => {
      if (name === 'write' || name === 'read') {
        const [fd, bytes, offset, length, position] = values as [number, Uint8Array, number, number, number];
        return systemOperations[name](fd, bytes, offset, Math.ceil(length / 3), position);
      }
      return run();
    });
    const storage = await openFsStorage({ root: path.join(root, 'short'), durability: 'full', operations });
    await everything(storage, 11);
    await storage.close();
  });

  for (const code of ['EIO', 'ENOSPC']) {
    test(`every call failing once with ${code}: nothing acknowledged is lost, and the next try works`, async () => {
      const place = path.join(root, `each-${code}`);
      let countdown = Number.POSITIVE_INFINITY;
      const openFiles = new Set<number>();
      const operations = operationsWith(async (name, values, run) => {
        // A failing close has closed, as on Linux.
        if (name === 'close') {
          await run();
          openFiles.delete(values[0] as number);
        }
        if (--countdown === 0) throw systemError(code);
        if (name === 'close') return undefined;
        const result = await run();
        if (name === 'open') openFiles.add(result as number);
        return result;
      });
      const kept = await openFsStorage({ root: place, durability: 'full', operations });
      const acknowledged = new Map<BlobKey, Buffer>();
      let failures = 0;
      for (let n = 1; ; n++) {
        countdown = n;
        const before = ++round;
        let failed = false;
        try {
          const storage = await openFsStorage({ root: place, durability: 'full', operations });
          await everything(storage, before, acknowledged);
        } catch (error) {
          assert(error instanceof FaultError, String(error));
          assert(['unavailable', 'full'].includes(error.code), `${n}: ${error.code} ${error.message}`);
          failed = true;
        }
        const spent = countdown <= 0;
        countdown = Number.POSITIVE_INFINITY;
        assert.equal(openFiles.size, 0, `call ${n} left a descriptor`);
        for (const [key, bytes] of acknowledged) assert(bytes.equals(await buffer(await kept.read(key))), `call ${n}`);
        if (failed) {
          failures++;
          await everything(kept, before, acknowledged);
        }
        await Promise.all([...acknowledged.keys()].map((key) => kept.delete(key)));
        acknowledged.clear();
        if (!spent) break;
      }
      assert(failures > 40, `${failures} failures`);
      for await (const id of kept.listUploads()) await kept.discard(id, {});
      for (const name of await fs.readdir(path.join(place, 'uploads'))) assert.match(name, /\.tmp$/);
      await kept.close();
    });
  }
});

/** One of everything. What resolved goes into `acknowledged`. */
async function everything(
  storage: BlobStorage,
  seed: number,
  acknowledged = new Map<BlobKey, Buffer>(),
): Promise<void> {
  const small = sample(2000, seed * 2);
  await storage.put(keyOf(small), small);
  acknowledged.set(keyOf(small), small);
  const bytes = sample(150_000, seed * 2 + 1);
  const key = keyOf(bytes);
  const id = newUpload();
  let at = await storage.begin(id, {});
  at = await storage.append(id, at, pieces(bytes.subarray(0, 100_000), 9999), calm({ durable: true }));
  at = await storage.append(id, { ...at, size: 60_000 }, pieces(bytes.subarray(60_000), 9999), calm());
  const uploaded = await buffer(await storage.readUpload(id, at));
  assert(bytes.equals(uploaded));
  await storage.commit(id, at, key);
  acknowledged.set(key, bytes);
  await storage.discard(id, at.state);
  assert.equal((await storage.stat(key))!.size, bytes.length);
  const reader = await storage.openRandom!(key);
  try {
    const into = new Uint8Array(3);
    assert((await reader.read(into, 5)) > 0);
  } finally {
    await reader.close();
  }
  assert(bytes.equals(await buffer(await storage.read(key))));
  for await (const blob of storage.list(key.split('/')[1])) assert(blob.size > 0);
  await storage.records.put(`each/${seed}`, small);
  assert(small.equals((await storage.records.get(`each/${seed}`))!));
  await storage.records.delete(`each/${seed}`);
  await storage.ping();
  acknowledged.delete(keyOf(small));
  assert.equal(await storage.delete(keyOf(small)), true);
}
