/**
 * The request loop's side of the writer thread: two queues, and natural group commit. Whenever the thread is idle it
 * gets what waits, as one batch; while it works, the next batch gathers. No timer.
 */
import type { Worker } from 'node:worker_threads';
import { after, type Clock } from '../../kit/clock.ts';
import type { Lease } from '../../kit/facts.ts';
import type { Log, Measure, Metrics } from '../../kit/log.ts';
import { startThread } from '../../kit/thread.ts';
import { FaultError } from '../../oci/error.ts';
import type { RunOptions } from '../database.ts';
import { fromWire, toWire, type WireError } from '../faults.ts';
import type { Item, Part } from './batch.ts';
import { pack } from './pack.ts';
import type { FromWriter, ToWriter, WriterData } from './protocol.ts';

/** How much may wait, and how much goes at once. */
export interface WriterLimits {
  readonly queueCommands: number;
  readonly queueBytes: number;
  readonly batchCommands: number;
  readonly batchBytes: number;
}

/** The limits that were measured. */
export const WRITER_LIMITS: WriterLimits = {
  queueCommands: 4096,
  queueBytes: 64 * 1024 * 1024,
  batchCommands: 256,
  batchBytes: 8 * 1024 * 1024,
};

/** What a `Writer` is made of. */
export interface WriterOptions {
  readonly data: WriterData;
  /** The thread's module, where it is not the program's own (tests). */
  readonly entry?: URL;
  readonly limits?: WriterLimits;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** Called before the promises of a transaction settle, also where it is unknown whether it was committed. */
  onTouched(repositories: readonly string[]): void;
  /** Called when the thread died in a batch: what it touched is not known. */
  onDeath(): void;
  /** Called where a whole transaction was lost. */
  onLost(error: FaultError): void;
}

