/** The collector's commands, through the admin socket of a server and without one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, test } from 'node:test';
import { collectorFrom, gcCommands } from './collecting.ts';
import { loadConfiguration } from './configuration.ts';
import { openSqlite } from './database/open.ts';
import { withGc } from './gc-on-data.ts';
import { systemClock } from './kit/clock.ts';
import { noMetrics, silentLog } from './kit/log.ts';
import { tickForward } from './local/commands/house-keeping.ts';
import { openLocal } from './local/open.ts';
import { digestOf } from './oci/digest.ts';
import type { RepositoryName } from './oci/names.ts';
import { sqliteOptions, storageSettings } from './opening.ts';
import type { Call } from './registry/call.ts';
import { serveAdmin } from './server/admin.ts';
import { openStorage } from './storage/open.ts';

const folder = mkdtempSync(join(tmpdir(), 'longshore-gc-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const BYTES = Buffer.from('nobody names this');
const DIGEST = digestOf(BYTES);
const CALL: Call = {
  principal: { kind: 'user', id: 'user:1', name: 'ann' },
  requestId: 'gc',
  signal: new AbortController().signal,
};

test('status, explain and run: asked of the server that has the folder, else done on it', async () => {
  const { config } = await loadConfiguration({ flags: { data: folder }, file: undefined });
  const base = { config, data: folder, clock: systemClock, log: silentLog, metrics: noMetrics };
  const database = await openSqlite(sqliteOptions(base));
  const storage = await openStorage(storageSettings(base), base);
  const parts = { ...base, database, storage };
  const store = await openLocal({ ...parts, sparse: 'none', tickMilliseconds: 3_600_000, movesTick: false });
  const body = Readable.from([BYTES], { objectMode: false });
  await store.pushBlob(CALL, 'a' as RepositoryName, { digest: DIGEST }, body);
  const close = await serveAdmin(folder, gcCommands({ ...parts, collector: collectorFrom(config, parts) }), silentLog);
  await withGc(config, async (ask) => {
    assert.equal((await ask('gc.status', undefined)).status.queued, 1);
    const why = await ask('gc.explain', { digest: DIGEST });
    assert.deepEqual(why.because, [`linked in a until its review in ${config.gc.graceTicks} ticks`]);
    assert.equal((await ask('gc.run', {})).unlinked, 0);
    await assert.rejects(ask('gc.explain', { digest: 'nonsense' }), /The digest is not valid/);
    await assert.rejects(ask('gc.explain', undefined), /The digest is not valid/);
  });
  for (let tick = 1; tick <= config.gc.graceTicks; tick++) await database.run(tickForward, { seen: tick });
  await close();
  await store.close();
  await database.close();
  await storage.close();
  await withGc(config, async (ask) => {
    const { preview } = await ask('gc.status', undefined);
    assert.deepEqual(preview.blobs, [{ digest: DIGEST, bytes: BYTES.length }]);
    const done = await ask('gc.run', {});
    assert.deepEqual([done.unlinked, done.condemned, done.repositories], [1, 1, 1]);
    assert.equal((await ask('gc.explain', { digest: DIGEST })).blob, undefined);
  });
});

test('the command line says it to people and to programs', () => {
  const gc = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(import.meta.dirname, 'main.ts'), 'gc', ...args, '--data', folder],
      { encoding: 'utf8', env: { PATH: process.env.PATH } },
    );
    return { status, stdout, stderr };
  };
  assert.match(gc('explain', DIGEST).stdout, /was given up at tick \d+\nThere is no such blob or manifest here/);
  assert.equal(gc('explain', 'nonsense').status, 1);
  assert.deepEqual(JSON.parse(gc('run', '--dry-run', '--json').stdout), { blobs: [], bytes: 0, more: false });
  assert.match(gc('status').stdout, /Would go now +0 blobs, 0 bytes/);
});
