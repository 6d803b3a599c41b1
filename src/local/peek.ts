/** Looks at the first bytes of a body to see whether it is small and whole. */
import type { Readable } from 'node:stream';
import { freeChunk } from '../kit/free.ts';

/** What a body turned out to be. `rest` yields all of it, what was peeked at included. */
export type Peeked =
  | { readonly whole: Buffer; readonly broke?: unknown }
  | { readonly rest: AsyncIterable<Uint8Array> };

/**
 * Reads up to `limit` bytes. `whole`: the body ended within it; `broke` says that it ended by breaking off, and why.
 * The stream is not destroyed by peeking.
 */
export async function peek(body: Readable, limit: number): Promise<Peeked> {
  const iterator = iteratorOf(body);
  const chunks: Buffer[] = [];
  let size = 0;
  while (size <= limit) {
    let next: IteratorResult<Buffer>;
    try {
      next = await iterator.next();
    } catch (error) {
      return { whole: Buffer.concat(chunks, size), broke: error };
    }
    if (next.done === true) return { whole: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size) };
    chunks.push(next.value);
    size += next.value.length;
  }
  return { rest: { [Symbol.asyncIterator]: () => passing(body, iterator, chunks) } };
}

/**
 * The body's chunks; whoever stops early leaves the stream open, so that the client can still be answered. A chunk is
 * only good until the next one is asked for.
 */
export function chunksOf(body: Readable): AsyncIterable<Buffer> {
  return { [Symbol.asyncIterator]: () => passing(body, iteratorOf(body), []) };
}

function iteratorOf(body: Readable): AsyncIterator<Buffer> {
  return body.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
}

/** The first chunks, then those that come; who asks for the next one is through with the last. */
function passing(body: Readable, source: AsyncIterator<Buffer>, first: Buffer[]): AsyncIterator<Buffer> {
  let last: Buffer | undefined;
  return {
    async next() {
      if (last !== undefined) freeChunk(body, last);
      last = first.shift();
      if (last !== undefined) return { done: false, value: last };
      const next = await source.next();
      if (next.done !== true) last = next.value;
      return next;
    },
    async return() {
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
}

/** These bytes, then the body's. */
export async function* prepend(bytes: Uint8Array, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
  yield* body;
}
