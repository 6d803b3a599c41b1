/**
 * kill -9 of an instance at every named failpoint that PostgreSQL and an object store can reach, under clients that push
 * (in one, in chunks, in many pieces), mount, move tags and delete, with the collector at work. Another instance, which
 * has nothing of the dead one's folder, goes on: what was acknowledged is there, what was deleted stays away, uploads go
 * on where they stood, nothing needs a repair. At the end the bucket holds exactly what is reachable.
 * LONGSHORE_TEST_SOAK_SECONDS says for how long at least, LONGSHORE_TEST_SEED which choices.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client as Postgres } from 'pg';
import { FAILPOINTS } from '../../../src/kit/failpoint.ts';
import { blobEntry, type RepositoryLedger, repositoryLedger, verify } from '../../chaos/ledger.ts';
import { work } from '../../chaos/worker.ts';
import { type Client, client } from '../../support/client.ts';
import { piece } from '../../support/images.ts';
import { choices, runSeed } from '../../support/random.ts';
import { type Longshore, type StartOptions, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { configOf, newShared, objectsOf, stopEngines, withFleet } from '../fleet/fleet.ts';
import { settle } from '../fleet/settle.ts';

const SOAK_MILLISECONDS = Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0) * 1000;
const WORKERS = 4;
/** An upload lasts for less than half a grace, and for longer than a slow machine lets one rest between two jumps of the clock. */
const WINDOWS = { grace: 1_000, undelete: 1_000, deleteAfter: 10, uploadLifetime: 400 };
const CONFIG = {
  gc: {
    tick: '1s',
    graceTicks: WINDOWS.grace,
    undeleteTicks: WINDOWS.undelete,
    deleteAfterTicks: WINDOWS.deleteAfter,
    haltPercent: 100,
  },
  uploads: { lifetime: `${WINDOWS.uploadLifetime}s` },
  // The bytes are asked of the instance.
  storage: { redirect: { enabled: false, lifetime: '10s' } },
};
/** More than half the grace: heads have to renew. */
const HALF = 520;
/** Everything that ends with time ends. */
const WHOLE = WINDOWS.grace + 200;
/** Of several pieces that are joined, not copied: more than the store's least part, and more than a piece. */
const JOINED = 8.5 * 1024 * 1024;
const MOST_JOINED = 2;
/** How long a round may take to reach its failpoint, milliseconds; each further try gets longer. */
const PATIENCE = 2_000;
const MORE_PATIENCE = 12_000;
/** How often a failpoint is tried before it counts as one that never fires. */
const TRIES = 6;
/** A round works at full speed for so long. */
const BUSY = 700;

/** What no request and no job of a running instance on this engine reaches: why, or which test kills there. */
const NOT_HERE: readonly (readonly [names: RegExp, why: string])[] = [
  [/^writer\.commit\./, "SQLite's single writer: a command is a transaction of PostgreSQL's own here"],
  [/^fs\./, 'files: objects need no link and no sync of a folder'],
  [/^restore\.commit\./, 'the command restore: test/chaos/restore.test.ts'],
  [/^(scrub|heal)\./, 'damage: test/chaos/bit-rot.test.ts'],
  [/^older\./, 'a database put back: test/chaos/older-database.test.ts'],
  [/^(reindex|backup|recover)\./, 'commands beside the server: test/chaos/reindex.test.ts, test/chaos/backup.test.ts'],
];
const AFTER_HALF = /^head\.touch\./;
const AFTER_WHOLE = /^(gc|expire|objects\.delete)\./;
const IN_JOBS = /^(spill|mirror|expire|gc)\./;
const NEEDS_JOIN = /^join\.(begin|parts)\./;

