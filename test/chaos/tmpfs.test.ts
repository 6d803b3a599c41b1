/**
 * A disk of 64 MiB that fills up and empties, twice: pushes are refused with a proper error before the last byte is
 * gone, pulls go on, deletes and the collector work and make room, and then pushes succeed again without a restart.
 * Then the disk is filled to its last byte by somebody else. Nothing that was acknowledged is lost.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomPiece } from '../support/images.ts';
import { type Longshore, startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { disagreements } from './disk.ts';
import { isOutage, type Work, work } from './inject/workload.ts';
import { withMounts } from './outage.ts';

const MIB = 1024 * 1024;
const CONFIG = {
  gc: { tick: '1s', graceTicks: 4, undeleteTicks: 1, deleteAfterTicks: 1, haltPercent: 100 },
  log: { access: false, level: 'warn' },
};

/** Without a single byte free a HEAD of a blob may be refused, as what it promises cannot be written. */
async function readsGoOn(worker: Work, lastByte = false): Promise<void> {
  for (const image of worker.there().slice(0, 3)) {
    const { digest } = image.manifest;
    assert.equal((await worker.http.hash(`/v2/tmpfs/full/manifests/${digest}`)).digest, digest);
    for (const blob of image.blobs) {
      assert.equal((await worker.http.hash(`/v2/tmpfs/full/blobs/${blob.digest}`)).digest, blob.digest);
      const answer = await worker.http.send('HEAD', `/v2/tmpfs/full/blobs/${blob.digest}`);
      if (!lastByte || !isOutage(answer)) assert.equal(answer.status, 200);
    }
  }
  assert.equal((await worker.http.hash('/v2/tmpfs/full/manifests/moving')).status, 200);
  assert.equal((await worker.http.send('GET', '/v2/tmpfs/full/tags/list')).status, 200);
}

async function readiness(worker: Work): Promise<string> {
  // An answer is kept for a second.
  await sleep(1_100);
  const answer = await worker.http.send('GET', '/readyz');
  return `${answer.status} ${answer.body}`;
}

