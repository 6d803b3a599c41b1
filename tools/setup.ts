/**
 * `npm run test:setup`: brings the programs that the tests use and the project does not contain. Debian packages by
 * apt (only where one is missing), servers from npm in `test/servers`, Go programs built into `.cache/bin` of the
 * checkout at the versions of `tools.json`, two at a time. Quick where all is there; what fails is tried once more.
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { z } from 'zod';

const ROOT = resolve(import.meta.dirname, '..');
const BIN = join(ROOT, '.cache/bin');

const goProgram = z.strictObject({ program: z.string(), path: z.string(), version: z.string() });
const tools = z
  .strictObject({ apt: z.array(z.string()), go: z.array(goProgram), goTests: z.array(goProgram) })
  .parse(JSON.parse(readFileSync(join(import.meta.dirname, 'tools.json'), 'utf8')));

type GoProgram = z.infer<typeof goProgram>;

function say(text: string): void {
  process.stdout.write(`setup: ${text}\n`);
}

/** Runs a program; its output is kept and shown only where it fails. */
function execute(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  return new Promise((done, fail) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (text: Buffer) => (output += text.toString()));
    child.stderr.on('data', (text: Buffer) => (output += text.toString()));
    child.on('error', fail);
    child.on('close', (code) => {
      if (code === 0) done(output);
      else fail(new Error(`${program} ${args.join(' ')} ended with ${code}:\n${output.slice(-4_000)}`));
    });
  });
}

/** Does it, and once more where it fails: networks hiccup. */
async function twice<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    say(`${what} failed, once more. ${error instanceof Error ? error.message : error}`);
    return await work();
  }
}

/** The Debian packages of the list that are not installed. */
async function missingPackages(): Promise<string[]> {
  const missing: string[] = [];
  for (const name of tools.apt) {
    const state = await execute('dpkg-query', ['-s', name]).catch(() => '');
    if (!/^Status: .* installed$/m.test(state)) missing.push(name);
  }
  return missing;
}

async function setupPackages(): Promise<void> {
  if (!existsSync('/usr/bin/dpkg-query')) {
    say(`no Debian here: install by hand what is missing of ${tools.apt.join(' ')}`);
    return;
  }
  const missing = await missingPackages();
  if (missing.length === 0) {
    say(`all ${tools.apt.length} Debian packages are there`);
    return;
  }
  say(`installing ${missing.join(' ')}`);
  const [program = '', ...first] = process.getuid?.() === 0 ? ['apt-get'] : ['sudo', '-n', 'apt-get'];
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  await twice('apt-get update', () => execute(program, [...first, 'update', '-q'], { env }));
  const install = [...first, 'install', '-q', '-y', '--no-install-recommends', ...missing];
  await twice('apt-get install', () => execute(program, install, { env }));
  const still = await missingPackages();
  if (still.length > 0) throw new Error(`still missing after apt-get install: ${still.join(' ')}`);
}

function findGo(): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/go/bin'];
  return folders.map((folder) => join(folder, 'go')).find((path) => existsSync(path));
}

const stampOf = (tool: GoProgram): string => join(BIN, `.${tool.program}.version`);
const wanted = (tool: GoProgram): string => `${tool.path}@${tool.version}`;

/** Whether the binary is there at the wanted version: by its stamp, else by what the Go linker wrote into it. */
async function isBuilt(tool: GoProgram, go: string): Promise<boolean> {
  const binary = join(BIN, tool.program);
  if (!existsSync(binary)) return false;
  if (existsSync(stampOf(tool))) return readFileSync(stampOf(tool), 'utf8') === wanted(tool);
  const facts = await execute(go, ['version', '-m', binary]).catch(() => '');
  const module = /^\tmod\t(\S+)\t(\S+)/m.exec(facts);
  if (module === null || module[2] !== tool.version || !`${tool.path}/`.startsWith(`${module[1]}/`)) return false;
  writeFileSync(stampOf(tool), wanted(tool));
  return true;
}

/** Builds in a folder of its own and moves the binary to its place whole. */
async function build(tool: GoProgram, go: string, isTest: boolean): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'longshore-setup-'));
  const started = performance.now();
  try {
    say(`building ${tool.program} ${tool.version}`);
    const built = join(folder, tool.program);
    const env = { GOBIN: folder, GOFLAGS: '-trimpath', GOTOOLCHAIN: 'auto', CGO_ENABLED: '0' };
    if (isTest) {
      await execute(go, ['mod', 'init', 'setup'], { cwd: folder, env });
      await execute(go, ['get', '-t', wanted(tool)], { cwd: folder, env });
      await execute(go, ['test', '-c', '-o', built, tool.path], { cwd: folder, env });
    } else {
      await execute(go, ['install', wanted(tool)], { cwd: folder, env });
    }
    if (!existsSync(built)) throw new Error(`go built no ${tool.program}`);
    // Beside its place first: the temporary folder may be on another file system, and a rename has to be whole.
    const beside = join(BIN, `.${tool.program}.new`);
    await execute('cp', [built, beside]);
    renameSync(beside, join(BIN, tool.program));
    writeFileSync(stampOf(tool), wanted(tool));
    say(`built ${tool.program} in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function setupGo(): Promise<void> {
  const go = findGo();
  if (go === undefined) throw new Error('the go tool is neither on PATH nor in /usr/local/go/bin: install Go first');
  mkdirSync(BIN, { recursive: true });
  const all = [
    ...tools.go.map((tool) => ({ tool, isTest: false })),
    ...tools.goTests.map((tool) => ({ tool, isTest: true })),
  ];
  const left: typeof all = [];
  for (const each of all) if (!(await isBuilt(each.tool, go))) left.push(each);
  say(`${all.length - left.length} of ${all.length} Go programs are there`);
  const failures: Error[] = [];
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const { tool, isTest } = next;
      try {
        await twice(`building ${tool.program}`, () => build(tool, go, isTest));
      } catch (error) {
        failures.push(error instanceof Error ? error : new Error(String(error)));
      }
    }
  };
  await Promise.all([work(), work()]);
  if (failures.length > 0) throw new AggregateError(failures, failures.map((error) => error.message).join('\n'));
}

/** Servers from npm that tests run against: each in a folder of its own, with its own lock. */
async function setupServers(): Promise<void> {
  for (const name of readdirSync(join(ROOT, 'test/servers'))) {
    const folder = join(ROOT, 'test/servers', name);
    const lock = readFileSync(join(folder, 'package-lock.json'), 'utf8');
    const stamp = join(folder, 'node_modules/.lock-of-setup');
    if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) {
      say(`${name} is there`);
      continue;
    }
    say(`installing ${name}`);
    await twice(`npm ci of ${name}`, () => execute('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder }));
    writeFileSync(stamp, lock);
  }
}

/** What images and executables of both architectures are made of, for the tests of `test/deploy`. */
async function setupImages(): Promise<void> {
  if (!existsSync('/usr/bin/apt-get')) return;
  const architectures = ['amd64', 'arm64'].filter((name) => !existsSync(join(ROOT, '.cache/image', name)));
  if (architectures.length === 0) {
    say('the Debian packages of the image are there');
    return;
  }
  say(`fetching the Debian packages of the image for ${architectures.join(' and ')}`);
  const args = ['tools/image.ts', '--fetch', ...architectures.flatMap((name) => ['--arch', name])];
  await twice('fetching them', () => execute(process.execPath, args));
}

try {
  await setupPackages();
  await setupImages();
  await setupServers();
  await setupGo();
  say('done');
} catch (error) {
  process.stderr.write(`setup: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
