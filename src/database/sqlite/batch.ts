/**
 * Runs batches of commands on the writer's connection: one transaction a batch, one savepoint a command. Lives in the
 * writer thread, but knows nothing of threads.
 */
import type { Lease } from '../../kit/facts.ts';
import { failpoint } from '../../kit/failpoint.ts';
import { FaultError } from '../../oci/error.ts';
import type { Command, CommandList, Ticks } from '../database.ts';
import { toWire, type WireError } from '../faults.ts';
import { leaseHeld, leaseLost } from '../lease.ts';
import type { Connection } from './connection.ts';
import { Contexts } from './context.ts';
import { isBusy, sqliteFault } from './faults.ts';
import type { Reserve } from './reserve.ts';
import type { Room } from './room.ts';

/** A command on its way to the writer. */
export interface Item {
  readonly name: string;
  readonly args: unknown;
  readonly lease?: Lease;
}

/** How a command ended. */
export type Ending =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly error: WireError };

/** What one transaction did: the endings of the next items in order, and the repositories to drop from caches. */
export interface Part {
  readonly endings: Ending[];
  readonly touched: string[];
  /** Commands that took over 50 ms. */
  readonly slow: { readonly name: string; readonly milliseconds: number }[];
  /** Set where the whole transaction was lost. */
  readonly lost?: WireError;
}

/** What `Batches` is made of. `open` opens the connection, and again after it was lost. */
export interface BatchOptions {
  readonly commands: CommandList;
  readonly ticks: Ticks;
  open(): Connection;
  /** Throws FaultError where the files are not those that were opened. Asked before a transaction's end is told. */
  check?(): void;
  /** How much room the disk has. */
  room?(): Room;
  /** Room that is kept for the end. */
  readonly reserve?: Reserve;
  /** Milliseconds that only grow. */
  monotonic(): number;
}

const MOST_MILLISECONDS = 20;
const SLOW_MILLISECONDS = 50;
const BEGINS = 3;
/** How long a lock of another program is waited for at first, in all, and once it is known to be there. */
const LOCK_MILLISECONDS = 1000;
const KNOWN_LOCK_MILLISECONDS = 50;
/** How often the logs are emptied while there is little room. */
const EMPTY_MILLISECONDS = 1000;

/** Runs batches, one at a time. */
export class Batches {
  readonly #options: BatchOptions;
  // biome-ignore lint/suspicious/noExplicitAny: commands of many arguments.
  readonly #commands: ReadonlyMap<string, Command<any, any>>;
  #open: { readonly connection: Connection; readonly contexts: Contexts } | undefined;
  /** Another program held the lock at the last try: the next does not wait as long, or requests would add up. */
  #locked = false;
  /** The disk was full: the log is emptied into the database first, which makes room in it. */
  #full = false;
  /** A transaction was lost and none was stored since. */
  #unwell = false;
  #probes = 0;
  #emptied = Number.NEGATIVE_INFINITY;

  constructor(options: BatchOptions) {
    this.#options = options;
    this.#commands = new Map(options.commands.map((command) => [command.name, command]));
  }

  /** The connection, where one is open. */
  get connection(): Connection | undefined {
    return this.#open?.connection;
  }

  /**
   * Runs all items and gives one part for each transaction (a long batch is several). `now`: wall milliseconds. Never
   * throws: once a transaction is lost, its items and all after it end as FaultError `unavailable`.
   */
  async run(items: readonly Item[], now: number, give: (part: Part, last: boolean) => void): Promise<void> {
    let at = 0;
    while (at < items.length) {
      const part = await this.#transaction(items, at, now);
      at += part.endings.length;
      give(part, at >= items.length);
    }
  }

  close(): void {
    this.#open?.connection.close();
    this.#open = undefined;
  }

