/** `longshore backup …`: through the server that has the data folder, else on the installation itself. */
import { resolve } from 'node:path';
import { type MadeProgress, makeBackupOf } from '../backup-on-data.ts';
import { testFailpoint } from '../config/load.ts';
import { systemClock } from '../kit/clock.ts';
import { armFailpoints, killAt } from '../kit/failpoint.ts';
import { type Given, UsageError } from './command-line.ts';
import { json, say, size } from './output.ts';
import { configurationOf } from './settings.ts';

/** A flag that must be there. UsageError. */
export function needed(given: Given, name: string, what: string): string {
  const value = given.flags[name];
  if (typeof value !== 'string' || value === '') throw new UsageError(`--${name} ${what} is missing.`);
  return value;
}

/** A folder as the server finds it too, whose working folder may be another one. */
export function placeOf(text: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : resolve(text);
}

/** Aborts at the first SIGINT or SIGTERM; under a test, dies at a failpoint. */
export function interruptible(): AbortSignal {
  const failpoint = testFailpoint();
  if (failpoint !== undefined) armFailpoints(killAt(failpoint.name as Parameters<typeof killAt>[0], failpoint.count));
  const aborted = new AbortController();
  const abort = (): void => aborted.abort(Object.assign(new Error('Interrupted.'), { status: 499 }));
  process.once('SIGINT', abort);
  process.once('SIGTERM', abort);
  return aborted.signal;
}

/** Tells progress on standard error: at most twice a second, and each new phase. */
export function teller<P extends { readonly phase: string }>(line: (progress: P) => string): (progress: P) => void {
  let [phase, at] = ['', 0];
  return (progress) => {
    const now = systemClock.monotonic();
    if (progress.phase === phase && now - at < 500) return;
    [phase, at] = [progress.phase, now];
    process.stderr.write(`${line(progress)}\n`);
  };
}

/** `backup` */
export async function makeBackup(given: Given): Promise<number> {
  const to = placeOf(needed(given, 'to', 'PLACE'));
  const { config } = await configurationOf(given);
  const tell = teller((at: MadeProgress) => {
    if (at.phase === 'snapshot') return 'taking a snapshot';
    if (at.phase === 'rows') return `${at.rows} rows`;
    return `${at.blobs} of ${at.allBlobs} blobs, ${at.copied} of them copied (${size(at.copiedBytes)})`;
  });
  const done = await makeBackupOf(config, to, { signal: interruptible(), onProgress: tell });
  if (!json(given, done)) {
    say(
      `Backup ${done.id}: ${done.rows} rows, ${done.blobs} blobs (${size(done.bytes)}), of which ${done.copied} were new (${size(done.copiedBytes)}).`,
    );
    for (const digest of done.missing) say(`missing or damaged: ${digest}`);
  }
  if (done.complete) return 0;
  process.stderr.write(
    `longshore: the backup is INCOMPLETE: the bytes of ${done.missingCount} blobs are missing or damaged here.\n`,
  );
  return 1;
}

/** `backup list` */
export async function listBackups(given: Given): Promise<number> {
  const to = placeOf(needed(given, 'to', 'PLACE'));
  const { config } = await configurationOf(given);
  const backing = await import('../backing-up.ts');
  const { points, damaged } = await backing.listBackups(backing.openingOf(config), to);
  const shown = points.map(({ id, at, program, schema, database, complete, missingCount, blobs, tables }) => ({
    ...{ id, at: new Date(at).toISOString(), program, schema, database, complete, missing: missingCount },
    ...{ rows: tables.reduce((sum, { rows }) => sum + rows, 0), blobs: blobs.count, bytes: blobs.bytes },
  }));
  if (!json(given, { backups: shown, damaged })) {
    for (const one of shown)
      say(
        `${one.id}  ${one.at}  ${one.rows} rows, ${one.blobs} blobs, ${size(one.bytes)}${one.complete ? '' : `, INCOMPLETE: ${one.missing} blobs are missing`}`,
      );
    for (const record of damaged) say(`damaged: ${record}`);
    if (shown.length === 0) say('There is no backup there yet.');
  }
  return damaged.length === 0 ? 0 : 1;
}

/** `backup verify [ID]` */
export async function verifyBackups(given: Given): Promise<number> {
  const to = placeOf(needed(given, 'to', 'PLACE'));
  const { config } = await configurationOf(given);
  const backing = await import('../backing-up.ts');
  const tell = teller(
    ({ blobs, bytes }: { phase: string; blobs: number; bytes: number }) => `${blobs} blobs, ${size(bytes)}`,
  );
  const found = await backing.verifyPlace(backing.openingOf(config), to, given.positionals[0], {
    signal: interruptible(),
    onProgress: (blobs, bytes) => tell({ phase: 'blobs', blobs, bytes }),
  });
  if (!json(given, found)) {
    for (const what of found.damaged) say(`missing or damaged: ${what}`);
    for (const id of found.incomplete) say(`incomplete since it was made: ${id}`);
    say(
      `${found.points} backups, ${found.records} records, ${found.blobs} blobs (${size(found.bytes)}): ${found.damagedCount === 0 ? 'all as they were written' : `${found.damagedCount} are missing or damaged; the next backup copies such blobs again`}.`,
    );
  }
  return found.damagedCount === 0 ? 0 : 1;
}

/** `backup prune` */
export async function pruneBackups(given: Given): Promise<number> {
  const to = placeOf(needed(given, 'to', 'PLACE'));
  const keep = Number(needed(given, 'keep', 'N'));
  if (!Number.isSafeInteger(keep) || keep < 1) throw new UsageError('--keep N is a number of backups, 1 or more.');
  const { config } = await configurationOf(given);
  const backing = await import('../backing-up.ts');
  const done = await backing.prunePlace(backing.openingOf(config), to, keep, interruptible());
  if (!json(given, done))
    say(
      `${done.removed.length} backups were removed and ${done.kept.length} kept; ${done.blobs} blobs went (${size(done.bytes)}).`,
    );
  return 0;
}
