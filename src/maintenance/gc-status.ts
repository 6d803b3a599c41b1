/** What waits for the collector, and what would go now: reads only, for people, the kill switch and the dry run. */
import type { Database } from '../database/database.ts';
import { digestFromBytes } from '../oci/digest.ts';
import type { Digest } from '../oci/names.ts';

/** Counts stop here, so that asking never costs much. */
const MOST = 1_000_000;

/** How the collector stands. */
export interface GcStatus {
  readonly tick: number;
  /** Blobs there are. */
  readonly blobs: number;
  /** Reviews that wait in all, and those that are due. */
  readonly queued: number;
  readonly due: number;
  /** Deleted tags and manifests that can still be brought back. */
  readonly tagTombstones: number;
  readonly manifestTombstones: number;
  /** Keys that were given up and may still have bytes. */
  readonly deadKeys: number;
  /** Keys in storage that no row names, seen once. */
  readonly orphans: number;
  readonly holds: number;
  /** Ticks since the last sweep of storage began; absent before the first. */
  readonly sweptTicksAgo?: number;
}

/** A blob that would go if the collector ran now. */
export interface Candidate {
  readonly digest: Digest;
  readonly bytes: number;
}

/** What would go. `more`: there are more than were asked for. */
export interface Preview {
  readonly blobs: readonly Candidate[];
  readonly bytes: number;
  readonly more: boolean;
}

async function count(database: Database, text: string, ...values: number[]): Promise<number> {
  const row = await database.query.get<{ n: number }>(text, ...values);
  return Number(row?.n ?? 0);
}

/** Blobs there are; counted to the end. */
export function countBlobs(database: Database): Promise<number> {
  return count(database, 'select count(*) as n from blob');
}

/** Counts everything that waits. */
export async function gcStatus(database: Database): Promise<GcStatus> {
  const tick = await count(database, 'select tick as n from gc_clock where id = 1');
  const swept = await database.query.get<{ since_tick: number }>(
    "select since_tick from lease where name = 'gc.sweep' and since_tick > 0",
  );
  return {
    tick,
    blobs: await countBlobs(database),
    queued: await count(database, `select count(*) as n from (select 1 as one from gc_queue limit ${MOST}) as bounded`),
    due: await count(
      database,
      `select count(*) as n from (select 1 as one from gc_queue where due_tick <= ? limit ${MOST}) as bounded`,
      tick,
    ),
    tagTombstones: await count(database, 'select count(*) as n from tag where deleted_tick > 0'),
    manifestTombstones: await count(database, 'select count(*) as n from manifest where deleted_tick > 0'),
    deadKeys: await count(
      database,
      `select count(*) as n from (select 1 as one from dead_key where confirmed = 0 limit ${MOST}) as bounded`,
    ),
    orphans: await count(database, 'select count(*) as n from orphan'),
    holds: await count(database, 'select count(*) as n from hold'),
    ...(swept === undefined ? {} : { sweptTicksAgo: tick - swept.since_tick }),
  };
}

/**
 * The blobs that the reviews that are due would give up, at most `limit`: nothing refers to them, and each of their
 * links is due, in a repository that is not in use, or will not be kept for another reason.
 */
export async function gcPreview(database: Database, limit: number, now: number): Promise<Preview> {
  const { grace } = database.ticks;
  const rows = await database.query.all<{ digest: Uint8Array; size: number | null }>(
    `select b.digest, b.size from (select distinct q.digest from gc_queue q, gc_clock c where q.due_tick <= c.tick) as due
     join blob b on b.digest = due.digest
     join gc_clock c on c.id = 1
     where not (b.state = 'incoming' and b.lease_tick >= c.tick)
       and not exists (select 1 from reference r where r.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)
       and not exists (select 1 from hold h where h.digest = b.digest and (h.until_at is null or h.until_at > ?))
       and not exists (
         select 1 from link l join repository p on p.id = l.repository_id
         left join gc_queue q on q.repository_id = l.repository_id and q.digest = l.digest
         where l.digest = b.digest
           and (q.due_tick is null or q.due_tick > c.tick or (p.gone = 0 and p.active_tick > c.tick - ?)
             or exists (select 1 from hold h where h.repository_id = p.id and h.tag is null and h.digest is null
               and (h.until_at is null or h.until_at > ?))))
     limit ?`,
    now,
    grace,
    now,
    limit + 1,
  );
  const blobs = rows.slice(0, limit).map((row) => ({ digest: digestFromBytes(row.digest), bytes: row.size ?? 0 }));
  return { blobs, bytes: blobs.reduce((sum, blob) => sum + blob.bytes, 0), more: rows.length > limit };
}
