/** What the kernel says of a process: CPU time, memory, open files. Linux's /proc. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Ticks a second in /proc: 100 on every Linux. */
const TICKS = 100;

function childrenOf(pid: number): number[] {
  const found: number[] = [];
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const text = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8');
      found.push(...text.split(' ').filter(Boolean).map(Number));
    }
  } catch {
    // The process or the thread has just ended, or this kernel does not list children: then there are none to count.
  }
  return found;
}

/** CPU seconds, user and system, of a process with its threads and children so far. NaN for no process. */
export function cpuSeconds(pid: number): number {
  if (pid <= 0) return Number.NaN;
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  // utime, stime, and those of children that were waited for.
  const ticks = fields[11]! + fields[12]! + fields[13]! + fields[14]!;
  let seconds = ticks / TICKS;
  for (const child of childrenOf(pid)) {
    try {
      seconds += cpuSeconds(child);
    } catch {
      // It has ended; its time is now in the parent's.
    }
  }
  return seconds;
}

/** Resident memory, and of that the anonymous part, in MiB. */
export function memory(pid: number): { readonly rss: number; readonly anonymous: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
  return { rss: of('VmRSS'), anonymous: of('RssAnon') };
}

/** The most that was resident since the start or the last `forgetPeak`, in MiB. */
export function peakMemory(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** From now on `peakMemory` counts anew. */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** How many files, sockets and pipes the process has open. */
export function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
