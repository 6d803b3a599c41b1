/** The index mirror: always the present state, small writes, and whole whenever a process dies or another one writes too. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openTestSqlite } from '../database/open.testing.ts';
import { armFailpoints } from '../kit/failpoint.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import { blob, descriptor, image } from '../registry/samples.testing.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { drain } from './drain.ts';
import { CALL } from './gc.testing.ts';
import { mirrorRepository } from './mirror.ts';
import {
  type ChunkTable,
  chunkText,
  entryText,
  MOST_ENTRIES,
  parseChunk,
  parseTable,
  repositoryOfTable,
  sha256,
  tableRecord,
} from './mirror-format.ts';
import { type Installation, installed } from './reindex.testing.ts';

const A = 'a' as RepositoryName;

async function recordsOf(storage: BlobStorage): Promise<string[]> {
  const names: string[] = [];
  for await (const name of storage.records.list('index/')) names.push(name);
  return names.sort();
}

async function tableOf(storage: BlobStorage): Promise<ChunkTable> {
  const table = parseTable((await storage.records.get(tableRecord(A)))!, A);
  assert.ok(typeof table !== 'string', String(table));
  return table;
}

/** Every tag as the mirror has it; throws where the table names what is not there. */
async function tagsOf(storage: BlobStorage): Promise<string[]> {
  const tags: string[] = [];
  for (const { record, sha256: hash, entries } of (await tableOf(storage)).tags) {
    const bytes = await storage.records.get(record);
    assert.ok(bytes !== undefined && sha256(bytes) === hash, record);
    const parsed = parseChunk(bytes, 'tags');
    assert.ok(typeof parsed !== 'string' && parsed.unreadable === 0 && parsed.entries.length === entries);
    tags.push(...parsed.entries.map((entry) => entry.tag!));
  }
  return tags;
}

async function pushed(to: Installation, text: string, ...tags: string[]): Promise<Digest> {
  const config = blob(text);
  await to.pushBlob('a', config.bytes);
  return to.push('a', image(config, []), ...tags);
}

/** A storage that counts the records that are written, and may be made to do something before a write. */
function counted(storage: BlobStorage): BlobStorage & { put: number; before?: (name: string) => Promise<unknown> } {
  const own: BlobStorage & { put: number; before?: (name: string) => Promise<unknown> } = {
    ...storage,
    put: 0 as never,
    records: {
      ...storage.records,
      async put(name, bytes) {
        await own.before?.(name);
        (own as { put: number }).put++;
        await storage.records.put(name, bytes);
      },
    },
  };
  return own;
}

describe('the index mirror', () => {
  test('one moved tag among thousands rewrites one chunk and the table; nothing changed writes nothing', async () => {
    const storage = memoryStorage();
    await installed(openTestSqlite, storage, async (to) => {
      const names = Array.from({ length: 6000 }, (_, number) => `t${number}`);
      const first = await pushed(to, 'one');
      await pushed(to, 'two', 'moving');
      const [{ id } = { id: 0 }] = await to.rows<{ id: number }>('select id from manifest order by id limit 1');
      for (let at = 0; at < names.length; at += 500) {
        const rows = names.slice(at, at + 500);
        const values = rows.map(() => `(1, 0, ?, ${id}, 1)`).join(', ');
        await to.sql(`insert into tag (repository_id, gone, name, manifest_id, updated_at) values ${values}`, ...rows);
      }
      const parts = { database: to.database, storage: counted(storage) };
      assert.equal(await mirrorRepository(parts, A), true);
      assert.deepEqual((await tagsOf(storage)).sort(), [...names, 'moving'].sort());
      const { tags, manifests } = await tableOf(storage);
      assert.ok(tags.length > 3 && tags.every(({ entries }) => entries <= MOST_ENTRIES));
      assert.deepEqual((await recordsOf(storage)).length, tags.length + manifests.length + 1);
      parts.storage.put = 0 as never;
      assert.equal(await mirrorRepository(parts, A), false);
      assert.equal(parts.storage.put, 0);
      await pushed(to, 'one', 'moving');
      assert.equal(await mirrorRepository(parts, A), true);
      assert.equal(parts.storage.put, 2);
      assert.ok(first.length > 0);
      assert.deepEqual((await recordsOf(storage)).length, tags.length + manifests.length + 1);
    });
  });

  test('whoever dies between the chunks and the table leaves the mirror that was there', async () => {
    const storage = memoryStorage();
    await installed(openTestSqlite, storage, async (to) => {
      await pushed(to, 'one', 'v1');
      await mirrorRepository(to, A);
      await pushed(to, 'two', 'v2');
      armFailpoints((name) => {
        if (name === 'mirror.put.before') throw new Error('dies here');
      });
      try {
        await assert.rejects(mirrorRepository(to, A), /dies here/);
      } finally {
        armFailpoints(undefined);
      }
      assert.deepEqual(await tagsOf(storage), ['v1']);
      await mirrorRepository(to, A);
      assert.deepEqual(await tagsOf(storage), ['v1', 'v2']);
      // What the dead run had written and nobody named is gone too.
      assert.equal((await recordsOf(storage)).length, 3);
    });
  });

  test('two processes that write at the same time: the last table names only what is there', async () => {
    const storage = memoryStorage();
    await installed(openTestSqlite, storage, async (to) => {
      await pushed(to, 'one', 'v1');
      await mirrorRepository(to, A);
      await pushed(to, 'two', 'v2');
      // Another storage object: another process.
      const other = { database: to.database, storage: memoryBehind(storage) };
      const slow = { database: to.database, storage: counted(storage) };
      let came = false;
      slow.storage.before = async (name) => {
        if (came || !name.endsWith('_chunks.json')) return;
        came = true;
        await to.store.deleteTag(CALL, A, 'v2' as Tag);
        await mirrorRepository(other, A);
      };
      await mirrorRepository(slow, A);
      assert.deepEqual(await tagsOf(storage), ['v1']);
      assert.equal((await recordsOf(storage)).length, 3);
    });
  });

  test('a drain moves bytes, writes every mirror that is not right, and removes those of repositories that are gone', async () => {
    const storage = memoryStorage();
    await installed(openTestSqlite, storage, async (to) => {
      await pushed(to, 'one', 'v1');
      await to.push('gone', image(blob('x'), []), 'v1').catch(() => undefined);
      const lag = await drain({ ...to, log: silentLog, metrics: noMetrics }).lag();
      assert.deepEqual(lag, { blobs: 2, repositories: 1 });
      await to.drain();
      await storage.records.put('index/old/_chunks.json', Buffer.from('{"version":1}'));
      await storage.records.put('index/old/_tags/x.json', Buffer.from('{}'));
      await storage.records.delete((await tableOf(storage)).tags[0]!.record);
      await to.drain();
      assert.deepEqual(await tagsOf(storage), ['v1']);
      assert.equal((await recordsOf(storage)).length, 3);
      while (!(await to.store.deleteRepository(CALL, A)).done);
      await to.drain();
      assert.deepEqual(await recordsOf(storage), []);
    });
  });

  test('a mirror that cannot be written is said, and the others are written', async () => {
    const storage = memoryStorage();
    await installed(openTestSqlite, storage, async (to) => {
      await pushed(to, 'one', 'v1');
      const failing = counted(storage);
      failing.before = () => Promise.reject(new Error('no room'));
      const draining = drain({ ...to, storage: failing, log: silentLog, metrics: noMetrics });
      const done = await draining.step({ stage: 'mirror' }, new AbortController().signal);
      assert.deepEqual(done.failed, ['the mirror of a: no room']);
      assert.deepEqual(done.next, { stage: 'strays' });
    });
  });
});

