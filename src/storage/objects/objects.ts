/**
 * Blobs as objects: `blobs/<key>`, `uploads/<id>/…`, `records/<name>` in one bucket below one prefix, over whatever
 * vendor implements `store.ts`.
 *
 * An upload is a row of immutable pieces, each an object of its own under a name that is written once. Its state names
 * them in runs, so any instance can go on, read what is there, or commit; nothing has to be completed first, and an
 * answer that is lost or a request that arrives late can only leave an object that no state names. `commit` joins the
 * pieces straight under the key on the store's side (S3: UploadPartCopy; one piece: CopyObject). The alternative, one
 * multipart of the vendor per upload, is not readable before it is completed, lets a late part overwrite a newer one of
 * the same number, and needs the same copy, since the key is only known at the end. The cost of pieces: one more
 * request per 8 to 32 MiB at the commit, and twice the upload's size in storage until `discard`.
 *
 * Pieces smaller than the store's least part are fine anywhere: where a client sends tiny chunks the next append takes
 * them together, and what is left is merged through memory at the commit. After a crash there may be pieces, indexes
 * and merged objects below `uploads/<id>/` (`listUploads`, `discard`), and a join that never ended (`idleUploads`).
 */
import { Readable } from 'node:stream';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { failpoint } from '../../kit/failpoint.ts';
import { type Log, type Metrics, noMetrics, silentLog } from '../../kit/log.ts';
import { parseBlobKey } from '../../oci/blob-key.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey, ByteRange, UploadId } from '../../oci/names.ts';
import { asFault } from '../faults.ts';
import {
  checkKey,
  checkRecordBytes,
  checkRecordName,
  checkRecordPrefix,
  checkShard,
  checkSize,
  checkUploadId,
  isRecordName,
  isUploadId,
  RECORD_BYTES,
} from '../names.ts';
import type { BlobStorage, StoredBlob } from '../storage.ts';
import { appendPieces, loadPieces, ROOM_BYTES } from './append.ts';
import { fault as objectFault, REQUEST_MILLISECONDS, requestLimit, timed } from './faults.ts';
import { bytesOf, type JoinParts, joinPieces } from './join.ts';
import { EMPTY, uploadPrefix } from './pieces.ts';
import { readObject, readWhole } from './read.ts';
import { openReader } from './reader.ts';
import { type Room, room } from './room.ts';
import { DELETE_BATCH, type ListedObject, type ObjectStore } from './store.ts';
import { vigil } from './vigil.ts';
import { pieceSize, type WriterParts } from './writer.ts';

/** How object storage is opened. */
export interface ObjectOptions {
  readonly store: ObjectStore;
  readonly log?: Log;
  readonly metrics?: Metrics;
  readonly clock?: Clock;
  /** Tests: the size of pieces and the memory of all uploads. */
  readonly pieceSize?: (number: number, uploads: number) => number;
  readonly room?: Room;
  /** Tests: who may merge small pieces in memory, and when. */
  readonly merging?: JoinParts['merging'];
}

/** One budget for all storages of the process. */
const shared = room(ROOM_BYTES);
const merging = limiter(2);
/** What readiness and the vigil ask for. */
const PING = 'ping';
const LIST_MILLISECONDS = 15_000;
const SWEEP_MILLISECONDS = 120_000;
const DELETES_AT_ONCE = 4;
const blobName = (key: BlobKey): string => `blobs/${checkKey(key)}`;

