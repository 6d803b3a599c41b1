/**
 * Hashing one stored blob in small parts, so that a large one neither blocks nor is held open: each part opens, reads
 * and closes. What is read wrong once is read again from the start before anything is said about it.
 */
import { createHasher, type Hasher } from '../kit/hash-stream.ts';
import { algorithmOf, digestFromHex } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobKey, Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';

/** Bytes of one read. */
export const READ = 256 * 1024;

/** What to hash, and what is asked before each read of so many bytes. */
export interface CheckParts {
  readonly storage: BlobStorage;
  readonly key: BlobKey;
  readonly digest: Digest;
  readonly size: number;
  turn(bytes: number): Promise<void>;
}

/** How it stands. `missing` also counts as damage. */
export type Checked =
  | { readonly state: 'more' | 'whole' }
  | { readonly state: 'damaged'; readonly why: string; readonly missing: boolean };

/** A check under way. */
export interface Check {
  /** Reads on, at most `bytes`. Throws a FaultError other than `corrupt` where storage cannot be asked; it may be called again. */
  go(bytes: number): Promise<Checked>;
}

/** Checks a blob's bytes; where they are wrong, once more from the start. */
export function checkStored(parts: CheckParts): Check {
  let pass = startPass(parts);
  let passes = 1;
  return {
    async go(bytes) {
      const done = await goOn(parts, pass, bytes);
      if (done.state !== 'damaged' || passes === 2) return done;
      pass = startPass(parts);
      passes = 2;
      return { state: 'more' };
    },
  };
}

interface Pass {
  readonly hasher: Hasher;
  position: number;
}

function startPass({ digest }: CheckParts): Pass {
  return { hasher: createHasher(algorithmOf(digest)), position: 0 };
}

async function goOn(parts: CheckParts, pass: Pass, bytes: number): Promise<Checked> {
  const { storage, key, size, digest } = parts;
  const from = pass.position;
  if (from === 0) {
    const stored = await storage.stat(key);
    if (stored === undefined) return { state: 'damaged', why: 'its bytes are missing', missing: true };
    if (stored.size !== size)
      return { state: 'damaged', why: `it has ${stored.size} bytes instead of ${size}`, missing: false };
  }
  try {
    await readPart(parts, pass, Math.min(size, from + bytes));
  } catch (error) {
    // The hash of a part that broke off is of no use.
    Object.assign(pass, startPass(parts));
    if (error instanceof FaultError && error.code === 'corrupt')
      return { state: 'damaged', why: `its bytes end before ${size}`, missing: false };
    throw error;
  }
  if (pass.position < size) return { state: 'more' };
  if (digestFromHex(pass.hasher.algorithm, pass.hasher.digestHex()) === digest) return { state: 'whole' };
  return { state: 'damaged', why: 'its bytes have another digest', missing: false };
}

async function readPart({ storage, key, turn }: CheckParts, pass: Pass, end: number): Promise<void> {
  if (end === pass.position) return;
  if (storage.openRandom !== undefined) {
    const reader = await storage.openRandom(key);
    try {
      const buffer = new Uint8Array(Math.min(READ, end - pass.position));
      while (pass.position < end) {
        const into = buffer.subarray(0, Math.min(buffer.length, end - pass.position));
        await turn(into.length);
        const count = await reader.read(into, pass.position);
        if (count === 0) throw new FaultError('corrupt', 'the stored bytes end early');
        pass.hasher.update(into.subarray(0, count));
        pass.position += count;
      }
    } finally {
      await reader.close();
    }
    return;
  }
  await turn(end - pass.position);
  const stream = await storage.read(key, { start: pass.position, end });
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      pass.hasher.update(chunk);
      pass.position += chunk.length;
      if (pass.position > end) throw new FaultError('unavailable', 'storage gave more bytes than were asked for');
    }
  } finally {
    stream.destroy();
  }
  if (pass.position < end) throw new FaultError('unavailable', 'the stream of stored bytes broke off');
}

/** All bytes of a key that is believed to have `size` of them (at most a few MiB); undefined where they are not there whole. */
export async function readWhole(storage: BlobStorage, key: BlobKey, size: number): Promise<Uint8Array | undefined> {
  const stored = await storage.stat(key);
  if (stored?.size !== size) return undefined;
  const bytes = new Uint8Array(size);
  let at = 0;
  try {
    for await (const chunk of (await storage.read(key)) as AsyncIterable<Uint8Array>) {
      if (at + chunk.length > size) return undefined;
      bytes.set(chunk, at);
      at += chunk.length;
    }
  } catch (error) {
    if (error instanceof FaultError && error.code === 'corrupt') return undefined;
    throw error;
  }
  return at === size ? bytes : undefined;
}