interface Waiting {
  readonly item: Item;
  readonly bytes: number;
  readonly transfer: ArrayBuffer[];
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Where commands wait for the thread. */
export class Writer {
  readonly #options: WriterOptions;
  readonly #limits: WriterLimits;
  readonly #lanes: Record<'request' | 'job', Waiting[]> = { request: [], job: [] };
  readonly #measure: { queue: Measure; batch: Measure; seconds: Measure };
  #count = 0;
  #bytes = 0;
  #flying: Waiting[] = [];
  #settled = 0;
  #worker: Worker | undefined;
  #posting = false;
  #closing: (() => void) | undefined;
  #pings: PromiseWithResolvers<void>[] = [];

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#limits = options.limits ?? WRITER_LIMITS;
    const { metrics } = options;
    this.#measure = {
      queue: metrics.gauge('longshore_database_queue_commands', 'Changes that wait for the database writer.'),
      batch: metrics.histogram('longshore_database_batch_commands', 'Changes committed at once.', [1, 4, 16, 64, 256]),
      seconds: metrics.histogram(
        'longshore_database_transaction_seconds',
        'How long a transaction took, with its commit.',
        [0.001, 0.005, 0.02, 0.1, 0.5, 2],
      ),
    };
  }

  /** Queues a command. Rejects with what it threw, or FaultError: `full` where too much waits, `unavailable`. */
  run(name: string, args: unknown, { lane = 'request', lease }: RunOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closing !== undefined) throw new FaultError('unavailable', 'The database is closing.');
      const { value, bytes, transfer } = pack(args);
      const { queueCommands, queueBytes } = this.#limits;
      if (this.#count >= queueCommands || (this.#bytes + bytes > queueBytes && this.#count > 0)) {
        throw new FaultError('full', 'Too many changes wait for the database.', { retryAfterSeconds: 2 });
      }
      const item = { name, args: value, ...(lease === undefined ? {} : { lease: plainLease(lease) }) };
      this.#lanes[lane].push({ item, bytes, transfer, resolve, reject });
      this.#count++;
      this.#bytes += bytes;
      this.#wake();
    });
  }

  /** Resolves when the thread has shown that it can write; rejects with FaultError where it cannot. */
  ping(): Promise<void> {
    const ping = Promise.withResolvers<void>();
    try {
      if (this.#closing !== undefined) throw new FaultError('unavailable', 'The database is closing.');
      this.#worker ??= this.#start();
      this.#pings.push(ping);
      this.#worker.ref();
      this.#post({ kind: 'ping' });
    } catch (error) {
      ping.reject(error);
    }
    return ping.promise;
  }

  /** Refuses what comes now, waits for what is queued, and ends the thread. */
  async close(): Promise<void> {
    if (this.#closing !== undefined) return;
    await new Promise<void>((resolve) => {
      this.#closing = resolve;
      if (this.#count === 0) resolve();
    });
    const worker = this.#worker;
    if (worker === undefined) return;
    await new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
      worker.ref();
      this.#post({ kind: 'close' });
    });
    this.#worker = undefined;
  }

  /** Posts a batch once the present turn has queued all that it has to queue. */
  #wake(): void {
    if (this.#posting || this.#flying.length > 0) return;
    this.#posting = true;
    setImmediate(() => {
      this.#posting = false;
      this.#next();
    });
  }

  #next(): void {
    if (this.#count === 0) {
      this.#closing?.();
      this.#rest();
      return;
    }
    const batch = this.#take();
    this.#flying = batch;
    this.#settled = 0;
    this.#measure.queue(this.#count - batch.length);
    try {
      this.#worker ??= this.#start();
      this.#worker.ref();
      const transfer = batch.length === 1 ? batch[0]!.transfer : batch.flatMap((waiting) => waiting.transfer);
      this.#post({ kind: 'batch', items: batch.map(({ item }) => item), now: this.#options.clock.now() }, transfer);
    } catch (error) {
      // Arguments that are not plain data, or no thread to be had.
      this.#failFlying(toWire(new FaultError('bug', 'A batch could not be handed to the writer.', { cause: error })));
      this.#wake();
    }
  }

  /** An idle thread does not keep the process alive, but one that is closing does. */
  #rest(): void {
    if (this.#pings.length === 0 && this.#closing === undefined) this.#worker?.unref();
  }

  #post(message: ToWriter, transfer: ArrayBuffer[] = []): void {
    this.#worker?.postMessage(message, transfer);
  }

  /** Requests first, then jobs, up to the limits; at least one. */
  #take(): Waiting[] {
    const taken: Waiting[] = [];
    let bytes = 0;
    for (const lane of [this.#lanes.request, this.#lanes.job]) {
      let count = 0;
      for (const waiting of lane) {
        const more = taken.length + count;
        if (more >= this.#limits.batchCommands) break;
        if (more > 0 && bytes + waiting.bytes > this.#limits.batchBytes) break;
        bytes += waiting.bytes;
        count++;
      }
      taken.push(...lane.splice(0, count));
      if (lane.length > 0) break;
    }
    return taken;
  }

  #start(): Worker {
    const worker = startThread(this.#options.entry ?? 'writer', this.#options.data);
    worker.on('message', (message: FromWriter) => this.#hear(message));
    worker.on('error', (error) => this.#died(worker, error as Error));
    worker.on('exit', () => this.#died(worker, undefined));
    return worker;
  }

  #hear(message: FromWriter): void {
    switch (message.kind) {
      case 'part':
        this.#part(message.part, message.milliseconds);
        if (!message.last) break;
        this.#flying = [];
        // What the endings make callers do next may join the next batch.
        this.#wake();
        break;
      case 'pong':
        if (message.error === undefined) this.#pings.shift()?.resolve();
        else this.#pings.shift()?.reject(fromWire(message.error));
        if (this.#flying.length === 0) this.#rest();
    }
  }

  #part({ endings, touched, slow, lost }: Part, milliseconds: number): void {
    if (touched.length > 0) this.#options.onTouched(touched);
    this.#measure.batch(endings.length);
    this.#measure.seconds(milliseconds / 1000);
    for (const { name, milliseconds } of slow) {
      this.#options.log.warn('a database command was slow', { command: name, milliseconds });
    }
    if (lost !== undefined) this.#options.onLost(fromWire(lost) as FaultError);
    for (const ending of endings) {
      const waiting = this.#flying[this.#settled++];
      if (waiting === undefined) break;
      this.#count--;
      this.#bytes -= waiting.bytes;
      if (ending.ok) waiting.resolve(ending.result);
      else waiting.reject(fromWire(ending.error));
    }
  }

  #failFlying(error: WireError): void {
    for (const waiting of this.#flying.slice(this.#settled)) {
      this.#count--;
      this.#bytes -= waiting.bytes;
      waiting.reject(fromWire(error));
    }
    this.#flying = [];
  }

  /** The thread is gone. Its batch may or may not be committed; the next batch starts another thread. */
  #died(worker: Worker, error: Error | undefined): void {
    if (this.#worker !== worker) return;
    const atWork = this.#flying.length > this.#settled;
    if (this.#closing !== undefined && !atWork && this.#count === 0 && error === undefined) return;
    this.#worker = undefined;
    const fault = new FaultError('unavailable', 'The database writer stopped.', { cause: error, retryAfterSeconds: 2 });
    for (const ping of this.#pings.splice(0)) ping.reject(fault);
    this.#options.onLost(fault);
    if (atWork) this.#options.onDeath();
    this.#failFlying(toWire(fault));
    // Not at once, so that a thread that cannot start does not start for ever in one turn.
    after(100, () => this.#wake());
    if (this.#count === 0) this.#closing?.();
  }
}

function plainLease({ id, fence }: Lease): Lease {
  return { id, fence };
}
