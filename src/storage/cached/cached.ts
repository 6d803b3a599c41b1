/**
 * Blobs on the local disk, in front of an object store: bounded, and verified by digest. It knows bytes, never facts:
 * whether a blob exists or may be read was decided by the database before anyone asks here (threats 31, 32), and `stat`
 * always asks the store. Any number of readers of one blob cost the store one GET.
 */
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { Clock } from '../../kit/clock.ts';
import type { Metrics } from '../../kit/log.ts';
import { singleFlight } from '../../kit/single-flight.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey, ByteRange } from '../../oci/names.ts';
import type { BlobStorage } from '../storage.ts';
import { type CachedFile, CacheFiles, hashOf } from './files.ts';
import { Fill } from './fill.ts';

/** How the cache is made. */
export interface CacheOptions {
  /** Its own folder; made where it is missing. */
  readonly folder: string;
  /** Most bytes of all files; no blob larger than half of it is kept. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

const CHUNK = 256 * 1024;
/** Blobs that are fetched into the cache at once; more are passed through. */
const FILLS = 16;

/** The store with a cache in front of its reads. FaultError `unavailable` where the folder cannot be had. */
export async function withBlobCache(inner: BlobStorage, options: CacheOptions): Promise<BlobStorage> {
  const { folder, maxBytes, clock, metrics } = options;
  let files: CacheFiles;
  try {
    files = await CacheFiles.open(folder, maxBytes, clock.now());
  } catch (error) {
    throw new FaultError('unavailable', `The folder of the blob cache cannot be used: ${folder}.`, { cause: error });
  }
  const fills = new Map<BlobKey, Fill>();
  const begin = singleFlight<Fill>();
  const reads = metrics.counter(
    'longshore_blob_cache_reads_total',
    'Reads of stored blobs by whether the cache had them.',
  );
  const held = metrics.gauge('longshore_blob_cache_bytes', 'Bytes in the blob cache.');
  let closed = false;

  async function fromStore(key: BlobKey, range: ByteRange | undefined): Promise<Readable> {
    reads(1, { from: 'store' });
    return inner.read(key, range);
  }

  async function read(key: BlobKey, range?: ByteRange): Promise<Readable> {
    if (closed || (range !== undefined && !isRange(range))) return inner.read(key, range);
    const filling = fills.get(key);
    if (filling !== undefined && (range?.end ?? 0) <= filling.size) {
      reads(1, { from: 'fill' });
      return behind(filling, key, range ?? { start: 0, end: filling.size });
    }
    const taken = await files.take(key);
    if (taken !== undefined) {
      const { file, handle } = taken;
      const wanted = range ?? { start: 0, end: file.size };
      const whole = wanted.start === 0 && wanted.end === file.size;
      if (wanted.end <= file.size && (file.verified || whole)) {
        reads(1, { from: 'cache' });
        const stream = Readable.from(fromFile(key, file, handle, wanted), { objectMode: false });
        // Not in the generator: one that was never read from does not run its end.
        stream.once('close', () => void handle.close().catch(() => undefined));
        return stream;
      }
      await handle.close();
      return fromStore(key, range);
    }
    if (range !== undefined && range.start > 0) return fromStore(key, range);
    const size = (await inner.stat(key))?.size;
    const whole = size !== undefined && (range === undefined || range.end === size);
    if (!whole || size === 0 || size > files.largest || fills.size >= FILLS) return fromStore(key, range);
    // Whoever comes while the store is being asked waits for the same answer.
    return behind(await begin(key, () => begun(key, size)), key, { start: 0, end: size });
  }

  async function begun(key: BlobKey, size: number): Promise<Fill> {
    const under = fills.get(key);
    if (under !== undefined) return under;
    const fill = new Fill(key, size, await fromStore(key, undefined), files);
    fills.set(key, fill);
    void fill.ended.then(() => {
      fills.delete(key);
      held(files.bytes);
    });
    return fill;
  }

  function behind(fill: Fill, key: BlobKey, range: ByteRange): Readable {
    async function* bytes(): AsyncGenerator<Uint8Array> {
      const at = yield* fill.read(range.start, range.end, CHUNK);
      // The cache's disk failed: the store has the rest.
      if (at < range.end) yield* (await inner.read(key, { start: at, end: range.end })) as AsyncIterable<Uint8Array>;
    }
    return Readable.from(bytes(), { objectMode: false });
  }

  async function* fromFile(
    key: BlobKey,
    file: CachedFile,
    handle: FileHandle,
    range: ByteRange,
  ): AsyncGenerator<Uint8Array> {
    const hash = file.verified ? undefined : hashOf(key);
    for (let at = range.start; at < range.end; ) {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK, range.end - at));
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
      const bytes = chunk.subarray(0, bytesRead);
      at += bytesRead;
      hash?.update(bytes);
      if (bytesRead === 0 || (at === range.end && hash?.matches() === false)) {
        await files.drop(key);
        throw new FaultError('unavailable', 'The copy of a blob in the local cache was damaged. Ask again.');
      }
      if (at === range.end) file.verified = true;
      yield bytes;
    }
  }

  return {
    ...inner,
    read,
    async delete(key) {
      const was = await inner.delete(key);
      await files.drop(key);
      return was;
    },
    async close() {
      closed = true;
      await Promise.all([...fills.values()].map((fill) => fill.ended));
      await inner.close();
    },
  };
}

function isRange({ start, end }: ByteRange): boolean {
  return Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end;
}
