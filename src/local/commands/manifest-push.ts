/**
 * The push of a manifest: everything that it names is checked and bound, and its tags are moved, in one transaction.
 * Foreign keys are RESTRICT, so from its commit on nothing that it names can be taken away under it.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import type { Facts } from '../../kit/facts.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { recordHealed } from './damage.ts';
import { checkGuards, checkTagGuards } from './guards.ts';
import { dropFallback, indexFallback, subjectOfFallback } from './referrer-rows.ts';
import {
  addUsage,
  ensureRepository,
  forEachOf,
  keyNumber,
  lockBlob,
  lockBlobWithKey,
  markActive,
  recordTagEvent,
  refuseHeldMove,
  together,
} from './rows.ts';

/** A parsed manifest as plain data. `annotations` is JSON. Digests are in the database's form, sorted. */
export interface ManifestPush {
  readonly repository: RepositoryName;
  readonly digest: Uint8Array;
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  readonly artifactType: string | null;
  readonly annotations: string | null;
  readonly subject: Uint8Array | null;
  readonly blobs: readonly { readonly digest: Uint8Array; readonly required: boolean }[];
  readonly children: readonly Uint8Array[];
  readonly isIndex: boolean;
  readonly tags: readonly Tag[];
  readonly sparse: 'none' | 'indexes' | 'all';
  readonly guards: Guards;
  readonly facts: Facts;
}

/** What an index names: a manifest here, a manifest that is missing (`id` null), or a blob, as the caches of BuildKit do. */
interface Child {
  readonly digest: Uint8Array;
  readonly id: number | null;
  readonly isChild: 0 | 1;
}

/** MANIFEST_BLOB_UNKNOWN with every missing digest, or a guard's code; else all is done. */
export const manifestPush: Command<ManifestPush, undefined> = {
  name: 'manifest-push',
  grows: true,
  async run(context, push) {
    const repository = await ensureRepository(context, push.repository);
    const { sql } = context;
    const missing: Digest[] = [];
    await checkBlobs(context, repository.id, push, missing);
    const children = await checkChildren(context, repository.id, push, missing);
    if (missing.length > 0) throw blobsUnknown(missing);
    await checkGuards(context, repository.id, push.guards);
    await storeContent(context, push);
    const manifest = await upsertManifest(context, repository.id, push);
    if (!manifest.existed) {
      const references: Child[] = [
        ...push.blobs.map(({ digest }): Child => ({ digest, id: null, isChild: 0 })),
        ...children,
      ];
      await forEachOf(references, ({ digest, id, isChild }) =>
        addReference(sql, manifest.id, repository.id, digest, id, isChild),
      );
    }
    await together(
      manifest.existed ? undefined : addUsage(sql, repository.id, push.bytes.length, 1),
      sql.run(
        `update reference set child_id = ?
         where repository_id = ? and digest = ? and is_child = 1 and child_id is null`,
        manifest.id,
        repository.id,
        push.digest,
      ),
    );
    if (push.subject !== null) await upsertReferrer(context, repository.id, manifest.id, push, push.subject);
    const moved: { tag: Tag; from: Uint8Array | undefined }[] = [];
    for (const tag of push.tags) {
      const from = await moveTag(context, repository.id, manifest.id, push, tag);
      if (from !== 'same') moved.push({ tag, from });
    }
    await together(
      repository.shown === 0 ? sql.run('update repository set shown = 1 where id = ?', repository.id) : undefined,
      markActive(context, repository),
      announce(context, repository.id, push, moved),
    );
    return { result: undefined, touched: [push.repository] };
  },
};

function blobsUnknown(missing: readonly Digest[]): RegistryError {
  return new RegistryError(
    'MANIFEST_BLOB_UNKNOWN',
    `The manifest names ${missing.length === 1 ? 'a digest that is' : `${missing.length} digests that are`} not in this repository: push ${missing.slice(0, 3).join(', ')}${missing.length > 3 ? ' …' : ''} first.`,
    { detail: missing.map((digest) => ({ digest })) },
  );
}

async function isLinked({ sql }: CommandContext, repositoryId: number, digest: Uint8Array): Promise<boolean> {
  const live = await sql.get<{ found: number }>(
    `select 1 as found from link l join blob b on b.digest = l.digest and b.state = 'live'
     where l.repository_id = ? and l.digest = ? {for key share of l}`,
    repositoryId,
    digest,
  );
  return live !== undefined;
}

