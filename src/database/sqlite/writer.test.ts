import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Fields, Metrics } from '../../kit/log.ts';
import { silentLog } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import { addRepository, dawdle, script, TEST_COMMANDS } from '../commands.testing.ts';
import { type Opened, openTestSqlite, type TestOptions } from '../open.testing.ts';
import type { SqliteDatabase } from '../open.ts';
import { pack } from './pack.ts';
import { WRITER_LIMITS } from './writer.ts';

const fault = (code: string) => (error: unknown) => error instanceof FaultError && error.code === code;
const stops: (() => Promise<void>)[] = [];
after(async () => {
  for (const stop of stops) await stop();
});

async function open(options: Partial<TestOptions> = {}): Promise<Opened<SqliteDatabase>> {
  const opened = await openTestSqlite({
    commands: TEST_COMMANDS,
    writer: new URL('../writer.testing.ts', import.meta.url),
    ...options,
  });
  stops.push(opened.stop);
  return opened;
}

const orphan = (key: string, seen = 1) => ({
  text: 'insert into orphan (key, seen_tick) values (?, ?)',
  values: [key, seen],
});

describe('the writer', () => {
  test('requests go before jobs', async () => {
    const { database } = await open();
    const busy = database.run(dawdle, { milliseconds: 30 });
    // Not before the batch with `dawdle` was posted.
    await new Promise((resolve) => setImmediate(resolve));
    const event = (type: string) => ({
      steps: [{ text: 'insert into outbox (uid, type, payload, at) values (?, ?, ?, 1)', values: [type, type, '{}'] }],
    });
    const jobs = [1, 2].map((n) => database.run(script, event(`job ${n}`), { lane: 'job' }));
    const requests = [1, 2].map((n) => database.run(script, event(`request ${n}`)));
    await Promise.all([busy, ...jobs, ...requests]);
    const rows = await database.query.all<{ type: string }>('select type from outbox order by id');
    assert.deepEqual(
      rows.map(({ type }) => type),
      ['request 1', 'request 2', 'job 1', 'job 2'],
    );
  });

  test('what waits is committed together, up to the limits; what is long is split', async () => {
    const batches: number[] = [];
    const metrics: Metrics = {
      counter: () => () => {},
      gauge: () => () => {},
      histogram: (name) => (value) => void (name === 'longshore_database_batch_commands' && batches.push(value)),
    };
    const limits = { ...WRITER_LIMITS, batchCommands: 10, batchBytes: 100_000 };
    const { database } = await open({ metrics, limits });
    await database.run(script, { steps: [] });
    const many = (count: number, size: number) =>
      Promise.all(
        Array.from({ length: count }, () =>
          database.run(script, { steps: [{ text: 'select length(?) as n', values: [new Uint8Array(size)] }] }),
        ),
      );
    batches.length = 0;
    await many(25, 1);
    assert.equal(
      batches.reduce((sum, count) => sum + count, 0),
      25,
    );
    assert.ok(batches.length >= 3 && Math.max(...batches) <= 10);
    batches.length = 0;
    await many(3, 90_000);
    assert.deepEqual(batches, [1, 1, 1]);
    batches.length = 0;
    await many(1, 300_000);
    assert.deepEqual(batches, [1]);
    batches.length = 0;
    await Promise.all([database.run(dawdle, { milliseconds: 60 }), database.run(script, { steps: [] })]);
    assert.deepEqual(batches, [1, 1]);
  });

  test('a full queue refuses, and only then', async () => {
    const { database } = await open({ limits: { ...WRITER_LIMITS, queueCommands: 4, queueBytes: 10_000 } });
    const ends = await Promise.allSettled(
      [1, 2, 3, 4, 5].map((n) => database.run(script, { steps: [orphan(`${n}`)] })),
    );
    assert.deepEqual(
      ends.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected'],
    );
    assert.ok(fault('full')((ends[4] as PromiseRejectedResult).reason));
    const big = () => database.run(script, { steps: [{ text: 'select ? as n', values: [new Uint8Array(8_000)] }] });
    const [first, second] = await Promise.allSettled([big(), big()]);
    assert.equal(first?.status, 'fulfilled');
    assert.ok(fault('full')((second as PromiseRejectedResult).reason));
    await database.run(script, { steps: [orphan('again')] });
  });

  test('a slow command is logged by its name', async () => {
    const lines: Fields[] = [];
    const { database } = await open({ log: { ...silentLog, warn: (_, fields = {}) => void lines.push(fields) } });
    await database.run(dawdle, { milliseconds: 80 });
    assert.equal(lines[0]?.command, 'test-dawdle');
  });

  test('the version of a touched repository moves with its change', async () => {
    const { database } = await open();
    await database.run(addRepository, { name: 'a/b' });
    await database.run(addRepository, { name: 'a/c' });
    await database.run(script, { steps: [], touch: ['a/b', 'none'] });
    const rows = await database.query.all<{ name: string; version: number }>(
      'select name, version from repository order by name',
    );
    assert.deepEqual(
      rows.map(({ name, version }) => [name, version]),
      [
        ['a/b', 2],
        ['a/c', 1],
      ],
    );
    assert.equal(database.dataVersion(), undefined);
  });

  test('a result that is not plain data fails its command only', async () => {
    const { database } = await open();
    const [bad, good] = await Promise.allSettled([
      database.run(script, { steps: [orphan('bad')], fail: 'unclonable' }),
      database.run(script, { steps: [orphan('good')] }),
    ]);
    assert.ok(bad?.status === 'rejected' && fault('bug')(bad.reason));
    assert.equal(good?.status, 'fulfilled');
    await assert.rejects(database.run(script, { steps: [() => {}] as never }), fault('bug'));
  });

  test('a full disk at each statement of a batch: what is acknowledged is stored, all else is not', async () => {
    const { database } = await open();
    const size = async (pragma: string) =>
      Number(Object.values((await database.query.get<Record<string, number>>(`pragma ${pragma}`)) ?? {})[0]);
    let lost = 0;
    let kept = 0;
    for (let room = 0; kept < 2 && room < 60; room++) {
      const pages = await size('page_count');
      const batch = [
        { steps: [{ text: `pragma max_page_count = ${pages + room}` }, orphan(`${room}: start`)] },
        ...Array.from({ length: 4 }, (_, command) => ({
          steps: Array.from({ length: 3 }, (_, n) => orphan(`${room}: ${command} ${n} ${'x'.repeat(3000)}`)),
        })),
      ];
      const touched: string[] = [];
      const off = database.onTouched((names) => touched.push(...names));
      const ends = await Promise.allSettled(
        batch.map((args, n) => database.run(script, { ...args, touch: n === 0 ? ['touched'] : [] })),
      );
      off();
      for (const end of ends) {
        if (end.status === 'rejected') assert.ok(fault('unavailable')(end.reason), String(end.reason));
      }
      const stored = await database.query.all<{ key: string }>('select key from orphan where key like ?', `${room}: %`);
      const acknowledged = ends.filter(({ status }) => status === 'fulfilled').length;
      assert.ok(acknowledged === 0 || acknowledged === batch.length, `${acknowledged} of one transaction`);
      assert.equal(stored.length, acknowledged === 0 ? 0 : 13);
      if (acknowledged === 0) lost++;
      else kept++;
      // Were the limit left, the version of `touched` could not be raised.
      await database.run(script, { steps: [{ text: 'pragma max_page_count = 1000000' }, orphan(`${room} goes on`)] });
    }
    assert.ok(lost >= 8, `${lost} batches met the limit`);
    assert.equal(kept, 2);
  });

  test('the death of the thread fails its batch, drops every cache and is mended', async () => {
    const faults: FaultError[] = [];
    const commands = [...TEST_COMMANDS, { name: 'test-die', run: async () => ({ result: null, touched: [] }) }];
    const { database } = await open({
      commands,
      writer: new URL('./dying.testing.ts', import.meta.url),
      onFault: (error) => void faults.push(error),
    });
    await database.run(addRepository, { name: 'a/b' });
    const touched: string[] = [];
    database.onTouched((names) => touched.push(...names));
    const die = commands.at(-1) as (typeof commands)[number];
    const ends = await Promise.allSettled([
      database.run(script, { steps: [orphan('before')] }),
      database.run(die as never, {}),
      database.run(script, { steps: [orphan('after')] }),
    ]);
    for (const end of ends) assert.ok(end.status === 'rejected' && fault('unavailable')(end.reason));
    assert.deepEqual(touched, ['a/b']);
    assert.equal(faults.length, 1);
    await database.run(script, { steps: [orphan('mended')] });
    const rows = await database.query.all<{ key: string }>('select key from orphan');
    assert.deepEqual(
      rows.map(({ key }) => key),
      ['mended'],
    );
  });
});

