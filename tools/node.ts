/** Node for the architectures that releases are made for, and how `bin/longshore` starts it. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');

/** What releases are made for, with Node's own names. */
const ARCHITECTURES = { amd64: 'x64', arm64: 'arm64' } as const;
/** An architecture by its name in images. */
export type Architecture = keyof typeof ARCHITECTURES;

/** This machine's. */
export const own: Architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';

/** As `bin/longshore` starts Node. */
export const FLAGS = [
  '--max-semi-space-size=4',
  '--no-incremental-marking',
  '--expose-gc',
  '--disable-warning=ExperimentalWarning',
];

/** The architectures that `--arch` names, each once; absent, this machine's. */
export function architecturesOf(names: readonly string[] = [own]): Architecture[] {
  return [...new Set(names)].map((name) => {
    if (!(name in ARCHITECTURES)) throw new Error(`--arch is amd64 or arm64, not ${name}`);
    return name as Architecture;
  });
}

/** Runs a program that has to succeed; gives its standard output. */
export function run(program: string, args: readonly string[], cwd = root): string {
  const ran = spawnSync(program, args, { cwd, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (ran.status !== 0)
    throw new Error(
      `${program} ${args.join(' ')} ended with ${ran.status ?? ran.error?.message}\n${ran.stdout}${ran.stderr}`,
    );
  return ran.stdout;
}

/** The Node program of an architecture: the installed one, or that of the same version from its package. */
export function nodeOf(architecture: Architecture): string {
  const name = `node-linux-${ARCHITECTURES[architecture]}`;
  const installed = join(root, 'node_modules', name, 'bin/node');
  if (existsSync(installed)) return installed;
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    optionalDependencies: Record<string, string>;
  };
  const version = optionalDependencies[name];
  if (version === undefined) throw new Error(`package.json pins no ${name}`);
  const cache = join(root, '.cache/node', `${name}-${version}`);
  const node = join(cache, 'package/bin/node');
  if (existsSync(node)) return node;
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { integrity?: string }>;
  };
  mkdirSync(cache, { recursive: true });
  run('npm', ['pack', `${name}@${version}`, '--pack-destination', cache, '--silent']);
  const archive = join(cache, readdirSync(cache).find((file) => file.endsWith('.tgz')) ?? '');
  const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
  if (found !== packages[`node_modules/${name}`]?.integrity) {
    rmSync(cache, { recursive: true, force: true });
    throw new Error(`${name}@${version} is not what package-lock.json pins`);
  }
  run('tar', ['-xzf', archive, '-C', cache, 'package/bin/node']);
  rmSync(archive);
  return node;
}
