/**
 * The proof of the collector: the store, the collector, the spill and the expiry of uploads as they are, over a
 * database and a disk of which every call is put in an order that a seed decides, with kills, power cuts, pauses,
 * late deletions and clocks that jump. After every few steps, and when all is quiet, the invariants of the design hold.
 *
 * LONGSHORE_TEST_SEED replays one seed; with LONGSHORE_TEST_RUNS, LONGSHORE_TEST_SECONDS or
 * LONGSHORE_TEST_SOAK_SECONDS a longer search begins there.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { FAULTS } from './faults.ts';
import { ModelDatabase } from './model-database.ts';
import { type Outcome, run } from './run.ts';

const given = (name: string): number | undefined =>
  process.env[name] === undefined ? undefined : Number(process.env[name]);
const SEED = given('LONGSHORE_TEST_SEED');
const LEAST = 2_000;
const SOAK = given('LONGSHORE_TEST_SECONDS') ?? given('LONGSHORE_TEST_SOAK_SECONDS');
const RUNS = given('LONGSHORE_TEST_RUNS') ?? (SEED === undefined || SOAK !== undefined ? Number.POSITIVE_INFINITY : 1);
const SECONDS = SOAK ?? 30;

const model = await ModelDatabase.open();
after(() => model.close());

function told({ seed, broken, trace }: Outcome): string {
  return `seed ${seed}: ${broken}\nreplay with LONGSHORE_TEST_SEED=${seed}; the last steps were\n${trace.slice(-60).join('\n')}`;
}

test('whatever the order, what clients were told holds and what nothing refers to goes', async (t) => {
  const first = SEED ?? Math.floor(Math.random() * 2 ** 30);
  const ends = performance.now() + SECONDS * 1000;
  const total = { runs: 0, steps: 0, deletions: 0, kills: 0, powerCuts: 0, pushes: 0, deletes: 0, restores: 0 };
  // As many as the time allows, and on a slow machine as many as the design asks for all the same.
  const least = Math.min(LEAST, RUNS);
  while (total.runs < RUNS && (total.runs < least || performance.now() < ends)) {
    const outcome = await run(model, { seed: first + total.runs });
    assert.equal(outcome.broken, undefined, told(outcome));
    total.runs++;
    total.steps += outcome.steps;
    total.deletions += outcome.deletions;
    for (const kind of ['kills', 'powerCuts', 'pushes', 'deletes', 'restores'] as const)
      total[kind] += outcome.counts[kind];
  }
  t.diagnostic(`seeds from ${first}: ${JSON.stringify(total)}`);
  if (total.runs >= LEAST)
    for (const [what, count] of Object.entries(total)) assert.ok(count > 100, `${what}: ${count}`);
});

test('tags that are rolled back, with what was deleted or without, lose nothing either', async () => {
  const menu = ['push', 'push', 'rollback', 'rollback', 'delete', 'delete', 'untag', 'head', 'pull', 'purge', 'unlink'];
  for (let seed = 1; seed <= 80; seed++) {
    const outcome = await run(model, { seed, menu });
    assert.equal(outcome.broken, undefined, told(outcome));
  }
});

test('a seed replays to the same steps', async () => {
  for (const seed of [11, 12, 13]) {
    const [once, again] = [await run(model, { seed }), await run(model, { seed })];
    assert.deepEqual(again.trace, once.trace);
    assert.equal(again.left, once.left);
  }
});

test('wall clocks that jump by years change nothing that is deleted', async () => {
  for (let seed = 100; seed < 130; seed++) {
    const [calm, wild] = [await run(model, { seed, clockJumps: false }), await run(model, { seed, clockJumps: true })];
    assert.deepEqual(wild.trace, calm.trace, `seed ${seed}`);
    assert.equal(wild.left, calm.left);
    assert.equal(wild.deletions, calm.deletions);
  }
});

for (const fault of FAULTS) {
  test(`a planted fault is caught: ${fault.name}`, async (t) => {
    for (let seed = 1; seed <= fault.within; seed++) {
      const { menu, size } = fault;
      const options = {
        seed,
        ...(menu === undefined ? {} : { menu }),
        ...(size === undefined ? {} : { size }),
      };
      const { broken } = await run(model, options, fault);
      if (broken === undefined) continue;
      const missed = (fault.rewrite ?? []).filter(([from]) => !model.planted.has(from));
      assert.deepEqual(missed, [], 'the statement to change was not found');
      const clean = await run(model, options);
      assert.equal(clean.broken, undefined, told(clean));
      t.diagnostic(`caught by run ${seed}: ${broken.split('\n')[0]}`);
      return;
    }
    assert.fail(`not caught in ${fault.within} runs`);
  });
}
