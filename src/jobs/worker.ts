/**
 * Runs jobs: claims what is due while there is room, renews the leases of what runs, and ends each attempt. An attempt
 * that lost its lease is told to stop, and can commit nothing under it (database/lease.ts).
 */
import type { Database } from '../database/database.ts';
import { backoff } from '../kit/backoff.ts';
import type { Clock } from '../kit/clock.ts';
import type { Log, Metrics } from '../kit/log.ts';
import { FaultError } from '../oci/error.ts';
import { type Claimed, jobClaim } from './commands/job-claim.ts';
import { type Finish, jobFinish } from './commands/job-finish.ts';
import { jobRenew } from './commands/job-lease.ts';
import { jobShift } from './commands/job-shift.ts';
import type { Job } from './job.ts';
import { progressWriter } from './progress.ts';
import { Wake } from './wake.ts';

/** What a worker is made of. `owner`: of this process only. `retry`: milliseconds, as in kit/backoff. */
export interface WorkerOptions {
  readonly database: Database;
  // biome-ignore lint/suspicious/noExplicitAny: a list of jobs of many payloads.
  readonly jobs: readonly Job<any>[];
  readonly owner: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** How long at most until the queue is looked at again, now. */
  pollMilliseconds(): number;
  readonly retry: { readonly first: number; readonly most: number };
  /** How long `stop` waits for jobs that do not listen to their signal. */
  readonly stopMilliseconds: number;
}

interface Attempt {
  readonly job: Job<unknown>;
  readonly claimed: Claimed;
  readonly stop: AbortController;
  /** Monotonic milliseconds when the lease ends unless it is renewed. */
  until: number;
  /** The lease is another's: nothing of this attempt is written any more. */
  lost: boolean;
}

const MAX_OUTCOME = 1_000;
/** How many attempts beyond its own a job has that vanished with their process: one that kills it must end too. */
const MOST_LOST = 3;
const EXPIRED_EVERY = 5_000;
/** By how much the wall clock has to be set back to be noticed, milliseconds. */
const JUMP = 10_000;
const SECONDS = [0.01, 0.1, 1, 10, 60, 600, 3_600];

