/** What keeps an installation in order by itself: one giver of jobs, like a feature, that may touch storage. */
import type { Database } from '../database/database.ts';
import type { EventHandlers, Job, JobGiver, JobRequest } from '../jobs/job.ts';
import type { Clock } from '../kit/clock.ts';
import type { Log, Metrics } from '../kit/log.ts';
import { usageFold } from '../local/commands/house-keeping.ts';
import type { RepositoryName } from '../oci/names.ts';
import { parseRepositoryName } from '../oci/repository-name.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { mirrorLag } from './drain.ts';
import { expireUploads } from './expire.ts';
import { type Collector, gcJobs } from './gc.ts';
import { mirrorRepository } from './mirror.ts';
import { spill } from './spill.ts';

/** What maintenance is made of. */
export interface MaintenanceParts {
  readonly storage: BlobStorage;
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Milliseconds of one tick: nothing expires more often. */
  readonly tickMilliseconds: number;
  /** Whether manifests may name what is not there: a blob that comes later then changes a mirror too. */
  readonly sparse?: boolean;
  /** Absent where nothing is to be removed. */
  readonly collector?: Collector | undefined;
}

/** Inline blobs that one run moves, and how often it runs: about 100 a second. */
const SPILL_SHARE = 500;
const SPILL_EVERY = 5_000;
/** A repository's mirror follows its changes by this much, however many there are. */
const MIRROR_DELAY = 5_000;

const nothing = (): undefined => undefined;

/** The jobs and what they follow from. */
export function maintenance(parts: MaintenanceParts): JobGiver {
  const { database, storage, clock } = parts;
  const spiller = spill(parts);
  const measureMirrors = parts.metrics.gauge(
    'longshore_mirror_lag_repositories',
    'Repositories whose changes are not yet in the index mirror in storage.',
  );
  const spillJob: Job<undefined> = {
    ...periodic('spill', SPILL_EVERY),
    run: async ({ signal }) => {
      measureMirrors(await mirrorLag(database));
      await spiller.run(SPILL_SHARE, signal);
    },
  };
  const expireJob: Job<undefined> = {
    ...periodic('upload.expire', Math.min(parts.tickMilliseconds, 60_000)),
    run: async ({ signal }) => {
      await expireUploads(parts, signal);
    },
  };
  const usageJob: Job<undefined> = {
    ...periodic('usage.fold', 10_000),
    run: async ({ signal }) => {
      while (!signal.aborted && (await database.run(usageFold, {}, { lane: 'job' })) > 0);
    },
  };
  const mirrorJob: Job<{ repository: RepositoryName }> = {
    type: 'mirror.repository',
    parse: (value) => ({ repository: parseRepositoryName(String((value as { repository?: unknown }).repository)) }),
    concurrency: 2,
    // Never given up: nothing else would write this change before the next one, and until then storage is not enough.
    maxAttempts: 1_000_000,
    leaseSeconds: 60,
    run: async (_context, { repository }) => {
      await mirrorRepository({ database, storage }, repository);
    },
  };
  const mirror = ({ repository }: { repository: RepositoryName }): JobRequest[] => [
    { type: mirrorJob.type, key: repository, payload: { repository }, runAt: clock.now() + MIRROR_DELAY },
  ];
  const on: EventHandlers = {
    'manifest.pushed': mirror,
    'manifest.deleted': mirror,
    'manifest.restored': mirror,
    'tag.moved': mirror,
    'tag.deleted': mirror,
    'tag.restored': mirror,
    'repository.deleted': mirror,
    ...(parts.sparse === true ? { 'blob.pushed': mirror, 'blob.mounted': mirror } : {}),
  };
  const collecting = parts.collector === undefined ? [] : gcJobs(parts.collector, parts.tickMilliseconds);
  return { name: 'maintenance', jobs: [spillJob, expireJob, usageJob, mirrorJob, ...collecting], on };
}

function periodic(type: string, everyMilliseconds: number): Omit<Job<undefined>, 'run'> {
  return { type, everyMilliseconds, parse: nothing, concurrency: 1, maxAttempts: 1, leaseSeconds: 60 };
}
