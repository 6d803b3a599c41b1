/**
 * The index mirror: what storage needs to be enough by itself (decisions.md 10). For each repository its tags and its
 * manifests in the form of an image-layout `index.json`, in chunks whose borders depend on the entries alone, so that
 * one moved tag among 100,000 rewrites one small record. A run always writes the present state.
 */
import { createHash } from 'node:crypto';
import type { Database } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import { digestFromBytes } from '../oci/digest.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import type { Descriptor, RepositoryName } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';

/** Entries of a chunk: 512 on average, never more than this. */
const MOST = 2048;
const PAGE = 1000;

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
  readonly tags: readonly Chunk[];
  readonly manifests: readonly Chunk[];
}

/** Where a repository's table lies. No part of a repository's name begins with `_`. */
export function tableRecord(repository: RepositoryName): string {
  return `index/${repository}/_chunks.json`;
}

/** Writes a repository's mirror, or removes it where the repository is gone. */
export async function mirrorRepository(
  parts: { database: Database; storage: BlobStorage },
  repository: RepositoryName,
): Promise<void> {
  const { database, storage } = parts;
  const before = await readTable(storage, repository);
  const row = await database.query.get<{ id: number }>(
    'select id from repository where gone = 0 and shown = 1 and name = ?',
    repository,
  );
  const after: ChunkTable | undefined =
    row === undefined
      ? undefined
      : {
          version: 1,
          repository,
          tags: await writeChunks(storage, `index/${repository}/_tags`, tagsOf(database, row.id), before?.tags ?? []),
          manifests: await writeChunks(
            storage,
            `index/${repository}/_manifests`,
            manifestsOf(database, row.id),
            before?.manifests ?? [],
          ),
        };
  failpoint('mirror.put.before');
  if (after === undefined) await storage.records.delete(tableRecord(repository));
  else await storage.records.put(tableRecord(repository), Buffer.from(JSON.stringify(after)));
  failpoint('mirror.put.after');
  const kept = new Set([...(after?.tags ?? []), ...(after?.manifests ?? [])].map((chunk) => chunk.record));
  for (const chunk of [...(before?.tags ?? []), ...(before?.manifests ?? [])]) {
    if (!kept.has(chunk.record)) await storage.records.delete(chunk.record);
  }
}

/** The table as it was last written; undefined where there is none or it cannot be read (then all is written anew). */
export async function readTable(storage: BlobStorage, repository: RepositoryName): Promise<ChunkTable | undefined> {
  const bytes = await storage.records.get(tableRecord(repository));
  if (bytes === undefined) return undefined;
  try {
    const table = JSON.parse(Buffer.from(bytes).toString()) as ChunkTable;
    return table.version === 1 && Array.isArray(table.tags) && Array.isArray(table.manifests) ? table : undefined;
  } catch {
    return undefined;
  }
}

interface Entry {
  readonly name: string;
  readonly descriptor: Descriptor;
}

async function* tagsOf(database: Database, repositoryId: number): AsyncGenerator<Entry> {
  let after = '';
  for (;;) {
    const rows = await database.query.all<{ name: string; digest: Uint8Array; media_type: string; size: number }>(
      `select t.name, m.digest, m.media_type, m.size from tag t join manifest m on m.id = t.manifest_id
       where t.repository_id = ? and t.gone = 0 and t.name > ? order by t.name limit ${PAGE}`,
      repositoryId,
      after,
    );
    for (const { name, digest, media_type, size } of rows) {
      const annotations = { 'org.opencontainers.image.ref.name': name };
      yield { name, descriptor: { mediaType: media_type, digest: digestFromBytes(digest), size, annotations } };
    }
    if (rows.length < PAGE) return;
    after = rows[rows.length - 1]!.name;
  }
}

async function* manifestsOf(database: Database, repositoryId: number): AsyncGenerator<Entry> {
  let after = new Uint8Array(0);
  for (;;) {
    const rows = await database.query.all<{ digest: Uint8Array; media_type: string; size: number }>(
      `select digest, media_type, size from manifest
       where repository_id = ? and deleted_tick = 0 and digest > ? order by digest limit ${PAGE}`,
      repositoryId,
      after,
    );
    for (const { digest, media_type, size } of rows) {
      const name = digestFromBytes(digest);
      yield { name, descriptor: { mediaType: media_type, digest: name, size } };
    }
    if (rows.length < PAGE) return;
    after = new Uint8Array(rows[rows.length - 1]!.digest);
  }
}

async function writeChunks(
  storage: BlobStorage,
  folder: string,
  entries: AsyncIterable<Entry>,
  before: readonly Chunk[],
): Promise<Chunk[]> {
  const known = new Map(before.map((chunk) => [chunk.record, chunk.sha256]));
  const chunks: Chunk[] = [];
  let open: Entry[] = [];
  const close = async (): Promise<void> => {
    const first = open[0];
    if (first === undefined) return;
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: open.map((entry) => entry.descriptor) }),
    );
    const record = `${folder}/${sha256(first.name).slice(0, 32)}.json`;
    const hash = sha256(bytes);
    if (known.get(record) !== hash) await storage.records.put(record, bytes);
    chunks.push({ record, sha256: hash, entries: open.length });
    open = [];
  };
  for await (const entry of entries) {
    if (open.length >= MOST || (open.length > 0 && isBorder(entry.name))) await close();
    open.push(entry);
  }
  await close();
  return chunks;
}

/** Whether a chunk begins at this name: one name in 512, whatever stands beside it. */
function isBorder(name: string): boolean {
  return sha256(name).startsWith('00') && Number.parseInt(sha256(name)[2]!, 16) < 8;
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}
