/**
 * The rows that every command needs, found or made in the one lock order: repository, queue (repository, digest),
 * blob, queue (0, digest), link, manifest, tag. What stands in {braces} is PostgreSQL's row lock.
 *
 * Statements that need no answer of one another are called `together`: they run in the order of the calls, and
 * PostgreSQL gets them in one round trip.
 */
import type { CommandContext } from '../../database/database.ts';
import type { Facts } from '../../kit/facts.ts';
import { uuidv7 } from '../../kit/id.ts';
import { RegistryError } from '../../oci/error.ts';
import type { BlobState, RepositoryName } from '../../oci/names.ts';

/**
 * Waits for all of it, then rejects with the first failure: nothing may still call a statement when its transaction
 * is taken back.
 */
export async function together<const Work extends readonly unknown[]>(
  ...work: Work
): Promise<{ -readonly [At in keyof Work]: Awaited<Work[At]> }> {
  const settled = await Promise.allSettled(work);
  const failed = settled.find((one) => one.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return settled.map((one) => (one as PromiseFulfilledResult<unknown>).value) as never;
}

/** So many statements of one kind are called together. */
const GROUP = 64;

/** Calls `work` for every item in order, a group of them together. */
export async function forEachOf<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < items.length; at += GROUP) {
    results.push(...((await together(...items.slice(at, at + GROUP).map(work))) as Result[]));
  }
  return results;
}

/** A repository's row as commands use it. */
export interface RepositoryRow {
  readonly id: number;
  readonly active_tick: number;
  readonly shown: number;
}

/** The repository that is not deleted, or undefined. */
export function findRepository({ sql }: CommandContext, name: RepositoryName): Promise<RepositoryRow | undefined> {
  return sql.get<RepositoryRow>(
    'select id, active_tick, shown from repository where gone = 0 and name = ? {for key share}',
    name,
  );
}

/** The repository, made hidden in the default project where it is not there. */
export async function ensureRepository(context: CommandContext, name: RepositoryName): Promise<RepositoryRow> {
  for (;;) {
    const found = await findRepository(context, name);
    if (found !== undefined) return found;
    await context.sql.run(
      `insert into repository (uid, project_id, name, active_tick, created_at)
       values (?, (select min(id) from project), ?, ?, ?) on conflict (gone, name) do nothing`,
      uuidv7(context.now),
      name,
      context.tick,
      context.now,
    );
  }
}

/** Marks the repository active, at most once per half grace: the collector takes no link of an active one. */
export async function markActive(context: CommandContext, repository: RepositoryRow): Promise<void> {
  if (repository.active_tick > context.tick - context.ticks.grace / 2) return;
  await context.sql.run('update repository set active_tick = ? where id = ?', context.tick, repository.id);
}

/** A blob's row. `size` and `n` are null while it is absent. */
export interface BlobRow {
  readonly state: BlobState;
  readonly size: number | null;
  readonly n: number | null;
  readonly stored: number;
}

const BLOB_ROW = "insert into blob (digest, state) values (?, 'absent') on conflict (digest) do nothing";
const LOCKED_BLOB = 'select state, size, n, stored from blob where digest = ? {for no key update}';

/** The blob's row, locked; made `absent` where there was none. Asked again until found: the collector may come between. */
export async function lockBlob({ sql }: CommandContext, digest: Uint8Array): Promise<BlobRow> {
  for (;;) {
    const [, row] = await together(sql.run(BLOB_ROW, digest), sql.get<BlobRow>(LOCKED_BLOB, digest));
    if (row !== undefined) return row;
  }
}

/** The same, with what `freshKeyNumber` says under the lock. */
export async function lockBlobWithKey(
  context: CommandContext,
  digest: Uint8Array,
): Promise<{ readonly row: BlobRow; readonly fresh: number }> {
  const { sql } = context;
  for (;;) {
    const [, row, fresh] = await together(
      sql.run(BLOB_ROW, digest),
      sql.get<BlobRow>(LOCKED_BLOB, digest),
      freshKeyNumber(context, digest),
    );
    if (row !== undefined) return { row, fresh };
  }
}

/** The number of a key that was never dead: one above the highest dead one, 0 where none is. */
export async function freshKeyNumber({ sql }: CommandContext, digest: Uint8Array): Promise<number> {
  const row = await sql.get<{ n: number | null }>('select max(n) as n from dead_key where digest = ?', digest);
  return row === undefined || row.n === null ? 0 : row.n + 1;
}

/** Condemns a key for ever. `size`: its bytes in storage, where they are known. */
export async function killKey(
  { sql, tick }: CommandContext,
  digest: Uint8Array,
  n: number,
  size?: number | null,
): Promise<void> {
  await sql.run(
    `insert into dead_key (digest, n, tick, size) values (?, ?, ?, ?)
     on conflict (digest, n) do update set tick = excluded.tick, size = excluded.size, confirmed = 0`,
    digest,
    n,
    tick,
    size ?? null,
  );
}

