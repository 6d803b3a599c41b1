/** Commands of this room's tests: what the rest of the program would do to its tables. */
import type { Command, CommandList } from '../database/database.ts';
import { emit } from '../events/emit.ts';
import type { NewEvent } from '../events/event.ts';
import { JOB_COMMANDS } from './commands/list.ts';

/** Emits, as a change would. */
export const testEmit: Command<{ readonly events: readonly NewEvent[] }, null> = {
  name: 'test-emit',
  async run(context, { events }) {
    for (const event of events) await emit(context, 0, event);
    return { result: null, touched: events.map((event) => event.repository) };
  },
};

/** A row of the outbox as no `emit` writes it. */
export const testOutbox: Command<{ readonly type: string; readonly payload: object }, null> = {
  name: 'test-outbox',
  async run(context, { type, payload }) {
    await context.outbox(type, 0, payload);
    return { result: null, touched: [] };
  },
};

/** Makes every lease run out, or forgets them all, as a crash of the machine can. */
export const testLeases: Command<{ readonly how: 'expire' | 'forget' }, null> = {
  name: 'test-leases',
  async run({ sql }, { how }) {
    await sql.run(how === 'expire' ? 'update job_lease set until_at = 0' : 'delete from job_lease');
    return { result: null, touched: [] };
  },
};

/** Empties the room's tables. */
export const testClear: Command<null, null> = {
  name: 'test-clear',
  async run({ sql }) {
    for (const table of ['outbox', 'job', 'job_lease']) await sql.run(`delete from ${table}`);
    return { result: null, touched: [] };
  },
};

/** A change that a job makes under its lease. */
export const testChange: Command<null, string> = {
  name: 'test-change',
  async run() {
    return { result: 'changed', touched: [] };
  },
};

/** This room's commands and those above. */
export const TEST_COMMANDS: CommandList = [...JOB_COMMANDS, testEmit, testOutbox, testLeases, testClear, testChange];
