/** What the cases push and look at: digests, blobs, manifests, and the checks that every answer shares. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { type Answer, type AskOptions, ask, type Place } from './wire.ts';

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
export const EMPTY_CONFIG = Buffer.from('{}');

export type Headers = Readonly<Record<string, string>>;

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  [more: string]: unknown;
}

export function digestOf(bytes: Uint8Array | string, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

export function bytesOf(size: number): Buffer {
  return randomBytes(size);
}

export function descriptor(bytes: Uint8Array | string, mediaType: string, more: object = {}): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: Buffer.byteLength(bytes), ...more };
}

/** Asserts an error of the specification: status, code, and its form. Gives the first error. */
export function expectError(
  answer: Answer,
  status: number,
  code: string,
): { code: string; message: string; detail?: unknown } {
  assert.equal(answer.status, status, `${answer.status} ${answer.text().slice(0, 300)}`);
  assert.match(answer.header('content-type'), /^application\/json(;|$)/);
  assert.equal(answer.header('content-length'), String(answer.body.length));
  const body = answer.json();
  assert.ok(Array.isArray(body.errors) && body.errors.length > 0, answer.text());
  assert.equal(body.errors[0].code, code, answer.text());
  assert.equal(typeof body.errors[0].message, 'string');
  assert.doesNotMatch(answer.text(), /\.ts:\d+|node:internal|\bat [\w.]+ \(/, 'an error tells of the source');
  return body.errors[0];
}

/** Asserts a status, with the body in the message where it differs. */
export function expectStatus(answer: Answer, status: number): Answer {
  assert.equal(answer.status, status, `${answer.status} ${answer.text().slice(0, 300)}`);
  return answer;
}

/** Opens an upload; gives its Location. */
export async function startUpload(
  place: Place,
  repository: string,
  headers: Headers = {},
  query = '',
): Promise<string> {
  const answer = await ask(place, 'POST', `/v2/${repository}/blobs/uploads/${query}`, { headers });
  expectStatus(answer, 202);
  return answer.header('location');
}

/** A Location with one more query parameter. */
export function withQuery(location: string, query: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}${query}`;
}

/** POST and PUT of a whole blob; gives its digest. */
export async function pushBlob(
  place: Place,
  repository: string,
  bytes: Uint8Array | string,
  headers: Headers = {},
): Promise<string> {
  const digest = digestOf(bytes);
  const location = await startUpload(place, repository, headers);
  const put = await ask(place, 'PUT', withQuery(location, `digest=${encodeURIComponent(digest)}`), {
    headers: { 'content-type': 'application/octet-stream', ...headers },
    body: bytes,
  });
  expectStatus(put, 201);
  return digest;
}

/** A manifest in text form. `more` is laid over the fields. */
export function imageManifest(
  config: Uint8Array | string,
  layers: readonly (Uint8Array | string)[],
  more: object = {},
): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: descriptor(config, OCI_CONFIG),
    layers: layers.map((layer) => descriptor(layer, OCI_LAYER)),
    ...more,
  });
}

export function imageIndex(manifests: readonly Descriptor[], more: object = {}): string {
  return JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests, ...more });
}

export function putManifest(
  place: Place,
  repository: string,
  reference: string,
  bytes: Uint8Array | string,
  type: string = OCI_MANIFEST,
  headers: Headers = {},
): Promise<Answer> {
  return ask(place, 'PUT', `/v2/${repository}/manifests/${reference}`, {
    headers: { 'content-type': type, ...headers },
    body: bytes,
  });
}

/** What `pushImage` has pushed. */
export interface PushedImage {
  readonly digest: string;
  readonly manifest: string;
  readonly config: string;
  readonly layer: Buffer;
  readonly layerDigest: string;
  readonly descriptor: Descriptor;
}

/** Config, one layer, manifest under `reference`. Each call makes its own layer. */
export async function pushImage(
  place: Place,
  repository: string,
  reference: string,
  options: { headers?: Headers; more?: object; layerSize?: number } = {},
): Promise<PushedImage> {
  const layer = bytesOf(options.layerSize ?? 300);
  const config = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } });
  const layerDigest = await pushBlob(place, repository, layer, options.headers);
  await pushBlob(place, repository, config, options.headers);
  const manifest = imageManifest(config, [layer], options.more);
  const digest = digestOf(manifest);
  const put = await putManifest(
    place,
    repository,
    reference === '' ? digest : reference,
    manifest,
    OCI_MANIFEST,
    options.headers,
  );
  expectStatus(put, 201);
  return {
    digest,
    manifest,
    config,
    layer,
    layerDigest,
    descriptor: { mediaType: OCI_MANIFEST, digest, size: Buffer.byteLength(manifest) },
  };
}

/** GET, as it is needed most. */
export function get(place: Place, path: string, headers: Headers = {}): Promise<Answer> {
  return ask(place, 'GET', path, { headers });
}

/** The target of a Link header with rel="next"; undefined without one. */
export function nextOf(answer: Answer): string | undefined {
  const link = answer.header('link');
  if (link === '') return undefined;
  const match = /^<([^>]+)>; rel="next"$/.exec(link);
  assert.ok(match, `Link: ${link}`);
  assert.ok(match[1]!.startsWith('/v2/'), `Link: ${link}`);
  return match[1]!;
}

export function basic(user: string, password: string): Headers {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

export function bearer(token: string): Headers {
  return { authorization: `Bearer ${token}` };
}

/** A token from the token endpoint; `scopes` as their own parameters. */
export async function token(
  place: Place,
  scopes: readonly string[],
  headers: Headers = {},
  path = '/token',
): Promise<string> {
  const query = scopes.map((scope) => `scope=${encodeURIComponent(scope)}`).join('&');
  const answer = await ask(place, 'GET', `${path}?${query}`, { headers });
  expectStatus(answer, 200);
  return answer.json().token;
}

export type { Answer, AskOptions, Place };
