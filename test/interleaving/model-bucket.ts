/**
 * A bucket in memory that the processes of a run share, and the `ObjectStore` that one of them has over it. Every request
 * is a point. A request may be refused, its answer may be lost, and what writes or deletes may strike long after whoever
 * asked for it gave up or died: a join then with the sources as they were when it began, or as they are when it strikes.
 */
import { Readable } from 'node:stream';
import { mock } from 'node:test';
import { CLOSED } from '../../src/local/commands/upload-commands.ts';
import { readState } from '../../src/local/upload-state.ts';
import { FaultError } from '../../src/oci/error.ts';
import type { BlobKey } from '../../src/oci/names.ts';
import { fault } from '../../src/storage/objects/faults.ts';
import { openObjectStorage } from '../../src/storage/objects/objects.ts';
import { room } from '../../src/storage/objects/room.ts';
import type { JoinSource, ObjectInfo, ObjectLimits, ObjectStore } from '../../src/storage/objects/store.ts';
import type { BlobStorage } from '../../src/storage/storage.ts';
import type { Choices } from '../support/random.ts';
import type { Held, ModelDisk } from './model-storage.ts';
import type { Process, Scheduler } from './scheduler.ts';

/** What a planted fault replaces: what a vendor does, or what the core does. */
export interface ObjectPlant {
  readonly store?: (store: ObjectStore) => ObjectStore;
  readonly storage?: (storage: BlobStorage) => BlobStorage;
  /** The name under which an object lies, where the fault gives it another. */
  readonly nameOf?: (name: string) => string;
}

interface StoredObject {
  readonly bytes: Buffer;
  readonly modifiedAt: number;
  /** Its place in listings: when it was first written. */
  readonly place: number;
}

const HOUR = 3_600_000;
const BLOBS = 'blobs/';
/** What a listing gives at once. */
const PAGE = 3;

/** What all processes of a run write to. */
export class Bucket implements ModelDisk {
  readonly blobs = new Map<BlobKey, Held>();
  readonly #objects = new Map<string, StoredObject>();
  /** Joins that began and did not end, by number: an open multipart. */
  readonly #unfinished = new Map<number, number>();
  /** `process key`: it was told last that this is not deleted. */
  readonly refused = new Set<string>();
  readonly boots = 1;
  readonly limits: ObjectLimits;
  readonly #scheduler: Scheduler;
  readonly #plant: ObjectPlant;
  deletions = 0;
  /** Effects that struck after their request was given up. */
  late = 0;
  lostAnswers = 0;
  joins = 0;
  #count = 0;
  onDelete: (key: BlobKey) => void = () => undefined;

  constructor(scheduler: Scheduler, choices: Choices, plant: ObjectPlant = {}) {
    this.#scheduler = scheduler;
    this.#plant = plant;
    this.limits = {
      minimumPart: choices.pick([1, 1, 9_000]) ?? 1,
      mostParts: choices.pick([3, 10_000]) ?? 3,
      largestPart: 2 ** 30,
    };
  }

  /** Milliseconds: an hour is a tick, so that what is a day old is so within a run. */
  now(): number {
    return 1_700_000_000_000 + this.#scheduler.tick * HOUR;
  }

