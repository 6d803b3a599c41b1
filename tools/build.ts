/**
 * Builds `dist/`: the program and its threads as bundles, with what is seldom needed split off, and a warm compile
 * cache. A running server keeps working through a build: its chunks carry their hash in the name and stay a day.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild';
import { loadConfiguration } from '../src/configuration.ts';
import { THREADS } from '../src/kit/thread.ts';
import { VERSION } from '../src/version.ts';

const root = dirname(import.meta.dirname);
const out = join(root, 'dist');
const keepMilliseconds = 24 * 3600 * 1000;

/** What all bundles share. */
const common = {
  absWorkingDir: root,
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node26',
  minifyWhitespace: true,
  minifySyntax: true,
  keepNames: true,
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  logLevel: 'warning',
  external: ['pg-native', './query-builder.cjs'],
  // Its CommonJS build has no named exports once it is bundled behind an `import()`; this is the same code as modules.
  alias: { yaml: './node_modules/yaml/browser/index.js' },
} satisfies BuildOptions;

/**
 * An `import` of a built-in module evaluates every lazy property that it has: node:http then loads a whole fetch client
 * and node:crypto the web API, some 20 ms and 4 MiB that nobody here uses. In the bundle they are taken without.
 * Importing one of the properties that are left out fails the build.
 */
const withoutLazyParts: Plugin = {
  name: 'builtins without lazy parts',
  setup: (setup) => {
    setup.onResolve(
      { filter: /^(node:)?(http|crypto|util|events|fs|stream|process|module|timers)$/ },
      // The project's own: the SDKs of object stores, loaded where they are used, import what they like.
      ({ path, kind, importer }) =>
        kind === 'import-statement' && importer.startsWith(join(root, 'src'))
          ? { path: path.replace('node:', ''), namespace: 'builtin' }
          : undefined,
    );
    setup.onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => {
      const whole = process.getBuiltinModule(`node:${path}`) as unknown as object;
      const names = Object.entries(Object.getOwnPropertyDescriptors(whole))
        .filter(
          ([name, property]) =>
            (property.get === undefined || name === 'promises') &&
            /^[A-Za-z_$][\w$]*$/.test(name) &&
            name !== 'default',
        )
        .map(([name]) => name);
      return {
        contents: `const whole = process.getBuiltinModule('node:${path}');\nexport default whole;\nexport const { ${names.join(', ')} } = whole;`,
        loader: 'js',
      };
    });
  },
};

/**
 * The query builder is 240 KB that main and writer would evaluate at every start, 3 MiB each, while the core's own
 * statements are texts. In the bundle it lies in a file of its own and is loaded by whoever first builds a query.
 */
const queryBuilderWhenUsed: Plugin = {
  name: 'query builder when used',
  setup: (setup) => {
    setup.onResolve({ filter: /\/kysely\.ts$/ }, ({ importer }) =>
      importer.startsWith(join(root, 'src')) ? { path: 'kysely', namespace: 'when-used' } : undefined,
    );
    setup.onLoad({ filter: /./, namespace: 'when-used' }, () => ({
      contents: `
        let loaded;
        const load = () => (loaded ??= require('./query-builder.cjs'));
        export const transactionOver = (...given) => load().transactionOver(...given);
        export const kyselyOver = (...given) => {
          let made;
          const builder = () => (made ??= load().kyselyOver(...given));
          return {
            selectFrom: (...tables) => builder().selectFrom(...tables),
            with: (...query) => builder().with(...query),
            get fn() { return builder().fn; },
          };
        };`,
      loader: 'js',
    }));
  },
};

/** The configuration without file and environment, so that such a start does not need the schema library. */
const { config: defaults } = await loadConfiguration({ environment: {} });

await build({
  ...common,
  entryPoints: { 'query-builder': 'src/database/kysely.ts' },
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
});
const modules = {
  ...common,
  plugins: [withoutLazyParts, queryBuilderWhenUsed],
  format: 'esm',
  define: { LONGSHORE_DEFAULTS: JSON.stringify(defaults), LONGSHORE_VERSION: JSON.stringify(VERSION) },
  // CommonJS packages ask for Node's own modules with require.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
} satisfies BuildOptions;
// A file for each thread: what they would share with the program would fall into many small files, and each costs.
await build({ ...modules, entryPoints: THREADS.map((name) => `src/${name}.ts`) });
const { metafile } = await build({
  ...modules,
  entryPoints: ['src/main.ts'],
  splitting: true,
  // Beside the entries, where a thread's entry is looked for.
  chunkNames: 'chunk-[hash]',
  metafile: true,
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
    // As it starts without any configuration.
    env: {
      ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LONGSHORE_'))),
      NODE_COMPILE_CACHE: cache,
    },
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
