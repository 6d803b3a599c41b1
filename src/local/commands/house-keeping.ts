/** The small commands that keep the house: the tick, the key of upload ids, the spill of inline bytes. */
import type { Command } from '../../database/database.ts';
import { freshKeyNumber } from './rows.ts';

/** Moves the clock of all that ends in deletion on by one, where it still stands at `seen` (threats.md §2.3). */
export const tickForward: Command<{ seen: number }, number> = {
  name: 'tick',
  async run({ sql }, { seen }) {
    await sql.run('update gc_clock set tick = tick + 1 where id = 1 and tick = ?', seen);
    const row = await sql.get<{ tick: number }>('select tick from gc_clock where id = 1');
    return { result: row?.tick ?? seen, touched: [] };
  },
};

/** The secret under which upload ids are signed: the one that is kept, else the one offered. */
export const uploadKeyEnsure: Command<{ kid: string; secret: Uint8Array }, Uint8Array> = {
  name: 'upload-key-ensure',
  async run({ sql, now }, { kid, secret }) {
    const find = (): Promise<{ secret: Uint8Array } | undefined> =>
      sql.get<{ secret: Uint8Array }>(
        "select secret from signing_key where purpose = 'upload' order by use_from, kid limit 1",
      );
    // Two servers that start at once must come to the same secret: the second waits here and finds the first's.
    if ((await find()) === undefined) await sql.get('select id from installation where id = 1{ for update}');
    const kept = await find();
    if (kept !== undefined) return { result: kept.secret, touched: [] };
    await sql.run(
      `insert into signing_key (kid, purpose, algorithm, secret, use_from) values (?, 'upload', 'HMAC-SHA256', ?, ?)
       on conflict (kid) do nothing`,
      kid,
      secret,
      now,
    );
    return { result: (await find())?.secret ?? secret, touched: [] };
  },
};

/** Inline bytes were written under key n. False: that key died meanwhile, and its dead row is opened again so that the bytes go. */
export const spillDone: Command<{ digest: Uint8Array; n: number }, boolean> = {
  name: 'spill-done',
  async run(context, { digest, n }) {
    const { sql } = context;
    const moved = await sql.run(
      "update blob set stored = 1 where digest = ? and n = ? and state = 'live' and stored = 0",
      digest,
      n,
    );
    if (moved === 0) {
      const fresh = await freshKeyNumber(context, digest);
      if (n < fresh)
        await sql.run(
          'update dead_key set confirmed = 0, tick = ? where digest = ? and n = ?',
          context.tick,
          digest,
          n,
        );
      return { result: false, touched: [] };
    }
    await sql.run(
      'delete from content where digest = ? and not exists (select 1 from manifest m where m.digest = content.digest)',
      digest,
    );
    return { result: true, touched: [] };
  },
};

/** Adds at most 500 appended changes of usage to their sums; how many there were. */
export const usageFold: Command<object, number> = {
  name: 'usage-fold',
  async run({ sql }) {
    const rows = await sql.all<{ id: number; repository_id: number; bytes: number; manifests: number }>(
      'select id, repository_id, bytes, manifests from usage_delta order by id limit 500 {for update skip locked}',
    );
    const sums = new Map<number, { bytes: number; manifests: number }>();
    for (const row of rows) {
      const sum = sums.get(row.repository_id) ?? { bytes: 0, manifests: 0 };
      sums.set(row.repository_id, { bytes: sum.bytes + row.bytes, manifests: sum.manifests + row.manifests });
      await sql.run('delete from usage_delta where id = ?', row.id);
    }
    for (const [repositoryId, sum] of [...sums].sort((a, b) => a[0] - b[0])) {
      await sql.run(
        `insert into usage (repository_id, bytes, manifests) values (?, ?, ?)
         on conflict (repository_id) do update set bytes = usage.bytes + excluded.bytes, manifests = usage.manifests + excluded.manifests`,
        repositoryId,
        sum.bytes,
        sum.manifests,
      );
    }
    return { result: rows.length, touched: [] };
  },
};
