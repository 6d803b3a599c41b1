/**
 * A disk of 64 MiB that fills up and empties, twice: pushes are refused with a proper error before the last byte is
 * gone, pulls go on, deletes and the collector work and make room, and then pushes succeed again without a restart.
 * Then the disk is filled to its last byte by somebody else. Nothing that was acknowledged is lost.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
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

async function readsGoOn(worker: Work): Promise<void> {
  for (const image of worker.there().slice(0, 3)) {
    const { digest } = image.manifest;
    assert.equal((await worker.http.hash(`/v2/tmpfs/full/manifests/${digest}`)).digest, digest);
    for (const blob of image.blobs) {
      assert.equal((await worker.http.hash(`/v2/tmpfs/full/blobs/${blob.digest}`)).digest, blob.digest);
      assert.equal((await worker.http.send('HEAD', `/v2/tmpfs/full/blobs/${blob.digest}`)).status, 200);
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
  assert.fail(`${what} never came\n${server.output().slice(-3_000)}`);
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
    await readsGoOn(worker);
    rmSync(filler);
    await worker.recovered();
    assert.match(await readiness(worker), /^200/);
    await worker.round();
    await worker.verify('all');
    assert.deepEqual(worker.wrong, []);

    // A start on a full disk serves, or says what is wrong.
    await server.stop();
    fill(filler);
    const failed = await startLongshore({ data, config: CONFIG, port: server.port }).then(
      async (started) => {
        await readsGoOn(worker);
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
