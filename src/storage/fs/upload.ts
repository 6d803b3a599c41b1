/**
 * Receiving an upload into its file: chunks are gathered into large buffers, hashed while the write before is in
 * flight, and written in order. An upload holds at most two buffers; one that breaks off keeps what arrived.
 */
import { failpoint } from '../../kit/failpoint.ts';
import { native } from '../../kit/ffi.ts';
import type { UploadId } from '../../oci/names.ts';
import { UploadBroken, UploadLost } from '../faults.ts';
import { checkSize } from '../names.ts';
import type { Appended, AppendOptions } from '../storage.ts';
import { FLAGS } from './operations.ts';
import type { Place } from './place.ts';

/** What the uploads of one storage share. */
export interface Uploads {
  /** `size`: how many bytes are to come, where that is known. FaultError `full` where they would not fit. */
  begin(id: UploadId, size?: number): Promise<Appended>;
  append(id: UploadId, at: Appended, body: AsyncIterable<Uint8Array>, options: AppendOptions): Promise<Appended>;
  /**
   * Cuts off what lies beyond `size` and syncs. An upload whose sync failed is broken for good: the kernel may have
   * dropped the pages that it could not write, and a second sync would say that all is well.
   */
  sync(id: UploadId, fd: number): Promise<void>;
  /** FaultError corrupt where a sync of this upload has failed. */
  checkIntact(id: UploadId): void;
  discard(id: UploadId): Promise<void>;
}

/** Uploads under way → size of a buffer: large ones cost less, but memory and the turns of the loop grow with both. */
const BUFFER_SIZES = [
  { most: 16, size: 256 * 1024 },
  { most: 256, size: 64 * 1024 },
  { most: Number.POSITIVE_INFINITY, size: 16 * 1024 },
] as const;
/** Early write-back blocks the loop when the device's queue is full, so only few uploads ask for it. */
const WRITE_BACK_UPLOADS = 2;
/** What is hashed in one turn of the loop (0.13 ms): in between, other requests are served. */
const HASH_SLICE = 256 * 1024;
/** Most bytes of free buffers while uploads run, and when none does. */
const FREE_BYTES = 8 * 1024 * 1024;
const IDLE_BYTES = 2 * 1024 * 1024;
const BROKEN_REMEMBERED = 10_000;
const LEFT_REMEMBERED = 10_000;

/** The uploads of one place. */
export function uploads(place: Place): Uploads {
  const pool = bufferPool();
  const broken = new Set<UploadId>();
  /** Files that could not be removed: tried again with the next one that can, else by the sweep of the next start. */
  const left = new Set<UploadId>();
  let active = 0;

  function checkIntact(id: UploadId): void {
    if (broken.has(id)) throw new UploadLost('The disk lost bytes of this upload. Push it again.');
  }

  async function sync(id: UploadId, fd: number): Promise<void> {
    try {
      await place.syncFile(fd);
    } catch (error) {
      if (broken.size < BROKEN_REMEMBERED) broken.add(id);
      // For other processes, and for this one after a restart: without its file it cannot be committed.
      await place.operations.unlink(place.uploadPath(id)).catch(() => undefined);
      throw error;
    }
  }

  async function remove(id: UploadId): Promise<void> {
    await place.operations.unlink(place.uploadPath(id)).catch(async (error: unknown) => {
      if (!(await place.home.isMissing(error))) throw error;
    });
  }

  async function append(
    id: UploadId,
    at: Appended,
    body: AsyncIterable<Uint8Array>,
    options: AppendOptions,
  ): Promise<Appended> {
    checkIntact(id);
    active++;
    try {
      return await withUpload(
        place,
        id,
        checkSize(at.size),
        async (fd) => {
          const writer = fileWriter(place, pool, fd, at.size, () => active, options.hash);
          const failure = await receive(body, options.signal, writer);
          const appended = { size: writer.written(), state: at.state };
          if (failure !== undefined)
            throw new UploadBroken(failure.broke, appended, writer.hashIntact(), failure.cause);
          if (options.durable === true) await sync(id, fd);
          return appended;
        },
        true,
      );
    } finally {
      active--;
      if (active === 0) pool.trim();
    }
  }

  return {
    async begin(id, size = 0) {
      const file = place.uploadPath(id);
      await place.room.expect(size);
      failpoint('upload.create.before');
      await place.withFile(file, FLAGS.empty, async () => undefined);
      failpoint('upload.create.after');
      broken.delete(id);
      left.delete(id);
      return { size: 0, state: {} };
    },
    append,
    sync,
    checkIntact,
    async discard(id) {
      try {
        await remove(id);
      } catch (error) {
        if (left.size < LEFT_REMEMBERED) left.add(id);
        throw error;
      }
      broken.delete(id);
      left.delete(id);
      for (const again of left) {
        left.delete(again);
        await remove(again).catch(() => left.add(again));
        break;
      }
    },
  };
}

