/**
 * Bytes by key. What an implementation must promise is in `storage.contract.ts`; every method throws FaultError and
 * nothing else. Sizes are bytes, times milliseconds, ranges half-open.
 */
import type { Readable } from 'node:stream';
import type { RandomReader } from '../kit/buffers.ts';
import type { BlobKey, ByteRange, UploadId } from '../oci/names.ts';

/** What lies under a key. */
export interface StoredBlob {
  readonly key: BlobKey;
  readonly size: number;
  readonly modifiedAt: number;
}

/** What another instance needs to go on (objects: upload id, part size, tail key); opaque, at most 4 KiB as JSON. */
export type UploadState = Readonly<Record<string, string | number>>;

/** An upload's place. */
export interface Appended {
  readonly size: number;
  readonly state: UploadState;
}

/** Records: small whole objects beside the blobs (index mirror, journal of dead keys). Names `[a-z0-9/._-]+`, at most 512 bytes, no `..`. At most 4 MiB each. */
export interface Records {
  get(name: string): Promise<Uint8Array | undefined>;
  /** Whole-object replace, durable when it resolves. */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** Fine where it is not there. */
  delete(name: string): Promise<void>;
  /** Unordered. */
  list(prefix: string): AsyncIterable<string>;
}

/** A place for bytes. */
export interface BlobStorage {
  readonly name: 'fs' | 's3' | 'gcs' | 'azure' | 'memory';
  /**
   * What an append stored is sure to be there while this stays the same: another value means that bytes may be lost
   * that no commit has made durable (files: the boot of the machine).
   */
  readonly epoch: string;
  stat(key: BlobKey): Promise<StoredBlob | undefined>;
  /** The bytes as a stream; FaultError `corrupt` where the key is missing or shorter than the range. */
  read(key: BlobKey, range?: ByteRange): Promise<Readable>;
  /**
   * The bytes for who brings the memory; FaultError `corrupt` where the key is missing. Positions count from the blob's
   * start; with a range nothing outside of it need be readable, and a store across a network sends no more than that.
   * Reads in order are quick everywhere, others may cost a request each.
   */
  openRandom?(key: BlobKey, range?: ByteRange): Promise<RandomReader>;
  presign?(
    key: BlobKey,
    options: { seconds: number; filename?: string; range?: ByteRange },
  ): Promise<string | undefined>;
  /** Whole and durable: the spill job. Bytes already there are replaced by the same bytes. */
  put(key: BlobKey, bytes: Uint8Array): Promise<StoredBlob>;
  /** At the first stored byte; with a `key` (digest known) an object store streams to its final place. */
  begin(id: UploadId, hint: { key?: BlobKey; size?: number }): Promise<Appended>;
  /**
   * Stores the body behind `at.size` bytes (whatever lies beyond is cut off first) and says where it ended. When the
   * body or the signal breaks off, what arrived whole stays and is reported by `UploadBroken`. Every buffer that the
   * body yields is only valid until the next one is asked for. With `hash` each byte passes the hash in the same pass.
   */
  append(id: UploadId, at: Appended, body: AsyncIterable<Uint8Array>, options: AppendOptions): Promise<Appended>;
  /**
   * Appends of two writers to one upload never disturb one another: what each stores only the state names that it gives.
   * So an upload can be taken over as it stands; elsewhere its bytes are first copied to a new one.
   */
  readonly appendsApart?: boolean;
  /** Durable under `key` (fs: sync, link, sync of the folder; objects: copy); bytes already there are fine. The upload stays until `discard`. */
  commit(id: UploadId, at: Appended, key: BlobKey): Promise<StoredBlob>;
  /** What was uploaded so far, from the start to `at.size`: for a hash that has to be made again. */
  readUpload(id: UploadId, at: Appended): Promise<Readable>;
  /** Removes the upload's bytes; fine where there are none. */
  discard(id: UploadId, state: UploadState): Promise<void>;
  /** Whether it was there. Durable. */
  delete(key: BlobKey): Promise<boolean>;
  /**
   * Deletes many at once where the store has a batch for it, without telling whether they were there; gives those that
   * are gone now, in the order asked. What is left out could not be deleted: try again. FaultError where none could.
   */
  deleteMany?(keys: readonly BlobKey[]): Promise<readonly BlobKey[]>;
  /** Unordered. `shard`: the hash's first two hex digits. */
  list(shard?: string): AsyncIterable<StoredBlob>;
  listUploads(): AsyncIterable<UploadId>;
  /**
   * Uploads to which nothing was written for so many milliseconds (by the store's clock; at least a day, or a running
   * commit may be disturbed): for a sweep beside other instances, which still asks the database whether a row names
   * one. At the end of the walk it removes what commits that began before and never ended left behind. Absent where
   * nobody shares the storage.
   */
  idleUploads?(milliseconds: number): AsyncIterable<UploadId>;
  readonly records: Records;
  /** Whether the place can be reached and written to; FaultError otherwise. For readiness. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** How an append runs. */
export interface AppendOptions {
  readonly signal: AbortSignal;
  /** Fed with every byte, in order, in the same pass. */
  readonly hash?: { update(bytes: Uint8Array): void | Promise<void> };
  /** What was appended is synced before it resolves: for a hash state that is to be trusted after a power cut. */
  readonly durable?: boolean;
}