test('a process that closes right after its last change ends in order', async () => {
  const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const code = `
    import { openTestSqlite } from ${module('../open.testing.ts')};
    import { addRepository, TEST_COMMANDS } from ${module('../commands.testing.ts')};
    const writer = new URL(${module('../writer.testing.ts')});
    const { database, stop } = await openTestSqlite({ commands: TEST_COMMANDS, writer });
    await database.ping();
    await database.run(addRepository, { name: 'a/b' });
    await database.ping();
    await database.run(addRepository, { name: 'a/c' });
    await stop();
    console.log('ended');`;
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', code]);
  assert.equal(stdout.trim(), 'ended');
});

test('packing copies bytes out of slabs, hands over large ones and refuses what is not data', () => {
  const slab = Buffer.from('small');
  const large = new Uint8Array(5000).fill(3);
  const { value, bytes, transfer } = pack({ a: [slab, large], b: { c: null, d: 'text', e: undefined } });
  const packed = value as { a: [Uint8Array, Uint8Array]; b: object };
  assert.equal(packed.a[0].buffer.byteLength, 5);
  assert.deepEqual(transfer, [packed.a[1].buffer]);
  assert.notEqual(packed.a[1].buffer, large.buffer);
  assert.deepEqual(packed.b, { c: null, d: 'text', e: undefined });
  assert.ok(bytes > 5000);
  const circular: unknown[] = [];
  circular.push(circular);
  for (const bad of [circular, [new Map()], { f: () => 1 }, Symbol('s'), new (class A {})()]) {
    assert.throws(() => pack(bad), fault('bug'));
  }
});
