/** Reads of tag history: every move of a tag, newest first, with who did it, when and from where. */
import type { Database } from '../../database/database.ts';
import { digestFromBytes, digestToBytes } from '../../oci/digest.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';

/** Who did something: the principal's id, and a name where one is known now. */
export interface Actor {
  readonly id: string;
  readonly name?: string;
}

/** From where: as it was recorded with the change. */
export interface RecordedOrigin {
  readonly requestId: string;
  readonly address?: string;
  readonly host?: string;
  readonly userAgent?: string;
}

/** One line. `from` absent: it was made; `to` absent: it was deleted. */
export interface HistoryEntry {
  readonly sequence: number;
  readonly tag: Tag;
  readonly kind: 'moved' | 'deleted' | 'restored' | 'rolled-back';
  readonly from?: Digest;
  readonly to?: Digest;
  /** Wall milliseconds. For display: the order is the sequence's. */
  readonly at: number;
  readonly actor: Actor;
  readonly origin: RecordedOrigin;
}

interface Row {
  readonly id: number;
  readonly name: Tag;
  readonly kind: HistoryEntry['kind'];
  readonly from_digest: Uint8Array | null;
  readonly to_digest: Uint8Array | null;
  readonly actor: string;
  readonly account: string | null;
  readonly origin: string;
  readonly at: number;
}

type Queries = Pick<Database, 'query'>;

const COLUMNS = `e.id, e.name, e.kind, e.from_digest, e.to_digest, e.actor, a.name as account, e.origin, e.at
  from repository r join tag_event e on e.repository_id = r.id
  left join account a on a.uid = substr(e.actor, 6)
  where r.gone = 0 and r.name = ?`;
const HTPASSWD = 'user:htpasswd:';

/** A page of a tag's history, or of the whole repository's; `before`: exclusive sequence. */
export async function readHistory(
  { query }: Queries,
  repository: RepositoryName,
  tag: Tag | undefined,
  page: { readonly limit: number; readonly after?: number },
): Promise<{ readonly items: readonly HistoryEntry[]; readonly next?: number }> {
  const before = page.after ?? Number.MAX_SAFE_INTEGER;
  const rows =
    tag === undefined
      ? await query.all<Row>(
          `select ${COLUMNS} and e.id < ? order by e.id desc limit ?`,
          repository,
          before,
          page.limit + 1,
        )
      : await query.all<Row>(
          `select ${COLUMNS} and e.name = ? and e.id < ? order by e.id desc limit ?`,
          repository,
          tag,
          before,
          page.limit + 1,
        );
  const items = rows.slice(0, page.limit).map(entryOf);
  return rows.length > page.limit ? { items, next: items[items.length - 1]!.sequence } : { items };
}

function entryOf(row: Row): HistoryEntry {
  const { id, ...request } = JSON.parse(row.origin) as {
    id?: string;
    address?: string;
    host?: string;
    userAgent?: string;
  };
  const { address, host, userAgent } = request;
  return {
    sequence: row.id,
    tag: row.name,
    kind: row.kind,
    ...(row.from_digest === null ? {} : { from: digestFromBytes(row.from_digest) }),
    ...(row.to_digest === null ? {} : { to: digestFromBytes(row.to_digest) }),
    at: row.at,
    actor: actorOf(row.actor, row.account),
    origin: {
      requestId: id ?? '',
      ...(address === undefined ? {} : { address }),
      ...(host === undefined ? {} : { host }),
      ...(userAgent === undefined ? {} : { userAgent }),
    },
  };
}

/** An actor with the name of its account, or of its line in the htpasswd file. */
export function actorOf(id: string, account: string | null): Actor {
  if (account !== null) return { id, name: account };
  return id.startsWith(HTPASSWD) ? { id, name: id.slice(HTPASSWD.length) } : { id };
}

/** Where a tag was after the event of that sequence: null where that deleted it, undefined where it is not the tag's. */
export async function digestAfter(
  { query }: Queries,
  repository: RepositoryName,
  tag: Tag,
  sequence: number,
): Promise<Digest | null | undefined> {
  const row = await query.get<{ to_digest: Uint8Array | null }>(
    `select e.to_digest from repository r join tag_event e on e.repository_id = r.id
     where r.gone = 0 and r.name = ? and e.name = ? and e.id = ?`,
    repository,
    tag,
    sequence,
  );
  if (row === undefined) return undefined;
  return row.to_digest === null ? null : digestFromBytes(row.to_digest);
}

/** Whether the tag ever named that manifest. */
export async function wasAt(
  { query }: Queries,
  repository: RepositoryName,
  tag: Tag,
  digest: Digest,
): Promise<boolean> {
  const row = await query.get<{ found: number }>(
    `select 1 as found from repository r join tag_event e on e.repository_id = r.id
     where r.gone = 0 and r.name = ? and e.name = ? and e.to_digest = ? limit 1`,
    repository,
    tag,
    digestToBytes(digest),
  );
  return row !== undefined;
}

/** Where the tag is now. */
export async function digestNow({ query }: Queries, repository: RepositoryName, tag: Tag): Promise<Digest | undefined> {
  const row = await query.get<{ digest: Uint8Array }>(
    `select m.digest from repository r join tag t on t.repository_id = r.id and t.gone = 0 and t.name = ?
     join manifest m on m.id = t.manifest_id where r.gone = 0 and r.name = ?`,
    tag,
    repository,
  );
  return row === undefined ? undefined : digestFromBytes(row.digest);
}
