/** Blobs down, and away: HEAD, GET with ranges and conditions, DELETE. distribution-spec, "Pulling blobs". */
import { RegistryError } from '../oci/error.ts';
import type { ByteRange, Digest, RepositoryName } from '../oci/names.ts';
import { contentRange, parseRange } from '../oci/range.ts';
import type { BlobContent } from '../registry/registry.ts';
import type { Exchange } from './exchange.ts';
import { blobHeaders, NO_STORE, namesDigest, notModifiedHeaders } from './headers.ts';
import { sendBlob } from './send-blob.ts';

/** HEAD and GET. */
export async function readBlob(exchange: Exchange, repository: RepositoryName, digest: Digest): Promise<void> {
  const { registry } = exchange.room.parts;
  const call = exchange.call!;
  const { ifNoneMatch, range, ifRange } = exchange.headers;
  const unchanged = ifNoneMatch !== undefined && namesDigest(ifNoneMatch, digest);
  if (unchanged || exchange.method === 'HEAD') {
    const { size } = await registry.resolveBlob(call, repository, digest);
    if (unchanged) exchange.send(304, notModifiedHeaders(digest, 'blob'));
    else exchange.send(200, blobHeaders(digest, size));
    return;
  }
  const wanted = ifRange !== undefined && !namesDigest(ifRange, digest, true) ? undefined : range;
  const asked = parseRange(wanted);
  if (asked.kind === 'whole') {
    await answer(exchange, digest, await registry.getBlob(call, repository, digest), false);
    return;
  }
  if (asked.kind === 'range') {
    await readRange(exchange, repository, digest, asked.range);
    return;
  }
  const { size } = await registry.resolveBlob(call, repository, digest);
  if (asked.kind === 'unsatisfiable') {
    failRange(exchange, size);
    return;
  }
  await readRange(exchange, repository, digest, { start: Math.max(0, size - asked.length), end: size });
}

async function readRange(
  exchange: Exchange,
  repository: RepositoryName,
  digest: Digest,
  range: ByteRange,
): Promise<void> {
  const { registry } = exchange.room.parts;
  const call = exchange.call!;
  let content: BlobContent;
  try {
    content = await registry.getBlob(call, repository, digest, range);
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== 'RANGE_INVALID') throw error;
    const { size } = await registry.resolveBlob(call, repository, digest);
    if (size > 0) {
      failRange(exchange, size);
      return;
    }
    // No range can be satisfied by an empty blob: it is served whole.
    await answer(exchange, digest, await registry.getBlob(call, repository, digest), false);
    return;
  }
  await answer(exchange, digest, content, true);
}

function failRange(exchange: Exchange, size: number): void {
  exchange.fail(
    new RegistryError('RANGE_INVALID', `The range does not lie in the blob, which has ${size} bytes.`, {
      detail: { size },
    }),
    ['Content-Range', `bytes */${size}`],
  );
}

async function answer(exchange: Exchange, digest: Digest, content: BlobContent, partial: boolean): Promise<void> {
  if (content.redirectUrl !== undefined) {
    const url = content.redirectUrl;
    content.close();
    exchange.send(307, ['Location', url, 'Docker-Content-Digest', digest, 'Content-Length', '0', ...NO_STORE]);
    return;
  }
  const { range, descriptor } = content;
  const headers = blobHeaders(digest, range.end - range.start);
  if (partial) headers.push('Content-Range', contentRange(range, descriptor.size));
  await sendBlob(exchange, partial ? 206 : 200, headers, content);
}

/** DELETE, from this repository only. */
export async function deleteBlob(exchange: Exchange, repository: RepositoryName, digest: Digest): Promise<void> {
  await exchange.room.parts.registry.deleteBlob(exchange.call!, repository, digest);
  exchange.sendEmpty(202, []);
}
