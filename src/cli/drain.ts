/** `longshore drain`: brings everything to storage, through the server that runs or on the folder itself. */
import { type DrainResults, withDrain } from '../reindexing.ts';
import type { Given } from './command-line.ts';
import { configurationOf } from './settings.ts';

type Lag = DrainResults['drain.lag'];
type Drained = DrainResults['drain.step'];

/** Steps between two lines of progress. */
const STEPS = 10;

function lagText({ blobs, repositories }: Lag): string {
  return `${blobs} blobs and the changes of ${repositories} repositories`;
}

/** Drains, says how far it is on standard error, and gives 1 where something could not be written. */
export async function runDrainCommand(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  return withDrain(config, async (ask) => {
    const tell = (line: string): void => void process.stderr.write(`${line}\n`);
    const before = await ask('drain.lag', undefined);
    tell(`Not in storage yet: ${lagText(before)}.`);
    const sum = { blobs: 0, repositories: 0, mirrors: 0, removed: 0 };
    const failed: string[] = [];
    let place: Drained['next'] | undefined = { stage: 'spill' };
    for (let step = 1; place !== undefined; step++) {
      const { next, failed: failures, ...done }: Drained = await ask('drain.step', place);
      for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += done[key];
      for (const failure of failures) {
        failed.push(failure);
        tell(`failed: ${failure}`);
      }
      if (step % STEPS === 0) tell(`${sum.blobs} blobs moved, ${sum.repositories} repositories looked at`);
      place = next;
    }
    const { blobs } = await ask('drain.lag', undefined);
    if (given.flags.json === true) {
      process.stdout.write(`${JSON.stringify({ before, blobsLeft: blobs, ...sum, failed }, undefined, 2)}\n`);
    } else {
      const mirrors = `the mirrors of ${sum.repositories} repositories are up to date (${sum.mirrors} were written, ${sum.removed} of deleted ones removed)`;
      process.stdout.write(
        `${sum.blobs} blobs were moved and ${blobs} are left; ${failed.length === 0 ? mirrors : `${failed.length} mirrors could not be written`}.\n`,
      );
    }
    return failed.length > 0 ? 1 : 0;
  });
}
