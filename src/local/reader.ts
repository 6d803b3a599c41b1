/** The reads of the store: one look-up, then bytes. What is damaged is never served whole. */
import { Readable } from 'node:stream';
import type { HotBlob, HotManifest } from '../database/database.ts';
import type { RandomReader } from '../kit/buffers.ts';
import { failpoint } from '../kit/failpoint.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestOf, digestToBytes } from '../oci/digest.ts';
import { asRegistryError, FaultError, RegistryError } from '../oci/error.ts';
import { OCTET_STREAM } from '../oci/media-types.ts';
import type { ByteRange, Descriptor, Digest, RepositoryName } from '../oci/names.ts';
import { referenceText } from '../oci/reference.ts';
import type { BlobContent, ManifestContent, RegistryReader } from '../registry/registry.ts';
import { blobDamaged, blobTouch } from './commands/blob-commands.ts';
import { manifestUnknown } from './commands/rows.ts';
import { CACHED_BLOB_BYTES, type LocalParts } from './parts.ts';

/** The reads. */
export function localReader(parts: LocalParts): RegistryReader {
  const { database, tagCache } = parts;
  const getManifest: RegistryReader['getManifest'] = (_call, repository, reference) => {
    const text = referenceText(reference);
    const version = database.dataVersion();
    const cached = tagCache.get(repository, text, version);
    if (cached !== undefined) return Promise.resolve(cached);
    const found =
      'tag' in reference
        ? database.hot.manifestByTag(repository, reference.tag)
        : database.hot.manifestByDigest(repository, reference.digest);
    return found.then(
      (manifest) => {
        if (manifest === undefined) throw manifestUnknown(text);
        return tagCache.set(repository, text, contentOf(manifest), version);
      },
      (error: unknown) => {
        throw asRegistryError(error);
      },
    );
  };
  return {
    getManifest,
    resolveManifest: (call, repository, reference) =>
      getManifest(call, repository, reference).then((content) => content.descriptor),
    async resolveBlob(_call, repository, digest) {
      try {
        return await resolveBlob(parts, repository, digest);
      } catch (error) {
        throw asRegistryError(error);
      }
    },
    async getBlob(_call, repository, digest, range) {
      try {
        return await getBlob(parts, repository, digest, range);
      } catch (error) {
        throw asRegistryError(error);
      }
    },
  };
}

function contentOf(manifest: HotManifest): ManifestContent {
  const { digest, mediaType, bytes } = manifest;
  return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
}

/** The error for a blob that is not there, or that one may not know of. */
export function blobUnknown(digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', 'There is no such blob in this repository.', { detail: { digest } });
}

async function lookUp(parts: LocalParts, repository: RepositoryName, digest: Digest): Promise<HotBlob> {
  const blob = await parts.database.hot.blobByLink(repository, digest);
  if (blob === undefined || blob.state !== 'live') throw blobUnknown(digest);
  return blob;
}

function describe(digest: Digest, size: number): Descriptor {
  return { mediaType: OCTET_STREAM, digest, size };
}

/** HEAD: keeps the promise that a push which names the blob now succeeds for half a grace (threats.md §2.5). */
async function resolveBlob(parts: LocalParts, repository: RepositoryName, digest: Digest): Promise<Descriptor> {
  const blob = await lookUp(parts, repository, digest);
  const soon = blob.tick + Math.floor(parts.database.ticks.grace / 2);
  if (blob.dueTick === undefined || blob.dueTick > soon) return describe(digest, blob.size);
  failpoint('head.touch.before');
  const touched = await parts.database.run(blobTouch, { repository, digest: digestToBytes(digest) });
  failpoint('head.touch.after');
  if (touched === undefined) throw blobUnknown(digest);
  if (touched.stored && !(await isStored(parts, digest, touched.n, touched.size))) throw blobUnknown(digest);
  return describe(digest, touched.size);
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
  );
  return false;
}

async function reportDamage(parts: LocalParts, digest: Digest, n: number, why: string): Promise<void> {
  parts.blobCache.delete(digest);
  parts.log.error('a stored blob is damaged; it answers 404 until it is pushed again', {
    digest,
    key: blobKey(digest, n),
    why,
  });
  await parts.database.run(blobDamaged, { digest: digestToBytes(digest), n });
}

