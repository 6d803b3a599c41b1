/** `longshore restore`: into the configuration's database and storage, while no server runs on them. */
import type { RestoringProgress } from '../backing-up.ts';
import { interruptible, needed, placeOf, teller } from './backup.ts';
import { type Given, UsageError } from './command-line.ts';
import { json, say, size } from './output.ts';
import { configurationOf } from './settings.ts';

/** `restore` */
export async function restoreBackup(given: Given): Promise<number> {
  const from = placeOf(needed(given, 'from', 'PLACE'));
  const { point, before } = given.flags;
  if (point !== undefined && before !== undefined) throw new UsageError('--point and --before exclude one another.');
  const time = typeof before === 'string' ? Date.parse(before) : 0;
  if (Number.isNaN(time)) throw new UsageError('--before TIME is a time as in 2026-01-31T12:00:00Z.');
  const choice =
    typeof before === 'string' ? { before: time } : { point: typeof point === 'string' ? point : 'latest' };
  const { config } = await configurationOf(given);
  const backing = await import('../backing-up.ts');
  const tell = teller((at: RestoringProgress) => {
    if (at.phase === 'check') return 'checking the backup';
    if (at.phase === 'rows') return `${at.rows} of ${at.allRows} rows`;
    if (at.phase === 'journal') return 'reading what was deleted since';
    return `${at.blobs} blobs, ${at.copied} of them copied (${size(at.copiedBytes)})`;
  });
  const done = await backing.restore(backing.openingOf(config), from, choice, {
    signal: interruptible(),
    onProgress: tell,
  });
  const { blobs } = done;
  if (!json(given, { ...done, at: new Date(done.at).toISOString() })) {
    say(
      `Restored backup ${done.point} of ${new Date(done.at).toISOString()}: ${done.rows} rows, ${blobs.blobs} blobs.`,
    );
    say(
      `${blobs.inPlace} blobs were in place, ${blobs.copied} were copied from the backup (${size(blobs.copiedBytes)}), ${blobs.found} were found elsewhere in storage, ${blobs.inline} are in the database.`,
    );
    if (done.kept !== undefined) say(`The former database is kept: ${done.kept}. Remove it when all is well.`);
    if (done.deadSince > 0) say(`Deleted from storage since the backup: ${done.deadSince} blobs.`);
    if (blobs.unknown > 0)
      say(
        `Newer than the backup, or left over: ${blobs.unknown} stored blobs (${size(blobs.unknownBytes)}); the collector removes them in time.`,
      );
    for (const name of done.newerRepositories) say(`Newer than the backup: repository ${name}`);
    for (const { digest, neededBy } of done.lost)
      say(`LOST: ${digest}${neededBy.length === 0 ? '' : `, needed by ${neededBy.join(', ')}`}`);
  }
  if (done.whole) return 0;
  process.stderr.write(
    `longshore: the bytes of ${blobs.lostCount} blobs are neither in storage nor in the backup. Everything else is restored; push these again.\n`,
  );
  return 1;
}
