/**
 * The reads of the seam over HTTP (distribution-spec, "Pull"). An upstream is believed in nothing that can be checked:
 * manifests are hashed and parsed, blobs are counted and hashed while they pass, and their reader sees no end before
 * both were right. `urls` of foreign layers are never followed.
 */
import type { Readable } from 'node:stream';
import { createHasher } from '../kit/hash-stream.ts';
import { algorithmOf, digestFromHex, digestOf, isDigest } from '../oci/digest.ts';
import { FaultError, RegistryError } from '../oci/error.ts';
import { parseManifest } from '../oci/manifest.ts';
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, OCTET_STREAM } from '../oci/media-types.ts';
import type { ByteRange, Descriptor, Digest, MediaType, Reference, RepositoryName } from '../oci/names.ts';
import { parseContentRange, parseDigits } from '../oci/range.ts';
import { referenceText } from '../oci/reference.ts';
import type { OutboundAnswer } from '../outbound/client.ts';
import { type BodyWatch, watchedBody } from '../outbound/watched-body.ts';
import type { Call } from '../registry/call.ts';
import type { BlobContent, ManifestContent, RegistryReader } from '../registry/registry.ts';
import { badAnswer, upstreamError } from './errors.ts';
import { BODY_LIMITS, pullScope, type Upstream } from './exchange.ts';

/** The largest manifest that is taken. */
export const MOST_MANIFEST = 4 * 1024 * 1024;
const MANIFEST_TYPES: ReadonlySet<string> = new Set([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]);
/** Types that say nothing: the document's own counts. */
const VAGUE_TYPES: ReadonlySet<string> = new Set(['', 'application/json', OCTET_STREAM]);
const ACCEPT = [...MANIFEST_TYPES].join(', ');

/** The reader of an upstream. */
export function upstreamReader(to: Upstream): RegistryReader {
  const { host } = to;

  const manifestAsk = (repository: RepositoryName, reference: Reference) => ({
    path: `${repository}/manifests/${referenceText(reference)}`,
    scope: pullScope(repository),
    unknown: 'MANIFEST_UNKNOWN' as const,
    headers: { accept: ACCEPT },
  });
  const blobAsk = (repository: RepositoryName, digest: Digest) => ({
    path: `${repository}/blobs/${digest}`,
    scope: pullScope(repository),
    unknown: 'BLOB_UNKNOWN' as const,
  });

  async function getManifest(call: Call, repository: RepositoryName, reference: Reference): Promise<ManifestContent> {
    const answer = await to.ask(call, manifestAsk(repository, reference));
    const said = digestHeader(answer, host);
    const bytes = await wholeBody(answer, call, MOST_MANIFEST);
    const expected = 'digest' in reference ? reference.digest : said;
    const digest = digestOf(bytes, expected === undefined ? 'sha256' : algorithmOf(expected));
    if (expected !== undefined && digest !== expected) {
      throw badAnswer(host, `the bytes of the manifest ${expected} hash to ${digest}`);
    }
    const mediaType = checkedType(answer, bytes, host);
    return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
  }

  async function resolveBlob(call: Call, repository: RepositoryName, digest: Digest): Promise<Descriptor> {
    const answer = await to.ask(call, { ...blobAsk(repository, digest), method: 'HEAD' });
    answer.close();
    return blobDescriptor(answer, digest, host);
  }

  /** For answers whose length is not announced (a proxy between that sends in chunks). */
  const sizeOf = async (...blob: Parameters<typeof resolveBlob>): Promise<number> => (await resolveBlob(...blob)).size;

  return {
    getManifest,

    async resolveManifest(call, repository, reference) {
      const answer = await to.ask(call, { ...manifestAsk(repository, reference), method: 'HEAD', also: [405, 501] });
      answer.close();
      const said = digestHeader(answer, host);
      const size = contentLength(answer);
      const mediaType = typeOf(answer);
      if ('digest' in reference && said !== undefined && said !== reference.digest) {
        throw badAnswer(host, `it calls the manifest ${reference.digest} ${said}`);
      }
      const digest = 'digest' in reference ? reference.digest : said;
      // Where HEAD says too little, or is not served, the manifest itself says it.
      if (answer.status !== 200 || digest === undefined || size === undefined || !MANIFEST_TYPES.has(mediaType)) {
        return (await getManifest(call, repository, reference)).descriptor;
      }
      if (size > MOST_MANIFEST) throw badAnswer(host, `a manifest of ${size} bytes`);
      return { mediaType, digest, size };
    },

    resolveBlob,

    async getBlob(call, repository, digest, range) {
      const headers: Record<string, string> = range === undefined ? {} : { range: rangeHeader(range) };
      const answer = await to.ask(call, { ...blobAsk(repository, digest), headers, limits: BODY_LIMITS });
      try {
        const size =
          answer.status === 200 && contentLength(answer) === undefined
            ? await sizeOf(call, repository, digest)
            : undefined;
        return blobContent(answer, digest, range, host, size);
      } catch (error) {
        answer.close();
        throw error;
      }
    },
  };
}

/** The whole body, at most `limit` bytes, or the seam's error. */
export async function wholeBody(
  answer: OutboundAnswer,
  call: Pick<Call, 'signal'>,
  limit: number,
): Promise<Uint8Array> {
  try {
    const bytes = await answer.bytes(limit);
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  } catch (error) {
    throw upstreamError(error, call.signal);
  }
}

/** The digest that the answer names; one that is malformed is never taken for none. */
export function digestHeader(answer: OutboundAnswer, host: string): Digest | undefined {
  const text = answer.header('docker-content-digest');
  if (text === undefined || text === '') return undefined;
  if (!isDigest(text)) throw badAnswer(host, 'a Docker-Content-Digest that is no digest');
  return text;
}

