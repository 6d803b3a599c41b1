/** The rules of the house hold, and each of them is seen to fail on a planted violation. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { FAILPOINTS } from '../src/kit/failpoint.ts';
import { documented, MOST_LINES, read, violations } from './support/architecture.ts';
import { ROOT } from './support/server.ts';
import { temporaryFolder } from './support/temp.ts';

const LEAST_FILES = 200;
const LEAST_IMPORTS = 900;
const LEAST_DOCUMENTED = 0.95;

test('every file keeps to the table of imports and to what its room may use', () => {
  const checkout = read(ROOT);
  const imports = checkout.sources.reduce((sum, source) => sum + source.imports.length, 0);
  assert.ok(checkout.sources.length >= LEAST_FILES, `only ${checkout.sources.length} files were read`);
  assert.ok(imports >= LEAST_IMPORTS, `only ${imports} imports were read`);
  assert.ok(checkout.table.size >= 20, `only ${checkout.table.size} rooms are in the table of ARCHITECTURE.md`);
  assert.deepEqual(violations(checkout), []);
});

test('what is exported is documented', () => {
  const { total, without } = documented(read(ROOT));
  assert.ok(total >= 500, `only ${total} exports were seen`);
  const share = (total - without.length) / total;
  assert.ok(
    share >= LEAST_DOCUMENTED,
    `${(share * 100).toFixed(1)} % of ${total} exports are documented; not: ${without.join(', ')}`,
  );
});

test('every failpoint stands in the code, and the code uses no other', () => {
  const used = new Set<string>();
  for (const { code, isTest } of read(ROOT).sources) {
    if (isTest) continue;
    for (const [, name] of code.matchAll(/\bfailpoint\(\s*'([^']+)'/g)) used.add(name ?? '');
  }
  assert.deepEqual([...used].sort(), [...FAILPOINTS].sort());
});

/** Files to plant, each with what the check has to say about it. */
const PLANTED: readonly { readonly path: string; readonly text: string; readonly says: RegExp }[] = [
  {
    path: 'src/oci/planted-a.ts',
    text: "import { FAILPOINTS } from '../kit/failpoint.ts';",
    says: /oci may not import kit/,
  },
  {
    path: 'src/protocol/planted-b.ts',
    text: "import type { BlobStorage } from '../storage/storage.ts';",
    says: /protocol may not import storage/,
  },
  {
    path: 'src/api/planted-c.ts',
    text: "export { configuration } from '../configuration.ts';",
    says: /which only cli may/,
  },
  {
    path: 'src/registry/planted-d.ts',
    text: "const later = await import('../local/open.ts');",
    says: /registry may not import local/,
  },
  { path: 'src/attic/planted-e.ts', text: '', says: /the room attic is not in the table/ },
  { path: 'src/protocol/planted-f.ts', text: "export const a = process.env['A'];", says: /uses process\.env/ },
  { path: 'src/local/planted-g.ts', text: 'export const a = Date.now();', says: /uses Date\.now/ },
  { path: 'src/local/planted-h.ts', text: 'export const a = Math.random();', says: /uses Math\.random/ },
  { path: 'src/jobs/planted-i.ts', text: 'setTimeout(() => {}, 1);', says: /uses setTimeout/ },
  { path: 'src/access/planted-j.ts', text: "new Worker('x');", says: /uses new Worker/ },
  { path: 'src/api/planted-k.ts', text: "import { readFileSync } from 'node:fs';", says: /uses node:fs/ },
  { path: 'src/features/planted-l.ts', text: "await fetch('http://127.0.0.1');", says: /uses fetch/ },
  { path: 'src/local/planted-m.ts', text: 'export default 1;', says: /has a default export/ },
  {
    path: 'src/kit/planted-n.ts',
    text: "import { test } from 'fast-check';",
    says: /fast-check, which is no dependency/,
  },
  {
    path: 'src/kit/planted-o.ts',
    text: "import { b } from './planted-p.ts';\nexport const a = b;",
    says: /cycle: .*planted-o/,
  },
  {
    path: 'src/kit/planted-p.ts',
    text: "import { a } from './planted-o.ts';\nexport const b = a;",
    says: /cycle: .*planted-p/,
  },
  { path: 'src/kit/planted-q.ts', text: '\n'.repeat(MOST_LINES + 1), says: new RegExp(`at most ${MOST_LINES}`) },
  { path: 'src/access/planted-r.ts', text: "import './password.test.ts';", says: /which is for tests/ },
  { path: 'src/events/planted-s.ts', text: "if (db.dialect === 'sqlite') done();", says: /uses dialect ===/ },
];

test('each rule catches what breaks it', () => {
  const folder = temporaryFolder('planted');
  for (const name of ['src', 'package.json', 'ARCHITECTURE.md'])
    cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  for (const { path, text } of PLANTED) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  // A thread that reaches zod.
  writeFileSync(join(folder, 'src/passwords.ts'), "import './planted-t.ts';\n");
  writeFileSync(join(folder, 'src/planted-t.ts'), "import * as z from 'zod';\n");
  const found = violations(read(folder));
  for (const { path, says } of PLANTED) {
    assert.ok(
      found.some((line) => line.includes(path) && says.test(line)),
      `${path} was not caught: ${says}`,
    );
  }
  assert.ok(
    found.some((line) => /src\/passwords\.ts: reaches zod/.test(line)),
    'a thread that reaches zod was not caught',
  );
});

test('comments and strings are told apart', () => {
  const folder = temporaryFolder('planted');
  for (const name of ['package.json', 'ARCHITECTURE.md']) cpSync(join(ROOT, name), join(folder, name));
  mkdirSync(join(folder, 'src/local'), { recursive: true });
  mkdirSync(join(folder, 'src/kit'), { recursive: true });
  writeFileSync(join(folder, 'src/kit/thread.ts'), '');
  writeFileSync(
    join(folder, 'src/local/a.ts'),
    "/* Date.now() */\n// Math.random()\nconst url = 'http://127.0.0.1/x'; socket.setTimeout(1);\n",
  );
  assert.deepEqual(violations(read(folder)), []);
});
