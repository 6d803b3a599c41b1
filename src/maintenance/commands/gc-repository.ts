/** Repositories that never had a manifest and hold nothing any more, as an abandoned push leaves them. */
import type { Command } from '../../database/database.ts';

/** Takes away at most `limit` repositories that never showed, were not pushed to for a grace, and are empty. */
export const repositoryReview: Command<{ limit: number }, number> = {
  name: 'repository-review',
  async run({ sql, tick, ticks }, { limit }) {
    const empty = await sql.all<{ id: number }>(
      `select r.id from repository r where r.shown = 0 and r.active_tick <= ?
         and not exists (select 1 from link l where l.repository_id = r.id)
         and not exists (select 1 from manifest m where m.repository_id = r.id)
         and not exists (select 1 from upload u where u.repository_id = r.id)
         and not exists (select 1 from tag_event e where e.repository_id = r.id)
         and not exists (select 1 from hold h where h.repository_id = r.id)
       order by r.active_tick limit ? {for update of r skip locked}`,
      tick - ticks.grace,
      limit,
    );
    let removed = 0;
    for (const { id } of empty) {
      // Who adds to a repository locks its row first; only what was committed before this lock may have come between.
      const used = await sql.get<{ found: number }>(
        `select 1 as found where exists (select 1 from link where repository_id = ?)
           or exists (select 1 from manifest where repository_id = ?)
           or exists (select 1 from upload where repository_id = ?)
           or exists (select 1 from hold where repository_id = ?)`,
        id,
        id,
        id,
        id,
      );
      if (used !== undefined) continue;
      await sql.run('delete from gc_queue where repository_id = ?', id);
      await sql.run('delete from usage_delta where repository_id = ?', id);
      await sql.run('delete from usage where repository_id = ?', id);
      await sql.run('delete from repository where id = ?', id);
      removed++;
    }
    return { result: removed, touched: [] };
  },
};
