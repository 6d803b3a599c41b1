/**
 * The rebuild's repositories, manifests and tags. Each command may be run again; then it adds what is missing. Nothing
 * is announced: to whoever listens for events nothing has changed.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { indexFallback, subjectOfFallback } from '../../local/commands/referrer-rows.ts';
import { ensureRepository, lockBlob } from '../../local/commands/rows.ts';
import { DOCKER_LIST, OCI_INDEX } from '../../oci/media-types.ts';
import type { RepositoryName, Tag } from '../../oci/names.ts';

/** A manifest as plain data. `annotations` is JSON. Digests are in the database's form, sorted. */
export interface FoundManifest {
  readonly digest: Uint8Array;
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  readonly artifactType: string | null;
  readonly annotations: string | null;
  readonly subject: Uint8Array | null;
  readonly blobs: readonly Uint8Array[];
  readonly children: readonly Uint8Array[];
  /** Of `blobs` and `blobChildren`, those that the repository has no link to. */
  readonly unlinked: 'all' | readonly Uint8Array[];
  /** Of `children`, those that are blobs. */
  readonly blobChildren: readonly Uint8Array[];
  /** Wall milliseconds; null: not known. */
  readonly pushedAt: number | null;
}

/** A blob that a manifest names, that was linked, and that is not there or is damaged. */
export interface Lacking {
  readonly manifest: Uint8Array;
  readonly digest: Uint8Array;
  readonly state: 'absent' | 'damaged';
}

/** The repository, shown. Its id. */
export const reindexRepository: Command<{ name: RepositoryName; createdAt: number | null }, number> = {
  name: 'reindex-repository',
  async run(context, { name, createdAt }) {
    const { id } = await ensureRepository(context, name);
    await context.sql.run(
      'update repository set shown = 1, active_tick = ?, created_at = ? where id = ?',
      context.tick,
      createdAt ?? context.now,
      id,
    );
    return { result: id, touched: [name] };
  },
};

/** Manifests with their references, links and referrers. Which of the blobs that they name could not be linked. */
export const reindexManifests: Command<
  { repositoryId: number; name: RepositoryName; manifests: readonly FoundManifest[] },
  readonly Lacking[]
> = {
  name: 'reindex-manifests',
  async run(context, { repositoryId, name, manifests }) {
    const lacking: Lacking[] = [];
    for (const manifest of manifests) await addManifest(context, repositoryId, manifest, lacking);
    return { result: lacking, touched: [name] };
  },
};

async function addManifest(
  context: CommandContext,
  repositoryId: number,
  manifest: FoundManifest,
  lacking: Lacking[],
): Promise<void> {
  const { sql, now } = context;
  const { digest, bytes } = manifest;
  const own = await lockBlob(context, digest);
  // Read a moment ago from the key that this row names.
  if (own.state !== 'live') throw new Error('a manifest was read whose row is not live');
  await sql.run('insert into content (digest, bytes) values (?, ?) on conflict (digest) do nothing', digest, bytes);
  await sql.run(
    `insert into manifest (repository_id, digest, media_type, artifact_type, size, subject, pushed_at)
     values (?, ?, ?, ?, ?, ?, ?) on conflict (repository_id, digest) do nothing`,
    repositoryId,
    digest,
    manifest.mediaType,
    manifest.artifactType,
    bytes.length,
    manifest.subject,
    manifest.pushedAt ?? now,
  );
  const row = await sql.get<{ id: number }>(
    'select id from manifest where repository_id = ? and digest = ?',
    repositoryId,
    digest,
  );
  const id = row?.id ?? 0;
  await dropReview(context, digest);
  const unlinked = manifest.unlinked === 'all' ? 'all' : setOf(manifest.unlinked);
  const areBlobs = setOf(manifest.blobChildren);
  const blobChildren = manifest.children.filter((child) => areBlobs.has(textOf(child)));
  for (const blob of [...manifest.blobs, ...blobChildren].sort((a, b) => Buffer.compare(a, b))) {
    const { state } = await lockBlob(context, blob);
    await addReference(context, { id, repositoryId, digest: blob, childId: null, isChild: 0 });
    if (unlinked === 'all' || unlinked.has(textOf(blob))) continue;
    if (state !== 'live')
      lacking.push({ manifest: digest, digest: blob, state: state === 'damaged' ? state : 'absent' });
    // A damaged one keeps its link: once it is healed it is served again.
    if (state === 'live' || state === 'damaged') {
      await sql.run(
        'insert into link (repository_id, digest) values (?, ?) on conflict (repository_id, digest) do nothing',
        repositoryId,
        blob,
      );
    }
  }
  for (const child of manifest.children) {
    if (areBlobs.has(textOf(child))) continue;
    const found = await sql.get<{ id: number }>(
      'select id from manifest where repository_id = ? and digest = ?',
      repositoryId,
      child,
    );
    await lockBlob(context, child);
    await addReference(context, { id, repositoryId, digest: child, childId: found?.id ?? null, isChild: 1 });
  }
  await sql.run(
    'update reference set child_id = ? where repository_id = ? and digest = ? and is_child = 1 and child_id is null',
    id,
    repositoryId,
    digest,
  );
  if (manifest.subject === null) return;
  await sql.run(
    `insert into referrer (repository_id, subject, gone, digest, via_id, manifest_id, artifact_type, annotations)
     values (?, ?, 0, ?, 0, ?, ?, ?) on conflict (repository_id, subject, gone, digest, via_id) do nothing`,
    repositoryId,
    manifest.subject,
    digest,
    id,
    manifest.artifactType,
    manifest.annotations,
  );
}

