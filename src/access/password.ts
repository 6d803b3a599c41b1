/**
 * Password work for the rest of the room: in a thread of its own, a few at once, with a bounded queue (threats.md 68).
 * A place is held until the hash has ended, even if whoever asked has gone.
 */
import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { startThread } from '../kit/thread.ts';
import { RegistryError } from '../oci/error.ts';
import { MAX_PASSWORD } from './password-hash.ts';
import type { PasswordAnswer, PasswordRequest } from './password-thread.ts';

/** Hashes and verifies. Both throw TOOMANYREQUESTS with Retry-After when the queue is full, UNAVAILABLE when the thread died. */
export interface Passwords {
  /** Whether the password (at most 1 KiB) is that of the hash. */
  verify(password: string, hash: string): Promise<boolean>;
  /** The argon2id PHC string. */
  hash(password: string): Promise<string>;
  /** How many hashes run and wait now. */
  load(): { readonly running: number; readonly waiting: number };
  close(): Promise<void>;
}

/** `atOnce`: cores − 1 where absent. `queue`: 64. `start`: for tests. */
export interface PasswordsOptions {
  readonly atOnce?: number;
  readonly queue?: number;
  readonly start?: () => Worker;
}

interface Task {
  readonly request: PasswordRequest;
  readonly resolve: (value: boolean | string) => void;
  readonly reject: (error: Error) => void;
}

const failed = (): RegistryError =>
  new RegistryError('UNAVAILABLE', 'The password could not be checked. Try again in a moment.', {
    retryAfterSeconds: 2,
  });

/** Starts the thread at the first use; a thread that died is started again at the next. */
export function openPasswords(options: PasswordsOptions = {}): Passwords {
  const atOnce = options.atOnce ?? Math.max(1, availableParallelism() - 1);
  const most = options.queue ?? 64;
  const start = options.start ?? (() => startThread('passwords', undefined));
  const waiting: Task[] = [];
  const running = new Map<number, Task>();
  let worker: Worker | undefined;
  let ids = 0;
  let closed = false;

  const lost = (dead: Worker): void => {
    if (worker !== dead) return;
    worker = undefined;
    const tasks = [...running.values(), ...waiting.splice(0)];
    running.clear();
    for (const task of tasks) task.reject(failed());
  };

  const thread = (): Worker => {
    if (worker !== undefined) return worker;
    const started = start();
    started.on('message', (answer: PasswordAnswer) => {
      const task = running.get(answer.id);
      if (task === undefined) return;
      running.delete(answer.id);
      if (answer.value === undefined) task.reject(failed());
      else task.resolve(answer.value);
      if (running.size === 0 && waiting.length === 0) started.unref();
      next();
    });
    started.on('error', () => lost(started));
    started.on('exit', () => lost(started));
    worker = started;
    return started;
  };

  const next = (): void => {
    while (running.size < atOnce && waiting.length > 0) {
      const task = waiting.shift()!;
      running.set(task.request.id, task);
      const to = thread();
      to.ref();
      to.postMessage(task.request);
    }
  };

  const ask = (request: Omit<PasswordRequest, 'id'>): Promise<boolean | string> => {
    if (closed) return Promise.reject(failed());
    if (running.size >= atOnce && waiting.length >= most) {
      return Promise.reject(
        new RegistryError('TOOMANYREQUESTS', 'Too many logins at once. Try again in a moment.', {
          retryAfterSeconds: 2,
        }),
      );
    }
    return new Promise((resolve, reject) => {
      waiting.push({ request: { ...request, id: ++ids }, resolve, reject });
      next();
    });
  };

  return {
    verify: async (password, hash) =>
      Buffer.byteLength(password, 'utf8') <= MAX_PASSWORD && (await ask({ password, hash })) === true,
    hash: async (password) => String(await ask({ password })),
    load: () => ({ running: running.size, waiting: waiting.length }),
    close: async () => {
      closed = true;
      const open = worker;
      if (open === undefined) return;
      lost(open);
      await open.terminate();
    },
  };
}
