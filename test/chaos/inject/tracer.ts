/**
 * Faults from outside: strace attached to single threads of the running program, so that exactly the n-th call of a
 * kind in one thread fails with an error of our choice. The program knows nothing of it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../../support/temp.ts';

/** The threads that touch the data folder: libuv's one pool thread (the files), and SQLite's. */
export type ThreadKind = 'pool' | 'writer';

const NAMES: Readonly<Record<ThreadKind, string>> = { pool: 'libuv-worker', writer: 'writer' };

/** Kinds of calls that change or open something, with the names that they have on one machine or another. */
export const CALLS = {
  open: ['openat', 'open'],
  write: ['pwrite64', 'pwritev'],
  sync: ['fsync', 'fdatasync'],
  rename: ['rename', 'renameat', 'renameat2'],
  link: ['link', 'linkat'],
  unlink: ['unlink', 'unlinkat'],
  mkdir: ['mkdir', 'mkdirat'],
  truncate: ['ftruncate'],
} as const;

/** A kind of call. */
export type CallKind = keyof typeof CALLS;

const KIND_OF = new Map<string, CallKind>(
  Object.entries(CALLS).flatMap(([kind, names]) => names.map((name) => [name, kind as CallKind] as const)),
);

/** Ids of the threads of one kind. */
export function threads(pid: number, kind: ThreadKind): number[] {
  return readdirSync(`/proc/${pid}/task`)
    .filter((thread) => {
      try {
        return readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').trim() === NAMES[kind];
      } catch {
        // It ended meanwhile.
        return false;
      }
    })
    .map(Number);
}

/** One call that was seen: its kind, what it was made on, and whether it was made to fail. */
export interface Seen {
  readonly kind: CallKind;
  /** The thread. */
  readonly thread: number;
  /** The file, its random parts left out. */
  readonly where: string;
  readonly injected: boolean;
}

/** An attached tracer. */
export interface Tracer {
  /** Lets the threads go; gives what was seen. */
  detach(): Promise<readonly Seen[]>;
}

/** What is to fail. `when`: as strace counts: `5` the fifth call, `3+7` the third and every seventh after it. */
export interface Fault {
  readonly calls: readonly CallKind[];
  readonly error: string;
  readonly when: string;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Attaches to threads. Resolves when all are traced. */
export async function attach(strace: string, ids: readonly number[], ...faults: readonly Fault[]): Promise<Tracer> {
  const file = join(temporaryFolder('strace'), 'trace');
  const names = (kinds: readonly CallKind[]): string =>
    kinds.flatMap((kind) => CALLS[kind].map((name) => `?${name}`)).join(',');
  const args = [
    '-y',
    '-s',
    '400',
    '-e',
    'signal=none',
    '-o',
    file,
    '-e',
    `trace=${names(Object.keys(CALLS) as CallKind[])}`,
  ];
  for (const fault of faults) args.push('-e', `inject=${names(fault.calls)}:error=${fault.error}:when=${fault.when}`);
  for (const id of ids) args.push('-p', String(id));
  const child = spawn(strace, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  running.add(child);
  const ended = once(child, 'exit').then(() => void running.delete(child));
  let said = '';
  await new Promise<void>((done, fail) => {
    child.stderr.on('data', (text: Buffer) => {
      said += text.toString();
      if (said.split('attached').length > ids.length) done();
    });
    child.on('error', fail);
    void ended.then(() => fail(new Error(`strace could not attach: ${said}`)));
  });
  return {
    async detach() {
      child.kill('SIGINT');
      await ended;
      return parse(readFileSync(file, 'utf8'), ids);
    },
  };
}

function parse(trace: string, ids: readonly number[]): Seen[] {
  const seen: Seen[] = [];
  for (const line of trace.split('\n')) {
    // With one thread strace leaves its id out.
    const found = /^(?:(\d+)\s+)?(\w+)\((.*)$/.exec(line);
    const kind = KIND_OF.get(found?.[2] ?? '');
    if (found === null || kind === undefined) continue;
    const file = /"([^"]*)"|<([^>]*)>/.exec(found[3] ?? '');
    seen.push({
      kind,
      thread: Number(found[1] ?? ids[0]),
      where: placeOf(file?.[1] ?? file?.[2] ?? ''),
      injected: line.includes('(INJECTED)'),
    });
  }
  return seen;
}

/** A path without what is different in every run. */
function placeOf(path: string): string {
  return path.replaceAll(/[0-9a-f]{16,}/g, '…').replaceAll(/[A-Za-z0-9_-]{24}$/g, '…');
}
