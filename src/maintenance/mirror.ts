/**
 * The index mirror: what storage needs to be enough by itself (decisions.md 10). For each repository its tags and its
 * manifests in the form of an image-layout `index.json`, in chunks whose borders depend on the entries alone, so that
 * one moved tag among 100,000 rewrites one small record. A run always writes the present state.
 *
 * The chunks come first and the table last, and no chunk is overwritten: whenever a process dies, the table that is
 * there names chunks that are there. Two runs for one repository may still be under way, in two processes; who finds
 * its table replaced, or a chunk of it removed, writes all again.
 */
import type { Database } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import { digestFromBytes } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import { DOCKER_LIST, OCI_INDEX } from '../oci/media-types.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import {
  type Chunk,
  type ChunkTable,
  chunkFolders,
  chunkRecord,
  chunkText,
  entryText,
  type MirrorEntry,
  MOST_CHUNK_BYTES,
  MOST_ENTRIES,
  parseTable,
  sha256,
  tableRecord,
} from './mirror-format.ts';

const PAGE = 1000;
/** How often one run writes all again because another one came between. */
const TRIES = 5;

/** What mirrors are written from and to. */
export interface MirrorParts {
  readonly database: Database;
  readonly storage: BlobStorage;
}

/** Runs of this process: one at a time for each repository of a storage. */
const running = new WeakMap<BlobStorage, Map<RepositoryName, Promise<unknown>>>();

/** Writes a repository's mirror, or removes it where the repository is gone. Whether anything had to be written or removed. */
export async function mirrorRepository(parts: MirrorParts, repository: RepositoryName): Promise<boolean> {
  const runs = running.get(parts.storage) ?? new Map<RepositoryName, Promise<unknown>>();
  running.set(parts.storage, runs);
  for (let other = runs.get(repository); other !== undefined; other = runs.get(repository)) {
    await other.catch(() => undefined);
  }
  const run = mirrorAlone(parts, repository);
  runs.set(repository, run);
  try {
    return await run;
  } finally {
    runs.delete(repository);
  }
}

async function mirrorAlone(parts: MirrorParts, repository: RepositoryName): Promise<boolean> {
  let changed = false;
  for (let number = 1; number <= TRIES; number++) {
    // What stood there before is believed once: after a quarrel every chunk is written.
    const tried = await writeMirror(parts, repository, number === 1);
    changed ||= tried.changed;
    if (tried.settled) return changed;
  }
  throw new FaultError('unavailable', `Other processes kept writing the index mirror of ${repository}.`);
}

async function writeMirror(
  { database, storage }: MirrorParts,
  repository: RepositoryName,
  reuse: boolean,
): Promise<{ changed: boolean; settled: boolean }> {
  const { records } = storage;
  const record = tableRecord(repository);
  const before = await records.get(record);
  const known = reuse && before !== undefined ? parseTable(before, repository) : 'not asked';
  const row = await database.query.get<{ id: number; created_at: number }>(
    'select id, created_at from repository where gone = 0 and shown = 1 and name = ?',
    repository,
  );
  const written: Written = { records: 0, known: new Map() };
  if (typeof known !== 'string') {
    for (const chunk of [...known.tags, ...known.manifests]) written.known.set(chunk.record, chunk.sha256);
  }
  const folders = chunkFolders(repository);
  let table: ChunkTable | undefined;
  if (row !== undefined) {
    const tags = await writeChunks(storage, folders[0], tagsOf(database, row.id), written);
    const manifests = await writeChunks(storage, folders[1], manifestsOf(database, row.id), written);
    table = { version: 1, repository, createdAt: row.created_at, tags, manifests };
  }
  const after = table === undefined ? undefined : Buffer.from(JSON.stringify(table));
  const same = isSame(before, after);
  failpoint('mirror.put.before');
  if (after === undefined) await records.delete(record);
  else if (!same) await records.put(record, after);
  failpoint('mirror.put.after');
  const missing = new Set([...(table?.tags ?? []), ...(table?.manifests ?? [])].map((chunk) => chunk.record));
  const kept = new Set(missing);
  let removed = 0;
  for (const folder of folders) {
    for await (const name of records.list(folder)) {
      missing.delete(name);
      if (kept.has(name)) continue;
      await records.delete(name);
      removed++;
    }
  }
  const settled = missing.size === 0 && isSame(await records.get(record), after);
  return { changed: !same || written.records + removed > 0, settled };
}

function isSame(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return Buffer.compare(one, other) === 0;
}

