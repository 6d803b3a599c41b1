/**
 * The bytes of a blob that storage has, in whichever way it gives them: at positions (files), as a stream (object
 * stores), or by an address that the client fetches itself. What is missing or ends early is reported as damage and
 * never served whole.
 */
import { Readable } from 'node:stream';
import type { HotBlob } from '../database/database.ts';
import type { RandomReader } from '../kit/buffers.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestOf, digestToBytes } from '../oci/digest.ts';
import { FaultError, RegistryError } from '../oci/error.ts';
import type { ByteRange, Descriptor, Digest } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import type { BlobContent } from '../registry/registry.ts';
import { blobDamaged } from './commands/blob-commands.ts';
import type { FoundBy } from './commands/damage.ts';
import { CACHED_BLOB_BYTES, type LocalParts } from './parts.ts';
import { type Checking, toVerify, verifyingChunks, verifyingReader } from './verified.ts';

const CHUNK = 256 * 1024;

/** The error for a blob that is not there, or that one may not know of. */
export function blobUnknown(digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', 'There is no such blob in this repository.', { detail: { digest } });
}

/** Whether storage has the bytes of a row that says so; where not, the row is marked damaged. */
export async function isStored(parts: LocalParts, digest: Digest, n: number, size: number): Promise<boolean> {
  const stored = await parts.storage.stat(blobKey(digest, n));
  if (stored?.size === size) return true;
  await reportDamage(
    parts,
    digest,
    n,
    stored === undefined ? 'its bytes are missing' : `it has ${stored.size} bytes instead of ${size}`,
    'push',
  );
  return false;
}

/** Takes the blob out of service and says so: it answers 404 until it is healed or pushed again. */
export async function reportDamage(
  parts: LocalParts,
  digest: Digest,
  n: number,
  why: string,
  found: FoundBy = 'pull',
): Promise<void> {
  parts.blobCache.delete(digest);
  parts.verified.delete(blobKey(digest, n));
  const outcome = await parts.database.run(blobDamaged, { digest: digestToBytes(digest), n, found, why });
  if (outcome === 'stale') return;
  parts.log.error(
    outcome === 'damaged'
      ? 'a stored blob is damaged; it answers 404 until it is healed or pushed again'
      : 'a stored blob is damaged; the database has it, so it is stored again',
    { digest, key: blobKey(digest, n), why },
  );
}

/** What checks the blob's bytes on their way out. */
function checkingOf(parts: LocalParts, digest: Digest, blob: HotBlob): Checking {
  return {
    digest,
    blob,
    async damaged(why) {
      await reportDamage(parts, digest, blob.n, why);
      return blobUnknown(digest);
    },
  };
}

/** A range of a stored blob as the seam gives it. RegistryError BLOB_UNKNOWN where the bytes turn out to be missing. */
export async function storedContent(
  parts: LocalParts,
  call: Call,
  descriptor: Descriptor,
  range: ByteRange,
  blob: HotBlob,
): Promise<BlobContent> {
  const { digest } = descriptor;
  const redirectUrl = await addressFor(parts, call, digest, blob);
  const base = { descriptor, range };
  if (redirectUrl !== undefined || range.start === range.end) {
    const open = (): Readable => streaming(parts, digest, blob, range);
    return { ...base, open, close: () => {}, ...(redirectUrl === undefined ? {} : { redirectUrl }) };
  }
  if (parts.storage.openRandom !== undefined) {
    return {
      ...base,
      openRandom: () => openChecked(parts, digest, blob, range),
      open: () => streaming(parts, digest, blob, range),
      close: () => {},
    };
  }
  // Asked for before the answer begins, so that what the store refuses is an answer and no broken connection.
  let first: Readable | undefined = await readStored(parts, digest, blob, range);
  const unused = first;
  unused.on('error', () => {});
  return {
    ...base,
    open() {
      const source = first;
      first = undefined;
      const checking = checkingOf(parts, digest, blob);
      if (source === undefined) return streaming(parts, digest, blob, range);
      if (!toVerify(parts, checking, range)) return source;
      return Readable.from(verifyingChunks(parts, checking, source as AsyncIterable<Uint8Array>), {
        objectMode: false,
      });
    },
    close: () => void unused.destroy(),
  };
}

/** Where the client may fetch it, if it is to. */
async function addressFor(
  { storage, redirect }: LocalParts,
  call: Call,
  digest: Digest,
  blob: HotBlob,
): Promise<string | undefined> {
  if (storage.presign === undefined || redirect === undefined || call.origin === undefined) return undefined;
  const { address, userAgent } = call.origin;
  if (!redirect.allowed({ address, userAgent })) return undefined;
  return storage.presign(blobKey(digest, blob.n), { seconds: redirect.seconds });
}