/** Opens an upload of which `size` bytes count, and cuts off what lies beyond them. */
export async function withUpload<T>(
  place: Place,
  id: UploadId,
  size: number,
  work: (fd: number, modifiedAt: number) => Promise<T>,
  changes = false,
): Promise<T> {
  try {
    return await place.withFile(place.uploadPath(id), FLAGS.write, async (fd) => {
      const state = await place.operations.state(fd);
      if (state.size < size) {
        throw new UploadLost(`An upload's file has ${state.size} of ${size} bytes. Push it again.`);
      }
      // A commit that failed after its link may have made these bytes a blob's: they never change again.
      if (state.links > 1 && (changes || state.size > size)) {
        throw new UploadLost('This upload was closed already. Close it again as it is, or push the blob anew.');
      }
      if (state.size > size) await place.operations.truncate(fd, size);
      return work(fd, state.modifiedAt);
    });
  } catch (error) {
    if (!(await place.home.isMissing(error))) throw error;
    throw new UploadLost("An upload's file is missing. Push it again.", error);
  }
}

interface Failure {
  readonly broke: 'body' | 'signal' | 'storage';
  readonly cause: unknown;
}

/** Feeds the body to the writer until its end, the signal, or a failure; always leaves the writer with nothing in flight. */
async function receive(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  writer: FileWriter,
): Promise<Failure | undefined> {
  const iterator = body[Symbol.asyncIterator]();
  let stop: ((reason: Failure) => void) | undefined;
  const aborted = (): void => stop?.({ broke: 'signal', cause: signal.reason });
  signal.addEventListener('abort', aborted, { once: true });
  // One short-lived promise per chunk: racing against a promise that lives as long as the upload would pile up memory.
  const next = (): Promise<IteratorResult<Uint8Array>> =>
    new Promise((resolve, reject) => {
      stop = reject;
      iterator.next().then(resolve, (cause: unknown) => reject({ broke: 'body', cause } satisfies Failure));
    });
  let failure: Failure | undefined;
  try {
    for (;;) {
      if (signal.aborted) throw { broke: 'signal', cause: signal.reason } satisfies Failure;
      const { done, value } = await next();
      if (done === true) break;
      const full = writer.add(value);
      if (full !== undefined) await full;
    }
  } catch (error) {
    failure = isFailure(error) ? error : { broke: 'storage', cause: error };
    // Not awaited: a body that never answers must not hold the descriptor.
    iterator.return?.().then(
      () => undefined,
      () => undefined,
    );
  } finally {
    signal.removeEventListener('abort', aborted);
  }
  try {
    await writer.end();
  } catch (cause) {
    if (failure?.broke !== 'storage') failure = { broke: 'storage', cause };
  }
  return failure;
}

function isFailure(error: unknown): error is Failure {
  return typeof error === 'object' && error !== null && !(error instanceof Error) && 'broke' in error;
}

interface FileWriter {
  /** Takes a chunk; the promise, where one is given, must be awaited before the next. */
  add(chunk: Uint8Array): Promise<void> | undefined;
  /** Writes the rest, waits for what is in flight, gives the buffers back. Rejects with the first failure. */
  end(): Promise<void>;
  /** Up to where the file holds the bytes that were added. */
  written(): number;
  hashIntact(): boolean;
}

