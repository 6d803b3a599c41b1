/** The manifests, tags and tombstones of `memory.ts`. Each method changes everything in one step or nothing. */
import { algorithmOf, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import type { Digest, Reference, RepositoryName, Tag } from '../oci/names.ts';
import {
  checkGuards,
  liveManifest,
  type MemoryManifest,
  type MemoryRepository,
  type MemoryState,
  manifestUnknown,
  openRepository,
  parentsOf,
} from './memory-state.ts';
import type { RegistryDeleter, RegistryReader, RegistryWriter, Store } from './registry.ts';

type ManifestMethods = Pick<RegistryReader, 'resolveManifest' | 'getManifest'> &
  Pick<RegistryWriter, 'pushManifest'> &
  Omit<RegistryDeleter, 'deleteBlob'> &
  Pick<Store, 'restore' | 'purge' | 'deleteRepository'>;

const MAX_MANIFEST = 4 * 1024 * 1024;

function unknownBlobs(digests: readonly Digest[]): RegistryError {
  return new RegistryError(
    'MANIFEST_BLOB_UNKNOWN',
    `The manifest names ${digests.length === 1 ? 'something that is' : `${digests.length} things that are`} not in this repository. Push what it names first.`,
    { detail: { digests } },
  );
}

/** The methods that manifests, tags and tombstones need. */
export function memoryManifests(state: MemoryState): ManifestMethods {
  /** Everything that the manifest needs and that is not here. */
  function missing(repository: MemoryRepository, parsed: ParsedManifest): Digest[] {
    const absent: Digest[] = [];
    if (state.sparse !== 'all') {
      for (const { digest, required } of parsed.blobs) {
        if (required && !repository.links.has(digest)) absent.push(digest);
      }
    }
    if (state.sparse === 'none') {
      for (const { digest } of parsed.children) {
        // An index may name blobs too: BuildKit's cache does.
        const child = repository.manifests.get(digest);
        if ((child === undefined || child.deleted) && !repository.links.has(digest)) absent.push(digest);
      }
    }
    return absent;
  }

  /** Links again what a tombstone needs, all or nothing. */
  function revive(repository: MemoryRepository, manifest: MemoryManifest): void {
    const links = manifest.parsed.blobs.map(({ digest }) => digest).filter((digest) => state.blobs.has(digest));
    const after = { ...repository, links: new Set([...repository.links, ...links]) };
    const absent = missing(after, manifest.parsed);
    if (absent.length > 0) throw unknownBlobs(absent);
    for (const digest of links) repository.links.add(digest);
    manifest.deleted = false;
  }

  function buriedManifest(name: RepositoryName, reference: Reference): [MemoryRepository, Digest, MemoryManifest] {
    const repository = state.repositories.get(name);
    const digest = 'tag' in reference ? repository?.tagBin.get(reference.tag) : reference.digest;
    const manifest = digest === undefined ? undefined : repository?.manifests.get(digest);
    if (repository === undefined || digest === undefined || manifest === undefined) throw manifestUnknown(reference);
    return [repository, digest, manifest];
  }

  function bury(repository: MemoryRepository, tag: Tag, digest: Digest): void {
    repository.tags.delete(tag);
    repository.tagBin.set(tag, digest);
  }

  return {
    async resolveManifest(_call, repository, reference) {
      return liveManifest(state.repositories.get(repository), reference).manifest.descriptor;
    },

    async getManifest(_call, repository, reference) {
      const { descriptor, bytes } = liveManifest(state.repositories.get(repository), reference).manifest;
      return { descriptor, bytes };
    },

    async pushManifest(_call, name, bytes, mediaType, options = {}) {
      if (bytes.length > MAX_MANIFEST) {
        throw new RegistryError('MANIFEST_INVALID', 'The manifest is larger than 4 MiB.', { status: 413 });
      }
      const digest = digestOf(bytes, options.digest === undefined ? 'sha256' : algorithmOf(options.digest));
      if (options.digest !== undefined && options.digest !== digest) {
        throw new RegistryError('DIGEST_INVALID', 'The manifest does not have the digest that was given.', {
          detail: { digest: options.digest },
        });
      }
      const parsed = parseManifest(bytes, mediaType);
      const tags = [...new Set(options.tags ?? [])];
      const had = state.repositories.has(name);
      const repository = openRepository(state, name);
      try {
        const absent = missing(repository, parsed);
        if (absent.length > 0) throw unknownBlobs(absent);
        const fresh = repository.manifests.get(digest)?.deleted !== false;
        checkGuards(state, repository, options.guards, {
          moves: tags.map((tag) => ({ tag, to: digest })),
          addBytes: fresh ? bytes.length : 0,
          addManifests: fresh ? 1 : 0,
        });
      } catch (error) {
        if (!had) state.repositories.delete(name);
        throw error;
      }
      const descriptor = { mediaType: parsed.mediaType, digest, size: bytes.length };
      repository.manifests.set(digest, { descriptor, bytes: bytes.slice(), parsed, deleted: false });
      for (const tag of tags) repository.tags.set(tag, digest);
      repository.shown = true;
      return { descriptor, tags, ...(parsed.subject === undefined ? {} : { subject: parsed.subject.digest }) };
    },

    async deleteManifest(_call, name, digest, guards) {
      const repository = state.repositories.get(name);
      const { manifest } = liveManifest(repository, { digest });
      if (repository === undefined) throw manifestUnknown({ digest });
      const tags = [...repository.tags].filter(([, at]) => at === digest).map(([tag]) => tag);
      checkGuards(state, repository, guards, {
        moves: tags.map((tag) => ({ tag, to: undefined })),
        addBytes: 0,
        addManifests: 0,
      });
      const manifests = parentsOf(repository, digest);
      if (manifests.length > 0) {
        throw new RegistryError('UNSUPPORTED', 'Indexes of this repository name the manifest. Delete them first.', {
          detail: { manifests: manifests.slice(0, 10) },
        });
      }
      for (const tag of tags) bury(repository, tag, digest);
      manifest.deleted = true;
    },

    async deleteTag(_call, name, tag, guards) {
      const repository = state.repositories.get(name);
      const { digest } = liveManifest(repository, { tag });
      if (repository === undefined) throw manifestUnknown({ tag });
      checkGuards(state, repository, guards, { moves: [{ tag, to: undefined }], addBytes: 0, addManifests: 0 });
      bury(repository, tag, digest);
    },

    async restore(_call, name, reference, guards) {
      const rollsBack = 'tag' in reference && 'digest' in reference;
      const wanted = rollsBack ? { digest: reference.digest } : reference;
      const [repository, digest, manifest] = buriedManifest(name, wanted);
      checkGuards(state, repository, guards, {
        moves: 'tag' in reference ? [{ tag: reference.tag, to: digest }] : [],
        addBytes: manifest.deleted ? manifest.bytes.length : 0,
        addManifests: manifest.deleted ? 1 : 0,
      });
      if (manifest.deleted) revive(repository, manifest);
      if ('tag' in reference) {
        if (!rollsBack) repository.tagBin.delete(reference.tag);
        repository.tags.set(reference.tag, digest);
      }
    },

    async purge(_call, name, reference, guards) {
      const [repository, digest, manifest] = buriedManifest(name, reference);
      if ('digest' in reference && !manifest.deleted) throw manifestUnknown(reference);
      checkGuards(state, repository, guards, { moves: [], addBytes: 0, addManifests: 0 });
      if ('tag' in reference) {
        repository.tagBin.delete(reference.tag);
        return;
      }
      for (const [tag, at] of repository.tagBin) if (at === digest) repository.tagBin.delete(tag);
      repository.manifests.delete(digest);
    },

    async deleteRepository(_call, name, guards) {
      const repository = state.repositories.get(name);
      if (repository === undefined) {
        throw new RegistryError('NAME_UNKNOWN', 'There is no such repository.', { detail: { name } });
      }
      checkGuards(state, repository, guards, {
        moves: [...repository.tags.keys()].map((tag) => ({ tag, to: undefined })),
        addBytes: 0,
        addManifests: 0,
      });
      state.repositories.delete(name);
      for (const upload of state.uploads.values()) if (upload.repository === name) state.uploads.delete(upload.id);
      return { done: true };
    },
  };
}
