/**
 * The review of many entries in one transaction, for a database over a network: the same decisions as those of
 * `gc-review.ts`, each for all entries in one statement.
 *
 * It holds many locks, so it never waits for one: a row that somebody else has locked is left out, and nothing is
 * inserted under a key that another transaction may be inserting. So it takes part in no deadlock, and whoever waits
 * for it waits for these few statements. What would need more than that is left untouched, to be reviewed one by one:
 * rows that a push is filling, and what a hold in another repository protects.
 */
import type { CommandContext } from '../../database/database.ts';
import { together } from '../../local/commands/rows.ts';
import type { RepositoryName } from '../../oci/names.ts';

/** What is due: the link of a digest in a repository, or with repository 0 the blob's row. */
export interface Entry {
  readonly repository_id: number;
  readonly digest: Uint8Array;
}

/** What was done. */
export interface Many {
  readonly entries: number;
  readonly unlinked: number;
  readonly condemned: number;
  readonly bytes: number;
  /** Entries that were not touched, to be reviewed one by one. */
  readonly left: readonly Entry[];
  readonly touched: readonly RepositoryName[];
}

/** A list is one parameter: numbers, or digests in hex, joined by commas. */
const PAIRS = `(select r, decode(h, 'hex') as d from unnest(string_to_array(?, ',')::bigint[], string_to_array(?, ',')) as pair (r, h)) e`;
const DIGESTS = `(select decode(h, 'hex') as d from unnest(string_to_array(?, ',')) as one (h)) e`;
const HELD = '(h.until_at is null or h.until_at > ?)';

const DUE = `select repository_id, digest from gc_queue where due_tick <= ? order by due_tick limit ? for update skip locked`;
const LOCK_LINKS = `select l.repository_id, l.digest from ${PAIRS} join link l on l.repository_id = e.r and l.digest = e.d
  for update of l skip locked`;
/** `named`: the least `deleted_tick` of the manifests that name it there, 0 where one is not deleted. `kept`: a hold anywhere names it. */
const FACTS = `select e.r as repository_id, e.d as digest, p.name, p.gone, p.active_tick,
  exists (select 1 from link l where l.repository_id = e.r and l.digest = e.d) as linked,
  (select min(m.deleted_tick) from reference f join manifest m on m.id = f.manifest_id
   where f.digest = e.d and f.repository_id = e.r and f.is_child = 0) as named,
  exists (select 1 from hold h where ${HELD} and ((h.repository_id = e.r and h.tag is null and h.digest is null)
    or ((h.repository_id = e.r or h.repository_id is null) and h.digest = e.d))) as held,
  exists (select 1 from hold h where ${HELD} and h.digest = e.d) as kept
  from ${PAIRS} left join repository p on p.id = e.r`;
const LOCK_BLOBS = `select b.digest, b.state, b.size, b.n, b.stored from ${DIGESTS} join blob b on b.digest = e.d
  for update of b skip locked`;
/** Of rows that are not locked: whether they are there, and whether a hold anywhere names them. */
const ROW_FACTS = `select e.d as digest, exists (select 1 from blob b where b.digest = e.d) as there,
  exists (select 1 from hold h where ${HELD} and h.digest = e.d) as kept from ${DIGESTS}`;
const UNLINK = `delete from link l using ${PAIRS} where l.repository_id = e.r and l.digest = e.d`;
const UNNAMED = `select e.d as digest from ${DIGESTS} where not exists (select 1 from link l where l.digest = e.d)
  and not exists (select 1 from reference f where f.digest = e.d) and not exists (select 1 from manifest m where m.digest = e.d)`;
const DROP_CONTENT = `delete from content c using ${DIGESTS} where c.digest = e.d`;
const KILL = `insert into dead_key (digest, n, tick, size)
  select b.digest, b.n, ?, case when b.stored = 1 then b.size else 0 end from ${DIGESTS} join blob b on b.digest = e.d where b.n is not null
  on conflict (digest, n) do update set tick = excluded.tick, size = excluded.size, confirmed = 0`;
const DROP_ROWS = `delete from blob b using ${DIGESTS} where b.digest = e.d`;
const USAGE = `insert into usage_delta (repository_id, bytes, manifests)
  select r, s, 0 from unnest(string_to_array(?, ',')::bigint[], string_to_array(?, ',')::bigint[]) as change (r, s)`;
const DROP_ENTRIES = `delete from gc_queue q using ${PAIRS} where q.repository_id = e.r and q.digest = e.d`;
const POSTPONE = `update gc_queue q set due_tick = e.t from (select r, decode(h, 'hex') as d, t
    from unnest(string_to_array(?, ',')::bigint[], string_to_array(?, ','), string_to_array(?, ',')::bigint[]) as later (r, h, t)) e
  where q.repository_id = e.r and q.digest = e.d`;

interface Facts extends Entry {
  readonly name: RepositoryName | null;
  readonly gone: number;
  readonly active_tick: number;
  readonly linked: number;
  readonly named: number | null;
  readonly held: number;
  readonly kept: number;
}

interface Row {
  readonly digest: Uint8Array;
  readonly state: string;
  readonly size: number | null;
  readonly n: number | null;
  readonly stored: number;
}

