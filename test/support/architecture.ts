/**
 * The rules of the house, checked over a checkout's sources: who imports whom, what only some rooms may use, sizes,
 * documentation of what is exported. The table is read from ARCHITECTURE.md, so that it cannot say something else.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

/** An import: of a file of the checkout or of a package. `types`: erased before it runs. */
export interface Import {
  readonly from: string;
  readonly to: string;
  readonly types: boolean;
}

/** One source file. `code`: without comments. */
export interface Source {
  readonly path: string;
  readonly text: string;
  readonly code: string;
  readonly imports: readonly Import[];
  readonly isTest: boolean;
}

/** Room → rooms it may import. */
export type ImportTable = ReadonlyMap<string, ReadonlySet<string>>;

/** What was read, so that a check over nothing cannot pass. */
export interface Read {
  readonly sources: readonly Source[];
  readonly table: ImportTable;
  readonly dependencies: ReadonlySet<string>;
}

/** Most lines of a source file. */
export const MOST_LINES = 450;
const TESTS = /\.(test|contract|bench|testing)\.ts$/;
const JOINING = /^src\/[^/]+$/;

/** What only some places may use. `root`: whether the files directly under src may. */
const ONLY: readonly {
  readonly what: RegExp;
  readonly name: string;
  readonly where: RegExp;
  readonly root?: boolean;
}[] = [
  { name: 'process.env', what: /\bprocess\.env\b/, where: /^src\/config\// },
  { name: 'Date.now', what: /\bDate\.now\b/, where: /^src\/kit\// },
  { name: 'Math.random', what: /\bMath\.random\b/, where: /^src\/kit\// },
  { name: 'setTimeout, setInterval', what: /(?<![.\w])set(Timeout|Interval)\(/, where: /^src\/kit\// },
  { name: 'node:timers', what: /['"]node:timers(\/promises)?['"]/, where: /^src\/kit\// },
  { name: 'new Worker', what: /\bnew Worker\(/, where: /^src\/kit\// },
  { name: 'fetch, undici', what: /(?<![.\w])fetch\(|['"]undici['"]/, where: /^src\/outbound\// },
  {
    name: 'node:fs',
    what: /['"]node:fs(\/promises)?['"]/,
    where: /^src\/(storage|scratch|layout|config|server|cli|database\/sqlite)\//,
    root: true,
  },
  { name: 'dialect ===', what: /\bdialect [!=]==/, where: /^src\/database\// },
];

/** The code without its comments, every line kept in its place. */
export function withoutComments(text: string): string {
  const pattern = /\/\*[\s\S]*?\*\/|(?<![:\\'"`])\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"/g;
  return text.replace(pattern, (found) => (found.startsWith('/') ? found.replaceAll(/[^\n]/g, ' ') : found));
}

const STATEMENT = /^\s*(import|export)\s+(type\s+)?([^'";]*?)\bfrom\s*['"]([^'"]+)['"]/gm;
const BARE = /^\s*import\s*['"]([^'"]+)['"]/gm;
const DYNAMIC = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;

function importsOf(path: string, code: string): Import[] {
  const found: Import[] = [];
  const add = (to: string, types: boolean): void => {
    found.push({ from: path, to: to.startsWith('.') ? normalize(join(dirname(path), to)) : to, types });
  };
  for (const [, , type, names, to] of code.matchAll(STATEMENT)) {
    const each = (names ?? '')
      .replaceAll(/[{}]/g, '')
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '');
    add(to ?? '', type !== undefined || (each.length > 0 && each.every((name) => name.startsWith('type '))));
  }
  for (const [, to] of code.matchAll(BARE)) add(to ?? '', false);
  for (const [, to] of code.matchAll(DYNAMIC)) add(to ?? '', false);
  return found;
}

/** The table with the head `| room | may import |`. */
export function readTable(markdown: string): ImportTable {
  const table = new Map<string, Set<string>>();
  const lines = markdown.split('\n');
  const head = lines.findIndex((line) => /^\|\s*room\s*\|\s*may import\s*\|/.test(line));
  if (head < 0) return table;
  for (const line of lines.slice(head + 2)) {
    const [, rooms, may] = /^\|([^|]+)\|([^|]+)\|/.exec(line) ?? [];
    if (rooms === undefined || may === undefined) break;
    const allowed = may.trim() === 'nothing' ? [] : may.trim().split(/[\s,]+/);
    for (const room of rooms.trim().split(/[\s,]+/)) table.set(room, new Set(allowed));
  }
  return table;
}

/** Reads a checkout. */
export function read(root: string): Read {
  const paths = globSync('src/**/*.ts', { cwd: root }).sort();
  const sources = paths.map((path): Source => {
    const text = readFileSync(join(root, path), 'utf8');
    const code = withoutComments(text);
    return { path, text, code, imports: importsOf(path, code), isTest: TESTS.test(path) };
  });
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const table = readTable(readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8'));
  return { sources, table, dependencies: new Set(Object.keys(dependencies)) };
}

const roomOf = (path: string): string => (JOINING.test(path) ? '' : (path.split('/')[1] ?? ''));

function importViolations({ sources, table, dependencies }: Read): string[] {
  const wrong: string[] = [];
  for (const source of sources) {
    const room = roomOf(source.path);
    if (room !== '' && !table.has(room)) wrong.push(`${source.path}: the room ${room} is not in the table`);
    if (source.isTest) continue;
    for (const { to } of source.imports) {
      if (to.startsWith('node:')) continue;
      if (!to.startsWith('src/')) {
        const name = to
          .split('/')
          .slice(0, to.startsWith('@') ? 2 : 1)
          .join('/');
        if (to.startsWith('..') || to.startsWith('/')) wrong.push(`${source.path}: imports ${to}, outside of src`);
        else if (!dependencies.has(name)) wrong.push(`${source.path}: imports ${name}, which is no dependency`);
        continue;
      }
      if (TESTS.test(to)) wrong.push(`${source.path}: imports ${to}, which is for tests`);
      const target = roomOf(to);
      if (room === '' || room === target) continue;
      if (target === '') {
        if (room !== 'cli') wrong.push(`${source.path}: imports ${to}, which only cli may`);
      } else if (!table.get(room)?.has(target)) wrong.push(`${source.path}: ${room} may not import ${target} (${to})`);
    }
  }
  return wrong;
}

function usageViolations({ sources }: Read): string[] {
  const wrong: string[] = [];
  for (const source of sources) {
    if (source.isTest) continue;
    for (const { what, name, where, root } of ONLY) {
      if (where.test(source.path) || (root === true && JOINING.test(source.path))) continue;
      if (what.test(source.code)) wrong.push(`${source.path}: uses ${name}`);
    }
    if (/^export default\b/m.test(source.code)) wrong.push(`${source.path}: has a default export`);
  }
  return wrong;
}

/** Imports that come back to where they began, each once, as a path. */
function cycles({ sources }: Read): string[] {
  const targets = new Map(
    sources
      .filter(({ isTest }) => !isTest)
      .map(({ path, imports }) => [path, imports.filter(({ types }) => !types).map(({ to }) => to)]),
  );
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) found.push(`cycle: ${[...trail.slice(at), path].join(' → ')}`);
    if (at >= 0 || done.has(path)) return;
    for (const to of targets.get(path) ?? []) visit(to, [...trail, path]);
    done.add(path);
  };
  for (const path of targets.keys()) visit(path, []);
  return found;
}

/** What a thread's entry reaches holds neither Fastify nor zod: a thread starts in milliseconds. */
function threadViolations({ sources }: Read): string[] {
  const byPath = new Map(sources.map((source) => [source.path, source]));
  const wrong: string[] = [];
  const names = /export const THREADS = ([^;]+);/.exec(byPath.get('src/kit/thread.ts')?.code ?? '')?.[1] ?? '';
  for (const [, name] of names.matchAll(/'(\w+)'/g)) {
    const entry = byPath.get(`src/${name}.ts`);
    if (entry === undefined) {
      wrong.push(`src/${name}.ts: the entry of a thread is not there`);
      continue;
    }
    const seen = new Set<string>();
    const queue = [entry.path];
    for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      for (const { to, types } of byPath.get(path)?.imports ?? []) {
        if (types) continue;
        if (/^(fastify|zod|@fastify\/.*)(\/|$)/.test(to)) wrong.push(`${entry.path}: reaches ${to} through ${path}`);
        queue.push(to);
      }
    }
  }
  return wrong;
}

const EXPORTED = /^export (?:declare )?(?:abstract )?(?:async )?(?:function\*?|const|let|class|interface|type) (\w+)/;

/** Exported things with and without a doc comment right above. */
export function documented({ sources }: Read): { readonly total: number; readonly without: readonly string[] } {
  let total = 0;
  const without: string[] = [];
  for (const source of sources) {
    if (source.isTest) continue;
    const lines = source.text.split('\n');
    const seen = new Set<string>();
    for (const [at, line] of lines.entries()) {
      const name = EXPORTED.exec(line)?.[1];
      if (name === undefined || seen.has(name)) continue;
      // Overloads and a value beside a type of the same name share one comment.
      seen.add(name);
      total += 1;
      let above = at - 1;
      while (/^\s*\/\/ biome-ignore/.test(lines[above] ?? '')) above -= 1;
      if (!(lines[above] ?? '').trimEnd().endsWith('*/')) without.push(`${source.path}: ${name}`);
    }
  }
  return { total, without };
}

/** Everything that breaks a rule, one line each. */
export function violations(checkout: Read): string[] {
  const sizes = checkout.sources
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ lines }) => lines > MOST_LINES)
    .map(({ path, lines }) => `${path}: ${lines} lines, at most ${MOST_LINES}`);
  return [
    ...importViolations(checkout),
    ...usageViolations(checkout),
    ...cycles(checkout),
    ...threadViolations(checkout),
    ...sizes,
  ];
}
