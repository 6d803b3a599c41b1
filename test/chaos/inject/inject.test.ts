/**
 * Every write, sync, open, rename, link, unlink, truncation and folder that the real program makes fails once, with EIO
 * and with ENOSPC: whoever asked is told so by an error of the specification, everything goes on by itself, and
 * nothing that was acknowledged is lost. `npm test` takes of each kind of call in each thread the first and last of
 * every file that it is made on; the soak takes all.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Choices, choices, runSeed } from '../../support/random.ts';
import { type Longshore, startLongshore, statusOf } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { withTools } from '../../support/tools.ts';
import { advanceClock, ageTemporaryFiles, disagreements, hastenJobs, uploadsLeft } from '../disk.ts';
import { attach, type CallKind, type Seen, type ThreadKind, threads } from './tracer.ts';
import { type Work, work } from './workload.ts';

const SOAK = Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0) > 0;
/** How many single faults `npm test` takes. */
const SHARE = 44;
/** Rounds that the test of many faults takes at least. */
const LEAST_ROUNDS = 15;
const ERRORS = ['EIO', 'ENOSPC'] as const;
const KINDS: readonly ThreadKind[] = ['pool', 'writer'];
const CONFIG = {
  gc: { tick: '1s', graceTicks: 20, undeleteTicks: 5, deleteAfterTicks: 1 },
  uploads: { lifetime: '60s' },
  log: { access: false, level: 'warn' },
};
/** One thread for files, so that its calls can be counted. */
const ENVIRONMENT = { UV_THREADPOOL_SIZE: '1' };

/** One call to fail: the `n`-th of its kind in its thread. */
interface Single {
  readonly thread: ThreadKind;
  readonly kind: CallKind;
  readonly n: number;
  readonly where: string;
}

/** All calls of one round, told apart by thread, kind and number. */
function singles(thread: ThreadKind, seen: readonly Seen[]): Single[] {
  const counts = new Map<CallKind, number>();
  return seen.map(({ kind, where }) => {
    const n = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, n);
    return { thread, kind, n, where };
  });
}

/** The first and last of each kind, thread and file. */
function stratified(all: readonly Single[]): Single[] {
  const groups = new Map<string, Single[]>();
  for (const one of all) {
    const group = `${one.thread} ${one.kind} ${one.where.replace(/^.*\/longshore-[^/]*/, '')}`;
    groups.set(group, [...(groups.get(group) ?? []), one]);
  }
  return [...groups.values()].flatMap((group) => [...new Set([group[0]!, group.at(-1)!])]);
}

/** So many of them, in a random order. */
function some<T>(from: readonly T[], count: number, random: Choices): T[] {
  const left = [...from];
  return Array.from({ length: Math.min(count, left.length) }, () => left.splice(random.below(left.length), 1)[0] as T);
}

async function ready(server: Longshore): Promise<void> {
  for (let tries = 0; tries < 1_200; tries++) {
    if ((await statusOf(`${server.url}/readyz`)) === 200) return;
    await sleep(100);
  }
  assert.fail(`it is not ready again:\n${server.output().slice(-3_000)}`);
}

