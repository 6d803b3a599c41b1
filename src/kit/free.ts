/**
 * Memory that goes back at once and not when the collector comes round. Chunks of 64 KiB that pass by weigh nothing on
 * its own heap, so it lets some 64 MiB of them lie before it looks; freed by hand, the next chunk takes the place of
 * the last, which is still in the processor's cache.
 */

/** Less is left to the collector, bytes: a call of its own would cost more. */
const LEAST = 4096;
const handedOver = new WeakSet<object>();

/**
 * Gives the memory of these bytes back where they are all of their buffer; they are empty afterwards. Nobody may need
 * them, or another view of them, any more: no request or write that still runs, no other thread.
 */
export function free(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (bytes.length < LEAST || bytes.length !== buffer.byteLength || !(buffer instanceof ArrayBuffer)) return;
  // The new buffer has no bytes; the old one, which it replaces, none either.
  buffer.transfer(0);
}

/** Says of a body that its chunks belong to its one reader: nobody looks at one again that was read. */
export function handOver(body: object): void {
  handedOver.add(body);
}

/** Frees a chunk of the body, which its reader is through with, where it was handed over; else does nothing. */
export function freeChunk(body: object, chunk: Uint8Array): void {
  if (handedOver.has(body)) free(chunk);
}
