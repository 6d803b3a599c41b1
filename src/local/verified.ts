/**
 * Stored bytes are hashed on their way to a client: the first time that a process serves them whole, and again an hour
 * after the last time. The end is held back until the hash is known to be right, so that damage breaks the answer off
 * and is never a complete one. What is read wrong is read once more before the blob is taken out of service.
 */
import type { HotBlob } from '../database/database.ts';
import type { RandomReader } from '../kit/buffers.ts';
import { createHasher, type Hasher } from '../kit/hash-stream.ts';
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

/** Whether this range is to be checked: all of the blob, and not looked at lately. */
export function toVerify(parts: LocalParts, { digest, blob }: Checking, range: ByteRange): boolean {
  if (range.start !== 0 || range.end !== blob.size) return false;
  const at = parts.verified.get(blobKey(digest, blob.n));
  return at === undefined || parts.clock.monotonic() - at > BELIEVED;
}

/** The reader, checking what is read from the start to the end in order. Anything else passes unchecked. */
export function verifyingReader(parts: LocalParts, checking: Checking, reader: RandomReader): RandomReader {
  const { digest, blob } = checking;
  const hasher = createHasher(algorithmOf(digest));
  return {
    async read(into, position) {
      const read = await reader.read(into, position);
      if (position !== hasher.length || read === 0) return read;
      hasher.update(read === into.length ? into : into.subarray(0, read));
      if (hasher.length === blob.size) await settle(parts, checking, hasher);
      return read;
    },
    close: () => reader.close(),
  };
}

/** The chunks, the last of them held back until all were hashed. */
export async function* verifyingChunks(
  parts: LocalParts,
  checking: Checking,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const hasher = createHasher(algorithmOf(checking.digest));
  for await (const chunk of chunks) {
    hasher.update(chunk);
    if (hasher.length >= checking.blob.size) await settle(parts, checking, hasher);
    yield chunk;
  }
}

/** Remembers that the bytes are right; else makes sure that they are not, and throws. */
async function settle(parts: LocalParts, checking: Checking, hasher: Hasher): Promise<void> {
  const { digest, blob } = checking;
  const key = blobKey(digest, blob.n);
  if (isRight(hasher, digest)) {
    parts.verified.set(key, parts.clock.monotonic());
    return;
  }
  throw await parts.recheck(key, async () => {
    const again = createHasher(algorithmOf(digest));
    for await (const chunk of (await parts.storage.read(key)) as AsyncIterable<Uint8Array>) again.update(chunk);
    if (!isRight(again, digest)) return checking.damaged('its bytes have another digest');
    parts.log.warn('stored bytes were read wrong once and right the second time', { digest, key });
    return new FaultError('unavailable', 'The stored bytes were read wrong.');
  });
}

function isRight(hasher: Hasher, digest: Digest): boolean {
  return digestFromHex(hasher.algorithm, hasher.digestHex()) === digest;
}