await withFleet('kills at every failpoint', () => {
  after(stopEngines);

  test('an instance that dies at any failpoint leaves what another one can go on with', async (t) => {
    const seed = runSeed();
    t.diagnostic(`seed ${seed}`);
    const random = choices(seed);
    const shared = await newShared();
    const config = configOf(shared, CONFIG);
    const folders = [temporaryFolder('fleet-kill'), temporaryFolder('fleet-kill')];
    const sql = new Postgres({ connectionString: shared.url });
    sql.on('error', () => undefined);
    await sql.connect();
    t.after(() => sql.end());
    const ledgers = Array.from({ length: WORKERS }, (_, at) => repositoryLedger(`chaos/fleet-${at}`));
    const joined = repositoryLedger('chaos/joined');
    const all = [...ledgers, joined];
    const counts = new Map<string, number>();
    const wrong: string[] = [];
    const wanted = FAILPOINTS.filter((name) => !NOT_HERE.some(([names]) => names.test(name)));
    const fired = new Map<string, number>();
    const tries = new Map<string, number>();
    let [kills, starts] = [0, 0];
    /** Ticks that the clock was moved on by since every blob was asked for. */
    let jumped = 0;

    const start = (failpoint?: StartOptions['failpoint']): Promise<Longshore> =>
      startLongshore({
        data: folders[starts++ % folders.length] as string,
        config,
        ...(failpoint === undefined ? {} : { failpoint }),
      });

    /** The clock moves on, with nobody there: uploads expire, and what nothing names may go. */
    async function jump(ticks: number): Promise<void> {
      await sql.query('update gc_clock set tick = tick + $1', [ticks]);
      for (const ledger of all) {
        ledger.uploads.length = 0;
        // Promises of the past are over, and what manifests named that are deleted may be purged with them.
        const manifests = [...ledger.manifests.values()];
        const named = (wanted: boolean): Set<string> =>
          new Set(
            manifests
              .filter(({ state }) => (state === 'there') === wanted)
              .flatMap(({ image }) => image.blobs.map(({ digest }) => digest)),
          );
        const [kept, loose] = [named(true), named(false)];
        for (const [digest, entry] of ledger.blobs) {
          const mayGo = !kept.has(digest) && (ticks >= WINDOWS.grace || loose.has(digest));
          if (mayGo && entry.state === 'there') entry.state = 'unsure';
        }
      }
      jumped += ticks;
    }

    async function hastenJobs(): Promise<void> {
      await sql.query("update job set run_at = 0 where state = 'waiting'");
      await sql.query('update job_lease set until_at = 0');
    }

    /** Compares all ledgers with an instance. False where its failpoint killed it meanwhile. */
    async function compare(server: Longshore, depth: 'fresh' | 'heads' | 'all'): Promise<boolean> {
      const http = client(server.url);
      try {
        wrong.push(...(await Promise.all(all.map((ledger) => verify(ledger, http, random, depth)))).flat());
        return true;
      } catch (error) {
        if (!(await Promise.race([server.exited.then(() => true), sleep(30_000, false, { ref: false })]))) throw error;
        return false;
      } finally {
        http.close();
      }
    }

    /** An instance that agrees with the ledgers; undefined where its failpoint killed it before. */
    async function startAndCompare(failpoint: StartOptions['failpoint']): Promise<Longshore | undefined> {
      try {
        const server = await start(failpoint);
        if (await compare(server, jumped > 0 ? 'heads' : 'fresh')) {
          jumped = 0;
          return server;
        }
      } catch (error) {
        if (failpoint === undefined || !String(error).includes('SIGKILL')) throw error;
      }
      assert.ok(failpoint !== undefined, 'the instance died by itself');
      fired.set(failpoint.name, (fired.get(failpoint.name) ?? 0) + 1);
      kills++;
      return undefined;
    }

    /** One instance from its start to its death. */
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
      const http = client(running.url, {}, 2 * WORKERS);
      const began = performance.now();
      const pace = async (): Promise<void> => {
        if (performance.now() - began > BUSY) await sleep(40);
      };
      const parts = { http, random, going: () => alive, pace, counts, wrong };
      const working = ledgers.map((ledger) =>
        work({ ...parts, ledger, others: ledgers.filter((other) => other !== ledger) }),
      );
      if (armed !== undefined && NEEDS_JOIN.test(armed.name)) working.push(pushJoined(http, joined, () => alive));
      const tried = armed === undefined ? 0 : (tries.get(armed.name) ?? 0);
      if (armed !== undefined) tries.set(armed.name, tried + 1);
      // Where the failpoint was reached before, this instance only has to show that it can go on.
      const patience = armed === undefined ? 60 + random.below(100) : tried === 0 ? PATIENCE : MORE_PATIENCE * tried;
      const byItself = await Promise.race([running.exited.then(() => true), sleep(patience, false)]);
      await running.kill();
      await Promise.all(working);
      http.close();
      const exit = await running.exited;
      assert.equal(exit.signal, 'SIGKILL', `the instance ended by itself (${exit.code}):\n${running.output()}`);
      kills++;
      if (!byItself) return;
      assert.ok(armed !== undefined, 'something else killed the instance');
      fired.set(armed.name, (fired.get(armed.name) ?? 0) + 1);
    }

    // The tables are made, and there is something to go on with.
    await round(undefined);
    const began = performance.now();
    for (;;) {
      const missing = wanted.filter((each) => !fired.has(each));
      const hopeless = missing.every((each) => (tries.get(each) ?? 0) >= TRIES);
      if (hopeless && performance.now() - began >= SOAK_MILLISECONDS) break;
      // Each name once, then again those that did not fire, then any.
      const left = hopeless ? [] : missing;
      const fewest = Math.min(...left.map((each) => tries.get(each) ?? 0));
      const next = left.filter((each) => (tries.get(each) ?? 0) === fewest);
      const name = random.pick(next.length > 0 ? next : wanted) as string;
      if (AFTER_WHOLE.test(name)) await jump(WHOLE);
      else if (AFTER_HALF.test(name)) await jump(HALF);
      if (IN_JOBS.test(name)) await hastenJobs();
      await round({ name, count: fired.has(name) ? 1 + random.below(8) : 1 });
      assert.deepEqual(wrong, [], `after ${kills} kills, the last at ${name}, seed ${seed}`);
    }
    const neverFired = wanted.filter((name) => !fired.has(name));
    const atFailpoints = [...fired.values()].reduce((sum, each) => sum + each, 0);
    t.diagnostic(`${kills} kills, ${atFailpoints} of them at ${fired.size} failpoints, ${starts} starts`);
    t.diagnostic([...counts].map(([what, count]) => `${count} ${what}`).join(', '));
    assert.deepEqual(neverFired, [], 'failpoints that never fired');

    const last = await start();
    assert.ok(await compare(last, 'all'), 'the instance lives');
    assert.deepEqual(wrong, [], `seed ${seed}`);
    await last.stop();

    const settled = await settle(shared, WINDOWS);
    t.diagnostic(`${settled.live.size} blobs at the end, ${JSON.stringify(settled.swept)} went when it was quiet`);
    assert.deepEqual(settled.wrong, []);
    const open = (await objectsOf(shared)).filter((name) => /multipart/.test(name));
    assert.deepEqual(open, [], 'joins that never ended');
    const reachable = new Set<string>();
    for (const { manifests } of all) {
      for (const [digest, { image, state }] of manifests) {
        if (state !== 'there') continue;
        reachable.add(digest);
        for (const blob of image.blobs) reachable.add(blob.digest);
      }
    }
    assert.deepEqual([...settled.live].sort(), [...reachable].sort(), 'exactly what is reachable is there');
  });
});

/** Pushes a few blobs of several pieces, which the store joins, until the instance dies. */
async function pushJoined(http: Client, ledger: RepositoryLedger, going: () => boolean): Promise<void> {
  for (const [digest, { state }] of ledger.blobs) if (state === 'gone') ledger.blobs.delete(digest);
  for (let pushed = 0; going() && pushed < MOST_JOINED; pushed++) {
    const blob = piece(randomBytes(JOINED));
    const entry = blobEntry(ledger, blob);
    entry.state = 'unsure';
    try {
      const { status } = await http.send('POST', `/v2/${ledger.name}/blobs/uploads/?digest=${blob.digest}`, {
        headers: { 'content-type': 'application/octet-stream' },
        body: blob.bytes,
      });
      if (status === 201) entry.state = 'there';
    } catch {
      return;
    }
  }
}
