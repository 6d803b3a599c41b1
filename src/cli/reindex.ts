/** `longshore reindex`: a database that was thrown away is rebuilt from storage. */
import { testFailpoint } from '../config/load.ts';
import { every, systemClock } from '../kit/clock.ts';
import { runReindex } from '../reindexing.ts';
import type { Given } from './command-line.ts';
import { configurationOf } from './settings.ts';

type ReindexReport = Awaited<ReturnType<typeof runReindex>>;
type Problem = ReindexReport['listed'][number];

/** Problems that are told one by one. */
const TOLD = 1_000;
const PROGRESS_MILLISECONDS = 2_000;

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Rebuilds, says how far it is on standard error, and gives 1 where something could not be saved. */
export async function runReindexCommand(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const stop = new AbortController();
  const interrupt = (): void => stop.abort(new Error('It was interrupted; run it again, and it goes on.'));
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const started = systemClock.monotonic();
  let report: ReindexReport | undefined;
  let told = 0;
  const progress = every(PROGRESS_MILLISECONDS, () => {
    if (report !== undefined) tell(progressLine(report, systemClock.monotonic() - started));
  });
  try {
    const done = await runReindex(
      config,
      {
        verify: given.flags['no-verify'] !== true,
        force: given.flags.force === true,
        signal: stop.signal,
        onReport: (begun) => {
          report = begun;
        },
        onProblem: (problem) => {
          told++;
          if (told <= TOLD) tell(problemLine(problem));
          else if (told === TOLD + 1) tell('more problems are only counted');
        },
      },
      testFailpoint(),
    );
    sayDone(done, systemClock.monotonic() - started, { json: given.flags.json === true, config: config.gc.graceTicks });
    return done.lost > 0 ? 1 : 0;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    tell(`longshore: ${(stop.signal.reason as Error).message}`);
    return 1;
  } finally {
    progress();
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

/** What is said now and then. */
export function progressLine(report: ReindexReport, milliseconds: number): string {
  const seconds = Math.max(milliseconds, 1) / 1000;
  const rate = (report.bytes / 2 ** 20 / seconds).toFixed(1);
  return `${report.keys} blobs (${Math.round(report.keys / seconds)}/s, ${rate} MiB/s), ${report.repositories} repositories, ${report.manifests} manifests, ${report.tags} tags, ${report.problems} problems`;
}

function problemLine({ what, lost, repository }: Problem): string {
  return `${lost ? 'lost' : 'note'}: ${repository === undefined ? '' : `${repository}: `}${what}`;
}

function sayDone(report: ReindexReport, milliseconds: number, options: { json: boolean; config: number }): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ ...report, milliseconds: Math.round(milliseconds) }, undefined, 2)}\n`);
    return;
  }
  const lines = [
    `Rebuilt${report.resumed ? ' (gone on from an earlier run; the counts are of this one)' : ''}: ${progressLine(report, milliseconds)}.`,
    ...(report.wrong + report.unreadable > 0
      ? [`${report.wrong} stored blobs have wrong bytes and ${report.unreadable} cannot be read; they answer 404.`]
      : []),
    ...(report.lost > 0
      ? [
          `${report.lost} things could not be saved (see above). What nothing names is collected after ${options.config} ticks of serving: set gc.enabled to false until you have looked.`,
        ]
      : ['Everything that storage holds is served again.']),
    'Accounts, holds and history are not in storage: restore them from a backup, or make them anew.',
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}
