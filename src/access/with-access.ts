/**
 * The guard in front of everything a request reaches: each method names the right it needs. No base class: a method
 * more in `Store` fails the build until somebody decides who may call it. What may is answered alike whether the
 * repository exists (decisions.md 26, routes.md §1 A).
 */
import { RegistryError } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { Action, Call, Decision } from '../registry/call.ts';
import type { BlobSources, Store } from '../registry/registry.ts';
import type { Access } from './access.ts';
import { INSUFFICIENT_SCOPE } from './decide.ts';
import { inVisibility, REGISTRY_ITSELF } from './rights.ts';

/** The `detail` of an UNAUTHORIZED: what the challenge must say. */
export interface ChallengeDetail {
  /** Blank-separated scopes that would do, as in `repository:a/b:pull,push`. */
  readonly scope?: string;
  /** RFC 6750 §3.1: `invalid_token`, `insufficient_scope`. Absent where no token was given. */
  readonly error?: string;
}

/** Most holders of a blob looked at for a mount that names no source. */
const MAX_SOURCES = 100;

/** What a client must ask a token for. A push reads too: clients ask for both. */
export function scopeOf(action: Action, repository: string): string {
  switch (action) {
    case 'registry.catalog':
      return 'registry:catalog:*';
    case 'registry.admin':
      return 'registry:admin:*';
    case 'repository.push':
      return `repository:${repository}:pull,push`;
    default:
      return `repository:${repository}:${action.slice(action.indexOf('.') + 1)}`;
  }
}

/** What an UNAUTHORIZED's detail says to the challenge; empty for every other error. */
export function challengeOf(error: unknown): ChallengeDetail {
  if (!(error instanceof RegistryError) || error.code !== 'UNAUTHORIZED') return {};
  const detail = error.detail;
  if (typeof detail !== 'object' || detail === null) return {};
  const { scope, error: word } = detail as { scope?: unknown; error?: unknown };
  return {
    ...(typeof scope === 'string' ? { scope } : {}),
    ...(typeof word === 'string' ? { error: word } : {}),
  };
}

/** The error of a refusal. The same text for every repository, so that it tells nothing about it. */
function refusalOf(call: Call, action: Action, repository: RepositoryName, reason: string): RegistryError {
  if (reason === INSUFFICIENT_SCOPE) {
    return new RegistryError(
      'UNAUTHORIZED',
      'The token is not for this. Ask for one with the scope of the challenge.',
      {
        detail: { scope: scopeOf(action, repository), error: INSUFFICIENT_SCOPE } satisfies ChallengeDetail,
      },
    );
  }
  if (call.principal.kind === 'anonymous') {
    return new RegistryError('UNAUTHORIZED', 'Authentication is required. Log in first.', {
      detail: { scope: scopeOf(action, repository) } satisfies ChallengeDetail,
    });
  }
  if (action === 'repository.pull') {
    return new RegistryError('NAME_UNKNOWN', 'The repository does not exist, or you may not see it.');
  }
  return new RegistryError('DENIED', 'You may not do this here. Ask whoever runs the registry for the right.');
}

/** Undefined: go on. */
function judge(decision: Decision, call: Call, action: Action, repository: RepositoryName): RegistryError | undefined {
  return decision.allowed ? undefined : refusalOf(call, action, repository, decision.reason);
}

/** The store with every method guarded, and `authorize` for what must ask before it reads a body. */
export interface GuardedStore extends Store {
  /**
   * Throws, or rejects, as the method that needs this right would. Undefined at once where the answer is known.
   * `repository` undefined: the registry itself, for `registry.catalog`.
   */
  authorize(call: Call, action: Action, repository: RepositoryName | undefined): Promise<void> | void;
}

