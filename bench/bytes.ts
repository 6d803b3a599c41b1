/** Content that is the same in every process and new for every name: a shared random body with a tail of its own. */
import { createCipheriv, createHash, type Hash } from 'node:crypto';

/** A blob in two parts, so that thousands of different ones need the memory of one. */
export interface Blob {
  readonly digest: string;
  readonly size: number;
  readonly parts: readonly [Buffer, Buffer];
}

const bodies = new Map<number, { readonly body: Buffer; readonly hash: Hash }>();

function bodyOf(length: number): { readonly body: Buffer; readonly hash: Hash } {
  let found = bodies.get(length);
  if (found === undefined) {
    // AES in counter mode: incompressible, quick, and the same everywhere.
    const body = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16)).update(Buffer.alloc(length));
    found = { body, hash: createHash('sha256').update(body) };
    bodies.set(length, found);
  }
  return found;
}

/** The blob of this size (at least 32 bytes) and name. Only the first of a size costs hashing it whole. */
export function blobOf(size: number, name: string): Blob {
  const { body, hash } = bodyOf(size - 32);
  const tail = createHash('sha256').update(name).digest();
  return { digest: `sha256:${hash.copy().update(tail).digest('hex')}`, size, parts: [body, tail] };
}

/** What clients accept of a manifest; Distribution gives an OCI manifest only to who names its type. */
export const ACCEPT = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ');

/** A manifest as it is pushed. */
export interface Manifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** An image manifest over these blobs. */
export function imageOf(config: Blob, layers: readonly Blob[], note: string): Manifest {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const text = JSON.stringify({
    schemaVersion: 2,
    mediaType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config.digest, size: config.size },
    layers: layers.map(({ digest, size }) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest,
      size,
    })),
    annotations: { 'org.opencontainers.image.title': note },
  });
  const bytes = Buffer.from(text);
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, mediaType, bytes };
}

/** Tags that sort as they count. */
export function tagOf(index: number): string {
  return `t${String(index).padStart(6, '0')}`;
}
