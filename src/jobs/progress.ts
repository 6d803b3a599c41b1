/** How far a job is: kept beside its lease, at most one write a second, the newest state last. */
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { jobProgress } from './commands/job-lease.ts';

/** What `JobContext.progress` keeps. `total`: absent where it is not known. */
export interface Progress {
  readonly done: number;
  readonly total?: number;
  readonly note?: string;
}

const EVERY_MILLISECONDS = 1_000;
const MAX_NOTE = 500;

/**
 * A function for `JobContext.progress`. Calls in quick succession cost nothing and are left out, but never the one
 * that says that all is done. A write that fails is no failure of the job.
 */
export function progressWriter(
  database: Database,
  clock: Clock,
  held: { readonly id: number; readonly fence: number },
): (done: number, total: number | undefined, note?: string) => Promise<void> {
  let last = Number.NEGATIVE_INFINITY;
  return async (done, total, note) => {
    const now = clock.monotonic();
    if (now - last < EVERY_MILLISECONDS && done !== total) return;
    last = now;
    const progress: Progress = {
      done,
      ...(total === undefined ? {} : { total }),
      ...(note === undefined ? {} : { note: note.slice(0, MAX_NOTE) }),
    };
    const args = { ...held, progress: JSON.stringify(progress) };
    await database.run(jobProgress, args, { lane: 'job' }).catch(() => {});
  };
}

/** What was kept, or undefined where it is not that. */
export function parseProgress(text: string | null): Progress | undefined {
  try {
    const value = JSON.parse(text ?? 'null') as Partial<Progress> | null;
    return typeof value?.done === 'number' ? (value as Progress) : undefined;
  } catch {
    return undefined;
  }
}
