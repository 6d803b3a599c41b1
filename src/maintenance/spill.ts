/**
 * Moves inline bytes to storage, so that storage alone holds everything: the file first, durable under its key, then
 * the row. Manifests stay inline too, for pulls. The lag is a metric; `drain` brings it to 0.
 */
import type { Database } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import type { Metrics } from '../kit/log.ts';
import { spillDone } from '../local/commands/house-keeping.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestFromBytes } from '../oci/digest.ts';
import type { BlobStorage } from '../storage/storage.ts';

/** Blobs that are looked at in one go. */
const BATCH = 64;
/** Above this lag a run does not stop at its share: the database is not the place to keep it all. */
const LAG_LIMIT = 20_000;

/** Brings inline bytes to storage. */
export interface Spill {
  /** At most `share` blobs, more where the lag is large unless `exact`; how many it moved. Ends early when aborted. */
  run(share: number, signal: AbortSignal, options?: { readonly exact?: boolean }): Promise<number>;
  /** How many blobs wait. */
  lag(): Promise<number>;
}

/** The spill between this database and this storage. */
export function spill(parts: { database: Database; storage: BlobStorage; metrics: Metrics }): Spill {
  const { database, storage } = parts;
  const measureLag = parts.metrics.gauge(
    'longshore_spill_lag_blobs',
    'Blobs whose bytes are in the database and not yet in storage.',
  );
  const spilled = parts.metrics.counter(
    'longshore_spilled_blobs_total',
    'Blobs whose bytes were moved from the database to storage.',
  );

  async function lag(): Promise<number> {
    const row = await database.query.get<{ waiting: number }>(
      `select count(*) as waiting from (select 1 as one from blob where state = 'live' and stored = 0 limit 1000000) as bounded`,
    );
    const waiting = Number(row?.waiting ?? 0);
    measureLag(waiting);
    return waiting;
  }

  return {
    lag,
    async run(share, signal, { exact = false } = {}) {
      const most = (await lag()) > LAG_LIMIT && !exact ? Number.POSITIVE_INFINITY : share;
      let moved = 0;
      while (moved < most && !signal.aborted) {
        const rows = await database.query.all<{ digest: Uint8Array; n: number; bytes: Uint8Array }>(
          `select b.digest, b.n, c.bytes from blob b join content c on c.digest = b.digest
           where b.state = 'live' and b.stored = 0 order by b.digest limit ?`,
          Math.min(BATCH, most - moved),
        );
        failpoint('spill.read.after');
        for (const { digest, n, bytes } of rows) {
          await storage.put(blobKey(digestFromBytes(digest), n), bytes);
          failpoint('spill.commit.before');
          await database.run(spillDone, { digest, n }, { lane: 'job' });
          failpoint('spill.commit.after');
        }
        moved += rows.length;
        if (rows.length < BATCH) break;
      }
      if (moved > 0) {
        spilled(moved);
        await lag();
      }
      return moved;
    },
  };
}
