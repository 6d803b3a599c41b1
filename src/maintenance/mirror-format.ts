/**
 * The form of the index mirror, for who writes and who reads it. What is read may have been broken or made up by
 * anyone with a hand in storage: it is checked as input, and nothing is ever addressed by a name that it holds.
 *
 * `index/<repository>/_chunks.json` is the table of chunks; a chunk lies under `_tags/` or `_manifests/`, is named by
 * its own hash, and has the form of an image-layout's `index.json`.
 */
import { createHash } from 'node:crypto';
import { isDigest } from '../oci/digest.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import type { Digest, MediaType, RepositoryName, Tag } from '../oci/names.ts';
import { isRepositoryName } from '../oci/repository-name.ts';
import { isTag } from '../oci/tag.ts';

/** Most entries of a chunk; 512 on average. */
export const MOST_ENTRIES = 2048;
/** Most bytes of a chunk, unless one entry alone has more: well below what a record may have. */
export const MOST_CHUNK_BYTES = 2 * 1024 * 1024;
/** Where all mirrors lie. */
export const MIRROR_PREFIX = 'index/';

const REF_NAME = 'org.opencontainers.image.ref.name';
/** When a manifest was pushed or a tag moved: wall milliseconds. */
const AT = 'longshore.at';
/** Which of the blobs that a manifest names are not linked in its repository: a list with commas, or `*` for all. */
const UNLINKED = 'longshore.unlinked';
/** Which of the children of an index are blobs, not manifests. */
const BLOBS = 'longshore.blobs';
/** A longer list is not written: then all count as not linked, for a link is a right to read. */
const MOST_LIST = 256 * 1024;

/** One chunk as the table of chunks names it. */
export interface Chunk {
  readonly record: string;
  readonly sha256: string;
  readonly entries: number;
}

/** The table of chunks: the record that makes a mirror whole. */
export interface ChunkTable {
  readonly version: 1;
  readonly repository: string;
  /** Wall milliseconds. */
  readonly createdAt?: number;
  readonly tags: readonly Chunk[];
  readonly manifests: readonly Chunk[];
}

/** A tag (with `tag`) or a manifest of a repository. */
export interface MirrorEntry {
  readonly tag?: Tag;
  readonly digest: Digest;
  readonly mediaType: MediaType;
  readonly size: number;
  /** Wall milliseconds; absent where it is not known. */
  readonly at?: number;
  /** Blobs that the manifest names and that the repository has no link to; most have none. */
  readonly unlinked: 'all' | readonly Digest[];
  /** Children of the index that are blobs. */
  readonly blobs: readonly Digest[];
}

/** Where a repository's table lies. No part of a repository's name begins with `_`. */
export function tableRecord(repository: RepositoryName): string {
  return `${MIRROR_PREFIX}${repository}/_chunks.json`;
}

/** The repository of a table's record; undefined where the record is none, null where its name is not a repository's. */
export function repositoryOfTable(record: string): RepositoryName | null | undefined {
  if (!record.startsWith(MIRROR_PREFIX) || !record.endsWith('/_chunks.json')) return undefined;
  const name = record.slice(MIRROR_PREFIX.length, -'/_chunks.json'.length);
  return isRepositoryName(name) ? name : null;
}

/** The folders of a repository's chunks. */
export function chunkFolders(repository: RepositoryName): readonly [tags: string, manifests: string] {
  return [`${MIRROR_PREFIX}${repository}/_tags/`, `${MIRROR_PREFIX}${repository}/_manifests/`];
}

/** Lower-case hex. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** Where a chunk of these bytes lies: named by its hash, so that what the table before names is never overwritten. */
export function chunkRecord(folder: string, hash: string): string {
  return `${folder}${hash.slice(0, 32)}.json`;
}

/** An entry as it stands in a chunk. */
export function entryText(entry: MirrorEntry): string {
  const annotations = {
    ...(entry.tag === undefined ? {} : { [REF_NAME]: entry.tag }),
    ...(entry.at === undefined ? {} : { [AT]: String(entry.at) }),
    ...listed(UNLINKED, entry.unlinked),
    ...listed(BLOBS, entry.blobs),
  };
  return JSON.stringify({
    mediaType: entry.mediaType,
    digest: entry.digest,
    size: entry.size,
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  });
}

