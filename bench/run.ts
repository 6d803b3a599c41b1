/**
 * `npm run bench`: Longshore, as shipped, beside its peers on this machine: rows take turns peer by peer, round by
 * round, within a time bound; every round is printed, and medians with their goals at the end.
 *
 *   --rounds N    rounds at most (5)          --rows a,b    only these rows or groups
 *   --minutes N   the time bound (14)         --quick       one round of tiny amounts: checks the programs, measures little
 *   --dir FOLDER  where data goes (the system's temporary folder)
 *   --engine fleet  Longshore on PostgreSQL and S3 beside Distribution on S3, in full (results/fleet.md; 25 minutes)
 *   --long        endless traffic in full: 100 GiB and 20,000 aborted transfers (no time bound)
 *   --save        write bench/results/ for a partial or quick run too
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileSystemOf } from './limits.ts';
import { findTools, ROOT } from './peers.ts';
import { endAll } from './processes.ts';
import { linesOf, markdown, shown } from './report.ts';
import { fleetImagesGroup, fleetLargeGroup, fleetRedirectGroup, fleetSmallGroup } from './rows/fleet.ts';
import { footprintGroup } from './rows/footprint.ts';
import { gcGroup } from './rows/gc.ts';
import { pullGroup, pullTlsGroup } from './rows/pull.ts';
import { pushGroup } from './rows/push.ts';
import { scaleGroup } from './rows/scale.ts';
import { smallGroup } from './rows/small.ts';
import type { Context, Group, Measured, Peer, Row } from './types.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string' },
    rows: { type: 'string' },
    minutes: { type: 'string' },
    engine: { type: 'string' },
    dir: { type: 'string' },
    quick: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
});

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const began = performance.now();
const minutes = (): number => (performance.now() - began) / 60_000;

const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 5));
const isFleet = flags.engine === 'fleet';
const bound = Number(flags.minutes ?? (isFleet ? 25 : 14));
if (flags.engine !== undefined && !isFleet) {
  process.stderr.write('bench: --engine is fleet, or absent\n');
  process.exit(64);
}
if (!(Number.isInteger(rounds) && rounds >= 1 && rounds <= 100 && bound > 0)) {
  process.stderr.write('bench: --rounds is a whole number from 1, --minutes more than 0\n');
  process.exit(64);
}

const resultsName = isFleet ? 'fleet' : 'latest';

const context: Context = {
  folder: mkdtempSync(join(flags.dir ?? tmpdir(), 'longshore-bench-')),
  quick: flags.quick,
  long: flags.long,
  fleet: isFleet,
  tools: findTools(),
  say,
};

function cleanUp(): void {
  endAll();
  rmSync(context.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}
process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));

const measured: Measured[] = [];
const textOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error))
    .replaceAll(context.folder, 'DIR')
    .replaceAll(`${ROOT}/`, '')
    .slice(0, 1_000);

function recordOf(row: Row, peer: Peer): Measured {
  let record = measured.find((one) => one.row === row && one.peer === peer.name);
  if (record === undefined) measured.push((record = { row, peer: peer.name, rounds: [], errors: [] }));
  return record;
}

const isRunOn = (row: Row, peer: Peer): boolean => row.runsOn?.(peer) ?? peer.name !== 'machine';

/** Each row on each peer in turn, every other time in the opposite order. */
async function oneRound(group: Group, peers: readonly Peer[], round: number): Promise<void> {
  for (const [index, row] of group.rows.entries()) {
    if (round >= (row.rounds ?? Number.POSITIVE_INFINITY)) continue;
    const on = peers.filter((peer) => isRunOn(row, peer));
    if ((round + index) % 2 === 1) on.reverse();
    for (const peer of on) {
      const record = recordOf(row, peer);
      try {
        const values = await row.measure(peer);
        record.rounds.push(values);
        const text = row.figures.map(({ key, unit }) => `${key} ${shown(values[key])} ${unit}`.trim()).join(', ');
        say(`  ${round + 1} ${row.id.padEnd(20)} ${peer.name.padEnd(13)} ${text}`);
      } catch (error) {
        record.errors.push(textOf(error));
        say(`  ${round + 1} ${row.id.padEnd(20)} ${peer.name.padEnd(13)} FAILED: ${textOf(error)}`);
      }
    }
  }
}

const stopAll = (peers: readonly Peer[]): Promise<unknown> => Promise.allSettled(peers.map((peer) => peer.stop()));

/** As many rounds as fit into the group's share of the time, at least one. */
async function runGroup(group: Group, share: number): Promise<void> {
  say(`\n${group.id} (${minutes().toFixed(1)} min; up to ${share.toFixed(1)} min)`);
  const from = minutes();
  let peers: readonly Peer[] = [];
  let longest = 0;
  try {
    peers = await group.open();
    for (let round = 0; round < rounds; round++) {
      const roundFrom = minutes();
      if (round > 0 && group.fresh === true) {
        await stopAll(peers);
        peers = await group.open();
      }
      await oneRound(group, peers, round);
      // A first round may have rows that later ones have not; the next is taken to be like this one at most.
      longest = minutes() - roundFrom;
      if (round + 1 < rounds && minutes() - from + longest > share) {
        say(`  the time is over after ${round + 1} of ${rounds} rounds`);
        break;
      }
    }
  } catch (error) {
    say(`  FAILED: ${textOf(error)}`);
    for (const row of group.rows) {
      if (measured.every((one) => one.row !== row)) {
        measured.push({ row, peer: 'longshore', rounds: [], errors: [`group ${group.id}: ${textOf(error)}`] });
      }
    }
  } finally {
    await stopAll(peers);
  }
}

