/**
 * From events to jobs: reads the outbox, asks the handlers outside any transaction, and hands rows and jobs to one
 * command. An event is asked about at least once; two processes may both ask, one of them takes it.
 */
import type { Database } from '../database/database.ts';
import { EVENT_TYPES, eventOf, type OutboxRow } from '../events/read.ts';
import type { Clock } from '../kit/clock.ts';
import type { Log, Metrics } from '../kit/log.ts';
import type { StoredRequest } from './commands/job-enqueue.ts';
import { DISPATCH_ROWS, type Dispatched, outboxDispatch } from './commands/outbox-dispatch.ts';
import type { JobGiver, JobRequest } from './job.ts';
import { storedRequest } from './queue.ts';
import { Wake } from './wake.ts';

/** What dispatch is made of. `types`: the jobs that exist. `onJobs`: called when jobs were put into the queue, with whether one is due at once. */
export interface DispatchOptions {
  readonly database: Database;
  readonly givers: readonly JobGiver[];
  readonly types: ReadonlySet<string>;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** How long at most until the outbox is looked at again, now. */
  pollMilliseconds(): number;
  onJobs(due: boolean): void;
}

// Events of types that only a newer program knows stay for it. The types are constants of this program.
const READ = `select id, uid, type, payload, at from outbox where type in (${EVENT_TYPES.map((type) => `'${type}'`).join(', ')})
 order by id limit ${DISPATCH_ROWS}`;
/** How often a handler may fail on one event before the event goes on without it. */
const MOST_FAILURES = 5;
const FAILURE_WAIT = 1_000;
/** How long changes are gathered once one has woken the dispatch. */
const GATHER_MILLISECONDS = 100;

type Handler = (event: never) => readonly JobRequest[] | Promise<readonly JobRequest[]>;

/** Dispatches from `start` to `stop`. */
export class Dispatch {
  readonly #options: DispatchOptions;
  readonly #wake: Wake;
  readonly #failures = new Map<string, number>();
  readonly #handlers: ReadonlyMap<string, readonly { readonly giver: string; readonly handle: Handler }[]>;
  readonly #count: (value: number) => void;
  #stopped = false;
  /** Ends a pause: a sleep alone does not keep the process alive, so one that stops must not wait for it. */
  readonly #stopping = new AbortController();
  #taken = 0;
  #loop: Promise<void> | undefined;
  #round: Promise<number> | undefined;
  #forget: (() => void) | undefined;

  constructor(options: DispatchOptions) {
    this.#options = options;
    this.#wake = new Wake(options.clock);
    this.#count = options.metrics.counter('longshore_outbox_events_total', 'Events taken off the outbox.');
    const handlers = new Map<string, { giver: string; handle: Handler }[]>();
    for (const { name, on } of options.givers) {
      for (const [type, handle] of Object.entries(on ?? {})) {
        const list = handlers.get(type) ?? [];
        list.push({ giver: name, handle: handle as Handler });
        handlers.set(type, list);
      }
    }
    this.#handlers = handlers;
  }

  start(): void {
    this.#forget = this.#options.database.onTouched(this.#wake.call);
    this.#loop = this.#run();
  }

  /** Ends after the round under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopping.abort();
    this.#forget?.();
    this.#wake.call();
    await this.#loop;
  }

  /** How many events were taken since the start. */
  get taken(): number {
    return this.#taken;
  }

  /** Takes everything that is there now, but what a handler fails on. */
  async flush(): Promise<void> {
    while ((await this.#once()) > 0);
  }

  async #run(): Promise<void> {
    const { clock, log, pollMilliseconds } = this.#options;
    while (!this.#stopped) {
      let wait = pollMilliseconds();
      try {
        // A full round: there is more.
        if ((await this.#once()) === DISPATCH_ROWS) wait = 0;
      } catch (error) {
        log.warn('the outbox cannot be read at the moment', { error: error as Error });
        wait = Math.max(wait, FAILURE_WAIT);
      }
      if (wait > 0 && !this.#stopped) await this.#wake.wait(wait);
      // Under load each change wakes: rounds without a pause would take the writer's time, and the loop's, from requests.
      if (!this.#stopped) await clock.sleep(GATHER_MILLISECONDS, this.#stopping.signal).catch(() => undefined);
    }
  }

  /** One round at a time in this process: who asks meanwhile waits, then runs its own. */
  async #once(): Promise<number> {
    while (this.#round !== undefined) await this.#round.catch(() => {});
    this.#round = this.#dispatch();
    try {
      return await this.#round;
    } finally {
      this.#round = undefined;
    }
  }

  async #dispatch(): Promise<number> {
    const { database } = this.#options;
    const rows = await database.query.all<OutboxRow>(READ);
    const events: Dispatched[] = [];
    for (const row of rows) {
      const requests = await this.#ask(row);
      if (requests !== undefined) events.push({ id: row.id, requests });
    }
    if (events.length === 0) return 0;
    const taken = await database.run(outboxDispatch, { events }, { lane: 'job' });
    for (const row of rows) this.#failures.delete(row.uid);
    this.#taken += taken;
    this.#count(taken);
    const requests = events.flatMap((event) => event.requests);
    if (taken > 0 && requests.length > 0) this.#options.onJobs(requests.some(({ runAt }) => runAt === null));
    return taken;
  }

  /** The jobs that follow, or undefined where a handler failed and the event is to be asked about again. */
  async #ask(row: OutboxRow): Promise<readonly StoredRequest[] | undefined> {
    const { log, types } = this.#options;
    const handlers = this.#handlers.get(row.type);
    if (handlers === undefined) return [];
    const failed = this.#failures.get(row.uid) ?? 0;
    const requests: StoredRequest[] = [];
    let event: ReturnType<typeof eventOf>;
    try {
      event = eventOf(row);
    } catch (error) {
      log.error('an event cannot be read and is left out', { event: row.uid, type: row.type, error: error as Error });
      return [];
    }
    for (const { giver, handle } of handlers) {
      try {
        for (const request of await handle(event as never)) {
          if (!types.has(request.type)) throw new TypeError(`there is no job "${request.type}"`);
          requests.push(storedRequest(request));
        }
      } catch (error) {
        const fields = { event: row.uid, type: row.type, giver, error: error as Error };
        if (failed + 1 < MOST_FAILURES) {
          log.warn('a handler of events failed and is asked again', fields);
          this.#failures.set(row.uid, failed + 1);
          return undefined;
        }
        log.error('a handler of events failed too often: the event goes on without it', fields);
      }
    }
    return requests;
  }
}
