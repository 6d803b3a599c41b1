/** The last check of every name before it becomes a path or an object's key. A bad one is a bug of the caller. */
import { parseBlobKey } from '../oci/blob-key.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobKey, ByteRange, UploadId } from '../oci/names.ts';

/** Most bytes of a record. */
export const RECORD_BYTES = 4 * 1024 * 1024;
const RECORD_NAME = /^[a-z0-9._-]+(?:\/[a-z0-9._-]+)*$/;
const RECORD_PREFIX = /^(?:[a-z0-9._-]+\/)*[a-z0-9._-]*$/;
const UPLOAD_ID = /^[A-Za-z0-9_-]{1,200}$/;
const SHARD = /^[0-9a-f]{2}$/;

/** The key, or FaultError bug. */
export function checkKey(key: BlobKey): BlobKey {
  if (typeof key !== 'string' || key.length > 300 || parseBlobKey(key) === undefined) throw bad('a blob key');
  return key;
}

/** The id, or FaultError bug. */
export function checkUploadId(id: UploadId): UploadId {
  if (typeof id !== 'string' || !UPLOAD_ID.test(id)) throw bad('an upload id');
  return id;
}

/** Whether a file's name is an upload's id. */
export function isUploadId(text: string): text is UploadId {
  return UPLOAD_ID.test(text);
}

/** The name, or FaultError bug: `[a-z0-9/._-]+`, at most 512 bytes, no segment empty, `.` or with `..` in it. */
export function checkRecordName(name: string): string {
  if (!isRecordName(name)) throw bad('a record name');
  return name;
}

/** Whether the text may name a record. */
export function isRecordName(name: string): boolean {
  return typeof name === 'string' && name.length <= 512 && RECORD_NAME.test(name) && !hasDots(name);
}

/** The beginning of a record's name, possibly empty, or FaultError bug. */
export function checkRecordPrefix(prefix: string): string {
  if (typeof prefix !== 'string' || prefix.length > 512 || !RECORD_PREFIX.test(prefix) || hasDots(prefix)) {
    throw bad('the beginning of a record name');
  }
  return prefix;
}

function hasDots(name: string): boolean {
  return name.includes('..') || name === '.' || name.startsWith('./') || name.includes('/./') || name.endsWith('/.');
}

/** The bytes of a record, or FaultError bug where there are too many. */
export function checkRecordBytes(bytes: Uint8Array): Uint8Array {
  if (bytes.length > RECORD_BYTES) throw new FaultError('bug', 'A record of more than 4 MiB was to be stored.');
  return bytes;
}

/** The shard, or FaultError bug: two lower-case hex digits. */
export function checkShard(shard: string | undefined): string | undefined {
  if (shard !== undefined && !SHARD.test(shard)) throw bad('a shard');
  return shard;
}

/** The offset, or FaultError bug. */
export function checkSize(size: number): number {
  if (!Number.isSafeInteger(size) || size < 0) throw bad('a size');
  return size;
}

/** The range within a blob of `size` bytes: FaultError corrupt where the blob is shorter, bug where it is no range. */
export function checkRange(range: ByteRange | undefined, size: number): ByteRange {
  if (range === undefined) return { start: 0, end: size };
  if (checkSize(range.start) > checkSize(range.end)) throw bad('a range');
  if (range.end > size) {
    throw new FaultError('corrupt', `A blob has ${size} bytes, fewer than the ${range.end} that are recorded for it.`);
  }
  return range;
}

function bad(what: string): FaultError {
  return new FaultError('bug', `Storage was given something that is not ${what}.`);
}
