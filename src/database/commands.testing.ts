/** Commands that only tests run: they poke at the mechanics of the database, not at its contents. */
import { uuidv7 } from '../kit/id.ts';
import { RegistryError } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { Command, CommandList, Ticks, Value } from './database.ts';

/** One statement of a script. */
export interface Step {
  readonly text: string;
  readonly values?: readonly Value[];
}

/** Runs statements one after the other and gives the rows of each. `fail` then throws. */
export const script: Command<
  {
    readonly steps: readonly Step[];
    readonly touch?: readonly string[];
    readonly fail?: 'registry' | 'type' | 'unclonable';
  },
  unknown[][]
> = {
  name: 'test-script',
  async run({ sql }, { steps, touch = [], fail }) {
    const rows: unknown[][] = [];
    for (const { text, values = [] } of steps) rows.push(await sql.all(text, ...values));
    if (fail === 'registry') {
      throw new RegistryError('MANIFEST_BLOB_UNKNOWN', 'Two blobs are missing.', {
        detail: { digests: ['a', 'b'] },
        status: 404,
        retryAfterSeconds: 7,
      });
    }
    if (fail === 'type') throw new TypeError('a mistake');
    if (fail === 'unclonable') return { result: [[() => 1]], touched: [] };
    return { result: rows, touched: touch as readonly RepositoryName[] };
  },
};

/** A repository of that name; gives its id. */
export const addRepository: Command<{ readonly name: string }, number> = {
  name: 'test-add-repository',
  async run({ sql, now, tick }, { name }) {
    const row = await sql.get<{ id: number }>(
      'insert into repository (uid, project_id, name, active_tick, created_at) values (?, 1, ?, ?, ?) returning id',
      uuidv7(now),
      name,
      tick,
      now,
    );
    return { result: row?.id ?? 0, touched: [name as RepositoryName] };
  },
};

/** A manifest with a tag, in seven statements: what a small push costs. Gives the manifest's id. */
export const pushOne: Command<
  { readonly repository: string; readonly digest: Uint8Array; readonly tag: string; readonly bytes: Uint8Array },
  number
> = {
  name: 'test-push-one',
  async run({ sql, now, tick }, { repository, digest, tag, bytes }) {
    const found = await sql.get<{ id: number }>(
      'select id from repository where gone = 0 and name = ?{ for key share}',
      repository,
    );
    if (found === undefined) throw new RegistryError('NAME_UNKNOWN', 'There is no such repository.');
    const { id } = found;
    await sql.run(
      `insert into gc_queue (repository_id, digest, due_tick) values (?, ?, ?)
        on conflict (repository_id, digest) do update set due_tick = excluded.due_tick`,
      id,
      digest,
      tick + 5,
    );
    await sql.run(
      "insert into blob (digest, state, size, n) values (?, 'live', ?, 0) on conflict (digest) do nothing",
      digest,
      bytes.length,
    );
    await sql.run('insert into content (digest, bytes) values (?, ?) on conflict (digest) do nothing', digest, bytes);
    await sql.run('insert into link (repository_id, digest) values (?, ?) on conflict do nothing', id, digest);
    const manifest = await sql.get<{ id: number }>(
      `insert into manifest (repository_id, digest, media_type, size, pushed_at) values (?, ?, 'text/test', ?, ?)
        on conflict (repository_id, digest) do update set deleted_tick = 0 returning id`,
      id,
      digest,
      bytes.length,
      now,
    );
    await sql.run(
      `insert into tag (repository_id, name, manifest_id, updated_at) values (?, ?, ?, ?)
        on conflict (repository_id, gone, name) do update set manifest_id = excluded.manifest_id`,
      id,
      tag,
      manifest?.id ?? 0,
      now,
    );
    return { result: manifest?.id ?? 0, touched: [repository as RepositoryName] };
  },
};

/** What a command is told, and the same through Kysely. */
export const facts: Command<
  { readonly name: string },
  { dialect: string; now: number; tick: number; ticks: Ticks; updated: number; read: string | undefined }
> = {
  name: 'test-facts',
  async run({ dialect, now, tick, ticks, trx }, { name }) {
    const { numUpdatedRows } = await trx
      .updateTable('repository')
      .set({ shown: 1 })
      .where('name', '=', name as RepositoryName)
      .executeTakeFirstOrThrow();
    const row = await trx
      .selectFrom('repository')
      .select('name')
      .where('shown', '=', 1)
      .where('name', '=', name as RepositoryName)
      .executeTakeFirst();
    return { result: { dialect, now, tick, ticks, updated: Number(numUpdatedRows), read: row?.name }, touched: [] };
  },
};

/** An event's row. */
export const emit: Command<{ readonly repositoryId: number; readonly payload: object }, null> = {
  name: 'test-emit',
  async run(context, { repositoryId, payload }) {
    await context.outbox('tag.moved', repositoryId, payload);
    return { result: null, touched: [] };
  },
};

/** Keeps the writer busy. */
export const dawdle: Command<{ readonly milliseconds: number }, null> = {
  name: 'test-dawdle',
  async run(_, { milliseconds }) {
    const until = performance.now() + milliseconds;
    while (performance.now() < until);
    return { result: null, touched: [] };
  },
};

/** How many rows each statement changed. */
export const counts: Command<{ readonly steps: readonly Step[] }, number[]> = {
  name: 'test-counts',
  async run({ sql, trx }, { steps }) {
    const result: number[] = [];
    for (const { text, values = [] } of steps) result.push(await sql.run(text, ...values));
    const row = { key: 'counted 1', seen_tick: 1 };
    const none = await trx
      .insertInto('orphan')
      .values(row)
      .onConflict((on) => on.doNothing())
      .executeTakeFirst();
    const both = await trx.deleteFrom('orphan').where('key', 'like', 'counted%').executeTakeFirst();
    result.push(Number(none.numInsertedOrUpdatedRows), Number(both.numDeletedRows));
    return { result, touched: [] };
  },
};

/** All of them. */
export const TEST_COMMANDS: CommandList = [counts, script, addRepository, pushOne, facts, emit, dawdle];
