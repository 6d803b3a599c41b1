/**
 * Puts an empty database in the place of whatever is there, for a restore. What was there is kept aside, never removed;
 * the new one bears a mark until the restore has ended, under which nothing serves it.
 */
import type { Afresh, Before } from './restore-mark.ts';
import type { DatabasePlace } from './snapshot.ts';

/** Does it in one step that a crash leaves whole: before it all is as it was, after it the empty database is there. FaultError. */
export async function startAfresh(place: DatabasePlace, afresh: Afresh): Promise<Before> {
  if ('folder' in place) return (await import('./sqlite/afresh.ts')).sqliteAfresh(place.folder, afresh);
  return (await import('./postgres/afresh.ts')).postgresAfresh(place.url, afresh);
}
