/** A run's world: the database and the disk that all share, the processes over them, clients, and what befalls them. */
import type { Database, Ticks } from '../../src/database/database.ts';
import type { Clock } from '../../src/kit/clock.ts';
import { noMetrics, silentLog } from '../../src/kit/log.ts';
import { tickForward } from '../../src/local/commands/house-keeping.ts';
import { type Local, openLocal } from '../../src/local/open.ts';
import type { Reviewed } from '../../src/maintenance/commands/gc-review.ts';
import { expireUploads, sweepUploads } from '../../src/maintenance/expire.ts';
import { type Collector, collector } from '../../src/maintenance/gc.ts';
import { spill } from '../../src/maintenance/spill.ts';
import { blobKey, parseBlobKey } from '../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../../src/oci/digest.ts';
import { FaultError, RegistryError } from '../../src/oci/error.ts';
import type { BlobKey, Digest, Reference, RepositoryName } from '../../src/oci/names.ts';
import type { BlobStorage } from '../../src/storage/storage.ts';
import { type Choices, choices as seeded } from '../support/random.ts';
import { act, type ClientWorld } from './clients.ts';
import { Elsewhere } from './elsewhere.ts';
import { broken, isServed, isThere, SPARSE } from './invariants.ts';
import { Keeper } from './keeper.ts';
import { type About, Ledger } from './ledger.ts';
import { Bucket, passTime } from './model-bucket.ts';
import { type DatabaseWorld, databaseOf, type Facade, type ModelDatabase } from './model-database.ts';
import { Disk, type ModelDisk } from './model-storage.ts';
import { type Counts, noCounts, type RunOptions } from './options.ts';
import { type Process, Scheduler, settled } from './scheduler.ts';
import { BLOBS, type Blob, LARGE, MANIFESTS, type Manifest, SMALL } from './universe.ts';

/** What must never happen. */
export class Violation extends Error {}

/** A process of the program: its stores, and the work that goes on by itself. */
export interface Instance {
  readonly process: Process;
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly collector: Collector;
  store(repository: string): Local;
  close(): void;
}

/** Labels of points at which nothing is under way yet. */
const IDLE = /^(client|collect|spill|expire)$/;
const YEARS = 10 * 365 * 86_400_000;

/** Everything of a run. */
export class World implements DatabaseWorld {
  readonly model: ModelDatabase;
  readonly scheduler: Scheduler;
  readonly choices: Choices;
  readonly disk: ModelDisk;
  readonly ledger = new Ledger();
  readonly ticks: Ticks;
  readonly facades = new Set<Facade>();
  readonly instances: Instance[] = [];
  readonly counts: Counts = noCounts();
  readonly blobs: readonly Blob[];
  readonly manifests: readonly Manifest[];
  readonly menu: readonly string[];
  readonly #repositories: readonly RepositoryName[];
  readonly #wanted: number;
  readonly #clients: number;
  readonly #deleteAfter: number;
  readonly #jumps: Choices | undefined;
  readonly #served = new Map<string, number>();
  readonly #reserved = new Map<string, number>();
  readonly #keeper: Keeper;
  /** Digests whose bytes the disk lost; only in some runs, for then less can be asked of all. */
  readonly #lost = new Set<string>();
  readonly #loses: boolean;
  readonly #objects: boolean;
  readonly #elsewhere = new Elsewhere(this.instances);
  #wall = 1_700_000_000_000;
  #made = 0;
  #violation: Violation | undefined;