/** Guards `inner` by `access`. `sources` is asked who holds a blob that a mount names without its source. */
export function withAccess(inner: Store, access: Access, sources: BlobSources): GuardedStore {
  // No promise is made where the answer is there at once: this stands in the way of every request.
  const refusal = (
    call: Call,
    action: Action,
    repository: RepositoryName,
  ): RegistryError | undefined | Promise<RegistryError | undefined> => {
    if (call.principal.kind === 'system') return undefined;
    const decision = access.may(call, action, repository);
    return 'then' in decision
      ? decision.then((known) => judge(known, call, action, repository))
      : judge(decision, call, action, repository);
  };

  const gated = <T>(call: Call, action: Action, repository: RepositoryName, go: () => Promise<T>): Promise<T> => {
    const refused = refusal(call, action, repository);
    if (refused === undefined) return go();
    if (refused instanceof RegistryError) return Promise.reject(refused);
    return refused.then((error) => {
      if (error !== undefined) throw error;
      return go();
    });
  };

  const mayPull = async (call: Call, repository: RepositoryName): Promise<boolean> =>
    call.principal.kind === 'system' || (await access.may(call, 'repository.pull', repository)).allowed;

  const sourceFor = async (
    call: Call,
    digest: Parameters<Store['mountBlob']>[2],
    from: RepositoryName | undefined,
  ): Promise<RepositoryName | undefined> => {
    if (from !== undefined) return (await mayPull(call, from)) ? from : undefined;
    const holders = await sources.sourcesOf(digest, MAX_SOURCES);
    if (call.principal.kind === 'system') return holders[0];
    const visible = await access.visible(call, holders.slice(0, MAX_SOURCES));
    return holders.find((name) => visible.has(name));
  };

  const pull = 'repository.pull';
  const push = 'repository.push';
  const remove = 'repository.delete';

  return {
    authorize: (call, action, repository) => {
      const refused = refusal(call, action, repository ?? REGISTRY_ITSELF);
      if (refused === undefined) return;
      if (refused instanceof RegistryError) throw refused;
      return refused.then((error) => {
        if (error !== undefined) throw error;
      });
    },

    resolveManifest: (call, repository, reference) =>
      gated(call, pull, repository, () => inner.resolveManifest(call, repository, reference)),
    getManifest: (call, repository, reference) =>
      gated(call, pull, repository, () => inner.getManifest(call, repository, reference)),
    resolveBlob: (call, repository, digest) =>
      gated(call, pull, repository, () => inner.resolveBlob(call, repository, digest)),
    getBlob: (call, repository, digest, range) =>
      gated(call, pull, repository, () => inner.getBlob(call, repository, digest, range)),

    pushBlob: (call, repository, expected, body, guards) =>
      gated(call, push, repository, () => inner.pushBlob(call, repository, expected, body, guards)),
    startUpload: (call, repository, options) =>
      gated(call, push, repository, () => inner.startUpload(call, repository, options)),
    uploadStatus: (call, repository, id) =>
      gated(call, push, repository, () => inner.uploadStatus(call, repository, id)),
    appendUpload: (call, repository, id, chunk, guards) =>
      gated(call, push, repository, () => inner.appendUpload(call, repository, id, chunk, guards)),
    commitUpload: (call, repository, id, digest, last, guards) =>
      gated(call, push, repository, () => inner.commitUpload(call, repository, id, digest, last, guards)),
    cancelUpload: (call, repository, id, guards) =>
      gated(call, push, repository, () => inner.cancelUpload(call, repository, id, guards)),
    // A source that may not be read is answered like one that has not the blob: upload it.
    mountBlob: (call, repository, digest, from, guards) =>
      gated(call, push, repository, async () => {
        const source = await sourceFor(call, digest, from);
        return source === undefined ? undefined : inner.mountBlob(call, repository, digest, source, guards);
      }),
    pushManifest: (call, repository, bytes, mediaType, options) =>
      gated(call, push, repository, () => inner.pushManifest(call, repository, bytes, mediaType, options)),

    deleteBlob: (call, repository, digest, guards) =>
      gated(call, remove, repository, () => inner.deleteBlob(call, repository, digest, guards)),
    deleteManifest: (call, repository, digest, guards) =>
      gated(call, remove, repository, () => inner.deleteManifest(call, repository, digest, guards)),
    deleteTag: (call, repository, tag, guards) =>
      gated(call, remove, repository, () => inner.deleteTag(call, repository, tag, guards)),

    listRepositories: (call, page, asked) =>
      gated(call, 'registry.catalog', REGISTRY_ITSELF, async () => {
        const own = call.principal.kind === 'system' ? 'all' : await access.visibility(call);
        if (own === 'all') return inner.listRepositories(call, page, asked);
        const found = await inner.listRepositories(call, page, own);
        if (own.patterns.length === 0 || own.ids.length > 0) return found;
        // SQL may take a pattern for a wider one.
        const shown = inVisibility(own);
        return { ...found, items: found.items.filter(shown) };
      }),
    listTags: (call, repository, page) => gated(call, pull, repository, () => inner.listTags(call, repository, page)),
    listReferrers: (call, repository, subject, artifactType, page) =>
      gated(call, pull, repository, () => inner.listReferrers(call, repository, subject, artifactType, page)),

    restore: (call, repository, reference, guards) =>
      gated(call, push, repository, () => inner.restore(call, repository, reference, guards)),
    purge: (call, repository, reference, guards) =>
      gated(call, 'repository.purge', repository, () => inner.purge(call, repository, reference, guards)),
    deleteRepository: (call, repository, guards) =>
      gated(call, remove, repository, () => inner.deleteRepository(call, repository, guards)),
  };
}