async function* tagsOf(database: Database, repositoryId: number): AsyncGenerator<MirrorEntry> {
  let after = '';
  for (;;) {
    const rows = await database.query.all<{
      name: Tag;
      digest: Uint8Array;
      media_type: string;
      size: number;
      updated_at: number;
    }>(
      `select t.name, m.digest, m.media_type, m.size, t.updated_at from tag t join manifest m on m.id = t.manifest_id
       where t.repository_id = ? and t.gone = 0 and t.name > ? order by t.name limit ${PAGE}`,
      repositoryId,
      after,
    );
    for (const { name, digest, media_type: mediaType, size, updated_at: at } of rows) {
      yield { tag: name, digest: digestFromBytes(digest), mediaType, size, at, unlinked: [], blobs: [] };
    }
    if (rows.length < PAGE) return;
    after = rows[rows.length - 1]!.name;
  }
}

interface ManifestRow {
  readonly id: number;
  readonly digest: Uint8Array;
  readonly media_type: string;
  readonly size: number;
  readonly pushed_at: number;
  readonly unlinked: number;
  readonly blobs: number;
}

/** With what its bytes do not say: whether what it names is linked here, and whether a child is a manifest. */
async function* manifestsOf(database: Database, repositoryId: number): AsyncGenerator<MirrorEntry> {
  let after = new Uint8Array(0);
  for (;;) {
    const rows = await database.query.all<ManifestRow>(
      `select m.id, m.digest, m.media_type, m.size, m.pushed_at,
         exists (select 1 from reference f where f.manifest_id = m.id and f.is_child = 0 and not exists
           (select 1 from link l where l.repository_id = m.repository_id and l.digest = f.digest)) as unlinked,
         case when m.media_type in ('${OCI_INDEX}', '${DOCKER_LIST}') then exists
           (select 1 from reference f where f.manifest_id = m.id and f.is_child = 0) else 1 = 0 end as blobs
       from manifest m where m.repository_id = ? and m.deleted_tick = 0 and m.digest > ? order by m.digest limit ${PAGE}`,
      repositoryId,
      after,
    );
    for (const row of rows) {
      const { media_type: mediaType, size, pushed_at: at } = row;
      const unlinked = row.unlinked ? await unlinkedOf(database, row.id) : [];
      const blobs = row.blobs ? await blobsOf(database, row.id) : [];
      yield { digest: digestFromBytes(row.digest), mediaType, size, at, unlinked, blobs };
    }
    if (rows.length < PAGE) return;
    after = new Uint8Array(rows[rows.length - 1]!.digest);
  }
}

async function unlinkedOf(database: Database, manifestId: number): Promise<'all' | Digest[]> {
  const rows = await database.query.all<{ digest: Uint8Array; linked: number }>(
    `select f.digest, exists (select 1 from link l where l.repository_id = f.repository_id and l.digest = f.digest) as linked
     from reference f where f.manifest_id = ? and f.is_child = 0 order by f.digest limit 100000`,
    manifestId,
  );
  const unlinked = rows.filter(({ linked }) => !linked);
  return unlinked.length === rows.length ? 'all' : unlinked.map(({ digest }) => digestFromBytes(digest));
}

async function blobsOf(database: Database, manifestId: number): Promise<Digest[]> {
  const rows = await database.query.all<{ digest: Uint8Array }>(
    'select digest from reference where manifest_id = ? and is_child = 0 order by digest limit 100000',
    manifestId,
  );
  return rows.map(({ digest }) => digestFromBytes(digest));
}

/** What a run knows to be there already, by record, and how many records it wrote. */
interface Written {
  records: number;
  readonly known: Map<string, string>;
}

async function writeChunks(
  storage: BlobStorage,
  folder: string,
  entries: AsyncIterable<MirrorEntry>,
  written: Written,
): Promise<Chunk[]> {
  const chunks: Chunk[] = [];
  let open: string[] = [];
  let bytes = 0;
  const close = async (): Promise<void> => {
    if (open.length === 0) return;
    const text = Buffer.from(chunkText(open));
    const hash = sha256(text);
    const record = chunkRecord(folder, hash);
    if (written.known.get(record) !== hash) {
      await storage.records.put(record, text);
      written.records++;
    }
    chunks.push({ record, sha256: hash, entries: open.length });
    open = [];
    bytes = 0;
  };
  for await (const entry of entries) {
    const text = entryText(entry);
    const full = open.length >= MOST_ENTRIES || bytes + text.length > MOST_CHUNK_BYTES;
    if (open.length > 0 && (full || isBorder(entry.tag ?? entry.digest))) await close();
    open.push(text);
    bytes += text.length + 1;
  }
  await close();
  return chunks;
}

/** Whether a chunk begins at this name: one name in 512, whatever stands beside it. */
function isBorder(name: string): boolean {
  const hash = sha256(name);
  return hash.startsWith('00') && Number.parseInt(hash[2]!, 16) < 8;
}
