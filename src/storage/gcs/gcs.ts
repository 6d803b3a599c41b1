/** Google Cloud Storage with the official SDK. */
import { setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { type Bucket, type File, Storage } from '@google-cloud/storage';
import { GoogleAuth, JWT } from 'google-auth-library';
import { systemClock } from '../../kit/clock.ts';
import type { Log, Metrics } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import { grouped, sideBySide } from '../objects/batches.ts';
import { fault } from '../objects/faults.ts';
import { openObjectStorage } from '../objects/objects.ts';
import type { JoinSource, ObjectStore, OpenedObject } from '../objects/store.ts';
import type { GcsSettings } from '../settings.ts';
import type { BlobStorage } from '../storage.ts';
import { gcsFault, isConnection, isMissing } from './errors.ts';

const MIB = 1024 * 1024;
/** Sources that one compose takes. */
const COMPOSED = 32;
/** Deletions and composes that run side by side: the service has no batch that its SDK knows. */
const AT_ONCE = 32;
/** How long it is remembered that these credentials sign nothing, milliseconds. */
const UNSIGNED = 300_000;
const SCOPES = ['https://www.googleapis.com/auth/devstorage.read_write'];

/** Storage in a bucket of Google Cloud Storage. FaultError where it cannot be reached or written to. */
export async function openGcsStorage(
  settings: GcsSettings,
  parts: { readonly log?: Log; readonly metrics?: Metrics } = {},
): Promise<BlobStorage> {
  const store = gcsObjects(await bucketOf(settings), settings.prefix);
  try {
    return await openObjectStorage({ store, ...parts });
  } catch (error) {
    store.close();
    throw error;
  }
}

/** The SDK puts eleven listeners on the stream of each GET, one more than Node takes for a leak. */
setMaxListeners(16);

async function bucketOf({ bucket, endpoint, projectId, keyFile }: GcsSettings): Promise<Bucket> {
  const storage = new Storage({
    ...(endpoint === undefined ? {} : { apiEndpoint: endpoint }),
    ...(projectId === undefined ? {} : { projectId }),
    ...(keyFile === undefined ? {} : { authClient: await serviceAccount(keyFile) }),
    retryOptions: { autoRetry: true, maxRetries: 2, maxRetryDelay: 1, totalTimeout: 10 },
  });
  return storage.bucket(bucket);
}

/** The account of a key file; its other kinds, which may name addresses to ask, are not taken. */
async function serviceAccount(path: string): Promise<GoogleAuth<JWT>> {
  let found: { type?: unknown; client_email?: unknown; private_key?: unknown };
  try {
    found = JSON.parse(await readFile(path, 'utf8')) as typeof found;
  } catch (error) {
    throw new FaultError('unavailable', `The key file of Google Cloud Storage cannot be read: ${path}.`, {
      cause: error instanceof SyntaxError ? 'no JSON' : error,
    });
  }
  const { type, client_email: email, private_key: key } = found;
  if (type !== 'service_account' || typeof email !== 'string' || typeof key !== 'string')
    throw new FaultError(
      'unavailable',
      `The key file of Google Cloud Storage is not a service account’s key: ${path}.`,
    );
  const auth = new GoogleAuth({ authClient: new JWT({ email, key, scopes: SCOPES }) });
  // Where the SDK looks for the name under which addresses are signed.
  auth.jsonContent = { client_email: email, private_key: key };
  return auth;
}

/** The bucket as the core sees it. */
export function gcsObjects(bucket: Bucket, prefix: string): ObjectStore {
  const file = (name: string): File => bucket.file(prefix + name);
  let unsigned = Number.NEGATIVE_INFINITY;

  async function run<T>(doing: string, work: () => Promise<T>, missing?: 'bucket'): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw gcsFault(error, doing, missing);
    }
  }

  /** One compose. A single source is rewritten by the service itself, whatever its size. */
  async function compose(to: string, sources: readonly string[]): Promise<void> {
    if (sources.length === 1) await file(sources[0]!).copy(file(to));
    else
      await bucket.combine(
        sources.map((name) => file(name)),
        file(to),
      );
  }

  return {
    name: 'gcs',
    limits: { minimumPart: 1, mostParts: Number.POSITIVE_INFINITY, largestPart: 5 * 1024 * MIB },
    head: (name) =>
      run('look up an object', async () => {
        try {
          const [{ size, updated }] = await file(name).getMetadata();
          return { size: Number(size), modifiedAt: Date.parse(updated ?? '') };
        } catch (error) {
          if (isMissing(error)) return undefined;
          throw error;
        }
      }),
    get: (name, range, signal) =>
      run('open an object', async () => {
        // The SDK repeats no streams, and a kept connection may have been closed at the other end meanwhile.
        for (let attempt = 1; ; attempt++) {
          try {
            return await openObject(file(name), range, signal);
          } catch (error) {
            if (attempt === 3 || signal.aborted || !isConnection(error)) throw error;
          }
        }
      }),
    put: (name, bytes) =>
      run(
        'store an object',
        () =>
          file(name).save(asBuffer(bytes), {
            resumable: false,
            validation: false,
            contentType: 'application/octet-stream',
          }),
        'bucket',
      ),
    delete: (name) => run('delete an object', async () => void (await file(name).delete({ ignoreNotFound: true }))),
    deleteMany: (names) =>
      run('delete objects', async () => {
        const failed: string[] = [];
        let why: unknown;
        await sideBySide(names, AT_ONCE, async (name) => {
          try {
            await file(name).delete({ ignoreNotFound: true });
          } catch (error) {
            failed.push(name);
            why = error;
          }
        });
        if (failed.length > 0 && failed.length === names.length) throw why;
        return failed;
      }),
    list: (below, token) =>
      run(
        'list its objects',
        async () => {
          const [files, next] = await bucket.getFiles({
            prefix: prefix + below,
            maxResults: 1000,
            autoPaginate: false,
            ...(token === undefined ? {} : { pageToken: token }),
          });
          const objects = files.map(({ name, metadata }) => ({
            name: name.slice(prefix.length),
            size: Number(metadata.size),
            modifiedAt: Date.parse(metadata.updated ?? ''),
          }));
          return { objects, next: (next as { pageToken?: string } | null | undefined)?.pageToken };
        },
        'bucket',
      ),
    join: (to, sources, scratch, signal) =>
      run('join the pieces of an upload', async () => {
        await checkSizes(sources, file);
        let names = sources.map(({ name }) => name);
        // Rounds: every 32 become one, until 32 or fewer are left.
        for (let round = 0; names.length > COMPOSED; round++) {
          const groups = grouped(names, COMPOSED);
          const made = groups.map((_, index) => `${scratch}${round}-${index}`);
          await sideBySide([...groups.entries()], AT_ONCE, async ([index, group]) => {
            signal.throwIfAborted();
            await compose(made[index]!, group);
          });
          names = made;
        }
        signal.throwIfAborted();
        await compose(to, names);
      }),
    presign: async (name, { seconds, filename }) => {
      if (systemClock.monotonic() - unsigned < UNSIGNED) return undefined;
      try {
        const [url] = await file(name).getSignedUrl({
          version: 'v4',
          action: 'read',
          expires: systemClock.now() + seconds * 1000,
          responseType: 'application/octet-stream',
          ...(filename === undefined
            ? {}
            : { responseDisposition: `attachment; filename="${filename.replaceAll(/["\\]/g, '_')}"` }),
        });
        return url;
      } catch {
        // Credentials without a key and without the right to have something signed: blobs are served from here.
        unsigned = systemClock.monotonic();
        return undefined;
      }
    },
    close: () => undefined,
  };
}