  constructor(model: ModelDatabase, { seed, clockJumps = true, menu, size, objects }: RunOptions) {
    this.model = model;
    const choices = seeded(seed);
    this.choices = choices;
    this.#keeper = new Keeper(model, choices);
    this.scheduler = new Scheduler({ choices, restPermille: choices.pick([0, 5, 20, 60]) ?? 0, restTicks: 25 });
    this.ticks = {
      grace: 4 + choices.below(5),
      undelete: 1 + choices.below(7),
      uploadLifetime: 2 + choices.below(6),
    };
    this.#deleteAfter = 1 + choices.below(3);
    this.#objects = objects !== undefined;
    this.elsewhere = this.#objects ? (from, own, work) => this.#elsewhere.ask(from, own as Instance, work) : undefined;
    this.#wanted = objects === undefined ? 1 + choices.below(3) : 2 + Number(choices.chance(20));
    this.#clients = 2 + choices.below(4);
    // Drawn from its own source, so that a run with jumps makes the same choices as one without.
    this.#jumps = clockJumps ? seeded(seed ^ 0x5eed) : undefined;
    const focused = choices.chance(50) || menu !== undefined;
    const sized = size === undefined ? BLOBS : size === 'small' ? SMALL : LARGE;
    this.blobs = focused ? [sized[choices.below(sized.length)] as Blob] : BLOBS;
    this.manifests = focused
      ? MANIFESTS.filter(({ blobs, children }) => blobs.includes(this.blobs[0] as Blob) || children.length > 0)
      : MANIFESTS;
    const all = ['a', 'b', 's'] as RepositoryName[];
    this.#repositories = focused ? [choices.pick(all) as RepositoryName] : all;
    const common = ['push', 'push', 'blob', 'head', 'head', 'manifest', 'pull', 'unlink', 'delete', 'delete'];
    const rare = ['untag', 'restore', 'restore', 'retag', 'purge', 'remove'];
    this.menu =
      menu ??
      (choices.pick([
        [...common, ...rare],
        [...common, 'restore'],
        ['blob', 'blob', 'unlink', 'head', 'pull', 'manifest'],
        ['blob', 'head', 'head', 'manifest', 'delete'],
        ['push', 'delete', 'purge', 'restore'],
      ]) as readonly string[]);
    this.#loses = choices.chance(20);
    this.disk = objects === undefined ? new Disk() : new Bucket(this.scheduler, choices, objects);
    this.disk.onDelete = (key) => this.#onDelete(key);
  }

  now(): number {
    return this.#wall;
  }

