/** `longshore config schema|check|show`. */
import type { SchemaNode } from '../config/environment.ts';
import { masked } from '../config/load.ts';
import { jsonSchema } from '../config/schema.ts';
import type { Given } from './command-line.ts';
import { configurationOf } from './settings.ts';

/** Prints the JSON schema. */
export async function printSchema(): Promise<number> {
  const { configuration } = await import('../configuration.ts');
  process.stdout.write(`${JSON.stringify(jsonSchema(configuration), undefined, 2)}\n`);
  return 0;
}

/** Says whether the configuration is right; ConfigError names every problem. */
export async function checkConfig(given: Given): Promise<number> {
  const { files } = await configurationOf(given);
  process.stdout.write(`The configuration is right${files.length === 0 ? '' : ` (${files.join(', ')})`}.\n`);
  return 0;
}

/** Prints the configuration with every default filled in, as YAML; secrets are masked. */
export async function showConfig(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const { configuration } = await import('../configuration.ts');
  const { stringify } = await import('yaml');
  const shown = masked(config, jsonSchema(configuration) as SchemaNode);
  process.stdout.write(stringify(shown));
  return 0;
}
