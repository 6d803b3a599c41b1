/**
 * What is kept about damage: a record for each blob that is out of service, and the events that tell of it. Shared by
 * every command that takes a blob out of service or brings it back.
 */
import type { CommandContext } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import type { Facts } from '../../kit/facts.ts';
import { algorithmOf, digestFromBytes, digestOf } from '../../oci/digest.ts';
import { OCTET_STREAM } from '../../oci/media-types.ts';
import type { RepositoryName } from '../../oci/names.ts';

/** Who met the damage: the scrub, a pull, a push that looked whether the bytes are there, a reindex, or a restore. */
export type FoundBy = 'scrub' | 'pull' | 'push' | 'reindex' | 'restore';

/** What was found. `n`: the key's number. `why`: for people. */
export interface Damage {
  readonly digest: Uint8Array;
  readonly n: number;
  readonly size: number;
  readonly found: FoundBy;
  readonly why: string;
}

/** Records that are kept once they are closed; open ones are as many as there are damaged blobs. */
const CLOSED_KEPT = 5_000;
/** Repositories that are told of one blob. */
const TOLD = 20;
const MOST_WHY = 300;

/** The facts of what nobody asked for. */
export function systemFacts(name: string): Facts {
  return { actor: `system:${name}`, request: { id: name } };
}

/** Whether the bytes are what the digest says. */
export function isWhole(digest: Uint8Array, bytes: Uint8Array): boolean {
  const text = digestFromBytes(digest);
  return digestOf(bytes, algorithmOf(text)) === text;
}

/** The inline bytes, where there are some and they are right. `'bad'`: there are some, and they are not. */
export async function inlineBytes(
  { sql }: CommandContext,
  digest: Uint8Array,
): Promise<Uint8Array | 'bad' | undefined> {
  const row = await sql.get<{ bytes: Uint8Array }>('select bytes from content where digest = ?', digest);
  if (row === undefined) return undefined;
  return isWhole(digest, row.bytes) ? row.bytes : 'bad';
}

/** The repositories that have it as a blob or manifest, whose caches forget it. */
export async function repositoriesOf(
  { sql }: CommandContext,
  digest: Uint8Array,
  limit = 10_000,
): Promise<readonly { readonly id: number; readonly name: RepositoryName }[]> {
  return sql.all(
    `select r.id, r.name from repository r where r.gone = 0 and r.id in (
       select l.repository_id from link l where l.digest = ?
       union select m.repository_id from manifest m where m.digest = ? and m.deleted_tick = 0)
     order by r.id limit ?`,
    digest,
    digest,
    limit,
  );
}

/** Writes the record and the events. `healedFrom`: what made it whole in the same transaction; absent: nothing did yet. */
export async function recordDamage(context: CommandContext, damage: Damage, healedFrom?: string): Promise<void> {
  const { sql, now } = context;
  const why = damage.why.slice(0, MOST_WHY);
  const open = healedFrom === undefined;
  await sql.run(
    `insert into damage (digest, n, size, found_by, why, found_at, state, closed_at, healed_from, next_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (digest) where state = 'open' do nothing`,
    damage.digest,
    damage.n,
    damage.size,
    damage.found,
    why,
    now,
    open ? 'open' : 'healed',
    open ? null : now,
    healedFrom ?? null,
    now,
  );
  await forgetOld(context);
  const facts = systemFacts(damage.found);
  const blob = { mediaType: OCTET_STREAM, digest: digestFromBytes(damage.digest), size: damage.size };
  for (const { id, name } of await repositoriesOf(context, damage.digest, TOLD)) {
    await emit(context, id, { type: 'blob.damaged', repository: name, blob, reason: why, ...facts });
    if (healedFrom !== undefined)
      await emit(context, id, { type: 'blob.healed', repository: name, blob, healedFrom, ...facts });
  }
}

/** Closes the open record of a blob that is whole again and tells of it; whether there was one. */
export async function recordHealed(
  context: CommandContext,
  digest: Uint8Array,
  from: string,
  facts: Facts,
): Promise<boolean> {
  const record = await context.sql.get<{ size: number }>(
    `update damage set state = 'healed', closed_at = ?, healed_from = ?, outcome = null
     where digest = ? and state = 'open' returning size`,
    context.now,
    from,
    digest,
  );
  if (record === undefined) return false;
  await forgetOld(context);
  const blob = { mediaType: OCTET_STREAM, digest: digestFromBytes(digest), size: record.size };
  for (const { id, name } of await repositoriesOf(context, digest, TOLD))
    await emit(context, id, { type: 'blob.healed', repository: name, blob, healedFrom: from, ...facts });
  return true;
}

async function forgetOld({ sql }: CommandContext): Promise<void> {
  await sql.run(
    `delete from damage where state <> 'open' and id <= (
       select id from damage where state <> 'open' order by id desc limit 1 offset ${CLOSED_KEPT})`,
  );
}
