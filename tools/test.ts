/**
 * The runner behind `npm test`: phases, each with a title and its time, one after the other; the tests of the whole
 * program, which wait more than they compute, side by side. The totals are counted from node's own test events, what was left out named at the end with the one command that installs it. It fails on any
 * failure, on a phase or file without a test, on fewer tests than `test/minimum.json` says and, with
 * LONGSHORE_TEST_ALL=1, on anything left out or skipped.
 *
 *   node tools/test.ts [--quick] [--only PHASE[,PHASE]] [--soak [MINUTES]] [--seed N]
 */
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { addTotals, type FileTotal, runFiles, type Totals } from './run-files.ts';

const ROOT = resolve(import.meta.dirname, '..');
process.chdir(ROOT);

const { values, positionals } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    soak: { type: 'boolean', default: false },
    only: { type: 'string' },
    seed: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
  allowPositionals: true,
});

/** One part of a run. `files`: globs under the checkout. */
interface Phase {
  readonly name: string;
  readonly title: string;
  readonly files?: readonly string[];
  readonly commands?: readonly (readonly string[])[];
  /** Files run at once. */
  readonly concurrency: number;
  /** Whether its files may run beside those of other phases: they wait for most of their time. Never in a soak. */
  readonly beside?: boolean;
  /** Whether each test is named as it ends. */
  readonly each?: boolean;
  readonly quick?: boolean;
  readonly soak?: boolean;
}

/** Files at once of phases that compute, and of those that wait for servers, clocks and disks for most of their time. */
const COMPUTING = Math.min(8, availableParallelism() + 1);
const WAITING = Math.min(8, 2 * availableParallelism());

/** Begun first where phases run side by side, the longest before the others, so that none of them is left at the end. */
const LONG = [
  'test/engines/fleet-kills/kill.test.ts',
  'test/chaos/kill.test.ts',
  'test/interleaving/interleaving.test.ts',
  'test/chaos/power-cut/power-cut.test.ts',
  'test/engines/fleet/kill.test.ts',
  'test/soak/soak.test.ts',
  'test/chaos/backup.test.ts',
  'test/soak/soak-fleet.test.ts',
  'test/scenarios/security/exhaustion.test.ts',
  'test/chaos/tmpfs.test.ts',
  'test/chaos/older-database.test.ts',
  'test/engines/objects/outage.test.ts',
  'test/engines/postgres/outage.test.ts',
  'test/interleaving/objects.test.ts',
  'test/chaos/outage.test.ts',
  'test/chaos/clock.test.ts',
  'test/deploy/image.test.ts',
  'test/deploy/executable.test.ts',
  'test/chaos/bit-rot.test.ts',
  'test/engines/fleet/clients.test.ts',
];

const NAMED = ['conformance', 'clients', 'chaos', 'interleaving', 'scenarios', 'fuzzing', 'engines', 'browser', 'soak'];

const PHASES: readonly Phase[] = [
  {
    name: 'check',
    title: 'format, lint and types',
    commands: [
      ['biome', 'check', '.'],
      ['tsc', '-p', '.'],
      ...(existsSync('web/tsconfig.json') ? [['tsc', '-p', 'web']] : []),
    ],
    concurrency: 1,
    quick: true,
  },
  {
    name: 'units',
    title: 'units and contracts',
    files: ['src/**/*.test.ts', 'web/**/*.test.ts'],
    concurrency: COMPUTING,
    quick: true,
  },
  {
    name: 'project',
    title: 'the project itself: architecture, documents, a smoke test',
    files: ['test/*.test.ts', 'bench/**/*.test.ts', 'tools/**/*.test.ts'],
    concurrency: 2,
    each: true,
    quick: true,
  },
  {
    name: 'scenarios',
    title: 'scenarios: edge and security cases',
    files: ['test/scenarios/**/*.test.ts'],
    concurrency: WAITING,
    beside: true,
  },
  {
    name: 'conformance',
    title: 'conformance, both generations',
    files: ['test/conformance/**/*.test.ts'],
    concurrency: 1,
    beside: true,
    each: true,
  },
  {
    name: 'clients',
    title: 'real clients',
    files: ['test/clients/**/*.test.ts'],
    concurrency: WAITING,
    beside: true,
    each: true,
  },
  {
    name: 'chaos',
    title: 'kills, cuts and outages',
    files: ['test/chaos/**/*.test.ts'],
    concurrency: 2,
    beside: true,
    each: true,
    soak: true,
  },
  {
    name: 'interleaving',
    title: 'interleavings',
    files: ['test/interleaving/**/*.test.ts'],
    concurrency: 2,
    beside: true,
    each: true,
    soak: true,
  },
  {
    name: 'soak',
    title: 'real clients beside the collector',
    files: ['test/soak/**/*.test.ts'],
    concurrency: 1,
    beside: true,
    each: true,
    soak: true,
  },
  {
    name: 'engines',
    title: 'other engines',
    files: ['test/engines/**/*.test.ts'],
    concurrency: 2,
    beside: true,
    each: true,
    soak: true,
  },
  { name: 'fuzzing', title: 'fuzzing', files: ['test/fuzzing/**/*.test.ts'], concurrency: 2, beside: true, each: true },
  {
    name: 'browser',
    title: 'the console in a browser',
    files: ['test/browser/**/*.test.ts'],
    concurrency: 1,
    each: true,
  },
  {
    name: 'others',
    title: 'other whole-program tests',
    files: ['test/*/**/*.test.ts'],
    concurrency: 2,
    beside: true,
    each: true,
  },
];

