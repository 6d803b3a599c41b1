/** What `memory.ts` keeps: plain maps, and the checks that several of its methods share. */

import { selects } from '../kit/glob.ts';
import { RegistryError } from '../oci/error.ts';
import type { ParsedManifest } from '../oci/manifest.ts';
import type { Descriptor, Digest, Reference, RepositoryName, Tag, UploadId } from '../oci/names.ts';
import type { Guards } from './guard.ts';

/** A manifest of one repository. `deleted`: a tombstone, invisible but for restore and purge. */
export interface MemoryManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly parsed: ParsedManifest;
  deleted: boolean;
}

/** One repository. `shown`: it ever had a manifest. `tagBin`: what deleted tags last pointed at. */
export interface MemoryRepository {
  readonly id: number;
  readonly name: RepositoryName;
  shown: boolean;
  readonly links: Set<Digest>;
  readonly manifests: Map<Digest, MemoryManifest>;
  readonly tags: Map<Tag, Digest>;
  readonly tagBin: Map<Tag, Digest>;
}

/** An upload under way. `chunks` is replaced, never changed, so that it serves as the mark for compare-and-set. */
export interface MemoryUpload {
  readonly id: UploadId;
  readonly repository: RepositoryName;
  readonly principal: string;
  chunks: readonly Uint8Array[];
  size: number;
}

/** Which blobs or children a pushed manifest may name without their being here. */
export type Sparse = 'none' | 'indexes' | 'all';

/** Everything there is. Blobs are never collected: bytes stay, links go. */
export interface MemoryState {
  readonly sparse: Sparse;
  readonly repositories: Map<RepositoryName, MemoryRepository>;
  readonly blobs: Map<Digest, Uint8Array>;
  readonly uploads: Map<UploadId, MemoryUpload>;
  lastId: number;
}

/** The repository, made where there is none. */
export function openRepository(state: MemoryState, name: RepositoryName): MemoryRepository {
  let repository = state.repositories.get(name);
  if (repository === undefined) {
    repository = {
      id: ++state.lastId,
      name,
      shown: false,
      links: new Set(),
      manifests: new Map(),
      tags: new Map(),
      tagBin: new Map(),
    };
    state.repositories.set(name, repository);
  }
  return repository;
}

/** The live manifest that the reference names, or MANIFEST_UNKNOWN. */
export function liveManifest(
  repository: MemoryRepository | undefined,
  reference: Reference,
): { readonly digest: Digest; readonly manifest: MemoryManifest } {
  const digest = 'tag' in reference ? repository?.tags.get(reference.tag) : reference.digest;
  const manifest = digest === undefined ? undefined : repository?.manifests.get(digest);
  if (digest === undefined || manifest === undefined || manifest.deleted) throw manifestUnknown(reference);
  return { digest, manifest };
}

/** MANIFEST_UNKNOWN naming the reference. */
export function manifestUnknown(reference: Reference): RegistryError {
  return new RegistryError(
    'MANIFEST_UNKNOWN',
    'tag' in reference
      ? `The tag ${reference.tag} is not in this repository.`
      : 'The manifest is not in this repository.',
    { detail: reference },
  );
}

/** Digests of live indexes here that name this manifest. */
export function parentsOf(repository: MemoryRepository, digest: Digest): Digest[] {
  const parents: Digest[] = [];
  for (const [parent, manifest] of repository.manifests) {
    if (!manifest.deleted && manifest.parsed.children.some((child) => child.digest === digest)) parents.push(parent);
  }
  return parents;
}

/** Digests of live manifests here that name this blob, at most `limit`. */
export function usersOf(repository: MemoryRepository, digest: Digest, limit: number): Digest[] {
  const users: Digest[] = [];
  for (const [user, { deleted, parsed }] of repository.manifests) {
    if (users.length >= limit) break;
    if (deleted) continue;
    if ([...parsed.blobs, ...parsed.children].some((one) => one.digest === digest)) users.push(user);
  }
  return users;
}

/** What a change would do, in the words that guards are checked with. `to` undefined: the tag would be deleted. */
export interface Intent {
  readonly moves: readonly { readonly tag: Tag; readonly to: Digest | undefined }[];
  readonly addBytes: number;
  readonly addManifests: number;
}

/** Throws what the first broken guard says: DENIED on pushes (412 for tag-at), UNSUPPORTED on deletes of what is immutable or in use. */
export function checkGuards(
  state: MemoryState,
  repository: MemoryRepository,
  guards: Guards | undefined,
  intent: Intent,
): void {
  for (const guard of guards ?? []) {
    if (guard.kind === 'tags-unmoved') {
      for (const { tag, to } of intent.moves) {
        const now = repository.tags.get(tag);
        if (now === undefined || now === to || !selects(guard.include, guard.except, tag)) continue;
        throw new RegistryError(
          to === undefined ? 'UNSUPPORTED' : 'DENIED',
          `The tag ${tag} is immutable by the rule "${guard.rule}": it can be neither moved nor deleted.`,
          { detail: { tags: [tag], rule: guard.rule } },
        );
      }
    } else if (guard.kind === 'tag-at') {
      const now = repository.tags.get(guard.tag);
      if ((now ?? null) === guard.digest) continue;
      throw new RegistryError('DENIED', `The tag ${guard.tag} does not point where the request's condition says.`, {
        status: 412,
        detail: { tag: guard.tag, digest: now ?? null },
      });
    } else if (guard.kind === 'manifest-unreferenced') {
      const tags = [...repository.tags].filter(([, digest]) => digest === guard.digest).map(([tag]) => tag);
      const manifests = parentsOf(repository, guard.digest);
      if (tags.length === 0 && manifests.length === 0) continue;
      throw new RegistryError('UNSUPPORTED', 'The manifest is in use again: a tag or an index names it.', {
        detail: { tags: tags.slice(0, 10), manifests: manifests.slice(0, 10) },
      });
    } else if (guard.kind === 'quota') checkQuota(state, guard, intent);
    // 'not-held': there are no holds in memory.
  }
}

/** A project here is the repositories whose names begin with `project/`, and the one of that very name. */
function checkQuota(state: MemoryState, guard: Guards[number] & { kind: 'quota' }, intent: Intent): void {
  let bytes = intent.addBytes;
  let manifests = intent.addManifests;
  for (const repository of state.repositories.values()) {
    if (repository.name !== guard.project && !repository.name.startsWith(`${guard.project}/`)) continue;
    for (const digest of repository.links) bytes += state.blobs.get(digest)?.length ?? 0;
    for (const manifest of repository.manifests.values()) {
      if (manifest.deleted) continue;
      bytes += manifest.bytes.length;
      manifests++;
    }
  }
  const over =
    (intent.addBytes > 0 && bytes > (guard.maxBytes ?? Number.POSITIVE_INFINITY)) ||
    (intent.addManifests > 0 && manifests > (guard.maxManifests ?? Number.POSITIVE_INFINITY));
  if (over) {
    throw new RegistryError('DENIED', `The project ${guard.project} has no room left for this: its quota is used up.`, {
      detail: { project: guard.project, maxBytes: guard.maxBytes, maxManifests: guard.maxManifests },
    });
  }
}
