/** Puts jobs into the queue. Waiting requests with one key are one job. */
import type { Command, CommandContext } from '../../database/database.ts';

/** A request as it is stored. `payload`: JSON. `runAt`: wall milliseconds, null: at once. */
export interface StoredRequest {
  readonly type: string;
  readonly key: string | null;
  readonly payload: string;
  readonly runAt: number | null;
}

const INSERT = `insert into job (type, key, payload, state, run_at) values (?, ?, ?, 'waiting', ?)
 on conflict (type, key) where state = 'waiting' and key is not null
 do update set run_at = excluded.run_at where job.attempt = 0 and job.run_at > excluded.run_at`;

/**
 * Inserts them in the transaction. A request that meets a waiting one of its key only draws it forward (not where it
 * waits for a retry: its back-off counts). In the order of their keys, so that two at once do not lock crosswise.
 */
export async function insertJobs(context: CommandContext, requests: readonly StoredRequest[]): Promise<void> {
  const order = ({ type, key }: StoredRequest): string => `${type}\n${key ?? ''}`;
  const sorted = [...requests].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  for (const { type, key, payload, runAt } of sorted) {
    await context.sql.run(INSERT, type, key, payload, runAt ?? context.now);
  }
}

/** All or none of them. */
export const jobEnqueue: Command<{ readonly requests: readonly StoredRequest[] }, null> = {
  name: 'job-enqueue',
  async run(context, { requests }) {
    await insertJobs(context, requests);
    return { result: null, touched: [] };
  },
};
