/** How scrub and healing stand, and what was found: reads only. */
import type { Database } from '../database/database.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestFromBytes } from '../oci/digest.ts';
import type { Digest } from '../oci/names.ts';

/** The scrub's round, and the damage there is. Times are wall milliseconds. */
export interface ScrubStatus {
  /** Counted from 1; 0: none has begun. */
  readonly round: number;
  readonly running: boolean;
  readonly begunAt?: number;
  readonly endedAt?: number;
  /** What this round has looked at, and what there was when it began. */
  readonly blobs: number;
  readonly bytes: number;
  readonly totalBlobs: number;
  readonly totalBytes: number;
  /** What this round found, and what it could not read though storage answered. */
  readonly damaged: number;
  readonly unreadable: number;
  /** Why it looks at nothing more, where it has stopped itself. */
  readonly halted?: string;
  /** Blobs that are damaged at this moment. */
  readonly open: number;
  /** Blobs that were healed, of the records that are kept (the last 5,000). */
  readonly healed: number;
}

/** A record of damage. Times are wall milliseconds. */
export interface DamageRecord {
  readonly id: number;
  readonly digest: Digest;
  /** The key in storage that had the damaged bytes. */
  readonly key: string;
  readonly size: number;
  readonly foundBy: string;
  readonly why: string;
  readonly foundAt: number;
  /** `gone`: the collector removed the blob. */
  readonly state: 'open' | 'healed' | 'gone';
  readonly closedAt?: number;
  /** A source's name, `database`, `storage` or `push`. */
  readonly healedFrom?: string;
  /** How often sources were asked, what came of the last time, and when they are asked next. */
  readonly attempts: number;
  readonly outcome?: string;
  readonly nextAt?: number;
}

interface StatusRow {
  readonly round: number;
  readonly begun_at: number;
  readonly ended_at: number | null;
  readonly blobs: number;
  readonly bytes: number;
  readonly damaged: number;
  readonly unreadable: number;
  readonly total_blobs: number;
  readonly total_bytes: number;
  readonly halted: string | null;
}

/** Blobs that are damaged at this moment. */
export async function countDamaged(database: Pick<Database, 'query'>): Promise<number> {
  const row = await database.query.get<{ n: number }>("select count(*) as n from damage where state = 'open'");
  return Number(row?.n ?? 0);
}

/** How it stands. */
export async function scrubStatus(database: Pick<Database, 'query'>): Promise<ScrubStatus> {
  const row = await database.query.get<StatusRow>(
    `select round, begun_at, ended_at, blobs, bytes, damaged, unreadable, total_blobs, total_bytes, halted
     from scrub where id = 1`,
  );
  const healed = await database.query.get<{ n: number }>("select count(*) as n from damage where state = 'healed'");
  const begun = row !== undefined && row.round > 0;
  return {
    round: row?.round ?? 0,
    running: begun && row.ended_at === null,
    ...(begun ? { begunAt: row.begun_at } : {}),
    ...(begun && row.ended_at !== null ? { endedAt: row.ended_at } : {}),
    blobs: row?.blobs ?? 0,
    bytes: row?.bytes ?? 0,
    totalBlobs: row?.total_blobs ?? 0,
    totalBytes: row?.total_bytes ?? 0,
    damaged: row?.damaged ?? 0,
    unreadable: row?.unreadable ?? 0,
    ...(row === undefined || row.halted === null ? {} : { halted: row.halted }),
    open: await countDamaged(database),
    healed: Number(healed?.n ?? 0),
  };
}

interface DamageRow {
  readonly id: number;
  readonly digest: Uint8Array;
  readonly n: number;
  readonly size: number;
  readonly found_by: string;
  readonly why: string;
  readonly found_at: number;
  readonly state: DamageRecord['state'];
  readonly closed_at: number | null;
  readonly healed_from: string | null;
  readonly attempts: number;
  readonly next_at: number;
  readonly outcome: string | null;
}

const COLUMNS =
  'id, digest, n, size, found_by, why, found_at, state, closed_at, healed_from, attempts, next_at, outcome';
const ALL = `select ${COLUMNS} from damage where id < ? order by id desc limit ?`;
const OPEN = `select ${COLUMNS} from damage where id < ? and state = 'open' order by id desc limit ?`;

/** Records of damage, the newest first. `after`: the `next` of the page before. `limit`: 1 to 1,000. `open`: only of what is damaged now. */
export async function listDamaged(
  database: Pick<Database, 'query'>,
  { after = Number.MAX_SAFE_INTEGER, limit, open = false }: { after?: number; limit: number; open?: boolean },
): Promise<{ readonly items: readonly DamageRecord[]; readonly next?: number }> {
  const rows = await database.query.all<DamageRow>(open ? OPEN : ALL, after, limit + 1);
  const items = rows.slice(0, limit).map(recordOf);
  return { items, ...(rows.length > limit ? { next: items[items.length - 1]!.id } : {}) };
}

function recordOf(row: DamageRow): DamageRecord {
  const digest = digestFromBytes(row.digest);
  return {
    id: row.id,
    digest,
    key: blobKey(digest, row.n),
    size: row.size,
    foundBy: row.found_by,
    why: row.why,
    foundAt: row.found_at,
    state: row.state,
    ...(row.closed_at === null ? {} : { closedAt: row.closed_at }),
    ...(row.healed_from === null ? {} : { healedFrom: row.healed_from }),
    attempts: row.attempts,
    ...(row.outcome === null ? {} : { outcome: row.outcome }),
    ...(row.state === 'open' ? { nextAt: row.next_at } : {}),
  };
}