withTools(['strace'], 'error injection', (strace) => {
  test('each call of the program fails once: a proper error, recovery by itself, nothing acknowledged lost', async (t) => {
    const seed = runSeed();
    const random = choices(seed);
    const data = temporaryFolder('inject');
    const server = await startLongshore({ data, config: CONFIG, env: ENVIRONMENT });
    const worker = work(server.url, 'inject/once', 640 * 1024);
    for (let n = 0; n < 4; n++) await worker.round();
    const all: Single[] = [];
    for (const kind of KINDS) {
      const ids = threads(server.pid, kind);
      assert.equal(ids.length, 1, `threads of the kind ${kind}`);
      const tracer = await attach(strace, ids);
      await worker.round();
      all.push(...singles(kind, await tracer.detach()));
    }
    assert.ok(all.length > 60, `only ${all.length} calls were seen`);
    assert.deepEqual(worker.wrong, []);
    const pairs = (SOAK ? all : stratified(all)).flatMap((one) => ERRORS.map((error) => ({ ...one, error })));
    const chosen = SOAK ? pairs : some(pairs, SHARE, random);
    t.diagnostic(
      `seed ${seed}: ${all.length} calls in a round, ${pairs.length} faults of which ${chosen.length} are tried`,
    );
    let fired = 0;
    for (const { thread, kind, n, where, error } of chosen) {
      const what = `${error} at ${kind} ${n} of the ${thread} thread (${where})`;
      const tracer = await attach(strace, threads(server.pid, thread), { calls: [kind], error, when: String(n) });
      await worker.round();
      const seen = await tracer.detach();
      if (seen.some(({ injected }) => injected)) fired += 1;
      await worker.recovered();
      await worker.verify('changed');
      assert.deepEqual(worker.wrong, [], `${what}, seed ${seed}\n${server.output().slice(-3_000)}`);
    }
    t.diagnostic(`${fired} of ${chosen.length} fired, ${worker.refused()} answers were errors`);
    assert.ok(fired >= chosen.length * 0.7, `only ${fired} of ${chosen.length} faults fired`);
    await ready(server);
    await restarted(server, data, [worker]);
  });

  test('every few calls fail while jobs spill, mirror and collect: all of it is made up for afterwards', async (t) => {
    const data = temporaryFolder('inject-jobs');
    const server = await startLongshore({ data, config: CONFIG, env: ENVIRONMENT });
    const worker = work(server.url, 'inject/jobs', 256 * 1024);
    for (let n = 0; n < 4; n++) await worker.round();
    const ids = KINDS.flatMap((kind) => threads(server.pid, kind));
    const tracer = await attach(
      strace,
      ids,
      { calls: ['sync', 'rename', 'unlink', 'mkdir', 'link'], error: 'EIO', when: '2+3' },
      { calls: ['write', 'open'], error: 'ENOSPC', when: '3+5' },
    );
    const until = performance.now() + (SOAK ? 60_000 : 7_000);
    // So long that jobs run, and on a slow machine so often that enough fails.
    for (let rounds = 0; rounds < LEAST_ROUNDS || performance.now() < until; rounds++) {
      await worker.round();
      await sleep(150);
    }
    const seen = await tracer.detach();
    await worker.recovered();
    await worker.verify('changed');
    assert.deepEqual(worker.wrong, [], server.output().slice(-3_000));
    const failed = seen.filter(({ injected }) => injected);
    t.diagnostic(`${failed.length} of ${seen.length} calls failed, ${worker.refused()} answers were errors`);
    assert.ok(failed.length > 20);
    await ready(server);
    await restarted(server, data, [worker]);
  });
});

/** Stops, starts again and compares; then deletes everything and waits until nothing is left but what has a row. */
async function restarted(server: Longshore, data: string, workers: readonly Work[]): Promise<void> {
  const output = server.output();
  assert.ok(!/"code":"bug"|UNKNOWN/.test(output), output.slice(-3_000));
  await server.stop();
  assert.deepEqual(disagreements(data), []);
  const again = await startLongshore({ data, config: CONFIG, port: server.port });
  for (const worker of workers) {
    await worker.verify('all');
    assert.deepEqual(worker.wrong, []);
    await worker.deleteAll();
    await worker.verify('all');
    assert.deepEqual(worker.wrong, []);
    worker.close();
  }
  await again.stop();
  assert.deepEqual(disagreements(data), []);

  // Uploads that an error broke off have rested for longer than they may: nothing of them is left.
  advanceClock(data, 1_000);
  ageTemporaryFiles(data);
  hastenJobs(data);
  const last = await startLongshore({ data, config: CONFIG });
  let left = uploadsLeft(data);
  for (let tries = 0; tries < 1_200 && (left.rows > 0 || left.files.length > 0); tries++) {
    await sleep(100);
    left = uploadsLeft(data);
  }
  assert.deepEqual(left, { rows: 0, files: [] });
  await last.stop();
  assert.deepEqual(disagreements(data), []);
}
