/**
 * What a vendor of object storage has to bring; `objects.ts` makes a BlobStorage of it. Names are those below the
 * configured prefix (the vendor puts the prefix before them and takes it off again), at most 700 bytes of
 * `[A-Za-z0-9/._~-]`.
 *
 * Errors: FaultError and nothing else, made with `fault` of `faults.ts`. `unavailable`: network, 5xx, throttling, a
 * refused signature, a missing bucket, an aborted signal; `full`: a quota; `corrupt`: bytes that must be there and are
 * not, or are fewer. No message and no cause holds a secret, a header or a signed address.
 *
 * Time: every method gets a signal which the core aborts when its time is over; the request then has to end at once.
 * Inside of it a vendor may repeat what is idempotent (everything here but `join`) a few times.
 *
 * Lost answers: an effect may show although the call failed, also minutes later. The core writes a piece's name only
 * once, always with the same bytes, and never uses a deleted key again, so that late effects do no harm.
 */
import type { Readable } from 'node:stream';
import type { ByteRange } from '../../oci/names.ts';

/** What is known of a stored object. */
export interface ObjectInfo {
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970 by the store's clock. */
  readonly modifiedAt: number;
}

/** An object of a listing. */
export interface ListedObject extends ObjectInfo {
  /** Without the configured prefix. */
  readonly name: string;
}

/** An object that is being read. */
export interface OpenedObject {
  /** The asked bytes. It need not check that it is whole: the core does. Destroying it ends the request. */
  readonly body: Readable;
  /** Size of the whole object (not of the range), as the answer's headers say it. */
  readonly size: number;
}

/** The body of an object whose bytes are asked for one after another. */
export interface OpenedBody {
  /** Size of the whole object. */
  readonly size: number;
  /** How many bytes come, as the answer's headers say it. */
  readonly length: number;
  /** Some of the next bytes, at least one; 0 at the end. Rejects where it breaks off. Never called while it runs. */
  read(into: Uint8Array): Promise<number>;
  /** Ends the request where it is not at its end; also while `read` runs, which then rejects. May be called again. */
  close(): void;
}

/** One source of a `join`: the whole object, of exactly `size` bytes. */
export interface JoinSource {
  readonly name: string;
  readonly size: number;
}

/** What the store takes in one `join`. */
export interface ObjectLimits {
  /** Least bytes of every source but the last (S3: 5 MiB; compose and block lists: 1). */
  readonly minimumPart: number;
  /** Most sources (S3: 10,000; Azure: 50,000; one that goes in rounds itself: Infinity). */
  readonly mostParts: number;
  /** Most bytes of one source. At least 1 GiB. */
  readonly largestPart: number;
}

/** How a signed address is made. */
export interface PresignOptions {
  /** How long it is good for. */
  readonly seconds: number;
  /** Offered by the answer as the name of the file (Content-Disposition); already without `"` and control characters. */
  readonly filename?: string;
}

/** A bucket, or container, below one prefix. */
export interface ObjectStore {
  readonly name: 's3' | 'gcs' | 'azure' | 'memory';
  readonly limits: ObjectLimits;
  /** Undefined where there is no such object. A missing bucket is an error. */
  head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined>;
  /**
   * Resolves when the answer's headers are there; undefined where there is no such object. A range that begins at or
   * beyond the object's end is `corrupt`; one that only ends beyond it gives what there is (the core compares `size`).
   * Ranges are never empty. The signal counts until it resolves; the core never aborts it afterwards.
   */
  get(name: string, range: ByteRange | undefined, signal: AbortSignal): Promise<OpenedObject | undefined>;
  /**
   * The same as `get` for who brings the memory: quicker, where a vendor has such a way. Undefined where it did not
   * work out, for whatever reason, also where there is no such object: then `get` is asked. Ranges are never empty.
   */
  open?(name: string, range: ByteRange | undefined, signal: AbortSignal): Promise<OpenedBody | undefined>;
  /** The whole object at once, replacing what is there. `bytes` stay as they are until it settles, not longer. */
  put(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  /** Fine where it is not there. */
  delete(name: string, signal: AbortSignal): Promise<void>;
  /**
   * Deletes at most `DELETE_BATCH` objects, in one request where the store has such; gives those names that could not
   * be deleted (one that was not there is deleted). Rejects where nothing is known of any.
   */
  deleteMany(names: readonly string[], signal: AbortSignal): Promise<readonly string[]>;
  /**
   * One page of the objects whose names begin with the prefix, in any stable order, at most 1,000 of them, and the
   * token of the next page. Every object that stood there during the whole walk is on exactly one page.
   */
  list(
    prefix: string,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly objects: readonly ListedObject[]; readonly next?: string | undefined }>;
  /**
   * Makes the object `to` of the sources, in order, without their bytes passing through this process where the store
   * can do so. `to` appears whole or not at all, replacing what is there; the sources stay. At least one source, at
   * most `limits.mostParts`. A missing source, or one of another size where that shows, is `corrupt`. After a failure
   * the caller looks whether `to` is there. `scratch` is a prefix for intermediate objects; they may be left lying.
   * (S3: CopyObject, or a multipart of UploadPartCopy; GCS: compose in rounds; Azure: Put Block From URL and the block
   * list.) A request inside has a limit of its own, for example `timed(requestLimit(bytes), …)`.
   */
  join(to: string, sources: readonly JoinSource[], scratch: string, signal: AbortSignal): Promise<void>;
  /**
   * Removes what joins left that began before this time (by the store's clock) and never ended and that `list` does
   * not show: open multiparts. Gives how many. Absent where nothing can be left.
   */
  removeUnfinished?(before: number, signal: AbortSignal): Promise<number>;
  /** A GET address that anybody may use for a while; undefined where these credentials cannot sign one. */
  presign?(name: string, options: PresignOptions): Promise<string | undefined>;
  /** Ends idle connections. Called once, after the last call settled. */
  close(): void;
}

/** Most names of one `deleteMany`. */
export const DELETE_BATCH = 1000;
