/**
 * What an upload's row remembers between requests, as JSON: its first bytes while they are few, else the file they
 * are in and, where the hash can be exported, how far it had come. Plain bounded data, checked when it is read back:
 * a state that does not hold is dropped and the hash is made again from the bytes (threats.md case 9).
 */
import { createHasher, type Hasher, resumeHasher } from '../kit/hash-stream.ts';
import { FaultError } from '../oci/error.ts';
import type { Algorithm, UploadId } from '../oci/names.ts';
import type { UploadState } from '../storage/storage.ts';
import { INLINE_BYTES } from './parts.ts';

/** Few bytes, in the row itself. */
export interface InlineState {
  readonly kind: 'inline';
  readonly bytes: Buffer;
}

/** Many bytes, in storage under `file`. */
export interface FileState {
  readonly kind: 'file';
  readonly file: UploadId;
  readonly storage: UploadState;
  readonly algorithm: Algorithm;
  /** The exported state of the hash over exactly the row's bytes, and the storage's epoch that it holds in. */
  readonly hash?: { readonly state: Buffer; readonly epoch: string };
}

/** Either. */
export type StoredState = InlineState | FileState;

/** The row's text. */
export function writeState(state: StoredState): string {
  if (state.kind === 'inline') return JSON.stringify({ inline: state.bytes.toString('base64') });
  const { file, storage, algorithm, hash } = state;
  return JSON.stringify({
    file,
    storage,
    algorithm,
    ...(hash === undefined ? {} : { hash: hash.state.toString('base64'), epoch: hash.epoch }),
  });
}

/** What the row's text says; FaultError `bug` where no `writeState` wrote it. */
export function readState(text: string): StoredState {
  const value = JSON.parse(text) as Record<string, unknown>;
  if (typeof value.inline === 'string' && value.inline.length <= INLINE_BYTES * 2) {
    return { kind: 'inline', bytes: Buffer.from(value.inline, 'base64') };
  }
  const { file, storage, algorithm, hash, epoch } = value;
  if (
    typeof file !== 'string' ||
    !/^[A-Za-z0-9_-]{1,200}$/.test(file) ||
    typeof storage !== 'object' ||
    storage === null
  ) {
    throw new FaultError('bug', 'an upload row holds a state that Longshore did not write');
  }
  return {
    kind: 'file',
    file: file as UploadId,
    storage: storage as UploadState,
    algorithm: algorithm === 'sha512' ? 'sha512' : 'sha256',
    ...(typeof hash === 'string' && hash.length < 1024 && typeof epoch === 'string'
      ? { hash: { state: Buffer.from(hash, 'base64'), epoch } }
      : {}),
  };
}

/**
 * A hash that has taken exactly `size` bytes: the one in memory, the one of the state, or undefined: make it again. A
 * state of another epoch is not used: the bytes that it covers may be lost, and only reading them again can tell.
 */
export function hasherAt(size: number, file: FileState, kept: Hasher | undefined, epoch: string): Hasher | undefined {
  const { algorithm, hash } = file;
  if (size === 0) return createHasher(algorithm);
  if (kept?.algorithm === algorithm && kept.length === size) return kept;
  const resumed = hash === undefined || hash.epoch !== epoch ? undefined : resumeHasher(algorithm, hash.state);
  return resumed?.length === size ? resumed : undefined;
}