function listed(name: string, digests: 'all' | readonly Digest[]): Readonly<Record<string, string>> {
  if (digests === 'all') return { [name]: '*' };
  if (digests.length === 0) return {};
  const text = digests.join(',');
  // A child that is not said to be a blob counts as a manifest that is missing, so leaving this out gives no rights either.
  if (text.length > MOST_LIST) return name === UNLINKED ? { [name]: '*' } : {};
  return { [name]: text };
}

/** A chunk of these entries. */
export function chunkText(entries: readonly string[]): string {
  return `{"schemaVersion":2,"mediaType":${JSON.stringify(OCI_INDEX)},"manifests":[${entries.join(',')}]}`;
}

type Json = { readonly [key: string]: unknown };

function parseObject(bytes: Uint8Array): Json | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** The table, or what is wrong with it. */
export function parseTable(bytes: Uint8Array, repository: RepositoryName): ChunkTable | string {
  const table = parseObject(bytes);
  if (table === undefined) return 'it is not JSON';
  if (table.version !== 1) return 'it is of a form that this program does not know';
  if (table.repository !== repository) return 'it is of another repository';
  const [tagFolder, manifestFolder] = chunkFolders(repository);
  const tags = parseChunkList(table.tags, tagFolder);
  const manifests = parseChunkList(table.manifests, manifestFolder);
  if (tags === undefined || manifests === undefined) return 'it names chunks in a way that it never does';
  const createdAt = isTime(table.createdAt) ? { createdAt: table.createdAt } : {};
  return { version: 1, repository, ...createdAt, tags, manifests };
}

function parseChunkList(value: unknown, folder: string): Chunk[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const chunks: Chunk[] = [];
  for (const one of value as unknown[]) {
    if (typeof one !== 'object' || one === null) return undefined;
    const { record, sha256: hash, entries } = one as Json;
    if (typeof record !== 'string' || !record.startsWith(folder)) return undefined;
    if (!/^[0-9a-f]{32}\.json$/.test(record.slice(folder.length))) return undefined;
    if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash) || !isTime(entries)) return undefined;
    chunks.push({ record, sha256: hash, entries });
  }
  return chunks;
}

/** The entries of a chunk and how many cannot be read, or what is wrong with it as a whole. `kind`: what it holds. */
export function parseChunk(
  bytes: Uint8Array,
  kind: 'tags' | 'manifests',
): { readonly entries: readonly MirrorEntry[]; readonly unreadable: number } | string {
  const chunk = parseObject(bytes);
  if (chunk === undefined || !Array.isArray(chunk.manifests)) return 'it is not the JSON of a chunk';
  const list = chunk.manifests as unknown[];
  if (list.length > MOST_ENTRIES) return `it has ${list.length} entries, more than any chunk has`;
  const entries: MirrorEntry[] = [];
  for (const value of list) {
    const entry = parseEntry(value);
    if (entry !== undefined && (entry.tag !== undefined) === (kind === 'tags')) entries.push(entry);
  }
  return { entries, unreadable: list.length - entries.length };
}

function parseEntry(value: unknown): MirrorEntry | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { digest, mediaType, size, annotations } = value as Json;
  if (typeof digest !== 'string' || !isDigest(digest) || !isTime(size)) return undefined;
  if (typeof mediaType !== 'string' || mediaType.length > 255) return undefined;
  const said = typeof annotations === 'object' && annotations !== null ? (annotations as Json) : {};
  const tag = Object.hasOwn(said, REF_NAME) ? said[REF_NAME] : undefined;
  if (tag !== undefined && (typeof tag !== 'string' || !isTag(tag))) return undefined;
  const at = typeof said[AT] === 'string' && /^\d{1,15}$/.test(said[AT]) ? { at: Number(said[AT]) } : {};
  const unlinked = parseList(said[UNLINKED]);
  const blobs = parseList(said[BLOBS]);
  return {
    ...(tag === undefined ? {} : { tag }),
    ...{ digest, mediaType, size },
    ...at,
    unlinked: unlinked ?? 'all',
    blobs: blobs === undefined || blobs === 'all' ? [] : blobs,
  };
}

/** Undefined where it is no list. */
function parseList(value: unknown): 'all' | readonly Digest[] | undefined {
  if (value === undefined) return [];
  if (value === '*') return 'all';
  if (typeof value !== 'string') return undefined;
  const digests = value.split(',');
  return digests.every((digest) => isDigest(digest)) ? (digests as Digest[]) : undefined;
}
