/** Why a blob is still there: everything that keeps a digest, as a person wants to read it. Reads only. */
import type { Database } from '../database/database.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../oci/digest.ts';
import type { BlobKey, BlobState, Digest, RepositoryName } from '../oci/names.ts';

/** Most lines of each kind. */
const MOST = 20;

/** A manifest that names the digest, or is it. `deletedTick`: it can still be brought back. */
export interface NamedBy {
  readonly repository: RepositoryName;
  readonly manifest: Digest;
  readonly tags: readonly string[];
  readonly deletedTick?: number;
}

/** All that is known of a digest. At most 20 of each kind. */
export interface Explanation {
  readonly digest: Digest;
  readonly tick: number;
  /** Absent: no row, so it is not here. */
  readonly blob?: {
    readonly state: BlobState;
    readonly size: number | null;
    readonly key: BlobKey | null;
    readonly stored: boolean;
    readonly inline: boolean;
    /** A push holds its place until this tick. */
    readonly leaseTick?: number;
  };
  /** Repositories where it is linked, and when the link is looked at next; absent: a manifest there names it. */
  readonly links: readonly {
    readonly repository: RepositoryName;
    readonly dueTick?: number;
    readonly active: boolean;
  }[];
  /** Manifests that name it. */
  readonly references: readonly NamedBy[];
  /** Manifests that it is. */
  readonly manifests: readonly NamedBy[];
  readonly holds: readonly { readonly repository?: string; readonly reason: string; readonly actor: string }[];
  /** Uploads under way in the repositories that link it. */
  readonly uploads: number;
  /** When its row is looked at next. */
  readonly rowDueTick?: number;
  /** Keys of it that were given up. */
  readonly deadKeys: readonly { readonly key: BlobKey; readonly tick: number; readonly bytesGone: boolean }[];
  /** One sentence for each reason to stay; empty: it goes at the next review. */
  readonly because: readonly string[];
}

interface ManifestRow {
  readonly id: number;
  readonly name: RepositoryName;
  readonly digest: Uint8Array;
  readonly deleted_tick: number;
}

