/** Reads a whole body into memory, never more than a bound. */
import { once } from 'node:events';
import type { Readable } from 'node:stream';

/**
 * All bytes of the stream, or undefined as soon as more than `limit` bytes came: reading stops there and the stream
 * is left paused, so that the caller decides what becomes of the rest. Rejects with the stream's own error, or with
 * an Error of code `ABORTED_BODY` when it closes before its end.
 */
export async function readBounded(body: Readable, limit: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const chunk: Buffer | null = body.read();
    if (chunk === null) {
      if (body.readableEnded) break;
      if (body.destroyed)
        throw body.errored ?? Object.assign(new Error('the body ended early'), { code: 'ABORTED_BODY' });
      const stop = new AbortController();
      const { signal } = stop;
      try {
        await Promise.race(['readable', 'end', 'close'].map((name) => once(body, name, { signal })));
      } finally {
        stop.abort();
      }
      continue;
    }
    size += chunk.length;
    if (size > limit) {
      body.pause();
      return undefined;
    }
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size);
}
