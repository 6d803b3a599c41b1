/**
 * Claims due jobs for a worker: a job is run by whoever has its newest fence, until the lease runs out. The lease lies
 * in the second SQLite file, the fence in the job's row; a lease of another fence than the row's counts for nothing.
 */
import type { Command, CommandContext } from '../../database/database.ts';

/** What a worker has room for. `limit`: how many more of this type. */
export interface Wanted {
  readonly type: string;
  readonly limit: number;
  readonly leaseMilliseconds: number;
}

/** A job in the worker's hands. `attempt`: from 1, this one included. */
export interface Claimed {
  readonly id: number;
  readonly type: string;
  readonly key: string | null;
  readonly payload: string;
  readonly attempt: number;
  readonly fence: number;
}

/** `dueIn`: milliseconds until the next waiting job of these types is due; absent where none waits. */
export interface ClaimResult {
  readonly jobs: readonly Claimed[];
  readonly dueIn?: number;
}

/** `expired`: also jobs whose lease ran out; `lost`: also running ones that have no lease at all (at a start). */
export interface ClaimArgs {
  readonly owner: string;
  readonly wanted: readonly Wanted[];
  readonly expired: boolean;
  readonly lost: boolean;
}

// Two jobs of one key never run at once: the second waits for the first.
const DUE = `select j.id, j.type, j.key, j.payload, j.attempt, j.fence from job j
 where j.state = 'waiting' and j.type = ? and j.run_at <= ?
 and (j.key is null or not exists (select 1 from job r where r.state = 'running' and r.type = j.type and r.key = j.key))
 order by j.run_at, j.id limit ?{ for update of j skip locked}`;
const EXPIRED = `select j.id, j.type, j.key, j.payload, j.attempt, j.fence from job_lease l join job j on j.id = l.job_id
 where l.until_at <= ? and j.state = 'running' and j.fence = l.fence and j.type = ?
 order by l.job_id limit ?{ for update of j skip locked}`;
const LOST = `select j.id, j.type, j.key, j.payload, j.attempt, j.fence from job j
 where j.state = 'running' and j.type = ?
 and not exists (select 1 from job_lease l where l.job_id = j.id and l.fence = j.fence)
 order by j.id limit ?{ for update of j skip locked}`;
const TAKE = `update job set state = 'running', attempt = attempt + 1, fence = fence + 1 where id = ? and fence = ?`;
const LEASE = `insert into job_lease (job_id, owner, fence, until_at, progress) values (?, ?, ?, ?, null)
 on conflict (job_id) do update set owner = excluded.owner, fence = excluded.fence, until_at = excluded.until_at,
 progress = null`;
const NEXT = `select run_at from job where state = 'waiting' and type = ? order by run_at, id limit 1`;

/** The jobs now belong to `owner`, each under its new fence. */
export const jobClaim: Command<ClaimArgs, ClaimResult> = {
  name: 'job-claim',
  async run(context, { owner, wanted, expired, lost }) {
    const { sql, now } = context;
    const jobs: Claimed[] = [];
    let next: number | undefined;
    for (const { type, limit, leaseMilliseconds } of wanted) {
      let room = limit;
      const take = async (rows: readonly Claimed[]): Promise<void> => {
        for (const row of rows) {
          if (!(await claim(context, row, owner, leaseMilliseconds))) continue;
          jobs.push({ ...row, attempt: row.attempt + 1, fence: row.fence + 1 });
          room--;
        }
      };
      if (lost && room > 0) await take(await sql.all<Claimed>(LOST, type, room));
      if (expired && room > 0) await take(await sql.all<Claimed>(EXPIRED, now, type, room));
      if (room > 0) await take(await sql.all<Claimed>(DUE, type, now, room));
      const waiting = await sql.get<{ run_at: number }>(NEXT, type);
      if (waiting !== undefined && (next === undefined || waiting.run_at < next)) next = waiting.run_at;
    }
    return { result: { jobs, ...(next === undefined ? {} : { dueIn: next - now }) }, touched: [] };
  },
};

async function claim(context: CommandContext, row: Claimed, owner: string, lease: number): Promise<boolean> {
  if ((await context.sql.run(TAKE, row.id, row.fence)) !== 1) return false;
  await context.sql.run(LEASE, row.id, owner, row.fence + 1, context.now + lease);
  return true;
}