function wantedGroups(): Group[] {
  const fleet = [fleetSmallGroup, fleetImagesGroup, fleetRedirectGroup, fleetLargeGroup];
  const one = [smallGroup, pushGroup, pullGroup, pullTlsGroup, scaleGroup, gcGroup, footprintGroup];
  const all = (isFleet ? [...fleet, gcGroup] : [...one, ...fleet]).map((make) => make(context));
  if (flags.rows === undefined) return all;
  const names = new Set(flags.rows.split(','));
  const known = new Set(all.flatMap((group) => [group.id, ...group.rows.map((row) => row.id)]));
  const unknown = [...names].filter((name) => !known.has(name));
  if (unknown.length > 0) {
    process.stderr.write(`bench: no such rows: ${unknown.join(', ')}. There are: ${[...known].join(', ')}\n`);
    process.exit(64);
  }
  return all
    .map((group) => (names.has(group.id) ? group : { ...group, rows: group.rows.filter(({ id }) => names.has(id)) }))
    .filter((group) => group.rows.length > 0);
}

function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', import.meta.dirname, ...args], { stdio: 'pipe' })
        .toString()
        .trim();
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '../src') === '' ? '' : ' with changes');
  } catch {
    return 'unknown';
  }
}

function notesOf(load: string): string[] {
  const { tools } = context;
  const processors = cpus();
  return [
    `${processors.length} × ${processors[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.versions.node}, data on ${fileSystemOf(context.folder)}; load average before the run ${load}; everything on one machine over loopback.`,
    `Longshore: the bundle by bin/longshore, commit ${commit()}, durability full, access log to a file. It syncs everything before 201.`,
    `Distribution ${tools.distribution === undefined ? 'was not there (npm run test:setup builds it)' : 'v3.1.2: files, delete on, log level error, access log to a file, no tracing'}.`,
    ...(context.fleet
      ? [
          'The fleet: PostgreSQL with fsync and synchronous_commit on, and versitygw over files (it syncs nothing) as the S3 server, both on this machine; Longshore uses both, Distribution (v3.1.2, driver s3, path style, in-memory descriptor cache as in its image) the S3 server only. CPU “with PostgreSQL and S3” is that of all three, also where peers rest meanwhile. Statements, WAL and requests are counted per database and bucket, with what jobs did meanwhile.',
        ]
      : []),
    `zot ${tools.zot === undefined ? 'was not there' : 'minimal, with storage.commit (it syncs)'}; olareg ${tools.olareg === undefined ? 'was not there' : 'syncs nothing'}.`,
    `GETs by ${tools.wrk === undefined ? 'bare sockets' : 'wrk'}, HEADs by bare sockets, pulls by ${tools.curl === undefined ? 'node:http' : 'curl'}, pushes and paced GETs by node:http, each in processes of their own. CPU is the server’s, from /proc.`,
    ...(context.quick ? ['Quick: tiny amounts in one round; a check of the programs and no measurement.'] : []),
  ];
}

async function main(): Promise<void> {
  const groups = wantedGroups();
  const load = loadavg()
    .map((value) => value.toFixed(1))
    .join(' ');
  const notes = notesOf(load);
  say(notes.join('\n'));
  // Beyond the bound something hangs: say what there is and end.
  const patience = context.long ? 6 * 60 : bound * 2 + 2;
  const watchdog = setTimeout(() => {
    say(`\nFAILED: not at its end after ${patience} minutes`);
    report(notes);
    process.exit(1);
  }, patience * 60_000);
  for (const [index, group] of groups.entries()) {
    const left = groups.slice(index).reduce((sum, one) => sum + one.weight, 0);
    await runGroup(group, (Math.max(0, bound - minutes()) * group.weight) / left);
  }
  clearTimeout(watchdog);
  report(notes);
  process.exitCode = measured.some((one) => one.errors.length > 0) ? 1 : 0;
}

function report(notes: readonly string[]): void {
  const at = new Date().toISOString().slice(0, 16).replace('T', ' ');
  const text = markdown({ at: `${at} UTC, ${minutes().toFixed(1)} minutes`, notes, measured });
  say(`\n${text}`);
  if ((flags.quick || flags.rows !== undefined) && !flags.save) return;
  const folder = join(import.meta.dirname, 'results');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${resultsName}.md`), text);
  const raw = measured.map(({ row, ...rest }) => ({ row: row.id, ...rest }));
  writeFileSync(
    join(folder, `${resultsName}.json`),
    `${JSON.stringify({ at, notes, lines: linesOf(measured), rounds: raw }, undefined, 1)}\n`,
  );
  say(`written to bench/results/${resultsName}.md and ${resultsName}.json`);
}

await main();
process.exit();
