/** Backups on both databases, and the forms that they are kept in. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { openTestPostgres, openTestSqlite, stopTestServer } from '../database/open.testing.ts';
import { postgresIsThere } from '../database/postgres/server.testing.ts';
import { systemClock } from '../kit/clock.ts';
import type { Digest } from '../oci/names.ts';
import { memoryStorage } from '../storage/memory.ts';
import { backupContract } from './backup.contract.ts';
import { backupPlace, type Point, pointId } from './backup-place.ts';
import { lineToRow, lineWriter, readLines, rowToLine } from './backup-records.ts';

backupContract('a backup of SQLite', openTestSqlite);

if (await postgresIsThere()) {
  after(stopTestServer);
  backupContract('a backup of PostgreSQL', openTestPostgres);
}

describe('lines in records', () => {
  test('come back as they were, also where one is longer than a record', async () => {
    const { records } = memoryStorage();
    const lines = ['', 'ä\u2028', 'x'.repeat(5 * 1024 * 1024), JSON.stringify({ a: 1 }), ''];
    const writer = lineWriter(records, 'dumps/a/table');
    for (const line of lines) await writer.write(line);
    const pieces = await writer.end();
    assert.ok(pieces.length >= 3);
    const read: string[] = [];
    for await (const line of readLines(records, pieces)) read.push(line);
    assert.deepEqual(read, lines);
  });

  test('rows keep every kind of value', () => {
    const row = [1, -(2 ** 52), 'text\n"', '{"b":"AA=="}', null, new Uint8Array([0, 255, 10])];
    assert.deepEqual(lineToRow(rowToLine(row), row.length), row);
  });

  test('what is no row is refused', () => {
    for (const line of ['', 'null', '{}', '[1,2]', '[{"c":1}]', '[true]', '[[1]]', '[', '{"b":""}'])
      assert.throws(() => lineToRow(line, 1), { code: 'corrupt' }, line);
  });

  test('a record that is missing, changed, or too large when unpacked is refused', async () => {
    const { records } = memoryStorage();
    const writer = lineWriter(records, 'dumps/a/table');
    await writer.write('a line');
    const [piece] = await writer.end();
    const read = async (pieces: Parameters<typeof readLines>[1]): Promise<void> => {
      for await (const _ of readLines(records, pieces));
    };
    await read([piece!]);
    await assert.rejects(read([{ ...piece!, record: 'dumps/a/other' }]), /missing/);
    await assert.rejects(read([{ ...piece!, sha256: '0'.repeat(64) }]), /damaged/);
    for (const bytes of [zstdCompressSync(Buffer.alloc(64 * 1024 * 1024)), Buffer.from('no zstd')]) {
      await records.put('dumps/a/bomb', bytes);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      await assert.rejects(read([{ record: 'dumps/a/bomb', sha256 }]), /cannot be unpacked/);
    }
    await records.put('dumps/a/cut', zstdCompressSync(Buffer.from('no end of line')));
    const cut = createHash('sha256')
      .update((await records.get('dumps/a/cut'))!)
      .digest('hex');
    await assert.rejects(read([{ record: 'dumps/a/cut', sha256: cut }]), /middle of a line/);
  });

  test('a line without end, of one small record that is named again and again, is refused early', async () => {
    const { records } = memoryStorage();
    const bytes = zstdCompressSync(Buffer.alloc(2 * 1024 * 1024, 97));
    assert.ok(bytes.length < 1_000, `${bytes.length} bytes`);
    await records.put('dumps/a/bomb', bytes);
    const piece = { record: 'dumps/a/bomb', sha256: createHash('sha256').update(bytes).digest('hex') };
    let reads = 0;
    const get = (name: string): ReturnType<typeof records.get> => {
      reads++;
      return records.get(name);
    };
    const counted = { ...records, get };
    const lines = readLines(counted, new Array(60).fill(piece));
    await assert.rejects(lines.next(), { code: 'corrupt', message: /longer than any/ });
    assert.ok(reads < 20, `${reads} records were read`);
  });
});

describe('a place for backups', () => {
  const point: Point = {
    ...{ format: 1, id: pointId(0), at: 0, program: '0.0.0', schema: 1, schemaName: 'core' },
    ...{ installation: 'a', epoch: 1, tick: 1, database: 'sqlite', tables: [] },
    ...{ blobs: { count: 0, bytes: 0, pieces: [] }, complete: true, missingCount: 0, missing: [] },
  };

  test('belongs to one installation, and is nothing else', async () => {
    const storage = memoryStorage();
    const place = backupPlace(storage, systemClock);
    await assert.rejects(place.check(), /no backups/);
    await place.claim('a');
    await place.claim('a');
    await place.check();
    await assert.rejects(place.claim('b'), /another installation/);
    await storage.records.put('format.json', Buffer.from('{"format":2,"installation":"a"}'));
    await assert.rejects(place.check(), /newer/);
    await storage.records.put('format.json', Buffer.from('no'));
    await assert.rejects(place.check(), { code: 'corrupt' });
    const other = memoryStorage();
    await other.records.put('index/a', Buffer.from(''));
    await assert.rejects(backupPlace(other, systemClock).claim('a'), /holds no backups/);
  });

  test('a point whose record changed by one bit is no point', async () => {
    const storage = memoryStorage();
    const place = backupPlace(storage, systemClock);
    await place.putPoint(point);
    assert.deepEqual(await place.points(), [point]);
    const name = `points/${point.id}.json`;
    const well = (await storage.records.get(name))!;
    for (let at = 0; at < well.length; at += 7) {
      const bytes = new Uint8Array(well);
      bytes[at]! ^= 4;
      await storage.records.put(name, bytes);
      const damaged: string[] = [];
      assert.deepEqual(await place.points((record) => damaged.push(record)), [], `bit of byte ${at}`);
      assert.deepEqual(damaged, [name]);
      await assert.rejects(place.points(), { code: 'corrupt' });
    }
  });

  test('a point that somebody else wrote, with names that are none, is no point', async () => {
    const storage = memoryStorage();
    const place = backupPlace(storage, systemClock);
    const piece = { record: `dumps/${point.id}/tag-000000.zst`, sha256: 'a'.repeat(64) };
    const table = { name: 'tag', columns: ['id'], rows: 1, counter: { column: 'id', value: 1 }, pieces: [piece] };
    const whole = { ...point, tables: [table], blobs: { count: 1, bytes: 1, pieces: [piece] } };
    await place.putPoint(whole);
    assert.deepEqual(await place.points(), [whole]);
    const put = async (value: unknown): Promise<void> => {
      const text = JSON.stringify(value);
      const sum = createHash('sha256').update(text).digest('hex');
      await storage.records.put(`points/${point.id}.json`, Buffer.from(`${sum}\n${text}\n`));
    };
    const strange = (name: string): unknown[] => [
      { ...whole, tables: [{ ...table, name }] },
      { ...whole, tables: [{ ...table, columns: ['id', name] }] },
      { ...whole, tables: [{ ...table, counter: { column: name, value: 1 } }] },
    ];
    const record = (name: string): unknown[] => [
      { ...whole, tables: [{ ...table, pieces: [{ ...piece, record: name }] }] },
      { ...whole, blobs: { ...whole.blobs, pieces: [{ ...piece, record: name }] } },
    ];
    for (const value of [
      ...[null, 1, 'text', [], {}, [whole]],
      ...['tag" where 1=1 --', 'pg_catalog.pg_authid', 'Tag', '', 'a'.repeat(64), '\u0000', 7 as never].flatMap(
        strange,
      ),
      ...[
        '../../etc/passwd',
        `dumps/${point.id}/../../x`,
        'dumps/another/tag-000000.zst',
        '/etc/passwd',
        `dumps/${point.id}/`,
      ].flatMap(record),
      { ...whole, id: `${point.id}x` },
      { ...whole, id: '../../x' },
      { ...whole, program: '\u001b[2Jx' },
      { ...whole, installation: 'a\nb' },
      { ...whole, database: 'mysql' },
      { ...whole, tables: undefined },
      { ...whole, tables: {} },
      { ...whole, missing: ['sha256:../x'] },
      { ...whole, at: -1 },
      { ...whole, blobs: { ...whole.blobs, count: '1' } },
      { ...whole, tables: [{ ...table, rows: 1e300 }] },
      { ...whole, blobs: { ...whole.blobs, pieces: [{ ...piece, sha256: 'A'.repeat(64) }] } },
    ]) {
      await put(value);
      const damaged: string[] = [];
      assert.deepEqual(await place.points((name) => damaged.push(name)), [], JSON.stringify(value));
      assert.equal(damaged.length, 1);
      await assert.rejects(place.points(), { code: 'corrupt' });
    }
  });

  test('marks of damaged blobs that name none are passed over', async () => {
    const storage = memoryStorage();
    const place = backupPlace(storage, systemClock);
    const digest = `sha256:${'b'.repeat(64)}` as Digest;
    await place.markDamaged(digest);
    for (const name of ['sha256-zz', `md5-${'a'.repeat(32)}`, `sha256-${'a'.repeat(63)}`, 'x'])
      await storage.records.put(`damaged/${name}`, Buffer.from(''));
    assert.deepEqual([...(await place.damaged())], [digest]);
  });

  test('a lock that was not renewed for long is taken away, and its owner is told', async () => {
    let now = 1_000_000;
    const storage = memoryStorage();
    const place = backupPlace(storage, { ...systemClock, now: () => now });
    const first = await place.lock('backup', 'first');
    const second = await place.lock('backup', 'second');
    await first.check();
    await assert.rejects(place.lock('prune', 'third'), /under way/);
    now += 16 * 60_000;
    const prune = await place.lock('prune', 'third');
    await assert.rejects(first.check(), /for dead/);
    await prune.end();
    await first.end();
    await second.end();
  });
});