const hex = (digest: Uint8Array): string => Buffer.from(digest).toString('hex');
const keyOf = ({ repository_id, digest }: Entry): string => `${repository_id} ${hex(digest)}`;
const list = (values: readonly (string | number)[]): string => values.join(',');
const pairs = (entries: readonly Entry[]): [string, string] => [
  list(entries.map(({ repository_id }) => repository_id)),
  list(entries.map(({ digest }) => hex(digest))),
];
const digestsOf = (entries: readonly { readonly digest: Uint8Array }[]): string =>
  [...new Set(entries.map(({ digest }) => hex(digest)))].join();

/** Reviews at most `limit` due entries. PostgreSQL only. */
export async function reviewMany({ sql, tick, ticks, now }: CommandContext, limit: number): Promise<Many> {
  const due = await sql.all<Entry>(DUE, tick, limit);
  if (due.length === 0) return { entries: 0, unlinked: 0, condemned: 0, bytes: 0, left: [], touched: [] };
  const done: Entry[] = [];
  const later: (Entry & { readonly due: number })[] = [];
  const left: Entry[] = [];

  // The links. Who makes a manifest name one locks it first, so what is found behind the lock stays true.
  const ofLinks = due.filter(({ repository_id }) => repository_id !== 0);
  let leaving: Facts[] = [];
  if (ofLinks.length > 0) {
    const locked = new Set((await sql.all<Entry>(LOCK_LINKS, ...pairs(ofLinks))).map(keyOf));
    for (const one of await sql.all<Facts>(FACTS, now, now, ...pairs(ofLinks))) {
      const activeUntil = (one.active_tick ?? 0) + ticks.grace;
      if (!locked.has(keyOf(one))) {
        if (one.linked === 1) later.push({ ...one, due: tick + 1 });
        else done.push(one);
      } else if (one.named === 0) done.push(one);
      else if (one.named === null && one.gone === 0 && activeUntil > tick) later.push({ ...one, due: activeUntil });
      else if (one.held === 1) later.push({ ...one, due: tick + ticks.grace });
      else if (one.kept === 1) left.push(one);
      else leaving.push(one);
    }
  }

  // The rows, of entries of their own and of links that go.
  const ofRows = due.filter(({ repository_id }) => repository_id === 0);
  const rows = new Map<string, Row>();
  const busy = new Map<string, { readonly there: number; readonly kept: number }>();
  const wanted = digestsOf([...leaving, ...ofRows]);
  if (wanted !== '') {
    for (const row of await sql.all<Row>(LOCK_BLOBS, wanted)) rows.set(hex(row.digest), row);
    if (ofRows.length > 0)
      for (const { digest, ...facts } of await sql.all<Entry & { there: number; kept: number }>(
        ROW_FACTS,
        now,
        digestsOf(ofRows),
      ))
        busy.set(hex(digest), facts);
  }
  const isSettled = (row: Row | undefined): row is Row => row !== undefined && row.state !== 'incoming';
  left.push(...leaving.filter(({ digest }) => !isSettled(rows.get(hex(digest)))));
  leaving = leaving.filter(({ digest }) => isSettled(rows.get(hex(digest))));
  const looked: Entry[] = [];
  for (const entry of ofRows) {
    const row = rows.get(hex(entry.digest));
    const facts = busy.get(hex(entry.digest));
    if (row === undefined) {
      if (facts?.there === 1) later.push({ ...entry, due: tick + 1 });
      else done.push(entry);
    } else if (!isSettled(row) || facts?.kept === 1) left.push(entry);
    else {
      looked.push(entry);
      done.push(entry);
    }
  }

  const usage = new Map<number, number>();
  for (const { repository_id, digest } of leaving)
    usage.set(repository_id, (usage.get(repository_id) ?? 0) - (rows.get(hex(digest))?.size ?? 0));
  done.push(...leaving);
  const candidates = digestsOf([...leaving, ...looked]);
  // A new statement behind the locks: of two that take a blob's last links at once, the one that locks the row later
  // sees the other's link gone.
  const [, going] = await together(
    leaving.length === 0 ? undefined : sql.run(UNLINK, ...pairs(leaving)),
    candidates === '' ? [] : sql.all<{ digest: Uint8Array }>(UNNAMED, candidates),
  );
  const gone = digestsOf(going);
  await together(
    ...(gone === '' ? [] : [sql.run(DROP_CONTENT, gone), sql.run(KILL, tick, gone), sql.run(DROP_ROWS, gone)]),
    ...(usage.size === 0 ? [] : [sql.run(USAGE, list([...usage.keys()]), list([...usage.values()]))]),
    ...(done.length === 0 ? [] : [sql.run(DROP_ENTRIES, ...pairs(done))]),
    ...(later.length === 0 ? [] : [sql.run(POSTPONE, ...pairs(later), list(later.map((one) => one.due)))]),
  );
  const went = going.map(({ digest }) => rows.get(hex(digest)));
  return {
    entries: due.length,
    unlinked: leaving.length,
    condemned: went.length,
    bytes: went.reduce((sum, row) => sum + (row?.stored === 1 ? (row.size ?? 0) : 0), 0),
    left,
    touched: [...new Set(leaving.flatMap(({ name, gone: isGone }) => (isGone === 0 && name !== null ? [name] : [])))],
  };
}
