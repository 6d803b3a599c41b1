/** Many entries reviewed together on PostgreSQL: what comes of it is what comes of reviewing each by itself, and nothing is waited for. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { Client } from 'pg';
import { choices } from '../../../test/support/random.ts';
import { type Step, script } from '../../database/commands.testing.ts';
import type { Database, Value } from '../../database/database.ts';
import { openTestPostgres, stopTestServer } from '../../database/open.testing.ts';
import { postgresIsThere } from '../../database/postgres/server.testing.ts';
import { GC_COMMANDS } from './gc-list.ts';
import { gcReview, type Reviewed } from './gc-review.ts';
import type { Entry } from './gc-review-many.ts';

const TICKS = { grace: 4, undelete: 8, uploadLifetime: 3 };
const TICK = 100;
const REPOSITORIES = 4;
const BLOBS = 40;
const SEEDS = 6;
const TABLES = 'gc_queue dead_key content reference manifest link hold blob usage_delta repository'.split(' ');

type Rows = Record<string, Record<string, Value>[]>;

function digestOf(number: number): Uint8Array {
  return new Uint8Array(createHash('sha256').update(String(number)).digest());
}

async function dump(database: Database): Promise<Rows> {
  const rows: Rows = {};
  for (const table of TABLES) rows[table] = await database.query.all(`select * from ${table}`);
  return rows;
}

async function put(database: Database, rows: Rows): Promise<void> {
  const steps: Step[] = TABLES.map((table) => ({ text: `delete from ${table}` }));
  for (const table of [...TABLES].reverse()) {
    for (const row of rows[table] ?? []) {
      const names = Object.keys(row);
      const text = `insert into ${table} (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`;
      steps.push({ text, values: names.map((name) => row[name]!) });
    }
  }
  await database.run(script, { steps });
}

/** What there is, comparable: usage as its sums. */
async function found(database: Database): Promise<unknown> {
  const { usage_delta, ...rows } = await dump(database);
  const usage = new Map<number, number>();
  for (const { repository_id, bytes } of usage_delta!)
    usage.set(Number(repository_id), (usage.get(Number(repository_id)) ?? 0) + Number(bytes));
  const sorted = Object.entries(rows).map(([table, all]) => [table, all.map((row) => JSON.stringify(row)).sort()]);
  return [sorted, [...usage].filter(([, bytes]) => bytes !== 0).sort(([a], [b]) => a - b)];
}

/** Links, manifests that name them or are deleted, holds, rows of every state, entries due and not due. */
function world(seed: number): Rows {
  const { below, pick } = choices(seed);
  const one = <T>(from: readonly T[]): T => pick(from) as T;
  const rows: Rows = Object.fromEntries(TABLES.map((table) => [table, []]));
  for (let id = 1; id <= REPOSITORIES; id++) {
    const gone = below(5) === 0 ? id : 0;
    const active_tick = one([TICK - 50, TICK - 50, TICK - TICKS.grace, TICK - 1]);
    rows.repository!.push({
      ...{ id, uid: `u${id}`, project_id: 1, name: `r${id}`, gone, shown: 1 },
      ...{ version: 0, active_tick, created_at: 0 },
    });
  }
  let due = 0;
  const queue = (repository_id: number, digest: Uint8Array): void => {
    rows.gc_queue!.push({ repository_id, digest, due_tick: below(8) === 0 ? TICK + 3 : ++due % TICK });
  };
  for (let number = 0; number < BLOBS; number++) {
    const digest = digestOf(number);
    const state = one(['live', 'live', 'live', 'live', 'live', 'incoming', 'absent', 'damaged']);
    const stored = state === 'live' ? below(2) : 0;
    const lease_tick = state === 'incoming' ? TICK - 1 + below(3) : 0;
    const n = state === 'absent' ? null : below(2);
    rows.blob!.push({ digest, state, size: state === 'absent' ? null : 10 + number, n, stored, lease_tick });
    if (n === 1) rows.dead_key!.push({ digest, n: 0, tick: 5, confirmed: below(2), size: 3 });
    if (state === 'live' && stored === 0) rows.content!.push({ digest, bytes: new Uint8Array([1, 2]) });
    for (let repository = 1; repository <= REPOSITORIES; repository++) {
      const isLinked = below(2) === 0;
      if (isLinked) rows.link!.push({ repository_id: repository, digest });
      if (below(4) > 0) queue(repository, digest);
      if (isLinked && below(4) === 0) {
        const id = number * 10 + repository;
        const deleted_tick = one([0, TICK - 2]);
        const name = digestOf(1_000 + id);
        rows.blob!.push({ digest: name, state: 'live', size: 5, n: 0, stored: 1, lease_tick: 0 });
        rows.manifest!.push({
          ...{ id, repository_id: repository, digest: name, media_type: 'text/test', artifact_type: null },
          ...{ size: 5, subject: null, deleted_tick, pushed_at: 0 },
        });
        rows.reference!.push({ manifest_id: id, digest, is_child: 0, repository_id: repository, child_id: null });
      }
    }
    if (below(2) === 0) queue(0, digest);
    if (below(8) === 0) {
      const repository_id = one([null, 1, 2, 3]);
      rows.hold!.push({
        ...{ id: number + 1, uid: `h${number}`, repository_id, tag: null },
        ...{ digest: repository_id === 3 && below(3) === 0 ? null : digest, reason: 'test', actor: 'test' },
        ...{ until_at: one([null, 1]), created_at: 0 },
      });
    }
  }
  // An entry of what is not there.
  queue(1, digestOf(5_000));
  queue(0, digestOf(5_001));
  return rows;
}

