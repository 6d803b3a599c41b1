/** The principals that everybody shares, so that decisions about them can be remembered by identity. */
import type { Action, Principal } from '../registry/call.ts';

/** Whoever gave no credentials. */
export const ANONYMOUS: Principal = Object.freeze({ kind: 'anonymous', id: 'anonymous', name: 'anonymous' });

/** A token's bounds for one repository; an empty name is the registry itself. */
export type Bound = NonNullable<Principal['bounds']>[number];

/** The action of a scope's word at a repository, or undefined where Longshore knows no such word. */
export function actionOfWord(word: string): Action | undefined {
  switch (word) {
    case 'pull':
      return 'repository.pull';
    case 'push':
      return 'repository.push';
    case 'delete':
      return 'repository.delete';
    case 'purge':
      return 'repository.purge';
    case 'hold':
      return 'repository.hold';
    default:
      return undefined;
  }
}

/** Names of scopes of the type `registry`: its catalog, and what concerns the whole of it. */
export function isRegistryScope(name: string): name is 'catalog' | 'admin' {
  return name === 'catalog' || name === 'admin';
}
