/**
 * The base of harmless wrappers: everything goes on to `inner` unchanged. Whoever guards something writes
 * `implements Store` with no base instead, so that a new method fails the build until somebody decides about it.
 */
import type { Store } from './registry.ts';

type Args<M extends keyof Store> = Parameters<Store[M]>;
type Answer<M extends keyof Store> = ReturnType<Store[M]>;

/** Every method delegates. Override some of them. */
export class Passthrough implements Store {
  protected readonly inner: Store;

  constructor(inner: Store) {
    this.inner = inner;
  }

  resolveManifest(...args: Args<'resolveManifest'>): Answer<'resolveManifest'> {
    return this.inner.resolveManifest(...args);
  }
  getManifest(...args: Args<'getManifest'>): Answer<'getManifest'> {
    return this.inner.getManifest(...args);
  }
  resolveBlob(...args: Args<'resolveBlob'>): Answer<'resolveBlob'> {
    return this.inner.resolveBlob(...args);
  }
  getBlob(...args: Args<'getBlob'>): Answer<'getBlob'> {
    return this.inner.getBlob(...args);
  }
  pushBlob(...args: Args<'pushBlob'>): Answer<'pushBlob'> {
    return this.inner.pushBlob(...args);
  }
  startUpload(...args: Args<'startUpload'>): Answer<'startUpload'> {
    return this.inner.startUpload(...args);
  }
  uploadStatus(...args: Args<'uploadStatus'>): Answer<'uploadStatus'> {
    return this.inner.uploadStatus(...args);
  }
  appendUpload(...args: Args<'appendUpload'>): Answer<'appendUpload'> {
    return this.inner.appendUpload(...args);
  }
  commitUpload(...args: Args<'commitUpload'>): Answer<'commitUpload'> {
    return this.inner.commitUpload(...args);
  }
  cancelUpload(...args: Args<'cancelUpload'>): Answer<'cancelUpload'> {
    return this.inner.cancelUpload(...args);
  }
  mountBlob(...args: Args<'mountBlob'>): Answer<'mountBlob'> {
    return this.inner.mountBlob(...args);
  }
  pushManifest(...args: Args<'pushManifest'>): Answer<'pushManifest'> {
    return this.inner.pushManifest(...args);
  }
  deleteBlob(...args: Args<'deleteBlob'>): Answer<'deleteBlob'> {
    return this.inner.deleteBlob(...args);
  }
  deleteManifest(...args: Args<'deleteManifest'>): Answer<'deleteManifest'> {
    return this.inner.deleteManifest(...args);
  }
  deleteTag(...args: Args<'deleteTag'>): Answer<'deleteTag'> {
    return this.inner.deleteTag(...args);
  }
  listRepositories(...args: Args<'listRepositories'>): Answer<'listRepositories'> {
    return this.inner.listRepositories(...args);
  }
  listTags(...args: Args<'listTags'>): Answer<'listTags'> {
    return this.inner.listTags(...args);
  }
  listReferrers(...args: Args<'listReferrers'>): Answer<'listReferrers'> {
    return this.inner.listReferrers(...args);
  }
  restore(...args: Args<'restore'>): Answer<'restore'> {
    return this.inner.restore(...args);
  }
  purge(...args: Args<'purge'>): Answer<'purge'> {
    return this.inner.purge(...args);
  }
  deleteRepository(...args: Args<'deleteRepository'>): Answer<'deleteRepository'> {
    return this.inner.deleteRepository(...args);
  }
}
