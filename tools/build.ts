/**
 * Builds `dist/`: the program and its threads as bundles, with what is seldom needed split off, and a warm compile
 * cache. A running server keeps working through a build: its chunks carry their hash in the name and stay a day.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { build, type Metafile } from 'esbuild';

const root = dirname(import.meta.dirname);
const out = join(root, 'dist');
const keepMilliseconds = 24 * 3600 * 1000;

/** The program, and one entry for each thread it starts. */
const entries = ['main', 'writer', 'reader', 'passwords'].filter((name) => existsSync(join(root, 'src', `${name}.ts`)));

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: entries.map((name) => `src/${name}.ts`),
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node26',
  // Beside the entries, where a thread's entry is looked for.
  chunkNames: 'chunk-[hash]',
  minifyWhitespace: true,
  minifySyntax: true,
  keepNames: true,
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
  external: ['pg-native'],
  // CommonJS packages ask for Node's own modules with require.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
});
removeOldChunks(metafile);
await warmCompileCache();

function removeOldChunks(made: Metafile): void {
  const kept = new Set(Object.keys(made.outputs).map((path) => join(root, path)));
  for (const name of readdirSync(out)) {
    const path = join(out, name);
    if (name.startsWith('chunk-') && !kept.has(path) && Date.now() - statSync(path).mtimeMs > keepMilliseconds)
      rmSync(path);
  }
}

/** Starts the program once and asks it something, so that Node stores the compiled code. Failing here fails nothing. */
async function warmCompileCache(): Promise<void> {
  const cache = join(out, '.cache');
  rmSync(cache, { recursive: true, force: true });
  const data = mkdtempSync(join(tmpdir(), 'longshore-warm-'));
  const child = spawn(join(root, 'bin', 'longshore'), ['serve', '--listen', '127.0.0.1:0', '--data', data], {
    env: { ...process.env, NODE_COMPILE_CACHE: cache },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const killer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  let said = '';
  let asked = false;
  const ask = async (chunk: Buffer): Promise<void> => {
    said += chunk.toString('utf8');
    const address = /http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[0];
    if (address === undefined || asked) return;
    asked = true;
    try {
      for (const path of ['/v2/', '/v2/warm/manifests/latest', '/livez', '/readyz'])
        await (await fetch(address + path)).text();
    } catch {
      // The cache is only a matter of milliseconds.
    }
    child.kill('SIGTERM');
  };
  child.stdout.on('data', (chunk: Buffer) => void ask(chunk));
  child.stderr.on('data', (chunk: Buffer) => void ask(chunk));
  child.once('error', () => undefined);
  await ended;
  clearTimeout(killer);
  rmSync(data, { recursive: true, force: true });
  if (!asked)
    console.error(`longshore: the compile cache could not be warmed; starting takes a little longer.\n${said}`);
}
