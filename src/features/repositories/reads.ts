/** What the routes of repositories read. */
import type { Database } from '../../database/database.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';

/** A repository as it is shown. */
export interface RepositoryView {
  readonly id: string;
  readonly name: RepositoryName;
  /** Wall milliseconds. */
  readonly createdAt: number;
  readonly tags: number;
  readonly manifests: number;
  readonly bytes: number;
}

/** The repository that ever had a manifest and is not deleted, or undefined. */
export async function readRepository(
  { query }: Pick<Database, 'query'>,
  name: RepositoryName,
): Promise<RepositoryView | undefined> {
  const row = await query.get<{ id: number; uid: string; created_at: number }>(
    'select id, uid, created_at from repository where gone = 0 and shown = 1 and name = ?',
    name,
  );
  if (row === undefined) return undefined;
  const tags = await query.get<{ n: number }>(
    'select count(*) as n from tag where repository_id = ? and gone = 0',
    row.id,
  );
  const used = await query.get<{ bytes: number; manifests: number }>(
    `select coalesce(sum(bytes), 0) as bytes, coalesce(sum(manifests), 0) as manifests from (
       select bytes, manifests from usage where repository_id = ?
       union all select bytes, manifests from usage_delta where repository_id = ?) as both_parts`,
    row.id,
    row.id,
  );
  return {
    id: row.uid,
    name,
    createdAt: row.created_at,
    tags: Number(tags?.n ?? 0),
    manifests: Math.max(0, Number(used?.manifests ?? 0)),
    bytes: Math.max(0, Number(used?.bytes ?? 0)),
  };
}

/** A tag as it is shown. */
export interface TagView {
  readonly name: Tag;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly size: number;
  readonly updatedAt: number;
}

interface TagRow {
  readonly name: Tag | null;
  readonly digest: Uint8Array;
  readonly media_type: string;
  readonly artifact_type: string | null;
  readonly size: number;
  readonly updated_at: number;
}

/** A page of the live tags, in byte order; undefined where there is no such repository. */
export async function readTags(
  { query }: Pick<Database, 'query'>,
  name: RepositoryName,
  page: { readonly limit: number; readonly after?: string },
): Promise<{ readonly items: readonly TagView[]; readonly next?: string } | undefined> {
  const rows = await query.all<TagRow>(
    `select t.name, m.digest, m.media_type, m.artifact_type, m.size, t.updated_at from repository r
     left join tag t on t.repository_id = r.id and t.gone = 0 and t.name > ?
     left join manifest m on m.id = t.manifest_id
     where r.gone = 0 and r.shown = 1 and r.name = ? order by t.name limit ?`,
    page.after ?? '',
    name,
    page.limit + 1,
  );
  if (rows.length === 0) return undefined;
  const items = rows.slice(0, page.limit).flatMap((row) =>
    row.name === null
      ? []
      : [
          {
            name: row.name,
            digest: digestFromBytes(row.digest),
            mediaType: row.media_type,
            ...(row.artifact_type === null ? {} : { artifactType: row.artifact_type }),
            size: row.size,
            updatedAt: row.updated_at,
          },
        ],
  );
  return rows.length > page.limit ? { items, next: items[items.length - 1]!.name } : { items };
}
