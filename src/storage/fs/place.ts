/**
 * What the parts of the file driver share: the root and its three folders, the operations, folder syncs that
 * concurrent writers share, and whole-file writes. Every path of the driver is made here, from checked names only.
 */
import path from 'node:path';
import type { Clock } from '../../kit/clock.ts';
import { failpoint } from '../../kit/failpoint.ts';
import { randomId } from '../../kit/id.ts';
import type { Log } from '../../kit/log.ts';
import type { BlobKey, UploadId } from '../../oci/names.ts';
import { errno } from '../faults.ts';
import { checkKey, checkRecordName, checkUploadId } from '../names.ts';
import { type Home, home } from './home.ts';
import { FLAGS, type Operations } from './operations.ts';
import { type Room, room } from './room.ts';

/** `full`: what is acknowledged survives a power cut. `relaxed`: it survives the process only; syncs are skipped. */
export type Durability = 'full' | 'relaxed';

/** See above. */
export interface Place {
  readonly root: string;
  readonly blobs: string;
  readonly uploads: string;
  readonly records: string;
  readonly operations: Operations;
  readonly durability: Durability;
  readonly log: Log;
  /** Whether the root is still the folder that was opened. */
  readonly home: Home;
  /** Room for what is pushed. */
  readonly room: Room;
  blobPath(key: BlobKey): string;
  uploadPath(id: UploadId): string;
  recordPath(name: string): string;
  /** A name for a temporary file; `removeStale` finds what a crash left behind. */
  temporaryPath(): string;
  /** Makes the folder and what is missing above it, below the root (and at the opening the root); durable. */
  makeFolder(folder: string): Promise<void>;
  /** Durable entries of the folder: waits for a sync that began after the call. */
  syncFolder(folder: string): Promise<void>;
  /** The same, and the entries of the folders above it up to the root, each of these once in the process's life. */
  settleFolder(folder: string): Promise<void>;
  syncFile(fd: number): Promise<void>;
  /** Opens, works, closes whatever happens. */
  withFile<T>(file: string, flags: number, work: (fd: number) => Promise<T>): Promise<T>;
  writeAll(fd: number, bytes: Uint8Array, length: number, position: number): Promise<void>;
  /** The whole file, durable and in the folder that was opened: written aside, synced, renamed, folder synced. */
  replaceFile(file: string, bytes: Uint8Array): Promise<void>;
  /** Removes the file, durable; whether it was there. */
  removeFile(file: string): Promise<boolean>;
}

/** What `place` is made of. */
export interface PlaceParts {
  readonly root: string;
  readonly durability: Durability;
  readonly operations: Operations;
  readonly log: Log;
  readonly clock: Clock;
}

const SETTLED_REMEMBERED = 10_000;

interface FolderSync {
  running: Promise<void>;
  next: Promise<void> | undefined;
}

/** The place; makes nothing on disk by itself. */
export function place(parts: PlaceParts): Place {
  const { operations, durability, log } = parts;
  const root = path.resolve(parts.root);
  const [blobs, uploads, records] = [path.join(root, 'blobs'), path.join(root, 'uploads'), path.join(root, 'records')];
  const own = home(root, [blobs, uploads, records], operations, log);
  const settled = new Set<string>();
  const syncing = new Map<string, FolderSync>();

  async function withFile<T>(file: string, flags: number, work: (fd: number) => Promise<T>): Promise<T> {
    const fd = await operations.open(file, flags, 0o600);
    let result: T;
    try {
      result = await work(fd);
    } catch (error) {
      await operations.close(fd).catch(() => undefined);
      throw error;
    }
    await operations.close(fd);
    return result;
  }

  async function syncNow(folder: string): Promise<void> {
    failpoint('fs.syncdir.before');
    await withFile(folder, FLAGS.folder, (fd) => operations.sync(fd));
    failpoint('fs.syncdir.after');
  }

  function startSync(folder: string): FolderSync {
    const sync: FolderSync = { running: syncNow(folder), next: undefined };
    syncing.set(folder, sync);
    const done = (): void => {
      if (syncing.get(folder) === sync) syncing.delete(folder);
    };
    sync.running.then(done, done);
    return sync;
  }

  function syncFolder(folder: string): Promise<void> {
    if (durability === 'relaxed') return Promise.resolve();
    const sync = syncing.get(folder);
    if (sync === undefined) return startSync(folder).running;
    // The running one may have begun before the caller's change; everybody who comes meanwhile shares the next.
    sync.next ??= sync.running.catch(() => undefined).then(() => startSync(folder).running);
    return sync.next;
  }

  async function settleFolder(folder: string): Promise<void> {
    const above: string[] = [];
    for (let at = folder; at !== root && !settled.has(at); at = path.dirname(at)) above.push(at);
    const all = [folder, ...above.map((at) => path.dirname(at))].map(syncFolder);
    // All have ended when this does, whatever one of them says.
    await Promise.allSettled(all);
    await Promise.all(all);
    if (settled.size > SETTLED_REMEMBERED) settled.clear();
    for (const at of above) settled.add(at);
  }

  async function makeFolder(folder: string): Promise<void> {
    // Never the storage itself, where it was moved away.
    await own.check();
    try {
      await operations.mkdir(folder, 0o700);
    } catch (error) {
      if ((await own.isMissing(error)) && folder !== path.dirname(folder)) {
        await makeFolder(path.dirname(folder));
        return makeFolder(folder);
      }
      if (errno(error) !== 'EEXIST') throw error;
    }
    await syncFolder(path.dirname(folder));
  }

  async function writeAll(fd: number, bytes: Uint8Array, length: number, position: number): Promise<void> {
    for (let at = 0; at < length; ) at += await operations.write(fd, bytes, at, length - at, position + at);
  }

  const syncFile = (fd: number): Promise<void> =>
    durability === 'relaxed' ? Promise.resolve() : operations.syncData(fd);
  const temporaryPath = (): string => path.join(uploads, `${Buffer.from(randomId(12)).toString('hex')}.tmp`);

  async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
    const temporary = temporaryPath();
    try {
      await withFile(temporary, FLAGS.create, async (fd) => {
        await writeAll(fd, bytes, bytes.length, 0);
        await syncFile(fd);
      });
      await intoFolder(file, () => operations.rename(temporary, file));
    } catch (error) {
      await operations.unlink(temporary).catch(() => undefined);
      throw error;
    }
    await settleFolder(path.dirname(file));
    await own.check();
  }

  /** Runs a step that needs the file's folder, making it where it is missing. */
  async function intoFolder(file: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      if (!(await own.isMissing(error))) throw error;
      await makeFolder(path.dirname(file));
      await step();
    }
  }

  async function removeFile(file: string): Promise<boolean> {
    let there = true;
    try {
      await operations.unlink(file);
    } catch (error) {
      if (!(await own.isMissing(error))) throw error;
      there = false;
    }
    // Also where nothing was there: an earlier try may have removed it and failed at the sync.
    await syncFolder(path.dirname(file)).catch((error: unknown) => {
      if (there || errno(error) !== 'ENOENT') throw error;
    });
    return there;
  }

  return {
    root,
    blobs,
    uploads,
    records,
    operations,
    durability,
    log,
    home: own,
    room: room(root, operations, parts.clock),
    blobPath: (key) => path.join(blobs, checkKey(key)),
    uploadPath: (id) => path.join(uploads, checkUploadId(id)),
    recordPath: (name) => path.join(records, checkRecordName(name)),
    temporaryPath,
    makeFolder,
    syncFolder,
    settleFolder,
    syncFile,
    withFile,
    writeAll,
    replaceFile,
    removeFile,
  };
}
