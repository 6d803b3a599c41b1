/** What tests of the seam push: blobs, images, indexes, and the calls that push them. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { digestOf } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/error.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Algorithm, Descriptor, Digest, MediaType, RepositoryName, Tag } from '../oci/names.ts';
import { parseRepositoryName } from '../oci/repository-name.ts';
import { parseTag } from '../oci/tag.ts';
import type { Call } from './call.ts';
import type { Registry } from './registry.ts';

/** A call by the user of that name. */
export function callAs(name: string): Call {
  return {
    principal: { kind: 'user', id: `user:${name}`, name },
    requestId: `test-${name}`,
    signal: new AbortController().signal,
    origin: { address: '127.0.0.1', host: 'registry.test', method: 'PUT', userAgent: 'test' },
  };
}

/** The name, checked. */
export const repo = (text: string): RepositoryName => parseRepositoryName(text);
/** The tag, checked. */
export const tag = (text: string): Tag => parseTag(text);

/** Bytes with their digest. */
export interface Sample {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: MediaType;
}

/** A blob of this text. */
export function blob(text: string, algorithm: Algorithm = 'sha256'): Sample {
  const bytes = Buffer.from(text);
  return { bytes, digest: digestOf(bytes, algorithm), mediaType: 'application/octet-stream' };
}

/** A descriptor of the sample. */
export function descriptor(sample: Sample, extra: object = {}): Descriptor {
  return { mediaType: sample.mediaType, digest: sample.digest, size: sample.bytes.length, ...extra };
}

/** A manifest of the JSON document. */
export function manifest(document: object, mediaType: MediaType, algorithm: Algorithm = 'sha256'): Sample {
  const bytes = Buffer.from(JSON.stringify(document, undefined, 2));
  return { bytes, digest: digestOf(bytes, algorithm), mediaType };
}

/** An OCI image of these blobs; `extra` adds or replaces fields. */
export function image(config: Sample, layers: readonly Sample[], extra: object = {}): Sample {
  return manifest(
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { ...descriptor(config), mediaType: 'application/vnd.oci.image.config.v1+json' },
      layers: layers.map((layer) => ({
        ...descriptor(layer),
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
      })),
      ...extra,
    },
    OCI_MANIFEST,
  );
}

/** An OCI index of these manifests; `extra` adds or replaces fields. */
export function index(children: readonly (Sample | Descriptor)[], extra: object = {}): Sample {
  const manifests = children.map((child) => ('bytes' in child ? descriptor(child) : child));
  return manifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests, ...extra }, OCI_INDEX);
}

/** A stream of these pieces. */
export function body(...pieces: readonly (string | Uint8Array)[]): Readable {
  const chunks = pieces.map((piece) => Buffer.from(piece)).filter((piece) => piece.length > 0);
  return Readable.from(chunks, { objectMode: false });
}

/** A stream of these pieces that then breaks, as when the client has gone. */
export function brokenBody(...pieces: readonly string[]): Readable {
  async function* generate(): AsyncGenerator<Buffer> {
    for (const piece of pieces) {
      yield Buffer.from(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
  }
  return Readable.from(generate(), { objectMode: false });
}

/** Pushes the blob whole. */
export async function pushBlob(to: Registry, call: Call, repository: RepositoryName, sample: Sample): Promise<void> {
  await to.pushBlob(call, repository, { digest: sample.digest, size: sample.bytes.length }, body(sample.bytes));
}

/** Pushes the manifest by its digest, with tags. */
export async function pushManifest(
  to: Registry,
  call: Call,
  repository: RepositoryName,
  sample: Sample,
  ...tags: readonly string[]
): Promise<void> {
  await to.pushManifest(call, repository, sample.bytes, sample.mediaType, {
    digest: sample.digest,
    tags: tags.map(tag),
  });
}

/** Pushes a small image of one config and one layer made from `seed`. */
export async function pushImage(
  to: Registry,
  call: Call,
  repository: RepositoryName,
  seed: string,
  ...tags: readonly string[]
): Promise<Sample> {
  const config = blob(`{"seed":${JSON.stringify(seed)}}`);
  const layer = blob(`layer of ${seed}`);
  await pushBlob(to, call, repository, config);
  await pushBlob(to, call, repository, layer);
  const sample = image(config, [layer]);
  await pushManifest(to, call, repository, sample, ...tags);
  return sample;
}

/** The whole blob's bytes, through `open`. */
export async function pullBlob(
  from: Registry,
  call: Call,
  repository: RepositoryName,
  digest: Digest,
  range?: { readonly start: number; readonly end: number },
): Promise<Buffer> {
  const content = await from.getBlob(call, repository, digest, range);
  try {
    return Buffer.concat(await content.open().toArray());
  } finally {
    content.close();
  }
}

/** Asserts that the promise rejects with a RegistryError of this code (and status), and returns it. */
export async function refused(promise: Promise<unknown>, code: ErrorCode, status?: number): Promise<RegistryError> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    assert.ok(error instanceof RegistryError, `not a RegistryError: ${String((error as Error)?.stack ?? error)}`);
    assert.equal(error.code, code, error.message);
    if (status !== undefined) assert.equal(error.status, status);
    return error;
  }
  assert.fail(`expected ${code}, but it gave ${JSON.stringify(value)}`);
}

/** Asserts that the error's detail names every one of these. */
export function names(error: RegistryError, ...texts: readonly string[]): void {
  const detail = JSON.stringify(error.detail ?? null);
  for (const text of texts) assert.ok(detail.includes(text), `the detail ${detail} does not name ${text}`);
}
