/**
 * Placing and lifting holds. A hold stops manifest-delete, tag-delete, purge and condemnation (schema.md §2), the
 * deletion of its repository, and the move of a tag that is held itself; all of them ask the table that is written here.
 */
import type { Command, CommandContext } from '../../../database/database.ts';
import { digestFromBytes } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import type { RepositoryName, Tag } from '../../../oci/names.ts';

/** Most holds of one repository. */
export const MAX_HOLDS = 1_000;

/** A hold on a repository, or on one tag or one manifest of it. Digests are in the database's form. */
export interface NewHold {
  readonly uid: string;
  readonly repository: RepositoryName;
  readonly tag: Tag | null;
  readonly digest: Uint8Array | null;
  /** At most 1,000 characters; checked by the caller. */
  readonly reason: string;
  /** Wall milliseconds at which it ends by itself; null: never. */
  readonly until: number | null;
  readonly actor: string;
}

/**
 * Places the hold. What it is on must be there, or be deleted and not yet purged: NAME_UNKNOWN, MANIFEST_UNKNOWN.
 * UNSUPPORTED where the repository has 1,000 holds.
 */
export const holdAdd: Command<NewHold, undefined> = {
  name: 'hold-add',
  async run(context, hold) {
    const { sql, now } = context;
    // For update: whatever is deleting here ends first, and whatever comes later reads the hold.
    const repository = await sql.get<{ id: number }>(
      'select id from repository where gone = 0 and shown = 1 and name = ? {for update}',
      hold.repository,
    );
    if (repository === undefined) {
      throw new RegistryError('NAME_UNKNOWN', 'There is no such repository.', { detail: { name: hold.repository } });
    }
    if (hold.digest !== null) await lockManifest(context, repository.id, hold.digest);
    if (hold.tag !== null) await lockTag(context, repository.id, hold.tag);
    const held = await sql.get<{ n: number }>('select count(*) as n from hold where repository_id = ?', repository.id);
    if (Number(held?.n ?? 0) >= MAX_HOLDS) {
      throw new RegistryError('UNSUPPORTED', `A repository has at most ${MAX_HOLDS} holds: lift some first.`);
    }
    await sql.run(
      `insert into hold (uid, repository_id, tag, digest, reason, actor, until_at, created_at)
       values (?, ?, ?, ?, ?, ?, ?, ?)`,
      hold.uid,
      repository.id,
      hold.tag,
      hold.digest,
      hold.reason,
      hold.actor,
      hold.until,
      now,
    );
    return { result: undefined, touched: [] };
  },
};

/** The end of a window may be taking it at this moment: then it waits, and the manifest is gone. */
async function lockManifest({ sql }: CommandContext, repositoryId: number, digest: Uint8Array): Promise<void> {
  const row = await sql.get<{ id: number }>(
    'select id from manifest where repository_id = ? and digest = ? {for key share}',
    repositoryId,
    digest,
  );
  if (row !== undefined) return;
  const reference = digestFromBytes(digest);
  throw new RegistryError('MANIFEST_UNKNOWN', 'There is no such manifest in this repository.', {
    detail: { reference },
  });
}

async function lockTag({ sql }: CommandContext, repositoryId: number, tag: Tag): Promise<void> {
  const live = await sql.get<{ gone: number }>(
    'select gone from tag where repository_id = ? and gone = 0 and name = ? {for key share}',
    repositoryId,
    tag,
  );
  const row =
    live ??
    (await sql.get<{ gone: number }>(
      `select t.gone from tag_event e join tag t on t.repository_id = e.repository_id and t.gone = e.id and t.name = e.name
       where e.repository_id = ? and e.name = ? order by e.id desc limit 1 {for key share of t}`,
      repositoryId,
      tag,
    ));
  if (row !== undefined) return;
  throw new RegistryError('MANIFEST_UNKNOWN', 'There is no such tag in this repository.', {
    detail: { reference: tag },
  });
}

/** Lifts the hold of that id; whether there was one. */
export const holdRemove: Command<{ readonly uid: string }, boolean> = {
  name: 'hold-remove',
  async run({ sql }, { uid }) {
    return { result: (await sql.run('delete from hold where uid = ?', uid)) > 0, touched: [] };
  },
};
