/** The lists: keyset pages in byte order, read off the request loop, with visibility applied in SQL. */
import type { Value } from '../database/database.ts';
import { matchesGlob } from '../kit/glob.ts';
import { digestFromBytes, digestToBytes, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Descriptor, Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Visibility } from '../registry/call.ts';
import type { BlobSources, Page, PageRequest, RegistryLister } from '../registry/registry.ts';
import type { LocalParts } from './parts.ts';

/** A page of referrers ends before its answer grows beyond this many bytes, at least one entry is on it. */
const REFERRERS_BYTES = 4 * 1024 * 1024;
/** Names that are read at once when patterns have to be matched here. */
const SCAN = 1000;

/** The lists and `sourcesOf`. */
export function localLister(parts: LocalParts): RegistryLister & BlobSources {
  const { database } = parts;
  return {
    async listRepositories(_call, page, visibility = 'all') {
      if (visibility === 'all') return pageOf(await names(page.after ?? '', page.limit + 1), page.limit);
      return scan(page, visibility);
    },
    async listTags(_call, repository, page) {
      const rows = await database.query.all<{ name: Tag | null }>(
        `select t.name from repository r left join tag t on t.repository_id = r.id and t.gone = 0 and t.name > ?
         where r.gone = 0 and r.shown = 1 and r.name = ? order by t.name limit ?`,
        page.after ?? '',
        repository,
        page.limit + 1,
      );
      if (rows.length === 0) {
        throw new RegistryError('NAME_UNKNOWN', 'There is no such repository, or nothing was pushed to it yet.', {
          detail: { name: repository },
        });
      }
      return pageOf(
        rows.flatMap((row) => (row.name === null ? [] : [row.name])),
        page.limit,
      );
    },
    listReferrers: (_call, repository, subject, artifactType, page) =>
      referrers(parts, repository, subject, artifactType, page),
    async sourcesOf(digest, limit) {
      const rows = await database.query.all<{ name: RepositoryName }>(
        `select r.name from link l join blob b on b.digest = l.digest and b.state = 'live'
         join repository r on r.id = l.repository_id and r.gone = 0 where l.digest = ? limit ?`,
        digestToBytes(digest),
        limit,
      );
      return rows.map((row) => row.name);
    },
  };

  async function names(after: string, limit: number): Promise<RepositoryName[]> {
    const rows = await database.query.all<{ name: RepositoryName }>(
      'select name from repository where gone = 0 and shown = 1 and name > ? order by name limit ?',
      after,
      limit,
    );
    return rows.map((row) => row.name);
  }

  async function scan(page: PageRequest, visibility: Exclude<Visibility, 'all'>): Promise<Page<RepositoryName>> {
    const ids = new Set<number>(visibility.ids);
    const seen: RepositoryName[] = [];
    let after = page.after ?? '';
    while (seen.length <= page.limit) {
      const rows = await database.query.all<{ id: number; name: RepositoryName }>(
        'select id, name from repository where gone = 0 and shown = 1 and name > ? order by name limit ?',
        after,
        SCAN,
      );
      for (const { id, name } of rows) if (ids.has(id) || isVisible(name, visibility)) seen.push(name);
      if (rows.length < SCAN) break;
      after = rows[rows.length - 1]!.name;
    }
    return pageOf(seen.slice(0, page.limit + 1), page.limit);
  }
}

function isVisible(name: string, { ranges, patterns }: Exclude<Visibility, 'all'>): boolean {
  return (
    ranges.some(({ from, to }) => name >= from && name < to) || patterns.some((pattern) => matchesGlob(pattern, name))
  );
}

function pageOf<T extends string>(items: readonly T[], limit: number): Page<T> {
  if (items.length <= limit) return { items };
  const shown = items.slice(0, limit);
  return { items: shown, next: shown[shown.length - 1]! };
}

interface ReferrerRow {
  readonly digest: Uint8Array;
  readonly media_type: string;
  readonly size: number;
  readonly artifact_type: string | null;
  readonly annotations: string | null;
}

async function referrers(
  { database }: LocalParts,
  repository: RepositoryName,
  subject: Digest,
  artifactType: string | undefined,
  page: PageRequest,
): Promise<Page<Descriptor> & { filtered: boolean }> {
  const filtered = artifactType !== undefined;
  const values: Value[] = [
    repository,
    digestToBytes(subject),
    page.after === undefined ? new Uint8Array(0) : digestToBytes(parseDigest(page.after)),
  ];
  if (filtered) values.push(artifactType);
  const rows = await database.query.all<ReferrerRow>(
    `select f.digest, m.media_type, m.size, f.artifact_type, f.annotations
     from repository r join referrer f on f.repository_id = r.id
     join manifest m on m.id = f.manifest_id and m.deleted_tick = 0
     where r.gone = 0 and r.name = ? and f.subject = ? and f.gone = 0 and f.digest > ? ${filtered ? 'and f.artifact_type = ?' : ''}
       and not exists (select 1 from referrer o where o.repository_id = f.repository_id and o.subject = f.subject
         and o.gone = 0 and o.digest = f.digest and o.via_id < f.via_id)
     order by f.digest limit ?`,
    ...values,
    page.limit + 1,
  );
  const items: Descriptor[] = [];
  let bytes = 0;
  for (const row of rows.slice(0, page.limit)) {
    bytes += 300 + (row.annotations?.length ?? 0);
    if (items.length > 0 && bytes > REFERRERS_BYTES) break;
    items.push({
      mediaType: row.media_type,
      digest: digestFromBytes(row.digest),
      size: row.size,
      ...(row.artifact_type === null ? {} : { artifactType: row.artifact_type }),
      ...(row.annotations === null ? {} : { annotations: JSON.parse(row.annotations) as Record<string, string> }),
    });
  }
  return items.length < rows.length ? { items, next: items[items.length - 1]!.digest, filtered } : { items, filtered };
}
