/**
 * The minimum rate: a transfer for which we wait longer than a window while fewer bytes move than the rate asks for is
 * ended (threats rows 65 and 73). One timer for all transfers, none while there are none.
 */
import { every } from '../kit/clock.ts';

/** A transfer under way. */
export interface Watched {
  /** Bytes moved so far; undefined while nobody waits for the client (we read a disk, or write one). */
  moved(): number | undefined;
  /** Called once when it is too slow; the watch is over then. */
  tooSlow(): void;
}

const STEPS = 6;

/** Watches transfers. */
export class RateWatch {
  readonly #least: number;
  readonly #step: number;
  /** Transfer → its counts at the last steps, oldest first. */
  readonly #watched = new Map<Watched, number[]>();
  #stop: (() => void) | undefined;

  constructor(rate: { readonly bytesPerSecond: number; readonly milliseconds: number }) {
    this.#least = (rate.bytesPerSecond * rate.milliseconds) / 1000;
    this.#step = Math.max(1, rate.milliseconds / STEPS);
  }

  /** How many are watched. */
  get size(): number {
    return this.#watched.size;
  }

  /** Begins to watch. */
  add(transfer: Watched): void {
    this.#watched.set(transfer, []);
    this.#stop ??= every(this.#step, () => this.#look());
  }

  /** Ends the watch; nothing happens where it ended already. */
  remove(transfer: Watched): void {
    this.#watched.delete(transfer);
    if (this.#watched.size === 0) {
      this.#stop?.();
      this.#stop = undefined;
    }
  }

  #look(): void {
    for (const [transfer, counts] of this.#watched) {
      const moved = transfer.moved();
      if (moved === undefined) {
        counts.length = 0;
        continue;
      }
      counts.push(moved);
      if (counts.length <= STEPS) continue;
      const before = counts.shift()!;
      if (moved - before >= this.#least) continue;
      this.remove(transfer);
      transfer.tooSlow();
    }
  }
}
