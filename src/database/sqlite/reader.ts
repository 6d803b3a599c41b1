/** The request loop's side of the reader thread. The thread starts with the first read. */
import type { Worker } from 'node:worker_threads';
import { startThread } from '../../kit/thread.ts';
import { FaultError } from '../../oci/error.ts';
import { fromWire } from '../faults.ts';
import type { Files } from './migrate.ts';
import type { Present } from './present.ts';
import type { FromReader, ToReader } from './protocol.ts';

const MOST_WAITING = 1024;

interface Waiting {
  readonly resolve: (rows: unknown[]) => void;
  readonly reject: (error: Error) => void;
}

/** Sends statements and hands out their rows, in order. */
export class Reader {
  readonly #files: Files & { readonly present?: Present };
  readonly #entry: URL | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #last = 0;
  #closed = false;
  #drained: (() => void) | undefined;

  /** `present`: the files that may be read; absent: whatever stands there. */
  constructor(files: Files & { readonly present?: Present }, entry?: URL) {
    this.#files = files;
    this.#entry = entry;
  }

  /** All rows of a statement in SQLite's own dialect. FaultError `full` where too many reads wait, else SQLite's. */
  read(text: string, values: readonly unknown[]): Promise<unknown[]> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new FaultError('unavailable', 'The database is closing.');
      if (this.#waiting.size >= MOST_WAITING) {
        throw new FaultError('full', 'Too many searches wait for the database.', { retryAfterSeconds: 2 });
      }
      this.#worker ??= this.#start();
      const id = ++this.#last;
      try {
        const message: ToReader = { kind: 'read', id, text, values };
        this.#worker.postMessage(message);
      } catch (cause) {
        throw new FaultError('bug', 'The values of a read are not plain data.', { cause });
      }
      this.#worker.ref();
      this.#waiting.set(id, { resolve, reject });
    });
  }

  /** Waits for what was asked and ends the thread. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#waiting.size > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    const worker = this.#worker;
    if (worker === undefined) return;
    await new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
      worker.ref();
      worker.postMessage({ kind: 'close' } satisfies ToReader);
    });
  }

  #start(): Worker {
    const worker = startThread(this.#entry ?? 'reader', { ...this.#files });
    worker.on('message', (answer: FromReader) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ('rows' in answer) waiting?.resolve(answer.rows);
      else waiting?.reject(fromWire(answer.error));
      this.#rest();
    });
    worker.on('error', (error) => this.#died(worker, error as Error));
    worker.on('exit', () => this.#died(worker, undefined));
    return worker;
  }

  #rest(): void {
    if (this.#waiting.size > 0) return;
    this.#worker?.unref();
    this.#drained?.();
  }

  #died(worker: Worker, cause: Error | undefined): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const fault = new FaultError('unavailable', 'The database reader stopped.', { cause, retryAfterSeconds: 2 });
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.#waiting.clear();
    this.#rest();
  }
}
