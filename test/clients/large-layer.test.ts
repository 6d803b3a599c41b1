/** A layer of 2 GiB, pushed and pulled by oras: its bytes come back exactly, and the server's memory does not grow with it. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, createReadStream, ftruncateSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { removeFolder, temporaryFolder } from '../support/temp.ts';
import { run, withTools } from '../support/tools.ts';
import { peakMemory, target } from './target.ts';

const SIZE = 2 * 1024 ** 3 + 12_345;
/** By how much the server's peak memory may grow over a push and a pull: a small part of the layer. */
const GROWTH = 160 * 1024 ** 2;

/** Mostly holes, so that it is made in no time; a random block every 32 MiB, so that a byte out of place is seen. */
function makeFile(path: string): void {
  const file = openSync(path, 'w');
  ftruncateSync(file, SIZE);
  for (let at = 0; at < SIZE; at += 32 * 1024 ** 2) writeSync(file, randomBytes(4_096), 0, 4_096, at);
  writeSync(file, randomBytes(64), 0, 64, SIZE - 64);
  closeSync(file);
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 4 * 1024 ** 2 })) hash.update(chunk as Buffer);
  return `sha256:${hash.digest('hex')}`;
}

withTools(['oras'], 'a layer of 2 GiB', (oras) => {
  test('a layer of 2 GiB goes in and out whole in bounded memory', async (t) => {
    const { host, http, server } = await target();
    const folder = temporaryFolder('large');
    makeFile(join(folder, 'layer'));
    const digest = await digestOfFile(join(folder, 'layer'));
    const before = server === undefined ? 0 : peakMemory(server.pid);
    const options = { cwd: folder, limit: 300_000 };
    await run(oras, ['push', '--plain-http', `${host}/large/layer:v1`, 'layer:application/octet-stream'], options);
    rmSync(join(folder, 'layer'));
    const head = await http.send('HEAD', `/v2/large/layer/blobs/${digest}`);
    assert.equal(head.status, 200);
    assert.equal(head.headers['content-length'], String(SIZE));
    await run(oras, ['pull', '--plain-http', `${host}/large/layer:v1`], options);
    assert.equal(statSync(join(folder, 'layer')).size, SIZE);
    assert.equal(await digestOfFile(join(folder, 'layer')), digest);
    removeFolder(folder);

    // A range beyond 2 GiB: offsets are not cut to 32 bits.
    const part = await http.send('GET', `/v2/large/layer/blobs/${digest}`, {
      headers: { range: `bytes=${SIZE - 64}-` },
    });
    assert.equal(part.status, 206);
    assert.equal(part.body.length, 64);
    assert.equal(part.headers['content-range'], `bytes ${SIZE - 64}-${SIZE - 1}/${SIZE}`);
    if (server !== undefined) {
      const grown = peakMemory(server.pid) - before;
      t.diagnostic(`the server's peak memory grew by ${(grown / 1024 ** 2).toFixed(0)} MiB`);
      assert.ok(grown < GROWTH, `peak memory grew by ${grown} bytes`);
    }
  });
});
