/** What waits, runs and was given up, for people. What was done leaves no row. */
import type { Database } from '../database/database.ts';
import { type Progress, parseProgress } from './progress.ts';

/** A job as it is shown. `runAt`: wall milliseconds. `outcome`: why it was given up. */
export interface JobView {
  readonly id: number;
  readonly type: string;
  readonly key?: string;
  readonly state: 'waiting' | 'running' | 'failed';
  readonly attempt: number;
  readonly runAt: number;
  readonly outcome?: string;
  readonly progress?: Progress;
}

interface Row {
  readonly id: number;
  readonly type: string;
  readonly key: string | null;
  readonly state: JobView['state'];
  readonly attempt: number;
  readonly run_at: number;
  readonly outcome: string | null;
  readonly progress: string | null;
}

const COLUMNS = `select j.id, j.type, j.key, j.state, j.attempt, j.run_at, j.outcome, l.progress
 from job j left join job_lease l on l.job_id = j.id and l.fence = j.fence`;
const ALL = `${COLUMNS} where j.id < ? order by j.id desc limit ?`;
const OF_STATE = `${COLUMNS} where j.id < ? and j.state = ? order by j.id desc limit ?`;

/** The newest first. `after`: the `next` of the page before. `limit`: at least 1; the caller clamps. */
export async function listJobs(
  database: Pick<Database, 'query'>,
  { limit, after = Number.MAX_SAFE_INTEGER, state }: { limit: number; after?: number; state?: JobView['state'] },
): Promise<{ readonly items: readonly JobView[]; readonly next?: number }> {
  const rows =
    state === undefined
      ? await database.query.all<Row>(ALL, after, limit + 1)
      : await database.query.all<Row>(OF_STATE, after, state, limit + 1);
  const items = rows.slice(0, limit).map(viewOf);
  return rows.length > limit ? { items, next: items[limit - 1]!.id } : { items };
}

function viewOf(row: Row): JobView {
  const progress = row.state === 'running' ? parseProgress(row.progress) : undefined;
  return {
    id: row.id,
    type: row.type,
    ...(row.key === null ? {} : { key: row.key }),
    state: row.state,
    attempt: row.attempt,
    runAt: row.run_at,
    ...(row.outcome === null ? {} : { outcome: row.outcome }),
    ...(progress === undefined ? {} : { progress }),
  };
}
