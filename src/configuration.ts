/** The configuration as the whole program knows it: the core's sections joined with those that features bring. */
import type * as z from 'zod';
import { type Loaded, loadConfig, type Sources } from './config/load.ts';
import { configSchema } from './config/schema.ts';

/** A feature's section stands here under the feature's name. */
const featureSections = {};

/** The schema of everything that may be written. */
export const configuration = configSchema(featureSections);

/** A checked configuration with every default filled in. */
export type Configuration = z.output<typeof configuration>;

/** Reads and checks the configuration. Throws ConfigError naming every problem. */
export function loadConfiguration(sources?: Sources): Promise<Loaded<Configuration>> {
  return loadConfig(configuration, sources);
}
