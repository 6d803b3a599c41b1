/**
 * Deleting manifests and tags, and taking a deletion back. A deletion leaves a tombstone: invisible everywhere, no
 * obstacle to the deletion of a blob, and its references to blobs hold the bytes until the window ends.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import type { Facts } from '../../kit/facts.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { RepositoryName, Tag } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { checkGuards, checkTagGuards } from './guards.ts';
import { pointTag } from './point-tag.ts';
import { dropFallback, subjectOfFallback } from './referrer-rows.ts';
import {
  addUsage,
  findRepository,
  linkBlob,
  manifestUnknown,
  queueReview,
  recordTagEvent,
  refuseHeld,
} from './rows.ts';

/** What a deletion or an undeletion is told. */
export interface ManifestChange {
  readonly repository: RepositoryName;
  readonly digest: Uint8Array;
  readonly guards: Guards;
  readonly facts: Facts;
}

/** The same for a tag. */
export interface TagChangeArgs {
  readonly repository: RepositoryName;
  readonly tag: Tag;
  readonly guards: Guards;
  readonly facts: Facts;
}

/** A manifest's row as deletions use it. */
export interface ManifestRow {
  readonly id: number;
  readonly media_type: string;
  readonly size: number;
  readonly deleted_tick: number;
}

/** With all its tags, at once. Its referrers stay, its bytes go when the undelete window has ended and nothing names them. */
export const manifestDelete: Command<ManifestChange, undefined> = {
  name: 'manifest-delete',
  async run(context, change) {
    const { sql, tick } = context;
    const digest = digestFromBytes(change.digest);
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(digest);
    const blobs = await sql.all<{ digest: Uint8Array }>(
      `select r.digest from manifest m join reference r on r.manifest_id = m.id and r.is_child = 0
       where m.repository_id = ? and m.digest = ? order by r.digest`,
      repository.id,
      change.digest,
    );
    for (const blob of blobs) await queueReview(context, repository.id, blob.digest, tick + context.ticks.grace);
    const manifest = await sql.get<ManifestRow>(
      'select id, media_type, size, deleted_tick from manifest where repository_id = ? and digest = ? {for update}',
      repository.id,
      change.digest,
    );
    if (manifest === undefined || manifest.deleted_tick !== 0) throw manifestUnknown(digest);
    await refuseChild(sql, manifest.id, digest);
    await checkGuards(context, repository.id, change.guards);
    await buryManifest(context, repository.id, manifest, change);
    return { result: undefined, touched: [change.repository] };
  },
};

/** Turns a live manifest and its tags into tombstones. Holds and the tags' guards are asked for each. */
export async function buryManifest(
  context: CommandContext,
  repositoryId: number,
  manifest: ManifestRow,
  change: ManifestChange,
): Promise<void> {
  const { sql, tick } = context;
  await refuseHeld(context, repositoryId, { digest: change.digest });
  const tags = await sql.all<{ name: Tag }>(
    'select name from tag where manifest_id = ? and gone = 0 order by name {for update}',
    manifest.id,
  );
  for (const { name } of tags) {
    await refuseHeld(context, repositoryId, { tag: name });
    await buryTag(context, repositoryId, manifest.id, change.digest, { ...change, tag: name });
  }
  await sql.run('update manifest set deleted_tick = ? where id = ?', tick, manifest.id);
  await sql.run('update referrer set gone = 1 where manifest_id = ? and gone = 0', manifest.id);
  await dropFallback(context, repositoryId, manifest.id);
  await addUsage(sql, repositoryId, -manifest.size, -1);
  const descriptor = { mediaType: manifest.media_type, digest: digestFromBytes(change.digest), size: manifest.size };
  await emit(context, repositoryId, {
    type: 'manifest.deleted',
    repository: change.repository,
    manifest: descriptor,
    ...change.facts,
  });
}

