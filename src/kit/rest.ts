/** Giving memory back to the system when nothing happens. */
import { native } from './ffi.ts';

/** The function that Node has under --expose-gc, as bin/longshore starts it; threads have it too. */
type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/** Whether `giveMemoryBack` can do anything here. */
export function canGiveMemoryBack(): boolean {
  return (globalThis as { gc?: Collect }).gc !== undefined;
}

/** Collects this thread's garbage and returns the process's free heap to the system: some 30 ms, so only when quiet. */
export function giveMemoryBack(): void {
  (globalThis as { gc?: Collect }).gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  native().trimHeap?.();
}
