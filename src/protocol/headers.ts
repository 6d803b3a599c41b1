/**
 * The headers of answers: lists of names and values, ready for `writeHead`, made once where they can be. What comes
 * from a request gets in only through its grammar or percent-encoded (threats row 59).
 */
import type { Descriptor, Digest, RepositoryName } from '../oci/names.ts';
import { uploadRange } from '../oci/range.ts';
import type { UploadStatus } from '../registry/registry.ts';

/** Names and values in turn. */
export type HeaderList = readonly string[];

/** On every answer of `/v2/`. */
export const ALWAYS: HeaderList = [
  'Docker-Distribution-Api-Version',
  'registry/2.0',
  'X-Content-Type-Options',
  'nosniff',
  'Content-Security-Policy',
  "default-src 'none'; sandbox",
];

/** Of answers that nobody may keep. */
export const NO_STORE: HeaderList = ['Cache-Control', 'no-store', ...ALWAYS];

const BLOB_CACHE = 'private, max-age=31536000, immutable';
const MANIFEST_CACHE = 'private, no-cache';

/** The headers of an answer with this JSON body. */
export function jsonHeaders(length: number, type = 'application/json'): string[] {
  return ['Content-Type', type, 'Content-Length', String(length), ...NO_STORE];
}

/** An entity tag: the digest in quotes. */
export function etag(digest: Digest): string {
  return `"${digest}"`;
}

const manifestLists = new WeakMap<Descriptor, HeaderList>();

/** A manifest's headers. Kept as long as its descriptor is: an implementation that caches descriptors pays once. */
export function manifestHeaders(descriptor: Descriptor): HeaderList {
  let list = manifestLists.get(descriptor);
  if (list === undefined) {
    list = [
      'Content-Type',
      descriptor.mediaType,
      'Content-Length',
      String(descriptor.size),
      'Docker-Content-Digest',
      descriptor.digest,
      'ETag',
      etag(descriptor.digest),
      'Cache-Control',
      MANIFEST_CACHE,
      ...ALWAYS,
    ];
    manifestLists.set(descriptor, list);
  }
  return list;
}

/** A 304's headers. */
export function notModifiedHeaders(digest: Digest, of: 'blob' | 'manifest'): HeaderList {
  const cache = of === 'blob' ? BLOB_CACHE : MANIFEST_CACHE;
  return ['Docker-Content-Digest', digest, 'ETag', etag(digest), 'Cache-Control', cache, ...ALWAYS];
}

/** A blob's headers; `length`: of the body that follows, or would follow. */
export function blobHeaders(digest: Digest, length: number): string[] {
  return [
    'Content-Type',
    'application/octet-stream',
    'Content-Length',
    String(length),
    'Docker-Content-Digest',
    digest,
    'ETag',
    etag(digest),
    'Accept-Ranges',
    'bytes',
    'Content-Disposition',
    'attachment',
    'Cache-Control',
    BLOB_CACHE,
    ...ALWAYS,
  ];
}

/** The path of a blob. */
export function blobPath(repository: RepositoryName, digest: Digest): string {
  return `/v2/${repository}/blobs/${digest}`;
}

/** The path of an upload. */
export function uploadPath(repository: RepositoryName, id: string): string {
  return `/v2/${repository}/blobs/uploads/${encodeURIComponent(id)}`;
}

/** What every answer about an upload says: where it is, how far it is. */
export function uploadHeaders(repository: RepositoryName, id: string, size: number): string[] {
  return ['Location', uploadPath(repository, id), 'Range', uploadRange(size), 'Docker-Upload-UUID', id];
}

/** The headers of a 202 or 204 about an upload. */
export function uploadStatusHeaders(repository: RepositoryName, status: UploadStatus, length: boolean): string[] {
  const list = uploadHeaders(repository, status.id, status.size);
  if (status.minChunk !== undefined) list.push('OCI-Chunk-Min-Length', String(status.minChunk));
  if (length) list.push('Content-Length', '0');
  list.push(...NO_STORE);
  return list;
}

/** A Link to the page that follows: path only, everything percent-encoded. */
export function nextLink(path: string, parameters: readonly (readonly [string, string])[]): string[] {
  const query = parameters.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  return ['Link', `<${path}?${query}>; rel="next"`];
}

/**
 * Whether a condition's list names the digest: `*`, or entity tags, weak or not, quoted or not (RFC 9110 §13.1).
 * `strong`: a weak tag does not count.
 */
export function namesDigest(list: string, digest: Digest, strong = false): boolean {
  for (const tag of entityTags(list)) {
    if (tag === '*') return true;
    const weak = tag.startsWith('W/');
    if (weak && strong) continue;
    if (unquoted(weak ? tag.slice(2) : tag) === digest) return true;
  }
  return false;
}

/** The entity tags of a list, in order, as written. Digests hold no comma, so a comma always separates. */
export function entityTags(list: string): string[] {
  return list
    .split(',')
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
}

/** A tag's text without quotes. */
export function unquoted(tag: string): string {
  return tag.length >= 2 && tag.startsWith('"') && tag.endsWith('"') ? tag.slice(1, -1) : tag;
}
