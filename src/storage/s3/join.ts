/** Objects made of objects within S3: one CopyObject, or a multipart whose parts are copied many at once. */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  type S3Client,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { failpoint } from '../../kit/failpoint.ts';
import { fault, REQUEST_MILLISECONDS, requestLimit, timed } from '../objects/faults.ts';
import type { JoinSource } from '../objects/store.ts';
import { codeOf } from './errors.ts';

/** Most parts of a multipart. */
export const MOST_PARTS = 10_000;
/** Larger sources are copied in ranges, side by side. */
const RANGE = 512 * 1024 * 1024;
const AT_ONCE = 12;

/** Where and how an object is made. */
export interface Target {
  readonly client: S3Client;
  readonly bucket: string;
  /** Whole names, with the configured prefix. */
  readonly to: string;
  readonly sourceOf: (name: string) => string;
  /** Encryption and storage class of the new object. */
  readonly attributes: object;
}

interface Part {
  readonly source: string;
  readonly range: string | undefined;
  readonly size: number;
}

/** See `ObjectStore.join`. Rejects with errors of the SDK. */
export async function join(target: Target, sources: readonly JoinSource[], signal: AbortSignal): Promise<void> {
  const { client, bucket, to, attributes } = target;
  const [only] = sources;
  if (sources.length === 1 && only!.size <= RANGE) {
    await limited(only!.size, signal, (abortSignal) =>
      client.send(
        new CopyObjectCommand({ Bucket: bucket, Key: to, CopySource: target.sourceOf(only!.name), ...attributes }),
        { abortSignal },
      ),
    );
    return;
  }
  const parts = partsOf(target, sources);
  const { UploadId } = await limited(0, signal, (abortSignal) =>
    client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: to, ...attributes }), { abortSignal }),
  );
  const upload = { Bucket: bucket, Key: to, UploadId };
  failpoint('join.begin.after');
  try {
    const Parts = await copyParts(target, upload, parts, signal);
    failpoint('join.parts.after');
    await limited(256 * 1024 * 1024, signal, (abortSignal) =>
      client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }), { abortSignal }),
    );
  } catch (error) {
    // Where this fails as well, or the process ends before, `removeUnfinished` finds it.
    await timed(REQUEST_MILLISECONDS, 'abort a join', (abortSignal) =>
      client.send(new AbortMultipartUploadCommand(upload), { abortSignal }),
    ).catch(() => undefined);
    throw error;
  }
}

function partsOf(target: Target, sources: readonly JoinSource[]): readonly Part[] {
  const whole = sources.map(({ name, size }): Part => ({ source: target.sourceOf(name), range: undefined, size }));
  const ranges = whole.flatMap((part): Part[] => {
    const count = Math.ceil(part.size / RANGE);
    if (count <= 1) return [part];
    const length = Math.ceil(part.size / count);
    return Array.from({ length: count }, (_, i) => {
      const end = Math.min(part.size, (i + 1) * length);
      return { source: part.source, range: `bytes=${i * length}-${end - 1}`, size: end - i * length };
    });
  });
  return ranges.length <= MOST_PARTS ? ranges : whole;
}

async function copyParts(
  { client }: Target,
  upload: { Bucket: string; Key: string; UploadId: string | undefined },
  parts: readonly Part[],
  signal: AbortSignal,
): Promise<{ PartNumber: number; ETag: string }[]> {
  const done: { PartNumber: number; ETag: string }[] = [];
  const waiting = parts.entries();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (const [i, { source, range, size }] of waiting) {
      if (failed) return;
      const PartNumber = i + 1;
      try {
        const { CopyPartResult } = await limited(size, signal, (abortSignal) =>
          client.send(
            new UploadPartCopyCommand({
              ...upload,
              PartNumber,
              CopySource: source,
              ...(range === undefined ? {} : { CopySourceRange: range }),
            }),
            { abortSignal },
          ),
        );
        const ETag = CopyPartResult?.ETag;
        if (ETag === undefined) throw fault('unavailable', 'join the pieces of an upload', 'a part has no tag');
        done[i] = { PartNumber, ETag };
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, parts.length) }, worker));
  for (const result of workers) if (result.status === 'rejected') throw result.reason;
  return done;
}

function limited<T>(bytes: number, outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  // A copy of a little takes a store its time as well.
  return timed(Math.max(10_000, requestLimit(bytes)), 'join the pieces of an upload', work, outer);
}

/** Aborts the multiparts below a prefix that were begun before this time; how many. Rejects with errors of the SDK. */
export async function abortUnfinished(
  client: S3Client,
  bucket: string,
  prefix: string,
  before: number,
  abortSignal: AbortSignal,
): Promise<number> {
  let count = 0;
  let markers: { KeyMarker?: string; UploadIdMarker?: string } = {};
  for (;;) {
    const page = await client.send(
      new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix, MaxUploads: 1000, ...markers }),
      { abortSignal },
    );
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Key?.startsWith(prefix) !== true || UploadId === undefined || Initiated === undefined) continue;
      if (Initiated.getTime() >= before) continue;
      try {
        await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }), { abortSignal });
        count++;
      } catch (error) {
        if (codeOf(error) !== 'NoSuchUpload') throw error;
      }
    }
    const { IsTruncated, NextKeyMarker, NextUploadIdMarker } = page;
    if (IsTruncated !== true || NextKeyMarker === undefined) return count;
    if (NextKeyMarker === markers.KeyMarker && NextUploadIdMarker === markers.UploadIdMarker) return count;
    markers = {
      KeyMarker: NextKeyMarker,
      ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
    };
  }
}
