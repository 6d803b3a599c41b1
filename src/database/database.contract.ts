/** What every database promises, whichever it is. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { digestFromBytes, digestOf, digestToBytes } from '../oci/digest.ts';
import { FaultError, RegistryError } from '../oci/error.ts';
import type { RepositoryName, Tag } from '../oci/names.ts';
import { addRepository, counts, emit, facts, pushOne, script } from './commands.testing.ts';
import type { Database } from './database.ts';
import type { Opened } from './open.testing.ts';

const repo = (name: string) => name as RepositoryName;
const tag = (name: string) => name as Tag;
const fault = (code: string) => (error: unknown) => error instanceof FaultError && error.code === code;
const digestBytes = (n: number) => digestToBytes(digestOf(Buffer.from(`digest ${n}`)));

/** Registers the suite. `open` gives an empty database that knows `TEST_COMMANDS`. */
export function databaseContract(name: string, open: () => Promise<Opened>): void {
  describe(`database: ${name}`, () => {
    let opened: Opened;
    let db: Database;
    before(async () => {
      opened = await open();
      db = opened.database;
    });
    after(() => opened.stop());

    const counted = async (text: string, ...values: (string | number | Uint8Array)[]) =>
      (await db.query.get<{ n: number }>(text, ...values))?.n;

    test('first rows are there', async () => {
      const installation = await db.query.get<{ uid: string; epoch: number }>('select uid, epoch from installation');
      assert.match(installation?.uid ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
      assert.equal(installation?.epoch, 1);
      assert.deepEqual({ ...(await db.query.get<object>('select id, name from project')) }, { id: 1, name: 'default' });
      const [rows] = await db.run(script, {
        steps: [{ text: "insert into project (uid, name, created_at) values ('u2', 'second', 1) returning id" }],
      });
      assert.deepEqual({ ...(rows?.[0] as object) }, { id: 2 });
    });

    test('a command is told dialect, time, tick and settings; Kysely sees the same transaction', async () => {
      await db.run(addRepository, { name: 'facts/a' });
      const told = await db.run(facts, { name: 'facts/a' });
      assert.equal(told.dialect, db.dialect);
      assert.ok(Number.isSafeInteger(told.now) && told.now > 1_600_000_000_000);
      assert.equal(told.tick, 1);
      assert.deepEqual(told.ticks, db.ticks);
      assert.equal(told.updated, 1);
      assert.equal(told.read, 'facts/a');
      assert.equal((await db.run(facts, { name: 'facts/none' })).updated, 0);
    });

    test('reads through Kysely, aggregates and bytes', async () => {
      const row = await db.read
        .selectFrom('repository')
        .select(({ fn }) => [fn.countAll<number>().as('n')])
        .where('name', '=', repo('facts/a'))
        .executeTakeFirstOrThrow();
      assert.equal(row.n, 1);
      const digest = digestBytes(1);
      await db.run(script, {
        steps: [{ text: "insert into blob (digest, state, size, n) values (?, 'live', 3, 0)", values: [digest] }],
      });
      const blob = await db.read.selectFrom('blob').selectAll().where('digest', '=', digest).executeTakeFirst();
      assert.deepEqual(Uint8Array.from(blob?.digest ?? []), digest);
      assert.equal(blob?.stored, 0);
    });

    test('a failing command rolls back alone', async () => {
      const add = (n: number, fail?: 'registry' | 'type') =>
        db.run(script, {
          steps: [
            { text: 'insert into orphan (key, seen_tick) values (?, 1)', values: [`alone ${n}`] },
            { text: 'insert into orphan (key, seen_tick) values (?, 2)', values: [`alone ${n} again`] },
          ],
          ...(fail && { fail }),
        });
      const ends = await Promise.allSettled([add(1), add(2, 'registry'), add(3), add(1), add(4, 'type'), add(5)]);
      const done = ends.map(({ status }) => status === 'fulfilled');
      // Of the two that are the same, either may be first.
      assert.notEqual(done[0], done[3]);
      assert.deepEqual([done[1], done[2], done[4], done[5]], [false, true, false, true]);
      assert.equal(await counted("select count(*) as n from orphan where key like 'alone%'"), 6);
    });

    test('statements say how many rows they changed', async () => {
      const insert = 'insert into orphan (key, seen_tick) values (?, 1) on conflict (key) do nothing';
      const steps = [
        { text: insert, values: ['counted 1'] },
        { text: insert, values: ['counted 2'] },
        { text: insert, values: ['counted 2'] },
        { text: "update orphan set seen_tick = seen_tick + ? where key like 'counted%'", values: [3] },
        { text: "update orphan set seen_tick = 1 where key like 'nothing%'" },
      ];
      assert.deepEqual(await db.run(counts, { steps }), [1, 1, 0, 2, 0, 0, 2]);
    });

    test('errors keep their kind, code, message, detail, status and seconds', async () => {
      await assert.rejects(db.run(script, { steps: [], fail: 'registry' }), (error) => {
        assert.ok(error instanceof RegistryError);
        assert.equal(error.code, 'MANIFEST_BLOB_UNKNOWN');
        assert.equal(error.message, 'Two blobs are missing.');
        assert.deepEqual(error.detail, { digests: ['a', 'b'] });
        assert.equal(error.status, 404);
        assert.equal(error.retryAfterSeconds, 7);
        return true;
      });
      await assert.rejects(db.run(script, { steps: [], fail: 'type' }), (error) => {
        assert.ok(error instanceof FaultError && error.code === 'bug');
        assert.doesNotMatch(error.message, /a mistake/);
        assert.match(String((error.cause as Error).stack), /a mistake/);
        return true;
      });
      await assert.rejects(db.run(script, { steps: [{ text: 'select nothing from nowhere' }] }), fault('bug'));
      await assert.rejects(db.query.all('select nothing from nowhere'), fault('bug'));
      await assert.rejects(db.run({ ...script, name: 'unknown' }, { steps: [] }), fault('bug'));
    });

    test('integers beyond 2^53 throw, both ways', async () => {
      const steps = [{ text: 'update project set quota_bytes = 9007199254740993 where id = 2' }];
      await db.run(script, { steps });
      await assert.rejects(db.query.all('select quota_bytes from project where id = 2'), fault('bug'));
      await db.run(script, { steps: [{ text: 'update project set quota_bytes = 9007199254740991 where id = 2' }] });
      assert.equal(await counted('select quota_bytes as n from project where id = 2'), Number.MAX_SAFE_INTEGER);
      for (const value of [2 ** 53, 1.5, Number.NaN]) {
        const text = 'update project set quota_bytes = ? where id = 2';
        await assert.rejects(db.run(script, { steps: [{ text, values: [value] }] }), fault('bug'));
      }
      await assert.rejects(db.query.all('select 1 as n where ? is null', undefined as never), fault('bug'));
    });

    test('touched names are told before the promise resolves, also none', async () => {
      const told: string[] = [];
      const off = db.onTouched((names) => told.push(...names));
      const sees = async (run: Promise<unknown>) => {
        await run;
        return told.splice(0);
      };
      assert.deepEqual(await sees(db.run(script, { steps: [], touch: ['facts/a', 'other'] })), ['facts/a', 'other']);
      assert.deepEqual(await sees(db.run(script, { steps: [] })), []);
      off();
      assert.deepEqual(await sees(db.run(script, { steps: [], touch: ['facts/a'] })), []);
    });

    test('large arguments arrive whole, and the caller keeps its own', async () => {
      const bytes = Buffer.alloc(4 * 1024 * 1024, 7);
      const slice = Buffer.from('a slice of a slab');
      await db.run(addRepository, { name: 'big/one' });
      await db.run(pushOne, { repository: 'big/one', digest: digestBytes(50), tag: 'large', bytes });
      await db.run(pushOne, { repository: 'big/one', digest: digestBytes(51), tag: 'small', bytes: slice });
      assert.equal(bytes.length, 4 * 1024 * 1024);
      const large = await db.hot.manifestByTag(repo('big/one'), tag('large'));
      assert.ok(large !== undefined && bytes.equals(large.bytes));
      const small = await db.hot.manifestByTag(repo('big/one'), tag('small'));
      assert.equal(Buffer.from(small?.bytes ?? []).toString(), 'a slice of a slab');
    });

    test('hot look-ups find what is live, and nothing that is gone', async () => {
      const digest = digestFromBytes(digestBytes(2));
      const bytes = Buffer.from('{"a":1}');
      await db.run(addRepository, { name: 'hot/one' });
      await db.run(addRepository, { name: 'hot/two' });
      await db.run(pushOne, { repository: 'hot/one', digest: digestToBytes(digest), tag: 'v1', bytes });
      const expected = { digest, mediaType: 'text/test', bytes: new Uint8Array(bytes) };
      const plain = (found: { bytes?: Uint8Array } | undefined) =>
        found === undefined ? undefined : { ...found, ...(found.bytes && { bytes: Uint8Array.from(found.bytes) }) };
      assert.deepEqual(plain(await db.hot.manifestByTag(repo('hot/one'), tag('v1'))), expected);
      assert.deepEqual(plain(await db.hot.manifestByDigest(repo('hot/one'), digest)), expected);
      assert.deepEqual(plain(await db.hot.blobByLink(repo('hot/one'), digest)), {
        size: 7,
        state: 'live',
        n: 0,
        stored: false,
        bytes: new Uint8Array(bytes),
        dueTick: 6,
        tick: 1,
      });
      assert.equal(await db.hot.manifestByTag(repo('hot/one'), tag('V1')), undefined);
      assert.equal(await db.hot.manifestByTag(repo('hot/two'), tag('v1')), undefined);
      assert.equal(await db.hot.manifestByDigest(repo('hot/two'), digest), undefined);
      assert.equal(await db.hot.blobByLink(repo('hot/two'), digest), undefined);
      assert.equal(await db.hot.blobByLink(repo('hot/none'), digest), undefined);

      await db.run(script, {
        steps: [
          { text: 'delete from gc_queue where digest = ?', values: [digestToBytes(digest)] },
          { text: "update blob set state = 'damaged', size = 9 where digest = ?", values: [digestToBytes(digest)] },
          { text: "update tag set gone = 77, deleted_tick = 1 where name = 'v1'" },
        ],
      });
      const damaged = await db.hot.blobByLink(repo('hot/one'), digest);
      assert.equal(damaged?.state, 'damaged');
      assert.equal('dueTick' in (damaged ?? {}), false);
      assert.equal(await db.hot.manifestByTag(repo('hot/one'), tag('v1')), undefined);
      assert.notEqual(await db.hot.manifestByDigest(repo('hot/one'), digest), undefined);
      const tombstone = {
        text: 'update manifest set deleted_tick = 1 where digest = ?',
        values: [digestToBytes(digest)],
      };
      await db.run(script, { steps: [tombstone] });
      assert.equal(await db.hot.manifestByDigest(repo('hot/one'), digest), undefined);
      await db.run(script, { steps: [{ text: "update repository set gone = id where name = 'hot/one'" }] });
      assert.equal(await db.hot.blobByLink(repo('hot/one'), digest), undefined);
      await db.run(addRepository, { name: 'hot/one' }).catch(() => assert.fail('the name is free again'));
    });

    test('hot look-up of an upload', async () => {
      const id = new Uint8Array(16).fill(9);
      const text = `insert into upload (id, repository_id, principal, size, state, fence, due_tick, created_at)
        select ?, id, 'user:1', 12, '{"x":1}', 3, 9, 1 from repository where name = 'big/one'`;
      await db.run(script, { steps: [{ text, values: [id] }] });
      assert.deepEqual(await db.hot.uploadById(id), {
        repository: 'big/one',
        principal: 'user:1',
        size: 12,
        state: '{"x":1}',
        fence: 3,
      });
      assert.equal(await db.hot.uploadById(new Uint8Array(16)), undefined);
    });

    test('names sort bytewise and differ by case', async () => {
      const names = ['a', 'B', 'A', 'b', '_a', 'a.b', 'a-b', 'a_b', 'ab', 'Z9', 'z9', '0', 'aB'];
      const text = 'insert into orphan (key, seen_tick) values (?, 55)';
      await db.run(script, { steps: names.map((key) => ({ text, values: [key] })) });
      const rows = await db.query.all<{ key: string }>('select key from orphan where seen_tick = 55 order by key');
      assert.deepEqual(
        rows.map(({ key }) => key),
        [...names].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y))),
      );
      const above = await db.query.all<{ key: string }>(
        'select key from orphan where seen_tick = 55 and key > ? order by key limit 1',
        'Z',
      );
      assert.equal(above[0]?.key, 'Z9');
    });

    test('no blob can be deleted that is linked, described or has content', async () => {
      const digest = digestBytes(60);
      await db.run(pushOne, { repository: 'big/one', digest, tag: 'held', bytes: Buffer.from('x') });
      const remove = (text: string) => db.run(script, { steps: [{ text, values: [digest] }] });
      await assert.rejects(remove('delete from blob where digest = ?'), fault('bug'));
      await remove('delete from content where digest = ?');
      await assert.rejects(remove('delete from blob where digest = ?'), fault('bug'));
      await remove('delete from link where digest = ?');
      await assert.rejects(remove('delete from blob where digest = ?'), fault('bug'));
      assert.equal(await counted('select count(*) as n from blob where digest = ?', digest), 1);
      await assert.rejects(
        db.run(script, {
          steps: [{ text: "insert into blob (digest, state) values (?, 'live')", values: [digestBytes(61)] }],
        }),
        fault('bug'),
      );
    });

    test('an event is written in the transaction', async () => {
      await db.run(emit, { repositoryId: 0, payload: { tag: 'v1' } });
      await db.run(emit, { repositoryId: 5, payload: {} });
      const rows = await db.query.all<{ uid: string; repository_id: number | null; payload: string }>(
        'select uid, repository_id, payload from outbox order by id',
      );
      assert.deepEqual(
        rows.map(({ repository_id, payload }) => ({ repository_id, payload })),
        [
          { repository_id: null, payload: '{"tag":"v1"}' },
          { repository_id: 5, payload: '{}' },
        ],
      );
      assert.match(rows[0]?.uid ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    });

    test('a commit under a lease that was taken over is refused', async () => {
      const lease =
        "insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('copy', 'backup', 'me', 4, 1, 9)";
      const job =
        "insert into job (type, payload, state, run_at, fence) values ('t', '{}', 'running', 1, 2) returning id";
      const rows = await db.run(script, { steps: [{ text: lease }, { text: job }] });
      const [{ id }] = rows[1] as [{ id: number }];
      const under = (key: string, id: string, fence: number) =>
        db.run(
          script,
          { steps: [{ text: 'insert into orphan (key, seen_tick) values (?, 66)', values: [key] }] },
          { lane: 'job', lease: { id, fence } },
        );
      await under('held by name', 'copy', 4);
      await under('held by job', String(id), 2);
      await assert.rejects(under('late by name', 'copy', 3), fault('unavailable'));
      await assert.rejects(under('late by job', String(id), 1), fault('unavailable'));
      await assert.rejects(under('nobody', 'none', 1), fault('unavailable'));
      assert.equal(await counted('select count(*) as n from orphan where seen_tick = 66'), 2);
    });

    test('job leases are written beside the rest', async () => {
      const text = "insert into job_lease (job_id, owner, fence, until_at) values (1, 'me', 1, 5)";
      await db.run(script, { steps: [{ text }] });
      assert.equal(await counted('select until_at as n from job_lease where job_id = 1'), 5);
    });

    test('many callers at once', async () => {
      await db.run(addRepository, { name: 'many/callers' });
      await Promise.all(
        Array.from({ length: 300 }, (_, n) =>
          db.run(pushOne, {
            repository: 'many/callers',
            digest: digestBytes(1000 + n),
            tag: `t${n}`,
            bytes: Buffer.from(`manifest ${n}`),
          }),
        ),
      );
      const found = await db.hot.manifestByTag(repo('many/callers'), tag('t299'));
      assert.equal(Buffer.from(found?.bytes ?? []).toString(), 'manifest 299');
      assert.equal(
        await counted(
          "select count(*) as n from tag where repository_id = (select id from repository where name = 'many/callers')",
        ),
        300,
      );
    });

    test('ping answers', () => db.ping());

    test('a closed database refuses, and closing waits for what was asked', async () => {
      const other = await open();
      const last = other.database.run(addRepository, { name: 'the/last' });
      const closed = other.database.close();
      await last;
      await closed;
      await other.database.close();
      await assert.rejects(other.database.run(addRepository, { name: 'too/late' }), fault('unavailable'));
      await assert.rejects(other.database.query.all('select 1 as one'), fault('unavailable'));
      await other.stop();
    });
  });
}
