/** A commit under a lease checks that nobody has taken it over: a paused process may wake up late. */
import type { Lease } from '../kit/facts.ts';
import { FaultError } from '../oci/error.ts';
import type { Value } from './database.ts';

/**
 * The statement that finds a row while the lease is held. An id of digits is a job's, any other a name in `lease`. On
 * PostgreSQL the row stays locked until the commit, so that a take-over waits for it.
 */
export function leaseHeld(lease: Lease): { readonly text: string; readonly values: readonly Value[] } {
  return /^[0-9]{1,15}$/.test(lease.id)
    ? {
        text: 'select 1 as held from job where id = ? and fence = ?{ for share}',
        values: [Number(lease.id), lease.fence],
      }
    : { text: 'select 1 as held from lease where name = ? and fence = ?{ for share}', values: [lease.id, lease.fence] };
}

/** What a command ends with whose lease was taken over. */
export function leaseLost(): FaultError {
  return new FaultError('unavailable', 'This work was taken over by another process, which goes on with it.');
}
