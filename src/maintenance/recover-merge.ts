/**
 * What the index mirrors know and an older database does not: manifests that were pushed, and tags that were moved, after
 * the state that the database was put back to. A mirror follows its repository by seconds, so it may also be a little
 * older than the database: of a tag the later move wins, and nothing is deleted because a mirror lacks it.
 */
import { systemFacts } from '../local/commands/damage.ts';
import { manifestRestore } from '../local/commands/manifest-commands.ts';
import { tagRollback } from '../local/commands/tag-rollback.ts';
import { digestFromBytes, digestToBytes } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import { reindexRepository, reindexUsage } from './commands/reindex-rows.ts';
import { MIRROR_PREFIX, type MirrorEntry, repositoryOfTable } from './mirror-format.ts';
import type { ReindexWork } from './reindex-blobs.ts';
import { readChunk, readMirror } from './reindex-mirror.ts';
import { addManifests, type Repository } from './reindex-repository.ts';

/** What was brought back. */
export interface Merged {
  /** Mirrors that were read. */
  repositories: number;
  newRepositories: number;
  /** Manifests that the database did not have, and those that it had deleted. */
  manifests: number;
  revived: number;
  /** Tags that point elsewhere now, or again. */
  tags: number;
  /** Tags and manifests that the database has and the mirror does not: pushed within the mirror's last seconds, or deleted since. */
  extra: number;
  /** The first hundred of them, as `repository:tag` or `repository@digest`. */
  readonly extraNames: string[];
}

/** Nothing yet. */
export function emptyMerge(): Merged {
  return {
    ...{ repositories: 0, newRepositories: 0, manifests: 0, revived: 0, tags: 0, extra: 0 },
    extraNames: [],
  };
}

/** Entries that are looked for in one go. */
const ENTRIES = 256;
const NAMED = 100;

/** Reads every mirror. Each command may be run again. */
export async function mergeMirrors(work: ReindexWork, merged: Merged, onRepository: () => void): Promise<void> {
  for await (const record of work.storage.records.list(MIRROR_PREFIX)) {
    work.signal.throwIfAborted();
    const name = repositoryOfTable(record);
    if (typeof name !== 'string') continue;
    await mergeOne(work, name, merged);
    merged.repositories++;
    onRepository();
  }
}

async function mergeOne(work: ReindexWork, name: RepositoryName, merged: Merged): Promise<void> {
  const { database, options } = work;
  const mirror = await readMirror(work, name);
  if (mirror === undefined) return;
  const before = await database.query.get<{ id: number; created_at: number }>(
    'select id, created_at from repository where gone = 0 and shown = 1 and name = ?',
    name,
  );
  if (before === undefined) merged.newRepositories++;
  const createdAt = before?.created_at ?? mirror.createdAt ?? null;
  const id = before?.id ?? (await database.run(reindexRepository, { name, createdAt }, options));
  const repository: Repository = { id, name };
  const had = await countOf(work, id);
  const dead: MirrorEntry[] = [];
  let known = 0;
  for (const chunk of mirror.manifests) {
    const entries = await readChunk(work, name, chunk, 'manifests');
    for (let at = 0; at < entries.length; at += ENTRIES) {
      const some = entries.slice(at, at + ENTRIES);
      const there = await manifestsThere(work, id, some);
      known += some.filter(({ digest }) => there.get(digest) === 0).length;
      const missing = some.filter(({ digest }) => !there.has(digest));
      await addManifests(work, repository, missing);
      merged.manifests += (await manifestsThere(work, id, missing)).size;
      dead.push(...some.filter(({ digest }) => (there.get(digest) ?? 0) > 0));
      // Bounded: of what was deleted and made again there is rarely any.
      if (dead.length >= ENTRIES) merged.revived += await revive(work, name, dead.splice(0));
    }
  }
  merged.revived += await revive(work, name, dead);
  // The links of new manifests are not counted one by one.
  if (before === undefined || (await countOf(work, id)).manifests > had.manifests)
    await database.run(reindexUsage, { repositoryId: id }, options);
  let tags = 0;
  for (const chunk of mirror.tags) {
    const entries = await readChunk(work, name, chunk, 'tags');
    for (let at = 0; at < entries.length; at += ENTRIES) {
      const some = entries.slice(at, at + ENTRIES);
      const moved = await mergeTags(work, repository, some);
      tags += moved.known;
      merged.tags += moved.moved;
    }
  }
  if (had.manifests > known || had.tags > tags) await nameExtra(work, repository, mirror, merged);
}

async function countOf(work: ReindexWork, id: number): Promise<{ manifests: number; tags: number }> {
  const row = await work.database.query.get<{ manifests: number; tags: number }>(
    `select (select count(*) from manifest where repository_id = ? and deleted_tick = 0) as manifests,
       (select count(*) from tag where repository_id = ? and gone = 0) as tags`,
    id,
    id,
  );
  return { manifests: row?.manifests ?? 0, tags: row?.tags ?? 0 };
}

