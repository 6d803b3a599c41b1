/**
 * How bytes become a blob: small ones inline in the commit that links them, large ones reserved, made durable under
 * their key and then linked, in that order (design.md §3). Whoever comes second for the same digest adopts the key.
 */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { failpoint } from '../kit/failpoint.ts';
import { createHasher, type Hasher } from '../kit/hash-stream.ts';
import { randomId } from '../kit/id.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestFromHex, digestToBytes } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { OCTET_STREAM } from '../oci/media-types.ts';
import type { Descriptor, Digest, RepositoryName, UploadId } from '../oci/names.ts';
import { type Call, factsOf } from '../registry/call.ts';
import type { Guards } from '../registry/guard.ts';
import type { RegistryWriter } from '../registry/registry.ts';
import { UploadBroken } from '../storage/faults.ts';
import type { Appended } from '../storage/storage.ts';
import { blobLink, blobMount, blobPut, blobReserve, type UploadEnd } from './commands/blob-commands.ts';
import { INLINE_BYTES, type LocalParts } from './parts.ts';
import { peek } from './peek.ts';
import { isStored } from './stored-bytes.ts';

/** How often a push starts over when its key dies under it. */
const ATTEMPTS = 3;

/** A push that has its bytes: which blob, where to, and the upload that ends with it. */
export interface Target {
  readonly call: Call;
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly upload: UploadEnd | null;
  readonly guards: Guards;
}

/** The error for bytes that hash to something else. */
export function digestMismatch(expected: Digest, actual: Digest): RegistryError {
  return new RegistryError(
    'DIGEST_INVALID',
    `The bytes hash to ${actual}, not to the ${expected} that the request names. Push them again.`,
    {
      detail: { expected, actual },
    },
  );
}

function pushArgs(
  target: Target,
  size: number,
): {
  repository: RepositoryName;
  digest: Uint8Array;
  size: number;
  upload: UploadEnd | null;
  guards: Guards;
  facts: ReturnType<typeof factsOf>;
} {
  const { call, repository, digest, upload, guards } = target;
  return { repository, digest: digestToBytes(digest), size, upload, guards, facts: factsOf(call) };
}

/** A whole small blob: checked, then one command. DIGEST_INVALID. */
export async function putInline(parts: LocalParts, target: Target, bytes: Buffer): Promise<Descriptor> {
  const { digest } = target;
  const algorithm = algorithmOf(digest);
  const actual = digestFromHex(algorithm, createHash(algorithm).update(bytes).digest('hex'));
  if (actual !== digest) throw digestMismatch(digest, actual);
  const args = pushArgs(target, bytes.length);
  let checked: number | null = null;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    failpoint('put.commit.before');
    const answer: { linked: boolean; n: number } = await parts.database.run(blobPut, { ...args, bytes, checked });
    failpoint('put.commit.after');
    if (answer.linked) return { mediaType: OCTET_STREAM, digest, size: bytes.length };
    checked = (await isStored(parts, digest, answer.n, bytes.length)) ? answer.n : null;
  }
  throw unsettled(digest);
}

function unsettled(digest: Digest): RegistryError {
  return new RegistryError(
    'UNAVAILABLE',
    `The place of ${digest} changed under this push several times. Try again in a moment.`,
    {
      retryAfterSeconds: 2,
    },
  );
}

/** Bytes that lie complete and checked in an upload's file: durable under their key, then linked. The file goes afterwards. */
export async function putFile(parts: LocalParts, target: Target, file: UploadId, at: Appended): Promise<Descriptor> {
  const { database, storage } = parts;
  const { digest } = target;
  const args = pushArgs(target, at.size);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    failpoint('commit.reserve.before');
    const reserved = await database.run(blobReserve, { digest: args.digest, size: at.size });
    failpoint('commit.reserve.after');
    if (reserved.live && reserved.stored && !(await isStored(parts, digest, reserved.n, at.size))) continue;
    if (!reserved.live) await storage.commit(file, at, blobKey(digest, reserved.n));
    failpoint('commit.link.before');
    const linked = await database.run(blobLink, { ...args, n: reserved.n, moved: !reserved.live });
    failpoint('commit.link.after');
    if (!linked) continue;
    parts.background(discard(parts, file, at), 'remove the file of a finished upload');
    return { mediaType: OCTET_STREAM, digest, size: at.size };
  }
  throw unsettled(digest);
}

