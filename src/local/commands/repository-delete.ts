/** Deleting a repository, in chunks that keep each transaction short. */
import type { Command, CommandContext } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import type { Facts } from '../../kit/facts.ts';
import { RegistryError } from '../../oci/error.ts';
import type { RepositoryName } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { buryManifest, type ManifestRow } from './manifest-commands.ts';
import { findRepository, queueReview } from './rows.ts';

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
    await refuseHeldWithin(context, repository.id);
    const candidates = await sql.all<{ id: number }>(
      `select m.id from manifest m
       where m.repository_id = ? and m.deleted_tick = 0
         and not exists (select 1 from reference r join manifest p on p.id = r.manifest_id and p.deleted_tick = 0 where r.child_id = m.id)
       order by m.id limit ${CHUNK}`,
      repository.id,
    );
    const manifests: (ManifestRow & { digest: Uint8Array })[] = [];
    // A deletion may stop between two chunks: what these manifests kept must be looked at all the same.
    await queueNamed(context, repository.id, candidates);
    for (const { id } of candidates) {
      const manifest = await sql.get<ManifestRow & { digest: Uint8Array }>(
        'select id, digest, media_type, size, deleted_tick from manifest where id = ? and deleted_tick = 0 {for update}',
        id,
      );
      if (manifest !== undefined) manifests.push(manifest);
    }
    for (const manifest of manifests)
      await buryManifest(context, repository.id, manifest, {
        repository: name,
        digest: manifest.digest,
        guards,
        facts,
      });
    if (candidates.length > 0) return { result: { done: false }, touched: [name] };
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

/** Any hold on it or on anything in it: otherwise a chunk would have gone before a later one meets the hold. */
async function refuseHeldWithin({ sql, now }: CommandContext, repositoryId: number): Promise<void> {
  const row = await sql.get<{ reason: string }>(
    `select h.reason from hold h where (h.until_at is null or h.until_at > ?) and (h.repository_id = ?
       or (h.repository_id is null and exists (select 1 from manifest m where m.repository_id = ? and m.digest = h.digest)))
     order by h.id limit 1`,
    now,
    repositoryId,
    repositoryId,
  );
  if (row === undefined) return;
  throw new RegistryError(
    'UNSUPPORTED',
    `A hold protects this repository or something in it: ${row.reason}. Lift the hold first.`,
  );
}

/** Queues the links that these manifests hold, in the order of their digests, before any manifest is locked. */
async function queueNamed(
  context: CommandContext,
  repositoryId: number,
  manifests: readonly { readonly id: number }[],
): Promise<void> {
  const named = new Map<string, Uint8Array>();
  for (const { id } of manifests) {
    const rows = await context.sql.all<{ digest: Uint8Array }>(
      'select digest from reference where manifest_id = ? and is_child = 0',
      id,
    );
    for (const { digest } of rows) named.set(Buffer.from(digest).toString('hex'), digest);
  }
  for (const [, digest] of [...named].sort(([a], [b]) => (a < b ? -1 : 1)))
    await queueReview(context, repositoryId, digest, context.tick + context.ticks.grace);
}