  repository(from: Choices): RepositoryName {
    return from.pick(this.#repositories) as RepositoryName;
  }

  defect(why: string, error?: unknown): void {
    this.#violation ??= new Violation(`${why}${error instanceof Error ? `: ${error.stack}` : ''}`, { cause: error });
  }

  served(digest: Digest, n: number): void {
    this.#served.set(`${digest} ${n}`, this.scheduler.tick);
  }

  /** Reservations hold for a grace. */
  observe(process: Process, name: string, args: unknown, result: unknown): void {
    if (name === 'blob-reserve') {
      const { digest } = args as { digest: Uint8Array };
      const { n, live } = result as { n: number; live: boolean };
      if (!live) this.#reserved.set(`${digestFromBytes(digest)} ${n}`, this.scheduler.tick);
    }
    if (name === 'blob-link') this.#noteLive();
    if (name === 'gc-confirm') {
      for (const { digest, n } of (args as { keys: readonly { digest: Uint8Array; n: number }[] }).keys) {
        const key = blobKey(digestFromBytes(digest), n);
        if (this.disk.refused?.has(`${process.name} ${key}`))
          this.defect(`I5: ${key} counts as deleted, and the store refused to delete it`);
      }
    }
    if (name !== 'gc-review') return;
    if ((result as Reviewed).unlinked > 0) {
      const why = this.#brokenPromise();
      if (why !== undefined) this.defect(why);
    }
    for (const [key, tick] of this.#reserved) {
      const [digest, n] = key.split(' ') as [Digest, string];
      const dead = this.model.get(
        'select 1 from dead_key where digest = ? and n = ?',
        digestToBytes(digest),
        Number(n),
      );
      if (dead === undefined) continue;
      this.#reserved.delete(key);
      const live = this.#wasLive.has(key);
      if (!live && !this.#lost.has(digest) && this.scheduler.tick <= tick + this.ticks.grace)
        this.defect(`I2: the reservation of ${key} at tick ${tick} did not hold for a grace`);
    }
  }

  readonly #wasLive = new Set<string>();

  #noteLive(): void {
    for (const { digest, n } of this.model.all("select digest, n from blob where state = 'live'"))
      this.#wasLive.add(`${digestFromBytes(digest as Uint8Array)} ${n}`);
  }

  /** An answer that is not the good one. */
  refused(error: unknown, about: About): void {
    this.counts.refusals++;
    if (!(error instanceof RegistryError)) {
      this.defect(`a call about ${about.what} threw what may not cross the seam`, error);
      return;
    }
    if (error.code === 'UNAVAILABLE') {
      this.counts.unsettled++;
      return;
    }
    if (error.code === 'UNKNOWN') {
      const lost = error.cause instanceof FaultError && error.cause.message.startsWith('an upload is missing');
      if (!lost) this.defect(`a call about ${about.what} failed`, error.cause ?? error);
    }
    if (error.code === 'DIGEST_INVALID' && this.disk.boots === 1) this.defect('a push was garbled', error);
  }

  /** I7, and the same for what was pushed: every process says so at once. */
  async expectTag(repository: RepositoryName, tag: string, digest: Digest): Promise<void> {
    await this.#ask(repository, { tag } as Reference, (found) => {
      if (found !== digest) this.defect(`I1: the tag ${tag} in ${repository} is at ${found}, not at ${digest}`);
    });
  }

  async expectGone(repository: RepositoryName, reference: { tag: string } | { digest: Digest }): Promise<void> {
    await this.#ask(repository, reference as Reference, (found) => {
      if (found !== undefined)
        this.defect(`I7: ${JSON.stringify(reference)} in ${repository} was deleted and is served`);
    });
  }

  async #ask(
    repository: RepositoryName,
    reference: Reference,
    told: (found: Digest | undefined) => void,
  ): Promise<void> {
    const { scheduler } = this;
    const before = scheduler.direct;
    scheduler.direct = true;
    try {
      for (const { process, store } of [...this.instances]) {
        if (!process.alive) continue;
        const found = await store(repository)
          .resolveManifest({} as never, repository, reference)
          .catch(() => undefined);
        told(found?.digest);
      }
    } finally {
      scheduler.direct = before;
    }
  }

  /** I3: bytes go under dead keys only, never while somebody may just be opening them. */
  #onDelete(key: BlobKey): void {
    const parsed = parseBlobKey(key);
    if (parsed === undefined) {
      this.defect(`I3: ${key} is no key`);
      return;
    }
    const digest = digestToBytes(parsed.digest);
    if (this.model.get('select 1 from blob where digest = ? and n = ?', digest, parsed.n) !== undefined)
      this.defect(`I3: the bytes of ${key} went while a row names them`);
    if (this.model.get('select 1 from dead_key d where d.digest = ? and d.n >= ?', digest, parsed.n) === undefined)
      this.defect(`I3: the bytes of ${key} went, and it is not dead`);
    if (this.#keeper.needs(key)) this.defect(`I3: the bytes of ${key} went while a backup needs them`);
    const served = this.#served.get(`${parsed.digest} ${parsed.n}`);
    if (served !== undefined && this.scheduler.tick < served + this.#deleteAfter)
      this.defect(`I2: the bytes of ${key} went at tick ${this.scheduler.tick}, and it was found at tick ${served}`);
  }

  /** A new process. Its opening is not interleaved: nothing of it is at stake. */
  async start(): Promise<Instance> {
    const { scheduler, disk } = this;
    const process: Process = { name: `p${++this.#made}`, alive: true, pausedUntil: 0 };
    const sole = this.#wanted === 1;
    const database = databaseOf(this, process, sole);
    const clock: Clock = { now: () => this.#wall, monotonic: () => 0, sleep: () => new Promise(() => undefined) };
    scheduler.direct = true;
    const storage = await disk.open(scheduler, process, this.choices);
    const parts = { database, storage, clock, log: silentLog, tickMilliseconds: 3_600_000, movesTick: false };
    const plain = await openLocal({ ...parts, sparse: 'none' });
    const sparse = await openLocal({ ...parts, sparse: 'all' });
    // The owner of a data folder clears it before anybody writes.
    if (!this.instances.some((one) => one.process.alive)) await sweepUploads(parts);
    scheduler.direct = false;
    const instance: Instance = {
      process,
      database,
      storage,
      collector: collector({
        database,
        storage,
        clock,
        log: silentLog,
        metrics: noMetrics,
        settings: { deleteAfterTicks: this.#deleteAfter, sweepTicks: 3, haltShare: 1 },
      }),
      store: (repository) => (SPARSE.has(repository) ? sparse : plain),
      close() {
        // What it still waits for never comes; only its timers have to end.
        for (const store of [plain, sparse]) void store.close();
      },
    };
    this.instances.push(instance);
    return instance;
  }

  /** The work of a process that nobody asks for. */
  work(instance: Instance): void {
    const { scheduler } = this;
    const { process, database, storage } = instance;
    const { signal } = new AbortController();
    const spiller = spill({ database, storage, metrics: noMetrics });
    const parts = { database, storage, log: silentLog };
    const endless = async (label: string, weight: number, work: () => Promise<unknown>): Promise<void> => {
      for (;;) {
        await scheduler.at(process, label, async () => undefined, { weight });
        try {
          await work();
        } catch (error) {
          // A store that does not answer is tried again, as a job is.
          if (this.#objects && error instanceof FaultError && error.code === 'unavailable') continue;
          this.defect(`${label} failed`, error);
        }
      }
    };
    void endless('collect', 2, () => instance.collector.step(signal));
    void endless('spill', 1, () => spiller.run(4, signal));
    void endless('expire', 1, () => expireUploads(parts, signal));
    for (let client = 0; client < this.#clients; client++) {
      const own = seeded(this.choices.below(2 ** 31));
      void endless('client', 3, () => act({ world: this, instance, choices: own }));
    }
  }

  /** Sends a request to one of the processes; where that dies first it has no answer. Absent where each client has its own. */
  readonly elsewhere: ClientWorld['elsewhere'];

  async kill(instance: Instance): Promise<void> {
    this.counts.kills++;
    await this.scheduler.kill(instance.process);
    this.ledger.lost(instance.process);
    instance.close();
    this.instances.splice(this.instances.indexOf(instance), 1);
    this.#elsewhere.died(instance.process);
    // Those who waited for it go on before anything else happens.
    await settled();
    for (const facade of this.facades) if (facade.process === instance.process) this.facades.delete(facade);
  }

  async tick(): Promise<void> {
    const { model, scheduler } = this;
    const context = { sql: model.statements } as never;
    await model.run(tickForward, { seen: scheduler.tick }, context);
    scheduler.tick = model.get('select tick from gc_clock where id = 1')?.tick as number;
    scheduler.trace.push(`tick ${scheduler.tick}`);
    this.#keeper.release(scheduler.tick);
  }

  /** The disk loses a file, as disks do. */
  #lose(): void {
    const key = this.choices.pick([...this.disk.blobs.keys()]);
    const digest = key === undefined ? undefined : parseBlobKey(key)?.digest;
    if (key === undefined || digest === undefined) return;
    this.counts.losses++;
    this.#lost.add(digest);
    this.disk.lose(key);
    this.scheduler.trace.push(`${key} is lost`);
  }

  /** What befalls a world. */
  async befall(): Promise<void> {
    const { choices, scheduler } = this;
    const fate = choices.below(1000);
    if (this.#jumps?.chance(2)) this.#wall = 1_700_000_000_000 + this.#jumps.below(2 * YEARS) - YEARS;
    if (fate < 90) await this.tick();
    else if (fate < 94) {
      const instance = choices.pick(this.instances);
      if (instance !== undefined) await this.kill(instance);
    } else if (fate < 96) {
      this.counts.powerCuts++;
      for (const instance of [...this.instances]) await this.kill(instance);
      this.disk.powerCut(choices);
      scheduler.trace.push('power cut');
    } else if (fate < 106) {
      const instance = choices.pick(this.instances);
      if (instance !== undefined) instance.process.pausedUntil = scheduler.tick + 1 + choices.below(20);
    } else if (fate < 110)
      this.#keeper.keep(scheduler, this.repository(choices), (choices.pick(this.blobs) as Blob).digest);
    else if (fate < 114 && this.#loses) this.#lose();
    else if (fate < 118 && this.#objects) {
      scheduler.trace.push('all requests under way are given up');
      passTime();
      for (let turn = 0; turn < 4; turn++) await settled();
    } else if (fate < 150 && scheduler.lateEffects > 0) await scheduler.strike();
    while (this.instances.length < this.#wanted) this.work(await this.start());
  }

  /** Throws where an invariant is broken. */
  check(): void {
    const why =
      broken(this.model, this.disk, this.#lost) ??
      this.#brokenPromise() ??
      this.#keeper.broken() ??
      this.#brokenUploads();
    if (why !== undefined) this.defect(why);
    if (this.#violation !== undefined) throw this.#violation;
    this.#noteLive();
  }

  #brokenUploads(): string | undefined {
    if (this.disk.brokenUploads === undefined) return undefined;
    return this.disk.brokenUploads(this.model.all('select state from upload').map(({ state }) => state as string));
  }

  #brokenPromise(): string | undefined {
    const { tick } = this.scheduler;
    for (const [key, { repository, what, until }] of this.ledger.promises) {
      if (until < tick) this.ledger.promises.delete(key);
      else if (
        !this.#lost.has(what.slice('blob:'.length)) &&
        !isServed(this.model, repository, what.slice('blob:'.length))
      )
        return `I2: ${what} in ${repository} was promised until tick ${until}, it is ${tick} and it is gone`;
    }
    for (const { repository, what, there } of this.ledger.manifests.values()) {
      if (isThere(this.model, repository, what.slice('manifest:'.length)) !== there)
        return `${there ? 'I1' : 'I7'}: ${what} in ${repository} was acknowledged to be ${there ? 'there' : 'deleted'} and is not`;
    }
    return undefined;
  }

  /** Everything that is under way ends; nothing new begins. */
  async quiet(): Promise<void> {
    const { scheduler } = this;
    const busy = (label: string): boolean => !IDLE.test(label);
    scheduler.wakeAll();
    for (let step = 0; step < 5_000; step++) {
      if (!(await scheduler.step(busy))) break;
      scheduler.wakeAll();
    }
    if (scheduler.waiting(busy)) this.defect('the work under way does not end');
    while (scheduler.lateEffects > 0) await scheduler.strike();
    this.check();
  }

  /** Time passes and the housekeeping runs, with nobody there. */
  async settle(): Promise<void> {
    const { scheduler } = this;
    for (const instance of [...this.instances]) await this.kill(instance);
    while (scheduler.lateEffects > 0) await scheduler.strike();
    scheduler.forget();
    this.#keeper.release(Number.POSITIVE_INFINITY);
    const { database, storage, collector: collecting } = await this.start();
    scheduler.direct = true;
    const { signal } = new AbortController();
    const spiller = spill({ database, storage, metrics: noMetrics });
    const stride = Math.max(this.ticks.grace, this.ticks.undelete, this.ticks.uploadLifetime) + 2;
    for (let round = 0; round < 9; round++) {
      await spiller.run(1_000, signal);
      await expireUploads({ database, storage, log: silentLog }, signal);
      while ((await collecting.step(signal)).more);
      this.check();
      for (let tick = 0; tick < stride; tick++) await this.tick();
    }
    await settled();
  }
}
