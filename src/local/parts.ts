/** What the files of the store share. */
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import type { HashThreads } from '../kit/hash-threads.ts';
import type { Log } from '../kit/log.ts';
import { Lru } from '../kit/lru.ts';
import { singleFlight } from '../kit/single-flight.ts';
import type { BlobKey, Digest } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { TagCache } from './tag-cache.ts';
import type { UploadIds } from './upload-id.ts';

/** Which missing digests a manifest may name (decisions.md 4). */
export type Sparse = 'none' | 'indexes' | 'all';

/** A blob of at most this many bytes that comes whole is kept inline, in the commit that links it. */
export const INLINE_BYTES = 32 * 1024;

/** Stored blobs up to this size are kept in memory by their digest once read. */
export const CACHED_BLOB_BYTES = 64 * 1024;

/** Who is sent to the object store for a blob, and how long the address works. */
export interface Redirect {
  /** At least 1; no longer than bytes stay after their row went. */
  readonly seconds: number;
  allowed(client: { readonly address: string; readonly userAgent?: string | undefined }): boolean;
}

/** The shared parts. */
export interface LocalParts {
  readonly storage: BlobStorage;
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly sparse: Sparse;
  readonly uploadIds: UploadIds;
  /** Absent: blobs are always served from here. */
  readonly redirect?: Redirect | undefined;
  /** This process has the only writer, so what no request of it holds is held by nobody. */
  readonly soleWriter: boolean;
  readonly tagCache: TagCache;
  /** Bytes by digest: never believed about existence or access. */
  readonly blobCache: Lru<Digest, Uint8Array>;
  /** When stored bytes were last found right by this process, monotonic milliseconds. */
  readonly verified: Lru<BlobKey, number>;
  /** What stored bytes are hashed with on their way out. */
  readonly hashing: HashThreads;
  /** Reads stored bytes again that were wrong: once for all who ask at the same time. */
  recheck(key: BlobKey, work: () => Promise<Error>): Promise<Error>;
  /** The last tick that was seen. */
  tick(): number;
  /** Work that a request does not wait for, but `close` does; a failure is logged. */
  background(work: Promise<unknown>, what: string): void;
}

/** The caches of a store. */
export function newCaches(): Pick<LocalParts, 'tagCache' | 'blobCache' | 'verified' | 'recheck'> {
  return {
    tagCache: new TagCache(),
    blobCache: new Lru<Digest, Uint8Array>({ count: 4096, weight: 8 * 1024 * 1024 }, (bytes) => bytes.length),
    verified: new Lru<BlobKey, number>({ count: 8192 }),
    recheck: singleFlight<Error>(),
  };
}
