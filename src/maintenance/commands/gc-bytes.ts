/**
 * The bytes of dead keys. A key is taken, written to the journal, deleted and confirmed, in this order and repeatable
 * at every step: a dead key is never used again, so a deletion that strikes hours later hits nothing that lives.
 */
import type { Command } from '../../database/database.ts';
import { isRemote } from '../../database/dialect.ts';
import { together } from '../../local/commands/rows.ts';

/** A dead key as it was taken. `tick`: when it was last condemned. */
export interface DeadKey {
  readonly digest: Uint8Array;
  readonly n: number;
  readonly tick: number;
  /** Its bytes in storage; null where that is not known. */
  readonly size: number | null;
}

/** What was taken, and the installation's epoch then: another one before the deletion means that a restore came between. */
export interface Taken {
  readonly epoch: number;
  readonly tick: number;
  readonly keys: readonly DeadKey[];
}

/** Dead keys whose bytes may go: condemned `deleteAfter` ticks ago or more, and before the snapshot of every backup that still runs. */
export const gcTake: Command<{ deleteAfter: number; limit: number }, Taken> = {
  name: 'gc-take',
  async run({ sql, tick }, { deleteAfter, limit }) {
    const installation = await sql.get<{ epoch: number }>('select epoch from installation where id = 1');
    const backup = await sql.get<{ since: number | null }>(
      "select min(since_tick) as since from lease where kind = 'backup' and due_tick >= ?",
      tick,
    );
    const keys = await sql.all<DeadKey>(
      'select digest, n, tick, size from dead_key where confirmed = 0 and tick <= ? order by tick limit ?',
      Math.min(tick - deleteAfter, (backup?.since ?? Number.MAX_SAFE_INTEGER) - 1),
      limit,
    );
    return { result: { epoch: installation?.epoch ?? 0, tick, keys }, touched: [] };
  },
};

/** Lists of all keys, each one parameter: digests in hex, numbers and ticks, joined by commas. */
const CONFIRM = `update dead_key k set confirmed = 1
  from unnest(string_to_array(?, ','), string_to_array(?, ',')::bigint[], string_to_array(?, ',')::bigint[]) as went (h, n, t)
  where k.digest = decode(went.h, 'hex') and k.n = went.n and k.tick = went.t and k.confirmed = 0`;
const FORGET = `delete from dead_key k using unnest(string_to_array(?, ',')) as went (h)
  where k.digest = decode(went.h, 'hex') and k.confirmed = 1
    and exists (select 1 from dead_key d where d.digest = k.digest and d.n > k.n)`;

/** Says that the bytes of these keys are gone. One that was opened again since it was taken stays open. */
export const gcConfirm: Command<{ keys: readonly DeadKey[] }, undefined> = {
  name: 'gc-confirm',
  async run(context, { keys }) {
    const { sql } = context;
    if (isRemote(context)) {
      // Over a network each statement costs more than its work.
      const digests = keys.map(({ digest }) => Buffer.from(digest).toString('hex')).join();
      await together(
        sql.run(CONFIRM, digests, keys.map(({ n }) => n).join(), keys.map(({ tick }) => tick).join()),
        sql.run(FORGET, digests),
      );
      return { result: undefined, touched: [] };
    }
    for (const { digest, n, tick } of keys) {
      await sql.run(
        'update dead_key set confirmed = 1 where digest = ? and n = ? and tick = ? and confirmed = 0',
        digest,
        n,
        tick,
      );
      await sql.run(
        `delete from dead_key where digest = ? and confirmed = 1
         and n < (select max(d.n) from dead_key d where d.digest = dead_key.digest)`,
        digest,
      );
    }
    return { result: undefined, touched: [] };
  },
};
