/** What a copy does with the JSON of a manifest: sizes, an index of some platforms, children under new digests. */
import { algorithmOf, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Descriptor, Digest } from '../oci/names.ts';
import type { ManifestContent } from './registry.ts';

interface Child {
  readonly digest?: unknown;
  readonly size?: unknown;
  readonly platform?: { readonly os?: unknown; readonly architecture?: unknown; readonly variant?: unknown } | null;
  readonly annotations?: Readonly<Record<string, unknown>> | null;
}

interface Document {
  readonly config?: Child;
  readonly layers?: readonly Child[] | null;
  readonly manifests?: readonly Child[] | null;
}

/** Where BuildKit says which image an attestation belongs to. */
const ATTESTS = 'vnd.docker.reference.digest';

// All bytes here passed parseManifest before.
function read(bytes: Uint8Array): Document {
  return JSON.parse(Buffer.from(bytes).toString()) as Document;
}

function rewritten(content: ManifestContent, document: Document): ManifestContent {
  const bytes = Buffer.from(JSON.stringify(document));
  const digest = digestOf(bytes, algorithmOf(content.descriptor.digest));
  return { bytes, descriptor: { mediaType: content.descriptor.mediaType, digest, size: bytes.length } };
}

/** The sizes that the manifest gives for its config and layers, for progress only. */
export function sizesOf(bytes: Uint8Array): ReadonlyMap<unknown, number> {
  const { config, layers } = read(bytes);
  const sizes = new Map<unknown, number>();
  for (const one of [...(config === undefined ? [] : [config]), ...(layers ?? [])]) {
    if (typeof one.size === 'number') sizes.set(one.digest, one.size);
  }
  return sizes;
}

/**
 * The index with the children of these platforms only (`os/architecture`, or with `/variant`); what names no platform
 * stays, attestations go with their image. The same content if all match; else new bytes with a digest of their own.
 * MANIFEST_UNKNOWN where no platform matches.
 */
export function narrowIndex(content: ManifestContent, platforms: readonly string[]): ManifestContent {
  const document = read(content.bytes);
  const children = document.manifests ?? [];
  const attests = (child: Child): unknown => child.annotations?.[ATTESTS];
  const named = children.filter((child) => child.platform && attests(child) === undefined);
  const kept = new Set<Child>(named.filter((child) => platforms.some((wanted) => matches(child, wanted))));
  if (named.length > 0 && kept.size === 0) {
    throw new RegistryError('MANIFEST_UNKNOWN', `The index has no image for ${platforms.join(', ')}.`, {
      detail: { platforms },
    });
  }
  const digests = new Set([...kept].map((child) => child.digest));
  const manifests = children.filter((child) =>
    attests(child) === undefined ? !child.platform || kept.has(child) : digests.has(attests(child)),
  );
  return manifests.length === children.length ? content : rewritten(content, { ...document, manifests });
}

function matches({ platform }: Child, wanted: string): boolean {
  const [os, architecture, variant] = wanted.split('/');
  return (
    platform?.os === os &&
    platform?.architecture === architecture &&
    (variant === undefined || platform?.variant === variant)
  );
}

/** The index with some children under the digests that they have at the target. */
export function renameChildren(content: ManifestContent, to: ReadonlyMap<Digest, Descriptor>): ManifestContent {
  const document = read(content.bytes);
  const manifests = (document.manifests ?? []).map((child) => {
    const renamed = to.get(child.digest as Digest);
    return renamed === undefined ? child : { ...child, digest: renamed.digest, size: renamed.size };
  });
  return rewritten(content, { ...document, manifests });
}
