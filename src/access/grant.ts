/** What of the scopes that were asked for a principal gets: the intersection with its rights (edge-cases.md 81). */
import { requestId } from '../kit/id.ts';
import { isRepositoryName } from '../oci/repository-name.ts';
import type { Principal } from '../registry/call.ts';
import type { Access } from './access.ts';
import { actionOfWord, isRegistryScope } from './principals.ts';
import { REGISTRY_ITSELF } from './rights.ts';
import type { Scope } from './scope.ts';

const WORDS = ['pull', 'push', 'delete', 'purge', 'hold'] as const;

/** Never aborted: a grant is decided in one go. */
const going = new AbortController().signal;

/** Scopes of which nothing is left, and those of unknown kinds, are left out. `*` is every word. */
export async function grantedOf(
  access: Access,
  principal: Principal,
  asked: readonly Scope[],
): Promise<readonly Scope[]> {
  const call = { principal, requestId: requestId(), signal: going };
  const granted: Scope[] = [];
  for (const { type, name, actions } of asked) {
    if (type === 'registry' && isRegistryScope(name) && actions.includes('*')) {
      const decision = await access.may(call, `registry.${name}`, REGISTRY_ITSELF);
      if (decision.allowed) granted.push({ type, name, actions: ['*'] });
    } else if (type === 'repository' && isRepositoryName(name)) {
      const words: string[] = [];
      for (const word of WORDS) {
        if (!actions.includes(word) && !actions.includes('*')) continue;
        if ((await access.may(call, actionOfWord(word)!, name)).allowed) words.push(word);
      }
      if (words.length > 0) granted.push({ type, name, actions: words });
    }
  }
  return granted;
}
