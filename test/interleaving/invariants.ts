/** What must hold at every moment (threats.md §2, I1 to I8), read straight from the tables and the disk. */
import { blobKey } from '../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../../src/oci/digest.ts';
import type { ModelDatabase } from './model-database.ts';
import type { ModelDisk } from './model-storage.ts';
import { BY_DIGEST, BYTES } from './universe.ts';

/** Repositories whose manifests may name what is not there. */
export const SPARSE: ReadonlySet<string> = new Set(['s']);

interface BlobRow {
  readonly digest: Uint8Array;
  readonly state: string;
  readonly size: number | null;
  readonly n: number | null;
  readonly stored: number;
  readonly bytes: Uint8Array | null;
  readonly is_manifest: number;
}

/** What is wrong; undefined where nothing is. `lost`: digests whose bytes the disk lost, of which less can be asked. */
export function broken(
  model: ModelDatabase,
  disk: ModelDisk,
  lost: ReadonlySet<string> = new Set(),
): string | undefined {
  return brokenBlobs(model, disk, lost) ?? brokenManifests(model, lost) ?? brokenRows(model) ?? brokenUsage(model);
}

/** I3, I4: a live row has its bytes, inline or stored, and no row names a dead key. */
function brokenBlobs(model: ModelDatabase, disk: ModelDisk, lost: ReadonlySet<string>): string | undefined {
  const rows = model.all(
    `select b.digest, b.state, b.size, b.n, b.stored, c.bytes,
       exists (select 1 from manifest m where m.digest = b.digest) as is_manifest
     from blob b left join content c on c.digest = b.digest`,
  ) as unknown as BlobRow[];
  for (const row of rows) {
    const digest = digestFromBytes(row.digest);
    const right = BYTES.get(digest);
    if (right === undefined) return `I3: a row of ${digest}, which was never pushed`;
    if (row.state === 'damaged' && !lost.has(digest)) return `I4: ${digest} is damaged though no bytes were lost`;
    if (row.bytes !== null && !right.equals(row.bytes)) return `I1: ${digest} has other bytes inline`;
    if (row.state !== 'live') continue;
    if (row.bytes === null && row.stored === 0) return `I4: ${digest} is live without bytes`;
    if (row.is_manifest === 1 && row.bytes === null) return `I1: the manifest ${digest} is not in content`;
    if (row.stored === 1 && !lost.has(digest)) {
      const held = disk.blobs.get(blobKey(digest, row.n ?? 0));
      if (held === undefined) return `I4: ${digest} is stored under ${row.n}, where nothing is`;
      if (!right.equals(held.bytes)) return `I1: ${digest} has other bytes in storage`;
      if (!held.durable) return `I4: ${digest} is stored under ${row.n}, but not for sure`;
    }
  }
  const dead = model.get('select d.n from dead_key d join blob b on b.digest = d.digest and b.n = d.n');
  return dead === undefined ? undefined : 'I3: a row names a dead key';
}

/** I1, I8: what a manifest names is live and linked, and its references are those of its bytes. */
function brokenManifests(model: ModelDatabase, lost: ReadonlySet<string>): string | undefined {
  const manifests = model.all(
    `select m.id, m.digest, m.deleted_tick, r.name, r.gone, b.state from manifest m join repository r on r.id = m.repository_id
     join blob b on b.digest = m.digest`,
  ) as unknown as { id: number; digest: Uint8Array; deleted_tick: number; name: string; gone: number; state: string }[];
  for (const { id, digest, deleted_tick, name, gone, state } of manifests) {
    const manifest = BY_DIGEST.get(digestFromBytes(digest));
    if (manifest === undefined) return 'I8: a manifest that was never pushed';
    if (state !== 'live') return `I1: the manifest ${manifest.name} in ${name} is ${state}`;
    const references = model.all(
      `select r.digest, r.is_child, r.child_id, b.state, c.deleted_tick as child_deleted,
         exists (select 1 from link l where l.digest = r.digest and l.repository_id = r.repository_id) as linked,
         exists (select 1 from manifest o where o.digest = r.digest and o.repository_id = r.repository_id and o.deleted_tick = 0) as child_here
       from reference r join blob b on b.digest = r.digest left join manifest c on c.id = r.child_id where r.manifest_id = ?`,
      id,
    ) as unknown as {
      digest: Uint8Array;
      is_child: number;
      child_id: number | null;
      state: string;
      child_deleted: number | null;
      linked: number;
      child_here: number;
    }[];
    const said = references.map((one) => digestFromBytes(one.digest)).sort();
    const meant = [...manifest.blobs, ...manifest.children].map((one) => one.digest).sort();
    if (said.join() !== meant.join())
      return `I8: the references of ${manifest.name} in ${name} are not those of its bytes`;
    if (deleted_tick > 0 || gone > 0) continue;
    for (const one of references) {
      const what = `${BY_DIGEST.get(digestFromBytes(one.digest))?.name ?? digestFromBytes(one.digest)} of ${manifest.name} in ${name}`;
      if (one.is_child === 1) {
        if (one.child_here === 1 && one.child_id === null) return `I8: ${what} is here, but the index does not know`;
        if (one.child_id !== null && one.child_deleted !== 0) return `I1: ${what} is deleted under its index`;
        if (one.child_id === null && !SPARSE.has(name)) return `I1: ${what} is missing`;
      } else if (!SPARSE.has(name)) {
        if (one.state !== 'live' && !lost.has(digestFromBytes(one.digest))) return `I1: ${what} is ${one.state}`;
        if (one.linked === 0) return `I1: ${what} is not linked`;
      }
    }
  }
  return undefined;
}