function contentLength(answer: OutboundAnswer): number | undefined {
  const text = answer.header('content-length');
  const length = text === undefined ? undefined : parseDigits(text.trim());
  return length === Number.MAX_SAFE_INTEGER ? undefined : length;
}

function typeOf(answer: OutboundAnswer): MediaType {
  return (answer.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
}

/** The manifest's type, once its document was found to be one. */
function checkedType(answer: OutboundAnswer, bytes: Uint8Array, host: string): MediaType {
  const type = typeOf(answer);
  if (!MANIFEST_TYPES.has(type) && !VAGUE_TYPES.has(type)) {
    throw badAnswer(host, `a manifest of the type ${JSON.stringify(type.slice(0, 100))}`);
  }
  try {
    return parseManifest(bytes, VAGUE_TYPES.has(type) ? '' : type).mediaType;
  } catch (error) {
    throw badAnswer(host, `a manifest that is none (${(error as Error).message.replace(/\.$/, '')})`, error);
  }
}

function blobDescriptor(answer: OutboundAnswer, digest: Digest, host: string, known?: number): Descriptor {
  const size = contentLength(answer) ?? known;
  const said = digestHeader(answer, host);
  if (said !== undefined && said !== digest) throw badAnswer(host, `it calls the blob ${digest} ${said}`);
  if (size === undefined) throw badAnswer(host, 'it does not say how large the blob is');
  return { mediaType: OCTET_STREAM, digest, size };
}

function rangeHeader({ start, end }: ByteRange): string {
  return `bytes=${start}-${end >= Number.MAX_SAFE_INTEGER ? '' : end - 1}`;
}

function blobContent(
  answer: OutboundAnswer,
  digest: Digest,
  asked: ByteRange | undefined,
  host: string,
  known?: number,
): BlobContent {
  if (answer.status === 206) {
    if (asked === undefined) throw badAnswer(host, 'a part of the blob, where all of it was asked for');
    return partContent(answer, digest, asked, host);
  }
  if (answer.status !== 200) throw badAnswer(host, `the status ${answer.status} for a blob`);
  const descriptor = blobDescriptor(answer, digest, host, known);
  const { size } = descriptor;
  const range = { start: asked?.start ?? 0, end: Math.min(asked?.end ?? size, size) };
  if (asked !== undefined && range.start >= size) {
    throw new RegistryError('RANGE_INVALID', `The range does not lie in the blob, which has ${size} bytes.`, {
      detail: { size },
    });
  }
  // An upstream that knows no ranges gives all of it: it passes through the hash, and what was not asked for is left out.
  const watch = sized(size, hashed(digest, host), host);
  return content(
    descriptor,
    range,
    () => watchedBody(answer.body, range.end - range.start < size ? cut(watch, range) : watch),
    answer,
  );
}

function partContent(answer: OutboundAnswer, digest: Digest, asked: ByteRange, host: string): BlobContent {
  const header = answer.header('content-range') ?? '';
  const range = parseContentRange(header);
  const size = parseDigits(header.slice(header.indexOf('/') + 1).trim());
  if (
    range === undefined ||
    size === undefined ||
    range.start !== asked.start ||
    range.end !== Math.min(asked.end, size)
  ) {
    throw badAnswer(host, 'another part of the blob than was asked for');
  }
  const length = contentLength(answer);
  if (length !== undefined && length !== range.end - range.start) throw badAnswer(host, 'a part of another length');
  const descriptor = { mediaType: OCTET_STREAM, digest, size };
  return content(descriptor, range, () => watchedBody(answer.body, sized(range.end - range.start, {}, host)), answer);
}

function content(descriptor: Descriptor, range: ByteRange, open: () => Readable, answer: OutboundAnswer): BlobContent {
  let opened: Readable | undefined;
  return {
    descriptor,
    range,
    open() {
      if (opened !== undefined) throw new Error('the body of an upstream can be read once');
      opened = open();
      return opened;
    },
    close() {
      if (opened === undefined) answer.close();
      else opened.destroy();
    },
  };
}

function lie(host: string, what: string): FaultError {
  return new FaultError('corrupt', `The registry ${host} ${what}.`);
}

/** So many bytes, and not one more. */
function sized(size: number, inner: BodyWatch, host: string): BodyWatch {
  let seen = 0;
  return {
    ...inner,
    chunk(chunk) {
      seen += chunk.length;
      if (seen > size) throw lie(host, `gave more than the ${size} bytes that it announced`);
      return inner.chunk?.(chunk) ?? chunk;
    },
    end() {
      if (seen !== size) throw lie(host, `gave ${seen} of ${size} bytes`);
      inner.end?.();
    },
  };
}

function hashed(digest: Digest, host: string): BodyWatch {
  const hasher = createHasher(algorithmOf(digest));
  return {
    chunk(chunk) {
      hasher.update(chunk);
      return chunk;
    },
    end() {
      const actual = digestFromHex(hasher.algorithm, hasher.digestHex());
      if (actual !== digest) throw lie(host, `gave bytes for ${digest} that hash to ${actual}`);
    },
  };
}

function cut(inner: BodyWatch, { start, end }: ByteRange): BodyWatch {
  let at = 0;
  return {
    ...inner,
    chunk(chunk) {
      const seen = inner.chunk?.(chunk) ?? chunk;
      const from = at;
      at += chunk.length;
      return seen.subarray(
        Math.max(0, Math.min(chunk.length, start - from)),
        Math.max(0, Math.min(chunk.length, end - from)),
      );
    },
  };
}
