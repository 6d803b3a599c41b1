/**
 * A place for backups: blobs once by their digest, and *points*, each a whole backup. Records:
 *   format.json        what this place is, and of which installation
 *   points/ID.json     a backup, written last: without it there is none
 *   dumps/ID/…         its rows and its list of blobs
 *   locks/ID.json      who works here: backups beside one another, or one prune alone
 *   damaged/HEX        a blob that was found damaged: the next backup copies it again
 */
import { createHash } from 'node:crypto';
import { type Clock, every } from '../kit/clock.ts';
import { randomId } from '../kit/id.ts';
import { blobKey } from '../oci/blob-key.ts';
import { hexOf, isDigest } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { isPoint } from './backup-point.ts';
import type { Piece } from './backup-records.ts';

/** A table in a dump. `counter`: the column whose numbers the database gives, and the highest that it gave. */
export interface DumpedTable {
  readonly name: string;
  readonly columns: readonly string[];
  readonly rows: number;
  readonly counter?: { readonly column: string; readonly value: number };
  readonly pieces: readonly Piece[];
}

/** A backup. Times are wall milliseconds. */
export interface Point {
  readonly format: 1;
  readonly id: string;
  /** When its snapshot was taken. */
  readonly at: number;
  readonly program: string;
  /** The number of the last migration, and its name. */
  readonly schema: number;
  readonly schemaName: string;
  readonly installation: string;
  readonly epoch: number;
  readonly tick: number;
  readonly database: 'sqlite' | 'postgres';
  readonly tables: readonly DumpedTable[];
  /** Lines `KEY SIZE` of the installation's storage, by the first two hex digits of their hash. */
  readonly blobs: { readonly count: number; readonly bytes: number; readonly pieces: readonly Piece[] };
  /** False: bytes were missing or damaged where they were copied from. `missing` names the first of them. */
  readonly complete: boolean;
  readonly missingCount: number;
  readonly missing: readonly string[];
}

/** Who works in the place. */
interface Lock {
  readonly kind: 'backup' | 'prune';
  readonly at: number;
}

/** A claim on the place. */
export interface HeldLock {
  /** FaultError where somebody took this process for dead meanwhile. */
  check(): Promise<void>;
  end(): Promise<void>;
}

const FORMAT = 'format.json';
const POINT = /^points\/([a-z0-9-]+)\.json$/;
/** A lock that was not renewed for so long belongs to a process that died. */
const LOCK_MILLISECONDS = 15 * 60_000;
const RENEW_MILLISECONDS = 60_000;

/** The place, its storage opened by the caller. */
export interface BackupPlace {
  readonly storage: BlobStorage;
  /** Makes it a place for this installation's backups, or sees that it is one. FaultError. */
  claim(installation: string): Promise<void>;
  /** FaultError where there are no backups here. */
  check(): Promise<void>;
  /** Every point, oldest first. Records that are damaged are told by `onDamaged`; without it they end it. */
  points(onDamaged?: (record: string) => void): Promise<readonly Point[]>;
  putPoint(point: Point): Promise<void>;
  removePoint(id: string): Promise<void>;
  lock(kind: Lock['kind'], name: string): Promise<HeldLock>;
  /** Blobs that were found damaged here. */
  damaged(): Promise<ReadonlySet<Digest>>;
  markDamaged(digest: Digest): Promise<void>;
  clearDamaged(digest: Digest): Promise<void>;
  /** Records of dumps by the id of their backup. */
  dumps(): Promise<ReadonlyMap<string, readonly string[]>>;
}

/** A name for a backup that sorts by its time. */
export function pointId(now: number): string {
  const time = new Date(now).toISOString().replaceAll(/[-:.]/g, '').toLowerCase();
  return `${time}-${Buffer.from(randomId(3)).toString('hex')}`;
}