/** The same storage as another process would have it. */
function memoryBehind(storage: BlobStorage): BlobStorage {
  return { ...storage };
}

describe('what is read of a mirror', () => {
  const entry = { ...descriptor(blob('x')), unlinked: [], blobs: [] };

  test('an entry comes back as it was written', () => {
    const digests = [blob('1').digest, blob('2', 'sha512').digest];
    const entries = [
      { ...entry, tag: 'v1' as Tag, at: 5 },
      { ...entry, tag: '__proto__' as Tag, unlinked: 'all' as const },
      { ...entry, tag: 'v3' as Tag, unlinked: digests, blobs: digests },
    ];
    const parsed = parseChunk(Buffer.from(chunkText(entries.map(entryText))), 'tags');
    assert.deepEqual(parsed, { entries, unreadable: 0 });
  });

  test('a list that is too long, or that makes no sense, gives no right to read', () => {
    const many = Array.from({ length: 5000 }, (_, number) => blob(String(number)).digest);
    const texts = [
      entryText({ ...entry, unlinked: many, blobs: many }),
      JSON.stringify({
        ...descriptor(blob('x')),
        annotations: { 'longshore.unlinked': 'nonsense', 'longshore.blobs': 7 },
      }),
    ];
    const parsed = parseChunk(Buffer.from(chunkText(texts)), 'manifests');
    assert.ok(typeof parsed !== 'string');
    for (const { unlinked, blobs } of parsed.entries) assert.deepEqual([unlinked, blobs], ['all', []]);
  });

  test('tags among manifests, and manifests among tags, are no entries', () => {
    const text = Buffer.from(chunkText([entryText(entry), entryText({ ...entry, tag: 'v1' as Tag })]));
    for (const kind of ['tags', 'manifests'] as const) {
      const parsed = parseChunk(text, kind);
      assert.ok(typeof parsed !== 'string' && parsed.entries.length === 1 && parsed.unreadable === 1);
    }
  });

  test('records that are no tables, and tables of no repository', () => {
    assert.equal(repositoryOfTable('index/a/_tags/x.json'), undefined);
    assert.equal(repositoryOfTable('gc/_chunks.json'), undefined);
    assert.equal(repositoryOfTable('index/a/b/_chunks.json'), 'a/b');
    for (const name of [
      '_chunks.json',
      'A/_chunks.json',
      'a//b/_chunks.json',
      '../a/_chunks.json',
      `${'x'.repeat(300)}/_chunks.json`,
    ])
      assert.equal(repositoryOfTable(`index/${name}`), null, name);
  });

  test('tables that were made up', () => {
    const good = { version: 1, repository: 'a', tags: [], manifests: [] };
    const one = (value: object): object => ({ ...good, tags: [value] });
    const chunk = { record: `index/a/_tags/${'0'.repeat(32)}.json`, sha256: '0'.repeat(64), entries: 1 };
    assert.ok(typeof parseTable(Buffer.from(JSON.stringify(one(chunk))), A) !== 'string');
    for (const bad of [
      { ...chunk, record: `index/a/_tags/../../${'0'.repeat(32)}.json` },
      { ...chunk, record: `index/b/_tags/${'0'.repeat(32)}.json` },
      { ...chunk, record: 7 },
      { ...chunk, sha256: 'x' },
      { ...chunk, entries: -1 },
      null as never,
    ])
      assert.match(String(parseTable(Buffer.from(JSON.stringify(one(bad))), A)), /names chunks/);
    for (const bad of [[], null, 7, { ...good, tags: {} }])
      assert.equal(typeof parseTable(Buffer.from(JSON.stringify(bad)), A), 'string');
    assert.equal(typeof parseTable(Buffer.from([0xff, 0xfe]), A), 'string');
  });
});
