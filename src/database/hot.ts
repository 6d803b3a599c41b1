/** The texts of the request loop's look-ups, one statement each (schema: "Hot look-ups"), for both databases. */
import { digestFromBytes } from '../oci/digest.ts';
import type { BlobState, RepositoryName } from '../oci/names.ts';
import type { HotBlob, HotManifest, HotUpload } from './database.ts';

/** (repository, tag) */
export const MANIFEST_BY_TAG = `select m.digest, m.media_type, c.bytes
  from repository r
  join tag t on t.repository_id = r.id and t.gone = 0 and t.name = ?
  join manifest m on m.id = t.manifest_id and m.deleted_tick = 0
  join content c on c.digest = m.digest
  where r.gone = 0 and r.name = ?`;

/** (digest, repository) */
export const MANIFEST_BY_DIGEST = `select m.digest, m.media_type, c.bytes
  from repository r
  join manifest m on m.repository_id = r.id and m.digest = ? and m.deleted_tick = 0
  join content c on c.digest = m.digest
  where r.gone = 0 and r.name = ?`;

/** (digest, repository). An absent row, which only a restore can leave linked, has no size and no key yet. */
export const BLOB_BY_LINK = `select coalesce(b.size, 0) as size, b.state, coalesce(b.n, 0) as n, b.stored, c.bytes,
    q.due_tick, g.tick
  from repository r
  join blob b on b.digest = ?
  join link l on l.digest = b.digest and l.repository_id = r.id
  join gc_clock g on g.id = 1
  left join content c on c.digest = b.digest
  left join gc_queue q on q.repository_id = r.id and q.digest = b.digest
  where r.gone = 0 and r.name = ?`;

/** (id). Of a deleted repository it has no name, so that it belongs to no request until it expires. */
export const UPLOAD_BY_ID = `select case when r.gone = 0 then r.name else '' end as name, u.principal, u.size, u.state, u.fence
  from upload u join repository r on r.id = u.repository_id
  where u.id = ?`;

/** A row of the manifest look-ups. */
export interface ManifestRow {
  readonly digest: Uint8Array;
  readonly media_type: string;
  readonly bytes: Uint8Array;
}

/** A row of the blob look-up. */
export interface BlobRow {
  readonly size: number;
  readonly state: BlobState;
  readonly n: number;
  readonly stored: 0 | 1;
  readonly bytes: Uint8Array | null;
  readonly due_tick: number | null;
  readonly tick: number;
}

/** A row of the upload look-up. */
export interface UploadRow {
  readonly name: RepositoryName;
  readonly principal: string;
  readonly size: number;
  readonly state: string;
  readonly fence: number;
}

/** The row as the interface has it. */
export function manifestOf(row: ManifestRow | undefined): HotManifest | undefined {
  if (row === undefined) return undefined;
  return { digest: digestFromBytes(row.digest), mediaType: row.media_type, bytes: row.bytes };
}

/** The row as the interface has it. */
export function blobOf(row: BlobRow | undefined): HotBlob | undefined {
  if (row === undefined) return undefined;
  const { size, state, n, stored, bytes, due_tick, tick } = row;
  return {
    size,
    state,
    n,
    stored: stored === 1,
    ...(bytes === null ? {} : { bytes }),
    ...(due_tick === null ? {} : { dueTick: due_tick }),
    tick,
  };
}

/** The row as the interface has it. */
export function uploadOf(row: UploadRow | undefined): HotUpload | undefined {
  if (row === undefined) return undefined;
  const { name, principal, size, state, fence } = row;
  return { repository: name, principal, size, state, fence };
}
