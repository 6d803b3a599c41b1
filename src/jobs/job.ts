/** Work that follows from a change or a schedule: at least once, leased, retried with back-off. */
import type { EventOf, EventType } from '../events/event.ts';
import type { Lease } from '../kit/facts.ts';

/** What a running attempt has in hand. */
export interface JobContext {
  readonly signal: AbortSignal;
  readonly lease: Lease;
  /** From 1. */
  readonly attempt: number;
  progress(done: number, total: number | undefined, note?: string): Promise<void>;
}

/** A kind of work. `parse` checks a payload read back from the database. */
export interface Job<Payload> {
  readonly type: string;
  readonly parse: (value: unknown) => Payload;
  /** How many at once in one process. */
  readonly concurrency: number;
  readonly maxAttempts: number;
  readonly leaseSeconds: number;
  /** Runs by itself every so many milliseconds. */
  readonly everyMilliseconds?: number;
  run(context: JobContext, payload: Payload): Promise<void>;
}

/** Waiting requests with one `key` are one job. `runAt`: wall milliseconds, now if absent. */
export interface JobRequest {
  readonly type: string;
  readonly payload: unknown;
  readonly key?: string;
  readonly runAt?: number;
}

/** Asked outside any transaction; perhaps twice for one event. */
export type EventHandlers = {
  readonly [T in EventType]?: (event: EventOf<T>) => readonly JobRequest[] | Promise<readonly JobRequest[]>;
};

/** What a feature or maintenance hands to the jobs room. */
export interface JobGiver {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: a list of jobs of many payloads; each parses its own.
  readonly jobs?: readonly Job<any>[];
  readonly on?: EventHandlers;
}

/** Where jobs are put. */
export interface JobQueue {
  enqueue(request: JobRequest): Promise<void>;
}
