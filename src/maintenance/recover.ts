/**
 * Makes a database that was put back to an older state fit for the storage that went on without it, and brings back what
 * storage knows of the time between. In this order: the mark under which nothing is served; an epoch of its own, in the
 * database and then in storage, so that whoever still works on another copy stops; the journal, so that no key that died
 * meanwhile lives or is used again; every blob is looked for; what the index mirrors know and the database does not is
 * brought back; what only names bytes that were collected is deleted, for it was deleted before. Broken off anywhere, it
 * is run again.
 */
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { RECOVER, recoverAdopt, recoverBegin, recoverEnd, recoverEpoch } from './commands/recover-state.ts';
import { buryCollected } from './recover-bury.ts';
import { highestEpoch, isOlder, markAnew } from './recover-mark.ts';
import { emptyMerge, type Merged, mergeMirrors } from './recover-merge.ts';
import type { ReindexWork } from './reindex-blobs.ts';
import { emptyReport, note, type Problem } from './reindex-report.ts';
import { type Lost, loadJournal, mirrorAgain, whoNeeds } from './restore.ts';
import { refuseMidRestore } from './restore-mark.ts';
import { type SettleCounts, settleBlobs } from './restore-settle.ts';

/** What a recovery is made of and told. */
export interface RecoverOptions {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  /** Whether what the index mirrors know beyond the database is brought back. */
  readonly merge: boolean;
  readonly signal: AbortSignal;
  onProgress(progress: RecoverProgress): void;
}

/** How far it is. */
export interface RecoverProgress {
  readonly phase: 'journal' | 'blobs' | 'mirrors' | 'done';
  readonly blobs: number;
  readonly repositories: number;
}

/** What a recovery did. */
export interface RecoverResult {
  /** Whether storage had a mark of a later state. */
  readonly wasOlder: boolean;
  /** Whether it went on where an earlier run was broken off. */
  readonly resumed: boolean;
  readonly epoch: number;
  /** Keys that storage says were deleted, and the database did not know of. */
  readonly deadSince: number;
  readonly blobs: Omit<SettleCounts, 'lost' | 'copied' | 'copiedBytes'>;
  /** Stored blobs that no row named and that have one now; what no manifest names is collected in time. */
  readonly adopted: number;
  /** Absent where nothing was to be merged. */
  readonly merged: Merged | undefined;
  /** Manifests that named bytes which were collected since, so they had been deleted; they are again. The first hundred by name. */
  readonly buried: number;
  readonly buriedNames: readonly string[];
  /** What the mirrors know and storage does not have: the first thousand. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
  /** Blobs whose bytes are nowhere, and who names them. */
  readonly lost: readonly Lost[];
  /** Whether every blob that is named has its bytes, and nothing that the mirrors know is missing. */
  readonly whole: boolean;
}

/** Recovers. FaultError where it cannot be begun, where storage or database fails, or where another run took over. */
export async function recover(options: RecoverOptions): Promise<RecoverResult> {
  const { database, storage, clock, signal } = options;
  await refuseMidRestore(database);
  const wasOlder = await isOlder({ database, storage });
  const { fence, resumed } = await database.run(recoverBegin, {}, { lane: 'job' });
  const lease = { lane: 'job', lease: { id: RECOVER, fence } } as const;
  failpoint('older.begin.after');
  const epoch = await database.run(recoverEpoch, { atLeast: (await highestEpoch(storage.records)) + 1 }, lease);
  failpoint('older.epoch.after');
  // Before the journal is read: who deletes for another copy of this database writes the journal first and then reads
  // the marks, so of the two one sees the other.
  await markAnew({ database, storage, clock });
  failpoint('older.mark.after');
  const state = { blobs: 0, repositories: 0 };
  const say = (phase: RecoverProgress['phase']): void => options.onProgress({ phase, ...state });
  say('journal');
  const journal = await loadJournal(database, storage);
  failpoint('older.journal.after');
  let adopted = 0;
  const {
    lost,
    copied: _copied,
    copiedBytes: _bytes,
    ...counts
  } = await settleBlobs({
    ...{ database, storage, signal, isFresh: false },
    onUnknown: async (keys) => {
      for (let at = 0; at < keys.length; at += ADOPTED)
        adopted += await database.run(recoverAdopt, { keys: keys.slice(at, at + ADOPTED) }, lease);
    },
    onProgress: ({ blobs }) => {
      state.blobs = blobs;
      say('blobs');
    },
  });
  failpoint('older.blobs.after');
  const report = emptyReport();
  const work: ReindexWork = {
    ...{ database, storage, clock, report, signal, options: lease, force: false },
    problem: (problem) => note(report, problem),
  };
  const merged = options.merge ? emptyMerge() : undefined;
  if (merged !== undefined) {
    await mergeMirrors(work, merged, () => {
      state.repositories = merged.repositories;
      say('mirrors');
    });
  }
  failpoint('older.merge.after');
  const { buried, names } = await buryCollected(work);
  failpoint('older.bury.after');
  await mirrorAgain(database, storage);
  const named = await whoNeeds(database, lost);
  failpoint('older.end.before');
  await database.run(recoverEnd, { fence }, { lane: 'job' });
  say('done');
  return {
    ...{ wasOlder, resumed, epoch, deadSince: journal.added, blobs: counts, adopted, merged },
    ...{ buried, buriedNames: names, problems: report.listed, problemCount: report.problems },
    // What is lost and named by nothing that is left matters to nobody.
    lost: named.filter(({ neededBy }) => neededBy.length > 0),
    whole: named.every(({ neededBy }) => neededBy.length === 0) && report.lost === 0,
  };
}

/** Rows that one command makes. */
const ADOPTED = 256;
