/** Blobs up: POST, PATCH, PUT, GET, HEAD, DELETE of uploads, and mounts. distribution-spec, "Pushing blobs". */
import { algorithmOf, parseAlgorithm, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Algorithm, Digest, RepositoryName, UploadId } from '../oci/names.ts';
import { parseContentRange } from '../oci/range.ts';
import { isRepositoryName } from '../oci/repository-name.ts';
import type { Chunk } from '../registry/registry.ts';
import type { Exchange } from './exchange.ts';
import { blobPath, uploadHeaders, uploadStatusHeaders } from './headers.ts';
import type { Query } from './query.ts';

/** The digests of no bytes: such a blob needs no body. */
const EMPTY = new Set([
  'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  'sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e',
]);

/** An id that no upload has. */
export function unknownUpload(): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', 'The upload is not known: it ended, expired or never was.');
}

/** POST: mounts, takes a whole blob, or begins an upload. */
export async function startUpload(exchange: Exchange, repository: RepositoryName): Promise<void> {
  const { registry } = exchange.room.parts;
  const call = exchange.call!;
  const asked = readStart(exchange.query);
  if (asked.mount !== undefined && (await mount(exchange, repository, asked.mount))) return;
  const { digest, algorithm } = asked;
  checkLength(exchange);
  if (digest !== undefined && (exchange.hasBody || EMPTY.has(digest))) {
    const size = exchange.hasBody ? exchange.headers.contentLength : 0;
    await registry.pushBlob(call, repository, { digest, ...(size === undefined ? {} : { size }) }, exchange.body);
    exchange.sendCreated(blobPath(repository, digest), digest);
    return;
  }
  const status = await registry.startUpload(call, repository, {
    ...(algorithm === undefined ? {} : { algorithm }),
    ...(digest === undefined ? {} : { digest }),
  });
  exchange.send(202, uploadStatusHeaders(repository, status, true));
}

/** What a POST asks for. DIGEST_INVALID where it is malformed or says two things. */
function readStart(query: Query): {
  readonly digest: Digest | undefined;
  readonly mount: Digest | undefined;
  readonly algorithm: Algorithm | undefined;
} {
  const digest = query.digest === undefined ? undefined : parseDigest(query.digest);
  const mounted = query.mount === undefined ? undefined : parseDigest(query.mount);
  const name = query['digest-algorithm'];
  const named = name === undefined ? undefined : parseAlgorithm(name);
  if (name !== undefined && named === undefined) {
    throw new RegistryError('DIGEST_INVALID', 'The digest algorithm is not served: use sha256 or sha512.');
  }
  if (digest !== undefined && mounted !== undefined && digest !== mounted) {
    throw new RegistryError('DIGEST_INVALID', '"digest" and "mount" name two different blobs.');
  }
  const known = digest ?? mounted;
  const algorithm = known === undefined ? named : algorithmOf(known);
  if (named !== undefined && algorithm !== named) {
    throw new RegistryError('DIGEST_INVALID', `The digest is not one of the algorithm ${named}.`);
  }
  return { digest, mount: mounted, algorithm };
}

/** Whether the blob was mounted and the answer sent. A source that is missing, malformed or not for this caller is no error. */
async function mount(exchange: Exchange, repository: RepositoryName, digest: Digest): Promise<boolean> {
  const { from } = exchange.query;
  if (from !== undefined && !isRepositoryName(from)) return false;
  try {
    const mounted = await exchange.room.parts.registry.mountBlob(exchange.call!, repository, digest, from);
    if (mounted === undefined) return false;
  } catch (error) {
    if (error instanceof RegistryError && (error.status === 401 || error.status === 403 || error.status === 404)) {
      return false;
    }
    throw error;
  }
  exchange.sendCreated(blobPath(repository, digest), digest);
  return true;
}

