/** Looks at the first bytes of a body to see whether it is small and whole. */
import type { Readable } from 'node:stream';

/** What a body turned out to be. `rest` yields all of it, what was peeked at included. */
export type Peeked =
  | { readonly whole: Buffer; readonly broke?: unknown }
  | { readonly rest: AsyncIterable<Uint8Array> };

/**
 * Reads up to `limit` bytes. `whole`: the body ended within it; `broke` says that it ended by breaking off, and why.
 * The stream is not destroyed by peeking.
 */
export async function peek(body: Readable, limit: number): Promise<Peeked> {
  const iterator = chunksOf(body)[Symbol.asyncIterator]();
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
  return { rest: follow(chunks, iterator) };
}

/** The body's chunks; whoever stops early leaves the stream open, so that the client can still be answered. */
export function chunksOf(body: Readable): AsyncIterable<Buffer> {
  return { [Symbol.asyncIterator]: () => body.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer> };
}

async function* follow(chunks: Buffer[], iterator: AsyncIterator<Buffer>): AsyncGenerator<Uint8Array> {
  for (let chunk = chunks.shift(); chunk !== undefined; chunk = chunks.shift()) yield chunk;
  for (;;) {
    const next = await iterator.next();
    if (next.done === true) return;
    yield next.value;
  }
}

/** These bytes, then the body's. */
export async function* prepend(bytes: Uint8Array, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
  yield* body;
}
