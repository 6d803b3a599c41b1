/** Reads of holds. */
import type { Database } from '../../database/database.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';
import { type Actor, actorOf } from './history.ts';

/** A hold as it is shown. Without tag and digest it is on the whole repository. Times are wall milliseconds. */
export interface HoldView {
  /** UUID. */
  readonly id: string;
  readonly repository: RepositoryName;
  readonly tag?: Tag;
  readonly digest?: Digest;
  readonly reason: string;
  readonly actor: Actor;
  readonly until?: number;
  readonly createdAt: number;
  /** False once `until` has passed: then it holds nothing any more. */
  readonly active: boolean;
}

/** A page of holds; `next` and `after` are the sequence of the row. */
export interface HoldPage {
  readonly items: readonly HoldView[];
  readonly next?: number;
}

interface Row {
  readonly id: number;
  readonly uid: string;
  readonly repository: RepositoryName;
  readonly tag: Tag | null;
  readonly digest: Uint8Array | null;
  readonly reason: string;
  readonly actor: string;
  readonly account: string | null;
  readonly until_at: number | null;
  readonly created_at: number;
}

type Queries = Pick<Database, 'query'>;

const COLUMNS = `select h.id, h.uid, r.name as repository, h.tag, h.digest, h.reason, h.actor, a.name as account,
    h.until_at, h.created_at
  from hold h join repository r on r.id = h.repository_id and r.gone = 0
  left join account a on a.uid = substr(h.actor, 6)`;
/** Rows looked at for one page of the holds of all repositories: a page may be short, and still have a next one. */
const SCANNED = 5_000;
const SCAN = 1_000;

/** The holds in one repository, oldest first. */
export async function readHolds(
  { query }: Queries,
  repository: RepositoryName,
  page: { readonly limit: number; readonly after?: number },
  now: number,
): Promise<HoldPage> {
  const rows = await query.all<Row>(
    `${COLUMNS} where r.name = ? and h.id > ? order by h.id limit ?`,
    repository,
    page.after ?? 0,
    page.limit + 1,
  );
  const items = rows.slice(0, page.limit).map((row) => viewOf(row, now));
  return rows.length > page.limit ? { items, next: rows[page.limit - 1]!.id } : { items };
}

/** The holds of every repository that `visible` lets through, oldest first. */
export async function readAllHolds(
  { query }: Queries,
  visible: (repositories: readonly RepositoryName[]) => Promise<ReadonlySet<RepositoryName>>,
  page: { readonly limit: number; readonly after?: number },
  now: number,
): Promise<HoldPage> {
  const items: HoldView[] = [];
  let after = page.after ?? 0;
  for (let scanned = 0; scanned < SCANNED; scanned += SCAN) {
    const rows = await query.all<Row>(`${COLUMNS} where h.id > ? order by h.id limit ?`, after, SCAN);
    const seen = await visible([...new Set(rows.map((row) => row.repository))]);
    for (const row of rows) {
      if (!seen.has(row.repository)) continue;
      if (items.length === page.limit) return { items, next: after };
      items.push(viewOf(row, now));
      after = row.id;
    }
    if (rows.length < SCAN) return { items };
    after = rows[rows.length - 1]!.id;
  }
  return { items, next: after };
}

/** The hold of that id, or undefined. */
export async function readHold({ query }: Queries, id: string, now: number): Promise<HoldView | undefined> {
  const row = await query.get<Row>(`${COLUMNS} where h.uid = ?`, id);
  return row === undefined ? undefined : viewOf(row, now);
}

function viewOf(row: Row, now: number): HoldView {
  return {
    id: row.uid,
    repository: row.repository,
    ...(row.tag === null ? {} : { tag: row.tag }),
    ...(row.digest === null ? {} : { digest: digestFromBytes(row.digest) }),
    reason: row.reason,
    actor: actorOf(row.actor, row.account),
    ...(row.until_at === null ? {} : { until: row.until_at }),
    createdAt: row.created_at,
    active: row.until_at === null || row.until_at > now,
  };
}
