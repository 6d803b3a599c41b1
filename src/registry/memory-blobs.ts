/** The blobs and uploads of `memory.ts`. Bodies are read whole before anything changes, so each change is one step. */
import { Readable } from 'node:stream';
import { randomId } from '../kit/id.ts';
import { algorithmOf, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { ByteRange, Descriptor, Digest, RepositoryName, UploadId } from '../oci/names.ts';
import type { Call } from './call.ts';
import type { Guards } from './guard.ts';
import {
  checkGuards,
  type MemoryRepository,
  type MemoryState,
  type MemoryUpload,
  openRepository,
  usersOf,
} from './memory-state.ts';
import type { BlobContent, Chunk, RegistryDeleter, RegistryReader, RegistryWriter } from './registry.ts';

type BlobMethods = Pick<RegistryReader, 'resolveBlob' | 'getBlob'> &
  Omit<RegistryWriter, 'pushManifest'> &
  Pick<RegistryDeleter, 'deleteBlob'>;

/** What came of a body. `broken`: it ended by an error, after these bytes. */
interface Received {
  readonly chunks: readonly Uint8Array[];
  readonly size: number;
  readonly broken?: unknown;
}

/** Reads the body, or one byte more than `most`; never destroys it, which is for whoever made it to do. */
async function receive(body: Readable, most = Number.POSITIVE_INFINITY): Promise<Received> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of body.iterator({ destroyOnReturn: false })) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : (chunk as Uint8Array);
      chunks.push(bytes);
      size += bytes.length;
      if (size > most) break;
    }
  } catch (broken) {
    return { chunks, size, broken };
  }
  return { chunks, size };
}

function sizeInvalid(came: number, said: number): RegistryError {
  return new RegistryError(
    'SIZE_INVALID',
    `The body has ${came > said ? 'more' : 'fewer'} bytes than the ${said} that were announced. Nothing of it was kept.`,
    { detail: { expected: said } },
  );
}

function digestInvalid(digest: Digest): RegistryError {
  return new RegistryError('DIGEST_INVALID', 'The bytes do not have the digest that was given. Nothing was kept.', {
    detail: { digest },
  });
}

function rangeInvalid(size: number): RegistryError {
  return new RegistryError('RANGE_INVALID', `The upload goes on at byte ${size}.`, { detail: { size } });
}

function brokenBody(cause: unknown): RegistryError {
  return new RegistryError('UNAVAILABLE', 'The body broke off. Ask for the upload, then go on from where it stands.', {
    cause,
    retryAfterSeconds: 1,
  });
}

const blobUnknown = (digest: Digest): RegistryError =>
  new RegistryError('BLOB_UNKNOWN', 'The blob is not in this repository.', { detail: { digest } });

const describe = (digest: Digest, size: number): Descriptor => ({
  mediaType: 'application/octet-stream',
  digest,
  size,
});