async function checkBlobs(
  context: CommandContext,
  repositoryId: number,
  push: ManifestPush,
  missing: Digest[],
): Promise<void> {
  const linked = await forEachOf(push.blobs, ({ digest }) => isLinked(context, repositoryId, digest));
  for (const [at, { digest, required }] of push.blobs.entries()) {
    if (linked[at] === true) continue;
    if (required && push.sparse !== 'all') missing.push(digestFromBytes(digest));
    else await lockBlob(context, digest); // an `absent` row, so that the foreign key always holds
  }
}

async function checkChildren(
  context: CommandContext,
  repositoryId: number,
  push: ManifestPush,
  missing: Digest[],
): Promise<Child[]> {
  const children: Child[] = [];
  for (const digest of push.children) {
    const child = await context.sql.get<{ id: number }>(
      'select id from manifest where repository_id = ? and digest = ? and deleted_tick = 0 {for share}',
      repositoryId,
      digest,
    );
    if (child === undefined && (await isLinked(context, repositoryId, digest))) {
      children.push({ digest, id: null, isChild: 0 });
      continue;
    }
    if (child === undefined) {
      if (push.sparse === 'none') {
        missing.push(digestFromBytes(digest));
        continue;
      }
      await lockBlob(context, digest);
    }
    children.push({ digest, id: child?.id ?? null, isChild: 1 });
  }
  return children;
}

/** The manifest's own row is live with its bytes inline; they stay there after the spill, for pulls. */
async function storeContent(context: CommandContext, push: ManifestPush): Promise<void> {
  const { sql } = context;
  const { row, fresh } = await lockBlobWithKey(context, push.digest);
  const writes: Promise<unknown>[] = [];
  if (row.state !== 'live') {
    const n = await keyNumber(context, push.digest, row, fresh);
    writes.push(
      sql.run(
        "update blob set state = 'live', size = ?, n = ?, stored = 0, lease_tick = 0 where digest = ?",
        push.bytes.length,
        n,
        push.digest,
      ),
    );
  }
  await together(
    ...writes,
    sql.run(
      'insert into content (digest, bytes) values (?, ?) on conflict (digest) do nothing',
      push.digest,
      push.bytes,
    ),
  );
  if (row.state === 'damaged') await recordHealed(context, push.digest, 'push', push.facts);
}

/** `existed`: it was there and not deleted, so its references stand. A tombstone is revived with its references. */
async function upsertManifest(
  context: CommandContext,
  repositoryId: number,
  push: ManifestPush,
): Promise<{ id: number; existed: boolean }> {
  const { sql } = context;
  const before = await sql.get<{ id: number; deleted_tick: number }>(
    'select id, deleted_tick from manifest where repository_id = ? and digest = ? {for update}',
    repositoryId,
    push.digest,
  );
  if (before !== undefined) {
    if (before.deleted_tick === 0) return { id: before.id, existed: true };
    await sql.run('delete from reference where manifest_id = ?', before.id);
    await sql.run('delete from referrer where manifest_id = ? and via_id = 0', before.id);
    await sql.run('update manifest set deleted_tick = 0, pushed_at = ? where id = ?', context.now, before.id);
    return { id: before.id, existed: false };
  }
  const row = await sql.get<{ id: number }>(
    `insert into manifest (repository_id, digest, media_type, artifact_type, size, subject, pushed_at)
     values (?, ?, ?, ?, ?, ?, ?)
     on conflict (repository_id, digest) do update set pushed_at = excluded.pushed_at returning id`,
    repositoryId,
    push.digest,
    push.mediaType,
    push.artifactType,
    push.bytes.length,
    push.subject,
    context.now,
  );
  if (row === undefined) throw new Error('an insert returned no row');
  return { id: row.id, existed: false };
}

async function addReference(
  sql: CommandContext['sql'],
  manifestId: number,
  repositoryId: number,
  digest: Uint8Array,
  childId: number | null,
  isChild: 0 | 1,
): Promise<void> {
  await sql.run(
    `insert into reference (manifest_id, digest, is_child, repository_id, child_id) values (?, ?, ?, ?, ?)
     on conflict (manifest_id, digest, is_child) do nothing`,
    manifestId,
    digest,
    isChild,
    repositoryId,
    childId,
  );
}

