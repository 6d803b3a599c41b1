/**
 * The review of what may be garbage (schema.md §2). An entry (repository, digest) reviews one link, an entry (0, digest)
 * the blob's row. The lock of the row and the foreign keys decide whether something goes; the queue only says when. A
 * locked row is never waited for, so this cannot take part in a deadlock. On PostgreSQL many entries are reviewed
 * together (`gc-review-many.ts`), and here only those that this leaves, each in a transaction of its own.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { isRemote } from '../../database/dialect.ts';
import { addUsage, findHold, killKey, queueReview } from '../../local/commands/rows.ts';
import type { RepositoryName } from '../../oci/names.ts';
import { type Entry, reviewMany } from './gc-review-many.ts';

/** What one review did. `entries`: how many it looked at; fewer than the limit means that no more are due. */
export interface Reviewed {
  readonly entries: number;
  /** Links taken away. */
  readonly unlinked: number;
  /** Rows given up, and the bytes that their keys had in storage. */
  readonly condemned: number;
  readonly bytes: number;
  /** Entries that were not touched, to be reviewed one by one, as `only`. */
  readonly left: readonly Entry[];
}

interface Tally {
  unlinked: number;
  condemned: number;
  bytes: number;
  readonly touched: Set<RepositoryName>;
}

/** Reviews at most `limit` due entries, or `only` one, where it still is due. */
export const gcReview: Command<{ limit: number; only?: Entry }, Reviewed> = {
  name: 'gc-review',
  async run(context, { limit, only }) {
    const { sql, tick } = context;
    if (isRemote(context) && only === undefined) {
      const { touched, ...result } = await reviewMany(context, limit);
      return { result, touched };
    }
    const due =
      only === undefined
        ? await sql.all<Entry>(
            'select repository_id, digest from gc_queue where due_tick <= ? order by due_tick limit ?',
            tick,
            limit,
          )
        : await sql.all<Entry>(
            'select repository_id, digest from gc_queue where due_tick <= ? and repository_id = ? and digest = ? {for update skip locked}',
            tick,
            only.repository_id,
            only.digest,
          );
    const tally: Tally = { unlinked: 0, condemned: 0, bytes: 0, touched: new Set() };
    for (const entry of due) {
      if (entry.repository_id === 0) await reviewRow(context, entry.digest, tally);
      else await reviewLink(context, entry, tally);
    }
    const { touched, ...counts } = tally;
    return { result: { entries: due.length, ...counts, left: [] }, touched: [...touched] };
  },
};

async function postpone({ sql }: CommandContext, { repository_id, digest }: Entry, due: number): Promise<void> {
  await sql.run('update gc_queue set due_tick = ? where repository_id = ? and digest = ?', due, repository_id, digest);
}

async function drop({ sql }: CommandContext, { repository_id, digest }: Entry): Promise<void> {
  await sql.run('delete from gc_queue where repository_id = ? and digest = ?', repository_id, digest);
}

/**
 * A link goes when nothing undeleted in its repository names the blob. In a repository that was pushed to within the
 * grace it stays, for a push may be under way that takes long; not where a deleted manifest names it, for then it
 * belongs to an image that was whole.
 */
