/**
 * The whole program as one file: Node with the bundles inside, for machines that have neither Node nor npm.
 *
 *   node tools/executable.ts [--arch amd64|arm64]… [--out FOLDER]
 *
 * Gives `dist/longshore-linux-<arch>`. The Node of another architecture comes from the npm package that the lock pins.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type BuildOptions, build } from 'esbuild';
import { loadConfiguration } from '../src/configuration.ts';
import { THREADS } from '../src/kit/thread.ts';
import { VERSION } from '../src/version.ts';
import { type Architecture, architecturesOf, FLAGS, nodeOf, own, run } from './node.ts';

const root = resolve(import.meta.dirname, '..');
const { values } = parseArgs({
  options: { arch: { type: 'string', multiple: true }, out: { type: 'string', default: join(root, 'dist') } },
});
const architectures = architecturesOf(values.arch);

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
    entryPoints: Object.fromEntries(THREADS.map((name) => [name, `src/${name}.ts`])),
    // What a thread evaluates from a text is a script.
    format: 'cjs',
    define: { ...common.define, 'import.meta.url': '"file:///"' },
  });
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
      assets: Object.fromEntries(THREADS.map((name) => [`${name}.js`, join(bundles, `${name}.js`)])),
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
