/**
 * A `BlobStorage` in memory that behaves as a disk does: what was not synced is lost at a power cut, a deletion may
 * strike long after whoever asked for it gave up, and every call is a point or two.
 */
import { Readable } from 'node:stream';
import { FaultError } from '../../src/oci/error.ts';
import type { BlobKey, UploadId } from '../../src/oci/names.ts';
import type { Appended, BlobStorage, StoredBlob } from '../../src/storage/storage.ts';
import type { Choices } from '../support/random.ts';
import type { Process, Scheduler } from './scheduler.ts';

/** Bytes under a key. */
export interface Held {
  readonly bytes: Buffer;
  durable: boolean;
}

/** Where the processes of a run keep their bytes, as the harness looks at it. */
export interface ModelDisk {
  readonly blobs: ReadonlyMap<BlobKey, Held>;
  readonly uploads: { readonly size: number };
  /** More than one: bytes that were not synced may be lost. */
  readonly boots: number;
  /** Blobs whose bytes went. */
  readonly deletions: number;
  /** What an object store counts: effects that struck late, requests that did not go well, joins that ended. */
  readonly late?: number;
  readonly lostAnswers?: number;
  readonly joins?: number;
  /** `process key`: the store refused that process to delete it, when it asked last; absent where it refuses none. */
  readonly refused?: ReadonlySet<string>;
  /** What is wrong with the uploads whose rows say this; absent where bytes that were not synced may be lost. */
  brokenUploads?(states: readonly string[]): string | undefined;
  /** Called before bytes go. */
  onDelete: (key: BlobKey) => void;
  /** The bytes are gone, as disks lose them. */
  lose(key: BlobKey): void;
  powerCut(choices: Choices): void;
  /** The storage of one process. */
  open(scheduler: Scheduler, process: Process, choices: Choices): BlobStorage | Promise<BlobStorage>;
}

/** The disk that the processes of a run share. */
export class Disk implements ModelDisk {
  readonly blobs = new Map<BlobKey, Held>();
  /** Deleted, but not yet for good. */
  readonly #ghosts = new Map<BlobKey, Held>();
  readonly uploads = new Map<UploadId, { bytes: Buffer; synced: number }>();
  readonly records = new Map<string, Buffer>();
  boots = 1;
  /** Deletions that reached the disk. */
  deletions = 0;
  /** Called before bytes go. */
  onDelete: (key: BlobKey) => void = () => undefined;

  hold(key: BlobKey, bytes: Buffer): void {
    const there = this.blobs.get(key);
    this.blobs.set(key, there ?? { bytes, durable: false });
    this.#ghosts.delete(key);
  }

  sync(key: BlobKey): void {
    const held = this.blobs.get(key);
    if (held !== undefined) held.durable = true;
  }

  remove(key: BlobKey): boolean {
    const held = this.blobs.get(key);
    if (held === undefined) return false;
    this.onDelete(key);
    this.deletions++;
    this.blobs.delete(key);
    if (held.durable) this.#ghosts.set(key, held);
    return true;
  }

  lose(key: BlobKey): void {
    this.blobs.delete(key);
  }

  open(scheduler: Scheduler, process: Process, choices: Choices): BlobStorage {
    return storageOf(this, scheduler, process, choices);
  }

  syncRemoval(key: BlobKey): void {
    this.#ghosts.delete(key);
  }

