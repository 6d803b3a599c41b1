/** Inline bytes that are wrong, or missing where a manifest needs them. */
import type { Command } from '../../database/database.ts';
import { inlineBytes, isWhole, recordDamage, repositoriesOf } from '../../local/commands/damage.ts';

/**
 * The inline bytes of a live row under key n are wrong or missing. `bytes`: the right ones, read from storage; they take
 * their place, and undefined means that storage has not got them either: then the blob is damaged, 404 until it is healed
 * or pushed again. `stale`: the row has changed, or the inline bytes are right after all.
 */
export const inlineDamaged: Command<
  { digest: Uint8Array; n: number; why: string; bytes?: Uint8Array },
  'stale' | 'restored' | 'damaged'
> = {
  name: 'inline-damaged',
  async run(context, { digest, n, why, bytes }) {
    const { sql } = context;
    const row = await sql.get<{ size: number; stored: number }>(
      "select size, stored from blob where digest = ? and n = ? and state = 'live' {for no key update}",
      digest,
      n,
    );
    if (row === undefined) return { result: 'stale', touched: [] };
    const inline = await inlineBytes(context, digest);
    const manifest = await sql.get<{ found: number }>(
      'select 1 as found from manifest where digest = ? limit 1',
      digest,
    );
    const needed = row.stored === 0 || manifest !== undefined;
    if (inline === undefined ? !needed : inline !== 'bad') return { result: 'stale', touched: [] };
    const touched = (await repositoriesOf(context, digest)).map(({ name }) => name);
    const damage = { digest, n, size: row.size, found: 'scrub', why } as const;
    await sql.run('delete from content where digest = ?', digest);
    if (row.stored === 1 && bytes !== undefined && isWhole(digest, bytes)) {
      if (needed) await sql.run('insert into content (digest, bytes) values (?, ?)', digest, bytes);
      await recordDamage(context, damage, 'storage');
      return { result: 'restored', touched };
    }
    await sql.run("update blob set state = 'damaged', stored = 0 where digest = ?", digest);
    await recordDamage(context, damage);
    return { result: 'damaged', touched };
  },
};
