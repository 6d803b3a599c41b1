/** `longshore scrub …`: through the admin socket where a server has the data folder, else on the folder itself. */
import { systemClock } from '../kit/clock.ts';
import { withScrub } from '../scrub-on-data.ts';
import { type Given, UsageError } from './command-line.ts';
import { json, say, size } from './output.ts';
import { configurationOf } from './settings.ts';

/** How long a run waits where storage does not answer, and how often. Milliseconds. */
const PAUSE = 2_000;
const PATIENCE = 5;

const time = (at: number): string => new Date(at).toISOString();

/** `scrub status` */
export async function showScrub(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const status = await withScrub(config, (ask) => ask('scrub.status', undefined));
  if (json(given, status)) return 0;
  const { enabled, rate } = config.scrub;
  say(`Scrub      ${enabled ? `on, ${rate} MiB/s` : 'off (scrub.enabled)'}`);
  if (status.begunAt === undefined) say('Round      none yet');
  else {
    const end = status.endedAt === undefined ? 'under way' : `ended ${time(status.endedAt)}`;
    say(`Round      ${status.round}, begun ${time(status.begunAt)}, ${end}`);
    say(
      `Looked at  ${status.blobs} of ${status.totalBlobs} blobs, ${size(status.bytes)} of ${size(status.totalBytes)}`,
    );
    say(`Found      ${status.damaged} damaged, ${status.unreadable} that could not be read`);
  }
  if (status.halted !== undefined) say(`Halted     ${status.halted}`);
  return say(`Now        ${status.open} damaged blobs; ${status.healed} were healed`);
}

/** `scrub run`: 0 where nothing is damaged afterwards. */
export async function runScrub(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  return withScrub(config, async (ask) => {
    const sum = { blobs: 0, bytes: 0, damaged: 0, unreadable: 0, healed: 0 };
    const flags = { fullSpeed: given.flags['full-speed'] === true, force: given.flags.force === true };
    for (let begin = true, waited = 0; ; begin = false) {
      const { more, waits, ...done } = await ask('scrub.run', { ...flags, begin });
      for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += done[key];
      if (waits !== undefined) {
        if (++waited === PATIENCE) {
          process.stderr.write(`longshore: the scrub cannot go on: ${waits}\n`);
          return 1;
        }
        await systemClock.sleep(PAUSE);
      } else if (more) waited = 0;
      else break;
    }
    const { open } = await ask('scrub.status', undefined);
    if (!json(given, { ...sum, open }))
      say(
        `${sum.blobs} blobs (${size(sum.bytes)}) were looked at: ${sum.damaged} damaged, ${sum.unreadable} that could not be read; ${sum.healed} were healed, ${open} are damaged now.`,
      );
    return open + sum.unreadable === 0 ? 0 : 1;
  });
}

/** `scrub damaged` */
export async function listScrubDamaged(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const all = given.flags.all === true;
  const limit = given.flags.limit === undefined ? 1_000 : Number(given.flags.limit);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new UsageError('--limit must be a whole number of at least 1.');
  const items = await withScrub(config, async (ask) => {
    const list: Awaited<ReturnType<typeof ask<'scrub.damaged'>>>['items'][number][] = [];
    for (let after: number | undefined; list.length < limit; ) {
      const page = await ask('scrub.damaged', { open: !all, ...(after === undefined ? {} : { after }) });
      list.push(...page.items);
      if (page.next === undefined) break;
      after = page.next;
    }
    return list.slice(0, limit);
  });
  if (json(given, items)) return 0;
  for (const one of items) {
    const end =
      one.state === 'open'
        ? `damaged${one.outcome === undefined ? '' : `; ${one.outcome}`}`
        : one.state === 'gone'
          ? 'removed by the collector'
          : `healed from ${one.healedFrom}`;
    say(`${one.digest}  ${size(one.size)}  ${time(one.foundAt)} by ${one.foundBy}: ${one.why}; ${end}`);
  }
  return items.length === 0 ? say(all ? 'Nothing was ever found damaged.' : 'Nothing is damaged.') : 0;
}
