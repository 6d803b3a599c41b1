/**
 * The collector: what nothing refers to goes, while the registry serves (threats.md §2). It works in small steps that
 * may be broken off and repeated anywhere, by any number of processes at once: review what is due, end undelete
 * windows, then delete the bytes of keys that have been dead for a while. The row goes first and the bytes second, so a
 * crash leaves garbage and never a hole.
 */
import type { Database } from '../database/database.ts';
import { isRemote } from '../database/dialect.ts';
import type { Job } from '../jobs/job.ts';
import type { Clock } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import type { Log, Metrics } from '../kit/log.ts';
import { blobKey, parseBlobKey } from '../oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../oci/digest.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { gcConfirm, gcTake } from './commands/gc-bytes.ts';
import { gcPurge } from './commands/gc-purge.ts';
import { repositoryReview } from './commands/gc-repository.ts';
import { gcReview, type Reviewed } from './commands/gc-review.ts';
import type { Entry } from './commands/gc-review-many.ts';
import { type SeenKey, sweepEnd, sweepNext, sweepSeen } from './commands/gc-sweep.ts';
import { deleteKeys } from './gc-delete.ts';
import { openJournal } from './gc-journal.ts';
import { countBlobs, gcPreview } from './gc-status.ts';

/** How it collects. Ticks, and a share of all blobs. */
export interface CollectorSettings {
  /** How long a key has been dead before its bytes go. At least 1. */
  readonly deleteAfterTicks: number;
  /** How often storage is listed for bytes that no row knows. */
  readonly sweepTicks: number;
  /** The kill switch: nothing goes while more than this share of all blobs would go at once. 1 never halts. */
  readonly haltShare: number;
  /** Nothing is changed; what would go is logged, once a tick. */
  readonly dryRun?: boolean;
}

/** What it is made of. */
export interface CollectorParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly settings: CollectorSettings;
  /** Throws where the database is not the one that storage knows: it was put back, or another copy of it was recovered. */
  readonly beforeDelete?: (taken: { readonly epoch: number; readonly tick: number }) => Promise<void>;
}

/** What a step did. */
export interface Collected {
  /** Links that repositories lost. */
  readonly unlinked: number;
  /** Blobs that were given up. */
  readonly condemned: number;
  /** Tombstones that ended. */
  readonly purged: number;
  /** Keys whose bytes went, and how many bytes that were. */
  readonly deleted: number;
  readonly bytes: number;
  /** Keys in storage that turned out to be dead. */
  readonly orphans: number;
  /** Empty repositories that went. */
  readonly repositories: number;
  /** There is more to do now. */
  readonly more: boolean;
  /** Why nothing was done, where the kill switch stopped it. */
  readonly halted?: string;
}

/** Collects. */
export interface Collector {
  /** One small step; ends early when aborted. `force`: though the kill switch would halt it. */
  step(signal: AbortSignal, options?: { readonly force?: boolean }): Promise<Collected>;
}

/** Entries that one step reviews, tombstones that it ends. */
const REVIEWS = 200;
const REVIEWS_REMOTE = 2_000;
/** Entries of one transaction: a request waits for it to end. Over a network they are reviewed together. */
const AT_ONCE = 20;
const AT_ONCE_REMOTE = 100;
/** Reviews side by side, over a network; requests need the other connections. */
const REVIEWERS = 2;
const PURGES = 100;
/** Keys whose bytes one step deletes: one by one, or where storage has a batch for it. */
const DELETES = 200;
const DELETES_IN_BATCH = 2_000;
/** Keys that one transaction confirms: a short one. */
const CONFIRMS = 500;
/** Stored keys that one command looks at. */
const SEEN = 200;
/** Below this many blobs the kill switch does not look: small installations change as a whole. */
const HALT_FLOOR = 1_000;

/** Most blobs that a dry run counts. */
const PREVIEW = 100_000;

/** Nothing at all. */
const NOTHING: Collected = {
  unlinked: 0,
  condemned: 0,
  purged: 0,
  deleted: 0,
  bytes: 0,
  orphans: 0,
  repositories: 0,
  more: false,
};

