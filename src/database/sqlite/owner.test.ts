import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { FaultError } from '../../oci/error.ts';
import { takeFolder } from './owner.ts';

const run = promisify(execFile);

/** Whether another process gets the folder. */
async function otherProcess(folder: string): Promise<string> {
  const module = new URL('./owner.ts', import.meta.url).href;
  const code = `import(${JSON.stringify(module)}).then(({ takeFolder }) => takeFolder(process.argv[1]).release())
    .then(() => console.log('taken'), (error) => console.log(error.message))`;
  return (await run(process.execPath, ['-e', code, folder])).stdout.trim();
}

test('a folder has one owner, in this process and in others', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-owner-'));
  try {
    const owner = takeFolder(join(folder, 'new', 'data'));
    assert.throws(
      () => takeFolder(join(folder, 'new', 'data')),
      (error) => error instanceof FaultError && error.code === 'unavailable' && error.message.includes(folder),
    );
    assert.match(await otherProcess(join(folder, 'new', 'data')), /in use by another Longshore process/);
    owner.release();
    owner.release();
    assert.equal(await otherProcess(join(folder, 'new', 'data')), 'taken');
    takeFolder(join(folder, 'new', 'data')).release();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('what is no folder cannot be owned', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-owner-'));
  try {
    await writeFile(join(folder, 'file'), 'x');
    assert.throws(() => takeFolder(join(folder, 'file')), /cannot be used/);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a folder that is made is synced into every folder above it that was made or changed; one that was there costs nothing', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-owner-'));
  const opened = new Map<number, string>();
  const synced: (string | undefined)[] = [];
  const { openSync, fsyncSync } = fs;
  t.mock.method(fs, 'openSync', (path: string, flags: string) => {
    const fd = openSync(path, flags);
    opened.set(fd, path);
    return fd;
  });
  t.mock.method(fs, 'fsyncSync', (fd: number) => {
    synced.push(opened.get(fd));
    fsyncSync(fd);
  });
  syncBuiltinESMExports();
  try {
    takeFolder(join(folder, 'new', 'data')).release();
    assert.deepEqual(synced, [join(folder, 'new'), folder]);
    takeFolder(join(folder, 'new', 'data')).release();
    assert.equal(synced.length, 2);
  } finally {
    t.mock.restoreAll();
    syncBuiltinESMExports();
    await rm(folder, { recursive: true, force: true });
  }
});
