/** Asks every guard source before a mutation and passes what they answer down with it, after the caller's own guards. */
import type { RepositoryName } from '../oci/names.ts';
import type { Call } from './call.ts';
import type { Change, Guard, GuardSource, Guards, Operation } from './guard.ts';
import type { Restorable, Store } from './registry.ts';

/** The store under these sources. A source that throws refuses the change. */
export function withGuards(inner: Store, sources: readonly GuardSource[]): Store {
  return sources.length === 0 ? inner : new WithGuards(inner, sources);
}

function named(reference: Restorable): Pick<Change, 'digest' | 'tags'> {
  if ('tag' in reference && 'digest' in reference) return { digest: reference.digest, tags: [reference.tag] };
  return 'tag' in reference ? { tags: [reference.tag] } : { digest: reference.digest, tags: [] };
}

type Args<M extends keyof Store> = Parameters<Store[M]>;
type Answer<M extends keyof Store> = ReturnType<Store[M]>;

class WithGuards implements Store {
  readonly #inner: Store;
  readonly #sources: readonly GuardSource[];

  constructor(inner: Store, sources: readonly GuardSource[]) {
    this.#inner = inner;
    this.#sources = sources;
  }

  async #guards(
    call: Call,
    operation: Operation,
    repository: RepositoryName,
    what: Pick<Change, 'digest' | 'tags'>,
    own: Guards | undefined,
  ): Promise<Guards> {
    const change: Change = { operation, repository, ...what };
    const guards: Guard[] = [...(own ?? [])];
    for (const source of this.#sources) {
      const answer = source.guardsFor(call, change);
      guards.push(...(answer instanceof Promise ? await answer : answer));
    }
    return guards;
  }

  // Reads and lists change nothing.
  resolveManifest(...args: Args<'resolveManifest'>): Answer<'resolveManifest'> {
    return this.#inner.resolveManifest(...args);
  }
  getManifest(...args: Args<'getManifest'>): Answer<'getManifest'> {
    return this.#inner.getManifest(...args);
  }
  resolveBlob(...args: Args<'resolveBlob'>): Answer<'resolveBlob'> {
    return this.#inner.resolveBlob(...args);
  }
  getBlob(...args: Args<'getBlob'>): Answer<'getBlob'> {
    return this.#inner.getBlob(...args);
  }
  listRepositories(...args: Args<'listRepositories'>): Answer<'listRepositories'> {
    return this.#inner.listRepositories(...args);
  }
  listTags(...args: Args<'listTags'>): Answer<'listTags'> {
    return this.#inner.listTags(...args);
  }
  listReferrers(...args: Args<'listReferrers'>): Answer<'listReferrers'> {
    return this.#inner.listReferrers(...args);
  }
  uploadStatus(...args: Args<'uploadStatus'>): Answer<'uploadStatus'> {
    return this.#inner.uploadStatus(...args);
  }
  /** Commits nothing, so nobody is asked. */
  startUpload(...args: Args<'startUpload'>): Answer<'startUpload'> {
    return this.#inner.startUpload(...args);
  }

  async pushBlob(...[call, repository, expected, body, own]: Args<'pushBlob'>): Answer<'pushBlob'> {
    const what = { digest: expected.digest, tags: [] };
    const guards = await this.#guards(call, 'blob.push', repository, what, own);
    return this.#inner.pushBlob(call, repository, expected, body, guards);
  }
  async appendUpload(...[call, repository, id, chunk, own]: Args<'appendUpload'>): Answer<'appendUpload'> {
    const guards = await this.#guards(call, 'upload.append', repository, { tags: [] }, own);
    return this.#inner.appendUpload(call, repository, id, chunk, guards);
  }
  async commitUpload(...[call, repository, id, digest, last, own]: Args<'commitUpload'>): Answer<'commitUpload'> {
    const guards = await this.#guards(call, 'upload.commit', repository, { digest, tags: [] }, own);
    return this.#inner.commitUpload(call, repository, id, digest, last, guards);
  }
  async cancelUpload(...[call, repository, id, own]: Args<'cancelUpload'>): Answer<'cancelUpload'> {
    const guards = await this.#guards(call, 'upload.cancel', repository, { tags: [] }, own);
    return this.#inner.cancelUpload(call, repository, id, guards);
  }
  async mountBlob(...[call, repository, digest, from, own]: Args<'mountBlob'>): Answer<'mountBlob'> {
    const guards = await this.#guards(call, 'blob.mount', repository, { digest, tags: [] }, own);
    return this.#inner.mountBlob(call, repository, digest, from, guards);
  }
  async pushManifest(...[call, repository, bytes, type, options]: Args<'pushManifest'>): Answer<'pushManifest'> {
    const what = { tags: options?.tags ?? [], ...(options?.digest === undefined ? {} : { digest: options.digest }) };
    const guards = await this.#guards(call, 'manifest.push', repository, what, options?.guards);
    return this.#inner.pushManifest(call, repository, bytes, type, { ...options, guards });
  }
  async deleteBlob(...[call, repository, digest, own]: Args<'deleteBlob'>): Answer<'deleteBlob'> {
    const guards = await this.#guards(call, 'blob.delete', repository, { digest, tags: [] }, own);
    return this.#inner.deleteBlob(call, repository, digest, guards);
  }
  async deleteManifest(...[call, repository, digest, own]: Args<'deleteManifest'>): Answer<'deleteManifest'> {
    const guards = await this.#guards(call, 'manifest.delete', repository, { digest, tags: [] }, own);
    return this.#inner.deleteManifest(call, repository, digest, guards);
  }
  async deleteTag(...[call, repository, tag, own]: Args<'deleteTag'>): Answer<'deleteTag'> {
    const guards = await this.#guards(call, 'tag.delete', repository, { tags: [tag] }, own);
    return this.#inner.deleteTag(call, repository, tag, guards);
  }
  async restore(...[call, repository, reference, own]: Args<'restore'>): Answer<'restore'> {
    const guards = await this.#guards(call, 'restore', repository, named(reference), own);
    return this.#inner.restore(call, repository, reference, guards);
  }
  async purge(...[call, repository, reference, own]: Args<'purge'>): Answer<'purge'> {
    const guards = await this.#guards(call, 'purge', repository, named(reference), own);
    return this.#inner.purge(call, repository, reference, guards);
  }
  async deleteRepository(...[call, repository, own]: Args<'deleteRepository'>): Answer<'deleteRepository'> {
    const guards = await this.#guards(call, 'repository.delete', repository, { tags: [] }, own);
    return this.#inner.deleteRepository(call, repository, guards);
  }
}
