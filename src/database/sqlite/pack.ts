/** Arguments on their way to a thread: their bytes copied to memory of their own, so that they may be handed over. */
import { FaultError } from '../../oci/error.ts';

/** Packed arguments. `bytes` estimates what they weigh in the queue. */
export interface Packed {
  readonly value: unknown;
  readonly bytes: number;
  /** What `postMessage` transfers. */
  readonly transfer: ArrayBuffer[];
}

const MOST_DEPTH = 32;
/** Below this, cloning is cheaper than transferring. */
const TRANSFER_FROM = 4096;

/**
 * Copies every Uint8Array (a Buffer may be a slice of a large slab, which would be cloned whole) and leaves the
 * caller's alone. Throws FaultError `bug` where the arguments are not plain data (arrays, plain objects, bytes).
 */
export function pack(args: unknown): Packed {
  const transfer: ArrayBuffer[] = [];
  let bytes = 64;
  const walk = (value: unknown, depth: number): unknown => {
    if (typeof value === 'string') {
      bytes += value.length * 2;
      return value;
    }
    if (typeof value === 'function' || typeof value === 'symbol') throw notData();
    if (typeof value !== 'object' || value === null) {
      bytes += 8;
      return value;
    }
    if (depth > MOST_DEPTH) throw new FaultError('bug', 'The arguments of a command are nested too deeply.');
    if (value instanceof Uint8Array) {
      const copy = new Uint8Array(value);
      bytes += copy.length;
      if (copy.length >= TRANSFER_FROM) transfer.push(copy.buffer);
      return copy;
    }
    bytes += 16;
    if (Array.isArray(value)) return value.map((item) => walk(item, depth + 1));
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) throw notData();
    const copy: Record<string, unknown> = {};
    for (const key in value) copy[key] = walk((value as Record<string, unknown>)[key], depth + 1);
    return copy;
  };
  return { value: walk(args, 0), bytes, transfer };
}

function notData(): FaultError {
  return new FaultError('bug', 'The arguments of a command are not plain data.');
}
