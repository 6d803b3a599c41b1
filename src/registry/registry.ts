/**
 * The seam. Whatever holds images implements `Registry`; `/v2/` serves whatever it is handed. Every method throws
 * RegistryError and nothing else (`oci/error.ts`); the codes named here are besides UNAVAILABLE and UNKNOWN, which
 * any may throw. Names follow distribution-spec; sizes are bytes; pages are keyset pages in byte order.
 */
import type { Readable } from 'node:stream';
import type { RandomReader } from '../kit/buffers.ts';
import type {
  Algorithm,
  ByteRange,
  Descriptor,
  Digest,
  MediaType,
  Reference,
  RepositoryName,
  Tag,
  UploadId,
} from '../oci/names.ts';
import type { Call, Visibility } from './call.ts';
import type { Guards } from './guard.ts';

/** One page. `next`: pass it as `after` for the page that follows; absent on the last. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly next?: string;
}

/** `after`: exclusive, need not exist. `limit`: at least 1, at most 10,000 (the caller clamps). */
export interface PageRequest {
  readonly after?: string;
  readonly limit: number;
}

/** The manifest's exact bytes (at most 4 MiB) and what it is. */
export interface ManifestContent {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/** A blob's bytes, in whichever way the implementation can give them; `close` is called once, always. */
export interface BlobContent {
  /** Of the whole blob. */
  readonly descriptor: Descriptor;
  /** What was asked for, within the blob: all of it when no range was asked. */
  readonly range: ByteRange;
  /** Where the client may fetch the bytes itself. */
  readonly redirectUrl?: string;
  /** The range's bytes, when they are already in memory. */
  readonly bytes?: Uint8Array;
  /** Reads at positions counted from the blob's start (not the range's). */
  openRandom?(): Promise<RandomReader>;
  /** The range's bytes as a stream. */
  open(): Readable;
  close(): void;
}

/** An upload under way. `size`: bytes stored so far. `minChunk`: smallest chunk except the last, where storage has one. */
export interface UploadStatus {
  readonly id: UploadId;
  readonly size: number;
  readonly minChunk?: number;
}

/** A piece of a blob. `offset`: where the client says it starts (RANGE_INVALID if it does not). `length`: how many bytes will come (SIZE_INVALID, and nothing kept, if not). */
export interface Chunk {
  readonly body: Readable;
  readonly offset?: number;
  readonly length?: number;
}

/** What the client said at the POST. */
export interface StartUploadOptions {
  readonly algorithm?: Algorithm;
  readonly digest?: Digest;
  readonly size?: number;
}

/** `digest`: what the bytes must hash to (DIGEST_INVALID). `tags`: all or none are moved. */
export interface PushManifestOptions {
  readonly digest?: Digest;
  readonly tags?: readonly Tag[];
  readonly guards?: Guards;
}

/** `tags`: those accepted. `subject`: the manifest's own, for OCI-Subject. */
export interface PushedManifest {
  readonly descriptor: Descriptor;
  readonly tags: readonly Tag[];
  readonly subject?: Digest;
}

/** The reads. */
export interface RegistryReader {
  /** HEAD of a manifest. MANIFEST_UNKNOWN. */
  resolveManifest(call: Call, repository: RepositoryName, reference: Reference): Promise<Descriptor>;
  /** GET of a manifest. MANIFEST_UNKNOWN. */
  getManifest(call: Call, repository: RepositoryName, reference: Reference): Promise<ManifestContent>;
  /** HEAD of a blob: after it, a push that names the blob is good for half the grace. BLOB_UNKNOWN. */
  resolveBlob(call: Call, repository: RepositoryName, digest: Digest): Promise<Descriptor>;
  /** GET of a blob or of a range within it; the range is clipped to the blob. BLOB_UNKNOWN, RANGE_INVALID where it starts at or beyond the end. */
  getBlob(call: Call, repository: RepositoryName, digest: Digest, range?: ByteRange): Promise<BlobContent>;
}

/** The pushes. Each is durable when its promise resolves (design.md §3). */
export interface RegistryWriter {
  /** A whole blob in one call. DIGEST_INVALID, SIZE_INVALID; nothing is kept of a refused one. */
  pushBlob(
    call: Call,
    repository: RepositoryName,
    expected: { digest: Digest; size?: number },
    body: Readable,
    guards?: Guards,
  ): Promise<Descriptor>;
  /** Commits nothing, so it takes no guards. */
  startUpload(call: Call, repository: RepositoryName, options?: StartUploadOptions): Promise<UploadStatus>;
  /** BLOB_UPLOAD_UNKNOWN for an id of another repository or principal too. */
  uploadStatus(call: Call, repository: RepositoryName, id: UploadId): Promise<UploadStatus>;
  /** Appends. A body that breaks off keeps what arrived. BLOB_UPLOAD_UNKNOWN, RANGE_INVALID with `detail.size`, SIZE_INVALID. */
  appendUpload(
    call: Call,
    repository: RepositoryName,
    id: UploadId,
    chunk: Chunk,
    guards?: Guards,
  ): Promise<UploadStatus>;
  /** Ends the upload, with a last chunk or without. DIGEST_INVALID ends it too; RANGE_INVALID appends nothing. */
  commitUpload(
    call: Call,
    repository: RepositoryName,
    id: UploadId,
    digest: Digest,
    last?: Chunk,
    guards?: Guards,
  ): Promise<Descriptor>;
  /** BLOB_UPLOAD_UNKNOWN. */
  cancelUpload(call: Call, repository: RepositoryName, id: UploadId, guards?: Guards): Promise<void>;
  /** Links a blob of another repository. Without `from`, with-access looks for one; an implementation gives undefined. Undefined: not there, upload it. */
  mountBlob(
    call: Call,
    repository: RepositoryName,
    digest: Digest,
    from?: RepositoryName,
    guards?: Guards,
  ): Promise<Descriptor | undefined>;
  /** MANIFEST_INVALID, DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN with every missing digest in `detail`, DENIED by a guard. */
  pushManifest(
    call: Call,
    repository: RepositoryName,
    bytes: Uint8Array,
    mediaType: MediaType,
    options?: PushManifestOptions,
  ): Promise<PushedManifest>;
}

/** The deletes. What is deleted answers 404 at once, everywhere, when the promise resolves. */
export interface RegistryDeleter {
  /** From this repository only. BLOB_UNKNOWN; UNSUPPORTED naming the manifests here that need it. */
  deleteBlob(call: Call, repository: RepositoryName, digest: Digest, guards?: Guards): Promise<void>;
  /** With all its tags. MANIFEST_UNKNOWN; UNSUPPORTED naming indexes, immutable tags or holds. */
  deleteManifest(call: Call, repository: RepositoryName, digest: Digest, guards?: Guards): Promise<void>;
  /** The manifest stays. MANIFEST_UNKNOWN; UNSUPPORTED where the tag is immutable or held. */
  deleteTag(call: Call, repository: RepositoryName, tag: Tag, guards?: Guards): Promise<void>;
}

/** The lists. */
export interface RegistryLister {
  /** Repositories that ever had a manifest, in byte order. */
  listRepositories(call: Call, page: PageRequest, visibility?: Visibility): Promise<Page<RepositoryName>>;
  /** In byte order. NAME_UNKNOWN before the repository's first manifest. */
  listTags(call: Call, repository: RepositoryName, page: PageRequest): Promise<Page<Tag>>;
  /** Those whose subject is this, merged with the fallback tag; empty for what is unknown. `filtered`: artifactType was applied. */
  listReferrers(
    call: Call,
    repository: RepositoryName,
    subject: Digest,
    artifactType: string | undefined,
    page: PageRequest,
  ): Promise<Page<Descriptor> & { readonly filtered: boolean }>;
}

/** A place where images live: 18 methods. */
export interface Registry extends RegistryReader, RegistryWriter, RegistryDeleter, RegistryLister {}

/** What can be brought back. A tag with a digest: the tag on that manifest of the repository, deleted or not (a roll back). */
export type Restorable = Reference | { readonly tag: Tag; readonly digest: Digest };

/** What only our own store can do, under the same wrappers. */
export interface Store extends Registry {
  /** Undelete: links again, in one transaction; nothing where it is there. MANIFEST_UNKNOWN, MANIFEST_BLOB_UNKNOWN. */
  restore(call: Call, repository: RepositoryName, reference: Restorable, guards?: Guards): Promise<void>;
  /** Ends the undelete window now. MANIFEST_UNKNOWN. */
  purge(call: Call, repository: RepositoryName, reference: Reference, guards?: Guards): Promise<void>;
  /** One chunk; call it until `done`. NAME_UNKNOWN. */
  deleteRepository(call: Call, repository: RepositoryName, guards?: Guards): Promise<{ readonly done: boolean }>;
}

/** Who holds a blob, unfiltered: only with-access asks. At most `limit` names. */
export interface BlobSources {
  sourcesOf(digest: Digest, limit: number): Promise<readonly RepositoryName[]>;
}

/** Asked before a manifest leaves: a text refuses with DENIED and that text. */
export interface PullCheck {
  readonly name: string;
  check(call: Call, repository: RepositoryName, manifest: Descriptor): Promise<string | undefined>;
}