async function upsertReferrer(
  { sql }: CommandContext,
  repositoryId: number,
  manifestId: number,
  push: ManifestPush,
  subject: Uint8Array,
): Promise<void> {
  await sql.run(
    `insert into referrer (repository_id, subject, gone, digest, via_id, manifest_id, artifact_type, annotations)
     values (?, ?, 0, ?, 0, ?, ?, ?)
     on conflict (repository_id, subject, gone, digest, via_id) do update set manifest_id = excluded.manifest_id`,
    repositoryId,
    subject,
    push.digest,
    manifestId,
    push.artifactType,
    push.annotations,
  );
}

/** Puts the tag there once its guards agree, and says where it was. An absent tag cannot be locked, so who loses the race to make it looks again. */
async function placeTag(
  context: CommandContext,
  repositoryId: number,
  manifestId: number,
  push: ManifestPush,
  tag: Tag,
): Promise<{ id: number; digest: Uint8Array } | undefined> {
  const { sql, now } = context;
  const to = digestFromBytes(push.digest);
  for (;;) {
    const before = await sql.get<{ id: number; digest: Uint8Array }>(
      `select m.id, m.digest from tag t join manifest m on m.id = t.manifest_id
       where t.repository_id = ? and t.gone = 0 and t.name = ? {for update of t}`,
      repositoryId,
      tag,
    );
    checkTagGuards(push.guards, { tag, from: before === undefined ? undefined : digestFromBytes(before.digest), to });
    if (before?.id === manifestId) return before;
    if (before !== undefined) await refuseHeldMove(context, repositoryId, tag);
    const placed =
      before === undefined
        ? await sql.run(
            `insert into tag (repository_id, gone, name, manifest_id, updated_at) values (?, 0, ?, ?, ?)
             on conflict (repository_id, gone, name) do nothing`,
            repositoryId,
            tag,
            manifestId,
            now,
          )
        : await sql.run(
            'update tag set manifest_id = ?, updated_at = ? where repository_id = ? and gone = 0 and name = ?',
            manifestId,
            now,
            repositoryId,
            tag,
          );
    if (placed === 1) return before;
  }
}

/** Where the tag was: `same` when it is there already, undefined when it is new. */
async function moveTag(
  context: CommandContext,
  repositoryId: number,
  manifestId: number,
  push: ManifestPush,
  tag: Tag,
): Promise<Uint8Array | undefined | 'same'> {
  const before = await placeTag(context, repositoryId, manifestId, push, tag);
  if (before?.id === manifestId) return 'same';
  const history = { tag, from: before?.digest ?? null, to: push.digest, facts: push.facts };
  await recordTagEvent(context, repositoryId, { ...history, kind: 'moved' });
  const subject = subjectOfFallback(tag);
  if (subject !== undefined) {
    if (before !== undefined) await dropFallback(context, repositoryId, before.id);
    if (push.isIndex) await indexFallback(context, repositoryId, manifestId, subject, push.children);
  }
  return before?.digest;
}

async function announce(
  context: CommandContext,
  repositoryId: number,
  push: ManifestPush,
  moved: readonly { tag: Tag; from: Uint8Array | undefined }[],
): Promise<void> {
  const digest = digestFromBytes(push.digest);
  const manifest = {
    mediaType: push.mediaType,
    digest,
    size: push.bytes.length,
    ...(push.artifactType === null ? {} : { artifactType: push.artifactType }),
  };
  const subject = push.subject === null ? {} : { subject: digestFromBytes(push.subject) };
  await together(
    emit(context, repositoryId, {
      type: 'manifest.pushed',
      repository: push.repository,
      manifest,
      tags: push.tags,
      ...subject,
      ...push.facts,
    }),
    ...moved.map(({ tag, from }) =>
      emit(context, repositoryId, {
        type: 'tag.moved',
        repository: push.repository,
        tag,
        to: digest,
        ...(from === undefined ? {} : { from: digestFromBytes(from) }),
        ...push.facts,
      }),
    ),
  );
}
