/**
 * Takes events off the outbox and puts their jobs into the queue, in one transaction. Rows are claimed by their ids,
 * never by a cursor: a row with a smaller id may be committed later.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { insertJobs, type StoredRequest } from './job-enqueue.ts';

/** An event, by the id of its row, and what follows from it. */
export interface Dispatched {
  readonly id: number;
  readonly requests: readonly StoredRequest[];
}

/** Most rows of one dispatch. */
export const DISPATCH_ROWS = 500;

const AT_ONCE = 50;
const LIST = Array.from({ length: AT_ONCE }, () => '?').join(', ');
const CLAIM = `select id from outbox where id in (${LIST}){ for update skip locked}`;
const DELETE = `delete from outbox where id in (${LIST})`;

/** How many events were taken; the others another process takes at this moment, or has taken. */
export const outboxDispatch: Command<{ readonly events: readonly Dispatched[] }, number> = {
  name: 'outbox-dispatch',
  async run(context, { events }) {
    const claimed = new Set<number>();
    for (let at = 0; at < events.length; at += AT_ONCE) {
      const ids = events.slice(at, at + AT_ONCE).map(({ id }) => id);
      for (const id of await take(context, ids)) claimed.add(id);
    }
    const coalesced = new Map<string, StoredRequest>();
    const single: StoredRequest[] = [];
    for (const { id, requests } of events) {
      if (!claimed.has(id)) continue;
      for (const request of requests) {
        if (request.key === null) single.push(request);
        else {
          const name = `${request.type}\n${request.key}`;
          const earlier = coalesced.get(name);
          if (earlier === undefined || (earlier.runAt ?? 0) > (request.runAt ?? 0)) coalesced.set(name, request);
        }
      }
    }
    await insertJobs(context, [...coalesced.values(), ...single]);
    return { result: claimed.size, touched: [] };
  },
};

/** One text for every number of rows: what is missing is filled up with the first id. */
async function take({ sql }: CommandContext, ids: readonly number[]): Promise<readonly number[]> {
  const full = (list: readonly number[]): number[] => Array.from({ length: AT_ONCE }, (_, i) => list[i] ?? list[0]!);
  const claimed = (await sql.all<{ id: number }>(CLAIM, ...full(ids))).map(({ id }) => id);
  if (claimed.length > 0) await sql.run(DELETE, ...full(claimed));
  return claimed;
}
