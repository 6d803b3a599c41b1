/**
 * kill -9 of the real process, at every named failpoint and at random moments, under eight clients that push, mount,
 * move tags and delete. After each restart what was acknowledged is there, what was deleted stays away, and nothing
 * needs a repair; at the end no file is left that no row names. LONGSHORE_TEST_KILLS says how often (100),
 * LONGSHORE_TEST_SOAK_SECONDS for how long at least, LONGSHORE_TEST_SEED which choices.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FAILPOINTS } from '../../src/kit/failpoint.ts';
import { client } from '../support/client.ts';
import { choices, runSeed } from '../support/random.ts';
import { type Longshore, type StartOptions, startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { advanceClock, ageTemporaryFiles, disagreements, hastenJobs, openFiles, uploadsLeft } from './disk.ts';
import { type Depth, repositoryLedger, verify } from './ledger.ts';
import { work } from './worker.ts';

const KILLS = Number(process.env.LONGSHORE_TEST_KILLS ?? 100);
const SOAK_MILLISECONDS = Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0) * 1000;
const WORKERS = 8;
const GRACE_TICKS = 1_000;
/** More than half the grace, less than all of it: heads have to renew, nothing is collected. */
const JUMP_TICKS = 520;
/** Less than a jump, and more than the rounds between two jumps take on a slow machine: what rests is gone on with. */
const LIFETIME_TICKS = 400;
const CONFIG = {
  gc: { tick: '1s', graceTicks: GRACE_TICKS, undeleteTicks: 1_000_000 },
  uploads: { lifetime: `${LIFETIME_TICKS}s` },
  log: { access: false },
};

/** Failpoints that no request over HTTP reaches, each with the test that kills at it instead. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'piece.put.before': 'test/engines/fleet-kills/kill.test.ts',
  'piece.put.after': 'test/engines/fleet-kills/kill.test.ts',
  'piece.merge.before': 'test/engines/fleet-kills/kill.test.ts',
  'piece.merge.after': 'test/engines/fleet-kills/kill.test.ts',
  'join.store.before': 'test/engines/fleet-kills/kill.test.ts',
  'join.begin.after': 'test/engines/fleet-kills/kill.test.ts',
  'join.parts.after': 'test/engines/fleet-kills/kill.test.ts',
  'join.store.after': 'test/engines/fleet-kills/kill.test.ts',
  'objects.delete.before': 'test/engines/fleet-kills/kill.test.ts',
  'objects.delete.after': 'test/engines/fleet-kills/kill.test.ts',
  'restore.commit.before': 'test/chaos/restore.test.ts',
  'restore.commit.after': 'test/chaos/restore.test.ts',
  'gc.review.before': 'test/interleaving/kill.test.ts',
  'gc.review.after': 'test/interleaving/kill.test.ts',
  'gc.purge.before': 'test/interleaving/kill.test.ts',
  'gc.purge.after': 'test/interleaving/kill.test.ts',
  'gc.journal.before': 'test/interleaving/kill.test.ts',
  'gc.journal.after': 'test/interleaving/kill.test.ts',
  'gc.delete.before': 'test/interleaving/kill.test.ts',
  'gc.delete.after': 'test/interleaving/kill.test.ts',
  'gc.confirm.before': 'test/interleaving/kill.test.ts',
  'gc.confirm.after': 'test/interleaving/kill.test.ts',
  'backup.snapshot.after': 'test/chaos/backup.test.ts',
  'backup.copy.after': 'test/chaos/backup.test.ts',
  'backup.point.before': 'test/chaos/backup.test.ts',
  'backup.point.after': 'test/chaos/backup.test.ts',
  'recover.empty.before': 'test/chaos/backup.test.ts',
  'recover.empty.after': 'test/chaos/backup.test.ts',
  'recover.load.after': 'test/chaos/backup.test.ts',
  'recover.epoch.after': 'test/chaos/backup.test.ts',
  'recover.journal.after': 'test/chaos/backup.test.ts',
  'recover.copy.after': 'test/chaos/backup.test.ts',
  'recover.end.before': 'test/chaos/backup.test.ts',
  'recover.end.after': 'test/chaos/backup.test.ts',
  'older.begin.after': 'test/chaos/older-database.test.ts',
  'older.epoch.after': 'test/chaos/older-database.test.ts',
  'older.mark.after': 'test/chaos/older-database.test.ts',
  'older.journal.after': 'test/chaos/older-database.test.ts',
  'older.blobs.after': 'test/chaos/older-database.test.ts',
  'older.merge.after': 'test/chaos/older-database.test.ts',
  'older.bury.after': 'test/chaos/older-database.test.ts',
  'older.end.before': 'test/chaos/older-database.test.ts',
  'scrub.damage.before': 'test/chaos/bit-rot.test.ts',
  'scrub.damage.after': 'test/chaos/bit-rot.test.ts',
  'scrub.advance.before': 'test/chaos/bit-rot.test.ts',
  'scrub.advance.after': 'test/chaos/bit-rot.test.ts',
  'heal.live.before': 'test/chaos/bit-rot.test.ts',
  'heal.live.after': 'test/chaos/bit-rot.test.ts',
  'reindex.begin.after': 'test/chaos/reindex.test.ts',
  'reindex.shard.after': 'test/chaos/reindex.test.ts',
  'reindex.manifests.after': 'test/chaos/reindex.test.ts',
  'reindex.tags.after': 'test/chaos/reindex.test.ts',
  'reindex.end.before': 'test/chaos/reindex.test.ts',
};

/** How long a round with a failpoint may take to reach it before the process is killed anyway, milliseconds: each
 * further try gets longer, because jobs run every five seconds and a machine may be slow. */
