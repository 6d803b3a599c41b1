/** Scrub and healing of an installation: what its configuration makes of them, and what people can ask of them. */
import type { Configuration } from './configuration.ts';
import type { Database } from './database/database.ts';
import { registryHealingSource } from './healing-registry.ts';
import type { JobGiver } from './jobs/job.ts';
import type { Clock } from './kit/clock.ts';
import type { Log, Metrics } from './kit/log.ts';
import { type Healer, healer, healJobs } from './maintenance/heal.ts';
import { storageHealingSource } from './maintenance/heal-storage.ts';
import { type Scrubbed, type Scrubber, scrubber, scrubJob } from './maintenance/scrub.ts';
import { trustMeasures } from './maintenance/scrub-measures.ts';
import { type DamageRecord, listDamaged, type ScrubStatus, scrubStatus } from './maintenance/scrub-status.ts';
import { placeSettings } from './opening.ts';
import type { AdminCommands } from './server/admin.ts';
import type { BlobStorage } from './storage/storage.ts';

/** What both work with. */
export interface ScrubbingParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Both, as a configuration describes them. */
export interface Scrubbing {
  readonly scrubber: Scrubber;
  readonly healer: Healer;
  /** Their jobs. The scrub's only where `scrub.enabled`; what pulls find is healed in any case. */
  readonly giver: JobGiver;
  /** Lets go of the sources. */
  close(): Promise<void>;
}

/** A run from the command line: what it did in one call. */
export interface ScrubRun extends Scrubbed {
  readonly healed: number;
}

/** A page of records. */
export interface DamagedPage {
  readonly items: readonly DamageRecord[];
  readonly next?: number;
}

const MEBIBYTE = 1024 * 1024;
/** How long one call of a run works, so that each answers soon. Milliseconds. */
const CALL = 2_000;
/** Records of one page. */
const PAGE = 200;

/** Scrub and healing that the configuration describes. */
export function scrubbingFrom({ scrub, heal }: Configuration, parts: ScrubbingParts): Scrubbing {
  const measures = trustMeasures(parts.metrics);
  const storages = heal.storages.map((place, index) =>
    storageHealingSource(`storage ${place.driver}${heal.storages.length > 1 ? ` ${index + 1}` : ''}`, async () => {
      // The driver is loaded and the place opened when something is to be healed.
      const { openStorage } = await import('./storage/open.ts');
      return openStorage(placeSettings(place), { log: parts.log });
    }),
  );
  const scrubbing = scrubber({
    ...parts,
    measures,
    settings: { rate: scrub.rate * MEBIBYTE, every: scrub.every },
  });
  const registries = heal.registries.map((entry) => registryHealingSource(entry, parts));
  const healing = healer({ ...parts, measures, sources: [...storages, ...registries] });
  const { jobs = [], on = {} } = healJobs(healing);
  const progress = async (): Promise<{ done: number; total: number }> => {
    const { bytes, totalBytes } = await scrubStatus(parts.database);
    return { done: bytes, total: totalBytes };
  };
  return {
    scrubber: scrubbing,
    healer: healing,
    giver: {
      name: 'trust',
      jobs: scrub.enabled ? [scrubJob(scrubbing, parts.clock, progress), ...jobs] : jobs,
      on,
    },
    close: () => healing.close(),
  };
}

/** What is served on the admin socket, and done on a folder that no server has. */
export function scrubCommands(parts: {
  readonly database: Database;
  readonly clock: Clock;
  readonly scrubbing: Scrubbing;
}) {
  const { database, clock, scrubbing } = parts;
  return {
    'scrub.status': async (): Promise<ScrubStatus> => scrubStatus(database),
    /** Some steps; asked again while `more`. At the end of the round damage is healed as far as sources have it. */
    'scrub.run': async (args: unknown): Promise<ScrubRun> => {
      const { begin, fullSpeed, force } = (args ?? {}) as Readonly<Record<string, unknown>>;
      const { signal } = new AbortController();
      const until = clock.monotonic() + CALL;
      const sum = { blobs: 0, bytes: 0, damaged: 0, unreadable: 0, healed: 0 };
      let first = begin === true;
      for (;;) {
        const options = { begin: first, fullSpeed: fullSpeed === true, force: force === true };
        const { more, waits, ...done } = await scrubbing.scrubber.step(signal, options);
        first = false;
        for (const key of Object.keys(done) as (keyof typeof done)[]) sum[key] += done[key];
        if (waits !== undefined) return { ...sum, more, waits };
        if (!more) break;
        if (clock.monotonic() >= until) return { ...sum, more };
      }
      for (;;) {
        const { healed, more } = await scrubbing.healer.step(signal);
        sum.healed += healed;
        if (!more) return { ...sum, more };
        if (clock.monotonic() >= until) return { ...sum, more };
      }
    },
    'scrub.damaged': async (args: unknown): Promise<DamagedPage> => {
      const { after, open } = (args ?? {}) as Readonly<Record<string, unknown>>;
      const from = typeof after === 'number' && Number.isSafeInteger(after) && after > 0 ? { after } : {};
      return listDamaged(database, { ...from, limit: PAGE, open: open === true });
    },
  } satisfies AdminCommands;
}

/** What each command gives. */
export interface ScrubResults {
  readonly 'scrub.status': ScrubStatus;
  readonly 'scrub.run': ScrubRun;
  readonly 'scrub.damaged': DamagedPage;
}
