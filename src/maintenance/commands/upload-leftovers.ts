/**
 * Files of uploads that no row names, where several servers share a storage: one that is being written belongs to a
 * request of some server, so only a file that is seen twice without a row, a grace apart, is a crash's leftover. Marks
 * lie in `orphan` beside those of the sweep; when the next look is due stands in the row `upload.sweep` of `lease`.
 */
import type { Command } from '../../database/database.ts';

const SWEEP = 'upload.sweep';
const PREFIX = 'uploads/';
/** The first text behind every one that begins with the prefix. */
const BEHIND = 'uploads0';

/** Whether a look is due; the next one is an eighth of the grace later. */
export const uploadLeftoversDue: Command<object, boolean> = {
  name: 'upload-leftovers-due',
  async run({ sql, tick, ticks }) {
    const every = Math.max(1, Math.floor(ticks.grace / 8));
    const moved = await sql.run(
      `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${SWEEP}', 'sweep', '', 1, ?, ?)
       on conflict (name) do update set since_tick = excluded.since_tick, due_tick = excluded.due_tick
       where lease.due_tick <= ?`,
      tick,
      tick + every,
      tick,
    );
    return { result: moved === 1, touched: [] };
  },
};

/** Marks what has no row, forgets the marks of everything else, and gives what was marked a grace ago: it is to be removed. */
export const uploadLeftovers: Command<{ unnamed: readonly string[] }, readonly string[]> = {
  name: 'upload-leftovers',
  async run({ sql, tick, ticks }, { unnamed }) {
    const marks = await sql.all<{ key: string; seen_tick: number }>(
      `select key, seen_tick from orphan where key > '${PREFIX}' and key < '${BEHIND}' order by key limit 100000{ for update}`,
    );
    const now = new Set(unnamed.map((file) => `${PREFIX}${file}`));
    const old: string[] = [];
    for (const { key, seen_tick } of marks) {
      const left = now.delete(key);
      if (left && seen_tick > tick - ticks.grace) continue;
      if (left) old.push(key.slice(PREFIX.length));
      await sql.run('delete from orphan where key = ?', key);
    }
    for (const key of [...now].sort()) {
      await sql.run('insert into orphan (key, seen_tick) values (?, ?) on conflict (key) do nothing', key, tick);
    }
    return { result: old, touched: [] };
  },
};