/** The collector of this database and storage. */
export function collector(parts: CollectorParts): Collector {
  const { database, storage, log, settings } = parts;
  const measure = measures(parts.metrics);
  const journal = openJournal(storage.records, parts.clock.now());
  const lane = { lane: 'job' } as const;
  const deletes = storage.deleteMany === undefined ? DELETES : DELETES_IN_BATCH;
  /** The tick in which it was asked last whether to go on, and the answer. */
  let asked: { readonly tick: number; readonly why: string | undefined } | undefined;

  /** Why nothing may go now; undefined where all is well. */
  async function stopped(): Promise<string | undefined> {
    if (settings.haltShare >= 1 && settings.dryRun !== true) return undefined;
    const tick = (await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1'))?.tick ?? 0;
    if (asked?.tick === tick) return asked.why;
    const why = settings.dryRun === true ? await dryRun() : await tooMuch();
    asked = { tick, why };
    return why;
  }

  async function dryRun(): Promise<string> {
    const { blobs, bytes, more } = await gcPreview(database, PREVIEW, parts.clock.now());
    log.info('the collector only looks', { wouldGo: blobs.length, bytes, more });
    return 'gc.dryRun is on: nothing is removed';
  }

  async function tooMuch(): Promise<string | undefined> {
    const all = await countBlobs(database);
    const most = Math.max(HALT_FLOOR, Math.floor(all * settings.haltShare));
    const { more } = await gcPreview(database, most, parts.clock.now());
    measure.halted(more ? 1 : 0);
    if (!more) return undefined;
    const why = `more than ${most} of ${all} blobs would go at once; see what would go with "longshore gc status", and let it with "longshore gc run --force"`;
    log.error('the collector has halted', { why });
    return why;
  }

  async function review(signal: AbortSignal): Promise<{ unlinked: number; condemned: number; more: boolean }> {
    let [looked, unlinked, condemned] = [0, 0, 0];
    const [most, atOnce] = isRemote(database) ? [REVIEWS_REMOTE, AT_ONCE_REMOTE] : [REVIEWS, AT_ONCE];
    const one = async (args: { limit: number; only?: Entry }): Promise<Reviewed> => {
      failpoint('gc.review.before');
      const done = await database.run(gcReview, args, lane);
      failpoint('gc.review.after');
      unlinked += done.unlinked;
      condemned += done.condemned;
      return done;
    };
    const reviewer = async (until: number): Promise<void> => {
      while (looked < until && !signal.aborted) {
        const limit = Math.min(atOnce, until - looked);
        const done = await one({ limit });
        looked += done.entries;
        for (const only of done.left) if (!signal.aborted) await one({ limit: 1, only });
        // A link that went may leave its row to be reviewed at once.
        if (done.entries < limit && done.unlinked === 0) break;
      }
    };
    // Over a network several run side by side where much is due: none waits for a row of another, and what two of them
    // met at is left for the next tick. A little is done sooner by one.
    await reviewer(isRemote(database) ? AT_ONCE_REMOTE : most);
    if (looked >= AT_ONCE_REMOTE && looked < most)
      await Promise.all(Array.from({ length: REVIEWERS }, () => reviewer(most)));
    measure.unlinked(unlinked);
    measure.condemned(condemned);
    return { unlinked, condemned, more: looked >= most };
  }

  async function purge(signal: AbortSignal): Promise<{ purged: number; more: boolean }> {
    let purged = 0;
    while (purged < PURGES && !signal.aborted) {
      failpoint('gc.purge.before');
      const { tags, manifests } = await database.run(gcPurge, { limit: 20 }, lane);
      failpoint('gc.purge.after');
      if (tags + manifests === 0) break;
      purged += tags + manifests;
    }
    measure.purged(purged);
    // What they named is due for review now.
    return { purged, more: purged > 0 };
  }

  async function deleteBytes(signal: AbortSignal): Promise<{ deleted: number; bytes: number; more: boolean }> {
    const none = { deleted: 0, bytes: 0, more: false };
    const taken = await database.run(gcTake, { deleteAfter: settings.deleteAfterTicks, limit: deletes }, lane);
    if (taken.keys.length === 0 || signal.aborted) return none;
    failpoint('gc.journal.before');
    await journal.append(taken.keys.map(({ digest, n, tick }) => ({ key: blobKey(digestFromBytes(digest), n), tick })));
    failpoint('gc.journal.after');
    // Read after the journal was written: a restore writes its epoch first and then reads the journal, so of the two
    // one sees the other.
    const now = await database.query.get<{ epoch: number }>('select epoch from installation where id = 1');
    if (now?.epoch !== taken.epoch) {
      log.warn('the database was restored meanwhile: the collector deletes nothing of what it took before');
      return none;
    }
    await parts.beforeDelete?.(taken);
    const { gone, bytes } = await deleteKeys(storage, taken.keys, log, signal);
    failpoint('gc.confirm.before');
    for (let from = 0; from < gone.length; from += CONFIRMS)
      await database.run(gcConfirm, { keys: gone.slice(from, from + CONFIRMS) }, lane);
    failpoint('gc.confirm.after');
    measure.deleted(gone.length);
    measure.bytes(bytes);
    return { deleted: gone.length, bytes, more: taken.keys.length === deletes && gone.length > 0 };
  }

  /** One shard of storage, where a sweep is due. */
  async function sweep(signal: AbortSignal): Promise<{ orphans: number; more: boolean }> {
    const shard = await database.run(sweepNext, { every: settings.sweepTicks }, lane);
    if (shard === undefined) return { orphans: 0, more: false };
    let orphans = 0;
    let seen: SeenKey[] = [];
    const tell = async (): Promise<void> => {
      if (seen.length > 0) orphans += await database.run(sweepSeen, { keys: seen }, lane);
      seen = [];
    };
    for await (const { key } of storage.list(shard.toString(16).padStart(2, '0'))) {
      if (signal.aborted) return { orphans, more: false };
      const parsed = parseBlobKey(key);
      if (parsed === undefined) continue;
      seen.push({ key, digest: digestToBytes(parsed.digest), n: parsed.n });
      if (seen.length === SEEN) await tell();
    }
    await tell();
    const ended = await database.run(sweepEnd, { shard }, lane);
    measure.orphans(orphans);
    return { orphans, more: !ended };
  }

  return {
    async step(signal, { force = false } = {}) {
      const why = force ? undefined : await stopped();
      if (why !== undefined) return { ...NOTHING, halted: why };
      const reviewed = await review(signal);
      const purged = signal.aborted ? { purged: 0, more: false } : await purge(signal);
      const repositories = signal.aborted ? 0 : await database.run(repositoryReview, { limit: 50 }, lane);
      const bytes = signal.aborted ? { deleted: 0, bytes: 0, more: false } : await deleteBytes(signal);
      const swept = signal.aborted ? { orphans: 0, more: false } : await sweep(signal);
      const done: Collected = {
        ...reviewed,
        ...purged,
        ...bytes,
        ...swept,
        repositories,
        more: reviewed.more || purged.more || bytes.more || swept.more || repositories === 50,
      };
      if (done.unlinked + done.condemned + done.purged + done.deleted > 0) {
        const { more: _more, halted: _halted, ...counts } = done;
        log.info('collected what nothing refers to', { ...counts });
      }
      return done;
    },
  };
}

function measures(metrics: Metrics) {
  return {
    unlinked: metrics.counter('longshore_gc_unlinked_blobs_total', 'Links of blobs that the collector took away.'),
    condemned: metrics.counter('longshore_gc_condemned_blobs_total', 'Blobs that the collector gave up.'),
    purged: metrics.counter('longshore_gc_purged_tombstones_total', 'Deleted tags and manifests past undelete.'),
    deleted: metrics.counter('longshore_gc_deleted_keys_total', 'Keys whose bytes the collector deleted.'),
    bytes: metrics.counter('longshore_gc_reclaimed_bytes_total', 'Bytes that the collector deleted in storage.'),
    orphans: metrics.counter(
      'longshore_gc_orphan_keys_total',
      'Keys in storage that no row knew and that were given up.',
    ),
    halted: metrics.gauge('longshore_gc_halted', 'Whether the kill switch has halted the collector.'),
  };
}

/** Steps of one run of the job: it comes back soon, and others have their turn. */
const STEPS = 500;

/** The collector as a job that runs by itself, in one process at a time. */
export function gcJobs(collecting: Collector, tickMilliseconds: number): readonly Job<undefined>[] {
  return [
    {
      type: 'gc',
      parse: () => undefined,
      concurrency: 1,
      maxAttempts: 1,
      leaseSeconds: 60,
      everyMilliseconds: Math.min(tickMilliseconds, 60_000),
      async run({ signal }) {
        for (let step = 0; step < STEPS && !signal.aborted; step++) if (!(await collecting.step(signal)).more) return;
      },
    },
  ];
}
