/** Azure Blob Storage with the official SDK: block blobs in one container. */
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import {
  BlobSASPermissions,
  type BlockBlobClient,
  generateBlobSASQueryParameters,
  type UserDelegationKey,
} from '@azure/storage-blob';
import { systemClock } from '../../kit/clock.ts';
import type { Log, Metrics } from '../../kit/log.ts';
import { grouped, sideBySide } from '../objects/batches.ts';
import { fault } from '../objects/faults.ts';
import { openObjectStorage } from '../objects/objects.ts';
import type { JoinSource, ObjectStore } from '../objects/store.ts';
import type { AzureSettings } from '../settings.ts';
import type { BlobStorage } from '../storage.ts';
import { type AzureContainer, azureContainer } from './client.ts';
import { azureFault, cannotCopy, isMissing, isUnknownThere } from './errors.ts';

const MIB = 1024 * 1024;
/** Requests that run side by side. */
const AT_ONCE = 16;
/** What one batch of deletions takes. */
const BATCH = 256;
/** How long an address for the service's own copies is good, milliseconds. */
const COPY_LIFE = 3_600_000;
/** How long a delegation key is asked for, and how long before its end a new one; milliseconds. */
const KEY_LIFE = 6 * 3_600_000;
const KEY_MARGIN = 2 * 3_600_000;
/** Before now, for clocks that differ. */
const SKEW = 300_000;
/** How long it is remembered that these credentials sign nothing, milliseconds. */
const UNSIGNED = 300_000;
/** Bytes of a block that goes through this process, where the service cannot read another blob. */
const BLOCK = 8 * MIB;

/** Storage in a container of Azure. FaultError where it cannot be reached or written to. */
export async function openAzureStorage(
  settings: AzureSettings,
  parts: { readonly log?: Log; readonly metrics?: Metrics } = {},
): Promise<BlobStorage> {
  const store = azureObjects(await azureContainer(settings), settings);
  try {
    return await openObjectStorage({ store, ...parts });
  } catch (error) {
    store.close();
    throw error;
  }
}

