import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hash } from 'bcryptjs';
import type { Log } from '../kit/log.ts';
import { silentLog } from '../kit/log.ts';
import { diskFiles } from './access.testing.ts';
import { MAX_HTPASSWD_BYTES, openHtpasswd, parseHtpasswd } from './htpasswd.ts';

const folder = await mkdtemp(join(tmpdir(), 'longshore-htpasswd-'));
after(() => rm(folder, { recursive: true, force: true }));
const secret = await hash('secret', 4);

test('lines: comments, CRLF, the first of a name, and unsupported kinds by number', () => {
  const text = [
    '# people',
    '',
    `alice:${secret}\r`,
    `alice:${secret.slice(0, -1)}x`,
    'bob:$apr1$abc$def',
    'carol:{SHA}abc',
    'dave:plain',
    `:${secret}`,
    'nocolon',
    `Ünal:${secret}`,
  ].join('\n');
  const { entries, unsupported } = parseHtpasswd(text);
  assert.deepEqual([...entries.keys()], ['alice', 'Ünal']);
  assert.equal(entries.get('alice')!.hash, secret);
  assert.deepEqual(unsupported, [5, 6, 7, 8, 9]);
});

test('another hash is another generation', async () => {
  const one = parseHtpasswd(`alice:${secret}`).entries.get('alice')!;
  const two = parseHtpasswd(`alice:${await hash('secret', 4)}`).entries.get('alice')!;
  assert.notEqual(one.generation, two.generation);
  assert.ok(Number.isSafeInteger(one.generation));
});

test('the file is read again when it changes; one that is gone or too large lets nobody in', async () => {
  const path = join(folder, 'users');
  await writeFile(path, `alice:${secret}\nbob:plain\n`);
  let changes = 0;
  const lines: string[] = [];
  const log: Log = { ...silentLog, warn: (message, fields) => lines.push(`${message} ${JSON.stringify(fields)}`) };
  const file = await openHtpasswd(path, diskFiles, log, () => changes++);
  try {
    assert.equal(file.get('alice')?.hash, secret);
    assert.ok(file.mayHaveUsers());
    assert.equal(lines.length, 1);
    assert.doesNotMatch(lines[0]!, /plain|bob/);
    await file.refresh();
    assert.equal(changes, 1);

    await writeFile(`${path}.new`, `carol:${secret}\n`);
    await rename(`${path}.new`, path);
    await file.refresh();
    assert.equal(file.get('alice'), undefined);
    assert.equal(file.get('carol')?.hash, secret);

    await writeFile(path, `carol:${secret}\n${'#'.repeat(MAX_HTPASSWD_BYTES)}`);
    await file.refresh();
    assert.equal(file.get('carol'), undefined);
    assert.ok(file.mayHaveUsers(), 'a file that cannot be read is no proof that there are no users');

    await rm(path);
    await file.refresh();
    assert.ok(file.mayHaveUsers());

    await writeFile(path, '# nobody yet\n');
    await file.refresh();
    assert.equal(file.mayHaveUsers(), false);
  } finally {
    file.close();
  }
});

test('a file that cannot be read is not believed until it can', async () => {
  let broken = false;
  const file = await openHtpasswd(
    'users',
    {
      stamp: async () => (broken ? Promise.reject(new Error('EIO')) : '1'),
      read: async () => Buffer.from(`alice:${secret}`),
    },
    silentLog,
  );
  try {
    broken = true;
    await file.refresh();
    assert.equal(file.get('alice'), undefined);
    broken = false;
    await file.refresh();
    assert.ok(file.get('alice'));
  } finally {
    file.close();
  }
});
