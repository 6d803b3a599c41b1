/**
 * Hashing of what is sent, away from the thread that sends it: at 0.5 ms for each MiB one large answer would hold up
 * all others. The bytes are copied (a twentieth of that) into a ring shared with a thread, and whoever finds no room
 * there waits in order; a ring is never held by a client that is slow. Small things are hashed where they are.
 */
import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { after, systemClock } from './clock.ts';
import { type HashRing, hashRing } from './hash-ring.ts';
import { createHasher, type HashAlgorithm } from './hash-stream.ts';
import type { HashAnswer, HashRequest, SharedRing } from './hash-thread.ts';
import type { Log } from './log.ts';
import { startThread } from './thread.ts';

/** One hash under way. Rejects everything where its thread has died: then the bytes have to be hashed anew. */
export interface RunningHash {
  /** Bytes given so far: counted at the call. */
  readonly length: number;
  /** Takes the bytes in the order of the calls; they have to stay as they are until it resolves. */
  update(bytes: Uint8Array): Promise<void>;
  /** The digest of all that was given, lower-case hex; once, after the last update. The hash is over then. */
  digestHex(): Promise<string>;
  /** Ends it wherever it is; may be called again, and after `digestHex`. */
  close(): void;
}

/** The threads. */
export interface HashThreads {
  /** A hash of `size` bytes to come. It has to be closed, or to end with its digest. */
  begin(algorithm: HashAlgorithm, size: number): RunningHash;
  /** Threads that run, hashes in them, and bytes that wait there. */
  load(): { readonly threads: number; readonly hashes: number; readonly bytes: number };
  /** Ends the threads and fails what runs in them. Later hashes fail. */
  close(): Promise<void>;
}

/** What is left out has the default. */
export interface HashThreadsOptions {
  readonly log: Log;
  /** Most threads: one core is left to the caller; at most 2. */
  readonly most?: number;
  /** Bytes of a thread's ring: 2 MiB. */
  readonly ring?: number;
  /** Up to this size a hash runs on the calling thread: 1 MiB. */
  readonly small?: number;
  /** A thread without work ends after so many milliseconds: 30 s. */
  readonly idle?: number;
  /** For tests. */
  readonly start?: (shared: SharedRing) => Worker;
}

/** The most that is handed over at once. The sending side's buffers are not larger. */
const PIECE = 512 * 1024;
/** For how long the calling thread hashes by itself after a thread could not be started. Milliseconds. */
const WITHOUT = 60_000;

interface Waiter {
  readonly id: number;
  readonly bytes: Uint8Array;
  at: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly ring: HashRing;
  readonly hashes: Set<number>;
  readonly waiting: Waiter[];
  readonly answers: Map<number, { resolve: (hex: string) => void; reject: (error: Error) => void }>;
  /** It has said something: the machine gives threads. */
  begun: boolean;
  dead: Error | undefined;
  stopIdling: () => void;
}

