/** Puts a tag on a manifest that is here already: what undelete and roll back have in common. */
import type { CommandContext } from '../../database/database.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import type { Tag } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { checkTagGuards } from './guards.ts';
import { dropFallback, indexFallback, subjectOfFallback } from './referrer-rows.ts';
import { refuseHeldMove } from './rows.ts';

/** Where a tag points, or shall: a manifest's row. */
export interface Target {
  readonly id: number;
  readonly digest: Uint8Array;
}

/**
 * Points the tag at `target`, which the caller has locked and knows to be live; gives where it was. Refused by its
 * guards, and by a hold on the tag where it would move. The history is the caller's to write.
 */
export async function pointTag(
  context: CommandContext,
  repositoryId: number,
  target: Target,
  change: { readonly tag: Tag; readonly guards: Guards },
): Promise<Target | undefined> {
  const before = await place(context, repositoryId, target, change);
  const subject = subjectOfFallback(change.tag);
  if (subject === undefined || before?.id === target.id) return before;
  if (before !== undefined) await dropFallback(context, repositoryId, before.id);
  const children = await context.sql.all<{ digest: Uint8Array }>(
    'select digest from reference where manifest_id = ? and is_child = 1',
    target.id,
  );
  await indexFallback(
    context,
    repositoryId,
    target.id,
    subject,
    children.map((child) => child.digest),
  );
  return before;
}

/** An absent tag cannot be locked, so who loses the race to make it looks again. */
async function place(
  context: CommandContext,
  repositoryId: number,
  target: Target,
  { tag, guards }: { readonly tag: Tag; readonly guards: Guards },
): Promise<Target | undefined> {
  const { sql, now } = context;
  const to = digestFromBytes(target.digest);
  for (;;) {
    const before = await sql.get<Target>(
      `select m.id, m.digest from tag t join manifest m on m.id = t.manifest_id
       where t.repository_id = ? and t.gone = 0 and t.name = ? {for update of t}`,
      repositoryId,
      tag,
    );
    checkTagGuards(guards, { tag, from: before === undefined ? undefined : digestFromBytes(before.digest), to });
    if (before?.id === target.id) return before;
    if (before !== undefined) await refuseHeldMove(context, repositoryId, tag);
    const placed =
      before === undefined
        ? await sql.run(
            `insert into tag (repository_id, gone, name, manifest_id, updated_at) values (?, 0, ?, ?, ?)
             on conflict (repository_id, gone, name) do nothing`,
            repositoryId,
            tag,
            target.id,
            now,
          )
        : await sql.run(
            'update tag set manifest_id = ?, updated_at = ? where repository_id = ? and gone = 0 and name = ?',
            target.id,
            now,
            repositoryId,
            tag,
          );
    if (placed === 1) return before;
  }
}
