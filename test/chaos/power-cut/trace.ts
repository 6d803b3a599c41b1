/**
 * From strace's text to what happened to the files of a data folder, in order. Calls count from when they returned;
 * answers to clients, and the closing of descriptors, from when they began: nothing is assumed to be earlier than it
 * can be known to be.
 */

/** One thing that happened. `begin` and `end` are lines of the trace; events are sorted by when they took effect. */
export type TraceEvent = { readonly begin: number; readonly end: number } & (
  | {
      readonly kind: 'open';
      readonly fd: number;
      readonly path: string;
      readonly create: boolean;
      readonly truncate: boolean;
    }
  | { readonly kind: 'close'; readonly fd: number }
  | { readonly kind: 'write'; readonly fd: number; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'size'; readonly fd: number; readonly size: number }
  /** `path`: what the descriptor was opened as. */
  | { readonly kind: 'sync'; readonly fd: number; readonly path: string }
  | { readonly kind: 'link' | 'rename'; readonly path: string; readonly to: string }
  | { readonly kind: 'unlink' | 'mkdir' | 'rmdir'; readonly path: string }
  /** A client could read this answer: its status, or 0 for the line of a program without HTTP. */
  | { readonly kind: 'answer'; readonly status: number }
  /** Another process begins: the descriptors of the last one are closed. */
  | { readonly kind: 'process' }
);

/** What strace is told: every call that changes files, descriptors or what a client sees, its bytes in full as hex. */
export const STRACE = [
  ...['-D', '-f', '-q', '-yy', '-xx', '-s', '4000000', '-e'],
  `trace=${[
    'openat,open,creat,close,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync,sync,syncfs',
    'sync_file_range,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,truncate',
    'fallocate,copy_file_range,sendfile,dup,dup2,dup3,symlink,symlinkat,msync',
  ].join()}`,
];

/** What a program without HTTP writes to say that an operation is done. */
export const DONE = 'power-cut: done\n';

interface Call {
  readonly name: string;
  readonly text: string;
  readonly begin: number;
  readonly end: number;
}

