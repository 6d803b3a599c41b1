/** Reads of what was deleted and can still be brought back: first tags, oldest first, then manifests by digest. */
import type { Database } from '../../database/database.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';
import { type Actor, actorOf } from './history.ts';

/** A tag or manifest in its undelete window. */
export interface DeletedView {
  readonly kind: 'tag' | 'manifest';
  readonly tag?: Tag;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Wall milliseconds and who, where the deletion of a tag recorded them. */
  readonly at?: number;
  readonly actor?: Actor;
  /** Ticks until it may go; 0: it goes when the collector comes by. */
  readonly ticksLeft: number;
  /** Whether a hold keeps it beyond that. */
  readonly held: boolean;
}

/** Where a page ends: at a tag's tombstone, or at a manifest (hexadecimal, as the database has it). */
export type DeletedPosition = readonly ['tag', number] | readonly ['manifest', string];

interface Row {
  readonly gone: number;
  readonly name: Tag;
  readonly digest: Uint8Array;
  readonly media_type: string;
  readonly deleted_tick: number;
  readonly at: number | null;
  readonly actor: string | null;
  readonly account: string | null;
  readonly held: number;
}

/** A page. `now`: wall milliseconds, for holds that end. */
export async function readDeleted(
  { query, ticks }: Pick<Database, 'query' | 'ticks'>,
  repository: RepositoryName,
  page: { readonly limit: number; readonly after?: DeletedPosition },
  now: number,
): Promise<{ readonly items: readonly DeletedView[]; readonly next?: DeletedPosition }> {
  const tick = (await query.get<{ tick: number }>('select tick from gc_clock where id = 1'))?.tick ?? 1;
  const left = (deletedTick: number): number => Math.max(0, deletedTick + ticks.undelete + 1 - tick);
  const items: DeletedView[] = [];
  let next: DeletedPosition | undefined;
  if (page.after?.[0] !== 'manifest') {
    const rows = await query.all<Row>(
      `select t.gone, t.name, m.digest, m.media_type, t.deleted_tick, e.at, e.actor, a.name as account,
         case when exists (select 1 from hold h where h.repository_id = r.id and (h.until_at is null or h.until_at > ?)
           and (h.tag = t.name or (h.tag is null and h.digest is null))) then 1 else 0 end as held
       from repository r join tag t on t.repository_id = r.id and t.gone > ? join manifest m on m.id = t.manifest_id
       left join tag_event e on e.id = t.gone left join account a on a.uid = substr(e.actor, 6)
       where r.gone = 0 and r.name = ? order by t.gone limit ?`,
      now,
      page.after?.[1] ?? 0,
      repository,
      page.limit + 1,
    );
    for (const row of rows.slice(0, page.limit)) items.push({ kind: 'tag', tag: row.name, ...viewOf(row, left) });
    if (rows.length > page.limit) next = ['tag', rows[page.limit - 1]!.gone];
    else if (rows.length === page.limit) next = ['manifest', ''];
  }
  if (items.length < page.limit) {
    const after = page.after?.[0] === 'manifest' ? page.after[1] : '';
    const rows = await query.all<Row>(
      `select m.digest, m.media_type, m.deleted_tick, null as at, null as actor, null as account,
         case when exists (select 1 from hold h where (h.until_at is null or h.until_at > ?)
           and ((h.repository_id = r.id and h.tag is null and h.digest is null)
             or ((h.repository_id = r.id or h.repository_id is null) and h.digest = m.digest))) then 1 else 0 end as held
       from repository r join manifest m on m.repository_id = r.id and m.deleted_tick > 0 and m.digest > ?
       where r.gone = 0 and r.name = ? order by m.digest limit ?`,
      now,
      new Uint8Array(Buffer.from(after, 'hex')),
      repository,
      page.limit - items.length + 1,
    );
    const room = page.limit - items.length;
    for (const row of rows.slice(0, room)) items.push({ kind: 'manifest', ...viewOf(row, left) });
    next = rows.length > room ? ['manifest', Buffer.from(rows[room - 1]!.digest).toString('hex')] : undefined;
  }
  return next === undefined ? { items } : { items, next };
}

function viewOf(row: Row, left: (deletedTick: number) => number): Omit<DeletedView, 'kind' | 'tag'> {
  return {
    digest: digestFromBytes(row.digest),
    mediaType: row.media_type,
    ...(row.at === null ? {} : { at: row.at }),
    ...(row.actor === null ? {} : { actor: actorOf(row.actor, row.account) }),
    ticksLeft: left(row.deleted_tick),
    held: row.held === 1,
  };
}
