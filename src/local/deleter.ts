/** The deletes, and what only our own store can do: undelete, purge, delete a repository. */
import { failpoint } from '../kit/failpoint.ts';
import { digestToBytes } from '../oci/digest.ts';
import { factsOf } from '../registry/call.ts';
import type { RegistryDeleter, Store } from '../registry/registry.ts';
import { blobUnlink } from './commands/blob-commands.ts';
import { manifestDelete, manifestRestore, tagDelete, tagRestore } from './commands/manifest-commands.ts';
import { tagPurge, tombstonePurge } from './commands/purge.ts';
import { repositoryDelete } from './commands/repository-delete.ts';
import { tagRollback } from './commands/tag-rollback.ts';
import type { LocalParts } from './parts.ts';

type Methods = RegistryDeleter & Pick<Store, 'restore' | 'purge' | 'deleteRepository'>;

/** The deletes. Each is one command; a repository is deleted in chunks. */
export function localDeleter({ database }: LocalParts): Methods {
  return {
    async deleteBlob(call, repository, digest, guards = []) {
      failpoint('delete.commit.before');
      await database.run(blobUnlink, { repository, digest: digestToBytes(digest), guards, facts: factsOf(call) });
      failpoint('delete.commit.after');
    },
    async deleteManifest(call, repository, digest, guards = []) {
      failpoint('delete.commit.before');
      await database.run(manifestDelete, { repository, digest: digestToBytes(digest), guards, facts: factsOf(call) });
      failpoint('delete.commit.after');
    },
    async deleteTag(call, repository, tag, guards = []) {
      failpoint('delete.commit.before');
      await database.run(tagDelete, { repository, tag, guards, facts: factsOf(call) });
      failpoint('delete.commit.after');
    },
    async restore(call, repository, reference, guards = []) {
      const facts = factsOf(call);
      failpoint('restore.commit.before');
      if ('tag' in reference && 'digest' in reference) {
        const { tag, digest } = reference;
        await database.run(tagRollback, { repository, tag, digest: digestToBytes(digest), guards, facts });
      } else if ('tag' in reference) await database.run(tagRestore, { repository, tag: reference.tag, guards, facts });
      else await database.run(manifestRestore, { repository, digest: digestToBytes(reference.digest), guards, facts });
      failpoint('restore.commit.after');
    },
    async purge(call, repository, reference, guards = []) {
      if ('tag' in reference) {
        await database.run(tagPurge, { repository, tag: reference.tag, guards, facts: factsOf(call) });
        return;
      }
      await database.run(tombstonePurge, {
        repository,
        digest: digestToBytes(reference.digest),
        guards,
        facts: factsOf(call),
      });
    },
    deleteRepository: (call, repository, guards = []) =>
      database.run(repositoryDelete, { repository, guards, facts: factsOf(call) }),
  };
}