function* callsOf(trace: string, from: number): Generator<Call> {
  const unfinished = new Map<string, { readonly text: string; readonly begin: number }>();
  for (const [index, line] of trace.split('\n').entries()) {
    const at = from + index;
    const [, thread, rest] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
    if (thread === undefined || rest === undefined) continue;
    const resumed = /^<\.\.\. (\w+) resumed>(.*)$/.exec(rest);
    if (resumed !== null) {
      const open = unfinished.get(thread);
      unfinished.delete(thread);
      if (open !== undefined) yield { name: resumed[1]!, text: open.text + resumed[2]!, begin: open.begin, end: at };
      continue;
    }
    const name = /^(\w+)\(/.exec(rest)?.[1];
    if (name === undefined) continue;
    if (rest.endsWith('<unfinished ...>')) unfinished.set(thread, { text: rest.slice(0, -16), begin: at });
    else yield { name, text: rest, begin: at, end: at };
  }
}

const unhex = (text: string): Buffer => Buffer.from(text.replaceAll('\\x', ''), 'hex');
const QUOTED = /"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?/g;

/** The quoted arguments of a call. Throws where strace cut one short. */
function stringsOf(text: string): Buffer[] {
  return [...text.matchAll(QUOTED)].map(([, hex, cut]) => {
    if (cut !== undefined) throw new Error(`the trace is cut short: ${text.slice(0, 200)}`);
    return unhex(hex!);
  });
}

/** A path's descriptor argument: its number. */
const descriptorOf = (text: string): number => Number(/^\w+\((\d+)/.exec(text)?.[1] ?? -1);

/**
 * The events of a trace that concern files below `root`. `from`: the number of its first line, so that the traces of
 * processes that ran one after the other can be joined. Throws at a call that changes such a file in a way that is not
 * understood.
 */
export function eventsOf(trace: string, root: string, from = 0): TraceEvent[] {
  const events: TraceEvent[] = [{ kind: 'process', begin: from, end: from }];
  const open = new Map<number, string>();
  const wanted = (path: string): boolean => path === root || (path.startsWith(`${root}/`) && !path.endsWith('-shm'));
  // Descriptors are looked up in the order in which calls took effect.
  const calls = [...callsOf(trace, from)].sort((a, b) => takesEffect(a) - takesEffect(b));
  for (const call of calls) {
    const { name, text, begin, end } = call;
    const result = / = (-?\d+)[^=]*$/.exec(text)?.[1];
    if (result === undefined || Number(result) < 0) continue;
    const at = { begin, end };
    const fd = descriptorOf(text);
    const path = open.get(fd);
    switch (name) {
      case 'open':
      case 'openat':
      case 'creat': {
        const file = stringsOf(text)[0]!.toString();
        open.delete(Number(result));
        if (!wanted(file)) break;
        open.set(Number(result), file);
        const create = name === 'creat' || text.includes('O_CREAT');
        const truncate = name === 'creat' || text.includes('O_TRUNC');
        events.push({ ...at, kind: 'open', fd: Number(result), path: file, create, truncate });
        break;
      }
      case 'close':
        if (path !== undefined) events.push({ ...at, kind: 'close', fd });
        open.delete(fd);
        break;
      case 'pwrite64':
        if (path === undefined) break;
        events.push({
          ...at,
          kind: 'write',
          fd,
          offset: Number(/, (\d+)\s*\)\s*= /.exec(text.slice(-80))?.[1]),
          bytes: stringsOf(text)[0]!.subarray(0, Number(result)),
        });
        break;
      case 'ftruncate':
        if (path !== undefined)
          events.push({ ...at, kind: 'size', fd, size: Number(/, (\d+)\s*\)\s*= /.exec(text)?.[1]) });
        break;
      case 'fsync':
      case 'fdatasync':
        if (path !== undefined) events.push({ ...at, kind: 'sync', fd, path });
        break;
      case 'link':
      case 'linkat':
      case 'rename':
      case 'renameat':
      case 'renameat2': {
        const [source = '', target = ''] = stringsOf(text).map(String);
        if (wanted(source) !== wanted(target)) throw new Error(`not understood: ${source} to ${target}`);
        if (!wanted(source)) break;
        events.push({ ...at, kind: name.startsWith('link') ? 'link' : 'rename', path: source, to: target });
        break;
      }
      case 'unlink':
      case 'unlinkat':
      case 'mkdir':
      case 'mkdirat':
      case 'rmdir': {
        const file = stringsOf(text)[0]!.toString();
        if (!wanted(file)) break;
        const removesFolder = name === 'rmdir' || (name === 'unlinkat' && text.includes('AT_REMOVEDIR'));
        const kind = name.startsWith('mkdir') ? 'mkdir' : removesFolder ? 'rmdir' : 'unlink';
        events.push({ ...at, kind, path: file });
        break;
      }
      case 'sync':
      case 'syncfs':
        throw new Error('nothing here syncs everything');
      case 'sync_file_range':
        // Begins to write back; promises nothing.
        break;
      case 'write':
      case 'writev':
      case 'sendto':
      case 'sendmsg': {
        if (path !== undefined) throw new Error(`a write without a position to ${path}`);
        for (const bytes of stringsOf(text)) {
          const start = bytes.subarray(0, 40).toString('latin1');
          const status = start === DONE ? '0' : /^HTTP\/1\.1 (\d{3}) /.exec(start)?.[1];
          if (status !== undefined) events.push({ ...at, kind: 'answer', status: Number(status) });
        }
        break;
      }
      default:
        if (path !== undefined) throw new Error(`${name} on ${path} is not understood`);
        if (stringsOf(text).some((bytes) => wanted(bytes.toString()))) throw new Error(`${name} is not understood`);
    }
  }
  return events;
}

/** Half a line earlier than what began in the same line ended. */
const takesEffect = (call: Call): number =>
  ['close', 'write', 'writev', 'sendto', 'sendmsg'].includes(call.name) ? call.begin : call.end;