const problems: string[] = [];
const totals: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
const all = process.env.LONGSHORE_TEST_ALL === '1';

let log: NodeJS.WritableStream | undefined;
function say(text: string): void {
  process.stdout.write(`${text}\n`);
  log?.write(`${text}\n`);
}

/** Runs a program with its output shown; true where it succeeded. */
function command(line: readonly string[]): Promise<boolean> {
  const [program = '', ...args] = line;
  return new Promise((done) => {
    const child = spawn(program, args, { stdio: 'inherit' });
    child.on('error', (error) => {
      say(`  ${program}: ${error.message}`);
      done(false);
    });
    child.on('close', (code) => done(code === 0));
  });
}

function filesOf(phase: Phase): string[] {
  const files = globSync(phase.files ?? [], { exclude: (name) => name.includes('node_modules') });
  if (phase.name !== 'others') return files.sort();
  return files.filter((file) => !NAMED.some((name) => file.startsWith(join('test', name)))).sort();
}

async function runPhase(phase: Phase): Promise<void> {
  const files = filesOf(phase);
  if (phase.commands === undefined && files.length === 0) {
    if (values.only !== undefined) problems.push(`${phase.name}: no test file`);
    return;
  }
  const started = performance.now();
  say(`\n▶ ${phase.name}: ${phase.title}${files.length > 0 ? ` (${files.length} files)` : ''}`);
  for (const line of phase.commands ?? []) {
    if (!(await command(line))) problems.push(`${phase.name}: \`${line.join(' ')}\` failed`);
  }
  let count = '';
  if (files.length > 0) {
    const own = await runFiles(files, { concurrency: phase.concurrency, each: phase.each === true, say });
    addTotals(totals, own);
    count = `, ${told(own)}`;
  }
  say(`  ${phase.name}: ${((performance.now() - started) / 1000).toFixed(1)} s${count}`);
}

const told = ({ passed, failed, skipped }: Omit<FileTotal, 'milliseconds'>): string =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;

/** Runs the files of several phases in one row, the longest first; then says how each phase ended. */
async function runBeside(phases: readonly Phase[]): Promise<void> {
  const chosen = phases
    .map((phase) => ({ phase, files: filesOf(phase) }))
    .filter(({ phase, files }) => {
      if (files.length === 0 && values.only !== undefined) problems.push(`${phase.name}: no test file`);
      return files.length > 0;
    });
  const all = chosen.flatMap(({ files }) => files);
  if (all.length === 0) return;
  const started = performance.now();
  const names = chosen.map(({ phase }) => phase.name).join(', ');
  say(`\n▶ side by side, ${WAITING} files at once: ${names} (${all.length} files)`);
  const first = LONG.filter((file) => all.includes(file));
  const files = [...first, ...all.filter((file) => !first.includes(file))];
  const own = await runFiles(files, { concurrency: WAITING, each: true, say });
  addTotals(totals, own);
  for (const { phase, files: those } of chosen) {
    const sum: FileTotal = { passed: 0, failed: 0, skipped: 0, milliseconds: 0 };
    for (const file of those) {
      const total = own.files.get(file);
      for (const what of ['passed', 'failed', 'skipped', 'milliseconds'] as const) sum[what] += total?.[what] ?? 0;
    }
    say(`  ${phase.name}: ${(sum.milliseconds / 1000).toFixed(1)} s of its files together, ${told(sum)}`);
  }
  say(`  side by side: ${((performance.now() - started) / 1000).toFixed(1)} s, ${told(own)}`);
}

