/** Deleting a repository, in chunks that keep each transaction short. */
import type { Command } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import type { Facts } from '../../kit/facts.ts';
import { RegistryError } from '../../oci/error.ts';
import type { RepositoryName } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { buryManifest, type ManifestRow } from './manifest-commands.ts';
import { findRepository, queueReview, refuseHeld } from './rows.ts';

/** Manifests that one chunk takes. */
const CHUNK = 100;

/** One chunk: at most 100 manifests that no live index names. `done`: the name is free again. NAME_UNKNOWN where there is no such repository. */
export const repositoryDelete: Command<
  { repository: RepositoryName; guards: Guards; facts: Facts },
  { done: boolean }
> = {
  name: 'repository-delete',
  async run(context, { repository: name, guards, facts }) {
    const { sql, tick } = context;
    const repository = await findRepository(context, name);
    if (repository === undefined)
      throw new RegistryError('NAME_UNKNOWN', 'There is no such repository.', { detail: { name } });
    await refuseHeld(context, repository.id, {});
    const manifests = await sql.all<ManifestRow & { digest: Uint8Array }>(
      `select m.id, m.digest, m.media_type, m.size, m.deleted_tick from manifest m
       where m.repository_id = ? and m.deleted_tick = 0
         and not exists (select 1 from reference r join manifest p on p.id = r.manifest_id and p.deleted_tick = 0 where r.child_id = m.id)
       order by m.id limit ${CHUNK} {for update of m}`,
      repository.id,
    );
    for (const manifest of manifests)
      await buryManifest(context, repository.id, manifest, {
        repository: name,
        digest: manifest.digest,
        guards,
        facts,
      });
    if (manifests.length > 0) return { result: { done: false }, touched: [name] };
    const links = await sql.all<{ digest: Uint8Array }>(
      'select digest from link where repository_id = ? order by digest',
      repository.id,
    );
    for (const { digest } of links) await queueReview(context, repository.id, digest, tick);
    await sql.run('update repository set gone = id where id = ?', repository.id);
    await emit(context, repository.id, { type: 'repository.deleted', repository: name, ...facts });
    return { result: { done: true }, touched: [name] };
  },
};
