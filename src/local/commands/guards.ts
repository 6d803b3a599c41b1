/**
 * Guards, checked inside the transaction of the change that carries them (house.md §1): whoever writes, a request, a
 * job or a feature, meets the same rule at the same commit.
 */
import type { CommandContext } from '../../database/database.ts';
import { selects } from '../../kit/glob.ts';
import { digestFromBytes, digestToBytes } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Digest, Tag } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { findHold } from './rows.ts';

/** What happens to a tag: `to` null is a deletion, `from` undefined a creation. */
export interface TagChange {
  readonly tag: Tag;
  readonly from: Digest | undefined;
  readonly to: Digest | null;
}

/** Refuses the change of a tag that an immutability rule or an expectation of the client forbids. DENIED on a move, UNSUPPORTED on a deletion, 412 for an expectation. */
export function checkTagGuards(guards: Guards, change: TagChange): void {
  for (const guard of guards) {
    if (guard.kind === 'tags-unmoved') {
      if (change.from === undefined || change.from === change.to) continue;
      if (!selects(guard.include, guard.except, change.tag)) continue;
      throw new RegistryError(
        change.to === null ? 'UNSUPPORTED' : 'DENIED',
        `The tag ${change.tag} is immutable by the rule "${guard.rule}": it stays at ${change.from}. Push under another tag, or ask whoever keeps the rule.`,
        { detail: { tag: change.tag, rule: guard.rule } },
      );
    }
    if (guard.kind === 'tag-at' && guard.tag === change.tag && (guard.digest ?? undefined) !== change.from) {
      throw preconditionFailed(change.tag, change.from);
    }
  }
}

function preconditionFailed(tag: Tag, at: Digest | undefined): RegistryError {
  return new RegistryError(
    'DENIED',
    at === undefined
      ? `The tag ${tag} does not exist, which your request made a condition.`
      : `The tag ${tag} is at ${at} now, not where your request made it a condition.`,
    { status: 412, detail: { tag, digest: at ?? null } },
  );
}

/** The guards that are not about a tag that the change moves. */
export async function checkGuards(context: CommandContext, repositoryId: number, guards: Guards): Promise<void> {
  for (const guard of guards) {
    if (guard.kind === 'tag-at') await checkTagAt(context, repositoryId, guard);
    else if (guard.kind === 'not-held') await checkNotHeld(context, repositoryId, guard.digest);
    else if (guard.kind === 'manifest-unreferenced') await checkUnreferenced(context, repositoryId, guard.digest);
    else if (guard.kind === 'quota') await checkQuota(context, guard);
  }
}

/** Also where the change does not move the tag; one that it moves is asked again once it is locked. */
async function checkTagAt(
  { sql }: CommandContext,
  repositoryId: number,
  guard: { tag: Tag; digest: Digest | null },
): Promise<void> {
  const row = await sql.get<{ digest: Uint8Array }>(
    `select m.digest from tag t join manifest m on m.id = t.manifest_id
     where t.repository_id = ? and t.gone = 0 and t.name = ?`,
    repositoryId,
    guard.tag,
  );
  const at = row === undefined ? undefined : digestFromBytes(row.digest);
  if ((guard.digest ?? undefined) !== at) throw preconditionFailed(guard.tag, at);
}

async function checkNotHeld(context: CommandContext, repositoryId: number, digest: Digest): Promise<void> {
  const reason = await findHold(context, repositoryId, { digest: digestToBytes(digest) });
  if (reason !== undefined) throw new RegistryError('UNSUPPORTED', `A hold protects ${digest}: ${reason}.`);
}

async function checkUnreferenced({ sql }: CommandContext, repositoryId: number, digest: Digest): Promise<void> {
  const row = await sql.get<{ by: string }>(
    `select 'tag ' || t.name as by from manifest m join tag t on t.manifest_id = m.id and t.gone = 0
     where m.repository_id = ? and m.digest = ? limit 1`,
    repositoryId,
    digestToBytes(digest),
  );
  const by = row?.by ?? (await parentOf(sql, repositoryId, digest));
  if (by !== undefined) throw new RegistryError('UNSUPPORTED', `The manifest ${digest} is still named by ${by}.`);
}

async function parentOf(sql: CommandContext['sql'], repositoryId: number, digest: Digest): Promise<string | undefined> {
  const row = await sql.get<{ digest: Uint8Array }>(
    `select p.digest from manifest m join reference r on r.child_id = m.id
     join manifest p on p.id = r.manifest_id and p.deleted_tick = 0
     where m.repository_id = ? and m.digest = ? limit 1`,
    repositoryId,
    digestToBytes(digest),
  );
  return row === undefined ? undefined : `index ${digestFromBytes(row.digest)}`;
}

async function checkQuota(
  { sql }: CommandContext,
  guard: { readonly project: string; readonly maxBytes?: number; readonly maxManifests?: number },
): Promise<void> {
  const project = await sql.get<{ id: number }>('select id from project where name = ? {for update}', guard.project);
  if (project === undefined) return;
  const used = await sql.get<{ bytes: number; manifests: number }>(
    `select coalesce(sum(bytes), 0) as bytes, coalesce(sum(manifests), 0) as manifests from (
       select u.bytes, u.manifests from usage u join repository r on r.id = u.repository_id where r.project_id = ?
       union all
       select d.bytes, d.manifests from usage_delta d join repository r on r.id = d.repository_id where r.project_id = ?
     ) as both_parts`,
    project.id,
    project.id,
  );
  const bytes = Number(used?.bytes ?? 0);
  const manifests = Number(used?.manifests ?? 0);
  if (
    bytes > (guard.maxBytes ?? Number.POSITIVE_INFINITY) ||
    manifests > (guard.maxManifests ?? Number.POSITIVE_INFINITY)
  ) {
    throw new RegistryError(
      'DENIED',
      `The quota of the project ${guard.project} is used up: delete what is no longer needed, or ask for more.`,
      {
        detail: {
          project: guard.project,
          bytes,
          manifests,
          maxBytes: guard.maxBytes ?? null,
          maxManifests: guard.maxManifests ?? null,
        },
      },
    );
  }
}
