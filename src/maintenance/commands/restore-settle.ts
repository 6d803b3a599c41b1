/** What a restore does to blob rows, once it has looked at storage (schema.md §3). No row names a dead key afterwards. */
import type { Command } from '../../database/database.ts';
import { recordDamage, recordHealed, systemFacts } from '../../local/commands/damage.ts';
import { freshKeyNumber, killKey } from '../../local/commands/rows.ts';

/** A digest in the database's form, and a number of its key. */
export interface KeyOf {
  readonly digest: Uint8Array;
  readonly n: number;
}

/** Keys of the journal: they are dead. Those that are known as dead stay as they are. How many were new. */
export const restoreDead: Command<{ keys: readonly KeyOf[] }, number> = {
  name: 'restore-dead',
  async run({ sql, tick }, { keys }) {
    let added = 0;
    for (const { digest, n } of keys) {
      added += await sql.run(
        'insert into dead_key (digest, n, tick) values (?, ?, ?) on conflict (digest, n) do nothing',
        digest,
        n,
        tick,
      );
    }
    return { result: added, touched: [] };
  },
};

/** Gives keys up and numbers that were never dead in their stead. */
export const restoreRenumber: Command<{ keys: readonly KeyOf[] }, readonly number[]> = {
  name: 'restore-renumber',
  async run(context, { keys }) {
    const fresh: number[] = [];
    for (const { digest, n } of keys) {
      await killKey(context, digest, n);
      fresh.push(await freshKeyNumber(context, digest));
    }
    return { result: fresh, touched: [] };
  },
};

/** How a blob's row ends. `n` is null where it is absent. */
export interface Settled {
  readonly digest: Uint8Array;
  readonly state: 'live' | 'absent' | 'damaged';
  readonly n: number | null;
  readonly stored: 0 | 1;
}

/** Writes the rows, and what is kept about damage, so that it is healed where there is something to heal from. */
export const restoreSettle: Command<{ rows: readonly Settled[] }, null> = {
  name: 'restore-settle',
  async run(context, { rows }) {
    const { sql } = context;
    for (const { digest, state, n, stored } of rows) {
      await sql.run(
        'update blob set state = ?, n = ?, stored = ?, lease_tick = 0 where digest = ?',
        state,
        n,
        stored,
        digest,
      );
      if (state === 'live') await recordHealed(context, digest, 'backup', systemFacts('restore'));
      if (state !== 'damaged' || n === null) continue;
      const row = await sql.get<{ size: number }>('select size from blob where digest = ?', digest);
      const why = 'The bytes were neither in storage nor in the backup.';
      await recordDamage(context, { digest, n, size: row?.size ?? 0, found: 'restore', why });
    }
    return { result: null, touched: [] };
  },
};
