/**
 * The second half of a rebuild, for one repository: its mirror and the bytes of its manifests become rows. What cannot
 * be read is reported and left out; the rest goes on.
 */
import { failpoint } from '../kit/failpoint.ts';
import { blobDamaged } from '../local/commands/blob-commands.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestFromBytes, digestOf, digestToBytes, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import { reindexSizes } from './commands/reindex-keys.ts';
import {
  type FoundManifest,
  type FoundTag,
  reindexManifests,
  reindexRepository,
  reindexTags,
  reindexUsage,
} from './commands/reindex-rows.ts';
import type { MirrorEntry } from './mirror-format.ts';
import { type ReindexWork, rescue } from './reindex-blobs.ts';
import { readChunk, readMirror } from './reindex-mirror.ts';

/** Manifests of one command: so many, and so many bytes of them. */
const MANIFESTS = 64;
const MANIFEST_BYTES = 2 * 1024 * 1024;
/** Entries whose manifests are looked for in one go, and how many are read side by side. */
const ENTRIES = 256;
const AT_ONCE = 8;
/** Tags of one command. */
const TAGS = 256;
/** No manifest is larger (LIMITS.manifestBytes of the configuration). */
const LARGEST_MANIFEST = 4 * 1024 * 1024;

/** A repository under work. */
export interface Repository {
  readonly id: number;
  readonly name: RepositoryName;
}

/** Rebuilds a repository from its mirror. */
export async function reindexOne(work: ReindexWork, name: RepositoryName): Promise<void> {
  const { database, options, report } = work;
  const mirror = await readMirror(work, name);
  if (mirror === undefined) return;
  const id = await database.run(reindexRepository, { name, createdAt: mirror.createdAt ?? null }, options);
  const repository: Repository = { id, name };
  for (const chunk of mirror.manifests) {
    const entries = await readChunk(work, name, chunk, 'manifests');
    for (let at = 0; at < entries.length; at += ENTRIES)
      await addManifests(work, repository, entries.slice(at, at + ENTRIES));
  }
  for (const chunk of mirror.tags) {
    const entries = await readChunk(work, name, chunk, 'tags');
    for (let at = 0; at < entries.length; at += TAGS) await addTags(work, repository, entries.slice(at, at + TAGS));
    failpoint('reindex.tags.after');
  }
  await database.run(reindexUsage, { repositoryId: id }, options);
  report.repositories++;
}

/** Reads, parses and adds the manifests of these entries. */
export async function addManifests(
  work: ReindexWork,
  repository: Repository,
  entries: readonly MirrorEntry[],
): Promise<void> {
  let batch: FoundManifest[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (batch.length > 0) await storeManifests(work, repository, batch);
    batch = [];
    bytes = 0;
  };
  for (let at = 0; at < entries.length; at += AT_ONCE) {
    work.signal.throwIfAborted();
    const some = entries.slice(at, at + AT_ONCE);
    for (const manifest of await Promise.all(some.map((entry) => readManifest(work, repository.name, entry)))) {
      if (manifest === undefined) continue;
      if (batch.length >= MANIFESTS || bytes + manifest.bytes.length > MANIFEST_BYTES) await flush();
      batch.push(manifest);
      bytes += manifest.bytes.length;
    }
  }
  await flush();
}

async function storeManifests(
  work: ReindexWork,
  { id, name }: Repository,
  manifests: readonly FoundManifest[],
): Promise<void> {
  const { database, options, report } = work;
  const args = { repositoryId: id, name, manifests };
  let lacking = await database.run(reindexManifests, args, options);
  let rescued = 0;
  for (const { digest } of lacking) if (await rescue(work, digest, digestFromBytes(digest))) rescued++;
  if (rescued > 0) lacking = await database.run(reindexManifests, args, options);
  const damaged = new Set(
    lacking.filter(({ state }) => state === 'damaged').map(({ digest }) => digestFromBytes(digest)),
  );
  if (damaged.size > 0) {
    const sizes = manifests.flatMap(({ bytes }) => claimedSizes(bytes)).filter(([digest]) => damaged.has(digest));
    const claimed = sizes.map(([digest, size]) => ({ digest: digestToBytes(digest), size }));
    await database.run(reindexSizes, { repositoryId: id, sizes: claimed }, options);
  }
  report.manifests += manifests.length;
  failpoint('reindex.manifests.after');
  for (const { manifest, digest, state } of lacking) {
    const how = state === 'absent' ? 'is not in storage' : 'is damaged';
    const what = `the blob ${digestFromBytes(digest)}, which ${digestFromBytes(manifest)} names, ${how}`;
    work.problem({ what, lost: true, repository: name });
  }
}

