/** Writes an event to the outbox, in the transaction of the change that it tells of. */
import type { CommandContext } from '../database/database.ts';
import type { NewEvent } from './event.ts';

/** One row of the outbox. `repositoryId`: the row that the event's name meant at that moment. */
export function emit(context: Pick<CommandContext, 'outbox'>, repositoryId: number, event: NewEvent): Promise<void> {
  const { type, ...payload } = event;
  return context.outbox(type, repositoryId, payload);
}