async function refuseChild(sql: CommandContext['sql'], manifestId: number, digest: string): Promise<void> {
  const parents = await sql.all<{ digest: Uint8Array }>(
    `select p.digest from reference r join manifest p on p.id = r.manifest_id and p.deleted_tick = 0
     where r.child_id = ? limit 10`,
    manifestId,
  );
  if (parents.length === 0) return;
  const by = parents.map((parent) => digestFromBytes(parent.digest));
  throw new RegistryError(
    'UNSUPPORTED',
    `The manifest ${digest} is part of ${by.join(', ')}: delete that index first.`,
    {
      detail: { manifests: by },
    },
  );
}

/** Turns a live tag into a tombstone, with its event. The guards of an immutable tag are asked here, through whatever deletes it. */
async function buryTag(
  context: CommandContext,
  repositoryId: number,
  manifestId: number,
  from: Uint8Array,
  change: TagChangeArgs,
): Promise<void> {
  const { sql, tick, now } = context;
  checkTagGuards(change.guards, { tag: change.tag, from: digestFromBytes(from), to: null });
  const gone = await recordTagEvent(context, repositoryId, { ...change, kind: 'deleted', from, to: null });
  await sql.run(
    'update tag set gone = ?, deleted_tick = ?, updated_at = ? where repository_id = ? and gone = 0 and name = ?',
    gone,
    tick,
    now,
    repositoryId,
    change.tag,
  );
  if (subjectOfFallback(change.tag) !== undefined) await dropFallback(context, repositoryId, manifestId);
  await emit(context, repositoryId, {
    type: 'tag.deleted',
    repository: change.repository,
    tag: change.tag,
    from: digestFromBytes(from),
    ...change.facts,
  });
}

/** The tag goes, the manifest stays. */
export const tagDelete: Command<TagChangeArgs, undefined> = {
  name: 'tag-delete',
  async run(context, change) {
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(change.tag);
    const row = await context.sql.get<{ id: number; digest: Uint8Array }>(
      `select m.id, m.digest from tag t join manifest m on m.id = t.manifest_id
       where t.repository_id = ? and t.gone = 0 and t.name = ? {for update of t}`,
      repository.id,
      change.tag,
    );
    if (row === undefined) throw manifestUnknown(change.tag);
    await refuseHeld(context, repository.id, { tag: change.tag });
    await checkGuards(context, repository.id, change.guards);
    await buryTag(context, repository.id, row.id, row.digest, change);
    return { result: undefined, touched: [change.repository] };
  },
};

/** Undelete within the window: the blobs are linked again, all or nothing. Of what is not deleted: nothing happens. */
export const manifestRestore: Command<ManifestChange, undefined> = {
  name: 'manifest-restore',
  async run(context, change) {
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(digestFromBytes(change.digest));
    await restoreManifest(context, repository.id, change);
    return { result: undefined, touched: [change.repository] };
  },
};