async function until(what: string, server: Longshore, is: () => Promise<boolean>): Promise<void> {
  // Some eight ticks and as many runs of jobs, each as long as a busy machine makes it.
  for (let tries = 0; tries < 400; tries++) {
    if (await is()) return;
    await sleep(250);
  }
  const { bavail, bsize } = statfsSync(server.data);
  const files = readdirSync(server.data, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((file) => `${statSync(file, { throwIfNoEntry: false })?.blocks} ${file}`);
  const shown = `${bavail * bsize} bytes free; blocks of each file:\n${files.join('\n')}`;
  assert.fail(`${what} never came\n${server.output().slice(-3_000)}\n${shown}`);
}

withMounts('a disk that is full', (mount) => {
  test('a disk of 64 MiB fills up and empties, twice; then its last byte is taken', async (t) => {
    const data = temporaryFolder('tmpfs');
    const unmount = mount('tmpfs', data, 'size=64m');
    after(unmount);
    let server = await startLongshore({ data, config: CONFIG });
    const worker = work(server.url, 'tmpfs/full', 2 * MIB);
    for (let fill = 1; fill <= 2; fill++) {
      const before = worker.refused();
      for (let n = 0; worker.refused() === before; n++) {
        assert.ok(n < 60, 'it never filled up');
        await worker.round();
      }
      assert.deepEqual(worker.wrong, []);
      // What is left is taken too, also what emptying the logs gives back; then it says that it is not ready.
      let ready = '';
      for (let n = 0; !ready.startsWith('503'); n++) {
        assert.ok(n < 20, `it never filled up: ${ready}`);
        let answer = await worker.http.pushBlob('tmpfs/full', randomPiece(MIB / 2));
        while (answer.status === 201) answer = await worker.http.pushBlob('tmpfs/full', randomPiece(MIB / 2));
        assert.ok(isOutage(answer), `${answer.status} ${answer.body}`);
        ready = await readiness(worker);
      }
      const kept = worker.there().length;
      assert.ok(kept >= 3);
      assert.match(ready, /^503 .*"storage"/);
      await readsGoOn(worker);
      await worker.verify('all');
      await worker.deleteAll();
      assert.deepEqual(worker.wrong, [], 'deletes work on a full disk');
      await until('room', server, async () => {
        const answer = await worker.http.pushBlob('tmpfs/full', randomPiece(8 * MIB));
        if (answer.status !== 201) assert.ok(isOutage(answer), `${answer.status} ${answer.body}`);
        return answer.status === 201;
      });
      await until('readiness', server, async () => (await readiness(worker)).startsWith('200'));
      t.diagnostic(`filled with ${kept} images and emptied`);
      await worker.round();
      await worker.verify('all');
      assert.deepEqual(worker.wrong, []);
    }

    // Again and again while the collector still makes room.
    const filler = join(data, 'filler');
    let ready = '';
    for (let tries = 0; tries < 20 && !ready.startsWith('503'); tries++) {
      fill(filler);
      ready = await readiness(worker);
    }
    assert.match(ready, /^503 .*"storage"/);
    fill(filler);
    const refused = await worker.http.pushBlob('tmpfs/full', randomPiece(200));
    assert.ok(isOutage(refused), `${refused.status} ${refused.body}`);
    await readsGoOn(worker, true);
    rmSync(filler);
    await worker.recovered();
    // What the filler left free may not be enough for pushes until the collector has made more of it.
    await until('readiness', server, async () => (await readiness(worker)).startsWith('200'));
    await worker.round();
    await worker.verify('all');
    assert.deepEqual(worker.wrong, []);

    // A start on a full disk serves, or says what is wrong.
    await server.stop();
    fill(filler);
    const failed = await startLongshore({ data, config: CONFIG, port: server.port }).then(
      async (started) => {
        await readsGoOn(worker, true);
        await started.stop();
        return 'it serves';
      },
      (error: unknown) => String(error),
    );
    t.diagnostic(`a start on a full disk: ${failed.split('\n').at(-1)}`);
    assert.match(failed, /it serves|disk|full|room/);
    assert.doesNotMatch(failed, /at .*\.ts:\d+/, 'a sentence and no stack');
    rmSync(filler);
    server = await startLongshore({ data, config: CONFIG, port: server.port });
    await worker.verify('all');
    assert.deepEqual(worker.wrong, []);
    worker.close();
    await server.stop();
    assert.deepEqual(disagreements(data), []);
  });

  test('the last byte taken at once by somebody else, while the log holds what the database has no room for: deletes work', async () => {
    const data = temporaryFolder('tmpfs');
    const unmount = mount('tmpfs', data, 'size=64m');
    after(unmount);
    const server = await startLongshore({ data, config: CONFIG });
    const worker = work(server.url, 'tmpfs/full', MIB / 2);
    const filler = join(data, 'filler');
    const reserve = join(data, 'longshore.db-reserve');
    for (let tries = 0; ; tries++) {
      for (let n = 0; n < 6; n++) await worker.round();
      fill(filler);
      // A job that wrote meanwhile may have been given the reserve, and the filler took that too.
      if (existsSync(reserve)) break;
      assert.ok(tries < 20, 'the reserve never outlived the filler');
      rmSync(filler);
      await worker.recovered();
    }
    // The first may find the disk full; then the reserve is given up.
    for (const { manifest } of worker.there()) {
      const path = `/v2/tmpfs/full/manifests/${manifest.digest}`;
      let answer = await worker.http.send('DELETE', path);
      for (let tries = 0; tries < 20 && answer.status === 503; tries++) {
        await sleep(100);
        answer = await worker.http.send('DELETE', path);
      }
      assert.equal(answer.status, 202, `${answer.body}`);
    }
    rmSync(filler);
    await worker.recovered();
    await until('the reserve', server, async () => {
      await worker.http.pushBlob('tmpfs/full', randomPiece(200));
      return existsSync(reserve);
    });
    worker.close();
    await server.stop();
  });
});

/** Takes every byte that is left. */
function fill(file: string): void {
  const fd = openSync(file, 'a');
  for (const size of [MIB, 4096, 1]) {
    const bytes = Buffer.alloc(size);
    try {
      while (writeSync(fd, bytes) === size);
    } catch {
      // Full for this size.
    }
  }
  closeSync(fd);
  execFileSync('sync', ['-f', file]);
}
