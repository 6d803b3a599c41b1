/** Random choices that a seed repeats. */

/** A seeded source of choices. */
export interface Choices {
  /** An integer from 0 to `below` - 1. */
  below(below: number): number;
  /** True in `percent` of 100 cases. */
  chance(percent: number): boolean;
  /** One of them; undefined of none. */
  pick<T>(from: readonly T[]): T | undefined;
}

/** mulberry32: small, and good enough for choices. */
export function choices(seed: number): Choices {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    below: (below) => Math.floor(next() * below),
    chance: (percent) => next() * 100 < percent,
    pick: (from) => from[Math.floor(next() * from.length)],
  };
}

/** The seed of this run: LONGSHORE_TEST_SEED, or a new one. Say it in the test's output. */
export function runSeed(): number {
  const given = process.env.LONGSHORE_TEST_SEED;
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}