async function restoreManifest(context: CommandContext, repositoryId: number, change: ManifestChange): Promise<number> {
  const { sql, tick } = context;
  const digest = digestFromBytes(change.digest);
  const blobs = await sql.all<{ digest: Uint8Array; state: string; size: number | null }>(
    `select r.digest, b.state, b.size from manifest m join reference r on r.manifest_id = m.id and r.is_child = 0
     join blob b on b.digest = r.digest where m.repository_id = ? and m.digest = ? order by r.digest`,
    repositoryId,
    change.digest,
  );
  for (const blob of blobs) await queueReview(context, repositoryId, blob.digest, tick + context.ticks.grace);
  const manifest = await sql.get<ManifestRow>(
    'select id, media_type, size, deleted_tick from manifest where repository_id = ? and digest = ? {for update}',
    repositoryId,
    change.digest,
  );
  if (manifest === undefined) throw manifestUnknown(digest);
  await checkGuards(context, repositoryId, change.guards);
  // What is there already is restored: who asks twice gets the same answer.
  if (manifest.deleted_tick === 0) return manifest.id;
  for (const blob of blobs)
    if (blob.state !== 'absent') await linkBlob(context, repositoryId, blob.digest, blob.size ?? 0);
  // Locked: else one of them could be deleted at this moment by somebody who does not see this index live yet.
  const children = await sql.all<{ digest: Uint8Array; deleted_tick: number }>(
    `select c.digest, c.deleted_tick from reference r join manifest c on c.id = r.child_id
     where r.manifest_id = ? order by c.id {for share of c}`,
    manifest.id,
  );
  const gone = children.filter((child) => child.deleted_tick !== 0);
  if (gone.length > 0) {
    const missing = gone.map((child) => digestFromBytes(child.digest));
    throw new RegistryError(
      'MANIFEST_BLOB_UNKNOWN',
      `The index needs manifests that are deleted too: restore ${missing.join(', ')} first.`,
      {
        detail: missing.map((child) => ({ digest: child })),
      },
    );
  }
  await sql.run('update manifest set deleted_tick = 0 where id = ?', manifest.id);
  await sql.run(
    'update reference set child_id = ? where repository_id = ? and digest = ? and is_child = 1 and child_id is null',
    manifest.id,
    repositoryId,
    change.digest,
  );
  await sql.run('update referrer set gone = 0 where manifest_id = ? and gone = 1', manifest.id);
  await addUsage(sql, repositoryId, manifest.size, 1);
  const descriptor = { mediaType: manifest.media_type, digest, size: manifest.size };
  await emit(context, repositoryId, {
    type: 'manifest.restored',
    repository: change.repository,
    manifest: descriptor,
    ...change.facts,
  });
  return manifest.id;
}

/** The manifest's id, live and locked so that it stays so; brought back where it is deleted. MANIFEST_UNKNOWN. */
export async function liveManifest(
  context: CommandContext,
  repositoryId: number,
  change: ManifestChange,
): Promise<number> {
  for (;;) {
    const found = await context.sql.get<{ deleted_tick: number }>(
      'select deleted_tick from manifest where repository_id = ? and digest = ?',
      repositoryId,
      change.digest,
    );
    if (found === undefined) throw manifestUnknown(digestFromBytes(change.digest));
    if (found.deleted_tick !== 0) return restoreManifest(context, repositoryId, change);
    const live = await context.sql.get<{ id: number }>(
      'select id from manifest where repository_id = ? and digest = ? and deleted_tick = 0 {for share}',
      repositoryId,
      change.digest,
    );
    if (live === undefined) continue;
    await checkGuards(context, repositoryId, change.guards);
    return live.id;
  }
}

/** Brings back the tag's newest tombstone, and its manifest where that is deleted too. A tag that was made again meanwhile moves. */
export const tagRestore: Command<TagChangeArgs, undefined> = {
  name: 'tag-restore',
  async run(context, change) {
    const { sql } = context;
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(change.tag);
    const grave = await sql.get<{ gone: number; id: number; digest: Uint8Array }>(
      `select t.gone, m.id, m.digest from tag_event e
       join tag t on t.repository_id = e.repository_id and t.gone = e.id and t.name = e.name
       join manifest m on m.id = t.manifest_id
       where e.repository_id = ? and e.name = ? order by e.id desc limit 1`,
      repository.id,
      change.tag,
    );
    if (grave === undefined) throw manifestUnknown(change.tag);
    await liveManifest(context, repository.id, { ...change, digest: grave.digest });
    // First: it refuses what guards and holds forbid.
    const before = await pointTag(context, repository.id, grave, change);
    await sql.run(
      'delete from tag where repository_id = ? and gone = ? and name = ?',
      repository.id,
      grave.gone,
      change.tag,
    );
    const history = { ...change, from: before?.digest ?? null, to: grave.digest };
    await recordTagEvent(context, repository.id, { ...history, kind: 'restored' });
    await emit(context, repository.id, {
      type: 'tag.restored',
      repository: change.repository,
      tag: change.tag,
      to: digestFromBytes(grave.digest),
      ...change.facts,
    });
    return { result: undefined, touched: [change.repository] };
  },
};
