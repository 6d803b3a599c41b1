/**
 * Stored bytes are hashed on their way to a client: the first time that a process serves them whole, and again an hour
 * after the last time. The end is held back until the hash is known to be right, so that damage breaks the answer off
 * and is never a complete one. What is read wrong is read once more before the blob is taken out of service. Large
 * blobs are hashed in threads of their own, behind the answer, so that the other requests do not wait for it.
 */
import type { HotBlob } from '../database/database.ts';
import type { RandomReader } from '../kit/buffers.ts';
import type { RunningHash } from '../kit/hash-threads.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestFromHex } from '../oci/digest.ts';
import { FaultError, type RegistryError } from '../oci/error.ts';
import type { ByteRange, Digest } from '../oci/names.ts';
import type { LocalParts } from './parts.ts';

/** For how long bytes that were found right are believed. Milliseconds. */
const BELIEVED = 3_600_000;

/** What the reads of one blob are checked with. `damaged` is awaited when its bytes are wrong for sure, and says what the client gets. */
export interface Checking {
  readonly digest: Digest;
  readonly blob: HotBlob;
  damaged(why: string): Promise<RegistryError>;
}

/** What checking needs of the store's parts. */
export type CheckingParts = Pick<LocalParts, 'storage' | 'clock' | 'log' | 'verified' | 'recheck' | 'hashing'>;

/** Whether this range is to be checked: all of the blob, and not looked at lately. */
export function toVerify(parts: CheckingParts, { digest, blob }: Checking, range: ByteRange): boolean {
  if (range.start !== 0 || range.end !== blob.size) return false;
  const at = parts.verified.get(blobKey(digest, blob.n));
  return at === undefined || parts.clock.monotonic() - at > BELIEVED;
}

/** The reader, checking what is read from the start to the end in order. Anything else passes unchecked. */
export function verifyingReader(parts: CheckingParts, checking: Checking, reader: RandomReader): RandomReader {
  const { blob } = checking;
  let hash: RunningHash | undefined;
  let closed = false;
  return {
    async read(into, position) {
      const read = await reader.read(into, position);
      if (position !== (hash?.length ?? 0) || read === 0 || closed) return read;
      hash ??= beginHash(parts, checking);
      await take(hash, read === into.length ? into : into.subarray(0, read));
      if (position + read === blob.size) await settle(parts, checking, hash);
      return read;
    },
    close() {
      closed = true;
      hash?.close();
      return reader.close();
    },
  };
}

/** The chunks, the last of them held back until all were hashed. */
export async function* verifyingChunks(
  parts: CheckingParts,
  checking: Checking,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const hash = beginHash(parts, checking);
  try {
    for await (const chunk of chunks) {
      await take(hash, chunk);
      if (hash.length >= checking.blob.size) await settle(parts, checking, hash);
      yield chunk;
    }
  } finally {
    hash.close();
  }
}

/** Remembers that the bytes are right; else makes sure that they are not, and throws. */
async function settle(parts: CheckingParts, checking: Checking, hash: RunningHash): Promise<void> {
  const { digest, blob } = checking;
  const key = blobKey(digest, blob.n);
  if (await isRight(hash, digest)) {
    parts.verified.set(key, parts.clock.monotonic());
    return;
  }
  throw await parts.recheck(key, async () => {
    const again = beginHash(parts, checking);
    try {
      for await (const chunk of (await parts.storage.read(key)) as AsyncIterable<Uint8Array>) await take(again, chunk);
      if (!(await isRight(again, digest))) return checking.damaged('its bytes have another digest');
    } finally {
      again.close();
    }
    parts.log.warn('stored bytes were read wrong once and right the second time', { digest, key });
    return new FaultError('unavailable', 'The stored bytes were read wrong.');
  });
}

function beginHash({ hashing }: CheckingParts, { digest, blob }: Checking): RunningHash {
  return hashing.begin(algorithmOf(digest), blob.size);
}

/** One that a thread took down with it says nothing about the bytes. */
const uncheckable = (cause: unknown): FaultError =>
  new FaultError('unavailable', 'The stored bytes could not be checked.', { cause });

async function take(hash: RunningHash, bytes: Uint8Array): Promise<void> {
  try {
    await hash.update(bytes);
  } catch (cause) {
    throw uncheckable(cause);
  }
}

async function isRight(hash: RunningHash, digest: Digest): Promise<boolean> {
  try {
    return digestFromHex(algorithmOf(digest), await hash.digestHex()) === digest;
  } catch (cause) {
    throw uncheckable(cause);
  }
}