/** GET and HEAD. */
export async function uploadStatus(exchange: Exchange, repository: RepositoryName, id: UploadId): Promise<void> {
  const status = await exchange.room.parts.registry.uploadStatus(exchange.call!, repository, id);
  exchange.send(204, uploadStatusHeaders(repository, status, false));
}

/** PATCH. */
export async function appendUpload(exchange: Exchange, repository: RepositoryName, id: UploadId): Promise<void> {
  const { registry } = exchange.room.parts;
  const call = exchange.call!;
  await withRange(exchange, repository, id, async () => {
    const chunk = readChunk(exchange);
    const status =
      chunk === undefined
        ? await registry.uploadStatus(call, repository, id)
        : await registry.appendUpload(call, repository, id, chunk);
    exchange.send(202, uploadStatusHeaders(repository, status, true));
  });
}

/** PUT: the end of an upload, with its last chunk or without. */
export async function commitUpload(exchange: Exchange, repository: RepositoryName, id: UploadId): Promise<void> {
  const { digest: text } = exchange.query;
  if (text === undefined) {
    throw new RegistryError(
      'DIGEST_INVALID',
      'The upload cannot end without "?digest=": the digest of the whole blob.',
    );
  }
  const digest = parseDigest(text);
  await withRange(exchange, repository, id, async () => {
    const chunk = readChunk(exchange);
    await exchange.room.parts.registry.commitUpload(exchange.call!, repository, id, digest, chunk);
    exchange.sendCreated(blobPath(repository, digest), digest);
  });
}

/** DELETE. */
export async function cancelUpload(exchange: Exchange, repository: RepositoryName, id: UploadId): Promise<void> {
  await exchange.room.parts.registry.cancelUpload(exchange.call!, repository, id);
  exchange.sendEmpty(204, []);
}

/** The chunk that the request carries; undefined where it carries none. 416, 400 or 413 before anything is read. */
function readChunk(exchange: Exchange): Chunk | undefined {
  const { contentRange, contentLength } = exchange.headers;
  const announced = exchange.hasBody ? contentLength : 0;
  if (contentRange === undefined) {
    checkLength(exchange);
    if (!exchange.hasBody) return undefined;
    return { body: exchange.body, ...(announced === undefined ? {} : { length: announced }) };
  }
  const range = parseContentRange(contentRange);
  if (range === undefined) {
    throw new RegistryError('RANGE_INVALID', 'The Content-Range is not valid: write it as "<first>-<last>".');
  }
  const length = range.end - range.start;
  if (announced !== undefined && announced !== length) {
    throw new RegistryError('SIZE_INVALID', `The range has ${length} bytes, the body ${announced}.`);
  }
  checkLength(exchange);
  return { body: exchange.body, offset: range.start, length };
}

function checkLength(exchange: Exchange): void {
  const { blobBytes } = exchange.room.limits;
  if ((exchange.headers.contentLength ?? 0) <= blobBytes) return;
  throw new RegistryError('SIZE_INVALID', `A blob may have at most ${blobBytes} bytes here.`, {
    status: 413,
    detail: { limit: blobBytes },
  });
}

/** A 416 says where the upload stands, so that the client can go on from there. */
async function withRange(
  exchange: Exchange,
  repository: RepositoryName,
  id: UploadId,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== 'RANGE_INVALID') throw error;
    const size = sizeIn(error.detail) ?? (await sizeNow(exchange, repository, id));
    exchange.fail(error, uploadHeaders(repository, id, size));
  }
}

function sizeIn(detail: unknown): number | undefined {
  if (typeof detail !== 'object' || detail === null || !('size' in detail)) return undefined;
  return typeof detail.size === 'number' ? detail.size : undefined;
}

async function sizeNow(exchange: Exchange, repository: RepositoryName, id: UploadId): Promise<number> {
  try {
    return (await exchange.room.parts.registry.uploadStatus(exchange.call!, repository, id)).size;
  } catch {
    return 0; // Malformed comes before unknown: the 416 stands, whatever there is.
  }
}
