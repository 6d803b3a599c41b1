/** Who may do what: the interfaces. `decide.ts` has the one pure rule. */
import type { RepositoryName } from '../oci/names.ts';
import type { Action, Call, Decision, Principal, Visibility } from '../registry/call.ts';

/** What `decide` knows of a principal at a repository. `rolesAllow`: role → the actions it grants. */
export interface Standing {
  /** The repository's name; empty for the registry itself (`registry.catalog`). A token's bounds are held against it. */
  readonly repository: string;
  readonly roles: readonly string[];
  readonly visibility: 'public' | 'internal' | 'private' | 'absent';
  readonly rolesAllow: ReadonlyMap<Action, readonly string[]>;
}

/** Asked by with-access, the token service and the API. */
export interface Access {
  may(call: Call, action: Action, repository: RepositoryName): Promise<Decision> | Decision;
  /** Which of these the caller may pull from. */
  visible(call: Call, repositories: readonly RepositoryName[]): Promise<ReadonlySet<RepositoryName>>;
  /** For listings and search: one answer for all rows. */
  visibility(call: Call): Promise<Visibility>;
}

/** What is known of the other end besides its headers. */
export interface Peer {
  /** The client's address: the socket's, or the forwarded one where the socket is a trusted proxy. */
  readonly address: string;
  /** The subject of a verified client certificate. */
  readonly certificateSubject?: string;
}

/** Turns credentials into a principal. No credentials: anonymous. Bad ones: RegistryError UNAUTHORIZED. */
export interface Authenticator {
  authenticate(headers: { readonly authorization?: string | undefined }, peer: Peer): Promise<Principal> | Principal;
}