/** The lines that tests wrote about what they left out, by file. */
function readLeftOut(file: string): string[] {
  return existsSync(file)
    ? [
        ...new Set(
          readFileSync(file, 'utf8')
            .split('\n')
            .filter((line) => line !== ''),
        ),
      ].sort()
    : [];
}

async function main(): Promise<void> {
  const started = performance.now();
  process.env.PATH = [join(ROOT, 'node_modules/.bin'), process.env.PATH ?? ''].join(delimiter);
  const folder = mkdtempSync(join(tmpdir(), 'longshore-run-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const leftOutFile = join(folder, 'left-out');
  process.env.LONGSHORE_TEST_LEFT_OUT = leftOutFile;
  process.env.LONGSHORE_TEST_ENTRY = 'bundle';
  // Much of a unit's time is the compiling of the same sources, in each process and each thread: once for all of them.
  process.env.NODE_COMPILE_CACHE = join(folder, 'compiled');
  if (values.seed !== undefined) process.env.LONGSHORE_TEST_SEED = values.seed;
  let chosen = PHASES.filter((phase) => !values.quick || phase.quick === true);
  if (values.soak) {
    const minutes = Number(positionals[0] ?? 60);
    if (!(minutes > 0)) throw new Error('--soak takes a number of minutes');
    process.env.LONGSHORE_TEST_KILLS ??= '1000';
    process.env.LONGSHORE_TEST_SOAK_SECONDS = String(Math.round(minutes * 60));
    chosen = PHASES.filter((phase) => phase.soak === true);
    mkdirSync('.cache/soak', { recursive: true });
    const name = `.cache/soak/${new Date().toISOString().replaceAll(':', '-')}.log`;
    log = createWriteStream(name);
    say(`soak of ${minutes} minutes, log in ${name}`);
  } else if (values.only !== undefined) {
    const names = values.only.split(',');
    const unknown = names.filter((name) => !PHASES.some((phase) => phase.name === name));
    if (unknown.length > 0)
      throw new Error(`no phase ${unknown}: there are ${PHASES.map((phase) => phase.name).join(', ')}`);
    chosen = PHASES.filter((phase) => names.includes(phase.name));
  }
  say('▶ build: what is shipped is what is tested');
  if (!(await command([process.execPath, 'tools/prepare.mjs', 'run']))) throw new Error('the build failed');
  const isBeside = (phase: Phase): boolean => phase.beside === true && !values.soak && chosen.length > 1;
  for (const phase of chosen) if (!isBeside(phase)) await runPhase(phase);
  await runBeside(chosen.filter(isBeside));

  const leftOut = readLeftOut(leftOutFile);
  const excused = new Set(leftOut.map((line) => line.split('\t')[0]));
  for (const file of totals.empty ?? []) if (!excused.has(resolve(file))) problems.push(`${file} registered no test`);
  const whole = !values.soak && values.only === undefined;
  const ran = totals.passed + totals.failed;
  if (whole) {
    const minimum = JSON.parse(readFileSync('test/minimum.json', 'utf8')) as { all: number; quick: number };
    const least = values.quick ? minimum.quick : all ? minimum.all : 1;
    if (ran < least) problems.push(`only ${ran} tests ran, test/minimum.json asks for ${least}`);
  }
  if (ran === 0 && chosen.some((phase) => phase.files !== undefined)) problems.push('no test ran');
  if (all && totals.skipped > 0) problems.push(`${totals.skipped} tests were skipped`);
  if (all && leftOut.length > 0) problems.push(`${leftOut.length} parts were left out`);

  say('');
  if (totals.failures.length > 0) {
    say('failed:');
    for (const failure of totals.failures) say(`  ✖ ${failure}`);
  }
  if (leftOut.length > 0) {
    say('left out, because a program is not on this machine (`npm run test:setup` installs all of them):');
    for (const line of leftOut) say(`  - ${line.split('\t')[1]}`);
  }
  for (const problem of problems) say(`✖ ${problem}`);
  say(`took ${((performance.now() - started) / 1000).toFixed(0)} s`);
  say(
    `${totals.passed} passed, ${totals.failed + (totals.failed === 0 && problems.length > 0 ? problems.length : 0)} failed, ${totals.skipped} skipped`,
  );
  process.exitCode = totals.failed > 0 || problems.length > 0 ? 1 : 0;
}

if (values.help) {
  say(`node tools/test.ts [--quick] [--only PHASE[,PHASE]] [--soak [MINUTES]] [--seed N]\n`);
  for (const phase of PHASES) say(`  ${phase.name.padEnd(14)}${phase.title}`);
} else {
  try {
    await main();
  } catch (error) {
    say(`✖ ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
