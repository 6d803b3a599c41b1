/**
 * Uploads to an upstream (distribution-spec, "Push"). Where the next piece goes is what the upstream said last; it is
 * kept here under an id of our own, bound to its repository and principal, and never leaves the registry's origin.
 */
import type { Readable } from 'node:stream';
import { randomId } from '../kit/id.ts';
import { Lru } from '../kit/lru.ts';
import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { OCTET_STREAM } from '../oci/media-types.ts';
import type { Descriptor, Digest, RepositoryName, UploadId } from '../oci/names.ts';
import { parseDigits } from '../oci/range.ts';
import type { OutboundAnswer } from '../outbound/client.ts';
import type { Call } from '../registry/call.ts';
import type { Chunk, RegistryReader, RegistryWriter, UploadStatus } from '../registry/registry.ts';
import { badAnswer, upstreamError } from './errors.ts';
import { BODY_LIMITS, pullScope, pushScope, type Upstream } from './exchange.ts';
import { refuseGuards } from './guards.ts';
import { sentBody } from './sent-body.ts';

/** The part of the writer that is about blobs. */
export type UpstreamUploads = Omit<RegistryWriter, 'pushManifest'>;

/** Uploads that are known at once; the ones used longest ago are forgotten. */
const MOST_UPLOADS = 10_000;
/** A commit may take a while: some registries copy the bytes then. */
const COMMIT_LIMITS = { ...BODY_LIMITS, headers: 300_000 };
const TIDY_LIMITS = { headers: 5_000, total: 5_000 };

interface Upload {
  readonly repository: RepositoryName;
  readonly owner: string;
  readonly minChunk?: number;
  location: URL;
  size: number;
}

