/**
 * The whole program as one file: Node with the bundles inside, for machines that have neither Node nor npm.
 *
 *   node tools/executable.ts [--arch amd64|arm64]… [--out FOLDER]
 *
 * Gives `dist/longshore-linux-<arch>`. The Node of another architecture comes from the npm package that the lock pins.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type BuildOptions, build } from 'esbuild';
import { loadConfiguration } from '../src/configuration.ts';
import { VERSION } from '../src/version.ts';

const root = resolve(import.meta.dirname, '..');
const ARCHITECTURES = { amd64: 'x64', arm64: 'arm64' } as const;
type Architecture = keyof typeof ARCHITECTURES;
/** As `bin/longshore` starts Node. */
const FLAGS = [
  '--max-semi-space-size=4',
  '--no-incremental-marking',
  '--expose-gc',
  '--disable-warning=ExperimentalWarning',
];

const { values } = parseArgs({
  options: { arch: { type: 'string', multiple: true }, out: { type: 'string', default: join(root, 'dist') } },
});
const own: Architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
const architectures = (values.arch ?? [own]).map((name) => {
  if (!(name in ARCHITECTURES)) throw new Error(`--arch is amd64 or arm64, not ${name}`);
  return name as Architecture;
});

/** Runs a program that has to succeed. */
function run(program: string, args: readonly string[], cwd = root): string {
  const ran = spawnSync(program, args, { cwd, encoding: 'utf8' });
  if (ran.status !== 0)
    throw new Error(
      `${program} ${args.join(' ')} ended with ${ran.status ?? ran.error?.message}\n${ran.stdout}${ran.stderr}`,
    );
  return ran.stdout;
}

/** The bundles: the program, and a script for each thread. */
async function bundle(folder: string): Promise<void> {
  const { config: defaults } = await loadConfiguration({ environment: {} });
  const common = {
    absWorkingDir: root,
    outdir: folder,
    bundle: true,
    platform: 'node',
    target: 'node26',
    minifyWhitespace: true,
    minifySyntax: true,
    keepNames: true,
    legalComments: 'none',
    logLevel: 'error',
    external: ['pg-native'],
    alias: { yaml: './node_modules/yaml/browser/index.js' },
    define: { LONGSHORE_DEFAULTS: JSON.stringify(defaults), LONGSHORE_VERSION: JSON.stringify(VERSION) },
  } satisfies BuildOptions;
  await build({
    ...common,
    entryPoints: { main: 'tools/executable/entry.ts' },
    format: 'esm',
    banner: {
      js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(process.execPath);",
    },
  });
  await build({
    ...common,
    entryPoints: Object.fromEntries(['writer', 'reader', 'passwords'].map((name) => [name, `src/${name}.ts`])),
    // What a thread evaluates from a text is a script.
    format: 'cjs',
    define: { ...common.define, 'import.meta.url': '"file:///"' },
  });
}

/** The Node program of an architecture: the installed one, or that of the same version from its package. */
function nodeOf(architecture: Architecture): string {
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

function make(architecture: Architecture, bundles: string, folder: string): string {
  const output = join(resolve(values.out), `longshore-linux-${architecture}`);
  const base = join(folder, `node-${architecture}`);
  copyFileSync(nodeOf(architecture), base);
  chmodSync(base, 0o755);
  // Its symbols are a fifth of it. Only before the program is put in: afterwards it would not start.
  if (architecture === own) spawnSync('strip', [base]);
  const settings = join(folder, `sea-${architecture}.json`);
  writeFileSync(
    settings,
    JSON.stringify({
      main: join(bundles, 'main.js'),
      mainFormat: 'module',
      executable: base,
      output,
      disableExperimentalSEAWarning: true,
      useSnapshot: false,
      useCodeCache: false,
      execArgv: FLAGS,
      execArgvExtension: 'none',
      assets: Object.fromEntries(
        ['writer', 'reader', 'passwords'].map((name) => [`${name}.js`, join(bundles, `${name}.js`)]),
      ),
    }),
  );
  run(process.execPath, ['--build-sea', settings]);
  chmodSync(output, 0o755);
  return output;
}

const folder = mkdtempSync(join(tmpdir(), 'longshore-executable-'));
try {
  const bundles = join(folder, 'bundles');
  await bundle(bundles);
  mkdirSync(resolve(values.out), { recursive: true });
  for (const architecture of architectures) process.stdout.write(`${make(architecture, bundles, folder)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
