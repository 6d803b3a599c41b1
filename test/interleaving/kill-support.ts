/** What the killed process and the one after it both do. */
import { systemClock } from '../../src/kit/clock.ts';
import { noMetrics, silentLog } from '../../src/kit/log.ts';
import { tickForward } from '../../src/local/commands/house-keeping.ts';
import type { LocalForTest } from '../../src/local/fresh.testing.ts';
import { collector } from '../../src/maintenance/gc.ts';

/** Collects what is due, and the bytes of what was given up, over a few ticks. */
export async function collectAll({ database, storage }: LocalForTest): Promise<void> {
  const collecting = collector({
    database,
    storage,
    clock: systemClock,
    log: silentLog,
    metrics: noMetrics,
    settings: { deleteAfterTicks: 1, sweepTicks: 1_000_000, haltShare: 1 },
  });
  const { signal } = new AbortController();
  for (let tick = 0; tick < 3; tick++) {
    for (let step = 0; step < 3; step++) await collecting.step(signal);
    const row = await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1');
    await database.run(tickForward, { seen: row?.tick ?? 0 });
  }
}
