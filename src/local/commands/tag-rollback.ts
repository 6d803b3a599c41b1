/** Putting a tag back on a manifest of this repository, in one transaction with the manifest's undeletion. */
import type { Command } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import type { Tag } from '../../oci/names.ts';
import { liveManifest, type ManifestChange } from './manifest-commands.ts';
import { pointTag } from './point-tag.ts';
import { findRepository, manifestUnknown, recordTagEvent } from './rows.ts';

/**
 * Moves the tag to the manifest, which is brought back first where it is deleted: all or nothing. A tag that is there
 * already stays, without a line in its history. MANIFEST_UNKNOWN, MANIFEST_BLOB_UNKNOWN; DENIED by a guard or a hold.
 */
export const tagRollback: Command<ManifestChange & { readonly tag: Tag }, undefined> = {
  name: 'tag-rollback',
  async run(context, change) {
    const digest = digestFromBytes(change.digest);
    const repository = await findRepository(context, change.repository);
    if (repository === undefined) throw manifestUnknown(digest);
    const id = await liveManifest(context, repository.id, change);
    const before = await pointTag(context, repository.id, { id, digest: change.digest }, change);
    if (before?.id !== id) {
      const history = { ...change, from: before?.digest ?? null, to: change.digest };
      await recordTagEvent(context, repository.id, { ...history, kind: 'rolled-back' });
      await emit(context, repository.id, {
        type: 'tag.moved',
        repository: change.repository,
        tag: change.tag,
        to: digest,
        ...(before === undefined ? {} : { from: digestFromBytes(before.digest) }),
        ...change.facts,
      });
    }
    return { result: undefined, touched: [change.repository] };
  },
};