/** A small stored blob, from memory or read whole and checked by its digest once; undefined: it is not small. */
export async function smallBytes(parts: LocalParts, digest: Digest, blob: HotBlob): Promise<Uint8Array | undefined> {
  if (blob.size > CACHED_BLOB_BYTES) return undefined;
  const cached = parts.blobCache.get(digest);
  if (cached !== undefined) return cached;
  const bytes = await readWhole(parts, digest, blob);
  if (digestOf(bytes, algorithmOf(digest)) !== digest) {
    await reportDamage(parts, digest, blob.n, 'its bytes have another digest');
    throw blobUnknown(digest);
  }
  parts.blobCache.set(digest, bytes);
  return bytes;
}

async function readWhole(parts: LocalParts, digest: Digest, blob: HotBlob): Promise<Uint8Array> {
  const bytes = new Uint8Array(blob.size);
  let at = 0;
  if (parts.storage.openRandom !== undefined) {
    const reader = await openStored(parts, digest, blob);
    try {
      while (at < bytes.length) {
        const read = await reader.read(bytes.subarray(at), at);
        if (read === 0) throw blobUnknown(digest);
        at += read;
      }
      return bytes;
    } finally {
      await reader.close();
    }
  }
  for await (const chunk of (await readStored(parts, digest, blob, {
    start: 0,
    end: blob.size,
  })) as AsyncIterable<Uint8Array>) {
    if (at + chunk.length > bytes.length)
      throw new FaultError('corrupt', 'storage gave more bytes than were asked for');
    bytes.set(chunk, at);
    at += chunk.length;
  }
  if (at < bytes.length) throw new FaultError('corrupt', 'the stored bytes end before the blob does');
  return bytes;
}

/** What storage says is missing, or too short from the start, is damaged. */
async function orDamaged<T>(parts: LocalParts, digest: Digest, n: number, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof FaultError) || error.code !== 'corrupt') throw error;
    await reportDamage(parts, digest, n, 'its bytes are missing');
    throw blobUnknown(digest);
  }
}

/** The range as storage streams it. */
function readStored(parts: LocalParts, digest: Digest, blob: HotBlob, range: ByteRange): Promise<Readable> {
  return orDamaged(parts, digest, blob.n, parts.storage.read(blobKey(digest, blob.n), range));
}

/** A reader of stored bytes that reports damage when they are missing or end early. */
async function openStored(parts: LocalParts, digest: Digest, blob: HotBlob, range?: ByteRange): Promise<RandomReader> {
  const { storage } = parts;
  if (storage.openRandom === undefined)
    throw new FaultError('bug', `the storage ${storage.name} cannot read at a position`);
  const reader = await orDamaged(parts, digest, blob.n, storage.openRandom(blobKey(digest, blob.n), range));
  return {
    async read(into, position) {
      const read = await reader.read(into, position);
      if (read === 0 && position < blob.size && into.length > 0)
        await reportDamage(parts, digest, blob.n, `its bytes end at ${position} of ${blob.size}`);
      return read;
    },
    close: () => reader.close(),
  };
}

/** The same, hashing what is read where it is all of the blob. */
async function openChecked(parts: LocalParts, digest: Digest, blob: HotBlob, range: ByteRange): Promise<RandomReader> {
  const reader = await openStored(parts, digest, blob, range);
  const checking = checkingOf(parts, digest, blob);
  return toVerify(parts, checking, range) ? verifyingReader(parts, checking, reader) : reader;
}

function streaming(parts: LocalParts, digest: Digest, blob: HotBlob, range: ByteRange): Readable {
  const source = chunks(parts, digest, blob, range);
  const checking = checkingOf(parts, digest, blob);
  const checked = toVerify(parts, checking, range) ? verifyingChunks(parts, checking, source) : source;
  return Readable.from(checked, { objectMode: false });
}

async function* chunks(parts: LocalParts, digest: Digest, blob: HotBlob, range: ByteRange): AsyncGenerator<Uint8Array> {
  if (parts.storage.openRandom === undefined) {
    if (range.end > range.start) yield* (await readStored(parts, digest, blob, range)) as AsyncIterable<Uint8Array>;
    return;
  }
  const reader = await openStored(parts, digest, blob, range);
  try {
    for (let at = range.start; at < range.end; ) {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK, range.end - at));
      const read = await reader.read(chunk, at);
      if (read === 0) throw new FaultError('corrupt', 'the stored bytes end before the blob does');
      yield chunk.subarray(0, read);
      at += read;
    }
  } finally {
    await reader.close();
  }
}