/** The methods that blobs and uploads need. */
export function memoryBlobs(state: MemoryState): BlobMethods {
  function linked(name: RepositoryName, digest: Digest): Uint8Array {
    const bytes = state.repositories.get(name)?.links.has(digest) ? state.blobs.get(digest) : undefined;
    if (bytes === undefined) throw blobUnknown(digest);
    return bytes;
  }

  function link(repository: MemoryRepository, digest: Digest, bytes: Uint8Array, guards: Guards | undefined): void {
    const fresh = !repository.links.has(digest);
    checkGuards(state, repository, guards, { moves: [], addBytes: fresh ? bytes.length : 0, addManifests: 0 });
    state.blobs.set(digest, bytes);
    repository.links.add(digest);
  }

  function findUpload(call: Call, repository: RepositoryName, id: UploadId): MemoryUpload {
    const upload = state.uploads.get(id);
    if (upload === undefined || upload.repository !== repository || upload.principal !== call.principal.id) {
      throw new RegistryError('BLOB_UPLOAD_UNKNOWN', 'The upload is not known: it ended, expired or never was.');
    }
    return upload;
  }

  /** Appends in one step after the body came; of two at once, the second finds the upload moved. */
  async function append(call: Call, upload: MemoryUpload, chunk: Chunk): Promise<void> {
    if (chunk.offset !== undefined && chunk.offset !== upload.size) throw rangeInvalid(upload.size);
    const before = upload.chunks;
    const { chunks, size, broken } = await receive(chunk.body, chunk.length);
    findUpload(call, upload.repository, upload.id);
    if (upload.chunks !== before) throw rangeInvalid(upload.size);
    if (broken === undefined && chunk.length !== undefined && size !== chunk.length) {
      throw sizeInvalid(size, chunk.length);
    }
    if (chunk.length !== undefined && size > chunk.length) throw sizeInvalid(size, chunk.length);
    if (size > 0) upload.chunks = [...before, ...chunks];
    upload.size += size;
    if (broken !== undefined) throw brokenBody(broken);
  }

  return {
    async resolveBlob(_call, repository, digest) {
      return describe(digest, linked(repository, digest).length);
    },

    async getBlob(_call, repository, digest, range) {
      return content(digest, linked(repository, digest), range);
    },

    async pushBlob(_call, repository, expected, body, guards) {
      const { chunks, size, broken } = await receive(body, expected.size);
      if (broken !== undefined) throw brokenBody(broken);
      if (expected.size !== undefined && size !== expected.size) throw sizeInvalid(size, expected.size);
      const bytes = Buffer.concat(chunks, size);
      if (digestOf(bytes, algorithmOf(expected.digest)) !== expected.digest) throw digestInvalid(expected.digest);
      link(openRepository(state, repository), expected.digest, bytes, guards);
      return describe(expected.digest, size);
    },

    async startUpload(call, repository) {
      const id = Buffer.from(randomId(16)).toString('base64url') as UploadId;
      state.uploads.set(id, { id, repository, principal: call.principal.id, chunks: [], size: 0 });
      return { id, size: 0 };
    },

    async uploadStatus(call, repository, id) {
      return { id, size: findUpload(call, repository, id).size };
    },

    async appendUpload(call, repository, id, chunk) {
      const upload = findUpload(call, repository, id);
      await append(call, upload, chunk);
      return { id, size: upload.size };
    },

    async commitUpload(call, repository, id, digest, last, guards) {
      const upload = findUpload(call, repository, id);
      if (last !== undefined) await append(call, upload, last);
      const bytes = Buffer.concat(upload.chunks, upload.size);
      if (digestOf(bytes, algorithmOf(digest)) !== digest) {
        state.uploads.delete(id);
        throw digestInvalid(digest);
      }
      link(openRepository(state, repository), digest, bytes, guards);
      state.uploads.delete(id);
      return describe(digest, bytes.length);
    },

    async cancelUpload(call, repository, id) {
      findUpload(call, repository, id);
      state.uploads.delete(id);
    },

    async mountBlob(_call, repository, digest, from, guards) {
      if (from === undefined) return undefined;
      const source = [from, repository].find((name) => state.repositories.get(name)?.links.has(digest));
      const bytes = source === undefined ? undefined : state.blobs.get(digest);
      if (bytes === undefined) return undefined;
      link(openRepository(state, repository), digest, bytes, guards);
      return describe(digest, bytes.length);
    },

    async deleteBlob(_call, name, digest, guards) {
      linked(name, digest);
      const repository = openRepository(state, name);
      checkGuards(state, repository, guards, { moves: [], addBytes: 0, addManifests: 0 });
      const manifests = usersOf(repository, digest, 10);
      if (manifests.length > 0) {
        throw new RegistryError('UNSUPPORTED', 'Manifests of this repository need the blob. Delete them first.', {
          detail: { manifests },
        });
      }
      repository.links.delete(digest);
    },
  };
}

function content(digest: Digest, bytes: Uint8Array, asked: ByteRange | undefined): BlobContent {
  const range = asked === undefined ? { start: 0, end: bytes.length } : { ...asked };
  if (asked !== undefined) {
    if (asked.start >= bytes.length || asked.end <= asked.start) {
      throw new RegistryError('RANGE_INVALID', `The range begins beyond the blob's ${bytes.length} bytes.`, {
        detail: { size: bytes.length },
      });
    }
    range.end = Math.min(asked.end, bytes.length);
  }
  const part = bytes.subarray(range.start, range.end);
  return {
    descriptor: describe(digest, bytes.length),
    range,
    bytes: part,
    openRandom: async () => ({
      read: async (into, position) => {
        const some = bytes.subarray(position, position + into.length);
        into.set(some);
        return some.length;
      },
      close: async () => {},
    }),
    open: () => Readable.from(part.length === 0 ? [] : [part], { objectMode: false }),
    close: () => {},
  };
}