async function reviewLink(context: CommandContext, entry: Entry, tally: Tally): Promise<void> {
  const { sql, tick, ticks } = context;
  const { repository_id: repositoryId, digest } = entry;
  const link = await sql.get<{ found: number }>(
    'select 1 as found from link where repository_id = ? and digest = ? {for update skip locked}',
    repositoryId,
    digest,
  );
  if (link === undefined) {
    const locked = await sql.get<{ found: number }>(
      'select 1 as found from link where repository_id = ? and digest = ?',
      repositoryId,
      digest,
    );
    return locked === undefined ? drop(context, entry) : postpone(context, entry, tick + 1);
  }
  // A new statement: it sees what was committed before the lock was had.
  const facts = await sql.get<LinkFacts>(LINK_FACTS, digest, digest, repositoryId, repositoryId);
  if (facts?.named === 0) return drop(context, entry);
  const activeUntil = (facts?.active_tick ?? 0) + ticks.grace;
  const isNamedByNone = facts === undefined || facts.named === null;
  if (isNamedByNone && facts?.gone === 0 && activeUntil > tick) return postpone(context, entry, activeUntil);
  if ((await findHold(context, repositoryId, { digest })) !== undefined)
    return postpone(context, entry, tick + ticks.grace);
  await sql.run('delete from link where repository_id = ? and digest = ?', repositoryId, digest);
  await addUsage(sql, repositoryId, -(facts?.size ?? 0), 0);
  await drop(context, entry);
  tally.unlinked++;
  if (facts?.gone === 0) tally.touched.add(facts.name);
  // The row is looked at in the same transaction. Of two that take a blob's last links at once, the one that locks the
  // row later sees the other's link gone; who does not get the lock leaves an entry for the next review.
  await reviewRow(context, digest, tally, false);
}

/** What the review of a link asks. `named`: the least `deleted_tick` of the manifests that name it, 0 where one is not deleted. */
interface LinkFacts {
  readonly named: number | null;
  readonly name: RepositoryName;
  readonly gone: number;
  readonly active_tick: number;
  readonly size: number | null;
}

const LINK_FACTS = `select p.name, p.gone, p.active_tick, (select b.size from blob b where b.digest = ?) as size,
  (select min(m.deleted_tick) from reference r join manifest m on m.id = r.manifest_id
   where r.digest = ? and r.repository_id = ? and r.is_child = 0) as named
  from repository p where p.id = ?`;

/** A row goes when nothing names it and no lease runs; its key is dead for ever then. `queued`: the review has an entry. */
async function reviewRow(context: CommandContext, digest: Uint8Array, tally: Tally, queued = true): Promise<void> {
  const { sql, tick, ticks } = context;
  const entry = { repository_id: 0, digest };
  const later = (due: number): Promise<void> =>
    queued ? postpone(context, entry, due) : queueReview(context, 0, digest, due);
  const over = async (): Promise<void> => {
    if (queued) await drop(context, entry);
  };
  const row = await sql.get<{
    state: string;
    size: number | null;
    n: number | null;
    stored: number;
    lease_tick: number;
  }>('select state, size, n, stored, lease_tick from blob where digest = ? {for update skip locked}', digest);
  if (row === undefined) {
    const locked = await sql.get<{ found: number }>('select 1 as found from blob where digest = ?', digest);
    return locked === undefined ? over() : later(tick + 1);
  }
  if (row.state === 'incoming' && row.lease_tick >= tick) return later(row.lease_tick + 1);
  if (await isNamed(context, digest)) {
    if (row.state === 'incoming') {
      await killKey(context, digest, row.n ?? 0);
      await sql.run("update blob set state = 'absent', n = null, lease_tick = 0 where digest = ?", digest);
    }
    return over();
  }
  if (await isHeld(context, digest)) return later(tick + ticks.grace);
  await sql.run('delete from content where digest = ?', digest);
  await sql.run('delete from blob where digest = ?', digest);
  if (row.n !== null) await killKey(context, digest, row.n, row.stored === 1 ? row.size : 0);
  await over();
  tally.condemned++;
  if (row.stored === 1) tally.bytes += row.size ?? 0;
}

async function isNamed({ sql }: CommandContext, digest: Uint8Array): Promise<boolean> {
  const row = await sql.get<{ found: number }>(
    `select 1 as found where exists (select 1 from link where digest = ?)
       or exists (select 1 from reference where digest = ?) or exists (select 1 from manifest where digest = ?)`,
    digest,
    digest,
    digest,
  );
  return row !== undefined;
}

async function isHeld({ sql, now }: CommandContext, digest: Uint8Array): Promise<boolean> {
  const row = await sql.get<{ found: number }>(
    'select 1 as found from hold where digest = ? and (until_at is null or until_at > ?) limit 1',
    digest,
    now,
  );
  return row !== undefined;
}