  #begin(): { readonly connection: Connection; readonly contexts: Contexts } {
    const { open, ticks, monotonic } = this.#options;
    if (this.#open === undefined) {
      const connection = open();
      this.#open = { connection, contexts: new Contexts(connection, ticks) };
      if (this.#locked) connection.db.exec(`pragma busy_timeout = ${KNOWN_LOCK_MILLISECONDS}`);
      if (this.#full) this.#emptyLog(connection);
    }
    const { connection } = this.#open;
    const began = monotonic();
    const room = this.#options.room?.();
    if (room === 'plenty') this.#options.reserve?.take();
    if (room !== undefined && room !== 'plenty' && began - this.#emptied > EMPTY_MILLISECONDS) {
      this.#emptied = began;
      this.#emptyLog(connection);
    }
    for (let attempt = 1; ; attempt++) {
      try {
        connection.run('begin immediate', []);
        break;
      } catch (error) {
        if (!isBusy(error)) throw error;
        if (attempt < BEGINS && !this.#locked && monotonic() - began < LOCK_MILLISECONDS / 2) continue;
        this.#locked = true;
        throw error;
      }
    }
    if (this.#locked) connection.db.exec(`pragma busy_timeout = ${LOCK_MILLISECONDS}`);
    this.#locked = false;
    return this.#open;
  }

  #emptyLog(connection: Connection): void {
    if (!connection.emptyLog() && this.#options.reserve?.give()) connection.emptyLog();
  }

  /**
   * Writes a little, to see that it can be: to the second file, which disturbs no cache and waits for no disk; to the
   * first as well after a transaction was lost. What is wrong, as a FaultError's data.
   */
  probe(): WireError | undefined {
    try {
      const { connection } = this.#begin();
      connection.run(`pragma side.user_version = ${++this.#probes % 2}`, []);
      if (this.#unwell) connection.run('update gc_clock set tick = tick', []);
      connection.run('commit', []);
      this.#options.check?.();
      this.#well();
      return this.#options.room?.() === 'none' ? toWire(noRoom()) : undefined;
    } catch (error) {
      return this.#lose(error, 0).lost;
    }
  }

  #well(): void {
    this.#unwell = false;
    this.#full = false;
  }

  async #transaction(items: readonly Item[], from: number, now: number): Promise<Part> {
    const endings: Ending[] = [];
    const touched = new Set<string>();
    const slow: Part['slow'] = [];
    const { monotonic } = this.#options;
    try {
      const { connection, contexts } = this.#begin();
      const began = monotonic();
      let time = began;
      for (let at = from; at < items.length && time - began < MOST_MILLISECONDS; at++) {
        const item = items[at] as Item;
        endings.push(await this.#command(connection, contexts, item, now, touched));
        const ended = monotonic();
        if (ended - time > SLOW_MILLISECONDS) slow.push({ name: item.name, milliseconds: Math.round(ended - time) });
        time = ended;
      }
      for (const name of touched) {
        connection.run('update repository set version = version + 1 where gone = 0 and name = ?', [name]);
      }
      failpoint('writer.commit.before');
      connection.run('commit', []);
      this.#options.check?.();
      if (this.#unwell) this.#well();
      failpoint('writer.commit.after');
      return { endings, touched: [...touched], slow };
    } catch (error) {
      // Whether the commit reached the disk may be unknown, so caches drop what was touched here too.
      return { ...this.#lose(error, items.length - from), touched: [...touched], slow };
    }
  }

  /** Ends everything from here on, and drops the connection: its state after the error is not to be relied on. */
  #lose(error: unknown, count: number): Pick<Part, 'endings' | 'lost'> {
    try {
      if (this.#open?.connection.db.isTransaction) this.#open.connection.run('rollback', []);
    } catch {
      // Closing rolls back as well.
    }
    this.close();
    const fault = sqliteFault(error);
    this.#unwell = true;
    this.#full = fault.code === 'full';
    const lost = toWire(fault);
    const why = fault.status === 503 ? fault.message : 'The database could not store the change.';
    const retryAfterSeconds = fault.retryAfterSeconds ?? 2;
    const ending = toWire(new FaultError('unavailable', why, { cause: error, retryAfterSeconds }));
    return { endings: Array.from({ length: count }, () => ({ ok: false, error: ending })), lost };
  }

  /** One command in its savepoint. Throws only where the transaction is lost. */
  async #command(
    connection: Connection,
    contexts: Contexts,
    { name, args, lease }: Item,
    now: number,
    touched: Set<string>,
  ): Promise<Ending> {
    connection.run('savepoint command', []);
    try {
      const command = this.#commands.get(name);
      if (command === undefined) throw new FaultError('bug', `The writer knows no command "${name}".`);
      if (command.grows === true && this.#options.room?.() === 'none') throw noRoom();
      const outcome = await command.run(contexts.of(now), args);
      if (lease !== undefined) {
        const { text, values } = leaseHeld(lease);
        if ((await connection.statements.get(text, ...values)) === undefined) throw leaseLost();
      }
      if (!connection.db.isTransaction) throw new FaultError('bug', `Command "${name}" ended the transaction.`);
      connection.run('release command', []);
      for (const repository of outcome.touched) touched.add(repository);
      return { ok: true, result: outcome.result };
    } catch (error) {
      // SQLite ends the whole transaction on some errors (full, I/O, memory): the next statement would commit by itself.
      if (!connection.db.isTransaction) throw error;
      connection.run('rollback to command', []);
      connection.run('release command', []);
      return { ok: false, error: toWire(sqliteFault(error)) };
    }
  }
}

function noRoom(): FaultError {
  return new FaultError(
    'full',
    'The disk of the database is nearly full, so nothing is pushed: delete images or free some space.',
    { retryAfterSeconds: 5 },
  );
}
