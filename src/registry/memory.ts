/**
 * A complete registry in memory: the reference model that property tests compare others with, and what tests of the
 * layers above serve. Simple before fast: no limits of its own, nothing is ever collected.
 */

import { matchesGlob } from '../kit/glob.ts';
import { algorithmOf, hexOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Descriptor, Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Visibility } from './call.ts';
import { memoryBlobs } from './memory-blobs.ts';
import { memoryManifests } from './memory-manifests.ts';
import type { MemoryManifest, MemoryRepository, MemoryState, Sparse } from './memory-state.ts';
import type { BlobSources, Page, PageRequest, RegistryLister, Store } from './registry.ts';

/** `sparse` (default none): what a manifest may name without its being here. */
export interface MemoryOptions {
  readonly sparse?: Sparse;
}

/** A new, empty registry. Its upload ids are random and bound to repository and principal. */
export function memoryRegistry(options: MemoryOptions = {}): Store & BlobSources {
  const state: MemoryState = {
    sparse: options.sparse ?? 'none',
    repositories: new Map(),
    blobs: new Map(),
    uploads: new Map(),
    lastId: 0,
  };
  return {
    ...memoryBlobs(state),
    ...memoryManifests(state),
    ...memoryLists(state),
    async sourcesOf(digest, limit) {
      const names: RepositoryName[] = [];
      for (const repository of state.repositories.values()) {
        if (names.length < limit && repository.links.has(digest)) names.push(repository.name);
      }
      return names;
    },
  };
}

function memoryLists(state: MemoryState): RegistryLister {
  return {
    async listRepositories(_call, page, visibility = 'all') {
      const shown = [...state.repositories.values()].filter((one) => one.shown && isVisible(one, visibility));
      return pageOf(
        shown.map((one) => one.name),
        (name) => name,
        page,
      );
    },

    async listTags(_call, name, page) {
      const repository = state.repositories.get(name);
      if (repository === undefined || !repository.shown) {
        throw new RegistryError('NAME_UNKNOWN', 'There is no such repository.', { detail: { name } });
      }
      return pageOf<Tag>([...repository.tags.keys()], (tag) => tag, page);
    },

    async listReferrers(_call, name, subject, artifactType, page) {
      const repository = state.repositories.get(name);
      const all = repository === undefined ? [] : referrersOf(repository, subject);
      const wanted = artifactType === undefined ? all : all.filter((one) => one.artifactType === artifactType);
      return { ...pageOf<Descriptor>(wanted, (one) => one.digest, page), filtered: artifactType !== undefined };
    },
  };
}

function isVisible(repository: MemoryRepository, visibility: Visibility): boolean {
  if (visibility === 'all') return true;
  const { name, id } = repository;
  return (
    visibility.ids.includes(id) ||
    visibility.ranges.some(({ from, to }) => name >= from && name < to) ||
    visibility.patterns.some((pattern) => matchesGlob(pattern, name))
  );
}

/** Those with the subject, and the children of the fallback tag's index (distribution-spec, "Referrers Tag Schema"). */
function referrersOf(repository: MemoryRepository, subject: Digest): Descriptor[] {
  const found = new Map<Digest, Descriptor>();
  const add = (manifest: MemoryManifest | undefined): void => {
    if (manifest === undefined || manifest.deleted) return;
    const { artifactType, annotations } = manifest.parsed;
    found.set(manifest.descriptor.digest, {
      ...manifest.descriptor,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(annotations === undefined ? {} : { annotations }),
    });
  };
  for (const manifest of repository.manifests.values()) {
    if (manifest.parsed.subject?.digest === subject) add(manifest);
  }
  const fallback = repository.tags.get(`${algorithmOf(subject)}-${hexOf(subject).slice(0, 64)}` as Tag);
  const index = fallback === undefined ? undefined : repository.manifests.get(fallback);
  for (const child of index?.parsed.children ?? []) add(repository.manifests.get(child.digest));
  return [...found.values()];
}

/** Names, tags and digests are ASCII, so that the order of strings is the order of bytes. */
function pageOf<T>(items: readonly T[], keyOf: (item: T) => string, { after, limit }: PageRequest): Page<T> {
  const rest = items
    .map((item) => ({ item, key: keyOf(item) }))
    .filter(({ key }) => after === undefined || key > after)
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const page = rest.slice(0, limit);
  return {
    items: page.map(({ item }) => item),
    ...(rest.length > limit && page.length > 0 ? { next: page[page.length - 1]!.key } : {}),
  };
}
