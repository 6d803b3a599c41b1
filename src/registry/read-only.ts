/** A store that takes no change: every mutation is UNSUPPORTED. No base class: a new method needs a decision here. */
import { RegistryError } from '../oci/error.ts';
import type { Store } from './registry.ts';

type Args<M extends keyof Store> = Parameters<Store[M]>;
type Answer<M extends keyof Store> = ReturnType<Store[M]>;

/** What clients read when no other reason is given. */
const READ_ONLY = 'This registry is read-only at the moment: it takes no pushes and no deletes.';

/** The store, for reading. `reason`: the message of the refusals. */
export function readOnly(inner: Store, reason: string = READ_ONLY): Store {
  return new ReadOnly(inner, reason);
}

class ReadOnly implements Store {
  readonly #inner: Store;
  readonly #reason: string;

  constructor(inner: Store, reason: string) {
    this.#inner = inner;
    this.#reason = reason;
  }

  async #refuse(): Promise<never> {
    throw new RegistryError('UNSUPPORTED', this.#reason);
  }

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
  /** Changes nothing: an upload begun before may be looked at. */
  uploadStatus(...args: Args<'uploadStatus'>): Answer<'uploadStatus'> {
    return this.#inner.uploadStatus(...args);
  }

  pushBlob(): Answer<'pushBlob'> {
    return this.#refuse();
  }
  startUpload(): Answer<'startUpload'> {
    return this.#refuse();
  }
  appendUpload(): Answer<'appendUpload'> {
    return this.#refuse();
  }
  commitUpload(): Answer<'commitUpload'> {
    return this.#refuse();
  }
  cancelUpload(): Answer<'cancelUpload'> {
    return this.#refuse();
  }
  mountBlob(): Answer<'mountBlob'> {
    return this.#refuse();
  }
  pushManifest(): Answer<'pushManifest'> {
    return this.#refuse();
  }
  deleteBlob(): Answer<'deleteBlob'> {
    return this.#refuse();
  }
  deleteManifest(): Answer<'deleteManifest'> {
    return this.#refuse();
  }
  deleteTag(): Answer<'deleteTag'> {
    return this.#refuse();
  }
  restore(): Answer<'restore'> {
    return this.#refuse();
  }
  purge(): Answer<'purge'> {
    return this.#refuse();
  }
  deleteRepository(): Answer<'deleteRepository'> {
    return this.#refuse();
  }
}
