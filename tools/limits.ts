/** `npm run docs`: docs/limits.md from the table in src/config/limits.ts. With --check it only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { limitsDocument } from '../src/config/limits.ts';

const file = join(dirname(import.meta.dirname), 'docs', 'limits.md');
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== limitsDocument()) {
    console.error('docs/limits.md is not what src/config/limits.ts says: run `npm run docs`.');
    process.exit(1);
  }
} else writeFileSync(file, limitsDocument());
