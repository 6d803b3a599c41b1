/** The collector of an installation: what its configuration makes of it, and what people can ask of it. */
import type { Configuration } from './configuration.ts';
import type { Database } from './database/database.ts';
import type { Clock } from './kit/clock.ts';
import type { Log, Metrics } from './kit/log.ts';
import { type Collected, type Collector, collector } from './maintenance/gc.ts';
import { type Explanation, gcExplain } from './maintenance/gc-explain.ts';
import { type GcStatus, gcPreview, gcStatus, type Preview } from './maintenance/gc-status.ts';
import { type Marker, openMarker } from './maintenance/recover-mark.ts';
import { parseDigest } from './oci/digest.ts';
import type { AdminCommands } from './server/admin.ts';
import type { BlobStorage } from './storage/storage.ts';

/** Storage is listed for bytes that no row knows this often. */
const SWEEP_MILLISECONDS = 7 * 86_400_000;
/** Steps of one call, so that each answers soon. */
const STEPS = 20;
/** Blobs that are listed of those that would go. */
const LISTED = 1_000;

/** What waits and what would go. */
export interface GcReport {
  readonly status: GcStatus;
  readonly preview: Preview;
}

/** The collector that the configuration describes; whether it runs by itself is `gc.enabled`. */
export function collectorFrom(
  { gc }: Configuration,
  parts: { database: Database; storage: BlobStorage; clock: Clock; log: Log; metrics: Metrics; marker?: Marker },
): Collector {
  const { marker = openMarker(parts), ...rest } = parts;
  return collector({
    ...rest,
    beforeDelete: marker.beforeDelete,
    settings: {
      deleteAfterTicks: gc.deleteAfterTicks,
      sweepTicks: Math.ceil(SWEEP_MILLISECONDS / gc.tick),
      haltShare: gc.haltPercent / 100,
      dryRun: gc.dryRun,
    },
  });
}

/** What is served on the admin socket, and done on a folder that no server has. */
export function gcCommands(parts: { database: Database; clock: Clock; collector: Collector }) {
  const { database, clock, collector: collecting } = parts;
  return {
    'gc.status': async (): Promise<GcReport> => ({
      status: await gcStatus(database),
      preview: await gcPreview(database, LISTED, clock.now()),
    }),
    /** Some steps; asked again while `more`. */
    'gc.run': async (args: unknown): Promise<Collected> => {
      const force = (args as { force?: unknown } | undefined)?.force === true;
      const { signal } = new AbortController();
      const sum = { unlinked: 0, condemned: 0, purged: 0, deleted: 0, bytes: 0, orphans: 0, repositories: 0 };
      for (let step = 1; ; step++) {
        const { more, halted, ...done } = await collecting.step(signal, { force });
        for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += done[key];
        if (!more || step === STEPS) return { ...sum, more, ...(halted === undefined ? {} : { halted }) };
      }
    },
    'gc.explain': async (args: unknown): Promise<Explanation> =>
      gcExplain(database, parseDigest(String((args as { digest?: unknown } | undefined)?.digest)), clock.now()),
  } satisfies AdminCommands;
}

/** What each command gives. */
export interface GcResults {
  readonly 'gc.status': GcReport;
  readonly 'gc.run': Collected;
  readonly 'gc.explain': Explanation;
}