/** Explains one digest. `now`: wall milliseconds, for holds that end. */
export async function gcExplain(database: Database, digest: Digest, now: number): Promise<Explanation> {
  const { query, ticks } = database;
  const bytes = digestToBytes(digest);
  const tick = (await query.get<{ tick: number }>('select tick from gc_clock where id = 1'))?.tick ?? 1;
  const row = await query.get<{
    state: BlobState;
    size: number | null;
    n: number | null;
    stored: number;
    lease_tick: number;
    inline: number;
  }>(
    `select b.state, b.size, b.n, b.stored, b.lease_tick, case when c.digest is null then 0 else 1 end as inline
     from blob b left join content c on c.digest = b.digest where b.digest = ?`,
    bytes,
  );
  const links = await query.all<{ name: RepositoryName; active_tick: number; due_tick: number | null; gone: number }>(
    `select r.name, r.active_tick, r.gone, q.due_tick from link l join repository r on r.id = l.repository_id
     left join gc_queue q on q.repository_id = l.repository_id and q.digest = l.digest
     where l.digest = ? order by r.name limit ${MOST}`,
    bytes,
  );
  const naming = await query.all<ManifestRow>(
    `select distinct m.id, r.name, m.digest, m.deleted_tick from reference f join manifest m on m.id = f.manifest_id
     join repository r on r.id = m.repository_id where f.digest = ? order by m.deleted_tick, m.id limit ${MOST}`,
    bytes,
  );
  const being = await query.all<ManifestRow>(
    `select m.id, r.name, m.digest, m.deleted_tick from manifest m join repository r on r.id = m.repository_id
     where m.digest = ? order by m.deleted_tick, m.id limit ${MOST}`,
    bytes,
  );
  const holds = await query.all<{ name: string | null; reason: string; actor: string }>(
    `select r.name, h.reason, h.actor from hold h left join repository r on r.id = h.repository_id
     where (h.until_at is null or h.until_at > ?) and (h.digest = ?
       or (h.digest is null and h.tag is null and h.repository_id in (select repository_id from link where digest = ?)))
     order by h.id limit ${MOST}`,
    now,
    bytes,
    bytes,
  );
  const uploads = await query.get<{ n: number }>(
    `select count(*) as n from upload where state <> 'closed' and repository_id in (select repository_id from link where digest = ?)`,
    bytes,
  );
  const queued = await query.get<{ due_tick: number }>(
    'select due_tick from gc_queue where repository_id = 0 and digest = ?',
    bytes,
  );
  const dead = await query.all<{ n: number; tick: number; confirmed: number }>(
    `select n, tick, confirmed from dead_key where digest = ? order by n limit ${MOST}`,
    bytes,
  );
  const facts = {
    digest,
    tick,
    ...(row === undefined
      ? {}
      : {
          blob: {
            state: row.state,
            size: row.size,
            key: row.n === null ? null : blobKey(digest, row.n),
            stored: row.stored === 1,
            inline: row.inline === 1,
            ...(row.state === 'incoming' ? { leaseTick: row.lease_tick } : {}),
          },
        }),
    links: links.map((link) => ({
      repository: link.name,
      ...(link.due_tick === null ? {} : { dueTick: link.due_tick }),
      active: link.gone === 0 && link.active_tick > tick - ticks.grace,
    })),
    references: await Promise.all(naming.map((one) => named(database, one))),
    manifests: await Promise.all(being.map((one) => named(database, one))),
    holds: holds.map(({ name, reason, actor }) => ({ ...(name === null ? {} : { repository: name }), reason, actor })),
    uploads: Number(uploads?.n ?? 0),
    ...(queued === undefined ? {} : { rowDueTick: queued.due_tick }),
    deadKeys: dead.map(({ n, tick: died, confirmed }) => ({
      key: blobKey(digest, n),
      tick: died,
      bytesGone: confirmed === 1,
    })),
  };
  return { ...facts, because: reasons(facts) };
}

async function named({ query }: Database, row: ManifestRow): Promise<NamedBy> {
  const tags = await query.all<{ name: string }>(
    `select name from tag where manifest_id = ? and gone = 0 order by name limit ${MOST}`,
    row.id,
  );
  return {
    repository: row.name,
    manifest: digestFromBytes(row.digest),
    tags: tags.map((tag) => tag.name),
    ...(row.deleted_tick === 0 ? {} : { deletedTick: row.deleted_tick }),
  };
}

function reasons(facts: Omit<Explanation, 'because'>): string[] {
  const { blob, tick } = facts;
  if (blob === undefined) return [];
  const because: string[] = [];
  const told = (what: string, { repository, manifest, tags, deletedTick }: NamedBy): string => {
    const tagged = tags.length === 0 ? '' : ` (tagged ${tags.join(', ')})`;
    return deletedTick === undefined
      ? `${what} ${repository}@${manifest}${tagged}`
      : `${what} ${repository}@${manifest}, deleted at tick ${deletedTick} but not yet beyond undelete`;
  };
  for (const one of facts.references) because.push(told('named by', one));
  for (const one of facts.manifests) because.push(told('it is the manifest', one));
  for (const { repository, reason, actor } of facts.holds)
    because.push(`held${repository === undefined ? '' : ` in ${repository}`} by ${actor}: ${reason}`);
  for (const { repository, dueTick, active } of facts.links) {
    if (dueTick !== undefined && dueTick > tick)
      because.push(`linked in ${repository} until its review in ${dueTick - tick} ticks`);
    else if (dueTick !== undefined && active)
      because.push(`linked in ${repository}, which was pushed to within the grace`);
  }
  if (blob.leaseTick !== undefined && blob.leaseTick >= tick)
    because.push(`a push is storing it and has ${blob.leaseTick - tick + 1} ticks left`);
  if (because.length === 0 && facts.rowDueTick !== undefined && facts.rowDueTick > tick)
    because.push(`its review is in ${facts.rowDueTick - tick} ticks`);
  return because;
}
