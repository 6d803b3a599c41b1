/** Tells a tracer of every call through the seam. No base class, so that no method goes unseen. */
import type { RepositoryName } from '../oci/names.ts';
import type { Call } from './call.ts';
import type { Store } from './registry.ts';

/**
 * Runs `work` and gives its answer; what it does around it is its own. `repository` is undefined for
 * listRepositories. It must not change the answer or swallow an error.
 */
export type Tracer = <T>(
  method: keyof Store,
  call: Call,
  repository: RepositoryName | undefined,
  work: () => Promise<T>,
) => Promise<T>;

/** The store under a tracer. */
export function traced(inner: Store, trace: Tracer): Store {
  function on<A extends [Call, RepositoryName, ...unknown[]], T>(
    method: keyof Store,
    work: (...args: A) => Promise<T>,
  ): (...args: A) => Promise<T> {
    return (...args) => trace(method, args[0], args[1], () => work.apply(inner, args));
  }
  return {
    resolveManifest: on('resolveManifest', inner.resolveManifest),
    getManifest: on('getManifest', inner.getManifest),
    resolveBlob: on('resolveBlob', inner.resolveBlob),
    getBlob: on('getBlob', inner.getBlob),
    pushBlob: on('pushBlob', inner.pushBlob),
    startUpload: on('startUpload', inner.startUpload),
    uploadStatus: on('uploadStatus', inner.uploadStatus),
    appendUpload: on('appendUpload', inner.appendUpload),
    commitUpload: on('commitUpload', inner.commitUpload),
    cancelUpload: on('cancelUpload', inner.cancelUpload),
    mountBlob: on('mountBlob', inner.mountBlob),
    pushManifest: on('pushManifest', inner.pushManifest),
    deleteBlob: on('deleteBlob', inner.deleteBlob),
    deleteManifest: on('deleteManifest', inner.deleteManifest),
    deleteTag: on('deleteTag', inner.deleteTag),
    listTags: on('listTags', inner.listTags),
    listReferrers: on('listReferrers', inner.listReferrers),
    restore: on('restore', inner.restore),
    purge: on('purge', inner.purge),
    deleteRepository: on('deleteRepository', inner.deleteRepository),
    listRepositories: (call, page, visibility) =>
      trace('listRepositories', call, undefined, () => inner.listRepositories(call, page, visibility)),
  };
}
