/**
 * Makes a clone runnable: installs what is missing and builds what changed. Plain JavaScript without dependencies,
 * because it runs before anything is installed, on whichever Node npm itself runs on (20 or newer).
 *
 *   node tools/prepare.mjs run   what `npm start` needs: production packages, and `dist/`
 *   node tools/prepare.mjs dev   what tests and development need: all packages
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const installStamp = join(modules, '.longshore-install');
const buildStamp = join(root, 'dist', '.longshore-build');
const node = join(modules, '.bin', 'node');

const mode = process.argv[2];
if (mode !== 'run' && mode !== 'dev') fail('Say `node tools/prepare.mjs run` or `node tools/prepare.mjs dev`.');

install();
if (mode === 'run') build();

/** Installs when package-lock.json is not what is installed. Scripts of packages never run. */
function install() {
  const lock = readFileSync(join(root, 'package-lock.json'));
  const wanted = createHash('sha256').update(lock).digest('hex');
  const stamp = readStamp(installStamp);
  const enough = stamp?.mode === 'dev' || stamp?.mode === mode;
  if (stamp?.lock === wanted && enough && hasNode()) return;
  const found = installedMode(JSON.parse(lock.toString('utf8')));
  if ((found === 'dev' || found === mode) && hasNode()) {
    writeFileSync(installStamp, JSON.stringify({ lock: wanted, mode: found }));
    return;
  }
  // What is installed for development stays so, otherwise `npm start` would undo it.
  const full = mode === 'dev' || stamp?.mode === 'dev' || found === 'dev';
  const args = [
    'ci',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    ...(full ? [] : ['--omit=dev']),
  ];
  say(`installing packages (npm ${args.slice(0, 2).join(' ')}${full ? '' : ' --omit=dev'}) …`);
  run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args, 'The packages could not be installed; see above.');
  if (!hasNode()) {
    fail(
      `There is no pinned Node 26 package for ${process.platform}-${process.arch}. Put Node 26 or newer on the PATH and start again.`,
    );
  }
  writeFileSync(installStamp, JSON.stringify({ lock: wanted, mode: full ? 'dev' : 'run' }));
}

/** What npm's own record of node_modules says: everything there (dev), all but development packages (run), or less. */
function installedMode(lock) {
  let record;
  try {
    record = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8')).packages;
  } catch {
    return undefined;
  }
  let dev = true;
  for (const [path, wanted] of Object.entries(lock.packages)) {
    if (path === '' || wanted.link === true) continue;
    const same = record[path]?.version === wanted.version && existsSync(join(root, path));
    if (same || !fits(wanted)) continue;
    if (wanted.dev === true || wanted.devOptional === true) dev = false;
    else return undefined;
  }
  return dev ? 'dev' : 'run';
}

/** Whether npm would install the package on this machine. */
function fits(entry) {
  const matches = (said, value) => {
    const list = said === undefined ? [] : [said].flat();
    const allowed = list.filter((one) => !one.startsWith('!'));
    return !list.includes(`!${value}`) && (allowed.length === 0 || allowed.includes(value) || allowed.includes('any'));
  };
  if (!matches(entry.os, process.platform) || !matches(entry.cpu, process.arch)) return false;
  if (entry.libc === undefined || process.platform !== 'linux') return true;
  return matches(entry.libc, process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc');
}

/** Whether a Node that can run Longshore is there: the pinned one, or this one. */
function hasNode() {
  return existsSync(node) || Number(process.versions.node.split('.')[0]) >= 26;
}

/** Builds `dist/` when anything that goes into it changed. */
function build() {
  const hash = createHash('sha256');
  for (const file of ['package-lock.json', 'tools/build.ts', 'bin/longshore', ...sources('src')]) {
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update('\0');
  }
  const wanted = hash.digest('hex');
  if (readStamp(buildStamp)?.sources === wanted && existsSync(join(root, 'dist', 'main.js'))) return;
  say('building …');
  run(existsSync(node) ? node : process.execPath, [join('tools', 'build.ts')], 'The build failed; see above.');
  writeFileSync(buildStamp, JSON.stringify({ sources: wanted }));
}

/** Every source file below a folder, tests excepted, sorted. */
function sources(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.(test|bench|contract)\.ts$/.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(root.length + 1))
    .sort();
}

function readStamp(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function run(program, args, complaint) {
  // Standard output belongs to the program that is started afterwards.
  const ended = spawnSync(program, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (ended.error !== undefined) fail(`${program} could not be started: ${ended.error.message}`);
  if (ended.status !== 0) fail(complaint);
}

function say(line) {
  process.stderr.write(`longshore: ${line}\n`);
}

function fail(line) {
  say(line);
  process.exit(1);
}
