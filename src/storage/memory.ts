/** The same promises in memory, for tests and tools. Nothing survives the process. */
import { Readable } from 'node:stream';
import { systemClock } from '../kit/clock.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobKey, UploadId } from '../oci/names.ts';
import { UploadBroken } from './faults.ts';
import {
  checkKey,
  checkRange,
  checkRecordBytes,
  checkRecordName,
  checkRecordPrefix,
  checkShard,
  checkSize,
  checkUploadId,
} from './names.ts';
import type { Appended, AppendOptions, BlobStorage, StoredBlob } from './storage.ts';

interface Held {
  readonly bytes: Buffer;
  readonly modifiedAt: number;
}

/** A storage of its own. */
export function memoryStorage(): BlobStorage {
  const blobs = new Map<BlobKey, Held>();
  const uploads = new Map<UploadId, Buffer[]>();
  const records = new Map<string, Uint8Array>();
  let closed = false;

  function open(): void {
    if (closed) throw new FaultError('unavailable', 'Storage is closed.');
  }

  function hold(key: BlobKey): Held {
    open();
    const held = blobs.get(checkKey(key));
    if (held === undefined) {
      throw new FaultError('corrupt', 'Stored bytes that the database names are missing in storage.');
    }
    return held;
  }

  function described(key: BlobKey, held: Held): StoredBlob {
    return { key, size: held.bytes.length, modifiedAt: held.modifiedAt };
  }

  /** The upload's chunks, cut to `size` bytes. */
  function cut(id: UploadId, size: number): Buffer[] {
    open();
    const chunks = uploads.get(checkUploadId(id));
    if (chunks === undefined) throw new FaultError('corrupt', "An upload's bytes are missing. Push it again.");
    const whole = Buffer.concat(chunks);
    if (whole.length < checkSize(size)) {
      throw new FaultError('corrupt', `An upload has ${whole.length} of ${size} bytes. Push it again.`);
    }
    const kept = size === 0 ? [] : [whole.subarray(0, size)];
    uploads.set(id, kept);
    return kept;
  }

  async function append(
    id: UploadId,
    at: Appended,
    body: AsyncIterable<Uint8Array>,
    options: AppendOptions,
  ): Promise<Appended> {
    const chunks = cut(id, at.size);
    let size = at.size;
    const iterator = body[Symbol.asyncIterator]();
    let stop: ((reason: unknown) => void) | undefined;
    const aborted = (): void => stop?.(options.signal.reason);
    options.signal.addEventListener('abort', aborted, { once: true });
    try {
      for (;;) {
        options.signal.throwIfAborted();
        const { done, value } = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
          stop = reject;
          iterator.next().then(resolve, reject);
        });
        if (done === true) return { size, state: at.state };
        const chunk = Buffer.from(value);
        await options.hash?.update(chunk);
        chunks.push(chunk);
        size += chunk.length;
      }
    } catch (cause) {
      iterator.return?.().then(undefined, () => undefined);
      const broke = options.signal.aborted ? 'signal' : 'body';
      throw new UploadBroken(broke, { size, state: at.state }, true, cause);
    } finally {
      options.signal.removeEventListener('abort', aborted);
    }
  }

  return {
    name: 'memory',
    epoch: 'memory',
    async stat(key) {
      open();
      const held = blobs.get(checkKey(key));
      return held === undefined ? undefined : described(key, held);
    },
    async read(key, range) {
      const { bytes } = hold(key);
      const { start, end } = checkRange(range, bytes.length);
      return Readable.from(start === end ? [] : [bytes.subarray(start, end)], { objectMode: false });
    },
    async openRandom(key) {
      const { bytes } = hold(key);
      let ended = false;
      return {
        async read(into, position) {
          if (ended) throw new FaultError('bug', 'A blob was read after its reader was closed.');
          const part = bytes.subarray(position, position + into.length);
          into.set(part);
          return part.length;
        },
        async close() {
          ended = true;
        },
      };
    },
    async put(key, bytes) {
      open();
      const held = { bytes: Buffer.from(bytes), modifiedAt: systemClock.now() };
      blobs.set(checkKey(key), held);
      return described(key, held);
    },
    async begin(id) {
      open();
      uploads.set(checkUploadId(id), []);
      return { size: 0, state: {} };
    },
    append,
    async commit(id, at, key) {
      const bytes = Buffer.concat(cut(id, at.size));
      const there = blobs.get(checkKey(key));
      if (there !== undefined && there.bytes.length !== bytes.length) {
        throw new FaultError(
          'corrupt',
          `${there.bytes.length} bytes already stand where a blob of ${bytes.length} should be.`,
        );
      }
      const held = there ?? { bytes, modifiedAt: systemClock.now() };
      blobs.set(key, held);
      return described(key, held);
    },
    async readUpload(id, at) {
      open();
      const whole = Buffer.concat(uploads.get(checkUploadId(id)) ?? []);
      const { end } = checkRange({ start: 0, end: at.size }, whole.length);
      return Readable.from(end === 0 ? [] : [whole.subarray(0, end)], { objectMode: false });
    },
    async discard(id) {
      open();
      uploads.delete(checkUploadId(id));
    },
    async delete(key) {
      open();
      return blobs.delete(checkKey(key));
    },
    async deleteMany(keys) {
      open();
      for (const key of keys) checkKey(key);
      for (const key of keys) blobs.delete(key);
      return keys;
    },
    async *list(shard) {
      open();
      const only = checkShard(shard);
      for (const [key, held] of [...blobs]) {
        if (only === undefined || key.split('/')[1] === only) yield described(key, held);
      }
    },
    async *listUploads() {
      open();
      yield* [...uploads.keys()];
    },
    records: {
      async get(name) {
        open();
        const bytes = records.get(checkRecordName(name));
        return bytes === undefined ? undefined : new Uint8Array(bytes);
      },
      async put(name, bytes) {
        open();
        records.set(checkRecordName(name), new Uint8Array(checkRecordBytes(bytes)));
      },
      async delete(name) {
        open();
        records.delete(checkRecordName(name));
      },
      async *list(prefix) {
        open();
        checkRecordPrefix(prefix);
        yield* [...records.keys()].filter((name) => name.startsWith(prefix));
      },
    },
    async ping() {
      open();
    },
    async close() {
      closed = true;
    },
  };
}
