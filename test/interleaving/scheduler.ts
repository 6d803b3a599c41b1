/**
 * Who goes next is decided here, by a seed. Whatever the program does to its database or its storage waits at a point;
 * one point is let through at a time, and its effect is whole before the next one is chosen. A process can be killed at
 * any point, and a point can rest for many ticks as a paused worker does.
 */
import { FaultError } from '../../src/oci/error.ts';
import type { Choices } from '../support/random.ts';

/** A process of the program. What a killed one waits for never comes. */
export interface Process {
  readonly name: string;
  alive: boolean;
  /** It rests until this tick. */
  pausedUntil: number;
}

/** What becomes of the effect that a process was killed in the middle of. */
export type AtKill = 'all-or-nothing' | 'may-strike-later';

interface Point {
  readonly process: Process;
  readonly label: string;
  readonly weight: number;
  readonly atKill: AtKill;
  restsUntil: number;
  apply(): Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Settings of one run. */
export interface SchedulerOptions {
  readonly choices: Choices;
  /** In how many of 1,000 cases a point rests, and how long at most, in ticks. */
  readonly restPermille: number;
  readonly restTicks: number;
}

/** Points and the choice among them. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  #points: Point[] = [];
  #late: { readonly label: string; readonly apply: () => Promise<unknown> }[] = [];
  /** Effects happen at once, as when nothing else runs. */
  direct = false;
  /** What happened, newest last. */
  readonly trace: string[] = [];
  tick = 1;
  steps = 0;

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Waits for its turn, then has its effect. */
  at<T>(
    process: Process,
    label: string,
    apply: () => Promise<T>,
    { weight = 4, atKill = 'all-or-nothing' }: { weight?: number; atKill?: AtKill } = {},
  ): Promise<T> {
    if (!process.alive) return new Promise<T>(() => undefined);
    if (this.direct) return apply();
    const { choices, restPermille, restTicks } = this.#options;
    const restsUntil = choices.below(1000) < restPermille ? this.tick + 1 + choices.below(restTicks) : 0;
    return new Promise<T>((resolve, reject) => {
      const point = { process, label, weight, atKill, restsUntil, apply, resolve, reject } as unknown as Point;
      this.#points.push(point);
    });
  }

  /** An effect that strikes when it likes, whoever asked for it. */
  strikeLater(label: string, apply: () => Promise<unknown>): void {
    this.#late.push({ label, apply });
  }

  get lateEffects(): number {
    return this.#late.length;
  }

  /** One late effect strikes. */
  async strike(): Promise<void> {
    const [late] = this.#late.splice(this.#options.choices.below(this.#late.length), 1);
    if (late === undefined) return;
    this.trace.push(`late: ${late.label}`);
    // What it needed may be gone by now.
    await late.apply().catch((error: unknown) => {
      if (!(error instanceof FaultError)) throw error;
    });
  }

  /** Lets one point through; false where none may go. `only`: labels that are wanted. */
  async step(wanted: (label: string) => boolean = () => true): Promise<boolean> {
    const ready = this.#points.filter(
      ({ process, restsUntil, label }) => restsUntil <= this.tick && process.pausedUntil <= this.tick && wanted(label),
    );
    if (ready.length === 0) return false;
    let at = this.#options.choices.below(ready.reduce((sum, { weight }) => sum + weight, 0));
    const point = ready.find(({ weight }) => (at -= weight) < 0) as Point;
    this.#points = this.#points.filter((other) => other !== point);
    this.steps++;
    this.trace.push(`${this.tick} ${point.process.name} ${point.label}`);
    try {
      point.resolve(await point.apply());
    } catch (error) {
      point.reject(error);
    }
    await settled();
    return true;
  }

  /** Whether anything waits that is not wanted. */
  waiting(wanted: (label: string) => boolean): boolean {
    return this.#points.some(({ label }) => wanted(label));
  }

  /** Nothing rests any more. */
  wakeAll(): void {
    for (const point of this.#points) {
      point.restsUntil = 0;
      point.process.pausedUntil = 0;
    }
  }

  /** Ends a process. Of what it was about to do, each thing happens, does not, or strikes later. */
  async kill(process: Process): Promise<void> {
    const { choices } = this.#options;
    this.trace.push(`${this.tick} killed ${process.name}`);
    process.alive = false;
    const its = this.#points.filter((point) => point.process === process);
    this.#points = this.#points.filter((point) => point.process !== process);
    for (const point of its) {
      const fate = choices.below(3);
      if (fate === 0) continue;
      if (fate === 1 && point.atKill === 'may-strike-later') this.strikeLater(point.label, point.apply);
      else {
        this.trace.push(`  and did ${point.label}`);
        await point.apply().catch(() => undefined);
      }
    }
    await settled();
  }

  /** Nobody is left to do what was waited for; late effects stay. */
  forget(): void {
    this.#points = [];
  }
}

/** Resolves when every promise that could go on has gone on. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