  /** Uploads that left something. */
  get uploads(): ReadonlySet<string> {
    const names = [...this.#objects.keys()].filter((name) => name.startsWith('uploads/'));
    const ids = new Set(names.map((name) => name.split('/')[1] as string));
    for (const number of this.#unfinished.keys()) ids.add(`an open join ${number}`);
    return ids;
  }

  info(name: string): ObjectInfo | undefined {
    const held = this.#objects.get(name);
    return held === undefined ? undefined : { size: held.bytes.length, modifiedAt: held.modifiedAt };
  }

  bytes(name: string): Buffer | undefined {
    return this.#objects.get(name)?.bytes;
  }

  write(name: string, bytes: Buffer): void {
    const place = this.#objects.get(name)?.place ?? ++this.#count;
    this.#objects.set(name, { bytes, modifiedAt: this.now(), place });
    if (!name.startsWith(BLOBS)) return;
    const key = name.slice(BLOBS.length) as BlobKey;
    this.blobs.set(key, { bytes, durable: true });
  }

  remove(name: string): void {
    if (!this.#objects.has(name)) return;
    if (name.startsWith(BLOBS)) {
      const key = name.slice(BLOBS.length) as BlobKey;
      this.onDelete(key);
      this.deletions++;
      this.blobs.delete(key);
    }
    this.#objects.delete(name);
  }

  /** The bytes of all sources; they must be there, with their sizes. */
  joined(sources: readonly JoinSource[]): Buffer {
    const { minimumPart, mostParts } = this.limits;
    if (sources.length === 0 || sources.length > mostParts) throw new Error(`a join of ${sources.length} sources`);
    const parts = sources.map(({ name, size }, at) => {
      if (at < sources.length - 1 && size < minimumPart) throw new Error(`a part of ${size} bytes`);
      const bytes = this.bytes(name);
      if (bytes === undefined || bytes.length !== size) throw missing();
      return bytes;
    });
    return Buffer.concat(parts);
  }

  /** What is wrong with the uploads of these rows: a piece that a row names and that is not there. */
  brokenUploads(states: readonly string[]): string | undefined {
    for (const text of states) {
      if (text === CLOSED) continue;
      const state = readState(text);
      if (state.kind !== 'file') continue;
      for (const run of String(state.storage.runs ?? '').split(',')) {
        const [writer, first, count, size] = run.split('.');
        if (size === undefined) continue;
        for (let at = 0; at < Number.parseInt(count as string, 36); at++) {
          const name = `uploads/${state.file}/${writer}-${Number.parseInt(first as string, 36) + at}`;
          if (this.info(this.#plant.nameOf?.(name) ?? name)?.size !== Number.parseInt(size, 36))
            return `I1: a row names a piece of an upload, of ${Number.parseInt(size, 36)} bytes, which is not there`;
        }
      }
    }
    return undefined;
  }

  beginJoin(): number {
    const number = ++this.#count;
    this.#unfinished.set(number, this.now());
    return number;
  }

  /** Whether it was there still. */
  endJoin(number: number): boolean {
    this.joins++;
    return this.#unfinished.delete(number);
  }

  removeUnfinished(before: number): number {
    let removed = 0;
    for (const [number, at] of [...this.#unfinished]) {
      if (at >= before) continue;
      this.#unfinished.delete(number);
      removed++;
    }
    return removed;
  }

  page(prefix: string, token: string | undefined) {
    const after = Number(token ?? 0);
    const all = [...this.#objects]
      .filter(([name, { place }]) => name.startsWith(prefix) && place > after)
      .sort(([, one], [, other]) => one.place - other.place);
    const objects = all
      .slice(0, PAGE)
      .map(([name, { bytes, modifiedAt }]) => ({ name, size: bytes.length, modifiedAt }));
    return { objects, next: all.length > PAGE ? String(all[PAGE - 1]?.[1].place) : undefined };
  }

  lose(key: BlobKey): void {
    this.#objects.delete(`${BLOBS}${key}`);
    this.blobs.delete(key);
  }

  /** An object store loses nothing when its clients do. */
  powerCut(): void {}

  async open(scheduler: Scheduler, process: Process, choices: Choices): Promise<BlobStorage> {
    const store = scheduledStore(this, scheduler, process, choices);
    const storage = await openObjectStorage({
      store: this.#plant.store?.(store) ?? store,
      clock: { now: () => this.now(), monotonic: () => 0, sleep: () => new Promise(() => undefined) },
      pieceSize: () => 12_000,
      room: room(1_000_000),
      merging: (work) => work(),
    });
    return this.#plant.storage?.(storage) ?? storage;
  }
}

/** Makes timers stand still until `passTime`, for as long as a run lasts, so that a slow machine changes nothing. */
export function holdTime(): { [Symbol.dispose](): void } {
  mock.timers.enable({ apis: ['setTimeout'] });
  return { [Symbol.dispose]: () => mock.timers.reset() };
}

/** More time passes than any request has: whoever waits for one gives it up, and it may have its effect later. */
export function passTime(): void {
  mock.timers.tick(300_000);
}

/** As the invariants of the harness know it: an upload that ended while another request still used it. */
function missing(): FaultError {
  return new FaultError('corrupt', 'an upload is missing in the model’s bucket');
}

const unanswered = (doing: string): FaultError => fault('unavailable', doing, 'the model’s bucket gave no answer');

/** Without what is random in a name, so that a seed replays. */
function told(name: string): string {
  if (name.startsWith('records/')) return name.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, '*');
  return name.startsWith('uploads/') ? name.replace(/^uploads\/.*\/(index|merged|segment|)?.*/, 'uploads $1') : name;
}

/** The bucket as one process sees it. */
function scheduledStore(bucket: Bucket, scheduler: Scheduler, process: Process, choices: Choices): ObjectStore {
  const look = async <T>(label: string, apply: () => T): Promise<T> => {
    if (!scheduler.direct && choices.chance(1)) {
      await scheduler.at(process, `${label} refused`, async () => undefined);
      throw unanswered(label);
    }
    return scheduler.at(process, label, async () => apply());
  };
  /** Something that changes the bucket. `harm`: in how many of 100 cases it does not go well. */
  const change = async <T>(label: string, harm: number, apply: () => T): Promise<T> => {
    const late = async (): Promise<void> => {
      bucket.late++;
      apply();
    };
    if (!scheduler.direct && choices.chance(harm)) {
      const fate = choices.below(3);
      bucket.lostAnswers++;
      if (fate === 0) scheduler.strikeLater(label, late);
      const work = async (): Promise<void> => {
        if (fate === 1) apply();
      };
      await scheduler.at(process, `${label} ${['late', 'lost', 'refused'][fate]}`, work, {
        atKill: 'may-strike-later',
      });
      throw unanswered(label);
    }
    return scheduler.at(process, label, async () => apply(), { atKill: 'may-strike-later' });
  };
  return {
    name: 'memory',
    limits: bucket.limits,
    head: (name) => look(`head ${told(name)}`, () => bucket.info(name)),
    get: (name, range) =>
      look(`get ${told(name)}`, () => {
        const bytes = bucket.bytes(name);
        if (bytes === undefined) {
          if (name.startsWith('uploads/')) throw missing();
          return undefined;
        }
        const part = bytes.subarray(range?.start ?? 0, range?.end ?? bytes.length);
        return { body: Readable.from(part.length === 0 ? [] : [part], { objectMode: false }), size: bytes.length };
      }),
    put: (name, bytes) => {
      const own = Buffer.from(bytes);
      return change(`put ${told(name)}`, 4, () => bucket.write(name, own));
    },
    delete: (name) => change(`delete ${told(name)}`, 6, () => bucket.remove(name)),
    async deleteMany(names) {
      const label = `delete many ${told(names[0] ?? '')}`;
      // Of a batch some may be refused, and some of those strike later all the same.
      const kept = new Set(scheduler.direct ? [] : names.filter(() => choices.chance(12)));
      for (const name of kept) {
        if (choices.chance(50)) {
          scheduler.strikeLater(`delete ${told(name)}`, async () => {
            bucket.late++;
            bucket.remove(name);
          });
        }
      }
      return change(label, 6, () => {
        for (const name of names) {
          const asked = `${process.name} ${name.slice(BLOBS.length)}`;
          if (kept.has(name)) bucket.refused.add(asked);
          else {
            bucket.refused.delete(asked);
            bucket.remove(name);
          }
        }
        return [...kept];
      });
    },
    list: (prefix, token) => look(`list ${told(prefix)}`, () => bucket.page(prefix, token)),
    async join(to, sources) {
      if (sources.length === 1 && choices.chance(50)) {
        await change(`copy ${told(to)}`, 8, () => bucket.write(to, bucket.joined(sources)));
        return;
      }
      const number = await change('begin a join', 3, () => bucket.beginJoin());
      // The parts are copied before it is completed, or read when it is.
      const parts = choices.chance(50) ? await change('copy parts', 2, () => bucket.joined(sources)) : undefined;
      await change(`complete ${told(to)}`, 10, () => {
        const bytes = parts ?? bucket.joined(sources);
        if (!bucket.endJoin(number)) throw unanswered('complete a join');
        bucket.write(to, bytes);
      });
    },
    removeUnfinished: (before) => change('remove unfinished', 2, () => bucket.removeUnfinished(before)),
    close() {},
  };
}
