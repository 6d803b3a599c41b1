/**
 * What a recovery does to the database. Its mark is the row `recover` of `lease`: while it is there nothing serves from
 * this database. `fence` grows with every run, so that of two the older one ends.
 */
import type { Command } from '../../database/database.ts';
import { leaseLost } from '../../database/lease.ts';
import { lockBlob, queueReview } from '../../local/commands/rows.ts';

/** The row's name in `lease`. */
export const RECOVER = 'recover';

/** Sets the mark, or takes over an earlier run's. Its fence, and whether it was there. */
export const recoverBegin: Command<object, { fence: number; resumed: boolean }> = {
  name: 'recover-begin',
  async run({ sql, tick }) {
    const row = await sql.get<{ fence: number }>(
      `insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('${RECOVER}', 'recover', '', 1, ?, 0)
       on conflict (name) do update set fence = lease.fence + 1 returning fence`,
      tick,
    );
    const fence = row?.fence ?? 1;
    return { result: { fence, resumed: fence > 1 }, touched: [] };
  },
};

/**
 * An epoch that neither this database nor its storage has seen. Uploads that were under way are over: what they stored
 * is of another time than their rows.
 */
export const recoverEpoch: Command<{ atLeast: number }, number> = {
  name: 'recover-epoch',
  async run({ sql, now }, { atLeast }) {
    const row = await sql.get<{ epoch: number }>('select epoch from installation where id = 1');
    const epoch = Math.max((row?.epoch ?? 0) + 1, atLeast, Math.floor(now / 1000));
    await sql.run('update installation set epoch = ? where id = 1', epoch);
    await sql.run('delete from upload');
    return { result: epoch, touched: [] };
  },
};

/** Bytes that storage has and no row names. */
export interface Unknown {
  readonly digest: Uint8Array;
  readonly n: number;
  readonly size: number;
}

/**
 * Gives them rows, where there is none yet and the key is above every dead one. A manifest may name them now; what
 * none names is reviewed a whole grace from now. How many were taken.
 */
export const recoverAdopt: Command<{ keys: readonly Unknown[] }, number> = {
  name: 'recover-adopt',
  async run(context, { keys }) {
    const { sql, tick, ticks } = context;
    let adopted = 0;
    for (const { digest, n, size } of keys) {
      const row = await lockBlob(context, digest);
      await queueReview(context, 0, digest, tick + ticks.grace);
      if (row.state !== 'absent') continue;
      const dead = await sql.get<{ n: number | null }>('select max(n) as n from dead_key where digest = ?', digest);
      if ((dead?.n ?? -1) >= n) continue;
      adopted += await sql.run(
        "update blob set state = 'live', size = ?, n = ?, stored = 1, lease_tick = 0 where digest = ?",
        size,
        n,
        digest,
      );
    }
    return { result: adopted, touched: [] };
  },
};

/** The database is whole: servers may serve it. FaultError where another run has taken over. */
export const recoverEnd: Command<{ fence: number }, undefined> = {
  name: 'recover-end',
  async run({ sql }, { fence }) {
    if ((await sql.run(`delete from lease where name = '${RECOVER}' and fence = ?`, fence)) === 0) throw leaseLost();
    return { result: undefined, touched: [] };
  },
};
