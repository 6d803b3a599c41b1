/**
 * The raw request target to a route: a hand-made parser that reads from the right end, so that a repository may be
 * called `a/tags` or `blobs/uploads` (edge case 68). It never decodes anything but the last part of the path, and
 * that once; what stands in a repository's place must be a name as it is. Pure, linear, no regular expression.
 */
import { isDigest, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Digest, Reference, RepositoryName, UploadId } from '../oci/names.ts';
import { parseRepositoryName } from '../oci/repository-name.ts';
import { isTag } from '../oci/tag.ts';

/** What a path leads to. `badTag`: text without a colon that is no tag; nothing can have that name. */
export type Route =
  | { readonly kind: 'base'; readonly repository: undefined }
  | { readonly kind: 'catalog'; readonly repository: undefined }
  | {
      readonly kind: 'manifest';
      readonly repository: RepositoryName;
      readonly reference: Reference | undefined;
    }
  | { readonly kind: 'blob'; readonly repository: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'uploads'; readonly repository: RepositoryName }
  | { readonly kind: 'upload'; readonly repository: RepositoryName; readonly id: UploadId | undefined }
  | { readonly kind: 'tags'; readonly repository: RepositoryName }
  | { readonly kind: 'referrers'; readonly repository: RepositoryName; readonly digest: Digest };

/** The kinds, for labels. */
export type RouteKind = Route['kind'];

/** The methods of a route, as `Allow` writes them. */
export const ALLOW: Readonly<Record<RouteKind, string>> = {
  base: 'GET, HEAD, OPTIONS',
  catalog: 'GET, HEAD, OPTIONS',
  manifest: 'GET, HEAD, PUT, DELETE, OPTIONS',
  blob: 'GET, HEAD, DELETE, OPTIONS',
  uploads: 'POST, OPTIONS',
  upload: 'GET, HEAD, PATCH, PUT, DELETE, OPTIONS',
  tags: 'GET, HEAD, OPTIONS',
  referrers: 'GET, HEAD, OPTIONS',
};

/** Whether a raw target belongs to the registry. Only these spellings do: `/%76%32/` and `/V2/` do not. */
export function isProtocolTarget(target: string): boolean {
  if (!target.startsWith('/v2')) return false;
  const c = target.charCodeAt(3);
  return Number.isNaN(c) || c === 47 || c === 63;
}

const BASE: Route = { kind: 'base', repository: undefined };
const CATALOG: Route = { kind: 'catalog', repository: undefined };
const LONGEST_ID = 256;

/**
 * The route, or undefined where there is none (404). Throws RegistryError: NAME_INVALID for what stands in a name's
 * place and is none, DIGEST_INVALID for a malformed digest. A malformed tag or upload id is a route with
 * `undefined` in its place: what it answers depends on the method.
 */
export function parseRoute(target: string): Route | undefined {
  const question = target.indexOf('?');
  const end = question < 0 ? target.length : question;
  if (end <= 4) return BASE; // `/v2` or `/v2/`
  const lastSlash = target.lastIndexOf('/', end - 1);
  if (lastSlash === 3) return end === 12 && target.startsWith('_catalog', 4) ? CATALOG : undefined;
  const word = wordBefore(target, lastSlash);
  if (word === undefined) return undefined;
  const { kind, nameEnd } = word;
  const from = lastSlash + 1;
  if (kind === 'manifests') {
    if (from === end) return undefined;
    const repository = nameOf(target, nameEnd);
    const text = decodeLast(target, from, end);
    if (text === undefined) return { kind: 'manifest', repository, reference: undefined };
    if (isTag(text)) return { kind: 'manifest', repository, reference: { tag: text } };
    if (!text.includes(':')) return { kind: 'manifest', repository, reference: undefined };
    return { kind: 'manifest', repository, reference: { digest: parseDigest(text) } };
  }
  if (kind === 'blobs') {
    if (from === end) return undefined;
    const repository = nameOf(target, nameEnd);
    if (end - from === 7 && target.startsWith('uploads', from)) return { kind: 'uploads', repository };
    return { kind: 'blob', repository, digest: digestAt(target, from, end) };
  }
  if (kind === 'uploads') {
    const repository = nameOf(target, nameEnd);
    if (from === end) return { kind: 'uploads', repository };
    const id = decodeLast(target, from, end);
    return { kind: 'upload', repository, id: id !== undefined && isPlausibleId(id) ? (id as UploadId) : undefined };
  }
  if (kind === 'tags') {
    if (end - from !== 4 || !target.startsWith('list', from)) return undefined;
    return { kind: 'tags', repository: nameOf(target, nameEnd) };
  }
  if (from === end) return undefined;
  return { kind: 'referrers', repository: nameOf(target, nameEnd), digest: digestAt(target, from, end) };
}

/** The fixed word in front of the last part, and where the name before it ends. Undefined: none, or no name before it. */
function wordBefore(
  target: string,
  lastSlash: number,
): { readonly kind: 'manifests' | 'blobs' | 'uploads' | 'tags' | 'referrers'; readonly nameEnd: number } | undefined {
  const slash = target.lastIndexOf('/', lastSlash - 1);
  if (slash <= 3) return undefined;
  switch (lastSlash - slash - 1) {
    case 9:
      if (target.startsWith('manifests', slash + 1)) return { kind: 'manifests', nameEnd: slash };
      return target.startsWith('referrers', slash + 1) ? { kind: 'referrers', nameEnd: slash } : undefined;
    case 5:
      return target.startsWith('blobs', slash + 1) ? { kind: 'blobs', nameEnd: slash } : undefined;
    case 4:
      return target.startsWith('tags', slash + 1) ? { kind: 'tags', nameEnd: slash } : undefined;
    case 7: {
      if (!target.startsWith('uploads', slash + 1)) return undefined;
      const nameEnd = slash - 6;
      return nameEnd > 3 && target.startsWith('/blobs', nameEnd) ? { kind: 'uploads', nameEnd } : undefined;
    }
    default:
      return undefined;
  }
}

function nameOf(target: string, end: number): RepositoryName {
  return parseRepositoryName(target.slice(4, end));
}

function digestAt(target: string, from: number, end: number): Digest {
  const raw = target.slice(from, end);
  if (isDigest(raw)) return raw;
  const text = decodeLast(target, from, end);
  if (text === undefined) throw new RegistryError('DIGEST_INVALID', 'The digest is not validly percent-encoded.');
  return parseDigest(text);
}

/** The last part, decoded once; undefined where its escapes are not UTF-8. */
function decodeLast(target: string, from: number, end: number): string | undefined {
  const raw = target.slice(from, end);
  if (!raw.includes('%')) return raw;
  try {
    return decodeURIComponent(raw);
  } catch {
    return undefined;
  }
}

/** Whether it could be an id that some implementation made: bounded, and made of unreserved characters. */
function isPlausibleId(text: string): boolean {
  if (text.length > LONGEST_ID) return false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const plain = (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
    if (!plain && c !== 45 && c !== 46 && c !== 95 && c !== 126 && c !== 61) return false;
  }
  return true;
}
