/** What the documents say is so: paths exist, generated pages are current, nothing of a machine or a mirror is written down. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from './support/server.ts';
import { runAny } from './support/tools.ts';

const FOLDERS = 'src|test|tools|docs|bin|bench|deploy|web|\\.ci';
const GENERATED_AT_RUN = /^(dist|data|\.cache|node_modules)\b/;

function documents(): string[] {
  const found = globSync(['*.md', 'docs/**/*.md', 'src/**/*.md', 'bench/*.md', 'deploy/**/*.md'], { cwd: ROOT });
  return found.filter((path) => !path.startsWith('docs/api/')).sort();
}

/** The paths that a document names in code spans and links, as it writes them. */
function pathsIn(text: string): string[] {
  const paths: string[] = [];
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '');
  for (const [, span] of prose.matchAll(/`([^`\n]+)`/g)) {
    const path = new RegExp(`^((?:${FOLDERS})/[\\w./*@-]*[\\w*/-])`).exec(span ?? '')?.[1];
    if (path !== undefined && path === span) paths.push(path);
  }
  for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (target !== undefined && !/^([a-z]+:|#)/.test(target)) paths.push(`./${target.replace(/#.*$/, '')}`);
  }
  return paths;
}

test('every path that a document names exists', () => {
  const missing: string[] = [];
  let seen = 0;
  for (const document of documents()) {
    for (const path of pathsIn(readFileSync(join(ROOT, document), 'utf8'))) {
      const target = path.startsWith('./') ? join(dirname(document), path) : path;
      if (target === dirname(document) || GENERATED_AT_RUN.test(target)) continue;
      seen += 1;
      const there = target.includes('*') ? globSync(target, { cwd: ROOT }).length > 0 : existsSync(join(ROOT, target));
      if (!there) missing.push(`${document}: ${path}`);
    }
  }
  assert.ok(seen > 0, 'no path was read');
  assert.deepEqual(missing, []);
});

test('what is generated is what its sources say', async () => {
  const makers = globSync('tools/*.ts', { cwd: ROOT }).filter((path) =>
    /'--check'/.test(readFileSync(join(ROOT, path), 'utf8')),
  );
  assert.ok(makers.length >= 2, `only ${makers.length} generators were found`);
  for (const maker of makers) {
    const ran = await runAny(process.execPath, [join(ROOT, maker), '--check'], { cwd: ROOT });
    assert.equal(ran.code, 0, `${maker}: ${ran.stderr}`);
  }
});

/** The files of the next commit: tracked, and untracked but not ignored. */
function projectFiles(): string[] {
  const list = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: ROOT });
  const paths = list
    .toString()
    .split('\0')
    .filter((path) => path !== '');
  return paths.filter((path) => existsSync(join(ROOT, path)) && statSync(join(ROOT, path)).size < 4 * 1024 ** 2);
}

test('no file names a folder of one machine or the address of a package mirror', () => {
  // Put together here, so that this file does not hold what it looks for.
  const hosts = [
    ['registry', 'npmjs', 'org'],
    ['registry', 'yarnpkg', 'com'],
    ['proxy', 'golang', 'org'],
    ['sum', 'golang', 'org'],
    ['deb', 'debian', 'org'],
    ['pypi', 'org'],
    ['files', 'pythonhosted', 'org'],
    ['static', 'crates', 'io'],
  ].map((parts) => parts.join('.'));
  const folders = [
    ['root'],
    ['work', 'main'],
    ['work', 'shared'],
    ['tmp', 'gobin'],
    ['tmp', 'team'],
    ['home', '[a-z]+'],
  ];
  const pattern = new RegExp(
    `(?<![\\w.-])(?:${hosts.map((host) => host.replaceAll('.', '\\.')).join('|')})(?![\\w-])|(?<![\\w./~*-])(?:${folders.map((parts) => `/${parts.join('/')}`).join('|')})/\\w`,
  );
  assert.match(`see ${hosts[0]}`, pattern);
  assert.match(`see /${folders[0]?.join('/')}/x`, pattern);
  const files = projectFiles();
  assert.ok(files.length > 100, `only ${files.length} files were read`);
  const found: string[] = [];
  for (const path of files) {
    const text = readFileSync(join(ROOT, path), 'latin1');
    if (text.includes('\0')) continue;
    for (const [at, line] of text.split('\n').entries()) {
      const hit = pattern.exec(line)?.[0];
      if (hit !== undefined) found.push(`${path}:${at + 1}: ${hit}`);
    }
  }
  assert.deepEqual(found, []);
});

test('the lock names no download address, so that any mirror serves', () => {
  const lock = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
  assert.doesNotMatch(lock, /"resolved"/);
  const { packages } = JSON.parse(lock) as { packages: Record<string, { integrity?: string; link?: boolean }> };
  const loose = Object.entries(packages).filter(
    ([path, entry]) => path !== '' && entry.link !== true && entry.integrity === undefined,
  );
  assert.deepEqual(
    loose.map(([path]) => path),
    [],
    'every package has its integrity',
  );
});

test('nothing is skipped: no test is marked to be skipped, done later or run alone', () => {
  const found: string[] = [];
  for (const path of globSync(['src/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts'], {
    cwd: ROOT,
    exclude: (name) => name.includes('node_modules'),
  })) {
    const text = readFileSync(join(ROOT, path), 'utf8');
    if (/\b(?:t|test|it|describe|suite)\.(?:skip|todo|only)\(|\{\s*(?:skip|todo|only):/.test(text)) found.push(path);
  }
  assert.deepEqual(found, []);
});
