/**
 * The sweep for bytes that no row knows: storage is listed shard by shard, and a key that is seen twice, a grace apart,
 * without a row becomes a dead key. How far the sweep is stands in the row `gc.sweep` of `lease`: `fence` is the next
 * shard, `since_tick` when the sweep began, `due_tick` when the next one may.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { killKey, lockBlob, queueReview } from '../../local/commands/rows.ts';

/** The sweep's row in `lease`. */
const SWEEP = 'gc.sweep';
/** Shards of a storage: the hash's first two hex digits. */
export const SHARDS = 256;

/** A stored key as the listing gave it. */
export interface SeenKey {
  readonly key: string;
  readonly digest: Uint8Array;
  readonly n: number;
}

/** Which shard is next; undefined while no sweep is due. A sweep begins when the last one is `every` ticks old. */
export const sweepNext: Command<{ every: number }, number | undefined> = {
  name: 'sweep-next',
  async run({ sql, tick }, { every }) {
    const row = await sql.get<{ fence: number; due_tick: number }>(
      `select fence, due_tick from lease where name = '${SWEEP}' {for update}`,
    );
    if (row !== undefined && row.fence < SHARDS) return { result: row.fence, touched: [] };
    if (row !== undefined && row.due_tick > tick) return { result: undefined, touched: [] };
    // A new installation has nothing to sweep yet: its first sweep is due like any other.
    const [shard, since] = row === undefined ? [SHARDS, 0] : [0, tick];
    await sql.run(
      `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${SWEEP}', 'sweep', '', ?, ?, ?)
       on conflict (name) do update set fence = excluded.fence, since_tick = excluded.since_tick, due_tick = excluded.due_tick`,
      shard,
      since,
      tick + every,
    );
    if (row === undefined) return { result: undefined, touched: [] };
    return { result: 0, touched: [] };
  },
};

/** Looks at stored keys: one that a row names is fine, one that is dead is opened again, any other is an orphan and dies when it is seen a grace later still. How many died or were opened. */
export const sweepSeen: Command<{ keys: readonly SeenKey[] }, number> = {
  name: 'sweep-seen',
  async run(context, { keys }) {
    let found = 0;
    for (const seen of keys) if (await look(context, seen)) found++;
    return { result: found, touched: [] };
  },
};

async function look(context: CommandContext, { key, digest, n }: SeenKey): Promise<boolean> {
  const { sql, tick, ticks } = context;
  const row = await sql.get<{ n: number | null }>('select n from blob where digest = ? {for key share}', digest);
  if (row?.n === n) {
    await sql.run('delete from orphan where key = ?', key);
    return false;
  }
  const dead = await sql.get<{ highest: number | null; waiting: number | null }>(
    `select max(n) as highest, max(case when n = ? and confirmed = 0 then 1 else 0 end) as waiting
     from dead_key where digest = ?`,
    n,
    digest,
  );
  if (dead !== undefined && dead.highest !== null && n <= dead.highest) {
    await sql.run('delete from orphan where key = ?', key);
    if (dead.waiting === 1) return false;
    await killKey(context, digest, n);
    return true;
  }
  await sql.run('insert into orphan (key, seen_tick) values (?, ?) on conflict (key) do nothing', key, tick);
  const first = await sql.get<{ seen_tick: number }>('select seen_tick from orphan where key = ?', key);
  if (first === undefined || first.seen_tick > tick - ticks.grace) return false;
  // The row is made and locked, so that no push can choose this very key meanwhile; its review takes it away again.
  const locked = await lockBlob(context, digest);
  if (row === undefined) await queueReview(context, 0, digest, tick);
  await sql.run('delete from orphan where key = ?', key);
  if (locked.n === n) return false;
  await killKey(context, digest, n);
  return true;
}

/** A shard is done. After the last one, marks of what this sweep did not meet any more are dropped. Whether the sweep ended. */
export const sweepEnd: Command<{ shard: number }, boolean> = {
  name: 'sweep-end',
  async run({ sql, tick, ticks }, { shard }) {
    await sql.run(`update lease set fence = ? where name = '${SWEEP}' and fence = ?`, shard + 1, shard);
    if (shard + 1 < SHARDS) return { result: false, touched: [] };
    await sql.run(
      `delete from orphan where seen_tick < ? and seen_tick < (select since_tick from lease where name = '${SWEEP}')`,
      tick - 3 * ticks.grace,
    );
    return { result: true, touched: [] };
  },
};