function fileWriter(
  place: Place,
  pool: BufferPool,
  fd: number,
  start: number,
  active: () => number,
  hash: AppendOptions['hash'],
): FileWriter {
  let buffer: Uint8Array | undefined;
  let filled = 0;
  let queued = start;
  let written = start;
  let hashed = start;
  let inFlight: Promise<void> | undefined;
  let failed: { readonly cause: unknown } | undefined;

  async function write(bytes: Uint8Array, length: number, position: number, release: () => void): Promise<void> {
    try {
      const asking = place.room.take(length);
      if (asking !== undefined) await asking;
      await place.writeAll(fd, bytes, length, position);
      written = position + length;
      if (place.durability === 'full' && active() <= WRITE_BACK_UPLOADS) {
        native().startWriteBack?.(fd, position, length);
      }
    } catch (cause) {
      failed ??= { cause };
    } finally {
      inFlight = undefined;
      release();
    }
  }

  function startWrite(bytes: Uint8Array, length: number, release: () => void): void {
    inFlight = write(bytes, length, queued, release);
    queued += length;
  }

  async function flush(): Promise<void> {
    const bytes = buffer!;
    const length = filled;
    const end = queued + length;
    buffer = undefined;
    filled = 0;
    let users = 2;
    const release = (): void => {
      if (--users === 0) pool.giveBack(bytes);
    };
    try {
      // The write before is usually done by now; then this one runs while its bytes are hashed.
      const early = inFlight === undefined;
      if (early) startWrite(bytes, length, release);
      if (hash !== undefined) {
        hashed = -1;
        for (let at = 0; at < length; at += HASH_SLICE) {
          if (at > 0) await new Promise(setImmediate);
          await hash.update(bytes.subarray(at, Math.min(at + HASH_SLICE, length)));
        }
        hashed = end;
      }
      release();
      if (!early) {
        while (inFlight !== undefined) await inFlight;
        if (failed === undefined) startWrite(bytes, length, release);
      }
    } catch (cause) {
      failed ??= { cause };
    }
    if (failed !== undefined) throw failed.cause;
  }

  async function addSlowly(chunk: Uint8Array, from: number): Promise<void> {
    for (let at = from; at < chunk.length; ) {
      buffer ??= pool.take(sizeFor(active()));
      const part = Math.min(buffer.length - filled, chunk.length - at);
      buffer.set(chunk.subarray(at, at + part), filled);
      filled += part;
      at += part;
      if (filled === buffer.length) await flush();
    }
  }

  return {
    add(chunk) {
      if (failed !== undefined) throw failed.cause;
      if (buffer !== undefined && chunk.length < buffer.length - filled) {
        buffer.set(chunk, filled);
        filled += chunk.length;
        return undefined;
      }
      return chunk.length === 0 ? undefined : addSlowly(chunk, 0);
    },
    async end() {
      try {
        if (filled > 0 && failed === undefined) await flush();
      } finally {
        while (inFlight !== undefined) await inFlight;
        if (buffer !== undefined) pool.giveBack(buffer);
        buffer = undefined;
      }
      if (failed !== undefined) throw failed.cause;
    },
    written: () => written,
    hashIntact: () => hash !== undefined && hashed === written,
  };
}

function sizeFor(active: number): number {
  for (const { most, size } of BUFFER_SIZES) if (active <= most) return size;
  return BUFFER_SIZES.at(-1)!.size;
}

interface BufferPool {
  take(size: number): Uint8Array;
  giveBack(bytes: Uint8Array): void;
  /** Lets go of what the next upload does not need. */
  trim(): void;
}

/** Keeps some buffers of each size for the next. */
function bufferPool(): BufferPool {
  const free = new Map<number, Uint8Array[]>(BUFFER_SIZES.map(({ size }) => [size, []]));
  let kept = 0;
  return {
    take(size) {
      const bytes = free.get(size)?.pop();
      if (bytes === undefined) return Buffer.allocUnsafeSlow(size);
      kept -= size;
      return bytes;
    },
    giveBack(bytes) {
      if (kept + bytes.length > FREE_BYTES) return;
      free.get(bytes.length)?.push(bytes);
      kept += bytes.length;
    },
    trim() {
      for (const buffers of free.values()) {
        while (kept > IDLE_BYTES && buffers.length > 0) kept -= buffers.pop()!.length;
      }
    },
  };
}
