/**
 * Blobs as files. `<root>/blobs/<key>`, `<root>/uploads/<id>`, `<root>/records/<name>`; folders are 0700, files 0600.
 * What is acknowledged was synced, linked, and its folder synced, in this order. Nothing here trusts a process to
 * live: a start needs no repair, and what a crash leaves is an upload's file or a `*.tmp` that nobody names.
 */
import { readFile as readText } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { failpoint } from '../../kit/failpoint.ts';
import { randomId } from '../../kit/id.ts';
import { type Log, type Metrics, noMetrics, silentLog } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import { asFault } from '../faults.ts';
import { checkSize } from '../names.ts';
import type { BlobStorage } from '../storage.ts';
import { commit } from './commit.ts';
import { listBlobs, listUploads } from './list.ts';
import { FLAGS, type Operations, systemOperations } from './operations.ts';
import { type Durability, type Place, place as placeAt } from './place.ts';
import { openRandom, readFile, statBlob } from './read.ts';
import { deleteRecord, getRecord, listRecords, putRecord } from './records.ts';
import { uploads as uploadsOf } from './upload.ts';

/** How file storage is opened. */
export interface FsOptions {
  /** The folder; made where it is missing. */
  readonly root: string;
  readonly durability: Durability;
  readonly log?: Log;
  readonly metrics?: Metrics;
  readonly clock?: Clock;
  /** Tests only: the system calls. */
  readonly operations?: Operations;
}

/** The boot of this machine: what is in its page cache is lost with it. Where the system does not tell, every opening is another. */
async function bootOf(): Promise<string> {
  try {
    return (await readText('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch {
    return Buffer.from(randomId(16)).toString('hex');
  }
}

/** A `*.tmp` that is older is left over from a crash; a younger one may belong to another instance on the same folder. */
const STALE_MILLISECONDS = 3_600_000;
/** What has to fit for the storage to count as well. */
const READY_BYTES = 1024 * 1024;

/** File storage, its folders made and durable. FaultError where the place cannot be used. */
export async function openFsStorage(options: FsOptions): Promise<BlobStorage> {
  const { root, durability, log = silentLog, metrics = noMetrics, clock = systemClock } = options;
  const place = placeAt({ root, durability, log, clock, operations: options.operations ?? systemOperations });
  const faults = metrics.counter('longshore_storage_faults_total', 'Storage calls that failed, by code.');
  const stored = metrics.counter('longshore_storage_written_bytes_total', 'Bytes received into uploads and blobs.');
  const uploads = uploadsOf(place);
  const running = new Set<Promise<unknown>>();
  let closed = false;

  function fault(error: unknown, doing: string): FaultError {
    const known = asFault(error, doing);
    faults(1, { code: known.code });
    return known;
  }

  /** Every method: refused once closed, waited for by `close`, and failing with FaultError only. */
  async function call<T>(doing: string, work: () => Promise<T>): Promise<T> {
    if (closed) throw new FaultError('unavailable', 'Storage is closed.');
    const job = work();
    running.add(job);
    try {
      return await job;
    } catch (error) {
      throw fault(error, doing);
    } finally {
      running.delete(job);
    }
  }

  async function* walk<T>(doing: string, items: () => AsyncGenerator<T>): AsyncGenerator<T> {
    if (closed) throw new FaultError('unavailable', 'Storage is closed.');
    try {
      yield* items();
    } catch (error) {
      throw fault(error, doing);
    }
  }

  await call('prepare its folder', () => prepare(place, clock));

  return {
    name: 'fs',
    epoch: await bootOf(),
    stat: (key) => call('look up a blob', () => statBlob(place, key)),
    read: (key, range) => call('open a blob', async () => readFile(place, place.blobPath(key), range)),
    openRandom: (key) => call('open a blob', () => openRandom(place, key)),
    put: (key, bytes) =>
      call('store a blob', async () => {
        const file = place.blobPath(key);
        failpoint('spill.put.before');
        await place.room.take(bytes.length);
        await place.replaceFile(file, bytes);
        failpoint('spill.put.after');
        stored(bytes.length);
        return { key, size: bytes.length, modifiedAt: clock.now() };
      }),
    begin: (id, { size }) => call('begin an upload', () => uploads.begin(id, size)),
    append: (id, at, body, appendOptions) =>
      call('append to an upload', async () => {
        const appended = await uploads.append(id, at, body, appendOptions);
        stored(appended.size - at.size);
        return appended;
      }),
    commit: (id, at, key) => call('store a blob', () => commit(place, uploads, id, at, key)),
    readUpload: (id, at) =>
      call('read an upload', async (): Promise<Readable> => {
        uploads.checkIntact(id);
        return readFile(place, place.uploadPath(id), { start: 0, end: checkSize(at.size) });
      }),
    discard: (id) => call('discard an upload', () => uploads.discard(id)),
    delete: (key) => call('delete a blob', async () => place.removeFile(place.blobPath(key))),
    list: (shard) => walk('list blobs', () => listBlobs(place, shard)),
    listUploads: () => walk('list uploads', () => listUploads(place)),
    records: {
      get: (name) => call('read a record', () => getRecord(place, name)),
      put: (name, bytes) => call('store a record', () => putRecord(place, name, bytes)),
      delete: (name) => call('delete a record', () => deleteRecord(place, name)),
      list: (prefix) => walk('list records', () => listRecords(place, prefix)),
    },
    ping: () => call('write to its folder', () => ping(place)),
    async close() {
      closed = true;
      await Promise.allSettled(running);
    },
  };
}

async function prepare(place: Place, clock: Clock): Promise<void> {
  const { root, blobs, uploads, records } = place;
  for (const folder of [root, blobs, uploads, records, path.join(blobs, 'sha256'), path.join(blobs, 'sha512')]) {
    await ensureFolder(place, folder);
  }
  await place.home.learn();
  const stale = clock.now() - STALE_MILLISECONDS;
  for await (const { name, isFolder } of place.operations.entries(uploads)) {
    if (isFolder || !name.endsWith('.tmp')) continue;
    const file = path.join(uploads, name);
    const state = await place.operations.stateOf(file).catch(() => undefined);
    if (state !== undefined && state.modifiedAt < stale) await place.operations.unlink(file).catch(() => undefined);
  }
}

/** Makes the folder only where it is missing: the parent of the root may be one that must not be touched. */
async function ensureFolder(place: Place, folder: string): Promise<void> {
  const there = await place.operations.stateOf(folder).catch(() => undefined);
  if (there === undefined) await place.makeFolder(folder);
  else if (there.isFile) throw new FaultError('unavailable', 'A file stands where a folder of the storage should be.');
}

async function ping(place: Place): Promise<void> {
  await place.home.check();
  await place.room.expect(READY_BYTES);
  const file = place.temporaryPath();
  const bytes = Buffer.from('longshore');
  try {
    await place.withFile(file, FLAGS.create, async (fd) => {
      await place.writeAll(fd, bytes, bytes.length, 0);
      await place.syncFile(fd);
    });
  } finally {
    await place.operations.unlink(file).catch(() => undefined);
  }
}
