/**
 * Manifests: parsed once, at the push, into what a registry needs to know of them. The bytes themselves are kept
 * exactly. image-spec, manifest.md and image-index.md; Docker schema 2. A document that two readers could take for
 * two things is refused (CVE-2021-41190).
 */
import { isDigest } from './digest.ts';
import { RegistryError } from './error.ts';
import { scanJson } from './json-scan.ts';
import { DOCKER_LIST, DOCKER_MANIFEST, isNonDistributable, OCI_INDEX, OCI_MANIFEST } from './media-types.ts';
import type { Descriptor, Digest, MediaType } from './names.ts';

/** Deepest nesting of a manifest. */
export const MAX_MANIFEST_DEPTH = 128;

/** A blob that a manifest names. Not required: non-distributable, or with `urls` of its own. */
export interface BlobReference {
  readonly digest: Digest;
  readonly required: boolean;
}

/** What a manifest says. */
export interface ParsedManifest {
  readonly kind: 'image' | 'index';
  readonly mediaType: MediaType;
  /** An image's own, else its config's media type; an index's own (distribution-spec, "Listing Referrers"). */
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly subject?: Descriptor;
  /** Config and layers, each digest once. Empty for an index. */
  readonly blobs: readonly BlobReference[];
  /** The manifests of an index, each digest once. Empty for an image. */
  readonly children: readonly Descriptor[];
}

type Json = { readonly [key: string]: unknown };

/**
 * The manifest, or RegistryError MANIFEST_INVALID that says what is wrong. `contentType`: the request's, without
 * parameters; empty where there was none, then the document's own `mediaType` counts.
 */
export function parseManifest(bytes: Uint8Array, contentType: MediaType): ParsedManifest {
  const document = parseDocument(bytes);
  const mediaType = mediaTypeOf(document, contentType);
  if (mediaType === OCI_MANIFEST || mediaType === DOCKER_MANIFEST) return parseImage(document, mediaType);
  if (mediaType === OCI_INDEX || mediaType === DOCKER_LIST) return parseIndex(document, mediaType);
  throw invalid(
    mediaType.startsWith('application/vnd.docker.distribution.manifest.v1')
      ? 'Docker schema 1 manifests are not accepted: they are obsolete and cannot be verified. Push with Docker 1.10 or newer, or convert the image with "skopeo copy --format oci".'
      : mediaType === 'application/vnd.oci.artifact.manifest.v1+json'
        ? 'OCI artifact manifests of the release candidates are not accepted: push an image manifest with artifactType and subject instead (ORAS 1.0 and newer do).'
        : `The media type ${JSON.stringify(mediaType.slice(0, 100))} is not a manifest that Longshore serves: use an OCI image manifest or index, or a Docker schema 2 manifest or list.`,
  );
}

function invalid(message: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', message);
}

function parseDocument(bytes: Uint8Array): Json {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid('The manifest is not UTF-8 text.');
  }
  if (text.charCodeAt(0) === 0xfeff) throw invalid('The manifest begins with a byte order mark; JSON must not.');
  const wrong = scanJson(text, MAX_MANIFEST_DEPTH);
  if (wrong !== undefined) throw invalid(`The manifest is refused because ${wrong}.`);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw invalid('The manifest is not valid JSON.');
  }
  if (!isObject(document)) throw invalid('The manifest is not a JSON object.');
  return document;
}

function mediaTypeOf(document: Json, contentType: MediaType): MediaType {
  const own = document.mediaType;
  if (own !== undefined && typeof own !== 'string') throw invalid('The manifest\'s "mediaType" is not a text.');
  if (document.schemaVersion === 1) return 'application/vnd.docker.distribution.manifest.v1+json';
  if (own === undefined || own === '') {
    if (contentType !== '') return contentType;
    throw invalid('Neither the request\'s Content-Type nor the manifest\'s "mediaType" says what it is.');
  }
  if (contentType !== '' && contentType !== own) {
    throw invalid(
      `The request's Content-Type is ${contentType.slice(0, 100)}, the manifest's "mediaType" ${own.slice(0, 100)}: they must agree.`,
    );
  }
  return own;
}

function parseImage(document: Json, mediaType: MediaType): ParsedManifest {
  if (document.manifests !== undefined && document.manifests !== null) {
    throw invalid('An image manifest must not have "manifests": it could be read as an index too.');
  }
  const config = readDescriptor(document.config, '"config"');
  const blobs = new Map<Digest, BlobReference>([[config.digest, { digest: config.digest, required: true }]]);
  for (const [at, value] of list(document.layers, '"layers"').entries()) {
    const layer = readDescriptor(value, `"layers[${at}]"`);
    const required = !isNonDistributable(layer.mediaType) && !hasUrls(value);
    blobs.set(layer.digest, { digest: layer.digest, required: required || blobs.get(layer.digest)?.required === true });
  }
  const artifactType = text(document.artifactType, '"artifactType"') || config.mediaType;
  return { kind: 'image', mediaType, blobs: [...blobs.values()], children: [], ...common(document, artifactType) };
}

function parseIndex(document: Json, mediaType: MediaType): ParsedManifest {
  if ((document.layers ?? undefined) !== undefined || (document.config ?? undefined) !== undefined) {
    throw invalid('An index must not have "layers" or "config": it could be read as an image too.');
  }
  const children = new Map<Digest, Descriptor>();
  for (const [at, value] of list(document.manifests, '"manifests"').entries()) {
    const child = readDescriptor(value, `"manifests[${at}]"`);
    if (!children.has(child.digest)) children.set(child.digest, child);
  }
  const artifactType = text(document.artifactType, '"artifactType"');
  return { kind: 'index', mediaType, blobs: [], children: [...children.values()], ...common(document, artifactType) };
}

function common(
  document: Json,
  artifactType: string,
): Pick<ParsedManifest, 'artifactType' | 'annotations' | 'subject'> {
  const annotations = readAnnotations(document.annotations);
  const subject =
    document.subject === undefined || document.subject === null
      ? undefined
      : readDescriptor(document.subject, '"subject"');
  return {
    ...(artifactType === '' ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(subject === undefined ? {} : { subject }),
  };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function list(value: unknown, name: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(`${name} is not a list.`);
  return value;
}

function text(value: unknown, name: string): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw invalid(`${name} is not a text.`);
  return value;
}

function hasUrls(value: unknown): boolean {
  return isObject(value) && Array.isArray(value.urls) && value.urls.length > 0;
}

function readAnnotations(value: unknown): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw invalid('"annotations" is not an object.');
  for (const key of Object.keys(value)) {
    if (typeof value[key] !== 'string')
      throw invalid(`The annotation ${JSON.stringify(key.slice(0, 100))} is not a text.`);
  }
  return value as Record<string, string>;
}

function readDescriptor(value: unknown, name: string): Descriptor {
  if (!isObject(value)) throw invalid(`${name} is not a descriptor (an object with mediaType, digest and size).`);
  const { mediaType, digest, size } = value;
  if (typeof digest !== 'string' || !isDigest(digest))
    throw invalid(`The digest in ${name} is not a sha256 or sha512 digest.`);
  if (mediaType !== undefined && typeof mediaType !== 'string')
    throw invalid(`The mediaType in ${name} is not a text.`);
  if (size !== undefined && (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)) {
    throw invalid(`The size in ${name} is not a whole number of bytes.`);
  }
  return { mediaType: mediaType ?? '', digest, size: size ?? 0 };
}