async function getBlob(
  parts: LocalParts,
  repository: RepositoryName,
  digest: Digest,
  asked: ByteRange | undefined,
): Promise<BlobContent> {
  const blob = await lookUp(parts, repository, digest);
  const range = clip(asked, blob.size);
  const descriptor = describe(digest, blob.size);
  const bytes = blob.bytes ?? (await smallBytes(parts, digest, blob));
  if (bytes !== undefined) return inMemory(descriptor, range, bytes);
  const key = blobKey(digest, blob.n);
  return {
    descriptor,
    range,
    openRandom: () => openStored(parts, digest, blob),
    open: () => Readable.from(stream(parts, digest, blob, range), { objectMode: false }),
    close: () => {},
    ...(parts.storage.presign === undefined ? {} : await presigned(parts, key)),
  };
}

async function presigned(parts: LocalParts, key: ReturnType<typeof blobKey>): Promise<{ redirectUrl?: string }> {
  const url = await parts.storage.presign?.(key, { seconds: 300 });
  return url === undefined ? {} : { redirectUrl: url };
}

function clip(asked: ByteRange | undefined, size: number): ByteRange {
  if (asked === undefined) return { start: 0, end: size };
  if (asked.start >= size) {
    throw new RegistryError('RANGE_INVALID', `The range starts at ${asked.start}, the blob has ${size} bytes.`, {
      detail: { size },
    });
  }
  return { start: asked.start, end: Math.min(asked.end, size) };
}

function inMemory(descriptor: Descriptor, range: ByteRange, whole: Uint8Array): BlobContent {
  const bytes = range.start === 0 && range.end === whole.length ? whole : whole.subarray(range.start, range.end);
  return {
    descriptor,
    range,
    bytes,
    open: () => Readable.from([Buffer.from(bytes)], { objectMode: false }),
    close: () => {},
  };
}

/** A small stored blob, from memory or read whole and checked by its digest once. */
async function smallBytes(parts: LocalParts, digest: Digest, blob: HotBlob): Promise<Uint8Array | undefined> {
  if (blob.size > CACHED_BLOB_BYTES || parts.storage.presign !== undefined) return undefined;
  const cached = parts.blobCache.get(digest);
  if (cached !== undefined) return cached;
  const reader = await openStored(parts, digest, blob);
  try {
    const bytes = new Uint8Array(blob.size);
    for (let at = 0; at < bytes.length; ) {
      const read = await reader.read(bytes.subarray(at), at);
      if (read === 0) throw blobUnknown(digest);
      at += read;
    }
    if (digestOf(bytes, algorithmOf(digest)) !== digest) {
      await reportDamage(parts, digest, blob.n, 'its bytes have another digest');
      throw blobUnknown(digest);
    }
    parts.blobCache.set(digest, bytes);
    return bytes;
  } finally {
    await reader.close();
  }
}

/** A reader of stored bytes that reports damage when they are missing or end early. */
async function openStored(parts: LocalParts, digest: Digest, blob: HotBlob): Promise<RandomReader> {
  const { storage } = parts;
  if (storage.openRandom === undefined)
    throw new FaultError('bug', `the storage ${storage.name} cannot read at a position`);
  let reader: RandomReader;
  try {
    reader = await storage.openRandom(blobKey(digest, blob.n));
  } catch (error) {
    if (!(error instanceof FaultError) || error.code !== 'corrupt') throw error;
    await reportDamage(parts, digest, blob.n, 'its bytes are missing');
    throw blobUnknown(digest);
  }
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

async function* stream(parts: LocalParts, digest: Digest, blob: HotBlob, range: ByteRange): AsyncGenerator<Uint8Array> {
  const reader = await openStored(parts, digest, blob);
  try {
    for (let at = range.start; at < range.end; ) {
      const chunk = Buffer.allocUnsafe(Math.min(256 * 1024, range.end - at));
      const read = await reader.read(chunk, at);
      if (read === 0) throw new FaultError('corrupt', 'the stored bytes end before the blob does');
      yield chunk.subarray(0, read);
      at += read;
    }
  } finally {
    await reader.close();
  }
}
