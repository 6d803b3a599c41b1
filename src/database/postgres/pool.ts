/**
 * The connections to PostgreSQL: bounded, and so is who may wait for one, and for how long. Nobody waits longer than
 * `WAIT_MILLISECONDS`, whatever the server does: it may be away, refuse, have no connection left, or accept and never
 * answer. While it is away one connection at a time is tried, so that a server that comes back is not run over.
 */
import type { QueryConfig, QueryResult } from 'pg';
import { backoff } from '../../kit/backoff.ts';
import { after, type Clock, every } from '../../kit/clock.ts';
import { FaultError } from '../../oci/error.ts';
import type { Statements } from '../database.ts';
import { forPostgres } from '../dialect.ts';
import type { Execute } from '../kysely.ts';
import { postgresFault } from './faults.ts';
import { type Link, type LinkEvents, openLink } from './link.ts';
import { bind } from './types.ts';
import { Watch } from './watch.ts';

/** What a pool is made of. */
export interface PoolOptions {
  /** `postgres://…`; it may hold a password, so it is never part of a message. */
  readonly url: string;
  /** Most connections of this pool. */
  readonly connections: number;
  /** How many may wait for a connection. */
  readonly waiting: number;
  readonly clock: Clock;
  /** Asks the server for a sign of life on a connection that is not the pool's. */
  probe(): Promise<unknown>;
  /** Looks at the database behind each new connection; rejects where it is not one to be used. */
  admit?(link: Link): Promise<void>;
  /** A connection broke, or could not be made; the first time of each outage. */
  onBroken(error: Error): void;
  /** The first connection after an outage. */
  onWell(): void;
}

/** How long anybody waits for a connection. */
export const WAIT_MILLISECONDS = 1_700;
const CONNECT_MILLISECONDS = 1_500;
/** Between attempts to connect while the server is away. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 500;
const IDLE_MILLISECONDS = 60_000;
/** Connections that are kept though they are idle. */
const KEPT = 2;
/** How often a read whose connection broke is asked again. */
const READ_RETRIES = 2;

/** How long a statement may be silent while the server answers others: a look-up, anything else, a migration. */
export type Patience = 'short' | 'usual' | 'endless';

/** Whatever runs a query of `pg`. */
export interface Runner {
  query(config: QueryConfig): Promise<QueryResult>;
}

/** Prepared statements: parsed once a connection under a name made of the text. */
export function statementsOn(runner: Runner): Statements {
  const query = async (text: string, values: readonly unknown[]) => {
    const config = { ...forPostgres(text), values: values.map(bind) };
    try {
      return await runner.query(config);
    } catch (error) {
      throw postgresFault(error);
    }
  };
  return {
    all: async <Row>(text: string, ...values: readonly unknown[]) => (await query(text, values)).rows as Row[],
    get: async <Row>(text: string, ...values: readonly unknown[]) =>
      (await query(text, values)).rows[0] as Row | undefined,
    run: async (text, ...values) => (await query(text, values)).rowCount ?? 0,
  };
}

/** Statements of any text, unnamed, in PostgreSQL's own dialect: for Kysely and for DDL. */
export function executeOn(runner: Runner): Execute {
  return async (text, values) => {
    const config = { text, values: values.map(bind) };
    try {
      const { rows, rowCount, command } = await runner.query(config);
      return command === 'SELECT' ? { rows } : { rows, changed: rowCount ?? 0 };
    } catch (error) {
      throw postgresFault(error);
    }
  };
}

interface Waiter {
  readonly take: (link: Link) => void;
  readonly refuse: (error: Error) => void;
}