async function discard(parts: LocalParts, file: UploadId, at: Appended): Promise<void> {
  failpoint('commit.discard.before');
  await parts.storage.discard(file, at.state);
  failpoint('commit.discard.after');
}

/** The name of a file for one writer: nobody else ever writes it. */
export function freshFile(): UploadId {
  return Buffer.from(randomId(18)).toString('base64url') as UploadId;
}

/** Keeps what arrived of a body that broke off, so that the client can go on there. */
export type KeepBroken = (
  arrived: { whole: Buffer } | { file: UploadId; at: Appended; hasher: Hasher },
) => Promise<void>;

/**
 * A body in one go, without an upload's row: whole bytes inline, more through a file of its own. Nothing is kept of a
 * refused one; of one that broke off, what `keep` keeps.
 */
export async function pushWhole(
  parts: LocalParts,
  target: Target,
  body: Readable,
  size: number | undefined,
  keep?: KeepBroken,
): Promise<Descriptor> {
  const peeked = await peek(body, INLINE_BYTES);
  if (!('rest' in peeked)) {
    if (peeked.broke !== undefined) {
      await keep?.({ whole: peeked.whole });
      throw brokenBody(peeked.broke);
    }
    checkLength(size, peeked.whole.length);
    return putInline(parts, target, peeked.whole);
  }
  const { storage } = parts;
  const file = freshFile();
  const hasher = createHasher(algorithmOf(target.digest));
  let at = await storage.begin(file, size === undefined ? {} : { size });
  try {
    at = await storage.append(file, at, peeked.rest, { signal: target.call.signal, hash: hasher });
    checkLength(size, at.size);
    const actual = digestFromHex(hasher.algorithm, hasher.digestHex());
    if (actual !== target.digest) throw digestMismatch(target.digest, actual);
    return await putFile(parts, target, file, at);
  } catch (error) {
    const broken = error instanceof UploadBroken && error.broke !== 'storage' ? error : undefined;
    if (broken !== undefined && keep !== undefined && broken.appended.size > 0)
      await keep({ file, at: broken.appended, hasher });
    else parts.background(storage.discard(file, at.state), 'remove the file of a refused upload');
    throw broken === undefined ? error : brokenBody(broken.cause);
  }
}

/** SIZE_INVALID where the body is not as long as it was said to be. */
export function checkLength(expected: number | undefined, actual: number): void {
  if (expected === undefined || expected === actual) return;
  throw new RegistryError('SIZE_INVALID', `The body has ${actual} bytes, the request said ${expected}.`, {
    detail: { expected, actual },
  });
}

/** The error for a body that broke off: nobody is there to read it, but the log may tell. */
export function brokenBody(cause: unknown): RegistryError {
  return new RegistryError('SIZE_INVALID', 'The body broke off before its end.', { cause });
}

/** `pushBlob` and `mountBlob`. */
export function localBlobs(parts: LocalParts): Pick<RegistryWriter, 'pushBlob' | 'mountBlob'> {
  return {
    pushBlob: (call, repository, expected, body, guards = []) =>
      pushWhole(parts, { call, repository, digest: expected.digest, upload: null, guards }, body, expected.size),
    async mountBlob(call, repository, digest, from, guards = []) {
      if (from === undefined) return undefined;
      failpoint('mount.commit.before');
      const size = await parts.database.run(blobMount, {
        repository,
        from,
        digest: digestToBytes(digest),
        guards,
        facts: factsOf(call),
      });
      failpoint('mount.commit.after');
      return size === undefined ? undefined : { mediaType: OCTET_STREAM, digest, size };
    },
  };
}
