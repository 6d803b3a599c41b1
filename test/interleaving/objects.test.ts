/**
 * The same proof with an object store: several processes whose storage is the core of all object storages as it is,
 * over a bucket of which every request is put in an order that a seed decides. Answers are lost, copies, joins and
 * deletes strike long after whoever asked for them gave up or died, batches of deletes go half way, all requests under
 * way time out at once, and the requests of one upload go to any of the processes.
 *
 * LONGSHORE_TEST_SEED, LONGSHORE_TEST_RUNS, LONGSHORE_TEST_SECONDS and LONGSHORE_TEST_SOAK_SECONDS as in
 * `interleaving.test.ts`.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ModelDatabase } from './model-database.ts';
import { OBJECT_FAULTS } from './objects-faults.ts';
import { type Outcome, run } from './run.ts';

const given = (name: string): number | undefined =>
  process.env[name] === undefined ? undefined : Number(process.env[name]);
const SEED = given('LONGSHORE_TEST_SEED');
const SOAK = given('LONGSHORE_TEST_SECONDS') ?? given('LONGSHORE_TEST_SOAK_SECONDS');
const RUNS = given('LONGSHORE_TEST_RUNS') ?? (SEED === undefined || SOAK !== undefined ? Number.POSITIVE_INFINITY : 1);
const SECONDS = SOAK ?? 20;
const LEAST = 100;

const model = await ModelDatabase.open();
after(() => model.close());

function told({ seed, broken, trace }: Outcome): string {
  return `seed ${seed}: ${broken}\nreplay with LONGSHORE_TEST_SEED=${seed}; the last steps were\n${trace.slice(-60).join('\n')}`;
}

test('whatever the order, an object store that several processes share keeps what clients were told', async (t) => {
  const first = SEED ?? Math.floor(Math.random() * 2 ** 30);
  const ends = performance.now() + SECONDS * 1000;
  const total = { runs: 0, steps: 0, joins: 0, late: 0, lostAnswers: 0, deletions: 0, kills: 0, pushes: 0, deletes: 0 };
  const least = Math.min(LEAST, RUNS);
  while (total.runs < RUNS && (total.runs < least || performance.now() < ends)) {
    const outcome = await run(model, { seed: first + total.runs, objects: {} });
    assert.equal(outcome.broken, undefined, told(outcome));
    total.runs++;
    for (const what of ['steps', 'joins', 'late', 'lostAnswers', 'deletions'] as const) total[what] += outcome[what];
    for (const what of ['kills', 'pushes', 'deletes'] as const) total[what] += outcome.counts[what];
  }
  t.diagnostic(`seeds from ${first}: ${JSON.stringify(total)}`);
  if (total.runs >= LEAST)
    for (const [what, count] of Object.entries(total)) assert.ok(count > 50, `${what}: ${count}`);
});

test('a seed replays to the same steps', async () => {
  for (const seed of [21, 22, 23]) {
    const [once, again] = [await run(model, { seed, objects: {} }), await run(model, { seed, objects: {} })];
    assert.deepEqual(again.trace, once.trace);
    assert.equal(again.left, once.left);
  }
});

for (const fault of OBJECT_FAULTS) {
  test(`a planted fault is caught: ${fault.name}`, async (t) => {
    for (let seed = 1; seed <= fault.within; seed++) {
      const { menu, size } = fault;
      const options = {
        seed,
        ...(menu === undefined ? {} : { menu }),
        ...(size === undefined ? {} : { size }),
      };
      const { broken } = await run(model, { ...options, objects: fault }, fault);
      if (broken === undefined) continue;
      const missed = (fault.rewrite ?? []).filter(([from]) => !model.planted.has(from));
      assert.deepEqual(missed, [], 'the statement to change was not found');
      const clean = await run(model, { ...options, objects: {} });
      assert.equal(clean.broken, undefined, told(clean));
      t.diagnostic(`caught by run ${seed}: ${broken.split('\n')[0]}`);
      return;
    }
    assert.fail(`not caught in ${fault.within} runs`);
  });
}
