/** `longshore gc …`: through the admin socket where a server has the data folder, else on the folder itself. */
import { withGc } from '../gc-on-data.ts';
import type { Given } from './command-line.ts';
import { json, say, size } from './output.ts';
import { configurationOf } from './settings.ts';

/** `gc status` */
export async function gcStatus(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const { status, preview } = await withGc(config, (ask) => ask('gc.status', undefined));
  if (json(given, { status, preview })) return 0;
  const { enabled, dryRun } = config.gc;
  const swept = status.sweptTicksAgo === undefined ? 'never' : `${status.sweptTicksAgo} ticks ago`;
  say(
    `Collector         ${enabled ? (dryRun ? 'only looks (gc.dryRun)' : 'on') : 'off (gc.enabled)'}, tick ${status.tick}`,
  );
  say(`Blobs             ${status.blobs}`);
  say(`Reviews           ${status.queued} wait, ${status.due} of them are due`);
  say(`Would go now      ${preview.blobs.length}${preview.more ? ' or more' : ''} blobs, ${size(preview.bytes)}`);
  say(`Can be undeleted  ${status.manifestTombstones} manifests, ${status.tagTombstones} tags`);
  say(`Keys to delete    ${status.deadKeys}`);
  say(`Orphans seen      ${status.orphans}; storage was last swept ${swept}`);
  return say(`Holds             ${status.holds}`);
}

/** `gc run` */
export async function gcRun(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  return withGc(config, async (ask) => {
    if (given.flags['dry-run'] === true) {
      const { preview } = await ask('gc.status', undefined);
      if (json(given, preview)) return 0;
      for (const { digest, bytes } of preview.blobs) say(`${digest}  ${size(bytes)}`);
      return say(`${preview.blobs.length}${preview.more ? ' or more' : ''} blobs would go, ${size(preview.bytes)}.`);
    }
    const sum = { unlinked: 0, condemned: 0, purged: 0, deleted: 0, bytes: 0, orphans: 0, repositories: 0 };
    for (;;) {
      const { more, halted, ...done } = await ask('gc.run', { force: given.flags.force === true });
      for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += done[key];
      if (halted !== undefined) {
        process.stderr.write(`longshore: nothing was collected: ${halted}\n`);
        return 1;
      }
      if (more) continue;
      if (json(given, sum)) return 0;
      return say(
        `${sum.unlinked} links and ${sum.condemned} blobs were given up, ${sum.purged} deletions became final; the bytes of ${sum.deleted} blobs were removed (${size(sum.bytes)}).`,
      );
    }
  });
}

/** `gc explain DIGEST` */
export async function gcExplain(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const digest = given.positionals[0]!;
  const why = await withGc(config, (ask) => ask('gc.explain', { digest }));
  if (json(given, why)) return 0;
  for (const { key, tick, bytesGone } of why.deadKeys)
    say(`its key ${key} was given up at tick ${tick}${bytesGone ? '; the bytes are gone' : ''}`);
  const { blob } = why;
  if (blob === undefined) return say('There is no such blob or manifest here.');
  say(
    `${blob.state}, ${size(blob.size ?? 0)}, ${blob.stored ? `stored under ${blob.key}` : blob.inline ? 'in the database' : 'without bytes'}`,
  );
  for (const reason of why.because) say(reason);
  if (why.because.length === 0) say('Nothing keeps it: it goes at the next review.');
  return 0;
}
