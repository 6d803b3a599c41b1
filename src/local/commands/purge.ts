/** The end of a tombstone: its rows go, and what it named is reviewed. */
import type { Command, CommandContext } from '../../database/database.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { ManifestChange, TagChangeArgs } from './manifest-commands.ts';
import { findRepository, manifestUnknown, queueReview, refuseHeld } from './rows.ts';

/** Ends the undelete window of a deleted manifest now. MANIFEST_UNKNOWN where it is not deleted; UNSUPPORTED while a tombstone of an index needs it. */
export const tombstonePurge: Command<ManifestChange, undefined> = {
  name: 'tombstone-purge',
  async run(context, change) {
    const digest = digestFromBytes(change.digest);
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(digest);
    const manifest = await context.sql.get<{ id: number }>(
      'select id from manifest where repository_id = ? and digest = ? and deleted_tick > 0 {for update}',
      repository.id,
      change.digest,
    );
    if (manifest === undefined) throw manifestUnknown(digest);
    await refuseHeld(context, repository.id, { digest: change.digest });
    // Its deleted tags go with it, and one of them may be held.
    const tags = await context.sql.all<{ name: string }>(
      'select distinct name from tag where manifest_id = ? and gone > 0',
      manifest.id,
    );
    for (const { name } of tags) await refuseHeld(context, repository.id, { tag: name });
    const parent = await context.sql.get<{ digest: Uint8Array }>(
      'select p.digest from reference r join manifest p on p.id = r.manifest_id where r.child_id = ? limit 1',
      manifest.id,
    );
    if (parent !== undefined) {
      throw new RegistryError(
        'UNSUPPORTED',
        `The index ${digestFromBytes(parent.digest)} could still be undeleted and needs this manifest: purge the index first.`,
      );
    }
    await purgeManifest(context, manifest.id, change.digest);
    return { result: undefined, touched: [] };
  },
};

/** Takes the tombstones of a tag away, so that it cannot be undeleted. MANIFEST_UNKNOWN where there is none. */
export const tagPurge: Command<TagChangeArgs, undefined> = {
  name: 'tag-purge',
  async run(context, change) {
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(change.tag);
    await refuseHeld(context, repository.id, { tag: change.tag });
    const gone = await context.sql.run(
      `delete from tag where repository_id = ? and gone > 0 and name = ?
       and gone in (select id from tag_event where repository_id = ? and name = ?)`,
      repository.id,
      change.tag,
      repository.id,
      change.tag,
    );
    if (gone === 0) throw manifestUnknown(change.tag);
    return { result: undefined, touched: [] };
  },
};

/** Takes a deleted manifest's rows away and queues its own row and all that it named for review. The caller has locked it and knows that nothing names it. */
export async function purgeManifest(context: CommandContext, manifestId: number, digest: Uint8Array): Promise<void> {
  const { sql, tick } = context;
  const named = await sql.all<{ digest: Uint8Array }>(
    'select distinct digest from reference where manifest_id = ? order by digest',
    manifestId,
  );
  await sql.run('delete from tag where manifest_id = ? and gone > 0', manifestId);
  await sql.run('delete from referrer where manifest_id = ?', manifestId);
  await sql.run('delete from reference where manifest_id = ?', manifestId);
  await sql.run('delete from manifest where id = ?', manifestId);
  for (const row of [...named, { digest }].sort((a, b) => Buffer.compare(a.digest, b.digest)))
    await queueReview(context, 0, row.digest, tick);
}
