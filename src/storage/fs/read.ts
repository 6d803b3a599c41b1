/** Reading a blob's file: as a stream, and at positions. No descriptor outlives its stream or reader. */
import { Readable } from 'node:stream';
import type { RandomReader } from '../../kit/buffers.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey, ByteRange } from '../../oci/names.ts';
import { asFault } from '../faults.ts';
import { checkRange } from '../names.ts';
import type { StoredBlob } from '../storage.ts';
import { FLAGS } from './operations.ts';
import type { Place } from './place.ts';

const STREAM_CHUNK = 256 * 1024;

/** The state of the blob's file, or undefined where there is none. */
export async function statBlob(place: Place, key: BlobKey): Promise<StoredBlob | undefined> {
  try {
    const { size, modifiedAt, isFile } = await place.operations.stateOf(place.blobPath(key));
    return isFile ? { key, size, modifiedAt } : undefined;
  } catch (error) {
    if (await place.home.isMissing(error)) return undefined;
    throw error;
  }
}

/** A stream over a part of a file that has at least `range.end` bytes (the whole file without a range). */
export async function readFile(place: Place, file: string, range: ByteRange | undefined): Promise<Readable> {
  const { fd, size } = await openForReading(place, file);
  try {
    return streamOf(place, fd, checkRange(range, size));
  } catch (error) {
    await place.operations.close(fd).catch(() => undefined);
    throw error;
  }
}

/** Positional reads from the blob's file. */
export async function openRandom(place: Place, key: BlobKey): Promise<RandomReader> {
  const { fd } = await openForReading(place, place.blobPath(key));
  const guard = closing(place, fd);
  return {
    read: (into, position) =>
      guard.run(async () => {
        try {
          return into.length === 0 ? 0 : await place.operations.read(fd, into, 0, into.length, position);
        } catch (error) {
          throw asFault(error, 'read a blob');
        }
      }),
    close: () => guard.close(),
  };
}

async function openForReading(place: Place, file: string): Promise<{ fd: number; size: number }> {
  const { operations } = place;
  let fd: number;
  try {
    fd = await operations.open(file, FLAGS.read);
  } catch (error) {
    if (!(await place.home.isMissing(error))) throw error;
    throw new FaultError('corrupt', 'Stored bytes that the database names are missing in storage.', { cause: error });
  }
  try {
    return { fd, size: (await operations.state(fd)).size };
  } catch (error) {
    await operations.close(fd).catch(() => undefined);
    throw error;
  }
}

/** Closes the descriptor once, after the last operation on it: closing under a running read could hit another file. */
function closing(place: Place, fd: number): { run<T>(work: () => Promise<T>): Promise<T>; close(): Promise<void> } {
  let running = 0;
  let closed: Promise<void> | undefined;
  let idle: (() => void) | undefined;
  return {
    async run(work) {
      if (closed !== undefined) throw new FaultError('bug', 'A blob was read after its reader was closed.');
      running++;
      try {
        return await work();
      } finally {
        running--;
        if (running === 0) idle?.();
      }
    },
    close() {
      closed ??= (async () => {
        if (running > 0) await new Promise<void>((resolve) => (idle = resolve));
        await place.operations.close(fd).catch((error: unknown) => {
          place.log.warn('closing a blob failed', { error: error as Error });
        });
      })();
      return closed;
    },
  };
}

function streamOf(place: Place, fd: number, range: ByteRange): Readable {
  const guard = closing(place, fd);
  let position = range.start;
  return new Readable({
    highWaterMark: STREAM_CHUNK,
    read() {
      const left = range.end - position;
      if (left === 0) {
        this.push(null);
        return;
      }
      const chunk = Buffer.allocUnsafeSlow(Math.min(STREAM_CHUNK, left));
      guard
        .run(() => place.operations.read(fd, chunk, 0, chunk.length, position))
        .then(
          (count) => {
            if (this.destroyed) return;
            if (count === 0) {
              this.destroy(new FaultError('corrupt', `A blob's file ended at ${position}, before ${range.end}.`));
              return;
            }
            position += count;
            this.push(count === chunk.length ? chunk : chunk.subarray(0, count));
          },
          (error: unknown) => this.destroy(asFault(error, 'read a blob')),
        );
    },
    destroy(error, done) {
      guard.close().then(() => done(error));
    },
  });
}
