/** `npm run docs`: docs/api/openapi.json from the declarations of all routes. With --check it only compares. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ALWAYS } from '../src/always.ts';
import { openapiDocument } from '../src/api/openapi.ts';
import { OPENAPI } from '../src/api/plugin.ts';
import { FEATURES } from '../src/features.ts';

const ofFeatures = await Promise.all(FEATURES.map((feature) => feature.declares?.() ?? []));
const declarations = [...ALWAYS.flatMap((module) => module.declares), ...ofFeatures.flat(), OPENAPI];
const document = `${JSON.stringify(openapiDocument(declarations), undefined, 2)}\n`;

const file = join(dirname(import.meta.dirname), 'docs', 'api', 'openapi.json');
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== document) {
    console.error('docs/api/openapi.json is not what the routes declare: run `npm run docs`.');
    process.exit(1);
  }
} else {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, document);
}
