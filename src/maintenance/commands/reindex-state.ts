/**
 * The mark of a database that is being rebuilt from storage: the row `reindex` of `lease`. While it is there nothing
 * may serve or collect from this database. `fence` grows with every run, so that of two the older one ends; `owner`
 * says how far the blobs are.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { leaseLost } from '../../database/lease.ts';

/** The row's name in `lease`. */
export const REINDEX = 'reindex';

/** How far a rebuild is: shards of blobs that are done, and whether their bytes were hashed. */
export interface ReindexPlace {
  readonly verify: boolean;
  readonly shard: number;
}

/** Begun, or why not: a database that has something is not rebuilt over. */
export type Begun =
  | { readonly refused: string }
  | { readonly fence: number; readonly place: ReindexPlace; readonly resumed: boolean };

/** A row that a rebuild left in `lease`, read. A place that cannot be read is the beginning. */
export function placeOf(owner: string): ReindexPlace {
  try {
    const { verify, shard } = JSON.parse(owner) as { verify?: unknown; shard?: unknown };
    if (typeof verify === 'boolean' && Number.isSafeInteger(shard)) return { verify, shard: shard as number };
  } catch {
    // Falls through: all is done again.
  }
  return { verify: false, shard: 0 };
}

/**
 * Sets the mark and a new epoch, or takes over an earlier run's mark. What was only sized is hashed again where `verify`
 * is asked for now. The epoch is the time: the one of the database that was lost is not known, and must not come back.
 */
export const reindexBegin: Command<{ verify: boolean }, Begun> = {
  name: 'reindex-begin',
  async run(context, { verify }) {
    const { sql, now, tick } = context;
    const before = await sql.get<{ owner: string; fence: number }>(
      `select owner, fence from lease where name = '${REINDEX}' {for update}`,
    );
    if (before !== undefined) {
      const was = placeOf(before.owner);
      const place = { verify, shard: verify && !was.verify ? 0 : was.shard };
      const fence = before.fence + 1;
      await sql.run(`update lease set owner = ?, fence = ? where name = '${REINDEX}'`, JSON.stringify(place), fence);
      return { result: { fence, place, resumed: true }, touched: [] };
    }
    const refused = await whatIsThere(context);
    if (refused !== undefined) return { result: { refused }, touched: [] };
    const place = { verify, shard: 0 };
    await sql.run(
      `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${REINDEX}', 'reindex', ?, 1, ?, 0)`,
      JSON.stringify(place),
      tick,
    );
    await sql.run(
      'update installation set epoch = case when epoch >= ? then epoch + 1 else ? end where id = 1',
      now,
      now,
    );
    return { result: { fence: 1, place, resumed: false }, touched: [] };
  },
};

async function whatIsThere({ sql }: CommandContext): Promise<string | undefined> {
  const row = await sql.get<{ repositories: number; blobs: number }>(
    `select (select count(*) from (select 1 as one from repository limit 1000) as repositories_there) as repositories,
       (select count(*) from (select 1 as one from blob limit 1000) as blobs_there) as blobs`,
  );
  const { repositories, blobs } = { repositories: Number(row?.repositories), blobs: Number(row?.blobs) };
  if (repositories + blobs === 0) return undefined;
  const many = (count: number): string => (count === 1000 ? '1000 or more' : String(count));
  return `${many(repositories)} repositories and ${many(blobs)} blobs`;
}

/** A shard of blobs is done. */
export const reindexShard: Command<ReindexPlace, undefined> = {
  name: 'reindex-shard',
  async run({ sql }, place) {
    await sql.run(`update lease set owner = ? where name = '${REINDEX}'`, JSON.stringify(place));
    return { result: undefined, touched: [] };
  },
};

/** The database is whole: the mark goes. FaultError where another run has taken over; the check of a lease would miss the mark. */
export const reindexEnd: Command<{ fence: number }, undefined> = {
  name: 'reindex-end',
  async run({ sql }, { fence }) {
    if ((await sql.run(`delete from lease where name = '${REINDEX}' and fence = ?`, fence)) === 0) throw leaseLost();
    return { result: undefined, touched: [] };
  },
};
