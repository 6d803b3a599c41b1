/** One run from one seed. */

import type { Command } from '../../src/database/database.ts';
import { sweepNext } from '../../src/maintenance/commands/gc-sweep.ts';
import { leftover } from './invariants.ts';
import { holdTime } from './model-bucket.ts';
import type { Fault, ModelDatabase } from './model-database.ts';
import type { Counts, RunOptions } from './options.ts';
import { SHARD } from './universe.ts';
import { World } from './world.ts';

/** How a run ended. */
export interface Outcome {
  readonly seed: number;
  readonly steps: number;
  readonly ticks: number;
  readonly deletions: number;
  /** What the object store did; zero on a disk. */
  readonly late: number;
  readonly lostAnswers: number;
  readonly joins: number;
  readonly counts: Counts;
  /** What was broken, and what happened before; absent where nothing was. */
  readonly broken?: string;
  readonly trace: readonly string[];
  /** What is there at the end: keys in storage. */
  readonly left: string;
}

const STEPS = 280;
const CHECK_EVERY = 8;

/** The sweep goes straight to the only shard that has something. */
// biome-ignore lint/suspicious/noExplicitAny: commands of many arguments.
function hastened(command: Command<any, any>): Command<any, any> {
  if (command.name !== 'sweep-next') return command;
  return {
    name: command.name,
    async run(context, args) {
      const outcome = await sweepNext.run(context, args);
      if (outcome.result === undefined || outcome.result >= SHARD) return outcome;
      await context.sql.run("update lease set fence = ? where name = 'gc.sweep'", SHARD);
      return { ...outcome, result: SHARD };
    },
  };
}

/** Runs a seed, perhaps with a planted fault. Never throws for what the run finds. */
export async function run(model: ModelDatabase, options: RunOptions, fault?: Fault): Promise<Outcome> {
  using _held = options.objects === undefined ? undefined : holdTime();
  model.begin(fault, hastened);
  const world = new World(model, options);
  let broken: string | undefined;
  let left = '';
  try {
    const steps = options.steps ?? STEPS;
    for (let step = 0; step < steps; step++) {
      await world.befall();
      if (!(await world.scheduler.step())) await world.tick();
      if (step % CHECK_EVERY === 0) world.check();
    }
    await world.quiet();
    await world.settle();
    const rest = leftover(model, world.disk);
    if (rest !== undefined) world.defect(rest);
    world.check();
    left = [...world.disk.blobs.keys()].sort().join(' ');
  } catch (error) {
    broken = error instanceof Error ? (error.name === 'Error' ? error.message : String(error.stack)) : String(error);
  }
  for (const instance of [...world.instances]) await world.kill(instance);
  world.scheduler.forget();
  model.reset();
  const { seed } = options;
  const { steps, tick, trace } = world.scheduler;
  return {
    seed,
    steps,
    ticks: tick,
    deletions: world.disk.deletions,
    late: world.disk.late ?? 0,
    lostAnswers: world.disk.lostAnswers ?? 0,
    joins: world.disk.joins ?? 0,
    counts: world.counts,
    ...(broken === undefined ? {} : { broken }),
    trace,
    left,
  };
}
