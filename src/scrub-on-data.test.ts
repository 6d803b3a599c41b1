/** The scrub's commands, through the admin socket of a server and without one; healing from a configured folder. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, test } from 'node:test';
import { loadConfiguration } from './configuration.ts';
import { openSqlite } from './database/open.ts';
import { systemClock } from './kit/clock.ts';
import { noMetrics, silentLog } from './kit/log.ts';
import { openLocal } from './local/open.ts';
import { blobKey } from './oci/blob-key.ts';
import { digestOf } from './oci/digest.ts';
import type { RepositoryName } from './oci/names.ts';
import { sqliteOptions, storageSettings } from './opening.ts';
import type { Call } from './registry/call.ts';
import { withScrub } from './scrub-on-data.ts';
import { scrubbingFrom, scrubCommands } from './scrubbing.ts';
import { serveAdmin } from './server/admin.ts';
import { openFsStorage } from './storage/fs/fs.ts';
import { openStorage } from './storage/open.ts';

const folder = mkdtempSync(join(tmpdir(), 'longshore-scrub-'));
const replica = mkdtempSync(join(tmpdir(), 'longshore-replica-'));
const file = join(folder, 'longshore.yaml');
after(() => {
  for (const each of [folder, replica]) rmSync(each, { recursive: true, force: true });
});

const BYTES = Buffer.from('a layer, more or less'.repeat(5_000));
const DIGEST = digestOf(BYTES);
const CALL: Call = {
  principal: { kind: 'user', id: 'user:1', name: 'ann' },
  requestId: 'scrub',
  signal: new AbortController().signal,
};

function spoil(n: number): void {
  const path = join(folder, 'storage/blobs', blobKey(DIGEST, n));
  const bytes = readFileSync(path);
  bytes[77]! ^= 1;
  writeFileSync(path, bytes);
}

test('status, run and damaged: asked of the server that has the folder, else done on it', async () => {
  writeFileSync(file, JSON.stringify({ heal: { storages: [{ driver: 'fs', fs: { root: replica } }] } }));
  const { config } = await loadConfiguration({ flags: { data: folder }, file });
  const base = { config, data: folder, clock: systemClock, log: silentLog, metrics: noMetrics };
  const database = await openSqlite(sqliteOptions(base));
  const storage = await openStorage(storageSettings(base), base);
  const parts = { ...base, database, storage };
  const store = await openLocal({ ...parts, sparse: 'none', tickMilliseconds: 3_600_000, movesTick: false });
  const body = Readable.from([BYTES], { objectMode: false });
  await store.pushBlob(CALL, 'a' as RepositoryName, { digest: DIGEST }, body);
  spoil(0);
  const scrubbing = scrubbingFrom(config, parts);
  const close = await serveAdmin(folder, scrubCommands({ ...parts, scrubbing }), silentLog);
  await withScrub(config, async (ask) => {
    assert.deepEqual((await ask('scrub.status', undefined)).round, 0);
    const { damaged, blobs, healed, more } = await ask('scrub.run', { begin: true, fullSpeed: true });
    assert.deepEqual([blobs, damaged, healed, more], [1, 1, 0, false], 'the replica has not got it yet');
    const page = await ask('scrub.damaged', { open: true });
    assert.deepEqual([page.items.length, page.items[0]?.digest, page.items[0]?.state], [1, DIGEST, 'open']);
    assert.match(page.items[0]?.outcome ?? '', /^storage fs: has not got it$/);
    for (const args of [{ after: -1 }, { after: 'x' }, undefined])
      assert.equal((await ask('scrub.damaged', args)).items.length, 1);
    assert.equal((await ask('scrub.run', undefined)).blobs, 0, 'no round is due');
  });
  await close();
  await scrubbing.close();
  await store.close();
  await database.close();
  await storage.close();
  const other = await openFsStorage({ root: replica, durability: 'relaxed' });
  await other.put(blobKey(DIGEST, 0), BYTES);
  await other.close();
  await withScrub(config, async (ask) => {
    assert.equal((await ask('scrub.run', { begin: true })).healed, 1);
    const { items } = await ask('scrub.damaged', {});
    assert.deepEqual([items[0]?.state, items[0]?.healedFrom], ['healed', 'storage fs']);
  });
});

test('the command line says it to people and to programs', () => {
  const scrub = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(import.meta.dirname, 'main.ts'), 'scrub', ...args, '--data', folder],
      { encoding: 'utf8', env: { PATH: process.env.PATH } },
    );
    return { status, stdout, stderr };
  };
  assert.match(scrub('status').stdout, /Round +2, begun .*Z, ended .*\n.*\n.*\nNow +0 damaged blobs; 1 were healed/);
  assert.equal(scrub('damaged').stdout, 'Nothing is damaged.\n');
  assert.match(
    scrub('damaged', '--all').stdout,
    /^sha256:.*by scrub: its bytes have another digest; healed from storage fs\n$/,
  );
  assert.equal(scrub('damaged', '--limit', 'many').status, 2);
  spoil(1);
  const found = scrub('run', '--full-speed', '--json');
  assert.deepEqual(JSON.parse(found.stdout), {
    ...{ blobs: 1, bytes: 2 * BYTES.length, damaged: 1, unreadable: 0, healed: 0, open: 1 },
  });
  assert.equal(found.status, 1);
  const healed = scrub('run', '--config', file);
  assert.match(healed.stdout, /0 damaged, .* 1 were healed, 0 are damaged now\.\n$/);
  assert.equal(healed.status, 0);
});
