/**
 * Rebuilds a database that was thrown away from storage alone: blobs from what lies there, everything else from the
 * index mirror and the bytes of manifests. What only the database knew (accounts, grants, holds, history) is in a
 * backup. It may be broken off anywhere and run again; until it has ended the database is marked, and nothing serves
 * from it. Nothing in storage is changed, but that bytes which only dead keys have are stored again.
 */
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { REINDEX, reindexBegin, reindexEnd } from './commands/reindex-state.ts';
import { MIRROR_PREFIX, repositoryOfTable } from './mirror-format.ts';
import { loadBlobs, loadJournal, type ReindexWork } from './reindex-blobs.ts';
import { emptyReport, note, type Problem, type ReindexReport } from './reindex-report.ts';
import { reindexOne } from './reindex-repository.ts';

/** What a rebuild is made of and told. */
export interface ReindexOptions {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  /** Whether every blob is read and its hash compared; else only manifests are. */
  readonly verify: boolean;
  /** Goes on though most of what is read is wrong. */
  readonly force?: boolean;
  readonly signal: AbortSignal;
  /** Called as soon as there is one, which then counts further while the work goes on. */
  onReport?(report: ReindexReport): void;
  onProblem?(problem: Problem): void;
}

/**
 * Rebuilds. FaultError `unavailable` where the database has something already, where the storage fails, or where
 * another run took over; FaultError `corrupt` where hardly anything has the bytes that its name says.
 */
export async function reindex(options: ReindexOptions): Promise<ReindexReport> {
  const { database, storage, clock, verify, signal } = options;
  const begun = await database.run(reindexBegin, { verify }, { lane: 'job' });
  if ('refused' in begun) {
    throw new FaultError(
      'unavailable',
      `This database has ${begun.refused} already, and reindex only fills an empty one. Stop the server, move the database away (longshore.db and side.db in the data folder; with PostgreSQL, name an empty database), and run it again.`,
    );
  }
  const report = emptyReport();
  report.resumed = begun.resumed;
  options.onReport?.(report);
  const work: ReindexWork = {
    ...{ database, storage, clock, report, signal },
    force: options.force ?? false,
    options: { lane: 'job', lease: { id: REINDEX, fence: begun.fence } },
    problem(problem) {
      note(report, problem);
      options.onProblem?.(problem);
    },
  };
  failpoint('reindex.begin.after');
  await loadJournal(work);
  await loadBlobs(work, begun.place.shard, begun.place.verify);
  for await (const record of storage.records.list(MIRROR_PREFIX)) {
    signal.throwIfAborted();
    const name = repositoryOfTable(record);
    if (name === undefined) continue;
    if (name === null) work.problem({ what: `${record} is not the mirror of any repository`, lost: false });
    else await reindexOne(work, name);
  }
  failpoint('reindex.end.before');
  await database.run(reindexEnd, { fence: begun.fence }, { lane: 'job' });
  return report;
}
