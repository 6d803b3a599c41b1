/**
 * The invariants of threats.md §2 asked of a running installation: of its tables in one snapshot, and of the files
 * that its storage holds. `audit` holds at every moment; `leftover` once it has been quiet for long enough.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { blobKey, parseBlobKey } from '../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../../src/oci/digest.ts';
import type { Digest } from '../../src/oci/names.ts';
import type { Look, Tables } from './look.ts';

/** What breaks one of these: a digest and the repository, where there is one. */
interface Found {
  readonly digest: Uint8Array;
  readonly name?: string;
}

const LIMIT = 'limit 5';

/** Each text finds what must not be there. */
const RULES: readonly (readonly [string, string])[] = [
  ['I3: a row names a dead key', 'select d.digest from dead_key d join blob b on b.digest = d.digest and b.n = d.n'],
  [
    'I4: a live row has no bytes',
    `select b.digest from blob b where b.state = 'live' and b.stored = 0
       and not exists (select 1 from content c where c.digest = b.digest)`,
  ],
  ['I4: bytes are marked as damaged', "select digest from blob where state = 'damaged'"],
  [
    'I1: a manifest without its bytes',
    `select m.digest, r.name from manifest m join repository r on r.id = m.repository_id join blob b on b.digest = m.digest
     where b.state <> 'live' or not exists (select 1 from content c where c.digest = m.digest)`,
  ],
  [
    'I1: a manifest names a blob that is not live or not linked',
    `select f.digest, r.name from reference f join manifest m on m.id = f.manifest_id and m.deleted_tick = 0
     join repository r on r.id = m.repository_id and r.gone = 0 join blob b on b.digest = f.digest
     where f.is_child = 0 and (b.state <> 'live'
       or not exists (select 1 from link l where l.repository_id = m.repository_id and l.digest = f.digest))`,
  ],
  [
    'I1: an index names a manifest that is not there',
    `select f.digest, r.name from reference f join manifest m on m.id = f.manifest_id and m.deleted_tick = 0
     join repository r on r.id = m.repository_id and r.gone = 0 left join manifest c on c.id = f.child_id
     where f.is_child = 1 and (c.id is null or c.deleted_tick <> 0)`,
  ],
  [
    'I1: a tag names a manifest that is deleted',
    `select m.digest, r.name from tag t join manifest m on m.id = t.manifest_id join repository r on r.id = t.repository_id
     where t.gone = 0 and m.deleted_tick <> 0`,
  ],
  [
    'I5: a link is forgotten',
    `select l.digest, r.name from link l join repository r on r.id = l.repository_id
     where not exists (select 1 from gc_queue q where q.repository_id = l.repository_id and q.digest = l.digest)
       and not exists (select 1 from reference f join manifest m on m.id = f.manifest_id
         where f.repository_id = l.repository_id and f.digest = l.digest and m.deleted_tick = 0 and f.is_child = 0)`,
  ],
  [
    'I5: a row is forgotten',
    `select b.digest from blob b
     where not exists (select 1 from link l where l.digest = b.digest)
       and not exists (select 1 from reference f where f.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)
       and not exists (select 1 from gc_queue q where q.repository_id = 0 and q.digest = b.digest)`,
  ],
  [
    'I5: a reservation is never looked at again',
    `select b.digest from blob b where b.state = 'incoming'
       and not exists (select 1 from gc_queue q where q.repository_id = 0 and q.digest = b.digest)`,
  ],
];

/** I8: usage says what is there. */
const USAGE = `select * from (select r.name,
   (select coalesce(sum(bytes), 0) from usage u where u.repository_id = r.id)
     + (select coalesce(sum(bytes), 0) from usage_delta d where d.repository_id = r.id) as bytes,
   (select coalesce(sum(manifests), 0) from usage u where u.repository_id = r.id)
     + (select coalesce(sum(manifests), 0) from usage_delta d where d.repository_id = r.id) as manifests,
   (select coalesce(sum(b.size), 0) from link l join blob b on b.digest = l.digest where l.repository_id = r.id)
     + (select coalesce(sum(m.size), 0) from manifest m where m.repository_id = r.id and m.deleted_tick = 0) as real_bytes,
   (select count(*) from manifest m where m.repository_id = r.id and m.deleted_tick = 0) as real_manifests
 from repository r) as sums where bytes <> real_bytes or manifests <> real_manifests ${LIMIT}`;

const hexOf = (digest: Uint8Array): Digest => digestFromBytes(Uint8Array.from(digest));

interface Stored {
  readonly digest: Uint8Array;
  readonly n: number;
  readonly size: number;
}

const STORED = "select digest, n, size from blob where state = 'live' and stored = 1";

/** What an installation keeps where. `files`: the folder of its storage, which holds `blobs` and `uploads`. */
export interface Kept {
  readonly look: Look;
  readonly files: string;
}

