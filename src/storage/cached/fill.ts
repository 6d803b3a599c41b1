/**
 * One blob on its way into the cache. It is written by nobody's pace but the store's and the disk's; whoever asked for
 * it reads behind it. The last bytes are held back until the digest is right, so that wrong bytes never make a whole
 * answer.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey } from '../../oci/names.ts';
import { type CacheFiles, hashOf } from './files.ts';

/** Bytes that nobody gets before all were checked. */
const HELD_BACK = 64 * 1024;

/** How it ended. `disk`: the store was fine, the cache was not. */
type End = 'kept' | 'disk' | FaultError;

/** A fill under way. */
export class Fill {
  readonly size: number;
  /** Resolves when it has ended, however it did; never rejects. */
  readonly ended: Promise<void>;
  #written = 0;
  #end: End | undefined;
  #waiting: (() => void)[] = [];
  #handle: FileHandle | undefined;
  #readers = 0;

  /** Begins. `source`: the whole blob as the store gives it. */
  constructor(key: BlobKey, size: number, source: Readable, files: CacheFiles) {
    this.size = size;
    this.ended = this.#run(key, source, files).then((end) => {
      this.#end = end;
      this.#tell();
      this.#closeIfUnused();
    });
  }

  /** The bytes from `start` to `end`, as they come. Ends early where the disk fails: the rest is the store's. FaultError where the store failed, or gave wrong bytes. */
  async *read(start: number, end: number, chunkBytes: number): AsyncGenerator<Uint8Array, number> {
    this.#readers++;
    let at = start;
    try {
      while (at < end) {
        const until = Math.min(end, this.#end === 'kept' ? this.size : this.#written - HELD_BACK);
        if (at < until && this.#handle !== undefined) {
          const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, until - at));
          const { bytesRead } = await this.#handle.read(chunk, 0, chunk.length, at);
          if (bytesRead === 0) return at;
          at += bytesRead;
          yield chunk.subarray(0, bytesRead);
        } else if (this.#end === undefined) await new Promise<void>((resolve) => this.#waiting.push(resolve));
        else if (this.#end instanceof FaultError) throw this.#end;
        else return at;
      }
      return at;
    } finally {
      this.#readers--;
      this.#closeIfUnused();
    }
  }

  async #run(key: BlobKey, source: Readable, files: CacheFiles): Promise<End> {
    let path = '';
    try {
      const begun = await files.begin();
      path = begun.path;
      this.#handle = begun.handle;
    } catch {
      source.destroy();
      return 'disk';
    }
    const discard = async (end: End): Promise<End> => {
      source.destroy();
      await files.discard(path);
      return end;
    };
    const hash = hashOf(key);
    try {
      for await (const chunk of source as AsyncIterable<Uint8Array>) {
        hash.update(chunk);
        try {
          await writeAll(this.#handle, chunk, this.#written);
        } catch {
          return await discard('disk');
        }
        this.#written += chunk.length;
        this.#tell();
      }
    } catch (error) {
      return await discard(
        error instanceof FaultError
          ? error
          : new FaultError('unavailable', 'The object store broke off in the middle of a blob.', { cause: error }),
      );
    }
    if (this.#written !== this.size || !hash.matches())
      return await discard(new FaultError('corrupt', 'The object store gave bytes that have another digest.'));
    try {
      await files.keep(key, path, this.size);
      return 'kept';
    } catch {
      // The bytes are right and the open file has them; only the name could not be had.
      await files.discard(path);
      return 'kept';
    }
  }

  #tell(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #closeIfUnused(): void {
    if (this.#end === undefined || this.#readers > 0) return;
    const handle = this.#handle;
    this.#handle = undefined;
    handle?.close().catch(() => undefined);
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}
