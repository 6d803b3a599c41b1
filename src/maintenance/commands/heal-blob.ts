/** How a damaged blob comes back: a place to work at it, then its bytes under a new key by the way of every push. */
import type { Command, CommandContext } from '../../database/database.ts';
import { recordHealed, systemFacts } from '../../local/commands/damage.ts';
import { freshKeyNumber, killKey, lockBlob, queueReview } from '../../local/commands/rows.ts';
import type { RepositoryName } from '../../oci/names.ts';

/** A damaged blob to be healed. `n`: the key that it still names; null: none. `manifest`: its media type, where it is one here. */
export interface Patient {
  readonly digest: Uint8Array;
  readonly size: number;
  readonly n: number | null;
  readonly attempts: number;
  readonly manifest?: string;
  readonly repositories: readonly RepositoryName[];
}

/** How long a patient is left to who took it. Milliseconds. */
const HELD = 600_000;
/** Repositories that a source is told of. */
const TOLD = 20;

/**
 * Takes at most `limit` damaged blobs that are due; nobody else gets them for ten minutes. Records of blobs that were
 * pushed again, or are gone, are closed on the way; `closed` says how many. `all`: whatever is open is due, also what a
 * process held that has died.
 */
export const healClaim: Command<{ limit: number; all: boolean }, { patients: readonly Patient[]; closed: number }> = {
  name: 'heal-claim',
  async run(context, { limit, all }) {
    const { sql, now } = context;
    if (all) await sql.run("update damage set next_at = ? where state = 'open' and next_at > ?", now, now);
    const due = await sql.all<{ id: number; digest: Uint8Array; size: number; attempts: number }>(
      `select id, digest, size, attempts from damage where state = 'open' and next_at <= ?
       order by next_at, id limit ? {for update skip locked}`,
      now,
      limit,
    );
    const patients: Patient[] = [];
    for (const { id, digest, size, attempts } of due) {
      const row = await sql.get<{ state: string; n: number | null }>(
        'select state, n from blob where digest = ?',
        digest,
      );
      if (row === undefined) {
        await sql.run("update damage set state = 'gone', closed_at = ? where id = ? and state = 'open'", now, id);
        continue;
      }
      if (row.state === 'live') {
        await recordHealed(context, digest, 'push', systemFacts('heal'));
        continue;
      }
      await sql.run('update damage set attempts = attempts + 1, next_at = ? where id = ?', now + HELD, id);
      patients.push({
        ...{ digest, size, attempts: attempts + 1 },
        n: row.state === 'damaged' ? row.n : null,
        ...(await whatItIs(context, digest)),
      });
    }
    return { result: { patients, closed: due.length - patients.length }, touched: [] };
  },
};

async function whatItIs(
  { sql }: CommandContext,
  digest: Uint8Array,
): Promise<{ manifest?: string; repositories: readonly RepositoryName[] }> {
  const manifest = await sql.get<{ media_type: string }>(
    'select media_type from manifest where digest = ? order by deleted_tick limit 1',
    digest,
  );
  const rows = await sql.all<{ name: RepositoryName }>(
    `select r.name from repository r where r.gone = 0 and r.id in (
       select l.repository_id from link l where l.digest = ?
       union select m.repository_id from manifest m where m.digest = ? and m.deleted_tick = 0)
     order by r.id limit ${TOLD}`,
    digest,
    digest,
  );
  return {
    ...(manifest === undefined ? {} : { manifest: manifest.media_type }),
    repositories: rows.map(({ name }) => name),
  };
}

/** The bytes under the key that a damaged row names are right after all (storage that was away came back). False: it names another by now. */
export const healRevive: Command<{ digest: Uint8Array; n: number; size: number }, boolean> = {
  name: 'heal-revive',
  async run(context, { digest, n, size }) {
    const moved = await context.sql.run(
      "update blob set state = 'live', stored = 1, size = ?, lease_tick = 0 where digest = ? and n = ? and state = 'damaged'",
      size,
      digest,
      n,
    );
    if (moved === 1) await recordHealed(context, digest, 'storage', systemFacts('heal'));
    return { result: moved === 1, touched: [] };
  },
};

/** Whole, verified bytes inline under a fresh key; the spill stores them. False: it is live or gone by now. */
export const healInline: Command<{ digest: Uint8Array; bytes: Uint8Array; from: string }, boolean> = {
  name: 'heal-inline',
  async run(context, { digest, bytes, from }) {
    const { sql, tick, ticks } = context;
    await queueReview(context, 0, digest, tick + ticks.grace);
    const row = await lockBlob(context, digest);
    if (row.state === 'live') {
      await recordHealed(context, digest, 'push', systemFacts('heal'));
      return { result: false, touched: [] };
    }
    if (row.state === 'damaged') await killKey(context, digest, row.n ?? 0);
    const n = row.state === 'incoming' ? (row.n ?? 0) : await freshKeyNumber(context, digest);
    await sql.run(
      "update blob set state = 'live', size = ?, n = ?, stored = 0, lease_tick = 0 where digest = ?",
      bytes.length,
      n,
      digest,
    );
    await sql.run('delete from content where digest = ?', digest);
    await sql.run('insert into content (digest, bytes) values (?, ?)', digest, bytes);
    await recordHealed(context, digest, from, systemFacts('heal'));
    return { result: true, touched: [] };
  },
};

/** The bytes lie durable under the reserved key n. False: that key died meanwhile, and its bytes go. */
export const healStored: Command<{ digest: Uint8Array; n: number; size: number; from: string }, boolean> = {
  name: 'heal-stored',
  async run(context, { digest, n, size, from }) {
    const { sql, tick, ticks } = context;
    await queueReview(context, 0, digest, tick + ticks.grace);
    const moved = await sql.run(
      `update blob set state = 'live', stored = 1, size = ?, lease_tick = 0
       where digest = ? and n = ? and state in ('incoming', 'live')`,
      size,
      digest,
      n,
    );
    if (moved === 0)
      await sql.run('update dead_key set confirmed = 0, tick = ? where digest = ? and n = ?', tick, digest, n);
    else await recordHealed(context, digest, from, systemFacts('heal'));
    return { result: moved === 1, touched: [] };
  },
};

/** No source had it: they are asked again in `again` milliseconds. */
export const healFailed: Command<{ digest: Uint8Array; again: number; outcome: string }, undefined> = {
  name: 'heal-failed',
  async run({ sql, now }, { digest, again, outcome }) {
    await sql.run(
      "update damage set next_at = ?, outcome = ? where digest = ? and state = 'open'",
      now + again,
      outcome.slice(0, 500),
      digest,
    );
    return { result: undefined, touched: [] };
  },
};
