/** PUT of a manifest, by tag or by digest, with `?digest` and several `?tag`. distribution-spec, "Pushing manifests". */
import { parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Digest, MediaType, Reference, RepositoryName, Tag } from '../oci/names.ts';
import { parseTag } from '../oci/tag.ts';
import { readWhole } from './body.ts';
import { tagConditions } from './condition.ts';
import type { Exchange } from './exchange.ts';
import { bad } from './query.ts';

const LONGEST_TYPE = 255;

/** `reference` undefined: what stands in the path is no tag. */
export async function pushManifest(
  exchange: Exchange,
  repository: RepositoryName,
  reference: Reference | undefined,
): Promise<void> {
  const { limits, parts } = exchange.room;
  const { contentEncoding, contentLength } = exchange.headers;
  if (contentEncoding !== undefined && contentEncoding.trim().toLowerCase() !== 'identity') {
    throw bad('A manifest is stored byte for byte: push it without Content-Encoding.', 415);
  }
  if (reference === undefined) throw invalidTag();
  const { tags, digest, named } = targetOf(exchange, reference);
  const mediaType = typeOf(exchange.headers.contentType);
  if (contentLength !== undefined && contentLength > limits.manifestBytes) throw tooLarge(limits.manifestBytes);
  const guards = await tagConditions(exchange, repository, tags);
  const bytes = exchange.hasBody ? await readWhole(exchange.body, limits.manifestBytes) : Buffer.alloc(0);
  if (bytes === undefined) throw tooLarge(limits.manifestBytes);
  const pushed = await parts.registry.pushManifest(exchange.call!, repository, bytes, mediaType, {
    ...(digest === undefined ? {} : { digest }),
    tags,
    guards,
  });
  const headers: string[] = [];
  if (pushed.subject !== undefined) headers.push('OCI-Subject', pushed.subject);
  if (named) for (const tag of pushed.tags) headers.push('OCI-Tag', tag);
  const own = pushed.descriptor.digest;
  exchange.sendCreated(`/v2/${repository}/manifests/${own}`, own, headers);
}

/** Which tags are moved, and what the bytes must hash to. `named`: the tags came as parameters. */
function targetOf(
  exchange: Exchange,
  reference: Reference,
): { readonly tags: readonly Tag[]; readonly digest: Digest | undefined; readonly named: boolean } {
  const { query } = exchange;
  const asked = query.digest === undefined ? undefined : parseDigest(query.digest);
  const names = query.tag;
  if ('tag' in reference) {
    if (names.length > 0) throw bad('"?tag=" goes with a digest in the path, not with a tag.');
    return { tags: [reference.tag], digest: asked, named: false };
  }
  if (asked !== undefined && asked !== reference.digest) {
    throw new RegistryError('DIGEST_INVALID', 'The digest of the path and that of "?digest=" are not the same.');
  }
  const most = exchange.room.limits.tagsPerPush;
  if (names.length > most) throw bad(`At most ${most} tags can be given in one push.`, 414);
  return { tags: names.map(parseTag), digest: reference.digest, named: names.length > 0 };
}

/** The media type without parameters; empty where there is none, then the document's own counts. */
function typeOf(header: string | undefined): MediaType {
  if (header === undefined) return '';
  const semicolon = header.indexOf(';');
  const type = (semicolon < 0 ? header : header.slice(0, semicolon)).trim().toLowerCase();
  if (type.length > LONGEST_TYPE) {
    throw new RegistryError('MANIFEST_INVALID', `The Content-Type is longer than ${LONGEST_TYPE} bytes.`);
  }
  return type;
}

function invalidTag(): RegistryError {
  try {
    parseTag('');
  } catch (error) {
    return error as RegistryError;
  }
  return new RegistryError('NAME_INVALID', 'The tag is not valid.');
}

function tooLarge(limit: number): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `The manifest is larger than ${limit} bytes.`, {
    status: 413,
    detail: { limit },
  });
}