/** What is wrong right now. */
export async function audit({ look, files }: Kept): Promise<string[]> {
  const wrong: string[] = [];
  const stored = await look(async (tables) => {
    for (const [what, text] of RULES)
      for (const { digest, name } of await tables.all<Found>(`${text} ${LIMIT}`))
        wrong.push(`${what}: ${hexOf(digest)}${name === undefined ? '' : ` in ${name}`}`);
    for (const row of await tables.all(USAGE)) wrong.push(`I8: usage and what is there: ${JSON.stringify(row)}`);
    wrong.push(...(await references(tables)));
    return tables.all<Stored>(STORED);
  });
  // A key goes from storage two ticks after its row at the earliest: one that is missing now is asked for again.
  const missing = stored.filter((row) => sizeOf(files, row) !== row.size);
  if (missing.length > 0) {
    const still = new Set((await look((tables) => tables.all<Stored>(STORED))).map((row) => keyOf(row)));
    for (const row of missing)
      if (still.has(keyOf(row))) wrong.push(`I4: ${keyOf(row)}: ${sizeOf(files, row)} bytes stored, not ${row.size}`);
  }
  return wrong;
}

const keyOf = ({ digest, n }: Stored): string => blobKey(hexOf(digest), n);

function sizeOf(files: string, row: Stored): number | undefined {
  return statSync(join(files, 'blobs', keyOf(row)), { throwIfNoEntry: false })?.size;
}

/** I8: the references of a manifest are those of its bytes. */
async function references(tables: Tables): Promise<string[]> {
  const wrong: string[] = [];
  const said = new Map<number, string[]>();
  for (const { id, digest } of await tables.all<{ id: number; digest: Uint8Array }>(
    'select manifest_id as id, digest from reference',
  )) {
    const of = said.get(id) ?? [];
    of.push(hexOf(digest));
    said.set(id, of);
  }
  const manifests = await tables.all<{ id: number; digest: Uint8Array; bytes: Uint8Array }>(
    'select m.id, m.digest, c.bytes from manifest m join content c on c.digest = m.digest',
  );
  for (const { id, digest, bytes } of manifests) {
    const meant = namedBy(bytes).sort().join();
    if ((said.get(id) ?? []).sort().join() !== meant)
      wrong.push(`I8: the references of ${hexOf(digest)} are not those of its bytes`);
  }
  return wrong;
}

interface Named {
  readonly digest: string;
}

function namedBy(bytes: Uint8Array): string[] {
  const value = JSON.parse(Buffer.from(bytes).toString()) as {
    config?: Named;
    layers?: Named[];
    manifests?: Named[];
  };
  const all = [
    ...(value.config === undefined ? [] : [value.config]),
    ...(value.layers ?? []),
    ...(value.manifests ?? []),
  ];
  return [...new Set(all.map(({ digest }) => digest))];
}

const LEFT: readonly (readonly [string, string])[] = [
  ['queued reviews', 'select 1 as one from gc_queue'],
  ['dead keys that may have bytes', 'select 1 as one from dead_key where confirmed = 0'],
  ['uploads', 'select 1 as one from upload'],
  ['tombstones of tags', 'select 1 as one from tag where gone > 0'],
  ['tombstones of manifests', 'select 1 as one from manifest where deleted_tick > 0'],
  ['orphan marks', 'select 1 as one from orphan'],
  ['empty repositories', 'select 1 as one from repository where shown = 0'],
  ['inline bytes that were not spilled', "select 1 as one from blob where state = 'live' and stored = 0"],
  ['reservations', "select 1 as one from blob where state = 'incoming'"],
  [
    'rows that nothing refers to',
    `select 1 as one from blob b where not exists (select 1 from reference f where f.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)`,
  ],
  ['events', 'select 1 as one from outbox'],
];

/** I5: what is left that should be gone. `counts` of each; empty where storage is exactly what can be reached. */
export async function leftover({ look, files }: Kept): Promise<string[]> {
  const left: string[] = [];
  const keys = await look(async (tables) => {
    for (const [what, text] of LEFT) {
      const rows = await tables.all(text);
      if (rows.length > 0) left.push(`I5: ${rows.length} ${what}`);
    }
    return new Set((await tables.all<Stored>(STORED)).map(keyOf));
  });
  for (const file of filesBelow(join(files, 'blobs')))
    if (!keys.has(parseBlobKey(file)?.key ?? '')) left.push(`I5: ${file} is in storage, and no row names it`);
  for (const folder of ['uploads', '.sgwtmp'])
    for (const file of filesBelow(join(files, folder))) left.push(`I5: ${folder}/${file} is left`);
  return left;
}

/** The files below a folder, in no order; those that go meanwhile may be missing. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

/** All that the tables know of a digest, for whoever has to find out what went wrong. */
export async function explain(look: Look, digest: string): Promise<string> {
  const dialects = Buffer.from(digestToBytes(digest as Digest)).toString('hex');
  return look(async (tables) => {
    const parts: string[] = [];
    for (const [table, columns] of [
      ['blob', 'state, size, n, stored, lease_tick'],
      ['link', 'repository_id'],
      ['gc_queue', 'repository_id, due_tick'],
      ['dead_key', 'n, tick, confirmed'],
    ] as const) {
      const rows = await tables.all<{ digest: Uint8Array }>(`select digest, ${columns} from ${table}`);
      const own = rows.filter((row) => Buffer.from(row.digest).toString('hex') === dialects);
      parts.push(`${table} ${JSON.stringify(own.map(({ digest: _digest, ...rest }) => rest))}`);
    }
    const clock = await tables.all<{ tick: number }>('select tick from gc_clock');
    return `${digest} at tick ${clock[0]?.tick}: ${parts.join(', ')}`;
  });
}
