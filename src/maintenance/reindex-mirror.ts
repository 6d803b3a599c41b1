/** Reads a repository's mirror for a rebuild. What is broken is reported and left out. */
import type { RepositoryName } from '../oci/names.ts';
import {
  type Chunk,
  chunkFolders,
  type MirrorEntry,
  parseChunk,
  parseTable,
  sha256,
  tableRecord,
} from './mirror-format.ts';
import type { ReindexWork } from './reindex-blobs.ts';

/** Where a repository's entries are to be read. */
export interface Mirror {
  readonly createdAt?: number;
  readonly tags: readonly Chunk[];
  readonly manifests: readonly Chunk[];
}

/**
 * The table, or, where it is broken, every chunk whose name is the hash of its bytes: they are of about the same time.
 * Undefined where there is nothing.
 */
export async function readMirror(work: ReindexWork, name: RepositoryName): Promise<Mirror | undefined> {
  const { records } = work.storage;
  const bytes = await readRecord(work, tableRecord(name));
  if (bytes === undefined) {
    work.problem({ what: 'its table of chunks has gone', lost: true, repository: name });
    return undefined;
  }
  const table = bytes === 'broken' ? 'it cannot be read' : parseTable(bytes, name);
  if (typeof table !== 'string') return table;
  const [tags, manifests] = chunkFolders(name);
  const found: { tags: Chunk[]; manifests: Chunk[] } = { tags: [], manifests: [] };
  for (const [list, folder] of [
    [found.tags, tags],
    [found.manifests, manifests],
  ] as const) {
    for await (const record of records.list(folder)) {
      const chunk = await readRecord(work, record);
      if (chunk === undefined || chunk === 'broken') continue;
      const hash = sha256(chunk);
      if (record === `${folder}${hash.slice(0, 32)}.json`) list.push({ record, sha256: hash, entries: 0 });
    }
  }
  const chunks = found.tags.length + found.manifests.length;
  work.problem({
    what: `its table of chunks is broken: ${table}; ${chunks === 0 ? 'nothing of it is left' : `what the ${chunks} chunks beside it say is taken, which may be more or less than there was`}`,
    lost: true,
    repository: name,
  });
  return chunks === 0 ? undefined : found;
}

/** A record; undefined where there is none, `broken` where storage says that it is no record. Other faults are thrown. */
async function readRecord({ storage }: ReindexWork, record: string): Promise<Uint8Array | undefined | 'broken'> {
  try {
    return await storage.records.get(record);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'corrupt') return 'broken';
    throw error;
  }
}

/** The entries of a chunk; none, and a problem, where it is not what the table says. */
export async function readChunk(
  work: ReindexWork,
  name: RepositoryName,
  chunk: Chunk,
  kind: 'tags' | 'manifests',
): Promise<readonly MirrorEntry[]> {
  work.signal.throwIfAborted();
  const lost = (why: string): readonly MirrorEntry[] => {
    const much = chunk.entries > 0 ? ` of ${chunk.entries} ${kind}` : '';
    work.problem({ what: `a chunk${much} is lost: ${why}`, lost: true, repository: name });
    return [];
  };
  const bytes = await readRecord(work, chunk.record);
  if (bytes === undefined) return lost('it is not there');
  if (bytes === 'broken') return lost('it cannot be read');
  if (sha256(bytes) !== chunk.sha256) return lost('it does not have the bytes that the table says');
  const parsed = parseChunk(bytes, kind);
  if (typeof parsed === 'string') return lost(parsed);
  if (parsed.unreadable > 0) {
    work.problem({ what: `${parsed.unreadable} entries of its ${kind} make no sense`, lost: true, repository: name });
  }
  return parsed.entries;
}
