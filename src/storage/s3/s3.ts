/** S3, and what is compatible with it, with the official SDK. */
import type { Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { systemClock } from '../../kit/clock.ts';
import type { Log, Metrics } from '../../kit/log.ts';
import { openObjectStorage } from '../objects/objects.ts';
import type { ListedObject, ObjectInfo, ObjectStore } from '../objects/store.ts';
import type { S3Settings } from '../settings.ts';
import type { BlobStorage } from '../storage.ts';
import { certificates, s3Client } from './client.ts';
import { codeOf, isMissing, s3Fault } from './errors.ts';
import { abortUnfinished, join, MOST_PARTS } from './join.ts';
import { lines } from './lines.ts';
import { signer } from './sign.ts';

const MIB = 1024 * 1024;
/** A HEAD that says 404 is believed without asking for the bucket while the bucket was seen so recently, milliseconds. */
const SEEN_MILLISECONDS = 1000;
/** How long the address is good by which this process opens an object itself. */
const READ_SECONDS = 300;
/** Bodies from here on are not hashed once more for the signature. */
const UNSIGNED_BYTES = 1 * MIB;

/** Storage in a bucket of S3. FaultError where it cannot be reached or written to. */
export async function openS3Storage(
  settings: S3Settings,
  parts: { readonly log?: Log; readonly metrics?: Metrics } = {},
): Promise<BlobStorage> {
  const store = await s3Objects(settings);
  try {
    return await openObjectStorage({ store, ...parts });
  } catch (error) {
    store.close();
    throw error;
  }
}

/** The store checks what came by the CRC-32 that is signed with the request; a SHA-256 of it would be the second in this process. */
function unsigned(command: PutObjectCommand): void {
  command.middlewareStack.add(
    (next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'unsignedPayload' },
  );
}

const isSomething = (answer: unknown): boolean => answer !== undefined;

/** The bucket as the core sees it. */
export async function s3Objects(settings: S3Settings): Promise<ObjectStore> {
  const { bucket: Bucket, prefix } = settings;
  const client = await s3Client(settings);
  const signing = signer(client, Bucket);
  const bodies = lines(settings.ca === undefined ? undefined : await certificates(settings.ca));
  let seen = Number.NEGATIVE_INFINITY;

  const encryption =
    settings.serverSideEncryption === 'none'
      ? {}
      : {
          ServerSideEncryption: settings.serverSideEncryption,
          ...(settings.kmsKeyId === undefined ? {} : { SSEKMSKeyId: settings.kmsKeyId }),
        };
  /** Blobs have the configured class; uploads live for minutes, and cold classes ask for months. */
  function attributes(name: string): object {
    const { storageClass } = settings;
    return storageClass === undefined || !name.startsWith('blobs/')
      ? encryption
      : { ...encryption, StorageClass: storageClass };
  }
  const Key = (name: string): string => prefix + name;

  /** `shows`: whether the answer shows that the bucket is there; a 404 may be anybody's. */
  async function run<T>(doing: string, work: () => Promise<T>, shows = (_: T): boolean => true): Promise<T> {
    try {
      const result = await work();
      if (shows(result)) seen = systemClock.monotonic();
      return result;
    } catch (error) {
      throw s3Fault(error, doing);
    }
  }

  return {
    name: 's3',
    limits: { minimumPart: 5 * MIB, mostParts: MOST_PARTS, largestPart: 5 * 1024 * MIB },
    head: (name, abortSignal) => run('look up an object', () => look(name, abortSignal), isSomething),
    get: (name, range, abortSignal) =>
      run(
        'open an object',
        async () => {
          try {
            const answer = await client.send(
              new GetObjectCommand({
                Bucket,
                Key: Key(name),
                ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
              }),
              { abortSignal },
            );
            const total = /\/(\d{1,16})$/.exec(answer.ContentRange ?? '')?.[1];
            return {
              body: answer.Body as unknown as Readable,
              size: total === undefined ? (answer.ContentLength ?? 0) : Number(total),
            };
          } catch (error) {
            // Its own code, with a body: a 404 of somebody on the way must not make a blob look lost.
            if (codeOf(error) !== 'NoSuchKey') throw error;
            return undefined;
          }
        },
        isSomething,
      ),
    async open(name, range, signal) {
      try {
        const address = await signing.sign(Key(name), { seconds: READ_SECONDS });
        const body = await bodies.open(new URL(address), range, signal);
        if (body !== undefined) seen = systemClock.monotonic();
        return body;
      } catch {
        return undefined;
      }
    },
    put: (name, bytes, abortSignal) =>
      run('store an object', async () => {
        const command = new PutObjectCommand({
          Bucket,
          Key: Key(name),
          Body: bytes,
          ContentLength: bytes.length,
          ContentType: 'application/octet-stream',
          ...attributes(name),
        });
        if (bytes.length >= UNSIGNED_BYTES && settings.checksums === 'whenSupported') unsigned(command);
        await client.send(command, { abortSignal });
      }),
    delete: (name, abortSignal) =>
      run('delete an object', async () => {
        try {
          await client.send(new DeleteObjectCommand({ Bucket, Key: Key(name) }), { abortSignal });
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
      }),
    deleteMany: (names, abortSignal) =>
      run('delete objects', async () => {
        if (names.length === 0) return [];
        const Objects = names.map((name) => ({ Key: Key(name) }));
        const { Errors } = await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }), {
          abortSignal,
        });
        const failed = (Errors ?? []).filter((error) => error.Code !== 'NoSuchKey');
        // One that stands for all, so that the log can say why.
        if (failed.length > 0 && failed.length === names.length) throw { Code: codeOf(failed[0]) };
        return failed.flatMap((error) => (error.Key === undefined ? [] : [error.Key.slice(prefix.length)]));
      }),
    list: (below, token, abortSignal) =>
      run('list its objects', async () => {
        const page = await client.send(
          new ListObjectsV2Command({
            Bucket,
            Prefix: Key(below),
            MaxKeys: 1000,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          { abortSignal },
        );
        const objects = (page.Contents ?? []).map(
          (object): ListedObject => ({
            name: object.Key?.startsWith(prefix) === true ? object.Key.slice(prefix.length) : '',
            size: object.Size ?? Number.NaN,
            modifiedAt: object.LastModified?.getTime() ?? 0,
          }),
        );
        return { objects, next: page.IsTruncated === true ? page.NextContinuationToken : undefined };
      }),
    join: (to, sources, _scratch, signal) =>
      run('join the pieces of an upload', () =>
        join(
          {
            client,
            bucket: Bucket,
            to: Key(to),
            sourceOf: (name) => `${Bucket}/${encodeURIComponent(Key(name)).replaceAll('%2F', '/')}`,
            attributes: attributes(to),
          },
          sources,
          signal,
        ),
      ),
    removeUnfinished: (before, signal) =>
      run('remove what commits left', async () => {
        // Only below names that are Longshore's: others may use the bucket as well.
        let count = 0;
        for (const below of ['blobs/', 'uploads/']) {
          count += await abortUnfinished(client, Bucket, Key(below), before, signal);
        }
        return count;
      }),
    presign: async (name, { seconds, filename }) => {
      try {
        return await signing.sign(Key(name), {
          seconds,
          type: 'application/octet-stream',
          ...(filename === undefined
            ? {}
            : { disposition: `attachment; filename="${filename.replaceAll(/["\\]/g, '_')}"` }),
        });
      } catch (error) {
        throw s3Fault(error, 'sign an address');
      }
    },
    close() {
      bodies.close();
      client.destroy();
    },
  };

  async function look(name: string, abortSignal: AbortSignal): Promise<ObjectInfo | undefined> {
    try {
      const command = new HeadObjectCommand({ Bucket, Key: Key(name) });
      const { ContentLength, LastModified } = await client.send(command, { abortSignal });
      return { size: ContentLength ?? 0, modifiedAt: LastModified?.getTime() ?? 0 };
    } catch (error) {
      if (!isMissing(error)) throw error;
      // The answer to a HEAD has no body that could say which of the two is missing.
      if (systemClock.monotonic() - seen > SEEN_MILLISECONDS) {
        await bucketIsThere(abortSignal);
        seen = systemClock.monotonic();
      }
      return undefined;
    }
  }

  async function bucketIsThere(abortSignal: AbortSignal): Promise<void> {
    try {
      await client.send(new HeadBucketCommand({ Bucket }), { abortSignal });
    } catch (error) {
      throw isMissing(error) ? { Code: 'NoSuchBucket' } : error;
    }
  }
}
