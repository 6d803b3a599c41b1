/** `longshore recover`: a database that was put back to an older state is brought up to its storage. */
import type { RecoveringProgress } from '../recovering.ts';
import { interruptible, teller } from './backup.ts';
import type { Given } from './command-line.ts';
import { json, say, size } from './output.ts';
import { configurationOf } from './settings.ts';

/** `recover`. Gives 1 where something that is named could not be had. */
export async function runRecover(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const { recoverInstallation } = await import('../recovering.ts');
  const tell = teller((at: RecoveringProgress) => {
    if (at.phase === 'journal') return 'reading what was deleted since';
    if (at.phase === 'blobs') return `${at.blobs} blobs`;
    if (at.phase === 'mirrors') return `${at.repositories} index mirrors`;
    return 'done';
  });
  const done = await recoverInstallation(config, {
    merge: given.flags['no-merge'] !== true,
    signal: interruptible(),
    onProgress: tell,
  });
  if (!json(given, done)) {
    const { blobs, merged } = done;
    say(
      done.wasOlder
        ? 'Recovered: the database was older than its storage.'
        : 'Recovered; the storage knew of no later state of the database.',
    );
    say(
      `${blobs.blobs} blobs: ${blobs.inPlace} were in place, ${blobs.found} were found elsewhere in storage, ${blobs.inline} are in the database. Deleted from storage since: ${done.deadSince}.`,
    );
    if (blobs.unknown > 0)
      say(
        `Newer than the database, or left over: ${blobs.unknown} stored blobs (${size(blobs.unknownBytes)}); what no manifest names is collected in time.`,
      );
    if (merged !== undefined)
      say(
        `From the index mirrors: ${merged.newRepositories} repositories, ${merged.manifests} manifests and ${merged.tags} tags that the database did not have, ${merged.revived} manifests that it had deleted.`,
      );
    if (done.buried > 0) {
      say(`Deleted since, with bytes that are gone, and deleted again: ${done.buried} manifests.`);
      for (const name of done.buriedNames) say(`deleted again: ${name}`);
    }
    if (merged !== undefined && merged.extra > 0) {
      say(
        `${merged.extra} tags and manifests of the database are in no mirror: they had just been pushed, or were deleted since and are back. Look at them, and delete again what should not be there.`,
      );
      for (const name of merged.extraNames) say(`perhaps deleted since: ${name}`);
    }
    say('Accounts, holds and history are those of the older database.');
    for (const { what, repository } of done.problems)
      say(`LOST: ${repository === undefined ? '' : `${repository}: `}${what}`);
    for (const { digest, neededBy } of done.lost) say(`LOST: ${digest}, needed by ${neededBy.join(', ')}`);
  }
  if (done.whole) return 0;
  process.stderr.write(
    'longshore: some of what is named has no bytes in storage (see above). Everything else is recovered; push these again.\n',
  );
  return 1;
}
