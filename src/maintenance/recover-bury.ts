/**
 * Manifests of a recovered database that had been deleted since: the collector takes bytes only when nothing names them,
 * so a manifest whose linked bytes the journal says are gone was no longer there. It is deleted again, by the ordinary
 * command, indexes before what they name.
 */

import { systemFacts } from '../local/commands/damage.ts';
import { manifestDelete } from '../local/commands/manifest-commands.ts';
import { digestFromBytes } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { ReindexWork } from './reindex-blobs.ts';

const PAGE = 200;
const NAMED = 100;
/** Indexes in indexes: more than any client makes. */
const DEEPEST = 16;

interface Row {
  readonly id: number;
  readonly name: RepositoryName;
  readonly digest: Uint8Array;
}

/** Deletes them. How many, and the first hundred as `repository@digest`. What a hold protects stays, and is a problem. */
export async function buryCollected(work: ReindexWork): Promise<{ buried: number; names: readonly string[] }> {
  const done = { buried: 0, names: [] as string[] };
  for (let after = 0; ; ) {
    work.signal.throwIfAborted();
    const rows = await work.database.query.all<Row>(
      `select distinct m.id, r.name, m.digest from manifest m join repository r on r.id = m.repository_id and r.gone = 0
         join reference f on f.manifest_id = m.id and f.is_child = 0
         join link l on l.repository_id = f.repository_id and l.digest = f.digest
         join blob b on b.digest = f.digest and b.state = 'absent'
       where m.deleted_tick = 0 and m.id > ? order by m.id limit ${PAGE}`,
      after,
    );
    for (const row of rows) await bury(work, row, done, 0);
    if (rows.length < PAGE) return done;
    after = rows.at(-1)!.id;
  }
}

async function bury(
  work: ReindexWork,
  { id, name, digest }: Row,
  done: { buried: number; names: string[] },
  depth: number,
): Promise<void> {
  const { database, options } = work;
  const parents = await database.query.all<Row>(
    `select distinct p.id, r.name, p.digest from reference f join manifest p on p.id = f.manifest_id and p.deleted_tick = 0
       join repository r on r.id = p.repository_id where f.child_id = ? order by p.id limit 1000`,
    id,
  );
  if (depth < DEEPEST) for (const parent of parents) await bury(work, parent, done, depth + 1);
  const named = `${name}@${digestFromBytes(digest)}`;
  try {
    const args = { repository: name, digest, guards: [], facts: systemFacts('recover') };
    await database.run(manifestDelete, args, options);
    done.buried++;
    if (done.names.length < NAMED) done.names.push(named);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    // Deleted a moment ago, as the parent of another one.
    if (error.code === 'MANIFEST_UNKNOWN') return;
    work.problem({ what: `${named} names bytes that were deleted, but stays: ${error.message}`, lost: true });
  }
}