const PATIENCE = 1_500;
const MORE_PATIENCE = 8_000;
/** How often a failpoint is tried before it counts as one that never fires. */
const TRIES = 8;
/** How long a round works at full speed, milliseconds; then it goes on slowly until its failpoint is reached. */
const BUSY = 500;
/** Those that only a clock which was moved on lets a request reach. */
const AFTER_JUMP = /^head\.touch\./;
/** Those that only jobs reach. */
const IN_JOBS = /^(spill|mirror|expire)\./;

test(`${KILLS} kills lose nothing that was acknowledged, need no repair and leave nothing behind`, async (t) => {
  const seed = runSeed();
  t.diagnostic(`seed ${seed}`);
  const random = choices(seed);
  const data = temporaryFolder('kill');
  const ledgers = Array.from({ length: WORKERS }, (_, at) => repositoryLedger(`chaos/worker-${at}`));
  const counts = new Map<string, number>();
  const wrong: string[] = [];
  const wanted = FAILPOINTS.filter((name) => !(name in ELSEWHERE));
  const fired = new Map<string, number>();
  const tries = new Map<string, number>();
  let kills = 0;
  /** Milliseconds. */
  const spent = { start: 0, compare: 0, work: 0 };
  let startups = 0;
  /** Whether the clock was moved on since every blob was asked for. */
  let jumped = false;

  const start = async (failpoint?: StartOptions['failpoint']): Promise<Longshore> => {
    startups += 1;
    spent.start -= performance.now();
    try {
      return await startLongshore({ data, config: CONFIG, ...(failpoint === undefined ? {} : { failpoint }) });
    } finally {
      spent.start += performance.now();
    }
  };

  /** Compares all ledgers with a server that nothing kills but, perhaps, its failpoint. False where it died meanwhile. */
  async function compare(server: Longshore, depth: Depth): Promise<boolean> {
    const http = client(server.url);
    spent.compare -= performance.now();
    try {
      const found = await Promise.all(ledgers.map((ledger) => verify(ledger, http, random, depth)));
      wrong.push(...found.flat());
      return true;
    } catch (error) {
      const dead = await Promise.race([server.exited.then(() => true), sleep(30_000, false, { ref: false })]);
      if (!dead) throw error;
      return false;
    } finally {
      spent.compare += performance.now();
      http.close();
    }
  }

  /** Starts with a failpoint armed, then without where it was reached before the work began. */
  async function startAndCompare(failpoint: StartOptions['failpoint']): Promise<Longshore | undefined> {
    try {
      const server = await start(failpoint);
      if (await compare(server, jumped ? 'heads' : 'fresh')) {
        jumped = false;
        return server;
      }
    } catch (error) {
      if (failpoint === undefined || !String(error).includes('SIGKILL')) throw error;
    }
    assert.ok(failpoint !== undefined, 'the server died by itself');
    fired.set(failpoint.name, (fired.get(failpoint.name) ?? 0) + 1);
    kills += 1;
    return undefined;
  }

  async function round(failpoint: StartOptions['failpoint']): Promise<void> {
    let armed = failpoint;
    let server = await startAndCompare(armed);
    if (server === undefined) {
      armed = undefined;
      server = await startAndCompare(undefined);
    }
    assert.ok(server !== undefined);
    const running = server;
    let alive = true;
    void running.exited.then(() => {
      alive = false;
    });
    const http = client(running.url, {}, WORKERS);
    const began = performance.now();
    const pace = async (): Promise<void> => {
      if (performance.now() - began > BUSY) await sleep(40);
    };
    const working = ledgers.map((ledger) =>
      work({
        http,
        ledger,
        others: ledgers.filter((other) => other !== ledger),
        random,
        going: () => alive,
        pace,
        counts,
        wrong,
      }),
    );
    const tried = armed === undefined ? 0 : (tries.get(armed.name) ?? 0);
    if (armed !== undefined) tries.set(armed.name, tried + 1);
    const patience = armed === undefined ? 80 + random.below(350) : tried === 0 ? PATIENCE : MORE_PATIENCE * tried;
    spent.work -= performance.now();
    const byItself = await Promise.race([running.exited.then(() => true), sleep(patience, false)]);
    await running.kill();
    await Promise.all(working);
    spent.work += performance.now();
    http.close();
    const exit = await running.exited;
    assert.equal(exit.signal, 'SIGKILL', `the server ended by itself (${exit.code}):\n${running.output()}`);
    kills += 1;
    if (byItself) {
      assert.ok(armed !== undefined, 'something else killed the server');
      fired.set(armed.name, (fired.get(armed.name) ?? 0) + 1);
    }
  }

  const started = performance.now();
  const isMissing = (): boolean => wanted.some((name) => !fired.has(name) && (tries.get(name) ?? 0) < TRIES);
  for (let number = 0; kills < KILLS || performance.now() - started < SOAK_MILLISECONDS || isMissing(); number += 1) {
    // Each name once, then again those that did not fire, then any.
    const missing = wanted.filter((each) => !fired.has(each) && (jumped || !AFTER_JUMP.test(each)));
    const fewest = Math.min(...missing.map((each) => tries.get(each) ?? 0));
    const next = missing.filter((each) => (tries.get(each) ?? 0) === fewest);
    const touching = next.filter((each) => AFTER_JUMP.test(each));
    const name =
      number % 4 === 3 ? undefined : random.pick(touching.length > 0 ? touching : next.length > 0 ? next : wanted);
    if (name !== undefined && IN_JOBS.test(name) && number > 0) hastenJobs(data);
    await round(name === undefined ? undefined : { name, count: fired.has(name) ? 1 + random.below(12) : 1 });
    if (number % 8 === 7 && !jumped) {
      advanceClock(data, JUMP_TICKS);
      // Uploads that rested meanwhile have expired.
      for (const ledger of ledgers) ledger.uploads.length = 0;
      jumped = true;
    }
    assert.deepEqual(wrong, [], `after ${kills} kills, seed ${seed}`);
  }
  t.diagnostic(
    `${kills} kills, ${startups} starts, ${[...fired.values()].reduce((sum, each) => sum + each, 0)} at failpoints`,
  );
  const seconds = Object.entries(spent).map(([what, time]) => `${what} ${(time / 1000).toFixed(1)} s`);
  t.diagnostic(`spent: ${seconds.join(', ')}`);
  t.diagnostic([...counts].map(([what, count]) => `${count} ${what}`).join(', '));

  const neverFired = wanted.filter((name) => !fired.has(name));
  if (neverFired.length > 0) t.diagnostic(`never fired: ${neverFired.join(', ')}`);

  const last = await start();
  assert.ok(await compare(last, 'all'), 'the server lives');
  assert.deepEqual(wrong, [], `seed ${seed}`);
  await last.stop();
  assert.deepEqual(disagreements(data), [], 'files and rows agree');

  // All uploads have rested for longer than they may: their rows and files go by themselves.
  advanceClock(data, LIFETIME_TICKS + 100);
  ageTemporaryFiles(data);
  hastenJobs(data);
  const after = await start();
  let left = uploadsLeft(data);
  for (let tries = 0; tries < 1_200 && (left.rows > 0 || left.files.length > 0); tries += 1) {
    await sleep(100);
    left = uploadsLeft(data);
  }
  assert.deepEqual(left, { rows: 0, files: [] }, 'no upload is left');
  // The collector and the spill open folders for moments.
  let open = openFiles(after.pid, join(data, 'storage'));
  for (let tries = 0; tries < 1_200 && open.length > 0; tries += 1) {
    await sleep(50);
    open = openFiles(after.pid, join(data, 'storage'));
  }
  assert.deepEqual(open, [], 'no blob or upload is left open');
  await after.stop();
  assert.deepEqual(neverFired, [], 'failpoints that never fired');
});
