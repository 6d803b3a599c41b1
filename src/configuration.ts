/** The configuration as the whole program knows it: the core's sections joined with those that features bring. */
import type * as z from 'zod';
import { type Loaded, loadConfig, type Sources } from './config/load.ts';
import { type CoreConfig, configSchema } from './config/schema.ts';
import { FEATURES } from './features.ts';

/** A checked configuration with every default filled in; a feature's section is there if it was written. */
export type Configuration = CoreConfig;

/** The schema of everything that may be written. A feature's section stands under its name and may be absent. */
export const configuration: z.ZodType<Configuration> = configSchema(
  Object.fromEntries(FEATURES.map((feature) => [feature.name, feature.config.optional()])),
) as unknown as z.ZodType<Configuration>;

/** Reads and checks the configuration. Throws ConfigError naming every problem. */
export function loadConfiguration(sources?: Sources): Promise<Loaded<Configuration>> {
  return loadConfig(configuration, sources);
}
