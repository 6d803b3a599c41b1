/**
 * Processes that are stopped (SIGSTOP) for longer than everything that is only held for a time, and then go on as if
 * nothing had been: a serving member, and the primary with the writer and the jobs. Nothing acknowledged is lost.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { disagreements } from './disk.ts';
import { work } from './inject/workload.ts';

const CONFIG = {
  server: { processes: 2 },
  gc: { tick: '1s', graceTicks: 4, undeleteTicks: 1, deleteAfterTicks: 1, haltPercent: 100 },
  log: { access: false, level: 'warn' },
};
/** Longer than the grace and what follows it, in ticks of a second. */
const PAUSE = 6_000;

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8'))?.[1]) === pid;
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** False where the primary stopped in the middle of a write. */
function expireLeases(data: string): boolean {
  using side = new DatabaseSync(join(data, 'side.db'), { timeout: 0 });
  try {
    side.exec('update job_lease set until_at = 0');
    return true;
  } catch {
    return false;
  }
}

test('a member, then the primary, stands still for longer than any lease and goes on: nothing is lost', async (t) => {
  const data = temporaryFolder('pause');
  const server = await startLongshore({ data, config: CONFIG });
  const workers = [1, 2, 3].map((n) => work(server.url, `pause/${n}`, 256 * 1024));
  let going = true;
  const running = workers.map(async (worker) => {
    while (going) {
      await worker.round();
      await sleep(20);
    }
  });
  await sleep(500);
  let [member] = childrenOf(server.pid);
  for (let tries = 0; tries < 1_200 && member === undefined; tries++) {
    await sleep(50);
    [member] = childrenOf(server.pid);
  }
  assert.ok(member !== undefined);
  const pause = async (pid: number, meanwhile: () => boolean = () => true): Promise<void> => {
    try {
      process.kill(pid, 'SIGSTOP');
      for (let tries = 0; !meanwhile(); tries++) {
        assert.ok(tries < 1_000, 'the primary always writes');
        process.kill(pid, 'SIGCONT');
        await sleep(20);
        process.kill(pid, 'SIGSTOP');
      }
      await sleep(PAUSE);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await sleep(500);
  };
  await pause(member);
  // The leases of jobs last a minute: they are made to run out while the primary stands still.
  await pause(server.pid, () => expireLeases(data));
  going = false;
  await Promise.all(running);
  for (const worker of workers) await worker.verify('all');
  // A push that stood still for longer than the grace may find its own blobs collected: it is told, and pushes again.
  const losses = (): string[] =>
    workers
      .flatMap((worker) => worker.wrong)
      .filter((text) => !/MANIFEST_BLOB_UNKNOWN|BLOB_UNKNOWN/.test(text) || /lost|back/.test(text));
  assert.deepEqual(losses(), [], server.output().slice(-3_000));
  t.diagnostic(`${workers.reduce((sum, worker) => sum + worker.there().length, 0)} images are there`);
  for (const worker of workers) await worker.round();
  await server.stop();
  const again = await startLongshore({ data, config: CONFIG, port: server.port });
  for (const worker of workers) {
    await worker.verify('all');
    worker.close();
  }
  assert.deepEqual(losses(), []);
  await again.stop();
  assert.deepEqual(disagreements(data), []);
});