function textOf(digest: Uint8Array): string {
  return Buffer.from(digest).toString('latin1');
}

function setOf(digests: readonly Uint8Array[]): ReadonlySet<string> {
  return new Set(digests.map(textOf));
}

/** What a manifest names needs no review. */
async function dropReview({ sql }: CommandContext, digest: Uint8Array): Promise<void> {
  await sql.run('delete from gc_queue where repository_id = 0 and digest = ?', digest);
}

async function addReference(
  context: CommandContext,
  reference: { id: number; repositoryId: number; digest: Uint8Array; childId: number | null; isChild: 0 | 1 },
): Promise<void> {
  await context.sql.run(
    `insert into reference (manifest_id, digest, is_child, repository_id, child_id) values (?, ?, ?, ?, ?)
     on conflict (manifest_id, digest, is_child) do nothing`,
    reference.id,
    reference.digest,
    reference.isChild,
    reference.repositoryId,
    reference.childId,
  );
  await dropReview(context, reference.digest);
}

/** A tag of the mirror. `at`: wall milliseconds; null: not known. */
export interface FoundTag {
  readonly tag: Tag;
  readonly digest: Uint8Array;
  readonly at: number | null;
}

/** Tags, and what fallback tags list as referrers. Those whose manifest is not there. */
export const reindexTags: Command<
  { repositoryId: number; name: RepositoryName; tags: readonly FoundTag[] },
  readonly Tag[]
> = {
  name: 'reindex-tags',
  async run(context, { repositoryId, name, tags }) {
    const { sql, now } = context;
    const homeless: Tag[] = [];
    for (const { tag, digest, at } of tags) {
      const manifest = await sql.get<{ id: number; media_type: string }>(
        'select id, media_type from manifest where repository_id = ? and digest = ?',
        repositoryId,
        digest,
      );
      if (manifest === undefined) {
        homeless.push(tag);
        continue;
      }
      await sql.run(
        `insert into tag (repository_id, gone, name, manifest_id, updated_at) values (?, 0, ?, ?, ?)
         on conflict (repository_id, gone, name) do update set manifest_id = excluded.manifest_id, updated_at = excluded.updated_at`,
        repositoryId,
        tag,
        manifest.id,
        at ?? now,
      );
      const subject = subjectOfFallback(tag);
      if (subject === undefined || (manifest.media_type !== OCI_INDEX && manifest.media_type !== DOCKER_LIST)) continue;
      const children = await sql.all<{ digest: Uint8Array }>(
        'select digest from reference where manifest_id = ? order by digest',
        manifest.id,
      );
      await indexFallback(
        context,
        repositoryId,
        manifest.id,
        subject,
        children.map((child) => child.digest),
      );
    }
    return { result: homeless, touched: [name] };
  },
};

/** The repository is done: its usage is the sum of what is there. */
export const reindexUsage: Command<{ repositoryId: number }, undefined> = {
  name: 'reindex-usage',
  async run({ sql }, { repositoryId }) {
    await sql.run('delete from usage_delta where repository_id = ?', repositoryId);
    await sql.run('delete from usage where repository_id = ?', repositoryId);
    await sql.run(
      `insert into usage (repository_id, bytes, manifests)
       select r.id, (select coalesce(sum(b.size), 0) from link l join blob b on b.digest = l.digest where l.repository_id = r.id)
           + (select coalesce(sum(m.size), 0) from manifest m where m.repository_id = r.id and m.deleted_tick = 0),
         (select count(*) from manifest m where m.repository_id = r.id and m.deleted_tick = 0)
       from repository r where r.id = ?`,
      repositoryId,
    );
    return { result: undefined, touched: [] };
  },
};
