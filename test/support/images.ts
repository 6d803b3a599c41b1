/** Images made up for tests: exact bytes and the digests they have. */
import { createHash, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';

/** Media types of the OCI image specification, and Docker's. */
export const TYPES = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  tar: 'application/vnd.oci.image.layer.v1.tar',
  empty: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
} as const;

/** A descriptor as it stands in a manifest. */
export interface Described {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly [key: string]: unknown;
}

/** Bytes with what describes them. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly digest: string;
  readonly mediaType: string;
}

/** A manifest with the blobs that it needs. */
export interface Image {
  readonly manifest: Piece;
  readonly blobs: readonly Piece[];
}

/** The digest of bytes. */
export function digestOf(bytes: Uint8Array, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** Bytes, or a text, as a blob. */
export function piece(bytes: Uint8Array | string, mediaType: string = TYPES.layer): Piece {
  const own = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  return { bytes: own, digest: digestOf(own), mediaType };
}

/** A value as a JSON blob. */
export function jsonPiece(value: unknown, mediaType: string): Piece {
  return piece(JSON.stringify(value), mediaType);
}

/** A blob of so many random bytes. */
export function randomPiece(size: number, mediaType: string = TYPES.layer): Piece {
  return piece(randomBytes(size), mediaType);
}

/** A piece's descriptor, with more fields where given. */
export function describe(of: Piece, more: Readonly<Record<string, unknown>> = {}): Described {
  return { mediaType: of.mediaType, digest: of.digest, size: of.bytes.length, ...more };
}

/** What an image is made of. */
export interface ImageParts {
  readonly layers?: readonly Piece[];
  readonly config?: Piece;
  readonly artifactType?: string;
  readonly subject?: Described;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly mediaType?: string;
}

/** An image manifest over the parts; without layers one small random one, so that no two images are the same. */
export function image(parts: ImageParts = {}): Image {
  const layers = parts.layers ?? [randomPiece(64)];
  const config =
    parts.config ??
    jsonPiece(
      { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, note: layers[0]?.digest },
      TYPES.config,
    );
  const mediaType = parts.mediaType ?? TYPES.manifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    ...(parts.artifactType === undefined ? {} : { artifactType: parts.artifactType }),
    config: describe(config),
    layers: layers.map((layer) => describe(layer)),
    ...(parts.subject === undefined ? {} : { subject: parts.subject }),
    ...(parts.annotations === undefined ? {} : { annotations: parts.annotations }),
  };
  return { manifest: jsonPiece(manifest, mediaType), blobs: [config, ...layers] };
}

/** An index over manifests. */
export function index(manifests: readonly Described[], more: Readonly<Record<string, unknown>> = {}): Piece {
  return jsonPiece({ schemaVersion: 2, mediaType: TYPES.index, manifests, ...more }, TYPES.index);
}

/** One file of a tar archive, as a header and padded contents (ustar). */
function tarEntry(name: string, contents: Uint8Array): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0, 100, 'utf8');
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${contents.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write('0', 156);
  header.write('ustar\u000000', 257);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, contents, Buffer.alloc((512 - (contents.length % 512)) % 512)]);
}

/** A tar archive of files. */
export function tar(files: Readonly<Record<string, Uint8Array | string>>): Buffer {
  const entries = Object.entries(files).map(([name, contents]) => tarEntry(name, Buffer.from(contents)));
  return Buffer.concat([...entries, Buffer.alloc(1024)]);
}

/** An image that container tools accept: real gzipped tar layers, a configuration with the right diff ids. */
export function runnableImage(
  layerFiles: readonly Readonly<Record<string, Uint8Array | string>>[],
  platform: { readonly os: string; readonly architecture: string } = { os: 'linux', architecture: 'amd64' },
): Image {
  const tars = layerFiles.map(tar);
  const config = jsonPiece(
    {
      ...platform,
      config: { Cmd: ['/hello'] },
      rootfs: { type: 'layers', diff_ids: tars.map((bytes) => digestOf(bytes)) },
      history: tars.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'a test' })),
    },
    TYPES.config,
  );
  return image({ config, layers: tars.map((bytes) => piece(gzipSync(bytes), TYPES.layer)) });
}