/** Waits for the answer's head, so that what is missing is known before anything is sent on. */
function openObject(
  file: File,
  range: { readonly start: number; readonly end: number } | undefined,
  signal: AbortSignal,
): Promise<OpenedObject | undefined> {
  return new Promise((resolve, reject) => {
    const body = file.createReadStream({
      validation: false,
      decompress: false,
      ...(range === undefined ? {} : { start: range.start, end: range.end - 1 }),
    }) as unknown as Readable;
    const stop = (): void => void body.destroy();
    signal.addEventListener('abort', stop, { once: true });
    const settled = (): void => signal.removeEventListener('abort', stop);
    body.once('response', (answer: { status?: number; statusCode?: number; headers: HeadersLike }) => {
      const status = answer.status ?? answer.statusCode ?? 0;
      settled();
      if (status < 300) return resolve({ body, size: sizeOf(answer.headers) });
      body.destroy();
      if (status === 404) resolve(undefined);
      else reject(gcsFault({ code: status }, 'open an object'));
    });
    // Afterwards whoever reads the body hears of it.
    body.once('error', (error) => {
      settled();
      if (isMissing(error)) resolve(undefined);
      else reject(error);
    });
    body.once('close', () => {
      settled();
      reject(fault('unavailable', 'open an object', 'the connection ended without an answer'));
    });
    body.on('error', () => undefined);
    // Asks: the SDK sends nothing before somebody reads.
    body.read(0);
  });
}

type HeadersLike = Headers | Readonly<Record<string, string | undefined>>;

function sizeOf(headers: HeadersLike): number {
  const get = (name: string): string | undefined =>
    headers instanceof Headers ? (headers.get(name) ?? undefined) : headers[name];
  const total = /\/(\d{1,16})$/.exec(get('content-range') ?? '')?.[1];
  return Number(total ?? get('x-goog-stored-content-length') ?? get('content-length'));
}

/** Each source is there with the size it should have: a compose would join whatever it finds. */
async function checkSizes(sources: readonly JoinSource[], file: (name: string) => File): Promise<void> {
  await sideBySide(sources, AT_ONCE, async ({ name, size }) => {
    const [metadata] = await file(name).getMetadata();
    if (Number(metadata.size) !== size)
      throw fault('corrupt', 'join the pieces of an upload', 'a piece has another size than is recorded');
  });
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
