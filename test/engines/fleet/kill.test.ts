/**
 * Three instances on PostgreSQL and S3 behind a balancer, one of them killed every five seconds under pushes, pulls and
 * deletes, with the collector at work. Every client's own retry succeeds; nothing acknowledged is lost, at any instance;
 * at the end the store holds exactly what is reachable. LONGSHORE_TEST_SOAK_SECONDS says for how long.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runnableImage } from '../../support/images.ts';
import { choices, runSeed } from '../../support/random.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { findTool, runAny } from '../../support/tools.ts';
import { startFleet, stopEngines, withFleet } from './fleet.ts';
import { DIRECT_AGENT, type Load, newLedger, puller, pusher, verify } from './load.ts';
import { settle } from './settle.ts';

const SECONDS = Math.max(25, Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0));
const KILL_EVERY = 5_000;
/** On a machine with much else to do it takes longer. */
const LEAST_KILLS = 4;
/** How long an instance stays away, milliseconds. */
const AWAY = 700;
const PUSHERS = 3;
const PULLERS = 2;
const WINDOWS = { grace: 20, undelete: 5, deleteAfter: 10, uploadLifetime: 60 };
const CONFIG = {
  gc: {
    tick: '1s',
    graceTicks: WINDOWS.grace,
    undeleteTicks: WINDOWS.undelete,
    deleteAfterTicks: WINDOWS.deleteAfter,
    haltPercent: 100,
  },
  uploads: { lifetime: '60s' },
  storage: {
    redirect: { lifetime: '10s', exceptUserAgents: [DIRECT_AGENT] },
    cache: { maxBytes: 32 * 2 ** 20 },
  },
};

await withFleet('kills in a fleet', () => {
  after(stopEngines);

  test(`an instance is killed every five seconds for ${SECONDS} s`, async (t) => {
    const seed = runSeed();
    t.diagnostic(`seed ${seed}`);
    const fleet = await startFleet({ config: CONFIG });
    const end = performance.now() + SECONDS * 1000;
    const real = runnableImage([{ hello: 'hello' }, { data: Buffer.alloc(3_000_000, 7) }]);
    let kills = 0;
    let failed = false;
    const load: Load = {
      http: fleet.http,
      random: choices(seed),
      ledgers: Array.from({ length: PUSHERS }, (_, at) => newLedger(`kill/worker-${at}`)),
      going: () => !failed && (performance.now() < end || kills < LEAST_KILLS),
      counts: new Map(),
      wrong: [],
    };
    const killer = async (): Promise<void> => {
      await sleep(KILL_EVERY / 2);
      while (load.going()) {
        const began = performance.now();
        const at = load.random.below(fleet.servers.length);
        await fleet.servers[at]!.kill();
        await sleep(AWAY);
        await fleet.restart(at);
        kills++;
        await sleep(Math.max(500, KILL_EVERY - (performance.now() - began)));
      }
    };
    try {
      await fleet.http.pushImage('kill/real', real, 'v0');
      await Promise.all([
        killer(),
        ...load.ledgers.map((ledger) => pusher(load, ledger)),
        ...Array.from({ length: PULLERS }, () => puller(load)),
        realClient(load, fleet.balancer.host),
      ]);
      const counted = JSON.stringify(Object.fromEntries(load.counts));
      t.diagnostic(`${kills} kills, ${counted}, ${fleet.balancer.broken()} requests broken off`);
      assert.deepEqual(load.wrong, []);
      for (const what of ['push', 'pull', 'delete']) assert.ok((load.counts.get(what) ?? 0) > 0, what);
      const found = await Promise.all(fleet.clients.map((one) => verify(load.ledgers, one)));
      assert.deepEqual(found.flat(), []);
    } catch (error) {
      failed = true;
      await fleet.destroy();
      throw error;
    }
    await fleet.stop();

    const settled = await settle(fleet.shared, WINDOWS);
    t.diagnostic(`${settled.live.size} blobs at the end, ${JSON.stringify(settled.swept)} went when it was quiet`);
    assert.deepEqual(settled.wrong, []);
    const images = [real, ...load.ledgers.flatMap(({ there }) => [...there.values()])];
    const wanted = new Set(images.flatMap(({ manifest, blobs }) => [manifest, ...blobs].map(({ digest }) => digest)));
    assert.deepEqual([...settled.live].sort(), [...wanted].sort());
  });
});

/** crane, with its own retry and nothing else, pushing and pulling one image again and again. */
async function realClient(load: Load, host: string): Promise<void> {
  const crane = findTool('crane');
  if (crane === undefined) return;
  const folder = temporaryFolder('kill-crane');
  for (let round = 1; load.going(); round++) {
    const layout = join(folder, `layout-${round}`);
    const steps = [
      ['pull', '--format=oci', '--insecure', `${host}/kill/real:v0`, layout],
      ['push', '--insecure', layout, `${host}/kill/real-${round}:v1`],
    ];
    for (const args of steps) {
      const ran = await runAny(crane, args);
      if (ran.code !== 0) load.wrong.push(`crane ${args[0]}: ${ran.stderr.slice(-600)}`);
      else load.counts.set(`crane ${args[0]}`, (load.counts.get(`crane ${args[0]}`) ?? 0) + 1);
    }
  }
}
