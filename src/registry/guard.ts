/** What must still be true at the commit: plain data, passed down the call and checked inside the transaction. */
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Call } from './call.ts';

/** Checked inside the transaction, so that no race can slip between. */
export type Guard =
  /** Immutable: tags matching `include` and not `except` (globs) may neither be moved nor deleted; the same digest is allowed. Applied to every tag the command would move or delete, also through a digest or a repository. */
  | {
      readonly kind: 'tags-unmoved';
      readonly rule: string;
      readonly include: readonly string[];
      readonly except: readonly string[];
    }
  /** The tag must point at this digest now; null: must not exist. Fails 412 (If-Match, If-None-Match). */
  | { readonly kind: 'tag-at'; readonly tag: Tag; readonly digest: Digest | null }
  | { readonly kind: 'manifest-unreferenced'; readonly digest: Digest }
  | { readonly kind: 'not-held'; readonly digest: Digest }
  | { readonly kind: 'quota'; readonly project: string; readonly maxBytes?: number; readonly maxManifests?: number };

/** Guards in the order they are checked. */
export type Guards = readonly Guard[];

/** What a mutating method is about to do, in a guard source's words. */
export type Operation =
  | 'blob.push'
  | 'blob.mount'
  | 'blob.delete'
  | 'upload.append'
  | 'upload.commit'
  | 'upload.cancel'
  | 'manifest.push'
  | 'manifest.delete'
  | 'tag.delete'
  | 'restore'
  | 'purge'
  | 'repository.delete';

/** The change that a guard source is asked about. `tags`: those that the client named. */
export interface Change {
  readonly operation: Operation;
  readonly repository: RepositoryName;
  readonly digest?: Digest;
  readonly tags: readonly Tag[];
}

/** Answers which guards a change must carry. Asked before every mutation, by requests and jobs alike. */
export interface GuardSource {
  guardsFor(call: Call, change: Change): Promise<Guards> | Guards;
}
