/**
 * What the soak's clients push: a small pool of layers and a catalogue of images over it, the same for every worker, so
 * that the same digests are pushed, shared, deleted and pushed again all the time. All of it follows from the seed.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { describe, type Image, image, index, jsonPiece, type Piece, piece, TYPES } from '../support/images.ts';
import { choices } from '../support/random.ts';

/** Bytes that cannot be compressed and follow from a name. */
function bytesOf(name: string, size: number): Buffer {
  const key = createHash('sha256').update(name).digest();
  return createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16)).update(Buffer.alloc(size));
}

/** Layers below the inline limit, above it, and large enough for several chunks. */
const SIZES: readonly (readonly [count: number, least: number, most: number])[] = [
  [24, 300, 8_000],
  [8, 40_000, 250_000],
  [2, 1_500_000, 2_000_000],
];
const IMAGES = 40;

/** The pool. */
export interface Catalogue {
  readonly layers: readonly Piece[];
  /** Images that every worker pushes: the same manifests in many repositories. */
  readonly images: readonly Image[];
}

/** The pool that follows from a seed. */
export function catalogue(seed: number): Catalogue {
  const random = choices(seed);
  const layers = SIZES.flatMap(([count, least, most]) =>
    Array.from({ length: count }, (_, at) =>
      piece(bytesOf(`${seed} layer ${least} ${at}`, least + random.below(most - least))),
    ),
  );
  const images = Array.from({ length: IMAGES }, (_, at) => {
    const own = [...new Set(Array.from({ length: 1 + random.below(4) }, () => layers[random.below(layers.length)]!))];
    return image({ layers: own, config: config(`${seed} image ${at % 30}`) });
  });
  return { layers, images };
}

function config(note: string): Piece {
  return jsonPiece(
    { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, note },
    TYPES.config,
  );
}

/** An image over layers of the pool that nobody else pushes. */
export function ownImage(layers: readonly Piece[], note: string): Image {
  return image({ layers, config: config(note) });
}

/** An artifact on a subject. */
export function artifact(subject: Piece, layer: Piece, note: string): Image {
  return image({
    layers: [layer],
    config: jsonPiece({ note }, 'application/vnd.longshore.soak.v1+json'),
    artifactType: 'application/vnd.longshore.soak.v1+json',
    subject: describe(subject),
  });
}

/** An index over manifests. */
export function ownIndex(children: readonly Piece[], note: string): Piece {
  return index(
    children.map((child) => describe(child)),
    { annotations: { 'org.opencontainers.image.title': note } },
  );
}
