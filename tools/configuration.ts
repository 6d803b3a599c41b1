/** `npm run docs`: docs/configuration.md from the configuration's schema. With --check it only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { leaves, type SchemaNode, variableName } from '../src/config/environment.ts';
import { jsonSchema } from '../src/config/schema.ts';
import { configuration } from '../src/configuration.ts';

interface Described extends SchemaNode {
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
}

/** A key's line. */
function row({ path, node }: { path: readonly string[]; node: Described }): string {
  const { enum: choices, default: standard } = node;
  const kind =
    choices !== undefined
      ? choices.map((one) => `\`${String(one)}\``).join(', ')
      : [node.type ?? node.anyOf?.map((one) => one.type).join(' or ') ?? ''].flat().join(' or ');
  const absent = standard === undefined ? '' : `\`${JSON.stringify(standard)}\``;
  const cells = [`\`${path.join('.')}\``, `\`${variableName(path)}\``, kind, absent, node.description ?? ''];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

const document = `# Configuration

Made by \`npm run docs\` from the configuration's schema; do not edit.

A YAML file (\`--config FILE\`, or the variable LONGSHORE_CONFIG), then the environment, then flags: whoever says
something later wins, key by key. An unknown key is an error. Times are a whole number and a unit (\`10m\`, \`7d\`), sizes
bytes or a number and a unit (\`4 MiB\`); in a variable, lists and objects are JSON. A secret may stand in a file:
\`{ file: PATH }\` in YAML, the variable's name with \`_FILE\` in the environment. Relative paths start at the working folder, those of
secrets in YAML at the configuration's. SIGHUP loads access rules and the log level again, takes up new TLS files (which
are also looked at every two seconds) and opens the access log anew; everything else needs a restart.

\`longshore config check\` says whether a configuration is right, \`longshore config show\` prints the one in force,
\`longshore config schema\` prints the JSON schema for editors.

| key | variable | value | without | meaning |
|---|---|---|---|---|
${leaves(jsonSchema(configuration) as SchemaNode)
  .filter((leaf) => leaf.node.properties === undefined)
  .map(row)
  .join('\n')}
`;
const file = join(dirname(import.meta.dirname), 'docs', 'configuration.md');
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== document) {
    console.error('docs/configuration.md is not what the schema says: run `npm run docs`.');
    process.exit(1);
  }
} else writeFileSync(file, document);