/** Works from `start` to `stop`. */
export class JobWorker {
  readonly #options: WorkerOptions;
  readonly #jobs: ReadonlyMap<string, Job<unknown>>;
  readonly #wake: Wake;
  readonly #renewal: Wake;
  readonly #running = new Map<number, { readonly attempt: Attempt; readonly done: Promise<void> }>();
  readonly #measures;
  #loops: readonly Promise<void>[] = [];
  #claiming: Promise<number | undefined> | undefined;
  #stopped = false;
  #first = true;
  #ended = 0;
  #offset = Number.NEGATIVE_INFINITY;
  #lookForExpired = Number.NEGATIVE_INFINITY;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#jobs = new Map(options.jobs.map((job) => [job.type, job as Job<unknown>]));
    this.#wake = new Wake(options.clock);
    this.#renewal = new Wake(options.clock);
    const { metrics } = options;
    this.#measures = {
      ended: metrics.counter('longshore_job_attempts_total', 'Attempts of jobs, by type and how they ended.'),
      seconds: metrics.histogram('longshore_job_seconds', 'How long attempts of jobs took.', SECONDS),
      running: metrics.gauge('longshore_jobs_running', 'Jobs that run in this process.'),
    };
  }

  start(): void {
    this.#loops = [this.#claimLoop(), this.#renewLoop()];
  }

  /** Looks at the queue now. */
  wake(): void {
    this.#wake.call();
  }

  /** Claims nothing more, tells what runs to stop, and waits for it; what was handed back runs elsewhere. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake.call();
    await this.#claiming?.catch(() => {});
    for (const { attempt } of this.#running.values()) attempt.stop.abort(new Error('the server stops'));
    const over = new AbortController();
    const all = Promise.all([...this.#running.values()].map(({ done }) => done));
    await Promise.race([all, this.#options.clock.sleep(this.#options.stopMilliseconds, over.signal).catch(() => {})]);
    over.abort();
    if (this.#running.size > 0) this.#options.log.warn('jobs did not stop in time', { jobs: this.#running.size });
    this.#renewal.call();
    await Promise.all(this.#loops);
  }

  /** How many attempts ended since the start. */
  get ended(): number {
    return this.#ended;
  }

  /** Resolves when nothing runs and nothing is due. */
  async drain(): Promise<void> {
    do {
      await Promise.all([...this.#running.values()].map(({ done }) => done));
      await this.#claim();
    } while (this.#running.size > 0);
  }

  async #claimLoop(): Promise<void> {
    const { log, pollMilliseconds } = this.#options;
    while (!this.#stopped) {
      let wait = pollMilliseconds();
      try {
        const dueIn = await this.#claim();
        if (dueIn !== undefined) wait = Math.max(1, Math.min(wait, dueIn));
      } catch (error) {
        log.warn('the queue of jobs cannot be read at the moment', { error: error as Error });
      }
      if (!this.#stopped) await this.#wake.wait(wait);
    }
  }

  /** One claim at a time. Milliseconds until the next job is due for which there is room. */
  async #claim(): Promise<number | undefined> {
    while (this.#claiming !== undefined) await this.#claiming.catch(() => {});
    if (this.#stopped) return undefined;
    this.#claiming = this.#claimNow();
    try {
      return await this.#claiming;
    } finally {
      this.#claiming = undefined;
    }
  }

  async #claimNow(): Promise<number | undefined> {
    const { database, owner, clock } = this.#options;
    const busy = new Map<string, number>();
    for (const { attempt } of this.#running.values()) {
      busy.set(attempt.job.type, (busy.get(attempt.job.type) ?? 0) + 1);
    }
    const wanted = [...this.#jobs.values()].flatMap(({ type, concurrency, leaseSeconds }) => {
      const limit = concurrency - (busy.get(type) ?? 0);
      return limit > 0 ? [{ type, limit, leaseMilliseconds: leaseSeconds * 1000 }] : [];
    });
    if (wanted.length === 0) return undefined;
    await this.#followClock();
    const now = clock.monotonic();
    const expired = now - this.#lookForExpired >= EXPIRED_EVERY;
    if (expired) this.#lookForExpired = now;
    const args = { owner, wanted, expired, lost: this.#first };
    const { jobs, dueIn } = await database.run(jobClaim, args, { lane: 'job' });
    this.#first = false;
    for (const claimed of jobs) this.#begin(claimed, now);
    return dueIn;
  }

  /** Times in the queue are wall time: where that was set back, they are too. A database that hosts share has a clock of its own. */
  async #followClock(): Promise<void> {
    const { database, clock } = this.#options;
    const offset = clock.now() - clock.monotonic();
    const back = Math.round(this.#offset - offset);
    if (!database.shared && back > JUMP) await database.run(jobShift, { by: back }, { lane: 'job' });
    this.#offset = offset;
  }

  #begin(claimed: Claimed, now: number): void {
    const job = this.#jobs.get(claimed.type);
    if (job === undefined) return;
    // A lease of this process that ran out and was claimed again: the older attempt is over.
    const older = this.#running.get(claimed.id);
    if (older !== undefined) this.#lose(older.attempt);
    const attempt: Attempt = {
      job,
      claimed,
      stop: new AbortController(),
      until: now + job.leaseSeconds * 1000,
      lost: false,
    };
    const done = this.#attempt(attempt).finally(() => {
      this.#ended++;
      if (this.#running.get(claimed.id)?.attempt === attempt) this.#running.delete(claimed.id);
      this.#measures.running(this.#running.size);
      this.#wake.call();
    });
    this.#running.set(claimed.id, { attempt, done });
    this.#measures.running(this.#running.size);
    this.#renewal.call();
  }

  /** Never rejects. */
  async #attempt(attempt: Attempt): Promise<void> {
    const { clock, log } = this.#options;
    const { job, claimed } = attempt;
    const began = clock.monotonic();
    const failure = await this.#run(attempt);
    const how = this.#howItEnded(attempt, failure);
    const { type } = job;
    this.#measures.seconds((clock.monotonic() - began) / 1000, { type });
    this.#measures.ended(1, { type, how });
    const fields = { job: claimed.id, type, attempt: claimed.attempt };
    if (how === 'lost') {
      log.warn('a job was taken over by another process', fields);
      return;
    }
    if (failure !== undefined && how === 'again') {
      log.warn('a job failed and will run again', { ...fields, error: failure.error });
    } else if (failure !== undefined && how === 'given-up') {
      log.error('a job failed too often and was given up', { ...fields, error: failure.error });
    }
    await this.#finish(attempt, how, failure);
  }

  async #run({ job, claimed, stop }: Attempt): Promise<{ readonly error: Error; readonly final: boolean } | undefined> {
    const { database, clock } = this.#options;
    if (claimed.attempt > job.maxAttempts + MOST_LOST) {
      return { error: new Error('every attempt ended with its process'), final: true };
    }
    let payload: unknown;
    try {
      payload = job.parse(JSON.parse(claimed.payload));
    } catch (cause) {
      return { error: new Error('the payload of the job cannot be read', { cause }), final: true };
    }
    try {
      await job.run(
        {
          signal: stop.signal,
          lease: { id: String(claimed.id), fence: claimed.fence },
          attempt: claimed.attempt,
          progress: progressWriter(database, clock, claimed),
        },
        payload,
      );
      return undefined;
    } catch (error) {
      return { error: error instanceof Error ? error : new Error(String(error)), final: false };
    }
  }

  #howItEnded(
    { lost, job, claimed }: Attempt,
    failure: { readonly error: Error; readonly final: boolean } | undefined,
  ): Finish['how'] | 'lost' {
    if (lost) return 'lost';
    if (failure === undefined) return 'done';
    if (failure.final) return 'given-up';
    if (this.#stopped) return 'handed-back';
    if (claimed.attempt < job.maxAttempts || this.#isOutage(job, failure.error)) return 'again';
    return 'given-up';
  }

  /** Whether the disk, the database or the like was away: what a job has to do is still to be done when it is back. */
  #isOutage(job: Job<unknown>, error: Error): boolean {
    return job.everyMilliseconds === undefined && error instanceof FaultError && error.status === 503;
  }

  /** Tries a few times: a job whose end cannot be written runs again when its lease is over. */
  async #finish(attempt: Attempt, how: Finish['how'], failure: { readonly error: Error } | undefined): Promise<void> {
    const { database, clock, log, retry } = this.#options;
    const { claimed, job } = attempt;
    const finish: Finish = {
      id: claimed.id,
      fence: claimed.fence,
      how,
      delayMilliseconds: backoff(claimed.attempt, retry.first, retry.most),
      outcome: (failure?.error.message ?? '').slice(0, MAX_OUTCOME),
      ...(job.everyMilliseconds === undefined ? {} : { everyMilliseconds: job.everyMilliseconds }),
      // The last one is tried as long as the outage lasts.
      ...(how === 'again' && claimed.attempt >= job.maxAttempts ? { uncounted: true } : {}),
    };
    for (let tries = 1; ; tries++) {
      try {
        await database.run(jobFinish, finish, { lane: 'job' });
        return;
      } catch (error) {
        if (tries === 3 || attempt.lost) {
          log.error('the end of a job could not be stored', { job: claimed.id, type: job.type, error: error as Error });
          return;
        }
        await clock.sleep(backoff(tries, 100, 1_000)).catch(() => {});
      }
    }
  }

  async #renewLoop(): Promise<void> {
    while (!this.#stopped || this.#running.size > 0) {
      const leases = [...this.#running.values()].map(({ attempt }) => attempt.job.leaseSeconds * 1000);
      // Nothing runs: the next attempt calls.
      await this.#renewal.wait(leases.length === 0 ? this.#options.pollMilliseconds() : Math.min(...leases) / 3);
      await this.#renew();
      if (this.#stopped && this.#renewalIsOver()) return;
    }
  }

  /** After `stop` gave up waiting, nothing renews: what still runs loses its lease. */
  #renewalIsOver(): boolean {
    return [...this.#running.values()].every(({ attempt }) => attempt.stop.signal.aborted);
  }

  /** Renews what has less than two thirds of its lease left. */
  async #renew(): Promise<void> {
    const { database, owner, clock, log } = this.#options;
    const now = clock.monotonic();
    const due = [...this.#running.values()]
      .map(({ attempt }) => attempt)
      .filter(({ lost, until, job }) => !lost && until - now <= (job.leaseSeconds * 1000 * 2) / 3);
    if (due.length === 0) return;
    const jobs = due.map(({ claimed, job }) => ({
      id: claimed.id,
      fence: claimed.fence,
      leaseMilliseconds: job.leaseSeconds * 1000,
    }));
    try {
      const lost = new Set(await database.run(jobRenew, { owner, jobs }, { lane: 'job' }));
      for (const attempt of due) {
        if (lost.has(attempt.claimed.id)) this.#lose(attempt);
        else attempt.until = now + attempt.job.leaseSeconds * 1000;
      }
    } catch (error) {
      log.warn('leases of jobs could not be renewed', { jobs: jobs.length, error: error as Error });
      for (const attempt of due) if (clock.monotonic() >= attempt.until) this.#lose(attempt);
    }
  }

  #lose(attempt: Attempt): void {
    if (this.#running.get(attempt.claimed.id)?.attempt !== attempt) return;
    attempt.lost = true;
    attempt.stop.abort(new Error('the job was taken over'));
  }
}
