/** The rebuild's rows of blobs: dead keys from the journal, then what lies in storage. Each may be run again. */
import type { Command, CommandContext } from '../../database/database.ts';
import { freshKeyNumber, killKey, lockBlob, queueReview } from '../../local/commands/rows.ts';

/** A key. */
export interface KeyRow {
  readonly digest: Uint8Array;
  readonly n: number;
}

/**
 * What was found under a key. `good`: the bytes that its name says, or not looked at; `bad`: others; `unreadable`:
 * storage does not give them.
 */
export interface FoundKey extends KeyRow {
  readonly size: number;
  readonly found: 'good' | 'bad' | 'unreadable';
}

/**
 * Keys of the journal are dead: a deletion that was under way when the database was lost may still strike them. Their
 * bytes count as gone until storage lists them.
 */
export const reindexJournal: Command<{ keys: readonly KeyRow[] }, undefined> = {
  name: 'reindex-journal',
  async run({ sql, tick }, { keys }) {
    for (const { digest, n } of keys) {
      await sql.run(
        'insert into dead_key (digest, n, tick, confirmed) values (?, ?, ?, 1) on conflict (digest, n) do nothing',
        digest,
        n,
        tick,
      );
    }
    return { result: undefined, touched: [] };
  },
};

/**
 * Makes the row of each blob. Of several keys of one digest a good one is taken, of good ones the highest; the others
 * are dead, but only where `verified` says that somebody looked. Dead keys whose bytes are there are opened again. Every
 * row waits for its review a whole grace from now, until a manifest names it. How many keys were dead.
 */
export const reindexKeys: Command<{ keys: readonly FoundKey[]; verified: boolean }, number> = {
  name: 'reindex-keys',
  async run(context, { keys, verified }) {
    let dead = 0;
    for (const key of keys) if (!(await place(context, key, verified))) dead++;
    return { result: dead, touched: [] };
  },
};

async function place(context: CommandContext, key: FoundKey, verified: boolean): Promise<boolean> {
  const { sql, tick, ticks } = context;
  const { digest, n, size, found } = key;
  const opened = await sql.run('update dead_key set confirmed = 0 where digest = ? and n = ?', digest, n);
  if (opened > 0) return false;
  const row = await lockBlob(context, digest);
  await queueReview(context, 0, digest, tick + ticks.grace);
  if (row.n !== null && row.n !== n) {
    const wins = (found === 'good') === (row.state === 'live') ? n > row.n : found === 'good';
    if (verified) await killKey(context, digest, wins ? row.n : n);
    if (!wins) return !verified;
  }
  const live = found === 'good' ? 1 : 0;
  await sql.run(
    'update blob set state = ?, size = ?, n = ?, stored = ?, lease_tick = 0 where digest = ?',
    live === 1 ? 'live' : 'damaged',
    size,
    n,
    live,
    digest,
  );
  return true;
}

/**
 * The sizes that a manifest says of damaged blobs: those of the files are of wrong bytes, and usage is counted by them.
 * Nothing changes where another repository has counted one already.
 */
export const reindexSizes: Command<
  { repositoryId: number; sizes: readonly { readonly digest: Uint8Array; readonly size: number }[] },
  undefined
> = {
  name: 'reindex-sizes',
  async run({ sql }, { repositoryId, sizes }) {
    for (const { digest, size } of sizes) {
      await sql.run(
        `update blob set size = ? where digest = ? and state = 'damaged'
           and not exists (select 1 from link l where l.digest = blob.digest and l.repository_id <> ?)`,
        size,
        digest,
        repositoryId,
      );
    }
    return { result: undefined, touched: [] };
  },
};

/** The number under which a blob that only dead keys have can be stored again. */
export const reindexFreshKey: Command<{ digest: Uint8Array }, number> = {
  name: 'reindex-fresh-key',
  async run(context, { digest }) {
    const row = await context.sql.get<{ n: number | null }>('select n from blob where digest = ?', digest);
    const fresh = await freshKeyNumber(context, digest);
    return { result: Math.max(fresh, (row?.n ?? -1) + 1), touched: [] };
  },
};

/** The blob was stored under a fresh key: its row is live with it, and the key that it had is dead. */
export const reindexRescued: Command<KeyRow & { readonly size: number }, undefined> = {
  name: 'reindex-rescued',
  async run(context, { digest, n, size }) {
    const { tick, ticks, sql } = context;
    const row = await lockBlob(context, digest);
    await queueReview(context, 0, digest, tick + ticks.grace);
    if (row.n !== null && row.n !== n) await killKey(context, digest, row.n);
    await sql.run(
      "update blob set state = 'live', size = ?, n = ?, stored = 1, lease_tick = 0 where digest = ?",
      size,
      n,
      digest,
    );
    return { result: undefined, touched: [] };
  },
};
