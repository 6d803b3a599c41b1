/** `npm run docs`: docs/errors.md from the tables in src/oci. With --check it only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errorsDocument } from '../src/oci/error-help.ts';

const file = join(dirname(import.meta.dirname), 'docs', 'errors.md');
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== errorsDocument()) {
    console.error('docs/errors.md is not what src/oci says: run `npm run docs`.');
    process.exit(1);
  }
} else writeFileSync(file, errorsDocument());
