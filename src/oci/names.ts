/**
 * The words of the OCI specifications as types. A branded type comes only from the parser of its name in this
 * folder (upload ids: `local/upload-id.ts`), so that an unchecked string cannot reach the seam.
 */

declare const brand: unique symbol;
type Brand<T, B extends string> = T & { readonly [brand]: B };

/** `sha256:<64 hex>` or `sha512:<128 hex>`, lower case (image-spec, descriptor, "Digests"). From `oci/digest.ts`. */
export type Digest = Brand<string, 'Digest'>;
/** A repository's name in the grammar of distribution-spec, "Pulling manifests", at most 255 bytes. From `oci/repository-name.ts`. */
export type RepositoryName = Brand<string, 'RepositoryName'>;
/** `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. From `oci/tag.ts`. */
export type Tag = Brand<string, 'Tag'>;
/** The id in an upload's Location. From `local/upload-id.ts` or another implementation of the seam. */
export type UploadId = Brand<string, 'UploadId'>;
/** Where bytes lie: `sha256/ab/<hex>`, or that with `~n` when the plain one is dead. From `oci/blob-key.ts`. */
export type BlobKey = Brand<string, 'BlobKey'>;

/**
 * absent: only named by a sparse manifest; incoming: a key is reserved; live: readable;
 * damaged: HEAD and GET answer 404, a push stores under a new key.
 */
export type BlobState = 'absent' | 'incoming' | 'live' | 'damaged';
/** The registered digest algorithms that are served. */
export type Algorithm = 'sha256' | 'sha512';
/** A media type without parameters, at most 255 bytes where it comes from a client. */
export type MediaType = string;
/** A manifest's name: a tag, which may move, or a digest, which may not. */
export type Reference = { readonly tag: Tag } | { readonly digest: Digest };

/** image-spec, descriptor.md: the fields that Longshore looks at. `size` is bytes. */
export interface Descriptor {
  readonly mediaType: MediaType;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly architecture: string; readonly os: string; readonly variant?: string };
}

/** Half-open byte range [start, end). */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}
