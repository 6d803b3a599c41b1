/**
 * Power cuts replayed. The writes, syncs and names of a real run (pushes inline and in chunks, mounts, tag moves,
 * deletes, an undelete, spill, mirror, a collection, a stop and a start) are recorded by strace; then the power goes
 * at every moment, and each state that POSIX allows the disk to be in has to start without a repair and to hold what
 * was promised. See `disk-model.ts` for what is legal, `states.ts` for which states are looked at, `check.ts` for what
 * has to hold.
 *
 * LONGSHORE_TEST_SEED repeats the choices; LONGSHORE_TEST_SOAK_SECONDS looks at states for so long, at far more of
 * each cut. A run that fails keeps its recording: LONGSHORE_TEST_RECORDING names one to replay.
 *
 * That the harness sees is shown by the faults of `faults.ts`: a recording with one sync taken out or one order
 * changed. All of them are caught: the sync of a blob's file, of its folder, of the folder of shards, of spilled bytes
 * and records, of the folders of records, of the write-ahead log, of the database at a checkpoint, of the data folder,
 * of the folders above it, the link before the sync, and the sync after the collector's delete.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { deserialize, serialize } from 'node:v8';
import { client } from '../../support/client.ts';
import { choices, runSeed } from '../../support/random.ts';
import { ROOT, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { run, withTools } from '../../support/tools.ts';
import { disagreements } from '../disk.ts';
import { brokenPromises, type Look } from './check.ts';
import { DiskModel, type Left } from './disk-model.ts';
import { FAULTS } from './faults.ts';
import { promisedAfter } from './ledger.ts';
import { type Recording, record } from './record.ts';
import { around, type Cut, cutsOf, others, outermost } from './states.ts';

const SOAK = Number(process.env.LONGSHORE_TEST_SOAK_SECONDS ?? 0);
/** Seconds for the states beyond the two of each cut that are always looked at. */
const SECONDS = SOAK > 0 ? SOAK : 6;
const LIMITS = SOAK > 0 ? { pages: 400, randoms: 40 } : { pages: 8, randoms: 6 };
/** Every so many states one is opened with the database's own threads. */
const THREADS_EVERY = 40;
/** Every so many states what is left after quiet is looked at too; of a long run at each. */
const QUIET_EVERY = 3;
/** States that the real program serves. */
const SERVED = 3;

const inMemory = new Set<string>();
process.on('exit', () => {
  for (const folder of inMemory) rmSync(folder, { recursive: true, force: true });
});

/** Where states are written: in memory where this machine has such a place, as nothing there has to survive. */
function stateFolder(): string {
  if (!existsSync('/dev/shm')) return temporaryFolder('power-cut-states');
  const folder = mkdtempSync('/dev/shm/longshore-power-cut-');
  inMemory.add(folder);
  return folder;
}

/** Writes states into folders one after the other and has them checked. */
function looker(recording: Recording) {
  const folder = stateFolder();
  const seen = new Set<string>();
  let looked = 0;
  const place = (cut: Cut, left: Left): string => {
    const state = join(folder, String(looked));
    mkdirSync(state);
    cut.model.materialise(left, state);
    return state;
  };
  return {
    looked: () => looked,
    place,
    /** What is wrong with a state; undefined where it was looked at before. */
    async look(cut: Cut, left: Left, how: Look = {}): Promise<string[] | undefined> {
      const key = `${cut.answers} ${cut.model.key(left)}`;
      if (seen.has(key)) return undefined;
      seen.add(key);
      looked += 1;
      const state = place(cut, left);
      const data = join(state, relative(recording.root, recording.data));
      const wrong = await brokenPromises(data, { recording, answers: cut.answers }, how);
      rmSync(state, { recursive: true });
      return wrong;
    },
  };
}

function load(file: string): Recording {
  const recording = deserialize(readFileSync(file)) as Recording;
  for (const event of recording.events) {
    if (event.kind === 'write') (event as { bytes: Buffer }).bytes = Buffer.from(event.bytes);
  }
  return recording;
}

/** Keeps a recording beside the logs of long runs; says how to replay it. */
function keep(recording: Recording, seed: number): string {
  const folder = join(ROOT, '.cache/soak');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `power-cut-${seed}.recording`);
  writeFileSync(file, serialize(recording));
  return `replay with LONGSHORE_TEST_SEED=${seed} LONGSHORE_TEST_RECORDING=${file}`;
}