const total = (sum: Omit<Reviewed, 'left' | 'entries'>, { unlinked, condemned, bytes }: Reviewed) => ({
  unlinked: sum.unlinked + unlinked,
  condemned: sum.condemned + condemned,
  bytes: sum.bytes + bytes,
});

const NONE = { unlinked: 0, condemned: 0, bytes: 0 };

if (await postgresIsThere()) {
  after(stopTestServer);

  test('entries that are reviewed together end as those that are reviewed one by one', async (t) => {
    const { database, stop } = await openTestPostgres({ commands: [...GC_COMMANDS, script], ticks: TICKS });
    const all = { together: 0, alone: 0, unlinked: 0, condemned: 0 };
    try {
      await database.run(script, { steps: [{ text: 'update gc_clock set tick = ?', values: [TICK] }] });
      for (let seed = 1; seed <= SEEDS; seed++) {
        await put(database, world(seed));
        const before = await dump(database);
        let together = NONE;
        for (;;) {
          const done = await database.run(gcReview, { limit: 50 });
          together = total(together, done);
          all.together += done.entries - done.left.length;
          all.alone += done.left.length;
          for (const only of done.left) together = total(together, await database.run(gcReview, { limit: 1, only }));
          if (done.entries < 50) break;
        }
        const ended = await found(database);

        await put(database, before);
        let alone = NONE;
        const due = await database.query.all<Entry>(
          'select repository_id, digest from gc_queue where due_tick <= ? order by due_tick, repository_id',
          TICK,
        );
        for (const only of due) {
          const done = await database.run(gcReview, { limit: 1, only });
          assert.ok(done.entries <= 1 && done.left.length === 0);
          alone = total(alone, done);
        }
        assert.deepEqual(ended, await found(database), `seed ${seed}`);
        assert.deepEqual(together, alone, `seed ${seed}`);
        all.unlinked += alone.unlinked;
        all.condemned += alone.condemned;
      }
      t.diagnostic(JSON.stringify(all));
      for (const count of Object.values(all)) assert.ok(count > 10, JSON.stringify(all));
    } finally {
      await stop();
    }
  });

  test('rows that somebody has locked are left out, and not waited for', async () => {
    const { database, url, stop } = await openTestPostgres({ commands: [...GC_COMMANDS, script], ticks: TICKS });
    const other = new Client({ connectionString: url });
    await other.connect();
    try {
      const [linked, filled, row, free] = [digestOf(1), digestOf(2), digestOf(3), digestOf(4)];
      const rows: Rows = Object.fromEntries(TABLES.map((table) => [table, []]));
      rows.repository = world(1)
        .repository!.slice(0, 1)
        .map((one) => ({ ...one, active_tick: 1, gone: 0 }));
      for (const digest of [linked, filled, row, free]) {
        rows.blob!.push({ digest, state: 'live', size: 7, n: 0, stored: 1, lease_tick: 0 });
        if (digest !== row) rows.link!.push({ repository_id: 1, digest });
        rows.gc_queue!.push({ repository_id: digest === row ? 0 : 1, digest, due_tick: 1 });
      }
      await put(database, rows);
      await database.run(script, { steps: [{ text: 'update gc_clock set tick = ?', values: [TICK] }] });
      await other.query('begin');
      await other.query('select 1 from link where digest = $1 for key share', [linked]);
      await other.query('select 1 from blob where digest = any($1) for key share', [[filled, row]]);
      const done = await database.run(gcReview, { limit: 100 });
      assert.deepEqual(
        { ...done, left: done.left.map(({ digest }) => Buffer.from(digest).toString('hex')) },
        { entries: 4, unlinked: 1, condemned: 1, bytes: 7, left: [Buffer.from(filled).toString('hex')] },
      );
      const due = await database.query.all<Entry>('select digest from gc_queue where due_tick = ?', TICK + 1);
      assert.deepEqual(
        due.map(({ digest }) => Buffer.from(digest).toString('hex')).sort(),
        [linked, row].map((digest) => Buffer.from(digest).toString('hex')).sort(),
      );
      // By itself its link goes; the row is left to a later review.
      const alone = await database.run(gcReview, { limit: 1, only: done.left[0]! });
      assert.deepEqual([alone.entries, alone.unlinked, alone.condemned], [1, 1, 0]);
      await other.query('commit');
      await database.run(script, { steps: [{ text: 'update gc_clock set tick = ?', values: [TICK + 1] }] });
      const rest = await database.run(gcReview, { limit: 100 });
      assert.deepEqual([rest.entries, rest.unlinked, rest.condemned, rest.left.length], [3, 1, 3, 0]);
    } finally {
      await other.end();
      await stop();
    }
  });
}
