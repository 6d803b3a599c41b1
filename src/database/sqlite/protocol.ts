/** What the request loop and the two threads say to each other. All of it is plain data. */
import type { Failpoint } from '../../kit/failpoint.ts';
import type { Ticks } from '../database.ts';
import type { WireError } from '../faults.ts';
import type { Item, Part } from './batch.ts';
import type { Durability } from './connection.ts';
import type { Files } from './migrate.ts';
import type { Present } from './present.ts';

/** The writer thread's `workerData`. `failpoint`: under a test, the process kills itself there. */
export interface WriterData extends Files {
  readonly durability: Durability;
  readonly ticks: Ticks;
  /** The files as they were opened; nothing is written to others. */
  readonly present: Present;
  readonly failpoint?: { readonly name: Failpoint; readonly count: number };
}

/** To the writer: a batch, a sign of life, or the end. */
export type ToWriter =
  | { readonly kind: 'batch'; readonly items: readonly Item[]; readonly now: number }
  | { readonly kind: 'ping' }
  | { readonly kind: 'close' };

/** From the writer: each transaction of a batch (`last`: the batch is done), an answer to a ping: why not, where it cannot write. */
export type FromWriter =
  | { readonly kind: 'part'; readonly part: Part; readonly milliseconds: number; readonly last: boolean }
  | { readonly kind: 'pong'; readonly error?: WireError };

/** To the reader: a statement, or the end. */
export type ToReader =
  | { readonly kind: 'read'; readonly id: number; readonly text: string; readonly values: readonly unknown[] }
  | { readonly kind: 'close' };

/** From the reader: all rows, or why not. */
export type FromReader =
  | { readonly id: number; readonly rows: unknown[] }
  | { readonly id: number; readonly error: WireError };