/** The pool. */
export class Pool {
  readonly #options: PoolOptions;
  readonly #links = new Set<Link>();
  readonly #idle: Link[] = [];
  readonly #waiters: Waiter[] = [];
  readonly #watch: Watch;
  readonly #events: LinkEvents;
  readonly #stopSweep: () => void;
  #connecting = 0;
  /** Attempts that failed since a connection was made. */
  #failures = 0;
  #lastError: Error | undefined;
  #pause: (() => void) | undefined;
  #generation = 0;
  #busy = 0;
  #drained: (() => void) | undefined;
  #closed = false;
  /** Prepared statements that only read, on any connection; asked again where the connection broke. */
  readonly statements: Pick<Statements, 'all' | 'get'>;
  /** The same for look-ups of the request loop, which take no time unless something is wrong. */
  readonly lookUps: Pick<Statements, 'all' | 'get'>;
  readonly execute: Execute;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#watch = new Watch({ links: this.#links, probe: options.probe, hung: (error) => this.#hung(error) });
    this.#events = { heard: this.#watch.heard, broke: (link, error) => this.#broke(link, error) };
    this.#stopSweep = every(IDLE_MILLISECONDS / 2, () => this.#sweep());
    const usual = { query: (config: QueryConfig) => this.#read(config, 'usual') };
    this.statements = statementsOn(usual);
    this.lookUps = statementsOn({ query: (config) => this.#read(config, 'short') });
    this.execute = executeOn(usual);
  }

  /** The server answered somewhere else. */
  get heard(): () => void {
    return this.#watch.heard;
  }

  /** Milliseconds on the monotonic clock until which something that begins now may wait for a connection. */
  deadline(): number {
    return this.#options.clock.monotonic() + WAIT_MILLISECONDS;
  }

  /** A connection of one's own; give it back with `release`. FaultError `full` or `unavailable`. */
  async acquire(patience: Patience = 'usual', deadline = this.deadline()): Promise<Link> {
    if (this.#closed) throw new FaultError('unavailable', 'The database is closing.');
    const link = this.#idle.pop() ?? (await this.#wait(deadline));
    this.#busy++;
    this.#watch.use(link, patience);
    return link;
  }

  /** Gives a connection back. `broken`: it is in a state that nobody knows. */
  release(link: Link, broken = false): void {
    this.#busy--;
    if (this.#closed && this.#busy === 0) this.#drained?.();
    if (broken) link.destroy(new FaultError('unavailable', 'PostgreSQL does not answer.'));
    if (link.dead !== undefined || link.generation !== this.#generation) {
      this.#drop(link);
      return;
    }
    this.#hand(link);
  }

  /** No connection is to be used any more: each is made anew, and looked at. */
  distrust(error: Error): void {
    this.#hung(error);
  }

  /** Waits for what runs or waits, and closes every connection. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#busy > 0 || this.#waiters.length > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    this.#pause?.();
    this.#stopSweep();
    this.#watch.stop();
    await Promise.all([...this.#links].map((link) => link.end()));
    this.#links.clear();
  }

  async #read(config: QueryConfig, patience: Patience): Promise<QueryResult> {
    const deadline = this.deadline();
    for (let attempt = 0; ; attempt++) {
      const link = await this.acquire(patience, deadline);
      try {
        return await link.query(config);
      } catch (error) {
        const again = link.dead !== undefined && !(error instanceof FaultError) && attempt < READ_RETRIES;
        if (!again || this.#options.clock.monotonic() >= deadline) throw error;
      } finally {
        this.release(link);
      }
    }
  }

  #wait(deadline: number): Promise<Link> {
    const { waiting, connections, clock } = this.#options;
    // Those for whom there is room for a connection of their own wait for it only.
    if (this.#waiters.length >= waiting + Math.max(0, connections - this.#busy)) {
      throw new FaultError('full', 'Too many requests wait for PostgreSQL.', { retryAfterSeconds: 2 });
    }
    return new Promise((resolve, reject) => {
      const end = (): void => {
        cancel();
        const index = this.#waiters.indexOf(waiter);
        if (index >= 0) this.#waiters.splice(index, 1);
        if (this.#closed && this.#waiters.length === 0) queueMicrotask(() => this.#drained?.());
      };
      const waiter: Waiter = {
        take: (link) => {
          end();
          resolve(link);
        },
        refuse: (error) => {
          end();
          reject(error);
        },
      };
      const late = Math.max(1, deadline - clock.monotonic());
      // Held: a program that does nothing else must not end while it waits.
      const cancel = after(late, () => waiter.refuse(this.#late()), { held: true });
      this.#waiters.push(waiter);
      this.#connect();
    });
  }

  #late(): Error {
    if (this.#failures > 0 && this.#lastError !== undefined) return postgresFault(this.#lastError);
    return new FaultError('unavailable', 'No connection to PostgreSQL was free in time.', { retryAfterSeconds: 2 });
  }

  /** Makes as many connections as are waited for and there is room for; one at a time while that fails. */
  #connect(): void {
    const { connections } = this.#options;
    if (this.#pause !== undefined) return;
    const most = this.#failures > 0 ? 1 : connections;
    while (
      this.#connecting < most &&
      this.#connecting < this.#waiters.length &&
      this.#links.size + this.#connecting < connections
    ) {
      this.#connecting++;
      void this.#open();
    }
  }

  async #open(): Promise<void> {
    const generation = this.#generation;
    let link: Link;
    try {
      const { url, admit } = this.#options;
      const options = { url, connectMilliseconds: CONNECT_MILLISECONDS, ...(admit === undefined ? {} : { admit }) };
      link = await openLink(options, this.#events);
    } catch (error) {
      this.#connecting--;
      this.#failed(error as Error);
      return;
    }
    this.#connecting--;
    if (this.#failures > 0) this.#options.onWell();
    this.#failures = 0;
    // One that was asked for before the server went may have been answered by the one that went.
    if (generation !== this.#generation || link.dead !== undefined) link.destroy(new Error('it is of before'));
    else {
      link.generation = generation;
      this.#links.add(link);
      this.#hand(link);
    }
    this.#connect();
  }

  #failed(error: Error): void {
    if (this.#failures++ === 0) this.#options.onBroken(error);
    this.#lastError = error;
    this.#pause ??= after(backoff(this.#failures, FIRST_PAUSE, LONGEST_PAUSE), () => {
      this.#pause = undefined;
      this.#connect();
    });
  }

  #hand(link: Link): void {
    const waiter = this.#waiters[0];
    if (waiter !== undefined) {
      waiter.take(link);
      return;
    }
    link.usedAt = this.#options.clock.monotonic();
    this.#idle.push(link);
  }

  #drop(link: Link): void {
    this.#links.delete(link);
    const index = this.#idle.indexOf(link);
    if (index >= 0) this.#idle.splice(index, 1);
    void link.end().catch(() => undefined);
    this.#connect();
  }

  /** What one connection met the others will meet: those that are idle go, those in use when they come back. */
  #renew(): void {
    this.#generation++;
    for (const link of this.#idle.splice(0)) this.#drop(link);
  }

  #broke(link: Link, error: Error): void {
    this.#options.onBroken(error);
    this.#renew();
    this.#drop(link);
  }

  /** The server answers nobody any more. */
  #hung(error: Error): void {
    this.#options.onBroken(error);
    if (this.#failures === 0) this.#failures = 1;
    this.#lastError = error;
    this.#renew();
    for (const link of [...this.#links]) {
      link.destroy(error);
      this.#drop(link);
    }
  }

  #sweep(): void {
    const old = this.#options.clock.monotonic() - IDLE_MILLISECONDS;
    // The longest idle are first: connections are taken from the end.
    while (this.#idle.length > KEPT && this.#idle[0]!.usedAt < old) this.#drop(this.#idle[0]!);
  }
}
