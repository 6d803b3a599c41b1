/** The reads of the store: one look-up, then bytes. What is damaged is never served whole. */
import { Readable } from 'node:stream';
import type { HotBlob, HotManifest } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import { digestToBytes } from '../oci/digest.ts';
import { asRegistryError, RegistryError } from '../oci/error.ts';
import { OCTET_STREAM } from '../oci/media-types.ts';
import type { ByteRange, Descriptor, Digest, RepositoryName } from '../oci/names.ts';
import { referenceText } from '../oci/reference.ts';
import type { Call } from '../registry/call.ts';
import type { BlobContent, ManifestContent, RegistryReader } from '../registry/registry.ts';
import { blobTouch } from './commands/blob-commands.ts';
import { manifestUnknown } from './commands/rows.ts';
import type { LocalParts } from './parts.ts';
import { blobUnknown, isStored, smallBytes, storedContent } from './stored-bytes.ts';

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
    async getBlob(call, repository, digest, range) {
      try {
        return await getBlob(parts, call, repository, digest, range);
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

async function getBlob(
  parts: LocalParts,
  call: Call,
  repository: RepositoryName,
  digest: Digest,
  asked: ByteRange | undefined,
): Promise<BlobContent> {
  const blob = await lookUp(parts, repository, digest);
  const range = clip(asked, blob.size);
  const descriptor = describe(digest, blob.size);
  const bytes = blob.bytes ?? (await smallBytes(parts, digest, blob));
  if (bytes !== undefined) return inMemory(descriptor, range, bytes);
  return storedContent(parts, call, descriptor, range, blob);
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
