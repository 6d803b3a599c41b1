/**
 * Copies images between registries: replication, import, adoption and bundles are this with other ends. What a
 * manifest names is there before the manifest is, and a tag shows it only after its signatures are there too. Run
 * again after a failure it goes on: what the target has is not sent twice.
 */
import { algorithmOf, digestOf, hexOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { parseManifest } from '../oci/manifest.ts';
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Descriptor, Digest, Reference, RepositoryName, Tag } from '../oci/names.ts';
import type { Call } from './call.ts';
import { narrowIndex, renameChildren, sizesOf } from './copy-index.ts';
import { eachPage } from './each-page.ts';
import type { ManifestContent, PageRequest, Registry, RegistryLister, RegistryReader } from './registry.ts';

/** How to copy. */
export interface CopyOptions {
  /** `os/architecture[/variant]`: an index is narrowed to these, which gives it another digest. Absent: all. */
  readonly platforms?: readonly string[];
  /** Also what refers to the manifests copied: by subject, fallback tag, or cosign's `.sig`, `.att`, `.sbom` tags. */
  readonly referrers: boolean;
  /** Most transfers at once; at least 1. */
  readonly concurrency: number;
  /** Bytes of blobs and manifests that are there; the total grows while manifests are read. */
  onProgress?(doneBytes: number, totalBytes: number): void;
}

/** Where from. */
export interface CopySource {
  readonly repository: RepositoryName;
  readonly reference: Reference;
}

/** Where to. `tags`: set on the root at the end; none: by digest only. */
export interface CopyTarget {
  readonly repository: RepositoryName;
  readonly tags: readonly Tag[];
}

/** Most manifests that one copy may reach. */
const MAX_MANIFESTS = 100_000;
const MANIFEST_TYPES: ReadonlySet<string> = new Set(['', OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]);

/**
 * Copies what `reference` reaches and gives the root's descriptor at the target. What the source does not have is
 * left out; the target decides whether it takes the manifest then. Errors of both ends pass; the first one stops the
 * rest, and no transfer is under way any more when the promise settles.
 */
export async function copy(
  call: Call,
  from: RegistryReader & RegistryLister,
  to: Registry,
  source: CopySource,
  target: CopyTarget,
  options: CopyOptions,
): Promise<Descriptor> {
  const root = await from.getManifest(call, source.repository, source.reference);
  return new Copy(call, from, to, source.repository, target.repository, options).run(root, target.tags);
}

