/** The end of undelete windows: tombstones of tags, then of manifests that nothing needs any more (schema.md §2). */
import type { Command, CommandContext } from '../../database/database.ts';
import { purgeManifest } from '../../local/commands/purge.ts';

/** How many tombstones ended. Fewer in all than the limit means that no more are due. */
export interface Purged {
  readonly tags: number;
  readonly manifests: number;
}

/** Ends at most `limit` tombstones that are older than the undelete window; one on PostgreSQL. Held ones stay. */
export const gcPurge: Command<{ limit: number }, Purged> = {
  name: 'gc-purge',
  async run(context, { limit }) {
    const most = context.shared ? Math.min(limit, 1) : limit;
    const tags = await purgeTags(context, most);
    const manifests = tags < most ? await purgeManifests(context, most - tags) : 0;
    return { result: { tags, manifests }, touched: [] };
  },
};

async function purgeTags({ sql, tick, ticks, now }: CommandContext, limit: number): Promise<number> {
  const due = await sql.all<{ repository_id: number; gone: number; name: string }>(
    `select t.repository_id, t.gone, t.name from tag t
     where t.deleted_tick > 0 and t.deleted_tick < ?
       and not exists (select 1 from hold h where (h.until_at is null or h.until_at > ?)
         and h.repository_id = t.repository_id and (h.tag = t.name or (h.tag is null and h.digest is null)))
     order by t.deleted_tick limit ? {for update of t skip locked}`,
    tick - ticks.undelete,
    now,
    limit,
  );
  for (const { repository_id, gone, name } of due)
    await sql.run('delete from tag where repository_id = ? and gone = ? and name = ?', repository_id, gone, name);
  return due.length;
}

/**
 * A tombstone also stays until the links of what it names were reviewed: it is how their review knows that they are no
 * push under way, which in a repository that is always busy is all that lets them go. No byte goes earlier without it.
 */
async function purgeManifests(context: CommandContext, limit: number): Promise<number> {
  const { sql, tick, ticks, now } = context;
  const due = await sql.all<{ id: number; digest: Uint8Array }>(
    `select m.id, m.digest from manifest m
     where m.deleted_tick > 0 and m.deleted_tick < ?
       and not exists (select 1 from tag t where t.manifest_id = m.id)
       and not exists (select 1 from reference r where r.child_id = m.id)
       and not exists (select 1 from reference f
         join link l on l.repository_id = m.repository_id and l.digest = f.digest
         join gc_queue q on q.repository_id = l.repository_id and q.digest = l.digest
         where f.manifest_id = m.id and f.is_child = 0)
       and not exists (select 1 from hold h where (h.until_at is null or h.until_at > ?)
         and ((h.repository_id = m.repository_id and h.tag is null and h.digest is null)
           or ((h.repository_id = m.repository_id or h.repository_id is null) and h.digest = m.digest)))
     order by m.deleted_tick limit ? {for update of m skip locked}`,
    tick - ticks.undelete,
    now,
    limit,
  );
  for (const { id, digest } of due) await purgeManifest(context, id, digest);
  return due.length;
}
