/**
 * Upload ids: POST commits nothing, so the id itself proves that it was given, to whom and for which repository:
 * 16 random bytes, the algorithm, the tick, and an HMAC over them with the repository and the principal, each field
 * behind its length (threats.md cases 8 and 10). The random bytes are the id of the row that the first byte makes.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { randomId } from '../kit/id.ts';
import type { Algorithm, RepositoryName, UploadId } from '../oci/names.ts';
import { uploadUnknown } from './commands/upload-commands.ts';

const RANDOM = 16;
const HEAD = RANDOM + 1 + 6;
const MAC = 16;
const TEXT = Math.ceil(((HEAD + MAC) * 4) / 3);

/** An id that was checked. */
export interface OpenedUploadId {
  readonly text: UploadId;
  /** The row's id. */
  readonly id: Uint8Array;
  /** What the POST named, if it did. */
  readonly algorithm: Algorithm | undefined;
  /** The tick of the POST. */
  readonly tick: number;
}

/** Makes and opens ids under one key. */
export interface UploadIds {
  make(repository: RepositoryName, principal: string, tick: number, algorithm?: Algorithm): UploadId;
  /** BLOB_UPLOAD_UNKNOWN for whatever this key did not make for this repository and principal. */
  open(repository: RepositoryName, principal: string, text: string): OpenedUploadId;
}

/** `key`: at least 32 secret bytes, the same on every instance. */
export function uploadIds(key: Uint8Array): UploadIds {
  const sign = (head: Uint8Array, repository: RepositoryName, principal: string): Buffer => {
    const text = `${repository.length}:${repository}${principal.length}:${principal}`;
    const signed = Buffer.allocUnsafe(HEAD + Buffer.byteLength(text));
    signed.set(head);
    signed.write(text, HEAD);
    return createHmac('sha256', key).update(signed).digest().subarray(0, MAC);
  };
  return {
    make(repository, principal, tick, algorithm) {
      const head = Buffer.alloc(HEAD);
      head.set(randomId(RANDOM));
      head[RANDOM] = algorithm === undefined ? 0 : algorithm === 'sha256' ? 1 : 2;
      head.writeUIntBE(tick, RANDOM + 1, 6);
      return Buffer.concat([head, sign(head, repository, principal)]).toString('base64url') as UploadId;
    },
    open(repository, principal, text) {
      if (text.length !== TEXT) throw uploadUnknown();
      const bytes = Buffer.from(text, 'base64url');
      if (bytes.length !== HEAD + MAC || bytes.toString('base64url') !== text) throw uploadUnknown();
      const head = bytes.subarray(0, HEAD);
      if (!timingSafeEqual(bytes.subarray(HEAD), sign(head, repository, principal))) throw uploadUnknown();
      return {
        text: text as UploadId,
        id: new Uint8Array(head.subarray(0, RANDOM)),
        algorithm: head[RANDOM] === 1 ? 'sha256' : head[RANDOM] === 2 ? 'sha512' : undefined,
        tick: head.readUIntBE(RANDOM + 1, 6),
      };
    },
  };
}