withTools(['strace', 'diff'], 'power cuts', async (strace, diff) => {
  const seed = runSeed();
  const given = process.env.LONGSHORE_TEST_RECORDING;
  const recording = given === undefined ? await record(strace, seed) : load(given);
  const { root, data, events } = recording;

  test('the model of the disk is true: with everything left, it is the folder that the program left', async (t) => {
    if (given === undefined) {
      const model = new DiskModel(root);
      for (const event of events) model.apply(event);
      const copy = temporaryFolder('power-cut-copy');
      model.materialise({ units: new Set(model.units()) }, copy);
      await run(diff, ['-r', '-q', '-x', '*-shm', root, copy]);
    }
    const counts: Record<string, number> = {};
    for (const { kind } of events) counts[kind] = (counts[kind] ?? 0) + 1;
    t.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}`);
    const happened = (kind: string, what: RegExp): boolean =>
      events.some(
        (event) => event.kind === kind && 'path' in event && what.test('to' in event ? event.to : event.path),
      );
    for (const [kind, what] of [
      ['link', /\/blobs\/sha256\/.*[0-9a-f]{64}$/],
      ['link', /~1$/],
      ['rename', /\/blobs\/sha256\//],
      ['rename', /\/records\/index\//],
      ['rename', /\/records\/gc\/journal-/],
      ['unlink', /\/blobs\/sha256\//],
      ['unlink', /longshore\.db-wal$/],
    ] as const)
      assert.ok(happened(kind, what), `${kind} of ${what} is in the recording`);
  });

  test('whatever a power cut leaves starts without repair and holds what was promised', async (t) => {
    const { look, looked } = looker(recording);
    const random = choices(seed);
    const total = [...cutsOf(root, events)].length;
    const how = (): Look => ({
      threads: looked() % THREADS_EVERY === 0,
      quiet: SOAK > 0 || looked() % QUIET_EVERY === 0,
    });
    let number = 0;
    let spent = 0;
    async function lookAt(cut: Cut, name: string, left: Left): Promise<void> {
      const wrong = await look(cut, left, how());
      if (wrong === undefined || wrong.length === 0) return;
      const where = `after event ${cut.at}, ${cut.answers} answers, ${name}`;
      assert.fail(`${keep(recording, seed)}\n${where}:\n${wrong.join('\n')}`);
    }
    for (const cut of cutsOf(root, events)) {
      number += 1;
      const units = cut.model.units();
      for (const { name, left } of outermost(units)) await lookAt(cut, name, left);
      const began = performance.now();
      // A later cut may use what the earlier ones did not need.
      const until = began + (SECONDS * 1000 * number) / total - spent;
      for (const { name, left } of others(units, random, LIMITS)) {
        if (performance.now() > until) break;
        await lookAt(cut, name, left);
      }
      spent += performance.now() - began;
    }
    t.diagnostic(`seed ${seed}: ${total} cuts, ${looked()} states`);
    assert.ok(looked() > total / 2);
  });

  test('the program itself serves what a power cut left', async () => {
    const { place } = looker(recording);
    const cuts = [...cutsOf(root, events)].length;
    const wanted = new Set(
      Array.from({ length: SERVED }, (_, each) => Math.floor((cuts * (each + 1)) / (SERVED + 0.5))),
    );
    let number = 0;
    for (const cut of cutsOf(root, events)) {
      number += 1;
      if (!wanted.has(number)) continue;
      const state = place(cut, { units: new Set() });
      const folder = join(state, relative(root, data));
      const gc = { tick: '1h' };
      const server = await startLongshore({
        data: state,
        args: ['--data', folder],
        config: { gc, log: { access: false } },
      });
      const http = client(server.url);
      const under = recording.operations[cut.answers]?.repository;
      for (const [repository, { tags, manifests }] of promisedAfter(recording.operations, cut.answers)) {
        if (repository === under) continue;
        for (const [tag, digest] of tags)
          assert.equal((await http.hash(`/v2/${repository}/manifests/${tag}`)).digest, digest, `${repository}:${tag}`);
        for (const [digest, blobs] of manifests) {
          assert.equal((await http.hash(`/v2/${repository}/manifests/${digest}`)).digest, digest);
          for (const blob of blobs) assert.equal((await http.hash(`/v2/${repository}/blobs/${blob}`)).digest, blob);
        }
      }
      http.close();
      await server.stop();
      assert.deepEqual(disagreements(folder), []);
      rmSync(state, { recursive: true });
    }
  });

  for (const fault of FAULTS) {
    test(`a planted fault is caught: ${fault.name}`, async (t) => {
      const planted = fault.plant(recording);
      assert.ok(planted.forgotten.size > 0, 'there is something in the recording to plant it in');
      const { look, looked } = looker(recording);
      for (const cut of cutsOf(root, planted.events)) {
        if (cut.at < planted.first) continue;
        for (const { name, left } of around(cut.model.units(), root, planted.forgotten)) {
          const wrong = await look(cut, left, { quiet: false });
          if (wrong === undefined || wrong.length === 0) continue;
          t.diagnostic(`caught by state ${looked()}: after event ${cut.at}, ${name}: ${wrong[0]?.split('\n')[0]}`);
          return;
        }
      }
      assert.fail(`not caught in ${looked()} states`);
    });
  }
});
