/** What runs in a hashing thread: takes the pieces out of the shared memory in the order in which they were handed over. */
import { createHash, type Hash } from 'node:crypto';
import type { MessagePort } from 'node:worker_threads';
import type { HashAlgorithm } from './hash-stream.ts';

/** The memory that a thread shares with whoever started it. */
export interface SharedRing {
  /** Where the pieces lie. Written by the owner, and never while the thread may still read it. */
  readonly bytes: SharedArrayBuffer;
  /** Two integers of 32 bits: `DONE` and `WANTED`. */
  readonly control: SharedArrayBuffer;
}

/** How many pieces the thread has taken since it began, modulo 2³². */
export const DONE = 0;
/** 1: the owner wants to be told when the next piece was taken. */
export const WANTED = 1;

/** To the thread, in order for each hash: it begins, takes pieces, and ends with its digest or without. */
export type HashRequest =
  | { readonly kind: 'begin'; readonly id: number; readonly algorithm: HashAlgorithm }
  | { readonly kind: 'piece'; readonly id: number; readonly start: number; readonly length: number }
  | { readonly kind: 'end'; readonly id: number }
  | { readonly kind: 'drop'; readonly id: number };

/** From the thread: the digest of a hash, lower-case hex; or that there is room, the first time when it has begun. */
export type HashAnswer = { readonly id: number; readonly hex: string } | { readonly kind: 'room' };

/** Hashes for as long as the port is open. What fails here ends the thread, and its owner is told. */
export function serveHashes(port: MessagePort, shared: SharedRing): void {
  const bytes = new Uint8Array(shared.bytes);
  const control = new Int32Array(shared.control);
  const hashes = new Map<number, Hash>();
  port.on('message', (request: HashRequest) => {
    if (request.kind === 'begin') {
      hashes.set(request.id, createHash(request.algorithm));
    } else if (request.kind === 'piece') {
      // The piece of a hash that was dropped meanwhile is let go as well.
      hashes.get(request.id)?.update(bytes.subarray(request.start, request.start + request.length));
      Atomics.add(control, DONE, 1);
      if (Atomics.exchange(control, WANTED, 0) === 1) port.postMessage({ kind: 'room' } satisfies HashAnswer);
    } else {
      const hash = hashes.get(request.id);
      hashes.delete(request.id);
      if (request.kind === 'end' && hash !== undefined)
        port.postMessage({ id: request.id, hex: hash.digest('hex') } satisfies HashAnswer);
    }
  });
  port.postMessage({ kind: 'room' } satisfies HashAnswer);
}
