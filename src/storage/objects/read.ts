/** Reading objects: never short without an error, never waiting without an end. */
import { Readable } from 'node:stream';
import { after } from '../../kit/clock.ts';
import { FaultError } from '../../oci/error.ts';
import type { ByteRange } from '../../oci/names.ts';
import { checkRange } from '../names.ts';
import { fault, REQUEST_MILLISECONDS, STALL_MILLISECONDS, timed } from './faults.ts';
import type { ObjectStore } from './store.ts';

/** The object is not there although it must be. */
export function missing(): FaultError {
  return new FaultError('corrupt', 'Stored bytes that the database names are missing in object storage.');
}

/**
 * The bytes of an object. FaultError corrupt where it is missing or shorter than the range. The stream fails where it
 * breaks off, or where it is asked and gives nothing for `stall` milliseconds.
 */
export async function readObject(
  store: ObjectStore,
  name: string,
  range: ByteRange | undefined,
  stall = STALL_MILLISECONDS,
): Promise<Readable> {
  return (await openObject(store, name, range, stall)).stream;
}

/** The same, with the size of the whole object and how many bytes will come. */
export async function openObject(
  store: ObjectStore,
  name: string,
  range: ByteRange | undefined,
  stall = STALL_MILLISECONDS,
): Promise<{ readonly stream: Readable; readonly size: number; readonly length: number }> {
  const head = (): Promise<{ size: number } | undefined> =>
    timed(REQUEST_MILLISECONDS, 'look up an object', (signal) => store.head(name, signal));
  if (range !== undefined) {
    // Refuses what is no range before anything is asked.
    checkRange(range, Number.MAX_SAFE_INTEGER);
    if (range.start === range.end) {
      const info = await head();
      if (info === undefined) throw missing();
      checkRange(range, info.size);
      return { stream: Readable.from([], { objectMode: false }), size: info.size, length: 0 };
    }
  }
  const opened = await timed(REQUEST_MILLISECONDS, 'open an object', (signal) => store.get(name, range, signal));
  if (opened === undefined) throw missing();
  try {
    const { start, end } = checkRange(range, opened.size);
    return { stream: checked(opened.body, end - start, stall), size: opened.size, length: end - start };
  } catch (error) {
    opened.body.on('error', () => undefined).destroy();
    throw error;
  }
}

/** An object of at most `most` bytes, whole, or undefined where there is none. */
export async function readWhole(store: ObjectStore, name: string, most: number): Promise<Uint8Array | undefined> {
  const opened = await timed(REQUEST_MILLISECONDS, 'open an object', (signal) => store.get(name, undefined, signal));
  if (opened === undefined) return undefined;
  if (opened.size > most) {
    opened.body.on('error', () => undefined).destroy();
    throw new FaultError('corrupt', `An object has ${opened.size} bytes, more than Longshore stores in one such.`);
  }
  const bytes = new Uint8Array(opened.size);
  let at = 0;
  for await (const chunk of checked(opened.body, opened.size)) {
    bytes.set(chunk as Uint8Array, at);
    at += (chunk as Uint8Array).length;
  }
  return bytes;
}

/** The body, failing where it does not have exactly `length` bytes, breaks off, or gives nothing for too long. */
function checked(body: Readable, length: number, stall = STALL_MILLISECONDS): Readable {
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let left = length;
  const stream = new Readable({
    read() {
      const stalled = after(stall, () => {
        stream.destroy(fault('unavailable', 'read an object', `its bytes stopped coming ${left} bytes before the end`));
      });
      chunks.next().then(
        ({ done, value }) => {
          stalled();
          if (stream.destroyed) return;
          if (done === true) {
            if (left === 0) stream.push(null);
            else stream.destroy(fault('unavailable', 'read an object', `it broke off ${left} bytes before its end`));
            return;
          }
          left -= value.length;
          if (left < 0) stream.destroy(fault('corrupt', 'read an object', 'more bytes came than it has'));
          else stream.push(value);
        },
        (error: unknown) => {
          stalled();
          if (stream.destroyed) return;
          const code = (error as { code?: unknown } | undefined)?.code;
          const why = typeof code === 'string' && /^[A-Z_]{1,40}$/.test(code) ? ` (${code})` : '';
          stream.destroy(fault('unavailable', 'read an object', `the connection broke${why}`));
        },
      );
    },
    destroy(error, done) {
      body.on('error', () => undefined).destroy();
      done(error);
    },
  });
  return stream;
}
