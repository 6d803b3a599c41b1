/**
 * Real clients against the real program on files and SQLite, with the collector's tick at a second: no push or pull
 * fails, no invariant breaks, and in the end nothing is left that nothing refers to. LONGSHORE_TEST_SOAK_SECONDS says
 * for how long (22), LONGSHORE_TEST_SEED which choices.
 */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { blobKey } from '../../src/oci/blob-key.ts';
import type { Digest } from '../../src/oci/names.ts';
import { advanceClock, databaseFile, disagreements, hastenJobs, openFiles } from '../chaos/disk.ts';
import { runSeed } from '../support/random.ts';
import { type Longshore, startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { filesBelow, type Kept, leftover } from './audit.ts';
import { lookAtFile } from './look.ts';
import { deletedKeys, descriptorsOf, GC, memoryOf, SLOWEST, type SoakReport, soak } from './run.ts';

const SOAK = Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0);
const SECONDS = SOAK > 0 ? SOAK : 22;
/** From here on the end is waited for; below, the collector's clock is moved on. */
const LONG = SECONDS >= 240;
/** Descriptors that may be open beside those of the start: threads that had not started, kept connections. */
const MORE_DESCRIPTORS = 24;
/** Most resident memory in the end, MiB, and most that a long soak may grow by between its quarter and its end. */
const MOST_MEMORY = 400;
const MOST_GROWTH = 64;

const CONFIG = {
  gc: GC,
  uploads: { lifetime: '60s' },
  access: { anonymous: 'push' },
  log: { access: false },
};

const keptOf = (data: string): Kept => ({ look: lookAtFile(databaseFile(data)), files: join(data, 'storage') });

/** Asks until nothing is left, for so many seconds; what is left then. */
async function untilNothing(kept: Kept, seconds: number): Promise<string[]> {
  let left = await leftover(kept);
  for (let waited = 0; waited < seconds * 2 && left.length > 0; waited++) {
    await sleep(500);
    left = await leftover(kept);
  }
  return left;
}

function told({ counts, slowest, slowestName, memory }: SoakReport): string {
  return `${[...counts].map(([what, number]) => `${number} ${what}`).join(', ')}; slowest database command ${slowest} ms ${slowestName}; memory ${memory.join(' ')} MiB`;
}

/** What the process holds, against what it held before the load. */
async function isQuiet(server: Longshore, before: number, t: { diagnostic(text: string): void }): Promise<void> {
  const storage = join(server.data, 'storage');
  let [open, descriptors] = [openFiles(server.pid, storage), descriptorsOf(server.pid)];
  for (let waited = 0; waited < 480 && (open.length > 0 || descriptors > before + MORE_DESCRIPTORS); waited++) {
    await sleep(250);
    [open, descriptors] = [openFiles(server.pid, storage), descriptorsOf(server.pid)];
  }
  t.diagnostic(`descriptors: ${before} before, ${descriptors} after; ${memoryOf(server.pid)} MiB`);
  assert.deepEqual(open, [], 'no file of storage is left open');
  assert.ok(
    descriptors <= before + MORE_DESCRIPTORS,
    `${descriptors} descriptors are open, ${before} were at the start`,
  );
}

test(`${SECONDS} s of pushes, pulls and deletions beside the collector`, async (t) => {
  const seed = runSeed();
  t.diagnostic(`seed ${seed}`);
  const data = temporaryFolder('soak');
  const kept = keptOf(data);
  let server = await startLongshore({ data, config: CONFIG });
  const { port } = server;
  /** What the first images left becomes due at once: a short soak meets the collector for most of its time. */
  const between = async (): Promise<void> => {
    await server.stop();
    advanceClock(data, 30);
    server = await startLongshore({ data, port, config: CONFIG });
  };
  const report = await soak({
    servers: () => [server],
    kept,
    seed,
    seconds: SECONDS,
    workers: 8,
    rest: SOAK > 0 ? 2 : 5,
    ...(LONG ? {} : { between }),
    say: (text) => t.diagnostic(text),
  });
  t.diagnostic(told(report));
  assert.deepEqual(report.wrong, [], `seed ${seed}`);
  const deleted = await deletedKeys(() => [server]);
  t.diagnostic(`${deleted} keys deleted meanwhile`);
  assert.ok(deleted > 0, 'the collector deleted something meanwhile');
  for (const what of ['push', 'push in chunks', 'mount', 'head of what may go', 'tag move', 'blob delete', 'index'])
    assert.ok((report.counts.get(what) ?? 0) > 0, `no ${what}`);
  await isQuiet(server, report.descriptors[0]!, t);
  if (LONG) {
    assert.deepEqual(await untilNothing(kept, 240), [], 'what is left after quiet');
    const { memory } = report;
    assert.ok(
      (memory.at(-1) ?? 0) <= (memory[memory.length >> 2] ?? 0) + MOST_GROWTH,
      `memory ${memory.join(' ')} MiB`,
    );
    assert.ok(report.slowest <= SLOWEST, `I9: ${report.slowestName} took ${report.slowest} ms`);
  }
  assert.ok(memoryOf(server.pid) <= MOST_MEMORY, `${memoryOf(server.pid)} MiB`);
  await server.stop();
  assert.deepEqual(disagreements(data), [], 'files and rows agree');
  if (LONG) return;

  // All uploads have rested, all windows have ended: it goes by itself.
  advanceClock(data, 200);
  hastenJobs(data);
  server = await startLongshore({ data, config: CONFIG });
  assert.deepEqual(await untilNothing(kept, 180), [], 'what is left after quiet and enough ticks');
  await isQuiet(server, descriptorsOf(server.pid), t);
  await server.stop();
  assert.deepEqual(disagreements(data), [], 'files and rows agree');
});

test('the soak sees bytes that vanish under a manifest, and a file that nobody knows', async () => {
  const data = temporaryFolder('soak');
  const kept = keptOf(data);
  const server = await startLongshore({ data, config: CONFIG });
  const stray = blobKey(`sha256:${'ab'.repeat(32)}` as Digest, 0);
  const report = await soak({
    servers: () => [server],
    kept,
    seed: 7,
    seconds: 30,
    mostWrong: 3,
    workers: 3,
    rest: 5,
    programs: false,
    sabotage(needed) {
      const keys = new Set(needed.map((digest) => digest.slice(7)));
      const blobs = join(kept.files, 'blobs');
      for (const file of filesBelow(blobs))
        if (keys.has(file.slice(file.lastIndexOf('/') + 1).slice(0, 64))) rmSync(join(blobs, file), { force: true });
      mkdirSync(join(blobs, stray, '..'), { recursive: true });
      writeFileSync(join(blobs, stray), 'stray');
    },
    say: () => undefined,
  });
  const left = await leftover(kept);
  await server.kill();
  assert.ok(report.wrong.length > 0, 'a lost file was not seen');
  assert.match(report.wrong.join('\n'), /I1|I4|blob pull: (404|500)/);
  assert.ok(
    left.some((text) => text.includes(stray)),
    `a stray file was not seen in ${left.join(', ')}`,
  );
});
