/** Conditions of a change are checked inside our own transactions; nothing of the kind exists in another registry. */
import { RegistryError } from '../oci/error.ts';
import type { Guards } from '../registry/guard.ts';

/** UNSUPPORTED where there are any: a condition that nobody checks is worse than none. */
export function refuseGuards(guards: Guards | undefined): void {
  if (guards === undefined || guards.length === 0) return;
  throw new RegistryError('UNSUPPORTED', 'Another registry cannot be held to the conditions of this change.', {
    status: 501,
  });
}
