/** Every event there is. A change writes its events to the outbox in the same transaction (design.md §4). */
import type { Facts } from '../kit/facts.ts';
import type { Descriptor, Digest, RepositoryName, Tag } from '../oci/names.ts';

/** What each type says. */
export interface Bodies {
  'manifest.pushed': { readonly manifest: Descriptor; readonly tags: readonly Tag[]; readonly subject?: Digest };
  /** Best effort, in batches with the pull counts. */
  'manifest.pulled': { readonly manifest: Descriptor; readonly tag?: Tag };
  'manifest.deleted': { readonly manifest: Descriptor };
  'manifest.restored': { readonly manifest: Descriptor };
  'tag.moved': { readonly tag: Tag; readonly from?: Digest; readonly to: Digest };
  'tag.deleted': { readonly tag: Tag; readonly from: Digest };
  'tag.restored': { readonly tag: Tag; readonly to: Digest };
  'blob.pushed': { readonly blob: Descriptor };
  'blob.mounted': { readonly blob: Descriptor; readonly source: RepositoryName };
  'blob.deleted': { readonly blob: Descriptor };
  /** Its stored bytes are wrong or missing. One event for each repository that has it, for at most 20 of them. */
  'blob.damaged': { readonly blob: Descriptor; readonly reason: string };
  /** It is whole again. `healedFrom`: the source, `database`, `storage`, or `push`. To the same repositories. */
  'blob.healed': { readonly blob: Descriptor; readonly healedFrom: string };
  'repository.deleted': object;
}

/** A type of event. */
export type EventType = keyof Bodies;

/** `id` is stable over every delivery; `sequence` orders; `at` (milliseconds) is for display. */
export interface EventHead extends Facts {
  readonly id: string;
  readonly sequence: number;
  readonly at: number;
  readonly repository: RepositoryName;
}

/** The event of one type. */
export type EventOf<T extends EventType> = { [K in T]: EventHead & { readonly type: K } & Bodies[K] }[T];
/** Any event. */
export type Event = EventOf<EventType>;
/** An event as a command emits it: the outbox gives it id, sequence and time. */
export type NewEvent = {
  [K in EventType]: Facts & { readonly type: K; readonly repository: RepositoryName } & Bodies[K];
}[EventType];