/** Uploads at this upstream. */
export function upstreamUploads(to: Upstream, reader: Pick<RegistryReader, 'resolveBlob'>): UpstreamUploads {
  const { host } = to;
  const uploads = new Lru<string, Upload>({ count: MOST_UPLOADS });
  const about = (repository: RepositoryName) => ({
    scope: pushScope(repository),
    unknown: 'BLOB_UPLOAD_UNKNOWN' as const,
  });

  function locationOf(answer: OutboundAnswer): URL {
    const url = to.sameOrigin(answer.header('location') ?? '', answer.url);
    if (url === undefined) throw badAnswer(host, 'an upload that goes on elsewhere');
    return url;
  }

  async function begin(call: Call, repository: RepositoryName, query = ''): Promise<Upload> {
    const path = `${repository}/blobs/uploads/${query}`;
    const answer = await to.ask(call, { ...about(repository), unknown: 'NAME_UNKNOWN', method: 'POST', path });
    answer.close();
    if (answer.status !== 202) throw badAnswer(host, `the status ${answer.status} where an upload begins`);
    const minChunk = parseDigits(answer.header('oci-chunk-min-length') ?? '');
    return {
      repository,
      owner: call.principal.id,
      location: locationOf(answer),
      size: 0,
      ...(minChunk === undefined ? {} : { minChunk }),
    };
  }

  function uploadOf(call: Call, repository: RepositoryName, id: UploadId): Upload {
    const upload = uploads.get(id);
    if (upload?.repository === repository && upload.owner === call.principal.id) return upload;
    throw new RegistryError('BLOB_UPLOAD_UNKNOWN', 'There is no such upload.');
  }

  const statusOf = (id: UploadId, { size, minChunk }: Upload): UploadStatus => ({
    id,
    size,
    ...(minChunk === undefined ? {} : { minChunk }),
  });

  /** One request with a piece of an upload. */
  async function send(
    call: Call,
    upload: Upload,
    method: 'PATCH' | 'PUT',
    url: URL,
    chunk: { readonly body: Readable; readonly length?: number; readonly offset?: number } | undefined,
  ): Promise<OutboundAnswer> {
    const ask = { ...about(upload.repository), method, path: url, limits: COMMIT_LIMITS, also: [416] };
    if (chunk === undefined) return to.ask(call, { ...ask, headers: { 'content-length': '0' } });
    const { offset, length } = chunk;
    const sent = sentBody(chunk.body, length);
    const range =
      offset === undefined || length === undefined || length === 0
        ? {}
        : { 'content-range': `${offset}-${offset + length - 1}` };
    try {
      const headers = { 'content-type': OCTET_STREAM, ...sent.headers, ...range };
      return await to.ask(call, { ...ask, headers, body: sent.body });
    } catch (error) {
      throw upstreamError(sent.failure() ?? error, call.signal);
    } finally {
      sent.body.destroy();
    }
  }

  async function rangeInvalid(
    answer: OutboundAnswer,
    call: Call,
    id: UploadId,
    upload: Upload,
  ): Promise<RegistryError> {
    answer.close();
    const size = sizeOf(answer) ?? (await status(call, id, upload)).size;
    return offsetWrong(size);
  }

  async function status(call: Call, id: UploadId, upload: Upload): Promise<UploadStatus> {
    const answer = await to.ask(call, { ...about(upload.repository), path: upload.location });
    answer.close();
    if (answer.header('location') !== undefined) upload.location = locationOf(answer);
    upload.size = sizeOf(answer, upload.size) ?? upload.size;
    return statusOf(id, upload);
  }

  async function checkOffset(call: Call, id: UploadId, upload: Upload, chunk: Chunk | undefined): Promise<void> {
    if (chunk?.offset === undefined || chunk.offset === upload.size) return;
    const { size } = await status(call, id, upload);
    if (chunk.offset === size) return;
    chunk.body.destroy();
    throw offsetWrong(size);
  }

  /** Nobody wants it any more; whether that works does not matter. */
  async function tidy(upload: Upload): Promise<void> {
    const { signal } = new AbortController();
    const ask = { ...about(upload.repository), method: 'DELETE', path: upload.location, limits: TIDY_LIMITS };
    await to.ask({ signal }, ask).then(
      (answer) => answer.close(),
      () => {},
    );
  }

  async function commit(
    call: Call,
    upload: Upload,
    digest: Digest,
    chunk: Parameters<typeof send>[4],
  ): Promise<OutboundAnswer> {
    const url = new URL(upload.location);
    url.searchParams.set('digest', digest);
    const answer = await send(call, upload, 'PUT', url, chunk);
    if (answer.status === 416) return answer;
    answer.close();
    const said = answer.header('docker-content-digest');
    if (said !== undefined && said !== digest && isDigest(said))
      throw badAnswer(host, `it calls the blob ${digest} ${said}`);
    return answer;
  }

  return {
    async pushBlob(call, repository, { digest, size }, body, guards) {
      refuseGuards(guards);
      const upload = await begin(call, repository);
      let sent = 0;
      const counted = sentBody(body, size);
      counted.body.on('data', (chunk: Buffer) => {
        sent += chunk.length;
      });
      counted.body.pause();
      try {
        const chunk = { body: counted.body, ...(size === undefined ? {} : { length: size }) };
        const answer = await commit(call, upload, digest, chunk);
        if (answer.status === 416) {
          answer.close();
          throw badAnswer(host, 'a range where none was given');
        }
      } catch (error) {
        body.destroy();
        await tidy(upload);
        throw upstreamError(counted.failure() ?? error, call.signal);
      }
      return { mediaType: OCTET_STREAM, digest, size: size ?? sent };
    },

    async startUpload(call, repository, options) {
      const algorithm = options?.algorithm;
      const upload = await begin(call, repository, algorithm === undefined ? '' : `?digest-algorithm=${algorithm}`);
      const id = Buffer.from(randomId(18)).toString('base64url') as UploadId;
      uploads.set(id, upload);
      return statusOf(id, upload);
    },

    async uploadStatus(call, repository, id) {
      return status(call, id, uploadOf(call, repository, id));
    },

    async appendUpload(call, repository, id, chunk, guards) {
      refuseGuards(guards);
      const upload = uploadOf(call, repository, id);
      await checkOffset(call, id, upload, chunk);
      const answer = await send(call, upload, 'PATCH', upload.location, chunk);
      if (answer.status === 416) throw await rangeInvalid(answer, call, id, upload);
      answer.close();
      upload.location = locationOf(answer);
      const size = sizeOf(answer, upload.size);
      if (size === undefined) throw badAnswer(host, 'it does not say how much it has');
      upload.size = size;
      return statusOf(id, upload);
    },

    async commitUpload(call, repository, id, digest, last, guards) {
      refuseGuards(guards);
      const upload = uploadOf(call, repository, id);
      await checkOffset(call, id, upload, last);
      let answer: OutboundAnswer;
      try {
        answer = await commit(call, upload, digest, last);
      } catch (error) {
        if (error instanceof RegistryError && error.code === 'DIGEST_INVALID') uploads.delete(id);
        throw error;
      }
      if (answer.status === 416) throw await rangeInvalid(answer, call, id, upload);
      uploads.delete(id);
      return reader.resolveBlob(call, repository, digest);
    },

    async cancelUpload(call, repository, id, guards) {
      refuseGuards(guards);
      const upload = uploadOf(call, repository, id);
      const answer = await to.ask(call, { ...about(repository), method: 'DELETE', path: upload.location });
      answer.close();
      uploads.delete(id);
    },

    async mountBlob(call, repository, digest, from, guards): Promise<Descriptor | undefined> {
      refuseGuards(guards);
      if (from === undefined) return undefined;
      const query = new URLSearchParams({ mount: digest, from });
      const answer = await to.ask(call, {
        method: 'POST',
        path: `${repository}/blobs/uploads/?${query}`,
        scope: `${pushScope(repository)} ${pullScope(from)}`,
        unknown: 'BLOB_UNKNOWN',
      });
      answer.close();
      if (answer.status === 201) return reader.resolveBlob(call, repository, digest);
      // It began an upload instead, which nobody asked for.
      if (answer.status === 202) await tidy({ repository, owner: '', location: locationOf(answer), size: 0 });
      return undefined;
    },
  };
}

function offsetWrong(size: number): RegistryError {
  return new RegistryError('RANGE_INVALID', `The chunk does not begin where the upload stands: at ${size}.`, {
    detail: { size },
  });
}

/**
 * Bytes that the upstream has, of `Range: 0-N`. Nothing and one byte are both written `0-0`: `known` says which of them
 * it was, as far as it can.
 */
function sizeOf(answer: OutboundAnswer, known = 0): number | undefined {
  const header = (answer.header('range') ?? '').replace(/^bytes=/i, '');
  const [start, end = '', more] = header.split('-');
  const last = parseDigits(end.trim());
  if (start?.trim() !== '0' || last === undefined || more !== undefined) return undefined;
  return last === 0 ? Math.min(known, 1) : last + 1;
}