class Copy {
  readonly #call: Call;
  readonly #from: RegistryReader & RegistryLister;
  readonly #to: Registry;
  readonly #source: RepositoryName;
  readonly #target: RepositoryName;
  readonly #options: CopyOptions;
  readonly #blobs = new Map<Digest, Promise<void>>();
  readonly #manifests = new Map<Digest, Promise<ManifestContent | undefined>>();
  /** Manifests whose referrers are still to be looked for. */
  readonly #unasked: Digest[] = [];
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #done = 0;
  #total = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    call: Call,
    from: RegistryReader & RegistryLister,
    to: Registry,
    source: RepositoryName,
    target: RepositoryName,
    options: CopyOptions,
  ) {
    this.#call = call;
    this.#from = from;
    this.#to = to;
    this.#source = source;
    this.#target = target;
    this.#options = options;
  }

  async run(root: ManifestContent, tags: readonly Tag[]): Promise<Descriptor> {
    const { referrers } = this.#options;
    const early = referrers ? [] : tags;
    const { digest } = root.descriptor;
    const copied = this.#tree(root, early);
    this.#manifests.set(digest, copied);
    const there = await copied;
    while (referrers && this.#unasked.length > 0) {
      const batch = this.#unasked.splice(0);
      await this.#all(batch.map((one) => this.#referrers(one)));
    }
    if (tags.length > early.length) await this.#slot(() => this.#push(there, tags));
    return there.descriptor;
  }

  /** Everything that the manifest names, then the manifest; as it is at the target. */
  async #tree(content: ManifestContent, tags: readonly Tag[]): Promise<ManifestContent> {
    const { platforms } = this.#options;
    const { mediaType } = content.descriptor;
    const whole = parseManifest(content.bytes, mediaType);
    const narrow = platforms !== undefined && whole.kind === 'index';
    const kept = narrow ? narrowIndex(content, platforms) : content;
    const parsed = narrow ? parseManifest(kept.bytes, mediaType) : whole;
    const sizes = sizesOf(kept.bytes);
    const renamed = new Map<Digest, Descriptor>();
    this.#progress(0, kept.bytes.length);
    await this.#all([
      ...parsed.blobs.map(({ digest, required }) => this.#blob(digest, sizes.get(digest) ?? 0, required)),
      ...parsed.children.map(async (child) => {
        if (!MANIFEST_TYPES.has(child.mediaType)) return this.#blob(child.digest, child.size, false);
        const copied = await this.#manifest(child.digest);
        if (copied !== undefined && copied.descriptor.digest !== child.digest) {
          renamed.set(child.digest, copied.descriptor);
        }
      }),
    ]);
    const sent = renamed.size === 0 ? kept : renameChildren(kept, renamed);
    await this.#slot(() => this.#push(sent, tags));
    this.#progress(kept.bytes.length, 0);
    this.#unasked.push(content.descriptor.digest);
    return sent;
  }

  async #push({ bytes, descriptor }: ManifestContent, tags: readonly Tag[]): Promise<void> {
    const { digest, mediaType } = descriptor;
    if (tags.length === 0) {
      const head = this.#to.resolveManifest(this.#call, this.#target, { digest });
      if (await found(head, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN')) return;
    }
    await this.#to.pushManifest(this.#call, this.#target, bytes, mediaType, { digest, tags });
  }

  /** Each manifest once; undefined where the source does not have it. */
  #manifest(digest: Digest): Promise<ManifestContent | undefined> {
    let copied = this.#manifests.get(digest);
    if (copied === undefined) {
      copied = this.#get({ digest }).then((content) => (content === undefined ? undefined : this.#tree(content, [])));
      this.#remember(digest, copied);
    }
    return copied;
  }

  #remember(digest: Digest, copied: Promise<ManifestContent | undefined>): void {
    if (this.#manifests.size >= MAX_MANIFESTS) {
      copied.catch(() => {});
      throw new RegistryError('MANIFEST_INVALID', `The copy reaches more than ${MAX_MANIFESTS} manifests.`);
    }
    this.#manifests.set(digest, copied);
  }

  /** Checks the digest: what a foreign registry says of itself is not believed, so the walk cannot go in circles. */
  async #get(reference: Reference): Promise<ManifestContent | undefined> {
    const content = await this.#slot(() =>
      unless(this.#from.getManifest(this.#call, this.#source, reference), 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN'),
    );
    if (content === undefined) return undefined;
    const expected = 'digest' in reference ? reference.digest : content.descriptor.digest;
    if (digestOf(content.bytes, algorithmOf(expected)) === expected) return content;
    throw new RegistryError('DIGEST_INVALID', 'The source sent a manifest that does not have its digest.', {
      detail: { digest: expected },
    });
  }

  async #referrers(subject: Digest): Promise<void> {
    const list = (page: PageRequest) =>
      this.#slot(() => this.#from.listReferrers(this.#call, this.#source, subject, undefined, page));
    const found: Promise<unknown>[] = [];
    try {
      for await (const { digest } of eachPage(list, { limit: 100 })) found.push(this.#manifest(digest));
      for (const suffix of ['sig', 'att', 'sbom']) {
        const tag = `${algorithmOf(subject)}-${hexOf(subject)}.${suffix}` as Tag;
        if (tag.length <= 128) found.push(this.#tagged(tag));
      }
    } catch (error) {
      found.push(Promise.reject(error));
    }
    await this.#all(found);
  }

  /** A manifest that is known by a tag only (cosign before OCI 1.1). */
  async #tagged(tag: Tag): Promise<void> {
    const content = await this.#get({ tag });
    if (content === undefined) return;
    const there = await this.#manifest(content.descriptor.digest);
    if (there !== undefined) await this.#slot(() => this.#push(there, [tag]));
  }

  #blob(digest: Digest, size: number, required: boolean): Promise<void> {
    let copied = this.#blobs.get(digest);
    if (copied === undefined) {
      this.#progress(0, size);
      copied = this.#slot(() => this.#copyBlob(digest, required)).then(() => this.#progress(size, 0));
      this.#blobs.set(digest, copied);
    }
    return copied;
  }

  async #copyBlob(digest: Digest, required: boolean): Promise<void> {
    const head = this.#to.resolveBlob(this.#call, this.#target, digest);
    if (await found(head, 'BLOB_UNKNOWN', 'NAME_UNKNOWN')) return;
    if (this.#source !== this.#target) {
      if ((await this.#to.mountBlob(this.#call, this.#target, digest, this.#source)) !== undefined) return;
    }
    const blob = this.#from.getBlob(this.#call, this.#source, digest);
    const content = await (required ? blob : unless(blob, 'BLOB_UNKNOWN'));
    if (content === undefined) return;
    const body = content.open();
    try {
      const expected = { digest, size: content.descriptor.size };
      await this.#to.pushBlob(this.#call, this.#target, expected, body);
    } finally {
      body.destroy();
      content.close();
    }
  }

  /** Runs `work` when there is room; not at all once a part failed or the call ended. */
  async #slot<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= Math.max(1, this.#options.concurrency)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#running++;
    try {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#call.signal.aborted) {
        throw new RegistryError('UNAVAILABLE', 'The copy was stopped.', { cause: this.#call.signal.reason });
      }
      return await work();
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }

  /** Waits for all, also when one fails, so that nothing runs on behind the caller's back. */
  async #all(parts: readonly Promise<unknown>[]): Promise<void> {
    for (const one of await Promise.allSettled(parts)) {
      if (one.status === 'rejected') throw one.reason;
    }
  }

  #progress(done: number, total: number): void {
    this.#done += done;
    this.#total += total;
    this.#options.onProgress?.(this.#done, this.#total);
  }
}

async function unless<T>(answer: Promise<T>, ...codes: readonly string[]): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RegistryError && codes.includes(error.code)) return undefined;
    throw error;
  }
}

async function found(head: Promise<Descriptor>, ...codes: readonly string[]): Promise<boolean> {
  return (await unless(head, ...codes)) !== undefined;
}
