/**
 * The same soak against two instances on PostgreSQL and S3: each request goes to either, blobs come from the object
 * store by redirects. LONGSHORE_TEST_SOAK_SECONDS says for how long (18), LONGSHORE_TEST_SEED which choices.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { newShared, s3, startFleet, stopEngines, withFleet } from '../engines/fleet/fleet.ts';
import { runSeed } from '../support/random.ts';
import { type Kept, leftover } from './audit.ts';
import { lookAtPostgres } from './look.ts';
import { deletedKeys, descriptorsOf, GC, memoryOf, SLOWEST, soak } from './run.ts';

const SOAK = Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0);
const SECONDS = SOAK > 0 ? SOAK : 18;
/** From here on the end is waited for; below, the collector's clock is moved on. */
const LONG = SECONDS >= 240;
const MORE_DESCRIPTORS = 80;

/** Redirects must not outlive deleted bytes, and they last ten seconds at least. */
const DELETE_AFTER = 10;

async function sql(url: string, ...texts: readonly string[]): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    for (const text of texts) await client.query(text);
  } finally {
    await client.end();
  }
}

await withFleet('the soak of a fleet', () => {
  test(`${SECONDS} s of pushes, pulls and deletions beside the collector, on two instances`, async (t) => {
    const seed = runSeed();
    t.diagnostic(`seed ${seed}`);
    const shared = await newShared();
    const { root } = await s3();
    const kept: Kept = { look: lookAtPostgres(shared.url), files: join(root, shared.bucket.bucket) };
    const fleet = await startFleet({
      shared,
      instances: 2,
      config: {
        gc: { ...GC, deleteAfterTicks: DELETE_AFTER },
        uploads: { lifetime: '60s' },
        storage: { redirect: { lifetime: '10s' } },
      },
    });
    const { servers } = fleet;
    const between = (): Promise<void> => sql(shared.url, 'update gc_clock set tick = tick + 30');
    const report = await soak({
      servers: () => servers,
      kept,
      seed,
      seconds: SECONDS,
      workers: 6,
      rest: SOAK > 0 ? 2 : 5,
      ...(LONG ? {} : { between }),
      say: (text) => t.diagnostic(text),
    });
    const { counts, slowest, slowestName, memory, descriptors } = report;
    t.diagnostic([...counts].map(([what, number]) => `${number} ${what}`).join(', '));
    t.diagnostic(`slowest database command ${slowest} ms ${slowestName}; memory ${memory.join(' ')} MiB`);
    assert.deepEqual(report.wrong, [], `seed ${seed}`);
    const deleted = await deletedKeys(() => servers);
    t.diagnostic(`${deleted} keys deleted meanwhile`);
    assert.ok(deleted > 0, 'the collector deleted something meanwhile');
    for (const what of ['push', 'push in chunks', 'mount', 'head of what may go', 'redirects', 'blob delete'])
      assert.ok((counts.get(what) ?? 0) > 0, `no ${what}`);
    if (LONG) assert.ok(slowest <= SLOWEST, `I9: ${slowestName} took ${slowest} ms`);
    else
      await sql(
        shared.url,
        'update gc_clock set tick = tick + 200',
        "update job set run_at = 0 where state = 'waiting'",
      );

    const patience = LONG ? 300 : 180;
    let left = await leftover(kept);
    for (let waited = 0; waited < patience * 2 && left.length > 0; waited++) {
      await sleep(500);
      // What one review leaves to the next is due at once.
      if (!LONG) await sql(shared.url, 'update gc_clock set tick = tick + 10');
      left = await leftover(kept);
    }
    assert.deepEqual(left, [], 'what is left after quiet and enough ticks');
    for (const [at, { pid }] of servers.entries()) {
      const open = descriptorsOf(pid);
      t.diagnostic(`descriptors: ${descriptors[at]} before, ${open} after; ${memoryOf(pid)} MiB`);
      assert.ok(open <= descriptors[at]! + MORE_DESCRIPTORS, `${open} descriptors are open`);
    }
    await fleet.stop();
    await stopEngines();
  });
});
