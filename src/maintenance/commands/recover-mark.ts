/** The database's half of the mark in storage (`recover-mark.ts`). */
import type { Command } from '../../database/database.ts';
import { STANDING, STORAGE_MARK, type Standing } from '../../database/standing.ts';

/** The next mark, where the last one is still the one that was looked at. Undefined: another process made one, or the database is not the one that was looked at. */
export const storageMark: Command<{ number: number; nonce: string; next: string }, Standing | undefined> = {
  name: 'storage-mark',
  async run({ sql, tick }, { number, nonce, next }) {
    const moved =
      number === 0
        ? await sql.run(
            `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${STORAGE_MARK}', 'mark', ?, 1, ?, 0)
             on conflict (name) do nothing`,
            next,
            tick,
          )
        : await sql.run(
            `update lease set owner = ?, fence = fence + 1, since_tick = ? where name = '${STORAGE_MARK}' and fence = ? and owner = ?`,
            next,
            tick,
            number,
            nonce,
          );
    return { result: moved === 0 ? undefined : await sql.get<Standing>(STANDING), touched: [] };
  },
};
