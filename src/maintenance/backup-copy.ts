/** Copies blobs from one storage to another, believing nothing: every byte passes the hash before it counts. */
import { createHash } from 'node:crypto';
import { randomId } from '../kit/id.ts';
import { algorithmOf, hexOf } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobKey, Digest, UploadId } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';

/** Up to here a blob is held in memory and stored in one go. */
const WHOLE_BYTES = 1024 * 1024;

/** Where from and where to. */
export interface Copying {
  readonly digest: Digest;
  readonly size: number;
  readonly from: BlobStorage;
  readonly fromKey: BlobKey;
  readonly to: BlobStorage;
  readonly toKey: BlobKey;
  readonly signal: AbortSignal;
}

/** Copies one, durable when it resolves. False: it is missing there, or its bytes are not what the digest says; nothing was stored. */
export async function copyBlob(copying: Copying): Promise<boolean> {
  return copying.size <= WHOLE_BYTES ? copyWhole(copying) : copyStreamed(copying);
}

async function copyWhole({ digest, size, from, fromKey, to, toKey, signal }: Copying): Promise<boolean> {
  const bytes = await readWhole(from, fromKey, size, signal);
  if (bytes === undefined || createHash(algorithmOf(digest)).update(bytes).digest('hex') !== hexOf(digest))
    return false;
  await to.put(toKey, bytes);
  return true;
}

async function readWhole(
  from: BlobStorage,
  key: BlobKey,
  size: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  signal.throwIfAborted();
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of await from.read(key, { start: 0, end: size })) chunks.push(Buffer.from(chunk as Buffer));
    return Buffer.concat(chunks);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function copyStreamed({ digest, size, from, fromKey, to, toKey, signal }: Copying): Promise<boolean> {
  const id = `backup-${Buffer.from(randomId(16)).toString('hex')}` as UploadId;
  const hash = createHash(algorithmOf(digest));
  let source: AsyncIterable<Uint8Array>;
  try {
    source = await from.read(fromKey, { start: 0, end: size });
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  let at = await to.begin(id, { key: toKey, size });
  try {
    at = await to.append(id, at, source, {
      signal,
      hash: {
        update(bytes) {
          hash.update(bytes);
        },
      },
    });
    if (at.size !== size || hash.digest('hex') !== hexOf(digest)) return false;
    await to.commit(id, at, toKey);
    return true;
  } catch (error) {
    // The source broke off: its file is shorter than it was, or cannot be read.
    if (isMissing((error as { cause?: unknown }).cause)) return false;
    throw error;
  } finally {
    await to.discard(id, at.state).catch(() => undefined);
  }
}

/** Whether the bytes under a key are what the digest says. */
export async function isIntact(
  storage: BlobStorage,
  key: BlobKey,
  digest: Digest,
  size: number | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const hash = createHash(algorithmOf(digest));
  try {
    const range = size === undefined ? undefined : { start: 0, end: size };
    for await (const chunk of await storage.read(key, range)) {
      signal.throwIfAborted();
      hash.update(chunk as Uint8Array);
    }
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  return hash.digest('hex') === hexOf(digest);
}

/** Works through items side by side; the first failure ends it once what runs has ended. */
export async function sideBySide<T>(
  items: Iterable<T> | AsyncIterable<T>,
  workers: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  let failed: { readonly error: unknown } | undefined;
  // One at a time asks for the next: not every source may be asked twice at once.
  let turn: Promise<unknown> = Promise.resolve();
  const next = (): Promise<IteratorResult<T>> => {
    const asked = turn.then(() => source.next());
    turn = asked.catch(() => undefined);
    return asked;
  };
  const worker = async (): Promise<void> => {
    while (failed === undefined) {
      try {
        const { done, value } = await next();
        if (done === true) return;
        await work(value);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: workers }, worker));
  if (failed !== undefined) throw (failed as { error: unknown }).error;
}

function isMissing(error: unknown): boolean {
  return error instanceof FaultError && error.code === 'corrupt';
}