/** The place in a storage. */
export function backupPlace(storage: BlobStorage, clock: Clock): BackupPlace {
  const { records } = storage;

  async function readFormat(): Promise<{ readonly installation: string } | undefined> {
    const bytes = await records.get(FORMAT);
    if (bytes === undefined) return undefined;
    const parsed = parse(bytes) as { format?: unknown; installation?: unknown } | undefined;
    if (parsed === undefined || typeof parsed.installation !== 'string')
      throw new FaultError('corrupt', `The record ${FORMAT} of the place for backups is damaged.`);
    if (parsed.format !== 1)
      throw new FaultError('unavailable', 'The backups there were made by a newer Longshore: use that one.');
    return { installation: parsed.installation };
  }

  async function refuseStrangers(): Promise<void> {
    for await (const _ of records.list('')) throw notBackups();
    for await (const _ of storage.list()) throw notBackups();
  }

  async function putLock(name: string, kind: Lock['kind']): Promise<void> {
    await records.put(name, Buffer.from(JSON.stringify({ kind, at: clock.now() } satisfies Lock)));
  }

  /** Who else works here; locks of dead processes are removed. */
  async function others(own: string): Promise<Lock | undefined> {
    let found: Lock | undefined;
    for await (const name of records.list('locks/')) {
      if (name === own) continue;
      const lock = parse((await records.get(name)) ?? new Uint8Array()) as Lock | undefined;
      if (lock === undefined || lock.at < clock.now() - LOCK_MILLISECONDS) await records.delete(name);
      else if (found === undefined || lock.kind === 'prune') found = lock;
    }
    return found;
  }

  return {
    storage,
    async claim(installation) {
      const format = await readFormat();
      if (format !== undefined && format.installation !== installation)
        throw new FaultError(
          'unavailable',
          'That place holds the backups of another installation: give each a place of its own.',
        );
      if (format !== undefined) return;
      await refuseStrangers();
      await records.put(FORMAT, Buffer.from(JSON.stringify({ format: 1, installation })));
    },
    async check() {
      if ((await readFormat()) === undefined)
        throw new FaultError('unavailable', 'There are no backups in that place.');
    },
    async points(onDamaged) {
      const found: Point[] = [];
      for await (const name of records.list('points/')) {
        const id = POINT.exec(name)?.[1];
        if (id === undefined) continue;
        const point = readPoint(id, (await records.get(name)) ?? new Uint8Array());
        if (point !== undefined) found.push(point);
        else if (onDamaged !== undefined) onDamaged(name);
        else throw new FaultError('corrupt', `The backup's record ${name} is damaged.`);
      }
      return found.sort((a, b) => (a.id < b.id ? -1 : 1));
    },
    async putPoint(point) {
      const text = JSON.stringify(point);
      const sum = createHash('sha256').update(text).digest('hex');
      await records.put(`points/${point.id}.json`, Buffer.from(`${sum}\n${text}\n`));
    },
    removePoint: (id) => records.delete(`points/${id}.json`),
    async lock(kind, name) {
      const record = `locks/${name}.json`;
      await putLock(record, kind);
      // Written first, then looked: of two that begin at once at least one sees the other.
      const other = await others(record);
      if (other !== undefined && (kind === 'prune' || other.kind === 'prune')) {
        await records.delete(record);
        const seen = new Date(other.at).toISOString();
        throw new FaultError(
          'unavailable',
          `A ${other.kind} is under way in that place (last seen ${seen}). Try again when it has ended; if it was killed, 15 minutes after that.`,
        );
      }
      let [renewedAt, renewing] = [clock.now(), Promise.resolve()];
      const isLate = (): boolean => clock.now() - renewedAt > LOCK_MILLISECONDS;
      const stop = every(RENEW_MILLISECONDS, () => {
        renewing = (async () => {
          if (isLate() || (await records.get(record)) === undefined) return;
          await putLock(record, kind);
          renewedAt = clock.now();
        })().catch(() => undefined);
      });
      return {
        async check() {
          if (isLate() || (await records.get(record)) === undefined)
            throw new FaultError('unavailable', 'Another process took this one for dead in the place for backups.');
        },
        async end() {
          stop();
          await renewing;
          await records.delete(record);
        },
      };
    },
    async damaged() {
      const found = new Set<Digest>();
      for await (const name of records.list('damaged/')) {
        const digest = name.slice('damaged/'.length).replace('-', ':');
        if (isDigest(digest)) found.add(digest);
      }
      return found;
    },
    markDamaged: (digest) => records.put(damagedRecord(digest), Buffer.from('')),
    clearDamaged: (digest) => records.delete(damagedRecord(digest)),
    async dumps() {
      const found = new Map<string, string[]>();
      for await (const name of records.list('dumps/')) {
        const id = name.split('/')[1]!;
        const own = found.get(id) ?? [];
        own.push(name);
        found.set(id, own);
      }
      return found;
    },
  };
}

/** Where a blob lies in a place for backups. */
export const backupKey = (digest: Digest) => blobKey(digest, 0);

/** The point of a record, or undefined where it is damaged, or is none. */
function readPoint(id: string, bytes: Uint8Array): Point | undefined {
  const text = Buffer.from(bytes).toString('utf8');
  const line = text.indexOf('\n');
  const body = text.slice(line + 1, -1);
  if (line !== 64 || createHash('sha256').update(body).digest('hex') !== text.slice(0, 64)) return undefined;
  const point = parse(Buffer.from(body));
  return isPoint(id, point) ? (point as Point) : undefined;
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}

function damagedRecord(digest: Digest): string {
  return `damaged/${digest.slice(0, 6)}-${hexOf(digest)}`;
}

function notBackups(): FaultError {
  return new FaultError(
    'unavailable',
    'That place is not empty and holds no backups: give an empty folder, or a prefix of its own in a bucket.',
  );
}