  /** Everything that was not synced is there, gone or torn. */
  powerCut(choices: Choices): void {
    this.boots++;
    for (const [key, held] of [...this.blobs]) if (!held.durable && choices.chance(60)) this.blobs.delete(key);
    for (const [key, held] of [...this.#ghosts])
      if (choices.chance(50) && !this.blobs.has(key)) this.blobs.set(key, held);
    this.#ghosts.clear();
    for (const held of this.blobs.values()) held.durable = true;
    for (const [id, upload] of [...this.uploads]) {
      const fate = choices.below(4);
      if (upload.synced === upload.bytes.length || fate === 0) continue;
      if (fate === 1) this.uploads.delete(id);
      else if (fate === 2) upload.bytes = upload.bytes.subarray(0, choices.below(upload.bytes.length + 1));
      else
        upload.bytes = Buffer.concat([
          upload.bytes.subarray(0, upload.synced),
          Buffer.alloc(upload.bytes.length - upload.synced),
        ]);
    }
  }
}

function missing(what: string): FaultError {
  return new FaultError('corrupt', `${what} is missing on the model's disk.`);
}

/** The disk as one process sees it. */
export function storageOf(disk: Disk, scheduler: Scheduler, process: Process, choices: Choices): BlobStorage {
  const at = <T>(
    label: string,
    apply: () => T | Promise<T>,
    atKill: 'all-or-nothing' | 'may-strike-later' = 'all-or-nothing',
  ) => scheduler.at(process, label, async () => apply(), { atKill });
  const described = (key: BlobKey, { bytes }: Held): StoredBlob => ({ key, size: bytes.length, modifiedAt: 0 });
  const hold = (key: BlobKey): Held => {
    const held = disk.blobs.get(key);
    if (held === undefined) throw missing(key);
    return held;
  };
  const uploaded = (id: UploadId, size: number): { bytes: Buffer; synced: number } => {
    const upload = disk.uploads.get(id);
    if (upload === undefined || upload.bytes.length < size) throw missing('an upload');
    return upload;
  };
  const epoch = String(disk.boots);
  /** As an object store does it: some strike later without a word. */
  const deleteMany = async (keys: readonly BlobKey[]): Promise<readonly BlobKey[]> => {
    const late = new Set(scheduler.direct ? [] : keys.filter(() => choices.chance(15)));
    for (const key of late) scheduler.strikeLater(`delete ${key}`, async () => void disk.remove(key));
    const now = keys.filter((key) => !late.has(key));
    await at(
      'delete many',
      () => {
        for (const key of now) disk.remove(key);
      },
      'may-strike-later',
    );
    await at('delete many sync', () => {
      for (const key of now) disk.syncRemoval(key);
    });
    return now;
  };
  return {
    name: 'memory',
    epoch,
    stat: (key) =>
      at('stat', () => {
        const held = disk.blobs.get(key);
        return held === undefined ? undefined : described(key, held);
      }),
    read: (key, range) =>
      at('read', () => {
        const { bytes } = hold(key);
        return Readable.from([bytes.subarray(range?.start ?? 0, range?.end ?? bytes.length)], { objectMode: false });
      }),
    openRandom: (key) =>
      at('open', () => {
        const { bytes } = hold(key);
        return {
          read: async (into: Uint8Array, position: number) => {
            const part = bytes.subarray(position, position + into.length);
            into.set(part);
            return part.length;
          },
          close: async () => undefined,
        };
      }),
    async put(key, bytes) {
      const own = Buffer.from(bytes);
      await at('put', () => disk.hold(key, own), 'may-strike-later');
      return at('put sync', () => {
        disk.sync(key);
        return { key, size: own.length, modifiedAt: 0 };
      });
    },
    begin: (id) =>
      at('begin', () => {
        disk.uploads.set(id, { bytes: Buffer.alloc(0), synced: 0 });
        return { size: 0, state: {} };
      }),
    append: (id, from, body, options) =>
      at('append', async (): Promise<Appended> => {
        const upload = uploaded(id, from.size);
        const chunks = [upload.bytes.subarray(0, from.size)];
        for await (const chunk of body) {
          await options.hash?.update(chunk);
          chunks.push(Buffer.from(chunk));
        }
        upload.bytes = Buffer.concat(chunks);
        upload.synced = Math.min(upload.synced, from.size);
        return { size: upload.bytes.length, state: from.state };
      }),
    async commit(id, from, key) {
      const bytes = await at('commit sync', () => {
        const upload = uploaded(id, from.size);
        upload.bytes = upload.bytes.subarray(0, from.size);
        upload.synced = from.size;
        return upload.bytes;
      });
      await at(
        'commit link',
        () => {
          const there = disk.blobs.get(key);
          if (there !== undefined && there.bytes.length !== bytes.length) throw missing('the same blob');
          disk.hold(key, bytes);
        },
        'may-strike-later',
      );
      return at('commit syncdir', () => {
        disk.sync(key);
        return { key, size: bytes.length, modifiedAt: 0 };
      });
    },
    readUpload: (id, from) =>
      at('read upload', () => {
        const { bytes } = uploaded(id, from.size);
        return Readable.from(from.size === 0 ? [] : [bytes.subarray(0, from.size)], { objectMode: false });
      }),
    discard: (id) => at('discard', () => void disk.uploads.delete(id), 'may-strike-later'),
    async delete(key) {
      if (!scheduler.direct && choices.chance(15)) {
        scheduler.strikeLater(`delete ${key}`, async () => void disk.remove(key));
        await at('delete without an answer', () => {
          throw new FaultError('timeout', 'the model’s disk gave no answer');
        });
      }
      const there = await at('delete', () => disk.remove(key), 'may-strike-later');
      await at('delete sync', () => disk.syncRemoval(key));
      return there;
    },
    ...(choices.chance(50) ? { deleteMany } : {}),
    async *list(shard) {
      const all = await at('list', () =>
        [...disk.blobs].filter(([key]) => shard === undefined || key.split('/')[1] === shard),
      );
      for (const [key, held] of all) yield described(key, held);
    },
    async *listUploads() {
      yield* await at('list uploads', () => [...disk.uploads.keys()]);
    },
    records: {
      get: (name) => at('record get', () => disk.records.get(name)),
      put: (name, bytes) => at('record put', () => void disk.records.set(name, Buffer.from(bytes))),
      delete: (name) => at('record delete', () => void disk.records.delete(name)),
      async *list(prefix) {
        yield* await at('record list', () => [...disk.records.keys()].filter((name) => name.startsWith(prefix)));
      },
    },
    ping: async () => undefined,
    close: async () => undefined,
  };
}