/** Nothing can be forgotten: every link has an entry or a reference, every row something that names it or an entry. */
function brokenRows(model: ModelDatabase): string | undefined {
  const link = model.get(
    `select l.digest, r.name from link l join repository r on r.id = l.repository_id
     where not exists (select 1 from gc_queue q where q.repository_id = l.repository_id and q.digest = l.digest)
       and not exists (select 1 from reference f join manifest m on m.id = f.manifest_id
         where f.repository_id = l.repository_id and f.digest = l.digest and m.deleted_tick = 0 and f.is_child = 0)`,
  );
  if (link !== undefined)
    return `I5: the link of ${digestFromBytes(link.digest as Uint8Array)} in ${link.name} is forgotten`;
  const row = model.get(
    `select b.digest, b.state from blob b
     where not exists (select 1 from link l where l.digest = b.digest)
       and not exists (select 1 from reference f where f.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)
       and not exists (select 1 from gc_queue q where q.repository_id = 0 and q.digest = b.digest)`,
  );
  if (row !== undefined) return `I5: the row of ${digestFromBytes(row.digest as Uint8Array)} is forgotten`;
  const lease = model.get(
    `select b.digest from blob b where b.state = 'incoming'
       and not exists (select 1 from gc_queue q where q.repository_id = 0 and q.digest = b.digest)`,
  );
  return lease === undefined ? undefined : 'I5: a reservation is never looked at again';
}

/** I8: usage is the sum of what is there. */
function brokenUsage(model: ModelDatabase): string | undefined {
  const rows = model.all(
    `select r.name,
       (select coalesce(sum(bytes), 0) from usage u where u.repository_id = r.id)
         + (select coalesce(sum(bytes), 0) from usage_delta d where d.repository_id = r.id) as bytes,
       (select coalesce(sum(manifests), 0) from usage u where u.repository_id = r.id)
         + (select coalesce(sum(manifests), 0) from usage_delta d where d.repository_id = r.id) as manifests,
       (select coalesce(sum(b.size), 0) from link l join blob b on b.digest = l.digest where l.repository_id = r.id)
         + (select coalesce(sum(m.size), 0) from manifest m where m.repository_id = r.id and m.deleted_tick = 0) as real_bytes,
       (select count(*) from manifest m where m.repository_id = r.id and m.deleted_tick = 0) as real_manifests
     from repository r`,
  );
  for (const { name, bytes, manifests, real_bytes, real_manifests } of rows) {
    if (bytes !== real_bytes || manifests !== real_manifests)
      return `I8: the usage of ${name} says ${bytes} bytes and ${manifests} manifests, there are ${real_bytes} and ${real_manifests}`;
  }
  return undefined;
}

/** Whether the blob can be pulled from the repository: linked there and live. */
export function isServed(model: ModelDatabase, repository: string, digest: string): boolean {
  return (
    model.get(
      `select 1 from repository r join link l on l.repository_id = r.id join blob b on b.digest = l.digest and b.state = 'live'
       where r.gone = 0 and r.name = ? and l.digest = ?`,
      repository,
      digestToBytes(digest as never),
    ) !== undefined
  );
}

/** Whether the manifest is there and not deleted. */
export function isThere(model: ModelDatabase, repository: string, digest: string): boolean {
  return (
    model.get(
      `select 1 from repository r join manifest m on m.repository_id = r.id and m.deleted_tick = 0
       where r.gone = 0 and r.name = ? and m.digest = ?`,
      repository,
      digestToBytes(digest as never),
    ) !== undefined
  );
}

/** I5: after quiet and enough ticks there is exactly what can be reached, and no work is left. */
export function leftover(model: ModelDatabase, disk: ModelDisk): string | undefined {
  for (const [what, text] of [
    ['a queue entry', 'select 1 from gc_queue'],
    ['a dead key that may have bytes', 'select 1 from dead_key where confirmed = 0'],
    ['an upload', 'select 1 from upload'],
    ['a tombstone of a tag', 'select 1 from tag where gone > 0'],
    ['a tombstone of a manifest', 'select 1 from manifest where deleted_tick > 0'],
    ['an orphan mark', 'select 1 from orphan'],
    ['an empty repository', 'select 1 from repository where shown = 0'],
    ['inline bytes that were not spilled', "select 1 from blob where state = 'live' and stored = 0"],
    ['a reservation', "select 1 from blob where state = 'incoming'"],
  ] as const) {
    if (model.get(`${text} limit 1`) !== undefined) return `I5: ${what} is left`;
  }
  const unreached = model.get(
    `select b.digest from blob b where not exists (select 1 from reference f where f.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)`,
  );
  if (unreached !== undefined)
    return `I5: ${digestFromBytes(unreached.digest as Uint8Array)} is left though nothing refers to it`;
  if (disk.uploads.size > 0) return 'I5: the file of an upload is left';
  const keys = new Set(
    model
      // A damaged row still names its key: a file that turned up again goes with it, at the next push or review.
      .all("select digest, n from blob where stored = 1 or state = 'damaged'")
      .map(({ digest, n }) => blobKey(digestFromBytes(digest as Uint8Array), n as number)),
  );
  for (const key of disk.blobs.keys()) if (!keys.has(key)) return `I5: ${key} is left in storage, and no row names it`;
  return undefined;
}
