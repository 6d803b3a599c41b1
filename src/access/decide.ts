/** The one rule of who may do what. Pure: everything it knows is in its arguments. */

import { matchesGlob } from '../kit/glob.ts';
import type { Action, Decision, Principal } from '../registry/call.ts';
import type { Standing } from './access.ts';

/** The reason of a refusal that a wider token of the same account would not get (RFC 6750 §3.1). */
export const INSUFFICIENT_SCOPE = 'insufficient_scope';

/** The one object that allows. */
export const ALLOWED: Decision = Object.freeze({ allowed: true });
const TOO_NARROW: Decision = Object.freeze({ allowed: false, visible: true, reason: INSUFFICIENT_SCOPE });
const HIDDEN: Decision = Object.freeze({ allowed: false, visible: false, reason: 'no_right' });
const SEEN: Decision = Object.freeze({ allowed: false, visible: true, reason: 'no_right' });

function holds(principal: Principal, action: Action, standing: Standing): boolean {
  if (action === 'repository.pull') {
    if (standing.visibility === 'public') return true;
    if (standing.visibility === 'internal' && principal.kind !== 'anonymous') return true;
  }
  const granting = standing.rolesAllow.get(action);
  return granting?.some((role) => standing.roles.includes(role)) ?? false;
}

/** Whether the token in hand, if it is narrowed, reaches as far as this. */
export function withinBounds(principal: Principal, action: Action, repository: string): boolean {
  if (principal.bounds === undefined) return true;
  return principal.bounds.some(
    (bound) =>
      bound.actions.includes(action) && (bound.repository === repository || matchesGlob(bound.repository, repository)),
  );
}

/**
 * Allowed is what a role grants (or, for pulls, the repository's visibility) and the token's bounds do not cut away.
 * The program's own jobs (`system`) may do anything. A refusal is `visible` where the caller may pull, or where only
 * the token is too narrow.
 */
export function decide(principal: Principal, action: Action, standing: Standing): Decision {
  if (principal.kind === 'system') return ALLOWED;
  if (holds(principal, action, standing)) {
    return withinBounds(principal, action, standing.repository) ? ALLOWED : TOO_NARROW;
  }
  const sees = holds(principal, 'repository.pull', standing);
  return sees && withinBounds(principal, 'repository.pull', standing.repository) ? SEEN : HIDDEN;
}
