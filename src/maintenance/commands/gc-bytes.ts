/**
 * The bytes of dead keys. A key is taken, written to the journal, deleted and confirmed, in this order and repeatable
 * at every step: a dead key is never used again, so a deletion that strikes hours later hits nothing that lives.
 */
import type { Command } from '../../database/database.ts';
import { isRemote } from '../../database/dialect.ts';

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

/** Keys of one statement: its text is constant, so the last of a shorter list fills it up. */
const AT_ONCE = 50;
const places = (one: string): string => Array.from({ length: AT_ONCE }, () => one).join(', ');
const CONFIRM = `update dead_key set confirmed = 1 from (values ${places('(?::bytea, ?::bigint, ?::bigint)')}) as went (digest, n, tick)
  where dead_key.digest = went.digest and dead_key.n = went.n and dead_key.tick = went.tick and dead_key.confirmed = 0`;
const FORGET = `delete from dead_key where digest in (${places('?')}) and confirmed = 1
  and n < (select max(d.n) from dead_key d where d.digest = dead_key.digest)`;

/** Says that the bytes of these keys are gone. One that was opened again since it was taken stays open. */
export const gcConfirm: Command<{ keys: readonly DeadKey[] }, undefined> = {
  name: 'gc-confirm',
  async run(context, { keys }) {
    const { sql } = context;
    if (isRemote(context)) {
      // Over a network each statement costs more than its work.
      for (let from = 0; from < keys.length; from += AT_ONCE) {
        const some = keys.slice(from, from + AT_ONCE);
        const full = Array.from({ length: AT_ONCE }, (_, at) => some[Math.min(at, some.length - 1)]!);
        await sql.run(CONFIRM, ...full.flatMap(({ digest, n, tick }) => [digest, n, tick]));
        await sql.run(FORGET, ...full.map(({ digest }) => digest));
      }
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
