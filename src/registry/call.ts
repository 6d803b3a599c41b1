/** Who asks, from where, until when: the first argument of every method of the seam. */
import type { Facts, Lease, Origin } from '../kit/facts.ts';

/** `repository.pull`, `repository.push`, `repository.delete`, `registry.catalog`, `repository.purge`, `scan.read` … */
export type Action = `${string}.${string}`;

/** The one who asks. */
export interface Principal {
  readonly kind: 'anonymous' | 'user' | 'robot' | 'workload' | 'system';
  /** Stable and unique over all kinds: `user:<uid>`, `anonymous`, `system:<job>`. */
  readonly id: string;
  /** For people: the login name. */
  readonly name: string;
  /** Scopes of the token in hand: they narrow what the account's roles grant, never widen it. Absent: not narrowed. */
  readonly bounds?: readonly { readonly repository: string; readonly actions: readonly Action[] }[];
}

/** Made once per request (`origin`) or job attempt (`lease`). */
export interface Call {
  readonly principal: Principal;
  readonly requestId: string;
  /** Aborts when the client has gone or the job was cancelled. May be made lazily: ask for it only where it is used. */
  readonly signal: AbortSignal;
  readonly origin?: Origin;
  readonly lease?: Lease;
}

/** What a command that emits needs to know of the call. */
export function factsOf(call: Call): Facts {
  return { actor: call.principal.id, request: { id: call.requestId, ...call.origin } };
}

/** What the pure rule says. `visible`: whether a refusal may admit that the repository could exist. */
export type Decision =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly visible: boolean; readonly reason: string };

/** For listings, applied in SQL: a name in a range [from, to), matching a glob pattern, or with an id. */
export type Visibility =
  | 'all'
  | {
      readonly ranges: readonly { readonly from: string; readonly to: string }[];
      readonly patterns: readonly string[];
      readonly ids: readonly number[];
    };
