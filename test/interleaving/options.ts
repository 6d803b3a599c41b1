/** How a run is, and what is counted in it. */
import type { ObjectPlant } from './model-bucket.ts';

/** How a run is. */
export interface RunOptions {
  readonly seed: number;
  /** Wall clocks jump by years. */
  readonly clockJumps?: boolean;
  readonly steps?: number;
  /** What clients do, all about one blob in one repository; absent: the seed decides. */
  readonly menu?: readonly string[];
  /** With a menu: whether that blob is kept inline or goes through a file; absent: the seed decides. */
  readonly size?: 'small' | 'large';
  /** The bytes lie in an object store that several processes share, perhaps with a fault planted; absent: on a disk. */
  readonly objects?: ObjectPlant;
}

/** What happened in a run. */
export interface Counts {
  pushes: number;
  pulls: number;
  deletes: number;
  restores: number;
  kills: number;
  powerCuts: number;
  refusals: number;
  unsettled: number;
  losses: number;
}

/** Nothing happened yet. */
export function noCounts(): Counts {
  return {
    pushes: 0,
    pulls: 0,
    deletes: 0,
    restores: 0,
    kills: 0,
    powerCuts: 0,
    refusals: 0,
    unsettled: 0,
    losses: 0,
  };
}