/** Threads that start when they are needed and end when they were not for a while. */
export function hashThreads(options: HashThreadsOptions): HashThreads {
  const { log, ring: ringSize = 2 * 1024 * 1024, small = 1024 * 1024, idle = 30_000 } = options;
  const most = options.most ?? Math.max(1, Math.min(2, availableParallelism() - 1));
  const start = options.start ?? ((shared) => startThread('hashes', shared));
  const piece = Math.min(PIECE, ringSize);
  const threads = new Set<Thread>();
  let ids = 0;
  let closed = false;
  let withoutUntil = Number.NEGATIVE_INFINITY;

  function lost(thread: Thread, error: Error): void {
    if (!threads.delete(thread)) return;
    thread.dead = error;
    thread.stopIdling();
    thread.hashes.clear();
    for (const waiter of thread.waiting.splice(0)) waiter.reject(error);
    for (const answer of thread.answers.values()) answer.reject(error);
    thread.answers.clear();
  }

  function died(thread: Thread, cause: unknown): void {
    if (!threads.has(thread)) return;
    const error = new Error('A hashing thread ended.', { cause });
    log.warn('a hashing thread ended', { error, begun: thread.begun });
    if (!thread.begun) withoutUntil = systemClock.monotonic() + WITHOUT;
    lost(thread, error);
  }

  /** A new thread; undefined where the machine gives none. */
  function open(): Thread | undefined {
    const ring = hashRing(ringSize);
    let worker: Worker;
    try {
      worker = start(ring.shared);
    } catch (error) {
      log.warn('a hashing thread could not be started', { error: error as Error });
      withoutUntil = systemClock.monotonic() + WITHOUT;
      return undefined;
    }
    const thread: Thread = {
      worker,
      ring,
      hashes: new Set(),
      waiting: [],
      answers: new Map(),
      begun: false,
      dead: undefined,
      stopIdling: () => {},
    };
    threads.add(thread);
    worker.on('message', (answer: HashAnswer) => {
      thread.begun = true;
      if ('hex' in answer) {
        thread.answers.get(answer.id)?.resolve(answer.hex);
        thread.answers.delete(answer.id);
        leave(thread, answer.id);
      } else serve(thread);
    });
    worker.on('error', (error) => died(thread, error));
    worker.on('exit', (code) => died(thread, new Error(`exit code ${code}`)));
    return thread;
  }

  /** The thread with the least to do; another one where all have something and there may be more. */
  function choose(): Thread | undefined {
    let least: Thread | undefined;
    for (const thread of threads) if (least === undefined || thread.hashes.size < least.hashes.size) least = thread;
    if (least !== undefined && (least.hashes.size === 0 || threads.size >= most)) return least;
    return open() ?? least;
  }

  /** A thread that nothing runs in does not keep the process alive, and ends after a while. */
  function leave(thread: Thread, id: number): void {
    if (!thread.hashes.delete(id) || thread.hashes.size > 0) return;
    thread.worker.unref();
    thread.stopIdling = after(idle, () => {
      lost(thread, new Error('A hashing thread had nothing to do.'));
      void thread.worker.terminate();
    });
  }

  /** Hands over what waits, oldest first, for as long as there is room. */
  function serve(thread: Thread): void {
    for (let waiter = thread.waiting[0]; waiter !== undefined; waiter = thread.waiting[0]) {
      while (waiter.at < waiter.bytes.length) {
        const part = waiter.bytes.subarray(waiter.at, waiter.at + piece);
        const at = thread.ring.put(part);
        if (at === undefined) return;
        send(thread, { kind: 'piece', id: waiter.id, start: at, length: part.length });
        waiter.at += part.length;
      }
      thread.waiting.shift();
      waiter.resolve();
    }
  }

  function begin(algorithm: HashAlgorithm, size: number): RunningHash {
    if (closed) throw new Error('The hashing threads are closed.');
    const thread = size <= small || systemClock.monotonic() < withoutUntil ? undefined : choose();
    if (thread === undefined) return onThisThread(algorithm);
    const id = ++ids;
    thread.stopIdling();
    thread.worker.ref();
    thread.hashes.add(id);
    send(thread, { kind: 'begin', id, algorithm });
    let length = 0;
    let over: Error | undefined;
    /** Why it cannot go on; undefined: it can. */
    const stopped = (): Error | undefined => thread.dead ?? over;
    return {
      get length() {
        return length;
      },
      update(bytes) {
        const why = stopped();
        if (why !== undefined) return Promise.reject(why);
        length += bytes.length;
        return new Promise((resolve, reject) => {
          thread.waiting.push({ id, bytes, at: 0, resolve, reject });
          if (thread.waiting.length === 1) serve(thread);
        });
      },
      digestHex() {
        const why = stopped();
        if (why !== undefined) return Promise.reject(why);
        over = new Error('The hash is over.');
        return new Promise((resolve, reject) => {
          thread.answers.set(id, { resolve, reject });
          send(thread, { kind: 'end', id });
        });
      },
      close() {
        if (stopped() !== undefined) return;
        over = new Error('The hash was closed.');
        for (const waiter of thread.waiting.filter((one) => one.id === id)) {
          thread.waiting.splice(thread.waiting.indexOf(waiter), 1);
          waiter.reject(over);
        }
        send(thread, { kind: 'drop', id });
        leave(thread, id);
        serve(thread);
      },
    };
  }

  return {
    begin,
    load: () => {
      let [hashes, bytes] = [0, 0];
      for (const thread of threads) {
        hashes += thread.hashes.size;
        bytes += thread.ring.held;
      }
      return { threads: threads.size, hashes, bytes };
    },
    async close() {
      closed = true;
      const open = [...threads];
      for (const thread of open) lost(thread, new Error('The hashing threads are closed.'));
      await Promise.all(open.map(({ worker }) => worker.terminate()));
    },
  };
}

function send({ worker }: Thread, request: HashRequest): void {
  worker.postMessage(request);
}

function onThisThread(algorithm: HashAlgorithm): RunningHash {
  const hasher = createHasher(algorithm);
  return {
    get length() {
      return hasher.length;
    },
    update: async (bytes) => hasher.update(bytes),
    digestHex: async () => hasher.digestHex(),
    close: () => {},
  };
}
