/**
 * What is pushed in the runs: few blobs and manifests, so that they meet often. Each has a digest that begins with ff,
 * so that the sweep of storage has one shard to look at.
 */
import { createHash } from 'node:crypto';
import { digestOf } from '../../src/oci/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-types.ts';
import type { Digest, MediaType } from '../../src/oci/names.ts';

/** The shard that every digest is in. */
export const SHARD = 0xff;

/** A blob. */
export interface Blob {
  readonly name: string;
  readonly digest: Digest;
  readonly bytes: Buffer;
}

/** A manifest, and what it names. */
export interface Manifest {
  readonly name: string;
  readonly digest: Digest;
  readonly bytes: Buffer;
  readonly mediaType: MediaType;
  readonly blobs: readonly Blob[];
  readonly children: readonly Manifest[];
}

function isWanted(bytes: Buffer): boolean {
  return createHash('sha256').update(bytes).digest()[0] === SHARD;
}

function blob(name: string, size: number): Blob {
  for (let nonce = 0; ; nonce++) {
    const bytes = Buffer.alloc(size, '.');
    bytes.write(`${name} ${nonce}`);
    if (isWanted(bytes)) return { name, digest: digestOf(bytes), bytes };
  }
}

function manifest(
  name: string,
  mediaType: MediaType,
  fields: object,
  named: { readonly blobs?: readonly Blob[]; readonly children?: readonly Manifest[] },
): Manifest {
  for (let nonce = 0; ; nonce++) {
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType, ...fields, annotations: { n: `${name} ${nonce}` } }),
    );
    if (isWanted(bytes))
      return {
        name,
        digest: digestOf(bytes),
        bytes,
        mediaType,
        blobs: named.blobs ?? [],
        children: named.children ?? [],
      };
  }
}

const described = ({ digest, bytes }: { digest: Digest; bytes: Buffer }, mediaType: string) => ({
  mediaType,
  digest,
  size: bytes.length,
});

function image(name: string, config: Blob, layers: readonly Blob[], subject?: Manifest): Manifest {
  const fields = {
    config: described(config, 'application/vnd.oci.image.config.v1+json'),
    layers: layers.map((layer) => described(layer, 'application/vnd.oci.image.layer.v1.tar+gzip')),
    ...(subject === undefined ? {} : { subject: described(subject, subject.mediaType) }),
  };
  return manifest(name, OCI_MANIFEST, fields, { blobs: [...new Set([config, ...layers])] });
}

function index(name: string, children: readonly Manifest[]): Manifest {
  return manifest(name, OCI_INDEX, { manifests: children.map((one) => described(one, one.mediaType)) }, { children });
}

/** Small ones are kept inline, large ones go through files. */
export const SMALL: readonly Blob[] = [blob('s0', 40), blob('s1', 60), blob('s2', 80)];
export const LARGE: readonly Blob[] = [blob('L0', 33_000), blob('L1', 33_500)];
export const BLOBS: readonly Blob[] = [...SMALL, ...LARGE];

const [s0, s1, s2] = SMALL as [Blob, Blob, Blob];
const [l0, l1] = LARGE as [Blob, Blob];
const first = image('i0', s0, [l0]);
const second = image('i1', s1, [l0, l1]);
const third = image('i2', s0, [s2]);
const signature = image('sig', s1, [s2], first);
export const IMAGES: readonly Manifest[] = [first, second, third, signature];
export const INDEXES: readonly Manifest[] = [index('x0', [first]), index('x1', [first, third])];
export const MANIFESTS: readonly Manifest[] = [...IMAGES, ...INDEXES];

/** Everything that has bytes, by its digest. */
export const BYTES: ReadonlyMap<string, Buffer> = new Map(
  [...BLOBS, ...MANIFESTS].map(({ digest, bytes }) => [digest as string, bytes]),
);
/** Manifests by their digest. */
export const BY_DIGEST: ReadonlyMap<string, Manifest> = new Map(MANIFESTS.map((one) => [one.digest as string, one]));
