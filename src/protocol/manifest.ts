/** Manifests down, and away: the hottest path of all. distribution-spec, "Pulling manifests", "Deleting manifests". */
import { RegistryError } from '../oci/error.ts';
import type { Descriptor, Reference, RepositoryName } from '../oci/names.ts';
import type { ManifestContent } from '../registry/registry.ts';
import { tagConditions } from './condition.ts';
import type { Exchange } from './exchange.ts';
import { manifestHeaders, namesDigest, notModifiedHeaders } from './headers.ts';

/** A name that no manifest can have. */
export function unknownTag(): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', 'There is no such manifest: the reference is not a valid tag.');
}

/** HEAD and GET. The stored type, whatever `Accept` says; `Range` is ignored. */
export function readManifest(exchange: Exchange, repository: RepositoryName, reference: Reference): Promise<void> {
  const { registry } = exchange.room.parts;
  return exchange.method === 'HEAD'
    ? registry
        .resolveManifest(exchange.call!, repository, reference)
        .then((descriptor) => answer(exchange, descriptor, undefined))
    : registry
        .getManifest(exchange.call!, repository, reference)
        .then((content: ManifestContent) => answer(exchange, content.descriptor, content.bytes));
}

function answer(exchange: Exchange, descriptor: Descriptor, bytes: Uint8Array | undefined): void {
  const { ifNoneMatch } = exchange.headers;
  if (ifNoneMatch !== undefined && namesDigest(ifNoneMatch, descriptor.digest)) {
    exchange.send(304, notModifiedHeaders(descriptor.digest, 'manifest'));
  } else exchange.send(200, manifestHeaders(descriptor), bytes);
}

/** DELETE: a tag goes alone, a digest with all its tags. */
export async function deleteManifest(
  exchange: Exchange,
  repository: RepositoryName,
  reference: Reference,
): Promise<void> {
  const { registry } = exchange.room.parts;
  const call = exchange.call!;
  if ('tag' in reference) {
    const guards = await tagConditions(exchange, repository, [reference.tag]);
    await registry.deleteTag(call, repository, reference.tag, guards);
  } else await registry.deleteManifest(call, repository, reference.digest);
  exchange.sendEmpty(202, []);
}