/** The number under which the bytes of a row that is not live are to lie. A damaged one's key is dead from now on. */
export async function keyNumber(
  context: CommandContext,
  digest: Uint8Array,
  row: BlobRow,
  fresh: number,
): Promise<number> {
  if (row.state === 'incoming') return row.n ?? 0;
  if (row.state !== 'damaged') return fresh;
  await killKey(context, digest, row.n ?? 0);
  return freshKeyNumber(context, digest);
}

/** Queues a review, never earlier than one that is queued. repositoryId 0: of the blob's row. Also the lock of that link. */
export async function queueReview(
  { sql }: CommandContext,
  repositoryId: number,
  digest: Uint8Array,
  due: number,
): Promise<void> {
  await sql.run(
    `insert into gc_queue (repository_id, digest, due_tick) values (?, ?, ?)
     on conflict (repository_id, digest) do update set due_tick = excluded.due_tick
     where gc_queue.due_tick < excluded.due_tick`,
    repositoryId,
    digest,
    due,
  );
}

/** Links a live blob to the repository; its size goes to the usage where the link is new. */
export async function linkBlob(
  { sql }: CommandContext,
  repositoryId: number,
  digest: Uint8Array,
  size: number,
): Promise<void> {
  const made = await sql.run(
    'insert into link (repository_id, digest) values (?, ?) on conflict (repository_id, digest) do nothing',
    repositoryId,
    digest,
  );
  if (made > 0) await addUsage(sql, repositoryId, size, 0);
}

/** Appends a change of usage; a job folds them. */
export async function addUsage(
  sql: CommandContext['sql'],
  repositoryId: number,
  bytes: number,
  manifests: number,
): Promise<void> {
  await sql.run(
    'insert into usage_delta (repository_id, bytes, manifests) values (?, ?, ?)',
    repositoryId,
    bytes,
    manifests,
  );
}

/** What happened to a tag. Digests in the database's form; null: there was none, there is none. */
export interface TagEvent {
  readonly tag: string;
  readonly kind: 'moved' | 'deleted' | 'restored' | 'rolled-back';
  readonly from: Uint8Array | null;
  readonly to: Uint8Array | null;
  readonly facts: Facts;
}

/** Writes the tag's history; the event's id, which is the `gone` of a tombstone. */
export async function recordTagEvent(
  { sql, now }: CommandContext,
  repositoryId: number,
  event: TagEvent,
): Promise<number> {
  const row = await sql.get<{ id: number }>(
    `insert into tag_event (repository_id, name, kind, from_digest, to_digest, actor, origin, at)
     values (?, ?, ?, ?, ?, ?, ?, ?) returning id`,
    repositoryId,
    event.tag,
    event.kind,
    event.from,
    event.to,
    event.facts.actor,
    JSON.stringify(event.facts.request),
    now,
  );
  if (row === undefined) throw new Error('an insert returned no row');
  return row.id;
}

/** A hold's reason, where one protects the repository, this tag or one of these digests; undefined where none does. */
export async function findHold(
  { sql, now }: CommandContext,
  repositoryId: number,
  what: { readonly tag?: string; readonly digest?: Uint8Array },
): Promise<string | undefined> {
  const row = await sql.get<{ reason: string }>(
    `select reason from hold
     where (until_at is null or until_at > ?)
       and ((repository_id = ? and tag is null and digest is null)
         or (repository_id = ? and tag = ?)
         or ((repository_id = ? or repository_id is null) and digest = ?))
     limit 1`,
    now,
    repositoryId,
    repositoryId,
    what.tag ?? null,
    repositoryId,
    what.digest ?? null,
  );
  return row?.reason;
}

/** Refuses with UNSUPPORTED where a hold protects it. */
export async function refuseHeld(
  context: CommandContext,
  repositoryId: number,
  what: { tag?: string; digest?: Uint8Array },
): Promise<void> {
  const reason = await findHold(context, repositoryId, what);
  if (reason === undefined) return;
  throw new RegistryError('UNSUPPORTED', `A hold protects this from deletion: ${reason}. Lift the hold first.`);
}

/**
 * Refuses to move a tag that is held itself: what it named when it was held is what it keeps naming. A hold on the
 * repository or on a manifest stops no tag from moving, for a move deletes nothing. Asked only where a tag really moves.
 */
export async function refuseHeldMove(
  { sql, now }: CommandContext,
  repositoryId: number,
  tag: string,
  code: 'DENIED' | 'UNSUPPORTED' = 'DENIED',
): Promise<void> {
  const row = await sql.get<{ reason: string }>(
    'select reason from hold where repository_id = ? and tag = ? and (until_at is null or until_at > ?) limit 1',
    repositoryId,
    tag,
    now,
  );
  if (row === undefined) return;
  throw new RegistryError(code, `A hold keeps the tag ${tag} where it is: ${row.reason}. Lift the hold first.`, {
    detail: { tag },
  });
}

/** The error for a manifest that is not there. */
export function manifestUnknown(reference: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', 'There is no such manifest in this repository.', {
    detail: { reference },
  });
}