/** The container as the core sees it. */
export function azureObjects(
  { service, container, sharedKey }: AzureContainer,
  { prefix, sasToken }: Pick<AzureSettings, 'prefix' | 'sasToken'>,
): ObjectStore {
  const blob = (name: string): BlockBlobClient => container.getBlockBlobClient(prefix + name);
  let delegation: { readonly key: UserDelegationKey; readonly until: number } | undefined;
  let unsigned = Number.NEGATIVE_INFINITY;
  /** Whether the service reads blobs by itself; an emulator may not. */
  let copies = true;

  async function run<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw azureFault(error, doing);
    }
  }

  /** An address of a blob that may be read for a while; undefined where nothing can be signed. */
  async function signed(name: string, milliseconds: number, more: object = {}): Promise<string | undefined> {
    const now = systemClock.now();
    if (now - unsigned < UNSIGNED) return undefined;
    const { url, containerName, name: blobName } = blob(name);
    const values = {
      containerName,
      blobName,
      permissions: BlobSASPermissions.parse('r'),
      startsOn: new Date(now - SKEW),
      expiresOn: new Date(now + milliseconds),
      ...more,
    };
    try {
      if (sharedKey !== undefined) return `${url}?${generateBlobSASQueryParameters(values, sharedKey)}`;
      // A token for the container may do more than read and lives as long as it lives: it is nobody else's.
      if (sasToken !== undefined) return undefined;
      if (delegation === undefined || delegation.until - KEY_MARGIN < now) {
        const until = now + KEY_LIFE;
        delegation = { key: await service.getUserDelegationKey(new Date(now - SKEW), new Date(until)), until };
      }
      return `${url}?${generateBlobSASQueryParameters(values, delegation.key, service.accountName)}`;
    } catch {
      unsigned = now;
      return undefined;
    }
  }

  /** Puts one block of a join: read by the service itself where it can. */
  async function putBlock(to: BlockBlobClient, id: string, source: JoinSource, signal: AbortSignal): Promise<string[]> {
    const address = copies
      ? ((await signed(source.name, COPY_LIFE)) ?? (sasToken && blob(source.name).url))
      : undefined;
    if (address !== undefined && address !== '') {
      try {
        await to.stageBlockFromURL(id, address, 0, source.size, { abortSignal: signal });
        return [id];
      } catch (error) {
        if (!cannotCopy(error)) throw error;
        // One source that it may not read says nothing of the next.
        copies = !isUnknownThere(error);
      }
    }
    const ids: string[] = [];
    for (let at = 0; at < source.size; at += BLOCK) {
      const count = Math.min(BLOCK, source.size - at);
      const answer = await blob(source.name).download(at, count, { abortSignal: signal });
      const bytes = await buffer(answer.readableStreamBody as unknown as Readable);
      if (bytes.length !== count)
        throw fault('corrupt', 'join the pieces of an upload', 'a piece is shorter than recorded');
      const own = blockId(Number(Buffer.from(id, 'base64').toString()) + ids.length);
      await to.stageBlock(own, bytes, count, { abortSignal: signal });
      ids.push(own);
    }
    return ids;
  }

  return {
    name: 'azure',
    limits: { minimumPart: 1, mostParts: 40_000, largestPart: 2048 * MIB },
    head: (name, abortSignal) =>
      run('look up an object', async () => {
        try {
          const { contentLength, lastModified } = await blob(name).getProperties({ abortSignal });
          return { size: contentLength ?? 0, modifiedAt: lastModified?.getTime() ?? 0 };
        } catch (error) {
          if (isMissing(error)) return undefined;
          throw error;
        }
      }),
    get: (name, range, abortSignal) =>
      run('open an object', async () => {
        try {
          const answer = await blob(name).download(
            range?.start ?? 0,
            range === undefined ? undefined : range.end - range.start,
            { abortSignal, maxRetryRequests: 0 },
          );
          const total = /\/(\d{1,16})$/.exec(answer.contentRange ?? '')?.[1];
          return {
            body: answer.readableStreamBody as unknown as Readable,
            size: total === undefined ? (answer.contentLength ?? 0) : Number(total),
          };
        } catch (error) {
          if (isMissing(error)) return undefined;
          throw error;
        }
      }),
    put: (name, bytes, abortSignal) =>
      run('store an object', async () => {
        await blob(name).upload(bytes, bytes.length, {
          abortSignal,
          blobHTTPHeaders: { blobContentType: 'application/octet-stream' },
        });
      }),
    delete: (name, abortSignal) =>
      run('delete an object', async () => {
        await blob(name).deleteIfExists({ abortSignal, deleteSnapshots: 'include' });
      }),
    deleteMany: (names, abortSignal) =>
      run('delete objects', async () => {
        const failed: string[] = [];
        let why: unknown;
        const batches = service.getBlobBatchClient();
        await sideBySide(grouped(names, BATCH), 4, async (group) => {
          try {
            const { subResponses } = await batches.deleteBlobs(
              group.map((name) => blob(name)),
              { abortSignal, deleteSnapshots: 'include' },
            );
            for (const [index, { status, errorCode }] of subResponses.entries()) {
              if (status < 300 || status === 404) continue;
              failed.push(group[index]!);
              why = { statusCode: status, code: errorCode };
            }
          } catch (error) {
            failed.push(...group);
            why = error;
          }
        });
        if (failed.length > 0 && failed.length === names.length) throw why;
        return failed;
      }),
    list: (below, token, abortSignal) =>
      run('list its objects', async () => {
        const pages = container
          .listBlobsFlat({ prefix: prefix + below, abortSignal })
          .byPage({ maxPageSize: 1000, ...(token === undefined ? {} : { continuationToken: token }) });
        const { value } = await pages.next();
        const objects = (value?.segment?.blobItems ?? []).map(
          (item: { name: string; properties: { contentLength?: number; lastModified: Date } }) => ({
            name: item.name.slice(prefix.length),
            size: item.properties.contentLength ?? Number.NaN,
            modifiedAt: item.properties.lastModified.getTime(),
          }),
        );
        return { objects, next: value?.continuationToken === '' ? undefined : value?.continuationToken };
      }),
    join: (to, sources, _scratch, signal) =>
      run('join the pieces of an upload', async () => {
        const target = blob(to);
        const ids: string[][] = [];
        let next = 0;
        const numbered = sources.map((source) => {
          const first = next;
          next += Math.max(1, Math.ceil(source.size / BLOCK));
          return { source, first };
        });
        await sideBySide([...numbered.entries()], AT_ONCE, async ([index, { source, first }]) => {
          ids[index] = await putBlock(target, blockId(first), source, signal);
        });
        await target.commitBlockList(ids.flat(), {
          abortSignal: signal,
          blobHTTPHeaders: { blobContentType: 'application/octet-stream' },
        });
      }),
    presign: (name, { seconds, filename }) =>
      signed(name, seconds * 1000, {
        contentType: 'application/octet-stream',
        ...(filename === undefined
          ? {}
          : { contentDisposition: `attachment; filename="${filename.replaceAll(/["\\]/g, '_')}"` }),
      }),
    close: () => undefined,
  };
}

/** All ids of a blob's blocks have one length. */
function blockId(number: number): string {
  return Buffer.from(String(number).padStart(8, '0')).toString('base64');
}
