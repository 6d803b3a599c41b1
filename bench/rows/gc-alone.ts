/**
 * The collector by itself: how many deletions a second it makes, from the review of what is due to the last byte. In
 * this process and through the program's own parts, so that no tick has to be waited for.
 */
import { performance } from 'node:perf_hooks';
import { collectorFrom } from '../../src/collecting.ts';
import { loadConfiguration } from '../../src/configuration.ts';
import type { Database } from '../../src/database/database.ts';
import { tickForward } from '../../src/local/commands/house-keeping.ts';
import type { Collected } from '../../src/maintenance/gc.ts';
import { onFolder } from '../../src/opening.ts';
import type { Figure, Values } from '../types.ts';

/** Beyond this it hangs. Milliseconds. */
const FORBEARANCE = 120_000;

/** What is configured: an installation on the folder `data`. */
export interface Alone {
  readonly data: string;
  readonly gc: { readonly deleteAfterTicks: number };
  readonly [section: string]: unknown;
}

/** Makes the tables, where they are not there. */
export async function prepare(flags: Alone): Promise<void> {
  const { config } = await loadConfiguration({ flags, file: undefined });
  await onFolder(config, async () => undefined);
}

/** Collects everything that is due, which is so many blobs, and then the bytes of what died. */
export async function collectAlone(flags: Alone, count: number): Promise<Values> {
  const { config } = await loadConfiguration({ flags, file: undefined });
  return onFolder(config, async (parts) => {
    const collecting = collectorFrom(config, parts);
    const signal = AbortSignal.timeout(FORBEARANCE);
    const until = async (of: (done: Collected) => number, what: string): Promise<number> => {
      const from = performance.now();
      let reached = 0;
      for (let more = true; more && !signal.aborted; ) {
        const done = await collecting.step(signal);
        reached += of(done);
        more = done.more;
      }
      if (reached !== count) throw new Error(`${reached} of ${count} were ${what}`);
      return (performance.now() - from) / 1000;
    };
    const reviewing = await until(({ condemned }) => condemned, 'condemned');
    for (let passed = 0; passed <= flags.gc.deleteAfterTicks; passed++) await pass(parts.database);
    const deleting = await until(({ deleted }) => deleted, 'deleted');
    return { reviewed: count / reviewing, bytes: count / deleting, whole: count / (reviewing + deleting) };
  });
}

async function pass(database: Database): Promise<void> {
  const row = await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1');
  await database.run(tickForward, { seen: row?.tick ?? 0 });
}

/** Its figures. */
export function aloneFigures(goal?: number): Figure[] {
  const rate = (key: string, title: string): Figure => ({ key, title, unit: '/s', better: 'more' });
  return [
    rate('reviewed', 'blobs reviewed and given up'),
    rate('bytes', 'bytes of keys deleted, with journal and confirmation'),
    { ...rate('whole', 'both, one after the other'), ...(goal === undefined ? {} : { goals: [{ atLeast: goal }] }) },
  ];
}
