/**
 * If-Match and If-None-Match of a change to tags (RFC 9110 §13.1), as guards that hold at the commit. A plain
 * condition becomes a guard as it is; a list is decided now against what the tag points at, which the guard then pins.
 */
import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Guard, Guards } from '../registry/guard.ts';
import type { Exchange } from './exchange.ts';
import { entityTags, namesDigest, unquoted } from './headers.ts';

/** Whether the request has conditions on a change. */
export function hasConditions(exchange: Exchange): boolean {
  return exchange.headers.ifMatch !== undefined || exchange.headers.ifNoneMatch !== undefined;
}

/** The guards for these tags. RegistryError DENIED with status 412 where a condition fails already. */
export async function tagConditions(
  exchange: Exchange,
  repository: RepositoryName,
  tags: readonly Tag[],
): Promise<Guards> {
  if (!hasConditions(exchange)) return [];
  const guards: Guard[] = [];
  for (const tag of tags) guards.push({ kind: 'tag-at', tag, digest: await expectedDigest(exchange, repository, tag) });
  return guards;
}

async function expectedDigest(exchange: Exchange, repository: RepositoryName, tag: Tag): Promise<Digest | null> {
  const { ifMatch, ifNoneMatch } = exchange.headers;
  if (ifNoneMatch === undefined && ifMatch !== undefined) {
    const only = entityTags(ifMatch);
    const digest = only.length === 1 ? unquoted(only[0]!) : '';
    if (isDigest(digest)) return digest;
  }
  if (ifMatch === undefined && ifNoneMatch?.trim() === '*') return null;
  const current = await currentDigest(exchange, repository, tag);
  if (ifMatch !== undefined && (current === null || !namesDigest(ifMatch, current, true))) {
    throw preconditionFailed(`The tag "${tag}" does not point at what If-Match names.`, tag, current);
  }
  if (ifNoneMatch !== undefined && current !== null && namesDigest(ifNoneMatch, current)) {
    throw preconditionFailed(`The tag "${tag}" points at what If-None-Match names.`, tag, current);
  }
  return current;
}

async function currentDigest(exchange: Exchange, repository: RepositoryName, tag: Tag): Promise<Digest | null> {
  try {
    return (await exchange.room.parts.registry.resolveManifest(exchange.call!, repository, { tag })).digest;
  } catch (error) {
    if (error instanceof RegistryError && error.code === 'MANIFEST_UNKNOWN') return null;
    throw error;
  }
}

function preconditionFailed(message: string, tag: Tag, current: Digest | null): RegistryError {
  return new RegistryError('DENIED', message, { status: 412, detail: { tag, digest: current } });
}