/** What a manifest that was parsed before says of the sizes of its blobs. */
function claimedSizes(bytes: Uint8Array): [Digest, number][] {
  const { config, layers } = JSON.parse(Buffer.from(bytes).toString()) as { config?: unknown; layers?: unknown };
  const said = [config, ...(Array.isArray(layers) ? (layers as unknown[]) : [])];
  return said.flatMap((one) => {
    const { digest, size } = (one ?? {}) as { digest?: unknown; size?: unknown };
    return typeof digest === 'string' && isDigest(digest) && typeof size === 'number' ? [[digest, size]] : [];
  });
}

async function readManifest(
  work: ReindexWork,
  name: RepositoryName,
  entry: MirrorEntry,
): Promise<FoundManifest | undefined> {
  const lost = (why: string): undefined => {
    work.problem({ what: `the manifest ${entry.digest} is lost: ${why}`, lost: true, repository: name });
  };
  const digest = digestToBytes(entry.digest);
  const bytes = await manifestBytes(work, digest, entry.digest);
  if (typeof bytes === 'string') return lost(bytes);
  let parsed: ParsedManifest;
  try {
    parsed = parse(bytes, entry.mediaType);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return lost(error.message);
  }
  return {
    ...{ digest, bytes, mediaType: parsed.mediaType },
    artifactType: parsed.artifactType ?? null,
    annotations: parsed.annotations === undefined ? null : JSON.stringify(parsed.annotations),
    subject: parsed.subject === undefined ? null : digestToBytes(parsed.subject.digest),
    blobs: sorted(parsed.blobs.map((blob) => blob.digest)),
    children: sorted(parsed.children.map((child) => child.digest)),
    unlinked: entry.unlinked === 'all' ? 'all' : sorted(entry.unlinked),
    blobChildren: sorted(entry.blobs),
    pushedAt: entry.at ?? null,
  };
}

/** As the mirror calls it, else as it calls itself. */
function parse(bytes: Uint8Array, mediaType: string): ParsedManifest {
  try {
    return parseManifest(bytes, mediaType);
  } catch {
    return parseManifest(bytes, '');
  }
}

function sorted(digests: readonly Digest[]): Uint8Array[] {
  return digests.map((digest) => digestToBytes(digest)).sort((a, b) => Buffer.compare(a, b));
}

/** The bytes, whose hash was compared, or why there are none. */
async function manifestBytes(work: ReindexWork, digest: Uint8Array, name: Digest): Promise<Uint8Array | string> {
  const { database, storage, options } = work;
  for (let tried = false; ; tried = true) {
    const row = await database.query.get<{ state: string; n: number | null; size: number | null }>(
      'select state, n, size from blob where digest = ?',
      digest,
    );
    if (row?.state === 'live' && row.n !== null) {
      if ((row.size ?? 0) > LARGEST_MANIFEST) return `it has ${row.size} bytes, more than a manifest may have`;
      const bytes = await readWhole(storage.read(blobKey(name, row.n)));
      if (bytes !== undefined && digestOf(bytes, algorithmOf(name)) === name) return bytes;
      await database.run(blobDamaged, { digest, n: row.n }, options);
    }
    if (tried || !(await rescue(work, digest, name))) {
      return row === undefined || row.state === 'absent' ? 'its bytes are not in storage' : 'its bytes are damaged';
    }
  }
}

/** Undefined where storage says that they are missing or end early. */
async function readWhole(reading: Promise<AsyncIterable<unknown>>): Promise<Uint8Array | undefined> {
  try {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of await reading) {
      size += (chunk as Uint8Array).length;
      if (size > LARGEST_MANIFEST) return undefined;
      chunks.push(chunk as Uint8Array);
    }
    return new Uint8Array(Buffer.concat(chunks));
  } catch (error) {
    if ((error as { code?: unknown }).code === 'corrupt') return undefined;
    throw error;
  }
}

/** Adds tags. The manifest of one that the list of manifests does not have is looked for: the lists are not of one moment. */
async function addTags(work: ReindexWork, repository: Repository, entries: readonly MirrorEntry[]): Promise<void> {
  const { database, options, report } = work;
  const { id: repositoryId, name } = repository;
  const add = async (some: readonly MirrorEntry[]): Promise<ReadonlySet<Tag>> => {
    const tags: FoundTag[] = some.map(({ tag, digest, at }) => ({
      tag: tag as Tag,
      digest: digestToBytes(digest),
      at: at ?? null,
    }));
    return new Set(await database.run(reindexTags, { repositoryId, name, tags }, options));
  };
  let homeless = await add(entries);
  if (homeless.size > 0) {
    const again = entries.filter(({ tag }) => tag !== undefined && homeless.has(tag));
    const byDigest = new Map(again.map((entry) => [entry.digest, entry]));
    // Nothing says which of its blobs are linked here, so none is.
    await addManifests(
      work,
      repository,
      [...byDigest.values()].map((entry) => ({ ...entry, unlinked: 'all' })),
    );
    homeless = await add(again);
  }
  for (const tag of homeless) {
    work.problem({ what: `the tag ${tag} is lost: its manifest is not there`, lost: true, repository: name });
  }
  report.tags += entries.length - homeless.size;
}
