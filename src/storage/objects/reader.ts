/** Reading an object at positions: in order it is one request, and a new one where a read goes elsewhere. */

import type { RandomReader } from '../../kit/buffers.ts';
import { after } from '../../kit/clock.ts';
import { FaultError } from '../../oci/error.ts';
import type { ByteRange } from '../../oci/names.ts';
import { checkRange } from '../names.ts';
import { fault, REQUEST_MILLISECONDS, STALL_MILLISECONDS, timed } from './faults.ts';
import { openObject } from './read.ts';
import type { ObjectStore, OpenedBody } from './store.ts';

/**
 * A reader of the object, or of a range of it (positions still count from the object's start). FaultError corrupt where
 * it is missing or shorter than the range; reads fail where the body breaks off or gives nothing for `stall` milliseconds.
 */
export async function openReader(
  store: ObjectStore,
  name: string,
  range: ByteRange | undefined,
  stall = STALL_MILLISECONDS,
): Promise<RandomReader> {
  if (range !== undefined) checkRange(range, Number.MAX_SAFE_INTEGER);
  let body: OpenedBody | undefined = await openBody(store, name, range);
  let [at, end] = [0, 0];
  try {
    ({ start: at, end } = checkRange(range, body.size));
    if (body.length !== end - at) throw fault('unavailable', 'read an object', 'it sent another part of it');
  } catch (error) {
    body.close();
    throw error;
  }
  let running: Promise<unknown> = Promise.resolve();
  let closed = false;

  async function read(into: Uint8Array, position: number): Promise<number> {
    if (position >= end || into.length === 0) return 0;
    if (body === undefined || position !== at) {
      body?.close();
      body = undefined;
      body = await openBody(store, name, { start: position, end });
      at = position;
    }
    const taken = await within(stall, body, into.length > end - at ? into.subarray(0, end - at) : into);
    at += taken;
    return taken;
  }

  return {
    read(into, position) {
      if (closed) return Promise.reject(new FaultError('bug', 'A reader was used after it was closed.'));
      const job = running.then(() => read(into, position));
      running = job.catch(() => undefined);
      return job;
    },
    async close() {
      closed = true;
      await running;
      body?.close();
      body = undefined;
    },
  };
}

async function openBody(store: ObjectStore, name: string, range: ByteRange | undefined): Promise<OpenedBody> {
  const isEmpty = range !== undefined && range.start === range.end;
  const quick = isEmpty
    ? undefined
    : await timed(REQUEST_MILLISECONDS, 'open an object', async (signal) => store.open?.(name, range, signal));
  if (quick !== undefined) return quick;
  // The vendor's own client tries again, and knows what is wrong.
  const { stream, size, length } = await openObject(store, name, range);
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let rest: Uint8Array = new Uint8Array(0);
  return {
    size,
    length,
    async read(into) {
      while (rest.length === 0) {
        const { done, value } = await chunks.next();
        if (done === true) return 0;
        rest = value;
      }
      const part = rest.subarray(0, into.length);
      into.set(part);
      rest = rest.subarray(part.length);
      return part.length;
    },
    close: () => void stream.destroy(),
  };
}

/** One read; what breaks, ends early or stands still is `unavailable`. */
async function within(stall: number, body: OpenedBody, into: Uint8Array): Promise<number> {
  let cancel: (() => void) | undefined;
  try {
    return await new Promise<number>((resolve, reject) => {
      cancel = after(stall, () => {
        reject(fault('unavailable', 'read an object', 'its bytes stopped coming'));
        body.close();
      });
      body.read(into).then(
        (taken) =>
          taken > 0 ? resolve(taken) : reject(fault('unavailable', 'read an object', 'it broke off before its end')),
        (error: unknown) =>
          reject(error instanceof FaultError ? error : fault('unavailable', 'read an object', 'the connection broke')),
      );
    });
  } finally {
    cancel?.();
  }
}