/** Those of them that the database has, and when they were deleted: 0 where they are not. */
async function manifestsThere(
  { database }: ReindexWork,
  id: number,
  entries: readonly MirrorEntry[],
): Promise<ReadonlyMap<Digest, number>> {
  const there = new Map<Digest, number>();
  for (const { digest } of entries) {
    const row = await database.query.get<{ deleted_tick: number }>(
      'select deleted_tick from manifest where repository_id = ? and digest = ?',
      id,
      digestToBytes(digest),
    );
    if (row !== undefined) there.set(digest, row.deleted_tick);
  }
  return there;
}

/** Brings deleted manifests back; an index waits for what it names. How many came. */
async function revive(work: ReindexWork, name: RepositoryName, entries: readonly MirrorEntry[]): Promise<number> {
  const { database, options } = work;
  let revived = 0;
  let left = entries;
  while (left.length > 0) {
    const failed: { readonly entry: MirrorEntry; readonly why: string }[] = [];
    for (const entry of left) {
      const args = { repository: name, digest: digestToBytes(entry.digest), guards: [], facts: systemFacts('recover') };
      try {
        await database.run(manifestRestore, args, options);
        revived++;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        failed.push({ entry, why: error.message });
      }
    }
    if (failed.length === left.length) {
      for (const { entry, why } of failed)
        work.problem({ what: `the manifest ${entry.digest} stays deleted: ${why}`, lost: true, repository: name });
      break;
    }
    left = failed.map(({ entry }) => entry);
  }
  return revived;
}

/** Points tags where the mirror says, unless the database knows of a later move or deletion. */
async function mergeTags(
  work: ReindexWork,
  repository: Repository,
  entries: readonly MirrorEntry[],
): Promise<{ known: number; moved: number }> {
  const { database } = work;
  let [known, moved] = [0, 0];
  for (const entry of entries) {
    const tag = entry.tag as Tag;
    const row = await database.query.get<{ at: number | null; there: Uint8Array | null }>(
      `select (select max(t.updated_at) from tag t where t.repository_id = ? and t.name = ?) as at,
         (select m.digest from tag t join manifest m on m.id = t.manifest_id
          where t.repository_id = ? and t.gone = 0 and t.name = ?) as there`,
      ...[repository.id, tag, repository.id, tag],
    );
    if (row?.there != null) known++;
    if (row?.there != null && digestFromBytes(row.there) === entry.digest) continue;
    // Of the same moment the mirror is the later one: it is written behind the change.
    if (entry.at !== undefined && row?.at != null && row.at > entry.at) continue;
    if (await point(work, repository, entry, tag)) moved++;
  }
  return { known, moved };
}

async function point(work: ReindexWork, repository: Repository, entry: MirrorEntry, tag: Tag): Promise<boolean> {
  const { id, name } = repository;
  if ((await manifestsThere(work, id, [entry])).size === 0) {
    // The list of manifests is of another moment. Nothing says which of its blobs are linked here, so none is.
    await addManifests(work, repository, [{ ...entry, unlinked: 'all' }]);
    await work.database.run(reindexUsage, { repositoryId: id }, work.options);
  }
  const args = {
    repository: name,
    tag,
    digest: digestToBytes(entry.digest),
    guards: [],
    facts: systemFacts('recover'),
  };
  try {
    await work.database.run(tagRollback, args, work.options);
    return true;
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    work.problem({
      what: `the tag ${tag} is not what it was, ${entry.digest}: ${error.message}`,
      lost: true,
      repository: name,
    });
    return false;
  }
}

/** Names what the database has beyond a mirror: rarely anything, so the mirror is read again. */
async function nameExtra(
  work: ReindexWork,
  { id, name }: Repository,
  mirror: NonNullable<Awaited<ReturnType<typeof readMirror>>>,
  merged: Merged,
): Promise<void> {
  const seen = new Set<string>();
  // Digests as 16 bytes of text each: 100,000 manifests are a few megabytes.
  for (const [kind, chunks] of [
    ['tags', mirror.tags],
    ['manifests', mirror.manifests],
  ] as const) {
    for (const chunk of chunks)
      for (const { tag, digest } of await readChunk(work, name, chunk, kind)) seen.add(tag ?? short(digest));
  }
  const found = (text: string): void => {
    merged.extra++;
    if (merged.extraNames.length < NAMED) merged.extraNames.push(text);
  };
  for (let after = ''; ; ) {
    const rows = await work.database.query.all<{ name: string }>(
      'select name from tag where repository_id = ? and gone = 0 and name > ? order by name limit 1000',
      id,
      after,
    );
    for (const row of rows) if (!seen.has(row.name)) found(`${name}:${row.name}`);
    if (rows.length < 1000) break;
    after = rows.at(-1)!.name;
  }
  for (let after = 0; ; ) {
    const rows = await work.database.query.all<{ id: number; digest: Uint8Array }>(
      'select id, digest from manifest where repository_id = ? and deleted_tick = 0 and id > ? order by id limit 1000',
      id,
      after,
    );
    for (const row of rows) {
      const digest = digestFromBytes(row.digest);
      if (!seen.has(short(digest))) found(`${name}@${digest}`);
    }
    if (rows.length < 1000) break;
    after = rows.at(-1)!.id;
  }
}

/** A colon is in no tag. */
function short(digest: Digest): string {
  return `:${digest.slice(-24)}`;
}
