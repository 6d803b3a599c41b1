/**
 * A running hash whose state can outlive the process that began it. node:crypto is the plain way and cannot export;
 * with the accelerator of `ffi.ts` the state is a few plain bytes. Costs about 0.5 ms per MiB on the calling thread.
 */
import { createHash, type Hash } from 'node:crypto';
import { type NativeHash, native } from './ffi.ts';

/** The algorithms of `oci/names.ts` (kit does not import oci). */
export type HashAlgorithm = 'sha256' | 'sha512';

/** A hash under way. */
export interface Hasher {
  readonly algorithm: HashAlgorithm;
  /** Bytes taken so far. */
  readonly length: number;
  /** Takes the bytes at once; the buffer may be used again when it returns. */
  update(bytes: Uint8Array): void;
  /** The digest of what was taken so far, lower-case hex. The hash may go on afterwards. */
  digestHex(): string;
  /** The state as plain data (106 or 202 bytes), or undefined where this hash cannot export it. */
  exportState(): Uint8Array | undefined;
}

/*
 * The state: version 1, algorithm (1 sha256, 2 sha512), length (8 bytes), chaining words, unfinished block padded with
 * zeros; little endian. The counters inside OpenSSL's context are derived from the length and never taken from the
 * state, so no state can make OpenSSL read or write outside of its context.
 */
const VERSION = 1;
const HEADER = 10;
const SHAPE = {
  sha256: { code: 1, words: 32, block: 64, counters: 8, digest: 32 },
  sha512: { code: 2, words: 64, block: 128, counters: 16, digest: 64 },
} as const;

/** A new hash. */
export function createHasher(algorithm: HashAlgorithm): Hasher {
  const hash = native()[algorithm];
  return hash === undefined ? plainHasher(algorithm) : nativeHasher(algorithm, hash, hash.newContext(), 0);
}

/**
 * Goes on from an exported state; undefined where the state is not one of this algorithm or cannot be used here: then
 * hash the stored bytes again. Whether the state belongs to these bytes is for the caller to know (compare `length`).
 */
export function resumeHasher(algorithm: HashAlgorithm, state: Uint8Array): Hasher | undefined {
  const hash = native()[algorithm];
  if (hash === undefined) return undefined;
  const { code, words, block, counters, digest } = SHAPE[algorithm];
  if (state.length !== HEADER + words + block) return undefined;
  const view = Buffer.from(state.buffer, state.byteOffset, state.length);
  const length = Number(view.readBigUInt64LE(2));
  if (view[0] !== VERSION || view[1] !== code || !Number.isSafeInteger(length)) return undefined;
  const pending = length % block;
  for (let at = HEADER + words + pending; at < view.length; at++) if (view[at] !== 0) return undefined;
  const context = hash.newContext();
  view.copy(context, 0, HEADER, HEADER + words);
  writeCounters(context, algorithm, length);
  view.copy(context, words + counters, HEADER + words, HEADER + words + block);
  context.writeUInt32LE(pending, words + counters + block);
  context.writeUInt32LE(digest, words + counters + block + 4);
  return nativeHasher(algorithm, hash, context, length);
}

function writeCounters(context: Buffer, algorithm: HashAlgorithm, length: number): void {
  const bits = BigInt(length) * 8n;
  if (algorithm === 'sha256') {
    context.writeUInt32LE(Number(bits & 0xffff_ffffn), 32);
    context.writeUInt32LE(Number((bits >> 32n) & 0xffff_ffffn), 36);
  } else {
    context.writeBigUInt64LE(bits & 0xffff_ffff_ffff_ffffn, 64);
    context.writeBigUInt64LE(bits >> 64n, 72);
  }
}

function nativeHasher(algorithm: HashAlgorithm, hash: NativeHash, context: Buffer, start: number): Hasher {
  const { code, words, block, counters } = SHAPE[algorithm];
  let length = start;
  return {
    algorithm,
    get length() {
      return length;
    },
    update(bytes) {
      hash.update(context, bytes);
      length += bytes.length;
    },
    digestHex: () => {
      // Ends a copy, so that a closing request with a wrong digest does not spoil the upload.
      const copy = Buffer.allocUnsafeSlow(context.length);
      context.copy(copy);
      return hash.final(copy).toString('hex');
    },
    exportState: () => {
      const state = new Uint8Array(HEADER + words + block);
      const view = Buffer.from(state.buffer);
      view[0] = VERSION;
      view[1] = code;
      view.writeBigUInt64LE(BigInt(length), 2);
      context.copy(view, HEADER, 0, words);
      context.copy(view, HEADER + words, words + counters, words + counters + (length % block));
      return state;
    },
  };
}

function plainHasher(algorithm: HashAlgorithm): Hasher {
  const hash: Hash = createHash(algorithm);
  let length = 0;
  return {
    algorithm,
    get length() {
      return length;
    },
    update(bytes) {
      hash.update(bytes);
      length += bytes.length;
    },
    digestHex: () => hash.copy().digest('hex'),
    exportState: () => undefined,
  };
}