/** The storage, ready to use. FaultError where the bucket cannot be reached or written to. */
export async function openObjectStorage(options: ObjectOptions): Promise<BlobStorage> {
  const { log = silentLog, metrics = noMetrics, clock = systemClock } = options;
  const store = { ...options.store, get: surely(options.store) };
  const faults = metrics.counter('longshore_storage_faults_total', 'Storage calls that failed, by code.');
  const stored = metrics.counter('longshore_storage_written_bytes_total', 'Bytes received into uploads and blobs.');
  const watched = vigil((signal) => store.head(PING, signal));
  const writing: WriterParts = {
    ...{ store, watched },
    room: options.room ?? shared,
    pieceSize: options.pieceSize ?? pieceSize,
  };
  const joining: JoinParts = { store, watched, merging: options.merging ?? merging };
  const running = new Set<Promise<unknown>>();
  let closed = false;
  let written = false;

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

  async function* objectsOf(prefix: string): AsyncGenerator<ListedObject> {
    let token: string | undefined;
    do {
      const after = token;
      const page = await timed(LIST_MILLISECONDS, 'list its objects', (signal) => store.list(prefix, after, signal));
      for (const object of page.objects) {
        if (!object.name.startsWith(prefix) || !Number.isSafeInteger(object.size) || object.size < 0) {
          throw new FaultError('unavailable', 'Object storage gave a listing of something else than was asked for.');
        }
        yield object;
      }
      if (page.next !== undefined && page.next === after) {
        throw new FaultError('unavailable', 'Object storage gave a listing that does not go on.');
      }
      token = page.next;
    } while (token !== undefined);
  }

  async function* blobs(shard: string | undefined): AsyncGenerator<StoredBlob> {
    const only = checkShard(shard);
    const prefixes = only === undefined ? ['blobs/'] : [`blobs/sha256/${only}/`, `blobs/sha512/${only}/`];
    for (const prefix of prefixes) {
      for await (const { name, size, modifiedAt } of objectsOf(prefix)) {
        const parsed = parseBlobKey(name.slice('blobs/'.length));
        if (parsed !== undefined) yield { key: parsed.key, size, modifiedAt };
      }
    }
  }

  /** Each upload once, where its objects follow one another, with the time at which the newest was written. */
  async function* uploads(): AsyncGenerator<{ id: UploadId; newest: number }> {
    let current: { id: UploadId; newest: number } | undefined;
    for await (const { name, modifiedAt } of objectsOf('uploads/')) {
      const [, id = '', below] = name.split('/');
      if (below === undefined || !isUploadId(id)) continue;
      if (current?.id === id) current.newest = Math.max(current.newest, modifiedAt);
      else {
        if (current !== undefined) yield current;
        current = { id, newest: modifiedAt };
      }
    }
    if (current !== undefined) yield current;
  }

  async function* idle(milliseconds: number): AsyncGenerator<UploadId> {
    const before = clock.now() - checkSize(milliseconds);
    for await (const { id, newest } of uploads()) if (newest < before) yield id;
    const removed = await timed(SWEEP_MILLISECONDS, 'remove what commits left', async (signal) =>
      store.removeUnfinished?.(before, signal),
    );
    if (removed !== undefined && removed > 0) log.info('removed joins that never ended', { joins: removed });
  }

  /** Deletes in batches; gives the names that could not be. Rejects where no batch could be. */
  async function deleteNames(names: readonly string[]): Promise<Set<string>> {
    const left = new Set<string>();
    let failure: { readonly cause: unknown } | undefined;
    let succeeded = false;
    const starts: number[] = [];
    for (let at = 0; at < names.length; at += DELETE_BATCH) starts.push(at);
    const waiting = starts.values();
    const worker = async (): Promise<void> => {
      for (const at of waiting) {
        const batch = names.slice(at, at + DELETE_BATCH);
        try {
          failpoint('objects.delete.before');
          const refused = await timed(LIST_MILLISECONDS, 'delete objects', (signal) => store.deleteMany(batch, signal));
          failpoint('objects.delete.after');
          succeeded = true;
          for (const name of refused) left.add(name);
        } catch (cause) {
          failure = { cause };
          for (const name of batch) left.add(name);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(DELETES_AT_ONCE, starts.length) }, worker));
    if (failure !== undefined && !succeeded) throw failure.cause;
    return left;
  }

  async function discard(id: UploadId): Promise<void> {
    let names: string[] = [];
    const remove = async (): Promise<void> => {
      const left = await deleteNames(names);
      if (left.size > 0) throw new FaultError('unavailable', 'Object storage did not delete all of an upload.');
      names = [];
    };
    const all: string[] = [];
    // Listed first: a listing that goes on behind a deleted page is not sure to be whole.
    for await (const { name } of objectsOf(uploadPrefix(checkUploadId(id)))) all.push(name);
    for (let at = 0; at < all.length; at += DELETE_BATCH * DELETES_AT_ONCE) {
      names = all.slice(at, at + DELETE_BATCH * DELETES_AT_ONCE);
      await remove();
    }
  }

  async function remove(name: string): Promise<void> {
    await timed(REQUEST_MILLISECONDS, 'delete an object', (signal) => store.delete(name, signal));
  }

  async function put(name: string, bytes: Uint8Array): Promise<void> {
    await watched(requestLimit(bytes.length), 'store an object', (signal) => store.put(name, bytes, signal));
  }

  const head = (name: string) => timed(REQUEST_MILLISECONDS, 'look up an object', (signal) => store.head(name, signal));

  /** The first one, and the next after a failure, writes; the others look: a request a second should cost next to nothing. */
  async function ping(): Promise<void> {
    if (written) {
      written = false;
      await notThere(store);
    } else await writePing(store);
    written = true;
  }

  await call('write to its bucket', ping);

  const { presign } = store;
  return {
    name: store.name,
    epoch: 'objects',
    appendsApart: true,
    stat: (key) =>
      call('look up a blob', async () => {
        const info = (await head(blobName(key))) ?? (await notThere(store));
        return info === undefined ? undefined : { key, size: info.size, modifiedAt: info.modifiedAt };
      }),
    read: (key, range) => call('open a blob', async () => readObject(store, blobName(key), range)),
    ...(store.open === undefined
      ? {}
      : {
          openRandom: (key: BlobKey, range?: ByteRange) =>
            call('open a blob', () => openReader(store, blobName(key), range)),
        }),
    ...(presign === undefined
      ? {}
      : {
          presign: (key: BlobKey, { seconds, filename }: { seconds: number; filename?: string }) =>
            call('sign an address', async () =>
              presign(blobName(key), {
                seconds,
                ...(filename === undefined
                  ? {}
                  : { filename: filename.replace(/[^\x20-\x7e]|["\\]/g, '_').slice(0, 255) }),
              }),
            ),
        }),
    put: (key, bytes) =>
      call('store a blob', async () => {
        const name = blobName(key);
        failpoint('spill.put.before');
        await put(name, bytes);
        failpoint('spill.put.after');
        stored(bytes.length);
        return { key, size: bytes.length, modifiedAt: clock.now() };
      }),
    begin: (id) =>
      call('begin an upload', async () => {
        checkUploadId(id);
        failpoint('upload.create.before');
        failpoint('upload.create.after');
        return { size: 0, state: EMPTY };
      }),
    append: (id, at, body, appendOptions) =>
      call('append to an upload', async () => {
        const appended = await appendPieces(writing, checkUploadId(id), at, body, appendOptions);
        stored(appended.size - at.size);
        return appended;
      }),
    commit: (id, at, key) =>
      call('store a blob', async () => {
        const [name, size] = [blobName(key), checkSize(at.size)];
        const { all } = await loadPieces(store, checkUploadId(id), at.state, size);
        const { modifiedAt } = await joinPieces(joining, id, all, size, name);
        return { key, size, modifiedAt };
      }),
    readUpload: (id, at) =>
      call('read an upload', async () => {
        const size = checkSize(at.size);
        const { all } = await loadPieces(store, checkUploadId(id), at.state, size);
        return Readable.from(bytesOf(store, id, all, size), { objectMode: false });
      }),
    discard: (id) => call('discard an upload', () => discard(id)),
    delete: (key) =>
      call('delete a blob', async () => {
        const name = blobName(key);
        if ((await head(name)) === undefined) return false;
        await remove(name);
        return true;
      }),
    deleteMany: (keys) =>
      call('delete blobs', async () => {
        const left = await deleteNames(keys.map(blobName));
        return keys.filter((key) => !left.has(blobName(key)));
      }),
    list: (shard) => walk('list blobs', () => blobs(shard)),
    listUploads: () =>
      walk('list uploads', async function* () {
        for await (const { id } of uploads()) yield id;
      }),
    idleUploads: (milliseconds) => walk('list uploads', () => idle(milliseconds)),
    records: {
      get: (name) =>
        call('read a record', async () => readWhole(store, `records/${checkRecordName(name)}`, RECORD_BYTES)),
      put: (name, bytes) =>
        call('store a record', async () => put(`records/${checkRecordName(name)}`, copyOf(checkRecordBytes(bytes)))),
      delete: (name) => call('delete a record', async () => remove(`records/${checkRecordName(name)}`)),
      list: (prefix) =>
        walk('list records', async function* () {
          for await (const { name } of objectsOf(`records/${checkRecordPrefix(prefix)}`)) {
            const record = name.slice('records/'.length);
            if (isRecordName(record)) yield record;
          }
        }),
    },
    ping: () => call('write to its bucket', ping),
    async close() {
      if (closed) return;
      closed = true;
      await Promise.allSettled(running);
      store.close();
    },
  };
}

async function writePing(store: ObjectStore): Promise<void> {
  await timed(REQUEST_MILLISECONDS, 'write to its bucket', (signal) =>
    store.put(PING, Buffer.from('longshore'), signal),
  );
}

/**
 * Before bytes are said to be missing, and a blob is taken out of service for it, an object is asked for that was
 * written at the start: a 404 may be that of another bucket, or of somebody on the way. FaultError unavailable.
 */
async function notThere(store: ObjectStore): Promise<undefined> {
  const look = (signal: AbortSignal) => store.head(PING, signal);
  if ((await timed(REQUEST_MILLISECONDS, 'look up an object', look)) !== undefined) return;
  await writePing(store);
  if ((await timed(REQUEST_MILLISECONDS, 'look up an object', look)) !== undefined) return;
  throw objectFault(
    'unavailable',
    'look up an object',
    'it does not find what was just written: check bucket and endpoint',
  );
}

/** `get`, of which a miss is sure. */
function surely(store: ObjectStore): ObjectStore['get'] {
  return async (name, range, signal) => (await store.get(name, range, signal)) ?? (await notThere(store));
}

/** The caller may use its buffer again as soon as the promise is made. */
function copyOf(bytes: Uint8Array): Uint8Array {
  return Buffer.from(bytes);
}

/** Runs at most so many at once, the others in order. */
function limiter(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= most) await new Promise<void>((go) => waiting.push(go));
    else running++;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };
}
